package oidc

import (
	"context"
	"net/url"
	"testing"

	"github.com/caddy-login/caddy-login/module/guest"
)

// newLinkedIn plays LinkedIn: discovery under a path, no nonce in its tokens,
// and an exchange that fails on a code_verifier.
func newLinkedIn(t testing.TB) *issuer {
	i := newIssuer(t)
	i.url, i.below, i.lax = i.Server.URL+"/oauth", "/oauth", true
	i.doc = object{
		"id_token_signing_alg_values_supported": []string{"RS256"},
		"subject_types_supported":               []string{"pairwise"},
	}
	i.claims = object{"nonce": nil, "email_verified": "true", "locale": "en_US"}
	i.info = object{"sub": "sub-1", "locale": object{"country": "US", "language": "en"}}
	return i
}

func (i *issuer) linkedin(t testing.TB) *LinkedIn {
	o := i.options()
	return open(t, i, &LinkedIn{Options: o, Endpoints: Endpoints{Issuer: i.url}})
}

func TestLinkedInGetsNeitherPKCENorBasic(t *testing.T) {
	i := newLinkedIn(t)
	p := i.linkedin(t)
	a := attempt()
	address, err := p.Begin(context.Background(), a)
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(address)
	if q := u.Query(); q.Has("code_challenge") || q.Has("code_challenge_method") || q.Get("state") != a.State ||
		q.Get("scope") != "openid email profile" {
		t.Errorf("asked for %v", q)
	}
	if _, err := i.signIn(t, p); err != nil {
		t.Fatal(err)
	}
	form := i.form.Load().(url.Values)
	if form.Has("code_verifier") || form.Get("client_secret") != clientSecret || form.Get("redirect_uri") != a.RedirectURI {
		t.Errorf("the exchange has %v", form)
	}
	if traits := p.Traits(); traits.Brand != "linkedin" || traits.Label != "LinkedIn" || traits.FormPost {
		t.Errorf("traits are %+v", traits)
	}
}

func TestLinkedInMayDropTheNonceButSendNoOther(t *testing.T) {
	for name, row := range map[string]struct {
		claims object
		want   bool
	}{
		"dropped": {object{"nonce": nil}, true},
		"another": {object{"nonce": "another"}, false},
		"empty":   {object{"nonce": ""}, false},
		"a list":  {object{"nonce": []string{"x"}}, false},
	} {
		i := newLinkedIn(t)
		i.claims = with(i.claims, row.claims)
		if _, err := i.signIn(t, i.linkedin(t)); (err == nil) != row.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	i := newLinkedIn(t)
	delete(i.claims, "nonce") // the fake's own: what was sent
	if _, err := i.signIn(t, i.linkedin(t)); err != nil {
		t.Errorf("echoed: %v", err)
	}
}

func TestLinkedInAddresses(t *testing.T) {
	for name, row := range map[string]struct {
		claims, info object
		want         guest.Trust
	}{
		"the word true":        {object{}, nil, guest.Verified},
		"true":                 {object{"email_verified": true}, nil, guest.Verified},
		"the word false":       {object{"email_verified": "false"}, nil, guest.Asserted},
		"no flag":              {object{"email_verified": nil}, nil, guest.Asserted},
		"1":                    {object{"email_verified": 1}, nil, guest.Asserted},
		"at userinfo":          {object{"email": nil, "email_verified": nil}, object{"email": "a@b.example", "email_verified": true}, guest.Verified},
		"at userinfo, no flag": {object{"email": nil, "email_verified": nil}, object{"email": "a@b.example"}, guest.Asserted},
		"none":                 {object{"email": nil, "email_verified": nil}, nil, guest.NoEmail},
	} {
		t.Run(name, func(t *testing.T) {
			i := newLinkedIn(t)
			i.claims, i.info = with(i.claims, row.claims), with(i.info, row.info)
			got, err := i.signIn(t, i.linkedin(t))
			if err != nil || got.EmailTrust != row.want || got.Name != "Ada" {
				t.Errorf("got %+v, %v; want trust %d", got, err, row.want)
			}
		})
	}
}

func TestLinkedInTokensThatMustBeRefused(t *testing.T) {
	for name, spoil := range map[string]func(*issuer){
		"iss of before 2024":  func(i *issuer) { i.claims["iss"] = i.Server.URL },
		"aud of another":      func(i *issuer) { i.claims["aud"] = "another" },
		"userinfo of another": func(i *issuer) { i.claims["name"] = nil; i.info["sub"] = "sub-2" },
		"no ID token":         func(i *issuer) { i.answer = object{"id_token": nil} },
	} {
		i := newLinkedIn(t)
		spoil(i)
		if _, err := i.signIn(t, i.linkedin(t)); err == nil || guest.ReasonOf(err) != guest.Untrusted {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLinkedInCancelledByThePerson(t *testing.T) {
	for _, code := range []string{"user_cancelled_login", "user_cancelled_authorize"} {
		i := newLinkedIn(t)
		if _, err := i.answerWith(t, i.linkedin(t), url.Values{"error": {code}}); guest.ReasonOf(err) != guest.Cancelled {
			t.Errorf("%s: %v", code, err)
		}
	}
}
