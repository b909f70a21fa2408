package guest

import (
	"context"
	"errors"
	"time"
)

// NativeTaker is a Provider that believes what an app of the operator's got from
// the provider's own SDK, without a browser.
//
// A token proves who somebody is only if it was issued to one of the operator's
// own clients: any other app's owner could hand in what its users gave it. So
// nothing is believed that is not bound to a client of ours.
type NativeTaker interface {
	Provider

	// TakeNative turns a token into a Profile, in at most 10 s. It makes every
	// check but the one for replay, which is the house's.
	//
	// An error that wraps ErrNotNative, ErrAudience or ErrNonce says what is
	// wrong; any other is told apart by its Reason alone.
	TakeNative(ctx context.Context, n NativeToken) (Profile, error)
}

// NativeToken is what an app hands in.
type NativeToken struct {
	Kind  NativeKind
	Token Secret

	// Nonce is the one that the house issued for this sign-in, which the token
	// must then hold; empty: none was. Only an IDToken has one.
	Nonce string

	// MaxAge is how long ago an IDToken may have been issued. Zero: 10 minutes.
	MaxAge time.Duration
}

// NativeKind is a kind of token.
type NativeKind string

const (
	// IDToken is signed for a client (OpenID Connect Core section 2).
	IDToken NativeKind = "id_token"
	// AccessToken says nothing by itself: the provider is asked whom it was
	// issued to, and for whom.
	AccessToken NativeKind = "access_token"
)

// Errors of TakeNative, to be tested with errors.Is.
var (
	// ErrNotNative means that the provider takes no such tokens.
	ErrNotNative = errors.New("the provider takes no tokens of this kind from apps")
	// ErrAudience means that the token was issued to another's client.
	ErrAudience = errors.New("the token was issued to another client: if it is an app of yours, write its client ID into native_client_ids")
	// ErrNonce means that the token is of another sign-in.
	ErrNonce = errors.New("the token's nonce is not the one of this sign-in")
)
