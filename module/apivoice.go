package module

import (
	"net/http"
	"strings"
	"time"

	"github.com/caddy-login/caddy-login/module/challenge"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/page"
	"github.com/caddy-login/caddy-login/module/signin"
)

// status is how far a sign-in has come.
type statusWord string

// The words. mfa_required is kept for a second factor.
const (
	isAuthenticated statusWord = "authenticated"
	atProvider      statusWord = "redirect_to_provider"
	needsCode       statusWord = "otp_required"
	needsWord       statusWord = "confirm_required"
	needsAddress    statusWord = "email_required"
	isPending       statusWord = "pending"
	isDenied        statusWord = "denied"
)

// envelope is the answer of whatever signs somebody in.
type envelope struct {
	// Status says what there is to do.
	Status statusWord `json:"status"`
	// Intent names what was begun.
	Intent string `json:"intent,omitempty"`
	// ExpiresAt is until when it waits.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	// AuthURL is to be opened in a browser.
	AuthURL string `json:"auth_url,omitempty"`
	// Challenges are the codes that may be typed.
	Challenges []challengeView `json:"challenges,omitempty"`
	// Link is what is to be confirmed.
	Link *linkView `json:"link,omitempty"`
	// Session is who is signed in.
	Session *ownSession `json:"session,omitempty"`
	// Tokens are what a native app keeps.
	Tokens *tokensView `json:"tokens,omitempty"`
	// Error is why it was denied.
	Error *errorView `json:"error,omitempty"`
}

type errorView struct {
	Code string `json:"code"` // stable, such as "email_in_use"
}

// challengeView is one code that is awaited.
type challengeView struct {
	ID           string    `json:"id"`                 // for challenges/{id}/…
	Kind         string    `json:"kind"`               // "email"
	Hint         string    `json:"hint"`               // the address, masked
	ExpiresAt    time.Time `json:"expires_at"`         // until when
	ResendAt     time.Time `json:"resend_at,omitzero"` // absent: not again
	AttemptsLeft int       `json:"attempts_left"`      // before it is over
	Length       int       `json:"length"`             // digits
	Number       int       `json:"number,omitempty"`   // to be picked on the other device
	// Wrong: the code that was just given is not the one.
	Wrong bool `json:"wrong,omitempty"`
}

func viewOfChallenge(id string, w *challenge.Waiting) challengeView {
	return challengeView{
		ID: id, Kind: "email", Hint: w.Email.Mask(), ExpiresAt: w.Expires.UTC(), ResendAt: w.ResendAt.UTC(),
		AttemptsLeft: w.AttemptsLeft, Length: w.Length, Number: w.Number,
	}
}

// trouble tells a program what a page tells a person.
func (c *apiCall) trouble(w http.ResponseWriter, r *http.Request, t page.Trouble) {
	page.WriteProblem(w, page.Problem{Status: t.Kind.Status(), Code: codeOf(t.Kind), RequestID: t.RequestID})
}

// codeOf is a kind of trouble as the API calls it.
func codeOf(kind page.Kind) string {
	switch kind {
	case page.NotAllowed:
		return "not_admitted"
	case page.CrossSite:
		return "foreign_origin"
	case page.Internal, "":
		return "internal_error"
	default:
		return string(kind)
	}
}

func (c *apiCall) leaves(w http.ResponseWriter, _ *http.Request, attempt *signin.Attempt, to string) error {
	return c.answer(w, http.StatusOK, envelope{Status: atProvider, AuthURL: to})
}

func (c *apiCall) isIn(w http.ResponseWriter, r *http.Request, v *visit, out outcome, _ string) error {
	return c.answer(w, http.StatusOK, envelope{Status: isAuthenticated})
}

func (c *apiCall) waits(w http.ResponseWriter, r *http.Request, v *visit, waits *waiting) error {
	return c.portal.question(w, r, v, waits)
}

func (c *apiCall) question(w http.ResponseWriter, r *http.Request, v *visit, waits *waiting, d identity.Decision, about *identity.User) error {
	return c.answer(w, http.StatusOK, envelope{Status: needsWord})
}

func (c *apiCall) declined(w http.ResponseWriter, _ *http.Request, _ *visit, _ *waiting) error {
	return c.answer(w, http.StatusOK, envelope{Status: isDenied, Error: &errorView{Code: string(page.ProviderCancelled)}})
}

// mailed sends all of its answer: whether there is a mail to be handed over
// must not be seen in the time that it takes.
func (c *apiCall) mailed(w http.ResponseWriter, r *http.Request, v *visit, claim challenge.Claim, waiting *challenge.Waiting, _ string) error {
	return c.awaits(w, claim, viewOfChallenge("", waiting))
}

func (c *apiCall) tooSoon(w http.ResponseWriter, r *http.Request, v *visit, claim challenge.Claim, _ string) error {
	return c.fail(w, r, http.StatusTooManyRequests, string(page.TooMany), "A mail is on its way: wait until resend_at.")
}

func (c *apiCall) enter(w http.ResponseWriter, r *http.Request, v *visit, claim challenge.Claim, waiting *challenge.Waiting, e page.EnterCode) error {
	view := viewOfChallenge("", waiting)
	view.Wrong = e.Wrong
	return c.awaits(w, claim, view)
}

func (c *apiCall) awaits(w http.ResponseWriter, claim challenge.Claim, view challengeView) error {
	view.ID = markOf(claim.ID)
	return c.answer(w, http.StatusOK, envelope{Status: needsCode, Challenges: []challengeView{view}})
}

func (c *apiCall) stale(w http.ResponseWriter, r *http.Request, _ *visit, _ string) error {
	return c.fail(w, r, page.FreshNeeded.Status(), string(page.FreshNeeded), "This takes a sign-in of the last 15 minutes.")
}

func (c *apiCall) changed(w http.ResponseWriter, r *http.Request, v *visit, a alteration) error {
	return c.answer(w, http.StatusOK, struct{}{})
}

func (c *apiCall) unchanged(w http.ResponseWriter, r *http.Request, v *visit, problem page.AccountProblem, _ string) error {
	return c.fail(w, r, http.StatusConflict, strings.ToLower(string(problem)), "")
}

func (c *apiCall) deleting(w http.ResponseWriter, r *http.Request, v *visit, at time.Time) error {
	return c.answer(w, http.StatusOK, struct{}{})
}

var _ voice = (*apiCall)(nil)
