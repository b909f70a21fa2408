package moving_test

import (
	"net"
	"net/http"
	"net/http/fcgi"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// site is a host of a Caddyfile.
var site = regexp.MustCompile(`(?m)^(\S+\.example\.com) {`)

// stage is a Caddy that serves one product's Caddyfile, with one app behind all
// of its sites, and one issuer in front.
type stage struct {
	*e2e.Caddy
	t         *testing.T
	caddyfile string
	hosts     []string
	issuer    *logintest.Issuer
	app       *e2e.App
}

// people are who signs in. Eve is nobody's employee.
var people = []logintest.Person{
	{Subject: "248289761001", Name: "Ada Lovelace", Email: "ada@example.com", EmailVerified: true,
		Groups: []string{"admins", "staff"}, Claims: map[string]any{"preferred_username": "ada"}},
	{Subject: "248289761002", Name: "Eve", Email: "eve@example.org", EmailVerified: true,
		Claims: map[string]any{"preferred_username": "eve"}},
}

const ada, eve = "248289761001", "248289761002"

// show serves a product's Caddyfile. Only what can't be had here is replaced.
func show(t *testing.T, product string) *stage {
	t.Helper()
	s := &stage{Caddy: operator(t), t: t, app: e2e.NewApp(t), issuer: logintest.NewIssuer(t)}
	for _, person := range people {
		s.issuer.Person(person)
	}
	s.caddyfile = read(t, product+".Caddyfile")
	for _, found := range site.FindAllStringSubmatch(s.caddyfile, -1) {
		s.hosts = append(s.hosts, found[1])
	}
	for _, change := range []struct{ old, new string }{
		{`(?m)^\s*#.*\n`, ""},
		{`issuer https://\S+`, "issuer " + s.issuer.URL},
		{`reverse_proxy localhost:\d+`, "reverse_proxy " + s.app.Addr},
		{`php_fastcgi localhost:9000`, "php_fastcgi " + php(t, s.app)},
		{`root /srv/wiki`, "root " + phpFiles(t)},
	} {
		s.caddyfile = regexp.MustCompile(change.old).ReplaceAllLiteralString(s.caddyfile, change.new)
	}
	s.Start(s.caddyfile)
	s.register(product)
	s.awaitCertificates()
	return s
}

// register makes every site a client of the issuer.
func (s *stage) register(product string) {
	provider := regexp.MustCompile(`oidc (\w+) `).FindStringSubmatch(read(s.t, product+".Caddyfile"))[1]
	var callbacks []string
	for _, host := range s.hosts {
		callbacks = append(callbacks, s.at(host, "/.login/"+provider+"/callback"))
	}
	s.issuer.Client(clientID, secret, callbacks...)
}

// awaitCertificates waits until Caddy can speak for each site: it makes the
// certificates while it serves already.
func (s *stage) awaitCertificates() {
	s.t.Helper()
	visitor := e2e.NewVisitor(s.t)
	for _, host := range s.hosts {
		e2e.Eventually(s.t, time.Minute, "a certificate for "+host, func() bool {
			_, err := visitor.Try(visitor.Navigation(s.at(host, "/")))
			return err == nil
		})
	}
}

func (s *stage) at(host, path string) string {
	return "https://" + host + ":" + strconv.Itoa(s.Port) + path
}

// signIn is somebody new who opens address and says at the issuer who it is,
// and where that ends.
func (s *stage) signIn(address, subject string) (*e2e.Visitor, e2e.Answer) {
	s.t.Helper()
	visitor := e2e.NewVisitor(s.t)
	asked := visitor.Follow(address)
	if !strings.HasPrefix(asked.Request.URL.String(), s.issuer.URL+"/") {
		s.t.Fatalf("%s leads to %s: %d\n%.1000s", address, asked.Request.URL, asked.StatusCode, asked.Body)
	}
	browser := &http.Client{Jar: visitor.Jar, Transport: visitor.Transport}
	callback, _ := s.issuer.SignIn(s.t, browser, asked.Request.URL.String(), subject)
	return visitor, visitor.Follow(callback.String())
}

// phpFiles is a directory with what php_fastcgi looks for.
func phpFiles(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "index.php"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// php is where an app listens that speaks FastCGI, as PHP does. It sends its
// environment on to app, as headers.
func php(t *testing.T, app *e2e.App) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		// Its error is that the listener was closed.
		_ = fcgi.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			onward, err := http.NewRequestWithContext(r.Context(), http.MethodGet, "http://"+app.Addr+"/", nil)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			for name, value := range fcgi.ProcessEnv(r) {
				onward.Header[name] = []string{value}
			}
			answer, err := http.DefaultTransport.RoundTrip(onward)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			answer.Body.Close()
			w.WriteHeader(answer.StatusCode)
		}))
	}()
	return listener.Addr().String()
}
