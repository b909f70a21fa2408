package main_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// with is the usual site with more lines in its login block.
func with(lines ...string) string {
	return strings.Replace(usual, "allow /public/* anyone", strings.Join(lines, "\n\t\t")+"\n\t\tallow /public/* anyone", 1)
}

func TestStoreOfAnotherProcessIs503UntilItIsFree(t *testing.T) {
	first := play(t, usual)
	dir := filepath.Join(first.DataDir(), "login")
	second := playWith(t, "{\n\tlogin {\n\t\tstore badger {$DIR}\n\t}\n}\n"+usual, map[string]string{"DIR": dir})

	visitor := e2e.NewVisitor(t)
	mustBe(t, visitor.Get(second.site+"/public/x"), http.StatusOK)
	second.app.Forget()
	got := visitor.Get(second.site + "/.login/op?return=%2F")
	mustBe(t, got, http.StatusServiceUnavailable)
	if got.Header.Get("Retry-After") == "" || uuid.FindString(got.Body) == "" {
		t.Errorf("no Retry-After or request id:\n%v\n%s", got.Header, got.Body)
	}
	stale := replay(visitor, second.site, first.signedIn(t, e2e.Ada).Cookie(first.site, cookieName))
	mustBe(t, stale.Get(second.site+"/in"), http.StatusServiceUnavailable)
	wantProblem(t, stale.Do(stale.Request(http.MethodPost, second.site+"/in", "x")), http.StatusServiceUnavailable)
	mustBe(t, stale.Get(second.site+"/public/x"), http.StatusOK)
	second.app.Forget()
	e2e.Eventually(t, e2e.Patience, "the log names the cure", func() bool {
		log := second.Log()
		return strings.Contains(log, "open in another process") && strings.Contains(log, "caddy reload")
	})

	first.Stop()
	e2e.Eventually(t, 15*time.Second, "the freed store opens", func() bool {
		return visitor.Get(second.site+"/.login/op?return=%2F").StatusCode == http.StatusFound
	})
}

func TestReloadThatWouldLoseTheStoreIsRefused(t *testing.T) {
	holder := play(t, usual)
	s := play(t, usual)
	visitor := s.signedIn(t, e2e.Ada)
	held := filepath.Join(holder.DataDir(), "login")
	out, err := s.TryReload("{\n\tlogin {\n\t\tstore badger " + held + "\n\t}\n}\n" + usual)
	if err == nil || !strings.Contains(out+s.Log(), "open in another process") {
		t.Errorf("reload: %v\n%s", err, out)
	}
	if !s.isIn(visitor) {
		t.Error("the refused reload signed somebody out")
	}
}

func TestConfigsThatCutThePagesOffAreRefused(t *testing.T) {
	s := play(t, usual)
	visitor := s.signedIn(t, e2e.Ada)
	login := strings.TrimSpace(usual[strings.Index(usual, "login {"):strings.Index(usual, "\treverse_proxy")])
	for cure, config := range map[string]string{
		"can't be reached":          "https://app.test:{$PORT} {\n\thandle /app/* {\n\t" + login + "\n\treverse_proxy {$APP}\n}\n}\n",
		"second login":              "https://app.test:{$PORT} {\n\thandle /app/* {\n\t" + login + "\n}\nhandle {\n\t" + login + "\n}\n}\n",
		"no allow":                  "https://app.test:{$PORT} {\n\tlogin {\n\t\toidc op site {env.OP_SECRET} {\n\t\t\tissuer {$ISSUER}\n\t\t}\n\t}\n}\n",
		"public suffix":             with("cookie {\n\t\t\tdomain co.uk\n\t\t}"),
		"only https":                with("origin http://app.test"),
		"path of the sign-in pages": strings.Replace(usual, "oidc op site", "oidc logout site", 1),
	} {
		out, err := s.TryReload(config)
		if err == nil || !strings.Contains(out+s.Log(), cure) {
			t.Errorf("want %q: %v\n%s", cure, err, out)
		}
		if !s.isIn(visitor) {
			t.Fatalf("after %q the site is not what it was", cure)
		}
	}
}

func TestCallbackURLIsNamedOnce(t *testing.T) {
	s := play(t, usual)
	s.Reload(usual)
	s.Reload(with("session 1h"))
	want := s.site + "/.login/op/callback"
	if got := strings.Count(s.Log(), `"url":"`+want+`"`); got != 1 {
		t.Errorf("the log names %s %d times", want, got)
	}
}

func TestValidateAndAdaptTouchNothing(t *testing.T) {
	s := play(t, usual)
	file := filepath.Join(t.TempDir(), "Caddyfile")
	dir := filepath.Join(t.TempDir(), "store")
	config := "{\n\tlogin {\n\t\tstore badger " + dir + "\n\t}\n}\n" + usual
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"adapt", "validate"} {
		if out, err := s.Command(command, "--config", file); err != nil {
			t.Errorf("%s: %v\n%s", command, err, out)
		}
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the store's directory was made: %v", err)
	}
	// The running Caddy holds the lock of the store that this one names.
	if err := os.WriteFile(file, []byte(usual), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := s.Command("validate", "--config", file); err != nil {
		t.Errorf("beside a running Caddy: %v\n%s", err, out)
	}
}

func TestSignUpOffAndInvited(t *testing.T) {
	s := play(t, with("signup off"))
	got := e2e.NewVisitor(t).SignIn(s.site+"/.login/op", e2e.Ada)
	mustBe(t, got, http.StatusForbidden)
	wantErrorPage(t, got)
	s.Reload(usual)
	known := s.signedIn(t, e2e.Grace)
	s.Reload(with("signup off"))
	known.ForgetCookies()
	mustBe(t, known.SignIn(s.site+"/.login/op?return=%2Fpublic%2F", e2e.Grace), http.StatusOK)

	s.Reload(with("signup invited"))
	mustBe(t, e2e.NewVisitor(t).SignIn(s.site+"/.login/op?return=%2Fpublic%2F", e2e.Ada), http.StatusOK)
	mustBe(t, e2e.NewVisitor(t).SignIn(s.site+"/.login/op?return=%2Fpublic%2F", e2e.Zoe), http.StatusForbidden)
	mustBe(t, e2e.NewVisitor(t).SignIn(s.site+"/.login/op?return=%2Fpublic%2F", e2e.Mallory), http.StatusForbidden)
}

func TestAccountWithSomebodysAddressIsTurnedAway(t *testing.T) {
	issuer := logintest.NewIssuer(t)
	issuer.Person(logintest.Person{Subject: "ada", Email: "ada@example.com", EmailVerified: true, Name: "Ada"})
	// The same person at another instance: another account, the same address.
	second := "oidc op2 site {env.OP_SECRET} {\n\t\t\tissuer {$ISSUER}\n\t\t\tallow_email_account_merge off\n\t\t}\n\t\toidc op site"
	s := play(t, strings.ReplaceAll(strings.Replace(usual, "oidc op site", second, 1), "{$ISSUER}", issuer.URL))
	issuer.Client("site", clientSecret, s.site+"/.login/op/callback", s.site+"/.login/op2/callback")
	signIn := func(by string) e2e.Answer {
		visitor := e2e.NewVisitor(t)
		begun := visitor.Get(s.site + "/.login/" + by + "?return=%2Fin")
		mustBe(t, begun, http.StatusFound)
		callback, _ := issuer.SignIn(t, http.DefaultClient, begun.Header.Get("Location"), "ada")
		return visitor.Follow(callback.String())
	}
	mustBe(t, signIn("op"), http.StatusOK)
	s.app.Forget()
	refused := signIn("op2")
	mustBe(t, refused, http.StatusConflict)
	wantErrorPage(t, refused)
	s.untouched(t)
	mustBe(t, signIn("op"), http.StatusOK)
}

func TestUnsafeAddressIsRefusedWithTheCure(t *testing.T) {
	s := play(t, usual+"\nhttp://plain.test:{$PORT2} {\n\tlogin {\n\t\toidc op site {env.OP_SECRET} {\n\t\t\tissuer {$ISSUER}\n\t\t}\n\t\tallow users\n\t}\n\treverse_proxy {$APP}\n}\n")
	got := e2e.NewVisitor(t).Follow(fmt.Sprintf("http://plain.test:%d/", s.Port2))
	wantErrorPage(t, got)
	if len(got.Cookies()) != 0 {
		t.Errorf("sets %v", got.Cookies())
	}
	e2e.Eventually(t, e2e.Patience, "the log names the cure", func() bool {
		return strings.Contains(s.Log(), "origin https://plain.test")
	})
	s.untouched(t)
}

func TestSiteBehindAnotherTLSEndUsesItsOrigin(t *testing.T) {
	s := play(t, "\nhttp://inner.test:{$PORT2} {\n\tlogin {\n\t\toidc op site {env.OP_SECRET} {\n\t\t\tissuer {$ISSUER}\n\t\t}\n\t\torigin https://app.test:{$PORT}\n\t\tallow users\n\t}\n\treverse_proxy {$APP}\n}\n"+
		"https://app.test:{$PORT} {\n\treverse_proxy 127.0.0.1:{$PORT2} {\n\t\theader_up Host inner.test\n\t}\n}\n")
	visitor := e2e.NewVisitor(t)
	got := visitor.SignIn(s.site+"/deep?x=1", e2e.Ada)
	mustBe(t, got, http.StatusOK)
	if got.Request.URL.String() != s.site+"/deep?x=1" || visitor.Cookie(s.site, cookieName) == "" {
		t.Errorf("landed at %s with %q", got.Request.URL, visitor.Cookies(s.site))
	}
	if last := s.app.Last(); last.Value("Remote-Email") != "ada@example.com" {
		t.Errorf("the app received\n%s", last.Raw)
	}
}

func TestCookieDomainSharesTheSession(t *testing.T) {
	site := "https://HOST:{$PORT} {\n\tlogin\n\treverse_proxy {$APP}\n}\n"
	s := playWith(t, "{\n\tlogin {\n\t\toidc op site {env.OP_SECRET} {\n\t\t\tissuer {$ISSUER}\n\t\t}\n\t\tallow users\n\t\tcookie {\n\t\t\tdomain shared.test\n\t\t}\n\t}\n}\n"+
		strings.Replace(site, "HOST", "a.shared.test", 1)+strings.Replace(site, "HOST", "b.shared.test", 1)+strings.Replace(site, "HOST", "app.test", 1), nil)
	// Outside of the domain no cookie could come back: no sign-in there.
	wantErrorPage(t, e2e.NewVisitor(t).Get(s.site+"/.login/op"))
	got := e2e.NewVisitor(t).Get(fmt.Sprintf("https://a.shared.test:%d/.login/op", s.Port))
	mustBe(t, got, http.StatusFound)
	for _, cookie := range got.Cookies() {
		if !strings.HasPrefix(cookie.Name, "__Secure-login-") || cookie.Domain != "shared.test" || !cookie.Secure || !cookie.HttpOnly {
			t.Errorf("%s", cookie)
		}
	}
}

func TestSessionOfAProviderNotOfferedIsNoneHere(t *testing.T) {
	second := strings.NewReplacer("{$PORT}", "{$PORT2}", "oidc op site", "oidc strict site", "allow *@example.com", "allow users").Replace(usual)
	s := play(t, usual+second)
	ada := s.signedIn(t, e2e.Ada)
	mustBe(t, ada.Get(s.site+"/in"), http.StatusOK)
	s.app.Forget()
	elsewhere := fmt.Sprintf("https://app.test:%d", s.Port2)
	mustBe(t, ada.Get(elsewhere+"/in"), http.StatusFound)
	s.untouched(t)
	mustBe(t, ada.Get(elsewhere+"/public/x"), http.StatusOK)
	if user := s.app.Last().Value("Remote-User"); user != "" {
		t.Errorf("known there as %q", user)
	}
	// The provider leaves the config: so do its sessions.
	s.Reload(strings.Replace(usual, "oidc op site", "oidc other site", 1))
	mustBe(t, ada.Get(s.site+"/in"), http.StatusFound)
}

func TestForbiddenMayBeCaddysToRender(t *testing.T) {
	s := play(t, strings.Replace(with("pages {\n\t\t\tforbidden handle_errors\n\t\t}"), "\treverse_proxy", "\thandle_errors {\n\t\trespond \"our own {err.status_code} for {http.auth.user.email}\"\n\t}\n\treverse_proxy", 1))
	got := s.signedIn(t, e2e.Zoe).Get(s.site + "/in")
	mustBe(t, got, http.StatusForbidden)
	if got.Body != "our own 403 for zoe@example.org" {
		t.Errorf("%q", got.Body)
	}
	s.untouched(t)
}

func TestHeadersAreTheOperatorsChoice(t *testing.T) {
	s := play(t, with("headers remote {\n\t\t\tX-WEBAUTH-USER {email}\n\t\t\tX-Who \"{name} <{email}>\"\n\t\t}", "role mathematician group:maths"))
	ada := s.signedIn(t, e2e.Ada)
	r := ada.Navigation(s.site + "/in")
	r.Header["X_who"] = []string{"forged"}
	r.Header["X-Webauth-User"] = []string{"forged"}
	mustBe(t, ada.Do(r), http.StatusOK)
	last := s.app.Last()
	for name, want := range map[string]string{
		"X-Webauth-User": "ada@example.com", "X-Who": "Ada Lovelace <ada@example.com>",
		"Remote-Email": "ada@example.com", "Remote-Roles": "mathematician",
	} {
		if got := last.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if strings.Contains(last.Raw, "forged") {
		t.Errorf("the forged one came through:\n%s", last.Raw)
	}
}

func TestPlaceholdersNameTheVisitorOrNobody(t *testing.T) {
	s := play(t, strings.Replace(usual, "\treverse_proxy", "\trespond /public/who \"[{http.auth.user.id}|{http.auth.user.email}|{http.auth.user.provider}|{http.auth.user.name}|{http.auth.user.roles}|{http.auth.user.session}]\"\n\treverse_proxy", 1))
	if got := e2e.NewVisitor(t).Get(s.site + "/public/who").Body; got != "[|||||]" {
		t.Errorf("nobody is %q", got)
	}
	got := s.signedIn(t, e2e.Ada).Get(s.site + "/public/who").Body
	if !strings.Contains(got, "|ada@example.com|op|Ada Lovelace||") || strings.Contains(got, "{") {
		t.Errorf("Ada is %q", got)
	}
}

func TestMetricsCountOutcomes(t *testing.T) {
	s := play(t, usual)
	ada := s.signedIn(t, e2e.Ada)
	s.isIn(ada)
	e2e.NewVisitor(t).Get(s.site + "/in")
	e2e.NewVisitor(t).Get(s.site + "/.login/op/callback?code=x&state=y")
	mustBe(t, s.signedIn(t, e2e.Zoe).Get(s.site+"/in"), http.StatusForbidden)
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", s.AdminPort))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	for _, line := range []string{
		`caddy_login_attempts_total{outcome="succeeded",provider="op"} 2`,
		`caddy_login_attempts_total{outcome="expired",provider="op"} 1`,
		`caddy_login_requests_total{verdict="sign_in"} 1`,
		`caddy_login_requests_total{verdict="denied"} 1`,
		`caddy_login_sessions 2`,
	} {
		if !strings.Contains(string(body), line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	if strings.Contains(string(body), "example.com") || strings.Contains(string(body), "@") {
		t.Error("an address is a label")
	}
}

func TestOneLineForEachOutcome(t *testing.T) {
	s := play(t, usual)
	ada := s.signedIn(t, e2e.Ada)
	id := wantErrorPage(t, e2e.NewVisitor(t).Get(s.site+"/.login/op/callback?code=x&state=y"))
	s.signOut(t, ada)
	e2e.Eventually(t, e2e.Patience, "the last line is written", func() bool {
		return strings.Contains(s.Log(), `"signed out"`)
	})
	seen := map[string]int{}
	for _, line := range s.Logs() {
		msg, _ := line["msg"].(string)
		if line["logger"] != "login" || line["request_id"] == nil {
			continue
		}
		seen[msg]++
		if msg == "sign-in failed" && line["request_id"] != id {
			t.Errorf("the log has id %v, the page %s", line["request_id"], id)
		}
		if line["request_id"] == "" || strings.Contains(fmt.Sprint(line), "@") {
			t.Errorf("line %v", line)
		}
	}
	if want := map[string]int{"signed in": 1, "sign-in failed": 1, "signed out": 1}; !maps.Equal(seen, want) {
		t.Errorf("lines %v, want %v", seen, want)
	}
}

func TestStrangersFloodLeavesNothingBehind(t *testing.T) {
	s := play(t, usual)
	size := func() (n int64) {
		_ = filepath.Walk(filepath.Join(s.DataDir(), "login"), func(_ string, info os.FileInfo, err error) error {
			if err == nil && !info.IsDir() {
				n += info.Size()
			}
			return nil
		})
		return n
	}
	visitor, kept := e2e.NewHTTP2Visitor(t), s.records(t)
	before, began := size(), time.Now()
	for range 500 {
		visitor.ForgetCookies()
		mustBe(t, visitor.Get(s.site+"/.login/op?return=%2F"), http.StatusFound)
	}
	if after := size(); after != before {
		t.Errorf("the store grew from %d to %d bytes in %s", before, after, time.Since(began))
	}
	s.callbacksAreLimited(t, visitor)
	if after := size(); after != before {
		t.Errorf("callbacks had the store grow from %d to %d bytes", before, after)
	}
	// A little more makes its files no longer.
	if now := s.records(t); now != kept {
		t.Errorf("the store held %d records and holds %d", kept, now)
	}
}

// records is how many there are in the store. It has Caddy let go of it meanwhile.
func (s *stage) records(t *testing.T) (n int) {
	t.Helper()
	s.Stop()
	defer s.Restart()
	store := logintest.StoreIn(t, filepath.Join(s.DataDir(), "login"))
	defer store.Close()
	err := store.View(t.Context(), func(tx guest.Tx) error {
		return tx.Scan(nil, nil, 0, func(_, _ []byte) bool { n++; return true })
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// callbacksAreLimited comes back from nowhere until that is refused. A network
// may 200 times at once and 20 times a second, however slowly it is served: from
// so many goroutines it comes faster than that.
func (s *stage) callbacksAreLimited(t *testing.T, visitor *e2e.Visitor) {
	t.Helper()
	var taken, refused atomic.Int64
	var all sync.WaitGroup
	began := time.Now()
	for range 16 {
		all.Go(func() {
			for tries := 0; refused.Load() == 0 && tries < 1000; tries++ {
				got, err := visitor.Another().Try(visitor.Navigation(s.site + "/.login/op/callback?code=x&state=y"))
				switch {
				case err != nil:
					t.Error(err)
					return
				case got.StatusCode == http.StatusTooManyRequests:
					refused.Add(1)
				default:
					taken.Add(1)
				}
			}
		})
	}
	all.Wait()
	if most := 201 + 20*int64(time.Since(began)/time.Second+1); refused.Load() == 0 || taken.Load() > most {
		t.Errorf("%d callbacks were refused, %d taken; at most %d may be", refused.Load(), taken.Load(), most)
	}
}
