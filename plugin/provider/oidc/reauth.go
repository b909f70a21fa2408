package oidc

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// provenWithin is how long ago a person may have proven who they are, where they
// are to do it anew. It is sent as max_age, for the auth_time that comes of it
// (OpenID Connect Core 3.1.2.1). prompt=login does the asking; max_age=0 would
// do the same, if it did not send people round in circles at issuers that
// compare it with the clock once more after the sign-in. With this there is time
// to agree to a consent, too.
const provenWithin = 5 * time.Minute

// askAnew asks for an auth_time, which tells whether the person was asked: the
// browser could have dropped the prompt on its way.
func (p *party) askAnew(query url.Values) {
	if p.brand.datesSignIns {
		query.Set("max_age", strconv.Itoa(int(provenWithin/time.Second)))
	}
}

// checkAnew refuses an ID token of a person who did not prove anew who they are
// (OpenID Connect Core 3.1.3.7, item 12). One without auth_time passes where the
// issuer does not list that claim: it knows no way to tell.
func (p *party) checkAnew(c provider.Claims, m *metadata, a guest.Attempt) error {
	if !a.Reauthenticate || !p.brand.datesSignIns {
		return nil
	}
	if !c.Has("auth_time") {
		if m.datesSignIns {
			return errors.New("it lacks the auth_time that was asked for")
		}
		return nil
	}
	at, err := c.Time("auth_time")
	if err != nil {
		return err
	}
	if age := p.env.Now().Sub(at); age > provenWithin+skew {
		return fmt.Errorf("the person was to sign in anew there, and did so %s ago (auth_time)", age.Round(time.Second))
	}
	return nil
}

// listsAuthTime reports whether ID tokens say when a person signed in.
func listsAuthTime(doc provider.Claims) bool {
	claims, ok := doc.Texts("claims_supported")
	return ok && slices.Contains(claims, "auth_time")
}

// authTime is when the person proved who they are; zero where the issuer does
// not tell. A time to come would pass for fresh until it has come.
func (p *party) authTime(token provider.Claims) time.Time {
	at, err := token.Time("auth_time")
	if now := p.env.Now(); err == nil && at.After(now) {
		return now
	}
	return at
}
