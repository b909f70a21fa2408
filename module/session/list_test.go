package session_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/session"
)

func TestSessionIsFoundByItsHandle(t *testing.T) {
	w := newWorld(t)
	begun, cookie := w.begin(session.New{})
	w.begin(session.New{})
	if len(begun.Handle) != 16 || begun.Handle != begun.Key.Handle() || strings.ToLower(begun.Handle) != begun.Handle {
		t.Errorf("handle %q", begun.Handle)
	}
	for range 2 {
		if found, err := w.sessions.ByHandle(context.Background(), begun.Handle); err != nil || found.Key != begun.Key || found.Handle != begun.Handle {
			t.Errorf("found %+v, %v", found, err)
		}
		w.restart()
	}
	if live := w.signedIn(cookie); live.Handle != begun.Handle {
		t.Errorf("read as %q", live.Handle)
	}
	w.must(w.sessions.End(context.Background(), begun.Key))
	if found, err := w.sessions.ByHandle(context.Background(), begun.Handle); err != nil || found.Ended.IsZero() {
		t.Errorf("once ended: %+v, %v", found, err)
	}
}

func TestWhatIsNoHandleFindsNothing(t *testing.T) {
	w := newWorld(t)
	begun, _ := w.begin(session.New{})
	h := begun.Handle
	for _, other := range []string{
		"", "a", h[:15], h[:14], h + "a", strings.ToUpper(h), h + "\n", "\r\n" + h, h[:8] + "=" + h[9:],
		strings.Repeat("a", 16), string(begun.Key[:10]),
	} {
		if found, err := w.sessions.ByHandle(context.Background(), other); !errors.Is(err, guest.ErrNotFound) {
			t.Errorf("%q found %+v, %v", other, found, err)
		}
	}
}

// Nobody finds a second hash with the same 80 bits; but if somebody did, it must
// not lead to ending another's session.
func TestHandleOfTwoSessionsFindsNeither(t *testing.T) {
	w := newWorld(t)
	begun, _ := w.begin(session.New{})
	twin := begun.Key
	twin[31]++
	w.must(w.store.Update(context.Background(), func(tx guest.Tx) error {
		raw, err := tx.Get([]byte("session/" + string(begun.Key[:])))
		if err != nil {
			return err
		}
		return tx.Put([]byte("session/"+string(twin[:])), raw, time.Time{})
	}))
	if found, err := w.sessions.ByHandle(context.Background(), begun.Handle); !errors.Is(err, guest.ErrNotFound) {
		t.Errorf("found %+v, %v", found, err)
	}
}

func (w *world) ofUser() (handles []string) {
	w.t.Helper()
	sessions, err := w.sessions.OfUser(context.Background(), w.person.User.ID)
	w.must(err)
	for _, s := range sessions {
		handles = append(handles, s.Handle)
	}
	return handles
}

func TestUsersSessionsAreListedByTheirLastUse(t *testing.T) {
	w := newWorld(t)
	w.begin(session.New{Person: w.admit("bob")})
	gone, _ := w.begin(session.New{})
	w.must(w.sessions.End(context.Background(), gone.Key))
	w.begin(session.New{}) // is idle soon
	w.clock.Advance(6 * 24 * time.Hour)
	first, firstCookie := w.begin(session.New{})
	w.clock.Advance(12 * time.Hour)
	second, _ := w.begin(session.New{})
	w.clock.Advance(12 * time.Hour)
	if got := w.ofUser(); !slices.Equal(got, []string{second.Handle, first.Handle}) {
		t.Errorf("listed %q, want %q and %q", got, second.Handle, first.Handle)
	}
	w.signedIn(firstCookie) // known in memory only
	for range 3 {
		if got := w.ofUser(); !slices.Equal(got, []string{first.Handle, second.Handle}) {
			t.Errorf("after its use: %q", got)
		}
		w.sessions.Forget(first.Key)
		w.must(w.sessions.Flush(context.Background()))
	}
	w.restart()
	if got := w.ofUser(); !slices.Equal(got, []string{first.Handle, second.Handle}) {
		t.Errorf("after a restart: %q", got)
	}
}

func TestOnlyWhatTheUserLetsBeIsListed(t *testing.T) {
	w := newWorld(t)
	w.begin(session.New{})
	w.clock.Advance(time.Hour)
	kept, _ := w.begin(session.New{})
	bobs, _ := w.begin(session.New{Person: w.admit("bob")})
	w.endOlder(w.clock.Now())
	if got := w.ofUser(); !slices.Equal(got, []string{kept.Handle}) {
		t.Errorf("listed %q, want %q", got, kept.Handle)
	}
	if got := w.everybodys(1); len(got) != 2 {
		t.Errorf("listed %q of everybody", got)
	}
	w.change(func(u *identity.User) { u.State = identity.Disabled })
	if got := w.ofUser(); len(got) != 0 {
		t.Errorf("listed %q of a disabled user", got)
	}
	if got := w.everybodys(10); !slices.Equal(got, []string{bobs.Handle}) {
		t.Errorf("listed %q of everybody", got)
	}
}

// everybodys pages through all sessions.
func (w *world) everybodys(limit int) (handles []string) {
	w.t.Helper()
	for next, more := (session.Key{}), true; more; more = next != (session.Key{}) {
		sessions, after, err := w.sessions.List(context.Background(), next, limit)
		w.must(err)
		if len(sessions) > limit {
			w.t.Fatalf("%d sessions on a page of %d", len(sessions), limit)
		}
		for _, s := range sessions {
			handles = append(handles, s.Handle)
		}
		next = after
	}
	return handles
}

func TestPagesHoldEverySessionOnce(t *testing.T) {
	w := newWorld(t)
	var want []string
	for range 25 {
		begun, _ := w.begin(session.New{})
		want = append(want, begun.Handle)
		gone, _ := w.begin(session.New{})
		w.must(w.sessions.End(context.Background(), gone.Key))
	}
	w.restart()
	slices.Sort(want)
	for _, limit := range []int{1, 7, 25, 1000} {
		got := w.everybodys(limit)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("in pages of %d: %q, want %q", limit, got, want)
		}
	}
	for _, limit := range []int{-1, 0} {
		if sessions, next, err := w.sessions.List(context.Background(), session.Key{}, limit); err != nil || len(sessions) > 1 || next == (session.Key{}) {
			t.Errorf("limit %d: %d sessions, %v", limit, len(sessions), err)
		}
	}
}

// plant writes copies of a session under keys of their own.
func (w *world) plant(begun *session.Session, n int, listed bool) {
	w.t.Helper()
	for first := 0; first < n; first += 500 {
		w.must(w.store.Update(context.Background(), func(tx guest.Tx) error {
			raw, err := tx.Get([]byte("session/" + string(begun.Key[:])))
			for i := first; i < min(first+500, n) && err == nil; i++ {
				key := begun.Key
				key[0], key[1] = byte(i>>8), byte(i)
				key[2] = ^key[2] // none of them is begun's own
				if err = tx.Put([]byte("session/"+string(key[:])), raw, begun.Expires); err == nil && listed {
					err = tx.Put([]byte("own/"+string(begun.User)+"/"+string(key[:])), []byte("\x01{}"), begun.Expires)
				}
			}
			return err
		}))
	}
}

// Among many that ended, a page ends before it is full; the next ones go on.
func TestPageLooksAtABoundedNumberOfRecords(t *testing.T) {
	w := newWorld(t)
	gone, _ := w.begin(session.New{})
	w.must(w.sessions.End(context.Background(), gone.Key))
	w.plant(gone, 6000, false)
	begun, _ := w.begin(session.New{})
	sessions, next, err := w.sessions.List(context.Background(), session.Key{}, 10)
	if err != nil || next == (session.Key{}) {
		t.Errorf("first page: %d sessions, next %x, %v", len(sessions), next, err)
	}
	if got := w.everybodys(10); !slices.Equal(got, []string{begun.Handle}) {
		t.Errorf("listed %q, want %q", got, begun.Handle)
	}
}

func TestListOfAUserIsBounded(t *testing.T) {
	w := newWorld(t)
	begun, _ := w.begin(session.New{})
	w.plant(begun, 1500, true)
	if n := len(w.ofUser()); n != 1000 {
		t.Errorf("listed %d", n)
	}
}

func TestEndedSessionsHandOverWhatTheyKept(t *testing.T) {
	w := newWorld(t)
	g := granted
	begun, cookie := w.begin(session.New{Grant: &g})
	plain, plainCookie := w.begin(session.New{})
	kept, keptCookie := w.begin(session.New{})
	_, bobs := w.begin(session.New{Person: w.admit("bob")})
	ended := w.ends(func(tx guest.Tx) ([]session.Ended, error) {
		ended, done, err := w.sessions.EndUser(tx, w.person.User.ID, kept.Key)
		if !done {
			t.Error("there are more")
		}
		return ended, err
	})
	if g := ended[begun.Key].Grant; len(ended) != 2 || g == nil || *g != granted || ended[plain.Key].Grant != nil {
		t.Errorf("ended %+v", ended)
	}
	w.restart()
	w.signedOut(cookie)
	w.signedOut(plainCookie)
	w.signedIn(keptCookie)
	w.signedIn(bobs)
	if n := w.records("grant/"); n != 0 {
		t.Errorf("%d grants stay behind", n)
	}
}

// ends does what end says and forgets what it ended.
func (w *world) ends(end func(guest.Tx) ([]session.Ended, error)) map[session.Key]session.Ended {
	w.t.Helper()
	byKey := make(map[session.Key]session.Ended)
	w.must(w.store.Update(context.Background(), func(tx guest.Tx) error {
		ended, err := end(tx)
		for _, e := range ended {
			byKey[e.Key] = e
		}
		return err
	}))
	for key := range byKey {
		w.sessions.Forget(key)
	}
	return byKey
}

func TestSessionsOfAnIdentityEndTogether(t *testing.T) {
	w := newWorld(t)
	g := granted
	in, cookie := w.begin(session.New{Grant: &g})
	w.signedIn(cookie)
	other := w.person
	other.Identity.Subject = "another account of hers"
	by, _ := w.begin(session.New{Person: other})
	id := w.person.Identity.Key()
	for _, want := range []int{1, 0} {
		ended := w.ends(func(tx guest.Tx) ([]session.Ended, error) {
			return w.sessions.EndIdentity(tx, w.person.User.ID, []byte(id))
		})
		if len(ended) != want {
			t.Errorf("ended %d, want %d", len(ended), want)
		}
		if want == 1 && (ended[in.Key].Grant == nil || *ended[in.Key].Grant != granted) {
			t.Errorf("ended %+v", ended[in.Key])
		}
		w.signedOut(cookie)
		w.restart()
	}
	if got := w.ofUser(); !slices.Equal(got, []string{by.Handle}) {
		t.Errorf("left %q, want %q", got, by.Handle)
	}
}

func TestUsersSessionsEndInParts(t *testing.T) {
	w := newWorld(t)
	begun, _ := w.begin(session.New{})
	w.plant(begun, 600, true)
	total, parts := 0, 0
	for done := false; !done; parts++ {
		total += len(w.ends(func(tx guest.Tx) (ended []session.Ended, err error) {
			ended, done, err = w.sessions.EndUser(tx, w.person.User.ID, session.Key{})
			return ended, err
		}))
	}
	if total != 601 || parts != 3 {
		t.Errorf("ended %d in %d parts", total, parts)
	}
	if got := w.ofUser(); len(got) != 0 {
		t.Errorf("left %d", len(got))
	}
}

func TestNothingIsAtHandOnceAllIsForgotten(t *testing.T) {
	w := newWorld(t)
	begun, cookie := w.begin(session.New{})
	closed := 0
	w.sessions.Watch(context.Background(), w.atHand(cookie), &session.Stream{End: func() { closed++ }})
	for range 20 {
		_, other := w.begin(session.New{})
		w.signedIn(other)
	}
	w.clock.Advance(time.Hour)
	w.signedIn(cookie) // its use waits to be written
	w.must(w.store.Update(context.Background(), func(tx guest.Tx) error {
		return tx.Delete([]byte("session/" + string(begun.Key[:])))
	}))
	w.sessions.ForgetEverything()
	if n := w.sessions.Count(); n != 0 || closed == 0 {
		t.Errorf("%d at hand; the stream was closed %d times", n, closed)
	}
	w.signedOut(cookie)
	w.must(w.sessions.Flush(context.Background()))
	w.signedOut(cookie)
}
