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
	"sync"
	"time"

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

	// issues reports whether iss is a name of the issuer in a token or an
	// answer, where a brand has one for each tenant. Whose name it is in the
	// token is for admit to ask.
	issues func(iss string) bool

	// signs refuses a token whose key is for another of the issuer's names than
	// the token's. keyIssuer is empty where the key set does not say.
	signs func(keyIssuer string, c provider.Claims) error

	// document is the issuer that the discovery document names, where that is
	// not the one whose address it is at.
	document string

	// refusesPKCE is set where a code_verifier makes the exchange fail.
	refusesPKCE bool

	// dropsNonce is set where ID tokens come without the nonce. One that comes
	// must be ours all the same.
	dropsNonce bool

	// scopes are asked for where the operator writes none. Default: openid,
	// email, profile.
	scopes []string

	// mint makes the client secret for one call.
	mint func(now time.Time) (guest.Secret, error)

	// switchPrompt is the prompt that has a person choose an account.
	switchPrompt string

	// anewPrompt is the prompt that has a person prove anew who they are, or what
	// comes closest.
	anewPrompt string

	// datesSignIns is set where an auth_time may be asked for.
	datesSignIns bool

	// groupsScope is asked for where groups are wanted.
	groupsScope string

	// asksUserinfo is set where ID tokens leave out claims that exist.
	asksUserinfo bool

	// skipsUserinfo is set where the ID token has all that there is: only an
	// endpoint that the operator wrote is asked.
	skipsUserinfo bool

	// offline is how the issuer is asked for a refresh token. Zero: not at all,
	// one comes anyway or never.
	offline offline

	// renewsEvery is how often the issuer lets a refresh token be used at most.
	// Access tokens are then not renewed because they expire.
	renewsEvery time.Duration

	// revokesConsent is set where a person's consent has to be revoked, with the
	// refresh token, once they delete their account here.
	revokesConsent bool

	// revocation is how that, or what else was kept, is revoked.
	revocation revocation

	// introspection is where the endpoint that says whom a token was issued to is,
	// seen from the token endpoint, for where discovery does not say so.
	introspection string

	// lacks are the common options that would do nothing.
	lacks lacking

	// sendsLogouts is set where the issuer may send logout tokens.
	sendsLogouts bool

	// hint adds parameters for the authorization endpoint.
	hint func(url.Values)

	// switchHint changes those parameters where a visitor wants another account,
	// or is to prove anew who they are, and a prompt would not do.
	switchHint func(url.Values)

	// admit shuts accounts out, by the ID token's claims.
	admit func(provider.Claims) error

	// identify returns the subject, in place of `sub`, by the ID token's claims.
	identify func(provider.Claims) (string, error)

	// proves reports whether the issuer proved this address, in place of
	// email_verified, by the ID token's claims.
	proves func(c provider.Claims, email string) bool

	// admitsBy is the claim that admit goes by. A renewed ID token may lack it:
	// then admit is not asked again. Empty: it is asked each time.
	admitsBy string

	// introduce reads a display name from the authorization answer, for where
	// no claim has one. Nobody signed it.
	introduce func(answer url.Values) string

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
	key          ClientKey

	revocationURL string
}

var (
	responseModes = []string{"query", "form_post"}
	clientAuths   = []string{"basic", "post", privateKeyJWT}
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

	// signer proves who we are, in place of a client secret; nil where there is
	// one.
	signer *clientSigner

	oddFarewell, oddRevocation, oddIntrospection sync.Once
}

func (p *party) setUp(s settings, b brand) error {
	err := errors.Join(
		provider.OneOf("response_mode", s.responseMode, responseModes...),
		provider.OneOf("client_auth", s.clientAuth, clientAuths...),
		provider.OneOf("signing_alg", s.signingAlg, signingAlgs...),
		s.key.check(s.clientAuth, s.options.ClientSecret),
		b.checkRevalidate(s.options),
		b.lacks.check(b.key, s.options),
	)
	if err != nil {
		return err
	}
	b.defaults.NoSecret = b.defaults.NoSecret || s.key.PrivateKey != ""
	if err := s.options.Resolve(b.defaults); err != nil {
		return err
	}
	if p.signer, err = s.key.signer(); err != nil {
		return err
	}
	s.endpoints.Issuer = cmp.Or(s.endpoints.Issuer, b.issuer)
	if s.endpoints, err = s.endpoints.resolve(); err != nil {
		return err
	}
	if s.revocationURL, err = resolveRevocation(s.revocationURL); err != nil {
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
	if inert := p.settings.options.Inert(); inert != "" {
		p.env.Log.Warn(inert, "provider", p.settings.options.InstanceName())
	}
	p.client = env.Client(p.given()...)
	p.metadata = &shared[*metadata]{now: env.Now, patience: 2500 * time.Millisecond, fetch: p.discover}
	p.keys = &shared[*keyRing]{now: env.Now, patience: 5 * time.Second, fetch: p.fetchKeys}
	return nil
}

// given lists the addresses that the operator wrote.
func (p *party) given() []string {
	list := p.settings.endpoints.given()
	if p.settings.revocationURL != "" {
		list = append(list, p.settings.revocationURL)
	}
	return list
}

// Traits says how the house treats this provider.
func (p *party) Traits() guest.Traits {
	traits := p.settings.options.Describe(p.brand.key, p.settings.responseMode == "form_post")
	traits.SendsLogouts = p.brand.sendsLogouts
	traits.Owns = p.isIssuer
	traits.Native = p.natives()
	return traits
}

// Begin returns the address at the issuer that the browser is sent to: the
// code flow with state, nonce and PKCE, always, but for a brand that fails on
// PKCE.
func (p *party) Begin(ctx context.Context, a guest.Attempt) (string, error) {
	if a.State == "" || a.Nonce == "" || a.Verifier == "" {
		return "", errors.New("attempt lacks a state, nonce or verifier")
	}
	m, err := p.metadata.value(ctx)
	if err != nil {
		return "", err
	}
	params := url.Values{}
	p.ask(params, m, a)
	return provider.AuthorizationURL(m.authURL, params)
}

func (p *party) ask(query url.Values, m *metadata, a guest.Attempt) {
	id, _ := p.settings.options.Client()
	if p.brand.hint != nil {
		p.brand.hint(query)
	}
	if (a.SwitchAccount || a.Reauthenticate) && p.brand.switchHint != nil {
		p.brand.switchHint(query)
	}
	if a.Reauthenticate {
		p.askAnew(query)
	}
	query.Set("response_type", "code")
	query.Set("client_id", id)
	query.Set("redirect_uri", a.RedirectURI)
	query.Set("scope", strings.Join(p.scopes(m), " "))
	query.Set("state", a.State)
	query.Set("nonce", a.Nonce)
	if !p.brand.refusesPKCE {
		provider.Challenge(query, a.Verifier)
	}
	for name, value := range map[string]string{
		"response_mode": p.settings.responseMode,
		"prompt":        p.prompt(m, a),
		"acr_values":    p.settings.acrValues,
		"access_type":   p.accessType(),
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
}

// prompt is what the issuer is asked to show. What the operator wrote counts,
// unless the person is to prove anew who they are.
func (p *party) prompt(m *metadata, a guest.Attempt) string {
	anew := a.Reauthenticate && p.brand.anewPrompt != ""
	if p.settings.prompt != "" && !anew {
		return p.settings.prompt
	}
	var prompts []string
	switch {
	case anew:
		prompts = append(prompts, p.brand.anewPrompt)
	case a.SwitchAccount && p.brand.switchPrompt != "":
		prompts = append(prompts, p.brand.switchPrompt)
	}
	if p.asksConsent(m) {
		prompts = append(prompts, "consent")
	}
	return strings.Join(prompts, " ")
}

func (p *party) scopes(m *metadata) []string {
	o := p.settings.options
	scopes := slices.Clone(o.Scopes)
	if len(scopes) == 0 {
		scopes = []string{"openid", "email", "profile"}
		if p.brand.scopes != nil {
			scopes = slices.Clone(p.brand.scopes)
		}
		if o.Groups != "" && p.brand.groupsScope != "" {
			scopes = append(scopes, p.brand.groupsScope)
		}
	}
	if !slices.Contains(scopes, "openid") {
		scopes = slices.Insert(scopes, 0, "openid")
	}
	if p.asksOfflineScope(m) && !slices.Contains(scopes, offlineScope) {
		scopes = append(scopes, offlineScope)
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
	code, err := provider.Code(answer, p.isIssuer, m.namesIssuer)
	if err != nil {
		return guest.Profile{}, err
	}
	t, err := p.exchange(ctx, m, a, code)
	if err != nil {
		return guest.Profile{}, err
	}
	token, err := p.verify(ctx, m, t, a)
	if err != nil {
		return guest.Profile{}, err
	}
	if err := p.admitted(token); err != nil {
		return guest.Profile{}, err
	}
	return p.known(ctx, m, t, token, answer)
}

func (p *party) admitted(token provider.Claims) error {
	if p.brand.admit == nil {
		return nil
	}
	return p.brand.admit(token)
}

// known is the Profile of whoever the ID token names, with what the house is to
// keep.
func (p *party) known(ctx context.Context, m *metadata, t provider.Tokens, token provider.Claims, answer url.Values) (guest.Profile, error) {
	if err := p.checkRenewable(t); err != nil {
		return guest.Profile{}, err
	}
	all, err := p.complete(ctx, m, t.Access, token)
	if err != nil {
		return guest.Profile{}, err
	}
	profile, err := p.profile(token, all)
	if err != nil {
		return guest.Profile{}, err
	}
	if profile.Name == "" && p.brand.introduce != nil {
		profile.Name = p.brand.introduce(answer)
	}
	p.handOver(&profile, m, t)
	return profile, nil
}

// handOver adds the tokens that the house has a use for, and no others: what is
// not kept cannot be stolen.
func (p *party) handOver(profile *guest.Profile, m *metadata, t provider.Tokens) {
	if p.hints(m, t.ID) {
		profile.IDToken = guest.Secret(t.ID)
	}
	if p.settings.options.KeepsTokens() {
		profile.Tokens = p.kept(t)
	}
	if p.brand.revokesConsent {
		profile.Consent = t.Refresh
	}
}

var (
	_ guest.Renewer      = (*party)(nil)
	_ guest.SessionEnder = (*party)(nil)
	_ guest.LogoutReader = (*party)(nil)
)
