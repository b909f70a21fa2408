package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(new(floor))
	httpcaddyfile.RegisterHandlerDirective("bench_floor", parseFloor)
	// The place that login has.
	httpcaddyfile.RegisterDirectiveOrder("bench_floor", httpcaddyfile.After, "try_files")
}

// floor is the least that a gate with sessions on the server must do: hash the
// cookie, look it up in a map, take the client's own headers away and set
// ours. It decides nothing, forgets nothing, and believes most forgeries.
type floor struct {
	// A file with the sessions: an array of Cookie and Headers.
	Sessions string `json:"sessions"`

	shards [64]floorShard
}

type floorShard struct {
	sync.RWMutex
	m map[[sha256.Size]byte][]floorHeader
}

type floorHeader struct{ name, value string }

// floorSession is one session in the file.
type floorSession struct {
	Cookie  string
	Headers map[string]string
}

// CaddyModule returns the module's name in Caddy.
func (*floor) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.bench_floor", New: func() caddy.Module { return new(floor) }}
}

// Provision reads the sessions.
func (f *floor) Provision(caddy.Context) error {
	raw, err := os.ReadFile(f.Sessions)
	if err != nil {
		return fmt.Errorf("reading sessions: %w", err)
	}
	var sessions []floorSession
	if err := json.Unmarshal(raw, &sessions); err != nil {
		return fmt.Errorf("reading sessions: %w", err)
	}
	for i := range f.shards {
		f.shards[i].m = make(map[[sha256.Size]byte][]floorHeader)
	}
	for _, session := range sessions {
		var headers []floorHeader
		for _, name := range append([]string{assertionHeader}, identityHeaders...) {
			if value := session.Headers[name]; value != "" {
				headers = append(headers, floorHeader{name, value})
			}
		}
		hash := sha256.Sum256([]byte(session.Cookie))
		f.shards[hash[0]%64].m[hash] = headers
	}
	return nil
}

func (f *floor) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	delete(r.Header, assertionHeader)
	for _, name := range identityHeaders {
		delete(r.Header, name)
	}
	headers, found := f.find(takeCookie(r.Header))
	if !found {
		return caddyhttp.Error(http.StatusUnauthorized, nil)
	}
	values := make([]string, len(headers))
	for i, header := range headers {
		values[i] = header.value
		r.Header[header.name] = values[i : i+1 : i+1]
	}
	return next.ServeHTTP(w, r)
}

func (f *floor) find(cookie string) ([]floorHeader, bool) {
	hash := sha256.Sum256([]byte(cookie))
	shard := &f.shards[hash[0]%64]
	shard.RLock()
	defer shard.RUnlock()
	headers, found := shard.m[hash]
	return headers, found
}

// takeCookie takes our cookie off the end of the line, where the benchmark's
// visitors have it.
func takeCookie(h http.Header) string {
	lines := h["Cookie"]
	if len(lines) != 1 {
		return ""
	}
	rest, cookie, _ := strings.Cut(lines[0], "; login=")
	lines[0] = rest
	return cookie
}

func parseFloor(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	f := &floor{}
	h.Next() // the directive
	if !h.AllArgs(&f.Sessions) {
		return nil, h.ArgErr()
	}
	return f, nil
}

// Interface guards
var (
	_ caddy.Module                = (*floor)(nil)
	_ caddy.Provisioner           = (*floor)(nil)
	_ caddyhttp.MiddlewareHandler = (*floor)(nil)
)
