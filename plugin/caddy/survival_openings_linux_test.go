package main_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest"
)

// registry is the file that Badger reads whenever it opens a database, and at
// no other time.
const registry = "KEYREGISTRY"

// openings is what the kernel says of a database that is to be in dir: how often
// it was opened until then.
func openings(t *testing.T, dir string) func() int {
	t.Helper()
	watch, err := syscall.InotifyInit1(syscall.IN_NONBLOCK | syscall.IN_CLOEXEC)
	if err != nil {
		t.Fatal(os.NewSyscallError("inotify_init1", err))
	}
	t.Cleanup(func() { _ = syscall.Close(watch) })
	if _, err := syscall.InotifyAddWatch(watch, dir, syscall.IN_OPEN); err != nil {
		t.Fatal(os.NewSyscallError("inotify_add_watch", err))
	}
	opened, events := 0, make([]byte, 64<<10)
	return func() int {
		t.Helper()
		for {
			n, err := syscall.Read(watch, events)
			if errors.Is(err, syscall.EAGAIN) {
				return opened
			}
			if err != nil {
				t.Fatal(os.NewSyscallError("read", err))
			}
			opened += openingsIn(t, events[:n])
		}
	}
}

func TestEachOpeningOfADatabaseIsTold(t *testing.T) {
	v := &vault{t: t, dir: t.TempDir(), clock: new(logintest.Clock)}
	opened := openings(t, v.dir)
	for want := range 4 {
		if got := opened(); got != want {
			t.Errorf("%d openings are told, of %d", got, want)
		}
		v.must(v.badger().Close())
	}
}

// openingsIn counts among what inotify(7) tells.
func openingsIn(t *testing.T, events []byte) (n int) {
	t.Helper()
	for len(events) > 0 {
		mask, length := binary.NativeEndian.Uint32(events[4:]), binary.NativeEndian.Uint32(events[12:])
		end := syscall.SizeofInotifyEvent + int(length)
		name := bytes.TrimRight(events[syscall.SizeofInotifyEvent:end], "\x00")
		if mask&syscall.IN_Q_OVERFLOW != 0 {
			t.Fatal("more happened to the database's files than the kernel tells of at once")
		}
		if string(name) == registry {
			n++
		}
		events = events[end:]
	}
	return n
}
