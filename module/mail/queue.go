// Package mail is the outgoing queue: what is to be sent waits here, and what a
// mail server can't take now is tried again for as long as it is of use.
// Nobody waits for it, and no server, dead, slow or hostile, makes it grow.
package mail

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

const (
	// most and mostBytes are what may wait, in the queue and for another try.
	most      = 1024
	mostBytes = 16 << 20
	// workers send at once.
	workers = 4
	// longestTry is how long one call of the mailer may take: a guest that
	// forgets its own timeout holds no worker for ever.
	longestTry = time.Minute
	// longestWait ends the doubling of pauses, firstWait begins it.
	firstWait   = time.Second
	longestWait = time.Minute
	// longestLife is what an entry's expiry is cut to: by the clock on the
	// wall it could come to stay, once that is set back.
	longestLife = time.Hour
)

// Send hands one message to a mail server. It is a guest.Mailer's.
type Send func(ctx context.Context, m guest.Message) error

// Entry is a message and until when it is of use.
type Entry struct {
	guest.Message

	// Expires is when it no longer is: a code's own expiry. An hour at most.
	Expires time.Time

	// OnDone, where it is not nil, is told once what became of the message, by
	// a goroutine of the queue's. It must not block.
	OnDone func(Outcome)
}

// Outcome is what became of a message. It is a metric label: the set is closed.
type Outcome string

const (
	// Sent: the server accepted it.
	Sent Outcome = "sent"
	// Refused: it never will, or the mailer is broken.
	Refused Outcome = "refused"
	// Expired: it did not in time.
	Expired Outcome = "expired"
	// Dropped: the queue was closed first.
	Dropped Outcome = "dropped"
)

// Queue holds at most 1,024 messages of 16 MiB in all. It is safe for
// concurrent use.
type Queue struct {
	send Send
	now  func() time.Time
	log  *slog.Logger

	ctx     context.Context // of all calls of send
	cancel  context.CancelFunc
	ready   chan *job // holds `most`: giving to it never blocks
	stop    chan struct{}
	stopped sync.Once

	mu      sync.Mutex
	jobs    map[*job]struct{} // all that are not done
	bytes   int
	closing bool
	drained chan struct{} // closed once closing, and no job is left
	warned  time.Time
}

// job is an entry on its way.
type job struct {
	Entry
	end   time.Time // of its life, also by the clock that nobody sets
	tries atomic.Int64
	wait  *time.Timer // until the next try, or nil
}

// NewQueue starts a queue, which ends with Close.
func NewQueue(send Send, now func() time.Time, log *slog.Logger) *Queue {
	q := &Queue{
		send: send, now: now, log: log,
		ready: make(chan *job, most), stop: make(chan struct{}), drained: make(chan struct{}),
		jobs: map[*job]struct{}{},
	}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	for range workers {
		go q.work()
	}
	return q
}

// Enqueue takes a message, and reports false where there is no room for it or
// the queue is closed: then it never was there. It does not block.
func (q *Queue) Enqueue(e Entry) bool {
	life := min(e.Expires.Sub(q.now()), longestLife)
	j := &job{Entry: e, end: time.Now().Add(life)}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closing || len(q.jobs) >= most || q.bytes+j.size() > mostBytes {
		return false
	}
	q.jobs[j] = struct{}{}
	q.bytes += j.size()
	q.ready <- j
	return true
}

// size is what j holds in memory, or near enough.
func (j *job) size() int {
	return len(j.To) + len(j.From) + len(j.Subject) + len(j.Text) + len(j.HTML) + 512
}

// Len is how many messages wait or are being sent.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.jobs)
}

// Close takes no more messages, tries at once what waits for another try, and
// goes on until all is done or ctx ends. It then drops the rest, ends the calls
// under way, and does not wait for a mailer that won't hear. ctx decides how
// much is lost: seconds where the program ends, minutes where a new queue has
// taken over. A second Close returns with the first.
func (q *Queue) Close(ctx context.Context) {
	q.hurry()
	select {
	case <-q.drained:
	case <-ctx.Done():
	}
	q.cancel()
	q.stopped.Do(func() { close(q.stop) })
	q.drop()
}

// hurry has what waits tried now.
func (q *Queue) hurry() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closing {
		return
	}
	q.closing = true
	if len(q.jobs) == 0 {
		close(q.drained)
	}
	for j := range q.jobs {
		if j.wait != nil && j.wait.Stop() {
			j.wait = nil
			q.ready <- j
		}
	}
}

// drop ends what is left.
func (q *Queue) drop() {
	q.mu.Lock()
	var left []*job
	for j := range q.jobs {
		left = append(left, j)
	}
	q.mu.Unlock()
	for _, j := range left {
		q.done(j, Dropped, context.Canceled)
	}
}

func (q *Queue) work() {
	for {
		select {
		case <-q.stop:
			return
		default: // a full queue must not keep it from stopping
		}
		select {
		case <-q.stop:
			return
		case j := <-q.ready:
			q.try(j)
		}
	}
}

// try sends j once, if it is of use still.
func (q *Queue) try(j *job) {
	if q.isPast(j, 0) {
		q.done(j, Expired, errTooLate)
		return
	}
	tries := j.tries.Add(1)
	err := q.call(j.Message)
	switch {
	case err == nil:
		q.done(j, Sent, nil)
	case q.ctx.Err() != nil:
		q.done(j, Dropped, err)
	case !errors.Is(err, guest.ErrTemporary):
		q.done(j, Refused, err)
	case q.isPast(j, pause(tries)):
		q.done(j, Expired, err)
	default:
		q.later(j, err)
	}
}

var errTooLate = errors.New("its turn came too late")

// isPast reports whether j is of no use in a while. Both clocks are asked: the
// one that says when a code expires, and the one that nobody can set back.
func (q *Queue) isPast(j *job, in time.Duration) bool {
	return !q.now().Add(in).Before(j.Expires) || !time.Now().Add(in).Before(j.end)
}

// call calls the mailer. Its panic is an error, without its value: that may
// hold anything.
func (q *Queue) call(m guest.Message) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the mailer panicked with a %T", v)
		}
	}()
	ctx, cancel := context.WithTimeout(q.ctx, longestTry)
	defer cancel()
	return q.send(ctx, m)
}

// later has j tried again after a pause.
func (q *Queue) later(j *job, err error) {
	q.warn(j, err)
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, left := q.jobs[j]; !left {
		return
	}
	j.wait = time.AfterFunc(pause(j.tries.Load()), func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		j.wait = nil
		q.ready <- j
	})
}

// pause is how long to wait after so many tries.
func pause(tries int64) time.Duration {
	return min(firstWait<<min(tries-1, 10), longestWait)
}

// done is the one end of every job.
func (q *Queue) done(j *job, o Outcome, err error) {
	if !q.forget(j) {
		return
	}
	if err != nil {
		q.log.Error("a mail was not sent", "outcome", o, "tries", j.tries.Load(), "error", q.plain(j, err))
	}
	if j.OnDone == nil {
		return
	}
	defer func() {
		if v := recover(); v != nil {
			q.log.Error("telling what became of a mail panicked", "type", fmt.Sprintf("%T", v))
		}
	}()
	j.OnDone(o)
}

// forget takes j out, and reports whether it still was in.
func (q *Queue) forget(j *job) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, left := q.jobs[j]; !left {
		return false
	}
	if j.wait != nil {
		j.wait.Stop()
	}
	delete(q.jobs, j)
	q.bytes -= j.size()
	if q.closing && len(q.jobs) == 0 {
		close(q.drained)
	}
	return true
}
