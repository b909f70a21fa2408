package badger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/caddy-login/caddy-login/module/guest"
)

// store is an open Badger directory.
//
// Badger syncs the disk once per transaction, and a sync is most of what a
// write costs. So updates share one: each runs in its turn, on its caller's
// own goroutine, and leaves its writes in the open batch; the caller that
// opened the batch queues for a second turn, behind all who were waiting
// already, and commits it for everybody. Turns are taken one at a time, so
// updates are serial and Badger's own conflict detection is off.
//
// Running fn on its caller's goroutine makes a panic (and runtime.Goexit) the
// caller's own, with its true stack, and leaves no writer to be killed by it.
type store struct {
	db    *badger.DB // nil where lost
	files swap
	lock  io.Closer // on dir
	dir   string
	now   func() time.Time
	log   *slog.Logger

	closing context.Context         // over once Close was called
	shut    context.CancelCauseFunc // ends it

	mu     sync.Mutex    // guards what follows
	calls  int           // Views and Updates under way
	idle   chan struct{} // closed once there are none; nil where nobody waits
	held   chan struct{} // closed once calls may go on; nil while they may
	closed bool
	lost   error // why there is no db any more

	// archive is held by the one Backup or Restore under way.
	archive chan struct{}

	// turn is held by the one call that runs fn or commits. Who waits for it
	// is served in order of arrival.
	turn chan struct{}

	// What follows belongs to whoever holds the turn.

	batch  *batch
	limits limits
	disk   *disk
	wal    *wal
	broken error // why a commit failed; no more are tried
}

// batch is a set of updates that are committed together, or not at all.
type batch struct {
	snapshot *badger.Txn // all that was committed before
	writes   overlay
	joined   int           // updates whose writes are in it
	done     chan struct{} // closed once err is final
	err      error
}

// View runs fn with a snapshot. It waits for no turn, only, at times, for a
// commit that is under way, or for a Restore to exchange the data.
func (s *store) View(ctx context.Context, fn func(guest.Tx) error) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	if err := ctx.Err(); err != nil {
		return err
	}
	snapshot := s.db.NewTransaction(false)
	defer snapshot.Discard()
	return s.begin(snapshot).run(fn)
}

// Update runs fn in its turn and returns once its writes, and all it may have
// read, are on disk. It runs fn at most once. One update may write about
// 600 KB or 6,000 records. Calling Update inside fn waits for itself, until
// the inner ctx ends.
//
// ctx counts until fn was begun. From then on the caller gets the true
// outcome, however long the disk takes.
func (s *store) Update(ctx context.Context, fn func(guest.Tx) error) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	if err := s.takeTurn(ctx); err != nil {
		return err
	}
	b, leads, err := s.join(fn)
	if b == nil {
		return err
	}
	if leads {
		s.lead(b)
	}
	<-b.done
	return cmp.Or(b.err, err)
}

// Close waits for the calls under way and releases the directory. It ends a
// Backup, and a Restore that has not yet come to exchange the data.
func (s *store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return guest.ErrClosed
	}
	s.closed = true
	s.mu.Unlock()

	s.shut(guest.ErrClosed)
	s.archive <- struct{}{}
	<-s.whenIdle()
	var err error
	if s.db != nil {
		err = s.db.Close()
	}
	if err = errors.Join(err, s.lock.Close()); err != nil {
		return fmt.Errorf("closing store in %s: %w", s.dir, err)
	}
	return nil
}

// enter counts a call in, once no Restore holds it back. leave counts it out.
func (s *store) enter(ctx context.Context) error {
	for {
		held, err := s.tryEnter()
		if held == nil {
			return err
		}
		select {
		case <-held:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.closing.Done():
			return guest.ErrClosed
		}
	}
}

// tryEnter returns what to wait for, where there is anything.
func (s *store) tryEnter() (held chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, guest.ErrClosed
	case s.held != nil:
		return s.held, nil
	case s.lost != nil:
		return nil, s.lost
	}
	s.calls++
	return nil, nil
}

func (s *store) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls--
	if s.calls == 0 && s.idle != nil {
		close(s.idle)
		s.idle = nil
	}
}

// whenIdle is closed once no call is under way. Whoever asks has seen to it that
// none begins.
func (s *store) whenIdle() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	idle := s.idle
	if idle == nil {
		idle = make(chan struct{})
		s.idle = idle
	}
	if s.calls == 0 {
		close(idle)
		s.idle = nil
	}
	return idle
}

func (s *store) takeTurn(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := ctx.Err(); err != nil { // both were ready
		s.passTurn()
		return err
	}
	return nil
}

// passTurn also drops a batch nobody wrote to: its snapshot would keep old
// versions alive for as long as the store is idle.
func (s *store) passTurn() {
	if b := s.batch; b != nil && b.writes.empty() {
		b.snapshot.Discard()
		s.batch = nil
	}
	<-s.turn
}

// join runs fn on top of the open batch and passes the turn. It returns the
// batch whose commit settles the outcome, nil where none does, and whether the
// caller has to commit it.
//
// An fn that failed, or only read, waits for the batch too: it may have read
// what another update just wrote, and must not tell of it before it is true.
func (s *store) join(fn func(guest.Tx) error) (b *batch, leads bool, err error) {
	defer s.passTurn()
	if b, err = s.openBatch(); err != nil {
		return nil, false, err
	}
	tx := s.begin(b.snapshot, &overlay{}, &b.writes)
	if err = cmp.Or(tx.run(fn), tx.overfull); err != nil || tx.own().empty() {
		return b.unlessEmpty(), false, err
	}
	if !b.writes.fits(tx.own(), s.limits) {
		if b, err = s.nextBatch(); err != nil {
			return nil, false, err
		}
	}
	leads = b.writes.empty()
	b.writes.take(tx.own())
	b.joined++
	return b, leads, nil
}

func (b *batch) unlessEmpty() *batch {
	if b.writes.empty() {
		return nil
	}
	return b
}

// openBatch returns the open batch, or a new one where the disk has room.
func (s *store) openBatch() (*batch, error) {
	if s.broken != nil {
		return nil, s.broken
	}
	if s.batch != nil {
		return s.batch, nil
	}
	if err := s.disk.room(); err != nil {
		return nil, err
	}
	s.batch = &batch{snapshot: s.db.NewTransaction(false), done: make(chan struct{})}
	return s.batch, nil
}

// nextBatch commits the open batch, which is full, and opens another. What was
// read from the one is the state the other begins with.
func (s *store) nextBatch() (*batch, error) {
	full := s.batch
	s.commit(full)
	if full.err != nil {
		return nil, full.err
	}
	return s.openBatch()
}

// lead commits b, unless it became full and was committed by another. It lets
// others go first for as long as any join: those whom the last commit woke need
// a moment to come back, and each who rides along saves a sync.
func (s *store) lead(b *batch) {
	for joined := 1; ; {
		runtime.Gosched()
		s.turn <- struct{}{}
		if s.batch != b || b.joined == joined {
			break
		}
		joined = b.joined
		s.passTurn()
	}
	defer s.passTurn()
	if s.batch == b {
		s.commit(b)
	}
}

// commit makes b durable and answers all who wait for it. After a failure the
// state of the disk is unknown: a kernel that could not write a page may drop
// it and report the next sync as done. So nothing is written any more until
// the store is opened anew.
func (s *store) commit(b *batch) {
	b.err = errors.New("committing updates did not end")
	defer func() {
		if b.err != nil {
			s.broken = fmt.Errorf("writing to the store in %s failed, restart Caddy once the disk is well: %w", s.dir, b.err)
			b.err = s.broken
			s.log.Error("store takes no more writes", slog.Any("error", s.broken))
		}
		s.batch = nil
		close(b.done)
	}()
	b.snapshot.Discard()
	b.err = s.write(&b.writes)
}

func (s *store) write(o *overlay) error {
	txn := s.db.NewTransaction(true)
	defer txn.Discard()
	now := s.now()
	for key, record := range o.records {
		if err := set(txn, key, record, now); err != nil {
			return fmt.Errorf("collecting updates: %w", err)
		}
	}
	if err := txn.Commit(); err != nil {
		return fmt.Errorf("committing updates: %w", err)
	}
	return s.follow()
}

// follow makes a log that the commit began as durable as what is in it.
func (s *store) follow() error {
	began, err := s.wal.advance()
	if began {
		s.disk.measure()
	}
	return err
}
