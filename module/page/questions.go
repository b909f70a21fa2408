package page

import (
	"cmp"
	"net/http"
	"time"
)

// Way is a way to prove who one is. Name is the provider's, Label and Brand are
// those of a Button.
type Way struct{ Name, Label, Brand string }

// ConfirmLink asks whether to connect an account at a provider to an account
// here.
//
// Like every question of this file, it posts to Base+"/confirm" the field "do"
// and hands Ask back as "ask": which pending question of this browser it is.
// Every field may be empty, and none is trusted: an account at a provider is
// named by whoever made it.
type ConfirmLink struct {
	Ask string
	// Provider is its name as a person knows it, Account that of the account there.
	Provider, Account string
	// Into is the account here.
	Into Account
	// SignedIn says that they are signed in as Into and asked for this on their
	// account page. Else it is the address that brought the two together.
	SignedIn bool
	// Adds is an address that comes along, or empty.
	Adds string
}

// ConfirmLink asks with do=link and do=cancel, with status 200.
func (p *Pages) ConfirmLink(w http.ResponseWriter, r *http.Request, q ConfirmLink) {
	v := p.question(r, "confirm_link", q.Ask, q.Provider)
	v.Question.Sides = []side{v.there(q.Account), v.side("question.here", q.Into)}
	v.Question.SignedIn = q.SignedIn
	v.names(q.Adds)
	v.write(w, r, http.StatusOK)
}

// LinkOrSwitch asks somebody who is signed in as Current what to do with an
// account at a provider that belongs to nobody here.
type LinkOrSwitch struct {
	Ask               string
	Provider, Account string
	Current           Account
}

// LinkOrSwitch asks with do=link, do=switch and do=cancel, with status 200.
// None of them stands out: the account may be a stranger's, who led them here.
func (p *Pages) LinkOrSwitch(w http.ResponseWriter, r *http.Request, q LinkOrSwitch) {
	v := p.question(r, "link_or_switch", q.Ask, q.Provider)
	v.Question.Sides = []side{v.side("question.signed_in", q.Current), v.there(q.Account)}
	v.write(w, r, http.StatusOK)
}

// ConfirmSwitch asks somebody who is signed in as From whether to go on as To,
// whose account at Provider just signed in.
type ConfirmSwitch struct {
	Ask, Provider string
	From, To      Account
}

// ConfirmSwitch asks with do=switch and do=cancel, with status 200.
func (p *Pages) ConfirmSwitch(w http.ResponseWriter, r *http.Request, q ConfirmSwitch) {
	v := p.question(r, "confirm_switch", q.Ask, q.Provider)
	v.Question.Sides = []side{v.side("question.signed_in", q.From), v.side("confirm_switch.to", q.To)}
	v.write(w, r, http.StatusOK)
}

// ProveOwner asks for a proof that the account here that has Address is theirs.
// Ways must be the same whichever of them that account has: they would tell a
// stranger how to get at it. It takes a way, or Mail, to go on.
type ProveOwner struct {
	Ask               string
	Provider, Account string
	Address           string
	// Mail says that a code can be sent to Address.
	Mail bool
	Ways []Way
}

// ProveOwner asks with do=code, do=prove and "provider", and do=cancel, with
// status 200.
func (p *Pages) ProveOwner(w http.ResponseWriter, r *http.Request, q ProveOwner) {
	v := p.question(r, "prove_owner", q.Ask, q.Provider)
	v.Question.Sides = []side{v.there(q.Account), v.side("prove_owner.address", Account{Email: q.Address})}
	v.offer("prove", q.Mail, q.Ways)
	v.Question.Known = v.say("prove_owner.known")
	v.names(q.Address)
	v.write(w, r, http.StatusOK)
}

// ProveAddress asks whether to send a code to an address that the provider did
// not check. It says the same whether or not somebody here has that address.
type ProveAddress struct{ Ask, Provider, Address string }

// ProveAddress asks with do=code and do=cancel, with status 200.
func (p *Pages) ProveAddress(w http.ResponseWriter, r *http.Request, q ProveAddress) {
	v := p.question(r, "prove_address", q.Ask, q.Provider)
	v.Question.Sides = []side{v.side("prove_address.address", Account{Email: q.Address})}
	v.write(w, r, http.StatusOK)
}

// KeepAccount asks somebody whose account is to be deleted at Deletes. The time
// is told in the zone it is in.
type KeepAccount struct {
	Ask     string
	Account Account
	Deletes time.Time
}

// KeepAccount asks with do=keep and do=cancel, with status 200.
func (p *Pages) KeepAccount(w http.ResponseWriter, r *http.Request, q KeepAccount) {
	v := p.question(r, "keep_account", q.Ask, "")
	v.Question.Sides = []side{v.side("question.here", q.Account)}
	v.Question.Until = v.Moment(q.Deletes)
	v.values = []string{"{time}", v.Question.Until}
	v.write(w, r, http.StatusOK)
}

// LetAppIn asks whether an app on the visitor's device may sign in as them. Any
// program there can have asked for it, and so can whoever sent a link.
type LetAppIn struct {
	// Ask is handed back as "ask".
	Ask     string
	Account Account
}

// LetAppIn asks with do=continue, do=another and do=cancel, which it posts to
// Base+"/native", with status 200.
func (p *Pages) LetAppIn(w http.ResponseWriter, r *http.Request, q LetAppIn) {
	v := p.question(r, "let_app_in", q.Ask, "")
	v.Question.Action = v.Base + "/native"
	v.Question.Sides = []side{v.side("question.signed_in", q.Account)}
	v.write(w, r, http.StatusOK)
}

// SignInAgain asks for a sign-in of the last minutes before what comes next. It
// takes a way, or Mail, to go on.
type SignInAgain struct {
	Account Account
	// Mail says that a code can be sent to Address.
	Mail    bool
	Address string
	Ways    []Way
	// Return is handed back as the forms' field "return"; whoever answers them
	// checks it. Back is where those go who would rather not; empty: "/".
	Return, Back string
}

// SignInAgain asks with do=code, or do=again and "provider", which it posts to
// Base+"/account/again", with status 200.
func (p *Pages) SignInAgain(w http.ResponseWriter, r *http.Request, q SignInAgain) {
	v := p.question(r, "fresh", "", "")
	v.Question.Action = v.Base + "/account/again"
	v.Question.Field, v.Question.Value = "return", q.Return
	v.Question.Sides = []side{v.side("question.signed_in", q.Account)}
	v.Go = checked(q.Back, "/")
	v.offer("again", q.Mail, q.Ways)
	v.names(q.Address)
	v.write(w, r, http.StatusOK)
}

// Declined is for somebody who said no.
type Declined struct {
	// Again is where they came from: their account page or the sign-in page.
	// Home is where to go on. Who is not signed in always gets a way to sign in,
	// by default Base+"/"; who is, a way to go on, by default "/".
	Again, Home string
	// SignedIn says that they still are.
	SignedIn bool
}

// Declined says that nothing was changed, and offers the ways on, with status
// 200.
func (p *Pages) Declined(w http.ResponseWriter, r *http.Request, d Declined) {
	v := p.view(r, "declined")
	v.Mark = "check"
	v.Question = &question{SignedIn: d.SignedIn}
	again, home := checked(d.Again, ""), checked(d.Home, "")
	if d.SignedIn {
		v.Links = append(v.Links, Link{v.say("continue"), cmp.Or(home, "/")})
		v.Links = v.linked("go_back", again)
	} else {
		v.Links = append(v.Links, Link{v.say("to_sign_in"), cmp.Or(again, v.Home)})
		v.Links = v.linked("continue", home)
	}
	v.write(w, r, http.StatusOK)
}

// linked is Links with one more, where there is an address.
func (v *view) linked(words, href string) []Link {
	if href == "" {
		return v.Links
	}
	return append(v.Links, Link{v.say(words), href})
}

// question is what the templates of this file see.
type question struct {
	// Action is where its forms post to, with Value in the field Field, and Do
	// beside a way.
	Action, Field, Value, Do string

	Sides    []side
	Mail     bool
	Ways     []provingWay
	Known    string // which of Ways will do
	Address  string
	Until    string
	SignedIn bool
}

// side is one of the accounts that a question is about.
type side struct {
	Caption string
	person  // zero where nothing is known about it
}

// provingWay is a Way as drawn.
type provingWay struct {
	Name string
	way
}

// question begins a page that asks.
func (p *Pages) question(r *http.Request, name, ask, provider string) *view {
	v := p.view(r, name)
	v.Provider = cmp.Or(shorten(provider), v.Provider)
	v.Question = &question{Action: v.Base + "/confirm", Field: "ask", Value: ask}
	return v
}

// side is an account here, below the caption of that name. A name that nobody
// can see is none.
func (v *view) side(caption string, a Account) side {
	if printable(a.Name) == "" {
		a.Name = ""
	}
	known := personOf(a)
	if known == nil {
		known = &person{}
	}
	return side{v.say(caption), *known}
}

// there is an account at the provider.
func (v *view) there(account string) side {
	return v.side("question.there", Account{Name: account})
}

// names has the sentences name an address.
func (v *view) names(address string) {
	v.Question.Address = shorten(address)
	v.values = []string{"{address}", v.isolate(v.Question.Address)}
}

// offer lists the ways to prove who one is, which do names.
func (v *view) offer(do string, mail bool, ways []Way) {
	v.Question.Do, v.Question.Mail = do, mail
	for _, w := range ways {
		v.Question.Ways = append(v.Question.Ways, provingWay{w.Name, v.way(Button{Label: w.Label, Brand: w.Brand})})
	}
}
