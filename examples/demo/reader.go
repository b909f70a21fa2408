package main

import (
	"bytes"
	"crypto/rand"
	_ "embed"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed reader.html
var readerHTML string

var readerPage = template.Must(template.New("reader").Funcs(template.FuncMap{"pieces": pieces}).Parse(readerHTML))

// reader shows a mailbox, as a provider of mail would on its own site.
type reader struct {
	box *mailbox
	app string
}

// newReader is the site of a mailbox; app is the address of the demo app.
func newReader(box *mailbox, app string) http.Handler {
	d := &reader{box: box, app: app}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", d.list)
	mux.HandleFunc("GET /mail/{number}", d.open("html"))
	mux.HandleFunc("GET /mail/{number}/text", d.open("text"))
	mux.HandleFunc("GET /mail/{number}/html", d.frame)
	mux.HandleFunc("GET /events", d.events)
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/", d.missing)
	return onlyByItsName(mux)
}

// onlyByItsName keeps codes from a page elsewhere whose name was made to lead
// to this machine after it was loaded (DNS rebinding): its requests still name
// the host that the page came from.
func onlyByItsName(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isThisMachine(r.Host) {
			http.Error(w, "open the mailbox as http://localhost", http.StatusMisdirectedRequest)
			return
		}
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}

func isThisMachine(hostPort string) bool {
	u := url.URL{Host: hostPort}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// reading is what the page shows.
type reading struct {
	// Page is list, mail or missing; As is html or text.
	Page, As   string
	Nonce, App string
	Mails      []mail
	// Open is a mail of Mails, or nil.
	Open *mail
	// Last is the number of the newest mail, zero where there was none.
	Last int
}

// list shows the newest mail beside the list, where there is room.
func (d *reader) list(w http.ResponseWriter, _ *http.Request) {
	s := d.reading("list")
	if len(s.Mails) > 0 {
		s.Open = &s.Mails[0]
	}
	show(w, http.StatusOK, s)
}

func (d *reader) open(as string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s := d.reading("mail")
		s.As = as
		if s.Open = s.find(r.PathValue("number")); s.Open == nil {
			d.missing(w, r)
			return
		}
		show(w, http.StatusOK, s)
	}
}

func (d *reader) missing(w http.ResponseWriter, _ *http.Request) {
	show(w, http.StatusNotFound, d.reading("missing"))
}

// frame is the HTML of a mail, with nothing around it. The page is not of this
// site for the browser (sandbox), runs nothing and loads nothing, and its links
// open beside it.
func (d *reader) frame(w http.ResponseWriter, r *http.Request) {
	s := d.reading("mail")
	m := s.find(r.PathValue("number"))
	if m == nil {
		d.missing(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; "+
		"base-uri 'none'; form-action 'none'; frame-ancestors 'self'; img-src data:; style-src 'unsafe-inline'")
	fmt.Fprint(w, strings.Replace(m.HTML, "<head>", `<head><base target="_blank">`, 1))
}

func (d *reader) reading(page string) reading {
	s := reading{Page: page, As: "html", Nonce: rand.Text(), App: d.app, Mails: d.box.all()}
	if len(s.Mails) > 0 {
		s.Last = s.Mails[0].Number
	}
	return s
}

func (s reading) find(number string) *mail {
	n := slices.IndexFunc(s.Mails, func(m mail) bool { return strconv.Itoa(m.Number) == number })
	if n < 0 {
		return nil
	}
	return &s.Mails[n]
}

func show(w http.ResponseWriter, status int, s reading) {
	var b bytes.Buffer
	if err := readerPage.Execute(&b, s); err != nil {
		http.Error(w, fmt.Sprintf("making the page: %v", err), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; "+
		"frame-ancestors 'none'; style-src 'nonce-"+s.Nonce+"'; script-src 'nonce-"+s.Nonce+"'")
	w.WriteHeader(status)
	b.WriteTo(w)
}

// events tells the number of the last mail, now and whenever another comes.
func (d *reader) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	stream := http.NewResponseController(w)
	for {
		last, changed := d.box.state()
		fmt.Fprintf(w, "data: %d\n\n", last)
		if err := stream.Flush(); err != nil {
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

// piece is some text of a mail, or an address in it.
type piece struct {
	Text string
	Link bool
}

var address = regexp.MustCompile(`https?://[^\s<>"]+`)

// pieces are a mail's text with its addresses apart, as readers of mail have
// them.
func pieces(text string) (out []piece) {
	for {
		at := address.FindStringIndex(text)
		if at == nil {
			return append(out, piece{Text: text})
		}
		out = append(out, piece{Text: text[:at[0]]}, piece{Text: text[at[0]:at[1]], Link: true})
		text = text[at[1]:]
	}
}

// Clock is when a mail came, in short.
func (m mail) Clock() string { return m.At.Format(time.TimeOnly) }

// Day is when a mail came, in full.
func (m mail) Day() string { return m.At.Format("Monday, 2 January 2006, 15:04:05") }

// Initial stands for the address; those on file begin with ASCII.
func (m mail) Initial() string { return strings.ToUpper(m.To[:min(1, len(m.To))]) }
