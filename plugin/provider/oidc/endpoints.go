package oidc

import (
	"errors"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-login/caddy-login/plugin/provider"
)

// Endpoints are where the issuer is. All must be https; http is only for
// localhost.
type Endpoints struct {
	// The issuer, exactly as its discovery document and its tokens spell it,
	// down to the last slash.
	Issuer string `json:"issuer,omitempty"`

	// The authorization endpoint, in place of the discovered one. With
	// token_url and jwks_url too, no discovery takes place.
	AuthURL string `json:"auth_url,omitempty"`

	// The token endpoint, in place of the discovered one.
	TokenURL string `json:"token_url,omitempty"`

	// Where the issuer's keys are, in place of the discovered address.
	JWKSURL string `json:"jwks_url,omitempty"`

	// The userinfo endpoint, in place of the discovered one.
	UserinfoURL string `json:"userinfo_url,omitempty"`

	// The end-session endpoint, in place of the discovered one: where the
	// browser is sent on signing out, so that the session at the issuer ends,
	// too. Register the site's /.login/logout with the issuer, as one that a
	// sign-out may return to.
	EndSessionURL string `json:"end_session_url,omitempty"`
}

func (e *Endpoints) addresses() provider.Addresses {
	return provider.Addresses{
		{Word: "issuer", To: &e.Issuer, Check: provider.CheckIssuer},
		{Word: "auth_url", To: &e.AuthURL, Check: provider.CheckURL},
		{Word: "token_url", To: &e.TokenURL, Check: provider.CheckURL},
		{Word: "jwks_url", To: &e.JWKSURL, Check: provider.CheckURL},
		{Word: "userinfo_url", To: &e.UserinfoURL, Check: provider.CheckURL},
		{Word: "end_session_url", To: &e.EndSessionURL, Check: provider.CheckURL},
	}
}

// Consume reads one option about addresses; see provider.Part.
func (e *Endpoints) Consume(d *caddyfile.Dispenser) (bool, error) { return e.addresses().Consume(d) }

// Words lists the options about addresses.
func (e *Endpoints) Words() []string { return e.addresses().Words() }

// needIssuer complains at the end of a block that names no issuer; word is the
// provider's.
func (e *Endpoints) needIssuer(d *caddyfile.Dispenser, word string) error {
	if e.Issuer == "" {
		return d.Errf("issuer is missing: add a line 'issuer https://…' to the block of %s", word)
	}
	return nil
}

// resolve returns the addresses with their placeholders replaced, checked.
func (e Endpoints) resolve() (Endpoints, error) {
	if e.Issuer == "" {
		return e, errors.New("issuer is missing: write issuer")
	}
	err := e.addresses().Resolve()
	return e, err
}

// given lists the addresses that the operator wrote.
func (e Endpoints) given() []string { return e.addresses().Given() }

// complete reports whether there is nothing left to discover that a sign-in
// cannot do without.
func (e Endpoints) complete() bool { return e.AuthURL != "" && e.TokenURL != "" && e.JWKSURL != "" }

var _ provider.Part = (*Endpoints)(nil)
