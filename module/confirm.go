package module

import (
	"cmp"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddy-login/caddy-login/module/challenge"
	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/page"
	"github.com/caddy-login/caddy-login/module/pending"
	"github.com/caddy-login/caddy-login/module/record"
	"github.com/caddy-login/caddy-login/module/session"
	"github.com/caddy-login/caddy-login/module/signin"
)

// What waits for a word of its visitor is answered here: whether to connect two
// accounts, to leave one session for another, to keep an account; and the codes
// that prove an address for anything but a plain sign-in. What is decided in the
// end is decided anew, in the transaction that does it.

// waiting is what waits in this browser.
type waiting struct {
	*pending.Pending
	id pending.ID
}

// waitingHere reads what waits, or pending.ErrGone.
func (p *portal) waitingHere(r *http.Request, v *visit) (*waiting, error) {
	id, ok := v.waitsFor()
	if !ok {
		return nil, pending.ErrGone
	}
	house, err := p.gate.app.door.enter()
	if err != nil {
		return nil, err
	}
	v.house = house
	found := &waiting{id: id}
	err = house.store.View(r.Context(), func(tx guest.Tx) (err error) {
		found.Pending, err = pending.Read(tx, house.ring, id, v.scope, p.gate.now())
		if err == nil && found.Site != v.origin.hostPort {
			return pending.ErrGone
		}
		return err
	})
	return found, err
}

// confirm asks, and takes the answer.
func (p *portal) confirm(w http.ResponseWriter, r *http.Request, v *visit) error {
	if !allows(w, r, http.MethodGet, http.MethodHead, http.MethodPost) {
		return p.trouble(w, r, v, trouble{kind: page.MethodNotAllowed})
	}
	var form url.Values
	if r.Method == http.MethodPost {
		posted, ok := p.form(w, r, v)
		if !ok {
			return nil
		}
		form = posted
	}
	waits, err := p.waitingHere(r, v)
	polls := form == nil && strings.HasPrefix(r.Header.Get("Accept"), "application/json")
	switch {
	case err != nil && polls:
		return status(w, "over", "")
	case errors.Is(err, pending.ErrGone):
		return p.outdated(w, r, v, "/")
	case err != nil:
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	case form != nil:
		return p.answerQuestion(w, r, v, waits, form)
	case waits.Challenge != "":
		return p.awaitProof(w, r, v, waits, polls)
	default:
		return p.question(w, r, v, waits)
	}
}

// outdated is for a page whose question is no longer the one that waits.
func (p *portal) outdated(w http.ResponseWriter, r *http.Request, v *visit, back string) error {
	return p.trouble(w, r, v, trouble{kind: page.Outdated, back: back})
}

// preview is what would be decided now, and about whom.
func (p *portal) preview(r *http.Request, v *visit, waits *waiting) (d identity.Decision, about *identity.User, err error) {
	err = v.house.store.View(r.Context(), func(tx guest.Tx) (err error) {
		switch waits.Kind {
		case pending.Arrival:
			provider, gone := p.cameFrom(v, waits.Pending)
			if gone != nil {
				return gone
			}
			d, about, err = identity.Preview(tx, p.arrivalOf(v, provider, waits.Pending, p.gate.now()))
		case pending.Mailed:
			if p.gate.codes == nil {
				return pending.ErrGone
			}
			d, about, err = identity.PreviewProof(tx, p.proofOf(v, waits.Pending, p.gate.now()))
		default:
			return pending.ErrGone
		}
		return err
	})
	return d, about, err
}

// cameFrom is the provider that an arrival came from; pending.ErrGone where a
// reload took it away, or has its name stand for another party, and where the
// account was to be connected to somebody who is not signed in here any more.
func (p *portal) cameFrom(v *visit, waits *pending.Pending) (guest.Provider, error) {
	provider, ok := named(p.gate.providers, waits.Provider).(guest.Provider)
	if !ok {
		return nil, pending.ErrGone
	}
	if owns := provider.Traits().Owns; owns != nil && !owns(waits.Profile.Issuer) {
		return nil, pending.ErrGone
	}
	if waits.Intent == identity.ToLink && waits.User != v.user() {
		return nil, pending.ErrGone
	}
	return provider, nil
}

// question shows what is to be answered.
func (p *portal) question(w http.ResponseWriter, r *http.Request, v *visit, waits *waiting) error {
	d, about, err := p.preview(r, v, waits)
	if errors.Is(err, pending.ErrGone) || err == nil && !waits.isOpen(d) {
		return p.outdated(w, r, v, waits.Return)
	}
	if err != nil {
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	return p.voice(v).question(w, r, v, waits, d, about)
}

// isOpen reports whether there is something left to ask. A link that needs no
// word any more is asked about all the same: its visitor was about to answer.
func (w *waiting) isOpen(d identity.Decision) bool {
	return d.Why == nil && (d.Needs != identity.Nothing && d.Needs != identity.ConfirmLink || d.Do == identity.Link)
}

// isOfAccount reports whether somebody signed in asked for it, about their own
// account.
func (w *waiting) isOfAccount() bool { return w.Kind == pending.Address || w.Kind == pending.Again }

// asks names a question of this browser's: what waits, what would be done about
// it, and to whom. A page that named somebody else then answers nothing, should
// who is signed in, or who holds the address, have changed behind it.
func (w *waiting) asks(d identity.Decision, here identity.UserID) string {
	gist := record.Hash("question", string(w.id[:]), d.Row, string(d.Do), string(d.Needs), string(d.User), string(here))
	return w.id.Mark() + "." + hex.EncodeToString([]byte(gist))[:16]
}

// there is what the account at the provider is called.
func (w *waiting) there() string {
	return cmp.Or(w.Profile.Email, w.Profile.Name, string(w.Email))
}

// address is the address that it is about.
func (w *waiting) address() identity.Email {
	if w.Email != "" {
		return w.Email
	}
	email, err := identity.ParseEmail(w.Profile.Email)
	if err != nil {
		return ""
	}
	return email
}

// ways are the providers of this site: those that are wanted, nil: all.
func (p *portal) ways(wanted []string) (ways []page.Way) {
	for _, method := range p.gate.providers {
		traits := method.Traits()
		if _, ok := method.(guest.Provider); !ok || wanted != nil && !slices.Contains(wanted, traits.Name) {
			continue
		}
		ways = append(ways, page.Way{Name: traits.Name, Label: traits.Label, Brand: traits.Brand})
	}
	return ways
}

// answerQuestion takes what the pages of this file post.
func (p *portal) answerQuestion(w http.ResponseWriter, r *http.Request, v *visit, waits *waiting, form url.Values) error {
	mark, _, _ := strings.Cut(form.Get("ask"), ".")
	if mark != waits.id.Mark() {
		return p.outdated(w, r, v, waits.Return) // a page of another question, in another tab
	}
	switch do := form.Get("do"); {
	case do == "cancel":
		return p.decline(w, r, v, waits)
	case waits.Challenge != "" && form.Get("resend") != "":
		return p.resend(w, r, v, p.claimOf(v, waits), p.base+"/confirm")
	case waits.Challenge != "" && form.Has("code"):
		return p.checkProof(w, r, v, waits, form.Get("code"))
	}
	return p.decideOn(w, r, v, waits, form)
}

// decideOn does what the visitor said to a question that still is the one to
// answer.
func (p *portal) decideOn(w http.ResponseWriter, r *http.Request, v *visit, waits *waiting, form url.Values) error {
	d, _, err := p.preview(r, v, waits)
	if errors.Is(err, pending.ErrGone) {
		return p.outdated(w, r, v, waits.Return)
	}
	if err != nil {
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	switch do := form.Get("do"); {
	case d.Why != nil:
		return p.goOn(w, r, v, waits) // says why, and is over
	case d.Needs == identity.FreshSignIn:
		return p.voice(v).stale(w, r, v, p.base+"/confirm")
	case form.Get("ask") != waits.asks(d, v.user()):
		return p.outdated(w, r, v, waits.Return)
	case do == "code" && (d.Needs == identity.ProofOfMail || d.Needs == identity.ProofOfOwner):
		return p.mailProof(w, r, v, waits, d)
	case do == "prove" && d.Needs == identity.ProofOfOwner:
		return p.proveElsewhere(w, r, v, waits, form.Get("provider"))
	case !waits.hear(do, d, v.user()):
		return p.outdated(w, r, v, waits.Return)
	}
	return p.goOn(w, r, v, waits)
}

// hear takes a word of the visitor's down, and reports whether it answers what
// was asked.
func (w *waiting) hear(do string, d identity.Decision, here identity.UserID) bool {
	switch {
	case do == "link" && d.Do == identity.Link &&
		(d.Needs == identity.ConfirmLink || d.Needs == identity.LinkOrSwitch || d.Needs == identity.Nothing):
		w.Said.Link = d.User
	case do == "switch" && (d.Needs == identity.LinkOrSwitch || d.Needs == identity.SwitchOrStay):
		w.Said.Switch = here
	case do == "keep" && d.Needs == identity.KeepAccount:
		w.Said.Keep = d.User
	default:
		return false
	}
	return true
}

// goOn lets what waits come in, or asks the next question.
func (p *portal) goOn(w http.ResponseWriter, r *http.Request, v *visit, waits *waiting) error {
	var a arrival
	switch waits.Kind {
	case pending.Arrival:
		provider, err := p.cameFrom(v, waits.Pending)
		if err != nil {
			return p.outdated(w, r, v, waits.Return)
		}
		a = p.arriving(r, v, provider, waits.Pending, waits.id)
	case pending.Mailed, pending.Again:
		if p.gate.codes == nil {
			return p.outdated(w, r, v, waits.Return)
		}
		a = p.arrivingByMail(r, v, waits.Pending, waits.id)
	default:
		return p.outdated(w, r, v, waits.Return)
	}
	a.kept = true
	return p.comeIn(w, r, v, a)
}

// decline is for somebody who said no: nothing was changed, and nothing waits.
func (p *portal) decline(w http.ResponseWriter, r *http.Request, v *visit, waits *waiting) error {
	err := v.house.store.Update(r.Context(), func(tx guest.Tx) error { return pending.Spend(tx, waits.id) })
	if err != nil && !errors.Is(err, pending.ErrGone) {
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	v.drop(w, v.waits())
	v.keepTrack(waits.Attempt)
	v.became(w, string(page.ProviderCancelled))
	if waits.Kind != pending.Address {
		p.gate.app.declined(r, waits.Provider)
	}
	return p.voice(v).declined(w, r, v, waits)
}

// keepWaiting writes down how far it has come.
func (p *portal) keepWaiting(r *http.Request, v *visit, waits *waiting) error {
	return v.house.store.Update(r.Context(), func(tx guest.Tx) error {
		return pending.Keep(tx, v.house.ring, waits.id, waits.Pending)
	})
}

// mailProof mails a code to the address that is to be proven.
func (p *portal) mailProof(w http.ResponseWriter, r *http.Request, v *visit, waits *waiting, d identity.Decision) error {
	if p.gate.settings.post == nil {
		return p.outdated(w, r, v, waits.Return)
	}
	if !v.servesPort(r) {
		return p.trouble(w, r, v, strangePort(v))
	}
	email := waits.address()
	// To be signed in as somebody else makes nobody familiar with the address:
	// they could use up its holder's budget.
	isTheirs := v.live() != nil && v.user() == d.User
	ask := challenge.Ask{Purpose: purposeOf(waits.Kind), Email: email, Familiar: isTheirs || p.isFriend(v, email)}
	if waits.Kind == pending.Arrival || waits.Kind == pending.Mailed {
		phantom, err := p.mayNotHave(r, v, email, p.joining(waits.KnownOnly))
		if err != nil {
			return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
		}
		// Nobody holds it, and the decision says that somebody may: no phantom.
		ask.Phantom = phantom && d.User != ""
	}
	return p.beginProof(w, r, v, waits, ask)
}

func purposeOf(kind pending.Kind) challenge.Purpose {
	switch kind {
	case pending.Address:
		return challenge.Change
	case pending.Again:
		return challenge.StepUp
	default:
		return challenge.Verify
	}
}

// beginProof begins the challenge, ties it to what waits, and mails.
func (p *portal) beginProof(w http.ResponseWriter, r *http.Request, v *visit, waits *waiting, ask challenge.Ask) error {
	ask.Scope, ask.Return, ask.Subject = v.scope, "/", waits.id.Mark()
	ask.Network, ask.Asker, ask.Rules = clientIP(r.Context()), p.asker(r), p.rules()
	begun, err := v.house.challenges.Begin(r.Context(), ask)
	if err != nil {
		return p.trouble(w, r, v, p.notMailed(err))
	}
	waits.Challenge = begun.ID.Text()
	if err := p.keepWaiting(r, v, waits); err != nil {
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	v.set(w, v.waits(), waits.id.Text(), pending.Life)
	if v.api != nil {
		v.api.waitsID = waits.id
	}
	return p.answerAndPost(w, r, v, p.claimOf(v, waits), begun, p.base+"/confirm")
}

// claimOf is the challenge that something waits for.
func (p *portal) claimOf(v *visit, waits *waiting) challenge.Claim {
	id, _ := challenge.ParseID(waits.Challenge)
	return challenge.Claim{ID: id, Scope: v.scope, Purpose: purposeOf(waits.Kind)}
}

// awaitProof shows the field for the code, and tells the page that waits how
// things stand.
func (p *portal) awaitProof(w http.ResponseWriter, r *http.Request, v *visit, waits *waiting, polls bool) error {
	claim := p.claimOf(v, waits)
	found, err := v.house.challenges.Poll(r.Context(), claim)
	switch {
	case err != nil && polls:
		return status(w, "over", "")
	case err != nil:
		return p.trouble(w, r, v, p.codeOver(err, waits.Return))
	case polls && found.State == challenge.Pending:
		return status(w, "pending", "")
	case polls && found.State == challenge.Approved:
		return status(w, "done", p.base+"/confirm")
	case polls:
		return status(w, "over", "")
	case found.State == challenge.Approved:
		proof, err := v.house.challenges.Collect(r.Context(), claim)
		if err != nil {
			return p.trouble(w, r, v, p.codeOver(err, waits.Return))
		}
		return p.provenFor(w, r, v, waits, proof)
	case found.State != challenge.Pending:
		return p.trouble(w, r, v, p.codeOver(stateError(found.State), waits.Return))
	}
	enter := p.enteringProof(waits, claim, found)
	enter.Resent = original(r).Query().Get("resent") != ""
	return p.voice(v).enter(w, r, v, claim, found, enter)
}

func (p *portal) enteringProof(waits *waiting, claim challenge.Claim, found *challenge.Waiting) page.EnterCode {
	enter := p.entering(claim, found)
	enter.At, enter.Ask, enter.Again = p.base+"/confirm", waits.id.Mark(), p.signInURL(p.wanted(waits.Return))
	if waits.isOfAccount() {
		enter.Again = p.accountURL("")
	}
	return enter
}

// stateError is why a challenge in a final state leads nowhere.
func stateError(state challenge.State) error {
	switch state {
	case challenge.Spent:
		return challenge.ErrSpent
	case challenge.Cancelled:
		return challenge.ErrCancelled
	case challenge.Exhausted:
		return challenge.ErrTooMany
	default:
		return challenge.ErrExpired
	}
}

// checkProof takes a code that was typed.
func (p *portal) checkProof(w http.ResponseWriter, r *http.Request, v *visit, waits *waiting, code string) error {
	claim := p.claimOf(v, waits)
	proof, err := v.house.challenges.Check(r.Context(), claim, code)
	if err == nil {
		return p.provenFor(w, r, v, waits, proof)
	}
	var wrong *challenge.Wrong
	if !errors.As(err, &wrong) && !errors.Is(err, challenge.ErrMalformed) {
		p.noteExhausted(r, v, waits.address(), err)
		return p.trouble(w, r, v, p.codeOver(err, waits.Return))
	}
	found, polled := v.house.challenges.Poll(r.Context(), claim)
	if polled != nil || found.State != challenge.Pending {
		return p.trouble(w, r, v, p.codeOver(cmp.Or(polled, err), waits.Return))
	}
	enter := p.enteringProof(waits, claim, found)
	enter.Wrong, enter.Left = true, found.AttemptsLeft
	if wrong != nil || p.gate.app.mayTell(r) {
		p.gate.app.wrongCode(waits.Provider, requestID(r))
	}
	return p.voice(v).enter(w, r, v, claim, found, enter)
}

// provenFor goes on with what waited for the proof.
func (p *portal) provenFor(w http.ResponseWriter, r *http.Request, v *visit, waits *waiting, proof challenge.Proof) error {
	if proof.Subject != waits.id.Mark() || proof.Email != waits.address() {
		return p.outdated(w, r, v, waits.Return)
	}
	waits.Challenge = ""
	switch waits.Kind {
	case pending.Address:
		return p.addAddress(w, r, v, waits)
	case pending.Again:
		if v.user() != waits.User {
			return p.outdated(w, r, v, "/") // it signs nobody in who is not
		}
		return p.goOn(w, r, v, waits)
	default:
		waits.Said.Code = proof.Email
		return p.goOn(w, r, v, waits)
	}
}

// proofOf is what decides about a proven address at a time.
func (p *portal) proofOf(v *visit, waits *pending.Pending, at time.Time) identity.Proof {
	return identity.Proof{
		Method: p.gate.codes.Traits().Name, Email: waits.Email, SignUp: p.joining(waits.KnownOnly), Here: v.user(),
		Said: waits.Said, Began: waits.Begun, At: at,
	}
}

// arrivingByMail is an arrival by an address that was proven.
func (p *portal) arrivingByMail(r *http.Request, v *visit, waits *pending.Pending, id pending.ID) arrival {
	method := p.gate.codes
	return arrival{
		method: method, back: waits.Return, pending: waits, id: id,
		admit: func(tx guest.Tx, at time.Time) (identity.Admitted, error) {
			proof := p.proofOf(v, waits, at)
			if waits.Kind == pending.Again {
				// Before anything is written: a refusal is no error of the transaction's.
				d, _, err := identity.PreviewProof(tx, proof)
				if err != nil || d.Why == nil && d.User != waits.User {
					return identity.Admitted{}, cmp.Or(err, identity.ErrOutdated)
				}
			}
			return identity.AdmitProof(tx, proof)
		},
		begin: func(person identity.Person) session.New {
			// RFC 8176: a one-time password.
			return p.newSession(r, v, method, guest.Profile{AuthMethods: []string{"otp"}}, person)
		},
	}
}

// proveElsewhere has somebody sign in by a way that the holder of the address
// has already.
func (p *portal) proveElsewhere(w http.ResponseWriter, r *http.Request, v *visit, waits *waiting, name string) error {
	provider, ok := named(p.gate.providers, name).(guest.Provider)
	if !ok || waits.Kind != pending.Arrival {
		return p.outdated(w, r, v, waits.Return)
	}
	return p.depart(w, r, v, provider, signin.Attempt{
		Provider: name, Return: p.base + "/confirm", For: signin.ToProve, User: waits.id.Mark(), SwitchAccount: name == waits.Provider,
	})
}

// provedElsewhere takes the answer to that.
func (p *portal) provedElsewhere(w http.ResponseWriter, r *http.Request, v *visit, provider guest.Provider, attempt *signin.Attempt, profile guest.Profile) error {
	waits, err := p.waitingHere(r, v)
	if err == nil && (waits.id.Mark() != attempt.User || waits.Kind != pending.Arrival) {
		err = pending.ErrGone
	}
	if errors.Is(err, pending.ErrGone) {
		return p.outdated(w, r, v, "/")
	}
	if err != nil {
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	var owner identity.UserID
	err = v.house.store.View(r.Context(), func(tx guest.Tx) (err error) {
		owner, err = identity.OwnerOf(tx, provider.Traits().Name, profile)
		return err
	})
	if err != nil {
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	d, _, err := p.preview(r, v, waits)
	if err != nil && !errors.Is(err, pending.ErrGone) {
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	if err != nil || owner == "" || owner != d.User {
		return p.trouble(w, r, v, trouble{kind: page.WrongAccount, provider: provider, back: waits.Return, outcome: "wrong_account"})
	}
	// Whose account it is, is read again by the decision that counts; that this
	// person is its owner was proven now.
	waits.Said.Owner = owner
	return p.goOn(w, r, v, waits)
}
