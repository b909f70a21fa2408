// Package oidc signs people in with OpenID Connect: any issuer, and brands
// that differ in a few habits. The checks on what an issuer answers are the
// same for all.
package oidc

import (
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

func init() {
	caddy.RegisterModule(new(OIDC))
	caddy.RegisterModule(new(Google))
	caddy.RegisterModule(new(Okta))
	caddy.RegisterModule(new(Microsoft))
	caddy.RegisterModule(new(Apple))
	caddy.RegisterModule(new(LinkedIn))
	caddy.RegisterModule(new(GitLab))
	caddy.RegisterModule(new(Slack))
	caddy.RegisterModule(new(Twitch))
}

// OIDC signs people in with any OpenID Connect issuer.
//
//	oidc <name> [<id> [<secret>]] {
//		issuer <url>
//		response_mode query|form_post
//		client_auth basic|post|private_key_jwt
//		private_key <pem or {file./path}>
//		key_id <id>
//		signing_alg <alg>
//		subject_claim|email_claim|verified_claim|name_claim <claim>
//		prompt <value...>
//		acr_values <value...>
//		revocation_url <url>
//	}
type OIDC struct {
	provider.Options
	Endpoints
	ClientKey

	// How the issuer sends its answer: `query` (the default), or `form_post`,
	// which keeps the code out of addresses and logs.
	ResponseMode string `json:"response_mode,omitempty"`

	// How the issuer is told who we are: `basic` or `post`, by the client secret
	// in the header or in the form, or `private_key_jwt`, by private_key. Default:
	// the last, where there is a private_key, else what the issuer's discovery
	// document lists, basic first.
	ClientAuth string `json:"client_auth,omitempty"`

	// The one algorithm that ID tokens may be signed with, such as ES256.
	// Default: the ones that the discovery document lists, else RS256. `none`
	// and those with a shared secret (HS256) are never accepted.
	SigningAlg string `json:"signing_alg,omitempty"`

	// The claim that identifies a person, in place of `sub`. It must be unique
	// and must never be given to somebody else: an address or a login name is
	// neither. Changing it makes everybody a stranger.
	SubjectClaim string `json:"subject_claim,omitempty"`

	// The claim that holds the address. Default: email.
	EmailClaim string `json:"email_claim,omitempty"`

	// The claim whose true proves the address. Default: email_verified, and
	// none where email_claim names another claim, since email_verified speaks
	// of `email` alone.
	VerifiedClaim string `json:"verified_claim,omitempty"`

	// The claim that holds the display name. Default: name, else given_name
	// and family_name.
	NameClaim string `json:"name_claim,omitempty"`

	// What the issuer is asked to show, such as login or consent, separated by
	// spaces. Default: what it shows by itself, and login where a visitor wants
	// another account. Where people must prove anew who they are, login takes the
	// place of what is written.
	Prompt string `json:"prompt,omitempty"`

	// The authentication contexts to ask for, separated by spaces. Asking does
	// not enforce: the issuer decides.
	ACRValues string `json:"acr_values,omitempty"`

	// The endpoint that takes back what a person granted, in place of the
	// discovered one (RFC 7009).
	RevocationURL string `json:"revocation_url,omitempty"`

	party
}

// CaddyModule returns the module's ID.
func (*OIDC) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "login.providers.oidc", New: func() caddy.Module { return new(OIDC) }}
}

// UnmarshalCaddyfile reads the block shown at OIDC.
func (o *OIDC) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the provider's word
	if err := o.NamedCredentials(d, "issuer"); err != nil {
		return err
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := o.option(d); err != nil {
			return err
		}
	}
	if err := o.check(o.ClientAuth, o.ClientSecret); err != nil {
		return d.WrapErr(err)
	}
	return o.needIssuer(d, "oidc")
}

func (o *OIDC) option(d *caddyfile.Dispenser) error {
	own := []string{
		"response_mode", "client_auth", "signing_alg", "subject_claim", "email_claim", "verified_claim", "name_claim",
		"prompt", "acr_values",
	}
	revocation := revocationAddress(&o.RevocationURL)
	switch d.Val() {
	case "name":
		return d.Err("oidc has its name on its own line: write oidc <name> there, and remove this line")
	case "response_mode":
		return provider.Choice(d, &o.ResponseMode, responseModes...)
	case "client_auth":
		return provider.Choice(d, &o.ClientAuth, clientAuths...)
	case "signing_alg":
		return provider.Choice(d, &o.SigningAlg, signingAlgs...)
	case "subject_claim":
		return provider.Text(d, &o.SubjectClaim)
	case "email_claim":
		return provider.Text(d, &o.EmailClaim)
	case "verified_claim":
		return provider.Text(d, &o.VerifiedClaim)
	case "name_claim":
		return provider.Text(d, &o.NameClaim)
	case "prompt":
		return words(d, &o.Prompt)
	case "acr_values":
		return words(d, &o.ACRValues)
	default:
		return provider.Rest(d, own, provider.Without{Part: &o.Options, Not: []string{"name"}}, &o.Endpoints, &o.ClientKey, revocation)
	}
}

// words reads one or more arguments as one text with spaces between.
func words(d *caddyfile.Dispenser, to *string) error {
	var list []string
	if *to != "" {
		return d.Errf("%s is given twice: write it once", d.Val())
	}
	err := provider.Texts(d, &list)
	*to = strings.Join(list, " ")
	return err
}

// Provision checks the settings and resolves placeholders. It touches no
// network.
func (o *OIDC) Provision(caddy.Context) error {
	return o.party.setUp(settings{
		options:      &o.Options,
		endpoints:    o.Endpoints,
		responseMode: o.ResponseMode,
		clientAuth:   o.ClientAuth,
		signingAlg:   o.SigningAlg,
		subject:      o.SubjectClaim,
		email:        o.EmailClaim,
		verified:     o.VerifiedClaim,
		name:         o.NameClaim,
		prompt:       o.Prompt,
		acrValues:    o.ACRValues,
		key:          o.ClientKey,

		revocationURL: o.RevocationURL,
	}, brand{
		key:          "oidc",
		switchPrompt: "login",
		anewPrompt:   "login",
		datesSignIns: true,
		offline:      offline{scope: true, consent: true},
		sendsLogouts: true,
	})
}

var (
	_ caddy.Module          = (*OIDC)(nil)
	_ caddy.Provisioner     = (*OIDC)(nil)
	_ caddyfile.Unmarshaler = (*OIDC)(nil)
	_ guest.Provider        = (*OIDC)(nil)
)
