package oidc

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// skew is how far the issuer's clock may be from ours.
const skew = time.Minute

// verify returns the claims of the ID token once everything that OpenID
// Connect Core 3.1.3.7 asks for holds, and what it leaves open: one spelling
// of each claim, an access token that belongs to it, no critical extension,
// no token of another kind.
func (p *party) verify(ctx context.Context, m *metadata, t provider.Tokens, a guest.Attempt) (provider.Claims, error) {
	return p.verifyID(ctx, m, t, func(c provider.Claims) error {
		if err := p.checkNonce(c, a.Nonce); err != nil {
			return err
		}
		return p.checkAnew(c, m, a)
	})
}

// verifyID is verify without the nonce: bound ties the token to what it was
// asked for.
func (p *party) verifyID(ctx context.Context, m *metadata, t provider.Tokens, bound func(provider.Claims) error) (provider.Claims, error) {
	signed, err := p.readSigned(ctx, t.ID, idToken, m.algs)
	if err != nil {
		return nil, err
	}
	err = p.checkClaims(signed.claims)
	if err == nil {
		err = bound(signed.claims)
	}
	if err == nil {
		err = p.checkKeyIssuer(signed)
	}
	if err == nil {
		err = checkAccessToken(signed.claims, signed.alg, t.Access)
	}
	if err != nil {
		return nil, untrusted("checking ID token: %w", err)
	}
	return signed.claims, nil
}

func (p *party) checkClaims(c provider.Claims) error {
	if err := p.checkIssuer(c); err != nil {
		return err
	}
	if err := p.checkAudience(c); err != nil {
		return err
	}
	if err := checkTimes(c, p.env.Now()); err != nil {
		return err
	}
	if isLogout(c) {
		return errors.New("it is a logout token")
	}
	_, err := textID(c, "sub")
	return err
}

// textID is Claims.ID of a claim that must be a string.
func textID(c provider.Claims, name string) (string, error) {
	if raw, ok := c[name]; ok && raw[0] != '"' {
		return "", fmt.Errorf("claim %s is no string", name)
	}
	return c.ID(name)
}

// checkNonce ties the token to this attempt. A brand that drops the nonce is
// left with what is bound to the attempt without it: the state, and a code that
// only our secret turns into a token. It may drop it, not send another's.
func (p *party) checkNonce(c provider.Claims, nonce string) error {
	if _, sent := c["nonce"]; !sent && p.brand.dropsNonce {
		return nil
	}
	// An empty nonce would let any token pass that has an empty one.
	if got := c.Text("nonce"); nonce == "" || subtle.ConstantTimeCompare([]byte(got), []byte(nonce)) != 1 {
		return errors.New("nonce is not ours")
	}
	return nil
}

func (p *party) checkIssuer(c provider.Claims) error {
	got, want := c.Text("iss"), p.settings.endpoints.Issuer
	former := p.brand.formerIssuer != "" && got == p.brand.formerIssuer && want == p.brand.issuer
	if p.isIssuer(got) || former {
		return nil
	}
	return fmt.Errorf("issuer is %s, not %q", provider.Quote(got), want)
}

func (p *party) isIssuer(iss string) bool {
	if p.brand.issues != nil {
		return p.brand.issues(iss)
	}
	return iss == p.settings.endpoints.Issuer
}

// checkAudience wants us in aud. Whom else it names must have been told by us
// to speak for us: then azp is us.
func (p *party) checkAudience(c provider.Claims) error {
	us, _ := p.settings.options.Client()
	audience, err := p.audience(c)
	if err != nil {
		return err
	}
	if c.Has("azp") && c.Text("azp") != us {
		return errors.New("it was issued to another party (azp)")
	}
	others := slices.ContainsFunc(audience, func(s string) bool { return s != us })
	if others && !c.Has("azp") {
		return errors.New("it has a second audience and no azp")
	}
	return nil
}

// audience returns aud, which has us in it.
func (p *party) audience(c provider.Claims) ([]string, error) {
	us, _ := p.settings.options.Client()
	audience, ok := c.Texts("aud")
	if !ok || !slices.Contains(audience, us) {
		return nil, errors.New("it is not for us (aud)")
	}
	return audience, nil
}

func checkTimes(c provider.Claims, now time.Time) error {
	expires, err := c.Time("exp")
	if err != nil {
		return err
	}
	if now.After(expires.Add(skew)) {
		return fmt.Errorf("it expired %s ago: is this server's clock right?", now.Sub(expires).Round(time.Second))
	}
	_, err = checkBegin(c, now)
	return err
}

// checkBegin returns when the token was issued.
func checkBegin(c provider.Claims, now time.Time) (issued time.Time, err error) {
	if issued, err = c.Time("iat"); err != nil {
		return issued, err
	}
	begins := issued
	if c.Has("nbf") {
		if begins, err = c.Time("nbf"); err != nil {
			return issued, err
		}
	}
	for _, t := range []time.Time{issued, begins} {
		if t.After(now.Add(skew)) {
			return issued, fmt.Errorf("it begins in %s: is this server's clock right?", t.Sub(now).Round(time.Second))
		}
	}
	return issued, nil
}

// checkAccessToken compares at_hash, where there is one, with the access
// token that came along (OpenID Connect Core 3.1.3.6).
func checkAccessToken(c provider.Claims, alg, accessToken string) error {
	if !c.Has("at_hash") {
		return nil
	}
	want := leftHalf(alg, accessToken)
	if subtle.ConstantTimeCompare([]byte(c.Text("at_hash")), []byte(want)) != 1 {
		return errors.New("the access token is not the one it was issued with (at_hash)")
	}
	return nil
}

func leftHalf(alg, text string) string {
	var sum []byte
	switch {
	case strings.HasSuffix(alg, "256"):
		h := sha256.Sum256([]byte(text))
		sum = h[:]
	case strings.HasSuffix(alg, "384"):
		h := sha512.Sum384([]byte(text))
		sum = h[:]
	default: // 512, and Ed25519, which hashes with SHA-512 itself
		h := sha512.Sum512([]byte(text))
		sum = h[:]
	}
	return base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2])
}

// profile reads who it is: from the ID token what was signed for this very
// sign-in, from all claims what describes a person.
func (p *party) profile(token, all provider.Claims) (guest.Profile, error) {
	subject, err := p.subject(token, all)
	if err != nil {
		return guest.Profile{}, untrusted("identifying the person: %w", err)
	}
	email, trust := p.address(token, all)
	issued, _ := token.Time("iat")
	return guest.Profile{
		Issuer:       p.identityIssuer(token),
		Subject:      subject,
		Email:        email,
		EmailTrust:   trust,
		Name:         p.displayName(all),
		Picture:      provider.Picture(all.Text("picture")),
		Groups:       p.groups(token, all),
		AuthMethods:  methods(token),
		AuthTime:     p.authTime(token),
		TokenSubject: token.Text("sub"),
		SessionID:    sessionID(token),
		IssuedAt:     issued,
	}, nil
}

func (p *party) subject(token, all provider.Claims) (string, error) {
	switch {
	case p.brand.identify != nil:
		return p.brand.identify(token)
	case p.settings.subject != "":
		return all.ID(p.settings.subject)
	default:
		return token.ID("sub")
	}
}

// identityIssuer is the issuer that identities are kept under. Of many it is
// the token's own, whatever choice of them the operator wrote: who widens or
// narrows it later makes nobody a stranger.
func (p *party) identityIssuer(token provider.Claims) string {
	if p.brand.issues != nil {
		return token.Text("iss")
	}
	return p.settings.endpoints.Issuer
}

// address returns the address and what the issuer's word about it is worth.
// What is no plain address is none.
func (p *party) address(token, all provider.Claims) (string, guest.Trust) {
	s := p.settings
	email := all.Text(s.email)
	domain := provider.Domain(email)
	if domain == "" {
		return "", guest.NoEmail
	}
	proven := s.verified != "" && all.Proven(s.verified)
	if p.brand.proves != nil {
		proven = p.brand.proves(token, email)
	}
	trust := s.options.Trust(email, proven)
	if trust == guest.Verified && s.options.Judges() && p.brand.runsMailbox != nil && p.brand.runsMailbox(token, domain) {
		trust = guest.Authoritative
	}
	return email, trust
}

// displayName takes no preferred_username: at many issuers that is an address
// which nobody has proven, and it would reach the app.
func (p *party) displayName(c provider.Claims) string {
	if p.settings.name != "" {
		return provider.Display(c.Text(p.settings.name))
	}
	if name := provider.Display(c.Text("name")); name != "" {
		return name
	}
	return provider.Display(c.Text("given_name") + " " + c.Text("family_name"))
}

func (p *party) groups(token, all provider.Claims) []string {
	name := p.settings.options.Groups
	if name == "" {
		return nil
	}
	if _, ok := token.Groups(name); !ok {
		all = token // userinfo may repeat only a part of what overflowed
	}
	groups, ok := all.Groups(name)
	if !ok {
		p.env.Log.Warn("groups claim is no complete list of names: taking none",
			"provider", p.settings.options.InstanceName(), "claim", name)
	}
	return groups
}

// methods returns the amr values, for display and policy: at most 20, nothing
// of a malformed list.
func methods(c provider.Claims) []string {
	list, ok := c.Groups("amr")
	if !ok || len(list) > 20 {
		return nil
	}
	return list
}

func sessionID(c provider.Claims) string {
	sid, err := c.ID("sid")
	if err != nil {
		return ""
	}
	return sid
}
