package challenge_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/challenge"
	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/seal"
)

const (
	site = "app.example.com"
	ada  = identity.Email("ada@example.com")
)

var ctx = context.Background()

// world is challenges on a real store, with a clock to turn.
type world struct {
	t          testing.TB
	dir        string
	store      guest.Store
	clock      *logintest.Clock
	ring       *seal.Ring
	challenges *challenge.Challenges

	mu      sync.Mutex
	network netip.Addr
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, dir: t.TempDir(), clock: new(logintest.Clock), network: netip.MustParseAddr("10.0.0.0")}
	w.open(logintest.StoreIn(t, w.dir))
	return w
}

func (w *world) open(store guest.Store) {
	w.t.Helper()
	w.store = store
	var err error
	w.ring, err = seal.Load(ctx, w.store, w.clock.Now)
	w.must(err)
	w.challenges = challenge.Open(w.store, w.ring, w.clock.Now)
}

// restart forgets everything that is not in the store, as kill -9 would.
func (w *world) restart() {
	w.t.Helper()
	w.must(w.store.Close())
	w.open(logintest.StoreIn(w.t, w.dir))
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// elsewhere is a network that nobody has come from.
func (w *world) elsewhere() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.network = w.network.Next()
	return w.network.String()
}

// ask is a wish that says nothing special, from a network of its own.
func (w *world) ask() challenge.Ask {
	return challenge.Ask{
		Purpose: challenge.Login, Scope: site, Email: ada, Return: "/deep?x=1", Subject: "u1",
		Asker:   challenge.Asker{Device: "Firefox on Linux", Place: "Lisbon"},
		Network: w.elsewhere(),
	}
}

func (w *world) askFor(email identity.Email) challenge.Ask {
	a := w.ask()
	a.Email = email
	return a
}

func (w *world) begin(a challenge.Ask) *challenge.Begun {
	w.t.Helper()
	begun, err := w.challenges.Begin(ctx, a)
	w.must(err)
	return begun
}

func claim(b *challenge.Begun) challenge.Claim {
	return challenge.Claim{ID: b.ID, Scope: site, Purpose: b.Waiting.Purpose}
}

// at is the mailed link, opened in a browser that asked for these.
func at(b *challenge.Begun, asked ...challenge.ID) challenge.Landing {
	return challenge.Landing{Link: b.Mail.Link, Scope: site, IDs: asked}
}

func (w *world) check(b *challenge.Begun, code string) error {
	_, err := w.challenges.Check(ctx, claim(b), code)
	return err
}

func (w *world) poll(b *challenge.Begun) *challenge.Waiting {
	w.t.Helper()
	waiting, err := w.challenges.Poll(ctx, claim(b))
	w.must(err)
	return waiting
}

// want fails the test unless err is the one.
func (w *world) want(err, target error) {
	w.t.Helper()
	if !errors.Is(err, target) {
		w.t.Errorf("got %v; want %v", err, target)
	}
}

// wrong fails the test unless err is about a wrong code with so many left.
func (w *world) wrong(err error, left int) {
	w.t.Helper()
	var wrong *challenge.Wrong
	if !errors.As(err, &wrong) || wrong.AttemptsLeft != left {
		w.t.Errorf("got %v; want a wrong code and %d attempts left", err, left)
	}
}

// guess is a code that is not the right one.
func guess(right guest.Secret) string {
	return string('0'+(right[0]-'0'+1)%10) + string(right[1:])
}

// dump is all that the store holds.
func (w *world) dump() string {
	w.t.Helper()
	var all strings.Builder
	w.must(w.store.View(ctx, func(tx guest.Tx) error {
		for _, prefix := range []string{"challenge/", "budget/"} {
			err := tx.Scan([]byte(prefix), nil, 0, func(key, value []byte) bool {
				fmt.Fprintf(&all, "%s\x00%s\n", key, value)
				return true
			})
			if err != nil {
				return err
			}
		}
		return nil
	}))
	return all.String()
}

// counting is a store that writes down what is done with it: the operation and
// the kind of record.
type counting struct {
	guest.Store
	mu  sync.Mutex
	ops []string
}

func (c *counting) note(op string, key []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kind, _, _ := strings.Cut(string(key), "/")
	c.ops = append(c.ops, op+" "+kind)
}

// during returns what fn does.
func (c *counting) during(fn func()) string {
	c.ops = nil
	fn()
	return strings.Join(c.ops, ", ")
}

func (c *counting) View(ctx context.Context, fn func(guest.Tx) error) error {
	c.note("view", nil)
	return c.Store.View(ctx, func(tx guest.Tx) error { return fn(countingTx{tx, c}) })
}

func (c *counting) Update(ctx context.Context, fn func(guest.Tx) error) error {
	c.note("update", nil)
	return c.Store.Update(ctx, func(tx guest.Tx) error { return fn(countingTx{tx, c}) })
}

type countingTx struct {
	guest.Tx
	c *counting
}

func (t countingTx) Get(key []byte) ([]byte, error) {
	t.c.note("get", key)
	return t.Tx.Get(key)
}

func (t countingTx) Put(key, value []byte, expires time.Time) error {
	t.c.note("put", key)
	return t.Tx.Put(key, value, expires)
}

func (t countingTx) Delete(key []byte) error {
	t.c.note("delete", key)
	return t.Tx.Delete(key)
}

// memory is a store for fuzzing: serial, and gone with the process.
type memory struct {
	mu      sync.Mutex
	records map[string][]byte
}

func (m *memory) View(ctx context.Context, fn func(guest.Tx) error) error { return m.Update(ctx, fn) }

func (m *memory) Update(_ context.Context, fn func(guest.Tx) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	tx := memoryTx{maps.Clone(m.records)}
	if tx.records == nil {
		tx.records = make(map[string][]byte)
	}
	if err := fn(tx); err != nil {
		return err
	}
	m.records = tx.records
	return nil
}

func (m *memory) Close() error { return nil }

// forget drops the records of this prefix.
func (m *memory) forget(prefix string) {
	maps.DeleteFunc(m.records, func(key string, _ []byte) bool { return strings.HasPrefix(key, prefix) })
}

type memoryTx struct{ records map[string][]byte }

func (t memoryTx) Get(key []byte) ([]byte, error) {
	value, ok := t.records[string(key)]
	if !ok {
		return nil, guest.ErrNotFound
	}
	return value, nil
}

func (t memoryTx) Put(key, value []byte, _ time.Time) error {
	t.records[string(key)] = value
	return nil
}

func (t memoryTx) Delete(key []byte) error {
	delete(t.records, string(key))
	return nil
}

func (t memoryTx) Scan([]byte, []byte, int, func(key, value []byte) bool) error {
	return nil // only a sweep scans, and finds nothing
}

// oblivious is a store that keeps nothing: what then stays is held elsewhere.
type oblivious struct{}

func (oblivious) View(_ context.Context, fn func(guest.Tx) error) error {
	return fn(memoryTx{make(map[string][]byte)})
}

func (o oblivious) Update(ctx context.Context, fn func(guest.Tx) error) error { return o.View(ctx, fn) }

func (oblivious) Close() error { return nil }
