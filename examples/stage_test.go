package examples_test

import (
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// stage is a Caddy that serves an example.
type stage struct {
	*e2e.Caddy
	t *testing.T
}

// replacement puts one thing that this machine has in the place of one that
// it can't have. The example must hold old.
type replacement struct{ old, new string }

// show serves an example. Only what can't be had here is replaced; host names
// stay, since a Visitor finds every host on this machine.
func show(t *testing.T, name string, changes ...replacement) *stage {
	t.Helper()
	content, err := os.ReadFile(path(t, name))
	if err != nil {
		t.Fatal(err)
	}
	caddyfile := comment.ReplaceAllString(string(content), "")
	for _, change := range changes {
		if !strings.Contains(caddyfile, change.old) {
			t.Fatalf("examples/%s does not hold %q", name, change.old)
		}
		caddyfile = strings.ReplaceAll(caddyfile, change.old, change.new)
	}
	s := &stage{operator(t), t}
	for variable, secret := range secrets {
		s.Env[variable] = secret
	}
	s.Start(caddyfile)
	for _, host := range site.FindAllStringSubmatch(caddyfile, -1) {
		s.awaitCertificate(host[1])
	}
	return s
}

var (
	comment = regexp.MustCompile(`(?m)^\s*#.*\n`)
	site    = regexp.MustCompile(`(?m)^(\S+\.example\.(?:com|net)) {`)
)

// at is an address at one of the example's hosts.
func (s *stage) at(host, path string) string {
	return "https://" + host + ":" + strconv.Itoa(s.Port) + path
}

// awaitCertificate waits until Caddy can speak for host: it makes the
// certificates while it serves already.
func (s *stage) awaitCertificate(host string) {
	s.t.Helper()
	visitor := e2e.NewVisitor(s.t)
	e2e.Eventually(s.t, time.Minute, "a certificate for "+host, func() bool {
		_, err := visitor.Try(visitor.Navigation(s.at(host, "/")))
		return err == nil
	})
}

// register makes Caddy, as it stands in front of hosts, a client of the issuer.
func (s *stage) register(issuer *logintest.Issuer, provider, id, secret string, hosts ...string) {
	var callbacks []string
	for _, host := range hosts {
		callbacks = append(callbacks, s.at(host, "/.login/"+provider+"/callback"))
	}
	issuer.Client(id, secret, callbacks...)
}

// signIn opens address, is led to the issuer, says there who it is, and
// returns where that ends.
func (s *stage) signIn(visitor *e2e.Visitor, issuer *logintest.Issuer, address, subject string) e2e.Answer {
	s.t.Helper()
	asked := visitor.Follow(address)
	if !strings.HasPrefix(asked.Request.URL.String(), issuer.URL+"/") {
		s.t.Fatalf("%s leads to %s, not to %s: %d\n%.1000s", address, asked.Request.URL, issuer.URL, asked.StatusCode, asked.Body)
	}
	browser := &http.Client{Jar: visitor.Jar, Transport: visitor.Transport}
	callback, _ := issuer.SignIn(s.t, browser, asked.Request.URL.String(), subject)
	return visitor.Follow(callback.String())
}

// visitor is somebody who signed in at address, admitted or not.
func (s *stage) visitor(issuer *logintest.Issuer, address, subject string) *e2e.Visitor {
	s.t.Helper()
	visitor := e2e.NewVisitor(s.t)
	s.signIn(visitor, issuer, address, subject)
	return visitor
}

// wantStrangersKeptOut checks what somebody unknown gets at address: a person
// is led to the sign-in, a program is told where it is, and the app hears of
// neither.
func (s *stage) wantStrangersKeptOut(app *e2e.App, address string) {
	s.t.Helper()
	app.Forget()
	stranger := e2e.NewVisitor(s.t)
	s.want(stranger.Get(address), http.StatusFound)
	refusal := stranger.Another().Do(stranger.Request(http.MethodGet, address, ""))
	s.want(refusal, http.StatusUnauthorized)
	if kind := refusal.Header.Get("Content-Type"); kind != "application/problem+json" {
		s.t.Errorf("a program at %s is answered with %q", address, kind)
	}
	if heard := len(app.Requests()); heard > 0 {
		s.t.Errorf("the app heard %d requests of strangers", heard)
	}
}

func (s *stage) want(got e2e.Answer, status int) {
	s.t.Helper()
	if got.StatusCode != status {
		s.t.Errorf("%s %s: %d, want %d:\n%.1000s", got.Request.Method, got.Request.URL, got.StatusCode, status, got.Body)
	}
}

// wantToldCallback checks that the log names the URL to register.
func (s *stage) wantToldCallback(url string) {
	s.t.Helper()
	if !strings.Contains(s.Log(), `"`+url+`"`) {
		s.t.Errorf("the log does not name the callback URL %s", url)
	}
}

// wantHeader checks a header of the request that the app received last.
func wantHeader(t *testing.T, app *e2e.App, name, value string) {
	t.Helper()
	if got := strings.Join(app.Last().Values(name), "|"); got != value {
		t.Errorf("the app received %s: %q, want %q", name, got, value)
	}
}
