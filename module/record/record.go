// Package record lays values down in a guest.Store: a version byte, then
// JSON. An older program that meets a newer record refuses it clearly instead
// of reading half of it.
package record

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

// Kind is a kind of record: the first part of its keys, and the newest version
// of its layout that this program knows. Versions begin at 1 and rise when an
// older program would misread the record; a new optional field needs no new
// version.
type Kind struct {
	Name    string
	Version byte
}

// Key is the key of one record of this kind.
func (k Kind) Key(parts ...string) []byte {
	key := []byte(k.Name)
	for _, part := range parts {
		key = append(append(key, '/'), part...)
	}
	return key
}

// Get reads the record at key into v. It returns guest.ErrNotFound where there
// is none and guest.ErrNewer where a newer program wrote it.
func (k Kind) Get(tx guest.Tx, key []byte, v any) error {
	raw, err := tx.Get(key)
	if err != nil {
		return fmt.Errorf("reading %s: %w", k.Name, err)
	}
	return k.Decode(raw, v)
}

// Put writes v at key. expires is when the store may forget it (the zero time:
// never); what a rule needs to know of time stands in v.
func (k Kind) Put(tx guest.Tx, key []byte, v any, expires time.Time) error {
	raw, err := k.Encode(v)
	if err != nil {
		return err
	}
	if err := tx.Put(key, raw, expires); err != nil {
		return fmt.Errorf("writing %s: %w", k.Name, err)
	}
	return nil
}

// Encode is the layout of Put.
func (k Kind) Encode(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", k.Name, err)
	}
	return append([]byte{k.Version}, raw...), nil
}

// Decode is the opposite of Encode.
func (k Kind) Decode(raw []byte, v any) error {
	if len(raw) == 0 || raw[0] == 0 {
		return fmt.Errorf("decoding %s: %w", k.Name, errors.New("no version"))
	}
	if raw[0] > k.Version {
		return fmt.Errorf("decoding %s, version %d: %w", k.Name, raw[0], guest.ErrNewer)
	}
	if err := json.Unmarshal(raw[1:], v); err != nil {
		return fmt.Errorf("decoding %s: %w", k.Name, err)
	}
	return nil
}

// Hash names a thing by strings that may hold anything, also the separator of
// keys: SHA-256 over each string and its length.
func Hash(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		h.Write([]byte(part))
	}
	return string(h.Sum(nil))
}
