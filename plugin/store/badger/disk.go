package badger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/caddy-login/caddy-login/module/guest"
)

const (
	// reserveBase is for what the next commit may need at once: a new log of
	// logSize, its own bytes, and the manifest's.
	reserveBase = 8 << 20

	// reserveMost bounds the share that grows with the store: two compactions
	// at once, each of one table and the dozen below it, and the flush of
	// three memtables, stay under it however much there is.
	reserveMost = 128 << 20

	// logSize is what Badger fills of a log, at most, before it begins another:
	// a memtable and one transaction.
	logSize = 5 << 20
)

// disk watches the free space below dir.
//
// Badger writes through memory maps of sparse files: on a full disk that is a
// SIGBUS, which ends the process. And it writes unasked: it flushes memtables
// and compacts tables. Both rewrite what already lies in the directory, and
// delete the old only afterwards; so the reserve is as much again as the
// directory holds.
//
// It does not save a process whose disk another fills within the milliseconds
// in which Badger writes a table: nothing outside Badger could.
type disk struct {
	dir     string
	free    func(dir string) (int64, error)
	reserve int64
}

// room returns guest.ErrFull where less than the reserve is left. It asks the
// file system each time, which takes microseconds beside a sync: a full disk
// seen a second late would be a dead process.
func (d *disk) room() error {
	free, err := d.free(d.dir)
	if err != nil {
		return fmt.Errorf("asking for free space in %s: %w", d.dir, err)
	}
	if free >= max(d.reserve, reserveBase) {
		return nil
	}
	d.measure() // a compaction may have made the store smaller
	if free >= d.reserve {
		return nil
	}
	return fmt.Errorf("%d of %d MiB that the store in %s keeps in reserve are free: %w", free>>20, d.reserve>>20, d.dir, guest.ErrFull)
}

func (d *disk) measure() {
	d.reserve = reserveBase + min(used(d.dir), reserveMost)
}

// used is what the files in dir take. Files that vanish meanwhile count
// nothing.
func used(dir string) (sum int64) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return reserveMost
	}
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil {
			sum += allocated(info)
		}
	}
	return sum
}

// wal follows the logs that Badger writes, for two things it leaves out.
//
// It does not sync the directory when it begins a log: after a power cut the
// file, with all that was acknowledged in it, may have no name. And it leaves
// the log sparse: each commit could meet the end of the disk. A log with its
// blocks allocated cannot.
type wal struct {
	dir  string
	last int
}

// openWAL finds the newest log in dir and secures it.
func openWAL(dir string) (*wal, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.mem"))
	if err != nil {
		return nil, fmt.Errorf("listing logs in %s: %w", dir, err)
	}
	w := &wal{dir: dir}
	for _, name := range names {
		number, err := strconv.Atoi(strings.TrimSuffix(filepath.Base(name), ".mem"))
		if err != nil {
			return nil, fmt.Errorf("reading name of log: %w", err)
		}
		w.last = max(w.last, number)
	}
	// dir itself may be new. A parent that Caddy's user cannot read was not made
	// by Caddy just now, and so neither was dir.
	if err := syncDir(filepath.Dir(dir)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return nil, err
	}
	return w, w.secure()
}

// advance reports whether Badger began a log since, and secures it. Logs are
// numbered without a gap, so asking for the next name is enough.
func (w *wal) advance() (began bool, err error) {
	for {
		_, err := os.Lstat(w.path(w.last + 1))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return began, fmt.Errorf("looking for the next log: %w", err)
		}
		w.last++
		began = true
	}
	if !began {
		return false, nil
	}
	return true, w.secure()
}

func (w *wal) secure() error {
	preallocate(w.path(w.last), logSize)
	return syncDir(w.dir)
}

func (w *wal) path(number int) string {
	return filepath.Join(w.dir, fmt.Sprintf("%05d.mem", number))
}
