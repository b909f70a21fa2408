package session

import (
	"context"
	"fmt"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

// What follows is for sessions that have another secret in place of a cookie:
// their ticket's cookie is given to nobody. Whoever holds the secret is not this
// package's matter.

// Find finds the live session of a key, or ErrNone. Another error means that the
// store failed.
//
// It must not be called for a session whose cookie somebody has: the session
// would be at hand twice, and Forget would find it once.
func (s *Sessions) Find(ctx context.Context, key Key) (*AtHand, error) {
	if held := s.cache.find(hash(key)); held != nil {
		if s.Again(held) {
			return held, nil
		}
		// The store may know of a later use.
		s.cache.forget(key)
	}
	epoch, now := s.cache.epoch.Load(), s.now()
	live, err := s.fetch(ctx, key)
	if err != nil {
		return nil, err
	}
	if !live.livesAt(now) {
		return nil, ErrNone
	}
	return s.hold(live, hash(key), epoch, now)
}

// Again reports whether a session that was found before is still at hand, and
// lives. If so, it was just used.
func (s *Sessions) Again(held *AtHand) bool {
	now := s.now()
	if s.cache.find(held.hash) != held || !held.livesAt(now) {
		return false
	}
	s.touch(held, now)
	return true
}

// Use reads a session that lives, and writes down that it was just used, or
// returns ErrNone.
func (s *Sessions) Use(tx guest.Tx, key Key, at time.Time) (*Session, error) {
	session, err := s.readLive(tx, key, at)
	if err != nil {
		return nil, err
	}
	session.Seen = at.UTC()
	return session, s.write(tx, session)
}

// EndOne is End in a transaction of the caller's, who then calls Forget.
func (s *Sessions) EndOne(tx guest.Tx, key Key) (Ended, error) {
	grant, err := s.grantOf(tx, key)
	if err != nil {
		return Ended{}, err
	}
	session, err := s.end(tx, key)
	if err != nil {
		return Ended{}, fmt.Errorf("ending session: %w", err)
	}
	return Ended{Session: *session, Grant: grant}, nil
}
