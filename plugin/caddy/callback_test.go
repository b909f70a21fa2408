package main_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

func TestCallbackIsSpentOnce(t *testing.T) {
	s := play(t, usual)
	visitor := e2e.NewVisitor(t)
	callback := visitor.UntilCallback(s.site+"/in", e2e.Ada)
	jar := visitor.Cookies(s.site)
	answers := make([]e2e.Answer, 32)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() {
			r := visitor.Navigation(callback)
			r.Header.Set("Cookie", strings.Join(jar, "; "))
			twin := visitor.Another()
			var err error
			if answers[i], err = twin.Try(r); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	sessions := 0
	for _, answer := range answers {
		if answer.Response == nil {
			continue
		}
		if session(answer) != "" {
			sessions++
			continue
		}
		wantErrorPage(t, answer)
	}
	if sessions != 1 {
		t.Errorf("%d sessions were begun", sessions)
	}
	if calls := s.provider.TokenCalls(); calls != 1 {
		t.Errorf("the code was redeemed %d times", calls)
	}
	// And for good: after a restart, too.
	s.Kill()
	s.Restart()
	r := visitor.Navigation(callback)
	r.Header.Set("Cookie", strings.Join(jar, "; "))
	wantErrorPage(t, visitor.Another().Do(r))
	if calls := s.provider.TokenCalls(); calls != 1 {
		t.Errorf("after a restart the code was redeemed %d times", calls)
	}
}

func TestStateMustBeThisBrowsers(t *testing.T) {
	s := play(t, usual)
	attacker, victim := e2e.NewVisitor(t), e2e.NewVisitor(t)
	attackers := attacker.UntilCallback(s.site+"/in", e2e.Mallory)
	wantErrorPage(t, victim.Get(attackers))
	if s.isIn(victim) {
		t.Fatal("the victim is signed in as the attacker")
	}
	// Also where the victim is about to sign in.
	page := victim.Follow(s.site + "/in")
	wantErrorPage(t, victim.Get(attackers))
	if calls := s.provider.TokenCalls(); calls != 0 {
		t.Errorf("the provider was asked for tokens %d times", calls)
	}
	mustBe(t, victim.Follow(victim.AnswerProvider(page, e2e.Ada)), http.StatusOK)
	if got := s.app.Last().Value("Remote-Email"); got != e2e.Ada.Email {
		t.Errorf("the victim is %q", got)
	}
	wantErrorPage(t, victim.Get(attackers))
	victim.Get(s.site + "/in")
	if got := s.app.Last().Value("Remote-Email"); got != e2e.Ada.Email {
		t.Errorf("the victim became %q", got)
	}
}

func TestOldSessionOutlivesAForgedCallback(t *testing.T) {
	s := play(t, usual)
	ada := s.signedIn(t, e2e.Ada)
	wantErrorPage(t, ada.Get(s.site+"/.login/op/callback?code=x&state=y"))
	if !s.isIn(ada) {
		t.Error("a forged callback signed Ada out")
	}
}

func TestSaidNoAtTheProvider(t *testing.T) {
	s := play(t, usual)
	visitor := e2e.NewVisitor(t)
	page := visitor.Follow(s.site + "/in")
	cancelled := visitor.Request(http.MethodPost, page.Request.URL.String(), "cancel=yes")
	cancelled.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	got := visitor.FollowOn(visitor.Do(cancelled))
	wantErrorPage(t, got)
	if strings.Contains(got.Body, "The person said no") {
		t.Error("the page shows what the provider wrote")
	}
	s.untouched(t)
}

// nonsense are changes to the provider's answer, which is for an attempt of
// this very browser.
var nonsense = map[string]func(q url.Values){
	"nothing":                 func(q url.Values) { clear(q) },
	"no state":                func(q url.Values) { q.Del("state") },
	"empty state":             set("state", ""),
	"wrong state":             set("state", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
	"long state":              set("state", strings.Repeat("A", 6000)),
	"no code":                 func(q url.Values) { q.Del("code") },
	"empty code":              set("code", ""),
	"wrong code":              set("code", "not-a-code-of-anybody"),
	"long code":               set("code", strings.Repeat("c", 6000)),
	"no iss":                  func(q url.Values) { q.Del("iss") },
	"wrong iss":               set("iss", "https://evil.example"),
	"iss with a slash":        func(q url.Values) { q.Set("iss", q.Get("iss")+"/") },
	"two states":              func(q url.Values) { q.Add("state", q.Get("state")) },
	"two codes":               func(q url.Values) { q.Add("code", "x") },
	"an error":                func(q url.Values) { q.Del("code"); q.Set("error", "access_denied") },
	"login_required":          func(q url.Values) { q.Del("code"); q.Set("error", "login_required") },
	"an unknown error":        func(q url.Values) { q.Del("code"); q.Set("error", "<script>alert(1)</script>") },
	"markup in a description": func(q url.Values) { q.Set("error", "x"); q.Set("error_description", "<img src=x onerror=alert(1)>") },
	"an error and a code":     set("error", "server_error"),
	"NUL":                     set("state", "\x00"),
	"not UTF-8":               set("state", "\xff\xfe"),
	"an array":                func(q url.Values) { q["state[]"] = q["state"]; q.Del("state") },
}

func set(name, value string) func(url.Values) {
	return func(q url.Values) { q.Set(name, value) }
}

func TestNonsenseAtTheCallbackIsAPage(t *testing.T) {
	s := play(t, usual)
	for what, change := range nonsense {
		t.Run(what, func(t *testing.T) {
			visitor := e2e.NewVisitor(t)
			callback, err := url.Parse(visitor.UntilCallback(s.site+"/in", e2e.Ada))
			if err != nil {
				t.Fatal(err)
			}
			query := callback.Query()
			change(query)
			callback.RawQuery = query.Encode()
			got := visitor.Get(callback.String())
			id := wantErrorPage(t, got)
			for _, markup := range []string{"<script>alert", "<img src=x"} {
				if strings.Contains(got.Body, markup) {
					t.Errorf("the page shows %s", markup)
				}
			}
			e2e.Eventually(t, e2e.Patience, "the log to know request "+id, func() bool { return strings.Contains(s.Log(), id) })
			if s.isIn(visitor) {
				t.Error("it signed in")
			}
		})
	}
	s.untouched(t)
}

func TestCallbackHasOneMethodAndOneProvider(t *testing.T) {
	s := playWith(t, strings.Replace(usual, "\t\tallow /public", `		oidc twin site {env.OP_SECRET} {
			issuer {$ISSUER}
		}
		allow /public`, 1), nil)
	visitor := e2e.NewVisitor(t)
	callback := visitor.UntilCallback(s.site+"/.login/op?return=/in", e2e.Ada)
	wantErrorPage(t, visitor.Get(strings.Replace(callback, "/op/", "/twin/", 1)))

	posted, err := url.Parse(callback)
	if err != nil {
		t.Fatal(err)
	}
	r := visitor.Request(http.MethodPost, s.site+"/.login/op/callback", posted.RawQuery)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "text/html")
	wantErrorPage(t, visitor.Do(r))
	if s.isIn(visitor) {
		t.Error("it signed in")
	}
	if calls := s.provider.TokenCalls(); calls != 0 {
		t.Errorf("the provider was asked for tokens %d times", calls)
	}
}

func TestReturnAddressStaysHere(t *testing.T) {
	s := play(t, usual)
	for _, evil := range []string{
		"//evil.test", "/\\evil.test", "https://evil.test/", "///evil.test", "/\t/evil.test", "javascript:alert(1)",
		"http:evil.test", "/.login/logout", "//user@evil.test", "\\\\evil.test", "/%0a/evil.test", "/\u2028/evil.test", "https:///evil.test",
	} {
		visitor := e2e.NewVisitor(t)
		callback := visitor.UntilCallback(fmt.Sprintf("%s/.login/op?return=%s", s.site, url.QueryEscape(evil)), e2e.Ada)
		got := visitor.Get(callback)
		to, err := url.Parse(visitor.To(got))
		if err != nil || to.Host != strings.TrimPrefix(s.site, "https://") || to.Scheme != "https" || strings.HasPrefix(to.Path, "//") {
			t.Errorf("%q leads to %s", evil, got.Header.Get("Location"))
		}
	}
	// The intercepted address itself is one.
	got := e2e.Dial(t, s.site).Say("GET //evil.test/x HTTP/1.1\r\nHost: app.test\r\nAccept: text/html\r\n\r\n").Hear("GET")
	if to := got.Header.Get("Location"); got.StatusCode == http.StatusFound && !strings.HasPrefix(to, "/.login/") && !strings.HasPrefix(to, s.site) {
		t.Errorf("sent to %s", to)
	}
}
