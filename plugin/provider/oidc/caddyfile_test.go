package oidc

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-login/caddy-login/module/guest"
)

func adapt(block string) (caddyfile.Unmarshaler, error) {
	d := caddyfile.NewTestDispenser(block)
	d.Next()
	return caddyfile.UnmarshalModule(d, "login.providers."+d.Val())
}

func TestCaddyfileBecomesJSON(t *testing.T) {
	for block, want := range map[string]string{
		"google":                    `{"client_id":"{env.GOOGLE_CLIENT_ID}","client_secret":"{env.GOOGLE_CLIENT_SECRET}"}`,
		"google a b":                `{"client_id":"a","client_secret":"b"}`,
		"google {\n client_id x\n}": `{"client_id":"x","client_secret":"{env.GOOGLE_CLIENT_SECRET}"}`,
		`google {
			name work
			client_secret {file./run/secret}
			hosted_domain a.example b.example
			hosted_domain c.example
			scopes openid email
			label "Work account"
			email_trust auto
			use_email_as_identifier
			allow_email_account_merge off
			verify_email on
			merge_confirmation proof
			on_unverified_collision create
			authoritative_domains a.example
			native_client_ids i o
			issuer http://localhost:9000
			auth_url https://a.example/auth?x=y
			token_url http://127.0.0.1:1/t
			jwks_url http://[::1]/k
			userinfo_url http://x.localhost/u
		}`: `{"name":"work","client_id":"{env.GOOGLE_CLIENT_ID}","client_secret":"{file./run/secret}",` +
			`"scopes":["openid","email"],"label":"Work account","email_trust":"auto","use_email_as_identifier":true,` +
			`"allow_email_account_merge":false,"verify_email":true,"merge_confirmation":"proof","on_unverified_collision":"create",` +
			`"authoritative_domains":["a.example"],"native_client_ids":["i","o"],"issuer":"http://localhost:9000",` +
			`"auth_url":"https://a.example/auth?x=y","token_url":"http://127.0.0.1:1/t","jwks_url":"http://[::1]/k",` +
			`"userinfo_url":"http://x.localhost/u","hosted_domain":["a.example","b.example","c.example"]}`,
		"okta i s {\n issuer https://o.example\n}": `{"client_id":"i","client_secret":"s","issuer":"https://o.example"}`,
		"oidc sso i {\n issuer {env.ISSUER}\n}":    `{"name":"sso","client_id":"i","issuer":"{env.ISSUER}"}`,
		`oidc sso i s {
			issuer https://o.example/
			response_mode form_post
			client_auth post
			signing_alg ES256
			subject_claim a
			email_claim b
			verified_claim c
			name_claim d
			prompt login consent
			acr_values e f
		}`: `{"name":"sso","client_id":"i","client_secret":"s","issuer":"https://o.example/","response_mode":"form_post",` +
			`"client_auth":"post","signing_alg":"ES256","subject_claim":"a","email_claim":"b","verified_claim":"c",` +
			`"name_claim":"d","prompt":"login consent","acr_values":"e f"}`,
	} {
		got, err := adapt(block)
		if err != nil {
			t.Errorf("%s: %v", block, err)
			continue
		}
		if text, _ := json.Marshal(got); string(text) != want {
			t.Errorf("%s:\ngot  %s\nwant %s", block, text, want)
		}
	}
}

func TestCaddyfileMistakesNameLineAndCure(t *testing.T) {
	for block, want := range map[string]string{
		"google a":                                          "both or neither, at Testfile:1",
		"google a b c":                                      "both or neither, at Testfile:1",
		`google "" b`:                                       "write both or neither, at Testfile:1",
		"google {\n hosted_domian x\n}":                     "unknown option 'hosted_domian' (options: allow_email_account_merge, auth_url,",
		"google {\n response_mode query\n}":                 "unknown option 'response_mode'",
		"google {\n hosted_domain\n}":                       "at Testfile:2",
		"google {\n hosted_domain \"\"\n}":                  "empty string",
		"google {\n client_id\n}":                           "client_id has no value: write one, or remove the line, at Testfile:2",
		"google {\n client_id a b\n}":                       "client_id takes one value, not 2: quote one with spaces, at Testfile:2",
		"google {\n client_id a {\n b c\n}\n}":              "takes no block: remove it, from '{' to '}', at Testfile:2",
		"google {\n name {env.NAME}\n}":                     "lower-case letters",
		"google {\n email_trust {env.TRUST}\n}":             "unknown value '{env.TRUST}'",
		"google {\n hosted_domain * a.example\n}":           "* is every Workspace: write it alone",
		"google {\n hosted_domain *.a.example\n}":           "hosted_domain: \"*.a.example\" is no domain",
		"google {\n authoritative_domains *\n}":             "authoritative_domains: \"*\" is no domain: write one like example.com, at Testfile:2",
		"google {\n issuer https://a:b@example.com?x\n}":    "\"https://a:xxxxx@example.com?x\" must have no user, password",
		"google {\n client_id \"\"\n}":                      "client_id is an empty string",
		"google a b {\n client_id c\n}":                     "client_id is given twice: write it once, at Testfile:2",
		"google {\n email_trust yes\n}":                     "email_trust: unknown value 'yes' (allowed: auto, authoritative, verified, unverified), at Testfile:2",
		"google {\n merge_confirmation silent\n}":           "(allowed: auto, proof, click, none)",
		"google {\n verify_email yes\n}":                    "verify_email takes on or off",
		"google {\n verify_email on off\n}":                 "verify_email takes on or off",
		"google {\n verify_email\n verify_email\n}":         "given twice: write it once, at Testfile:3",
		"google {\n name Work\n}":                           "lower-case letters",
		"google {\n name api\n}":                            "path of the sign-in pages",
		"google {\n issuer http://example.com\n}":           "issuer: \"http://example.com\" must be https: http is only for localhost, at Testfile:2",
		"google {\n issuer http://localhost.example.com\n}": "must be https",
		"google {\n issuer http://127.0.0.1.nip.io\n}":      "must be https",
		"google {\n issuer https://a:b@example.com\n}":      "no user, password",
		"google {\n issuer https://example.com?x\n}":        "no query",
		"google {\n issuer example.com\n}":                  "must begin with https://",
		"okta a b":                                          "issuer is missing: add a line 'issuer https://…' to the block of okta, at Testfile:1",
		"oidc":                                              "write oidc <name>",
		"oidc a b c d":                                      "write oidc <name>",
		"oidc Sso":                                          "lower-case letters",
		"oidc sso {\n client_id x\n}":                       "issuer is missing",
		"oidc sso {\n client_auth tls_client_auth\n}":       "client_auth: unknown value 'tls_client_auth' (allowed: basic, post, private_key_jwt)",
		"oidc sso {\n response_mode fragment\n}":            "(allowed: query, form_post)",
		"oidc sso {\n signing_alg HS256\n}":                 "signing_alg: unknown value 'HS256' (allowed: RS256,",
		"oidc sso {\n signing_alg none\n}":                  "unknown value 'none'",
		"oidc sso {\n prompt a\n prompt b\n}":               "prompt is given twice",
	} {
		_, err := adapt(block)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "Testfile:") {
			t.Errorf("%s:\ngot  %v\nwant %s", block, err, want)
		}
	}
}

func TestProvisionMistakesNameTheCure(t *testing.T) {
	t.Setenv("GOOGLE_CLIENT_ID", "")
	t.Setenv("GOOGLE_CLIENT_SECRET", "")
	t.Setenv("TEST_ID", "from env")
	t.Setenv("TEST_ISSUER", "http://example.com")
	t.Setenv("TEST_STAR", "*")
	for block, want := range map[string]string{
		"google":                        "client_id is empty: set GOOGLE_CLIENT_ID or write client_id",
		"google {\n client_secret x\n}": "client_id is empty: set GOOGLE_CLIENT_ID or write client_id",
		"google {env.TEST_ID} {file./does/not/exist}":                 "client_secret is empty: make /does/not/exist a readable file",
		"google a {unknown.thing}":                                    "client_secret has a placeholder that is empty or unknown",
		"google a b {\n issuer {env.TEST_ISSUER}\n}":                  "issuer: \"http://example.com\" must be https",
		"google a b {\n issuer {env.UNSET}\n}":                        "issuer is empty: set UNSET",
		"google a b {\n hosted_domain {env.UNSET}\n}":                 "hosted_domain is empty: set UNSET",
		"google a b {\n hosted_domain *\n hosted_domain a.example\n}": "hosted_domain: * is every Workspace",
		"google a b {\n authoritative_domains {env.TEST_STAR}\n}":     "authoritative_domains: \"*\" is no domain",
		"oidc sso {\n issuer https://o.example\n}":                    "client_id is missing: write client_id",
	} {
		module, err := adapt(block)
		if err != nil {
			t.Fatal(err)
		}
		err = module.(caddy.Provisioner).Provision(caddy.Context{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\ngot  %v\nwant %s", block, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "unknown.thing") {
			t.Error("an error quotes a secret")
		}
	}
}

func TestJSONIsCheckedAsTheCaddyfileIs(t *testing.T) {
	for text, want := range map[string]string{
		`{"name":"check"}`:                                 "path of the sign-in pages",
		`{"name":"a","email_trust":"yes"}`:                 "email_trust: unknown value",
		`{"name":"a","scopes":[""]}`:                       "empty string",
		`{"name":"a","response_mode":"x"}`:                 "response_mode: unknown value",
		`{"name":"a","client_auth":"x"}`:                   "client_auth: unknown value",
		`{"name":"a","signing_alg":"HS512"}`:               "signing_alg: unknown value",
		`{"name":"a","client_id":"i","client_secret":"s"}`: "issuer is missing",
	} {
		p := new(OIDC)
		if err := json.Unmarshal([]byte(text), p); err != nil {
			t.Fatal(err)
		}
		if err := p.Provision(caddy.Context{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}

func TestPlaceholdersAreReplacedOnceAndStayInTheJSON(t *testing.T) {
	t.Setenv("TEST_ID", "{env.TEST_SECRET}")
	t.Setenv("TEST_SECRET", "very secret")
	module, err := adapt("google {env.TEST_ID} {env.TEST_SECRET}")
	if err != nil {
		t.Fatal(err)
	}
	g := module.(*Google)
	for range 2 {
		if err := g.Provision(caddy.Context{}); err != nil {
			t.Fatal(err)
		}
	}
	id, secret := g.Client()
	if id != "{env.TEST_SECRET}" || !secret.Is("very secret") {
		t.Errorf("client is %q, secret right: %v", id, secret.Is("very secret"))
	}
	if text, _ := json.Marshal(g); strings.Contains(string(text), "very secret") {
		t.Errorf("the JSON tells the secret: %s", text)
	}
}

func TestTraitsTellTheOperatorsDecisions(t *testing.T) {
	traits := func(block string) guest.Traits {
		module, err := adapt(block)
		if err != nil {
			t.Fatal(err)
		}
		if err := module.(caddy.Provisioner).Provision(caddy.Context{}); err != nil {
			t.Fatal(err)
		}
		return module.(guest.Provider).Traits()
	}
	byDefault := guest.EmailRules{Identifier: true, Merge: true, Confirmation: "auto"}
	native := []guest.NativeKind{guest.IDToken}
	for block, want := range map[string]guest.Traits{
		"google a b": {Name: "google", Label: "Google", Brand: "google", Email: byDefault, Native: native},
		"okta a b {\n name corp\n issuer https://o.example\n}": {Name: "corp", Label: "Okta", Brand: "okta", Email: byDefault, SendsLogouts: true, Native: native},
		"oidc sso a b {\n issuer https://o.example\n}":         {Name: "sso", Label: "sso", Brand: "oidc", Email: byDefault, SendsLogouts: true, Native: native},
		`oidc sso a b {
			issuer https://o.example
			label Corp
			response_mode form_post
			use_email_as_identifier off
			allow_email_account_merge off
			verify_email
			on_unverified_collision create
			merge_confirmation none
			tokens forward
			revalidate 15m
			provider_logout off
		}`: {
			Name: "sso", Label: "Corp", Brand: "oidc", FormPost: true, Email: guest.EmailRules{Verify: guest.VerifyOn, Confirmation: "none", CreateUnlinked: true},
			Tokens:        guest.TokenRules{Keep: true, Header: "X-Forwarded-Access-Token", Revalidate: 15 * time.Minute},
			StaysSignedIn: true, SendsLogouts: true,
		},
	} {
		got := traits(block)
		if got.Client == "" || got.Owns == nil {
			t.Errorf("%s: no client, or accounts of any issuer", block)
		}
		if got.Client, got.Owns = "", nil; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", block, got, want)
		}
	}
}
