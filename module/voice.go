package module

import (
	"net/http"
	"time"

	"github.com/caddy-login/caddy-login/module/challenge"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/page"
	"github.com/caddy-login/caddy-login/module/pending"
	"github.com/caddy-login/caddy-login/module/signin"
)

// voice is how a visitor is answered: by pages, or, to an app that draws its
// own, in JSON (apivoice.go). What is done, and when, is the same.
type voice interface {
	// trouble tells that something came to nothing.
	trouble(w http.ResponseWriter, r *http.Request, t page.Trouble)
	// leaves sends somebody to a provider.
	leaves(w http.ResponseWriter, r *http.Request, attempt *signin.Attempt, to string) error
	// isIn is for who is signed in now, or has connected an account.
	isIn(w http.ResponseWriter, r *http.Request, v *visit, out outcome, to string) error

	// waits is for who must say something first.
	waits(w http.ResponseWriter, r *http.Request, v *visit, waits *waiting) error
	// question asks it; about is whom the decision is about, nil: nobody.
	question(w http.ResponseWriter, r *http.Request, v *visit, waits *waiting, d identity.Decision, about *identity.User) error
	// declined is for who said no.
	declined(w http.ResponseWriter, r *http.Request, v *visit, waits *waiting) error

	// mailed is for who is to type a code that is about to be mailed. It says
	// the same whether it really is, and sends all of its answer.
	mailed(w http.ResponseWriter, r *http.Request, v *visit, claim challenge.Claim, waiting *challenge.Waiting, to string) error
	// tooSoon is for who asked for a mail again before it could have come.
	tooSoon(w http.ResponseWriter, r *http.Request, v *visit, claim challenge.Claim, to string) error
	// enter has a code typed.
	enter(w http.ResponseWriter, r *http.Request, v *visit, claim challenge.Claim, waiting *challenge.Waiting, e page.EnterCode) error

	// stale is for who must sign in again, and then go on.
	stale(w http.ResponseWriter, r *http.Request, v *visit, to string) error
	// changed and unchanged tell what became of a change to the account.
	changed(w http.ResponseWriter, r *http.Request, v *visit, a alteration) error
	unchanged(w http.ResponseWriter, r *http.Request, v *visit, problem page.AccountProblem, value string) error
	// deleting is for whose account will be deleted.
	deleting(w http.ResponseWriter, r *http.Request, v *visit, at time.Time) error
}

func (p *portal) voice(v *visit) voice {
	if v.api != nil {
		return v.api
	}
	return inPages{p}
}

// inPages is the voice of the pages: a question, a code's field and the account
// each have an address of their own, and what was posted leads there.
type inPages struct{ *portal }

func (p inPages) trouble(w http.ResponseWriter, r *http.Request, t page.Trouble) {
	p.pages.Trouble(w, r, t)
}

// leaves goes by a page after a form: Chromium would hold a redirect against
// form-action 'self'.
func (p inPages) leaves(w http.ResponseWriter, r *http.Request, _ *signin.Attempt, to string) error {
	if r.Method == http.MethodPost {
		p.pages.Bounce(w, r, to)
		return nil
	}
	return p.redirect(w, to)
}

func (p inPages) isIn(w http.ResponseWriter, r *http.Request, v *visit, out outcome, to string) error {
	if !out.connects(v) {
		v.set(w, v.landed(), "1", landedFor)
		if r.Method != http.MethodPost {
			return p.redirect(w, to)
		}
	}
	return p.seeOther(w, to)
}

// waits leads to the question's page, also where an app of the site's began it by
// the API, and may ask in its own words meanwhile. Back to where it wanted to go,
// whoever is not signed in yet would be sent to sign in, and so round in circles.
func (p inPages) waits(w http.ResponseWriter, _ *http.Request, _ *visit, _ *waiting) error {
	return p.seeOther(w, p.base+"/confirm")
}

func (p inPages) question(w http.ResponseWriter, r *http.Request, v *visit, waits *waiting, d identity.Decision, about *identity.User) error {
	ask, label, there := waits.asks(d, v.user()), p.labelOf(waits.Provider), waits.there()
	current := account(v.live())
	switch d.Needs {
	case identity.ConfirmLink, identity.Nothing:
		q := page.ConfirmLink{Ask: ask, Provider: label, Account: there, Into: page.Account{Email: string(waits.address())}}
		if d.User == v.user() {
			q.Into, q.SignedIn = current, true
			if d.Identifier {
				q.Adds = string(waits.address())
			}
		}
		p.pages.ConfirmLink(w, r, q)
	case identity.LinkOrSwitch:
		p.pages.LinkOrSwitch(w, r, page.LinkOrSwitch{Ask: ask, Provider: label, Account: there, Current: current})
	case identity.SwitchOrStay:
		p.pages.ConfirmSwitch(w, r, page.ConfirmSwitch{Ask: ask, Provider: label, From: current, To: accountOf(about, there)})
	case identity.ProofOfOwner:
		p.pages.ProveOwner(w, r, page.ProveOwner{
			Ask: ask, Provider: label, Account: there, Address: string(waits.address()), Mail: p.gate.settings.post != nil, Ways: p.ways(nil),
		})
	case identity.ProofOfMail:
		p.pages.ProveAddress(w, r, page.ProveAddress{Ask: ask, Provider: label, Address: string(waits.address())})
	case identity.FreshSignIn:
		return p.redirect(w, p.againURL(p.base+"/confirm"))
	case identity.KeepAccount:
		q := page.KeepAccount{Ask: ask, Account: accountOf(about, "")}
		if about != nil {
			q.Deletes = about.Deletes
		}
		p.pages.KeepAccount(w, r, q)
	}
	return nil
}

// accountOf is a user as a page names them, or, where there is none, a name.
func accountOf(user *identity.User, name string) page.Account {
	if user == nil {
		return page.Account{Name: name}
	}
	return page.Account{Name: user.Name, Email: string(user.Email)}
}

func (p inPages) declined(w http.ResponseWriter, r *http.Request, v *visit, waits *waiting) error {
	if waits.Kind == pending.Address {
		return p.seeOther(w, p.accountURL(""))
	}
	p.pages.Declined(w, r, page.Declined{Again: p.signInURL(p.wanted(waits.Return)), Home: waits.Return, SignedIn: v.live() != nil})
	return nil
}

func (p inPages) mailed(w http.ResponseWriter, _ *http.Request, _ *visit, _ challenge.Claim, _ *challenge.Waiting, to string) error {
	w.Header()["Content-Length"] = []string{"0"}
	return p.seeOther(w, to)
}

func (p inPages) tooSoon(w http.ResponseWriter, _ *http.Request, _ *visit, _ challenge.Claim, to string) error {
	return p.seeOther(w, to)
}

func (p inPages) enter(w http.ResponseWriter, r *http.Request, _ *visit, _ challenge.Claim, _ *challenge.Waiting, e page.EnterCode) error {
	p.pages.EnterCode(w, r, e)
	return nil
}

func (p inPages) stale(w http.ResponseWriter, _ *http.Request, _ *visit, to string) error {
	return p.seeOther(w, p.againURL(to))
}

func (p inPages) changed(w http.ResponseWriter, _ *http.Request, v *visit, a alteration) error {
	if a.leaves {
		return p.seeOther(w, p.signedOutURL(v, "/"))
	}
	return p.seeOther(w, p.accountURL(a.done))
}

func (p inPages) unchanged(w http.ResponseWriter, r *http.Request, v *visit, problem page.AccountProblem, value string) error {
	return p.showAccount(w, r, v, page.AccountPage{Problem: problem, Value: value})
}

func (p inPages) deleting(w http.ResponseWriter, r *http.Request, _ *visit, at time.Time) error {
	p.pages.Deleting(w, r, page.Deleting{Deletes: at, Home: p.signInURL("/")})
	return nil
}
