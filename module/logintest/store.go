package logintest

import (
	"log/slog"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/store/badger"
)

// Store opens the real Badger in a directory of the test, and closes it with
// the test.
func Store(t testing.TB) guest.Store {
	t.Helper()
	return StoreIn(t, t.TempDir())
}

// StoreIn does so in a directory that may hold a store already. Close it
// before opening the next one there.
func StoreIn(t testing.TB, dir string) guest.Store {
	t.Helper()
	settings := &badger.Store{Dir: dir}
	if err := settings.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	store, err := settings.Open(guest.Env{Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}
