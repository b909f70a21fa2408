package provider

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/caddy-login/caddy-login/module/guest"
)

// Revocation is a token and what it takes to have it revoked (RFC 7009 section
// 2.1).
type Revocation struct {
	URL       string
	ClientID  string       // empty: none is sent
	Secret    guest.Secret // empty: none is sent
	Basic     bool         // the client's ID and secret go into the header, not the form
	Assertion guest.Secret // in place of a secret: a client_assertion (RFC 7523 section 2.2)
	Token     guest.Secret
	Kind      string // token_type_hint; empty: none is sent
}

// The kinds of tokens that can be revoked.
const (
	RefreshToken = "refresh_token"
	AccessToken  = "access_token"
)

// Do has the token revoked. One that the provider does not know, or not any
// more, counts as revoked.
//
// Where the provider revokes no tokens of this kind, the error wraps
// guest.ErrNotRevocable. Whatever else goes wrong does not: the token may still
// be good then.
func (r Revocation) Do(ctx context.Context, client *http.Client) error {
	ask := tokenRequest{
		doing: "revoking token", endpoint: "revocation endpoint", address: r.URL,
		form: url.Values{"token": {string(r.Token)}},
		id:   r.ClientID, secret: r.Secret, basic: r.Basic, assertion: r.Assertion,
	}
	if r.Kind != "" {
		ask.form.Set("token_type_hint", r.Kind)
	}
	status, said, err := ask.send(ctx, client)
	switch {
	case err != nil:
		return err
	case status/100 == 2 && said.Text("error") == "", unknownToken(status, said):
		return nil
	case status < 500 && said.Text("error") == "unsupported_token_type":
		return NotRevocable("revoking token: the provider revokes none of the kind %s", r.Kind)
	default:
		return ask.refused(status, said.Text("error"))
	}
}

// unknownToken reports whether the answer says that the token is not known. RFC
// 7009 has that be a success; to Google it is an error, as it is to Twitch, in
// words of its own. With any other status it may be something else that is
// invalid.
func unknownToken(status int, said Claims) bool {
	return status == http.StatusBadRequest &&
		(said.Text("error") == "invalid_token" || strings.EqualFold(said.Text("message"), "invalid token"))
}

// NotRevocable is a Failure that wraps guest.ErrNotRevocable.
func NotRevocable(format string, args ...any) error {
	return Fail(guest.Refused, format+": %w", append(args, guest.ErrNotRevocable)...)
}

// RevokeGrant has ask revoke what is newest of g: the refresh token, with which
// goes whatever came of it (RFC 7009 section 2.1), else the access token. ask is
// given a Revocation with Token and Kind alone.
func RevokeGrant(g guest.Granted, ask func(Revocation) error) error {
	err := NotRevocable("nothing was kept")
	for _, r := range []Revocation{
		{Token: g.Tokens.Refresh, Kind: RefreshToken},
		{Token: g.Consent, Kind: RefreshToken},
		{Token: g.Tokens.Access, Kind: AccessToken},
	} {
		if r.Token == "" {
			continue
		}
		if err = ask(r); !errors.Is(err, guest.ErrNotRevocable) {
			return err
		}
	}
	return err
}

// Beside is the address that reference, such as revoke, leads to from an
// endpoint's: whoever writes another address for that endpoint moves both.
func Beside(endpoint, reference string) string {
	base, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	ref, err := url.Parse(reference)
	if err != nil {
		return ""
	}
	return base.ResolveReference(ref).String()
}
