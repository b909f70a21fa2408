package main_test

import (
	"bytes"
	"crypto/sha256"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestSameSourceMakesTheSameProgram builds in two places. What differs between
// them must not get into the program: then anybody can build it anew and see
// that a release holds this source and no more. With COLD=1 the second place
// compiles everything anew, too, which takes minutes.
func TestSameSourceMakesTheSameProgram(t *testing.T) {
	if testing.Short() {
		t.Skip("builds Caddy twice")
	}
	var cold []string
	if os.Getenv("COLD") != "" {
		cold = append(cold, "GOCACHE="+t.TempDir())
	}
	here, there := t.TempDir(), filepath.Join(t.TempDir(), "somewhere/else/and/deeper")
	one, other := buildAt(t, here), buildAt(t, there, cold...)
	if !bytes.Equal(one, other) {
		t.Errorf("two builds of one source differ: sha256 %x, %x", sha256.Sum256(one), sha256.Sum256(other))
	}
	for _, place := range []string{here, there} {
		if at := bytes.Index(one, []byte(place)); at >= 0 {
			t.Errorf("the program tells where it was built, %d bytes in", at)
		}
	}
}

// buildAt copies the source to place and returns the program that is built there.
func buildAt(t *testing.T, place string, env ...string) []byte {
	t.Helper()
	copySource(t, "../..", place)
	program := filepath.Join(t.TempDir(), "caddy")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", program, "./plugin/caddy")
	build.Dir = place
	build.Env = append(os.Environ(), append(env, "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0")...)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// TestImageTellsNotWhereItWasBuilt: xcaddy trims paths by itself, unless it is
// told to debug; Go does in any case.
func TestImageTellsNotWhereItWasBuilt(t *testing.T) {
	content, err := os.ReadFile("../../xcaddy.Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	build, _, _ := strings.Cut(string(content), "RUN xcaddy build")
	if !strings.Contains(build, "\nENV GOFLAGS=-trimpath\n") {
		t.Error("xcaddy.Dockerfile builds without ENV GOFLAGS=-trimpath")
	}
	if strings.Contains(string(content), ":latest") {
		t.Error("xcaddy.Dockerfile builds with whatever is the latest")
	}
}

// copySource copies what the program is made of.
func copySource(t *testing.T, from, to string) {
	t.Helper()
	for _, part := range []string{"go.mod", "go.sum", "caddyfile", "module", "plugin"} {
		err := filepath.WalkDir(filepath.Join(from, part), func(path string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case entry.IsDir() && slices.Contains([]string{"node_modules", "testdata"}, entry.Name()):
				return fs.SkipDir
			case entry.IsDir():
				return nil
			}
			rel, err := filepath.Rel(from, path)
			if err != nil {
				return err
			}
			return copyFile(path, filepath.Join(to, rel))
		})
		if err != nil {
			t.Fatalf("copying the source: %v", err)
		}
	}
}

func copyFile(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o644)
}
