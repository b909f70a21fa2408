package seal

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

var curve = elliptic.P256()

// newSecret is a new private key.
func newSecret() []byte {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		panic(err) // only a broken source of chance, which ends the program anyway
	}
	secret, err := key.Bytes()
	if err != nil {
		panic(err) // a key that was just made has bytes
	}
	return secret
}

// KeySet is public keys as JSON (RFC 7517 section 5), and its fingerprint, which
// changes with it.
type KeySet struct {
	JSON        []byte
	Fingerprint string
}

// publicKey is one of them. The private part has no field here.
type publicKey struct {
	ID        string `json:"kid"` // the key's thumbprint (RFC 7638)
	Type      string `json:"kty"` // always EC
	Curve     string `json:"crv"` // always P-256
	X         string `json:"x"`   // base64url, 32 bytes
	Y         string `json:"y"`   // base64url, 32 bytes
	Use       string `json:"use"` // always sig
	Algorithm string `json:"alg"` // always ES256
}

func publicKeyOf(key *ecdsa.PublicKey) (public publicKey, err error) {
	point, err := key.Bytes()
	if err != nil {
		return public, fmt.Errorf("reading signing key: %w", err)
	}
	public = publicKey{
		Type: "EC", Curve: "P-256", Use: "sig", Algorithm: "ES256",
		X: base64.RawURLEncoding.EncodeToString(point[1:33]), Y: base64.RawURLEncoding.EncodeToString(point[33:]),
	}
	digest := sha256.Sum256(fmt.Appendf(nil, `{"crv":"P-256","kty":"EC","x":%q,"y":%q}`, public.X, public.Y))
	public.ID = base64.RawURLEncoding.EncodeToString(digest[:])
	return public, nil
}

func publicSet(keys []signingKey) (set KeySet, err error) {
	all := struct {
		Keys []publicKey `json:"keys"` // oldest first
	}{}
	for i := range keys {
		public, err := publicKeyOf(&keys[i].secret.PublicKey)
		if err != nil {
			return set, err
		}
		all.Keys = append(all.Keys, public)
	}
	if set.JSON, err = json.Marshal(all); err != nil {
		return set, fmt.Errorf("encoding public keys: %w", err)
	}
	digest := sha256.Sum256(set.JSON)
	set.Fingerprint = hex.EncodeToString(digest[:16])
	return set, nil
}

// SignerOf has one key of the operator's, which never rotates: PEM, PKCS #8 or
// SEC 1. Its errors name the cure.
func SignerOf(text string, now func() time.Time) (*Signer, error) {
	secret, err := parseKey([]byte(text))
	if err != nil {
		return nil, err
	}
	s, keys := &Signer{now: now}, new(signingKeys)
	if err := keys.add(secret, time.Time{}); err != nil {
		return nil, err
	}
	return s, s.publish(keys)
}

// howToMake is what an operator can do about a key that we cannot use.
const howToMake = "make one with 'openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out signing.pem', and write {file./path/signing.pem}"

// errKey says no word of what it was given.
var (
	errNoKey     = errors.New("no private key in PEM: " + howToMake)
	errPublic    = errors.New("this is a public key or a certificate, and what signs is the private key: " + howToMake)
	errEncrypted = errors.New("this key is locked by a passphrase: write one that is not, readable to Caddy alone")
	errOtherKey  = errors.New("this key is not of the kind EC P-256, which ES256 needs: " + howToMake)
)

// parseKey finds the private key in a PEM text, past the parameters that openssl
// puts before it.
func parseKey(text []byte) (*ecdsa.PrivateKey, error) {
	missing := errNoKey
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return nil, missing
		}
		switch block.Type {
		case "PRIVATE KEY":
			return p256(x509.ParsePKCS8PrivateKey(block.Bytes))
		case "EC PRIVATE KEY":
			if block.Headers["DEK-Info"] != "" {
				return nil, errEncrypted
			}
			return p256(x509.ParseECPrivateKey(block.Bytes))
		case "ENCRYPTED PRIVATE KEY":
			return nil, errEncrypted
		case "RSA PRIVATE KEY":
			return nil, errOtherKey
		case "PUBLIC KEY", "CERTIFICATE":
			missing = errPublic
		default: // EC PARAMETERS, and what people keep in one file
		}
	}
}

func p256[K any](parsed K, err error) (*ecdsa.PrivateKey, error) {
	if err != nil {
		return nil, errNoKey
	}
	key, ok := any(parsed).(*ecdsa.PrivateKey)
	if !ok || key.Curve != curve {
		return nil, errOtherKey
	}
	return key, nil
}
