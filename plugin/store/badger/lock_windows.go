package badger

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/caddy-login/caddy-login/module/guest"
)

// locks: we lock the directory ourselves, as Badger would: its own lock would
// be let go in the middle of a Restore.
const locks = true

const (
	deleteOnClose    = 0x04000000        // FILE_FLAG_DELETE_ON_CLOSE
	sharingViolation = syscall.Errno(32) // ERROR_SHARING_VIOLATION
)

// takeLock keeps other processes, and other stores in this one, out of dir
// until it is closed, or the process is gone: it opens a file that it shares
// with nobody.
func takeLock(dir string) (io.Closer, error) {
	path := filepath.Join(dir, lockFile)
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return nil, fmt.Errorf("locking directory: %w", err)
	}
	handle, err := syscall.CreateFile(name, syscall.GENERIC_WRITE, 0, nil, syscall.OPEN_ALWAYS, deleteOnClose, 0)
	if errors.Is(err, sharingViolation) {
		err = guest.ErrLocked
	}
	if err != nil {
		return nil, fmt.Errorf("locking directory: %w", err)
	}
	return os.NewFile(uintptr(handle), path), nil
}
