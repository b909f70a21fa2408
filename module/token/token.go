// Package token signs in what is no browser. A session has a refresh token in
// place of its cookie, and with that its holder gets access tokens, one after
// the other, each good for ten minutes.
//
// It is a session as any other: it is listed with the others, and ends by the
// same things, at once. Its access tokens are then worth nothing, however long
// they would have lived.
package token

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/record"
	"github.com/caddy-login/caddy-login/module/seal"
	"github.com/caddy-login/caddy-login/module/session"
)

// ErrInvalid is returned for whatever is no token that is good here: forged,
// another site's, expired, or of a session that ended. Telling them apart would
// help who guesses.
var ErrInvalid = errors.New("the token is not good here, or not any more")

// Tokens issues tokens and reads them. It is safe for concurrent use.
type Tokens struct {
	store    guest.Store
	ring     *seal.Ring
	sessions *session.Sessions
	now      func() time.Time
	cache    cache
}

// Open makes the Tokens of one store. There should be only one for each store in
// a process: another would have to check each signature, too.
func Open(store guest.Store, ring *seal.Ring, sessions *session.Sessions, now func() time.Time) *Tokens {
	t := &Tokens{store: store, ring: ring, sessions: sessions, now: now}
	t.cache.init()
	return t
}

// Ticket is the way into a session that is about to begin. It is made ahead of
// the transaction, which may run more than once.
type Ticket struct {
	// inner has a cookie that leaves this package by no way.
	inner  session.Ticket
	scope  string
	secret secret
}

type secret [32]byte

func newSecret() (s secret) {
	rand.Read(s[:])
	return s
}

// family is the record of a session's refresh tokens: they are one family, of
// which only the youngest is good.
type family struct {
	// Current is the SHA-256 of the secret in the token that is good.
	Current []byte `json:"current"`
	// Issued is when that token was.
	Issued time.Time `json:"issued"`
}

var familyKind = record.Kind{Name: "refresh", Version: 1}

func familyKey(k session.Key) []byte { return familyKind.Key(string(k[:])) }

// Begun is a session and the refresh token that is its secret. Access tokens for
// it come of Access.
type Begun struct {
	Session *session.Session
	Refresh guest.Secret
}

// Issue makes a ticket for a session on a scope: a host, or a domain after a
// dot.
func (t *Tokens) Issue(scope string) (Ticket, error) {
	inner, err := t.sessions.Issue(scope)
	return Ticket{inner: inner, scope: scope, secret: newSecret()}, err
}

// Start writes a new session in tx, as session.Sessions.Start does, with the
// same errors. A session that n.Replaces is for the caller to forget.
func (t *Tokens) Start(tx guest.Tx, ticket Ticket, n session.New) (Begun, error) {
	begun, err := t.sessions.Start(tx, ticket.inner, n)
	if err != nil {
		return Begun{}, err
	}
	return t.found(tx, ticket, begun)
}

// Move puts a live session under a new id and begins a new family, as
// session.Sessions.Rotate does, with the same errors: where an account was
// connected, or a factor changed. The old tokens are worth nothing then. Once tx
// is durable, call Sessions.Forget with the old key.
func (t *Tokens) Move(tx guest.Tx, ticket Ticket, key session.Key, at time.Time) (Begun, error) {
	moved, err := t.sessions.Rotate(tx, ticket.inner, key, at)
	if err != nil {
		return Begun{}, err
	}
	return t.found(tx, ticket, moved)
}

// found begins a family.
func (t *Tokens) found(tx guest.Tx, ticket Ticket, s *session.Session) (Begun, error) {
	refresh, err := t.seal(ticket.scope, s.Key, ticket.secret)
	if err != nil {
		return Begun{}, err
	}
	return Begun{Session: s, Refresh: refresh}, putFamily(tx, s, ticket.secret, s.Created)
}

func putFamily(tx guest.Tx, s *session.Session, current secret, at time.Time) error {
	digest := sha256.Sum256(current[:])
	return familyKind.Put(tx, familyKey(s.Key), family{Current: digest[:], Issued: at.UTC()}, s.Expires)
}

// purpose binds a refresh token to its scope: carried to another site it does
// not open.
func purpose(scope string) string { return "refresh\x00" + scope }

// seal makes a refresh token: who gets one learns nothing of the session's key,
// and who invents one is found out without the store.
func (t *Tokens) seal(scope string, key session.Key, s secret) (guest.Secret, error) {
	sealed, err := t.ring.Seal(purpose(scope), append(key[:], s[:]...))
	if err != nil {
		return "", fmt.Errorf("making refresh token: %w", err)
	}
	return guest.Secret(sealed), nil
}
