package logintest

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// SignIn walks an issuer's pages as the person would, from the address that
// the relying party sent the browser to, up to the address it is sent back to,
// which it does not open. form is what would be posted there, nil for a GET.
// An empty subject says no. c keeps the issuer's session if it has a cookie
// jar.
func (i *Issuer) SignIn(t testing.TB, c *http.Client, authURL, subject string) (callback *url.URL, form url.Values) {
	t.Helper()
	callback, form, err := walk(c, authURL, subject)
	if err != nil {
		t.Fatalf("signing in at the issuer: %v", err)
	}
	return callback, form
}

func walk(c *http.Client, authURL, subject string) (*url.URL, url.Values, error) {
	still := *c
	still.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	at, page, err := open(still.Get(authURL))
	if err != nil || page == nil {
		return at, nil, err
	}
	target, fields, err := page.form()
	if err != nil {
		return nil, nil, err
	}
	if !fields.Has("subject") {
		return target, fields, nil
	}
	at, page, err = open(still.PostForm(target.String(), url.Values{"subject": {subject}}))
	if err != nil || page == nil {
		return at, nil, err
	}
	return page.form()
}

// document is a page that was answered.
type document struct {
	address *url.URL
	root    *html.Node
}

// open reads an answer: where it redirects to, or the page it is.
func open(res *http.Response, err error) (*url.URL, *document, error) {
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 && res.StatusCode < 400 {
		at, err := res.Location()
		return at, nil, err
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return nil, nil, fmt.Errorf("reading page: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("status %d: %s", res.StatusCode, body)
	}
	root, err := html.Parse(strings.NewReader(string(body)))
	if err != nil {
		return nil, nil, fmt.Errorf("parsing page: %w", err)
	}
	return res.Request.URL, &document{res.Request.URL, root}, nil
}

// form is the page's first form: where it leads, and its fields and buttons.
func (d *document) form() (*url.URL, url.Values, error) {
	for node := range d.root.Descendants() {
		if node.Data != "form" {
			continue
		}
		target, err := d.address.Parse(attribute(node, "action"))
		return target, fields(node), err
	}
	return nil, nil, errors.New("the page has no form")
}

func fields(form *html.Node) url.Values {
	values := url.Values{}
	for node := range form.Descendants() {
		if name := attribute(node, "name"); name != "" {
			values.Add(name, attribute(node, "value"))
		}
	}
	return values
}

func attribute(node *html.Node, name string) string {
	for _, a := range node.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}
