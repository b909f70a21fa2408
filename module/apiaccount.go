package module

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-login/caddy-login/module/activity"
	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/page"
	"github.com/caddy-login/caddy-login/module/record"
	"github.com/caddy-login/caddy-login/module/session"
)

// apiOfAccount is what people see and change of their own accounts, by the
// functions of the account page (account.go, changes.go).
var apiOfAccount = []endpoint{
	{http.MethodGet, "/account/profile", (*apiCall).profile, theirOwn},
	{http.MethodPatch, "/account/profile", freshly((*apiCall).changeProfile), theirOwn},
	{http.MethodDelete, "/account/profile", freshly((*apiCall).beginDeletion), theirOwn},
	{http.MethodPost, "/account/fresh", (*apiCall).becomeFresh, theirOwn},
	{http.MethodGet, "/account/emails", (*apiCall).emails, theirOwn},
	{http.MethodPost, "/account/emails", freshly((*apiCall).addEmail), theirOwn},
	{http.MethodPatch, "/account/emails/{id}", freshly((*apiCall).changeEmail), theirOwn},
	{http.MethodDelete, "/account/emails/{id}", freshly((*apiCall).removeEmail), theirOwn},
	{http.MethodGet, "/account/identities", (*apiCall).identities, theirOwn},
	{http.MethodDelete, "/account/identities/{id}", freshly((*apiCall).unlinkIdentity), theirOwn},
	{http.MethodGet, "/account/sessions", (*apiCall).listSessions, theirOwn},
	{http.MethodDelete, "/account/sessions", freshly((*apiCall).endOthers), theirOwn},
	{http.MethodDelete, "/account/sessions/{id}", (*apiCall).endSession, theirOwn},
	{http.MethodGet, "/account/activity", (*apiCall).listActivity, theirOwn},
	{http.MethodGet, "/account/download", freshly((*apiCall).download), theirOwn},
}

// freshly is for what only somebody may do who signed in within the last
// minutes. What the call says beside that is not looked at before.
func freshly(serve func(*apiCall, http.ResponseWriter, *http.Request, *visit) error) func(*apiCall, http.ResponseWriter, *http.Request, *visit) error {
	return func(c *apiCall, w http.ResponseWriter, r *http.Request, v *visit) error {
		if !c.isFresh(v) {
			return c.stale(w, r, v, "")
		}
		return serve(c, w, r, v)
	}
}

// ownProfile is a person as they see themselves.
type ownProfile struct {
	User       string      `json:"user"`                 // what apps get as Remote-User
	Name       string      `json:"name"`                 // for display; empty: none
	Email      string      `json:"email,omitempty"`      // the primary address, proven
	Picture    string      `json:"picture,omitempty"`    // an address
	Groups     []string    `json:"groups"`               // the operator's and the provider's
	Created    time.Time   `json:"created"`              // the first sign-in
	Fresh      bool        `json:"fresh"`                // whether the account may be changed now
	FreshUntil time.Time   `json:"fresh_until,omitzero"` // for how long; absent: not now
	Tokens     *tokensView `json:"tokens,omitempty"`     // after a change, in place of those before
}

func (c *apiCall) profile(w http.ResponseWriter, _ *http.Request, v *visit) error {
	return c.answer(w, http.StatusOK, c.viewOfProfile(v, v.live()))
}

func (c *apiCall) viewOfProfile(v *visit, live *session.Live) *ownProfile {
	user := &live.Person.User
	own := &ownProfile{
		User: string(user.ID), Name: user.Name, Email: string(user.Email), Picture: user.Picture,
		Groups: append([]string{}, live.Person.Groups()...), Created: user.Created.UTC(),
	}
	if c.isFresh(v) {
		own.Fresh, own.FreshUntil = true, v.live().AuthTime.Add(freshFor).UTC()
	}
	return own
}

// changeOfProfile is the body of PATCH account/profile.
type changeOfProfile struct {
	// Name is the name to be called by; empty: what the provider says.
	Name *string `json:"name"`
}

func (c *apiCall) changeProfile(w http.ResponseWriter, r *http.Request, v *visit) error {
	var in changeOfProfile
	switch {
	case !c.read(w, r, &in):
		return nil
	case in.Name == nil:
		return c.fail(w, r, http.StatusBadRequest, "bad_request", "Send the name.")
	}
	return c.rename(w, r, v, *in.Name)
}

// deletionView is a deletion that was begun.
type deletionView struct {
	// DeletesAt is when nothing of the account is left. Whoever signs in before
	// may keep it.
	DeletesAt time.Time `json:"deletes_at"`
}

func (c *apiCall) deleting(w http.ResponseWriter, _ *http.Request, _ *visit, at time.Time) error {
	return c.answer(w, http.StatusOK, deletionView{DeletesAt: at.UTC()})
}

// freshRequest is the body of POST account/fresh.
type freshRequest struct {
	// Provider is where to sign in again; empty: by a code that is mailed to the
	// primary address.
	Provider string `json:"provider,omitempty"`
	// Return is where the browser goes then, a path of this site. Default: /.
	Return string `json:"return,omitempty"`
}

// becomeFresh has somebody prove that it is still them. What a provider says
// comes back to a browser's cookies, so that an app which has none is mailed a
// code.
func (c *apiCall) becomeFresh(w http.ResponseWriter, r *http.Request, v *visit) error {
	var in freshRequest
	if !c.read(w, r, &in) {
		return nil
	}
	to := "/"
	if in.Return != "" {
		to = c.wanted(in.Return)
	}
	provider, known := named(c.gate.providers, in.Provider).(guest.Provider)
	switch {
	case in.Return != "" && to != in.Return:
		return c.fail(w, r, http.StatusBadRequest, "bad_request", "The member return must be a path of this site.")
	case in.Provider != "" && c.native:
		return c.fail(w, r, http.StatusBadRequest, "bad_request", "An app proves it by a code, or signs in anew: leave provider out.")
	case in.Provider != "" && !known:
		return c.fail(w, r, http.StatusNotFound, "provider_disabled", "This site has no such provider: GET metadata lists them.")
	case in.Provider != "":
		return c.proveAgain(w, r, v, provider, to)
	case !c.mayMailAgain(v):
		return c.fail(w, r, http.StatusBadRequest, "bad_request", "There is no address that a code could be mailed to: name a provider, or sign in anew.")
	}
	return c.mailAgain(w, r, v, to)
}

// emailView is an address of a person's.
type emailView struct {
	ID       string      `json:"id"`                 // for account/emails/{id}
	Email    string      `json:"email"`              // canonical
	Primary  bool        `json:"primary"`            // the one that apps are told
	Proven   time.Time   `json:"proven,omitzero"`    // when; absent: an operator put it there
	Provider string      `json:"provider,omitempty"` // whose word proved it; absent: a code that was mailed
	Last     bool        `json:"last_way_in"`        // it can't be removed
	Tokens   *tokensView `json:"tokens,omitempty"`   // after a change, in place of those before
}

// emailsView is the answer of GET account/emails.
type emailsView struct {
	Emails []emailView `json:"emails"` // all of them, the primary one first
}

func (c *apiCall) emails(w http.ResponseWriter, r *http.Request, v *visit) error {
	h, err := c.holdingsOf(r, v)
	if err != nil {
		return c.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	return c.answer(w, http.StatusOK, emailsView{Emails: c.viewOfEmails(v, h)})
}

func (c *apiCall) viewOfEmails(v *visit, h holdings) []emailView {
	around := c.gate.app.surroundings(c.gate.now())
	list := []emailView{}
	for _, a := range h.addresses {
		view := emailView{
			ID: idOfAddress(v.live().User, a.Email), Email: string(a.Email), Primary: a.Email == h.user.Email,
			Proven: a.Proven.UTC(), Last: around.IsLastAddress(h.accounts, h.addresses, a.Email),
		}
		if c.provenBy(a.By) != "" {
			view.Provider = a.By
		}
		list = append(list, view)
	}
	return list
}

// idOfAddress names an address of a user's in a path, which may be logged.
func idOfAddress(user identity.UserID, email identity.Email) string {
	return base64.RawURLEncoding.EncodeToString([]byte(record.Hash("address", string(user), string(email)))[:12])
}

// newEmail is the body of POST account/emails.
type newEmail struct {
	// Email is the address, to which a code is mailed.
	Email string `json:"email"`
}

func (c *apiCall) addEmail(w http.ResponseWriter, r *http.Request, v *visit) error {
	var in newEmail
	switch {
	case !c.read(w, r, &in):
		return nil
	case c.gate.settings.post == nil:
		return c.fail(w, r, http.StatusBadRequest, "bad_request", "This site sends no mail, so that no address can be proven to it.")
	}
	return c.askForAddress(w, r, v, in.Email)
}

// changeOfEmail is the body of PATCH account/emails/{id}.
type changeOfEmail struct {
	// Primary is true: apps are told this address from now on.
	Primary bool `json:"primary"`
}

func (c *apiCall) changeEmail(w http.ResponseWriter, r *http.Request, v *visit) error {
	var in changeOfEmail
	switch {
	case !c.read(w, r, &in):
		return nil
	case !in.Primary:
		return c.fail(w, r, http.StatusBadRequest, "bad_request", "Send primary: true; the address that was the primary one then is none.")
	}
	return c.withEmail(w, r, v, c.choosePrimary)
}

func (c *apiCall) removeEmail(w http.ResponseWriter, r *http.Request, v *visit) error {
	return c.withEmail(w, r, v, c.removeAddress)
}

// withEmail changes the address that the path names.
func (c *apiCall) withEmail(w http.ResponseWriter, r *http.Request, v *visit, change func(http.ResponseWriter, *http.Request, *visit, string) error) error {
	h, err := c.holdingsOf(r, v)
	if err != nil {
		return c.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	for _, view := range c.viewOfEmails(v, h) {
		if view.ID == c.id {
			c.email = view
			return change(w, r, v, view.Email)
		}
	}
	return c.unchanged(w, r, v, page.ProblemNotFound, "")
}

// identityView is an account at a provider by which a person signs in.
type identityView struct {
	ID       string         `json:"id"`                // for account/identities/{id}
	Provider string         `json:"provider"`          // the operator's name of it
	Label    string         `json:"label"`             // for display
	Brand    string         `json:"brand,omitempty"`   // selects an icon, as in metadata
	Account  string         `json:"account,omitempty"` // what it is called there
	Linked   time.Time      `json:"linked"`            // when it was connected
	How      page.HowLinked `json:"how,omitempty"`     // how it came to be: signup, confirmed, proof, code or operator
	Last     bool           `json:"last_way_in"`       // it can't be disconnected
	Current  bool           `json:"current"`           // this session came in by it, and ends with it
}

// identitiesView is the answer of GET account/identities.
type identitiesView struct {
	Identities []identityView `json:"identities"` // all of them
}

func (c *apiCall) identities(w http.ResponseWriter, r *http.Request, v *visit) error {
	h, err := c.holdingsOf(r, v)
	if err != nil {
		return c.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	around := c.gate.app.surroundings(c.gate.now())
	list := []identityView{}
	for _, a := range h.accounts {
		if a.IsMailed() {
			continue // an address is told as that
		}
		key := a.Key()
		list = append(list, identityView{
			ID: base64.RawURLEncoding.EncodeToString([]byte(key)), Provider: a.Provider, Label: c.labelOf(a.Provider), Brand: c.brandOf(a.Provider),
			Account: a.Email, Linked: a.Linked.UTC(), How: howLinked(a.How),
			Last: around.IsLastAccount(h.accounts, h.addresses, key), Current: string(v.live().Identity) == string(key),
		})
	}
	return c.answer(w, http.StatusOK, identitiesView{Identities: list})
}

func (c *apiCall) unlinkIdentity(w http.ResponseWriter, r *http.Request, v *visit) error {
	if _, err := base64.RawURLEncoding.Strict().DecodeString(c.id); err != nil {
		return c.unchanged(w, r, v, page.ProblemNotFound, "")
	}
	return c.unlink(w, r, v, c.id)
}

// listedSession is where a person is signed in.
type listedSession struct {
	ID        string    `json:"id"`                   // for account/sessions/{id}; opens nothing
	Current   bool      `json:"current"`              // the one of this call
	Site      string    `json:"site"`                 // a host, or a domain with all of its hosts; of an app, with the port if it shows
	Provider  string    `json:"provider"`             // how it began
	Device    string    `json:"device,omitempty"`     // such as "Firefox on Linux"
	UserAgent string    `json:"user_agent,omitempty"` // as the client calls itself
	Place     string    `json:"place,omitempty"`      // a network
	Created   time.Time `json:"created"`              // when it began
	Seen      time.Time `json:"seen"`                 // when it was used last, to the minute
	ExpiresAt time.Time `json:"expires_at"`           // however much it is used
}

// listedSessions is the answer of GET account/sessions.
type listedSessions struct {
	Sessions []listedSession `json:"sessions"`       // the youngest first
	Next     string          `json:"next,omitempty"` // for after; absent: these were the last
}

// listSessions goes by when they began: what they are used for meanwhile moves
// none of them to another page.
func (c *apiCall) listSessions(w http.ResponseWriter, r *http.Request, v *visit) error {
	after, limit, ok := c.part(w, r)
	if !ok {
		return nil
	}
	from, err := readPlace(after)
	if err != nil {
		return c.fail(w, r, http.StatusBadRequest, "bad_request", badAfter)
	}
	all, err := v.house.sessions.OfUser(r.Context(), v.live().User)
	if err != nil {
		return c.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	slices.SortFunc(all, func(a, b session.Session) int { return placeOfSession(&a).compare(placeOfSession(&b)) })
	out := listedSessions{Sessions: []listedSession{}}
	for i := range all {
		switch at := placeOfSession(&all[i]); {
		case after != "" && at.compare(from) <= 0:
			continue
		case len(out.Sessions) == limit:
			out.Next = placeOfSession(&all[i-1]).String()
			return c.answer(w, http.StatusOK, out)
		}
		out.Sessions = append(out.Sessions, viewOfListed(&all[i], v.live()))
	}
	return c.answer(w, http.StatusOK, out)
}

func viewOfListed(s *session.Session, here *session.Live) listedSession {
	return listedSession{
		ID: s.Handle, Current: s.Key == here.Key, Site: strings.TrimPrefix(s.Scope, "."), Provider: s.Provider,
		Device: page.Device(s.Device), UserAgent: s.Device, Place: s.Place,
		Created: s.Created.UTC(), Seen: s.Seen.UTC(), ExpiresAt: s.Expires.UTC(),
	}
}

// place is where a session is in its person's list.
type place struct {
	created int64 // in Unix nanoseconds
	handle  string
}

func placeOfSession(s *session.Session) place { return place{s.Created.UnixNano(), s.Handle} }

// compare puts the youngest first.
func (p place) compare(q place) int {
	return cmp.Or(cmp.Compare(q.created, p.created), strings.Compare(p.handle, q.handle))
}

func (p place) String() string { return strconv.FormatInt(p.created, 16) + "." + p.handle }

// readPlace reads what String wrote; empty: the zero place.
func readPlace(text string) (p place, err error) {
	if text == "" {
		return p, nil
	}
	created, handle, _ := strings.Cut(text, ".")
	p.handle = handle
	if p.created, err = strconv.ParseInt(created, 16, 64); err == nil && p.String() != text {
		err = errPlace
	}
	return p, err
}

var errPlace = errors.New("no such place in the list")

// badAfter is told of a cursor that no answer gave.
const badAfter = "The parameter after must be the member next of an earlier answer."

// endSession ends one: this very one as signing out does, for which nobody need
// have signed in a moment ago.
func (c *apiCall) endSession(w http.ResponseWriter, r *http.Request, v *visit) error {
	switch {
	case c.id == v.live().Handle:
		return c.leave(w, r, v)
	case !c.isFresh(v):
		return c.stale(w, r, v, "")
	}
	return c.endOne(w, r, v, c.id)
}

// ownActivity is the answer of GET account/activity.
type ownActivity struct {
	Activity []activity.Entry `json:"activity"`       // of 90 days, the latest first
	Next     string           `json:"next,omitempty"` // for after; absent: these were the last
}

func (c *apiCall) listActivity(w http.ResponseWriter, r *http.Request, v *visit) error {
	after, limit, ok := c.part(w, r)
	if !ok {
		return nil
	}
	out := ownActivity{Activity: []activity.Entry{}}
	err := v.house.store.View(r.Context(), func(tx guest.Tx) error {
		entries, next, err := activity.List(tx, v.live().User, activity.Cursor(after), limit, c.gate.now())
		out.Activity, out.Next = append([]activity.Entry{}, entries...), string(next)
		return err
	})
	if errors.Is(err, activity.ErrCursor) {
		return c.fail(w, r, http.StatusBadRequest, "bad_request", badAfter)
	}
	if err != nil {
		return c.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	return c.answer(w, http.StatusOK, out)
}

// maxPart is how many of a list one answer has at most.
const maxPart = 100

// part is which part of a list is asked for. Where it is none, it answers.
func (c *apiCall) part(w http.ResponseWriter, r *http.Request) (after string, limit int, ok bool) {
	query, err := url.ParseQuery(original(r).RawQuery)
	limit = perPage
	if err == nil {
		err = once(query)
	}
	if err == nil && query.Has("limit") {
		limit, err = strconv.Atoi(query.Get("limit"))
	}
	if err != nil || limit < 1 || limit > maxPart {
		detail := fmt.Sprintf("The parameters are after and limit, once each: a limit is 1 to %d.", maxPart)
		_ = c.fail(w, r, http.StatusBadRequest, "bad_request", detail) // it has answered
		return "", 0, false
	}
	return query.Get("after"), limit, true
}

// accountChanged is the answer of what took something away from an account.
type accountChanged struct {
	// Tokens are those of an app from now on. A browser's cookie was replaced.
	Tokens *tokensView `json:"tokens"`
}

// changed answers with what was changed, and with the tokens that replace those
// of before. What the answer needs was found before the change: a store that
// fails now must not keep anybody's new tokens from them.
func (c *apiCall) changed(w http.ResponseWriter, r *http.Request, v *visit, a alteration) error {
	tokens, err := c.tokensOf(v)
	if err != nil {
		return c.gate.refuse(w, r, broken(http.StatusInternalServerError, err))
	}
	switch a.done {
	case page.DoneRenamed:
		own := c.viewOfProfile(v, a.after(v.live()))
		own.Tokens = tokens
		return c.answer(w, http.StatusOK, own)
	case page.DonePrimary:
		c.email.Primary, c.email.Tokens = true, tokens
		return c.answer(w, http.StatusOK, c.email)
	case page.DoneAdded:
		return c.answer(w, http.StatusOK, envelope{Status: isAuthenticated, Session: c.viewOfSession(a.after(v.live())), Tokens: tokens})
	}
	if tokens != nil {
		return c.answer(w, http.StatusOK, accountChanged{Tokens: tokens})
	}
	return c.noContent(w)
}

// noContent answers that it was done.
func (c *apiCall) noContent(w http.ResponseWriter) error {
	h := w.Header()
	if c.native {
		h.Del("Set-Cookie")
	}
	h["Cache-Control"] = noStore
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// refusals are why an account was not changed, as the API calls it.
var refusals = map[page.AccountProblem]struct {
	status       int
	code, detail string
}{
	page.ProblemBadName:    {http.StatusUnprocessableEntity, "invalid_name", "A name has up to 100 characters, all of them visible: choose another."},
	page.ProblemBadAddress: {http.StatusUnprocessableEntity, "invalid_email", "This is no address that mail could be sent to: correct it."},
	page.ProblemEmailInUse: {http.StatusConflict, "email_in_use", "The address belongs to another account: remove it there first."},
	page.ProblemTooMany:    {http.StatusConflict, "too_many", "There are as many as an account may have, or changes that can still be taken back: remove one, or wait a few days."},
	page.ProblemLastWayIn:  {http.StatusConflict, "last_way_in", "Nobody could sign in to the account any more: add another way in first."},
	page.ProblemNotFound:   {http.StatusNotFound, "not_found", "The account has no such thing, or not any more: read the list anew."},
}

func (c *apiCall) unchanged(w http.ResponseWriter, r *http.Request, _ *visit, problem page.AccountProblem, _ string) error {
	why := refusals[problem]
	return c.fail(w, r, why.status, why.code, why.detail)
}

func (c *apiCall) stale(w http.ResponseWriter, r *http.Request, _ *visit, _ string) error {
	return c.fail(w, r, page.FreshNeeded.Status(), string(page.FreshNeeded), "This takes a sign-in of the last 15 minutes: POST account/fresh, or sign in again.")
}
