package badger

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/caddy-login/caddy-login/module/guest"
)

// slice is how many updates one side makes before it is the other's turn: a
// disk that others use, too, then slows both alike.
const slice = 5000

// writers keeps n goroutines writing until all of total writes, numbered from
// first, are done, and returns how long that took.
func writers(b *testing.B, n, first, total int, write func(key, value []byte) error) time.Duration {
	var next atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range n {
		wg.Go(func() {
			for value := make([]byte, 200); ; {
				i := next.Add(1)
				if i > int64(total) {
					return
				}
				if err := write(binary.BigEndian.AppendUint64([]byte("bench/"), uint64(int64(first)+i)*0x9E3779B97F4A7C15), value); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(began)
}

func put(s *store) func(key, value []byte) error {
	return func(key, value []byte) error {
		return s.Update(context.Background(), func(t guest.Tx) error { return t.Put(key, value, time.Time{}) })
	}
}

// oneEach commits every write in a Badger transaction of its own.
func oneEach(b *testing.B) func(key, value []byte) error {
	db, err := badger.Open(settings(b.TempDir(), quiet()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	return func(key, value []byte) error {
		return db.Update(func(txn *badger.Txn) error { return txn.Set(key, value) })
	}
}

// BenchmarkUpdate measures durable writes of 200 bytes a second, ours beside
// one Badger transaction each with the same settings, in one run.
func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{1, 64} {
		b.Run(fmt.Sprintf("%d_writers", n), func(b *testing.B) {
			s := openAt(b, b.TempDir())
			b.Cleanup(func() { _ = s.Close() })
			alone := oneEach(b)
			b.ResetTimer()
			var grouped, separate time.Duration
			for done := 0; done < b.N; done += slice {
				part := min(slice, b.N-done)
				grouped += writers(b, n, done, part, put(s))
				b.StopTimer()
				separate += writers(b, n, done, part, alone)
				b.StartTimer()
			}
			b.ReportMetric(float64(b.N)/float64(s.db.MaxVersion()), "updates/commit")
			b.ReportMetric(float64(b.N)/grouped.Seconds(), "grouped/s")
			b.ReportMetric(float64(b.N)/separate.Seconds(), "separate/s")
			b.ReportMetric(separate.Seconds()/grouped.Seconds(), "times")
		})
	}
}

func BenchmarkGet(b *testing.B) {
	s := filled(b, b.TempDir(), 200_000)
	b.Cleanup(func() { _ = s.Close() })
	b.Run("1_in_View", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			err := s.View(context.Background(), func(t guest.Tx) error {
				_, err := t.Get(nth(i * 7919 % 200_000))
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

func nth(i int) []byte { return fmt.Appendf(nil, "record/%08d", i) }

// filled is a store with n records of 200 bytes.
func filled(b testing.TB, dir string, n int) *store {
	s := openAt(b, dir)
	for first := 0; first < n; first += 1000 {
		err := s.Update(context.Background(), func(t guest.Tx) error {
			for i := first; i < min(first+1000, n); i++ {
				if err := t.Put(nth(i), make([]byte, 200), time.Time{}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return s
}

// BenchmarkMemory reports the memory of this process: before the store is
// open, open and idle, and with 200,000 records.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		dir := b.TempDir()
		weigh(b, "before")
		s := openAt(b, dir)
		weigh(b, "idle")
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		s = filled(b, dir, 200_000)
		weigh(b, "filled")
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		s = openAt(b, dir)
		weigh(b, "reopened")
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// weigh reports the live heap and the resident memory that is the process's
// own: pages of mapped files are the kernel's cache.
func weigh(b *testing.B, when string) {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.HeapAlloc)/(1<<20), when+"-heap-MB")
	b.ReportMetric(residentMB("RssAnon"), when+"-anon-MB")
	b.ReportMetric(residentMB("VmRSS"), when+"-rss-MB")
}

func residentMB(field string) float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if words := strings.Fields(line); words[0] == field+":" {
			kb, _ := strconv.ParseFloat(words[1], 64)
			return kb / 1024
		}
	}
	return 0
}

// BenchmarkBackup measures a backup of 200,000 records, and how many updates of
// eight writers a second go on meanwhile, as a share of those without.
func BenchmarkBackup(b *testing.B) {
	s := filled(b, b.TempDir(), 200_000)
	b.Cleanup(func() { _ = s.Close() })
	var written atomic.Int64
	var stop atomic.Bool
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := 0; !stop.Load(); i++ {
				if err := s.set(fmt.Sprintf("update/%d/%d", w, i%100), "1"); err != nil {
					b.Error(err)
				}
				written.Add(1)
			}
		})
	}
	var during, without time.Duration
	var updatesDuring, updatesWithout int64
	for b.Loop() {
		before, began := written.Load(), time.Now()
		if err := s.Backup(context.Background(), io.Discard); err != nil {
			b.Fatal(err)
		}
		took := time.Since(began)
		during, updatesDuring = during+took, updatesDuring+written.Load()-before
		b.StopTimer()
		before, began = written.Load(), time.Now()
		<-time.After(took)
		without, updatesWithout = without+time.Since(began), updatesWithout+written.Load()-before
		b.StartTimer()
	}
	stop.Store(true)
	wg.Wait()
	b.ReportMetric(float64(updatesDuring)/during.Seconds(), "during/s")
	b.ReportMetric(float64(updatesWithout)/without.Seconds(), "without/s")
	b.ReportMetric(float64(updatesDuring)/during.Seconds()/(float64(updatesWithout)/without.Seconds()), "share")
}

// BenchmarkRestore measures a Restore of 200,000 records, and how long of that
// it holds others back.
func BenchmarkRestore(b *testing.B) {
	s := filled(b, b.TempDir(), 200_000)
	b.Cleanup(func() { _ = s.Close() })
	backup := s.backup(b)
	var longest time.Duration
	for b.Loop() {
		var stop atomic.Bool
		var wg sync.WaitGroup
		wg.Go(func() {
			for last := time.Now(); !stop.Load(); last = time.Now() {
				if _, err := s.value("record/00000001"); err != nil {
					b.Error(err)
				}
				longest = max(longest, time.Since(last))
			}
		})
		if err := s.restore(backup); err != nil {
			b.Fatal(err)
		}
		stop.Store(true)
		wg.Wait()
	}
	b.ReportMetric(float64(len(backup))/(1<<20), "MB")
	b.ReportMetric(float64(longest.Milliseconds()), "longest-wait-ms")
}
