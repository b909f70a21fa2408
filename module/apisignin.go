package module

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/page"
	"github.com/caddy-login/caddy-login/module/pending"
	"github.com/caddy-login/caddy-login/module/signin"
)

// apiOfSignIn is signing in, and answering what is asked on the way.
var apiOfSignIn = []endpoint{
	{http.MethodPost, "/intents", (*apiCall).intend, aHouse},
	{http.MethodPost, "/intents/validate", (*apiCall).validate, aHouse},
	{http.MethodPost, "/challenges", (*apiCall).challenge, aHouse},
	{http.MethodPost, "/challenges/{id}/check", (*apiCall).checkChallenge, aHouse},
	{http.MethodPost, "/challenges/{id}/resend", (*apiCall).resendChallenge, aHouse},
	{http.MethodPost, "/challenges/{id}/poll", (*apiCall).pollChallenge, aHouse},
	{http.MethodPost, "/challenges/{id}/cancel", (*apiCall).cancelChallenge, aHouse},
	{http.MethodPost, "/links/{id}/confirm", (*apiCall).confirmLink, aHouse},
	{http.MethodPost, "/links/{id}/reject", (*apiCall).rejectLink, aHouse},
}

// The intents that an app may name. Whoever names none means intentAuto.
const (
	intentAuto   = "auto"   // sign in, or up
	intentLogin  = "login"  // sign in whom the site knows, and make nobody new
	intentSignup = "signup" // as auto: who is known is signed in
	intentLink   = "link"   // connect an account to who is signed in
	intentProve  = "prove"  // prove to be who a question is about
)

// intentBody begins a sign-in at a provider.
type intentBody struct {
	// Provider is a sign-in method of GET metadata that leads elsewhere.
	Provider string `json:"provider"`
	// Intent is login, signup, auto, link or prove. Empty: auto.
	Intent string `json:"intent,omitempty"`
	// Return is where the browser goes in the end: a path of this site, by
	// default "/". A native app's is an address of its own.
	Return string `json:"return,omitempty"`
	// Link is the question that prove is about, which has its own return.
	Link string `json:"link,omitempty"`
	// CodeChallenge is a native app's (RFC 7636).
	CodeChallenge string `json:"code_challenge,omitempty"`
	// CodeChallengeMethod may say S256, which is the only one.
	CodeChallengeMethod string `json:"code_challenge_method,omitempty"`
}

// intend begins a sign-in at a provider. Nothing is kept of it here: a browser
// carries it, and a native app.
func (c *apiCall) intend(w http.ResponseWriter, r *http.Request, v *visit) error {
	var in intentBody
	if !c.read(w, r, &in) || !c.bind(w, r, v, in.CodeChallenge, in.CodeChallengeMethod) {
		return nil
	}
	provider, ok := c.providerOf(w, r, in.Provider)
	switch {
	case !ok:
		return nil
	case !v.reach(v.origin):
		return c.portal.trouble(w, r, v, trouble{kind: page.UnsafeAddress, err: unreachable(v), knock: true})
	case in.Intent == intentLink && v.live() == nil:
		page.WriteProblem(w, signInRequired(r, v))
		return nil
	case in.Intent == intentLink && !c.isFresh(v):
		return c.stale(w, r, v, "")
	case in.Intent == intentProve:
		return c.proveBy(w, r, v, in)
	case in.Link != "":
		return c.fail(w, r, http.StatusBadRequest, "bad_request", "Only the intent prove is about a link.")
	}
	switch in.Intent {
	case "", intentAuto, intentLogin, intentSignup, intentLink:
	default:
		return c.fail(w, r, http.StatusBadRequest, "bad_request", "The intents are login, signup, auto, link and prove.")
	}
	if c.native {
		return c.intendNative(w, r, v, provider, in)
	}
	return c.intendHere(w, r, v, provider, in)
}

// intendHere is for a browser.
func (c *apiCall) intendHere(w http.ResponseWriter, r *http.Request, v *visit, provider guest.Provider, in intentBody) error {
	to, ok := c.back(w, r, in.Return)
	if !ok {
		return nil
	}
	attempt := signin.Attempt{Provider: in.Provider, Return: to, KnownOnly: in.Intent == intentLogin}
	if in.Intent == intentLink {
		attempt = connecting(v, in.Provider, to)
	}
	return c.depart(w, r, v, provider, attempt)
}

// providerOf finds a provider that this site offers. Where it doesn't, it
// answers.
func (c *apiCall) providerOf(w http.ResponseWriter, r *http.Request, name string) (guest.Provider, bool) {
	method := named(c.gate.providers, name)
	if method == nil {
		_ = c.fail(w, r, http.StatusNotFound, "provider_disabled", "This site has no such sign-in method: see GET metadata.")
		return nil, false
	}
	provider, ok := method.(guest.Provider)
	if !ok {
		_ = c.fail(w, r, http.StatusBadRequest, "bad_request", "A sign-in by mail begins with POST challenges.")
	}
	return provider, ok
}

// back is where a browser goes in the end. What can't be is refused: to land
// elsewhere than was asked for would only be found out by people.
func (c *apiCall) back(w http.ResponseWriter, r *http.Request, raw string) (to string, ok bool) {
	if raw == "" {
		return "/", true
	}
	to, ok = c.mayWant(raw)
	if !ok || strings.Contains(raw, "#") {
		_ = c.fail(w, r, http.StatusBadRequest, "bad_request", "The return is a path of this site, such as /inbox?page=2.")
		return "", false
	}
	return to, true
}

// proveBy has a browser's visitor prove by another provider to be who a question
// is about.
func (c *apiCall) proveBy(w http.ResponseWriter, r *http.Request, v *visit, in intentBody) error {
	if c.native {
		return c.fail(w, r, http.StatusBadRequest, "bad_request", "An app without cookies proves it by a code: POST challenges with link.")
	}
	if in.Return != "" {
		return c.fail(w, r, http.StatusBadRequest, "bad_request", "The question returns to where its sign-in was to.")
	}
	waits, ask, ok := c.asked(w, r, v, in.Link, "")
	if !ok {
		return nil
	}
	return c.decideOn(w, r, v, waits, map[string][]string{"ask": {ask}, "do": {"prove"}, "provider": {in.Provider}})
}

// validateBody asks what became of an intent.
type validateBody struct {
	// Intent is what POST intents named; or the id of a question.
	Intent string `json:"intent"`
	// ReturnCode is what a native app's return address got.
	ReturnCode string `json:"return_code,omitempty"`
	// CodeVerifier is a native app's (RFC 7636).
	CodeVerifier string `json:"code_verifier,omitempty"`
}

// validate tells what became of an intent, as often as it is asked.
func (c *apiCall) validate(w http.ResponseWriter, r *http.Request, v *visit) error {
	var in validateBody
	if !c.read(w, r, &in) {
		return nil
	}
	c.denies = true
	b, ok := c.hold(w, r, v, boundToIntent, in.Intent, in.CodeVerifier)
	switch {
	case !ok:
		return nil
	case b != nil:
		return c.validateNative(w, r, v, b, in.ReturnCode)
	case in.ReturnCode != "":
		return c.fail(w, r, http.StatusBadRequest, "bad_request", "A return_code is for a native app, and takes its code_verifier.")
	}
	return c.whatBecame(w, r, v, in.Intent)
}

// whatBecame looks at what this browser carries of an intent: the attempt, or,
// in its place, how it ended.
func (c *apiCall) whatBecame(w http.ResponseWriter, r *http.Request, v *visit, mark string) error {
	name := v.base + "-" + mark
	value := ""
	if isMarkOfAttempt(mark) {
		value = cookieOf(v, name)
	}
	attempt, err := v.house.attempts.Open(v.base, v.origin.String(), signin.Cookie{Name: name, Value: value})
	ended := v.endOf(name, value)
	switch {
	case err == nil:
		return c.answer(w, http.StatusOK, envelope{Status: atProvider, Intent: mark, ExpiresAt: attempt.Expires().UTC()})
	case ended == string(isAuthenticated) && v.live() != nil:
		return c.answer(w, http.StatusOK, envelope{Status: isAuthenticated, Session: c.viewOfSession(v.live())})
	case ended != "" && ended != string(isAuthenticated):
		return c.deny(w, r, ended)
	}
	waits, err := c.waitingHere(r, v)
	switch {
	case errors.Is(err, pending.ErrGone):
		return c.deny(w, r, string(page.ChallengeExpired))
	case err != nil:
		return c.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	case waits.Challenge != "":
		return c.awaitProof(w, r, v, waits, false)
	}
	return c.portal.question(w, r, v, waits)
}

// keepTrack has the cookie of an attempt say how it ended: an app of the site's
// will ask. The attempt is spent, and the cookie opens nothing any more.
func (v *visit) keepTrack(cookie string) {
	if cookie != "" {
		v.begun = append(v.begun, cookie)
	}
}

func (v *visit) asksAbout(attempt *signin.Attempt) {
	if attempt.ByAPI {
		v.keepTrack(attempt.CookieOf())
	}
}

// became says how the attempts of this visit ended.
func (v *visit) became(w http.ResponseWriter, word string) {
	for _, cookie := range v.begun {
		tag := v.house.ring.Tag(purposeOfEnd(v, cookie), word)
		v.set(w, cookie, word+"."+base64.RawURLEncoding.EncodeToString(tag), signin.Life)
	}
}

// endOf is what became put into a cookie, empty where it did not: a neighbour can
// plant one.
func (v *visit) endOf(cookie, value string) string {
	word, text, _ := strings.Cut(value, ".")
	tag, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || !v.house.ring.Tagged(purposeOfEnd(v, cookie), word, tag) {
		return ""
	}
	return word
}

func purposeOfEnd(v *visit, cookie string) string { return "end\x00" + v.scope + "\x00" + cookie }

// markOfAttempt names an attempt among those of one browser, and opens nothing:
// what its cookie's name has of its own.
func markOfAttempt(cookie string) string { return cookie[strings.LastIndexByte(cookie, '-')+1:] }

func isMarkOfAttempt(mark string) bool {
	return len(mark) == 16 && strings.Trim(mark, "0123456789abcdef") == ""
}
