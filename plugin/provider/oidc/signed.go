package oidc

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/caddy-login/caddy-login/plugin/provider"
)

// kind is what an issuer signs a token for. None must pass for another (RFC
// 8725 section 3.12): an access token (at+jwt) is no ID token.
type kind struct {
	name  string
	types []string // that the header may name; it need not name any
	max   int      // bytes
}

var (
	// An ID token with a few hundred groups has 20 KiB.
	idToken     = kind{name: "ID token", types: []string{"JWT"}, max: 256 << 10}
	logoutToken = kind{name: "logout token", types: []string{"JWT", "logout+jwt"}, max: 16 << 10}
)

// signed is what a token says whose header and signature are in order. Nothing
// is known yet of whom it is for, and since when.
type signed struct {
	claims    provider.Claims
	alg       string
	keyIssuer string // see keyRing
}

// readSigned opens a signed token of this kind. An error that is Unavailable says
// nothing about the token.
func (p *party) readSigned(ctx context.Context, raw string, k kind, algs []jose.SignatureAlgorithm) (signed, error) {
	jws, err := k.parse(raw, algs)
	if err != nil {
		return signed{}, untrusted("reading %s: %w", k.name, err)
	}
	payload, keyIssuer, err := p.payload(ctx, jws)
	if err != nil {
		return signed{}, err
	}
	claims, err := provider.ParseClaims(payload)
	if err != nil {
		return signed{}, untrusted("reading %s: %w", k.name, err)
	}
	return signed{claims, jws.Signatures[0].Protected.Algorithm, keyIssuer}, nil
}

// checkKeyIssuer asks the brand, where it has keys for some of its names alone.
func (p *party) checkKeyIssuer(s signed) error {
	if p.brand.signs == nil {
		return nil
	}
	return p.brand.signs(s.keyIssuer, s.claims)
}

// parse reads a signed token and judges its header, before a key is looked
// for. Keys and addresses of keys in a header (jwk, jku, x5u, x5c) play no part:
// whoever wrote the token chose them.
func (k kind) parse(raw string, algs []jose.SignatureAlgorithm) (*jose.JSONWebSignature, error) {
	if len(raw) > k.max {
		return nil, fmt.Errorf("it is longer than %d bytes", k.max)
	}
	// The decoders pass over line breaks, and over bits that stand for nothing:
	// one token, one spelling, or what is used up would come again in another.
	if strings.Count(raw, ".") != 2 || strings.ContainsFunc(raw, foreignToToken) {
		return nil, errors.New("it is no signed token")
	}
	parts, err := decodeStrictly(strings.Split(raw, "."))
	if err != nil {
		return nil, err
	}
	header, err := provider.ParseClaims(parts[0])
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	if err := k.checkHeader(header, algs); err != nil {
		return nil, err
	}
	jws, err := jose.ParseSignedCompact(raw, algs)
	if err != nil || len(jws.Signatures) != 1 {
		return nil, errors.New("it is no signed token")
	}
	return jws, nil
}

func decodeStrictly(encoded []string) (parts [][]byte, err error) {
	for _, part := range encoded {
		data, err := base64.RawURLEncoding.Strict().DecodeString(part)
		if err != nil {
			return nil, errors.New("a part of it is no base64url")
		}
		parts = append(parts, data)
	}
	return parts, nil
}

func foreignToToken(r rune) bool {
	return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '-' && r != '_' && r != '.'
}

func (k kind) checkHeader(header provider.Claims, algs []jose.SignatureAlgorithm) error {
	if alg := header.Text("alg"); !slices.Contains(algs, jose.SignatureAlgorithm(alg)) {
		return fmt.Errorf("algorithm %s is not one of %q", provider.Quote(alg), algs)
	}
	if _, ok := header["crit"]; ok {
		return errors.New("it has critical extensions")
	}
	isType := func(name string) bool { return strings.EqualFold(name, header.Text("typ")) }
	if header.Has("typ") && !slices.ContainsFunc(k.types, isType) {
		return fmt.Errorf("type %s is not %s", provider.Quote(header.Text("typ")), strings.Join(k.types, " or "))
	}
	return nil
}
