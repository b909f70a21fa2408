package oidc

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// nativeAge is how long ago an app's ID token may have been issued.
const nativeAge = 10 * time.Minute

// TakeNative turns what an app got from the issuer's SDK into a Profile, in at
// most 10 s: an ID token that was issued to us or to one of native_client_ids, or
// an access token of which the issuer itself says so (RFC 7662).
//
// It is read as the ID token of the code flow is, with the same rules for
// accounts and addresses.
func (p *party) TakeNative(ctx context.Context, n guest.NativeToken) (guest.Profile, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	switch {
	case slices.Contains(p.brand.lacks, "native_client_ids"):
		return guest.Profile{}, notNative("%s", p.brand.key)
	case p.settings.options.Revalidate != 0:
		return guest.Profile{}, notNative("revalidate needs a refresh token, which apps keep to themselves: remove it")
	}
	m, err := p.metadata.value(ctx)
	if err != nil {
		return guest.Profile{}, err
	}
	switch n.Kind {
	case guest.IDToken:
		return p.nativeID(ctx, m, n)
	case guest.AccessToken:
		return p.nativeAccess(ctx, m, n)
	default:
		return guest.Profile{}, notNative("kind of token %s", provider.Quote(string(n.Kind)))
	}
}

// natives are the kinds of tokens that are taken from apps. That a document of
// discovery names an introspection endpoint is not known here.
func (p *party) natives() []guest.NativeKind {
	switch {
	case slices.Contains(p.brand.lacks, "native_client_ids"), p.settings.options.Revalidate != 0:
		return nil
	case p.brand.introspection != "" && p.brand.identify == nil && p.brand.issues == nil:
		return []guest.NativeKind{guest.IDToken, guest.AccessToken}
	default:
		return []guest.NativeKind{guest.IDToken}
	}
}

// notNative is a Failure that wraps guest.ErrNotNative.
func notNative(format string, args ...any) error {
	return failure(guest.Refused, format+": %w", append(args, guest.ErrNotNative)...)
}

// nativeID takes an ID token. No code binds it to us, and no browser: the
// audience, the nonce and its age have to.
func (p *party) nativeID(ctx context.Context, m *metadata, n guest.NativeToken) (guest.Profile, error) {
	signed, err := p.readSigned(ctx, string(n.Token), idToken, m.algs)
	if err != nil {
		return guest.Profile{}, err
	}
	if err := p.checkNative(signed, n); err != nil {
		return guest.Profile{}, untrusted("checking ID token of an app: %w", err)
	}
	if err := p.admitted(signed.claims); err != nil {
		return guest.Profile{}, err
	}
	profile, err := p.profile(signed.claims, signed.claims)
	if err == nil && p.hints(m, string(n.Token)) {
		profile.IDToken = n.Token
	}
	return profile, err
}

func (p *party) checkNative(s signed, n guest.NativeToken) error {
	now := p.env.Now()
	if err := p.checkIssuer(s.claims); err != nil {
		return err
	}
	if err := p.checkNativeAudience(s.claims); err != nil {
		return err
	}
	if err := checkTimes(s.claims, now); err != nil {
		return err
	}
	if err := checkAge(s.claims, now, cmp.Or(n.MaxAge, nativeAge)); err != nil {
		return err
	}
	if isLogout(s.claims) {
		return errors.New("it is a logout token")
	}
	if _, err := textID(s.claims, "sub"); err != nil {
		return err
	}
	if err := p.checkNativeNonce(s.claims, n.Nonce); err != nil {
		return err
	}
	return p.checkKeyIssuer(s)
}

// checkNativeAudience wants clients of ours in aud, and nobody else, and one of
// them in azp, where there is one: Google's SDKs have the site's client in aud,
// and the app's in azp.
func (p *party) checkNativeAudience(c provider.Claims) error {
	audience, ok := c.Texts("aud")
	foreign := func(client string) bool { return !p.isClient(client) }
	if !ok || len(audience) == 0 || slices.ContainsFunc(audience, foreign) {
		return fmt.Errorf("aud: %w", guest.ErrAudience)
	}
	if c.Has("azp") && foreign(c.Text("azp")) {
		return fmt.Errorf("azp: %w", guest.ErrAudience)
	}
	return nil
}

// isClient reports whether a client ID is ours, or one of an app of ours.
func (p *party) isClient(id string) bool {
	us, _ := p.settings.options.Client()
	return id != "" && (id == us || slices.Contains(p.settings.options.NativeClients(), id))
}

func checkAge(c provider.Claims, now time.Time, most time.Duration) error {
	issued, err := c.Time("iat")
	if err != nil {
		return err
	}
	if age := now.Sub(issued); age > most {
		return fmt.Errorf("it was issued %s ago: have the app sign in anew", age.Round(time.Second))
	}
	return nil
}

// checkNativeNonce wants the nonce, or its SHA-256 in hex: that is what apps
// commonly give to Apple's SDK and to others, and keep the nonce itself. Either
// shows that the token was made after the nonce was.
//
// Where none was issued, a token for the site's own client must have none: with
// one it is of a sign-in in a browser, where it may have been seen as the hint of
// a sign-out. What an SDK puts into the tokens of apps is its own affair.
func (p *party) checkNativeNonce(c provider.Claims, nonce string) error {
	if nonce == "" {
		if _, err := p.audience(c); err == nil && c.Has("nonce") {
			return guest.ErrNonce
		}
		return nil
	}
	digest := sha256.Sum256([]byte(nonce))
	if got := guest.Secret(c.Text("nonce")); !got.Is(nonce) && !got.Is(hex.EncodeToString(digest[:])) {
		return guest.ErrNonce
	}
	return nil
}

// nativeAccess takes an access token. Asking userinfo whose it is would not do:
// it answers for tokens of every client. So the issuer is asked first whom it
// issued the token to.
//
// What identifies people at some brands stands in their ID tokens alone.
func (p *party) nativeAccess(ctx context.Context, m *metadata, n guest.NativeToken) (guest.Profile, error) {
	switch {
	case m.introspectionURL == "":
		return guest.Profile{}, notNative("%s does not say whom an access token was issued to", p.brand.key)
	case m.userinfoURL == "" || p.brand.identify != nil || p.brand.issues != nil:
		return guest.Profile{}, notNative("%s says who somebody is in ID tokens alone", p.brand.key)
	}
	about, err := p.introspect(ctx, m, n.Token)
	if err != nil {
		return guest.Profile{}, err
	}
	info, err := p.userinfo(ctx, m.userinfoURL, string(n.Token))
	if err != nil {
		return guest.Profile{}, err
	}
	if _, err := textID(info, "sub"); err != nil {
		return guest.Profile{}, untrusted("reading userinfo: %w", err)
	}
	if about.Has("sub") && about.Text("sub") != info.Text("sub") {
		return guest.Profile{}, untrusted("userinfo speaks of another sub than the introspection")
	}
	if err := p.admitted(info); err != nil {
		return guest.Profile{}, err
	}
	return p.profile(info, info)
}

// introspect asks the issuer about an access token, as the client that we are,
// and believes in it only what was issued to a client of ours.
func (p *party) introspect(ctx context.Context, m *metadata, access guest.Secret) (provider.Claims, error) {
	us, err := p.credentials(m, m.introspectionURL)
	if err != nil {
		return nil, err
	}
	about, err := provider.Introspection{
		URL: m.introspectionURL, ClientID: us.id, Secret: us.secret, Basic: m.basicAuth, Assertion: us.assertion, Token: access,
	}.Do(ctx, p.client)
	switch {
	case err != nil:
		return nil, err
	case about.Has("iss") && p.checkIssuer(about) != nil:
		return nil, untrusted("introspection speaks of another issuer")
	case !p.isClient(about.Text("client_id")):
		return nil, untrusted("introspecting access token of an app: client_id: %w", guest.ErrAudience)
	}
	return about, nil
}

// introspectionURL goes by the document, else by what is known of the brand.
func (p *party) introspectionURL(doc provider.Claims, tokenURL string) string {
	address := p.dispensable(doc, "introspection_endpoint", "", &p.oddIntrospection)
	if address == "" && p.brand.introspection != "" {
		return provider.Beside(tokenURL, p.brand.introspection)
	}
	return address
}

var _ guest.NativeTaker = (*party)(nil)
