package oidc

import (
	"net/http"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

func TestCheckAsksForDiscoveryAndKeysAnew(t *testing.T) {
	i := newIssuer(t)
	p := i.oidc(t)
	if _, err := i.signIn(t, p); err != nil {
		t.Fatal(err)
	}
	discovered, keyed := i.discovered.Load(), i.keyed.Load()
	begun := time.Now().Truncate(time.Second) // as the header tells it
	date, err := p.Check(t.Context())
	if err != nil || date.Before(begun) || date.After(time.Now()) {
		t.Errorf("at %s, %v", date, err)
	}
	if i.discovered.Load() != discovered+1 || i.keyed.Load() != keyed+1 {
		t.Error("it went by what was remembered")
	}
}

func TestCheckFailsWhereASignInWould(t *testing.T) {
	for name, spoil := range map[string]func(*issuer){
		"another issuer's document": func(i *issuer) { i.doc = object{"issuer": "https://evil.example"} },
		"no keys":                   func(i *issuer) { i.jwks = []object{} },
		"keys of no use":            func(i *issuer) { i.jwks = unusable() },
		"no key set":                func(i *issuer) { i.doc = object{"jwks_uri": i.Server.URL + "/nowhere"} },
		"keys in the clear":         func(i *issuer) { i.doc = object{"jwks_uri": "http://keys.example/"} },
		"a broken server": func(i *issuer) {
			i.intruder = func(w http.ResponseWriter, _ *http.Request) bool {
				w.WriteHeader(http.StatusInternalServerError)
				return true
			}
		},
	} {
		i := newIssuer(t)
		spoil(i)
		if _, err := i.oidc(t).Check(t.Context()); err == nil {
			t.Errorf("%s: it is well", name)
		}
	}
	gone := newIssuer(t)
	p := gone.oidc(t)
	gone.Server.Close()
	if _, err := p.Check(t.Context()); guest.ReasonOf(err) != guest.Unavailable {
		t.Errorf("nobody there: %v", err)
	}
}
