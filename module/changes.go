package module

import (
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
		return p.seeOther(w, p.againURL(p.accountURL("")))
	}
	switch form.Get("do") {
	case "rename":
		return p.rename(w, r, v, form.Get("name"))
	case "add":
		return p.askForAddress(w, r, v, form.Get("address"))
	case "primary":
		return p.choosePrimary(w, r, v, identity.Email(form.Get("address")))
	case "remove":
		return p.removeAddress(w, r, v, identity.Email(form.Get("address")))
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
	do     func(tx guest.Tx, at time.Time) error
	entry  activity.Entry
	notice page.Notice
	done   page.AccountDone
	// undo has the mail take the change back, for address.
	undo    string
	address identity.Email
	// value is what was typed, for the page that says why not.
	value string
	// endsOthers: the change has ended every older session of the person's.
	endsOthers bool
}

// alter makes a change in one transaction, in which the session gets a new id,
// and tells of it.
func (p *portal) alter(w http.ResponseWriter, r *http.Request, v *visit, a alteration) error {
	at := p.gate.now()
	ticket, err := v.house.sessions.Issue(v.scope)
	if err != nil {
		return p.gate.refuse(w, r, broken(http.StatusInternalServerError, err))
	}
	var begun *session.Session
	var told []identity.Email
	undo := guest.Secret("")
	err = v.house.store.Update(r.Context(), func(tx guest.Tx) (err error) {
		begun, told, undo = nil, nil, ""
		// First: a session that was ended meanwhile changes nothing.
		if begun, err = v.house.sessions.Rotate(tx, ticket, v.live.Key, at); err != nil {
			return err
		}
		if told, err = identity.ProvenAddresses(tx, v.live.User); err != nil {
			return err
		}
		if a.undo != "" {
			if undo, err = keepUndo(tx, v.live.User, a.undo, a.address, at); err != nil {
				return err
			}
		}
		if err := a.do(tx, at); err != nil {
			return err
		}
		return p.noteIn(tx, r, v.live.User, a.entry, begun.Handle)
	})
	if errors.Is(err, session.ErrNone) || errors.Is(err, pending.ErrGone) {
		return p.outdated(w, r, v, "/")
	}
	if problem := problemOf(err); problem != "" {
		return p.showAccount(w, r, v, page.AccountPage{Problem: problem, Value: a.value})
	}
	if err != nil {
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	p.altered(w, r, v, a, begun, ticket)
	p.tell(r, v, told, undo, a.notice)
	return p.seeOther(w, p.accountURL(a.done))
}

// altered has the next requests read anew what was changed, and ends what the
// change ended.
func (p *portal) altered(w http.ResponseWriter, r *http.Request, v *visit, a alteration, begun *session.Session, ticket session.Ticket) {
	v.house.sessions.Forget(v.live.Key)
	err := v.house.sessions.ForgetUser(r.Context(), v.live.User)
	if a.endsOthers {
		err = errors.Join(err, v.house.sessions.EndAll(r.Context(), v.live.User, begun.Key))
	}
	if err != nil {
		p.gate.app.complain(err, requestID(r))
	}
	v.set(w, v.base, ticket.Cookie, begun.Expires.Sub(p.gate.now()))
	p.gate.app.changed(r, v.live.User, a.entry)
}

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
func keepUndo(tx guest.Tx, user identity.UserID, what string, email identity.Email, at time.Time) (guest.Secret, error) {
	undo, err := identity.Before(tx, user, what, email, at)
	if err != nil {
		return "", err
	}
	secret := identity.NewUndoSecret(user)
	return secret, undo.Keep(tx, secret)
}

func (p *portal) rename(w http.ResponseWriter, r *http.Request, v *visit, name string) error {
	return p.alter(w, r, v, alteration{
		do: func(tx guest.Tx, _ time.Time) error {
			_, err := identity.Rename(tx, v.live.User, name)
			return err
		},
		entry: activity.Entry{What: activity.Renamed}, done: page.DoneRenamed, value: name,
	})
}

// askForAddress mails a code to an address that somebody wants to add. Whether
// it is another's is said only once they have proven it.
func (p *portal) askForAddress(w http.ResponseWriter, r *http.Request, v *visit, typed string) error {
	if p.gate.settings.post == nil {
		return p.trouble(w, r, v, trouble{kind: page.BadRequest})
	}
	if !v.servesPort(r) {
		return p.trouble(w, r, v, strangePort(v))
	}
	email, err := identity.ParseEmail(strings.TrimSpace(typed))
	if err != nil {
		return p.showAccount(w, r, v, page.AccountPage{Problem: page.ProblemBadAddress, Value: typed})
	}
	waits := &waiting{id: pending.NewID(), Pending: &pending.Pending{
		Kind: pending.Address, Scope: v.scope, Begun: p.gate.now().UTC(), Return: p.accountURL(""), Email: email, User: v.live.User,
	}}
	return p.beginProof(w, r, v, waits, challenge.Ask{Purpose: challenge.Change, Email: email, Familiar: true})
}

// addAddress adds an address that was proven to whoever asked for it.
func (p *portal) addAddress(w http.ResponseWriter, r *http.Request, v *visit, waits *waiting) error {
	if v.user() != waits.User {
		return p.outdated(w, r, v, "/")
	}
	v.drop(w, v.waits())
	return p.alter(w, r, v, alteration{
		do: func(tx guest.Tx, at time.Time) error {
			if v.live.Person.User.SessionsFrom.After(waits.Begun) {
				return identity.ErrState
			}
			if err := pending.Spend(tx, waits.id); err != nil {
				return err
			}
			_, err := identity.AddAddress(tx, v.live.User, waits.Email, identity.ByMail, at)
			return err
		},
		entry:  activity.Entry{What: activity.AddressAdded, Detail: waits.Email.Mask()},
		notice: page.Notice{Kind: page.NoticeAddressAdded, Address: string(waits.Email)},
		done:   page.DoneAdded, endsOthers: v.live.Person.User.Email == "", undo: string(activity.AddressAdded), address: waits.Email, value: string(waits.Email),
	})
}

func (p *portal) choosePrimary(w http.ResponseWriter, r *http.Request, v *visit, email identity.Email) error {
	return p.alter(w, r, v, alteration{
		do: func(tx guest.Tx, at time.Time) error {
			_, err := identity.SetPrimary(tx, v.live.User, email, at)
			return err
		},
		entry:  activity.Entry{What: activity.PrimaryChanged, Detail: email.Mask()},
		notice: page.Notice{Kind: page.NoticePrimaryChanged, Address: string(email)},
		done:   page.DonePrimary, endsOthers: true, undo: string(activity.PrimaryChanged), address: email,
	})
}

func (p *portal) removeAddress(w http.ResponseWriter, r *http.Request, v *visit, email identity.Email) error {
	return p.alter(w, r, v, alteration{
		do: func(tx guest.Tx, at time.Time) error {
			_, err := identity.RemoveAddress(tx, v.live.User, email, p.gate.app.surroundings(at))
			return err
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
		return p.showAccount(w, r, v, page.AccountPage{Problem: page.ProblemNotFound})
	}
	return p.depart(w, r, v, provider, signin.Attempt{
		Provider: name, Return: p.accountURL(""), SwitchAccount: true, For: signin.ToLink, User: string(v.live.User),
	})
}

// signInAgain has somebody prove that it is still them.
func (p *portal) signInAgain(w http.ResponseWriter, r *http.Request, v *visit, form url.Values) error {
	to := p.ownPage(form.Get("return"))
	if form.Get("do") == "again" {
		provider, ok := named(p.gate.providers, form.Get("provider")).(guest.Provider)
		if !ok {
			return p.trouble(w, r, v, trouble{kind: page.BadRequest})
		}
		return p.depart(w, r, v, provider, signin.Attempt{
			Provider: provider.Traits().Name, Return: to, For: signin.Again, User: string(v.live.User),
		})
	}
	email := v.live.Person.User.Email
	if form.Get("do") != "code" || p.gate.codes == nil || email == "" {
		return p.trouble(w, r, v, trouble{kind: page.BadRequest})
	}
	if !v.servesPort(r) {
		return p.trouble(w, r, v, strangePort(v))
	}
	waits := &waiting{id: pending.NewID(), Pending: &pending.Pending{
		Kind: pending.Again, Scope: v.scope, Begun: p.gate.now().UTC(), Return: to, Email: email, User: v.live.User,
		Then: cookieOf(v, v.waits()),
	}}
	return p.beginProof(w, r, v, waits, challenge.Ask{Purpose: challenge.StepUp, Email: email, Familiar: true})
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
	case attempt.For == signin.ToLink && owner == v.user():
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
	var ended []session.Ended
	var gone identity.Change
	a := alteration{entry: activity.Entry{What: activity.Unlinked}, notice: page.Notice{Kind: page.NoticeUnlinked}, done: page.DoneUnlinked}
	if account, ok := p.accountOf(r, v, identity.IdentityKey(key)); ok {
		a.entry.Provider, a.entry.Detail = account.Provider, maskOf(account.Email)
		a.notice.Provider = p.labelOf(account.Provider)
	}
	a.do = func(tx guest.Tx, at time.Time) (err error) {
		if gone, err = identity.Unlink(tx, v.live.User, identity.IdentityKey(key), p.gate.app.surroundings(at)); err != nil {
			return err
		}
		if ended, err = v.house.sessions.EndIdentity(tx, v.live.User, key); err != nil {
			return err
		}
		return v.house.revokeLater(tx, gone, ended, at)
	}
	err = p.alter(w, r, v, a)
	for i := range ended {
		v.house.sessions.Forget(ended[i].Key)
	}
	return err
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
	sessions, err := v.house.sessions.OfUser(r.Context(), v.live.User)
	if err != nil {
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	for _, s := range sessions {
		if s.Handle != handle {
			continue
		}
		if s.Key == v.live.Key {
			return p.seeOther(w, p.base+"/logout")
		}
		return p.endSessions(w, r, v, page.DoneEnded, func() error { return v.house.sessions.End(r.Context(), s.Key) })
	}
	return p.showAccount(w, r, v, page.AccountPage{Problem: page.ProblemNotFound})
}

func (p *portal) endOthers(w http.ResponseWriter, r *http.Request, v *visit) error {
	return p.endSessions(w, r, v, page.DoneEndedOthers, func() error {
		return v.house.sessions.EndAll(r.Context(), v.live.User, v.live.Key)
	})
}

func (p *portal) endSessions(w http.ResponseWriter, r *http.Request, v *visit, done page.AccountDone, end func() error) error {
	err := end()
	if err == nil {
		err = p.noteNow(r, v.house, v.live.User, activity.Entry{What: activity.SessionsEnded, Session: v.live.Handle})
	}
	if err != nil {
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	p.gate.app.changed(r, v.live.User, activity.Entry{What: activity.SessionsEnded})
	p.tell(r, v, p.provenOf(r, v, v.live.User), "", page.Notice{Kind: page.NoticeSessionsEnded})
	return p.seeOther(w, p.accountURL(done))
}

// grace is how long a deletion can be stopped.
const grace = 7 * 24 * time.Hour

// deletion asks whether to delete the account, and begins it.
func (p *portal) deletion(w http.ResponseWriter, r *http.Request, v *visit) error {
	ask := page.DeletePage{Person: account(v.live), Days: int(grace / (24 * time.Hour)), Back: p.accountURL("")}
	if r.Method != http.MethodPost {
		if !p.isFresh(v) {
			return p.seeOther(w, p.againURL(p.base+"/account/delete"))
		}
		p.pages.Delete(w, r, ask)
		return nil
	}
	form, ok := p.form(w, r, v)
	switch {
	case !ok:
		return nil
	case !p.isFresh(v):
		return p.seeOther(w, p.againURL(p.base+"/account/delete"))
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
	at := p.gate.now()
	var user identity.User
	var ended []session.Ended
	told := p.provenOf(r, v, v.live.User)
	err := v.house.store.Update(r.Context(), func(tx guest.Tx) (err error) {
		if user, err = identity.BeginDeletion(tx, v.live.User, at, at.Add(grace)); err != nil {
			return err
		}
		if ended, err = v.house.revokeAll(tx, user.ID, at); err != nil {
			return err
		}
		return p.noteIn(tx, r, user.ID, activity.Entry{What: activity.DeletionBegun}, v.live.Handle)
	})
	if problem := problemOf(err); problem != "" {
		return p.showAccount(w, r, v, page.AccountPage{Problem: problem})
	}
	if err != nil {
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	for i := range ended {
		v.house.sessions.Forget(ended[i].Key)
	}
	if err := v.house.sessions.EndAll(r.Context(), user.ID, session.Key{}); err != nil {
		p.gate.app.complain(err, requestID(r))
	}
	p.dropAll(w, v)
	p.gate.app.changed(r, user.ID, activity.Entry{What: activity.DeletionBegun})
	p.tell(r, v, told, "", page.Notice{Kind: page.NoticeDeletionBegun, Until: user.Deletes})
	p.pages.Deleting(w, r, page.Deleting{Deletes: user.Deletes, Home: p.signInURL("/")})
	return nil
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
	p.tell(r, v, told, "", page.Notice{Kind: page.NoticeReverted})
	p.pages.Reverted(w, r, page.Reverted{Home: p.signInURL("/")})
	return nil
}
