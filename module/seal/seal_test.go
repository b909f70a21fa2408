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
