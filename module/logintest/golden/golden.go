// Package golden holds what an operator writes against what becomes of it. A
// golden file is a Caddyfile, a line of ten dashes, and its JSON, or the error
// that tells what is wrong with it. A new file needs no code.
package golden

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

const (
	extension = ".caddyfiletest"
	separator = "\n----------\n"
)

// update, set to anything, rewrites the JSON of golden files. Errors are
// always written by hand: they are what somebody reads.
const update = "CADDY_LOGIN_UPDATE_GOLDEN"

// File is one golden file.
type File struct {
	Path      string
	Caddyfile string // with its last line break
	Want      string // without
}

// JSON tests that the Caddyfiles in dir adapt to their JSON, and hands each to
// check, which may look deeper.
func JSON(t *testing.T, dir string, check func(t testing.TB, config string)) {
	t.Helper()
	for _, f := range Files(t, dir) {
		t.Run(filepath.Base(f.Path), func(t *testing.T) { f.becomesJSON(t, check) })
	}
}

// Mistakes tests that the Caddyfiles in dir do not adapt, with their error, to
// the letter, and that it names a file and a line.
func Mistakes(t *testing.T, dir string) {
	t.Helper()
	for _, f := range Files(t, dir) {
		t.Run(filepath.Base(f.Path), func(t *testing.T) { f.isMistaken(t) })
	}
}

// Refused tests that the Caddyfiles in dir adapt, and that `caddy validate`
// refuses them all the same. Their error is the end of Caddy's, which first
// tells the way down to the module.
func Refused(t *testing.T, dir string) {
	t.Helper()
	for _, f := range Files(t, dir) {
		t.Run(filepath.Base(f.Path), func(t *testing.T) { f.isRefused(t) })
	}
}

// NothingElse tests that all files below root are golden files directly in
// one of dirs. What the fuzzer keeps is let be.
func NothingElse(t testing.TB, root string, dirs ...string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Name() == "fuzz" {
			return fs.SkipDir
		}
		if err == nil && !entry.IsDir() && (filepath.Ext(path) != extension || !slices.Contains(dirs, filepath.Dir(path))) {
			t.Errorf("%s: no test reads it; name it *%s, in one of %q", path, extension, dirs)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Files reads the golden files of dir, of which there must be some.
func Files(t testing.TB, dir string) []File {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*"+extension))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no golden files in %s: %v", dir, err)
	}
	var files []File
	for _, path := range paths {
		files = append(files, Read(t, path))
	}
	return files
}

// Read reads one golden file.
func Read(t testing.TB, path string) File {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	written, want, found := strings.Cut(string(content), separator)
	if !found && os.Getenv(update) == "" {
		t.Fatalf("%s has no line '----------'", path)
	}
	return File{Path: path, Caddyfile: strings.TrimSuffix(written, "\n") + "\n", Want: strings.TrimSpace(want)}
}

// Caddyfiles are those of all golden files in dir, one after the other.
func Caddyfiles(t testing.TB, dir string) string {
	t.Helper()
	var all strings.Builder
	for _, f := range Files(t, dir) {
		all.WriteString(f.Caddyfile)
	}
	return all.String()
}

// Adapt is what `caddy adapt --pretty` does.
func Adapt(written string) (string, error) {
	raw, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(written), nil)
	if err != nil {
		return "", err
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, raw, "", "\t"); err != nil {
		return "", fmt.Errorf("indenting what the adapter wrote: %w", err)
	}
	return pretty.String(), nil
}

// Validate is what `caddy validate` does, without its log: it loads and
// provisions everything and starts nothing.
func Validate(config string) error {
	cfg := new(caddy.Config)
	if err := caddy.StrictUnmarshalJSON([]byte(config), cfg); err != nil {
		return fmt.Errorf("decoding config: %w", err)
	}
	cfg.Logging = &caddy.Logging{Logs: map[string]*caddy.CustomLog{
		"default": {BaseLog: caddy.BaseLog{WriterRaw: json.RawMessage(`{"output":"discard"}`)}},
	}}
	return caddy.Validate(cfg)
}

func (f File) becomesJSON(t testing.TB, check func(testing.TB, string)) {
	f.isFormatted(t)
	got, err := Adapt(f.Caddyfile)
	if err != nil {
		t.Fatal(err)
	}
	check(t, got)
	if os.Getenv(update) == "" {
		f.compare(t, got)
		return
	}
	content := f.Caddyfile + strings.TrimPrefix(separator, "\n") + got + "\n"
	if err := os.WriteFile(f.Path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

var position = regexp.MustCompile(`at Caddyfile:\d+`)

func (f File) isMistaken(t testing.TB) {
	f.isFormatted(t)
	_, err := Adapt(f.Caddyfile)
	if err == nil {
		t.Fatal("adapted")
	}
	f.compare(t, err.Error())
	if !position.MatchString(err.Error()) {
		t.Errorf("no file and line in: %s", err)
	}
}

func (f File) isRefused(t testing.TB) {
	f.isFormatted(t)
	config, err := Adapt(f.Caddyfile)
	if err != nil {
		t.Fatal(err)
	}
	err = Validate(config)
	if err == nil {
		t.Fatal("is valid")
	}
	if !strings.HasSuffix(err.Error(), ": "+f.Want) {
		f.compare(t, err.Error())
	}
}

func (f File) compare(t testing.TB, got string) {
	t.Helper()
	if got != f.Want {
		t.Errorf("got:\n%s\nwant:\n%s", got, f.Want)
	}
}

func (f File) isFormatted(t testing.TB) {
	t.Helper()
	if got := string(caddyfile.Format([]byte(f.Caddyfile))); got != f.Caddyfile {
		t.Errorf("caddy fmt would write:\n%s", got)
	}
}
