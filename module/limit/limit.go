// Package limit says how often a network may try. It is bounded in memory,
// whatever is sent: under a flood it forgets the innocent first and slows
// nobody who had not tried before.
package limit

import (
	"net/netip"
	"sync"
	"time"
)

// Limit is a token bucket for each network: Burst tries at once, and one more
// every Every. It is safe for concurrent use; set the fields before.
//
// A call is given the time at which it is made: one well before another's tells
// of a clock that was set back, which shuts nobody out. Those of time.Now never
// do: they hold what went by, whatever the time of day becomes.
type Limit struct {
	Burst int
	Every time.Duration

	mu      sync.Mutex
	buckets map[netip.Prefix]bucket
	latest  time.Time // that a call was given, since the clock was last set back
}

// bucket is full again at `full`; each try moves that by Every.
type bucket struct{ full time.Time }

// maxNetworks bounds the memory: some 8 MB.
const maxNetworks = 1 << 16

// Allow reports whether the network of this address may try at now, and counts
// the try. What is no address shares one network.
func (l *Limit) Allow(address string, now time.Time) bool {
	return l.allow(Network(address), now)
}

// AllowKey is Allow for what is no network, by a hash of 16 bytes or more that
// names it.
func (l *Limit) AllowKey(hash string, now time.Time) bool { return l.allow(keyed(hash), now) }

// Spent reports whether Allow would say no. It counts nothing.
func (l *Limit) Spent(address string, now time.Time) bool { return l.spent(Network(address), now) }

// SpentKey reports whether AllowKey would say no. It counts nothing.
func (l *Limit) SpentKey(hash string, now time.Time) bool { return l.spent(keyed(hash), now) }

// keyed is a name among networks. Of one of IPv6 only a half is kept: the two
// never meet.
func keyed(hash string) netip.Prefix {
	var name [16]byte
	copy(name[:], hash)
	return netip.PrefixFrom(netip.AddrFrom16(name), 128)
}

func (l *Limit) spent(network netip.Prefix, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now = l.steady(now)
	return !l.left(l.fullAt(network, now), now)
}

func (l *Limit) allow(network netip.Prefix, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now = l.steady(now)
	full := l.fullAt(network, now)
	if !l.left(full, now) {
		return false
	}
	l.makeRoom(now)
	l.buckets[network] = bucket{full: full.Add(l.Every)}
	return true
}

// overtaking is how much later than another a call may have looked at the clock
// that is counted before it. Much less is so; it must be more than anybody can
// make a call wait in between.
const overtaking = time.Minute

// steady is a time that never goes back, for one that may. A call that another
// overtook counts as made with it: it has no more for that, and no less. A clock
// that went back further was set: how long it is since the last call nobody
// knows then, and all begins anew. The caller holds the lock.
func (l *Limit) steady(now time.Time) time.Time {
	if l.latest.Sub(now) > overtaking {
		clear(l.buckets)
		l.latest = now
	}
	if now.After(l.latest) {
		l.latest = now
	}
	return l.latest
}

// fullAt is when a bucket is full again. The caller holds the lock.
func (l *Limit) fullAt(network netip.Prefix, now time.Time) time.Time {
	if full := l.buckets[network].full; full.After(now) {
		return full
	}
	return now
}

// left reports whether a bucket that is full again then has something left.
func (l *Limit) left(full, now time.Time) bool {
	return full.Sub(now) <= time.Duration(l.Burst-1)*l.Every
}

// makeRoom drops what is full again anyway, and else any one.
func (l *Limit) makeRoom(now time.Time) {
	if l.buckets == nil {
		l.buckets = make(map[netip.Prefix]bucket)
	}
	if len(l.buckets) < maxNetworks {
		return
	}
	seen := 0
	for network, b := range l.buckets {
		if seen++; b.full.Before(now) || seen == 16 {
			delete(l.buckets, network)
			return
		}
	}
}

// Network is what one customer usually has: an IPv4 address, an IPv6 /64.
func Network(address string) netip.Prefix {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		if hostPort, err := netip.ParseAddrPort(address); err == nil {
			ip = hostPort.Addr()
		}
	}
	ip = ip.Unmap().WithZone("")
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	network, _ := ip.Prefix(bits)
	return network
}

// Len is how many networks are kept in mind.
func (l *Limit) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.buckets)
}
