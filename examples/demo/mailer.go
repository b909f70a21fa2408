package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-login/caddy-login/module/guest"
)

func init() { caddy.RegisterModule(new(mailer)) }

// letters is the mailbox that mailers put their mail into. Caddy makes its
// modules by itself, and there is one Caddy in a process.
var letters atomic.Pointer[mailbox]

// mailer hands mail over in memory instead of sending it, as `mail demo_mailbox`
// in the Caddyfile. There is no server that anything else could send to.
type mailer struct {
	now func() time.Time
}

// CaddyModule is the module's entry in Caddy's register.
func (*mailer) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "login.mailers.demo_mailbox", New: func() caddy.Module { return new(mailer) }}
}

// UnmarshalCaddyfile reads
//
//	demo_mailbox
func (*mailer) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the name
	if d.NextArg() || d.NextBlock(d.Nesting()) {
		return d.Err("demo_mailbox takes nothing: write mail demo_mailbox")
	}
	return nil
}

// Open takes the clock.
func (m *mailer) Open(env guest.Env) error {
	m.now = env.Now
	return nil
}

// Send delivers at once.
func (m *mailer) Send(_ context.Context, msg guest.Message) error {
	box := letters.Load()
	if box == nil {
		return errors.New("the demo has no mailbox")
	}
	box.put(msg, m.now())
	return nil
}

var (
	_ caddy.Module          = (*mailer)(nil)
	_ caddyfile.Unmarshaler = (*mailer)(nil)
	_ guest.Mailer          = (*mailer)(nil)
)
