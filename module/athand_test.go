package module

import (
	"net/http"
	"runtime"
	"runtime/metrics"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Every collection of garbage goes over what is kept of the sessions at hand, and
// its time is taken from requests: it goes by objects, and by the bytes in which
// pointers lie, more than by all bytes.
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
	objects, bytes, scanned := (after.objects-before.objects)/sessions, (after.bytes-before.bytes)/sessions, (after.scanned-before.scanned)/sessions
	t.Logf("a session at hand is of %.1f objects and %.0f bytes, of which %.0f are scanned", objects, bytes, scanned)
	if objects > 12 || bytes > 3400 || scanned > 1000 {
		t.Error("that is more than it was")
	}
	runtime.KeepAlive(cookies)
}

// heap is what is alive: bytes in all, and those that are scanned for pointers.
type heap struct{ objects, bytes, scanned float64 }

func alive() heap {
	runtime.GC()
	runtime.GC() // what had a finalizer
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	scanned := []metrics.Sample{{Name: "/gc/scan/heap:bytes"}}
	metrics.Read(scanned)
	return heap{float64(m.HeapObjects), float64(m.HeapAlloc), float64(scanned[0].Value.Uint64())}
}
