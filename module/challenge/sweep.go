package challenge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/record"
)

const (
	// linger is how long the store shows a record that is over, for Sweep to
	// find it.
	linger = time.Hour
	// perSweep is how many records of a kind one Sweep looks at.
	perSweep = 4096
	// perDelete is how many go in one transaction: others wait for it.
	perDelete = 256
)

// sweeper is where the next Sweep goes on, by kind.
type sweeper struct {
	mu   sync.Mutex
	next map[string][]byte
}

// Sweep removes records that are over, some of them: call it every minute. Left
// to the store's own expiry they would be forgotten late, and a long flood
// would fill the disk. It takes nothing away that a rule still needs: what is
// not there has expired.
func (c *Challenges) Sweep(ctx context.Context) error {
	c.sweeper.mu.Lock()
	defer c.sweeper.mu.Unlock()
	for _, k := range []record.Kind{kind, budgetKind} {
		if err := c.sweep(ctx, k); err != nil {
			return fmt.Errorf("sweeping %ss: %w", k.Name, err)
		}
	}
	return nil
}

func (c *Challenges) sweep(ctx context.Context, k record.Kind) error {
	over, next, err := c.findOver(ctx, k, c.sweeper.next[k.Name])
	if err != nil {
		return err
	}
	for len(over) > 0 {
		n := min(len(over), perDelete)
		if err := c.remove(ctx, k, over[:n]); err != nil {
			return err
		}
		over = over[n:]
	}
	if c.sweeper.next == nil {
		c.sweeper.next = make(map[string][]byte)
	}
	c.sweeper.next[k.Name] = next
	return nil
}

// findOver looks at some records, and returns those that are over and where to
// go on; nil: at the beginning.
func (c *Challenges) findOver(ctx context.Context, k record.Kind, from []byte) (over [][]byte, next []byte, err error) {
	now, seen := c.now(), 0
	err = c.store.View(ctx, func(tx guest.Tx) error {
		over, next, seen = nil, nil, 0
		return tx.Scan(k.Key(""), from, perSweep+1, func(key, value []byte) bool {
			if seen++; seen > perSweep {
				next = bytes.Clone(key)
				return false
			}
			if isOver(k, value, now) {
				over = append(over, bytes.Clone(key))
			}
			return true
		})
	})
	return over, next, err
}

// isOver leaves alone what it can't read, such as a newer program's.
func isOver(k record.Kind, value []byte, now time.Time) bool {
	var r struct {
		// Expires is that of both kinds.
		Expires time.Time `json:"expires"`
	}
	return k.Decode(value, &r) == nil && now.After(r.Expires)
}

// remove looks again: a budget may have been used since.
func (c *Challenges) remove(ctx context.Context, k record.Kind, keys [][]byte) error {
	now := c.now()
	return c.store.Update(ctx, func(tx guest.Tx) error {
		for _, key := range keys {
			value, err := tx.Get(key)
			if errors.Is(err, guest.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			if !isOver(k, value, now) {
				continue
			}
			if err := tx.Delete(key); err != nil {
				return err
			}
		}
		return nil
	})
}
