package oidc

import (
	"fmt"

	"github.com/caddy-login/caddy-login/module/guest"
)

func failure(why guest.Reason, format string, args ...any) error {
	return &guest.Failure{Reason: why, Err: fmt.Errorf(format, args...)}
}

func untrusted(format string, args ...any) error { return failure(guest.Untrusted, format, args...) }

func unavailable(format string, args ...any) error {
	return failure(guest.Unavailable, format, args...)
}
