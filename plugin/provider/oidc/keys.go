package oidc

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/caddy-login/caddy-login/plugin/provider"
)

// maxTries bounds the keys that one token is tried against.
const maxTries = 10

// keyRing holds an issuer's public signing keys.
type keyRing struct{ keys []signingKey }

// signingKey is a public key. issuer is for whose tokens it is, where the key
// set says so.
type signingKey struct {
	jose.JSONWebKey
	issuer string
}

// fetchKeys reads the issuer's JWK Set.
func (p *party) fetchKeys(ctx context.Context) (*keyRing, error) {
	m, err := p.metadata.value(ctx)
	if err != nil {
		return nil, err
	}
	body, err := p.fetch(ctx, m.jwksURL, maxKeys)
	if err != nil {
		return nil, err
	}
	ring, err := readKeys(body)
	if err != nil {
		return nil, untrusted("reading key set: %w", err)
	}
	return ring, nil
}

// readKeys takes the keys that can verify a signature and passes over all
// others (RFC 7517 section 5): curves and types that we do not know, keys for
// encryption, shared secrets, private ones.
func readKeys(body []byte) (*keyRing, error) {
	set, err := provider.ParseClaims(body)
	if err != nil {
		return nil, err
	}
	var raws []json.RawMessage
	if err := json.Unmarshal(set["keys"], &raws); err != nil {
		return nil, errors.New("it has no list of keys")
	}
	ring := new(keyRing)
	for _, raw := range raws {
		if key, ok := readKey(raw); ok {
			ring.keys = append(ring.keys, key)
		}
	}
	return ring, nil
}

func readKey(raw json.RawMessage) (signingKey, bool) {
	key, ok := signingKey{}, false
	members, err := provider.ParseClaims(bytes.TrimSpace(raw))
	if err != nil || members.Has("d") || members.Has("use") && members.Text("use") != "sig" || !verifies(members) {
		return key, ok
	}
	// Only what makes the key: a certificate with a broken thumbprint beside
	// it would make the library refuse the key.
	bare := map[string]string{}
	for _, name := range []string{"kty", "crv", "x", "y", "n", "e", "kid", "alg"} {
		if members.Has(name) {
			bare[name] = members.Text(name)
		}
	}
	clean, err := json.Marshal(bare)
	if err != nil || key.UnmarshalJSON(clean) != nil {
		return key, ok
	}
	key.issuer = members.Text("issuer")
	return key, usable(key.Key)
}

// verifies reports whether a key is for signatures by its key_ops (RFC 7517
// section 4.3), where it has any.
func verifies(key provider.Claims) bool {
	if !key.Has("key_ops") {
		return true
	}
	operations, ok := key.Texts("key_ops")
	return ok && slices.Contains(operations, "verify")
}

// usable reports whether key is a public key that crypto verifies with, of a size
// that neither is weak nor costs seconds. Others would only use up tries.
func usable(key any) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen() >= 2048 && k.N.BitLen() <= 8192 && k.E >= 3 && k.E%2 == 1 && k.E <= math.MaxInt32
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return true
	default:
		return false
	}
}

// payload returns what a signed token says once its signature is proven, and
// the issuer of the key that made it, where the key set names one.
// Where no key is of the token's ID the issuer may have new ones, which it is
// asked for as often as shared.newer allows; a wrong signature by a known key
// makes no request.
func (p *party) payload(ctx context.Context, jws *jose.JSONWebSignature) (payload []byte, issuer string, err error) {
	ring, err := p.keys.value(ctx)
	if err != nil {
		return nil, "", err
	}
	payload, issuer, known := ring.verify(jws)
	if payload != nil {
		return payload, issuer, nil
	}
	if known {
		return nil, "", untrusted("token's signature is wrong")
	}
	newer, err := p.keys.newer(ctx, ring)
	if err != nil {
		return nil, "", err
	}
	if newer == ring {
		return nil, "", untrusted("no key of the issuer's made the token's signature, %w", errAskedJustNow)
	}
	if payload, issuer, _ = newer.verify(jws); payload != nil {
		return payload, issuer, nil
	}
	return nil, "", untrusted("no key of the issuer's made the token's signature")
}

// errAskedJustNow: the issuer may have newer keys, and may not be asked for them
// yet.
var errAskedJustNow = errors.New("and it was asked for its keys just now")

// verify tries the keys that fit. known reports whether one has the token's
// key ID, so that a newer ring would not help.
func (k *keyRing) verify(jws *jose.JSONWebSignature) (payload []byte, issuer string, known bool) {
	header := jws.Signatures[0].Protected
	for tries, i := 0, 0; i < len(k.keys) && tries < maxTries; i++ {
		key := &k.keys[i]
		if !fits(key, header) {
			continue
		}
		tries++
		known = known || header.KeyID != "" && key.KeyID == header.KeyID
		if payload, err := jws.Verify(key.Key); err == nil && payload != nil {
			return payload, key.issuer, true
		}
	}
	return nil, "", known
}

// fits reports whether key may have made a signature with this header. Where
// either names no key ID, type and algorithm decide.
func fits(key *signingKey, header jose.Header) bool {
	if header.KeyID != "" && key.KeyID != "" && header.KeyID != key.KeyID {
		return false
	}
	if key.Algorithm != "" && key.Algorithm != header.Algorithm {
		return false
	}
	switch k := key.Key.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(header.Algorithm, "RS") || strings.HasPrefix(header.Algorithm, "PS")
	case *ecdsa.PublicKey:
		return header.Algorithm == map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[k.Curve.Params().BitSize]
	case ed25519.PublicKey:
		return header.Algorithm == "EdDSA"
	default:
		return false
	}
}
