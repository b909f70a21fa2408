package main_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

func TestMain(m *testing.M) { os.Exit(allHeard(e2e.Main(m))) }

var uuid = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

const (
	cookieName   = "__Host-login"
	clientSecret = "the client's secret & more"
)

// usual is the Caddyfile of most stories: a public corner, a corner for one
// group, and the rest for one domain.
const usual = `
https://app.test:{$PORT} {
	login {
		oidc op site {env.OP_SECRET} {
			issuer {$ISSUER}
			label "Our People"
			groups groups
		}
		allow /public/* anyone
		allow /maths/* group:maths
		allow *@example.com
	}
	reverse_proxy {$APP} {
		flush_interval -1
	}
}
`

// stage is a Caddy with an app behind and a provider beside it.
type stage struct {
	*e2e.Caddy
	app      *e2e.App
	provider *e2e.Provider
	site     string // https://app.test:port
	other    string // https://other.test:port
	plain    string // http://app.localhost:port2
}

// play starts everything with this Caddyfile.
func play(t *testing.T, caddyfile string) *stage {
	t.Helper()
	return playWith(t, caddyfile, nil)
}

// playWith is play with more variables for the Caddyfile.
func playWith(t *testing.T, caddyfile string, env map[string]string) *stage {
	t.Helper()
	s := &stage{Caddy: e2e.NewCaddy(t, e2e.Build(t)), app: e2e.NewApp(t)}
	s.site = fmt.Sprintf("https://app.test:%d", s.Port)
	s.other = fmt.Sprintf("https://other.test:%d", s.Port)
	s.plain = fmt.Sprintf("http://app.localhost:%d", s.Port2)
	registration := e2e.Client{ID: "site", Secret: clientSecret}
	for _, site := range []string{s.site, s.other, s.plain} {
		registration.RedirectURIs = append(registration.RedirectURIs, site+"/.login/op/callback")
		registration.PostLogoutRedirectURIs = append(registration.PostLogoutRedirectURIs,
			site+"/", site+"/.login/", site+"/.login/logout")
	}
	s.provider = e2e.NewProvider(t, registration)
	s.Env["APP"], s.Env["ISSUER"], s.Env["OP_SECRET"] = s.app.Addr, s.provider.Issuer, clientSecret
	maps.Copy(s.Env, env)
	s.Start(caddyfile)
	return s
}

// signedIn is a visitor whom the usual site knows as this person.
func (s *stage) signedIn(t *testing.T, who e2e.Person) *e2e.Visitor {
	t.Helper()
	visitor := e2e.NewVisitor(t)
	mustBe(t, visitor.SignIn(s.site+"/.login/op?return=%2Fpublic%2Fin", who), http.StatusOK)
	if visitor.Cookie(s.site, cookieName) == "" {
		t.Fatalf("%s signed in and got no cookie", who.Name)
	}
	s.app.Forget()
	return visitor
}

// isIn reports whether the site lets the visitor through to the app.
func (s *stage) isIn(visitor *e2e.Visitor) bool {
	return visitor.Get(s.site+"/in").StatusCode == http.StatusOK
}

// untouched fails the test if the app received anything.
func (s *stage) untouched(t *testing.T) {
	t.Helper()
	for _, request := range s.app.Requests() {
		t.Errorf("the app received:\n%s", request.Raw)
	}
	s.app.Forget()
}

func mustBe(t *testing.T, got e2e.Answer, status int) {
	t.Helper()
	if got.StatusCode != status {
		t.Fatalf("%s %s: %d, want %d:\n%.1500s", got.Request.Method, got.Request.URL, got.StatusCode, status, got.Body)
	}
}

// replay is somebody else with nothing but this session cookie.
func replay(visitor *e2e.Visitor, site, session string) *e2e.Visitor {
	thief := visitor.Another()
	u, _ := url.Parse(site)
	thief.Jar.SetCookies(u, []*http.Cookie{{Name: cookieName, Value: session, Path: "/", Secure: true}})
	return thief
}

// session is the value of the session cookie that an answer sets, or empty.
func session(a e2e.Answer) string {
	for _, cookie := range a.Cookies() {
		if cookie.Name == cookieName && cookie.MaxAge >= 0 {
			return cookie.Value
		}
	}
	return ""
}

// wantProblem checks a refusal to a program: a JSON problem, no cookie.
func wantProblem(t *testing.T, got e2e.Answer, status int) {
	t.Helper()
	mustBe(t, got, status)
	if kind := got.Header.Get("Content-Type"); kind != "application/problem+json" {
		t.Errorf("Content-Type is %q", kind)
	}
	if cookies := got.Header.Values("Set-Cookie"); len(cookies) > 0 {
		t.Errorf("sets cookies: %q", cookies)
	}
	var problem map[string]any
	if err := json.Unmarshal([]byte(got.Body), &problem); err != nil {
		t.Fatalf("reading the problem: %v in %q", err, got.Body)
	}
	if problem["status"] != float64(status) {
		t.Errorf("the problem says %v", problem["status"])
	}
}

// wantSignInURL checks that a problem says where to sign in, on this site.
func wantSignInURL(t *testing.T, got e2e.Answer, site string) {
	t.Helper()
	var problem map[string]any
	if err := json.Unmarshal([]byte(got.Body), &problem); err != nil {
		t.Fatalf("reading the problem: %v in %q", err, got.Body)
	}
	for _, value := range problem {
		if text, ok := value.(string); ok && strings.HasPrefix(text, site+"/.login/") {
			return
		}
	}
	t.Errorf("no sign-in address of %s in %s", site, got.Body)
}

// wantErrorPage checks a refusal to a person: a page with the request's id,
// and no session.
func wantErrorPage(t *testing.T, got e2e.Answer) (requestID string) {
	t.Helper()
	if got.StatusCode < 400 || got.StatusCode > 499 {
		t.Fatalf("%s %s: %d, want 4xx:\n%.1500s", got.Request.Method, got.Request.URL, got.StatusCode, got.Body)
	}
	if kind := got.Header.Get("Content-Type"); !strings.HasPrefix(kind, "text/html") {
		t.Errorf("Content-Type is %q", kind)
	}
	if cookie := session(got); cookie != "" {
		t.Errorf("a session was begun")
	}
	id := uuid.FindString(got.Body)
	if id == "" {
		t.Errorf("no request id on the page:\n%s", got.Body)
	}
	return id
}

// closedIssuer is the address of a provider that refuses connections.
func closedIssuer(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("http://127.0.0.1:%d", e2e.FreePort(t))
}

// silentIssuer is the address of a provider that accepts and never answers.
func silentIssuer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return "http://" + l.Addr().String() // the kernel accepts, nobody reads
}
