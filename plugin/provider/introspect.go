package provider

import (
	"context"
	"net/http"
	"net/url"

	"github.com/caddy-login/caddy-login/module/guest"
)

// Introspection is an access token and what it takes to ask its server about it
// (RFC 7662 section 2.1).
type Introspection struct {
	URL       string
	ClientID  string
	Secret    guest.Secret
	Basic     bool         // the client's ID and secret go into the header, not the form
	Assertion guest.Secret // in place of a secret: a client_assertion (RFC 7523 section 2.2)
	Token     guest.Secret
}

// Do returns what the server says of a token that is active. Whom it was issued
// to is for the caller to check.
func (i Introspection) Do(ctx context.Context, client *http.Client) (Claims, error) {
	ask := tokenRequest{
		doing: "introspecting token", endpoint: "introspection endpoint", address: i.URL,
		form: url.Values{"token": {string(i.Token)}},
		id:   i.ClientID, secret: i.Secret, basic: i.Basic, assertion: i.Assertion,
	}
	status, said, err := ask.send(ctx, client)
	switch {
	case err != nil:
		return nil, err
	case status != http.StatusOK || said.Text("error") != "":
		return nil, ask.refused(status, said.Text("error"))
	case string(said["active"]) != "true":
		return nil, Untrusted("introspecting token: it is not active")
	}
	return said, nil
}
