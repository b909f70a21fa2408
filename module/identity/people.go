package identity

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/record"
)

// Limits of one user.
const (
	MaxAddresses = 10
	MaxAccounts  = 20

	maxGroups = 100
	maxGroup  = 128 // bytes
	maxName   = 100 // characters
)

// Reasons why a change to a user is refused, to be tested with errors.Is. A
// user, an address or an account that is not there is guest.ErrNotFound.
var (
	ErrLastWayIn = errors.New("without it nobody could sign in to the account")
	ErrTooMany   = errors.New("the user has as many as one may have")
	ErrNotYours  = errors.New("it is not the user's")
	ErrState     = errors.New("the user's state does not allow it")
	ErrName      = fmt.Errorf("a name has at most %d characters, all of them printable", maxName)
	ErrGroups    = fmt.Errorf("a user has at most %d groups, each of 1 to %d bytes without control characters", maxGroups, maxGroup)
)

// Surroundings are what decides which way in is the last one.
type Surroundings struct {
	// Offered reports whether an account of this provider instance and issuer
	// can be used to sign in at some site now. nil: none can.
	Offered func(provider, issuer string) bool
	// Codes is set where some site signs in by a code to a proven address.
	Codes bool
	// At is the time of the change.
	At time.Time
}

// Change is what a change to a user came to.
type Change struct {
	// User is the user after it. What is cached of them must be told to forget:
	// see session.Sessions.ForgetUser.
	User User
	// Email is the address it was about, Identity the account that is no more.
	Email    Email
	Identity Identity
	// Consent is what KeepConsent kept with Identity, still sealed.
	Consent []byte
}

// Invitation is what an operator knows of somebody who is still to come.
type Invitation struct {
	Email  Email
	Name   string   // as for Rename
	Groups []string // besides Everybody; as for SetGroups
	At     time.Time
}

// Provision makes a user who has not signed in yet. The address is theirs, but
// unproven: no app sees it, and only a proof of it makes somebody that user.
func Provision(tx guest.Tx, p Invitation) (User, error) {
	name, errName := TidyName(p.Name)
	groups, errGroups := tidyGroups(append([]string{Everybody}, p.Groups...))
	if err := errors.Join(checkEmail(p.Email), errName, errGroups); err != nil {
		return User{}, err
	}
	if _, err := heldBy(tx, p.Email); !errors.Is(err, guest.ErrNotFound) {
		return User{}, orInUse(err)
	}
	user := User{
		ID: newUserID(), State: Active, Name: name, Groups: groups,
		Created: p.At.UTC(), CreatedBy: Operator,
	}
	if err := identify(tx, p.Email, Identifier{User: user.ID, By: Operator}); err != nil {
		return User{}, err
	}
	return user, WriteUser(tx, &user)
}

// orInUse is what becomes of looking for the holder of an address that should
// have none.
func orInUse(err error) error {
	if err == nil {
		return ErrEmailInUse
	}
	return err
}

// checkEmail refuses what ParseEmail did not make.
func checkEmail(e Email) error {
	parsed, err := ParseEmail(string(e))
	if err == nil && parsed != e {
		return ErrEmail
	}
	return err
}

// SetState makes a user Active or Disabled. Disabling ends every session. A
// deletion that was begun stays so: it cannot be ended here (ErrState), and a
// user who is disabled meanwhile is deleted all the same.
func SetState(tx guest.Tx, id UserID, s State, at time.Time) (User, error) {
	user, err := existing(tx, id)
	if err != nil {
		return User{}, err
	}
	switch {
	case s == Disabled:
		user.State = Disabled
		user.endSessions(at)
	case s == Active && user.State == Disabled && !user.Deletes.IsZero():
		user.State = Deleting
	case s == Active && user.State != Deleting:
		user.State = Active
	default:
		return User{}, fmt.Errorf("making a user who is %s %s: %w", user.State, s, ErrState)
	}
	return *user, WriteUser(tx, user)
}

// SetGroups replaces the operator's groups of a user who is Active or
// Disabled. They are kept sorted, each once. ErrGroups refuses them all.
func SetGroups(tx guest.Tx, id UserID, groups []string) (User, error) {
	tidy, err := tidyGroups(groups)
	if err != nil {
		return User{}, err
	}
	user, err := inState(tx, id, Active, Disabled)
	if err != nil {
		return User{}, err
	}
	user.Groups = tidy
	return *user, WriteUser(tx, user)
}

// tidyGroups sorts groups. Nobody has none rather than an empty list.
func tidyGroups(groups []string) ([]string, error) {
	tidy := slices.Clone(groups)
	slices.Sort(tidy)
	tidy = slices.Compact(tidy)
	if len(tidy) > maxGroups || slices.ContainsFunc(tidy, isNoGroup) {
		return nil, ErrGroups
	}
	if len(tidy) == 0 {
		return nil, nil
	}
	return tidy, nil
}

func isNoGroup(group string) bool {
	return group == "" || len(group) > maxGroup || !utf8.ValidString(group) || strings.ContainsFunc(group, unicode.IsControl)
}

// Rename sets the display name of a user who is Active or Disabled, without
// the space around it. It may be empty: then a provider's may come back. ErrName
// refuses it.
func Rename(tx guest.Tx, id UserID, name string) (User, error) {
	tidy, err := TidyName(name)
	if err != nil {
		return User{}, err
	}
	user, err := inState(tx, id, Active, Disabled)
	if err != nil {
		return User{}, err
	}
	user.Name, user.Named = tidy, tidy != ""
	return *user, WriteUser(tx, user)
}

// TidyName is a name as it is kept, or ErrName for what is none.
func TidyName(name string) (string, error) {
	name = strings.TrimSpace(name)
	if !utf8.ValidString(name) || utf8.RuneCountInString(name) > maxName || strings.ContainsFunc(name, isNoLetterOfNames) {
		return "", ErrName
	}
	return name, nil
}

// isNoLetterOfNames refuses what is not seen. Marks that turn the direction of
// writing around could make a name look like another; the two joiners are part
// of how some languages spell.
func isNoLetterOfNames(c rune) bool {
	const nonJoiner, joiner = '\u200c', '\u200d'
	return !unicode.IsGraphic(c) && c != nonJoiner && c != joiner
}

// existing reads a user, or guest.ErrNotFound. What is left of one who was
// deleted is no user.
func existing(tx guest.Tx, id UserID) (*User, error) {
	if len(id) > maxUserID {
		return nil, fmt.Errorf("reading user: %w", guest.ErrNotFound)
	}
	user, err := ReadUser(tx, id)
	if err != nil {
		return nil, err
	}
	if user.State == Deleted {
		return nil, fmt.Errorf("reading user: %w", guest.ErrNotFound)
	}
	return user, nil
}

// maxUserID is more than an id has. A longer one, of a stranger's making, might
// be no key of the store's.
const maxUserID = 64

// inState reads a user who is in one of these states.
func inState(tx guest.Tx, id UserID, states ...State) (*User, error) {
	user, err := existing(tx, id)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(states, user.State) {
		return nil, fmt.Errorf("changing a user who is %s: %w", user.State, ErrState)
	}
	return user, nil
}

// endSessions ends all that began before at. It never goes back: sessions that
// an earlier change ended would come to life again.
func (u *User) endSessions(at time.Time) {
	if at.After(u.SessionsFrom) {
		u.SessionsFrom = at.UTC()
	}
}

// maxListed bounds what is read of one user's lists, which are shorter.
const maxListed = 256

// listed are the names of what an index lists of a user.
func listed(tx guest.Tx, index record.Kind, user UserID, limit int) (names []string, err error) {
	prefix := index.Key(string(user), "")
	err = tx.Scan(prefix, nil, limit, func(key, _ []byte) bool {
		names = append(names, string(key[len(prefix):]))
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", index.Name, err)
	}
	return names, nil
}
