package badger

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// grace is how long a record stays on disk past its time. Badger forgets by
// the machine's clock: one that was a day ahead and came back must not have
// cost a session.
const grace = 48 * time.Hour

// encode makes a record: the moment it expires (milliseconds, rounded up; 0
// never) as a varint, then the value. It is never nil.
func encode(value []byte, expires time.Time) []byte {
	record := make([]byte, 0, binary.MaxVarintLen64+len(value))
	return append(binary.AppendVarint(record, expiry(expires)), value...)
}

func expiry(expires time.Time) int64 {
	if expires.IsZero() {
		return 0
	}
	return max(1, expires.Add(time.Millisecond-1).UnixMilli())
}

// decode undoes encode. A deleted or expired record is not live. Readers judge
// by the house's clock; Badger's own expiry only frees the space.
func decode(record []byte, now time.Time) (value []byte, live bool, err error) {
	if len(record) == 0 {
		return nil, false, nil
	}
	expires, n := binary.Varint(record)
	if n <= 0 {
		return nil, false, errDamaged
	}
	return record[n:], expires == 0 || now.UnixMilli() < expires, nil
}

// set adds a write to txn.
func set(txn *badger.Txn, key string, record []byte, now time.Time) error {
	k := []byte(theirs + key)
	if record == nil {
		return txn.Delete(k)
	}
	entry := badger.NewEntry(k, record)
	entry.ExpiresAt = forget(record, now)
	return txn.SetEntry(entry)
}

// forget is the moment, in Unix seconds of the machine's clock, from which
// Badger may drop the record; 0 is never. The machine's clock is asked here,
// against the rule for guests, because Badger will ask it, too: where the
// house's clock (now) runs behind, its moments are long past for Badger.
func forget(record []byte, now time.Time) uint64 {
	expires, _ := binary.Varint(record)
	if expires == 0 {
		return 0
	}
	left := max(0, expires-now.UnixMilli())/1000 + 1
	machine := max(0, time.Now().Unix())
	if left > math.MaxInt64/2 {
		return 0
	}
	return uint64(machine + left + int64(grace/time.Second))
}
