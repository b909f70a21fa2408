package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest"
)

// flood is what it does to a site and its signed-in visitors that strangers ask
// for codes without end: each from a network of its own, for an address of its
// own, to all of which mail may go.
type flood struct {
	// Asks came at once, Admitted of them have a code; the rest was turned away.
	Asks     int64 `json:"asks"`
	Admitted int64 `json:"admitted"`
	// PerSecond is how fast they came, as fast as they were answered.
	PerSecond float64 `json:"asks_per_second"`
	// Before and After are what that left behind.
	Before holding `json:"before"`
	After  holding `json:"after"`
	// Written is what the process had the disk write meanwhile, in bytes.
	Written int64 `json:"disk_written_bytes"`

	// Pace is how many more asked in a second of the rounds, nearly all of whom
	// are turned away, and Ask the CPU of one of them beside plain reverse_proxy.
	// Quiet is the CPU of a signed-in request without them, and Beside of one
	// with them, theirs taken off. Microseconds.
	Pace   float64 `json:"asks_per_second_in_rounds"`
	Ask    spread  `json:"cpu_us_per_ask"`
	Quiet  spread  `json:"cpu_us_per_request_without"`
	Beside spread  `json:"cpu_us_per_request_beside"`
	// Ratio is Beside to Quiet, within rounds.
	Ratio spread `json:"cpu_beside_to_without"`
}

// holding is what a process holds, in MB (1 MB = 2^20 bytes).
type holding struct {
	weight
	// Alive is the heap after a collection.
	Alive float64 `json:"alive"`
	// Disk is the length of the store's files.
	Disk float64 `json:"disk"`
}

// floodSites is one Caddy with a site that people enter by email, and a plain
// one.
const floodSites = `{
	admin off
	persist_config off
	servers {
		trusted_proxies static 127.0.0.1/32
	}
	login {
		store bench_counted {$STORE}
	}
}
http://localhost:{$PORT} {
	bind 127.0.0.1` + mailSite + `	reverse_proxy {$APP}
}
http://localhost:{$PORT2} {
	bind 127.0.0.1
	reverse_proxy {$APP}
}
`

// flooded is a site under a flood.
type flooded struct {
	*lobby
	store           string
	visitors, plain *arm
	asker           *http.Client
	asked           atomic.Int64
	admitted        atomic.Int64
}

// measureFlood floods a site. What goes wrong is a fault, and the end of it.
func (b *bench) measureFlood() error {
	r := new(flood)
	b.results.Flood = r
	defer b.stop()
	if err := b.startOthers(mask{}); err != nil {
		return err
	}
	f, err := b.openFlooded()
	if err != nil {
		return err
	}
	defer f.close()
	err = b.floodAtOnce(f, r)
	if err == nil {
		err = b.floodInRounds(f, r)
	}
	if err != nil {
		b.results.fault("flood", err.Error())
	}
	return nil
}

// openFlooded starts the Caddy and has visitors sign in. The app must be there.
func (b *bench) openFlooded() (*flooded, error) {
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	f := &flooded{lobby: &lobby{met: make(map[string]string)}, store: filepath.Join(b.dir, "flooded")}
	f.asker = &http.Client{
		Timeout:       30 * time.Second,
		Transport:     &http.Transport{MaxIdleConnsPerHost: askers},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	f.mail, f.nobody = newMailSites(ports[0], new(logintest.Issuer), nil)
	f.proxy, err = b.startProxy(launch{name: "flooded", port: ports[0], caddyfile: floodSites, env: []string{
		"STORE=" + f.store, fmt.Sprintf("PORT2=%d", ports[1])}})
	if err != nil {
		return nil, err
	}
	if err := f.admit(b, b.siteOf(ports[1])); err != nil {
		f.close()
		return nil, fmt.Errorf("signing visitors in by email: %w", err)
	}
	return f, nil
}

// admit signs the visitors in, by the codes that they get, and warms up.
func (f *flooded) admit(b *bench, plain string) error {
	for _, o := range []*occasion{
		{logInAsk, f.mail, f.newcomers, askFor, (*caller).isMailed, 1},
		{logInCode, f.mail, f.within, enter, f.isNew, 1},
	} {
		if _, err := f.turn(o, b.conns); err != nil {
			return err
		}
	}
	f.arms(b, plain)
	for _, a := range []*arm{f.visitors, f.plain} {
		if _, err := b.turn(a); err != nil {
			return err
		}
	}
	return nil
}

// arms are those who signed in, and the same people where nobody has to.
func (f *flooded) arms(b *bench, plain string) {
	visitors := order{Address: f.mail.address, Status: "HTTP/1.1 200 ", Length: len(body), Duration: b.length()}
	others := visitors
	others.Address = plain
	told := expectation{Cookie: theme}
	for i, c := range f.mail.inside {
		told.Headers = append(told.Headers, c.told)
		visitors.Requests = append(visitors.Requests, fmt.Appendf(nil, chrome, pathOf(i), f.mail.address, theme+"; login="+c.cookie))
		others.Requests = append(others.Requests, fmt.Appendf(nil, chrome, pathOf(i), plain, theme))
	}
	f.visitors = &arm{name: armGate, proxy: f.proxy, order: visitors, forwards: true, expect: told}
	f.plain = &arm{name: armPlain, proxy: f.proxy, order: others, forwards: true, expect: expectation{Cookie: theme}}
}

// floodAtOnce has all ask as fast as they are answered, and weighs what that
// leaves behind.
func (b *bench) floodAtOnce(f *flooded, r *flood) (err error) {
	if r.Before, err = f.holds(); err != nil {
		return err
	}
	written, began := diskWritten(f.proxy.cmd.Process.Pid), time.Now()
	if err := f.pour(b.flood, 0); err != nil {
		return err
	}
	r.Asks, r.Admitted, r.PerSecond = f.asked.Load(), f.admitted.Load(), float64(b.flood)/time.Since(began).Seconds()
	r.Written = diskWritten(f.proxy.cmd.Process.Pid) - written
	r.After, err = f.holds()
	return err
}

func (f *flooded) holds() (holding, error) { return holdingOf(f.proxy, f.store) }

// holdingOf is what a proxy with a store in this directory holds.
func holdingOf(p *proxy, store string) (h holding, err error) {
	resident, anonymous := memory(p.cmd.Process.Pid)
	h.weight = weight{float64(resident) / (1 << 20), float64(anonymous) / (1 << 20)}
	var alive int64
	if err := p.ask("/alive", struct{}{}, &alive); err != nil {
		return h, err
	}
	h.Alive = float64(alive) / (1 << 20)
	bytes, err := lengthOfFiles(store)
	h.Disk = float64(bytes) / (1 << 20)
	return h, err
}

// lengthOfFiles is that of all files below dir. One may go meanwhile.
func lengthOfFiles(dir string) (sum int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		sum += info.Size()
		return err
	})
	return sum, err
}

// floodPace is how many ask in a second of the rounds.
const floodPace = 1000

// floodInRounds measures the signed-in path and a plain reverse_proxy of the
// same process, both with a flood beside it and without. What an ask costs is
// told by the plain one: alone it would cost more, since a process that is idle
// now and then pays for waking up. By then everybody together has asked too
// often, so that all are turned away but two a second.
func (b *bench) floodInRounds(f *flooded, r *flood) error {
	var rounds []floodRound
	n := max(1, int(b.seconds*floodPace))
	for range b.rounds {
		round, err := b.floodRound(f, n)
		if err != nil {
			return err
		}
		rounds = append(rounds, round)
	}
	of := func(measure func(floodRound) float64) spread { return over(rounds, measure) }
	r.Pace = float64(n) / b.seconds
	r.Ask, r.Quiet, r.Beside = of(floodRound.ask), of(floodRound.quiet), of(floodRound.beside)
	r.Ratio = of(func(r floodRound) float64 { return r.beside() / r.quiet() })
	return nil
}

// floodRound is one round, with so many asks in each turn beside them.
type floodRound struct {
	asks                                         float64
	plain, plainBeside, signedIn, signedInBeside *turn
}

func (r floodRound) ask() float64 {
	return float64(r.plainBeside.Requests) * (r.plainBeside.CPU - r.plain.CPU) / r.asks
}

func (r floodRound) quiet() float64 { return r.signedIn.CPU }

func (r floodRound) beside() float64 {
	return r.signedInBeside.CPU - r.asks*r.ask()/float64(r.signedInBeside.Requests)
}

// floodRound takes the four turns in any order.
func (b *bench) floodRound(f *flooded, n int) (floodRound, error) {
	quiet := func() error { return nil }
	asking := func() error { return f.pour(n, b.length()) }
	r := floodRound{asks: float64(n)}
	parts := []struct {
		turn   **turn
		arm    *arm
		beside func() error
	}{
		{&r.plain, f.plain, quiet}, {&r.plainBeside, f.plain, asking},
		{&r.signedIn, f.visitors, quiet}, {&r.signedInBeside, f.visitors, asking},
	}
	for _, i := range rand.Perm(len(parts)) {
		t, err := b.turnBeside(parts[i].arm, parts[i].beside)
		if err == nil && t.fault != "" {
			err = errors.New(t.fault)
		}
		if err != nil {
			return r, fmt.Errorf("%s: %w", parts[i].arm.name, err)
		}
		*parts[i].turn = t
	}
	return r, nil
}

// askers ask at the same time.
const askers = 8

// pour has n ask, evenly over this time; 0: as fast as they are answered.
func (f *flooded) pour(n int, over time.Duration) error {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	began, apart := time.Now(), over/time.Duration(n)
	for range askers {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(n) && failed.Load() == nil; i = next.Add(1) - 1 {
				time.Sleep(time.Until(began.Add(time.Duration(i) * apart)))
				if err := f.askOnce(); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return fmt.Errorf("asking for codes: %w", *err)
	}
	return nil
}

// askOnce is one of a flood. It is told that a mail is on its way, or that too
// many are asked for.
func (f *flooded) askOnce() error {
	n := f.asked.Add(1)
	form := url.Values{"email": {fmt.Sprintf("flood%d@%s", n, invited)}, "return": {echoPath}}
	r, err := http.NewRequest(http.MethodPost, "http://"+f.mail.address+"/.login/email", strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "text/html")
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", "http://"+f.mail.address)
	r.Header.Set("X-Forwarded-For", fmt.Sprintf("11.%d.%d.%d", n>>16&255, n>>8&255, n&255))
	res, text, err := answered(f.asker.Do(r))
	switch {
	case err != nil:
		return err
	case res.StatusCode == http.StatusSeeOther:
		f.admitted.Add(1)
	case res.StatusCode != http.StatusTooManyRequests:
		return fmt.Errorf("%s answered %s %.300s", r.URL.Path, res.Status, text)
	}
	return nil
}

// What a flood may leave, in MB, however long it is. The heap holds two tables of
// the networks that came last, for the limit and for the log, at most 65,536
// each: they are full after that many asks, and it grows no more.
const (
	mostHeap = 20
	mostDisk = 64
)

// judgeFlood: what a flood leaves is bounded, and the signed-in pay nothing.
func (r *results) judgeFlood() {
	f := r.Flood
	if f == nil {
		return
	}
	r.target("signed-in request, CPU, beside a flood of requests for codes : without", 1.05, f.Ratio)
	r.target("heap that a flood leaves, MB", mostHeap, exactly(f.After.Alive-f.Before.Alive))
	r.target("disk after a flood, MB", mostDisk, exactly(f.After.Disk))
}

func (r *results) printFlood(w io.Writer) {
	f := r.Flood
	if f == nil {
		return
	}
	fmt.Fprintf(w, "\nA FLOOD OF %d REQUESTS FOR CODES, each from a network of its own\tbefore\tafter\n", f.Asks)
	fmt.Fprintf(w, "  memory, MB resident\t%.1f\t%.1f\n", f.Before.Resident, f.After.Resident)
	fmt.Fprintf(w, "  of it no file's\t%.1f\t%.1f\n", f.Before.Anonymous, f.After.Anonymous)
	fmt.Fprintf(w, "  of it alive after a collection\t%.1f\t%.1f\n", f.Before.Alive, f.After.Alive)
	fmt.Fprintf(w, "  the store's files, MB\t%.1f\t%.1f\n", f.Before.Disk, f.After.Disk)
	fmt.Fprintf(w, "\n  admitted\t%d, at %.0f asks a second; %.1f MB written\n", f.Admitted, f.PerSecond, float64(f.Written)/(1<<20))
	fmt.Fprintf(w, "  CPU of one that is turned away, µs\t%s\n", f.Ask)
	fmt.Fprintf(w, "  CPU of a signed-in request, µs\t%s\n", f.Quiet)
	fmt.Fprintf(w, "  the same beside %.0f asks a second, without theirs\t%s\n", f.Pace, f.Beside)
	fmt.Fprintf(w, "  beside : without\t%s\n", f.Ratio)
}
