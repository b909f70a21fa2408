package identity_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/logintest"
)

const (
	ada = identity.UserID("ada")
	eve = identity.UserID("eve")

	issuer = "https://id.example.com"
)

var later = noon.Add(time.Hour)

// people is a store with people in it.
type people struct {
	testing.TB
	guest.Store
}

func newPeople(t testing.TB) people { return people{t, logintest.Store(t)} }

func (p people) do(fn func(tx guest.Tx) error) error { return p.Update(context.Background(), fn) }

func (p people) must(fn func(tx guest.Tx) error) {
	p.Helper()
	if err := p.do(fn); err != nil {
		p.Fatal(err)
	}
}

// refuses fails the test unless fn ends in this error.
func (p people) refuses(want error, fn func(tx guest.Tx) error) {
	p.Helper()
	if err := p.do(fn); !errors.Is(err, want) {
		p.Errorf("%v; want %v", err, want)
	}
}

// settle writes an active user. A word with an @ is a proven address, the first
// one the primary; any other a subject at the provider corp.
func (p people) settle(id identity.UserID, ways ...string) {
	p.Helper()
	user := identity.User{ID: id, State: identity.Active, Created: noon, CreatedBy: "corp"}
	var accounts []identity.Identity
	var addresses []identity.Address
	for i, way := range ways {
		at := noon.Add(time.Duration(i) * time.Minute)
		if !strings.Contains(way, "@") {
			accounts = append(accounts, account(way, at))
			continue
		}
		if user.Email == "" {
			user.Email = identity.Email(way)
		}
		addresses = append(addresses, identity.Address{
			Email: identity.Email(way), Identifier: identity.Identifier{Proven: at, By: "corp"},
		})
	}
	p.must(func(tx guest.Tx) error { return identity.Settle(tx, user, accounts, addresses) })
}

func account(subject string, linked time.Time) identity.Identity {
	return identity.Identity{Provider: "corp", Issuer: issuer, Subject: subject, Linked: linked}
}

// mailed is the way in by a code to an address.
func mailed(address string) identity.Identity {
	return identity.Identity{Provider: "email", Issuer: "mailto", Subject: address, Linked: noon}
}

func (p people) read(id identity.UserID) (user *identity.User) {
	p.Helper()
	err := p.View(context.Background(), func(tx guest.Tx) (err error) {
		user, err = identity.ReadUser(tx, id)
		return err
	})
	if err != nil {
		p.Fatal(err)
	}
	return user
}

func (p people) addresses(id identity.UserID) (all []identity.Address) {
	p.Helper()
	err := p.View(context.Background(), func(tx guest.Tx) (err error) {
		all, err = identity.Addresses(tx, id)
		return err
	})
	if err != nil {
		p.Fatal(err)
	}
	return all
}

func (p people) emails(id identity.UserID) (all []string) {
	p.Helper()
	for _, a := range p.addresses(id) {
		all = append(all, string(a.Email))
	}
	return all
}

func (p people) subjects(id identity.UserID) (all []string) {
	p.Helper()
	err := p.View(context.Background(), func(tx guest.Tx) error {
		accounts, err := identity.Accounts(tx, id)
		all = nil
		for _, a := range accounts {
			all = append(all, a.Subject)
		}
		return err
	})
	if err != nil {
		p.Fatal(err)
	}
	return all
}

// everything offers all providers, and codes.
func everything() identity.Surroundings {
	return identity.Surroundings{Offered: func(_, _ string) bool { return true }, Codes: true, At: later}
}

func TestProvisionedUserHasTheAddressUnproven(t *testing.T) {
	p := newPeople(t)
	var user identity.User
	p.must(func(tx guest.Tx) (err error) {
		user, err = identity.Provision(tx, identity.Invitation{Email: "ada@example.com", Name: " Ada ", Groups: []string{"staff", "admins"}, At: noon})
		return err
	})
	want := identity.User{
		ID: user.ID, State: identity.Active, Name: "Ada", Groups: []string{"admins", identity.Everybody, "staff"},
		Created: noon, CreatedBy: identity.Operator,
	}
	if got := p.read(user.ID); !reflect.DeepEqual(*got, want) || !reflect.DeepEqual(user, want) {
		t.Errorf("%+v", got)
	}
	if all := p.addresses(user.ID); len(all) != 1 || all[0].IsProven() || all[0].By != identity.Operator || all[0].Email != "ada@example.com" {
		t.Errorf("addresses %+v", all)
	}
	err := p.View(context.Background(), func(tx guest.Tx) error {
		proven, err := identity.ProvenAddresses(tx, user.ID)
		if len(proven) != 0 {
			t.Errorf("mail would go to %q", proven)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestProvisionRefusesAnAddressThatSomebodyHolds(t *testing.T) {
	p := newPeople(t)
	p.settle(ada, "ada@example.com")
	invite := func(email identity.Email) func(tx guest.Tx) error {
		return func(tx guest.Tx) error {
			_, err := identity.Provision(tx, identity.Invitation{Email: email, At: noon})
			return err
		}
	}
	p.refuses(identity.ErrEmailInUse, invite("ada@example.com"))
	p.must(invite("eve@example.com"))
	p.refuses(identity.ErrEmailInUse, invite("eve@example.com"))
	for _, bad := range []identity.Email{"", "Ada@example.com", "ada"} {
		p.refuses(identity.ErrEmail, invite(bad))
	}
}

func TestProvisionChecksNameAndGroups(t *testing.T) {
	p := newPeople(t)
	p.refuses(identity.ErrName, func(tx guest.Tx) error {
		_, err := identity.Provision(tx, identity.Invitation{Email: "ada@example.com", Name: "a\u202eb", At: noon})
		return err
	})
	p.refuses(identity.ErrGroups, func(tx guest.Tx) error {
		_, err := identity.Provision(tx, identity.Invitation{Email: "ada@example.com", Groups: []string{""}, At: noon})
		return err
	})
}

func TestDisablingEndsSessionsAndEnablingRevivesNone(t *testing.T) {
	p := newPeople(t)
	p.settle(ada, "ada@example.com")
	set := func(s identity.State, at time.Time) func(tx guest.Tx) error {
		return func(tx guest.Tx) error { _, err := identity.SetState(tx, ada, s, at); return err }
	}
	p.must(set(identity.Disabled, later))
	if user := p.read(ada); user.State != identity.Disabled || !user.SessionsFrom.Equal(later) {
		t.Errorf("%+v", user)
	}
	p.must(set(identity.Active, later.Add(time.Hour)))
	if user := p.read(ada); user.State != identity.Active || !user.SessionsFrom.Equal(later) {
		t.Errorf("%+v", user)
	}
	// A clock that was set back revives none either.
	p.must(set(identity.Disabled, noon))
	if user := p.read(ada); !user.SessionsFrom.Equal(later) {
		t.Errorf("sessions from %s", user.SessionsFrom)
	}
	for _, bad := range []identity.State{"", identity.Deleting, identity.Deleted, "king"} {
		p.refuses(identity.ErrState, set(bad, later))
	}
}

func TestDisablingDoesNotStopADeletion(t *testing.T) {
	p := newPeople(t)
	p.settle(ada, "ada@example.com")
	p.must(func(tx guest.Tx) error { _, err := identity.BeginDeletion(tx, ada, noon, later); return err })
	set := func(s identity.State) func(tx guest.Tx) error {
		return func(tx guest.Tx) error { _, err := identity.SetState(tx, ada, s, noon); return err }
	}
	p.refuses(identity.ErrState, set(identity.Active))
	p.must(set(identity.Disabled))
	if due := p.due(later); !slices.Equal(due, []identity.UserID{ada}) {
		t.Errorf("due: %q", due)
	}
	p.must(set(identity.Active))
	if user := p.read(ada); user.State != identity.Deleting || !user.Deletes.Equal(later) {
		t.Errorf("%+v", user)
	}
}

func TestGroupsAreSortedAndBounded(t *testing.T) {
	p := newPeople(t)
	p.settle(ada, "ada@example.com")
	set := func(groups ...string) func(tx guest.Tx) error {
		return func(tx guest.Tx) error { _, err := identity.SetGroups(tx, ada, groups); return err }
	}
	given := []string{"b", "a", "b", "ü, x"}
	p.must(set(given...))
	if got := p.read(ada).Groups; !slices.Equal(got, []string{"a", "b", "ü, x"}) {
		t.Errorf("%q", got)
	}
	if given[0] != "b" {
		t.Error("the caller's list was sorted")
	}
	for _, bad := range []string{"", "a\nb", "\x00", "\x7f", "\u0085", "\xff", strings.Repeat("a", 129)} {
		p.refuses(identity.ErrGroups, set("a", bad))
	}
	var many []string
	for i := range 101 {
		many = append(many, fmt.Sprint(i))
	}
	p.refuses(identity.ErrGroups, set(many...))
	p.must(set(many[:100]...))
	p.must(set())
	if got := p.read(ada).Groups; got != nil {
		t.Errorf("%q", got)
	}
}

func TestNamesAreSeen(t *testing.T) {
	p := newPeople(t)
	p.settle(ada, "ada@example.com")
	rename := func(name string) func(tx guest.Tx) error {
		return func(tx guest.Tx) error { _, err := identity.Rename(tx, ada, name); return err }
	}
	for in, want := range map[string]string{
		" Ada\t": "Ada", "": "", "山田\u3000太郎": "山田\u3000太郎", "می\u200cخواهم": "می\u200cخواهم",
		strings.Repeat("ü", 100): strings.Repeat("ü", 100), "<b>{env.HOME}</b>": "<b>{env.HOME}</b>",
	} {
		p.must(rename(in))
		if got := p.read(ada); got.Name != want || got.Named != (want != "") {
			t.Errorf("%q becomes %q", in, got.Name)
		}
	}
	for _, bad := range []string{"a\nb", "a\x00", "\u202eada", "a\u2066b", "\xff", strings.Repeat("ü", 101), "a\u2028b"} {
		p.refuses(identity.ErrName, rename(bad))
	}
}

// What may be done to a user who is not Active.
func TestStateDecidesWhatMayBeDone(t *testing.T) {
	p := newPeople(t)
	p.settle(ada, "ada@example.com", "b@example.com", "ada", "ada2")
	one := account("ada", noon)
	key := one.Key()
	operations := map[string]func(tx guest.Tx) error{
		"groups": func(tx guest.Tx) error { _, err := identity.SetGroups(tx, ada, nil); return err },
		"rename": func(tx guest.Tx) error { _, err := identity.Rename(tx, ada, "x"); return err },
		"add": func(tx guest.Tx) error {
			_, err := identity.AddAddress(tx, ada, "c@example.com", "email", noon)
			return err
		},
		"remove": func(tx guest.Tx) error {
			_, err := identity.RemoveAddress(tx, ada, "b@example.com", everything())
			return err
		},
		"primary": func(tx guest.Tx) error { _, err := identity.SetPrimary(tx, ada, "b@example.com", noon); return err },
		"unlink":  func(tx guest.Tx) error { _, err := identity.Unlink(tx, ada, key, everything()); return err },
		"begin":   func(tx guest.Tx) error { _, err := identity.BeginDeletion(tx, ada, noon, later); return err },
		"stop":    func(tx guest.Tx) error { _, err := identity.StopDeletion(tx, ada, noon); return err },
		"disable": func(tx guest.Tx) error { _, err := identity.SetState(tx, ada, identity.Disabled, noon); return err },
	}
	undo := errors.New("undo")
	for state, allowed := range map[identity.State]string{
		identity.Active:   "groups rename add remove primary unlink begin disable",
		identity.Disabled: "groups rename disable",
		identity.Deleting: "stop disable",
		"":                "disable",
	} {
		user := p.read(ada)
		user.State = state
		p.must(func(tx guest.Tx) error { return identity.WriteUser(tx, user) })
		for name, operation := range operations {
			want := identity.ErrState
			if slices.Contains(strings.Fields(allowed), name) {
				want = undo
			}
			err := p.do(func(tx guest.Tx) error { return errors.Join(operation(tx), undo) })
			if errors.Is(err, identity.ErrState) != (want == identity.ErrState) {
				t.Errorf("%s of a user who is %q: %v", name, state, err)
			}
		}
	}
	p.erase(ada)
	for name, operation := range operations {
		if err := p.do(operation); !errors.Is(err, guest.ErrNotFound) {
			t.Errorf("%s of a deleted user: %v", name, err)
		}
	}
}
