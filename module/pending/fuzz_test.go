package pending_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/pending"
)

// FuzzParseID holds that an id has one spelling.
func FuzzParseID(f *testing.F) {
	good := pending.NewID().Text()
	for _, seed := range []string{good, good + "=", good[1:], good[:21] + "\n" + good[21:], "", "AAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAB", "++++++++++++++++++++++"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if id, ok := pending.ParseID(text); ok && id.Text() != text {
			t.Errorf("%q is taken for %q", text, id.Text())
		}
	})
}

// errUndone takes back what a transaction wrote.
var errUndone = errors.New("undone")

// FuzzRecord seals any text into the record of what waits: it is refused, or
// read as it stands, at its own site and while its time lasts, and never again
// once it was spent. NOW in the text is the time of the clock.
func FuzzRecord(f *testing.F) {
	h := newHouse(f)
	now := h.clock.Now().UTC()
	stamp := now.Format(time.RFC3339Nano)
	whole, err := json.Marshal(h.waiting())
	if err != nil {
		f.Fatal(err)
	}
	whole = bytes.ReplaceAll(whole, []byte(stamp), []byte("NOW"))
	f.Add(byte(1), string(whole), int64(time.Minute))
	f.Add(byte(1), string(whole), int64(0))
	f.Add(byte(2), string(whole), int64(time.Minute))
	for _, text := range []string{
		``, `{}`, `null`, `{"scope":"https://app.example.com","begun":"2999-01-01T00:00:00Z"}`, `{"SCOPE":"https://app.example.com"}`,
		`{"scope":"https://app.example.com","kind":"of a newer program","profile":{"Email":1}}`, `{"scope":"https://app.example.com","begun":"NOW","then":"\u0000","more":[{}]}`,
	} {
		f.Add(byte(1), text, int64(time.Minute))
	}
	id := pending.NewID()
	hash := sha256.Sum256(id[:])
	key := append([]byte("pending/"), hash[:]...)
	f.Fuzz(func(t *testing.T, version byte, text string, left int64) {
		text = strings.ReplaceAll(text, "NOW", stamp)
		record, err := json.Marshal(map[string]any{
			"sealed": h.ring.SealAtRest(string(key), []byte(text)), "expires": now.Add(time.Duration(left % int64(time.Hour))),
		})
		if err != nil {
			t.Fatal(err)
		}
		err = h.Update(context.Background(), func(tx guest.Tx) error {
			if err := tx.Put(key, append([]byte{version}, record...), time.Time{}); err != nil {
				t.Fatal(err)
			}
			h.readsAsItStands(t, tx, id, version == 1 && left%int64(time.Hour) > 0, text)
			return errUndone
		})
		if !errors.Is(err, errUndone) {
			t.Fatal(err)
		}
	})
}

func (h *house) readsAsItStands(t *testing.T, tx guest.Tx, id pending.ID, mayBe bool, text string) {
	now := h.clock.Now()
	p, err := pending.Read(tx, h.ring, id, site, now)
	if (p == nil) == (err == nil) || err == nil && !mayBe {
		t.Fatalf("%q: %+v and %v", text, p, err)
	}
	if err != nil {
		return
	}
	if p.Scope != site || p.Begun.After(now.Add(time.Minute)) {
		t.Errorf("%q waits here", text)
	}
	if _, err := pending.Read(tx, h.ring, id, "https://evil.example", now); !errors.Is(err, pending.ErrGone) {
		t.Errorf("%q waits elsewhere, too: %v", text, err)
	}
	if now.Sub(p.Begun) >= pending.Life {
		return // a store forgets it at once
	}
	// What another version left is kept as it was by a step of ours.
	if err := pending.Keep(tx, h.ring, id, p); err != nil {
		t.Fatal(err)
	}
	again, err := pending.Read(tx, h.ring, id, site, p.Begun)
	if len(p.Session) == 0 {
		p.Session = nil // is not stored
	}
	if err != nil || !reflect.DeepEqual(again, p) {
		t.Errorf("%q was kept as %+v, and read as %+v, %v", text, p, again, err)
	}
	if err := pending.Spend(tx, id); err != nil {
		t.Errorf("%q: spending: %v", text, err)
	}
	if _, err := pending.Read(tx, h.ring, id, site, p.Begun); !errors.Is(err, pending.ErrGone) {
		t.Errorf("%q works again: %v", text, err)
	}
	if err := pending.Spend(tx, id); !errors.Is(err, pending.ErrGone) {
		t.Errorf("%q is spent again: %v", text, err)
	}
	if err := pending.Keep(tx, h.ring, id, p); !errors.Is(err, pending.ErrGone) {
		t.Errorf("%q is kept again: %v", text, err)
	}
}
