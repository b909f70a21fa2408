package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// offers is a site's login with one provider and one rule.
const offers = "login {\n\toidc op site secret {\n\t\tissuer http://127.0.0.1:1\n\t}\n\tallow users\n}\n"

// threeWays are two sites with three providers between them: one is known by
// the origin it names, and has its pages elsewhere.
const threeWays = `
{
	login {
		google one secret
		github two secret
	}
}
https://app.test:{$PORT}, https://www.app.test:{$PORT} {
	handle {
		login google github {
			allow users
		}
		respond "in"
	}
}
http://inner.test:{$PORT2} {
	login {
		oidc op site secret {
			issuer http://127.0.0.1:1
		}
		allow users
		origin https://login.example.com https://other.example.com
		pages /sign/in
	}
	respond "in"
}
`

// registrations are the callback URLs of threeWays.
func registrations(c *e2e.Caddy) []string {
	var all []string
	for _, host := range []string{"app.test", "www.app.test"} {
		for _, provider := range []string{"google", "github"} {
			all = append(all, fmt.Sprintf("https://%s:%d/.login/%s/callback", host, c.Port, provider))
		}
	}
	return append(all, "https://login.example.com/sign/in/op/callback")
}

// wantNamed checks that a log names exactly these callback URLs, once each.
func wantNamed(t *testing.T, log string, callbacks ...string) {
	t.Helper()
	for _, callback := range callbacks {
		if got := strings.Count(log, `"url":"`+callback+`"`); got != 1 {
			t.Errorf("%s is named %d times", callback, got)
		}
	}
	if got := strings.Count(log, "register this callback URL"); got != len(callbacks) || t.Failed() {
		t.Fatalf("%d callback URLs are named, want %d:\n%s", got, len(callbacks), log)
	}
}

// validate is `caddy validate` for a config of this adapter, or JSON.
func validate(t *testing.T, c *e2e.Caddy, config, adapter string) (string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"validate", "--config", file}
	if adapter != "" {
		args = append(args, "--adapter", adapter)
	}
	return c.Command(args...)
}

// repeats is how often a config is validated: Caddy provisions the apps in an
// order of chance.
const repeats = 6

func TestValidateNamesEachCallbackOnce(t *testing.T) {
	c := e2e.NewCaddy(t, e2e.Build(t))
	for range repeats {
		out, err := validate(t, c, threeWays, "caddyfile")
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		wantNamed(t, out, registrations(c)...)
	}
	if _, err := os.Stat(filepath.Join(c.DataDir(), "login")); !os.IsNotExist(err) {
		t.Errorf("the store's directory was made: %v", err)
	}
}

func TestValidateBesideARunningCaddyNamesCallbacks(t *testing.T) {
	c := e2e.NewCaddy(t, e2e.Build(t)).Start(threeWays)
	out, err := validate(t, c, threeWays, "caddyfile")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	wantNamed(t, out, registrations(c)...)
}

func TestRunAndReloadNameEachCallbackOnce(t *testing.T) {
	c := e2e.NewCaddy(t, e2e.Build(t)).Start(threeWays)
	c.Reload(threeWays)
	broken := strings.Replace(threeWays, "pages /sign/in", "pages /refused\n\t\tcookie {\n\t\t\tdomain elsewhere.test\n\t\t}", 1)
	if out, err := c.TryReload(broken); err == nil || !strings.Contains(out, "does not cover the origin") {
		t.Fatalf("a reload that had to be refused: %v\n%s", err, out)
	}
	c.Reload(strings.Replace(threeWays, "pages /sign/in", "pages /signing", 1))
	c.Stop()
	wantNamed(t, c.Log(), append(registrations(c), "https://login.example.com/signing/op/callback")...)
}

func TestValidateRefusesWhatCouldNotWork(t *testing.T) {
	c := e2e.NewCaddy(t, e2e.Build(t))
	site := func(lines string) string { return "https://app.test:{$PORT} {\n" + lines + "\n}\n" }
	sound := "https://sound.test:{$PORT} {\n" + offers + "}\n"
	for what, refused := range map[string]struct{ config, cure string }{
		"in a handle":             {site("handle /app/* {\n" + offers + "}"), "can't be reached"},
		"deeper in a handle":      {site("handle /app/* {\nroute {\n" + offers + "}\n}"), "can't be reached"},
		"pages elsewhere":         {site("handle /.login/* {\n" + strings.Replace(offers, "allow", "pages /auth\nallow", 1) + "}"), "below /auth can't be reached"},
		"site of a path":          {"https://app.test:{$PORT}/app/* {\n" + offers + "}\n", "can't be reached"},
		"errors forwarded":        {site(offers + "reverse_proxy 127.0.0.1:9\nhandle_errors {\nreverse_proxy 127.0.0.1:9\n}"), "handle_errors forwards to 127.0.0.1:9"},
		"errors by a named route": {"&(onward) {\nreverse_proxy 127.0.0.1:9\n}\n" + site(offers+"reverse_proxy 127.0.0.1:9\nhandle_errors {\ninvoke onward\n}"), "handle_errors forwards to 127.0.0.1:9"},
		"app by a named route":    {"&(onward) {\nroute {\nreverse_proxy 127.0.0.1:9\n}\n}\n" + site(offers+"invoke onward\nhandle_errors {\nreverse_proxy 127.0.0.1:9\n}"), "handle_errors forwards to 127.0.0.1:9"},
		"errors, named route":     {"&(guarded) {\nroute {\n" + offers + "reverse_proxy 127.0.0.1:9\n}\n}\n" + site("invoke guarded\nhandle_errors {\nreverse_proxy 127.0.0.1:9\n}"), "login stands in a named route"},
		"only for errors":         {site("handle_errors {\n" + offers + "}"), "protects nothing"},
		"a mistake elsewhere":     {site(strings.Replace(offers, "allow", "origin https://app.test\ncookie {\ndomain other.test\n}\nallow", 1)), "does not cover the origin"},
	} {
		for range repeats {
			out, err := validate(t, c, "{\n\tlogin {\n\t\tsession 1h\n\t}\n}\n"+refused.config+sound, "caddyfile")
			if err == nil || !strings.Contains(out, refused.cure) {
				t.Fatalf("%s: want %q, have %v\n%s", what, refused.cure, err, out)
			}
			wantNamed(t, out)
		}
	}
}

func TestValidateAcceptsPagesThatAMatcherLetsThrough(t *testing.T) {
	c := e2e.NewCaddy(t, e2e.Build(t))
	for what, lines := range map[string]string{
		"path among others": "@ours path /.login/* /app/*\nhandle @ours {\n" + offers + "}",
		"method":            "@read method GET HEAD POST\nhandle @read {\n" + offers + "}",
		"errors answered":   offers + "reverse_proxy 127.0.0.1:9\nhandle_errors {\nrespond \"our own\"\n}",
	} {
		out, err := validate(t, c, "https://app.test:{$PORT} {\n"+lines+"\n}\n", "caddyfile")
		if err != nil {
			t.Errorf("%s: %v\n%s", what, err, out)
		}
		wantNamed(t, out, fmt.Sprintf("https://app.test:%d/.login/op/callback", c.Port))
	}
}

// gateJSON is offers as the handler that JSON configs write.
const gateJSON = `{"handler":"login","providers":[{"provider":"oidc","name":"op","client_id":"site","client_secret":"secret","issuer":"http://127.0.0.1:1"}],"allow":[{"who":["users"]}]}`

// jsonSite is a JSON config of one site with these routes; apps stand beside.
func jsonSite(routes, apps string) string {
	return `{"apps":{` + apps + `"http":{"servers":{"main":{"listen":[":443"],"routes":[{"match":[{"host":["app.test"]}],"handle":[{"handler":"subroute","routes":[` + routes + `]}]}]}}}}}`
}

func TestValidateReadsJSONConfigsLikeCaddyfiles(t *testing.T) {
	c := e2e.NewCaddy(t, e2e.Build(t))
	gate := `{"handle":[` + gateJSON + `]}`
	for range repeats {
		out, err := validate(t, c, jsonSite(gate, `"login":{},`), "")
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		wantNamed(t, out, "https://app.test/.login/op/callback")
	}
	for cure, config := range map[string]string{
		"two login handlers stand in one site": jsonSite(gate+","+gate, `"login":{},`),
		"can't be reached":                     jsonSite(`{"match":[{"path":["/app/*"]}],"handle":[{"handler":"subroute","routes":[`+gate+`]}]}`, ""),
		"unknown module: nonsense":             jsonSite(gate, `"nonsense":{},`),
	} {
		for range repeats {
			out, err := validate(t, c, config, "")
			if err == nil || !strings.Contains(out, cure) {
				t.Fatalf("want %q, have %v\n%s", cure, err, out)
			}
			wantNamed(t, out)
		}
	}
}
