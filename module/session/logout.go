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
	// noSIDKind lists, in the same way, those of a person's sessions for which the
	// provider told no sid.
	noSIDKind = record.Kind{Name: "nosid", Version: 1}
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

// The names of what may end at one provider instance: a session, all of a
// person's, and those of a person's that have no name of their own.
func (o *Origin) bySID(provider string) string {
	return record.Hash("sid", provider, o.Issuer, o.SessionID)
}

func (o *Origin) bySub(provider string) string {
	return record.Hash("sub", provider, o.Issuer, o.Subject)
}

func (o *Origin) noSID(provider string) string {
	return record.Hash("nosid", provider, o.Issuer, o.Subject)
}

// index are the keys under which a session is found by its Origin.
func (s *Session) index() (keys [][]byte) {
	o, key := &s.Origin, string(s.Key[:])
	if o.Subject != "" {
		keys = append(keys, bySubKind.Key(o.bySub(s.Provider), key))
	}
	switch {
	case o.SessionID != "":
		return append(keys, bySIDKind.Key(o.bySID(s.Provider), key))
	case o.Subject != "":
		return append(keys, noSIDKind.Key(o.noSID(s.Provider), key))
	default:
		return keys
	}
}

// stillThere refuses a session that ended at the provider while it was about to
// begin here: a logout token may be faster than the visitor.
func stillThere(tx guest.Tx, s *Session) error {
	o := &s.Origin
	names := []string{o.bySub(s.Provider), o.noSID(s.Provider)}
	if o.SessionID != "" {
		names[1] = o.bySID(s.Provider)
	}
	if *o == (Origin{}) {
		return nil
	}
	for _, name := range names {
		var g gone
		err := goneKind.Get(tx, goneKind.Key(name), &g)
		if err == nil && !o.IssuedAt.After(g.At) {
			return ErrLoggedOut
		}
		if err != nil && !errors.Is(err, guest.ErrNotFound) {
			return err
		}
	}
	return nil
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
	for _, prefix := range ends(provider, l) {
		if err := s.markGone(tx, prefix.name, l.IssuedAt.UTC()); err != nil {
			return nil, false, err
		}
		chunk, all, err := s.endListed(tx, prefix.kind.Key(prefix.name, ""))
		ended = append(ended, chunk...)
		if err != nil || !all {
			return ended, false, err
		}
	}
	return ended, true, usedKind.Put(tx, used, struct{}{}, l.Expires)
}

// markGone keeps the latest end: tokens may come in another order than they
// were made in.
func (s *Sessions) markGone(tx guest.Tx, name string, at time.Time) error {
	var g gone
	err := goneKind.Get(tx, goneKind.Key(name), &g)
	if err != nil && !errors.Is(err, guest.ErrNotFound) {
		return err
	}
	if g.At.Before(at) {
		g.At = at
	}
	return goneKind.Put(tx, goneKind.Key(name), g, s.now().Add(goneFor))
}

// end is a name under which sessions end.
type end struct {
	kind record.Kind
	name string
}

// ends is what a logout token ends: the session it names, and with it those of
// the person for which the provider told no name, since one of them may be it;
// or all of the person's.
func ends(provider string, l guest.Logout) []end {
	o := Origin{Issuer: l.Issuer, Subject: l.Subject, SessionID: l.SessionID}
	switch {
	case l.SessionID == "":
		return []end{{bySubKind, o.bySub(provider)}}
	case l.Subject == "":
		return []end{{bySIDKind, o.bySID(provider)}}
	default:
		return []end{{bySIDKind, o.bySID(provider)}, {noSIDKind, o.noSID(provider)}}
	}
}

// endListed ends up to endChunk sessions whose keys are listed below prefix,
// and reports whether those were all.
func (s *Sessions) endListed(tx guest.Tx, prefix []byte) (ended []*Session, done bool, err error) {
	keys, err := listed(tx, prefix, Key{}, endChunk)
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
