package provider

import (
	"net/url"
	"slices"
	"strings"

	"golang.org/x/oauth2"

	"github.com/caddy-login/caddy-login/module/guest"
)

// AuthorizationURL is where the browser is sent with an authorization request
// (RFC 6749 section 4.1.1); see FrontURL.
func AuthorizationURL(endpoint string, params url.Values) (string, error) {
	return FrontURL("authorization endpoint", endpoint, params)
}

// FrontURL is where the browser is sent with a request to the endpoint that
// errors call what. What the endpoint's address asks itself stays, unless
// params say otherwise.
func FrontURL(what, endpoint string, params url.Values) (string, error) {
	address, err := url.Parse(endpoint)
	if err != nil {
		return "", Untrusted("%s is no URL", what)
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
