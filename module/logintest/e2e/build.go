package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Ours is the main package that the tests run, Plain a Caddy without us.
const (
	Ours  = "github.com/caddy-login/caddy-login/plugin/caddy"
	Plain = "github.com/caddyserver/caddy/v2/cmd/caddy"
)

var builds = struct {
	sync.Mutex
	dir  string
	made map[string]func() (string, error)
}{made: map[string]func() (string, error){}}

// Build builds plugin/caddy, once for all tests of the process, with the race
// detector if they have it, and returns the program's path.
func Build(t testing.TB) string {
	t.Helper()
	return BuildPackage(t, Ours)
}

// BuildPackage is Build for any main package.
func BuildPackage(t testing.TB, pkg string) string {
	t.Helper()
	path, err := build(pkg)()
	if err != nil {
		t.Fatalf("building %s: %v", pkg, err)
	}
	return path
}

func build(pkg string) func() (string, error) {
	builds.Lock()
	defer builds.Unlock()
	if builds.made[pkg] == nil {
		builds.made[pkg] = sync.OnceValues(func() (string, error) { return compile(pkg) })
	}
	return builds.made[pkg]
}

func compile(pkg string) (string, error) {
	dir, err := buildDir()
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, filepath.Base(pkg)+"-"+filepath.Base(filepath.Dir(pkg)))
	args := []string{"build", "-o", program}
	if Raced {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, pkg)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return program, nil
}

func buildDir() (string, error) {
	builds.Lock()
	defer builds.Unlock()
	if builds.dir != "" {
		return builds.dir, nil
	}
	dir, err := os.MkdirTemp("", "caddy-login-e2e-")
	builds.dir = dir
	return dir, err
}

func removeBuilds() {
	builds.Lock()
	defer builds.Unlock()
	if builds.dir != "" {
		os.RemoveAll(builds.dir)
	}
}
