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

	"github.com/caddy-login/caddy-login/module/activity"
	"github.com/caddy-login/caddy-login/module/challenge"
	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/page"
	"github.com/caddy-login/caddy-login/module/pending"
	"github.com/caddy-login/caddy-login/module/policy"
	"github.com/caddy-login/caddy-login/module/record"
	"github.com/caddy-login/caddy-login/module/session"
	"github.com/caddy-login/caddy-login/module/signin"
	"github.com/caddy-login/caddy-login/module/token"
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
	admit  func(tx guest.Tx, at time.Time) (identity.Admitted, error)
	begin  func(identity.Person) session.New
	// pending is what to keep while they are asked something, under id. With
	// kept it is there already, and is spent with the outcome.
	pending *pending.Pending
	id      pending.ID
	kept    bool
}

// outcome is what became of an arrival: a session, a question, or a refusal.
type outcome struct {
	admitted identity.Admitted
	begun    *session.Session
	asked    bool
	refused  error
	undo     wayBack // of an account that was connected
}

// admit lets in whom a provider has sent back with a profile.
func (p *portal) admit(w http.ResponseWriter, r *http.Request, v *visit, provider guest.Provider, attempt *signin.Attempt, profile guest.Profile) error {
	waiting := &pending.Pending{
		Kind: pending.Arrival, Scope: v.scope, Site: v.origin.hostPort, Begun: p.gate.now().UTC(), Return: attempt.Return,
		Provider: provider.Traits().Name, Profile: profile, KnownOnly: attempt.KnownOnly,
	}
	if attempt.ByAPI {
		waiting.Attempt = attempt.CookieOf()
	}
	if attempt.For == signin.ToLink {
		waiting.Intent, waiting.User = identity.ToLink, v.user()
	}
	return p.comeIn(w, r, v, p.arriving(r, v, provider, waiting, pending.NewID()))
}

// arriving is an arrival from a provider, as far as it has come.
func (p *portal) arriving(r *http.Request, v *visit, provider guest.Provider, waiting *pending.Pending, id pending.ID) arrival {
	return arrival{
		method: provider, back: waiting.Return, pending: waiting, id: id,
		admit: func(tx guest.Tx, at time.Time) (identity.Admitted, error) {
			admitted, err := identity.Admit(tx, p.arrivalOf(v, provider, waiting, at))
			if err != nil || admitted.Needs != identity.Nothing {
				return admitted, err
			}
			return admitted, p.keepConsent(tx, v, admitted, waiting.Profile)
		},
		begin: func(person identity.Person) session.New {
			return p.newSession(r, v, provider, waiting.Profile, person)
		},
	}
}

// arrivalOf is what decides about an arrival at a time.
func (p *portal) arrivalOf(v *visit, provider guest.Provider, waiting *pending.Pending, at time.Time) identity.Arrival {
	traits := provider.Traits()
	return identity.Arrival{
		Traits: traits, Profile: waiting.Profile, Verify: p.gate.verifies(traits), SignUp: p.joining(waiting.KnownOnly),
		Privileged: p.isPrivileged, Intent: waiting.Intent, Here: v.user(), Fresh: p.isFresh(v),
		Said: waiting.Said, Began: waiting.Begun, At: at,
	}
}

// verifies resolves a provider's verify_email: by default where there is mail.
func (g *Gate) verifies(t guest.Traits) bool {
	return t.Email.Verify != guest.VerifyOff && g.settings.post != nil
}

// user is who is signed in here, empty: nobody.
func (v *visit) user() identity.UserID {
	if v.live() == nil {
		return ""
	}
	return v.live().User
}

// freshFor is how long after a sign-in its person may change their account.
const freshFor = 15 * time.Minute

// isFresh reports whether who is signed in proved it within the last minutes.
func (p *portal) isFresh(v *visit) bool {
	if v.live() == nil {
		return false
	}
	age := p.gate.now().Sub(v.live().AuthTime)
	return age < freshFor && age > -time.Minute
}

// comeIn makes an arrival a user and the user a session, in one transaction:
// there is no user without the session they came for, and of two sessions of
// one browser the older is gone. Or it asks, where something must be said first.
func (p *portal) comeIn(w http.ResponseWriter, r *http.Request, v *visit, a arrival) error {
	given, err := v.issue()
	if err != nil {
		return p.trouble(w, r, v, trouble{kind: page.Internal, provider: a.method, outcome: "unavailable", err: err})
	}
	var out outcome
	v.keepTrack(a.pending.Attempt)
	asks := a.inquiry(r, v)
	err = v.house.store.Update(r.Context(), func(tx guest.Tx) (err error) {
		out, err = p.settle(tx, r, v, a, given, asks)
		return err
	})
	switch {
	case errors.Is(err, pending.ErrGone), errors.Is(err, session.ErrNone):
		return p.outdated(w, r, v, a.back)
	case err != nil:
		return p.trouble(w, r, v, p.notAdmitted(a.method, out.admitted.Row, err))
	case out.refused != nil:
		return p.refuseArrival(w, r, v, a, out)
	case out.asked:
		countQuestion(out.admitted.Needs)
		v.set(w, v.waits(), a.id.Text(), pending.Life)
		return p.voice(v).waits(w, r, v, &waiting{Pending: a.pending, id: a.id})
	}
	return p.welcome(w, r, v, a, given, out)
}

// settle is the transaction of comeIn.
func (p *portal) settle(tx guest.Tx, r *http.Request, v *visit, a arrival, given credential, asks *inquiry) (out outcome, err error) {
	at := p.gate.now()
	before, err := p.lives(tx, v, at)
	if err != nil {
		return out, err
	}
	out.admitted, err = a.admit(tx, at)
	switch {
	case (err == nil || identity.IsRefusal(err)) && !asks.may(out.admitted.Decision, at):
		return out, errInquisitive
	case identity.IsRefusal(err):
		out.refused = err
		return out, errors.Join(a.spend(tx), p.noteRefusal(tx, r, v, a, out))
	case err != nil:
		return out, err
	case out.admitted.Needs != identity.Nothing:
		out.asked = true
		return out, pending.Keep(tx, v.house.ring, a.id, a.pending)
	}
	if err := a.spend(tx); err != nil {
		return out, err
	}
	if out.connects(v) {
		if before == nil {
			return out, identity.ErrTooMany
		}
		if out.undo, err = keepUndo(tx, before); err != nil {
			return out, err
		}
		out.begun, err = given.move(tx, v.live().Key, at)
	} else {
		begin := a.begin(out.admitted.Person)
		begin.At = at
		out.begun, err = given.start(tx, begin)
	}
	if err != nil {
		return out, err
	}
	return out, p.noteArrival(tx, r, v, a, out)
}

// lives makes sure that who is signed in still is, since that decides: they may
// have been signed out a moment ago. It takes down how their ways in are.
func (p *portal) lives(tx guest.Tx, v *visit, at time.Time) (*identity.Undo, error) {
	if v.live() == nil {
		return nil, nil
	}
	if lives, err := v.house.sessions.Lives(tx, v.live().Key, at); err != nil || !lives {
		return nil, cmp.Or(err, session.ErrNone)
	}
	before, err := identity.Before(tx, v.live().User, string(activity.Linked), "", at)
	if errors.Is(err, identity.ErrTooMany) {
		return nil, nil // what connects fails for it, and nothing else
	}
	return before, err
}

func (a *arrival) spend(tx guest.Tx) error {
	if !a.kept {
		return nil
	}
	return pending.Spend(tx, a.id)
}

// connects reports whether the outcome is an account connected to who is signed
// in: their session goes on, under a new id.
func (o *outcome) connects(v *visit) bool {
	return o.admitted.Do == identity.Link && v.live() != nil && v.live().User == o.admitted.Decision.User
}

// welcome answers who has come in, and tells whom it concerns.
func (p *portal) welcome(w http.ResponseWriter, r *http.Request, v *visit, a arrival, given credential, out outcome) error {
	name := a.method.Traits().Name
	v.became(w, string(isAuthenticated))
	p.forget(r, v, out)
	p.tellArrival(r, v, a, out)
	if a.kept {
		v.drop(w, v.waits())
	}
	if a.pending.Then != "" {
		v.set(w, v.waits(), a.pending.Then, pending.Life)
	}
	user := &out.admitted.Person.User
	given.hand(w, v, out.begun)
	p.befriend(w, v, user.Email)
	if out.connects(v) {
		p.gate.app.linked(r, name, out.begun, out.admitted)
		return p.voice(v).isIn(w, r, v, out, p.afterLink(a.back))
	}
	v.set(w, v.last(), name, lastFor)
	p.gate.app.signedIn(r, name, out.begun, out.admitted)
	return p.voice(v).isIn(w, r, v, out, a.back)
}

// refuseArrival tells somebody that they can't come in.
func (p *portal) refuseArrival(w http.ResponseWriter, r *http.Request, v *visit, a arrival, out outcome) error {
	if a.kept {
		v.drop(w, v.waits())
	}
	t := p.notAdmitted(a.method, out.admitted.Row, out.refused)
	t.back = a.back
	return p.trouble(w, r, v, t)
}

// inquiry is what an arrival may find out about who holds its address: an
// account that is nobody's can be given one address after the other, and is told
// another thing where somebody has it. What comes back to nothing counts; where
// there was too much of that, all is refused alike, also what would succeed.
type inquiry struct {
	house   *house
	account string // a hash that names the account at the provider
	network string
	kept    bool
	counted bool
	allowed bool
}

var errInquisitive = errors.New("the account asked about too many addresses")

func (a *arrival) inquiry(r *http.Request, v *visit) *inquiry {
	return &inquiry{
		house: v.house, network: clientIP(r.Context()), kept: a.kept,
		account: record.Hash(a.pending.Provider, a.pending.Profile.Issuer, a.pending.Profile.Subject),
	}
}

// may reports whether a decision may be told. It counts once, however often the
// transaction is run.
func (i *inquiry) may(d identity.Decision, now time.Time) bool {
	asserted := strings.HasPrefix(d.Row, "D")
	switch {
	case i.counted:
		return i.allowed
	case !asserted && !strings.HasPrefix(d.Row, "E"): // the address decided nothing
		return true
	case d.Why == nil && d.Needs == identity.Nothing:
		return i.kept || !i.house.collisions.SpentKey(i.account, now) && !(asserted && i.house.inquiries.Spent(i.network, now))
	}
	i.counted, i.allowed = true, i.house.collisions.AllowKey(i.account, now)
	if asserted { // so the account may choose the address
		i.allowed = i.house.inquiries.Allow(i.network, now) && i.allowed
	}
	return i.allowed
}

// keepConsent keeps what revokes the person's consent at the provider, sealed
// for their account there.
func (p *portal) keepConsent(tx guest.Tx, v *visit, admitted identity.Admitted, profile guest.Profile) error {
	if profile.Consent == "" {
		return nil
	}
	key := admitted.Person.Identity.Key()
	return identity.KeepConsent(tx, key, v.house.ring.SealAtRest(consentPurpose(key), []byte(profile.Consent)))
}

func consentPurpose(key identity.IdentityKey) string { return "consent/" + string(key) }

// forget has the next requests read anew what this sign-in changed: the
// browser's old session, and what other sessions of the person know of them.
// Those that the sign-in ended are ended.
func (p *portal) forget(r *http.Request, v *visit, out outcome) {
	v.house.sessions.Forget(replaced(v))
	if v.held != nil && !out.connects(v) {
		p.gate.app.ended(r, v.held.Live(), "replaced")
	}
	if !out.admitted.Changed {
		return
	}
	user := &out.admitted.Person.User
	err := v.house.sessions.ForgetUser(r.Context(), user.ID)
	if !user.SessionsFrom.IsZero() && !user.SessionsFrom.Before(out.begun.Created) {
		err = errors.Join(err, v.house.sessions.EndAll(r.Context(), user.ID, out.begun.Key))
	}
	if err != nil {
		p.gate.app.complain(err, requestID(r))
	}
}

func replaced(v *visit) session.Key {
	if v.held == nil {
		return session.Key{}
	}
	return v.held.Key()
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
		Device: device(r), Place: placeOf(clientIP(r.Context())), Replaces: replaced(v),
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

// joining is who may become a user: nobody, where only those known are wanted.
func (p *portal) joining(knownOnly bool) func(identity.Email) bool {
	if knownOnly {
		return func(identity.Email) bool { return false }
	}
	return p.mayJoin
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
	// code is what the API calls it; empty: as its kind.
	code string
	err  error
}

// trouble tells the visitor, and the log once.
func (p *portal) trouble(w http.ResponseWriter, r *http.Request, v *visit, t trouble) error {
	id := requestID(r)
	v.became(w, codeOf(t.kind))
	label, name := "", ""
	if t.provider != nil {
		label, name = t.provider.Traits().Label, t.provider.Traits().Name
	}
	if t.outcome != "" {
		countLogin(name, t.outcome)
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
	if v.api != nil {
		v.api.code = t.code
	}
	p.voice(v).trouble(w, r, page.Trouble{
		Kind: t.kind, Provider: label, Retry: p.signInURL(cmp.Or(t.back, "/")), RequestID: id,
	})
	return nil
}

// failure is what a provider could not do.
func (p *portal) failure(provider guest.Method, back string, err error) trouble {
	reason := reasonOf(err)
	// Each reason is a page of that name.
	return trouble{kind: page.Kind(reason), provider: provider, back: back, outcome: string(reason), err: err}
}

// reasonOf is guest.ReasonOf, from the closed set: a guest may invent others.
func reasonOf(err error) guest.Reason {
	switch reason := guest.ReasonOf(err); reason {
	case guest.Cancelled, guest.Unavailable, guest.Untrusted, guest.NotAllowed:
		return reason
	default:
		return guest.Refused
	}
}

// notResumed is an answer that belongs to no attempt of this browser.
func (p *portal) notResumed(provider guest.Method, attempt *signin.Attempt, err error) trouble {
	// Anybody can bring a state that nothing was begun with, or no cookie.
	t := trouble{kind: page.Expired, provider: provider, outcome: "expired", err: err, knock: attempt == nil}
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
		t.kind, t.outcome, t.knock = page.Unavailable, "unavailable", false
	}
	return t
}

// notAdmitted is an account that the rules of identity make nobody.
func (p *portal) notAdmitted(provider guest.Method, row string, err error) trouble {
	t := trouble{provider: provider, row: row, err: err}
	switch {
	case errors.Is(err, token.ErrNonce), errors.Is(err, token.ErrReplayed):
		return p.notTaken(provider, err)
	case errors.Is(err, errNoQuestion):
		t.kind, t.outcome = page.NotAllowed, "not_asked"
	case errors.Is(err, identity.ErrEmailInUse):
		t.kind, t.outcome = page.EmailInUse, "email_in_use"
	case errors.Is(err, identity.ErrSignupDisabled):
		t.kind, t.outcome = page.SignupDisabled, "signup_disabled"
	case errors.Is(err, identity.ErrAccountDisabled):
		t.kind, t.outcome = page.AccountDisabled, "account_disabled"
	case errors.Is(err, identity.ErrAlreadyLinked):
		t.kind, t.outcome = page.IdentityLinked, "identity_already_linked"
	case errors.Is(err, identity.ErrTooMany):
		t.kind, t.outcome = page.TooManyLinked, "too_many"
	case errors.Is(err, identity.ErrOutdated):
		t.kind, t.outcome = page.Outdated, "outdated"
	case errors.Is(err, errInquisitive):
		t.kind, t.outcome, t.knock = page.TooMany, "rate_limited", true
	case errors.Is(err, session.ErrLoggedOut):
		t.kind, t.outcome = page.LoggedOut, "signed_out_meanwhile"
	default:
		t.kind, t.outcome = page.Unavailable, "unavailable"
		t.err = fmt.Errorf("admitting: %w", err)
	}
	return t
}
