package token

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/caddy-login/caddy-login/module/session"
)

const (
	shards = 16
	// perShard bounds the cache: 16 × 1,024 tokens, some 4 MB when full. Beyond
	// that a signature is now and then checked again.
	perShard = 1024
)

// name is what the cache knows a token by: a cryptographic hash, since two
// tokens of one name would be two people in one session.
type name [sha256.Size]byte

func nameOf(credential string) (n name) {
	var onStack [maxAccess]byte
	if len(credential) > maxAccess {
		return n // of no token
	}
	return sha256.Sum256(onStack[:copy(onStack[:], credential)])
}

// entry is a token whose signature was found right. The session is asked each
// time whether it is still at hand: what is forgotten there is forgotten here.
type entry struct {
	site            Site
	held            *session.AtHand
	issued, expires int64 // in Unix seconds
}

func (e *entry) goodAt(now time.Time) bool {
	at := now.Unix()
	return at < e.expires && e.issued <= at+int64(setBack/time.Second) && e.expires-e.issued <= int64(AccessLife/time.Second)
}

// cache keeps tokens that were good at hand. No other ever gets in.
type cache [shards]struct {
	sync.RWMutex
	m map[name]*entry
}

func (c *cache) init() {
	for i := range c {
		c[i].m = make(map[name]*entry)
	}
}

func (c *cache) find(n name) *entry {
	s := &c[n[0]%shards]
	s.RLock()
	defer s.RUnlock()
	return s.m[n]
}

func (c *cache) keep(n name, e *entry) {
	s := &c[n[0]%shards]
	s.Lock()
	defer s.Unlock()
	if len(s.m) >= perShard {
		for any := range s.m { // Go's maps begin at a random place
			delete(s.m, any)
			break
		}
	}
	s.m[n] = e
}

func (c *cache) forget(n name) {
	s := &c[n[0]%shards]
	s.Lock()
	defer s.Unlock()
	delete(s.m, n)
}
