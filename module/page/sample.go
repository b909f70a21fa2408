package page

import (
	"net/http"
	"time"
)

var (
	sampleAccount = Account{Name: "Ada Lovelace", Email: "ada@example.com"}
	sampleTime    = time.Date(2026, time.January, 2, 15, 4, 0, 0, time.UTC)
	sampleLetter  = CodeLetter{
		To: "ada@example.com", Code: "123456", Link: "https://app.example.com/.login/link#sample", Host: "app.example.com",
		Device: "Firefox on Linux", Place: "192.0.2.0/24", Asked: sampleTime, Expires: sampleTime, Mode: ModeCode,
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
	return append(append(pages, p.sampleChoices()...), p.sampleCodes()...)
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
	pages := []http.HandlerFunc{
		func(w http.ResponseWriter, r *http.Request) {
			p.FollowLink(w, r, FollowLink{Token: "token", Auto: true})
		},
		func(w http.ResponseWriter, r *http.Request) { p.Stopped(w, r, Stopped{}) },
		func(w http.ResponseWriter, r *http.Request) { p.Approved(w, r, Approved{}) },
	}
	for _, e := range []EnterCode{
		{Address: "ada@example.com", Digits: 6, Minutes: 10, Number: "42", Link: true, ResendIn: time.Minute, Resent: true},
		{Address: "ada@example.com", Digits: 6, Wrong: true, Left: 1, ResendIn: -1},
	} {
		pages = append(pages, func(w http.ResponseWriter, r *http.Request) { p.EnterCode(w, r, e) })
	}
	for _, mode := range []string{ModeCode, ModeMatch, ModeAllow} {
		o := OtherDevice{
			Token: "token", Mode: mode, Code: "123456", Numbers: []string{"12", "34", "56"},
			Device: "Firefox on Linux", Place: "192.0.2.0/24", At: sampleTime,
		}
		pages = append(pages, func(w http.ResponseWriter, r *http.Request) { p.OtherDevice(w, r, o) })
	}
	return pages
}
