package policy

import (
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Unambiguous reports whether Caddy and every app read u's path alike, so that
// a rule that admits anyone may apply. It is judged on what goes upstream: the
// path decoded, and its escapes as they were written.
//
// Let through are ordinary names: letters, digits, -._~ and !$&'()*+,:=@ and
// what has no meaning to any server but must be escaped, such as the space and
// brackets; UTF-8 letters, marks, digits and symbols. All of
//
//	// /./ /../ %2F %2e %252e ; \ %00 %3F %23 %61
//
// are not, nor dots and spaces at the end of a segment and ::$DATA (Windows
// drops them), < > and " (wildcards there, to PHP), invalid and overlong
// UTF-8, invisible characters, and those that a normalising or best-fit
// conversion turns into ASCII, such as ／ and …. Case is not judged: Caddy's
// matchers ignore it. Nor are 8.3 names such as SECRET~1, which a rule for a
// directory covers as it covers the long ones.
//
// A path that a handler has rewritten must be judged in both forms: FastCGI
// passes the original one on as REQUEST_URI.
//
// It does not allocate for a path without escapes.
func Unambiguous(u *url.URL) bool {
	if u.Opaque != "" || !plain(u.Path) {
		return false
	}
	if u.RawPath == "" {
		return true
	}
	return plainEscapes(u.RawPath) && plainEscapes(u.EscapedPath())
}

// plain judges a decoded path.
func plain(p string) bool {
	if p == "" || p[0] != '/' {
		return false
	}
	ascii, before := true, byte(0)
	for i := range len(p) {
		c := p[i]
		switch kinds[c] {
		case never:
			return false
		case beyond:
			ascii = false
		case edge:
			// A segment ends where the next one begins.
			if c == '/' && kinds[before] == edge {
				return false
			}
			if c != '/' && c != '.' && before == '/' || before == ':' && c == ':' {
				return false
			}
		case stream:
			if before == ':' {
				return false
			}
		}
		before = c
	}
	return (kinds[before] != edge || before == '/') && (ascii || plainUnicode(p))
}

// The kinds of bytes in a decoded path.
const (
	ordinary = iota
	never    // never plain
	beyond   // part of a character beyond ASCII
	edge     // not plain before a slash or at the end
	stream   // not plain after a colon: file:$DATA
)

var kinds = func() (k [256]byte) {
	for c := range k {
		switch {
		case c < ' ' || c == 0x7f || strings.IndexByte(`;\%?#<>"`, byte(c)) >= 0:
			k[c] = never
		case c >= utf8.RuneSelf:
			k[c] = beyond
		case strings.IndexByte("/. :", byte(c)) >= 0:
			k[c] = edge
		case c == '$':
			k[c] = stream
		}
	}
	return k
}()

// plainUnicode judges the characters beyond ASCII.
func plainUnicode(p string) bool {
	for i, c := range p {
		if c < utf8.RuneSelf {
			continue
		}
		_, size := utf8.DecodeRuneInString(p[i:])
		if c == utf8.RuneError || !unicode.IsPrint(c) || foldsToASCII(p[i:i+size], c) {
			return false
		}
	}
	return true
}

// foldsToASCII reports whether some conversion turns the character into ASCII:
// compatibility normalisation, case mapping, or the best fit of Windows' code
// pages.
func foldsToASCII(s string, c rune) bool {
	if _, fits := bestFit[c]; fits || unicode.ToLower(c) < utf8.RuneSelf || unicode.ToUpper(c) < utf8.RuneSelf {
		return true
	}
	return strings.ContainsFunc(norm.NFKC.String(s), func(c rune) bool { return c < utf8.RuneSelf })
}

// bestFit has the look-alikes that Unicode keeps apart and code pages don't:
// 1252 the slashes, 932 and 949 the currencies in the backslash's place.
var bestFit = map[rune]rune{
	'⁄': '/', '∕': '/', '⧸': '/', '∖': '\\', '⧵': '\\', '⧹': '\\', '¥': '\\', '₩': '\\', '։': ':', '∶': ':', 'ː': ':',
}

// plainEscapes judges a path as written. A byte may be escaped where it has no
// meaning to a server, whether it needs to be or not: encodeURIComponent
// escapes @, and some clients parentheses. A letter, digit, dot or dash has no
// reason to be but to look different, and / \ ; ? # % change the meaning.
func plainEscapes(p string) bool {
	for i := 0; i < len(p); i++ {
		if p[i] != '%' {
			if kinds[p[i]] == never {
				return false
			}
			continue
		}
		if i+2 >= len(p) || !isHex(p[i+1]) || !isHex(p[i+2]) {
			return false
		}
		if c := unhex(p[i+1])<<4 | unhex(p[i+2]); c < utf8.RuneSelf && strings.IndexByte(" []^`{|}!$&'()*+,:=@", c) < 0 {
			return false
		}
		i += 2
	}
	return true
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}
