package oauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// maxAnswer is what an API may answer at most, in bytes after decompression:
// 100 of GitHub's teams have about 350 KiB.
const maxAnswer = 1 << 20

// brand is what one kind of server is. Zero fields mean nothing special.
type brand struct {
	key      string // selects the button: guest.Traits.Brand
	defaults provider.Defaults

	// basic has the client secret sent in the header, not in the form.
	basic bool

	// scopes are asked for where the operator writes none; needed are asked for
	// in any case, unless one that includes them is: see covers.
	scopes []string
	needed []string

	// offline is asked for where tokens are kept: without it the server issues
	// no refresh token.
	offline []string

	// refusesPKCE is set where the server knows no code_verifier.
	refusesPKCE bool

	// chooser is what has a person choose an account, or look twice which it is.
	chooser url.Values

	// anew is what has a person prove anew who they are. Zero: the chooser, which
	// shows at least who is about to come back.
	anew url.Values

	// revocation is where the revocation endpoint is, seen from the token
	// endpoint. Empty: there is none.
	revocation string

	// issuedTo asks whom an access token was issued to, and refuses one that was
	// not issued to us. It returns who it is for, empty where the server does not
	// say, and what it says of the token itself. nil: there is nobody to ask.
	issuedTo func(context.Context, bearer) (subject string, tokens provider.Tokens, err error)

	// groups is set where the brand lists a person's groups.
	groups bool

	// who asks the API whose the access token is. The issuer is filled in.
	who func(context.Context, bearer) (guest.Profile, error)
}

// party is our side of OAuth 2.0. A module embeds it, calls setUp from its
// Provision, and is a guest.Provider.
type party struct {
	brand   brand
	options *provider.Options
	at      place
	env     guest.Env
	client  *http.Client
}

// setUp takes what the operator wrote, and the place that it amounts to.
func (p *party) setUp(o *provider.Options, at place, b brand) error {
	if o.ProviderLogout != nil {
		return fmt.Errorf("provider_logout: %s has no address to sign out at: remove it", b.key)
	}
	if o.Groups != "" && !b.groups {
		return fmt.Errorf("groups: %s lists none: remove it", b.key)
	}
	if err := o.Resolve(b.defaults); err != nil {
		return err
	}
	if b.revocation != "" {
		at.revocation = provider.Beside(at.TokenURL, b.revocation)
	}
	p.options, p.at, p.brand = o, at, b
	return nil
}

// Open takes what the house lends. It touches no network.
func (p *party) Open(env guest.Env) error {
	if p.options == nil {
		return errors.New("provider was not provisioned")
	}
	p.env = env
	if env.Log == nil {
		p.env.Log = slog.New(slog.DiscardHandler)
	}
	if inert := p.options.Inert(); inert != "" {
		p.env.Log.Warn(inert, "provider", p.options.InstanceName())
	}
	p.client = env.Client(p.at.own...)
	return nil
}

// Traits says how the house treats this provider.
func (p *party) Traits() guest.Traits {
	traits := p.options.Describe(p.brand.key, false)
	traits.Owns = func(issuer string) bool { return issuer == p.at.Issuer }
	if p.brand.issuedTo != nil {
		traits.Native = []guest.NativeKind{guest.AccessToken}
	}
	return traits
}

// Begin returns the address at the server that the browser is sent to: the
// code flow with state and PKCE, always, but for a brand that knows no PKCE.
func (p *party) Begin(_ context.Context, a guest.Attempt) (string, error) {
	if a.State == "" || a.Verifier == "" {
		return "", errors.New("attempt lacks a state or verifier")
	}
	id, _ := p.options.Client()
	params := url.Values{
		"response_type": {"code"},
		"client_id":     {id},
		"redirect_uri":  {a.RedirectURI},
		"state":         {a.State},
	}
	if scopes := p.scopes(); len(scopes) > 0 {
		params.Set("scope", strings.Join(scopes, " "))
	}
	if !p.brand.refusesPKCE {
		provider.Challenge(params, a.Verifier)
	}
	maps.Copy(params, p.brand.asks(a))
	return provider.AuthorizationURL(p.at.AuthURL, params)
}

// asks is what a brand is asked to show, where it would not by itself.
func (b *brand) asks(a guest.Attempt) url.Values {
	switch {
	case a.Reauthenticate && b.anew != nil:
		return b.anew
	case a.Reauthenticate, a.SwitchAccount:
		return b.chooser
	default:
		return nil
	}
}

func (p *party) scopes() []string {
	scopes := slices.Clone(p.options.Scopes)
	if len(scopes) == 0 {
		scopes = slices.Clone(p.brand.scopes)
	}
	needed := p.brand.needed
	if p.options.KeepsTokens() {
		needed = slices.Concat(needed, p.brand.offline)
	}
	for _, need := range needed {
		if !covers(scopes, need) {
			scopes = append(scopes, need)
		}
	}
	return scopes
}

// Finish turns the server's answer into a Profile, in at most 10 s.
func (p *party) Finish(ctx context.Context, a guest.Attempt, answer url.Values) (guest.Profile, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	code, err := provider.Code(answer, p.isIssuer, false)
	if err != nil {
		return guest.Profile{}, err
	}
	tokens, err := p.exchange(ctx, a, code)
	if err != nil {
		return guest.Profile{}, err
	}
	kept, err := p.keep(tokens)
	if err != nil {
		return guest.Profile{}, err
	}
	profile, err := p.brand.who(ctx, bearer{p, tokens})
	if err != nil {
		return guest.Profile{}, err
	}
	profile.Issuer, profile.Tokens = p.at.Issuer, kept
	return profile, nil
}

// isIssuer compares the iss of an answer with the issuer that the operator
// wrote. Where there is none, each provider's own callback address keeps
// servers apart.
func (p *party) isIssuer(iss string) bool { return p.at.said == "" || iss == p.at.said }

func (p *party) exchange(ctx context.Context, a guest.Attempt, code string) (provider.Tokens, error) {
	id, secret := p.options.Client()
	grant := provider.Grant{
		TokenURL: p.at.TokenURL, ClientID: id, Secret: secret, Basic: p.brand.basic,
		Code: code, RedirectURI: a.RedirectURI, Verifier: a.Verifier, Now: p.env.Now,
	}
	if p.brand.refusesPKCE {
		grant.Verifier = ""
	}
	return grant.Spend(ctx, p.client)
}

// bearer asks the API for the person whose tokens these are.
type bearer struct {
	*party
	tokens provider.Tokens
}

// ask returns the API's answer, with any status below 500 but 429.
func (b bearer) ask(ctx context.Context, what, address string) (provider.Answer, error) {
	return provider.Call{What: what, Address: address, Access: b.tokens.Access, Max: maxAnswer}.Make(ctx, b.client)
}

// object asks for one JSON object, which must come with status 200.
func (b bearer) object(ctx context.Context, what, address string) (provider.Claims, error) {
	answer, err := b.ask(ctx, what, address)
	if err != nil {
		return nil, err
	}
	return read(what, answer)
}

func read(what string, answer provider.Answer) (provider.Claims, error) {
	if answer.Status != http.StatusOK {
		return nil, refused(what, answer.Status)
	}
	claims, err := provider.ParseClaims(answer.Body)
	if err != nil {
		return nil, provider.Untrusted("reading %s: %w", what, err)
	}
	return claims, nil
}

// errNotTaken: the API does not take the access token, which expired or was
// taken back.
var errNotTaken = errors.New("the access token is not taken")

// refused is the error for a status that the API must not answer with.
func refused(what string, status int) error {
	if status == http.StatusUnauthorized {
		return provider.Fail(guest.Refused, "%s answered 401: %w", what, errNotTaken)
	}
	return provider.Fail(guest.Refused, "%s answered %d", what, status)
}

// granted reports whether the token has the scope, as far as the server said:
// one that does not say is asked, and answers for itself.
func (b bearer) granted(scope string) bool {
	granted := strings.FieldsFunc(b.tokens.Scope, func(r rune) bool { return r == ',' || r == ' ' })
	return len(granted) == 0 || covers(granted, scope)
}

// wider are GitHub's scopes that include a narrower one.
var wider = map[string][]string{
	"user:email": {"user"},
	"read:org":   {"write:org", "admin:org"},
}

func covers(scopes []string, scope string) bool {
	return slices.ContainsFunc(scopes, func(s string) bool {
		return s == scope || slices.Contains(wider[scope], s)
	})
}

// plainAddress is the text at path where it is one plain address, else empty:
// an address that mail can't reach helps nobody.
func plainAddress(c provider.Claims, path string) string {
	email := c.At(path).Text(path)
	if provider.Domain(email) == "" {
		return ""
	}
	return email
}

// opaque is a claim that names somebody by no name or address of theirs.
func opaque(c provider.Claims, name string) (string, error) {
	id, err := c.ID(name)
	if err == nil && strings.ContainsAny(id, "@ ") {
		err = errors.New("claim " + name + " is no identifier")
	}
	if err != nil {
		return "", provider.Untrusted("identifying the person: %w", err)
	}
	return id, nil
}

// number is a claim that is a whole number, digit for digit.
func number(c provider.Claims, name string) (string, error) {
	id, err := c.ID(name)
	if err == nil && strings.Trim(id, "0123456789") != "" {
		err = errors.New("claim " + name + " is no number")
	}
	if err != nil {
		return "", provider.Untrusted("identifying the person: %w", err)
	}
	return id, nil
}
