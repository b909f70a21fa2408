package module

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddy-login/caddy-login/module/activity"
	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/page"
	"github.com/caddy-login/caddy-login/module/session"
)

// A person's own pages: what is kept of them, and what they may change of it
// (changes.go). They are there for everybody who is signed in, also for whom the
// site's rules do not admit.

// roomOfAccount is one of these pages.
func (p *portal) roomOfAccount(path string) (found *room, quiet bool) {
	switch path {
	case "/account":
		return &room{serve: p.account}, false
	case "/account/activity":
		return &room{serve: p.own(p.showActivity, http.MethodGet, http.MethodHead)}, false
	case "/account/activity.csv":
		return &room{serve: p.own(p.activityCSV, http.MethodGet)}, false
	case "/account/download":
		return &room{serve: p.own(p.download, http.MethodGet)}, false
	case "/account/delete":
		return &room{serve: p.own(p.deletion, http.MethodGet, http.MethodHead, http.MethodPost)}, false
	case "/account/again":
		return &room{serve: p.own(p.again, http.MethodGet, http.MethodHead, http.MethodPost)}, false
	case "/account/revert":
		return &room{serve: p.revert}, true
	default:
		return nil, true
	}
}

// own is a page for who is signed in. Others are sent to sign in first.
func (p *portal) own(serve func(http.ResponseWriter, *http.Request, *visit) error, methods ...string) func(http.ResponseWriter, *http.Request, *visit) error {
	return func(w http.ResponseWriter, r *http.Request, v *visit) error {
		switch {
		case !allows(w, r, methods...):
			return p.trouble(w, r, v, trouble{kind: page.MethodNotAllowed})
		case v.live() != nil:
			return serve(w, r, v)
		case r.Method == http.MethodPost && !p.isSameOrigin(r, v):
			return p.trouble(w, r, v, trouble{kind: page.CrossSite})
		default:
			return p.seeOther(w, p.signInURL(p.base+"/account"))
		}
	}
}

func (p *portal) account(w http.ResponseWriter, r *http.Request, v *visit) error {
	return p.own(func(w http.ResponseWriter, r *http.Request, v *visit) error {
		if r.Method == http.MethodPost {
			return p.change(w, r, v)
		}
		return p.showAccount(w, r, v, page.AccountPage{Done: page.AccountDone(original(r).Query().Get("done"))})
	}, http.MethodGet, http.MethodHead, http.MethodPost)(w, r, v)
}

// accountURL is the account page, that tells what was just done.
func (p *portal) accountURL(done page.AccountDone) string {
	if done == "" {
		return p.base + "/account"
	}
	return p.base + "/account?done=" + url.QueryEscape(string(done))
}

// holdings are all that the account page tells of somebody.
type holdings struct {
	user      identity.User
	addresses []identity.Address
	accounts  []identity.Identity
	recent    []activity.Entry
	sessions  []session.Session
}

func (p *portal) holdingsOf(r *http.Request, v *visit) (h holdings, err error) {
	err = v.house.store.View(r.Context(), func(tx guest.Tx) error {
		user, err := identity.ReadUser(tx, v.live().User)
		if err != nil {
			return err
		}
		h.user = *user
		if h.addresses, err = identity.Addresses(tx, user.ID); err != nil {
			return err
		}
		if h.accounts, err = identity.Accounts(tx, user.ID); err != nil {
			return err
		}
		h.recent, _, err = activity.List(tx, user.ID, "", 10, p.gate.now())
		return err
	})
	if err == nil {
		h.sessions, err = v.house.sessions.OfUser(r.Context(), v.live().User)
	}
	return h, err
}

// showAccount draws the page; a says what was done, or why not.
func (p *portal) showAccount(w http.ResponseWriter, r *http.Request, v *visit, a page.AccountPage) error {
	h, err := p.holdingsOf(r, v)
	if err != nil {
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	a.Person, a.Since, a.MayRename = page.Account{Name: h.user.Name, Email: string(h.user.Email)}, h.user.Created, true
	a.MayAdd, a.Fresh = p.gate.settings.post != nil, p.isFresh(v)
	a.Data, a.Apps = p.base+"/account/download", p.gate.app.openTo(r, v.live())
	a.Connect = p.ways(nil)
	p.listWaysIn(&a, v, h)
	for _, s := range h.sessions {
		a.Sessions = append(a.Sessions, page.AccountSession{
			Handle: s.Handle, Device: s.Device, Place: s.Place, Method: p.methodLabel(s.Provider), Began: s.Created, Seen: s.Seen,
			Current: s.Key == v.live().Key, Site: strings.TrimPrefix(s.Scope, "."),
		})
	}
	for _, e := range h.recent {
		a.Recent = append(a.Recent, p.event(e))
	}
	p.pages.Account(w, r, a)
	return nil
}

// listWaysIn lists addresses and connected accounts, and says which of them is
// the last way in. An account that stands for an address is told as that.
func (p *portal) listWaysIn(a *page.AccountPage, v *visit, h holdings) {
	around := p.gate.app.surroundings(p.gate.now())
	for _, address := range h.addresses {
		a.Addresses = append(a.Addresses, page.AccountAddress{
			Address: string(address.Email), Primary: address.Email == h.user.Email, Provisioned: !address.IsProven(),
			Last: around.IsLastAddress(h.accounts, h.addresses, address.Email), Proven: address.Proven, By: p.provenBy(address.By),
		})
	}
	for _, account := range h.accounts {
		if account.IsMailed() {
			continue
		}
		key := account.Key()
		a.Accounts = append(a.Accounts, page.ConnectedAccount{
			Key: base64.RawURLEncoding.EncodeToString([]byte(key)), Provider: p.labelOf(account.Provider), Brand: p.brandOf(account.Provider),
			Account: account.Email, Linked: account.Linked, How: howLinked(account.How),
			Last: around.IsLastAccount(h.accounts, h.addresses, key), Current: string(v.live().Identity) == string(key),
		})
	}
}

// howLinked is a row of the decision table in words.
func howLinked(row string) page.HowLinked {
	switch row {
	case "C1", "D1", "D2", "D5", "E1", "E2", "E5", "F2":
		return page.LinkedAtSignup
	case "B1", "B2", "B4", "E6":
		return page.LinkedConfirmed
	case "E7":
		return page.LinkedByProof
	case "D3", "D8", "D10", "F4":
		return page.LinkedByCode
	case "E8":
		return page.LinkedByOperators
	default:
		return ""
	}
}

// provenBy is the label of whose word proved an address; empty: a mail did.
func (p *portal) provenBy(by string) string {
	if by == identity.ByMail || by == identity.Operator || p.isCodes(by) {
		return ""
	}
	return p.labelOf(by)
}

func (p *portal) isCodes(name string) bool {
	return p.gate.codes != nil && p.gate.codes.Traits().Name == name
}

// methodLabel is the label of a way in; empty: a code that was mailed.
func (p *portal) methodLabel(name string) string {
	if p.isCodes(name) {
		return ""
	}
	return p.labelOf(name)
}

func (p *portal) brandOf(name string) string {
	if method := cmp.Or(named(p.gate.providers, name), p.gate.app.provider(name, "")); method != nil {
		return method.Traits().Brand
	}
	return ""
}

func (p *portal) event(e activity.Entry) page.AccountEvent {
	drawn := page.AccountEvent{
		At: e.At, What: string(e.What), Provider: p.labelOf(e.Provider), Detail: e.Detail, Device: e.Device, Place: e.Place, Failed: e.Failed,
	}
	if e.Provider == "" || e.Provider == identity.Operator {
		drawn.Provider = e.Provider // page.ByOperator is the same word
	}
	return drawn
}

const perPage = 50

func (p *portal) showActivity(w http.ResponseWriter, r *http.Request, v *visit) error {
	after := activity.Cursor(original(r).Query().Get("after"))
	var entries []activity.Entry
	err := v.house.store.View(r.Context(), func(tx guest.Tx) (err error) {
		entries, after, err = activity.List(tx, v.live().User, after, perPage, p.gate.now())
		return err
	})
	if errors.Is(err, activity.ErrCursor) {
		return p.trouble(w, r, v, trouble{kind: page.BadRequest})
	}
	if err != nil {
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	drawn := page.ActivityPage{CSV: p.base + "/account/activity.csv", Back: p.accountURL("")}
	if after != "" {
		drawn.Older = p.base + "/account/activity?after=" + url.QueryEscape(string(after))
	}
	for _, e := range entries {
		drawn.Events = append(drawn.Events, p.event(e))
	}
	p.pages.Activity(w, r, drawn)
	return nil
}

// most is how much of the activity one download has.
const most = 20_000

// allActivity hands over the person's activity, page by page.
func (p *portal) allActivity(r *http.Request, v *visit, take func([]activity.Entry) error) error {
	after := activity.Cursor("")
	for n := 0; n < most; {
		var entries []activity.Entry
		err := v.house.store.View(r.Context(), func(tx guest.Tx) (err error) {
			entries, after, err = activity.List(tx, v.live().User, after, 1000, p.gate.now())
			return err
		})
		if err == nil {
			err = take(entries)
		}
		if n += len(entries); err != nil || after == "" {
			return err
		}
	}
	return nil
}

func (p *portal) activityCSV(w http.ResponseWriter, r *http.Request, v *visit) error {
	p.attach(w, "text/csv; charset=utf-8", "activity.csv")
	first := true
	err := p.allActivity(r, v, func(entries []activity.Entry) error {
		header := first
		first = false
		return activity.CSV(w, entries, header)
	})
	if err != nil {
		p.gate.app.complain(err, requestID(r)) // what is written can't be taken back
	}
	return nil
}

// attach says that what follows is a file to be kept.
func (p *portal) attach(w http.ResponseWriter, mime, name string) {
	h := w.Header()
	h["Content-Type"] = []string{mime}
	h["Content-Disposition"] = []string{`attachment; filename="` + name + `"`}
	h["Cache-Control"] = noStore
	h["X-Content-Type-Options"] = []string{"nosniff"}
	h["Cross-Origin-Resource-Policy"] = []string{"same-origin"}
}

// download is all that is kept of a person, for them (GDPR article 20). It holds
// nothing that would open anything.
func (p *portal) download(w http.ResponseWriter, r *http.Request, v *visit) error {
	if !p.isFresh(v) {
		return p.voice(v).stale(w, r, v, p.accountURL(""))
	}
	if !v.house.mayNote(v.live().User, activity.Downloaded, p.gate.now()) {
		return p.trouble(w, r, v, trouble{kind: page.TooMany})
	}
	h, err := p.holdingsOf(r, v)
	if err != nil {
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	data := h.export()
	err = p.allActivity(r, v, func(entries []activity.Entry) error {
		data.Activity = append(data.Activity, entries...)
		return nil
	})
	if err == nil {
		err = p.noteNow(r, v.house, h.user.ID, activity.Entry{What: activity.Downloaded, Session: v.live().Handle})
	}
	if err != nil {
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	p.attach(w, "application/json", "my-data.json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(data) // whoever asked may have left
	return nil
}

// export is all of it but the activity. Lists of nothing are empty, not null.
func (h *holdings) export() exported {
	data := exported{
		ID: h.user.ID, Name: h.user.Name, Picture: h.user.Picture, Groups: h.user.Groups, Created: h.user.Created,
		Addresses: []exportedAddress{}, Accounts: []exportedAccount{}, Sessions: []exportedSession{}, Activity: []activity.Entry{},
	}
	for _, a := range h.addresses {
		data.Addresses = append(data.Addresses, exportedAddress{string(a.Email), a.Email == h.user.Email, a.Proven, a.By})
	}
	for _, a := range h.accounts {
		data.Accounts = append(data.Accounts, exportedAccount{a.Provider, a.Issuer, a.Subject, a.Email, a.Groups, a.Linked})
	}
	for _, s := range h.sessions {
		data.Sessions = append(data.Sessions, exportedSession{s.Handle, s.Scope, s.Provider, s.Device, s.Place, s.Created, s.Seen, s.Expires})
	}
	return data
}

// exported is what a download has.
type exported struct {
	ID        identity.UserID   `json:"id"`                // what apps know the person by
	Name      string            `json:"name,omitempty"`    // for display
	Picture   string            `json:"picture,omitempty"` // an address
	Groups    []string          `json:"groups,omitempty"`  // given by the operator
	Created   time.Time         `json:"created"`           // the first sign-in
	Addresses []exportedAddress `json:"addresses"`         // proven ones and invitations
	Accounts  []exportedAccount `json:"accounts"`          // at providers
	Sessions  []exportedSession `json:"sessions"`          // that live
	Activity  []activity.Entry  `json:"activity"`          // of 90 days
}

type exportedAddress struct {
	Address string    `json:"address"`         // canonical
	Primary bool      `json:"primary"`         // the one that apps are told
	Proven  time.Time `json:"proven,omitzero"` // zero: only invited
	By      string    `json:"by"`              // whose word proved it
}

type exportedAccount struct {
	Provider string    `json:"provider"`         // the operator's name of it
	Issuer   string    `json:"issuer"`           // as it names itself
	Subject  string    `json:"subject"`          // the account
	Email    string    `json:"email,omitempty"`  // what the provider says
	Groups   []string  `json:"groups,omitempty"` // what the provider says
	Linked   time.Time `json:"linked"`           // when it was connected
}

type exportedSession struct {
	Handle   string    `json:"handle"`           // of no use to get in
	Site     string    `json:"site"`             // a host, or a domain after a dot
	Provider string    `json:"provider"`         // how it began
	Device   string    `json:"device,omitempty"` // the browser's own description
	Place    string    `json:"place,omitempty"`  // a network
	Created  time.Time `json:"created"`          // when it began
	Seen     time.Time `json:"seen"`             // when it was used last
	Expires  time.Time `json:"expires"`          // when it ends at the latest
}

// againURL asks to sign in again, and goes on to a page of ours.
func (p *portal) againURL(to string) string {
	return p.base + "/account/again?return=" + url.QueryEscape(to)
}

// ownPage is where somebody goes who has signed in again: what waits for an
// answer, the page to delete the account, or the account page.
func (p *portal) ownPage(raw string) string {
	if raw == p.base+"/confirm" || raw == p.base+"/account/delete" {
		return raw
	}
	return p.accountURL("")
}

// again asks for a sign-in of the last minutes: changes to the account need one.
func (p *portal) again(w http.ResponseWriter, r *http.Request, v *visit) error {
	if r.Method == http.MethodPost {
		form, ok := p.form(w, r, v)
		if !ok {
			return nil
		}
		return p.signInAgain(w, r, v, form)
	}
	h, err := p.holdingsOf(r, v)
	if err != nil {
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	p.pages.SignInAgain(w, r, page.SignInAgain{
		Account: account(v.live()), Mail: p.gate.codes != nil && h.user.Email != "", Address: string(h.user.Email),
		Ways: p.ways(providersOf(h.accounts)), Return: p.ownPage(original(r).Query().Get("return")), Back: p.accountURL(""),
	})
	return nil
}

// providersOf are the names of the providers at which somebody has accounts.
func providersOf(accounts []identity.Identity) []string {
	names := []string{}
	for _, account := range accounts {
		if !slices.Contains(names, account.Provider) {
			names = append(names, account.Provider)
		}
	}
	return names
}
