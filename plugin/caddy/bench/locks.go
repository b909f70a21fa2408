package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"
)

// waits is how long goroutines of a process have waited for mutexes, as the mutex
// profile tells: by who held them.
type waits struct {
	Ours, Others time.Duration
	// Most is the function of ours that was waited for longest.
	Most string
}

func (w waits) since(before waits) waits {
	return waits{w.Ours - before.Ours, w.Others - before.Others, w.Most}
}

// locks is how long this process has waited since it was first told to notice.
func locks(notice bool) (waits, error) {
	rate := 0
	if notice {
		rate = 1 // each time that somebody waits
	}
	runtime.SetMutexProfileFraction(rate)
	var text bytes.Buffer
	if err := pprof.Lookup("mutex").WriteTo(&text, 1); err != nil {
		return waits{}, fmt.Errorf("profiling mutexes: %w", err)
	}
	return readLocks(&text)
}

// lockStack is what gave up a lock, from the inside outwards, and the cycles that
// others had waited for it.
type lockStack struct {
	cycles    float64
	functions []string
}

func readLocks(text io.Reader) (w waits, err error) {
	perSecond, stacks, err := readStacks(text)
	longest := 0.0
	for _, s := range stacks {
		waited := time.Duration(s.cycles / perSecond * float64(time.Second))
		by, ours := holder(s.functions)
		if !ours {
			w.Others += waited
			continue
		}
		if w.Ours += waited; s.cycles > longest {
			w.Most, longest = by, s.cycles
		}
	}
	return w, err
}

// readStacks reads the profile as text: how many cycles a second has, and then
// each stack.
func readStacks(text io.Reader) (perSecond float64, stacks []lockStack, err error) {
	lines := bufio.NewScanner(text)
	for lines.Scan() && err == nil {
		line := lines.Text()
		words := strings.Fields(line)
		rate, isRate := strings.CutPrefix(line, "cycles/second=")
		switch {
		case isRate:
			perSecond, err = strconv.ParseFloat(rate, 64)
		case len(words) > 2 && words[2] == "@":
			stacks = append(stacks, lockStack{})
			stacks[len(stacks)-1].cycles, err = strconv.ParseFloat(words[0], 64)
		case len(words) > 2 && words[0] == "#" && len(stacks) > 0:
			last := &stacks[len(stacks)-1]
			last.functions = append(last.functions, functionOf(words[2]))
		}
	}
	if err == nil && perSecond == 0 {
		err = errors.New("it has no cycles/second")
	}
	if err = errors.Join(err, lines.Err()); err != nil {
		return 0, nil, fmt.Errorf("reading the profile of mutexes: %w", err)
	}
	return perSecond, stacks, nil
}

// functionOf is name+0x12 without the offset.
func functionOf(place string) string {
	name, _, _ := strings.Cut(place, "+0x")
	return name
}

// holder finds out in whose name a lock was held, from the inside of a stack
// outwards: whatever is called from below us is on our account, up to the place
// where we have handed the request on to Caddy.
func holder(stack []string) (by string, ours bool) {
	for _, function := range stack {
		switch {
		case strings.HasPrefix(function, ourCode) && !strings.HasPrefix(function, ourCode+"plugin/caddy/"):
			return function, true
		case strings.HasPrefix(function, "net/http."), strings.HasPrefix(function, "github.com/caddyserver/caddy/"):
			return function, false
		}
	}
	return "", false
}

// ourCode is where the product's own functions are.
const ourCode = "github.com/caddy-login/caddy-login/"
