package header

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// upstream records the raw bytes of each request it gets, up to a chunked
// body's last byte.
func upstream(t *testing.T) (addr string, raw chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	raw = make(chan string, 8)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go record(c, raw)
		}
	}()
	return l.Addr().String(), raw
}

func record(c net.Conn, raw chan<- string) {
	defer c.Close()
	var b bytes.Buffer
	r, err := http.ReadRequest(bufio.NewReader(io.TeeReader(c, &b)))
	if err == nil {
		_, _ = io.Copy(io.Discard, r.Body)
	}
	_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
	raw <- b.String()
}

// forward passes a request on with the trailers that the incoming one has at
// the end of its body, as Caddy's reverse_proxy does.
func forward(addr string, r *http.Request) error {
	out := r.Clone(r.Context())
	out.RequestURI, out.URL.Scheme, out.URL.Host = "", "http", addr
	if out.Trailer == nil {
		out.Trailer = http.Header{}
	}
	out.Body = &republished{r.Body, r, out.Trailer}
	if len(out.Trailer) > 0 {
		out.ContentLength = -1
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(out)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

type republished struct {
	io.ReadCloser
	in  *http.Request
	out http.Header
}

func (b *republished) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		maps.Copy(b.out, b.in.Trailer)
	}
	return n, err
}

// proxy is a server that strips (or, for comparison, does not) and forwards.
// With copied set, what it strips is a copy of the server's request, as always
// in Caddy.
func proxy(t *testing.T, addr string, strip, copied bool) *httptest.Server {
	t.Helper()
	g := guard(t)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if copied {
			r = r.WithContext(r.Context())
		}
		if strip {
			g.Strip(r)
		}
		if err := forward(addr, r); err != nil {
			t.Errorf("forwarding: %v", err)
		}
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func send1(t *testing.T, s *httptest.Server, announce string) {
	t.Helper()
	c, err := tls.Dial("tcp", s.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n%s\r\n"+
		"4\r\nbody\r\n0\r\nRemote-User: forged\r\nX-Checksum: forged\r\n\r\n", announce)
	if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
		t.Fatal(err)
	}
}

func send2(t *testing.T, s *httptest.Server, announce string) {
	t.Helper()
	c, err := tls.Dial("tcp", s.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, http2.ClientPreface)
	framer := http2.NewFramer(c, c)
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	headers := func(end bool, fields ...string) {
		block.Reset()
		for i := 0; i < len(fields); i += 2 {
			_ = encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
		}
		if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: end}); err != nil {
			t.Error(err)
		}
	}
	_ = framer.WriteSettings()
	request := []string{":method", "POST", ":scheme", "https", ":path", "/", ":authority", "app", "te", "trailers"}
	if announce != "" {
		request = append(request, "trailer", announce)
	}
	headers(false, request...)
	_ = framer.WriteData(1, false, []byte("body"))
	headers(true, "remote-user", "forged", "x-checksum", "forged")
	await(t, framer)
}

// await reads until the answer is there.
func await(t *testing.T, framer *http2.Framer) {
	t.Helper()
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if s, ok := f.(*http2.SettingsFrame); ok && !s.IsAck() {
			_ = framer.WriteSettingsAck()
		}
		if h := f.Header(); h.StreamID == 1 && h.Flags.Has(http2.FlagDataEndStream) {
			return
		}
	}
}

func TestNoTrailerGetsThrough(t *testing.T) {
	for _, version := range []struct {
		name string
		send func(t *testing.T, s *httptest.Server, announce string)
		form string
	}{
		{"HTTP/1.1", send1, "Trailer: %s\r\n"},
		{"HTTP/2", send2, "%s"},
	} {
		for _, announce := range []string{"", "Remote-User", "Remote-User, X-Checksum"} {
			for _, copied := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/%q/copied=%v", version.name, announce, copied), func(t *testing.T) {
					announcement := ""
					if announce != "" {
						announcement = fmt.Sprintf(version.form, announce)
					}
					addr, raw := upstream(t)
					version.send(t, proxy(t, addr, true, copied), announcement)
					got := <-raw
					if strings.Contains(got, "forged") || strings.Contains(got, "Trailer:") {
						t.Errorf("the app got %q", got)
					}
					if !strings.Contains(got, "body") || !strings.Contains(got, "Te: trailers") {
						t.Errorf("something else is lost: %q", got)
					}
				})
			}
		}
	}
}

// Were it not for Strip, the trailers would arrive: the test above can fail.
func TestUnstrippedTrailersArrive(t *testing.T) {
	addr, raw := upstream(t)
	send1(t, proxy(t, addr, false, true), "Trailer: Remote-User\r\n")
	send2(t, proxy(t, addr, false, true), "Remote-User")
	send1(t, proxy(t, addr, false, false), "")
	for range 3 {
		if got := <-raw; !strings.Contains(got, "forged") {
			t.Errorf("the app got %q", got)
		}
	}
}

func TestClosingABodyUnreadLeavesNoTrailers(t *testing.T) {
	in := "POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nRemote-User: forged\r\n\r\n"
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(in)))
	if err != nil {
		t.Fatal(err)
	}
	guard(t).Strip(r)
	if err := r.Body.Close(); err != nil || r.Trailer != nil {
		t.Errorf("%v, trailers %v", err, r.Trailer)
	}
}

func TestBodiesWithoutTrailersAreLeftAlone(t *testing.T) {
	for _, in := range []string{
		"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 4\r\nTrailer: Remote-User\r\n\r\nbody",
		"GET / HTTP/1.1\r\nHost: app\r\n\r\n",
	} {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(in)))
		if err != nil {
			t.Fatal(err)
		}
		body := r.Body
		guard(t).Strip(r)
		if r.Body != body || slices.Contains(slices.Collect(maps.Keys(r.Header)), "Trailer") {
			t.Errorf("%q: body %T, headers %v", in, r.Body, r.Header)
		}
	}
}
