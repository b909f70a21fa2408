package logintest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/go-jose/go-jose/v4"
)

// keyring is what an issuer signs with: one key per algorithm, under names
// that tell nothing.
type keyring struct {
	keys map[string]jose.JSONWebKey
}

func newKeyring() (*keyring, error) {
	forRSA, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("making RSA key: %w", err)
	}
	forEC, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making P-256 key: %w", err)
	}
	return &keyring{map[string]jose.JSONWebKey{
		"RS256": named(forRSA, "RS256"),
		"ES256": named(forEC, "ES256"),
	}}, nil
}

func named(key crypto.Signer, alg string) jose.JSONWebKey {
	return jose.JSONWebKey{Key: key, KeyID: rand.Text(), Algorithm: alg, Use: "sig"}
}

// public is the key set as it is published (RFC 7517).
func (k *keyring) public() (map[string]any, error) {
	var list []any
	for _, alg := range []string{"RS256", "ES256"} {
		key := k.keys[alg]
		b, err := key.Public().MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("encoding key: %w", err)
		}
		var members map[string]any
		if err := json.Unmarshal(b, &members); err != nil {
			return nil, fmt.Errorf("decoding key: %w", err)
		}
		list = append(list, members)
	}
	return map[string]any{"keys": list}, nil
}

// sign makes a compact JWS of claims. The header decides how, also where a
// fault changed it: "none" leaves the signature empty, "HS256" signs with the
// client's secret.
func (k *keyring) sign(header, claims map[string]any, secret string) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encoding claims: %w", err)
	}
	alg, _ := header["alg"].(string)
	if alg == "none" {
		return unsigned(header, payload)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: k.key(alg, secret)}, extra(header))
	if err != nil {
		return "", fmt.Errorf("preparing signature with %q: %w", alg, err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	return signed.CompactSerialize()
}

// key is without its name: whether the header names it is the header's matter.
func (k *keyring) key(alg, secret string) any {
	if alg == "HS256" {
		return []byte(secret)
	}
	return k.keys[alg].Key
}

func extra(header map[string]any) *jose.SignerOptions {
	options := &jose.SignerOptions{}
	for name, value := range header {
		if name != "alg" {
			options.WithHeader(jose.HeaderKey(name), value)
		}
	}
	return options
}

func unsigned(header map[string]any, payload []byte) (string, error) {
	head, err := json.Marshal(header)
	if err != nil {
		return "", fmt.Errorf("encoding header: %w", err)
	}
	b64 := base64.RawURLEncoding
	return b64.EncodeToString(head) + "." + b64.EncodeToString(payload) + ".", nil
}

// halfHash is at_hash for a token signed with SHA-256 (OpenID Connect Core
// section 3.1.3.6).
func halfHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2])
}

// keyring makes the keys when they are first needed: RSA takes its time.
func (i *Issuer) keyring() (*keyring, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ring == nil {
		ring, err := newKeyring()
		if err != nil {
			return nil, err
		}
		i.ring = ring
	}
	return i.ring, nil
}

func (i *Issuer) keys(w http.ResponseWriter, r *http.Request) {
	faults := i.count(func(c *Calls) { c.Keys++ })
	ring, err := i.keyring()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	doc, err := ring.public()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	call(faults.Keys, doc)
	faults.send(w, "keys", http.StatusOK, doc)
}
