package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest/secrets"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

const plainSite = `
https://app.test:{$PORT} {
	log
	reverse_proxy {$APP}
}
http://app.localhost:{$PORT2} {
	reverse_proxy {$APP}
}
`

func plain(t *testing.T) (*Caddy, *App, string) {
	t.Helper()
	app := NewApp(t)
	caddy := NewCaddy(t, BuildPackage(t, Plain))
	caddy.Env["APP"] = app.Addr
	caddy.LogMayShowSecrets("plain Caddy logs addresses as they are")
	caddy.Start(plainSite)
	return caddy, app, fmt.Sprintf("https://app.test:%d", caddy.Port)
}

func TestAppSeesTheBytesAsTheyCame(t *testing.T) {
	app := NewApp(t)
	Dial(t, "http://"+app.Addr).
		Say("POST /x HTTP/1.1\r\nHost: a\r\nRemote_User: eve\r\nREMOTE-USER: mal\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n").
		Say("2\r\nhi\r\n0\r\nX-T: end\r\n\r\n").
		Hear("POST")
	got := app.Last()
	if got.Body != "hi" || got.Head[1].Name != "Remote_User" || got.Value("remote-user") != "mal" {
		t.Errorf("recorded %+v", got)
	}
	if !strings.HasSuffix(got.Raw, "X-T: end\r\n\r\n") {
		t.Errorf("no trailer in %q", got.Raw)
	}
}

func TestCaddyComesBackAfterKillAndReload(t *testing.T) {
	caddy, _, site := plain(t)
	visitor := NewVisitor(t)
	for _, turn := range []func(){
		func() {},
		func() { caddy.Kill(); caddy.Restart() },
		func() { caddy.Stop(); caddy.Restart() },
		func() { caddy.Reload(plainSite + "\nhttp://other.test {\n\trespond hello\n}") },
	} {
		turn()
		if got := visitor.Get(site + "/here"); got.StatusCode != http.StatusOK {
			t.Fatalf("%d", got.StatusCode)
		}
	}
	if out, err := caddy.TryReload("app.test {\n nonsense\n}"); err == nil || !strings.Contains(out, "nonsense") {
		t.Errorf("nonsense was loaded: %s", out)
	}
	if !strings.Contains(caddy.Log(), "/here") || len(caddy.Logs()) == 0 {
		t.Error("no access log")
	}
}

func TestLogHoldsAtOnceWhatWasWritten(t *testing.T) {
	log, want := newLogFile(t), ""
	for _, word := range []string{"begun ", "ended ", "begun again"} {
		want += word
		if _, err := log.file.WriteString(word); err != nil {
			t.Fatal(err)
		}
		if got, err := log.read(); got != want || err != nil {
			t.Errorf("it holds %q, %v; want %q", got, err, want)
		}
	}
}

func TestSecretInTheLogIsFound(t *testing.T) {
	caddy := NewCaddy(t, BuildPackage(t, Plain))
	caddy.LogMayShowSecrets("that it does is what is tested")
	caddy.Start(`
http://app.localhost:{$PORT2} {
	log
	redir /in /back?code=the-code-of-this-very-test
	respond /back "in"
}`)
	if shown := secrets.Shown(t, caddy.Log()); len(shown) != 0 {
		t.Errorf("before anything was given out the log shows %q", shown)
	}
	NewVisitor(t).Get(fmt.Sprintf("http://app.localhost:%d/in", caddy.Port2))
	Eventually(t, Patience, "the log to show the code", func() bool { return len(secrets.Shown(t, caddy.Log())) > 0 })
}

func TestVisitorSpeaksBothVersions(t *testing.T) {
	_, _, site := plain(t)
	if got := NewVisitor(t).Get(site); got.ProtoMajor != 1 {
		t.Errorf("HTTP/1.1 became %s", got.Proto)
	}
	if got := NewHTTP2Visitor(t).Get(site); got.ProtoMajor != 2 {
		t.Errorf("HTTP/2 became %s", got.Proto)
	}
}

func TestStreamsEndWithTheirVisitor(t *testing.T) {
	_, app, site := plain(t)
	visitor := NewVisitor(t)
	res, err := visitor.Stream(visitor.Request(http.MethodGet, site+"/events", ""))
	if err != nil {
		t.Fatal(err)
	}
	first := make([]byte, len("data: event 0"))
	if _, err := io.ReadFull(res.Body, first); err != nil || string(first) != "data: event 0" {
		t.Fatalf("%q, %v", first, err)
	}
	Eventually(t, Patience, "the stream to be open", func() bool { return app.Open() == 1 })
	res.Body.Close()
	Eventually(t, Patience, "the stream to end", func() bool { return app.Open() == 0 })
}

// authorize is a request that the provider answers, with PKCE's own example
// challenge (RFC 7636, appendix B).
func authorize(p *Provider, redirect, mode string) string {
	return p.Issuer + "/auth?" + url.Values{
		"client_id": {"site"}, "response_type": {"code"}, "scope": {"openid email profile"},
		"redirect_uri": {redirect}, "state": {"state-of-the-test"}, "nonce": {"nonce-of-the-test"}, "response_mode": {mode},
		"code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"},
	}.Encode()
}

func TestProviderSendsPeopleBack(t *testing.T) {
	_, _, site := plain(t)
	provider := NewProvider(t, Client{ID: "site", Secret: "correct horse", RedirectURIs: []string{site + "/back"}})
	visitor := NewVisitor(t)
	callback, err := url.Parse(visitor.UntilCallback(authorize(provider, site+"/back", "query"), Ada))
	if err != nil {
		t.Fatal(err)
	}
	if q := callback.Query(); callback.Path != "/back" || q.Get("state") != "state-of-the-test" || q.Get("iss") != provider.Issuer {
		t.Errorf("came back to %s", callback)
	}
	redeemed := visitor.Request(http.MethodPost, provider.Issuer+"/token", url.Values{
		"grant_type": {"authorization_code"}, "code": {callback.Query().Get("code")}, "redirect_uri": {site + "/back"},
		"code_verifier": {"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"},
	}.Encode())
	redeemed.SetBasicAuth("site", url.QueryEscape("correct horse"))
	redeemed.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if got := visitor.Do(redeemed); got.StatusCode != http.StatusOK {
		t.Errorf("%d %s", got.StatusCode, got.Body)
	}
	wantReport(t, provider)
	provider.Stop()
	wantReport(t, provider)
}

// wantReport checks that the provider's report is there as soon as somebody asks,
// though it comes by a pipe: of one code that was redeemed, and all it gave out.
func wantReport(t *testing.T, p *Provider) {
	t.Helper()
	if calls, secrets := p.TokenCalls(), p.Secrets(); calls != 1 || len(secrets) < 4 {
		t.Errorf("%d codes redeemed, %d secrets given out", calls, len(secrets))
	}
}

func TestBrowserWalksThroughTheProvider(t *testing.T) {
	caddy, app, site := plain(t)
	provider := NewProvider(t, Client{ID: "site", Secret: "s", RedirectURIs: []string{site + "/back"}})
	browser := NewBrowser(t)
	browser.Get(authorize(provider, site+"/back", "form_post")).SignIn(Ada).See("POST /back").At("/back")
	if body := app.Last().Body; !strings.Contains(body, "state=state-of-the-test") {
		t.Errorf("the app received %q", body)
	}
	tab := browser.NewTab().Get(site + "/setcookie?set=a%3Db%3BPath%3D/").See("The app")
	if cookie := tab.Cookies("app.test")["a"]; cookie == nil || cookie.Value != "b" {
		t.Errorf("cookies: %v", tab.Cookies("app.test"))
	}
	browser.Get(fmt.Sprintf("http://app.localhost:%d/there?x=1", caddy.Port2)).At("/there?x=1")
	if got := browser.Eval(`fetch("/x", {method: "DELETE"}).then(r => r.text())`); !strings.Contains(got, "DELETE /x") {
		t.Errorf("the page read %s", got)
	}
}

func TestBrowserBlocksCookiesOfOneHost(t *testing.T) {
	caddy, app, site := plain(t)
	elsewhere := fmt.Sprintf("http://app.localhost:%d", caddy.Port2)
	browser := NewBrowserBlocking(t, "app.test")
	for site, kept := range map[string]bool{site: false, elsewhere: true} {
		browser.Get(site + "/setcookie?set=a%3Db").See("The app").Get(site + "/next").See("GET /next")
		if cookies := app.Last().Values("Cookie"); len(cookies) > 0 != kept {
			t.Errorf("%s got %v", site, cookies)
		}
	}
}

func TestConsoleErrorsAreHeard(t *testing.T) {
	_, _, site := plain(t)
	browser := NewBrowser(t).Get(site).AllowConsole("said aloud", "thrown aloud")
	browser.Eval(`console.error("said aloud"), setTimeout(() => { throw new Error("thrown aloud") }), 1`)
	Eventually(t, Patience, "two complaints", func() bool {
		browser.console.mu.Lock()
		defer browser.console.mu.Unlock()
		return len(browser.console.errors) == 2
	})
}

func TestPortIsOneTestsAlone(t *testing.T) {
	port := FreePort(t)
	if reserve(t, port) {
		t.Errorf("port %d was given twice", port)
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", FreePort(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().(*net.TCPAddr).Port
	if isFree(taken) {
		t.Errorf("port %d counts as free, and somebody listens on it", taken)
	}
	var again int
	t.Run("a test that ends", func(t *testing.T) { again = FreePort(t) })
	if !reserve(t, again) {
		t.Errorf("port %d stays taken after its test", again)
	}
}
