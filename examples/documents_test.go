package examples_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// root is the repository.
const root = ".."

// TestEveryCaddyfileInADocumentIsTested keeps documents true: what a reader
// copies out of one has been run, line for line.
func TestEveryCaddyfileInADocumentIsTested(t *testing.T) {
	tested := testedCaddyfiles(t)
	seen := 0
	for _, document := range documents(t) {
		content, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range fenced(string(content)) {
			seen++
			if !block.tagged {
				t.Errorf("%s:%d: a Caddyfile without its name: write ```caddyfile", document, block.line)
			}
			if !containedInAny(block.text, tested) {
				t.Errorf("%s:%d: this is in no example's Caddyfile and in no golden file, so nothing tests it:\n%s", document, block.line, block.text)
			}
		}
	}
	if seen == 0 {
		t.Error("no document shows a Caddyfile: is this looking in the right place?")
	}
}

// testedCaddyfiles are the Caddyfiles that tests run: those of the examples,
// and the golden files that adapt.
func testedCaddyfiles(t *testing.T) []string {
	t.Helper()
	var texts []string
	for _, pattern := range []string{
		"*/Caddyfile", root + "/caddyfile/testdata/*.caddyfiletest", root + "/plugin/testdata/*.caddyfiletest",
	} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			t.Fatalf("nothing at %s: %v", pattern, err)
		}
		for _, path := range paths {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			text, _, _ := strings.Cut(string(content), "\n----------\n")
			texts = append(texts, text)
		}
	}
	return texts
}

// documents are the repository's; what its tools installed is not.
func documents(t *testing.T) []string {
	t.Helper()
	var paths []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "node_modules" || path == filepath.Join(root, "bin")) {
			return fs.SkipDir
		}
		if !entry.IsDir() && strings.EqualFold(filepath.Ext(path), ".md") {
			paths = append(paths, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// block is a Caddyfile in a document.
type block struct {
	line   int
	tagged bool
	text   string
}

var (
	fence = regexp.MustCompile("^\\s*(?:```|~~~)\\s*(\\w*)")
	// ours is a line that only a Caddyfile with a login holds.
	ours = regexp.MustCompile(`(?m)^\s*(?:login(?: [\w ]+)?(?: \{)?|allow [^\n]+)$`)
)

// fenced are the blocks of a document that are Caddyfiles, by their name or by
// what they hold.
func fenced(document string) []block {
	var blocks []block
	var open *block
	var lines []string
	var language string
	for i, line := range strings.Split(document, "\n") {
		match := fence.FindStringSubmatch(line)
		switch {
		case match != nil && open == nil:
			open, lines, language = &block{line: i + 1}, nil, strings.ToLower(match[1])
		case match != nil:
			open.text = strings.Join(lines, "\n")
			open.tagged = language == "caddyfile"
			if open.tagged || language == "caddy" || language == "" && ours.MatchString(open.text) {
				blocks = append(blocks, *open)
			}
			open = nil
		case open != nil:
			lines = append(lines, line)
		}
	}
	return blocks
}

func containedInAny(text string, tested []string) bool {
	want := dedent(text)
	if len(want) == 0 {
		return false
	}
	for _, other := range tested {
		lines := strings.Split(other, "\n")
		for i := 0; i+len(want) <= len(lines); i++ {
			if equal(want, dedent(strings.Join(lines[i:i+len(want)], "\n"))) {
				return true
			}
		}
	}
	return false
}

// dedent is the lines of text without the empty ones around them, and without
// the indentation that all have.
func dedent(text string) []string {
	text = strings.TrimRight(strings.TrimLeft(text, "\n"), " \t\n")
	if text == "" {
		return nil
	}
	lines := strings.Split(text, "\n")
	indent := lines[0][:len(lines[0])-len(strings.TrimLeft(lines[0], " \t"))]
	for i, line := range lines {
		lines[i] = strings.TrimPrefix(line, indent)
	}
	return lines
}

func equal(a, b []string) bool { return strings.Join(a, "\n") == strings.Join(b, "\n") }

func TestUntestedCaddyfileInADocumentIsFound(t *testing.T) {
	tested := []string{"app.example.com {\n\tlogin google {\n\t\tallow users\n\n\t\tallow anyone\n\t}\n}\n"}
	for text, want := range map[string]bool{
		"app.example.com {\n\tlogin google {\n\t\tallow users\n\n\t\tallow anyone\n\t}\n}": true,
		"login google {\n\tallow users\n\n\tallow anyone\n}":                               true,
		"   allow users\n\n   allow anyone":                                                true,
		"login google {\n\tallow users\n\tallow anyone\n}":                                 false,
		"login google {\n\tallow user":                                                     false,
		"login google {\n\t\tallow users":                                                  false,
		"allow nobody":                                                                     false,
		"":                                                                                 false,
	} {
		if got := containedInAny(text, tested); got != want {
			t.Errorf("%q is tested: %t", text, got)
		}
	}
}

func TestCaddyfileInADocumentIsRecognised(t *testing.T) {
	document := "```caddyfile\na\n```\ntext\n   ```caddyfile\n   b\n   ```\n```sh\nlogin google {\n```\n```\nlogin google {\n```\n```Caddyfile\nc\n```\n```\nplain\n```\n"
	want := []block{{1, true, "a"}, {5, true, "   b"}, {11, false, "login google {"}, {14, true, "c"}}
	got := fenced(document)
	if len(got) != len(want) {
		t.Fatalf("found %v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("found %v, want %v", got[i], want[i])
		}
	}
}
