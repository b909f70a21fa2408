package module

import (
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

func allowUsers() []*Rule { return []*Rule{{Who: []string{"users"}}} }

func TestSitesOwnWordWins(t *testing.T) {
	app := Settings{
		Allow: allowUsers(), Roles: []Role{{Name: "staff", Who: []string{"users"}}, {Name: "admin", Who: []string{"a@b.cc"}}},
		Session: SessionSettings{Lifetime: caddy.Duration(time.Hour), Idle: caddy.Duration(time.Minute)},
		Cookie:  CookieSettings{Name: "app", Domain: "example.com"}, Signup: "off",
		Pages: PagesSettings{Path: "/.in", Title: "App"}, Origins: []string{"https://app.example.com"},
	}
	site := Settings{
		Allow: []*Rule{{Who: []string{"anyone"}}}, Roles: []Role{{Name: "staff", Who: []string{"c@d.ee"}}},
		Session: SessionSettings{Idle: caddy.Duration(2 * time.Minute)}, Cookie: CookieSettings{Name: "site"},
		Pages: PagesSettings{Title: "Site"},
	}
	got := site.over(app)
	if len(got.Allow) != 1 || got.Allow[0].Who[0] != "anyone" {
		t.Error("the app's rules are added to the site's")
	}
	if len(got.Roles) != 2 || got.Roles[0].Who[0] != "c@d.ee" || got.Roles[1].Name != "admin" {
		t.Errorf("roles %+v", got.Roles)
	}
	if time.Duration(got.Session.Lifetime) != time.Hour || time.Duration(got.Session.Idle) != 2*time.Minute {
		t.Errorf("session %+v", got.Session)
	}
	if got.Cookie != (CookieSettings{Name: "site", Domain: "example.com"}) || got.Signup != "off" ||
		got.Pages != (PagesSettings{Path: "/.in", Title: "Site"}) || got.Origins[0] != "https://app.example.com" {
		t.Errorf("%+v", got)
	}
}

func TestDefaults(t *testing.T) {
	s := Settings{Allow: allowUsers()}
	s.setDefaults()
	if err := s.check(); err != nil {
		t.Fatal(err)
	}
	if time.Duration(s.Session.Lifetime) != 720*time.Hour || time.Duration(s.Session.Idle) != 168*time.Hour ||
		s.Cookie.Name != "login" || s.Signup != "on" || s.Pages.Path != "/.login" || s.Headers.Presets[0] != "remote" {
		t.Errorf("%+v", s)
	}
	brief := Settings{Session: SessionSettings{Lifetime: caddy.Duration(time.Hour)}}.over(
		Settings{Session: SessionSettings{Lifetime: caddy.Duration(48 * time.Hour), Idle: caddy.Duration(24 * time.Hour)}})
	if brief.Session != (SessionSettings{Lifetime: caddy.Duration(time.Hour), Idle: caddy.Duration(time.Hour)}) {
		t.Errorf("a site's shorter lifetime gives %+v", brief.Session)
	}
	short := Settings{Allow: allowUsers(), Session: SessionSettings{Lifetime: caddy.Duration(time.Hour)}}
	short.setDefaults()
	if err := short.check(); err != nil || short.Session.Idle != short.Session.Lifetime {
		t.Errorf("idle %v, %v", short.Session.Idle, err)
	}
}

func TestDangerousSettingsAreRefusedWithTheirCure(t *testing.T) {
	for cure, change := range map[string]func(*Settings){
		"no allow: say who may pass":          func(s *Settings) { s.Allow = nil },
		"add who may pass":                    func(s *Settings) { s.Allow[0].Who = nil },
		"choose 1m to":                        func(s *Settings) { s.Session.Lifetime = caddy.Duration(time.Second) },
		"up to the lifetime":                  func(s *Settings) { s.Session.Idle = caddy.Duration(1000 * time.Hour) },
		"use up to 32 letters":                func(s *Settings) { s.Cookie.Name = "my cookie" },
		"is added by itself":                  func(s *Settings) { s.Cookie.Name = "__Host-x" },
		"is a public suffix":                  func(s *Settings) { s.Cookie.Domain = "co.uk" },
		"name your own domain":                func(s *Settings) { s.Cookie.Domain = "github.io" },
		"write a plain domain":                func(s *Settings) { s.Cookie.Domain = ".example.com" },
		"in lower case, such as example":      func(s *Settings) { s.Cookie.Domain = "Example.com" },
		"choose on, off, invited":             func(s *Settings) { s.Signup = "maybe" },
		"without a slash at its end":          func(s *Settings) { s.Pages.Path = "/in/" },
		"write a path":                        func(s *Settings) { s.Pages.Path = "/../in" },
		"such as /.login":                     func(s *Settings) { s.Pages.Path = "/" },
		"choose page, handle_errors":          func(s *Settings) { s.Pages.Forbidden = "hide" },
		"only https is safe":                  func(s *Settings) { s.Origins = []string{"http://app.example.com"} },
		"scheme and host only":                func(s *Settings) { s.Origins = []string{"https://app.example.com/"} },
		"scheme and host only, in lower case": func(s *Settings) { s.Origins = []string{"https://App.example.com"} },
		"such as https://app.example.com":     func(s *Settings) { s.Origins = []string{"https://user@app.example.com"} },
	} {
		s := Settings{Allow: allowUsers()}
		s.setDefaults()
		change(&s)
		if err := s.check(); err == nil || !strings.Contains(err.Error(), cure) {
			t.Errorf("%v; want the cure %q", err, cure)
		}
	}
}

func TestEmptyWordIsNeverAny(t *testing.T) {
	t.Setenv("LOGIN_TEST_EMPTY", "")
	t.Setenv("LOGIN_TEST_STAFF", "*@example.com")
	for _, words := range [][]string{{""}, {" "}, {"{env.LOGIN_TEST_EMPTY}"}, {"{env.LOGIN_TEST_UNSET}"}, {"users", ""}, {"{unknown}"}, {"*"}, {"*@"}, {"@example.com"}, {"role:"}} {
		if who, err := parseWho(words); err == nil {
			t.Errorf("%q admits %v", words, who)
		}
	}
	if who, err := parseWho([]string{"{env.LOGIN_TEST_STAFF}"}); err != nil || len(who) != 1 || who[0].String() != "*@example.com" {
		t.Errorf("%v, %v", who, err)
	}
}

func TestHeaderTemplates(t *testing.T) {
	for _, bad := range []string{"{nobody}", "{email", "{}", "{{email}}"} {
		if _, err := parseTemplate(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	k := blank()
	k.visitor.Email, k.visitor.Groups = "ada@example.com", []string{"a,b", "c"}
	for template, want := range map[string]string{
		"{email}": "ada@example.com", "user={email};g={groups}": "user=ada@example.com;g=a%2Cb,c",
		"fixed": "fixed", "<{name}>": "", "{name}{email}": "ada@example.com",
	} {
		value, err := parseTemplate(template)
		if err != nil {
			t.Fatal(err)
		}
		if got := value(k); got != want {
			t.Errorf("%q gives %q, want %q", template, got, want)
		}
	}
}
