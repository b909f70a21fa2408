package main

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"
)

const (
	// alive is how much each proxy is made to hold, or what one of them holds and
	// spare, where that is more. With Go's default it then collects after as much
	// garbage again.
	alive = 32 << 20
	spare = 8 << 20
)

// bench is one run of the benchmark.
type bench struct {
	settings
	dir        string
	appAddress string
	issuer     string // host:port
	ports      struct{ plain, redirect, floor, gate, stock, stockRedirect int }
	visitors   []visitor

	app, load          *process
	plain, floor, gate *proxy
	further            []*proxy // a part's own
	results            *results
}

// arm is one way to serve a visitor.
type arm struct {
	name  string
	proxy *proxy // nil: somebody else's
	pid   int    // somebody else's, 0 where it is not known
	order order
	// forwards says whether the app sees each request; else none.
	forwards bool
	expect   expectation
	streams  streaming
}

// turn is what one arm did in one round.
type turn struct {
	PerSecond   float64 `json:"requests_per_second"`
	P50         float64 `json:"p50_us"`
	P99         float64 `json:"p99_us"`
	CPU         float64 `json:"cpu_us_per_request"`
	Collections float64 `json:"collections_per_1000_requests"`
	Allocated   float64 `json:"bytes_per_request"`
	Allocations float64 `json:"allocations_per_request"`
	Requests    int64   `json:"requests"`
	// Asked is how often the store was asked within a request's work, where it
	// counts; Signed how many requests came with a new assertion.
	Asked  float64 `json:"store_asked_per_request"`
	Signed float64 `json:"assertions_signed_per_request"`
	fault  string
}

// measure runs what was asked for, one part after the other.
func measure(s settings) (_ *results, err error) {
	b := &bench{settings: s, results: newResults(s)}
	if b.dir, err = os.MkdirTemp("", "caddy-login-bench-"); err != nil {
		return nil, fmt.Errorf("making a directory: %w", err)
	}
	defer func() {
		b.stop()
		err = errors.Join(err, os.RemoveAll(b.dir))
	}()
	if err := b.prepare(); err != nil {
		return nil, err
	}
	for _, p := range parts {
		b.take(p)
	}
	b.results.judge()
	return b.results, nil
}

// prepare settles who listens where, and serves the provider.
func (b *bench) prepare() error {
	ports, err := freePorts(7)
	if err != nil {
		return err
	}
	b.ports.plain, b.ports.redirect, b.ports.floor, b.ports.gate = ports[0], ports[1], ports[2], ports[3]
	b.ports.stock, b.ports.stockRedirect = ports[4], ports[5]
	b.appAddress = cmp.Or(b.settings.app, fmt.Sprintf("127.0.0.1:%d", ports[6]))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening for the provider: %w", err)
	}
	b.issuer = l.Addr().String()
	server := &http.Server{Handler: newIssuer(b.issuer, b.siteOf(b.ports.gate), b.conns), ReadHeaderTimeout: 10 * time.Second}
	go server.Serve(l)
	return nil
}

func (b *bench) siteOf(port int) string { return fmt.Sprintf("localhost:%d", port) }

// measureSignedIn has everybody ask who has signed in, with the proxies on all
// cores and on one.
func (b *bench) measureSignedIn() error {
	if err := b.allCores(); err != nil {
		return err
	}
	return b.oneCore()
}

// allCores weighs the proxies, signs the visitors in, and measures with
// nothing held to any processor.
func (b *bench) allCores() error {
	if err := b.startOthers(mask{}); err != nil {
		return err
	}
	if err := cmp.Or(b.startPlain(mask{}), b.startGate(mask{})); err != nil {
		return err
	}
	if err := b.weigh(); err != nil {
		return err
	}
	if err := b.signInAll(); err != nil {
		return err
	}
	if err := b.startFloor(mask{}); err != nil {
		return err
	}
	section, err := b.section(fmt.Sprintf("all %d cores", runtime.NumCPU()))
	if err != nil {
		return err
	}
	b.results.Sections = append(b.results.Sections, section)
	defer b.stop()
	return b.writeProfile()
}

// oneCore measures with each proxy held to one processor, and the app and the
// load generator on the others.
func (b *bench) oneCore() error {
	first, others := processors()
	if err := b.startOthers(others); err != nil {
		return err
	}
	if err := cmp.Or(b.startPlain(first), b.startGate(first), b.startFloor(first)); err != nil {
		return err
	}
	section, err := b.section("the proxy on one core")
	if err != nil {
		return err
	}
	b.results.Sections = append(b.results.Sections, section)
	b.stop()
	return nil
}

func (b *bench) startOthers(on mask) (err error) {
	log := filepath.Join(b.dir, "others.log")
	if b.app, err = startProcess(roleApp, on, log, appVariable+"="+b.appAddress); err != nil {
		return err
	}
	b.load, err = startProcess(roleLoad, on, log)
	return err
}

func (b *bench) startPlain(on mask) (err error) {
	b.plain, err = b.startProxy(launch{name: "plain", on: on, port: b.ports.plain, caddyfile: plainSite,
		env: []string{fmt.Sprintf("PORT2=%d", b.ports.redirect)}})
	return err
}

func (b *bench) startGate(on mask) (err error) {
	b.gate, err = b.startProxy(launch{name: "gate", on: on, port: b.ports.gate, caddyfile: gateSite,
		env: []string{"STORE=" + filepath.Join(b.dir, "store"), "ISSUER=http://" + b.issuer, "BENCH_SECRET=" + clientSecret}})
	return err
}

func (b *bench) startFloor(on mask) (err error) {
	b.floor, err = b.startFloorOf("floor", b.visitors, on, b.ports.floor)
	return err
}

// startFloorOf starts a floor that knows these visitors.
func (b *bench) startFloorOf(name string, visitors []visitor, on mask, port int) (*proxy, error) {
	sessions, err := sessionsFile(visitors)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(b.dir, name+".json")
	if err := os.WriteFile(path, sessions, 0o600); err != nil {
		return nil, fmt.Errorf("writing the floor's sessions: %w", err)
	}
	return b.startFurther(launch{name: name, on: on, port: port, caddyfile: floorSite, env: []string{"SESSIONS=" + path}})
}

// stop ends all processes. It may be called twice.
func (b *bench) stop() {
	for _, p := range append(b.further, b.plain, b.gate) {
		if p != nil {
			p.stop()
		}
	}
	b.app.stop()
	b.load.stop()
	b.plain, b.floor, b.gate, b.app, b.load, b.further = nil, nil, nil, nil, nil, nil
}

// signInAll signs the visitors in at the gate, whose store keeps them for all parts.
func (b *bench) signInAll() error {
	if len(b.visitors) > 0 {
		return nil
	}
	var all []visitor
	for i := range b.conns {
		v, err := signIn(b.siteOf(b.ports.gate), i)
		if err != nil {
			return fmt.Errorf("signing visitor %d in: %w", i, err)
		}
		all = append(all, v)
	}
	b.visitors = all
	return nil
}

// The arms' names, as they are reported.
const (
	armPlain       = "plain reverse_proxy"
	armFloor       = "floor"
	armGate        = "gate"
	armRedirect    = "302, Caddy's redir"
	armAskedToSign = "302, gate"
	armYours       = "yours"
)

// told is what the app must be told of the visitors.
func (b *bench) told() expectation {
	told := expectation{Cookie: theme}
	for _, v := range b.visitors {
		told.Headers = append(told.Headers, v.headers)
	}
	return told
}

func (b *bench) arms() []*arm {
	told := b.told()
	redirect := b.siteOf(b.ports.redirect)
	arms := []*arm{
		{name: armPlain, proxy: b.plain, order: b.page(b.plain.address, ""), forwards: true},
		{name: armFloor, proxy: b.floor, order: b.page(b.floor.address, ""), forwards: true, expect: told},
		{name: armGate, proxy: b.gate, order: b.page(b.gate.address, ""), forwards: true, expect: told},
		{name: armRedirect, proxy: b.plain, order: b.redirect(redirect)},
		{name: armAskedToSign, proxy: b.gate, order: b.redirect(b.gate.address)},
	}
	if b.url != "" {
		arms = append(arms, &arm{name: armYours, pid: b.pid, order: b.page(trimScheme(b.url), b.cookie), forwards: true, expect: expectation{Anything: true}})
	}
	return arms
}

func (b *bench) page(address, cookie string) order {
	return order{Address: address, Requests: b.requests(address, true, cookie), Status: "HTTP/1.1 200 ", Length: len(body), Duration: b.length()}
}

func (b *bench) redirect(address string) order {
	return order{Address: address, Requests: b.requests(address, false, ""), Status: "HTTP/1.1 302 ",
		Head: "\r\nLocation: " + askedToSignIn + "\r\n", Duration: b.length()}
}

func (b *bench) length() time.Duration { return time.Duration(b.seconds * float64(time.Second)) }

// section measures all arms, round for round.
func (b *bench) section(name string) (*section, error) { return b.compareArms(name, b.arms(), pairs) }

// compareArms has all arms take their turns, round for round, and compares those
// that are paired.
func (b *bench) compareArms(name string, arms []*arm, paired []pair) (*section, error) {
	if err := b.warmUp(arms); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := b.evenOut(arms); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b.takeTurns(name, arms, paired)
}

// compareAsTheyAre does so with proxies that collect when they like to.
func (b *bench) compareAsTheyAre(name string, arms []*arm, paired []pair) (*section, error) {
	if err := b.warmUp(arms); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b.takeTurns(name, arms, paired)
}

// takeTurns has each arm take a turn in each round, in any order.
func (b *bench) takeTurns(name string, arms []*arm, paired []pair) (*section, error) {
	s := newSection(name, arms)
	s.pairs = paired
	for range b.rounds {
		turns := make(map[string]*turn)
		for _, i := range rand.Perm(len(arms)) {
			t, err := b.turn(arms[i])
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", name, arms[i].name, err)
			}
			if t.fault != "" {
				b.results.fault(name+", "+arms[i].name, t.fault)
				continue
			}
			turns[arms[i].name] = t
		}
		s.add(turns)
	}
	return s, nil
}

// warmUp has every arm's pools filled.
func (b *bench) warmUp(arms []*arm) error {
	for _, a := range arms {
		if _, err := b.turn(a); err != nil {
			return fmt.Errorf("warming up %s: %w", a.name, err)
		}
	}
	return nil
}

// evenOut has the arms' proxies collect at one rate.
func (b *bench) evenOut(arms []*arm) error {
	level := alive
	for _, p := range proxiesOf(arms) {
		var held int
		if err := p.ask("/held", struct{}{}, &held); err != nil {
			return err
		}
		level = max(level, held+spare)
	}
	for _, p := range proxiesOf(arms) {
		if err := p.ask("/even", level, nil); err != nil {
			return err
		}
	}
	return nil
}

// proxiesOf are ours, each once.
func proxiesOf(arms []*arm) (all []*proxy) {
	for _, a := range arms {
		if a.proxy != nil && !slices.Contains(all, a.proxy) {
			all = append(all, a.proxy)
		}
	}
	return all
}

// turn is one arm's turn, with the account of all who took part in it.
func (b *bench) turn(a *arm) (*turn, error) {
	return b.turnBeside(a, func() error { return nil })
}

// turnBeside is a turn while something else is done, and ends with both.
func (b *bench) turnBeside(a *arm, beside func() error) (*turn, error) {
	var before, after usage
	var out outcome
	var at seen
	err := cmp.Or(
		b.app.ask("/begin", a.expect, nil),
		b.open(a),
		a.usage(&before),
		b.run(a, &out, beside),
		a.usage(&after),
		b.app.ask("/end", struct{}{}, &at),
		b.close(a),
	)
	if err != nil {
		return nil, err
	}
	n := float64(out.Answers)
	used := after.since(before)
	return &turn{
		PerSecond: n / out.Took.Seconds(), P50: microseconds(out.P50), P99: microseconds(out.P99),
		CPU: microseconds(used.CPU) / n, Collections: 1000 * float64(used.Collections) / n,
		Allocated: float64(used.Allocated) / n, Allocations: float64(used.Allocations) / n,
		Asked: float64(used.Store[views]) / n, Signed: float64(at.Signed) / n,
		Requests: out.Answers, fault: a.fault(out, at),
	}, nil
}

func (b *bench) run(a *arm, out *outcome, beside func() error) error {
	done := make(chan error, 1)
	go func() { done <- beside() }()
	err := b.load.ask(a.streams.path(), a.order, out)
	return errors.Join(err, <-done)
}

func (a *arm) usage(u *usage) error {
	if a.proxy == nil {
		u.CPU = cpuTimeOf(a.pid)
		return nil
	}
	return a.proxy.ask("/usage", struct{}{}, u)
}

// fault says why a turn does not count, if so.
func (a *arm) fault(out outcome, at seen) string {
	want := out.Answers
	if !a.forwards {
		want = 0
	}
	switch {
	case out.Answers == 0:
		return "no request was answered"
	case out.Wrong > 0:
		return fmt.Sprintf("%d of %d answers were wrong, first: %s", out.Wrong, out.Answers, out.First)
	case at.Requests != want:
		return fmt.Sprintf("the app saw %d requests of %d", at.Requests, want)
	case at.Opened != a.opened(out):
		return fmt.Sprintf("the app saw %d streams open, not %d", at.Opened, a.opened(out))
	case at.Wrong > 0:
		return fmt.Sprintf("the app was told wrong things in %d requests of %d, first: %s", at.Wrong, want, at.First)
	}
	return ""
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// writeProfile has the gate's proxy profiled while it serves signed-in
// visitors.
func (b *bench) writeProfile() error {
	if b.profile == "" {
		return nil
	}
	var taken []byte
	done := make(chan error, 1)
	go func() { done <- b.gate.ask("/profile", b.length(), &taken) }()
	for _, a := range b.arms() {
		if a.name != armGate {
			continue
		}
		if _, err := b.turn(a); err != nil {
			return errors.Join(err, <-done)
		}
	}
	if err := <-done; err != nil {
		return fmt.Errorf("profiling: %w", err)
	}
	return os.WriteFile(b.profile, taken, 0o600)
}
