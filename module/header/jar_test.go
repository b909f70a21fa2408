package header

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

var jar = NewJar("__Host-login")

func TestTake(t *testing.T) {
	for _, c := range []struct {
		name    string
		in      []string
		left    []string
		session string
		pending []Cookie
	}{
		{"no cookies", nil, nil, "", nil},
		{"only ours", []string{"__Host-login=s"}, nil, "s", nil},
		{"none of ours", []string{"a=1;b=2; ;c"}, []string{"a=1;b=2; ;c"}, "", nil},
		{"ours first", []string{"__Host-login=s; a=1; b=2"}, []string{"a=1; b=2"}, "s", nil},
		{"ours last", []string{"a=1; b=2; __Host-login=s"}, []string{"a=1; b=2"}, "s", nil},
		{"ours between", []string{"a=1; __Host-login=s; b=2"}, []string{"a=1; b=2"}, "s", nil},
		{"ours all around", []string{"__Host-login-a=x; a=1; __Host-login=s;b=2;__Host-login-b=y"}, []string{"a=1;b=2"}, "s",
			[]Cookie{{"__Host-login-a", "x"}, {"__Host-login-b", "y"}}},
		{"without spaces", []string{"a=1;__Host-login=s;b=2"}, []string{"a=1;b=2"}, "s", nil},
		{"empty pairs", []string{";; __Host-login=s;;"}, nil, "s", nil},
		{"empty pairs around others", []string{"a=1;; __Host-login=s;; b=2;"}, []string{"a=1; b=2"}, "s", nil},
		{"several lines", []string{"a=1", "__Host-login=s", "b=2"}, []string{"a=1", "b=2"}, "s", nil},
		{"twice counts as none", []string{"__Host-login=s; __Host-login=t"}, nil, "", []Cookie{{"__Host-login", "s"}, {"__Host-login", "t"}}},
		{"twice the same counts as none", []string{"__Host-login=s; __Host-login=s"}, nil, "", []Cookie{{"__Host-login", "s"}, {"__Host-login", "s"}}},
		{"twice on two lines counts as none", []string{"__Host-login=s; a=1", "__Host-login=t"}, []string{"a=1"}, "", []Cookie{{"__Host-login", "s"}, {"__Host-login", "t"}}},
		{"another case is removed and ignored", []string{"__host-LOGIN=evil; __Host-login=s; __HOST-LOGIN-x=evil"}, nil, "s", nil},
		{"a bare name is removed and ignored", []string{"__Host-login; a; __Host-login=s"}, []string{"a"}, "s", nil},
		{"a nameless one is removed and ignored", []string{"=__Host-login=evil; __Host-login=s"}, nil, "s", nil},
		{"an empty one is none", []string{"__Host-login="}, nil, "", nil},
		{"spaces around the name", []string{"\t__Host-login = s ;a=1"}, []string{"a=1"}, "s", nil},
		{"similar names are others", []string{"__Host-logins=1; x__Host-login=2; login=3; __Host-login_x=4"},
			[]string{"__Host-logins=1; x__Host-login=2; login=3; __Host-login_x=4"}, "", nil},
		{"our name in a value is no cookie", []string{"a=__Host-login=x; b=2"}, []string{"a=__Host-login=x; b=2"}, "", nil},
		{"quoted values stay quoted", []string{`a="x y"; __Host-login=s; b="1,2"`}, []string{`a="x y"; b="1,2"`}, "s", nil},
		{"a cookie between quotes is still ours", []string{`a="; __Host-login=s; b="`}, []string{`a="; b="`}, "s", nil},
		{"behind a comma it is removed and ignored", []string{"a=1, __host-login=x; b=2"}, []string{"b=2"}, "", nil},
		{"Latin-1 spaces", []string{"\xa0__Host-login\x85=evil; b=2"}, []string{"b=2"}, "", nil},
		{"Unicode's spaces", []string{"\u2003__Host-login\u00a0=evil; \u65e5\u672c=2"}, []string{"\u65e5\u672c=2"}, "", nil},
	} {
		h := http.Header{}
		if c.in != nil {
			h["Cookie"] = slices.Clone(c.in)
		}
		session, pending := jar.Take(h)
		if !slices.Equal(h["Cookie"], c.left) || session != c.session || !slices.Equal(pending, c.pending) {
			t.Errorf("%s: left %q, session %q, pending %q", c.name, h["Cookie"], session, pending)
		}
		if _, ok := h["Cookie"]; ok && c.left == nil {
			t.Errorf("%s: an empty header is left", c.name)
		}
	}
}

func TestCookieFloodIsBounded(t *testing.T) {
	h := http.Header{"Cookie": {strings.Repeat("__Host-login-x=y; ", 1000)}}
	if _, pending := jar.Take(h); len(pending) != maxPending || h["Cookie"] != nil {
		t.Errorf("%d pending, left %q", len(pending), h["Cookie"])
	}
}

func TestNamelessJarOwnsNothing(t *testing.T) {
	h := http.Header{"Cookie": {"a=1; =b; -c=2; d"}, "Set-Cookie": {"a=1", "=b", ""}}
	session, pending := NewJar("").Take(h)
	NewJar("").CleanSetCookie(h)
	if session != "" || pending != nil || len(h["Set-Cookie"]) != 3 || h.Get("Cookie") != "a=1; =b; -c=2; d" {
		t.Errorf("%q, %q, %q", session, pending, h)
	}
}

func TestTakeRarelyAllocates(t *testing.T) {
	for _, c := range []struct {
		line string
		most float64
	}{
		{"__Host-login=s", 0}, {"a=1; b=2", 0}, {"__Host-login=s; a=1; b=2", 0}, {"a=1; b=2; __Host-login=s", 0},
		{"a=1; __Host-login=s; b=2", 1},
	} {
		value, h := []string{""}, http.Header{}
		if n := testing.AllocsPerRun(100, func() {
			value[0], h["Cookie"] = c.line, value
			jar.Take(h)
		}); n > c.most {
			t.Errorf("%q: %v allocations", c.line, n)
		}
	}
}

func TestAppsCannotSetOurCookies(t *testing.T) {
	for _, line := range []string{
		"__Host-login=x", "__Host-login=x; Path=/; Secure", "__host-LOGIN=x", " __Host-login =x", "\t__Host-login\t=x", "__Host-login",
		"__Host-login;Max-Age=0", "=__Host-login=x", " = __Host-login=x", "__Host-login-abc=x", "__HOST-LOGIN-=x", "==__Host-login",
	} {
		h := http.Header{"Set-Cookie": {"a=1", line, "b=2; Path=/"}}
		if jar.CleanSetCookie(h); !slices.Equal(h["Set-Cookie"], []string{"a=1", "b=2; Path=/"}) {
			t.Errorf("%q: %q", line, h["Set-Cookie"])
		}
		h = http.Header{"Set-Cookie": {line}}
		if jar.CleanSetCookie(h); len(h) != 0 {
			t.Errorf("%q: %q", line, h)
		}
	}
}

func TestAppsCookiesStay(t *testing.T) {
	lines := []string{"login=x", "__Host-logins=1", "a=__Host-login=x", "__Host-login_x=1", "x; __Host-login=1", "=x", "", "__Secure-login=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT"}
	h := http.Header{"Set-Cookie": slices.Clone(lines)}
	if jar.CleanSetCookie(h); !slices.Equal(h["Set-Cookie"], lines) {
		t.Errorf("%q", h["Set-Cookie"])
	}
}

// carrying reports whether a reader that splits s at any of seps finds one of
// our cookies.
func carrying(s, seps string) bool {
	for _, pair := range strings.FieldsFunc(s, func(c rune) bool { return strings.ContainsRune(seps, c) }) {
		name, _, _ := strings.Cut(strings.TrimSpace(pair), "=")
		name = strings.ToLower(strings.TrimSpace(name))
		if name == "__host-login" || strings.HasPrefix(name, "__host-login-") {
			return true
		}
	}
	return false
}

// pairs are those of the lines that no reader takes for ours.
func pairs(lines []string) (p []string) {
	for _, line := range lines {
		for pair := range strings.SplitSeq(line, ";") {
			if !jar.owns(pair) && strings.Trim(pair, " \t") != "" {
				p = append(p, strings.TrimLeft(pair, " \t"))
			}
		}
	}
	return p
}

func FuzzTake(f *testing.F) {
	for _, s := range []string{
		"", "a=1; __Host-login=s; b=2", "__host-login=s;a", "a=1,__Host-login=x;;", `a="; __Host-login=s; b="`, "=__Host-login=x",
		" ; __Host-login-a=1 ;", "__Host-login", "\xa0__Host-login=x", "a=1\n__Host-login=x",
	} {
		f.Add(s, "b=2; __Host-login=t")
		f.Add(s, "")
	}
	f.Fuzz(func(t *testing.T, one, two string) {
		in := []string{one, two}
		h := http.Header{"Cookie": slices.Clone(in)}
		session, _ := jar.Take(h)
		left := h["Cookie"]
		for _, line := range left {
			if carrying(line, ";") || carrying(line, ";,") {
				t.Errorf("%q carries ours", line)
			}
		}
		if want := pairs(in); !slices.Equal(pairs(left), want) {
			t.Errorf("left %q, want the pairs %q", left, want)
		}
		if !carrying(one, ";,") && !carrying(two, ";,") && session != "" {
			t.Errorf("session %q from nowhere", session)
		}
	})
}

func FuzzCleanSetCookie(f *testing.F) {
	for _, s := range []string{"__Host-login=x", " __host-login ; Path=/", "=__Host-login=x", "a=1; __Host-login=2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		h := http.Header{"Set-Cookie": {line, "a=1"}}
		jar.CleanSetCookie(h)
		left := h["Set-Cookie"]
		if left[len(left)-1] != "a=1" || len(left) == 2 && left[0] != line {
			t.Errorf("%q", left)
		}
		pair, _, _ := strings.Cut(left[0], ";")
		if carrying(strings.TrimLeft(pair, " \t="), "") {
			t.Errorf("%q sets ours", left[0])
		}
	})
}

func benchmarkTake(b *testing.B, line string) {
	value, h := []string{""}, http.Header{}
	b.ReportAllocs()
	for b.Loop() {
		value[0], h["Cookie"] = line, value
		if session, _ := jar.Take(h); session != sealed {
			b.Fatal("no session")
		}
	}
}

func others(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "_ga_%d=GS1.1.1763995449.1.1.1763995512.0.0.0; ", i)
	}
	return b.String()
}

func BenchmarkTakeAlone(b *testing.B) { benchmarkTake(b, "__Host-login="+sealed) }
func BenchmarkTakeLast(b *testing.B)  { benchmarkTake(b, others(8)+"__Host-login="+sealed) }
func BenchmarkTakeMiddle(b *testing.B) {
	benchmarkTake(b, others(4)+"__Host-login="+sealed+"; "+others(4))
}
