package identity_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
)

func (p people) due(now time.Time) (ids []identity.UserID) {
	p.Helper()
	err := p.View(context.Background(), func(tx guest.Tx) (err error) {
		ids, err = identity.Due(tx, now, 10)
		return err
	})
	if err != nil {
		p.Fatal(err)
	}
	return ids
}

// erase returns how many transactions it took.
func (p people) erase(id identity.UserID) (calls int) {
	p.Helper()
	for more := true; more; calls++ {
		p.must(func(tx guest.Tx) (err error) {
			more, err = identity.Erase(tx, id, later)
			return err
		})
	}
	return calls
}

func begin(id identity.UserID, deletes time.Time) func(tx guest.Tx) error {
	return func(tx guest.Tx) error { _, err := identity.BeginDeletion(tx, id, noon, deletes); return err }
}

func stop(id identity.UserID, at time.Time) func(tx guest.Tx) error {
	return func(tx guest.Tx) error { _, err := identity.StopDeletion(tx, id, at); return err }
}

func TestDeletionEndsSessionsAndCanBeStopped(t *testing.T) {
	p := newPeople(t)
	p.settle(ada, "ada@example.com")
	p.must(begin(ada, later))
	if user := p.read(ada); user.State != identity.Deleting || !user.Deletes.Equal(later) || !user.SessionsFrom.Equal(noon) {
		t.Errorf("%+v", user)
	}
	p.refuses(identity.ErrState, begin(ada, later))
	p.must(stop(ada, later))
	if user := p.read(ada); user.State != identity.Active || !user.Deletes.IsZero() {
		t.Errorf("%+v", user)
	}
	if due := p.due(later.Add(24 * time.Hour)); len(due) != 0 {
		t.Errorf("due: %q", due)
	}
	p.refuses(identity.ErrState, stop(ada, later))
}

func TestLongestOverdueIsDueFirst(t *testing.T) {
	p := newPeople(t)
	for i, id := range []identity.UserID{"a", "b", "c", "d"} {
		p.settle(id)
		p.must(begin(id, later.Add(-time.Duration(i)*time.Minute)))
	}
	if due := p.due(later.Add(-time.Minute)); !slices.Equal(due, []identity.UserID{"d", "c", "b"}) {
		t.Errorf("due: %q", due)
	}
	if due := p.due(noon); len(due) != 0 {
		t.Errorf("due: %q", due)
	}
	err := p.View(context.Background(), func(tx guest.Tx) error {
		due, err := identity.Due(tx, later, 2)
		if !slices.Equal(due, []identity.UserID{"d", "c"}) {
			t.Errorf("the first two: %q", due)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A user is erased by their own record's word, not by a mark's.
func TestMarkOfAnotherTimeErasesNobody(t *testing.T) {
	p := newPeople(t)
	p.settle(ada)
	p.settle(eve)
	p.must(begin(eve, later.Add(24*time.Hour)))
	p.must(func(tx guest.Tx) error {
		for _, id := range []identity.UserID{ada, eve, "gone"} {
			at := binary.BigEndian.AppendUint64(nil, uint64(noon.Unix()))
			if err := identity.DeletionKind.Put(tx, identity.DeletionKind.Key(string(at), string(id)), struct{}{}, time.Time{}); err != nil {
				return err
			}
		}
		return nil
	})
	if due := p.due(later); len(due) != 0 {
		t.Errorf("due: %q", due)
	}
	if due := p.due(later.Add(24 * time.Hour)); !slices.Equal(due, []identity.UserID{eve}) {
		t.Errorf("due: %q", due)
	}
}

func TestOddDeadlinesAreDue(t *testing.T) {
	p := newPeople(t)
	for i, deletes := range []time.Time{{}, noon.Add(-time.Hour), time.Unix(-5, 0), noon.Add(900 * time.Millisecond)} {
		id := identity.UserID(fmt.Sprintf("u%d", i))
		p.settle(id)
		p.must(begin(id, deletes))
		if due := p.due(noon.Add(time.Second)); !slices.Contains(due, id) {
			t.Errorf("%s is not due: %q", deletes, due)
		}
	}
}

func TestEraseLeavesTheIDAlone(t *testing.T) {
	for _, state := range []identity.State{identity.Active, identity.Disabled, identity.Deleting} {
		t.Run(string(state), func(t *testing.T) {
			p := newPeople(t)
			p.settle(eve, "eve@example.com", "eve")
			before := p.everything()
			p.settle(ada, "ada@example.com", "b@example.com", "ada", "ada2")
			key := account("ada", noon)
			p.must(func(tx guest.Tx) error { return identity.KeepConsent(tx, key.Key(), []byte("sealed")) })
			switch state {
			case identity.Disabled:
				p.must(func(tx guest.Tx) error { _, err := identity.SetState(tx, ada, state, noon); return err })
			case identity.Deleting:
				p.must(begin(ada, later.Add(time.Hour)))
			}
			if calls := p.erase(ada); calls != 2 {
				t.Errorf("%d calls", calls)
			}
			if got := p.read(ada); !reflect.DeepEqual(*got, identity.User{ID: ada, State: identity.Deleted}) {
				t.Errorf("%+v", got)
			}
			rest := slices.DeleteFunc(p.everything(), func(r string) bool { return slices.Contains(before, r) })
			if len(rest) != 1 || !strings.HasPrefix(rest[0], "user/ada ") {
				t.Errorf("left: %q", rest)
			}
			if calls := p.erase(ada); calls != 1 {
				t.Errorf("again: %d calls", calls)
			}
		})
	}
}

func TestEraseOfBeforeTheIndex(t *testing.T) {
	p := newPeople(t)
	user := identity.User{ID: ada, State: identity.Active, Email: "ada@example.com"}
	old := identity.Address{Email: "ada@example.com", Identifier: identity.Identifier{Proven: noon}}
	p.must(func(tx guest.Tx) error { return identity.SettleOld(tx, user, account("ada", noon), old) })
	p.erase(ada)
	if rest := p.everything(); len(rest) != 1 {
		t.Errorf("left: %q", rest)
	}
}

func TestEraseKnowsWhoNeverWas(t *testing.T) {
	p := newPeople(t)
	for _, id := range []identity.UserID{"nobody", "", identity.UserID(strings.Repeat("x", 1000))} {
		p.refuses(guest.ErrNotFound, func(tx guest.Tx) error { _, err := identity.Erase(tx, id, noon); return err })
	}
}

// Between two calls everything may end; the user is none already.
func TestEraseThatWasBegunIsGoneThroughWith(t *testing.T) {
	p := newPeople(t)
	p.settle(ada, "ada@example.com", "ada")
	p.settle(eve, "eve@example.com")
	p.must(func(tx guest.Tx) error { _, err := identity.Erase(tx, ada, noon); return err })
	if due := p.due(noon); !slices.Equal(due, []identity.UserID{ada}) {
		t.Errorf("due: %q", due)
	}
	for _, q := range []identity.Query{{ID: ada}, {Email: "ada@example.com"}, {Provider: "corp", Subject: "ada"}} {
		if ids, _ := p.find(q); len(ids) != 0 {
			t.Errorf("%+v finds %q", q, ids)
		}
	}
	if got := p.subjects(ada); !slices.Equal(got, []string{"ada"}) {
		t.Errorf("nothing is left to revoke: %q", got)
	}
	p.refuses(guest.ErrNotFound, stop(ada, noon))

	// What she held is free, and stays its new owner's.
	p.must(add(eve, "ada@example.com"))
	one := account("ada", noon)
	user := p.read(eve)
	p.must(func(tx guest.Tx) error { return identity.Settle(tx, *user, []identity.Identity{one}, nil) })
	p.erase(ada)
	if due := p.due(later); len(due) != 0 {
		t.Errorf("due: %q", due)
	}
	if got := p.emails(eve); !slices.Equal(got, []string{"eve@example.com", "ada@example.com"}) {
		t.Errorf("%q", got)
	}
	if ids, _ := p.find(identity.Query{Provider: "corp", Subject: "ada"}); !slices.Equal(ids, []identity.UserID{eve}) {
		t.Errorf("found %q", ids)
	}
	p.check()
}

// However much somebody has, no transaction grows with it.
func TestEraseWorksInParts(t *testing.T) {
	p := newPeople(t)
	var ways []string
	for i := range 150 {
		ways = append(ways, fmt.Sprintf("s%d", i), fmt.Sprintf("a%d@example.com", i))
	}
	p.settle(ada, ways...)
	if calls := p.erase(ada); calls != 4 {
		t.Errorf("%d calls", calls)
	}
	if rest := p.everything(); len(rest) != 1 {
		t.Errorf("left: %d records", len(rest))
	}
}

func TestIsDue(t *testing.T) {
	user := identity.User{State: identity.Deleting, Deletes: later}
	if user.IsDue(noon) || !user.IsDue(later) || new(identity.User).IsDue(later) {
		t.Error("is due at another time than it says")
	}
}
