package oidc

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// brand is where one kind of issuer differs from the others. Zero fields mean
// nothing special.
type brand struct {
	key      string // selects the button: guest.Traits.Brand
	defaults provider.Defaults
	issuer   string // where the operator writes none

	// formerIssuer is another spelling that tokens may carry, as long as the
	// issuer is the brand's own.
	formerIssuer string

	// switchPrompt is the prompt that has a person choose an account.
	switchPrompt string

	// groupsScope is asked for where groups are wanted.
	groupsScope string

	// asksUserinfo is set where ID tokens leave out claims that exist.
	asksUserinfo bool

	// hint adds parameters for the authorization endpoint.
	hint func(url.Values)

	// admit shuts accounts out, by the ID token's claims.
	admit func(provider.Claims) error

	// runsMailbox reports whether the issuer itself delivers the mail of a
	// verified address in domain, by the ID token's claims.
	runsMailbox func(c provider.Claims, domain string) bool
}

// settings are what an operator may say about an issuer. Empty means default.
type settings struct {
	options      *provider.Options
	endpoints    Endpoints
	responseMode string
	clientAuth   string
	signingAlg   string
	subject      string
	email        string
	verified     string
	name         string
	prompt       string
	acrValues    string
}

var (
	responseModes = []string{"query", "form_post"}
	clientAuths   = []string{"basic", "post"}
)

// party is the relying party: our side of OpenID Connect. A module embeds it,
// calls setUp from its Provision, and is a guest.Provider.
type party struct {
	brand    brand
	settings settings
	env      guest.Env
	client   *http.Client
	metadata *shared[*metadata]
	keys     *shared[*keyRing]
}

func (p *party) setUp(s settings, b brand) error {
	err := errors.Join(
		provider.OneOf("response_mode", s.responseMode, responseModes...),
		provider.OneOf("client_auth", s.clientAuth, clientAuths...),
		provider.OneOf("signing_alg", s.signingAlg, signingAlgs...),
	)
	if err != nil {
		return err
	}
	if err := s.options.Resolve(b.defaults); err != nil {
		return err
	}
	s.endpoints.Issuer = cmp.Or(s.endpoints.Issuer, b.issuer)
	if s.endpoints, err = s.endpoints.resolve(); err != nil {
		return err
	}
	if s.email == "" {
		s.verified = cmp.Or(s.verified, "email_verified")
	}
	s.email = cmp.Or(s.email, "email")
	p.settings, p.brand = s, b
	return nil
}

// Open takes what the house lends. It touches no network.
func (p *party) Open(env guest.Env) error {
	if p.settings.options == nil {
		return errors.New("provider was not provisioned")
	}
	p.env = env
	if env.Log == nil {
		p.env.Log = slog.New(slog.DiscardHandler)
	}
	p.client = env.Client(p.settings.endpoints.given()...)
	p.metadata = &shared[*metadata]{now: env.Now, patience: 2500 * time.Millisecond, fetch: p.discover}
	p.keys = &shared[*keyRing]{now: env.Now, patience: 5 * time.Second, fetch: p.fetchKeys}
	return nil
}

// Traits says how the house treats this provider.
func (p *party) Traits() guest.Traits {
	return p.settings.options.Describe(p.brand.key, p.settings.responseMode == "form_post")
}

// Begin returns the address at the issuer that the browser is sent to: the
// code flow with state, nonce and PKCE, always.
func (p *party) Begin(ctx context.Context, a guest.Attempt) (string, error) {
	if a.State == "" || a.Nonce == "" || a.Verifier == "" {
		return "", errors.New("attempt lacks a state, nonce or verifier")
	}
	m, err := p.metadata.value(ctx)
	if err != nil {
		return "", err
	}
	address, err := url.Parse(m.authURL)
	if err != nil {
		return "", untrusted("authorization endpoint is no URL")
	}
	query := address.Query()
	p.ask(query, a)
	// Some issuers take a plus for a plus, not for a space.
	address.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20")
	return address.String(), nil
}

func (p *party) ask(query url.Values, a guest.Attempt) {
	id, _ := p.settings.options.Client()
	if p.brand.hint != nil {
		p.brand.hint(query)
	}
	query.Set("response_type", "code")
	query.Set("client_id", id)
	query.Set("redirect_uri", a.RedirectURI)
	query.Set("scope", strings.Join(p.scopes(), " "))
	query.Set("state", a.State)
	query.Set("nonce", a.Nonce)
	query.Set("code_challenge", oauth2.S256ChallengeFromVerifier(a.Verifier))
	query.Set("code_challenge_method", "S256")
	for name, value := range map[string]string{
		"response_mode": p.settings.responseMode,
		"prompt":        p.prompt(a),
		"acr_values":    p.settings.acrValues,
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
}

func (p *party) prompt(a guest.Attempt) string {
	if p.settings.prompt == "" && a.SwitchAccount {
		return p.brand.switchPrompt
	}
	return p.settings.prompt
}

func (p *party) scopes() []string {
	o := p.settings.options
	scopes := slices.Clone(o.Scopes)
	if len(scopes) == 0 {
		scopes = []string{"openid", "email", "profile"}
		if o.Groups != "" && p.brand.groupsScope != "" {
			scopes = append(scopes, p.brand.groupsScope)
		}
	}
	if !slices.Contains(scopes, "openid") {
		scopes = slices.Insert(scopes, 0, "openid")
	}
	return scopes
}

// Finish turns the issuer's answer into a Profile, in at most 10 s. Nothing
// in it is believed before the ID token has passed every check; userinfo adds
// to it and overrides nothing.
func (p *party) Finish(ctx context.Context, a guest.Attempt, answer url.Values) (guest.Profile, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	m, err := p.metadata.value(ctx)
	if err != nil {
		return guest.Profile{}, err
	}
	code, err := p.code(answer, m)
	if err != nil {
		return guest.Profile{}, err
	}
	t, err := p.exchange(ctx, m, a, code)
	if err != nil {
		return guest.Profile{}, err
	}
	token, err := p.verify(ctx, m, t, a.Nonce)
	if err != nil {
		return guest.Profile{}, err
	}
	if p.brand.admit != nil {
		if err := p.brand.admit(token); err != nil {
			return guest.Profile{}, err
		}
	}
	all, err := p.complete(ctx, m, t.access, token)
	if err != nil {
		return guest.Profile{}, err
	}
	return p.profile(token, all, t)
}

// code reads the authorization answer (RFC 6749 section 4.1.2). Whose answer
// it is, is asked first, of errors too (RFC 9207 section 2.4): an attacker's
// issuer must not even choose the error that a visitor reads.
func (p *party) code(answer url.Values, m *metadata) (string, error) {
	iss := answer.Get("iss")
	if answer.Has("iss") && iss != p.settings.endpoints.Issuer {
		return "", untrusted("answer comes from issuer %s", provider.Quote(iss))
	}
	if !answer.Has("iss") && m.namesIssuer {
		return "", untrusted("answer lacks the iss parameter that the issuer promises")
	}
	if answer.Has("error") {
		return "", refusal(answer.Get("error"), answer.Get("error_description"))
	}
	if code := answer.Get("code"); code != "" {
		return code, nil
	}
	return "", untrusted("answer has neither code nor error")
}

func refusal(code, description string) error {
	if code == "access_denied" {
		return failure(guest.Cancelled, "issuer answered access_denied: %s", provider.Quote(description))
	}
	return failure(guest.Refused, "issuer answered %s: %s", provider.Quote(code), provider.Quote(description))
}
