package module

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
)

// revokingGate is a gate whose provider revokes, or not, as a test says.
type revokingGate struct {
	*renewingGate
	house   *house
	failing error
	revoked []guest.Secret
}

func (g *revokingGate) Revoke(_ context.Context, granted guest.Granted) error {
	if g.failing != nil {
		return g.failing
	}
	g.revoked = append(g.revoked, granted.Tokens.Access)
	return nil
}

func newRevokingGate(t *testing.T) *revokingGate {
	t.Helper()
	g := &revokingGate{renewingGate: newRenewingGate(t, guest.TokenRules{})}
	g.providers = []guest.Method{g}
	g.app.gates, g.app.log = []*Gate{g.Gate}, zap.NewNop()
	house, err := g.app.door.enter()
	if err != nil {
		t.Fatal(err)
	}
	g.house = house
	return g
}

// grants writes down what is to be revoked at a time.
func (g *revokingGate) grants(access guest.Secret, at time.Time) {
	g.t.Helper()
	err := g.house.store.Update(g.t.Context(), func(tx guest.Tx) error {
		granted := guest.Granted{Issuer: "bench", Tokens: guest.Tokens{Access: access}}
		return g.house.keepRevocation(tx, &identity.Identity{Provider: "bench", Issuer: "bench"}, granted, at)
	})
	if err != nil {
		g.t.Fatal(err)
	}
}

func (g *revokingGate) housework(at time.Time) error {
	return g.app.revokeDue(g.t.Context(), g.house, at)
}

// pending is how many revocations are written down.
func (g *revokingGate) pending() (n int) {
	g.t.Helper()
	err := g.house.store.View(g.t.Context(), func(tx guest.Tx) error {
		return tx.Scan(revocationKind.Key(""), nil, 0, func(_, _ []byte) bool { n++; return true })
	})
	if err != nil {
		g.t.Fatal(err)
	}
	return n
}

func TestRevocationIsTriedUntilTheProviderTakesIt(t *testing.T) {
	g := newRevokingGate(t)
	began := time.Now()
	g.grants("access", began)
	g.failing = errors.New("the provider is down")
	at := began
	for _, pause := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute} {
		if err := g.housework(at); err != nil {
			t.Fatalf("a provider that is down is no failure of ours: %v", err)
		}
		// The next try waits twice as long.
		g.failing = nil
		if err := g.housework(at.Add(pause - 2*time.Second)); err != nil || len(g.revoked) != 0 {
			t.Fatalf("tried again %s after: %v", pause-2*time.Second, err)
		}
		g.failing = errors.New("the provider is down")
		at = at.Add(pause + time.Second)
	}
	g.failing = nil
	for range 2 {
		if err := g.housework(at); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(g.revoked, []guest.Secret{"access"}) || g.pending() != 0 {
		t.Errorf("revoked %d times, %d are still written down", len(g.revoked), g.pending())
	}
}

func TestRevocationThatNobodyCanDoIsForgotten(t *testing.T) {
	g := newRevokingGate(t)
	g.grants("access", time.Now())
	g.failing = guest.ErrNotRevocable
	if err := g.housework(time.Now().Add(time.Second)); err != nil || g.pending() != 0 {
		t.Errorf("%d are still written down: %v", g.pending(), err)
	}
}

// A provider that hangs must not keep others' grants from being revoked later.
func TestOneRoundOfRevocationsIsBounded(t *testing.T) {
	g := newRevokingGate(t)
	began := time.Now()
	for range revokeAtOnce + 3 {
		g.grants("access", began)
	}
	if err := g.housework(began.Add(time.Second)); err != nil || len(g.revoked) != revokeAtOnce {
		t.Errorf("the first round revoked %d: %v", len(g.revoked), err)
	}
	if err := g.housework(began.Add(time.Second)); err != nil || len(g.revoked) != revokeAtOnce+3 {
		t.Errorf("after the second %d are revoked: %v", len(g.revoked), err)
	}
}
