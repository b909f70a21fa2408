package main_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// corner is a site with rules of one shape, and what they mean for the paths
// that the app receives. Paths are lower-case.
type corner struct {
	name  string
	https bool
	lines string // the site's, LOGIN in the gate's place
	also  string // further addresses
	allow string // the gate's rules

	// open is what anybody may have, closed what only Ada may.
	open, closed func(e entry, path string) bool

	words []string // that its paths are made of
}

func below(dirs ...string) func(entry, string) bool {
	return func(_ entry, path string) bool {
		return slices.ContainsFunc(dirs, func(dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") })
	}
}

func either(a, b func(entry, string) bool) func(entry, string) bool {
	return func(e entry, path string) bool { return a(e, path) || b(e, path) }
}

func neither(a func(entry, string) bool) func(entry, string) bool {
	return func(e entry, path string) bool { return !a(e, path) }
}

const threeRules = "allow /public/* anyone\nallow /admin role:boss\nallow /admin/* role:boss\nallow users"

// corners are the sites that the fuzzer asks.
var corners = []corner{
	{
		name: "plain", lines: "LOGIN\nreverse_proxy {$APP}", allow: threeRules,
		open: below("/public"), closed: below("/admin"), words: []string{"public", "admin", "secret"},
	},
	{
		name: "methods", lines: "@open {\nmethod GET HEAD OPTIONS\npath /public/*\n}\n@boss path_regexp (?i)^/(admin|root)(/|$)\nLOGIN\nreverse_proxy {$APP}",
		allow: "allow @open anyone\nallow @boss role:boss\nallow users",
		open: func(e entry, path string) bool {
			return below("/public")(e, path) && slices.Contains([]string{"GET", "HEAD", "OPTIONS"}, strings.ToUpper(e.method()))
		},
		closed: below("/admin", "/root"), words: []string{"public", "admin", "root"},
	},
	{
		name: "not", lines: "@free not path /admin /admin/* /root /root/*\nLOGIN\nreverse_proxy {$APP}", allow: "allow @free anyone\nallow role:boss",
		open: neither(below("/admin", "/root")), closed: below("/admin", "/root"), words: []string{"public", "admin", "root"},
	},
	{
		name: "expression", lines: "@open expression `{path}.startsWith(\"/public/\") && {method} == \"GET\"`\n@boss expression path('/admin', '/admin/*')\nLOGIN\nreverse_proxy {$APP}",
		allow: "allow @open anyone\nallow @boss role:boss\nallow users",
		open: func(e entry, path string) bool {
			return below("/public")(e, path) && strings.EqualFold(e.method(), "GET")
		},
		closed: below("/admin"), words: []string{"public", "admin", "secret"},
	},
	{
		name: "stripped", lines: "uri strip_prefix /app\nLOGIN\nreverse_proxy {$APP}", allow: threeRules,
		open: below("/public"), closed: below("/admin"), words: []string{"app", "public", "admin"},
	},
	{
		name: "handled", allow: threeRules,
		lines: "LOGIN\nhandle_path /public/* {\nreverse_proxy {$OPEN}\n}\nhandle_path /admin/* {\nreverse_proxy {$CLOSED}\n}\nhandle {\nreverse_proxy {$APP}\n}",
		open:  func(e entry, _ string) bool { return e.at.name == "OPEN" },
		closed: func(e entry, path string) bool {
			return e.at.name == "CLOSED" || e.at.name == "APP" && below("/admin")(e, path)
		},
		words: []string{"public", "admin", "secret"},
	},
	{
		name: "within", lines: "LOGIN\nhandle_path /api/* {\nreverse_proxy {$OPEN}\n}\nhandle {\nreverse_proxy {$APP}\n}",
		allow: "allow /api/public/* anyone\nallow /api/admin role:boss\nallow /api/admin/* role:boss\nallow users",
		open:  func(e entry, path string) bool { return e.at.name == "OPEN" && below("/public")(e, path) },
		closed: func(e entry, path string) bool {
			return e.at.name == "OPEN" && below("/admin")(e, path) || e.at.name == "APP" && below("/api/admin")(e, path)
		},
		words: []string{"api", "api/public", "api/admin", "admin"},
	},
	{
		name: "based", lines: "route {\nLOGIN\nrewrite * /base{uri}\nreverse_proxy {$APP}\n}", allow: threeRules,
		open: below("/base/public"), closed: below("/base/admin", "/admin"), words: []string{"public", "admin", "base"},
	},
	{
		name: "before", lines: "rewrite * /base{uri}\nLOGIN\nreverse_proxy {$APP}",
		allow: "allow /base/public/* anyone\nallow /base/admin role:boss\nallow /base/admin/* role:boss\nallow users",
		open:  below("/base/public"), closed: below("/base/admin"), words: []string{"public", "admin", "base"},
	},
	{
		name: "proxied", lines: "LOGIN\nreverse_proxy {$APP} {\nrewrite /base{uri}\n}", allow: threeRules,
		open: below("/base/public"), closed: below("/base/admin", "/admin"), words: []string{"public", "admin", "base"},
	},
	{
		name: "replaced", lines: "@boss path /admin /admin/* /v1/admin /v1/admin/* /admin.html /v1/admin.html\nroute {\nLOGIN\nuri replace /v1/ /\nuri strip_suffix .html\nreverse_proxy {$APP}\n}",
		allow: "allow /public/* anyone\nallow @boss role:boss\nallow users",
		open:  below("/public"), closed: below("/admin"), words: []string{"public", "admin", "v1"},
	},
	{
		name: "globs", lines: "@globs path *.css /files/*/pub\nLOGIN\nreverse_proxy {$APP}", allow: "allow @globs anyone\nallow /secret* role:boss\nallow users",
		open: func(_ entry, path string) bool {
			return strings.HasSuffix(path, ".css") || strings.HasPrefix(path, "/files/") && strings.Count(path, "/") == 3 && strings.HasSuffix(path, "/pub")
		},
		closed: func(_ entry, path string) bool {
			return strings.HasPrefix(path, "/secret") && !strings.HasSuffix(path, ".css")
		},
		words: []string{"files", "pub", "secret", "a.css", ".css"},
	},
	{
		name: "front", lines: "rewrite * /index.php\nLOGIN\nreverse_proxy {$FCGI} {\ntransport fastcgi {\nsplit .php\n}\n}",
		allow: "allow /admin role:boss\nallow /admin/* role:boss\nallow anyone",
		open:  neither(below("/admin")), closed: below("/admin"), words: []string{"public", "admin", "index.php"},
	},
	{
		name: "info", lines: "route {\nLOGIN\nrewrite * /index.php{path}\nreverse_proxy {$FCGI} {\ntransport fastcgi {\nsplit .php\n}\n}\n}", allow: threeRules,
		open: either(below("/public"), below("/index.php/public")), closed: below("/admin", "/index.php/admin"), words: []string{"public", "admin", "index.php"},
	},
}

// quarter is a Caddy with all corners.
type quarter struct {
	*e2e.Caddy
	t       testing.TB
	corners []corner
	apps    []*scribe // named as their variables are
	askers  []asker
	cookies [][3]string // of nobody, Grace and Ada, by corner
	passed  map[string]int
	asked   int
}

// who asks.
const (
	asNobody = iota
	asGrace
	asAda
)

// newQuarter starts a Caddy with these corners, and with further options of its
// servers.
func newQuarter(t testing.TB, corners []corner, servers string) *quarter {
	t.Helper()
	q := &quarter{
		Caddy: e2e.NewCaddy(t, e2e.Build(t)), t: t, corners: corners, passed: map[string]int{},
		apps: []*scribe{newScribe(t, "APP"), newScribe(t, "OPEN"), newScribe(t, "CLOSED"), newFastCGIScribe(t, "FCGI")},
	}
	registration := e2e.Client{ID: "site", Secret: clientSecret}
	config := "{\n\tservers {\n\t\tprotocols h1 h2 h2c h3\n" + servers + "\t}\n\tlogin {\n\t\toidc op site {env.OP_SECRET} {\n\t\t\tissuer {$ISSUER}\n\t\t\tgroups groups\n\t\t}\n\t}\n}\n"
	for i, c := range corners {
		registration.RedirectURIs = append(registration.RedirectURIs, q.site(i)+"/.login/op/callback")
		login := "login op {\nrole boss group:maths\n" + c.allow + "\n}"
		address := "http://" + c.name + ".localhost:{$PORT2}"
		if c.https {
			address = "https://" + c.name + ".test:{$PORT}"
		}
		config += address + c.also + " {\n" + strings.Replace(c.lines, "LOGIN", login, 1) + "\n}\n"
	}
	provider := e2e.NewProvider(t, registration)
	for _, app := range q.apps {
		q.Env[app.name] = app.addr
	}
	q.Env["ISSUER"], q.Env["OP_SECRET"] = provider.Issuer, clientSecret
	q.Start(config)
	q.signIn()
	q.received() // nothing of what signing in led to
	addr := fmt.Sprintf("127.0.0.1:%d", q.Port2)
	q.askers = []asker{&overHTTP1{addr: addr}, &overHTTP2{addr: addr}}
	return q
}

func (q *quarter) site(i int) string {
	if q.corners[i].https {
		return fmt.Sprintf("https://%s.test:%d", q.corners[i].name, q.Port)
	}
	return fmt.Sprintf("http://%s.localhost:%d", q.corners[i].name, q.Port2)
}

func (q *quarter) signIn() {
	q.t.Helper()
	q.cookies = make([][3]string, len(q.corners))
	for who, person := range map[int]e2e.Person{asGrace: e2e.Grace, asAda: e2e.Ada} {
		visitor := e2e.NewVisitor(q.t)
		for i := range q.corners {
			site := q.site(i)
			to := visitor.Get(site + "/.login/op?return=%2F.login%2F")
			at := visitor.Follow(visitor.To(to))
			if strings.Contains(at.Body, "Who are you?") { // the first time
				visitor.Follow(visitor.AnswerProvider(at, person))
			}
			if q.cookies[i][who] = strings.Join(visitor.Cookies(site), "; "); q.cookies[i][who] == "" {
				q.t.Fatalf("%s is not signed in at %s", person.Name, site)
			}
		}
	}
}

// choices are what one input of the fuzzer decides.
type choices struct{ left []byte }

// of is a number below n.
func (c *choices) of(n int) int {
	if len(c.left) == 0 {
		return 0
	}
	b := c.left[0]
	c.left = c.left[1:]
	return int(b) % n
}

func choose[T any](c *choices, from []T) T { return from[c.of(len(from))] }

var methods = []string{
	"GET", "GET", "GET", "GET", "GET", "GET", "GET", "GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PROPFIND", "get", "GeT", "TRACE", "X", "CONNECT", "PATCH", "COPY",
}

// oddities are what filters of paths have fallen for.
var oddities = []string{
	"..", "..", ".", "...", "%2e%2e", "%2E.", ".%2e", "%252e%252e", "%25%32%65.", "..;", "..;x=y", ";", ";x=/..", "%3b", "%3B..", "/", "%2f", "%2F", "%252f", "%25252f", "%5c", `\`, "%255c", "%5C..%5C",
	"%00", "%2500", "%0a", "%09", "%0d%0a", "%20", ".%20", "+", "::$DATA", ":", ":$I30", "%c0%ae%c0%ae", "%c0%af", "%e0%80%af", "%ef%bc%8f", "%ef%bc%8e%ef%bc%8e", "\uff0f", "\uff0e\uff0e", "%u002f", "%u002e%u002e", "%uff0f",
	"%23", "#", "%3f", "%3F", "?", "*", "~", "~1", "a.b", "x", "%e2%80%8b", "%c2%a0", "%cc%b8", "%7e", "%2d", "%", "%2", "%zz", "$", "!", "'", "(", "@", ",", "=", "&", "|", "^", "[", "{path}", "%7bpath%7d", "\"", "<", "<<<", ">>", "%ad", "\u2025", "\u2044", "%e2%88%95", "%e2%81%84", "%ff", "\x01", "\x7f",
}

// target writes down a path, as an attacker might: most often one that the
// rules name, with a few oddities.
func (c *choices) target(words []string, host string) string {
	if c.of(3) > 0 {
		return c.bent("/" + choose(c, words) + "/" + choose(c, []string{"x", "", "x.html", "a.css", "x/pub", choose(c, words), choose(c, words) + "/x"}))
	}
	return c.invented(words, host)
}

// bent is a path with up to three oddities put in, or in place of a letter.
func (c *choices) bent(path string) string {
	for range c.of(4) {
		at := c.of(len(path) + 1)
		rest := path[at:]
		odd := choose(c, oddities)
		if c.of(3) == 0 {
			odd = choose(c, []string{"/../", "/..;/", "//", "/./", "/..%2f", "/%2e%2e/", `/..\`, "%2f..%2f", "/%252e%252e/", "..;/..;/", "/.%00./"})
		}
		if rest != "" && c.of(2) == 0 {
			odd = []string{odd, strings.ToUpper(rest[:1]), fmt.Sprintf("%%%02x", rest[0]), fmt.Sprintf("%%25%02X", rest[0]), string(rune(rest[0]) - '!' + '\uff01')}[c.of(5)]
			rest = rest[1:]
		}
		path = path[:at] + odd + rest
	}
	if c.of(4) == 0 {
		path += choose(c, []string{"?/../admin", "?x=%2f..%2f", "?", "#", "?;/", "%3f", "/..", "/.", "/", ".", "%20"})
	}
	return path
}

// invented is a path of words and oddities.
func (c *choices) invented(words []string, host string) string {
	var b strings.Builder
	b.WriteString(choose(c, []string{"/", "/", "/", "/", "/", "/", "/", "/", "/", "//", "/./", `/\`, `\`, "/;/", "/%2f", "/x/../", "", "http://" + host + "/", "//" + host + "/", "http:/", "*"}))
	for len(c.left) > 0 && b.Len() < 400 {
		switch c.of(10) {
		case 0, 1, 2:
			c.word(&b, choose(c, words))
			b.WriteString("/")
		case 3:
			c.word(&b, choose(c, words))
		case 4, 5:
			b.WriteString(choose(c, oddities))
			b.WriteString("/")
		case 6, 7:
			b.WriteString(choose(c, oddities))
		case 8:
			fmt.Fprintf(&b, "%%%02x", c.of(256))
		default:
			b.WriteString(choose(c, []string{"/", "..", "/../", "/..;/", "/%2e%2e/", "/..%2f", "?x=/../admin", "?;/", "/x/", ".", ";"}))
		}
	}
	return b.String()
}

// word spells one of a site's words in one of its ways.
func (c *choices) word(b *strings.Builder, word string) {
	at := c.of(len(word))
	letter := word[at]
	switch c.of(12) {
	case 0:
		word = strings.ToUpper(word)
	case 1:
		word = fmt.Sprintf("%s%%%02x%s", word[:at], letter, word[at+1:])
	case 2:
		word = fmt.Sprintf("%s%%25%02X%s", word[:at], letter, word[at+1:])
	case 3:
		word = word[:at] + string(rune(letter)-'!'+'\uff01') + word[at+1:]
	case 4:
		word = word[:at] + strings.ToUpper(word[at:])
	case 5:
		word += choose(c, []string{".", " ", "%20", "..", ";", ";a=b", "%00", "::$DATA", "%3b", "%09", "\u00a0", "%c2%a0", "%0d"})
	default:
	}
	b.WriteString(word)
}

// inquiry is the request that the choices make, of whom, and at which corner.
func (q *quarter) inquiry(c *choices) (at, who int, over asker, ask inquiry) {
	at, who, over = c.of(len(q.corners)), choose(c, []int{asNobody, asGrace, asNobody, asGrace, asAda}), choose(c, q.askers)
	ask = inquiry{method: choose(c, methods), host: authority(q.site(at))}
	ask.target = c.target(q.corners[at].words, ask.host)
	if cookies := q.cookies[at][who]; cookies != "" {
		ask.fields = append(ask.fields, [2]string{"cookie", cookies})
	}
	return at, who, over, ask
}

// framed reports whether a question over HTTP/1.1 would be one: a space or the
// end of a line in its target makes it another.
func framed(over asker, ask inquiry) bool {
	_, old := over.(*overHTTP1)
	return ask.target != "" && !(old && strings.ContainsAny(ask.target, " \r\n"))
}

// try asks what the choices say, and fails the test for what an app received
// that its sender must not reach. A request may come there after its stream was
// reset, so each says where it was sent and by whom.
func (q *quarter) try(t testing.TB, input []byte) {
	at, who, over, ask := q.inquiry(&choices{input})
	if !framed(over, ask) {
		return
	}
	q.asked++
	ask.fields = append(ask.fields, [2]string{"x-asked", fmt.Sprint(at, " ", who, " ", q.asked)})
	over.ask(t, ask)
	came := map[int]int{}
	for _, e := range q.received() {
		var n int
		if _, err := fmt.Sscan(e.tag(), &at, &who, &n); err != nil {
			t.Fatalf("nobody asked for\n%s", e.raw)
		}
		if came[n]++; came[n] > 1 {
			t.Errorf("%s %q became %d requests", ask.method, ask.target, came[n])
		}
		q.passed[fmt.Sprint(q.corners[at].name, who)]++
		if bad := forbidden(&q.corners[at], who, e); bad != "" {
			t.Errorf("%s: %d asked for %s %q; the app received %s %q, which may be %q", q.corners[at].name, who, ask.method, ask.target, e.method(), e.target(), bad)
		}
	}
}

// tag is what the request says of itself.
func (e entry) tag() string {
	if tag, ok := e.envs["HTTP_X_ASKED"]; ok {
		return tag
	}
	for _, line := range e.fields() {
		if tag, ok := strings.CutPrefix(line, "X-Asked: "); ok {
			return tag
		}
	}
	return ""
}

// received is what came to the apps since it was last asked.
func (q *quarter) received() (all []entry) {
	for _, app := range q.apps {
		all = append(all, app.take()...)
	}
	return all
}

// forbidden is a reading of what the app received that this visitor must not
// have, or empty.
func forbidden(c *corner, who int, e entry) string {
	all := readingsOf(e.target())
	if info := e.envs["PATH_INFO"]; info != "" {
		all = append(all, readingsOf(info)...)
	}
	for _, path := range all {
		if who == asNobody && !c.open(e, path) || who == asGrace && c.closed(e, path) {
			return path
		}
	}
	return ""
}

// FuzzPolicyUpstream asks a real Caddy for paths in every spelling. Whatever
// the app receives is, however it reads it, what its sender may have.
//
// An ordinary run asks what E2E_SEED draws, besides the seeds.
func FuzzPolicyUpstream(f *testing.F) {
	q := newQuarter(f, corners, "")
	if flag.Lookup("test.fuzz").Value.String() == "" {
		q.askAtRandom(f, 6000)
	}
	f.Fuzz(func(t *testing.T, input []byte) { q.try(t, input) })
}

// askAtRandom asks so much that every rule of every corner lets somebody pass.
func (q *quarter) askAtRandom(t testing.TB, times int) {
	seed, _ := strconv.ParseUint(os.Getenv("E2E_SEED"), 10, 64) // unset: the same each time
	chance := rand.New(rand.NewPCG(seed, 2))
	for range times {
		q.try(t, drawn(chance, 25))
	}
	t.Logf("seed %d: reached the app %v", seed, q.passed)
	for _, c := range corners {
		for _, who := range []int{asNobody, asGrace, asAda} {
			if q.passed[fmt.Sprint(c.name, who)] == 0 {
				t.Errorf("seed %d: %d reached no app at %s", seed, who, c.name)
			}
		}
	}
}

// drawn is an input of fewer bytes than these.
func drawn(chance *rand.Rand, below int) []byte {
	input := make([]byte, 5+chance.IntN(below-5))
	for i := range input {
		input[i] = byte(chance.Uint32())
	}
	return input
}
