package provider

import (
	"net/url"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-login/caddy-login/module/guest"
)

func TestListsAreReadExactly(t *testing.T) {
	for _, bad := range []string{
		``, `null`, `{}`, `"x"`, `[`, `[]x`, `[][]`, `[1]`, `[null]`, `["x"]`, `[[]]`, `[{"a":1,"a":2}]`, `[{"a":1},{"b":{"c":1,"c":1}}]`,
		"[{\"a\":\"\xff\"}]", `[{"x":` + strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth) + `}]`,
	} {
		if list, err := ParseList([]byte(bad)); err == nil {
			t.Errorf("%.60q was read as %v", bad, list)
		}
	}
	list, err := ParseList([]byte(" [ {\"a\":\"b\"} , {} ] "))
	if err != nil || len(list) != 2 || list[0].Text("a") != "b" {
		t.Errorf("got %v, %v", list, err)
	}
	if list, err := ParseList([]byte(`[]`)); err != nil || len(list) != 0 {
		t.Errorf("got %v, %v", list, err)
	}
}

func TestPathsLeadToOneThing(t *testing.T) {
	c, err := ParseClaims([]byte(`{"a":{"b":[{"c":12345678901234567890},["x"]],"":{"e":1}},"0":"zero","n":null}`))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"a.b.0.c": "12345678901234567890", "a.b.1.0": `"x"`, "0": `"zero"`, "n": "null", "a..e": "1",
		"a.b.2": "", "a.b.-1": "", "a.b.0.c.d": "", "a.B.0.c": "", "n.x": "", "": "", "a.b.99999999999999999999": "",
	} {
		if got := string(c.At(path)[path]); got != want {
			t.Errorf("%s leads to %s, want %s", path, got, want)
		}
	}
}

func TestAuthorizationURLKeepsWhatTheEndpointAsks(t *testing.T) {
	got, err := AuthorizationURL("https://a.example/auth?tenant=a+b&state=forged", url.Values{"state": {"ours"}, "scope": {"a b"}})
	if want := "https://a.example/auth?scope=a%20b&state=ours&tenant=a%20b"; err != nil || got != want {
		t.Errorf("got %s, %v", got, err)
	}
	if got, err := AuthorizationURL("https://a.example/\x00", nil); guest.ReasonOf(err) != guest.Untrusted {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestOptionsThatAreLeftOutAreUnknown(t *testing.T) {
	d := caddyfile.NewTestDispenser("groups x")
	d.Next()
	err := Rest(d, []string{"own"}, Without{Part: new(Options), Not: []string{"groups"}})
	if err == nil || !strings.Contains(err.Error(), "unknown option 'groups'") || strings.Contains(err.Error(), "native_client_ids, groups") {
		t.Errorf("got %v", err)
	}
}

// Whatever is at a path is a part of what was read, and identifies or not as
// ID says.
func FuzzAt(f *testing.F) {
	f.Add([]byte(`{"a":[{"b":1}],"c":{"d":"e"}}`), "a.0.b")
	f.Add([]byte(`{"":{"":1}}`), ".")
	f.Fuzz(func(t *testing.T, data []byte, path string) {
		c, err := ParseClaims(data)
		if err != nil {
			return
		}
		found := c.At(path)
		if raw, ok := found[path]; ok && !strings.Contains(string(data), string(raw)) {
			t.Errorf("%q leads to %s, which is not in %s", path, raw, data)
		}
		read(t, found, path)
	})
}
