//go:build linux || darwin || freebsd

package badger

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// errReadOnlyFS is the error of writing to a file system mounted read-only.
const errReadOnlyFS = syscall.EROFS

// modesMatter: others are kept out by the directory's mode.
const modesMatter = true

// freeSpace is what an unprivileged process may still take of dir's file
// system, in bytes.
func freeSpace(dir string) (int64, error) {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err != nil {
		return 0, err
	}
	return int64(stat.Bavail) * int64(stat.Bsize), nil
}

// allocated is what a file takes on disk: sparse ones less than their size.
func allocated(info fs.FileInfo) int64 {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return info.Size()
	}
	return stat.Blocks * 512
}

// syncDir makes the names of new files in dir survive a power cut.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("opening directory: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("syncing directory: %w", err)
	}
	return nil
}
