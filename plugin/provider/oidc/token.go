package oidc

import (
	"context"
	"maps"
	"mime"
	"net/http"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// tokens are what a code was exchanged for.
type tokens struct {
	id     string
	access string
}

// exchange spends the code at the token endpoint.
func (p *party) exchange(ctx context.Context, m *metadata, a guest.Attempt, code string) (tokens, error) {
	id, secret, err := p.credentials()
	if err != nil {
		return tokens{}, failure(guest.Refused, "making client secret: %w", err)
	}
	grant := provider.Grant{
		TokenURL: m.tokenURL, ClientID: id, Secret: secret, Basic: m.basicAuth,
		Code: code, RedirectURI: a.RedirectURI, Verifier: a.Verifier,
	}
	if p.brand.refusesPKCE {
		grant.Verifier = ""
	}
	got, err := grant.Spend(ctx, p.client)
	if err != nil {
		return tokens{}, err
	}
	if got.ID == "" {
		return tokens{}, untrusted("token endpoint sent no ID token: is the openid scope allowed?")
	}
	return tokens{id: got.ID, access: got.Access}, nil
}

// credentials are our client ID and the secret for one call.
func (p *party) credentials() (id string, secret guest.Secret, err error) {
	id, secret = p.settings.options.Client()
	if p.brand.mint != nil {
		secret, err = p.brand.mint(p.env.Now())
	}
	return id, secret, err
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
	for _, name := range append(p.described(), "given_name", "family_name", "picture", "_claim_names") {
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
