// Package page draws what a visitor sees: embedded HTML that needs no script,
// one stylesheet, the headers that protect both, the mail with a code, and the
// JSON problem that a program gets where a person would get a page. What it
// says stands below words, in one file for each language.
//
// It decides nothing. It trusts no text it is given, and checks every address
// it links to.
package page

import (
	"bytes"
	"cmp"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
)

// Pages renders the pages of one site. The zero value works, New makes one that
// looks like its operator's; it is safe for concurrent use as long as nobody
// changes it.
//
// Every page answers HEAD like GET. Headers that the caller has set before
// (Set-Cookie, Allow with MethodNotAllowed, Retry-After with TooMany) go out
// with the page. A page is written whole or not at all.
type Pages struct {
	// Title names what the person signs in to. Empty: the request's host.
	Title string
	// Base is the path below which the pages live. Empty: "/.login".
	Base string
	// Language is the BCP 47 tag of the one language spoken. Empty: the one of
	// each visitor's browser.
	Language string

	brand     brand
	templates map[string]*template.Template // nil: ours
	spoken    *shelf                        // nil: all we have
	broke     func(error)                   // hears of a template that failed; may be nil
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

// Choose is the sign-in page. Email, where it is not nil, is one more way.
type Choose struct {
	Buttons []Button
	Email   *EmailForm
	Note    Note
}

// EmailForm asks for an address to send a code to. It posts to Base+"/email"
// the fields "email" and "return".
type EmailForm struct {
	// Address is what the field holds: what the person typed before, or empty.
	Address string
	// Return is handed back as it is; whoever answers the form checks it.
	Return string
	// Invalid says that Address is none.
	Invalid bool
	// LastUsed marks the way that this browser took last, where no Button is.
	LastUsed bool
}

// Choose offers the ways to sign in, with status 200, or 422 where the address
// typed before is none.
func (p *Pages) Choose(w http.ResponseWriter, r *http.Request, c Choose) {
	v := p.view(r, "choose")
	v.Note = c.Note
	marked := false
	for _, b := range c.Buttons {
		b.LastUsed = b.LastUsed && !marked
		marked = marked || b.LastUsed
		v.Buttons = append(v.Buttons, v.way(b))
	}
	status := http.StatusOK
	if c.Email != nil {
		form := *c.Email
		form.Address = shorten(form.Address)
		form.LastUsed = form.LastUsed && !marked && len(v.Buttons) > 0
		v.Email = &form
	}
	if c.Email != nil && c.Email.Invalid {
		status = http.StatusUnprocessableEntity
	}
	v.write(w, r, status)
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

// The pages with our script let it run and ask us, and nothing else. It makes
// no markup, and trusted types keep it, and what might get into it, from that.
const scriptPolicy = "; script-src 'self'; connect-src 'self'; require-trusted-types-for 'script'; trusted-types 'none'"

func (v *view) policy() string {
	policy := contentSecurityPolicy
	if v.Logo != "" {
		policy = strings.Replace(policy, "img-src data:", "img-src 'self' data:", 1)
	}
	if v.Script != "" {
		policy += scriptPolicy
	}
	return policy
}

//go:embed html/*.html
var htmlFiles embed.FS

// bodies are the templates of the pages' bodies, by page.
var bodies = map[string]string{
	"choose":       "choose.html",
	"signed_in":    "signedin.html",
	"ask_sign_out": "asksignout.html",
	"signed_out":   "signedout.html",
	"not_admitted": "notadmitted.html",
	"trouble":      "trouble.html",
	"bounce":       "bounce.html",
	"enter_code":   "entercode.html",
	"follow_link":  "followlink.html",
	"other_device": "otherdevice.html",
	"stopped":      "stopped.html",
	"approved":     "approved.html",

	"confirm_link":   "confirmlink.html",
	"link_or_switch": "linkorswitch.html",
	"confirm_switch": "confirmswitch.html",
	"prove_owner":    "proveowner.html",
	"prove_address":  "proveaddress.html",
	"keep_account":   "keepaccount.html",
	"fresh":          "signinagain.html",
	"declined":       "declined.html",
	"let_app_in":     "letappin.html",

	"account":        "account.html",
	"activity":       "accountactivity.html",
	"delete_account": "accountdelete.html",
	"deleting":       "accountdeleting.html",
	"revert":         "accountrevert.html",
	"reverted":       "accountreverted.html",
}

// letters are the templates of the mail, by name.
var letters = map[string]string{"letter": "letter.html", "notice": "notice.html"}

// Every page has its layout and the parts that several share.
const (
	layoutFile = "layout.html"
	partsFile  = "parts.html"
)

// templates holds one set per page, the layout with the parts and the body of
// that page, and one per letter.
var templates = mustParse(htmlFiles)

// mustParse panics for what a test of ours finds first.
func mustParse(files fs.FS) map[string]*template.Template {
	own, err := fs.Sub(files, "html")
	if err != nil {
		panic(err)
	}
	sets, err := parse(func(name string) ([]byte, error) { return fs.ReadFile(own, name) })
	if err != nil {
		panic(err)
	}
	return sets
}

// parse makes the sets of what read returns. Its errors name file and line.
func parse(read func(name string) ([]byte, error)) (map[string]*template.Template, error) {
	sets := map[string]*template.Template{}
	for page, body := range bodies {
		set, err := parseSet(read, layoutFile, partsFile, body)
		if err != nil {
			return nil, err
		}
		sets[page] = set
	}
	for name, file := range letters {
		set, err := parseSet(read, file)
		if err != nil {
			return nil, err
		}
		sets[name] = set
	}
	return sets, nil
}

func parseSet(read func(name string) ([]byte, error), names ...string) (*template.Template, error) {
	set := template.New("").Funcs(template.FuncMap{"icon": icon})
	for _, name := range names {
		text, err := read(name)
		if err != nil {
			return nil, fmt.Errorf("reading template %s: %w", name, err)
		}
		if _, err := set.New(name).Parse(string(text)); err != nil {
			return nil, fmt.Errorf("parsing: %w", err)
		}
	}
	return set, nil
}

// write renders the page into memory first: a template that fails gives a
// plain 500, never half a page.
func (v *view) write(w http.ResponseWriter, r *http.Request, status int) {
	var page bytes.Buffer
	contentType := "text/html; charset=utf-8"
	if err := v.template.ExecuteTemplate(&page, "page", v); err != nil {
		v.tell(bodies[v.page], err)
		page.Reset()
		page.WriteString(strings.TrimSpace(v.Words["broken"]+" "+v.RequestID) + "\n")
		contentType, status = "text/plain; charset=utf-8", http.StatusInternalServerError
	}
	h := w.Header()
	protect(h)
	h.Set("Content-Security-Policy", v.policy())
	h.Set("Content-Language", v.Lang)
	if v.byBrowser {
		h.Add("Vary", "Accept-Language")
	}
	send(w, r, status, contentType, unbraced(page.Bytes()))
}

// unbraced is a page that is no template: an operator may have Caddy run all that
// a site answers as one, and a page shows what strangers wrote. To a browser it
// is the same.
func unbraced(page []byte) []byte {
	return bytes.ReplaceAll(page, []byte("{{"), []byte("&#123;&#123;"))
}

// tell says which file of templates failed, to whom it may concern.
func (v *view) tell(file string, err error) {
	if v.broke != nil {
		v.broke(fmt.Errorf("drawing %s: %w", file, err))
	}
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
