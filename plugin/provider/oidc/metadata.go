package oidc

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/caddy-login/caddy-login/plugin/provider"
)

// What an issuer may answer at most, in bytes after decompression.
const (
	maxDiscovery = 128 << 10
	maxKeys      = 512 << 10
	maxUserinfo  = 256 << 10
)

// signingAlgs are the algorithms an ID token may be signed with at all. Those
// with a shared secret are missing for good: a public key would do as one.
var signingAlgs = []string{
	"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
}

// metadata is what we need to know of an issuer (OpenID Connect Discovery 1.0
// section 3).
type metadata struct {
	authURL     string
	tokenURL    string
	jwksURL     string
	userinfoURL string
	basicAuth   bool // the client's secret goes into the header
	algs        []jose.SignatureAlgorithm
	namesIssuer bool // RFC 9207: authorization answers carry iss

	endSessionURL    string   // empty where there is none
	revocationURL    string   // likewise
	introspectionURL string   // likewise
	datesSignIns     bool     // ID tokens say when a person signed in, where that is asked for
	offline          bool     // the scope offline_access may be asked for
	clientAlgs       []string // those that a client_assertion may be signed with; none: it does not say
}

// discover reads the issuer's discovery document, unless the operator wrote
// all that it would say.
func (p *party) discover(ctx context.Context) (*metadata, error) {
	at := p.settings.endpoints
	if at.complete() {
		return p.readMetadata(provider.Claims{})
	}
	address := strings.TrimSuffix(at.Issuer, "/") + "/.well-known/openid-configuration"
	body, err := p.fetch(ctx, address, maxDiscovery)
	if err != nil {
		return nil, err
	}
	doc, err := provider.ParseClaims(body)
	if err != nil {
		return nil, untrusted("reading discovery document: %w", err)
	}
	if got, want := doc.Text("issuer"), cmp.Or(p.brand.document, at.Issuer); got != want {
		return nil, untrusted("discovery document names issuer %s, not %q", provider.Quote(got), want)
	}
	return p.readMetadata(doc)
}

func (p *party) readMetadata(doc provider.Claims) (*metadata, error) {
	at := p.settings.endpoints
	m := &metadata{
		basicAuth:   p.basicAuth(doc),
		algs:        p.algs(doc),
		namesIssuer: doc.Proven("authorization_response_iss_parameter_supported"),

		endSessionURL: p.endSessionURL(doc),
		offline:       listsOffline(doc),
		datesSignIns:  listsAuthTime(doc),
	}
	m.clientAlgs, _ = doc.Texts("token_endpoint_auth_signing_alg_values_supported")
	for _, e := range []struct {
		to            *string
		written, name string
		needed        bool
	}{
		{&m.authURL, at.AuthURL, "authorization_endpoint", true},
		{&m.tokenURL, at.TokenURL, "token_endpoint", true},
		{&m.jwksURL, at.JWKSURL, "jwks_uri", true},
		{&m.userinfoURL, at.UserinfoURL, "userinfo_endpoint", false},
	} {
		*e.to = e.written
		if e.written != "" || !e.needed && (p.brand.skipsUserinfo || !doc.Has(e.name)) {
			continue
		}
		*e.to = doc.Text(e.name)
		if err := p.checkDiscovered(*e.to); err != nil {
			return nil, untrusted("discovery document: %s: %w", e.name, err)
		}
	}
	m.revocationURL = p.revocationURL(doc, m.tokenURL)
	m.introspectionURL = p.introspectionURL(doc, m.tokenURL)
	return m, nil
}

// endSessionURL goes by end_session_url, else by the document.
func (p *party) endSessionURL(doc provider.Claims) string {
	return p.dispensable(doc, "end_session_endpoint", p.settings.endpoints.EndSessionURL, &p.oddFarewell)
}

// revocationURL goes by revocation_url, else by the document, else by what is
// known of the brand.
func (p *party) revocationURL(doc provider.Claims, tokenURL string) string {
	address := p.dispensable(doc, "revocation_endpoint", p.settings.revocationURL, &p.oddRevocation)
	if address == "" && p.brand.revocation.beside != "" {
		return provider.Beside(tokenURL, p.brand.revocation.beside)
	}
	return address
}

// dispensable is the address of an endpoint that a sign-in can do without. One
// that must not be followed is none, which is logged once: that is no reason to
// keep people from signing in.
func (p *party) dispensable(doc provider.Claims, name, written string, odd *sync.Once) string {
	if written != "" || !doc.Has(name) {
		return written
	}
	address := doc.Text(name)
	if err := p.checkDiscovered(address); err != nil {
		odd.Do(func() {
			p.env.Log.Warn("discovery document's "+name+" is unusable: going on as if there were none",
				"provider", p.settings.options.InstanceName(), "error", err)
		})
		return ""
	}
	return address
}

// listsOffline reports whether the scope offline_access may be asked for. The
// list is optional, and who leaves it out ignores what it does not know (OpenID
// Connect Core 3.1.2.1).
func listsOffline(doc provider.Claims) bool {
	scopes, ok := doc.Texts("scopes_supported")
	return !ok || len(scopes) == 0 || slices.Contains(scopes, offlineScope)
}

// checkDiscovered is stricter than provider.CheckURL: an issuer elsewhere must
// not send us to our own loopback in the clear.
func (p *party) checkDiscovered(address string) error {
	if strings.HasPrefix(p.settings.endpoints.Issuer, "https:") && !strings.HasPrefix(address, "https:") {
		return fmt.Errorf("%s is not https", provider.Quote(address))
	}
	return provider.CheckURL(address)
}

// basicAuth goes by client_auth, else by what the document lists: Basic is
// the default of the specification.
func (p *party) basicAuth(doc provider.Claims) bool {
	if p.settings.clientAuth != "" {
		return p.settings.clientAuth == "basic"
	}
	methods, _ := doc.Texts("token_endpoint_auth_methods_supported")
	return slices.Contains(methods, "client_secret_basic") || !slices.Contains(methods, "client_secret_post")
}

func (p *party) algs(doc provider.Claims) []jose.SignatureAlgorithm {
	if p.settings.signingAlg != "" {
		return []jose.SignatureAlgorithm{jose.SignatureAlgorithm(p.settings.signingAlg)}
	}
	listed, _ := doc.Texts("id_token_signing_alg_values_supported")
	var algs []jose.SignatureAlgorithm
	for _, alg := range listed {
		if slices.Contains(signingAlgs, alg) {
			algs = append(algs, jose.SignatureAlgorithm(alg))
		}
	}
	if len(algs) == 0 {
		return []jose.SignatureAlgorithm{jose.RS256}
	}
	return algs
}

// fetch reads a public document of at most max bytes.
func (p *party) fetch(ctx context.Context, address string, max int64) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, untrusted("making request: %w", err)
	}
	r.Header.Set("Accept", "application/json")
	resp, err := p.client.Do(r)
	if err != nil {
		return nil, unavailable("asking the issuer: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, unavailable("%s answered %d", address, resp.StatusCode)
	}
	return p.read(resp.Body, max)
}

// read reads a body of at most max bytes.
func (p *party) read(body io.Reader, max int64) ([]byte, error) {
	data, err := provider.ReadBody(body, max)
	if err != nil {
		return nil, unavailable("reading the issuer's answer: %w", err)
	}
	return data, nil
}
