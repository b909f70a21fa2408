package console

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-login/caddy-login/module/guest"
)

func TestMailIsPrintedForAPersonToRead(t *testing.T) {
	var out bytes.Buffer
	m := &Mailer{out: &out}
	err := m.Send(t.Context(), guest.Message{
		To: "ada@example.com", Subject: "123456 is your code",
		Text: "Your code is 123456.\n\n@app.example.com #123456\n", HTML: "<b>123456</b>",
	})
	if err != nil {
		t.Fatal(err)
	}
	const want = `
──── mail (not sent) ────
To: ada@example.com
Subject: 123456 is your code

Your code is 123456.

@app.example.com #123456
─────────────────────────
`
	if out.String() != want {
		t.Errorf("printed:\n%s", &out)
	}
}

func TestMailCannotCommandTheTerminal(t *testing.T) {
	var out bytes.Buffer
	m := &Mailer{out: &out}
	spoilt := "a\x1b[2J\r\x07\u009b31m\u202eb"
	if err := m.Send(t.Context(), guest.Message{To: spoilt, Subject: spoilt, Text: spoilt}); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(out.String(), "\x1b\r\x07\u009b\u202e") || strings.Count(out.String(), "a[2J31mb") != 3 {
		t.Errorf("printed: %q", &out)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestMailThatCannotBePrintedIsAnError(t *testing.T) {
	if err := (&Mailer{out: full{}}).Send(t.Context(), guest.Message{}); err == nil {
		t.Error("no error")
	}
}

func TestEveryStartSaysThatThisIsForDevelopment(t *testing.T) {
	var out bytes.Buffer
	if err := new(Mailer).Open(guest.Env{Log: slog.New(slog.NewTextHandler(&out, nil))}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "level=WARN") || !strings.Contains(out.String(), "for development only") {
		t.Errorf("log: %s", &out)
	}
}

func TestCaddyfileIsReadExactly(t *testing.T) {
	for written, want := range map[string]string{
		"console":                    "",
		"console {\n}":               "",
		"console loud":               "takes no arguments",
		"console {\n\tcolor on\n}":   "unknown option 'color'",
		"console stderr {\n\ta b\n}": "takes no arguments",
	} {
		err := new(Mailer).UnmarshalCaddyfile(caddyfile.NewTestDispenser(written))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: error %v, want %q", written, err, want)
		}
	}
}

func TestModuleIsRegistered(t *testing.T) {
	info, err := caddy.GetModule("login.mailers.console")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := info.New().(guest.Mailer); !ok {
		t.Errorf("%T is no mailer", info.New())
	}
}
