package plugin_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-login/caddy-login/module/logintest/golden"
)

// FuzzConfig provisions any JSON for a site and for what all sites share: it is
// refused, or lets nobody pass who has not signed in unless it says `anyone`;
// and nothing is written anywhere, as `caddy validate` promises.
func FuzzConfig(f *testing.F) {
	for _, dir := range []string{"testdata", "testdata/refused"} {
		for _, file := range golden.Files(f, dir) {
			if config, err := golden.Adapt(file.Caddyfile); err == nil {
				app, site := parts(f, config)
				f.Add(app, site)
			}
		}
	}
	for _, site := range []string{
		`{}`, `null`, `[]`, `{"allow":[]}`, `{"allow":[null]}`, `{"allow":[{}]}`, `{"allow":[{"who":[]}]}`, `{"allow":[{"who":[""]}]}`, `{"allow":[{"who":["users"]}],"providers":[null]}`,
		`{"allow":[{"match":[{}],"who":["users"]}],"use":["a"]}`, `{"Allow":[{"who":["users"]}]}`, `{"allow":[{"who":["users"]}],"pages":{"path":"/"}}`, `{"allow":[{"who":["*@*"]}]}`,
	} {
		f.Add(`{"providers":[{"provider":"oidc","name":"a","client_id":"a","client_secret":"b","issuer":"https://id.example.com"}]}`, site)
	}
	home := f.TempDir()
	for _, name := range []string{"XDG_DATA_HOME", "XDG_CONFIG_HOME", "HOME"} {
		f.Setenv(name, home)
	}
	f.Setenv("CLIENT_ID", "id")
	f.Fuzz(func(t *testing.T, app, site string) {
		if !isHarmless(app) || !isHarmless(site) {
			return
		}
		if passed, open := admits(t, app, site), strings.Contains(app+site, "nyone"); passed && !open {
			t.Errorf("a stranger passed:\n%s\n%s", app, site)
		}
		if left, err := filepath.Glob(filepath.Join(home, "*")); err != nil || len(left) > 0 {
			t.Fatalf("left behind: %q, %v", left, err)
		}
	})
}

// isHarmless reports whether a config may be tried: it reads no file, which might
// have no end.
func isHarmless(config string) bool {
	return json.Valid([]byte(config)) && !strings.Contains(config, "/dev") && !strings.Contains(config, "/proc")
}

// admits reports whether a gate of this config hands on what a stranger asks for.
func admits(t *testing.T, app, site string) (passed bool) {
	t.Helper()
	ctx, err := caddy.ProvisionContext(&caddy.Config{
		Admin:   &caddy.AdminConfig{Disabled: true},
		Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{WriterRaw: json.RawMessage(`{"output":"discard"}`)}}}},
		AppsRaw: caddy.ModuleMap{"login": json.RawMessage(app)},
	})
	if err != nil {
		return false
	}
	loaded, err := ctx.LoadModuleByID("http.handlers.login", []byte(site))
	if err != nil {
		return false
	}
	for _, path := range []string{"/", "/admin", "/.login/check", "/a%2f..%2fb"} {
		w := httptest.NewRecorder()
		r := caddyhttp.PrepareRequest(httptest.NewRequest(http.MethodGet, "https://app.example.com"+path, nil), caddy.NewReplacer(), w, &caddyhttp.Server{})
		_ = loaded.(caddyhttp.MiddlewareHandler).ServeHTTP(w, r, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
			passed = true
			return nil
		}))
	}
	return passed
}

// parts are the app and the first handler of ours in a config.
func parts(t testing.TB, config string) (app, site string) {
	t.Helper()
	var all any
	if err := json.Unmarshal([]byte(config), &all); err != nil {
		t.Fatal(err)
	}
	app, site = "{}", "{}"
	walk(all, func(name string, object map[string]any) {
		text := compact(t, object)
		switch {
		case name == "login":
			app = text
		case object["handler"] == "login" && site == "{}":
			delete(object, "handler")
			site = compact(t, object)
		}
	})
	return app, site
}

func walk(in any, do func(name string, object map[string]any)) {
	switch in := in.(type) {
	case []any:
		for _, one := range in {
			walk(map[string]any{"": one}, do)
		}
	case map[string]any:
		for name, one := range in {
			if object, ok := one.(map[string]any); ok {
				do(name, object)
			}
			walk(one, do)
		}
	}
}

func compact(t testing.TB, object any) string {
	t.Helper()
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(object); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(text.String())
}
