package identity_test

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
)

// today is a time at which a store keeps what expires, and all of the people's
// ways in are older.
var today = slices.MaxFunc([]time.Time{time.Now().UTC().Truncate(time.Second), noon.Add(24 * time.Hour)}, time.Time.Compare)

// undoable makes a change that its mail's link takes back.
func (p people) undoable(id identity.UserID, at time.Time, change func(tx guest.Tx) error) (secret guest.Secret) {
	p.Helper()
	p.must(func(tx guest.Tx) error {
		undo, err := identity.Before(tx, id, "changed", "ada@example.com", at)
		if err != nil {
			return err
		}
		secret = identity.NewUndoSecret(id)
		return errors.Join(undo.Keep(tx, secret), change(tx))
	})
	return secret
}

func (p people) revert(secret guest.Secret, at time.Time) (taken []identity.Change) {
	p.Helper()
	p.must(func(tx guest.Tx) (err error) {
		_, taken, err = identity.Revert(tx, secret, at)
		return err
	})
	return taken
}

func revert(secret guest.Secret, at time.Time) func(tx guest.Tx) error {
	return func(tx guest.Tx) error { _, _, err := identity.Revert(tx, secret, at); return err }
}

// hijack is what somebody does who has come into ada's session: they add their
// own address, make it the primary one, take ada's away, and connect an account.
// It returns the secrets of the mails that ada got; the attacker got all but the
// first.
func (p people) hijack() (mails []guest.Secret) {
	p.Helper()
	const theirs = identity.Email("eve@example.org")
	minute := func(n int) time.Time { return today.Add(time.Duration(n) * time.Minute) }
	s := everything()
	s.At = minute(3)
	mails = append(mails,
		p.undoable(ada, minute(1), func(tx guest.Tx) error {
			_, err := identity.AddAddress(tx, ada, theirs, "mail", minute(1))
			return err
		}),
		p.undoable(ada, minute(2), func(tx guest.Tx) error {
			_, err := identity.SetPrimary(tx, ada, theirs, minute(2))
			return err
		}),
		p.undoable(ada, minute(3), remove(ada, "ada@example.com", s)),
	)
	connect := connecting(ada, "eve's account")
	connect.At = minute(4)
	mustAdmit(p.TB.(*testing.T), p.Store, connect)
	in := proof(theirs)
	in.At = minute(5)
	mustProve(p.TB.(*testing.T), p.Store, in)
	p.must(func(tx guest.Tx) error { return identity.KeepConsent(tx, keyOf("eve's account"), []byte("sealed")) })
	return mails
}

// hijacked is a store in which it has been done.
func hijacked(t *testing.T) (people, []guest.Secret) {
	p := newPeople(t)
	p.settle(ada, "ada's account", "ada@example.com", "second@example.com")
	return p, p.hijack()
}

func TestEachMailAlonePutsTheOwnerBack(t *testing.T) {
	for i, want := range [][]string{
		{"ada@example.com", "second@example.com"},
		{"ada@example.com", "second@example.com", "eve@example.org"},
		{"eve@example.org", "ada@example.com", "second@example.com"},
	} {
		p, mails := hijacked(t)
		if got := p.emails(ada); slices.Contains(got, "ada@example.com") || p.read(ada).Email != "eve@example.org" {
			t.Fatalf("not hijacked: %q", got)
		}
		at := today.Add(time.Hour)
		taken := p.revert(mails[i], at)
		user := p.read(ada)
		if got := p.emails(ada); !slices.Equal(got, want) || string(user.Email) != want[0] {
			t.Errorf("mail %d: %q, the primary one %s; want %q", i+1, got, user.Email, want)
		}
		if !user.SessionsFrom.Equal(at) {
			t.Errorf("mail %d: sessions from %s", i+1, user.SessionsFrom)
		}
		if got := p.subjects(ada); slices.Contains(got, "eve's account") || !slices.Contains(got, "ada's account") {
			t.Errorf("mail %d: accounts %q", i+1, got)
		}
		if got := p.subjects(ada); slices.Contains(got, "eve@example.org") != slices.Contains(want, "eve@example.org") {
			t.Errorf("mail %d: accounts %q", i+1, got)
		}
		if len(taken) != 1 || taken[0].Identity.Subject != "eve's account" || string(taken[0].Consent) != "sealed" {
			t.Errorf("mail %d: took %+v", i+1, taken)
		}
		in := proof("ada@example.com")
		in.At = at.Add(time.Minute)
		if admitted := mustProve(t, p.Store, in); admitted.Person.User.ID != ada {
			t.Errorf("mail %d: ada comes in as %s", i+1, admitted.Person.User.ID)
		}
		p.check()
	}
}

// Whose address was added since got mails as well. Once the owner has taken
// their change back, those bring nothing back.
func TestLaterMailsDieWithTheChangeTheyFollowed(t *testing.T) {
	p, mails := hijacked(t)
	p.revert(mails[0], today.Add(time.Hour))
	before := p.picture()
	for _, secret := range mails {
		p.refuses(identity.ErrOutdated, revert(secret, today.Add(2*time.Hour)))
	}
	if !reflect.DeepEqual(before, p.picture()) {
		t.Error("something was brought back")
	}
	out := proof("eve@example.org")
	out.At = today.Add(2 * time.Hour)
	if admitted := mustProve(t, p.Store, out); admitted.Person.User.ID == ada {
		t.Error("the attacker comes in")
	}
}

// What the attacker takes back first does not spoil the owner's mail.
func TestEarlierMailSurvivesALaterOne(t *testing.T) {
	for _, last := range []int{1, 2} {
		p, mails := hijacked(t)
		p.revert(mails[last], today.Add(time.Hour))
		p.revert(mails[0], today.Add(2*time.Hour))
		if got := p.emails(ada); !slices.Equal(got, []string{"ada@example.com", "second@example.com"}) {
			t.Errorf("%q", got)
		}
	}
}

func TestChangeIsTakenBackOnceAndForSevenDays(t *testing.T) {
	read := func(p people, secret guest.Secret, now time.Time) error {
		return p.View(context.Background(), func(tx guest.Tx) error {
			u, err := identity.ReadUndo(tx, secret, now)
			if err == nil && (u.User != ada || u.What != "changed" || u.Email != "ada@example.com") {
				t.Errorf("%+v", u)
			}
			return err
		})
	}
	p, mails := hijacked(t)
	begun := today.Add(3 * time.Minute)
	last := begun.Add(identity.Undoable)
	if err := read(p, mails[2], last.Add(-time.Nanosecond)); err != nil {
		t.Error(err)
	}
	if err := read(p, mails[2], last); !errors.Is(err, identity.ErrOutdated) {
		t.Error(err)
	}
	p.refuses(identity.ErrOutdated, revert(mails[2], last))
	p.revert(mails[2], last.Add(-time.Nanosecond))
	p.refuses(identity.ErrOutdated, revert(mails[2], last.Add(-time.Nanosecond)))
	p.refuses(identity.ErrOutdated, revert(mails[2], begun)) // also when the clock goes back
	if err := read(p, mails[2], begun); !errors.Is(err, identity.ErrOutdated) {
		t.Error(err)
	}
}

func TestChangeIsTakenBackByOneOfMany(t *testing.T) {
	p, mails := hijacked(t)
	failed := make([]error, 16)
	atOnce(len(failed), func(i int) { failed[i] = p.do(revert(mails[0], today.Add(time.Hour))) })
	winners := 0
	for _, err := range failed {
		switch {
		case err == nil:
			winners++
		case !errors.Is(err, identity.ErrOutdated):
			t.Error(err)
		}
	}
	if winners != 1 {
		t.Errorf("%d took it back", winners)
	}
}

func TestNothingIsTakenBackOfWhoMayNotSignIn(t *testing.T) {
	p, mails := hijacked(t)
	p.must(func(tx guest.Tx) error {
		_, err := identity.SetState(tx, ada, identity.Disabled, today.Add(time.Hour))
		return err
	})
	p.refuses(identity.ErrOutdated, revert(mails[0], today.Add(time.Hour)))
	p.must(func(tx guest.Tx) error {
		_, err := identity.SetState(tx, ada, identity.Active, today.Add(time.Hour))
		return err
	})
	// Of who is about to be deleted it is: the attacker may have begun that, too.
	p.must(begin(ada, today.Add(48*time.Hour)))
	p.revert(mails[1], today.Add(2*time.Hour))
	p.erase(ada)
	p.refuses(identity.ErrOutdated, revert(mails[0], today.Add(3*time.Hour)))
	for _, left := range p.everything() {
		if strings.HasPrefix(left, "undo/") || strings.Contains(left, "@") {
			t.Errorf("left: %q", left)
		}
	}
}

// An address that is somebody else's by now stays theirs; the owner has the
// oldest of the others in its place.
func TestAddressThatWentToAnotherStaysTheirs(t *testing.T) {
	for name, take := range map[string]func(p people){
		"proven": func(p people) { mustProve(t, p.Store, proof("ada@example.com")) },
		"provisioned": func(p people) {
			p.must(func(tx guest.Tx) error {
				_, err := identity.Provision(tx, identity.Invitation{Email: "ada@example.com", At: noon})
				return err
			})
		},
	} {
		p, mails := hijacked(t)
		take(p)
		was := p.picture().identifiers["ada@example.com"]
		p.revert(mails[0], today.Add(time.Hour))
		if got := p.check().identifiers["ada@example.com"]; got != was || got.User == ada {
			t.Errorf("%s: %+v", name, got)
		}
		if got := p.read(ada).Email; got != "second@example.com" {
			t.Errorf("%s: the primary one is %q", name, got)
		}
	}
}

// What was only provisioned comes back as that: nobody has proven it.
func TestProvisionedAddressComesBackUnproven(t *testing.T) {
	p := newPeople(t)
	p.must(func(tx guest.Tx) error {
		user := identity.User{ID: ada, State: identity.Active}
		return identity.Settle(tx, user, []identity.Identity{account("own", noon)}, []identity.Address{
			{Email: "ada@example.com", Identifier: identity.Identifier{By: identity.Operator}},
		})
	})
	s := everything()
	s.At = today
	p.revert(p.undoable(ada, today, remove(ada, "ada@example.com", s)), today.Add(time.Hour))
	all := p.addresses(ada)
	if len(all) != 1 || all[0].IsProven() || p.read(ada).Email != "" {
		t.Errorf("%+v", all)
	}
	p.check()
}

// Whoever makes many changes can't make taking them back too much at once.
func TestChangesThatCanBeTakenBackAreBounded(t *testing.T) {
	const most = 64
	p := newPeople(t)
	p.settle(ada, "own", "ada@example.com", "b@example.com")
	var first guest.Secret
	for i := range most {
		e := []identity.Email{"b@example.com", "ada@example.com"}[i%2]
		secret := p.undoable(ada, today.Add(time.Duration(i)*time.Second), setPrimary(ada, e))
		if i == 0 {
			first = secret
		}
	}
	before := func(at time.Time) func(tx guest.Tx) error {
		return func(tx guest.Tx) error { _, err := identity.Before(tx, ada, "x", "b@example.com", at); return err }
	}
	p.refuses(identity.ErrTooMany, before(today.Add(time.Hour)))
	p.must(before(today.Add(identity.Undoable).Add(time.Minute)))
	p.revert(first, today.Add(time.Hour))
	p.must(before(today.Add(time.Hour)))
	if p.read(ada).Email != "ada@example.com" {
		t.Error("not taken back")
	}
}

func TestSecretOfAChangeIsKeptNowhereAndGuessedByNobody(t *testing.T) {
	p, mails := hijacked(t)
	for _, left := range p.everything() {
		for _, secret := range mails {
			if _, random, _ := strings.Cut(string(secret), "."); strings.Contains(left, random) {
				t.Error("the store has a secret")
			}
		}
	}
	_, random, _ := strings.Cut(string(mails[0]), ".")
	if len(random) != 43 || mails[0] == mails[1] {
		t.Errorf("%d characters of chance", len(random))
	}
	wrong := []string{"", ".", "ada", "ada.", "ada/", random, "eve." + random, "ada." + random + "A", "ada." + random[1:], strings.Repeat("x", 1<<16), "\x00.\xff"}
	for i, secret := range wrong {
		if err := p.do(revert(guest.Secret(secret), today)); !errors.Is(err, identity.ErrOutdated) {
			t.Errorf("wrong secret %s: %v", strconv.Itoa(i), err)
		}
	}
}
