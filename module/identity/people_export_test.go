package identity

import "github.com/caddy-login/caddy-login/module/guest"

// Settle writes a user who has these accounts and addresses.
func Settle(tx guest.Tx, user User, accounts []Identity, addresses []Address) error {
	if err := WriteUser(tx, &user); err != nil {
		return err
	}
	for _, a := range addresses {
		a.User = user.ID
		if err := identify(tx, a.Email, a.Identifier); err != nil {
			return err
		}
	}
	for _, account := range accounts {
		account.User = user.ID
		if err := link(tx, &Person{User: user, Identity: account}); err != nil {
			return err
		}
	}
	return nil
}

// SettleOld writes a user as it was before addresses and subjects were listed.
func SettleOld(tx guest.Tx, user User, account Identity, address Address) error {
	if err := Settle(tx, user, []Identity{account}, []Address{address}); err != nil {
		return err
	}
	if err := tx.Delete(addressKind.Key(string(user.ID), string(address.Email))); err != nil {
		return err
	}
	return tx.Delete(account.subjectKey())
}

// The kinds of records, for tests that read all there is.
var (
	UserKind, IdentityKind, IdentifierKind = userKind, identityKind, identifierKind
	AccountKind, AddressKind, SubjectKind  = accountKind, addressKind, subjectKind
	ConsentKind, DeletionKind              = consentKind, deletionKind
)

// SubjectKey and DeletionKey are keys of the indices.
func SubjectKey(i Identity) []byte { return i.subjectKey() }
func DeletionKey(u User) []byte    { return deletionKey(u.Deletes, u.ID) }
