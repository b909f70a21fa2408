package oauth

import (
	"cmp"
	"context"
	"net/url"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// X signs people in with an account at X, once Twitter.
//
//	x [<id> <secret>]
//
// Without id and secret they are taken from X_CLIENT_ID and X_CLIENT_SECRET:
// those of OAuth 2.0, not the API key. The app must be a confidential client
// ("Web App, Automated App or Bot"), and have "Request email from users" on,
// which wants addresses of a privacy policy and terms of service. Without that,
// write scopes users.read tweet.read: people then have no address.
type X struct{ API }

// CaddyModule returns the module's ID.
func (*X) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "login.providers.x", New: func() caddy.Module { return new(X) }}
}

var xDefaults = provider.Defaults{
	Name:         "x",
	Label:        "X",
	ClientID:     "{env.X_CLIENT_ID}",
	ClientSecret: "{env.X_CLIENT_SECRET}",
}

var xHome = place{
	Server: Server{
		Issuer:   "https://x.com",
		AuthURL:  "https://x.com/i/oauth2/authorize",
		TokenURL: "https://api.x.com/2/oauth2/token",
	},
	api: "https://api.x.com/2",
}

// UnmarshalCaddyfile reads the block shown at X.
func (p *X) UnmarshalCaddyfile(d *caddyfile.Dispenser) error { return p.unmarshal(d, xDefaults) }

// Provision checks the settings and resolves placeholders. It touches no
// network.
func (p *X) Provision(caddy.Context) error {
	return p.provision(xHome, brand{
		key:      "x",
		defaults: xDefaults,
		basic:    true,
		// tweet.read is no wish of ours: the API tells nobody's name without it.
		scopes:     []string{"users.read", "tweet.read", "users.email"},
		offline:    []string{"offline.access"},
		revocation: "revoke",
		who:        p.who,
	})
}

// who asks for the person. The username changes hands, and is no address; what
// X calls verified is whether somebody pays.
func (p *X) who(ctx context.Context, b bearer) (guest.Profile, error) {
	answer, err := b.object(ctx, "me", p.at.api+"/users/me?"+fields(b))
	if err != nil {
		return guest.Profile{}, err
	}
	id, err := number(answer.At("data.id"), "data.id")
	if err != nil {
		return guest.Profile{}, err
	}
	text := func(path string) string { return answer.At(path).Text(path) }
	email := plainAddress(answer, "data.confirmed_email")
	return guest.Profile{
		Subject:    id,
		Email:      email,
		EmailTrust: p.Trust(email, true),
		Name:       cmp.Or(provider.Display(text("data.name")), provider.Display(text("data.username"))),
		Picture:    provider.Picture(text("data.profile_image_url")),
	}, nil
}

// fields are what to tell of the person. The address is not asked for without
// its scope: the whole request might be refused.
func fields(b bearer) string {
	list := "profile_image_url"
	if b.granted("users.email") {
		list += ",confirmed_email"
	}
	return url.Values{"user.fields": {list}}.Encode()
}

var (
	_ caddy.Module          = (*X)(nil)
	_ caddy.Provisioner     = (*X)(nil)
	_ caddyfile.Unmarshaler = (*X)(nil)
	_ guest.Renewer         = (*X)(nil)
)
