package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
)

// Ended is a session that was ended, with what it kept until then: for the
// provider to revoke. Once the transaction is durable, call Sessions.Forget with
// its Key.
type Ended struct {
	Session
	// Grant is nil where nothing was kept.
	Grant *Grant
}

// End ends a session: when it returns nil, the session never works again, not
// after a restart either, and its streams are being closed. Ending an ended or
// unknown one is no error.
func (s *Sessions) End(ctx context.Context, key Key) error {
	return s.EndWith(ctx, key, func(guest.Tx) error { return nil })
}

// EndWith is End with something else that is written in the same transaction: it
// waits for the disk once.
func (s *Sessions) EndWith(ctx context.Context, key Key, also func(guest.Tx) error) error {
	err := s.store.Update(ctx, func(tx guest.Tx) error {
		if _, err := s.end(tx, key); err != nil && !errors.Is(err, guest.ErrNotFound) {
			return err
		}
		return also(tx)
	})
	if err != nil {
		return fmt.Errorf("ending session: %w", err)
	}
	s.Forget(key)
	return nil
}

// EndMany ends sessions as End does, as many in each transaction as it holds.
func (s *Sessions) EndMany(ctx context.Context, keys []Key) error {
	for chunk := range slices.Chunk(keys, endChunk) {
		err := s.store.Update(ctx, func(tx guest.Tx) error {
			for _, key := range chunk {
				if _, err := s.end(tx, key); err != nil && !errors.Is(err, guest.ErrNotFound) {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("ending sessions: %w", err)
		}
		for _, key := range chunk {
			s.Forget(key)
		}
	}
	return nil
}

func (s *Sessions) end(tx guest.Tx, key Key) (*Session, error) {
	var session Session
	if err := readSession(tx, key, &session); err != nil {
		return nil, err
	}
	if !session.Ended.IsZero() {
		return &session, nil
	}
	session.Ended = s.now().UTC()
	for _, key := range append(session.lists(), key.grant()) {
		if err := tx.Delete(key); err != nil {
			return nil, err
		}
	}
	return &session, s.write(tx, &session)
}

// Stores limit a transaction's size: what ends in one are at most endChunk
// sessions, and once they kept endTokens bytes of tokens no more. Whoever has
// the tokens be revoked writes them down in the same transaction.
const (
	endChunk  = 256
	endTokens = 128 << 10
)

// EndAll ends every session of a user but the one to keep (zero: none is
// kept).
func (s *Sessions) EndAll(ctx context.Context, user identity.UserID, keep Key) error {
	for done := false; !done; {
		var ended []Ended
		err := s.store.Update(ctx, func(tx guest.Tx) (err error) {
			ended, done, err = s.EndUser(tx, user, keep)
			return err
		})
		if err != nil {
			return fmt.Errorf("ending sessions: %w", err)
		}
		for i := range ended {
			s.Forget(ended[i].Key)
		}
	}
	return nil
}

// EndUser ends up to 256 sessions of a user but the one to keep (zero: none is
// kept), fewer where they kept long tokens, and reports whether those were all.
// To be called, in one transaction after the other, until they are.
func (s *Sessions) EndUser(tx guest.Tx, user identity.UserID, keep Key) (ended []Ended, done bool, err error) {
	keys, err := listed(tx, ownKind.Key(string(user), ""), keep, endChunk)
	if err != nil {
		return nil, false, err
	}
	ended, all, err := s.endThese(tx, user, keys)
	return ended, all && len(keys) < endChunk, err
}

// EndIdentity ends the sessions of a user that came in by an identity, the key
// of an identity.Identity. It ends up to 256, fewer where they kept long tokens,
// since one transaction holds no more: where there are others, they are none as
// soon as the identity is no longer the user's, and sessions.ForgetUser was told.
func (s *Sessions) EndIdentity(tx guest.Tx, user identity.UserID, key []byte) ([]Ended, error) {
	keys, err := listed(tx, ownKind.Key(string(user), ""), Key{}, listMost)
	if err != nil {
		return nil, err
	}
	var theirs []Key
	for _, k := range keys {
		var session Session
		err := readSession(tx, k, &session)
		if err != nil && !errors.Is(err, guest.ErrNotFound) {
			return nil, err
		}
		if err == nil && bytes.Equal(session.Identity, key) && len(theirs) < endChunk {
			theirs = append(theirs, k)
		}
	}
	ended, _, err := s.endThese(tx, user, theirs)
	return ended, err
}

// endThese reports whether it came to the end of them.
func (s *Sessions) endThese(tx guest.Tx, user identity.UserID, keys []Key) (ended []Ended, all bool, err error) {
	kept := 0
	for _, key := range keys {
		if kept >= endTokens {
			return ended, false, nil
		}
		grant, err := s.grantOf(tx, key)
		if err != nil {
			return nil, false, err
		}
		session, err := s.end(tx, key)
		if err != nil && !errors.Is(err, guest.ErrNotFound) {
			return nil, false, err
		}
		if err == nil {
			ended = append(ended, Ended{Session: *session, Grant: grant})
		}
		if grant != nil {
			kept += len(grant.Access) + len(grant.Refresh)
		}
		// Also where the session itself is gone: else it would be listed for ever.
		if err := tx.Delete(ownKind.Key(string(user), string(key[:]))); err != nil {
			return nil, false, err
		}
	}
	return ended, true, nil
}

// listed are the session keys below prefix, up to most of them (0: all).
func listed(tx guest.Tx, prefix []byte, except Key, most int) ([]Key, error) {
	var keys []Key
	err := tx.Scan(prefix, nil, 0, func(key, _ []byte) bool {
		var k Key
		if copy(k[:], key[len(prefix):]) == len(k) && k != except {
			keys = append(keys, k)
		}
		return most == 0 || len(keys) < most
	})
	return keys, err
}
