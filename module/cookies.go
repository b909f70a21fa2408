package module

import (
	"net/http"
	"strings"
	"time"

	"github.com/caddy-login/caddy-login/module/header"
)

// cookies are the names and attributes of our cookies on one kind of address.
type cookies struct {
	jar    *header.Jar
	base   string // the session's; the others' begin with it and "-"
	domain string
	secure bool
}

// newCookies chooses the strongest prefix that a browser accepts there:
// `__Host-` binds to one host and https, `__Secure-` to https. On http on
// loopback browsers accept neither.
func newCookies(s CookieSettings, secure bool) cookies {
	base := s.Name
	switch {
	case secure && s.Domain != "":
		base = "__Secure-" + base
	case secure:
		base = "__Host-" + base
	}
	return cookies{jar: header.NewJar(base), base: base, domain: s.Domain, secure: secure}
}

// scope is what a session is bound to: this host, or the domain after a dot.
func (c *cookies) scope(host string) string {
	if c.domain != "" {
		return "." + c.domain
	}
	return host
}

// reach reports whether a cookie of ours can come back to this address at all.
func (c *cookies) reach(o *origin) bool {
	if c.secure && o.scheme != "https" {
		return false
	}
	return c.domain == "" || within(o.host, c.domain)
}

func within(host, domain string) bool {
	return host == domain || strings.HasSuffix(host, "."+domain)
}

// set lays a cookie down for life; a life of zero or less deletes it.
func (c *cookies) set(w http.ResponseWriter, name, value string, life time.Duration) {
	cookie := &http.Cookie{
		Name: name, Value: value, Path: "/", Domain: c.domain,
		MaxAge: int(life / time.Second), Secure: c.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
	if life <= 0 {
		cookie.MaxAge = -1
	}
	http.SetCookie(w, cookie)
}

func (c *cookies) drop(w http.ResponseWriter, name string) { c.set(w, name, "", 0) }

// landed is the name of a short-lived mark that a sign-in has just succeeded
// in this browser. Who comes back with it but without a session would go round
// in circles.
func (c *cookies) landed() string { return c.base + "-landed" }

// last is the name of the cookie that has the provider this browser last
// signed in with: a hint for its visitor, and for nobody else.
func (c *cookies) last() string { return c.base + "-last" }

// asked is the name of the cookie that has the codes this browser asked for.
func (c *cookies) asked() string { return c.base + "-asked" }

// friends is the name of the cookie that proves who has signed in with this
// browser before.
func (c *cookies) friends() string { return c.base + "-friends" }

// waits is the name of the cookie that has what waits for a word of this
// browser's visitor.
func (c *cookies) waits() string { return c.base + "-waits" }

// isAttempt reports whether a cookie of ours is an attempt to sign in at a
// provider: all others have names of their own.
func (c *cookies) isAttempt(name string) bool {
	switch name {
	case c.base, c.landed(), c.last(), c.asked(), c.friends(), c.waits():
		return false
	default:
		return true
	}
}
