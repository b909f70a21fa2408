package header

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/net/http/httpguts"
)

func TestTextStaysReadable(t *testing.T) {
	for in, want := range map[string]string{
		"Ada Lovelace":          "Ada Lovelace",
		"ada@example.com":       "ada@example.com",
		`"quoted", <a>; b=c`:    `"quoted", <a>; b=c`,
		"":                      "",
		"José":                  "Jos%C3%A9",
		"100%":                  "100%25",
		"a\r\nRemote-User: b":   "a%0D%0ARemote-User: b",
		"a\x00b\x7f\t":          "a%00b%7F%09",
		"\xff\xc0\xaf":          "%FF%C0%AF",
		" a  b ":                "%20a  b%20",
		" ":                     "%20",
		"{env.HOME}":            "{env.HOME}",
		"\u2028\u0085\u202etxt": "%E2%80%A8%C2%85%E2%80%AEtxt",
	} {
		if got := Text(in); got != want {
			t.Errorf("Text(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestListKeepsNamesApart(t *testing.T) {
	for _, c := range []struct {
		items []string
		want  string
	}{
		{nil, ""},
		{[]string{"a"}, "a"},
		{[]string{"a", "b c"}, "a,b c"},
		{[]string{"staff,admins", "x"}, "staff%2Cadmins,x"},
		{[]string{"", "a", ""}, "a"},
		{[]string{" a ", ","}, "%20a%20,%2C"},
	} {
		if got := List(c.items); got != c.want {
			t.Errorf("List(%q) = %q, want %q", c.items, got, c.want)
		}
	}
}

func FuzzText(f *testing.F) {
	for _, s := range []string{"", "a", "100%", "a,b", "\r\n", "é", "\xff", " x ", "%0a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text := Text(s)
		if back, err := url.PathUnescape(text); err != nil || back != s {
			t.Errorf("%q reads back as %q, %v", text, back, err)
		}
		list := List([]string{s, "x", s})
		for _, v := range []string{text, list} {
			if !httpguts.ValidHeaderFieldValue(v) || strings.TrimSpace(v) != v || strings.ContainsFunc(v, func(c rune) bool { return c > 0x7e }) {
				t.Errorf("%q does not fit into a header", v)
			}
		}
		if n := strings.Count(list, ","); s != "" && n != 2 || s == "" && n != 0 {
			t.Errorf("%q has %d commas", list, n)
		}
	})
}

func person() Block {
	names := NewNames("Remote-User", "remote-email", "Remote-Name", "Remote-Groups", "Remote-Roles", "Remote-Assertion", "X-Other")
	return names.Block(
		Field{"remote-user", "u_7f3k2"}, Field{"Remote-Email", "ada@example.com"}, Field{"Remote-Name", Text("Ada Lovelace")},
		Field{"Remote-Groups", List([]string{"staff", "external-users"})}, Field{"Remote-Roles", ""},
	).With(Field{"Remote-Assertion", "eyJ.eyJ.sig"})
}

func TestBlockLeavesOutWhatIsEmpty(t *testing.T) {
	h := http.Header{"Remote-User": {"old", "older"}}
	person().Set(h, nil)
	want := http.Header{
		"Remote-User": {"u_7f3k2"}, "Remote-Email": {"ada@example.com"}, "Remote-Name": {"Ada Lovelace"},
		"Remote-Groups": {"staff,external-users"}, "Remote-Assertion": {"eyJ.eyJ.sig"},
	}
	if !equal(h, want) {
		t.Errorf("%v", h)
	}
}

func TestBlockNeverSplitsAHeader(t *testing.T) {
	b := NewNames("Remote-Email", "Remote-Name").Block(Field{"Remote-Name", "a\r\nRemote-User: root"}, Field{"Remote-Email", " x"})
	if want := []Field{{"Remote-Name", "a%0D%0ARemote-User: root"}, {"Remote-Email", "%20x"}}; !slices.Equal(b.Fields(), want) {
		t.Errorf("%q", b.Fields())
	}
}

// Values of any length, and as many as there are names.
func TestBlockHoldsWhateverFits(t *testing.T) {
	var names []string
	var fields []Field
	for i := range 600 {
		name := "X-" + strings.Repeat("A", i+1)
		names, fields = append(names, name), append(fields, Field{http.CanonicalHeaderKey(name), strings.Repeat("v", 1+i*i%70_000)})
	}
	if b := NewNames(names...).Block(fields...); !slices.Equal(b.Fields(), fields) {
		t.Error("is not what it was made of")
	}
	h := http.Header{}
	var none Block
	if none.Set(h, nil); len(h) != 0 || len(none.Fields()) != 0 {
		t.Errorf("the zero block says %v", h)
	}
}

func TestBlockTakesOtherNamesToo(t *testing.T) {
	names := NewNames("Remote-User")
	one := names.Block(Field{"Remote-User", "u"}, Field{"remote-email", "x"}, Field{"Remote-Name", "n"})
	two := names.Block(Field{"Remote-Groups", "g"})
	if want := []Field{{"Remote-User", "u"}, {"Remote-Email", "x"}, {"Remote-Name", "n"}}; !slices.Equal(one.Fields(), want) {
		t.Errorf("%q", one.Fields())
	}
	if want := []Field{{"Remote-Groups", "g"}}; !slices.Equal(two.Fields(), want) {
		t.Errorf("%q", two.Fields())
	}
}

func TestValuesAreNotShared(t *testing.T) {
	b, one, two := person(), http.Header{}, http.Header{}
	scratch := b.Set(one, make([]string, 0, 3))
	b.Set(two, scratch)
	for name, values := range one {
		if len(values) != 1 || cap(values) != 1 {
			t.Errorf("%s: length %d, capacity %d", name, len(values), cap(values))
		}
		values[0] = "replaced"
		one[name] = append(values, "appended")
	}
	for _, f := range b.Fields() {
		if got := two[f.Name]; !slices.Equal(got, []string{f.Value}) {
			t.Errorf("%s: %q", f.Name, got)
		}
		if unsafe.SliceData(one[f.Name]) == unsafe.SliceData(two[f.Name]) {
			t.Errorf("%s is shared", f.Name)
		}
	}
}

func TestSetUsesTheRoomThereIs(t *testing.T) {
	b, h := person(), http.Header{}
	scratch := make([]string, 0, 32)
	if n := testing.AllocsPerRun(100, func() { b.Set(h, scratch) }); n != 0 {
		t.Errorf("%v allocations with room", n)
	}
	if n := testing.AllocsPerRun(100, func() { b.Set(h, nil) }); n != 1 {
		t.Errorf("%v allocations without room", n)
	}
	rest := b.Set(h, make([]string, 1, 32))
	if len(rest) != 1+len(b.Fields()) {
		t.Errorf("%d used", len(rest))
	}
}

func BenchmarkSetScratch(b *testing.B) {
	block, h, scratch := person(), http.Header{}, make([]string, 0, 16)
	b.ReportAllocs()
	for b.Loop() {
		block.Set(h, scratch)
	}
}

func BenchmarkSetNoScratch(b *testing.B) {
	block, h := person(), http.Header{}
	b.ReportAllocs()
	for b.Loop() {
		block.Set(h, nil)
	}
}

func BenchmarkText(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Text("José Lovelace")
	}
}
