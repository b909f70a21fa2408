package session

import (
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-login/caddy-login/module/identity"
)

// Live is a session at hand, with its person. Its fields are never written to
// again; what changes is forgotten and read anew.
type Live struct {
	Session
	Person identity.Person
	// Grant is what tokens of the provider's are kept; nil: none.
	Grant *Grant

	// Site holds whatever the handler made of this session for one site: the
	// headers, ready to send. The cache neither reads nor compares it.
	Site atomic.Value

	seen    atomic.Int64 // unix nanoseconds
	begins  int64
	expires int64
	hash    hash
}

// newLive takes over what it is given.
func newLive(session Session, person identity.Person, grant *Grant) *Live {
	live := &Live{
		Session: session, Person: person, Grant: grant,
		begins: session.begins().UnixNano(), expires: session.Expires.UnixNano(),
	}
	live.seen.Store(session.Seen.UnixNano())
	live.pack()
	return live
}

func (l *Live) livesAt(now time.Time) bool {
	at := now.UnixNano()
	return l.Ended.IsZero() && l.begins < at && at < l.expires && at < l.seen.Load()+int64(l.Idle)
}

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
	// perShard bounds the cache: 64 × 1,024 sessions, some 64 MB when full.
	// Beyond that a session in use is now and then read from the store again.
	perShard = 1024
)

// cache keeps sessions at hand by their cookie, and finds them by their key to
// forget them.
type cache struct {
	byCookie [shards]shard[hash, *Live]
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
		c.byCookie[i].m = make(map[hash]*Live)
		c.byKey[i].m = make(map[Key]hash)
	}
}

func (c *cache) find(h hash) *Live {
	s := &c.byCookie[h[0]%shards]
	s.RLock()
	live := s.m[h]
	s.RUnlock()
	return live
}

// keep puts live at hand, unless something was forgotten since epoch: then it
// serves this request only. Where another request was faster, its is returned:
// one session, one Live.
//
// The index is written before the epoch is read, and forget counts before it
// looks: so either forget finds the session, or keep sees that it must not.
// Meanwhile the shard's lock keeps everybody from finding it.
func (c *cache) keep(live *Live, epoch uint64) *Live {
	h := live.hash
	s := &c.byCookie[h[0]%shards]
	s.Lock()
	defer s.Unlock()
	if other := s.m[h]; other != nil {
		return other
	}
	c.index(live.Key, h)
	if c.epoch.Load() != epoch {
		c.unindex(live.Key)
		return live
	}
	if len(s.m) >= perShard {
		c.evict(s)
	}
	s.m[h] = live
	return live
}

// evict drops any one: Go's maps begin at a random place.
func (c *cache) evict(s *shard[hash, *Live]) {
	for h, live := range s.m {
		delete(s.m, h)
		c.unindex(live.Key)
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
		for h, live := range s.m {
			delete(s.m, h)
			c.unindex(live.Key)
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
	if live := c.find(h); live != nil && live.Key == key {
		return time.Unix(0, live.seen.Load()).UTC()
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
