package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"runtime/pprof"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-login/caddy-login/plugin"
)

// caddyfileVariable names the Caddyfile of a proxy.
const caddyfileVariable = "LOGIN_BENCH_CADDYFILE"

// runCaddy is what an operator runs.
func runCaddy() {
	os.Args = []string{"caddy", "run", "--config", os.Getenv(caddyfileVariable), "--adapter", "caddyfile"}
	caddycmd.Main()
}

func proxyControl() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/usage", answers(usageNow))
	mux.HandleFunc("/held", answers(heldNow))
	mux.HandleFunc("/even", answers(evenOut))
	mux.HandleFunc("/locks", answers(locks))
	mux.HandleFunc("/profile", answers(profile))
	mux.HandleFunc("/letters", answers(letters.fetch))
	mux.HandleFunc("/alive", answers(aliveNow))
	return mux
}

// usage is a process's own account of itself.
type usage struct {
	CPU         time.Duration
	Collections int64
	Allocated   int64 // bytes
	Allocations int64
	Store       tally // by the lobby's store; others count nothing
}

func (u usage) since(before usage) usage {
	return usage{
		CPU: u.CPU - before.CPU, Collections: u.Collections - before.Collections,
		Allocated: u.Allocated - before.Allocated, Allocations: u.Allocations - before.Allocations,
		Store: u.Store.since(before.Store),
	}
}

func usageNow(struct{}) (usage, error) {
	read := readMetrics("/gc/cycles/total:gc-cycles", "/gc/heap/allocs:bytes", "/gc/heap/allocs:objects")
	return usage{CPU: cpuTime(), Collections: read[0], Allocated: read[1], Allocations: read[2], Store: totalNow()}, nil
}

func readMetrics(names ...string) []int64 {
	samples := make([]metrics.Sample, len(names))
	for i, name := range names {
		samples[i].Name = name
	}
	metrics.Read(samples)
	values := make([]int64, len(names))
	for i, sample := range samples {
		values[i] = int64(sample.Value.Uint64())
	}
	return values
}

// aliveNow is what is alive on the heap, in bytes, after a collection.
func aliveNow(struct{}) (int64, error) {
	runtime.GC()
	return readMetrics("/gc/heap/live:bytes")[0], nil
}

// ballast is alive and costs nothing to collect: it holds no pointers.
var ballast []byte

// heldNow is what is alive after a collection, in bytes, as GOGC counts it:
// with stacks and globals.
func heldNow(struct{}) (held int, err error) {
	runtime.GC()
	for _, n := range readMetrics("/gc/heap/live:bytes", "/gc/scan/stack:bytes", "/gc/scan/globals:bytes") {
		held += int(n)
	}
	return held, nil
}

// evenOut has the process hold alive bytes, of which what it lacks is ballast.
func evenOut(alive int) (lacked int, err error) {
	ballast = nil
	held, err := heldNow(struct{}{})
	if err != nil || held > alive {
		return 0, errors.Join(err, fmt.Errorf("%d bytes are alive already, more than %d", held, alive))
	}
	ballast = make([]byte, alive-held)
	runtime.GC()
	return len(ballast), nil
}

// profile is a CPU profile of the process over a while.
func profile(length time.Duration) ([]byte, error) {
	var b bytes.Buffer
	if err := pprof.StartCPUProfile(&b); err != nil {
		return nil, err
	}
	time.Sleep(length)
	pprof.StopCPUProfile()
	return b.Bytes(), nil
}

// theme is one cookie more than ours, which the app is to receive.
const theme = "theme=dark"

// The Caddyfiles of the arms. They differ in nothing but the gate.
const (
	options = `
	admin off
	persist_config off
	log {
		level ERROR
	}
`
	plainSite = "{" + options + `}
http://localhost:{$PORT} {
	bind 127.0.0.1
	reverse_proxy {$APP}
}
http://localhost:{$PORT2} {
	bind 127.0.0.1
	redir * ` + askedToSignIn + ` 302
}
`
	floorSite = "{" + options + `}
http://localhost:{$PORT} {
	bind 127.0.0.1
	bench_floor * {$SESSIONS}
	reverse_proxy {$APP}
}
`
	gateSite = "{" + options + `
	login {
		store badger {$STORE}
	}
}
http://localhost:{$PORT} {
	bind 127.0.0.1
	login {
		oidc bench bench-client {env.BENCH_SECRET} {
			issuer {$ISSUER}
			groups groups
		}
		role staff *@example.com
		allow *@example.com
	}
	reverse_proxy {$APP}
}
`
)

// askedToSignIn is where the gate sends the first visitor without a session.
const askedToSignIn = "/.login/?return=%2Fv%2F0%2Fdashboard%3Ftab%3Dopen"

// proxy is one Caddy.
type proxy struct {
	*process
	name    string
	address string // host:port as in a request
}

// launch is how a proxy is started.
type launch struct {
	name, caddyfile string
	port            int
	env             []string
	on              mask
}

// startProxy starts a Caddy and waits until it serves.
func (b *bench) startProxy(l launch) (*proxy, error) {
	path := filepath.Join(b.dir, l.name+".caddyfile")
	if err := os.WriteFile(path, []byte(l.caddyfile), 0o600); err != nil {
		return nil, fmt.Errorf("writing Caddyfile: %w", err)
	}
	env := b.proxyEnv(l.port, append(l.env, caddyfileVariable+"="+path)...)
	log := filepath.Join(b.dir, l.name+".log")
	p, err := startProcess(roleProxy, l.on, log, env...)
	if err != nil {
		return nil, err
	}
	started := &proxy{process: p, name: l.name, address: fmt.Sprintf("localhost:%d", l.port)}
	if err := p.serves(l.port); err != nil {
		text, _ := os.ReadFile(log)
		p.stop()
		return nil, fmt.Errorf("starting %s: %w\n%s", l.name, err, text)
	}
	return started, nil
}

// startFurther starts a Caddy that ends with the part.
func (b *bench) startFurther(l launch) (*proxy, error) {
	p, err := b.startProxy(l)
	if err == nil {
		b.further = append(b.further, p)
	}
	return p, err
}

// proxyEnv is what the Caddyfiles need, and keeps Caddy in our directory.
func (b *bench) proxyEnv(port int, more ...string) []string {
	return append(more, fmt.Sprintf("PORT=%d", port), "APP="+b.appAddress,
		"HOME="+b.dir, "XDG_DATA_HOME="+b.dir, "XDG_CONFIG_HOME="+b.dir)
}

// serves waits until somebody listens on the port.
func (p *process) serves(port int) error {
	timeout, tick := time.After(30*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for {
		if conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return conn.Close()
		}
		select {
		case <-tick.C:
		case <-p.gone:
			return errors.New("it ended")
		case <-timeout:
			return errors.New("it does not listen")
		}
	}
}

// Ports below those that a system chooses itself: what begins to listen or to
// connect anywhere meanwhile takes none of these.
const (
	firstPort = 10_000
	mayBeFree = 10_000
)

// freePorts are ports that were free a moment ago.
func freePorts(n int) (free []int, err error) {
	for range mayBeFree {
		port := firstPort + rand.IntN(mayBeFree)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue // somebody has it
		}
		defer l.Close()
		if free = append(free, port); len(free) == n {
			return free, nil
		}
	}
	return nil, fmt.Errorf("looking for free ports: found %d of %d", len(free), n)
}
