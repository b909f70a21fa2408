package identity

import (
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/record"
)

// Proof is somebody who has just proven an address with a code or a link.
type Proof struct {
	// Method is the operator's name of the way in.
	Method string
	Email  Email
	// SignUp says whether somebody not known yet may become a user.
	SignUp func(email Email) bool
	// Here is who is signed in in this browser, empty: nobody.
	Here UserID
	// Said is what they have said since they proved it, at Began.
	Said  Said
	Began time.Time // zero: now
	// At is the time.
	At time.Time
}

// mailIssuer stands, in the identity of an address, where a provider's issuer
// stands in others. No provider's is spelt like it.
const mailIssuer = "mailto"

// AdmitProof decides who has proven an address (identity.md section 3, rows F)
// and writes what follows from it, all in tx: two proofs of the same address at
// once make one user. It answers as Admit does.
func AdmitProof(tx guest.Tx, p Proof) (Admitted, error) {
	decision, holder, err := PreviewProof(tx, p)
	if err != nil {
		return Admitted{}, err
	}
	d := Admitted{Decision: decision}
	switch {
	case d.Why != nil, d.Needs != Nothing:
		return d, d.Why
	case d.Do == Create:
		return d.createProven(tx, p)
	default:
		return d.signInProven(tx, p, holder)
	}
}

// PreviewProof is what AdmitProof would decide, and who holds the address, nil
// where nobody does. It writes nothing.
func PreviewProof(tx guest.Tx, p Proof) (Decision, *User, error) {
	held, holder, err := holderOf(tx, p.Email)
	if err != nil {
		return Decision{}, nil, err
	}
	d := p.decide(held, holder)
	if d.Why == nil && holder != nil && !p.Began.IsZero() && p.Began.Before(holder.SessionsFrom) {
		d = outdated(d)
	}
	return d, holder, nil
}

// decide is the rows F of the table. Who is signed in as somebody else is asked,
// as with any other way in.
func (p *Proof) decide(held *Identifier, holder *User) Decision {
	switch {
	case holder == nil && !p.SignUp(p.Email):
		return Decision{Row: "F3", Why: ErrSignupDisabled}
	case holder == nil && p.Here != "" && p.Said.Switch != p.Here:
		return Decision{Row: "F2", Do: Create, Needs: SwitchOrStay}
	case holder == nil:
		return Decision{Row: "F2", Do: Create, Identifier: true}
	}
	d := Decision{Row: "F1", Do: Login, User: holder.ID}
	if !held.IsProven() {
		d.Row, d.Do, d.Identifier = "F4", Claim, true
	}
	switch {
	case holder.State != Active && holder.State != Deleting:
		return Decision{Row: "A2", Why: ErrAccountDisabled, User: holder.ID}
	case p.Here != "" && p.Here != holder.ID && p.Said.Switch != p.Here:
		d.Needs = SwitchOrStay
	case holder.State == Deleting && p.Said.Keep != holder.ID:
		d.Needs = KeepAccount
	}
	return d
}

// holderOf is who holds an address, and how; nil where nobody does.
func holderOf(tx guest.Tx, email Email) (*Identifier, *User, error) {
	var held Identifier
	err := identifierKind.Get(tx, identifierKind.Key(string(email)), &held)
	if errors.Is(err, guest.ErrNotFound) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	user, err := standing(tx, held.User)
	return &held, user, err
}

func (p *Proof) identity(user UserID, row string) Identity {
	return Identity{
		Provider: p.Method, Issuer: mailIssuer, Subject: string(p.Email),
		User: user, Email: string(p.Email), Linked: p.At.UTC(), How: row,
	}
}

// signInProven signs in who holds the address. The first time, the address
// becomes a way in of theirs that the account page lists.
func (d Admitted) signInProven(tx guest.Tx, p Proof, user *User) (Admitted, error) {
	d.Person = Person{User: *user, Identity: p.identity(user.ID, d.Row)}
	d.Changed = user.State == Deleting || d.Do == Claim
	if err := d.Person.User.stay(tx); err != nil {
		return d, err
	}
	if d.Do == Claim {
		if err := d.claim(tx, p); err != nil {
			return d, err
		}
	}
	var known Identity
	err := identityKind.Get(tx, identityKind.Key(string(d.Person.Identity.Key())), &known)
	if errors.Is(err, guest.ErrNotFound) || err == nil && known.User != user.ID {
		return d, link(tx, &d.Person)
	}
	d.Person.Identity = known
	if err != nil || !d.Changed {
		return d, err
	}
	return d, WriteUser(tx, &d.Person.User)
}

// claim makes what an operator put there the person's own.
func (d *Admitted) claim(tx guest.Tx, p Proof) error {
	user := &d.Person.User
	if user.Email == "" {
		user.Email = p.Email
	}
	user.endSessions(p.At)
	return identify(tx, p.Email, Identifier{User: user.ID, Proven: p.At.UTC(), By: ByMail})
}

func (d Admitted) createProven(tx guest.Tx, p Proof) (Admitted, error) {
	id := newUserID()
	d.Person = Person{
		User: User{
			ID: id, State: Active, Email: p.Email, Groups: []string{Everybody},
			Created: p.At.UTC(), CreatedBy: p.Method,
		},
		Identity: p.identity(id, d.Row),
	}
	if err := identify(tx, p.Email, Identifier{User: id, Proven: p.At.UTC(), By: ByMail}); err != nil {
		return Admitted{}, err
	}
	d.Created, d.User = true, id
	return d, link(tx, &d.Person)
}

// standIn begins the names that are no user's.
const standIn = "nobody-"

// IsStandIn reports whether this is nobody's id: see HolderOrStandIn.
func (id UserID) IsStandIn() bool { return strings.HasPrefix(string(id), standIn) }

// HolderOrStandIn is who holds an address; where nobody does it is a name that
// is no user's, the same for the same address. It reads the same in either case.
func HolderOrStandIn(tx guest.Tx, email Email) (UserID, error) {
	held, holder, err := holderOf(tx, email)
	if err != nil {
		return "", err
	}
	if held == nil {
		if _, err := ReadUser(tx, ""); err != nil && !errors.Is(err, guest.ErrNotFound) {
			return "", err
		}
	}
	if holder == nil {
		hash := record.Hash("nobody", string(email))
		return UserID(standIn + hex.EncodeToString([]byte(hash))[:19]), nil
	}
	return holder.ID, nil
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
	if err != nil || errUser != nil || user.State == Deleted {
		return signUp(email), nil
	}
	return user.State == Active || user.State == Deleting, nil
}
