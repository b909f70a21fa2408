package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest"
)

// logIns is what signing in and out costs from end to end: through a real
// Caddy, with a provider that is called and a store that is written, one
// person after the other.
type logIns struct {
	// People is how many sign in, or out, in one turn, and ByMail how many do by
	// email.
	People int         `json:"people"`
	ByMail int         `json:"people_by_email"`
	Rows   []*logInRow `json:"rows"`
	// Ratios are of CPU, within rounds.
	Ratios []logInRatio `json:"cpu_ratios"`
}

// logInRow is one occasion, round for round.
type logInRow struct {
	Name  string       `json:"name"`
	Turns []*logInCost `json:"turns"`
}

type logInRatio struct {
	Of  string `json:"of"`
	To  string `json:"to"`
	CPU spread `json:"cpu"`
}

// logInCost is what one person cost, on average of a turn.
type logInCost struct {
	// CPU is our process's own, of which Parts is each step's; the rest is what
	// it did while the person was at the provider, or their mail on its way.
	// Milliseconds.
	CPU   float64    `json:"cpu_ms"`
	Parts [3]float64 `json:"steps_cpu_ms"`
	// Wall is how long the person waited for us in all steps, in milliseconds.
	Wall float64 `json:"wall_ms"`

	Allocated   float64 `json:"bytes_allocated"`
	Allocations float64 `json:"allocations"`
	Collections float64 `json:"collections_per_1000"`

	// Store is what the store was asked, by what tally counts.
	Store storeCost `json:"store"`
	// Disk is what the process had the disk write, in bytes: whole pages, and
	// the log, too.
	Disk float64 `json:"disk_bytes"`
	// Calls are ours to the provider. Where it sends the browser is none.
	Calls logInCalls `json:"calls"`
}

type storeCost [tallied]float64

// MarshalJSON names what was counted.
func (c storeCost) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]float64{
		"updates": c[updates], "views": c[views], "keys_put": c[puts], "keys_deleted": c[deletes],
		"keys_read": c[reads], "bytes_put": c[given],
	})
}

// logInCalls are calls to a provider's endpoints.
type logInCalls struct {
	Discovery float64 `json:"discovery"`
	Keys      float64 `json:"keys"`
	Token     float64 `json:"token"`
	Refresh   float64 `json:"refresh"`
	UserInfo  float64 `json:"userinfo"`
}

// occasion is something that people come for.
type occasion struct {
	name  string
	site  *site
	who   func(s *site, n int) ([]*caller, error)
	steps []step
	// as says whether all was right in the end.
	as func(*caller) error
	// each is how often a caller does it.
	each int
}

// step is one thing that a caller does at the site, and is counted, and what
// they then do elsewhere, if anything.
type step struct {
	part int // of logInCost.Parts
	here func(*caller) error
	away func(*caller) error
}

var (
	comeIn = []step{{0, (*caller).knock, (*caller).pick}, {1, (*caller).comeBack, nil}, {2, (*caller).land, nil}}
	goOut  = []step{{0, (*caller).leave, (*caller).part}, {1, (*caller).gone, nil}}
	lookUp = []step{{2, (*caller).browse, nil}}
)

// The occasions' names, as they are reported.
const (
	logInCold    = "first of all at this provider"
	logInFirst   = "first sign-in, makes the user"
	logInReturn  = "return"
	logInLean    = "return, nothing kept for sign-outs"
	logInKeep    = "return, tokens kept"
	logInTLS     = "return, TLS to the provider anew"
	logInRequest = "a signed-in request"
	logInOut     = "sign-out"
	logInOutKeep = "sign-out, tokens kept"
)

// arrivals take turns in any order; then come departures in this one: who
// leaves must have come.
func (l *lobby) arrivals() []*occasion {
	all := []*occasion{
		{logInFirst, l.usual, l.newcomers, comeIn, l.isNew, 1},
		{logInReturn, l.usual, l.returning, comeIn, l.isKnown, 1},
		{logInLean, l.lean, l.returning, comeIn, l.isKnown, 1},
		{logInKeep, l.keep, l.returning, comeIn, l.isKnown, 1},
	}
	if trustsOurRoots {
		all = append(all, &occasion{logInTLS, l.anew, l.returning, comeIn, l.isKnown, 1})
	}
	return all
}

func (l *lobby) departures() []*occasion {
	return []*occasion{
		{logInRequest, l.usual, l.within, lookUp, l.isKnown, clicks},
		{logInOut, l.usual, l.within, goOut, (*caller).isOut, 1},
		{logInOutKeep, l.keep, l.within, goOut, (*caller).isOut, 1},
	}
}

// measureLogIns has people sign in and out. What goes wrong is a fault, and
// the end of it.
func (b *bench) measureLogIns() error {
	r := &logIns{People: b.conns, ByMail: byMailAtOnce(b.conns, b.rounds)}
	b.results.LogIns = r
	defer b.stop()
	if err := b.startOthers(mask{}); err != nil {
		return err
	}
	l, err := b.openLobby()
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.rounds(r, b.rounds); err != nil {
		b.results.fault("log-ins", err.Error())
		return nil
	}
	r.compare()
	return b.writeLogInProfile(l)
}

// rounds fills the rows.
func (l *lobby) rounds(r *logIns, n int) error {
	if err := l.introduce(r); err != nil {
		return err
	}
	for _, o := range append(l.arrivals(), l.departures()...) {
		r.row(o.name) // in this order, whatever theirs is
	}
	for _, name := range byMailNames {
		r.row(name)
	}
	for range n {
		arrivals := l.arrivals()
		rand.Shuffle(len(arrivals), func(i, j int) { arrivals[i], arrivals[j] = arrivals[j], arrivals[i] })
		if err := l.count(r, append(arrivals, l.departures()...), r.People); err != nil {
			return err
		}
		if err := l.count(r, l.byMail(), r.ByMail); err != nil {
			return err
		}
	}
	return nil
}

// count adds a turn of each occasion to its row.
func (l *lobby) count(r *logIns, all []*occasion, people int) error {
	for _, o := range all {
		cost, err := l.turn(o, people)
		if err != nil {
			return fmt.Errorf("%s: %w", o.name, err)
		}
		row := r.row(o.name)
		row.Turns = append(row.Turns, cost)
	}
	return nil
}

// introduce has people sign in everywhere for the first time. Counted is only
// the one who comes to the usual site before all others: by then the store is
// open and has its keys, but this provider was never called.
func (l *lobby) introduce(r *logIns) error {
	at := func(s *site, n int) (*logInCost, error) {
		return l.turn(&occasion{logInCold, s, l.newcomers, comeIn, l.isNew, 1}, n)
	}
	for _, s := range l.others() {
		if _, err := at(s, r.People); err != nil {
			return fmt.Errorf("introducing people: %w", err)
		}
	}
	cold, err := at(l.usual, 1)
	if err != nil {
		return fmt.Errorf("introducing people: %w", err)
	}
	r.row(logInCold).Turns = []*logInCost{cold}
	if _, err := at(l.usual, r.People); err != nil {
		return fmt.Errorf("introducing people: %w", err)
	}
	for _, o := range l.byMail() {
		if _, err := l.turn(o, r.ByMail); err != nil {
			return fmt.Errorf("introducing people, %s: %w", o.name, err)
		}
	}
	return nil
}

func (r *logIns) row(name string) *logInRow {
	for _, row := range r.Rows {
		if row.Name == name {
			return row
		}
	}
	r.Rows = append(r.Rows, &logInRow{Name: name})
	return r.Rows[len(r.Rows)-1]
}

// turns are those of a row, none where there is no such row.
func (r *logIns) turns(name string) []*logInCost {
	for _, row := range r.Rows {
		if row.Name == name {
			return row.Turns
		}
	}
	return nil
}

// account is all that is counted, as it stands.
type account struct {
	usage
	cpu   time.Duration
	disk  int64
	calls logintest.Calls
}

// turn has n people do one thing, one after the other, and returns what one of
// them cost.
func (l *lobby) turn(o *occasion, n int) (*logInCost, error) {
	callers, err := o.who(o.site, n)
	if err != nil {
		return nil, err
	}
	before, err := l.account(o.site)
	if err != nil {
		return nil, err
	}
	before.cpu = l.cpu()
	spent, err := l.walk(o.steps, callers)
	if err == nil && (o.site == l.mail || o.site == l.nobody) {
		err = l.collect(callers)
	}
	if err != nil {
		return nil, err
	}
	used := l.cpu() - before.cpu
	after, err := l.account(o.site)
	if err != nil {
		return nil, err
	}
	for _, c := range callers {
		if err := o.as(c); err != nil {
			return nil, err
		}
	}
	return costOf(before, after, used, spent, float64(n*o.each)), nil
}

func (l *lobby) account(s *site) (a account, err error) {
	err = l.proxy.ask("/usage", struct{}{}, &a.usage)
	a.disk, a.calls = diskWritten(l.proxy.cmd.Process.Pid), s.issuer.Calls()
	return a, err
}

func (l *lobby) cpu() time.Duration { return cpuTimeOf(l.proxy.cmd.Process.Pid) }

// spent is the CPU of each step, and how long all of them took.
type spent struct {
	cpu  [3]time.Duration
	wall time.Duration
}

// walk takes all callers through each step before the next one: the CPU is read
// from outside, between the steps.
func (l *lobby) walk(steps []step, callers []*caller) (all spent, err error) {
	for _, s := range steps {
		began, at := l.cpu(), time.Now()
		for _, c := range callers {
			if err := s.here(c); err != nil {
				return all, fmt.Errorf("%s: %w", c.subject, err)
			}
		}
		all.cpu[s.part] = l.cpu() - began
		all.wall += time.Since(at)
		for _, c := range callers {
			if s.away == nil {
				break
			}
			if err := s.away(c); err != nil {
				return all, fmt.Errorf("%s, at the provider: %w", c.subject, err)
			}
		}
	}
	return all, nil
}

func costOf(before, after account, cpu time.Duration, all spent, n float64) *logInCost {
	used := after.usage.since(before.usage)
	c := &logInCost{
		CPU: milliseconds(cpu) / n, Wall: milliseconds(all.wall) / n,
		Allocated: float64(used.Allocated) / n, Allocations: float64(used.Allocations) / n,
		Collections: 1000 * float64(used.Collections) / n,
		Disk:        float64(after.disk-before.disk) / n,
		Calls: logInCalls{
			Discovery: float64(after.calls.Discovery-before.calls.Discovery) / n,
			Keys:      float64(after.calls.Keys-before.calls.Keys) / n,
			Token:     float64(after.calls.Token-before.calls.Token) / n,
			Refresh:   float64(after.calls.Refresh-before.calls.Refresh) / n,
			UserInfo:  float64(after.calls.UserInfo-before.calls.UserInfo) / n,
		},
	}
	for i := range all.cpu {
		c.Parts[i] = milliseconds(all.cpu[i]) / n
	}
	for i, count := range used.Store {
		c.Store[i] = float64(count) / n
	}
	return c
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// logInPairs are the comparisons worth making.
var logInPairs = [][2]string{
	{logInFirst, logInReturn}, {logInLean, logInReturn}, {logInKeep, logInReturn}, {logInTLS, logInReturn},
	{logInReturn, logInRequest}, {logInOut, logInReturn},
	{logInAskNone, logInAsk}, {logInWrongNone, logInWrong}, {logInAsk, logInReturn}, {logInCode, logInReturn},
}

func (r *logIns) compare() {
	for _, pair := range logInPairs {
		of, to := r.turns(pair[0]), r.turns(pair[1])
		if of == nil || to == nil {
			continue
		}
		var ratios []float64
		for i := range min(len(of), len(to)) {
			if to[i].CPU > 0 {
				ratios = append(ratios, of[i].CPU/to[i].CPU)
			}
		}
		r.Ratios = append(r.Ratios, logInRatio{pair[0], pair[1], spreadOf(ratios)})
	}
}

func (row *logInRow) over(measure func(*logInCost) float64) spread { return over(row.Turns, measure) }

func over[T any](turns []T, measure func(T) float64) spread {
	var values []float64
	for _, t := range turns {
		values = append(values, measure(t))
	}
	return spreadOf(values)
}

// writeLogInProfile has our process profiled while people return.
func (b *bench) writeLogInProfile(l *lobby) error {
	if b.loginProfile == "" {
		return nil
	}
	var taken []byte
	done := make(chan error, 1)
	go func() { done <- l.proxy.ask("/profile", b.length()*time.Duration(b.rounds), &taken) }()
	for {
		if _, err := l.turn(&occasion{logInReturn, l.usual, l.returning, comeIn, l.isKnown, 1}, b.conns); err != nil {
			return fmt.Errorf("profiling log-ins: %w", err)
		}
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("profiling log-ins: %w", err)
			}
			return os.WriteFile(b.loginProfile, taken, 0o600)
		default:
		}
	}
}

func (r *results) judgeLogIns() {
	if r.LogIns == nil {
		return
	}
	for _, name := range []string{logInFirst, logInReturn, logInKeep, logInTLS} {
		if name == logInTLS && !trustsOurRoots {
			continue
		}
		r.target("CPU of one log-in, ms: "+name, 2, over(r.LogIns.turns(name), func(c *logInCost) float64 { return c.CPU }))
	}
}

func (r *results) printLogIns(w io.Writer) {
	l := r.LogIns
	if l == nil {
		return
	}
	fmt.Fprintf(w, "\nONE WHOLE LOG-IN, %d people a turn (%d by email), one after the other\tCPU ms\tto the provider\tback\tlanding\twall ms\tKB\tallocations\tGC/1000\n", l.People, l.ByMail)
	for _, row := range l.Rows {
		of := func(measure func(*logInCost) float64) float64 { return row.over(measure).Median }
		fmt.Fprintf(w, "  %s\t%s\t%.2f\t%.2f\t%.2f\t%.2f\t%.0f\t%.0f\t%.0f\n", row.Name, row.over(func(c *logInCost) float64 { return c.CPU }),
			of(func(c *logInCost) float64 { return c.Parts[0] }), of(func(c *logInCost) float64 { return c.Parts[1] }),
			of(func(c *logInCost) float64 { return c.Parts[2] }), of(func(c *logInCost) float64 { return c.Wall }),
			of(func(c *logInCost) float64 { return c.Allocated / 1024 }),
			of(func(c *logInCost) float64 { return c.Allocations }), of(func(c *logInCost) float64 { return c.Collections }))
	}
	l.printStore(w)
	fmt.Fprintf(w, "\n  ratios\tCPU\n")
	for _, ratio := range l.Ratios {
		fmt.Fprintf(w, "  %s : %s\t%s\n", ratio.Of, ratio.To, ratio.CPU)
	}
}

// printStore tells of the store, the disk and the calls. An update is synced to
// disk, alone here, and shared with others where they come at once.
func (r *logIns) printStore(w io.Writer) {
	fmt.Fprintf(w, "\n  each: store, disk, calls\tupdates\tkeys put\tdeleted\tbytes put\tviews\tkeys read\tKB on disk\tdiscovery\tkeys\ttoken\tuserinfo\n")
	for _, row := range r.Rows {
		of := func(measure func(*logInCost) float64) float64 { return row.over(measure).Median }
		asked := func(what int) float64 { return of(func(c *logInCost) float64 { return c.Store[what] }) }
		fmt.Fprintf(w, "  %s\t%.3g\t%.3g\t%.3g\t%.0f\t%.3g\t%.3g\t%.1f\t%.3g\t%.3g\t%.3g\t%.3g\n", row.Name,
			asked(updates), asked(puts), asked(deletes), asked(given), asked(views), asked(reads),
			of(func(c *logInCost) float64 { return c.Disk / 1024 }),
			of(func(c *logInCost) float64 { return c.Calls.Discovery }), of(func(c *logInCost) float64 { return c.Calls.Keys }),
			of(func(c *logInCost) float64 { return c.Calls.Token }), of(func(c *logInCost) float64 { return c.Calls.UserInfo }))
	}
}
