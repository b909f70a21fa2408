package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// All of those kept are asked for, each as often as any other.
func TestEachRequestIsAnothers(t *testing.T) {
	g := &generator{kept: make(map[string][][]byte)}
	var all [][]byte
	for i := range 10 {
		all = append(all, fmt.Append(nil, i))
	}
	_, _ = g.keep(requests{"ten", all})
	parts, err := g.of(&order{Kept: "ten", Conns: 3})
	if err != nil || fmt.Sprintf("%s", parts) != "[[0 3 6 9] [1 4 7] [2 5 8]]" {
		t.Errorf("%s, %v", parts, err)
	}
	_, _ = g.keep(requests{"one", all[:1]})
	if parts, err = g.of(&order{Kept: "one", Conns: 3}); err != nil || fmt.Sprintf("%s", parts) != "[[0] [0] [0]]" {
		t.Errorf("%s, %v", parts, err)
	}
	for _, o := range []order{{Kept: "none", Conns: 3}, {Kept: "ten"}, {}} {
		if parts, err := g.of(&o); err == nil {
			t.Errorf("%+v: %s", o, parts)
		}
	}
}

func TestConnectionSendsItsRequestsInTurn(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.URL.Path)
		_, _ = w.Write(body)
	}))
	defer server.Close()
	g := &generator{kept: map[string][][]byte{"two": {[]byte("GET /a HTTP/1.1\r\nHost: a\r\n\r\n"), []byte("GET /b HTTP/1.1\r\nHost: a\r\n\r\n")}}}
	out, err := g.run(order{
		Address: server.Listener.Addr().String(), Kept: "two", Conns: 1,
		Duration: 50 * time.Millisecond, Status: "HTTP/1.1 200 ", Length: len(body),
	})
	if err != nil || out.Wrong != 0 || out.Answers < 2 {
		t.Fatalf("%+v, %v", out, err)
	}
	for i, path := range asked {
		if want := []string{"/a", "/b"}[i%2]; path != want {
			t.Fatalf("request %d is for %s", i, path)
		}
	}
}

// What was said before is known from round to round; who comes first had nothing
// signed anew.
func TestAppNoticesAssertionsThatWereSignedAnew(t *testing.T) {
	a := newApp()
	told := []map[string]string{{assertionHeader: "there"}, {assertionHeader: "there"}}
	if _, err := a.keep(expectations{"two", expectation{Headers: told}}); err != nil {
		t.Fatal(err)
	}
	for i, round := range []struct {
		says []string // of visitor 0, 1, 0, …
		want int64
	}{{[]string{"a", "b", "a", "b"}, 0}, {[]string{"a", "b"}, 0}, {[]string{"c", "b", "c"}, 1}, {[]string{"d", "e", "f"}, 3}} {
		if _, err := a.begin(expectation{Kept: "two"}); err != nil {
			t.Fatal(err)
		}
		for n, said := range round.says {
			r := httptest.NewRequest(http.MethodGet, pathOf(n%2), nil)
			r.Header.Set(assertionHeader, said)
			a.ServeHTTP(httptest.NewRecorder(), r)
		}
		if at, _ := a.end(struct{}{}); at.Signed != round.want || at.Wrong != 0 {
			t.Errorf("round %d: %+v, want %d signed", i, at, round.want)
		}
	}
	if _, err := a.begin(expectation{Kept: "nobody"}); err == nil {
		t.Error("nothing was kept by that name")
	}
}

const lockProfile = `--- mutex:
cycles/second=2000000000
sampling period=1
4000000 2 @ 0x1 0x2 0x3
#	0x1	sync.(*RWMutex).Unlock+0x34	/go/src/sync/rwmutex.go:223
#	0x2	github.com/caddy-login/caddy-login/module/session.(*cache).find+0x12	/m/cache.go:88
#	0x3	github.com/caddyserver/caddy/v2/modules/caddyhttp.(*Server).ServeHTTP+0x1	/c/server.go:1

2000000 1 @ 0x4 0x5
#	0x4	sync.(*Mutex).Unlock+0x34	/go/src/sync/mutex.go:223
#	0x5	github.com/dgraph-io/badger/v4.(*DB).View+0x12	/b/db.go:1
#	0x6	github.com/caddy-login/caddy-login/plugin/store/badger.(*store).View+0x12	/m/store.go:1

6000000 3 @ 0x7 0x8 0x9
#	0x7	sync.(*Mutex).Unlock+0x34	/go/src/sync/mutex.go:223
#	0x8	net/http.(*Transport).tryPutIdleConn+0x12	/go/src/net/http/transport.go:1
#	0x9	github.com/caddy-login/caddy-login/module.(*Gate).pass+0x12	/m/gate.go:1

8000000 1 @ 0x10 0x11
#	0x10	runtime.unlock+0x1	/go/src/runtime/lock.go:1
#	0x11	github.com/caddy-login/caddy-login/plugin/caddy/bench.counted+0x1	/m/counted.go:1
`

// On our account is what we hold, and what is held for us: not what Caddy does
// with the request once we have handed it on, nor what the benchmark does.
func TestLocksOfOursAreToldFromOthers(t *testing.T) {
	got, err := readLocks(strings.NewReader(lockProfile))
	want := waits{Ours: 3 * time.Millisecond, Others: 7 * time.Millisecond, Most: ourCode + "module/session.(*cache).find"}
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for _, broken := range []string{"", "--- mutex:\ncycles/second=many\n", "cycles/second=1\nx 1 @ 0x1\n"} {
		if got, err := readLocks(strings.NewReader(broken)); err == nil {
			t.Errorf("%q: %+v", broken, got)
		}
	}
}

// The profile of this process is read as Go writes it.
func TestWaitingIsNoticed(t *testing.T) {
	before, err := locks(true)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	for deadline := time.Now().Add(10 * time.Second); ; {
		mu.Lock()
		waits := make(chan struct{})
		all.Go(func() { close(waits); mu.Lock(); defer mu.Unlock() })
		<-waits
		for until := time.Now().Add(5 * time.Millisecond); time.Now().Before(until); {
			runtime.Gosched()
		}
		mu.Unlock()
		all.Wait()
		after, err := locks(true)
		if err != nil {
			t.Fatal(err)
		}
		if waited := after.since(before); waited.Others >= time.Millisecond && waited.Ours == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody was seen to wait: %+v", after)
		}
	}
	if _, err := locks(false); err != nil {
		t.Fatal(err)
	}
}
