package examples_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// front is a proxy that asks a Caddy who may pass to an app.
type front struct {
	t      *testing.T
	name   string // of the example
	dir    string // a copy of its files, as they run here
	port   int    // the proxy's, with TLS
	origin string
	login  *stage
	inner  string // host and port of the Caddy that is asked
	app    *e2e.App
	corp   *logintest.Issuer
}

// stand starts everything but the proxy.
func stand(t *testing.T, name string) *front {
	t.Helper()
	f := &front{t: t, name: name, dir: t.TempDir(), port: e2e.FreePort(t), app: e2e.NewApp(t), corp: newCorp(t)}
	f.origin = fmt.Sprintf("https://app.example.com:%d", f.port)
	inner := e2e.FreePort(t)
	f.inner = fmt.Sprintf("127.0.0.1:%d", inner)
	f.login = show(t, name,
		replacement{"https://id.example.com", f.corp.URL},
		replacement{"http://:9080", fmt.Sprintf("http://:%d", inner)},
		replacement{"origin https://app.example.com", "origin " + f.origin})
	f.corp.Client(secrets["OIDC_CLIENT_ID"], secrets["OIDC_CLIENT_SECRET"], f.origin+"/.login/corp/callback")
	return f
}

// file copies a file of the example with changes, and returns where it lies.
func (f *front) file(name string, changes ...replacement) string {
	f.t.Helper()
	content, err := os.ReadFile(filepath.Join(f.name, name))
	if err != nil {
		f.t.Fatal(err)
	}
	text := string(content)
	for _, change := range changes {
		if !strings.Contains(text, change.old) {
			f.t.Fatalf("examples/%s/%s does not hold %q", f.name, name, change.old)
		}
		text = strings.ReplaceAll(text, change.old, change.new)
	}
	return f.write(name, text)
}

func (f *front) write(name, text string) string {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
	return path
}

// certificate makes one for the site, and returns certificate and key as PEM.
func (f *front) certificate() (certificate, key string) {
	f.t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"app.example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, &secret.PublicKey, secret)
	if err != nil {
		f.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		f.t.Fatal(err)
	}
	encode := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return encode("CERTIFICATE", signed), encode("PRIVATE KEY", der)
}

// run starts the proxy and waits until it listens.
func (f *front) run(program string, env []string, args ...string) {
	f.t.Helper()
	proxy, output := exec.Command(program, args...), new(strings.Builder)
	proxy.Stdout, proxy.Stderr, proxy.Env = output, output, append(os.Environ(), env...)
	if err := proxy.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		_ = proxy.Process.Signal(os.Interrupt) // it may have ended, which its output tells
		_ = proxy.Wait()
		if f.t.Failed() {
			f.t.Logf("%s wrote:\n%.4000s", program, output)
		}
	})
	e2e.Eventually(f.t, time.Minute, program, func() bool {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", f.port))
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
}

func found(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		e2e.Without(t, program)
	}
	return path
}

func nginxAsks(t *testing.T) {
	program := found(t, "nginx")
	f := stand(t, "forward-auth-nginx")
	certificate, key := f.certificate()
	site := f.file("app.conf",
		replacement{"listen 443 ssl", fmt.Sprintf("listen 127.0.0.1:%d ssl", f.port)},
		replacement{"/etc/nginx/app.example.com.pem", f.write("site.pem", certificate)},
		replacement{"/etc/nginx/app.example.com.key", f.write("site.key", key)},
		replacement{"127.0.0.1:9080", f.inner},
		replacement{"127.0.0.1:3000", f.app.Addr})
	whole := "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr;\nevents {}\nhttp {\naccess_log off;\n"
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		whole += kind + "_temp_path " + filepath.Join(f.dir, kind) + ";\n"
	}
	f.run(program, nil, "-e", "stderr", "-p", f.dir, "-c", f.write("nginx.conf", whole+"include "+site+";\n}\n"))
	f.keepsItsPromises()
}

func haproxyAsks(t *testing.T) {
	program := found(t, "haproxy")
	f := stand(t, "forward-auth-haproxy")
	certificate, key := f.certificate()
	config := f.file("haproxy.cfg",
		replacement{"bind :443", fmt.Sprintf("bind 127.0.0.1:%d", f.port)},
		replacement{"/etc/haproxy/login.lua", f.file("login.lua")},
		replacement{"/etc/haproxy/app.example.com.pem", f.write("site.pem", certificate+key)},
		replacement{"127.0.0.1:9080", f.inner},
		replacement{"127.0.0.1:3000", f.app.Addr})
	f.run(program, []string{"LOGIN=http://" + f.inner}, "-db", "-f", config)
	f.keepsItsPromises()
}

func caddyAsksForAnotherProxy(t *testing.T) {
	f := stand(t, "forward-auth-caddy")
	outer := operator(t)
	content, err := os.ReadFile(f.file("outer.Caddyfile",
		replacement{"app.example.com {", f.origin + " {"},
		replacement{"127.0.0.1:9080", f.inner},
		replacement{"localhost:3000", f.app.Addr}))
	if err != nil {
		t.Fatal(err)
	}
	outer.Start(string(content))
	visitor := e2e.NewVisitor(t)
	e2e.Eventually(t, time.Minute, "a certificate", func() bool {
		_, err := visitor.Try(visitor.Navigation(f.origin + "/public/a"))
		return err == nil
	})
	f.keepsItsPromises()
}

// keepsItsPromises walks through everything that the examples say.
func (f *front) keepsItsPromises() {
	f.t.Run("people sign in", f.peopleSignIn)
	f.t.Run("nobody is who they say", f.nobodyIsWhoTheySay)
	f.t.Run("no other request is judged", f.noOtherRequestIsJudged)
	f.t.Run("the answer is for the proxy", f.answerIsForTheProxy)
}

func (f *front) peopleSignIn(t *testing.T) {
	inside := f.origin + "/inside?page=2"
	f.login.t = t
	f.login.wantStrangersAsked(f, inside)
	ada := e2e.NewVisitor(t)
	landed := f.login.signIn(ada, f.corp, inside, "ada")
	f.login.want(landed, http.StatusOK)
	if got := landed.Request.URL.String(); got != inside {
		t.Errorf("Ada wanted to see %s and sees %s", inside, got)
	}
	wantHeader(t, f.app, "Remote-Email", "ada@example.com")
	wantHeader(t, f.app, "Remote-Groups", "employees,everybody,external-users,writers")
	if token := f.app.Last().Values("Remote-Assertion"); len(token) != 1 || strings.Count(token[0], ".") != 2 {
		t.Errorf("the app received assertions %q", token)
	}
	r := ada.Navigation(f.origin + "/writing/a")
	r.Header.Set("Cookie", "theme=dark")
	f.login.want(ada.Do(r), http.StatusOK)
	wantHeader(t, f.app, "Cookie", "theme=dark")
	f.login.want(ada.Get(f.origin+"/writing/a"), http.StatusOK)
	if cookies := f.app.Last().Value("Cookie"); strings.Contains(cookies, "login") {
		t.Errorf("the app received the session: %s", cookies)
	}
	grace := f.login.visitor(f.corp, inside, "grace")
	f.app.Forget()
	f.login.want(grace.Get(f.origin+"/writing/a"), http.StatusForbidden)
	f.heardNothing(t, "of somebody not admitted")

	ada.Submit(ada.Get(f.origin + "/.login/logout"))
	f.app.Forget()
	f.login.want(ada.Get(inside), http.StatusFound)
	f.heardNothing(t, "after the sign-out")
}

// wantStrangersAsked is wantStrangersKeptOut where the 401 is the proxy's own.
func (s *stage) wantStrangersAsked(f *front, address string) {
	s.t.Helper()
	f.app.Forget()
	stranger := e2e.NewVisitor(s.t)
	s.want(stranger.Get(address), http.StatusFound)
	refusal := stranger.Another().Do(stranger.Request(http.MethodGet, address, ""))
	s.want(refusal, http.StatusUnauthorized)
	if cookies := refusal.Header.Values("Set-Cookie"); len(cookies) > 0 {
		s.t.Errorf("a program is given cookies: %q", cookies)
	}
	s.want(stranger.Do(stranger.Request(http.MethodPost, address, "a=b")), http.StatusUnauthorized)
	f.heardNothing(s.t, "of strangers")
}

func (f *front) heardNothing(t *testing.T, of string) {
	t.Helper()
	for _, request := range f.app.Requests() {
		t.Errorf("the app heard %s:\n%s", of, request.Raw)
	}
	f.app.Forget()
}

func (f *front) nobodyIsWhoTheySay(t *testing.T) {
	f.login.t = t
	grace := f.login.visitor(f.corp, f.origin+"/inside", "grace")
	for who, cookies := range map[string]string{"nobody": "a=b", "grace": strings.Join(grace.Cookies(f.origin), "; ")} {
		f.app.Forget()
		head := "GET /public/a HTTP/1.1\r\nHost: " + strings.TrimPrefix(f.origin, "https://") + "\r\nCookie: " + cookies + "\r\n"
		for _, name := range []string{"User", "Email", "Name", "Groups", "Roles", "Assertion"} {
			head += "Remote-" + name + ": forged\r\nremote-" + name + ": forged\r\nRemote_" + name + ": forged\r\nREMOTE_" + strings.ToUpper(name) + ": forged\r\n"
		}
		got := e2e.Dial(t, f.origin).Say("%s\r\n", head).Hear("GET")
		if heard := f.app.Requests(); got.StatusCode == http.StatusOK && len(heard) == 0 {
			t.Errorf("%s: 200, and the app heard nothing", who)
		}
		for _, request := range f.app.Requests() {
			if strings.Contains(request.Raw, "forged") {
				t.Errorf("%s: the app received\n%s", who, request.Raw)
			}
		}
		if got.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", who, got.StatusCode)
		}
	}
}

func (f *front) noOtherRequestIsJudged(t *testing.T) {
	host := strings.TrimPrefix(f.origin, "https://")
	public := f.origin + "/public/a"
	f.app.Forget()
	for _, head := range []string{
		"X-Forwarded-Uri: /public/a", "X-Original-URL: " + public, "X-Original-URL: " + public + "\r\nX-Original-Method: GET",
		"X-Forwarded-Uri: /public/a\r\nX-Forwarded-Host: " + host + "\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Method: GET",
		"X-Rewrite-Url: /public/a", "Connection: X-Forwarded-Uri, X-Original-URL", "X-Forwarded-Method: GET\r\nX-HTTP-Method-Override: GET",
	} {
		got := e2e.Dial(t, f.origin).Say("GET /writing/a HTTP/1.1\r\nHost: %s\r\n%s\r\n\r\n", host, head).Hear("GET")
		if got.StatusCode != http.StatusUnauthorized && got.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %d", head, got.StatusCode)
		}
	}
	for _, path := range []string{
		"/public/..%2fwriting/a", "/public/%2e%2e/writing/a", "/public/..;/writing/a", "/public/..%5cwriting/a", "//writing/a", "/public//writing/a",
		"/.login/../writing/a", "/.login/..%2fwriting/a", "/.login/check/../../writing/a", "/%2elogin/../writing/a", "/writing/a?x=/public/a",
	} {
		wire := e2e.Dial(t, f.origin).Say("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, host)
		if got := wire.Hear("GET"); got.StatusCode < 400 {
			t.Errorf("%s: %d", path, got.StatusCode)
		}
	}
	f.heardNothing(t, "what was judged as another request")
	foreign := "GET /public/a HTTP/1.1\r\nHost: " + host + "\r\nOrigin: https://evil.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n\r\n"
	if got := e2e.Dial(t, f.origin).Say("%s", foreign).Hear("GET"); got.StatusCode != http.StatusForbidden {
		t.Errorf("another site's WebSocket: %d", got.StatusCode)
	}
	f.heardNothing(t, "another site's WebSocket")
}

// answerIsForTheProxy checks that a script in a page cannot read the assertion
// by asking itself.
func (f *front) answerIsForTheProxy(t *testing.T) {
	f.login.t = t
	ada := f.login.visitor(f.corp, f.origin+"/inside", "ada")
	f.app.Forget()
	for _, path := range []string{
		"/.login/check", "/.login/check/", "/.login/check/inside", "/.login/check?x", "/.login/%63heck", "/.login//check", "/.login/x/../check", "/.login/./check",
	} {
		wire := e2e.Dial(t, f.origin)
		wire.Say("GET %s HTTP/1.1\r\nHost: %s\r\nCookie: %s\r\n", path, strings.TrimPrefix(f.origin, "https://"), strings.Join(ada.Cookies(f.origin), "; "))
		wire.Say("X-Forwarded-Uri: /inside\r\nX-Forwarded-Method: GET\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: %s\r\nConnection: close\r\n\r\n", strings.TrimPrefix(f.origin, "https://"))
		got := wire.Hear("GET")
		if got.StatusCode < 300 || got.Header.Get("Remote-User") != "" {
			t.Errorf("%s answers %d with %v", path, got.StatusCode, got.Header)
		}
	}
	f.heardNothing(t, "a question")
}

// ask asks as a proxy that cannot be had here does, by its documentation.
func (f *front) ask(visitor *e2e.Visitor, address string, head http.Header) e2e.Answer {
	f.t.Helper()
	r := visitor.Navigation(address)
	for name, values := range head {
		r.Header[name] = values
	}
	u, err := url.Parse(f.origin)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, cookie := range visitor.Jar.Cookies(u) {
		r.AddCookie(cookie)
	}
	answer, err := visitor.Another().Try(r)
	if err != nil {
		f.t.Fatal(err)
	}
	return answer
}

// behind makes the sign-in pages reachable below the site's origin, as the proxy
// would.
func (f *front) behind() *e2e.Caddy {
	outer := operator(f.t)
	outer.Start(f.origin + " {\n\treverse_proxy " + f.inner + "\n}\n")
	visitor := e2e.NewVisitor(f.t)
	e2e.Eventually(f.t, time.Minute, "a certificate", func() bool {
		_, err := visitor.Try(visitor.Navigation(f.origin + "/public/a"))
		return err == nil
	})
	return outer
}

// judges checks the answers to a proxy that copies a redirect to the browser.
func (f *front) judges(ask func(*e2e.Visitor, string, http.Header) e2e.Answer) {
	t := f.t
	f.behind()
	stranger := e2e.NewVisitor(t)
	asked := ask(stranger, "/inside?page=2", http.Header{"Sec-Fetch-Mode": {"navigate"}})
	f.login.want(asked, http.StatusFound)
	want := f.origin + "/.login/?return=" + url.QueryEscape("/inside?page=2")
	if to := asked.Header.Get("Location"); to != want {
		t.Errorf("sends people to %s, want %s", to, want)
	}
	f.login.want(ask(stranger, "/inside", http.Header{"Sec-Fetch-Mode": {"cors"}}), http.StatusUnauthorized)
	f.login.want(ask(stranger, "/public/a", nil), http.StatusOK)
	ada := f.login.visitor(f.corp, want, "ada")
	passed := ask(ada, "/writing/a", nil)
	f.login.want(passed, http.StatusOK)
	if passed.Header.Get("Remote-Email") != "ada@example.com" || passed.Header.Get("Remote-Assertion") == "" {
		t.Errorf("tells %v", passed.Header)
	}
	f.login.want(ask(f.login.visitor(f.corp, want, "grace"), "/writing/a", nil), http.StatusForbidden)
	f.login.want(ask(ada, "/.login/account", nil), http.StatusForbidden)
}

// https://doc.traefik.io/traefik/reference/routing-configuration/http/middlewares/forwardauth/
func traefikDescribesByItsHeaders(t *testing.T) {
	f := stand(t, "forward-auth-traefik")
	f.judges(func(visitor *e2e.Visitor, target string, head http.Header) e2e.Answer {
		described := http.Header{
			"X-Forwarded-Method": {"GET"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-For": {"192.0.2.1"},
			"X-Forwarded-Host": {"app.example.com:" + strconv.Itoa(f.port)}, "X-Forwarded-Uri": {target},
		}
		for name, values := range head {
			described[name] = values
		}
		return f.ask(visitor, "http://"+f.inner+"/.login/check", described)
	})
}

// https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/ext_authz_filter
func envoyDescribesByTheAddress(t *testing.T) {
	f := stand(t, "forward-auth-envoy")
	f.judges(func(visitor *e2e.Visitor, target string, head http.Header) e2e.Answer {
		u, err := url.Parse("http://" + f.inner + "/.login/check" + target)
		if err != nil {
			t.Fatal(err)
		}
		r := visitor.Navigation(u.String())
		r.Host = "app.example.com:" + strconv.Itoa(f.port)
		for name, values := range head {
			r.Header[name] = values
		}
		origin, _ := url.Parse(f.origin)
		for _, cookie := range visitor.Jar.Cookies(origin) {
			r.AddCookie(cookie)
		}
		return visitor.Another().Do(r)
	})
}
