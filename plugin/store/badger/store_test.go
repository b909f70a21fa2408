package badger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T, dir string) guest.Store { return openAt(t, dir) })
}

func quiet() guest.Env { return guest.Env{Now: time.Now, Log: slog.New(slog.DiscardHandler)} }

// openAt opens the store in dir; the test closes it.
func openAt(t testing.TB, dir string) *store {
	t.Helper()
	return openWith(t, dir, quiet())
}

func openWith(t testing.TB, dir string, env guest.Env) *store {
	t.Helper()
	s, err := open(dir, env, freeSpace)
	if err != nil {
		t.Fatalf("opening store: %v", err)
	}
	return s.(*store)
}

// tempStore opens a store that is closed when the test ends.
func tempStore(t testing.TB) *store {
	t.Helper()
	s := openAt(t, t.TempDir())
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func (s *store) set(key, value string) error {
	return s.Update(context.Background(), func(t guest.Tx) error {
		return t.Put([]byte(key), []byte(value), time.Time{})
	})
}

func (s *store) value(key string) (value string, err error) {
	err = s.View(context.Background(), func(t guest.Tx) error {
		got, err := t.Get([]byte(key))
		value = string(got)
		return err
	})
	return value, err
}

func TestTooLargeUpdateHarmsOnlyItself(t *testing.T) {
	s := tempStore(t)
	for name, fill := range map[string]func(guest.Tx) error{
		"bytes": func(tx guest.Tx) error {
			for i := range 20 {
				_ = tx.Put(nth(i), make([]byte, maxValue), time.Time{}) // its error is not the only guard
			}
			return nil
		},
		"records": func(tx guest.Tx) error {
			for i := range 20_000 {
				_ = tx.Put(nth(i), nil, time.Time{})
			}
			return nil
		},
	} {
		if err := s.Update(context.Background(), fill); err == nil {
			t.Errorf("an update of too many %s is no error", name)
		}
		if _, err := s.value(string(nth(0))); !errors.Is(err, guest.ErrNotFound) {
			t.Errorf("an update of too many %s left something: %v", name, err)
		}
	}
	if err := s.set("a", "1"); err != nil {
		t.Errorf("the next update: %v", err)
	}
}

func TestUpdateAsLargeAsPromisedFits(t *testing.T) {
	s := tempStore(t)
	err := s.Update(context.Background(), func(tx guest.Tx) error {
		for i := range 9 {
			if err := tx.Put(nth(i), make([]byte, maxValue), time.Time{}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Errorf("an update of 590 KB: %v", err)
	}
	err = s.Update(context.Background(), func(tx guest.Tx) error {
		for i := range 6000 {
			if err := tx.Put(nth(i), make([]byte, 40), time.Now().Add(time.Hour)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Errorf("an update of 6,000 records: %v", err)
	}
}

func TestOverwritingOneKeyDoesNotFillAnUpdate(t *testing.T) {
	s := tempStore(t)
	err := s.Update(context.Background(), func(tx guest.Tx) error {
		for range 100 {
			if err := tx.Put([]byte("a"), make([]byte, maxValue), time.Time{}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// Twelve updates of 300 KB cannot share one transaction.
func TestUpdatesThatDoNotFitTogetherAllSucceed(t *testing.T) {
	s := tempStore(t)
	var wg sync.WaitGroup
	for w := range 12 {
		wg.Go(func() {
			for round := range 5 {
				err := s.Update(context.Background(), func(tx guest.Tx) error {
					for i := range 5 {
						if err := tx.Put(fmt.Appendf(nil, "%d/%d/%d", w, round, i), make([]byte, 60_000), time.Time{}); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					t.Errorf("writer %d: %v", w, err)
				}
			}
		})
	}
	wg.Wait()
	found := 0
	err := s.View(context.Background(), func(tx guest.Tx) error {
		return tx.Scan(nil, nil, 0, func(_, value []byte) bool { found += len(value) / 60_000; return true })
	})
	if err != nil || found != 12*5*5 {
		t.Errorf("found %d records (error: %v), want 300", found, err)
	}
}

func TestWaitingUpdatesShareOneCommit(t *testing.T) {
	s := tempStore(t)
	before := s.db.MaxVersion()
	inside, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = s.Update(context.Background(), func(guest.Tx) error {
			close(inside)
			<-release
			return nil
		})
	})
	<-inside
	for i := range 32 {
		wg.Go(func() {
			if err := s.set(string(nth(i)), "1"); err != nil {
				t.Error(err)
			}
		})
	}
	waitFor(t, "all updates to queue", func() bool { return sleepers() >= 32 })
	close(release)
	wg.Wait()
	if commits := s.db.MaxVersion() - before; commits > 4 {
		t.Errorf("32 updates that waited took %d commits", commits)
	}
}

// sleepers counts the goroutines inside takeTurn.
func sleepers() int {
	stacks := make([]runtime.StackRecord, 1000)
	n, _ := runtime.GoroutineProfile(stacks)
	return countIn(stacks[:n], "takeTurn")
}

func countIn(stacks []runtime.StackRecord, function string) (count int) {
	for _, stack := range stacks {
		frames := runtime.CallersFrames(stack.Stack())
		for more := true; more; {
			var frame runtime.Frame
			frame, more = frames.Next()
			if len(frame.Function) > len(function) && frame.Function[len(frame.Function)-len(function):] == function {
				count++
			}
		}
	}
	return count
}

// waitFor asks until what it waits for is so.
func waitFor(t testing.TB, what string, so func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-deadline:
			t.Fatalf("waited a minute for %s", what)
		case <-tick.C:
		}
	}
}

// A reader of uncommitted writes must not tell of them if they never commit.
func TestFailedCommitFailsTheWholeBatchAndAllAfterIt(t *testing.T) {
	s := tempStore(t)
	if err := s.set("a", "1"); err != nil {
		t.Fatal(err)
	}
	inside, release := make(chan struct{}), make(chan struct{})
	results := make(chan error, 3)
	go func() {
		results <- s.Update(context.Background(), func(tx guest.Tx) error {
			close(inside)
			<-release
			return tx.Put([]byte("a"), []byte("2"), time.Time{})
		})
	}()
	<-inside
	go func() { results <- s.set("b", "1") }()
	go func() {
		results <- s.Update(context.Background(), func(tx guest.Tx) error {
			_, err := tx.Get([]byte("a"))
			return err
		})
	}()
	waitFor(t, "two updates to queue", func() bool { return sleepers() >= 2 })
	_ = s.db.Close() // every commit from here on fails
	close(release)
	for range 3 {
		if err := <-results; !errors.Is(err, badger.ErrBlockedWrites) {
			t.Errorf("update in a batch that could not commit returned %v", err)
		}
	}
	ran := false
	if err := s.Update(context.Background(), func(guest.Tx) error { ran = true; return nil }); err == nil || ran {
		t.Errorf("update after a failed commit returned %v (ran: %v)", err, ran)
	}
}

func TestIdleStoreHoldsNoSnapshot(t *testing.T) {
	s := tempStore(t)
	_ = s.Update(context.Background(), func(guest.Tx) error { return errors.New("no") })
	_ = s.Update(context.Background(), func(guest.Tx) error { return nil })
	if err := s.set("a", "1"); err != nil {
		t.Fatal(err)
	}
	s.turn <- struct{}{}
	defer s.passTurn()
	if s.batch != nil {
		t.Error("a batch is open while nobody writes")
	}
}

func TestCloseLeavesNothingRunning(t *testing.T) {
	before := runtime.NumGoroutine()
	s := openAt(t, t.TempDir())
	if err := s.set("a", "1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "goroutines to end", func() bool { return runtime.NumGoroutine() <= before })
}

func TestEachNewLogIsFoundAndAllocated(t *testing.T) {
	dir := t.TempDir()
	s := filled(t, dir, 50_000) // 12 MB: three logs of 4 MiB, at least
	defer s.Close()
	logs, _ := filepath.Glob(filepath.Join(dir, "*.mem"))
	slices.Sort(logs)
	newest := logs[len(logs)-1]
	if s.wal.path(s.wal.last) != newest || s.wal.last < 3 {
		t.Errorf("following log %s, the newest of %d is %s", s.wal.path(s.wal.last), len(logs), newest)
	}
	info, err := os.Stat(newest)
	if err != nil {
		t.Fatal(err)
	}
	if got := allocated(info); runtime.GOOS == "linux" && got < logSize {
		t.Errorf("%d bytes of the log are allocated, want %d", got, logSize)
	}
}

// The value log would need collecting, and collecting has brought deleted keys
// back: it must stay empty whatever is written.
func TestValueLogStaysEmpty(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, dir)
	for i := range 100 {
		if err := s.set(string(nth(i)), string(make([]byte, maxValue))); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	logs, _ := filepath.Glob(filepath.Join(dir, "*.vlog"))
	for _, name := range logs {
		if info, err := os.Stat(name); err != nil || info.Size() > 64 {
			t.Errorf("value log %s holds %d bytes (error: %v)", name, info.Size(), err)
		}
	}
}
