package provider

import (
	"fmt"

	"github.com/caddy-login/caddy-login/module/guest"
)

// Fail returns a guest.Failure with this reason. What it formats is logged: no
// secret, code or token, and a provider's text only through Quote.
func Fail(why guest.Reason, format string, args ...any) error {
	return &guest.Failure{Reason: why, Err: fmt.Errorf(format, args...)}
}

// Untrusted is Fail for an answer that did not pass one of our checks.
func Untrusted(format string, args ...any) error { return Fail(guest.Untrusted, format, args...) }

// Unavailable is Fail for a provider that gave no answer, or not in time.
func Unavailable(format string, args ...any) error { return Fail(guest.Unavailable, format, args...) }
