package module

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddy-login/caddy-login/module/activity"
	"github.com/caddy-login/caddy-login/module/challenge"
	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/mail"
	"github.com/caddy-login/caddy-login/module/page"
	"github.com/caddy-login/caddy-login/module/pending"
	"github.com/caddy-login/caddy-login/module/policy"
	"github.com/caddy-login/caddy-login/module/record"
	"github.com/caddy-login/caddy-login/module/session"
)

// What happened is written into the person's activity, in the transaction that
// did it, and told by mail to the addresses they have proven: those they had
// before, too.

// noteIn writes an entry of this request's into somebody's activity.
func (p *portal) noteIn(tx guest.Tx, r *http.Request, user identity.UserID, e activity.Entry, handle string) error {
	e.At, e.Device, e.Place = p.gate.now(), page.Device(r.UserAgent()), placeOf(clientIP(r.Context()))
	e.Session, e.RequestID = handle, requestID(r)
	return activity.Write(tx, user, e)
}

// noteNow is noteIn in a transaction of its own.
func (p *portal) noteNow(r *http.Request, house *house, user identity.UserID, e activity.Entry) error {
	return house.store.Update(r.Context(), func(tx guest.Tx) error { return p.noteIn(tx, r, user, e, e.Session) })
}

// noteArrival writes down that somebody came in, and what that changed.
func (p *portal) noteArrival(tx guest.Tx, r *http.Request, v *visit, a arrival, out outcome) error {
	user := out.admitted.Person.User.ID
	e := activity.Entry{What: activity.SignedIn, Row: out.admitted.Row, Provider: a.method.Traits().Name}
	switch {
	case out.admitted.Do == identity.Link:
		e.What, e.Detail = activity.Linked, maskOf(out.admitted.Person.Identity.Email)
	case out.admitted.Do == identity.Claim:
		e.What, e.Detail = activity.Claimed, maskOf(out.admitted.Person.Identity.Email)
	case user == v.user():
		e.What = activity.Reauthenticated
	}
	if a.pending.Said.Keep == user {
		kept := activity.Entry{What: activity.DeletionStopped, Row: out.admitted.Row}
		if err := p.noteIn(tx, r, user, kept, out.begun.Handle); err != nil {
			return err
		}
	}
	return p.noteIn(tx, r, user, e, out.begun.Handle)
}

// noteRefusal writes down, for whom it concerns, that somebody did not come in.
// Of nobody known nothing is kept: strangers would fill the disk.
func (p *portal) noteRefusal(tx guest.Tx, r *http.Request, v *visit, a arrival, out outcome) error {
	user := out.admitted.Decision.User
	if user == "" {
		return nil
	}
	return p.noteIn(tx, r, user, activity.Entry{
		What: activity.SignInFailed, Row: out.admitted.Row, Provider: a.method.Traits().Name, Failed: true, Detail: refusalWord(out.refused),
	}, "")
}

func refusalWord(err error) string {
	switch {
	case errors.Is(err, identity.ErrEmailInUse):
		return "email_in_use"
	case errors.Is(err, identity.ErrAccountDisabled):
		return "account_disabled"
	case errors.Is(err, identity.ErrAlreadyLinked):
		return "identity_already_linked"
	default:
		return "outdated"
	}
}

// noteExhausted writes down, for who holds the address, that somebody tried too
// many codes. For an address that nobody holds it reads the same and writes as
// much: time must not tell who is known.
func (p *portal) noteExhausted(r *http.Request, v *visit, email identity.Email, why error) {
	if !errors.Is(why, challenge.ErrTooMany) {
		return
	}
	err := v.house.store.Update(r.Context(), func(tx guest.Tx) error {
		holder, err := identity.HolderOrStandIn(tx, email)
		if err != nil {
			return err
		}
		return p.noteIn(tx, r, holder, activity.Entry{What: activity.SignInFailed, Detail: "too_many_attempts", Failed: true}, "")
	})
	if err != nil {
		p.gate.app.complain(err, requestID(r))
	}
}

// mayNote reports whether one more thing of a kind that somebody does to their own
// account may be written down. It is kept for 90 days, and buries what came
// before.
func (h *house) mayNote(user identity.UserID, what activity.What, now time.Time) bool {
	return h.changes.AllowKey(record.Hash("change", string(user), string(what)), now)
}

// provenOf are the addresses that somebody's mail goes to; none where the site
// sends no mail.
func (p *portal) provenOf(r *http.Request, v *visit, user identity.UserID) (proven []identity.Email) {
	if p.gate.settings.post == nil {
		return nil
	}
	err := v.house.store.View(r.Context(), func(tx guest.Tx) (err error) {
		proven, err = identity.ProvenAddresses(tx, user)
		return err
	})
	if err != nil {
		p.gate.app.complain(err, requestID(r))
	}
	return proven
}

// tellArrival mails what an arrival changed, or that it came from a browser that
// is new to the person.
func (p *portal) tellArrival(r *http.Request, v *visit, a arrival, out outcome) {
	user := &out.admitted.Person.User
	notice := page.Notice{Provider: a.method.Traits().Label}
	switch {
	case p.gate.settings.post == nil, out.admitted.Created:
		return
	case a.pending.Said.Keep == user.ID:
		notice.Kind = page.NoticeDeletionStopped
	case out.admitted.Do == identity.Link, out.admitted.Do == identity.Claim && a.pending.Kind == pending.Arrival:
		notice.Kind = page.NoticeLinked
	case user.ID != v.user() && !p.isFriend(v, user.Email) && user.Email != "":
		notice.Kind = page.NoticeNewDevice
	default:
		return
	}
	p.tell(r, v, user.ID, p.provenOf(r, v, user.ID), out.undo, notice)
}

// tell mails a notice about somebody to each of these addresses, and with it, to
// some, the link that takes the change back. It is told also where the port that
// the browser names is a stranger's word: whoever writes it would else go unseen.
// Such a mail leads nowhere.
func (p *portal) tell(r *http.Request, v *visit, about identity.UserID, to []identity.Email, back wayBack, n page.Notice) {
	at := p.gate.now()
	if p.gate.settings.post == nil || n.Kind == "" || len(to) == 0 || back.secret == "" && !v.house.mayBeTold(about, n.Kind, at) {
		return
	}
	n.Host, n.At, n.Language = v.origin.host, at, r.Header.Get("Accept-Language")
	n.Device, n.Place = page.Device(r.UserAgent()), placeOf(clientIP(r.Context()))
	if v.servesPort(r) {
		n.Host, n.Account = v.origin.hostPort, v.origin.String()+p.base+"/account"
	}
	for _, email := range to {
		letter := n
		letter.To = string(email)
		if n.Account != "" && slices.Contains(back.to, email) {
			letter.Revert = v.origin.String() + p.base + "/account/revert?t=" + url.QueryEscape(string(back.secret))
			letter.Until = at.Add(identity.Undoable)
		}
		message := p.pages.NoticeLetter(letter)
		message.From = "login@" + v.origin.host
		if !p.gate.settings.post.send(mail.Entry{Message: message, Expires: at.Add(noticeLives)}) {
			p.gate.app.notMailed("queue_full", requestID(r))
		}
	}
}

// mayBeTold reports whether there is something new in telling somebody of the
// same kind of thing once more. What they can do as often as they like, to their
// own account, would else fill the queue that everybody's codes go through.
func (h *house) mayBeTold(user identity.UserID, kind page.NoticeKind, now time.Time) bool {
	return h.notices.AllowKey(record.Hash("notice", string(user), string(kind)), now)
}

// noticeLives is how long a notice is worth retrying.
const noticeLives = 24 * time.Hour

// administrators are the names of roles and groups whose members have more to
// lose than others.
var administrators = []string{"admin", "admins", "administrator", "administrators"}

// isPrivileged reports whether a user has one of those roles or groups here, by
// any of their ways in.
func (p *portal) isPrivileged(tx guest.Tx, user identity.User) (bool, error) {
	accounts, err := identity.Accounts(tx, user.ID)
	if err != nil {
		return false, err
	}
	as := []identity.Identity{{}}
	for _, account := range append(as, accounts...) {
		person := identity.Person{User: user, Identity: account}
		live := session.Live{Session: session.Session{Provider: account.Provider}, Person: person}
		visitor := p.gate.visitorOf(&live)
		if isAdministrator(&visitor) {
			return true, nil
		}
	}
	return false, nil
}

func isAdministrator(v *policy.Visitor) bool {
	return slices.ContainsFunc(slices.Concat(v.Roles, v.Groups), func(name string) bool {
		return slices.Contains(administrators, strings.ToLower(name))
	})
}
