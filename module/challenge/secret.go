package challenge

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode"

	"github.com/caddy-login/caddy-login/module/guest"
)

const tagPurpose = "challenge code"

// handle names a challenge to all but the asking browser: in the store and in
// the link. It gives no right to anything.
type handle [16]byte

func (id ID) handle() (h handle) {
	copy(h[:], mac(id[:], "handle"))
	return h
}

// secret is the link's. Code and numbers come from it, so that whoever has the
// link can be shown them while the store holds none of them.
type secret [32]byte

func newSecret() (s secret) {
	rand.Read(s[:])
	return s
}

// masked is the secret as only the asking browser's id uncovers it; masking
// twice uncovers. An id has one secret: the mask is used once.
func (s secret) masked(id ID) []byte {
	var masked secret
	subtle.XORBytes(masked[:], s[:], mac(id[:], "mask"))
	return masked[:]
}

// code has length decimal digits, each as likely as any other within 1 in 10⁹:
// 2⁶⁴ is no multiple of 10¹⁰.
func (s secret) code(length int) string {
	return fmt.Sprintf("%0*d", length, s.below("code", uint64(math.Pow10(length))))
}

// number is the one of the choices that the first screen shows.
func (s secret) number() int { return s.numbers()[0] }

// choices are three numbers, one of them the right one. They are the same each
// time, lest the one that stays be told from those that change; and sorted,
// lest its place tell it.
func (s secret) choices() []int {
	numbers := s.numbers()
	slices.Sort(numbers)
	return numbers
}

func (s secret) numbers() []int {
	var numbers []int
	for i := 0; len(numbers) < 3; i++ {
		n := 10 + int(s.below(fmt.Sprint("number ", i), 90))
		if !slices.Contains(numbers, n) {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

func (s secret) below(what string, n uint64) uint64 {
	return binary.BigEndian.Uint64(mac(s[:], what)) % n
}

func mac(key []byte, what string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(what))
	return h.Sum(nil)
}

// link is what the mailed link leads to.
type link struct {
	handle handle
	secret secret
}

// text is 64 characters, safe in a path.
func (l link) text() guest.Secret {
	return guest.Secret(base64.RawURLEncoding.EncodeToString(slices.Concat(l.handle[:], l.secret[:])))
}

func parseLink(text guest.Secret) (l link, ok bool) {
	raw, ok := decode(string(text), len(l.handle)+len(l.secret))
	if !ok {
		return l, false
	}
	copy(l.handle[:], raw)
	copy(l.secret[:], raw[len(l.handle):])
	return l, true
}

// opens reports whether l is the link of s, in constant time.
func (l link) opens(s *stored) bool {
	hash := sha256.Sum256(l.secret[:])
	return subtle.ConstantTimeCompare(hash[:], s.LinkHash) == 1
}

// decode takes n bytes in their one spelling: no padding, no line breaks, no
// other trailing bits.
func decode(s string, n int) (raw []byte, ok bool) {
	if len(s) != base64.RawURLEncoding.EncodedLen(n) || strings.ContainsAny(s, "\r\n") {
		return nil, false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return raw, err == nil && len(raw) == n
}

// maxTyped bounds what is read of a form, in bytes.
const maxTyped = 128

// zeros begin the runs of ten digits that keyboards and full-width input
// produce besides ASCII's.
var zeros = []rune{'0', '０', '٠', '۰', '०'}

// normalise makes ASCII digits of what a person typed or pasted: spaces, dashes
// and the marks of writing direction that a right-to-left page adds go.
func normalise(typed string) (code string, ok bool) {
	if len(typed) > maxTyped {
		return "", false
	}
	var digits strings.Builder
	for _, r := range typed {
		if unicode.In(r, unicode.White_Space, unicode.Pd, unicode.Cf) || r == '−' {
			continue
		}
		i := slices.IndexFunc(zeros, func(zero rune) bool { return zero <= r && r < zero+10 })
		if i < 0 {
			return "", false
		}
		digits.WriteByte('0' + byte(r-zeros[i]))
	}
	return digits.String(), digits.Len() >= 6 && digits.Len() <= 10
}
