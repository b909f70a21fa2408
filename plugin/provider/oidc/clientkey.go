package oidc

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	jose "github.com/go-jose/go-jose/v4"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// privateKeyJWT is the client_auth that needs a ClientKey.
const privateKeyJWT = "private_key_jwt"

// ClientKey proves to the issuer who we are, in place of a client secret
// (private_key_jwt: RFC 7523 section 2.2, OpenID Connect Core section 9). The
// issuer knows the public half; what we send is good for one call.
type ClientKey struct {
	// The private key, as text (PEM, PKCS #8): RSA of 2048 bits or more, ECDSA on
	// P-256, P-384 or P-521, or Ed25519. Write a placeholder, such as
	// {file./etc/caddy/sso.pem}, to keep it out of the configuration. With it,
	// no client secret is needed or taken.
	PrivateKey string `json:"private_key,omitempty"`

	// The name of the key at the issuer, for where it knows more than one. May
	// be a placeholder. Default: none is sent.
	KeyID string `json:"key_id,omitempty"`
}

// Consume reads one option about the key; see provider.Part.
func (k *ClientKey) Consume(d *caddyfile.Dispenser) (bool, error) {
	switch d.Val() {
	case "private_key":
		return true, provider.Text(d, &k.PrivateKey)
	case "key_id":
		return true, provider.Text(d, &k.KeyID)
	default:
		return false, nil
	}
}

// Words lists the options about the key.
func (*ClientKey) Words() []string { return []string{"private_key", "key_id"} }

// check wants one way to prove who we are, so that nobody believes in another.
func (k *ClientKey) check(clientAuth, secret string) error {
	written := k.PrivateKey != ""
	switch {
	case !written && clientAuth == privateKeyJWT:
		return errors.New("client_auth private_key_jwt needs a key: write private_key {file./path/key.pem}")
	case !written && k.KeyID != "":
		return errors.New("key_id names a private_key, and there is none: write one, or remove key_id")
	case written && secret != "":
		return errors.New("client_secret and private_key prove the same: write one of them")
	case written && clientAuth != "" && clientAuth != privateKeyJWT:
		return fmt.Errorf("client_auth %s has no use for a private_key: write private_key_jwt, or remove either line", clientAuth)
	default:
		return nil
	}
}

// signer reads the key; nil where none was written.
func (k *ClientKey) signer() (*clientSigner, error) {
	if k.PrivateKey == "" {
		return nil, nil
	}
	text, err := provider.Placeholders("private_key", k.PrivateKey)
	if err != nil {
		return nil, err
	}
	s := new(clientSigner)
	if k.KeyID != "" {
		if s.keyID, err = provider.Placeholders("key_id", k.KeyID); err != nil {
			return nil, err
		}
	}
	if s.key, err = parsePrivateKey(text); err == nil {
		s.algs, err = algsOf(s.key)
	}
	if err != nil {
		return nil, fmt.Errorf("private_key %w: write {file./path/key.pem}, a file as 'openssl genpkey' makes it", err)
	}
	return s, nil
}

// parsePrivateKey reads a PKCS #8 key. Its errors quote nothing of text.
func parsePrivateKey(text string) (crypto.Signer, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("is no PEM text, from -----BEGIN PRIVATE KEY----- to its END with the lines between")
	}
	if block.Type != "PRIVATE KEY" {
		return nil, errors.New("is of another kind than PRIVATE KEY (PKCS #8)")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("is damaged")
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, errors.New("cannot sign")
	}
	return key, nil
}

// algsOf are the algorithms that a key may sign with, the customary one first.
func algsOf(key crypto.Signer) ([]jose.SignatureAlgorithm, error) {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if k.N.BitLen() < 2048 {
			return nil, errors.New("is RSA of less than 2048 bits")
		}
		return []jose.SignatureAlgorithm{jose.RS256, jose.PS256}, nil
	case *ecdsa.PrivateKey:
		alg, ok := map[int]jose.SignatureAlgorithm{256: jose.ES256, 384: jose.ES384, 521: jose.ES512}[k.Params().BitSize]
		if ok {
			return []jose.SignatureAlgorithm{alg}, nil
		}
	case ed25519.PrivateKey:
		return []jose.SignatureAlgorithm{jose.EdDSA}, nil
	}
	return nil, errors.New("is neither RSA, nor ECDSA on P-256, P-384 or P-521, nor Ed25519")
}

// clientSigner makes client assertions.
type clientSigner struct {
	key   crypto.Signer
	keyID string
	algs  []jose.SignatureAlgorithm
}

// assertionFor is how long an assertion is good: for one call, and for clocks
// that differ.
const assertionFor = 2 * time.Minute

// assert makes the client_assertion for one call of an endpoint. Its audience is
// that endpoint's address, as OpenID Connect Core section 9 has it; Okta takes
// no other. algs are those that the issuer lists. The update of RFC 7523 wants the issuer's name instead,
// because an assertion that one endpoint gets could be good at another: here it
// goes to no other address than the one it names.
func (s *clientSigner) assert(client, endpoint string, algs []string, now time.Time) (guest.Secret, error) {
	signer, err := newSigner(s.alg(algs), s.key, s.keyID)
	if err != nil {
		return "", err
	}
	return signClaims(signer, map[string]any{
		"iss": client,
		"sub": client,
		"aud": endpoint,
		"jti": rand.Text(),
		"iat": now.Unix(),
		"exp": now.Add(assertionFor).Unix(),
	})
}

// alg is the first that the issuer lists, else the customary one.
func (s *clientSigner) alg(listed []string) jose.SignatureAlgorithm {
	i := slices.IndexFunc(s.algs, func(alg jose.SignatureAlgorithm) bool { return slices.Contains(listed, string(alg)) })
	return s.algs[max(i, 0)]
}

// newSigner is a signer of tokens of ours. An empty keyID is left out.
func newSigner(alg jose.SignatureAlgorithm, key crypto.Signer, keyID string) (jose.Signer, error) {
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: keyID}},
		new(jose.SignerOptions).WithType("JWT"),
	)
	if err != nil {
		return nil, fmt.Errorf("making signer: %w", err)
	}
	return signer, nil
}

// signClaims makes a token of ours.
func signClaims(signer jose.Signer, claims map[string]any) (guest.Secret, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encoding claims: %w", err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	token, err := signed.CompactSerialize()
	return guest.Secret(token), err
}

var _ provider.Part = (*ClientKey)(nil)
