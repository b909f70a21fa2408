package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

// storedRest is the record of the key for what lies in the store. It never
// rotates: what it seals may be needed years later. A backup of the store holds
// it too; what it guards against is a value that is carried to another record,
// a log, or a dump of single records.
type storedRest struct {
	// Secret is 32 bytes of chance.
	Secret []byte `json:"secret"`
}

// loadRest reads that key, or makes it.
func loadRest(tx guest.Tx) (stored storedRest, err error) {
	err = kind.Get(tx, kind.Key("rest"), &stored)
	if !errors.Is(err, guest.ErrNotFound) {
		return stored, err
	}
	stored.Secret = make([]byte, 32)
	rand.Read(stored.Secret)
	return stored, kind.Put(tx, kind.Key("rest"), stored, time.Time{})
}

func (s *storedRest) aead() (cipher.AEAD, error) {
	block, err := aes.NewCipher(s.Secret)
	if err != nil || len(s.Secret) != 32 {
		return nil, fmt.Errorf("reading key: secret of %d bytes, not 32", len(s.Secret))
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// SealAtRest encrypts and authenticates plain for the store. purpose names the
// one record that it is for: elsewhere it does not open.
func (r *Ring) SealAtRest(purpose string, plain []byte) []byte {
	return r.keys.Load().rest.Seal(nil, nil, plain, []byte(purpose))
}

// OpenAtRest returns what SealAtRest sealed for this purpose, or ErrSeal.
func (r *Ring) OpenAtRest(purpose string, sealed []byte) ([]byte, error) {
	plain, err := r.keys.Load().rest.Open(nil, nil, sealed, []byte(purpose))
	if err != nil {
		return nil, ErrSeal
	}
	return plain, nil
}
