package oidc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// logoutEvent is the event that makes a token a logout token.
const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// How old a logout token may be. One without `exp`, which the final
// specification demands and older issuers leave out, has to be fresh; one with
// it may have waited in an issuer's queue. The house remembers each token that
// it believed for as long, so an `exp` years ahead must not count.
const (
	logoutFresh  = 5 * time.Minute
	logoutOldest = time.Hour
)

// ReadLogout returns what a logout token says (OpenID Connect Back-Channel
// Logout 1.0 section 2.6). Anybody can send one: nothing of it is believed
// before its signature, and its keys cost the issuer a request in 30 s at most.
func (p *party) ReadLogout(ctx context.Context, token guest.Secret) (guest.Logout, error) {
	if !p.brand.sendsLogouts {
		return guest.Logout{}, untrusted("this provider sends no logout tokens")
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	m, err := p.metadata.value(ctx)
	if err != nil {
		return guest.Logout{}, err
	}
	signed, err := p.readSigned(ctx, string(token), logoutToken, m.algs)
	if errors.Is(err, errAskedJustNow) {
		// By a new key, perhaps: the issuer shall try again.
		return guest.Logout{}, unavailable("reading logout token: %w", errAskedJustNow)
	}
	if err != nil {
		return guest.Logout{}, err
	}
	logout, err := p.logout(signed)
	if err != nil {
		return guest.Logout{}, untrusted("checking logout token: %w", err)
	}
	return logout, nil
}

func (p *party) logout(s signed) (l guest.Logout, err error) {
	c := s.claims
	if err := p.checkIssuer(c); err != nil {
		return l, err
	}
	if _, err := p.audience(c); err != nil {
		return l, err
	}
	if err := p.checkKeyIssuer(s); err != nil {
		return l, err
	}
	if err := checkEvent(c); err != nil {
		return l, err
	}
	if l.IssuedAt, l.Expires, err = logoutTimes(c, p.env.Now()); err != nil {
		return l, err
	}
	if l.ID, err = textID(c, "jti"); err != nil {
		return l, err
	}
	l.Issuer = p.identityIssuer(c)
	l.Subject, l.SessionID, err = loggedOut(c)
	return l, err
}

// checkEvent tells a logout token from whatever else the issuer signs for us.
// An ID token has a nonce, which must not be here, not even as null.
func checkEvent(c provider.Claims) error {
	if !isLogout(c) {
		return errors.New("its events claim holds no logout event")
	}
	if _, ok := c["nonce"]; ok {
		return errors.New("it has a nonce, as ID tokens do")
	}
	return nil
}

// isLogout reports whether a token holds the event of a logout token.
func isLogout(c provider.Claims) bool {
	events, err := provider.ParseClaims(c["events"])
	if err != nil {
		return false
	}
	_, err = provider.ParseClaims(events[logoutEvent])
	return err == nil
}

// logoutTimes returns when the token was issued, and the moment from which on it
// is not believed any more.
func logoutTimes(c provider.Claims, now time.Time) (issued, until time.Time, err error) {
	if issued, err = checkBegin(c, now); err != nil {
		return issued, until, err
	}
	until = issued.Add(logoutFresh)
	if _, ok := c["exp"]; ok {
		if until, err = c.Time("exp"); err != nil {
			return issued, until, err
		}
		until = until.Add(skew)
		if oldest := issued.Add(logoutOldest); until.After(oldest) {
			until = oldest
		}
	}
	if !now.Before(until) {
		return issued, until, fmt.Errorf("it was issued %s ago and is over: is this server's clock right?", now.Sub(issued).Round(time.Second))
	}
	return issued, until, nil
}

// loggedOut returns the sub and the sid, one of which may be missing.
func loggedOut(c provider.Claims) (sub, sid string, err error) {
	_, hasSub := c["sub"]
	_, hasSid := c["sid"]
	if !hasSub && !hasSid {
		return "", "", errors.New("it has neither sub nor sid")
	}
	if hasSub {
		if sub, err = textID(c, "sub"); err != nil {
			return "", "", err
		}
	}
	if hasSid {
		sid, err = textID(c, "sid")
	}
	return sub, sid, err
}
