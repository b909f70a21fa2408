package module

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/signin"
)

// calling is a gate whose API is called, with a clock for all that a call begins.
type calling struct {
	*Gate
	t     testing.TB
	house *house
	clock *logintest.Clock
}

const verifierOfApp = "the-verifier-of-an-app-which-only-it-can-know"

func bindingOfApp(verifier string) string {
	hash := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(hash[:])
}

func newCalling(t testing.TB) *calling {
	t.Helper()
	g := openGate(t, `{"allow":[{"who":["users"]}],"mail":{"mailer":"silence"},"origins":["`+gatehouseSite+`"],"providers":[
		{"provider":"witness"},{"provider":"email"},
		{"provider":"oidc","name":"bench","client_id":"a","client_secret":"b","issuer":"http://127.0.0.1:1"}]}`)
	house, err := g.app.door.enter()
	if err != nil {
		t.Fatal(err)
	}
	c := &calling{Gate: g, t: t, house: house, clock: new(logintest.Clock)}
	g.now = c.clock.Now
	return c
}

// do makes a request of a caller without cookies, or with these.
func (c *calling) do(method, path, kind, body, cookie string) *httptest.ResponseRecorder {
	c.t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, gatehouseSite+path, strings.NewReader(body))
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	if cookie != "" {
		r.Header.Set("Cookie", cookie)
		r.Header.Set("Origin", gatehouseSite)
	}
	err := c.ServeHTTP(w, caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{}), caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
		c.t.Errorf("%s reached the app", path)
		return nil
	}))
	if err != nil {
		c.t.Error(err)
	}
	return w
}

// call calls the API.
func (c *calling) call(path string, members map[string]string) (status int, out envelope) {
	c.t.Helper()
	body, err := json.Marshal(members)
	if err != nil {
		c.t.Fatal(err)
	}
	w := c.do(http.MethodPost, "/.login/api/v1/"+path, "application/json", string(body), "")
	if w.Code == http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
			c.t.Fatalf("%v in %s", err, w.Body)
		}
	}
	return w.Code, out
}

// begins is an app's intent.
func (c *calling) begins() (intent string) {
	c.t.Helper()
	status, out := c.call("intents", map[string]string{
		"provider": "bench", "return": "http://127.0.0.1:7/", "code_challenge": bindingOfApp(verifierOfApp),
	})
	if status != http.StatusOK || out.AuthURL != gatehouseSite+"/.login/native?intent="+out.Intent {
		c.t.Fatalf("%d %+v", status, out)
	}
	return out.Intent
}

var (
	askOfPage  = regexp.MustCompile(`name="ask" value="([^"]+)"`)
	codeOfPage = regexp.MustCompile(`return_code=([A-Za-z0-9_-]+)`)
)

// letIn has somebody's browser let the app in, and returns the code that the app
// gets.
func (c *calling) letIn(intent, cookie string) (code string) {
	c.t.Helper()
	page := c.do(http.MethodGet, "/.login/native?intent="+intent, "", "", cookie).Body.String()
	ask := askOfPage.FindStringSubmatch(page)
	if ask == nil {
		c.t.Fatalf("nothing is asked:\n%s", page)
	}
	form := url.Values{"ask": {ask[1]}, "do": {"continue"}}
	page = c.do(http.MethodPost, "/.login/native", "application/x-www-form-urlencoded", form.Encode(), cookie).Body.String()
	got := codeOfPage.FindStringSubmatch(page)
	if got == nil {
		c.t.Fatalf("no code:\n%s", page)
	}
	return got[1]
}

func (c *calling) redeem(intent, verifier, code string) (status int, out envelope) {
	c.t.Helper()
	return c.call("intents/validate", map[string]string{"intent": intent, "code_verifier": verifier, "return_code": code})
}

func (c *calling) mustBeDenied(why, intent, verifier, code string) {
	c.t.Helper()
	status, out := c.redeem(intent, verifier, code)
	if status != http.StatusOK || out.Status != isDenied || out.Error == nil || out.Error.Code != "challenge_expired" || out.Tokens != nil || out.Session != nil {
		c.t.Errorf("%s: %d %+v", why, status, out)
	}
}

func TestReturnCodeIsGoodForAMinute(t *testing.T) {
	c := newCalling(t)
	cookie := "login=" + enter(t, c.Gate)
	for after, good := range map[time.Duration]bool{0: true, 59 * time.Second: true, 61 * time.Second: false, 9 * time.Minute: false} {
		intent := c.begins()
		code := c.letIn(intent, cookie)
		c.clock.Advance(after)
		if !good {
			c.mustBeDenied(after.String(), intent, verifierOfApp, code)
			continue
		}
		status, out := c.redeem(intent, verifierOfApp, code)
		if status != http.StatusOK || out.Status != isAuthenticated || out.Tokens == nil {
			t.Errorf("%s: %d %+v", after, status, out)
		}
		c.mustBeDenied("twice", intent, verifierOfApp, code)
	}
}

func TestAppsIntentEndsAfterTenMinutes(t *testing.T) {
	c := newCalling(t)
	cookie := "login=" + enter(t, c.Gate)
	intent := c.begins()
	for _, before := range []time.Duration{-59 * time.Second, 0, 10*time.Minute - time.Second} {
		c.clock.Advance(before)
		if status, out := c.redeem(intent, verifierOfApp, ""); status != http.StatusOK || out.Status != isPending {
			t.Errorf("after %s: %d %+v", before, status, out)
		}
		c.clock.Advance(-before)
	}
	for _, after := range []time.Duration{-2 * time.Minute, 10*time.Minute + time.Second, 24 * time.Hour} {
		c.clock.Advance(after)
		c.mustBeDenied(after.String(), intent, verifierOfApp, "")
		if w := c.do(http.MethodGet, "/.login/native?intent="+intent, "", "", cookie); w.Code != http.StatusBadRequest {
			t.Errorf("after %s the page is %d", after, w.Code)
		}
		c.clock.Advance(-after)
	}
}

// The longest intent fits into the cookie of the sign-in on its way.
func TestAppsIntentComesThroughASignIn(t *testing.T) {
	c := newCalling(t)
	v := c.visit(httptest.NewRequest(http.MethodGet, gatehouseSite+"/", nil))
	v.house = c.house
	name := strings.Repeat("p", 32)
	sealed, err := c.portal.sealBound(v, &bound{
		to: boundToIntent, binding: bindingOfApp(verifierOfApp), provider: name, intent: intentSignup,
		back: "http://127.0.0.1/" + strings.Repeat("x", longestBack-17), user: identity.UserID(strings.Repeat("u", 26)),
	})
	if err != nil {
		t.Fatal(err)
	}
	to := c.portal.nativeURL(sealed) + linkedMark
	begin := signin.Attempt{Provider: name, Return: to, For: signin.ToLink, User: strings.Repeat("u", 26)}
	attempt, _, _, err := c.house.attempts.Begin("__Secure-login", gatehouseSite, begin, nil)
	if err != nil || attempt.Return != to || c.portal.wanted(to) != to {
		t.Errorf("%v, %d of %d bytes", err, len(attempt.Return), len(to))
	}
	for _, other := range []string{to + "&x=1", to + linkedMark, c.portal.nativeURL(""), c.portal.nativeURL("a.b"), c.portal.nativeURL(strings.Repeat("a", 2000)), c.portal.base + "/native"} {
		if got := c.portal.wanted(other); got != "/" {
			t.Errorf("%.60q leads to %.60q", other, got)
		}
	}
}

// Whatever is changed of what an app holds, it opens nothing, and no other app's
// verifier fits.
func TestAppsIntentIsItsOwn(t *testing.T) {
	c := newCalling(t)
	intent := c.begins()
	for i := range intent {
		bent := []byte(intent)
		bent[i] = map[bool]byte{true: 'B', false: 'A'}[bent[i] == 'A']
		c.mustBeDenied("bent", string(bent), verifierOfApp, "")
	}
	for what, other := range map[string]string{"padded": intent + "=", "longer": intent + "A", "shorter": intent[:len(intent)-1], "none": "", "long": strings.Repeat("A", 40<<10)} {
		c.mustBeDenied(what, other, verifierOfApp, "")
	}
	for _, verifier := range []string{verifierOfApp[1:] + "x", bindingOfApp(verifierOfApp), strings.Repeat("a", 42), strings.Repeat("a", 129), verifierOfApp + " "} {
		c.mustBeDenied("another's verifier", intent, verifier, "")
	}
	if status, _ := c.redeem(intent, "", ""); status != http.StatusBadRequest {
		t.Errorf("without a verifier: %d", status)
	}
}

// A code that comes with another app's verifier was seen by others: it is good
// for nobody any more.
func TestReturnCodeIsItsAppsOwn(t *testing.T) {
	c := newCalling(t)
	cookie := "login=" + enter(t, c.Gate)
	intent := c.begins()
	code := c.letIn(intent, cookie)
	const another = "another-app-s-verifier-which-is-long-enough-too"
	status, theirs := c.call("intents", map[string]string{"provider": "bench", "return": "http://127.0.0.1:7/", "code_challenge": bindingOfApp(another)})
	if status != http.StatusOK {
		t.Fatal(status)
	}
	c.mustBeDenied("another app", theirs.Intent, another, code)
	c.mustBeDenied("and then its own", intent, verifierOfApp, code)
	for _, forged := range []string{"x", code + "A", strings.Repeat("A", 22)} {
		c.mustBeDenied("forged", intent, verifierOfApp, forged)
	}
}

// Who signs out in the browser has let no app in.
func TestReturnCodeEndsWithTheBrowsersSession(t *testing.T) {
	c := newCalling(t)
	cookie := enter(t, c.Gate)
	intent := c.begins()
	code := c.letIn(intent, "login="+cookie)
	held, err := c.house.sessions.Read(t.Context(), "localhost", cookie, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.house.sessions.End(t.Context(), held.Key()); err != nil {
		t.Fatal(err)
	}
	if status, out := c.redeem(intent, verifierOfApp, code); status != http.StatusOK || out.Status != isDenied || out.Tokens != nil {
		t.Errorf("%d %+v", status, out)
	}
}

// floods is how many strangers begin in a test of what they leave behind.
const floods = 20_000

func TestFloodOfIntentsLeavesNothing(t *testing.T) {
	c := newCalling(t)
	c.begins()
	records, heap := c.weigh()
	for i := range floods {
		members := map[string]string{"provider": "bench", "return": "http://127.0.0.1:7/", "code_challenge": bindingOfApp(verifierOfApp)}
		if i%2 == 0 {
			members = map[string]string{"provider": "witness", "return": "/x"}
		}
		if status, _ := c.call("intents", members); status != http.StatusOK {
			t.Fatal(status)
		}
	}
	after, heapAfter := c.weigh()
	t.Logf("%d intents: %d records, then %d; %d KiB of heap, then %d", floods, records, after, heap>>10, heapAfter>>10)
	if after != records || heapAfter > heap+1<<20 {
		t.Error("strangers left something behind")
	}
}

// weigh is what lies in store and memory.
func (c *calling) weigh() (records int, heap uint64) {
	c.t.Helper()
	err := c.house.store.View(c.t.Context(), func(tx guest.Tx) error {
		return tx.Scan(nil, nil, 0, func(_, _ []byte) bool { records++; return true })
	})
	if err != nil {
		c.t.Fatal(err)
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return records, m.HeapAlloc
}

// FuzzBound: what an app holds is read back as it was written, and nothing else
// is taken for it.
func FuzzBound(f *testing.F) {
	b := &bound{to: boundToIntent, begun: time.Unix(1, 0), binding: bindingOfApp(verifierOfApp), provider: "op", intent: "login", back: "http://[::1]/", user: "ada", gist: "x"}
	f.Add(b.encode())
	f.Add([]byte{encodingOfBound, 1, 0, 0, 0, 0, 0, 0, 0, 0, 255})
	f.Fuzz(func(t *testing.T, raw []byte) {
		read, err := decodeBound(raw)
		if err != nil {
			return
		}
		again, err := decodeBound(read.encode())
		if err != nil || *again != *read {
			t.Fatalf("%+v became %+v, %v", read, again, err)
		}
		if !bytes.Equal(read.encode(), raw) {
			t.Fatalf("%x is %x spelt otherwise", raw, read.encode())
		}
	})
}

func TestAppsReturnOnlyWhereTheyMay(t *testing.T) {
	c := newCalling(t)
	v := c.visit(httptest.NewRequest(http.MethodGet, gatehouseSite+"/", nil))
	for address, want := range map[string]bool{
		"http://127.0.0.1:49152/": true, "http://127.8.9.1/x?a=b&state=1": true, "http://[::1]:1/": true, "http://localhost:1": true,
		"http://localhost/": true, "https://app.example.com/": false, "http://app.example.com/": false, "": false, "/": false, "com.example:/x": false,
		"javascript:alert(1)": false, "http://127.0.0.1@evil.test/": false, "http://evil.test#@127.0.0.1/": false, "http://127.0.0.1.evil.test/": false,
		"http://localhost.evil.test/": false, "http://[::ffff:127.0.0.1]/": false, "http://128.0.0.1/": false, "http://0.0.0.0/": false, "http://127.1/": false,
		"http://2130706433/": false, "http://127.0.0.1/#x": false, "http://127.0.0.1/ x": false, "http://127.0.0.1\\@evil.test/": false,
		"http://127.0.0.1/?return_code=x": false, "http://127.0.0.1/?error=x": false, "http://127.0.0.1/?a=b;c": false, "HTTP://127.0.0.1/": false,
		"ftp://127.0.0.1/": false, "http://127.0.0.1/" + strings.Repeat("x", longestBack): false, "http:///x": false, "//127.0.0.1/": false, "http://[::1%25lo]/": false,
		"https://127.0.0.1/": false, "http://127.0.0.1:99999/": true,
	} {
		if got := c.portal.mayReturnTo(v, address); got != want {
			t.Errorf("%q: %v", address, got)
		}
	}
	c.origins = parseOrigins([]string{gatehouseSite, "https://app.example.com"})
	for address, want := range map[string]bool{
		"https://app.example.com/back?x=1": true, "https://app.example.com": true, "https://app.example.com:444/": false, "https://app.example.com.evil.test/": false,
		"https://evil.test/app.example.com": false, "https://app.example.com/.login/logout": false, "https://APP.example.com/": false, "https://x@app.example.com/": false,
		// What browsers make a path of ours.
		"https://app.example.com/x/../.login/logout": false, "https://app.example.com/./.LOGIN/": false, "https://app.example.com/%2e/.login": false,
		"https://app.example.com/x/%2E%2e/%2elogin/op": false,
	} {
		if got := c.portal.mayReturnTo(v, address); got != want {
			t.Errorf("%q: %v", address, got)
		}
	}
}
