package session_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/seal"
	"github.com/caddy-login/caddy-login/module/session"
)

// world is sessions on a real store, with a clock to turn.
type world struct {
	t        testing.TB
	dir      string
	store    guest.Store
	clock    *logintest.Clock
	sessions *session.Sessions
	person   identity.Person
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, dir: t.TempDir(), clock: new(logintest.Clock)}
	w.open()
	w.person = w.admit("ada")
	return w
}

func (w *world) open() {
	w.t.Helper()
	w.store = logintest.StoreIn(w.t, w.dir)
	ring, err := seal.Load(context.Background(), w.store, w.clock.Now)
	w.must(err)
	w.sessions = session.Open(w.store, ring, w.clock.Now)
}

// restart forgets everything that is not in the store, as kill -9 would.
func (w *world) restart() {
	w.t.Helper()
	w.must(w.store.Close())
	w.open()
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) admit(subject string) identity.Person {
	w.t.Helper()
	var admitted identity.Admitted
	w.must(w.store.Update(context.Background(), func(tx guest.Tx) (err error) {
		admitted, err = identity.Admit(tx, identity.Arrival{
			Traits:  guest.Traits{Name: "corp"},
			Profile: guest.Profile{Issuer: "https://id.example.com", Subject: subject, Name: subject},
			SignUp:  func(identity.Email) bool { return true }, At: w.clock.Now(),
		})
		return err
	}))
	return admitted.Person
}

const host = "app.example.com"

func (w *world) begin(n session.New) (*session.Session, string) {
	w.t.Helper()
	if n.Person.User.ID == "" {
		n.Person = w.person
	}
	n.Provider = "corp"
	n.Lifetime, n.Idle = 30*24*time.Hour, 7*24*time.Hour
	ticket, err := w.sessions.Issue(host)
	w.must(err)
	var begun *session.Session
	w.must(w.store.Update(context.Background(), func(tx guest.Tx) (err error) {
		begun, err = w.sessions.Start(tx, ticket, n)
		return err
	}))
	w.sessions.Forget(n.Replaces)
	return begun, ticket.Cookie
}

func (w *world) read(cookie string) (*session.AtHand, error) {
	return w.sessions.Read(context.Background(), host, cookie, w.clock.Now())
}

func (w *world) atHand(cookie string) *session.AtHand {
	w.t.Helper()
	held, err := w.read(cookie)
	w.must(err)
	return held
}

func (w *world) signedIn(cookie string) *session.Live {
	w.t.Helper()
	return w.atHand(cookie).Live()
}

func (w *world) signedOut(cookie string) {
	w.t.Helper()
	if live, err := w.read(cookie); !errors.Is(err, session.ErrNone) {
		w.t.Fatalf("session lives: %v, %v", live, err)
	}
}

func TestSessionIsReadUntilItsEnd(t *testing.T) {
	w := newWorld(t)
	begun, cookie := w.begin(session.New{})
	if live := w.signedIn(cookie); live.Key != begun.Key || live.Person.User.ID != w.person.User.ID {
		t.Errorf("read %+v", live.Session)
	}
	if len(cookie)+len("__Host-login=") > 400 {
		t.Errorf("cookie of %d bytes", len(cookie))
	}
	for range 4 {
		w.clock.Advance(6 * 24 * time.Hour)
		w.signedIn(cookie)
	}
	w.clock.Advance(6*24*time.Hour - time.Second)
	w.signedIn(cookie)
	w.clock.Advance(time.Second)
	w.signedOut(cookie)
}

func TestIdleSessionEnds(t *testing.T) {
	w := newWorld(t)
	_, cookie := w.begin(session.New{})
	w.signedIn(cookie)
	w.clock.Advance(7*24*time.Hour - time.Second)
	w.signedIn(cookie)
	w.clock.Advance(7 * 24 * time.Hour)
	w.signedOut(cookie)
	w.restart()
	w.signedOut(cookie)
}

func TestSessionOfAClockThatWasWrongIsNone(t *testing.T) {
	for ahead, lives := range map[time.Duration]bool{10 * time.Minute: true, 24 * time.Hour: true, 12 * 365 * 24 * time.Hour: false} {
		w := newWorld(t)
		now := w.clock.Now()
		w.clock.Advance(ahead)
		_, cookie := w.begin(session.New{})
		w.signedIn(cookie)
		w.clock.Set(now)
		for _, from := range []string{"memory", "the store"} {
			if _, err := w.read(cookie); (err == nil) != lives {
				t.Errorf("begun %v ahead of now, read from %s: %v", ahead, from, err)
			}
			w.restart()
		}
	}
}

func TestUseIsWrittenDownWithinAFlush(t *testing.T) {
	w := newWorld(t)
	_, cookie := w.begin(session.New{})
	w.clock.Advance(6 * 24 * time.Hour)
	w.signedIn(cookie)
	w.must(w.sessions.Flush(context.Background()))
	w.restart()
	w.clock.Advance(6 * 24 * time.Hour)
	w.signedIn(cookie)
}

func TestFlushDoesNotReviveAnEndedSession(t *testing.T) {
	w := newWorld(t)
	begun, cookie := w.begin(session.New{})
	w.clock.Advance(time.Hour)
	w.signedIn(cookie)
	w.must(w.sessions.End(context.Background(), begun.Key))
	w.must(w.sessions.Flush(context.Background()))
	w.restart()
	w.signedOut(cookie)
}

func TestEndedSessionStaysEnded(t *testing.T) {
	w := newWorld(t)
	begun, cookie := w.begin(session.New{})
	w.signedIn(cookie)
	w.must(w.sessions.End(context.Background(), begun.Key))
	w.signedOut(cookie)
	w.must(w.sessions.End(context.Background(), begun.Key))
	w.restart()
	w.signedOut(cookie)
}

func TestNewSessionReplacesTheBrowsersOldOne(t *testing.T) {
	w := newWorld(t)
	old, oldCookie := w.begin(session.New{})
	w.signedIn(oldCookie)
	fresh, cookie := w.begin(session.New{Replaces: old.Key})
	w.signedOut(oldCookie)
	w.signedIn(cookie)
	if fresh.Handle == old.Handle || cookie == oldCookie {
		t.Error("the new session has something of the old one")
	}
}

func TestManySessionsEndInParts(t *testing.T) {
	w := newWorld(t)
	kept, keptCookie := w.begin(session.New{})
	keys, cookies := []session.Key{{1: 1}}, []string{} // one that nobody has
	for range 600 {
		begun, cookie := w.begin(session.New{})
		keys, cookies = append(keys, begun.Key), append(cookies, cookie)
	}
	w.signedIn(cookies[599]) // at hand
	before := w.records("session/")
	w.must(w.sessions.EndMany(context.Background(), keys))
	for _, cookie := range cookies {
		w.signedOut(cookie)
	}
	w.restart()
	w.signedOut(cookies[0])
	w.signedIn(keptCookie)
	if kept.Key == (session.Key{}) || w.records("session/") != before {
		t.Error("an end is no longer kept")
	}
}

func TestEndAllKeepsOneAndOtherPeoples(t *testing.T) {
	w := newWorld(t)
	bob := w.admit("bob")
	_, bobs := w.begin(session.New{Person: bob})
	kept, keptCookie := w.begin(session.New{})
	var others []string
	for range 300 {
		_, cookie := w.begin(session.New{})
		others = append(others, cookie)
	}
	w.signedIn(others[0])
	w.must(w.sessions.EndAll(context.Background(), w.person.User.ID, kept.Key))
	w.signedIn(keptCookie)
	w.signedIn(bobs)
	for _, cookie := range others {
		w.signedOut(cookie)
	}
}

func TestDisabledUserIsOutAtTheNextRequest(t *testing.T) {
	w := newWorld(t)
	_, cookie := w.begin(session.New{})
	w.signedIn(cookie)
	user := w.person.User
	user.State = identity.Disabled
	w.must(w.store.Update(context.Background(), func(tx guest.Tx) error { return identity.WriteUser(tx, &user) }))
	w.must(w.sessions.ForgetUser(context.Background(), user.ID))
	w.signedOut(cookie)
}

func TestChangedGroupsReachTheNextRequest(t *testing.T) {
	w := newWorld(t)
	_, cookie := w.begin(session.New{})
	w.signedIn(cookie)
	user := w.person.User
	user.Groups = []string{"admins"}
	w.must(w.store.Update(context.Background(), func(tx guest.Tx) error { return identity.WriteUser(tx, &user) }))
	w.must(w.sessions.ForgetUser(context.Background(), user.ID))
	if got := w.signedIn(cookie).Person.Groups(); len(got) != 1 || got[0] != "admins" {
		t.Errorf("groups %q", got)
	}
}

func TestCookieIsGoodForItsScopeOnly(t *testing.T) {
	w := newWorld(t)
	_, cookie := w.begin(session.New{})
	for _, warm := range []bool{false, true} {
		for _, scope := range []string{"other.example.com", ".example.com", "APP.example.com", ""} {
			if _, err := w.sessions.Read(context.Background(), scope, cookie, w.clock.Now()); !errors.Is(err, session.ErrNone) {
				t.Errorf("warm %v: good on %q", warm, scope)
			}
		}
		w.signedIn(cookie)
	}
}

func TestNoOtherSpellingOfACookieOpens(t *testing.T) {
	w := newWorld(t)
	_, cookie := w.begin(session.New{})
	for i := range len(cookie) {
		for _, c := range []byte("A_-=b\n\"") {
			if other := cookie[:i] + string(c) + cookie[i+1:]; other != cookie {
				w.signedOut(other)
			}
		}
		w.signedOut(cookie[:i])
	}
	for _, other := range []string{cookie + "=", cookie + "A", " " + cookie, cookie + "\r\n", strings.TrimRight(cookie, "=") + "==", `"` + cookie + `"`} {
		if other != cookie {
			w.signedOut(other)
		}
	}
	w.signedIn(cookie)
}

func TestStoreHoldsNoSessionID(t *testing.T) {
	w := newWorld(t)
	begun, cookie := w.begin(session.New{})
	w.must(w.store.View(context.Background(), func(tx guest.Tx) error {
		return tx.Scan([]byte("session/"), nil, 0, func(key, value []byte) bool {
			if bytes.Contains(value, []byte(cookie)) || !bytes.Contains(key, begun.Key[:]) {
				t.Errorf("%q: %q", key, value)
			}
			return true
		})
	}))
}

// failing is a store whose reads fail once told to.
type failing struct {
	guest.Store
	broken atomic.Bool
	reads  atomic.Int64
}

var errDisk = errors.New("disk is on fire")

func (f *failing) View(ctx context.Context, fn func(guest.Tx) error) error {
	f.reads.Add(1)
	if f.broken.Load() {
		return errDisk
	}
	return f.Store.View(ctx, fn)
}

func (w *world) onFailing() *failing {
	w.t.Helper()
	store := &failing{Store: w.store}
	ring, err := seal.Load(context.Background(), store, w.clock.Now)
	w.must(err)
	w.sessions = session.Open(store, ring, w.clock.Now)
	return store
}

func TestSessionInUseNeedsNoStore(t *testing.T) {
	w := newWorld(t)
	store := w.onFailing()
	_, cookie := w.begin(session.New{})
	_, cold := w.begin(session.New{})
	w.signedIn(cookie)
	store.broken.Store(true)
	before := store.reads.Load()
	for range 100 {
		w.signedIn(cookie)
	}
	if reads := store.reads.Load() - before; reads != 0 {
		t.Errorf("%d reads of the store on the signed-in path", reads)
	}
	if _, err := w.read(cold); !errors.Is(err, errDisk) {
		t.Errorf("a store that fails says %v about a session it can't read", err)
	}
}

// Whatever the interleaving, once End has answered no Read finds the session.
func TestReadNeverFindsWhatEndHasEnded(t *testing.T) {
	w := newWorld(t)
	for range 200 {
		begun, cookie := w.begin(session.New{})
		var ended atomic.Bool
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 20 {
					after := ended.Load()
					if _, err := w.read(cookie); after && err == nil {
						t.Error("an ended session was read")
					}
				}
			})
		}
		wg.Go(func() {
			w.must(w.sessions.End(context.Background(), begun.Key))
			ended.Store(true)
		})
		wg.Wait()
		w.signedOut(cookie)
	}
}

func TestStreamEndsWithItsSession(t *testing.T) {
	w := newWorld(t)
	begun, cookie := w.begin(session.New{})
	held := w.atHand(cookie)
	var ended, other, released atomic.Int64
	streams := []*session.Stream{
		{End: func() { ended.Add(1) }}, {End: func() { released.Add(1) }}, {End: func() { ended.Add(1) }},
	}
	for _, s := range streams {
		w.sessions.Watch(context.Background(), held, s)
	}
	_, othersCookie := w.begin(session.New{})
	w.sessions.Watch(context.Background(), w.atHand(othersCookie), &session.Stream{End: func() { other.Add(1) }})
	w.sessions.Release(streams[1])
	w.sessions.Release(streams[1])

	w.must(w.sessions.End(context.Background(), begun.Key))
	if ended.Load() != 2 || other.Load() != 0 || released.Load() != 0 {
		t.Errorf("ended %d of its two streams, %d of another session, %d released", ended.Load(), other.Load(), released.Load())
	}
}

func TestStreamOpenedOnAnEndedSessionEndsAtOnce(t *testing.T) {
	w := newWorld(t)
	begun, cookie := w.begin(session.New{})
	held := w.atHand(cookie)
	w.must(w.sessions.End(context.Background(), begun.Key))
	ended := false
	w.sessions.Watch(context.Background(), held, &session.Stream{End: func() { ended = true }})
	if !ended {
		t.Error("the stream goes on")
	}
}

// Whoever changes somebody closes their streams; one that is only now opened, by
// a request that was let through before, has escaped that.
func TestStreamOpenedByWhoHasChangedSinceEndsAtOnce(t *testing.T) {
	w := newWorld(t)
	_, cookie := w.begin(session.New{})
	for _, change := range []struct {
		groups []string
		ends   bool
	}{{[]string{"staff"}, true}, {[]string{"staff"}, false}, {nil, true}} {
		held := w.atHand(cookie)
		w.must(w.store.Update(context.Background(), func(tx guest.Tx) error {
			_, err := identity.SetGroups(tx, w.person.User.ID, change.groups)
			return err
		}))
		w.must(w.sessions.ForgetUser(context.Background(), w.person.User.ID))
		ended := false
		w.sessions.Watch(context.Background(), held, &session.Stream{End: func() { ended = true }})
		if ended != change.ends {
			t.Errorf("the groups became %q: the stream ended: %t", change.groups, ended)
		}
	}
}

func TestSweepEndsStreamsOfExpiredSessions(t *testing.T) {
	w := newWorld(t)
	_, cookie := w.begin(session.New{})
	ended := false
	w.sessions.Watch(context.Background(), w.atHand(cookie), &session.Stream{End: func() { ended = true }})
	w.clock.Advance(7*24*time.Hour - time.Second)
	w.sessions.Sweep(context.Background())
	if ended {
		t.Fatal("ended before its time")
	}
	w.clock.Advance(time.Minute)
	w.sessions.Sweep(context.Background())
	if !ended {
		t.Error("the stream of an expired session goes on")
	}
}

func TestKeysRotateAndSignNobodyOut(t *testing.T) {
	w := newWorld(t)
	ring, err := seal.Load(context.Background(), w.store, w.clock.Now)
	w.must(err)
	w.sessions = session.Open(w.store, ring, w.clock.Now)
	_, cookie := w.begin(session.New{})
	w.clock.Advance(31 * 24 * time.Hour)
	w.must(ring.Rotate(context.Background(), 30*24*time.Hour))
	w.clock.Advance(-30 * 24 * time.Hour) // the session's time, not the key's
	w.signedIn(cookie)
	w.restart()
	w.signedIn(cookie)
}

func BenchmarkReadWarm(b *testing.B) {
	w := newWorld(b)
	_, cookie := w.begin(session.New{})
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.sessions.Read(ctx, host, cookie, w.clock.Now()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadCold(b *testing.B) {
	w := newWorld(b)
	begun, cookie := w.begin(session.New{})
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		w.sessions.Forget(begun.Key)
		if _, err := w.sessions.Read(ctx, host, cookie, w.clock.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
