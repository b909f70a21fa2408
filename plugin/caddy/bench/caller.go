package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// caller is somebody at a site, in a browser that was just opened: with no
// cookie, and a connection of its own.
type caller struct {
	site    *site
	subject string
	// from is their address. A network may come back from a provider so often.
	from    string
	browser *http.Client
	// wanders: follows what leads on within the site.
	wanders bool
	next    string            // where the browser is sent
	cookie  string            // the session's value
	id      string            // Remote-User
	told    map[string]string // what the app is told of them
	waits   bool              // for a mail
	code    string            // from their last mail
}

func newCaller(s *site, subject string, number int) (*caller, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	c := &caller{site: s, subject: subject, from: fmt.Sprintf("10.%d.%d.%d", number>>16&255, number>>8&255, number&255)}
	c.browser = &http.Client{Jar: jar, Timeout: 30 * time.Second, Transport: new(http.Transport),
		CheckRedirect: func(r *http.Request, _ []*http.Request) error {
			if c.wanders && r.URL.Host == s.address {
				return nil
			}
			return http.ErrUseLastResponse
		}}
	return c, nil
}

// send asks the site as a browser does that goes there.
func (c *caller) send(method, address string, form url.Values) (*http.Response, []byte, error) {
	r, err := http.NewRequest(method, address, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, nil, err
	}
	r.Header.Set("Accept", "text/html")
	r.Header.Set("X-Forwarded-For", c.from)
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", "http://"+c.site.address)
	}
	return answered(c.browser.Do(r))
}

func answered(res *http.Response, err error) (*http.Response, []byte, error) {
	if err != nil {
		return nil, nil, err
	}
	text, err := readAll(res)
	return res, text, err
}

func readAll(res *http.Response) ([]byte, error) {
	defer res.Body.Close()
	return io.ReadAll(io.LimitReader(res.Body, 1<<20))
}

// sentOn notes where an answer sends the browser: to an address that begins
// so, else it is an error.
func (c *caller) sentOn(beginning string, res *http.Response, text []byte, err error) error {
	if err != nil {
		return err
	}
	to, err := res.Location()
	if err != nil || !strings.HasPrefix(to.String(), beginning) {
		return fmt.Errorf("%s answered %s %.300s", res.Request.URL.Path, res.Status, text)
	}
	c.next = to.String()
	return nil
}

// callbackPath is where the provider sends a browser back to.
const callbackPath = "/.login/bench/callback"

// knock goes to a page, and by the gate to the provider.
func (c *caller) knock() error {
	c.wanders = true
	defer func() { c.wanders = false }()
	res, text, err := c.send(http.MethodGet, "http://"+c.site.address+echoPath, nil)
	return c.sentOn(c.site.issuer.URL, res, text, err)
}

// pick is the provider's part: the person says who they are.
func (c *caller) pick() error {
	to, err := url.Parse(c.next)
	if err != nil {
		return err
	}
	to.Path = "/oauth/pick"
	res, text, err := answered(c.site.stranger.PostForm(to.String(), url.Values{"subject": {c.subject}}))
	return c.sentOn("http://"+c.site.address+callbackPath+"?", res, text, err)
}

// comeBack brings the provider's answer.
func (c *caller) comeBack() error {
	res, text, err := c.send(http.MethodGet, c.next, nil)
	return c.sentOn("http://"+c.site.address+echoPath, res, text, err)
}

// land goes where the person wanted to be, and reads who they are to the app.
func (c *caller) land() error {
	res, text, err := c.send(http.MethodGet, c.next, nil)
	if err != nil {
		return err
	}
	var received http.Header
	if res.StatusCode != http.StatusOK || json.Unmarshal(text, &received) != nil {
		return fmt.Errorf("%s answered %s %.300s", echoPath, res.Status, text)
	}
	if c.id = received.Get("Remote-User"); c.id == "" {
		return errors.New("the app was not told who there is")
	}
	c.told = toldOf(received)
	for _, cookie := range c.browser.Jar.Cookies(res.Request.URL) {
		if cookie.Name == "login" {
			c.cookie = cookie.Value
		}
	}
	return nil
}

// clicks is how often a browse asks.
const clicks = 10

// browse asks for page after page.
func (c *caller) browse() error {
	for range clicks {
		if err := c.land(); err != nil {
			return err
		}
	}
	return nil
}

// leave signs out here.
func (c *caller) leave() error {
	res, text, err := c.send(http.MethodPost, "http://"+c.site.address+"/.login/logout", url.Values{})
	if err != nil {
		return err
	}
	elsewhere := regexp.MustCompile(regexp.QuoteMeta(c.site.issuer.URL) + `/oauth/logout\?[^"'\s]+`)
	c.next = elsewhere.FindString(html.UnescapeString(string(text)))
	if res.StatusCode != http.StatusOK || c.next == "" {
		return fmt.Errorf("signing out answered %s %.300s", res.Status, text)
	}
	return nil
}

// part is the provider's part of a sign-out.
func (c *caller) part() error {
	res, text, err := answered(c.site.stranger.Get(c.next))
	return c.sentOn("http://"+c.site.address+"/.login/logout?", res, text, err)
}

// gone reads the page that says so.
func (c *caller) gone() error {
	res, text, err := c.send(http.MethodGet, c.next, nil)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("coming back signed out answered %s %.300s", res.Status, text)
	}
	return err
}

// isOut reports an error where the session still works.
func (c *caller) isOut() error {
	r, err := http.NewRequest(http.MethodGet, "http://"+c.site.address+echoPath, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "text/html")
	r.Header.Set("Cookie", "login="+c.cookie)
	res, err := c.site.stranger.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if c.cookie == "" || res.StatusCode != http.StatusFound {
		return fmt.Errorf("after signing out the session answers %s", res.Status)
	}
	return nil
}
