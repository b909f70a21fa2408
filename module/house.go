package module

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-login/caddy-login/module/challenge"
	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/limit"
	"github.com/caddy-login/caddy-login/module/seal"
	"github.com/caddy-login/caddy-login/module/session"
	"github.com/caddy-login/caddy-login/module/signin"
	"github.com/caddy-login/caddy-login/module/token"
)

// toldCallbacks are the callback URLs that the log has named: once each.
var toldCallbacks sync.Map

// houses holds what must outlive a reload: the new config starts while the old
// one still runs, and only one of them can hold the database's lock. So both
// use one house for one store.
var houses = caddy.NewUsagePool()

// house is an open store and what lives on it.
type house struct {
	store    guest.Store
	ring     *seal.Ring
	signer   *seal.Signer
	sessions *session.Sessions
	tokens   *token.Tokens
	attempts *signin.Attempts

	challenges *challenge.Challenges

	// callbacks limits how often a network may come back from a provider: each
	// time costs a write and a call.
	callbacks limit.Limit
	// collisions limits how often an account at a provider may find out whether
	// somebody has an address.
	collisions limit.Limit
	// inquiries limits it for a network's accounts whose addresses nobody has
	// checked.
	inquiries limit.Limit
	// notices limits how often somebody is told of one kind of thing. What can be
	// taken back by the mail's link is told always, and bounded by itself.
	notices limit.Limit
	// changes limits how often somebody may do one kind of thing to their account.
	changes  limit.Limit
	parked   parked
	renewals *renewals
	// longest is the longest a session of any site may live, in nanoseconds.
	longest atomic.Int64

	log  *slog.Logger
	stop context.CancelFunc
	done chan struct{}
}

// Each network's callbacks: a company behind one address signs in on Monday
// morning at this rate, and a flood gets no further.
const (
	callbackBurst = 200
	callbackEvery = 50 * time.Millisecond
)

const (
	sweepEvery = 5 * time.Second
	flushEvery = 30 * time.Second
	tidyEvery  = time.Minute
	// rotateEvery is how often we look whether the keys are old.
	rotateEvery = time.Hour
)

func openHouse(module guest.StoreModule, env guest.Env) (*house, error) {
	store, err := module.Open(env)
	if err != nil {
		return nil, fmt.Errorf("opening store: %w", err)
	}
	store = ledger{store}
	ctx, stop := context.WithCancel(context.Background())
	ring, err := seal.Load(ctx, store, env.Now)
	if err != nil {
		stop()
		return nil, errors.Join(err, store.Close())
	}
	signer, err := seal.LoadSigner(ctx, store, env.Now)
	if err != nil {
		stop()
		return nil, errors.Join(err, store.Close())
	}
	h := &house{
		store: store, ring: ring, signer: signer, log: env.Log, stop: stop, done: make(chan struct{}),
		sessions:   session.Open(store, ring, env.Now),
		attempts:   signin.New(store, ring, env.Now),
		challenges: challenge.Open(store, ring, env.Now),
		callbacks:  limit.Limit{Burst: callbackBurst, Every: callbackEvery},
		collisions: limit.Limit{Burst: 5, Every: 10 * time.Minute},
		inquiries:  limit.Limit{Burst: 30, Every: 20 * time.Second},
		notices:    limit.Limit{Burst: 20, Every: 3 * time.Minute},
		changes:    limit.Limit{Burst: 60, Every: time.Minute},
		renewals:   newRenewals(),
	}
	h.tokens = token.Open(store, ring, h.sessions, env.Now)
	go h.keep(ctx)
	return h, nil
}

// keep does what comes round until the house is closed: it closes streams of
// expired sessions, renews the tokens of others, writes down who was seen, and
// rotates keys.
func (h *house) keep(ctx context.Context) {
	defer close(h.done)
	sweep, flush, rotate := time.NewTicker(sweepEvery), time.NewTicker(flushEvery), time.NewTicker(rotateEvery)
	tidy := time.NewTicker(tidyEvery)
	defer tidy.Stop()
	defer sweep.Stop()
	defer flush.Stop()
	defer rotate.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-sweep.C:
			h.sessions.Sweep(ctx)
			h.renewStreams()
			h.renewals.tidy(time.Now())
		case <-flush.C:
			h.report("writing last use", h.sessions.Flush(ctx))
		case <-tidy.C:
			h.report("removing codes that are over", h.challenges.Sweep(ctx))
		case <-rotate.C:
			// Two keys open: nothing sealed lives longer than one rotation.
			h.report("rotating keys", h.ring.Rotate(ctx, max(defaultLifetime, time.Duration(h.longest.Load()))))
			h.report("rotating signing keys", h.signer.Rotate(ctx))
		}
	}
}

// expect tells the house how long sessions of some config may live. It only
// grows: sessions of an earlier config may still be about.
func (h *house) expect(longest time.Duration) {
	for {
		known := h.longest.Load()
		if int64(longest) <= known || h.longest.CompareAndSwap(known, int64(longest)) {
			return
		}
	}
}

func (h *house) report(what string, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		h.log.Error(what, "error", err)
	}
}

// Destruct closes the house once nobody uses it.
func (h *house) Destruct() error {
	h.stop()
	<-h.done
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return errors.Join(h.sessions.Close(ctx), h.store.Close())
}

// Interface guard
var _ caddy.Destructor = (*house)(nil)

// door opens the house for one app, once, and keeps trying where it fails:
// HTTP may serve before the app is started, and an operator may free the lock
// or the disk while we run.
type door struct {
	key  string
	open func() (caddy.Destructor, error)
	now  func() time.Time

	house  atomic.Pointer[house] // set once, read by every request
	mu     sync.Mutex
	closed bool
	err    error
	failed time.Time
}

// retryOpen is how long a failure to open is remembered: a request must not
// wait for a disk that just said no.
const retryOpen = 2 * time.Second

var errShut = errors.New("login is shutting down")

func (d *door) enter() (*house, error) {
	if h := d.house.Load(); h != nil {
		return h, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch h := d.house.Load(); {
	case h != nil:
		return h, nil
	case d.closed:
		return nil, errShut
	case d.err != nil && d.now().Sub(d.failed) < retryOpen:
		return nil, d.err
	}
	opened, _, err := houses.LoadOrNew(d.key, d.open)
	if err != nil {
		d.err, d.failed = err, d.now()
		return nil, err
	}
	h := opened.(*house)
	d.house.Store(h)
	d.err = nil
	return h, nil
}

// leave gives back what enter took. Requests under way keep their house; it is
// closed with the last app that uses it.
func (d *door) leave() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	if d.house.Load() == nil {
		return nil
	}
	_, err := houses.Delete(d.key)
	return err
}
