package moving_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// claim is one row of a page's table: what the app behind a host is told of Ada,
// in a header or in its environment. <id> is her ID, <jwt> an assertion, and an
// empty value nothing.
type claim struct{ host, name, value string }

var (
	table = regexp.MustCompile("^\\| at `([^`]+)` \\|")
	row   = regexp.MustCompile("^\\| `([^`]+)` \\| .* \\| (?:`([^`]+)`|nothing) \\|$")
)

// claims reads the tables of a page that say what the app sees.
func claims(t testing.TB, product string) (found []claim) {
	t.Helper()
	_, part, _ := strings.Cut(read(t, product+".md"), "\n## What the app sees\n")
	part, _, _ = strings.Cut(part, "\n## ")
	host := ""
	for line := range strings.Lines(part) {
		line = strings.TrimSpace(line)
		if begins := table.FindStringSubmatch(line); begins != nil {
			host = begins[1]
		} else if cells := row.FindStringSubmatch(line); cells != nil {
			found = append(found, claim{host, cells[1], cells[2]})
		} else if strings.HasPrefix(line, "| `") {
			t.Errorf("%s.md: no row of a table: %s", product, line)
		}
	}
	if len(found) == 0 {
		t.Fatalf("%s.md does not say what the app sees", product)
	}
	return found
}

// doors are what somebody unknown finds: the status, and how Location begins.
var doors = map[string][]struct {
	host, path string
	status     int
	to         string
}{
	"authelia": {
		{"app.example.com", "/api", http.StatusOK, ""},
		{"app.example.com", "/api/v1", http.StatusOK, ""},
		{"app.example.com", "/apis", http.StatusFound, "/.login/"},
		{"admin.example.com", "/", http.StatusFound, "/.login/"},
	},
	"caddy-security": {
		{"app.example.com", "/app/bypassed", http.StatusOK, ""},
		{"app.example.com", "/app/", http.StatusFound, "/.login/"},
		{"app.example.com", "/app/bypassed/..%2fother", http.StatusFound, "/.login/"},
	},
	"mod_auth_openidc": {
		{"app.example.com", "/", http.StatusOK, ""},
		{"app.example.com", "/secure/", http.StatusFound, "/.login/"},
		{"app.example.com", "//secure/", http.StatusFound, "/.login/"},
		{"wiki.example.com", "/", http.StatusFound, "/.login/"},
	},
	"oauth2-proxy": {
		{"app.example.com", "/public/logo.svg", http.StatusOK, ""},
		{"app.example.com", "/", http.StatusFound, "/.login/"},
		{"app.example.com", "/oauth2/sign_out", http.StatusFound, "/.login/logout"},
	},
	"pomerium": {
		{"status.example.com", "/", http.StatusOK, ""},
		{"verify.example.com", "/", http.StatusFound, "/.login/"},
		{"verify.example.com", "/.pomerium/sign_out", http.StatusFound, "/.login/logout"},
		{"verify.example.com", "/.pomerium/", http.StatusFound, "/.login/account"},
	},
	"tinyauth": {
		{"myapp.example.com", "/api/ping", http.StatusOK, ""},
		{"myapp.example.com", "/", http.StatusFound, "/.login/"},
		{"notes.example.com", "/", http.StatusFound, "/.login/"},
	},
	"vouch-proxy": {
		{"app1.example.com", "/", http.StatusFound, "/.login/"},
		{"app2.example.com", "/", http.StatusFound, "/.login/"},
	},
}

type place struct{ host, path string }

// notForEve is where she can sign in and may not pass.
var notForEve = map[string]place{
	"authelia":         {"admin.example.com", "/"},
	"caddy-security":   {"app.example.com", "/"},
	"mod_auth_openidc": {"app.example.com", "/secure/admin/"},
	"oauth2-proxy":     {"app.example.com", "/"},
	"pomerium":         {"grafana.example.com", "/"},
	"tinyauth":         {"myapp.example.com", "/"},
	"vouch-proxy":      {"app1.example.com", "/"},
}

// wantsSignIn is what asks for a sign-in at a host of a product. Nearly
// everywhere it is the home page.
func wantsSignIn(product, host string) string {
	if product == "mod_auth_openidc" && host == "app.example.com" {
		return "/secure/admin/"
	}
	return "/"
}

func TestAppsAreToldWhatThePageSays(t *testing.T) {
	for _, product := range from {
		t.Run(product, func(t *testing.T) {
			s := show(t, product)
			s.strangersFind(product)
			s.eveIsRefused(notForEve[product])
			s.adasApps(product)
			switch product {
			case "authelia":
				s.secondSiteAsksNothing()
			case "vouch-proxy":
				s.oneSessionOpensBoth()
			default: // the sites have nothing in common
			}
		})
	}
}

func (s *stage) strangersFind(product string) {
	s.t.Helper()
	for _, door := range doors[product] {
		s.app.Forget()
		stranger := e2e.NewVisitor(s.t)
		answer := stranger.Get(s.at(door.host, door.path))
		if answer.StatusCode != door.status || !strings.HasPrefix(answer.Header.Get("Location"), door.to) {
			s.t.Errorf("%s%s: %d, Location %q; want %d, %q", door.host, door.path,
				answer.StatusCode, answer.Header.Get("Location"), door.status, door.to)
		}
		if heard := len(s.app.Requests()) > 0; heard != (door.status == http.StatusOK) {
			s.t.Errorf("%s%s: the app heard of it: %t", door.host, door.path, heard)
		}
	}
}

func (s *stage) eveIsRefused(at place) {
	s.t.Helper()
	address := s.at(at.host, at.path)
	s.app.Forget()
	visitor, _ := s.signIn(address, eve)
	if answer := visitor.Get(address); answer.StatusCode != http.StatusForbidden || len(s.app.Requests()) > 0 {
		s.t.Errorf("Eve at %s: %d, and the app heard %d requests", address, answer.StatusCode, len(s.app.Requests()))
	}
}

// adasApps compares what arrives with each row of the page, while Ada's browser
// claims to be somebody else in each of those headers.
func (s *stage) adasApps(product string) {
	s.t.Helper()
	rows := claims(s.t, product)
	at := ""
	for _, c := range rows {
		if c.host != at {
			at = c.host
			address := s.at(at, wantsSignIn(product, at))
			visitor, _ := s.signIn(address, ada)
			s.forge(visitor, address, rows)
		}
		s.wantClaim(c)
	}
}

func (s *stage) forge(visitor *e2e.Visitor, address string, rows []claim) {
	s.t.Helper()
	forged := visitor.Navigation(address)
	for _, c := range rows {
		forged.Header[c.name] = []string{"forged"}
		forged.Header[strings.ReplaceAll(c.name, "-", "_")] = []string{"forged"}
	}
	s.app.Forget()
	if answer := visitor.Do(forged); answer.StatusCode != http.StatusOK || len(s.app.Requests()) != 1 {
		s.t.Fatalf("Ada at %s: %d\n%.1000s", address, answer.StatusCode, answer.Body)
	}
	if strings.Contains(s.app.Last().Raw, "forged") {
		s.t.Errorf("%s: the app received\n%s", address, s.app.Last().Raw)
	}
}

var id = regexp.MustCompile(`^[a-z2-7]{26}$`)

func (s *stage) wantClaim(c claim) {
	s.t.Helper()
	got := strings.Join(s.app.Last().Values(c.name), "|")
	right := got == c.value
	switch c.value {
	case "<id>":
		right = id.MatchString(got)
	case "<jwt>":
		right = strings.Contains(got, ".") && issuerOf(s.t, got) == s.at(c.host, "")
	}
	if !right {
		s.t.Errorf("the app behind %s received %s: %q, and the page says %q", c.host, c.name, got, c.value)
	}
}

// issuerOf reads who made a JWT, without checking its signature.
func issuerOf(t testing.TB, jwt string) string {
	t.Helper()
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(jwt, ".")[1])
	if err != nil {
		t.Error(err)
	}
	var claims struct {
		Issuer string `json:"iss"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Error(err)
	}
	return claims.Issuer
}

// secondSiteAsksNothing signs in at one site and visits another, with a session
// of its own: the issuer knows the browser by now.
func (s *stage) secondSiteAsksNothing() {
	s.t.Helper()
	visitor, _ := s.signIn(s.at("app.example.com", "/"), ada)
	if answer := visitor.Follow(s.at("admin.example.com", "/")); answer.StatusCode != http.StatusOK {
		s.t.Errorf("who is signed in at the issuer ends with %d at %s", answer.StatusCode, answer.Request.URL)
	}
}

// oneSessionOpensBoth signs in at one site of a cookie domain and visits the
// other.
func (s *stage) oneSessionOpensBoth() {
	s.t.Helper()
	visitor, _ := s.signIn(s.at("app1.example.com", "/"), ada)
	if answer := visitor.Get(s.at("app2.example.com", "/")); answer.StatusCode != http.StatusOK {
		s.t.Errorf("who is signed in at app1 gets %d at app2", answer.StatusCode)
	}
	visitor.Submit(visitor.Get(s.at("app1.example.com", "/.login/logout")))
	if answer := visitor.Get(s.at("app2.example.com", "/")); answer.StatusCode != http.StatusFound {
		s.t.Errorf("who signed out at app1 gets %d at app2", answer.StatusCode)
	}
}
