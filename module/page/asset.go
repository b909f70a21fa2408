package page

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"net/http"
	"strconv"
	"time"
)

//go:embed style.css
var stylesheet []byte

//go:embed script.js
var script []byte

// Where, below Base, the pages expect Stylesheet and Script to answer. The
// paths change with the content, so that browsers may keep it for good.
var (
	StylesheetPath = assetPath(stylesheet, ".css")
	ScriptPath     = assetPath(script, ".js")
)

func assetPath(content []byte, suffix string) string {
	return "/assets/" + fingerprint(content) + suffix
}

func fingerprint(content []byte) string {
	sum := sha256.Sum256(content)
	return base64.RawURLEncoding.EncodeToString(sum[:9])
}

// Asset is what answers a path below Base: the stylesheet, the script, and the
// operator's own logo and style. It is nil for all other paths.
func (p *Pages) Asset(path string) func(http.ResponseWriter, *http.Request) {
	switch {
	case path == StylesheetPath:
		return p.Stylesheet
	case path == ScriptPath:
		return p.Script
	case path != "" && path == p.brand.stylePath:
		return p.ownStyle
	case path != "" && path == p.brand.logoPath:
		return p.Logo
	default:
		return nil
	}
}

// Stylesheet serves the stylesheet, to be kept for a year.
func (p *Pages) Stylesheet(w http.ResponseWriter, r *http.Request) {
	serveAsset(w, r, "text/css; charset=utf-8", stylesheet)
}

// Script serves the script, to be kept for a year.
func (p *Pages) Script(w http.ResponseWriter, r *http.Request) {
	serveAsset(w, r, "text/javascript; charset=utf-8", script)
}

// Logo serves the operator's logo, to be kept for a year; without one, 404.
// An SVG opened by itself is a page, which must not run anything as this site.
func (p *Pages) Logo(w http.ResponseWriter, r *http.Request) {
	if len(p.brand.logo) == 0 {
		p.Trouble(w, r, Trouble{Kind: NotFound})
		return
	}
	serveAsset(w, r, p.brand.logoType, p.brand.logo)
}

func (p *Pages) ownStyle(w http.ResponseWriter, r *http.Request) {
	serveAsset(w, r, "text/css; charset=utf-8", p.brand.style)
}

// assetPolicy is for who opens an asset by itself.
const assetPolicy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"

func serveAsset(w http.ResponseWriter, r *http.Request, contentType string, content []byte) {
	h := w.Header()
	protect(h)
	h.Set("Content-Security-Policy", assetPolicy)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Content-Type", contentType)
	h.Set("ETag", strconv.Quote(fingerprint(content)))
	// No time: an embedded file has no date, and the ETag says it all.
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}
