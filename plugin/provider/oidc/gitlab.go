package oidc

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// GitLab signs people in with an account at GitLab.com, or at a GitLab of your
// own.
//
//	gitlab [<id> <secret>] {
//		issuer <url>
//		groups groups_direct
//	}
//
// Without id and secret they are taken from GITLAB_CLIENT_ID and
// GITLAB_CLIENT_SECRET. The application at GitLab needs the scopes openid and
// email. The issuer of a GitLab of your own is its address,
// https://gitlab.example.com.
//
// `groups groups_direct` takes the paths of the groups that a person is a
// direct member of, such as acme/ops; `groups groups` also those below them.
// Anybody can open a group at GitLab.com under a path that is free, or that its
// owner gave up: name only groups that are yours.
//
// A GitLab whose administrators switched email confirmation off calls every
// address verified that somebody typed at sign-up. If strangers can sign up at
// yours, set its email confirmation to hard, or write `email_trust unverified`.
type GitLab struct {
	provider.Options
	Endpoints

	party
}

// CaddyModule returns the module's ID.
func (*GitLab) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "login.providers.gitlab", New: func() caddy.Module { return new(GitLab) }}
}

var gitlabDefaults = provider.Defaults{
	Name:         "gitlab",
	Label:        "GitLab",
	ClientID:     "{env.GITLAB_CLIENT_ID}",
	ClientSecret: "{env.GITLAB_CLIENT_SECRET}",
}

var gitlabLacks = lacking{"provider_logout"}

// UnmarshalCaddyfile reads the block shown at GitLab.
func (g *GitLab) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return g.Unmarshal(d, gitlabDefaults, func(d *caddyfile.Dispenser) error {
		return provider.Rest(d, nil, gitlabLacks.of("gitlab", &g.Options), &g.Endpoints)
	})
}

// Provision checks the settings and resolves placeholders. It touches no
// network.
func (g *GitLab) Provision(caddy.Context) error {
	return g.party.setUp(settings{options: &g.Options, endpoints: g.Endpoints}, brand{
		key:      "gitlab",
		defaults: gitlabDefaults,
		issuer:   "https://gitlab.com",
		// GitLab refuses scopes that the application was not given, and these
		// two bring every claim.
		scopes:       []string{"openid", "email"},
		switchPrompt: "login",
		anewPrompt:   "login",
		datesSignIns: true,
		revocation:   revocation{beside: "revoke"},
		lacks:        gitlabLacks,
	})
}

var (
	_ caddy.Module          = (*GitLab)(nil)
	_ caddy.Provisioner     = (*GitLab)(nil)
	_ caddyfile.Unmarshaler = (*GitLab)(nil)
	_ guest.Provider        = (*GitLab)(nil)
)
