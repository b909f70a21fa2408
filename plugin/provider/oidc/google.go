package oidc

import (
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// Google signs people in with a Google account.
//
//	google [<id> <secret>] {
//		hosted_domain <domain...>
//	}
//
// Without id and secret they are taken from GOOGLE_CLIENT_ID and
// GOOGLE_CLIENT_SECRET.
type Google struct {
	provider.Options
	Endpoints

	// Only accounts of these Google Workspace domains may sign in; `*` is any
	// Workspace. Google itself says so in its `hd` claim: the ending of an
	// address, which anybody can register elsewhere, plays no part. Default:
	// every Google account.
	HostedDomain []string `json:"hosted_domain,omitempty"`

	party
}

// CaddyModule returns the module's ID.
func (*Google) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "login.providers.google", New: func() caddy.Module { return new(Google) }}
}

var googleDefaults = provider.Defaults{
	Name:         "google",
	Label:        "Google",
	ClientID:     "{env.GOOGLE_CLIENT_ID}",
	ClientSecret: "{env.GOOGLE_CLIENT_SECRET}",
}

var googleLacks = lacking{"groups", "provider_logout"}

const googleIssuer = "https://accounts.google.com"

// UnmarshalCaddyfile reads the block shown at Google.
func (g *Google) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return g.Unmarshal(d, googleDefaults, g.option)
}

func (g *Google) option(d *caddyfile.Dispenser) error {
	switch d.Val() {
	case "hosted_domain":
		return provider.CheckedTexts(d, &g.HostedDomain, func(line []string) error {
			_, err := workspaces(line)
			return err
		})
	default:
		return provider.Rest(d, []string{"hosted_domain"}, googleLacks.of("google", &g.Options), &g.Endpoints)
	}
}

// Provision checks the settings and resolves placeholders. It touches no
// network.
func (g *Google) Provision(caddy.Context) error {
	hosts, err := workspaces(g.HostedDomain)
	if err != nil {
		return err
	}
	return g.party.setUp(settings{options: &g.Options, endpoints: g.Endpoints}, brand{
		key:          "google",
		defaults:     googleDefaults,
		issuer:       googleIssuer,
		formerIssuer: "accounts.google.com",
		switchPrompt: "select_account",
		// Google knows neither prompt=login nor max_age.
		anewPrompt: "select_account",
		hint:       hosts.hint,
		admit:      hosts.admit,
		admitsBy:   "hd",
		// Google knows no offline_access, and sends a refresh token once, with the
		// consent.
		offline:     offline{access: true, consent: true},
		runsMailbox: googleRunsMailbox,
		revocation:  revocation{beside: "revoke", trim: trimToToken},
		lacks:       googleLacks,
	})
}

// hostedDomains are the Workspace domains whose accounts may sign in; none
// means every account, "*" any Workspace's.
type hostedDomains []string

func workspaces(written []string) (hostedDomains, error) {
	switch {
	case !slices.Contains(written, "*"):
		return provider.Domains("hosted_domain", written)
	case len(written) > 1:
		return nil, errors.New("hosted_domain: * is every Workspace: write it alone, or the domains without it")
	default:
		return hostedDomains{"*"}, nil
	}
}

// hint has Google offer fitting accounts. It enforces nothing: the visitor
// can change it.
func (h hostedDomains) hint(query url.Values) {
	switch len(h) {
	case 0:
	case 1:
		query.Set("hd", h[0])
	default:
		query.Set("hd", "*")
	}
}

func (h hostedDomains) admit(c provider.Claims) error {
	hd := strings.ToLower(c.Text("hd"))
	if len(h) == 0 || hd != "" && (h[0] == "*" || slices.Contains(h, hd)) {
		return nil
	}
	return &guest.Failure{
		Reason: guest.NotAllowed,
		Err:    errors.New("the account's hd claim names none of the hosted_domain list"),
	}
}

// googleRunsMailbox reports whether Google delivers the mail of a verified
// address: its own domains, or the Workspace domain that the account belongs
// to. Any other address Google has only checked once.
func googleRunsMailbox(c provider.Claims, domain string) bool {
	return domain == "gmail.com" || domain == "googlemail.com" || domain == strings.ToLower(c.Text("hd"))
}

// trimToToken leaves the token alone: whoever has one of Google's may revoke it.
func trimToToken(r *provider.Revocation) {
	*r = provider.Revocation{URL: r.URL, Token: r.Token}
}

var (
	_ caddy.Module          = (*Google)(nil)
	_ caddy.Provisioner     = (*Google)(nil)
	_ caddyfile.Unmarshaler = (*Google)(nil)
	_ guest.Provider        = (*Google)(nil)
)
