// Package secrets remembers what the players of a test gave out that no log may
// show: codes, states, tokens, cookies. Whoever gives something out keeps it
// here; whoever has a log asks what of it is shown there.
package secrets

import (
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
)

const (
	// shortest is how long a secret must be to be looked for everywhere: our
	// own shortest has 128 bits.
	shortest = 16
	// A code is looked for where it stands by itself.
	shortestCode, longestCode = 6, 10
)

// kept are the secrets of each test, by the name of the one that go test knows:
// its parts play with each other's things.
var kept = struct {
	sync.Mutex
	of map[string]map[string]bool
}{of: map[string]map[string]bool{}}

// Keep remembers secrets for t. What is too short to
// be one is left out. It is safe for concurrent use.
func Keep(t testing.TB, secrets ...string) {
	kept.Lock()
	defer kept.Unlock()
	of := kept.of[whole(t)]
	if of == nil {
		of = map[string]bool{}
		kept.of[whole(t)] = of
	}
	for _, s := range secrets {
		if len(s) >= shortest || isCode(s) {
			of[s] = true
		}
	}
}

func whole(t testing.TB) string {
	name, _, _ := strings.Cut(t.Name(), "/")
	return name
}

func isCode(s string) bool {
	return len(s) >= shortestCode && len(s) <= longestCode && strings.Trim(s, "0123456789") == ""
}

// telling are the parameters of an address that prove something.
var telling = []string{"code", "state", "nonce", "code_challenge", "handle", "t", "token", "id_token_hint", "logout_token"}

// KeepAddress remembers what an address proves by its query.
func KeepAddress(t testing.TB, address string) {
	u, err := url.Parse(address)
	if err != nil {
		return
	}
	query := u.Query()
	for _, name := range telling {
		Keep(t, query[name]...)
	}
}

// Shown are the lines of a log that show what t keeps, each with the beginning
// of what it shows before it.
func Shown(t testing.TB, log string) (lines []string) {
	known, codes := index(t)
	for line := range strings.Lines(log) {
		if found := shown(line, known, codes); found != "" {
			lines = append(lines, found[:min(len(found), 8)]+"…: "+line)
		}
	}
	return lines
}

// index is what t keeps: the long ones by how they begin, as they are and as an
// address would spell them.
func index(t testing.TB) (known map[string][]string, codes map[string]bool) {
	kept.Lock()
	defer kept.Unlock()
	known, codes = map[string][]string{}, map[string]bool{}
	for s := range kept.of[whole(t)] {
		if isCode(s) {
			codes[s] = true
			continue
		}
		known[s[:shortest]] = append(known[s[:shortest]], s)
		if spelt := url.QueryEscape(s); spelt != s {
			known[spelt[:shortest]] = append(known[spelt[:shortest]], spelt)
		}
	}
	return known, codes
}

// number stands by itself: a second's fractions and an ID's digits do not.
var number = regexp.MustCompile(`(?:^|[^\w.:-])(\d{6,10})(?:[^\w.]|$)`)

func shown(line string, known map[string][]string, codes map[string]bool) string {
	for i := 0; i+shortest <= len(line); i++ {
		for _, s := range known[line[i:i+shortest]] {
			if strings.HasPrefix(line[i:], s) {
				return s
			}
		}
	}
	if len(codes) == 0 {
		return ""
	}
	for _, match := range number.FindAllStringSubmatch(line, -1) {
		if codes[match[1]] {
			return match[1]
		}
	}
	return ""
}
