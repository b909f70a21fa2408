package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/record"
)

// Origin is what a provider calls a sign-in: by that it names, in a logout
// token, what ended. The zero value is a provider that sends none.
type Origin struct {
	// Issuer is the guest.Profile's.
	Issuer string `json:"issuer,omitempty"`
	// Subject and SessionID are the ID token's `sub` and `sid`.
	Subject   string `json:"sub,omitempty"`
	SessionID string `json:"sid,omitempty"` // may be empty
	// IssuedAt is its `iat`.
	IssuedAt time.Time `json:"iat,omitzero"`
}

// ErrLoggedOut means that the provider said that a session ended there before
// it began here.
var ErrLoggedOut = errors.New("the provider ended this session before it began here")

// ErrReplayed means that a logout token came before.
var ErrReplayed = errors.New("the logout token was used before")

var (
	// bySIDKind and bySubKind list the sessions of an Origin: sid/<hash>/<session
	// key>.
	bySIDKind = record.Kind{Name: "sid", Version: 1}
	bySubKind = record.Kind{Name: "sub", Version: 1}
	// goneKind says that an Origin ended at the provider: gone/<hash>.
	goneKind = record.Kind{Name: "gone", Version: 1}
	// usedKind says that a logout token was used: used/<hash>.
	usedKind = record.Kind{Name: "used", Version: 1}
)

// gone is the record of an end at the provider.
type gone struct {
	// At is when the provider ended it, by its own clock.
	At time.Time `json:"at"`
}

// goneFor is how long after an end at the provider a sign-in that began before
// it may still arrive: longer than any attempt lives.
const goneFor = time.Hour

// hash names an Origin's session, or its person, at one provider instance.
func (o *Origin) hash(provider string, session bool) string {
	if session {
		return record.Hash("sid", provider, o.Issuer, o.SessionID)
	}
	return record.Hash("sub", provider, o.Issuer, o.Subject)
}

// index are the keys under which a session is found by its Origin.
func (s *Session) index() (keys [][]byte) {
	if s.Origin.SessionID != "" {
		keys = append(keys, bySIDKind.Key(s.Origin.hash(s.Provider, true), string(s.Key[:])))
	}
	if s.Origin.Subject != "" {
		keys = append(keys, bySubKind.Key(s.Origin.hash(s.Provider, false), string(s.Key[:])))
	}
	return keys
}

// stillThere refuses a session that ended at the provider while it was about to
// begin here: a logout token may be faster than the visitor.
func stillThere(tx guest.Tx, s *Session) error {
	if s.Origin.SessionID != "" {
		_, err := wasEnded(tx, s.Origin.hash(s.Provider, true))
		if !errors.Is(err, guest.ErrNotFound) {
			return loggedOut(err)
		}
	}
	if s.Origin.Subject != "" {
		at, err := wasEnded(tx, s.Origin.hash(s.Provider, false))
		if errors.Is(err, guest.ErrNotFound) || err == nil && s.Origin.IssuedAt.After(at) {
			return nil
		}
		return loggedOut(err)
	}
	return nil
}

func loggedOut(err error) error {
	if err != nil {
		return err
	}
	return ErrLoggedOut
}

func wasEnded(tx guest.Tx, hash string) (time.Time, error) {
	var g gone
	err := goneKind.Get(tx, goneKind.Key(hash), &g)
	return g.At, err
}

// Logout ends what a logout token of the provider instance names, and nothing
// twice: a token that was used before is ErrReplayed. It returns the sessions
// that it ended, also with an error: what they were is then over, and the
// token works again for the rest.
func (s *Sessions) Logout(ctx context.Context, provider string, l guest.Logout) (ended []*Session, err error) {
	for done := false; !done; {
		var chunk []*Session
		err := s.store.Update(ctx, func(tx guest.Tx) (err error) {
			chunk, done, err = s.logout(tx, provider, l)
			return err
		})
		if err != nil {
			return ended, fmt.Errorf("ending sessions of the provider's: %w", err)
		}
		for _, session := range chunk {
			s.Forget(session.Key)
		}
		ended = append(ended, chunk...)
	}
	return ended, nil
}

// logout ends a chunk of sessions. Those about to begin are ended first, by
// the record that they meet, and the token is spent last: whoever is
// interrupted in between may come again with it.
func (s *Sessions) logout(tx guest.Tx, provider string, l guest.Logout) (ended []*Session, done bool, err error) {
	used := usedKind.Key(record.Hash(provider, l.Issuer, l.ID))
	if err := usedKind.Get(tx, used, &struct{}{}); !errors.Is(err, guest.ErrNotFound) {
		if err == nil {
			err = ErrReplayed
		}
		return nil, false, err
	}
	origin := Origin{Issuer: l.Issuer, Subject: l.Subject, SessionID: l.SessionID}
	hash, listed := origin.hash(provider, false), bySubKind
	if l.SessionID != "" {
		hash, listed = origin.hash(provider, true), bySIDKind
	}
	if err := goneKind.Put(tx, goneKind.Key(hash), gone{At: l.IssuedAt.UTC()}, s.now().Add(goneFor)); err != nil {
		return nil, false, err
	}
	ended, done, err = s.endListed(tx, listed.Key(hash, ""))
	if err != nil || !done {
		return ended, false, err
	}
	return ended, true, usedKind.Put(tx, used, struct{}{}, l.Expires)
}

// endListed ends up to endChunk sessions whose keys are listed below prefix,
// and reports whether those were all.
func (s *Sessions) endListed(tx guest.Tx, prefix []byte) (ended []*Session, done bool, err error) {
	keys, err := listed(tx, prefix, Key{})
	if err != nil {
		return nil, false, err
	}
	for _, key := range keys {
		session, err := s.end(tx, key)
		if err != nil && !errors.Is(err, guest.ErrNotFound) {
			return nil, false, err
		}
		if err == nil {
			ended = append(ended, session)
		}
		// Also where the session itself is gone: else it would be listed for ever.
		if err := tx.Delete(append(prefix[:len(prefix):len(prefix)], key[:]...)); err != nil {
			return nil, false, err
		}
	}
	return ended, len(keys) < endChunk, nil
}
