package module

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/caddy-login/caddy-login/module/challenge"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/page"
	"github.com/caddy-login/caddy-login/module/pending"
)

// challengeBody asks for a code by mail.
type challengeBody struct {
	// Kind is email.
	Kind string `json:"kind"`
	// Email is the address to sign in with.
	Email string `json:"email,omitempty"`
	// Link is, in place of it, the question whose address is to be proven.
	Link string `json:"link,omitempty"`
	// Intent is login, signup or auto. Empty: auto.
	Intent string `json:"intent,omitempty"`
	// Return is where the mailed link leads in the end: a path of this site, by
	// default "/".
	Return string `json:"return,omitempty"`
	// CodeChallenge is a native app's (RFC 7636).
	CodeChallenge string `json:"code_challenge,omitempty"`
	// CodeChallengeMethod may say S256, which is the only one.
	CodeChallengeMethod string `json:"code_challenge_method,omitempty"`
	// CodeVerifier is a native app's, where it brings a Link.
	CodeVerifier string `json:"code_verifier,omitempty"`
}

// challenge mails a code, or does as if.
func (c *apiCall) challenge(w http.ResponseWriter, r *http.Request, v *visit) error {
	var in challengeBody
	switch {
	case !c.read(w, r, &in):
		return nil
	case in.Kind != "email":
		return c.fail(w, r, http.StatusBadRequest, "bad_request", "The kind of challenge is email.")
	case in.Link == "":
		return c.challengeAddress(w, r, v, in)
	case in.Email+in.Intent+in.Return+in.CodeChallenge != "":
		return c.fail(w, r, http.StatusBadRequest, "bad_request", "A link says itself which address is to be proven, and for what.")
	}
	waits, ask, ok := c.asked(w, r, v, in.Link, in.CodeVerifier)
	if !ok {
		return nil
	}
	return c.decideOn(w, r, v, waits, url.Values{"ask": {ask}, "do": {"code"}})
}

// challengeAddress begins a sign-in by mail.
func (c *apiCall) challengeAddress(w http.ResponseWriter, r *http.Request, v *visit, in challengeBody) error {
	if !c.bind(w, r, v, in.CodeChallenge, in.CodeChallengeMethod) {
		return nil
	}
	to, ok := c.back(w, r, in.Return)
	switch {
	case !ok:
		return nil
	case c.gate.codes == nil:
		return c.fail(w, r, http.StatusNotFound, "provider_disabled", "Nobody signs in by mail here: see GET metadata.")
	case in.Intent != "" && in.Intent != intentAuto && in.Intent != intentLogin && in.Intent != intentSignup:
		return c.fail(w, r, http.StatusBadRequest, "bad_request", "The intents of a challenge are login, signup and auto.")
	case c.native && !c.isBound(v):
		return c.fail(w, r, http.StatusBadRequest, "bad_request", "Bring a code_challenge.")
	case !v.reach(v.origin):
		return c.portal.trouble(w, r, v, trouble{kind: page.UnsafeAddress, err: unreachable(v), knock: true})
	case !v.servesPort(r):
		return c.portal.trouble(w, r, v, strangePort(v))
	}
	email, err := identity.ParseEmail(strings.TrimSpace(in.Email))
	if err != nil {
		return c.fail(w, r, http.StatusUnprocessableEntity, "invalid_email", "Give an address such as ada@example.com.")
	}
	return c.mailCode(w, r, v, email, to, in.Intent == intentLogin)
}

// codeBody answers a challenge.
type codeBody struct {
	// Code is what was typed. Spaces and dashes are nothing.
	Code string `json:"code"`
	// CodeVerifier is a native app's (RFC 7636).
	CodeVerifier string `json:"code_verifier,omitempty"`
}

func (c *apiCall) checkChallenge(w http.ResponseWriter, r *http.Request, v *visit) error {
	var in codeBody
	if !c.read(w, r, &in) {
		return nil
	}
	claim, waits, ok := c.awaited(w, r, v, in.CodeVerifier)
	switch {
	case !ok:
		return nil
	case waits != nil:
		return c.checkProof(w, r, v, waits, in.Code)
	}
	return c.typed(w, r, v, claim, in.Code)
}

// verifierBody is all that the other calls about a challenge bring.
type verifierBody struct {
	// CodeVerifier is a native app's (RFC 7636).
	CodeVerifier string `json:"code_verifier,omitempty"`
}

func (c *apiCall) resendChallenge(w http.ResponseWriter, r *http.Request, v *visit) error {
	var in verifierBody
	if !c.read(w, r, &in) {
		return nil
	}
	claim, _, ok := c.awaited(w, r, v, in.CodeVerifier)
	if !ok {
		return nil
	}
	return c.resend(w, r, v, claim, "")
}

// pollChallenge tells how things stand. Who was approved by the mail's reader,
// and only they, collects it here.
func (c *apiCall) pollChallenge(w http.ResponseWriter, r *http.Request, v *visit) error {
	var in verifierBody
	if !c.read(w, r, &in) {
		return nil
	}
	c.polls = true
	claim, waits, ok := c.awaited(w, r, v, in.CodeVerifier)
	switch {
	case !ok:
		return nil
	case waits != nil:
		return c.awaitProof(w, r, v, waits, false)
	}
	found, err := v.house.challenges.Poll(r.Context(), claim)
	switch {
	case err != nil:
		return c.portal.trouble(w, r, v, c.codeOver(err, ""))
	case found.State == challenge.Spent && v.live() != nil && !c.native: // by the link, in another tab
		return c.answer(w, http.StatusOK, envelope{Status: isAuthenticated, Session: c.viewOfSession(v.live())})
	}
	return c.showWaiting(w, r, v, claim, found)
}

// cancelChallenge gives up. What waited for the proof may take another.
func (c *apiCall) cancelChallenge(w http.ResponseWriter, r *http.Request, v *visit) error {
	var in verifierBody
	if !c.read(w, r, &in) {
		return nil
	}
	claim, waits, ok := c.awaited(w, r, v, in.CodeVerifier)
	if !ok {
		return nil
	}
	if err := v.house.challenges.Cancel(r.Context(), claim); err != nil {
		return c.portal.trouble(w, r, v, c.codeOver(err, ""))
	}
	if waits != nil {
		waits.Challenge = ""
		if err := c.keepWaiting(r, v, waits); err != nil && !errors.Is(err, pending.ErrGone) {
			return c.portal.trouble(w, r, v, trouble{kind: page.Unavailable, err: err})
		}
	}
	w.Header()["Cache-Control"] = noStore
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// awaited is the challenge that a call is about, and what waits for it, nil: it
// signs in. Where there is none, it has answered: as for one that has expired.
func (c *apiCall) awaited(w http.ResponseWriter, r *http.Request, v *visit, verifier string) (claim challenge.Claim, waits *waiting, ok bool) {
	b, ok := c.hold(w, r, v, boundToChallenge, c.id, verifier)
	if !ok {
		return claim, nil, false
	}
	claim = challenge.Claim{Scope: v.scope, Purpose: challenge.Login}
	switch {
	case b != nil:
		claim.ID = b.id
	default:
		for _, id := range askedFor(v) {
			if markOf(id) == c.id {
				claim.ID = id
			}
		}
	}
	if claim.ID != (challenge.ID{}) && c.gate.codes != nil {
		return claim, nil, true
	}
	waits, err := c.waitingHere(r, v)
	if err == nil && (waits.Challenge == "" || b == nil && markOf(c.claimOf(v, waits).ID) != c.id) {
		err = pending.ErrGone
	}
	switch {
	case errors.Is(err, pending.ErrGone):
		_ = c.portal.trouble(w, r, v, c.codeOver(challenge.ErrExpired, "")) // it has answered
		return claim, nil, false
	case err != nil:
		_ = c.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
		return claim, nil, false
	}
	return c.claimOf(v, waits), waits, true
}
