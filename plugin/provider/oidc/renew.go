package oidc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// offlineScope asks for a refresh token (OpenID Connect Core section 11).
const offlineScope = "offline_access"

// offline is how an issuer is asked for a refresh token.
type offline struct {
	scope   bool // by the scope offline_access, unless the issuer lists scopes without it
	consent bool // with prompt=consent, or the person is not asked, and none comes
	access  bool // by access_type=offline
}

// asksOfflineScope reports whether offline_access is asked for: also beside
// scopes that the operator wrote, since tokens that end with the first hour are
// hardly what `tokens` or `revalidate` ask for.
func (p *party) asksOfflineScope(m *metadata) bool {
	return p.brand.offline.scope && m.offline && p.settings.options.KeepsTokens()
}

func (p *party) asksConsent(m *metadata) bool {
	return p.brand.offline.consent && (p.asksOfflineScope(m) || p.accessType() != "")
}

func (p *party) accessType() string {
	if p.brand.offline.access && p.settings.options.KeepsTokens() {
		return "offline"
	}
	return ""
}

func (b *brand) checkRevalidate(o *provider.Options) error {
	if o.Revalidate == 0 || time.Duration(o.Revalidate) >= b.renewsEvery {
		return nil
	}
	return fmt.Errorf("revalidate %s is too often for %s: write at least %s",
		time.Duration(o.Revalidate), b.defaults.Label, hours(b.renewsEvery))
}

func hours(d time.Duration) string { return fmt.Sprintf("%dh", d/time.Hour) }

// checkRenewable refuses a sign-in that nobody could revalidate: it would last
// as if revalidate had not been written.
func (p *party) checkRenewable(t provider.Tokens) error {
	if p.settings.options.Revalidate == caddy.Duration(0) || t.Refresh != "" {
		return nil
	}
	return failure(guest.Refused, "revalidate needs a refresh token and the issuer sent none: "+
		"let this client have refresh tokens there (mostly a grant type of that name, and the scope offline_access), or remove revalidate")
}

// kept are the tokens as the house keeps them.
func (p *party) kept(t provider.Tokens) guest.Tokens {
	tokens := t.Keep()
	if p.brand.renewsEvery != 0 {
		tokens.Expires = time.Time{}
	}
	return tokens
}

// Renew trades the refresh token for new tokens, in at most 10 s, and proves
// that they are the same person's.
//
// An issuer may take the old refresh token for spent as soon as it has answered.
// So what can be asked before is asked before, and the trade does not end with
// ctx; and where only the proof could not be made, the new refresh token comes
// beside the error, alone.
func (p *party) Renew(ctx context.Context, k guest.Kept) (guest.Tokens, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	m, err := p.metadata.value(ctx)
	if err != nil {
		return guest.Tokens{}, err
	}
	if err := p.checkKept(ctx, k); err != nil {
		return guest.Tokens{}, err
	}
	t, err := p.refresh(ctx, m, k.Refresh)
	if err != nil {
		return guest.Tokens{}, err
	}
	if err := p.checkRenewed(ctx, m, t, k); err != nil {
		return unproven(t, err), err
	}
	return p.kept(t), nil
}

// unproven is what may be kept of tokens of which it could not be told whose
// they are. Of those that are somebody else's, or nobody's any more, it is
// nothing.
func unproven(t provider.Tokens, err error) guest.Tokens {
	reason := guest.ReasonOf(err)
	if reason == guest.Untrusted || reason == guest.NotAllowed {
		return guest.Tokens{}
	}
	return guest.Tokens{Refresh: t.Refresh}
}

// checkKept keeps a refresh token from an issuer that did not issue it, whom a
// changed configuration may name, and fetches the issuer's keys.
func (p *party) checkKept(ctx context.Context, k guest.Kept) error {
	if !p.isIssuer(k.Issuer) {
		return untrusted("tokens are of issuer %s, not of this provider's", provider.Quote(k.Issuer))
	}
	_, err := p.keys.value(ctx)
	return err
}

func (p *party) refresh(ctx context.Context, m *metadata, token guest.Secret) (provider.Tokens, error) {
	us, err := p.credentials(m, m.tokenURL)
	if err != nil {
		return provider.Tokens{}, err
	}
	return provider.Refresh{
		TokenURL: m.tokenURL, ClientID: us.id, Secret: us.secret, Basic: m.basicAuth, Assertion: us.assertion,
		Token: token, Now: p.env.Now,
	}.Do(ctx, p.client)
}

// checkRenewed wants the person of the sign-in: by the ID token, or where none
// came along and the account is to be revalidated, by userinfo.
func (p *party) checkRenewed(ctx context.Context, m *metadata, t provider.Tokens, k guest.Kept) error {
	if t.ID != "" {
		return p.checkRenewedID(ctx, m, t, k)
	}
	if m.userinfoURL == "" || p.settings.options.Revalidate == 0 {
		return nil
	}
	info, err := p.userinfo(ctx, m.userinfoURL, t.Access)
	if err != nil {
		return err
	}
	if sub := info.Text("sub"); sub == "" || sub != k.TokenSubject {
		return untrusted("userinfo speaks of another sub than the one that signed in")
	}
	return nil
}

// checkRenewedID makes the checks of OpenID Connect Core 12.2. Its nonce, which
// should be absent, is not looked at: a nonce ties an answer to the browser that
// asked, and here no browser brought anything. What ties this token to the
// sign-in is the refresh token, which the issuer itself took, and that both name
// one sub of one issuer.
func (p *party) checkRenewedID(ctx context.Context, m *metadata, t provider.Tokens, k guest.Kept) error {
	token, err := p.verifyID(ctx, m, t, func(c provider.Claims) error {
		if c.Text("sub") != k.TokenSubject || p.identityIssuer(c) != k.Issuer {
			return errors.New("it names another sub or issuer than the one that signed in")
		}
		return nil
	})
	if err != nil {
		return err
	}
	return p.admitAgain(token)
}

// admitAgain ends what was granted to an account that the brand's rule now
// shuts out.
func (p *party) admitAgain(token provider.Claims) error {
	if by := p.brand.admitsBy; by != "" && !token.Has(by) {
		return nil
	}
	err := p.admitted(token)
	if guest.ReasonOf(err) == guest.NotAllowed {
		return failure(guest.NotAllowed, "%w: %w", guest.ErrGrantEnded, errors.Unwrap(err))
	}
	return err
}
