package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// appVariable is the address that the app listens on.
const appVariable = "LOGIN_BENCH_APP"

// assertionHeader is what the gate tells besides, signed anew every few minutes:
// the floor sends one that it was given.
const assertionHeader = "Remote-Assertion"

// identityHeaders are what the gate tells the app of a visitor.
var identityHeaders = []string{"Remote-User", "Remote-Email", "Remote-Name", "Remote-Groups", "Remote-Roles"}

// app answers 1 KiB to everybody, and looks at what it was told of them.
type app struct {
	mu     sync.RWMutex
	expect *told
	kept   map[string]*told
	seen   atomic.Int64
	wrong  atomic.Int64
	signed atomic.Int64
	opened atomic.Int64
	first  atomic.Pointer[string]
}

// told is what the app must be told in a round, and which assertion it was last
// told of each visitor.
type told struct {
	expectation
	said []atomic.Pointer[string]
}

func newTold(e expectation) *told {
	return &told{e, make([]atomic.Pointer[string], len(e.Headers))}
}

// expectation is what the app must be told in a round.
type expectation struct {
	// Headers are those of each visitor, by number. Empty: nobody may have
	// any.
	Headers []map[string]string
	// Cookie is all that may be left of the visitors' cookies. Empty: anything.
	Cookie string
	// Anything goes: somebody else's gate has its own headers.
	Anything bool
	// Kept names an expectation that the app was given before, in place of this.
	Kept string
}

// expectations are to be kept, by a name. Of one that is kept the app also knows
// from round to round what it was last told.
type expectations struct {
	Name   string
	Expect expectation
}

// seen is what came to the app in a round.
type seen struct {
	Requests, Wrong int64
	// Signed is how many came with another assertion than their visitor's last.
	Signed int64
	// Opened is how many streams were. The requests are then their messages.
	Opened int64
	// First says what was wrong first.
	First string
}

func appControl() http.Handler {
	a := newApp()
	l, err := net.Listen("tcp", os.Getenv(appVariable))
	if err != nil {
		fmt.Fprintln(os.Stderr, "listening:", err)
		os.Exit(1)
	}
	server := &http.Server{Handler: a, ReadHeaderTimeout: 10 * time.Second}
	go server.Serve(l)
	mux := http.NewServeMux()
	mux.HandleFunc("/keep", answers(a.keep))
	mux.HandleFunc("/begin", answers(a.begin))
	mux.HandleFunc("/end", answers(a.end))
	return mux
}

func newApp() *app { return &app{kept: make(map[string]*told)} }

func (a *app) keep(e expectations) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.kept[e.Name] = newTold(e.Expect)
	return true, nil
}

func (a *app) begin(e expectation) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expect = newTold(e)
	if e.Kept != "" {
		if a.expect = a.kept[e.Kept]; a.expect == nil {
			return false, fmt.Errorf("nothing is kept as %q", e.Kept)
		}
	}
	for _, count := range []*atomic.Int64{&a.seen, &a.wrong, &a.signed, &a.opened} {
		count.Store(0)
	}
	a.first.Store(nil)
	return true, nil
}

func (a *app) end(struct{}) (seen, error) {
	s := seen{Requests: a.seen.Load(), Wrong: a.wrong.Load(), Signed: a.signed.Load(), Opened: a.opened.Load()}
	if first := a.first.Load(); first != nil {
		s.First = *first
	}
	return s, nil
}

// body is the app's answer.
var body = bytes.Repeat([]byte("All work and no play makes a dull benchmark now\n"), 22)[:1024]

const echoPath = "/echo"

func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == echoPath {
		_ = json.NewEncoder(w).Encode(r.Header)
		return
	}
	a.check(r)
	if websocket.IsWebSocketUpgrade(r) {
		a.echo(w, r)
		return
	}
	a.seen.Add(1)
	w.Header()["Content-Type"] = []string{"text/plain; charset=utf-8"}
	w.Header()["Content-Length"] = []string{"1024"}
	_, _ = w.Write(body)
}

// check counts what was wrong with a request.
func (a *app) check(r *http.Request) {
	a.mu.RLock()
	expect := a.expect
	a.mu.RUnlock()
	if wrong := expect.wrongWith(r); wrong != "" {
		a.wrong.Add(1)
		a.first.CompareAndSwap(nil, &wrong)
		return
	}
	if expect.isSignedAnew(r) {
		a.signed.Add(1)
	}
}

// wrongWith is what the app should not have been told, or should have.
func (t *told) wrongWith(r *http.Request) string {
	if t.Anything {
		return ""
	}
	var want map[string]string
	if len(t.Headers) > 0 {
		n := visitorOf(r.URL.Path)
		if n < 0 || n >= len(t.Headers) {
			return "nobody's path: " + r.URL.Path
		}
		want = t.Headers[n]
	}
	for _, name := range identityHeaders {
		if got := strings.Join(r.Header[name], "|"); got != want[name] {
			return fmt.Sprintf("%s: %s is %q, not %q", r.URL.Path, name, got, want[name])
		}
	}
	if got := r.Header[assertionHeader]; len(got) > 1 || (len(got) == 1) != (want[assertionHeader] != "") {
		return fmt.Sprintf("%s: %d of %s", r.URL.Path, len(got), assertionHeader)
	}
	if got := strings.Join(r.Header["Cookie"], "|"); t.Cookie != "" && got != t.Cookie {
		return fmt.Sprintf("%s: Cookie has %d bytes, not %q", r.URL.Path, len(got), t.Cookie)
	}
	return ""
}

// isSignedAnew reports whether a visitor comes with another assertion than last
// time. Whoever comes for the first time does not.
func (t *told) isSignedAnew(r *http.Request) bool {
	got := r.Header[assertionHeader]
	if len(t.Headers) == 0 || len(got) != 1 {
		return false
	}
	before := t.said[visitorOf(r.URL.Path)].Swap(&got[0])
	return before != nil && *before != got[0]
}

// pathOf is the address that a visitor asks for.
func pathOf(visitor int) string { return fmt.Sprintf("/v/%d/dashboard", visitor) }

func visitorOf(path string) int {
	rest, _ := strings.CutPrefix(path, "/v/")
	number, _, _ := strings.Cut(rest, "/")
	n, err := strconv.Atoi(number)
	if err != nil {
		return -1
	}
	return n
}
