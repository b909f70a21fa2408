// Package plugin is everything: the package to give to xcaddy.
//
//	xcaddy build --with github.com/caddy-login/caddy-login/plugin
//
// To leave something out, import what you want from the packages named here.
package plugin

import (
	// How it is written, and with it what runs.
	_ "github.com/caddy-login/caddy-login/caddyfile"
	// Ways in.
	_ "github.com/caddy-login/caddy-login/plugin/provider/email"
	_ "github.com/caddy-login/caddy-login/plugin/provider/oauth"
	_ "github.com/caddy-login/caddy-login/plugin/provider/oidc"
	// How mail is sent.
	_ "github.com/caddy-login/caddy-login/plugin/mailer/console"
	_ "github.com/caddy-login/caddy-login/plugin/mailer/smtp"
	// Where it is kept.
	_ "github.com/caddy-login/caddy-login/plugin/store/badger"
)
