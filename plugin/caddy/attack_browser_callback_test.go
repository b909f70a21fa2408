package main_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// bend is the provider's answer as somebody on its way would have it: a request of
// HTTP/1.1 up to its cookies, and its body.
type bend struct {
	method, path, query string
	head, body          string
	// spends: it names the attempt, so that this is good for nothing any more.
	spends bool
}

// bends are made of the path and the query of a right answer.
func bends(path, query string) map[string]bend {
	answer, _ := url.ParseQuery(query)
	state, code := "state="+answer.Get("state"), "code="+answer.Get("code")+"&iss="+url.QueryEscape(answer.Get("iss"))
	form := "Content-Type: " + formType + "\r\n"
	return map[string]bend{
		"HEAD":                    {"HEAD", path, query, "", "", true},
		"OPTIONS":                 {"OPTIONS", path, query, "", "", true},
		"PUT":                     {"PUT", path, query, form, query, true},
		"DELETE":                  {"DELETE", path, query, "", "", true},
		"lower case":              {"get", path, query, "", "", true},
		"POST with both":          {"POST", path, query, form, query, true},
		"POST with the body":      {"POST", path, "", form, query, false},
		"POST that says it's GET": {"POST", path, query, "X-HTTP-Method-Override: GET\r\n", "", true},
		"GET with the body":       {"GET", path, "", form, query, false},
		"state in the body":       {"GET", path, code, form, state, false},
		"semicolons":              {"GET", path, strings.ReplaceAll(query, "&", ";"), "", "", false},
		"one semicolon":           {"GET", path, code + ";x&" + state, "", "", true},
		"half an escape":          {"GET", path, code + "&x=%z&" + state, "", "", true},
		"state three times":       {"GET", path, "state=x&" + query + "&state=y", "", "", true},
		"state escaped twice":     {"GET", path, code + "&" + state + "&%73tate=" + answer.Get("state"), "", "", true},
		"code twice, the same":    {"GET", path, query + "&" + code, "", "", true},
		"iss twice":               {"GET", path, query + "&iss=x", "", "", true},
		"unknown, twice":          {"GET", path, query + "&x=1&x=2", "", "", true},
		"State":                   {"GET", path, code + "&S" + state[1:], "", "", false},
		"space before":            {"GET", path, code + "&+" + state, "", "", false},
		"NUL behind":              {"GET", path, code + "&" + state + "%00", "", "", false},
		"line end behind":         {"GET", path, code + "&" + state + "%0d%0a", "", "", false},
		"padded":                  {"GET", path, code + "&" + state + "=", "", "", false},
		"cut":                     {"GET", path, code + "&" + state[:len(state)-1], "", "", false},
		"another alphabet":        {"GET", path, code + "&" + strings.NewReplacer("-", "%2B", "_", "/").Replace(state) + "%20", "", "", false},
		"in the fragment":         {"GET", path, code + "#" + state, "", "", false},
		"two question marks":      {"GET", path, code + "?" + state, "", "", false},
		"path in capitals":        {"GET", strings.ToUpper(path), query, "", "", false},
		"path escaped":            {"GET", strings.Replace(path, "call", "c%61ll", 1), query, "", "", false},
		"path with a slash":       {"GET", path + "/", query, "", "", false},
		"path with two":           {"GET", "/" + path, query, "", "", false},
		"path with a parameter":   {"GET", path + ";x=y", query, "", "", false},
		"path with dots":          {"GET", "/x/.." + path, query, "", "", false},
		"another's name":          {"GET", strings.Replace(path, "/op/", "/OP/", 1), query, "", "", false},
		"nobody's name":           {"GET", strings.Replace(path, "/op/", "/none/", 1), query, "", "", false},
		"form_post's":             {"GET", strings.Replace(path, "/op/", "/post/", 1), query, "", "", true},
	}
}

func TestBentAnswersSignNobodyIn(t *testing.T) {
	s := besiege(t, besieged)
	// What is no path of ours is Caddy's to log, as it came.
	unlogged := besiege(t, strings.Replace(besieged, "\tlog\n", "", 1))
	for what, b := range bends("/.login/op/callback", "") {
		t.Run(what, func(t *testing.T) {
			if strings.HasPrefix(b.path, "/.login/") {
				s.bend(t, what)
			} else {
				unlogged.bend(t, what)
			}
		})
	}
	s.untouched(t)
	unlogged.untouched(t)
}

// bend answers an attempt bent, and then straight.
func (s *siege) bend(t *testing.T, what string) {
	v := e2e.NewVisitor(t)
	c := s.mustCome(t, v, "op", "ada")
	u, err := url.Parse(c.callback)
	if err != nil {
		t.Fatal(err)
	}
	b, before := bends(u.Path, u.RawQuery)[what], s.asked().Token
	head := fmt.Sprintf("Host: %s\r\nAccept: text/html\r\nCookie: %s\r\nContent-Length: %d\r\n", u.Host, strings.Join(c.cookies, "; "), len(b.body))
	target := strings.TrimSuffix(b.path+"?"+b.query, "?")
	got := e2e.Dial(t, s.site).Say("%s %s HTTP/1.1\r\n%s%s\r\n%s", b.method, target, head, b.head, b.body).Hear(b.method)
	if session(got) != "" || got.StatusCode >= 500 || got.StatusCode < 300 || s.asked().Token != before {
		t.Errorf("%d, with a session: %v, %d codes redeemed", got.StatusCode, session(got) != "", s.asked().Token-before)
	}
	if to := got.Header.Get("Location"); to != "" && !strings.HasPrefix(to, "/.login/?return=") {
		t.Errorf("sent to %q", to)
	}
	if straight := v.Do(c.again(v, c.callback)); (session(straight) == "") != b.spends {
		t.Errorf("then the straight one is %d, with a session: %v", straight.StatusCode, session(straight) != "")
	}
}

// What a browser or a proxy adds to a navigation changes nothing of its answer,
// which is for nobody to keep, and takes neither code nor state along.
func TestAnswerIsTheSameWhateverComesWithIt(t *testing.T) {
	s := besiege(t, besieged)
	for what, head := range map[string]http.Header{
		"range":         {"Range": {"bytes=0-0"}, "If-Range": {`"x"`}},
		"conditions":    {"If-None-Match": {"*"}, "If-Modified-Since": {"Fri, 01 Jan 2100 00:00:00 GMT"}},
		"wrong match":   {"If-Match": {`"x"`}, "If-Unmodified-Since": {"Thu, 01 Jan 1970 00:00:01 GMT"}},
		"a prefetch":    {"Sec-Purpose": {"prefetch;prerender"}, "Purpose": {"prefetch"}},
		"a cache":       {"Cache-Control": {"only-if-cached, max-stale=9999"}},
		"forwarded":     {"X-Forwarded-Host": {"evil.test"}, "X-Forwarded-Proto": {"http"}, "X-Forwarded-Prefix": {"//evil.test"}, "Forwarded": {"host=evil.test;proto=http"}},
		"another URL":   {"X-Original-URL": {"//evil.test/"}, "X-Rewrite-URL": {"//evil.test/"}, "X-Forwarded-Uri": {"//evil.test/"}},
		"an origin":     {"Origin": {"https://evil.test"}, "Sec-Fetch-Site": {"cross-site"}},
		"another codec": {"Accept-Encoding": {"gzip, br, zstd"}, "TE": {"trailers"}},
	} {
		for protocol, v := range map[string]*e2e.Visitor{"HTTP/1.1": e2e.NewVisitor(t), "HTTP/2.0": e2e.NewHTTP2Visitor(t)} {
			r := v.Navigation(s.mustCome(t, v, "op", "ada").callback)
			for name, values := range head {
				r.Header[name] = values
			}
			got := v.Do(r)
			if got.Proto != protocol || got.StatusCode != http.StatusFound || session(got) == "" || got.Header.Get("Location") != "/public/in" {
				t.Errorf("%s, %s: %s %d to %q", what, protocol, got.Proto, got.StatusCode, got.Header.Get("Location"))
			}
			if got.Header.Get("Cache-Control") != "no-store" || got.Header.Get("ETag") != "" || got.Header.Get("Referrer-Policy") != "strict-origin" {
				t.Errorf("%s, %s: %v", what, protocol, got.Header)
			}
		}
	}
}

func TestReplaysDuringReloadsSignInOnce(t *testing.T) {
	s := besiege(t, besieged)
	v := e2e.NewVisitor(t)
	c := s.mustCome(t, v, "op", "ada")
	var all sync.WaitGroup
	var sessions, others atomic.Int64
	for range 24 {
		all.Go(func() {
			got, err := e2e.NewVisitor(t).Try(c.again(v, c.callback))
			switch {
			case err != nil: // its connection went with the reload
			case session(got) != "":
				sessions.Add(1)
			case got.StatusCode != http.StatusBadRequest:
				others.Add(1)
			}
		})
	}
	s.Reload(besieged + "\n# again\n")
	all.Wait()
	if sessions.Load() != 1 || others.Load() != 0 || s.asked().Token != 1 {
		t.Errorf("%d sessions, %d neither page nor session, %d codes redeemed", sessions.Load(), others.Load(), s.asked().Token)
	}
}

func TestParkedAnswerOutlivesAReloadButNotARestart(t *testing.T) {
	s := besiege(t, besieged)
	v := e2e.NewVisitor(t)
	handle := s.parked(t, s.mustCome(t, v, "post", "ada").form)
	s.Reload(besieged + "\n# again\n")
	if got := v.Get(handle); session(got) == "" {
		t.Errorf("after a reload: %d", got.StatusCode)
	}
	v = e2e.NewVisitor(t)
	c := s.mustCome(t, v, "post", "grace")
	lost := s.parked(t, c.form)
	s.Kill()
	s.Restart()
	wantErrorPage(t, v.Get(lost))
	// The attempt was not spent with it: who clicks again at the provider gets in.
	if got := v.Get(s.parked(t, c.form)); session(got) == "" {
		t.Errorf("once more, after a restart: %d", got.StatusCode)
	}
}

func TestHandleIsNamedOnceAndAlone(t *testing.T) {
	s := besiege(t, besieged)
	v := e2e.NewVisitor(t)
	c := s.mustCome(t, v, "post", "ada")
	for what, more := range map[string]string{
		"another handle behind": "&handle=x", "the same behind": "&%68andle=x", "a code": "&code=x", "a state": "&state=x", "unknown, twice": "&x=&x=", "semicolon": ";x",
	} {
		if got := c.again(v, s.parked(t, c.form)+more); session(v.Another().Do(got)) != "" {
			t.Errorf("%s: signed in", what)
		}
	}
	wantErrorPage(t, v.Do(s.post(v, "post", "", formType)))
	if s.asked().Token != 0 {
		t.Errorf("%d codes redeemed", s.asked().Token)
	}
}

func TestSevenTabsLeaveTheFiveLast(t *testing.T) {
	s := besiege(t, besieged)
	for protocol, v := range map[string]*e2e.Visitor{"HTTP/1.1": e2e.NewVisitor(t), "HTTP/2": e2e.NewHTTP2Visitor(t)} {
		var tabs []coming
		for range 7 {
			tabs = append(tabs, s.mustCome(t, v, "op", "ada"))
		}
		if pending := v.Cookies(s.site); len(pending) != 5 {
			t.Errorf("%s: %d attempts are pending", protocol, len(pending))
		}
		in := 0
		for _, i := range rand.Perm(len(tabs)) {
			if session(v.Get(tabs[i].callback)) != "" {
				in++
			}
		}
		left := slices.DeleteFunc(v.Cookies(s.site), func(c string) bool {
			return strings.HasPrefix(c, cookieName+"=") || strings.HasPrefix(c, cookieName+"-la")
		})
		if in != 5 || len(left) != 0 {
			t.Errorf("%s: %d tabs signed in, %d attempts are left", protocol, in, len(left))
		}
	}
}
