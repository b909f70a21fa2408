package logintest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strings"
)

// keyring is what an issuer signs with, one key for each algorithm, and the
// key set that it publishes.
type keyring struct {
	signers map[string]signer
	// set are the published keys (RFC 7517), among them those that none of the
	// tokens is signed with.
	set []map[string]any
}

// signer is a key under a name that tells nothing.
type signer struct {
	kid string
	key crypto.Signer
}

// newKeyring makes the keys: without oddities one for each algorithm, which it
// names; with them those of the OpenID Foundation's suite, where no key says
// what algorithm it is for: two of RSA and two of P-256, either of which may
// be the one that signs, one on secp256k1, one Ed25519, two for encryption,
// and two of kinds that do not exist.
func newKeyring(o *odds) (*keyring, error) {
	forRSA, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("making RSA key: %w", err)
	}
	forEC, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making P-256 key: %w", err)
	}
	_, forEd, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making Ed25519 key: %w", err)
	}
	k := &keyring{signers: map[string]signer{}}
	err = errors.Join(k.add(o, "RS256", forRSA), k.add(o, "ES256", forEC), k.add(o, "EdDSA", forEd))
	if err == nil && o != nil {
		err = k.crowd(o)
	}
	return k, err
}

func (k *keyring) add(o *odds, alg string, key crypto.Signer) error {
	members, err := publicMembers(key.Public())
	if err != nil {
		return err
	}
	s := signer{o.name(), key}
	members["kid"], members["use"] = s.kid, "sig"
	if o == nil {
		members["alg"] = alg
	}
	k.signers[alg] = s
	k.set = append(k.set, members)
	return nil
}

// crowd adds the keys that sign nothing, and mixes all.
func (k *keyring) crowd(o *odds) error {
	others := []map[string]any{
		idleRSA(), with(idleRSA(), "use", "enc"), koblitz(),
		{"kty": "AKP", "alg": "ML-DSA-0", "pub": o.name()}, {"kty": "NONE-SUCH", "x": 1},
	}
	for _, use := range []string{"sig", "enc"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return fmt.Errorf("making P-256 key: %w", err)
		}
		members, err := publicMembers(key.Public())
		if err != nil {
			return err
		}
		others = append(others, with(members, "use", use))
	}
	for _, members := range others {
		members = with(members, "kid", o.name())
		if members["use"] == nil && o.happens(2) {
			members["use"] = "sig"
		}
		k.set = append(k.set, members)
	}
	for _, members := range k.set {
		o.stuff(members)
	}
	k.set = shuffled(o, k.set)
	return nil
}

// idleRSA stands for an RSA key that signs nothing. Nobody holds its other
// half: making a real one would cost every test a fifth of a second.
func idleRSA() map[string]any {
	n := make([]byte, 256)
	rand.Read(n)
	n[0] |= 0x80
	n[255] |= 1
	return map[string]any{"kty": "RSA", "n": base64url(n), "e": "AQAB"}
}

// koblitz is a point on secp256k1, y² = x³ + 7, which common libraries can't
// read.
func koblitz() map[string]any {
	p, _ := new(big.Int).SetString("fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f", 16)
	x, y := new(big.Int).SetBytes([]byte(rand.Text())), (*big.Int)(nil)
	for y == nil {
		x.Add(x, big.NewInt(1))
		right := new(big.Int).Exp(x, big.NewInt(3), p)
		y = new(big.Int).ModSqrt(right.Mod(right.Add(right, big.NewInt(7)), p), p)
	}
	return map[string]any{
		"kty": "EC", "crv": "secp256k1",
		"x": base64url(x.FillBytes(make([]byte, 32))), "y": base64url(y.FillBytes(make([]byte, 32))),
	}
}

func with(members map[string]any, name string, value any) map[string]any {
	all := map[string]any{name: value}
	for name, value := range members {
		if _, there := all[name]; !there {
			all[name] = value
		}
	}
	return all
}

func publicMembers(key crypto.PublicKey) (map[string]any, error) {
	switch key := key.(type) {
	case *rsa.PublicKey:
		return map[string]any{"kty": "RSA", "n": base64url(key.N.Bytes()), "e": base64url(big.NewInt(int64(key.E)).Bytes())}, nil
	case *ecdsa.PublicKey:
		point, err := key.Bytes()
		if err != nil {
			return nil, fmt.Errorf("encoding P-256 key: %w", err)
		}
		return map[string]any{"kty": "EC", "crv": "P-256", "x": base64url(point[1:33]), "y": base64url(point[33:])}, nil
	case ed25519.PublicKey:
		return map[string]any{"kty": "OKP", "crv": "Ed25519", "x": base64url(key)}, nil
	default:
		return nil, fmt.Errorf("encoding a key of type %T: none of ours", key)
	}
}

func base64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// sign makes a signature as alg says: none for "none", with the client's
// secret for "HS256", and where there is no key for it one of chance.
func (k *keyring) sign(alg, input, secret string) ([]byte, error) {
	sum := sha256.Sum256([]byte(input))
	switch alg {
	case "none":
		return nil, nil
	case "HS256":
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(input))
		return mac.Sum(nil), nil
	case "RS256":
		return k.signers[alg].key.Sign(rand.Reader, sum[:], crypto.SHA256)
	case "EdDSA":
		return k.signers[alg].key.Sign(rand.Reader, []byte(input), crypto.Hash(0))
	case "ES256":
		key, _ := k.signers[alg].key.(*ecdsa.PrivateKey)
		r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
		if err != nil {
			return nil, err
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...), nil
	default:
		return []byte(strings.Repeat(rand.Text(), 3)[:64]), nil
	}
}

// mint makes a signed token (RFC 7515 section 7.1), with all that f has to say
// about it. The header decides how it is signed, also where a fault changed
// it.
func (i *Issuer) mint(f Faults, header, claims map[string]any, secret string) (string, error) {
	ring, err := i.keyring()
	if err != nil {
		return "", err
	}
	head, err := i.odds.json(header)
	if err != nil {
		return "", fmt.Errorf("encoding header: %w", err)
	}
	payload, err := i.odds.json(claims)
	if err != nil {
		return "", fmt.Errorf("encoding claims: %w", err)
	}
	if f.Payload != nil {
		payload = f.Payload(payload)
	}
	alg, _ := header["alg"].(string)
	input := base64url(head) + "." + base64url(payload)
	signature, err := ring.sign(alg, input, secret)
	if err != nil {
		return "", fmt.Errorf("signing with %s: %w", alg, err)
	}
	token := input + "." + base64url(signature)
	i.tell(token)
	if f.Signed != nil {
		token = f.Signed(token)
	}
	return token, nil
}

// header is a token's. A fault that asks for another algorithm and says
// nothing of a key gets the name of that algorithm's key.
func (i *Issuer) header(f Faults, typ string) (map[string]any, error) {
	ring, err := i.keyring()
	if err != nil {
		return nil, err
	}
	own := ring.signers[i.alg()]
	header := map[string]any{"alg": i.alg(), "kid": own.kid}
	if typ != "" {
		header["typ"] = typ
	}
	i.odds.stuff(header)
	call(f.Header, header)
	alg, _ := header["alg"].(string)
	if other, ok := ring.signers[alg]; ok && header["kid"] == own.kid {
		header["kid"] = other.kid
	}
	return header, nil
}

func (i *Issuer) alg() string {
	switch i.Alg {
	case "ES256", "EdDSA":
		return i.Alg
	default:
		return "RS256"
	}
}

// halfHash is at_hash for a token signed with alg (OpenID Connect Core section
// 3.1.3.6). Ed25519 hashes with SHA-512.
func halfHash(alg, token string) string {
	if alg == "EdDSA" {
		sum := sha512.Sum512([]byte(token))
		return base64url(sum[:len(sum)/2])
	}
	sum := sha256.Sum256([]byte(token))
	return base64url(sum[:len(sum)/2])
}

// keyring makes the keys when they are first needed: RSA takes its time.
func (i *Issuer) keyring() (*keyring, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ring == nil {
		ring, err := newKeyring(i.odds)
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
	var list []any
	for _, members := range ring.set {
		list = append(list, with(members, "kty", members["kty"]))
	}
	doc := map[string]any{"keys": list}
	i.odds.stuff(doc)
	call(faults.Keys, doc)
	i.send(w, r, faults, reply{"keys", http.StatusOK, doc})
}
