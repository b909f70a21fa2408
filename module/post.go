package module

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/mail"
)

// post is the way out for mail: one mailer, and the queue before it. The queue
// begins with the first mail, so that checking a config starts nothing.
type post struct {
	mailer guest.Mailer
	log    *slog.Logger

	mu     sync.Mutex
	queue  *mail.Queue
	closed bool
}

// How long mail that waits is still tried once its config is gone: at the end
// of the process, and after a reload, behind whose back it goes on.
const (
	postAtExit   = 3 * time.Second
	postAtReload = 10 * time.Minute
)

// send hands a message over, and reports whether there was room for it. It
// does not wait for the mail server.
func (p *post) send(e mail.Entry) bool {
	taken := p.enqueue(e)
	if !taken {
		mails.WithLabelValues(noRoom).Inc()
	}
	return taken
}

func (p *post) enqueue(e mail.Entry) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	began := time.Now()
	e.OnDone = func(o mail.Outcome) { countMail(o, time.Since(began)) }
	if p.closed {
		return !caddy.Exiting() && p.sendLate(e)
	}
	if p.queue == nil {
		p.queue = mail.NewQueue(p.mailer.Send, time.Now, p.log)
	}
	return p.queue.Enqueue(e)
}

// sendLate sends, by a queue of its own, what a request brings that a reload has
// overtaken: Caddy does not wait for those.
func (p *post) sendLate(e mail.Entry) bool {
	queue := mail.NewQueue(p.mailer.Send, time.Now, p.log)
	taken := queue.Enqueue(e)
	go drain(queue, postAtReload)
	return taken
}

// close lets go of the queue. A reload does not wait for a mail server.
func (p *post) close() {
	p.mu.Lock()
	queue := p.queue
	p.queue, p.closed = nil, true
	p.mu.Unlock()
	switch {
	case queue == nil:
	case caddy.Exiting():
		drain(queue, postAtExit)
	default:
		go drain(queue, postAtReload)
	}
}

func drain(queue *mail.Queue, patience time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	queue.Close(ctx)
}
