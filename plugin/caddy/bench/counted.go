package main

import (
	"context"
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/store/badger"
)

func init() {
	caddy.RegisterModule(new(counted))
}

// counted is our store, and counts what it is asked, but for what comes round by
// itself. It is written as the store is, and of a log-in it takes less than a
// microsecond.
type counted struct{ badger.Store }

// What is counted, each for the transactions that came to something.
const (
	updates = iota // transactions that may write, one sync each where they are alone
	views
	puts
	deletes
	reads // keys asked for, also where there is nothing
	given // bytes of keys and values put
	tallied
)

// tally is what a store was asked.
type tally [tallied]int64

func (t tally) since(before tally) tally {
	for i := range t {
		t[i] -= before[i]
	}
	return t
}

// total is what all stores of this process were asked.
var total struct {
	sync.Mutex
	tally
}

// count counts what was asked in ctx.
func (t tally) count(ctx context.Context) {
	if comesRound(ctx) {
		return
	}
	total.Lock()
	defer total.Unlock()
	for i := range t {
		total.tally[i] += t[i]
	}
}

// keeper is who has the store written to every so often, of whoever was there:
// twice a minute when each was last seen. No turn is to be charged with that,
// least of all the one in whose midst it comes.
const keeper = "github.com/caddy-login/caddy-login/module.(*house).keep"

// comesRound reports whether it is the keeper that asks. A request's context
// tells at once that it is not.
func comesRound(ctx context.Context) bool {
	if ctx.Value(http.ServerContextKey) != nil {
		return false
	}
	var callers [64]uintptr
	frames := runtime.CallersFrames(callers[:runtime.Callers(2, callers[:])])
	for {
		frame, more := frames.Next()
		if frame.Function == keeper || !more {
			return frame.Function == keeper
		}
	}
}

func totalNow() tally {
	total.Lock()
	defer total.Unlock()
	return total.tally
}

// CaddyModule returns the module's name in Caddy.
func (*counted) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "login.stores.bench_counted", New: func() caddy.Module { return new(counted) }}
}

// Open opens the store.
func (c *counted) Open(env guest.Env) (guest.Store, error) {
	store, err := c.Store.Open(env)
	if err != nil {
		return nil, err
	}
	return countedStore{store.(guest.Archive)}, nil
}

type countedStore struct{ guest.Archive }

func (s countedStore) View(ctx context.Context, fn func(guest.Tx) error) error {
	t := tally{views: 1}
	err := s.Archive.View(ctx, func(tx guest.Tx) error { return fn(countedTx{tx, &t}) })
	t.count(ctx)
	return err
}

// Update counts the last run of fn alone, and nothing of a transaction that was
// given up.
func (s countedStore) Update(ctx context.Context, fn func(guest.Tx) error) error {
	var t tally
	err := s.Archive.Update(ctx, func(tx guest.Tx) error {
		t = tally{updates: 1}
		return fn(countedTx{tx, &t})
	})
	if err == nil {
		t.count(ctx)
	}
	return err
}

type countedTx struct {
	guest.Tx
	tally *tally
}

func (t countedTx) Get(key []byte) ([]byte, error) {
	t.tally[reads]++
	return t.Tx.Get(key)
}

func (t countedTx) Put(key, value []byte, expires time.Time) error {
	t.tally[puts]++
	t.tally[given] += int64(len(key) + len(value))
	return t.Tx.Put(key, value, expires)
}

func (t countedTx) Delete(key []byte) error {
	t.tally[deletes]++
	return t.Tx.Delete(key)
}

func (t countedTx) Scan(prefix, from []byte, limit int, fn func(key, value []byte) bool) error {
	return t.Tx.Scan(prefix, from, limit, func(key, value []byte) bool {
		t.tally[reads]++
		return fn(key, value)
	})
}

// Interface guards
var (
	_ caddy.Module      = (*counted)(nil)
	_ guest.StoreModule = (*counted)(nil)
	_ guest.Archive     = countedStore{}
)
