package module

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-login/caddy-login/module/header"
	"github.com/caddy-login/caddy-login/module/page"
	"github.com/caddy-login/caddy-login/module/seal"
	"github.com/caddy-login/caddy-login/module/session"
)

// assertion is what the app is told of somebody at one origin, with a signature
// that expires. Times are in Unix nanoseconds.
type assertion struct {
	origin *origin
	// block holds the access token, where the app is told one; bare does not.
	block, bare header.Block

	// others are those for further origins of the same site; each of them has none.
	others []*assertion

	issued, until int64
	// renew is when the next one is to be made: once this is half spent.
	renew int64
}

// goodAt reports whether the assertion may go out. One from the future is none:
// the clock was set right since, and it would live longer than it may. One that was
// made while this request was under way is no such one.
func (a *assertion) goodAt(now int64) bool {
	return a != nil && a.issued-int64(time.Second) <= now && now < a.until
}

func (a *assertion) freshAt(now int64) bool { return a.goodAt(now) && now < a.renew }

// mostOrigins bounds the assertions that are kept of one session. It has one
// origin, unless its cookie is shared among the hosts of one site.
const mostOrigins = 4

// told is the assertion at hand for an origin, or nil.
func (k *known) told(o *origin) *assertion {
	newest := k.said.Load()
	if newest == nil || newest.origin.is(o) {
		return newest
	}
	for _, a := range newest.others {
		if a.origin.is(o) {
			return a
		}
	}
	return nil
}

// besides are the assertions for other origins than o, this one's others too. It
// is nil where there are none: nearly every session has one origin.
func (a *assertion) besides(o *origin) (others []*assertion) {
	if a == nil {
		return nil
	}
	if !a.origin.is(o) {
		alone := *a
		alone.others = nil
		others = append(others, &alone)
	}
	for _, other := range a.others {
		if !other.origin.is(o) && len(others) < mostOrigins-1 {
			others = append(others, other)
		}
	}
	return others
}

// assertion is one that is good. Whoever comes first once it is half spent makes
// the next one, and the others go on with the old; with none they wait.
func (k *known) assertion(v *visit) (*assertion, error) {
	at := v.at
	a := k.told(v.origin)
	switch {
	case a.freshAt(at):
		return a, nil
	case !a.goodAt(at):
		k.signing.Lock()
	case !k.signing.TryLock():
		return a, nil
	}
	defer k.signing.Unlock()
	if a := k.told(v.origin); a.freshAt(at) {
		return a, nil
	}
	return k.assert(v)
}

// assert makes an assertion and keeps it at hand. signing is held.
func (k *known) assert(v *visit) (*assertion, error) {
	now := time.Unix(0, v.at)
	expires := now.Add(seal.SignatureLife)
	renew := now.Add(seal.SignatureLife / 2)
	// Nothing is won by another one that ends with the session, too.
	live := k.hand.Live()
	if end := live.Expires; end.Before(expires) {
		expires, renew = end, end
	}
	claims, err := k.claims(live, v.origin, now, expires)
	if err != nil {
		return nil, err
	}
	token, err := v.signer().Sign(claims)
	if err != nil {
		return nil, err
	}
	a := &assertion{origin: v.origin, issued: now.UnixNano(), until: expires.UnixNano(), renew: renew.UnixNano()}
	block, bare := k.blocks(live)
	a.block = k.gate.withToken(block, token)
	if a.bare = a.block; k.tokenUntil != 0 {
		a.bare = k.gate.withToken(bare, token)
	}
	a.others = k.said.Load().besides(v.origin)
	k.said.Store(a)
	return a, nil
}

func (k *known) claims(live *session.Live, o *origin, issued, expires time.Time) ([]byte, error) {
	user := &live.Person.User
	a := header.Assertion{
		Origin: o.String(), Subject: k.visitor.UserID, Email: k.visitor.Email, Name: user.Name, Picture: user.Picture,
		Groups: k.visitor.Groups, Roles: k.visitor.Roles, Methods: live.AuthMethods, AuthTime: live.AuthTime,
		Session: live.Handle, Provider: live.Provider, Issued: issued, Expires: expires,
	}
	return a.Claims()
}

// withToken is a block with the assertion in each header that carries it.
func (g *Gate) withToken(block header.Block, token string) header.Block {
	for _, f := range g.fields {
		if f.kind == signed {
			block = block.With(header.Field{Name: f.name, Value: token})
		}
	}
	return block
}

// signer is the operator's, or the store's.
func (v *visit) signer() *seal.Signer { return cmp.Or(v.gate.app.signer, v.house.signer) }

// keys shows the public keys of the assertion (RFC 7517), to everybody and to
// pages of any origin. A new one stands there for two hours before it signs; so
// what was kept for five minutes is never too old.
//
// They are plain JSON to HTTP, as those of every large provider: there are
// verifiers that have met nothing else, and none needs the type of their own.
func (p *portal) keys(w http.ResponseWriter, r *http.Request, v *visit) error {
	if !allows(w, r, http.MethodGet, http.MethodHead) {
		return p.trouble(w, r, v, trouble{kind: page.MethodNotAllowed})
	}
	house, err := p.gate.app.door.enter()
	if err != nil {
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, fmt.Errorf("reading keys: %w", err)))
	}
	set := cmp.Or(p.gate.app.signer, house.signer).Keys()
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "public, max-age=300")
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("ETag", `"`+set.Fingerprint+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(set.JSON))
	return nil
}

// CheckSigningKey refuses what is no private key for ES256.
func CheckSigningKey(pem string) error {
	if _, err := seal.SignerOf(pem, time.Now); err != nil {
		return fmt.Errorf("signing_key: %w", err)
	}
	return nil
}

// useKey takes the operator's own signing key, if there is one.
func (a *App) useKey() error {
	if a.SigningKey == "" {
		return nil
	}
	// The text itself stays out of the error: it may be a secret with braces.
	text, err := caddy.NewReplacer().ReplaceOrErr(a.SigningKey, true, true)
	if err != nil {
		return errors.New("signing_key is empty: make the file in {file.…} readable to Caddy, or set the variable in {env.…}")
	}
	if a.signer, err = seal.SignerOf(text, time.Now); err != nil {
		return fmt.Errorf("signing_key: %w", err)
	}
	return nil
}
