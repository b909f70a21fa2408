package oidc

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/caddy-login/caddy-login/plugin/provider"
)

// Check asks the issuer, past all that is remembered, for what a sign-in needs
// of it: its discovery document, where there is one, and its keys. date is the
// time by the issuer's clock, zero where it does not tell.
func (p *party) Check(ctx context.Context) (date time.Time, err error) {
	m, err := p.discover(ctx)
	if err != nil {
		return date, err
	}
	keys, err := provider.Reach(ctx, p.client, http.MethodGet, m.jwksURL, maxKeys)
	if err != nil {
		return date, err
	}
	if keys.Status != http.StatusOK {
		return date, unavailable("%s answered %d", m.jwksURL, keys.Status)
	}
	ring, err := readKeys(keys.Body)
	if err == nil && len(ring.keys) == 0 {
		err = errors.New("no key in it can verify a signature")
	}
	if err != nil {
		return date, untrusted("reading key set: %w", err)
	}
	return keys.Date, nil
}
