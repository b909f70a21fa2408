// Package console shows mail instead of sending it, for development: whoever
// reads the terminal can sign in as anyone.
package console

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-login/caddy-login/module/guest"
)

func init() {
	caddy.RegisterModule(new(Mailer))
}

// Mailer writes the text of each mail to standard error, codes and all. It is
// for development alone, and says so at every start.
type Mailer struct {
	out io.Writer // standard error where it is nil
}

// CaddyModule is the module's entry in Caddy's register.
func (*Mailer) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "login.mailers.console",
		New: func() caddy.Module { return new(Mailer) },
	}
}

// Open warns.
func (*Mailer) Open(env guest.Env) error {
	env.Log.Warn("mail console: mails are printed here instead of being sent, so whoever reads this can sign in as anyone: for development only")
	return nil
}

// Send prints a message in one write. Characters that could command a terminal
// are left out.
func (m *Mailer) Send(_ context.Context, msg guest.Message) error {
	out := m.out
	if out == nil {
		out = os.Stderr
	}
	var page strings.Builder
	fmt.Fprintf(&page, "\n──── mail (not sent) ────\nTo: %s\nSubject: %s\n\n%s\n─────────────────────────\n",
		printable(msg.To), printable(msg.Subject), strings.TrimSpace(printable(msg.Text)))
	if _, err := io.WriteString(out, page.String()); err != nil {
		return fmt.Errorf("printing mail: %w", err)
	}
	return nil
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			return -1
		}
		return r
	}, s)
}

// UnmarshalCaddyfile reads
//
//	console
func (*Mailer) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the name
	if d.NextArg() {
		return d.Err("console takes no arguments: write mail console")
	}
	if d.NextBlock(d.Nesting()) {
		return d.Errf("unknown option '%s' (console has none): write mail console", d.Val())
	}
	return nil
}

var (
	_ caddy.Module          = (*Mailer)(nil)
	_ caddyfile.Unmarshaler = (*Mailer)(nil)
	_ guest.Mailer          = (*Mailer)(nil)
)
