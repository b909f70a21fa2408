package module

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/header"
	"github.com/caddy-login/caddy-login/module/page"
	"github.com/caddy-login/caddy-login/module/returnto"
	"github.com/caddy-login/caddy-login/module/session"
	"github.com/caddy-login/caddy-login/module/signin"
)

// portal is the pages of one site, below its path: choose, begin, finish, sign
// out (farewell.go). Nothing below that path ever reaches the app.
type portal struct {
	gate  *Gate
	pages *page.Pages
	base  string
	logs  *accessLog
}

// owns reports whether a request is the portal's: as the browser sent it, or
// as it was rewritten on its way to us. What only came here by a rewrite finds
// no page.
func (p *portal) owns(r *http.Request) bool {
	return below(r.URL.Path, p.base) || below(original(r).Path, p.base)
}

// isAPI reports whether a request of ours is for the API.
func (p *portal) isAPI(r *http.Request) bool { return below(original(r).Path, p.base+"/api") }

func below(path, base string) bool {
	return strings.HasPrefix(path, base) && (len(path) == len(base) || path[len(base)] == '/')
}

// original is the request's address before any handler changed it.
func original(r *http.Request) *url.URL {
	if was, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		return was.URL
	}
	return r.URL
}

func (p *portal) ServeHTTP(w http.ResponseWriter, r *http.Request, v *visit) error {
	requests.portal.Inc()
	hurry(w, r)
	serve, quiet := p.route(original(r))
	unknown := p.meet(w, r, v, serve)
	v.known(p.gate).setPlaceholders(r)
	if quiet {
		// A misspelt address may hold a code in its path.
		shown := p.base + "/[redacted]"
		if serve != nil {
			shown = cmp.Or(serve.shown, original(r).Path)
		}
		return p.logs.around(w, r, shown, func(w http.ResponseWriter) error { return p.serve(w, r, v, serve, unknown) })
	}
	return p.serve(w, r, v, serve, unknown)
}

func (p *portal) serve(w http.ResponseWriter, r *http.Request, v *visit, room *room, unknown error) error {
	if room == nil && p.isAPI(r) {
		return p.api(w, r, v, nil, "")
	}
	if room == nil {
		return p.trouble(w, r, v, trouble{kind: page.NotFound})
	}
	if errors.Is(unknown, errBadToken) {
		return p.gate.refuse(w, r, badToken)
	}
	if unknown != nil && !room.withoutStore {
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, fmt.Errorf("reading session: %w", unknown)))
	}
	return room.serve(w, r, v)
}

// room is one page of the portal.
type room struct {
	serve func(http.ResponseWriter, *http.Request, *visit) error
	// withoutStore: the page needs to know nobody.
	withoutStore bool
	// toAnybody: who asks is not even looked at.
	toAnybody bool
	// shown is what the log may show of the path; empty: all of it.
	shown string
}

// route finds the page of a path. quiet ones may carry codes or states in their
// address, which must not reach a log: so do those that are misspelt.
func (p *portal) route(u *url.URL) (found *room, quiet bool) {
	path := strings.TrimPrefix(u.Path, p.base)
	if u.RawPath != "" || !below(u.Path, p.base) {
		return nil, true // an encoded spelling of a path of ours is none
	}
	switch path {
	case "", "/":
		return &room{serve: p.choose}, false
	case "/logout":
		return &room{serve: p.logout}, true
	case "/jwks.json":
		return &room{serve: p.keys, withoutStore: true}, false
	case "/check":
		return nil, false // asked by a rewrite, or in another spelling
	case "/confirm":
		return &room{serve: p.confirm}, false
	case "/native":
		return &room{serve: p.native}, true
	}
	if below(path, "/api") {
		return p.roomOfAPI(path)
	}
	if below(path, "/account") {
		return p.roomOfAccount(path)
	}
	if asset := p.pages.Asset(path); asset != nil {
		return &room{serve: func(w http.ResponseWriter, r *http.Request, _ *visit) error {
			asset(w, r)
			return nil
		}, withoutStore: true}, false
	}
	name, rest, _ := strings.Cut(path[1:], "/")
	if provider, ok := named(p.gate.providers, name).(guest.Provider); ok {
		return p.roomOf(provider, rest)
	}
	return p.roomOfCodes(path)
}

// roomOf is a page of one provider's.
func (p *portal) roomOf(provider guest.Provider, path string) (found *room, quiet bool) {
	switch path {
	case "":
		return p.at(provider, p.begin), true
	case "callback":
		return p.at(provider, p.callback), true
	case "backchannel-logout":
		if _, reads := provider.(guest.LogoutReader); !reads || !provider.Traits().SendsLogouts {
			return nil, true
		}
		return p.at(provider, p.logoutToken), true
	default:
		return nil, true
	}
}

func (p *portal) at(provider guest.Provider, serve func(http.ResponseWriter, *http.Request, *visit, guest.Provider) error) *room {
	return &room{serve: func(w http.ResponseWriter, r *http.Request, v *visit) error {
		return serve(w, r, v, provider)
	}}
}

// ask sends somebody we do not know to sign in: a person to the page, a
// program an answer it can read. Neither gets a cookie.
func (p *portal) ask(w http.ResponseWriter, r *http.Request, v *visit) error {
	requests.asked.Inc()
	to := p.signInURL(returnAddress(r, p.base))
	refuseBody(w, r)
	h := w.Header()
	h["Cache-Control"] = noStore
	if isNavigation(r) {
		h["Location"] = []string{to}
		w.WriteHeader(http.StatusFound)
		return nil
	}
	page.WriteProblem(w, signInRequired(r, v))
	return nil
}

func signInRequired(r *http.Request, v *visit) page.Problem {
	return page.Problem{
		Status: http.StatusUnauthorized, Code: "sign_in_required", Title: "Sign-in required",
		Detail: "Open sign_in in a browser to sign in.", SignIn: v.origin.String() + v.gate.portal.signInURL("/"), RequestID: requestID(r),
	}
}

var noStore = []string{"no-store"}

// signInURL is the page that signs in and returns.
func (p *portal) signInURL(to string) string {
	if to == "" || to == "/" {
		return p.base + "/"
	}
	return p.base + "/?return=" + url.QueryEscape(to)
}

// returnAddress is the address of this request as the browser sent it, made
// safe to go back to.
func returnAddress(r *http.Request, base string) string {
	u := original(r)
	if below(u.Path, base) {
		return "/"
	}
	return returnto.FromRequest(u)
}

// wanted is where a page's visitor is to go in the end: "/" where they can't.
func (p *portal) wanted(raw string) string {
	to, _ := p.mayWant(raw)
	return to
}

// mayWant reports whether an address is one to go to in the end. Of our own pages
// only that of their account is, and the one that asks about an app.
func (p *portal) mayWant(raw string) (to string, ok bool) {
	if raw == p.base+"/account" || p.isNativePage(raw) {
		return raw, true
	}
	return returnto.Clean(raw, p.base)
}

// choose shows the ways in. With only one way, and nothing to tell, it goes
// there at once.
func (p *portal) choose(w http.ResponseWriter, r *http.Request, v *visit) error {
	if !allows(w, r, http.MethodGet, http.MethodHead) {
		return p.trouble(w, r, v, trouble{kind: page.MethodNotAllowed})
	}
	query := original(r).Query()
	to := p.wanted(query.Get("return"))
	switchTo := query.Get("switch") != ""
	if v.live() != nil && !switchTo {
		return p.alreadyIn(w, r, v, to)
	}
	choose := p.choices(v, to, switchTo)
	if len(p.gate.providers) == 1 && p.gate.codes == nil && choose.Note == "" {
		return p.redirect(w, p.beginURL(p.gate.providers[0].Traits().Name, to, false))
	}
	p.pages.Choose(w, r, choose)
	return nil
}

// choices are the ways in, those of providers as buttons.
func (p *portal) choices(v *visit, to string, switchTo bool) page.Choose {
	last := cookieOf(v, v.last())
	choose := page.Choose{Note: p.note(v, switchTo), Email: p.emailForm(to, last)}
	for _, method := range p.gate.providers {
		traits := method.Traits()
		if _, ok := method.(guest.Provider); !ok {
			continue
		}
		choose.Buttons = append(choose.Buttons, page.Button{
			Label: traits.Label, Brand: traits.Brand, Href: p.beginURL(traits.Name, to, switchTo),
			LastUsed: traits.Name == last,
		})
	}
	return choose
}

// note is what the sign-in page has to tell: above all that a sign-in has just
// succeeded and its session did not come back. Going on by itself would be a
// loop, also where the session came back and has ended since.
func (p *portal) note(v *visit, switchTo bool) page.Note {
	switch {
	case switchTo:
		return page.Switch
	case v.hasLanded() && v.keepsCookies():
		return page.JustSignedOut
	case v.hasLanded():
		return page.NotKept
	default:
		return ""
	}
}

// cookieOf is the value of one of our small cookies, or empty. Of two, only a
// neighbour who planted the other knows which is whose: they count as none.
func cookieOf(v *visit, name string) (value string) {
	found := false
	for _, c := range v.pending {
		switch {
		case c.Name != name:
		case found:
			return ""
		default:
			value, found = c.Value, true
		}
	}
	return value
}

// hasLanded reports whether a sign-in has just succeeded in this browser. Here a
// mark that came twice counts: the loop that it ends is worse than its page.
func (v *visit) hasLanded() bool {
	return slices.ContainsFunc(v.pending, func(c header.Cookie) bool { return c.Name == v.landed() && c.Value != "" })
}

// keepsCookies reports whether this browser has kept the cookie of a session of
// ours, whatever became of that.
func (v *visit) keepsCookies() bool {
	return v.house != nil && v.house.sessions.Made(v.scope, v.cookie)
}

func (p *portal) alreadyIn(w http.ResponseWriter, r *http.Request, v *visit, to string) error {
	if to != "/" {
		return p.redirect(w, to)
	}
	p.pages.SignedIn(w, r, page.SignedIn{Account: account(v.live()), Continue: "/"})
	return nil
}

func account(live *session.Live) page.Account {
	if live == nil {
		return page.Account{}
	}
	user := &live.Person.User
	return page.Account{Name: user.Name, Email: string(user.Email)}
}

func (p *portal) beginURL(provider, to string, switchTo bool) string {
	query := url.Values{}
	if to != "/" {
		query.Set("return", to)
	}
	if switchTo {
		query.Set("switch", "1")
	}
	address := p.base + "/" + provider
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	return address
}

func (p *portal) redirectURI(v *visit, provider string) string {
	return v.origin.String() + p.base + "/" + provider + "/callback"
}

// providerTimeout is how long a visitor waits for a provider before the page
// says that it does not answer.
const providerTimeout = 3 * time.Second

// begin sends the browser to the provider.
func (p *portal) begin(w http.ResponseWriter, r *http.Request, v *visit, provider guest.Provider) error {
	if !allows(w, r, http.MethodGet) {
		return p.trouble(w, r, v, trouble{kind: page.MethodNotAllowed})
	}
	if !v.reach(v.origin) {
		return p.trouble(w, r, v, trouble{kind: page.UnsafeAddress, err: unreachable(v), knock: true})
	}
	query := original(r).Query()
	return p.depart(w, r, v, provider, signin.Attempt{
		Provider: provider.Traits().Name, Return: p.wanted(query.Get("return")), SwitchAccount: query.Get("switch") != "",
	})
}

// depart sends the browser to a provider with an attempt: after a form by a
// page, since Chromium would hold a redirect against form-action 'self'.
func (p *portal) depart(w http.ResponseWriter, r *http.Request, v *visit, provider guest.Provider, begin signin.Attempt) error {
	house, err := p.gate.app.door.enter()
	if err != nil {
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	begin.ByAPI = v.api != nil
	attempt, cookie, drop, err := house.attempts.Begin(v.base, v.origin.String(), begin, attempts(v))
	if err != nil {
		return p.trouble(w, r, v, trouble{kind: page.Internal, err: err})
	}
	ctx, cancel := context.WithTimeout(r.Context(), providerTimeout)
	defer cancel()
	to, err := provider.Begin(ctx, attempt.AtProvider(p.redirectURI(v, attempt.Provider)))
	if err != nil {
		failure := p.failure(provider, attempt.Return, err)
		failure.knock = true
		return p.trouble(w, r, v, failure)
	}
	for _, old := range drop {
		v.drop(w, old)
	}
	v.set(w, cookie.Name, cookie.Value, signin.Life)
	return p.voice(v).leaves(w, r, attempt, to)
}

// unreachable is the operator's cure for an address that no cookie of ours
// could come back to.
func unreachable(v *visit) error {
	if v.domain != "" && !within(v.origin.host, v.domain) {
		return fmt.Errorf("sessions cannot be kept on %s: cookie domain %s does not cover it", v.origin.host, v.domain)
	}
	return fmt.Errorf("sessions cannot be kept on %s: browsers return them over https only; serve the site by https, or, where TLS ends in front of Caddy, write 'origin https://%s'", v.origin, v.origin.host)
}

// attempts are the pending attempts among our cookies, the newest not first.
func attempts(v *visit) []signin.Cookie {
	var pending []signin.Cookie
	for _, c := range v.pending {
		if v.isAttempt(c.Name) {
			pending = append(pending, signin.Cookie{Name: c.Name, Value: c.Value})
		}
	}
	return pending
}

// callback takes the provider's answer.
func (p *portal) callback(w http.ResponseWriter, r *http.Request, v *visit, provider guest.Provider) error {
	house, err := p.gate.app.door.enter()
	if err != nil {
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	v.house = house
	if !house.callbacks.Allow(clientIP(r.Context()), p.gate.now()) {
		return p.trouble(w, r, v, trouble{kind: page.TooMany, provider: provider})
	}
	answer, err := p.answer(w, r, v, provider)
	if errors.Is(err, errParked) {
		return nil
	}
	if err != nil {
		begun := p.spendAll(w, r, v, provider)
		return p.trouble(w, r, v, trouble{kind: page.BadRequest, provider: provider, err: err, outcome: "bad_request", knock: !begun})
	}
	return p.finish(w, r, v, provider, answer)
}

// spendAll uses up what a malformed answer names: it was shown to the world,
// and whoever bent it may have kept the straight one. It reports whether that was
// anything.
func (p *portal) spendAll(w http.ResponseWriter, r *http.Request, v *visit, provider guest.Provider) (begun bool) {
	states := original(r).Query()["state"]
	for _, state := range states[:min(len(states), 2)] {
		attempt, _ := v.house.attempts.Resume(v.base, v.origin.String(), provider.Traits().Name, state, attempts(v))
		if attempt == nil {
			continue
		}
		begun = true
		v.drop(w, attempt.CookieOf())
		if err := v.house.attempts.Spend(r.Context(), attempt); err != nil && !errors.Is(err, signin.ErrSpent) {
			p.gate.app.complain(err, requestID(r))
		}
	}
	return begun
}

var (
	errParked    = errors.New("answer is parked")
	errMethod    = errors.New("answer came by another method than was asked for")
	errMalformed = errors.New("answer is no query")
	errDuplicate = errors.New("answer names a parameter twice")
	errHandle    = errors.New("answer is not here, or was taken before")
)

// answer reads what the provider says: from the query, or, where it posts,
// from what was parked under the query's handle.
func (p *portal) answer(w http.ResponseWriter, r *http.Request, v *visit, provider guest.Provider) (url.Values, error) {
	query, err := url.ParseQuery(original(r).RawQuery)
	if err != nil || len(query) > maxFields {
		return nil, errMalformed
	}
	traits := provider.Traits()
	switch {
	case traits.FormPost && r.Method == http.MethodPost:
		return nil, p.park(w, r, v, traits.Name)
	case r.Method != http.MethodGet, traits.FormPost && (query.Has("code") || query.Has("state")):
		return nil, errMethod
	}
	if err := once(query); err != nil || !traits.FormPost {
		return query, err
	}
	answer, found := v.house.parked.take(traits.Name, query.Get("handle"), p.gate.now())
	if !found {
		return nil, errHandle
	}
	return answer, nil
}

// once refuses a parameter that occurs twice: we and the provider could read
// different ones.
func once(values url.Values) error {
	for _, all := range values {
		if len(all) > 1 {
			return errDuplicate
		}
	}
	return nil
}

// park keeps a posted answer while the browser comes round by a GET of our
// own: only that carries its Lax cookies. Only an answer to a state we made is
// kept.
func (p *portal) park(w http.ResponseWriter, r *http.Request, v *visit, name string) error {
	r.Body = http.MaxBytesReader(w, r.Body, maxAnswer)
	if err := r.ParseForm(); err != nil {
		return errors.New("reading posted answer: not a form, or too long")
	}
	// Many tiny fields weigh far more in memory than on the wire.
	if len(r.PostForm) > maxFields {
		return errors.New("reading posted answer: too many fields")
	}
	if err := once(r.PostForm); err != nil {
		return err
	}
	if !v.house.attempts.Ours(r.PostForm.Get("state")) {
		return fmt.Errorf("reading posted answer: %w", signin.ErrUnknown)
	}
	handle := v.house.parked.park(name, r.PostForm, p.gate.now())
	p.pages.Bounce(w, r, p.base+"/"+name+"/callback?handle="+handle)
	return errParked
}

// finish is one log-in: resume, spend, ask the provider, admit, start.
func (p *portal) finish(w http.ResponseWriter, r *http.Request, v *visit, provider guest.Provider, answer url.Values) error {
	name := provider.Traits().Name
	attempt, err := v.house.attempts.Resume(v.base, v.origin.String(), name, answer.Get("state"), attempts(v))
	if attempt != nil {
		// Spent also where it is good for nothing: it was shown to the world.
		v.drop(w, attempt.CookieOf())
		v.asksAbout(attempt)
		err = errors.Join(err, v.house.attempts.Spend(r.Context(), attempt))
	}
	if err != nil {
		return p.trouble(w, r, v, p.notResumed(provider, attempt, err))
	}
	profile, err := provider.Finish(r.Context(), attempt.AtProvider(p.redirectURI(v, name)), answer)
	if err != nil {
		return p.trouble(w, r, v, p.failure(provider, attempt.Return, err))
	}
	switch attempt.For {
	case signin.ToProve:
		return p.provedElsewhere(w, r, v, provider, attempt, profile)
	case signin.ToLink, signin.Again:
		return p.cameBack(w, r, v, provider, attempt, profile)
	default:
		return p.admit(w, r, v, provider, attempt, profile)
	}
}

// redirect sends the browser on. Where to is the provider's, it carries the
// state, so nobody may keep it.
func (p *portal) redirect(w http.ResponseWriter, to string) error {
	h := w.Header()
	h["Location"] = []string{to}
	h["Cache-Control"] = noStore
	h["Referrer-Policy"] = []string{"strict-origin"}
	w.WriteHeader(http.StatusFound)
	return nil
}

// allows reports whether the method is one of these, and says which are.
func allows(w http.ResponseWriter, r *http.Request, methods ...string) bool {
	if slices.Contains(methods, r.Method) {
		return true
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	return false
}
