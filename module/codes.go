package module

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-login/caddy-login/module/challenge"
	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/mail"
	"github.com/caddy-login/caddy-login/module/page"
	"github.com/caddy-login/caddy-login/module/pending"
	"github.com/caddy-login/caddy-login/module/record"
)

// Signing in by mail: an address is given, a code and a link are mailed, and
// either of them comes back. What is shown and sent says nothing of whether the
// address is known (module/challenge).

// roomOfCodes is a page of the way in by mail.
func (p *portal) roomOfCodes(path string) (found *room, quiet bool) {
	switch {
	case path == "/link" && p.gate.settings.post != nil:
		return &room{serve: p.link}, true
	case p.gate.codes == nil:
		return nil, true
	case path == "/"+p.gate.codes.Traits().Name:
		return &room{serve: p.askForMail}, true
	case path == "/code":
		return &room{serve: p.code}, true
	default:
		return nil, true
	}
}

// emailForm is the field on the sign-in page; nil where there is no such way
// in.
func (p *portal) emailForm(to, last string) *page.EmailForm {
	if p.gate.codes == nil {
		return nil
	}
	return &page.EmailForm{Return: to, LastUsed: last == p.gate.codes.Traits().Name}
}

// askForMail begins with an address. GET is for who comes by a link to this way
// in.
func (p *portal) askForMail(w http.ResponseWriter, r *http.Request, v *visit) error {
	if !allows(w, r, http.MethodGet, http.MethodHead, http.MethodPost) {
		return p.trouble(w, r, v, trouble{kind: page.MethodNotAllowed})
	}
	if r.Method != http.MethodPost {
		return p.redirect(w, p.signInURL(p.wanted(original(r).Query().Get("return"))))
	}
	form, ok := p.form(w, r, v)
	if !ok {
		return nil
	}
	if !v.reach(v.origin) {
		return p.trouble(w, r, v, trouble{kind: page.UnsafeAddress, err: unreachable(v), knock: true})
	}
	if !v.servesPort(r) {
		return p.trouble(w, r, v, strangePort(v))
	}
	to := p.wanted(form.Get("return"))
	email, err := identity.ParseEmail(strings.TrimSpace(form.Get("email")))
	if err != nil {
		choose := p.choices(v, to, false)
		choose.Email.Address, choose.Email.Invalid = form.Get("email"), true
		p.pages.Choose(w, r, choose)
		return nil
	}
	return p.mailCode(w, r, v, email, to, false)
}

// strangePort is a mail that would lead to a port which we can't know to be
// ours.
func strangePort(v *visit) trouble {
	err := fmt.Errorf("no mail for %s: its port is not the one that the request came to; write 'origin %s' if it is the site's", v.origin, v.origin)
	return trouble{kind: page.UnsafeAddress, err: err, knock: true}
}

// form reads a form of our own pages. Where it is not one, it answers.
func (p *portal) form(w http.ResponseWriter, r *http.Request, v *visit) (url.Values, bool) {
	if !p.isSameOrigin(r, v) {
		_ = p.trouble(w, r, v, trouble{kind: page.CrossSite}) // it has answered
		return nil, false
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil || len(r.PostForm) > maxFields {
		_ = p.trouble(w, r, v, trouble{kind: page.BadRequest})
		return nil, false
	}
	house, err := p.gate.app.door.enter()
	if err != nil {
		_ = p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
		return nil, false
	}
	v.house = house
	return r.PostForm, true
}

// mailCode begins a challenge. Whoever may not have the mail gets the same
// answer, at the same cost.
func (p *portal) mailCode(w http.ResponseWriter, r *http.Request, v *visit, email identity.Email, to string, knownOnly bool) error {
	phantom, err := p.mayNotHave(r, v, email, p.joining(knownOnly))
	if err != nil {
		return p.trouble(w, r, v, trouble{kind: page.Unavailable, provider: p.gate.codes, err: err, knock: true})
	}
	begun, err := v.house.challenges.Begin(r.Context(), challenge.Ask{
		Purpose: challenge.Login, Scope: v.scope, Email: email, Return: to, Network: clientIP(r.Context()),
		Asker: p.asker(r), KnownOnly: knownOnly,
		Rules: p.rules(), Familiar: p.isFriend(v, email), Phantom: phantom,
	})
	if err != nil {
		return p.trouble(w, r, v, p.notMailed(err))
	}
	p.remember(w, v, begun.ID)
	return p.answerAndPost(w, r, v, challenge.Claim{ID: begun.ID, Scope: v.scope, Purpose: challenge.Login}, begun, p.base+"/code")
}

// answerAndPost hands the mail over once the answer is out: what an address that
// gets one costs more must not be seen in the time that it takes.
func (p *portal) answerAndPost(w http.ResponseWriter, r *http.Request, v *visit, claim challenge.Claim, begun *challenge.Begun, to string) error {
	entry := p.entry(r, v, begun)
	if err := p.voice(v).mailed(w, r, v, claim, &begun.Waiting, to); err != nil {
		return err
	}
	_ = http.NewResponseController(w).Flush() // else it goes out a moment later
	switch {
	case begun.Mail == nil:
		p.gate.app.notMailed(string(begun.Withheld), requestID(r))
	case !p.gate.settings.post.send(entry):
		p.gate.app.notMailed("queue_full", requestID(r))
	}
	return nil
}

// mayNotHave reports whether an address is to be mailed nothing: nobody may
// become its user, or its user may not sign in. It reads the same whichever.
func (p *portal) mayNotHave(r *http.Request, v *visit, email identity.Email, signUp func(identity.Email) bool) (phantom bool, err error) {
	err = v.house.store.View(r.Context(), func(tx guest.Tx) error {
		may, err := identity.MayProve(tx, email, signUp)
		phantom = !may
		return err
	})
	return phantom, err
}

// rules are those of the way in by mail, and the defaults where a code only
// proves an address.
func (p *portal) rules() challenge.Rules {
	if p.gate.codes == nil {
		return challenge.Rules{}
	}
	rules := p.gate.codes.Codes()
	return challenge.Rules{
		Length: rules.Length, Lifetime: rules.Lifetime, NoLink: !rules.Link, CrossDevice: challenge.CrossDevice(rules.CrossDevice),
	}
}

// codeFor is what the person is told of a purpose.
func codeFor(purpose challenge.Purpose) page.CodeFor {
	switch purpose {
	case challenge.Login:
		return page.ForSignIn
	case challenge.StepUp:
		return page.ForAgain
	default:
		return page.ForAddress
	}
}

// placeOf is roughly where a network is: of its address the first half, which
// is a provider's rather than a person's.
func placeOf(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return ""
	}
	ip, bits := ip.Unmap().WithZone(""), 16
	if ip.Is6() {
		bits = 32
	}
	prefix, err := ip.Prefix(bits)
	if err != nil {
		return ""
	}
	return prefix.String()
}

// notMailed is why no mail was even asked for. It tells of networks and of
// everybody, never of one address.
func (p *portal) notMailed(err error) trouble {
	if errors.Is(err, challenge.ErrNetwork) || errors.Is(err, challenge.ErrBusy) {
		return trouble{kind: page.TooMany, provider: p.gate.codes, outcome: "rate_limited", err: err, knock: true}
	}
	return trouble{kind: page.Unavailable, provider: p.gate.codes, outcome: "unavailable", err: err, knock: true}
}

// entry writes the mail: also one that nobody gets, which costs as much.
func (p *portal) entry(r *http.Request, v *visit, begun *challenge.Begun) mail.Entry {
	m := begun.Mail
	if m == nil {
		m = &challenge.Mail{
			To: begun.Waiting.Email, Code: "000000", Link: guest.Secret(strings.Repeat("0", 64)),
			Asker: p.asker(r), Expires: begun.Waiting.Expires,
		}
	}
	letter := page.CodeLetter{
		For: codeFor(begun.Waiting.Purpose), To: string(m.To), Code: string(m.Code), Host: v.origin.hostPort,
		Device: m.Asker.Device, Place: m.Asker.Place, Asked: m.Asker.At, Expires: m.Expires,
		Mode: string(p.rules().CrossDevice), Language: r.Header.Get("Accept-Language"),
	}
	if m.Link != "" && !p.rules().NoLink {
		letter.Link = v.origin.String() + p.base + "/link?t=" + url.QueryEscape(string(m.Link))
	}
	message := p.pages.CodeLetter(letter)
	message.From = "login@" + v.origin.host
	return mail.Entry{Message: message, Expires: m.Expires}
}

func (p *portal) asker(r *http.Request) challenge.Asker {
	ip := clientIP(r.Context())
	return challenge.Asker{Device: page.Device(r.UserAgent()), Place: placeOf(ip), At: p.gate.now()}
}

// code is where the code is typed, and where the page that waits for it asks
// how things stand.
func (p *portal) code(w http.ResponseWriter, r *http.Request, v *visit) error {
	if !allows(w, r, http.MethodGet, http.MethodHead, http.MethodPost) {
		return p.trouble(w, r, v, trouble{kind: page.MethodNotAllowed})
	}
	if r.Method != http.MethodPost {
		claim, asked := p.claim(v, original(r).Query().Get("ask"))
		return p.awaitCode(w, r, v, claim, asked)
	}
	form, ok := p.form(w, r, v)
	claim, asked := p.claim(v, form.Get("ask"))
	switch {
	case !ok:
		return nil
	case !asked:
		return p.trouble(w, r, v, trouble{kind: page.CookiesBlocked, provider: p.gate.codes, outcome: "no_cookie", knock: true})
	case form.Get("resend") != "":
		return p.resend(w, r, v, claim, p.base+"/code")
	}
	return p.typed(w, r, v, claim, form.Get("code"))
}

// typed takes a code that signs in.
func (p *portal) typed(w http.ResponseWriter, r *http.Request, v *visit, claim challenge.Claim, code string) error {
	proof, err := v.house.challenges.Check(r.Context(), claim, code)
	if err != nil {
		return p.wrongCode(w, r, v, claim, err)
	}
	return p.proven(w, r, v, proof)
}

// claim is the challenge that a tab of this browser asked for; without a word of
// the tab's own, the last one.
func (p *portal) claim(v *visit, ask string) (claim challenge.Claim, asked bool) {
	ids := askedFor(v)
	if len(ids) == 0 {
		return claim, false
	}
	claim = challenge.Claim{ID: ids[0], Scope: v.scope, Purpose: challenge.Login}
	for _, id := range ids {
		if markOf(id) == ask {
			claim.ID = id
		}
	}
	return claim, true
}

// markOf names a challenge among those of one browser, and opens nothing.
func markOf(id challenge.ID) string {
	return hex.EncodeToString([]byte(record.Hash("tab", id.Text()))[:4])
}

// maxAsked is how many challenges a browser keeps in mind: several tabs.
const maxAsked = 3

// askedFor are the challenges of this browser, the last one first.
func askedFor(v *visit) (ids []challenge.ID) {
	for text := range strings.SplitSeq(cookieOf(v, v.asked()), ".") {
		if id, ok := challenge.ParseID(text); ok && len(ids) < maxAsked {
			ids = append(ids, id)
		}
	}
	return ids
}

// remember gives the browser what proves that it asked.
func (p *portal) remember(w http.ResponseWriter, v *visit, id challenge.ID) {
	texts := []string{id.Text()}
	for _, old := range askedFor(v) {
		if len(texts) < maxAsked {
			texts = append(texts, old.Text())
		}
	}
	v.set(w, v.asked(), strings.Join(texts, "."), p.gate.codes.Codes().Lifetime)
}

// awaitCode shows the field for the code, or moves on where there is nothing to
// wait for any more.
func (p *portal) awaitCode(w http.ResponseWriter, r *http.Request, v *visit, claim challenge.Claim, asked bool) error {
	polls := strings.HasPrefix(r.Header.Get("Accept"), "application/json")
	if !asked {
		if polls {
			return status(w, "over", "")
		}
		return p.redirect(w, p.base+"/")
	}
	house, err := p.gate.app.door.enter()
	if err != nil {
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	v.house = house
	waiting, err := house.challenges.Poll(r.Context(), claim)
	switch {
	case err != nil && polls:
		return status(w, "over", "")
	case err != nil:
		return p.trouble(w, r, v, p.codeOver(err, ""))
	case polls:
		return p.poll(w, v, waiting)
	}
	return p.showWaiting(w, r, v, claim, waiting)
}

func (p *portal) showWaiting(w http.ResponseWriter, r *http.Request, v *visit, claim challenge.Claim, waiting *challenge.Waiting) error {
	to := p.wanted(waiting.Return)
	switch waiting.State {
	case challenge.Pending:
		enter := p.entering(claim, waiting)
		enter.Resent = original(r).Query().Get("resent") != ""
		return p.voice(v).enter(w, r, v, claim, waiting, enter)
	case challenge.Approved:
		// Only this browser can collect it, and its visitor asked for nothing else.
		proof, err := v.house.challenges.Collect(r.Context(), claim)
		if err != nil {
			return p.trouble(w, r, v, p.codeOver(err, to))
		}
		return p.proven(w, r, v, proof)
	case challenge.Spent:
		if v.live() != nil && v.api == nil { // by the link, in another tab
			return p.redirect(w, to)
		}
		return p.trouble(w, r, v, p.codeOver(challenge.ErrSpent, to))
	case challenge.Cancelled:
		return p.trouble(w, r, v, p.codeOver(challenge.ErrCancelled, to))
	case challenge.Exhausted:
		return p.trouble(w, r, v, p.codeOver(challenge.ErrTooMany, to))
	default:
		return p.trouble(w, r, v, p.codeOver(challenge.ErrExpired, to))
	}
}

// poll answers the page's script. It signs nobody in: where there is something
// to collect, the page comes for it.
func (p *portal) poll(w http.ResponseWriter, v *visit, waiting *challenge.Waiting) error {
	switch {
	case waiting.State == challenge.Pending:
		return status(w, "pending", "")
	case waiting.State == challenge.Approved:
		return status(w, "done", p.base+"/code")
	case waiting.State == challenge.Spent && v.live() != nil:
		return status(w, "done", p.wanted(waiting.Return))
	default:
		return status(w, "over", "")
	}
}

func status(w http.ResponseWriter, word, to string) error {
	answer := map[string]string{"status": word}
	if to != "" {
		answer["to"] = to
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	w.Header()["Content-Type"] = []string{"application/json"}
	w.Header()["Cache-Control"] = noStore
	w.Header()["X-Content-Type-Options"] = []string{"nosniff"}
	w.Header()["Cross-Origin-Resource-Policy"] = []string{"same-origin"}
	_, _ = w.Write(body) // whoever asked may have left
	return nil
}

// entering is the page's view of a challenge.
func (p *portal) entering(claim challenge.Claim, waiting *challenge.Waiting) page.EnterCode {
	now := p.gate.now()
	enter := page.EnterCode{
		For: codeFor(waiting.Purpose), Address: string(waiting.Email), Digits: waiting.Length, Link: waiting.Link,
		Minutes: int(waiting.Expires.Sub(now) / time.Minute), ResendIn: -1,
		Again: p.signInURL(p.wanted(waiting.Return)), Ask: markOf(claim.ID),
	}
	if !waiting.ResendAt.IsZero() {
		enter.ResendIn = max(0, waiting.ResendAt.Sub(now))
	}
	if waiting.Number != 0 {
		enter.Number = strconv.Itoa(waiting.Number)
	}
	return enter
}

// wrongCode lets somebody try again, as often as they may.
func (p *portal) wrongCode(w http.ResponseWriter, r *http.Request, v *visit, claim challenge.Claim, err error) error {
	waiting, polled := v.house.challenges.Poll(r.Context(), claim)
	var wrong *challenge.Wrong
	switch {
	case polled != nil:
		return p.trouble(w, r, v, p.codeOver(err, ""))
	case errors.As(err, &wrong):
		waiting.AttemptsLeft = wrong.AttemptsLeft
	case waiting.State != challenge.Pending:
		if errors.Is(err, challenge.ErrTooMany) {
			p.noteExhausted(r, v, waiting.Email, err)
		}
		return p.showWaiting(w, r, v, claim, waiting)
	case !errors.Is(err, challenge.ErrMalformed):
		return p.trouble(w, r, v, p.codeOver(err, ""))
	}
	enter := p.entering(claim, waiting)
	enter.Wrong, enter.Left = true, waiting.AttemptsLeft
	if wrong != nil || p.gate.app.mayTell(r) {
		p.gate.app.wrongCode(p.gate.codes.Traits().Name, requestID(r))
	}
	return p.voice(v).enter(w, r, v, claim, waiting, enter)
}

// codeOver is a challenge that leads nowhere any more.
func (p *portal) codeOver(err error, back string) trouble {
	t := trouble{provider: p.gate.codes, back: back, err: err, knock: true}
	switch {
	case errors.Is(err, challenge.ErrTooMany):
		t.kind, t.outcome = page.TooManyAttempts, "too_many_attempts"
	case errors.Is(err, challenge.ErrSpent):
		t.kind, t.outcome = page.ChallengeSpent, "spent"
	case errors.Is(err, challenge.ErrCancelled):
		t.kind, t.outcome = page.ChallengeStopped, "cancelled"
	case errors.Is(err, challenge.ErrExpired), errors.Is(err, challenge.ErrPending):
		t.kind, t.outcome = page.ChallengeExpired, "expired"
	case errors.Is(err, challenge.ErrElsewhere):
		t.kind, t.outcome = page.BadRequest, "elsewhere"
	default:
		t.kind, t.outcome = page.Unavailable, "unavailable"
	}
	return t
}

// resend mails the same code again.
func (p *portal) resend(w http.ResponseWriter, r *http.Request, v *visit, claim challenge.Claim, at string) error {
	if !v.servesPort(r) {
		return p.trouble(w, r, v, strangePort(v))
	}
	begun, err := v.house.challenges.Resend(r.Context(), claim, clientIP(r.Context()))
	switch {
	case errors.Is(err, challenge.ErrTooSoon):
		return p.voice(v).tooSoon(w, r, v, claim, at)
	case errors.Is(err, challenge.ErrNetwork), errors.Is(err, challenge.ErrBusy):
		return p.trouble(w, r, v, p.notMailed(err))
	case err != nil:
		return p.trouble(w, r, v, p.codeOver(err, ""))
	}
	return p.answerAndPost(w, r, v, claim, begun, at+"?resent=1&ask="+markOf(claim.ID))
}

// link is where a mailed link leads. GET consumes nothing: scanners follow
// links.
func (p *portal) link(w http.ResponseWriter, r *http.Request, v *visit) error {
	if !allows(w, r, http.MethodGet, http.MethodHead, http.MethodPost) {
		return p.trouble(w, r, v, trouble{kind: page.MethodNotAllowed})
	}
	if r.Method == http.MethodPost {
		return p.useLink(w, r, v)
	}
	house, err := p.gate.app.door.enter()
	if err != nil {
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	v.house = house
	landing := p.landing(r, v, original(r).Query().Get("t"))
	sight, err := house.challenges.Look(r.Context(), landing)
	switch {
	case errors.Is(err, challenge.ErrSpent) && v.live() != nil:
		return p.alreadyIn(w, r, v, "/")
	case err != nil:
		return p.trouble(w, r, v, p.codeOver(err, ""))
	case sight.Here:
		p.pages.FollowLink(w, r, page.FollowLink{For: codeFor(sight.Purpose), Token: string(landing.Link), Auto: true})
	default:
		p.pages.OtherDevice(w, r, elsewhere(landing, sight))
	}
	return nil
}

// landing is a link, and what this browser has asked for.
func (p *portal) landing(r *http.Request, v *visit, token string) challenge.Landing {
	ids := askedFor(v)
	if waits, err := p.waitingHere(r, v); err == nil {
		if id, ok := challenge.ParseID(waits.Challenge); ok {
			ids = append(ids, id)
		}
	}
	return challenge.Landing{Link: guest.Secret(token), Scope: v.scope, IDs: ids}
}

// elsewhere is what a link does in another browser than the one that asked.
func elsewhere(landing challenge.Landing, sight *challenge.Sight) page.OtherDevice {
	o := page.OtherDevice{
		For: codeFor(sight.Purpose), Token: string(landing.Link), Mode: page.ModeCode, Code: string(sight.Code),
		Device: sight.Asker.Device, Place: sight.Asker.Place, At: sight.Asker.At,
	}
	switch {
	case sight.Opens:
		o.Mode = page.ModeAllow
	case sight.Choices != nil:
		o.Mode = page.ModeMatch
		for _, n := range sight.Choices {
			o.Numbers = append(o.Numbers, strconv.Itoa(n))
		}
	}
	return o
}

// useLink takes what the pages behind a link post: to sign in, the number that
// was picked, or that nobody here asked.
func (p *portal) useLink(w http.ResponseWriter, r *http.Request, v *visit) error {
	form, ok := p.form(w, r, v)
	if !ok {
		return nil
	}
	landing := p.landing(r, v, form.Get("token"))
	switch {
	case form.Get("cancel") != "":
		return p.denyLink(w, r, v, landing)
	case form.Get("number") != "":
		return p.pickNumber(w, r, v, landing, form.Get("number"))
	}
	proof, err := v.house.challenges.Open(r.Context(), landing)
	if err != nil {
		return p.trouble(w, r, v, p.codeOver(err, ""))
	}
	return p.proven(w, r, v, proof)
}

// denyLink is for who did not ask. What they should do next depends on what it
// was for: a code for somebody who is signed in already means an intruder.
func (p *portal) denyLink(w http.ResponseWriter, r *http.Request, v *visit, landing challenge.Landing) error {
	sight, err := v.house.challenges.Look(r.Context(), landing)
	if err == nil {
		err = v.house.challenges.Deny(r.Context(), landing)
	}
	if err != nil {
		return p.trouble(w, r, v, p.codeOver(err, ""))
	}
	p.gate.app.notMailed("denied", requestID(r))
	p.pages.Stopped(w, r, page.Stopped{For: codeFor(sight.Purpose)})
	return nil
}

func (p *portal) pickNumber(w http.ResponseWriter, r *http.Request, v *visit, landing challenge.Landing, picked string) error {
	number, err := strconv.Atoi(picked)
	if err != nil {
		return p.trouble(w, r, v, trouble{kind: page.BadRequest})
	}
	if err := v.house.challenges.Pick(r.Context(), landing, number); err != nil {
		return p.trouble(w, r, v, p.codeOver(err, ""))
	}
	p.pages.Approved(w, r, page.Approved{})
	return nil
}

// proven lets in whoever has proven an address. That this browser asked stays
// known to it: the page that waits in another tab is to move on.
func (p *portal) proven(w http.ResponseWriter, r *http.Request, v *visit, proof challenge.Proof) error {
	if proof.Purpose != challenge.Login {
		waits, err := p.waitingHere(r, v)
		if errors.Is(err, pending.ErrGone) {
			return p.outdated(w, r, v, "/")
		}
		if err != nil {
			return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
		}
		return p.provenFor(w, r, v, waits, proof)
	}
	if p.gate.codes == nil {
		return p.outdated(w, r, v, "/") // by a reload
	}
	return p.comeIn(w, r, v, p.arrivingByMail(r, v, &pending.Pending{
		Kind: pending.Mailed, Scope: v.scope, Site: v.origin.hostPort, Begun: p.gate.now().UTC(), Return: p.wanted(proof.Return), Email: proof.Email,
		KnownOnly: proof.KnownOnly,
	}, pending.NewID()))
}

// maxFriends is how many people a browser is known for: a family's.
const maxFriends = 3

// befriend has the browser prove, next time, that the holder of an address has
// signed in with it before: a stranger who guesses codes then can't lock them
// out. It proves nothing else.
func (p *portal) befriend(w http.ResponseWriter, v *visit, email identity.Email) {
	if email == "" || p.gate.settings.post == nil {
		return
	}
	tags := []string{friendTag(v, email)}
	for tag := range strings.SplitSeq(cookieOf(v, v.friends()), ".") {
		if len(tag) == len(tags[0]) && tag != tags[0] && len(tags) < maxFriends {
			tags = append(tags, tag)
		}
	}
	v.set(w, v.friends(), strings.Join(tags, "."), lastFor)
}

func (p *portal) isFriend(v *visit, email identity.Email) (friend bool) {
	n := 0
	for text := range strings.SplitSeq(cookieOf(v, v.friends()), ".") {
		tag, err := base64.RawURLEncoding.Strict().DecodeString(text)
		if n++; err != nil || n > maxFriends {
			continue
		}
		friend = v.house.ring.Tagged(friendship(v), string(email), tag) || friend
	}
	return friend
}

func friendTag(v *visit, email identity.Email) string {
	return base64.RawURLEncoding.EncodeToString(v.house.ring.Tag(friendship(v), string(email)))
}

func friendship(v *visit) string { return "friend\x00" + v.scope }
