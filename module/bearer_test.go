package module

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/session"
	"github.com/caddy-login/caddy-login/module/token"
)

const (
	// halfPublic is a site with a corner for everybody.
	halfPublic = `{"allow":[{"match":[{"path":["/public/*"]}],"who":["anyone"]},{"who":["*@example.com"]}]}`
	benchHost  = "localhost:8080"
	benchSite  = "http://" + benchHost
)

// bearing is a gate with somebody signed in by tokens.
type bearing struct {
	*Gate
	t      testing.TB
	house  *house
	begun  token.Begun
	access string
	cookie string // of the same person
}

func newBearing(t testing.TB, config string) *bearing {
	t.Helper()
	g := openGate(t, config)
	house, err := g.app.door.enter()
	if err != nil {
		t.Fatal(err)
	}
	b := &bearing{Gate: g, t: t, house: house, cookie: enter(t, g)}
	b.begun = b.begin("1", "ada@example.com")
	b.access = b.tokenOf(b.begun.Session, benchSite)
	return b
}

// begin signs a person in by tokens.
func (b *bearing) begin(subject, email string) token.Begun {
	b.t.Helper()
	return enterByToken(b.t, b.Gate, guest.Profile{Subject: subject, Email: email, EmailTrust: guest.Verified}, nil)
}

func enterByToken(t testing.TB, g *Gate, profile guest.Profile, grant *session.Grant) (begun token.Begun) {
	t.Helper()
	house, err := g.app.door.enter()
	if err != nil {
		t.Fatal(err)
	}
	ticket, err := house.tokens.Issue(benchHost)
	if err != nil {
		t.Fatal(err)
	}
	profile.Issuer = "http://127.0.0.1:1"
	err = house.store.Update(t.Context(), func(tx guest.Tx) error {
		admitted, err := identity.Admit(tx, identity.Arrival{
			Traits:  guest.Traits{Name: "bench", Email: guest.EmailRules{Identifier: true}},
			Profile: profile, SignUp: func(identity.Email) bool { return true }, At: time.Now(),
		})
		if err != nil {
			return err
		}
		begun, err = house.tokens.Start(tx, ticket, session.New{
			Person: admitted.Person, Provider: "bench", AuthTime: time.Now(), Lifetime: time.Hour, Idle: time.Hour, Grant: grant,
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return begun
}

func (b *bearing) tokenOf(s *session.Session, origin string) string {
	b.t.Helper()
	access, err := b.house.tokens.Access(token.Site{Signer: b.house.signer, Origin: origin, Scope: benchHost}, s)
	if err != nil {
		b.t.Fatal(err)
	}
	return string(access.Token)
}

// outcomeOf is what became of a request: the answer, and what the app got; nil:
// nothing.
type outcomeOf struct {
	*httptest.ResponseRecorder
	app     http.Header
	session any // {http.auth.user.session}
}

// ask makes a request of a program's, with these headers over its own.
func (b *bearing) ask(path string, change map[string]string) (out outcomeOf) {
	b.t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, benchSite+path, nil)
	r.Header.Set("Accept", "application/json")
	for name, value := range change {
		r.Header.Set(name, value)
	}
	return b.do(w, r)
}

func (b *bearing) do(w *httptest.ResponseRecorder, r *http.Request) outcomeOf {
	b.t.Helper()
	out := outcomeOf{ResponseRecorder: w}
	repl := caddy.NewReplacer()
	err := b.ServeHTTP(w, caddyhttp.PrepareRequest(r, repl, w, &caddyhttp.Server{}), caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		out.app = r.Header.Clone()
		out.session, _ = repl.Get("http.auth.user.session")
		w.WriteHeader(http.StatusOK)
		return nil
	}))
	if err != nil {
		b.t.Error(err)
	}
	return out
}

func bearer(credential string) map[string]string {
	return map[string]string{"Authorization": "Bearer " + credential}
}

// wantBadToken checks the refusal of a token.
func wantBadToken(t *testing.T, out outcomeOf) {
	t.Helper()
	var problem struct {
		Code string `json:"code"`
	}
	if err := json.Unmarshal(out.Body.Bytes(), &problem); err != nil {
		t.Errorf("no problem: %s", out.Body)
	}
	if out.Code != http.StatusUnauthorized || problem.Code != "invalid_token" || out.app != nil ||
		out.Header().Get("WWW-Authenticate") != `Bearer error="invalid_token"` || out.Header().Get("Set-Cookie") != "" ||
		out.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d, %v, %s", out.Code, out.Header(), out.Body)
	}
}

func TestTokenIsWhoIsSignedInAndTheAppNeverSeesIt(t *testing.T) {
	b := newBearing(t, halfPublic)
	for _, path := range []string{"/in", "/public/in"} {
		for _, spelling := range []string{"Bearer ", "bearer ", "BEARER  "} {
			out := b.ask(path, map[string]string{"Authorization": spelling + b.access})
			if out.Code != http.StatusOK || out.app.Get("Remote-User") != string(b.begun.Session.User) ||
				out.app.Get("Remote-Email") != "ada@example.com" || out.session != b.begun.Session.Handle {
				t.Fatalf("%s: %d, %v, session %v", path, out.Code, out.app, out.session)
			}
			if _, there := out.app["Authorization"]; there {
				t.Errorf("%s: the app got %v", path, out.app)
			}
		}
	}
}

func TestAuthorizationOfOthersGoesOnUntouchedAndIsNobody(t *testing.T) {
	b := newBearing(t, halfPublic)
	parts := strings.Split(b.access, ".")
	assertion, err := b.house.signer.Sign([]byte(`{"iss":"http://localhost:8080","aud":"http://localhost:8080","sub":"u"}`))
	if err != nil {
		t.Fatal(err)
	}
	for what, value := range map[string]string{
		"basic":                 "Basic YTpi",
		"opaque":                "Bearer gho_16C7e42F292c6912E7710c838347Ae178B4a",
		"empty":                 "Bearer ",
		"another issuer's":      "Bearer " + encodePart(`{"alg":"RS256","kid":"k","typ":"at+jwt"}`) + "." + parts[1] + "." + parts[2],
		"an ID token":           "Bearer " + encodePart(`{"alg":"RS256","kid":"k","typ":"JWT"}`) + "." + parts[1] + "." + parts[2],
		"our assertion":         "Bearer " + assertion,
		"another scheme's":      "DPoP " + b.access,
		"the refresh token":     "Bearer " + string(b.begun.Refresh),
		"a cookie":              "Bearer " + b.cookie,
		"behind another scheme": "Basic Bearer " + b.access,
	} {
		out := b.ask("/public/in", map[string]string{"Authorization": value})
		if out.Code != http.StatusOK || out.app.Get("Authorization") != strings.TrimSpace(value) && out.app.Get("Authorization") != value ||
			out.app.Get("Remote-User") != "" || out.session != "" {
			t.Errorf("%s: %d, the app got %v", what, out.Code, out.app)
		}
		out = b.ask("/in", map[string]string{"Authorization": value})
		if out.Code != http.StatusUnauthorized || out.app != nil || strings.Contains(out.Body.String(), "invalid_token") {
			t.Errorf("%s, protected: %d, %s", what, out.Code, out.Body)
		}
		// Beside a cookie it changes nothing.
		out = b.ask("/in", map[string]string{"Authorization": value, "Cookie": "login=" + b.cookie})
		if out.Code != http.StatusOK || out.app.Get("Remote-User") == "" {
			t.Errorf("%s, with a cookie: %d", what, out.Code)
		}
	}
}

func encodePart(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

func TestInvalidTokenIsRefusedEverywhere(t *testing.T) {
	b := newBearing(t, halfPublic)
	parts := strings.Split(b.access, ".")
	header, _ := base64.RawURLEncoding.DecodeString(parts[0])
	none := encodePart(strings.Replace(string(header), "ES256", "none", 1)) + "." + parts[1] + "."
	elsewhere := b.tokenOf(b.begun.Session, "https://other.example.com")
	for what, access := range map[string]string{
		"forged":       b.access[:len(b.access)-8] + "AAAAAAAA",
		"unsigned":     none,
		"another's":    elsewhere,
		"no payload":   parts[0] + ".." + parts[2],
		"no signature": parts[0] + "." + parts[1] + ".",
	} {
		for _, path := range []string{"/in", "/public/in"} {
			wantBadToken(t, b.ask(path, bearer(access)))
			beside := bearer(access)
			beside["Cookie"] = "login=" + b.cookie
			wantBadToken(t, b.ask(path, beside))
			navigation := bearer(access)
			navigation["Accept"], navigation["Sec-Fetch-Mode"] = "text/html", "navigate"
			wantBadToken(t, b.ask(path, navigation))
		}
		if t.Failed() {
			t.Fatal(what)
		}
	}
}

func TestEndedSessionsTokenIsRefusedAtOnce(t *testing.T) {
	b := newBearing(t, halfPublic)
	if out := b.ask("/in", bearer(b.access)); out.Code != http.StatusOK {
		t.Fatal(out.Code)
	}
	if err := b.house.sessions.End(t.Context(), b.begun.Session.Key); err != nil {
		t.Fatal(err)
	}
	wantBadToken(t, b.ask("/in", bearer(b.access)))
	wantBadToken(t, b.ask("/public/in", bearer(b.access)))
	if out := b.ask("/in", map[string]string{"Cookie": "login=" + b.cookie}); out.Code != http.StatusOK {
		t.Errorf("the session of the cookie: %d", out.Code)
	}
}

func TestDisabledUsersTokenIsRefusedAtOnce(t *testing.T) {
	b := newBearing(t, halfPublic)
	if out := b.ask("/in", bearer(b.access)); out.Code != http.StatusOK {
		t.Fatal(out.Code)
	}
	user := b.begun.Session.User
	err := b.house.store.Update(t.Context(), func(tx guest.Tx) error {
		_, err := identity.SetState(tx, user, identity.Disabled, time.Now())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.house.sessions.ForgetUser(t.Context(), user); err != nil {
		t.Fatal(err)
	}
	wantBadToken(t, b.ask("/in", bearer(b.access)))
}

func TestTwoPeopleInOneRequestAreNobody(t *testing.T) {
	b := newBearing(t, halfPublic)
	eve := b.begin("2", "eve@example.com")
	beside := bearer(b.tokenOf(eve.Session, benchSite))
	for _, path := range []string{"/in", "/public/in"} {
		if out := b.ask(path, beside); out.app.Get("Remote-Email") != "eve@example.com" {
			t.Fatalf("eve alone: %d, %v", out.Code, out.app)
		}
	}
	beside["Cookie"] = "login=" + b.cookie // Ada's
	wantBadToken(t, b.ask("/in", beside))
	wantBadToken(t, b.ask("/public/in", beside))
	// One person is one: by the session of the token, which was shown on purpose.
	beside = bearer(b.access)
	beside["Cookie"] = "login=" + b.cookie
	if out := b.ask("/in", beside); out.Code != http.StatusOK || out.session != b.begun.Session.Handle {
		t.Errorf("%d, session %v", out.Code, out.session)
	}
	// A cookie that is none is no other person's.
	beside["Cookie"] = "login=forged"
	if out := b.ask("/in", beside); out.Code != http.StatusOK {
		t.Errorf("beside a forged cookie: %d", out.Code)
	}
}

func TestSecondCredentialBesideATokenIsRefused(t *testing.T) {
	b := newBearing(t, halfPublic)
	foreign := "Bearer " + encodePart(`{"alg":"RS256"}`) + ".e30.AAAA"
	for _, values := range [][]string{
		{foreign, "Bearer " + b.access}, {"Bearer " + b.access, foreign}, {foreign, foreign, "Bearer " + b.access},
		{"Bearer " + b.access, "Basic YTpi"}, {"Basic YTpi", "Bearer " + b.access}, {"Bearer " + b.access, "Bearer " + b.access},
	} {
		for _, path := range []string{"/in", "/public/in"} {
			r := httptest.NewRequest(http.MethodGet, benchSite+path, nil)
			r.Header["Authorization"] = values
			wantBadToken(t, b.do(httptest.NewRecorder(), r))
		}
	}
	r := httptest.NewRequest(http.MethodGet, benchSite+"/public/in", nil)
	r.Header["Authorization"] = []string{foreign, foreign}
	if out := b.do(httptest.NewRecorder(), r); out.Code != http.StatusOK || len(out.app["Authorization"]) != 2 {
		t.Errorf("two of others': %d, %v", out.Code, out.app)
	}
}

func TestRulesHoldForTokens(t *testing.T) {
	b := newBearing(t, halfPublic)
	mallory := b.begin("3", "mallory@elsewhere.example")
	out := b.ask("/in", bearer(b.tokenOf(mallory.Session, benchSite)))
	if out.Code != http.StatusForbidden || out.app != nil || !strings.Contains(out.Body.String(), "not_admitted") {
		t.Errorf("%d, %s", out.Code, out.Body)
	}
}

func TestTokenOfAProviderThatIsNotOfferedIsRefused(t *testing.T) {
	b := newBearing(t, halfPublic)
	b.providers = nil
	wantBadToken(t, b.ask("/in", bearer(b.access)))
}

// No page can have a browser send a token; but what a page of another origin
// opens must not be a socket of ours, whatever it brings.
func TestSocketOfAnotherOriginIsRefusedDespiteAToken(t *testing.T) {
	b := newBearing(t, halfPublic)
	socket := bearer(b.access)
	socket["Connection"], socket["Upgrade"], socket["Origin"] = "Upgrade", "websocket", "https://evil.example"
	if out := b.ask("/in", socket); out.Code != http.StatusForbidden || out.app != nil {
		t.Errorf("%d", out.Code)
	}
	socket["Origin"] = benchSite
	if out := b.ask("/in", socket); out.Code != http.StatusOK || out.app.Get("Remote-User") == "" {
		t.Errorf("our own: %d", out.Code)
	}
}

// Their forms are guarded by what browsers send along, not by tokens.
func TestPagesGoByCookiesAlone(t *testing.T) {
	b := newBearing(t, halfPublic)
	page := bearer(b.access)
	page["Accept"], page["Sec-Fetch-Mode"] = "text/html", "navigate"
	if out := b.ask("/.login/account", page); out.Code == http.StatusOK || strings.Contains(out.Body.String(), "ada@example.com") {
		t.Errorf("%d, %s", out.Code, out.Body)
	}
}

func TestTokenGoesNowhereWhereTheStoreFails(t *testing.T) {
	b := newBearing(t, halfPublic)
	closed := logintest.Store(t)
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	b.house.tokens = token.Open(closed, b.house.ring, session.Open(closed, b.house.ring, time.Now), time.Now)
	beside := bearer(b.access)
	beside["Cookie"] = "login=" + b.cookie // which is still at hand
	if out := b.ask("/in", beside); out.Code != http.StatusServiceUnavailable || out.app != nil {
		t.Errorf("protected: %d", out.Code)
	}
	out := b.ask("/public/in", beside)
	if out.Code != http.StatusOK || out.app.Get("Authorization") != "" || out.app.Get("Remote-User") != "" {
		t.Errorf("public: %d, the app got %v", out.Code, out.app)
	}
}

// The second look at who it is has only what the first one took.
func TestProvidersTokensOfAnAppsSessionAreRenewed(t *testing.T) {
	g := newRenewingGate(t, guest.TokenRules{})
	begun := enterByToken(t, g.Gate, guest.Profile{Subject: "1"}, g.grant())
	house, err := g.app.door.enter()
	if err != nil {
		t.Fatal(err)
	}
	b := &bearing{Gate: g.Gate, t: t, house: house}
	access := b.tokenOf(begun.Session, benchSite)
	g.clock.Advance(2 * time.Hour)
	out := b.ask("/in", bearer(access))
	if out.Code != http.StatusOK || out.app.Get("X-Token") != "access+" || out.app.Get("Authorization") != "" || out.session != begun.Session.Handle {
		t.Errorf("%d, the app got %v", out.Code, out.app)
	}
}

// BenchmarkBearer is BenchmarkGate for tokens: compare within one run.
func BenchmarkBearer(b *testing.B) {
	g := newBearing(b, `{"allow":[{"who":["*@example.com"]}],"roles":[{"name":"staff","who":["*@example.com"]}]}`)
	cookie, none := "theme=dark; login="+g.cookie, "theme=dark"
	parts := strings.Split(g.access, ".")
	forged := parts[0] + "." + encodePart(fmt.Sprintf(`{"iss":%q,"aud":%q,"sub":"u","sid":"s","iat":%d,"exp":%d,"jti":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`,
		benchSite, benchSite, time.Now().Unix(), time.Now().Unix()+600)) + "." + parts[2]
	for _, c := range []struct {
		name, cookie, credential string
		want                     int
	}{
		{"Cookie", cookie, "", http.StatusOK},
		{"Token", none, g.access, http.StatusOK},
		{"Cookie_and_foreign_token", cookie, "gho_16C7e42F292c6912E7710c838347Ae178B4a", http.StatusOK},
		{"Forged_token_to_401", none, forged, http.StatusUnauthorized},
		{"Torn_signature_to_401", none, g.access[:len(g.access)-8] + "AAAAAAAA", http.StatusUnauthorized},
	} {
		b.Run(c.name, func(b *testing.B) {
			change := map[string]string{"Accept": "*/*", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty", "Sec-Fetch-User": ""}
			if c.credential != "" {
				change["Authorization"] = "Bearer " + c.credential
			}
			benchmark(b, g.Gate, chromes(c.cookie, change), 16, c.want)
		})
	}
}
