package main_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// oracle is a site that another proxy asks, on this machine.
const oracle = `
{
	servers {
		trusted_proxies static 127.0.0.1/32
	}
}

https://app.test:{$PORT}, https://other.test:{$PORT} {
	log
	@reads method GET HEAD
	login {
		oidc op site {env.OP_SECRET} {
			issuer {$ISSUER}
			groups groups
		}
		headers remote oauth2-proxy
		allow /public/* anyone
		allow /maths/* group:maths
		allow /readable/* role:nobody
		allow @reads *@example.com
		allow group:maths
		role nobody nobody@nowhere.test
	}
	reverse_proxy {$APP}
}
`

// about are the headers of a proxy that asks about a request.
func about(site, method, target string) http.Header {
	u, _ := url.Parse(site)
	return http.Header{
		"X-Forwarded-Method": {method}, "X-Forwarded-Proto": {u.Scheme}, "X-Forwarded-Host": {u.Host}, "X-Forwarded-Uri": {target},
	}
}

// ask asks as a proxy does: with the client's cookies, and these headers.
func (s *stage) ask(visitor *e2e.Visitor, path string, head ...http.Header) e2e.Answer {
	r := visitor.Request(http.MethodGet, s.site+"/.login/check"+path, "")
	for _, more := range head {
		for name, values := range more {
			r.Header[name] = values
		}
	}
	return visitor.Do(r)
}

var navigates = http.Header{"Sec-Fetch-Mode": {"navigate"}, "Accept": {acceptHTML}}

// wantNo checks a no: a problem, and nothing that a browser could follow or keep.
func wantNo(t *testing.T, got e2e.Answer, status int) {
	t.Helper()
	wantProblem(t, got, status)
	for name := range got.Header {
		if strings.HasPrefix(name, "Remote-") || strings.HasPrefix(name, "X-Auth-") || strings.HasPrefix(name, "X-Forwarded-") {
			t.Errorf("a no tells %s: %s", name, got.Header.Get(name))
		}
	}
}

func TestAnotherProxyIsToldWhoMayPass(t *testing.T) {
	s := play(t, oracle)
	ada, grace, nobody := s.signedIn(t, e2e.Ada), s.signedIn(t, e2e.Grace), e2e.NewVisitor(t)

	cookies := http.Header{"Cookie": {"theme=dark; " + strings.Join(ada.Cookies(s.site), "; ") + "; a=b"}}
	got := s.ask(ada.Another(), "", about(s.site, "GET", "/deep?q=1"), navigates, cookies)
	mustBe(t, got, http.StatusOK)
	e2e.Eventually(t, e2e.Patience, "the line of the access log", func() bool {
		return strings.Contains(s.Log(), `"uri":"/.login/check"`)
	})
	s.LogKeepsSecret(got.Header.Get("Remote-Assertion"), e2e.Ada.Email)
	claims := s.believed(t, got.Header.Get("Remote-Assertion"))
	for name, want := range map[string]string{
		"Remote-Email": e2e.Ada.Email, "X-Forwarded-Email": e2e.Ada.Email, "X-Auth-Request-Email": e2e.Ada.Email,
		"Remote-User": claims["sub"].(string), "X-Auth-Request-User": claims["sub"].(string), "Cache-Control": "no-store", "Content-Length": "0",
		"Set-Cookie": "", "Location": "", "Cookie": "theme=dark; a=b",
	} {
		if is := got.Header.Get(name); is != want {
			t.Errorf("%s is %q, want %q", name, is, want)
		}
	}

	mustBe(t, s.ask(ada, "", about(s.site, "GET", "/maths/")), http.StatusOK)
	wantNo(t, s.ask(grace, "", about(s.site, "GET", "/maths/"), navigates), http.StatusForbidden)
	mustBe(t, s.ask(grace, "", about(s.site, "GET", "/x")), http.StatusOK)
	wantNo(t, s.ask(grace, "", about(s.site, "DELETE", "/x")), http.StatusForbidden)

	got = s.ask(nobody, "", about(s.site, "GET", "/public/a"), http.Header{"Remote-User": {"forged"}, "X-Auth-Request-Email": {"forged"}})
	mustBe(t, got, http.StatusOK)
	for name, values := range got.Header {
		if strings.HasPrefix(name, "Remote-") || strings.HasPrefix(name, "X-") {
			t.Errorf("of nobody it tells %s: %q", name, values)
		}
	}
	s.untouched(t)
}

func TestCheckPointsPeopleToTheSignIn(t *testing.T) {
	s := play(t, oracle)
	nobody := e2e.NewVisitor(t)
	got := s.ask(nobody, "", about(s.site, "GET", "/deep?q=1&r=%2F"), navigates)
	wantNo(t, got, http.StatusUnauthorized)
	wantSignInURL(t, got, s.site)
	to, err := url.Parse(got.Header.Get("Location"))
	if err != nil || to.Query().Get("return") != "/deep?q=1&r=%2F" || !strings.HasPrefix(to.String(), s.site+"/.login/?") {
		t.Errorf("points to %s, %v", to, err)
	}
	if landed := nobody.SignIn(to.String(), e2e.Ada); landed.Request.URL.String() != s.site+"/deep?q=1&r=%2F" {
		t.Errorf("landed at %s", landed.Request.URL)
	}
	for name, head := range map[string][]http.Header{
		"a program": {about(s.site, "GET", "/deep")}, "a form": {about(s.site, "POST", "/deep"), navigates},
		"a script": {about(s.site, "GET", "/deep"), {"Sec-Fetch-Mode": {"cors"}, "Accept": {acceptHTML}}},
	} {
		got := s.ask(e2e.NewVisitor(t), "", head...)
		wantNo(t, got, http.StatusUnauthorized)
		if to := got.Header.Get("Location"); to != "" {
			t.Errorf("%s is sent to %s", name, to)
		}
	}
}

func TestSignedOutIsOutAtTheCheck(t *testing.T) {
	s := play(t, oracle)
	ada := s.signedIn(t, e2e.Ada)
	thief := replay(ada, s.site, ada.Cookie(s.site, cookieName))
	mustBe(t, s.ask(thief, "", about(s.site, "GET", "/x")), http.StatusOK)
	ada.Submit(ada.Get(s.site + "/.login/logout"))
	wantNo(t, s.ask(thief, "", about(s.site, "GET", "/x")), http.StatusUnauthorized)
}

// What a client says of itself decides nothing: not who it is, not what it asks
// for, and not another proxy's words beside those of the one that asks.
func TestClientsCannotAnswerForTheProxy(t *testing.T) {
	s := play(t, oracle)
	grace := s.signedIn(t, e2e.Grace)
	private, public := about(s.site, "GET", "/maths/"), about(s.site, "GET", "/public/a")
	original := func(method, url string) http.Header {
		return http.Header{"X-Original-Url": {url}, "X-Original-Method": {method}}
	}
	mustBe(t, s.ask(grace, "", original("GET", s.site+"/public/a")), http.StatusOK)
	wantNo(t, s.ask(grace, "", original("GET", s.site+"/maths/")), http.StatusForbidden)
	mustBe(t, s.ask(grace, "/public/a"), http.StatusOK)
	wantNo(t, s.ask(grace, "/maths/"), http.StatusForbidden)
	without := func(h http.Header, name string) http.Header {
		h = h.Clone()
		delete(h, name)
		return h
	}
	for name, head := range map[string][]http.Header{
		"nothing":                     nil,
		"an X-Original-URL beside":    {private, original("GET", s.site+"/public/a")},
		"an X-Forwarded-Uri beside":   {public, original("GET", s.site+"/maths/")},
		"another method beside":       {about(s.site, "GET", "/x"), original("DELETE", s.site+"/x")},
		"two addresses":               {private, {"X-Forwarded-Uri": {"/public/a", "/maths/"}}},
		"two hosts":                   {public, {"X-Forwarded-Host": {"app.test", "other.test"}}},
		"no method":                   {without(public, "X-Forwarded-Method")},
		"no protocol":                 {without(public, "X-Forwarded-Proto")},
		"no host":                     {without(public, "X-Forwarded-Host")},
		"an empty address":            {public, {"X-Forwarded-Uri": {""}}},
		"no method in the other form": {{"X-Original-Url": {s.site + "/public/a"}}},
		"another site":                {about(strings.Replace(s.site, "app", "other", 1), "GET", "/public/a")},
		"another protocol":            {about(strings.Replace(s.site, "https", "http", 1), "GET", "/public/a")},
		"another port":                {about("https://app.test:1", "GET", "/public/a")},
		"an absolute address":         {public, {"X-Forwarded-Uri": {"https://app.test/public/a"}}},
		"a scheme alone":              {public, {"X-Forwarded-Uri": {"javascript:alert(1)"}}},
		"a star":                      {public, {"X-Forwarded-Uri": {"*"}}},
		"a relative address":          {public, {"X-Forwarded-Uri": {"public/a"}}},
		"a space":                     {public, {"X-Forwarded-Uri": {"/public/a b"}}},
		"a fragment":                  {public, {"X-Forwarded-Uri": {"/public/a#/../maths"}}},
		"a broken escape":             {public, {"X-Forwarded-Uri": {"/public/%zz"}}},
		"a request line behind":       {original("GET", s.site+"http://app.test/public/a")},
		"our own pages":               {public, {"X-Forwarded-Uri": {"/.login/account"}}},
		"a tunnel":                    {public, {"X-Forwarded-Method": {"CONNECT"}}},
	} {
		t.Run(name, func(t *testing.T) { wantNo(t, s.ask(grace, "", head...), http.StatusForbidden) })
	}
	wantNo(t, s.ask(grace, "/public/a", private), http.StatusForbidden)
	s.untouched(t)
}

func TestAmbiguousPathsAreNotPublicAtTheCheckEither(t *testing.T) {
	s := play(t, oracle)
	nobody, grace := e2e.NewVisitor(t), s.signedIn(t, e2e.Grace)
	for _, path := range []string{
		"/public/..%2fmaths/", "/public/../maths/", "//maths/", "/public/%2e%2e/maths/", "/public/;x", "/public\\..\\maths",
		"/public/%5c..%5cmaths", "/public//maths", "/public%2fx", "/public/%00", "/public/%252e%252e/maths", "/public/..;/maths/", "/publicity",
	} {
		if got := s.ask(nobody, "", about(s.site, "GET", path)); got.StatusCode != http.StatusUnauthorized {
			t.Errorf("nobody at %s: %d", path, got.StatusCode)
		}
	}
	for _, path := range []string{"/maths/;x", "/x/..%2fmaths/", "/MATHS/", "/x/../maths/y"} {
		if got := s.ask(grace, "", about(s.site, "GET", path)); got.StatusCode != http.StatusForbidden {
			t.Errorf("grace at %s: %d", path, got.StatusCode)
		}
	}
}

func TestCheckKnowsForeignWebSockets(t *testing.T) {
	s := play(t, oracle)
	ada := s.signedIn(t, e2e.Ada)
	handshake := http.Header{"Sec-Websocket-Key": {"x3JJHMbDL1EzLkh9GBhXDw=="}, "Sec-Websocket-Version": {"13"}}
	secure := about(s.site, "GET", "/x")
	secure.Set("X-Forwarded-Proto", "wss")
	for _, c := range []struct {
		what string
		head []http.Header
		want int
	}{
		{"ours", []http.Header{secure, handshake, {"Origin": {s.site}}}, http.StatusOK},
		{"no browser's", []http.Header{secure, handshake}, http.StatusOK},
		{"another's", []http.Header{secure, handshake, {"Origin": {"https://evil.test"}}}, http.StatusForbidden},
		{"another's by Upgrade", []http.Header{about(s.site, "GET", "/x"), {"Upgrade": {"websocket"}, "Origin": {"https://evil.test"}}}, http.StatusForbidden},
		{"another's over HTTP/2", []http.Header{about(s.site, "CONNECT", "/x"), {"Sec-Websocket-Version": {"13"}, "Origin": {"https://evil.test"}}}, http.StatusForbidden},
		{"a fetch", []http.Header{about(s.site, "GET", "/x"), {"Origin": {"https://evil.test"}}}, http.StatusOK},
	} {
		if got := s.ask(ada, "", c.head...); got.StatusCode != c.want {
			t.Errorf("%s: %d, want %d", c.what, got.StatusCode, c.want)
		}
	}
}

func TestCheckOverHTTP2(t *testing.T) {
	s := play(t, oracle)
	ada := s.signedIn(t, e2e.Ada)
	proxy := e2e.NewHTTP2Visitor(t)
	proxy.Jar = ada.Jar
	got := s.ask(proxy, "", about(s.site, "GET", "/maths/"))
	mustBe(t, got, http.StatusOK)
	if got.ProtoMajor != 2 || got.Header.Get("Remote-Email") != e2e.Ada.Email {
		t.Errorf("%s: %v", got.Proto, got.Header)
	}
	wantNo(t, s.ask(e2e.NewHTTP2Visitor(t), "", about(s.site, "GET", "/maths/")), http.StatusUnauthorized)
}

func TestStrangersAreToldNothingByTheCheck(t *testing.T) {
	s := play(t, usual)
	ada := s.signedIn(t, e2e.Ada)
	for _, head := range [][]http.Header{nil, {about(s.site, "GET", "/public/a")}, {about(s.site, "GET", "/in"), navigates}} {
		wantNo(t, s.ask(ada, "", head...), http.StatusForbidden)
	}
	e2e.Eventually(t, e2e.Patience, "the log to name the cure", func() bool {
		log := s.Log()
		return strings.Contains(log, "trusted_proxies static") && strings.Contains(log, `"peer":"127.0.0.1"`)
	})
	s.untouched(t)
}

func TestCheckWithoutAStoreSaysNo(t *testing.T) {
	s := play(t, oracle)
	ada := s.signedIn(t, e2e.Ada)
	s.Stop()
	s.Start(strings.Replace(oracle, "\n}\n\nhttps", "\n\tlogin {\n\t\tstore badger /proc/nowhere\n\t}\n}\n\nhttps", 1))
	got := s.ask(ada, "", about(s.site, "GET", "/x"), navigates)
	wantNo(t, got, http.StatusServiceUnavailable)
	mustBe(t, s.ask(ada, "", about(s.site, "GET", "/public/a")), http.StatusOK)
}
