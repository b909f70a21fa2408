package token_test

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/token"
)

func (w *world) spendNonce(scope, nonce string) error {
	return w.store.Update(context.Background(), func(tx guest.Tx) error { return w.tokens.SpendNonce(tx, scope, nonce) })
}

func (w *world) spendNative(n guest.NativeToken) error {
	return w.store.Update(context.Background(), func(tx guest.Tx) error { return w.tokens.SpendNative(tx, n) })
}

func TestNonceIsSpentOnce(t *testing.T) {
	w := newWorld(t)
	nonce, expires := w.tokens.Nonce(host)
	if strings.Trim(nonce, "abcdefghijklmnopqrstuvwxyz234567") != "" || len(nonce) != 64 {
		t.Errorf("nonce %q", nonce)
	}
	if life := expires.Sub(w.clock.Now()); life > token.NonceLife || life < token.NonceLife-time.Second {
		t.Errorf("it lives for %v", life)
	}
	var won atomic.Int32
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			if err := w.spendNonce(host, nonce); err == nil {
				won.Add(1)
			} else if !errors.Is(err, token.ErrNonce) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if won.Load() != 1 {
		t.Errorf("%d spent it", won.Load())
	}
	w.restart()
	if err := w.spendNonce(host, nonce); !errors.Is(err, token.ErrNonce) {
		t.Errorf("after a restart: %v", err)
	}
}

func TestNonceIsOursForTenMinutesAtItsScope(t *testing.T) {
	w := newWorld(t)
	nonce, _ := w.tokens.Nonce(host)
	bad := []string{"", "x", strings.ToUpper(nonce), nonce + "a", nonce[1:], nonce + "\n", strings.Repeat("a", 64)}
	for i := range len(nonce) {
		other := byte('a')
		if nonce[i] == other {
			other = 'b'
		}
		bad = append(bad, nonce[:i]+string(other)+nonce[i+1:])
	}
	for _, b := range bad {
		if err := w.spendNonce(host, b); !errors.Is(err, token.ErrNonce) {
			t.Errorf("%q: %v", b, err)
		}
	}
	if err := w.spendNonce("other.example.com", nonce); !errors.Is(err, token.ErrNonce) {
		t.Errorf("elsewhere: %v", err)
	}
	for _, off := range []time.Duration{token.NonceLife, -time.Hour, 365 * 24 * time.Hour} {
		w.clock.Advance(off)
		if err := w.spendNonce(host, nonce); !errors.Is(err, token.ErrNonce) {
			t.Errorf("%v off: %v", off, err)
		}
		w.clock.Advance(-off)
	}
	w.clock.Advance(token.NonceLife - 2*time.Second)
	w.must(w.spendNonce(host, nonce))
}

func TestProvidersIDTokenIsSpentOnce(t *testing.T) {
	w := newWorld(t)
	n := guest.NativeToken{Kind: guest.IDToken, Token: "header.claims.signature"}
	w.must(w.spendNative(n))
	for _, replay := range []guest.Secret{n.Token, "header.claims.othersignature", "header.claims."} {
		if err := w.spendNative(guest.NativeToken{Kind: guest.IDToken, Token: replay}); !errors.Is(err, token.ErrReplayed) {
			t.Errorf("%v", err)
		}
	}
	w.restart()
	// A provider's clock may be behind ours, and ours be set.
	w.clock.Advance(token.NativeAge + 4*time.Minute)
	if err := w.spendNative(n); !errors.Is(err, token.ErrReplayed) {
		t.Errorf("a quarter of an hour later: %v", err)
	}
	w.must(w.spendNative(guest.NativeToken{Kind: guest.IDToken, Token: "header.others.signature"}))
	access := guest.NativeToken{Kind: guest.AccessToken, Token: "opaque"}
	w.must(w.spendNative(access))
	w.must(w.spendNative(access))
}

// encode is a part of a JWT.
func encode(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
