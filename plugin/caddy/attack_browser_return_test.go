package main_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// shards are what addresses are made of that some parser took for another's.
var shards = []string{
	"/", "/", "//", `\`, `/\`, "/.", "/..", "/./", "/../", ".", "..", ";", "@", ":", ":443", "#", "?", "&", "%2f", "%5c", "%2e", "%2e%2e", "%252f", "%09", "%0a", "%0d%0a",
	"%00", "%20", "%", "%zz", "%40", "%3f", "%23", "%ef%bc%8f", "\t", "\n", "\r", " ", "\x00", "\x01", "\x7f", "\xff", "。", "／", "＼", "\u2028", "\ufeff", "\u200b", "ß", "'", `"`, "<", ">", "|",
	"^", "{", "}", "`", "[", "]", "[::1]", "evil.test", "app.test", "user@evil.test", "https:", "http:/", "javascript:alert(1)", "data:", ".login", "%2elogin", "logout", "op", "callback", "a", "b=c",
}

// splinter puts some of these together.
func splinter(chance *rand.Rand, from []string) string {
	made := []string{"", "/", "/", "/", "//", "/a"}[chance.IntN(6)]
	for range 1 + chance.IntN(6) {
		made += from[chance.IntN(len(from))]
	}
	return made
}

// leading is where one of our answers sends a browser, and for what.
type leading struct {
	For string `json:"for"`
	To  string `json:"to"`
	// Back is the intercepted address that it is to come back to.
	Back string `json:"back"`
}

// judge is Chromium's own parser: of all places those that are another's, those of
// our own that a sign-in must not lead to, and those that are not the address that
// the browser had asked for.
const judge = `(() => {
	const wrong = [];
	for (const l of %s) {
		const u = new URL(l.to, location.href);
		const path = decodeURIComponent(u.pathname.replace(/%%(?![0-9a-f]{2})/gi, '%%25').replace(/%%[89a-f][0-9a-f]/gi, 'x')).toLowerCase();
		if (u.origin !== location.origin || path === '/.login' || path.startsWith('/.login/') && path !== '/.login/logout') wrong.push(l);
		if (!l.back) continue;
		const asked = new URL(location.origin + l.back);
		if (asked.pathname + asked.search === l.back && u.pathname + u.search !== l.back) wrong.push(l);
	}
	return wrong;
})()`

// chance is the same each time, unless E2E_SEED names another.
func chance() *rand.Rand {
	seed, _ := strconv.ParseUint(os.Getenv("E2E_SEED"), 10, 64) // unset: 0
	return rand.New(rand.NewPCG(seed, 2))
}

// wantHere has Chromium judge these, and one that it must find wrong.
func wantHere(t *testing.T, site string, all []leading) {
	t.Helper()
	text, err := json.Marshal(append(all, leading{For: "away", To: "//evil.test"}))
	if err != nil {
		t.Fatal(err)
	}
	var wrong []leading
	found := e2e.NewBrowser(t).Get(site + "/public/").Eval(fmt.Sprintf(judge, text))
	if err := json.Unmarshal([]byte(found), &wrong); err != nil {
		t.Fatal(err)
	}
	if len(wrong) == 0 || wrong[len(wrong)-1].For != "away" {
		t.Fatalf("Chromium found %v", wrong)
	}
	for _, l := range wrong[:len(wrong)-1] {
		t.Errorf("%q leads to %q", l.For, l.To)
	}
	t.Logf("%d of %d places are wrong", len(wrong)-1, len(all))
}

func TestChromiumStaysHereWhereverItIsToReturn(t *testing.T) {
	s := besiege(t, strings.NewReplacer("\tdebug\n", "", "\tlog\n", "").Replace(besieged))
	v, out, chance := s.mustEnter(t, "ada"), e2e.NewVisitor(t), chance()
	var all []leading
	for range 400 {
		evil := splinter(chance, shards)
		if to := v.Get(s.site + "/.login/?return=" + url.QueryEscape(evil)).Header.Get("Location"); to != "" {
			all = append(all, leading{For: evil, To: to})
		}
		r := out.Request(http.MethodPost, s.site+"/.login/logout", "return="+url.QueryEscape(evil))
		r.Header.Set("Content-Type", formType)
		r.Header.Set("Origin", s.site)
		all = append(all, leading{For: evil, To: out.Do(r).Header.Get("Location")})
	}
	if len(all) < 500 {
		t.Errorf("only %d answers lead anywhere", len(all))
	}
	wantHere(t, s.site, all)
}

func TestChromiumComesBackToExactlyWhatItAskedFor(t *testing.T) {
	s := besiege(t, strings.NewReplacer("\tdebug\n", "", "\tlog\n", "").Replace(besieged))
	chance := chance()
	var all []leading
	whole := 0
	for range 600 {
		target := "/" + splinter(chance, shards)
		if strings.ContainsFunc(target, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			continue // no request line holds these
		}
		got := e2e.Dial(t, s.site).Say("GET %s HTTP/1.1\r\nHost: app.test\r\nAccept: text/html\r\nConnection: close\r\n\r\n", target).Hear("GET")
		to, err := url.Parse(got.Header.Get("Location"))
		if got.StatusCode != http.StatusFound {
			continue // refused as no request, or public
		}
		if err != nil || to.Path != "/.login/" || to.Host != "" {
			t.Errorf("%q is sent to %q", target, got.Header.Get("Location"))
			continue
		}
		if back := to.Query().Get("return"); back != "" {
			all = append(all, leading{For: target, To: back, Back: target})
			whole++
		}
	}
	if whole < 150 {
		t.Errorf("only %d of them are to come back", whole)
	}
	wantHere(t, s.site, all)
}

// rewritten changes addresses before login sees them, as one does who serves old
// ones.
const rewritten = `
https://app.test:{$PORT} {
	route {
		rewrite /old/* //evil.test{uri}
		rewrite /gone /.login/logout
		uri /strip/* strip_prefix /strip
		uri /double/* replace /double/ //
		login {
			oidc op site {env.OP_SECRET} {
				issuer {$ISSUER}
			}
			oidc post site {env.OP_SECRET} {
				issuer {$ISSUER}
				response_mode form_post
			}
			allow users
		}
		reverse_proxy {$APP}
	}
}
`

func TestRewrittenAddressesComeBackAsTheyWereAskedFor(t *testing.T) {
	s := besiege(t, rewritten)
	for _, target := range []string{
		"/old/x?y=1", "/old//evil.test/", "/strip//evil.test", "/strip/%2fevil.test?a=%2f", "/double/evil.test/..//x", "/strip/.login/logout", "/strip/.login/op/callback?code=c",
		"/old/?return=//evil.test&return=%2Fx", "/x?return=//evil.test", "/double/", "/old/" + strings.Repeat("a", 1900),
	} {
		for protocol, v := range map[string]*e2e.Visitor{"HTTP/1.1": e2e.NewVisitor(t), "HTTP/2": e2e.NewHTTP2Visitor(t)} {
			to := v.Get(s.site + target).Header.Get("Location")
			if want := "/.login/?return=" + url.QueryEscape(target); to != want && to != "" {
				t.Errorf("%s, %.80s: sent to %.200q", protocol, target, to)
			}
		}
	}
	s.untouched(t)
}

// Who says twice where to go, or as another parser would have it, is sent to one
// place: the same in the end as the page had shown.
func TestOneReturnAddressIsHandedOn(t *testing.T) {
	s := besiege(t, besieged)
	for query, want := range map[string]string{
		"return=%2Fa&return=%2F%2Fevil.test": "/a", "return=%2F%2Fevil.test&return=%2Fa": "/", "return=%2Fa;return=%2Fb": "/", "Return=%2Fa": "/", "return[]=%2Fa": "/",
		"return=%252F%252Fevil.test": "/", "return=%2Fa%23b": "/a", "return=%2Fa%3Freturn%3D%2F%2Fevil.test": "/a?return=//evil.test", "r%65turn=%2Fa": "/a", "return": "/",
	} {
		v := e2e.NewVisitor(t)
		begun := v.To(v.Get(s.site + "/.login/op?" + query))
		callback, _, err := pick(begun, "ada")
		if err != nil {
			t.Fatal(err)
		}
		if to := v.Get(callback).Header.Get("Location"); to != want {
			t.Errorf("%s leads to %q, want %q", query, to, want)
		}
	}
}

// A target names a host of its own in more ways than one; the way back names none.
func TestNoHostOfARequestIsWhereItReturns(t *testing.T) {
	s := besiege(t, anyHost)
	for _, request := range []string{
		"GET https://evil.test/x HTTP/1.1\r\nHost: app.test", "GET http://evil.test/x HTTP/1.1\r\nHost: evil.test", "GET //evil.test/x HTTP/1.1\r\nHost: evil.test",
		"GET https://app.test@evil.test/x HTTP/1.1\r\nHost: evil.test", "GET /x HTTP/1.1\r\nHost: evil.test.", "GET /x HTTP/1.1\r\nHost: EVIL.test:99999", "GET /x HTTP/1.0",
		"GET /x HTTP/1.1\r\nHost: evil.test\r\nX-Forwarded-Host: evil.test\r\nX-Forwarded-Proto: javascript", "GET /x HTTP/1.1\r\nHost: xn--vil-9la.test", "GET /x HTTP/1.1\r\nHost: [::1%25eth0]",
		"HEAD /x HTTP/1.1\r\nHost: evil.test", "GET /x HTTP/1.1\r\nHost: evil.test\r\nForwarded: host=evil.test",
	} {
		method, _, _ := strings.Cut(request, " ")
		got := e2e.Dial(t, s.site).Say("%s\r\nAccept: text/html\r\nConnection: close\r\n\r\n", request).Hear(method)
		to := got.Header.Get("Location")
		if to != "" && to != "/.login/?return=%2Fx" && to != "/.login/?return=%2F.%2F%2Fevil.test%2Fx" || got.StatusCode < 300 || got.StatusCode > 499 {
			t.Errorf("%q: %d to %q", request, got.StatusCode, to)
		}
	}
	s.untouched(t)
}
