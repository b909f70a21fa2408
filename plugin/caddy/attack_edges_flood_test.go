package main_test

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// Anybody may send a form to our own pages. One whose body never comes, or comes
// by a byte now and then, does not hold a connection for longer than a form
// takes; one that takes its time is read.
func TestUnfinishedFormsDoNotHoldConnections(t *testing.T) {
	t.Parallel() // it waits for half a minute
	s := playMail(t, strings.Replace(byMail, "login email {", "login {\n\t\temail\n\t\toidc op site secret {\n\t\t\tissuer http://127.0.0.1:1\n\t\t}", 1))
	head := func(path, length string) string {
		return "POST " + path + " HTTP/1.1\r\nHost: " + strings.TrimPrefix(s.site, "https://") + "\r\nOrigin: " + s.site + "\r\nContent-Type: application/x-www-form-urlencoded\r\n" + length + "\r\n\r\n"
	}
	begun, open := time.Now(), map[string]*e2e.Wire{}
	for _, path := range []string{"logout", "email", "code", "link", "confirm", "op/backchannel-logout"} {
		for _, length := range []string{"Content-Length: 1000", "Transfer-Encoding: chunked"} {
			open[path+", "+length] = e2e.Dial(t, s.site).Say("%s", head("/.login/"+path, length))
		}
	}
	late := e2e.Dial(t, s.site).Say("%s", head("/.login/email", "Content-Length: 21"))
	for _, part := range []string{"email=ada", "@example.com"} {
		await(t, time.Now().Add(3*time.Second))
		late.Say("%s", part)
		for name, w := range open {
			if strings.Contains(name, "chunked") {
				w.Say("1\r\na\r\n")
			}
		}
	}
	mustBe(t, late.Hear(http.MethodPost), http.StatusSeeOther)
	for name, w := range open {
		if err := w.SetReadDeadline(begun.Add(35 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(w.Conn); !strings.HasPrefix(string(got), "HTTP/1.1 400 ") || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: after %s %.60q, %v", name, time.Since(begun).Round(time.Second), got, err)
		}
	}
	if lines := len(s.Logs()); lines > 200 {
		t.Errorf("they wrote %d lines", lines)
	}
	t.Logf("all were closed after %s", time.Since(begun).Round(time.Second))
}

// An answer to a sign-in that nobody began costs its sender nothing: the log
// hears of it now and then, from however many networks it comes.
func TestInventedAnswersDoNotFillTheLog(t *testing.T) {
	s := besiege(t, strings.NewReplacer("\tdebug\n", "", "\tlog\n", "").Replace(besieged))
	begun, lines := time.Now(), strings.Count(s.Log(), "\n")
	for _, query := range []string{"code=x&state=invented", "code=x&state=a&state=b", "error=access_denied", "code=x&state=" + strings.Repeat("A", 43)} {
		s.flood(t, 800, 0, func(v *e2e.Visitor, _ int) *http.Request {
			return v.Navigation(s.site + "/.login/op/callback?" + query)
		})
	}
	// The log has room for a hundred at once, and for one more each second.
	more, took := strings.Count(s.Log(), "\n")-lines, time.Since(begun)
	if more == 0 || more > 110+int(took/time.Second) {
		t.Errorf("3,200 invented answers wrote %d lines into the log in %s", more, took)
	}
}
