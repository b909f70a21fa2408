package storetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

var errFn = errors.New("the function's own error")

var viewPromises = []promise{
	{"ReadsOneMoment", readsOneMoment},
	{"SeesNothingHalfWritten", seesNothingHalfWritten},
	{"SeesWhatWasAcknowledged", func(p place) {
		s := p.store()
		for i := range 200 {
			s.update(func(t tx) { t.put("a", fmt.Sprint(i)) })
			s.has("a", fmt.Sprint(i))
		}
	}},
	{"CannotWrite", func(p place) {
		s := p.store()
		s.update(func(t tx) { t.put("a", "1") })
		s.view(func(t tx) {
			if t.Put([]byte("a"), []byte("2"), never) == nil || t.Delete([]byte("a")) == nil {
				t.t.Error("writing in a View is no error")
			}
			t.has("a", "1")
		})
		s.has("a", "1")
	}},
	{"ErrorIsReturned", func(p place) {
		err := p.store().View(context.Background(), func(guest.Tx) error { return errFn })
		if !errors.Is(err, errFn) {
			p.Errorf("View returned %v, want the function's error", err)
		}
	}},
	{"PanicReachesTheCaller", func(p place) {
		s := p.store()
		if got := recovered(func() { _ = s.View(context.Background(), func(guest.Tx) error { panic(errFn) }) }); got != errFn {
			p.Errorf("recovered %v, want the function's panic", got)
		}
		s.lacks("a")
	}},
	{"DoesNotRunOnceContextIsOver", func(p place) {
		s := p.store()
		ran := false
		err := s.View(cancelled(), func(guest.Tx) error { ran = true; return nil })
		if ran || !errors.Is(err, context.Canceled) {
			p.Errorf("View returned %v (ran: %v), want context.Canceled and no run", err, ran)
		}
	}},
	{"RunsWhileAnUpdateRuns", func(p place) {
		s := p.store()
		s.update(func(t tx) { t.put("a", "1") })
		s.update(func(t tx) {
			t.put("a", "2")
			done := make(chan struct{})
			go func() { defer close(done); s.has("a", "1") }()
			<-done
		})
		s.has("a", "2")
	}},
}

// readsOneMoment writes between two reads of one View.
func readsOneMoment(p place) {
	s := p.store()
	s.update(func(t tx) { t.put("a", "1"); t.put("gone", "1") })
	s.view(func(t tx) {
		t.has("a", "1")
		s.update(func(t tx) { t.put("a", "2"); t.put("b", "2"); t.remove("gone") })
		t.has("a", "1")
		t.lacks("b")
		t.has("gone", "1")
		t.lists("", "a", "gone")
	})
	s.view(func(t tx) { t.lists("", "a", "b") })
}

// seesNothingHalfWritten keeps the sum of two accounts while money moves.
func seesNothingHalfWritten(p place) {
	s := p.store()
	s.update(func(t tx) { t.put("a", "50"); t.put("b", "50") })
	stop, watching := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watching)
		for {
			select {
			case <-stop:
				return
			default:
				s.view(func(t tx) { sumsTo(t, 100) })
			}
		}
	}()
	for i := range 200 {
		s.update(func(t tx) {
			t.put("a", fmt.Sprint(i%101))
			runtime.Gosched()
			t.put("b", fmt.Sprint(100-i%101))
		})
	}
	close(stop)
	<-watching
}

func sumsTo(t tx, want int) {
	sum := 0
	_ = t.Scan(nil, nil, 0, func(_, value []byte) bool { sum += number(string(value)); return true })
	if sum != want {
		t.t.Errorf("the accounts hold %d, want %d", sum, want)
	}
}

var updatePromises = []promise{
	{"ErrorDiscardsWrites", func(p place) {
		s := p.store()
		s.update(func(t tx) { t.put("a", "1"); t.put("b", "1") })
		err := s.Update(context.Background(), func(g guest.Tx) error {
			t := tx{Tx: g, t: p.T}
			t.put("a", "2")
			t.remove("b")
			t.put("c", "2")
			return errFn
		})
		if !errors.Is(err, errFn) {
			p.Errorf("Update returned %v, want the function's error", err)
		}
		s.has("a", "1")
		s.has("b", "1")
		s.lacks("c")
	}},
	{"PanicDiscardsWritesAndReachesTheCaller", func(p place) {
		s := p.store()
		got := recovered(func() {
			_ = s.tryUpdate(func(t tx) { t.put("a", "1"); panic(errFn) })
		})
		if got != errFn {
			p.Errorf("recovered %v, want the function's panic", got)
		}
		s.lacks("a")
		s.update(func(t tx) { t.lacks("a"); t.put("b", "1") })
		s.has("b", "1")
	}},
	{"GoexitDiscardsWrites", func(p place) {
		s := p.store()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = s.tryUpdate(func(t tx) { t.put("a", "1"); runtime.Goexit() })
		}()
		<-done
		s.update(func(t tx) { t.lacks("a"); t.put("b", "1") })
		s.has("b", "1")
	}},
	{"FailureDiscardsOnlyItsOwn", failureDiscardsOnlyItsOwn},
	{"DoesNotRunOnceContextIsOver", func(p place) {
		s := p.store()
		ran := false
		err := s.Update(cancelled(), func(guest.Tx) error { ran = true; return nil })
		if ran || !errors.Is(err, context.Canceled) {
			p.Errorf("Update returned %v (ran: %v), want context.Canceled and no run", err, ran)
		}
	}},
	{"DoesNotRunWhenContextEndsInTheQueue", contextEndsInTheQueue},
	{"TellsTheTruthWhenContextEndsMeanwhile", contextEndsMeanwhile},
	{"WritesSurviveReopening", writesSurviveReopening},
	{"DeletedKeysStayDeletedAfterReopening", deletedKeysStayDeleted},
}

// failureDiscardsOnlyItsOwn has one update fail and one panic among 50 that
// succeed, all at once and all in the same keys.
func failureDiscardsOnlyItsOwn(p place) {
	s := p.store()
	for round := range 5 {
		key := func(i int) string { return fmt.Sprintf("%d/%02d", round, i) }
		all(52, func(i int) {
			err := try(func() error {
				return s.Update(context.Background(), func(g guest.Tx) error {
					t := tx{Tx: g, t: p.T}
					t.put(key(i), "x")
					t.put(key((i+1)%52)+"+", "from "+key(i))
					return misbehave(i)
				})
			})
			if failed := err != nil; failed != (i == 20 || i == 40) {
				p.Errorf("update %d returned %v", i, err)
			}
		})
		s.view(func(t tx) {
			for i := range 52 {
				_, found := t.value(key(i))
				_, foundNext := t.value(key((i+1)%52) + "+")
				if want := i != 20 && i != 40; found != want || foundNext != want {
					t.t.Errorf("writes of update %d found: %v, %v, want %v", i, found, foundNext, want)
				}
			}
		})
	}
}

func misbehave(i int) error {
	switch i {
	case 20:
		return errFn
	case 40:
		panic(errFn)
	default:
		return nil
	}
}

// contextEndsInTheQueue holds the store with one update while another waits.
func contextEndsInTheQueue(p place) {
	s := p.store()
	begun, release := make(chan struct{}, 1), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		first <- s.tryUpdate(func(t tx) {
			begun <- struct{}{}
			<-release
			t.put("a", "1")
		})
	}()
	<-begun
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	second := make(chan error, 1)
	go func() {
		second <- s.Update(ctx, func(g guest.Tx) error {
			tx{Tx: g, t: p.T}.put("b", "1")
			return nil
		})
	}()
	<-ctx.Done()
	waited := answered(second, release)
	if err := <-first; err != nil {
		p.Errorf("first update: %v", err)
	}
	s.has("a", "1")
	if waited == nil {
		s.has("b", "1") // a store that ran both at once told the truth
		return
	}
	if !errors.Is(waited, context.DeadlineExceeded) {
		p.Errorf("update whose context ended in the queue returned %v", waited)
	}
	s.lacks("b")
}

// answered is what the second update returned. It must return before the first
// ends; only then is the first released.
func answered(second <-chan error, release chan struct{}) error {
	defer close(release)
	select {
	case err := <-second:
		return err
	case <-time.After(time.Minute):
		return errors.New("it still waits a minute after its context ended")
	}
}

func contextEndsMeanwhile(p place) {
	s := p.store()
	ctx, cancel := context.WithCancel(context.Background())
	err := s.Update(ctx, func(g guest.Tx) error {
		tx{Tx: g, t: p.T}.put("a", "1")
		cancel()
		return nil
	})
	if err == nil {
		s.has("a", "1")
	} else {
		s.lacks("a")
	}
}

func writesSurviveReopening(p place) {
	for round := range 3 {
		s := p.openStore()
		for i := range round * 50 {
			s.has(fmt.Sprintf("k/%03d", i), fmt.Sprint(i))
		}
		for i := round * 50; i < (round+1)*50; i++ {
			s.update(func(t tx) { t.put(fmt.Sprintf("k/%03d", i), fmt.Sprint(i)); t.put("empty", "") })
		}
		if err := s.Close(); err != nil {
			p.Fatalf("Close: %v", err)
		}
	}
	p.store().has("empty", "")
}

func deletedKeysStayDeleted(p place) {
	s := p.openStore()
	s.update(func(t tx) { t.put("a", "1"); t.put("b", "1") })
	if err := s.Close(); err != nil {
		p.Fatalf("Close: %v", err)
	}
	s = p.openStore()
	s.update(func(t tx) { t.remove("a") })
	if err := s.Close(); err != nil {
		p.Fatalf("Close: %v", err)
	}
	p.store().view(func(t tx) { t.lacks("a"); t.lists("", "b") })
}

var closePromises = []promise{
	{"LaterCallsAreErrClosed", func(p place) {
		s := p.openStore()
		if err := s.Close(); err != nil {
			p.Fatalf("Close: %v", err)
		}
		fn := func(guest.Tx) error { p.Error("function ran after Close"); return nil }
		if err := s.View(context.Background(), fn); !errors.Is(err, guest.ErrClosed) {
			p.Errorf("View after Close: %v, want ErrClosed", err)
		}
		if err := s.Update(context.Background(), fn); !errors.Is(err, guest.ErrClosed) {
			p.Errorf("Update after Close: %v, want ErrClosed", err)
		}
		if err := s.Close(); !errors.Is(err, guest.ErrClosed) {
			p.Errorf("second Close: %v, want ErrClosed", err)
		}
	}},
	{"WaitsForViews", func(p place) {
		waits(p, func(s store, inside func()) { s.view(func(t tx) { inside(); t.has("a", "1") }) })
	}},
	{"WaitsForUpdates", func(p place) {
		waits(p, func(s store, inside func()) { s.update(func(t tx) { inside(); t.put("b", "1") }) })
		p.store().has("b", "1")
	}},
	{"ManyCallsAreAnsweredOneWayOrTheOther", closesAmongManyCalls},
	{"PlaceIsFree", func(p place) {
		for range 3 {
			if err := p.openStore().Close(); err != nil {
				p.Fatalf("Close: %v", err)
			}
		}
	}},
}

// waits checks that Close does not return while call is inside its function: not
// in several times as long as it takes here and now where there is no call.
func waits(p place, call func(s store, inside func())) {
	usual := closingTime(p)
	s := p.openStore()
	closing, closed := make(chan struct{}), make(chan error, 1)
	call(s, func() {
		go func() {
			close(closing)
			closed <- s.Close()
		}()
		<-closing
		select {
		case <-closed:
			p.Error("Close returned while a call was under way")
			closed <- nil
		case <-time.After(50*time.Millisecond + 4*usual):
		}
	})
	if err := <-closed; err != nil {
		p.Errorf("Close: %v", err)
	}
}

// closingTime is how long it takes to close a store that was written to.
func closingTime(p place) time.Duration {
	s := p.openStore()
	s.update(func(t tx) { t.put("a", "1") })
	begun := time.Now()
	if err := s.Close(); err != nil {
		p.Errorf("Close: %v", err)
	}
	return time.Since(begun)
}

// closesAmongManyCalls closes amid 32 writers and checks their ledger.
func closesAmongManyCalls(p place) {
	s := p.openStore()
	var ledger sync.Map
	var begun, finished sync.WaitGroup
	begun.Add(32)
	finished.Go(func() {
		all(32, func(w int) {
			writeUntilClosed(s, fmt.Sprintf("%02d/", w), &ledger, sync.OnceFunc(begun.Done))
		})
	})
	begun.Wait()
	if err := s.Close(); err != nil {
		p.Errorf("Close: %v", err)
	}
	finished.Wait()
	p.store().view(func(t tx) {
		ledger.Range(func(key, _ any) bool { t.has(key.(string), "x"); return true })
	})
}

// writeUntilClosed calls begun after its first write, or on its way out.
func writeUntilClosed(s store, prefix string, ledger *sync.Map, begun func()) {
	defer begun()
	for i := 0; ; i++ {
		key := prefix + fmt.Sprint(i)
		err := s.tryUpdate(func(t tx) { t.put(key, "x") })
		if errors.Is(err, guest.ErrClosed) {
			return
		}
		if err != nil {
			s.t.Errorf("Update amid Close: %v", err)
			return
		}
		ledger.Store(key, nil)
		begun()
	}
}

// all runs fn n times at once and waits.
func all(n int, fn func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() { <-start; fn(i) })
	}
	close(start)
	wg.Wait()
}

// recovered is what fn panicked with.
func recovered(fn func()) (value any) {
	defer func() { value = recover() }()
	fn()
	return nil
}

// try turns a panic into an error.
func try(fn func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panicked: %v", v)
		}
	}()
	return fn()
}

func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
