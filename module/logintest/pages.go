package logintest

import (
	"bytes"
	"crypto/rand"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

//go:embed pages.html
var pagesHTML string

var pages = template.Must(template.New("").Parse(pagesHTML))

// view is what a page shows. Each page uses some of it.
type view struct {
	Title  string
	Nonce  string
	Text   string
	Client string
	Action string
	People []card
	Fields url.Values
}

// card is a person on the sign-in page.
type card struct {
	Subject, Name, Initial, Email, Mark, Groups string

	Current bool
}

func (i *Issuer) home(w http.ResponseWriter, _ *http.Request) {
	i.show(w, http.StatusOK, "home", view{Text: i.Issuer})
}

func (i *Issuer) showPeople(w http.ResponseWriter, req *request, current string) {
	i.mu.Lock()
	people := slices.Clone(i.people)
	i.mu.Unlock()
	v := view{Client: req.client.id, Action: i.path() + "/oauth/pick?" + req.params.Encode()}
	for _, p := range people {
		v.People = append(v.People, p.card(current))
	}
	i.show(w, http.StatusOK, "people", v)
}

func (p Person) card(current string) card {
	name := p.Name
	if name == "" {
		name = p.Subject
	}
	_, size := utf8.DecodeRuneInString(name)
	c := card{
		Subject: p.Subject,
		Name:    name,
		Initial: name[:size],
		Email:   p.Email,
		Groups:  strings.Join(p.Groups, ", "),
		Current: p.Subject == current,
	}
	if p.Email != "" && p.EmailVerified != true && p.EmailVerified != "true" {
		c.Mark = "not verified"
	}
	return c
}

func (i *Issuer) showFormPost(w http.ResponseWriter, action string, fields url.Values) {
	i.show(w, http.StatusOK, "form_post", view{Action: action, Fields: fields})
}

func (i *Issuer) showLogout(w http.ResponseWriter, p Person, form url.Values) {
	i.show(w, http.StatusOK, "logout", view{
		Text:   p.card("").Name,
		Action: i.path() + "/oauth/logout/confirm",
		Fields: form,
	})
}

func (i *Issuer) showSignedOut(w http.ResponseWriter) {
	i.show(w, http.StatusOK, "signed_out", view{})
}

func (i *Issuer) showError(w http.ResponseWriter, status int, text string) {
	i.show(w, status, "error", view{Text: text})
}

// show writes a page. Its policy does not limit form-action: browsers apply
// that to the redirects after a form, too, which lead to the client.
func (i *Issuer) show(w http.ResponseWriter, status int, name string, v view) {
	v.Title, v.Nonce = i.title(), rand.Text()
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, name, v); err != nil {
		http.Error(w, fmt.Sprintf("making page %s: %v", name, err), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; frame-ancestors 'none'; "+
		"style-src 'nonce-"+v.Nonce+"'; script-src 'nonce-"+v.Nonce+"'")
	h.Set("Referrer-Policy", "strict-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	b.WriteTo(w)
}
