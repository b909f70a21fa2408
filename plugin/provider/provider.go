// Package provider is what provider guests share: the options that every
// provider's block has, how they are written and resolved, and the careful
// reading of what a provider answers.
package provider

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-login/caddy-login/module/guest"
)

// Options are the settings that every provider has. A provider's config
// struct embeds them, calls Resolve from its Provision and Consume from its
// UnmarshalCaddyfile.
type Options struct {
	// The name of this instance: part of its paths and of every identity that
	// signs in through it, so renaming it makes all of them strangers.
	// Lower-case letters, digits, '-' and '_', at most 32. Default: the kind of
	// provider, such as "google".
	Name string `json:"name,omitempty"`

	// The client ID that the provider issued for this site. May be a
	// placeholder, such as {env.GOOGLE_CLIENT_ID}.
	ClientID string `json:"client_id,omitempty"`

	// The client secret that goes with it. Write a placeholder, {env.NAME} or
	// {file./path}, to keep the secret out of the configuration.
	ClientSecret string `json:"client_secret,omitempty"`

	// The scopes to ask for, in place of the provider's default ones.
	Scopes []string `json:"scopes,omitempty"`

	// The provider's name as visitors read it on its button.
	Label string `json:"label,omitempty"`

	// What this provider's word about an address is worth. `auto` (the default)
	// judges each address by the provider's own signals. `unverified` believes
	// none, `verified` takes every address as checked, `authoritative` as if
	// the provider ran the mailbox. The last two let whoever can enter an
	// address at the provider be taken for its owner: write them only for a
	// provider whose addresses its administrators assign.
	EmailTrust string `json:"email_trust,omitempty"`

	// Whether a proven address identifies a new user and is sent to the app.
	// Default: true.
	UseEmailAsIdentifier *bool `json:"use_email_as_identifier,omitempty"`

	// Whether a proven address may lead to a user who exists already.
	// Default: true, or with `on_unverified_collision create`, false.
	AllowEmailAccountMerge *bool `json:"allow_email_account_merge,omitempty"`

	// Whether an address that the provider did not prove is proven by mail.
	// Needs a mailer. Default: true where the site has one.
	VerifyEmail *bool `json:"verify_email,omitempty"`

	// What a person must do before a new identity joins an existing user:
	// `proof` (a code, or a method already linked), `click` (confirm on a
	// page), `none` (nothing: silent), or `auto`, which takes `click` for
	// authoritative addresses and `proof` for others. Default: auto.
	MergeConfirmation string `json:"merge_confirmation,omitempty"`

	// What becomes of a new account whose address somebody else holds, where the
	// provider did not prove it and it is not proven by mail (verify_email off):
	// `reject` turns it away, with the advice to sign in the way one knows;
	// `create` makes a user of its own, without the address. Since such a user is
	// never merged into another, `create` excludes allow_email_account_merge.
	// Default: reject.
	OnUnverifiedCollision string `json:"on_unverified_collision,omitempty"`

	// The claim that lists a person's groups. Default: none is read.
	Groups string `json:"groups,omitempty"`

	// Domains whose mailboxes the operator of this provider runs. A verified
	// address in one of them counts as authoritative. Where given, `email_trust
	// authoritative` holds for these domains alone. Exact names: a subdomain
	// needs an entry of its own.
	AuthoritativeDomains []string `json:"authoritative_domains,omitempty"`

	// What becomes of the tokens that the provider issues: `keep` keeps them,
	// sealed, and renews them, as long as the session lives; `forward` sends the
	// access token to the app as well; with `debug` on, Caddy's own log shows it
	// then. Default: they are dropped once the person is known.
	Tokens string `json:"tokens,omitempty"`

	// With `tokens forward`: the header in which the app receives the access
	// token. Default: X-Forwarded-Access-Token.
	TokenHeader string `json:"token_header,omitempty"`

	// How old the provider's last word about an account may be, at least 1m: who
	// is disabled there is signed out here after that time. The provider must
	// issue what it takes to ask again; where that expires, so does the session.
	// A provider that does not answer signs nobody out. Default: it is asked at
	// the sign-in only.
	Revalidate caddy.Duration `json:"revalidate,omitempty"`

	// Whether signing out here goes on to sign out at the provider, where it has
	// an address for that. Default: true.
	ProviderLogout *bool `json:"provider_logout,omitempty"`

	// Client IDs of this operator's native apps, whose tokens from this
	// provider are taken as well. Default: none.
	NativeClientIDs []string `json:"native_client_ids,omitempty"`

	name    string
	label   string
	id      string
	secret  guest.Secret
	domains []string
	natives []string
}

// Defaults are what a kind of provider supplies where its operator wrote
// nothing.
type Defaults struct {
	Name         string
	Label        string // the name, where empty
	ClientID     string // a placeholder: "{env.GOOGLE_CLIENT_ID}"
	ClientSecret string
	NoSecret     bool // nobody issues one: the provider makes it itself
}

// FillClient writes the default placeholders where no client was given, so
// that the JSON shows where the credentials come from.
func (o *Options) FillClient(def Defaults) {
	o.ClientID = cmp.Or(o.ClientID, def.ClientID)
	o.ClientSecret = cmp.Or(o.ClientSecret, def.ClientSecret)
}

// Resolve checks the options, applies def and replaces placeholders, each
// once: what came out of one is never looked into again. The exported fields
// stay as the operator wrote them.
func (o *Options) Resolve(def Defaults) error {
	o.FillClient(def)
	o.name = cmp.Or(o.Name, def.Name)
	o.label = cmp.Or(o.Label, def.Label, o.name)
	if err := o.check(); err != nil {
		return err
	}
	id, err := Placeholders("client_id", o.ClientID)
	if err != nil {
		return err
	}
	secret, err := o.resolveSecret(def)
	if err != nil {
		return err
	}
	o.id, o.secret = id, secret
	if o.natives, err = AllPlaceholders("native_client_ids", o.NativeClientIDs); err != nil {
		return err
	}
	o.domains, err = Domains("authoritative_domains", o.AuthoritativeDomains)
	return err
}

func (o *Options) resolveSecret(def Defaults) (guest.Secret, error) {
	if !def.NoSecret {
		secret, err := Placeholders("client_secret", o.ClientSecret)
		return guest.Secret(secret), err
	}
	if o.ClientSecret != "" {
		return "", fmt.Errorf("client_secret: %s takes none, it makes one for each call: remove it", def.Label)
	}
	return "", nil
}

func (o *Options) check() error {
	return errors.Join(
		guest.CheckName(o.name),
		OneOf("email_trust", o.EmailTrust, trusts...),
		OneOf("merge_confirmation", o.MergeConfirmation, confirmations...),
		OneOf("on_unverified_collision", o.OnUnverifiedCollision, collisions...),
		o.checkCollision(),
		OneOf("tokens", o.Tokens, tokenWords...),
		o.checkTokens(),
		noneEmpty("scopes", o.Scopes),
	)
}

// checkCollision refuses what contradicts itself: an account whose address
// somebody holds is led to that user, or made another.
func (o *Options) checkCollision() error {
	if o.OnUnverifiedCollision != "create" || o.AllowEmailAccountMerge == nil || !*o.AllowEmailAccountMerge {
		return nil
	}
	return errors.New("on_unverified_collision create: with merging on, an address leads to the user who holds it: " +
		"write allow_email_account_merge off, or remove either line")
}

// Inert is what the operator wrote that does nothing beside what else is
// written, with the cure; empty where there is none. It is no error: the other
// line may be for a day.
func (o *Options) Inert() string {
	if o.VerifyEmail == nil || !*o.VerifyEmail || o.identifies() {
		return ""
	}
	return "verify_email does nothing while use_email_as_identifier is off: " +
		"there is no use for an address that it proves; switch that on, or remove verify_email"
}

func (o *Options) identifies() bool { return o.UseEmailAsIdentifier == nil || *o.UseEmailAsIdentifier }

func (o *Options) merges() bool {
	if o.AllowEmailAccountMerge != nil {
		return *o.AllowEmailAccountMerge
	}
	return o.OnUnverifiedCollision != "create"
}

var tokenWords = []string{"keep", "forward"}

// shortestRevalidate keeps a busy site from asking the provider all the time.
const shortestRevalidate = caddy.Duration(time.Minute)

func (o *Options) checkTokens() error {
	switch {
	case o.TokenHeader != "" && o.Tokens != "forward":
		return errors.New("token_header is only for 'tokens forward': write that, or remove it")
	case o.Revalidate != 0 && o.Revalidate < shortestRevalidate:
		return fmt.Errorf("revalidate %s is too often: write at least 1m", time.Duration(o.Revalidate))
	default:
		return nil
	}
}

// KeepsTokens reports whether anything is to be done with tokens after the
// sign-in.
func (o *Options) KeepsTokens() bool { return o.Tokens != "" || o.Revalidate != 0 }

func (o *Options) tokenRules() guest.TokenRules {
	rules := guest.TokenRules{Keep: o.KeepsTokens(), Revalidate: time.Duration(o.Revalidate)}
	if o.Tokens == "forward" {
		rules.Header = cmp.Or(o.TokenHeader, "X-Forwarded-Access-Token")
	}
	return rules
}

// Client returns the resolved client ID and secret. Neither is empty, but for
// the secret where Defaults.NoSecret was set.
func (o *Options) Client() (id string, secret guest.Secret) { return o.id, o.secret }

// InstanceName returns the resolved name of this instance.
func (o *Options) InstanceName() string { return o.name }

// NativeClients returns the resolved client IDs of native apps.
func (o *Options) NativeClients() []string { return slices.Clone(o.natives) }

// Describe returns the traits of a provider with these options.
func (o *Options) Describe(brand string, formPost bool) guest.Traits {
	return guest.Traits{
		Name:     o.name,
		Label:    o.label,
		Brand:    brand,
		FormPost: formPost,
		Email: guest.EmailRules{
			Identifier:     o.identifies(),
			Merge:          o.merges(),
			Verify:         verifyWord(o.VerifyEmail),
			Confirmation:   cmp.Or(o.MergeConfirmation, "auto"),
			CreateUnlinked: o.OnUnverifiedCollision == "create",
		},
		Client:        o.id,
		Tokens:        o.tokenRules(),
		StaysSignedIn: o.ProviderLogout != nil && !*o.ProviderLogout,
	}
}

func verifyWord(said *bool) guest.Verify {
	switch {
	case said == nil:
		return ""
	case *said:
		return guest.VerifyOn
	default:
		return guest.VerifyOff
	}
}

// Placeholders replaces the placeholders of one value that an operator wrote,
// such as {env.NAME} and {file./path}. An empty result is an error that names
// the cure. It must never see anything that a visitor or a provider sent.
func Placeholders(field, written string) (string, error) {
	if written == "" {
		return "", fmt.Errorf("%s is missing: write %s", field, field)
	}
	got, err := caddy.NewReplacer().ReplaceOrErr(written, true, true)
	if err == nil && strings.TrimSpace(got) != "" {
		return got, nil
	}
	if name, ok := onlyPlaceholder(written, "{env."); ok {
		return "", fmt.Errorf("%s is empty: set %s or write %s", field, name, field)
	}
	if path, ok := onlyPlaceholder(written, "{file."); ok {
		return "", fmt.Errorf("%s is empty: make %s a readable file that holds it", field, path)
	}
	// The text itself stays out of the error: it may be a secret with braces.
	return "", fmt.Errorf(`%s has a placeholder that is empty or unknown; write \{ for a brace that is meant`, field)
}

func onlyPlaceholder(written, kind string) (string, bool) {
	inner, ok := strings.CutPrefix(written, kind)
	if !ok {
		return "", false
	}
	inner, ok = strings.CutSuffix(inner, "}")
	return inner, ok && !strings.ContainsAny(inner, "{}")
}

// AllPlaceholders is Placeholders for each of a list.
func AllPlaceholders(field string, written []string) ([]string, error) {
	out := make([]string, 0, len(written))
	for _, w := range written {
		got, err := Placeholders(field, w)
		if err != nil {
			return nil, err
		}
		out = append(out, got)
	}
	return out, nil
}

// OneOf reports an error that lists what is allowed where value is neither
// empty nor one of it.
func OneOf(field, value string, allowed ...string) error {
	if value == "" || slices.Contains(allowed, value) {
		return nil
	}
	return fmt.Errorf("%s: unknown value '%s' (allowed: %s)", field, value, strings.Join(allowed, ", "))
}

func noneEmpty(field string, values []string) error {
	if slices.Contains(values, "") {
		return fmt.Errorf("%s holds an empty string: remove it", field)
	}
	return nil
}
