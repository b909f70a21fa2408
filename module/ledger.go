package module

import (
	"context"
	"errors"

	"github.com/caddy-login/caddy-login/module/guest"
)

// ledger is a store that counts the writes it has no room for.
type ledger struct{ guest.Store }

// Update is guest.Store's.
func (l ledger) Update(ctx context.Context, fn func(guest.Tx) error) error {
	err := l.Store.Update(ctx, fn)
	if errors.Is(err, guest.ErrFull) {
		storeFull.Inc()
	}
	return err
}

// bare is the store below, for what it can do besides.
func bare(store guest.Store) guest.Store {
	if l, ok := store.(ledger); ok {
		return l.Store
	}
	return store
}
