package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing/iotest"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

// archivePromises are those of guest.Archive but one, which only a store's own
// test can hold: that what a newer version wrote is guest.ErrNewer.
var archivePromises = []promise{
	{"BackupIsRestored", backupIsRestored},
	{"BackupOfAnEmptyStoreIsRestored", func(p place) {
		empty := place{T: p.T, open: p.open, dir: p.TempDir()}.archive().backup()
		s := p.archive()
		s.update(func(t tx) { t.put("a", "1") })
		s.restore(empty)
		s.view(func(t tx) { t.lists("") })
		s.update(func(t tx) { t.put("a", "2") })
		s.has("a", "2")
	}},
	{"RestoredIsKeptAcrossReopening", func(p place) {
		backup := p.sample("restored")
		s := p.archive()
		s.sample("replaced")
		s.restore(backup)
		if err := s.Close(); err != nil {
			p.Fatalf("Close: %v", err)
		}
		p.store().isSample("restored")
	}},
	{"RestoresTwice", func(p place) {
		s := p.archive()
		one, two := p.sample("one"), p.sample("two")
		for _, backup := range [][]byte{one, two, two, one} {
			s.restore(backup)
			s.update(func(t tx) { t.put("since", "1") })
		}
		s.update(func(t tx) { t.remove("since") })
		s.isSample("one")
	}},
	{"BackupOfWhatWasRestoredIsTheSame", func(p place) {
		s := p.archive()
		s.restore(p.sample("one"))
		again := s.backup()
		s.update(func(t tx) { t.put("a", "1") })
		s.restore(again)
		s.isSample("one")
	}},
	{"ExpiryIsRestored", expiryIsRestored},
	{"BackupIsOfOneMoment", backupIsOfOneMoment},
	{"OthersGoOnDuringRestore", othersGoOnDuringRestore},
	{"DamagedBackupChangesNothing", func(p place) {
		p.refuses(func(backup []byte, at int) []byte {
			backup = bytes.Clone(backup)
			backup[at] ^= 0x10
			return backup
		})
	}},
	{"CutBackupChangesNothing", func(p place) {
		p.refuses(func(backup []byte, at int) []byte { return backup[:at] })
	}},
	{"MoreThanABackupChangesNothing", func(p place) {
		p.refuses(func(backup []byte, at int) []byte { return append(bytes.Clone(backup), backup[:at+1]...) })
	}},
	{"ErrorOfTheReaderIsReturned", func(p place) {
		s, backup := p.archive(), p.sample("other")
		s.sample("mine")
		for _, n := range []int{0, 10, len(backup) / 2, len(backup)} {
			r := io.MultiReader(bytes.NewReader(backup[:n]), iotest.ErrReader(errFn))
			if err := s.tryRestore(context.Background(), r, nothing); !errors.Is(err, errFn) {
				p.Errorf("Restore returned %v after %d bytes, want the reader's error", err, n)
			}
		}
		s.isSample("mine")
	}},
	{"ErrorOfTheWriterIsReturned", func(p place) {
		s := p.archive()
		s.sample("mine")
		if err := s.saves.Backup(context.Background(), failing{}); !errors.Is(err, errFn) {
			p.Errorf("Backup returned %v, want the writer's error", err)
		}
		s.restore(s.backup())
		s.isSample("mine")
	}},
	{"PrepareSeesWhatIsRestoredBeforeOthers", prepareSees},
	{"ErrorOfPrepareChangesNothing", func(p place) {
		s, backup := p.archive(), p.sample("other")
		s.sample("mine")
		err := s.tryRestore(context.Background(), bytes.NewReader(backup), func(guest.Store) error { return errFn })
		if !errors.Is(err, errFn) {
			p.Errorf("Restore returned %v, want the function's error", err)
		}
		s.isSample("mine")
		s.restore(backup)
		s.isSample("other")
	}},
	{"PanicOfPrepareChangesNothing", func(p place) {
		s, backup := p.archive(), p.sample("other")
		s.sample("mine")
		got := recovered(func() {
			_ = s.tryRestore(context.Background(), bytes.NewReader(backup), func(guest.Store) error { panic(errFn) })
		})
		if got != errFn {
			p.Errorf("recovered %v, want the function's panic", got)
		}
		s.isSample("mine")
		s.restore(backup)
		s.isSample("other")
	}},
	{"DoesNothingOnceContextIsOver", func(p place) {
		s, backup := p.archive(), p.sample("other")
		s.sample("mine")
		if err := s.tryRestore(cancelled(), bytes.NewReader(backup), nothing); !errors.Is(err, context.Canceled) {
			p.Errorf("Restore returned %v, want context.Canceled", err)
		}
		if err := s.saves.Backup(cancelled(), io.Discard); !errors.Is(err, context.Canceled) {
			p.Errorf("Backup returned %v, want context.Canceled", err)
		}
		s.isSample("mine")
	}},
	{"LaterCallsAreErrClosed", func(p place) {
		s, backup := p.archive(), p.sample("other")
		if err := s.Close(); err != nil {
			p.Fatalf("Close: %v", err)
		}
		if err := s.saves.Backup(context.Background(), io.Discard); !errors.Is(err, guest.ErrClosed) {
			p.Errorf("Backup after Close: %v, want ErrClosed", err)
		}
		if err := s.tryRestore(context.Background(), bytes.NewReader(backup), nothing); !errors.Is(err, guest.ErrClosed) {
			p.Errorf("Restore after Close: %v, want ErrClosed", err)
		}
	}},
	{"CloseAmidRestoreLeavesOldOrNew", closeAmidRestore},
}

// archive is a store, and what saves it.
type archive struct {
	store
	saves guest.Archive
}

// archive opens the place, and skips the test where the store is no Archive.
func (p place) archive() archive {
	p.Helper()
	s := p.store()
	a, ok := s.Store.(guest.Archive)
	if !ok {
		p.Skip("the store is no guest.Archive")
	}
	return archive{store: s, saves: a}
}

func (a archive) backup() []byte {
	a.t.Helper()
	var w bytes.Buffer
	if err := a.saves.Backup(context.Background(), &w); err != nil {
		a.t.Fatalf("Backup: %v", err)
	}
	return w.Bytes()
}

func (a archive) restore(backup []byte) {
	a.t.Helper()
	if err := a.tryRestore(context.Background(), bytes.NewReader(backup), nothing); err != nil {
		a.t.Fatalf("Restore: %v", err)
	}
}

func (a archive) tryRestore(ctx context.Context, r io.Reader, prepare func(guest.Store) error) error {
	return a.saves.Restore(ctx, r, prepare)
}

func nothing(guest.Store) error { return nil }

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFn }

// samples is how many records a sample has, and some more of its own kind.
const samples = 300

func sampleKey(i int) string { return fmt.Sprintf("sample/%04d", i) }

// sample fills a store with records that all tell its name.
func (s store) sample(name string) {
	s.t.Helper()
	s.update(func(t tx) {
		for i := range samples {
			t.put(sampleKey(i), name+strings.Repeat("-", i))
		}
		t.put("name", name)
		t.put("only/"+name, "")
	})
}

// isSample fails the test unless the store holds that sample and nothing else.
func (s store) isSample(name string) {
	s.t.Helper()
	s.view(func(t tx) {
		for i := range samples {
			t.has(sampleKey(i), name+strings.Repeat("-", i))
		}
		t.has("name", name)
		t.has("only/"+name, "")
		if n := len(t.keys("", nil, 0)); n != samples+2 {
			t.t.Errorf("the store holds %d records, want %d", n, samples+2)
		}
	})
}

// sample is a backup of a sample, made in a place of its own.
func (p place) sample(name string) []byte {
	p.Helper()
	s := place{T: p.T, open: p.open, dir: p.TempDir()}.archive()
	s.sample(name)
	return s.backup()
}

func backupIsRestored(p place) {
	s := p.archive()
	long := strings.Repeat("k", 512)
	all := string([]byte{0, 1, 0xff, '/', '\n'})
	s.update(func(t tx) {
		t.put("a", "1")
		t.put("empty", "")
		t.put(long, "long")
		t.put(all, all)
		t.put("large", strings.Repeat("v", 64<<10))
		t.put("gone", "1")
	})
	s.update(func(t tx) { t.remove("gone"); t.put("a", "2") })
	backup := s.backup()
	s.update(func(t tx) { t.put("a", "3"); t.remove(long); t.put("since", "1") })
	s.restore(backup)
	s.view(func(t tx) {
		t.lists("", all, "a", "empty", long, "large")
		t.has("a", "2")
		t.has("empty", "")
		t.has(long, "long")
		t.has(all, all)
		t.has("large", strings.Repeat("v", 64<<10))
	})
}

// expiryIsRestored can hold that no record lives shorter for it. That it lives
// no longer is a thing of a store's own tests.
func expiryIsRestored(p place) {
	s := p.archive()
	soon := time.Now().Add(1500 * time.Millisecond)
	s.update(func(t tx) {
		t.put("never", "1")
		t.putUntil("soon", "1", soon)
		t.putUntil("later", "1", soon.Add(time.Hour))
		t.putUntil("in the far future", "1", time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC))
		t.putUntil("past", "1", time.Unix(1, 0))
	})
	s.restore(s.backup())
	s.view(func(t tx) {
		if _, found := t.value("soon"); !found && time.Now().Before(soon) {
			t.t.Errorf("a record is gone %s before its time", time.Until(soon))
		}
	})
	<-time.After(time.Until(soon) + 1100*time.Millisecond) // past a store's whole second
	s.has("never", "1")
	s.has("later", "1")
	s.has("in the far future", "1")
}

// backupIsOfOneMoment moves money between two accounts, and adds a record of
// each move, while backups are made. What was acknowledged before is in them.
func backupIsOfOneMoment(p place) {
	s := p.archive()
	s.sample("much")
	s.update(func(t tx) { t.put("a", "50"); t.put("b", "50") })
	var moved atomic.Int64
	stop := s.whileMoving(&moved)
	other := place{T: p.T, open: p.open, dir: p.TempDir()}.archive()
	for range 5 {
		before := moved.Load()
		other.restore(s.backup())
		other.view(func(t tx) {
			a, _ := t.value("a")
			b, _ := t.value("b")
			n := len(t.keys("move/", nil, 0))
			if number(a)+number(b) != 100 || number(a) != n%101 && n > 0 {
				t.t.Errorf("after %d moves the accounts hold %s and %s", n, a, b)
			}
			if int64(n) < before {
				t.t.Errorf("%d moves are in the backup, %d were acknowledged before", n, before)
			}
		})
	}
	stop()
	if moved.Load() == 0 {
		p.Error("nothing was written meanwhile")
	}
}

// whileMoving moves money until stop, which waits.
func (s store) whileMoving(moved *atomic.Int64) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 1; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			s.update(func(t tx) {
				t.put("a", fmt.Sprint(i%101))
				t.put("b", fmt.Sprint(100-i%101))
				t.put(fmt.Sprintf("move/%08d", i), "")
			})
			moved.Store(int64(i))
		}
	})
	return func() { close(done); wg.Wait() }
}

// othersGoOnDuringRestore reads and writes throughout: each read sees one of
// the two, whole, and no call fails.
func othersGoOnDuringRestore(p place) {
	s, backup := p.archive(), p.sample("new")
	s.sample("old")
	stop := make(chan struct{})
	var others sync.WaitGroup
	for i := range 4 {
		others.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					s.view(func(t tx) { seesOne(t) })
					s.update(func(t tx) { seesOne(t); t.put(fmt.Sprintf("other/%d", i), "x") })
				}
			}
		})
	}
	for range 3 {
		s.restore(backup)
		s.has("name", "new")
	}
	close(stop)
	others.Wait()
	s.has("only/new", "")
	s.lacks("only/old")
}

func seesOne(t tx) {
	name, _ := t.value("name")
	for _, i := range []int{0, samples / 2, samples - 1} {
		t.has(sampleKey(i), name+strings.Repeat("-", i))
	}
}

// refuses checks that what spoil makes of a backup, at every 64th of it, is not
// restored and changes nothing.
func (p place) refuses(spoil func(backup []byte, at int) []byte) {
	backup := p.sample("other")
	s := p.archive()
	s.sample("mine")
	for i := range 65 {
		at := min(i*len(backup)/64, len(backup)-1)
		if err := s.tryRestore(context.Background(), bytes.NewReader(spoil(backup, at)), nothing); err == nil {
			p.Fatalf("a backup spoilt at byte %d of %d was restored", at, len(backup))
		}
		s.has("name", "mine")
		s.lacks("only/other")
	}
	s.isSample("mine")
	s.restore(backup)
	s.isSample("other")
}

// prepareSees works on what is restored while others still have the old.
func prepareSees(p place) {
	s, backup := p.archive(), p.sample("new")
	s.sample("old")
	err := s.tryRestore(context.Background(), bytes.NewReader(backup), func(g guest.Store) error {
		fresh := store{Store: g, t: p.T}
		fresh.isSample("new")
		s.isSample("old")
		s.update(func(t tx) { t.put("lost", "1") })
		fresh.update(func(t tx) { t.put("prepared", "1"); t.remove("only/new") })
		s.lacks("prepared")
		return nil
	})
	if err != nil {
		p.Fatalf("Restore: %v", err)
	}
	s.has("prepared", "1")
	s.lacks("only/new")
	s.lacks("lost")
	s.has("name", "new")
}

// closeAmidRestore closes as soon as a Restore has begun to read.
func closeAmidRestore(p place) {
	s, backup := p.archive(), p.sample("new")
	s.sample("old")
	reading := make(chan struct{})
	closed := make(chan error, 1)
	go func() {
		<-reading
		closed <- s.Close()
	}()
	begin := sync.OnceFunc(func() { close(reading) })
	err := s.tryRestore(context.Background(), readerFunc(func(b []byte) (int, error) {
		begin()
		n := copy(b, backup[:min(len(b), 100, len(backup))])
		backup = backup[n:]
		if n == 0 {
			return 0, io.EOF
		}
		return n, nil
	}), nothing)
	if err != nil && !errors.Is(err, guest.ErrClosed) {
		p.Errorf("Restore amid Close: %v", err)
	}
	if err := <-closed; err != nil {
		p.Errorf("Close amid Restore: %v", err)
	}
	want := map[bool]string{true: "new", false: "old"}[err == nil]
	p.store().isSample(want)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
