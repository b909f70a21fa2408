package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	badgerdb "github.com/dgraph-io/badger/v4"
	dboptions "github.com/dgraph-io/badger/v4/options"

	"github.com/caddy-login/caddy-login/module/activity"
	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/seal"
	"github.com/caddy-login/caddy-login/module/session"
	"github.com/caddy-login/caddy-login/plugin/store/badger"
)

// signIns is how many sign-ins a second become durable.
type signIns struct {
	// Together: 64 at once, through our store.
	Together spread `json:"together_per_second"`
	// Each: 64 at once, each in a Badger transaction of its own.
	Each spread `json:"each_per_second"`
	// Alone: one after the other, each in a Badger transaction of its own.
	Alone spread `json:"alone_per_second"`
	// Ratio is Together to Each, RatioAlone Together to Alone.
	Ratio      spread `json:"together_to_each"`
	RatioAlone spread `json:"together_to_alone"`
}

// atOnce is how many people sign in at the same time.
const atOnce = 64

// measureSignIns has people sign in again and again: what the gate writes for
// it, without the web and the provider around it.
func measureSignIns(dir string, s settings) (_ *signIns, err error) {
	ours, err := openOurs(filepath.Join(dir, "ours"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, ours.store.Close()) }()
	theirs, err := openEach(filepath.Join(dir, "each"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, theirs.store.Close()) }()

	length := time.Duration(s.seconds * float64(time.Second) / 2)
	var together, each, alone []float64
	for round := range s.rounds + 1 {
		perSecond, err := inTurn(length, turnOf{ours, atOnce}, turnOf{theirs, atOnce}, turnOf{theirs, 1})
		if err != nil {
			return nil, err
		}
		if round > 0 { // the first made the people
			together, each, alone = append(together, perSecond[0]), append(each, perSecond[1]), append(alone, perSecond[2])
		}
	}
	return &signIns{
		Together: spreadOf(together), Each: spreadOf(each), Alone: spreadOf(alone),
		Ratio: ratios(together, each), RatioAlone: ratios(together, alone),
	}, nil
}

func ratios(of, to []float64) spread {
	var all []float64
	for i := range of {
		all = append(all, of[i]/to[i])
	}
	return spreadOf(all)
}

// entrance is a store that people sign in to.
type entrance struct {
	store    guest.Store
	sessions *session.Sessions
	count    atomic.Int64
}

func newEntrance(store guest.Store) (*entrance, error) {
	ring, err := seal.Load(context.Background(), store, time.Now)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return &entrance{store: store, sessions: session.Open(store, ring, time.Now)}, nil
}

func openOurs(dir string) (*entrance, error) {
	store, err := openStore(dir)
	if err != nil {
		return nil, err
	}
	return newEntrance(store)
}

// openStore opens our store in a directory.
func openStore(dir string) (guest.Archive, error) {
	module := &badger.Store{Dir: dir}
	if err := module.Provision(caddy.Context{}); err != nil {
		return nil, err
	}
	store, err := module.Open(guest.Env{Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	return store.(guest.Archive), nil
}

// turnOf is how many use an entrance at once.
type turnOf struct {
	*entrance
	atOnce int
}

// inTurn lets each have its turn, and returns the sign-ins a second.
func inTurn(length time.Duration, turns ...turnOf) (perSecond []float64, err error) {
	for _, t := range turns {
		done, took, err := t.busy(t.atOnce, length)
		if err != nil {
			return nil, fmt.Errorf("signing in: %w", err)
		}
		perSecond = append(perSecond, float64(done)/took.Seconds())
	}
	return perSecond, nil
}

// busy keeps the entrance busy for so long.
func (e *entrance) busy(atOnce int, length time.Duration) (done int64, took time.Duration, err error) {
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	before, began := e.count.Load(), time.Now()
	for range atOnce {
		wg.Go(func() {
			for time.Since(began) < length && failed.Load() == nil {
				if err := e.signIn(e.count.Add(1)); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, 0, *err
	}
	return e.count.Load() - before, time.Since(began), nil
}

// people is how many there are. Most sign-ins are of somebody who came before.
const people = 500

// signIn is what the gate writes when person n comes back from the provider.
func (e *entrance) signIn(n int64) error {
	arrival := arrivalOf("https://issuer.example", fmt.Sprint(n%people), fmt.Sprintf("visitor%d@example.com", n%people))
	ticket, err := e.sessions.Issue("app.example.com")
	if err != nil {
		return err
	}
	return e.store.Update(context.Background(), func(tx guest.Tx) error {
		_, err := e.begin(tx, ticket, arrival, 720*time.Hour)
		return err
	})
}

// arrivalOf is somebody who has just proven an account.
func arrivalOf(issuer, subject, email string) identity.Arrival {
	return identity.Arrival{
		Traits: guest.Traits{Name: "bench", Email: guest.EmailRules{Identifier: true}},
		Profile: guest.Profile{
			Issuer: issuer, Subject: subject, Name: "A Visitor",
			Email: email, EmailTrust: guest.Verified, Groups: []string{"staff", "engineering", "on-call"},
		},
		SignUp: func(identity.Email) bool { return true }, At: time.Now(),
	}
}

// begin lets somebody in, and keeps of it what the gate keeps.
func (e *entrance) begin(tx guest.Tx, ticket session.Ticket, a identity.Arrival, stays time.Duration) (*session.Session, error) {
	admitted, err := identity.Admit(tx, a)
	if err != nil {
		return nil, err
	}
	issuer, subject := a.Profile.Issuer, a.Profile.Subject
	begun, err := e.sessions.Start(tx, ticket, session.New{
		Person: admitted.Person, Provider: a.Traits.Name, AuthTime: a.At, At: a.At,
		Lifetime: stays, Idle: stays, Device: browser, Place: "198.51.0.0/16",
		Origin: session.Origin{Issuer: issuer, Subject: subject, SessionID: rand.Text(), IssuedAt: a.At},
		Grant:  &session.Grant{Issuer: issuer, Subject: subject, TokenSubject: subject, IDToken: hint, Proven: a.At},
	})
	if err != nil {
		return nil, err
	}
	return begun, activity.Write(tx, begun.User, activity.Entry{
		At: a.At, What: activity.SignedIn, Row: admitted.Row, Provider: a.Traits.Name,
		Device: "Chrome on Linux", Place: begun.Place, Session: begun.Handle, RequestID: "00000000-0000-4000-8000-000000000000",
	})
}

// browser is how one describes itself.
const browser = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"

// hint is as long as an ID token, which a session keeps for the sign-out.
var hint = guest.Secret(strings.Repeat("e30", 250))

// each is Badger as it is: every Update a transaction of its own, synced by
// itself.
type each struct{ db *badgerdb.DB }

// openEach opens Badger with our store's own settings, but for conflict
// detection: here transactions run side by side.
func openEach(dir string) (*entrance, error) {
	db, err := badgerdb.Open(ourOptions(dir))
	if err != nil {
		return nil, fmt.Errorf("opening Badger: %w", err)
	}
	return newEntrance(each{db})
}

// ourOptions are our store's own, but for conflict detection.
func ourOptions(dir string) badgerdb.Options {
	o := badgerdb.DefaultOptions(dir).WithSyncWrites(true).WithLogger(nil).WithMetricsEnabled(false)
	o.MemTableSize, o.NumMemtables = 4<<20, 1
	o.BaseTableSize, o.TableSizeMultiplier, o.BaseLevelSize = 2<<20, 1, 8<<20
	o.NumLevelZeroTables, o.NumLevelZeroTablesStall, o.NumCompactors, o.NumGoroutines = 2, 6, 2, 1
	o.Compression, o.BlockCacheSize, o.IndexCacheSize = dboptions.None, 0, 0
	o.ValueThreshold, o.ValueLogFileSize = 65<<10, 1<<20
	return o
}

func (e each) View(_ context.Context, fn func(guest.Tx) error) error {
	return e.db.View(func(txn *badgerdb.Txn) error { return fn(eachTx{txn}) })
}

// Update runs fn again where another transaction was faster: both read what
// one of them wrote.
func (e each) Update(_ context.Context, fn func(guest.Tx) error) error {
	for {
		err := e.db.Update(func(txn *badgerdb.Txn) error { return fn(eachTx{txn}) })
		if !errors.Is(err, badgerdb.ErrConflict) {
			return err
		}
	}
}

func (e each) Close() error { return e.db.Close() }

type eachTx struct{ txn *badgerdb.Txn }

func (t eachTx) Get(key []byte) ([]byte, error) {
	item, err := t.txn.Get(key)
	if errors.Is(err, badgerdb.ErrKeyNotFound) {
		return nil, guest.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return item.ValueCopy(nil)
}

func (t eachTx) Put(key, value []byte, expires time.Time) error {
	entry := badgerdb.NewEntry(key, value)
	if !expires.IsZero() {
		entry.ExpiresAt = uint64(expires.Unix())
	}
	return t.txn.SetEntry(entry)
}

func (t eachTx) Delete(key []byte) error { return t.txn.Delete(key) }

// Scan is not part of signing in.
func (eachTx) Scan([]byte, []byte, int, func(key, value []byte) bool) error {
	return errors.New("this benchmark scans nothing")
}

func (r *results) judgeSignIns() {
	if r.SignIns == nil {
		return
	}
	r.target("durable sign-ins, 64 at once : one transaction each", 8, r.SignIns.Ratio)
	last := &r.Targets[len(r.Targets)-1]
	last.AtLeast, last.Held = true, r.SignIns.Ratio.Median >= 8
}

func (r *results) printSignIns(w io.Writer) {
	s := r.SignIns
	if s == nil {
		return
	}
	fmt.Fprintf(w, "\nDURABLE SIGN-INS\ta second\tour store's to this\n")
	fmt.Fprintf(w, "  %d at once, our store\t%.0f (%.0f–%.0f)\t\n", atOnce, s.Together.Median, s.Together.Low, s.Together.High)
	fmt.Fprintf(w, "  %d at once, a Badger transaction each\t%.0f (%.0f–%.0f)\t%s\n", atOnce, s.Each.Median, s.Each.Low, s.Each.High, s.Ratio)
	fmt.Fprintf(w, "  one after the other, a Badger transaction each\t%.0f (%.0f–%.0f)\t%s\n", s.Alone.Median, s.Alone.Low, s.Alone.High, s.RatioAlone)
}
