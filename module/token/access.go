package token

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/seal"
	"github.com/caddy-login/caddy-login/module/session"
)

// AccessLife is how long an access token is good.
const AccessLife = 10 * time.Minute

const (
	// accessType is the type of an access token (RFC 9068 section 2.1).
	accessType = "at+jwt"
	// maxAccess is more than any access token of ours, in bytes.
	maxAccess = 2048
	// setBack is how far our own clock may have been set back since a token was
	// issued. One from further ahead would live longer than it may.
	setBack = time.Minute
)

// Site is where a token is issued or shown.
type Site struct {
	Signer *seal.Signer
	// Origin is the site's address, such as https://app.example.com: issuer and
	// audience.
	Origin string
	// Scope is that of the site's sessions.
	Scope string
}

// Access is an access token.
type Access struct {
	Token guest.Secret
	// Expires is when it does: in AccessLife, or with the session.
	Expires time.Time
}

// claims are an access token on the wire (RFC 9068 section 2.2). It says who and
// nothing about them: the gate reads the session.
type claims struct {
	Issuer   string `json:"iss"`       // the site's origin
	Audience string `json:"aud"`       // that, and more: see audience
	Subject  string `json:"sub"`       // the user's ID
	Session  string `json:"sid"`       // its public handle
	Client   string `json:"client_id"` // the provider that they came in by
	Issued   int64  `json:"iat"`       // in Unix seconds
	Expires  int64  `json:"exp"`       // in Unix seconds
	ID       string `json:"jti"`       // 8 bytes of chance, and their tag: see tagged
}

// Access makes an access token for a live session that Start or Move began.
func (t *Tokens) Access(site Site, s *session.Session) (Access, error) {
	now := t.now()
	expires := now.Add(AccessLife)
	if s.Expires.Before(expires) {
		expires = s.Expires
	}
	c := claims{
		Issuer: site.Origin, Audience: site.audience(), Subject: string(s.User), Session: s.Handle, Client: s.Provider,
		Issued: now.Unix(), Expires: expires.Unix(),
	}
	chance := make([]byte, chanceSize)
	rand.Read(chance)
	c.ID = base64.RawURLEncoding.EncodeToString(append(chance, t.ring.Tag(tagPurpose, c.named(chance))...))
	text, err := json.Marshal(c)
	if err != nil {
		return Access{}, fmt.Errorf("making access token: %w", err)
	}
	signed, err := site.Signer.SignAs(accessType, text)
	if err != nil {
		return Access{}, fmt.Errorf("making access token: %w", err)
	}
	return Access{Token: guest.Secret(signed), Expires: time.Unix(c.Expires, 0)}, nil
}

// audience is whom an access token is for: the gate alone. An app that checks the
// audience of an assertion, which has the same issuer and key, does not take one
// for the other.
func (site *Site) audience() string { return site.Origin + "/.login/api" }

// recognises reports whether a credential is an access token of ours, good or
// not: by its shape, its type and the name of its key, before any cryptography.
// Whatever else says `Bearer` is between a client and the app.
func (site *Site) recognises(credential string) bool {
	head, rest, dotted := strings.Cut(credential, ".")
	if !dotted || len(credential) > maxAccess || strings.Count(rest, ".") != 1 {
		return false
	}
	text, err := base64.RawURLEncoding.DecodeString(head)
	if err != nil {
		return false
	}
	var header struct {
		Type  string `json:"typ"` // may be a media type: RFC 7515 section 4.1.9
		KeyID string `json:"kid"` // the key's thumbprint
	}
	if json.Unmarshal(text, &header) != nil {
		return false
	}
	kind := strings.TrimPrefix(strings.ToLower(header.Type), "application/")
	return kind == accessType && site.Signer.Holds(header.KeyID)
}

// ErrForeign means that a credential is no access token of ours at all.
var ErrForeign = errors.New("the credential is none of ours")

// Read finds the live session of an access token, or ErrInvalid, or ErrForeign.
// Another error means that the store failed. It counts as a use of the session.
//
// A token in use is found without the store and without a look at its signature.
func (t *Tokens) Read(ctx context.Context, site Site, credential string) (*session.AtHand, error) {
	name := nameOf(credential)
	now := t.now()
	if e := t.cache.find(name); e != nil && e.goodAt(now) && e.site == site && t.sessions.Again(e.held) {
		return e.held, nil
	}
	if !site.recognises(credential) {
		return nil, ErrForeign
	}
	c, err := t.check(site, credential, now)
	if err != nil {
		return nil, ErrInvalid
	}
	held, err := t.find(ctx, site, c)
	if err != nil {
		t.cache.forget(name)
		return nil, err
	}
	t.cache.keep(name, &entry{site: site, held: held, issued: c.Issued, expires: c.Expires})
	return held, nil
}

var errForged = errors.New("not of our making")

// check returns the claims of a token that we made for this site and that has
// not expired. What is cheap comes first: a flood of forgeries costs a hash each,
// and no look at their signatures.
func (t *Tokens) check(site Site, token string, now time.Time) (c claims, err error) {
	_, rest, _ := strings.Cut(token, ".")
	encoded, _, _ := strings.Cut(rest, ".")
	text, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return c, errForged
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, errForged
	}
	e := entry{issued: c.Issued, expires: c.Expires}
	if c.Issuer != site.Origin || c.Audience != site.audience() || !e.goodAt(now) || !t.tagged(&c) {
		return c, errForged
	}
	return c, site.Signer.Verify(accessType, token)
}

// find returns the session that a token is of. It must have begun with tokens:
// see session.Sessions.Find.
func (t *Tokens) find(ctx context.Context, site Site, c claims) (*session.AtHand, error) {
	s, err := t.sessions.ByHandle(ctx, c.Session)
	if err == nil {
		err = t.store.View(ctx, func(tx guest.Tx) error {
			return familyKind.Get(tx, familyKey(s.Key), new(family))
		})
	}
	if errors.Is(err, guest.ErrNotFound) {
		return nil, ErrInvalid
	}
	if err != nil {
		return nil, fmt.Errorf("reading session of a token: %w", err)
	}
	held, err := t.sessions.Find(ctx, s.Key)
	switch {
	case errors.Is(err, session.ErrNone):
		return nil, ErrInvalid
	case err != nil:
		return nil, fmt.Errorf("reading session of a token: %w", err)
	}
	if live := held.Live(); string(live.User) != c.Subject || live.Scope != site.Scope {
		return nil, ErrInvalid
	}
	return held, nil
}

const (
	tagPurpose = "access token"
	chanceSize = 8
)

// named is all that a token says, under one name.
func (c *claims) named(chance []byte) string {
	return strings.Join([]string{
		string(chance), c.Issuer, c.Subject, c.Session, c.Client,
		time.Unix(c.Issued, 0).UTC().Format(time.RFC3339), time.Unix(c.Expires, 0).UTC().Format(time.RFC3339),
	}, "\x00")
}

// tagged reports whether the token's ID is one that we gave to a token that says
// this. Keys that sealed before a restore tagged nothing that is good.
func (t *Tokens) tagged(c *claims) bool {
	id, err := base64.RawURLEncoding.Strict().DecodeString(c.ID)
	if err != nil || len(id) <= chanceSize {
		return false
	}
	return t.ring.Tagged(tagPurpose, c.named(id[:chanceSize]), id[chanceSize:])
}
