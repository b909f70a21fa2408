//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package badger

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/caddy-login/caddy-login/module/guest"
)

// locks: we lock the directory ourselves, as Badger would: its own lock would
// be let go in the middle of a Restore.
const locks = true

// takeLock keeps other processes, and other stores in this one, out of dir
// until it is closed, or the process is gone.
func takeLock(dir string) (io.Closer, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("opening directory to lock it: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = guest.ErrLocked
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("locking directory: %w", err), f.Close())
	}
	return f, nil
}
