package main

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
)

// What is laid down beside the house is what the house finds.
func TestCrowdIsWhatTheHouseFinds(t *testing.T) {
	dir := t.TempDir()
	if _, err := crowdIn(dir, 2000, 400, maxKnown); err != nil {
		t.Fatal(err)
	}
	c, err := crowdIn(dir, 2000, 400, maxKnown)
	if err != nil || c.made || len(c.Known) != 400 {
		t.Fatalf("%d known, made again: %t (error: %v)", len(c.Known), c.made, err)
	}
	e, err := openOurs(c.store)
	if err != nil {
		t.Fatal(err)
	}
	defer e.store.Close()
	if users := everybody(t, e); users != 2000 {
		t.Errorf("%d users", users)
	}
	for _, l := range lookups {
		for _, a := range []acquaintance{c.Known[0], c.Known[399]} {
			f, err := l.inside(e, a)
			if err != nil || !l.right(a, f) {
				t.Errorf("%s: of %s: %q (error: %v)", l.name, a.Subject, f.names, err)
			}
		}
	}
}

// Somebody in five browsers has five sessions, and is one person.
func TestCrowdComesInManyBrowsers(t *testing.T) {
	c, err := crowdIn(t.TempDir(), 20, 100, 10)
	if err != nil {
		t.Fatal(err)
	}
	e, err := openOurs(c.store)
	if err != nil {
		t.Fatal(err)
	}
	defer e.store.Close()
	if users := everybody(t, e); users != 20 || len(c.Known) != 10 {
		t.Errorf("%d users, %d known", users, len(c.Known))
	}
	for _, a := range c.Known {
		sessions, err := e.sessions.OfUser(t.Context(), a.ID)
		if err != nil || len(sessions) != 5 {
			t.Errorf("%s has %d sessions (error: %v)", a.Subject, len(sessions), err)
		}
	}
}

// everybody counts users, who all have an account and an address of their own.
func everybody(t *testing.T, e *entrance) (users int) {
	t.Helper()
	err := e.store.View(context.Background(), func(tx guest.Tx) error {
		for after, next := identity.UserID(""), identity.UserID("first"); next != ""; after = next {
			var page []identity.User
			var err error
			if page, next, err = identity.Page(tx, after, 1000); err != nil {
				return err
			}
			users += len(page)
			for _, user := range page {
				accounts, err := identity.Accounts(tx, user.ID)
				if err != nil || len(accounts) != 1 || accounts[0].Email != string(user.Email) || user.Email == "" {
					t.Errorf("%s has the address %q and the accounts %v (error: %v)", user.ID, user.Email, accounts, err)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return users
}

func TestKnownAreEvenlyOutOfAll(t *testing.T) {
	for _, c := range []crowd{{People: 1_000_000, Sessions: 200_000}, {People: 2000, Sessions: 400}, {People: 7003, Sessions: 1400}, {People: 1000, Sessions: 1000}, {People: 4000, Sessions: 20_000}} {
		c.Known = make([]acquaintance, min(c.signedIn(), maxKnown))
		var at []int
		last := 0
		for n := range c.People {
			if i, known := c.known(n); known {
				at, last = append(at, i), n
				if !c.isSignedIn(n) {
					t.Fatalf("of %d: %d is known and not signed in", c.People, n)
				}
			}
		}
		if len(at) != len(c.Known) || !slices.IsSorted(at) || last < c.People/2 {
			t.Errorf("of %d: %d are known, the last is %d", c.People, len(at), last)
		}
	}
}

func TestAnswerAboutAnotherDoesNotCount(t *testing.T) {
	ada := acquaintance{ID: "ada", Handle: "h"}
	var ids []string
	for i := range pageLength {
		ids = append(ids, "n"+string(rune('A'+i/26))+string(rune('a'+i%26)))
	}
	page := found{ids, ids[pageLength-1]}
	turned := found{slices.Clone(ids), page.next}
	slices.Reverse(turned.names)
	for name, c := range map[string]struct {
		right func(acquaintance, found) bool
		of    found
		want  bool
	}{
		"her":                      {isOnly, found{names: []string{"ada"}}, true},
		"another":                  {isOnly, found{names: []string{"eve"}}, false},
		"her and another":          {isOnly, found{names: []string{"ada", "eve"}}, false},
		"nobody":                   {isOnly, found{}, false},
		"her session":              {hasSession, found{names: []string{"g", "h"}}, true},
		"another session":          {hasSession, found{names: []string{"g"}}, false},
		"a page":                   {isPage("k"), page, true},
		"a page of before":         {isPage("o"), page, false},
		"a page out of order":      {isPage("k"), turned, false},
		"a page that is not whole": {isPage("k"), found{ids[1:], page.next}, false},
		"the last page":            {isPage("k"), found{ids, ""}, false},
	} {
		if c.right(ada, c.of) != c.want {
			t.Errorf("%s: right is not %t", name, c.want)
		}
	}
}

func TestLookupThatReadsTooMuchDoesNotCount(t *testing.T) {
	var store tally
	count := func() (tally, error) { return store, nil }
	read := func(n int64) func(acquaintance) (found, error) {
		return func(a acquaintance) (found, error) {
			store[reads] += n
			return found{names: []string{string(a.ID)}}, nil
		}
	}
	l := &lookup{name: "a user", right: isOnly, most: 2}
	people := []acquaintance{{ID: "ada"}, {ID: "eve"}}
	if c, err := l.ask(people, count, read(2)); err != nil || c.reads != 2 {
		t.Errorf("two records each: %+v, %v", c, err)
	}
	if _, err := l.ask(people, count, read(3)); err == nil {
		t.Error("three records each, of two that are needed")
	}
	wrong := func(acquaintance) (found, error) { return found{names: []string{"ada"}}, nil }
	if _, err := l.ask(people, count, wrong); err == nil {
		t.Error("eve was taken for ada")
	}
}

func TestSessionAtHandIsNotReadAgain(t *testing.T) {
	for name, want := range map[string]float64{townOld: 1, townWarm: 0} {
		for _, got := range []float64{0, 0.5, 1} {
			cost := new(logInCost)
			cost.Store[views] = got
			if err := isRead(&occasion{name: name}, cost); (err == nil) != (got == want) {
				t.Errorf("%s: the store was asked %g times: %v", name, got, err)
			}
		}
	}
}

func TestRushTellsTheLongestWaitAndTheFirstFailure(t *testing.T) {
	var r rush
	waits := []time.Duration{3, 9, 4}
	broken := errors.New("broken")
	enough := make(chan struct{})
	come := func() (time.Duration, error) {
		if len(waits) == 0 {
			return time.Hour, broken
		}
		wait := waits[0]
		if waits = waits[1:]; len(waits) == 0 {
			close(enough)
		}
		return wait * time.Millisecond, nil
	}
	if err := r.until(1, come, func() error { <-enough; return nil }); err != nil {
		t.Fatal(err)
	}
	if r.done.Load() != 3 || r.longestWait() != 9 {
		t.Errorf("%d came, the longest wait was %g ms", r.done.Load(), r.longestWait())
	}
	r.note(come())
	if r.longestWait() != 9 || !errors.Is(r.err(), broken) {
		t.Errorf("the longest wait was %g ms, the failure %v", r.longestWait(), r.err())
	}
}
