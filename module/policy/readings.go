package policy

import (
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// maxReadings bounds what one path can make us match, and maxLength what it can
// make us read: in bytes, as it is escaped.
const (
	maxReadings = 16
	maxLength   = 2048
)

// Readings returns every other decoded path that some app could read u's path
// as: escapes left alone or decoded again, segments' parameters cut off, \ and
// look-alikes for /, dots dropped, slashes merged, and what these give one
// after the other. It is nil for an unambiguous path that is Composed, and does
// not hold u.Path itself. The visitor must be admitted under the rule of each.
//
// complete is false where there are more than 16, where u has no path at all,
// or an ambiguous one of more than 2 KiB, and where a reading leads upwards, for
// how far depends on what a later handler strips off its front or puts there:
// such a request is for those only who may go everywhere. No honest client sends
// one, and of the readings left out one could be the app's.
//
// For whom Readings is not enough: a rule that admits anyone must not apply to
// an ambiguous path, whatever its readings.
func Readings(u *url.URL) (paths []string, complete bool) {
	if Unambiguous(u) {
		return composed(u.Path), true
	}
	if u.Opaque != "" || u.Path == "" || u.Path[0] != '/' || len(u.EscapedPath()) > maxLength {
		return nil, false
	}
	all := []string{u.Path}
	if u.RawPath != "" {
		all = appendNew(all, u.RawPath)
		all = appendNew(all, u.EscapedPath())
	}
	for i := 0; i < len(all); i++ {
		if leadsUp(all[i]) {
			return nil, false
		}
		for _, read := range readers {
			if all = appendNew(all, read(all[i])); len(all) > maxReadings+1 {
				return all[1 : maxReadings+1], false
			}
		}
	}
	return all[1:], true
}

// Composed reports whether a path is the same to those who compose its
// characters, as Apple's file systems do: é of two is é of one. Rules are
// written with the latter.
func Composed(path string) bool { return isASCII(path) || norm.NFC.IsNormalString(path) }

func composed(path string) []string {
	if Composed(path) {
		return nil
	}
	return []string{norm.NFC.String(path)}
}

// leadsUp reports whether a segment of p is "..", which browsers resolve.
func leadsUp(p string) bool {
	return strings.Contains(p, "..") &&
		slices.ContainsFunc(strings.Split(p, "/"), func(s string) bool { return strings.Trim(s, " ") == ".." })
}

// readers are the things that apps, their frameworks and their file systems do
// to a path.
var readers = []func(string) string{
	unescape,      // decodes twice
	withoutParams, // servlets: /a;x=y/b is /a/b
	firstPart,     // C strings, and those who look for the query themselves
	toSlashes,     // Windows
	mergeSlashes,  // most frameworks, nginx
	namedDots,     // those who resolve no dots: they are names
	withoutDots,   // RFC 3986 section 5.2.4
	trimSegments,  // Windows
	withoutControls,
	toASCII,
}

// appendNew appends p where it is new. A reading without its first slash
// would match no rule.
func appendNew(all []string, p string) []string {
	if p == "" || p[0] != '/' {
		p = "/" + p
	}
	if slices.Contains(all, p) {
		return all
	}
	return append(all, p)
}

// unescape decodes the valid escapes, IIS's %u002f too, and leaves the others.
func unescape(p string) string {
	if !strings.Contains(p, "%") {
		return p
	}
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		switch {
		case p[i] == '%' && i+2 < len(p) && isHex(p[i+1]) && isHex(p[i+2]):
			b.WriteByte(unhex(p[i+1])<<4 | unhex(p[i+2]))
			i += 2
		case p[i] == '%' && i+5 < len(p) && p[i+1]|0x20 == 'u' && !strings.ContainsFunc(p[i+2:i+6], notHex):
			b.WriteRune(rune(unhex(p[i+2]))<<12 | rune(unhex(p[i+3]))<<8 | rune(unhex(p[i+4]))<<4 | rune(unhex(p[i+5])))
			i += 5
		default:
			b.WriteByte(p[i])
		}
	}
	return b.String()
}

func notHex(c rune) bool { return c >= utf8.RuneSelf || !isHex(byte(c)) }

func withoutParams(p string) string {
	return eachSegment(p, func(s string) string {
		s, _, _ = strings.Cut(s, ";")
		return s
	})
}

func firstPart(p string) string {
	if i := strings.IndexFunc(p, func(c rune) bool { return c < ' ' || c == ';' || c == '?' || c == '#' }); i >= 0 {
		return p[:i]
	}
	return p
}

func toSlashes(p string) string { return strings.ReplaceAll(p, `\`, "/") }

func mergeSlashes(p string) string {
	for strings.Contains(p, "//") {
		p = strings.ReplaceAll(p, "//", "/")
	}
	return p
}

// withoutDots drops the segments "." but leaves empty ones, which count.
func withoutDots(p string) string {
	if !strings.Contains(p, "/.") {
		return p
	}
	segments := strings.Split(p, "/")
	last := len(segments) - 1
	kept := slices.DeleteFunc(segments[:last], func(s string) bool { return s == "." })
	if segments[last] == "." {
		return strings.Join(append(kept, ""), "/")
	}
	return strings.Join(append(kept, segments[last]), "/")
}

// namedDots keeps the segments "." from Caddy's matchers, which drop them.
func namedDots(p string) string {
	return eachSegment(p, func(s string) string {
		if s == "." {
			return "%2e"
		}
		return s
	})
}

// trimSegments drops dots and spaces at the ends of segments, and the stream
// that holds a file's own content.
func trimSegments(p string) string {
	return eachSegment(p, func(s string) string {
		if s == "." || s == ".." {
			return s
		}
		for i := range len(s) {
			if s[i] == ':' && (i+1 == len(s) || s[i+1] == ':' || s[i+1] == '$') {
				s = s[:i]
				break
			}
		}
		return strings.TrimLeft(strings.TrimRight(s, ". "), " ")
	})
}

func withoutControls(p string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return -1
		}
		return c
	}, p)
}

// toASCII folds what looks like ASCII into it: compatibility forms, best fits,
// and UTF-8 that is longer than it need be.
func toASCII(p string) string {
	if isASCII(p) {
		return p
	}
	p = norm.NFKC.String(shorten(p))
	return strings.Map(func(c rune) rune {
		if ascii, ok := bestFit[c]; ok {
			return ascii
		}
		return c
	}, p)
}

func isASCII(p string) bool {
	return !strings.ContainsFunc(p, func(c rune) bool { return c >= utf8.RuneSelf })
}

// shorten reads C0 AF and E0 80 AF as the '/' that they were to decoders
// before RFC 3629.
func shorten(p string) string {
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		switch rest := p[i:]; {
		case len(rest) >= 2 && rest[0]&0xfe == 0xc0 && rest[1]&0xc0 == 0x80:
			b.WriteByte(rest[0]&1<<6 | rest[1]&0x3f)
			i++
		case len(rest) >= 3 && rest[0] == 0xe0 && rest[1]&0xfe == 0x80 && rest[2]&0xc0 == 0x80:
			b.WriteByte(rest[1]&1<<6 | rest[2]&0x3f)
			i += 2
		default:
			b.WriteByte(p[i])
		}
	}
	return b.String()
}

func eachSegment(p string, do func(string) string) string {
	segments := strings.Split(p, "/")
	for i, s := range segments {
		segments[i] = do(s)
	}
	return strings.Join(segments, "/")
}
