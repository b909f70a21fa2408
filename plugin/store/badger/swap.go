package badger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A Restore exchanges the store's files within its directory, which may be the
// root of a volume and below a parent that we must not write to. Many files
// cannot be renamed at once; so the directories named here tell how far it came,
// and whoever opens the store takes it to its end:
//
//	restoring       a backup is being read: nothing has happened yet
//	restored        it was read whole: the store's files go to `replaced`
//	arriving        they are there: what was `restored` moves in
//	replaced        it has: this becomes `before-restore`
//
// Each name comes into being by one rename, after all before it is on disk. The
// rename to `restored` decides: until then a kill leaves the old data, from then
// on the new.
const (
	restoring     = "restoring"
	restored      = "restored"
	arriving      = "arriving"
	replaced      = "replaced"
	beforeRestore = "before-restore"
)

// lockFile is the file by which a directory is locked on some systems. It stays
// where it is.
const lockFile = "LOCK"

// swap exchanges the files of a store that is closed.
type swap struct {
	dir    string
	rename func(from, to string) error
}

func (s swap) path(name string) string { return filepath.Join(s.dir, name) }

// decide makes what was restored, and is on disk, the store.
func (s swap) decide() error {
	if err := s.rename(s.path(restoring), s.path(restored)); err != nil {
		return fmt.Errorf("deciding on the restored data: %w", err)
	}
	if err := syncDir(s.dir); err != nil {
		return errors.Join(err, s.rename(s.path(restored), s.path(restoring)))
	}
	return nil
}

// settle takes a decided exchange to its end; without one it does nothing.
func (s swap) settle() error {
	if err := s.clear(); err != nil {
		return fmt.Errorf("moving the replaced data away: %w", err)
	}
	if err := s.fill(); err != nil {
		return fmt.Errorf("moving the restored data in: %w", err)
	}
	return nil
}

func (s swap) clear() error {
	if there, err := s.has(restored); err != nil || !there {
		return err
	}
	if err := os.MkdirAll(s.path(replaced), 0o700); err != nil {
		return err
	}
	if err := s.moveFiles(s.dir, s.path(replaced)); err != nil {
		return err
	}
	if err := s.rename(s.path(restored), s.path(arriving)); err != nil {
		return err
	}
	return syncDir(s.dir)
}

func (s swap) fill() error {
	if there, err := s.has(arriving); err != nil || !there {
		return err
	}
	if err := s.moveFiles(s.path(arriving), s.dir); err != nil {
		return err
	}
	if err := os.RemoveAll(s.path(arriving)); err != nil {
		return err
	}
	return syncDir(s.dir)
}

// tidy removes what an interrupted Restore left, and gives the replaced data
// its name. The store is whole without it.
func (s swap) tidy() error {
	if err := os.RemoveAll(s.path(restoring)); err != nil {
		return fmt.Errorf("removing what was half restored: %w", err)
	}
	there, err := s.has(replaced)
	if err != nil || !there {
		return err
	}
	if err := os.RemoveAll(s.path(beforeRestore)); err != nil {
		return fmt.Errorf("removing what was replaced earlier: %w", err)
	}
	if err := s.rename(s.path(replaced), s.path(beforeRestore)); err != nil {
		return fmt.Errorf("keeping the replaced data: %w", err)
	}
	return syncDir(s.dir)
}

func (s swap) has(name string) (bool, error) {
	_, err := os.Lstat(s.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// moveFiles moves Badger's files, and has that be on disk. Another process that
// finds the store locked leaves a file with a dot for a moment.
func (s swap) moveFiles(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		if entry.IsDir() || name == lockFile || strings.HasPrefix(name, ".") {
			continue
		}
		if err := s.rename(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
			return err
		}
	}
	if err := syncDir(to); err != nil {
		return err
	}
	return syncDir(from)
}

// syncFiles has all files in dir be on disk.
func syncFiles(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := syncFile(filepath.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	return syncDir(dir)
}

func syncFile(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
