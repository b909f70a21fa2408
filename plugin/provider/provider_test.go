package provider

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/caddy-login/caddy-login/module/guest"
)

func TestClaimsAreReadExactly(t *testing.T) {
	for _, bad := range []string{
		``, `[]`, `null`, `"x"`, `{`, `{"a":1`, `{"a":1}x`, `{"a":1}{}`, `{"a":1,"a":1}`, `{"a":1,"\u0061":2}`,
		`{"x":{"a":1,"a":2}}`, `{"x":[[{"a":1,"b":2,"a":3}]]}`, "{\"a\":\"\xff\"}", "{\"\xfe\":1,\"\xff\":1}",
		`{"x":` + strings.Repeat(`{"x":`, maxDepth) + `1` + strings.Repeat(`}`, maxDepth+1),
		`{"x":` + strings.Repeat(`[`, maxDepth) + strings.Repeat(`]`, maxDepth) + `}`,
		`{"a":01}`, `{"a":tru}`, `{"a",1}`, `{1:1}`,
	} {
		if c, err := ParseClaims([]byte(bad)); err == nil {
			t.Errorf("%.60q was read as %v", bad, c)
		}
	}
	for _, good := range []string{
		`{}`, ` {"a":{"a":{"a":[1,{"a":"a"},"a"]}},"A":1} `, `{"a":["b","b","b"],"b":[{"c":1},{"c":2}]}`,
		`{"x":` + strings.Repeat(`[`, maxDepth-1) + strings.Repeat(`]`, maxDepth-1) + `}`,
	} {
		if _, err := ParseClaims([]byte(good)); err != nil {
			t.Errorf("%.60q: %v", good, err)
		}
	}
}

func TestOnlyTrueIsProven(t *testing.T) {
	for text, want := range map[string]bool{
		`true`: true, `"true"`: true, ` true `: true,
		`false`: false, `"false"`: false, `1`: false, `"1"`: false, `"True"`: false, `"yes"`: false, `null`: false,
		`[true]`: false, `{"a":true}`: false, `" true"`: false,
	} {
		c, err := ParseClaims([]byte(`{"v":` + text + `,"V":true}`))
		if err != nil || c.Proven("v") != want {
			t.Errorf("%s proves: %v, %v", text, c.Proven("v"), err)
		}
	}
	if (Claims{}).Proven("v") {
		t.Error("an absent claim proves")
	}
}

func TestTrustFollowsTheOperator(t *testing.T) {
	domains := []string{"corp.example", "müller.example"}
	for _, row := range []struct {
		trust    string
		domains  []string
		email    string
		verified bool
		want     guest.Trust
	}{
		{"", nil, "", true, guest.NoEmail},
		{"authoritative", nil, "", true, guest.NoEmail},
		{"", nil, "a@b.example", false, guest.Asserted},
		{"", nil, "a@b.example", true, guest.Verified},
		{"auto", domains, "a@corp.example", true, guest.Authoritative},
		{"auto", domains, "a@CORP.example", true, guest.Authoritative},
		{"auto", domains, "a@xn--mller-kva.example", true, guest.Authoritative},
		{"auto", domains, "a@corp.example", false, guest.Asserted},
		{"auto", domains, "a@x.corp.example", true, guest.Verified},
		{"auto", domains, "a@evilcorp.example", true, guest.Verified},
		{"auto", domains, "a@evil.example@corp.example", true, guest.Asserted},
		{"auto", domains, "a@evil.example,b@corp.example", true, guest.Asserted},
		{"auto", domains, "a b@corp.example", true, guest.Asserted},
		{"auto", domains, "a@corp.example\n", true, guest.Asserted},
		{"auto", domains, "corp.example", true, guest.Asserted},
		{"verified", nil, "a@b.example", false, guest.Verified},
		{"verified", nil, "@b.example", false, guest.Asserted},
		{"verified", domains, "a@corp.example", false, guest.Authoritative},
		{"unverified", domains, "a@corp.example", true, guest.Asserted},
		{"authoritative", nil, "a@b.example", false, guest.Authoritative},
		{"authoritative", domains, "a@corp.example", false, guest.Authoritative},
		{"authoritative", domains, "a@b.example", true, guest.Verified},
		{"authoritative", domains, "a@b.example", false, guest.Asserted},
	} {
		o := Options{Name: "x", ClientID: "i", ClientSecret: "s", EmailTrust: row.trust, AuthoritativeDomains: row.domains}
		if err := o.Resolve(Defaults{}); err != nil {
			t.Fatal(err)
		}
		if got := o.Trust(row.email, row.verified); got != row.want {
			t.Errorf("%+v: got %d", row, got)
		}
	}
}

func TestURLsAreHTTPSOrLoopback(t *testing.T) {
	for _, good := range []string{
		"https://example.com", "https://example.com/a?b=c", "http://localhost:8080", "http://a.localhost/x", "http://127.3.2.1",
		"http://[::1]:80/", "HTTPS://EXAMPLE.com",
	} {
		if err := CheckURL(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{
		"", "example.com", "//example.com", "https:", "https:///x", "https:example.com", "http://example.com",
		"http://localhost.evil.example", "http://evillocalhost", "http://127.0.0.1.nip.io", "http://0.0.0.0", "http://2130706433",
		"http://[::ffff:10.0.0.1]", "http://[::1%25eth0]", "ftp://localhost", "https://u:p@example.com", "https://example.com#f",
		"https://exa mple.com", "https://example.com/\x00", "https://a.example/" + strings.Repeat("a", 2048),
	} {
		if CheckURL(bad) == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if err := CheckURL("https://u:password@example.com"); strings.Contains(err.Error(), "password@") {
		t.Error("the error tells a password")
	}
}

func TestPlaceholderErrorsKeepTheSecret(t *testing.T) {
	_, err := Placeholders("client_secret", "abc{def}ghi")
	if err == nil || strings.Contains(err.Error(), "abc") || strings.Contains(err.Error(), "def") {
		t.Errorf("got %v", err)
	}
	if got, err := Placeholders("client_secret", `abc\{def\}ghi`); err != nil || got != "abc{def}ghi" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestDisplayIsHarmless(t *testing.T) {
	for in, want := range map[string]string{
		"Ada":                          "Ada",
		" Ada\r\nX: y ":                "AdaX: y",
		"a\u202eb\u2066c":              "abc",
		"\xffAda\xfe":                  "Ada",
		"👩\u200d💻":                     "👩\u200d💻",
		strings.Repeat("ä", 101):       strings.Repeat("ä", 100),
		strings.Repeat("a", 199) + "ä": strings.Repeat("a", 199),
	} {
		if got := Display(in); got != want {
			t.Errorf("%q is shown as %q", in, got)
		}
	}
}

func TestPicturesAreHTTPS(t *testing.T) {
	for in, want := range map[string]string{
		"https://a.example/p?s=96": "https://a.example/p?s=96",
		"http://a.example/p":       "", "data:image/png;base64,AA": "", "javascript:alert(1)": "", "//a.example": "",
		"https://u@a.example/": "", "https://a.example/\n": "", "": "", "https://a.example/" + strings.Repeat("a", 2048): "",
	} {
		if got := Picture(in); got != want {
			t.Errorf("%q became %q", in, got)
		}
	}
}

func TestIDsAndTimes(t *testing.T) {
	c, err := ParseClaims([]byte(`{"s":"x","n":12345678901234567890,"f":1.5,"neg":-1,"e":"","t":1800000000.9,"l":[1],"c":"a\tb","r":"\ud800"}`))
	if err != nil {
		t.Fatal(err)
	}
	if id, err := c.ID("n"); err != nil || id != "12345678901234567890" {
		t.Errorf("a long number became %q, %v", id, err)
	}
	for _, bad := range []string{"f", "neg", "e", "l", "c", "r", "missing"} {
		if id, err := c.ID(bad); err == nil {
			t.Errorf("%s identifies as %q", bad, id)
		}
	}
	if at, err := c.Time("t"); err != nil || !at.Equal(time.Unix(1800000000, 0)) {
		t.Errorf("got %v, %v", at, err)
	}
	for _, bad := range []string{"s", "n", "neg", "l", "missing"} {
		if at, err := c.Time(bad); err == nil {
			t.Errorf("%s is the time %v", bad, at)
		}
	}
}

func TestLongBodiesAreErrorsNotTorn(t *testing.T) {
	if b, err := ReadBody(strings.NewReader("12345"), 5); err != nil || string(b) != "12345" {
		t.Errorf("got %q, %v", b, err)
	}
	if b, err := ReadBody(strings.NewReader("123456"), 5); err == nil {
		t.Errorf("got %q", b)
	}
}

func TestQuotedTextIsShortAndPrintable(t *testing.T) {
	got := Quote(strings.Repeat("<\n\u202eä", 999))
	if len(got) > 200 || strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r > '~' }) {
		t.Errorf("got %q", got)
	}
}

// What is read agrees with what encoding/json reads into a map, and every
// accepted text has one meaning.
func FuzzClaims(f *testing.F) {
	f.Add([]byte(`{"a":[{"b":"c"},1,null,true],"d":{"e":-1.5e3}}`))
	f.Add([]byte(`{"a":1,"a":2}`))
	f.Add([]byte(`{"sub":"x","_claim_names":{"groups":"s"},"groups":["a"],"email_verified":"true","exp":1e9}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseClaims(data)
		if err != nil {
			return
		}
		var want, got map[string]any
		if json.Unmarshal(data, &want) != nil {
			t.Fatalf("encoding/json refuses %q", data)
		}
		again, _ := json.Marshal(c)
		if json.Unmarshal(again, &got) != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q was read as %s", data, again)
		}
		for name := range c {
			read(t, c, name)
		}
	})
}

func read(t *testing.T, c Claims, name string) {
	if id, err := c.ID(name); err == nil && (id == "" || len(id) > 255 || strings.ContainsFunc(id, broken)) {
		t.Errorf("%q identifies", id)
	}
	if d := Display(c.Text(name)); !utf8.ValidString(d) || len(d) > 200 || strings.ContainsFunc(d, broken) {
		t.Errorf("%q is displayed", d)
	}
	groups, ok := c.Groups(name)
	if !ok && len(groups) > 0 {
		t.Error("a part of the groups was taken")
	}
	_, _ = c.Time(name)
	_, _ = c.Texts(name)
	Domain(c.Text(name))
	Picture(c.Text(name))
}

func TestUsersThatAreCreatedUnlinkedAreNotMerged(t *testing.T) {
	on, off := true, false
	for name, row := range map[string]struct {
		word  string
		merge *bool
		want  guest.EmailRules
	}{
		"nothing":             {"", nil, guest.EmailRules{Merge: true}},
		"reject":              {"reject", nil, guest.EmailRules{Merge: true}},
		"reject beside merge": {"reject", &on, guest.EmailRules{Merge: true}},
		"create":              {"create", nil, guest.EmailRules{CreateUnlinked: true}},
		"create beside off":   {"create", &off, guest.EmailRules{CreateUnlinked: true}},
		"off":                 {"", &off, guest.EmailRules{}},
	} {
		o := Options{Name: "x", ClientID: "i", ClientSecret: "s", OnUnverifiedCollision: row.word, AllowEmailAccountMerge: row.merge}
		if err := o.Resolve(Defaults{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		row.want.Identifier, row.want.Confirmation = true, "auto"
		if got := o.Describe("x", false).Email; got != row.want {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

func TestContradictionsAreRefusedWithTheCure(t *testing.T) {
	on := true
	for want, o := range map[string]Options{
		"on_unverified_collision create: with merging on,":                         {OnUnverifiedCollision: "create", AllowEmailAccountMerge: &on},
		"on_unverified_collision: unknown value 'merge' (allowed: reject, create)": {OnUnverifiedCollision: "merge"},
	} {
		o.Name, o.ClientID, o.ClientSecret = "x", "i", "s"
		if err := o.Resolve(Defaults{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestVerifyingForNothingIsInertAndLoads(t *testing.T) {
	on, off := true, false
	for _, row := range []struct {
		verify, identifier *bool
		inert              bool
	}{
		{nil, nil, false}, {&on, nil, false}, {&on, &on, false}, {&off, &off, false}, {nil, &off, false}, {&on, &off, true},
	} {
		o := Options{Name: "x", ClientID: "i", ClientSecret: "s", VerifyEmail: row.verify, UseEmailAsIdentifier: row.identifier}
		if err := o.Resolve(Defaults{}); err != nil || (o.Inert() != "") != row.inert {
			t.Errorf("%+v: %q, %v", row, o.Inert(), err)
		}
	}
}
