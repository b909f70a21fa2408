package badger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

// sampled fills a store with n records that all tell its name.
func (s *store) sampled(t testing.TB, name string, n int) *store {
	t.Helper()
	err := s.Update(context.Background(), func(tx guest.Tx) error {
		for i := range n {
			if err := tx.Put(nth(i), []byte(name), time.Time{}); err != nil {
				return err
			}
		}
		return tx.Put([]byte("only/"+name), nil, time.Time{})
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sample is the name of the sample that a store holds; what is none, or two in
// one, fails the test.
func (s *store) sample(t testing.TB, n int) (name string) {
	t.Helper()
	var keys []string
	err := s.View(context.Background(), func(tx guest.Tx) error {
		return tx.Scan(nil, nil, 0, func(key, value []byte) bool {
			if strings.HasPrefix(string(key), "record/") {
				if name != "" && name != string(value) {
					t.Errorf("%s says %q among records that say %q", key, value, name)
				}
				name = string(value)
			}
			keys = append(keys, string(key))
			return true
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(keys) != n+1 || !slices.Contains(keys, "only/"+name) {
		t.Errorf("%d records, not all of %q", len(keys), name)
	}
	return name
}

func (s *store) backup(t testing.TB) []byte {
	t.Helper()
	var w bytes.Buffer
	if err := s.Backup(context.Background(), &w); err != nil {
		t.Fatal(err)
	}
	return w.Bytes()
}

// sampleBackup is a backup of a sample.
func sampleBackup(t testing.TB, name string, n int) []byte {
	t.Helper()
	return tempStore(t).sampled(t, name, n).backup(t)
}

func (s *store) restore(backup []byte) error {
	return s.Restore(context.Background(), bytes.NewReader(backup), func(guest.Store) error { return nil })
}

// beside are the names of the directories within a store's.
func beside(t testing.TB, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	return names
}

var errKilled = errors.New("killed")

// A process that is killed leaves what it had renamed until then. Whatever that
// is, the next one finds the old data or the new, whole, and nothing else.
func TestRestoreInterruptedAtAnyRenameLeavesOldOrNew(t *testing.T) {
	old, backup := sampleBackup(t, "old", 300), sampleBackup(t, "new", 300)
	seen := map[string]int{}
	for allowed := 0; seen["done"] == 0; allowed++ {
		dir := t.TempDir()
		s := openAt(t, dir).sampled(t, "first", 300)
		if err := s.restore(old); err != nil {
			t.Fatal(err)
		}
		left, err := s.restoreUntil(t, backup, allowed)
		if left > 0 {
			seen["done"]++
		}
		s = openAt(t, dir)
		name := s.sample(t, 300)
		if name == "old" && err == nil {
			t.Errorf("after %d renames Restore said that it was done", allowed)
		}
		seen[name]++
		if got := beside(t, dir); !slices.Equal(got, []string{beforeRestore}) {
			t.Errorf("after %d renames there is %q", allowed, got)
		}
		kept := openAt(t, filepath.Join(dir, beforeRestore))
		if got := kept.sample(t, 300); got != map[string]string{"old": "first", "new": "old"}[name] {
			t.Errorf("after %d renames %q is kept, in use is %q", allowed, got, name)
		}
		if err := errors.Join(kept.Close(), s.restore(backup), s.Close()); err != nil {
			t.Errorf("restoring again after %d renames: %v", allowed, err)
		}
	}
	if seen["old"] == 0 || seen["new"] < 5 {
		t.Errorf("saw %v", seen)
	}
	t.Logf("%v", seen)
}

// restoreUntil restores with so many renames at most, and closes the store. A
// store that is neither the old nor the new one says so until then.
func (s *store) restoreUntil(t *testing.T, backup []byte, renames int) (left int, err error) {
	t.Helper()
	left = renames
	s.files.rename = func(from, to string) error {
		if left == 0 {
			return errKilled
		}
		left--
		return os.Rename(from, to)
	}
	err = s.restore(backup)
	_, lost := s.value("only/old")
	if errors.Is(lost, guest.ErrNotFound) != (err == nil) {
		t.Errorf("after %d renames Restore says %v and a view %v", renames, err, lost)
	}
	if err != nil && lost != nil && !strings.Contains(lost.Error(), "restart Caddy") {
		t.Errorf("after %d renames a view says: %v", renames, lost)
	}
	if err := s.Close(); err != nil {
		t.Errorf("closing after %d renames: %v", renames, err)
	}
	return left, err
}

// Between two renames directories are made and removed.
func TestOpeningEndsWhatWasInterrupted(t *testing.T) {
	for name, leave := range map[string]func(dir string) error{
		"half restored": func(dir string) error {
			return errors.Join(os.Mkdir(filepath.Join(dir, restoring), 0o700),
				os.WriteFile(filepath.Join(dir, restoring, "000001.sst"), []byte("half"), 0o600))
		},
		"all moved in": func(dir string) error {
			return errors.Join(os.Mkdir(filepath.Join(dir, arriving), 0o700), os.Mkdir(filepath.Join(dir, replaced), 0o700))
		},
		"older data half removed": func(dir string) error {
			return errors.Join(os.Mkdir(filepath.Join(dir, beforeRestore), 0o700), os.Mkdir(filepath.Join(dir, replaced), 0o700),
				os.WriteFile(filepath.Join(dir, beforeRestore, "000001.sst"), []byte("half"), 0o600))
		},
	} {
		dir := t.TempDir()
		if err := openAt(t, dir).sampled(t, "mine", 10).Close(); err != nil {
			t.Fatal(err)
		}
		if err := leave(dir); err != nil {
			t.Fatal(err)
		}
		s := openAt(t, dir)
		if got := s.sample(t, 10); got != "mine" {
			t.Errorf("%s: holds %q", name, got)
		}
		if got := slices.DeleteFunc(beside(t, dir), func(name string) bool { return name == beforeRestore }); len(got) != 0 {
			t.Errorf("%s: %q stays", name, got)
		}
		if _, err := os.Stat(filepath.Join(dir, beforeRestore, "000001.sst")); err == nil {
			t.Errorf("%s: half a store is kept", name)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestReplacedDataIsKeptOnce(t *testing.T) {
	out := &lines{}
	env := quiet()
	env.Log = slog.New(slog.NewTextHandler(out, nil))
	dir := t.TempDir()
	s := openWith(t, dir, env).sampled(t, "first", 50)
	for _, name := range []string{"second", "third"} {
		if err := s.restore(sampleBackup(t, name, 50)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	kept := openAt(t, filepath.Join(dir, beforeRestore))
	defer kept.Close()
	if got := kept.sample(t, 50); got != "second" {
		t.Errorf("%q is kept", got)
	}
	if said := out.String(); !strings.Contains(said, filepath.Join(dir, beforeRestore)) || strings.Contains(said, "level=ERROR") {
		t.Errorf("the log says %s", said)
	}
}

// Each rename is a moment at which neither Badger is open.
func TestSecondProcessIsKeptOutThroughoutARestore(t *testing.T) {
	s := tempStore(t).sampled(t, "old", 10)
	tried := 0
	s.files.rename = func(from, to string) error {
		tried++
		if _, err := open(s.dir, quiet(), freeSpace); !errors.Is(err, guest.ErrLocked) {
			t.Errorf("opening before %s is renamed: %v", filepath.Base(from), err)
		}
		return os.Rename(from, to)
	}
	if err := s.restore(sampleBackup(t, "new", 10)); err != nil {
		t.Fatal(err)
	}
	if _, err := open(s.dir, quiet(), freeSpace); tried < 5 || !errors.Is(err, guest.ErrLocked) {
		t.Errorf("after %d tries: %v", tried, err)
	}
	if got := s.sample(t, 10); got != "new" {
		t.Errorf("holds %q", got)
	}
}

func TestCallsThatComeMeanwhileWaitForTheExchange(t *testing.T) {
	s := tempStore(t).sampled(t, "old", 10)
	var wg sync.WaitGroup
	s.files.rename = sync.OnceValue(func() func(from, to string) error {
		return func(from, to string) error {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
			defer cancel()
			ran := func(guest.Tx) error { t.Error("ran in the middle of the exchange"); return nil }
			if err := s.View(ctx, ran); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("View whose context ends meanwhile: %v", err)
			}
			if err := s.Update(ctx, ran); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Update whose context ends meanwhile: %v", err)
			}
			wg.Go(func() {
				if value, err := s.value(string(nth(0))); value != "new" {
					t.Errorf("View that waited reads %q, %v", value, err)
				}
			})
			wg.Go(func() {
				if err := s.set("since", "1"); err != nil {
					t.Errorf("Update that waited: %v", err)
				}
			})
			return os.Rename(from, to)
		}
	})()
	if err := s.restore(sampleBackup(t, "new", 10)); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if value, err := s.value("since"); value != "1" {
		t.Errorf("%q, %v", value, err)
	}
}

func TestCallThatDoesNotEndIsNotOvertaken(t *testing.T) {
	s := tempStore(t).sampled(t, "old", 10)
	backup := sampleBackup(t, "new", 10)
	ctx, cancel := context.WithCancel(context.Background())
	err := s.View(context.Background(), func(tx guest.Tx) error {
		ended := make(chan error)
		go func() {
			ended <- s.Restore(ctx, bytes.NewReader(backup), func(guest.Store) error { return nil })
		}()
		waitFor(t, "calls to be held", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.held != nil })
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Restore that was given up: %v", err)
		}
		value, err := tx.Get(nth(9))
		if string(value) != "old" {
			t.Errorf("the view reads %q", value)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.sample(t, 10); got != "old" || len(beside(t, s.dir)) != 0 {
		t.Errorf("holds %q, beside %q", got, beside(t, s.dir))
	}
	if err := s.restore(backup); err != nil || s.sample(t, 10) != "new" {
		t.Errorf("restoring after that: %v", err)
	}
}

func TestCloseEndsARestoreThatReads(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, dir).sampled(t, "old", 10)
	backup := sampleBackup(t, "new", 5000)
	closed := make(chan error, 1)
	r := io.MultiReader(bytes.NewReader(backup[:len(backup)/2]), &once{do: func() {
		go func() { closed <- s.Close() }()
		<-s.closing.Done()
	}}, bytes.NewReader(backup[len(backup)/2:]))
	if err := s.Restore(context.Background(), r, func(guest.Store) error { return nil }); !errors.Is(err, guest.ErrClosed) {
		t.Errorf("Restore: %v", err)
	}
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}
	s = openAt(t, dir)
	defer s.Close()
	if got := s.sample(t, 10); got != "old" || len(beside(t, dir)) != 0 {
		t.Errorf("holds %q, beside %q", got, beside(t, dir))
	}
}

// once is a reader of nothing that does something.
type once struct{ do func() }

func (o *once) Read([]byte) (int, error) {
	o.do()
	return 0, io.EOF
}

func TestCloseWaitsForTheExchange(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, dir).sampled(t, "old", 10)
	closed := make(chan error, 1)
	begin := sync.OnceFunc(func() {
		go func() { closed <- s.Close() }()
		<-s.closing.Done()
	})
	s.files.rename = func(from, to string) error { begin(); return os.Rename(from, to) }
	if err := s.restore(sampleBackup(t, "new", 10)); err != nil {
		t.Errorf("Restore: %v", err)
	}
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}
	s = openAt(t, dir)
	defer s.Close()
	if got := s.sample(t, 10); got != "new" {
		t.Errorf("holds %q", got)
	}
}

func TestBackupOfANewerVersionIsRefused(t *testing.T) {
	s := tempStore(t).sampled(t, "mine", 10)
	backup := sampleBackup(t, "newer", 10)
	for _, version := range []string{"2", "10", "4294967295"} {
		newer := bytes.Replace(backup, []byte(backupMagic+" 1 "), []byte(backupMagic+" "+version+" and more "), 1)
		if err := s.restore(newer); !errors.Is(err, guest.ErrNewer) {
			t.Errorf("version %s: %v", version, err)
		}
	}
	for _, other := range []string{"", "\n", "x", "caddy-login-store", "caddy-login-store 0 1\n", "caddy-login-store 1\n", "caddy-login-store 1 -1\n", "caddy-login-store 1 1 1\n", "PK\x03\x04\n", strings.Repeat("a", 10_000)} {
		if err := s.restore([]byte(other)); err == nil || errors.Is(err, guest.ErrNewer) {
			t.Errorf("%.30q: %v", other, err)
		}
	}
	if got := s.sample(t, 10); got != "mine" {
		t.Errorf("holds %q", got)
	}
}

func TestRestoreLeavesTheReserveAlone(t *testing.T) {
	backup := sampleBackup(t, "new", 2000)
	s := tempStore(t).sampled(t, "old", 10)
	reserve := s.disk.reserve
	for _, free := range []int64{0, reserve, reserve + reserveBase, reserve + reserveBase + used(s.dir)/2} {
		s.disk.free = func(string) (int64, error) { return free, nil }
		read := 0
		err := s.Restore(context.Background(), io.TeeReader(bytes.NewReader(backup), counter{&read}), func(guest.Store) error {
			t.Error("it was restored")
			return nil
		})
		if !errors.Is(err, guest.ErrFull) || read > 64<<10 {
			t.Errorf("with %d free, %d of them in reserve: %v, after %d bytes", free, reserve, err, read)
		}
	}
	s.disk.free = freeSpace
	if got := s.sample(t, 10); got != "old" || len(beside(t, s.dir)) != 0 {
		t.Errorf("holds %q, beside %q", got, beside(t, s.dir))
	}
}

// The size in a backup's first line is a guess: what counts is what there is.
func TestRestoreStopsWhereTheDiskFillsUp(t *testing.T) {
	backup := sampleBackup(t, "new", 5000)
	for _, when := range []string{"loading", "exchanging"} {
		s := tempStore(t).sampled(t, "old", 10)
		var full atomic.Bool
		s.disk.free = func(string) (int64, error) { return map[bool]int64{false: 1 << 40}[full.Load()], nil }
		half := len(backup) / 2
		r := io.MultiReader(bytes.NewReader(backup[:half]), &once{do: func() { full.Store(when == "loading") }}, bytes.NewReader(backup[half:]))
		err := s.Restore(context.Background(), r, func(guest.Store) error {
			if when == "loading" {
				t.Error("it was loaded")
			}
			full.Store(true)
			return nil
		})
		if !errors.Is(err, guest.ErrFull) {
			t.Errorf("%s: got %v", when, err)
		}
		full.Store(false)
		if got := s.sample(t, 10); got != "old" || len(beside(t, s.dir)) != 0 {
			t.Errorf("%s: holds %q, beside %q", when, got, beside(t, s.dir))
		}
		if err := s.set("a", "1"); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
}

type counter struct{ n *int }

func (c counter) Write(b []byte) (int, error) { *c.n += len(b); return len(b), nil }

func TestRestoreHealsAStoreThatTakesNoWrites(t *testing.T) {
	s := tempStore(t).sampled(t, "old", 10)
	s.broken = errors.New("a commit failed")
	if err := s.set("a", "1"); err == nil {
		t.Fatal("it takes writes")
	}
	if err := s.restore(sampleBackup(t, "new", 10)); err != nil {
		t.Fatal(err)
	}
	if err := s.set("a", "1"); err != nil {
		t.Errorf("after a restore: %v", err)
	}
}

// What is restored lives by the house's clock, not a read longer.
func TestRestoredRecordExpiresWhenItWould(t *testing.T) {
	for _, year := range []int{1970, time.Now().Year(), 2100} {
		c := &clock{}
		c.set(time.Date(year, 6, 1, 0, 0, 0, 0, time.UTC))
		env := quiet()
		env.Now = c.now
		s := openWith(t, t.TempDir(), env)
		defer s.Close()
		expires := c.now().Add(10 * time.Minute)
		err := s.Update(context.Background(), func(tx guest.Tx) error { return tx.Put([]byte("a"), []byte("1"), expires) })
		if err != nil {
			t.Fatal(err)
		}
		backup := s.backup(t)
		c.add(9 * time.Minute)
		if err := s.restore(backup); err != nil {
			t.Fatal(err)
		}
		if value, err := s.value("a"); value != "1" {
			t.Errorf("%d: %q, %v", year, value, err)
		}
		c.add(time.Minute)
		if _, err := s.value("a"); !errors.Is(err, guest.ErrNotFound) {
			t.Errorf("%d: past its time: %v", year, err)
		}
	}
}

// restoreForever restores one of two backups after the other, and says so.
func restoreForever(s *store) {
	for i := 0; ; i++ {
		name := []string{"a", "b"}[i%2]
		backup, err := os.ReadFile(s.dir + "." + name)
		if err == nil {
			fmt.Println("begin " + name)
			err = s.restore(backup)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println("done " + name)
	}
}

// BADGER_STORE_ROUNDS=1000 makes it a soak.
func TestKillDuringRestoreLeavesOldOrNew(t *testing.T) {
	const n = 2000
	dir := filepath.Join(t.TempDir(), "store")
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(dir+"."+name, sampleBackup(t, name, n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := openAt(t, dir).sampled(t, "b", n).Close(); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for round := 0; round < rounds(20) || seen["old"]+seen["new"] == 0; round++ {
		if round == rounds(20)+100 {
			t.Fatalf("in %d rounds no restore was under way", round)
		}
		last, begun := killedRestoring(t, dir)
		s := openAt(t, dir)
		got := s.sample(t, n)
		if got != last && got != begun {
			t.Errorf("round %d: holds %q; %q was restored, %q was being so", round, got, last, begun)
		}
		seen[map[bool]string{true: "nothing under way", false: map[bool]string{true: "new", false: "old"}[got == begun]}[last == begun]]++
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("found %v", seen)
}

// killedRestoring kills a process that restores forever, at any moment of its
// second restore or just after: last was restored, begun was being so, or is
// last where nothing was under way.
func killedRestoring(t *testing.T, dir string) (last, begun string) {
	t.Helper()
	cmd, out := start2nd(t, "restore", dir)
	after := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	var since time.Time
	armed := false
	for line, err := out.ReadString('\n'); err == nil; line, err = out.ReadString('\n') {
		word, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		if word == "done" {
			last = name
			continue
		}
		if begun = name; last != "" && !armed {
			took := time.Since(since) // for the first, its "done" included
			armed = after.Reset(rand.N(took + took/4))
		}
		since = time.Now()
	}
	_ = cmd.Wait()
	if after.Stop() || !armed {
		t.Fatalf("it ended by itself, or restored nothing in a minute; %q was begun, %q restored", begun, last)
	}
	return last, begun
}

func FuzzRestore(f *testing.F) {
	backup := sampleBackup(f, "new", 3)
	f.Add(backup)
	f.Add(backup[:len(backup)-1])
	f.Add([]byte("caddy-login-store 1 0\n\x00\x01a\x00\x00\x00\x01\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, other []byte) {
		u := newUnpacker(bytes.NewReader(other))
		if _, err := u.header(); err != nil {
			return
		}
		var w bytes.Buffer
		p := newPacker(&w)
		header, _, _ := bytes.Cut(other, []byte("\n"))
		_, _ = p.w.Write(append(header, '\n'))
		for {
			key, record, err := u.next()
			if err != nil {
				return
			}
			if key == nil {
				break
			}
			_ = p.record(key, record)
		}
		if u.end() != nil {
			return
		}
		if err := p.end(); err != nil || !bytes.Equal(w.Bytes(), other) {
			t.Errorf("%q is taken for %q", other, w.Bytes())
		}
	})
}
