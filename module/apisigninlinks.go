package module

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/pending"
)

// linkView is what an app asks its visitor before a sign-in goes on, or an
// account is connected. Names are those that the account at the provider gave
// itself: text of a stranger's.
type linkView struct {
	// ID is for links/{id}/…, and for the proof that it takes.
	ID string `json:"id"`
	// Question is what is asked: confirm_link, link_or_switch, confirm_switch,
	// proof, code or keep.
	Question string `json:"question"`
	// Provider is where they came from; absent for a code that was mailed.
	Provider string `json:"provider,omitempty"`
	// ProviderLabel is what people call it.
	ProviderLabel string `json:"provider_label,omitempty"`
	// Account is what the account there is called.
	Account string `json:"account,omitempty"`
	// Into is whom a yes leads to: their address, masked, or else their name.
	Into string `json:"into,omitempty"`
	// From is who is signed in now, likewise.
	From string `json:"from,omitempty"`
	// Adds is an address that a yes adds to the account, masked.
	Adds string `json:"adds,omitempty"`
	// DeletesAt is when an account to be kept would be deleted.
	DeletesAt time.Time `json:"deletes_at,omitzero"`
	// Choices are what links/{id}/confirm takes as `do`. None: it takes a proof.
	Choices []string `json:"choices"`
	// Proofs are what proves it: "email" by POST challenges with `link`,
	// "provider" by POST intents with the intent prove and `link`.
	Proofs []string `json:"proofs"`
	// Ways are the providers for such an intent.
	Ways []wayView `json:"ways,omitempty"`
}

// wayView is a provider to prove who one is.
type wayView struct {
	Provider string `json:"provider"` // for an intent
	Label    string `json:"label"`    // what people call it
}

// viewOfLink is a question as an app gets it: it says what the page says.
func (c *apiCall) viewOfLink(v *visit, waits *waiting, d identity.Decision, about *identity.User) (*linkView, error) {
	id, err := c.nameOfQuestion(v, waits, d)
	if err != nil {
		return nil, err
	}
	view := &linkView{
		ID: id, Question: string(cmp.Or(d.Needs, identity.ConfirmLink)), Provider: waits.Provider, ProviderLabel: c.labelOf(waits.Provider),
		Account: waits.there(), Into: waits.address().Mask(), Choices: choicesOf(d), Proofs: []string{},
	}
	if v.live() != nil {
		view.From = nameOfUser(&v.live().Person.User)
	}
	switch d.Needs {
	case identity.SwitchOrStay:
		view.Into = waits.there()
		if about != nil {
			view.Into = nameOfUser(about)
		}
	case identity.KeepAccount:
		if about != nil {
			view.Into, view.DeletesAt = nameOfUser(about), about.Deletes.UTC()
		}
	case identity.ProofOfOwner, identity.ProofOfMail:
		c.offerProofs(view, d)
	default:
		if d.User == v.user() {
			view.Into = view.From
			if d.Identifier {
				view.Adds = waits.address().Mask()
			}
		}
	}
	return view, nil
}

// offerProofs says what proves it. A provider takes a browser's cookies.
func (c *apiCall) offerProofs(view *linkView, d identity.Decision) {
	if c.gate.settings.post != nil {
		view.Proofs = append(view.Proofs, "email")
	}
	if d.Needs != identity.ProofOfOwner || c.native {
		return
	}
	for _, way := range c.ways(nil) {
		view.Ways = append(view.Ways, wayView{Provider: way.Name, Label: way.Label})
	}
	if len(view.Ways) > 0 {
		view.Proofs = append(view.Proofs, "provider")
	}
}

// nameOfUser tells a person which of their accounts is meant.
func nameOfUser(user *identity.User) string {
	if user.Email == "" {
		return user.Name
	}
	return user.Email.Mask()
}

// choicesOf are the words that say yes: as many as there are kinds of it.
func choicesOf(d identity.Decision) []string {
	switch d.Needs {
	case identity.LinkOrSwitch:
		return []string{"link", "switch"}
	case identity.SwitchOrStay:
		return []string{"switch"}
	case identity.KeepAccount:
		return []string{"keep"}
	case identity.ConfirmLink, identity.Nothing:
		return []string{"link"}
	default:
		return []string{}
	}
}

// wordBody is what a question is answered with.
type wordBody struct {
	// Do is one of the question's choices. Empty: the only one.
	Do string `json:"do,omitempty"`
	// CodeVerifier is a native app's (RFC 7636).
	CodeVerifier string `json:"code_verifier,omitempty"`
}

func (c *apiCall) confirmLink(w http.ResponseWriter, r *http.Request, v *visit) error {
	var in wordBody
	if !c.read(w, r, &in) {
		return nil
	}
	waits, ask, ok := c.asked(w, r, v, c.id, in.CodeVerifier)
	if !ok {
		return nil
	}
	d, _, err := c.preview(r, v, waits)
	choices := choicesOf(d)
	if err == nil && d.Why == nil && d.Needs != identity.FreshSignIn {
		if in.Do == "" && len(choices) == 1 {
			in.Do = choices[0]
		}
		if !slices.Contains(choices, in.Do) {
			return c.fail(w, r, http.StatusBadRequest, "bad_request", wordsFor(choices))
		}
	}
	return c.decideOn(w, r, v, waits, url.Values{"ask": {ask}, "do": {in.Do}})
}

func wordsFor(choices []string) string {
	if len(choices) == 0 {
		return "This takes a proof: see the proofs of the question."
	}
	return "Say in do which it is: " + strings.Join(choices, " or ") + "."
}

func (c *apiCall) rejectLink(w http.ResponseWriter, r *http.Request, v *visit) error {
	var in struct {
		CodeVerifier string `json:"code_verifier,omitempty"` // a native app's
	}
	if !c.read(w, r, &in) {
		return nil
	}
	waits, _, ok := c.asked(w, r, v, c.id, in.CodeVerifier)
	if !ok {
		return nil
	}
	return c.decline(w, r, v, waits)
}

// asked is the question that a call is about, with the name under which a page
// would hand it back. Where it is not the one that waits, it has answered.
func (c *apiCall) asked(w http.ResponseWriter, r *http.Request, v *visit, id, verifier string) (waits *waiting, ask string, ok bool) {
	b, ok := c.hold(w, r, v, boundToQuestion, id, verifier)
	if !ok {
		return nil, "", false
	}
	waits, err := c.waitingHere(r, v)
	if err == nil && b != nil {
		id = waits.id.Mark() + "." + b.gist
	}
	if mark, _, _ := strings.Cut(id, "."); err == nil && mark != waits.id.Mark() {
		err = pending.ErrGone
	}
	switch {
	case errors.Is(err, pending.ErrGone):
		_ = c.outdated(w, r, v, "/") // it has answered
		return nil, "", false
	case err != nil:
		_ = c.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
		return nil, "", false
	}
	return waits, id, true
}
