package oidc

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-login/caddy-login/module/guest"
)

// newGitLab plays an older GitLab: its ID token has the address and the direct
// groups, and the rest is at userinfo.
func newGitLab(t testing.TB) *issuer {
	i := newIssuer(t)
	i.url = i.Server.URL
	i.doc = object{
		"id_token_signing_alg_values_supported": []string{"RS256"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_basic", "client_secret_post"},
		"code_challenge_methods_supported":      []string{"plain", "S256"},
	}
	i.claims = object{
		"sub": "4217", "sub_legacy": "9c1a", "auth_time": epoch.Unix(), "name": nil, "groups_direct": []string{"acme/ops"},
	}
	i.info = object{
		"sub": "4217", "name": "Ada", "nickname": "ada", "preferred_username": "boss@example.com",
		"email": "ada@example.com", "email_verified": true, "picture": "https://gitlab.example.com/ada.png",
		"groups": []string{"acme/ops", "acme/ops/night"},
	}
	return i
}

func (i *issuer) gitlab(t testing.TB) *GitLab {
	return open(t, i, &GitLab{Options: i.options(), Endpoints: Endpoints{Issuer: i.url}})
}

func TestGitLabIsAskedForTheScopesThatEveryApplicationHas(t *testing.T) {
	i := newGitLab(t)
	p := i.gitlab(t)
	for _, another := range []bool{false, true} {
		a := attempt()
		a.SwitchAccount = another
		address, err := p.Begin(context.Background(), a)
		if err != nil {
			t.Fatal(err)
		}
		u, _ := url.Parse(address)
		q := u.Query()
		if q.Get("scope") != "openid email" || q.Get("code_challenge_method") != "S256" || q.Get("nonce") != a.Nonce {
			t.Errorf("asked for %v", q)
		}
		if (q.Get("prompt") == "login") != another {
			t.Errorf("another account: %v, prompt %q", another, q.Get("prompt"))
		}
	}
	if traits := p.Traits(); traits.Brand != "gitlab" || traits.Label != "GitLab" || traits.FormPost || traits.Email.Doubt != "" {
		t.Errorf("traits are %+v", traits)
	}
}

func TestGitLabIsTheOneOfAllTheWorldByDefault(t *testing.T) {
	i := newGitLab(t)
	p := open(t, i, &GitLab{Options: i.options()})
	if got := p.settings.endpoints.Issuer; got != "https://gitlab.com" {
		t.Errorf("the issuer is %q", got)
	}
}

func TestGitLabOfEitherAgeTellsWhoItIs(t *testing.T) {
	for name, row := range map[string]struct {
		claims object
		asks   int32
	}{
		"an older one": {nil, 1},
		"a newer one":  {object{"name": "Ada", "picture": "https://gitlab.example.com/ada.png"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			i := newGitLab(t)
			i.claims = with(i.claims, row.claims)
			got, err := i.signIn(t, i.gitlab(t))
			if err != nil {
				t.Fatal(err)
			}
			if got.Issuer != i.url || got.Subject != "4217" || got.Name != "Ada" || got.Picture != "https://gitlab.example.com/ada.png" ||
				got.Email != "ada@example.com" || got.EmailTrust != guest.Verified || got.Groups != nil || !got.AuthTime.Equal(epoch) {
				t.Errorf("got %+v", got)
			}
			if i.ui.Load() != row.asks {
				t.Errorf("userinfo was asked %d times", i.ui.Load())
			}
		})
	}
}

func TestGitLabAddresses(t *testing.T) {
	for name, row := range map[string]struct {
		claims, info object
		want         guest.Trust
	}{
		"confirmed":              {nil, nil, guest.Verified},
		"unconfirmed":            {object{"email_verified": false}, nil, guest.Asserted},
		"no flag":                {object{"email_verified": nil}, object{"email_verified": nil}, guest.Asserted},
		"1":                      {object{"email_verified": 1}, nil, guest.Asserted},
		"another's at userinfo":  {object{"email_verified": nil}, object{"email": "boss@example.com"}, guest.Asserted},
		"none":                   {object{"email": nil, "email_verified": nil}, object{"email": nil}, guest.NoEmail},
		"empty, with a flag":     {object{"email": ""}, object{"email": ""}, guest.NoEmail},
		"a list, with a flag":    {object{"email": []string{"ada@example.com"}}, nil, guest.NoEmail},
		"denied by token alone":  {object{"email_verified": false}, object{"email_verified": true}, guest.Asserted},
		"at userinfo, confirmed": {object{"email": nil, "email_verified": nil}, nil, guest.Verified},
	} {
		t.Run(name, func(t *testing.T) {
			i := newGitLab(t)
			i.claims, i.info = with(i.claims, row.claims), with(i.info, row.info)
			got, err := i.signIn(t, i.gitlab(t))
			if err != nil || got.EmailTrust != row.want {
				t.Errorf("got %+v, %v; want trust %d", got, err, row.want)
			}
		})
	}
}

func TestGitLabAddressesAsTheOperatorTrustsThem(t *testing.T) {
	for _, row := range []struct {
		trust   string
		domains []string
		want    guest.Trust
	}{
		{"", []string{"example.com"}, guest.Authoritative},
		{"", []string{"example.net"}, guest.Verified},
		{"unverified", []string{"example.com"}, guest.Asserted},
		{"authoritative", nil, guest.Authoritative},
	} {
		i := newGitLab(t)
		o := i.options()
		o.EmailTrust, o.AuthoritativeDomains = row.trust, row.domains
		got, err := i.signIn(t, open(t, i, &GitLab{Options: o, Endpoints: Endpoints{Issuer: i.url}}))
		if err != nil || got.EmailTrust != row.want {
			t.Errorf("%+v: got %d, %v", row, got.EmailTrust, err)
		}
	}
}

func TestGitLabGroups(t *testing.T) {
	many := make([]string, 1001)
	for n := range many {
		many[n] = fmt.Sprintf("acme/%d", n)
	}
	for name, row := range map[string]struct {
		claim        string
		claims, info object
		want         []string
	}{
		"direct ones":                      {"groups_direct", nil, nil, []string{"acme/ops"}},
		"all":                              {"groups", nil, nil, []string{"acme/ops", "acme/ops/night"}},
		"none":                             {"groups_direct", object{"groups_direct": []string{}}, nil, nil},
		"none, userinfo overrides nothing": {"groups_direct", object{"groups_direct": []string{}}, object{"groups_direct": []string{"acme"}}, nil},
		"too many":                         {"groups_direct", object{"groups_direct": many}, nil, nil},
		"one that is no name":              {"groups_direct", object{"groups_direct": []any{"acme", 7}}, nil, nil},
		"an object":                        {"groups", nil, object{"groups": object{"acme": true}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			i := newGitLab(t)
			i.claims, i.info = with(i.claims, row.claims), with(i.info, row.info)
			o := i.options()
			o.Groups = row.claim
			got, err := i.signIn(t, open(t, i, &GitLab{Options: o, Endpoints: Endpoints{Issuer: i.url}}))
			if err != nil || !slices.Equal(got.Groups, row.want) {
				t.Errorf("got %.200q, %v", got.Groups, err)
			}
		})
	}
}

func TestGitLabAnswersThatMustBeRefused(t *testing.T) {
	for name, row := range map[string]struct {
		spoil func(*issuer)
		want  guest.Reason
	}{
		"iss of GitLab.com":      {func(i *issuer) { i.claims["iss"] = "https://gitlab.com" }, guest.Untrusted},
		"aud of another":         {func(i *issuer) { i.claims["aud"] = "another" }, guest.Untrusted},
		"no nonce":               {func(i *issuer) { i.claims["nonce"] = nil }, guest.Untrusted},
		"nonce of another":       {func(i *issuer) { i.claims["nonce"] = "another" }, guest.Untrusted},
		"sub is a number":        {func(i *issuer) { i.claims["sub"] = 4217 }, guest.Untrusted},
		"userinfo of another":    {func(i *issuer) { i.info["sub"] = "1" }, guest.Untrusted},
		"userinfo of a number":   {func(i *issuer) { i.info["sub"] = 4217 }, guest.Untrusted},
		"blocked since the code": {func(i *issuer) { i.intruder = refuse("/userinfo", http.StatusUnauthorized) }, guest.Refused},
		"userinfo is down":       {func(i *issuer) { i.intruder = refuse("/userinfo", http.StatusBadGateway) }, guest.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			i := newGitLab(t)
			row.spoil(i)
			if got, err := i.signIn(t, i.gitlab(t)); err == nil || guest.ReasonOf(err) != row.want {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

// refuse answers requests for path with nothing but status.
func refuse(path string, status int) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == path {
			w.WriteHeader(status)
		}
		return r.URL.Path == path
	}
}

func TestGitLabOfTheOperatorMustBeAnAddress(t *testing.T) {
	i := newGitLab(t)
	p := &GitLab{Options: i.options(), Endpoints: Endpoints{Issuer: "gitlab.example.com"}}
	if err := p.Provision(caddy.Context{}); err == nil {
		t.Error("an issuer without https:// was taken")
	}
}
