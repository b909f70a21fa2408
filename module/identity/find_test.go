package identity_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
)

// meter is a Tx that counts what is read.
type meter struct {
	guest.Tx
	reads int
}

func (m *meter) Get(key []byte) ([]byte, error) {
	m.reads++
	return m.Tx.Get(key)
}

func (m *meter) Scan(prefix, from []byte, limit int, fn func(key, value []byte) bool) error {
	return m.Tx.Scan(prefix, from, limit, func(key, value []byte) bool {
		m.reads++
		return fn(key, value)
	})
}

// find returns the ids of who is found, and how much was read for it.
func (p people) find(q identity.Query) (ids []identity.UserID, reads int) {
	p.Helper()
	err := p.View(context.Background(), func(tx guest.Tx) error {
		m := &meter{Tx: tx}
		users, err := identity.Find(m, q)
		ids, reads = idsOf(users), m.reads
		return err
	})
	if err != nil {
		p.Fatal(err)
	}
	return ids, reads
}

func idsOf(users []identity.User) (ids []identity.UserID) {
	for _, user := range users {
		ids = append(ids, user.ID)
	}
	return ids
}

func TestFindReadsLittleAmongMany(t *testing.T) {
	p := newPeople(t)
	for i := range 200 {
		p.settle(identity.UserID(fmt.Sprintf("user%d", i)), fmt.Sprintf("u%d@example.com", i), fmt.Sprintf("s%d", i))
	}
	for _, q := range []identity.Query{{ID: "user7"}, {Email: "u7@example.com"}, {Provider: "corp", Subject: "s7"}} {
		if ids, reads := p.find(q); !slices.Equal(ids, []identity.UserID{"user7"}) || reads > 3 {
			t.Errorf("%+v finds %q after %d reads", q, ids, reads)
		}
	}
}

func TestFindKnowsNobodyElse(t *testing.T) {
	p := newPeople(t)
	p.settle(ada, "ada@example.com", "ada")
	for _, q := range []identity.Query{
		{ID: eve}, {ID: identity.UserID(strings.Repeat("x", 1000))}, {ID: "ada/x"}, {Email: "eve@example.com"},
		{Provider: "corp", Subject: "eve"}, {Provider: "cor", Subject: "pada"}, {Provider: "corp", Subject: strings.Repeat("x", 100_000)},
	} {
		if ids, _ := p.find(q); len(ids) != 0 {
			t.Errorf("%.60v finds %q", q, ids)
		}
	}
	for _, bad := range []identity.Query{
		{}, {Provider: "corp"}, {Subject: "ada"}, {ID: ada, Email: "ada@example.com"}, {ID: ada, Provider: "corp", Subject: "ada"},
	} {
		err := p.View(context.Background(), func(tx guest.Tx) error { _, err := identity.Find(tx, bad); return err })
		if err == nil {
			t.Errorf("%+v is a query", bad)
		}
	}
}

func TestFindByAccountFindsAllIssuers(t *testing.T) {
	p := newPeople(t)
	p.settle(ada, "ada")
	p.settle(eve)
	other := account("ada", noon)
	other.Issuer = "https://other.example.com"
	user := p.read(eve)
	p.must(func(tx guest.Tx) error { return identity.Settle(tx, *user, []identity.Identity{other}, nil) })
	ids, _ := p.find(identity.Query{Provider: "corp", Subject: "ada"})
	if slices.Sort(ids); !slices.Equal(ids, []identity.UserID{ada, eve}) {
		t.Errorf("found %q", ids)
	}
	// Both may be one person's.
	one := account("ada", noon)
	p.must(func(tx guest.Tx) error { return identity.Settle(tx, *user, []identity.Identity{one}, nil) })
	if ids, _ := p.find(identity.Query{Provider: "corp", Subject: "ada"}); !slices.Equal(ids, []identity.UserID{eve}) {
		t.Errorf("found %q", ids)
	}
}

// list walks all pages, and returns how much the costliest read.
func (p people) list(limit int) (ids []identity.UserID, costliest int) {
	p.Helper()
	for after, next := identity.UserID(""), identity.UserID("first"); next != ""; after = next {
		err := p.View(context.Background(), func(tx guest.Tx) (err error) {
			m := &meter{Tx: tx}
			var users []identity.User
			users, next, err = identity.Page(m, after, limit)
			ids, costliest = append(ids, idsOf(users)...), max(costliest, m.reads)
			if len(users) > limit {
				p.Errorf("%d users on a page of %d", len(users), limit)
			}
			return err
		})
		if err != nil {
			p.Fatal(err)
		}
	}
	return ids, costliest
}

func TestPagesHoldEverybodyOnceInOrder(t *testing.T) {
	p := newPeople(t)
	var want []identity.UserID
	for i := range 25 {
		id := identity.UserID(fmt.Sprintf("u%02d", i))
		p.settle(id, fmt.Sprintf("u%d@example.com", i))
		if i >= 4 && i < 20 {
			p.erase(id)
			continue
		}
		want = append(want, id)
	}
	for _, limit := range []int{1, 2, 3, 4, 9, 100, 1 << 62} {
		if got, cost := p.list(limit); !slices.Equal(got, want) || cost > 4*min(limit, 1000)+1 {
			t.Errorf("pages of %d: %q, %d reads", limit, got, cost)
		}
	}
}

func TestListEndsOnlyWhereNobodyFollows(t *testing.T) {
	p := newPeople(t)
	for i := range 12 {
		id := identity.UserID(fmt.Sprintf("u%02d", i))
		p.settle(id)
		if i > 0 && i < 11 {
			p.erase(id)
		}
	}
	var got []identity.UserID
	for {
		var page []identity.UserID
		after := append([]identity.UserID{""}, got...)[len(got)]
		err := p.View(context.Background(), func(tx guest.Tx) error {
			users, err := identity.List(tx, after, 1)
			page = idsOf(users)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		got = append(got, page...)
	}
	if !slices.Equal(got, []identity.UserID{"u00", "u11"}) {
		t.Errorf("listed %q", got)
	}
}

func TestListOfNothingIsEmpty(t *testing.T) {
	p := newPeople(t)
	p.settle(ada)
	for _, c := range []struct {
		after identity.UserID
		limit int
	}{{"", 0}, {"", -1}, {ada, 10}, {identity.UserID(strings.Repeat("a", 1000)), 10}} {
		err := p.View(context.Background(), func(tx guest.Tx) error {
			users, err := identity.List(tx, c.after, c.limit)
			if len(users) > 0 {
				t.Errorf("%+v lists %q", c, idsOf(users))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
