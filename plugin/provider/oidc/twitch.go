package oidc

import (
	"net/url"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// Twitch signs people in with a Twitch account.
//
//	twitch [<id> <secret>]
//
// Without id and secret they are taken from TWITCH_CLIENT_ID and
// TWITCH_CLIENT_SECRET.
//
// Twitch takes no notice of PKCE. What binds its answer to the browser are the
// state and the nonce.
type Twitch struct {
	provider.Options
	Endpoints

	party
}

// CaddyModule returns the module's ID.
func (*Twitch) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "login.providers.twitch", New: func() caddy.Module { return new(Twitch) }}
}

var twitchDefaults = provider.Defaults{
	Name:         "twitch",
	Label:        "Twitch",
	ClientID:     "{env.TWITCH_CLIENT_ID}",
	ClientSecret: "{env.TWITCH_CLIENT_SECRET}",
}

// Twitch does not tell a refresh token of an account that ended, by an error code
// one could go by, from any other failure.
var twitchLacks = lacking{"groups", "revalidate", "provider_logout", "native_client_ids"}

// UnmarshalCaddyfile reads the line shown at Twitch, and a block of common
// options.
func (t *Twitch) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return t.Unmarshal(d, twitchDefaults, func(d *caddyfile.Dispenser) error {
		return provider.Rest(d, nil, twitchLacks.of("twitch", &t.Options), &t.Endpoints)
	})
}

// Provision checks the settings and resolves placeholders. It touches no
// network.
func (t *Twitch) Provision(caddy.Context) error {
	return t.party.setUp(settings{
		options: &t.Options, endpoints: t.Endpoints, clientAuth: "post",
		// At Twitch this is the name that others see. It takes no at-sign, so that
		// it cannot pass for an address.
		name: "preferred_username",
	}, brand{
		key:           "twitch",
		defaults:      twitchDefaults,
		issuer:        "https://id.twitch.tv/oauth2",
		scopes:        []string{"openid", "user:read:email"},
		skipsUserinfo: true,
		lacks:         twitchLacks,
		revocation:    revocation{beside: "revoke", access: true, trim: trimToClient},
		hint:          wantTwitchClaims,
		switchHint:    func(query url.Values) { query.Set("force_verify", "true") },
	})
}

// wantTwitchClaims asks for what describes a person (OpenID Connect Core 5.5):
// unasked, Twitch's ID token holds the subject alone.
func wantTwitchClaims(query url.Values) {
	query.Set("claims", `{"id_token":{"email":null,"email_verified":null,"picture":null,"preferred_username":null}}`)
}

// trimToClient leaves the token and the client ID, as Twitch has it.
func trimToClient(r *provider.Revocation) {
	*r = provider.Revocation{URL: r.URL, ClientID: r.ClientID, Token: r.Token}
}

var (
	_ caddy.Module          = (*Twitch)(nil)
	_ caddy.Provisioner     = (*Twitch)(nil)
	_ caddyfile.Unmarshaler = (*Twitch)(nil)
	_ guest.Provider        = (*Twitch)(nil)
)
