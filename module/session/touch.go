package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

// touched collects when sessions were last used, to be written in batches:
// a request must not wait for the disk to say that it came.
type touched struct {
	sync.Mutex
	m map[Key]time.Time
}

// maxTouched bounds what waits to be written. What does not fit is written a
// minute later.
const maxTouched = shards * perShard

func (s *Sessions) touch(held *AtHand, now time.Time) {
	seen, at := held.seen.Load(), now.UnixNano()
	if at-seen < min(int64(touchEvery), held.idle/4) || !held.seen.CompareAndSwap(seen, at) {
		return
	}
	s.touched.Lock()
	defer s.touched.Unlock()
	if s.touched.m == nil {
		s.touched.m = make(map[Key]time.Time)
	}
	if len(s.touched.m) < maxTouched {
		s.touched.m[held.key] = now
	}
}

// at is the last use of a session that is not yet written, or zero.
func (t *touched) at(key Key) time.Time {
	t.Lock()
	defer t.Unlock()
	return t.m[key]
}

func (t *touched) take() map[Key]time.Time {
	t.Lock()
	defer t.Unlock()
	taken := t.m
	t.m = nil
	return taken
}

// touchChunk is how many sessions one transaction touches.
const touchChunk = 512

// Flush writes down when sessions were last used. What a crash loses is that
// they were used within the last minutes.
func (s *Sessions) Flush(ctx context.Context) error {
	chunk := make(map[Key]time.Time, touchChunk)
	for key, at := range s.touched.take() {
		chunk[key] = at
		if len(chunk) == touchChunk {
			if err := s.flush(ctx, chunk); err != nil {
				return err
			}
			clear(chunk)
		}
	}
	return s.flush(ctx, chunk)
}

func (s *Sessions) flush(ctx context.Context, chunk map[Key]time.Time) error {
	if len(chunk) == 0 {
		return nil
	}
	err := s.store.Update(ctx, func(tx guest.Tx) error {
		for key, at := range chunk {
			if err := s.saw(tx, key, at); err != nil && !errors.Is(err, guest.ErrNotFound) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("writing last use: %w", err)
	}
	return nil
}

// saw leaves an ended session as it is: being used must not revive it.
func (s *Sessions) saw(tx guest.Tx, key Key, at time.Time) error {
	var session Session
	if err := readSession(tx, key, &session); err != nil {
		return err
	}
	if !session.Ended.IsZero() || !at.After(session.Seen) {
		return nil
	}
	session.Seen = at.UTC()
	return s.write(tx, &session)
}
