// Package returnto carries the address a visitor wanted through a sign-in and
// makes sure that it leads back to our own site.
//
// Its results are for a Location header or a link as they are.
// http.Redirect cleans paths and would lead elsewhere on the site.
package returnto

import (
	"net/url"
	"path"
	"strings"
)

// longest is the length in bytes of the longest address that is kept.
const longest = 2048

// home is where everything leads that leads nowhere safe.
const home = "/"

// FromRequest returns the address of an intercepted request, from the URL of
// the request as it came in, so that a browser asks for exactly the same path
// and query again. A path that begins with "//" gets "/." in front: browsers
// drop a dot segment only after they have settled on the host (WHATWG URL,
// path state; RFC 3986 section 5.2.4). What is no path, or too long, gives
// "/".
func FromRequest(u *url.URL) string {
	raw := u.EscapedPath()
	if u.Opaque != "" || raw == "" || raw[0] != '/' {
		return home
	}
	if strings.HasPrefix(raw, "//") {
		raw = "/." + raw
	}
	if u.ForceQuery || u.RawQuery != "" {
		raw += "?" + strings.ReplaceAll(u.RawQuery, "#", "%23")
	}
	to, _ := Clean(raw, "")
	return to
}

// Clean returns a safe address, path and query, on this very site, and true;
// or "/" and false. Nothing in it can name another host or scheme, to a
// browser or to a careless parser: it begins with one slash, has no
// backslash before the query and no control character, also escaped ones in
// the path, is printable ASCII throughout and at most 2048 bytes long. What a
// URL can't carry is escaped, the fragment dropped, everything else stays byte
// for byte: Clean of its own result changes nothing.
//
// Addresses at or below base, our own pages, give "/": a sign-in must not lead
// to a sign-in. An empty base has none.
func Clean(raw, base string) (string, bool) {
	raw, _, _ = strings.Cut(raw, "#")
	if raw == "" || len(raw) > longest || raw[0] != '/' || hasControls(raw) {
		return home, false
	}
	before, query, hasQuery := strings.Cut(raw, "?")
	if strings.HasPrefix(before, "//") || strings.Contains(before, `\`) {
		return home, false
	}
	to := escape(before)
	if hasQuery {
		to += "?" + escape(query)
	}
	if len(to) > longest || !isLocal(to, base) {
		return home, false
	}
	return to, true
}

// isLocal is the second opinion: the standard library's parser.
func isLocal(to, base string) bool {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || u.Opaque != "" {
		return false
	}
	return strings.HasPrefix(u.Path, "/") && !hasControls(u.Path) && !below(u.Path, base)
}

// below reports whether a decoded path is base or in it, as Caddy's matchers
// see it: dots resolved, slashes merged, without case.
func below(p, base string) bool {
	base = strings.TrimRight(base, "/")
	if base == "" {
		return false
	}
	p = strings.ToLower(path.Clean(p))
	base = strings.ToLower(base)
	return p == base || strings.HasPrefix(p, base+"/")
}

func hasControls(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return true
		}
	}
	return false
}

// escape percent-encodes the bytes that browsers would encode themselves, and
// leaves escapes as they are.
func escape(s string) string {
	if !strings.ContainsFunc(s, func(c rune) bool { return c > 0x7e || escaped(byte(c)) }) {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; !escaped(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
	return b.String()
}

const hex = "0123456789ABCDEF"

func escaped(c byte) bool {
	return c <= ' ' || c >= 0x7f || c == '"' || c == '<' || c == '>'
}
