package main_test

import (
	"net/url"
	pathpkg "path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"
)

// reading is a path as some app may take it, and how often it was decoded.
type reading struct {
	path    string
	decoded int
}

// readingsOf are the paths that an app could take a target for, lower-case: what
// one server, framework, file system or application does to a path, and what
// several do one after the other. Written without a look at how the gate finds
// them.
func readingsOf(target string) []string {
	all := []reading{{pathOf(target), 0}}
	seen := map[reading]bool{all[0]: true}
	add := func(r reading) {
		if !strings.HasPrefix(r.path, "/") {
			r.path = "/" + r.path
		}
		if !seen[r] && len(all) < 4000 {
			seen[r] = true
			all = append(all, r)
		}
	}
	for i := 0; i < len(all); i++ {
		r := all[i]
		if r.decoded < 2 {
			add(reading{decoded(r.path), r.decoded + 1})
		}
		for _, how := range habits {
			add(reading{how(r.path), r.decoded})
		}
	}
	var paths []string
	for _, r := range all {
		paths = append(paths, strings.ToLower(r.path))
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// pathOf is the path of a request line's target.
func pathOf(target string) string {
	if _, rest, absolute := strings.Cut(target, "://"); absolute && !strings.HasPrefix(target, "/") {
		_, path, _ := strings.Cut(rest, "/")
		target = "/" + path
	}
	path, _, _ := strings.Cut(target, "?")
	return path
}

// decoded decodes what is an escape and leaves what is none.
func decoded(p string) string {
	return escape.ReplaceAllStringFunc(p, func(s string) string {
		one, err := url.PathUnescape(s)
		if err != nil {
			return s
		}
		return one
	})
}

var (
	escape    = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)
	iisEscape = regexp.MustCompile(`(?i)%u([0-9a-f]{4})`)
	params    = regexp.MustCompile(`;[^/]*`)
	slashes   = regexp.MustCompile(`/{2,}`)
	endings   = regexp.MustCompile(`([^/. ])(?:[. ]+|::?\$[A-Za-z_]+|:)(/|$)`)
	ascii     = strings.NewReplacer("\xc0\xae", ".", "\xc0\xaf", "/", "\xe0\x80\xaf", "/", "\xc1\x9c", `\`, "\u2215", "/", "\u2044", "/", "\u2216", `\`, "\u00a5", `\`, "\u20a9", `\`)
)

// habits are what apps do to paths.
var habits = []func(string) string{
	func(p string) string { return strings.ReplaceAll(p, `\`, "/") },
	func(p string) string { return slashes.ReplaceAllString(p, "/") },
	func(p string) string { return params.ReplaceAllString(p, "") },
	func(p string) string { return endings.ReplaceAllString(p, "$1$2") },
	func(p string) string { return ascii.Replace(p) },
	func(p string) string { return norm.NFKC.String(p) },
	resolved,
	func(p string) string { before, _, _ := strings.Cut(p, "\x00"); return before },
	func(p string) string { before, _, _ := strings.Cut(p, "?"); return before },
	func(p string) string { before, _, _ := strings.Cut(p, "#"); return before },
	func(p string) string { before, _, _ := strings.Cut(p, ";"); return before },
	func(p string) string { return strings.Map(withoutControl, p) },
	func(p string) string {
		return iisEscape.ReplaceAllStringFunc(p, func(s string) string {
			one, err := url.PathUnescape("%" + s[2:4] + "%" + s[4:6])
			if err != nil || one[0] != 0 {
				return s
			}
			return one[1:]
		})
	},
}

func withoutControl(c rune) rune {
	if c < ' ' || c == 0x7f {
		return -1
	}
	return c
}

// resolved has no dots and no empty segments, and keeps the slash at its end.
func resolved(p string) string {
	cleaned := pathpkg.Clean("/" + p)
	if cleaned != "/" && (strings.HasSuffix(p, "/") || strings.HasSuffix(p, "/.") || strings.HasSuffix(p, "/..")) {
		cleaned += "/"
	}
	return cleaned
}

func TestReadingsFindWhatAppsHaveFallenFor(t *testing.T) {
	for _, target := range []string{
		"/admin/x", "//admin/x", "/./admin/x", "/p/../admin/x", "/p/..;/admin/x", "/p;/../admin/x", `/p\..\admin\x`, "/p/%2e%2e/admin/x", "/p/%252e%252e/admin/x",
		"/p/..%2fadmin%2fx", "/p%252f..%252fadmin/x", "/p/..%5cadmin%5cx", "/p/.%00./admin/x", "/admin/x%00.css", "/admin/x%23/p", "/admin/x%3fp", "/admin/x;.css", "/ADMIN/X",
		"/admin./x", "/admin%20/x", "/admin::$DATA/x", "/p%c0%af..%c0%afadmin/x", "/p/%c0%ae%c0%ae/admin/x", "/p%ef%bc%8f%ef%bc%8e%ef%bc%8e%ef%bc%8fadmin/x",
		"/%61dmin/x", "/%2561dmin/x", "/ad%0amin/x", "/p%u002f..%u002fadmin/x", "http://app/admin/x", "/%61%64min/x?y",
	} {
		if all := readingsOf(target); !slices.Contains(all, "/admin/x") {
			t.Errorf("%s is read as %q", target, all)
		}
	}
	if all := readingsOf("/public/a-b_c.css?/../admin"); !slices.Equal(all, []string{"/public/a-b_c.css"}) {
		t.Errorf("a plain path is read as %q", all)
	}
}
