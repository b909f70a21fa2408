// Package challenge has people prove that they read an address: one mail holds
// a code to type and a link to open, and spending one kills the other.
//
// A challenge belongs to the browser that asked for it, by a random id that
// only that browser has: nobody can spend or burn another's. What the store
// holds of it betrays neither code nor link, not even with the keys that lie in
// the same store: both take the id or the link to find. A challenge that is
// mailed to nobody, a phantom, takes the same steps, counts the same attempts,
// and never succeeds.
package challenge

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/limit"
	"github.com/caddy-login/caddy-login/module/seal"
)

// Errors, to be tested with errors.Is. They are the same for an address that
// somebody has and one that nobody has.
var (
	// ErrExpired: its time is over. So is that of a challenge that is not known,
	// or was begun at another site or for another purpose: telling these apart
	// would help who guesses.
	ErrExpired = errors.New("the code has expired")
	// ErrSpent: its code or its link was used before.
	ErrSpent = errors.New("the code was used before")
	// ErrCancelled: somebody who read the mail did not ask for it, or picked a
	// wrong number, or the browser that asked for it gave up.
	ErrCancelled = errors.New("the code was withdrawn")
	// ErrTooMany: the last attempt was wrong. The link is dead, too.
	ErrTooMany = errors.New("too many wrong codes")
	// ErrMalformed: what was typed can be no code of this challenge. It does not
	// count as an attempt.
	ErrMalformed = errors.New("not a code")
	// ErrTooSoon: the mail may not be sent again now.
	ErrTooSoon = errors.New("too soon to send the mail again")
	// ErrNetwork: too many mails were asked for from this network. One more may
	// be in RetryAfter.
	ErrNetwork = errors.New("too many mails were asked for from this network")
	// ErrBusy: too many mails were asked for by everybody together. One more may
	// be in RetryAfter.
	ErrBusy = errors.New("too many mails are asked for at present")
	// ErrElsewhere: the link was opened in a browser that may not spend it.
	ErrElsewhere = errors.New("the link belongs to another browser")
	// ErrPending: nobody has approved it yet.
	ErrPending = errors.New("nobody has approved it yet")
)

// Wrong is the error for a code that is not the right one.
type Wrong struct {
	// AttemptsLeft is 1 or more: after the last one it is ErrTooMany.
	AttemptsLeft int
}

func (w *Wrong) Error() string { return fmt.Sprintf("wrong code, %d attempts left", w.AttemptsLeft) }

// RetryAfter is what to tell whom ErrNetwork or ErrBusy turns away.
const RetryAfter = time.Minute

const (
	// maxAttempts are the codes that may be tried, however often they are mailed.
	maxAttempts = 5
	// skew is how far the clock may have gone back since a challenge began.
	skew = time.Minute

	maxReturn  = 1 << 10
	maxSubject = 256
	maxScope   = 256
	maxDevice  = 160
	maxPlace   = 80
)

// Purpose is what a proven address is good for. A code for one purpose is none
// for another.
type Purpose string

// The purposes.
const (
	Login  Purpose = "login"   // sign in, or up
	Link   Purpose = "link"    // connect an account at a provider
	Verify Purpose = "verify"  // prove what a provider only asserts
	Change Purpose = "change"  // add or change an address
	StepUp Purpose = "step_up" // be sure that it is still the same person
)

func (p Purpose) known() bool {
	switch p {
	case Login, Link, Verify, Change, StepUp:
		return true
	default:
		return false
	}
}

// CrossDevice is what a link does in a browser that did not ask for it. The
// zero value is ShowCode.
type CrossDevice string

const (
	// ShowCode shows the code, to be typed where it was asked for.
	ShowCode CrossDevice = "code"
	// Match has the person pick, out of three, the number that the first screen
	// shows; the right one lets that browser in.
	Match CrossDevice = "match"
	// Allow signs in where the link is opened. A stranger's link then signs its
	// reader in as the stranger, and a scanner that submits forms spends it. It
	// holds for Login; for anything else it is as ShowCode.
	Allow CrossDevice = "allow"
)

// Rules are what the operator decides. The zero value has the defaults.
type Rules struct {
	// Length is the number of digits, 6 to 10. Default: 6.
	Length int
	// Lifetime is how long code and link work, 1 minute to 1 hour. Default: 10
	// minutes.
	Lifetime time.Duration
	// NoLink leaves the link out.
	NoLink bool
	// CrossDevice is what the link does in another browser. Default: ShowCode.
	CrossDevice CrossDevice
}

// Validate says what is wrong with r, and the cure.
func (r Rules) Validate() error {
	r = r.WithDefaults()
	switch {
	case r.Length < 6 || r.Length > 10:
		return fmt.Errorf("codes of %d digits: use 6 to 10", r.Length)
	case r.Lifetime < time.Minute || r.Lifetime > time.Hour:
		return fmt.Errorf("codes that work for %s: use 1m to 1h", r.Lifetime)
	case r.CrossDevice != ShowCode && r.CrossDevice != Match && r.CrossDevice != Allow:
		return fmt.Errorf("unknown way %q with links on another device (ways: code, match, allow)", r.CrossDevice)
	default:
		return nil
	}
}

// WithDefaults fills in what the operator left open.
func (r Rules) WithDefaults() Rules {
	if r.Length == 0 {
		r.Length = 6
	}
	if r.Lifetime == 0 {
		r.Lifetime = 10 * time.Minute
	}
	if r.CrossDevice == "" {
		r.CrossDevice = ShowCode
	}
	return r
}

// Asker is who asked for the mail, as its reader is told. None of it is text
// that a stranger may choose freely: name the browser, do not quote it.
type Asker struct {
	// Device is the browser and its system; cut to 160 bytes.
	Device string `json:"device,omitempty"`
	// Place is where the network roughly is; cut to 80 bytes.
	Place string `json:"place,omitempty"`
	// At is when, by our clock.
	At time.Time `json:"at"`
}

// Ask is the wish for a mail.
type Ask struct {
	Purpose Purpose
	// Scope is the site. Elsewhere the challenge is none.
	Scope string
	Email identity.Email
	// Return is where the visitor wants to go, a clean relative address. One of
	// more than 1 KiB is cut to its path, or to "/".
	Return string
	// Subject comes back with the proof: the user it is for, or what is pending.
	// At most 256 bytes.
	Subject string
	// Asker's At is set by Begin.
	Asker Asker
	// Network is the client's address.
	Network string
	Rules   Rules
	// Familiar: this browser has signed in as the holder of this address before.
	// It has a budget of its own, so that a stranger can't lock the owner out.
	Familiar bool
	// KnownOnly comes back with the proof: somebody not known yet is not made a
	// user.
	KnownOnly bool
	// Phantom: nobody may have this mail. The address is unknown while signing
	// up is off, or its user disabled.
	Phantom bool
}

func (a *Ask) check() error {
	switch {
	case !a.Purpose.known():
		return fmt.Errorf("unknown purpose %q", a.Purpose)
	case a.Email == "":
		return identity.ErrEmail
	case a.Scope == "" || len(a.Scope) > maxScope:
		return fmt.Errorf("scope of %d bytes", len(a.Scope))
	case len(a.Subject) > maxSubject:
		return fmt.Errorf("subject of %d bytes", len(a.Subject))
	default:
		return a.Rules.Validate()
	}
}

// ID is what the asking browser has, and nobody else: whoever brings it may try
// codes. It does not open the mail.
type ID [16]byte

// Text is the id as a cookie may carry it, in 22 characters.
func (id ID) Text() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// String hides the id from fmt, logs and traces.
func (ID) String() string { return "[challenge]" }

// GoString hides the id from %#v.
func (ID) GoString() string { return "[challenge]" }

// ParseID reads what Text wrote. There is one spelling of each id.
func ParseID(s string) (id ID, ok bool) {
	raw, ok := decode(s, len(id))
	copy(id[:], raw)
	return id, ok
}

// Mail is what to write to whom.
type Mail struct {
	To   identity.Email
	Code guest.Secret
	// Link is the secret part of the link; empty where the rules leave it out.
	Link    guest.Secret
	Asker   Asker
	Expires time.Time
}

// Withheld is why a mail is not sent. It is for the operator: a visitor must not
// learn it.
type Withheld string

// The reasons. The empty one is none: the mail is to be sent.
const (
	Phantom   Withheld = "phantom"   // the caller's wish
	Throttled Withheld = "throttled" // the address had its mails of this hour or day
	Paused    Withheld = "paused"    // too many wrong codes for this account
)

// Begun is a challenge whose mail may have to be sent.
type Begun struct {
	ID      ID
	Waiting Waiting
	// Mail is nil where Withheld says why.
	Mail     *Mail
	Withheld Withheld
}

// Challenges begins and settles challenges. It is safe for concurrent use.
type Challenges struct {
	store guest.Store
	ring  *seal.Ring
	now   func() time.Time

	networks, customers limit.Limit // of strangers
	friends             limit.Limit // networks of familiar browsers
	strangers, familiar limit.Limit // everybody together
	sweeper             sweeper
}

// Open makes the Challenges of one store. There should be only one for each
// store in a process: what it remembers of networks would begin anew.
func Open(store guest.Store, ring *seal.Ring, now func() time.Time) *Challenges {
	return &Challenges{
		store: store, ring: ring, now: now,
		networks:  limit.Limit{Burst: 10, Every: time.Minute},
		customers: limit.Limit{Burst: 50, Every: 12 * time.Second},
		friends:   limit.Limit{Burst: 100, Every: 6 * time.Second},
		strangers: limit.Limit{Burst: 1000, Every: time.Second / 2},
		familiar:  limit.Limit{Burst: 1000, Every: time.Second / 2},
	}
}

// Begin makes a challenge. It is durable when Begin returns.
//
// ErrNetwork and ErrBusy are for everyone to see: they depend on nothing that
// is known of the address. An address that had its mails makes a phantom
// instead, as does one whose account is paused.
func (c *Challenges) Begin(ctx context.Context, a Ask) (*Begun, error) {
	if err := a.check(); err != nil {
		return nil, fmt.Errorf("beginning challenge: %w", err)
	}
	if err := c.admit(a.Network, a.Familiar); err != nil {
		return nil, fmt.Errorf("beginning challenge: %w", err)
	}
	id, secret := newID(), newSecret()
	s := c.draft(id, secret, a)
	var withheld Withheld
	err := c.store.Update(ctx, func(tx guest.Tx) (err error) {
		if withheld, err = c.charge(tx, s, a.Phantom); err != nil {
			return err
		}
		s.Phantom = withheld != ""
		return s.write(tx)
	})
	if err != nil {
		return nil, fmt.Errorf("beginning challenge: %w", err)
	}
	return s.begun(id, secret, withheld), nil
}

// admit counts a mail that is asked for, whether it will be sent or not. A
// familiar browser is bound by its account's budget alone: many of them share
// the one network of an office, and a flood of strangers must not turn them
// away.
func (c *Challenges) admit(network string, familiar bool) error {
	now := c.now()
	if familiar {
		if !c.friends.Allow(network, now) {
			return ErrNetwork
		}
		if !c.familiar.Allow("", now) {
			return ErrBusy
		}
		return nil
	}
	if !c.networks.Allow(network, now) || !c.mayCustomer(network, now) {
		return ErrNetwork
	}
	if !c.strangers.Allow("", now) {
		return ErrBusy
	}
	return nil
}

// mayCustomer counts what one customer of IPv6 asks for, who may have 65,536
// networks: a /48.
func (c *Challenges) mayCustomer(address string, now time.Time) bool {
	network := limit.Network(address)
	if !network.Addr().Is6() {
		return true
	}
	wide, err := network.Addr().Prefix(48)
	return err != nil || c.customers.Allow(wide.Addr().String(), now)
}

// charge counts a mail in the account's budget. It reads and writes the same
// whatever the outcome.
func (c *Challenges) charge(tx guest.Tx, s *stored, phantom bool) (Withheld, error) {
	now := c.now()
	b, err := readBudget(tx, s, now)
	if err != nil {
		return "", err
	}
	withheld := b.of(s.Familiar).send(now)
	if phantom {
		withheld = Phantom
	}
	return withheld, b.write(tx, now)
}

func (c *Challenges) draft(id ID, secret secret, a Ask) *stored {
	now, rules := c.now().UTC(), a.Rules.WithDefaults()
	s := &stored{
		handle: id.handle(), Purpose: a.Purpose, Scope: a.Scope, Email: a.Email,
		Return: []byte(shorten(a.Return)), Subject: a.Subject, KnownOnly: a.KnownOnly,
		Asker:  Asker{Device: cut(a.Asker.Device, maxDevice), Place: cut(a.Asker.Place, maxPlace), At: now.Truncate(time.Second)},
		Length: rules.Length, NoLink: rules.NoLink, CrossDevice: rules.CrossDevice,
		Familiar: a.Familiar, Begun: now, Sent: now, Expires: now.Add(rules.Lifetime),
	}
	hash := sha256.Sum256(secret[:])
	s.LinkHash = hash[:]
	s.Secret = c.ring.SealAtRest(string(s.key()), secret.masked(id))
	s.Tag = c.ring.Tag(tagPurpose, s.tagged(id, secret.code(s.Length)))
	return s
}

// shorten keeps an address to return to small.
func shorten(address string) string {
	if len(address) <= maxReturn {
		return address
	}
	path, _, _ := strings.Cut(address, "?")
	if len(path) > maxReturn {
		return "/"
	}
	return path
}

// cut makes one line of s, of at most n bytes.
func cut(s string, n int) string {
	s = strings.ToValidUTF8(s[:min(len(s), n)], "")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

func newID() (id ID) {
	rand.Read(id[:])
	return id
}
