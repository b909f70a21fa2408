package main_test

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// guestOf is somebody who is signed in, here and at the issuer, which calls
// that session sid.
type guestOf struct {
	*e2e.Visitor
	subject, sid, idToken string
}

// enterBoth signs somebody in with a browser that keeps the issuer's cookies,
// too.
func (s *siege) enterBoth(t *testing.T, provider, subject string) guestOf {
	t.Helper()
	g := guestOf{visitorFrom(t, 2+int(networks.Add(1)%250)), subject, "", ""}
	s.issuer.NextLogin(logintest.Faults{
		IDToken: func(claims map[string]any) { g.sid, _ = claims["sid"].(string) },
		Signed:  func(token string) string { g.idToken = token; return token },
	})
	begun := g.Get(s.site + "/.login/" + provider + "?return=%2Fpublic%2Fin")
	at, form := s.issuer.SignIn(t, &http.Client{Jar: g.Jar, Transport: g.Transport}, g.To(begun), subject)
	c := coming{callback: at.String(), form: form}
	tried := trial{siege: s, provider: provider}
	mustBe(t, g.FollowOn(tried.deliver(t, g.Visitor, c)), http.StatusOK)
	s.keep(g.Cookie(s.site, cookieName))
	s.app.Forget()
	return g
}

var networks atomic.Int64

// isInThere reports whether the issuer knows the browser.
func (s *siege) isInThere(t *testing.T, v *e2e.Visitor) bool {
	t.Helper()
	begun := v.Get(s.site + "/.login/op?return=%2F")
	asked, err := url.Parse(v.To(begun))
	if err != nil {
		t.Fatal(err)
	}
	query := asked.Query()
	query.Set("prompt", "none")
	asked.RawQuery = query.Encode()
	back, err := url.Parse(v.To(v.Get(asked.String())))
	if err != nil {
		t.Fatal(err)
	}
	return back.Query().Has("code")
}

// signOutHere presses the button, and returns where that leads: to the issuer.
func (s *siege) signOutHere(t *testing.T, v *e2e.Visitor) *url.URL {
	t.Helper()
	r := v.Request(http.MethodPost, s.site+"/.login/logout", "")
	r.Header.Set("Origin", s.site)
	r.Header.Set("Content-Type", formType)
	got := v.Do(r)
	to := got.Header.Get("Location")
	if match := onward.FindStringSubmatch(got.Body); match != nil {
		to = html.UnescapeString(match[1])
	}
	there, err := url.Parse(to)
	if err != nil || !strings.HasPrefix(to, s.issuer.URL+"/oauth/logout?") {
		t.Fatalf("signing out leads to %q: %d\n%.1500s", to, got.StatusCode, got.Body)
	}
	return there
}

func TestConformanceOfSigningOutAtTheProvider(t *testing.T) {
	s := besiege(t, besieged)
	for name, faults := range map[string]logintest.Faults{
		"oidcc-client-test-rp-init-logout":             {},
		"oidcc-client-test-rp-init-logout-other-state": logintest.OtherState(),
		"oidcc-client-test-rp-init-logout-no-state":    logintest.NoState(),
		"rp-init-logout-state-of-markup":               {Farewell: func(q url.Values) { q.Set("state", "<script>alert(1)</script>") }},
		"rp-init-logout-two-states":                    {Farewell: func(q url.Values) { q.Add("state", "x") }},
		"rp-init-logout-state-of-64-KB":                {Farewell: func(q url.Values) { q.Set("state", strings.Repeat("s", 12<<10)) }},
	} {
		t.Run(name, func(t *testing.T) {
			for mode, provider := range modes {
				t.Run(mode, func(t *testing.T) { s.signOutThere(t, provider, faults) })
			}
		})
	}
}

func (s *siege) signOutThere(t *testing.T, provider string, faults logintest.Faults) {
	ada, grace := s.enterBoth(t, provider, "ada"), s.enterBoth(t, provider, "grace")
	s.issuer.NextLogout(faults)
	there := s.signOutHere(t, ada.Visitor)
	if s.isIn(ada.Visitor) {
		t.Error("still signed in here")
	}
	query := there.Query()
	if query.Get("post_logout_redirect_uri") != s.site+"/.login/logout" || query.Get("client_id") != "site" || query.Get("state") == "" || strings.Count(query.Get("id_token_hint"), ".") != 2 {
		t.Errorf("the issuer is told %q, %q, a state of %d and a hint of %d bytes", query.Get("post_logout_redirect_uri"), query.Get("client_id"), len(query.Get("state")), len(query.Get("id_token_hint")))
	}
	s.keep(query.Get("state"))
	back := ada.Get(there.String())
	if to := ada.To(back); !strings.HasPrefix(to, s.site+"/.login/logout") {
		t.Fatalf("the issuer leads to %q", to)
	}
	got := ada.Get(ada.To(back))
	mustBe(t, got, http.StatusOK)
	if !strings.Contains(got.Body, "signed out") || len(got.Header.Values("Set-Cookie")) > 0 {
		t.Errorf("landed at\n%.1500s", got.Body)
	}
	wantHarmless(t, "signed out", got)
	if s.isInThere(t, ada.Visitor) {
		t.Error("still signed in at the issuer")
	}
	if !s.isIn(grace.Visitor) {
		t.Error("Grace was signed out, too")
	}
}

// tell is the issuer's call: no browser, no cookie, no Origin.
func (s *siege) tell(v *e2e.Visitor, provider, token string) e2e.Answer {
	s.keep(token)
	r := v.Request(http.MethodPost, s.site+"/.login/"+provider+"/backchannel-logout", url.Values{"logout_token": {token}}.Encode())
	r.Header.Set("Content-Type", formType)
	return v.Another().Do(r)
}

// wantAnswer checks an answer to the issuer: its status, and nothing kept.
func wantAnswer(t *testing.T, got e2e.Answer, status int) {
	t.Helper()
	mustBe(t, got, status)
	if got.Header.Get("Cache-Control") != "no-store" || len(got.Header.Values("Set-Cookie")) > 0 || strings.Contains(got.Body, "<html") {
		t.Errorf("%d with %v\n%.500s", got.StatusCode, got.Header, got.Body)
	}
}

func TestConformanceOfLogoutTokens(t *testing.T) {
	s := besiege(t, besieged)
	op := e2e.NewVisitor(t)
	for _, row := range logintest.AcceptedLogouts() {
		s.inBothModes(t, row.Name, fromElsewhere(t), func(t *testing.T, s trial) {
			ada, grace := s.enterBoth(t, s.provider, "ada"), s.enterBoth(t, s.provider, "grace")
			ended := s.told("session_ended", "")
			wantAnswer(t, s.tell(op, s.provider, s.issuer.LogoutToken("site", ada.subject, ada.sid, row.Faults)), http.StatusOK)
			if s.isIn(ada.Visitor) || !s.isIn(grace.Visitor) {
				t.Errorf("Ada is in: %t, Grace: %t", s.isIn(ada.Visitor), s.isIn(grace.Visitor))
			}
			e2e.Eventually(t, e2e.Patience, "the event", func() bool { return s.told("session_ended", "") == ended+1 })
		})
	}
	ada := s.enterBoth(t, "op", "ada")
	for _, row := range logintest.RefusedLogouts() {
		t.Run(row.Name, func(t *testing.T) {
			wantAnswer(t, s.tell(op, "op", s.issuer.LogoutToken("site", ada.subject, ada.sid, row.Faults)), http.StatusBadRequest)
			if !s.isIn(ada.Visitor) {
				t.Fatal("it signed Ada out")
			}
		})
	}
	if s.told("login_failed", "") > 0 {
		t.Error("a logout token counts as a failed sign-in")
	}
}

func TestLogoutTokenEndsWhatItNames(t *testing.T) {
	s := besiege(t, besieged)
	op := e2e.NewVisitor(t)
	first, second, grace := s.enterBoth(t, "op", "ada"), s.enterBoth(t, "op", "ada"), s.enterBoth(t, "op", "grace")
	elsewhere := s.enterBoth(t, "post", "ada")
	in := func() string {
		return fmt.Sprint(s.isIn(first.Visitor), s.isIn(second.Visitor), s.isIn(grace.Visitor), s.isIn(elsewhere.Visitor))
	}
	for _, step := range []struct{ what, subject, sid, provider, in string }{
		{"a session that is none", "", "nobody's", "op", "true true true true"},
		{"a session at another provider of the site", "", first.sid, "post", "true true true true"},
		{"one session", "", first.sid, "op", "false true true true"},
		{"a session and its person", "ada", first.sid, "op", "false true true true"},
		{"nobody known", "nobody", "", "op", "false true true true"},
		{"a person", "ada", "", "op", "false false true true"},
	} {
		wantAnswer(t, s.tell(op, step.provider, s.issuer.LogoutToken("site", step.subject, step.sid)), http.StatusOK)
		if got := in(); got != step.in {
			t.Errorf("%s: %s, want %s", step.what, got, step.in)
		}
	}
	s.Kill()
	s.Restart()
	if got := in(); got != "false false true true" {
		t.Errorf("after a restart: %s", got)
	}
}

func TestLogoutTokenWorksOnce(t *testing.T) {
	s := besiege(t, besieged)
	op, ada := e2e.NewVisitor(t), s.enterBoth(t, "op", "ada")
	token := s.issuer.LogoutToken("site", "ada", ada.sid)
	var all sync.WaitGroup
	var taken, refused atomic.Int64
	for n := range 32 {
		v := visitorFrom(t, 2+n)
		all.Go(func() {
			switch got := s.tell(v, "op", token); got.StatusCode {
			case http.StatusOK:
				taken.Add(1)
			case http.StatusBadRequest:
				refused.Add(1)
			}
		})
	}
	all.Wait()
	if taken.Load() != 1 || refused.Load() != 31 || s.isIn(ada.Visitor) {
		t.Errorf("taken %d times, refused %d times, still in: %t", taken.Load(), refused.Load(), s.isIn(ada.Visitor))
	}
	s.Kill()
	s.Restart()
	wantAnswer(t, s.tell(op, "op", token), http.StatusBadRequest)
}

func TestLogoutTokenMayComeBeforeTheSession(t *testing.T) {
	s := besiege(t, besieged)
	op := e2e.NewVisitor(t)
	before := func(by time.Duration) logintest.Faults {
		return logintest.Set("sid", "early").And(logintest.Set("iat", time.Now().Add(by).Unix()))
	}
	for what, row := range map[string]struct{ subject, sid string }{"its session": {"", "early"}, "its person": {"ada", ""}} {
		v := e2e.NewVisitor(t)
		s.issuer.NextLogin(before(-30 * time.Second))
		c := s.mustCome(t, v, "op", "ada")
		wantAnswer(t, s.tell(op, "op", s.issuer.LogoutToken("site", row.subject, row.sid)), http.StatusOK)
		wantErrorPage(t, v.Get(c.callback))
		if s.isIn(v) {
			t.Errorf("%s: signed in after signing out", what)
		}
	}
	// Whoever signs in anew is in. Times are whole seconds.
	s.issuer.NextLogin(logintest.Set("iat", time.Now().Add(2*time.Second).Unix()))
	if v := e2e.NewVisitor(t); session(v.Get(s.mustCome(t, v, "op", "ada").callback)) == "" {
		t.Error("nobody can sign in again")
	}
}

func TestWhatIsNoLogoutTokenEndsNothing(t *testing.T) {
	s := besiege(t, besieged)
	op := e2e.NewVisitor(t)
	ada := s.enterBoth(t, "op", "ada")
	right := func() string { return s.issuer.LogoutToken("site", "ada", ada.sid) }
	s.issuer.Client("other", strongSecret, "https://other.example/callback")
	post := func(kind, body string) *http.Request {
		r := op.Request(http.MethodPost, s.site+"/.login/op/backchannel-logout", body)
		r.Header.Set("Content-Type", kind)
		return r
	}
	spelled := func(change func(string) string) *http.Request { return post(formType, "logout_token="+change(right())) }
	for what, r := range map[string]*http.Request{
		"an ID token":         post(formType, "logout_token="+ada.idToken),
		"for another client":  post(formType, "logout_token="+s.issuer.LogoutToken("other", "ada", ada.sid)),
		"nothing":             post(formType, ""),
		"empty":               post(formType, "logout_token="),
		"two":                 post(formType, "logout_token="+right()+"&logout_token="+right()),
		"JSON":                post("application/json", `{"logout_token":"`+right()+`"}`),
		"multipart":           post("multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"logout_token\"\r\n\r\n"+right()+"\r\n--b--\r\n"),
		"no type":             post("", "logout_token="+right()),
		"in the address":      op.Request(http.MethodPost, s.site+"/.login/op/backchannel-logout?logout_token="+right(), ""),
		"many fields":         post(formType, "logout_token="+right()+manyFields()),
		"1 MB":                post(formType, "logout_token="+strings.Repeat("A", 1<<20)),
		"a line break":        spelled(func(t string) string { return t[:9] + "%0A" + t[9:] }),
		"padding":             spelled(func(t string) string { return t + "%3D" }),
		"a flipped bit":       spelled(func(t string) string { return t[:len(t)-20] + swapCase(t[len(t)-20:len(t)-10]) + t[len(t)-10:] }),
		"JSON serialization":  spelled(func(t string) string { return url.QueryEscape(`{"payload":"` + payloadOf(t) + `"}`) }),
		"text":                post(formType, "logout_token=x.y.z"),
		"deep":                spelled(func(t string) string { return strings.Repeat("a.", 4000) + t }),
		"attacker's own keys": spelled(withOwnKey(t)),
	} {
		got, err := op.Another().Try(r)
		if what == "1 MB" && err != nil {
			continue // it may end with the connection
		}
		if err != nil || got.StatusCode != http.StatusBadRequest || got.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %v, %d %v", what, err, got2(got, err).StatusCode, got2(got, err).Header)
		}
		if !s.isIn(ada.Visitor) {
			t.Fatalf("%s signed Ada out", what)
		}
	}
	for method, status := range map[string]int{"GET": 405, "PUT": 405, "DELETE": 405, "HEAD": 405, "OPTIONS": 405} {
		r := op.Request(method, s.site+"/.login/op/backchannel-logout?logout_token="+right(), "")
		if got := op.Do(r); got.StatusCode != status {
			t.Errorf("%s: %d", method, got.StatusCode)
		}
	}
	for _, path := range []string{"/.login/nobody/backchannel-logout", "/.login/op/backchannel-logout/x", "/.login/backchannel-logout"} {
		r := post(formType, "logout_token="+right())
		r.URL.Path = path
		mustBe(t, op.Do(r), http.StatusNotFound)
	}
	if !s.isIn(ada.Visitor) {
		t.Error("Ada was signed out")
	}
	s.app.Forget()
}

func manyFields() string {
	var b strings.Builder
	for n := range 3000 {
		fmt.Fprintf(&b, "&%x=", n)
	}
	return b.String()
}

func TestLogoutTokenThatCannotBeCheckedMayComeAgain(t *testing.T) {
	caddyfile, providers, issuers := neighbours(t, "cold")
	s := besiege(t, caddyfile, providers...)
	cold := s.at(issuers["cold"], providers...)
	op, token := e2e.NewVisitor(t), cold.issuer.LogoutToken("site", "ada", "")
	cold.issuer.Down(true)
	wantAnswer(t, cold.tell(op, "cold", token), http.StatusServiceUnavailable)
	cold.issuer.Down(false)
	// A failure to ask is remembered for a while.
	e2e.Eventually(t, e2e.Patience, "the token to be taken", func() bool { return cold.tell(op, "cold", token).StatusCode == http.StatusOK })
	wantAnswer(t, cold.tell(op, "cold", token), http.StatusBadRequest)
	s.LogKeepsSecret(cold.known()...)
}

func TestLogoutTokenByNewKeys(t *testing.T) {
	s := besiege(t, besieged)
	op, ada := e2e.NewVisitor(t), s.enterBoth(t, "op", "ada")
	keys := s.asked().Keys
	s.issuer.RotateKeys()
	wantAnswer(t, s.tell(op, "op", s.issuer.LogoutToken("site", "", ada.sid)), http.StatusOK)
	if s.isIn(ada.Visitor) {
		t.Error("still signed in")
	}
	// Anybody may send tokens: invented keys cost the issuer nothing. They could
	// be new ones, so whoever sends them may come again.
	for n := range 50 {
		wantAnswer(t, s.tell(op, "op", s.issuer.LogoutToken("site", "ada", "", inHeader("kid", fmt.Sprint("invented-", n)))), http.StatusServiceUnavailable)
	}
	if got := s.asked().Keys; got != keys+1 {
		t.Errorf("keys were asked for %d times", got-keys)
	}
}

func TestLogoutTokenEndsOpenStreams(t *testing.T) {
	s := besiege(t, besieged)
	ada := s.enterBoth(t, "op", "ada")
	conn, _ := s.dial(t, s.site, ada.Cookies(s.site))
	echoes(t, conn)
	wantAnswer(t, s.tell(e2e.NewVisitor(t), "op", s.issuer.LogoutToken("site", "ada", "")), http.StatusOK)
	if err := conn.SetReadDeadline(time.Now().Add(35 * time.Second)); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if _, _, err := conn.ReadMessage(); err == nil || time.Since(begun) > 31*time.Second {
		t.Errorf("the stream lived on for %s: %v", time.Since(begun), err)
	}
}

// certified is a site whose provider is the certified one, which calls the site
// when somebody signs out there.
func certified(t *testing.T, withSession bool) *stage {
	t.Helper()
	s := &stage{Caddy: e2e.NewCaddy(t, e2e.Build(t)), app: e2e.NewApp(t)}
	s.site = fmt.Sprintf("https://app.test:%d", s.Port)
	s.provider = e2e.NewProvider(t, e2e.Client{
		ID: "site", Secret: clientSecret,
		RedirectURIs:             []string{s.site + "/.login/op/callback"},
		PostLogoutRedirectURIs:   []string{s.site + "/.login/logout"},
		BackchannelLogoutURI:     s.site + "/.login/op/backchannel-logout",
		BackchannelLogoutSession: withSession,
	})
	s.Env["APP"], s.Env["ISSUER"], s.Env["OP_SECRET"] = s.app.Addr, s.provider.Issuer, clientSecret
	s.Start(usual)
	return s
}

func TestSigningOutEndsBothSessions(t *testing.T) {
	s := certified(t, true)
	browser := e2e.NewBrowser(t)
	browser.Get(s.site + "/deep?q=1").SignIn(e2e.Ada).See("The app")
	browser.Get(s.site + "/.login/logout").Click("Sign out").See("Sign out here, too?")
	browser.Click("Sign out here").See("signed out")
	if at := browser.Address(); !strings.HasPrefix(at, s.site+"/.login/logout") {
		t.Errorf("landed at %s", at)
	}
	browser.Get(s.site + "/deep?q=1").See("Who are you?")
	if s.provider.LogoutCalls() != 1 {
		t.Errorf("the site was told %d times", s.provider.LogoutCalls())
	}
}

// signOutAtProvider presses the button at the provider itself.
func (s *stage) signOutAtProvider(t *testing.T, browser *e2e.Browser) {
	t.Helper()
	before := s.provider.LogoutCalls()
	browser.Get(s.provider.Issuer + "/session/end").Click("Sign out here").See("Signed out here")
	e2e.Eventually(t, e2e.Patience, "the site to be told", func() bool { return s.provider.LogoutCalls() == before+1 })
}

func TestSigningOutAtACertifiedProviderEndsTheSessionHere(t *testing.T) {
	for what, withSession := range map[string]bool{"by session": true, "by person": false} {
		t.Run(what, func(t *testing.T) {
			s := certified(t, withSession)
			browser := e2e.NewBrowser(t)
			browser.Get(s.site + "/deep").SignIn(e2e.Ada).See("The app")
			otherAda, grace := s.signedIn(t, e2e.Ada), s.signedIn(t, e2e.Grace)
			ada := replay(otherAda, s.site, browser.Cookies("app.test")[cookieName].Value)
			if !s.isIn(ada) {
				t.Fatal("the browser is not signed in")
			}
			s.signOutAtProvider(t, browser)
			if s.isIn(ada) {
				t.Error("the browser's session lives on")
			}
			browser.Get(s.site + "/deep").See("You are signed out.").DontSee("The app")
			if !s.isIn(grace) {
				t.Error("Grace was signed out, too")
			}
			if got := s.isIn(otherAda); got != withSession {
				t.Errorf("Ada's other browser is in: %t", got)
			}
		})
	}
}
