package backchannel

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Call is what a call is for, as far as its request and For tell. It is a
// metric label: the set is closed.
type Call string

// The calls.
const (
	Discovery Call = "discovery" // OpenID Connect Discovery 1.0, RFC 8414
	Keys      Call = "keys"      // and whatever else anybody may read
	Token     Call = "token"     // RFC 6749 section 4.1.3
	UserInfo  Call = "userinfo"  // and whatever else is read by an access token
	Refresh   Call = "refresh"   // RFC 6749 section 6
	Revoke    Call = "revoke"    // RFC 7009, or the provider's own way
	Other     Call = "other"
)

// Flaw is what was wrong with a call. It is a metric label: the set is closed.
type Flaw string

// The flaws.
const (
	Flawless    Flaw = ""
	Certificate Flaw = "certificate" // nobody vouches for the other side's
	TimedOut    Flaw = "timeout"
	Unreachable Flaw = "unreachable" // no such name, no connection, or it broke
	Forbidden   Flaw = "forbidden"   // ErrForbiddenAddress, ErrInsecure
	BadStatus   Flaw = "status"      // 429, or 500 and more
	BadAnswer   Flaw = "answer"      // ErrRedirect, ErrTooLarge, or cut short
)

type callKey struct{}

// For says what the calls made with the context are for, but those for
// metadata: a request for new tokens looks like one for the first. Use Refresh,
// Revoke or Other.
func For(ctx context.Context, c Call) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}

// callOf tells by the shape of a request what it is for. Its body, which holds
// secrets, is left alone.
func callOf(r *http.Request) Call {
	if isMetadata(r.URL.Path) {
		return Discovery
	}
	told, _ := r.Context().Value(callKey{}).(Call)
	public := r.Method == http.MethodGet && r.Header.Get("Authorization") == ""
	switch {
	case told == Other:
		return Other
	case public:
		return Keys
	case told != "":
		return told
	case r.Method == http.MethodGet:
		return UserInfo
	case r.Method == http.MethodPost && strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded"):
		return Token
	default:
		return Other
	}
}

// isMetadata knows the well-known addresses of OpenID Connect Discovery 1.0
// section 4 and RFC 8414 section 3, where the issuer's path may come last.
func isMetadata(path string) bool {
	return strings.Contains(path, "/.well-known/openid-configuration") || strings.Contains(path, "/.well-known/oauth-authorization-server")
}

// watched is a call under way that somebody wants to hear of. nil: nobody does.
type watched struct {
	tell  func(Call, time.Duration, Flaw)
	ctx   context.Context // the caller's
	call  Call
	began time.Time
	once  sync.Once
}

func (t *transport) watched(r *http.Request) *watched {
	if t.watch == nil {
		return nil
	}
	return &watched{tell: t.watch, ctx: r.Context(), call: callOf(r), began: time.Now()}
}

// end tells of the call, the first time. One that its caller gave up says
// nothing about the provider: visitors may leave whenever they like.
func (w *watched) end(f Flaw) {
	if w == nil {
		return
	}
	w.once.Do(func() {
		if f != Flawless && errors.Is(w.ctx.Err(), context.Canceled) {
			return
		}
		w.tell(w.call, time.Since(w.began), f)
	})
}

// flawOf is what was wrong with a call that got no answer.
func flawOf(err error) Flaw {
	var untrusted *tls.CertificateVerificationError
	var slow net.Error
	switch {
	case errors.As(err, &untrusted):
		return Certificate
	case errors.Is(err, ErrForbiddenAddress), errors.Is(err, ErrInsecure):
		return Forbidden
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &slow) && slow.Timeout():
		return TimedOut
	default:
		return Unreachable
	}
}

// flawOfStatus is what was wrong with an answer, by its status.
func flawOfStatus(status int) Flaw {
	if status >= 500 || status == http.StatusTooManyRequests {
		return BadStatus
	}
	return Flawless
}
