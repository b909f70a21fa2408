// Package seal holds the keys: it seals what browsers carry for us, and signs
// what must come back unchanged. Keys are made on first start, kept in the
// store, and rotated; the one before the current one still opens. Another one,
// for what lies in the store itself, stays.
package seal

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/securecookie"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/record"
)

// ErrSeal is returned for everything that Open does not accept. It does not
// tell what was wrong: that would help who guesses.
var ErrSeal = errors.New("not sealed by us")

// Ring is the current key and the one before it. It is safe for concurrent
// use.
type Ring struct {
	store guest.Store
	now   func() time.Time
	// turning is held from reading the keys to using them: what is used is what
	// was read last.
	turning sync.Mutex
	keys    atomic.Pointer[keys]
}

type keys struct {
	current, previous *key
	rest              cipher.AEAD
}

// key is one root secret and what is derived from it.
type key struct {
	made   time.Time
	mac    []byte
	sealer *securecookie.SecureCookie
}

// storedKeys is the record. The secrets lie in the operator's own database,
// whose directory nobody else may read.
type storedKeys struct {
	// Current seals and opens.
	Current storedKey `json:"current"`
	// Previous only opens; nil before the first rotation.
	Previous *storedKey `json:"previous,omitempty"`
}

type storedKey struct {
	// Secret is 32 bytes of chance, from which the keys are derived.
	Secret []byte `json:"secret"`
	// Made is when: the key rotates by its age.
	Made time.Time `json:"made"`
}

var kind = record.Kind{Name: "keys", Version: 1}

// Load reads the keys from the store and makes them where there are none.
func Load(ctx context.Context, store guest.Store, now func() time.Time) (*Ring, error) {
	r := &Ring{store: store, now: now}
	if err := r.Reload(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

// Reload reads the keys anew: for when others were put into the store, as a
// restored backup does. Where it fails, the keys at hand stay.
func (r *Ring) Reload(ctx context.Context) error { return r.Rotate(ctx, 0) }

// Rotate makes a new current key where the current one is older than after (0:
// never). What was sealed with the key before it still opens, and nothing
// older: after must be no less than the life of the longest-lived thing
// sealed, so that rotating signs nobody out.
func (r *Ring) Rotate(ctx context.Context, after time.Duration) error {
	r.turning.Lock()
	defer r.turning.Unlock()
	var stored storedKeys
	var rest storedRest
	err := r.store.Update(ctx, func(tx guest.Tx) (err error) {
		stored = storedKeys{}
		if rest, err = loadRest(tx); err != nil {
			return err
		}
		err = kind.Get(tx, kind.Key("seal"), &stored)
		if err != nil && !errors.Is(err, guest.ErrNotFound) {
			return err
		}
		if err == nil && (after == 0 || r.now().Sub(stored.Current.Made) <= after) {
			return nil
		}
		return turn(tx, &stored, r.now())
	})
	if err != nil {
		return fmt.Errorf("loading keys: %w", err)
	}
	return r.use(stored, rest)
}

// Renew replaces what seals for browsers by a new key with none before it:
// what was sealed or tagged until then opens nowhere any more. The key for what
// lies in the store stays. A Ring that is open on the store has to Reload.
func Renew(ctx context.Context, store guest.Store, now func() time.Time) error {
	err := store.Update(ctx, func(tx guest.Tx) error {
		return turn(tx, new(storedKeys), now())
	})
	if err != nil {
		return fmt.Errorf("renewing keys: %w", err)
	}
	return nil
}

func turn(tx guest.Tx, stored *storedKeys, now time.Time) error {
	if stored.Current.Secret != nil {
		previous := stored.Current
		stored.Previous = &previous
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	stored.Current = storedKey{Secret: secret, Made: now.UTC()}
	return kind.Put(tx, kind.Key("seal"), stored, time.Time{})
}

func (r *Ring) use(stored storedKeys, rest storedRest) (err error) {
	next := new(keys)
	if next.current, err = derive(stored.Current); err != nil {
		return err
	}
	if stored.Previous != nil {
		if next.previous, err = derive(*stored.Previous); err != nil {
			return err
		}
	}
	if next.rest, err = rest.aead(); err != nil {
		return err
	}
	r.keys.Store(next)
	return nil
}

func derive(stored storedKey) (*key, error) {
	if len(stored.Secret) != 32 {
		return nil, fmt.Errorf("deriving keys: secret of %d bytes, not 32", len(stored.Secret))
	}
	material, err := hkdf.Key(sha256.New, stored.Secret, nil, "caddy-login v1", 96)
	if err != nil {
		return nil, fmt.Errorf("deriving keys: %w", err)
	}
	// No MaxAge: what is sealed says itself when it ends, by our clock.
	sealer := securecookie.New(material[:32], material[32:64]).
		MaxAge(0).MaxLength(0).SetSerializer(securecookie.NopEncoder{})
	return &key{made: stored.Made, mac: material[64:], sealer: sealer}, nil
}

// Seal encrypts and authenticates plain for one purpose. What it returns is
// safe as a cookie value and in a URL: 1.8 times as long as plain, and some 90
// bytes.
func (r *Ring) Seal(purpose string, plain []byte) (string, error) {
	// The library encrypts in place: the caller keeps its bytes.
	sealed, err := r.keys.Load().current.sealer.Encode(purpose, bytes.Clone(plain))
	if err != nil {
		return "", fmt.Errorf("sealing for %s: %w", purpose, err)
	}
	return sealed, nil
}

// Open returns what was sealed for this purpose, or ErrSeal. Each sealed value
// has exactly one spelling that opens.
func (r *Ring) Open(purpose, sealed string) ([]byte, error) {
	if !canonical(sealed) {
		return nil, ErrSeal
	}
	keys := r.keys.Load()
	var plain []byte
	if keys.current.sealer.Decode(purpose, sealed, &plain) == nil {
		return plain, nil
	}
	if keys.previous != nil && keys.previous.sealer.Decode(purpose, sealed, &plain) == nil {
		return plain, nil
	}
	return nil, ErrSeal
}

// canonical refuses the spellings that base64 decoders take for the same
// bytes: other trailing bits, line breaks, missing padding.
func canonical(sealed string) bool {
	raw, err := base64.URLEncoding.Strict().DecodeString(sealed)
	return err == nil && base64.URLEncoding.EncodeToString(raw) == sealed
}

// Tag authenticates name for one purpose: 16 bytes.
func (r *Ring) Tag(purpose, name string) []byte {
	return mac(r.keys.Load().current, purpose, name)[:16]
}

// Tagged reports whether tag authenticates name, in constant time.
func (r *Ring) Tagged(purpose, name string, tag []byte) bool {
	keys := r.keys.Load()
	ok := hmac.Equal(mac(keys.current, purpose, name)[:16], tag)
	if keys.previous != nil {
		ok = hmac.Equal(mac(keys.previous, purpose, name)[:16], tag) || ok
	}
	return ok
}

func mac(k *key, purpose, name string) []byte {
	h := hmac.New(sha256.New, k.mac)
	h.Write([]byte(purpose))
	h.Write([]byte{0})
	h.Write([]byte(name))
	return h.Sum(nil)
}
