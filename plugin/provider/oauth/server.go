package oauth

import (
	"net/url"
	"strings"

	"github.com/caddy-login/caddy-login/plugin/provider"
)

// Server says where an authorization server is. All addresses must be https;
// http is only for localhost.
type Server struct {
	// The server's name in the identity of everybody who signs in through it:
	// changing it makes them strangers. Default: the brand's own, or scheme and
	// host of the endpoint that tells who somebody is, so that nobody becomes
	// somebody else when that is pointed at another server. Write it to keep
	// people when their server moves, or to tell apart tenants that share a
	// host. Where it is written, an `iss` in the server's answer (RFC 9207) must
	// be the same.
	Issuer string `json:"issuer,omitempty"`

	// The authorization endpoint: where the browser is sent.
	AuthURL string `json:"auth_url,omitempty"`

	// The token endpoint: where the code is exchanged.
	TokenURL string `json:"token_url,omitempty"`
}

// addresses are the server's and one more, of the endpoint that tells who
// somebody is.
func (s *Server) addresses(word string, to *string) provider.Addresses {
	check := provider.CheckURL
	if word == "api_url" {
		check = provider.CheckIssuer // paths are added to it
	}
	return provider.Addresses{
		{Word: "issuer", To: &s.Issuer, Check: provider.CheckIssuer},
		{Word: "auth_url", To: &s.AuthURL, Check: provider.CheckURL},
		{Word: "token_url", To: &s.TokenURL, Check: provider.CheckURL},
		{Word: word, To: to, Check: check},
	}
}

// place is a Server with nothing left to find out.
type place struct {
	Server
	api  string   // the endpoint that tells who somebody is, or where it and others are
	said string   // the issuer, where the operator wrote one
	own  []string // what the operator wrote

	revocation    string // the revocation endpoint; empty: there is none
	introspection string // likewise
}

// resolve returns the addresses with their placeholders replaced, checked.
func (s Server) resolve(word, address string) (place, error) {
	addresses := s.addresses(word, &address)
	err := addresses.Resolve()
	return place{Server: s, api: address, said: s.Issuer, own: addresses.Given()}, err
}

// originOf is scheme and host of an address that was checked.
func originOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	host := strings.ToLower(u.Host)
	for scheme, port := range map[string]string{"https": ":443", "http": ":80"} {
		if u.Scheme == scheme {
			host = strings.TrimSuffix(host, port)
		}
	}
	return u.Scheme + "://" + host
}
