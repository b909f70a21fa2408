package challenge

import (
	"errors"
	"slices"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/record"
)

var kind = record.Kind{Name: "challenge", Version: 1}

// State is what became of a challenge. The zero value is Pending.
type State string

// The states.
const (
	Pending   State = ""          // nothing yet
	Approved  State = "approved"  // the right number was picked: Collect it
	Spent     State = "spent"     // used
	Cancelled State = "cancelled" // withdrawn
	Exhausted State = "exhausted" // too many wrong codes
	Expired   State = "expired"   // too late
)

// err is why a challenge in this state can't be used, or nil where it can.
func (s State) err() error {
	switch s {
	case Pending, Approved:
		return nil
	case Spent:
		return ErrSpent
	case Cancelled:
		return ErrCancelled
	case Exhausted:
		return ErrTooMany
	default:
		return ErrExpired
	}
}

// stored is the record of a challenge. That it was spent, cancelled or used up
// is written, never told by its absence.
type stored struct {
	handle handle

	// Purpose, Scope, Email and Subject are those of Ask.
	Purpose Purpose        `json:"purpose"`
	Scope   string         `json:"scope"`             // the site
	Email   identity.Email `json:"email"`             // canonical
	Subject string         `json:"subject,omitempty"` // the caller's
	// Return is Ask's. As bytes: escaping could make it six times as long.
	Return []byte `json:"return"`
	// KnownOnly is Ask's.
	KnownOnly bool `json:"known_only,omitempty"`
	// Asker is who asked.
	Asker Asker `json:"asker"`

	// Length, NoLink and CrossDevice are the Rules.
	Length      int         `json:"length"`
	NoLink      bool        `json:"no_link,omitempty"` // the mail has a code alone
	CrossDevice CrossDevice `json:"cross_device"`      // the link's, elsewhere

	// Familiar chooses the budget.
	Familiar bool `json:"familiar"`
	// Phantom never succeeds.
	Phantom bool `json:"phantom"`

	// Tag authenticates the code, with our key.
	Tag []byte `json:"tag"`
	// LinkHash is the SHA-256 of the link's secret.
	LinkHash []byte `json:"link_hash"`
	// Secret is the link's secret, from which code and number come: masked by
	// the id, then sealed with our key.
	Secret []byte `json:"secret"`

	// State is Pending, Approved, Spent or Cancelled.
	State State `json:"state,omitempty"`
	// Attempts is how many codes were tried.
	Attempts int `json:"attempts"`
	// Resent is how often the mail was sent again.
	Resent int `json:"resent"`
	// Begun is when it was made.
	Begun time.Time `json:"begun"`
	// Sent is when the mail was last asked for.
	Sent time.Time `json:"sent"`
	// Expires is when it ends.
	Expires time.Time `json:"expires"`
}

func (h handle) key() []byte { return kind.Key(string(h[:])) }

func (s *stored) key() []byte { return s.handle.key() }

// tagged is what the Tag of a code authenticates. It holds the id, which is not
// in the store: with the store and its keys alone, codes can't be tried out.
func (s *stored) tagged(id ID, code string) string {
	return record.Hash(string(id[:]), string(s.Purpose), s.Scope, string(s.Email), code)
}

// read reads a challenge. One that is not there has expired.
func read(tx guest.Tx, h handle) (*stored, error) {
	s := &stored{handle: h}
	err := kind.Get(tx, h.key(), s)
	if errors.Is(err, guest.ErrNotFound) {
		return nil, ErrExpired
	}
	if err == nil && !s.isPossible() {
		return nil, errDamaged
	}
	return s, err
}

var errDamaged = errors.New("the record of a challenge is damaged")

// isPossible reports whether we could have written it: what it counts is used as
// an index, and as a length.
func (s *stored) isPossible() bool {
	return s.Length >= 6 && s.Length <= 10 && s.Attempts >= 0 && s.Resent >= 0
}

func (s *stored) write(tx guest.Tx) error {
	return kind.Put(tx, s.key(), s, s.Expires.Add(linger))
}

// stateAt is what became of it by now. A clock that went back does not make it
// live longer.
func (s *stored) stateAt(now time.Time) State {
	switch {
	case s.State == Spent || s.State == Cancelled:
		return s.State
	case !now.Before(s.Expires) || now.Before(s.Begun.Add(-skew)):
		return Expired
	case s.Attempts >= maxAttempts:
		return Exhausted
	default:
		return s.State
	}
}

// elsewhere is what the link does in another browser.
func (s *stored) elsewhere() CrossDevice {
	if s.CrossDevice == Allow && s.Purpose != Login {
		return ShowCode
	}
	return s.CrossDevice
}

// waits are the times before the mail may be sent again.
var waits = []time.Duration{30 * time.Second, 60 * time.Second, 120 * time.Second, 300 * time.Second}

// worthwhile is what must be left of a challenge for sending its mail again.
const worthwhile = time.Minute

// resendAt is when the mail may be sent again; zero: no more.
func (s *stored) resendAt() time.Time {
	if s.Resent >= len(waits) {
		return time.Time{}
	}
	at := s.Sent.Add(waits[s.Resent])
	if at.After(s.Expires.Add(-worthwhile)) {
		return time.Time{}
	}
	return at
}

// Waiting is what the page shows where the code is to be typed.
type Waiting struct {
	State   State
	Purpose Purpose
	Email   identity.Email
	Return  string
	Subject string
	// Length is how many digits the code has.
	Length int
	// Link: the mail holds one.
	Link bool
	// Number is what to pick where the link is opened, 10 to 99; 0: none. It
	// belongs on this page alone, never into the mail.
	Number int
	// Expires is when code and link stop to work. Sending again moves nothing.
	Expires time.Time
	// ResendAt is when the mail may be sent again; zero: no more.
	ResendAt time.Time
	// AttemptsLeft is 0 to 5.
	AttemptsLeft int
}

func (s *stored) waiting(secret secret, now time.Time) Waiting {
	w := Waiting{
		State: s.stateAt(now), Purpose: s.Purpose, Email: s.Email, Return: string(s.Return), Subject: s.Subject,
		Length: s.Length, Link: !s.NoLink, Expires: s.Expires, ResendAt: s.resendAt(),
		AttemptsLeft: maxAttempts - s.Attempts,
	}
	if w.Link && s.elsewhere() == Match {
		w.Number = secret.number()
	}
	return w
}

func (s *stored) begun(id ID, secret secret, withheld Withheld) *Begun {
	b := &Begun{ID: id, Waiting: s.waiting(secret, s.Sent), Withheld: withheld}
	if withheld != "" {
		return b
	}
	b.Mail = &Mail{To: s.Email, Code: guest.Secret(secret.code(s.Length)), Asker: s.Asker, Expires: s.Expires}
	if !s.NoLink {
		b.Mail.Link = link{s.handle, secret}.text()
	}
	return b
}

// Proof is a proven address and what it was proven for.
type Proof struct {
	Purpose Purpose
	Scope   string
	Email   identity.Email
	Return  string
	Subject string
	By      Method
	// KnownOnly is Ask's.
	KnownOnly bool
	// Here: in the browser that asked. It is false only where Allow let a link
	// be opened in another.
	Here bool
}

// Method is how an address was proven.
type Method string

// The methods.
const (
	ByCode   Method = "code"
	ByLink   Method = "link"
	ByNumber Method = "number"
)

func (s *stored) proof(by Method, here bool) Proof {
	return Proof{
		Purpose: s.Purpose, Scope: s.Scope, Email: s.Email, Return: string(s.Return), Subject: s.Subject,
		By: by, KnownOnly: s.KnownOnly, Here: here,
	}
}

// hasAsked reports whether one of these is the id of the browser that asked.
func (h handle) hasAsked(ids []ID) bool {
	return slices.ContainsFunc(ids, func(id ID) bool { return id.handle() == h })
}
