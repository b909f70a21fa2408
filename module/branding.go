package module

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/caddy-login/caddy-login/module/page"
)

// maxBranding bounds a file that is read for the pages: somewhat more than any
// of them may have, so that the pages say what is too long.
const maxBranding = 1 << 20

// open makes the pages of a site from the files that its operator named.
func (s PagesSettings) open() (*page.Pages, error) {
	branding := page.Branding{Base: s.Path, Title: s.Title, Language: s.Language}
	if s.Accent != "" {
		branding.Accent = "#" + strings.TrimPrefix(s.Accent, "#")
	}
	var err error
	if branding.Logo, err = readBranding("logo", s.Logo); err != nil {
		return nil, err
	}
	if branding.Style, err = readBranding("style", s.Style); err != nil {
		return nil, err
	}
	if s.Templates != "" {
		branding.Templates = os.DirFS(s.Templates)
	}
	pages, err := page.New(branding)
	if err != nil {
		return nil, fmt.Errorf("pages: %w", err)
	}
	return pages, nil
}

func readBranding(word, name string) ([]byte, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("pages %s: %w: name a file that Caddy may read", word, err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxBranding))
	if err != nil {
		return nil, fmt.Errorf("pages %s: %w", word, err)
	}
	return content, nil
}
