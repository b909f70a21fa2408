package challenge_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/challenge"
	"github.com/caddy-login/caddy-login/module/identity"
)

// flood has many browsers ask at once, each from a network of its own, for an
// address of its own, with a lot of text. The clock goes on by pace with each, and
// the sweeper comes every minute.
func (w *world) flood(asks int, pace time.Duration) (begun int64) {
	var next, taken atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for n := next.Add(1); n <= int64(asks); n = next.Add(1) {
				w.clock.Advance(pace)
				_, err := w.challenges.Begin(ctx, flooding(uint32(n)))
				switch {
				case err == nil:
					taken.Add(1)
				case !errors.Is(err, challenge.ErrBusy):
					w.t.Error(err)
				}
				if n%int64(time.Minute/pace) == 0 {
					if err := w.challenges.Sweep(ctx); err != nil {
						w.t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	return taken.Load()
}

func flooding(n uint32) challenge.Ask {
	return challenge.Ask{
		Purpose: challenge.Login, Scope: site, Email: identity.Email(fmt.Sprintf("u%d@example.com", n)),
		Return: "/?" + strings.Repeat("&", 300), Asker: challenge.Asker{Device: strings.Repeat("d", 200), Place: "Lisbon"},
		Network: netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 10<<24+n))).String(),
	}
}

// heap is what is in use, in bytes.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// disk is what the store's files take, in bytes.
func (w *world) disk() (sum int64) {
	w.t.Helper()
	w.must(filepath.WalkDir(w.dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if info, err := entry.Info(); err == nil { // else it is gone by now
			sum += info.Size()
		}
		return nil
	}))
	return sum
}

func TestFloodIsTurnedAway(t *testing.T) {
	w := newWorld(t)
	disk := w.disk()
	begun := w.flood(100_000, time.Millisecond/2)
	t.Logf("100,000 wishes in 50 s: %d begun, disk %d KiB, before %d KiB", begun, w.disk()>>10, disk>>10)
	if begun < 1000 || begun > 1200 {
		t.Errorf("%d challenges were begun", begun)
	}
	if w.disk() > 64<<20 {
		t.Errorf("%d MiB of disk", w.disk()>>20)
	}
}

// A flood as fast as the breaker lets it through, for hours.
func TestLongFloodStaysWithin64MiB(t *testing.T) {
	asks := 20_000
	if testing.Short() {
		asks = 2000
	}
	w := newWorld(t)
	begun := w.flood(asks, time.Second/2)
	found := w.records()
	t.Logf("%d wishes in %s: %d begun, disk %d KiB, %d challenges, %d budgets", asks, time.Duration(asks)*time.Second/2, begun, w.disk()>>10, found[0], found[1])
	if begun < int64(asks)*9/10 {
		t.Errorf("%d challenges were begun", begun)
	}
	if w.disk() > 64<<20 || found[0] > 2*1200+64 {
		t.Errorf("%d MiB of disk, %d challenges", w.disk()>>20, found[0])
	}
}

func TestSweepsGetThroughMoreThanOneLooksAt(t *testing.T) {
	w := newWorld(t)
	for i := range 100 {
		w.asks(true, identity.Email(fmt.Sprintf("old%d@example.com", i)))
	}
	w.clock.Advance(25 * time.Hour)
	for n := range 4500 {
		w.clock.Advance(time.Second / 2)
		w.asks(true, identity.Email(fmt.Sprintf("u%d@example.com", n)))
	}
	w.must(w.challenges.Sweep(ctx))
	if found := w.records(); found[1] == 4500 {
		t.Error("one sweep looks at everything")
	}
	w.must(w.challenges.Sweep(ctx))
	if found := w.records(); found[1] != 4500 {
		t.Errorf("%d budgets are left", found[1])
	}
}

// What the real store takes for its buffers is its own affair.
func TestFloodLeavesMemoryFlat(t *testing.T) {
	w := newWorld(t)
	w.open(oblivious{})
	w.flood(1000, time.Second/2)
	before := heap()
	begun := w.flood(100_000, time.Second/2)
	grown := heap() - before
	t.Logf("%d challenges: heap %+d KiB", begun, grown>>10)
	// Who read the clock long before its turn is late, and turned away.
	if begun < 90_000 || grown > 12<<20 {
		t.Errorf("heap grew by %d MiB, %d were begun", grown>>20, begun)
	}
	runtime.KeepAlive(w.challenges)
}

// BenchmarkFlood is 100,000 wishes at the pace that the breaker lets through:
// 14 hours.
func BenchmarkFlood(b *testing.B) {
	for b.Loop() {
		w := newWorld(b)
		w.flood(100_000, time.Second/2)
		b.ReportMetric(float64(w.disk())/(1<<20), "MiB-disk")
		found := w.records()
		b.ReportMetric(float64(found[0]), "challenges")
		b.ReportMetric(float64(found[1]), "budgets")
	}
}

func BenchmarkBegin(b *testing.B) {
	w := newWorld(b)
	n := uint32(0)
	b.ReportAllocs()
	for b.Loop() {
		n++
		w.clock.Advance(time.Second)
		w.begin(flooding(n))
	}
}

// BenchmarkBeginInMemory is Begin without the disk.
func BenchmarkBeginInMemory(b *testing.B) {
	w := newWorld(b)
	store := &memory{}
	w.open(store)
	n := uint32(0)
	b.ReportAllocs()
	for b.Loop() {
		n++
		store.forget("challenge/")
		store.forget("budget/")
		w.clock.Advance(time.Second)
		w.begin(flooding(n))
	}
}

func BenchmarkCheck(b *testing.B) {
	w := newWorld(b)
	begun := w.begin(w.ask())
	n := uint32(0)
	b.ReportAllocs()
	for b.Loop() {
		if n++; n%5 == 0 {
			b.StopTimer()
			w.clock.Advance(time.Hour)
			begun = w.begin(flooding(n))
			b.StartTimer()
		}
		if err := w.check(begun, guess(begun.Mail.Code)); errors.Is(err, challenge.ErrExpired) {
			b.Fatal(err)
		}
	}
}

func BenchmarkPoll(b *testing.B) {
	w := newWorld(b)
	begun := w.begin(w.ask())
	b.ReportAllocs()
	for b.Loop() {
		w.poll(begun)
	}
}
