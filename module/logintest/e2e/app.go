package e2e

import (
	"context"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// App is the app behind Caddy. It answers every path with a page that shows
// the request and its identity headers, and has some paths of its own:
//
//	/events     server-sent events, one every 50 ms, until the client goes
//	/ws         a WebSocket that echoes; any origin
//	/setcookie  a Set-Cookie for each `set` parameter, as written
//	/big        `bytes` bytes
//	/slow       answers after Release
//
// It records each request with the very bytes it came in.
type App struct {
	// Addr is host:port.
	Addr string

	t        testing.TB
	mu       sync.Mutex
	requests []Request
	open     atomic.Int64
	release  chan struct{}
	once     sync.Once
}

// Request is one request as the app received it.
type Request struct {
	// Method and Target are the request line's.
	Method, Target string
	// Head are the header lines in the order and spelling received.
	Head []Field
	// Body is the decoded body; empty for streams.
	Body string
	// Raw is everything received: head, body, trailers.
	Raw string
}

// Field is one header line.
type Field struct{ Name, Value string }

// Values are the values of all lines whose name is name, in any case.
func (r Request) Values(name string) []string {
	var values []string
	for _, field := range r.Head {
		if strings.EqualFold(field.Name, name) {
			values = append(values, field.Value)
		}
	}
	return values
}

// Value is the only value of name, or empty where there are none or several.
func (r Request) Value(name string) string {
	if values := r.Values(name); len(values) == 1 {
		return values[0]
	}
	return ""
}

// NewApp starts an app that ends with the test.
func NewApp(t testing.TB) *App {
	t.Helper()
	a := &App{t: t, release: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("/events", a.events)
	mux.HandleFunc("/ws", a.socket)
	mux.HandleFunc("/setcookie", setCookie)
	mux.HandleFunc("/big", big)
	mux.HandleFunc("/slow", a.slow)
	mux.HandleFunc("/", echo)
	server := httptest.NewUnstartedServer(a.recorded(mux))
	server.Listener = tapListener{server.Listener}
	server.Config.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, tapKey{}, conn)
	}
	server.Start()
	a.Addr = server.Listener.Addr().String()
	t.Cleanup(func() {
		a.Release()
		server.CloseClientConnections()
		server.Close()
	})
	return a
}

// Requests are the requests received so far.
func (a *App) Requests() []Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]Request(nil), a.requests...)
}

// Last is the request received last; there must be one.
func (a *App) Last() Request {
	a.t.Helper()
	requests := a.Requests()
	if len(requests) == 0 {
		a.t.Fatal("the app received no request")
	}
	return requests[len(requests)-1]
}

// Forget forgets the requests received so far.
func (a *App) Forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests = nil
}

// Open is the number of event streams and WebSockets open now.
func (a *App) Open() int { return int(a.open.Load()) }

// Release lets /slow answer, now and from now on.
func (a *App) Release() { a.once.Do(func() { close(a.release) }) }

// recorded reads the whole body, so that trailers are in what was received,
// and keeps the request. A stream has none.
func (a *App) recorded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tap, _ := r.Context().Value(tapKey{}).(*tapConn)
		body, _ := io.ReadAll(r.Body) // what came is what counts
		raw := tap.take()
		a.mu.Lock()
		a.requests = append(a.requests, Request{
			Method: r.Method, Target: r.RequestURI, Head: headOf(raw), Body: string(body), Raw: raw,
		})
		a.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

func headOf(raw string) []Field {
	head, _, _ := strings.Cut(raw, "\r\n\r\n")
	var fields []Field
	for i, line := range strings.Split(head, "\r\n") {
		if i == 0 {
			continue // the request line
		}
		name, value, _ := strings.Cut(line, ":")
		fields = append(fields, Field{name, strings.TrimSpace(value)})
	}
	return fields
}

func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, "<!DOCTYPE html><html lang=en><title>App</title><link rel=icon href='data:,'><h1>The app</h1><p>%s %s</p><dl>",
		r.Method, html.EscapeString(r.RequestURI))
	for _, name := range []string{"Remote-User", "Remote-Email", "Remote-Name", "Remote-Groups", "Remote-Roles"} {
		fmt.Fprintf(w, "<dt>%s<dd>%s", name, html.EscapeString(r.Header.Get(name)))
	}
	fmt.Fprint(w, "</dl>")
}

func (a *App) events(w http.ResponseWriter, r *http.Request) {
	a.open.Add(1)
	defer a.open.Add(-1)
	w.Header().Set("Content-Type", "text/event-stream")
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		fmt.Fprintf(w, "data: event %d\n\n", n)
		if http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}

func (a *App) socket(w http.ResponseWriter, r *http.Request) {
	up := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	conn, err := up.Upgrade(w, r, nil)
	if err != nil {
		return // Upgrade has answered
	}
	defer conn.Close()
	a.open.Add(1)
	defer a.open.Add(-1)
	for {
		kind, message, err := conn.ReadMessage()
		if err != nil || conn.WriteMessage(kind, message) != nil {
			return
		}
	}
}

func setCookie(w http.ResponseWriter, r *http.Request) {
	for _, cookie := range r.URL.Query()["set"] {
		w.Header().Add("Set-Cookie", cookie)
	}
	echo(w, r)
}

func big(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.FormValue("bytes"), 10, 64)
	if err != nil {
		http.Error(w, "how many bytes?", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = io.CopyN(w, endless{}, n) // the client may leave early
}

func (a *App) slow(w http.ResponseWriter, r *http.Request) {
	select {
	case <-a.release:
		echo(w, r)
	case <-r.Context().Done():
	}
}

// endless is a reader of dots.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '.'
	}
	return len(p), nil
}

type tapKey struct{}

// tapListener keeps what each connection receives.
type tapListener struct{ net.Listener }

func (l tapListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &tapConn{Conn: conn}, nil
}

type tapConn struct {
	net.Conn
	received recorder
}

func (c *tapConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	_, _ = c.received.Write(p[:n])
	return n, err
}

// take returns what was received since the last take. Proxies don't pipeline,
// so at the end of a body that is one request.
func (c *tapConn) take() string {
	if c == nil {
		return ""
	}
	return c.received.take()
}
