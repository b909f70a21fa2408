package session

import (
	"errors"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
)

// Rotate puts a session under a new id, so that who learned the old one is out:
// the browser gets the ticket's cookie, and the old session ends. All else stays
// as it was, what it kept of the provider's included; only Created is at. Once tx
// is durable, call Forget with the old key.
//
// ErrNone means that the old session lives no more. So that this is noticed, call
// Rotate before whatever sets User.SessionsFrom in the same transaction, to the
// same instant.
func (s *Sessions) Rotate(tx guest.Tx, ticket Ticket, key Key, at time.Time) (*Session, error) {
	old, err := s.readLive(tx, key, at)
	if err != nil {
		return nil, err
	}
	grant, err := s.grantOf(tx, key)
	if err != nil {
		return nil, err
	}
	if old.Scope != ticket.scope || old.Keeps && grant == nil {
		return nil, ErrNone
	}
	fresh := *old
	fresh.Key, fresh.Handle = ticket.key, ticket.key.Handle()
	fresh.Created, fresh.Seen = at.UTC(), at.UTC()
	if _, err := s.end(tx, key); err != nil {
		return nil, err
	}
	if err := s.write(tx, &fresh); err != nil {
		return nil, err
	}
	if err := s.keepGrant(tx, &fresh, grant); err != nil {
		return nil, err
	}
	return &fresh, fresh.list(tx)
}

// Lives reports, in the transaction that acts on it, whether a session still
// does: what is at hand may have been ended a moment ago.
func (s *Sessions) Lives(tx guest.Tx, key Key, at time.Time) (bool, error) {
	_, err := s.readLive(tx, key, at)
	if errors.Is(err, ErrNone) {
		return false, nil
	}
	return err == nil, err
}

// readLive reads a session that lives, or ErrNone. A user who set SessionsFrom
// to at itself has done so in this transaction.
func (s *Sessions) readLive(tx guest.Tx, key Key, at time.Time) (*Session, error) {
	var session Session
	var user *identity.User
	err := readSession(tx, key, &session)
	if err == nil {
		user, err = identity.ReadUser(tx, session.User)
	}
	if errors.Is(err, guest.ErrNotFound) {
		return nil, ErrNone
	}
	if err != nil {
		return nil, err
	}
	if user.SessionsFrom.Equal(at) {
		user.SessionsFrom = time.Time{}
	}
	if s.refresh(&session); !session.livesAt(at) || !session.allowedBy(user) {
		return nil, ErrNone
	}
	return &session, nil
}
