package session

import (
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"time"
)

type hash [sha256.Size]byte

// cookieHash is what the cache knows a cookie by. It is a cryptographic hash:
// two cookies with one hash would be two people in one session.
func cookieHash(cookie string) hash {
	var onStack [maxCookie]byte
	if len(cookie) > len(onStack) {
		return sha256.Sum256([]byte(cookie))
	}
	return sha256.Sum256(onStack[:copy(onStack[:], cookie)])
}

// maxCookie is more than any cookie of ours.
const maxCookie = 256

const (
	shards = 64
	// perShard bounds the cache: 64 × 1,024 sessions, with what one
	// site keeps of each some 200 MB when full.
	// Beyond that a session in use is now and then read from the store again.
	perShard = 1024
)

// cache keeps sessions at hand by their cookie, and finds them by their key to
// forget them.
type cache struct {
	byCookie [shards]shard[hash, *AtHand]
	byKey    [shards]shard[Key, hash]
	// epoch counts forgettings. What was read from the store before one is not
	// kept after it: it may be what was to be forgotten.
	epoch atomic.Uint64
}

type shard[K comparable, V any] struct {
	sync.RWMutex
	m map[K]V
	_ [64]byte // keeps two shards' locks off one cache line
}

func (c *cache) init() {
	for i := range shards {
		c.byCookie[i].m = make(map[hash]*AtHand)
		c.byKey[i].m = make(map[Key]hash)
	}
}

func (c *cache) find(h hash) *AtHand {
	s := &c.byCookie[h[0]%shards]
	s.RLock()
	held := s.m[h]
	s.RUnlock()
	return held
}

// keep puts a session at hand, unless something was forgotten since epoch: then it
// serves this request only. Where another request was faster, its is returned:
// one session, one AtHand.
//
// The index is written before the epoch is read, and forget counts before it
// looks: so either forget finds the session, or keep sees that it must not.
// Meanwhile the shard's lock keeps everybody from finding it.
func (c *cache) keep(held *AtHand, epoch uint64) *AtHand {
	h := held.hash
	s := &c.byCookie[h[0]%shards]
	s.Lock()
	defer s.Unlock()
	if other := s.m[h]; other != nil {
		return other
	}
	c.index(held.key, h)
	if c.epoch.Load() != epoch {
		c.unindex(held.key)
		return held
	}
	if len(s.m) >= perShard {
		c.evict(s)
	}
	s.m[h] = held
	return held
}

// evict drops any one: Go's maps begin at a random place.
func (c *cache) evict(s *shard[hash, *AtHand]) {
	for h, held := range s.m {
		delete(s.m, h)
		c.unindex(held.key)
		return
	}
}

func (c *cache) index(key Key, h hash) {
	s := &c.byKey[key[0]%shards]
	s.Lock()
	s.m[key] = h
	s.Unlock()
}

func (c *cache) unindex(key Key) {
	s := &c.byKey[key[0]%shards]
	s.Lock()
	delete(s.m, key)
	s.Unlock()
}

func (c *cache) forget(key Key) {
	c.epoch.Add(1)
	s := &c.byKey[key[0]%shards]
	s.RLock()
	h, found := s.m[key]
	s.RUnlock()
	if !found {
		return
	}
	b := &c.byCookie[h[0]%shards]
	b.Lock()
	delete(b.m, h)
	b.Unlock()
	c.unindex(key)
}

// forgetAll counts first, as forget does: what is kept before its shard is
// reached goes with the shard, and what comes after sees that it must not stay.
func (c *cache) forgetAll() {
	c.epoch.Add(1)
	for i := range shards {
		s := &c.byCookie[i]
		s.Lock()
		for h, held := range s.m {
			delete(s.m, h)
			c.unindex(held.key)
		}
		s.Unlock()
	}
}

// seen is when the session at hand was last used, or zero.
func (c *cache) seen(key Key) (at time.Time) {
	s := &c.byKey[key[0]%shards]
	s.RLock()
	h, found := s.m[key]
	s.RUnlock()
	if !found {
		return at
	}
	if held := c.find(h); held != nil && held.key == key {
		return time.Unix(0, held.seen.Load()).UTC()
	}
	return at
}

func (c *cache) len() int {
	n := 0
	for i := range shards {
		c.byCookie[i].RLock()
		n += len(c.byCookie[i].m)
		c.byCookie[i].RUnlock()
	}
	return n
}
