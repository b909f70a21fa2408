package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
)

const (
	// listMost is how many records one list looks at.
	listMost = 4096
	// listLength is how long a list gets.
	listLength = 1000
)

// ByHandle finds a session by its public name, also an ended one, or
// guest.ErrNotFound. Where two have the name, neither is found: the other one
// would be shown, or ended, in its stead.
func (s *Sessions) ByHandle(ctx context.Context, handle string) (*Session, error) {
	begin, err := handles.DecodeString(handle)
	if err != nil || len(begin) != handleSize || handles.EncodeToString(begin) != handle {
		return nil, fmt.Errorf("reading the name of a session: %w", guest.ErrNotFound)
	}
	var session Session
	err = s.store.View(ctx, func(tx guest.Tx) error {
		key, err := theOne(tx, kind.Key(string(begin)))
		if err != nil {
			return err
		}
		return readSession(tx, key, &session)
	})
	if err != nil {
		return nil, fmt.Errorf("finding a session by its name: %w", err)
	}
	s.refresh(&session)
	return &session, nil
}

// theOne is the key of the only session below prefix.
func theOne(tx guest.Tx, prefix []byte) (one Key, err error) {
	found := 0
	err = tx.Scan(prefix, nil, 2, func(key, _ []byte) bool {
		found++
		one, _ = keyOf(key)
		return true
	})
	if err == nil && found != 1 {
		err = guest.ErrNotFound
	}
	return one, err
}

// keyOf is the key of a session's record.
func keyOf(record []byte) (key Key, ok bool) {
	return key, copy(key[:], record[len(kind.Name)+1:]) == len(key)
}

// OfUser lists the live sessions of a user, the one used last first: at most
// 1,000, out of the first 4,096.
func (s *Sessions) OfUser(ctx context.Context, user identity.UserID) ([]Session, error) {
	var live []Session
	err := s.store.View(ctx, func(tx guest.Tx) error {
		found, err := s.readListed(tx, ownKind.Key(string(user), ""))
		if err != nil {
			return err
		}
		live, err = allowed(tx, found)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing sessions of a user: %w", err)
	}
	slices.SortFunc(live, func(a, b Session) int {
		return cmp.Or(b.Seen.Compare(a.Seen), b.Created.Compare(a.Created))
	})
	return live[:min(len(live), listLength)], nil
}

// readListed are those of the listed sessions that live by themselves.
func (s *Sessions) readListed(tx guest.Tx, prefix []byte) (found []Session, err error) {
	keys, err := listed(tx, prefix, Key{}, listMost)
	if err != nil {
		return nil, err
	}
	now := s.now()
	for _, key := range keys {
		var session Session
		err := readSession(tx, key, &session)
		if err != nil && !errors.Is(err, guest.ErrNotFound) {
			return nil, err
		}
		if s.refresh(&session); err == nil && session.livesAt(now) {
			found = append(found, session)
		}
	}
	return found, nil
}

// List lists live sessions of everybody, in the order of their keys: the first
// ones after a key (zero: from the beginning), at most limit (1 to 1,000). It
// returns the key to go on after, zero at the end. It looks at no more than
// 4,096 records at once: a short list, or none, is not the end.
func (s *Sessions) List(ctx context.Context, after Key, limit int) (live []Session, next Key, err error) {
	limit = min(max(limit, 1), listLength)
	err = s.store.View(ctx, func(tx guest.Tx) error {
		found, last, err := s.scan(tx, after, limit)
		if err != nil {
			return err
		}
		next = last
		live, err = allowed(tx, found)
		return err
	})
	if err != nil {
		return nil, Key{}, fmt.Errorf("listing sessions: %w", err)
	}
	return live, next, nil
}

// scan finds sessions that live by themselves. last is the key it came to, zero
// where it came to the end.
func (s *Sessions) scan(tx guest.Tx, after Key, limit int) (found []Session, last Key, err error) {
	now, looked := s.now(), 0
	from := append(after.record(), 0) // the key after it
	if after == (Key{}) {
		from = nil
	}
	scanned := tx.Scan(kind.Key(""), from, listMost, func(key, value []byte) bool {
		var session Session
		looked++
		if err = kind.Decode(value, &session); err != nil {
			return false
		}
		last, _ = keyOf(key)
		session.Key, session.Handle = last, last.Handle()
		if s.refresh(&session); session.livesAt(now) {
			found = append(found, session)
		}
		return len(found) < limit
	})
	if looked < listMost && len(found) < limit {
		last = Key{}
	}
	return found, last, cmp.Or(scanned, err)
}

// allowed are the sessions that their users let be.
func allowed(tx guest.Tx, sessions []Session) (live []Session, err error) {
	users := make(map[identity.UserID]*identity.User)
	for _, session := range sessions {
		user, known := users[session.User]
		if !known {
			user, err = identity.ReadUser(tx, session.User)
			if errors.Is(err, guest.ErrNotFound) {
				user, err = new(identity.User), nil // of no state
			}
			if err != nil {
				return nil, err
			}
			users[session.User] = user
		}
		if session.allowedBy(user) {
			live = append(live, session)
		}
	}
	return live, nil
}

// refresh takes in what is not written yet: that the session was just used.
func (s *Sessions) refresh(session *Session) {
	for _, at := range []time.Time{s.touched.at(session.Key), s.cache.seen(session.Key)} {
		if at.After(session.Seen) {
			session.Seen = at.UTC()
		}
	}
}
