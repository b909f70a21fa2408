package token_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/token"
)

// FuzzExchange holds that a refresh token has one spelling and one scope.
func FuzzExchange(f *testing.F) {
	for _, scope := range []string{host, "", "." + host, "APP.example.com", "evil.example"} {
		f.Add("", 0, 0, scope)
		f.Add("=", 400, 400, scope)
		f.Add("A", 3, 4, scope)
		f.Add("", 0, 400, scope)
	}
	w := newWorld(f)
	good := string(w.begin().Refresh)
	f.Fuzz(func(t *testing.T, text string, from, to int, scope string) {
		from = min(max(from, 0), len(good))
		to = min(max(to, from), len(good))
		refresh := good[:from] + text + good[to:]
		x, err := w.tokens.Exchange(scope, guest.Secret(refresh))
		if want := refresh == good && scope == host; (err == nil) != want {
			t.Errorf("%q on %q: %v", refresh, scope, err)
		}
		if err != nil && (!errors.Is(err, token.ErrInvalid) || x.Refresh != "") {
			t.Errorf("%q on %q gets another one, and %v", refresh, scope, err)
		}
	})
}

// errUndone takes back what a transaction wrote.
var errUndone = errors.New("undone")

// FuzzFamily lays any record where a session's refresh tokens are: the token is
// traded where the record names it as the good one. Where it names another, the
// session ends; where it cannot be read, nothing changes.
func FuzzFamily(f *testing.F) {
	w := newWorld(f)
	begun := w.begin()
	key := append([]byte("refresh/"), begun.Session.Key[:]...)
	whole := w.family(key)
	for _, change := range []string{
		`{}`, `{"of":"a newer program"}`, `{"current":null}`, `{"current":""}`, `{"current":"AAAA"}`, `{"current":[1,2]}`, `{"CURRENT":"AAAA"}`,
		`{"issued":"2999-01-01T00:00:00Z"}`, `{"issued":0}`, `[]`, ``, `null`,
	} {
		f.Add(byte(1), change)
	}
	f.Add(byte(0), `{}`)
	f.Add(byte(2), `{}`)
	f.Fuzz(func(t *testing.T, version byte, change string) {
		text := changed(t, whole, change)
		x, err := w.tokens.Exchange(host, begun.Refresh)
		if err != nil {
			t.Fatal(err)
		}
		err = w.store.Update(context.Background(), func(tx guest.Tx) error {
			if err := tx.Put(key, append([]byte{version}, text...), time.Time{}); err != nil {
				t.Fatal(err)
			}
			spent, err := w.tokens.Spend(tx, x, w.clock.Now())
			isTradedAsItSays(t, version, text, whole, spent, err)
			return errUndone
		})
		if !errors.Is(err, errUndone) {
			t.Fatal(err)
		}
	})
}

func isTradedAsItSays(t *testing.T, version byte, text string, whole []byte, spent token.Spent, err error) {
	var says, said struct {
		Current []byte    `json:"current"`
		Issued  time.Time `json:"issued"`
	}
	readable := json.Unmarshal([]byte(text), &says) == nil && version == 1
	if err := json.Unmarshal(whole, &said); err != nil {
		t.Fatal(err)
	}
	good := bytes.Equal(says.Current, said.Current)
	switch {
	case !readable:
		if err == nil || spent != (token.Spent{}) || version > 1 && !errors.Is(err, guest.ErrNewer) {
			t.Errorf("version %d, %s: %+v, %v", version, text, spent, err)
		}
	case err != nil || (spent.Session != nil) != good || (spent.Reused != nil) == good:
		t.Errorf("%s: %+v, %v", text, spent, err)
	}
}

// family is a record of the store's, without its version.
func (w *world) family(key []byte) (record []byte) {
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
