package caddyfile_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/encode"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/encode/gzip"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy/forwardauth"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/templates"

	login "github.com/caddy-login/caddy-login/caddyfile"
)

// A golden file is a Caddyfile, this line, and what becomes of it: JSON in
// testdata, the whole error in testdata/errors. A new file needs no code.
const separator = "\n----------\n"

// update, set to anything, rewrites the JSON of golden files. Errors are
// always written by hand: they are what somebody reads.
const update = "CADDY_LOGIN_UPDATE_GOLDEN"

func adapt(caddyfile string) (string, error) {
	raw, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
	if err != nil {
		return "", err
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, raw, "", "\t"); err != nil {
		return "", err
	}
	return pretty.String(), nil
}

func golden(t *testing.T, path string) (caddyfile, want string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	caddyfile, want, found := strings.Cut(string(content), separator)
	if !found && os.Getenv(update) == "" {
		t.Fatalf("%s has no line '----------'", path)
	}
	return strings.TrimSuffix(caddyfile, "\n") + "\n", strings.TrimSpace(want)
}

func goldens(t testing.TB, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no golden files at %s: %v", pattern, err)
	}
	return paths
}

func TestWhatIsWrittenBecomesThisJSON(t *testing.T) {
	for _, path := range goldens(t, "testdata/*.caddyfiletest") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			caddyfile, want := golden(t, path)
			got, err := adapt(caddyfile)
			if err != nil {
				t.Fatal(err)
			}
			decodeStrictly(t, got)
			if os.Getenv(update) != "" {
				content := caddyfile + strings.TrimPrefix(separator, "\n") + got + "\n"
				if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestMistakesAreToldWithTheirLineAndCure(t *testing.T) {
	position := regexp.MustCompile(`at Caddyfile:\d+`)
	for _, path := range goldens(t, "testdata/errors/*.caddyfiletest") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			caddyfile, want := golden(t, path)
			_, err := adapt(caddyfile)
			if err == nil {
				t.Fatal("adapted")
			}
			if err.Error() != want {
				t.Errorf("got:\n%s\nwant:\n%s", err, want)
			}
			if !position.MatchString(err.Error()) {
				t.Errorf("no file and line in: %s", err)
			}
		})
	}
}

func TestEveryGoldenFileIsRun(t *testing.T) {
	run := make(map[string]bool)
	for _, pattern := range []string{"testdata/*.caddyfiletest", "testdata/errors/*.caddyfiletest"} {
		for _, path := range goldens(t, pattern) {
			run[path] = true
		}
	}
	err := filepath.WalkDir("testdata", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Name() == "fuzz" {
			return fs.SkipDir
		}
		if err == nil && !entry.IsDir() && !run[path] {
			t.Errorf("%s: no test reads it; name it *.caddyfiletest, in testdata or testdata/errors", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestEveryWordHasGoldenFiles(t *testing.T) {
	for _, dir := range []string{"testdata", "testdata/errors"} {
		var all strings.Builder
		for _, path := range goldens(t, dir+"/*.caddyfiletest") {
			caddyfile, _ := golden(t, path)
			all.WriteString(caddyfile)
		}
		for _, word := range login.Words() {
			if !regexp.MustCompile(`(?m)^\t+` + word + `\b`).MatchString(all.String()) {
				t.Errorf("no golden file in %s has a line '%s …'", dir, word)
			}
		}
	}
}
