// Package pending keeps what waits, in one browser, for a word or a proof of
// its visitor: a sign-in that must be confirmed first, an address that a code is
// to prove.
//
// Each belongs to the browser that has its id, lives ten minutes, and works
// once. Nobody but who has proven an account at a provider, or is signed in, can
// make one. What it holds is sealed for its own record.
package pending

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/record"
	"github.com/caddy-login/caddy-login/module/seal"
)

// Life is how long a visitor has.
const Life = 10 * time.Minute

// ErrGone is returned for what is not there, too old, used, or another site's.
// Which one is not told.
var ErrGone = errors.New("nothing is pending")

// Kind is what waits.
type Kind string

// The kinds.
const (
	Arrival Kind = "arrival" // somebody whom a provider has sent
	Mailed  Kind = "mailed"  // somebody who has proven an address, and must say more
	Address Kind = "address" // an address to be added to a user's
	Again   Kind = "again"   // a user who is to prove that it is still them
	Native  Kind = "native"  // an app on a device, which a user has let in by a browser
)

// Pending is one of them.
type Pending struct {
	// Kind is what waits.
	Kind Kind `json:"kind"`
	// Scope is what its cookie is bound to, Site the host that asked: of sites
	// that share a cookie each has rules of its own. Elsewhere there is nothing.
	Scope string `json:"scope"`
	Site  string `json:"site"` // with its port, if it shows
	// Begun is when, Return where to in the end.
	Begun  time.Time `json:"begun"`
	Return string    `json:"return"` // a clean relative address

	// Provider, Profile and Intent are those of an Arrival.
	Provider string          `json:"provider,omitempty"` // the instance
	Profile  guest.Profile   `json:"profile,omitzero"`   // with its secrets
	Intent   identity.Intent `json:"intent,omitempty"`   // empty: to sign in
	// KnownOnly: somebody not known yet is not made a user.
	KnownOnly bool `json:"known_only,omitempty"`
	// Attempt is the cookie that says what became of it, empty: none does.
	Attempt string `json:"attempt,omitempty"`
	// Said is what the visitor has said and proven since.
	Said identity.Said `json:"said,omitzero"`

	// Email is the address of the others.
	Email identity.Email `json:"email,omitempty"`
	// User is who was signed in when it began.
	User identity.UserID `json:"user,omitempty"`

	// Binding is the code challenge of a Native (RFC 7636), Session the
	// key of the browser's session.
	Binding string `json:"binding,omitempty"`
	Session []byte `json:"session,omitempty"` // a session.Key

	// Then is the text of the id of what the browser waited for before; empty:
	// nothing.
	Then string `json:"then,omitempty"`

	// Challenge is the text of the id of the code that is waited for.
	Challenge string `json:"challenge,omitempty"`
}

// ID is what the browser has.
type ID [16]byte

// NewID makes one by chance.
func NewID() (id ID) {
	rand.Read(id[:])
	return id
}

// Text is the id as a cookie carries it.
func (id ID) Text() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// String hides the id from fmt, logs and traces.
func (ID) String() string { return "[pending]" }

// GoString hides the id from %#v.
func (ID) GoString() string { return "[pending]" }

// ParseID reads what Text wrote. There is one spelling of each id.
func ParseID(s string) (id ID, ok bool) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(raw) != len(id) || ID(raw).Text() != s {
		return id, false // the decoder skips line ends
	}
	return ID(raw), true
}

// Mark names it among those of one browser, and opens nothing: for a form's
// field, and for the subject of a code.
func (id ID) Mark() string {
	return base64.RawURLEncoding.EncodeToString([]byte(record.Hash("pending", string(id[:])))[:12])
}

// stored is the record.
type stored struct {
	// Sealed is the Pending; empty once it is spent.
	Sealed []byte `json:"sealed,omitempty"`
	// Expires is when it is over.
	Expires time.Time `json:"expires"`
}

var kind = record.Kind{Name: "pending", Version: 1}

// linger is how much longer a store keeps the record than it is good: what was
// spent stays spent when the clock goes back.
const linger = 2 * time.Minute

func (id ID) key() []byte {
	hash := sha256.Sum256(id[:])
	return kind.Key(string(hash[:]))
}

// Keep writes p, anew or again. An id that was spent stays so.
func Keep(tx guest.Tx, ring *seal.Ring, id ID, p *Pending) error {
	var was stored
	err := kind.Get(tx, id.key(), &was)
	if err != nil && !errors.Is(err, guest.ErrNotFound) {
		return err
	}
	if err == nil && was.Sealed == nil {
		return ErrGone
	}
	plain, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encoding what is pending: %w", err)
	}
	key := id.key()
	s := stored{Sealed: ring.SealAtRest(string(key), plain), Expires: p.Begun.Add(Life)}
	return kind.Put(tx, key, s, s.Expires.Add(linger))
}

// Read returns what waits under id at a site, or ErrGone.
func Read(tx guest.Tx, ring *seal.Ring, id ID, scope string, now time.Time) (*Pending, error) {
	var s stored
	key := id.key()
	if err := kind.Get(tx, key, &s); err != nil {
		if errors.Is(err, guest.ErrNotFound) {
			return nil, ErrGone
		}
		return nil, err
	}
	if s.Sealed == nil || !now.Before(s.Expires) {
		return nil, ErrGone
	}
	plain, err := ring.OpenAtRest(string(key), s.Sealed)
	if err != nil {
		return nil, ErrGone
	}
	var p Pending
	if err := json.Unmarshal(plain, &p); err != nil {
		return nil, fmt.Errorf("decoding what is pending: %w", err)
	}
	if p.Scope != scope || now.Before(p.Begun.Add(-time.Minute)) {
		return nil, ErrGone
	}
	return &p, nil
}

// Spend uses it up, in the transaction that does what it waited for: of any
// number of callers exactly one gets nil, the others ErrGone.
func Spend(tx guest.Tx, id ID) error {
	var s stored
	err := kind.Get(tx, id.key(), &s)
	if errors.Is(err, guest.ErrNotFound) || err == nil && s.Sealed == nil {
		return ErrGone
	}
	if err != nil {
		return err
	}
	s.Sealed = nil
	return kind.Put(tx, id.key(), s, s.Expires.Add(linger))
}
