package oidc

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// LinkedIn signs people in with a LinkedIn account.
//
//	linkedin [<id> <secret>]
//
// Without id and secret they are taken from LINKEDIN_CLIENT_ID and
// LINKEDIN_CLIENT_SECRET. The app at LinkedIn needs the product "Sign In with
// LinkedIn using OpenID Connect".
//
// LinkedIn fails on PKCE's code_verifier and leaves the nonce out of its ID
// tokens, so neither guards against a code that was stolen from another
// browser and slipped into this one. What remains is the state, which is bound
// to the browser and works once, and the code, which works once and only with
// our secret and callback URL.
type LinkedIn struct {
	provider.Options
	Endpoints

	party
}

// CaddyModule returns the module's ID.
func (*LinkedIn) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "login.providers.linkedin", New: func() caddy.Module { return new(LinkedIn) }}
}

var linkedinDefaults = provider.Defaults{
	Name:         "linkedin",
	Label:        "LinkedIn",
	ClientID:     "{env.LINKEDIN_CLIENT_ID}",
	ClientSecret: "{env.LINKEDIN_CLIENT_SECRET}",
}

var linkedinLacks = lacking{"groups", "provider_logout"}

// UnmarshalCaddyfile reads the line shown at LinkedIn, and a block of common
// options.
func (l *LinkedIn) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return l.Unmarshal(d, linkedinDefaults, func(d *caddyfile.Dispenser) error {
		return provider.Rest(d, nil, linkedinLacks.of("linkedin", &l.Options), &l.Endpoints)
	})
}

// Provision checks the settings and resolves placeholders. It touches no
// network.
func (l *LinkedIn) Provision(caddy.Context) error {
	return l.party.setUp(settings{options: &l.Options, endpoints: l.Endpoints, clientAuth: "post"}, brand{
		key:           "linkedin",
		defaults:      linkedinDefaults,
		issuer:        "https://www.linkedin.com/oauth",
		lacks:         linkedinLacks,
		refusesPKCE:   true,
		dropsNonce:    true,
		introspection: "introspectToken",
	})
}

var (
	_ caddy.Module          = (*LinkedIn)(nil)
	_ caddy.Provisioner     = (*LinkedIn)(nil)
	_ caddyfile.Unmarshaler = (*LinkedIn)(nil)
	_ guest.Provider        = (*LinkedIn)(nil)
)
