package oauth

import (
	"cmp"
	"context"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// Bitbucket signs people in with an account at Bitbucket Cloud.
//
//	bitbucket [<id> <secret>]
//
// Without id and secret they are taken from BITBUCKET_CLIENT_ID and
// BITBUCKET_CLIENT_SECRET: key and secret of an OAuth consumer. What it may see
// is set there and not by scopes: switch on "Account: Email" and "Account:
// Read".
type Bitbucket struct{ API }

// CaddyModule returns the module's ID.
func (*Bitbucket) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "login.providers.bitbucket", New: func() caddy.Module { return new(Bitbucket) }}
}

var bitbucketDefaults = provider.Defaults{
	Name:         "bitbucket",
	Label:        "Bitbucket",
	ClientID:     "{env.BITBUCKET_CLIENT_ID}",
	ClientSecret: "{env.BITBUCKET_CLIENT_SECRET}",
}

var bitbucketHome = place{
	Server: Server{
		Issuer:   "https://bitbucket.org",
		AuthURL:  "https://bitbucket.org/site/oauth2/authorize",
		TokenURL: "https://bitbucket.org/site/oauth2/access_token",
	},
	api: "https://api.bitbucket.org/2.0",
}

// UnmarshalCaddyfile reads the block shown at Bitbucket.
func (p *Bitbucket) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return p.unmarshal(d, bitbucketDefaults)
}

// Provision checks the settings and resolves placeholders. It touches no
// network.
func (p *Bitbucket) Provision(caddy.Context) error {
	return p.provision(bitbucketHome, brand{
		key:      "bitbucket",
		defaults: bitbucketDefaults,
		basic:    true,
		who:      p.who,
	})
}

// who asks for the person. Of the two names that never change, account_id is
// the one that Atlassian calls the primary key of a person; uuid is that of
// Bitbucket's own record. Nicknames are neither unique nor for good.
func (p *Bitbucket) who(ctx context.Context, b bearer) (guest.Profile, error) {
	person, err := b.object(ctx, "user", p.at.api+"/user")
	if err != nil {
		return guest.Profile{}, err
	}
	id, err := opaque(person, "account_id")
	if err != nil {
		return guest.Profile{}, err
	}
	email, err := p.email(ctx, b)
	if err != nil {
		return guest.Profile{}, err
	}
	picture := "links.avatar.href"
	return guest.Profile{
		Subject:    id,
		Email:      email,
		EmailTrust: p.Trust(email, true),
		Name:       cmp.Or(provider.Display(person.Text("display_name")), provider.Display(person.Text("nickname"))),
		Picture:    provider.Picture(person.At(picture).Text(picture)),
	}, nil
}

// email is the primary address if it was confirmed. Where the consumer may not
// see addresses, there is none. The pages are counted here: whoever answers
// must not choose, by `next`, where the token is sent.
func (p *Bitbucket) email(ctx context.Context, b bearer) (string, error) {
	for page := 1; page <= maxPages; page++ {
		answer, err := b.ask(ctx, "emails", fmt.Sprintf("%s/user/emails?pagelen=%d&page=%d", p.at.api, perPage, page))
		if err != nil {
			return "", err
		}
		if answer.Status == http.StatusForbidden || answer.Status == http.StatusNotFound {
			return "", nil
		}
		list, err := read("emails", answer)
		if err != nil {
			return "", err
		}
		entries, err := provider.ParseList(list["values"])
		if err != nil {
			return "", provider.Untrusted("reading emails: %w", err)
		}
		for _, entry := range entries {
			if entry.Proven("is_primary") && entry.Proven("is_confirmed") {
				return plainAddress(entry, "email"), nil
			}
		}
		if !list.Has("next") {
			break
		}
	}
	return "", nil
}

var (
	_ caddy.Module          = (*Bitbucket)(nil)
	_ caddy.Provisioner     = (*Bitbucket)(nil)
	_ caddyfile.Unmarshaler = (*Bitbucket)(nil)
	_ guest.Renewer         = (*Bitbucket)(nil)
)
