package backchannel

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
)

// hosts are the operator's own, as hostOf spells them.
type hosts map[string]bool

func hostsOf(urls []string) hosts {
	own := hosts{}
	for _, s := range urls {
		if u, err := url.Parse(s); err == nil && u.Hostname() != "" {
			own[hostOf(u)] = true
		}
	}
	return own
}

func hostOf(u *url.URL) string { return spell(u.Hostname()) }

// spell gives a host one spelling: addresses as netip writes them, names in
// lower case without the root's dot. Names beyond ASCII must be written in
// their xn-- form to count as the operator's.
func spell(host string) string {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().String()
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// loopbackHost reports whether host is this machine by its name alone
// (RFC 6761 section 6.3).
func loopbackHost(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().IsLoopback()
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// vet refuses what the URL alone shows to be forbidden. Names are judged when
// they are dialled, by what they resolve to then.
func (h hosts) vet(u *url.URL) error {
	host := hostOf(u)
	if u.Scheme != "https" && (u.Scheme != "http" || !loopbackHost(host)) {
		return ErrInsecure
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return h.check(host, a)
	}
	return nil
}

// check reports whether host may be reached at a.
func (h hosts) check(host string, a netip.Addr) error {
	switch place(a) {
	case public:
		if !loopbackHost(host) {
			return nil
		}
	case inside:
		if h[host] && (!loopbackHost(host) || a.Unmap().IsLoopback()) {
			return nil
		}
	}
	return fmt.Errorf("%w (%s)", ErrForbiddenAddress, host)
}

type dialer struct {
	own      hosts
	resolver *net.Resolver
}

// dial connects to address. The check runs on each address that the name
// resolves to, at the moment it is connected to: a name cannot show one
// address to the check and another to the connection (DNS rebinding).
func (d dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	name, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("reading address to dial: %w", err)
	}
	host := spell(name)
	if loopbackHost(host) && strings.HasSuffix(host, "localhost") {
		// Not every resolver knows all these names for this machine.
		address = net.JoinHostPort("localhost", port)
	}
	n := net.Dialer{Timeout: connectTimeout, Resolver: d.resolver}
	n.Control = func(_, resolved string, _ syscall.RawConn) error {
		a, err := netip.ParseAddrPort(resolved)
		if err != nil {
			return fmt.Errorf("reading resolved address: %w", err)
		}
		return d.own.check(host, a.Addr())
	}
	return n.DialContext(ctx, network, address)
}

// where is where an address is; the zero value is no place to go to.
type where int

const (
	nowhere where = iota
	inside
	public
)

// place judges an address by the IANA special-purpose registries (RFC 6890),
// looking through the ways to write an IPv4 address as an IPv6 one.
func place(a netip.Addr) where {
	a = a.WithZone("").Unmap()
	if v4, ok := embedded(a); ok {
		return place(v4)
	}
	switch {
	case !a.IsValid(), within(a, noPlace):
		return nowhere
	case within(a, insidePlaces):
		return inside
	case a.Is6() && !unicast6.Contains(a):
		return nowhere
	}
	return public
}

func within(a netip.Addr, prefixes []netip.Prefix) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// embedded is the IPv4 address that a gateway would make of a.
func embedded(a netip.Addr) (netip.Addr, bool) {
	b := a.As16()
	switch {
	case !a.Is6():
		return netip.Addr{}, false
	case nat64.Contains(a), translated.Contains(a):
		return netip.AddrFrom4([4]byte(b[12:])), true
	case sixToFour.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return netip.Addr{}, false
}

var (
	unicast6   = netip.MustParsePrefix("2000::/3")
	nat64      = netip.MustParsePrefix("64:ff9b::/96")    // RFC 6052
	translated = netip.MustParsePrefix("::ffff:0:0:0/96") // RFC 2765
	sixToFour  = netip.MustParsePrefix("2002::/16")       // RFC 3056

	// insidePlaces can be an operator's.
	insidePlaces = prefixes(
		"127.0.0.0/8", "::1/128", // loopback
		"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", // private
		"100.64.0.0/10",  // carrier-grade NAT
		"198.18.0.0/15",  // benchmarks, and networks made of pretended addresses
		"64:ff9b:1::/48", // NAT64 of a network's own (RFC 8215)
	)

	// noPlace can be nobody's provider.
	noPlace = prefixes(
		"169.254.169.254/32", "168.63.129.16/32", "100.100.100.200/32", // cloud metadata
		"fd00:ec2::254/128", "fd20:ce::254/128",
		"0.0.0.0/8", "192.0.0.0/24", "224.0.0.0/4", "240.0.0.0/4",
		"169.254.0.0/16",
		"192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", // documentation
		"2001:db8::/32", "3fff::/20",
		"192.88.99.0/24", "2001::/23", // relays, Teredo and other protocol assignments
	)
)

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range texts {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}
