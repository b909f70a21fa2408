package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// Each store has all its figures, and those who come to it are asked for in turn.
func TestSessionsInTheStoreAreCompared(t *testing.T) {
	b := prepared(t, "-rounds", "1", "-conns", "2", "-seconds", "0.05", "-visitors", "8", "-sessions", "400", "-only", "sessions")
	b.crowds, b.idle = t.TempDir(), 0
	for _, p := range parts {
		b.take(p)
	}
	for _, fault := range b.results.Faults {
		t.Error(fault)
	}
	s := b.results.Stored
	if s == nil || len(b.results.Parts) != 1 {
		t.Fatalf("measured %v", b.results.Parts)
	}
	var sizes []int
	for i, row := range s.Rows {
		sizes = append(sizes, row.Sessions)
		if !row.Open.known() || !row.Start.known() || row.Started.Resident == 0 || (row.Visited.Resident == 0) != (i == 0) {
			t.Errorf("%+v", row)
		}
	}
	if !slices.Equal(sizes, []int{0, 8, 40, 400}) || s.Plain.Started.Resident == 0 || s.Plain.Visited.Resident == 0 {
		t.Errorf("%v, plain %+v", sizes, s.Plain)
	}
	b.results.judge()
	var table bytes.Buffer
	if err := b.results.print(&table); err != nil {
		t.Fatal(err)
	}
	if len(b.results.Targets) != 4 || strings.Contains(table.String(), "not measured") {
		t.Errorf("something was not measured:\n%s", table.String())
	}
}

// A part that fails is told, and the others go on.
func TestPartThatFailsDoesNotCount(t *testing.T) {
	b := prepared(t, "-only", "gate,sessions", "-sessions", "0")
	b.benchtime = "never"
	for _, p := range parts {
		b.take(p)
	}
	if len(b.results.Faults) != 1 || !strings.HasPrefix(b.results.Faults[0], "gate: ") || len(b.results.Parts) != 2 {
		t.Errorf("%q, %v", b.results.Faults, b.results.Parts)
	}
}
