package badger

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/caddy-login/caddy-login/module/guest"
)

// mounted is a small file system of its own.
func mounted(t *testing.T, kind string) string {
	t.Helper()
	at := t.TempDir()
	args := []string{"-t", "tmpfs", "-o", "size=48m", "tmpfs", at}
	if kind == "ext4" {
		image := filepath.Join(t.TempDir(), "image")
		run(t, "truncate", "-s", "64M", image)
		run(t, "mkfs.ext4", "-q", "-F", image)
		args = []string{"-o", "loop", image, at}
	}
	run(t, "mount", args...)
	t.Cleanup(func() { _ = exec.Command("umount", "-l", at).Run() })
	return at
}

// run skips the test where this machine does not permit the command.
func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Skipf("cannot %s here: %v: %s", name, err, out)
	}
}

// The disk is filled to its last block by another, at once, while 16 writers
// are writing: a store that wrote into it would end this process by SIGBUS. All
// rounds together fill less than one log, so that no table is being written at
// that moment: what then happens is up to Badger (see disk).
func TestSuddenlyFullDiskIsSurvived(t *testing.T) {
	for _, kind := range []string{"tmpfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			at := mounted(t, kind)
			s := openAt(t, filepath.Join(at, "login"))
			for range 8 {
				fillWhileWriting(t, s, filepath.Join(at, "ballast"))
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			s = openAt(t, s.dir)
			defer s.Close()
			if value, err := s.value("after"); value != "there was room again" {
				t.Errorf("the last update is %q (error: %v)", value, err)
			}
		})
	}
}

func fillWhileWriting(t *testing.T, s *store, ballast string) {
	t.Helper()
	var wg sync.WaitGroup
	var begun atomic.Int64
	half := make(chan struct{})
	for range 16 {
		wg.Go(func() {
			for n := begun.Add(1); n <= 2000; n = begun.Add(1) {
				if n == 1000 {
					close(half)
				}
				if err := s.set(string(nth(int(n))), "some 30 bytes, as sessions are"); err != nil {
					if !errors.Is(err, guest.ErrFull) {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	<-half
	fill(t, ballast)
	wg.Wait()
	if err := s.set("full", ""); !errors.Is(err, guest.ErrFull) {
		t.Errorf("Update on the full disk: %v, want ErrFull", err)
	}
	if _, err := s.value(string(nth(1))); err != nil {
		t.Errorf("View on the full disk: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := s.set("after", "there was room again"); err != nil {
		t.Errorf("Update once there is room again: %v", err)
	}
}

// fill takes all that is left, in halving steps down to a block.
func fill(t *testing.T, ballast string) {
	t.Helper()
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var size int64
	for step := int64(64 << 20); step >= 4096; {
		if syscall.Fallocate(int(f.Fd()), 0, size, step) == nil {
			size += step
		} else {
			step /= 2
		}
	}
}

// Writers alone fill the disk: they are refused before it ends.
func TestWritersAreRefusedBeforeTheDiskEnds(t *testing.T) {
	at := mounted(t, "tmpfs")
	s := openAt(t, filepath.Join(at, "login"))
	n := 0
	for err := error(nil); err == nil; n++ {
		if err = s.set(string(nth(n)), string(make([]byte, 2000))); err != nil && !errors.Is(err, guest.ErrFull) {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatalf("closing on a disk that is all but full: %v", err)
	}
	free, err := freeSpace(at)
	if err != nil || free < 4<<20 {
		t.Errorf("%d bytes are left (error: %v)", free, err)
	}
	t.Logf("refused after %d records, %d MiB left after closing", n-1, free>>20)
	if n < 1000 {
		t.Errorf("refused after %d records of 2 KB on 48 MiB", n)
	}
}

func TestReadOnlyFileSystemNamesTheCure(t *testing.T) {
	at := mounted(t, "tmpfs")
	run(t, "mount", "-o", "remount,ro", at)
	namesTheCure(t, at)
	namesTheCure(t, filepath.Join(at, "login"))
}
