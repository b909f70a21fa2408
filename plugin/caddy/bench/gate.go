package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// goBenchmark is one of the gate's own Go benchmarks.
type goBenchmark struct {
	Name         string  `json:"name"`
	Microseconds spread  `json:"microseconds"`
	Bytes        float64 `json:"bytes"`
	Allocations  float64 `json:"allocations"`
}

// gateBenchmarks is where they are.
const gateBenchmarks = "github.com/caddy-login/caddy-login/module"

// measureGate runs the Go benchmarks of the gate without anything around it.
func measureGate(benchtime string) ([]goBenchmark, error) {
	out, err := exec.Command("go", "test", "-run", "^$", "-bench", "^BenchmarkGate$", "-benchmem",
		"-benchtime", benchtime, "-count", "5", "-cpu", "1", gateBenchmarks).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("running go test: %w\n%s", err, out)
	}
	benchmarks := readBenchmarks(string(out))
	if len(benchmarks) == 0 {
		return nil, errors.New("go test ran no benchmark")
	}
	return benchmarks, nil
}

var benchmarkLine = regexp.MustCompile(`(?m)^BenchmarkGate/(\S+?)(?:-\d+)?\s+\d+\s+([\d.]+) ns/op\s+(\d+) B/op\s+(\d+) allocs/op`)

func readBenchmarks(out string) []goBenchmark {
	times := make(map[string][]float64)
	found := make(map[string]goBenchmark)
	for _, line := range benchmarkLine.FindAllStringSubmatch(out, -1) {
		times[line[1]] = append(times[line[1]], number(line[2])/1000)
		found[line[1]] = goBenchmark{Name: line[1], Bytes: number(line[3]), Allocations: number(line[4])}
	}
	var all []goBenchmark
	for name, g := range found {
		g.Microseconds = spreadOf(times[name])
		all = append(all, g)
	}
	slices.SortFunc(all, func(a, b goBenchmark) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// number reads what the pattern has let through as one.
func number(s string) float64 {
	n, _ := strconv.ParseFloat(s, 64)
	return n
}

func (r *results) judgeGate() {
	for _, g := range r.Gate {
		if g.Name == "SignedIn" { // "SignedIn_cold" waits for memory as much as for us
			r.target("the gate itself, warm session, µs", 1.5, g.Microseconds)
			r.target("the gate itself, warm session, allocations", 3, exactly(g.Allocations))
		}
	}
}

func (r *results) printGate(w io.Writer) {
	if r.Gate == nil {
		return
	}
	fmt.Fprintf(w, "\nTHE GATE ALONE\tµs\tbytes\tallocations\n")
	for _, g := range r.Gate {
		fmt.Fprintf(w, "  %s\t%s\t%.0f\t%.0f\n", strings.ReplaceAll(g.Name, "_", " "), g.Microseconds, g.Bytes, g.Allocations)
	}
}
