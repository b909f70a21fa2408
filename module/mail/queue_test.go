package mail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

// In these tests time is synctest's: it goes on once nobody has anything to do.

var errLater = fmt.Errorf("the server answered 451: %w", guest.ErrTemporary)

// server is a mailer that answers as it is told.
type server struct {
	answer func(ctx context.Context, try int) error

	mu    sync.Mutex
	calls []time.Time
}

func (s *server) send(ctx context.Context, _ guest.Message) error {
	s.mu.Lock()
	s.calls = append(s.calls, time.Now())
	try := len(s.calls)
	s.mu.Unlock()
	return s.answer(ctx, try)
}

func (s *server) tries() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.calls)
}

// dead is a server that takes 30 s to say nothing.
func dead(ctx context.Context, _ int) error {
	select {
	case <-time.After(30 * time.Second):
	case <-ctx.Done():
	}
	return errLater
}

func always(err error) func(context.Context, int) error {
	return func(context.Context, int) error { return err }
}

// open starts a queue that is closed at the end of the bubble.
func open(t *testing.T, answer func(context.Context, int) error) (*Queue, *server, *journal) {
	t.Helper()
	s, out := &server{answer: answer}, new(journal)
	q := NewQueue(s.send, time.Now, slog.New(slog.NewTextHandler(out, nil)))
	t.Cleanup(func() { q.Close(over()) })
	return q, s, out
}

// journal is a log that may be read while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func (q *Queue) size() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes
}

// over is a context that has ended.
func over() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	context.AfterFunc(ctx, cancel)
	return ctx
}

// entry is a mail of use for ten minutes, and what became of it.
func entry() (Entry, chan Outcome) {
	became := make(chan Outcome, 2)
	return Entry{
		Message: guest.Message{To: "ada@example.com", Subject: "123456 is your code", Text: "Your code is 123456."},
		Expires: time.Now().Add(10 * time.Minute),
		OnDone:  func(o Outcome) { became <- o },
	}, became
}

func TestMailIsSentOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s, out := open(t, always(nil))
		e, became := entry()
		if !q.Enqueue(e) {
			t.Fatal("no room in an empty queue")
		}
		if o := <-became; o != Sent {
			t.Errorf("outcome %s", o)
		}
		<-time.After(time.Hour)
		if s.tries() != 1 || q.Len() != 0 || q.size() != 0 || out.String() != "" {
			t.Errorf("%d tries, %d left of %d bytes, log: %s", s.tries(), q.Len(), q.size(), out)
		}
	})
}

func TestTemporaryTroubleIsTriedAgainWithLongerPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s, _ := open(t, func(_ context.Context, try int) error {
			if try < 9 {
				return errLater
			}
			return nil
		})
		e, became := entry()
		q.Enqueue(e)
		if o := <-became; o != Sent {
			t.Errorf("outcome %s", o)
		}
		var pauses []time.Duration
		for i := 1; i < len(s.calls); i++ {
			pauses = append(pauses, s.calls[i].Sub(s.calls[i-1]))
		}
		if got, want := fmt.Sprint(pauses), "[1s 2s 4s 8s 16s 32s 1m0s 1m0s]"; got != want {
			t.Errorf("pauses %s, want %s", got, want)
		}
	})
}

func TestMailIsGivenUpWhenItsCodeExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s, out := open(t, always(errLater))
		e, became := entry()
		q.Enqueue(e)
		if o := <-became; o != Expired {
			t.Errorf("outcome %s", o)
		}
		if last := s.calls[len(s.calls)-1]; !last.Before(e.Expires) || e.Expires.Sub(last) > longestWait {
			t.Errorf("the last try is %s before the code expires", e.Expires.Sub(last))
		}
		if n := strings.Count(out.String(), "a mail was not sent"); n != 1 {
			t.Errorf("%d lines tell of it:\n%s", n, out)
		}
	})
}

func TestMailThatIsOfNoUseAnyMoreIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s, _ := open(t, always(nil))
		e, became := entry()
		e.Expires = time.Now()
		q.Enqueue(e)
		if o := <-became; o != Expired || s.tries() != 0 {
			t.Errorf("outcome %s after %d tries", o, s.tries())
		}
	})
}

// A clock that is set back must not keep mail for a day.
func TestClockSetBackKeepsNoMail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: always(errLater)}
		var back atomic.Int64
		now := func() time.Time { return time.Now().Add(-time.Duration(back.Load())) }
		q := NewQueue(s.send, now, slog.New(slog.DiscardHandler))
		defer q.Close(over())
		e, became := entry()
		q.Enqueue(e)
		synctest.Wait()
		back.Store(int64(24 * time.Hour))
		begun := time.Now()
		if o := <-became; o != Expired || time.Since(begun) > 10*time.Minute {
			t.Errorf("outcome %s after %s", o, time.Since(begun))
		}
	})
}

func TestRefusedMailIsNotTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s, _ := open(t, always(errors.New("the server answered 550 5.1.1")))
		e, became := entry()
		q.Enqueue(e)
		if o := <-became; o != Refused || s.tries() != 1 {
			t.Errorf("outcome %s after %d tries", o, s.tries())
		}
	})
}

func TestPanicOfAMailerIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _, out := open(t, func(_ context.Context, try int) error {
			if try <= 2*workers {
				panic("ada@example.com 123456")
			}
			return nil
		})
		for range 2 * workers {
			e, became := entry()
			q.Enqueue(e)
			if o := <-became; o != Refused {
				t.Errorf("outcome %s", o)
			}
		}
		e, became := entry()
		q.Enqueue(e)
		if o := <-became; o != Sent {
			t.Errorf("outcome %s once the mailer is well again", o)
		}
		if strings.Contains(out.String(), "123456") || strings.Contains(out.String(), "ada@") {
			t.Errorf("the log tells what the panic held:\n%s", out)
		}
	})
}

func TestPanicOfWhoeverIsToldHarmsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _, _ := open(t, always(nil))
		for range 2 * workers {
			e, _ := entry()
			e.OnDone = func(Outcome) { panic("metrics") }
			q.Enqueue(e)
		}
		e, became := entry()
		q.Enqueue(e)
		if o := <-became; o != Sent {
			t.Errorf("outcome %s", o)
		}
	})
}

func TestLogHoldsNeitherAddressNorCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, kind := range []error{guest.ErrTemporary, errors.New("no")} {
			q, _, out := open(t, always(fmt.Errorf("<ada@example.com> refused 'Subject: 123456 is your code': %w", kind)))
			e, became := entry()
			q.Enqueue(e)
			<-became
			if log := out.String(); log == "" || strings.Contains(log, "ada@example.com") || strings.Contains(log, "123456") {
				t.Errorf("log:\n%s", log)
			}
		}
	})
}

func TestSlowServerNeverBlocksWhoeverSends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s, _ := open(t, dead)
		begun, taken := time.Now(), 0
		for range 3 * most {
			e, _ := entry()
			e.OnDone = nil
			if q.Enqueue(e) {
				taken++
			}
		}
		if time.Since(begun) > 0 {
			t.Errorf("it took %s to fill the queue", time.Since(begun))
		}
		if taken != most || q.Len() != most {
			t.Errorf("%d of %d were taken, %d are in", taken, 3*most, q.Len())
		}
		synctest.Wait()
		if s.tries() != workers {
			t.Errorf("%d calls at once, want %d", s.tries(), workers)
		}
	})
}

func TestQueueIsBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _, _ := open(t, dead)
		e, _ := entry()
		e.OnDone = nil
		e.HTML = strings.Repeat("x", mostBytes/8)
		taken := 0
		for q.Enqueue(e) {
			taken++
		}
		if taken != 7 {
			t.Errorf("%d mails of an eighth of the room, and a bit, were taken", taken)
		}
		e, _ = entry()
		if !q.Enqueue(e) {
			t.Error("no room for a small one beside them")
		}
		e.HTML = strings.Repeat("x", mostBytes)
		if q.Enqueue(e) {
			t.Error("one larger than the room was taken")
		}
	})
}

func TestRoomIsThereAgainOnceMailExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _, _ := open(t, always(errLater))
		for {
			e, _ := entry()
			e.OnDone = nil
			if !q.Enqueue(e) {
				break
			}
		}
		<-time.After(11 * time.Minute)
		if q.Len() != 0 || q.size() != 0 {
			t.Errorf("%d are left, with %d bytes", q.Len(), q.size())
		}
	})
}

func TestDeadServerWarnsOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _, out := open(t, always(errLater))
		for range 100 {
			e, _ := entry()
			e.OnDone = nil
			q.Enqueue(e)
		}
		<-time.After(5*time.Minute - time.Second)
		if n := strings.Count(out.String(), "can't be sent at the moment"); n < 1 || n > 5 {
			t.Errorf("%d warnings in five minutes", n)
		}
	})
}

func TestCloseSendsWhatItCan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s, _ := open(t, func(_ context.Context, try int) error {
			if try == 1 {
				return errLater
			}
			return nil
		})
		e, became := entry()
		q.Enqueue(e)
		synctest.Wait() // it now waits for its second try
		begun := time.Now()
		q.Close(within(time.Minute))
		if o := <-became; o != Sent || s.tries() != 2 || time.Since(begun) > 0 {
			t.Errorf("outcome %s after %d tries in %s", o, s.tries(), time.Since(begun))
		}
		if q.Enqueue(e) {
			t.Error("a closed queue took a mail")
		}
	})
}

func TestCloseEndsInTimeAndTellsWhatIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		deaf := func(context.Context, int) error { <-release; return nil } // hears no ctx
		q, _, _ := open(t, deaf)
		told := make(chan Outcome, 100)
		for range 100 {
			e, _ := entry()
			e.OnDone = func(o Outcome) { told <- o }
			q.Enqueue(e)
		}
		begun := time.Now()
		q.Close(within(5 * time.Second))
		if took := time.Since(begun); took != 5*time.Second {
			t.Errorf("Close took %s", took)
		}
		for range 100 {
			if o := <-told; o != Dropped {
				t.Errorf("outcome %s", o)
			}
		}
		q.Close(over()) // once more does no harm
	})
}

func TestMailUnderWayWhenTheQueueEndsIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _, _ := open(t, func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() })
		e, became := entry()
		q.Enqueue(e)
		synctest.Wait()
		q.Close(over())
		if o := <-became; o != Dropped {
			t.Errorf("outcome %s", o)
		}
	})
}

func TestEachMailIsToldOfOnceHoweverTheQueueEnds(t *testing.T) {
	for round := range 50 {
		synctest.Test(t, func(t *testing.T) {
			q, _, _ := open(t, func(_ context.Context, try int) error {
				if try%3 == 0 {
					return errLater
				}
				return nil
			})
			var told atomic.Int64
			taken := int64(0)
			for range 200 {
				e, _ := entry()
				e.OnDone = func(Outcome) { told.Add(1) }
				if q.Enqueue(e) {
					taken++
				}
			}
			q.Close(within(time.Duration(round%2) * time.Second))
			synctest.Wait()
			if told.Load() != taken {
				t.Errorf("told of %d of %d", told.Load(), taken)
			}
		})
	}
}
