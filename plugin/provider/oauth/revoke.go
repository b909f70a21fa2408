package oauth

import (
	"context"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// revokeWithin is how long a revocation may take.
const revokeWithin = 10 * time.Second

// Revoke has the server forget what this person granted (RFC 7009), where it has
// an endpoint for that. It takes at most 10 s.
func (p *party) Revoke(ctx context.Context, g guest.Granted) error {
	ctx, cancel := context.WithTimeout(ctx, revokeWithin)
	defer cancel()
	if err := p.checkOurs(g); err != nil {
		return err
	}
	if p.at.revocation == "" {
		return provider.NotRevocable("%s has no revocation endpoint", p.brand.key)
	}
	return provider.RevokeGrant(g, func(r provider.Revocation) error {
		r.URL, r.Basic = p.at.revocation, p.brand.basic
		r.ClientID, r.Secret = p.options.Client()
		return r.Do(ctx, p.client)
	})
}

// checkOurs keeps tokens of the server that this block named before from the one
// it names now.
func (p *party) checkOurs(g guest.Granted) error {
	if g.Issuer == p.at.Issuer {
		return nil
	}
	return provider.NotRevocable("tokens are of another issuer than %s", p.at.Issuer)
}

var _ guest.Revoker = (*party)(nil)
