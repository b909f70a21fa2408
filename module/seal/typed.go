package seal

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"
)

// SignAs is Sign for a JWT of another type than `JWT`, so that none of them can
// pass for the other (RFC 8725 section 3.11). Its life is the caller's matter:
// at most an hour, for which a key that retired is still there.
func (s *Signer) SignAs(typ string, claims []byte) (string, error) {
	key := *s.keys.Load().current(s.now())
	key.head = headOf(key.id, typ)
	one := &Signer{now: s.now}
	one.keys.Store(&signingKeys{all: []signingKey{key}})
	return one.Sign(claims)
}

// Verify returns nil where one of our keys signed token, with a header that is
// byte for byte the one SignAs writes for this type, and else ErrSeal. So nothing
// that a forger may choose there is ever looked at: no algorithm, no key, no
// address of a key, no extension. What the claims say is for the caller to judge.
func (s *Signer) Verify(typ, token string) error {
	end := strings.LastIndexByte(token, '.')
	head, _, _ := strings.Cut(token, ".")
	if end < 0 || len(token)-end-1 != signatureLength {
		return ErrSeal
	}
	signature, err := base64.RawURLEncoding.Strict().DecodeString(token[end+1:])
	if err != nil || len(signature) != 64 { // the decoder skips line ends
		return ErrSeal
	}
	digest := sha256.Sum256([]byte(token[:end]))
	r, t := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	for _, key := range s.keys.Load().all {
		if head == headOf(key.id, typ) && ecdsa.Verify(&key.secret.PublicKey, digest[:], r, t) {
			return nil
		}
	}
	return ErrSeal
}

// Holds reports whether a key of this ID is one of those that may have signed
// what is still good.
func (s *Signer) Holds(keyID string) bool {
	for _, key := range s.keys.Load().all {
		if key.id == keyID {
			return true
		}
	}
	return false
}

func headOf(keyID, typ string) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"alg":"ES256","kid":%q,"typ":%q}`, keyID, typ))
}
