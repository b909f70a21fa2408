package module

import (
	"crypto/rand"
	"net/url"
	"sync"
	"time"
)

// parked keeps what a provider posted while the browser comes round by a GET
// of our own: a cross-site POST carries no Lax cookie, so only then do we know
// whose answer it is. A handle works once, for a minute.
//
// It lies in memory, bounded: who restarts Caddy in that minute asks one
// visitor to click again.
type parked struct {
	mu    sync.Mutex
	byKey map[string]parkedAnswer
	order []string // oldest first
}

type parkedAnswer struct {
	provider string
	answer   url.Values
	until    time.Time
}

const (
	parkFor   = time.Minute
	maxParked = 1024
	// maxAnswer bounds one: no provider's form is that long.
	maxAnswer = 16 << 10
	maxFields = 32
)

func (p *parked) park(provider string, answer url.Values, now time.Time) (handle string) {
	handle = rand.Text()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byKey == nil {
		p.byKey = make(map[string]parkedAnswer)
	}
	for len(p.order) > 0 && (len(p.order) >= maxParked || p.isOver(p.order[0], now)) {
		delete(p.byKey, p.order[0])
		p.order = p.order[1:]
	}
	p.byKey[handle] = parkedAnswer{provider: provider, answer: answer, until: now.Add(parkFor)}
	p.order = append(p.order, handle)
	return handle
}

// isOver reports whether a handle has expired or was taken.
func (p *parked) isOver(handle string, now time.Time) bool {
	answer, found := p.byKey[handle]
	return !found || now.After(answer.until)
}

// take returns what was parked for this provider, once.
func (p *parked) take(provider, handle string, now time.Time) (url.Values, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	answer, found := p.byKey[handle]
	delete(p.byKey, handle)
	if !found || answer.provider != provider || now.After(answer.until) {
		return nil, false
	}
	return answer.answer, true
}
