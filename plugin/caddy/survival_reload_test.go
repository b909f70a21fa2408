package main_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptrace"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// reload loads the running config anew, as if it had changed.
func (s *stage) reload(t *testing.T) {
	t.Helper()
	admin := fmt.Sprintf("http://127.0.0.1:%d", s.AdminPort)
	config, err := http.Get(admin + "/config/")
	if err != nil {
		t.Fatal(err)
	}
	defer config.Body.Close()
	r, err := http.NewRequest(http.MethodPost, admin+"/load", config.Body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Cache-Control", "must-revalidate")
	loaded, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer loaded.Body.Close()
	if loaded.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(loaded.Body)
		t.Fatalf("reloading: %d %s", loaded.StatusCode, why)
	}
}

// crowd keeps a site busy: readers each ask every 20 ms, joiners sign in every
// 60 ms, slower than a network may.
type crowd struct {
	all             sync.WaitGroup
	stop            chan struct{}
	asked, signedIn atomic.Int64
	visitors        int

	mu       sync.Mutex
	failed   []string
	answered []string        // requests, by their names
	dropped  map[string]bool // requests, by their names
}

func (c *crowd) fail(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = append(c.failed, fmt.Sprintf(format, args...))
}

func (c *crowd) over() bool {
	select {
	case <-c.stop:
		return true
	default:
		return false
	}
}

func (s *siege) crowd(t *testing.T, readers, joiners int) *crowd {
	c := newCrowd()
	for i := range readers {
		c.reads(s.site+"/in", c.persists(t, s.mustEnter(t, "ada"), i%16 == 1))
	}
	for i := range joiners {
		joiner := c.persists(t, visitorFrom(t, 2+i), i%2 == 1)
		c.every(60*time.Millisecond, func() {
			joiner.ForgetCookies()
			if _, err := s.enter(joiner, "grace"); err != nil {
				c.fail("sign-in: %v", err)
			}
			c.signedIn.Add(1)
		})
	}
	return c
}

func newCrowd() *crowd { return &crowd{stop: make(chan struct{}), dropped: map[string]bool{}} }

func (c *crowd) reads(address string, reader *e2e.Visitor) {
	c.every(20*time.Millisecond, func() {
		got, err := reader.Try(reader.Navigation(address))
		if c.asked.Add(1); err != nil || got.StatusCode != http.StatusOK {
			c.fail("request: %v %d", err, got2(got, err).StatusCode)
		}
	})
}

func (c *crowd) every(pace time.Duration, do func()) {
	c.all.Go(func() {
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for ; !c.over(); <-tick.C {
			do()
		}
	})
}

// persists has a visitor ask again where a closing server dropped a request; anew
// has them make a connection for each.
//
// Go's http.Server that shuts down still reads the first request on a
// connection that it accepted before, and then closes it: no handler is called
// (golang/go issue 75591). And where listeners share a port, Linux resets the
// connections that wait in the queue of one that is closed (tcp_migrate_req).
// Any Caddy does that at a reload, see
// TestConnectionFromBeforeAReloadIsTreatedAsByPlainCaddy and
// TestReloadsDropNoMoreThanThoseOfPlainCaddy, and HTTP lets a client ask again: what it asks is idempotent (RFC 9110 section 9.2.2, RFC 9112
// section 9.3.1). What is dropped is written down, and must turn out to have
// reached nobody; an answer that has begun is never asked for again.
func (c *crowd) persists(t *testing.T, v *e2e.Visitor, anew bool) *e2e.Visitor {
	inner := v.Transport.Clone()
	inner.DisableKeepAlives = anew
	t.Cleanup(inner.CloseIdleConnections)
	v.Transport.RegisterProtocol("https", &persistent{inner: inner, crowd: c, name: "visitor " + strconv.Itoa(c.visitors)})
	c.visitors++
	return v
}

type persistent struct {
	inner *http.Transport
	crowd *crowd
	name  string
	n     int
}

// dropLimit is how often in a row one request may be dropped: a reload can meet
// it once in the server and once in the listener's queue, and so can the next.
const dropLimit = 4

// RoundTrip sends r under a name of its own, which Caddy's access log shows. A
// visitor sends one request at a time.
func (p *persistent) RoundTrip(r *http.Request) (*http.Response, error) {
	for try := 1; ; try++ {
		p.n++
		id := p.name + "/" + strconv.Itoa(p.n)
		var heard atomic.Bool
		one := r.Clone(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{GotFirstResponseByte: func() { heard.Store(true) }}))
		one.Header.Set("User-Agent", id)
		answer, err := p.inner.RoundTrip(one)
		if err == nil {
			p.crowd.note(func(c *crowd) { c.answered = append(c.answered, id) })
			return answer, nil
		}
		if !isDrop(err) || heard.Load() || r.Method != http.MethodGet || try == dropLimit {
			return nil, err
		}
		p.crowd.note(func(c *crowd) { c.dropped[id] = true })
	}
}

// isDrop reports whether the other side closed or reset the connection. That
// nobody listens is no drop.
func isDrop(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func (c *crowd) note(change func(*crowd)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(c)
}

var handledBy = regexp.MustCompile(`"msg":"handled request".*"User-Agent":\["(visitor \d+/\d+)"\]`)

// account compares what the crowd saw with what Caddy says that it did: each
// request reached a handler once and was answered, or was dropped before it
// reached any.
func (c *crowd) account(t *testing.T, log string) {
	t.Helper()
	handled := map[string]int{}
	for _, match := range handledBy.FindAllStringSubmatch(log, -1) {
		handled[match[1]]++
	}
	for _, id := range c.answered {
		if handled[id] != 1 {
			t.Errorf("%s was answered once and handled %d times", id, handled[id])
		}
	}
	for id := range c.dropped {
		if handled[id] != 0 {
			t.Errorf("%s reached a handler and was not answered", id)
		}
	}
}

// besiegedAt is besieged with its database in dir, and without the debug log.
func besiegedAt(dir string) string {
	return strings.Replace(besieged, "\tdebug\n", "\tlogin {\n\t\tstore badger "+dir+"\n\t}\n", 1)
}

// A reload loses no request that reached us, and no sign-in, and the database
// stays open.
func TestReloadsUnderLoadLoseNothing(t *testing.T) {
	reloads, readers, joiners := rounds(10, 100), 4, 4
	if *soak {
		readers = 64
	}
	dir := t.TempDir()
	opened := openings(t, dir)
	s := besiege(t, unrecorded(t, besiegedAt(dir)))
	c := s.crowd(t, readers, joiners)
	begun, rate := time.Now(), 0.
	figures(t, "%d reloads, %d requests (%.0f/s) and %d sign-ins, %d failed, %d dropped before they reached a handler, for %d visitors; openings of the database: %d", func() []any {
		return []any{reloads, c.asked.Load(), rate, c.signedIn.Load(), len(c.failed), len(c.dropped), c.visitors, opened()}
	})
	half := c.persists(t, visitorFrom(t, 100), true)
	for range reloads {
		s.reloadBetween(t, c, half, int64(10*readers))
		if n := opened(); n != 1 {
			t.Fatalf("the database was opened %d times", n)
		}
	}
	c.disperse()
	if rate = float64(len(c.answered)) / time.Since(begun).Seconds(); *soak && rate < 2000 {
		t.Errorf("only %.0f requests a second", rate)
	}
	s.Stop()
	c.account(t, s.Log())
	if len(c.failed) > 0 || c.asked.Load() < int64(10*readers*reloads) || c.signedIn.Load() < int64(2*reloads) {
		t.Errorf("of %d requests and %d sign-ins %d failed: %q", c.asked.Load(), c.signedIn.Load(), len(c.failed), c.failed[:min(len(c.failed), 5)])
	}
	// A visitor has one request under way at a time.
	if len(c.dropped) > c.visitors*reloads {
		t.Errorf("%d requests of %d visitors were dropped at %d reloads", len(c.dropped), c.visitors, reloads)
	}
}

// reloadBetween reloads between the halves of somebody's sign-in, and waits until
// the crowd has asked that often since.
func (s *siege) reloadBetween(t *testing.T, c *crowd, half *e2e.Visitor, often int64) {
	t.Helper()
	half.ForgetCookies()
	pending := s.mustCome(t, half, "op", "mallory")
	s.reloadUnder(t, c, often)
	if session(half.Get(pending.callback)) == "" {
		t.Error("a half-done sign-in was lost")
	}
}

// late is what becomes of a request on a connection that was opened before a
// reload, and used only when the old config's server had begun to close.
func late(t *testing.T, program, caddyfile string) (answered bool) {
	t.Helper()
	s := &stage{Caddy: e2e.NewCaddy(t, e2e.BuildPackage(t, program))}
	s.site = fmt.Sprintf("https://app.test:%d", s.Port)
	s.Start(caddyfile)
	used, unused := e2e.Dial(t, s.site), e2e.Dial(t, s.site)
	if err := unused.Conn.(*tls.Conn).Handshake(); err != nil {
		t.Fatal(err)
	}
	const request = "GET /in HTTP/1.1\r\nHost: app.test\r\nUser-Agent: %s\r\n\r\n"
	if got := used.Say(request, "early").Hear(http.MethodGet); got.StatusCode != http.StatusNoContent {
		t.Fatalf("before the reload: %d", got.StatusCode)
	}
	s.reload(t)
	if !used.Closed(30 * time.Second) {
		t.Fatal("the old config's server goes on")
	}
	_, err := fmt.Fprintf(unused, request, "late")
	if err == nil {
		_, err = unused.Line()
	}
	s.Stop()
	if handled := strings.Contains(s.Log(), `"User-Agent":["late"]`); handled != (err == nil) {
		t.Errorf("%s: a request reached a handler: %t, and had for an answer: %v", program, handled, err)
	}
	return err == nil
}

// What Go's server does to a connection that a reload overtakes, it does with us
// and without us.
func TestConnectionFromBeforeAReloadIsTreatedAsByPlainCaddy(t *testing.T) {
	const site = "https://app.test:{$PORT} {\n\tlog\n\t%srespond 204\n}\n"
	plain := late(t, e2e.Plain, fmt.Sprintf(site, ""))
	ours := late(t, e2e.Ours, fmt.Sprintf(site, "login {\n\t\toidc op site secret {\n\t\t\tissuer http://127.0.0.1:1\n\t\t}\n\t\tallow anyone\n\t}\n\t"))
	if t.Logf("answered by plain Caddy: %t, by ours: %t", plain, ours); ours != plain {
		t.Errorf("a request on it is answered: %t, by plain Caddy: %t", ours, plain)
	}
}

// A reload of ours drops about as much of what no handler has seen as one of a
// Caddy without us: both are asked and reloaded alike, in turn.
func TestReloadsDropNoMoreThanThoseOfPlainCaddy(t *testing.T) {
	reloads, visitors := rounds(10, 100), 12
	s := besiege(t, unrecorded(t, strings.Replace(besieged, "\tdebug\n", "", 1)))
	ada := s.mustEnter(t, "ada")
	without := &stage{Caddy: e2e.NewCaddy(t, e2e.BuildPackage(t, e2e.Plain))}
	without.site = fmt.Sprintf("https://app.test:%d", without.Port)
	without.Start(unrecorded(t, "https://app.test:{$PORT} {\n\tlog\n\treverse_proxy {$APP}\n}\n"))
	ours, plain := newCrowd(), newCrowd()
	figures(t, "%d reloads each, dropped before they reached a handler: by ours %d of %d requests, by plain Caddy %d of %d", func() []any {
		return []any{reloads, len(ours.dropped), ours.asked.Load(), len(plain.dropped), plain.asked.Load()}
	})
	for range visitors {
		v := e2e.NewVisitor(t)
		v.Jar = ada.Jar
		ours.reads(s.site+"/in", ours.persists(t, v, true))
		plain.reads(without.site+"/in", plain.persists(t, e2e.NewVisitor(t), true))
	}
	for range reloads {
		s.reloadUnder(t, ours, int64(5*visitors))
		without.reloadUnder(t, plain, int64(5*visitors))
	}
	ours.disperse()
	plain.disperse()
	if len(ours.failed) > 0 || ours.asked.Load() < int64(5*visitors*reloads) {
		t.Errorf("of %d requests %d failed: %q", ours.asked.Load(), len(ours.failed), ours.failed[:min(len(ours.failed), 5)])
	}
	if chance := excess(ours, plain); chance < 1e-6 {
		t.Errorf("ours drops more: the chance of that is %.2g", chance)
	}
}

// reloadUnder reloads, and waits until a crowd has asked that often since.
func (s *stage) reloadUnder(t *testing.T, c *crowd, often int64) {
	t.Helper()
	seen := c.asked.Load() + often
	s.reload(t)
	e2e.Eventually(t, e2e.Patience, "requests to go on", func() bool { return c.asked.Load() >= seen })
}

// disperse sends a crowd home, and waits until it is gone.
func (c *crowd) disperse() {
	close(c.stop)
	c.all.Wait()
}

// tolerated is how much likelier a request of ours may be dropped than one of
// plain Caddy's: which of the two is busier when it is reloaded is the machine's
// affair, and so is that what is dropped at once is no independent chance.
const tolerated = 1.5

// excess is the chance that ours has at least so many of all that were dropped,
// were each of its requests as likely to be as is tolerated.
func excess(ours, plain *crowd) float64 {
	share := tolerated * float64(ours.asked.Load())
	share /= share + float64(plain.asked.Load())
	return atLeast(len(ours.dropped), len(ours.dropped)+len(plain.dropped), share)
}

// atLeast is the chance that k or more of n come true, each with the chance p.
func atLeast(k, n int, p float64) (chance float64) {
	for ; k <= n; k++ {
		all, _ := math.Lgamma(float64(n + 1))
		some, _ := math.Lgamma(float64(k + 1))
		others, _ := math.Lgamma(float64(n - k + 1))
		chance += math.Exp(all - some - others + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
	}
	return chance
}

func TestChancesOfDroppedRequests(t *testing.T) {
	for _, of := range []struct {
		k, n    int
		p, want float64
	}{{0, 0, .5, 1}, {0, 9, .3, 1}, {1, 1, .25, .25}, {10, 10, .5, 1. / 1024}, {2, 3, .5, .5}, {300, 300, .6, math.Pow(.6, 300)}} {
		if got := atLeast(of.k, of.n, of.p); math.Abs(got/of.want-1) > 1e-9 {
			t.Errorf("%d of %d with %g each: %g, want %g", of.k, of.n, of.p, got, of.want)
		}
	}
}

// weigh is what Caddy's process weighs: goroutines, open files and resident bytes
// as they are, then, in bytes, what is held once all garbage is gone, and the most
// that its heap has ever been. These two do not count what the race detector takes,
// nor what files are mapped.
func (s *siege) weigh(t *testing.T) map[string]float64 {
	t.Helper()
	running := s.metrics(t)
	for range 2 { // what a pool keeps outlives one collection
		s.adminSays(t, "debug/pprof/heap?gc=1")
	}
	kept := s.metrics(t)
	weights := map[string]float64{
		"go_goroutines": running["go_goroutines"], "process_open_fds": running["process_open_fds"],
		"process_resident_memory_bytes": running["process_resident_memory_bytes"],

		"held": kept["go_memstats_heap_alloc_bytes"] + kept["go_memstats_stack_inuse_bytes"],
		"most": kept["go_memstats_heap_sys_bytes"],
	}
	for what, much := range weights {
		if much == 0 {
			e2e.Without(t, "a metric of "+what)
		}
	}
	return weights
}

// wantFlat checks what was weighed before and after: at most so many MB more are
// held, and at most so many more were ever taken.
func wantFlat(t *testing.T, before, after map[string]float64, held, most float64) {
	t.Helper()
	more, taken := (after["held"]-before["held"])/mega, (after["most"]-before["most"])/mega
	t.Logf("%.1f MB are held, %.1f more; %.1f more were taken", after["held"]/mega, more, taken)
	if more > held || taken > most {
		t.Errorf("%.1f MB more are held, and %.1f more were taken", more, taken)
	}
}

// metrics are those of Caddy's that have no labels.
func (s *siege) metrics(t *testing.T) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	for line := range strings.Lines(s.adminSays(t, "metrics")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		all[name], _ = strconv.ParseFloat(value, 64)
	}
	return all
}

// adminSays is what Caddy's admin endpoint answers.
func (s *siege) adminSays(t *testing.T, what string) string {
	t.Helper()
	answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/%s", s.AdminPort, what))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("asking for %s: %d %v", what, answer.StatusCode, err)
	}
	return string(body)
}

func TestIdleReloadsLeaveNothingBehind(t *testing.T) {
	reloads, first, dir := rounds(50, 1000), 20, t.TempDir()
	opened := openings(t, dir)
	s := besiege(t, besiegedAt(dir))
	s.mustEnter(t, "ada")
	for range first {
		s.reload(t)
	}
	before := s.weigh(t)
	var after map[string]float64
	figures(t, "%d reloads, before %v, after %v, openings of the database: %d", func() []any { return []any{reloads, before, after, opened()} })
	for range reloads {
		s.reload(t)
	}
	if n := opened(); n != 1 {
		t.Errorf("the database was opened %d times", n)
	}
	e2e.Eventually(t, e2e.Patience, fmt.Sprintf("goroutines and files to come back to %v", before), func() bool {
		after = s.weigh(t)
		return after["go_goroutines"] <= before["go_goroutines"]+10 && after["process_open_fds"] <= before["process_open_fds"]+5
	})
	wantFlat(t, before, after, 8, 64)
	if grown := after["process_resident_memory_bytes"] - before["process_resident_memory_bytes"]; grown > 64*mega {
		t.Errorf("memory grew by %.0f MB", grown/mega) // a store that is mapped and never unmapped, say
	}
	if n := strings.Count(s.Log(), `"load complete"`); n != first+reloads {
		t.Errorf("%d reloads took place", n)
	}
	s.mustEnter(t, "ada")
}
