package main_test

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// ledger is what clients were told: it must hold whatever happens to Caddy.
type ledger struct {
	mu      sync.Mutex
	in, out map[string]bool // sessions, by their cookies
	recent  []string        // those of them that were told of since the last look
	used    []coming        // spent sign-ins, the last of them
	n       int
}

func newLedger() *ledger { return &ledger{in: map[string]bool{}, out: map[string]bool{}} }

// usedKept is how many spent sign-ins are tried again at each look.
const usedKept = 20

func (l *ledger) note(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
	l.n++
}

func (l *ledger) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

// enters, leaving and left are what a client knows of a session: between the
// last two it may be either.
func (l *ledger) enters(c coming, cookie string) {
	l.note(func() {
		l.used = append(l.used, c)
		l.used = l.used[max(0, len(l.used)-usedKept):]
		l.in[cookie], l.recent = true, append(l.recent, cookie)
	})
}

func (l *ledger) leaving(cookie string) { l.note(func() { delete(l.in, cookie) }) }

func (l *ledger) left(cookie string) {
	l.note(func() { l.out[cookie], l.recent = true, append(l.recent, cookie) })
}

// some are the sessions that were told of since the last look, and a few others
// of before.
func (l *ledger) some() []string {
	some := l.recent
	l.recent = nil
	for _, all := range []map[string]bool{l.in, l.out} {
		more := 20
		for cookie := range all { // in no order
			if more--; more < 0 {
				break
			}
			some = append(some, cookie)
		}
	}
	return some
}

func (l *ledger) all() (all []string) {
	for _, sessions := range []map[string]bool{l.in, l.out} {
		for cookie := range sessions {
			all = append(all, cookie)
		}
	}
	return all
}

// live signs in, and out every other time, until Caddy is gone.
func (s *siege) live(v *e2e.Visitor, l *ledger) {
	for n := 0; ; n++ {
		v.ForgetCookies()
		c, err := s.come(v, "op", "ada")
		if err != nil {
			return
		}
		got, err := v.Try(v.Navigation(c.callback))
		cookie := session(got2(got, err))
		if cookie == "" {
			return
		}
		l.enters(c, cookie)
		if n%2 == 0 {
			continue
		}
		l.leaving(cookie)
		if s.leave(v) != nil {
			return
		}
		l.left(cookie)
	}
}

func got2(got e2e.Answer, err error) e2e.Answer {
	if err != nil {
		return e2e.Answer{Response: &http.Response{}}
	}
	return got
}

// endings ends Caddy again and again while writers write, and compares what they
// were told with what is so afterwards.
func (s *siege) endings(t *testing.T, rounds, writers int, end func()) {
	t.Helper()
	l := newLedger()
	figures(t, "%d endings under %d writers, %d answers, %d sessions alive and %d ended", func() []any {
		return []any{rounds, writers, l.n, len(l.in), len(l.out)}
	})
	crowd := make([]*e2e.Visitor, writers)
	for n := range crowd {
		crowd[n] = visitorFrom(t, 2+n)
	}
	for round := range rounds {
		until := l.size() + writers + rand.IntN(2*writers)
		var all sync.WaitGroup
		for _, v := range crowd {
			all.Go(func() { s.live(v, l) })
		}
		e2e.Eventually(t, time.Minute, "sign-ins", func() bool { return l.size() >= until })
		end()
		all.Wait()
		s.Restart()
		s.compare(t, l, l.some(), round)
		if t.Failed() {
			return
		}
	}
	s.compare(t, l, l.all(), rounds)
	if len(l.in) < writers/2*rounds || len(l.out) < rounds {
		t.Errorf("only %d sessions and %d ended ones", len(l.in), len(l.out))
	}
}

// compare looks at some sessions, and tries again what was spent.
func (s *siege) compare(t *testing.T, l *ledger, sessions []string, round int) {
	t.Helper()
	probe := e2e.NewHTTP2Visitor(t)
	defer probe.Transport.CloseIdleConnections()
	for _, cookie := range sessions {
		want, known := http.StatusFound, l.out[cookie]
		if l.in[cookie] {
			want, known = http.StatusOK, true
		}
		if !known {
			continue // its sign-out was not answered
		}
		if got := replay(probe, s.site, cookie).Get(s.site + "/in"); got.StatusCode != want {
			t.Errorf("round %d: an answered session is %d afterwards, want %d", round, got.StatusCode, want)
		}
	}
	before, elsewhere := s.asked().Token, visitorFrom(t, 60+round%190) // a network's callbacks are limited
	defer elsewhere.Transport.CloseIdleConnections()
	for _, c := range l.used {
		refused(t, elsewhere.Another().Do(c.again(elsewhere, c.callback)), 400)
	}
	if s.asked().Token != before {
		t.Errorf("round %d: a spent sign-in was used again", round)
	}
}

func TestWhatWasAnsweredOutlivesKill(t *testing.T) {
	s := besiege(t, unrecorded(t, strings.NewReplacer("\tdebug\n", "", "\tlog\n", "").Replace(besieged)))
	s.endings(t, rounds(20, 1000), 50, s.Kill)
}

func TestStoppingUnderLoadNeitherPanicsNorLies(t *testing.T) {
	s := besiege(t, unrecorded(t, strings.Replace(besieged, "\tdebug\n", "", 1)))
	s.endings(t, rounds(3, 100), 12, s.Stop)
}
