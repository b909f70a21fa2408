package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	badgerdb "github.com/dgraph-io/badger/v4"

	"github.com/caddy-login/caddy-login/module/guest"
)

// sheet is a transaction in memory, on a store that holds nothing: it sees what
// it wrote itself. Nobody of a crowd has anything to do with anybody else.
type sheet map[string]entry

type entry struct {
	value   []byte
	expires time.Time
}

// Get reads what was written on this sheet.
func (s sheet) Get(key []byte) ([]byte, error) {
	e, found := s[string(key)]
	if !found {
		return nil, guest.ErrNotFound
	}
	return slices.Clone(e.value), nil
}

// Put writes.
func (s sheet) Put(key, value []byte, expires time.Time) error {
	s[string(key)] = entry{slices.Clone(value), expires}
	return nil
}

// Delete strikes out.
func (s sheet) Delete(key []byte) error {
	delete(s, string(key))
	return nil
}

// Scan is not part of signing in.
func (sheet) Scan([]byte, []byte, int, func(key, value []byte) bool) error {
	return errors.New("a sheet can't be scanned")
}

// fillStore has fill write into a store of ours, very much at once: nothing is
// synced, and only in the end all is put in order, as tables of our own size.
func fillStore(dir string, fill func(*badgerdb.DB) error) error {
	o := ourOptions(dir)
	o.SyncWrites, o.DetectConflicts = false, false
	o.MemTableSize, o.NumMemtables, o.NumLevelZeroTables, o.NumLevelZeroTablesStall = 16<<20, 4, 1<<20, 1<<21
	if err := withBadger(o, fill); err != nil {
		return fmt.Errorf("filling a store: %w", err)
	}
	o = ourOptions(dir)
	o.NumLevelZeroTables = 1 // leave none there
	err := withBadger(o, func(db *badgerdb.DB) error { return db.Flatten(o.NumCompactors) })
	if err != nil {
		return fmt.Errorf("putting a store in order: %w", err)
	}
	return nil
}

func withBadger(o badgerdb.Options, do func(*badgerdb.DB) error) error {
	db, err := badgerdb.Open(o)
	if err != nil {
		return err
	}
	return errors.Join(do(db), db.Close())
}

// write copies the sheet, in the order of its keys. crowd.check finds out whether
// the store still lays records down like this.
func (s sheet) write(db *badgerdb.DB) error {
	batch := db.NewWriteBatch()
	defer batch.Cancel()
	for _, key := range slices.Sorted(maps.Keys(s)) {
		if err := batch.SetEntry(s[key].laidDown(key)); err != nil {
			return fmt.Errorf("writing people: %w", err)
		}
	}
	if err := batch.Flush(); err != nil {
		return fmt.Errorf("writing people: %w", err)
	}
	return nil
}

// laidDown is the record of the badger store: when it expires, in milliseconds,
// and the value.
func (e entry) laidDown(key string) *badgerdb.Entry {
	var expires int64
	if !e.expires.IsZero() {
		expires = e.expires.UnixMilli()
	}
	record := append(binary.AppendVarint(nil, expires), e.value...)
	laid := badgerdb.NewEntry([]byte("k"+key), record)
	if expires != 0 {
		laid.ExpiresAt = uint64(e.expires.Add(forgotten).Unix())
	}
	return laid
}

// forgotten is how long a record stays past its time.
const forgotten = 48 * time.Hour

// Interface guard
var _ guest.Tx = sheet(nil)
