package identity

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/caddy-login/caddy-login/module/guest"
)

// Accounts are the identities linked to a user, oldest first. Of a user who is
// being erased they are what is still there: what they granted is yet to be
// revoked.
func Accounts(tx guest.Tx, user UserID) ([]Identity, error) {
	keys, err := listed(tx, accountKind, user, maxListed)
	if err != nil {
		return nil, err
	}
	var accounts []Identity
	for _, key := range keys {
		account, err := ownAccount(tx, user, IdentityKey(key))
		if errors.Is(err, guest.ErrNotFound) || errors.Is(err, ErrNotYours) {
			continue
		}
		if err != nil {
			return nil, err
		}
		accounts = append(accounts, *account)
	}
	slices.SortFunc(accounts, func(a, b Identity) int {
		return cmp.Or(a.Linked.Compare(b.Linked), cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Key(), b.Key()))
	})
	return accounts, nil
}

// ownAccount reads an identity of the user's, or guest.ErrNotFound, or
// ErrNotYours.
func ownAccount(tx guest.Tx, user UserID, key IdentityKey) (*Identity, error) {
	var account Identity
	if len(key) != sha256.Size {
		return nil, fmt.Errorf("reading identity: %w", guest.ErrNotFound)
	}
	if err := identityKind.Get(tx, identityKind.Key(string(key)), &account); err != nil {
		return nil, err
	}
	if account.User != user {
		return nil, fmt.Errorf("reading identity: %w", ErrNotYours)
	}
	return &account, nil
}

// Unlink takes an account from a user, and returns it with what revokes its
// consent. Sessions that came in by it lead nowhere from then on; see
// session.Sessions.EndIdentity. ErrLastWayIn refuses it.
func Unlink(tx guest.Tx, id UserID, key IdentityKey, s Surroundings) (Change, error) {
	user, err := inState(tx, id, Active)
	if err != nil {
		return Change{}, err
	}
	account, err := ownAccount(tx, id, key)
	if err != nil {
		return Change{}, err
	}
	if err := mayUnlink(tx, id, key, s); err != nil {
		return Change{}, err
	}
	sealed, err := Consent(tx, key)
	if err != nil && !errors.Is(err, guest.ErrNotFound) {
		return Change{}, err
	}
	return Change{User: *user, Identity: *account, Consent: sealed}, forgetAccount(tx, *account)
}

// mayUnlink reports why an account can't be taken from a user, or nil.
func mayUnlink(tx guest.Tx, id UserID, key IdentityKey, s Surroundings) error {
	accounts, err := Accounts(tx, id)
	if err != nil {
		return err
	}
	addresses, err := Addresses(tx, id)
	if err != nil {
		return err
	}
	rest := slices.DeleteFunc(accounts, func(a Identity) bool { return a.Key() == key })
	if !s.leadsIn(rest, addresses) {
		return ErrLastWayIn
	}
	return nil
}

// leadsIn reports whether somebody with these accounts and addresses could sign
// in. An account that stands for an address counts for nothing: without the
// address it leads nowhere.
func (s *Surroundings) leadsIn(accounts []Identity, addresses []Address) bool {
	isOffered := func(a Identity) bool {
		return a.Issuer != mailIssuer && s.Offered != nil && s.Offered(a.Provider, a.Issuer)
	}
	return slices.ContainsFunc(accounts, isOffered) || s.Codes && oldestProven(addresses) != ""
}

// IsLastAccount reports whether Unlink of this account would be refused.
func (s *Surroundings) IsLastAccount(accounts []Identity, addresses []Address, key IdentityKey) bool {
	rest := slices.DeleteFunc(slices.Clone(accounts), func(a Identity) bool { return a.Key() == key })
	return !s.leadsIn(rest, addresses)
}

// IsLastAddress reports whether RemoveAddress of this one would be refused.
func (s *Surroundings) IsLastAddress(accounts []Identity, addresses []Address, e Email) bool {
	rest := slices.DeleteFunc(slices.Clone(addresses), func(a Address) bool { return a.Email == e })
	return !s.leadsIn(accounts, rest)
}

// IsMailed reports whether the identity stands for a proven address rather than
// for an account at a provider.
func (i *Identity) IsMailed() bool { return i.Issuer == mailIssuer }

// forgetAccount takes an account from the user who has it, with all that was
// kept of it.
func forgetAccount(tx guest.Tx, account Identity) error {
	key := string(account.Key())
	return errors.Join(
		tx.Delete(identityKind.Key(key)),
		tx.Delete(accountKind.Key(string(account.User), key)),
		tx.Delete(account.subjectKey()),
		tx.Delete(consentKind.Key(key)),
	)
}
