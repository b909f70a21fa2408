package main

import (
	"bytes"
	"cmp"
	"crypto/rand"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

//go:embed app.html
var appHTML string

var appPage = template.Must(template.New("app").Parse(appHTML))

// newApp is an app as there are many: it knows nothing of signing in and
// believes the headers it gets. That is safe because nobody but Caddy can
// reach it, and Caddy lets none of these headers through from outside. mailbox
// is where it links to for mail.
func newApp(mailbox string) http.Handler {
	page := func(name string, status int) http.HandlerFunc { return page(name, mailbox, status) }
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", page("home", http.StatusOK))
	mux.HandleFunc("GET /public/", page("public", http.StatusOK))
	mux.HandleFunc("GET /admin/", page("admin", http.StatusOK))
	mux.HandleFunc("GET /api/me", showMe)
	mux.HandleFunc("GET /events", streamTime)
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/", page("missing", http.StatusNotFound))
	return mux
}

// visitor is who the headers say this is.
type visitor struct {
	User   string   `json:"user"`
	Email  string   `json:"email"`
	Name   string   `json:"name"`
	Groups []string `json:"groups"`
	Roles  []string `json:"roles"`
}

func visitorOf(h http.Header) visitor {
	return visitor{
		User:   h.Get("Remote-User"),
		Email:  decoded(h.Get("Remote-Email")),
		Name:   decoded(h.Get("Remote-Name")),
		Groups: list(h.Get("Remote-Groups")),
		Roles:  list(h.Get("Remote-Roles")),
	}
}

// list splits first: a comma inside a name comes percent-encoded.
func list(value string) []string {
	out := []string{}
	for item := range strings.SplitSeq(value, ",") {
		if item != "" {
			out = append(out, decoded(item))
		}
	}
	return out
}

func decoded(value string) string {
	plain, err := url.PathUnescape(value)
	if err != nil {
		return value
	}
	return plain
}

// shown is what the page shows.
type shown struct {
	Page      string
	Mailbox   string
	Nonce     string
	Visitor   visitor
	Display   string
	Initial   string
	Identity  []header
	Assertion string
	All       []header
}

type header struct{ Name, Value string }

func page(name, mailbox string, status int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s := shownFor(name, r)
		s.Mailbox = mailbox
		var b bytes.Buffer
		if err := appPage.Execute(&b, s); err != nil {
			http.Error(w, fmt.Sprintf("making the page: %v", err), http.StatusInternalServerError)
			return
		}
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; "+
			"frame-ancestors 'none'; style-src 'nonce-"+s.Nonce+"'; script-src 'nonce-"+s.Nonce+"'")
		w.WriteHeader(status)
		b.WriteTo(w)
	}
}

func shownFor(name string, r *http.Request) shown {
	v := visitorOf(r.Header)
	display := cmp.Or(v.Name, v.Email, v.User)
	_, size := utf8.DecodeRuneInString(display)
	s := shown{
		Page: name, Nonce: rand.Text(), Visitor: v, Display: display, Initial: display[:size],
		Assertion: claimsOf(r.Header.Get("Remote-Assertion")),
		All:       []header{{"Host", r.Host}},
	}
	for name, values := range r.Header {
		s.All = append(s.All, header{name, strings.Join(values, "\n")})
	}
	slices.SortFunc(s.All, func(a, b header) int { return strings.Compare(a.Name, b.Name) })
	for _, h := range s.All {
		if strings.HasPrefix(h.Name, "Remote-") {
			s.Identity = append(s.Identity, h)
		}
	}
	return s
}

// claimsOf shows what the assertion says. An app that others can reach, too,
// would first check its signature against /.login/jwks.json.
func claimsOf(assertion string) string {
	parts := strings.Split(assertion, ".")
	if len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var b bytes.Buffer
	if json.Indent(&b, payload, "", "  ") != nil {
		return ""
	}
	return b.String()
}

func showMe(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	json.NewEncoder(w).Encode(visitorOf(r.Header))
}

// streamTime tells the time each second until the visitor, or Caddy, hangs up.
func streamTime(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	stream := http.NewResponseController(w)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for now := time.Now(); ; {
		fmt.Fprintf(w, "data: %s\n\n", now.Format(time.TimeOnly))
		if err := stream.Flush(); err != nil {
			return
		}
		select {
		case now = <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}
