package oidc

import (
	"context"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// revocation is how a brand takes back what was granted, where the discovery
// document does not say it all. Zero: RFC 7009, where the document names an
// endpoint.
type revocation struct {
	// beside is where the endpoint is, seen from the token endpoint, where the
	// document names none.
	beside string

	// access is set where access tokens alone can be revoked.
	access bool

	// trim takes out what the brand does not ask for: what is not sent can't
	// leak, or offend.
	trim func(*provider.Revocation)
}

// Revoke has the issuer forget what this person granted (RFC 7009), in at most
// 10 s.
func (p *party) Revoke(ctx context.Context, g guest.Granted) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	g, err := p.revocable(g)
	if err != nil {
		return err
	}
	m, err := p.metadata.value(ctx)
	if err != nil {
		return err
	}
	if m.revocationURL == "" {
		return provider.NotRevocable("the issuer has no revocation endpoint")
	}
	return provider.RevokeGrant(g, func(r provider.Revocation) error { return p.revoke(ctx, m, r) })
}

// revocable is what can be revoked of a grant. Tokens of another issuer, whom
// the configuration may have named before, are not for this one to see.
func (p *party) revocable(g guest.Granted) (guest.Granted, error) {
	if !p.isIssuer(g.Issuer) {
		return g, provider.NotRevocable("tokens are of issuer %s, not of this provider's", provider.Quote(g.Issuer))
	}
	if p.brand.revocation.access {
		g.Tokens.Refresh, g.Consent = "", ""
	}
	if g.Tokens.Refresh == "" && g.Tokens.Access == "" && g.Consent == "" {
		return g, provider.NotRevocable("nothing was kept")
	}
	return g, nil
}

func (p *party) revoke(ctx context.Context, m *metadata, r provider.Revocation) error {
	us, err := p.credentials(m, m.revocationURL)
	if err != nil {
		return err
	}
	r.URL, r.ClientID, r.Secret, r.Basic, r.Assertion = m.revocationURL, us.id, us.secret, m.basicAuth, us.assertion
	if p.brand.revocation.trim != nil {
		p.brand.revocation.trim(&r)
	}
	return r.Do(ctx, p.client)
}

// revocationAddress is the setting revocation_url.
func revocationAddress(to *string) provider.Addresses {
	return provider.Addresses{{Word: "revocation_url", To: to, Check: provider.CheckURL}}
}

// resolveRevocation returns it with its placeholders replaced, checked.
func resolveRevocation(written string) (string, error) {
	err := revocationAddress(&written).Resolve()
	return written, err
}

var _ guest.Revoker = (*party)(nil)
