package oidc

import (
	"fmt"

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
}

// Consume reads one option about addresses; see provider.Part.
func (e *Endpoints) Consume(d *caddyfile.Dispenser) (bool, error) {
	switch d.Val() {
	case "issuer":
		return true, provider.Checked(d, &e.Issuer, provider.CheckIssuer)
	case "auth_url":
		return true, provider.Checked(d, &e.AuthURL, provider.CheckURL)
	case "token_url":
		return true, provider.Checked(d, &e.TokenURL, provider.CheckURL)
	case "jwks_url":
		return true, provider.Checked(d, &e.JWKSURL, provider.CheckURL)
	case "userinfo_url":
		return true, provider.Checked(d, &e.UserinfoURL, provider.CheckURL)
	default:
		return false, nil
	}
}

// Words lists the options about addresses.
func (*Endpoints) Words() []string {
	return []string{"issuer", "auth_url", "token_url", "jwks_url", "userinfo_url"}
}

// needIssuer complains at the end of a block that names no issuer.
func (e *Endpoints) needIssuer(d *caddyfile.Dispenser) error {
	if e.Issuer == "" {
		return d.Err("issuer is missing: write issuer https://…")
	}
	return nil
}

// resolve returns the addresses with their placeholders replaced, checked.
func (e Endpoints) resolve() (Endpoints, error) {
	for _, field := range []struct {
		name  string
		to    *string
		check func(string) error
	}{
		{"issuer", &e.Issuer, provider.CheckIssuer},
		{"auth_url", &e.AuthURL, provider.CheckURL},
		{"token_url", &e.TokenURL, provider.CheckURL},
		{"jwks_url", &e.JWKSURL, provider.CheckURL},
		{"userinfo_url", &e.UserinfoURL, provider.CheckURL},
	} {
		if *field.to == "" && field.name != "issuer" {
			continue
		}
		value, err := provider.Placeholders(field.name, *field.to)
		if err != nil {
			return e, err
		}
		if err := field.check(value); err != nil {
			return e, fmt.Errorf("%s: %w", field.name, err)
		}
		*field.to = value
	}
	return e, nil
}

// given lists the addresses that the operator wrote.
func (e Endpoints) given() []string {
	var list []string
	for _, address := range []string{e.Issuer, e.AuthURL, e.TokenURL, e.JWKSURL, e.UserinfoURL} {
		if address != "" {
			list = append(list, address)
		}
	}
	return list
}

// complete reports whether there is nothing left to discover that a sign-in
// cannot do without.
func (e Endpoints) complete() bool { return e.AuthURL != "" && e.TokenURL != "" && e.JWKSURL != "" }

var _ provider.Part = (*Endpoints)(nil)
