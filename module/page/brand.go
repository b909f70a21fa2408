package page

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// Branding is how an operator wants the pages and the mail.
type Branding struct {
	// Base, Title and Language are those of Pages.
	Base, Title, Language string

	// Accent is the colour of buttons and marks, #rgb or #rrggbb. What is
	// written on it is black or white, whichever can be told better. Empty: ours.
	Accent string

	// Logo is an SVG, PNG, JPEG or WebP of at most 256 KiB that stands before
	// the title. Empty: the title's first letter.
	Logo []byte

	// Style is a stylesheet of at most 256 KiB that comes after ours. What it
	// loads must be of this site, and of CSS and pictures only the logo's kind:
	// the Content-Security-Policy stays as it is.
	Style []byte

	// Templates override ours by name: layout.html, parts.html, the body of a
	// page (choose.html, entercode.html, …), or a letter. They are html/template
	// and see what ours do; no page lets a script or a style of their own run.
	// nil: ours.
	Templates fs.FS
}

// maxAsset bounds logo, style and each template, in bytes.
const maxAsset = 256 << 10

// New makes the pages of a brand. It draws every page once, so that a template
// that can't be drawn fails here. Its errors say what to write instead; those
// of templates name file and line.
func New(b Branding) (*Pages, error) {
	p := &Pages{Title: b.Title, Base: b.Base, Language: b.Language}
	if b.Language != "" {
		if err := spoken.check(b.Language); err != nil {
			return nil, err
		}
	}
	if err := p.brand.dress(b); err != nil {
		return nil, err
	}
	if b.Templates == nil {
		return p, nil
	}
	own, err := ownTemplates(b.Templates)
	if err != nil {
		return nil, err
	}
	p.templates = own
	if err := p.rehearse(); err != nil {
		return nil, err
	}
	return p, nil
}

// brand is a Branding as it is served and drawn. The zero value is ours.
type brand struct {
	accent   *palette
	style    []byte // accent and the operator's own
	logo     []byte
	logoType string
	// Where style and logo are, below Base; empty where there is none.
	stylePath, logoPath string
}

func (d *brand) dress(b Branding) error {
	var err error
	if b.Accent != "" {
		if d.accent, err = newPalette(b.Accent); err != nil {
			return err
		}
		d.style = []byte(d.accent.css())
	}
	if len(b.Style) > maxAsset || !utf8.Valid(b.Style) {
		return fmt.Errorf("style of %d bytes: write a stylesheet in UTF-8 of at most %d", len(b.Style), maxAsset)
	}
	if d.style = append(d.style, b.Style...); len(d.style) > 0 {
		d.stylePath = assetPath(d.style, ".css")
	}
	if len(b.Logo) > 0 {
		return d.show(b.Logo)
	}
	return nil
}

func (d *brand) show(logo []byte) error {
	contentType, suffix, err := pictureType(logo)
	if err != nil {
		return err
	}
	d.logo, d.logoType, d.logoPath = logo, contentType, assetPath(logo, suffix)
	return nil
}

var errPicture = errors.New("logo: use an SVG, PNG, JPEG or WebP of at most 256 KiB")

// pictureType is what a picture is by its own first bytes: a name can lie, and
// whatever else is served below our address is a door into it.
func pictureType(picture []byte) (contentType, suffix string, err error) {
	if len(picture) > maxAsset {
		return "", "", fmt.Errorf("%w: this one has %d KiB", errPicture, len(picture)>>10)
	}
	suffixes := map[string]string{"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}
	contentType = http.DetectContentType(picture)
	if suffix, ok := suffixes[contentType]; ok {
		return contentType, suffix, nil
	}
	if isSVG(picture) {
		return "image/svg+xml", ".svg", nil
	}
	return "", "", errPicture
}

// isSVG reports whether a document is well-formed and its root is SVG's.
func isSVG(document []byte) bool {
	d := xml.NewDecoder(bytes.NewReader(document))
	root := ""
	for {
		token, err := d.Token()
		if err != nil {
			return errors.Is(err, io.EOF) && root == "http://www.w3.org/2000/svg svg"
		}
		if start, ok := token.(xml.StartElement); ok && root == "" {
			root = start.Name.Space + " " + start.Name.Local
		}
	}
}

// ownTemplates are ours with those of files in their place.
func ownTemplates(files fs.FS) (map[string]*template.Template, error) {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, fmt.Errorf("reading templates: %w", err)
	}
	names := append(slices.Sorted(maps.Values(bodies)), layoutFile, partsFile)
	names = append(names, slices.Sorted(maps.Values(letters))...)
	own := map[string]bool{}
	for _, entry := range entries {
		if !slices.Contains(names, entry.Name()) {
			return nil, fmt.Errorf("unknown template %q (templates: %s)", entry.Name(), strings.Join(names, ", "))
		}
		own[entry.Name()] = true
	}
	return parse(func(name string) ([]byte, error) {
		if own[name] {
			return readOwn(files, name)
		}
		return fs.ReadFile(htmlFiles, path.Join("html", name))
	})
}

// readOwn reads no more than a template may have.
func readOwn(files fs.FS, name string) ([]byte, error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, fmt.Errorf("opening: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxAsset+1))
	if err == nil && len(text) > maxAsset {
		err = fmt.Errorf("more than %d bytes", maxAsset)
	}
	return text, err
}

// rehearse draws everything once and returns what failed first.
func (p *Pages) rehearse() error {
	var failed []error
	stage := *p
	stage.broke = func(err error) { failed = append(failed, err) }
	r := &http.Request{Method: http.MethodGet, Host: "app.example.com", URL: &url.URL{Path: "/"}, Header: http.Header{}}
	for _, draw := range stage.samples() {
		draw(void{}, r)
	}
	stage.sampleLetters()
	stage.sampleNotices()
	if len(failed) > 0 {
		return failed[0]
	}
	return nil
}

// void takes an answer that nobody reads.
type void struct{}

func (void) Header() http.Header            { return http.Header{} }
func (void) Write(body []byte) (int, error) { return len(body), nil }
func (void) WriteHeader(int)                {}
