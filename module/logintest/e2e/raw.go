package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"
)

// Wire is a connection on which a test writes its own HTTP/1.1.
type Wire struct {
	net.Conn
	t    testing.TB
	from *bufio.Reader
}

// Dial connects to a site on 127.0.0.1, whatever its name; over TLS where it
// is https. Everything on the connection must be done within 30 s.
func Dial(t testing.TB, site string) *Wire {
	t.Helper()
	u, err := url.Parse(site)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", loopback(u.Host))
	if err != nil {
		t.Fatalf("connecting to %s: %v", site, err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(Patience)); err != nil {
		t.Fatal(err)
	}
	if u.Scheme == "https" {
		conn = tls.Client(conn, &tls.Config{
			ServerName: u.Hostname(), InsecureSkipVerify: true, NextProtos: []string{"http/1.1"},
		})
	}
	return &Wire{Conn: conn, t: t, from: bufio.NewReader(conn)}
}

// Say writes text as it is.
func (w *Wire) Say(format string, args ...any) *Wire {
	w.t.Helper()
	if _, err := fmt.Fprintf(w.Conn, format, args...); err != nil {
		w.t.Fatalf("writing to the wire: %v", err)
	}
	return w
}

// Hear reads one response to a request with this method, with its body.
func (w *Wire) Hear(method string) Answer {
	w.t.Helper()
	res, err := http.ReadResponse(w.from, &http.Request{Method: method})
	if err != nil {
		w.t.Fatalf("reading from the wire: %v", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatalf("reading a body from the wire: %v", err)
	}
	return Answer{Response: res, Body: string(body)}
}

// Line reads one line, without reading further.
func (w *Wire) Line() (string, error) { return w.from.ReadString('\n') }

// Closed reports whether the other side closes within the time, having said
// nothing more.
func (w *Wire) Closed(within time.Duration) bool {
	w.t.Helper()
	if err := w.SetReadDeadline(time.Now().Add(within)); err != nil {
		w.t.Fatal(err)
	}
	rest, err := io.ReadAll(w.from)
	timeout, late := err.(net.Error)
	return len(rest) == 0 && !(late && timeout.Timeout())
}
