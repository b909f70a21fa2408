// Package e2e runs the whole thing for tests: a real Caddy with a Caddyfile,
// an app behind it that records what it receives, the certified oidc-provider
// in front, and a real Chromium or a plain HTTP client as the visitor.
//
// Everything listens on loopback, on ports that are this test's alone.
// Nothing outlives the test that started it, also when that is killed. What a
// machine lacks is skipped by name; with CI=true it is a failure.
package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Patience is how long anything that should happen at once may take on a
// busy machine with two cores and the race detector on.
const Patience = time.Minute

// Main runs the tests of a package that calls Build, and removes what was
// built. Call it as os.Exit(e2e.Main(m)).
func Main(m *testing.M) int {
	defer removeBuilds()
	return m.Run()
}

// Without skips the test because the machine lacks what, or fails it where
// nothing may be skipped (CI=true).
func Without(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("cannot run without %s", what)
	}
	t.Skipf("skipped without %s", what)
}

// Eventually waits until done reports true, and fails the test when that takes
// longer than within.
func Eventually(t testing.TB, within time.Duration, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(within)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %s in vain for %s", within, what)
		}
	}
}

// moduleRoot is the directory of go.mod above the running test.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
}
