package session_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/session"
)

// rotate does in one transaction what also may do.
func (w *world) rotate(key session.Key, also ...func(guest.Tx) error) (fresh *session.Session, cookie string, err error) {
	w.t.Helper()
	ticket, err := w.sessions.Issue(host)
	w.must(err)
	err = w.store.Update(context.Background(), func(tx guest.Tx) (err error) {
		for _, do := range also {
			w.must(do(tx))
		}
		fresh, err = w.sessions.Rotate(tx, ticket, key, w.clock.Now())
		return err
	})
	if err == nil {
		w.sessions.Forget(key)
	}
	return fresh, ticket.Cookie, err
}

// change writes what do makes of the user, and has it be noticed.
func (w *world) change(do func(*identity.User)) {
	w.t.Helper()
	w.must(w.store.Update(context.Background(), w.changed(do)))
	w.must(w.sessions.ForgetUser(context.Background(), w.person.User.ID))
}

func (w *world) changed(do func(*identity.User)) func(guest.Tx) error {
	return func(tx guest.Tx) error {
		user, err := identity.ReadUser(tx, w.person.User.ID)
		if err != nil {
			return err
		}
		do(user)
		return identity.WriteUser(tx, user)
	}
}

func (w *world) endOlder(at time.Time) { w.change(func(u *identity.User) { u.SessionsFrom = at }) }

func TestUserEndsWhatIsOlder(t *testing.T) {
	w := newWorld(t)
	_, before := w.begin(session.New{})
	_, alsoBefore := w.begin(session.New{})
	w.signedIn(before)
	w.clock.Advance(time.Nanosecond)
	at := w.clock.Now()
	_, same := w.begin(session.New{At: at})
	w.clock.Advance(time.Hour)
	w.endOlder(at)
	_, after := w.begin(session.New{})
	for range 2 {
		w.signedOut(before)
		w.signedOut(alsoBefore)
		w.signedIn(same)
		w.signedIn(after)
		w.restart()
	}
}

func TestStreamsOfWhatAUserEndedAreClosed(t *testing.T) {
	w := newWorld(t)
	_, before := w.begin(session.New{})
	w.clock.Advance(time.Hour)
	_, after := w.begin(session.New{})
	ended, others := 0, 0
	w.sessions.Watch(context.Background(), w.atHand(before), &session.Stream{End: func() { ended++ }})
	w.sessions.Watch(context.Background(), w.atHand(after), &session.Stream{End: func() { others++ }})
	w.change(func(u *identity.User) { u.Name = "Ada" })
	if ended != 0 || others != 0 {
		t.Error("a new name closes streams")
	}
	w.endOlder(w.clock.Now())
	if ended == 0 || others != 0 {
		t.Errorf("closed %d times, that of a younger session %d times", ended, others)
	}
}

func TestRotatedSessionGoesOnUnderAnotherCookie(t *testing.T) {
	w := newWorld(t)
	g := granted
	old, oldCookie := w.begin(session.New{
		Grant: &g, AuthMethods: []string{"pwd"}, AuthTime: w.clock.Now(), Device: "a browser",
		Origin: session.Origin{Issuer: "https://id.example.com", Subject: "ada", SessionID: "s1"},
	})
	closed := 0
	w.sessions.Watch(context.Background(), w.atHand(oldCookie), &session.Stream{End: func() { closed++ }})
	w.clock.Advance(time.Hour)
	fresh, cookie, err := w.rotate(old.Key)
	w.must(err)
	if closed == 0 {
		t.Error("the old one's stream goes on")
	}
	for range 2 {
		w.signedOut(oldCookie)
		if live := w.signedIn(cookie); live.Grant == nil || *live.Grant != granted {
			t.Errorf("kept %+v", live.Grant)
		}
		w.restart()
	}
	live := w.signedIn(cookie)
	if live.Key == old.Key || live.Handle == old.Handle || live.Handle != fresh.Handle || !live.Created.Equal(w.clock.Now()) {
		t.Errorf("begun %+v, from %+v", live.Session, old)
	}
	same := live.Session
	same.Key, same.Handle, same.Created, same.Seen = old.Key, old.Handle, old.Created, old.Seen
	if !equal(same, *old) {
		t.Errorf("%+v became %+v", *old, same)
	}
	if n := w.records("grant/"); n != 1 {
		t.Errorf("%d grants are kept", n)
	}
}

func equal(a, b session.Session) bool {
	return a.Scope == b.Scope && a.User == b.User && string(a.Identity) == string(b.Identity) &&
		a.Provider == b.Provider && a.Origin == b.Origin && a.Keeps == b.Keeps && a.Device == b.Device &&
		len(a.AuthMethods) == len(b.AuthMethods) && a.AuthTime.Equal(b.AuthTime) &&
		a.Idle == b.Idle && a.Expires.Equal(b.Expires)
}

// A logout token names the sign-in, not the cookie.
func TestRotatedSessionEndsByItsProvidersWord(t *testing.T) {
	w := newWorld(t)
	origin := session.Origin{Issuer: "https://id.example.com", Subject: "ada", SessionID: "s1", IssuedAt: w.clock.Now()}
	old, _ := w.begin(session.New{Origin: origin})
	_, cookie, err := w.rotate(old.Key)
	w.must(err)
	ended, err := w.sessions.Logout(context.Background(), "corp", guest.Logout{
		Issuer: origin.Issuer, SessionID: "s1", ID: "once", IssuedAt: w.clock.Now(), Expires: w.clock.Now().Add(time.Hour),
	})
	if err != nil || len(ended) != 1 {
		t.Errorf("ended %d, %v", len(ended), err)
	}
	w.signedOut(cookie)
}

func TestOnlyALiveSessionIsRotated(t *testing.T) {
	for name, kill := range map[string]func(w *world, key session.Key){
		"ended":    func(w *world, key session.Key) { w.must(w.sessions.End(context.Background(), key)) },
		"idle":     func(w *world, _ session.Key) { w.clock.Advance(7 * 24 * time.Hour) },
		"disabled": func(w *world, _ session.Key) { w.change(func(u *identity.User) { u.State = identity.Disabled }) },
		"older": func(w *world, _ session.Key) {
			w.endOlder(w.clock.Now().Add(time.Second))
			w.clock.Advance(time.Minute)
		},
	} {
		w := newWorld(t)
		g := granted
		old, _ := w.begin(session.New{Grant: &g})
		kill(w, old.Key)
		_, cookie, err := w.rotate(old.Key)
		if !errors.Is(err, session.ErrNone) {
			t.Errorf("%s: %v", name, err)
		}
		w.signedOut(cookie)
	}
	w := newWorld(t)
	if _, _, err := w.rotate(session.Key{1}); !errors.Is(err, session.ErrNone) {
		t.Errorf("unknown: %v", err)
	}
}

// Whoever ends what is older, from this session and at this instant, goes on.
func TestSessionThatEndsTheOthersIsRotated(t *testing.T) {
	w := newWorld(t)
	mine, _ := w.begin(session.New{})
	_, other := w.begin(session.New{})
	w.clock.Advance(time.Hour)
	_, cookie, err := w.rotate(mine.Key, w.changed(func(u *identity.User) { u.SessionsFrom = w.clock.Now() }))
	w.must(err)
	w.must(w.sessions.ForgetUser(context.Background(), w.person.User.ID))
	w.signedIn(cookie)
	w.signedOut(other)
}

func TestSessionIsNotRotatedToAnotherScope(t *testing.T) {
	w := newWorld(t)
	old, cookie := w.begin(session.New{})
	ticket, err := w.sessions.Issue("other.example.com")
	w.must(err)
	err = w.store.Update(context.Background(), func(tx guest.Tx) error {
		_, err := w.sessions.Rotate(tx, ticket, old.Key, w.clock.Now())
		return err
	})
	if !errors.Is(err, session.ErrNone) {
		t.Errorf("got %v", err)
	}
	w.signedIn(cookie)
}
