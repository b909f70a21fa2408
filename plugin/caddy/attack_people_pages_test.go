package main_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// templated is byMail with our pages inside what Caddy takes for templates of
// the operator's.
var templated = strings.Replace(strings.Replace(byMail, "\tlogin email {", "\troute {\n\ttemplates\n\tlogin email {", 1), "\treverse_proxy {$APP}\n", "\treverse_proxy {$APP}\n\t}\n", 1)

// A stranger's words are no template, also where an operator has Caddy read all
// that a site answers as one: it would hand out the environment's secrets.
func TestStrangersWordsAreNoTemplates(t *testing.T) {
	s := playMail(t, templated)
	for _, word := range []string{
		"{{placeholder `env.SMTP_CA`}}", "{{env `SMTP_CA`}}", "{{{env `SMTP_CA`}}}", "{{- env `SMTP_CA` -}}", "{{`a`}}{{env `SMTP_CA`}}", "{{", "{{nonsense}}",
		"{http.request.uri}{env.SMTP_CA}",
	} {
		v := e2e.NewVisitor(t)
		got := v.Do(s.posting(v, "/.login/email", "", "email", word))
		mustBe(t, got, http.StatusUnprocessableEntity)
		if strings.Contains(got.Body, s.box.CAFile) {
			t.Errorf("%s was run:\n%s", word, got.Body)
		}
		wantOn(t, got, word)
		for _, path := range []string{"/.login/?return=", "/.login/logout?return="} {
			if got := v.Get(s.site + path + url.QueryEscape("/"+word)); got.StatusCode != http.StatusOK || strings.Contains(got.Body, s.box.CAFile) {
				t.Errorf("%s%s: %d", path, word, got.StatusCode)
			}
		}
	}
	ada := s.enter(t, "ada@example.com")
	got := ada.Do(s.posting(ada, "/.login/account", "", "do", "rename", "name", "{{env `SMTP_CA`}}"))
	mustBe(t, got, http.StatusSeeOther)
	got = ada.Get(s.site + "/.login/account")
	mustBe(t, got, http.StatusOK)
	wantOn(t, got, "{{env `SMTP_CA`}}")
}

// A byte now and then keeps nobody waiting for days, neither a page nor the API.
func TestTrickledBodiesEnd(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	session := strings.Join(s.known(t, "op", "ada").Cookies(s.site), "; ")
	var all sync.WaitGroup
	for _, path := range []string{
		"/email", "/code", "/link", "/logout", "/confirm", "/account", "/account/again", "/account/delete", "/account/revert", "/op/backchannel-logout", "/api/v1/challenges", "/api/v1/token",
	} {
		for _, length := range []string{"Content-Length: 4000", "Transfer-Encoding: chunked"} {
			kind := formType
			if strings.HasPrefix(path, "/api/") {
				kind = "application/json"
			}
			wire := e2e.Dial(t, s.site)
			wire.Say("POST /.login%s HTTP/1.1\r\nHost: %s\r\nOrigin: %s\r\nCookie: %s\r\nContent-Type: %s\r\n%s\r\n\r\n",
				path, strings.TrimPrefix(s.site, "https://"), s.site, session, kind, length)
			all.Go(func() {
				if err := trickle(wire, strings.HasPrefix(length, "T"), 29*time.Second); err != nil {
					t.Errorf("%s, %s: %v", path, length, err)
				}
			})
		}
	}
	all.Wait()
}

// trickle sends a byte now and then until it is answered.
func trickle(wire *e2e.Wire, chunked bool, within time.Duration) error {
	answered := make(chan error, 1)
	go func() {
		_, err := wire.Line()
		answered <- err
	}()
	now, end := time.NewTicker(300*time.Millisecond), time.After(within)
	defer now.Stop()
	for {
		select {
		case err := <-answered:
			return err
		case <-end:
			return fmt.Errorf("no answer within %s", within)
		case <-now.C:
			piece := "a"
			if chunked {
				piece = "1\r\na\r\n"
			}
			_, _ = wire.Write([]byte(piece)) // the answer tells
		}
	}
}

// A form of ours is a form of ours, whatever else a request says that it is.
func TestBodiesOfAnotherKindChangeNothing(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	ada, phone := s.known(t, "op", "ada"), s.known(t, "op", "ada")
	s.letter(t, "ada@example.com", "New sign-in")
	cookie := ada.Cookie(s.site, cookieName)
	const parts = "--x\r\nContent-Disposition: form-data; name=\"do\"\r\n\r\nend_others\r\n--x--\r\n"
	for _, row := range []struct{ kind, body string }{
		{"multipart/form-data; boundary=x", parts}, {"text/plain", "do=end_others"}, {"application/json", `{"do":"end_others"}`}, {"", "do=end_others"},
		{"application/xml", "<do>end_others</do>"}, {formType + ", text/plain", "do=end_others"}, {formType, "do%00=end_others"}, {formType, "DO=end_others"}, {formType, "do[]=end_others"},
		{formType, "do=end_others;x"}, {formType, "do=\"end_others\""}, {formType, "do= end_others"}, {formType, "do=%65nd%5Fothers%00"}, {formType, "\xef\xbb\xbfdo=end_others"},
		{formType, tooManyFields(40) + "do=end_others"}, {formType, "do=end_others&pad=" + strings.Repeat("a", 9000)}, {formType, "do=end_others&%zz"},
	} {
		r := s.form(ada, s.site, "/account")
		r = ada.Request(http.MethodPost, r.URL.String(), row.body)
		r.Header.Set("Origin", s.site)
		if row.kind != "" {
			r.Header.Set("Content-Type", row.kind)
		}
		if got := ada.Do(r); got.StatusCode < 400 || session(got) != "" {
			t.Errorf("%s, %.40q: %d", row.kind, row.body, got.StatusCode)
		}
	}
	for _, name := range []string{"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"} {
		r := ada.Navigation(s.site + "/.login/account?_method=POST&do=end_others&address=x")
		r.Header.Set(name, "POST")
		mustBe(t, ada.Do(r), http.StatusOK)
		r = ada.Navigation(s.site + "/.login/logout?_method=POST")
		r.Header.Set(name, "POST")
		mustBe(t, ada.Do(r), http.StatusOK)
	}
	if !s.isIn(phone) || !s.isIn(ada) || ada.Cookie(s.site, cookieName) != cookie {
		t.Error("something was changed")
	}
	if n := s.box.Waiting(); n != 0 {
		t.Errorf("%d mails went out", n)
	}
}

func tooManyFields(n int) (form string) {
	for i := range n {
		form += fmt.Sprintf("a%d=&", i)
	}
	return form
}

// No answer of ours is kept, guessed at or read from elsewhere, whoever asks and
// whatever they get.
func TestEveryAnswerOfOursIsPrivate(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	ada, stranger := s.known(t, "op", "ada"), e2e.NewHTTP2Visitor(t)
	waiting := e2e.NewVisitor(t)
	s.ask(t, waiting, "grace@example.com", "/in")
	for name, v := range map[string]*e2e.Visitor{"ada": ada, "a stranger": stranger, "who waits": waiting} {
		for _, path := range []string{
			"/", "/?switch=1", "/email", "/code", "/link", "/link?t=x", "/confirm", "/logout", "/op", "/op/callback", "/op/callback?state=x&code=y", "/nothing", "/account", "/account/activity",
			"/account/activity?after=x", "/account/activity.csv", "/account/download", "/account/delete", "/account/again", "/account/revert", "/account/nothing", "/api/v1/session", "/api/v1/nothing", "/native",
		} {
			for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodOptions, http.MethodPut} {
				for _, accept := range []string{"text/html", "application/json"} {
					r := v.Another().Request(method, s.site+"/.login"+path, "")
					r.Header.Set("Accept", accept)
					r.Header.Set("Cookie", strings.Join(v.Cookies(s.site), "; "))
					wantPrivate(t, name, v.Another().Do(r))
				}
			}
		}
	}
}

func wantPrivate(t *testing.T, who string, got e2e.Answer) {
	t.Helper()
	h, what := got.Header, fmt.Sprintf("%s, %s %s %s", who, got.Request.Method, got.Request.URL.Path, got.Request.Header.Get("Accept"))
	isOptions := got.Request.Method == http.MethodOptions && got.StatusCode == http.StatusNoContent // never kept (RFC 9110 section 9.3.7)
	if !strings.Contains(h.Get("Cache-Control"), "no-store") && !isOptions {
		t.Errorf("%s: %d may be kept: %v", what, got.StatusCode, h)
	}
	if got.Body != "" && h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%s: %d may be guessed at: %v", what, got.StatusCode, h)
	}
	if strings.HasPrefix(h.Get("Content-Type"), "text/html") {
		csp := h.Get("Content-Security-Policy")
		if !strings.Contains(csp, "frame-ancestors 'none'") || !strings.Contains(csp, "base-uri 'none'") || h.Get("Cross-Origin-Opener-Policy") != "same-origin" || h.Get("Referrer-Policy") != "strict-origin" {
			t.Errorf("%s: %d: %v", what, got.StatusCode, h)
		}
	}
	for _, name := range []string{"Server-Timing", "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Timing-Allow-Origin", "X-Powered-By"} {
		if h.Get(name) != "" {
			t.Errorf("%s: %s: %s", what, name, h.Get(name))
		}
	}
}
