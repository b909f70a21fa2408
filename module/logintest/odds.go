package logintest

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	random "math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// odds draws what is odd about an issuer and yet right: names, orders,
// spellings. A nil one draws nothing. It is safe for concurrent use.
//
// All of it comes from one seed, so that a start that some client stumbled
// over can be had again; requests that come at once draw in their own order.
// Keys and codes are no part of it: those are real secrets.
type odds struct {
	mu   sync.Mutex
	draw *random.Rand
}

func newOdds(seed uint64) *odds {
	if seed == 0 {
		return nil
	}
	return &odds{draw: random.New(random.NewPCG(seed, 0))}
}

// seedVariable names the seed of every NewIssuer, to have a test's issuers
// again as its log says they were.
const seedVariable = "LOGINTEST_SEED"

// chooseSeed tells the test which seed it is.
func chooseSeed(t testing.TB) uint64 {
	t.Helper()
	seed := random.Uint64() | 1
	if text := os.Getenv(seedVariable); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("reading %s: %v", seedVariable, err)
		}
	}
	t.Logf("the issuer's oddities are those of %s=%d", seedVariable, seed)
	return seed
}

// upTo is a number from 0 to n-1.
func (o *odds) upTo(n int) int {
	if o == nil {
		return 0
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.draw.IntN(n)
}

// happens is true once in n times.
func (o *odds) happens(n int) bool { return o != nil && o.upTo(n) == 0 }

func (o *odds) pick(from ...string) string { return from[o.upTo(len(from))] }

// shuffled is list in another order.
func shuffled[T any](o *odds, list []T) []T {
	list = slices.Clone(list)
	for n := len(list); o != nil && n > 1; n-- {
		at := o.upTo(n)
		list[at], list[n-1] = list[n-1], list[at]
	}
	return list
}

// name is one that nobody knows beforehand. Where it names a key it may have
// any form at all (RFC 7517 section 4.5).
func (o *odds) name() string {
	if o == nil {
		return rand.Text()
	}
	const letters = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"
	name := make([]byte, 12)
	for n := range name {
		name[n] = letters[o.upTo(len(letters))]
	}
	return o.pick("", "", "k/", "ü ", "../", "a+b=") + string(name)
}

// stuff adds members that nobody has heard of, of every kind.
func (o *odds) stuff(doc map[string]any) {
	if o == nil {
		return
	}
	kinds := []any{
		nil, true, 0, -1.5e-3, "", "{env.HOME}", []any{}, []any{nil, 1, "a"},
		map[string]any{}, map[string]any{"sub": "mallory", "email": []any{"mallory@example.com"}},
	}
	for range 1 + o.upTo(3) {
		doc["x_"+o.name()] = kinds[o.upTo(len(kinds))]
	}
}

// json encodes v in one of the many spellings that RFC 8259 allows: any order
// of members, any white space, escapes where none are needed. Times become
// numbers with a fraction or an exponent (RFC 7519 section 2, NumericDate).
func (o *odds) json(v any) ([]byte, error) {
	plain, err := json.Marshal(v)
	if err != nil || o == nil {
		return plain, err
	}
	var parsed any
	d := json.NewDecoder(bytes.NewReader(plain))
	d.UseNumber()
	if err := d.Decode(&parsed); err != nil {
		return nil, fmt.Errorf("reading own JSON: %w", err)
	}
	var b strings.Builder
	o.write(&b, "", parsed)
	return []byte(b.String()), nil
}

func (o *odds) write(b *strings.Builder, name string, v any) {
	switch v := v.(type) {
	case map[string]any:
		members := shuffled(o, slices.Sorted(maps.Keys(v)))
		o.writeAll(b, "{}", len(v), func(n int) {
			o.writeText(b, members[n])
			b.WriteString(o.space() + ":" + o.space())
			o.write(b, members[n], v[members[n]])
		})
	case []any:
		o.writeAll(b, "[]", len(v), func(n int) { o.write(b, "", v[n]) })
	case string:
		o.writeText(b, v)
	case json.Number:
		b.WriteString(o.number(name, string(v)))
	default:
		fmt.Fprint(b, map[any]string{nil: "null", true: "true", false: "false"}[v])
	}
}

func (o *odds) writeAll(b *strings.Builder, brackets string, count int, write func(n int)) {
	b.WriteString(brackets[:1] + o.space())
	for n := range count {
		if n > 0 {
			b.WriteString("," + o.space())
		}
		write(n)
		b.WriteString(o.space())
	}
	b.WriteString(brackets[1:])
}

func (o *odds) space() string { return o.pick("", "", "", " ", "\n", "\t", "\r\n") }

// writeText may escape what needs it not: the slash, as PHP does, and letters.
// It leaves "true" and "false" alone: for where these stand for the bare words
// (email_verified) no specification says how they may be spelled.
func (o *odds) writeText(b *strings.Builder, text string) {
	encoded, _ := json.Marshal(text) // strings always can be
	quoted := string(encoded)
	if o.happens(2) {
		quoted = strings.ReplaceAll(quoted, "/", `\/`)
	}
	if text == "true" || text == "false" {
		b.WriteString(quoted)
		return
	}
	if first := quoted[1]; o.happens(8) && ('a' <= first && first <= 'z' || 'A' <= first && first <= 'Z') {
		quoted = fmt.Sprintf(`"\u%04X%s`, first, quoted[2:])
	}
	b.WriteString(quoted)
}

var (
	timeNames = []string{"iat", "exp", "nbf", "auth_time"}
	seconds   = regexp.MustCompile(`^[1-9][0-9]{8,}$`)
)

func (o *odds) number(name, digits string) string {
	if !slices.Contains(timeNames, name) || !seconds.MatchString(digits) {
		return digits
	}
	exponent := digits[:1] + "." + digits[1:] + o.pick("e", "E", "e+") + strconv.Itoa(len(digits)-1)
	return o.pick(digits, digits+".0", digits+".25", exponent)
}
