package session

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/record"
	"github.com/caddy-login/caddy-login/module/seal"
)

// Grant is what a provider gave at a sign-in and the session keeps, sealed in
// the store, until it ends. The zero value is nothing.
type Grant struct {
	// Client is our name at the provider, which alone may use the tokens.
	Client string `json:"client,omitempty"`

	// Issuer, Subject and TokenSubject are those of the guest.Profile.
	Issuer       string `json:"issuer"`                  // whose account it is
	Subject      string `json:"subject"`                 // and which
	TokenSubject string `json:"token_subject,omitempty"` // and what tokens call it

	// IDToken is the hint for a sign-out at the provider.
	IDToken guest.Secret `json:"id_token,omitempty"`

	// Access is the access token, Refresh what gets another one.
	Access  guest.Secret `json:"access,omitempty"`
	Refresh guest.Secret `json:"refresh,omitempty"` // may be empty
	// Expires is when Access does; zero where the provider did not say.
	Expires time.Time `json:"expires,omitzero"`

	// Proven is when the provider last vouched for the account: at the sign-in,
	// or when the tokens were last renewed.
	Proven time.Time `json:"proven"`
}

// Kept is the grant as a guest.Renewer takes it.
func (g *Grant) Kept() guest.Kept {
	return guest.Kept{
		Tokens: guest.Tokens{Access: g.Access, Refresh: g.Refresh, Expires: g.Expires},
		Issuer: g.Issuer, Subject: g.Subject, TokenSubject: g.TokenSubject,
	}
}

// Renewed is the grant with new tokens.
func (g Grant) Renewed(t guest.Tokens, at time.Time) *Grant {
	g.Access, g.Refresh, g.Expires, g.Proven = t.Access, t.Refresh, t.Expires, at.UTC()
	return &g
}

// Traded is the grant with tokens that prove nothing of the account.
func (g Grant) Traded(t guest.Tokens) *Grant {
	if t.Access != "" {
		g.Access, g.Expires = t.Access, t.Expires
	}
	g.Refresh = cmp.Or(t.Refresh, g.Refresh)
	return &g
}

// Slim is the grant without its access token. When that would have expired
// stays: then another one is got.
func (g Grant) Slim() *Grant {
	g.Access = ""
	return &g
}

// hasTokens reports whether there is more than the hint.
func (g *Grant) hasTokens() bool { return g.Access != "" || g.Refresh != "" }

// storedGrant is the record of a Grant.
type storedGrant struct {
	// Sealed is the Grant as JSON, sealed for this session.
	Sealed []byte `json:"sealed"`
}

var grantKind = record.Kind{Name: "grant", Version: 1}

func (k Key) grant() []byte { return grantKind.Key(string(k[:])) }

// ErrTooLong means that a provider's tokens are longer than a store takes.
var ErrTooLong = errors.New("the provider's tokens are longer than 40 KiB together")

// maxGrant bounds a Grant as JSON, in bytes: sealed and encoded it must fit
// into a store's 64 KiB.
const maxGrant = 40 << 10

// keepGrant writes a session's grant; nil or empty: none.
func (s *Sessions) keepGrant(tx guest.Tx, session *Session, g *Grant) error {
	if g == nil {
		return nil
	}
	plain, err := json.Marshal(g)
	if err != nil {
		return fmt.Errorf("encoding grant: %w", err)
	}
	if len(plain) > maxGrant {
		return fmt.Errorf("keeping grant: %w", ErrTooLong)
	}
	sealed := storedGrant{Sealed: s.ring.SealAtRest(string(session.Key.grant()), plain)}
	return grantKind.Put(tx, session.Key.grant(), sealed, session.Expires)
}

func (s *Sessions) readGrant(tx guest.Tx, key Key) (*Grant, error) {
	var stored storedGrant
	if err := grantKind.Get(tx, key.grant(), &stored); err != nil {
		return nil, err
	}
	plain, err := s.ring.OpenAtRest(string(key.grant()), stored.Sealed)
	if err != nil {
		return nil, fmt.Errorf("reading grant: %w", err)
	}
	g := new(Grant)
	if err := json.Unmarshal(plain, g); err != nil {
		return nil, fmt.Errorf("reading grant: %w", errors.New("malformed"))
	}
	return g, nil
}

// grantOf is what a session keeps; nil where that is nothing, or does not open.
func (s *Sessions) grantOf(tx guest.Tx, key Key) (*Grant, error) {
	g, err := s.readGrant(tx, key)
	if errors.Is(err, guest.ErrNotFound) || errors.Is(err, seal.ErrSeal) {
		return nil, nil
	}
	return g, err
}

// Grant returns what a live session keeps, or ErrNone where the session lives
// no more or keeps nothing.
func (s *Sessions) Grant(ctx context.Context, key Key) (g *Grant, err error) {
	err = s.store.View(ctx, func(tx guest.Tx) error {
		var session Session
		if err := readSession(tx, key, &session); err != nil {
			return err
		}
		if !session.Ended.IsZero() || !s.now().Before(session.Expires) {
			return guest.ErrNotFound
		}
		g, err = s.readGrant(tx, key)
		return err
	})
	if errors.Is(err, guest.ErrNotFound) {
		return nil, ErrNone
	}
	return g, err
}

// Renew replaces a session's grant by a newer one, unless the session has
// ended: then it returns ErrNone and keeps nothing. The next request has it.
func (s *Sessions) Renew(ctx context.Context, key Key, g *Grant) error {
	err := s.store.Update(ctx, func(tx guest.Tx) error {
		var session Session
		if err := readSession(tx, key, &session); err != nil {
			return err
		}
		if !session.Ended.IsZero() {
			return guest.ErrNotFound
		}
		return s.keepGrant(tx, &session, g)
	})
	switch {
	case errors.Is(err, guest.ErrNotFound):
		return ErrNone
	case err != nil:
		return fmt.Errorf("renewing grant: %w", err)
	}
	s.cache.forget(key)
	return nil
}
