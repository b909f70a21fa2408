package oidc

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-login/caddy-login/module/guest"
)

// newTwitch plays Twitch: discovery under a path, the secret in the form, a
// list of scopes in the token's answer, and userinfo that knows only names.
func newTwitch(t testing.TB) *issuer {
	i := newIssuer(t)
	i.url, i.below, i.lax = i.Server.URL+"/oauth2", "/oauth2", true
	i.doc = object{
		"claims_parameter_supported":            true,
		"id_token_signing_alg_values_supported": []string{"RS256"},
		"scopes_supported":                      []string{"openid"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_post"},
	}
	i.claims = object{
		"sub": "713936733", "azp": clientID, "name": nil, "preferred_username": "AdaPlays",
		"picture": "https://static-cdn.example.com/ada.png", "at_hash": leftHalf("RS256", "the-access"),
	}
	i.info = object{"sub": "713936733", "preferred_username": "AdaPlays", "email": "boss@example.com", "email_verified": true}
	i.answer = object{
		"token_type": "bearer", "scope": []string{"openid", "user:read:email"}, "expires_in": 14124, "refresh_token": "the-refresh",
	}
	i.intruder = twitchTurnsAway
	return i
}

func twitchTurnsAway(w http.ResponseWriter, r *http.Request) bool {
	if r.URL.Path != "/token" {
		return false
	}
	_, _, basic := r.BasicAuth()
	if !basic && r.PostFormValue("client_secret") == clientSecret && r.PostFormValue("code") == "the-code" {
		return false
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	reply(w, object{"status": 400, "message": "Invalid authorization code"})
	return true
}

func (i *issuer) twitch(t testing.TB) *Twitch {
	return open(t, i, &Twitch{Options: i.options(), Endpoints: Endpoints{Issuer: i.url}})
}

func TestTwitchIsAskedForTheClaims(t *testing.T) {
	i := newTwitch(t)
	p := i.twitch(t)
	for _, another := range []bool{false, true} {
		a := attempt()
		a.SwitchAccount = another
		address, err := p.Begin(context.Background(), a)
		if err != nil {
			t.Fatal(err)
		}
		u, _ := url.Parse(address)
		q := u.Query()
		if q.Get("scope") != "openid user:read:email" || q.Get("nonce") != a.Nonce || q.Has("prompt") {
			t.Errorf("asked for %v", q)
		}
		if (q.Get("force_verify") == "true") != another {
			t.Errorf("another account: %v, force_verify %q", another, q.Get("force_verify"))
		}
		var claims map[string]map[string]any
		if err := json.Unmarshal([]byte(q.Get("claims")), &claims); err != nil || len(claims) != 1 {
			t.Fatalf("claims %q: %v", q.Get("claims"), err)
		}
		for _, name := range []string{"email", "email_verified", "picture", "preferred_username"} {
			if value, asked := claims["id_token"][name]; !asked || value != nil {
				t.Errorf("%s is not asked for", name)
			}
		}
	}
	if traits := p.Traits(); traits.Brand != "twitch" || traits.Label != "Twitch" || traits.FormPost || traits.Email.Doubt != "" {
		t.Errorf("traits are %+v", traits)
	}
}

func TestTwitchAnswersWithAListOfScopes(t *testing.T) {
	i := newTwitch(t)
	got, err := i.signIn(t, i.twitch(t))
	if err != nil {
		t.Fatal(err)
	}
	if got.Issuer != i.url || got.Subject != "713936733" || got.Name != "AdaPlays" || got.Picture != "https://static-cdn.example.com/ada.png" ||
		got.Email != "ada@example.com" || got.EmailTrust != guest.Verified {
		t.Errorf("got %+v", got)
	}
	if i.ui.Load() != 0 {
		t.Error("userinfo was asked: it was not asked to know anything")
	}
}

func TestTwitchAddresses(t *testing.T) {
	for name, row := range map[string]struct {
		claims object
		want   guest.Trust
	}{
		"verified":          {nil, guest.Verified},
		"unverified":        {object{"email_verified": false}, guest.Asserted},
		"no flag":           {object{"email_verified": nil}, guest.Asserted},
		"1":                 {object{"email_verified": 1}, guest.Asserted},
		"none: only phone":  {object{"email": nil, "email_verified": nil}, guest.NoEmail},
		"none, with a flag": {object{"email": nil}, guest.NoEmail},
		"a name like an address": {object{
			"email": nil, "email_verified": true, "preferred_username": "boss@example.com"}, guest.NoEmail},
	} {
		t.Run(name, func(t *testing.T) {
			i := newTwitch(t)
			i.claims = with(i.claims, row.claims)
			got, err := i.signIn(t, i.twitch(t))
			if err != nil || got.EmailTrust != row.want || (got.Email == "") != (row.want == guest.NoEmail) {
				t.Errorf("got %+v, %v; want trust %d", got, err, row.want)
			}
		})
	}
}

func TestTwitchTokensThatMustBeRefused(t *testing.T) {
	for name, spoil := range map[string]func(*issuer){
		"no nonce":         func(i *issuer) { i.claims["nonce"] = nil },
		"nonce of another": func(i *issuer) { i.claims["nonce"] = "another" },
		"aud of another":   func(i *issuer) { i.claims["aud"] = "hof5gwx0su6owfnys0nyan9c87zr6t" },
		"azp of another":   func(i *issuer) { i.claims["azp"] = "hof5gwx0su6owfnys0nyan9c87zr6t" },
		"another's access": func(i *issuer) { i.answer["access_token"] = "another" },
		"iss of the host":  func(i *issuer) { i.claims["iss"] = i.Server.URL },
		"no ID token":      func(i *issuer) { i.answer["id_token"] = nil },
		"not a bearer":     func(i *issuer) { i.answer["token_type"] = "oauth" },
	} {
		i := newTwitch(t)
		spoil(i)
		if _, err := i.signIn(t, i.twitch(t)); err == nil || guest.ReasonOf(err) != guest.Untrusted {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTwitchErrorsAreInTheirOwnForm(t *testing.T) {
	i := newTwitch(t)
	_, err := i.answerWith(t, i.twitch(t), url.Values{"code": {"spent"}})
	if err == nil || guest.ReasonOf(err) != guest.Refused || strings.Contains(err.Error(), "Invalid") {
		t.Errorf("got %v", err)
	}
	i = newTwitch(t)
	if _, err := i.answerWith(t, i.twitch(t), url.Values{"error": {"access_denied"}}); guest.ReasonOf(err) != guest.Cancelled {
		t.Errorf("who said no: %v", err)
	}
}

func TestTwitchRenewsWithAListOfScopes(t *testing.T) {
	i := newTwitch(t)
	i.refresh, i.renewed = "refresh-0", object{"token_type": "bearer", "scope": []string{"openid", "user:read:email"}}
	i.intruder = nil
	o := i.options()
	o.Tokens = "keep"
	p := open(t, i, &Twitch{Options: o, Endpoints: Endpoints{Issuer: i.url}})
	got, err := p.Renew(context.Background(), i.keeps("refresh-0"))
	if err != nil || got.Access != "access-1" || got.Refresh != "refresh-1" {
		t.Errorf("got %v", err)
	}
}

func TestTwitchSettingsThatWouldDoNothing(t *testing.T) {
	for want, change := range map[string]func(*Twitch){
		"groups: twitch lists none":        func(p *Twitch) { p.Groups = "groups" },
		"revalidate: twitch does not say ": func(p *Twitch) { p.Revalidate = caddy.Duration(time.Hour) },
	} {
		i := newTwitch(t)
		p := &Twitch{Options: i.options(), Endpoints: Endpoints{Issuer: i.url}}
		change(p)
		if err := p.Provision(caddy.Context{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}
