package token_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/seal"
	"github.com/caddy-login/caddy-login/module/session"
	"github.com/caddy-login/caddy-login/module/token"
)

func TestRefreshTokenIsTradedForTheNext(t *testing.T) {
	w := newWorld(t)
	begun := w.begin()
	refresh := begun.Refresh
	for range 4 {
		w.clock.Advance(6 * 24 * time.Hour)
		next := w.mustSpend(refresh)
		if next == refresh {
			t.Fatal("the next token is the old one")
		}
		refresh = next
		w.isIn(w.access(begun.Session))
		w.restart()
	}
	// However much it is used, it ends with the session.
	w.clock.Advance(6 * 24 * time.Hour)
	w.isDead(refresh)
}

func TestIdleSessionHasNoMoreTokens(t *testing.T) {
	w := newWorld(t)
	begun := w.begin()
	w.clock.Advance(7*24*time.Hour - time.Second)
	refresh := w.mustSpend(begun.Refresh)
	w.clock.Advance(7 * 24 * time.Hour)
	w.isDead(refresh)
	w.clock.Advance(-time.Second)
	w.mustSpend(refresh)
}

// An access token that is used is a use of the session, which no refresh saw.
func TestUseOfAnAccessTokenKeepsTheFamilyAlive(t *testing.T) {
	w := newWorld(t)
	begun := w.begin()
	w.clock.Advance(6 * 24 * time.Hour)
	w.isIn(w.access(begun.Session))
	w.clock.Advance(6 * 24 * time.Hour)
	w.mustSpend(begun.Refresh)
}

func TestReusedRefreshTokenEndsItsFamily(t *testing.T) {
	w := newWorld(t)
	begun, other := w.begin(), w.begin()
	access := w.access(begun.Session)
	w.isIn(access)
	second := w.mustSpend(begun.Refresh)
	third := w.mustSpend(second)
	w.isIn(access)
	spent, next, err := w.spend(begun.Refresh)
	w.must(err)
	if spent.Session != nil || spent.Reused == nil || spent.Reused.Key != begun.Session.Key || spent.Reused.Ended.IsZero() {
		t.Fatalf("spent %+v", spent)
	}
	for _, refresh := range []guest.Secret{begun.Refresh, second, third, next} {
		w.isDead(refresh) // and is reported once alone
	}
	w.isOut(access)
	w.isOut(w.access(begun.Session))
	w.restart()
	w.isDead(third)
	w.isOut(access)
	w.mustSpend(other.Refresh)
}

func TestOneOfManyAtOnceGetsTheNextToken(t *testing.T) {
	for range 3 {
		w := newWorld(t)
		begun := w.begin()
		access := w.access(begun.Session)
		w.isIn(access)
		var won, reported, refused atomic.Int32
		var all sync.WaitGroup
		for range 32 {
			all.Go(func() {
				switch spent, _, err := w.spend(begun.Refresh); {
				case errors.Is(err, token.ErrInvalid):
					refused.Add(1)
				case err != nil:
					t.Error(err)
				case spent.Reused != nil:
					reported.Add(1)
				case spent.Session != nil:
					won.Add(1)
				}
			})
		}
		all.Wait()
		if won.Load() != 1 || reported.Load() != 1 || refused.Load() != 30 {
			t.Errorf("%d won, %d were reported, %d refused", won.Load(), reported.Load(), refused.Load())
		}
		w.isOut(access)
	}
}

// What was not durable when the process died was not done, and whoever asks
// again gets the next token; what was done is done once.
func TestKilledBetweenTheTransactionAndTheAnswer(t *testing.T) {
	w := newWorld(t)
	begun := w.begin()
	x, err := w.tokens.Exchange(host, begun.Refresh)
	w.must(err)
	broken := errors.New("killed")
	err = w.store.Update(context.Background(), func(tx guest.Tx) error {
		if _, err := w.tokens.Spend(tx, x, w.clock.Now()); err != nil {
			return err
		}
		return broken
	})
	if !errors.Is(err, broken) {
		t.Fatal(err)
	}
	w.restart()
	next := w.mustSpend(begun.Refresh)
	w.restart()
	w.mustSpend(next)
}

func TestEndedSessionHasNoMoreTokens(t *testing.T) {
	for what, end := range map[string]func(*world, token.Begun) error{
		"signed out": func(w *world, b token.Begun) error { return w.sessions.End(context.Background(), b.Session.Key) },
		"signed out everywhere": func(w *world, b token.Begun) error {
			return w.sessions.EndAll(context.Background(), b.Session.User, session.Key{})
		},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			begun := w.begin()
			access := w.access(begun.Session)
			w.isIn(access)
			w.must(end(w, begun))
			w.isOut(access)
			w.isDead(begun.Refresh)
			w.restart()
			w.isOut(access)
			w.isDead(begun.Refresh)
		})
	}
}

func TestNothingOpensAfterTheKeysWereRenewed(t *testing.T) {
	w := newWorld(t)
	begun := w.begin()
	access := w.access(begun.Session)
	w.isIn(access)
	w.must(seal.Renew(context.Background(), w.store, w.clock.Now))
	w.restart()
	w.isDead(begun.Refresh)
	w.isOut(access)
}

func TestRefreshTokenIsOfItsScopeAndHasOneSpelling(t *testing.T) {
	w := newWorld(t)
	begun := w.begin()
	refresh := string(begun.Refresh)
	if len(refresh) > 400 {
		t.Errorf("a refresh token has %d bytes", len(refresh))
	}
	for _, scope := range []string{"other.example.com", "", ".example.com", "APP.example.com"} {
		if _, err := w.tokens.Exchange(scope, begun.Refresh); !errors.Is(err, token.ErrInvalid) {
			t.Errorf("it opens on %q: %v", scope, err)
		}
	}
	for i := range len(refresh) {
		bad := []byte(refresh)
		bad[i] ^= 1
		if _, err := w.tokens.Exchange(host, guest.Secret(bad)); !errors.Is(err, token.ErrInvalid) {
			t.Fatalf("it opens with byte %d changed", i)
		}
	}
	cookie, err := w.sessions.Issue(host)
	w.must(err)
	for _, bad := range []string{"", "x", refresh[1:], refresh + "=", refresh + "\n", " " + refresh, strings.TrimRight(refresh, "="), cookie.Cookie, w.access(begun.Session)} {
		if _, err := w.tokens.Exchange(host, guest.Secret(bad)); !errors.Is(err, token.ErrInvalid) && bad != refresh {
			t.Errorf("%.20q… opens: %v", bad, err)
		}
	}
	// And a refresh token is no cookie.
	if _, err := w.sessions.Read(context.Background(), host, refresh, w.clock.Now()); !errors.Is(err, session.ErrNone) {
		t.Errorf("it is a session cookie: %v", err)
	}
	w.mustSpend(begun.Refresh)
}

func TestMovedSessionHasNewTokensAlone(t *testing.T) {
	w := newWorld(t)
	begun := w.begin()
	access := w.access(begun.Session)
	w.isIn(access)
	ticket, err := w.tokens.Issue(host)
	w.must(err)
	var moved token.Begun
	w.update(func(tx guest.Tx) (err error) {
		moved, err = w.tokens.Move(tx, ticket, begun.Session.Key, w.clock.Now())
		return err
	})
	w.sessions.Forget(begun.Session.Key)
	w.isOut(access)
	w.isDead(begun.Refresh)
	w.isIn(w.access(moved.Session))
	w.mustSpend(moved.Refresh)
}

// The store holds nothing that could be shown to us.
func TestStoreHoldsNoToken(t *testing.T) {
	w := newWorld(t)
	begun := w.begin()
	refresh := w.mustSpend(begun.Refresh)
	sealed, err := base64.URLEncoding.DecodeString(string(refresh))
	w.must(err)
	secrets := [][]byte{[]byte(refresh), []byte(begun.Refresh), []byte(w.access(begun.Session)), sealed[:32]}
	w.must(w.store.View(context.Background(), func(tx guest.Tx) error {
		return tx.Scan([]byte("refresh/"), nil, 0, func(key, value []byte) bool {
			for _, secret := range secrets {
				if bytes.Contains(value, secret) || bytes.Contains(key, secret) {
					t.Errorf("the store holds a token")
				}
			}
			return true
		})
	}))
}
