package inbox_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/smtp"
	"net/textproto"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest/inbox"
)

const soon = 10 * time.Second

const mail = "From: <login@app.example.com>\r\nTo: <ada@example.com>\r\nSubject: =?utf-8?q?Code_f=C3=BCr_dich?=\r\n" +
	"Content-Type: multipart/alternative; boundary=b\r\n\r\n" +
	"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" +
	"f=C3=BCr 2026: https://app.example.com/.login/link?c=3Dx\r\n\r\n@app.example.com #123456\r\n\r\n" +
	"--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<b>123456</b>\r\n--b--\r\n"

// The client of these tests is the standard library's.

func dial(t *testing.T, box *inbox.Inbox) *smtp.Client {
	t.Helper()
	c, err := smtp.Dial(box.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func send(c *smtp.Client) error {
	if err := c.Mail("login@app.example.com"); err != nil {
		return err
	}
	if err := c.Rcpt("ada@example.com"); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, mail); err != nil {
		return err
	}
	return w.Close()
}

func TestMailIsKeptAsItCame(t *testing.T) {
	for name, box := range map[string]*inbox.Inbox{"server": inbox.New(t), "script": inbox.Scripted(t, nil)} {
		c := dial(t, box)
		if err := c.StartTLS(&tls.Config{RootCAs: box.Roots, ServerName: box.Host}); err != nil {
			t.Fatal(err)
		}
		if err := send(c); err != nil {
			t.Fatal(err)
		}
		m := box.Next(soon)
		if m.From != "login@app.example.com" || strings.Join(m.To, " ") != "ada@example.com" || !m.TLS || string(m.Raw) != mail {
			t.Errorf("%s: envelope from %s to %v, over TLS: %t, mail:\n%s", name, m.From, m.To, m.TLS, m.Raw)
		}
		if m.Subject != "Code für dich" || m.HTML != "<b>123456</b>" || !strings.HasPrefix(m.Text, "für 2026:") || m.Header.Get("To") != "<ada@example.com>" {
			t.Errorf("%s: subject %q, text %q, HTML %q", name, m.Subject, m.Text, m.HTML)
		}
		if m.Code() != "123456" || m.Link() != "https://app.example.com/.login/link?c=x" {
			t.Errorf("%s: code %s, link %s", name, m.Code(), m.Link())
		}
		if box.Waiting() != 0 || box.Connections() != 1 || box.Reached(inbox.End) != 1 {
			t.Errorf("%s: %d mails, %d connections", name, box.Waiting(), box.Connections())
		}
	}
}

func TestCodeAndLinkAreReadOffTheNextMail(t *testing.T) {
	box := inbox.New(t)
	c := dial(t, box)
	for range 4 {
		if err := send(c); err != nil {
			t.Fatal(err)
		}
	}
	if box.Code() != "123456" || !strings.HasSuffix(box.Link(), "?c=x") || !strings.Contains(box.Text(), "2026") || box.HTML() == "" {
		t.Error("not what the mail says")
	}
}

func TestCertificateIsInAFileToo(t *testing.T) {
	box := inbox.New(t)
	text, err := os.ReadFile(box.CAFile)
	if err != nil || !strings.HasPrefix(string(text), "-----BEGIN CERTIFICATE-----") {
		t.Errorf("%s, error %v", text, err)
	}
}

func TestWrongNameIsNoGoodCertificate(t *testing.T) {
	box := inbox.Options{WrongName: true}.New(t)
	err := dial(t, box).StartTLS(&tls.Config{RootCAs: box.Roots, ServerName: box.Host})
	var certificate *tls.CertificateVerificationError
	if !errors.As(err, &certificate) {
		t.Errorf("error %v", err)
	}
}

func TestPasswordIsDemanded(t *testing.T) {
	box := inbox.Options{Username: "caddy", Password: "right"}.New(t)
	open := func(password string) (*smtp.Client, error) {
		c := dial(t, box)
		if err := c.StartTLS(&tls.Config{RootCAs: box.Roots, ServerName: box.Host}); err != nil {
			t.Fatal(err)
		}
		return c, c.Auth(smtp.PlainAuth("", "caddy", password, box.Host))
	}
	if err := send(dial(t, box)); err == nil {
		t.Error("mail was taken from a stranger")
	}
	if _, err := open("wrong"); err == nil {
		t.Error("a wrong password was taken")
	}
	c, err := open("right")
	if err != nil {
		t.Fatal(err)
	}
	if err := send(c); err != nil || box.Next(soon).User != "caddy" {
		t.Errorf("error %v", err)
	}
}

func TestServerSaysWhatItIsTold(t *testing.T) {
	script := inbox.Scripted(t, nil)
	for stage, boxes := range map[inbox.Stage][]*inbox.Inbox{
		inbox.MAIL: {inbox.New(t), script}, inbox.RCPT: {inbox.New(t), script}, inbox.End: {inbox.New(t), script},
		inbox.DATA: {script},
	} {
		for _, box := range boxes {
			box.Say(stage, "450 4.2.0 later")
			var said *textproto.Error
			if err := send(dial(t, box)); !errors.As(err, &said) || said.Code != 450 {
				t.Errorf("%s: error %v", stage, err)
			}
			box.Say(stage, inbox.HangUp)
			if err := send(dial(t, box)); err == nil || errors.As(err, new(*textproto.Error)) {
				t.Errorf("%s, hanging up: error %v", stage, err)
			}
			box.Say(stage, "")
			if err := send(dial(t, box)); err != nil || box.Next(soon).Code() != "123456" || box.Waiting() > 0 {
				t.Errorf("%s, well again: error %v", stage, err)
			}
		}
	}
}

func TestSilenceLastsUntilTheTestEnds(t *testing.T) {
	begun := time.Now()
	t.Run("silence", func(t *testing.T) {
		box := inbox.Scripted(t, inbox.Script{inbox.Greeting: inbox.Silence})
		conn, err := net.Dial("tcp", box.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if n, err := conn.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("it said %d bytes, error %v", n, err)
		}
	})
	if took := time.Since(begun); took > soon {
		t.Errorf("the server ended after %s", took)
	}
}

// Who still talks to a server as its test ends is cut off, and waited for: what
// comes later would be nobody's.
func TestServersEndInTheMiddleOfMails(t *testing.T) {
	kinds := map[string]func(*testing.T) *inbox.Inbox{
		"server":   func(t *testing.T) *inbox.Inbox { return inbox.New(t) },
		"implicit": func(t *testing.T) *inbox.Inbox { return inbox.Options{ImplicitTLS: true}.New(t) },
		"script":   func(t *testing.T) *inbox.Inbox { return inbox.Scripted(t, nil) },
	}
	for name, open := range kinds {
		for range 20 {
			var box *inbox.Inbox
			var clients sync.WaitGroup
			t.Run(name, func(t *testing.T) {
				box = open(t)
				for range 4 {
					clients.Go(func() {
						for mailTo(box, name == "implicit") == nil {
						}
					})
				}
				for range 6 { // so that others are under way
					box.Next(soon)
				}
			})
			reached := box.Reached(inbox.EHLO) + box.Reached(inbox.End)
			clients.Wait()
			if now := box.Reached(inbox.EHLO) + box.Reached(inbox.End); now != reached {
				t.Errorf("%s: %d commands were answered after the end", name, now-reached)
			}
		}
	}
}

func mailTo(box *inbox.Inbox, implicit bool) error {
	conn, err := net.Dial("tcp", box.Addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	trusted := &tls.Config{RootCAs: box.Roots, ServerName: box.Host}
	if implicit {
		conn = tls.Client(conn, trusted)
	}
	c, err := smtp.NewClient(conn, box.Host)
	if err != nil {
		return err
	}
	if !implicit {
		if err := c.StartTLS(trusted); err != nil {
			return err
		}
	}
	return send(c)
}
