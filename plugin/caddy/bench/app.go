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
	expect expectation
	seen   atomic.Int64
	wrong  atomic.Int64
	first  atomic.Pointer[string]
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
}

// seen is what came to the app in a round.
type seen struct {
	Requests, Wrong int64
	// First says what was wrong first.
	First string
}

func appControl() http.Handler {
	a := &app{}
	l, err := net.Listen("tcp", os.Getenv(appVariable))
	if err != nil {
		fmt.Fprintln(os.Stderr, "listening:", err)
		os.Exit(1)
	}
	server := &http.Server{Handler: a, ReadHeaderTimeout: 10 * time.Second}
	go server.Serve(l)
	mux := http.NewServeMux()
	mux.HandleFunc("/begin", answers(a.begin))
	mux.HandleFunc("/end", answers(a.end))
	return mux
}

func (a *app) begin(e expectation) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expect = e
	a.seen.Store(0)
	a.wrong.Store(0)
	a.first.Store(nil)
	return true, nil
}

func (a *app) end(struct{}) (seen, error) {
	s := seen{Requests: a.seen.Load(), Wrong: a.wrong.Load()}
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
	a.seen.Add(1)
	if wrong := a.wrongWith(r); wrong != "" {
		a.wrong.Add(1)
		a.first.CompareAndSwap(nil, &wrong)
	}
	w.Header()["Content-Type"] = []string{"text/plain; charset=utf-8"}
	w.Header()["Content-Length"] = []string{"1024"}
	_, _ = w.Write(body)
}

// wrongWith is what the app should not have been told, or should have.
func (a *app) wrongWith(r *http.Request) string {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if a.expect.Anything {
		return ""
	}
	var want map[string]string
	if len(a.expect.Headers) > 0 {
		n := visitorOf(r.URL.Path)
		if n < 0 || n >= len(a.expect.Headers) {
			return "nobody's path: " + r.URL.Path
		}
		want = a.expect.Headers[n]
	}
	for _, name := range identityHeaders {
		if got := strings.Join(r.Header[name], "|"); got != want[name] {
			return fmt.Sprintf("%s: %s is %q, not %q", r.URL.Path, name, got, want[name])
		}
	}
	if got := r.Header[assertionHeader]; len(got) > 1 || (len(got) == 1) != (want[assertionHeader] != "") {
		return fmt.Sprintf("%s: %d of %s", r.URL.Path, len(got), assertionHeader)
	}
	if got := strings.Join(r.Header["Cookie"], "|"); a.expect.Cookie != "" && got != a.expect.Cookie {
		return fmt.Sprintf("%s: Cookie has %d bytes, not %q", r.URL.Path, len(got), a.expect.Cookie)
	}
	return ""
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
