package challenge_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/challenge"
	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
)

// asks begins one and says whether its mail is sent.
func (w *world) asks(familiar bool, email identity.Email) challenge.Withheld {
	w.t.Helper()
	a := w.askFor(email)
	a.Familiar = familiar
	return w.begin(a).Withheld
}

// fails types wrong codes for an address, each in a browser of its own.
func (w *world) fails(times int, familiar bool, email identity.Email) {
	w.t.Helper()
	for range times {
		a := w.askFor(email)
		a.Familiar = familiar
		begun := w.begin(a)
		mail, err := w.challenges.Opened(claim(begun))
		w.must(err)
		w.wrong(w.check(begun, guess(mail.Code)), 4)
	}
}

func TestAddressGetsFiveMailsAnHour(t *testing.T) {
	w := newWorld(t)
	for i := range 5 {
		if why := w.asks(false, ada); why != "" {
			t.Errorf("mail %d: %s", i, why)
		}
		w.clock.Advance(time.Minute)
	}
	w.restart()
	for _, address := range []identity.Email{ada, "ada+1@example.com", "a.d.a+x+y@example.com"} {
		if why := w.asks(false, address); why != challenge.Throttled {
			t.Errorf("sixth mail to %s: %q", address, why)
		}
	}
	for _, address := range []identity.Email{"bob@example.com", "ada@example.org", "+ada@example.com"} {
		if why := w.asks(false, address); why != "" {
			t.Errorf("%s pays for it: %s", address, why)
		}
	}
	w.clock.Advance(55*time.Minute + time.Second)
	if first, second := w.asks(false, ada), w.asks(false, ada); first != "" || second != challenge.Throttled {
		t.Errorf("an hour after the first: %q, then %q", first, second)
	}
}

func TestAddressGetsFifteenMailsADay(t *testing.T) {
	w := newWorld(t)
	for i := range 15 {
		if why := w.asks(false, ada); why != "" {
			t.Errorf("mail %d: %s", i, why)
		}
		w.clock.Advance(time.Hour)
	}
	if why := w.asks(false, ada); why != challenge.Throttled {
		t.Errorf("sixteenth: %q", why)
	}
	w.clock.Advance(9 * time.Hour)
	if why := w.asks(false, ada); why != "" {
		t.Errorf("the next day: %s", why)
	}
}

func TestStrangerCannotKeepTheOwnerOut(t *testing.T) {
	w := newWorld(t)
	w.fails(10, false, ada)
	if why := w.asks(false, ada); why != challenge.Paused {
		t.Errorf("a stranger's: %q", why)
	}
	a := w.ask()
	a.Familiar = true
	begun := w.begin(a)
	if begun.Mail == nil {
		t.Fatalf("the owner's is withheld: %s", begun.Withheld)
	}
	w.must(w.check(begun, string(begun.Mail.Code)))
}

func TestThrottledChallengeNeverSucceeds(t *testing.T) {
	for why, prepare := range map[challenge.Withheld]func(*world, *challenge.Ask){
		challenge.Phantom: func(_ *world, a *challenge.Ask) { a.Phantom = true },
		challenge.Throttled: func(w *world, _ *challenge.Ask) {
			for range 5 {
				w.asks(false, ada)
			}
		},
		challenge.Paused: func(w *world, _ *challenge.Ask) { w.fails(10, false, ada) },
	} {
		w := newWorld(t)
		a := w.ask()
		a.Rules.CrossDevice = challenge.Allow
		prepare(w, &a)
		begun := w.begin(a)
		if begun.Mail != nil || begun.Withheld != why {
			t.Fatalf("%s: begun %+v", why, begun)
		}
		w.clock.Advance(time.Minute)
		again, err := w.challenges.Resend(ctx, claim(begun), w.elsewhere())
		w.must(err)
		if again.Mail != nil {
			t.Errorf("%s: mailed when asked again", why)
		}
		mail, err := w.challenges.Opened(claim(begun))
		w.must(err)
		_, err = w.challenges.Open(ctx, challenge.Landing{Link: mail.Link, Scope: site, IDs: []challenge.ID{begun.ID}})
		w.want(err, challenge.ErrExpired)
		for left := 4; left > 0; left-- {
			w.wrong(w.check(begun, string(mail.Code)), left)
		}
		w.want(w.check(begun, string(mail.Code)), challenge.ErrTooMany)
	}
}

func TestPauseMakesEveryCodeWrongAndLeavesTheLink(t *testing.T) {
	w := newWorld(t)
	begun := w.begin(w.ask())
	w.fails(10, false, ada)
	w.wrong(w.check(begun, string(begun.Mail.Code)), 4)
	_, err := w.challenges.Open(ctx, at(begun, begun.ID))
	w.must(err)
}

func TestPausesDoubleAndSurviveRestarts(t *testing.T) {
	w := newWorld(t)
	for i := range 10 {
		w.fails(9, false, ada)
		if i == 0 && w.asks(true, ada) != "" {
			t.Error("nine wrong codes pause")
		}
		w.fails(1, false, ada)
		w.restart()
		pause := min(15*time.Minute<<i, 24*time.Hour)
		w.clock.Advance(pause - time.Second)
		if why := w.asks(false, ada); why != challenge.Paused {
			t.Errorf("pause %d is over before %s: %q", i, pause, why)
		}
		w.fails(12, false, ada) // makes it no longer
		w.clock.Advance(time.Second)
		if why := w.asks(false, ada); why == challenge.Paused {
			t.Errorf("pause %d is longer than %s", i, pause)
		}
	}
	w.clock.Advance(25 * time.Hour)
	w.fails(10, false, ada)
	w.clock.Advance(15 * time.Minute)
	if why := w.asks(false, ada); why == challenge.Paused {
		t.Error("a day after the last pause the next one is not a first one")
	}
}

func TestTenFailuresCountWithinOneHour(t *testing.T) {
	w := newWorld(t)
	for range 5 {
		w.fails(9, false, ada)
		w.clock.Advance(time.Hour + time.Second)
	}
	if why := w.asks(false, ada); why == challenge.Paused {
		t.Error("nine an hour pause the account")
	}
}

func TestSuccessForgivesNoFailures(t *testing.T) {
	w := newWorld(t)
	begun := w.begin(w.ask())
	w.fails(9, false, "ad.a@example.com")
	w.must(w.check(begun, string(begun.Mail.Code)))
	w.fails(1, false, ada)
	w.clock.Advance(time.Minute)
	if why := w.asks(false, ada); why != challenge.Paused {
		t.Errorf("tenth failure: %q", why)
	}
}

func TestAddressThatHadItsMailsGetsNoneAgain(t *testing.T) {
	w := newWorld(t)
	begun := w.begin(w.ask())
	for range 4 {
		w.asks(false, ada)
	}
	w.clock.Advance(time.Minute)
	again, err := w.challenges.Resend(ctx, claim(begun), w.elsewhere())
	w.must(err)
	if again.Mail != nil || again.Withheld != challenge.Throttled {
		t.Errorf("sent again: %+v", again)
	}
	w.must(w.check(begun, string(begun.Mail.Code)))
}

func TestNetworkAsksForTenMails(t *testing.T) {
	w := newWorld(t)
	ask := func(network string, i int, familiar bool) error {
		a := w.ask()
		a.Network, a.Familiar, a.Email = network, familiar, identity.Email(fmt.Sprintf("u%d@example.com", i))
		_, err := w.challenges.Begin(ctx, a)
		return err
	}
	for i := range 10 {
		w.must(ask(fmt.Sprintf("[2001:db8::%x]:443", i), i, false))
	}
	w.want(ask("2001:db8::ffff", 11, false), challenge.ErrNetwork)
	w.must(ask("2001:db8::ffff", 12, true))
	w.must(ask("2001:db8:0:1::1", 13, false))
	w.clock.Advance(challenge.RetryAfter)
	w.must(ask("2001:db8::ffff", 14, false))
	w.want(ask("2001:db8::ffff", 15, false), challenge.ErrNetwork)
}

func TestNetworkPaysForMailsSentAgain(t *testing.T) {
	w := newWorld(t)
	a := w.ask()
	var all []*challenge.Begun
	for i := range 10 {
		a.Email = identity.Email(fmt.Sprintf("u%d@example.com", i))
		all = append(all, w.begin(a))
	}
	for range 3 { // too soon, which costs nothing
		_, err := w.challenges.Resend(ctx, claim(all[0]), "192.0.2.1")
		w.want(err, challenge.ErrTooSoon)
	}
	w.clock.Advance(30 * time.Second)
	_, err := w.challenges.Resend(ctx, claim(all[0]), a.Network)
	w.want(err, challenge.ErrNetwork)
	if resent := w.poll(all[0]).ResendAt; !resent.Equal(all[0].Waiting.ResendAt) {
		t.Error("what was turned away counts as sent")
	}
	for i := range 10 {
		_, err := w.challenges.Resend(ctx, claim(all[i]), "192.0.2.1")
		w.must(err)
	}
}

func TestBreakerTurnsStrangersAwayAndNotTheFamiliar(t *testing.T) {
	w := newWorld(t)
	w.open(&memory{})
	var err error
	a := w.ask()
	for i := 0; err == nil; i++ {
		if i > 1000 {
			t.Fatal("nobody is turned away")
		}
		a.Network, a.Email = w.elsewhere(), identity.Email(fmt.Sprintf("u%d@example.com", i))
		_, err = w.challenges.Begin(ctx, a)
	}
	w.want(err, challenge.ErrBusy)
	a.Email, a.Familiar = ada, true
	if begun := w.begin(a); begun.Mail == nil {
		t.Errorf("the owner's is withheld: %s", begun.Withheld)
	}
}

// Whatever is known of an address: the same steps, the same answers.
func TestAddressesLookAlike(t *testing.T) {
	type trace struct{ begin, poll, wrong, resend, last string }
	traces := map[string]trace{}
	for what, prepare := range map[string]func(*world, *challenge.Ask){
		"known":     func(*world, *challenge.Ask) {},
		"unknown":   func(_ *world, a *challenge.Ask) { a.Phantom = true },
		"throttled": func(w *world, _ *challenge.Ask) { w.asks(false, ada); w.fails(6, false, ada) },
		"paused":    func(w *world, _ *challenge.Ask) { w.fails(10, false, ada) },
	} {
		w := newWorld(t)
		store := &counting{Store: w.store}
		w.open(store)
		a := w.ask()
		prepare(w, &a)
		start := w.clock.Now()
		var begun *challenge.Begun
		var said []any
		see := func(err error) {
			waiting := *w.poll(begun)
			waiting.Expires, waiting.ResendAt = time.Time{}.Add(waiting.Expires.Sub(start)), time.Time{}.Add(waiting.ResendAt.Sub(start))
			said = append(said, waiting, err)
		}
		code := func() string {
			mail, err := w.challenges.Opened(claim(begun))
			w.must(err)
			return guess(mail.Code)
		}
		var tr trace
		tr.begin = store.during(func() { begun = w.begin(a) })
		tr.poll = store.during(func() { see(nil) })
		first := code()
		tr.wrong = store.during(func() { see(w.check(begun, first)) })
		w.clock.Advance(30 * time.Second)
		tr.resend = store.during(func() {
			again, err := w.challenges.Resend(ctx, claim(begun), w.elsewhere())
			w.must(err)
			said = append(said, again.ID == begun.ID)
		})
		tr.last = store.during(func() {
			for range 5 {
				see(w.check(begun, first))
			}
		})
		tr.last += fmt.Sprintf("%+v", said)
		traces[what] = tr
	}
	want := traces["known"]
	if want.begin != "update , get budget, put budget, put challenge" || want.wrong == "" {
		t.Errorf("traces %+v", want)
	}
	for what, got := range traces {
		if got != want {
			t.Errorf("%s:\n%+v\nknown:\n%+v", what, got, want)
		}
	}
}

func TestBudgetOfAWrongClockLocksNobodyOut(t *testing.T) {
	for _, wrong := range []time.Time{time.Unix(0, 0), time.Date(2038, 1, 19, 3, 14, 8, 0, time.UTC)} {
		w := newWorld(t)
		store := &memory{} // the real one has a clock of its own
		w.open(store)
		now := w.clock.Now()
		w.clock.Set(wrong)
		for range 5 {
			w.asks(false, ada)
			w.asks(true, ada)
		}
		w.fails(10, false, ada)
		w.clock.Set(now)
		w.open(store)
		for _, familiar := range []bool{false, true} {
			if why := w.asks(familiar, ada); why != "" {
				t.Errorf("set right from %d: %s", wrong.Year(), why)
			}
		}
	}
}

func TestPauseOutlastsSmallSteps(t *testing.T) {
	for jump, paused := range map[time.Duration]bool{
		10 * time.Minute: true, -10 * time.Minute: true, 24 * time.Hour: false, -24 * time.Hour: false,
	} {
		w := newWorld(t)
		store := &memory{}
		w.open(store)
		w.fails(10, false, ada)
		w.clock.Advance(jump)
		w.open(store)
		if why := w.asks(false, ada); (why == challenge.Paused) != paused {
			t.Errorf("clock moved by %s: %q", jump, why)
		}
		begun := w.begin(w.askFor("bob@example.com"))
		w.must(w.check(begun, string(begun.Mail.Code)))
	}
}

func TestSweepTakesWhatIsOverAndNothingElse(t *testing.T) {
	w := newWorld(t)
	for i := range 600 {
		a := w.askFor(identity.Email(fmt.Sprintf("u%d@example.com", i)))
		a.Familiar = true
		w.begin(a)
	}
	w.fails(10, false, ada)
	w.clock.Advance(10*time.Minute - time.Second)
	spent := w.begin(w.askFor("bob@example.com"))
	w.must(w.check(spent, string(spent.Mail.Code)))
	w.must(w.challenges.Sweep(ctx))
	if got := w.records(); got != [2]int{611, 602} {
		t.Errorf("before their time: %v challenges and budgets are left", got)
	}
	w.clock.Advance(2 * time.Second)
	w.must(w.challenges.Sweep(ctx))
	if got := w.records(); got != [2]int{1, 602} {
		t.Errorf("once expired: %v challenges and budgets are left", got)
	}
	w.want(w.check(spent, string(spent.Mail.Code)), challenge.ErrSpent)
	if why := w.asks(false, ada); why != challenge.Paused {
		t.Errorf("swept a pause: %q", why)
	}
	w.clock.Advance(24*time.Hour + 16*time.Minute)
	w.must(w.challenges.Sweep(ctx))
	if got := w.records(); got != [2]int{} {
		t.Errorf("a day later: %v challenges and budgets are left", got)
	}
}

// busy is a store in which something happens right before an Update.
type busy struct {
	guest.Store
	before func()
}

func (b *busy) Update(ctx context.Context, fn func(guest.Tx) error) error {
	if before := b.before; before != nil {
		b.before = nil
		before()
	}
	return b.Store.Update(ctx, fn)
}

func TestSweepSparesWhatIsUsedMeanwhile(t *testing.T) {
	w := newWorld(t)
	store := &busy{Store: w.store}
	w.open(store)
	w.asks(false, ada)
	w.clock.Advance(11 * time.Minute)
	w.must(w.challenges.Sweep(ctx))
	w.clock.Advance(24 * time.Hour) // its budget is all that is over
	store.before = func() {
		for range 5 {
			w.asks(false, ada)
		}
	}
	w.must(w.challenges.Sweep(ctx))
	if store.before != nil {
		t.Fatal("nothing was over")
	}
	if why := w.asks(false, ada); why != challenge.Throttled {
		t.Errorf("five mails were sent, a sixth: %q", why)
	}
}

func (w *world) records() (found [2]int) {
	w.t.Helper()
	w.must(w.store.View(ctx, func(tx guest.Tx) error {
		for i, prefix := range []string{"challenge/", "budget/"} {
			if err := tx.Scan([]byte(prefix), nil, 0, func(_, _ []byte) bool { found[i]++; return true }); err != nil {
				return err
			}
		}
		return nil
	}))
	return found
}
