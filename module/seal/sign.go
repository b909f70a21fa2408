package seal

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

const (
	// SigningLife is how long a signing key signs before another takes over.
	SigningLife = 90 * 24 * time.Hour
	// signingNotice is how long a new key is published before it signs: longer
	// than a verifier may keep the set, and than another process that shares the
	// store takes to look again.
	signingNotice = 2 * time.Hour
	// SignatureLife is how long anything signed may be good at most.
	SignatureLife = 5 * time.Minute
	// signingRetreat is how long a key stays published after the last thing that
	// it signed is good for nothing.
	signingRetreat = time.Hour
)

// Signer signs what others are to believe of us: ES256 (RFC 7518 section 3.4).
// Its keys are made on first start, kept in the store and rotated; or it has one
// key of the operator's, which is never changed. It is safe for concurrent use.
type Signer struct {
	store guest.Store // nil: the key is the operator's
	now   func() time.Time
	// turning is held from reading the keys to using them.
	turning sync.Mutex
	keys    atomic.Pointer[signingKeys]
}

// signingKeys are the keys at hand, oldest first, and what the world is told of
// them.
type signingKeys struct {
	all []signingKey
	set KeySet
}

type signingKey struct {
	secret *ecdsa.PrivateKey
	id     string
	head   string // the protected header of what it signs, encoded
	from   time.Time
}

// storedSigning is the record. The keys lie in the operator's own database, as
// those that seal do.
type storedSigning struct {
	// Keys are oldest first: the last of those whose time has come signs.
	Keys []storedSigningKey `json:"keys"`
}

type storedSigningKey struct {
	// Secret is the private key: 32 bytes, big-endian.
	Secret []byte `json:"secret"`
	// Made is when: the key rotates by its age.
	Made time.Time `json:"made"`
	// From is when it begins to sign; it is published before.
	From time.Time `json:"from"`
}

// LoadSigner reads the keys from the store and makes one where there is none.
func LoadSigner(ctx context.Context, store guest.Store, now func() time.Time) (*Signer, error) {
	s := &Signer{store: store, now: now}
	if err := s.Rotate(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Rotate reads the keys anew, also others that were put into the store, as a
// restored backup does. It makes a new one where the newest is old, and takes
// away those that signed nothing that may still be good. It is to be called once
// an hour. Where it fails, the keys at hand stay.
func (s *Signer) Rotate(ctx context.Context) error {
	if s.store == nil {
		return nil
	}
	s.turning.Lock()
	defer s.turning.Unlock()
	var stored storedSigning
	err := s.store.Update(ctx, func(tx guest.Tx) error {
		stored = storedSigning{}
		err := kind.Get(tx, kind.Key("signing"), &stored)
		if err != nil && !errors.Is(err, guest.ErrNotFound) {
			return err
		}
		if !stored.turn(s.now()) {
			return nil
		}
		return kind.Put(tx, kind.Key("signing"), stored, time.Time{})
	})
	if err != nil {
		return fmt.Errorf("loading signing keys: %w", err)
	}
	return s.use(stored.Keys)
}

// turn adds and removes what is due, and reports whether it did.
func (stored *storedSigning) turn(now time.Time) bool {
	spent := 0
	for spent+1 < len(stored.Keys) && now.After(stored.Keys[spent+1].From.Add(SignatureLife+signingRetreat)) {
		spent++
	}
	stored.Keys = stored.Keys[spent:]
	from := now
	if n := len(stored.Keys); n > 0 {
		if now.Sub(stored.Keys[n-1].Made) <= SigningLife {
			return spent > 0
		}
		from = now.Add(signingNotice)
	}
	stored.Keys = append(stored.Keys, storedSigningKey{Secret: newSecret(), Made: now.UTC(), From: from.UTC()})
	return true
}

func (s *Signer) use(stored []storedSigningKey) error {
	next := new(signingKeys)
	for _, one := range stored {
		secret, err := ecdsa.ParseRawPrivateKey(curve, one.Secret)
		if err != nil {
			return fmt.Errorf("reading signing key: %w", err)
		}
		if err := next.add(secret, one.From); err != nil {
			return err
		}
	}
	return s.publish(next)
}

func (s *Signer) publish(next *signingKeys) (err error) {
	if next.set, err = publicSet(next.all); err != nil {
		return err
	}
	s.keys.Store(next)
	return nil
}

func (keys *signingKeys) add(secret *ecdsa.PrivateKey, from time.Time) error {
	public, err := publicKeyOf(&secret.PublicKey)
	if err != nil {
		return err
	}
	head := fmt.Appendf(nil, `{"alg":"ES256","kid":%q,"typ":"JWT"}`, public.ID)
	keys.all = append(keys.all, signingKey{
		secret: secret, id: public.ID, from: from, head: base64.RawURLEncoding.EncodeToString(head),
	})
	return nil
}

// current is the newest key whose time has come. Where the clock stands before
// all of them it is the oldest: that one is published the longest.
func (keys *signingKeys) current(now time.Time) *signingKey {
	for i := len(keys.all) - 1; i > 0; i-- {
		if !now.Before(keys.all[i].from) {
			return &keys.all[i]
		}
	}
	return &keys.all[0]
}

// Keys are the public keys of all that may be good now, and of what will be
// signed soon.
func (s *Signer) Keys() KeySet { return s.keys.Load().set }

// Sign returns claims, a JSON object, as a signed JWT (RFC 7519) in compact form
// (RFC 7515 section 7.1). It must say itself when it ends: at most SignatureLife
// from now.
func (s *Signer) Sign(claims []byte) (string, error) {
	key := s.keys.Load().current(s.now())
	token := make([]byte, 0, len(key.head)+1+base64.RawURLEncoding.EncodedLen(len(claims))+1+signatureLength)
	token = append(append(token, key.head...), '.')
	token = base64.RawURLEncoding.AppendEncode(token, claims)
	digest := sha256.Sum256(token)
	r, t, err := ecdsa.Sign(rand.Reader, key.secret, digest[:])
	if err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	var signature [64]byte
	r.FillBytes(signature[:32])
	t.FillBytes(signature[32:])
	return string(base64.RawURLEncoding.AppendEncode(append(token, '.'), signature[:])), nil
}

// signatureLength is that of an ES256 signature, encoded.
const signatureLength = 86
