package main

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
)

// lookup is something that an operator asks.
type lookup struct {
	name string
	// path is how they ask the admin endpoint, inside how the house asks.
	path   func(acquaintance) string
	inside func(*entrance, acquaintance) (found, error)
	right  func(acquaintance, found) bool
	most   int64 // records that it may read
}

// found is an answer: of users their ids, of sessions their handles.
type found struct {
	names []string
	next  string // where the next page begins
}

const (
	pageLength = 100
	// middle is where half of all ids come before.
	middle = "k"
)

var lookups = []lookup{
	{"a user by id",
		func(a acquaintance) string { return "users?id=" + string(a.ID) },
		func(e *entrance, a acquaintance) (found, error) { return e.find(identity.Query{ID: a.ID}) }, isOnly, 1},
	{"a user by address",
		func(a acquaintance) string { return "users?email=" + url.QueryEscape(string(a.email())) },
		func(e *entrance, a acquaintance) (found, error) { return e.find(identity.Query{Email: a.email()}) }, isOnly, 3},
	{"a user by account",
		func(a acquaintance) string { return "users?identity=bench:" + a.Subject },
		func(e *entrance, a acquaintance) (found, error) {
			return e.find(identity.Query{Provider: "bench", Subject: a.Subject})
		}, isOnly, 3},
	{"the first 100 users",
		func(acquaintance) string { return "users" },
		func(e *entrance, _ acquaintance) (found, error) { return e.page("") }, isPage(""), pageLength + 1},
	{"100 users from the middle",
		func(acquaintance) string { return "users?after=" + middle },
		func(e *entrance, _ acquaintance) (found, error) { return e.page(middle) }, isPage(middle), pageLength + 1},
	{"the sessions of a user",
		func(a acquaintance) string { return "sessions?user=" + string(a.ID) },
		(*entrance).sessionsOf, hasSession, 1 + 2*mostSessions},
}

// mostSessions is more than anybody has here, who signs in now and then.
const mostSessions = 100

func isOnly(a acquaintance, f found) bool { return slices.Equal(f.names, []string{string(a.ID)}) }

func hasSession(a acquaintance, f found) bool { return slices.Contains(f.names, a.Handle) }

// isPage reports whether what was found is a whole page, in order, that another
// follows where the last user is not on it.
func isPage(after string) func(acquaintance, found) bool {
	return func(_ acquaintance, f found) bool {
		return len(f.names) == pageLength && slices.IsSorted(f.names) && f.names[0] > after && f.next == f.names[pageLength-1]
	}
}

func (e *entrance) find(q identity.Query) (f found, err error) {
	err = e.store.View(context.Background(), func(tx guest.Tx) error {
		users, err := identity.Find(tx, q)
		f = foundUsers(users, "")
		return err
	})
	return f, err
}

func (e *entrance) page(after identity.UserID) (f found, err error) {
	err = e.store.View(context.Background(), func(tx guest.Tx) error {
		users, next, err := identity.Page(tx, after, pageLength)
		f = foundUsers(users, next)
		return err
	})
	return f, err
}

func foundUsers(users []identity.User, next identity.UserID) found {
	f := found{next: string(next)}
	for _, user := range users {
		f.names = append(f.names, string(user.ID))
	}
	return f
}

func (e *entrance) sessionsOf(a acquaintance) (f found, err error) {
	sessions, err := e.sessions.OfUser(context.Background(), a.ID)
	for _, s := range sessions {
		f.names = append(f.names, s.Handle)
	}
	return f, err
}

// fromOutside asks the admin endpoint.
func (l *lookup) fromOutside(t *town, a acquaintance) (f found, err error) {
	var answer struct {
		Users    []struct{ ID string }
		Sessions []struct{ Handle string }
		Next     string
	}
	err = t.request(l.path(a), &answer)
	for _, user := range answer.Users {
		f.names = append(f.names, user.ID)
	}
	for _, s := range answer.Sessions {
		f.names = append(f.names, s.Handle)
	}
	f.next = answer.Next
	return f, err
}

// cost is what one lookup costs: how long it takes, and how many records are
// read.
type cost struct {
	took  time.Duration
	reads float64
}

// ask asks for each of them, and reports an error where an answer is wrong or
// cost the store too much. tally reads what the store was asked so far.
func (l *lookup) ask(all []acquaintance, tally func() (tally, error), ask func(acquaintance) (found, error)) (c cost, err error) {
	before, err := tally()
	if err != nil {
		return c, err
	}
	for _, a := range all {
		began := time.Now()
		f, err := ask(a)
		c.took += time.Since(began)
		if err != nil {
			return c, err
		}
		if !l.right(a, f) {
			return c, fmt.Errorf("%s: of %s was found %.200q", l.name, a.Subject, f.names)
		}
	}
	after, err := tally()
	c.took /= time.Duration(len(all))
	c.reads = float64(after.since(before)[reads]) / float64(len(all))
	if err == nil && c.reads > float64(l.most) {
		err = fmt.Errorf("%s: read %g records, at most %d are needed", l.name, c.reads, l.most)
	}
	return c, err
}
