package oidc

import (
	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

func failure(why guest.Reason, format string, args ...any) error {
	return provider.Fail(why, format, args...)
}

func untrusted(format string, args ...any) error { return provider.Untrusted(format, args...) }

func unavailable(format string, args ...any) error { return provider.Unavailable(format, args...) }
