package page

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// AccountPage is a person's own page. Its forms post to Base+"/account" the
// field "do" and, where said, one more.
type AccountPage struct {
	// Person is their name and primary address; Since when they are known here.
	Person Account
	Since  time.Time
	// MayRename lets them change their name: do=rename, name.
	MayRename bool
	// Addresses are made primary or removed: do=primary or remove, address.
	Addresses []AccountAddress
	// MayAdd lets them add an address, to which a code is mailed: do=add,
	// address. False where the site sends no mail.
	MayAdd bool
	// Accounts are disconnected: do=unlink, key.
	Accounts []ConnectedAccount
	// Connect are the ways to connect another account: do=connect, provider.
	Connect []Way
	// Sessions are ended, one or all others: do=end, session; do=end_others. The
	// current one comes first, wherever it is here, and no more than a hundred
	// are drawn.
	Sessions []AccountSession
	// Recent are the latest events; the page leads to the others at
	// Base+"/account/activity".
	Recent []AccountEvent
	// Apps are what they may open.
	Apps []AccountApp
	// Data is where they download what is known about them. Empty: nowhere.
	Data string
	// Fresh says that they signed in a moment ago. Where it is false, the page
	// says that changes ask for that first.
	Fresh bool
	// Done is what was just done, Problem why it was not. A word that is none of
	// the list says nothing.
	Done    AccountDone
	Problem AccountProblem
	// Value is what they typed, to be put back into the field of the problem.
	Value string
}

// AccountAddress is an address of a person.
type AccountAddress struct {
	Address string
	// Primary is what apps are told.
	Primary bool
	// Provisioned says that an operator put it there and nobody proved it.
	Provisioned bool
	// Last says that it is the last way in, which cannot be removed.
	Last bool
	// Proven is when it was proven, By the label of the provider whose word did
	// it; empty: a code that was mailed.
	Proven time.Time
	By     string
}

// HowLinked is how an account came to be connected.
type HowLinked string

// How accounts come to be connected. Of any other nothing is said.
const (
	LinkedAtSignup    HowLinked = "signup"    // the person came by it
	LinkedConfirmed   HowLinked = "confirmed" // they said yes to a question
	LinkedByProof     HowLinked = "proof"     // they signed in by another way of theirs
	LinkedByCode      HowLinked = "code"      // they had the code mailed to its address
	LinkedSilently    HowLinked = "silent"    // its address was theirs
	LinkedByOperators HowLinked = "operator"  // an operator did it
)

// ConnectedAccount is an account at a provider by which a person signs in.
type ConnectedAccount struct {
	// Key is handed back as the field "key".
	Key string
	// Provider is the label and Brand selects the icon, both as of a Button.
	Provider, Brand string
	// Account is what it is called there: an address, a name, or empty.
	Account string
	Linked  time.Time
	How     HowLinked
	// Last says that it is the last way in, which cannot be disconnected.
	Last bool
	// Current says that this session came in by it, and ends with it.
	Current bool
}

// AccountSession is where a person is signed in.
type AccountSession struct {
	// Handle is handed back as the field "session".
	Handle string
	// Device and Place are those of OtherDevice.
	Device, Place string
	// Method is the label of the provider; empty: a code that was mailed.
	Method      string
	Began, Seen time.Time
	// Current is the session that asks for the page.
	Current bool
	// Site is the host that it is of; empty: nothing is said of it.
	Site string
}

// AccountEvent is one line of what happened to an account.
type AccountEvent struct {
	At time.Time
	// What is a word of the activity, such as "signed_in". An unknown one is
	// drawn as "something".
	What string
	// Provider is its label, ByOperator, or empty.
	Provider string
	// Detail is a masked address, the name of an account or of a group.
	Detail        string
	Device, Place string
	Failed        bool
}

// ByOperator is the Provider of an event that an operator brought about.
const ByOperator = "operator"

// AccountApp is something that a person may open.
type AccountApp struct{ Title, Href string }

// AccountDone is what was just done to an account.
type AccountDone string

// What can be done.
const (
	DoneRenamed          AccountDone = "renamed"
	DoneAdded            AccountDone = "added"
	DoneRemoved          AccountDone = "removed"
	DonePrimary          AccountDone = "primary"
	DoneConnected        AccountDone = "connected"
	DoneAlreadyConnected AccountDone = "already_connected"
	DoneUnlinked         AccountDone = "unlinked"
	DoneEnded            AccountDone = "ended"
	DoneEndedOthers      AccountDone = "ended_others"
	DoneKept             AccountDone = "kept"
)

// AccountProblem is why something was not done to an account.
type AccountProblem string

// What can be wrong.
const (
	// ProblemBadName: Value is no name.
	ProblemBadName AccountProblem = "bad_name"
	// ProblemBadAddress: Value is no address.
	ProblemBadAddress AccountProblem = "bad_address"
	// ProblemEmailInUse: the address is another person's.
	ProblemEmailInUse AccountProblem = "email_in_use"
	// ProblemTooMany: there are as many as there may be. With a Value it is of
	// addresses.
	ProblemTooMany AccountProblem = "too_many"
	// ProblemLastWayIn: nobody could sign in any more.
	ProblemLastWayIn AccountProblem = "last_way_in"
	// ProblemNotFound: what was to be changed is no more.
	ProblemNotFound AccountProblem = "not_found"
)

// Account draws a person's own page, with status 200, or 422 with a Problem.
func (p *Pages) Account(w http.ResponseWriter, r *http.Request, a AccountPage) {
	v := p.view(r, "account")
	v.Account = personOf(a.Person)
	v.Own = v.own(a)
	status := http.StatusOK
	if a.Problem != "" {
		status = http.StatusUnprocessableEntity
	}
	v.write(w, r, status)
}

// own is what the account page and those that it leads to show, with every
// sentence about one of many things said.
type own struct {
	Since, Done, Problem string
	Name, Address        field
	MayRename, MayAdd    bool
	Fresh                bool
	Addresses, Accounts  []row
	Connect              []provingWay
	Sessions, Folded     []row
	Hidden               int  // sessions that are not drawn
	Alone                bool // there is no session but this
	Recent               []row
	Apps                 []Link
	Data, Older          string
	Days                 int
	Missing              bool
}

// field is what a person may type into, and what is wrong with it.
type field struct{ Value, Wrong string }

// row is one of many things: what it is called, what is known about it, and
// what can be done with it.
type row struct {
	ID                string // of the page
	Title, Name, Mark string
	Bad               bool // Mark tells of something that failed
	Icon              *way
	Lines             [][]string // of facts
	// Field hands Key back to Action, with what is to be done.
	Action, Field, Key string
	Does               []deed
}

// deed is a button. Takes says that it takes something away.
type deed struct {
	Do, Label string
	Takes     bool
}

// tell adds a line of those facts that are known.
func (r *row) tell(facts ...string) {
	facts = slices.DeleteFunc(facts, func(fact string) bool { return fact == "" })
	if len(facts) > 0 {
		r.Lines = append(r.Lines, facts)
	}
}

func (v *view) own(a AccountPage) *own {
	o := &own{
		Since: v.Date(a.Since), MayRename: a.MayRename, MayAdd: a.MayAdd, Fresh: a.Fresh,
		Done: v.Words["account.done."+string(a.Done)], Problem: v.Words["account.problem."+string(a.Problem)],
		Name: field{Value: shorten(a.Person.Name)}, Data: checked(a.Data, ""),
	}
	o.blame(a)
	for i, address := range a.Addresses {
		o.Addresses = append(o.Addresses, v.addressRow(i, address))
	}
	for i, account := range a.Accounts {
		o.Accounts = append(o.Accounts, v.accountRow(i, account))
	}
	for _, w := range a.Connect {
		o.Connect = append(o.Connect, provingWay{w.Name, v.way(Button{Label: w.Label, Brand: w.Brand})})
	}
	v.whereSignedIn(o, a.Sessions)
	o.Recent = v.events(a.Recent)
	o.Apps = apps(a.Apps)
	return o
}

// blame puts the problem, and what was typed, to the field that it is of.
func (o *own) blame(a AccountPage) {
	switch {
	case a.Problem == ProblemBadName:
		o.Name = field{Value: shorten(a.Value), Wrong: o.Problem}
	case a.Problem == ProblemBadAddress, a.Problem == ProblemEmailInUse, a.Problem == ProblemTooMany && a.Value != "":
		o.Address = field{Value: shorten(a.Value), Wrong: o.Problem}
	}
}

// row begins a row of a kind, by which its form has its field.
func (v *view) row(kind string, i int, key string) row {
	return row{ID: kind + "-" + strconv.Itoa(i), Action: v.Base + "/account", Field: kind, Key: key}
}

func (v *view) addressRow(i int, a AccountAddress) row {
	r := v.row("address", i, a.Address)
	r.Title = shorten(a.Address)
	date := v.Date(a.Proven)
	switch {
	case a.Provisioned:
		r.tell(v.say("account.provisioned"))
	case date != "" && a.By != "":
		r.tell(v.with("account.proven_by", "{provider}", v.isolate(shorten(a.By)), "{date}", date))
	case date != "":
		r.tell(v.with("account.proven", "{date}", date))
	}
	switch {
	case a.Primary:
		r.Mark = v.say("account.primary")
	case !a.Provisioned:
		r.Does = append(r.Does, deed{"primary", v.say("account.make_primary"), false})
	}
	if a.Last {
		r.tell(v.say("account.last_address"))
		return r
	}
	r.Does = append(r.Does, deed{"remove", v.say("account.remove"), true})
	return r
}

func (v *view) accountRow(i int, a ConnectedAccount) row {
	r := v.row("key", i, a.Key)
	r.Title, r.Name = cmp.Or(shorten(a.Provider), v.Provider), shorten(a.Account)
	icon := v.way(Button{Label: a.Provider, Brand: a.Brand})
	r.Icon = &icon
	if date := v.Date(a.Linked); date != "" {
		r.tell(v.with("account.linked", "{date}", date))
	}
	r.tell(v.Words["account.how."+string(a.How)])
	if a.Last {
		r.tell(v.say("account.last_account"))
		return r
	}
	if a.Current {
		r.tell(v.say("account.current_account"))
	}
	r.Does = []deed{{"unlink", v.say("account.unlink"), true}}
	return r
}

// Of sessions, so many are seen at once, and so many drawn: a person who has
// a thousand wants to end them, not to read them.
const (
	seenSessions = 5
	mostSessions = 100
)

func (v *view) whereSignedIn(o *own, sessions []AccountSession) {
	sessions = currentFirst(sessions)
	o.Alone = !slices.ContainsFunc(sessions, func(s AccountSession) bool { return !s.Current })
	o.Hidden = max(len(sessions)-mostSessions, 0)
	for i, s := range sessions[:min(len(sessions), mostSessions)] {
		o.Sessions = append(o.Sessions, v.sessionRow(i, s))
	}
	// One more is shown rather than folded away: unfolding takes as much room.
	if len(o.Sessions) > seenSessions+1 {
		o.Sessions, o.Folded = o.Sessions[:seenSessions], o.Sessions[seenSessions:]
	}
}

func currentFirst(sessions []AccountSession) (sorted []AccountSession) {
	for _, s := range sessions {
		if s.Current {
			sorted = append(sorted, s)
		}
	}
	others := slices.DeleteFunc(slices.Clone(sessions), func(s AccountSession) bool { return s.Current })
	return append(sorted, others...)
}

func (v *view) sessionRow(i int, s AccountSession) row {
	r := v.row("session", i, s.Handle)
	r.Title = v.device(s.Device)
	r.tell(printable(s.Site), printable(s.Place))
	began := v.Moment(s.Began)
	switch {
	case began != "" && s.Method != "":
		r.tell(v.with("account.began_with", "{provider}", v.isolate(shorten(s.Method)), "{time}", began))
	case began != "":
		r.tell(v.with("account.began", "{time}", began))
	}
	if s.Current {
		r.Mark = v.say("account.this_browser")
		return r
	}
	if seen := v.Moment(s.Seen); seen != "" {
		r.tell(v.with("account.seen", "{time}", seen))
	}
	r.Does = []deed{{"end", v.say("account.end"), true}}
	return r
}

// apps are those that can be linked.
func apps(all []AccountApp) (links []Link) {
	for _, app := range all {
		if href := checked(app.Href, ""); href != "" {
			links = append(links, Link{Label: cmp.Or(shorten(app.Title), href), Href: href})
		}
	}
	return links
}

func (v *view) events(all []AccountEvent) (rows []row) {
	for _, e := range all {
		r := row{Title: cmp.Or(v.Words["event."+e.What], v.say("event.something"))}
		if e.Failed && e.What != "sign_in_failed" {
			r.Mark, r.Bad = v.say("event.failed"), true
		}
		by, device := shorten(e.Provider), e.Device
		if e.Provider == ByOperator {
			by = v.say("event.by_operator")
		}
		if device != "" {
			device = v.device(device)
		}
		r.tell(by, shorten(e.Detail))
		r.tell(device, printable(e.Place))
		r.tell(v.Moment(e.At))
		rows = append(rows, r)
	}
	return rows
}

// With is Say of a sentence that has a placeholder of its own.
func (v *view) With(name, placeholder, value string) (string, error) {
	return v.language.say(name, append([]string{placeholder, value}, v.places()...))
}

// with is say of a sentence about one of many things.
func (v *view) with(name string, values ...string) string {
	words, _ := v.language.say(name, append(values, v.places()...))
	return words
}

// Date is a day in the page's language, empty for the zero time.
func (v *view) Date(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return v.date(t)
}
