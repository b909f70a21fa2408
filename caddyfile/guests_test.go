package caddyfile_test

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// The guests of these tests: just enough grammar to see whose line is whose.
func init() {
	caddy.RegisterModule(google{})
	caddy.RegisterModule(okta{})
	caddy.RegisterModule(oidc{})
	caddy.RegisterModule(smtp{})
	caddy.RegisterModule(console{})
	caddy.RegisterModule(badger{})
}

// client is `<module> [<id> <secret>] { issuer <url> }`.
type client struct {
	Name         string `json:"name,omitempty"`
	ClientID     string `json:"client_id,omitempty"`
	ClientSecret string `json:"client_secret,omitempty"`
	Issuer       string `json:"issuer,omitempty"`
}

func (c *client) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.CountRemainingArgs() > 0 && !d.AllArgs(&c.ClientID, &c.ClientSecret) {
		return d.ArgErr()
	}
	return c.block(d)
}

func (c *client) block(d *caddyfile.Dispenser) error {
	for d.NextBlock(0) {
		switch d.Val() {
		case "issuer":
			if !d.AllArgs(&c.Issuer) {
				return d.ArgErr()
			}
		default:
			return d.Errf("unknown option '%s' (options: issuer)", d.Val())
		}
	}
	return nil
}

type google struct{ client }

func (google) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "login.providers.google", New: func() caddy.Module { return new(google) }}
}

type okta struct{ client }

func (okta) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "login.providers.okta", New: func() caddy.Module { return new(okta) }}
}

// oidc is `oidc <name> <id> <secret> { issuer <url> }`.
type oidc struct{ client }

func (oidc) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "login.providers.oidc", New: func() caddy.Module { return new(oidc) }}
}

func (o *oidc) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.AllArgs(&o.Name, &o.ClientID, &o.ClientSecret) {
		return d.Errf("oidc needs a name, an id and a secret")
	}
	return o.block(d)
}

// smtp is `smtp <address> [<user> <password>] { from <address> }`.
type smtp struct {
	Address  string `json:"address"`
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
	From     string `json:"from,omitempty"`
}

func (smtp) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "login.mailers.smtp", New: func() caddy.Module { return new(smtp) }}
}

func (s *smtp) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.Args(&s.Address) || d.CountRemainingArgs() > 0 && !d.AllArgs(&s.Username, &s.Password) {
		return d.ArgErr()
	}
	for d.NextBlock(0) {
		if d.Val() != "from" || !d.AllArgs(&s.From) {
			return d.Errf("unknown option '%s' (options: from)", d.Val())
		}
	}
	return nil
}

// console has no Caddyfile syntax of its own.
type console struct{}

func (console) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "login.mailers.console", New: func() caddy.Module { return new(console) }}
}

// badger is `badger [<dir>]`.
type badger struct {
	Dir string `json:"dir,omitempty"`
}

func (badger) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "login.stores.badger", New: func() caddy.Module { return new(badger) }}
}

func (b *badger) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.CountRemainingArgs() > 0 && !d.AllArgs(&b.Dir) {
		return d.ArgErr()
	}
	return nil
}
