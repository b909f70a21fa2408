package main_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// secretsOf are what must not be known to who reads the log: the parameters of
// an address that prove something, and cookies.
func secretsOf(t *testing.T, addresses []string, cookies []string) (secrets []string) {
	t.Helper()
	for _, address := range addresses {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"code", "state", "nonce", "code_challenge", "handle"} {
			if value := u.Query().Get(name); value != "" {
				secrets = append(secrets, value)
			}
		}
	}
	for _, cookie := range cookies {
		if _, value, _ := strings.Cut(cookie, "="); len(value) > 8 {
			secrets = append(secrets, value)
		}
	}
	return secrets
}

func TestLogKeepsEverySecret(t *testing.T) {
	for name, mode := range map[string]string{"query": "query", "form_post": "form_post"} {
		t.Run(name, func(t *testing.T) {
			logged := strings.NewReplacer("https://app.test:{$PORT} {", "{\n\tdebug\n}\nhttps://app.test:{$PORT} {\n\tlog",
				"label ", "response_mode "+mode+"\n\t\t\tlabel ").Replace(usual)
			s := play(t, logged)
			browser := e2e.NewBrowser(t).AllowConsole("the server responded with a status of 4")
			browser.Get(s.site + "/deep?q=1").SignIn(e2e.Ada).See("The app")
			var secrets []string
			for _, cookie := range browser.Cookies("app.test") {
				secrets = append(secrets, cookie.Value)
			}
			// A callback of before, an invented one, and one with a path behind it.
			for _, query := range []string{"code=invented-code-1&state=invented-state-1", "code=invented-code-2&state=invented-state-2&error=invented-error"} {
				browser.Get(s.site + "/.login/op/callback?" + query)
				browser.Get(s.site + "/.login/op/callback/more?" + query)
			}
			secrets = append(secrets, "invented-code-1", "invented-state-1", "invented-code-2", "invented-state-2")
			browser.Get(s.site + "/.login/logout").Click("Sign out")

			secrets = append(secrets, s.walk(t, mode)...)
			secrets = append(secrets, s.provider.Secrets()...)
			secrets = append(secrets, clientSecret, url.QueryEscape(clientSecret))
			s.Stop()
			s.LogKeepsSecret(distinct(secrets)...)
			s.wantNoAddress(t, e2e.Ada.Email)
			if !strings.Contains(s.Log(), "/deep") {
				t.Error("there is no access log")
			}
		})
	}
}

// wantNoAddress looks for a full address in all lines but reverse_proxy's,
// whose debug lines show the app's request as it is.
func (s *stage) wantNoAddress(t *testing.T, email string) {
	t.Helper()
	for _, entry := range s.Logs() {
		if entry["logger"] == "http.handlers.reverse_proxy" {
			continue
		}
		if line := fmt.Sprint(entry); strings.Contains(line, email) || strings.Contains(line, url.QueryEscape(email)) {
			t.Errorf("the log shows an address: %s", line)
		}
	}
}

// walk signs in step by step and returns the secrets met on the way.
func (s *stage) walk(t *testing.T, mode string) (secrets []string) {
	t.Helper()
	visitor := e2e.NewVisitor(t)
	addresses := []string{s.site + "/walk"}
	at := visitor.Get(addresses[0])
	for at.StatusCode == http.StatusFound || at.StatusCode == http.StatusSeeOther {
		addresses = append(addresses, visitor.To(at))
		at = visitor.Get(addresses[len(addresses)-1])
	}
	secrets = secretsOf(t, nil, visitor.Cookies(s.site))
	if mode == "query" {
		callback := visitor.AnswerProvider(at, e2e.Ada)
		addresses = append(addresses, callback)
		visitor.Follow(callback)
		visitor.Get(callback) // a replay
	} else {
		posted := visitor.SubmitAll(visitor.FollowOn(visitor.Submit(at, "person", e2e.Ada.Email)))
		onward := s.site + strings.ReplaceAll(strings.SplitN(strings.SplitN(posted.Body, `content="0;url=`, 2)[1], `"`, 2)[0], "&amp;", "&")
		addresses = append(addresses, onward)
		visitor.Follow(onward)
	}
	if !s.isIn(visitor) {
		t.Fatal("the walk did not sign in")
	}
	return append(secrets, secretsOf(t, addresses, visitor.Cookies(s.site))...)
}

func distinct(secrets []string) (all []string) {
	seen := map[string]bool{}
	for _, secret := range secrets {
		// Our shortest secret has 128 bits; a cookie "1" is none.
		if len(secret) > 8 && !seen[secret] {
			all = append(all, secret)
		}
		seen[secret] = true
	}
	return all
}
