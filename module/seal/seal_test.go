package seal_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/seal"
)

func load(t testing.TB, store guest.Store, clock *logintest.Clock) *seal.Ring {
	t.Helper()
	ring, err := seal.Load(context.Background(), store, clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func sealed(t testing.TB, ring *seal.Ring, purpose, plain string) string {
	t.Helper()
	s, err := ring.Seal(purpose, []byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSealedOpensForItsPurposeOnly(t *testing.T) {
	ring := load(t, logintest.Store(t), new(logintest.Clock))
	s := sealed(t, ring, "session", "the id")
	if plain, err := ring.Open("session", s); err != nil || string(plain) != "the id" {
		t.Fatalf("%q, %v", plain, err)
	}
	for _, purpose := range []string{"", "attempt", "session|1", "Session"} {
		if _, err := ring.Open(purpose, s); !errors.Is(err, seal.ErrSeal) {
			t.Errorf("opens for %q: %v", purpose, err)
		}
	}
}

func TestSealLeavesWhatItSealsAlone(t *testing.T) {
	ring := load(t, logintest.Store(t), new(logintest.Clock))
	plain := []byte("the id")
	if _, err := ring.Seal("session", plain); err != nil || string(plain) != "the id" {
		t.Errorf("%q, %v", plain, err)
	}
}

func TestKeysOutliveARestartAndOneRotation(t *testing.T) {
	store, clock := logintest.Store(t), new(logintest.Clock)
	ring := load(t, store, clock)
	s, tag := sealed(t, ring, "p", "x"), ring.Tag("p", "name")
	rotate := func() {
		clock.Advance(2 * time.Hour)
		if err := ring.Rotate(context.Background(), time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range []*seal.Ring{ring, load(t, store, clock)} {
		if _, err := r.Open("p", s); err != nil || !r.Tagged("p", "name", tag) {
			t.Error("does not open before a rotation")
		}
	}
	rotate()
	for _, r := range []*seal.Ring{ring, load(t, store, clock)} {
		if _, err := r.Open("p", s); err != nil || !r.Tagged("p", "name", tag) {
			t.Error("does not open after one rotation")
		}
	}
	if string(ring.Tag("p", "name")) == string(tag) {
		t.Error("the key did not change")
	}
	rotate()
	if _, err := ring.Open("p", s); !errors.Is(err, seal.ErrSeal) || ring.Tagged("p", "name", tag) {
		t.Error("opens after two rotations")
	}
}

func TestYoungKeysStay(t *testing.T) {
	clock := new(logintest.Clock)
	ring := load(t, logintest.Store(t), clock)
	tag := ring.Tag("p", "name")
	clock.Advance(time.Hour)
	if err := ring.Rotate(context.Background(), time.Hour); err != nil || string(ring.Tag("p", "name")) != string(tag) {
		t.Errorf("changed, %v", err)
	}
}

func TestOtherStoresKeysDoNotOpen(t *testing.T) {
	clock := new(logintest.Clock)
	a, b := load(t, logintest.Store(t), clock), load(t, logintest.Store(t), clock)
	if _, err := b.Open("p", sealed(t, a, "p", "x")); !errors.Is(err, seal.ErrSeal) {
		t.Error(err)
	}
}

// What opens was sealed, and in this very spelling; any flipped bit is refused.
func FuzzOpen(f *testing.F) {
	ring := load(f, logintest.Store(f), new(logintest.Clock))
	s := sealed(f, ring, "p", "the id")
	f.Add(s, uint(0))
	f.Add(s, uint(977))
	f.Add("", uint(1))
	f.Add(s[:len(s)-1]+"=", uint(3))
	f.Fuzz(func(t *testing.T, other string, bit uint) {
		if _, err := ring.Open("p", other); (err == nil) != (other == s) {
			t.Fatalf("%q: %v", other, err)
		}
		flipped := []byte(s)
		flipped[bit/8%uint(len(s))] ^= 1 << (bit % 8)
		if _, err := ring.Open("p", string(flipped)); err == nil {
			t.Fatalf("bit %d flipped opens", bit)
		}
	})
}

func TestSealedAtRestOpensInItsPlaceForGood(t *testing.T) {
	store, clock := logintest.Store(t), new(logintest.Clock)
	ring := load(t, store, clock)
	s := ring.SealAtRest("grant/1", []byte("the token"))
	for range 3 {
		clock.Advance(2 * time.Hour)
		if err := ring.Rotate(context.Background(), time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	ring = load(t, store, clock)
	if plain, err := ring.OpenAtRest("grant/1", s); err != nil || string(plain) != "the token" {
		t.Fatalf("%q, %v", plain, err)
	}
	if _, err := ring.OpenAtRest("grant/2", s); !errors.Is(err, seal.ErrSeal) {
		t.Errorf("opens elsewhere: %v", err)
	}
	for i := range s {
		bent := append([]byte(nil), s...)
		bent[i] ^= 1
		if _, err := ring.OpenAtRest("grant/1", bent); !errors.Is(err, seal.ErrSeal) {
			t.Fatalf("opens with byte %d changed: %v", i, err)
		}
	}
	if _, err := ring.OpenAtRest("grant/1", nil); !errors.Is(err, seal.ErrSeal) {
		t.Errorf("opens nothing: %v", err)
	}
}

// Renew is for a store that somebody else may have a copy of: what its keys
// sealed is worth nothing, what lies in it stays readable.
func TestRenewedKeysOpenNothingSealedBefore(t *testing.T) {
	store, clock := logintest.Store(t), new(logintest.Clock)
	ring := load(t, store, clock)
	older := sealed(t, ring, "p", "x")
	clock.Advance(2 * time.Hour)
	if err := ring.Rotate(context.Background(), time.Hour); err != nil {
		t.Fatal(err)
	}
	s, tag, atRest := sealed(t, ring, "p", "x"), ring.Tag("p", "name"), ring.SealAtRest("grant/1", []byte("x"))
	if err := seal.Renew(context.Background(), store, clock.Now); err != nil {
		t.Fatal(err)
	}
	if err := ring.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*seal.Ring{ring, load(t, store, clock)} {
		for _, before := range []string{older, s} {
			if _, err := r.Open("p", before); !errors.Is(err, seal.ErrSeal) {
				t.Errorf("opens what was sealed before: %v", err)
			}
		}
		if r.Tagged("p", "name", tag) {
			t.Error("takes a tag from before")
		}
		if plain, err := r.OpenAtRest("grant/1", atRest); err != nil || string(plain) != "x" {
			t.Errorf("what lies in the store: %q, %v", plain, err)
		}
	}
}

// switched is a store whose records are exchanged under way, as by a restore.
type switched struct{ guest.Store }

func TestReloadUsesTheKeysOfWhatWasPutThere(t *testing.T) {
	clock := new(logintest.Clock)
	store, other := &switched{logintest.Store(t)}, logintest.Store(t)
	ring, others := load(t, store, clock), load(t, other, clock)
	mine := sealed(t, ring, "p", "mine")
	theirs, atRest := sealed(t, others, "p", "theirs"), others.SealAtRest("grant/1", []byte("theirs"))
	store.Store = other
	if err := ring.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	if plain, err := ring.Open("p", theirs); err != nil || string(plain) != "theirs" {
		t.Errorf("%q, %v", plain, err)
	}
	if plain, err := ring.OpenAtRest("grant/1", atRest); err != nil || string(plain) != "theirs" {
		t.Errorf("at rest: %q, %v", plain, err)
	}
	if _, err := ring.Open("p", mine); !errors.Is(err, seal.ErrSeal) {
		t.Errorf("opens with the keys of what was there before: %v", err)
	}
}

func TestReloadThatFailsKeepsTheKeys(t *testing.T) {
	clock, store := new(logintest.Clock), &switched{logintest.Store(t)}
	ring, closed := load(t, store, clock), logintest.Store(t)
	s := sealed(t, ring, "p", "x")
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	store.Store = closed
	if err := ring.Reload(context.Background()); !errors.Is(err, guest.ErrClosed) {
		t.Errorf("reloading from a closed store: %v", err)
	}
	if _, err := ring.Open("p", s); err != nil {
		t.Errorf("keys are gone: %v", err)
	}
}
