package identity

import (
	"errors"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

// Proof is somebody who has just proven an address with a code or a link.
type Proof struct {
	// Method is the operator's name of the way in.
	Method string
	Email  Email
	// SignUp says whether somebody not known yet may become a user.
	SignUp func(email Email) bool
	// At is the time of the proof.
	At time.Time
}

// mailIssuer stands, in the identity of an address, where a provider's issuer
// stands in others. No provider's is spelt like it.
const mailIssuer = "mailto"

// AdmitProof decides who has proven an address (identity.md section 3, rows F)
// and writes what follows from it, all in tx: two proofs of the same address at
// once make one user.
func AdmitProof(tx guest.Tx, p Proof) (Admitted, error) {
	var held Identifier
	err := identifierKind.Get(tx, identifierKind.Key(string(p.Email)), &held)
	switch {
	case errors.Is(err, guest.ErrNotFound) && p.SignUp(p.Email):
		return createProven(tx, p)
	case errors.Is(err, guest.ErrNotFound):
		return Admitted{Row: "F3"}, ErrSignupDisabled
	case err != nil:
		return Admitted{}, err
	}
	user, err := ReadUser(tx, held.User)
	if err != nil {
		return Admitted{}, err
	}
	if user.State != Active {
		return Admitted{Row: "A2"}, ErrAccountDisabled
	}
	return signInProven(tx, p, user)
}

func (p *Proof) identity(user UserID) Identity {
	return Identity{
		Provider: p.Method, Issuer: mailIssuer, Subject: string(p.Email),
		User: user, Email: string(p.Email), Linked: p.At.UTC(),
	}
}

// signInProven signs in who holds the address. The first time, the address
// becomes a way in of theirs that the account page lists.
func signInProven(tx guest.Tx, p Proof, user *User) (Admitted, error) {
	admitted := Admitted{Person: Person{User: *user, Identity: p.identity(user.ID)}, Row: "F1"}
	var known Identity
	err := identityKind.Get(tx, identityKind.Key(string(admitted.Person.Identity.Key())), &known)
	if err == nil && known.User == user.ID {
		admitted.Person.Identity = known
		return admitted, nil
	}
	if err != nil && !errors.Is(err, guest.ErrNotFound) {
		return Admitted{}, err
	}
	return admitted, link(tx, &admitted.Person)
}

func createProven(tx guest.Tx, p Proof) (Admitted, error) {
	id := newUserID()
	person := Person{
		User: User{
			ID: id, State: Active, Email: p.Email, Groups: []string{Everybody},
			Created: p.At.UTC(), CreatedBy: p.Method,
		},
		Identity: p.identity(id),
	}
	if err := identify(tx, p.Email, Identifier{User: id, Proven: p.At.UTC(), By: p.Method}); err != nil {
		return Admitted{}, err
	}
	return Admitted{Person: person, Created: true, Row: "F2"}, link(tx, &person)
}

// MayProve reports whether a proof of this address could be admitted: its
// holder may sign in, or a new user may have it. It reads the same of the store
// in any case: how long it takes tells nobody who is known.
func MayProve(tx guest.Tx, email Email, signUp func(Email) bool) (bool, error) {
	var held Identifier
	err := identifierKind.Get(tx, identifierKind.Key(string(email)), &held)
	if err != nil && !errors.Is(err, guest.ErrNotFound) {
		return false, err
	}
	user, errUser := ReadUser(tx, held.User) // of nobody, where nobody holds it
	if errUser != nil && !errors.Is(errUser, guest.ErrNotFound) {
		return false, errUser
	}
	if err != nil {
		return signUp(email), nil
	}
	return errUser == nil && user.State == Active, nil
}
