package header

import (
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Jar knows our cookies on one site: the one that holds the session, and
// those whose names continue its name with "-". It is safe for concurrent
// use.
type Jar struct{ base string }

// Cookie is one cookie of ours as the browser sent it.
type Cookie struct{ Name, Value string }

// maxPending bounds what one request can make us look at. Browsers hold five.
const maxPending = 16

// NewJar returns the Jar of the cookies base and base+"-…". With an empty base
// it owns none.
func NewJar(base string) *Jar { return &Jar{base} }

// Take removes our cookies from every Cookie line; all others stay byte for
// byte and in order. It returns the value of the cookie named exactly like the
// session's, which is empty where there is none, or more than one: of two,
// only a neighbour who planted the other knows which is whose. pending are our
// other cookies, at most 16, of which some may have the same name.
//
// Names are ours without case, and also where only RFC 2109's reading of
// commas or quotes finds them: these are removed, and mean nothing to us.
// Where the session's cookie came more than once, all of them are among pending:
// good for nothing but to be ended.
//
// Take allocates once for each line that has cookies on both sides of ours,
// and for pending; otherwise not at all.
func (j *Jar) Take(h http.Header) (session string, pending []Cookie) {
	var t taken
	lines := h["Cookie"]
	kept := lines[:0]
	for _, line := range lines {
		if rest, found := j.takeFrom(line, &t); !found || rest != "" {
			kept = append(kept, rest)
		}
	}
	switch {
	case len(kept) == len(lines):
	case len(kept) == 0:
		delete(h, "Cookie")
	default:
		h["Cookie"] = kept
	}
	if t.sessions > 1 {
		t.session = ""
	}
	return t.session, t.pending
}

// taken collects our cookies.
type taken struct {
	session  string
	sessions int
	pending  []Cookie
}

// takeFrom returns line without our cookies, and whether there were any. In
// the common case, ours first or last, what is left is a part of line.
func (j *Jar) takeFrom(line string, t *taken) (rest string, found bool) {
	from, to, last := -1, 0, 0 // what is kept; where the last of ours ends
	split := false
	for start := 0; start <= len(line); {
		end := pairEnd(line, start)
		pair := line[start:end]
		switch {
		case j.owns(pair):
			t.add(j, pair)
			found, last = true, end
		case !blank(pair):
			if from < 0 {
				from = start
			}
			split = split || last > from
			to = end
		}
		start = end + 1
	}
	switch {
	case !found:
		return line, false
	case from < 0:
		return "", true
	case split:
		return j.without(line), true
	}
	return strings.TrimLeft(line[from:to], " \t"), true
}

// without joins the pairs of line that are not ours.
func (j *Jar) without(line string) string {
	var b strings.Builder
	b.Grow(len(line))
	for start := 0; start <= len(line); {
		end := pairEnd(line, start)
		if pair := line[start:end]; !blank(pair) && !j.owns(pair) {
			if b.Len() == 0 {
				pair = strings.TrimLeft(pair, " \t")
			} else {
				b.WriteByte(';')
			}
			b.WriteString(pair)
		}
		start = end + 1
	}
	return b.String()
}

// add notes a pair of ours. Only the exact spelling is one: the others are
// some neighbour's attempt to be taken for it.
func (t *taken) add(j *Jar, pair string) {
	name, value, hasValue := strings.Cut(pair, "=")
	name, value = trim(name), trim(value)
	rest, ok := strings.CutPrefix(name, j.base)
	switch {
	case !ok || !hasValue:
	case rest == "":
		t.another(name, value)
	case rest[0] == '-' && len(t.pending) < maxPending:
		t.pending = append(t.pending, Cookie{name, value})
	}
}

// another notes the session's cookie; from the second on, all of them.
func (t *taken) another(name, value string) {
	if t.sessions++; t.sessions == 2 {
		t.pending = append(t.pending, Cookie{name, t.session})
	}
	if t.sessions > 1 && len(t.pending) < maxPending {
		t.pending = append(t.pending, Cookie{name, value})
	}
	t.session = value
}

// CleanSetCookie removes from an app's answer the lines that would set or
// clear a cookie of ours, in any spelling that a browser would send back as
// one. All other lines stay byte for byte.
//
// Called once more after the body, it does so for trailers, which are then in
// h, too: a proxy before us may merge them into the head (RFC 9110 section
// 6.5.1).
func (j *Jar) CleanSetCookie(h http.Header) {
	j.clean(h, "Set-Cookie")
	j.clean(h, http.TrailerPrefix+"Set-Cookie")
}

func (j *Jar) clean(h http.Header, name string) {
	lines := h[name]
	kept := lines[:0]
	for _, line := range lines {
		pair, _, _ := strings.Cut(line, ";")
		if !j.named(pair) {
			kept = append(kept, line)
		}
	}
	switch {
	case len(kept) == len(lines):
	case len(kept) == 0:
		delete(h, name)
	default:
		h[name] = kept
	}
}

// owns reports whether some reader finds a cookie of ours in pair. RFC 2109
// let commas separate cookies, and some servers still do.
func (j *Jar) owns(pair string) bool {
	if j.named(pair) {
		return true
	}
	for {
		comma := strings.IndexByte(pair, ',')
		if comma < 0 {
			return false
		}
		if pair = pair[comma+1:]; j.named(pair) {
			return true
		}
	}
}

// named reports whether the name of pair is ours. A browser sends the
// nameless cookie that "=login=x" sets as "login=x".
func (j *Jar) named(pair string) bool {
	for pair != "" && (pair[0] <= ' ' || pair[0] == '=') {
		pair = pair[1:]
	}
	if pair != "" && pair[0] >= 0x7f {
		pair = strings.TrimLeftFunc(pair, padding)
	}
	n := len(j.base)
	if n == 0 || len(pair) < n || pair[0]|0x20 != j.base[0]|0x20 || !strings.EqualFold(pair[:n], j.base) {
		return false
	}
	rest := pair[n:]
	if strings.HasPrefix(rest, "-") {
		return true
	}
	rest = strings.TrimLeftFunc(rest, unseen)
	return rest == "" || rest[0] == '=' || rest[0] == ','
}

// unseen is what some reader trims: spaces of any kind, controls, and bytes
// that are no UTF-8, among them Latin-1's own spaces.
func unseen(c rune) bool {
	return unicode.IsSpace(c) || unicode.IsControl(c) || c == utf8.RuneError
}

func padding(c rune) bool { return c == '=' || unseen(c) }

// pairEnd is where the pair that begins at start ends.
func pairEnd(line string, start int) int {
	if i := strings.IndexByte(line[start:], ';'); i >= 0 {
		return start + i
	}
	return len(line)
}

func blank(s string) bool {
	for i := range len(s) {
		if s[i] != ' ' && s[i] != '\t' {
			return false
		}
	}
	return true
}

func trim(s string) string { return strings.Trim(s, " \t") }
