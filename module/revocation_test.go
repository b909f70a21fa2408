package module

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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

// During a reload the old and the new app may both have read it, and both fail:
// what is to be done once more must not become two.
func TestRevocationThatTwoTriedIsWrittenDownOnce(t *testing.T) {
	g := newRevokingGate(t)
	now := time.Now()
	g.grants("access", now)
	g.failing = errors.New("the provider is down")
	var due []dueRevocation
	err := g.house.store.View(t.Context(), func(tx guest.Tx) (err error) {
		due, err = dueRevocations(tx, now)
		return err
	})
	if err != nil || len(due) != 1 {
		t.Fatalf("%d are due: %v", len(due), err)
	}
	for range 2 {
		if err := g.app.revokeOne(t.Context(), g.house, due[0], now); err != nil {
			t.Fatal(err)
		}
	}
	if n := g.pending(); n != 1 {
		t.Errorf("it is written down %d times", n)
	}
}

// hoards signs her in this often, with tokens that are as long as they may be,
// and returns who she is.
func (g *revokingGate) hoards(times int) (user identity.UserID) {
	g.t.Helper()
	long := guest.Secret(strings.Repeat("a", 30<<10))
	for range times {
		grant := g.grant()
		grant.Access = long
		enterWith(g.t, g.Gate, grant)
	}
	err := g.house.store.View(g.t.Context(), func(tx guest.Tx) error {
		found, err := identity.Find(tx, identity.Query{Email: "ada@example.com"})
		if err == nil && len(found) == 1 {
			user = found[0].ID
		}
		return err
	})
	if err != nil || user == "" {
		g.t.Fatal(user, err)
	}
	return user
}

// Whoever signs in often, at a provider of long tokens, must not become too much
// to be deleted.
func TestUserWithManyLongTokensIsErased(t *testing.T) {
	g := newRevokingGate(t)
	const often = 40
	user := g.hoards(often)
	d := &desk{w: httptest.NewRecorder(), r: httptest.NewRequest(http.MethodDelete, "/login/users/x", nil), name: string(user), app: g.app}
	if _, err := d.erase(); err != nil {
		t.Fatal(err)
	}
	// One of hers is that of newRevokingGate.
	if n := g.pending(); n != often+1 {
		t.Errorf("%d of %d sessions' tokens are to be revoked", n, often+1)
	}
	if sessions, err := g.house.sessions.OfUser(t.Context(), user); err != nil || len(sessions) != 0 {
		t.Errorf("%d sessions live: %v", len(sessions), err)
	}
}

// Two may be at one deletion: the operator and the housework, or that of two apps
// during a reload.
func TestDeletionIsToldByOne(t *testing.T) {
	g := newRevokingGate(t)
	user := g.hoards(2)
	err := g.house.store.Update(t.Context(), func(tx guest.Tx) error {
		_, err := identity.Erase(tx, user, time.Now())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var told atomic.Int32
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			last, err := g.house.eraseRest(t.Context(), user, g.house.forgetThese)
			if err != nil {
				t.Error(err)
			}
			if last {
				told.Add(1)
			}
		})
	}
	wait.Wait()
	if n := told.Load(); n != 1 {
		t.Errorf("%d of them tell", n)
	}
}
