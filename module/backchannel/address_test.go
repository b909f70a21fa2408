package backchannel

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

func TestPlaceOfAddresses(t *testing.T) {
	for text, want := range map[string]where{
		"1.1.1.1":                  public,
		"172.32.0.1":               public,
		"100.128.0.1":              public,
		"2606:4700::1111":          public,
		"64:ff9b::1.1.1.1":         public,
		"2002:0101:0101::1":        public,
		"::ffff:1.1.1.1":           public,
		"127.0.0.1":                inside,
		"127.255.255.254":          inside,
		"10.1.2.3":                 inside,
		"172.16.0.1":               inside,
		"172.31.255.255":           inside,
		"192.168.0.1":              inside,
		"100.64.0.1":               inside,
		"198.18.0.1":               inside,
		"::1":                      inside,
		"fd12::1":                  inside,
		"fc00::1":                  inside,
		"::ffff:10.0.0.1":          inside,
		"::ffff:127.0.0.1":         inside,
		"::ffff:0:127.0.0.1":       inside,
		"64:ff9b::127.0.0.1":       inside,
		"64:ff9b::192.168.1.1":     inside,
		"64:ff9b:1::1":             inside,
		"2002:7f00:0001::1":        inside,
		"2002:0a00:0001::1":        inside,
		"0.0.0.0":                  nowhere,
		"0.1.2.3":                  nowhere,
		"169.254.169.254":          nowhere,
		"169.254.1.1":              nowhere,
		"100.100.100.200":          nowhere,
		"168.63.129.16":            nowhere,
		"192.0.0.192":              nowhere,
		"224.0.0.1":                nowhere,
		"239.255.255.255":          nowhere,
		"255.255.255.255":          nowhere,
		"::":                       nowhere,
		"::127.0.0.1":              nowhere,
		"::ffff:169.254.169.254":   nowhere,
		"64:ff9b::169.254.169.254": nowhere,
		"2002:a9fe:a9fe::1":        nowhere,
		"2001:0:7f00:1::1":         nowhere,
		"fe80::1":                  nowhere,
		"fe80::1%eth0":             nowhere,
		"fec0::1":                  nowhere,
		"ff02::1":                  nowhere,
		"fd00:ec2::254":            nowhere,
		"fd00:ec2::254%eth0":       nowhere,
		"fd20:ce::254":             nowhere,
	} {
		if got := place(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s is at %d, want %d", text, got, want)
		}
	}
	if place(netip.Addr{}) != nowhere {
		t.Error("the zero address leads somewhere")
	}
}

func TestAddressesInsideAreRefusedUnlessTheOperatorsOwn(t *testing.T) {
	var reached atomic.Int32
	u := serve(t, func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	port := u[strings.LastIndex(u, ":"):]
	own := []string{"https://example.com/x", "", "::", "127.0.0.1" + port, "http:///nohost"}
	for _, host := range []string{"127.0.0.1", "localhost", "LOCALHOST.", "a.localhost", "[::ffff:127.0.0.1]", "[::1]"} {
		if _, err := readAll(Client(own...), "http://"+host+port); !errors.Is(err, ErrForbiddenAddress) {
			t.Errorf("%s: %v", host, err)
		}
	}
	for _, host := range []string{"127.0.0.1", "10.0.0.1", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "169.254.169.254", "[fe80::1%25eth0]"} {
		if _, err := readAll(Network{Proxy: noProxy}.Client(own...), "https://"+host+port); !errors.Is(err, ErrForbiddenAddress) {
			t.Errorf("%s: %v", host, err)
		}
	}
	if reached.Load() != 0 {
		t.Error("a forbidden server was reached")
	}
}

func TestOperatorsHostIsKnownInAnySpelling(t *testing.T) {
	u := serve(t, write("x"))
	port := u[strings.LastIndex(u, ":"):]
	for operator, called := range map[string]string{
		"http://127.0.0.1:1/deep?x":     "http://127.0.0.1",
		"http://[::ffff:127.0.0.1]":     "http://127.0.0.1",
		"http://LocalHost.":             "http://localhost",
		"http://auth.localhost":         "http://AUTH.localhost",
		"https://127.0.0.1/.well-known": "http://127.0.0.1",
	} {
		if _, err := readAll(Client(operator), called+port); err != nil {
			t.Errorf("%s for %s: %v", called, operator, err)
		}
	}
}

func TestMetadataIsRefusedEvenToTheOperator(t *testing.T) {
	for _, u := range []string{"https://169.254.169.254/", "https://[fd00:ec2::254]/", "https://0.0.0.0/", "https://[::]/"} {
		if _, err := readAll(Network{Proxy: noProxy}.Client(u), u); !errors.Is(err, ErrForbiddenAddress) {
			t.Errorf("%s: %v", u, err)
		}
	}
}

func TestOnlyHTTPSLeavesTheMachine(t *testing.T) {
	for _, u := range []string{
		"http://example.com/", "http://10.0.0.1/", "http://localhost.example.com/", "http://127.0.0.1.example.com/",
		"ftp://localhost/", "file:///etc/passwd", "gopher://localhost/", "HTTP://example.com/", "//localhost/",
	} {
		if _, err := readAll(Client(u), u); !errors.Is(err, ErrInsecure) {
			t.Errorf("%s: %v", u, err)
		}
	}
}

// names is a resolver whose server on loopback answers A questions with each
// address in turn.
func names(t *testing.T, addresses ...string) *net.Resolver {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go answerNames(c, addresses)
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", c.LocalAddr().String())
	}}
}

func answerNames(c net.PacketConn, addresses []string) {
	b := make([]byte, 1500)
	asked := 0
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		q := m.Questions[0]
		m.Header.Response, m.Additionals = true, nil
		if q.Type == dnsmessage.TypeA {
			a := netip.MustParseAddr(addresses[min(asked, len(addresses)-1)])
			asked++
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class},
				Body:   &dnsmessage.AResource{A: a.As4()},
			}}
		}
		if out, err := m.Pack(); err == nil {
			c.WriteTo(out, from)
		}
	}
}

func TestNameThatLeadsInsideIsRefusedWhenDialled(t *testing.T) {
	var reached atomic.Int32
	u, n := serveTLS(t, nil, func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	port := u[strings.LastIndex(u, ":"):]
	for _, address := range []string{"127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"} {
		n.Resolver = names(t, address)
		if _, err := readAll(n.Client("https://issuer.example"), "https://example.com"+port); !errors.Is(err, ErrForbiddenAddress) {
			t.Errorf("%s: %v", address, err)
		}
	}
	if reached.Load() != 0 {
		t.Error("the server inside was reached")
	}
}

func TestRebindingNameIsJudgedByTheAddressDialled(t *testing.T) {
	var reached atomic.Int32
	u, n := serveTLS(t, nil, func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	port := u[strings.LastIndex(u, ":"):]
	n.Resolver = names(t, "1.1.1.1", "127.0.0.1")
	if ips, err := n.Resolver.LookupHost(t.Context(), "example.com"); err != nil || ips[0] != "1.1.1.1" {
		t.Fatalf("first look: %v, %v", ips, err)
	}
	if _, err := readAll(n.Client(), "https://example.com"+port); !errors.Is(err, ErrForbiddenAddress) {
		t.Errorf("second look: %v", err)
	}
	if reached.Load() != 0 {
		t.Error("the server inside was reached")
	}
}

func TestOperatorsNameMayLeadInside(t *testing.T) {
	u, n := serveTLS(t, nil, write("inside"))
	port := u[strings.LastIndex(u, ":"):]
	n.Resolver = names(t, "127.0.0.1")
	got, err := readAll(n.Client("https://example.com"), "https://example.com"+port)
	if err != nil || string(got) != "inside" {
		t.Fatalf("got %q, %v", got, err)
	}
}

// tunnel is an HTTP proxy that leads every CONNECT to target.
func tunnel(t *testing.T, target string, asked *atomic.Value) *url.URL {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.Method + " " + r.Host + " " + r.URL.String())
		there, err := net.Dial("tcp", target)
		if err != nil {
			http.Error(w, "no", http.StatusBadGateway)
			return
		}
		here, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { io.Copy(there, here); there.Close() }()
		io.Copy(here, there)
		here.Close()
	}))
	t.Cleanup(s.CloseClientConnections)
	u, _ := url.Parse(s.URL)
	u.User = url.UserPassword("proxyuser", "proxypass")
	return u
}

func TestOperatorsProxyIsUsedAndSeesTheHostOnly(t *testing.T) {
	u, n := serveTLS(t, nil, write("through"))
	var asked atomic.Value
	proxy := tunnel(t, strings.TrimPrefix(u, "https://"), &asked)
	n.Proxy = http.ProxyURL(proxy)
	got, err := readAll(n.Client(), "https://example.com/path?token=sekret")
	if err != nil || string(got) != "through" {
		t.Fatalf("got %q, %v", got, err)
	}
	if saw := asked.Load().(string); !strings.HasPrefix(saw, "CONNECT example.com:443") || strings.Contains(saw, "sekret") {
		t.Fatalf("proxy saw %q", saw)
	}
}

func TestProxyIsNoWayInsideForAddresses(t *testing.T) {
	var asked atomic.Value
	proxy := tunnel(t, "127.0.0.1:1", &asked)
	n := Network{Proxy: http.ProxyURL(proxy)}
	own := serve(t, write("direct"))
	for _, u := range []string{"https://169.254.169.254/", "https://10.0.0.1/", "https://127.0.0.1/", "https://[::1]/"} {
		if _, err := readAll(n.Client(), u); !errors.Is(err, ErrForbiddenAddress) {
			t.Errorf("%s: %v", u, err)
		}
	}
	if got, err := readAll(n.Client(own), own); err != nil || string(got) != "direct" {
		t.Errorf("own loopback host: %q, %v", got, err)
	}
	if asked.Load() != nil {
		t.Errorf("proxy was asked: %v", asked.Load())
	}
}

// The proxy is dialled unchecked; that its host may be so dialled must not
// carry over to calls that go to it directly.
func TestProxysHostIsNoOperatorsHost(t *testing.T) {
	u, n := serveTLS(t, nil, write("x"))
	var asked atomic.Value
	proxy := tunnel(t, strings.TrimPrefix(u, "https://"), &asked)
	n.Resolver = names(t, "127.0.0.1")
	n.Proxy = func(req *http.Request) (*url.URL, error) {
		if req.URL.Hostname() == "proxy.example.com" {
			return nil, nil
		}
		return proxy, nil
	}
	c := n.Client()
	if _, err := readAll(c, "https://example.com/"); err != nil {
		t.Fatal(err)
	}
	if _, err := readAll(c, "https://proxy.example.com:"+proxy.Port()); !errors.Is(err, ErrForbiddenAddress) {
		t.Fatalf("got %v", err)
	}
}

func TestProxysPasswordIsNotShown(t *testing.T) {
	for name, proxy := range map[string]func(*http.Request) (*url.URL, error){
		"unreachable": http.ProxyURL(&url.URL{Scheme: "http", Host: "127.0.0.1:1", User: url.UserPassword("u", "sekret")}),
		"malformed": func(*http.Request) (*url.URL, error) {
			return nil, errors.New(`invalid proxy address "http://u:sekret@"`)
		},
	} {
		_, err := readAll(Network{Proxy: proxy}.Client(), "https://example.com/")
		if err == nil || strings.Contains(err.Error(), "sekret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
