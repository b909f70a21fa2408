// Package page draws what a visitor sees: embedded HTML that needs no script,
// one stylesheet, the headers that protect both, and the JSON problem that a
// program gets where a person would get a page.
//
// It decides nothing. It trusts no text it is given, and checks every address
// it links to.
package page

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Pages renders the pages of one site. The zero value works; it is safe for
// concurrent use as long as nobody changes it.
//
// Every page answers HEAD like GET. Headers that the caller has set before
// (Set-Cookie, Allow with MethodNotAllowed, Retry-After with TooMany) go out
// with the page. A page is written whole or not at all.
type Pages struct {
	// Title names what the person signs in to. Empty: the request's host.
	Title string
	// Base is the path below which the pages live. Empty: "/.login".
	Base string
}

// Account is how a page names the signed-in person. Any field may be empty.
// Picture is not loaded: it would tell another host who visits here, and the
// Content-Security-Policy forbids it. A page shows initials.
type Account struct{ Name, Email, Picture string }

// Link is one address to go on to.
type Link struct{ Label, Href string }

// Button is one way to sign in. Label is the provider's name as a person knows
// it ("Google"), Brand selects icon and style; an unknown one gets the label's
// first letter. LastUsed marks the way that this browser took last; of several so
// marked, the first is.
type Button struct {
	Label, Brand, Href string
	LastUsed           bool
}

// Note says why the person sees the sign-in page again.
type Note string

// The notes. The zero Note says nothing.
const (
	// JustSignedOut confirms a sign-out.
	JustSignedOut Note = "signed_out"
	// NotKept explains that a sign-in just succeeded, but the browser did not
	// send the session back.
	NotKept Note = "not_kept"
	// Switch invites to choose another account.
	Switch Note = "switch"
)

// Choose is the sign-in page.
type Choose struct {
	Buttons []Button
	Note    Note
}

// Choose offers the ways to sign in, with status 200.
func (p *Pages) Choose(w http.ResponseWriter, r *http.Request, c Choose) {
	v := p.view(r, "choose")
	v.Note = c.Note
	marked := false
	for _, b := range c.Buttons {
		b.LastUsed = b.LastUsed && !marked
		marked = marked || b.LastUsed
		v.Buttons = append(v.Buttons, v.way(b))
	}
	v.write(w, r, http.StatusOK)
}

// SignedIn is the sign-in page of somebody who is signed in already. Continue
// is where to go on; empty: "/".
type SignedIn struct {
	Account  Account
	Continue string
}

// SignedIn says who is signed in and offers to go on or to sign out, with
// status 200.
func (p *Pages) SignedIn(w http.ResponseWriter, r *http.Request, s SignedIn) {
	v := p.view(r, "signed_in")
	v.Account = personOf(s.Account)
	v.Go = checked(s.Continue, "/")
	v.write(w, r, http.StatusOK)
}

// AskSignOut asks before signing out. Return is handed back as the form's
// field "return"; whoever answers the form checks it.
type AskSignOut struct {
	Account Account
	Return  string
}

// AskSignOut asks whether to sign out, with status 200. Its form posts to
// Base+"/logout".
func (p *Pages) AskSignOut(w http.ResponseWriter, r *http.Request, a AskSignOut) {
	v := p.view(r, "ask_sign_out")
	v.Account = personOf(a.Account)
	v.Return = a.Return
	v.write(w, r, http.StatusOK)
}

// SignedOut confirms a sign-out.
type SignedOut struct {
	// Again is where to sign in; empty: Base+"/".
	Again string
	// Provider is the name, as a person knows it, of who may still hold a
	// session of theirs. Empty: nobody does, or nobody knows.
	Provider string
	// AtProvider says that the session there was ended, too.
	AtProvider bool
}

// SignedOut says where the person is signed out and where perhaps not, with
// status 200. It never claims more than s does: on a shared computer whoever
// comes next goes in by the session that was left open.
func (p *Pages) SignedOut(w http.ResponseWriter, r *http.Request, s SignedOut) {
	v := p.view(r, "signed_out")
	v.StillIn = s.Provider != "" && !s.AtProvider
	v.AtProvider = s.AtProvider
	v.Provider = cmp.Or(s.Provider, v.Provider)
	if v.StillIn {
		v.Heading = v.say("signed_out.here")
	}
	v.Mark = "check"
	v.Go = checked(s.Again, v.Home)
	v.write(w, r, http.StatusOK)
}

// NotAdmitted turns away somebody who is signed in. Return is handed back as
// the form's field "return".
type NotAdmitted struct {
	Account   Account
	Return    string
	RequestID string
}

// NotAdmitted names the account and offers another, with status 403. Its form
// posts to Base+"/logout" with switch=1.
func (p *Pages) NotAdmitted(w http.ResponseWriter, r *http.Request, n NotAdmitted) {
	v := p.view(r, "not_admitted")
	v.Mark = "lock"
	v.Account = personOf(n.Account)
	v.Return = n.Return
	v.RequestID = n.RequestID
	v.write(w, r, http.StatusForbidden)
}

// Bounce moves the browser on to href, by itself and at once, from a page of
// this site: after a cross-site POST that came without our Lax cookies, and
// from the answer to a form of ours to another host, where Chromium would
// hold a redirect against form-action 'self'. Status 200; an href that is
// neither a path here nor http(s) gives the page of Internal instead.
func (p *Pages) Bounce(w http.ResponseWriter, r *http.Request, href string) {
	v := p.view(r, "bounce")
	v.Go = checked(href, "")
	if v.Go == "" {
		p.Trouble(w, r, Trouble{Kind: Internal})
		return
	}
	v.Refresh = v.Go
	v.write(w, r, http.StatusOK)
}

//go:embed style.css
var stylesheet []byte

// StylesheetPath is where, below Base, the pages expect Stylesheet to answer.
// It changes with the content, so that browsers may keep it for good.
var StylesheetPath = "/assets/" + fingerprint(stylesheet) + ".css"

func fingerprint(content []byte) string {
	sum := sha256.Sum256(content)
	return base64.RawURLEncoding.EncodeToString(sum[:9])
}

// Stylesheet serves the stylesheet, to be kept for a year.
func (p *Pages) Stylesheet(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	protect(h)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Content-Type", "text/css; charset=utf-8")
	h.Set("ETag", strconv.Quote(fingerprint(stylesheet)))
	// No time: an embedded file has no date, and the ETag says it all.
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(stylesheet))
}

// protect sets what every answer of ours carries.
func protect(h http.Header) {
	h.Set("Content-Security-Policy", contentSecurityPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	// A callback's address carries a code, so only the origin may go on. Not
	// no-referrer: forms would then be posted with "Origin: null", and we
	// could not tell our own from a stranger's.
	h.Set("Referrer-Policy", "strict-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	h.Set("Cache-Control", "no-store")
}

// No script, no frame, nothing from elsewhere. data: is the tab's icon, which
// a browser would otherwise ask of the app behind us.
const contentSecurityPolicy = "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

//go:embed html/*.html
var htmlFiles embed.FS

// templates holds one set per page: the layout with the body of that page.
var templates = map[string]*template.Template{
	"choose":       parse("choose.html"),
	"signed_in":    parse("signedin.html"),
	"ask_sign_out": parse("asksignout.html"),
	"signed_out":   parse("signedout.html"),
	"not_admitted": parse("notadmitted.html"),
	"trouble":      parse("trouble.html"),
	"bounce":       parse("bounce.html"),
}

func parse(body string) *template.Template {
	t := template.New(body).Funcs(template.FuncMap{"icon": icon})
	return template.Must(t.ParseFS(htmlFiles, "html/layout.html", "html/"+body))
}

// write renders the page into memory first: a template that fails gives a
// plain 500, never half a page.
func (v *view) write(w http.ResponseWriter, r *http.Request, status int) {
	var page bytes.Buffer
	contentType := "text/html; charset=utf-8"
	if err := v.template.ExecuteTemplate(&page, "page", v); err != nil {
		page.Reset()
		page.WriteString(strings.TrimSpace(v.Words["broken"]+" "+v.RequestID) + "\n")
		contentType, status = "text/plain; charset=utf-8", http.StatusInternalServerError
	}
	h := w.Header()
	protect(h)
	h.Set("Content-Language", v.Lang)
	send(w, r, status, contentType, page.Bytes())
}

// send writes a whole answer, or only its head to a HEAD request.
func send(w http.ResponseWriter, r *http.Request, status int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		// The only failure is a visitor who has left.
		_, _ = w.Write(body)
	}
}

func (p *Pages) base() string {
	return cmp.Or(strings.TrimRight(p.Base, "/"), "/.login")
}
