package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// letter waits until the demo has mailed something to this address, and returns
// it.
func (d *demo) letter(to string) (found mail) {
	d.t.Helper()
	e2e.Eventually(d.t, 30*time.Second, "a mail to "+to, func() bool {
		for _, m := range letters.Load().all() {
			if m.To == to {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

// code is the end of the text: the last line binds it to the host.
func (m mail) code() string {
	_, code, _ := strings.Cut(m.Text, "\n@localhost #")
	return code
}

func (m mail) link() string { return address.FindString(m.Text) }

// ask goes to path and asks there for a mail.
func (d *demo) ask(b *e2e.Browser, path, email string) mail {
	d.t.Helper()
	b.Get(d.url+path).See("Demo app").Submit("email", email).See("Check your email")
	return d.letter(email)
}

func TestCodeOutOfTheMailboxSignsIn(t *testing.T) {
	d := start(t)
	b := e2e.NewBrowser(t)
	box := b.NewTab().Get(d.url + "/public/").See("Any address will do")
	box.Get(d.mailbox).See("It is empty")
	m := d.ask(b, "/?from=here", "grace@example.com")
	// The mailbox came to know by itself, and says it as text, too.
	box.See("grace@example.com").See(m.Subject).Click("Text").See("Type this code").See("    " + m.code())
	b.Submit("code", m.code()).See("You are grace@example.com").At("/?from=here")
}

func TestLinkClickedInTheMailboxHasTheFirstTabMoveOn(t *testing.T) {
	d := start(t)
	for as, link := range map[string]string{"text": "/.login/link?t=", "html": "Sign in"} {
		b := e2e.NewBrowser(t)
		m := d.ask(b, "/?as="+as, as+"@example.com")
		b.NewTab().Get(fmt.Sprint(d.mailbox, "/mail/", m.Number, "/", as)).See("Never share this code").Click(link)
		b.See("You are " + m.To).At("/?as=" + as)
	}
}

func TestLinkInAnotherBrowserShowsTheCodeToTypeInTheFirst(t *testing.T) {
	d := start(t)
	b, other := e2e.NewBrowser(t), e2e.NewBrowser(t)
	m := d.ask(b, "/", "grace@example.com")
	other.Get(m.link()).See("Your code").See(m.code()).See("You are not signed in here")
	other.Get(d.url + "/").See("Choose how you want to continue")
	b.Submit("code", m.code()).See("You are grace@example.com")
}

func TestWhoDidNotAskStopsIt(t *testing.T) {
	d := start(t)
	b, owner := e2e.NewBrowser(t).AllowConsole("the server responded with a status of 4"), e2e.NewBrowser(t)
	m := d.ask(b, "/", "grace@example.com")
	owner.Get(m.link()).Click("I did not ask for this")
	owner.See("no longer work")
	b.See("This sign-in was stopped")
	b.Get(d.url + "/").See("Choose how you want to continue")
}

func TestSameAddressIsTheSamePersonByProviderAndByMail(t *testing.T) {
	d := start(t)
	if status, _, body := d.signIn("/", "10001"); status != http.StatusOK || !strings.Contains(body, "You are Ada") {
		t.Fatalf("status %d", status)
	}
	b := e2e.NewBrowser(t)
	m := d.ask(b, "/", "ada@example.com")
	b.Submit("code", m.code()).See("You are Ada")
}

func TestMailboxTellsAnOpenPageOfMailsThatCome(t *testing.T) {
	box := newMailbox()
	site := httptest.NewServer(newReader(box, "http://localhost:8080"))
	t.Cleanup(site.Close) // after the browser or the stream has left
	put(box, 1)
	b := e2e.NewBrowser(t).Get(site.URL + "/mail/1").See("mail 1").DontSee("mail 2")
	put(box, 2)
	b.See("mail 2").At("/mail/1")
	if b.Eval(`document.getElementById("news").hidden`) != "false" {
		t.Error("where there is no room for the list nothing tells of the mail")
	}
	b.Get(site.URL + "/").See("mail 2").DontSee("mail 3")
	put(box, 3)
	b.See("mail 3").At("/")
}

// put has n-th mail arrive.
func put(box *mailbox, n int) {
	box.put(guest.Message{To: "ada@example.com", From: "login@localhost", Subject: fmt.Sprint("mail ", n), Text: "text", HTML: "<html><head></head>html</html>"}, time.Now())
}

func TestMailboxKeepsTheLastHundred(t *testing.T) {
	box := newMailbox()
	for n := range 250 {
		put(box, n+1)
	}
	mails := box.all()
	if len(mails) != 100 || mails[0].Subject != "mail 250" || mails[99].Number != 151 {
		t.Errorf("%d mails from %v to %v", len(mails), mails[0], mails[len(mails)-1])
	}
	if w := ask(newReader(box, ""), "/mail/150"); w.Code != http.StatusNotFound {
		t.Errorf("the oldest is still there: %d", w.Code)
	}
}

func TestMailboxAnswersOnThisMachineAlone(t *testing.T) {
	h := newReader(newMailbox(), "http://localhost:8080")
	for host, want := range map[string]int{
		"localhost:9002": 200, "localhost": 200, "127.0.0.1:9002": 200, "[::1]:9002": 200,
		"evil.example:9002": 421, "localhost.evil.example": 421, "192.0.2.1:9002": 421, "": 421,
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%q: %d", host, w.Code)
		}
	}
}

func TestMailIsShownInASandbox(t *testing.T) {
	box := newMailbox()
	box.put(guest.Message{
		To: "ada@example.com", Subject: `<i>"`, Text: `<b> http://localhost/x?a=1&b=2 "`,
		HTML: "<html><head></head><script>alert(1)</script></html>",
	}, time.Now())
	h := newReader(box, "http://localhost:8080")
	for _, path := range []string{"/", "/mail/1", "/mail/1/text", "/nowhere", "/mail/2", "/mail/01", "/mail/2/html"} {
		w := ask(h, path)
		if body := w.Body.String(); strings.Contains(body, "alert(1)") || strings.Contains(body, "<i>") || strings.Contains(body, "<b>\x20") {
			t.Errorf("%s: markup came through: %s", path, body)
		}
	}
	if !strings.Contains(ask(h, "/mail/1/text").Body.String(), `<a href="http://localhost/x?a=1&amp;b=2" target="_blank" rel="noreferrer">`) {
		t.Error("the text has no link")
	}
	w := ask(h, "/mail/1/html")
	policy := w.Header().Get("Content-Security-Policy")
	for _, want := range []string{"sandbox allow-popups allow-popups-to-escape-sandbox;", "default-src 'none';", "frame-ancestors 'self';"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the mail's policy lacks %s", want)
		}
	}
	if !strings.Contains(w.Body.String(), `<head><base target="_blank">`) {
		t.Error("links would open inside of the frame")
	}
}

func TestStreamOfTheMailboxBeginsWithTheLastNumber(t *testing.T) {
	box := newMailbox()
	site := httptest.NewServer(newReader(box, ""))
	t.Cleanup(site.Close) // after the browser or the stream has left
	put(box, 1)
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(stop)
	req, _ := http.NewRequestWithContext(ctx, "GET", site.URL+"/events", nil)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	lines := bufio.NewScanner(res.Body)
	for _, want := range []string{"data: 1", "", "data: 2"} {
		if lines.Scan(); lines.Text() != want {
			t.Fatalf("%q, want %q", lines.Text(), want)
		}
		if want == "" {
			put(box, 2)
		}
	}
}

func TestMailerTakesNoWords(t *testing.T) {
	for written, right := range map[string]bool{
		"demo_mailbox": true, "demo_mailbox x": false, "demo_mailbox {\n\ta\n}": false,
	} {
		if err := new(mailer).UnmarshalCaddyfile(caddyfile.NewTestDispenser(written)); (err == nil) != right {
			t.Errorf("%q: %v", written, err)
		}
	}
}
