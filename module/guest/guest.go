// Package guest holds the contracts a plug-in fulfils: a Provider signs
// people in, a Store remembers them, a Mailer writes to them.
//
// A guest imports nothing of the house but this package, and this package
// imports nothing but the standard library: a guest written today builds
// against tomorrow's house.
package guest

import (
	"crypto/subtle"
	"log/slog"
	"net/http"
	"time"
)

// Env is what the house lends a guest. It is handed over once, before the
// first call, and stays valid until the guest's Caddy module is cleaned up.
type Env struct {
	// Client makes the one HTTP client a guest may use to call out. It is
	// hardened: 10 s for a whole call, bodies capped at 1 MiB after
	// decompression, no redirects, at most 32 calls at once, and private
	// addresses refused at dial time unless one of the operator's own URLs
	// names such a host. Pass the URLs the operator wrote, never one that came
	// out of an answer.
	Client func(operatorURLs ...string) *http.Client

	// Now is the clock. Guests must not call time.Now.
	Now func() time.Time

	// Log is the guest's logger. Secrets, codes, tokens and full addresses
	// never go there.
	Log *slog.Logger
}

// Secret is a string that cannot be printed or compared by accident.
type Secret string

// String hides the secret from fmt, logs and traces.
func (Secret) String() string { return "[secret]" }

// GoString hides the secret from %#v.
func (Secret) GoString() string { return "[secret]" }

// Is reports whether got is the secret, in constant time.
func (s Secret) Is(got string) bool {
	return subtle.ConstantTimeCompare([]byte(s), []byte(got)) == 1
}
