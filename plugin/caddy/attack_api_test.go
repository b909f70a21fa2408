package main_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
	"github.com/caddy-login/caddy-login/module/logintest/inbox"
)

// Where no cookie could come back to, since it is not https, no token is handed
// out either: who listens there would have somebody's session for weeks. What a
// person brings there is not used up.
func TestNoTokenGoesInTheClear(t *testing.T) {
	t.Parallel()
	s := playForApps(t, quietThird)
	v := e2e.NewVisitor(t)
	plain := fmt.Sprintf("http://plain.test:%d", s.Port2)
	given := s.issuer.AppToken("ios", "ada", "")
	verifier, challenge := verifierOf("clear")
	for _, fields := range []tokenFields{
		byIDToken(given),
		byIDToken(given, "code_challenge", challenge),
		{"grant_type": "refresh_token", "refresh_token": s.enterApp(t, v, "grace").Refresh},
	} {
		got, _ := s.trade(t, v, plain, fields)
		wantRefused(t, got, http.StatusBadRequest, "unsafe_address")
	}
	for path, body := range map[string]tokenFields{
		"challenges": {"kind": "email", "email": "ada@example.com", "code_challenge": challenge},
		"intents":    {"provider": "op", "return": "http://127.0.0.1/", "code_challenge": challenge},
	} {
		got := v.Do(calling(v, http.MethodPost, plain+"/.login/api/v1/"+path, body))
		wantRefused(t, got, http.StatusBadRequest, "unsafe_address")
	}
	if n := s.box.Waiting(); n > 0 {
		t.Errorf("%d mails were sent", n)
	}
	got, _ := s.trade(t, v, s.site, byIDToken(given))
	mustBe(t, got, http.StatusOK)
	// An app that begins by https ends there.
	var begun enveloped
	into(t, v.Do(calling(v, http.MethodPost, s.site+"/.login/api/v1/challenges", tokenFields{"kind": "email", "email": "ada@example.com", "code_challenge": challenge})), &begun)
	at := "/.login/api/v1/challenges/" + begun.Challenges[0].ID + "/check"
	typed := tokenFields{"code": s.box.Code(), "code_verifier": verifier}
	mustBe(t, v.Do(calling(v, http.MethodPost, plain+at, typed)), http.StatusBadRequest)
	mustBe(t, v.Do(calling(v, http.MethodPost, s.site+at, typed)), http.StatusOK)
}

// Whatever ends a person's sessions ends their apps' at once: the access token,
// the refresh token, and what a return code of a moment ago would have become.
func TestWhatEndsSessionsEndsAppsToo(t *testing.T) {
	t.Parallel()
	for what, end := range map[string]func(t *testing.T, s *accounts, browser *e2e.Visitor, user string){
		"signed out everywhere else": func(t *testing.T, s *accounts, browser *e2e.Visitor, _ string) {
			s.change(t, browser, "ended_others", "do", "end_others")
		},
		"disabled": func(t *testing.T, s *accounts, _ *e2e.Visitor, user string) {
			mustBeDone(t, s, "users/"+user+"/disable")
			mustBeDone(t, s, "users/"+user+"/enable") // brings none of them back
		},
		"disconnected": func(t *testing.T, s *accounts, browser *e2e.Visitor, _ string) {
			own := (&selfService{accounts: s, v: browser}).identities(t)
			mustBe(t, s.act(t, browser, "do", "unlink", "key", own[0].ID), http.StatusSeeOther)
		},
		"to be deleted": func(t *testing.T, s *accounts, browser *e2e.Visitor, _ string) {
			mustBe(t, browser.Do(s.form(browser, s.site, "/account/delete", "do", "delete", "sure", "1")), http.StatusOK)
		},
	} {
		s := playAccounts(t, lookedAfter)
		app, late := programOf(t, e2e.NewVisitor(t), s.site), programOf(t, e2e.NewVisitor(t), s.site)
		browser := s.known(t, "op", "ada")
		intent, code := letsIn(t, app, browser)
		in := app.wantStatus("authenticated", "intents/validate", "intent", intent, "code_verifier", app.verifier, "return_code", code)
		if app.bears(in).sees(s.stage) == "" {
			t.Fatal("the app is not in")
		}
		intent, code = letsIn(t, late, browser)
		end(t, s, browser, in.Session.User)
		if app.sees(s.stage) != "" {
			t.Errorf("%s: the access token is good", what)
		}
		mustBe(t, bearing(app.Visitor, s.site+"/.login/api/v1/session", "Bearer "+app.bearer), http.StatusUnauthorized)
		refresh := tokenFields{"grant_type": "refresh_token", "refresh_token": in.Tokens.Refresh}
		wantRefused(t, app.Do(calling(app.Visitor, http.MethodPost, s.site+"/.login/api/v1/token", refresh)), http.StatusBadRequest, "invalid_token")
		if got, out := late.call("intents/validate", "intent", intent, "code_verifier", late.verifier, "return_code", code); out.Tokens != nil {
			t.Errorf("%s: a return code of before signs in: %s", what, got.Body)
		}
	}
}

func mustBeDone(t *testing.T, s *accounts, path string) {
	t.Helper()
	if got := s.operator(t, http.MethodPost, path, ""); got.status != http.StatusOK {
		t.Fatalf("%s: %d", path, got.status)
	}
}

// Sites below one cookie domain, or at several ports of a host, share what a
// browser holds, and no script of the one reads it. Tokens are no cookie: an app
// behind the one site, whose pages can press any button there, would take them to
// the other.
func TestTokensAreOfOneSiteWhoeverSharesItsCookies(t *testing.T) {
	t.Parallel()
	s := &reception{
		mailed: &mailed{stage: &stage{Caddy: e2e.NewCaddy(t, e2e.Build(t)), app: e2e.NewApp(t)}, box: inbox.New(t)},
		issuer: logintest.NewIssuer(t),
	}
	s.site, s.other = fmt.Sprintf("https://a.shared.test:%d", s.Port), fmt.Sprintf("https://b.shared.test:%d", s.Port)
	s.issuer.Client("site", clientSecret, s.site+"/.login/op/callback", s.other+"/.login/op/callback")
	s.Env["APP"], s.Env["SMTP"], s.Env["SMTP_CA"] = s.app.Addr, s.box.Addr, s.box.CAFile
	s.Env["ISSUER"], s.Env["OP_SECRET"] = s.issuer.Issuer, clientSecret
	port := e2e.FreePort(t)
	beside := fmt.Sprintf("https://b.shared.test:%d", port)
	s.Env["PORT3"] = strconv.Itoa(port)
	s.Start(sharing("a.shared.test", "signup on", "email_trust verified") + sharing("b.shared.test", "signup on", "email_trust verified") +
		strings.ReplaceAll(sharing("b.shared.test", "signup on", "email_trust verified"), "{$PORT}", "{$PORT3}"))
	s.person("holder", "ada@example.com")
	ada := s.visitor(t)
	mustBe(t, s.comes(t, ada, s.other, "op", "holder"), http.StatusOK)
	for _, site := range []string{s.site, s.other, beside} {
		mustBe(t, ada.Get(site+"/in"), http.StatusOK)
	}
	app := programOf(t, e2e.NewVisitor(t), s.other)
	intent, code := letsIn(t, app, ada)
	in := app.wantStatus("authenticated", "intents/validate", "intent", intent, "code_verifier", app.verifier, "return_code", code)
	refresh := tokenFields{"grant_type": "refresh_token", "refresh_token": in.Tokens.Refresh}
	trade := func(site string) e2e.Answer {
		return app.Do(calling(app.Visitor, http.MethodPost, site+"/.login/api/v1/token", refresh))
	}
	for _, neighbour := range []string{s.site, beside} {
		wantRefused(t, trade(neighbour), http.StatusBadRequest, "invalid_token")
		wantInvalidToken(t, bearing(app.Visitor, neighbour+"/in", "Bearer "+in.Tokens.Access))
	}
	mustBe(t, bearing(app.Visitor, s.other+"/in", "Bearer "+in.Tokens.Access), http.StatusOK)
	mustBe(t, trade(s.other), http.StatusOK)
}

// The app behind the gate is of our pages' origin. A script of it must not let an
// app in where nobody looks: the question is for a person.
func TestScriptOfTheAppLetsNoAppIn(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	browser := s.known(t, "op", "ada")
	app := programOf(t, e2e.NewVisitor(t), s.site)
	begun := app.wantStatus("redirect_to_provider", "intents", "provider", "op", "return", "http://127.0.0.1/", "code_challenge", app.binding())
	asked := browser.Get(begun.AuthURL)
	for mode, dest := range map[string]string{"cors": "empty", "same-origin": "empty", "navigate": "iframe"} {
		r := lettingInBy(t, browser, asked, "continue")
		r.Header.Set("Sec-Fetch-Mode", mode)
		r.Header.Set("Sec-Fetch-Dest", dest)
		if got := browser.Do(r); got.StatusCode != http.StatusForbidden || strings.Contains(got.Body, "return_code") {
			t.Errorf("%s of %s: %d\n%.1000s", mode, dest, got.StatusCode, got.Body)
		}
	}
	r := lettingInBy(t, browser, asked, "continue")
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Sec-Fetch-Dest", "document")
	returnCode(t, browser.Do(r))
}
