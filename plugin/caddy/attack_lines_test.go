package main_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/fcgi"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// scribe is an app that keeps what it receives byte for byte, makes nothing of
// it, and answers 200.
type scribe struct {
	name, addr string

	mu   sync.Mutex
	kept []entry
}

// entry is one request at an app.
type entry struct {
	at   *scribe
	raw  string            // as it came; over FastCGI what it stands for
	envs map[string]string // FastCGI's
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func newScribe(t testing.TB, name string) *scribe {
	t.Helper()
	l := listen(t)
	a := &scribe{name: name, addr: l.Addr().String()}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // the test has ended
			}
			go a.serve(conn)
		}
	}()
	return a
}

func (a *scribe) serve(conn net.Conn) {
	defer conn.Close()
	from := bufio.NewReader(conn)
	for {
		raw, err := inscribed(from)
		if raw != "" {
			a.keep(entry{raw: raw})
		}
		if err != nil {
			return
		}
		if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"); err != nil {
			return
		}
	}
}

// inscribed reads one request: lines to an empty one, and the body they announce.
func inscribed(from *bufio.Reader) (raw string, err error) {
	var b strings.Builder
	length, chunked := 0, false
	for {
		line, err := from.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			return b.String(), err
		}
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(line)), ":")
		switch name {
		case "":
			return b.String() + body(from, length, chunked), nil
		case "content-length":
			length, _ = strconv.Atoi(strings.TrimSpace(value)) // Go wrote it
		case "transfer-encoding":
			chunked = true
		}
	}
}

func body(from *bufio.Reader, length int, chunked bool) string {
	if !chunked {
		b := make([]byte, length)
		n, _ := io.ReadFull(from, b) // what came counts
		return string(b[:n])
	}
	b, _ := io.ReadAll(httputil.NewChunkedReader(from)) // what came counts
	for line := "-"; strings.TrimSpace(line) != ""; {   // trailers
		var err error
		if line, err = from.ReadString('\n'); err != nil {
			break
		}
		b = append(b, line...)
	}
	return string(b)
}

// newFastCGIScribe is a scribe that speaks FastCGI.
func newFastCGIScribe(t testing.TB, name string) *scribe {
	t.Helper()
	l := listen(t)
	a := &scribe{name: name, addr: l.Addr().String()}
	go func() {
		_ = fcgi.Serve(l, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			envs := fcgi.ProcessEnv(r)
			for name, values := range r.Header {
				envs["HTTP_"+strings.ReplaceAll(strings.ToUpper(name), "-", "_")] = strings.Join(values, ",")
			}
			a.keep(entry{raw: r.Method + " " + r.RequestURI + " HTTP/1.1\r\n\r\n", envs: envs})
		})) // ends with its listener
	}()
	return a
}

func (a *scribe) keep(e entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e.at = a
	a.kept = append(a.kept, e)
}

// take returns what came since it was last called.
func (a *scribe) take() []entry {
	a.mu.Lock()
	defer a.mu.Unlock()
	kept := a.kept
	a.kept = nil
	return kept
}

// method and target are the request line's.
func (e entry) method() string { method, _, _ := strings.Cut(e.raw, " "); return method }

func (e entry) target() string {
	first, _, _ := strings.Cut(e.raw, "\r\n")
	first = first[strings.Index(first, " ")+1:]
	return first[:strings.LastIndex(first, " ")]
}

// fields are the head's lines, as written.
func (e entry) fields() (lines []string) {
	head, _, _ := strings.Cut(e.raw, "\r\n\r\n")
	return strings.Split(head, "\r\n")[1:]
}

// inquiry is a request, before anybody has written it down.
type inquiry struct {
	method, target, host string
	fields               [][2]string
	body                 string
	trailers             [][2]string // behind the body
}

// asker is a connection that is used again until it breaks.
type asker interface {
	// ask returns the status of the answer, or 0 where the server took the
	// request for none: it closed the connection, or the stream. One that does
	// neither fails the test.
	ask(t testing.TB, q inquiry) int
}

// askPatience is how long a server may take to answer, or to close.
const askPatience = time.Minute

// wantEnd fails the test where what ended an inquiry was our patience.
func (q inquiry) wantEnd(t testing.TB, err error) {
	t.Helper()
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		t.Fatalf("%+v: neither answered nor refused: %v", q, err)
	}
}

// overHTTP1 writes inquiries as they stand.
type overHTTP1 struct {
	addr string
	tls  *tls.Config // nil: none
	conn net.Conn
	from *bufio.Reader
}

func (a *overHTTP1) ask(t testing.TB, q inquiry) int {
	t.Helper()
	if a.conn == nil {
		a.conn = dialLine(t, a.addr, a.tls)
		a.from = bufio.NewReader(a.conn)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", q.method, q.target, q.host)
	for _, f := range q.fields {
		fmt.Fprintf(&b, "%s: %s\r\n", f[0], f[1])
	}
	switch {
	case q.trailers != nil:
		b.WriteString("Transfer-Encoding: chunked\r\n")
		q.body = fmt.Sprintf("%x\r\n%s\r\n0\r\n", len(q.body), q.body)
		for _, f := range q.trailers {
			q.body += f[0] + ": " + f[1] + "\r\n"
		}
		q.body += "\r\n"
	case q.body != "":
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(q.body))
	}
	_ = a.conn.SetDeadline(time.Now().Add(askPatience))     // a net.Conn of TCP has them
	_, _ = io.WriteString(a.conn, b.String()+"\r\n"+q.body) // a refusal may come first
	res, err := http.ReadResponse(a.from, &http.Request{Method: q.method})
	if err != nil {
		a.hangUp()
		q.wantEnd(t, err)
		return 0
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil || res.Close || res.StatusCode == http.StatusSwitchingProtocols {
		a.hangUp()
		q.wantEnd(t, err)
	}
	return res.StatusCode
}

func (a *overHTTP1) hangUp() {
	a.conn.Close()
	a.conn = nil
}

func dialLine(t testing.TB, addr string, over *tls.Config) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if over == nil {
		return conn
	}
	return tls.Client(conn, over)
}

// overHTTP2 writes frames: with prior knowledge where there is no TLS.
type overHTTP2 struct {
	addr string
	tls  *tls.Config
	conn net.Conn
	*http2.Framer
	next uint32
	head bytes.Buffer
	to   *hpack.Encoder
}

func (a *overHTTP2) ask(t testing.TB, q inquiry) int {
	t.Helper()
	status, err := a.tryAsk(t, q)
	if err != nil {
		a.conn.Close()
		a.conn = nil
		q.wantEnd(t, err)
	}
	return status
}

func (a *overHTTP2) connect(t testing.TB) error {
	t.Helper()
	a.conn = dialLine(t, a.addr, a.tls)
	_ = a.conn.SetDeadline(time.Now().Add(askPatience)) // a net.Conn of TCP has them
	if _, err := io.WriteString(a.conn, http2.ClientPreface); err != nil {
		return err
	}
	a.Framer, a.next = http2.NewFramer(a.conn, a.conn), 1
	a.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	a.head.Reset()
	a.to = hpack.NewEncoder(&a.head)
	return a.WriteSettings()
}

func (a *overHTTP2) tryAsk(t testing.TB, q inquiry) (int, error) {
	if a.conn == nil || a.next > 1<<20 {
		if err := a.connect(t); err != nil {
			return 0, err
		}
	}
	_ = a.conn.SetDeadline(time.Now().Add(askPatience)) // a net.Conn of TCP has them
	stream := a.next
	a.next += 2
	scheme := "http"
	if a.tls != nil {
		scheme = "https"
	}
	fields := append([][2]string{{":method", q.method}, {":scheme", scheme}, {":authority", q.host}, {":path", q.target}}, q.fields...)
	if err := a.write(stream, fields, q.body == ""); err != nil {
		return 0, err
	}
	if q.body != "" {
		if err := a.WriteData(stream, q.trailers == nil, []byte(q.body)); err != nil {
			return 0, err
		}
	}
	if q.trailers != nil {
		if err := a.write(stream, q.trailers, true); err != nil {
			return 0, err
		}
	}
	return a.hear(stream)
}

// write sends fields, in as many frames as they need.
func (a *overHTTP2) write(stream uint32, fields [][2]string, end bool) error {
	a.head.Reset()
	for _, f := range fields {
		if err := a.to.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			return err
		}
	}
	block := a.head.Bytes()
	cut := min(len(block), 16<<10)
	err := a.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block[:cut], EndHeaders: cut == len(block), EndStream: end})
	for block = block[cut:]; err == nil && len(block) > 0; block = block[cut:] {
		cut = min(len(block), 16<<10)
		err = a.WriteContinuation(stream, cut == len(block), block[:cut])
	}
	return err
}

var errGone = errors.New("the server goes away")

// hear reads the stream's answer to its end. A stream that the server resets
// leaves the others alone.
func (a *overHTTP2) hear(stream uint32) (status int, err error) {
	for {
		frame, err := a.ReadFrame()
		if err != nil {
			return 0, err
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				err = a.WriteSettingsAck()
			}
		case *http2.GoAwayFrame:
			return 0, errGone
		case *http2.RSTStreamFrame:
			if frame.StreamID == stream {
				return status, nil
			}
		case *http2.MetaHeadersFrame:
			status, _ = strconv.Atoi(frame.PseudoValue("status"))
			if frame.StreamID == stream && frame.StreamEnded() {
				return status, nil
			}
		case *http2.DataFrame:
			if n := uint32(len(frame.Data())); n > 0 {
				err = a.WriteWindowUpdate(0, n)
			}
			if frame.StreamID == stream && frame.StreamEnded() {
				return status, err
			}
		}
		if err != nil {
			return 0, err
		}
	}
}

// hostOf is a site's host and port.
func authority(site string) string {
	u, _ := url.Parse(site) // the test's own
	return u.Host
}
