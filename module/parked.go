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
	held  int      // bytes of all that is parked
}

type parkedAnswer struct {
	provider string
	answer   url.Values
	until    time.Time
	size     int // bytes
}

const (
	parkFor   = time.Minute
	maxParked = 1024
	// maxHeld bounds all of them, in bytes. What providers post is mostly below
	// 2 KB; where strangers post more, the oldest goes sooner.
	maxHeld = 8 << 20
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
	size := sizeOf(answer)
	for len(p.order) > 0 && (len(p.order) >= maxParked || p.held+size > maxHeld || p.isOver(p.order[0], now)) {
		p.drop(p.order[0])
		p.order = p.order[1:]
	}
	p.byKey[handle] = parkedAnswer{provider: provider, answer: answer, until: now.Add(parkFor), size: size}
	p.order = append(p.order, handle)
	p.held += size
	return handle
}

func sizeOf(answer url.Values) (n int) {
	for name, values := range answer {
		n += len(name)
		for _, value := range values {
			n += len(value)
		}
	}
	return n
}

func (p *parked) drop(handle string) {
	p.held -= p.byKey[handle].size
	delete(p.byKey, handle)
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
	p.drop(handle)
	if !found || answer.provider != provider || now.After(answer.until) {
		return nil, false
	}
	return answer.answer, true
}
