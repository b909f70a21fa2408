package oauth

import (
	"cmp"
	"context"
	"net/url"
	"regexp"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// Discord signs people in with a Discord account.
//
//	discord [<id> <secret>]
//
// Without id and secret they are taken from DISCORD_CLIENT_ID and
// DISCORD_CLIENT_SECRET.
//
// Discord says of an address whether it was verified. An account without one,
// or with one that was not, signs in all the same.
type Discord struct{ API }

// CaddyModule returns the module's ID.
func (*Discord) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "login.providers.discord", New: func() caddy.Module { return new(Discord) }}
}

var discordDefaults = provider.Defaults{
	Name:         "discord",
	Label:        "Discord",
	ClientID:     "{env.DISCORD_CLIENT_ID}",
	ClientSecret: "{env.DISCORD_CLIENT_SECRET}",
}

var discordHome = place{
	Server: Server{
		Issuer:   "https://discord.com",
		AuthURL:  "https://discord.com/oauth2/authorize",
		TokenURL: "https://discord.com/api/oauth2/token",
	},
	api: "https://discord.com/api/v10",
}

// UnmarshalCaddyfile reads the block shown at Discord.
func (p *Discord) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return p.unmarshal(d, discordDefaults)
}

// Provision checks the settings and resolves placeholders. It touches no
// network.
func (p *Discord) Provision(caddy.Context) error {
	return p.provision(discordHome, brand{
		key:      "discord",
		defaults: discordDefaults,
		basic:    true,
		scopes:   []string{"identify", "email"},
		// It knows no prompt to choose an account, but this one names it.
		chooser:    url.Values{"prompt": {"consent"}},
		revocation: "token/revoke",
		who:        p.who,
	})
}

// who asks for the person. Neither username nor global_name is theirs for good,
// or theirs alone; the id is.
func (p *Discord) who(ctx context.Context, b bearer) (guest.Profile, error) {
	person, err := b.object(ctx, "me", p.at.api+"/users/@me")
	if err != nil {
		return guest.Profile{}, err
	}
	id, err := number(person, "id")
	if err != nil {
		return guest.Profile{}, err
	}
	email := plainAddress(person, "email")
	return guest.Profile{
		Subject:    id,
		Email:      email,
		EmailTrust: p.Trust(email, person.Proven("verified")),
		Name:       cmp.Or(provider.Display(person.Text("global_name")), provider.Display(person.Text("username"))),
		Picture:    avatar(id, person.Text("avatar")),
	}, nil
}

// avatarHash is what names a picture; those that move begin with a_, and stand
// still as PNG.
var avatarHash = regexp.MustCompile(`^(a_)?[0-9a-f]{32}$`)

func avatar(id, hash string) string {
	if !avatarHash.MatchString(hash) {
		return ""
	}
	return "https://cdn.discordapp.com/avatars/" + id + "/" + hash + ".png"
}

var (
	_ caddy.Module          = (*Discord)(nil)
	_ caddy.Provisioner     = (*Discord)(nil)
	_ caddyfile.Unmarshaler = (*Discord)(nil)
	_ guest.Renewer         = (*Discord)(nil)
)
