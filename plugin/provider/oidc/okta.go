package oidc

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// Okta signs people in with an Okta organisation.
//
//	okta [<id> <secret>] {
//		issuer <url>
//		private_key <pem or {file./path}>
//		key_id <id>
//	}
//
// The issuer is the organisation's address, https://example.okta.com, or an
// authorization server of it, https://example.okta.com/oauth2/default.
type Okta struct {
	provider.Options
	Endpoints
	ClientKey

	party
}

// CaddyModule returns the module's ID.
func (*Okta) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "login.providers.okta", New: func() caddy.Module { return new(Okta) }}
}

// UnmarshalCaddyfile reads the block shown at Okta.
func (o *Okta) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the provider's word
	if err := o.Credentials(d); err != nil {
		return err
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := provider.Rest(d, nil, &o.Options, &o.Endpoints, &o.ClientKey); err != nil {
			return err
		}
	}
	if err := o.check("", o.ClientSecret); err != nil {
		return d.WrapErr(err)
	}
	return o.needIssuer(d, "okta")
}

// Provision checks the settings and resolves placeholders. It touches no
// network.
func (o *Okta) Provision(caddy.Context) error {
	return o.party.setUp(settings{options: &o.Options, endpoints: o.Endpoints, key: o.ClientKey}, brand{
		key:          "okta",
		defaults:     provider.Defaults{Name: "okta", Label: "Okta"},
		switchPrompt: "login",
		anewPrompt:   "login",
		datesSignIns: true,
		groupsScope:  "groups",
		offline:      offline{scope: true},
		revocation:   revocation{beside: "revoke"},
		sendsLogouts: true,
		// Okta's ID token is thin whenever an access token comes with it.
		asksUserinfo: true,
	})
}

var (
	_ caddy.Module          = (*Okta)(nil)
	_ caddy.Provisioner     = (*Okta)(nil)
	_ caddyfile.Unmarshaler = (*Okta)(nil)
	_ guest.Provider        = (*Okta)(nil)
)
