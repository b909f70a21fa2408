package main_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// places are where a session counts in one way each: who is not known is shut out
// of the first two.
var places = []struct {
	method, path string
	public       bool
}{{"GET", "/in", false}, {"OPTIONS", "/in", false}, {"GET", "/public/x", true}, {"OPTIONS", "/public/x", true}}

// speaking asks once with these Cookie lines, and returns the status.
type speaking func(t *testing.T, s *siege, method, path string, lines []string) string

// tongues are the ways to say so. A line is one field, or one for each cookie.
var tongues = map[string]speaking{
	"HTTP/1.1": func(t *testing.T, s *siege, method, path string, lines []string) string {
		t.Helper()
		head := ""
		for _, line := range lines {
			head += "Cookie: " + line + "\r\n"
		}
		return fmt.Sprint(e2e.Dial(t, s.site).Say("%s %s HTTP/1.1\r\nHost: app.test\r\n%s\r\n", method, path, head).Hear(method).StatusCode)
	},
	"HTTP/2, a field for each": func(t *testing.T, s *siege, method, path string, lines []string) string {
		t.Helper()
		fields := []string{":method", method, ":scheme", "https", ":authority", "app.test", ":path", path}
		for _, line := range lines {
			for crumb := range strings.SplitSeq(line, "; ") {
				fields = append(fields, "cookie", crumb)
			}
		}
		f := dialFrames(t, s.site)
		return f.hear(f.ask(true, fields...))
	},
	"HTTP/3": func(t *testing.T, s *siege, method, path string, lines []string) string {
		t.Helper()
		r := &http.Request{
			Method: method, URL: &url.URL{Scheme: "https", Host: fmt.Sprintf("127.0.0.1:%d", s.Port), Path: path}, Host: "app.test",
			Header: http.Header{"Cookie": lines},
		}
		res, err := http3Visitor(t).RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		return fmt.Sprint(res.StatusCode)
	},
}

// wantKnown asks everywhere and in each way. What the app receives of the cookies
// is left; where they are no session it is nobody, and shut out.
func (s *siege) wantKnown(t *testing.T, what string, lines []string, known bool, left string) {
	t.Helper()
	for tongue, ask := range tongues {
		for _, place := range places {
			s.app.Forget()
			status := ask(t, s, place.method, place.path, lines)
			passes := known || place.public
			if passes != (status == "200") || !passes && status != "401" {
				t.Errorf("%s, %s, %s %s: %s", what, tongue, place.method, place.path, status)
			}
			received := s.app.Requests()
			if len(received) != 0 && !passes || len(received) != 1 && passes {
				t.Errorf("%s, %s, %s %s: the app received %d requests", what, tongue, place.method, place.path, len(received))
				continue
			}
			if !passes {
				continue
			}
			r := received[0]
			if got := strings.Join(r.Values("Cookie"), "; "); got != left || (r.Value("Remote-User") != "") != known {
				t.Errorf("%s, %s, %s %s: the app received %q of %q", what, tongue, place.method, place.path, got, r.Value("Remote-User"))
			}
		}
	}
}

func TestCookieLinesAreReadInOneWay(t *testing.T) {
	s := besiege(t, strings.NewReplacer("\tdebug\n", "", "\tlog\n", "").Replace(besieged))
	session := s.mustEnter(t, "ada").Cookie(s.site, cookieName)
	for _, row := range []struct {
		line  string // lines end with '|'; {s} is our cookie, {v} its value
		known bool
		left  string
	}{
		{"{s}", true, ""}, {"{s};", true, ""}, {";;{s};;a", true, "a"}, {"a=1;{s};b=2", true, "a=1;b=2"}, {`a="x; y"; {s}; b=\"`, true, `a="x; y"; b=\"`},
		{"$Version=1; {s}; $Path=/; $Domain=app.test", true, "$Version=1; $Path=/; $Domain=app.test"}, {"=; {s}; ==; =x; x=; x", true, "=; ==; =x; x=; x"},
		{"a=1|{s}|b=2", true, "a=1; b=2"}, {"__Host-login =  {v}  ; a=1", true, "a=1"}, {"{s}; __host-login=x; __HOST-LOGIN-A=y; __Host-login-last=op; c=3", true, "c=3"},
		{"a=%3D%22; é=ü; {s}; {env.HOME}={http.request.uri}", true, "a=%3D%22; é=ü; {env.HOME}={http.request.uri}"}, {"{s}; a={s}", true, "a={s}"},
		{"login={v}; {s}-; __Host-logins=1; Host-login=2; _Host-login=3", false, "login={v}; __Host-logins=1; Host-login=2; _Host-login=3"},
		{"{s}; {s}", false, ""}, {"{s}; a=1; __Host-login=", false, "a=1"}, {"__Host-login=; {s}", false, ""}, {"{s}|{s}", false, ""}, {"x|__Host-login=x; {s}", false, "x"},
		{"a=1,{s}; b=2", false, "b=2"}, {"{s}, a=1", false, ""}, {`__Host-login="{v}"`, false, ""}, {"__host-login={v}", false, ""}, {"__HOST-LOGIN={v}; b", false, "b"},
		{"__Host-login-={v}", false, ""}, {"__Host-login", false, ""}, {"{v}", false, "{v}"}, {"__Host-login{v}", false, "__Host-login{v}"}, {"__Host-login=={v}", false, ""},
		{"__Host%2dlogin={v}; b=2", false, "__Host%2dlogin={v}; b=2"}, {"__Secure-login={v}", false, "__Secure-login={v}"}, {"__Host-login[]=x", false, "__Host-login[]=x"},
	} {
		put := strings.NewReplacer("{s}", cookieName+"="+session, "{v}", session)
		s.wantKnown(t, row.line, strings.Split(put.Replace(row.line), "|"), row.known, put.Replace(row.left))
	}
}

// respelt are other spellings of what base64 decoders take for the same bytes, and
// of what is next to them.
func respelt(value string) map[string]string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	bare := strings.TrimRight(value, "=")
	last := len(bare) - 1
	all := map[string]string{
		"the other alphabet": strings.NewReplacer("-", "+", "_", "/").Replace(value), "without padding": bare, "padded more": value + "=", "padded anew": bare + "====",
		"trailing bits": bare[:last] + string(alphabet[strings.IndexByte(alphabet, bare[last])^1]) + value[last+1:], "escaped padding": strings.ReplaceAll(value, "=", "%3D"),
		"escaped": fmt.Sprintf("%%%02X", value[0]) + value[1:], "a space within": value[:9] + " " + value[9:], "a tab within": value[:9] + "\t" + value[9:], "half": value[:len(value)/2],
		"twice": value + value, "twice encoded": base64.URLEncoding.EncodeToString([]byte(value)), "upper case": strings.ToUpper(value), "lower case": strings.ToLower(value),
		"cut in front": value[1:], "four cut": bare[:last-3], "in quotes": `"` + value + `"`, "behind a quote": `"` + value, "comma behind": value + ",", "not ASCII": value + "\u200b",
		"Latin-1's space": value + "\xa0", "long": value + strings.Repeat("A", 3000),
	}
	for at := 0; at < last; at += 17 {
		flipped := []byte(value)
		flipped[at] = alphabet[strings.IndexByte(alphabet, flipped[at])^1]
		all[fmt.Sprintf("flipped at %d", at)] = string(flipped)
	}
	for what, other := range all {
		if other == value {
			delete(all, what)
		}
	}
	return all
}

func TestNoOtherSpellingIsTheSession(t *testing.T) {
	s := besiege(t, strings.NewReplacer("\tdebug\n", "", "\tlog\n", "").Replace(besieged))
	session := s.mustEnter(t, "ada").Cookie(s.site, cookieName)
	for what, other := range respelt(session) {
		s.wantKnown(t, what, []string{"a=1; " + cookieName + "=" + other}, false, "a=1")
	}
	s.wantKnown(t, "as it is", []string{"a=1; " + cookieName + "=" + session}, true, "a=1")
}

// What is sealed for one thing, one site, and by one house opens nothing else.
func TestCookieOfAnythingElseIsNoSession(t *testing.T) {
	other := strings.Replace(besieged[strings.Index(besieged, "https://"):], "app.test", "other.test", 1)
	s, another := besiege(t, besieged+other), besiege(t, besieged)
	elsewhere := strings.Replace(s.site, "app.test", "other.test", 1)
	s.issuer.Client("site", strongSecret, s.site+"/.login/op/callback", elsewhere+"/.login/op/callback")
	v, at := e2e.NewVisitor(t), &siege{stage: &stage{Caddy: s.Caddy, app: s.app, site: elsewhere}, issuer: s.issuer}
	if _, err := at.enter(v, "ada"); err != nil {
		t.Fatal(err)
	}
	c := s.mustCome(t, v, "op", "ada")
	_, attempt, _ := strings.Cut(c.cookies[0], "=")
	callback, err := url.Parse(c.callback)
	if err != nil {
		t.Fatal(err)
	}
	for what, value := range map[string]string{
		"of another host": v.Cookie(elsewhere, cookieName), "of another house": another.mustEnter(t, "ada").Cookie(another.site, cookieName),
		"an attempt's": attempt, "a state": callback.Query().Get("state"), "the last provider": "op", "a mark": "1",
	} {
		if value == "" {
			t.Fatalf("%s: there is none", what)
		}
		s.wantKnown(t, what, []string{cookieName + "=" + value}, false, "")
	}
	name, _, _ := strings.Cut(c.cookies[0], "=")
	r := v.Navigation(c.callback)
	r.Header.Set("Cookie", name+"="+s.mustEnter(t, "grace").Cookie(s.site, cookieName))
	wantErrorPage(t, v.Another().Do(r))
	if got := v.Do(c.again(v, c.callback)); session(got) == "" {
		t.Errorf("and then the attempt itself: %d", got.StatusCode)
	}
}

func TestSignedOutIsNobodyAnywhere(t *testing.T) {
	s := besiege(t, strings.NewReplacer("\tdebug\n", "", "\tlog\n", "").Replace(besieged))
	v := s.mustEnter(t, "ada")
	line := []string{"a=1; " + cookieName + "=" + v.Cookie(s.site, cookieName)}
	s.wantKnown(t, "before", line, true, "a=1")
	if err := s.leave(v); err != nil {
		t.Fatal(err)
	}
	s.wantKnown(t, "signed out", line, false, "a=1")
	s.Kill()
	s.Restart()
	s.wantKnown(t, "killed", line, false, "a=1")
	s.Reload(besieged)
	s.wantKnown(t, "reloaded", line, false, "a=1")
}

// Many cookies are refused as a whole or read as a whole: none is cut off behind
// which ours, or another's, is no more seen.
func TestManyCookiesAreReadWholeOrNotAtAll(t *testing.T) {
	s := besiege(t, strings.NewReplacer("\tdebug\n", "", "\tlog\n", "").Replace(besieged))
	own := cookieName + "=" + s.mustEnter(t, "ada").Cookie(s.site, cookieName)
	var many []string
	for i := range 200 {
		many = append(many, fmt.Sprintf("c%d=%s", i, strings.Repeat("x", 10)))
	}
	all := strings.Join(many, "; ")
	for _, line := range []string{own + "; " + all, all + "; " + own, strings.Join(slices.Insert(slices.Clone(many), 100, own), "; ")} {
		s.wantKnown(t, "200 of them", []string{line}, true, all)
	}
	var ours strings.Builder
	for i := range 200 {
		fmt.Fprintf(&ours, "%s-%d=x; ", cookieName, i)
	}
	s.wantKnown(t, "200 of our names before", []string{ours.String() + own + "; a=1"}, true, "a=1")
	s.app.Forget()
	for tongue, ask := range map[string]speaking{"HTTP/1.1": tongues["HTTP/1.1"], "HTTP/2": tongues["HTTP/2, a field for each"]} {
		status := ask(t, s, "GET", "/in", []string{strings.Repeat(all+"; ", 20) + own})
		if !slices.Contains([]string{"431", "reset", "gone"}, status) {
			t.Errorf("%s: %s for 64 KiB", tongue, status)
		}
	}
	s.untouched(t)
}
