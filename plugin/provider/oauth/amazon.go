package oauth

import (
	"context"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// Amazon signs people in with the account that they shop with: Login with
// Amazon.
//
//	amazon [<id> <secret>]
//
// Without id and secret they are taken from AMAZON_CLIENT_ID and
// AMAZON_CLIENT_SECRET, those of a security profile.
//
// Amazon does not say whether anybody checked an address: none counts as
// proven, unless verify_email has it proven by mail.
//
// Who somebody is hangs on the developer account as well: under another
// company's, Amazon gives people other identifiers.
type Amazon struct{ API }

// CaddyModule returns the module's ID.
func (*Amazon) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "login.providers.amazon", New: func() caddy.Module { return new(Amazon) }}
}

var amazonDefaults = provider.Defaults{
	Name:         "amazon",
	Label:        "Amazon",
	ClientID:     "{env.AMAZON_CLIENT_ID}",
	ClientSecret: "{env.AMAZON_CLIENT_SECRET}",
}

var amazonHome = place{
	Server: Server{
		Issuer:   "https://www.amazon.com",
		AuthURL:  "https://www.amazon.com/ap/oa",
		TokenURL: "https://api.amazon.com/auth/o2/token",
	},
	api: "https://api.amazon.com",
}

// UnmarshalCaddyfile reads the block shown at Amazon.
func (p *Amazon) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return p.unmarshal(d, amazonDefaults)
}

// Provision checks the settings and resolves placeholders. It touches no
// network.
func (p *Amazon) Provision(caddy.Context) error {
	return p.provision(amazonHome, brand{
		key:      "amazon",
		defaults: amazonDefaults,
		scopes:   []string{"profile"},
		who:      p.who,
	})
}

func (p *Amazon) who(ctx context.Context, b bearer) (guest.Profile, error) {
	person, err := b.object(ctx, "profile", p.at.api+"/user/profile")
	if err != nil {
		return guest.Profile{}, err
	}
	id, err := opaque(person, "user_id")
	if err != nil {
		return guest.Profile{}, err
	}
	email := plainAddress(person, "email")
	return guest.Profile{
		Subject:    id,
		Email:      email,
		EmailTrust: p.Trust(email, false),
		Name:       provider.Display(person.Text("name")),
	}, nil
}

var (
	_ caddy.Module          = (*Amazon)(nil)
	_ caddy.Provisioner     = (*Amazon)(nil)
	_ caddyfile.Unmarshaler = (*Amazon)(nil)
	_ guest.Renewer         = (*Amazon)(nil)
)
