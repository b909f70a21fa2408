package storetest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

var serialPromises = []promise{
	{"NoIncrementIsLost", func(p place) {
		s := p.store()
		all(16, func(int) {
			for range 25 {
				s.update(func(t tx) { add(t, "n", 1) })
			}
		})
		s.has("n", "400")
	}},
	{"OneOf64CreatesWins", func(p place) {
		s := p.store()
		for round := range 20 {
			name := fmt.Sprintf("name/%d", round)
			var won atomic.Int32
			all(64, func(i int) {
				if create(s, name, fmt.Sprint(i)) == nil {
					won.Add(1)
					s.has(name, fmt.Sprint(i))
				}
			})
			if won.Load() != 1 {
				p.Errorf("%d of 64 updates created %s, want 1", won.Load(), name)
			}
		}
	}},
	{"OneOf64SpendsWins", func(p place) {
		s := p.store()
		for round := range 20 {
			code := fmt.Sprintf("code/%d", round)
			s.update(func(t tx) { t.put(code, "fresh") })
			var won atomic.Int32
			all(64, func(int) {
				if spend(s, code) == nil {
					won.Add(1)
				}
			})
			if won.Load() != 1 {
				p.Errorf("%d of 64 updates spent %s, want 1", won.Load(), code)
			}
			s.has(code, "spent")
		}
	}},
	{"WriteSkewIsImpossible", writeSkew},
	{"ScannedRangeIsNotWrittenUnseen", phantom},
	{"MoneyIsNeitherMadeNorLost", func(p place) {
		s := p.store()
		s.update(func(t tx) {
			for i := range 8 {
				t.put(fmt.Sprint(i), "100")
			}
		})
		all(16, func(w int) {
			for i := range 25 {
				from, to := fmt.Sprint((w+i)%8), fmt.Sprint((w*3+i*5+1)%8)
				s.update(func(t tx) { add(t, from, -1); add(t, to, 1) })
			}
		})
		s.view(func(t tx) { sumsTo(t, 800) })
	}},
}

func create(s store, key, value string) error {
	return s.Update(context.Background(), func(g guest.Tx) error {
		t := tx{Tx: g, t: s.t}
		if _, found := t.value(key); found {
			return errFn
		}
		t.put(key, value)
		return nil
	})
}

func spend(s store, code string) error {
	return s.Update(context.Background(), func(g guest.Tx) error {
		t := tx{Tx: g, t: s.t}
		if state, _ := t.value(code); state != "fresh" {
			return errFn
		}
		t.put(code, "spent")
		return nil
	})
}

// writeSkew has two updates each read what the other writes: two doctors are
// on call, each may leave only while the other stays.
func writeSkew(p place) {
	s := p.store()
	for round := range 50 {
		a, b := fmt.Sprintf("%d/a", round), fmt.Sprintf("%d/b", round)
		s.update(func(t tx) { t.put(a, "on"); t.put(b, "on") })
		all(2, func(i int) {
			mine, other := a, b
			if i == 1 {
				mine, other = b, a
			}
			s.update(func(t tx) {
				if state, _ := t.value(other); state == "on" {
					t.put(mine, "off")
				}
			})
		})
		s.view(func(t tx) {
			first, _ := t.value(a)
			second, _ := t.value(b)
			if first == second {
				t.t.Errorf("round %d ended with %s and %s, want one on and one off", round, first, second)
			}
		})
	}
}

// phantom has updates count a range and write into it only while there is
// room: a store that guards keys but not ranges lets more in.
func phantom(p place) {
	const room = 5
	s := p.store()
	var admitted atomic.Int32
	all(64, func(i int) {
		err := s.Update(context.Background(), func(g guest.Tx) error {
			t := tx{Tx: g, t: p.T}
			if len(t.keys("seat/", nil, 0)) >= room {
				return errFn
			}
			t.put(fmt.Sprintf("seat/%02d", i), "")
			return nil
		})
		if err == nil {
			admitted.Add(1)
		} else if !errors.Is(err, errFn) {
			p.Errorf("Update: %v", err)
		}
	})
	s.view(func(t tx) {
		if taken := len(t.keys("seat/", nil, 0)); taken != room || admitted.Load() != room {
			t.t.Errorf("%d seats are taken and %d were given, want %d", taken, admitted.Load(), room)
		}
	})
}

func add(t tx, key string, n int) {
	value, _ := t.value(key)
	t.put(key, fmt.Sprint(number(value)+n))
}

// number reads a counter; none is 0.
func number(value string) int {
	n, _ := strconv.Atoi(value)
	return n
}

var expiryPromises = []promise{
	{"IsNeverEarly", neverEarly},
	{"OfThePastIsNoError", func(p place) {
		s := p.store()
		for _, past := range []time.Time{time.Now().Add(-time.Hour), time.Unix(0, 0), time.Unix(-1e9, 0)} {
			s.update(func(t tx) { t.putUntil("a", "1", past) })
		}
		s.update(func(t tx) { t.put("a", "2") })
		s.has("a", "2")
	}},
	{"OfTheFarFutureKeeps", func(p place) {
		s := p.store()
		years := []int{2038, 2039, 2107, 2262, 2263, 9999}
		s.update(func(t tx) {
			for _, year := range years {
				t.putUntil(fmt.Sprint(year), "1", time.Date(year, 1, 20, 0, 0, 0, 0, time.UTC))
			}
		})
		for _, year := range years {
			s.has(fmt.Sprint(year), "1")
		}
	}},
	{"IsReplacedByTheNextPut", func(p place) {
		s := p.store()
		soon := time.Now().Add(50 * time.Millisecond)
		s.update(func(t tx) { t.putUntil("a", "1", soon); t.putUntil("b", "1", soon) })
		s.update(func(t tx) { t.put("a", "2"); t.putUntil("b", "2", soon.Add(time.Hour)) })
		<-time.After(time.Until(soon) + 1100*time.Millisecond) // past a store's whole second
		s.has("a", "2")
		s.has("b", "2")
		s.view(func(t tx) { t.lists("", "a", "b") })
	}},
	{"IsKeptAcrossReopening", func(p place) {
		s := p.openStore()
		s.update(func(t tx) { t.putUntil("a", "1", time.Now().Add(time.Hour)) })
		if err := s.Close(); err != nil {
			p.Fatalf("Close: %v", err)
		}
		p.store().has("a", "1")
	}},
}

func (x tx) putUntil(key, value string, expires time.Time) {
	x.t.Helper()
	if err := x.Put([]byte(key), []byte(value), expires); err != nil {
		x.t.Errorf("Put(%q) until %s: %v", key, expires, err)
	}
}

// neverEarly reads without a break until records at every fraction of a
// second are past their time. That a store shows one longer is its right; how
// much longer is a thing of its own tests.
func neverEarly(p place) {
	s := p.store()
	base := time.Now().Add(300 * time.Millisecond)
	expires := make([]time.Time, 10)
	s.update(func(t tx) {
		for i := range expires {
			expires[i] = base.Add(time.Duration(i) * 111_111_111)
			t.putUntil(fmt.Sprint(i), "1", expires[i])
		}
	})
	for end := expires[9].Add(50 * time.Millisecond); time.Now().Before(end) && !p.Failed(); {
		s.view(func(t tx) {
			for i := range expires {
				if _, found := t.value(fmt.Sprint(i)); !found && time.Now().Before(expires[i]) {
					t.t.Errorf("record %d is gone %s before its time", i, time.Until(expires[i]))
				}
			}
		})
	}
}
