package main

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// part is one of what is measured, and can be measured alone.
type part struct {
	name    string
	measure func(*bench) error
}

// parts are all, in the order in which they are measured.
var parts = []part{
	{"signed-in", (*bench).measureSignedIn},
	{"visitors", (*bench).measureVisitors},
	{"page", (*bench).measurePage},
	{"streams", (*bench).measureStreams},
	{"log-ins", (*bench).measureLogIns},
	{"flood", (*bench).measureFlood},
	{"people", (*bench).measureMultitude},
	{"sessions", (*bench).measureStored},
	{"sign-ins", (*bench).measureDurable},
	{"gate", (*bench).measureAlone},
}

func partNames() (names []string) {
	for _, p := range parts {
		names = append(names, p.name)
	}
	return names
}

// choose reads a list of parts; empty means all.
func choose(list string) ([]string, error) {
	if list == "" {
		return partNames(), nil
	}
	chosen := strings.Split(list, ",")
	for _, name := range chosen {
		if !slices.Contains(partNames(), name) {
			return nil, fmt.Errorf("unknown part %q (parts: %s)", name, strings.Join(partNames(), ", "))
		}
	}
	return chosen, nil
}

// partTook is how long a part took.
type partTook struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// take measures a part, if it was chosen. What goes wrong is a fault, and the end
// of this part alone.
func (b *bench) take(p part) {
	if !slices.Contains(b.chosen, p.name) {
		return
	}
	began := time.Now()
	if err := p.measure(b); err != nil {
		b.results.fault(p.name, err.Error())
	}
	b.stop()
	b.results.Parts = append(b.results.Parts, partTook{p.name, time.Since(began).Seconds()})
}

// measureDurable has very many sign in at once, with nothing around the store.
func (b *bench) measureDurable() (err error) {
	b.results.SignIns, err = measureSignIns(filepath.Join(b.dir, "signins"), b.settings)
	return err
}

// measureAlone runs the gate's own benchmarks.
func (b *bench) measureAlone() (err error) {
	b.results.Gate, err = measureGate(b.benchtime)
	return err
}

func (r *results) printParts(w io.Writer) {
	var took []string
	var sum float64
	for _, p := range r.Parts {
		took = append(took, fmt.Sprintf("%s %.0f", p.Name, p.Seconds))
		sum += p.Seconds
	}
	fmt.Fprintf(w, "\nIt took %.0f s: %s.\n", sum, strings.Join(took, ", "))
}
