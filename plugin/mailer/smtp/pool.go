package smtp

import (
	"context"
	"sync"
	"time"
)

const (
	// mostConnections are open at once; servers count them.
	mostConnections = 4
	// mostMails go over one connection.
	mostMails = 50
	// idleTime is how long a connection waits for the next mail: servers hang
	// up after some minutes (RFC 5321 section 4.5.3.2.7), some much earlier.
	idleTime = 30 * time.Second
)

// pool keeps connections for the next mail. It is safe for concurrent use.
type pool struct {
	dial  func(ctx context.Context, helo string) (*conversation, error)
	slots chan struct{}
	idle  time.Duration

	mu     sync.Mutex
	kept   []*kept
	closed bool
}

// kept is an idle connection and what will end it.
type kept struct {
	*conversation
	end *time.Timer
}

func newPool(dial func(ctx context.Context, helo string) (*conversation, error)) *pool {
	return &pool{dial: dial, slots: make(chan struct{}, mostConnections), idle: idleTime}
}

// deliver sends a mail over a connection that is open, or else over a new one.
// An open one may have died unnoticed; then a new one is tried, once, but only
// as long as the server can't have accepted the mail.
func (p *pool) deliver(ctx context.Context, l letter) error {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return fail(ctx, "waiting for one of the connections", ctx.Err())
	}
	if c := p.take(); c != nil {
		err := c.deliver(ctx, l)
		p.put(c)
		if !c.wasDead(ctx, err) {
			return err
		}
	}
	c, err := p.dial(ctx, domainOf(l.from))
	if err != nil {
		return err
	}
	err = c.deliver(ctx, l)
	p.put(c)
	return err
}

// wasDead reports whether a delivery failed for nothing but the connection's
// age.
func (c *conversation) wasDead(ctx context.Context, err error) bool {
	return err != nil && !c.sent && ctx.Err() == nil && !isRefusal(err)
}

// take returns the connection that was used last, or nil.
func (p *pool) take() *conversation {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.kept) == 0 {
		return nil
	}
	last := p.kept[len(p.kept)-1]
	p.kept = p.kept[:len(p.kept)-1]
	last.end.Stop()
	return last.conversation
}

// put keeps a connection for a while, or closes it.
func (p *pool) put(c *conversation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || c.broken || c.over {
		go c.quit() // nobody waits for a server to say goodbye
		return
	}
	k := &kept{conversation: c}
	k.end = time.AfterFunc(p.idle, func() { p.drop(k) })
	p.kept = append(p.kept, k)
}

// drop closes a connection unless somebody took it.
func (p *pool) drop(k *kept) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, other := range p.kept {
		if other == k {
			p.kept = append(p.kept[:i], p.kept[i+1:]...)
			go k.quit()
			return
		}
	}
}

// close closes what is idle, and what is in use once it no longer is.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, k := range p.kept {
		k.end.Stop()
		go k.quit()
	}
	p.kept = nil
}
