package badger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/caddy-login/caddy-login/module/guest"
)

const (
	maxKey   = 512
	maxValue = 64 << 10
	// maxRecord is the longest value with the moment it expires.
	maxRecord = maxValue + binary.MaxVarintLen64

	// The first byte of every key in Badger. It keeps our own records apart
	// from the callers', and Badger's reserved "!badger!" open to them.
	ours   = "m"
	theirs = "k"
)

var (
	errOver     = errors.New("transaction is over: it is valid only until its function returns")
	errReadOnly = errors.New("a View cannot write: use Update")
	errKey      = fmt.Errorf("keys are 1 to %d bytes long", maxKey)
	errValue    = fmt.Errorf("values are at most %d bytes long", maxValue)
	errDamaged  = errors.New("record is damaged")
)

// tx reads through its layers: own writes, then those of updates that wait for
// the same commit, then the snapshot.
type tx struct {
	snapshot *badger.Txn
	layers   []*overlay // newest first; none in a View
	now      time.Time  // one moment for all reads
	limits   limits
	overfull error // set by the first write that did not fit
	over     bool
}

func (s *store) begin(snapshot *badger.Txn, layers ...*overlay) *tx {
	return &tx{snapshot: snapshot, layers: layers, now: s.now(), limits: s.limits}
}

func (t *tx) run(fn func(guest.Tx) error) error {
	defer func() { t.over = true }()
	return fn(t)
}

// own is where an Update's writes go.
func (t *tx) own() *overlay { return t.layers[0] }

func (t *tx) Get(key []byte) ([]byte, error) {
	if err := t.usable(key); err != nil {
		return nil, err
	}
	if record, written := t.written(string(key)); written {
		return t.open(record)
	}
	item, err := t.snapshot.Get(prefixed(key))
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, guest.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("reading record: %w", err)
	}
	record, err := item.ValueCopy(nil)
	if err != nil {
		return nil, fmt.Errorf("reading record: %w", err)
	}
	return t.open(record)
}

// open is a record's value, in memory of its own.
func (t *tx) open(record []byte) ([]byte, error) {
	value, live, err := decode(record, t.now)
	if err != nil {
		return nil, err
	}
	if !live {
		return nil, guest.ErrNotFound
	}
	return append([]byte{}, value...), nil
}

func (t *tx) Put(key, value []byte, expires time.Time) error {
	if len(value) > maxValue {
		return errValue
	}
	return t.write(key, encode(value, expires))
}

func (t *tx) Delete(key []byte) error { return t.write(key, nil) }

func (t *tx) write(key, record []byte) error {
	if err := t.usable(key); err != nil {
		return err
	}
	if len(t.layers) == 0 {
		return errReadOnly
	}
	t.own().put(string(key), record)
	if t.own().exceeds(t.limits) {
		t.overfull = fmt.Errorf("one update holds at most %d bytes or %d records: write in parts", t.limits.bytes, t.limits.records)
	}
	return t.overfull
}

func (t *tx) usable(key []byte) error {
	if t.over {
		return errOver
	}
	if len(key) == 0 || len(key) > maxKey {
		return errKey
	}
	return nil
}

// Scan may be nested, also within an Update. The merge reads the snapshot's
// keys and the written ones side by side.
func (t *tx) Scan(prefix, from []byte, limit int, fn func(key, value []byte) bool) error {
	if t.over {
		return errOver
	}
	m := t.merge(prefix, slices.MaxFunc([][]byte{prefix, from}, bytes.Compare))
	defer m.stored.Close()
	for found := 0; m.next(); {
		value, live, err := decode(m.record, t.now)
		if err != nil {
			return err
		}
		if !live {
			continue
		}
		if found++; !fn(m.key, value) || found == limit {
			return nil
		}
	}
	return m.err
}

// merge walks two sorted lists as one; where both have a key, the written one
// counts. key and record belong to the walk and last until its next step.
type merge struct {
	stored  *badger.Iterator
	pending []string
	tx      *tx
	key     []byte
	record  []byte // nil where the key was deleted
	err     error
}

func (t *tx) merge(prefix, start []byte) *merge {
	// Values are in the tables with their keys: fetching them ahead would
	// start a goroutine for each and save nothing.
	it := t.snapshot.NewIterator(badger.IteratorOptions{Prefix: prefixed(prefix)})
	it.Seek(prefixed(start))
	return &merge{stored: it, pending: t.pending(prefix, start), tx: t}
}

func (m *merge) next() bool {
	if !m.stored.Valid() {
		return len(m.pending) > 0 && m.takePending()
	}
	stored := m.stored.Item().Key()[len(theirs):]
	if len(m.pending) == 0 {
		return m.takeStored()
	}
	switch strings.Compare(m.pending[0], string(stored)) {
	case -1:
		return m.takePending()
	case 0:
		m.stored.Next()
		return m.takePending()
	default:
		return m.takeStored()
	}
}

func (m *merge) takePending() bool {
	key := m.pending[0]
	m.pending = m.pending[1:]
	m.key = append(m.key[:0], key...)
	record, _ := m.tx.written(key)
	m.record = append(m.record[:0], record...)
	return true
}

func (m *merge) takeStored() bool {
	item := m.stored.Item()
	m.key = append(m.key[:0], item.Key()[len(theirs):]...)
	m.record, m.err = item.ValueCopy(m.record)
	m.stored.Next()
	return m.err == nil
}

// written is what was last written to key and not yet committed.
func (t *tx) written(key string) (record []byte, ok bool) {
	for _, layer := range t.layers {
		if record, ok := layer.records[key]; ok {
			return record, true
		}
	}
	return nil, false
}

// pending lists the keys written and not yet committed, in order, each once.
func (t *tx) pending(prefix, start []byte) []string {
	var keys []string
	for _, layer := range t.layers {
		for key := range layer.records {
			if strings.HasPrefix(key, string(prefix)) && key >= string(start) {
				keys = append(keys, key)
			}
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// overlay holds writes that are not yet committed: records as encode makes
// them, nil for a deleted key.
type overlay struct {
	records map[string][]byte
	bytes   int
}

// limits are what one transaction of Badger holds.
type limits struct{ bytes, records int }

func (o *overlay) empty() bool { return len(o.records) == 0 }

func (o *overlay) put(key string, record []byte) {
	if o.records == nil {
		o.records = make(map[string][]byte)
	}
	if old, again := o.records[key]; again {
		o.bytes -= footprint(key, old)
	}
	o.records[key] = record
	o.bytes += footprint(key, record)
}

// footprint is an upper bound of what Badger counts for a record: key and
// value with prefix, version and flags.
func footprint(key string, record []byte) int { return len(key) + len(record) + 32 }

func (o *overlay) exceeds(l limits) bool {
	return o.bytes > l.bytes || len(o.records) > l.records
}

func (o *overlay) fits(more *overlay, l limits) bool {
	return o.bytes+more.bytes <= l.bytes && len(o.records)+len(more.records) <= l.records
}

func (o *overlay) hasRoom(key string, record []byte, l limits) bool {
	return o.bytes+footprint(key, record) <= l.bytes && len(o.records) < l.records
}

func (o *overlay) take(more *overlay) {
	if o.empty() {
		*o = *more
		return
	}
	for key, record := range more.records {
		o.put(key, record)
	}
}

func prefixed(key []byte) []byte {
	return append(append(make([]byte, 0, len(theirs)+len(key)), theirs...), key...)
}
