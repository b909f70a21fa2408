package module

import (
	"net/http"
	"runtime"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Every collection of garbage goes over what is kept of the sessions at hand, and
// its time is taken from requests: it goes by objects more than by bytes.
func TestSessionAtHandIsOfFewObjects(t *testing.T) {
	const sessions = 1000
	gate := openGate(t, `{"allow":[{"who":["*@example.com"]}],"roles":[{"name":"staff","who":["*@example.com"]}]}`)
	app := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	visit := func(cookie string) {
		w := &mute{header: http.Header{}}
		if err := gate.ServeHTTP(w, prepared(chromes("login="+cookie, nil), w), app); err != nil || w.status != 0 {
			t.Fatalf("%d, %v", w.status, err)
		}
	}
	cookies := make([]string, sessions)
	for i := range cookies {
		cookies[i] = enter(t, gate)
	}
	visit(enter(t, gate)) // what is made once
	before := alive()
	for _, cookie := range cookies {
		visit(cookie)
	}
	after := alive()
	objects, bytes := float64(after.HeapObjects-before.HeapObjects)/sessions, float64(after.HeapAlloc-before.HeapAlloc)/sessions
	t.Logf("a session at hand is of %.1f objects and %.0f bytes", objects, bytes)
	if objects > 18 || bytes > 3600 {
		t.Errorf("a session at hand is of %.1f objects and %.0f bytes", objects, bytes)
	}
	runtime.KeepAlive(cookies)
}

func alive() (m runtime.MemStats) {
	runtime.GC()
	runtime.GC() // what had a finalizer
	runtime.ReadMemStats(&m)
	return m
}
