package oauth

import (
	"context"
	"errors"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// lasting is how long an access token must be good for to be asked with as
// long as a session lives, where nothing renews it.
const lasting = 30 * 24 * time.Hour

// keep is what the house may keep of what was issued at a sign-in. It fails
// where the operator asked for revalidate and there is nothing to do it with:
// a session that looks revalidated and is not would be worse than none.
func (p *party) keep(issued provider.Tokens) (guest.Tokens, error) {
	if !p.options.KeepsTokens() {
		return guest.Tokens{}, nil
	}
	tokens := issued.Keep()
	renewable := tokens.Refresh != "" || tokens.Expires.IsZero() || tokens.Expires.Sub(p.env.Now()) >= lasting
	if p.options.Revalidate != 0 && !renewable {
		return guest.Tokens{}, provider.Fail(guest.Refused, "revalidate: %s issued no refresh token, and an access token that expires: "+
			"let scopes hold the one that brings a refresh token (often offline_access), or remove revalidate", p.options.InstanceName())
	}
	return tokens, nil
}

// Renew trades the refresh token for new tokens, and where the block says
// revalidate, asks the API whose they are. Without a refresh token it asks that
// with the access token. It takes at most 10 s.
//
// guest.ErrGrantEnded comes of what the provider says of the refresh token, of
// a 401 from the API for an access token that had not expired, and of a rule of
// the block that shuts the account out by now. Of nothing else.
func (p *party) Renew(ctx context.Context, k guest.Kept) (guest.Tokens, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	// Tokens of the server that this block named before are not for this one.
	if k.Issuer != p.at.Issuer {
		return guest.Tokens{}, provider.Untrusted("renewing tokens: they are of another issuer than %s", p.at.Issuer)
	}
	if k.Refresh != "" {
		return p.refresh(ctx, k)
	}
	if err := p.reassure(ctx, k, asIssued(k.Tokens)); err != nil {
		return guest.Tokens{}, err
	}
	return k.Tokens, nil
}

// refresh trades the refresh token. What was issued comes beside the error
// where the API gives no proper answer then: the old refresh token may be
// spent, and without the new one a bad minute of the API would end the session
// after all.
func (p *party) refresh(ctx context.Context, k guest.Kept) (guest.Tokens, error) {
	issued, err := p.trade(ctx, k)
	if err != nil || p.options.Revalidate == 0 {
		return issued.Keep(), err
	}
	err = p.reassure(ctx, k, issued)
	if errors.Is(err, guest.ErrGrantEnded) || errors.Is(err, errAnother) {
		return guest.Tokens{}, err
	}
	return issued.Keep(), err
}

// trade spends the refresh token. Some servers, X among them, say
// invalid_request of one that was taken back, as they do of our own mistakes:
// then what the access token is still good for tells.
func (p *party) trade(ctx context.Context, k guest.Kept) (provider.Tokens, error) {
	id, secret := p.options.Client()
	issued, err := provider.Refresh{
		TokenURL: p.at.TokenURL, ClientID: id, Secret: secret, Basic: p.brand.basic,
		Token: k.Refresh, Now: p.env.Now,
	}.Do(ctx, p.client)
	if err == nil || errors.Is(err, guest.ErrGrantEnded) || guest.ReasonOf(err) != guest.Refused {
		return issued, err
	}
	if told := p.reassure(ctx, k, asIssued(k.Tokens)); errors.Is(told, guest.ErrGrantEnded) {
		return provider.Tokens{}, told
	}
	return provider.Tokens{}, err
}

// asIssued are kept tokens as they were issued. What was granted is forgotten:
// the API says by itself what it shows.
func asIssued(kept guest.Tokens) provider.Tokens {
	return provider.Tokens{Access: string(kept.Access), Refresh: kept.Refresh, Expires: kept.Expires}
}

// errAnother: the tokens are another person's.
var errAnother = errors.New("the tokens are another person's")

// reassure asks the API whether the tokens are still good, and those of the
// person who signed in.
func (p *party) reassure(ctx context.Context, k guest.Kept, tokens provider.Tokens) error {
	if tokens.Access == "" {
		return provider.Fail(guest.Refused, "renewing tokens: %w", guest.ErrNotRenewable)
	}
	person, err := p.brand.who(ctx, bearer{p, tokens})
	switch {
	case errors.Is(err, errNotTaken) && !p.expired(tokens), err != nil && guest.ReasonOf(err) == guest.NotAllowed:
		return provider.Fail(guest.ReasonOf(err), "%w: %w", guest.ErrGrantEnded, err)
	case err != nil:
		return err
	case person.Subject != k.Subject:
		return provider.Untrusted("renewing tokens: %w", errAnother)
	}
	return nil
}

// expired reports whether the access token may be refused for its age alone. A
// minute is for clocks that differ, and for the answer's way to us.
func (p *party) expired(tokens provider.Tokens) bool {
	return !tokens.Expires.IsZero() && !p.env.Now().Add(time.Minute).Before(tokens.Expires)
}
