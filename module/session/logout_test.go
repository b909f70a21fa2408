package session_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/session"
)

const issuer = "https://id.example.com"

func (w *world) origin(subject, sid string) session.Origin {
	return session.Origin{Issuer: issuer, Subject: subject, SessionID: sid, IssuedAt: w.clock.Now()}
}

// logout is what a logout token says, which comes a second later.
func (w *world) logout(subject, sid, id string) guest.Logout {
	w.clock.Advance(time.Second)
	return guest.Logout{
		Issuer: issuer, Subject: subject, SessionID: sid, ID: id,
		IssuedAt: w.clock.Now(), Expires: w.clock.Now().Add(5 * time.Minute),
	}
}

func (w *world) logsOut(l guest.Logout) []*session.Session {
	w.t.Helper()
	ended, err := w.sessions.Logout(context.Background(), "corp", l)
	w.must(err)
	return ended
}

func TestLogoutTokenEndsTheSessionItNames(t *testing.T) {
	w := newWorld(t)
	_, desk := w.begin(session.New{Origin: w.origin("ada", "desk")})
	_, phone := w.begin(session.New{Origin: w.origin("ada", "phone")})
	_, other := w.begin(session.New{Origin: w.origin("grace", "grace's")})
	w.signedIn(desk)
	if ended := w.logsOut(w.logout("ada", "desk", "1")); len(ended) != 1 || ended[0].Origin.SessionID != "desk" {
		t.Errorf("ended %v", ended)
	}
	w.signedOut(desk)
	w.signedIn(phone)
	w.signedIn(other)
	w.restart()
	w.signedOut(desk)
	w.signedIn(phone)
}

func TestLogoutTokenWithoutSessionEndsAllOfThePerson(t *testing.T) {
	w := newWorld(t)
	_, desk := w.begin(session.New{Origin: w.origin("ada", "desk")})
	_, phone := w.begin(session.New{Origin: w.origin("ada", "")})
	_, other := w.begin(session.New{Origin: w.origin("grace", "grace's")})
	w.logsOut(w.logout("ada", "", "1"))
	w.signedOut(desk)
	w.signedOut(phone)
	w.signedIn(other)
	for _, index := range []string{"sid/", "sub/"} {
		if n := w.records(index); n != 1 {
			t.Errorf("%s lists %d sessions, want Grace's", index, n)
		}
	}
}

// A provider may name the session in the logout token, and not have named it in
// the ID token: then it may be any of the person's that have no name.
func TestLogoutTokenEndsSessionsThatHaveNoName(t *testing.T) {
	w := newWorld(t)
	_, nameless := w.begin(session.New{Origin: w.origin("ada", "")})
	_, other := w.begin(session.New{Origin: w.origin("ada", "another")})
	_, grace := w.begin(session.New{Origin: w.origin("grace", "")})
	w.logsOut(w.logout("ada", "desk", "1"))
	w.signedOut(nameless)
	w.signedIn(other)
	w.signedIn(grace)
}

// Logout tokens may overtake each other: the latest end counts.
func TestLateLogoutTokenTakesNothingBack(t *testing.T) {
	w := newWorld(t)
	early := w.logout("ada", "", "1")
	between := w.origin("ada", "x")
	w.logsOut(w.logout("ada", "", "2"))
	w.logsOut(early)
	ticket, err := w.sessions.Issue(host)
	w.must(err)
	err = w.store.Update(context.Background(), func(tx guest.Tx) error {
		_, err := w.sessions.Start(tx, ticket, session.New{
			Person: w.person, Provider: "corp", Lifetime: time.Hour, Idle: time.Hour, Origin: between,
		})
		return err
	})
	if !errors.Is(err, session.ErrLoggedOut) {
		t.Errorf("begun all the same: %v", err)
	}
}

// One person has more sessions at a provider's than one transaction ends; each
// browser may share the sid.
func TestLogoutTokenEndsMoreThanATransactionHolds(t *testing.T) {
	w := newWorld(t)
	const many = 600
	cookies := make([]string, many)
	for i := range cookies {
		_, cookies[i] = w.begin(session.New{Origin: w.origin("ada", "shared")})
	}
	if ended := w.logsOut(w.logout("", "shared", "1")); len(ended) != many {
		t.Errorf("ended %d of %d", len(ended), many)
	}
	for _, cookie := range cookies {
		w.signedOut(cookie)
	}
}

func TestLogoutTokenIsUsedOnce(t *testing.T) {
	w := newWorld(t)
	l := w.logout("ada", "", "the id")
	var taken, replayed atomic.Int32
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			switch _, err := w.sessions.Logout(context.Background(), "corp", l); {
			case err == nil:
				taken.Add(1)
			case errors.Is(err, session.ErrReplayed):
				replayed.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if taken.Load() != 1 || replayed.Load() != 31 {
		t.Errorf("taken %d times, %d replayed", taken.Load(), replayed.Load())
	}
	w.restart()
	_, cookie := w.begin(session.New{Origin: session.Origin{Issuer: issuer, Subject: "ada", IssuedAt: w.clock.Now().Add(time.Second)}})
	if _, err := w.sessions.Logout(context.Background(), "corp", l); !errors.Is(err, session.ErrReplayed) {
		t.Errorf("after a restart: %v", err)
	}
	w.signedIn(cookie)
}

func TestLogoutTokenMeansOneProviderAndIssuer(t *testing.T) {
	w := newWorld(t)
	_, cookie := w.begin(session.New{Origin: w.origin("ada", "desk")})
	l := w.logout("ada", "desk", "1")
	if ended, err := w.sessions.Logout(context.Background(), "another", l); err != nil || len(ended) != 0 {
		t.Errorf("ended %v, %v", ended, err)
	}
	foreign := l
	foreign.Issuer = "https://evil.example.com"
	w.logsOut(foreign)
	// A subject that is spelt as a session, and the other way round.
	w.logsOut(w.logout("desk", "", "2"))
	w.logsOut(w.logout("", "ada", "3"))
	w.signedIn(cookie)
}

// The token may overtake the browser that is still on its way back to us.
func TestLogoutTokenMayComeBeforeItsSession(t *testing.T) {
	for what, l := range map[string][2]string{"by session": {"ada", "desk"}, "by subject": {"ada", ""}} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			late := w.origin("ada", "desk")
			w.logsOut(w.logout(l[0], l[1], "1"))
			w.restart()
			ticket, err := w.sessions.Issue(host)
			w.must(err)
			start := func(o session.Origin) error {
				return w.store.Update(context.Background(), func(tx guest.Tx) error {
					_, err := w.sessions.Start(tx, ticket, session.New{
						Person: w.person, Provider: "corp", Lifetime: time.Hour, Idle: time.Hour, Origin: o,
					})
					return err
				})
			}
			if err := start(late); !errors.Is(err, session.ErrLoggedOut) {
				t.Errorf("begun all the same: %v", err)
			}
			w.signedOut(ticket.Cookie)
			w.clock.Advance(time.Second)
			w.must(start(w.origin("ada", "the next")))
			w.signedIn(ticket.Cookie)
		})
	}
}

func TestSignInAndLogoutTokenAtOnceLeaveNobodyIn(t *testing.T) {
	w := newWorld(t)
	for round := range 20 {
		sid := fmt.Sprint("sid ", round)
		n := session.New{
			Person: w.person, Provider: "corp", Lifetime: time.Hour, Idle: time.Hour, Origin: w.origin("ada", sid),
		}
		l := w.logout("ada", sid, sid)
		ticket, err := w.sessions.Issue(host)
		w.must(err)
		var both sync.WaitGroup
		both.Go(func() {
			err := w.store.Update(context.Background(), func(tx guest.Tx) error {
				_, err := w.sessions.Start(tx, ticket, n)
				return err
			})
			if err != nil && !errors.Is(err, session.ErrLoggedOut) {
				t.Error(err)
			}
		})
		both.Go(func() {
			if _, err := w.sessions.Logout(context.Background(), "corp", l); err != nil {
				t.Error(err)
			}
		})
		both.Wait()
		w.signedOut(ticket.Cookie)
	}
}
