package guest

import (
	"context"
	"errors"
	"io"
	"time"
)

// Store is a small transactional key space. All rules (unique address, code
// spent once, linking) are written once above it. It is a Caddy module's
// product (see StoreModule) and must be safe for concurrent use.
//
// storetest.Run holds every promise made here.
type Store interface {
	// View runs fn with a consistent snapshot: all reads of one fn see the
	// same moment, and nothing half-written. fn must not write.
	View(ctx context.Context, fn func(Tx) error) error

	// Update runs fn and makes its writes durable: when Update returns nil
	// they survive kill -9 and a power cut. Updates are serializable: the
	// outcome is as if they had run one after the other, so "read, decide,
	// write" is right under any concurrency. fn may be run again and must have
	// no effect but through its Tx. An error from fn, also a panic, discards
	// its writes, and only its. A ctx that ends before fn was begun makes
	// Update return its error without running fn.
	//
	// Where the disk is all but full it returns ErrFull before running fn.
	Update(ctx context.Context, fn func(Tx) error) error

	// Close waits for the calls under way and releases the store. Later calls
	// return ErrClosed.
	Close() error
}

// Archive is a Store that can be saved and put back while it is in use.
type Archive interface {
	Store

	// Backup writes everything, as of one moment, to w: in a form of the store's
	// own, which Restore reads. Views and Updates go on meanwhile.
	Backup(ctx context.Context, w io.Writer) error

	// Restore replaces everything with what Backup wrote, or nothing: what is
	// damaged, cut short or newer (ErrNewer) changes nothing, nor does kill -9 or
	// a power cut in the middle. prepare is run on what came out of r, as a store
	// of its own, before anybody else sees it; its error ends the Restore.
	// Restore waits for the calls under way; those that come meanwhile wait for
	// it. One Restore runs at a time.
	Restore(ctx context.Context, r io.Reader, prepare func(Store) error) error
}

// Tx reads and writes within one View or Update. It is valid only until fn
// returns and only on fn's goroutine. Keys are 1 to 512 bytes, values at most
// 64 KiB.
type Tx interface {
	// Get returns the value of key, which is the caller's to keep, or
	// ErrNotFound. It sees this transaction's own writes.
	Get(key []byte) ([]byte, error)

	// Put sets key. expires is when the store may forget it, the zero time
	// never. A store may show a record past its time: a rule that depends on
	// time writes it into the record too. It must not show one *less* long.
	// The store keeps copies of key and value.
	Put(key, value []byte, expires time.Time) error

	// Delete removes key; a missing one is no error.
	Delete(key []byte) error

	// Scan calls fn for the keys with this prefix in ascending byte order,
	// beginning at from where it is not nil, at most limit of them (0: all).
	// fn returning false ends it. key and value are valid only during fn. It
	// sees this transaction's own writes; writing to the scanned prefix during
	// a Scan is not allowed.
	Scan(prefix, from []byte, limit int, fn func(key, value []byte) bool) error
}

// Errors a Store returns, to be tested with errors.Is.
var (
	ErrNotFound = errors.New("not found")
	ErrClosed   = errors.New("store is closed")
	ErrFull     = errors.New("disk is full: free some space; sign-ins are refused until then, the signed-in stay so")
	// ErrLocked means that another process holds the store.
	ErrLocked = errors.New("store is open in another process: stop it, or change the running one with 'caddy reload'")
	// ErrNewer means that a newer version of the program wrote the data.
	ErrNewer = errors.New("data was written by a newer version: run that version, or restore an older backup")
)

// StoreModule is a Caddy module in the namespace login.stores: the settings
// of a store, from which the house opens it. Several apps (the old and the
// new one during a reload) with the same Key share one open Store.
type StoreModule interface {
	// Key names what is exclusive, such as the directory's absolute path. It
	// is constant, and needs no disk or network.
	Key() string

	// Open opens the store. It is called for the first request or at start,
	// never at provision.
	Open(Env) (Store, error)
}
