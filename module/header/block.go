package header

import (
	"net/http"
	"strings"
)

// Field is one header field: a name in canonical form and a value that a
// header can carry.
type Field struct{ Name, Value string }

// Block is the identity headers of one person for one site, rendered ahead.
// It is read-only once made and safe for concurrent use.
type Block []Field

// NewBlock returns the fields with canonical names, leaving out those without
// a value: an app reads a missing header as "none", and an empty one as it
// likes. Values that a header can't carry go through Text; one already
// rendered by Text or List stays as it is.
func NewBlock(fields ...Field) Block {
	b := make(Block, 0, len(fields))
	for _, f := range fields {
		if f.Value == "" {
			continue
		}
		if !carries(f.Value) {
			f.Value = Text(f.Value)
		}
		b = append(b, Field{http.CanonicalHeaderKey(f.Name), f.Value})
	}
	return b
}

// Set writes the block over whatever h holds under its names. The values are
// cut out of scratch, one slice of length and capacity one each, because
// later handlers replace values in place and append to them; nothing is
// shared between requests. Set returns scratch with those slices used up, and
// allocates at most once, where scratch has no room for the whole block.
func (b Block) Set(h http.Header, scratch []string) []string {
	if cap(scratch)-len(scratch) < len(b) {
		scratch = make([]string, 0, len(b))
	}
	for _, f := range b {
		n := len(scratch)
		scratch = append(scratch, f.Value)
		h[f.Name] = scratch[n : n+1 : n+1]
	}
	return scratch
}

// Text renders s for a header field. Printable ASCII stays; '%', control
// characters, every byte above ASCII and spaces at either end are
// percent-encoded, so that decoding gives s back, byte for byte. RFC 9110
// section 5.5 leaves other bytes than ASCII to chance: servers read them as
// Latin-1, as UTF-8 or refuse the request.
func Text(s string) string {
	if carries(s) && strings.IndexByte(s, '%') < 0 {
		return s
	}
	return encode(s, false)
}

// List renders items for a header field, separated by commas. Each is encoded
// as by Text, its commas, too: a group named "a,admins" stays one group. Empty
// items are left out.
func List(items []string) string {
	var b strings.Builder
	for _, item := range items {
		if item == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(encode(item, true))
	}
	return b.String()
}

func encode(s string, commas bool) string {
	var b strings.Builder
	for i := range len(s) {
		c, edge := s[i], i == 0 || i == len(s)-1
		if c != '%' && carried(c, edge) && !(commas && c == ',') {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
	}
	return b.String()
}

const hex = "0123456789ABCDEF"

// carries reports whether every server receives s as it is.
func carries(s string) bool {
	for i := range len(s) {
		if !carried(s[i], i == 0 || i == len(s)-1) {
			return false
		}
	}
	return true
}

func carried(c byte, edge bool) bool {
	return ' ' < c && c < 0x7f || c == ' ' && !edge
}
