package main_test

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// forgeries are the names that presets use, as a client may spell them. The
// value of each is the word "forged".
var forgeries = func() (names []string) {
	for _, name := range []string{
		"Remote-User", "Remote-Email", "Remote-Name", "Remote-Groups", "Remote-Roles", "Remote-Assertion",
		"X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups", "X-Forwarded-Preferred-Username",
		"X-Auth-Request-User", "X-Auth-Request-Email", "X-Auth-Request-Groups", "X-Auth-Request-Preferred-Username",
		"X-Pomerium-Jwt-Assertion", "X-Pomerium-Claim-Email", "X-Pomerium-Claim-Groups",
		"Cf-Access-Authenticated-User-Email", "Cf-Access-Jwt-Assertion",
		"X-Goog-Authenticated-User-Email", "X-Goog-Authenticated-User-Id", "X-Goog-IAP-JWT-Assertion",
	} {
		names = append(names, name, strings.ToUpper(name), strings.ToLower(name),
			strings.ReplaceAll(name, "-", "_"), strings.ReplaceAll(name, "-", "."),
			strings.Replace(name, "-", "_", 1), strings.Replace(strings.ToLower(name), "-", ".", 1))
	}
	slices.Sort(names)
	return slices.Compact(names)
}()

// notForged fails the test if the app received the word "forged", or nothing.
func (s *stage) notForged(t *testing.T, how string) {
	t.Helper()
	if len(s.app.Requests()) == 0 {
		t.Errorf("%s: the app received nothing", how)
	}
	for _, request := range s.app.Requests() {
		if strings.Contains(request.Raw, "forged") {
			t.Errorf("%s: the app received\n%s", how, request.Raw)
		}
	}
	s.app.Forget()
}

func TestForgedHeadersNeverReachTheApp(t *testing.T) {
	s := play(t, usual)
	nobody, zoe := e2e.NewVisitor(t), s.signedIn(t, e2e.Zoe)
	for who, cookie := range map[string]string{"nobody": "x=y", "zoe": strings.Join(zoe.Cookies(s.site), "; ")} {
		head := "GET /public/ HTTP/1.1\r\nHost: app.test\r\nCookie: " + cookie + "\r\n"
		for half := range slices.Chunk(forgeries, 60) {
			all := ""
			for _, name := range half {
				all += name + ": forged\r\n" + name + ": forged twice\r\n"
			}
			e2e.Dial(t, s.site).Say("%s%s\r\n", head, all).Hear("GET")
		}
		s.notForged(t, "HTTP/1.1, "+who)

		h2 := e2e.NewHTTP2Visitor(t)
		h2.Jar = map[string]*e2e.Visitor{"nobody": nobody, "zoe": zoe}[who].Jar
		for half := range slices.Chunk(forgeries, 60) {
			r := h2.Navigation(s.site + "/public/")
			for _, name := range half {
				r.Header[name] = []string{"forged", "forged twice"}
			}
			if got := h2.Do(r); got.ProtoMajor != 2 {
				t.Fatalf("spoke %s", got.Proto)
			}
		}
		s.notForged(t, "HTTP/2, "+who)
	}
}

func TestForgedTrailersNeverReachTheApp(t *testing.T) {
	s := play(t, usual)
	e2e.Dial(t, s.site).
		Say("POST /public/ HTTP/1.1\r\nHost: app.test\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nTrailer: Remote-User, remote_email\r\n\r\n").
		Say("2\r\nhi\r\n0\r\nRemote-User: forged\r\nremote_email: forged\r\nRemote-Groups: forged\r\n\r\n").
		Hear("POST")
	s.notForged(t, "HTTP/1.1")

	h2 := e2e.NewHTTP2Visitor(t)
	r := h2.Request(http.MethodPost, s.site+"/public/", "hi")
	r.ContentLength = -1
	r.Trailer = http.Header{"Remote-User": {"forged"}, "Remote_email": {"forged"}}
	if got := h2.Do(r); got.ProtoMajor != 2 {
		t.Fatalf("spoke %s", got.Proto)
	}
	s.notForged(t, "HTTP/2")
}

func TestConnectionCannotNameOurHeaders(t *testing.T) {
	s := play(t, usual)
	ada := s.signedIn(t, e2e.Ada)
	cookies := strings.Join(ada.Cookies(s.site), "; ")
	for _, connection := range []string{
		"close, Remote-User, Remote-Email", "keep-alive, remote-user", "Remote-User\r\nConnection: close",
		"close, Cookie, Remote-Groups", "close, X-Forwarded-For, Remote-Name, Remote-Assertion",
	} {
		got := e2e.Dial(t, s.site).Say("GET / HTTP/1.1\r\nHost: app.test\r\nCookie: %s\r\nConnection: %s\r\n\r\n", cookies, connection).Hear("GET")
		mustBe(t, got, http.StatusOK)
		received := s.app.Last()
		for _, name := range []string{"Remote-User", "Remote-Email", "Remote-Name", "Remote-Groups"} {
			if received.Value(name) == "" {
				t.Errorf("Connection: %s took %s away:\n%s", connection, name, received.Raw)
			}
		}
	}
}

func TestPublicCornerRecognisesTheSignedIn(t *testing.T) {
	s := play(t, usual)
	nobody := e2e.NewVisitor(t)
	mustBe(t, nobody.Get(s.site+"/public/a"), http.StatusOK)
	for _, field := range s.app.Last().Head {
		if strings.HasPrefix(strings.ToLower(field.Name), "remote-") {
			t.Errorf("nobody is %s: %s", field.Name, field.Value)
		}
	}
	if cookies := nobody.Cookies(s.site); len(cookies) > 0 {
		t.Errorf("nobody got cookies: %q", cookies)
	}
	mustBe(t, s.signedIn(t, e2e.Ada).Get(s.site+"/public/a"), http.StatusOK)
	if got := s.app.Last().Value("Remote-Email"); got != e2e.Ada.Email {
		t.Errorf("Remote-Email is %q", got)
	}
}

func TestAmbiguousPathsAreNeverPublic(t *testing.T) {
	s := play(t, usual)
	for _, path := range []string{
		"/public/../secret", "/public/%2e%2e/secret", "/public/%2E./secret", "/public/..%2fsecret", "/public/..;/secret",
		"/public/..%5csecret", "/public/..\\secret", "/public/%5c..%5csecret", "/public//secret", "//public/secret", "/public/./x",
		"/./public/x", "/public/;x", "/public;a=b/x", "/public/x%3b", "/public/%00", "/public/x%00.html", "/public/%2fsecret",
		"/public%2fx", "/public/%252e%252e/secret", "/public/x%0a", "/public/%0d%0aX:y", "/public/x%7f", "/public/..",
		"/public/.", "/publicity", "/public", "/public/x/../../secret", "/secret/../public/x", "/public/%u002e%u002e/x",
		"/public/\x01", "/public/x\ty", "/public/%c0%ae%c0%ae/secret", "*", "http://app.test/secret",
	} {
		wire := e2e.Dial(t, s.site).Say("GET %s HTTP/1.1\r\nHost: app.test\r\nAccept: text/html\r\nConnection: close\r\n\r\n", path)
		if got := wire.Hear("GET"); got.StatusCode < 300 {
			t.Errorf("%s got %d", path, got.StatusCode)
		}
		for _, request := range s.app.Requests() {
			t.Errorf("%s reached the app as %s", path, request.Target)
		}
		s.app.Forget()
	}
	for _, path := range []string{"/public/x", "/public/a.b/c-d_e~f", "/public/x?y=../z", "/public/p%C3%A5ge"} {
		got := e2e.Dial(t, s.site).Say("GET %s HTTP/1.1\r\nHost: app.test\r\n\r\n", path).Hear("GET")
		if got.StatusCode != http.StatusOK {
			t.Errorf("%s got %d", path, got.StatusCode)
		}
	}
}

func TestOwnPathsNeverReachTheApp(t *testing.T) {
	s := play(t, usual)
	ada := s.signedIn(t, e2e.Ada)
	for _, path := range []string{"/.login/nonsense", "/.login/op/nonsense", "/.login/other", "/.login", "/.login/op/callback/x"} {
		if got := ada.Get(s.site + path); got.StatusCode == http.StatusOK && strings.Contains(got.Body, "The app") {
			t.Errorf("%s reached the app", path)
		}
	}
	mustBe(t, ada.Get(s.site+"/.login/nonsense"), http.StatusNotFound)
	s.untouched(t)
}

const acceptHTML = "text/html,application/xhtml+xml,*/*;q=0.8"

// asks are requests of somebody who is not signed in, and their answers.
var asks = []struct {
	what, method string
	head         http.Header
	want         int
}{
	{"a click", "GET", http.Header{"Sec-Fetch-Mode": {"navigate"}, "Accept": {acceptHTML}}, http.StatusFound},
	{"a HEAD click", "HEAD", http.Header{"Sec-Fetch-Mode": {"navigate"}, "Accept": {acceptHTML}}, http.StatusFound},
	{"an old browser", "GET", http.Header{"Accept": {acceptHTML}}, http.StatusFound},
	{"curl -I for HTML", "HEAD", http.Header{"Accept": {"text/html"}}, http.StatusFound},
	{"XHR of an old browser", "GET", http.Header{"Accept": {acceptHTML}, "X-Requested-With": {"XMLHttpRequest"}}, http.StatusUnauthorized},
	{"fetch", "GET", http.Header{"Sec-Fetch-Mode": {"cors"}, "Accept": {"*/*"}}, http.StatusUnauthorized},
	{"fetch for HTML", "GET", http.Header{"Sec-Fetch-Mode": {"cors"}, "Accept": {acceptHTML}}, http.StatusUnauthorized},
	{"same-origin fetch", "GET", http.Header{"Sec-Fetch-Mode": {"same-origin"}, "Accept": {acceptHTML}}, http.StatusUnauthorized},
	{"an image", "GET", http.Header{"Sec-Fetch-Mode": {"no-cors"}, "Accept": {"image/avif,image/webp,*/*;q=0.8"}}, http.StatusUnauthorized},
	{"JSON", "GET", http.Header{"Accept": {"application/json"}}, http.StatusUnauthorized},
	{"curl", "GET", http.Header{"Accept": {"*/*"}}, http.StatusUnauthorized},
	{"nothing said", "GET", http.Header{}, http.StatusUnauthorized},
	{"EventSource", "GET", http.Header{"Sec-Fetch-Mode": {"cors"}, "Accept": {"text/event-stream"}}, http.StatusUnauthorized},
	{"an old EventSource", "GET", http.Header{"Accept": {"text/event-stream"}}, http.StatusUnauthorized},
	{"a form", "POST", http.Header{"Sec-Fetch-Mode": {"navigate"}, "Accept": {acceptHTML}}, http.StatusUnauthorized},
	{"PUT", "PUT", http.Header{"Accept": {acceptHTML}}, http.StatusUnauthorized},
	{"DELETE", "DELETE", http.Header{"Accept": {acceptHTML}}, http.StatusUnauthorized},
	{"a preflight", "OPTIONS", http.Header{"Origin": {"https://evil.test"}, "Access-Control-Request-Method": {"GET"}}, http.StatusUnauthorized},
	{"gRPC", "POST", http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}, http.StatusUnauthorized},
	{"a method of its own", "PROPFIND", http.Header{"Accept": {acceptHTML}}, http.StatusUnauthorized},
}

func TestPeopleAreSentAndProgramsAreTold(t *testing.T) {
	s := play(t, usual)
	nobody := e2e.NewVisitor(t)
	for _, c := range asks {
		t.Run(c.what, func(t *testing.T) {
			r := nobody.Request(c.method, s.site+"/deep?q=1", "")
			r.Header = c.head
			got := nobody.Do(r)
			mustBe(t, got, c.want)
			if c.want == http.StatusUnauthorized {
				wantProblem(t, got, c.want)
				wantSignInURL(t, got, s.site)
				return
			}
			if to := nobody.To(got); !strings.HasPrefix(to, s.site+"/.login/") {
				t.Errorf("sent to %s", to)
			}
		})
	}
	s.untouched(t)
}

func TestNotAdmittedAreToldWhoTheyAre(t *testing.T) {
	s := play(t, usual)
	got := e2e.NewVisitor(t).SignIn(s.site+"/in", e2e.Zoe)
	mustBe(t, got, http.StatusForbidden)
	if !strings.Contains(got.Body, e2e.Zoe.Email) || !strings.Contains(got.Body, "/.login/") {
		t.Errorf("the page names nobody or offers nothing:\n%s", got.Body)
	}
	grace := s.signedIn(t, e2e.Grace)
	mustBe(t, grace.Get(s.site+"/maths/"), http.StatusForbidden)
	mustBe(t, grace.Get(s.site+"/MATHS/"), http.StatusForbidden)
	s.untouched(t)
	fetch := grace.Request(http.MethodGet, s.site+"/maths/", "")
	wantProblem(t, grace.Do(fetch), http.StatusForbidden)
	mustBe(t, s.signedIn(t, e2e.Ada).Get(s.site+"/maths/"), http.StatusOK)
}

func TestAnotherAccountIsOneClickAway(t *testing.T) {
	s := play(t, usual)
	browser := e2e.NewBrowser(t).AllowConsole("status of 403")
	browser.Get(s.site + "/in").SignIn(e2e.Zoe).See(e2e.Zoe.Email).Screenshot("not-admitted")
	browser.Click("another account").See("another account").Click("Our People").See("Who are you?").SignIn(e2e.Ada).See("The app").At("/in")
}

func TestRefusalDoesNotWaitForTheBody(t *testing.T) {
	s := play(t, usual)
	const atOnce = 15 * time.Second // and not the 20 of a form's body, let alone Caddy's minute
	for name, head := range map[string]string{
		"expect":  "Expect: 100-continue\r\nContent-Length: 10000000\r\n",
		"length":  "Content-Length: 10000000\r\n",
		"chunked": "Transfer-Encoding: chunked\r\n",
	} {
		wire := e2e.Dial(t, s.site)
		if err := wire.Conn.(*tls.Conn).Handshake(); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if got := wire.Say("POST /upload HTTP/1.1\r\nHost: app.test\r\n%s\r\n", head).Hear("POST"); got.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %d", name, got.StatusCode)
		}
		if !wire.Closed(atOnce) {
			t.Errorf("%s: the connection stays open", name)
		}
		if took := time.Since(begun); took > atOnce {
			t.Errorf("%s: it took %s", name, took)
		}
	}
	s.untouched(t)
}

func TestCookiesAreOursOrTheApps(t *testing.T) {
	s := play(t, usual)
	ada := s.signedIn(t, e2e.Ada)
	session := ada.Cookie(s.site, cookieName)
	const others = `a=1; b="x y"; c=; d==e; weird; f=%20; __Host-theirs=1; LOGIN=2`
	for _, sent := range []string{
		cookieName + "=" + session + "; " + others,
		others + "; " + cookieName + "=" + session,
		strings.Replace(others, "c=;", "c=; "+cookieName+"="+session+";", 1),
	} {
		got := e2e.Dial(t, s.site).Say("GET /in HTTP/1.1\r\nHost: app.test\r\nCookie: %s\r\n\r\n", sent).Hear("GET")
		if got.StatusCode != http.StatusOK {
			t.Fatalf("%d for %s", got.StatusCode, sent)
		}
		if received := s.app.Last().Values("Cookie"); len(received) != 1 || received[0] != others {
			t.Errorf("the app received %q", received)
		}
	}
}

func TestAppCannotSetOurCookies(t *testing.T) {
	s := play(t, usual)
	ada := s.signedIn(t, e2e.Ada)
	before := ada.Cookie(s.site, cookieName)
	got := ada.Get(s.site + "/setcookie?set=" + strings.Join([]string{
		"__Host-login%3Devil%3B+Path%3D/%3B+Secure", "theme%3Ddark%3B+Path%3D/%3B+SameSite%3DNone",
		"__host-LOGIN%3Devil%3B+Path%3D/", "x%3D%22a+b%22", "+__Host-login%3Devil",
	}, "&set="))
	mustBe(t, got, http.StatusOK)
	want := []string{"theme=dark; Path=/; SameSite=None", `x="a b"`}
	if cookies := got.Header.Values("Set-Cookie"); !slices.Equal(cookies, want) {
		t.Errorf("Set-Cookie: %q, want %q", cookies, want)
	}
	if ada.Cookie(s.site, cookieName) != before {
		t.Error("the app changed the session cookie")
	}
}

func TestDamagedAndDoubledCookiesAreNone(t *testing.T) {
	s := play(t, usual)
	value := s.signedIn(t, e2e.Ada).Cookie(s.site, cookieName)
	flipped := []byte(value)
	flipped[len(flipped)/2] ^= 1
	for what, cookies := range map[string]string{
		"flipped": cookieName + "=" + string(flipped), "cut": cookieName + "=" + value[:len(value)-1],
		"longer": cookieName + "=" + value + "A", "padded": cookieName + "=" + value + "=",
		"doubled":    cookieName + "=" + value + "; " + cookieName + "=" + value,
		"two lines":  cookieName + "=" + value + "\r\nCookie: " + cookieName + "=x",
		"quoted":     cookieName + `="` + value + `"`,
		"other case": strings.ToUpper(cookieName) + "=" + value, "unprefixed": "login=" + value, "empty": cookieName + "=",
	} {
		got := e2e.Dial(t, s.site).Say("GET /in HTTP/1.1\r\nHost: app.test\r\nCookie: %s\r\n\r\n", cookies).Hear("GET")
		if got.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %d", what, got.StatusCode)
		}
	}
	s.untouched(t)
	got := e2e.Dial(t, s.site).Say("GET /in HTTP/1.1\r\nHost: app.test\r\nCookie: %s=%s\r\n\r\n", cookieName, value).Hear("GET")
	if got.StatusCode != http.StatusOK {
		t.Errorf("the whole cookie: %d", got.StatusCode)
	}
}

func TestDownloadsPassWhole(t *testing.T) {
	s := play(t, usual)
	const size = 40 << 20
	got := s.signedIn(t, e2e.Ada).Get(fmt.Sprintf("%s/big?bytes=%d", s.site, size))
	if len(got.Body) != size {
		t.Errorf("%d of %d bytes arrived", len(got.Body), size)
	}
}
