package token

import (
	"cmp"
	"errors"
	"strings"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/record"
)

// NativeAge is how long ago a provider's ID token may have been issued.
const NativeAge = 10 * time.Minute

// nativeSkew is more than a provider's clock may be ahead of ours, and behind.
const nativeSkew = 5 * time.Minute

// ErrReplayed means that a provider's token was used before.
var ErrReplayed = errors.New("the provider's token was used before")

// usedNativeKind says that a provider's ID token was used: native/<hash>.
var usedNativeKind = record.Kind{Name: "native", Version: 1}

// SpendNative uses a provider's token up, in the transaction that signs in with
// it, or returns ErrReplayed. Call it for nothing that the provider did not
// believe: it writes.
//
// An ID token is remembered until it is too old to be believed. An access token
// is not used up: apps keep one for months and sign in with it again, and the
// provider was asked just now whether it is still good.
func (t *Tokens) SpendNative(tx guest.Tx, n guest.NativeToken) error {
	if n.Kind == guest.AccessToken {
		return nil
	}
	// What is signed has one spelling. The signature need not: of one that is
	// ECDSA's everybody can make a second.
	said := string(n.Token)
	if end := strings.LastIndexByte(said, '.'); end >= 0 {
		said = said[:end]
	}
	until := t.now().Add(cmp.Or(n.MaxAge, NativeAge) + nativeSkew)
	return spendOnce(tx, usedNativeKind, record.Hash(said), until, ErrReplayed)
}
