package oidc

import (
	"context"
	"maps"
	"mime"
	"net/http"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// exchange spends the code at the token endpoint. An ID token comes along.
func (p *party) exchange(ctx context.Context, m *metadata, a guest.Attempt, code string) (provider.Tokens, error) {
	us, err := p.credentials(m, m.tokenURL)
	if err != nil {
		return provider.Tokens{}, err
	}
	grant := provider.Grant{
		TokenURL: m.tokenURL, ClientID: us.id, Secret: us.secret, Basic: m.basicAuth, Assertion: us.assertion,
		Code: code, RedirectURI: a.RedirectURI, Verifier: a.Verifier, Now: p.env.Now,
	}
	if p.brand.refusesPKCE {
		grant.Verifier = ""
	}
	t, err := grant.Spend(ctx, p.client)
	if err == nil && t.ID == "" {
		err = untrusted("token endpoint sent no ID token: is the openid scope allowed?")
	}
	return t, err
}

// credentials are what the issuer's endpoints know us by.
type credentials struct {
	id                string
	secret, assertion guest.Secret // one of them
}

// credentials returns ours, for one call of the endpoint at this address.
func (p *party) credentials(m *metadata, endpoint string) (us credentials, err error) {
	us.id, us.secret = p.settings.options.Client()
	switch {
	case p.brand.mint != nil:
		us.secret, err = p.brand.mint(p.env.Now())
	case p.signer != nil:
		us.assertion, err = p.signer.assert(us.id, endpoint, m.clientAlgs, p.env.Now())
	}
	if err != nil {
		return us, failure(guest.Refused, "making client credentials: %w", err)
	}
	return us, nil
}

// complete adds userinfo's claims to the ID token's where they are missing
// there.
func (p *party) complete(ctx context.Context, m *metadata, access string, token provider.Claims) (provider.Claims, error) {
	if m.userinfoURL == "" || !p.brand.asksUserinfo && p.hasAll(token) {
		return token, nil
	}
	info, err := p.userinfo(ctx, m.userinfoURL, access)
	if err != nil {
		return nil, err
	}
	// OpenID Connect Core 5.3.2: a swapped access token shows here.
	if info.Text("sub") != token.Text("sub") {
		return nil, untrusted("userinfo speaks of another sub than the ID token")
	}
	return p.merge(token, info), nil
}

func (p *party) hasAll(c provider.Claims) bool {
	for _, name := range p.described() {
		if name != "" && !c.Has(name) {
			return false
		}
	}
	return true
}

// described are the claims worth a request to userinfo.
func (p *party) described() []string {
	s := p.settings
	name := s.name
	if name == "" {
		name = "name"
	}
	return []string{s.email, s.verified, name, s.options.Groups, s.subject}
}

// merge adds to token what describes a person and is missing there. An
// address and the word that it is proven come from the same place, or speak
// of the same address: one source's flag must not prove the other's address.
func (p *party) merge(token, info provider.Claims) provider.Claims {
	s := p.settings
	all := maps.Clone(token)
	if !token.Has(s.email) {
		delete(all, s.verified)
	}
	for _, name := range append(p.described(), "given_name", "family_name", "picture", "_claim_names", "hasgroups") {
		if name == s.verified && token.Has(s.email) && token.Text(s.email) != info.Text(s.email) {
			continue
		}
		if !all.Has(name) && info.Has(name) {
			all[name] = info[name]
		}
	}
	return all
}

func (p *party) userinfo(ctx context.Context, address, access string) (provider.Claims, error) {
	call := provider.Call{What: "userinfo", Address: address, Access: access, Max: maxUserinfo}
	answer, err := call.Make(ctx, p.client)
	if err != nil {
		return nil, err
	}
	if answer.Status != http.StatusOK {
		return nil, failure(guest.Refused, "userinfo answered %d", answer.Status)
	}
	if kind, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type")); kind == "application/jwt" {
		return nil, failure(guest.Refused, "userinfo is a signed token: have the issuer send plain JSON")
	}
	claims, err := provider.ParseClaims(answer.Body)
	if err != nil {
		return nil, untrusted("reading userinfo: %w", err)
	}
	return claims, nil
}
