package e2e

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest/openapi"
)

// apiBase is where a site with the default settings has its API.
const apiBase = "/.login/api/v1"

// description is what module/openapi.json says.
var description = sync.OnceValues(func() (*openapi.Document, error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(filepath.Join(root, "module", "openapi.json"))
	if err != nil {
		return nil, err
	}
	return openapi.Parse(raw)
})

// heard is what answers of the API were of, in all tests of the process.
var heard = struct {
	sync.Mutex
	seen map[openapi.Seen]bool
}{seen: map[openapi.Seen]bool{}}

// Heard reports which answers of the API the tests have had so far.
func Heard() map[openapi.Seen]bool {
	heard.Lock()
	defer heard.Unlock()
	all := map[openapi.Seen]bool{}
	for seen := range heard.seen {
		all[seen] = true
	}
	return all
}

// Described is the document that answers of the API are held against.
func Described() (*openapi.Document, error) { return description() }

// Description is Described for a test.
func Description(t testing.TB) *openapi.Document {
	t.Helper()
	doc, err := description()
	if err != nil {
		t.Fatalf("reading the description of the API: %v", err)
	}
	return doc
}

// describe fails the test where an answer of the API is not described.
func describe(t testing.TB, r *http.Request, a Answer) {
	path, ours := strings.CutPrefix(r.URL.Path, apiBase)
	if !ours || path == "" || path[0] != '/' {
		return
	}
	doc, err := description()
	if err != nil {
		t.Errorf("reading the description of the API: %v", err)
		return
	}
	if r.URL.RawPath != "" {
		path = r.URL.EscapedPath() // another spelling is another path: none
	}
	seen, err := doc.Check(openapi.Exchange{
		Method: r.Method, Path: path, Type: r.Header.Get("Content-Type"), Body: bodyOf(r),
		Status: a.StatusCode, AnswerType: a.Header.Get("Content-Type"), Answer: []byte(a.Body),
	})
	if err != nil {
		t.Errorf("%s %s: %v", r.Method, r.URL, err)
		return
	}
	heard.Lock()
	defer heard.Unlock()
	heard.seen[seen] = true
}

// bodyOf is what was sent, nil where it can't be read again.
func bodyOf(r *http.Request) []byte {
	if r.GetBody == nil {
		return nil
	}
	body, err := r.GetBody()
	if err != nil {
		return nil
	}
	sent, err := io.ReadAll(body)
	if err != nil {
		return nil
	}
	return sent
}
