package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// demo is a running one, and a browser in front of it.
type demo struct {
	t            *testing.T
	url, mailbox string
	browser      *http.Client
	stop         func() // waits until it has ended
}

// notes is an output that can be read while it is written.
type notes struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (n *notes) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.b.Write(p)
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.b.String()
}

func flags(t *testing.T) (port int, args []string) {
	port = e2e.FreePort(t)
	return port, []string{
		fmt.Sprint("-port=", port), fmt.Sprint("-provider-port=", e2e.FreePort(t)), fmt.Sprint("-app-port=", e2e.FreePort(t)),
		fmt.Sprint("-mailbox-port=", e2e.FreePort(t)),
	}
}

// start runs the demo until the test ends, and fails it if that does not end
// well.
func start(t *testing.T) *demo {
	t.Helper()
	port, args := flags(t)
	// Not t.Context(): that ends before the browsers have gone.
	ctx, end := context.WithCancel(context.Background())
	ended, out := make(chan error, 1), &guide{ready: make(chan struct{})}
	go func() { ended <- run(ctx, args, out) }()
	stop := sync.OnceFunc(func() {
		end()
		if err := <-ended; err != nil {
			t.Errorf("the demo ended with: %v", err)
		}
	})
	t.Cleanup(stop)
	select {
	case <-out.ready:
	case err := <-ended:
		ended <- err
		t.Fatalf("the demo did not start: %v", err)
	}
	mailbox := strings.Replace(args[3], "-mailbox-port=", "http://localhost:", 1)
	return &demo{t, fmt.Sprint("http://localhost:", port), mailbox, newBrowser(t), stop}
}

// guide is ready when the guide was printed: that comes last.
type guide struct {
	notes
	once  sync.Once
	ready chan struct{}
}

func (g *guide) Write(p []byte) (int, error) {
	defer g.once.Do(func() { close(g.ready) })
	return g.notes.Write(p)
}

func newBrowser(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: jar, Timeout: 30 * time.Second}
}

func (d *demo) get(path string) (status int, at *url.URL, body string) {
	d.t.Helper()
	req, err := http.NewRequest("GET", d.url+path, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html")
	return d.read(d.browser.Do(req))
}

func (d *demo) read(res *http.Response, err error) (int, *url.URL, string) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return res.StatusCode, res.Request.URL, string(body)
}

var toProvider = regexp.MustCompile(`href="(/\.login/demo[^"]*)"`)

// signIn goes to path, chooses the provider, picks a person there, and returns
// where that led.
func (d *demo) signIn(path, subject string) (status int, at *url.URL, body string) {
	d.t.Helper()
	_, at, page := d.get(path)
	way := toProvider.FindStringSubmatch(page)
	if way == nil {
		d.t.Fatalf("at %s there is no way to the provider: %s", at, page)
	}
	_, asked, page := d.get(html.UnescapeString(way[1]))
	if !strings.Contains(page, "Demo provider — pick who you want to be") {
		d.t.Fatalf("at %s: %s", asked, page)
	}
	pick := *asked
	pick.Path = "/oauth/pick"
	return d.read(d.browser.PostForm(pick.String(), url.Values{"subject": {subject}}))
}

func TestAdaSeesEverythingAndComesBackToWhereSheWanted(t *testing.T) {
	d := start(t)
	status, at, body := d.signIn("/admin/?x=1", "10001")
	if status != http.StatusOK || at.String() != d.url+"/admin/?x=1" {
		t.Fatalf("landed at %s with %d", at, status)
	}
	for _, want := range []string{"You are Ada", "ada@example.com", "admins", "Remote-User", "Remote-Email"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(body, "provider_session") {
		t.Error("the app sees the provider's cookie")
	}
}

func TestBobIsShutOutOfAdmin(t *testing.T) {
	d := start(t)
	if status, _, body := d.signIn("/", "10002"); status != http.StatusOK || !strings.Contains(body, "You are Bob") {
		t.Fatalf("status %d", status)
	}
	if status, _, body := d.get("/admin/"); status != http.StatusForbidden || strings.Contains(body, "For admins only") {
		t.Fatalf("admin page: %d", status)
	}
}

func TestEveProvesHerMailFirst(t *testing.T) {
	d := start(t)
	status, _, body := d.signIn("/", "10003")
	if status != http.StatusOK || !strings.Contains(body, "Is this your address?") {
		t.Fatalf("status %d: %s", status, body)
	}
	// Nobody is in who may be somebody else: not until the code is typed.
	if status, _, body := d.get("/"); status != http.StatusOK || strings.Contains(body, "You are") {
		t.Errorf("status %d: %s", status, body)
	}
	b := e2e.NewBrowser(t)
	b.Get(d.url + "/.login/demo").Click("Eve").See("Is this your address?").Click("Send me a code")
	b.Submit("code", d.letter("eve@example.com").code()).See("You are Eve").See("eve@example.com")
}

func TestPublicPageNeedsNobodyAndBelievesNoForgery(t *testing.T) {
	d := start(t)
	req, _ := http.NewRequest("GET", d.url+"/public/", nil)
	req.Header.Set("Remote-User", "forged")
	status, _, body := d.read(d.browser.Do(req))
	if status != http.StatusOK || !strings.Contains(body, "Nobody is signed in") || strings.Contains(body, "forged") {
		t.Fatalf("status %d: %s", status, body)
	}
}

func TestAnonymousCallIsNotRedirected(t *testing.T) {
	d := start(t)
	status, _, _ := d.read(d.browser.Get(d.url + "/api/me"))
	if status != http.StatusUnauthorized {
		t.Fatalf("status %d", status)
	}
}

func TestDemoStopsThoughAStreamIsOpen(t *testing.T) {
	d := start(t)
	d.signIn("/", "10001")
	res, err := d.browser.Get(d.url + "/events")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	if line, err := bufio.NewReader(res.Body).ReadString('\n'); err != nil || !strings.HasPrefix(line, "data: ") {
		t.Fatalf("got %q, %v", line, err)
	}
	d.stop()
}

func TestSilentConnectionDoesNotKeepAServerFromStopping(t *testing.T) {
	var stops closers
	port := e2e.FreePort(t)
	if err := serve(newApp("http://localhost:9002"), "127.0.0.1", port, "-app-port", &stops); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := stops.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); err != nil {
		t.Logf("cut with %v", err)
	}
	if again, err := listen("127.0.0.1", port, "-app-port"); err != nil {
		t.Error(err)
	} else {
		again.Close()
	}
}

func TestTakenPortIsNamedWithTheCure(t *testing.T) {
	for _, option := range []string{"-port", "-provider-port", "-app-port", "-mailbox-port"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		taken := l.Addr().(*net.TCPAddr).Port
		_, args := flags(t)
		var out notes
		err = run(t.Context(), append(args, fmt.Sprint(option, "=", taken)), &out)
		want := fmt.Sprintf("port %d is taken: stop what uses it, or choose another with %s", taken, option)
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v", option, err)
		}
		if out.String() != "" {
			t.Errorf("%s: printed %q", option, out.String())
		}
	}
}

func TestUnknownArgumentIsRefused(t *testing.T) {
	if err := run(t.Context(), []string{"stop"}, io.Discard); err == nil || !strings.Contains(err.Error(), `"stop"`) {
		t.Fatalf("got %v", err)
	}
}

func ask(h http.Handler, path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", "http://localhost"+path, nil)
	for n := 0; n < len(headers); n += 2 {
		r.Header.Set(headers[n], headers[n+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestAppTellsWhoTheHeadersName(t *testing.T) {
	w := ask(newApp("http://localhost:9002"), "/api/me", "Remote-User", "u1", "Remote-Name", "Zo%C3%AB", "Remote-Groups", "a%2Cb,c")
	var got visitor
	if err := json.NewDecoder(w.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if got.User != "u1" || got.Name != "Zoë" || fmt.Sprintf("%q", got.Groups) != `["a,b" "c"]` || got.Roles == nil {
		t.Fatalf("got %+v", got)
	}
}

func TestAppShowsHeadersAsText(t *testing.T) {
	for _, path := range []string{"/", "/public/", "/admin/", "/nowhere"} {
		w := ask(newApp("http://localhost:9002"), path, "Remote-Name", "<script>alert(1)</script>", "Remote-User", `"><b>`, "Remote-Assertion", "a.e30.b", "X-Odd", "<i>")
		body := w.Body.String()
		for _, markup := range []string{"<script>alert", "<b>\"", "<i>"} {
			if strings.Contains(body, markup) {
				t.Errorf("%s: %q came through", path, markup)
			}
		}
		if (w.Code == http.StatusNotFound) != (path == "/nowhere") {
			t.Errorf("%s: status %d", path, w.Code)
		}
	}
}

func TestAppShowsWhatTheAssertionSays(t *testing.T) {
	payload := base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"u1"}`))
	body := ask(newApp("http://localhost:9002"), "/", "Remote-User", "u1", "Remote-Assertion", "e30."+payload+".c2ln").Body.String()
	if !strings.Contains(body, "{\n  &#34;sub&#34;: &#34;u1&#34;\n}") {
		t.Fatal(body)
	}
}

func TestBrokenAssertionShowsNothing(t *testing.T) {
	for _, assertion := range []string{"", "a", "a.b", "a.!.c", "a.bm8.c", "a.e30.c.d"} {
		if got := claimsOf(assertion); got != "" {
			t.Errorf("%q shows %q", assertion, got)
		}
	}
}

func TestSecretIsNewAtEachStart(t *testing.T) {
	_, first := newProvider(1, 2)
	_, second := newProvider(1, 2)
	if first == second || len(first) < 20 {
		t.Fatalf("%q, %q", first, second)
	}
}
