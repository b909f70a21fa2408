package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/record"
)

// Undo is how a person's ways in were before a change to their addresses. Its
// secret is mailed to those who had them: whoever took an account over can't
// lock its owner out for good.
type Undo struct {
	// User is whose they are.
	User UserID `json:"user"`
	// What was changed, and the address it was about: for the page that asks.
	What  string `json:"what"`  // a word of the activity
	Email Email  `json:"email"` // canonical
	// Addresses and Primary are what was there before.
	Addresses []Address `json:"addresses"`
	Primary   Email     `json:"primary,omitempty"` // empty: there was none
	// At is when it was changed, Expires until when that can be taken back.
	At      time.Time `json:"at"`      // by our clock
	Expires time.Time `json:"expires"` // Undoable later
	// Spent is set once it was.
	Spent bool `json:"spent,omitempty"`
}

// Undoable is how long a change of address can be taken back.
const Undoable = 7 * 24 * time.Hour

// maxUndos is how many changes of a user's can be taken back at a time. Whoever
// makes more could else make taking one back too much for one transaction.
const maxUndos = 64

// undoKind is undo/<user>/<SHA-256 of the secret>.
var undoKind = record.Kind{Name: "undo", Version: 1}

// undoKey is where a secret, which names the user ahead of a dot, is found.
func undoKey(secret guest.Secret) []byte {
	user, _, _ := strings.Cut(string(secret), ".")
	hash := sha256.Sum256([]byte(secret))
	return undoKind.Key(user[:min(len(user), maxUserID)], string(hash[:]))
}

// NewUndoSecret makes the secret of a user's Undo: 256 bits of chance.
func NewUndoSecret(user UserID) guest.Secret {
	random := make([]byte, 32)
	rand.Read(random)
	return guest.Secret(string(user) + "." + base64.RawURLEncoding.EncodeToString(random))
}

// eraseUndos removes what could be taken back of a user's.
func eraseUndos(tx guest.Tx, user UserID) error {
	names, err := listed(tx, undoKind, user, maxListed)
	for _, name := range names {
		err = errors.Join(err, tx.Delete(undoKind.Key(string(user), name)))
	}
	return err
}

// Before takes down how a user's ways in are, ahead of a change. It returns
// ErrTooMany where as many changes as may be can be taken back already: no other
// is to be made until the oldest of them can't be any more.
func Before(tx guest.Tx, id UserID, what string, e Email, at time.Time) (*Undo, error) {
	user, err := existing(tx, id)
	if err != nil {
		return nil, err
	}
	if err := mayUndoMore(tx, id, at); err != nil {
		return nil, err
	}
	addresses, err := Addresses(tx, id)
	return &Undo{
		User: id, What: what, Email: e, Addresses: addresses, Primary: user.Email,
		At: at.UTC(), Expires: at.UTC().Add(Undoable),
	}, err
}

// mayUndoMore refuses what would be one change too many. Those that are spent
// count only where there are more than can be listed.
func mayUndoMore(tx guest.Tx, id UserID, at time.Time) error {
	kept, err := undos(tx, id)
	if err != nil {
		return err
	}
	live := 0
	for _, u := range kept {
		if !u.Spent && at.Before(u.Expires) {
			live++
		}
	}
	if live >= maxUndos || len(kept) >= maxListed {
		return ErrTooMany
	}
	return nil
}

// undos are a user's, spent ones too, by the names of their records.
func undos(tx guest.Tx, id UserID) (map[string]*Undo, error) {
	names, err := listed(tx, undoKind, id, maxListed)
	if err != nil {
		return nil, err
	}
	kept := map[string]*Undo{}
	for _, name := range names {
		kept[name] = new(Undo)
		if err := undoKind.Get(tx, undoKind.Key(string(id), name), kept[name]); err != nil {
			return nil, err
		}
	}
	return kept, nil
}

// Trustees are those of a user's addresses that may take a change back: the ones
// that were proven long enough ago that whoever put them there had time to be
// found out, or else the oldest. An address that came with a theft gets no link,
// also when its removal is what is told.
func Trustees(addresses []Address, at time.Time) (trusted []Email) {
	var oldest *Address
	for i := range addresses {
		a := &addresses[i]
		if !a.IsProven() {
			continue
		}
		if oldest == nil || a.Proven.Before(oldest.Proven) {
			oldest = a
		}
		if at.Sub(a.Proven) >= Undoable {
			trusted = append(trusted, a.Email)
		}
	}
	if len(trusted) == 0 && oldest != nil {
		trusted = []Email{oldest.Email}
	}
	return trusted
}

// Keep has Revert find u by a secret that NewUndoSecret made for its user.
func (u *Undo) Keep(tx guest.Tx, secret guest.Secret) error {
	return undoKind.Put(tx, undoKey(secret), u, u.Expires)
}

// ReadUndo finds what a secret takes back, or ErrOutdated.
func ReadUndo(tx guest.Tx, secret guest.Secret, now time.Time) (*Undo, error) {
	var u Undo
	err := undoKind.Get(tx, undoKey(secret), &u)
	if errors.Is(err, guest.ErrNotFound) || err == nil && (u.Spent || !now.Before(u.Expires)) {
		return nil, ErrOutdated
	}
	if err != nil {
		return nil, err
	}
	_, err = inState(tx, u.User, Active, Deleting)
	if errors.Is(err, ErrState) || errors.Is(err, guest.ErrNotFound) {
		return nil, ErrOutdated
	}
	return &u, err
}

// Revert puts a user's addresses back to what they were before a change, and
// takes from them the addresses and accounts that came since: whoever made the
// change may have made others. Every session ends. It works once, and what was
// changed after it can't be taken back any more: those secrets were mailed to
// addresses that came since, too, and would bring them back.
//
// An address that was removed and is somebody else's by now stays theirs. The
// accounts that it returns are no more; what they granted is to be revoked.
func Revert(tx guest.Tx, secret guest.Secret, at time.Time) (*Undo, []Change, error) {
	u, err := ReadUndo(tx, secret, at)
	if err != nil {
		return nil, nil, err
	}
	user, err := existing(tx, u.User)
	if err != nil {
		return nil, nil, err
	}
	taken, err := u.takeAccounts(tx)
	if err != nil {
		return nil, nil, err
	}
	if err := errors.Join(u.takeAddresses(tx), u.giveAddresses(tx)); err != nil {
		return nil, nil, fmt.Errorf("putting addresses back: %w", err)
	}
	if user.Email, err = u.primaryNow(tx); err != nil {
		return nil, nil, err
	}
	user.endSessions(at)
	return u, taken, errors.Join(WriteUser(tx, user), u.spend(tx))
}

// primaryNow is the primary address as it was, or, where that is somebody else's
// by now, the oldest proven one.
func (u *Undo) primaryNow(tx guest.Tx) (Email, error) {
	own, err := readAddresses(tx, u.User, u.names())
	if err != nil {
		return "", err
	}
	slices.SortFunc(own, func(a, b Address) int { return a.compare(b, u.Primary) })
	return oldestProven(own), nil
}

// names are the addresses that were there before.
func (u *Undo) names() (names []string) {
	for _, a := range u.Addresses {
		names = append(names, string(a.Email))
	}
	return names
}

// spend uses it up, with those of the changes that came after it.
func (u *Undo) spend(tx guest.Tx) error {
	kept, err := undos(tx, u.User)
	if err != nil {
		return err
	}
	for name, other := range kept {
		if other.At.Before(u.At) {
			continue
		}
		other.Spent = true
		if err := undoKind.Put(tx, undoKind.Key(string(u.User), name), other, other.Expires); err != nil {
			return err
		}
	}
	return nil
}

// takeAccounts takes the accounts that were connected since.
func (u *Undo) takeAccounts(tx guest.Tx) (taken []Change, err error) {
	accounts, err := Accounts(tx, u.User)
	if err != nil {
		return nil, err
	}
	for _, account := range accounts {
		if account.Linked.Before(u.At) || account.Issuer == mailIssuer {
			continue
		}
		sealed, err := Consent(tx, account.Key())
		if err != nil && !errors.Is(err, guest.ErrNotFound) {
			return nil, err
		}
		if err := forgetAccount(tx, account); err != nil {
			return nil, err
		}
		taken = append(taken, Change{Identity: account, Consent: sealed})
	}
	return taken, nil
}

// takeAddresses takes the addresses that were not there before.
func (u *Undo) takeAddresses(tx guest.Tx) error {
	accounts, err := Accounts(tx, u.User)
	if err != nil {
		return err
	}
	now, err := Addresses(tx, u.User)
	if err != nil {
		return err
	}
	for _, address := range now {
		if slices.Contains(u.names(), string(address.Email)) {
			continue
		}
		if err := errors.Join(forgetAddress(tx, u.User, address.Email), forgetMailed(tx, accounts, address.Email)); err != nil {
			return err
		}
	}
	return nil
}

// giveAddresses gives those back that are nobody's.
func (u *Undo) giveAddresses(tx guest.Tx) error {
	for _, address := range u.Addresses {
		held, err := heldBy(tx, address.Email)
		if err == nil && (held.User != u.User || held.IsProven()) {
			continue
		}
		if err != nil && !errors.Is(err, guest.ErrNotFound) {
			return err
		}
		if err := identify(tx, address.Email, address.Identifier); err != nil {
			return err
		}
	}
	return nil
}
