package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest"
)

// lobbySites is one Caddy with a site for each way to keep a sign-in: as it is
// by default, with the hint and the index for sign-outs that begin here or at
// the provider; with neither, by a provider that sends no logout tokens; with
// the tokens besides; and as by default, by TLS. It logs as Caddy does that
// nobody told otherwise. Callers say by X-Forwarded-For that they come from
// many places: a network may come back from a provider only so often.
const lobbySites = `{
	admin off
	persist_config off
	servers {
		trusted_proxies static 127.0.0.1/32
	}
	login {
		store bench_counted {$STORE}
	}
}
(site) {
	bind 127.0.0.1
	reverse_proxy {$APP}
}
http://localhost:{$PORT} {
	login {
		oidc bench bench-client {env.BENCH_SECRET} {
			issuer {$ISSUER}
			groups groups
		}
		role staff *@example.com
		allow *@example.com
	}
	import site
}
http://localhost:{$PORT_LEAN} {
	login {
		gitlab bench-client {env.BENCH_SECRET} {
			name bench
			issuer {$ISSUER}
			scopes openid profile email
			groups groups
		}
		role staff *@example.com
		allow *@example.com
	}
	import site
}
http://localhost:{$PORT_KEEP} {
	login {
		oidc bench bench-client {env.BENCH_SECRET} {
			issuer {$ISSUER}
			groups groups
			tokens keep
		}
		role staff *@example.com
		allow *@example.com
	}
	import site
}
http://localhost:{$PORT_TLS} {
	login {
		oidc bench bench-client {env.BENCH_SECRET} {
			issuer {$ISSUER_TLS}
			groups groups
		}
		role staff *@example.com
		allow *@example.com
	}
	import site
}
http://localhost:{$PORT_MAIL} {` + mailSite + `	import site
}
`

// lobby is where people come to sign in, and where all of it is counted.
type lobby struct {
	proxy                   *proxy
	usual, lean, keep, anew *site
	// mail is entered by email; nobody is the same site for whom it mails
	// nothing.
	mail, nobody *site
	providers    []*http.Server
	callers      int               // so far
	met          map[string]string // who they are to the app, by subject
}

// site is one of the lobby's.
type site struct {
	name    string
	address string // host:port
	domain  string // where its people have their addresses
	issuer  *logintest.Issuer
	// stranger is a browser that keeps nothing and goes nowhere by itself.
	stranger *http.Client
	newest   int       // the last subject made up
	inside   []*caller // who signed in last
}

// openLobby starts the providers and the Caddy. The app must be there.
func (b *bench) openLobby() (_ *lobby, err error) {
	l := &lobby{met: make(map[string]string)}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	ports, err := freePorts(5)
	if err != nil {
		return nil, err
	}
	leaf, authority, asPEM, err := certify()
	if err != nil {
		return nil, err
	}
	roots := filepath.Join(b.dir, "authority.pem")
	if err := os.WriteFile(roots, asPEM, 0o600); err != nil {
		return nil, fmt.Errorf("writing the authority: %w", err)
	}
	plain, err1 := l.provide(nil)
	secure, err2 := l.provide(&tls.Config{Certificates: []tls.Certificate{leaf}})
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("listening for the provider: %w", err)
	}
	stranger := newStranger(authority)
	l.usual, l.lean = newSite("usual", ports[0], plain, stranger), newSite("lean", ports[1], plain, stranger)
	l.keep, l.anew = newSite("keep", ports[2], plain, stranger), newSite("anew", ports[3], secure, stranger)
	l.mail, l.nobody = newMailSites(ports[4], plain, stranger)
	register(plain, l.usual, l.lean, l.keep)
	register(secure, l.anew)
	l.proxy, err = b.startProxy(launch{name: "lobby", port: ports[0], caddyfile: lobbySites, env: []string{
		fmt.Sprintf("PORT_LEAN=%d", ports[1]), fmt.Sprintf("PORT_KEEP=%d", ports[2]), fmt.Sprintf("PORT_TLS=%d", ports[3]),
		fmt.Sprintf("PORT_MAIL=%d", ports[4]),
		"STORE=" + filepath.Join(b.dir, "lobby"), "BENCH_SECRET=" + clientSecret,
		"ISSUER=" + plain.Issuer, "ISSUER_TLS=" + secure.Issuer, rootsVariable + "=" + roots,
	}})
	return l, err
}

// rootsVariable names the authorities that a program of Go's trusts, where the
// system has no say in it.
const rootsVariable = "SSL_CERT_FILE"

// provide serves a provider. One with TLS closes each connection after its
// answer: so it is for a site where somebody signs in now and then.
func (l *lobby) provide(secure *tls.Config) (*logintest.Issuer, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := "http://" + listener.Addr().String()
	issuer := &logintest.Issuer{Issuer: address, URL: address}
	server := &http.Server{Handler: issuer, ReadHeaderTimeout: 10 * time.Second, TLSConfig: secure}
	l.providers = append(l.providers, server)
	if secure == nil {
		go server.Serve(listener)
		return issuer, nil
	}
	issuer.Issuer = fmt.Sprintf("https://localhost:%d", listener.Addr().(*net.TCPAddr).Port)
	issuer.URL = issuer.Issuer
	server.SetKeepAlivesEnabled(false)
	go server.ServeTLS(listener, "", "")
	return issuer, nil
}

// register makes the sites known to their provider.
func register(issuer *logintest.Issuer, sites ...*site) {
	var callbacks []string
	for _, s := range sites {
		callbacks = append(callbacks, "http://"+s.address+callbackPath)
	}
	issuer.Client("bench-client", clientSecret, callbacks...)
}

func newSite(name string, port int, issuer *logintest.Issuer, stranger *http.Client) *site {
	return &site{name: name, address: fmt.Sprintf("localhost:%d", port), domain: invited, issuer: issuer, stranger: stranger}
}

// newMailSites are one site, for who gets mail and for who gets none. The
// provider has no part in it, and its calls are counted to show that.
func newMailSites(port int, issuer *logintest.Issuer, stranger *http.Client) (mail, nobody *site) {
	mail, nobody = newSite("mail", port, issuer, stranger), newSite("nobody", port, issuer, stranger)
	nobody.domain = uninvited
	return mail, nobody
}

func newStranger(authority *x509.Certificate) *http.Client {
	trusted := x509.NewCertPool()
	if authority != nil {
		trusted.AddCert(authority)
	}
	return &http.Client{
		Timeout:       30 * time.Second,
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// close ends what openLobby started.
func (l *lobby) close() {
	if l.proxy != nil {
		l.proxy.stop()
	}
	for _, server := range l.providers {
		server.Close()
	}
}

// others are the sites but the usual one.
func (l *lobby) others() []*site {
	if !trustsOurRoots {
		return []*site{l.lean, l.keep}
	}
	return []*site{l.lean, l.keep, l.anew}
}

// newcomers are n people whom the site has never seen.
func (l *lobby) newcomers(s *site, n int) ([]*caller, error) {
	var subjects []string
	for range n {
		s.newest++
		subject := fmt.Sprintf("%s-%d", s.name, s.newest)
		s.issuer.Person(logintest.Person{
			Subject: subject, Name: "A Visitor", Email: subject + "@" + s.domain, EmailVerified: true,
			Groups: []string{"staff", "engineering", "on-call"},
		})
		subjects = append(subjects, subject)
	}
	return l.arrive(s, subjects)
}

// returning are the first n people that the site ever saw.
func (l *lobby) returning(s *site, n int) ([]*caller, error) {
	var subjects []string
	for i := range n {
		subjects = append(subjects, fmt.Sprintf("%s-%d", s.name, i+1))
	}
	return l.arrive(s, subjects)
}

func (l *lobby) arrive(s *site, subjects []string) ([]*caller, error) {
	for _, c := range s.inside {
		c.browser.CloseIdleConnections()
	}
	s.inside = nil
	for _, subject := range subjects {
		l.callers++
		c, err := newCaller(s, subject, l.callers)
		if err != nil {
			return nil, err
		}
		s.inside = append(s.inside, c)
	}
	return s.inside, nil
}

// within are those who signed in last.
func (*lobby) within(s *site, n int) ([]*caller, error) {
	if len(s.inside) != n {
		return nil, fmt.Errorf("%d people are signed in, not %d", len(s.inside), n)
	}
	return s.inside, nil
}

// isNew and isKnown are whom the app must have been told of.
func (l *lobby) isNew(c *caller) error {
	if id, met := l.met[c.subject]; met {
		return fmt.Errorf("%s, who is new, is %s already", c.subject, id)
	}
	for subject, id := range l.met {
		if id == c.id {
			return fmt.Errorf("%s is taken for %s", c.subject, subject)
		}
	}
	l.met[c.subject] = c.id
	return nil
}

func (l *lobby) isKnown(c *caller) error {
	if id := l.met[c.subject]; id != c.id {
		return fmt.Errorf("%s was %q and is %q now", c.subject, id, c.id)
	}
	return nil
}
