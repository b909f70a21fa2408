package policy

import (
	"bufio"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"
)

// requested is the URL that net/http makes of a request line, or nil.
func requested(target string) *url.URL {
	if strings.ContainsAny(target, " \r\n") {
		return nil
	}
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + target + " HTTP/1.1\r\nHost: app\r\n\r\n")))
	if err != nil {
		return nil
	}
	return r.URL
}

func TestOrdinaryPathsAreUnambiguous(t *testing.T) {
	for _, target := range []string{
		"/", "/index.html", "/assets/app-1a2b_c~3.min.js", "/assets/", "/.well-known/acme-challenge/x", "/a..b/..c",
		"/@scope/pkg@1.2.3", "/~ada/", "/a+b", "/a,b", "/a=b", "/a&b", "/a$b", "/(a)", "/a'b", "/a!b", "/a*b", "/a%20b", "/%5Bslug%5D",
		"/a%7Cb", "/%7Bid%7D", "/%40scope/pkg", "/a%2Bb", "/a%2Cb", "/%28a%29", "/a%3Ab", "/v1/items:batchGet", "/wiki/Talk:Foo",
		"/vendors~1.js", "/r%C3%A9sum%C3%A9.pdf", "/résumé.pdf", "/re%CC%81sume%CC%81.pdf", "/日本語/ファイル.txt", "/Привет", "/שלום", "/x%F0%9F%98%80",
		"/a?b=//c;d%2F..", "/?%00", "/COM/Con", "http://app/x",
	} {
		u := requested(target)
		if u == nil {
			t.Fatalf("%q is no request", target)
		}
		if !Unambiguous(u) {
			t.Errorf("%q is ambiguous", target)
		}
		if paths, complete := Readings(u); paths != nil && Composed(u.Path) || !complete {
			t.Errorf("%q reads as %q", target, paths)
		}
	}
}

// A rule for /privé/* must hold for an app on a file system to which both are
// one directory.
func TestDecomposedPathReadsAsTheComposed(t *testing.T) {
	u := requested("/prive%CC%81/x")
	if !Unambiguous(u) || Composed(u.Path) {
		t.Error("the path is ambiguous, or composed")
	}
	if paths, complete := Readings(u); !complete || !slices.Equal(paths, []string{"/priv\u00e9/x"}) {
		t.Errorf("it reads as %q", paths)
	}
}

// ambiguous has paths with a reading that some app would give them, or none
// where net/http refuses them or the reading cannot be known.
var ambiguous = []struct{ target, reading string }{
	{"//admin", "/admin"}, {"/x//admin", "/x/admin"}, {"///", "/"}, {"/./admin", "/admin"},
	{"/admin/.", "/admin/"}, {"/x/...", "/x/"},
	{"/public%2Fadmin", "/public%2Fadmin"},
	{"/%61dmin", "/%61dmin"}, {"/a%2Db", "/a%2Db"}, {"/a%7Eb", "/a%7Eb"},
	{"/%2561dmin", "/admin"}, {"/%25%36%31dmin", "/admin"},
	{"/%25u002fadmin", "/admin"},
	{"/admin;x=y", "/admin"}, {"/admin;", "/admin"}, {"/admin;/x", "/admin/x"}, {"/admin;x/y", "/admin"},
	{"/admin%3Bx", "/admin"}, {"/;x/admin", "/admin"},
	{`/public%5Cadmin`, "/public/admin"},
	{"/admin%00.png", "/admin"}, {"/admin%00", "/admin"}, {"/ad%09min", "/admin"}, {"/admin%0d%0a", "/admin"}, {"/admin%7f", "/admin"},
	{"/admin%3Fx", "/admin"}, {"/admin%23x", "/admin"}, {"/admin#x", "/admin"},
	{"/admin.", "/admin"}, {"/admin...", "/admin"}, {"/admin%20", "/admin"}, {"/admin./x", "/admin/x"}, {"/%20admin", "/admin"},
	{"/admin::$DATA", "/admin"}, {"/admin:$DATA", "/admin"}, {"/admin:", "/admin"}, {"/admin::$INDEX_ALLOCATION/x", "/admin/x"},

	{"/%ff", ""}, {"/%ed%a0%80", ""},
	{"/public／admin", "/public/admin"}, {"/ａdmin", "/admin"},
	{"/admin；x", "/admin"}, {"/public∕admin", "/public/admin"}, {"/\u212Aelvin", "/Kelvin"},
	{"/admin…", "/admin"}, {"/admin\u037ex", "/admin"}, {"/pub%EF%BC%8E%EF%BC%8E/x", ""}, {"/ad\u200cmin", ""}, {"/ad\u00admin", ""}, {"/ad\ufeffmin", ""}, {"/adm\u0131n", ""},
	{"/admi%C2%A0n", ""}, {"/adm%3C%3C", ""}, {"/%22admin", ""}, {"/a%3Eb", ""},
}

// upwards has paths that some app would read as one with "..".
var upwards = []string{
	"/public/../admin", "/x/..", "/../admin", "/public%2f..%2fadmin", "/public/%2e%2e/admin", "/public/%2e%2E%2fadmin", "/public/.%2e/admin",
	"/public%252f..%252fadmin", "/public/%252e%252e/admin", "/public/%25u002e%25u002e/admin", "/public/..;/admin", "/public/..;x=y/admin", "/public/.;/..;", "/public;/../admin",
	`/public\..\admin`, "/public%5c..%5Cadmin", "/public%c0%af..%c0%afadmin", "/public/%c0%ae%c0%ae/admin", "/public%e0%80%af..%e0%80%afadmin",
	"/public%c1%9c..%c1%9cadmin", "/public/．．/admin", "/public＼..＼admin", "/public/‥/admin", "/public¥..¥admin", "/public/..%20/admin", "/public/.%00./admin", "/public/..%00/admin", "/public/..%3fx/admin",
}

// What a later handler strips off the front of a path, or puts there, decides
// where ".." leads: /api/..;/admin without /api is /admin to an app, and
// /../base/admin after /base is /base/admin.
func TestPathsThatLeadUpwardsMayLeadAnywhere(t *testing.T) {
	for _, target := range upwards {
		u := requested(target)
		if u == nil {
			t.Errorf("%q is no request", target)
			continue
		}
		if Unambiguous(u) {
			t.Errorf("%q is unambiguous", target)
		}
		if paths, complete := Readings(u); complete {
			t.Errorf("%q reads as %q", target, paths)
		}
	}
	for _, target := range []string{"/a..b/..c", "/v1..2", "/..hidden", "/x/...", "/a;b..c/d"} {
		if paths, complete := Readings(requested(target)); !complete {
			t.Errorf("%q is refused, with the readings %q", target, paths)
		}
	}
}

func TestWhatAppsCouldReadOtherwiseIsAmbiguous(t *testing.T) {
	for _, c := range ambiguous {
		u := requested(c.target)
		if u == nil {
			t.Errorf("%q is no request", c.target)
			continue
		}
		if Unambiguous(u) {
			t.Errorf("%q is unambiguous", c.target)
		}
		paths, complete := Readings(u)
		if !complete || slices.Contains(paths, u.Path) {
			t.Errorf("%q reads as %q, complete: %v", c.target, paths, complete)
		}
		if c.reading != "" && c.reading != u.Path && !slices.Contains(paths, c.reading) {
			t.Errorf("%q reads as %q, without %q", c.target, paths, c.reading)
		}
	}
}

func TestTargetsWithoutAPathAreNeverPublic(t *testing.T) {
	for _, u := range []*url.URL{{}, {Path: "*"}, {Path: "x"}, {Opaque: "/x"}, {Path: "/x", Opaque: "app"}, requested("http://app")} {
		if Unambiguous(u) {
			t.Errorf("%#v is unambiguous", u)
		}
		if _, complete := Readings(u); complete {
			t.Errorf("%#v: readings are complete", u)
		}
	}
}

// A handler that changes Path may leave RawPath behind, or the other way round.
func TestBothFormsOfAPathAreJudged(t *testing.T) {
	for _, u := range []*url.URL{{Path: "/x", RawPath: "/y%2Fz"}, {Path: "/x;", RawPath: "/x"}, {Path: "/x", RawPath: "/%zz"}} {
		if Unambiguous(u) {
			t.Errorf("%#v is unambiguous", u)
		}
	}
}

func TestHonestAmbiguousPathsHaveFewReadings(t *testing.T) {
	for _, target := range []string{
		"/wiki/50%25", "/wiki/Who%3F", "/wiki/C%23", "/@scope%2Fpkg", "/a;jsessionid=0A1B/b", "/img/https%3A%2F%2Fexample.com%2Fa%3Fb%3Dc.png",
		"/img/https://example.com/a.png", "/group%2Fproject/-/blob/main/a.go", "/%E6%97%A5%E6%9C%AC%3F", "/a…", "/docs/v1.", "/%61bc", "/a%5Cb",
	} {
		if paths, complete := Readings(requested(target)); !complete {
			t.Errorf("%q has too many: %q", target, paths)
		}
	}
}

func TestReadingsAreBounded(t *testing.T) {
	paths, complete := Readings(requested(`/a%255c..%252f;b//c%00d\..%2f.%2e;/e．%20/%2e::$DATA`))
	if complete || len(paths) != maxReadings {
		t.Errorf("%d readings, complete: %v", len(paths), complete)
	}
}

// What is unambiguous has one reading by every means we know, and its escapes
// hide nothing.
func FuzzUnambiguous(f *testing.F) {
	for _, c := range ambiguous {
		f.Add(c.target)
	}
	for _, s := range upwards {
		f.Add(s)
	}
	for _, s := range []string{"/", "/a%20b", "/résumé", "/x?y", "/@a/b", "*", "/%5Ba%5D", "/″", "/0:0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, target string) {
		u := requested(target)
		if u == nil {
			return
		}
		paths, complete := Readings(u)
		if len(paths) > maxReadings || slices.Contains(paths, u.Path) {
			t.Errorf("readings %q", paths)
		}
		for _, p := range paths {
			if p == "" || p[0] != '/' {
				t.Errorf("reading %q", p)
			}
		}
		if !Unambiguous(u) {
			return
		}
		if !complete || paths != nil && (Composed(u.Path) || len(paths) > 1) {
			t.Errorf("unambiguous, but reads as %q", paths)
		}
		p := u.Path
		for i, read := range readers[:len(readers)-1] {
			if got := read(p); got != p {
				t.Errorf("reader %d makes %q of %q", i, got, p)
			}
		}
		if got := delimiters(toASCII(p)); got != delimiters(p) {
			t.Errorf("folding %q makes it %q", p, toASCII(p))
		}
		if cleaned := path.Clean(p); cleaned != p && cleaned+"/" != p {
			t.Errorf("cleaned is %q of %q", cleaned, p)
		}
		sent := u.EscapedPath()
		if once, err := url.PathUnescape(sent); err != nil || once != p {
			t.Errorf("what is sent, %q, decodes to %q, %v", sent, once, err)
		}
		for _, bad := range []string{"%2f", "%5c", "%2e", "%25", "%3b", "%3f", "%23", "%0", "%1", "%7f", ";", `\`, "//", "/./", "/../", "#", "?"} {
			if strings.Contains(strings.ToLower(sent), bad) {
				t.Errorf("%q goes upstream with %q", sent, bad)
			}
		}
	})
}

func TestPlainPathsDoNotAllocate(t *testing.T) {
	u := requested("/assets/app-1a2b.min.js")
	if n := testing.AllocsPerRun(100, func() { Unambiguous(u) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func benchmarkUnambiguous(b *testing.B, target string) {
	u := requested(target)
	b.ReportAllocs()
	for b.Loop() {
		if !Unambiguous(u) {
			b.Fatal("ambiguous")
		}
	}
}

func BenchmarkUnambiguousPlain(b *testing.B)  { benchmarkUnambiguous(b, "/assets/app-1a2b.min.js") }
func BenchmarkUnambiguousUTF8(b *testing.B)   { benchmarkUnambiguous(b, "/r%C3%A9sum%C3%A9.pdf") }
func BenchmarkUnambiguousEscape(b *testing.B) { benchmarkUnambiguous(b, "/%40scope/pkg") }

func BenchmarkReadings(b *testing.B) {
	u := requested("/public/..;/admin")
	b.ReportAllocs()
	for b.Loop() {
		Readings(u)
	}
}

// delimiters is what of p some server gives a meaning to.
func delimiters(p string) string {
	return strings.Map(func(c rune) rune {
		if strings.ContainsRune("/\\.;%?#: ", c) || c < ' ' {
			return c
		}
		return -1
	}, p)
}

// Each reading costs a pass over the path, and each pass may give another.
func TestLongOddPathsAreRefusedUnread(t *testing.T) {
	for _, piece := range []string{"/;", "//", "/.", "a;/", "%25", "../", "%2f..;/%5c"} {
		u, err := url.ParseRequestURI("/" + strings.Repeat(piece, 12<<10/len(piece)))
		if err != nil {
			t.Fatal(err)
		}
		if paths, complete := Readings(u); complete || paths != nil {
			t.Errorf("12 KB of %q have %d readings, complete: %v", piece, len(paths), complete)
		}
	}
	u := &url.URL{Path: "/" + strings.Repeat("a", 12<<10)}
	if paths, complete := Readings(u); !complete || paths != nil {
		t.Error("a long honest path is refused")
	}
}
