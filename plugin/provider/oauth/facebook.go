package oauth

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// Facebook signs people in with a Facebook account.
//
//	facebook [<id> <secret>] {
//		graph_version <vNN.0>
//	}
//
// Without id and secret they are taken from FACEBOOK_CLIENT_ID and
// FACEBOOK_CLIENT_SECRET: the app's ID and secret. Switch on "Require App
// Secret" in the app's settings: a stolen access token is then worth nothing
// without the secret.
//
// An address counts as verified where Facebook hands one out, which it says
// only of those it takes for valid: the weakest word of all brands. Write
// email_trust unverified where that is not enough.
//
// Facebook has PKCE only, and in testing, for its OpenID Connect flow; in this
// one nothing guards against a code that was stolen from another browser and
// slipped into this one. What remains is the state, which is bound to the
// browser and works once, and the code, which works once and only with our
// secret and callback URL.
type Facebook struct {
	provider.Options
	Server

	// The version of the Graph API to ask, such as v26.0. Each works for about
	// two years; Caddy's log says when Facebook answers with another. An app can
	// use those that were current when it was made, and later ones.
	// Default: v26.0.
	GraphVersion string `json:"graph_version,omitempty"`

	// Where the Graph API is, without its version. Default:
	// https://graph.facebook.com.
	APIURL string `json:"api_url,omitempty"`

	party
	version string
	warned  sync.Once
}

// graphVersion was the latest on 21 November 2026: published on 29 July 2026,
// it works until two years after its successor comes. An older default would
// fail for apps made since, which can't use it.
const graphVersion = "v26.0"

const facebookIssuer = "https://www.facebook.com"

// CaddyModule returns the module's ID.
func (*Facebook) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "login.providers.facebook", New: func() caddy.Module { return new(Facebook) }}
}

var facebookDefaults = provider.Defaults{
	Name:         "facebook",
	Label:        "Facebook",
	ClientID:     "{env.FACEBOOK_CLIENT_ID}",
	ClientSecret: "{env.FACEBOOK_CLIENT_SECRET}",
}

// UnmarshalCaddyfile reads the block shown at Facebook.
func (f *Facebook) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return f.Unmarshal(d, facebookDefaults, f.option)
}

func (f *Facebook) option(d *caddyfile.Dispenser) error {
	switch d.Val() {
	case "graph_version":
		return provider.Checked(d, &f.GraphVersion, checkVersion)
	case "native_client_ids":
		return d.WrapErr(ownTokensAlone("facebook"))
	default:
		return provider.Rest(d, []string{"graph_version"},
			provider.Without{Part: &f.Options, Not: []string{"groups", "provider_logout", "native_client_ids"}}, f.addresses("api_url", &f.APIURL))
	}
}

var versionForm = regexp.MustCompile(`^v[1-9][0-9]{0,2}\.[0-9]{1,2}$`)

func checkVersion(version string) error {
	if !versionForm.MatchString(version) {
		return fmt.Errorf("graph_version: %q is no version: write one like %s", provider.Cut(version, 20), graphVersion)
	}
	return nil
}

// Provision checks the settings and resolves placeholders. It touches no
// network.
func (f *Facebook) Provision(caddy.Context) error {
	if len(f.NativeClientIDs) > 0 {
		return ownTokensAlone("facebook")
	}
	f.version = cmp.Or(f.GraphVersion, graphVersion)
	if err := checkVersion(f.version); err != nil {
		return err
	}
	at, err := f.Server.resolve("api_url", f.APIURL)
	if err != nil {
		return err
	}
	if at.api == "" {
		at.api, at.Issuer = "https://graph.facebook.com", cmp.Or(at.Issuer, facebookIssuer)
	}
	at.api = strings.TrimSuffix(at.api, "/") + "/" + f.version
	at.AuthURL = cmp.Or(at.AuthURL, facebookIssuer+"/"+f.version+"/dialog/oauth")
	at.TokenURL = cmp.Or(at.TokenURL, at.api+"/oauth/access_token")
	at.Issuer = cmp.Or(at.Issuer, originOf(at.api))
	return f.setUp(&f.Options, at, brand{
		key:         "facebook",
		defaults:    facebookDefaults,
		scopes:      []string{"email", "public_profile"},
		refusesPKCE: true,
		anew:        url.Values{"auth_type": {"reauthenticate"}},
		who:         f.who,
		issuedTo:    f.issuedTo,
	})
}

// who asks for the person. The id is of this person for this app: another app
// knows them by another.
func (f *Facebook) who(ctx context.Context, b bearer) (guest.Profile, error) {
	answer, err := b.ask(ctx, "me", f.me(b.tokens.Access))
	if err != nil {
		return guest.Profile{}, err
	}
	f.notice(answer.Header.Get("Facebook-Api-Version"))
	if err := notTaken(answer.Body); err != nil {
		return guest.Profile{}, err
	}
	person, err := read("me", answer)
	if err != nil {
		return guest.Profile{}, err
	}
	if person.Has("error") {
		return guest.Profile{}, provider.Fail(guest.Refused, "me answered with an error")
	}
	id, err := number(person, "id")
	if err != nil {
		return guest.Profile{}, err
	}
	email := plainAddress(person, "email")
	return guest.Profile{
		Subject:    id,
		Email:      email,
		EmailTrust: f.Trust(email, true),
		Name:       provider.Display(person.Text("name")),
		Picture:    picture(person),
	}, nil
}

// notTaken is the error of an answer that says, in Facebook's way, that the
// access token is not taken; nil where it says something else. 190 is what
// becomes of a token that the person, a new password or Facebook took back;
// with subcode 463 it merely expired.
func notTaken(body []byte) error {
	said, err := provider.ParseClaims(body)
	if err != nil {
		return nil // whoever reads on will say so
	}
	code, sub := said.At("error.code")["error.code"], said.At("error.error_subcode")["error.error_subcode"]
	switch {
	case string(code) != "190":
		return nil
	case string(sub) == "463":
		return provider.Fail(guest.Refused, "me answered that the access token expired")
	default:
		return provider.Fail(guest.Refused, "me answered with code 190: %w", errNotTaken)
	}
}

// me is the address that tells who somebody is.
func (f *Facebook) me(access string) string {
	query := url.Values{"fields": {"id,name,email,picture"}, "appsecret_proof": {f.proof(access)}}
	return f.at.api + "/me?" + query.Encode()
}

// proof shows that a call is the app's own. It is no secret: nothing is to be had
// with it but together with the token, which stays in the header.
func (f *Facebook) proof(access string) string {
	_, secret := f.options.Client()
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(access))
	return hex.EncodeToString(mac.Sum(nil))
}

// Revoke takes the app out of the person's Facebook account, in at most 10 s. It
// needs nothing that was kept: the app itself may do so, by the person's id.
func (f *Facebook) Revoke(ctx context.Context, g guest.Granted) error {
	ctx, cancel := context.WithTimeout(ctx, revokeWithin)
	defer cancel()
	if err := f.checkOurs(g); err != nil {
		return err
	}
	if g.Subject == "" || strings.Trim(g.Subject, "0123456789") != "" {
		return provider.NotRevocable("the account's subject is no id of Facebook's")
	}
	id, secret := f.options.Client()
	app := id + "|" + string(secret)
	address := f.at.api + "/" + g.Subject + "/permissions?" + url.Values{"appsecret_proof": {f.proof(app)}}.Encode()
	r, err := http.NewRequestWithContext(ctx, http.MethodDelete, address, nil)
	if err != nil {
		return provider.Untrusted("making permissions request: %w", err)
	}
	r.Header.Set("Authorization", "Bearer "+app)
	answer, err := provider.Ask(f.client, r, "permissions", maxAnswer)
	if err != nil {
		return err
	}
	return uninstalled(answer)
}

// uninstalled reads what Facebook answers to a revocation. Its code 100 with
// subcode 33 is that the app sees nobody of this id, for whatever reason.
func uninstalled(answer provider.Answer) error {
	if strings.TrimSpace(string(answer.Body)) == "true" && answer.Status == http.StatusOK {
		return nil
	}
	said, err := provider.ParseClaims(answer.Body)
	code, sub := said.At("error.code")["error.code"], said.At("error.error_subcode")["error.error_subcode"]
	switch {
	case err == nil && answer.Status == http.StatusOK && said.Proven("success"):
		return nil
	case string(code) == "100" && string(sub) == "33":
		return provider.NotRevocable("permissions answered that the app knows no such person")
	default:
		return refused("permissions", answer.Status)
	}
}

// picture is the person's own: the silhouette that stands for a missing one is
// none.
func picture(person provider.Claims) string {
	if person.At("picture.data.is_silhouette").Proven("picture.data.is_silhouette") {
		return ""
	}
	return provider.Picture(person.At("picture.data.url").Text("picture.data.url"))
}

// notice says once that Facebook answered with another version than was asked
// for, as it does when that one has come to its end.
func (f *Facebook) notice(answered string) {
	if answered == f.version || !versionForm.MatchString(answered) {
		return
	}
	f.warned.Do(func() {
		f.env.Log.Warn("Facebook answers with another version of its Graph API: write graph_version with one that it still has",
			"provider", f.InstanceName(), "asked", f.version, "answered", answered)
	})
}

var (
	_ caddy.Module          = (*Facebook)(nil)
	_ caddy.Provisioner     = (*Facebook)(nil)
	_ caddyfile.Unmarshaler = (*Facebook)(nil)
	_ guest.Renewer         = (*Facebook)(nil)
)
