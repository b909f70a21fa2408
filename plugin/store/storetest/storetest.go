// Package storetest holds every promise of guest.Store, and of guest.Archive
// where a store is one, as tests that any store passes with one call:
//
//	func TestStore(t *testing.T) { storetest.Run(t, open) }
package storetest

import (
	"context"
	"testing"

	"github.com/caddy-login/caddy-login/module/guest"
)

// Open opens the store that lives at dir, with time.Now for its clock, and
// makes an empty one where there is none. Run gives each test a dir of its own
// and closes what it opens, so a store elsewhere (a database server) may take
// dir for the name of a schema. It fails the test where it cannot open.
type Open func(t *testing.T, dir string) guest.Store

// Run tests the store that open opens, each promise in a subtest named after
// it. It takes some seconds; the race detector finds more.
func Run(t *testing.T, open Open) {
	for _, group := range []struct {
		name     string
		promises []promise
	}{
		{"Tx", txPromises},
		{"Scan", scanPromises},
		{"View", viewPromises},
		{"Update", updatePromises},
		{"Serializability", serialPromises},
		{"Expiry", expiryPromises},
		{"Close", closePromises},
		{"Archive", archivePromises},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, p := range group.promises {
				t.Run(p.name, func(t *testing.T) { p.test(place{T: t, open: open, dir: t.TempDir()}) })
			}
		})
	}
}

type promise struct {
	name string
	test func(place)
}

// place is where one test's store lives, and what the test says to it. Its
// methods fail the test on any error, so that the tests read as stories.
type place struct {
	*testing.T
	open Open
	dir  string
}

// store opens the place and closes it when the test ends.
func (p place) store() store {
	s := p.openStore()
	p.Cleanup(func() { _ = s.Close() })
	return s
}

// openStore opens the place; the test closes it.
func (p place) openStore() store {
	p.Helper()
	s := p.open(p.T, p.dir)
	if s == nil {
		p.Fatal("open returned no store")
	}
	return store{Store: s, t: p.T}
}

type store struct {
	guest.Store
	t *testing.T
}

func (s store) update(fn func(tx)) {
	s.t.Helper()
	if err := s.tryUpdate(fn); err != nil {
		s.t.Fatalf("Update: %v", err)
	}
}

func (s store) tryUpdate(fn func(tx)) error {
	return s.Update(context.Background(), func(t guest.Tx) error {
		fn(tx{Tx: t, t: s.t})
		return nil
	})
}

func (s store) view(fn func(tx)) {
	s.t.Helper()
	err := s.View(context.Background(), func(t guest.Tx) error {
		fn(tx{Tx: t, t: s.t})
		return nil
	})
	if err != nil {
		s.t.Fatalf("View: %v", err)
	}
}

// has fails the test unless key holds want.
func (s store) has(key, want string) {
	s.t.Helper()
	s.view(func(t tx) { t.has(key, want) })
}

// lacks fails the test if key holds anything.
func (s store) lacks(key string) {
	s.t.Helper()
	s.view(func(t tx) { t.lacks(key) })
}
