package oauth

import (
	"cmp"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-login/caddy-login/plugin/provider"
)

// API is what the block of a brand says that has no options but those of every
// provider, and the addresses of its server.
type API struct {
	provider.Options
	Server

	// Where the API is. Default: the brand's own.
	APIURL string `json:"api_url,omitempty"`

	party
}

// unmarshal reads the word of the brand, its client ID and secret or neither,
// and its block.
func (a *API) unmarshal(d *caddyfile.Dispenser, def provider.Defaults) error {
	return a.Unmarshal(d, def, func(d *caddyfile.Dispenser) error {
		none := []string{"groups", "provider_logout", "native_client_ids"}
		return provider.Rest(d, nil, provider.Without{Part: &a.Options, Not: none}, a.addresses("api_url", &a.APIURL))
	})
}

// provision checks the settings and resolves placeholders; home is where the
// brand is. It touches no network.
func (a *API) provision(home place, b brand) error {
	at, err := a.Server.resolve("api_url", a.APIURL)
	if err != nil {
		return err
	}
	at.api = strings.TrimSuffix(cmp.Or(at.api, home.api), "/")
	at.AuthURL = cmp.Or(at.AuthURL, home.AuthURL)
	at.TokenURL = cmp.Or(at.TokenURL, home.TokenURL)
	// Whoever points api_url elsewhere gets other people.
	if at.api == home.api {
		at.Issuer = cmp.Or(at.Issuer, home.Issuer)
	}
	at.Issuer = cmp.Or(at.Issuer, originOf(at.api))
	return a.setUp(&a.Options, at, b)
}
