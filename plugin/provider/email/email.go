// Package email lets people sign in with a code or a link that comes by mail.
// The house makes, checks and limits them; this is what its operator says of
// them.
package email

import (
	"cmp"
	"fmt"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

func init() { caddy.RegisterModule(new(Email)) }

// Email signs people in by a code and a link in one mail.
//
//	email {
//		length 6..10
//		lifetime <duration>
//		link on|off
//		cross_device code|match|allow
//		label <text>
//	}
//
// It needs a mailer: write `mail smtp …` beside it.
type Email struct {
	// How many digits a code has, 6 to 10. Default: 6.
	Length int `json:"length,omitempty"`

	// How long a code and its link are good, 1m to 1h. Default: 10m.
	Lifetime caddy.Duration `json:"lifetime,omitempty"`

	// Whether the mail has a link beside the code. Default: true.
	Link *bool `json:"link,omitempty"`

	// What the link does in another browser than the one that asked: `code` (the
	// default) shows the code, to be typed where one began; `match` has the
	// person pick the number that is shown there; `allow` signs in where the link
	// was opened. With `allow`, whoever reads the mail, or talks somebody into
	// opening the link, is in.
	CrossDevice string `json:"cross_device,omitempty"`

	// What the pages call it. Default: email.
	Label string `json:"label,omitempty"`
}

// CaddyModule returns the module's ID.
func (*Email) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "login.providers.email", New: func() caddy.Module { return new(Email) }}
}

// UnmarshalCaddyfile reads the block shown at Email.
func (e *Email) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the provider's word
	if d.NextArg() {
		return d.Err("email takes no arguments: write length, lifetime, link or cross_device in its block")
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := e.option(d); err != nil {
			return err
		}
	}
	return nil
}

func (e *Email) option(d *caddyfile.Dispenser) error {
	switch d.Val() {
	case "length":
		return e.readLength(d)
	case "lifetime":
		return e.readLifetime(d)
	case "link":
		return provider.Switch(d, &e.Link)
	case "cross_device":
		return provider.Choice(d, &e.CrossDevice, crossDevice...)
	case "label":
		return provider.Text(d, &e.Label)
	default:
		return provider.Rest(d, []string{"length", "lifetime", "link", "cross_device", "label"})
	}
}

var crossDevice = []string{"code", "match", "allow"}

func (e *Email) readLength(d *caddyfile.Dispenser) error {
	var written string
	if e.Length != 0 {
		return d.Err("length is given twice: write it once")
	}
	if err := provider.Text(d, &written); err != nil {
		return err
	}
	length, err := strconv.Atoi(written)
	if err != nil || length == 0 {
		return d.Errf("length '%s' is no number: write 6 to 10", written)
	}
	e.Length = length
	if err := e.check(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (e *Email) readLifetime(d *caddyfile.Dispenser) error {
	var written string
	if e.Lifetime != 0 {
		return d.Err("lifetime is given twice: write it once")
	}
	if err := provider.Text(d, &written); err != nil {
		return err
	}
	lifetime, err := caddy.ParseDuration(written)
	if err != nil || lifetime == 0 {
		return d.Errf("lifetime '%s' is no time: write one like 10m", written)
	}
	e.Lifetime = caddy.Duration(lifetime)
	if err := e.check(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (e *Email) check() error {
	lifetime := time.Duration(e.Lifetime)
	switch {
	case e.Length != 0 && (e.Length < 6 || e.Length > 10):
		return fmt.Errorf("length %d: write 6 to 10 digits", e.Length)
	case lifetime != 0 && (lifetime < time.Minute || lifetime > time.Hour):
		return fmt.Errorf("lifetime %s: write 1m to 1h", lifetime)
	default:
		return provider.OneOf("cross_device", e.CrossDevice, crossDevice...)
	}
}

// Open checks the settings.
func (e *Email) Open(guest.Env) error { return e.check() }

// Traits says how the house treats this way in. Its name is part of the paths
// and of every identity: there is one for each site.
func (e *Email) Traits() guest.Traits {
	return guest.Traits{
		Name: "email", Label: cmp.Or(e.Label, "email"), Brand: "email",
		Email: guest.EmailRules{Identifier: true, Merge: true, Confirmation: "auto"},
	}
}

// Codes are the operator's choices, with the defaults.
func (e *Email) Codes() guest.CodeRules {
	return guest.CodeRules{
		Length:      cmp.Or(e.Length, 6),
		Lifetime:    cmp.Or(time.Duration(e.Lifetime), 10*time.Minute),
		Link:        e.Link == nil || *e.Link,
		CrossDevice: cmp.Or(e.CrossDevice, "code"),
	}
}

var (
	_ caddy.Module          = (*Email)(nil)
	_ caddyfile.Unmarshaler = (*Email)(nil)
	_ guest.CodeSender      = (*Email)(nil)
)
