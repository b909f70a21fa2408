package provider

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// maxDepth bounds how deep an answer's JSON may nest.
const maxDepth = 32

// Claims are the members of a JSON object, by their exact names.
type Claims map[string]json.RawMessage

// ParseClaims reads one JSON object. It refuses a name that occurs twice, at
// any depth: two readers would take different ones for the truth. Unlike
// encoding/json into a struct it does not match names without case, so that
// "Sub" is never read as "sub". Invalid UTF-8 and more than 32 levels are
// errors. Errors quote nothing of data.
func ParseClaims(data []byte) (Claims, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("JSON is not UTF-8")
	}
	if err := checkObject(data); err != nil {
		return nil, err
	}
	var c Claims
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, errors.New("malformed JSON")
	}
	return c, nil
}

// ParseList reads one JSON array of objects, each as strictly as ParseClaims
// does.
func ParseList(data []byte) ([]Claims, error) {
	var raws []json.RawMessage
	if err := json.Unmarshal(data, &raws); err != nil || raws == nil {
		return nil, errors.New("no JSON array")
	}
	list := make([]Claims, 0, len(raws))
	for _, raw := range raws {
		c, err := ParseClaims(raw)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

// At follows a path of names with dots between, and of places in arrays (the
// first is 0), and returns what is there under the path's own name: numbers
// keep every digit. Where nothing is, nor an object or array on the way, the
// claim is absent.
func (c Claims) At(path string) Claims {
	name, rest, deeper := strings.Cut(path, ".")
	raw, found := c[name]
	for found && deeper {
		name, rest, deeper = strings.Cut(rest, ".")
		raw, found = member(raw, name)
	}
	if !found {
		return Claims{}
	}
	return Claims{path: raw}
}

func member(raw json.RawMessage, name string) (json.RawMessage, bool) {
	var object Claims
	if json.Unmarshal(raw, &object) == nil {
		value, ok := object[name]
		return value, ok
	}
	var array []json.RawMessage
	place, err := strconv.Atoi(name)
	if err != nil || place < 0 || json.Unmarshal(raw, &array) != nil || place >= len(array) {
		return nil, false
	}
	return array[place], true
}

// level is one open object or array; names is nil for an array.
type level struct {
	names map[string]bool
	key   bool // a name comes next
}

func checkObject(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		return errors.New("no JSON object")
	}
	open := []level{{names: map[string]bool{}, key: true}}
	for len(open) > 0 {
		token, err := d.Token()
		if err != nil {
			return errors.New("malformed JSON")
		}
		if open, err = open[len(open)-1].next(open, token); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("text after the JSON object")
	}
	return nil
}

// next takes one token into the innermost level l and returns the levels that
// are then open.
func (l *level) next(open []level, token json.Token) ([]level, error) {
	if delim, ok := token.(json.Delim); ok && (delim == '}' || delim == ']') {
		return open[:len(open)-1], nil
	}
	if name, ok := token.(string); ok && l.key {
		if l.names[name] {
			return nil, errors.New("a JSON name occurs twice")
		}
		l.names[name], l.key = true, false
		return open, nil
	}
	l.key = l.names != nil
	switch token {
	case json.Delim('{'):
		open = append(open, level{names: map[string]bool{}, key: true})
	case json.Delim('['):
		open = append(open, level{})
	}
	if len(open) > maxDepth {
		return nil, fmt.Errorf("JSON is nested more than %d deep", maxDepth)
	}
	return open, nil
}

// Has reports whether name is there and not null.
func (c Claims) Has(name string) bool {
	raw, ok := c[name]
	return ok && string(raw) != "null"
}

// Text returns a claim that is a string, else "".
func (c Claims) Text(name string) string {
	s, _ := text(c[name])
	return s
}

func text(raw json.RawMessage) (string, bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

// ID returns a claim that names somebody: a string of 1 to 255 bytes without
// control characters, or a whole number as it is written. A replacement
// character is an error too: different broken texts would become one name.
func (c Claims) ID(name string) (string, error) {
	raw := c[name]
	s, ok := text(raw)
	if !ok && len(raw) > 0 && strings.Trim(string(raw), "0123456789") == "" {
		s, ok = string(raw), true
	}
	switch {
	case !c.Has(name):
		return "", fmt.Errorf("claim %s is missing", name)
	case !ok || s == "" || len(s) > 255:
		return "", fmt.Errorf("claim %s is not 1 to 255 bytes", name)
	case strings.ContainsFunc(s, broken):
		return "", fmt.Errorf("claim %s holds characters that cannot be told apart", name)
	}
	return s, nil
}

func broken(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }

// Texts returns a claim that is a list of strings, or one string as a list of
// one. ok is false where it is anything else; an absent one is an empty list.
func (c Claims) Texts(name string) (list []string, ok bool) {
	if !c.Has(name) {
		return nil, true
	}
	if s, ok := text(c[name]); ok {
		return []string{s}, true
	}
	var raws []json.RawMessage
	if json.Unmarshal(c[name], &raws) != nil {
		return nil, false
	}
	for _, raw := range raws {
		s, ok := text(raw)
		if !ok {
			return nil, false
		}
		list = append(list, s)
	}
	return list, true
}

// Proven reports whether a claim such as email_verified is true or "true".
// Nothing else proves anything.
func (c Claims) Proven(name string) bool {
	raw := string(c[name])
	return raw == "true" || raw == `"true"`
}

// Time returns a claim that is a number of seconds since 1970 (RFC 7519,
// NumericDate).
func (c Claims) Time(name string) (time.Time, error) {
	if !c.Has(name) {
		return time.Time{}, fmt.Errorf("claim %s is missing", name)
	}
	var seconds float64
	if err := json.Unmarshal(c[name], &seconds); err != nil || seconds < 0 || seconds > math.MaxInt32*100 {
		return time.Time{}, fmt.Errorf("claim %s is no time", name)
	}
	return time.Unix(int64(seconds), 0), nil
}

// How many groups a person may have, and how long their names may be together
// and each, in bytes.
const (
	maxGroups     = 1000
	maxGroupBytes = 64 << 10
	maxGroup      = 256
)

// Groups returns the claim of that name as a list of groups, never a part of
// it: where it is malformed, too long (1000 groups of 256 bytes each, and 64 KiB
// in all), or kept elsewhere, ok is false and the list empty.
func (c Claims) Groups(name string) (groups []string, ok bool) {
	if c.overflows(name) {
		return nil, false
	}
	groups, ok = c.Texts(name)
	if !ok || len(groups) > maxGroups {
		return nil, false
	}
	total := 0
	for _, g := range groups {
		// A group that had to be cleaned could be mistaken for another.
		if total += len(g); g == "" || len(g) > maxGroup || strings.ContainsFunc(g, broken) {
			return nil, false
		}
	}
	if total > maxGroupBytes {
		return nil, false
	}
	return groups, true
}

// overflows reports whether the list is kept elsewhere, and what is here at
// best a part: by `_claim_names` (OpenID Connect Core 5.6.2), or, of `groups`,
// by Microsoft's hasgroups.
func (c Claims) overflows(name string) bool {
	return elsewhere(c["_claim_names"], name) || name == "groups" && c.Proven("hasgroups")
}

func elsewhere(names json.RawMessage, claim string) bool {
	if len(names) == 0 {
		return false
	}
	var m map[string]json.RawMessage
	if json.Unmarshal(names, &m) != nil {
		return true
	}
	_, ok := m[claim]
	return ok
}

// Display makes s fit to be shown: valid UTF-8, no control characters, no
// overrides of the writing direction (they make a name read as another), at
// most 200 bytes.
func Display(s string) string {
	s = strings.Map(func(r rune) rune {
		if broken(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029' {
			return -1
		}
		return r
	}, s)
	return strings.TrimSpace(Cut(s, 200))
}

// Picture returns raw where it is an https address of at most 2048 bytes, else
// "".
func Picture(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || len(raw) > 2048 || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.ContainsFunc(raw, broken) {
		return ""
	}
	return u.String()
}

// Cut returns the first max bytes of s, without a torn character.
func Cut(s string, max int) string {
	if len(s) <= max {
		return s
	}
	for max > 0 && !utf8.RuneStart(s[max]) {
		max--
	}
	return s[:max]
}

// Quote makes a provider's text fit for a log: quoted, at most 200 bytes, and
// without the addresses that error texts like to name.
func Quote(s string) string {
	words := strings.Fields(Cut(s, 200))
	for i, word := range words {
		if strings.Contains(word, "@") {
			words[i] = "[address]"
		}
	}
	return Cut(fmt.Sprintf("%+q", strings.Join(words, " ")), 200)
}

// ReadBody reads at most max bytes; a longer body is an error, not a torn one.
func ReadBody(r io.Reader, max int64) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, max+1))
	if err != nil {
		return nil, fmt.Errorf("reading answer: %w", err)
	}
	if int64(len(body)) > max {
		return nil, fmt.Errorf("answer is longer than %d bytes", max)
	}
	return body, nil
}

var _ Part = (*Options)(nil)
