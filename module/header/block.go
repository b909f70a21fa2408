package header

import (
	"encoding/binary"
	"net/http"
	"slices"
	"strings"
)

// Field is one header field: a name and a value that a header can carry.
type Field struct{ Name, Value string }

// Names are the headers that one site may write. They are read-only once made
// and safe for concurrent use.
type Names struct{ canonical []string }

// NewNames returns the Names, which need not be canonical. A block has at most
// 65,535.
func NewNames(names ...string) *Names {
	n := &Names{}
	for _, name := range names {
		n.canonical = append(n.canonical, http.CanonicalHeaderKey(name))
	}
	return n
}

// Block is the identity headers of one person for one site, rendered ahead. It
// is read-only once made and safe for concurrent use. There may be tens of
// thousands: it is one text without pointers for the collector of garbage to
// follow. The zero Block has no fields.
type Block struct {
	names  *Names
	text   string // for each field its name's place and its value's length, 6 bytes, and the value
	fields int
}

// fieldHead is the bytes before each value.
const fieldHead = 6

// Block returns the fields, leaving out those without a value: an app reads a
// missing header as "none", and an empty one as it likes. Values that a header
// can't carry go through Text; one already rendered by Text or List stays as it
// is. Where a field has another name than these, the block has names of its own.
func (n *Names) Block(fields ...Field) Block { return Block{names: n}.With(fields...) }

// With returns a block of b's fields and these besides.
func (b Block) With(fields ...Field) Block {
	text := []byte(b.text)
	for _, f := range fields {
		if f.Value == "" {
			continue
		}
		if !carries(f.Value) {
			f.Value = Text(f.Value)
		}
		place := slices.Index(b.names.canonical, http.CanonicalHeaderKey(f.Name))
		if place < 0 {
			place = len(b.names.canonical)
			b.names = NewNames(append(slices.Clone(b.names.canonical), f.Name)...)
		}
		text = binary.BigEndian.AppendUint16(text, uint16(place))
		text = binary.BigEndian.AppendUint32(text, uint32(len(f.Value)))
		text = append(text, f.Value...)
		b.fields++
	}
	b.text = string(text)
	return b
}

// cut returns the first field of what is left of a block's text, and the rest.
func (b Block) cut(text string) (f Field, rest string) {
	place := int(text[0])<<8 | int(text[1])
	end := fieldHead + (int(text[2])<<24 | int(text[3])<<16 | int(text[4])<<8 | int(text[5]))
	return Field{b.names.canonical[place], text[fieldHead:end]}, text[end:]
}

// Fields are the block's, with canonical names.
func (b Block) Fields() []Field {
	fields := make([]Field, 0, b.fields)
	for rest := b.text; rest != ""; {
		var f Field
		f, rest = b.cut(rest)
		fields = append(fields, f)
	}
	return fields
}

// Set writes the block over whatever h holds under its names. The values are
// cut out of scratch, one slice of length and capacity one each, because
// later handlers replace values in place and append to them; nothing is
// shared between requests. Set returns scratch with those slices used up, and
// allocates at most once, where scratch has no room for the whole block.
func (b Block) Set(h http.Header, scratch []string) []string {
	if cap(scratch)-len(scratch) < b.fields {
		scratch = make([]string, 0, b.fields)
	}
	for rest := b.text; rest != ""; {
		var f Field
		f, rest = b.cut(rest)
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
