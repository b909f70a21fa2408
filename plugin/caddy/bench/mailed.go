package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
)

// mailSite is one that people enter by email alone. Who is invited gets a code;
// who is not is told the same and gets none, at what must be the same cost.
const mailSite = `
	login email {
		mail bench_box
		signup invited
		role staff *@example.com
		allow *@example.com
	}
`

// Where those are at home who get a code, and those who get none.
const (
	invited   = "example.com"
	uninvited = "elsewhere.test"
)

// The occasions' names, as they are reported.
const (
	logInAsk       = "email, asking for a code"
	logInAskNone   = "email, asking, and no mail goes out"
	logInAskAgain  = "email, asking in a browser that it knows"
	logInPages     = "email, the page to ask and the one that waits"
	logInWrong     = "email, a wrong code"
	logInWrongNone = "email, a wrong code, no mail went out"
	logInCode      = "email, the right code, makes the user"
	logInCodeAgain = "email, the right code, return"
)

var (
	askFor  = []step{{0, (*caller).askFor, nil}}
	behold  = []step{{0, (*caller).seeDoor, nil}, {1, (*caller).await, nil}}
	mistype = []step{{1, (*caller).mistype, nil}}
	enter   = []step{{1, (*caller).enter, nil}, {2, (*caller).land, nil}}
)

// byMail are the occasions of one round at the sites with mail, in this order:
// each needs what was before. Only of who gets mail and who gets none either may
// be first.
func (l *lobby) byMail() []*occasion {
	ask := []*occasion{
		{logInAsk, l.mail, l.newcomers, askFor, (*caller).isMailed, 1},
		{logInAskNone, l.nobody, l.newcomers, askFor, (*caller).isNotMailed, 1},
	}
	wrong := []*occasion{
		{logInWrong, l.mail, l.within, mistype, (*caller).isMailed, 1},
		{logInWrongNone, l.nobody, l.within, mistype, (*caller).isNotMailed, 1},
	}
	first := rand.IntN(2)
	return append([]*occasion{ask[first], ask[1-first], wrong[1-first], wrong[first]},
		&occasion{logInPages, l.mail, l.within, behold, (*caller).isMailed, 1},
		&occasion{logInCode, l.mail, l.within, enter, l.isNew, 1},
		&occasion{logInAskAgain, l.mail, l.again, askFor, (*caller).isMailed, 1},
		&occasion{logInCodeAgain, l.mail, l.within, enter, l.isKnown, 1},
	)
}

// byMailNames are the rows, in the order in which they are reported.
var byMailNames = []string{
	logInAsk, logInAskNone, logInAskAgain, logInPages, logInWrong, logInWrongNone, logInCode, logInCodeAgain,
}

// maxAsks is how many codes strangers may ask for in one run: everybody together
// may ask for a thousand at once, and for two more a second.
const maxAsks = 900

// byMailAtOnce is how many people come in one turn, if n do elsewhere. Each
// round strangers ask twice, and so do they once before all.
func byMailAtOnce(n, rounds int) int { return max(1, min(n, maxAsks/(2*(rounds+1)))) }

// again are those who signed in last, in the same browsers, where they have
// signed out.
func (l *lobby) again(s *site, n int) ([]*caller, error) {
	callers, err := l.within(s, n)
	for _, c := range callers {
		c.browser.Jar.SetCookies(&url.URL{Scheme: "http", Host: s.address, Path: "/"},
			[]*http.Cookie{{Name: "login", Path: "/", MaxAge: -1}})
	}
	return callers, err
}

// collect gets the callers their mail, once for all: it belongs to what they
// cost that it was written and handed over. Nobody else may have got any.
func (l *lobby) collect(callers []*caller) error {
	waiting := make(map[string]*caller)
	for _, c := range callers {
		if c.waits {
			waiting[c.email()] = c
		}
	}
	var codes map[string]string
	if err := l.proxy.ask("/letters", len(waiting), &codes); err != nil {
		return err
	}
	for address, code := range codes {
		c, found := waiting[address]
		if !found {
			return fmt.Errorf("a mail went to %s, who was to get none", address)
		}
		c.code, c.waits = code, false
	}
	return nil
}

func (c *caller) email() string { return c.subject + "@" + c.site.domain }

// codePath is where a code is typed.
const codePath = "/.login/code"

// askFor asks for a code.
func (c *caller) askFor() error {
	c.code, c.waits = "", c.site.domain == invited
	res, text, err := c.post("/.login/email", url.Values{"email": {c.email()}, "return": {echoPath}})
	return c.sentOn("http://"+c.site.address+codePath, res, text, err)
}

func (c *caller) post(path string, form url.Values) (*http.Response, []byte, error) {
	return c.send(http.MethodPost, "http://"+c.site.address+path, form)
}

// seeDoor goes to a page, and is led to the one to sign in at.
func (c *caller) seeDoor() error {
	c.wanders = true
	defer func() { c.wanders = false }()
	return c.see(echoPath, `name="email"`)
}

// await sees the page that waits for the code.
func (c *caller) await() error { return c.see(codePath, `name="code"`) }

// see opens a page that must hold this piece.
func (c *caller) see(path, piece string) error {
	res, text, err := c.send(http.MethodGet, "http://"+c.site.address+path, nil)
	if err == nil && (res.StatusCode != http.StatusOK || !strings.Contains(string(text), piece)) {
		err = fmt.Errorf("%s answered %s %.300s", path, res.Status, text)
	}
	return err
}

// enter types the code.
func (c *caller) enter() error {
	res, text, err := c.post(codePath, url.Values{"code": {c.code}})
	return c.sentOn("http://"+c.site.address+echoPath, res, text, err)
}

// mistype types another.
func (c *caller) mistype() error {
	wrong := strings.Repeat("1", 6)
	if c.code == wrong {
		wrong = strings.Repeat("2", 6)
	}
	res, text, err := c.post(codePath, url.Values{"code": {wrong}})
	if err == nil && res.StatusCode != http.StatusUnprocessableEntity {
		err = fmt.Errorf("a wrong code answered %s %.300s", res.Status, text)
	}
	return err
}

func (c *caller) isMailed() error {
	if c.code == "" {
		return errors.New("no code came to " + c.subject)
	}
	return nil
}

func (c *caller) isNotMailed() error {
	if c.code != "" {
		return errors.New("a code came to " + c.subject)
	}
	return nil
}
