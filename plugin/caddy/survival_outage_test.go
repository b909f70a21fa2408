package main_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
	"github.com/caddy-login/caddy-login/module/logintest/inbox"
)

// besetSite offers a provider that may fail, one whose certificate nobody
// trusts, and mail.
const besetSite = `
https://app.test:{$PORT} {
	login {
		email
		oidc op site {env.OP_SECRET} {
			issuer {$ISSUER}
		}
		oidc tls site {env.OP_SECRET} {
			issuer {$TLS_ISSUER}
		}
		allow users
		mail smtp {$SMTP} {
			tls_ca {file.{$SMTP_CA}}
		}
	}
	reverse_proxy {$APP}
}
`

// beset is a site whose neighbours fail.
type beset struct{ *siege }

func (s *beset) asking(v *e2e.Visitor, address, network string) *http.Request {
	return (&mailed{stage: s.stage}).asking(v, address, network)
}

// besetBy starts it with this mail server.
func besetBy(t *testing.T, server, ca string) *beset {
	t.Helper()
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0) // whom it is not trusted by
	untrusted.StartTLS()
	t.Cleanup(untrusted.Close)
	s := &siege{stage: &stage{Caddy: e2e.NewCaddy(t, e2e.Build(t))}, issuer: logintest.NewIssuer(t)}
	s.site = fmt.Sprintf("https://app.test:%d", s.Port)
	s.issuer.Client("site", strongSecret, s.site+"/.login/op/callback")
	for _, name := range []string{"ada", "grace"} {
		s.issuer.Person(logintest.Person{Subject: name, Name: name})
	}
	s.Env["ISSUER"], s.Env["OP_SECRET"] = s.issuer.Issuer, strongSecret
	s.Env["TLS_ISSUER"], s.Env["SMTP"], s.Env["SMTP_CA"] = untrusted.URL, server, ca
	s.Start(unrecorded(t, besetSite))
	return &beset{s}
}

// patient is how long an answer may take on a busy machine. Whatever waits for a
// provider waits for the 10 s after which our calls are given up.
const patient = 9 * time.Second

// endures has Ada ask for d while others try what fails, half of the time before
// a cold start and half of it after one.
func (s *beset) endures(t *testing.T, ada *e2e.Visitor, d time.Duration, try func(*e2e.Visitor)) {
	t.Helper()
	var asked, tried atomic.Int64
	var longest time.Duration
	figures(t, "for %s, %d requests of the signed-in, at most %s each, %d tries of others", func() []any {
		return []any{d, asked.Load(), longest.Round(time.Millisecond), tried.Load()}
	})
	for _, part := range []string{"before", "after a cold start"} {
		c := newCrowd()
		c.every(200*time.Millisecond, func() {
			other := visitorFrom(t, 2+int(tried.Add(1)%250))
			defer other.Transport.CloseIdleConnections()
			try(other)
		})
		c.every(20*time.Millisecond, func() {
			begun := time.Now()
			got, err := ada.Try(ada.Navigation(s.site + "/in"))
			took := time.Since(begun)
			asked.Add(1)
			if longest = max(longest, took); err != nil || got.StatusCode != http.StatusOK || took > patient {
				c.fail("%s: %v %d after %s", part, err, got2(got, err).StatusCode, took)
			}
		})
		await(t, time.Now().Add(d/2))
		if c.disperse(); len(c.failed) > 0 {
			t.Errorf("%d of %d requests failed: %q", len(c.failed), asked.Load(), c.failed[:min(5, len(c.failed))])
		}
		if part == "before" {
			s.Kill()
			s.Restart()
		}
	}
}

// outage is a way to fail, and how it ends.
type outage struct {
	provider string
	before   func(*logintest.Issuer) // what a sign-in meets that begins now
	begin    func(*logintest.Issuer)
	end      func(*logintest.Issuer)
}

func outages() map[string]outage {
	failing := logintest.Faults{Response: func(r *logintest.Response) { r.Status = http.StatusServiceUnavailable }}
	nothing := func(*logintest.Issuer) {}
	return map[string]outage{
		"down": {"op", nothing, func(i *logintest.Issuer) { i.Down(true) }, func(i *logintest.Issuer) { i.Down(false) }},
		"slow": {"op", nothing, func(i *logintest.Issuer) { i.Slow(15 * time.Second) }, func(i *logintest.Issuer) { i.Slow(0) }},
		"errors": {"op", func(i *logintest.Issuer) { i.Always(failing) }, nothing,
			func(i *logintest.Issuer) { i.Always(logintest.Faults{}) }},
		"broken TLS": {"tls", nothing, nothing, nothing},
	}
}

// A provider fails in every way: nobody comes in by it, nobody else notices, and
// once it is back people come in again.
func TestSignedInOutliveTheirProvider(t *testing.T) {
	t.Parallel() // each waits for a clock, with a Caddy of its own
	for name, outage := range outages() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := besetBy(t, "127.0.0.1:1", inbox.New(t).CAFile)
			ada, half := s.mustEnter(t, "ada"), e2e.NewVisitor(t)
			outage.before(s.issuer)
			pending := s.mustCome(t, half, "op", "grace")
			outage.begin(s.issuer)
			if got := half.Get(pending.callback); outage.provider == "op" && got.StatusCode != http.StatusBadGateway {
				t.Errorf("a sign-in is answered %d", got.StatusCode)
			}
			s.endures(t, ada, lasting(2*time.Second, 30*time.Minute), func(v *e2e.Visitor) {
				// What is known of a provider leads there; where nothing is, there is a page.
				got, err := v.Try(v.Navigation(s.site + "/.login/" + outage.provider + "?return=%2F"))
				if err != nil || got.StatusCode != http.StatusBadGateway && got.StatusCode != http.StatusFound || session(got) != "" {
					t.Errorf("beginning: %v %d", err, got2(got, err).StatusCode)
				}
			})
			outage.end(s.issuer)
			s.comesIn(t)
		})
	}
}

// comesIn waits until a stranger can sign in.
func (s *beset) comesIn(t *testing.T) {
	t.Helper()
	e2e.Eventually(t, recovery, "a sign-in", func() bool {
		_, err := s.enter(visitorFrom(t, 255-2), "grace")
		return err == nil
	})
}

// A mail server fails in every way: nobody waits for it, and people come in by
// another way.
func TestSignedInOutliveTheMailServer(t *testing.T) {
	t.Parallel()
	box, other := inbox.New(t), inbox.New(t)
	box.Say(inbox.MAIL, "450 4.2.0 later")
	servers := map[string][2]string{
		"down":       {strings.TrimPrefix(closedIssuer(t), "http://"), box.CAFile},
		"slow":       {strings.TrimPrefix(silentIssuer(t), "http://"), box.CAFile},
		"errors":     {box.Addr, box.CAFile},
		"broken TLS": {box.Addr, other.CAFile},
	}
	for name, server := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := besetBy(t, server[0], server[1])
			ada := s.mustEnter(t, "ada")
			var n atomic.Int64
			s.endures(t, ada, lasting(2*time.Second, 30*time.Minute), func(v *e2e.Visitor) {
				begun := time.Now()
				got, err := v.Try(s.asking(v, fmt.Sprintf("u%d@example.com", n.Add(1)), ""))
				if took := time.Since(begun); err != nil || took > patient || got.StatusCode != http.StatusSeeOther && got.StatusCode != http.StatusTooManyRequests {
					t.Errorf("asking for a mail: %v %d after %s", err, got2(got, err).StatusCode, took)
				}
			})
			s.comesIn(t)
		})
	}
}
