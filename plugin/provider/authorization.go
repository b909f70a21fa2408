package provider

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/oauth2"

	"github.com/caddy-login/caddy-login/module/guest"
)

// AuthorizationURL is where the browser is sent with an authorization request
// (RFC 6749 section 4.1.1). What the endpoint's address asks itself stays,
// unless params say otherwise.
func AuthorizationURL(endpoint string, params url.Values) (string, error) {
	address, err := url.Parse(endpoint)
	if err != nil {
		return "", Untrusted("authorization endpoint is no URL")
	}
	query := address.Query()
	for name, values := range params {
		query[name] = values
	}
	// Some providers take a plus for a plus, not for a space.
	address.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20")
	return address.String(), nil
}

// Challenge adds PKCE's code challenge (RFC 7636 section 4.3) to the params of
// an authorization request.
func Challenge(params url.Values, verifier string) {
	params.Set("code_challenge", oauth2.S256ChallengeFromVerifier(verifier))
	params.Set("code_challenge_method", "S256")
}

// Code reads the authorization answer (RFC 6749 section 4.1.2). Whose answer
// it is, is asked first, of errors too (RFC 9207 section 2.4): an attacker's
// server must not even choose the error that a visitor reads. isIssuer judges
// the `iss` of an answer; promised says that an answer without one is forged.
func Code(answer url.Values, isIssuer func(iss string) bool, promised bool) (string, error) {
	iss := answer.Get("iss")
	if answer.Has("iss") && !isIssuer(iss) {
		return "", Untrusted("answer comes from issuer %s", Quote(iss))
	}
	if !answer.Has("iss") && promised {
		return "", Untrusted("answer lacks the iss parameter that the issuer promises")
	}
	if answer.Has("error") {
		return "", refusal(answer.Get("error"), answer.Get("error_description"))
	}
	if code := answer.Get("code"); code != "" {
		return code, nil
	}
	return "", Untrusted("answer has neither code nor error")
}

// cancelled are the error codes of a person who said no: RFC 6749's, Apple's,
// and LinkedIn's two.
var cancelled = []string{"access_denied", "user_cancelled_authorize", "user_cancelled_login"}

func refusal(code, description string) error {
	if slices.Contains(cancelled, code) {
		return Fail(guest.Cancelled, "issuer answered %s: %s", code, Quote(description))
	}
	return Fail(guest.Refused, "issuer answered %s: %s", Quote(code), Quote(description))
}

// Grant is an authorization code and what it takes to spend it at the token
// endpoint (RFC 6749 section 4.1.3).
type Grant struct {
	TokenURL    string
	ClientID    string
	Secret      guest.Secret
	Basic       bool // the client's ID and secret go into the header, not the form
	Code        string
	RedirectURI string
	Verifier    string // empty: without PKCE
}

// Tokens are what a code was exchanged for. Access is never empty.
type Tokens struct {
	Access string
	ID     string // of OpenID Connect
	Scope  string // what was granted, as the provider spells it; empty where it does not say
}

// Spend exchanges the code, exactly once. An error that comes with status 200
// is one all the same.
func (g Grant) Spend(ctx context.Context, client *http.Client) (Tokens, error) {
	config := oauth2.Config{
		ClientID:     g.ClientID,
		ClientSecret: string(g.Secret),
		RedirectURL:  g.RedirectURI,
		// With an unset style the library would send the code twice.
		Endpoint: oauth2.Endpoint{TokenURL: g.TokenURL, AuthStyle: oauth2.AuthStyleInParams},
	}
	if g.Basic {
		config.Endpoint.AuthStyle = oauth2.AuthStyleInHeader
	}
	var options []oauth2.AuthCodeOption
	if g.Verifier != "" {
		options = append(options, oauth2.VerifierOption(g.Verifier))
	}
	token, err := config.Exchange(context.WithValue(ctx, oauth2.HTTPClient, wantingJSON(client)), g.Code, options...)
	if err != nil {
		return Tokens{}, exchangeFailure(ctx, err)
	}
	if token.TokenType != "" && !strings.EqualFold(token.TokenType, "bearer") {
		return Tokens{}, Untrusted("token type is %s, not Bearer", Quote(token.TokenType))
	}
	id, _ := token.Extra("id_token").(string)
	scope, _ := token.Extra("scope").(string)
	return Tokens{Access: token.AccessToken, ID: id, Scope: scope}, nil
}

// wantingJSON is client with an Accept header, without which GitHub answers
// with a form.
func wantingJSON(client *http.Client) *http.Client {
	c := *client
	c.Transport = accepting{c.Transport}
	return &c
}

type accepting struct{ http.RoundTripper }

func (a accepting) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Accept", "application/json")
	if a.RoundTripper == nil {
		return http.DefaultTransport.RoundTrip(r)
	}
	return a.RoundTripper.RoundTrip(r)
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
		return Unavailable("exchanging code: %w", network)
	case ctx.Err() != nil:
		return Unavailable("exchanging code: %w", ctx.Err())
	default:
		return Fail(guest.Refused, "exchanging code: token endpoint's answer is no token response")
	}
}

func refusedExchange(status int, code string) error {
	if status >= 500 || status == http.StatusTooManyRequests {
		return Unavailable("exchanging code: token endpoint answered %d", status)
	}
	return Fail(guest.Refused, "exchanging code: token endpoint answered %d, %s", status, errorCode(code))
}

// errorCode passes on an error code of the specifications' form, such as
// invalid_client, and nothing else.
func errorCode(code string) string {
	if code == "" || len(code) > 40 || strings.Trim(code, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return "no known error code"
	}
	return code
}
