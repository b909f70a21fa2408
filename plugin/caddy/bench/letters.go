package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-login/caddy-login/module/guest"
)

func init() {
	caddy.RegisterModule(new(mailer))
}

// mailer hands mail over in memory, as `mail bench_box`: no mail server's part
// hides in the cost of a code.
type mailer struct{}

// CaddyModule returns the module's name in Caddy.
func (*mailer) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "login.mailers.bench_box", New: func() caddy.Module { return new(mailer) }}
}

// UnmarshalCaddyfile reads
//
//	bench_box
func (*mailer) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the name
	if d.NextArg() || d.NextBlock(d.Nesting()) {
		return d.Err("bench_box takes nothing: write mail bench_box")
	}
	return nil
}

// Open needs nothing.
func (*mailer) Open(guest.Env) error { return nil }

// Send delivers at once.
func (*mailer) Send(_ context.Context, m guest.Message) error {
	code := codeOf(m.Text)
	if code == "" {
		return errors.New("the mail has no code")
	}
	letters.put(m.To, code)
	return nil
}

// codeOf is the code at the end of a mail: `@host #code`, as browsers read it.
func codeOf(text string) string {
	_, last, found := strings.Cut(text[strings.LastIndexByte(text, '\n')+1:], " #")
	if !found {
		return ""
	}
	return last
}

// letters is where all mail of this process arrives.
var letters = newBox()

// box holds the last code to each address until somebody fetches them. It is
// safe for concurrent use.
type box struct {
	mu    sync.Mutex
	codes map[string]string
	came  chan struct{} // of one waiter
}

// kept bounds a box: nobody fetches what a flood has sent, and then any code
// makes room. It is more than ask in one turn.
const kept = 256

func newBox() *box { return &box{codes: make(map[string]string), came: make(chan struct{}, 1)} }

func (b *box) put(address, code string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, held := b.codes[address]; !held {
		b.makeRoom()
	}
	b.codes[address] = code
	select {
	case b.came <- struct{}{}:
	default: // it knows
	}
}

// makeRoom drops any code where there are as many as may be.
func (b *box) makeRoom() {
	for address := range b.codes {
		if len(b.codes) < kept {
			return
		}
		delete(b.codes, address)
	}
}

// fetch empties the box once it holds n codes: at once, or as they come within
// 10 s.
func (b *box) fetch(n int) (map[string]string, error) {
	timeout := time.After(10 * time.Second)
	for {
		codes := b.take(n)
		if codes != nil {
			return codes, nil
		}
		select {
		case <-b.came:
		case <-timeout:
			return nil, fmt.Errorf("%d mails have not come", n)
		}
	}
}

// take is nil where there are fewer.
func (b *box) take(n int) map[string]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.codes) < n {
		return nil
	}
	codes := maps.Clone(b.codes)
	clear(b.codes)
	return codes
}

// Interface guards
var (
	_ caddy.Module          = (*mailer)(nil)
	_ caddyfile.Unmarshaler = (*mailer)(nil)
	_ guest.Mailer          = (*mailer)(nil)
)
