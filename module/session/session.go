// Package session knows who is signed in: it starts sessions, reads, renews
// and ends them, and keeps the ones in use at hand.
//
// A session is a random id in a sealed cookie. The store keeps only the id's
// hash. A session that ended stays in the store as ended until it would have
// expired: the absence of a record is never what makes it invalid.
package session

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/record"
	"github.com/caddy-login/caddy-login/module/seal"
)

// Key is the SHA-256 of a session id: what the store knows it by.
type Key [sha256.Size]byte

// Session is the record of one sign-in.
type Session struct {
	Key Key `json:"-"`
	// Handle is the public name: for lists and logs, of no use to get in. It is
	// Key.Handle.
	Handle string `json:"-"`
	// Scope is the host, or the domain after a dot, whose cookie this is.
	// Elsewhere the session is none.
	Scope string `json:"scope"`

	// User is who signed in, Identity the key of the account they used,
	// Provider the instance it is at.
	User     identity.UserID `json:"user"`
	Identity []byte          `json:"identity"` // an identity.IdentityKey
	Provider string          `json:"provider"` // the operator's name of it
	// Origin is what the provider calls this sign-in.
	Origin Origin `json:"origin,omitzero"`
	// Keeps says that tokens of the provider's are kept beside.
	Keeps bool `json:"keeps,omitempty"`
	// AuthMethods are the provider's `amr`.
	AuthMethods []string `json:"amr,omitempty"`

	// AuthTime is when the person last proved who they are.
	AuthTime time.Time `json:"auth_time"`
	// Created is when the session began.
	Created time.Time `json:"created"`
	// Seen is when it was last used, to the minute.
	Seen time.Time `json:"seen"`
	// Idle is how long it lives unused, in nanoseconds.
	Idle time.Duration `json:"idle"`
	// Expires is when it ends however much it is used.
	Expires time.Time `json:"expires"`
	// Ended is when it was ended, zero while it lives.
	Ended time.Time `json:"ended,omitzero"`
	// Device is the browser's own description, cut, for the account page.
	Device string `json:"device,omitempty"`
	// Place is roughly where it began: a network, never a whole address.
	Place string `json:"place,omitempty"`
}

// Live is a session that lives, with its person.
type Live struct {
	Session
	Person identity.Person
	// Grant is what tokens of the provider's are kept; nil: none.
	Grant *Grant
}

// Ticket is the way into a session that is about to begin: a random id, and
// the cookie that holds it. It is made ahead of the transaction, which others
// wait for.
type Ticket struct {
	// Cookie is the session cookie's value: good once the session is durable.
	Cookie string

	key   Key
	scope string
}

// New is what begins a session.
type New struct {
	Person         identity.Person
	Provider       string
	AuthMethods    []string
	AuthTime       time.Time
	Lifetime, Idle time.Duration
	Device         string
	// Place is roughly where the browser is.
	Place string
	// Origin is what the provider calls it, where it may send logout tokens.
	Origin Origin
	// Grant is what to keep of what the provider gave; nil: nothing.
	Grant *Grant
	// Replaces is the session this browser had until now; it ends in the same
	// transaction. Zero: none.
	Replaces Key
	// At is when it begins: the very instant of what else happens to the user in
	// the same transaction. Zero: now.
	At time.Time
}

// ErrNone is returned for whatever is no live session: no cookie, a forged,
// foreign, expired or ended one. Telling them apart would help who guesses.
var ErrNone = errors.New("not signed in")

// touchEvery is how often a session's last use is written down at most.
const touchEvery = time.Minute

var (
	kind = record.Kind{Name: "session", Version: 1}
	// ownKind lists a user's sessions: own/<user>/<session key>.
	ownKind = record.Kind{Name: "own", Version: 1}
)

// Handle is the public name of a session: 16 characters, by which ByHandle finds
// it. They are the first 80 bits of the hash of a random id, and lead neither to
// the id nor to the rest of the hash.
func (k Key) Handle() string { return handles.EncodeToString(k[:handleSize]) }

const handleSize = 10

var handles = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func (k Key) record() []byte { return kind.Key(string(k[:])) }

func (s *Session) own() []byte { return ownKind.Key(string(s.User), string(s.Key[:])) }

// Sessions starts, reads and ends sessions. It is safe for concurrent use.
type Sessions struct {
	store   guest.Store
	ring    *seal.Ring
	now     func() time.Time
	cache   cache
	touched touched
	streams streams
}

// Open makes the Sessions of one store. There must be only one for each store
// in a process: what one ends, another would still remember.
func Open(store guest.Store, ring *seal.Ring, now func() time.Time) *Sessions {
	s := &Sessions{store: store, ring: ring, now: now}
	s.cache.init()
	s.streams.init()
	return s
}

// Issue makes a ticket for a session on a scope: a host, or a domain after a
// dot.
func (s *Sessions) Issue(scope string) (Ticket, error) {
	id := make([]byte, 32)
	rand.Read(id)
	cookie, err := s.ring.Seal(purpose(scope), id)
	return Ticket{Cookie: cookie, key: sha256.Sum256(id), scope: scope}, err
}

// Start writes a new session in tx, and ends the one it replaces. Once tx is
// durable, call Forget with n.Replaces. ErrLoggedOut means that the provider
// ended it in the meantime.
func (s *Sessions) Start(tx guest.Tx, ticket Ticket, n New) (*Session, error) {
	if n.Replaces != (Key{}) {
		if _, err := s.end(tx, n.Replaces); err != nil && !errors.Is(err, guest.ErrNotFound) {
			return nil, err
		}
	}
	session := s.make(ticket, n)
	if err := stillThere(tx, session); err != nil {
		return nil, err
	}
	if err := s.write(tx, session); err != nil {
		return nil, err
	}
	if err := s.keepGrant(tx, session, n.Grant); err != nil {
		return nil, err
	}
	return session, session.list(tx)
}

// list has the session be found by its user, and by what the provider calls
// it.
func (s *Session) list(tx guest.Tx) error {
	for _, key := range s.lists() {
		if err := ownKind.Put(tx, key, struct{}{}, s.Expires); err != nil {
			return err
		}
	}
	return nil
}

func (s *Session) lists() [][]byte { return append(s.index(), s.own()) }

func (s *Sessions) make(ticket Ticket, n New) *Session {
	now := n.At.UTC()
	if n.At.IsZero() {
		now = s.now().UTC()
	}
	return &Session{
		Key: ticket.key, Handle: ticket.key.Handle(), Scope: ticket.scope,
		User: n.Person.User.ID, Identity: []byte(n.Person.Identity.Key()),
		Provider: n.Provider, Origin: n.Origin, AuthMethods: n.AuthMethods,
		Keeps:    n.Grant != nil && n.Grant.hasTokens(),
		AuthTime: n.AuthTime.UTC(), Created: now, Seen: now,
		Idle: n.Idle, Expires: now.Add(n.Lifetime), Device: n.Device, Place: n.Place,
	}
}

// write keeps the record as long as the session may live at most: also an
// ended one, so that its end outlives it.
func (s *Sessions) write(tx guest.Tx, session *Session) error {
	return kind.Put(tx, session.Key.record(), session, session.Expires)
}

// purpose binds a sealed cookie to its scope: carried to another site it does
// not open.
func purpose(scope string) string { return "session\x00" + scope }

// Read finds the live session of a cookie on a scope, or ErrNone. Another
// error means that the store failed: nobody is then signed in or out.
//
// A session in use is found without the store, in half a microsecond. The caller
// says what time it is: asking takes a tenth of that.
func (s *Sessions) Read(ctx context.Context, scope, cookie string, now time.Time) (*AtHand, error) {
	if cookie == "" {
		return nil, ErrNone
	}
	if held := s.cache.find(cookieHash(cookie)); held != nil {
		if !held.isOn(scope) || !held.livesAt(now) {
			return nil, ErrNone
		}
		s.touch(held, now)
		return held, nil
	}
	return s.load(ctx, scope, cookie, now)
}

// Made reports whether a cookie is of our making for a scope, whatever became of
// its session.
func (s *Sessions) Made(scope, cookie string) bool {
	_, err := s.ring.Open(purpose(scope), cookie)
	return err == nil
}

func (s *Sessions) load(ctx context.Context, scope, cookie string, now time.Time) (*AtHand, error) {
	id, err := s.ring.Open(purpose(scope), cookie)
	if err != nil {
		return nil, ErrNone
	}
	// Before the store is read: whatever ends from here on is noticed below.
	epoch := s.cache.epoch.Load()
	live, err := s.fetch(ctx, sha256.Sum256(id))
	if err != nil {
		return nil, err
	}
	if live.Scope != scope || !live.livesAt(now) {
		return nil, ErrNone
	}
	return s.hold(live, cookieHash(cookie), epoch, now)
}

// hold puts a session that was just read and used at hand, under the name h.
func (s *Sessions) hold(live *Live, h hash, epoch uint64, now time.Time) (*AtHand, error) {
	held, err := newAtHand(live)
	if err != nil {
		return nil, fmt.Errorf("keeping session at hand: %w", err)
	}
	s.touch(held, now)
	held.hash = h
	return s.cache.keep(held, epoch), nil
}

// fetch reads a session and its person, or ErrNone where the person has no such
// session any more. It does not judge whether the session itself lives.
func (s *Sessions) fetch(ctx context.Context, key Key) (*Live, error) {
	var session Session
	var person *identity.Person
	var grant *Grant
	err := s.store.View(ctx, func(tx guest.Tx) (err error) {
		if err := readSession(tx, key, &session); err != nil {
			return err
		}
		if session.Keeps && session.Ended.IsZero() {
			if grant, err = s.readGrant(tx, key); err != nil {
				return err
			}
		}
		person, err = identity.ReadPerson(tx, session.User, identity.IdentityKey(session.Identity))
		return err
	})
	switch {
	case errors.Is(err, guest.ErrNotFound), errors.Is(err, seal.ErrSeal):
		return nil, ErrNone
	case err != nil:
		return nil, err
	case !session.allowedBy(&person.User):
		return nil, ErrNone
	}
	return &Live{Session: session, Person: *person, Grant: grant}, nil
}

func readSession(tx guest.Tx, key Key, session *Session) error {
	if err := kind.Get(tx, key.record(), session); err != nil {
		return err
	}
	session.Key, session.Handle = key, key.Handle()
	return nil
}

// allowedBy reports whether the user lets the session be: they are active, and
// have ended nothing that is as old.
func (s *Session) allowedBy(user *identity.User) bool {
	return user.State == identity.Active && !s.Created.Before(user.SessionsFrom)
}

// livesAt reports whether the session itself lives, last used when Seen says.
func (s *Session) livesAt(now time.Time) bool {
	return s.begins().Before(now) && s.Ended.IsZero() && now.Before(s.Expires) && now.Before(s.Seen.Add(s.Idle))
}

// ahead is how far from now a session may have begun: the clock may have been set
// back since.
const ahead = 25 * time.Hour

// begins is from when the session counts. What began much later than now did so by
// a clock that was wrong, and would last years after it was put right.
func (s *Session) begins() time.Time { return s.Created.Add(-ahead) }

// Forget is the one door through which what is at hand of a session goes: it
// must be called after every transaction that ended or changed it. The next
// request reads the store, and open streams are closed where the session no
// longer lives.
func (s *Sessions) Forget(key Key) {
	if key == (Key{}) {
		return
	}
	s.cache.forget(key)
	s.streams.end(key)
}

// ForgetUser does so for every session of a user, after the user changed: the
// streams of those are closed that the change ended, or that rules may judge
// otherwise since. A stream was let through once, and lasts for hours: whoever
// was taken out of a group would go on listening to what only that group may
// hear. Who still may open it opens it again.
func (s *Sessions) ForgetUser(ctx context.Context, user identity.UserID) error {
	var keys []Key
	err := s.store.View(ctx, func(tx guest.Tx) (err error) {
		keys, err = listed(tx, ownKind.Key(string(user), ""), Key{}, 0)
		return err
	})
	if err != nil {
		return fmt.Errorf("listing sessions: %w", err)
	}
	for _, key := range keys {
		s.cache.forget(key)
		if held := s.streams.of(key); slices.ContainsFunc(held, func(one *AtHand) bool { return !s.maySee(ctx, one) }) {
			s.streams.end(key)
		}
	}
	return nil
}

// ForgetEverything is Forget for all sessions, after the store was replaced. All
// streams are closed: those whose session lives begin anew.
func (s *Sessions) ForgetEverything() {
	s.touched.take()
	s.cache.forgetAll()
	s.streams.endAll()
}

// Count is how many sessions are at hand: those used of late.
func (s *Sessions) Count() int { return s.cache.len() }

// Close writes down what is still to be written.
func (s *Sessions) Close(ctx context.Context) error {
	s.streams.endAll()
	return s.Flush(ctx)
}
