package main_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
	"github.com/caddy-login/caddy-login/module/logintest/secrets"
)

// caller is an app that calls the API: a page of the site's in its visitor's
// browser, or, with a verifier, a program on a device.
type caller struct {
	*e2e.Visitor
	t        *testing.T
	site     string
	verifier string // empty: a page
	bearer   string // empty: nobody's
}

// enveloped is the API's answer about a sign-in, or its problem.
type enveloped struct {
	Status     any                 `json:"status"`
	Intent     string              `json:"intent"`
	ExpiresAt  time.Time           `json:"expires_at"`
	AuthURL    string              `json:"auth_url"`
	Challenges []challengeOfAnswer `json:"challenges"`
	Link       *linkOfAnswer       `json:"link"`
	Session    *struct {
		ID, User, Email, Provider string
	} `json:"session"`
	Tokens *struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
		Expires int    `json:"expires_in"`
	} `json:"tokens"`
	Error *struct {
		Code string `json:"code"`
	} `json:"error"`
	Code         string `json:"code"`
	Detail       string `json:"detail"`
	AttemptsLeft *int   `json:"attempts_left"`
}

type challengeOfAnswer struct {
	ID, Kind, Hint string
	ExpiresAt      time.Time `json:"expires_at"`
	ResendAt       time.Time `json:"resend_at"`
	AttemptsLeft   int       `json:"attempts_left"`
	Length, Number int
}

type linkOfAnswer struct {
	ID, Question, Provider, Account, Into, From, Adds string
	Choices, Proofs                                   []string
	DeletesAt                                         time.Time `json:"deletes_at"`
}

// pageOf is the site's own page in a browser.
func pageOf(t *testing.T, v *e2e.Visitor, site string) *caller {
	return &caller{Visitor: v, t: t, site: site}
}

// programOf is an app on a device, with a verifier of its own.
func programOf(t *testing.T, v *e2e.Visitor, site string) *caller {
	raw := make([]byte, 32)
	rand.Read(raw)
	verifier := base64.RawURLEncoding.EncodeToString(raw)
	secrets.Keep(t, verifier)
	return &caller{Visitor: v, t: t, site: site, verifier: verifier}
}

// binding is the code challenge of the verifier.
func (c *caller) binding() string {
	hash := sha256.Sum256([]byte(c.verifier))
	return base64.RawURLEncoding.EncodeToString(hash[:])
}

// request is a call; pairs are the body's members.
func (c *caller) request(path string, pairs ...string) *http.Request {
	c.t.Helper()
	members := map[string]string{}
	for i := 0; i+1 < len(pairs); i += 2 {
		members[pairs[i]] = pairs[i+1]
	}
	body, err := json.Marshal(members)
	if err != nil {
		c.t.Fatal(err)
	}
	r := c.Request(http.MethodPost, c.site+"/.login/api/v1/"+path, string(body))
	r.Header.Set("Content-Type", "application/json")
	if c.verifier == "" && c.bearer == "" {
		r.Header.Set("Origin", c.site)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	if c.bearer != "" {
		r.Header.Set("Authorization", "Bearer "+c.bearer)
	}
	return r
}

// call is a call and what it answered.
func (c *caller) call(path string, pairs ...string) (e2e.Answer, enveloped) {
	c.t.Helper()
	return c.read(c.Do(c.request(path, pairs...)))
}

func (c *caller) read(got e2e.Answer) (e2e.Answer, enveloped) {
	c.t.Helper()
	var out enveloped
	if err := json.Unmarshal([]byte(got.Body), &out); err != nil {
		c.t.Fatalf("%s %d: %v in %.500q", got.Request.URL, got.StatusCode, err, got.Body)
	}
	if c.verifier != "" && len(got.Cookies()) > 0 {
		c.t.Errorf("%s gives an app without a browser cookies: %v", got.Request.URL.Path, got.Header["Set-Cookie"])
	}
	if out.Tokens != nil {
		secrets.Keep(c.t, out.Tokens.Access, out.Tokens.Refresh)
	}
	return got, out
}

// wantStatus is a call that comes to this.
func (c *caller) wantStatus(status string, path string, pairs ...string) enveloped {
	c.t.Helper()
	got, out := c.call(path, pairs...)
	if got.StatusCode != http.StatusOK || out.Status != status {
		c.t.Fatalf("%s %v: %d, want %s:\n%s", path, pairs, got.StatusCode, status, got.Body)
	}
	return out
}

// wantDenied is a call that comes to nothing for this reason.
func (c *caller) wantDenied(code string, path string, pairs ...string) {
	c.t.Helper()
	if out := c.wantStatus("denied", path, pairs...); out.Error == nil || out.Error.Code != code {
		c.t.Fatalf("%s: %+v, want %s", path, out.Error, code)
	}
}

// wantFailure is a call that could not be done.
func (c *caller) wantFailure(status int, code string, path string, pairs ...string) enveloped {
	c.t.Helper()
	got, out := c.call(path, pairs...)
	wantProblem(c.t, got, status)
	if out.Code != code || out.Detail == "" {
		c.t.Fatalf("%s %v: %q, want %q:\n%s", path, pairs, out.Code, code, got.Body)
	}
	return out
}

// goes signs in at a provider where an intent leads to, and returns where that
// ends.
func (c *caller) goes(authURL, subject string) e2e.Answer {
	c.t.Helper()
	callback, _, err := pick(authURL, subject)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.Follow(callback)
}

func TestAPISignsABrowserInByAProvider(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	app := pageOf(t, e2e.NewVisitor(t), s.site)
	begun := app.wantStatus("redirect_to_provider", "intents", "provider", "op", "intent", "signup", "return", "/public/in?a=b")
	if begun.Intent == "" || begun.AuthURL == "" || time.Until(begun.ExpiresAt) > 10*time.Minute || time.Until(begun.ExpiresAt) < 9*time.Minute {
		t.Fatalf("%+v", begun)
	}
	for range 2 {
		waits := app.wantStatus("redirect_to_provider", "intents/validate", "intent", begun.Intent)
		if waits.Intent != begun.Intent || !waits.ExpiresAt.Equal(begun.ExpiresAt) {
			t.Errorf("%+v, begun %+v", waits, begun)
		}
	}
	pageOf(t, e2e.NewVisitor(t), s.site).wantDenied("challenge_expired", "intents/validate", "intent", begun.Intent)
	in := app.goes(begun.AuthURL, "ada")
	mustBe(t, in, http.StatusOK)
	if got := in.Request.URL.String(); got != s.site+"/public/in?a=b" {
		t.Errorf("landed at %s", got)
	}
	for range 2 {
		done := app.wantStatus("authenticated", "intents/validate", "intent", begun.Intent)
		if done.Session == nil || done.Session.Email != "ada@example.com" || done.Session.Provider != "op" || done.Tokens != nil {
			t.Errorf("%+v", done)
		}
	}
	if !s.isIn(app.Visitor) {
		t.Error("not signed in")
	}
	app.wantDenied("challenge_expired", "intents/validate", "intent", "0123456789abcdef")
	for _, other := range []string{"", "waits", "asked", "0123456789ABCDEF", strings.Repeat("0", 17)} {
		app.wantDenied("challenge_expired", "intents/validate", "intent", other)
	}
}

func TestAPITellsThatASignInCameToNothing(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	app := pageOf(t, s.known(t, "op", "grace"), s.site)
	begun := app.wantStatus("redirect_to_provider", "intents", "provider", "op", "return", "/public/in")
	sent, err := url.Parse(begun.AuthURL)
	if err != nil {
		t.Fatal(err)
	}
	no := url.Values{"error": {"access_denied"}, "state": {sent.Query().Get("state")}, "iss": {s.op.issuer.Issuer}}
	wantErrorPage(t, app.Get(s.site+"/.login/op/callback?"+no.Encode()))
	for range 2 {
		app.wantDenied("cancelled", "intents/validate", "intent", begun.Intent)
	}
	if !s.isIn(app.Visitor) {
		t.Error("who was signed in is no more")
	}
	// A new one is not mistaken for it.
	next := app.wantStatus("redirect_to_provider", "intents", "provider", "op")
	app.wantStatus("redirect_to_provider", "intents/validate", "intent", next.Intent)
	app.wantDenied("cancelled", "intents/validate", "intent", begun.Intent)
}

func TestAPIRefusesIntentsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	app := pageOf(t, e2e.NewVisitor(t), s.site)
	for _, c := range []struct {
		status int
		code   string
		pairs  []string
	}{
		{http.StatusNotFound, "provider_disabled", []string{"provider", "gogle"}},
		{http.StatusNotFound, "provider_disabled", []string{}},
		{http.StatusBadRequest, "bad_request", []string{"provider", "email"}},
		{http.StatusBadRequest, "bad_request", []string{"provider", "op", "intent", "steal"}},
		{http.StatusBadRequest, "bad_request", []string{"provider", "op", "link", "x"}},
		{http.StatusBadRequest, "bad_request", []string{"provider", "op", "retrun", "/"}},
		{http.StatusBadRequest, "bad_request", []string{"provider", "op", "code_challenge_method", "S256"}},
		{http.StatusBadRequest, "bad_request", []string{"provider", "op", "code_challenge", strings.Repeat("a", 43)}}, // no return
		{http.StatusUnauthorized, "sign_in_required", []string{"provider", "op", "intent", "link"}},
		{http.StatusConflict, "outdated", []string{"provider", "op", "intent", "prove", "link", "x"}},
	} {
		app.wantFailure(c.status, c.code, "intents", c.pairs...)
	}
	for _, to := range append(slices.Clone(elsewhere), "relative", s.site+"/in", "/in#fragment") {
		if got, out := app.call("intents", "provider", "op", "return", to); got.StatusCode == http.StatusOK {
			// What is a path of this site all the same is let through as it stands.
			end := app.goes(out.AuthURL, "ada")
			if !here(end.Request.URL.String()) && end.Request.URL.Host != strings.TrimPrefix(s.site, "https://") {
				t.Errorf("return %q leads to %s", to, end.Request.URL)
			}
		} else if out.Code != "bad_request" {
			t.Errorf("return %q: %s", to, got.Body)
		}
	}
	if len(app.Cookies(s.site)) > 9 {
		t.Errorf("%d cookies", len(app.Cookies(s.site)))
	}
}

// Who only wants in as who they are is told that they are nobody, and not made
// somebody.
func TestAPILoginMakesNobodyNew(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	app := pageOf(t, e2e.NewVisitor(t), s.site)
	begun := app.wantStatus("redirect_to_provider", "intents", "provider", "op", "intent", "login")
	mustBe(t, app.goes(begun.AuthURL, "ada"), http.StatusForbidden)
	app.wantDenied("signup_disabled", "intents/validate", "intent", begun.Intent)
	mailed := app.wantStatus("otp_required", "challenges", "kind", "email", "email", "ada@example.com", "intent", "login")
	s.known(t, "op", "ada")
	// The mail that never came does not come for who is known a moment later.
	app.wantFailure(http.StatusUnprocessableEntity, "wrong_code", "challenges/"+mailed.Challenges[0].ID+"/check", "code", "123456")
	begun = app.wantStatus("redirect_to_provider", "intents", "provider", "op", "intent", "login")
	mustBe(t, app.goes(begun.AuthURL, "ada"), http.StatusOK)
	app.wantStatus("authenticated", "intents/validate", "intent", begun.Intent)
	other := pageOf(t, e2e.NewVisitor(t), s.site)
	mailed = other.wantStatus("otp_required", "challenges", "kind", "email", "email", "ada@example.com", "intent", "login")
	code := s.letter(t, "ada@example.com", "code").Code()
	other.wantStatus("authenticated", "challenges/"+mailed.Challenges[0].ID+"/check", "code", code)
}

func TestAPIConnectsAnAccount(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	app := pageOf(t, s.known(t, "op", "ada"), s.site)
	old := app.Cookie(s.site, cookieName)
	begun := app.wantStatus("redirect_to_provider", "intents", "provider", "club", "intent", "link", "return", "/public/in")
	asked := app.goes(begun.AuthURL, "lady")
	wantQuestion(t, asked, confirmLink)
	// The app may ask in its own words.
	question := app.wantStatus("confirm_required", "intents/validate", "intent", begun.Intent)
	link := question.Link
	if link == nil || link.Question != "confirm_link" || link.Provider != "club" || link.Account != "lady@club.example" ||
		link.Into != "a•••@e•••.com" || link.Into != link.From || !slices.Equal(link.Choices, []string{"link"}) {
		t.Fatalf("%+v", link)
	}
	app.wantFailure(http.StatusBadRequest, "bad_request", "links/"+link.ID+"/confirm", "do", "switch")
	done := app.wantStatus("authenticated", "links/"+link.ID+"/confirm")
	if done.Session == nil || done.Session.Provider != "op" {
		t.Errorf("%+v", done.Session)
	}
	s.wantNewID(t, app.Visitor, old)
	app.wantStatus("authenticated", "intents/validate", "intent", begun.Intent)
	app.wantFailure(http.StatusConflict, "outdated", "links/"+link.ID+"/confirm")
	app.wantFailure(http.StatusConflict, "outdated", "links/"+link.ID+"/reject")
	s.letter(t, "ada@example.com", "connected")
	by := s.known(t, "club", "lady")
	if got := s.seenBy(t, by, s.site).Value("Remote-Email"); got != "ada@example.com" {
		t.Errorf("the connected account signs in %q", got)
	}
	// Another's account, and one that is connected already.
	grace := pageOf(t, s.known(t, "op", "grace"), s.site)
	begun = grace.wantStatus("redirect_to_provider", "intents", "provider", "club", "intent", "link")
	wantErrorPage(t, grace.goes(begun.AuthURL, "lady"))
	grace.wantDenied("identity_already_linked", "intents/validate", "intent", begun.Intent)
	begun = app.wantStatus("redirect_to_provider", "intents", "provider", "club", "intent", "link", "return", "/public/in")
	if at := app.goes(begun.AuthURL, "lady").Request.URL.Path; at != "/public/in" {
		t.Errorf("landed at %s", at)
	}
}

func TestAPISignsABrowserInByACode(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	app := pageOf(t, e2e.NewVisitor(t), s.site)
	for _, c := range []struct {
		status int
		code   string
		pairs  []string
	}{
		{http.StatusBadRequest, "bad_request", []string{"kind", "sms", "email", "ada@example.com"}},
		{http.StatusUnprocessableEntity, "invalid_email", []string{"kind", "email", "email", "ada"}},
		{http.StatusUnprocessableEntity, "invalid_email", []string{"kind", "email"}},
		{http.StatusBadRequest, "bad_request", []string{"kind", "email", "email", "ada@example.com", "intent", "link"}},
		{http.StatusBadRequest, "bad_request", []string{"kind", "email", "email", "ada@example.com", "return", "//evil.test"}},
		{http.StatusBadRequest, "bad_request", []string{"kind", "email", "email", "ada@example.com", "link", "x"}},
		{http.StatusConflict, "outdated", []string{"kind", "email", "link", "x"}},
	} {
		app.wantFailure(c.status, c.code, "challenges", c.pairs...)
	}
	begun := app.wantStatus("otp_required", "challenges", "kind", "email", "email", " Ada@Example.com", "return", "/public/in")
	waits := begun.Challenges[0]
	if waits.Kind != "email" || waits.Hint != "a•••@e•••.com" || waits.Length != 6 || waits.AttemptsLeft != 5 ||
		time.Until(waits.ResendAt) > 31*time.Second || time.Until(waits.ExpiresAt) > 10*time.Minute {
		t.Fatalf("%+v", waits)
	}
	at := "challenges/" + waits.ID
	code := s.letter(t, "ada@example.com", "code").Code()
	if poll := app.wantStatus("pending", at+"/poll"); poll.Challenges[0].ID != waits.ID {
		t.Errorf("%+v", poll)
	}
	got, soon := app.call(at + "/resend")
	if got.StatusCode != http.StatusTooManyRequests || soon.Code != "rate_limited" || got.Header.Get("Retry-After") == "" {
		t.Errorf("%d %+v", got.StatusCode, soon)
	}
	for i, typed := range []string{wrongCode(code), "no code", wrongCode(code)} {
		wrong := app.wantFailure(http.StatusUnprocessableEntity, "wrong_code", at+"/check", "code", typed)
		if left := []int{4, 4, 3}[i]; wrong.AttemptsLeft == nil || *wrong.AttemptsLeft != left {
			t.Errorf("%q leaves %v attempts, want %d", typed, wrong.AttemptsLeft, left)
		}
	}
	// In another browser the id is none.
	pageOf(t, e2e.NewVisitor(t), s.site).wantFailure(http.StatusBadRequest, "challenge_expired", at+"/check", "code", code)
	in := app.wantStatus("authenticated", at+"/check", "code", code[:3]+" "+code[3:])
	if in.Session == nil || in.Session.Email != "ada@example.com" || in.Session.Provider != "email" || !s.isIn(app.Visitor) {
		t.Errorf("%+v", in.Session)
	}
	app.wantFailure(http.StatusBadRequest, "challenge_spent", at+"/check", "code", code)
}

func TestAPIChallengeEnds(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	app := pageOf(t, e2e.NewVisitor(t), s.site)
	begin := func() (at, code string) {
		begun := app.wantStatus("otp_required", "challenges", "kind", "email", "email", "ada@example.com", "return", "/public/in")
		return "challenges/" + begun.Challenges[0].ID, s.letter(t, "ada@example.com", "code").Code()
	}
	at, code := begin()
	for range 4 {
		app.wantFailure(http.StatusUnprocessableEntity, "wrong_code", at+"/check", "code", wrongCode(code))
	}
	app.wantFailure(http.StatusTooManyRequests, "too_many_attempts", at+"/check", "code", wrongCode(code))
	app.wantFailure(http.StatusTooManyRequests, "too_many_attempts", at+"/check", "code", code)
	app.wantFailure(http.StatusTooManyRequests, "too_many_attempts", at+"/poll")
	at, code = begin()
	mustBe(t, app.Do(app.request(at+"/cancel")), http.StatusNoContent)
	app.wantFailure(http.StatusForbidden, "challenge_stopped", at+"/check", "code", code)
	app.wantFailure(http.StatusForbidden, "challenge_stopped", at+"/poll")
	app.wantFailure(http.StatusForbidden, "challenge_stopped", at+"/cancel")
	// A link opened in this browser signs it in; the tab that waits goes on.
	begun := app.wantStatus("otp_required", "challenges", "kind", "email", "email", "ada@example.com", "return", "/public/in")
	at = "challenges/" + begun.Challenges[0].ID
	link := s.letter(t, "ada@example.com", "code").Link()
	elsewhere := e2e.NewVisitor(t)
	mustBe(t, elsewhere.Get(link), http.StatusOK)
	app.wantStatus("pending", at+"/poll") // a click elsewhere
	landed := app.FollowOn(app.SubmitAll(app.Get(link)))
	if landed.Request.URL.Path != "/public/in" {
		t.Errorf("the link leads to %s", landed.Request.URL)
	}
	app.wantStatus("authenticated", at+"/poll")
}

// With `match` the mail's reader lets in who asked.
func TestAPIPollCollectsWhatWasApproved(t *testing.T) {
	t.Parallel()
	s := playMail(t, strings.Replace(byMail, "login email {", "login {\n\t\temail {\n\t\t\tcross_device match\n\t\t}", 1))
	for _, native := range []bool{false, true} {
		app := pageOf(t, e2e.NewVisitor(t), s.site)
		var bound, proof []string
		if native {
			app = programOf(t, e2e.NewVisitor(t), s.site)
			bound, proof = []string{"code_challenge", app.binding()}, []string{"code_verifier", app.verifier}
		}
		begun := app.wantStatus("otp_required", "challenges", append([]string{"kind", "email", "email", "ada@example.com"}, bound...)...)
		at, number := "challenges/"+begun.Challenges[0].ID, begun.Challenges[0].Number
		if number < 10 || number > 99 {
			t.Fatalf("the number is %d", number)
		}
		reader := e2e.NewVisitor(t)
		choices := reader.Get(s.box.Link())
		app.wantStatus("pending", at+"/poll", proof...)
		mustBe(t, reader.Do(picking(t, reader, choices, number)), http.StatusOK)
		if s.isIn(reader) {
			t.Error("the reader is in")
		}
		in := app.wantStatus("authenticated", at+"/poll", proof...)
		if (in.Tokens != nil) != native || in.Session.Email != "ada@example.com" {
			t.Errorf("%+v", in)
		}
	}
}

// picking is the form that picks a number.
func picking(t *testing.T, v *e2e.Visitor, page e2e.Answer, number int) *http.Request {
	t.Helper()
	link, err := url.Parse(page.Request.URL.String())
	if err != nil {
		t.Fatal(err)
	}
	form := url.Values{"token": {link.Query().Get("t")}, "number": {strconv.Itoa(number)}}
	link.RawQuery = ""
	r := v.Request(http.MethodPost, link.String(), form.Encode())
	r.Header.Set("Content-Type", formType)
	r.Header.Set("Origin", link.Scheme+"://"+link.Host)
	return r
}

// bears has the app go by the tokens that it got.
func (c *caller) bears(got enveloped) *caller {
	c.t.Helper()
	if got.Tokens == nil || got.Tokens.Expires < 590 || got.Tokens.Expires > 600 || got.Tokens.Refresh == "" {
		c.t.Fatalf("the tokens are %+v", got.Tokens)
	}
	c.bearer = got.Tokens.Access
	return c
}

// sees is who the app behind the site is told of when this caller comes by its
// access token; empty: nobody.
func (c *caller) sees(s *stage) string {
	c.t.Helper()
	s.app.Forget()
	got := bearing(c.Visitor, c.site+"/public/in", "Bearer "+c.bearer)
	if got.StatusCode != http.StatusOK {
		return ""
	}
	return s.app.Last().Value("Remote-Email")
}

func TestAPISignsAnAppInByACode(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	app := programOf(t, e2e.NewVisitor(t), s.site)
	begun := app.wantStatus("otp_required", "challenges", "kind", "email", "email", "ada@example.com", "code_challenge", app.binding(), "code_challenge_method", "S256")
	at := "challenges/" + begun.Challenges[0].ID
	code := s.letter(t, "ada@example.com", "code").Code()
	proof := []string{"code_verifier", app.verifier}
	app.wantStatus("pending", at+"/poll", proof...)
	app.wantFailure(http.StatusUnprocessableEntity, "wrong_code", at+"/check", append([]string{"code", wrongCode(code)}, proof...)...)
	in := app.wantStatus("authenticated", at+"/check", append([]string{"code", code}, proof...)...)
	if in.Session == nil || in.Session.Email != "ada@example.com" {
		t.Errorf("%+v", in.Session)
	}
	if got := app.bears(in).sees(s.stage); got != "ada@example.com" {
		t.Errorf("the access token is %q's", got)
	}
	app.wantFailure(http.StatusBadRequest, "challenge_spent", at+"/check", append([]string{"code", code}, proof...)...)
}

// A person's browser is signed in, or signs in on the way; the app gets a session
// of its own.
func TestAPISignsAnAppInByABrowser(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	for _, known := range []bool{false, true} {
		browser := e2e.NewVisitor(t)
		if known {
			browser = s.known(t, "op", "ada")
		}
		app := programOf(t, e2e.NewVisitor(t), s.site)
		begun := app.wantStatus("redirect_to_provider", "intents", "provider", "op", "intent", "login", "return", "http://127.0.0.1:49152/in?state=a%20b", "code_challenge", app.binding())
		if !strings.HasPrefix(begun.AuthURL, s.site+"/.login/native?intent=") {
			t.Fatalf("the app opens %s", begun.AuthURL)
		}
		proof := []string{"intent", begun.Intent, "code_verifier", app.verifier}
		app.wantStatus("pending", "intents/validate", proof...)
		asked := browser.Get(begun.AuthURL)
		if !known {
			s.known(t, "op", "ada") // else nobody would be known
			asked = s.comeBack(t, browser, browser.To(asked), "ada")
		}
		wantAppQuestion(t, asked, "Ada Lovelace", "ada@example.com")
		app.wantStatus("pending", "intents/validate", proof...)
		code, back := returnCode(t, lettingIn(t, browser, asked, "continue"))
		if !strings.HasPrefix(back, "http://127.0.0.1:49152/in?state=a%20b&return_code=") {
			t.Errorf("the browser goes to %s", back)
		}
		in := app.wantStatus("authenticated", "intents/validate", append(proof, "return_code", code)...)
		if got := app.bears(in).sees(s.stage); got != "ada@example.com" || in.Session.Provider != "op" {
			t.Errorf("the access token is %q's, the session %+v", got, in.Session)
		}
		app.wantDenied("challenge_expired", "intents/validate", append(proof, "return_code", code)...)
		// Each ends without the other, and the person sees both.
		page := browser.Get(s.site + "/.login/account").Body
		if !strings.Contains(page, in.Session.ID) {
			t.Error("the account page does not list the app's session")
		}
		s.change(t, browser, "ended", "do", "end", "session", in.Session.ID)
		if app.sees(s.stage) != "" || !s.isIn(browser) {
			t.Error("ended one session, and got the other")
		}
	}
	s.letter(t, "ada@example.com", "New sign-in")
}

func TestAPIBrowserSaysNoToAnApp(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	browser := s.known(t, "op", "ada")
	app := programOf(t, e2e.NewVisitor(t), s.site)
	begun := app.wantStatus("redirect_to_provider", "intents", "provider", "op", "return", "http://[::1]:1/", "code_challenge", app.binding())
	asked := browser.Get(begun.AuthURL)
	got := lettingIn(t, browser, asked, "cancel")
	if back := onwardOf(got.Body); back != "http://[::1]:1/?error=access_denied" {
		t.Errorf("the browser goes to %q", back)
	}
	// Another account: by the provider, and with the question whether to switch.
	got = lettingIn(t, browser, asked, "another")
	mustBe(t, got, http.StatusOK)
	switching := s.comeBack(t, browser, onwardOf(got.Body), "grace")
	wantQuestion(t, switching, linkOrSwitch)
	asked = browser.FollowOn(answers(t, browser, switching, "switch"))
	wantAppQuestion(t, asked, "Grace Hopper")
	code, _ := returnCode(t, lettingIn(t, browser, asked, "continue"))
	in := app.wantStatus("authenticated", "intents/validate", "intent", begun.Intent, "code_verifier", app.verifier, "return_code", code)
	if got := app.bears(in).sees(s.stage); got != "grace@example.com" {
		t.Errorf("the access token is %q's", got)
	}
}

func TestAPIConnectsAnAccountForAnApp(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	app := programOf(t, e2e.NewVisitor(t), s.site)
	app.wantFailure(http.StatusUnauthorized, "sign_in_required", "intents", "provider", "club", "intent", "link", "return", "http://localhost/", "code_challenge", app.binding())
	s.enterApp(t, app, "ada")
	begun := app.wantStatus("redirect_to_provider", "intents", "provider", "club", "intent", "link", "return", "http://localhost/", "code_challenge", app.binding())
	grace := s.known(t, "op", "grace")
	mustBe(t, grace.Get(begun.AuthURL), http.StatusForbidden) // not whose app it is
	ada := s.known(t, "op", "ada")
	asked := s.comeBack(t, ada, ada.To(ada.Get(begun.AuthURL)), "lady")
	wantQuestion(t, asked, confirmLink)
	code, back := returnCode(t, ada.FollowOn(answers(t, ada, asked, "link")))
	if !strings.HasPrefix(back, "http://localhost/?return_code=") {
		t.Errorf("the browser goes to %s", back)
	}
	proof := []string{"intent", begun.Intent, "code_verifier", app.verifier, "return_code", code}
	other := *app
	other.bearer = ""
	other.wantFailure(http.StatusForbidden, "wrong_account", "intents/validate", proof...)
	if done := app.wantStatus("authenticated", "intents/validate", proof...); done.Tokens != nil || done.Session.Email != "ada@example.com" {
		t.Errorf("%+v", done)
	}
	app.wantDenied("challenge_expired", "intents/validate", proof...)
	if got := s.seenBy(t, s.known(t, "club", "lady"), s.site).Value("Remote-Email"); got != "ada@example.com" {
		t.Errorf("the connected account signs in %q", got)
	}
}

// enterApp signs an app in as somebody whom the issuer knows.
func (s *accounts) enterApp(t *testing.T, app *caller, subject string) *e2e.Visitor {
	t.Helper()
	browser := s.known(t, "op", subject)
	begun := app.wantStatus("redirect_to_provider", "intents", "provider", "op", "return", "http://127.0.0.1/", "code_challenge", app.binding())
	code, _ := returnCode(t, lettingIn(t, browser, browser.Get(begun.AuthURL), "continue"))
	app.bears(app.wantStatus("authenticated", "intents/validate", "intent", begun.Intent, "code_verifier", app.verifier, "return_code", code))
	return browser
}

// wantAppQuestion checks that a page asks whether an app may sign in as somebody.
func wantAppQuestion(t *testing.T, got e2e.Answer, names ...string) {
	t.Helper()
	mustBe(t, got, http.StatusOK)
	for _, name := range append(names, "<title>Sign in to an app?") {
		if !strings.Contains(got.Body, name) {
			t.Fatalf("%s has no %q:\n%.2000s", got.Request.URL, name, got.Body)
		}
	}
	if got.Header.Get("Content-Security-Policy") == "" || got.Header.Get("X-Frame-Options") != "DENY" {
		t.Errorf("the page may be framed: %v", got.Header)
	}
}

// lettingIn presses one of that page's buttons.
func lettingIn(t *testing.T, v *e2e.Visitor, page e2e.Answer, do string) e2e.Answer {
	t.Helper()
	return v.Do(lettingInBy(t, v, page, do))
}

func lettingInBy(t *testing.T, v *e2e.Visitor, page e2e.Answer, do string) *http.Request {
	t.Helper()
	asked := question.FindStringSubmatch(page.Body)
	if asked == nil {
		t.Fatalf("%s asks nothing:\n%.2000s", page.Request.URL, page.Body)
	}
	site := page.Request.URL.Scheme + "://" + page.Request.URL.Host
	r := v.Request(http.MethodPost, site+"/.login/native", url.Values{"ask": {asked[1]}, "do": {do}}.Encode())
	r.Header.Set("Content-Type", formType)
	r.Header.Set("Origin", site)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return r
}

// returnCode is what an app's address gets.
func returnCode(t *testing.T, got e2e.Answer) (code, back string) {
	t.Helper()
	mustBe(t, got, http.StatusOK)
	back = onwardOf(got.Body)
	_, code, ok := strings.Cut(back, "return_code=")
	if !ok {
		t.Fatalf("%s goes on to %q:\n%.1500s", got.Request.URL, back, got.Body)
	}
	secrets.Keep(t, code)
	return code, back
}

// What the pages ask, the API asks: by the same rows, with the same outcome.
func TestAPIAsksWhatThePagesAsk(t *testing.T) {
	t.Parallel()
	s := receive(t)
	for _, row := range []struct {
		name, provider, held, status, question string
		choices, proofs                        []string
	}{
		{"D3", "t1", "", "email_required", "code", nil, []string{"email"}},
		{"D8", "t1", "held", "email_required", "code", nil, []string{"email"}},
		{"E6", "t3", "held", "confirm_required", "confirm_link", []string{"link"}, nil},
		{"E7", "t2", "held", "confirm_required", "proof", nil, []string{"email", "provider"}},
		{"E7 otherwise", "t2", "held", "confirm_required", "proof", nil, []string{"email", "provider"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			email := strings.ToLower(strings.ReplaceAll(row.name, " ", "-")) + "@example.com"
			holder := ""
			if row.held != "" {
				_, holder = s.holder(t, email)
			}
			s.person("of "+row.name, email)
			app := pageOf(t, s.visitor(t), s.site)
			begun := app.wantStatus("redirect_to_provider", "intents", "provider", row.provider, "return", "/in")
			mustBe(t, app.goes(begun.AuthURL, "of "+row.name), http.StatusOK)
			asks := app.wantStatus(row.status, "intents/validate", "intent", begun.Intent)
			link := asks.Link
			if link == nil || link.Question != row.question || !slices.Equal(link.Choices, row.choices) || !slices.Equal(link.Proofs, row.proofs) ||
				link.Provider != row.provider || link.Account != email || !strings.HasPrefix(link.Into, email[:1]+"•••@") {
				t.Fatalf("%+v", link)
			}
			app.wantStatus(row.status, "intents/validate", "intent", link.ID)
			done := s.says(t, app, link, row.name, email)
			if holder != "" && done.Session.User != holder || done.Session.Email != email {
				t.Errorf("came in as %+v, the holder is %s", done.Session, holder)
			}
			app.wantStatus("authenticated", "intents/validate", "intent", begun.Intent)
		})
	}
}

// says answers a question in the way that it takes.
func (s *reception) says(t *testing.T, app *caller, link *linkOfAnswer, row, email string) enveloped {
	t.Helper()
	switch {
	case len(link.Choices) == 1:
		return app.wantStatus("authenticated", "links/"+link.ID+"/confirm", "do", link.Choices[0])
	case row == "E7 otherwise":
		begun := app.wantStatus("redirect_to_provider", "intents", "provider", "t3", "intent", "prove", "link", link.ID)
		mustBe(t, app.goes(begun.AuthURL, "holder of "+email), http.StatusOK)
		return app.wantStatus("authenticated", "intents/validate", "intent", begun.Intent)
	}
	app.wantFailure(http.StatusBadRequest, "bad_request", "links/"+link.ID+"/confirm")
	// A code that was given up leaves the question.
	first := app.wantStatus("otp_required", "challenges", "kind", "email", "link", link.ID).Challenges[0]
	mustBe(t, app.Do(app.request("challenges/"+first.ID+"/cancel")), http.StatusNoContent)
	s.code(t, email)
	waits := app.wantStatus("otp_required", "challenges", "kind", "email", "link", link.ID).Challenges[0]
	app.wantStatus("otp_required", "intents/validate", "intent", link.ID)
	app.wantStatus("pending", "challenges/"+waits.ID+"/poll")
	code := s.code(t, email)
	app.wantFailure(http.StatusUnprocessableEntity, "wrong_code", "challenges/"+waits.ID+"/check", "code", wrongCode(code))
	return app.wantStatus("authenticated", "challenges/"+waits.ID+"/check", "code", code)
}

func TestAPIAsksWhoIsSignedInAsSomebodyElse(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	s.known(t, "op", "grace")
	app := pageOf(t, s.known(t, "op", "ada"), s.site)
	asks := func(subject, question string, choices ...string) (*linkOfAnswer, string) {
		t.Helper()
		begun := app.wantStatus("redirect_to_provider", "intents", "provider", "op", "return", "/public/in")
		mustBe(t, app.goes(begun.AuthURL, subject), http.StatusOK)
		link := app.wantStatus("confirm_required", "intents/validate", "intent", begun.Intent).Link
		if link.Question != question || !slices.Equal(link.Choices, choices) || link.From != "a•••@e•••.com" {
			t.Fatalf("%+v", link)
		}
		return link, begun.Intent
	}
	link, intent := asks("grace", "confirm_switch", "switch")
	if link.Into != "g•••@e•••.com" {
		t.Errorf("%+v", link)
	}
	app.wantDenied("cancelled", "links/"+link.ID+"/reject")
	app.wantDenied("cancelled", "intents/validate", "intent", intent)
	if got := s.seenBy(t, app.Visitor, s.site).Value("Remote-Email"); got != "ada@example.com" {
		t.Fatalf("signed in as %q", got)
	}
	link, _ = asks("ada2", "link_or_switch", "link", "switch")
	app.wantFailure(http.StatusBadRequest, "bad_request", "links/"+link.ID+"/confirm")
	app.wantFailure(http.StatusBadRequest, "bad_request", "links/"+link.ID+"/confirm", "do", "keep")
	app.wantStatus("authenticated", "links/"+link.ID+"/confirm", "do", "link")
	link, intent = asks("grace", "confirm_switch", "switch")
	// A question of before is no longer the one.
	stale := link.ID[:len(link.ID)-1] + map[bool]string{true: "0", false: "1"}[link.ID[len(link.ID)-1] == '1']
	app.wantFailure(http.StatusConflict, "outdated", "links/"+stale+"/confirm", "do", "switch")
	in := app.wantStatus("authenticated", "links/"+link.ID+"/confirm")
	if in.Session.Email != "grace@example.com" {
		t.Errorf("%+v", in.Session)
	}
	app.wantStatus("authenticated", "intents/validate", "intent", intent)
}
