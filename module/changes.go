package module

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddy-login/caddy-login/module/activity"
	"github.com/caddy-login/caddy-login/module/challenge"
	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/page"
	"github.com/caddy-login/caddy-login/module/pending"
	"github.com/caddy-login/caddy-login/module/session"
	"github.com/caddy-login/caddy-login/module/signin"
)

// What people change of their own accounts. Each change comes by a form of our
// own page, from somebody who signed in within the last minutes, is written down
// beside what it changed, and is told by mail.

// change takes the forms of the account page.
func (p *portal) change(w http.ResponseWriter, r *http.Request, v *visit) error {
	form, ok := p.form(w, r, v)
	switch {
	case !ok:
		return nil
	case !p.isFresh(v):
		return p.voice(v).stale(w, r, v, p.accountURL(""))
	}
	switch form.Get("do") {
	case "rename":
		return p.rename(w, r, v, form.Get("name"))
	case "add":
		return p.askForAddress(w, r, v, form.Get("address"))
	case "primary":
		return p.choosePrimary(w, r, v, form.Get("address"))
	case "remove":
		return p.removeAddress(w, r, v, form.Get("address"))
	case "connect":
		return p.connect(w, r, v, form.Get("provider"))
	case "unlink":
		return p.unlink(w, r, v, form.Get("key"))
	case "end":
		return p.endOne(w, r, v, form.Get("session"))
	case "end_others":
		return p.endOthers(w, r, v)
	default:
		return p.trouble(w, r, v, trouble{kind: page.BadRequest})
	}
}

// alteration is one change: what it writes, and what is told of it.
type alteration struct {
	// do makes the change, and returns the sessions that it ended.
	do     func(tx guest.Tx, at time.Time) ([]session.Ended, error)
	entry  activity.Entry
	notice page.Notice
	done   page.AccountDone
	// undo has the mail take the change back, for address.
	undo    string
	address identity.Email
	// value is what was typed, for the page that says why not.
	value string
	// ends is a session to end, endsOthers has all but this one end.
	ends       session.Key
	endsOthers bool
	// leaves: the change ends this very session, too.
	leaves bool
	// primary is the address that is the primary one from now on; empty: the one
	// that was.
	primary identity.Email
	// became is where do leaves the user as changed.
	became *identity.User
	// begun is the session under its new id, once the change is made.
	begun *session.Session
	// unnoted: it is not written down.
	unnoted bool
}

// after is who is signed in once the change is made.
func (a *alteration) after(live *session.Live) *session.Live {
	now := &session.Live{Session: live.Session, Person: live.Person}
	if a.begun != nil {
		now.Session = *a.begun
	}
	if a.became != nil {
		now.Person.User = *a.became
	}
	return now
}

// altered is what an alteration came to.
type altered struct {
	begun *session.Session
	ended []session.Ended
	told  []identity.Email
	undo  wayBack
}

// wayBack is how a change can be taken back: by the secret, and who gets it.
type wayBack struct {
	secret guest.Secret // empty: it can't be
	to     []identity.Email
}

// alter makes a change in one transaction, in which the session gets a new id,
// and tells of it.
func (p *portal) alter(w http.ResponseWriter, r *http.Request, v *visit, a alteration) error {
	if a.undo != "" && p.gate.settings.post != nil && !v.servesPort(r) {
		return p.trouble(w, r, v, strangePort(v)) // no mail could lead back
	}
	at := p.gate.now()
	// To end sessions is never refused: an intruder could use up its owner's share.
	if a.unnoted = !v.house.mayNote(v.live().User, a.entry.What, at); a.unnoted && a.entry.What != activity.SessionsEnded {
		return p.trouble(w, r, v, trouble{kind: page.TooMany})
	}
	given, err := v.issue()
	if err != nil {
		return p.gate.refuse(w, r, broken(http.StatusInternalServerError, err))
	}
	var out altered
	err = v.house.store.Update(r.Context(), func(tx guest.Tx) (err error) {
		out, err = p.writeChange(tx, r, v, a, given, at)
		return err
	})
	if errors.Is(err, session.ErrNone) || errors.Is(err, pending.ErrGone) {
		return p.outdated(w, r, v, "/")
	}
	if errors.Is(err, errHasty) {
		return p.trouble(w, r, v, trouble{kind: page.TooMany})
	}
	if problem := problemOf(err); problem != "" {
		return p.voice(v).unchanged(w, r, v, problem, a.value)
	}
	if err != nil {
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	p.tell(r, v, v.live().User, out.told, out.undo, a.notice)
	return p.settled(w, r, v, a, out, given)
}

// writeChange is the transaction of alter.
func (p *portal) writeChange(tx guest.Tx, r *http.Request, v *visit, a alteration, given credential, at time.Time) (out altered, err error) {
	// First: a session that was ended meanwhile changes nothing.
	if out.begun, err = given.move(tx, v.live().Key, at); err != nil {
		return out, err
	}
	if out.told, err = identity.ProvenAddresses(tx, v.live().User); err != nil {
		return out, err
	}
	if a.undo != "" {
		if err := isHasty(tx, v.live().User, at); err != nil {
			return out, err
		}
		before, err := identity.Before(tx, v.live().User, a.undo, a.address, at)
		if err != nil {
			return out, err
		}
		if out.undo, err = keepUndo(tx, before); err != nil {
			return out, err
		}
	}
	if out.ended, err = a.do(tx, at); err != nil || a.unnoted {
		return out, err
	}
	return out, p.noteIn(tx, r, v.live().User, a.entry, out.begun.Handle)
}

// settled answers who has made a change. The next requests read anew what was
// changed. What the change ends and could not end is no success.
func (p *portal) settled(w http.ResponseWriter, r *http.Request, v *visit, a alteration, out altered, given credential) error {
	ctx, sessions := context.WithoutCancel(r.Context()), v.house.sessions
	sessions.Forget(v.live().Key)
	for i := range out.ended {
		sessions.Forget(out.ended[i].Key)
	}
	err := sessions.ForgetUser(ctx, v.live().User)
	if a.ends != (session.Key{}) {
		err = errors.Join(err, sessions.End(ctx, a.ends))
	}
	if a.endsOthers {
		err = errors.Join(err, sessions.EndAll(ctx, v.live().User, out.begun.Key))
	}
	p.gate.app.changed(r, v.live().User, a.entry)
	if a.leaves {
		p.dropAll(w, v)
	} else {
		given.hand(w, v, out.begun)
		p.befriend(w, v, a.primary)
	}
	if err != nil {
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	a.begun = out.begun
	return p.voice(v).changed(w, r, v, a)
}

// errHasty is for who has changed their addresses too often.
var errHasty = errors.New("too many changes of addresses within an hour")

// perHour bounds how often addresses may be changed within an hour: each time is
// a mail to all of them, and a link that is kept.
const perHour = 20

// isHasty returns errHasty for who did so too often, or so much else that it
// can't be told. The link of an earlier mail is no change in this sense: an owner
// is not kept waiting by whoever got in.
func isHasty(tx guest.Tx, user identity.UserID, now time.Time) error {
	entries, _, err := activity.List(tx, user, "", countable, now)
	if err != nil {
		return err
	}
	recent, n := 0, 0
	for _, e := range entries {
		if now.Sub(e.At) >= time.Hour {
			break
		}
		recent++
		if e.What == activity.AddressAdded || e.What == activity.AddressRemoved || e.What == activity.PrimaryChanged {
			n++
		}
	}
	if n >= perHour || recent == countable {
		return errHasty
	}
	return nil
}

// countable is how much of the activity isHasty looks at.
const countable = 1000

// problemOf is why a change was not made, as far as it is the person's to mend.
func problemOf(err error) page.AccountProblem {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, identity.ErrName):
		return page.ProblemBadName
	case errors.Is(err, identity.ErrEmail):
		return page.ProblemBadAddress
	case errors.Is(err, identity.ErrEmailInUse):
		return page.ProblemEmailInUse
	case errors.Is(err, identity.ErrTooMany):
		return page.ProblemTooMany
	case errors.Is(err, identity.ErrLastWayIn):
		return page.ProblemLastWayIn
	case errors.Is(err, guest.ErrNotFound), errors.Is(err, identity.ErrNotYours), errors.Is(err, identity.ErrState):
		return page.ProblemNotFound
	default:
		return ""
	}
}

// keepUndo keeps how the ways in were, for a mail's link.
func keepUndo(tx guest.Tx, before *identity.Undo) (wayBack, error) {
	kept := wayBack{secret: identity.NewUndoSecret(before.User), to: identity.Trustees(before.Addresses, before.At)}
	return kept, before.Keep(tx, kept.secret)
}

func (p *portal) rename(w http.ResponseWriter, r *http.Request, v *visit, name string) error {
	var became identity.User
	return p.alter(w, r, v, alteration{
		do: func(tx guest.Tx, _ time.Time) (_ []session.Ended, err error) {
			became, err = identity.Rename(tx, v.live().User, name)
			return nil, err
		},
		entry: activity.Entry{What: activity.Renamed}, done: page.DoneRenamed, value: name, became: &became,
	})
}

// askForAddress mails a code to an address that somebody wants to add. Whether
// it is another's is said only once they have proven it. Being signed in makes
// nobody its friend: they could have anybody mailed.
func (p *portal) askForAddress(w http.ResponseWriter, r *http.Request, v *visit, typed string) error {
	if p.gate.settings.post == nil {
		return p.trouble(w, r, v, trouble{kind: page.BadRequest})
	}
	if !v.servesPort(r) {
		return p.trouble(w, r, v, strangePort(v))
	}
	email, err := identity.ParseEmail(strings.TrimSpace(typed))
	if err != nil {
		return p.voice(v).unchanged(w, r, v, page.ProblemBadAddress, typed)
	}
	waits := &waiting{id: pending.NewID(), Pending: &pending.Pending{
		Kind: pending.Address, Scope: v.scope, Site: v.origin.hostPort, Begun: p.gate.now().UTC(), Return: p.accountURL(""), Email: email, User: v.live().User,
	}}
	return p.beginProof(w, r, v, waits, challenge.Ask{Purpose: challenge.Change, Email: email, Familiar: p.isFriend(v, email)})
}

// addAddress adds an address that was proven to whoever asked for it.
func (p *portal) addAddress(w http.ResponseWriter, r *http.Request, v *visit, waits *waiting) error {
	if v.user() != waits.User {
		return p.outdated(w, r, v, "/")
	}
	v.drop(w, v.waits())
	var became identity.User
	return p.alter(w, r, v, alteration{
		do: func(tx guest.Tx, at time.Time) ([]session.Ended, error) {
			if v.live().Person.User.SessionsFrom.After(waits.Begun) {
				return nil, identity.ErrState
			}
			if err := pending.Spend(tx, waits.id); err != nil {
				return nil, err
			}
			added, err := identity.AddAddress(tx, v.live().User, waits.Email, identity.ByMail, at)
			became = added.User
			return nil, err
		},
		entry:  activity.Entry{What: activity.AddressAdded, Detail: waits.Email.Mask()},
		notice: page.Notice{Kind: page.NoticeAddressAdded, Address: string(waits.Email)},
		done:   page.DoneAdded, endsOthers: v.live().Person.User.Email == "", undo: string(activity.AddressAdded), address: waits.Email, value: string(waits.Email),
		became: &became,
	})
}

func (p *portal) choosePrimary(w http.ResponseWriter, r *http.Request, v *visit, typed string) error {
	email, err := identity.ParseEmail(typed)
	switch {
	case err != nil:
		return p.voice(v).unchanged(w, r, v, page.ProblemNotFound, "")
	case email == v.live().Person.User.Email:
		return p.voice(v).changed(w, r, v, alteration{done: page.DonePrimary}) // by another tab
	}
	return p.alter(w, r, v, alteration{
		do: func(tx guest.Tx, at time.Time) ([]session.Ended, error) {
			_, err := identity.SetPrimary(tx, v.live().User, email, at)
			return nil, err
		},
		entry:  activity.Entry{What: activity.PrimaryChanged, Detail: email.Mask()},
		notice: page.Notice{Kind: page.NoticePrimaryChanged, Address: string(email)},
		done:   page.DonePrimary, endsOthers: true, undo: string(activity.PrimaryChanged), address: email, primary: email,
	})
}

func (p *portal) removeAddress(w http.ResponseWriter, r *http.Request, v *visit, typed string) error {
	email, err := identity.ParseEmail(typed)
	if err != nil {
		return p.voice(v).unchanged(w, r, v, page.ProblemNotFound, "")
	}
	return p.alter(w, r, v, alteration{
		do: func(tx guest.Tx, at time.Time) ([]session.Ended, error) {
			_, err := identity.RemoveAddress(tx, v.live().User, email, p.gate.app.surroundings(at))
			return nil, err
		},
		entry:  activity.Entry{What: activity.AddressRemoved, Detail: email.Mask()},
		notice: page.Notice{Kind: page.NoticeAddressRemoved, Address: string(email)},
		done:   page.DoneRemoved, endsOthers: true, undo: string(activity.AddressRemoved), address: email,
	})
}

// connect sends somebody to a provider, to connect their account there.
func (p *portal) connect(w http.ResponseWriter, r *http.Request, v *visit, name string) error {
	provider, ok := named(p.gate.providers, name).(guest.Provider)
	if !ok {
		return p.voice(v).unchanged(w, r, v, page.ProblemNotFound, "")
	}
	return p.depart(w, r, v, provider, connecting(v, name, p.accountURL("")))
}

// connecting is an attempt to connect an account to who is signed in.
func connecting(v *visit, provider, to string) signin.Attempt {
	return signin.Attempt{Provider: provider, Return: to, SwitchAccount: true, For: signin.ToLink, User: string(v.live().User)}
}

// signInAgain has somebody prove that it is still them.
func (p *portal) signInAgain(w http.ResponseWriter, r *http.Request, v *visit, form url.Values) error {
	to := p.ownPage(form.Get("return"))
	provider, ok := named(p.gate.providers, form.Get("provider")).(guest.Provider)
	switch do := form.Get("do"); {
	case do == "again" && ok:
		return p.proveAgain(w, r, v, provider, to)
	case do == "code" && p.mayMailAgain(v):
		return p.mailAgain(w, r, v, to)
	default:
		return p.trouble(w, r, v, trouble{kind: page.BadRequest})
	}
}

// proveAgain has a provider say that it is still them.
func (p *portal) proveAgain(w http.ResponseWriter, r *http.Request, v *visit, provider guest.Provider, to string) error {
	return p.depart(w, r, v, provider, signin.Attempt{
		Provider: provider.Traits().Name, Return: to, For: signin.Again, User: string(v.live().User),
	})
}

// mayMailAgain reports whether there is an address that a code for mailAgain
// could go to.
func (p *portal) mayMailAgain(v *visit) bool {
	return p.gate.codes != nil && v.live().Person.User.Email != ""
}

// mailAgain mails a code to the primary address.
func (p *portal) mailAgain(w http.ResponseWriter, r *http.Request, v *visit, to string) error {
	if !v.servesPort(r) {
		return p.trouble(w, r, v, strangePort(v))
	}
	email := v.live().Person.User.Email
	waits := &waiting{id: pending.NewID(), Pending: &pending.Pending{
		Kind: pending.Again, Scope: v.scope, Site: v.origin.hostPort, Begun: p.gate.now().UTC(), Return: to, Email: email, User: v.live().User,
		Then: v.waitsNext(),
	}}
	return p.beginProof(w, r, v, waits, challenge.Ask{Purpose: challenge.StepUp, Email: email, Familiar: true})
}

// waitsFor is what waits in this browser.
func (v *visit) waitsFor() (id pending.ID, ok bool) {
	if v.api != nil && v.api.native {
		return v.api.waitsID, v.api.waitsID != pending.ID{}
	}
	return pending.ParseID(cookieOf(v, v.waits()))
}

// waitsNext is the question that waits until another is answered, empty: none.
// Whatever else the browser's cookie holds is not for us to keep.
func (v *visit) waitsNext() string {
	id, ok := v.waitsFor()
	if !ok {
		return ""
	}
	return id.Text()
}

// cameBack takes the answer of a provider to what was begun by somebody signed
// in, for their account.
func (p *portal) cameBack(w http.ResponseWriter, r *http.Request, v *visit, provider guest.Provider, attempt *signin.Attempt, profile guest.Profile) error {
	if string(v.user()) != attempt.User {
		return p.outdated(w, r, v, "/")
	}
	var owner identity.UserID
	err := v.house.store.View(r.Context(), func(tx guest.Tx) (err error) {
		owner, err = identity.OwnerOf(tx, provider.Traits().Name, profile)
		return err
	})
	switch {
	case err != nil:
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	case attempt.For == signin.Again && owner != v.user():
		return p.trouble(w, r, v, trouble{kind: page.WrongAccount, provider: provider, back: p.accountURL(""), outcome: "wrong_account"})
	case attempt.For == signin.ToLink && owner == v.user() && attempt.Return == p.accountURL(""):
		attempt.Return = p.accountURL(page.DoneAlreadyConnected)
	}
	return p.admit(w, r, v, provider, attempt, profile)
}

// afterLink is where somebody goes who has connected an account.
func (p *portal) afterLink(back string) string {
	if back == p.accountURL("") {
		return p.accountURL(page.DoneConnected)
	}
	return back
}

// unlink takes an account from who is signed in, and ends what came in by it.
func (p *portal) unlink(w http.ResponseWriter, r *http.Request, v *visit, text string) error {
	key, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return p.trouble(w, r, v, trouble{kind: page.BadRequest})
	}
	a := alteration{
		entry: activity.Entry{What: activity.Unlinked}, notice: page.Notice{Kind: page.NoticeUnlinked}, done: page.DoneUnlinked,
		leaves: string(v.live().Identity) == string(key),
	}
	if account, ok := p.accountOf(r, v, identity.IdentityKey(key)); ok {
		a.entry.Provider, a.entry.Detail = account.Provider, maskOf(account.Email)
		a.notice.Provider = p.labelOf(account.Provider)
	}
	a.do = func(tx guest.Tx, at time.Time) ([]session.Ended, error) {
		gone, err := identity.Unlink(tx, v.live().User, identity.IdentityKey(key), p.gate.app.surroundings(at))
		if err != nil {
			return nil, err
		}
		ended, err := v.house.sessions.EndIdentity(tx, v.live().User, key)
		if err != nil {
			return nil, err
		}
		return ended, v.house.revokeLater(tx, gone, ended, at)
	}
	return p.alter(w, r, v, a)
}

func (p *portal) accountOf(r *http.Request, v *visit, key identity.IdentityKey) (account identity.Identity, ok bool) {
	h, err := p.holdingsOf(r, v)
	for _, one := range h.accounts {
		if err == nil && one.Key() == key {
			return one, true
		}
	}
	return account, false
}

// maskOf is an address as it may be written down, whatever the provider says it
// is.
func maskOf(address string) string {
	email, err := identity.ParseEmail(address)
	if err != nil {
		return ""
	}
	return email.Mask()
}

// endOne ends a session of the person's: by its handle, so that nobody ends
// another's.
func (p *portal) endOne(w http.ResponseWriter, r *http.Request, v *visit, handle string) error {
	sessions, err := v.house.sessions.OfUser(r.Context(), v.live().User)
	if err != nil {
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	for _, s := range sessions {
		if s.Handle != handle {
			continue
		}
		if s.Key == v.live().Key {
			return p.seeOther(w, p.base+"/logout")
		}
		return p.alter(w, r, v, endingSessions(alteration{ends: s.Key, done: page.DoneEnded}))
	}
	return p.voice(v).unchanged(w, r, v, page.ProblemNotFound, "")
}

func (p *portal) endOthers(w http.ResponseWriter, r *http.Request, v *visit) error {
	return p.alter(w, r, v, endingSessions(alteration{endsOthers: true, done: page.DoneEndedOthers}))
}

// endingSessions is a change of nothing but sessions. This one gets a new id, as
// with any other: whoever has a copy of its cookie is signed out, too.
func endingSessions(a alteration) alteration {
	a.do = func(guest.Tx, time.Time) ([]session.Ended, error) { return nil, nil }
	a.entry, a.notice = activity.Entry{What: activity.SessionsEnded}, page.Notice{Kind: page.NoticeSessionsEnded}
	return a
}

// grace is how long a deletion can be stopped.
const grace = 7 * 24 * time.Hour

// deletion asks whether to delete the account, and begins it.
func (p *portal) deletion(w http.ResponseWriter, r *http.Request, v *visit) error {
	ask := page.DeletePage{Person: account(v.live()), Days: int(grace / (24 * time.Hour)), Back: p.accountURL("")}
	if r.Method != http.MethodPost {
		if !p.isFresh(v) {
			return p.voice(v).stale(w, r, v, p.base+"/account/delete")
		}
		p.pages.Delete(w, r, ask)
		return nil
	}
	form, ok := p.form(w, r, v)
	switch {
	case !ok:
		return nil
	case !p.isFresh(v):
		return p.voice(v).stale(w, r, v, p.base+"/account/delete")
	case form.Get("do") != "delete" || form.Get("sure") == "":
		ask.Missing = true
		p.pages.Delete(w, r, ask)
		return nil
	}
	return p.beginDeletion(w, r, v)
}

// beginDeletion signs everybody out and has what was granted revoked; the rest
// is erased when the time is over (revocation.go).
func (p *portal) beginDeletion(w http.ResponseWriter, r *http.Request, v *visit) error {
	given, err := v.issue()
	if err != nil {
		return p.gate.refuse(w, r, broken(http.StatusInternalServerError, err))
	}
	at := p.gate.now()
	var user identity.User
	var out altered
	err = v.house.store.Update(r.Context(), func(tx guest.Tx) (err error) {
		// The new id is for nobody: a session that was ended meanwhile gets none.
		if _, err := given.move(tx, v.live().Key, at); err != nil {
			return err
		}
		user, out, err = p.condemn(tx, r, v, at)
		return err
	})
	if errors.Is(err, session.ErrNone) {
		return p.outdated(w, r, v, "/")
	}
	if problem := problemOf(err); problem != "" {
		return p.voice(v).unchanged(w, r, v, problem, "")
	}
	if err != nil {
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	p.signOutAll(r, v, out.ended)
	p.dropAll(w, v)
	p.gate.app.changed(r, user.ID, activity.Entry{What: activity.DeletionBegun})
	p.tell(r, v, user.ID, out.told, wayBack{}, page.Notice{Kind: page.NoticeDeletionBegun, Until: user.Deletes})
	return p.voice(v).deleting(w, r, v, user.Deletes)
}

// condemn is what is written when a deletion begins.
func (p *portal) condemn(tx guest.Tx, r *http.Request, v *visit, at time.Time) (user identity.User, out altered, err error) {
	if out.told, err = identity.ProvenAddresses(tx, v.live().User); err != nil {
		return user, out, err
	}
	if user, err = identity.BeginDeletion(tx, v.live().User, at, at.Add(grace)); err != nil {
		return user, out, err
	}
	if out.ended, err = v.house.revokeAll(tx, user.ID, at); err != nil {
		return user, out, err
	}
	return user, out, p.noteIn(tx, r, user.ID, activity.Entry{What: activity.DeletionBegun}, v.live().Handle)
}

// signOutAll forgets the sessions that a deletion has ended. Others of the
// person's, if there are more than one transaction ends, are none already; what
// they kept is to be revoked, too.
func (p *portal) signOutAll(r *http.Request, v *visit, ended []session.Ended) {
	sessions := v.house.sessions
	sessions.Forget(v.live().Key)
	for i := range ended {
		sessions.Forget(ended[i].Key)
	}
	forget := func(ended []session.Ended) {
		for i := range ended {
			sessions.Forget(ended[i].Key)
		}
	}
	if err := v.house.eraseSessions(context.WithoutCancel(r.Context()), v.live().User, forget); err != nil {
		p.gate.app.complain(err, requestID(r))
	}
}

// revert takes a change of addresses back, for whoever has the mail.
func (p *portal) revert(w http.ResponseWriter, r *http.Request, v *visit) error {
	if !allows(w, r, http.MethodGet, http.MethodHead, http.MethodPost) {
		return p.trouble(w, r, v, trouble{kind: page.MethodNotAllowed})
	}
	if r.Method == http.MethodPost {
		form, ok := p.form(w, r, v)
		if !ok {
			return nil
		}
		return p.takeBack(w, r, v, guest.Secret(form.Get("token")))
	}
	house, err := p.gate.app.door.enter()
	if err != nil {
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	v.house = house
	token := original(r).Query().Get("t")
	var undo *identity.Undo
	err = house.store.View(r.Context(), func(tx guest.Tx) (err error) {
		undo, err = identity.ReadUndo(tx, guest.Secret(token), p.gate.now())
		return err
	})
	switch {
	case errors.Is(err, identity.ErrOutdated):
		return p.outdated(w, r, v, "/")
	case err != nil:
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	p.pages.Revert(w, r, page.RevertPage{Token: token, Kind: undo.What, Address: undo.Email.Mask()})
	return nil
}

func (p *portal) takeBack(w http.ResponseWriter, r *http.Request, v *visit, secret guest.Secret) error {
	at := p.gate.now()
	var undo *identity.Undo
	var told []identity.Email
	err := v.house.store.Update(r.Context(), func(tx guest.Tx) (err error) {
		var taken []identity.Change
		if undo, taken, err = identity.Revert(tx, secret, at); err != nil {
			return err
		}
		for _, change := range taken {
			ended, err := v.house.sessions.EndIdentity(tx, undo.User, []byte(change.Identity.Key()))
			if err != nil {
				return err
			}
			if err := v.house.revokeLater(tx, change, ended, at); err != nil {
				return err
			}
		}
		if told, err = identity.ProvenAddresses(tx, undo.User); err != nil {
			return err
		}
		return p.noteIn(tx, r, undo.User, activity.Entry{What: activity.Reverted, Detail: undo.Email.Mask()}, "")
	})
	if errors.Is(err, identity.ErrOutdated) {
		return p.outdated(w, r, v, "/")
	}
	if err == nil {
		err = v.house.sessions.EndAll(r.Context(), undo.User, session.Key{})
	}
	if err != nil {
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	p.gate.app.changed(r, undo.User, activity.Entry{What: activity.Reverted})
	p.tell(r, v, undo.User, told, wayBack{}, page.Notice{Kind: page.NoticeReverted})
	p.pages.Reverted(w, r, page.Reverted{Home: p.signInURL("/")})
	return nil
}
