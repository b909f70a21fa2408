// Package oauth signs people in with OAuth 2.0 servers that issue no ID token:
// brands with an API of their own, and any server that tells who somebody is.
//
// Nothing here is signed. That an answer speaks of the person at the browser
// rests on the state, on the code, which PKCE binds to this browser wherever
// the server knows it, and on TLS to the server.
package oauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

func init() {
	caddy.RegisterModule(new(OAuth2))
	caddy.RegisterModule(new(GitHub))
	caddy.RegisterModule(new(Facebook))
	caddy.RegisterModule(new(Discord))
	caddy.RegisterModule(new(X))
	caddy.RegisterModule(new(Bitbucket))
	caddy.RegisterModule(new(Amazon))
	caddy.RegisterModule(new(Spotify))
}

// OAuth2 signs people in with any OAuth 2.0 server that has an endpoint which
// tells, in JSON, who the access token belongs to.
//
//	oauth2 <name> [<id> [<secret>]] {
//		auth_url <url>
//		token_url <url>
//		userinfo_url <url>
//		subject_path <path>
//		email_path <path>
//		verified_path <path>
//		name_path <path>
//		client_auth basic|post
//		revocation_url <url>
//		introspection_url <url>
//	}
//
// A path leads into the answer: names with dots between, and places in lists,
// the first being 0, such as data.emails.0.address.
//
// Who somebody is hangs on the name, on the issuer and on what is at
// subject_path. The addresses of the endpoints may change, as long as the
// issuer stays.
type OAuth2 struct {
	provider.Options
	Server

	// The endpoint that is asked, with the access token, whose it is.
	UserinfoURL string `json:"userinfo_url,omitempty"`

	// Where the answer identifies the person. It must be unique and must never
	// be given to somebody else: an address or a login name is neither. Changing
	// it makes everybody a stranger.
	SubjectPath string `json:"subject_path,omitempty"`

	// Where the answer holds the address. Default: email.
	EmailPath string `json:"email_path,omitempty"`

	// Where the answer holds true, or "true", if the address is verified.
	// Default: nowhere, and no address counts as proven.
	VerifiedPath string `json:"verified_path,omitempty"`

	// Where the answer holds the display name. Default: name.
	NamePath string `json:"name_path,omitempty"`

	// How the client secret is sent: `basic` (the default) or `post`.
	ClientAuth string `json:"client_auth,omitempty"`

	// The endpoint that takes back what a person granted, once they disconnect or
	// delete their account here (RFC 7009). Default: none is asked.
	RevocationURL string `json:"revocation_url,omitempty"`

	// The endpoint that says whom an access token was issued to (RFC 7662). With
	// it, apps of yours that sign in with this client ID at the server may hand in
	// the access token they got. Default: none may.
	IntrospectionURL string `json:"introspection_url,omitempty"`

	party
}

var clientAuths = []string{"basic", "post"}

// CaddyModule returns the module's ID.
func (*OAuth2) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "login.providers.oauth2", New: func() caddy.Module { return new(OAuth2) }}
}

// UnmarshalCaddyfile reads the block shown at OAuth2.
func (o *OAuth2) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the provider's word
	if err := o.NamedCredentials(d, "endpoints and its subject_path"); err != nil {
		return err
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := o.option(d); err != nil {
			return err
		}
	}
	return o.needAll(d)
}

func (o *OAuth2) option(d *caddyfile.Dispenser) error {
	own := []string{"subject_path", "email_path", "verified_path", "name_path", "client_auth"}
	switch d.Val() {
	case "name":
		return d.Err("oauth2 has its name on its own line: write oauth2 <name> there, and remove this line")
	case "subject_path":
		return writtenPath(d, &o.SubjectPath)
	case "email_path":
		return writtenPath(d, &o.EmailPath)
	case "verified_path":
		return writtenPath(d, &o.VerifiedPath)
	case "name_path":
		return writtenPath(d, &o.NamePath)
	case "client_auth":
		return provider.Choice(d, &o.ClientAuth, clientAuths...)
	default:
		none := []string{"name", "provider_logout", "native_client_ids"}
		return provider.Rest(d, own, provider.Without{Part: &o.Options, Not: none},
			o.addresses("userinfo_url", &o.UserinfoURL), revocationAddress(&o.RevocationURL), introspectionAddress(&o.IntrospectionURL))
	}
}

func revocationAddress(to *string) provider.Addresses {
	return provider.Addresses{{Word: "revocation_url", To: to, Check: provider.CheckURL}}
}

// needAll complains about what is missing in a block.
func (o *OAuth2) needAll(d *caddyfile.Dispenser) error {
	if word := o.missing(); word != "" {
		return d.Errf("%s is missing: add a line '%s …' to the block of oauth2", word, word)
	}
	return nil
}

// missing is the word of what no instance can do without, or empty.
func (o *OAuth2) missing() string {
	for _, need := range []struct{ word, value string }{
		{"auth_url", o.AuthURL}, {"token_url", o.TokenURL}, {"userinfo_url", o.UserinfoURL}, {"subject_path", o.SubjectPath},
	} {
		if need.value == "" {
			return need.word
		}
	}
	return ""
}

func writtenPath(d *caddyfile.Dispenser, to *string) error {
	word := d.Val()
	return provider.Checked(d, to, func(path string) error { return checkPath(word, path) })
}

// checkPath reports why path leads nowhere. It holds no placeholders.
func checkPath(word, path string) error {
	if len(path) > 200 || path != "" && slices.Contains(strings.Split(path, "."), "") {
		return fmt.Errorf("%s: %q is no path of at most 200 bytes: write names with dots between, such as data.id", word, provider.Cut(path, 200))
	}
	return nil
}

// Provision checks the settings and resolves placeholders. It touches no
// network.
func (o *OAuth2) Provision(caddy.Context) error {
	if word := o.missing(); word != "" {
		return fmt.Errorf("%s is missing: write %s", word, word)
	}
	err := errors.Join(
		provider.OneOf("client_auth", o.ClientAuth, clientAuths...),
		checkPath("subject_path", o.SubjectPath),
		checkPath("email_path", o.EmailPath),
		checkPath("verified_path", o.VerifiedPath),
		checkPath("name_path", o.NamePath),
		checkPath("groups", o.Groups),
	)
	if err != nil {
		return err
	}
	if len(o.NativeClientIDs) > 0 {
		return errors.New("native_client_ids: oauth2 has no way to tell whom a token was issued to: remove it")
	}
	at, err := o.locate()
	if err != nil {
		return err
	}
	b := brand{key: "oauth2", basic: o.ClientAuth != "post", groups: true, who: o.who}
	if at.introspection != "" {
		b.issuedTo = o.issuedTo
	}
	return o.setUp(&o.Options, at, b)
}

func (o *OAuth2) locate() (place, error) {
	at, err := o.Server.resolve("userinfo_url", o.UserinfoURL)
	if err != nil {
		return at, err
	}
	at.Issuer = cmp.Or(at.Issuer, originOf(at.api))
	at.revocation, at.introspection = o.RevocationURL, o.IntrospectionURL
	more := append(revocationAddress(&at.revocation), introspectionAddress(&at.introspection)...)
	err = more.Resolve()
	at.own = append(at.own, more.Given()...)
	return at, err
}

// who reads the person from the answer of the userinfo endpoint.
func (o *OAuth2) who(ctx context.Context, b bearer) (guest.Profile, error) {
	info, err := b.object(ctx, "userinfo", o.at.api)
	if err != nil {
		return guest.Profile{}, err
	}
	subject, err := info.At(o.SubjectPath).ID(o.SubjectPath)
	if err != nil {
		return guest.Profile{}, provider.Untrusted("identifying the person: %w", err)
	}
	email := plainAddress(info, cmp.Or(o.EmailPath, "email"))
	name := cmp.Or(o.NamePath, "name")
	return guest.Profile{
		Subject:    subject,
		Email:      email,
		EmailTrust: o.Trust(email, o.VerifiedPath != "" && info.At(o.VerifiedPath).Proven(o.VerifiedPath)),
		Name:       provider.Display(info.At(name).Text(name)),
		Groups:     o.groups(info),
	}, nil
}

func (o *OAuth2) groups(info provider.Claims) []string {
	if o.Groups == "" {
		return nil
	}
	groups, ok := info.At(o.Groups).Groups(o.Groups)
	if !ok {
		o.env.Log.Warn("groups are no complete list of names: taking none",
			"provider", o.InstanceName(), "path", o.Groups)
	}
	return groups
}

var (
	_ caddy.Module          = (*OAuth2)(nil)
	_ caddy.Provisioner     = (*OAuth2)(nil)
	_ caddyfile.Unmarshaler = (*OAuth2)(nil)
	_ guest.Renewer         = (*OAuth2)(nil)
)
