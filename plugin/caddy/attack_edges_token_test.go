package main_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// Who saw an app's ID token go by can neither send it again nor respell it: its
// payload in base64 may end in bits that stand for nothing.
func TestIDTokenOfAnAppIsUsedUpInEverySpelling(t *testing.T) {
	t.Parallel()
	s := playForApps(t, forApps)
	v := e2e.NewVisitor(t)
	for _, padding := range []string{"", "x", "xx"} {
		seen := s.issuer.AppToken("ios", "ada", "", logintest.Set("padding", padding), logintest.WithAlg("ES256"))
		got, _ := s.trade(t, v, s.site, byIDToken(seen))
		mustBe(t, got, http.StatusOK)
		for _, again := range append(spellingsOf(seen), seen) {
			got, in := s.trade(t, v, s.site, byIDToken(again))
			if got.StatusCode != http.StatusBadRequest || in.Session.ID != "" {
				t.Errorf("it signs in again: %d", got.StatusCode)
			}
		}
	}
}

// spellingsOf are tokens whose payload decodes to the same bytes.
func spellingsOf(token string) (all []string) {
	parts := strings.Split(token, ".")
	last := len(parts[1]) - 1
	want, _ := base64.RawURLEncoding.DecodeString(parts[1])
	for _, letter := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" {
		other := parts[1][:last] + string(letter)
		got, err := base64.RawURLEncoding.DecodeString(other)
		if err == nil && other != parts[1] && string(got) == string(want) {
			all = append(all, parts[0]+"."+other+"."+parts[2])
		}
	}
	return all
}
