package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/caddy-login/caddy-login/module/logintest/secrets"
)

// Visitor is a person with a very plain browser: cookies, forms, redirects
// one at a time, no JavaScript. Any host name leads to 127.0.0.1 and any
// certificate is trusted.
type Visitor struct {
	// Jar holds the cookies; a test may swap it.
	Jar *cookiejar.Jar

	// Transport is shared by all requests.
	Transport *http.Transport

	t testing.TB
}

// Answer is a response, read to its end.
type Answer struct {
	*http.Response
	Body string
}

// NewVisitor is somebody who speaks HTTP/1.1 and has no cookies.
func NewVisitor(t testing.TB) *Visitor {
	t.Helper()
	return newVisitor(t, false)
}

// NewHTTP2Visitor is a NewVisitor who speaks HTTP/2 with sites on https.
func NewHTTP2Visitor(t testing.TB) *Visitor {
	t.Helper()
	return newVisitor(t, true)
}

func newVisitor(t testing.TB, http2 bool) *Visitor {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetHTTP2(http2)
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, loopback(addr))
		},
		TLSClientConfig:       &tls.Config{InsecureSkipVerify: true}, // Caddy's own CA, made a moment ago
		Protocols:             protocols,
		DisableCompression:    true,
		ResponseHeaderTimeout: Patience,
	}
	t.Cleanup(transport.CloseIdleConnections)
	v := &Visitor{Transport: transport, t: t}
	v.ForgetCookies()
	return v
}

// ForgetCookies empties the jar.
func (v *Visitor) ForgetCookies() { v.Jar, _ = cookiejar.New(nil) }

// Another is a visitor with the same transport and no cookies.
func (v *Visitor) Another() *Visitor {
	other := &Visitor{Transport: v.Transport, t: v.t}
	other.ForgetCookies()
	return other
}

// Get navigates to address and returns the answer, also a redirect.
func (v *Visitor) Get(address string) Answer {
	v.t.Helper()
	return v.Do(v.Navigation(address))
}

// Navigation is a GET as a browser sends it for a click or a typed address.
func (v *Visitor) Navigation(address string) *http.Request {
	v.t.Helper()
	r := v.Request(http.MethodGet, address, "")
	r.Header.Set("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Sec-Fetch-Dest", "document")
	r.Header.Set("Sec-Fetch-Site", "none")
	return r
}

// Request is a bare request.
func (v *Visitor) Request(method, address, body string) *http.Request {
	v.t.Helper()
	r, err := http.NewRequest(method, address, strings.NewReader(body))
	if err != nil {
		v.t.Fatalf("asking for %q: %v", address, err)
	}
	if body == "" {
		r.Body, r.ContentLength = http.NoBody, 0
	}
	return r
}

// Do sends r with the visitor's cookies and keeps those it gets. It follows
// no redirect.
func (v *Visitor) Do(r *http.Request) Answer {
	v.t.Helper()
	answer, err := v.Try(r)
	if err != nil {
		v.t.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	return answer
}

// Try is Do for a request that may fail, also on many goroutines. What the API
// answers must be described: else the test fails.
func (v *Visitor) Try(r *http.Request) (Answer, error) {
	res, err := v.Stream(r)
	if err != nil {
		return Answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return Answer{}, fmt.Errorf("reading the answer: %w", err)
	}
	answer := Answer{Response: res, Body: string(body)}
	describe(v.t, r, answer)
	return answer, nil
}

// Stream is Try that leaves the body to be read and closed.
func (v *Visitor) Stream(r *http.Request) (*http.Response, error) {
	client := &http.Client{
		Transport:     v.Transport,
		Jar:           v.Jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Do(r)
	if err == nil {
		v.keep(res)
	}
	return res, err
}

// keep remembers what an answer gave this visitor alone.
func (v *Visitor) keep(res *http.Response) {
	for _, cookie := range res.Cookies() {
		secrets.Keep(v.t, cookie.Value)
	}
	secrets.KeepAddress(v.t, res.Header.Get("Location"))
}

// Follow navigates to address and follows redirects to their end.
func (v *Visitor) Follow(address string) Answer {
	v.t.Helper()
	return v.follow(v.Get(address))
}

// To is where a redirect leads; it fails the test if there is none.
func (v *Visitor) To(a Answer) string {
	v.t.Helper()
	to, err := a.Location()
	if err != nil {
		v.t.Fatalf("%s %s: %d is no redirect: %.500s", a.Request.Method, a.Request.URL, a.StatusCode, a.Body)
	}
	return to.String()
}

// SignIn opens address, says at the provider who it is, and returns where
// that ends.
func (v *Visitor) SignIn(address string, who Person) Answer {
	v.t.Helper()
	return v.follow(v.Get(v.UntilCallback(address, who)))
}

// UntilCallback is SignIn up to the answer of the provider: it returns the
// address of the callback, not yet visited. Not for form_post.
func (v *Visitor) UntilCallback(address string, who Person) string {
	v.t.Helper()
	return v.AnswerProvider(v.Follow(address), who)
}

// AnswerProvider says who it is on the provider's page and returns the
// address of the callback.
func (v *Visitor) AnswerProvider(at Answer, who Person) string {
	v.t.Helper()
	provider := at.Request.URL.Host
	if at.StatusCode != http.StatusOK || !strings.Contains(at.Body, "Who are you?") {
		v.t.Fatalf("%s is not the provider's page: %d %.1000s", at.Request.URL, at.StatusCode, at.Body)
	}
	answer := v.Submit(at, "person", who.Email)
	for range 10 {
		to := v.To(answer)
		if u, err := url.Parse(to); err == nil && u.Host != provider {
			return to
		}
		answer = v.Get(to)
	}
	v.t.Fatalf("the provider never answers")
	return ""
}

// Submit fills in the page's first form that has the named fields, and sends
// it. Pairs are name, value; a form without any of them is no match.
func (v *Visitor) Submit(page Answer, pairs ...string) Answer {
	v.t.Helper()
	for _, form := range formsOf(page.Body) {
		if form.fill(pairs) {
			return v.Do(v.submission(page, form))
		}
	}
	v.t.Fatalf("no form with %v on %s:\n%.3000s", pairs, page.Request.URL, page.Body)
	return Answer{}
}

// SubmitAll sends the page's only form as it is, as a script would.
func (v *Visitor) SubmitAll(page Answer) Answer {
	v.t.Helper()
	forms := formsOf(page.Body)
	if len(forms) != 1 {
		v.t.Fatalf("%d forms on %s:\n%.3000s", len(forms), page.Request.URL, page.Body)
	}
	return v.Do(v.submission(page, forms[0]))
}

// FollowOn follows redirects from an answer to their end.
func (v *Visitor) FollowOn(a Answer) Answer { v.t.Helper(); return v.follow(a) }

// Cookies are what the visitor would send to address, as `name=value`.
func (v *Visitor) Cookies(address string) []string {
	v.t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		v.t.Fatal(err)
	}
	var cookies []string
	for _, cookie := range v.Jar.Cookies(u) {
		cookies = append(cookies, cookie.Name+"="+cookie.Value)
	}
	return cookies
}

// Cookie is the value of the cookie name for address, or empty.
func (v *Visitor) Cookie(address, name string) string {
	v.t.Helper()
	for _, pair := range v.Cookies(address) {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			return value
		}
	}
	return ""
}

func (v *Visitor) follow(a Answer) Answer {
	v.t.Helper()
	for range 20 {
		if a.StatusCode < 300 || a.StatusCode > 399 {
			return a
		}
		a = v.Get(v.To(a))
	}
	v.t.Fatalf("redirects go on and on, last to %s", a.Request.URL)
	return Answer{}
}

func (v *Visitor) submission(page Answer, form form) *http.Request {
	v.t.Helper()
	target, err := page.Request.URL.Parse(form.action)
	if err != nil {
		v.t.Fatalf("reading the form's action: %v", err)
	}
	if form.method == http.MethodGet {
		target.RawQuery = form.fields.Encode()
		return v.Navigation(target.String())
	}
	r := v.Navigation(target.String())
	r.Method = http.MethodPost
	body := form.fields.Encode()
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", page.Request.URL.Scheme+"://"+page.Request.URL.Host)
	r.Header.Set("Sec-Fetch-Site", site(page.Request.URL, target))
	return r
}

func site(from, to *url.URL) string {
	if from.Scheme == to.Scheme && from.Host == to.Host {
		return "same-origin"
	}
	return "cross-site"
}

// form is what submitting an HTML form without touching it would send.
type form struct {
	method, action string
	fields         url.Values
}

// fill sets pairs of name and value, if the form has all of these fields.
func (f form) fill(pairs []string) bool {
	for i := 0; i+1 < len(pairs); i += 2 {
		if !f.fields.Has(pairs[i]) {
			return false
		}
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		f.fields.Set(pairs[i], pairs[i+1])
	}
	return true
}

// formsOf reads the forms of a page, with their inputs but not their named
// buttons.
func formsOf(body string) []form {
	root, err := html.Parse(bytes.NewReader([]byte(body)))
	if err != nil {
		return nil
	}
	var forms []form
	for n := range root.Descendants() {
		if n.Type != html.ElementNode || n.Data != "form" {
			continue
		}
		f := form{method: http.MethodGet, action: attr(n, "action"), fields: url.Values{}}
		if strings.EqualFold(attr(n, "method"), "post") {
			f.method = http.MethodPost
		}
		for input := range n.Descendants() {
			if input.Data == "input" && attr(input, "name") != "" {
				f.fields.Add(attr(input, "name"), attr(input, "value"))
			}
		}
		forms = append(forms, f)
	}
	return forms
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// loopback is addr with 127.0.0.1 for its host.
func loopback(addr string) string {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return net.JoinHostPort("127.0.0.1", port)
}
