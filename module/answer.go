package module

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-login/caddy-login/module/header"
	"github.com/caddy-login/caddy-login/module/session"
)

// answer is the way back from the app: it keeps the app from setting our
// cookies, and ends long-lived streams with their session. It is used by one
// goroutine, but for end.
type answer struct {
	caddyhttp.ResponseWriterWrapper
	jar      *header.Jar
	sessions *session.Sessions
	held     *session.AtHand // nil for the anonymous: nothing of theirs ends
	begun    bool
	watched  bool
	stream   session.Stream
	cancel   context.CancelFunc
	conn     net.Conn // of a hijacked connection
	ended    atomic.Bool
}

var errEnded = errors.New("the session of this stream has ended")

func (a *answer) WriteHeader(status int) {
	a.begin()
	// After an informational answer the real one is still to come.
	a.begun = status >= 200 || status == http.StatusSwitchingProtocols
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	if a.ended.Load() {
		return 0, errEnded
	}
	a.begin()
	return a.ResponseWriter.Write(p)
}

// ReadFrom keeps the way open for sendfile.
func (a *answer) ReadFrom(r io.Reader) (int64, error) {
	a.begin()
	return a.ResponseWriterWrapper.ReadFrom(r)
}

// FlushError marks an answer that comes in pieces: it may go on for hours.
func (a *answer) FlushError() error {
	if a.ended.Load() {
		return errEnded
	}
	a.begin()
	a.watch(context.Background(), nil)
	return http.NewResponseController(a.ResponseWriter).Flush()
}

// Hijack hands over the connection of a WebSocket. It is closed when the
// session ends: both directions end with it.
func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	a.begin()
	conn, rw, err := http.NewResponseController(a.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	a.release()
	if a.held == nil {
		return conn, rw, nil
	}
	// A stream of its own: ending closes the connection, which must be known
	// before the session can end it.
	a.conn = conn
	a.stream, a.watched = session.Stream{}, false
	a.watch(context.Background(), a.cancel)
	return conn, rw, nil
}

// begin looks over the head of the answer once, before it goes out.
func (a *answer) begin() {
	if a.begun {
		return
	}
	a.begun = true
	a.jar.CleanSetCookie(a.ResponseWriter.Header())
}

// watch ties the answer to its session.
func (a *answer) watch(ctx context.Context, cancel context.CancelFunc) {
	if a.held == nil || a.watched {
		return
	}
	a.watched, a.cancel = true, cancel
	a.stream.End = a.end
	a.sessions.Watch(ctx, a.held, &a.stream)
}

// finish comes after the app's handler: also where it wrote nothing, its head
// goes out.
func (a *answer) finish() {
	a.jar.CleanSetCookie(a.ResponseWriter.Header()) // the head, or the trailers
	a.release()
}

func (a *answer) release() {
	if a.watched {
		a.sessions.Release(&a.stream)
	}
}

// end stops the stream, whoever is reading or writing. It is called by the one
// who ended the session.
//
// Deadlines are set on the server's own writer: Caddy's wrappers may be used
// by the stream's goroutine only, and would set them anew at the next write.
func (a *answer) end() {
	a.ended.Store(true)
	if a.cancel != nil {
		a.cancel()
	}
	if a.conn != nil {
		a.conn.Close()
		return
	}
	past := time.Unix(1, 0)
	control := http.NewResponseController(innermost(a.ResponseWriter))
	// Not every protocol knows both; what it does know is enough.
	_ = control.SetReadDeadline(past)
	_ = control.SetWriteDeadline(past)
}

func innermost(w http.ResponseWriter) http.ResponseWriter {
	for {
		outer, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = outer.Unwrap()
	}
}

// isStream reports whether a request asks for what may last hours, or is sent
// for as long. On HTTP/3 it might be any: deadlines end no idle stream there.
func isStream(r *http.Request) bool {
	return isWebSocket(r) || r.ContentLength < 0 || r.ProtoMajor == 3 || strings.Contains(r.Header.Get("Accept"), "text/event-stream")
}

// Interface guards
var (
	_ http.ResponseWriter = (*answer)(nil)
	_ io.ReaderFrom       = (*answer)(nil)
	_ http.Hijacker       = (*answer)(nil)
)
