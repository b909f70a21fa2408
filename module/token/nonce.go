package token

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/record"
)

// NonceLife is how long a nonce is good.
const NonceLife = 10 * time.Minute

// ErrNonce is returned for whatever is no nonce that we issued there, within the
// last minutes, and that nobody has used.
var ErrNonce = errors.New("the nonce is not ours, too old, or was used before")

// usedNonceKind says that a nonce was used: nonce/<hash>.
var usedNonceKind = record.Kind{Name: "nonce", Version: 1}

// nonces are letters and digits alone: not every SDK takes others.
var nonces = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// A nonce is when it expires, chance, and the tag of both: 40 bytes.
const (
	nonceTimed  = 8
	nonceTagged = nonceTimed + 16
	nonceSize   = nonceTagged + 16
)

// Nonce issues a nonce for one native sign-in at a scope: 64 letters and digits,
// and when it expires. Nothing is kept of it until it is used.
func (t *Tokens) Nonce(scope string) (nonce string, expires time.Time) {
	expires = t.now().Add(NonceLife).Truncate(time.Second)
	plain := make([]byte, nonceTagged, nonceSize)
	binary.BigEndian.PutUint64(plain, uint64(expires.Unix()))
	rand.Read(plain[nonceTimed:])
	return nonces.EncodeToString(append(plain, t.ring.Tag(noncePurpose(scope), string(plain))...)), expires
}

func noncePurpose(scope string) string { return "native nonce\x00" + scope }

// SpendNonce uses a nonce up, in tx, or returns ErrNonce. Call it once the
// provider's token was believed, in the transaction that signs in: so nothing is
// written for whoever only asks.
func (t *Tokens) SpendNonce(tx guest.Tx, scope, nonce string) error {
	plain, err := nonces.DecodeString(nonce)
	if err != nil || len(plain) != nonceSize || nonces.EncodeToString(plain) != nonce ||
		!t.ring.Tagged(noncePurpose(scope), string(plain[:nonceTagged]), plain[nonceTagged:]) {
		return ErrNonce
	}
	expires := time.Unix(int64(binary.BigEndian.Uint64(plain)), 0)
	if now := t.now(); !now.Before(expires) || expires.Sub(now) > NonceLife+setBack {
		return ErrNonce
	}
	return spendOnce(tx, usedNonceKind, record.Hash(scope, nonce), expires.Add(setBack), ErrNonce)
}

// spendOnce writes down that a thing was used, or returns spent where it was.
func spendOnce(tx guest.Tx, kind record.Kind, name string, until time.Time, spent error) error {
	err := kind.Get(tx, kind.Key(name), &struct{}{})
	switch {
	case err == nil:
		return spent
	case !errors.Is(err, guest.ErrNotFound):
		return fmt.Errorf("looking whether it was used: %w", err)
	}
	return kind.Put(tx, kind.Key(name), struct{}{}, until)
}
