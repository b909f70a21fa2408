package oidc

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	jose "github.com/go-jose/go-jose/v4"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// Apple signs people in with an Apple account.
//
//	apple {
//		client_id <services id>
//		team_id <id>
//		key_id <id>
//		private_key <pem or {file./path}>
//	}
//
// There is no client secret to paste and to renew: one is signed with the
// private key for each call and is good for five minutes.
//
// Apple tells a person's name once, when they first agree, in a part of its
// answer that nobody signed. It is kept from then on, for display alone. A
// first sign-in that ends in a refusal loses it until the person takes the site
// out of their Apple account.
type Apple struct {
	provider.Options
	Endpoints

	// The ten characters of the developer team that the services ID belongs
	// to. May be a placeholder.
	TeamID string `json:"team_id,omitempty"`

	// The ten characters that name the private key at Apple. May be a
	// placeholder.
	KeyID string `json:"key_id,omitempty"`

	// The private key that Apple let you download once, as text (PEM). Write a
	// placeholder, such as {file./etc/caddy/AuthKey_ABC123DEFG.p8}, to keep it
	// out of the configuration.
	PrivateKey string `json:"private_key,omitempty"`

	party
	minter
}

// minter makes client secrets.
type minter struct {
	client, team string
	signer       jose.Signer
}

// CaddyModule returns the module's ID.
func (*Apple) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "login.providers.apple", New: func() caddy.Module { return new(Apple) }}
}

var appleDefaults = provider.Defaults{Name: "apple", Label: "Apple", NoSecret: true}

var appleLacks = lacking{"groups", "provider_logout"}

const appleIssuer = "https://appleid.apple.com"

// UnmarshalCaddyfile reads the block shown at Apple.
func (a *Apple) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the provider's word
	if d.NextArg() {
		return d.Err("apple takes no arguments: write client_id, team_id, key_id and private_key in its block")
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := a.option(d); err != nil {
			return err
		}
	}
	for _, needed := range []struct{ word, value string }{
		{"client_id", a.ClientID}, {"team_id", a.TeamID}, {"key_id", a.KeyID}, {"private_key", a.PrivateKey},
	} {
		if needed.value == "" {
			return d.Errf("%s is missing: add a line '%s …' to the block of apple", needed.word, needed.word)
		}
	}
	return nil
}

func (a *Apple) option(d *caddyfile.Dispenser) error {
	switch d.Val() {
	case "team_id":
		return provider.Text(d, &a.TeamID)
	case "key_id":
		return provider.Text(d, &a.KeyID)
	case "private_key":
		return provider.Text(d, &a.PrivateKey)
	case "client_secret":
		return d.Err("apple takes no client_secret, it makes one for each call from private_key: remove the line")
	default:
		return provider.Rest(d, []string{"team_id", "key_id", "private_key"},
			provider.Without{Part: appleLacks.of("apple", &a.Options), Not: []string{"client_secret"}}, &a.Endpoints)
	}
}

// Provision checks the settings, reads the key and resolves placeholders. It
// touches no network.
func (a *Apple) Provision(caddy.Context) error {
	err := a.party.setUp(settings{
		options: &a.Options, endpoints: a.Endpoints, clientAuth: "post", responseMode: "form_post",
	}, brand{
		key:           "apple",
		defaults:      appleDefaults,
		issuer:        appleIssuer,
		scopes:        []string{"openid", "email", "name"},
		mint:          a.mint,
		skipsUserinfo: true,
		introduce:     appleName,
		runsMailbox:   appleRunsMailbox,
		// Apple throttles who asks after a refresh token more than once a day (the
		// house asks at four fifths of the time), and its access tokens open
		// nothing.
		renewsEvery:    30 * time.Hour,
		revokesConsent: true,
		revocation:     revocation{beside: "revoke"},
		lacks:          appleLacks,
	})
	if err != nil {
		return err
	}
	a.minter, err = a.newMinter()
	return err
}

func (a *Apple) newMinter() (m minter, err error) {
	m.client, _ = a.Client()
	if m.team, err = provider.Placeholders("team_id", a.TeamID); err != nil {
		return m, err
	}
	keyID, err := provider.Placeholders("key_id", a.KeyID)
	if err != nil {
		return m, err
	}
	text, err := provider.Placeholders("private_key", a.PrivateKey)
	if err != nil {
		return m, err
	}
	key, err := parseAppleKey(text)
	if err != nil {
		return m, fmt.Errorf("private_key %w: write {file./path/AuthKey_….p8}, the file as Apple let you download it", err)
	}
	m.signer, err = newSigner(jose.ES256, key, keyID)
	return m, err
}

// parseAppleKey reads a PKCS #8 key on P-256. Its errors quote nothing of text.
func parseAppleKey(text string) (crypto.Signer, error) {
	parsed, err := parsePrivateKey(text)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("is not on the curve P-256")
	}
	return key, nil
}

// mint makes the client secret that Apple's token endpoint takes: a token of
// ours, good for one call.
func (m *minter) mint(now time.Time) (guest.Secret, error) {
	return signClaims(m.signer, map[string]any{
		"iss": m.team,
		"sub": m.client,
		"aud": appleIssuer,
		"iat": now.Unix(),
		"exp": now.Add(5 * time.Minute).Unix(),
	})
}

// maxAppleName bounds, in bytes, each half of a name: they come by the
// visitor's browser, which can write anything.
const maxAppleName = 100

// appleName reads the `user` that Apple posts beside the code of a first
// consent. Only the name is taken from it: its address, unlike the ID token's,
// is whatever the browser says.
func appleName(answer url.Values) string {
	user, err := provider.ParseClaims([]byte(answer.Get("user")))
	if err != nil {
		return ""
	}
	name, err := provider.ParseClaims(user["name"])
	if err != nil {
		return ""
	}
	first := provider.Cut(provider.Display(name.Text("firstName")), maxAppleName)
	last := provider.Cut(provider.Display(name.Text("lastName")), maxAppleName)
	return provider.Display(first + " " + last)
}

// appleRunsMailbox reports whether Apple delivers the mail of a verified
// address. Any other it has only checked once.
func appleRunsMailbox(_ provider.Claims, domain string) bool {
	return slices.Contains([]string{"privaterelay.appleid.com", "icloud.com", "me.com", "mac.com"}, domain)
}

var (
	_ caddy.Module          = (*Apple)(nil)
	_ caddy.Provisioner     = (*Apple)(nil)
	_ caddyfile.Unmarshaler = (*Apple)(nil)
	_ guest.Provider        = (*Apple)(nil)
)
