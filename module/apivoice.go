package module

import (
	"cmp"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/caddy-login/caddy-login/module/challenge"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/page"
	"github.com/caddy-login/caddy-login/module/pending"
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
	Code   string `json:"code"`   // stable, such as "email_in_use"
	Title  string `json:"title"`  // what it is, for people, in English
	Detail string `json:"detail"` // what to do next, for people, in English
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
}

// viewOfChallenge tells times by the second, so that all answers are as long.
func viewOfChallenge(id string, w *challenge.Waiting) challengeView {
	resend := w.ResendAt.UTC()
	if !resend.IsZero() {
		resend = resend.Add(time.Second - 1).Truncate(time.Second)
	}
	return challengeView{
		ID: id, Kind: "email", Hint: w.Email.Mask(), ExpiresAt: w.Expires.UTC().Truncate(time.Second), ResendAt: resend,
		AttemptsLeft: w.AttemptsLeft, Length: w.Length, Number: w.Number,
	}
}

// trouble tells a program what a page tells a person. Where what became of an
// intent was asked, that it came to nothing is the answer.
func (c *apiCall) trouble(w http.ResponseWriter, r *http.Request, t page.Trouble) {
	status := t.Kind.Status()
	if c.denies && status < http.StatusInternalServerError && status != http.StatusTooManyRequests {
		_ = c.deny(w, r, codeOf(t.Kind)) // it has answered
		return
	}
	title, detail := c.pages.Advice(r, t)
	if own := detailOf[c.code]; own != "" {
		title, detail = "", own
	}
	c.problem(w, r, page.Problem{Status: status, Code: cmp.Or(c.code, codeOf(t.Kind)), Title: title, Detail: detail})
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

func (c *apiCall) deny(w http.ResponseWriter, r *http.Request, code string) error {
	title, detail := c.pages.Advice(r, page.Trouble{Kind: kindOf(code)})
	return c.answer(w, http.StatusOK, envelope{Status: isDenied, Error: &errorView{Code: code, Title: title, Detail: detail}})
}

// kindOf is what codeOf calls code.
func kindOf(code string) page.Kind {
	if code == codeOf(page.NotAllowed) {
		return page.NotAllowed
	}
	return page.Kind(code)
}

func (c *apiCall) leaves(w http.ResponseWriter, _ *http.Request, attempt *signin.Attempt, to string) error {
	return c.answer(w, http.StatusOK, envelope{
		Status: atProvider, Intent: markOfAttempt(attempt.CookieOf()), ExpiresAt: attempt.Expires().UTC(), AuthURL: to,
	})
}

func (c *apiCall) isIn(w http.ResponseWriter, r *http.Request, v *visit, out outcome, _ string) error {
	tokens, err := c.tokensOf(v)
	if err != nil {
		return c.gate.refuse(w, r, broken(http.StatusInternalServerError, err))
	}
	who := c.viewOfOutcome(out)
	if c.grant != "" {
		return c.answerTokens(w, tokens, who, typeOfAccess)
	}
	return c.answer(w, http.StatusOK, envelope{Status: isAuthenticated, Session: who, Tokens: tokens})
}

// tokensOf are the tokens that this call hands over; nil: none.
func (c *apiCall) tokensOf(v *visit) (*tokensView, error) {
	if c.begun == nil {
		return nil, nil
	}
	access, err := v.house.tokens.Access(v.site(), c.begun.Session)
	if err != nil {
		return nil, err
	}
	return &tokensView{
		AccessToken: string(access.Token), TokenType: "Bearer", ExpiresIn: int(access.Expires.Sub(c.gate.now()) / time.Second),
		RefreshToken: string(c.begun.Refresh),
	}, nil
}

func (c *apiCall) waits(w http.ResponseWriter, r *http.Request, v *visit, waits *waiting) error {
	return c.portal.question(w, r, v, waits)
}

func (c *apiCall) question(w http.ResponseWriter, r *http.Request, v *visit, waits *waiting, d identity.Decision, about *identity.User) error {
	if d.Needs == identity.FreshSignIn {
		return c.stale(w, r, v, "")
	}
	view, err := c.viewOfLink(v, waits, d, about)
	if err != nil {
		return c.gate.refuse(w, r, broken(http.StatusInternalServerError, err))
	}
	asks := envelope{Status: needsWord, ExpiresAt: waits.Begun.Add(pending.Life).UTC(), Link: view}
	if d.Needs == identity.ProofOfMail {
		asks.Status = needsAddress
	}
	return c.answer(w, http.StatusOK, asks)
}

func (c *apiCall) declined(w http.ResponseWriter, r *http.Request, _ *visit, _ *waiting) error {
	return c.deny(w, r, string(page.ProviderCancelled))
}

// mailed sends all of its answer: whether there is a mail to be handed over
// must not be seen in the time that it takes.
func (c *apiCall) mailed(w http.ResponseWriter, r *http.Request, v *visit, claim challenge.Claim, waiting *challenge.Waiting, _ string) error {
	return c.awaits(w, r, v, claim, waiting, needsCode)
}

func (c *apiCall) tooSoon(w http.ResponseWriter, r *http.Request, v *visit, claim challenge.Claim, _ string) error {
	detail := "This code is not mailed again: begin anew."
	waiting, err := v.house.challenges.Poll(r.Context(), claim)
	if err == nil && !waiting.ResendAt.IsZero() {
		detail = "A mail is on its way: wait until it could have come."
		left := math.Ceil(waiting.ResendAt.Sub(c.gate.now()).Seconds())
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(left))))
	}
	return c.fail(w, r, http.StatusTooManyRequests, string(page.TooMany), detail)
}

func (c *apiCall) enter(w http.ResponseWriter, r *http.Request, v *visit, claim challenge.Claim, waiting *challenge.Waiting, e page.EnterCode) error {
	switch {
	case e.Wrong:
		refuseBody(w, r)
		c.problem(w, r, page.Problem{
			Status: http.StatusUnprocessableEntity, Code: "wrong_code", Detail: "Type the code that was mailed last, or have it sent again.",
			AttemptsLeft: &waiting.AttemptsLeft,
		})
		return nil
	case c.polls:
		return c.awaits(w, r, v, claim, waiting, isPending)
	}
	return c.awaits(w, r, v, claim, waiting, needsCode)
}

func (c *apiCall) awaits(w http.ResponseWriter, r *http.Request, v *visit, claim challenge.Claim, waiting *challenge.Waiting, status statusWord) error {
	id, err := c.nameOf(v, claim)
	if err != nil {
		return c.gate.refuse(w, r, broken(http.StatusInternalServerError, err))
	}
	view := viewOfChallenge(id, waiting)
	return c.answer(w, http.StatusOK, envelope{Status: status, ExpiresAt: view.ExpiresAt, Challenges: []challengeView{view}})
}

var _ voice = (*apiCall)(nil)
