package main_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// signOut asks, confirms, and returns the answer to the confirmation.
func (s *stage) signOut(t *testing.T, visitor *e2e.Visitor) e2e.Answer {
	t.Helper()
	asked := visitor.Get(s.site + "/.login/logout")
	mustBe(t, asked, http.StatusOK)
	if !s.isIn(visitor) {
		t.Fatal("a GET signed out")
	}
	got := visitor.Submit(asked)
	if got.StatusCode >= 400 {
		t.Fatalf("signing out: %d\n%s", got.StatusCode, got.Body)
	}
	return got
}

func TestSignedOutIsSignedOutForGood(t *testing.T) {
	s := play(t, usual)
	visitor := s.signedIn(t, e2e.Ada)
	thief := replay(visitor, s.site, visitor.Cookie(s.site, cookieName))
	bystander := s.signedIn(t, e2e.Ada)
	if !s.isIn(thief) {
		t.Fatal("the copied cookie is worth nothing before signing out")
	}
	s.signOut(t, visitor)
	if cookie := visitor.Cookie(s.site, cookieName); cookie != "" {
		t.Error("the browser kept its cookie")
	}
	for when, turn := range map[string]func(){
		"at once": func() {}, "after a reload": func() { s.Reload(usual) },
		"after a restart": func() { s.Stop(); s.Restart() }, "after kill -9": func() { s.Kill(); s.Restart() },
	} {
		turn()
		if s.isIn(thief) {
			t.Errorf("%s the old cookie signs in", when)
		}
		if !s.isIn(bystander) {
			t.Errorf("%s another session of the same person is gone", when)
		}
	}
}

func TestSignOutSurvivesKillRightAfterTheAnswer(t *testing.T) {
	s := play(t, usual)
	for range 3 {
		visitor := s.signedIn(t, e2e.Ada)
		thief := replay(visitor, s.site, visitor.Cookie(s.site, cookieName))
		asked := visitor.Get(s.site + "/.login/logout")
		visitor.Submit(asked)
		s.Kill()
		s.Restart()
		if s.isIn(thief) {
			t.Fatal("the ended session came back")
		}
	}
}

func TestOthersCannotSignYouOut(t *testing.T) {
	s := play(t, usual)
	visitor := s.signedIn(t, e2e.Ada)
	for what, head := range map[string]http.Header{
		"another site":   {"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"cross-site"}},
		"a sibling site": {"Origin": {"https://sibling.app.test"}, "Sec-Fetch-Site": {"same-site"}},
		"no origin":      {"Origin": {"null"}},
	} {
		r := visitor.Request(http.MethodPost, s.site+"/.login/logout", "return=%2F")
		r.Header = head
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if got := visitor.Do(r); got.StatusCode < 400 {
			t.Errorf("%s: %d", what, got.StatusCode)
		}
		if !s.isIn(visitor) {
			t.Fatalf("%s signed Ada out", what)
		}
	}
}

func TestSessionSurvivesReloadRestartAndKill(t *testing.T) {
	s := play(t, usual)
	visitor := s.signedIn(t, e2e.Ada)
	s.Kill() // at once: what was answered is on disk
	s.Restart()
	if !s.isIn(visitor) {
		t.Error("kill -9 signed Ada out")
	}
	s.Stop()
	s.Restart()
	if !s.isIn(visitor) {
		t.Error("a restart signed Ada out")
	}
	s.Reload(strings.Replace(usual, "Our People", "Your People", 1))
	if !s.isIn(visitor) {
		t.Error("a reload signed Ada out")
	}
}

func TestHalfDoneSignInSurvivesReloadAndKill(t *testing.T) {
	s := play(t, usual)
	for when, turn := range map[string]func(){
		"reload": func() { s.Reload(strings.Replace(usual, "Our People", "Your People", 1)) },
		"kill":   func() { s.Kill(); s.Restart() },
	} {
		visitor := e2e.NewVisitor(t)
		page := visitor.Follow(s.site + "/deep?q=1")
		turn()
		got := visitor.Follow(visitor.AnswerProvider(page, e2e.Ada))
		mustBe(t, got, http.StatusOK)
		if got.Request.URL.RequestURI() != "/deep?q=1" {
			t.Errorf("%s: ended at %s", when, got.Request.URL)
		}
	}
}

func TestReloadLosesNoRequest(t *testing.T) {
	logged := strings.Replace(usual, "\tlogin {", "\tlog\n\tlogin {", 1)
	s := play(t, logged)
	// What no handler has seen is asked again: see persists.
	c := newCrowd()
	visitor := c.persists(t, s.signedIn(t, e2e.Ada), false)
	var asked, failed atomic.Int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			got, err := visitor.Try(visitor.Navigation(s.site + "/in"))
			asked.Add(1)
			if err != nil || got.StatusCode != http.StatusOK {
				failed.Add(1)
			}
		}
	}()
	for i := range 5 {
		s.Reload(strings.Replace(logged, "Our People", "People "+string(rune('A'+i)), 1))
	}
	close(stop)
	<-stopped
	if failed.Load() > 0 || asked.Load() < 10 {
		t.Errorf("%d of %d requests failed", failed.Load(), asked.Load())
	}
	s.Stop()
	c.account(t, s.Log())
	if len(c.dropped) > 5 { // one request at a time, five reloads
		t.Errorf("%d requests were dropped", len(c.dropped))
	}
}

func TestRefusedConfigChangesNothing(t *testing.T) {
	s := play(t, usual)
	visitor := s.signedIn(t, e2e.Ada)
	for what, bad := range map[string]string{
		"no allow":          strings.Replace(strings.Replace(strings.Replace(usual, "allow /public/* anyone", "", 1), "allow /maths/* group:maths", "", 1), "allow *@example.com", "", 1),
		"an unset variable": strings.Replace(usual, "*@example.com", "{$NOT_SET}", 1),
		"a misspelt option": strings.Replace(usual, "issuer", "isuer", 1),
		"a matcher":         strings.Replace(usual, "login {", "login /x {", 1),
		"an http issuer":    strings.Replace(usual, "{$ISSUER}", "http://op.example.com", 1),
		"an unknown role":   strings.Replace(usual, "group:maths", "role:nobody", 1),
	} {
		if out, err := s.TryReload(bad); err == nil {
			t.Errorf("%s was loaded: %s", what, out)
		}
		if !s.isIn(visitor) {
			t.Fatalf("%s signed Ada out", what)
		}
	}
}

func TestEverySignInIsANewSession(t *testing.T) {
	s := play(t, usual)
	visitor := s.signedIn(t, e2e.Ada)
	first := visitor.Cookie(s.site, cookieName)
	mustBe(t, visitor.Follow(s.site+"/.login/op?return=%2Fin"), http.StatusOK) // the provider remembers her
	second := visitor.Cookie(s.site, cookieName)
	if second == "" || second == first {
		t.Fatal("the session is the same")
	}
	if s.isIn(replay(visitor, s.site, first)) {
		t.Error("the session before still lives")
	}
	if !s.isIn(visitor) {
		t.Error("the new session is worth nothing")
	}
}
