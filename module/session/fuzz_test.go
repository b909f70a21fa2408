package session_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/seal"
	"github.com/caddy-login/caddy-login/module/session"
)

// tampered is a store in which one record reads as another program, another
// version or a broken disk left it.
type tampered struct {
	guest.Store
	key, value []byte
}

func (s *tampered) View(ctx context.Context, fn func(guest.Tx) error) error {
	return s.Store.View(ctx, func(tx guest.Tx) error { return fn(tamperedTx{tx, s}) })
}

type tamperedTx struct {
	guest.Tx
	s *tampered
}

func (t tamperedTx) Get(key []byte) ([]byte, error) {
	if bytes.Equal(key, t.s.key) {
		return t.s.value, nil
	}
	return t.Tx.Get(key)
}

// FuzzRead holds that a cookie has one spelling and one scope, and no other is
// anybody's.
func FuzzRead(f *testing.F) {
	for _, scope := range []string{host, "", "." + host, "APP.example.com", "evil.example"} {
		f.Add("", 0, 0, scope)
		f.Add("=", 400, 400, scope)
		f.Add("A", 3, 4, scope)
		f.Add("", 0, 400, scope)
	}
	w := newWorld(f)
	_, good := w.begin(session.New{})
	f.Fuzz(func(t *testing.T, text string, from, to int, scope string) {
		from = min(max(from, 0), len(good))
		to = min(max(to, from), len(good))
		cookie := good[:from] + text + good[to:]
		live, err := w.sessions.Read(context.Background(), scope, cookie, w.clock.Now())
		if cookie == good && scope == host {
			if err != nil || live.Live().User != w.person.User.ID {
				t.Errorf("the cookie itself: %v, %v", live, err)
			}
			return
		}
		if live != nil || !errors.Is(err, session.ErrNone) {
			t.Errorf("%q on %q: %v, %v", cookie, scope, live, err)
		}
		// Whatever is at hand by now, the next request is told the same.
		if live, err := w.sessions.Read(context.Background(), scope, cookie, w.clock.Now()); live != nil || !errors.Is(err, session.ErrNone) {
			t.Errorf("%q on %q, again: %v, %v", cookie, scope, live, err)
		}
	})
}

// FuzzRecord lays any record where a session's is: it is refused, or lives as
// it says. One that a newer program wrote is neither somebody nor nobody.
func FuzzRecord(f *testing.F) {
	w := newWorld(f)
	begun, cookie := w.begin(session.New{Device: "Firefox on Linux"})
	store := &tampered{Store: w.store, key: append([]byte("session/"), begun.Key[:]...)}
	record := w.record(store.key)
	for _, change := range []string{
		`{}`, `{"unknown":{"of":["a","newer","field"]}}`, `{"ended":"2026-01-02T03:04:05Z"}`, `{"ENDED":"2026-01-02T03:04:05Z"}`, `{"expires":"2026-01-01T00:00:00Z"}`,
		`{"seen":"2001-01-01T00:00:00Z"}`, `{"idle":-1}`, `{"idle":9223372036854775807}`, `{"scope":"evil.example"}`, `{"user":"somebody else"}`, `{"identity":"AAAA"}`,
		`{"keeps":true}`, `{"user":null,"identity":null}`, `{"created":"0001-01-01T00:00:00Z"}`, `{"expires":"1500-01-01T00:00:00Z"}`, `{"idle":"1h"}`, `[]`, `{"scope":`, ``,
	} {
		f.Add(byte(1), change)
	}
	f.Add(byte(0), `{}`)
	f.Add(byte(2), `{}`)
	ring, err := seal.Load(context.Background(), w.store, w.clock.Now)
	w.must(err)
	sessions := session.Open(store, ring, w.clock.Now)
	f.Fuzz(func(t *testing.T, version byte, change string) {
		sessions.ForgetEverything()
		text := changed(t, record, change)
		store.value = append([]byte{version}, text...)
		held, err := sessions.Read(context.Background(), host, cookie, w.clock.Now())
		if (held == nil) == (err == nil) {
			t.Fatalf("%v and %v", held, err)
		}
		if version > 1 && !errors.Is(err, guest.ErrNewer) || version == 0 && (err == nil || errors.Is(err, session.ErrNone)) {
			t.Errorf("version %d: %v, %v", version, held, err)
		}
		w.livesAsItSays(t, text, held, err)
		if err != nil {
			return
		}
		live := held.Live()
		if live.Key != begun.Key || live.Handle != begun.Handle || live.Person.User.ID != w.person.User.ID {
			t.Errorf("%s is somebody else: %+v", text, live.Session)
		}
		// At hand it is what it was.
		if again, err := sessions.Read(context.Background(), host, cookie, w.clock.Now()); err != nil || again.Key() != live.Key || again.Live().User != live.User {
			t.Errorf("%s, again: %v, %v", text, again, err)
		}
	})
}

func (w *world) livesAsItSays(t *testing.T, text string, held *session.AtHand, err error) {
	var says session.Session
	if json.Unmarshal([]byte(text), &says) != nil {
		if err == nil || errors.Is(err, session.ErrNone) {
			t.Errorf("%q is no record, but: %v", text, err)
		}
		return
	}
	if err != nil || !isOurs(says.Expires) || !isOurs(says.Seen) {
		return
	}
	now := w.clock.Now()
	if !says.Ended.IsZero() || !now.Before(says.Expires) || !now.Before(says.Seen.Add(says.Idle)) || says.Scope != host || says.User != held.Live().Person.User.ID {
		t.Errorf("%s lives", text)
	}
}

// isOurs reports whether a clock of ours may have shown it: what is at hand
// counts nanoseconds, of which others have too many.
func isOurs(at time.Time) bool { return at.Year() > 1700 && at.Year() < 2200 }

// record is what the store has at a key, without its version.
func (w *world) record(key []byte) (record []byte) {
	w.t.Helper()
	w.must(w.store.View(context.Background(), func(tx guest.Tx) error {
		raw, err := tx.Get(key)
		record = bytes.Clone(raw[min(1, len(raw)):])
		return err
	}))
	return record
}

// changed is a record with the fields of another laid over it, or that text
// itself where it has none.
func changed(t testing.TB, record []byte, change string) string {
	t.Helper()
	all, some := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	if err := json.Unmarshal(record, &all); err != nil {
		t.Fatal(err)
	}
	if json.Unmarshal([]byte(change), &some) != nil {
		return change
	}
	for name, value := range some {
		all[name] = value
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
