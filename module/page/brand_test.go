package page

import (
	"bytes"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/chromedp/chromedp"
)

const svg = `<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 60 20"><rect width="60" height="20" fill="#0a7"/></svg>`

func pictures(t *testing.T) map[string][]byte {
	t.Helper()
	var p, j bytes.Buffer
	dot := image.NewRGBA(image.Rect(0, 0, 2, 2))
	if err := png.Encode(&p, dot); err != nil {
		t.Fatal(err)
	}
	if err := jpeg.Encode(&j, dot, nil); err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"image/svg+xml": []byte(svg), "image/png": p.Bytes(), "image/jpeg": j.Bytes(),
		"image/webp": []byte("RIFF\x1a\x00\x00\x00WEBPVP8L\x0d\x00\x00\x00\x2f\x00\x00\x00\x10\x07\x10\x11\x11\x88\x88\xfe\x07\x00"),
	}
}

func TestLogoIsServedAsWhatItIs(t *testing.T) {
	for contentType, logo := range pictures(t) {
		p, err := New(Branding{Logo: logo})
		if err != nil {
			t.Errorf("%s: %v", contentType, err)
			continue
		}
		page := ask("GET", func(w http.ResponseWriter, r *http.Request) { p.Choose(w, r, Choose{}) })
		src := attr(elements(parsed(t, page.Body.String()), "img")[0], "src")
		path, below := strings.CutPrefix(src, "/.login")
		serve := p.Asset(path)
		if !below || serve == nil {
			t.Fatalf("%s: nothing serves %q", contentType, src)
		}
		got := ask("GET", serve)
		h := got.Header()
		if got.Code != 200 || h.Get("Content-Type") != contentType || !bytes.Equal(got.Body.Bytes(), logo) {
			t.Errorf("%s: %d %v", contentType, got.Code, h)
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") || !strings.Contains(h.Get("Content-Security-Policy"), "sandbox") {
			t.Errorf("%s: headers %v", contentType, h)
		}
		if csp := page.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "img-src 'self' data:;") {
			t.Errorf("%s: the page may not show it: %s", contentType, csp)
		}
	}
}

func TestWhatIsNoPictureIsNoLogo(t *testing.T) {
	for name, logo := range map[string][]byte{
		"HTML": []byte("<!doctype html><script>alert(1)</script>"), "text": []byte("logo.png"), "GIF": []byte("GIF89a\x01\x00\x01\x00"), "one byte": {0},
		"XHTML": []byte(`<html xmlns="http://www.w3.org/1999/xhtml"/>`), "SVG without its name": []byte(`<svg/>`), "half an SVG": []byte(svg[:60]),
		"SVG after HTML": []byte("<html>" + svg + "</html>"), "too large": append([]byte(svg), bytes.Repeat([]byte(" "), maxAsset)...),
	} {
		if _, err := New(Branding{Logo: logo}); err == nil || !strings.Contains(err.Error(), "use an SVG, PNG, JPEG or WebP of at most 256 KiB") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNoLogoIsNotFound(t *testing.T) {
	if got := ask("GET", (&Pages{}).Logo); got.Code != 404 {
		t.Errorf("%d", got.Code)
	}
}

func TestAssetsAreOursAlone(t *testing.T) {
	p, err := New(Branding{Logo: []byte(svg), Accent: "#123", Style: []byte("h1 { font-style: italic }")})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{StylesheetPath, ScriptPath, p.brand.stylePath, p.brand.logoPath} {
		if serve := p.Asset(path); serve == nil || ask("GET", serve).Header().Get("Cache-Control") != "public, max-age=31536000, immutable" {
			t.Errorf("%s is not kept", path)
		}
	}
	for _, path := range []string{"", "/", "/assets/", "/assets/x.css", "/assets/../style.css", p.brand.logoPath + "/", "/code"} {
		if p.Asset(path) != nil || (&Pages{}).Asset(path) != nil {
			t.Errorf("%q is an asset", path)
		}
	}
}

func TestOwnStyleComesAfterOurs(t *testing.T) {
	p, err := New(Branding{Accent: "#fd0", Style: []byte("h1 { font-style: italic }")})
	if err != nil {
		t.Fatal(err)
	}
	page := ask("GET", func(w http.ResponseWriter, r *http.Request) { p.Choose(w, r, Choose{}) })
	var sheets []string
	for _, link := range elements(parsed(t, page.Body.String()), "link") {
		if attr(link, "rel") == "stylesheet" {
			sheets = append(sheets, attr(link, "href"))
		}
	}
	if len(sheets) != 2 || sheets[0] != "/.login"+StylesheetPath {
		t.Fatalf("stylesheets %q", sheets)
	}
	own := ask("GET", p.Asset(strings.TrimPrefix(sheets[1], "/.login")))
	if css := own.Body.String(); own.Header().Get("Content-Type") != "text/css; charset=utf-8" || !strings.Contains(css, "--accent: #ffdd00;") || !strings.HasSuffix(css, "h1 { font-style: italic }") {
		t.Errorf("%v %s", own.Header(), css)
	}
	for _, bad := range [][]byte{[]byte("\xff\xfe"), bytes.Repeat([]byte(" "), maxAsset+1)} {
		if _, err := New(Branding{Style: bad}); err == nil || !strings.Contains(err.Error(), "write a stylesheet in UTF-8 of at most") {
			t.Errorf("%v", err)
		}
	}
}

func TestAccentIsAColour(t *testing.T) {
	for text, want := range map[string]string{"#fd0": "#ffdd00", "#2B4ACB": "#2b4acb", "#000": "#000000"} {
		if got, err := parseColour(text); err != nil || got.String() != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for _, bad := range []string{"red", "#ff", "fd0", "#ggg", "#12345", "#1234567", "#", "rgb(1,2,3)", "#fd0;}*{}", "##fd", "#é0"} {
		if _, err := New(Branding{Accent: bad}); err == nil || !strings.Contains(err.Error(), "write a colour like #2b4acb") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestAnyAccentCanBeRead holds what becomes of a brand's colour against WCAG,
// as TestColoursThatMeetCanBeTold does ours.
func TestAnyAccentCanBeRead(t *testing.T) {
	accents := []string{"#000000", "#ffffff", "#777777", "#767676", "#ffff00", "#0000ff", "#ff0000", "#00ff00", "#171a21", "#eef0f5", "#0c0e12"}
	chance := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		accents = append(accents, fmt.Sprintf("#%06x", chance.IntN(1<<24)))
	}
	ours := schemes(t)
	for _, accent := range accents {
		p, err := newPalette(accent)
		if err != nil {
			t.Fatal(err)
		}
		for _, pair := range []struct {
			front, back string
			least       float64
		}{
			{p.ink.String(), p.accent.String(), 4.5}, {p.ink.String(), p.hover.String(), 4.5},
			{p.lightEdge.String(), ours["light"]["card"], 3}, {p.lightEdge.String(), ours["light"]["page"], 3},
			{p.darkEdge.String(), ours["dark"]["card"], 3}, {p.darkEdge.String(), ours["dark"]["page"], 3},
		} {
			if got := contrast(t, pair.front, pair.back); got < pair.least {
				t.Errorf("%s: %s on %s is %.2f, want %.1f", accent, pair.front, pair.back, got, pair.least)
			}
		}
		if p.hover == p.accent {
			t.Errorf("%s: hovering changes nothing", accent)
		}
	}
}

// TestGroundsAreThoseOfTheStylesheet: colour.go and style.css say them both.
func TestGroundsAreThoseOfTheStylesheet(t *testing.T) {
	ours := schemes(t)
	for scheme, grounds := range map[string][]colour{"light": lightGrounds, "dark": darkGrounds} {
		if grounds[0].String() != ours[scheme]["card"] || grounds[1].String() != ours[scheme]["page"] {
			t.Errorf("%s: %v, the stylesheet has %s and %s", scheme, grounds, ours[scheme]["card"], ours[scheme]["page"])
		}
	}
	if ownAccent.String() != ours["light"]["accent"] {
		t.Errorf("our accent is %s, in the stylesheet %s", ownAccent, ours["light"]["accent"])
	}
}

func TestOwnTemplatesReplaceOurs(t *testing.T) {
	p, err := New(Branding{Title: "Acme", Templates: fstest.MapFS{
		"stopped.html": {Data: []byte(`{{define "body"}}<p id="own">{{.Say "stopped.lead"}} {{.Site}}</p>{{end}}`)},
		"letter.html":  {Data: []byte(`{{define "letter"}}<p>{{.Letter.Code}}{{end}}`)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	own := ask("GET", func(w http.ResponseWriter, r *http.Request) { p.Stopped(w, r, Stopped{}) })
	if !strings.Contains(own.Body.String(), `<p id="own">The code and the link in that mail no longer work. Acme</p>`) {
		t.Error(own.Body)
	}
	ours := ask("GET", func(w http.ResponseWriter, r *http.Request) { p.Approved(w, r, Approved{}) })
	if !strings.Contains(ours.Body.String(), "Go back to where you began") {
		t.Error(ours.Body)
	}
	if got := p.CodeLetter(usualLetter).HTML; got != "<p>048291" {
		t.Errorf("letter %q", got)
	}
}

func TestTemplatesThatCannotBeDrawnAreRefused(t *testing.T) {
	for want, files := range map[string]fstest.MapFS{
		`unknown template "chose.html" (templates: account.html, accountactivity.html`: {"chose.html": {}},
		"trouble.html:2: function \"shout\" not defined":                               {"trouble.html": {Data: []byte("{{define \"body\"}}\n{{shout}}{{end}}")}},
		"choose.html:3": {"choose.html": {Data: []byte("{{define \"body\"}}\n\n{{.Nothing}}{{end}}")}},
		`choose.html:1:19: executing "body" at <.Say>`: {"choose.html": {Data: []byte(`{{define "body"}}{{.Say "no such words"}}{{end}}`)}},
		"unclosed action":                          {"layout.html": {Data: []byte("{{define \"page\"}}{{")}},
		`"page" is undefined`:                      {"layout.html": {Data: []byte("nothing")}},
		`no such template "body"`:                  {"bounce.html": {Data: []byte("nothing")}},
		"otherdevice.html:1":                       {"otherdevice.html": {Data: []byte(`{{define "body"}}{{if eq .Other.Mode "match"}}{{.Other.Nothing}}{{end}}{{end}}`)}},
		"letter.html:1":                            {"letter.html": {Data: []byte(`{{define "letter"}}{{.Letter.Nothing}}{{end}}`)}},
		"stopped.html: more than 262144 bytes":     {"stopped.html": {Data: bytes.Repeat([]byte(" "), maxAsset+1)}},
		"drawing stopped.html: html/template:page": {"stopped.html": {Data: []byte(`{{define "body"}}<a href="{{end}}`)}},
	} {
		p, err := New(Branding{Templates: files})
		if err == nil || !strings.Contains(err.Error(), want) || p != nil {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestSamplesShowEveryPage: what is not drawn at load would fail before a
// visitor.
func TestSamplesShowEveryPage(t *testing.T) {
	for _, body := range bodies {
		files := fstest.MapFS{body: {Data: []byte(`{{define "body"}}{{.Nothing}}{{end}}`)}}
		if _, err := New(Branding{Templates: files}); err == nil || !strings.Contains(err.Error(), body+":1") {
			t.Errorf("%s is not drawn: %v", body, err)
		}
	}
}

// TestBrandInChromium draws what an operator may choose badly.
func TestBrandInChromium(t *testing.T) {
	b := openBrowser(t)
	for name, brand := range map[string]Branding{
		"pale": {Title: "Bakery", Accent: "#fff3a0"}, "deep": {Title: "Night", Accent: "#101018"}, "logo": {Title: "Acme", Accent: "#0a7", Logo: []byte(svg)},
	} {
		p, err := New(brand)
		if err != nil {
			t.Fatal(err)
		}
		site := serve(t, []drawn{
			{name + "-choose", 200, func(w http.ResponseWriter, r *http.Request) { p.Choose(w, r, Choose{Email: &EmailForm{}}) }},
			{name + "-code", 200, func(w http.ResponseWriter, r *http.Request) {
				p.EnterCode(w, r, EnterCode{Address: "ada@example.com", Digits: 6})
			}},
			{"/.login" + p.brand.stylePath, 200, p.ownStyle}, {"/.login" + p.brand.logoPath, 200, p.Logo},
		})
		for _, l := range looks[:4] {
			b.dress(t, l)
			for _, page := range []string{"-choose", "-code"} {
				b.do(t, chromedp.Navigate(site+"/"+name+page))
				for _, fault := range append(see(t, b, chromedp.Evaluate[[]string](measure)), b.heard()...) {
					t.Errorf("%s in %s: %s", name+page, l.name, fault)
				}
				b.photograph(t, "brand-"+name+page, l)
			}
		}
		b.sees(t, name, `getComputedStyle(document.querySelector(".primary")).backgroundColor.replace(/\s/g, "")`, rgb(p.brand.accent.accent))
		if len(brand.Logo) > 0 {
			b.sees(t, name, `String(document.querySelector("img.logo").naturalWidth > 0)`, "true")
		}
	}
}

func rgb(c colour) string { return fmt.Sprintf("rgb(%d,%d,%d)", c[0], c[1], c[2]) }
