package main

import (
	"slices"
	"sync"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

// keptMails is how many a mailbox holds; the oldest makes room.
const keptMails = 100

// mail is one that came, with its number: the first is 1, none comes twice.
type mail struct {
	guest.Message
	Number int
	At     time.Time
}

// mailbox is where all mail of the demo arrives, whoever it is for. It is in
// memory alone and safe for concurrent use.
type mailbox struct {
	mu      sync.Mutex
	last    int
	mails   []mail // the newest first
	changed chan struct{}
}

func newMailbox() *mailbox { return &mailbox{changed: make(chan struct{})} }

// put takes one mail in and wakes whoever waits for it.
func (b *mailbox) put(m guest.Message, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	b.mails = slices.Insert(b.mails, 0, mail{Message: m, Number: b.last, At: at})
	b.mails = b.mails[:min(len(b.mails), keptMails)]
	close(b.changed)
	b.changed = make(chan struct{})
}

// all are the mails, the newest first.
func (b *mailbox) all() []mail {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.mails)
}

// state is the number of the last mail, and a channel that closes when the next
// one comes.
func (b *mailbox) state() (last int, changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last, b.changed
}
