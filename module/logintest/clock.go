package logintest

import (
	"sync"
	"time"
)

// Clock is a clock that stands still until it is told to go on. The zero value
// stands at the moment it is first read. It is safe for concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// Now is the time the clock shows.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.read()
}

// Advance moves the clock on by d, or back where d is negative.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.read().Add(d)
}

// Set moves the clock to t.
func (c *Clock) Set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

// read drops the monotonic reading: a test that sets the clock back must see
// it go back.
func (c *Clock) read() time.Time {
	if c.now.IsZero() {
		c.now = time.Now().Round(0)
	}
	return c.now
}
