package activity_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/activity"
	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/logintest"
)

const ada = identity.UserID("ada")

// noon is today's, or so: what is over long ago the store forgets by itself.
var noon = time.Now().UTC().Truncate(time.Second)

// world is a store with activity in it.
type world struct {
	*testing.T
	guest.Store
}

func newWorld(t *testing.T) world { return world{t, logintest.Store(t)} }

func (w world) update(fn func(tx guest.Tx) error) {
	w.Helper()
	if err := w.Update(context.Background(), fn); err != nil {
		w.Fatal(err)
	}
}

func (w world) write(user identity.UserID, entries ...activity.Entry) {
	w.Helper()
	w.update(func(tx guest.Tx) error {
		for _, e := range entries {
			if err := activity.Write(tx, user, e); err != nil {
				return err
			}
		}
		return nil
	})
}

func (w world) list(user identity.UserID, after activity.Cursor, limit int, now time.Time) (entries []activity.Entry, next activity.Cursor) {
	w.Helper()
	err := w.View(context.Background(), func(tx guest.Tx) (err error) {
		entries, next, err = activity.List(tx, user, after, limit, now)
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	return entries, next
}

// count is how many records the store holds.
func (w world) count() (n int) {
	w.Helper()
	err := w.View(context.Background(), func(tx guest.Tx) error {
		n = 0
		return tx.Scan([]byte("activity/"), nil, 0, func(_, _ []byte) bool { n++; return true })
	})
	if err != nil {
		w.Fatal(err)
	}
	return n
}

// at is an entry so many minutes after noon.
func at(minutes int) activity.Entry {
	when := noon.Add(time.Duration(minutes) * time.Minute)
	return activity.Entry{At: when, What: activity.SignedIn, Detail: fmt.Sprint(minutes)}
}

func TestNewestComesFirstPageByPage(t *testing.T) {
	w := newWorld(t)
	for _, minute := range []int{3, 0, 5, 1, 4, 2} {
		w.write(ada, at(minute))
	}
	w.write("ada2", at(9)) // whose name begins with hers
	var seen []string
	for after, pages := activity.Cursor(""), 1; ; pages++ {
		entries, next := w.list(ada, after, 4, noon.Add(time.Hour))
		for _, e := range entries {
			seen = append(seen, e.Detail)
		}
		if after = next; next == "" {
			if pages != 2 {
				t.Errorf("%d pages", pages)
			}
			break
		}
	}
	if got := strings.Join(seen, ""); got != "543210" {
		t.Errorf("listed %s", got)
	}
}

func TestPageThatIsJustFullIsTheLast(t *testing.T) {
	w := newWorld(t)
	w.write(ada, at(0), at(1))
	if entries, next := w.list(ada, "", 2, noon); len(entries) != 2 || next != "" {
		t.Errorf("%d entries, next %q", len(entries), next)
	}
}

func TestNewEntriesShiftNoPage(t *testing.T) {
	w := newWorld(t)
	w.write(ada, at(0), at(1), at(2))
	_, next := w.list(ada, "", 1, noon)
	w.write(ada, at(3))
	if entries, _ := w.list(ada, next, 1, noon); len(entries) != 1 || entries[0].Detail != "1" {
		t.Errorf("the second page is %v", entries)
	}
}

func TestEntryIsReadAsItWasWritten(t *testing.T) {
	w := newWorld(t)
	want := activity.Entry{
		At: noon, What: activity.Linked, Row: "E7", Provider: "corp", Detail: "a•••@e•••.com",
		Device: "Firefox", Place: "Berlin", Session: "abc", RequestID: "r1", Failed: true,
	}
	w.write(ada, want)
	if got, _ := w.list(ada, "", 1, noon); len(got) != 1 || got[0] != want {
		t.Errorf("%+v", got)
	}
}

func TestWhatIsOverNinetyDaysOldIsNotShown(t *testing.T) {
	w := newWorld(t)
	w.write(ada, at(0), at(1))
	if entries, next := w.list(ada, "", 10, noon.Add(activity.Keeps)); len(entries) != 1 || entries[0].Detail != "1" || next != "" {
		t.Errorf("%v, next %q", entries, next)
	}
	if entries, _ := w.list(ada, "", 10, noon.Add(activity.Keeps+time.Minute)); len(entries) != 0 {
		t.Errorf("still there: %v", entries)
	}
	w.update(func(tx guest.Tx) error {
		long := at(0)
		long.At = noon.Add(-activity.Keeps - 365*24*time.Hour)
		return activity.Write(tx, "old", long)
	})
	if n := w.count(); n != 2 {
		t.Errorf("the store keeps %d entries: it knows of no expiry", n)
	}
}

func TestTextsAreCutToWholeCharacters(t *testing.T) {
	w := newWorld(t)
	w.write(ada, activity.Entry{At: noon, What: activity.Renamed, Detail: "x" + strings.Repeat("ü", 500), Device: "a\xffb"})
	entries, _ := w.list(ada, "", 1, noon)
	if got := entries[0].Detail; got != "x"+strings.Repeat("ü", 99) {
		t.Errorf("%d bytes: %q", len(got), got)
	}
	if got := entries[0].Device; got != "ab" {
		t.Errorf("device %q", got)
	}
}

func TestWordsOfNobodysAreRefused(t *testing.T) {
	w := newWorld(t)
	for _, bad := range []activity.Entry{{}, {At: noon}, {At: noon, What: "danced"}, {What: activity.SignedIn}} {
		if err := w.Update(context.Background(), func(tx guest.Tx) error { return activity.Write(tx, ada, bad) }); err == nil {
			t.Errorf("%+v was written", bad)
		}
	}
	if err := w.Update(context.Background(), func(tx guest.Tx) error { return activity.Write(tx, "", at(0)) }); err == nil {
		t.Error("written for nobody")
	}
}

func TestForeignCursorIsRefused(t *testing.T) {
	w := newWorld(t)
	w.write("ada2", at(0))
	for _, bad := range []activity.Cursor{"x", "../ada2/", "0000000000000000/0000000g", "0000000000000000/00000000/", "0000000000000000/00000000\n"} {
		err := w.View(context.Background(), func(tx guest.Tx) error {
			_, _, err := activity.List(tx, ada, bad, 10, noon)
			return err
		})
		if !errors.Is(err, activity.ErrCursor) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if entries, _ := w.list(ada, "ffffffffffffffff/ffffffff", 10, noon); len(entries) != 0 {
		t.Errorf("she sees another's: %v", entries)
	}
}

// Whoever knows an address can fail to sign in to it, all day.
func TestFloodOfFailuresFillsNoDisk(t *testing.T) {
	w := newWorld(t)
	for i := range 1000 {
		failure := activity.Entry{At: noon.Add(time.Duration(i) * time.Second), What: activity.SignInFailed, Failed: true}
		w.write(ada, failure)
	}
	if n := w.count(); n != 60 {
		t.Errorf("%d are kept", n)
	}
	w.write(ada, at(17))
	if entries, _ := w.list(ada, "", 1, noon); entries[0].Detail != "17" {
		t.Error("her own sign-in is not kept")
	}
	later := activity.Entry{At: noon.Add(2 * time.Hour), What: activity.SignInFailed, Failed: true, Detail: "later"}
	w.write(ada, later)
	if entries, _ := w.list(ada, "", 1, noon); entries[0].Detail != "later" {
		t.Error("the next failure is not kept")
	}
}

func TestEraseTakesOneUsersInParts(t *testing.T) {
	w := newWorld(t)
	for i := range 25 {
		w.write(ada, at(i))
	}
	w.write("ada2", at(0))
	parts := 0
	for more := true; more; parts++ {
		w.update(func(tx guest.Tx) (err error) {
			more, err = activity.Erase(tx, ada, 10)
			return err
		})
	}
	if n := w.count(); parts != 3 || n != 1 {
		t.Errorf("after %d parts %d are left", parts, n)
	}
}

func TestClockThatIsWrongLosesNothing(t *testing.T) {
	w := newWorld(t)
	for i, year := range []int{2500, 2100, 2038, 1970, 1} {
		w.write(ada, activity.Entry{At: time.Date(year, 1, 2, 0, 0, 0, 0, time.UTC), What: activity.SignedIn})
		w.write(ada, at(i))
	}
	// What is said to be of the past is over at once.
	entries, _ := w.list(ada, "", 20, noon)
	for i, year := range []int{2500, 2100, 2038} {
		if entries[i].At.Year() != year {
			t.Errorf("entry %d is of %s", i, entries[i].At)
		}
	}
	if len(entries) != 8 {
		t.Errorf("%d entries", len(entries))
	}
}

// expiring notes when what is written expires.
type expiring struct {
	guest.Tx
	last time.Time
}

func (e *expiring) Put(key, value []byte, expires time.Time) error {
	e.last = expires
	return e.Tx.Put(key, value, expires)
}

// Strangers try codes for addresses that nobody has: it must read and write as
// for who has one, and not fill the disk.
func TestWhatIsWrittenOfNobodyIsSoonGone(t *testing.T) {
	w := newWorld(t)
	failed := activity.Entry{What: activity.SignInFailed, Failed: true, At: noon}
	w.update(func(tx guest.Tx) error {
		standIn, err := identity.HolderOrStandIn(tx, "unknown@example.com")
		if err != nil {
			return err
		}
		for user, keeps := range map[identity.UserID]time.Duration{ada: activity.Keeps, standIn: 2 * time.Hour} {
			e := &expiring{Tx: tx}
			if err := activity.Write(e, user, failed); err != nil || !e.last.Equal(noon.Add(keeps)) {
				t.Errorf("%s: kept until %s, %v", user, e.last, err)
			}
		}
		return nil
	})
}
