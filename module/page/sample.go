package page

import (
	"net/http"
	"slices"
	"time"
)

var (
	sampleAccount = Account{Name: "Ada Lovelace", Email: "ada@example.com"}
	sampleTime    = time.Date(2026, time.January, 2, 15, 4, 0, 0, time.UTC)
	sampleLetter  = CodeLetter{
		To: "ada@example.com", Code: "123456", Link: "https://app.example.com/.login/link#sample", Host: "app.example.com",
		Device: "Firefox on Linux", Place: "192.0.2.0/24", Asked: sampleTime, Expires: sampleTime, Mode: ModeCode,
	}
	sampleNotice = Notice{
		To: "ada@example.com", Host: "app.example.com", Provider: "Google", Address: "ada@example.com",
		Device: "Firefox on Linux", Place: "192.0.2.0/24", At: sampleTime, Until: sampleTime,
		Account: "https://app.example.com/.login/account", Revert: "https://app.example.com/.login/account/revert#sample",
	}
)

// samples draws every page with everything that it can show.
func (p *Pages) samples() []http.HandlerFunc {
	pages := []http.HandlerFunc{
		func(w http.ResponseWriter, r *http.Request) {
			p.SignedIn(w, r, SignedIn{Account: sampleAccount, Continue: "/"})
		},
		func(w http.ResponseWriter, r *http.Request) {
			p.AskSignOut(w, r, AskSignOut{Account: sampleAccount, Return: "/"})
		},
		func(w http.ResponseWriter, r *http.Request) { p.SignedOut(w, r, SignedOut{Provider: "Google"}) },
		func(w http.ResponseWriter, r *http.Request) {
			p.SignedOut(w, r, SignedOut{Provider: "Google", AtProvider: true})
		},
		func(w http.ResponseWriter, r *http.Request) {
			p.NotAdmitted(w, r, NotAdmitted{Account: sampleAccount, RequestID: "1"})
		},
		func(w http.ResponseWriter, r *http.Request) { p.Bounce(w, r, "/") },
		func(w http.ResponseWriter, r *http.Request) { p.Trouble(w, r, Trouble{Kind: Internal, RequestID: "1"}) },
	}
	return slices.Concat(pages, p.sampleChoices(), p.sampleCodes(), p.sampleQuestions(), p.sampleOwn())
}

func (p *Pages) sampleChoices() (pages []http.HandlerFunc) {
	buttons := []Button{{Label: "Google", Brand: "google", Href: "/", LastUsed: true}, {Label: "Example", Href: "/"}}
	choices := []Choose{{}, {Email: &EmailForm{}}}
	for _, note := range []Note{"", JustSignedOut, NotKept, Switch} {
		choices = append(choices, Choose{Buttons: buttons, Email: &EmailForm{Invalid: true}, Note: note})
	}
	for _, c := range choices {
		pages = append(pages, func(w http.ResponseWriter, r *http.Request) { p.Choose(w, r, c) })
	}
	return pages
}

func (p *Pages) sampleCodes() []http.HandlerFunc {
	pages := []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) { p.Approved(w, r, Approved{}) }}
	for _, f := range codesFor {
		pages = append(pages, p.sampleCode(f)...)
	}
	return pages
}

var codesFor = []CodeFor{ForSignIn, ForAddress, ForAgain}

func (p *Pages) sampleCode(f CodeFor) []http.HandlerFunc {
	pages := []http.HandlerFunc{
		func(w http.ResponseWriter, r *http.Request) {
			p.FollowLink(w, r, FollowLink{For: f, Token: "token", Auto: true})
		},
		func(w http.ResponseWriter, r *http.Request) { p.Stopped(w, r, Stopped{f}) },
	}
	for _, e := range []EnterCode{
		{For: f, Address: "ada@example.com", Digits: 6, Minutes: 10, Number: "42", Link: true, ResendIn: time.Minute, Resent: true},
		{For: f, Address: "ada@example.com", Digits: 6, Wrong: true, Left: 1, ResendIn: -1},
	} {
		pages = append(pages, func(w http.ResponseWriter, r *http.Request) { p.EnterCode(w, r, e) })
	}
	for _, mode := range []string{ModeCode, ModeMatch, ModeAllow} {
		o := OtherDevice{
			For: f, Token: "token", Mode: mode, Code: "123456", Numbers: []string{"12", "34", "56"},
			Device: "Firefox on Linux", Place: "192.0.2.0/24", At: sampleTime,
		}
		pages = append(pages, func(w http.ResponseWriter, r *http.Request) { p.OtherDevice(w, r, o) })
	}
	return pages
}

func (p *Pages) sampleQuestions() []http.HandlerFunc {
	ways := []Way{{"google", "Google", "google"}, {"example", "Example", ""}}
	return []http.HandlerFunc{
		func(w http.ResponseWriter, r *http.Request) {
			p.ConfirmLink(w, r, ConfirmLink{Ask: "1", Account: "ada", Into: sampleAccount, Adds: "ada@example.org"})
		},
		func(w http.ResponseWriter, r *http.Request) { p.ConfirmLink(w, r, ConfirmLink{SignedIn: true}) },
		func(w http.ResponseWriter, r *http.Request) {
			p.LinkOrSwitch(w, r, LinkOrSwitch{Ask: "1", Provider: "Google", Account: "ada", Current: sampleAccount})
		},
		func(w http.ResponseWriter, r *http.Request) {
			p.ConfirmSwitch(w, r, ConfirmSwitch{Ask: "1", Provider: "Google", From: sampleAccount, To: sampleAccount})
		},
		func(w http.ResponseWriter, r *http.Request) {
			p.ProveOwner(w, r, ProveOwner{Ask: "1", Account: "ada", Address: "ada@example.com", Mail: true, Ways: ways})
		},
		func(w http.ResponseWriter, r *http.Request) {
			p.ProveAddress(w, r, ProveAddress{Ask: "1", Address: "ada@example.com"})
		},
		func(w http.ResponseWriter, r *http.Request) {
			p.KeepAccount(w, r, KeepAccount{Ask: "1", Account: sampleAccount, Deletes: sampleTime})
		},
		func(w http.ResponseWriter, r *http.Request) {
			p.SignInAgain(w, r, SignInAgain{Account: sampleAccount, Mail: true, Address: "ada@example.com", Ways: ways})
		},
		func(w http.ResponseWriter, r *http.Request) {
			p.LetAppIn(w, r, LetAppIn{Ask: "1", Account: sampleAccount})
		},
		func(w http.ResponseWriter, r *http.Request) { p.Declined(w, r, Declined{Again: "/", Home: "/"}) },
		func(w http.ResponseWriter, r *http.Request) {
			p.Declined(w, r, Declined{Again: "/", Home: "/", SignedIn: true})
		},
	}
}

// sampleLetters writes a letter for each thing that a code is for.
func (p *Pages) sampleLetters() {
	for _, f := range codesFor {
		l := sampleLetter
		l.For = f
		p.CodeLetter(l)
	}
}

// sampleNotices writes a notice of each kind with everything that it can say,
// and one with nothing.
func (p *Pages) sampleNotices() {
	for kind := range noticeKinds {
		n := sampleNotice
		n.Kind = kind
		p.NoticeLetter(n)
	}
	p.NoticeLetter(Notice{})
}

// sampleOwn draws a person's own pages with everything, and with nothing.
func (p *Pages) sampleOwn() []http.HandlerFunc {
	pages := []http.HandlerFunc{
		func(w http.ResponseWriter, r *http.Request) { p.Activity(w, r, ActivityPage{}) },
		func(w http.ResponseWriter, r *http.Request) {
			p.Activity(w, r, ActivityPage{Events: sampleOwn.Recent, Older: "/", CSV: "/"})
		},
		func(w http.ResponseWriter, r *http.Request) {
			p.Delete(w, r, DeletePage{Person: sampleAccount, Days: 7})
		},
		func(w http.ResponseWriter, r *http.Request) { p.Delete(w, r, DeletePage{Days: 1, Missing: true}) },
		func(w http.ResponseWriter, r *http.Request) { p.Deleting(w, r, Deleting{Deletes: sampleTime}) },
		func(w http.ResponseWriter, r *http.Request) { p.Reverted(w, r, Reverted{}) },
	}
	for _, kind := range reverted {
		pages = append(pages, func(w http.ResponseWriter, r *http.Request) {
			p.Revert(w, r, RevertPage{Token: "token", Kind: kind, Address: "ada@example.com"})
		})
	}
	wrong := sampleOwn
	wrong.Problem, wrong.Value, wrong.Done = ProblemBadAddress, "ada", ""
	for _, a := range []AccountPage{{}, {MayRename: true, Problem: ProblemBadName}, sampleOwn, wrong} {
		pages = append(pages, func(w http.ResponseWriter, r *http.Request) { p.Account(w, r, a) })
	}
	return pages
}

// sampleOwn has more sessions than are seen at once, and than are drawn.
var sampleOwn = AccountPage{
	Person: sampleAccount, Since: sampleTime, MayRename: true, MayAdd: true, Done: DoneRenamed, Data: "/",
	Addresses: []AccountAddress{
		{Address: "ada@example.com", Primary: true, Proven: sampleTime, By: "Google", Last: true},
		{Address: "ada@example.org", Proven: sampleTime},
		{Address: "ada@example.net", Provisioned: true},
	},
	Accounts: []ConnectedAccount{
		{Key: "1", Provider: "Google", Brand: "google", Account: "ada@example.com", Linked: sampleTime, How: LinkedAtSignup, Current: true},
		{Key: "2", Provider: "Example", Last: true},
	},
	Connect: []Way{{"google", "Google", "google"}, {"example", "Example", ""}},
	Sessions: append([]AccountSession{
		{Handle: "1", Device: "Firefox on Linux", Place: "192.0.2.0/24", Method: "Google", Began: sampleTime, Seen: sampleTime, Current: true, Site: "app.example.com"},
	}, make([]AccountSession, mostSessions)...),
	Recent: []AccountEvent{
		{At: sampleTime, What: "linked", Provider: "Google", Detail: "ada@example.com", Device: "Firefox on Linux", Place: "192.0.2.0/24", Failed: true},
		{Provider: ByOperator},
	},
	Apps: []AccountApp{{Title: "Reports", Href: "/"}},
}
