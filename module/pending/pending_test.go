package pending_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/pending"
	"github.com/caddy-login/caddy-login/module/seal"
)

const site = "https://app.example.com"

// house is a store, its keys, and a clock.
type house struct {
	testing.TB
	guest.Store
	clock logintest.Clock
	ring  *seal.Ring
}

func newHouse(t testing.TB) *house {
	h := &house{TB: t, Store: logintest.Store(t)}
	ring, err := seal.Load(context.Background(), h.Store, h.clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	h.ring = ring
	return h
}

// waiting is somebody whom a provider has sent, with all that may wait.
func (h *house) waiting() *pending.Pending {
	now := h.clock.Now().UTC()
	return &pending.Pending{
		Kind: pending.Arrival, Scope: site, Site: "app.example.com", Begun: now, Return: "/where?to=1", Provider: "corp", Intent: identity.ToLink,
		Profile: guest.Profile{
			Issuer: "https://id.example.com", Subject: "subject of ada", Email: "ada@example.com", EmailTrust: guest.Verified,
			Name: "Ada Lovelace", Groups: []string{"staff"}, IDToken: "the id token", Consent: "the consent",
			Tokens: guest.Tokens{Access: "the access token", Refresh: "the refresh token", Expires: now.Add(time.Hour)},
		},
		Said: identity.Said{Switch: "eve", Link: "ada", Keep: "bob", Owner: "ada", Code: "ada@example.com"},
		User: "ada", Then: "before", Challenge: "challenge of ada", KnownOnly: true, Attempt: "attempt of ada", Binding: "binding", Session: []byte("session"),
	}
}

func (h *house) keep(id pending.ID, p *pending.Pending) error {
	return h.Update(context.Background(), func(tx guest.Tx) error { return pending.Keep(tx, h.ring, id, p) })
}

func (h *house) mustKeep(p *pending.Pending) pending.ID {
	h.Helper()
	id := pending.NewID()
	if err := h.keep(id, p); err != nil {
		h.Fatal(err)
	}
	return id
}

func (h *house) read(id pending.ID, scope string) (p *pending.Pending, err error) {
	err = h.View(context.Background(), func(tx guest.Tx) (err error) {
		p, err = pending.Read(tx, h.ring, id, scope, h.clock.Now())
		return err
	})
	return p, err
}

func (h *house) spend(id pending.ID) error {
	return h.Update(context.Background(), func(tx guest.Tx) error { return pending.Spend(tx, id) })
}

func (h *house) gone(why string, id pending.ID) {
	h.Helper()
	if p, err := h.read(id, site); !errors.Is(err, pending.ErrGone) || p != nil {
		h.Errorf("%s: %v", why, err)
	}
}

func TestWhatIsKeptIsReadBack(t *testing.T) {
	h := newHouse(t)
	want := h.waiting()
	id := h.mustKeep(want)
	got, err := h.read(id, site)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v; want %+v", got, err, want)
	}
	// Every field of it was there to be read.
	for value, i := reflect.ValueOf(*want), 0; i < value.NumField(); i++ {
		if name := value.Type().Field(i).Name; value.Field(i).IsZero() && name != "Email" {
			t.Errorf("the field %s is not tried", name)
		}
	}
	got.Said.Link, got.Email = "eve", "eve@example.com"
	if err := h.keep(id, got); err != nil {
		t.Fatal(err)
	}
	if again, err := h.read(id, site); err != nil || again.Said.Link != "eve" || again.Email != "eve@example.com" {
		t.Errorf("%+v, %v", again, err)
	}
}

func TestNothingWaitsElsewhere(t *testing.T) {
	h := newHouse(t)
	id := h.mustKeep(h.waiting())
	for _, scope := range []string{"", "https://other.example.com", site + "/", strings.ToUpper(site)} {
		if _, err := h.read(id, scope); !errors.Is(err, pending.ErrGone) {
			t.Errorf("at %q: %v", scope, err)
		}
	}
	h.gone("another id", pending.NewID())
	h.gone("no id", pending.ID{})
	if err := h.spend(pending.NewID()); !errors.Is(err, pending.ErrGone) {
		t.Error(err)
	}
}

func TestItWaitsTenMinutesHoweverOftenItIsKept(t *testing.T) {
	h := newHouse(t)
	p := h.waiting()
	id := h.mustKeep(p)
	h.clock.Advance(pending.Life - time.Nanosecond)
	if err := h.keep(id, p); err != nil {
		t.Fatal(err)
	}
	if _, err := h.read(id, site); err != nil {
		t.Error(err)
	}
	h.clock.Advance(time.Nanosecond)
	h.gone("after ten minutes", id)
	h.clock.Advance(-pending.Life - time.Minute)
	if _, err := h.read(id, site); err != nil {
		t.Errorf("a clock that is a minute behind: %v", err)
	}
	h.clock.Advance(-time.Nanosecond)
	h.gone("before it began", id)
}

func TestSpentStaysSpent(t *testing.T) {
	h := newHouse(t)
	p := h.waiting()
	id := h.mustKeep(p)
	if err := h.spend(id); err != nil {
		t.Fatal(err)
	}
	for _, back := range []time.Duration{0, 0, -30 * time.Second, time.Hour} {
		h.clock.Advance(back)
		h.gone("spent", id)
		if err := h.keep(id, p); !errors.Is(err, pending.ErrGone) {
			t.Errorf("kept again: %v", err)
		}
		if err := h.spend(id); !errors.Is(err, pending.ErrGone) {
			t.Errorf("spent again: %v", err)
		}
	}
}

func TestItIsSpentOnceByAnyNumber(t *testing.T) {
	h := newHouse(t)
	for range 8 {
		id := h.mustKeep(h.waiting())
		failed := make([]error, 32)
		var all sync.WaitGroup
		for i := range failed {
			all.Go(func() { failed[i] = h.spend(id) })
		}
		all.Wait()
		winners := 0
		for _, err := range failed {
			switch {
			case err == nil:
				winners++
			case !errors.Is(err, pending.ErrGone):
				t.Error(err)
			}
		}
		if winners != 1 {
			t.Fatalf("%d spent it", winners)
		}
	}
}

// One answer that is sent 32 times at once connects one account, once: the
// decision and its end are one transaction.
func TestAnswerSentManyTimesAtOnceCountsOnce(t *testing.T) {
	h := newHouse(t)
	at := h.clock.Now()
	arrival := func(subject string, trust guest.Trust) identity.Arrival {
		return identity.Arrival{
			Traits:  guest.Traits{Name: "corp", Email: guest.EmailRules{Identifier: true, Merge: true}},
			Profile: guest.Profile{Issuer: "https://id.example.com", Subject: subject, Email: "ada@example.com", EmailTrust: trust},
			SignUp:  func(identity.Email) bool { return true }, At: at,
		}
	}
	settle := func(a identity.Arrival, id *pending.ID) (admitted identity.Admitted, err error) {
		err = h.Update(context.Background(), func(tx guest.Tx) (err error) {
			if admitted, err = identity.Admit(tx, a); err != nil || id == nil {
				return err
			}
			return pending.Spend(tx, *id)
		})
		return admitted, err
	}
	first, err := settle(arrival("first", guest.Authoritative), nil)
	if err != nil {
		t.Fatal(err)
	}
	id := h.mustKeep(h.waiting())
	second := arrival("second", guest.Authoritative)
	second.Said.Link = first.Person.User.ID
	var mu sync.Mutex
	var all sync.WaitGroup
	linked, gone := 0, 0
	for range 32 {
		all.Go(func() {
			admitted, err := settle(second, &id)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && admitted.Row == "E6" && admitted.Person.User.ID == first.Person.User.ID:
				linked++
			case errors.Is(err, pending.ErrGone):
				gone++
			default:
				t.Errorf("%+v, %v", admitted.Decision, err)
			}
		})
	}
	all.Wait()
	if linked != 1 || gone != 31 {
		t.Errorf("%d connected it, %d were too late", linked, gone)
	}
}

// records are those of what waits, as the store has them.
func (h *house) records() (keys, values [][]byte) {
	h.Helper()
	err := h.View(context.Background(), func(tx guest.Tx) error {
		keys, values = nil, nil
		return tx.Scan([]byte("pending/"), nil, 0, func(key, value []byte) bool {
			keys, values = append(keys, bytes.Clone(key)), append(values, bytes.Clone(value))
			return true
		})
	})
	if err != nil {
		h.Fatal(err)
	}
	return keys, values
}

func TestWhatWaitsIsSealedForItsOwnRecord(t *testing.T) {
	h := newHouse(t)
	mine, theirs := h.waiting(), h.waiting()
	theirs.User, theirs.Said = "eve", identity.Said{}
	a, b := h.mustKeep(mine), h.mustKeep(theirs)
	keys, values := h.records()
	if len(keys) != 2 {
		t.Fatalf("%d records", len(keys))
	}
	write := func(key, value []byte) {
		err := h.Update(context.Background(), func(tx guest.Tx) error { return tx.Put(key, value, h.clock.Now().Add(time.Hour)) })
		if err != nil {
			t.Fatal(err)
		}
	}
	write(keys[0], values[1])
	write(keys[1], values[0])
	h.gone("another's", a)
	h.gone("another's", b)
	write(keys[0], values[0])
	write(keys[1], values[1])
	if _, err := h.read(a, site); err != nil {
		t.Errorf("put back: %v", err)
	}
}

func TestNothingThatWaitsIsReadInTheStore(t *testing.T) {
	h := newHouse(t)
	id := h.mustKeep(h.waiting())
	spent := h.mustKeep(h.waiting())
	if err := h.spend(spent); err != nil {
		t.Fatal(err)
	}
	keys, values := h.records()
	all := string(bytes.Join(append(keys, values...), nil))
	// Each has something that no letter of base64 is, or is long: what is sealed
	// has any three letters one time in a hundred.
	for _, word := range []string{
		`"app.`, ".example", `"ada`, "@example", "Ada ", `"corp`, "subject of", "the id token", " token", " consent", "challenge of", "attempt of", "/where?", `"staff`, `"arrival`,
		`"binding`, "scope\"", "provider\"", string(id[:]), id.Text(), id.Mark(),
	} {
		if strings.Contains(all, word) {
			t.Errorf("the store has %q", word)
		}
	}
	for _, key := range keys {
		if len(key) != len("pending/")+sha256.Size {
			t.Errorf("the key %q is more than a hash", key)
		}
	}
	if !strings.Contains(all, "expires") {
		t.Error("these are not the records")
	}
	for i := range keys {
		if len(values[i]) > 2048 {
			t.Errorf("%d bytes", len(values[i]))
		}
	}
}

func TestIDHasOneSpelling(t *testing.T) {
	id := pending.NewID()
	if got, ok := pending.ParseID(id.Text()); !ok || got != id {
		t.Errorf("%q is not read back", id.Text())
	}
	if pending.NewID() == id {
		t.Error("two ids are one")
	}
	for _, bad := range []string{
		"", "x", id.Text() + "A", id.Text()[1:], id.Text() + "=", id.Text() + "\n", " " + id.Text(), id.Mark(),
		strings.Repeat("A", 21) + "B", strings.Repeat("/", 22), strings.Repeat("A", 1<<16),
	} {
		if _, ok := pending.ParseID(bad); ok {
			t.Errorf("%.40q is read", bad)
		}
	}
}

func TestIDIsNotPrinted(t *testing.T) {
	id := pending.NewID()
	for _, format := range []string{"%v", "%s", "%+v", "%#v"} {
		if got := fmt.Sprintf(format, id); got != "[pending]" {
			t.Errorf("%s prints %s", format, got)
		}
	}
	if strings.Contains(id.Mark(), id.Text()[:8]) || len(id.Mark()) < 12 || id.Mark() == pending.NewID().Mark() {
		t.Errorf("the mark %q of %q", id.Mark(), id.Text())
	}
}
