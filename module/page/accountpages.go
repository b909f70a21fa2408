package page

import (
	"net/http"
	"slices"
	"time"
)

// ActivityPage is what happened to an account in the last ninety days.
type ActivityPage struct {
	// Events are those of this page, the newest first.
	Events []AccountEvent
	// Older is where the page after this one is, CSV where all of it can be
	// downloaded; empty: nowhere. Back is the account page; empty:
	// Base+"/account".
	Older, CSV, Back string
}

// Activity lists what happened, with status 200.
func (p *Pages) Activity(w http.ResponseWriter, r *http.Request, a ActivityPage) {
	v := p.view(r, "activity")
	v.Own = &own{Recent: v.events(a.Events), Older: checked(a.Older, ""), Data: checked(a.CSV, "")}
	v.Go = checked(a.Back, v.Base+"/account")
	v.write(w, r, http.StatusOK)
}

// DeletePage asks before an account is deleted.
type DeletePage struct {
	Person Account
	// Days is how long it can be stopped, at least one.
	Days int
	// Missing says that they did not tick the box.
	Missing bool
	// Back is where those go who would rather not; empty: Base+"/account".
	Back string
}

// Delete asks whether to delete the account, with status 200, or 422 where
// the box was not ticked. It posts do=delete and, with the box ticked, sure=1 to
// Base+"/account/delete".
func (p *Pages) Delete(w http.ResponseWriter, r *http.Request, d DeletePage) {
	v := p.view(r, "delete_account")
	v.Account = personOf(d.Person)
	v.Own = &own{Days: d.Days, Missing: d.Missing}
	v.Go = checked(d.Back, v.Base+"/account")
	status := http.StatusOK
	if d.Missing {
		status = http.StatusUnprocessableEntity
	}
	v.write(w, r, status)
}

// Deleting tells somebody who asked for it that their account will be deleted.
type Deleting struct {
	// Deletes is when, told in the zone it is in.
	Deletes time.Time
	// Home is where they sign in to stop it; empty: Base+"/".
	Home string
}

// Deleting says that all are signed out and until when it can be undone, with
// status 200.
func (p *Pages) Deleting(w http.ResponseWriter, r *http.Request, d Deleting) {
	v := p.view(r, "deleting")
	v.Mark = "clock"
	v.values = []string{"{time}", v.Moment(d.Deletes)}
	v.Go = checked(d.Home, v.Home)
	v.write(w, r, http.StatusOK)
}

// RevertPage is where the link of a mail leads that takes a change back. Who
// opens it may have no session.
type RevertPage struct {
	// Token is handed back as the form's field "token".
	Token string
	// Kind is what was changed: address_added, address_removed, primary_changed,
	// or linked; Address is the one that it was about, empty: none.
	Kind, Address string
}

// reverted are the changes that can be taken back.
var reverted = []string{"address_added", "address_removed", "primary_changed", "linked"}

// Revert says what will be taken back and asks, with status 200: a mail scanner
// follows links, too. Its form posts to Base+"/account/revert". A kind that is
// none gives the page of Internal.
func (p *Pages) Revert(w http.ResponseWriter, r *http.Request, c RevertPage) {
	if !slices.Contains(reverted, c.Kind) {
		p.Trouble(w, r, Trouble{Kind: Internal})
		return
	}
	v := p.view(r, "revert")
	if c.Address != "" {
		v.Account = personOf(Account{Email: c.Address})
	}
	v.What, v.Next = v.say("revert.what."+c.Kind), v.say("revert.next."+c.Kind)
	v.Return = c.Token
	v.write(w, r, http.StatusOK)
}

// Reverted confirms that a change was taken back.
type Reverted struct {
	// Home is where they sign in again; empty: Base+"/".
	Home string
}

// Reverted says that the change is undone and everybody signed out, with
// status 200.
func (p *Pages) Reverted(w http.ResponseWriter, r *http.Request, d Reverted) {
	v := p.view(r, "reverted")
	v.Mark = "check"
	v.Go = checked(d.Home, v.Home)
	v.write(w, r, http.StatusOK)
}
