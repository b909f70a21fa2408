package caddyfile_test

import (
	"encoding/json"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/caddy-login/caddy-login/module"
	"github.com/caddy-login/caddy-login/module/logintest/golden"
)

// handlers are the objects with "handler": name anywhere in a config, in the
// order of their routes.
func handlers(t testing.TB, config string) (names []string, logins []json.RawMessage) {
	t.Helper()
	var walk func(raw json.RawMessage)
	walk = func(raw json.RawMessage) {
		var list []json.RawMessage
		if json.Unmarshal(raw, &list) == nil {
			for _, item := range list {
				walk(item)
			}
			return
		}
		var object map[string]json.RawMessage
		if json.Unmarshal(raw, &object) != nil {
			return
		}
		var name string
		if json.Unmarshal(object["handler"], &name) == nil && name != "subroute" {
			names = append(names, name)
			if name == "login" {
				logins = append(logins, raw)
				return
			}
		}
		for _, key := range sortedKeys(object) {
			walk(object[key])
		}
	}
	walk(json.RawMessage(config))
	return names, logins
}

func sortedKeys(object map[string]json.RawMessage) []string {
	keys := make([]string, 0, len(object))
	for key := range object {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// decodeStrictly holds the JSON against the structs it is for, as Caddy will.
func decodeStrictly(t testing.TB, config string) {
	t.Helper()
	var top struct {
		Apps struct {
			Login json.RawMessage `json:"login"`
		} `json:"apps"`
	}
	if err := json.Unmarshal([]byte(config), &top); err != nil {
		t.Fatalf("decoding config: %v", err)
	}
	if top.Apps.Login != nil {
		decode(t, top.Apps.Login, new(module.App))
	}
	_, logins := handlers(t, config)
	for _, raw := range logins {
		var object map[string]json.RawMessage
		if err := json.Unmarshal(raw, &object); err != nil {
			t.Fatal(err)
		}
		delete(object, "handler")
		without, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		decode(t, without, new(module.Gate))
	}
}

func decode(t testing.TB, raw json.RawMessage, into any) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(string(raw)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		t.Errorf("decoding %T from %s: %v", into, raw, err)
	}
}

func TestLoginStandsBeforeWhateverTrustsOrAnswersARequest(t *testing.T) {
	config, err := golden.Adapt(`:80 {
	reverse_proxy localhost:3000
	templates
	encode gzip
	request_header X-A b
	forward_auth localhost:9000 {
		uri /check
	}
	basic_auth {
		ada $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG
	}
	login google {
		allow users
	}
}
`)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := handlers(t, config)
	want := []string{"login", "authentication", "reverse_proxy", "headers", "encode", "templates", "reverse_proxy"}
	if got = slices.DeleteFunc(got, func(name string) bool { return name == "vars" }); !sameOrder(got, want) {
		t.Errorf("handlers stand as %q, want %q", got, want)
	}
}

// sameOrder reports whether want occurs in got in this order, its first as
// got's first.
func sameOrder(got, want []string) bool {
	if len(got) == 0 || got[0] != want[0] {
		return false
	}
	for _, name := range got {
		if len(want) > 0 && name == want[0] {
			want = want[1:]
		}
	}
	return len(want) == 0
}

func TestLoginStandsBeforeTheOldSpellingOfBasicAuth(t *testing.T) {
	config, err := golden.Adapt(`:80 {
	basicauth {
		ada $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG
	}
	login google {
		allow users
	}
}
`)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := handlers(t, config); !slices.Equal(got, []string{"login", "authentication"}) {
		t.Errorf("handlers stand as %q", got)
	}
}

func TestAdaptingLeavesNothingOnDisk(t *testing.T) {
	caddyfile := golden.Read(t, "testdata/site_and_global.caddyfiletest").Caddyfile
	home := t.TempDir()
	for _, name := range []string{"HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "TMPDIR"} {
		t.Setenv(name, home)
	}
	t.Chdir(home)
	if _, err := golden.Adapt(caddyfile); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(home); err != nil || len(entries) > 0 {
		t.Errorf("found %v, %v", entries, err)
	}
}

// A parser that cannot name a file cannot touch one.
func TestParserImportsNeitherDiskNorNetwork(t *testing.T) {
	sources, err := filepath.Glob("*.go")
	if err != nil || len(sources) == 0 {
		t.Fatal(sources, err)
	}
	banned := []string{"os", "io/ioutil", "path/filepath", "net", "net/http", "os/exec", "syscall"}
	for _, source := range sources {
		if strings.HasSuffix(source, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), source, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range file.Imports {
			if path, _ := strconv.Unquote(spec.Path.Value); slices.Contains(banned, path) {
				t.Errorf("%s imports %s", source, path)
			}
		}
	}
}

func TestPlaceholdersStayPlaceholders(t *testing.T) {
	t.Setenv("LOGIN_TEST_SECRET", "hunter2")
	config, err := golden.Adapt(`:80 {
	login {
		google {env.LOGIN_TEST_ID} {env.LOGIN_TEST_SECRET}
		mail smtp localhost:25 {file./run/user} {env.LOGIN_TEST_SECRET}
		allow {env.LOGIN_TEST_STAFF}
	}
}
`)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(config, "hunter2") {
		t.Error("a secret was read at adapt time")
	}
	for _, want := range []string{"{env.LOGIN_TEST_ID}", "{env.LOGIN_TEST_SECRET}", "{file./run/user}", "{env.LOGIN_TEST_STAFF}"} {
		if !strings.Contains(config, want) {
			t.Errorf("%s is gone from %s", want, config)
		}
	}
}

func TestOneAdaptationKnowsNothingOfTheLast(t *testing.T) {
	caddyfile := golden.Read(t, "testdata/three_lines.caddyfiletest").Caddyfile
	first, err := golden.Adapt(caddyfile)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := golden.Adapt(caddyfile); err != nil || second != first {
		t.Errorf("the second time: %s, %v", second, err)
	}
}

// FuzzLogin writes anything into a site's login and into the global option: it
// never panics, and says what is wrong and where, or makes JSON that the
// module can read.
func FuzzLogin(f *testing.F) {
	for _, dir := range []string{"testdata", "testdata/errors"} {
		for _, login := range regexp.MustCompile(`(?ms)^\tlogin(.*?)^\t?}`).FindAllStringSubmatch(golden.Caddyfiles(f, dir), -1) {
			f.Add(login[1]+"}", false)
			f.Add(login[1]+"}", true)
		}
	}
	position := regexp.MustCompile(`Caddyfile:\d+`)
	f.Fuzz(func(t *testing.T, login string, global bool) {
		if strings.Contains(login, "import") {
			return // it would read files
		}
		caddyfile := ":80 {\n\t@named path /a\n\tlogin" + login + "\n}\n"
		if global {
			caddyfile = "{\n\tlogin" + login + "\n}\n:80 {\n\tlogin google\n}\n"
		}
		raw, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
		if err == nil {
			decodeStrictly(t, string(raw))
			return
		}
		if strings.Contains(err.Error(), "parsing caddyfile tokens for 'login'") && !position.MatchString(err.Error()) {
			t.Errorf("no file and line in: %v\nfor:\n%s", err, caddyfile)
		}
	})
}
