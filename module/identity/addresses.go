package identity

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

// Address is an address of a user.
type Address struct {
	Email Email
	Identifier
}

// Addresses are a user's: the primary one, then the others as they were proven,
// then those that are only provisioned. Of a user who is being erased they are
// what is still there.
func Addresses(tx guest.Tx, user UserID) ([]Address, error) {
	primary, err := primaryOf(tx, user)
	if err != nil {
		return nil, err
	}
	names, err := listed(tx, addressKind, user, maxListed)
	if err != nil {
		return nil, err
	}
	// Users of before the index was kept have one address: the primary one.
	if primary != "" && !slices.Contains(names, string(primary)) {
		names = append(names, string(primary))
	}
	addresses, err := readAddresses(tx, user, names)
	slices.SortFunc(addresses, func(a, b Address) int { return a.compare(b, primary) })
	return addresses, err
}

// primaryOf is a user's primary address. Nobody has none.
func primaryOf(tx guest.Tx, id UserID) (Email, error) {
	user, err := ReadUser(tx, id)
	if errors.Is(err, guest.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return user.Email, nil
}

func readAddresses(tx guest.Tx, user UserID, names []string) (addresses []Address, err error) {
	for _, name := range names {
		address := Address{Email: Email(name)}
		err := identifierKind.Get(tx, identifierKind.Key(name), &address.Identifier)
		if errors.Is(err, guest.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if address.User == user {
			addresses = append(addresses, address)
		}
	}
	return addresses, nil
}

func (a *Address) compare(b Address, primary Email) int {
	switch {
	case a.Email == primary, b.Email == primary:
		return trueFirst(a.Email == primary, b.Email == primary)
	case a.IsProven() != b.IsProven():
		return trueFirst(a.IsProven(), b.IsProven())
	default:
		return cmp.Or(a.Proven.Compare(b.Proven), cmp.Compare(a.Email, b.Email))
	}
}

func trueFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	default:
		return 1
	}
}

// ProvenAddresses are those of a user's addresses that mail may be sent to.
func ProvenAddresses(tx guest.Tx, user UserID) (proven []Email, err error) {
	addresses, err := Addresses(tx, user)
	for _, address := range addresses {
		if address.IsProven() {
			proven = append(proven, address.Email)
		}
	}
	return proven, err
}

// heldBy reads who holds an address, or guest.ErrNotFound. What a deleted user
// held is free.
func heldBy(tx guest.Tx, e Email) (*Identifier, error) {
	var held Identifier
	if err := identifierKind.Get(tx, identifierKind.Key(string(e)), &held); err != nil {
		return nil, err
	}
	if _, err := existing(tx, held.User); err != nil {
		return nil, err
	}
	return &held, nil
}

// AddAddress gives a user an address that they have proven just now, by the
// word of this provider instance. The first one becomes the primary one and
// ends every session: somebody else may have begun them in expectation of the
// owner. It returns ErrEmailInUse where somebody else holds the address, also
// without having proven it, and ErrTooMany beyond MaxAddresses.
func AddAddress(tx guest.Tx, id UserID, e Email, by string, at time.Time) (Change, error) {
	user, err := inState(tx, id, Active)
	if err != nil {
		return Change{}, err
	}
	own, err := mayAdd(tx, id, e)
	if err != nil {
		return Change{}, err
	}
	if own.IsProven() {
		return Change{User: *user, Email: e}, nil // the first proof is the one to keep
	}
	if user.Email == "" {
		user.Email = e
		user.endSessions(at)
	}
	if err := identify(tx, e, Identifier{User: id, Proven: at.UTC(), By: by}); err != nil {
		return Change{}, err
	}
	return Change{User: *user, Email: e}, WriteUser(tx, user)
}

// mayAdd reports why a user can't have an address, or what they have of it
// already: the zero value is nothing.
func mayAdd(tx guest.Tx, id UserID, e Email) (Identifier, error) {
	if err := checkEmail(e); err != nil {
		return Identifier{}, err
	}
	held, err := heldBy(tx, e)
	switch {
	case err == nil && held.User == id:
		return *held, nil
	case !errors.Is(err, guest.ErrNotFound):
		return Identifier{}, orInUse(err)
	}
	addresses, err := Addresses(tx, id)
	if err == nil && len(addresses) >= MaxAddresses {
		return Identifier{}, ErrTooMany
	}
	return Identifier{}, err
}

// RemoveAddress takes an address, proven or provisioned, from a user, with the
// way in by a code to it, and ends every session. Others may have it at once.
// Where it was the primary one, the oldest proven one follows. ErrLastWayIn
// refuses it.
func RemoveAddress(tx guest.Tx, id UserID, e Email, s Surroundings) (Change, error) {
	user, addresses, err := withAddress(tx, id, e)
	if err != nil {
		return Change{}, err
	}
	accounts, err := Accounts(tx, id)
	if err != nil {
		return Change{}, err
	}
	rest := slices.DeleteFunc(addresses, func(a Address) bool { return a.Email == e })
	if !s.leadsIn(accounts, rest) {
		return Change{}, ErrLastWayIn
	}
	if user.Email == e {
		user.Email = oldestProven(rest)
	}
	user.endSessions(s.At)
	if err := errors.Join(forgetAddress(tx, id, e), forgetMailed(tx, accounts, e)); err != nil {
		return Change{}, err
	}
	return Change{User: *user, Email: e}, WriteUser(tx, user)
}

// withAddress reads a user who is Active and has this address, with all
// addresses.
func withAddress(tx guest.Tx, id UserID, e Email) (*User, []Address, error) {
	user, err := inState(tx, id, Active)
	if err != nil {
		return nil, nil, err
	}
	held, err := heldBy(tx, e)
	if err != nil {
		return nil, nil, err
	}
	if held.User != id {
		return nil, nil, fmt.Errorf("changing an address: %w", ErrNotYours)
	}
	addresses, err := Addresses(tx, id)
	return user, addresses, err
}

// oldestProven expects the order of Addresses.
func oldestProven(addresses []Address) Email {
	for _, address := range addresses {
		if address.IsProven() {
			return address.Email
		}
	}
	return ""
}

// forgetAddress takes an address from a user who has it.
func forgetAddress(tx guest.Tx, user UserID, e Email) error {
	return errors.Join(
		tx.Delete(identifierKind.Key(string(e))),
		tx.Delete(addressKind.Key(string(user), string(e))),
	)
}

// forgetMailed takes the ways in by a code to an address from a user's
// accounts.
func forgetMailed(tx guest.Tx, accounts []Identity, e Email) error {
	for _, account := range accounts {
		if account.Issuer != mailIssuer || account.Subject != string(e) {
			continue
		}
		if err := forgetAccount(tx, account); err != nil {
			return err
		}
	}
	return nil
}

// SetPrimary makes a proven address of the user's the primary one, the one
// that apps see, and ends every session.
func SetPrimary(tx guest.Tx, id UserID, e Email, at time.Time) (Change, error) {
	user, addresses, err := withAddress(tx, id, e)
	if err != nil {
		return Change{}, err
	}
	isIt := func(a Address) bool { return a.Email == e && a.IsProven() }
	if !slices.ContainsFunc(addresses, isIt) {
		return Change{}, fmt.Errorf("choosing an address that is not proven: %w", ErrNotYours)
	}
	if user.Email == e {
		return Change{User: *user, Email: e}, nil
	}
	// A primary address of before the index was kept is not found without it.
	if err := identify(tx, addresses[0].Email, addresses[0].Identifier); err != nil {
		return Change{}, err
	}
	user.Email = e
	user.endSessions(at)
	return Change{User: *user, Email: e}, WriteUser(tx, user)
}
