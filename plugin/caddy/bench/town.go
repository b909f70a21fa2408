package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest"
)

// townSites is one Caddy whose people came long ago, by a provider that is
// called by one name and served at another: so nothing is discovered.
const townSites = `{
	admin 127.0.0.1:{$PORT_ADMIN}
	persist_config off
	servers {
		trusted_proxies static 127.0.0.1/32
	}
	login {
		store bench_counted {$STORE}
	}
}
http://localhost:{$PORT} {
	bind 127.0.0.1
	login {
		oidc bench bench-client {env.BENCH_SECRET} {
			issuer ` + crowdIssuer + `
			auth_url {$PROVIDER}/oauth/authorize
			token_url {$PROVIDER}/oauth/token
			jwks_url {$PROVIDER}/oauth/keys
			end_session_url {$PROVIDER}/oauth/logout
			groups groups
		}
		role staff *@example.com
		allow *@example.com
	}
	reverse_proxy {$APP}
}
`

// town is a Caddy, and all who ever signed in to it.
type town struct {
	*lobby
	*crowd
	dir   string // of its store, a copy of the crowd's
	admin string // host:port of Caddy's admin endpoint
	// operator asks there.
	operator *http.Client

	mu      sync.Mutex
	asked   int // of those known, in order: who was asked for last
	visited int // likewise: who came with their old session
}

// settleTown makes a town of a crowd, which is not touched. Nothing is started.
func (b *bench) settleTown(name string, people, sessions int) (*town, error) {
	c, err := crowdIn(b.crowds, people, sessions, maxKnown)
	if err != nil {
		return nil, err
	}
	t := &town{crowd: c, dir: filepath.Join(b.dir, name), lobby: &lobby{met: make(map[string]string)}}
	t.operator = &http.Client{Transport: &http.Transport{DisableCompression: true}}
	for _, a := range c.Known {
		t.met[a.Subject] = string(a.ID)
	}
	return t, c.copyTo(t.dir)
}

// begin starts the Caddy, and returns how long it took until somebody who had
// signed in before was let through to the app.
func (t *town) begin(b *bench) (time.Duration, error) {
	if err := t.prepare(); err != nil {
		return 0, err
	}
	ports, err := freePorts(2)
	if err != nil {
		return 0, err
	}
	issuer := t.usual.issuer
	t.usual.address, t.admin = b.siteOf(ports[0]), fmt.Sprintf("127.0.0.1:%d", ports[1])
	register(issuer, t.usual)
	visitors, err := t.visitors(t.usual, 1)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	t.proxy, err = b.startProxy(launch{name: filepath.Base(t.dir), port: ports[0], caddyfile: townSites, env: []string{
		fmt.Sprintf("PORT_ADMIN=%d", ports[1]), "STORE=" + t.dir, "PROVIDER=" + issuer.URL, "BENCH_SECRET=" + clientSecret}})
	if err != nil {
		return 0, err
	}
	if err := visitors[0].land(); err != nil {
		return 0, err
	}
	return time.Since(began), t.isKnown(visitors[0])
}

// prepare serves the provider, once.
func (t *town) prepare() error {
	if t.usual != nil {
		return nil
	}
	issuer, err := t.provide(nil)
	if err != nil {
		return fmt.Errorf("listening for the provider: %w", err)
	}
	issuer.Issuer = crowdIssuer
	for _, a := range t.Known {
		issuer.Person(logintest.Person{
			Subject: a.Subject, Name: "A Visitor", Email: string(a.email()), EmailVerified: true,
			Groups: []string{"staff", "engineering", "on-call"},
		})
	}
	t.usual = newSite("new", 0, issuer, newStranger(nil))
	return nil
}

// end stops the Caddy. The town can begin again.
func (t *town) end() {
	if t.proxy != nil {
		t.proxy.stop()
	}
	t.proxy = nil
}

// leave ends the town, and removes what was copied for it.
func (t *town) leave() error {
	t.close()
	return os.RemoveAll(t.dir)
}

// residents are the next n of those known, who have an account and come as if
// they had never been here: in other browsers.
func (t *town) residents(s *site, n int) ([]*caller, error) {
	var subjects []string
	for _, a := range t.ask(n) {
		subjects = append(subjects, a.Subject)
	}
	return t.arrive(s, subjects)
}

// ask is the next n of those known.
func (t *town) ask(n int) (next []acquaintance) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for range n {
		next = append(next, t.Known[t.asked%len(t.Known)])
		t.asked++
	}
	return next
}

// visitors are the next n who come with the session that they had, over the
// connection of those before them.
func (t *town) visitors(s *site, n int) ([]*caller, error) {
	s.inside = nil
	for range n {
		if t.visited == len(t.Known) {
			return nil, fmt.Errorf("all %d who are known have come already", t.visited)
		}
		a := t.Known[t.visited]
		t.visited++
		c, err := newCaller(s, a.Subject, t.number())
		if err != nil {
			return nil, err
		}
		c.browser.Transport, c.next = s.stranger.Transport, "http://"+s.address+echoPath
		c.browser.Jar.SetCookies(&url.URL{Scheme: "http", Host: s.address, Path: "/"},
			[]*http.Cookie{{Name: "login", Path: "/", Value: a.Cookie}})
		s.inside = append(s.inside, c)
	}
	return s.inside, nil
}

// number is the next caller's: for an address of their own.
func (t *town) number() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.callers++
	return t.callers
}

// signInOnce has the next of those known sign in, and returns how long they
// waited for us.
func (t *town) signInOnce() (time.Duration, error) {
	c, err := newCaller(t.usual, t.ask(1)[0].Subject, t.number())
	if err != nil {
		return 0, err
	}
	defer c.browser.CloseIdleConnections()
	spent, err := t.walk(comeIn, []*caller{c})
	if err == nil {
		err = t.isKnown(c)
	}
	return spent.wall, err
}

// request asks Caddy's admin endpoint, and decodes the answer.
func (t *town) request(path string, into any) error {
	res, err := t.operator.Get("http://" + t.admin + "/login/" + path)
	if err != nil {
		return err
	}
	text, err := readAll(res)
	if err == nil && res.StatusCode != http.StatusOK {
		err = errors.New(res.Status)
	}
	if err != nil {
		return fmt.Errorf("asking for %s: %w: %.300s", path, err, text)
	}
	return json.Unmarshal(text, into)
}
