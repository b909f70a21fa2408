package main

import (
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

// results is everything that was measured.
type results struct {
	Go       string     `json:"go"`
	Rounds   int        `json:"rounds"`
	Seconds  float64    `json:"seconds"`
	Conns    int        `json:"connections"`
	Sections []*section `json:"sections"`
	// Memory is what idle proxies hold, in MB.
	Memory  map[string]weight `json:"memory"`
	SignIns *signIns          `json:"sign_ins"`
	LogIns  *logIns           `json:"log_ins"`
	Flood   *flood            `json:"flood"`
	// Multitude is nil where it was left out.
	Multitude *multitude      `json:"multitude"`
	Visitors  *visitorsAtHand `json:"visitors"`
	Stored    *stored         `json:"stored"`
	Gate      []goBenchmark   `json:"gate"`
	// Parts are those that were measured, in order.
	Parts   []partTook `json:"parts"`
	Targets []target   `json:"targets"`
	// Faults are the rows that do not count.
	Faults []string `json:"faults"`
}

// section is the arms under one condition.
type section struct {
	Name   string             `json:"name"`
	Arms   []string           `json:"arms"`
	Turns  map[string][]*turn `json:"turns"`
	Ratios []ratio            `json:"ratios"`
	pairs  []pair
}

// pair is a comparison worth making: of one arm to another, of which the first
// may use so many times the CPU. No limit: nobody set one.
type pair struct {
	of, to string
	limit  float64
}

// ratio compares two arms, turn by turn of the same round.
type ratio struct {
	Of        string `json:"of"`
	To        string `json:"to"`
	CPU       spread `json:"cpu"`
	PerSecond spread `json:"requests_per_second"`
	P50       spread `json:"p50"`
	P99       spread `json:"p99"`
	limit     float64
}

// spread is what a measure was over the rounds.
type spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
	// counted: it may be nothing at all, which is otherwise not known.
	counted bool
}

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return exactly(math.NaN())
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return spread{Median: (sorted[(n-1)/2] + sorted[n/2]) / 2, Low: sorted[0], High: sorted[n-1]}
}

// countsOf is the spread of what may be 0.
func countsOf(values []float64) spread {
	s := spreadOf(values)
	s.counted = true
	return s
}

func (s spread) known() bool {
	return (s.Median != 0 || s.counted) && !math.IsInf(s.Median, 0) && !math.IsNaN(s.Median)
}

func (s spread) String() string {
	if !s.known() {
		return "-"
	}
	return fmt.Sprintf("%.2f (%.2f–%.2f)", s.Median, s.Low, s.High)
}

// MarshalJSON writes null for what is not known: JSON has no NaN.
func (s spread) MarshalJSON() ([]byte, error) {
	if !s.known() {
		return []byte("null"), nil
	}
	return fmt.Appendf(nil, `{"median":%.4f,"low":%.4f,"high":%.4f}`, s.Median, s.Low, s.High), nil
}

// target is what we hold ourselves to.
type target struct {
	What    string  `json:"what"`
	Limit   float64 `json:"limit"`
	AtLeast bool    `json:"at_least"` // else at most
	Got     spread  `json:"got"`
	Held    bool    `json:"held"`
}

func newResults(s settings) *results {
	return &results{
		Go: runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH, Rounds: s.rounds, Seconds: s.seconds,
		Conns: s.conns, Memory: make(map[string]weight),
	}
}

func (r *results) fault(row, why string) { r.Faults = append(r.Faults, row+": "+why) }

// pairs are those of the signed-in.
var pairs = []pair{
	{armGate, armFloor, 1.03}, {armGate, armPlain, 1.10}, {armFloor, armPlain, 0}, {armAskedToSign, armRedirect, 1.15},
	{armYours, armFloor, 0}, {armYours, armPlain, 0},
}

func newSection(name string, arms []*arm) *section {
	s := &section{Name: name, Turns: make(map[string][]*turn), pairs: pairs}
	for _, a := range arms {
		s.Arms = append(s.Arms, a.name)
	}
	return s
}

// add takes the turns of one round; those that do not count are missing, and
// leave a gap.
func (s *section) add(turns map[string]*turn) {
	for _, name := range s.Arms {
		s.Turns[name] = append(s.Turns[name], turns[name])
	}
}

// compare works out the ratios once all rounds are in.
func (s *section) compare() {
	for _, pair := range s.pairs {
		if s.Turns[pair.of] == nil || s.Turns[pair.to] == nil {
			continue
		}
		of := func(measure func(*turn) float64) spread { return s.ratio(pair.of, pair.to, measure) }
		s.Ratios = append(s.Ratios, ratio{
			Of: pair.of, To: pair.to, limit: pair.limit,
			CPU:       of(func(t *turn) float64 { return t.CPU }),
			PerSecond: of(func(t *turn) float64 { return t.PerSecond }),
			P50:       of(func(t *turn) float64 { return t.P50 }),
			P99:       of(func(t *turn) float64 { return t.P99 }),
		})
	}
}

func (s *section) ratio(of, to string, measure func(*turn) float64) spread {
	var ratios []float64
	for i, t := range s.Turns[of] {
		if other := s.Turns[to][i]; t != nil && other != nil && measure(other) > 0 {
			ratios = append(ratios, measure(t)/measure(other))
		}
	}
	return spreadOf(ratios)
}

func (s *section) median(arm string, measure func(*turn) float64) float64 {
	return s.counted(arm, measure).Median
}

// counted is what an arm's turns have counted.
func (s *section) counted(arm string, measure func(*turn) float64) spread {
	var values []float64
	for _, t := range s.Turns[arm] {
		if t != nil {
			values = append(values, measure(t))
		}
	}
	return countsOf(values)
}

// judge compares with the targets what was measured.
func (r *results) judge() {
	for _, s := range r.Sections {
		s.compare()
		for _, ratio := range s.Ratios {
			if ratio.limit != 0 {
				r.target(fmt.Sprintf("CPU, %s : %s, %s", ratio.Of, ratio.To, s.Name), ratio.limit, ratio.CPU)
			}
		}
	}
	for _, judge := range []func(){
		r.judgeVisitors, r.judgeGate, r.judgeLogIns, r.judgeFlood, r.judgeMultitude, r.judgeStored, r.judgeMemory, r.judgeSignIns,
	} {
		judge()
	}
}

func (r *results) judgeMemory() {
	if len(r.Memory) == 0 {
		return
	}
	more := r.Memory[weightGate].Resident - r.Memory[weightStock].Resident
	r.target("idle memory above plain Caddy, MB", 25, exactly(more))
}

func exactly(value float64) spread { return spread{Median: value, Low: value, High: value} }

func (r *results) target(what string, limit float64, got spread) {
	r.Targets = append(r.Targets, target{What: what, Limit: limit, Got: got, Held: got.Median <= limit})
}

// print reports to people.
func (r *results) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "A GET of 1 KiB by signed-in visitors over http on loopback: %d connections, %d rounds of %g s per arm, %s.\n",
		r.Conns, r.Rounds, r.Seconds, r.Go)
	fmt.Fprintln(w, "Medians of the rounds; ratios are taken within rounds, with their range. GC: each proxy collects after about the same amount of garbage, some 32 MB, or what the largest of them holds.")
	for _, s := range r.Sections {
		s.print(w)
	}
	for _, print := range []func(io.Writer){
		r.printVisitors, r.printMemory, r.printGate, r.printSignIns, r.printLogIns, r.printFlood, r.printMultitude, r.printStored,
		r.printParts, r.printTargets,
	} {
		print(w)
	}
	for _, fault := range r.Faults {
		fmt.Fprintf(w, "\nDOES NOT COUNT  %s\n", fault)
	}
	return w.Flush()
}

func (s *section) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s\trequests/s\tp50 µs\tp99 µs\tCPU µs\tKB\tallocations\tGC/1000\n", s.title())
	for _, name := range s.Arms {
		of := func(measure func(*turn) float64) float64 { return s.median(name, measure) }
		fmt.Fprintf(w, "  %s\t%.0f\t%.0f\t%.0f\t%.2f\t%.1f\t%.1f\t%.3f\n", name,
			of(func(t *turn) float64 { return t.PerSecond }), of(func(t *turn) float64 { return t.P50 }),
			of(func(t *turn) float64 { return t.P99 }), of(func(t *turn) float64 { return t.CPU }),
			of(func(t *turn) float64 { return t.Allocated / 1024 }), of(func(t *turn) float64 { return t.Allocations }),
			of(func(t *turn) float64 { return t.Collections }))
	}
	fmt.Fprintf(w, "\n  ratios\tCPU\trequests/s\tp50\tp99\n")
	for _, ratio := range s.Ratios {
		fmt.Fprintf(w, "  %s : %s\t%s\t%s\t%s\t%s\n", ratio.Of, ratio.To, ratio.CPU, ratio.PerSecond, ratio.P50, ratio.P99)
	}
}

func (s *section) title() string { return strings.ToUpper(s.Name) }

func (r *results) printTargets(w io.Writer) {
	fmt.Fprintf(w, "\nTARGETS\t\t\n")
	for _, t := range r.Targets {
		bound, verdict := "≤", "missed"
		if t.AtLeast {
			bound = "≥"
		}
		if t.Held {
			verdict = "held"
		}
		if !t.Got.known() {
			verdict = "not measured"
		}
		fmt.Fprintf(w, "  %s\t%s %g\t%s\t%s\n", t.What, bound, t.Limit, t.Got, verdict)
	}
}
