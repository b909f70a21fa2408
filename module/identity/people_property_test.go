package identity_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
)

// picture is all that the store holds of people, as one View saw it.
type picture struct {
	users       map[identity.UserID]identity.User
	identities  map[string]identity.Identity
	identifiers map[string]identity.Identifier
	// lists are the keys of the indices.
	lists map[string]bool
	// consents are the identities that have one.
	consents []string
}

func (p people) picture() *picture {
	p.Helper()
	v := &picture{map[identity.UserID]identity.User{}, map[string]identity.Identity{}, map[string]identity.Identifier{}, map[string]bool{}, nil}
	err := p.View(context.Background(), func(tx guest.Tx) error {
		var failed error
		errScan := tx.Scan(nil, nil, 0, func(key, value []byte) bool {
			failed = errors.Join(failed, v.add(string(key), value))
			return true
		})
		return errors.Join(failed, errScan)
	})
	if err != nil {
		p.Fatal(err)
	}
	return v
}

func (v *picture) add(key string, value []byte) error {
	kind, name, _ := strings.Cut(key, "/")
	switch kind {
	case "user":
		var user identity.User
		err := identity.UserKind.Decode(value, &user)
		v.users[user.ID] = user
		return err
	case "identity":
		var account identity.Identity
		err := identity.IdentityKind.Decode(value, &account)
		v.identities[name] = account
		return err
	case "identifier":
		var address identity.Identifier
		err := identity.IdentifierKind.Decode(value, &address)
		v.identifiers[name] = address
		return err
	case "account", "address", "subject", "deletion", "undo":
		v.lists[key] = true
	case "consent":
		v.consents = append(v.consents, name)
	default:
		return fmt.Errorf("a record of nobody's: %q", key)
	}
	return nil
}

// check fails the test where the records contradict each other.
func (p people) check() *picture {
	p.Helper()
	v := p.picture()
	right := map[string]bool{}
	listed := func(key []byte) {
		if right[string(key)] = true; !v.lists[string(key)] {
			p.Errorf("no index has %q", key)
		}
	}
	for name, address := range v.identifiers {
		if user, ok := v.users[address.User]; !ok || user.State == identity.Deleted && user.Deletes.IsZero() {
			p.Errorf("%s is %s's, who is none", name, address.User)
		}
		listed(identity.AddressKind.Key(string(address.User), name))
	}
	for key, account := range v.identities {
		if user, ok := v.users[account.User]; !ok || user.State == identity.Deleted && user.Deletes.IsZero() {
			p.Errorf("%s is %s's, who is none", account.Subject, account.User)
		}
		listed(identity.AccountKind.Key(string(account.User), key))
		listed(identity.SubjectKey(account))
	}
	for id, user := range v.users {
		if own := v.identifiers[string(user.Email)]; user.State != identity.Deleted && user.Email != "" && (own.User != id || !own.IsProven()) {
			p.Errorf("%s has the primary address %s, which is %+v", id, user.Email, own)
		}
		if !user.Deletes.IsZero() {
			listed(identity.DeletionKey(user))
		}
		if user.State == identity.Active && !user.Deletes.IsZero() || user.State == identity.Deleting && user.Deletes.IsZero() {
			p.Errorf("%s is %s and to be deleted at %s", id, user.State, user.Deletes)
		}
	}
	for key := range v.lists {
		if !right[key] && !v.isOfOneErased(key) && !strings.HasPrefix(key, "undo/") {
			p.Errorf("an index lists %q", key)
		}
	}
	for _, key := range v.consents {
		if _, ok := v.identities[key]; !ok {
			p.Errorf("a consent is kept without its account")
		}
	}
	return v
}

// isOfOneErased reports whether an index's key is of a user who is being erased:
// what it names may be another's by now.
func (v *picture) isOfOneErased(key string) bool {
	user := v.users[identity.UserID(strings.Split(key, "/")[1])]
	return user.State == identity.Deleted && !user.Deletes.IsZero()
}

// ways counts how a user could sign in.
func (v *picture) ways(user identity.UserID) (n int) {
	for _, account := range v.identities {
		if account.User == user && account.Issuer != "mailto" {
			n++
		}
	}
	for _, address := range v.identifiers {
		if address.User == user && address.IsProven() {
			n++
		}
	}
	return n
}

// act is one random change of somebody's.
func act(r *rand.Rand, ids []identity.UserID) func(tx guest.Tx) error {
	id := ids[r.IntN(len(ids))]
	email := identity.Email(fmt.Sprintf("a%d@example.com", r.IntN(12)))
	way := account(fmt.Sprintf("s%d", r.IntN(8)), noon)
	if r.IntN(3) == 0 {
		way = mailed(string(email))
	}
	at := noon.Add(time.Duration(r.IntN(10_000)) * time.Millisecond)
	s := everything()
	s.At = at
	switch r.IntN(14) {
	case 0, 1, 2:
		return func(tx guest.Tx) error { _, err := identity.AddAddress(tx, id, email, "email", at); return err }
	case 3, 4:
		return func(tx guest.Tx) error { _, err := identity.RemoveAddress(tx, id, email, s); return err }
	case 5:
		return func(tx guest.Tx) error { _, err := identity.SetPrimary(tx, id, email, at); return err }
	case 6, 7:
		return func(tx guest.Tx) error { _, err := identity.Unlink(tx, id, way.Key(), s); return err }
	case 8:
		return func(tx guest.Tx) error { return connect(tx, id, way) }
	case 9:
		return func(tx guest.Tx) error { _, err := identity.BeginDeletion(tx, id, at, at.Add(time.Second)); return err }
	case 10:
		return func(tx guest.Tx) error { _, err := identity.StopDeletion(tx, id, at); return err }
	case 11:
		state := []identity.State{identity.Active, identity.Disabled}[r.IntN(2)]
		return func(tx guest.Tx) error { _, err := identity.SetState(tx, id, state, at); return err }
	case 12:
		return func(tx guest.Tx) error {
			_, err := identity.Provision(tx, identity.Invitation{Email: email, At: at})
			return err
		}
	default:
		if r.IntN(4) > 0 {
			return func(tx guest.Tx) error { return nil }
		}
		return func(tx guest.Tx) error { _, err := identity.Erase(tx, id, at); return err }
	}
}

// connect is a sign-in that connects an account nobody has, with a consent.
func connect(tx guest.Tx, id identity.UserID, way identity.Identity) error {
	user, err := identity.ReadUser(tx, id)
	if err != nil {
		return err
	}
	_, err = tx.Get(identity.IdentityKind.Key(string(way.Key())))
	holds := identity.Query{Email: identity.Email(way.Subject)}
	if way.Issuer == "mailto" {
		holders, err := identity.Find(tx, holds)
		if err != nil || len(holders) == 0 || holders[0].ID != id {
			return err
		}
	}
	if user.State != identity.Active || !errors.Is(err, guest.ErrNotFound) {
		return nil
	}
	if err := identity.Settle(tx, *user, []identity.Identity{way}, nil); err != nil {
		return err
	}
	return identity.KeepConsent(tx, way.Key(), []byte("sealed"))
}

var refusals = []error{
	guest.ErrNotFound, identity.ErrLastWayIn, identity.ErrTooMany, identity.ErrEmailInUse, identity.ErrNotYours, identity.ErrState,
}

func isRefusal(err error) bool {
	for _, r := range refusals {
		if errors.Is(err, r) {
			return true
		}
	}
	return err == nil
}

func TestRecordsAgreeAfterWhateverWasDoneAtOnce(t *testing.T) {
	const rounds, hands, acts = 30, 8, 40
	p := newPeople(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	before := map[identity.UserID]int{}
	for round := range rounds {
		id := identity.UserID(fmt.Sprintf("u%02d", round))
		p.settle(id, fmt.Sprintf("account of %s", id), fmt.Sprintf("%s@example.com", id))
		v := p.picture()
		var ids []identity.UserID
		for id := range v.users {
			ids = append(ids, id)
		}
		var all sync.WaitGroup
		for hand := range hands {
			r := rand.New(rand.NewPCG(seed, uint64(round*hands+hand)))
			all.Go(func() {
				for range acts {
					if err := p.do(act(r, ids)); !isRefusal(err) {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		v = p.check()
		for id, user := range v.users {
			n := v.ways(id)
			if before[id] > 0 && n == 0 && user.State != identity.Deleted {
				t.Errorf("%s has no way in left", id)
			}
			before[id] = n
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	for id := range p.picture().users {
		p.erase(id)
	}
	for _, left := range p.everything() {
		if !strings.HasPrefix(left, "user/") || !strings.Contains(left, `"state":"deleted"`) || strings.Contains(left, "@") {
			t.Errorf("left: %q", left)
		}
	}
}
