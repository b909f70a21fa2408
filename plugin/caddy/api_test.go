package main_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// shared is a site whose API another origin's pages may call.
var shared = strings.Replace(forApps, "	login {\n		allow /public/* anyone", "	login {\n		origin https://app.test:{$PORT} https://spa.test\n		allow /public/* anyone", 1)

func TestAPIHasNoOtherPaths(t *testing.T) {
	t.Parallel()
	s := playForApps(t, forApps)
	for _, v := range []*e2e.Visitor{e2e.NewVisitor(t), e2e.NewHTTP2Visitor(t)} {
		for _, path := range []string{
			"", "/", "/v1", "/v1/", "/v2/session", "/v1/session/", "/v1/sessions", "/v1//session", "/v1/%73ession", "/v1/session%2f", "/v1/session;x=1", "/v1/./session",
			"/v1/account/../session", "/v1/challenges//check", "/v1/challenges/a/b/check", "/v1/challenges/%2e%2e/check", "/v1/Session", "/v1/metadata.json", "/v1/session%00",
		} {
			for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodOptions, "BREW"} {
				r := v.Request(method, s.site+"/.login/api"+path, "")
				got := v.Do(r)
				if got.StatusCode != http.StatusNotFound || method != http.MethodHead && !strings.Contains(got.Body, `"code":"not_found"`) {
					t.Errorf("%s %s: %d %.300s", method, path, got.StatusCode, got.Body)
				}
			}
		}
		for method, paths := range map[string][]string{
			http.MethodGet:    {"/token", "/native/nonce", "/intents", "/challenges/x/check"},
			http.MethodPost:   {"/session", "/metadata", "/openapi.json", "/account/profile"},
			http.MethodPut:    {"/session", "/account/emails/x"},
			"TRACK":           {"/session"},
			http.MethodDelete: {"/token"},
		} {
			for _, path := range paths {
				got := v.Do(calling(v, method, s.site+"/.login/api/v1"+path, "{}"))
				wantRefused(t, got, http.StatusMethodNotAllowed, "method_not_allowed")
				if allow := got.Header.Get("Allow"); allow == "" || strings.Contains(allow, method+",") {
					t.Errorf("%s %s allows %q", method, path, allow)
				}
			}
		}
		head := v.Do(v.Request(http.MethodHead, s.site+"/.login/api/v1/metadata", ""))
		mustBe(t, head, http.StatusOK)
		if head.Body != "" || head.Header.Get("Etag") == "" {
			t.Errorf("HEAD answers %v %q", head.Header, head.Body)
		}
	}
	s.untouched(t)
}

func TestAPIIsSharedWithListedOriginsAlone(t *testing.T) {
	t.Parallel()
	s := playForApps(t, shared)
	v := e2e.NewVisitor(t)
	session, nonce := s.site+"/.login/api/v1/session", s.site+"/.login/api/v1/native/nonce"
	for _, own := range []string{"https://spa.test", s.site} {
		for address, status := range map[string]int{session: 401, s.site + "/.login/api/v1/metadata": 200, s.site + "/.login/api/v1/nowhere": 404} {
			got := v.Do(calling(v, http.MethodGet, address, nil, "Origin", own))
			mustBe(t, got, status)
			h := got.Header
			if h.Get("Access-Control-Allow-Origin") != own || h.Get("Access-Control-Allow-Credentials") != "true" || !strings.Contains(h.Get("Vary"), "Origin") {
				t.Errorf("%s from %s: %v", address, own, h)
			}
		}
		// Also that a token is not good any more can be read.
		bad := v.Do(calling(v, http.MethodGet, session, nil, "Origin", own, "Authorization", "Bearer "+s.enterApp(t, v, "ada").Access+"A"))
		wantInvalidToken(t, bad)
		if bad.Header.Get("Access-Control-Allow-Origin") != own {
			t.Errorf("a refusal can't be read from %s: %v", own, bad.Header)
		}
		preflight := v.Do(calling(v, http.MethodOptions, session, nil, "Origin", own, "Access-Control-Request-Method", "DELETE", "Access-Control-Request-Headers", "content-type,authorization"))
		mustBe(t, preflight, http.StatusNoContent)
		for name, want := range map[string]string{
			"Access-Control-Allow-Methods": "DELETE, GET, HEAD, OPTIONS", "Access-Control-Allow-Headers": "Authorization, Content-Type", "Access-Control-Allow-Origin": own,
		} {
			if preflight.Header.Get(name) != want {
				t.Errorf("%s: %q", name, preflight.Header.Get(name))
			}
		}
		mustBe(t, v.Do(calling(v, http.MethodPost, nonce, nil, "Origin", own)), http.StatusOK)
	}
	for _, foreign := range []string{
		"null", "", "https://evil.test", "http://spa.test", "https://spa.test.evil.test", "https://evilspa.test", "https://spa.test:444", "https://SPA.test",
		"https://spa.test/", "https://spa.test, https://evil.test", "https://spa.test https://evil.test", "https://x@spa.test", s.other, "file://",
	} {
		for _, method := range []string{http.MethodGet, http.MethodOptions, http.MethodDelete} {
			r := calling(v, method, session, nil, "Access-Control-Request-Method", "DELETE")
			r.Header["Origin"] = []string{foreign}
			got, err := v.Try(r)
			if err != nil {
				continue // no header at all can be written so
			}
			for name := range got.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s from %q is told %s: %v", method, foreign, name, got.Header[name])
				}
			}
			if method == http.MethodDelete && got.StatusCode != http.StatusForbidden {
				t.Errorf("DELETE from %q: %d", foreign, got.StatusCode)
			}
		}
	}
	two := calling(v, http.MethodPost, nonce, nil)
	two.Header["Origin"] = []string{"https://spa.test", "https://evil.test"}
	wantRefused(t, v.Do(two), http.StatusForbidden, "foreign_origin")
	site := calling(v, http.MethodPost, nonce, nil, "Sec-Fetch-Site", "cross-site")
	wantRefused(t, v.Do(site), http.StatusForbidden, "foreign_origin")
	// A browser that says nothing of where it comes from, and has cookies.
	cookies := calling(v, http.MethodDelete, session, nil, "Cookie", cookieName+"=x")
	wantRefused(t, v.Do(cookies), http.StatusForbidden, "foreign_origin")
	s.untouched(t)
}

func TestAPIDrawsASignInPage(t *testing.T) {
	t.Parallel()
	s := playForApps(t, forApps)
	v := e2e.NewVisitor(t)
	address := s.site + "/.login/api/v1/metadata"
	got := v.Do(v.Request(http.MethodGet, address, ""))
	mustBe(t, got, http.StatusOK)
	var is struct {
		Origin  string
		Methods []struct {
			ID, Label, Kind, Icon string
			Native                struct {
				ID     bool `json:"id_token"`
				Access bool `json:"access_token"`
			}
		}
		Policy struct {
			SignUp   string `json:"sign_up"`
			Length   int    `json:"code_length"`
			Lifetime int    `json:"code_lifetime"`
			Link     bool
			Email    bool
		}
		Endpoints map[string]string
	}
	if err := json.Unmarshal([]byte(got.Body), &is); err != nil {
		t.Fatal(err)
	}
	if is.Origin != s.site || len(is.Methods) != 3 || is.Policy.SignUp != "on" || is.Policy.Length != 6 || is.Policy.Lifetime != 600 || !is.Policy.Link || !is.Policy.Email {
		t.Errorf("got %s", got.Body)
	}
	for i, want := range []string{"op Our People provider true false", "club club provider false true", "email email email false false"} {
		m := is.Methods[i]
		if is := strings.Join([]string{m.ID, m.Label, m.Kind, word(m.Native.ID), word(m.Native.Access)}, " "); is != want {
			t.Errorf("got %q, want %q", is, want)
		}
	}
	for name, address := range is.Endpoints {
		method := http.MethodGet
		if name == "intents" || name == "challenges" || name == "nonce" || name == "token" {
			method = http.MethodPost
		}
		if got := v.Do(calling(v, method, address, "{}")); got.StatusCode == http.StatusMethodNotAllowed || got.StatusCode == http.StatusNotFound && strings.Contains(got.Body, `"not_found"`) {
			t.Errorf("%s is %s: %d", name, address, got.StatusCode)
		}
	}
	for _, address := range []string{address, s.site + "/.login/api/v1/openapi.json"} {
		got := v.Do(v.Request(http.MethodGet, address, ""))
		mustBe(t, got, http.StatusOK)
		tag := got.Header.Get("Etag")
		if got.Header.Get("Cache-Control") != "public, max-age=300" || len(tag) < 20 || len(got.Header["Set-Cookie"]) > 0 {
			t.Errorf("%s: %v", address, got.Header)
		}
		for _, has := range []string{tag, "W/" + tag, `"other", ` + tag, "*"} {
			r := v.Request(http.MethodGet, address, "")
			r.Header.Set("If-None-Match", has)
			// Whoever it is from, and with whatever they bring, it is the same.
			r.Header.Set("Authorization", "Bearer eyJ.eyJ.x")
			got := v.Do(r)
			if got.StatusCode != http.StatusNotModified || got.Body != "" || got.Header.Get("Etag") != tag {
				t.Errorf("%s with %s: %d %v", address, has, got.StatusCode, got.Header)
			}
		}
		r := v.Request(http.MethodGet, address, "")
		r.Header.Set("If-None-Match", `"other"`)
		mustBe(t, v.Do(r), http.StatusOK)
	}
	other := v.Do(v.Request(http.MethodGet, s.other+"/.login/api/v1/metadata", ""))
	if !strings.Contains(other.Body, `"sign_up":"off"`) || other.Header.Get("Etag") == got.Header.Get("Etag") {
		t.Errorf("the other site says %s", other.Body)
	}
}

func word(is bool) string {
	if is {
		return "true"
	}
	return "false"
}

func TestAPIIsDescribedWhereItIs(t *testing.T) {
	t.Parallel()
	s := playForApps(t, strings.Replace(forApps, "		signup off\n", "		signup off\n		pages /signin\n		cookie {\n			name me\n		}\n", 1))
	v := e2e.NewVisitor(t)
	for site, want := range map[string][2]string{s.site + "/.login": {"/.login/api/v1", "__Host-login"}, s.other + "/signin": {"/signin/api/v1", "__Host-me"}} {
		got := v.Do(v.Request(http.MethodGet, site+"/api/v1/openapi.json", ""))
		mustBe(t, got, http.StatusOK)
		var doc struct {
			OpenAPI    string
			Servers    []struct{ URL string }
			Components struct {
				SecuritySchemes struct{ Cookie struct{ Name string } }
			}
		}
		if err := json.Unmarshal([]byte(got.Body), &doc); err != nil {
			t.Fatal(err)
		}
		if doc.OpenAPI != "3.1.0" || len(doc.Servers) != 1 || doc.Servers[0].URL != want[0] || doc.Components.SecuritySchemes.Cookie.Name != want[1] {
			t.Errorf("%s: %+v", site, doc)
		}
	}
}

func TestAPIReadsNoBodyThatItRefuses(t *testing.T) {
	t.Parallel()
	s := playForApps(t, forApps)
	const head = "POST /.login/api/v1/token HTTP/1.1\r\nHost: %s\r\nExpect: 100-continue\r\nContent-Type: %s\r\n%s\r\n\r\n"
	host := strings.TrimPrefix(s.site, "https://")
	for what, test := range map[string]struct {
		kind, length string
		status       int
	}{
		"too long":        {"application/json", "Content-Length: 65537", 413},
		"of another type": {"text/html", "Transfer-Encoding: chunked", 415},
		"a huge form":     {"application/x-www-form-urlencoded", "Content-Length: 1073741824", 413},
	} {
		wire := e2e.Dial(t, s.site)
		got := wire.Say(head, host, test.kind, test.length).Hear(http.MethodPost)
		if got.StatusCode != test.status || !got.Close {
			t.Errorf("%s: %d %v", what, got.StatusCode, got.Header)
		}
		if !wire.Closed(10 * time.Second) {
			t.Errorf("%s: the connection is open still", what)
		}
	}
	wire := e2e.Dial(t, s.site)
	if got := wire.Say(head, host, "application/json", "Transfer-Encoding: chunked").Hear(http.MethodPost); got.StatusCode != http.StatusContinue {
		t.Fatalf("got %d", got.StatusCode)
	}
	chunk := "10000\r\n" + strings.Repeat(" ", 0x10000) + "\r\n"
	wire.Say("%s", chunk+chunk[:100])
	if got := wire.Hear(http.MethodPost); got.StatusCode != http.StatusRequestEntityTooLarge || !got.Close {
		t.Errorf("got %d %v", got.StatusCode, got.Header)
	}
	s.untouched(t)
}

func TestAPISignsABrowserOut(t *testing.T) {
	t.Parallel()
	s := playForApps(t, forApps)
	s.issuer.Client("site", clientSecret, s.site+"/.login/op/callback")
	browser := e2e.NewVisitor(t)
	begun := browser.Get(s.site + "/.login/op?return=%2Fpublic%2Fin")
	callback, _ := s.issuer.SignIn(t, http.DefaultClient, begun.Header.Get("Location"), "ada")
	mustBe(t, browser.Follow(callback.String()), http.StatusOK)
	stolen := replay(browser, s.site, browser.Cookie(s.site, cookieName))
	address := s.site + "/.login/api/v1/session"
	who := browser.Do(calling(browser, http.MethodGet, address, nil))
	mustBe(t, who, http.StatusOK)
	if !strings.Contains(who.Body, `"status":"authenticated"`) || !strings.Contains(who.Body, `"email":"ada@example.com"`) {
		t.Errorf("got %s", who.Body)
	}
	wantRefused(t, browser.Do(calling(browser, http.MethodDelete, address, nil)), http.StatusForbidden, "foreign_origin")
	if !s.isIn(browser) {
		t.Fatal("a call of nobody's signed her out")
	}
	wantRefused(t, browser.Do(calling(browser, http.MethodDelete, address+"?return=https://evil.test/", nil, "Origin", s.site)), http.StatusBadRequest, "bad_request")
	if !s.isIn(browser) {
		t.Fatal("a call that was refused signed her out")
	}
	out := browser.Do(calling(browser, http.MethodDelete, address+"?return=/public/bye", nil, "Origin", s.site))
	mustBe(t, out, http.StatusOK)
	var left struct {
		URL string `json:"logout_url"`
	}
	if err := json.Unmarshal([]byte(out.Body), &left); err != nil || !strings.HasPrefix(left.URL, s.issuer.URL) {
		t.Errorf("got %s, %v", out.Body, err)
	}
	there := browser.Get(left.URL)
	if back := browser.Get(there.Header.Get("Location")); back.Header.Get("Location") != "/public/bye" {
		t.Errorf("the provider leads to %d %s, and that to %d %q", there.StatusCode, there.Header.Get("Location"), back.StatusCode, back.Header.Get("Location"))
	}
	if s.isIn(stolen) || browser.Cookie(s.site, cookieName) != "" {
		t.Error("the session lives on")
	}
	wantRefused(t, browser.Do(calling(browser, http.MethodDelete, address, nil, "Origin", s.site)), http.StatusUnauthorized, "sign_in_required")
	wantRefused(t, stolen.Do(calling(stolen, http.MethodDelete, address, nil, "Origin", s.site)), http.StatusUnauthorized, "sign_in_required")
}
