package badger

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/caddy-login/caddy-login/module/guest"
)

// childEnv makes this test binary a second process that works on the store in
// the directory named by its value: see child.
const childEnv = "BADGER_STORE_CHILD"

func TestMain(m *testing.M) {
	if job, dir, found := strings.Cut(os.Getenv(childEnv), ":"); found {
		child(job, dir)
	}
	os.Exit(m.Run())
}

// child holds the store until its input ends, or writes until it is killed.
func child(job, dir string) {
	s, err := open(dir, quiet(), freeSpace)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	switch job {
	case "hold":
		fmt.Println("open")
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		_ = s.Close()
	case "write":
		keepLedger(s)
	case "restore":
		restoreForever(s.(*store))
	}
	os.Exit(0)
}

func start2nd(t *testing.T, job, dir string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+job+":"+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, bufio.NewReader(out)
}

func TestSecondProcessIsToldOfTheLock(t *testing.T) {
	dir := t.TempDir()
	cmd, out := start2nd(t, "hold", dir)
	if line, err := out.ReadString('\n'); line != "open\n" {
		t.Fatalf("second process said %q (error: %v)", line, err)
	}
	_, err := open(dir, quiet(), freeSpace)
	if !errors.Is(err, guest.ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("opening a held store: %v, want ErrLocked and the directory", err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err := openAt(t, dir).Close(); err != nil {
		t.Errorf("closing the store that a killed process held: %v", err)
	}
}

func TestSecondOpenInOneProcessIsToldOfTheLock(t *testing.T) {
	s := tempStore(t)
	if _, err := open(s.dir, quiet(), freeSpace); !errors.Is(err, guest.ErrLocked) {
		t.Errorf("opening an open store: %v, want ErrLocked", err)
	}
	if err := s.set("a", "1"); err != nil {
		t.Errorf("the first store after that: %v", err)
	}
}

// keepLedger writes with eight writers until killed, and says each key on its
// output once it was acknowledged. Every update writes a pair.
func keepLedger(s guest.Store) {
	var mu sync.Mutex
	for w := range 8 {
		go func() {
			for i := 0; ; i++ {
				key := fmt.Sprintf("%d-%d-%d", os.Getpid(), w, i)
				err := s.Update(context.Background(), func(t guest.Tx) error { return putPair(t, key) })
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				mu.Lock()
				fmt.Println(key)
				mu.Unlock()
			}
		}()
	}
	select {}
}

// putPair writes enough that a round begins new logs and tables, too.
func putPair(t guest.Tx, key string) error {
	if err := t.Put([]byte("a/"+key), make([]byte, rand.IntN(8000)), time.Time{}); err != nil {
		return err
	}
	return t.Put([]byte("b/"+key), []byte(key), time.Time{})
}

// BADGER_STORE_ROUNDS=1000 makes it a soak.
func TestKillLosesNothingAcknowledged(t *testing.T) {
	rounds := rounds(20)
	dir := t.TempDir()
	ledger := map[string]bool{}
	for round := range rounds {
		cmd, out := start2nd(t, "write", dir)
		readLedger(t, out, ledger, 50+rand.IntN(1500))
		_ = cmd.Process.Kill()
		readLedger(t, out, ledger, 1<<30) // what was said before it died
		_ = cmd.Wait()
		checkLedger(t, dir, ledger)
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	t.Logf("%d acknowledged updates, all there after %d kills", len(ledger), rounds)
}

func rounds(usual int) int {
	if n, err := strconv.Atoi(os.Getenv("BADGER_STORE_ROUNDS")); err == nil {
		return n
	}
	return usual
}

// readLedger reads at most n whole lines.
func readLedger(t *testing.T, out *bufio.Reader, ledger map[string]bool, n int) {
	t.Helper()
	for i := range n {
		line, err := out.ReadString('\n')
		if err != nil {
			if i == 0 && n < 1<<30 {
				t.Fatal("the writing process said nothing")
			}
			return
		}
		ledger[strings.TrimSuffix(line, "\n")] = true
	}
}

// checkLedger finds every acknowledged pair, and no half of one.
func checkLedger(t *testing.T, dir string, ledger map[string]bool) {
	t.Helper()
	s := openAt(t, dir)
	defer s.Close()
	halves := map[string]int{}
	err := s.View(context.Background(), func(tx guest.Tx) error {
		return tx.Scan(nil, nil, 0, func(key, _ []byte) bool { halves[string(key[2:])]++; return true })
	})
	if err != nil {
		t.Fatal(err)
	}
	for key := range ledger {
		if halves[key] == 0 {
			t.Errorf("acknowledged %s is lost", key)
		}
	}
	for key, n := range halves {
		if n != 2 {
			t.Errorf("%d half of update %s", n, key)
		}
	}
}

func TestNewerDataIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, dir)
	err := s.db.Update(func(txn *badger.Txn) error { return txn.Set(formatKey, []byte(strconv.Itoa(format+1))) })
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first refusal must let the lock go
		if _, err := open(dir, quiet(), freeSpace); !errors.Is(err, guest.ErrNewer) || !strings.Contains(err.Error(), dir) {
			t.Fatalf("opening newer data: %v, want ErrNewer and the directory", err)
		}
	}
}

func TestFormatIsNoRecordOfTheCaller(t *testing.T) {
	s := tempStore(t)
	if _, err := s.value(string(formatKey)); !errors.Is(err, guest.ErrNotFound) {
		t.Errorf("reading our own key: %v", err)
	}
	_ = s.View(context.Background(), func(tx guest.Tx) error {
		return tx.Scan(nil, nil, 0, func(key, _ []byte) bool { t.Errorf("an empty store shows %q", key); return true })
	})
}

// A power cut can leave the newest log with a name and no length.
func TestEmptyLogIsNoObstacle(t *testing.T) {
	for _, name := range []string{"00099.mem", "000099.vlog"} {
		dir := t.TempDir()
		s := openAt(t, dir)
		if err := errors.Join(s.set("a", "1"), s.Close()); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		s = openAt(t, dir)
		if value, err := s.value("a"); value != "1" {
			t.Errorf("with an empty %s: %q, %v", name, value, err)
		}
		if err := errors.Join(s.set("b", "1"), s.Close()); err != nil {
			t.Errorf("with an empty %s: %v", name, err)
		}
	}
}

func TestOthersCannotRead(t *testing.T) {
	made := filepath.Join(t.TempDir(), "deep", "login")
	found := t.TempDir()
	if err := os.Chmod(found, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{made, found} {
		s := openAt(t, dir)
		defer s.Close()
		info, err := os.Stat(dir)
		if err != nil || modesMatter && info.Mode().Perm() != 0o700 {
			t.Errorf("mode of %s is %v (error: %v), want 0700", dir, info.Mode(), err)
		}
	}
}

func TestDirectoryOfOthersIsLeftAlone(t *testing.T) {
	if !modesMatter {
		t.Skip("directories have no mode bits here")
	}
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "passwd"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	_, err := open(dir, quiet(), freeSpace)
	if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "login")) {
		t.Errorf("opening a store among other files: %v, want an error that names a better place", err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the mode became %v (error: %v)", info.Mode(), err)
	}
}

func TestUnwritableDirectoryNamesTheCure(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		becomeNobody(t, dir) // root may write everywhere
	}
	namesTheCure(t, dir)
}

func namesTheCure(t *testing.T, dir string) {
	t.Helper()
	_, err := open(dir, quiet(), freeSpace)
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "chown") {
		t.Errorf("opening an unwritable store: %v, want an error that names the cure", err)
	}
}

func TestPathThroughAFileIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := open(filepath.Join(file, "login"), quiet(), freeSpace); err == nil {
		t.Error("opening a store below a file is no error")
	}
}
