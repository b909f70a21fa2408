// Package signin begins, resumes and spends attempts to sign in at a provider.
//
// An attempt lives in the visitor's browser, sealed in a cookie of its own, so
// that several tabs work and a visitor who only knocks leaves nothing behind
// here. Only spending it is written down: an attempt works once, under any
// concurrency, also across restarts.
package signin

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/record"
	"github.com/caddy-login/caddy-login/module/seal"
)

const (
	// Life is how long a visitor may stay at the provider.
	Life = 10 * time.Minute
	// skew is how far the clock may have gone back since an attempt began.
	skew = time.Minute

	// MaxPending is how many attempts one browser may have open.
	MaxPending = 5
)

// Room is how much the attempts of one browser weigh together at most, names and
// values. With the session's and our small cookies they stay under 2 KiB, so that
// Caddy's 16 KiB of header are the app's: the longer the base of all their names,
// the less there is.
func Room(base string) int { return min(1480, 1648-6*len(base)) }

// Errors of Resume and Spend, to be tested with errors.Is.
var (
	// ErrUnknown: the state is not ours, or too old, or was begun elsewhere.
	// Which one is not told: that would let an attacker test guesses.
	ErrUnknown = errors.New("no such attempt to sign in")
	// ErrNoCookie: the state is ours, but this browser carries no attempt of
	// ours at all: it blocks cookies, or the link was sent by somebody else.
	ErrNoCookie = errors.New("the browser brought no attempt to sign in")
	// ErrSpent: the attempt was used before.
	ErrSpent = errors.New("attempt to sign in was used before")
)

// Attempt is one attempt of one browser.
type Attempt struct {
	// Provider is the instance it was begun at; at no other may it end.
	Provider string
	// Return is where the visitor wanted to go: a clean relative address.
	Return string
	// SwitchAccount: the visitor asked for another account.
	SwitchAccount bool
	// For is what it was begun for, and User who was signed in then, where that
	// decides.
	For  Purpose
	User string
	// KnownOnly: somebody not known yet is not made a user.
	KnownOnly bool
	// ByAPI: an app of the site's began it, and will ask what became of it.
	ByAPI bool

	State, Nonce, Verifier string

	begun  time.Time
	secret [32]byte
	cookie string
}

// Purpose is what an attempt is for. The zero value is ToLogin.
type Purpose byte

// The purposes.
const (
	ToLogin Purpose = iota
	ToLink          // connect an account to User
	ToProve         // prove to be who holds an address, for what is pending
	Again           // prove to be User still
)

// AtProvider is the attempt as a provider sees it.
func (a *Attempt) AtProvider(redirectURI string) guest.Attempt {
	return guest.Attempt{
		RedirectURI: redirectURI, State: a.State, Nonce: a.Nonce, Verifier: a.Verifier,
		SwitchAccount: a.SwitchAccount, Reauthenticate: a.For == Again,
	}
}

// Cookie is a pending attempt as a browser carries it.
type Cookie struct{ Name, Value string }

// Attempts begins, resumes and spends. It is safe for concurrent use.
type Attempts struct {
	store guest.Store
	ring  *seal.Ring
	now   func() time.Time
}

// New makes Attempts that are sealed with ring and spent in store.
func New(store guest.Store, ring *seal.Ring, now func() time.Time) *Attempts {
	return &Attempts{store: store, ring: ring, now: now}
}

// Begin makes an attempt and the cookie to set for it. site is the origin that
// it must come back on: of sites that share a browser's cookies, below one
// domain or at several ports, each has providers of its own, and who runs one of
// them knows the state and the challenge that another of the same name must not
// take. base is the prefix of the cookie's name; pending are the attempts this
// browser has open: drop names those to delete, the oldest first, to stay within
// the bounds.
//
// An address to return to that does not fit into a cookie is cut to its path,
// or to "/".
func (a *Attempts) Begin(base, site string, attempt Attempt, pending []Cookie) (begun *Attempt, set Cookie, drop []string, err error) {
	attempt.begun = a.now().Truncate(time.Second)
	rand.Read(attempt.secret[:])
	a.derive(&attempt)
	attempt.cookie = cookieName(base, &attempt)
	sealed, err := a.seal(site, Room(base), &attempt)
	if err != nil {
		return nil, Cookie{}, nil, err
	}
	set = Cookie{Name: attempt.cookie, Value: sealed}
	return &attempt, set, surplus(Room(base), pending, set), nil
}

// seal makes the cookie's value, and Return shorter until it fits.
func (a *Attempts) seal(site string, room int, attempt *Attempt) (string, error) {
	for {
		sealed, err := a.ring.Seal(purpose(site), attempt.encode())
		if err != nil || len(sealed)+len(attempt.cookie) <= room {
			return sealed, err
		}
		if attempt.Return == "/" {
			return "", fmt.Errorf("sealing attempt: %d bytes are too much for a cookie", len(sealed))
		}
		path, _, hasQuery := strings.Cut(attempt.Return, "?")
		if !hasQuery {
			path = "/"
		}
		attempt.Return = path
	}
}

// surplus names what must go so that at most MaxPending attempts of at most
// room bytes remain. Names begin with the time: they sort by age.
func surplus(room int, pending []Cookie, set Cookie) (drop []string) {
	pending = slices.Clone(pending)
	slices.SortFunc(pending, func(a, b Cookie) int { return strings.Compare(b.Name, a.Name) })
	count, size := 1, len(set.Name)+len(set.Value)
	for _, c := range pending {
		count++
		size += len(c.Name) + len(c.Value)
		if count > MaxPending || size > room {
			drop = append(drop, c.Name)
		}
	}
	return drop
}

// Resume finds the attempt of a state among the browser's cookies, for what was
// begun at this site. It does not spend it. With ErrUnknown it may return the
// attempt, to be spent all the same.
func (a *Attempts) Resume(base, site, provider, state string, pending []Cookie) (*Attempt, error) {
	id, ours := a.identify(state)
	if !ours {
		return nil, ErrUnknown
	}
	for _, c := range pending[:min(len(pending), 2*MaxPending)] {
		attempt, err := a.open(site, c)
		if err != nil || c.Name != cookieName(base, attempt) || !hmac.Equal(attempt.id(), id) {
			continue
		}
		attempt.State = state
		return a.check(attempt, provider)
	}
	if len(pending) == 0 {
		return nil, ErrNoCookie
	}
	return nil, ErrUnknown
}

// Open reads a cookie of an attempt that may still be resumed, or returns
// ErrUnknown.
func (a *Attempts) Open(base, site string, c Cookie) (*Attempt, error) {
	attempt, err := a.open(site, c)
	if err != nil || c.Name != cookieName(base, attempt) {
		return nil, ErrUnknown
	}
	return a.check(attempt, attempt.Provider)
}

func (a *Attempts) check(attempt *Attempt, provider string) (*Attempt, error) {
	age := a.now().Sub(attempt.begun)
	if age > Life || age < -skew || attempt.Provider != provider {
		return attempt, ErrUnknown
	}
	return attempt, nil
}

// Ours reports whether we made this state, whoever brings it: cheap, and
// before anything is kept for it.
func (a *Attempts) Ours(state string) bool {
	_, ours := a.identify(state)
	return ours
}

// identify reads a state in its one spelling: the decoder skips line ends, which
// the length tells.
func (a *Attempts) identify(state string) (id []byte, ours bool) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(state)
	if err != nil || len(raw) != 32 || len(state) != base64.RawURLEncoding.EncodedLen(32) {
		return nil, false
	}
	return raw[:16], a.ring.Tagged("state", string(raw[:16]), raw[16:])
}

var kind = record.Kind{Name: "spent", Version: 1}

// Spend uses the attempt up: of any number of callers exactly one gets nil,
// the others ErrSpent. It is durable when it returns.
func (a *Attempts) Spend(ctx context.Context, attempt *Attempt) error {
	id := sha256.Sum256(attempt.secret[:])
	key := kind.Key(string(id[:16]))
	err := a.store.Update(ctx, func(tx guest.Tx) error {
		_, err := tx.Get(key)
		if err == nil {
			return ErrSpent
		}
		if !errors.Is(err, guest.ErrNotFound) {
			return err
		}
		return kind.Put(tx, key, struct{}{}, attempt.begun.Add(Life+2*skew))
	})
	if err != nil {
		return fmt.Errorf("spending attempt: %w", err)
	}
	return nil
}

// CookieOf is the name of the cookie that carries attempt, to be deleted once
// it is spent.
func (a *Attempt) CookieOf() string { return a.cookie }

// Expires is when it can't be resumed any more.
func (a *Attempt) Expires() time.Time { return a.begun.Add(Life) }

// derive makes state, nonce and verifier from the secret. The state is the
// only one that travels in the open; it carries a tag, so that what we did not
// make is told without looking anything up.
func (a *Attempts) derive(attempt *Attempt) {
	id := attempt.id()
	attempt.State = base64.RawURLEncoding.EncodeToString(append(id, a.ring.Tag("state", string(id))...))
	attempt.Nonce = base64.RawURLEncoding.EncodeToString(attempt.mac("nonce")[:24])
	attempt.Verifier = base64.RawURLEncoding.EncodeToString(attempt.mac("verifier"))
}

func (a *Attempt) id() []byte { return a.mac("state")[:16:16] }

func (a *Attempt) mac(what string) []byte {
	h := hmac.New(sha256.New, a.secret[:])
	h.Write([]byte(what))
	return h.Sum(nil)
}

func cookieName(base string, attempt *Attempt) string {
	id := sha256.Sum256(attempt.secret[:])
	return fmt.Sprintf("%s-%08x%s", base, uint32(attempt.begun.Unix()), hex.EncodeToString(id[16:20]))
}

func purpose(site string) string { return "attempt\x00" + site }

// encode is version, flags, purpose, begun, secret, and, each after its length,
// provider and user; the rest is where to return.
func (a *Attempt) encode() []byte {
	var flags byte
	for i, set := range []bool{a.SwitchAccount, a.KnownOnly, a.ByAPI} {
		if set {
			flags |= 1 << i
		}
	}
	raw := []byte{encoding, flags, byte(a.For)}
	raw = binary.BigEndian.AppendUint64(raw, uint64(a.begun.Unix()))
	raw = append(raw, a.secret[:]...)
	for _, text := range []string{a.Provider, a.User} {
		raw = append(raw, byte(len(text)))
		raw = append(raw, text...)
	}
	return append(raw, a.Return...)
}

// encoding is the version of encode: cookies of another one open nothing.
const encoding = 3

const fixed = 3 + 8 + 32

func (a *Attempts) open(site string, c Cookie) (*Attempt, error) {
	raw, err := a.ring.Open(purpose(site), c.Value)
	if err != nil {
		return nil, err
	}
	if len(raw) < fixed || raw[0] != encoding {
		return nil, ErrUnknown
	}
	attempt := &Attempt{
		SwitchAccount: raw[1]&1 != 0, KnownOnly: raw[1]&2 != 0, ByAPI: raw[1]&4 != 0, For: Purpose(raw[2]), cookie: c.Name,
	}
	attempt.begun = time.Unix(int64(binary.BigEndian.Uint64(raw[3:])), 0)
	copy(attempt.secret[:], raw[11:])
	provider, rest, ok := cutText(raw[fixed:])
	user, rest, alsoOK := cutText(rest)
	if !ok || !alsoOK {
		return nil, ErrUnknown
	}
	attempt.Provider, attempt.User, attempt.Return = provider, user, string(rest)
	a.derive(attempt)
	return attempt, nil
}

// cutText is a text after its length, and what follows.
func cutText(raw []byte) (text string, rest []byte, ok bool) {
	if len(raw) == 0 || len(raw) < 1+int(raw[0]) {
		return "", nil, false
	}
	n := 1 + int(raw[0])
	return string(raw[1:n]), raw[n:], true
}
