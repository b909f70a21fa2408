package oauth

import (
	"context"
	"net/url"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// Spotify signs people in with a Spotify account.
//
//	spotify [<id> <secret>]
//
// Without id and secret they are taken from SPOTIFY_CLIENT_ID and
// SPOTIFY_CLIENT_SECRET.
//
// Spotify says itself that nobody checked the addresses of its people: none
// counts as proven, unless verify_email has it proven by mail. To apps in
// development mode, which only five people may use, it may tell none.
//
// With revalidate or tokens, sessions end six months after the sign-in at the
// latest: so long does Spotify renew tokens.
type Spotify struct{ API }

// CaddyModule returns the module's ID.
func (*Spotify) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "login.providers.spotify", New: func() caddy.Module { return new(Spotify) }}
}

var spotifyDefaults = provider.Defaults{
	Name:         "spotify",
	Label:        "Spotify",
	ClientID:     "{env.SPOTIFY_CLIENT_ID}",
	ClientSecret: "{env.SPOTIFY_CLIENT_SECRET}",
}

var spotifyHome = place{
	Server: Server{
		Issuer:   "https://accounts.spotify.com",
		AuthURL:  "https://accounts.spotify.com/authorize",
		TokenURL: "https://accounts.spotify.com/api/token",
	},
	api: "https://api.spotify.com/v1",
}

// UnmarshalCaddyfile reads the block shown at Spotify.
func (p *Spotify) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return p.unmarshal(d, spotifyDefaults)
}

// Provision checks the settings and resolves placeholders. It touches no
// network.
func (p *Spotify) Provision(caddy.Context) error {
	return p.provision(spotifyHome, brand{
		key:      "spotify",
		defaults: spotifyDefaults,
		basic:    true,
		scopes:   []string{"user-read-email"},
		chooser:  url.Values{"show_dialog": {"true"}},
		who:      p.who,
	})
}

// who asks for the person. The id is a user name, which old accounts chose
// themselves; account_id is the name that Spotify promises never to change, and
// wants accounts to be linked by.
func (p *Spotify) who(ctx context.Context, b bearer) (guest.Profile, error) {
	person, err := b.object(ctx, "me", p.at.api+"/me")
	if err != nil {
		return guest.Profile{}, err
	}
	id, err := opaque(person, "account_id")
	if err != nil {
		return guest.Profile{}, err
	}
	email := plainAddress(person, "email")
	return guest.Profile{
		Subject:    id,
		Email:      email,
		EmailTrust: p.Trust(email, false),
		Name:       provider.Display(person.Text("display_name")),
		Picture:    provider.Picture(person.At("images.0.url").Text("images.0.url")),
	}, nil
}

var (
	_ caddy.Module          = (*Spotify)(nil)
	_ caddy.Provisioner     = (*Spotify)(nil)
	_ caddyfile.Unmarshaler = (*Spotify)(nil)
	_ guest.Renewer         = (*Spotify)(nil)
)
