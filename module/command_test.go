package module

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"

	"github.com/caddy-login/caddy-login/module/session"
)

// What strangers wrote is shown, and moves nothing in the terminal.
func FuzzVisible(f *testing.F) {
	for _, seed := range []string{"Ada", "日本", "\x1b[31m", "a\u202eb", "\xff\xfe", "\u009b", "\n\t", "👩‍💻", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		isHidden := func(r rune) bool { return !unicode.IsPrint(r) }
		shown := visible(text)
		if strings.ContainsFunc(shown, isHidden) {
			t.Errorf("%q is shown as %q", text, shown)
		}
		if !strings.ContainsFunc(text, isHidden) && shown != strings.ToValidUTF8(text, "\ufffd") && strings.ToValidUTF8(text, "") == text {
			t.Errorf("%q became %q", text, shown)
		}
		encoded := escaped(string(jsonOf(text)))
		if strings.ContainsFunc(encoded, isHidden) {
			t.Errorf("%q is printed as %q", text, encoded)
		}
		var back string
		if err := json.Unmarshal([]byte(encoded), &back); err != nil || back != strings.ToValidUTF8(text, "\ufffd") && strings.ToValidUTF8(text, "") == text {
			t.Errorf("%q came back as %q, %v", text, back, err)
		}
	})
}

func TestWhoIsMeantIsReadOneWay(t *testing.T) {
	for who, want := range map[string]string{
		"ada@example.com": "email", "op:ada@example.com": "identity", "google:1234": "identity", "op:": "identity",
		"p36vz75wdlvrv7nqzxzrsk5xje": "id", "ADA:x@example.com": "email", "": "id",
	} {
		if got := searchFor(who); len(got) != 1 || got[want] != who {
			t.Errorf("%q is read as %v, want %s", who, got, want)
		}
	}
}

func TestPathsFitOneService(t *testing.T) {
	for path, want := range map[string]string{
		"users": "users", "users/find": "users/find", "users/abc": "users/*", "users/abc/disable": "users/*/disable",
		"users/": "", "users/abc/": "", "users//disable": "", "": "", "usersx": "", "doctor/": "", "users/find/groups": "users/*/groups",
	} {
		fitting := ""
		for i := range services {
			if _, ok := services[i].fits(path); ok {
				fitting = services[i].path
				break
			}
		}
		if fitting != want {
			t.Errorf("%q is %q, want %q", path, fitting, want)
		}
	}
}

func TestMarkIsWhereAPageEnded(t *testing.T) {
	var key session.Key
	for i := range key {
		key[i] = byte(17 * i)
	}
	after, err := keyAfter(mark(key))
	if err != nil || string(after[:]) < string(key[:]) || after[0] != key[0] || after[9] != key[9] {
		t.Errorf("%x after %x, %v", after, key, err)
	}
	if got := mark(session.Key{}); got != "" {
		t.Errorf("the end is %q", got)
	}
	for _, bad := range []string{"!", "AAAA", strings.Repeat("a", 100), "\x00"} {
		if _, err := keyAfter(bad); err == nil {
			t.Errorf("%q is a place", bad)
		}
	}
}
