package guest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Method is one way to sign in: a Provider or a CodeSender. It is a Caddy
// module in the namespace login.providers and must be safe for concurrent use.
type Method interface {
	// Open takes what the house lends and checks the method's own settings. It
	// is called at provision and must not touch the network or the disk: one
	// dead provider must not stop Caddy from starting.
	Open(Env) error

	// Traits says how the house treats this method. Constant after Open.
	Traits() Traits
}

// CodeSender is the way in by a code or a link that comes by mail. The house
// does it all; this says how.
type CodeSender interface {
	Method

	// Codes are the operator's choices. Constant after Open.
	Codes() CodeRules
}

// CodeRules shape the codes that are mailed.
type CodeRules struct {
	// Length is how many digits a code has, 6 to 10.
	Length int
	// Lifetime is how long code and link are good.
	Lifetime time.Duration
	// Link has the mail carry a link as well.
	Link bool
	// CrossDevice is what a link does in another browser than the one that
	// asked: `code` shows the code to type there, `match` has the person pick
	// the number shown there, `allow` signs in where the link was opened.
	CrossDevice string
}

// Provider is a Method that leads over another party: Google, an OIDC issuer,
// an OAuth 2.0 server.
type Provider interface {
	Method

	// Begin returns the absolute address at the provider that the browser is
	// sent to. It may fetch discovery metadata (once, shared by all callers)
	// and must give up within 3 s.
	Begin(ctx context.Context, a Attempt) (string, error)

	// Finish turns the provider's answer (the query of the callback, or its
	// form where Traits.FormPost) into a Profile. The house has already
	// checked that the state is ours, unspent, and bound to this browser, and
	// has spent it. Finish checks everything else: RFC 9207 iss, error
	// answers, the ID token, nonce, userinfo's sub. Each answer parameter
	// occurs at most once.
	//
	// An error that is a *Failure decides what the visitor reads.
	Finish(ctx context.Context, a Attempt, answer url.Values) (Profile, error)
}

// Traits are a provider's fixed properties.
type Traits struct {
	// Name is the operator's name of this instance: part of its paths and of
	// the identity key, so that two Okta orgs coexist. Lower-case letters,
	// digits, '-' and '_', at most 32 bytes.
	Name string

	// Label is the provider's name as a person knows it: "Google".
	Label string

	// Brand selects the button's icon and style; a brand the pages do not know
	// gets a neutral one.
	Brand string

	// FormPost is set where answers come as a cross-site POST
	// (response_mode=form_post).
	FormPost bool

	// Email says what an address from this provider is good for.
	Email EmailRules

	// Client is our own name at the provider. Tokens that were issued to another
	// client are of no use to it.
	Client string

	// Owns reports whether accounts of this issuer (Profile.Issuer) are the
	// provider's, as it is configured now: the same name may have stood for
	// another before, or may elsewhere. nil: all are.
	Owns func(issuer string) bool

	// Tokens says what becomes of the tokens that this provider issues. Where
	// it keeps some, the provider is a Renewer.
	Tokens TokenRules

	// StaysSignedIn has a sign-out here leave the person's session at the
	// provider alone, also where the provider is a SessionEnder.
	StaysSignedIn bool

	// SendsLogouts is set where the provider may send logout tokens. The
	// provider is then a LogoutReader.
	SendsLogouts bool

	// Native are the kinds of tokens that the provider takes from apps, as far as
	// it can be told without asking it: it may take more. Where there are some,
	// it is a NativeTaker.
	Native []NativeKind
}

// TokenRules are what the operator wants of a provider's tokens. The zero
// value keeps none.
type TokenRules struct {
	// Keep has the house keep Profile.Tokens, sealed, as long as the session
	// lives, and have them renewed before they expire.
	Keep bool

	// Header is where the app receives the access token; empty: nowhere. It
	// needs Keep.
	Header string

	// Revalidate is how old the provider's last word about a session's account
	// may be. The house then has the tokens renewed. Zero: as old as the
	// session. It needs Keep.
	Revalidate time.Duration
}

// reserved are the first path elements that belong to the house: a provider of
// that name could never be reached.
var reserved = []string{"account", "api", "assets", "check", "code", "confirm", "jwks.json", "link", "logout"}

// CheckName reports why name can't be Traits.Name, or nil.
func CheckName(name string) error {
	if name == "" || len(name) > 32 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		return fmt.Errorf("name %.64q: use 1 to 32 lower-case letters, digits, '-' and '_'", name)
	}
	if slices.Contains(reserved, name) {
		return fmt.Errorf("name %q is a path of the sign-in pages: choose another", name)
	}
	return nil
}

// EmailRules are the operator's decisions about addresses from one provider
// (identity.md section 3).
type EmailRules struct {
	// Identifier lets a proven address identify a new user: only then is it
	// stored as one and sent to the app (use_email_as_identifier).
	Identifier bool

	// Merge lets a proven address lead to an existing user
	// (allow_email_account_merge).
	Merge bool

	// Verify has an address the provider did not prove be proven by mail
	// (verify_email): VerifyOn or VerifyOff. The zero value leaves it to whether
	// the site can send mail.
	Verify Verify

	// Confirmation is auto, proof, click or none (merge_confirmation).
	Confirmation string

	// CreateUnlinked makes a new user, without the address, of an account that
	// only asserts an address which somebody else holds
	// (on_unverified_collision create). Else it is refused.
	CreateUnlinked bool

	// Doubt is why an address from this provider must not decide who may pass,
	// with the cure; empty where it may. The house refuses a site that offers
	// the provider and has a rule or a role that names addresses.
	Doubt string
}

// Verify is the operator's word on whether addresses are proven by mail.
type Verify string

// The words of Verify. The zero value is: where the site can send mail.
const (
	VerifyOn  Verify = "on"
	VerifyOff Verify = "off"
)

// Attempt is one pending log-in, as a provider sees it. All values are made
// by the house.
type Attempt struct {
	// RedirectURI is the callback, the same in Begin and Finish.
	RedirectURI string

	// State, Nonce and Verifier are the OAuth state, the OIDC nonce and the
	// PKCE code verifier: 128 bits or more of chance each.
	State    string
	Nonce    string
	Verifier string

	// SwitchAccount asks the provider to let the person choose an account
	// instead of going on with the one it remembers.
	SwitchAccount bool

	// Reauthenticate asks the provider to have the person prove anew who they
	// are, where it can (OpenID Connect Core section 3.1.2.1, prompt=login).
	Reauthenticate bool
}

// Profile is who the provider says this is.
type Profile struct {
	// Issuer and Subject are the provider's stable name for the person. Never
	// a login name or an address. Subject is 1 to 255 bytes.
	Issuer  string
	Subject string

	// Email is an address as the provider spells it, or empty. EmailTrust
	// says what the provider's word is worth; only Verified and Authoritative
	// addresses count as proven.
	Email      string
	EmailTrust Trust

	// Name and Picture are for display. They may be empty.
	Name    string
	Picture string

	// Groups come from the claim the operator named. Never partial: a list
	// that overflowed at the provider is empty.
	Groups []string

	// AuthMethods are the `amr` values, AuthTime the `auth_time` (zero where
	// the provider does not tell).
	AuthMethods []string
	AuthTime    time.Time

	// TokenSubject and SessionID are the ID token's `sub` and `sid`: what later
	// tokens name the person and the session by. IssuedAt is its `iat`. All are
	// zero where there is no ID token.
	TokenSubject string
	SessionID    string
	IssuedAt     time.Time

	// IDToken is the raw token, for SessionEnder; empty where the provider has
	// no use for it.
	IDToken Secret

	// Tokens are for the house to keep, where Traits.Tokens says so.
	Tokens Tokens

	// Consent is a token that revokes what the person consented to, for when
	// they delete their account; empty where there is none. It is kept, sealed,
	// with the account at the provider.
	Consent Secret
}

// Tokens are what a provider issued for its own interfaces (RFC 6749 section
// 5.1).
type Tokens struct {
	// Access is the access token, Refresh the token that gets another one. Both
	// may be empty.
	Access, Refresh Secret
	// Expires is when Access does. Zero: the provider does not say.
	Expires time.Time
}

// Renewer is a Provider that renews tokens, which also proves that the account
// still stands.
type Renewer interface {
	Provider

	// Renew trades kept tokens for new ones, in at most 10 s. It is not called
	// twice at once for one session. What it returns must be the same person's:
	// a token of another is an error. Where the provider sends no new refresh
	// token, the old one is returned.
	//
	// ErrGrantEnded, wrapped, ends the session. Whatever else goes wrong ends
	// nothing: the house tries again later. Tokens beside such an error are kept,
	// since the old refresh token may be spent, but prove nothing.
	// ErrNotRenewable, wrapped, means that it never can be done.
	Renew(ctx context.Context, k Kept) (Tokens, error)
}

// Kept is what the house knows of a sign-in whose tokens are to be renewed.
type Kept struct {
	Tokens
	// Issuer, Subject and TokenSubject are those of the Profile.
	Issuer, Subject, TokenSubject string
}

// ErrGrantEnded means that the provider itself said that a person's consent or
// account is no more: `invalid_grant` (RFC 6749 section 5.2) and its like.
var ErrGrantEnded = errors.New("the provider ended what it granted")

// ErrNotRenewable means that nothing was kept that a Renewer could ask with.
var ErrNotRenewable = errors.New("nothing was kept to renew with")

// SessionEnder is a Provider that can end a person's session there as well
// (OpenID Connect RP-Initiated Logout 1.0).
type SessionEnder interface {
	Provider

	// EndSession returns the absolute address that the browser is sent to once
	// it is signed out here, or "" where the provider has none. It may fetch
	// discovery metadata and must give up within 3 s.
	EndSession(ctx context.Context, f Farewell) (string, error)
}

// Farewell is one sign-out.
type Farewell struct {
	// IDToken is the Profile's, as a hint; it may be empty.
	IDToken Secret
	// ReturnTo is where the browser comes back to, and State what it brings.
	ReturnTo, State string
}

// Revoker is a Provider that can take back what a person granted us (RFC 7009,
// or the provider's own way).
type Revoker interface {
	Provider

	// Revoke has the provider forget that this person granted us anything, and
	// what it issued, in at most 10 s. What is known there no more counts as
	// revoked. ErrNotRevocable, wrapped, means that it can't be done with what
	// was kept; whatever else goes wrong is tried again later.
	Revoke(ctx context.Context, g Granted) error
}

// Granted is what the house kept of what a person granted.
type Granted struct {
	// Issuer and Subject are those of the Profile.
	Issuer, Subject string
	// Tokens are the newest that were kept, Consent the Profile's. All of them
	// may be empty.
	Tokens  Tokens
	Consent Secret
}

// ErrNotRevocable means that nothing was kept that a Revoker could ask with, or
// that the provider knows no way.
var ErrNotRevocable = errors.New("nothing that could be revoked")

// LogoutReader is a Provider that says by itself that somebody signed out
// there (OpenID Connect Back-Channel Logout 1.0).
type LogoutReader interface {
	Provider

	// ReadLogout makes every check of section 2.6 but the one for replay, which
	// is the house's. An error with the reason Unavailable means that it could
	// not be made; any other, that the token is not to be believed.
	ReadLogout(ctx context.Context, token Secret) (Logout, error)
}

// Logout is what a logout token says, once it is believed.
type Logout struct {
	// Issuer is spelt as in the Profile.
	Issuer string
	// Subject and SessionID are the token's `sub` and `sid`; one of them may be
	// empty. With a SessionID it is that session that ended, else all of the
	// Subject's.
	Subject, SessionID string
	// ID is the token's `jti`: it works once.
	ID string
	// IssuedAt is its `iat`, Expires until when it could be believed again.
	IssuedAt, Expires time.Time
}

// Trust is what a provider's word about an address is worth.
type Trust int

// The tiers of identity.md section 2. The zero value trusts nothing.
const (
	NoEmail       Trust = iota // T0: there is none
	Asserted                   // T1: no signal that anybody checked
	Verified                   // T2: it once checked
	Authoritative              // T3: the one who says so runs the mailbox or its domain
)

// Failure is an error with a reason that may be told to the visitor. What the
// provider wrote stays in Err and never reaches a page; Err itself is logged,
// so it must hold no secret, code or token, and provider texts only quoted and
// cut to 200 bytes.
type Failure struct {
	Reason Reason
	Err    error
}

// Reason is why a provider could not sign somebody in. It is a metric label:
// the set is closed.
type Reason string

const (
	// Cancelled: the person said no at the provider.
	Cancelled Reason = "cancelled"
	// Unavailable: the provider did not answer, or not in time.
	Unavailable Reason = "provider_unavailable"
	// Refused: the provider answered with an error.
	Refused Reason = "provider_error"
	// Untrusted: the answer failed one of our checks.
	Untrusted Reason = "invalid_answer"
	// NotAllowed: a rule of this provider's block shuts this account out
	// (hosted_domain, org, allowed_tenants).
	NotAllowed Reason = "not_allowed"
)

func (f *Failure) Error() string { return fmt.Sprintf("%s: %v", f.Reason, f.Err) }

func (f *Failure) Unwrap() error { return f.Err }

// ReasonOf is the Reason of err, or Refused where it names none.
func ReasonOf(err error) Reason {
	var f *Failure
	if errors.As(err, &f) {
		return f.Reason
	}
	return Refused
}
