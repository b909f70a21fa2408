package module

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-login/caddy-login/module/challenge"
	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/page"
	"github.com/caddy-login/caddy-login/module/policy"
	"github.com/caddy-login/caddy-login/module/session"
	"github.com/caddy-login/caddy-login/module/signin"
)

// landedFor is how long a browser keeps the mark that a sign-in succeeded, and
// lastFor how long it knows by which provider.
const (
	landedFor = time.Minute
	lastFor   = 365 * 24 * time.Hour
)

// arrival is somebody who has proven who they are, and is about to come in.
type arrival struct {
	method guest.Method
	back   string // where they want to go
	admit  func(tx guest.Tx) (identity.Admitted, error)
	begin  func(identity.Person) session.New
}

// admit lets in whom a provider has sent back with a profile.
func (p *portal) admit(w http.ResponseWriter, r *http.Request, v *visit, provider guest.Provider, attempt *signin.Attempt, profile guest.Profile) error {
	who := identity.Arrival{Traits: provider.Traits(), Profile: profile, SignUp: p.mayJoin, At: p.gate.now()}
	return p.comeIn(w, r, v, arrival{
		method: provider, back: attempt.Return,
		admit: func(tx guest.Tx) (identity.Admitted, error) {
			admitted, err := identity.Admit(tx, who)
			if err != nil {
				return admitted, err
			}
			return admitted, p.keepConsent(tx, v, admitted, profile)
		},
		begin: func(person identity.Person) session.New { return p.newSession(r, v, provider, profile, person) },
	})
}

// comeIn makes an arrival a user and the user a session, in one transaction:
// there is no user without the session they came for, and of two sessions of
// one browser the older is gone.
func (p *portal) comeIn(w http.ResponseWriter, r *http.Request, v *visit, a arrival) error {
	var admitted identity.Admitted
	var begun *session.Session
	ticket, err := v.house.sessions.Issue(v.scope)
	if err != nil {
		return p.trouble(w, r, v, trouble{kind: page.Internal, provider: a.method, outcome: "unavailable", err: err})
	}
	err = v.house.store.Update(r.Context(), func(tx guest.Tx) (err error) {
		if admitted, err = a.admit(tx); err != nil {
			return err
		}
		begun, err = v.house.sessions.Start(tx, ticket, a.begin(admitted.Person))
		return err
	})
	if err != nil {
		return p.trouble(w, r, v, p.notAdmitted(a.method, admitted.Row, err))
	}
	p.forget(r, v, admitted)
	name := a.method.Traits().Name
	v.set(w, v.base, ticket.Cookie, time.Duration(p.gate.settings.Session.Lifetime))
	v.set(w, v.landed(), "1", landedFor)
	v.set(w, v.last(), name, lastFor)
	p.befriend(w, v, admitted.Person.User.Email)
	p.gate.app.signedIn(r, name, begun, admitted)
	return p.redirect(w, a.back)
}

// keepConsent keeps what revokes the person's consent at the provider, sealed
// for their account there.
func (p *portal) keepConsent(tx guest.Tx, v *visit, admitted identity.Admitted, profile guest.Profile) error {
	if profile.Consent == "" {
		return nil
	}
	key := admitted.Person.Identity.Key()
	return identity.KeepConsent(tx, key, v.house.ring.SealAtRest("consent/"+string(key), []byte(profile.Consent)))
}

// forget has the next requests read anew what this sign-in changed: the
// browser's old session, and what other sessions of the person know of them.
func (p *portal) forget(r *http.Request, v *visit, admitted identity.Admitted) {
	v.house.sessions.Forget(replaced(v))
	if v.held != nil {
		p.gate.app.ended(r, v.held, "replaced")
	}
	if !admitted.Changed {
		return
	}
	if err := v.house.sessions.ForgetUser(r.Context(), admitted.Person.User.ID); err != nil {
		p.gate.app.complain(err, requestID(r))
	}
}

func replaced(v *visit) session.Key {
	if v.held == nil {
		return session.Key{}
	}
	return v.held.Key
}

func (p *portal) newSession(r *http.Request, v *visit, provider guest.Method, profile guest.Profile, person identity.Person) session.New {
	s := p.gate.settings.Session
	authTime := profile.AuthTime
	if authTime.IsZero() {
		authTime = p.gate.now()
	}
	traits := provider.Traits()
	return session.New{
		Person: person, Provider: traits.Name, Origin: originOf(traits, profile), Grant: p.grantOf(traits, profile),
		AuthMethods: profile.AuthMethods, AuthTime: authTime,
		Lifetime: time.Duration(s.Lifetime), Idle: time.Duration(s.Idle),
		Device: device(r), Replaces: replaced(v),
	}
}

// originOf is what a logout token of the provider's will name the sign-in by.
func originOf(traits guest.Traits, profile guest.Profile) session.Origin {
	if !traits.SendsLogouts {
		return session.Origin{}
	}
	return session.Origin{
		Issuer: profile.Issuer, Subject: profile.TokenSubject, SessionID: profile.SessionID, IssuedAt: profile.IssuedAt,
	}
}

// grantOf is what to keep of what the provider gave: the hint for its sign-out
// unless sign-outs stay here, and the tokens where the operator wants them.
func (p *portal) grantOf(traits guest.Traits, profile guest.Profile) *session.Grant {
	grant := session.Grant{
		Client: traits.Client, Issuer: profile.Issuer, Subject: profile.Subject, TokenSubject: profile.TokenSubject,
		Proven: p.gate.now().UTC(),
	}
	if p.gate.endsElsewhere(traits) {
		grant.IDToken = profile.IDToken
	}
	if traits.Tokens.Keep {
		grant.Access, grant.Refresh, grant.Expires = profile.Tokens.Access, profile.Tokens.Refresh, profile.Tokens.Expires
	}
	if grant.IDToken == "" && grant.Access == "" && grant.Refresh == "" {
		return nil
	}
	return &grant
}

// device is what the browser calls itself, for the list of sessions.
func device(r *http.Request) string {
	name := strings.ToValidUTF8(r.UserAgent(), "")
	return name[:min(len(name), 200)]
}

// mayJoin is the site's `signup`.
func (p *portal) mayJoin(email identity.Email) bool {
	switch p.gate.settings.Signup {
	case signupOn:
		return true
	case signupInvited:
		return p.isInvited(email)
	default:
		return false
	}
}

// isInvited reports whether a rule or role of this site names the address or
// its domain.
func (p *portal) isInvited(email identity.Email) bool {
	if email == "" {
		return false
	}
	names := func(who policy.Who) bool {
		return who.Kind == policy.Address && who.Value == string(email) ||
			who.Kind == policy.Domain && who.Value == email.Domain()
	}
	for _, rule := range p.gate.rules {
		if slices.ContainsFunc(rule.who, names) {
			return true
		}
	}
	for _, role := range p.gate.defs {
		if slices.ContainsFunc(role.Who, names) {
			return true
		}
	}
	return false
}

// trouble is a sign-in that came to nothing: what the visitor reads, and what
// the log has.
type trouble struct {
	kind     page.Kind
	provider guest.Method
	// back is where the visitor wanted to go; they may try again from there.
	back string
	// outcome is the metric's and the event's label; empty where no sign-in
	// was under way.
	outcome string
	// knock: whoever comes along can cause it, as often as they like, so the
	// log hears of it only now and then.
	knock bool
	row   string
	err   error
}

// trouble tells the visitor, and the log once.
func (p *portal) trouble(w http.ResponseWriter, r *http.Request, v *visit, t trouble) error {
	id := requestID(r)
	label, name := "", ""
	if t.provider != nil {
		label, name = t.provider.Traits().Label, t.provider.Traits().Name
	}
	if t.outcome != "" {
		logins.WithLabelValues(name, t.outcome).Inc()
	}
	told := t.outcome != "" || t.err != nil
	if told && (!t.knock || p.gate.app.mayTell(r)) {
		p.gate.app.notSignedIn(name, t, id)
	}
	switch status := t.kind.Status(); {
	case errors.Is(t.err, challenge.ErrNetwork), errors.Is(t.err, challenge.ErrBusy):
		w.Header().Set("Retry-After", strconv.Itoa(int(challenge.RetryAfter.Seconds())))
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "5")
	}
	refuseBody(w, r)
	p.pages.Trouble(w, r, page.Trouble{
		Kind: t.kind, Provider: label, Retry: p.signInURL(cmp.Or(t.back, "/")), RequestID: id,
	})
	return nil
}

// failure is what a provider could not do.
func (p *portal) failure(provider guest.Method, back string, err error) trouble {
	reason := guest.ReasonOf(err)
	// Each reason is a page of that name.
	return trouble{kind: page.Kind(reason), provider: provider, back: back, outcome: string(reason), err: err}
}

// notResumed is an answer that belongs to no attempt of this browser.
func (p *portal) notResumed(provider guest.Method, attempt *signin.Attempt, err error) trouble {
	t := trouble{kind: page.Expired, provider: provider, outcome: "expired", err: err}
	if attempt != nil {
		t.back = attempt.Return
	}
	switch {
	case errors.Is(err, signin.ErrNoCookie):
		t.kind, t.outcome = page.CookiesBlocked, "no_cookie"
	case errors.Is(err, signin.ErrSpent):
		t.outcome = "spent"
	case errors.Is(err, signin.ErrUnknown):
	default:
		t.kind, t.outcome = page.Unavailable, "unavailable"
	}
	return t
}

// notAdmitted is an account that the rules of identity make nobody.
func (p *portal) notAdmitted(provider guest.Method, row string, err error) trouble {
	t := trouble{provider: provider, row: row, err: err}
	switch {
	case errors.Is(err, identity.ErrEmailInUse):
		t.kind, t.outcome = page.EmailInUse, "email_in_use"
	case errors.Is(err, identity.ErrSignupDisabled):
		t.kind, t.outcome = page.SignupDisabled, "signup_disabled"
	case errors.Is(err, identity.ErrAccountDisabled):
		t.kind, t.outcome = page.AccountDisabled, "account_disabled"
	case errors.Is(err, session.ErrLoggedOut):
		t.kind, t.outcome = page.LoggedOut, "signed_out_meanwhile"
	default:
		t.kind, t.outcome = page.Unavailable, "unavailable"
		t.err = fmt.Errorf("admitting: %w", err)
	}
	return t
}
