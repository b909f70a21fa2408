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
type Limit struct {
	Burst int
	Every time.Duration

	mu      sync.Mutex
	buckets map[netip.Prefix]bucket
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
	_, left := l.fullAt(network, now)
	return !left
}

// fullAt is when a bucket is full again, and whether there is something left in
// it. The caller holds the lock.
func (l *Limit) fullAt(network netip.Prefix, now time.Time) (full time.Time, left bool) {
	full = l.buckets[network].full
	if full.Before(now) || full.Sub(now) > l.furthest() {
		full = now
	}
	return full, full.Sub(now) <= time.Duration(l.Burst-1)*l.Every
}

func (l *Limit) allow(network netip.Prefix, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	full, left := l.fullAt(network, now)
	if !left {
		return false
	}
	l.makeRoom(now)
	l.buckets[network] = bucket{full: full.Add(l.Every)}
	return true
}

// furthest is how far ahead a bucket can be full. Further it is only after the
// clock was set back, by more than two calls at once may differ.
func (l *Limit) furthest() time.Duration {
	burst := time.Duration(l.Burst) * l.Every
	return burst + max(burst, time.Minute)
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
