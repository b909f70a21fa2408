package identity_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/logintest"
)

func proof(email identity.Email) identity.Proof {
	return identity.Proof{Method: "email", Email: email, SignUp: everyone, At: noon}
}

func prove(store guest.Store, p identity.Proof) (admitted identity.Admitted, err error) {
	err = store.Update(context.Background(), func(tx guest.Tx) (err error) {
		admitted, err = identity.AdmitProof(tx, p)
		return err
	})
	return admitted, err
}

func mustProve(t *testing.T, store guest.Store, p identity.Proof) identity.Admitted {
	t.Helper()
	admitted, err := prove(store, p)
	if err != nil {
		t.Fatal(err)
	}
	return admitted
}

func TestF1SignsInWhoHoldsTheAddress(t *testing.T) {
	store := logintest.Store(t)
	ada := mustAdmit(t, store, arrival("ada", "ada@example.com", guest.Verified)).Person
	for range 2 {
		admitted := mustProve(t, store, proof("ada@example.com"))
		if admitted.Row != "F1" || admitted.Created || admitted.Person.User.ID != ada.User.ID {
			t.Fatalf("%+v; want F1 and Ada", admitted)
		}
		person := readPerson(t, store, admitted.Person)
		if person.Identity.Provider != "email" || person.User.Name != ada.User.Name {
			t.Errorf("read back %+v", person)
		}
	}
	// And the account she had goes on leading to her.
	if again := mustAdmit(t, store, arrival("ada", "ada@example.com", guest.Verified)); again.Person.User.ID != ada.User.ID {
		t.Errorf("her account became %s", again.Person.User.ID)
	}
}

func readPerson(t *testing.T, store guest.Store, p identity.Person) (person *identity.Person) {
	t.Helper()
	err := store.View(context.Background(), func(tx guest.Tx) (err error) {
		person, err = identity.ReadPerson(tx, p.User.ID, p.Identity.Key())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return person
}

func TestF2CreatesWithTheAddress(t *testing.T) {
	store := logintest.Store(t)
	admitted := mustProve(t, store, proof("ada@example.com"))
	user := admitted.Person.User
	if admitted.Row != "F2" || !admitted.Created || user.Email != "ada@example.com" || user.CreatedBy != "email" {
		t.Fatalf("%+v", admitted)
	}
	if !slices.Equal(user.Groups, []string{identity.Everybody}) {
		t.Errorf("groups %q", user.Groups)
	}
	// Now it is held: an account of somebody's with that address is not Ada yet.
	eve := arrival("eve", "ada@example.com", guest.Verified)
	if admitted := mustAdmit(t, store, eve); admitted.Needs != identity.ProofOfOwner || admitted.User != user.ID {
		t.Errorf("%+v; want a proof", admitted.Decision)
	}
	eve.Traits.Email = rules(true, false)
	if _, err := admit(t, store, eve); !errors.Is(err, identity.ErrEmailInUse) {
		t.Errorf("the address went to another account, too: %v", err)
	}
}

func TestF3CreatesNothing(t *testing.T) {
	store := logintest.Store(t)
	closed := proof("ada@example.com")
	closed.SignUp = nobody
	if admitted, err := prove(store, closed); !errors.Is(err, identity.ErrSignupDisabled) || admitted.Row != "F3" {
		t.Fatalf("row %s, %v", admitted.Row, err)
	}
	if again := mustProve(t, store, proof("ada@example.com")); !again.Created {
		t.Error("she was there already")
	}
}

func TestA2ShutsOutWhoIsDisabledAlsoWithACode(t *testing.T) {
	store := logintest.Store(t)
	user := mustProve(t, store, proof("ada@example.com")).Person.User
	user.State = identity.Disabled
	if err := store.Update(context.Background(), func(tx guest.Tx) error { return identity.WriteUser(tx, &user) }); err != nil {
		t.Fatal(err)
	}
	if admitted, err := prove(store, proof("ada@example.com")); !errors.Is(err, identity.ErrAccountDisabled) || admitted.Row != "A2" {
		t.Fatalf("row %s, %v", admitted.Row, err)
	}
}

func TestConsentIsKeptWithTheAccount(t *testing.T) {
	store := logintest.Store(t)
	account := mustAdmit(t, store, arrival("ada", "", guest.NoEmail)).Person.Identity
	key := account.Key()
	for _, sealed := range []string{"first", "second"} {
		if err := store.Update(context.Background(), func(tx guest.Tx) error { return identity.KeepConsent(tx, key, []byte(sealed)) }); err != nil {
			t.Fatal(err)
		}
		err := store.View(context.Background(), func(tx guest.Tx) error {
			got, err := identity.Consent(tx, key)
			if err == nil && string(got) != sealed {
				t.Errorf("kept %q, want %q", got, sealed)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// counting is a Tx that counts what is read.
type counting struct {
	guest.Tx
	reads int
}

func (c *counting) Get(key []byte) ([]byte, error) {
	c.reads++
	return c.Tx.Get(key)
}

// A name is found for everybody, the same each time, and by as much reading.
func TestStandInIsFoundAsAHolderIs(t *testing.T) {
	p := newPeople(t)
	holder := mustProve(t, p.Store, proof("known@example.com")).Person.User.ID
	p.settle(eve, "deleted@example.com")
	p.must(func(tx guest.Tx) error { _, err := identity.Erase(tx, eve, noon); return err })
	names := map[identity.UserID]bool{}
	for email, want := range map[identity.Email]identity.UserID{
		"known@example.com": holder, "deleted@example.com": "", "unknown@example.com": "", "another@example.com": "",
	} {
		for range 2 {
			p.must(func(tx guest.Tx) error {
				counted := &counting{Tx: tx}
				got, err := identity.HolderOrStandIn(counted, email)
				if want != "" && got != want || want == "" && len(got) != 26 || got == eve || got.IsStandIn() != (want == "") || counted.reads != 2 {
					t.Errorf("%s: %q after %d reads", email, got, counted.reads)
				}
				names[got] = true
				return err
			})
		}
	}
	if len(names) != 4 {
		t.Errorf("names %v", names)
	}
}

// How much of the store is read tells nobody whether an address is known.
func TestMayProveReadsTheSameOfEverybody(t *testing.T) {
	store := logintest.Store(t)
	mustProve(t, store, proof("known@example.com"))
	disabled := mustProve(t, store, proof("disabled@example.com")).Person.User
	disabled.State = identity.Disabled
	if err := store.Update(context.Background(), func(tx guest.Tx) error { return identity.WriteUser(tx, &disabled) }); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		email  identity.Email
		signUp func(identity.Email) bool
		want   bool
	}{
		{"known@example.com", nobody, true}, {"known@example.com", everyone, true},
		{"disabled@example.com", everyone, false},
		{"unknown@example.com", everyone, true}, {"unknown@example.com", nobody, false},
	} {
		err := store.View(context.Background(), func(tx guest.Tx) error {
			counted := &counting{Tx: tx}
			may, err := identity.MayProve(counted, c.email, c.signUp)
			if may != c.want || counted.reads != 2 {
				t.Errorf("%s may: %v after %d reads", c.email, may, counted.reads)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
