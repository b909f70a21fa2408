// Package identity keeps the people: users, the accounts at providers that
// are linked to them, and the addresses they have proven. It decides who a
// newly arrived profile is.
//
// It never merges: an account that is not known yet becomes a new user, or,
// where somebody already holds its address, nobody.
package identity

import (
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"reflect"
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
	Name    string `json:"name,omitempty"`
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
	How    string    `json:"how,omitempty"`
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

// Reasons why an arrival becomes nobody, to be tested with errors.Is.
var (
	ErrEmailInUse      = errors.New("somebody else holds this address")
	ErrSignupDisabled  = errors.New("signing up is off")
	ErrAccountDisabled = errors.New("the account is disabled")
)

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

// Arrival is somebody who has just proven an account at a provider.
type Arrival struct {
	Traits  guest.Traits
	Profile guest.Profile
	// SignUp says whether somebody not known yet may become a user. email is
	// their proven address, empty where there is none.
	SignUp func(email Email) bool
	// At is the time of arrival.
	At time.Time
}

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

// Admitted is the outcome of Admit. Row is the row of the decision table
// (identity.md section 3) that decided, also with an error.
type Admitted struct {
	Person  Person
	Created bool
	// Changed: what was known of them is no longer true; tell
	// session.Sessions.ForgetUser.
	Changed bool
	Row     string
}

// Admit decides who a is and writes what follows from it, all in tx: two
// arrivals of the same account at once make one user.
func Admit(tx guest.Tx, a Arrival) (Admitted, error) {
	identity, err := lookup(tx, a)
	if errors.Is(err, guest.ErrNotFound) {
		return welcome(tx, a)
	}
	if err != nil {
		return Admitted{}, err
	}
	return recognise(tx, a, identity)
}

func lookup(tx guest.Tx, a Arrival) (*Identity, error) {
	identity := Identity{Provider: a.Traits.Name, Issuer: a.Profile.Issuer, Subject: a.Profile.Subject}
	wanted := identity
	if err := identityKind.Get(tx, identityKind.Key(string(identity.Key())), &identity); err != nil {
		return nil, err
	}
	if identity.Provider != wanted.Provider || identity.Issuer != wanted.Issuer || identity.Subject != wanted.Subject {
		return nil, fmt.Errorf("reading identity: %w", errors.New("record is another's"))
	}
	return &identity, nil
}

// recognise signs in the owner of a known identity. The address is not
// consulted: a changed one at the provider moves no identifier.
func recognise(tx guest.Tx, a Arrival, identity *Identity) (Admitted, error) {
	user, err := ReadUser(tx, identity.User)
	if err != nil {
		return Admitted{}, err
	}
	admitted := Admitted{Person: Person{User: *user, Identity: *identity}, Row: "A1"}
	if user.State != Active {
		admitted.Row = "A2"
		return admitted, ErrAccountDisabled
	}
	refresh(&admitted.Person, a.Profile)
	// Most sign-ins change nothing, and a write is what others wait for.
	if reflect.DeepEqual(admitted.Person, Person{User: *user, Identity: *identity}) {
		return admitted, nil
	}
	admitted.Changed = true
	return admitted, write(tx, &admitted.Person)
}

// refresh takes over what the provider says of its own account. Apps read the
// name only for display.
func refresh(p *Person, profile guest.Profile) {
	p.Identity.Email = profile.Email
	p.Identity.Groups = slices.Clone(profile.Groups)
	if len(profile.Groups) == 0 {
		p.Identity.Groups = nil // as it is read back
	}
	if profile.Name != "" {
		p.User.Name = profile.Name
	}
	if profile.Picture != "" {
		p.User.Picture = profile.Picture
	}
}

// welcome makes a new user of an account that nobody has yet.
func welcome(tx guest.Tx, a Arrival) (Admitted, error) {
	email, proven := address(a.Profile)
	held, err := isHeld(tx, email)
	if err != nil {
		return Admitted{}, err
	}
	d := decide(a.Traits.Email, email != "", proven, held)
	if d.refuse != nil {
		return Admitted{Row: d.row}, d.refuse
	}
	if !proven {
		email = ""
	}
	if !a.SignUp(email) {
		return Admitted{Row: d.closed}, ErrSignupDisabled
	}
	if !d.identifier {
		email = ""
	}
	return create(tx, a, d.row, email)
}

// address is the profile's address in canonical form, and whether the provider
// has proven it. What is no address counts as none.
func address(p guest.Profile) (email Email, proven bool) {
	if p.EmailTrust == guest.NoEmail {
		return "", false
	}
	email, err := ParseEmail(p.Email)
	if err != nil {
		return "", false
	}
	return email, p.EmailTrust >= guest.Verified
}

func isHeld(tx guest.Tx, email Email) (bool, error) {
	if email == "" {
		return false, nil
	}
	var held Identifier
	err := identifierKind.Get(tx, identifierKind.Key(string(email)), &held)
	if errors.Is(err, guest.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// decision is one row of the table: refuse, or create with or without the
// address as identifier. closed is the row that refuses instead where signing
// up is off.
type decision struct {
	row, closed string
	identifier  bool
	refuse      error
}

// decide is identity.md section 3 for an account that nobody has yet, without
// the rows that merge or ask for a code: those refuse. An address that
// somebody holds may be that person's, or that of one who would like to be
// them.
func decide(rules guest.EmailRules, address, proven, held bool) decision {
	switch {
	case !address:
		return decision{row: "C1", closed: "C2"}
	case !proven && held && !rules.Merge:
		return decision{row: "D5", refuse: ErrEmailInUse}
	case !proven && held:
		return decision{row: "D6", refuse: ErrEmailInUse}
	case !proven:
		return decision{row: "D1", closed: "D4"}
	case held && !rules.Merge && !rules.Identifier:
		return decision{row: "E5", closed: "E3"}
	case held:
		return decision{row: "E4", refuse: ErrEmailInUse}
	case rules.Identifier:
		return decision{row: "E1", closed: "E3", identifier: true}
	default:
		return decision{row: "E2", closed: "E3"}
	}
}

func create(tx guest.Tx, a Arrival, row string, identifier Email) (Admitted, error) {
	id := newUserID()
	person := Person{
		User: User{
			ID: id, State: Active, Email: identifier,
			Groups:  []string{Everybody, ExternalUsers},
			Created: a.At.UTC(), CreatedBy: a.Traits.Name,
		},
		Identity: Identity{
			Provider: a.Traits.Name, Issuer: a.Profile.Issuer, Subject: a.Profile.Subject,
			User: id, Linked: a.At.UTC(),
		},
	}
	refresh(&person, a.Profile)
	if identifier != "" {
		proof := Identifier{User: id, Proven: a.At.UTC(), By: a.Traits.Name}
		if err := identify(tx, identifier, proof); err != nil {
			return Admitted{}, err
		}
	}
	return Admitted{Person: person, Created: true, Row: row}, link(tx, &person)
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
