package identity_test

import (
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
)

// atOnce calls fn n times at once, and waits.
func atOnce(n int, fn func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { fn(i) })
	}
	all.Wait()
}

func TestFirstLogInThirtyTwoTimesAtOnceMakesOneUser(t *testing.T) {
	p := newPeople(t)
	ids, created := make([]identity.UserID, 32), make([]int, 32)
	atOnce(len(ids), func(i int) {
		admitted, err := admit(t, p.Store, arrival("ada", "ada@example.com", guest.Verified))
		if err != nil {
			t.Error(err)
		}
		ids[i] = admitted.Person.User.ID
		if admitted.Created {
			created[i] = 1
		}
	})
	if slices.Sort(created); created[30] != 0 || created[31] != 1 {
		t.Errorf("made by %v", created)
	}
	if slices.Sort(ids); len(slices.Compact(ids)) != 1 || len(p.check().users) != 1 {
		t.Errorf("users %q", ids)
	}
}

func TestTwoAccountsWithOneAddressAtOnceMakeOneHolder(t *testing.T) {
	p := newPeople(t)
	refused := make([]error, 16)
	atOnce(len(refused), func(i int) {
		a := arrival("subject "+strconv.Itoa(i), "ada@example.com", guest.Verified)
		a.Traits.Email = rules(true, false)
		_, refused[i] = admit(t, p.Store, a)
	})
	winners := 0
	for _, err := range refused {
		switch {
		case err == nil:
			winners++
		case !errors.Is(err, identity.ErrEmailInUse):
			t.Error(err)
		}
	}
	if winners != 1 || len(p.check().users) != 1 {
		t.Errorf("%d hold the address", winners)
	}
}

// Where accounts are merged, the second of two waits for a proof that it is the
// first one's.
func TestOfTwoAccountsAtOnceTheSecondIsAsked(t *testing.T) {
	p := newPeople(t)
	all := make([]identity.Admitted, 16)
	atOnce(len(all), func(i int) {
		var err error
		all[i], err = admit(t, p.Store, arrival("subject "+strconv.Itoa(i), "ada@example.com", guest.Verified))
		if err != nil {
			t.Error(err)
		}
	})
	winners := 0
	for _, admitted := range all {
		if admitted.Created {
			winners++
		} else if admitted.Needs != identity.ProofOfOwner {
			t.Errorf("%+v", admitted.Decision)
		}
	}
	v := p.check()
	if winners != 1 || len(v.users) != 1 || len(v.identities) != 1 {
		t.Errorf("%d came in, %d users, %d accounts", winners, len(v.users), len(v.identities))
	}
}

func TestProofsAtOnceMakeOneUser(t *testing.T) {
	p := newPeople(t)
	users := make([]identity.UserID, 32)
	atOnce(len(users), func(i int) {
		admitted, err := prove(p.Store, proof("ada@example.com"))
		if err != nil {
			t.Error(err)
		}
		users[i] = admitted.Person.User.ID
	})
	if slices.Sort(users); len(slices.Compact(users)) != 1 || len(p.check().users) != 1 {
		t.Errorf("made %q", users)
	}
}

// connecting is somebody signed in who has confirmed to connect an account.
func connecting(here identity.UserID, subject string) identity.Arrival {
	a := arrival(subject, "", guest.NoEmail)
	a.Intent, a.Here, a.Fresh, a.Said = identity.ToLink, here, true, identity.Said{Link: here}
	return a
}

func TestAccountConnectedByTwoAtOnceIsOnes(t *testing.T) {
	p := newPeople(t)
	for round := range 16 {
		subject := "account " + strconv.Itoa(round)
		ids := []identity.UserID{identity.UserID("ada" + strconv.Itoa(round)), identity.UserID("eve" + strconv.Itoa(round))}
		p.settle(ids[0], "own of "+string(ids[0]))
		p.settle(ids[1], "own of "+string(ids[1]))
		refused := make([]error, 2)
		atOnce(2, func(i int) { _, refused[i] = admit(t, p.Store, connecting(ids[i], subject)) })
		winner := slices.Index(refused, nil)
		if winner < 0 || !errors.Is(refused[1-winner], identity.ErrAlreadyLinked) {
			t.Fatalf("%v", refused)
		}
		if !slices.Contains(p.subjects(ids[winner]), subject) || slices.Contains(p.subjects(ids[1-winner]), subject) {
			t.Errorf("%q and %q", p.subjects(ids[0]), p.subjects(ids[1]))
		}
	}
	p.check()
}

// An account that is connected while its user is deleted is nobody's: nothing
// is left that leads to somebody who is none.
func TestNothingIsConnectedToWhoIsDeleted(t *testing.T) {
	p := newPeople(t)
	for round := range 16 {
		id, subject := identity.UserID("u"+strconv.Itoa(round)), "account "+strconv.Itoa(round)
		p.settle(id, "own of "+string(id), string(id)+"@example.com")
		atOnce(2, func(i int) {
			if i == 0 {
				_, err := admit(t, p.Store, connecting(id, subject))
				if err != nil && !identity.IsRefusal(err) {
					t.Error(err)
				}
				return
			}
			p.erase(id)
		})
		v := p.check()
		if got := v.identities[string(keyOf(subject))]; got.User == id {
			t.Errorf("%s was deleted and has %q", id, got.Subject)
		}
		if admitted, err := admit(t, p.Store, connecting(id, "late "+subject)); !errors.Is(err, identity.ErrOutdated) {
			t.Errorf("%+v, %v", admitted, err)
		}
	}
}

func keyOf(subject string) identity.IdentityKey {
	a := account(subject, noon)
	return a.Key()
}

func TestInvitationIsClaimedOnce(t *testing.T) {
	p := newPeople(t)
	var invited identity.User
	p.must(func(tx guest.Tx) (err error) {
		invited, err = identity.Provision(tx, identity.Invitation{Email: "ada@example.com", Groups: []string{"admins"}, At: noon})
		return err
	})
	all := make([]identity.Admitted, 16)
	atOnce(len(all), func(i int) {
		var err error
		if i%2 == 0 {
			all[i], err = admit(t, p.Store, arrival("subject "+strconv.Itoa(i), "ada@example.com", guest.Authoritative))
		} else {
			all[i], err = prove(p.Store, proof("ada@example.com"))
		}
		if err != nil {
			t.Error(err)
		}
	})
	claims := 0
	for i, admitted := range all {
		switch {
		case admitted.Do == identity.Claim && admitted.Needs == identity.Nothing:
			claims++
		case i%2 == 0 && admitted.Needs != identity.ConfirmLink, i%2 == 1 && admitted.Row != "F1":
			t.Errorf("%+v", admitted.Decision)
		}
	}
	v := p.check()
	if claims != 1 || len(v.users) != 1 || v.identifiers["ada@example.com"].User != invited.ID {
		t.Errorf("claimed %d times: %+v", claims, v.users)
	}
}

func TestNobodyConnectsMoreThanTwentyAccounts(t *testing.T) {
	p := newPeople(t)
	p.settle(ada, "ada@example.com")
	full := 0
	atOnce(identity.MaxAccounts+4, func(i int) {
		_, err := admit(t, p.Store, connecting(ada, "account "+strconv.Itoa(i)))
		if err != nil && !errors.Is(err, identity.ErrTooMany) {
			t.Error(err)
		}
	})
	if full = len(p.subjects(ada)); full != identity.MaxAccounts {
		t.Errorf("%d accounts", full)
	}
	// Nor by the way that merges.
	merged := arrival("one more", "ada@example.com", guest.Authoritative)
	merged.Traits.Email.Confirmation = "none"
	if _, err := admit(t, p.Store, merged); !errors.Is(err, identity.ErrTooMany) || !identity.IsRefusal(err) {
		t.Error(err)
	}
	if len(p.subjects(ada)) != full {
		t.Error("one more")
	}
}

// An account is connected all the same where its address is one too many.
func TestAddressBeyondTheLimitIsLeft(t *testing.T) {
	p := newPeople(t)
	ways := []string{"own"}
	for i := range identity.MaxAddresses {
		ways = append(ways, strconv.Itoa(i)+"@example.com")
	}
	p.settle(ada, ways...)
	a := connecting(ada, "with an address")
	a.Profile.Email, a.Profile.EmailTrust = "new@example.com", guest.Verified
	admitted := mustAdmit(t, p.Store, a)
	if admitted.Row != "B1" || admitted.Identifier {
		t.Errorf("%+v", admitted.Decision)
	}
	if len(p.emails(ada)) != identity.MaxAddresses || !slices.Contains(p.subjects(ada), "with an address") {
		t.Errorf("%q, %q", p.emails(ada), p.subjects(ada))
	}
}

func TestAccountOfWhoWasDeletedIsNew(t *testing.T) {
	p := newPeople(t)
	first := mustAdmit(t, p.Store, arrival("ada", "ada@example.com", guest.Verified)).Person.User.ID
	// Begun, and not gone through with yet: they are none already.
	p.must(func(tx guest.Tx) error { _, err := identity.Erase(tx, first, noon); return err })
	admitted := mustAdmit(t, p.Store, arrival("ada", "ada@example.com", guest.Verified))
	if admitted.Row != "E1" || admitted.Person.User.ID == first {
		t.Fatalf("%+v", admitted)
	}
	p.erase(first)
	v := p.check()
	if got := v.identifiers["ada@example.com"].User; got != admitted.Person.User.ID || len(v.identities) != 1 {
		t.Errorf("the old one took the address along: %q", got)
	}
	if again := mustAdmit(t, p.Store, arrival("ada", "ada@example.com", guest.Verified)); again.Row != "A1" {
		t.Errorf("%+v", again.Decision)
	}
}
