// Package identity keeps the people: users, the accounts at providers that are
// linked to them, and the addresses they have proven. It decides who a newly
// arrived profile is (decide.go), and lets a person and an operator change what
// is kept of them.
//
// All of it happens in transactions of the caller's. What changes a user is told
// to session.Sessions.ForgetUser afterwards.
package identity

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/record"
)

// UserID names a user: 26 characters of chance, stable, never reused, without
// meaning. It is what apps see as Remote-User.
type UserID string

// User is one person, however many ways in they have.
type User struct {
	// ID never changes.
	ID UserID `json:"id"`
	// State is Active for those who may sign in.
	State State `json:"state"`
	// Email is the primary address, proven; empty where none is.
	Email Email `json:"email,omitempty"`
	// Name and Picture are for display: what the provider said last.
	Name string `json:"name,omitempty"`
	// Named says that the person chose the name: no provider's replaces it.
	Named   bool   `json:"named,omitempty"`
	Picture string `json:"picture,omitempty"` // an address, never fetched by us
	// Groups are the operator's, not the provider's.
	Groups []string `json:"groups,omitempty"`
	// Created is when they first signed in.
	Created time.Time `json:"created"`
	// CreatedBy is the provider instance that brought them, or Operator.
	CreatedBy string `json:"created_by"`
	// SessionsFrom ends what is older: sessions, and whatever was pending. Zero:
	// nothing.
	SessionsFrom time.Time `json:"sessions_from,omitzero"`
	// Deletes is when a user who is Deleting is no more.
	Deletes time.Time `json:"deletes,omitzero"`
}

// Operator is who did what no visitor did: in CreatedBy, By and the activity.
const Operator = "operator"

// State says what may become of a user. The zero value is no state: nobody is
// active by accident.
type State string

// The states of a user.
const (
	Active   State = "active"
	Disabled State = "disabled"
	Deleting State = "deleting" // by the person's own wish, until User.Deletes
	Deleted  State = "deleted"  // what is left of one: the id, which is never used again
)

// Identity is an account at a provider, linked to a user.
type Identity struct {
	// Provider is the operator's name of the instance; Issuer and Subject are
	// the provider's own. Together they are the unique key: a provider pointed
	// at another issuer binds nobody anew.
	Provider string `json:"provider"`
	Issuer   string `json:"issuer"`  // as the provider names itself
	Subject  string `json:"subject"` // never a login name or an address

	// User is whose account it is.
	User UserID `json:"user"`
	// Email is what the provider last said, whatever it is worth. It is for
	// the account page; it identifies nobody and never reaches an app.
	Email string `json:"email,omitempty"`
	// Groups are what the provider said at the last sign-in.
	Groups []string `json:"groups,omitempty"`
	// Linked is when the account became the user's, How the row of the decision
	// table by which it did.
	Linked time.Time `json:"linked"`
	How    string    `json:"how,omitempty"` // such as E6
}

// Key names an identity in the store.
func (i *Identity) Key() IdentityKey {
	return IdentityKey(record.Hash(i.Provider, i.Issuer, i.Subject))
}

// IdentityKey is the hash of provider instance, issuer and subject.
type IdentityKey string

// Identifier is a proven address and whose it is.
type Identifier struct {
	// User is who holds it.
	User UserID `json:"user"`
	// Proven is when it was proven; zero while it is only provisioned: put there
	// by an operator, and proven by nobody yet.
	Proven time.Time `json:"proven,omitzero"`
	// By is the provider instance whose word proved it, or Operator.
	By string `json:"by"`
}

// IsProven reports whether somebody has proven to read the address.
func (i *Identifier) IsProven() bool { return !i.Proven.IsZero() }

// Everybody and ExternalUsers are the groups of a user whom a provider
// brought.
const (
	Everybody     = "everybody"
	ExternalUsers = "external-users"
)

var (
	userKind       = record.Kind{Name: "user", Version: 1}
	identityKind   = record.Kind{Name: "identity", Version: 1}
	identifierKind = record.Kind{Name: "identifier", Version: 1}
	// accountKind lists a user's identities: account/<user>/<identity key>.
	accountKind = record.Kind{Name: "account", Version: 1}
	consentKind = record.Kind{Name: "consent", Version: 1}
	// addressKind lists a user's addresses: address/<user>/<address>.
	addressKind = record.Kind{Name: "address", Version: 1}
	// subjectKind finds identities without their issuer:
	// subject/<hash of provider instance and subject>/<identity key>.
	subjectKind = record.Kind{Name: "subject", Version: 1}
)

// Person is a user as they came in: the user, and the identity they used.
type Person struct {
	User     User
	Identity Identity
}

// Groups are the operator's groups of the user and the provider's groups of
// the account used.
func (p *Person) Groups() []string {
	groups := slices.Concat(p.User.Groups, p.Identity.Groups)
	slices.Sort(groups)
	return slices.Compact(groups)
}

// identify writes whose an address is.
func identify(tx guest.Tx, email Email, proof Identifier) error {
	if err := addressKind.Put(tx, addressKind.Key(string(proof.User), string(email)), struct{}{}, time.Time{}); err != nil {
		return err
	}
	return identifierKind.Put(tx, identifierKind.Key(string(email)), proof, time.Time{})
}

// link writes a person whose identity is new to the user.
func link(tx guest.Tx, p *Person) error {
	account := accountKind.Key(string(p.User.ID), string(p.Identity.Key()))
	if err := accountKind.Put(tx, account, struct{}{}, time.Time{}); err != nil {
		return err
	}
	if err := subjectKind.Put(tx, p.Identity.subjectKey(), struct{}{}, time.Time{}); err != nil {
		return err
	}
	return write(tx, p)
}

func (i *Identity) subjectKey() []byte {
	return subjectKind.Key(record.Hash(i.Provider, i.Subject), string(i.Key()))
}

func write(tx guest.Tx, p *Person) error {
	if err := WriteUser(tx, &p.User); err != nil {
		return err
	}
	return identityKind.Put(tx, identityKind.Key(string(p.Identity.Key())), &p.Identity, time.Time{})
}

// ReadUser reads one user, or guest.ErrNotFound.
func ReadUser(tx guest.Tx, id UserID) (*User, error) {
	var user User
	if err := userKind.Get(tx, userKind.Key(string(id)), &user); err != nil {
		return nil, err
	}
	return &user, nil
}

// WriteUser writes one user. What is cached of them must be told to forget:
// see session.Sessions.ForgetUser.
func WriteUser(tx guest.Tx, user *User) error {
	return userKind.Put(tx, userKind.Key(string(user.ID)), user, time.Time{})
}

// ReadPerson reads a user and the identity they came in with.
func ReadPerson(tx guest.Tx, id UserID, key IdentityKey) (*Person, error) {
	user, err := ReadUser(tx, id)
	if err != nil {
		return nil, err
	}
	var identity Identity
	if err := identityKind.Get(tx, identityKind.Key(string(key)), &identity); err != nil {
		return nil, err
	}
	if identity.User != id {
		return nil, fmt.Errorf("reading identity: %w", guest.ErrNotFound)
	}
	return &Person{User: *user, Identity: identity}, nil
}

// consent is the record of what revokes a person's consent at a provider.
type consent struct {
	// Sealed is the token, sealed by the caller.
	Sealed []byte `json:"sealed"`
}

// KeepConsent keeps, with an identity, what revokes its consent at the
// provider, in place of what was kept before: the last one covers all. It is
// sealed by the caller.
func KeepConsent(tx guest.Tx, key IdentityKey, sealed []byte) error {
	return consentKind.Put(tx, consentKind.Key(string(key)), consent{Sealed: sealed}, time.Time{})
}

// Consent returns what KeepConsent kept, or guest.ErrNotFound.
func Consent(tx guest.Tx, key IdentityKey) (sealed []byte, err error) {
	var kept consent
	err = consentKind.Get(tx, consentKind.Key(string(key)), &kept)
	return kept.Sealed, err
}

func newUserID() UserID {
	random := make([]byte, 16)
	rand.Read(random)
	encoding := base32.StdEncoding.WithPadding(base32.NoPadding)
	return UserID(strings.ToLower(encoding.EncodeToString(random)))
}
