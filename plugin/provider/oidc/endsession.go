package oidc

import (
	"context"
	"net/url"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// maxHint is how long an ID token may be, in bytes, to go into an address as a
// hint. Servers refuse addresses that are much longer.
const maxHint = 4 << 10

// EndSession returns the address at the issuer that ends the person's session
// there (OpenID Connect RP-Initiated Logout 1.0 section 2), or "" where the
// issuer has none. Without a hint, or with one that expired, the issuer may ask
// the person first.
func (p *party) EndSession(ctx context.Context, f guest.Farewell) (string, error) {
	m, err := p.metadata.value(ctx)
	if err != nil || m.endSessionURL == "" {
		return "", err
	}
	id, _ := p.settings.options.Client()
	params := url.Values{"client_id": {id}}
	if p.hints(m, string(f.IDToken)) {
		params.Set("id_token_hint", string(f.IDToken))
	}
	if f.ReturnTo != "" {
		params.Set("post_logout_redirect_uri", f.ReturnTo)
		if f.State != "" {
			params.Set("state", f.State)
		}
	}
	return provider.FrontURL("end-session endpoint", m.endSessionURL, params)
}

// hints reports whether an ID token is worth keeping for EndSession.
func (p *party) hints(m *metadata, idToken string) bool {
	leaves := p.settings.options.ProviderLogout == nil || *p.settings.options.ProviderLogout
	return leaves && m.endSessionURL != "" && idToken != "" && len(idToken) <= maxHint
}
