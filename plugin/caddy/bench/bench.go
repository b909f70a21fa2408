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
	"time"
)

// alive is how much each proxy is made to hold. With Go's default it then
// collects after as much garbage again.
const alive = 32 << 20

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
	fault       string
}

// measure runs everything, one thing after the other.
func measure(s settings) (_ *results, err error) {
	b := &bench{settings: s, results: newResults(s)}
	if b.dir, err = os.MkdirTemp("", "caddy-login-bench-"); err != nil {
		return nil, fmt.Errorf("making a directory: %w", err)
	}
	defer func() {
		b.stop()
		err = errors.Join(err, os.RemoveAll(b.dir))
	}()
	for _, part := range []func() error{b.prepare, b.allCores, b.oneCore, b.measureLogIns, b.measureFlood, b.measureMultitude} {
		if err := part(); err != nil {
			return nil, err
		}
	}
	if b.results.SignIns, err = measureSignIns(filepath.Join(b.dir, "signins"), s); err != nil {
		return nil, err
	}
	b.results.Gate, err = measureGate(s.benchtime)
	if err != nil {
		b.results.fault("the gate alone", err.Error())
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

func (b *bench) startFloor(on mask) error {
	sessions, err := sessionsFile(b.visitors)
	if err != nil {
		return err
	}
	path := filepath.Join(b.dir, "sessions.json")
	if err := os.WriteFile(path, sessions, 0o600); err != nil {
		return fmt.Errorf("writing the floor's sessions: %w", err)
	}
	b.floor, err = b.startProxy(launch{name: "floor", on: on, port: b.ports.floor, caddyfile: floorSite,
		env: []string{"SESSIONS=" + path}})
	return err
}

// stop ends all processes. It may be called twice.
func (b *bench) stop() {
	for _, p := range []*proxy{b.plain, b.floor, b.gate} {
		if p != nil {
			p.stop()
		}
	}
	b.app.stop()
	b.load.stop()
	b.plain, b.floor, b.gate, b.app, b.load = nil, nil, nil, nil, nil
}

func (b *bench) signInAll() error {
	for i := range b.conns {
		v, err := signIn(b.siteOf(b.ports.gate), i)
		if err != nil {
			return fmt.Errorf("signing visitor %d in: %w", i, err)
		}
		b.visitors = append(b.visitors, v)
	}
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

func (b *bench) arms() []*arm {
	var told expectation
	for _, v := range b.visitors {
		told.Headers = append(told.Headers, v.headers)
	}
	told.Cookie = theme
	redirect := b.siteOf(b.ports.redirect)
	arms := []*arm{
		{armPlain, b.plain, 0, b.page(b.plain.address, ""), true, expectation{}},
		{armFloor, b.floor, 0, b.page(b.floor.address, ""), true, told},
		{armGate, b.gate, 0, b.page(b.gate.address, ""), true, told},
		{armRedirect, b.plain, 0, b.redirect(redirect), false, expectation{}},
		{armAskedToSign, b.gate, 0, b.redirect(b.gate.address), false, expectation{}},
	}
	if b.url != "" {
		arms = append(arms, &arm{armYours, nil, b.pid, b.page(trimScheme(b.url), b.cookie), true, expectation{Anything: true}})
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
func (b *bench) section(name string) (*section, error) {
	arms := b.arms()
	s := newSection(name, arms)
	if err := b.warmUp(arms); err != nil {
		return nil, err
	}
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

// warmUp has every arm's pools filled, and then collect at one rate.
func (b *bench) warmUp(arms []*arm) error {
	for _, a := range arms {
		if _, err := b.turn(a); err != nil {
			return fmt.Errorf("warming up %s: %w", a.name, err)
		}
	}
	for _, p := range []*proxy{b.plain, b.floor, b.gate} {
		if err := p.ask("/even", alive, nil); err != nil {
			return err
		}
	}
	return nil
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
		a.usage(&before),
		b.run(a.order, &out, beside),
		a.usage(&after),
		b.app.ask("/end", struct{}{}, &at),
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
		Requests: out.Answers, fault: a.fault(out, at),
	}, nil
}

func (b *bench) run(o order, out *outcome, beside func() error) error {
	done := make(chan error, 1)
	go func() { done <- beside() }()
	err := b.load.ask("/run", o, out)
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
