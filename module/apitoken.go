package module

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/caddy-login/caddy-login/module/activity"
	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/page"
	"github.com/caddy-login/caddy-login/module/pending"
	"github.com/caddy-login/caddy-login/module/session"
	"github.com/caddy-login/caddy-login/module/token"
)

// Native apps trade what they have for tokens of ours: what a provider's SDK gave
// them, or the refresh token that they got here (module/token).

// The words of RFC 8693 section 3 and RFC 6749.
const (
	grantExchange = "urn:ietf:params:oauth:grant-type:token-exchange"
	grantRefresh  = "refresh_token"

	typeOfAccess = "urn:ietf:params:oauth:token-type:access_token"
	typeOfID     = "urn:ietf:params:oauth:token-type:id_token"

	invalidRequest = "invalid_request"
	invalidGrant   = "invalid_grant"
)

// tokenRequest is what is traded for tokens (RFC 8693 section 2.1, RFC 6749
// section 6).
type tokenRequest struct {
	// GrantType is the kind of trade.
	GrantType string `json:"grant_type"`
	// RefreshToken is the one that was given last.
	RefreshToken string `json:"refresh_token,omitempty"`
	// SubjectToken is what the provider's SDK gave, SubjectTokenType which kind.
	SubjectToken     string `json:"subject_token,omitempty"`
	SubjectTokenType string `json:"subject_token_type,omitempty"` // a URN of RFC 8693
	// Provider is whose it is: an id of metadata.
	Provider string `json:"provider,omitempty"`
	// Nonce is the one of native/nonce that the ID token was made with.
	Nonce string `json:"nonce,omitempty"`
	// Intent is auto, signup, or login, which makes nobody new a user.
	Intent string `json:"intent,omitempty"`
	// Name is for display where the token has none, as Apple's has not.
	Name string `json:"name,omitempty"`
	// CodeChallenge lets the person be asked where something must be said first.
	CodeChallenge       string `json:"code_challenge,omitempty"`
	CodeChallengeMethod string `json:"code_challenge_method,omitempty"` // S256, which is the only one
}

// tokenAnswer is what they are traded for (RFC 8693 section 2.2.1, RFC 6749
// section 5.1).
type tokenAnswer struct {
	Status          statusWord  `json:"status"`                      // "authenticated"
	AccessToken     string      `json:"access_token"`                // for Authorization: Bearer
	IssuedTokenType string      `json:"issued_token_type,omitempty"` // of an exchange: what the first is
	TokenType       string      `json:"token_type"`                  // "Bearer"
	ExpiresIn       int         `json:"expires_in"`                  // in seconds
	RefreshToken    string      `json:"refresh_token"`               // works once
	Session         *ownSession `json:"session"`                     // who is signed in
}

// nonceAnswer is a nonce for one native sign-in.
type nonceAnswer struct {
	Nonce     string    `json:"nonce"`      // letters and digits
	ExpiresAt time.Time `json:"expires_at"` // in ten minutes
}

func (c *apiCall) nonce(w http.ResponseWriter, _ *http.Request, v *visit) error {
	nonce, expires := v.house.tokens.Nonce(v.scope)
	return c.answer(w, http.StatusOK, nonceAnswer{Nonce: nonce, ExpiresAt: expires.UTC()})
}

// token is what OAuth calls the token endpoint.
func (c *apiCall) token(w http.ResponseWriter, r *http.Request, v *visit) error {
	c.grant = invalidRequest
	if !v.house.callbacks.Allow(clientIP(r.Context()), c.gate.now()) {
		return c.portal.trouble(w, r, v, trouble{kind: page.TooMany})
	}
	if !v.reach(v.origin) { // whoever listens would have a session for weeks
		return c.portal.trouble(w, r, v, trouble{kind: page.UnsafeAddress, err: unreachable(v), knock: true})
	}
	var in tokenRequest
	if !c.readTokenRequest(w, r, &in) {
		return nil
	}
	switch in.GrantType {
	case grantExchange:
		return c.exchange(w, r, v, &in)
	case grantRefresh:
		return c.refresh(w, r, v, guest.Secret(in.RefreshToken))
	default:
		c.grant = "unsupported_grant_type"
		return c.misread(w, r, "grant_type is "+grantExchange+" or "+grantRefresh)
	}
}

// formType is what clients of OAuth send (RFC 6749 section 4.1.3). Nothing here
// goes by cookies, so a form of another site's does no harm.
const formType = "application/x-www-form-urlencoded"

// readTokenRequest reads a form, too. As OAuth has it, what is not known there is
// passed over, and what is empty was not sent.
func (c *apiCall) readTokenRequest(w http.ResponseWriter, r *http.Request, in *tokenRequest) bool {
	if mediaType(r) != formType {
		return c.read(w, r, in)
	}
	body, ok := c.readBody(w, r)
	if !ok {
		return false
	}
	form, err := url.ParseQuery(string(body))
	switch {
	case err != nil, !utf8.Valid(body), len(form) > maxFields:
		err = errMalformed
	case form.Get("actor_token") != "":
		err = errors.New("actor_token: nobody acts for another here")
	case !slices.Contains([]string{"", typeOfAccess}, form.Get("requested_token_type")):
		err = errors.New("requested_token_type: there are access tokens alone")
	default:
		err = once(form)
	}
	if err != nil {
		_ = c.misread(w, r, err.Error())
		return false
	}
	in.fill(form)
	return true
}

func (in *tokenRequest) fill(form url.Values) {
	for name, into := range map[string]*string{
		"grant_type": &in.GrantType, "refresh_token": &in.RefreshToken,
		"subject_token": &in.SubjectToken, "subject_token_type": &in.SubjectTokenType,
		"provider": &in.Provider, "nonce": &in.Nonce, "intent": &in.Intent, "name": &in.Name,
		"code_challenge": &in.CodeChallenge, "code_challenge_method": &in.CodeChallengeMethod,
	} {
		*into = form.Get(name)
	}
}

// native is the token that a request brings, or why it brings none.
func (in *tokenRequest) native() (n guest.NativeToken, err error) {
	n = guest.NativeToken{Token: guest.Secret(in.SubjectToken), Nonce: in.Nonce, MaxAge: token.NativeAge}
	switch in.SubjectTokenType {
	case typeOfID:
		n.Kind = guest.IDToken
	case typeOfAccess:
		n.Kind = guest.AccessToken
	default:
		return n, errors.New("subject_token_type is " + typeOfID + " or " + typeOfAccess)
	}
	switch {
	case in.SubjectToken == "":
		return n, errors.New("subject_token is missing")
	case n.Nonce != "" && n.Kind != guest.IDToken:
		return n, errors.New("nonce is for an ID token")
	case !slices.Contains([]string{"", "auto", "signup", "login"}, in.Intent):
		return n, errors.New("intent is login, signup or auto")
	}
	return n, nil
}

// exchange signs in whoever the provider's token is of: by the same decision, in
// the same transaction as somebody whom the provider has sent.
func (c *apiCall) exchange(w http.ResponseWriter, r *http.Request, v *visit, in *tokenRequest) error {
	n, err := in.native()
	if err != nil {
		return c.misread(w, r, err.Error())
	}
	if !c.bind(w, r, v, in.CodeChallenge, in.CodeChallengeMethod) {
		return nil
	}
	provider, ok := named(c.gate.providers, in.Provider).(guest.NativeTaker)
	if !ok {
		return c.fail(w, r, http.StatusNotFound, "provider_disabled", "This site takes no tokens of such a provider: metadata lists those that it takes.")
	}
	name, err := identity.TidyName(in.Name)
	if err != nil {
		return c.misread(w, r, "name is too long, or has signs that are not seen")
	}
	profile, err := provider.TakeNative(r.Context(), n)
	if err != nil {
		return c.portal.trouble(w, r, v, c.notTaken(provider, err))
	}
	if n.Kind == guest.AccessToken && profile.AuthTime.IsZero() {
		// Apps keep one for months: it does not say that its person is here now.
		profile.AuthTime = c.gate.now().Add(-freshFor)
	}
	profile.Name = cmp.Or(profile.Name, name)
	waiting := &pending.Pending{
		Kind: pending.Arrival, Scope: v.scope, Site: v.origin.hostPort, Begun: c.gate.now().UTC(), Return: "/",
		Provider: in.Provider, Profile: profile, KnownOnly: in.Intent == "login",
	}
	a := c.arriving(r, v, provider, waiting, pending.NewID())
	a.admit = c.once(v, n, a.admit)
	return c.comeIn(w, r, v, a)
}

// errNoQuestion means that something had to be said first, and that the call left no
// way to ask: it is refused as a decision is.
var errNoQuestion = fmt.Errorf("a question had to be asked, and the call had no code_challenge: %w", identity.ErrOutdated)

// once uses up the nonce and the token with the decision about them, whatever
// that is. Nobody is asked who could not answer: what was asked would have no
// owner.
func (c *apiCall) once(v *visit, n guest.NativeToken, admit func(guest.Tx, time.Time) (identity.Admitted, error)) func(guest.Tx, time.Time) (identity.Admitted, error) {
	return func(tx guest.Tx, at time.Time) (identity.Admitted, error) {
		if n.Nonce != "" {
			if err := v.house.tokens.SpendNonce(tx, v.scope, n.Nonce); err != nil {
				return identity.Admitted{}, err
			}
		}
		if err := v.house.tokens.SpendNative(tx, n); err != nil {
			return identity.Admitted{}, err
		}
		admitted, err := admit(tx, at)
		if err != nil || admitted.Needs == identity.Nothing || c.binding != "" {
			return admitted, err
		}
		switch admitted.Needs {
		case identity.ConfirmLink, identity.ProofOfOwner:
			return admitted, identity.ErrEmailInUse
		case identity.KeepAccount:
			return admitted, identity.ErrAccountDisabled
		default:
			return admitted, errNoQuestion
		}
	}
}

// notTaken is a token that nobody believes.
func (p *portal) notTaken(provider guest.Method, err error) trouble {
	t := trouble{kind: page.InvalidAnswer, provider: provider, outcome: "invalid_token", code: "invalid_token", err: err, knock: true}
	switch reason := reasonOf(err); {
	case errors.Is(err, guest.ErrAudience):
		t.outcome, t.code = "audience_mismatch", "audience_mismatch"
	case errors.Is(err, guest.ErrNonce), errors.Is(err, token.ErrNonce):
		t.outcome, t.code = "nonce_mismatch", "nonce_mismatch"
	case errors.Is(err, guest.ErrNotNative):
		t.kind, t.outcome, t.code = page.NotFound, "", "provider_disabled"
	case errors.Is(err, token.ErrReplayed):
	case reason == guest.Unavailable, reason == guest.NotAllowed:
		t.kind, t.outcome, t.code = page.Kind(reason), string(reason), ""
	}
	return t
}

// refresh trades a refresh token for the next one. One that was used before was
// stolen: from the person, or by whoever is here now.
func (c *apiCall) refresh(w http.ResponseWriter, r *http.Request, v *visit, refresh guest.Secret) error {
	c.grant = invalidGrant
	x, err := v.house.tokens.Exchange(v.tokenScope(), refresh)
	if err != nil {
		return c.spentToken(w, r)
	}
	var spent token.Spent
	err = v.house.store.Update(r.Context(), func(tx guest.Tx) (err error) {
		if spent, err = v.house.tokens.Spend(tx, x, c.gate.now()); err != nil || spent.Reused == nil {
			return err
		}
		return c.noteReuse(tx, r, v, spent.Reused)
	})
	switch {
	case errors.Is(err, token.ErrInvalid):
		return c.spentToken(w, r)
	case err != nil:
		return c.portal.trouble(w, r, v, trouble{kind: page.Unavailable, err: fmt.Errorf("refreshing: %w", err)})
	case spent.Reused != nil:
		c.tellReuse(r, v, spent.Reused)
		return c.spentToken(w, r)
	}
	held, err := v.house.sessions.Find(r.Context(), spent.Session.Key)
	if errors.Is(err, session.ErrNone) { // ended since
		return c.spentToken(w, r)
	}
	if err != nil {
		return c.portal.trouble(w, r, v, trouble{kind: page.Unavailable, err: fmt.Errorf("refreshing: %w", err)})
	}
	c.begun = &token.Begun{Session: spent.Session, Refresh: x.Refresh}
	tokens, err := c.tokensOf(v)
	if err != nil {
		return c.portal.trouble(w, r, v, trouble{kind: page.Internal, err: fmt.Errorf("refreshing: %w", err)})
	}
	return c.answerTokens(w, tokens, c.viewOfSession(held.Live()), "")
}

func (c *apiCall) spentToken(w http.ResponseWriter, r *http.Request) error {
	return c.fail(w, r, http.StatusBadRequest, "invalid_token", "The refresh token is not good here, or not any more: sign in again.")
}

// noteReuse writes down that a session was ended because its refresh token came
// twice, and has be revoked what it kept of the provider's.
func (p *portal) noteReuse(tx guest.Tx, r *http.Request, v *visit, reused *session.Ended) error {
	accounts, err := identity.Accounts(tx, reused.User)
	if err != nil {
		return err
	}
	for _, account := range accounts {
		change := identity.Change{Identity: account}
		if err := v.house.revokeLater(tx, change, []session.Ended{*reused}, p.gate.now()); err != nil {
			return err
		}
	}
	return p.noteIn(tx, r, reused.User, activity.Entry{
		What: activity.SessionsEnded, Provider: reused.Provider, Failed: true, Detail: "token_reuse",
	}, reused.Handle)
}

// tellReuse tells whom it concerns, once that is durable.
func (p *portal) tellReuse(r *http.Request, v *visit, reused *session.Ended) {
	v.house.sessions.Forget(reused.Key)
	p.gate.app.reused(r, &reused.Session)
	p.tell(r, v, reused.User, p.provenOf(r, v, reused.User), wayBack{}, page.Notice{Kind: page.NoticeTokenReuse, Provider: p.labelOf(reused.Provider)})
}

// answerTokens hands over the tokens that were just issued.
func (c *apiCall) answerTokens(w http.ResponseWriter, tokens *tokensView, who *ownSession, kind string) error {
	return c.answer(w, http.StatusOK, tokenAnswer{
		Status: isAuthenticated, AccessToken: tokens.AccessToken, IssuedTokenType: kind, TokenType: tokens.TokenType,
		ExpiresIn: tokens.ExpiresIn, RefreshToken: tokens.RefreshToken, Session: who,
	})
}

// detailOf is what to do next where a page has no such trouble.
var detailOf = map[string]string{
	"invalid_token":     "The token is not good here, or not any more: sign in at the provider anew.",
	"audience_mismatch": "The token was issued to an app that this site does not know: its operator lists those of their own.",
	"nonce_mismatch":    "The token is not of this sign-in: get another nonce, and sign in at the provider anew.",
	"provider_disabled": "This site takes no tokens of this kind from the provider: metadata says which it takes.",
}

// inOAuth is a problem in the words of RFC 6749 section 5.2.
func (c *apiCall) inOAuth(p page.Problem) string {
	switch {
	case p.Status >= http.StatusInternalServerError, p.Status == http.StatusTooManyRequests:
		return "temporarily_unavailable"
	case p.Code == "bad_request" && c.grant == invalidGrant:
		return invalidRequest
	default:
		return c.grant
	}
}
