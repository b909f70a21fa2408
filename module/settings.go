package module

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"golang.org/x/net/publicsuffix"

	"github.com/caddy-login/caddy-login/module/header"
	"github.com/caddy-login/caddy-login/module/policy"
)

// Settings are what a site may say, and what the app may say for all sites.
// A site's own word wins, field by field.
type Settings struct {
	// Who may pass. The first rule whose matcher fits the request decides; a
	// request that no rule fits needs a sign-in and is then refused (403).
	// Without any rule the config is refused: nothing is open by accident. A
	// site with rules of its own does not read the app's.
	Allow []*Rule `json:"allow,omitempty"`

	// Names for sets of people, for rules (`role:<name>`) and for the app
	// behind (`Remote-Roles`). A site's role replaces the app's of that name.
	Roles []Role `json:"roles,omitempty"`

	// How mail is sent: a module in the namespace login.mailers. Needed only
	// where codes or links go out.
	MailRaw json.RawMessage `json:"mail,omitempty" caddy:"namespace=login.mailers inline_key=mailer"`

	// What the app behind receives. Default: the preset `remote`.
	Headers *Headers `json:"headers,omitempty"`

	// How long somebody stays signed in.
	Session SessionSettings `json:"session,omitzero"`

	// The cookie that carries the session.
	Cookie CookieSettings `json:"cookie,omitzero"`

	// Whether a person not known yet may sign up: `on` (the default), `off`,
	// or `invited`: only those whose proven address, or its domain, stands in
	// an `allow` or `role` of this site.
	Signup string `json:"signup,omitempty"`

	// Whether signing out here goes on to sign out at the provider, where it has
	// an address for that: `on` (the default) or `off`. A provider's own
	// provider_logout off holds in any case.
	ProviderLogout string `json:"provider_logout,omitempty"`

	// The pages that visitors see.
	Pages PagesSettings `json:"pages,omitzero"`

	// This site's own address, such as `https://app.example.com`, where it
	// cannot be derived from the request (TLS ends in front of Caddy). The
	// first is the site's; further ones may open WebSockets and call the API.
	Origins []string `json:"origins,omitempty"`

	post *post // nil without a mailer
}

// Rule says who may pass where.
type Rule struct {
	// Which requests this rule is for. Default: all.
	MatcherSetsRaw caddyhttp.RawMatcherSets `json:"match,omitempty" caddy:"namespace=http.matchers"`

	// Who may pass, any of: `anyone` (no sign-in), `users` (anyone who can
	// sign in), an address, `*@domain` (exactly that domain), `role:<name>`,
	// `group:<name>`, `provider:<name>`. An empty word is an error, never
	// "any".
	Who []string `json:"who"`

	matchers caddyhttp.MatcherSets
	who      []policy.Who
	public   bool
}

// Role is a name for a set of people.
type Role struct {
	// The name, as in `role:<name>` and in `Remote-Roles`.
	Name string `json:"name"`

	// Who is in it; words as in a rule, but not `anyone`.
	Who []string `json:"who"`
}

// Headers is what the app behind receives.
type Headers struct {
	// Sets of header names known from other gates. `remote`: Remote-User,
	// -Email, -Name, -Groups, -Roles, -Assertion.
	Presets []string `json:"presets,omitempty"`

	// Further headers, name to value, also in place of a preset's. A value may
	// hold {id}, {email}, {name}, {groups}, {roles}, {provider}, {session},
	// {username} (the proven address, else the id) and {subject:<provider>} (the
	// account's id at that provider). A header whose placeholders are all empty is
	// not sent.
	Set map[string]string `json:"set,omitempty"`
}

// SessionSettings say how long somebody stays signed in.
type SessionSettings struct {
	// How long after a sign-in the session ends, whatever happens. Default:
	// 30 days (720h).
	Lifetime caddy.Duration `json:"lifetime,omitempty"`

	// How long without a request until the session ends. Default: 7 days
	// (168h), or the lifetime where that is shorter. At least a minute.
	Idle caddy.Duration `json:"idle,omitempty"`
}

// CookieSettings shape the session cookie.
type CookieSettings struct {
	// The cookie's name without its prefix. Default: `login`, which is sent as
	// `__Host-login`; with a domain as `__Secure-login`; on http on loopback
	// as `login`.
	Name string `json:"name,omitempty"`

	// Share the session among all hosts below this domain, such as
	// `example.com`. Every host there, also one you do not run, can then read
	// and set the cookie. A public suffix is refused. Default: one host only.
	Domain string `json:"domain,omitempty"`
}

// PagesSettings shape what visitors see.
type PagesSettings struct {
	// The path that our pages live below. Default: `/.login`. The callback URLs
	// to register at providers change with it.
	Path string `json:"path,omitempty"`

	// What visitors sign in to, as the pages name it. Default: the host.
	Title string `json:"title,omitempty"`

	// The colour of buttons and marks, such as `00aa66` or `0a6`. What is written
	// on it is black or white, whichever can be read. With its `#` it must stand
	// in quotes in a Caddyfile: it would begin a comment. Default: ours.
	Accent string `json:"accent,omitempty"`

	// A file with the site's logo: SVG, PNG, JPEG or WebP, at most 256 KiB.
	// Default: the title's first letter.
	Logo string `json:"logo,omitempty"`

	// A file with a stylesheet that comes after ours, at most 256 KiB. It can
	// load nothing from other hosts.
	Style string `json:"style,omitempty"`

	// A directory with templates of one's own in place of ours of the same name,
	// in the language of Go's html/template. They are drawn once at load: what
	// cannot be drawn is refused.
	Templates string `json:"templates,omitempty"`

	// The language of pages and mails, such as `de`. Default: each visitor's own,
	// by their browser.
	Language string `json:"language,omitempty"`

	// Who renders the 403 of somebody signed in but not admitted: empty for
	// our page, `handle_errors` for Caddy's error routes.
	Forbidden string `json:"forbidden,omitempty"`
}

// Defaults, in one place.
const (
	defaultLifetime   = 30 * 24 * time.Hour
	defaultIdle       = 7 * 24 * time.Hour
	defaultPath       = "/.login"
	defaultCookieName = "login"
	maxLifetime       = 400 * 24 * time.Hour // browsers keep no cookie longer (RFC 6265bis 5.5)
)

// over is s where it says something, and base where it does not.
func (s Settings) over(base Settings) Settings {
	if len(s.Allow) == 0 {
		s.Allow = base.Allow
	}
	s.Roles = MergeRoles(s.Roles, base.Roles)
	if s.post == nil {
		s.MailRaw, s.post = base.MailRaw, base.post
	}
	s.Headers = cmp.Or(s.Headers, base.Headers)
	s.Session = s.Session.over(base.Session)
	s.Cookie.Name = cmp.Or(s.Cookie.Name, base.Cookie.Name)
	s.Cookie.Domain = cmp.Or(s.Cookie.Domain, base.Cookie.Domain)
	s.Signup = cmp.Or(s.Signup, base.Signup)
	s.ProviderLogout = cmp.Or(s.ProviderLogout, base.ProviderLogout)
	s.Pages.Path = cmp.Or(s.Pages.Path, base.Pages.Path)
	s.Pages.Title = cmp.Or(s.Pages.Title, base.Pages.Title)
	s.Pages.Accent = cmp.Or(s.Pages.Accent, base.Pages.Accent)
	s.Pages.Logo = cmp.Or(s.Pages.Logo, base.Pages.Logo)
	s.Pages.Style = cmp.Or(s.Pages.Style, base.Pages.Style)
	s.Pages.Templates = cmp.Or(s.Pages.Templates, base.Pages.Templates)
	s.Pages.Language = cmp.Or(s.Pages.Language, base.Pages.Language)
	s.Pages.Forbidden = cmp.Or(s.Pages.Forbidden, base.Pages.Forbidden)
	if len(s.Origins) == 0 {
		s.Origins = base.Origins
	}
	return s
}

// over keeps what it takes over within what was said: a site with a shorter
// lifetime does not fail for the app's idle time.
func (s SessionSettings) over(base SessionSettings) SessionSettings {
	lifetime := cmp.Or(s.Lifetime, base.Lifetime)
	idle := s.Idle
	if idle == 0 && base.Idle != 0 {
		idle = min(base.Idle, cmp.Or(lifetime, base.Idle))
	}
	return SessionSettings{Lifetime: lifetime, Idle: idle}
}

// MergeRoles is a site's roles and those of the app that it does not replace.
func MergeRoles(own, base []Role) []Role {
	merged := slices.Clone(own)
	for _, role := range base {
		if !slices.ContainsFunc(own, func(r Role) bool { return r.Name == role.Name }) {
			merged = append(merged, role)
		}
	}
	return merged
}

func (s *Settings) setDefaults() {
	s.Session.Lifetime = cmp.Or(s.Session.Lifetime, caddy.Duration(defaultLifetime))
	s.Session.Idle = cmp.Or(s.Session.Idle, caddy.Duration(min(defaultIdle, time.Duration(s.Session.Lifetime))))
	s.Cookie.Name = cmp.Or(s.Cookie.Name, defaultCookieName)
	s.Signup = cmp.Or(s.Signup, signupOn)
	s.Pages.Path = cmp.Or(s.Pages.Path, defaultPath)
	s.Headers = cmp.Or(s.Headers, &Headers{})
	if len(s.Headers.Presets) == 0 && len(s.Headers.Set) == 0 {
		s.Headers = &Headers{Presets: []string{"remote"}}
	}
}

// The words of `signup`.
const (
	signupOn      = "on"
	signupOff     = "off"
	signupInvited = "invited"
)

// check finds what would be open, or broken, by accident. Each error names
// its cure.
func (s *Settings) check() error {
	return cmp.Or(
		s.checkAllow(),
		CheckSession(s.Session),
		CheckCookie(s.Cookie),
		CheckSignup(s.Signup),
		CheckProviderLogout(s.ProviderLogout),
		CheckPages(s.Pages),
		CheckHeaders(s.Headers),
		s.checkOrigins(),
	)
}

// ErrNoAllow says what to write where no rule was.
var ErrNoAllow = errors.New("no allow: say who may pass, such as 'allow users' (anyone who can sign in), 'allow *@example.com' or 'allow ada@example.com'")

func (s *Settings) checkAllow() error {
	if len(s.Allow) == 0 {
		return ErrNoAllow
	}
	for _, rule := range s.Allow {
		if len(rule.Who) == 0 {
			return errors.New("allow names nobody: add who may pass, such as users, *@example.com or role:<name>")
		}
	}
	return nil
}

// CheckSession refuses times that nobody can mean. Like the other checks it
// takes zero for unsaid.
func CheckSession(s SessionSettings) error {
	longest := cmp.Or(time.Duration(s.Lifetime), maxLifetime)
	lifetime, idle := cmp.Or(time.Duration(s.Lifetime), time.Minute), cmp.Or(time.Duration(s.Idle), time.Minute)
	switch {
	case lifetime < time.Minute || lifetime > maxLifetime:
		return fmt.Errorf("session lifetime %s: choose 1m to %s", lifetime, maxLifetime)
	case idle < time.Minute || idle > longest:
		return fmt.Errorf("session idle %s: choose 1m up to the lifetime, %s", idle, longest)
	}
	return nil
}

// CheckCookie refuses names that browsers drop and domains that would share a
// session with strangers.
func CheckCookie(s CookieSettings) error {
	if name := s.Name; name != "" && (strings.HasPrefix(name, "__") || !isToken(name) || len(name) > 32) {
		return fmt.Errorf("cookie name %q: use up to 32 letters, digits, - and _; the prefix __Host- or __Secure- is added by itself", name)
	}
	domain := s.Domain
	if domain == "" {
		return nil
	}
	// With the root's dot it would not be found among the public suffixes.
	if strings.Trim(domain, ".") != domain || strings.ToLower(domain) != domain || !isHostname(domain) {
		return fmt.Errorf("cookie domain %q: write a plain domain in lower case, such as example.com", domain)
	}
	if suffix, _ := publicsuffix.PublicSuffix(domain); suffix == domain {
		return fmt.Errorf("cookie domain %q is a public suffix: everybody with a name below it would share your sessions; name your own domain", domain)
	}
	return nil
}

// CheckSignup refuses unknown words.
func CheckSignup(word string) error {
	switch word {
	case "", signupOn, signupOff, signupInvited:
		return nil
	default:
		return fmt.Errorf("unknown signup %q (choose on, off, invited)", word)
	}
}

// CheckProviderLogout refuses unknown words.
func CheckProviderLogout(word string) error {
	switch word {
	case "", "on", "off":
		return nil
	default:
		return fmt.Errorf("unknown provider_logout %q (choose on, off)", word)
	}
}

// CheckPages refuses paths that would be read in two ways, and unknown words.
func CheckPages(s PagesSettings) error {
	if p := s.Path; p != "" && (len(p) < 2 || p[0] != '/' || strings.HasSuffix(p, "/") || strings.Contains(p, "//") || !isPlainPath(p)) {
		return fmt.Errorf("pages path %q: write a path of letters, digits, '.', '-', '_' such as /.login, without a slash at its end", p)
	}
	switch s.Forbidden {
	case "", "page", "handle_errors":
		return nil
	default:
		return fmt.Errorf("unknown pages forbidden %q (choose page, handle_errors)", s.Forbidden)
	}
}

// CheckHeaders refuses unknown presets and words, and names that are not for
// identities.
func CheckHeaders(h *Headers) error {
	fields, err := h.fields()
	if err != nil {
		return err
	}
	_, err = header.NewGuard(names(fields)...)
	return err
}

func (s *Settings) checkOrigins() error {
	for _, origin := range s.Origins {
		if err := CheckOrigin(origin); err != nil {
			return err
		}
	}
	return nil
}

// CheckOrigin refuses what is not an https origin in its canonical spelling,
// http only on loopback.
func CheckOrigin(origin string) error {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || u.Scheme+"://"+u.Host != origin || strings.ToLower(origin) != origin {
		return fmt.Errorf("origin %q: write scheme and host only, in lower case, such as https://app.example.com", origin)
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())) {
		return fmt.Errorf("origin %q: only https is safe (http on loopback); write https://%s", origin, u.Host)
	}
	return checkOriginHost(origin, u)
}

// checkOriginHost refuses an address that no browser names its site by: it would
// be compared with their Origin and Host, and never fit.
func checkOriginHost(origin string, u *url.URL) error {
	host := u.Hostname()
	switch {
	case net.ParseIP(host) == nil && (host == "" || !isHostname(strings.ReplaceAll(host, "_", "-"))):
		return fmt.Errorf("origin %q: write the one host that it stands for, beyond ASCII in its xn-- form: patterns are for no origin", origin)
	case withoutPort(u.Host, u.Scheme) != u.Host || strings.HasSuffix(u.Host, ":"):
		return fmt.Errorf("origin %q: browsers leave the port out that is the default one: write %s://%s", origin, u.Scheme, strings.TrimSuffix(withoutPort(u.Host, u.Scheme), ":"))
	}
	return nil
}

// isLoopback reports whether a browser treats host as this machine: there
// http is as good as https (W3C Secure Contexts 3.1).
func isLoopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func isHostname(s string) bool {
	return len(s) <= 253 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-.") == "" && !strings.Contains(s, "..")
}

func isToken(s string) bool {
	for _, c := range []byte(s) {
		if !isAlphanumeric(c) && c != '-' && c != '_' {
			return false
		}
	}
	return s != ""
}

func isPlainPath(s string) bool {
	for segment := range strings.SplitSeq(s[1:], "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}
	for _, c := range []byte(s) {
		if !isAlphanumeric(c) && !strings.ContainsRune("/.-_", rune(c)) {
			return false
		}
	}
	return true
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
