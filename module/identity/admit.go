package identity

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

// Arrival is somebody who has just proven an account at a provider.
type Arrival struct {
	Traits  guest.Traits
	Profile guest.Profile
	// Verify says whether an address that the provider only asserts is proven by
	// mail: Traits.Email.Verify, with the site's mail in mind.
	Verify bool
	// SignUp says whether somebody not known yet may become a user. email is
	// their proven address, empty where there is none.
	SignUp func(email Email) bool
	// Privileged says whether a user has more to lose than others: to connect an
	// account to theirs then takes a proof. nil: nobody.
	Privileged func(tx guest.Tx, user User) (bool, error)

	Intent Intent
	// Here is who is signed in in this browser, empty: nobody. Fresh: and has
	// signed in within the last minutes.
	Here  UserID
	Fresh bool
	// Said is what they have said and proven since they arrived, at Began.
	Said  Said
	Began time.Time // zero: now
	// At is the time.
	At time.Time
}

// Admitted is the outcome of Admit. The decision is also told with an error.
type Admitted struct {
	Decision
	Person  Person
	Created bool
	// Changed: what was known of them is no longer true; tell
	// session.Sessions.ForgetUser.
	Changed bool
}

// ErrOutdated means that what was confirmed or proven is no longer what would
// be done, or came too late.
var ErrOutdated = errors.New("the circumstances have changed meanwhile")

// IsRefusal reports whether err is an outcome of the decision, rather than
// something that failed.
func IsRefusal(err error) bool {
	for _, known := range []error{ErrEmailInUse, ErrSignupDisabled, ErrAccountDisabled, ErrAlreadyLinked, ErrOutdated, ErrTooMany} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// Admit decides who a is and writes what follows from it, all in tx: two
// arrivals of the same account at once make one user. Where the decision needs
// something nothing is written. A refusal is an error (IsRefusal) and writes
// nothing either.
func Admit(tx guest.Tx, a Arrival) (Admitted, error) {
	s, known, err := a.situation(tx)
	if err != nil {
		return Admitted{}, err
	}
	admitted := Admitted{Decision: s.judge(a)}
	if admitted.Why != nil || admitted.Needs != Nothing {
		return admitted, admitted.Why
	}
	switch admitted.Do {
	case Login:
		return admitted.login(tx, a, s.owner, known)
	case Create:
		return admitted.create(tx, a, s.email)
	case Link, Claim:
		return admitted.link(tx, a, s)
	default:
		return admitted, fmt.Errorf("admitting: no action for row %s", admitted.Row)
	}
}

// Preview is what Admit would decide, and the user whom it is about, nil where
// it is about nobody known. It writes nothing.
func Preview(tx guest.Tx, a Arrival) (Decision, *User, error) {
	s, _, err := a.situation(tx)
	if err != nil {
		return Decision{}, nil, err
	}
	d := s.judge(a)
	for _, user := range []*User{s.owner, s.here, s.holder} {
		if user != nil && user.ID == d.User {
			return d, user, nil
		}
	}
	return d, nil, nil
}

// judge decides, and finds out whether it may still be done.
func (s *situation) judge(a Arrival) Decision {
	d := s.decide()
	if d.Why == nil && s.isOutdated(a, d.User) {
		return outdated(d)
	}
	return d
}

// outdated is what becomes of a decision about somebody for whom everything that
// was pending has ended.
func outdated(d Decision) Decision {
	return Decision{Row: d.Row, Why: ErrOutdated, User: d.User}
}

// situation reads all that decides, in the transaction that writes.
func (a *Arrival) situation(tx guest.Tx) (*situation, *Identity, error) {
	s := &situation{
		intent: a.Intent, fresh: a.Fresh, rules: a.Traits.Email, trust: a.Profile.EmailTrust, said: a.Said,
		// Else there is nothing to verify an address for.
		verify: a.Verify && a.Traits.Email.Identifier,
	}
	s.email = address(a.Profile)
	known, err := readIdentity(tx, Identity{Provider: a.Traits.Name, Issuer: a.Profile.Issuer, Subject: a.Profile.Subject})
	if err != nil {
		return nil, nil, err
	}
	if known != nil {
		s.owner, err = standing(tx, known.User)
	}
	if err == nil && a.Here != "" {
		s.here, err = standing(tx, a.Here)
	}
	if err == nil {
		err = s.readHolder(tx)
	}
	if err != nil {
		return nil, nil, err
	}
	if s.holder != nil && a.Privileged != nil {
		if s.privileged, err = a.Privileged(tx, *s.holder); err != nil {
			return nil, nil, err
		}
	}
	proven := s.email
	if s.trust < guest.Verified && s.said.Code != s.email && !s.verify {
		proven = ""
	}
	s.signUp = a.SignUp(proven)
	return s, known, nil
}

// readHolder finds who holds the address.
func (s *situation) readHolder(tx guest.Tx) error {
	if s.email == "" {
		return nil
	}
	var held Identifier
	err := identifierKind.Get(tx, identifierKind.Key(string(s.email)), &held)
	if errors.Is(err, guest.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	s.provisioned = !held.IsProven()
	s.holder, err = standing(tx, held.User)
	return err
}

// standing reads a user who is one. Of one who was deleted nothing stands.
func standing(tx guest.Tx, id UserID) (*User, error) {
	user, err := ReadUser(tx, id)
	if errors.Is(err, guest.ErrNotFound) || err == nil && user.State == Deleted {
		return nil, nil
	}
	return user, err
}

// isOutdated reports whether a user's older sessions were ended since the
// arrival: so was all that was pending for them.
func (s *situation) isOutdated(a Arrival, about UserID) bool {
	began := a.Began
	if began.IsZero() {
		began = a.At
	}
	for _, user := range []*User{s.owner, s.holder, s.here} {
		if user != nil && user.ID == about && began.Before(user.SessionsFrom) {
			return true
		}
	}
	return false
}

// OwnerOf is who has a provider's account, empty where nobody who may sign in
// does.
func OwnerOf(tx guest.Tx, provider string, profile guest.Profile) (UserID, error) {
	known, err := readIdentity(tx, Identity{Provider: provider, Issuer: profile.Issuer, Subject: profile.Subject})
	if known == nil || err != nil {
		return "", err
	}
	user, err := standing(tx, known.User)
	if err != nil || user == nil || user.State != Active {
		return "", err
	}
	return user.ID, nil
}

// readIdentity reads the record of an account, nil where there is none.
func readIdentity(tx guest.Tx, wanted Identity) (*Identity, error) {
	var known Identity
	err := identityKind.Get(tx, identityKind.Key(string(wanted.Key())), &known)
	switch {
	case errors.Is(err, guest.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case known.Key() != wanted.Key():
		return nil, fmt.Errorf("reading identity: %w", errors.New("record is another's"))
	}
	return &known, nil
}

// address is the profile's address in canonical form, whatever it is worth.
// What is no address counts as none.
func address(p guest.Profile) Email {
	if p.EmailTrust == guest.NoEmail {
		return ""
	}
	email, err := ParseEmail(p.Email)
	if err != nil {
		return ""
	}
	return email
}

// login signs in the owner of a known identity. A changed address at the
// provider moves no identifier.
func (d Admitted) login(tx guest.Tx, a Arrival, user *User, known *Identity) (Admitted, error) {
	d.Person = Person{User: *user, Identity: *known}
	before := d.Person
	before.User.Groups = slices.Clone(before.User.Groups)
	refresh(&d.Person, a.Profile)
	if err := d.Person.User.stay(tx); err != nil {
		return d, err
	}
	// Most sign-ins change nothing, and a write is what others wait for.
	if reflect.DeepEqual(d.Person, before) {
		return d, nil
	}
	d.Changed = true
	return d, write(tx, &d.Person)
}

// stay keeps a user who was about to be deleted: the decision has asked them.
// The caller writes the user.
func (u *User) stay(tx guest.Tx) error {
	if u.State != Deleting {
		return nil
	}
	u.State = Active
	return schedule(tx, u, time.Time{})
}

// refresh takes over what the provider says of its own account. Apps read the
// name only for display; one that the person chose themselves stays.
func refresh(p *Person, profile guest.Profile) {
	p.Identity.Email = profile.Email
	p.Identity.Groups = slices.Clone(profile.Groups)
	if len(profile.Groups) == 0 {
		p.Identity.Groups = nil // as it is read back
	}
	if profile.Name != "" && !p.User.Named {
		p.User.Name = profile.Name
	}
	if profile.Picture != "" {
		p.User.Picture = profile.Picture
	}
}

func (d Admitted) create(tx guest.Tx, a Arrival, email Email) (Admitted, error) {
	if !d.Identifier {
		email = ""
	}
	id := newUserID()
	d.Person = Person{
		User: User{
			ID: id, State: Active, Email: email,
			Groups:  []string{Everybody, ExternalUsers},
			Created: a.At.UTC(), CreatedBy: a.Traits.Name,
		},
		Identity: a.linked(id, d.Row),
	}
	refresh(&d.Person, a.Profile)
	if email != "" {
		if err := identify(tx, email, Identifier{User: id, Proven: a.At.UTC(), By: a.provenBy(email)}); err != nil {
			return Admitted{}, err
		}
	}
	d.Created, d.User = true, id
	return d, link(tx, &d.Person)
}

func (a *Arrival) linked(user UserID, row string) Identity {
	return Identity{
		Provider: a.Traits.Name, Issuer: a.Profile.Issuer, Subject: a.Profile.Subject,
		User: user, Linked: a.At.UTC(), How: row,
	}
}

// provenBy is whose word proved the address: the provider's, or, where a code
// did, the mailbox's own.
func (a *Arrival) provenBy(email Email) string {
	if a.Said.Code == email {
		return ByMail
	}
	return a.Traits.Name
}

// ByMail is, in Identifier.By, a code or link that was mailed.
const ByMail = "mail"

// link connects the account to an existing user.
func (d Admitted) link(tx guest.Tx, a Arrival, s *situation) (Admitted, error) {
	user := s.holder
	if s.here != nil && d.User == s.here.ID {
		user = s.here
	}
	if full, err := isFull(tx, user.ID, accountKind, MaxAccounts); err != nil || full {
		return d, cmp.Or(err, ErrTooMany)
	}
	d.Person = Person{User: *user, Identity: a.linked(user.ID, d.Row)}
	d.Person.User.Groups = slices.Clone(user.Groups)
	name, picture := user.Name, user.Picture
	refresh(&d.Person, a.Profile)
	// Another account's word on how somebody is called does not replace what is
	// known of them.
	d.Person.User.Name, d.Person.User.Picture = cmp.Or(name, d.Person.User.Name), cmp.Or(picture, d.Person.User.Picture)
	d.Changed = true
	if err := d.Person.User.stay(tx); err != nil {
		return d, err
	}
	if d.Identifier {
		if err := d.prove(tx, a, s.email); err != nil {
			return d, err
		}
	}
	return d, link(tx, &d.Person)
}

// prove makes the address one of the user's. The first one, and one that was
// only provisioned until now, ends what is older: whoever came before may not
// have been its holder.
func (d *Admitted) prove(tx guest.Tx, a Arrival, email Email) error {
	user := &d.Person.User
	if full, err := isFull(tx, user.ID, addressKind, MaxAddresses); err != nil || full && d.Do != Claim {
		d.Identifier = false
		return err // connected all the same, without the address
	}
	if user.Email == "" {
		user.Email = email
		user.endSessions(a.At)
	}
	if d.Do == Claim {
		user.endSessions(a.At)
	}
	return identify(tx, email, Identifier{User: user.ID, Proven: a.At.UTC(), By: a.provenBy(email)})
}

// isFull reports whether a user has as many of a kind as they may have.
func isFull(tx guest.Tx, user UserID, kind interface{ Key(...string) []byte }, most int) (bool, error) {
	n := 0
	err := tx.Scan(kind.Key(string(user), ""), nil, most, func(_, _ []byte) bool {
		n++
		return true
	})
	return n >= most, err
}
