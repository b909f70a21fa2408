package page

import (
	"cmp"
	"net/http"
)

// Kind is what went wrong, as far as a visitor may know. Its value is also
// the stable code of the same trouble in a Problem and in a guest's Failure.
type Kind string

// The kinds. The zero Kind, and one that is not listed, is drawn as Internal.
const (
	// Expired: the sign-in took too long, or was begun in another browser.
	Expired Kind = "expired"
	// CookiesBlocked: the cookie set when the sign-in began did not come back.
	CookiesBlocked Kind = "cookies_blocked"
	// UnsafeAddress: no cookie can ever come back to this host or scheme.
	UnsafeAddress Kind = "unsafe_address"
	// ProviderUnavailable: the provider did not answer, or not in time.
	ProviderUnavailable Kind = "provider_unavailable"
	// ProviderError: the provider answered with an error.
	ProviderError Kind = "provider_error"
	// ProviderCancelled: the person said no at the provider.
	ProviderCancelled Kind = "cancelled"
	// InvalidAnswer: the provider's answer failed one of our checks.
	InvalidAnswer Kind = "invalid_answer"
	// NotAllowed: a rule of this provider's settings shuts the account out.
	NotAllowed Kind = "not_allowed"
	// EmailInUse: somebody with this address exists, who signed in otherwise.
	EmailInUse Kind = "email_in_use"
	// SignupDisabled: only people known here may sign in.
	SignupDisabled Kind = "signup_disabled"
	// AccountDisabled: the person is known here and shut out.
	AccountDisabled Kind = "account_disabled"
	// LoggedOut: the provider ended the session before the sign-in was finished.
	LoggedOut Kind = "signed_out_meanwhile"
	// ChallengeExpired: the code and the link are too old, or not this browser's.
	ChallengeExpired Kind = "challenge_expired"
	// ChallengeSpent: the code or the link has been used.
	ChallengeSpent Kind = "challenge_spent"
	// ChallengeStopped: somebody with the mail said that they did not ask for it.
	ChallengeStopped Kind = "challenge_stopped"
	// TooManyAttempts: there were too many wrong codes for this one.
	TooManyAttempts Kind = "too_many_attempts"
	// IdentityLinked: the account at the provider belongs to another user.
	IdentityLinked Kind = "identity_already_linked"
	// FreshNeeded: this takes a sign-in of the last minutes.
	FreshNeeded Kind = "fresh_sign_in_required"
	// LastWayIn: nobody may take away the last way they can sign in by.
	LastWayIn Kind = "last_way_in"
	// Outdated: the question was answered, or what it was about has changed.
	Outdated Kind = "outdated"
	// TooManyLinked: an account has as many addresses or identities as it may.
	TooManyLinked Kind = "too_many"
	// WrongAccount: they proved who they are by an account that does not belong
	// to the one asked for.
	WrongAccount Kind = "wrong_account"
	// BadRequest: the request makes no sense.
	BadRequest Kind = "bad_request"
	// CrossSite: a form came from another site.
	CrossSite Kind = "cross_site"
	// NotFound: there is no such page of ours.
	NotFound Kind = "not_found"
	// MethodNotAllowed: the caller sets Allow.
	MethodNotAllowed Kind = "method_not_allowed"
	// TooMany: too many attempts. The caller sets Retry-After.
	TooMany Kind = "rate_limited"
	// Unavailable: we cannot serve this now. The caller sets Retry-After.
	Unavailable Kind = "unavailable"
	// Internal: a fault of ours.
	Internal Kind = "internal"
)

// Trouble is a page that says what went wrong and what to do next.
type Trouble struct {
	Kind Kind
	// Provider is its name as a person knows it, or empty.
	Provider string
	// Retry is the address that tries the same again, or empty.
	Retry string
	// RequestID is the one the log has, or empty.
	RequestID string
}

// drawing is how a Kind is answered, apart from its words.
type drawing struct {
	status int
	mark   string
	// retry and home name the words on the links to Trouble.Retry and to the
	// sign-in page. An empty home is not offered.
	retry, home string
}

// ProviderCancelled is no error of anybody's, but a 400: what came back is not
// a sign-in, and a 2xx on a callback is what monitors count as one.
var drawings = map[Kind]drawing{
	Expired:             {http.StatusBadRequest, "clock", "sign_in_again", "to_sign_in"},
	CookiesBlocked:      {http.StatusBadRequest, "cookie", "try_again", "to_sign_in"},
	UnsafeAddress:       {http.StatusBadRequest, "lock", "open_safely", ""},
	ProviderUnavailable: {http.StatusBadGateway, "alert", "try_again", "other_ways"},
	ProviderError:       {http.StatusBadRequest, "alert", "try_again", "other_ways"},
	ProviderCancelled:   {http.StatusBadRequest, "person", "try_again", "other_ways"},
	InvalidAnswer:       {http.StatusBadRequest, "alert", "try_again", "other_ways"},
	NotAllowed:          {http.StatusForbidden, "lock", "use_another", "other_ways"},
	EmailInUse:          {http.StatusConflict, "person", "use_known_way", "to_sign_in"},
	SignupDisabled:      {http.StatusForbidden, "lock", "use_another", "other_ways"},
	AccountDisabled:     {http.StatusForbidden, "lock", "use_another", "other_ways"},
	LoggedOut:           {http.StatusBadRequest, "person", "sign_in_again", "to_sign_in"},
	ChallengeExpired:    {http.StatusBadRequest, "clock", "sign_in_again", "to_sign_in"},
	ChallengeSpent:      {http.StatusBadRequest, "check", "sign_in_again", "to_sign_in"},
	ChallengeStopped:    {http.StatusForbidden, "lock", "sign_in_again", "to_sign_in"},
	TooManyAttempts:     {http.StatusTooManyRequests, "lock", "sign_in_again", "to_sign_in"},
	IdentityLinked:      {http.StatusConflict, "person", "go_back", "to_sign_in"},
	FreshNeeded:         {http.StatusForbidden, "lock", "sign_in_again", "to_sign_in"},
	LastWayIn:           {http.StatusConflict, "key", "go_back", "to_sign_in"},
	Outdated:            {http.StatusConflict, "clock", "try_again", "to_sign_in"},
	TooManyLinked:       {http.StatusConflict, "person", "go_back", "to_sign_in"},
	WrongAccount:        {http.StatusForbidden, "person", "try_again", "to_sign_in"},
	BadRequest:          {http.StatusBadRequest, "alert", "try_again", "to_sign_in"},
	CrossSite:           {http.StatusForbidden, "alert", "try_again", "to_sign_in"},
	NotFound:            {http.StatusNotFound, "alert", "try_again", "to_sign_in"},
	MethodNotAllowed:    {http.StatusMethodNotAllowed, "alert", "try_again", "to_sign_in"},
	TooMany:             {http.StatusTooManyRequests, "clock", "try_again", "to_sign_in"},
	Unavailable:         {http.StatusServiceUnavailable, "alert", "try_again", "to_sign_in"},
	Internal:            {http.StatusInternalServerError, "alert", "try_again", "to_sign_in"},
}

// Status is the HTTP status this kind is answered with.
func (k Kind) Status() int { return drawings[k.known()].status }

func (k Kind) known() Kind {
	if _, ok := drawings[k]; ok {
		return k
	}
	return Internal
}

// Trouble draws what went wrong, with the status of its kind.
func (p *Pages) Trouble(w http.ResponseWriter, r *http.Request, t Trouble) {
	kind := t.Kind.known()
	d := drawings[kind]
	v := p.view(r, "trouble")
	v.Provider = cmp.Or(t.Provider, v.Provider)
	v.Mark = d.mark
	v.RequestID = t.RequestID
	v.Heading = v.say(string(kind) + ".title")
	v.What = v.say(string(kind) + ".what")
	v.Next = v.say(string(kind) + ".next")
	v.Links = v.waysOn(checked(t.Retry, ""), d)
	v.write(w, r, d.status)
}

// Advice is the headline of t's page, and what it says to do next, in English
// whatever the visitor's language: for the title and the detail of a Problem,
// whose reader writes a page of their own.
func (p *Pages) Advice(r *http.Request, t Trouble) (title, next string) {
	v := p.leaf("en", r.Host)
	v.language = p.shelf().choose("en")
	v.Provider = cmp.Or(t.Provider, v.Provider)
	kind := string(t.Kind.known())
	return v.say(kind + ".title"), v.say(kind + ".next")
}

// waysOn offers to try again, where there is something to try, and the
// sign-in page, where it would help.
func (v *view) waysOn(retry string, d drawing) (links []Link) {
	if retry != "" && retry != v.Home {
		links = append(links, Link{v.say(d.retry), retry})
	}
	switch {
	case d.home == "":
		return links
	case len(links) == 0:
		return []Link{{v.say("to_sign_in"), v.Home}}
	}
	return append(links, Link{v.say(d.home), v.Home})
}
