package main_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// forwarding is a site whose app calls the provider in the person's name.
const forwarding = `
https://app.test:{$PORT} {
	login {
		oidc op site {env.OP_SECRET} {
			issuer {$ISSUER}
			tokens forward
		}
		allow /public/* anyone
		allow users
	}
	reverse_proxy {$APP}
}
`

const tokenHeader = "X-Forwarded-Access-Token"

// playIssuer serves a site whose provider op is the issuer, with Ada.
func playIssuer(t *testing.T, issuer *logintest.Issuer, caddyfile string) *stage {
	t.Helper()
	s := playWith(t, strings.ReplaceAll(caddyfile, "{$ISSUER}", issuer.Issuer), nil)
	issuer.Client("site", clientSecret, s.site+"/.login/op/callback")
	issuer.Person(logintest.Person{Subject: "ada", Email: "ada@example.com", EmailVerified: true, Name: "Ada"})
	return s
}

// signInAt is a visitor whom the site knows as this person of the issuer's.
func (s *stage) signInAt(t *testing.T, issuer *logintest.Issuer, subject string) *e2e.Visitor {
	t.Helper()
	visitor := e2e.NewVisitor(t)
	begun := visitor.Get(s.site + "/.login/op?return=%2Fpublic%2Fin")
	mustBe(t, begun, http.StatusFound)
	callback, _ := issuer.SignIn(t, http.DefaultClient, begun.Header.Get("Location"), subject)
	mustBe(t, visitor.Follow(callback.String()), http.StatusOK)
	return visitor
}

func TestAccessTokenReachesTheAppAndNobodyForgesIt(t *testing.T) {
	issuer := logintest.NewIssuer(t)
	s := playIssuer(t, issuer, forwarding)
	ada := s.signInAt(t, issuer, "ada")
	r := ada.Navigation(s.site + "/in")
	r.Header.Set(tokenHeader, "forged")
	mustBe(t, ada.Do(r), http.StatusOK)
	token := s.app.Last().Value(tokenHeader)
	if token == "" || token == "forged" {
		t.Fatalf("the app received the token %q", token)
	}
	asked, err := http.NewRequest(http.MethodGet, issuer.URL+"/oauth/userinfo", nil)
	if err != nil {
		t.Fatal(err)
	}
	asked.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(asked)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("the provider takes the token with %s", res.Status)
	}
	// On a public path, from somebody we do not know, in every spelling.
	stranger := e2e.NewVisitor(t)
	for _, name := range []string{tokenHeader, "x_forwarded_access_token", "X-FORWARDED-ACCESS-TOKEN"} {
		r := stranger.Navigation(s.site + "/public/")
		r.Header[name] = []string{"forged"}
		mustBe(t, stranger.Do(r), http.StatusOK)
		if strings.Contains(s.app.Last().Raw, "forged") {
			t.Errorf("%s went through:\n%s", name, s.app.Last().Raw)
		}
	}
	s.killAndRestart()
	mustBe(t, ada.Get(s.site+"/in"), http.StatusOK)
	if again := s.app.Last().Value(tokenHeader); again != token {
		t.Errorf("after a restart the token is %q", again)
	}
	s.LogKeepsSecret(token)
}

// killAndRestart kills Caddy and starts it again.
func (s *stage) killAndRestart() {
	s.Kill()
	s.Restart()
}

// Tokens are renewed half a minute after a sign-in at the earliest, and here
// they are always late: it takes that long.
func TestRenewedTokenReachesTheAppAndADisabledPersonIsOut(t *testing.T) {
	t.Parallel() // twice half a minute
	issuer := logintest.NewIssuer(t)
	issuer.TokenLife = 20 * time.Second
	s := playIssuer(t, issuer, forwarding)
	ada := s.signInAt(t, issuer, "ada")
	mustBe(t, ada.Get(s.site+"/in"), http.StatusOK)
	first := s.app.Last().Value(tokenHeader)
	e2e.Eventually(t, 60*time.Second, "a new token", func() bool {
		mustBe(t, ada.Get(s.site+"/in"), http.StatusOK)
		token := s.app.Last().Value(tokenHeader)
		return token != "" && token != first
	})
	if calls := issuer.Calls(); calls.Refresh != 1 {
		t.Errorf("the provider was asked %d times", calls.Refresh)
	}
	issuer.Revoke("ada")
	e2e.Eventually(t, 60*time.Second, "Ada to be out", func() bool {
		return ada.Get(s.site+"/in").StatusCode == http.StatusFound
	})
	e2e.Eventually(t, e2e.Patience, "the log to say why", func() bool {
		return strings.Contains(s.Log(), "signed out by the provider") && strings.Contains(s.Log(), "grant_ended")
	})
}

func TestTokenHeaderThatSaysWhoIsThereIsRefused(t *testing.T) {
	issuer := logintest.NewIssuer(t)
	s := playIssuer(t, issuer, forwarding)
	for header, cure := range map[string]string{
		"Remote-User":   "choose another name",
		"remote-email":  "choose another name",
		"Authorization": "",
		"Cookie":        "",
		"Host":          "",
	} {
		out, err := s.TryReload(strings.Replace(strings.ReplaceAll(forwarding, "{$ISSUER}", issuer.Issuer), "tokens forward", "tokens forward "+header, 1))
		if err == nil || !strings.Contains(out, header) || !strings.Contains(out, cure) {
			t.Errorf("tokens forward %s: %v\n%s", header, err, out)
		}
	}
}
