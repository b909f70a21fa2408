package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	badgerdb "github.com/dgraph-io/badger/v4"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
)

// crowd is a store full of people: each a user with one account, and some of
// them signed in, or all of them, in as many browsers each as there are sessions
// to a person. All was written by what the house itself writes with.
type crowd struct {
	People   int `json:"people"`
	Sessions int `json:"sessions"`
	// Took is how long it took to make, in seconds, and Disk what it takes, in
	// bytes.
	Took float64 `json:"took"`
	Disk int64   `json:"disk"`
	// Known are some of those who are signed in, evenly out of all.
	Known []acquaintance `json:"known"`

	store string // its directory
	made  bool   // made just now
}

// acquaintance is somebody of a crowd whom we can ask for.
type acquaintance struct {
	ID      identity.UserID `json:"id"`
	Subject string          `json:"subject"`
	Cookie  string          `json:"cookie"`
	Handle  string          `json:"handle"`
}

func (a *acquaintance) email() identity.Email {
	return identity.Email(a.Subject + "@" + invited)
}

const (
	// crowdFormat names what is written of a person: a crowd of another is made
	// anew.
	crowdFormat = "first"
	// crowdIssuer is where a crowd has its accounts, wherever it is served: the
	// same in each run, since it is part of what an account is known by.
	crowdIssuer = "https://crowd.example"
	// maxKnown bounds those whom we know of very many people, and is how many there
	// are in the store that they are compared with.
	maxKnown = 1000
	// signedInOf is how many people there are to one who is signed in.
	signedInOf = 5
	// crowdScope is where they are signed in: at any port of this host.
	crowdScope = "localhost"
	// perSheet is how many are written at once.
	perSheet = 20_000
	// crowdStays is how long their sessions live: a crowd may be used next month.
	crowdStays = 10 * 365 * 24 * time.Hour
)

// crowdIn is the crowd of so many people in a directory for crowds, with so many
// sessions, of at most known of which we have the cookie. It is made where there
// is none.
func crowdIn(dir string, people, sessions, known int) (*crowd, error) {
	place := filepath.Join(dir, fmt.Sprintf("caddy-login-bench-%s-%d-%d-%d", crowdFormat, people, sessions, known))
	text, err := os.ReadFile(filepath.Join(place, "crowd.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return makeCrowd(place, &crowd{People: people, Sessions: sessions}, known)
	}
	if err != nil {
		return nil, fmt.Errorf("reading who is in the crowd: %w", err)
	}
	c := &crowd{store: filepath.Join(place, "store")}
	if err := json.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("reading who is in the crowd, remove %s: %w", place, err)
	}
	return c, nil
}

// makeCrowd makes one beside its place, and moves it there once it is whole.
func makeCrowd(place string, c *crowd, known int) (_ *crowd, err error) {
	making, err := os.MkdirTemp(filepath.Dir(place), "caddy-login-bench-making-")
	if err != nil {
		return nil, fmt.Errorf("making a directory for people: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(making)) }()
	began := time.Now()
	c.made, c.store = true, filepath.Join(making, "store")
	c.Known = make([]acquaintance, min(c.signedIn(), known))
	if err := c.make(); err != nil {
		return nil, fmt.Errorf("making %d people: %w", c.People, err)
	}
	c.Took = time.Since(began).Seconds()
	if c.Disk, err = lengthOfFiles(c.store); err != nil {
		return nil, err
	}
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(making, "crowd.json"), text, 0o600); err != nil {
		return nil, fmt.Errorf("writing who is in the crowd: %w", err)
	}
	c.store = filepath.Join(place, "store")
	return c, os.Rename(making, place)
}

// make has the house begin a store, and writes the people beside it: made one
// by one, a million would wait an hour for the disk.
func (c *crowd) make() error {
	e, err := openOurs(c.store)
	if err != nil {
		return err
	}
	if err := e.store.Close(); err != nil {
		return err
	}
	if err := fillStore(c.store, func(db *badgerdb.DB) error { return c.fill(db, e) }); err != nil {
		return err
	}
	return c.check()
}

// fill writes everybody, in any order: a sheet of people after the other, as
// many at once as there are processors.
func (c *crowd) fill(db *badgerdb.DB, e *entrance) error {
	var all sync.WaitGroup
	var next atomic.Int64
	errs := make([]error, runtime.NumCPU())
	for i := range errs {
		all.Go(func() {
			for errs[i] == nil {
				first := int(next.Add(1)-1) * perSheet
				if first >= c.People {
					return
				}
				errs[i] = c.settle(db, e, first, min(first+perSheet, c.People))
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// settle writes the people from first to before last.
func (c *crowd) settle(db *badgerdb.DB, e *entrance, first, last int) error {
	tx := make(sheet)
	for n := first; n < last; n++ {
		a, err := c.admit(tx, e, n)
		if err != nil {
			return err
		}
		if at, known := c.known(n); known {
			c.Known[at] = a
		}
	}
	return tx.write(db)
}

// check finds those whom we know by way of the house, so that nobody looks into
// a crowd that was not written as the house writes.
func (c *crowd) check() (err error) {
	e, err := openOurs(c.store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.store.Close()) }()
	for _, a := range c.Known {
		held, err := e.sessions.Read(context.Background(), crowdScope, a.Cookie, time.Now())
		if err != nil {
			return fmt.Errorf("reading the session of %s: %w", a.Subject, err)
		}
		if live := held.Live(); live.User != a.ID || live.Person.Identity.Subject != a.Subject {
			return fmt.Errorf("the session of %s is another's", a.Subject)
		}
	}
	return nil
}

// browsers is in how many each is signed in who is, and signedIn how many are.
func (c *crowd) browsers() int { return max(1, c.Sessions/c.People) }

func (c *crowd) signedIn() int { return c.Sessions / c.browsers() }

// isSignedIn and known choose evenly: the first of each so many.
func (c *crowd) isSignedIn(n int) bool { return n%(c.People/c.signedIn()) == 0 }

func (c *crowd) known(n int) (at int, known bool) {
	apart := c.People / c.signedIn() * (c.signedIn() / len(c.Known))
	return n / apart, n%apart == 0 && n/apart < len(c.Known)
}

// admit writes person n, and, if they are signed in, their sessions, of which it
// returns the first.
func (c *crowd) admit(tx guest.Tx, e *entrance, n int) (a acquaintance, err error) {
	a.Subject = fmt.Sprintf("crowd-%d", n)
	arrival := arrivalOf(crowdIssuer, a.Subject, string(a.email()))
	if !c.isSignedIn(n) {
		admitted, err := identity.Admit(tx, arrival)
		a.ID = admitted.Person.User.ID
		return a, err
	}
	for range c.browsers() {
		ticket, err := e.sessions.Issue(crowdScope)
		if err != nil {
			return a, err
		}
		begun, err := e.begin(tx, ticket, arrival, crowdStays)
		if err != nil {
			return a, err
		}
		if a.Cookie == "" {
			a.ID, a.Cookie, a.Handle = begun.User, ticket.Cookie, begun.Handle
		}
	}
	return a, nil
}

// copyTo copies the store, which must not be open, to a directory that is not
// there yet.
func (c *crowd) copyTo(dir string) error {
	if err := os.CopyFS(dir, os.DirFS(c.store)); err != nil {
		return fmt.Errorf("copying the crowd: %w", err)
	}
	return os.Chmod(dir, 0o700)
}
