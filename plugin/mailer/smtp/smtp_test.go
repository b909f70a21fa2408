package smtp

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/logintest/inbox"
	"github.com/caddy-login/caddy-login/module/mail"
)

// soon bounds what hangs.
const soon = 30 * time.Second

var sentAt = time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC)

// message is a mail as the house writes them.
func message() guest.Message {
	return guest.Message{
		To:      "ada@example.com",
		From:    "Beispiel für alle <login@app.example.com>",
		Subject: "123456 ist dein Code für app.example.com",
		Text:    "Dein Code für app.example.com: 123456\n\nOder öffne https://app.example.com/.login/link?c=" + strings.Repeat("k", 90) + "\n\nGib ihn nie weiter.\n.\n\n@app.example.com #123456\n",
		HTML:    "<!doctype html><p>Dein Code für app.example.com: <b>123456</b></p>" + strings.Repeat("<p>lang", 400),
	}
}

// mailer is one that trusts the inbox, open.
func mailer(t *testing.T, box *inbox.Inbox, adjust func(*Mailer)) *Mailer {
	t.Helper()
	m := &Mailer{Address: box.Addr, TLSCA: "{file." + box.CAFile + "}", Timeout: caddy.Duration(soon)}
	if adjust != nil {
		adjust(m)
	}
	if err := m.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	if err := m.Open(guest.Env{Now: func() time.Time { return sentAt }, Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Cleanup() })
	return m
}

func send(t *testing.T, m *Mailer) {
	t.Helper()
	if err := m.Send(t.Context(), message()); err != nil {
		t.Fatal(err)
	}
}

func TestMailArrivesAsItWasWritten(t *testing.T) {
	box := inbox.New(t)
	send(t, mailer(t, box, nil))
	got, want := box.Next(soon), message()
	if got.From != "login@app.example.com" || fmt.Sprint(got.To) != "[ada@example.com]" {
		t.Errorf("envelope from %s to %v", got.From, got.To)
	}
	if !got.TLS || got.UTF8 {
		t.Errorf("over TLS: %t, demanding SMTPUTF8: %t", got.TLS, got.UTF8)
	}
	if got.Subject != want.Subject || got.Text != want.Text || got.HTML != want.HTML {
		t.Errorf("subject %q\ntext %q\nHTML %q", got.Subject, got.Text, got.HTML)
	}
	if fmt.Sprint(got.Types) != "[text/plain text/html]" {
		t.Errorf("parts %v", got.Types)
	}
	if got.Code() != "123456" || !strings.HasPrefix(got.Link(), "https://app.example.com/.login/link?c=kkk") {
		t.Errorf("code %s, link %s", got.Code(), got.Link())
	}
}

func TestHeadersAreThoseOfAMachine(t *testing.T) {
	box := inbox.New(t)
	send(t, mailer(t, box, nil))
	header := box.Next(soon).Header
	for name, want := range map[string]string{
		"Auto-Submitted":           "auto-generated",
		"X-Auto-Response-Suppress": "All",
		"Date":                     "Sat, 21 Nov 2026 09:30:00 +0000",
		"To":                       "<ada@example.com>",
		"From":                     "=?utf-8?q?Beispiel_f=C3=BCr_alle?= <login@app.example.com>",
		"Mime-Version":             "1.0",
		"X-Mailer":                 "",
		"User-Agent":               "",
	} {
		if got := header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if id := header.Get("Message-Id"); !strings.HasPrefix(id, "<") || !strings.HasSuffix(id, "@app.example.com>") {
		t.Errorf("Message-ID: %s", id)
	}
}

func TestLinesAreShortAndASCII(t *testing.T) {
	box := inbox.New(t)
	send(t, mailer(t, box, nil))
	raw := box.Next(soon).Raw
	for line := range bytes.Lines(raw) {
		if !bytes.HasSuffix(line, []byte("\r\n")) || bytes.Count(line, []byte("\r")) != 1 || len(line) > 80 {
			t.Errorf("line %q", line)
		}
	}
	if bytes.ContainsFunc(raw, func(r rune) bool { return r > 0x7e || r < ' ' && r != '\r' && r != '\n' }) {
		t.Errorf("not ASCII:\n%s", raw)
	}
}

func TestMailWithoutHTMLIsTextAlone(t *testing.T) {
	box := inbox.New(t)
	msg := message()
	msg.HTML = ""
	if err := mailer(t, box, nil).Send(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	if got := box.Next(soon); fmt.Sprint(got.Types) != "[text/plain]" || got.Text != msg.Text {
		t.Errorf("parts %v, text %q", got.Types, got.Text)
	}
}

func TestSettingsNameTheSender(t *testing.T) {
	box := inbox.New(t)
	send(t, mailer(t, box, func(m *Mailer) { m.From = `"Acme, Inc." <no-reply@acme.example>` }))
	got := box.Next(soon)
	if got.From != "no-reply@acme.example" || got.Header.Get("From") != `"Acme, Inc." <no-reply@acme.example>` {
		t.Errorf("envelope from %s, header %s", got.From, got.Header.Get("From"))
	}
	if !strings.HasSuffix(got.Header.Get("Message-Id"), "@acme.example>") {
		t.Errorf("Message-ID: %s", got.Header.Get("Message-Id"))
	}
}

// A mail that is sent again, as nobody knows whether it came through, must not
// show twice; and what mail servers log must not help to guess its code.
func TestMessageIDIsThatOfTheMessageAndKeyed(t *testing.T) {
	box := inbox.New(t)
	m := mailer(t, box, nil)
	id := func(m *Mailer, msg guest.Message) string {
		if err := m.Send(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
		return box.Next(soon).Header.Get("Message-Id")
	}
	other := message()
	other.Text += "!"
	first := id(m, message())
	if again := id(m, message()); again != first {
		t.Errorf("Message-ID %s, then %s", first, again)
	}
	if id(m, other) == first {
		t.Error("two messages share an ID")
	}
	if id(mailer(t, box, nil), message()) == first {
		t.Error("the ID has no key")
	}
}

func TestWhatCouldBecomeAHeaderOrACommandIsRefused(t *testing.T) {
	box := inbox.New(t)
	m := mailer(t, box, nil)
	for name, spoil := range map[string]func(*guest.Message){
		"line break in To":          func(m *guest.Message) { m.To = "ada@example.com\r\nBcc: eve@example.com" },
		"line feed in To":           func(m *guest.Message) { m.To = "ada@example.com\nBcc: eve@example.com" },
		"parameter in To":           func(m *guest.Message) { m.To = "ada@example.com> NOTIFY=SUCCESS" },
		"brackets in To":            func(m *guest.Message) { m.To = "<ada@example.com>" },
		"two in To":                 func(m *guest.Message) { m.To = "ada@example.com,eve@example.com" },
		"two signs in To":           func(m *guest.Message) { m.To = "ada@example.com@evil.example" },
		"quoted To":                 func(m *guest.Message) { m.To = `"ada@example.com"@evil.example` },
		"source route in To":        func(m *guest.Message) { m.To = "@evil.example:ada@example.com" },
		"Unicode in To":             func(m *guest.Message) { m.To = "àda@example.com" },
		"Unicode sign in To":        func(m *guest.Message) { m.To = "ada＠example.com" },
		"NUL in To":                 func(m *guest.Message) { m.To = "ada\x00@example.com" },
		"no To":                     func(m *guest.Message) { m.To = "" },
		"line break in From":        func(m *guest.Message) { m.From = "login@example.com\r\nBcc: eve@example.com" },
		"line break in From's name": func(m *guest.Message) { m.From = "\"a\r\nBcc: eve@example.com\" <login@example.com>" },
		"no From":                   func(m *guest.Message) { m.From = "" },
		"line break in Subject":     func(m *guest.Message) { m.Subject = "a\r\nBcc: eve@example.com" },
		"return in Subject":         func(m *guest.Message) { m.Subject = "a\rBcc: eve@example.com" },
		"endless Subject":           func(m *guest.Message) { m.Subject = strings.Repeat("a", 2000) },
		"no text":                   func(m *guest.Message) { m.Text = "" },
	} {
		msg := message()
		spoil(&msg)
		err := m.Send(t.Context(), msg)
		if err == nil || errors.Is(err, guest.ErrTemporary) || strings.Contains(err.Error(), "ada") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := box.Connections(); n != 0 {
		t.Errorf("%d connections were opened", n)
	}
}

func TestPasswordIsPresentedAsTheServerWants(t *testing.T) {
	for _, mechanism := range []string{"PLAIN", "LOGIN"} {
		box := inbox.Options{Username: "caddy", Password: "s3cret", Mechanisms: []string{mechanism}}.New(t)
		send(t, mailer(t, box, func(m *Mailer) { m.Username, m.Password = "caddy", "s3cret" }))
		if got := box.Next(soon); got.User != "caddy" {
			t.Errorf("%s: mail came from %q", mechanism, got.User)
		}
	}
}

func TestImplicitTLS(t *testing.T) {
	box := inbox.Options{ImplicitTLS: true, Username: "caddy", Password: "s3cret"}.New(t)
	send(t, mailer(t, box, func(m *Mailer) { m.TLS, m.Username, m.Password = "tls", "caddy", "s3cret" }))
	if got := box.Next(soon); got.User != "caddy" {
		t.Errorf("mail came from %q", got.User)
	}
}

func TestPlaintextOnLoopback(t *testing.T) {
	box := inbox.Options{NoTLS: true}.New(t)
	for _, host := range []string{"localhost", "127.0.0.1"} {
		send(t, mailer(t, box, func(m *Mailer) {
			m.Address, m.TLS, m.TLSCA = net.JoinHostPort(host, strconv.Itoa(box.Port)), "none", ""
		}))
		if got := box.Next(soon); got.TLS {
			t.Error("came over TLS")
		}
	}
}

// fails sends and returns the error, which must be of this kind and hold none
// of what is private.
func fails(t *testing.T, m *Mailer, temporary bool) string {
	t.Helper()
	err := m.Send(t.Context(), message())
	if err == nil {
		t.Fatal("it was sent")
	}
	if errors.Is(err, guest.ErrTemporary) != temporary {
		t.Errorf("temporary: %t, want %t: %v", !temporary, temporary, err)
	}
	for _, private := range []string{"ada@example.com", "123456", "s3cret", "BEGIN"} {
		if strings.Contains(err.Error(), private) {
			t.Errorf("the error tells %s: %v", private, err)
		}
	}
	return err.Error()
}

func want(t *testing.T, got string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(got, part) {
			t.Errorf("error %q, want %q", got, part)
		}
	}
}

// A server that is stripped of STARTTLS by whoever stands in the way gets
// neither password nor mail.
func TestNothingIsSentWithoutTLS(t *testing.T) {
	for name, box := range map[string]*inbox.Inbox{
		"never had it": inbox.Options{NoTLS: true}.New(t),
		"stripped":     inbox.Scripted(t, inbox.Script{inbox.EHLO: "250-inbox.test\r\n250 AUTH PLAIN LOGIN"}),
		"no EHLO":      inbox.Scripted(t, inbox.Script{inbox.EHLO: "502 5.5.1 what?"}),
	} {
		m := mailer(t, box, func(m *Mailer) { m.Username, m.Password = "caddy", "s3cret" })
		want(t, fails(t, m, false), "STARTTLS", "tls none")
		if box.Reached(inbox.AUTH)+box.Reached(inbox.MAIL) > 0 {
			t.Errorf("%s: it went on in clear text", name)
		}
	}
}

func TestRefusedSTARTTLSIsTheEnd(t *testing.T) {
	box := inbox.Scripted(t, inbox.Script{inbox.STARTTLS: "454 4.7.0 not now"})
	want(t, fails(t, mailer(t, box, nil), true), "starting TLS: the server answered 454 4.7.0")
	box.Say(inbox.STARTTLS, "501 5.5.1 never")
	want(t, fails(t, mailer(t, box, nil), false), "501 5.5.1")
	if box.Reached(inbox.MAIL) > 0 {
		t.Error("it went on in clear text")
	}
}

// What is said in clear text after the go-ahead must not be taken for said in
// TLS (as in CVE-2011-0411): here, that the password is wanted in LOGIN.
func TestPlaintextAfterSTARTTLSIsNotBelieved(t *testing.T) {
	box := inbox.Scripted(t, inbox.Script{
		inbox.STARTTLS: "220 2.0.0 go ahead\r\n250-evil.example\r\n250 XEVIL\r\n250 2.1.0 ok\r\n250 2.1.5 ok",
	})
	m := mailer(t, box, nil)
	c, err := m.dial(t.Context(), "app.example.com")
	if err != nil {
		t.Fatal(err)
	}
	defer c.quit()
	if evil, _ := c.client.Extension("XEVIL"); evil {
		t.Error("an extension from before TLS is believed")
	}
	send(t, m)
	if got := box.Next(soon); !got.TLS || fmt.Sprint(got.To) != "[ada@example.com]" {
		t.Errorf("mail to %v, over TLS: %t", got.To, got.TLS)
	}
}

func TestWrongCertificateIsRefused(t *testing.T) {
	for name, row := range map[string]struct {
		box    *inbox.Inbox
		adjust func(*Mailer)
		cure   string
	}{
		"of another host":          {inbox.Options{WrongName: true}.New(t), nil, "not"},
		"of another host, at once": {inbox.Options{WrongName: true, ImplicitTLS: true}.New(t), func(m *Mailer) { m.TLS = "tls" }, "not"},
		"by nobody known":          {inbox.New(t), func(m *Mailer) { m.TLSCA = "" }, "unknown authority"},
	} {
		got := fails(t, mailer(t, row.box, row.adjust), false)
		want(t, got, "starting TLS: not trusting its certificate", row.cure, "tls_ca")
		if row.box.Reached(inbox.MAIL) > 0 {
			t.Errorf("%s: it went on", name)
		}
	}
}

func TestInsecureSkipVerifyTakesAnyCertificateAndSaysSo(t *testing.T) {
	box := inbox.Options{WrongName: true}.New(t)
	m := mailer(t, box, func(m *Mailer) { m.TLSCA, m.InsecureSkipVerify = "", true })
	send(t, m)
	if !box.Next(soon).TLS {
		t.Error("came in clear text")
	}
	var out bytes.Buffer
	m.InsecurePlaintext = true
	if err := m.Open(guest.Env{Now: time.Now, Log: slog.New(slog.NewTextHandler(&out, nil))}); err != nil {
		t.Fatal(err)
	}
	want(t, out.String(), "level=WARN msg=\"insecure_skip_verify: ", "level=WARN msg=\"insecure_plaintext: ")
}

func TestWrongPasswordIsRefused(t *testing.T) {
	for _, mechanism := range []string{"PLAIN", "LOGIN"} {
		box := inbox.Options{Username: "caddy", Password: "right", Mechanisms: []string{mechanism}}.New(t)
		m := mailer(t, box, func(m *Mailer) { m.Username, m.Password = "caddy", "s3cret" })
		want(t, fails(t, m, false), "authenticating: the server answered 535 5.7.8")
	}
	box := inbox.New(t)
	m := mailer(t, box, func(m *Mailer) { m.Username, m.Password = "caddy", "s3cret" })
	want(t, fails(t, m, false), "takes no password in a way known here")
}

func TestServerThatTakesSCRAMAloneIsAnswered(t *testing.T) {
	box := inbox.Scripted(t, inbox.Script{
		inbox.EHLO: "250-inbox.test\r\n250-STARTTLS\r\n250 AUTH GSSAPI SCRAM-SHA-256",
		inbox.AUTH: "535 5.7.8 no",
	})
	m := mailer(t, box, func(m *Mailer) { m.Username, m.Password = "caddy", "s3cret" })
	want(t, fails(t, m, false), "authenticating: the server answered 535 5.7.8")
	if box.Reached(inbox.AUTH) != 1 || box.Reached(inbox.MAIL) > 0 {
		t.Errorf("AUTH %d times, MAIL %d times", box.Reached(inbox.AUTH), box.Reached(inbox.MAIL))
	}
}

// What a server writes beside its codes may quote the mail.
func TestAnswersOfTheServerAreTold(t *testing.T) {
	for stage, doing := range map[inbox.Stage]string{
		inbox.Greeting: "being greeted", inbox.AUTH: "authenticating", inbox.MAIL: "naming the sender",
		inbox.RCPT: "naming the recipient a…@example.com", inbox.DATA: "announcing the mail",
		inbox.End: "waiting for the mail to be accepted",
	} {
		box := inbox.Scripted(t, nil)
		m := mailer(t, box, func(m *Mailer) { m.Username, m.Password = "caddy", "s3cret" })
		box.Say(stage, "451-4.7.1 later, ada@example.com\r\n451 4.7.1 123456 s3cret")
		want(t, fails(t, m, true), doing+": the server answered 451 4.7.1")
		box.Say(stage, "554-5.7.1 never, ada@example.com\r\n554 5.7.1 123456 s3cret")
		want(t, fails(t, m, false), doing+": the server answered 554 5.7.1")
		box.Say(stage, "")
		send(t, m)
		if box.Next(soon).Code() != "123456" || box.Waiting() != 0 {
			t.Errorf("%s: the mail that was accepted is not the one", stage)
		}
	}
}

func TestTroubleOfTheNetworkMayPass(t *testing.T) {
	for _, stage := range []inbox.Stage{inbox.Greeting, inbox.EHLO, inbox.STARTTLS, inbox.MAIL, inbox.RCPT, inbox.DATA, inbox.End} {
		box := inbox.Scripted(t, inbox.Script{stage: inbox.HangUp})
		m := mailer(t, box, nil)
		fails(t, m, true)
		if n := box.Reached(stage); n != 1 {
			t.Errorf("%s: tried %d times", stage, n)
		}
	}
	// Nobody is there; a port that was free a moment ago may be a neighbour's.
	nobodys := func(m *Mailer) { m.Address = "127.0.0.1:1" }
	want(t, fails(t, mailer(t, inbox.New(t), nobodys), true), "connecting")
}

func TestSilentServerIsLeftInTime(t *testing.T) {
	for _, stage := range []inbox.Stage{inbox.Greeting, inbox.EHLO, inbox.STARTTLS, inbox.MAIL, inbox.RCPT, inbox.DATA, inbox.End} {
		t.Run(string(stage), func(t *testing.T) {
			t.Parallel()
			box := inbox.Scripted(t, inbox.Script{stage: inbox.Silence})
			m := mailer(t, box, func(m *Mailer) { m.Timeout = caddy.Duration(300 * time.Millisecond) })
			begun := time.Now()
			want(t, fails(t, m, true), "no answer in time")
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

func TestSendEndsWithItsContext(t *testing.T) {
	box := inbox.Scripted(t, inbox.Script{inbox.RCPT: inbox.Silence})
	m := mailer(t, box, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := m.Send(ctx, message()); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, guest.ErrTemporary) {
		t.Errorf("error %v", err)
	}
}

func TestServerThatTalksWithoutEndIsLeft(t *testing.T) {
	lines := strings.Repeat("250-more\r\n", 64<<10)
	for name, script := range map[string]inbox.Script{
		"greeting":  {inbox.Greeting: inbox.Endless},
		"EHLO":      {inbox.EHLO: inbox.Endless},
		"lines":     {inbox.EHLO: lines + "250 end"},
		"recipient": {inbox.RCPT: inbox.Endless},
		"end":       {inbox.End: inbox.Endless},
	} {
		m := mailer(t, inbox.Scripted(t, script), nil)
		if got := fails(t, m, true); !strings.Contains(got, "talks without end") && !strings.Contains(got, "makes no sense") {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestServerOfAnotherKindIsLeft(t *testing.T) {
	for _, greeting := range []string{"HTTP/1.1 400 Bad Request", "", "\x00\xff\xfe", "999 hello", "2", "-1 -1", "SSH-2.0-OpenSSH_9.9"} {
		box := inbox.Scripted(t, inbox.Script{inbox.Greeting: greeting + "\r\n"})
		fails(t, mailer(t, box, func(m *Mailer) { m.Timeout = caddy.Duration(200 * time.Millisecond) }), true)
		if box.Reached(inbox.EHLO) > 0 {
			t.Errorf("%q was taken for a greeting", greeting)
		}
	}
	plain := inbox.Options{NoTLS: true}.New(t)
	want(t, fails(t, mailer(t, plain, func(m *Mailer) { m.TLS = "tls" }), true), "starting TLS", "another kind of port")
}

func TestConnectionIsUsedAgain(t *testing.T) {
	box := inbox.New(t)
	m := mailer(t, box, nil)
	for range 5 {
		send(t, m)
		box.Next(soon)
	}
	if n := box.Connections(); n != 1 {
		t.Errorf("%d connections for 5 mails, one after the other", n)
	}
}

func TestConnectionIsUsedAgainAfterARefusalOnlyAnew(t *testing.T) {
	box := inbox.New(t)
	m := mailer(t, box, nil)
	send(t, m)
	box.Say(inbox.RCPT, "550 5.1.1 nobody")
	fails(t, m, false)
	if n := box.Reached(inbox.RCPT); n != 2 {
		t.Errorf("a refused recipient was named %d times, want once", n-1)
	}
	box.Say(inbox.RCPT, "")
	send(t, m)
	if box.Next(soon); box.Next(soon).Code() != "123456" || box.Waiting() != 0 {
		t.Error("the mails are not the two that were accepted")
	}
}

func TestDeadConnectionIsReplacedOnce(t *testing.T) {
	for _, goodbye := range []string{inbox.HangUp, "421 4.4.2 idle for too long"} {
		box := inbox.Scripted(t, nil)
		m := mailer(t, box, nil)
		send(t, m)
		box.Next(soon)
		box.Say(inbox.MAIL, goodbye)
		fails(t, m, true)
		if n := box.Reached(inbox.MAIL); n != 3 {
			t.Errorf("%q: MAIL was tried %d times, want on the old and on a new connection", goodbye, n-1)
		}
		box.Say(inbox.MAIL, "")
		send(t, m)
		box.Next(soon)
	}
}

func TestConnectionThatDiedUnnoticedCostsNoMail(t *testing.T) {
	box := inbox.Scripted(t, nil)
	m := mailer(t, box, nil)
	send(t, m)
	box.Next(soon)
	m.pool.mu.Lock()
	_ = m.pool.kept[0].conn.Close()
	m.pool.mu.Unlock()
	send(t, m)
	box.Next(soon)
	if n := box.Connections(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// The server may have accepted a mail when its answer is lost: only the house
// may decide to send it again.
func TestMailThatMayHaveBeenAcceptedIsNotSentTwice(t *testing.T) {
	box := inbox.Scripted(t, nil)
	m := mailer(t, box, nil)
	send(t, m)
	box.Next(soon)
	for _, end := range []string{inbox.HangUp, "421 4.3.2 shutting down"} {
		before := box.Reached(inbox.End)
		box.Say(inbox.End, end)
		fails(t, m, true)
		if n := box.Reached(inbox.End) - before; n != 1 {
			t.Errorf("%q: sent %d times", end, n)
		}
		box.Say(inbox.End, "")
		send(t, m)
		box.Next(soon)
	}
}

func TestConnectionsAreFew(t *testing.T) {
	box := inbox.New(t)
	m := mailer(t, box, nil)
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			if err := m.Send(t.Context(), message()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for range 64 {
		box.Next(soon)
	}
	if n := box.Connections(); n > mostConnections+64/mostMails+1 || box.Waiting() > 0 {
		t.Errorf("%d connections for 64 mails, %d mails too many", n, box.Waiting())
	}
}

func TestConnectionIsLeftAfterSomeMails(t *testing.T) {
	box := inbox.New(t)
	m := mailer(t, box, nil)
	for range mostMails + 1 {
		send(t, m)
		box.Next(soon)
	}
	if n := box.Connections(); n != 2 {
		t.Errorf("%d connections for %d mails", n, mostMails+1)
	}
}

func TestIdleConnectionIsClosed(t *testing.T) {
	box := inbox.Scripted(t, nil)
	m := mailer(t, box, nil)
	m.pool.idle = time.Millisecond
	send(t, m)
	box.Next(soon)
	gone(t, m)
	m.pool.idle = time.Hour
	send(t, m)
	if n := box.Connections(); n != 2 {
		t.Errorf("%d connections", n)
	}
	if err := m.Cleanup(); err != nil {
		t.Fatal(err)
	}
	gone(t, m)
	send(t, m) // a mail under way during a reload
	gone(t, m)
}

// gone waits until no connection is kept.
func gone(t *testing.T, m *Mailer) {
	t.Helper()
	until(t, "no idle connection is open", func() bool {
		m.pool.mu.Lock()
		defer m.pool.mu.Unlock()
		return len(m.pool.kept) == 0
	})
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.After(soon); !is(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func TestMailInTheQueueArrivesOnceTheServerIsWell(t *testing.T) {
	box := inbox.Scripted(t, inbox.Script{inbox.RCPT: "450 4.2.1 greylisted"})
	q := mail.NewQueue(mailer(t, box, nil).Send, time.Now, slog.New(slog.DiscardHandler))
	became := make(chan mail.Outcome, 1)
	if !q.Enqueue(mail.Entry{Message: message(), Expires: time.Now().Add(time.Minute), OnDone: func(o mail.Outcome) { became <- o }}) {
		t.Fatal("no room")
	}
	until(t, "the mail was refused", func() bool { return box.Reached(inbox.RCPT) > 0 })
	box.Say(inbox.RCPT, "")
	if o := <-became; o != mail.Sent || box.Next(soon).Code() != "123456" || box.Waiting() > 0 {
		t.Errorf("outcome %s", o)
	}
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	q.Close(ctx)
}

// A name below localhost may lead anywhere: some resolvers ask the network.
func TestClearTextStaysOnThisMachine(t *testing.T) {
	m := &Mailer{TLS: "none"}
	for ip, want := range map[string]bool{"127.0.0.1": true, "::1": true, "127.9.9.9": true, "192.0.2.1": false, "0.0.0.0": false} {
		err := m.checkPeer(peer{ip: net.ParseIP(ip)})
		if (err == nil) != want || errors.Is(err, guest.ErrTemporary) {
			t.Errorf("%s: error %v", ip, err)
		}
	}
	m.InsecurePlaintext = true
	if err := m.checkPeer(peer{ip: net.IPv4(192, 0, 2, 1)}); err != nil {
		t.Errorf("insecure_plaintext: %v", err)
	}
}

// peer is a connection to some machine.
type peer struct {
	net.Conn
	ip net.IP
}

func (p peer) RemoteAddr() net.Addr { return &net.TCPAddr{IP: p.ip, Port: 25} }

func TestConnectionWhoseTimeEndedIsNotKept(t *testing.T) {
	ours, theirs := net.Pipe()
	defer func() { _, _ = ours.Close(), theirs.Close() }()
	c := &conversation{conn: &metered{Conn: ours}}
	ctx, cancel := context.WithCancel(t.Context())
	stop := c.begin(ctx)
	cancel()
	if stop(); !c.broken {
		t.Error("it is taken for a sound one")
	}
}

func TestUnopenedMailerSendsNothing(t *testing.T) {
	if err := new(Mailer).Send(t.Context(), message()); err == nil {
		t.Error("it was sent")
	}
}

func TestProvisionTouchesNoNetwork(t *testing.T) {
	m := mailer(t, inbox.New(t), func(m *Mailer) { m.Address = "192.0.2.1:587" })
	if len(m.pool.kept) != 0 || m.tls.MinVersion != tls.VersionTLS12 || m.tls.ServerName != "192.0.2.1" {
		t.Errorf("%d connections, TLS %+v", len(m.pool.kept), m.tls)
	}
}

// A mail for whoever wants to see one: set the variable to a file.
func TestMailIsWorthReading(t *testing.T) {
	box := inbox.New(t)
	send(t, mailer(t, box, nil))
	raw := box.Next(soon).Raw
	if !bytes.Contains(raw, []byte("Content-Transfer-Encoding: quoted-printable\r\nContent-Type: text/plain; charset=UTF-8\r\n")) {
		t.Errorf("mail:\n%s", raw)
	}
	if path := os.Getenv("CADDY_LOGIN_SHOW_MAIL"); path != "" {
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
