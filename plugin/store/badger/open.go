package badger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"github.com/caddy-login/caddy-login/module/guest"
)

// format is the version of what this package writes. It goes up when an older
// binary could no longer read it.
const format = 1

// formatKey holds format in decimal.
var formatKey = []byte(ours + "format")

// open opens the store in dir. free tells how many bytes a directory's file
// system has left.
func open(dir string, env guest.Env, free func(string) (int64, error)) (guest.Store, error) {
	if err := prepare(dir); err != nil {
		return nil, err
	}
	lock, err := takeLock(dir)
	if err != nil {
		return nil, fmt.Errorf("opening store in %s: %w", dir, err)
	}
	s, err := openLocked(swap{dir: dir, rename: os.Rename}, env, free)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	s.lock = lock
	return s, nil
}

// openLocked opens the store in a directory that nobody else can open. An
// exchange of the data that was decided and interrupted is ended before.
func openLocked(files swap, env guest.Env, free func(string) (int64, error)) (*store, error) {
	dir := files.dir
	if err := files.settle(); err != nil {
		return nil, fmt.Errorf("ending the exchange of the data in %s: %w", dir, err)
	}
	if err := files.tidy(); err != nil {
		env.Log.Warn("what an earlier restore left stays in the store's directory", slog.String("dir", dir), slog.Any("error", err))
	}
	d := &disk{dir: dir, free: free}
	if err := d.room(); err != nil {
		return nil, err
	}
	db, err := openBadger(settings(dir, env))
	if err != nil {
		return nil, openError(dir, err)
	}
	s, err := start(db, files, env, d)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

func start(db *badger.DB, files swap, env guest.Env, d *disk) (*store, error) {
	dir := files.dir
	if err := checkFormat(db, dir); err != nil {
		return nil, err
	}
	w, err := openWAL(dir)
	if err != nil {
		return nil, err
	}
	d.measure()
	s := &store{
		db:      db,
		files:   files,
		dir:     dir,
		now:     env.Now,
		log:     env.Log,
		archive: make(chan struct{}, 1),
		turn:    make(chan struct{}, 1),
		limits: limits{
			bytes:   int(db.MaxBatchSize()) - 1024, // the mark at a transaction's end
			records: int(db.MaxBatchCount()) - 2,
		},
		disk: d,
		wal:  w,
	}
	s.closing, s.shut = context.WithCancelCause(context.Background())
	return s, nil
}

// settings keep Badger small: it was made for databases of gigabytes on
// machines of its own, and this one shares 512 MiB with Caddy and the app.
func settings(dir string, env guest.Env) badger.Options {
	o := badger.DefaultOptions(dir)
	o.Logger = logger{env.Log}
	o.SyncWrites = true
	o.DetectConflicts = false // updates are serial
	o.MetricsEnabled = false
	o.BypassLockGuard = locks

	// Up to three memtables of 5 MiB exist at once: one is written to, one
	// waits, one is flushed. 15 % of one is what a transaction may hold.
	o.MemTableSize = 4 << 20
	o.NumMemtables = 1

	// Tables of one small size bound the memory and the disk that a single
	// compaction takes. Two compactors are the fewest Badger allows.
	o.BaseTableSize = 2 << 20
	o.TableSizeMultiplier = 1
	o.BaseLevelSize = 8 << 20
	o.NumLevelZeroTables = 2
	o.NumLevelZeroTablesStall = 6
	o.NumCompactors = 2
	o.NumGoroutines = 1

	// Uncompressed tables are read where the kernel maps them: its page cache
	// is the cache, and gives way when memory is short.
	o.Compression = options.None
	o.BlockCacheSize = 0
	o.IndexCacheSize = 0

	// Every value is below the threshold and lives in the tables: the value log
	// stays empty and needs no garbage collection, the part of Badger that has
	// brought deleted keys back.
	o.ValueThreshold = maxValue + 1024
	o.ValueLogFileSize = 1 << 20
	return o
}

// openBadger tries a second time where a power cut left a log without a byte:
// the first attempt, which fails on it, gives it the length a new one has.
func openBadger(o badger.Options) (*badger.DB, error) {
	db, err := badger.Open(o)
	if err != nil && strings.Contains(err.Error(), "Create a new file") {
		return badger.Open(o)
	}
	return db, err
}

// openError tells a lock by Badger's words: it does not wrap what it is told.
func openError(dir string, err error) error {
	if strings.Contains(err.Error(), "Another process is using this Badger database") {
		return fmt.Errorf("opening store in %s: %w", dir, guest.ErrLocked)
	}
	return fmt.Errorf("opening store in %s: %w", dir, err)
}

// prepare makes sure that dir exists, is ours alone, and can be written to;
// Badger would end the process on some of these errors.
func prepare(dir string) error {
	err := make0700(dir)
	if err == nil {
		err = probe(dir)
	}
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, errReadOnlyFS) {
		return fmt.Errorf("the store cannot write to %s: give that directory to Caddy's user (chown), or name another one (store badger <dir>): %w", dir, err)
	}
	if err != nil {
		return fmt.Errorf("preparing the store's directory: %w", err)
	}
	return nil
}

// make0700 closes an existing directory to other users too, for Badger makes
// its files with mode 0644: but only an empty one or one of Badger's, lest a
// mistyped `dir` close /var/lib to everybody.
func make0700(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 == 0 || !modesMatter {
		return nil
	}
	foreign, err := holdsOthers(dir)
	if err != nil {
		return err
	}
	if foreign {
		return fmt.Errorf("%s is open to other users and holds other files: name a directory for the store alone, such as %s", dir, filepath.Join(dir, "login"))
	}
	return os.Chmod(dir, 0o700)
}

// holdsOthers reports whether dir has files in it and is no Badger directory.
func holdsOthers(dir string) (bool, error) {
	if _, err := os.Stat(filepath.Join(dir, badger.ManifestFilename)); err == nil {
		return false, nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	defer f.Close()
	names, err := f.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return len(names) > 0, err
}

// probe writes a file and removes it.
func probe(dir string) error {
	f, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// checkFormat refuses data of a newer version, and marks a new store.
func checkFormat(db *badger.DB, dir string) error {
	found, err := readFormat(db)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return db.Update(func(txn *badger.Txn) error {
			return txn.Set(formatKey, []byte(strconv.Itoa(format)))
		})
	}
	if err != nil {
		return fmt.Errorf("reading the store's format in %s: %w", dir, err)
	}
	if found > format {
		return fmt.Errorf("store in %s has format %d, this version knows %d: %w", dir, found, format, guest.ErrNewer)
	}
	return nil
}

func readFormat(db *badger.DB) (found int, err error) {
	err = db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(formatKey)
		if err != nil {
			return err
		}
		return item.Value(func(value []byte) error {
			found, err = strconv.Atoi(string(value))
			return err
		})
	})
	return found, err
}
