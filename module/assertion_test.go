package module

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-login/caddy-login/module/header"
	"github.com/caddy-login/caddy-login/module/seal"
)

// visiting is a visit of the session at a host, and what is known of it.
func visiting(t *testing.T, g *Gate, cookie, host string) (*visit, *known) {
	t.Helper()
	r := prepared(chromes("login="+cookie, nil), &mute{header: http.Header{}})
	r.Host = host
	v := g.visit(r)
	if err := v.recognise(r); err != nil || v.live() == nil {
		t.Fatalf("not recognised: %v", err)
	}
	return v, v.known(g)
}

// tokenOf is the assertion that the app is sent.
func tokenOf(t *testing.T, v *visit, k *known) string {
	t.Helper()
	v.at = k.gate.now().UnixNano() // another request's
	block, err := k.headers(v)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range block.Fields() {
		if f.Name == "Remote-Assertion" {
			return f.Value
		}
	}
	t.Fatal("no assertion")
	return ""
}

const openToUsers = `{"allow":[{"who":["users"]}]}`

func TestAssertionIsMadeAgainWhenHalfSpent(t *testing.T) {
	g := openGate(t, openToUsers)
	v, k := visiting(t, g, enter(t, g), "localhost:8080")
	now := time.Now()
	g.now = func() time.Time { return now }
	first := tokenOf(t, v, k)
	for _, step := range []struct {
		after time.Duration
		same  bool
	}{{0, true}, {seal.SignatureLife/2 - time.Second, true}, {seal.SignatureLife / 2, false}} {
		at := now
		g.now = func() time.Time { return at.Add(step.after) }
		if got := tokenOf(t, v, k); (got == first) != step.same {
			t.Errorf("after %s the same: %t", step.after, got == first)
		}
	}
	g.now = func() time.Time { return now.Add(-time.Hour) }
	if tokenOf(t, v, k) == first || k.told(v.origin).until > now.Add(-time.Hour+seal.SignatureLife).UnixNano() {
		t.Error("one from the future goes on")
	}
}

func TestManyAtOnceMakeOneAssertion(t *testing.T) {
	g := openGate(t, openToUsers)
	v, k := visiting(t, g, enter(t, g), "localhost:8080")
	for _, age := range []time.Duration{0, seal.SignatureLife * 3 / 4, 2 * seal.SignatureLife} {
		at := time.Now().Add(age)
		g.now = func() time.Time { return at }
		var old string
		if a := k.told(v.origin); a.goodAt(at.UnixNano()) {
			old = tokenIn(a)
		}
		var wait sync.WaitGroup
		tokens := make([]string, 32)
		for i := range tokens {
			// They came one after the other, and ask all at once.
			one := &visit{gate: g, origin: v.origin, house: v.house, at: at.Add(time.Duration(i) * time.Millisecond).UnixNano()}
			wait.Go(func() {
				if a, err := k.assertion(one); err == nil {
					tokens[i] = tokenIn(a)
				}
			})
		}
		wait.Wait()
		fresh := tokenIn(k.told(v.origin))
		for _, token := range tokens {
			if token == "" || token != fresh && token != old {
				t.Fatalf("at the age of %s more than one was made", age)
			}
		}
	}
}

func tokenIn(a *assertion) string {
	fields := a.block.Fields()
	return fields[len(fields)-1].Value
}

func TestAssertionIsForOneOriginAndFewAreKept(t *testing.T) {
	g := openGate(t, openToUsers)
	cookie := enter(t, g)
	seen := map[string]bool{}
	for port := range 100 {
		v, k := visiting(t, g, cookie, fmt.Sprintf("localhost:%d", 1000+port))
		token := tokenOf(t, v, k)
		if seen[token] {
			t.Fatalf("one assertion for two origins: %s", token)
		}
		seen[token] = true
		if again := tokenOf(t, v, k); again != token {
			t.Fatal("signs for every request")
		}
		if n := 1 + len(k.said.Load().others); n > mostOrigins {
			t.Fatalf("keeps %d", n)
		}
	}
}

func TestAssertionEndsNoLaterThanTheSession(t *testing.T) {
	g := openGate(t, openToUsers)
	v, k := visiting(t, g, enter(t, g), "localhost:8080")
	end := v.live().Expires
	g.now = func() time.Time { return end.Add(-time.Minute) }
	first := tokenOf(t, v, k)
	if until := k.told(v.origin).until; until > end.UnixNano() {
		t.Errorf("lives on for %s", time.Duration(until-end.UnixNano()))
	}
	g.now = func() time.Time { return end.Add(-time.Second) }
	if tokenOf(t, v, k) != first {
		t.Error("signs again for nothing")
	}
}

func TestForgottenSessionHasANewAssertion(t *testing.T) {
	g := openGate(t, openToUsers)
	cookie := enter(t, g)
	v, k := visiting(t, g, cookie, "localhost:8080")
	first := tokenOf(t, v, k)
	v.house.sessions.Forget(k.hand.Key())
	v, k = visiting(t, g, cookie, "localhost:8080")
	if tokenOf(t, v, k) == first {
		t.Error("what was forgotten is still told")
	}
}

func TestSiteWithoutTheHeaderSignsNothing(t *testing.T) {
	g := openGate(t, `{"allow":[{"who":["users"]}],"headers":{"presets":["oauth2-proxy"]}}`)
	v, k := visiting(t, g, enter(t, g), "localhost:8080")
	block, err := k.headers(v)
	if err != nil || len(block.Fields()) == 0 {
		t.Fatalf("told %q, %v", block.Fields(), err)
	}
	for _, f := range block.Fields() {
		if strings.Count(f.Value, ".") == 2 && strings.HasPrefix(f.Value, "eyJ") {
			t.Errorf("signed: %q", f)
		}
	}
	if k.said.Load().until != 0 {
		t.Error("what is told expires")
	}
}

// Sites below one domain share a session: who goes from one to the other and back
// is known at both, and told by each what it tells. Nothing is signed anew.
func TestSitesThatShareASessionKeepWhatEachTells(t *testing.T) {
	dir := t.TempDir()
	gates := openGates(t, dir, openToUsers, `{"allow":[{"who":["users"]}],"headers":{"presets":["remote","oauth2-proxy"]}}`)
	cookie := enter(t, gates[0])
	told := map[*Gate]string{}
	for n := range 10 {
		g := gates[n%2]
		v, k := visiting(t, g, cookie, "localhost:8080")
		token, fields := tokenOf(t, v, k), k.said.Load().block.Fields()
		if k.gate != g || told[g] != "" && told[g] != token {
			t.Fatalf("visit %d: signed anew", n)
		}
		if slices.ContainsFunc(fields, func(f header.Field) bool { return f.Name == "X-Forwarded-User" }) != (g == gates[1]) {
			t.Errorf("visit %d: told %q", n, fields)
		}
		told[g] = token
	}
	// After a reload, what was made for the sites of before is let go.
	reloaded := openGates(t, dir, openToUsers)[0]
	_, k := visiting(t, reloaded, cookie, "localhost:8080")
	if k.gate != reloaded || k.next != nil {
		t.Error("what was made before a reload stays")
	}
}

func TestFewSitesAreKeptOfASession(t *testing.T) {
	configs := make([]string, 3*mostSites)
	for i := range configs {
		configs[i] = openToUsers
	}
	gates := openGates(t, t.TempDir(), configs...)
	cookie := enter(t, gates[0])
	app := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	var all sync.WaitGroup
	for range 4 {
		for _, g := range gates {
			all.Go(func() {
				w := &mute{header: http.Header{}}
				if err := g.ServeHTTP(w, prepared(chromes("login="+cookie, nil), w), app); err != nil || w.status != 0 {
					t.Errorf("%d, %v", w.status, err)
				}
			})
		}
	}
	all.Wait()
	_, k := visiting(t, gates[0], cookie, "localhost:8080")
	first := k.hand.Site.Load().(*known)
	n := 0
	for k := first; k != nil; k = k.next {
		n++
	}
	if n > mostSites {
		t.Errorf("keeps %d", n)
	}
}

// Whoever asks at one host of many is not made to wait for another's.
func TestHostsByTurnsHaveTheirOriginsAtHand(t *testing.T) {
	g := openGate(t, openToUsers)
	one, two := httptest.NewRequest(http.MethodGet, "http://a.example.com/", nil), httptest.NewRequest(http.MethodGet, "http://b.example.com:8080/", nil)
	ask := func() {
		if a, b := g.originOf(one), g.originOf(two); a.String() != "http://a.example.com" || b.String() != "http://b.example.com:8080" || b.host != "b.example.com" {
			t.Fatalf("%s, %s at %s", a, b, b.host)
		}
	}
	if n := testing.AllocsPerRun(100, func() { g.originOf(one); g.originOf(two) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	ask()
	// Those that share a place, and other spellings, are each their own all the same.
	for i := range 200 {
		r := httptest.NewRequest(http.MethodGet, "http://localhost/", nil)
		r.Host = fmt.Sprintf("H%d.Example.com:%d", i%40, i)
		if got, want := g.originOf(r).String(), "http://"+strings.ToLower(r.Host); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
	ask()
	one.TLS = new(tls.ConnectionState)
	if got := g.originOf(one).String(); got != "https://a.example.com" {
		t.Errorf("by TLS %s", got)
	}
	if r := httptest.NewRequest(http.MethodGet, "http://[::1]:80/", nil); g.originOf(r).host != "::1" {
		t.Errorf("%s", g.originOf(r).host)
	}
}
