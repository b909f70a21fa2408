package returnto

import (
	"bufio"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

const base = "/.login"

func TestHonestAddressesStayByteForByte(t *testing.T) {
	for _, raw := range []string{
		"/", "/a", "/a/b/?q=1&r=2", "/a%20b", "/a%2Fb", "/a?u=https://other.example/x", "/a?b=%0D%0A", "/?", "/a?x?y", `/a?b=\c`, "/a:b", "/@a",
		"/r%C3%A9sum%C3%A9", "/.loginx", "/login", "/x/.login", "/.//evil.example", "/%5Cevil.example", "/%2Fevil.example", "/a//b", "/a;b", "/a'(b)*!$&+,=~",
		"/?return=/.login/", "/a?b=%zz", "/" + strings.Repeat("a", 2047),
	} {
		if got, ok := Clean(raw, base); got != raw || !ok {
			t.Errorf("Clean(%q) = %q, %v", raw, got, ok)
		}
	}
}

func TestWhatNeedsEscapingIsEscaped(t *testing.T) {
	for raw, want := range map[string]string{
		"/a b?c d":        "/a%20b?c%20d",
		"/résumé?ü":       "/r%C3%A9sum%C3%A9?%C3%BC",
		`/"<a>?"<b>`:      "/%22%3Ca%3E?%22%3Cb%3E",
		"/a#b":            "/a",
		"/a?b#c?d":        "/a?b",
		"/\xff":           "/%FF",
		"/／／evil.example": "/%EF%BC%8F%EF%BC%8Fevil.example",
		"/\u2028":         "/%E2%80%A8",
	} {
		if got, ok := Clean(raw, base); got != want || !ok {
			t.Errorf("Clean(%q) = %q, %v; want %q", raw, got, ok, want)
		}
	}
}

func TestForeignAndNestedAddressesLeadHome(t *testing.T) {
	for _, raw := range []string{
		"", "a", "#", "?", "//", "//evil.example", "///evil.example", `/\evil.example`, `\/evil.example`, `\\evil.example`, `/a\b`, `/\/evil.example`,
		"https://evil.example", "https:evil.example", "https:/evil.example", "javascript:alert(1)", "data:text/html,x", "user@evil.example", "//user@evil.example",
		" //evil.example", "\t//evil.example", "/\t/evil.example", "/\n/evil.example", "/\r/evil.example", "\x00/a", "/a\x00", "/a\x7f", "/a?b\nc", "/\u000b/evil",
		"／／evil.example", "．//evil.example", "/a%00b", "/a%0d%0aLocation:x", "/a%7fb", "/a%", "/a%zz", "/%/",
		"/.login", "/.login/", "/.login/?return=/.login/?return=/", "/.LOGIN/google", "/%2Elogin/", "/./.login/x", "/x/../.login/logout", "/.//.login/x",
		"/a/%2e%2e/.login/", "/.login?x", "/.login#x", "/" + strings.Repeat("a", 2048), "/" + strings.Repeat("é", 1000),
	} {
		if got, ok := Clean(raw, base); got != "/" || ok {
			t.Errorf("Clean(%q) = %q, %v", raw, got, ok)
		}
	}
}

func TestBaseIsTakenAsItIsConfigured(t *testing.T) {
	for _, c := range []struct {
		raw, base string
		want      bool
	}{
		{"/.login/x", "", true}, {"/.login/x", "/", true}, {"/auth/x", "/Auth/", false}, {"/auth", "/auth/", false}, {"/a/b/c", "/a/b", false}, {"/a/bc", "/a/b", true},
	} {
		if _, ok := Clean(c.raw, c.base); ok != c.want {
			t.Errorf("Clean(%q, %q): %v", c.raw, c.base, ok)
		}
	}
}

func requested(target string) *url.URL {
	if strings.ContainsAny(target, " \r\n") {
		return nil
	}
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + target + " HTTP/1.1\r\nHost: app.example.com\r\n\r\n")))
	if err != nil {
		return nil
	}
	return r.URL
}

func TestInterceptedRequestsComeBackExactly(t *testing.T) {
	for target, want := range map[string]string{
		"/":                             "/",
		"/a/b?c=d&e=%2F":                "/a/b?c=d&e=%2F",
		"/a?":                           "/a?",
		"/a%2Fb%20c":                    "/a%2Fb%20c",
		"//evil.example/x?y=//z":        "/.//evil.example/x?y=//z",
		"///evil.example":               "/.///evil.example",
		`/\evil.example`:                "/%5Cevil.example",
		`//\evil.example`:               "/.//%5Cevil.example",
		"/é?é":                          "/%C3%A9?%C3%A9",
		"/a#b?c#d":                      "/a%23b?c%23d",
		"http://evil.example/x":         "/x",
		"http://evil.example":           "/",
		"http://evil.example//x":        "/.//x",
		"*":                             "/",
		"/a%00b":                        "/",
		"/" + strings.Repeat("a", 2048): "/",
	} {
		u := requested(target)
		if u == nil {
			if target == "*" { // only OPTIONS may ask for it
				u = &url.URL{Path: "*"}
			} else {
				t.Errorf("%q is no request", target)
				continue
			}
		}
		if got := FromRequest(u); got != want {
			t.Errorf("FromRequest(%q) = %q, want %q", target, got, want)
		}
	}
	for _, u := range []*url.URL{{}, {Opaque: "//evil.example"}, {Path: "evil.example"}, {Scheme: "https", Host: "evil.example"}} {
		if got := FromRequest(u); got != "/" {
			t.Errorf("FromRequest(%#v) = %q", u, got)
		}
	}
}

// resolve reads a reference against https://app.example.com/x as browsers do
// (WHATWG URL, basic parser): tabs and newlines vanish, controls and spaces at
// the ends are cut, a backslash is a slash, two slashes begin a host, and only
// then do dot segments go.
func resolve(ref string) (host, path, query string) {
	ref = strings.NewReplacer("\t", "", "\n", "", "\r", "").Replace(ref)
	ref = strings.TrimFunc(ref, func(c rune) bool { return c <= ' ' })
	ref, _, _ = strings.Cut(ref, "#")
	ref, query, _ = strings.Cut(ref, "?")
	if scheme, _, found := strings.Cut(ref, ":"); found && !strings.ContainsAny(scheme, `/\`) && scheme != "" {
		return "(scheme)", "", ""
	}
	ref = strings.ReplaceAll(ref, `\`, "/")
	if strings.HasPrefix(ref, "//") {
		host, path, _ = strings.Cut(strings.TrimLeft(ref, "/"), "/")
		return host, "/" + path, query
	}
	var kept []string
	segments := strings.Split(strings.TrimPrefix(ref, "/"), "/")
	for i, s := range segments {
		last := i == len(segments)-1
		switch strings.ToLower(strings.ReplaceAll(strings.ToLower(s), "%2e", ".")) {
		case ".":
		case "..":
			kept = kept[:max(0, len(kept)-1)]
		default:
			kept = append(kept, s)
			continue
		}
		if last {
			kept = append(kept, "")
		}
	}
	return "app.example.com", "/" + strings.Join(kept, "/"), query
}

func stays(t *testing.T, to string) {
	t.Helper()
	if len(to) > longest || to[0] != '/' || len(to) > 1 && (to[1] == '/' || to[1] == '\\') {
		t.Errorf("%q", to)
	}
	if strings.ContainsFunc(to, func(c rune) bool { return c <= ' ' || c > 0x7e }) {
		t.Errorf("%q is not printable ASCII", to)
	}
	if host, _, _ := resolve(to); host != "app.example.com" {
		t.Errorf("%q leads a browser to %s", to, host)
	}
	here := &url.URL{Scheme: "https", Host: "app.example.com", Path: "/x"}
	there, err := here.Parse(to)
	if err != nil || there.Scheme != "https" || there.Host != "app.example.com" || there.User != nil {
		t.Errorf("%q leads net/url to %v, %v", to, there, err)
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{
		"/", "//evil", `/\evil`, "/.//evil", "/a?b#c", "https://evil", "/\t/evil", "/..//evil", "/é", "/.login/?return=/", "/%2elogin", "/%2e%2e//evil", "/a b",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		to, ok := Clean(raw, base)
		stays(t, to)
		if !ok && to != "/" {
			t.Errorf("%q is refused, but %q", raw, to)
		}
		if again, _ := Clean(to, base); again != to {
			t.Errorf("%q changes to %q", to, again)
		}
		_, path, _ := resolve(to)
		if decoded, err := url.PathUnescape(path); err != nil || decoded == base || strings.HasPrefix(decoded, base+"/") {
			t.Errorf("%q leads to a sign-in: %q, %v", to, decoded, err)
		}
	})
}

func FuzzFromRequest(f *testing.F) {
	for _, s := range []string{"/", "//evil", `/\evil`, "/a#b?c#d", "///", "http://x//y", "/a%2Fb?", "/é?é", "/./a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, target string) {
		u := requested(target)
		if u == nil {
			return
		}
		to := FromRequest(u)
		stays(t, to)
		if again, _ := Clean(to, ""); again != to {
			t.Errorf("%q changes to %q", to, again)
		}
		// Browsers resolve dots before they ask: with some in it, no request
		// of theirs. Refused ones lead home.
		if to == "/" || !strings.HasPrefix(u.Path, "/") || strings.Contains("/"+u.Path+"/", "/./") || strings.Contains("/"+u.Path+"/", "/../") {
			return
		}
		_, got, _ := resolve(to)
		if decoded, err := url.PathUnescape(got); err != nil || decoded != u.Path {
			t.Errorf("%q comes back as %q", u.Path, decoded)
		}
	})
}

func BenchmarkClean(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Clean("/reports/2026?page=2&sort=name", base)
	}
}

func BenchmarkFromRequest(b *testing.B) {
	u := requested("/reports/2026?page=2&sort=name")
	b.ReportAllocs()
	for b.Loop() {
		FromRequest(u)
	}
}
