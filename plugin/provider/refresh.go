package provider

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

// Refresh is a refresh token and what it takes to trade it for a new access
// token (RFC 6749 section 6).
type Refresh struct {
	TokenURL  string
	ClientID  string
	Secret    guest.Secret // empty: none is sent
	Basic     bool         // the client's ID and secret go into the header, not the form
	Assertion guest.Secret // in place of a secret: a client_assertion (RFC 7523 section 2.2)
	Token     guest.Secret
	Now       func() time.Time // nil: Tokens.Expires stays zero
}

// Do makes the trade, exactly once: many a provider takes the second use of a
// refresh token for a theft, and revokes them all. Where it issues no new
// refresh token, Tokens.Refresh is the old one.
//
// Where the provider says that the token is good no more, the error wraps
// guest.ErrGrantEnded. Whatever else goes wrong, also a refused client, does
// not: that ends nobody's session.
func (r Refresh) Do(ctx context.Context, client *http.Client) (Tokens, error) {
	if r.Token == "" {
		return Tokens{}, Fail(guest.Refused, "renewing tokens: %w", guest.ErrNotRenewable)
	}
	ask := tokenRequest{
		doing: "renewing tokens", address: r.TokenURL, now: r.Now,
		form: url.Values{"grant_type": {"refresh_token"}, "refresh_token": {string(r.Token)}},
		id:   r.ClientID, secret: r.Secret, basic: r.Basic, assertion: r.Assertion,
	}
	tokens, err := ask.make(ctx, client)
	if err != nil {
		return Tokens{}, ended(err)
	}
	tokens.Refresh = cmp.Or(tokens.Refresh, r.Token)
	return tokens, nil
}

// ended marks the error codes of a refresh token that is good no more: RFC
// 6749's, and GitHub's, which comes with status 200.
func ended(err error) error {
	var code ErrorCode
	if errors.As(err, &code) && (code == "invalid_grant" || code == "bad_refresh_token") {
		return Fail(guest.ReasonOf(err), "%w: %w", guest.ErrGrantEnded, errors.Unwrap(err))
	}
	return err
}
