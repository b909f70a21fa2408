package golden

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// witness is a test that may fail without failing ours.
type witness struct {
	testing.TB
	said []string
}

func (w *witness) Helper()                   {}
func (w *witness) Error(args ...any)         { w.said = append(w.said, fmt.Sprint(args...)) }
func (w *witness) Errorf(f string, a ...any) { w.Error(fmt.Sprintf(f, a...)) }
func (w *witness) Fatal(args ...any)         { w.Error(args...); runtime.Goexit() }
func (w *witness) Fatalf(f string, a ...any) { w.Fatal(fmt.Sprintf(f, a...)) }

// complaints is what a test of f says, or empty where it passes.
func complaints(f func(testing.TB)) string {
	w, done := new(witness), make(chan struct{})
	go func() {
		defer close(done)
		f(w)
	}()
	<-done
	return strings.Join(w.said, "\n")
}

const (
	hello    = ":80 {\n\trespond hello\n}\n"
	mistaken = ":80 {\n\trespnd hello\n}\n"
	refused  = ":80 {\n\t@a expression nonsense(\n\trespond @a hello\n}\n"
)

func TestRunnersSayWhatIsWrong(t *testing.T) {
	t.Setenv(update, "")
	good, err := Adapt(hello)
	if err != nil {
		t.Fatal(err)
	}
	asJSON := func(f File) func(testing.TB) {
		return func(t testing.TB) { f.becomesJSON(t, func(testing.TB, string) {}) }
	}
	asMistake := func(f File) func(testing.TB) { return func(t testing.TB) { f.isMistaken(t) } }
	asRefused := func(f File) func(testing.TB) { return func(t testing.TB) { f.isRefused(t) } }
	for name, test := range map[string]struct {
		run  func(testing.TB)
		says string // empty: nothing
	}{
		"the JSON fits":            {asJSON(File{Caddyfile: hello, Want: good}), ""},
		"another JSON":             {asJSON(File{Caddyfile: hello, Want: "{}"}), "want:\n{}"},
		"no JSON":                  {asJSON(File{Caddyfile: mistaken}), "unrecognized directive"},
		"not as caddy fmt does it": {asJSON(File{Caddyfile: strings.ReplaceAll(hello, "\t", " "), Want: good}), "caddy fmt would write:\n" + hello},
		"a mistake without a line": {asMistake(File{Caddyfile: mistaken, Want: "Caddyfile:2: unrecognized directive: respnd"}), "no file and line"},
		"another error":            {asMistake(File{Caddyfile: mistaken, Want: "parsing"}), "want:\nparsing"},
		"no mistake":               {asMistake(File{Caddyfile: hello}), "adapted"},
		"another refusal":          {asRefused(File{Caddyfile: refused, Want: "nonsense"}), "want:\nnonsense"},
		"no refusal":               {asRefused(File{Caddyfile: hello}), "is valid"},
		"a mistake, not refused":   {asRefused(File{Caddyfile: mistaken}), "unrecognized directive"},
	} {
		t.Run(name, func(t *testing.T) {
			got := complaints(test.run)
			if !strings.Contains(got, test.says) || test.says == "" && got != "" {
				t.Errorf("said %q, want %q", got, test.says)
			}
		})
	}
}

func TestEndOfCaddysErrorIsEnough(t *testing.T) {
	config, err := Adapt(refused)
	if err != nil {
		t.Fatal(err)
	}
	all := Validate(config).Error()
	_, end, found := strings.Cut(all, "provision http.matchers.expression: ")
	if !found {
		t.Fatalf("no way down to the module in: %s", all)
	}
	if said := complaints(func(t testing.TB) { File{Caddyfile: refused, Want: end}.isRefused(t) }); said != "" {
		t.Error(said)
	}
}

func TestUpdatingRewritesJSON(t *testing.T) {
	t.Setenv(update, "1")
	path := filepath.Join(t.TempDir(), "a"+extension)
	write(t, path, hello)
	Read(t, path).becomesJSON(t, func(testing.TB, string) {})
	want, err := Adapt(hello)
	if err != nil {
		t.Fatal(err)
	}
	if got := Read(t, path); got.Want != want || got.Caddyfile != hello {
		t.Errorf("wrote %+v", got)
	}
}

func TestUpdatingRewritesNoError(t *testing.T) {
	t.Setenv(update, "1")
	for caddyfile, run := range map[string]func(File, testing.TB){mistaken: File.isMistaken, refused: File.isRefused} {
		path := filepath.Join(t.TempDir(), "a"+extension)
		content := caddyfile + strings.TrimPrefix(separator, "\n") + "another error\n"
		write(t, path, content)
		if said := complaints(func(t testing.TB) { run(Read(t, path), t) }); !strings.Contains(said, "want:\nanother error") {
			t.Errorf("updating hides what is wrong: %q", said)
		}
		if got, _ := os.ReadFile(path); string(got) != content {
			t.Errorf("an error was rewritten: %s", got)
		}
	}
}

func TestFilesThatNobodyReadsAreFound(t *testing.T) {
	t.Setenv(update, "")
	root := t.TempDir()
	write(t, filepath.Join(root, "a"+extension), hello+"----------\n{}\n")
	write(t, filepath.Join(root, "fuzz", "FuzzLogin", "1"), "")
	all := func(t testing.TB) { NothingElse(t, root, root) }
	if said := complaints(all); said != "" {
		t.Error(said)
	}
	for _, stray := range []string{"b.txt", filepath.Join("deeper", "c"+extension)} {
		write(t, filepath.Join(root, stray), hello)
		if said := complaints(all); !strings.Contains(said, stray) {
			t.Errorf("%s is not found: %q", stray, said)
		}
	}
}

func TestDirectoryOrFileWithoutGoldIsNoSuccess(t *testing.T) {
	t.Setenv(update, "")
	dir := t.TempDir()
	if said := complaints(func(t testing.TB) { Files(t, dir) }); !strings.Contains(said, "no golden files") {
		t.Errorf("an empty directory: %q", said)
	}
	write(t, filepath.Join(dir, "a"+extension), hello)
	if said := complaints(func(t testing.TB) { Files(t, dir) }); !strings.Contains(said, "no line") {
		t.Errorf("a file without its line of dashes: %q", said)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
