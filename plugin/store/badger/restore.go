package badger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

// patience is how long a Restore waits for the calls under way, while it holds
// others back: one that does not end must not hold up everybody.
const patience = time.Minute

// Restore replaces the records with those of a backup. It reads it into a
// directory within the store's own while others go on with the data of before;
// only for exchanging the two, which takes about as long as opening the store,
// it holds everybody back. What was replaced stays in the directory
// `before-restore`, until the next Restore.
//
// It waits for a Backup or Restore under way, and looks at ctx between records:
// an r that blocks holds it up, and Close with it. Once it began to exchange the
// data, ctx no longer counts. It gives up where a call under way does not end
// within a minute: one that waits, within its function, for another call would
// wait for ever.
//
// Where the disk has not room for both it returns guest.ErrFull.
func (s *store) Restore(ctx context.Context, r io.Reader, prepare func(guest.Store) error) error {
	ctx, leave, err := s.archiving(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if err := s.files.tidy(); err != nil {
		return fmt.Errorf("restoring the store: %w", err)
	}
	defer os.RemoveAll(s.files.path(restoring))
	count, err := s.unpack(ctx, r, prepare)
	if err != nil {
		return fmt.Errorf("restoring the store: %w", err)
	}
	if err := s.exchange(ctx); err != nil {
		return fmt.Errorf("restoring the store: %w", err)
	}
	s.log.Info("store restored from a backup", slog.Uint64("records", count), slog.String("replaced_data", s.files.path(beforeRestore)))
	return nil
}

// archiving waits for a Backup or Restore under way, then keeps others out until
// leave. The context it returns ends with Close, too.
func (s *store) archiving(ctx context.Context) (_ context.Context, leave func(), err error) {
	select {
	case s.archive <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	case <-s.closing.Done():
		return nil, nil, guest.ErrClosed
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.closing, func() { cancel(guest.ErrClosed) })
	leave = func() {
		stop()
		cancel(nil)
		<-s.archive
	}
	if err := s.usable(ctx); err != nil {
		leave()
		return nil, nil, err
	}
	return ctx, leave, nil
}

func (s *store) usable(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return guest.ErrClosed
	case s.lost != nil:
		return s.lost
	case ctx.Err() != nil:
		return context.Cause(ctx)
	default:
		return nil
	}
}

// unpack makes a store of a backup, beside the one in use, and returns the
// number of its records. When it returns nil, the store is closed and on disk.
func (s *store) unpack(ctx context.Context, r io.Reader, prepare func(guest.Store) error) (count uint64, err error) {
	backup := newUnpacker(r)
	size, err := backup.header()
	if err != nil {
		return 0, err
	}
	fresh, err := s.openBeside(ctx, size)
	if err != nil {
		return 0, err
	}
	defer func() { _ = fresh.Close() }() // also after a panic in prepare
	if err := fresh.load(ctx, backup); err != nil {
		return 0, err
	}
	if err := prepare(fresh); err != nil {
		return 0, fmt.Errorf("preparing the restored data: %w", err)
	}
	if err := fresh.Close(); err != nil {
		return 0, err
	}
	return backup.count, syncFiles(fresh.dir)
}

// openBeside opens an empty store for about size bytes. What the store in use
// keeps in reserve stays its own.
func (s *store) openBeside(ctx context.Context, size int64) (*store, error) {
	reserve, err := s.reserve(ctx)
	if err != nil {
		return nil, err
	}
	free := func(dir string) (int64, error) {
		n, err := s.disk.free(dir)
		return n - reserve, err
	}
	left, err := free(s.dir)
	if err != nil {
		return nil, fmt.Errorf("asking for free space in %s: %w", s.dir, err)
	}
	if left-reserveBase < size {
		return nil, fmt.Errorf("%d MiB are needed beside the data of now in %s, %d are free: %w", size>>20, s.dir, max(0, left-reserveBase)>>20, guest.ErrFull)
	}
	fresh, err := open(s.files.path(restoring), guest.Env{Now: s.now, Log: s.log}, free)
	if err != nil {
		return nil, err
	}
	return fresh.(*store), nil
}

// reserve is what the store keeps free on disk.
func (s *store) reserve(ctx context.Context) (int64, error) {
	if err := s.takeTurn(ctx); err != nil {
		return 0, context.Cause(ctx)
	}
	defer s.passTurn()
	return max(s.disk.reserve, reserveBase), nil
}

// load writes all records of a backup into a store that nobody else uses.
func (s *store) load(ctx context.Context, backup *unpacker) error {
	var part overlay
	for {
		key, record, err := backup.next()
		if err != nil {
			return err
		}
		if key == nil {
			break
		}
		if !part.hasRoom(string(key), record, s.limits) {
			if err := s.loadPart(ctx, &part); err != nil {
				return err
			}
			part = overlay{}
		}
		part.put(string(key), record)
	}
	if err := s.loadPart(ctx, &part); err != nil {
		return err
	}
	return backup.end()
}

func (s *store) loadPart(ctx context.Context, part *overlay) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := s.disk.room(); err != nil {
		return err
	}
	return s.write(part)
}

// exchange puts what was unpacked in the place of the store's data, while
// nobody uses either. After an error the store is open again with the old data,
// or else lost until the next start.
func (s *store) exchange(ctx context.Context) error {
	if err := s.hold(ctx); err != nil {
		return err
	}
	defer s.release()
	if err := s.disk.room(); err != nil { // to open a store in
		return err
	}
	if err := s.db.Close(); err != nil {
		return errors.Join(fmt.Errorf("closing the data of before: %w", err), s.reopen())
	}
	if err := s.files.decide(); err != nil {
		return errors.Join(err, s.reopen())
	}
	return s.reopen()
}

// hold keeps calls back until release, and waits for those under way.
func (s *store) hold(ctx context.Context) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s.mu.Lock()
	s.held = make(chan struct{})
	s.mu.Unlock()
	select {
	case <-s.whenIdle():
		return nil
	case <-ctx.Done():
		s.release()
		return fmt.Errorf("waiting for the calls under way: %w", context.Cause(ctx))
	}
}

func (s *store) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.held)
	s.held = nil
}

// reopen opens what lies in the directory, once it has ended an exchange that was
// decided. Calls are held back.
func (s *store) reopen() error {
	fresh, err := openLocked(s.files, guest.Env{Now: s.now, Log: s.log}, s.disk.free)
	if err != nil {
		s.lose(err)
		return err
	}
	s.db, s.limits, s.disk, s.wal, s.batch, s.broken = fresh.db, fresh.limits, fresh.disk, fresh.wal, nil, nil
	return nil
}

func (s *store) lose(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.db = nil
	s.lost = fmt.Errorf("the store in %s did not open again after a restore, restart Caddy once the disk is well: %w", s.dir, err)
	s.log.Error("store is lost until the next start", slog.Any("error", s.lost))
}

var _ guest.Archive = (*store)(nil)
