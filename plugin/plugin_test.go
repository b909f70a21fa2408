package plugin_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// root is the repository, which is the context of the Docker build.
const root = ".."

const dockerfile = root + "/xcaddy.Dockerfile"

// mainPackage is what xcaddy writes for one plug-in.
const mainPackage = `package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/caddyserver/caddy/v2/modules/standard"
	_ "PACKAGE"
)

func main() { caddycmd.Main() }
`

func TestPackageOfTheDockerfileMakesACaddyThatSignsIn(t *testing.T) {
	with := find(t, dockerfile, `(?m)^\s*--with (\S+)`)
	out, err := exec.Command(build(t, with), "list-modules").Output()
	if err != nil {
		t.Fatalf("caddy list-modules: %v", err)
	}
	modules := strings.Fields(string(out))
	for _, want := range []string{
		"login", "http.handlers.login", "login.stores.badger",
		"login.providers.google", "login.providers.oidc", "login.providers.okta",
		// And Caddy is whole.
		"http.handlers.reverse_proxy", "http.reverse_proxy.transport.http", "tls.issuance.acme",
	} {
		if !slices.Contains(modules, want) {
			t.Errorf("no module %s in the build", want)
		}
	}
}

// build makes a Caddy with one package, as xcaddy does, and returns where it
// is. Its main package is laid over the module: nothing is written there.
func build(t *testing.T, with string) string {
	t.Helper()
	dir := t.TempDir()
	text, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "caddy")
	place, err := filepath.Abs("built_by_xcaddy")
	if err != nil {
		t.Fatal(err)
	}
	write(t, text, []byte(strings.ReplaceAll(mainPackage, "PACKAGE", with)))
	overlay, err := json.Marshal(map[string]any{
		"Replace": map[string]string{filepath.Join(place, "main.go"): text},
	})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "overlay.json"), overlay)
	// xcaddy's own tags; they must not take our store along.
	build := exec.Command("go", "build", "-tags", "nobadger,nomysql,nopgx",
		"-overlay", filepath.Join(dir, "overlay.json"), "-o", program, "./built_by_xcaddy")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building Caddy with %s: %v\n%s", with, err, out)
	}
	return program
}

func TestDockerfileBuildsTheCaddyThatIsTested(t *testing.T) {
	got := "v" + find(t, dockerfile, `(?m)^ARG CADDY_VERSION=(\S+)$`)
	want := find(t, root+"/go.mod", `(?m)^\s*github\.com/caddyserver/caddy/v2 (\S+)$`)
	if got != want {
		t.Errorf("xcaddy.Dockerfile builds Caddy %s, go.mod says %s", got, want)
	}
	// No image and no build may have a version of its own.
	for _, line := range []string{"FROM caddy:${CADDY_VERSION}-builder AS builder", "FROM caddy:${CADDY_VERSION}", "RUN xcaddy build v${CADDY_VERSION} \\"} {
		find(t, dockerfile, `(?m)^`+regexp.QuoteMeta(line)+`$`)
	}
}

func TestDockerfileBuildsThisCheckout(t *testing.T) {
	module := find(t, root+"/go.mod", `(?m)^module (\S+)$`)
	workdir := find(t, dockerfile, `(?m)^WORKDIR (\S+)$`)
	if got, want := find(t, dockerfile, `(?m)^\s*--replace (\S+)`), module+"="+workdir; got != want {
		t.Errorf("--replace %s, want %s", got, want)
	}
	copied := find(t, dockerfile, `(?m)^COPY (go\.mod go\.sum) \./$`)
	for name := range strings.FieldsSeq(copied) {
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			t.Error(err)
		}
	}
	for _, folder := range ownFolders(t, module) {
		find(t, dockerfile, `(?m)^COPY (`+folder+` `+folder+`)$`)
	}
}

// ownFolders are the folders at the top of the module that the plug-in is
// made of.
func ownFolders(t *testing.T, module string) []string {
	t.Helper()
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var folders []string
	for path := range strings.FieldsSeq(string(out)) {
		if own, ok := strings.CutPrefix(path, module+"/"); ok {
			folder, _, _ := strings.Cut(own, "/")
			folders = append(folders, folder)
		}
	}
	slices.Sort(folders)
	return slices.Compact(folders)
}

// find is what the pattern, or its first group, matches in a file. It must
// match once.
func find(t *testing.T, path, pattern string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(pattern).FindAllStringSubmatch(string(content), -1)
	if len(found) != 1 {
		t.Fatalf("%s matches %s %d times, want once", pattern, path, len(found))
	}
	return found[0][len(found[0])-1]
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
