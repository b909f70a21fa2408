package oauth

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// TakeNative turns the access token that an app of the operator's got into a
// Profile, in at most 10 s. Whoever has an app of their own at the server has
// tokens of its people, and the API answers to them all; so the server is asked
// first whether the token was issued to our own client. Where it can't say, no
// token is taken.
func (p *party) TakeNative(ctx context.Context, n guest.NativeToken) (guest.Profile, error) {
	if n.Kind != guest.AccessToken || p.brand.issuedTo == nil {
		return guest.Profile{}, provider.Fail(guest.Refused, "%s, kind of token %s: %w",
			p.brand.key, provider.Quote(string(n.Kind)), guest.ErrNotNative)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	b := bearer{p, provider.Tokens{Access: string(n.Token)}}
	if !b.fits() {
		return guest.Profile{}, provider.Untrusted("access token of an app is no token")
	}
	subject, tokens, err := p.brand.issuedTo(ctx, b)
	if err != nil {
		return guest.Profile{}, err
	}
	b.tokens = tokens
	kept, err := p.keep(tokens)
	if err != nil {
		return guest.Profile{}, err
	}
	profile, err := p.brand.who(ctx, b)
	if err != nil {
		return guest.Profile{}, err
	}
	if subject != "" && profile.Subject != subject {
		return guest.Profile{}, provider.Untrusted("access token of an app: %w", errAnother)
	}
	profile.Issuer, profile.Tokens = p.at.Issuer, kept
	return profile, nil
}

// maxNative is more than any access token, in bytes.
const maxNative = 8 << 10

// fits reports whether the token can go into a header.
func (b bearer) fits() bool {
	for _, c := range []byte(b.tokens.Access) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return b.tokens.Access != "" && len(b.tokens.Access) <= maxNative
}

// notOurs is the error for a token that was issued to another's client, or that
// the server does not know.
func notOurs(what string) error {
	return provider.Untrusted("%s does not know the access token as one of ours: %w", what, guest.ErrAudience)
}

// ownTokensAlone refuses client IDs of apps: with the secret of one client a
// server tells whether a token was issued to that one, and to no other.
func ownTokensAlone(brand string) error {
	return fmt.Errorf("native_client_ids: %s tells of tokens of its own client_id alone: have the app use that one, and remove the line", brand)
}

// until is when a token expires, by a claim in Unix seconds; zero and absent are
// never.
func until(c provider.Claims, name string) time.Time {
	at, err := c.Time(name)
	if err != nil || at.Unix() == 0 {
		return time.Time{}
	}
	return at
}

// issuedTo introspects the token (RFC 7662). It may name a person in another way
// than the endpoint that tells who they are, so that is left to that one.
func (o *OAuth2) issuedTo(ctx context.Context, b bearer) (string, provider.Tokens, error) {
	id, secret := o.options.Client()
	about, err := provider.Introspection{
		URL: o.at.introspection, ClientID: id, Secret: secret, Basic: o.brand.basic, Token: guest.Secret(b.tokens.Access),
	}.Do(ctx, o.client)
	if err != nil {
		return "", provider.Tokens{}, err
	}
	if about.Text("client_id") != id {
		return "", provider.Tokens{}, notOurs("introspection endpoint")
	}
	subject := ""
	if o.SubjectPath == "sub" {
		subject = about.Text("sub")
	}
	b.tokens.Scope, b.tokens.Expires = about.Text("scope"), until(about, "exp")
	return subject, b.tokens, nil
}

// issuedTo has GitHub check the token. It answers for tokens of the app whose ID
// and secret ask, and for no others.
func (g *GitHub) issuedTo(ctx context.Context, b bearer) (string, provider.Tokens, error) {
	r, err := g.checkRequest(ctx, b.tokens.Access)
	if err != nil {
		return "", provider.Tokens{}, provider.Untrusted("making check request: %w", err)
	}
	answer, err := provider.Ask(g.client, r, "check", maxAnswer)
	if err != nil {
		return "", provider.Tokens{}, err
	}
	if answer.Status == http.StatusNotFound || answer.Status == http.StatusUnprocessableEntity {
		return "", provider.Tokens{}, notOurs("check")
	}
	about, err := read("check", answer)
	if err != nil {
		return "", provider.Tokens{}, err
	}
	if id, _ := g.options.Client(); about.At("app.client_id").Text("app.client_id") != id {
		return "", provider.Tokens{}, notOurs("check")
	}
	subject, err := number(about.At("user.id"), "user.id")
	if err != nil {
		return "", provider.Tokens{}, err
	}
	// It has no scope of a GitHub App's, which goes by permissions.
	if scopes, ok := about.Texts("scopes"); ok {
		b.tokens.Scope = strings.Join(scopes, " ")
	}
	if expires, err := time.Parse(time.RFC3339, about.Text("expires_at")); err == nil {
		b.tokens.Expires = expires
	}
	return subject, b.tokens, nil
}

func (g *GitHub) checkRequest(ctx context.Context, access string) (*http.Request, error) {
	id, secret := g.options.Client()
	body, err := json.Marshal(map[string]string{"access_token": access})
	if err != nil {
		return nil, err
	}
	address := g.at.api + "/applications/" + url.PathEscape(id) + "/token"
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.SetBasicAuth(id, string(secret))
	return r, nil
}

// issuedTo has Facebook debug the token: with our app's own token, which opens
// nothing of another app's.
func (f *Facebook) issuedTo(ctx context.Context, b bearer) (string, provider.Tokens, error) {
	id, secret := f.options.Client()
	app := id + "|" + string(secret)
	// The token has to go into the address: there is no other way. The house's
	// client keeps addresses out of errors.
	query := url.Values{"input_token": {b.tokens.Access}, "appsecret_proof": {f.proof(app)}}
	call := provider.Call{What: "debug_token", Address: f.at.api + "/debug_token?" + query.Encode(), Access: app, Max: maxAnswer}
	answer, err := call.Make(ctx, f.client)
	if err != nil {
		return "", provider.Tokens{}, err
	}
	about, err := debugged(answer, id)
	if err != nil {
		return "", provider.Tokens{}, err
	}
	subject, err := number(about, "user_id")
	if err != nil {
		return "", provider.Tokens{}, err
	}
	b.tokens.Expires = until(about, "expires_at")
	return subject, b.tokens, nil
}

// debugged reads what Facebook says of a token that is good, a person's, and this
// app's. Its code 100 is that the token is another app's, or none.
func debugged(answer provider.Answer, app string) (provider.Claims, error) {
	if said, err := provider.ParseClaims(answer.Body); err == nil && string(said.At("error.code")["error.code"]) == "100" {
		return nil, notOurs("debug_token")
	}
	said, err := read("debug_token", answer)
	if err != nil {
		return nil, err
	}
	about, err := provider.ParseClaims(said["data"])
	if err != nil {
		return nil, provider.Untrusted("reading debug_token: %w", err)
	}
	if id, err := about.ID("app_id"); err != nil || id != app || string(about["is_valid"]) != "true" {
		return nil, notOurs("debug_token")
	}
	if kind := about.Text("type"); kind != "" && kind != "USER" {
		return nil, provider.Untrusted("access token is of the type %s, not of a person", provider.Quote(kind))
	}
	return about, nil
}

func introspectionAddress(to *string) provider.Addresses {
	return provider.Addresses{{Word: "introspection_url", To: to, Check: provider.CheckURL}}
}

var _ guest.NativeTaker = (*party)(nil)
