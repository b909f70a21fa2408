package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

var never time.Time

// tx says the short form of what the tests do most. It uses Errorf, not
// Fatalf: a store may run its function on another goroutine.
type tx struct {
	guest.Tx
	t *testing.T
}

func (x tx) put(key, value string) {
	x.t.Helper()
	if err := x.Put([]byte(key), []byte(value), never); err != nil {
		x.t.Errorf("Put(%q): %v", key, err)
	}
}

func (x tx) remove(key string) {
	x.t.Helper()
	if err := x.Delete([]byte(key)); err != nil {
		x.t.Errorf("Delete(%q): %v", key, err)
	}
}

// value is what key holds; "" where it holds nothing.
func (x tx) value(key string) (value string, found bool) {
	x.t.Helper()
	got, err := x.Get([]byte(key))
	if err != nil && !errors.Is(err, guest.ErrNotFound) {
		x.t.Errorf("Get(%q): %v", key, err)
	}
	return string(got), err == nil
}

func (x tx) has(key, want string) {
	x.t.Helper()
	if got, found := x.value(key); !found || got != want {
		x.t.Errorf("Get(%q) = %q (found: %v), want %q", key, got, found, want)
	}
}

func (x tx) lacks(key string) {
	x.t.Helper()
	if got, found := x.value(key); found {
		x.t.Errorf("Get(%q) = %q, want ErrNotFound", key, got)
	}
}

// keys lists what a Scan shows.
func (x tx) keys(prefix string, from []byte, limit int) (keys []string) {
	x.t.Helper()
	err := x.Scan([]byte(prefix), from, limit, func(key, _ []byte) bool {
		keys = append(keys, string(key))
		return true
	})
	if err != nil {
		x.t.Errorf("Scan(%q): %v", prefix, err)
	}
	return keys
}

// lists fails the test unless a Scan of prefix shows exactly these keys.
func (x tx) lists(prefix string, want ...string) {
	x.t.Helper()
	if got := x.keys(prefix, nil, 0); !slices.Equal(got, want) {
		x.t.Errorf("Scan(%q) shows %q, want %q", prefix, got, want)
	}
}

var txPromises = []promise{
	{"ValueIsReadBack", func(p place) {
		s := p.store()
		s.update(func(t tx) { t.put("a", "1") })
		s.has("a", "1")
		s.update(func(t tx) { t.put("a", "2") })
		s.has("a", "2")
	}},
	{"MissingKeyIsNotFound", func(p place) {
		s := p.store()
		s.lacks("a")
		s.update(func(t tx) { t.lacks("a") })
	}},
	{"DeletedKeyIsNotFound", func(p place) {
		s := p.store()
		s.update(func(t tx) { t.put("a", "1") })
		s.update(func(t tx) { t.remove("a") })
		s.lacks("a")
		s.view(func(t tx) { t.lists("") })
	}},
	{"DeletingMissingKeyIsNoError", func(p place) {
		p.store().update(func(t tx) { t.remove("a") })
	}},
	{"EmptyValueIsAValue", func(p place) {
		s := p.store()
		s.update(func(t tx) {
			t.put("a", "")
			if err := t.Put([]byte("b"), nil, never); err != nil {
				t.t.Errorf("Put of nil: %v", err)
			}
			t.has("a", "")
		})
		s.has("a", "")
		s.has("b", "")
		s.view(func(t tx) { t.lists("", "a", "b") })
	}},
	{"KeysAreAnyBytes", keysAreAnyBytes},
	{"OwnWritesAreSeen", func(p place) {
		s := p.store()
		s.update(func(t tx) { t.put("a", "1"); t.put("b", "1") })
		s.update(func(t tx) {
			t.put("a", "2")
			t.remove("b")
			t.put("c", "1")
			t.has("a", "2")
			t.lacks("b")
			t.has("c", "1")
			t.put("b", "3")
			t.has("b", "3")
		})
		s.has("a", "2")
		s.has("b", "3")
	}},
	{"ValueIsTheCallersToKeep", valueIsTheCallersToKeep},
	{"StoreKeepsCopies", storeKeepsCopies},
	{"KeysBeyondLimitsAreErrors", keysBeyondLimitsAreErrors},
	{"ValuesBeyondLimitAreErrors", valuesBeyondLimitAreErrors},
	{"LargestKeyAndValueFit", func(p place) {
		s := p.store()
		key, value := strings.Repeat("k", 512), strings.Repeat("v", 64<<10)
		s.update(func(t tx) { t.put(key, value); t.has(key, value) })
		s.has(key, value)
	}},
	{"ErrorInsideDoesNotEndTransaction", func(p place) {
		s := p.store()
		s.update(func(t tx) {
			t.lacks("missing")
			if err := t.Put(nil, nil, never); err == nil {
				t.t.Error("Put of an empty key is no error")
			}
			t.put("a", "1")
		})
		s.has("a", "1")
	}},
	{"OverOnceFunctionReturned", overOnceFunctionReturned},
}

func keysAreAnyBytes(p place) {
	s := p.store()
	keys := []string{"\x00", "\x00\x00", "!badger!", "%", "'", "\\", "k", "m", "\xc3\x28", "\xff", "\xff\xff"}
	s.update(func(t tx) {
		for _, key := range keys {
			t.put(key, "value of "+key)
		}
	})
	s.view(func(t tx) {
		for _, key := range keys {
			t.has(key, "value of "+key)
		}
	})
	slices.Sort(keys)
	s.view(func(t tx) { t.lists("", keys...) })
}

func valueIsTheCallersToKeep(p place) {
	s := p.store()
	s.update(func(t tx) { t.put("a", "original") })
	var stored, pending []byte
	s.view(func(t tx) { stored, _ = t.Get([]byte("a")) })
	s.update(func(t tx) {
		t.put("b", "original")
		pending, _ = t.Get([]byte("b"))
		copy(pending, "scribble")
		t.has("b", "original")
	})
	copy(stored, "scribble")
	s.has("a", "original")
	s.has("b", "original")

	s.view(func(t tx) { stored, _ = t.Get([]byte("a")) })
	s.update(func(t tx) { t.put("a", "replaced") })
	if string(stored) != "original" {
		p.Errorf("a value that was read changed to %q", stored)
	}
}

func storeKeepsCopies(p place) {
	s := p.store()
	key, value := []byte("key"), []byte("value")
	s.update(func(t tx) {
		if err := t.Put(key, value, never); err != nil {
			t.t.Errorf("Put: %v", err)
		}
		copy(key, "xxx")
		copy(value, "xxxxx")
		t.has("key", "value")
	})
	s.has("key", "value")
	s.lacks("xxx")
}

func keysBeyondLimitsAreErrors(p place) {
	s := p.store()
	for _, key := range [][]byte{nil, {}, bytes.Repeat([]byte{'k'}, 513)} {
		s.update(func(t tx) {
			if err := t.Put(key, []byte("v"), never); err == nil {
				t.t.Errorf("Put of a key of %d bytes is no error", len(key))
			}
			if err := t.Delete(key); err == nil {
				t.t.Errorf("Delete of a key of %d bytes is no error", len(key))
			}
			if _, err := t.Get(key); err == nil || errors.Is(err, guest.ErrNotFound) {
				t.t.Errorf("Get of a key of %d bytes: %v, want an error other than ErrNotFound", len(key), err)
			}
		})
	}
	s.view(func(t tx) { t.lists("") })
}

func valuesBeyondLimitAreErrors(p place) {
	s := p.store()
	s.update(func(t tx) {
		if err := t.Put([]byte("a"), make([]byte, 64<<10+1), never); err == nil {
			t.t.Error("Put of a value of 64 KiB and a byte is no error")
		}
	})
	s.lacks("a")
}

func overOnceFunctionReturned(p place) {
	s := p.store()
	var kept tx
	check := func(call string) {
		if _, err := kept.Get([]byte("a")); err == nil || errors.Is(err, guest.ErrNotFound) {
			p.Errorf("Get after the end of %s: %v, want an error other than ErrNotFound", call, err)
		}
		if err := kept.Scan(nil, nil, 0, func(_, _ []byte) bool { return true }); err == nil {
			p.Errorf("Scan after the end of %s is no error", call)
		}
		if err := kept.Put([]byte("a"), []byte("late"), never); err == nil {
			p.Errorf("Put after the end of %s is no error", call)
		}
	}
	s.update(func(t tx) { kept = t; t.put("a", "1") })
	check("Update")
	s.view(func(t tx) { kept = t })
	check("View")
	s.has("a", "1")
}

var scanPromises = []promise{
	{"AscendsInByteOrder", func(p place) {
		s := p.store()
		s.update(func(t tx) {
			for _, key := range []string{"b", "a\xff", "a", "a\x00", "c", "ab", "\xff", "B"} {
				t.put(key, "")
			}
			t.lists("", "B", "a", "a\x00", "ab", "a\xff", "b", "c", "\xff")
		})
		s.view(func(t tx) { t.lists("", "B", "a", "a\x00", "ab", "a\xff", "b", "c", "\xff") })
	}},
	{"ShowsOnlyThePrefix", func(p place) {
		s := p.store()
		s.update(func(t tx) {
			for _, key := range []string{"a", "a/", "a/1", "a/2", "a0", "b/1"} {
				t.put(key, "")
			}
		})
		s.view(func(t tx) {
			t.lists("a/", "a/", "a/1", "a/2")
			t.lists("a/1", "a/1")
			t.lists("a/3")
			t.lists("c")
		})
	}},
	{"PrefixMayEndInHighestBytes", func(p place) {
		s := p.store()
		s.update(func(t tx) {
			for _, key := range []string{"a\xff", "a\xff\x00", "a\xff\xff", "b", "\xfe", "\xff", "\xff\x00", "\xff\xff", "\xff\xff\xff"} {
				t.put(key, "")
			}
			t.lists("\xff\xff", "\xff\xff", "\xff\xff\xff")
		})
		s.view(func(t tx) {
			t.lists("a\xff", "a\xff", "a\xff\x00", "a\xff\xff")
			t.lists("\xff", "\xff", "\xff\x00", "\xff\xff", "\xff\xff\xff")
			t.lists("\xff\xff", "\xff\xff", "\xff\xff\xff")
		})
	}},
	{"BeginsAtFrom", beginsAtFrom},
	{"EndsAtLimit", endsAtLimit},
	{"EndsWhenToldTo", func(p place) {
		s := p.store()
		s.update(func(t tx) { t.put("a", ""); t.put("b", ""); t.put("c", "") })
		s.view(func(t tx) {
			calls := 0
			_ = t.Scan(nil, nil, 0, func(_, _ []byte) bool { calls++; return calls < 2 })
			if calls != 2 {
				t.t.Errorf("Scan went on for %d calls, want 2", calls)
			}
		})
	}},
	{"ShowsValues", func(p place) {
		s := p.store()
		s.update(func(t tx) { t.put("a", "1"); t.put("b", "2") })
		s.update(func(t tx) {
			t.put("b", "3")
			t.put("c", "")
			showsPairs(t, "a=1", "b=3", "c=")
		})
		s.view(func(t tx) { showsPairs(t, "a=1", "b=3", "c=") })
	}},
	{"SeesOwnWrites", func(p place) {
		s := p.store()
		s.update(func(t tx) { t.put("a", ""); t.put("c", ""); t.put("e", "") })
		s.update(func(t tx) {
			t.put("b", "")
			t.put("f", "")
			t.remove("c")
			t.put("e", "new")
			t.lists("", "a", "b", "e", "f")
			t.remove("b")
			t.put("c", "")
			t.lists("", "a", "c", "e", "f")
		})
	}},
	{"LimitCountsNoDeletedKeys", func(p place) {
		s := p.store()
		s.update(func(t tx) { t.put("a", ""); t.put("b", ""); t.put("c", ""); t.put("d", "") })
		s.update(func(t tx) {
			t.remove("a")
			t.remove("c")
			if got := t.keys("", nil, 2); !slices.Equal(got, []string{"b", "d"}) {
				t.t.Errorf("Scan with limit 2 shows %q", got)
			}
		})
	}},
	{"MayBeNested", mayBeNested},
	{"MayWriteElsewhere", func(p place) {
		s := p.store()
		s.update(func(t tx) { t.put("a/1", "x"); t.put("a/2", "y") })
		s.update(func(t tx) {
			_ = t.Scan([]byte("a/"), nil, 0, func(key, value []byte) bool {
				t.put("b/"+string(key[2:]), string(value))
				return true
			})
		})
		s.view(func(t tx) { t.lists("b/", "b/1", "b/2"); t.has("b/2", "y") })
	}},
	{"ShowsManyKeys", showsManyKeys},
}

func beginsAtFrom(p place) {
	s := p.store()
	s.update(func(t tx) {
		for _, key := range []string{"a/1", "b/1", "b/3", "b/5", "c/1"} {
			t.put(key, "")
		}
	})
	rows := []struct {
		from string
		want []string
	}{
		{"b/3", []string{"b/3", "b/5"}},
		{"b/2", []string{"b/3", "b/5"}},
		{"b/3\x00", []string{"b/5"}},
		{"b/", []string{"b/1", "b/3", "b/5"}},
		{"a", []string{"b/1", "b/3", "b/5"}},
		{"", []string{"b/1", "b/3", "b/5"}},
		{"b/6", nil},
		{"c/1", nil},
		{"\xff", nil},
	}
	check := func(t tx) {
		for _, row := range rows {
			if got := t.keys("b/", []byte(row.from), 0); !slices.Equal(got, row.want) {
				t.t.Errorf("Scan of b/ from %q shows %q, want %q", row.from, got, row.want)
			}
		}
	}
	s.view(check)
	s.update(check)
}

func endsAtLimit(p place) {
	s := p.store()
	all := []string{"a", "b", "c", "d"}
	s.update(func(t tx) { t.put("a", ""); t.put("c", "") })
	check := func(t tx) {
		for limit, want := range [][]string{all, all[:1], all[:2], all[:3], all, all} {
			if got := t.keys("", nil, limit); !slices.Equal(got, want) {
				t.t.Errorf("Scan with limit %d shows %q, want %q", limit, got, want)
			}
		}
	}
	s.update(func(t tx) { t.put("b", ""); t.put("d", ""); check(t) })
	s.view(check)
}

func showsPairs(t tx, want ...string) {
	t.t.Helper()
	var got []string
	_ = t.Scan(nil, nil, 0, func(key, value []byte) bool {
		got = append(got, string(key)+"="+string(value))
		return true
	})
	if !slices.Equal(got, want) {
		t.t.Errorf("Scan shows %q, want %q", got, want)
	}
}

func mayBeNested(p place) {
	s := p.store()
	s.update(func(t tx) { t.put("u/1", ""); t.put("u/2", ""); t.put("s/1/a", ""); t.put("s/2/a", "") })
	check := func(t tx) {
		var got []string
		_ = t.Scan([]byte("u/"), nil, 0, func(key, _ []byte) bool {
			user := string(key)
			got = append(got, t.keys("s/"+user[2:]+"/", nil, 0)...)
			got = append(got, string(key))
			return true
		})
		if want := []string{"s/1/a", "u/1", "s/2/a", "u/2"}; !slices.Equal(got, want) {
			t.t.Errorf("nested Scans show %q, want %q", got, want)
		}
	}
	s.view(check)
	s.update(func(t tx) { check(t); t.put("x", ""); check(t) })
}

func showsManyKeys(p place) {
	const many = 2_500
	s := p.store()
	for first := 0; first < many; first += 500 {
		s.update(func(t tx) {
			for i := first; i < first+500; i++ {
				t.put(fmt.Sprintf("n/%05d", i), fmt.Sprint(i))
			}
		})
	}
	s.view(func(t tx) {
		next := 0
		_ = t.Scan([]byte("n/"), nil, 0, func(key, value []byte) bool {
			if string(key) != fmt.Sprintf("n/%05d", next) || string(value) != fmt.Sprint(next) {
				t.t.Errorf("place %d of the Scan shows %q = %q", next, key, value)
				return false
			}
			next++
			return true
		})
		if next != many {
			t.t.Errorf("Scan showed %d keys, want %d", next, many)
		}
	})
}
