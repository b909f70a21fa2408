package page

import (
	"cmp"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// view is what the templates see. Every text in it is raw: html/template
// escapes it. Every address in it went through checked.
type view struct {
	language
	byBrowser bool   // the language is the visitor's, not the operator's
	page      string // by which it has its template and heading
	template  *template.Template
	broke     func(error)
	values    []string // placeholders of this page's own, and what stands there

	accent, ink       colour
	IconFill, IconInk string

	Site, SiteLetter   string
	Host, Provider     string
	Base, Home         string
	Stylesheet, Script string
	BrandStyle, Logo   string

	Heading, Mark string
	RequestID     string
	Refresh       string

	Account    *person
	Note       Note
	Buttons    []way
	Go, Return string
	What, Next string
	Links      []Link

	StillIn, AtProvider bool

	For    CodeFor
	Email  *EmailForm
	Enter  *EnterCode
	Follow *FollowLink
	Other  *OtherDevice
	Letter *letter

	Question *question
	Notice   *notice
	Own      *own
}

// view begins a page by its name, which selects its template and heading.
func (p *Pages) view(r *http.Request, name string) *view {
	v := p.leaf(r.Header.Get("Accept-Language"), r.Host)
	v.page, v.template = name, p.set(name)
	v.Heading = v.say(name + ".title")
	return v
}

// leaf is what a page and a letter have in common.
func (p *Pages) leaf(wish, host string) *view {
	v := &view{language: p.shelf().choose(cmp.Or(p.Language, wish)), byBrowser: p.Language == "", broke: p.broke}
	v.Host = cmp.Or(host, v.Words["host"])
	v.Site = cmp.Or(strings.TrimSpace(p.Title), v.Host)
	v.SiteLetter = initial(v.Site)
	v.Provider = v.Words["provider"]
	v.Base = p.base()
	v.Home = v.Base + "/"
	v.Stylesheet = v.Base + StylesheetPath
	v.BrandStyle, v.Logo = v.asset(p.brand.stylePath), v.asset(p.brand.logoPath)
	v.accent, v.ink = p.brand.colours()
	v.IconFill, v.IconInk = v.accent.hex(), v.ink.hex()
	return v
}

// asset is the address of a path below Base, or empty where there is none.
func (v *view) asset(path string) string {
	if path == "" {
		return ""
	}
	return v.Base + path
}

func (p *Pages) shelf() *shelf {
	if p.spoken == nil {
		return spoken
	}
	return p.spoken
}

// set is the templates of a page.
func (p *Pages) set(name string) *template.Template {
	if p.templates == nil {
		return templates[name]
	}
	return p.templates[name]
}

// Say is the sentence of that name in the page's language. A missing one is
// an error, so that no page goes out with a hole.
func (v *view) Say(name string) (string, error) {
	return v.language.say(name, v.places())
}

// Count is Say of a sentence about n things, in the plural form of n.
func (v *view) Count(name string, n int) (string, error) {
	return v.count(name, n, v.places())
}

// places are the placeholders and what stands there.
func (v *view) places() []string {
	return append([]string{"{site}", v.isolate(v.Site), "{host}", v.isolate(v.Host), "{provider}", v.isolate(v.Provider)}, v.values...)
}

// say is Say where every name is known to a test; some pages fill their
// heading later.
func (v *view) say(name string) string {
	words, _ := v.Say(name)
	return words
}

// way is a Button as drawn.
type way struct {
	Text, Href, Style, Icon, Letter string
	LastUsed                        bool
}

// way gives a button its words and looks. A brand we cannot draw faithfully
// gets a monogram, or a key where the label has no letter.
func (v *view) way(b Button) way {
	w := way{Href: checked(b.Href, v.Home), Icon: b.Brand, LastUsed: b.LastUsed}
	w.Text = v.Words["sign_in"]
	if b.Label != "" {
		w.Text = strings.ReplaceAll(v.Words["sign_in_with"], "{provider}", v.isolate(b.Label))
	}
	if !brands[b.Brand] {
		w.Icon, w.Letter = "", initial(b.Label)
	}
	if w.Icon == "" && w.Letter == "" {
		w.Icon = "key"
	}
	w.Style = w.Icon
	return w
}

// person is an Account as drawn.
type person struct{ Initials, First, Second string }

// personOf is nil where nothing is known about the account.
func personOf(a Account) *person {
	name, email := shorten(a.Name), shorten(a.Email)
	switch {
	case name == "" && email == "":
		return nil
	case name == "" || name == email:
		return &person{Initials: initial(email), First: email}
	}
	return &person{Initials: initials(name), First: name, Second: email}
}

// longest is how many characters of a name are drawn: as long as an address
// can be, so that two accounts never look alike for being cut.
const longest = 254

func shorten(s string) string {
	runes := []rune(strings.TrimSpace(s))
	if len(runes) <= longest {
		return string(runes)
	}
	return string(runes[:longest]) + "…"
}

// initials are the first letters of the first and the last word.
func initials(name string) string {
	words := strings.Fields(name)
	if len(words) < 2 {
		return initial(name)
	}
	return initial(words[0]) + initial(words[len(words)-1])
}

// initial is the first character, if it is a letter or digit. Anything else
// (an emoji, a combining mark) would be half a sign.
func initial(s string) string {
	first, _ := utf8.DecodeRuneInString(s)
	if !unicode.IsLetter(first) && !unicode.IsDigit(first) {
		return ""
	}
	return string(unicode.ToUpper(first))
}

// checked returns href if it is a path of this site or an http(s) address of
// another, else otherwise. "//host" and "/\host" are other hosts in the
// disguise of a path; control characters and spaces are dropped by browsers
// and may hide either; userinfo makes one host look like another.
func checked(href, otherwise string) string {
	if strings.ContainsFunc(href, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\\' }) {
		return otherwise
	}
	if strings.HasPrefix(href, "/") && !strings.HasPrefix(href, "//") {
		return href
	}
	u, err := url.Parse(href)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
		return otherwise
	}
	return href
}

//go:embed icons/*.svg
var iconFiles embed.FS

// brands are the icons that belong to a provider. Not among them, and so with
// a monogram: slack ("do not re-create" its logo, says its brand guide), gitlab
// (its trademark guidelines lend the name, not the logo), amazon (its own button
// unaltered, or none) and bitbucket (whose rules we have not seen).
var brands = map[string]bool{
	"apple": true, "discord": true, "email": true, "facebook": true, "github": true,
	"google": true, "linkedin": true, "microsoft": true, "okta": true, "spotify": true, "twitch": true, "x": true,
}

// icon is an SVG of ours, drawn in the page so that it needs no request and
// takes the text's colour.
func icon(name string) (template.HTML, error) {
	svg, err := iconFiles.ReadFile("icons/" + name + ".svg")
	if err != nil {
		return "", fmt.Errorf("drawing icon: %w", err)
	}
	return template.HTML(strings.TrimSpace(string(svg))), nil
}
