package oidc

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

const (
	ourTenant   = "8eaef023-2b34-4da1-9baa-8bc8c9d6a490"
	otherTenant = "82229342-1101-4ab6-817b-70c0747630f3"
	account     = "690222be-ff1a-4d56-abd1-7e4f7d38e474"
)

// newCloud plays Microsoft's cloud as it is seen from this choice of tenants.
// It says nothing of PKCE and knows an address without email_verified.
func newCloud(t testing.TB, choice string) *issuer {
	i := newIssuer(t)
	i.below = "/" + choice + "/v2.0"
	names := map[string]string{"common": anyTenant, "organizations": anyTenant, "consumers": personal}[choice]
	if names == "" {
		names = choice
	}
	i.url = i.Server.URL + "/" + names + "/v2.0"
	i.jwks[0]["issuer"] = i.Server.URL + "/" + anyTenant + "/v2.0"
	i.doc = object{
		"token_endpoint_auth_methods_supported": []string{"client_secret_post", "private_key_jwt", "client_secret_basic"},
		"id_token_signing_alg_values_supported": []string{"RS256"},
	}
	i.claims = i.from(ourTenant)
	return i
}

// from are the claims of an account in this tenant.
func (i *issuer) from(tenant string) object {
	return object{
		"iss": i.Server.URL + "/" + tenant + "/v2.0", "tid": tenant, "oid": account, "ver": "2.0",
		"email_verified": nil, "preferred_username": "ada@victim.example",
	}
}

func (i *issuer) microsoft(t testing.TB, choice string, allowed ...string) *Microsoft {
	return open(t, i, &Microsoft{
		Options: i.options(), Endpoints: Endpoints{Issuer: i.Server.URL + "/{tenantid}/v2.0"},
		Tenant: choice, AllowedTenants: allowed,
	})
}

func TestMicrosoftTakesAccountsOfTheTenantsChosen(t *testing.T) {
	for name, row := range map[string]struct {
		choice, tenant string
		allowed        []string
		want           guest.Reason
	}{
		"common, work":                   {"common", ourTenant, nil, ""},
		"common, personal":               {"common", personal, nil, ""},
		"organizations, work":            {"organizations", otherTenant, nil, ""},
		"organizations, personal":        {"organizations", personal, nil, guest.Untrusted},
		"consumers, personal":            {"consumers", personal, nil, ""},
		"consumers, work":                {"consumers", ourTenant, nil, guest.Untrusted},
		"one, that one":                  {ourTenant, ourTenant, nil, ""},
		"one, another":                   {ourTenant, otherTenant, nil, guest.Untrusted},
		"one, personal":                  {ourTenant, personal, nil, guest.Untrusted},
		"one in capitals":                {strings.ToUpper(ourTenant), ourTenant, nil, ""},
		"some, one of them":              {"common", otherTenant, []string{ourTenant, strings.ToUpper(otherTenant)}, ""},
		"some, another":                  {"common", otherTenant, []string{ourTenant}, guest.NotAllowed},
		"some, personal":                 {"common", personal, []string{ourTenant}, guest.NotAllowed},
		"some and personal":              {"common", personal, []string{ourTenant, personal}, ""},
		"some organizations, and not it": {"organizations", otherTenant, []string{ourTenant}, guest.NotAllowed},
	} {
		t.Run(name, func(t *testing.T) {
			i := newCloud(t, strings.ToLower(row.choice))
			i.claims = i.from(row.tenant)
			got, err := i.signIn(t, i.microsoft(t, row.choice, row.allowed...))
			if (err != nil) != (row.want != "") || err != nil && guest.ReasonOf(err) != row.want {
				t.Fatalf("got %v, want %q", err, row.want)
			}
			if err == nil && (got.Subject != row.tenant+"."+account || got.Issuer != i.Server.URL+"/"+row.tenant+"/v2.0") {
				t.Errorf("identity is %s of %s", got.Subject, got.Issuer)
			}
			if n := i.ui.Load(); n != 0 {
				t.Errorf("userinfo was asked %d times", n)
			}
		})
	}
}

// Each row is a token with a right signature: the keys of all tenants are the
// same.
func TestMicrosoftTokensThatMustBeRefused(t *testing.T) {
	claim := func(name string, value any) func(*issuer) {
		return func(i *issuer) { i.claims[name] = value }
	}
	for name, spoil := range map[string]func(*issuer){
		"the template itself":             func(i *issuer) { i.claims["iss"] = i.Server.URL + "/{tenantid}/v2.0" },
		"the template in both":            func(i *issuer) { i.claims = i.from(anyTenant) },
		"common for a tenant":             func(i *issuer) { i.claims = i.from("common") },
		"a name for a tenant":             func(i *issuer) { i.claims = i.from("contoso.onmicrosoft.com") },
		"no tenant":                       func(i *issuer) { i.claims = i.from("") },
		"a tenant in capitals":            func(i *issuer) { i.claims = i.from(strings.ToUpper(ourTenant)) },
		"a tenant and more":               func(i *issuer) { i.claims = i.from(ourTenant + "/" + ourTenant) },
		"a tenant and a line break":       func(i *issuer) { i.claims = i.from(ourTenant + "\n") },
		"tid of another than iss":         func(i *issuer) { i.claims["tid"] = otherTenant; delete(i.jwks[0], "issuer") },
		"tid of another, key for all":     claim("tid", otherTenant),
		"tid missing":                     func(i *issuer) { i.claims["tid"] = nil; delete(i.jwks[0], "issuer") },
		"tid a list":                      claim("tid", []string{ourTenant}),
		"iss of version 1":                func(i *issuer) { i.claims["iss"] = "https://sts.windows.net/" + ourTenant + "/" },
		"iss of version 1 here":           func(i *issuer) { i.claims["iss"] = i.Server.URL + "/" + ourTenant + "/" },
		"iss with a slash":                func(i *issuer) { i.claims["iss"] = i.Server.URL + "/" + ourTenant + "/v2.0/" },
		"iss of another cloud":            func(i *issuer) { i.claims["iss"] = "https://login.microsoftonline.us/" + ourTenant + "/v2.0" },
		"iss of a host that begins alike": func(i *issuer) { i.claims["iss"] = i.Server.URL + ".evil.example/" + ourTenant + "/v2.0" },
		"oid missing":                     claim("oid", nil),
		"oid empty":                       claim("oid", ""),
		"oid no UUID":                     claim("oid", "690222be"),
		"oid a list":                      claim("oid", []string{account}),
		"sub missing":                     claim("sub", nil),
		"nonce of another":                claim("nonce", "another"),
		"key for personal accounts":       func(i *issuer) { i.jwks[0]["issuer"] = i.Server.URL + "/" + personal + "/v2.0" },
		"key for another tenant":          func(i *issuer) { i.jwks[0]["issuer"] = i.Server.URL + "/" + otherTenant + "/v2.0" },
		"key for another cloud":           func(i *issuer) { i.jwks[0]["issuer"] = "https://login.microsoftonline.us/{tenantid}/v2.0" },
	} {
		t.Run(name, func(t *testing.T) {
			i := newCloud(t, "common")
			spoil(i)
			got, err := i.signIn(t, i.microsoft(t, "common"))
			if err == nil || guest.ReasonOf(err) != guest.Untrusted {
				t.Fatalf("got %+v, %v; want it refused as untrusted", got, err)
			}
			keepsSecrets(t, i, err)
		})
	}
}

func TestMicrosoftKeysMayLeaveTheirIssuerOut(t *testing.T) {
	i := newCloud(t, "common")
	delete(i.jwks[0], "issuer")
	if _, err := i.signIn(t, i.microsoft(t, "common")); err != nil {
		t.Error(err)
	}
	i = newCloud(t, ourTenant)
	i.jwks[0]["issuer"] = i.Server.URL + "/" + ourTenant + "/v2.0"
	if _, err := i.signIn(t, i.microsoft(t, ourTenant)); err != nil {
		t.Error(err)
	}
}

func TestMicrosoftAddressesCountOnlyWithXMSEDOV(t *testing.T) {
	for name, row := range map[string]struct {
		claims object
		email  string
		want   guest.Trust
	}{
		"true":                        {object{"xms_edov": true}, "ada@example.com", guest.Authoritative},
		"the word true":               {object{"xms_edov": "true"}, "ada@example.com", guest.Authoritative},
		"1":                           {object{"xms_edov": 1}, "ada@example.com", guest.Authoritative},
		"the text 1":                  {object{"xms_edov": "1"}, "ada@example.com", guest.Authoritative},
		"false":                       {object{"xms_edov": false}, "ada@example.com", guest.Asserted},
		"0":                           {object{"xms_edov": 0}, "ada@example.com", guest.Asserted},
		"the word True":               {object{"xms_edov": "True"}, "ada@example.com", guest.Asserted},
		"yes":                         {object{"xms_edov": "yes"}, "ada@example.com", guest.Asserted},
		"2":                           {object{"xms_edov": 2}, "ada@example.com", guest.Asserted},
		"1.0":                         {object{"xms_edov": []any{true}}, "ada@example.com", guest.Asserted},
		"null":                        {object{}, "ada@example.com", guest.Asserted},
		"email_verified alone":        {object{"email_verified": true}, "ada@example.com", guest.Asserted},
		"in the primary list":         {object{"verified_primary_email": []string{"ada@example.com"}}, "ada@example.com", guest.Authoritative},
		"in the secondary list":       {object{"verified_secondary_email": []string{"x@example.com", "ada@example.com"}}, "ada@example.com", guest.Authoritative},
		"another in the list":         {object{"verified_primary_email": []string{"victim@example.com"}}, "ada@example.com", guest.Asserted},
		"in a list of other things":   {object{"verified_primary_email": []any{"ada@example.com", 7}}, "ada@example.com", guest.Asserted},
		"no address":                  {object{"email": nil, "xms_edov": true}, "", guest.NoEmail},
		"only a name like an address": {object{"email": nil, "xms_edov": true, "upn": "ada@victim.example"}, "", guest.NoEmail},
		"two at-signs":                {object{"email": "a@evil.example@victim.example", "xms_edov": true}, "", guest.NoEmail},
	} {
		t.Run(name, func(t *testing.T) {
			i := newCloud(t, ourTenant)
			i.claims = with(i.claims, row.claims)
			got, err := i.signIn(t, i.microsoft(t, ourTenant))
			if err != nil {
				t.Fatal(err)
			}
			if got.Email != row.email || got.EmailTrust != row.want {
				t.Errorf("got %q, %d; want %q, %d", got.Email, got.EmailTrust, row.email, row.want)
			}
		})
	}
}

func TestMicrosoftProvesNoAddressOfUserinfo(t *testing.T) {
	i := newCloud(t, ourTenant)
	i.claims = with(i.claims, object{"email": nil, "xms_edov": true, "name": nil})
	i.info = object{"sub": "sub-1", "email": "victim@example.com"}
	p := open(t, i, &Microsoft{
		Options: i.options(), Tenant: ourTenant,
		Endpoints: Endpoints{Issuer: i.Server.URL + "/" + ourTenant + "/v2.0", UserinfoURL: i.Server.URL + "/userinfo"},
	})
	got, err := i.signIn(t, p)
	if err != nil || i.ui.Load() != 1 {
		t.Fatalf("userinfo was asked %d times, %v", i.ui.Load(), err)
	}
	if got.EmailTrust != guest.Asserted {
		t.Errorf("an address beside the token's xms_edov counts as %d", got.EmailTrust)
	}
}

func TestMicrosoftWarnsOnceOfAddressesWithoutXMSEDOV(t *testing.T) {
	i := newCloud(t, ourTenant)
	p := i.microsoft(t, ourTenant)
	var log bytes.Buffer
	p.env.Log = slog.New(slog.NewTextHandler(&log, nil))
	for _, claims := range []object{{"xms_edov": true}, {"xms_edov": false}, {"email": nil}} {
		i.claims = with(i.from(ourTenant), claims)
		if _, err := i.signIn(t, p); err != nil || log.Len() > 0 {
			t.Fatalf("%v: %v, logged %s", claims, err, &log)
		}
	}
	i.claims = i.from(ourTenant)
	for range 3 {
		if _, err := i.signIn(t, p); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(log.String(), "xms_edov, so"); n != 1 || strings.Contains(log.String(), "ada@") {
		t.Errorf("warned %d times: %s", n, &log)
	}
}

func TestMicrosoftIsAskedWithPKCEAndForAnotherAccount(t *testing.T) {
	i := newCloud(t, "common")
	a := attempt()
	a.SwitchAccount = true
	address, err := i.microsoft(t, "common").Begin(context.Background(), a)
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(address)
	q := u.Query()
	if q.Get("code_challenge_method") != "S256" || q.Get("code_challenge") == "" || q.Get("prompt") != "select_account" ||
		q.Get("nonce") != a.Nonce || q.Get("scope") != "openid email profile" {
		t.Errorf("asked for %v", q)
	}
}

func TestMicrosoftGroupsThatOverflowAreNone(t *testing.T) {
	i := newCloud(t, ourTenant)
	o := i.options()
	o.Groups = "groups"
	p := open(t, i, &Microsoft{Options: o, Endpoints: Endpoints{Issuer: i.Server.URL + "/{tenantid}/v2.0"}, Tenant: ourTenant})
	i.claims["groups"] = []string{account}
	if got, err := i.signIn(t, p); err != nil || !slices.Equal(got.Groups, []string{account}) {
		t.Errorf("groups are %q, %v", got.Groups, err)
	}
	i.claims["_claim_names"] = object{"groups": "src1"}
	i.claims["_claim_sources"] = object{"src1": object{"endpoint": "https://graph.windows.net/x/getMemberObjects"}}
	if got, err := i.signIn(t, p); err != nil || got.Groups != nil {
		t.Errorf("of groups that overflowed there are %q, %v", got.Groups, err)
	}
}

func TestMicrosoftDiscoveryNamesTheTemplateOrTheTenant(t *testing.T) {
	for choice, wrong := range map[string][]string{
		"common":        {"/common/v2.0", "/" + ourTenant + "/v2.0", "/{tenantid}/v2.0/", ""},
		"organizations": {"/organizations/v2.0", "/" + ourTenant + "/v2.0"},
		"consumers":     {"/consumers/v2.0", "/{tenantid}/v2.0", "/" + ourTenant + "/v2.0"},
		ourTenant:       {"/{tenantid}/v2.0", "/" + otherTenant + "/v2.0"},
	} {
		for _, name := range wrong {
			i := newCloud(t, choice)
			i.url = i.Server.URL + name
			_, err := i.microsoft(t, choice).Begin(context.Background(), attempt())
			if err == nil || guest.ReasonOf(err) != guest.Untrusted {
				t.Errorf("%s: a document of issuer %s: %v", choice, name, err)
			}
		}
	}
}

func TestMicrosoftAnswerNamesTheTenantsIssuer(t *testing.T) {
	i := newCloud(t, ourTenant)
	for iss, right := range map[string]bool{
		i.Server.URL + "/" + ourTenant + "/v2.0":   true,
		i.Server.URL + "/" + otherTenant + "/v2.0": false,
		i.Server.URL + "/{tenantid}/v2.0":          false,
	} {
		_, err := i.answerWith(t, i.microsoft(t, ourTenant), url.Values{"code": {"the-code"}, "iss": {iss}})
		if (err == nil) != right {
			t.Errorf("%s: %v", iss, err)
		}
	}
}

func TestMicrosoftAnswersACancelledSignIn(t *testing.T) {
	i := newCloud(t, "common")
	_, err := i.answerWith(t, i.microsoft(t, "common"), url.Values{"error": {"access_denied"}, "error_subcode": {"cancel"}})
	if guest.ReasonOf(err) != guest.Cancelled {
		t.Error(err)
	}
}

func TestMicrosoftsWiderOrNarrowerChoiceKeepsIdentities(t *testing.T) {
	var seen []string
	for _, choice := range []string{"common", "organizations", ourTenant} {
		i := newCloud(t, choice)
		got, err := i.signIn(t, i.microsoft(t, choice))
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, strings.TrimPrefix(got.Issuer, i.Server.URL)+" "+got.Subject)
	}
	if len(slices.Compact(seen)) != 1 {
		t.Errorf("one person is %q", seen)
	}
}

func TestMicrosoftAddressesOfAnyTenantDecideNothing(t *testing.T) {
	for name, row := range map[string]struct {
		m     *Microsoft
		doubt bool
		err   string
	}{
		"by default":                {m: &Microsoft{}, doubt: true},
		"common":                    {m: &Microsoft{Tenant: "common"}, doubt: true},
		"organizations":             {m: &Microsoft{Tenant: "organizations"}, doubt: true},
		"consumers":                 {m: &Microsoft{Tenant: "consumers"}},
		"one":                       {m: &Microsoft{Tenant: ourTenant}},
		"some":                      {m: &Microsoft{AllowedTenants: []string{ourTenant}}},
		"common, trusted":           {m: &Microsoft{Options: provider.Options{EmailTrust: "verified"}}, err: "email_trust verified: with tenant common the administrator of any tenant"},
		"organizations, trusted":    {m: &Microsoft{Tenant: "organizations", Options: provider.Options{EmailTrust: "authoritative"}}, err: "email_trust authoritative: with tenant organizations"},
		"common, groups":            {m: &Microsoft{Options: provider.Options{Groups: "roles"}}, err: "groups roles: with tenant common anybody can open a tenant"},
		"one, trusted, with groups": {m: &Microsoft{Tenant: ourTenant, Options: provider.Options{EmailTrust: "verified", Groups: "groups"}}},
	} {
		t.Run(name, func(t *testing.T) {
			m := row.m
			m.ClientID, m.ClientSecret = "id", "secret"
			err := m.Provision(caddy.Context{})
			if row.err != "" {
				if err == nil || !strings.Contains(err.Error(), row.err) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if doubt := m.Traits().Email.Doubt; (doubt != "") != row.doubt || row.doubt && !strings.Contains(doubt, "nOAuth") {
				t.Errorf("doubt is %q", doubt)
			}
		})
	}
}

func TestMicrosoftMistakesNameTheCure(t *testing.T) {
	t.Setenv("TEST_TENANT", "contoso.com")
	for block, want := range map[string]string{
		"tenant {env.TEST_TENANT}":                                        "tenant: 'contoso.com' is none: write common, organizations, consumers, or the directory (tenant) ID",
		"tenant {env.UNSET}":                                              "tenant is empty: set UNSET",
		"allowed_tenants {env.TEST_TENANT}":                               "allowed_tenants: 'contoso.com' is no directory (tenant) ID",
		"tenant consumers\n allowed_tenants " + ourTenant:                 "allowed_tenants chooses among many, and tenant consumers is one",
		"tenant " + ourTenant + "\n allowed_tenants " + ourTenant:         "allowed_tenants chooses among many",
		"issuer https://login.microsoftonline.us":                         "write it as https://login.microsoftonline.com/{tenantid}/v2.0, with the address of your cloud",
		"issuer https://login.microsoftonline.us/" + ourTenant + "/v2.0":  "has not the form of Microsoft's",
		"issuer http://login.microsoftonline.us/{tenantid}/v2.0":          "must be https",
		"issuer https://login.microsoftonline.us/{tenantid}/{tenantid}/x": "placeholder that is empty or unknown",
	} {
		module, err := adapt("microsoft a b {\n " + block + "\n}")
		if err != nil {
			t.Fatalf("%s: %v", block, err)
		}
		if err := module.(caddy.Provisioner).Provision(caddy.Context{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\ngot  %v\nwant %s", block, err, want)
		}
	}
}

func TestMicrosoftOfAnotherCloud(t *testing.T) {
	m := &Microsoft{Endpoints: Endpoints{Issuer: "https://login.microsoftonline.us/{tenantid}/v2.0"}, Tenant: ourTenant}
	m.ClientID, m.ClientSecret = "id", "secret"
	if err := m.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("https://login.microsoftonline.us/%s/v2.0", ourTenant); m.settings.endpoints.Issuer != want || !m.issues(want) {
		t.Errorf("issuer is %s", m.settings.endpoints.Issuer)
	}
}
