package module

import (
	"context"
	"fmt"
	"mime"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-login/caddy-login/module/challenge"
	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/signin"
	_ "github.com/caddy-login/caddy-login/plugin/provider/email"
)

func init() {
	caddy.RegisterModule(new(witness))
	caddy.RegisterModule(new(posting))
	caddy.RegisterModule(new(silence))
}

// witness is a provider that takes every answer for Ada's, and remembers what it
// was given: only the house stands before it.
type witness struct{ answers []url.Values }

func (*witness) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "login.providers.witness", New: func() caddy.Module { return new(witness) }}
}

func (*witness) Open(guest.Env) error { return nil }

func (*witness) Traits() guest.Traits { return guest.Traits{Name: "witness", Label: "Witness"} }

func (*witness) Begin(_ context.Context, a guest.Attempt) (string, error) {
	return "https://id.example.com/authorize?state=" + a.State, nil
}

func (w *witness) Finish(_ context.Context, _ guest.Attempt, answer url.Values) (guest.Profile, error) {
	w.answers = append(w.answers, answer)
	return guest.Profile{Issuer: "https://id.example.com", Subject: "ada", Name: "Ada"}, nil
}

// posting is a witness whose answers are posted across sites.
type posting struct{ witness }

func (*posting) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "login.providers.posting", New: func() caddy.Module { return new(posting) }}
}

func (*posting) Traits() guest.Traits {
	return guest.Traits{Name: "posting", Label: "Posting", FormPost: true}
}

// silence is a mailer that has nothing to say.
type silence struct{}

func (*silence) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "login.mailers.silence", New: func() caddy.Module { return new(silence) }}
}

func (*silence) Open(guest.Env) error { return nil }

func (*silence) Send(context.Context, guest.Message) error { return nil }

// gatehouse is a gate that strangers knock at, each from a network of their own.
type gatehouse struct {
	*Gate
	house   *house
	callers int
	begun   int
}

func newGatehouse(f *testing.F) *gatehouse {
	g := openGate(f, `{"allow":[{"who":["users"]}],"origins":["`+gatehouseSite+`"],"mail":{"mailer":"silence"},"providers":[{"provider":"witness"},{"provider":"posting"},{"provider":"email"}]}`)
	house, err := g.app.door.enter()
	if err != nil {
		f.Fatal(err)
	}
	return &gatehouse{Gate: g, house: house}
}

// manyFields are more than a form of ours, or an answer of a provider's, has.
var manyFields = func() string {
	var fields strings.Builder
	for i := range maxFields {
		fmt.Fprintf(&fields, "&f%d=", i)
	}
	return fields.String()
}()

// answerTo is what became of a request.
type answerTo struct {
	*httptest.ResponseRecorder
	session string // the cookie's value, where one was given
	passed  bool   // the app was asked
}

const gatehouseSite = "http://localhost:8080"

// knock makes a request of this method, to a path and a query as they stand.
func (g *gatehouse) knock(t *testing.T, method, path, query string, header http.Header, body string) (a answerTo) {
	t.Helper()
	g.callers++
	a.ResponseRecorder = httptest.NewRecorder()
	r := httptest.NewRequest(method, gatehouseSite+path, strings.NewReader(body))
	r.URL.RawQuery = query
	r.RemoteAddr = fmt.Sprintf("10.%d.%d.%d:1234", g.callers>>16&255, g.callers>>8&255, g.callers&255)
	for name, values := range header {
		r.Header[name] = values
	}
	err := g.ServeHTTP(a, caddyhttp.PrepareRequest(r, caddy.NewReplacer(), a, &caddyhttp.Server{}), caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
		a.passed = true
		return nil
	}))
	if err != nil {
		t.Errorf("%s %s?%s: %v", method, path, query, err)
	}
	for _, c := range a.Result().Cookies() {
		if c.Name == "login" && c.MaxAge >= 0 {
			a.session = c.Value
		}
	}
	return a
}

// attempt begins one in a browser, which brings it back as a header.
func (g *gatehouse) attempt(t *testing.T, provider string) (*signin.Attempt, http.Header) {
	t.Helper()
	attempt, cookie, _, err := g.house.attempts.Begin("login", gatehouseSite, signin.Attempt{Provider: provider, Return: "/deep"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return attempt, http.Header{"Cookie": {cookie.Name + "=" + cookie.Value}}
}

// FuzzCallback answers an attempt to sign in with any query, or any posted form:
// the provider is asked where it is an answer that all read alike and that names
// the attempt, with that very answer, and once. STATE in the text is the
// attempt's state.
func FuzzCallback(f *testing.F) {
	for _, query := range []string{
		"code=c&state=STATE", "state=STATE", "state=STATE&state=STATE", "state=x&state=STATE", "state=STATE&code=a&code=b", "state=STATE&c%6fde=a&code=b",
		"state=STATE;code=a", "code=%zz&state=STATE", "state=%53TATE&", "error=access_denied&error_description=%3Cfuzz%3E&state=STATE", "&&=&state=STATE=", "state", "",
		"State=STATE", "state=STATE%00", "+state=STATE", "handle=x&state=STATE", "state=STATE" + manyFields, "state=STATE&b[]=1&b[]=2",
	} {
		f.Add(query, false)
		f.Add(query, true)
	}
	g := newGatehouse(f)
	asked, posted := &g.providers[0].(*witness).answers, &g.providers[1].(*posting).answers
	f.Fuzz(func(t *testing.T, text string, post bool) {
		*asked, *posted = nil, nil
		if post {
			g.posts(t, text, posted)
			return
		}
		g.queries(t, text, asked)
	})
}

func (g *gatehouse) queries(t *testing.T, text string, asked *[]url.Values) {
	attempt, cookie := g.attempt(t, "witness")
	query := strings.ReplaceAll(text, "STATE", attempt.State)
	answer := g.knock(t, "GET", "/.login/witness/callback", query, cookie, "")
	want := readAlike(query)
	isAskedOnce(t, text, want, want.Get("state") == attempt.State, answer, *asked)
	if again := g.knock(t, "GET", "/.login/witness/callback", query, cookie, ""); again.session != "" || len(*asked) > 1 {
		t.Errorf("%q signs in again", text)
	}
	// A bent answer was shown to the world: the straight one is spent with it.
	named, _ := url.ParseQuery(query)
	if slices.Contains(named["state"][:min(2, len(named["state"]))], attempt.State) {
		straight := g.knock(t, "GET", "/.login/witness/callback", "state="+attempt.State, cookie, "")
		if straight.session != "" {
			t.Errorf("%q did not spend the attempt", text)
		}
	}
}

var parkedAt = regexp.MustCompile(`callback\?handle=([\w-]+)`)

func (g *gatehouse) posts(t *testing.T, text string, posted *[]url.Values) {
	attempt, cookie := g.attempt(t, "posting")
	body := strings.ReplaceAll(text, "STATE", attempt.State)
	form := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	answer := g.knock(t, "POST", "/.login/posting/callback", "", form, body)
	want := readAlike(body)
	found := parkedAt.FindStringSubmatch(answer.Body.String())
	if good := want.Get("state") == attempt.State; good != (found != nil) || answer.session != "" || len(*posted) > 0 {
		t.Fatalf("%q, good: %t, is answered %d", text, good, answer.Code)
	}
	if found == nil {
		return
	}
	answer = g.knock(t, "GET", "/.login/posting/callback", "handle="+found[1], cookie, "")
	isAskedOnce(t, text, want, true, answer, *posted)
	if again := g.knock(t, "GET", "/.login/posting/callback", "handle="+found[1], cookie, ""); again.session != "" || len(*posted) > 1 {
		t.Errorf("%q signs in again", text)
	}
}

func isAskedOnce(t *testing.T, text string, want url.Values, good bool, answer answerTo, asked []url.Values) {
	t.Helper()
	if (answer.session != "") != good || (len(asked) == 1) != good || answer.passed {
		t.Fatalf("%q, good: %t, is answered %d, session %t, and the provider was asked %d times", text, good, answer.Code, answer.session != "", len(asked))
	}
	if good {
		if asked[0].Encode() != want.Encode() {
			t.Errorf("%q reached the provider as %v", text, asked[0])
		}
		return
	}
	if answer.Code < 400 || answer.Code > 499 || answer.Header().Get("Location") != "" || strings.Contains(answer.Body.String(), "<fuzz") {
		t.Errorf("%q is answered %d, %v", text, answer.Code, answer.Header())
	}
}

// readAlike is a query or a form that has one meaning, or nil. It is a second
// reading of what the house takes.
func readAlike(text string) url.Values {
	values := url.Values{}
	for pair := range strings.SplitSeq(text, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, bad := url.QueryUnescape(name)
		value, worse := url.QueryUnescape(value)
		if bad != nil || worse != nil || strings.Contains(pair, ";") || values.Has(name) || len(values) >= maxFields {
			return nil
		}
		values.Set(name, value)
	}
	return values
}

// FuzzCodeForm posts any form where a code is typed: it signs in where the code
// is the mailed one, once, and for no other reason. CODE in the text is the
// code.
func FuzzCodeForm(f *testing.F) {
	const form = "application/x-www-form-urlencoded"
	for _, body := range []string{
		"code=CODE", "code=+CODE+", "code=x&code=CODE", "code=CODE&code=x", "code=CODE&resend=1", "c%6Fde=CODE", "Code=CODE", "code=CODE;", "code=%zz", "code=", "",
		"code=CODE&ask=00000000", "ask=CODE", "code=000000", "code=%EF%BC%91CODE", "code=CODE" + manyFields, manyFields + "&code=CODE",
	} {
		f.Add(form, body)
	}
	for _, kind := range []string{"", "text/plain", "application/json", "multipart/form-data; boundary=x", form + "; charset=utf-16", "APPLICATION/x-www-form-urlencoded ;", form + ";;"} {
		f.Add(kind, "code=CODE")
	}
	g := newGatehouse(f)
	var begun *challenge.Begun
	f.Fuzz(func(t *testing.T, kind, body string) {
		if begun == nil || !g.isFresh(begun) {
			begun = g.mail(t)
		}
		code := string(begun.Mail.Code)
		header := http.Header{
			"Content-Type": {kind}, "Origin": {gatehouseSite}, "Sec-Fetch-Site": {"same-origin"}, "Cookie": {"login-asked=" + begun.ID.Text()},
		}
		answer := g.knock(t, "POST", "/.login/code", "", header, strings.ReplaceAll(body, "CODE", code))
		typed, isForm := typedIn(kind, strings.ReplaceAll(body, "CODE", code))
		in := answer.session != ""
		if in != isForm && strings.TrimSpace(typed) == code || in && !isForm || in && inASCII(typed) && digitsOf(typed) != code {
			t.Errorf("%q, %q: typed %q, form: %t, signed in: %t, %d", kind, body, typed, isForm, in, answer.Code)
		}
		if answer.passed || answer.Code >= 500 && answer.Code != http.StatusServiceUnavailable {
			t.Errorf("%q, %q: answered %d", kind, body, answer.Code)
		}
		if in {
			header.Set("Content-Type", form)
			if again := g.knock(t, "POST", "/.login/code", "", header, "code="+code); again.session != "" {
				t.Errorf("%q, %q: the code works again", kind, body)
			}
		}
	})
}

// mail has a code be mailed to somebody new.
func (g *gatehouse) mail(t *testing.T) *challenge.Begun {
	t.Helper()
	if g.begun++; g.begun%500 == 0 {
		// It remembers that everybody together asked for many.
		g.house.challenges = challenge.Open(g.house.store, g.house.ring, time.Now)
	}
	begun, err := g.house.challenges.Begin(t.Context(), challenge.Ask{
		Purpose: challenge.Login, Scope: "localhost", Email: identity.Email(fmt.Sprintf("u%d@example.com", g.begun)), Return: "/deep",
		Network: fmt.Sprintf("10.%d.%d.%d", g.begun>>16&255, g.begun>>8&255, g.begun&255), Familiar: true,
	})
	if err != nil || begun.Mail == nil {
		t.Fatalf("mailing a code: %+v, %v", begun, err)
	}
	return begun
}

// isFresh reports whether a right code would still be taken, and for long
// enough.
func (g *gatehouse) isFresh(begun *challenge.Begun) bool {
	waiting, err := g.house.challenges.Poll(context.Background(), challenge.Claim{ID: begun.ID, Scope: "localhost", Purpose: challenge.Login})
	return err == nil && waiting.State == challenge.Pending && waiting.AttemptsLeft == 5 && time.Until(waiting.Expires) > time.Minute
}

// typedIn is the code in a form, and whether the form is one that may be
// handed in.
func typedIn(kind, body string) (code string, isForm bool) {
	media, _, err := mime.ParseMediaType(kind)
	form, bad := url.ParseQuery(body)
	isForm = err == nil && bad == nil && media == "application/x-www-form-urlencoded" && len(form) <= maxFields && len(body) <= maxForm && form.Get("resend") == ""
	return form.Get("code"), isForm
}

func inASCII(s string) bool { return !strings.ContainsFunc(s, func(r rune) bool { return r > 0x7f }) }

func digitsOf(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, s)
}

// FuzzPortal makes any request of a stranger's below our path: it reaches no
// app, signs nobody in, breaks nothing, and leads nowhere but to this site and
// to providers.
func FuzzPortal(f *testing.F) {
	const form, json = "application/x-www-form-urlencoded", "application/json"
	for _, seed := range [][4]string{
		{"GET", "/?return=//evil.example&switch=1", "", ""}, {"GET", "/witness?return=/%5Cevil", "", ""}, {"POST", "/email", form, "email=ada@example.com&return=//evil"},
		{"POST", "/email", form, "email=%3Cfuzz%3E"}, {"GET", "/code?ask=%3Cfuzz%3E", "", ""}, {"POST", "/code", form, "code=000000"}, {"GET", "/link?t=AAAA", "", ""},
		{"POST", "/link", form, "t=AAAA&pick=10"}, {"GET", "/confirm", "", ""}, {"POST", "/confirm", form, "proof=%3Cfuzz%3E"}, {"POST", "/logout", form, "return=//evil"},
		{"GET", "/account", "", ""}, {"POST", "/account/name", form, "name=%3Cfuzz%3E"}, {"GET", "/check", "", ""}, {"HEAD", "/jwks.json", "", ""}, {"GET", "/../", "", ""},
		{"GET", "/assets/style.css", "", ""}, {"POST", "/witness/backchannel-logout", form, "logout_token=e30.e30."}, {"POST", "/posting/callback", form, "state=x"},
		{"GET", "/api/v1/metadata", "", ""}, {"POST", "/api/v1/intents", json, `{"provider":"witness","intent":"auto","return":"//evil"}`},
		{"POST", "/api/v1/challenges", json, `{"kind":"email","email":"ada@example.com"}`}, {"POST", "/api/v1/challenges/AAAA/check", json, `{"code":"000000"}`},
		{"DELETE", "/api/v1/session", json, `{}`}, {"POST", "/api/v1/token", form, "grant_type=refresh_token&refresh_token=x"}, {"POST", "/api/v1/intents/validate", json, `{"intent":"AAAA"}`},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3], "login=x; login-asked=AAAA.BBBB; login-waits=x; login-friends=x; login-landed=witness; login-last=<fuzz>")
	}
	g := newGatehouse(f)
	f.Fuzz(func(t *testing.T, method, target, kind, body, cookie string) {
		u, err := url.ParseRequestURI("/.login" + target)
		if err != nil || !slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"}, method) || strings.ContainsAny(target, " #\r\n\x00") {
			return
		}
		header := http.Header{"Content-Type": {kind}, "Origin": {gatehouseSite}, "Cookie": {cookie}, "Accept": {"text/html"}}
		answer := g.knock(t, method, u.EscapedPath(), u.RawQuery, header, body)
		below := below(u.Path, "/.login")
		if answer.session != "" || answer.passed || below && answer.Code >= 500 && answer.Code != http.StatusServiceUnavailable {
			t.Errorf("%s %s: %d, signed in: %t, passed: %t", method, target, answer.Code, answer.session != "", answer.passed)
		}
		if strings.Contains(answer.Body.String(), "<fuzz") {
			t.Errorf("%s %s shows markup of a stranger's", method, target)
		}
		staysHere(t, answer.Header().Get("Location"))
	})
}

func staysHere(t *testing.T, to string) {
	t.Helper()
	if to == "" || strings.HasPrefix(to, "https://id.example.com/authorize?") {
		return
	}
	here, _ := url.Parse(gatehouseSite)
	there, err := here.Parse(to)
	if err != nil || there.Host != here.Host || there.Scheme != here.Scheme || strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\\\r\n\t") {
		t.Errorf("leads to %q", to)
	}
}
