package identity_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
)

func add(id identity.UserID, e identity.Email) func(tx guest.Tx) error {
	return func(tx guest.Tx) error { _, err := identity.AddAddress(tx, id, e, "email", later); return err }
}

func remove(id identity.UserID, e identity.Email, s identity.Surroundings) func(tx guest.Tx) error {
	return func(tx guest.Tx) error { _, err := identity.RemoveAddress(tx, id, e, s); return err }
}

func setPrimary(id identity.UserID, e identity.Email) func(tx guest.Tx) error {
	return func(tx guest.Tx) error { _, err := identity.SetPrimary(tx, id, e, later); return err }
}

func TestAddressesAreInOrder(t *testing.T) {
	p := newPeople(t)
	user := identity.User{ID: ada, State: identity.Active, Email: "third@example.com"}
	at := func(email identity.Email, minutes int) identity.Address {
		return identity.Address{Email: email, Identifier: identity.Identifier{Proven: noon.Add(time.Duration(minutes) * time.Minute)}}
	}
	p.must(func(tx guest.Tx) error {
		return identity.Settle(tx, user, nil, []identity.Address{
			at("third@example.com", 3), at("zwei@example.com", 2), at("a@example.com", 4), at("eins@example.com", 1), {Email: "invited@example.com"},
		})
	})
	want := []string{"third@example.com", "eins@example.com", "zwei@example.com", "a@example.com", "invited@example.com"}
	if got := p.emails(ada); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestAddressOfBeforeTheIndexIsFoundAndRemoved(t *testing.T) {
	p := newPeople(t)
	user := identity.User{ID: ada, State: identity.Active, Email: "ada@example.com"}
	old := identity.Address{Email: "ada@example.com", Identifier: identity.Identifier{Proven: noon}}
	p.must(func(tx guest.Tx) error { return identity.SettleOld(tx, user, account("ada", noon), old) })
	if got := p.emails(ada); !slices.Equal(got, []string{"ada@example.com"}) {
		t.Fatalf("%q", got)
	}
	p.must(add(ada, "b@example.com"))
	p.must(setPrimary(ada, "b@example.com"))
	p.must(setPrimary(ada, "ada@example.com"))
	p.must(remove(ada, "ada@example.com", everything()))
	if got := p.emails(ada); !slices.Equal(got, []string{"b@example.com"}) {
		t.Errorf("%q", got)
	}
}

func TestFirstProvenAddressIsPrimaryAndEndsSessions(t *testing.T) {
	p := newPeople(t)
	p.settle(ada, "ada")
	p.must(add(ada, "ada@example.com"))
	if user := p.read(ada); user.Email != "ada@example.com" || !user.SessionsFrom.Equal(later) {
		t.Errorf("%+v", user)
	}
	if all := p.addresses(ada); !all[0].Proven.Equal(later) || all[0].By != "email" {
		t.Errorf("%+v", all)
	}
	before := p.read(ada).SessionsFrom
	p.must(func(tx guest.Tx) error {
		_, err := identity.AddAddress(tx, ada, "b@example.com", "email", later.Add(time.Hour))
		return err
	})
	if user := p.read(ada); user.Email != "ada@example.com" || !user.SessionsFrom.Equal(before) {
		t.Errorf("the second one: %+v", user)
	}
}

func TestAddressIsOnePersons(t *testing.T) {
	p := newPeople(t)
	p.settle(ada, "ada@example.com")
	p.settle(eve, "eve@example.com")
	p.must(func(tx guest.Tx) error {
		_, err := identity.Provision(tx, identity.Invitation{Email: "new@example.com", At: noon})
		return err
	})
	for _, taken := range []identity.Email{"ada@example.com", "new@example.com"} {
		p.refuses(identity.ErrEmailInUse, add(eve, taken))
	}
	for _, bad := range []identity.Email{"", "EVE@example.com", "a@b@c.de"} {
		p.refuses(identity.ErrEmail, add(eve, bad))
	}
	if got := p.emails(eve); !slices.Equal(got, []string{"eve@example.com"}) {
		t.Errorf("%q", got)
	}
}

func TestProvisionedAddressIsProvenByItsOwnUser(t *testing.T) {
	p := newPeople(t)
	var user identity.User
	p.must(func(tx guest.Tx) (err error) {
		user, err = identity.Provision(tx, identity.Invitation{Email: "ada@example.com", At: noon})
		return err
	})
	p.refuses(identity.ErrNotYours, setPrimary(user.ID, "ada@example.com"))
	p.must(add(user.ID, "ada@example.com"))
	if all := p.addresses(user.ID); len(all) != 1 || !all[0].Proven.Equal(later) || p.read(user.ID).Email != "ada@example.com" {
		t.Errorf("%+v", all)
	}
}

func TestAddressAddedAgainKeepsItsFirstProof(t *testing.T) {
	p := newPeople(t)
	p.settle(ada, "ada@example.com")
	p.must(add(ada, "ada@example.com"))
	if all := p.addresses(ada); len(all) != 1 || !all[0].Proven.Equal(noon) || all[0].By != "corp" {
		t.Errorf("%+v", all)
	}
	if !p.read(ada).SessionsFrom.IsZero() {
		t.Error("sessions were ended for nothing")
	}
}

func TestNobodyHasMoreThanTenAddresses(t *testing.T) {
	p := newPeople(t)
	p.settle(ada, "ada@example.com")
	for i := range identity.MaxAddresses - 1 {
		p.must(add(ada, identity.Email(fmt.Sprintf("a%d@example.com", i))))
	}
	p.refuses(identity.ErrTooMany, add(ada, "more@example.com"))
	p.must(add(ada, "a0@example.com")) // which she has
	p.must(remove(ada, "a0@example.com", everything()))
	p.must(add(ada, "more@example.com"))
}

func TestRemovedAddressIsFreeAtOnce(t *testing.T) {
	p := newPeople(t)
	p.settle(ada, "ada@example.com", "old@example.com", "b@example.com")
	p.settle(eve, "eve@example.com")
	user := p.read(ada)
	p.must(func(tx guest.Tx) error {
		return identity.Settle(tx, *user, []identity.Identity{mailed("ada@example.com"), mailed("b@example.com")}, nil)
	})
	var change identity.Change
	p.must(func(tx guest.Tx) (err error) {
		change, err = identity.RemoveAddress(tx, ada, "ada@example.com", everything())
		if err == nil {
			_, err = identity.AddAddress(tx, eve, "ada@example.com", "email", later)
		}
		return err
	})
	// The oldest of the others follows, and the way in by the address is gone.
	if user := p.read(ada); user.Email != "old@example.com" || !user.SessionsFrom.Equal(later) || change.User.Email != user.Email || change.Email != "ada@example.com" {
		t.Errorf("%+v after %+v", user, change)
	}
	if got := p.subjects(ada); !slices.Equal(got, []string{"b@example.com"}) {
		t.Errorf("accounts %q", got)
	}
	if got := p.emails(eve); !slices.Equal(got, []string{"eve@example.com", "ada@example.com"}) {
		t.Errorf("%q", got)
	}
	p.refuses(identity.ErrNotYours, remove(ada, "ada@example.com", everything()))
	p.refuses(identity.ErrNotYours, setPrimary(ada, "ada@example.com"))
}

func TestRemovingAnotherAddressLeavesThePrimaryOne(t *testing.T) {
	p := newPeople(t)
	p.settle(ada, "ada@example.com", "b@example.com")
	p.must(remove(ada, "b@example.com", everything()))
	if user := p.read(ada); user.Email != "ada@example.com" {
		t.Errorf("%+v", user)
	}
	p.refuses(guest.ErrNotFound, remove(ada, "b@example.com", everything()))
	p.refuses(guest.ErrNotFound, setPrimary(ada, "b@example.com"))
}

func TestPrimaryAddressIsChosenAmongOnesOwn(t *testing.T) {
	p := newPeople(t)
	p.settle(ada, "ada@example.com", "b@example.com")
	p.settle(eve, "eve@example.com")
	p.refuses(identity.ErrNotYours, setPrimary(ada, "eve@example.com"))
	p.must(setPrimary(ada, "ada@example.com"))
	if !p.read(ada).SessionsFrom.IsZero() {
		t.Error("sessions were ended for nothing")
	}
	p.must(setPrimary(ada, "b@example.com"))
	if user := p.read(ada); user.Email != "b@example.com" || !user.SessionsFrom.Equal(later) {
		t.Errorf("%+v", user)
	}
}
