package module

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/caddy-login/caddy-login/module/challenge"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/page"
	"github.com/caddy-login/caddy-login/module/pending"
	"github.com/caddy-login/caddy-login/module/signin"
)

// What a native app holds in place of cookies is sealed, and of no use to whoever
// finds it: it takes the verifier that only the app has (RFC 7636), or, where the
// app is signed in, its access token.

// bound is one such thing.
type bound struct {
	to    boundTo
	begun time.Time
	// binding is the code challenge; empty: user's access token goes in its
	// place.
	binding string
	user    identity.UserID
	// id is a challenge's, or that of what waits.
	id challenge.ID
	// gist is which question it was (waiting.asks).
	gist string

	// provider, intent and back are those of POST intents.
	provider, intent, back string
}

// boundTo is what it stands for: one is never taken for another.
type boundTo byte

const (
	boundToIntent boundTo = iota + 1
	// boundToChallenge is a code that signs in.
	boundToChallenge
	// boundToQuestion is what waits for a word, or for a code.
	boundToQuestion
)

// encodingOfBound is the version of encode.
const encodingOfBound = 1

// encode is version, kind, begun, id, and each text after its length.
func (b *bound) encode() []byte {
	raw := []byte{encodingOfBound, byte(b.to)}
	raw = binary.BigEndian.AppendUint64(raw, uint64(b.begun.Unix()))
	id, binding := b.id[:], decodeBinding(b.binding)
	if b.id == (challenge.ID{}) {
		id = nil
	}
	for _, text := range []string{string(id), string(binding), string(b.user), b.gist, b.provider, b.intent, b.back} {
		raw = append(append(raw, byte(len(text))), text...)
	}
	return raw
}

var errUnbound = errors.New("a native app is given nothing that whoever has it could use")

var errBound = errors.New("not of our making")

// decodeBound takes nothing but what encode makes, whoever sealed it.
func decodeBound(raw []byte) (*bound, error) {
	if len(raw) < 10 || raw[0] != encodingOfBound {
		return nil, errBound
	}
	b := &bound{to: boundTo(raw[1]), begun: time.Unix(int64(binary.BigEndian.Uint64(raw[2:])), 0)}
	var id, binding, user string
	rest := raw[10:]
	for _, text := range []*string{&id, &binding, &user, &b.gist, &b.provider, &b.intent, &b.back} {
		if len(rest) == 0 || len(rest) < 1+int(rest[0]) {
			return nil, errBound
		}
		n := 1 + int(rest[0])
		*text, rest = string(rest[1:n]), rest[n:]
	}
	copy(b.id[:], id)
	b.user = identity.UserID(user)
	b.binding = base64.RawURLEncoding.EncodeToString([]byte(binding))
	if !bytes.Equal(b.encode(), raw) {
		return nil, errBound // there is one spelling of each
	}
	return b, nil
}

// longestBack is how long an app's address may be: it is carried in a cookie.
const longestBack = 160

// purposeOfBound is of one site, by its scheme, too: what began by https is not
// answered with tokens in the clear.
func purposeOfBound(v *visit) string { return "native\x00" + v.scope + "\x00" + v.origin.String() }

// sealBound makes what the app gets: letters, digits, '-' and '_', so that it
// needs no escape wherever it stands.
func (p *portal) sealBound(v *visit, b *bound) (string, error) {
	if b.binding == "" && b.user == "" {
		return "", errUnbound
	}
	b.begun = p.gate.now().Truncate(time.Second)
	sealed, err := v.house.ring.Seal(purposeOfBound(v), b.encode())
	return strings.TrimRight(sealed, "="), err
}

// openBound reads what sealBound made at this site. What is stored has an end of
// its own; an intent ends here.
func (p *portal) openBound(v *visit, to boundTo, text string) (*bound, error) {
	if strings.Contains(text, "=") || len(text) > 4<<10 {
		return nil, errBound
	}
	raw, err := v.house.ring.Open(purposeOfBound(v), text+strings.Repeat("=", (4-len(text)%4)%4))
	if err != nil {
		return nil, errBound
	}
	b, err := decodeBound(raw)
	if err != nil {
		return nil, err
	}
	age := p.gate.now().Sub(b.begun)
	if age < -time.Minute || to == boundToIntent && age > signin.Life {
		return nil, errBound
	}
	return b, nil
}

// decodeBinding is the hash that a code challenge is, nil for what is none. There
// is one spelling of each.
func decodeBinding(text string) []byte {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != sha256.Size || base64.RawURLEncoding.EncodeToString(raw) != text {
		return nil
	}
	return raw
}

// isVerifier reports whether a text may be a code verifier (RFC 7636 section
// 4.1).
func isVerifier(text string) bool {
	const unreserved = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~"
	return len(text) >= 43 && len(text) <= 128 && strings.Trim(text, unreserved) == ""
}

// isHeldBy reports whether a call proves to come from whom it was given to.
func (b *bound) isHeldBy(v *visit, verifier string) bool {
	if b.binding == "" {
		return b.user != "" && v.bearer != "" && v.user() == b.user
	}
	hash := sha256.Sum256([]byte(verifier))
	return isVerifier(verifier) && subtle.ConstantTimeCompare(hash[:], decodeBinding(b.binding)) == 1
}

// goNative has a call be a native app's: whatever cookies came with it are
// nobody's.
func (c *apiCall) goNative(v *visit) {
	c.native = true
	v.pending = nil
	if v.bearer == "" {
		v.is(nil)
	}
	v.held = v.hand // what another sign-in replaces
}

// bind takes the code challenge of a call, if there is one. Where it is none, it
// answers.
func (c *apiCall) bind(w http.ResponseWriter, r *http.Request, v *visit, binding, method string) bool {
	if c.native {
		c.goNative(v)
	}
	if binding == "" && method == "" {
		return true
	}
	if method != "" && method != "S256" || decodeBinding(binding) == nil {
		_ = c.fail(w, r, http.StatusBadRequest, "bad_request", "A code_challenge is the SHA-256 of its verifier, in 43 characters of base64url; the method is S256.")
		return false
	}
	c.goNative(v)
	c.binding = binding
	return true
}

// isBound reports whether this call can be given something that only its client
// can use.
func (c *apiCall) isBound(v *visit) bool { return c.binding != "" || v.bearer != "" && v.user() != "" }

// bindingOf is how something is bound to the client of this call.
func (c *apiCall) bindingOf(v *visit, b bound) *bound {
	b.binding = c.binding
	if c.binding == "" {
		b.user = v.user()
	}
	return &b
}

// nameOf names a challenge to whom it is for.
func (c *apiCall) nameOf(v *visit, claim challenge.Claim) (string, error) {
	switch {
	case !c.native:
		return markOf(claim.ID), nil
	case claim.Purpose == challenge.Login:
		return c.sealBound(v, c.bindingOf(v, bound{to: boundToChallenge, id: claim.ID}))
	default:
		return c.sealBound(v, c.bindingOf(v, bound{to: boundToQuestion, id: challenge.ID(c.waitsID)}))
	}
}

// nameOfQuestion names a question to whom it is for.
func (c *apiCall) nameOfQuestion(v *visit, waits *waiting, d identity.Decision) (string, error) {
	ask := waits.asks(d, v.user())
	if !c.native {
		return ask, nil
	}
	_, gist, _ := strings.Cut(ask, ".")
	return c.sealBound(v, c.bindingOf(v, bound{to: boundToQuestion, id: challenge.ID(waits.id), gist: gist}))
}

// hold opens what a native app brings; nil for a browser, which has cookies.
// Where the app can't use it, it answers: as for something that has expired.
func (c *apiCall) hold(w http.ResponseWriter, r *http.Request, v *visit, to boundTo, text, verifier string) (b *bound, ok bool) {
	if !c.native && verifier == "" {
		if len(text) < 64 {
			return nil, true
		}
		_ = c.fail(w, r, http.StatusBadRequest, "bad_request", "Bring the code_verifier.")
		return nil, false
	}
	c.goNative(v)
	b, err := c.openBound(v, to, text)
	fits := err == nil && b.isHeldBy(v, verifier) && (b.to == to || to == boundToChallenge && b.to == boundToQuestion)
	switch {
	case fits && b.to == boundToQuestion:
		c.waitsID, c.binding = pending.ID(b.id), b.binding
		b.id = challenge.ID{}
	case fits:
		c.binding = b.binding
	case to == boundToQuestion:
		_ = c.outdated(w, r, v, "/") // it has answered
	case to == boundToIntent:
		_ = c.deny(w, r, string(page.ChallengeExpired))
	default:
		_ = c.portal.trouble(w, r, v, c.codeOver(challenge.ErrExpired, ""))
	}
	return b, fits
}
