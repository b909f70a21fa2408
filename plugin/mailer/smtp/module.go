// Package smtp sends mail through the operator's own mail server (RFC 5321).
//
// Nothing goes out in clear text but to this machine itself, or where the
// operator insists. Signing with DKIM, queues across restarts and bounces are
// that server's business.
package smtp

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-login/caddy-login/module/guest"
)

func init() {
	caddy.RegisterModule(new(Mailer))
}

// Mailer sends mail through one server. It keeps a few connections open while
// there is something to send. The network is first touched by a mail, never at
// start: a dead mail server stops nobody's Caddy.
//
// All strings but `tls` may hold placeholders, such as {env.SMTP_PASSWORD} and
// {file./run/secrets/smtp}.
type Mailer struct {
	// The mail server, as host:port: usually port 587 (STARTTLS) or 465 (TLS).
	Address string `json:"address"`

	// The name to sign in with at the server. Default: none, for a server that
	// knows this machine by its address.
	Username string `json:"username,omitempty"`

	// The password that goes with it. It is sent over TLS alone. Write a
	// placeholder to keep it out of the configuration.
	Password guest.Secret `json:"password,omitempty"`

	// The sender, as login@example.com or Example <login@example.com>. The
	// server must be allowed to send for its domain. Default: login@ and the
	// site's host.
	From string `json:"from,omitempty"`

	// How the connection is encrypted: `starttls` (from the second line on, or
	// not at all: a server that does not offer it gets no mail), `tls` (from the
	// first byte), `none` (only to this machine). Default: `tls` on port 465,
	// else `starttls`.
	TLS string `json:"tls,omitempty"`

	// The authorities that may vouch for the server's certificate, as PEM, in
	// place of those that this machine trusts. Usually {file./path/to/ca.pem}.
	TLSCA string `json:"tls_ca,omitempty"`

	// How long one mail may take, connecting included, for which there are 10s
	// at most. Default: 30s. Longest: 1m.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// Allow `tls none` to another machine. Whoever listens on the way can then
	// sign in as anyone, with the codes they read.
	InsecurePlaintext bool `json:"insecure_plaintext,omitempty"`

	// Take any certificate for the server's. Whoever stands in the way can then
	// read the password and all codes.
	InsecureSkipVerify bool `json:"insecure_skip_verify,omitempty"`

	host  string
	tls   *tls.Config
	idKey []byte // of message IDs; see messageID
	pool  *pool
	now   func() time.Time
	log   *slog.Logger
}

// CaddyModule is the module's entry in Caddy's register.
func (*Mailer) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "login.mailers.smtp",
		New: func() caddy.Module { return new(Mailer) },
	}
}

// Provision replaces placeholders and checks the settings. It touches no
// network.
func (m *Mailer) Provision(caddy.Context) error {
	if err := m.resolve(); err != nil {
		return fmt.Errorf("mail smtp: %w", err)
	}
	if err := m.check(func(string) bool { return true }); err != nil {
		return fmt.Errorf("mail smtp: %w", err)
	}
	m.setDefaults()
	config, err := m.tlsConfig()
	if err != nil {
		return fmt.Errorf("mail smtp: %w", err)
	}
	m.tls, m.pool = config, newPool(m.dial)
	m.idKey = make([]byte, 32)
	_, _ = rand.Read(m.idKey) // it never fails
	return nil
}

// Open takes the clock and the log, and tells what is insecure here.
func (m *Mailer) Open(env guest.Env) error {
	m.now, m.log = env.Now, env.Log
	if m.InsecurePlaintext {
		m.log.Warn("insecure_plaintext: mail goes to its server in clear text, and whoever listens can sign in as anyone", "server", m.Address)
	}
	if m.InsecureSkipVerify {
		m.log.Warn("insecure_skip_verify: any certificate is taken for the mail server's, and whoever stands in the way can sign in as anyone", "server", m.Address)
	}
	return nil
}

// Send hands one message to the server, within Timeout. It wraps
// guest.ErrTemporary for answers 4xx (RFC 5321 section 4.2.1) and for trouble
// of the network, also after the whole mail was sent: then nobody knows
// whether it was accepted, and none at all is worse than two (RFC 1047). All
// attempts at one message have the same Message-ID, so that a mailbox can show
// it once.
// Of what the server says only the code is in an error: the rest may quote the
// mail.
func (m *Mailer) Send(ctx context.Context, msg guest.Message) error {
	if m.now == nil {
		return errors.New("sending mail: the mailer is not open")
	}
	l, err := m.compose(msg)
	if err != nil {
		return fmt.Errorf("writing mail: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(m.Timeout))
	defer cancel()
	if err := m.pool.deliver(ctx, l); err != nil {
		return fmt.Errorf("sending mail by %s: %w", m.Address, err)
	}
	return nil
}

// Cleanup closes what is open and idle. A mail under way goes on.
func (m *Mailer) Cleanup() error {
	if m.pool != nil {
		m.pool.close()
	}
	return nil
}

var (
	_ caddy.Module       = (*Mailer)(nil)
	_ caddy.Provisioner  = (*Mailer)(nil)
	_ caddy.CleanerUpper = (*Mailer)(nil)
	_ guest.Mailer       = (*Mailer)(nil)
)
