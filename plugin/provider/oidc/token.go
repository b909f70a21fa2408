package oidc

import (
	"context"
	"errors"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/oauth2"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// tokens are what a code was exchanged for.
type tokens struct {
	id     string
	access string
}

// exchange spends the code at the token endpoint (RFC 6749 section 4.1.3),
// exactly once: with an unset AuthStyle the library would send it twice.
func (p *party) exchange(ctx context.Context, m *metadata, a guest.Attempt, code string) (tokens, error) {
	id, secret := p.settings.options.Client()
	config := oauth2.Config{
		ClientID:     id,
		ClientSecret: string(secret),
		RedirectURL:  a.RedirectURI,
		Endpoint:     oauth2.Endpoint{TokenURL: m.tokenURL, AuthStyle: m.authStyle},
	}
	withClient := context.WithValue(ctx, oauth2.HTTPClient, p.client)
	token, err := config.Exchange(withClient, code, oauth2.VerifierOption(a.Verifier))
	if err != nil {
		return tokens{}, exchangeFailure(ctx, err)
	}
	if token.TokenType != "" && !strings.EqualFold(token.TokenType, "bearer") {
		return tokens{}, untrusted("token type is %s, not Bearer", provider.Quote(token.TokenType))
	}
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		return tokens{}, untrusted("token endpoint sent no ID token: is the openid scope allowed?")
	}
	return tokens{id: raw, access: token.AccessToken}, nil
}

// exchangeFailure drops the library's text, which quotes the whole answer, and
// the issuer's description, which may repeat the code.
func exchangeFailure(ctx context.Context, err error) error {
	var answer *oauth2.RetrieveError
	var network *url.Error
	switch {
	case errors.As(err, &answer):
		return refusedExchange(answer.Response.StatusCode, answer.ErrorCode)
	case errors.As(err, &network):
		return unavailable("exchanging code: %w", network)
	case ctx.Err() != nil:
		return unavailable("exchanging code: %w", ctx.Err())
	default:
		return failure(guest.Refused, "exchanging code: token endpoint's answer is no token response")
	}
}

func refusedExchange(status int, code string) error {
	if status >= 500 || status == http.StatusTooManyRequests {
		return unavailable("exchanging code: token endpoint answered %d", status)
	}
	return failure(guest.Refused, "exchanging code: token endpoint answered %d, %s", status, errorCode(code))
}

// errorCode passes on an error code of the specifications' form, such as
// invalid_client, and nothing else.
func errorCode(code string) string {
	if code == "" || len(code) > 40 || strings.Trim(code, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return "no known error code"
	}
	return code
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

// userinfo asks the userinfo endpoint, with the access token in the header
// alone: addresses end up in logs.
func (p *party) userinfo(ctx context.Context, address, access string) (provider.Claims, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, untrusted("making userinfo request: %w", err)
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Authorization", "Bearer "+access)
	resp, err := p.client.Do(r)
	if err != nil {
		return nil, unavailable("asking userinfo: %w", err)
	}
	defer resp.Body.Close()
	if err := checkUserinfo(resp); err != nil {
		return nil, err
	}
	body, err := p.read(resp.Body, maxUserinfo)
	if err != nil {
		return nil, err
	}
	claims, err := provider.ParseClaims(body)
	if err != nil {
		return nil, untrusted("reading userinfo: %w", err)
	}
	return claims, nil
}

func checkUserinfo(resp *http.Response) error {
	switch status := resp.StatusCode; {
	case status >= 500 || status == http.StatusTooManyRequests:
		return unavailable("userinfo answered %d", status)
	case status != http.StatusOK:
		return failure(guest.Refused, "userinfo answered %d", status)
	}
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind == "application/jwt" {
		return failure(guest.Refused, "userinfo is a signed token: have the issuer send plain JSON")
	}
	return nil
}
