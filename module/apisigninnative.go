package module

import (
	"context"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/page"
	"github.com/caddy-login/caddy-login/module/pending"
	"github.com/caddy-login/caddy-login/module/record"
	"github.com/caddy-login/caddy-login/module/returnto"
	"github.com/caddy-login/caddy-login/module/session"
	"github.com/caddy-login/caddy-login/module/signin"
)

// A native app signs somebody in by the system's browser (RFC 8252): it opens our
// page there, which signs them in as ever, asks whether the app may, and sends a
// return code to the app's own address. The code and the app's verifier together
// make the app a session of its own.

// intendNative makes the address that the app opens. Nothing is kept for it.
func (c *apiCall) intendNative(w http.ResponseWriter, r *http.Request, v *visit, provider guest.Provider, in intentBody) error {
	switch {
	case c.binding == "":
		return c.fail(w, r, http.StatusBadRequest, "bad_request", "Bring a code_challenge: an app has no cookies to go by.")
	case !c.mayReturnTo(v, in.Return):
		return c.fail(w, r, http.StatusBadRequest, "bad_request", "The return is an address of the app's own: http on loopback, or https at an origin of this site's, of 160 bytes at most.")
	case provider.Traits().Tokens.Revalidate != 0:
		return c.fail(w, r, http.StatusNotFound, "provider_disabled", "This provider is asked again about each session, which takes a browser's.")
	}
	b := &bound{to: boundToIntent, binding: c.binding, provider: in.Provider, intent: in.Intent, back: in.Return}
	if in.Intent == intentLink {
		b.user = v.user()
	}
	sealed, err := c.sealBound(v, b)
	if err != nil {
		return c.gate.refuse(w, r, broken(http.StatusInternalServerError, err))
	}
	return c.answer(w, http.StatusOK, envelope{
		Status: atProvider, Intent: sealed, ExpiresAt: b.begun.Add(signin.Life).UTC(), AuthURL: v.origin.String() + c.nativeURL(sealed),
	})
}

func (p *portal) nativeURL(sealed string) string { return p.base + "/native?intent=" + sealed }

// isNativePage reports whether an address is that page's, with what may be an
// intent and nothing else.
func (p *portal) isNativePage(address string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	sealed, ok := strings.CutPrefix(address, p.nativeURL(""))
	sealed = strings.TrimSuffix(sealed, linkedMark)
	return ok && sealed != "" && len(sealed) <= 1<<10 && strings.Trim(sealed, letters) == ""
}

// linkedMark is behind the address of a browser that has connected an account.
const linkedMark = "&linked=1"

// mayReturnTo reports whether a return code may be sent there: to the device
// that the browser is on (RFC 8252 section 7.3), or to an origin that the
// operator vouches for.
func (p *portal) mayReturnTo(v *visit, back string) bool {
	u, err := url.Parse(back)
	if err != nil || len(back) > longestBack || u.Opaque != "" || u.User != nil || u.Host == "" || strings.ContainsAny(back, "#\\") || !isPrintable(back) {
		return false
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil || query.Has("return_code") || query.Has("error") || u.String() != back {
		return false
	}
	if u.Scheme == "http" {
		return isOwnDevice(u)
	}
	_, ok := returnto.Clean(u.RequestURI(), p.base)
	return ok && u.Scheme == "https" && p.gate.isOwn(u.Scheme+"://"+u.Host, v)
}

func isPrintable(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
}

// isOwnDevice reports whether an address is the browser's own device.
func isOwnDevice(u *url.URL) bool {
	if u.Hostname() == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return err == nil && ip.IsLoopback() && !ip.Is4In6() && ip.Zone() == ""
}

// native is the page that the app opens.
func (p *portal) native(w http.ResponseWriter, r *http.Request, v *visit) error {
	if !allows(w, r, http.MethodGet, http.MethodPost) {
		return p.trouble(w, r, v, trouble{kind: page.MethodNotAllowed})
	}
	if r.Method == http.MethodPost {
		return p.answerApp(w, r, v)
	}
	house, err := p.gate.app.door.enter()
	if err != nil {
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	v.house = house
	query := original(r).Query()
	sealed := query.Get("intent")
	b, provider, ok := p.appIntent(w, r, v, sealed)
	switch {
	case !ok:
		return nil
	case b.intent == intentLink:
		return p.linkForApp(w, r, v, provider, b, sealed, query.Has("linked"))
	case v.live() != nil && p.mayHandOver(v.live()):
		return p.askAboutApp(w, r, v, sealed)
	case v.live() == nil && v.hasLanded():
		// They have just signed in, and it was not kept: going on would be a loop.
		return p.trouble(w, r, v, trouble{kind: page.CookiesBlocked, provider: provider, outcome: "no_cookie", knock: true})
	}
	return p.departForApp(w, r, v, provider, b, sealed, v.live() != nil)
}

// appIntent reads an app's intent. Where it is none any more, it answers.
func (p *portal) appIntent(w http.ResponseWriter, r *http.Request, v *visit, sealed string) (*bound, guest.Provider, bool) {
	b, err := p.openBound(v, boundToIntent, sealed)
	if err != nil || b.to != boundToIntent || !p.mayReturnTo(v, b.back) {
		_ = p.trouble(w, r, v, trouble{kind: page.Expired}) // it has answered
		return nil, nil, false
	}
	provider, ok := named(p.gate.providers, b.provider).(guest.Provider)
	if !ok || provider.Traits().Tokens.Revalidate != 0 {
		_ = p.outdated(w, r, v, "/") // by a reload
		return nil, nil, false
	}
	return b, provider, true
}

// mayHandOver reports whether a session's person may have another, in an app: not
// where their provider must be asked about each, by what only a browser brings.
func (p *portal) mayHandOver(live *session.Live) bool {
	method := named(p.gate.providers, live.Provider)
	return method != nil && method.Traits().Tokens.Revalidate == 0
}

func (p *portal) departForApp(w http.ResponseWriter, r *http.Request, v *visit, provider guest.Provider, b *bound, sealed string, switchTo bool) error {
	if !v.reach(v.origin) {
		return p.trouble(w, r, v, trouble{kind: page.UnsafeAddress, err: unreachable(v), knock: true})
	}
	return p.depart(w, r, v, provider, signin.Attempt{
		Provider: b.provider, Return: p.nativeURL(sealed), SwitchAccount: switchTo, KnownOnly: b.intent == intentLogin,
	})
}

// askAboutApp asks: that somebody is signed in here must not do (RFC 8252 section
// 8.6). Any program of the device, and whoever sends a link, can open this page.
func (p *portal) askAboutApp(w http.ResponseWriter, r *http.Request, v *visit, sealed string) error {
	p.pages.LetAppIn(w, r, page.LetAppIn{Ask: sealed + "." + p.gistOfApp(v, sealed), Account: account(v.live())})
	return nil
}

// gistOfApp names whom the page asked: it is none of another's business, should
// somebody else have signed in behind it.
func (p *portal) gistOfApp(v *visit, sealed string) string {
	return hex.EncodeToString([]byte(record.Hash("app", sealed, string(v.user())))[:8])
}

// answerApp takes what the page posts.
func (p *portal) answerApp(w http.ResponseWriter, r *http.Request, v *visit) error {
	form, ok := p.form(w, r, v)
	if !ok {
		return nil
	}
	if !isLookedAt(r) {
		return p.trouble(w, r, v, trouble{kind: page.CrossSite})
	}
	sealed, gist, _ := strings.Cut(form.Get("ask"), ".")
	b, provider, ok := p.appIntent(w, r, v, sealed)
	switch do := form.Get("do"); {
	case !ok:
		return nil
	case do == "cancel":
		if v.live() != nil { // else anybody could fill the log
			p.gate.app.declined(r, b.provider)
		}
		p.pages.Bounce(w, r, withQuery(b.back, "error", "access_denied"))
		return nil
	case do == "another":
		return p.departForApp(w, r, v, provider, b, sealed, true)
	case do != "continue" || b.intent == intentLink || v.live() == nil || gist != p.gistOfApp(v, sealed) || !p.mayHandOver(v.live()):
		return p.outdated(w, r, v, p.nativeURL(sealed))
	}
	return p.handOver(w, r, v, b)
}

// isLookedAt reports whether a form was sent by a window, whose visitor sees what
// comes of it. A script of the site's own app may fetch our pages, and would
// answer them unseen.
func isLookedAt(r *http.Request) bool {
	mode, dest := r.Header.Get("Sec-Fetch-Mode"), r.Header.Get("Sec-Fetch-Dest")
	return (mode == "" || mode == "navigate") && (dest == "" || dest == "document")
}

// withQuery adds to an app's address, and keeps all that it has.
func withQuery(back, name, value string) string {
	before, query, has := strings.Cut(back, "?")
	if !has || query == "" {
		return before + "?" + name + "=" + url.QueryEscape(value)
	}
	return back + "&" + name + "=" + url.QueryEscape(value)
}

// handOver sends the app a code, for which it gets a session of its own.
func (p *portal) handOver(w http.ResponseWriter, r *http.Request, v *visit, b *bound) error {
	if !v.house.callbacks.Allow(clientIP(r.Context()), p.gate.now()) {
		return p.trouble(w, r, v, trouble{kind: page.TooMany})
	}
	code := pending.NewID()
	waits := &pending.Pending{
		Kind: pending.Native, Scope: v.scope, Site: v.origin.hostPort, Begun: p.gate.now().UTC(), Return: "/",
		Provider: v.live().Provider, User: v.live().User, Binding: b.binding, Session: v.live().Key[:],
	}
	if b.intent == intentLink {
		waits.Intent = identity.ToLink
	}
	err := v.house.store.Update(r.Context(), func(tx guest.Tx) error {
		if lives, err := v.house.sessions.Lives(tx, v.live().Key, p.gate.now()); err != nil || !lives {
			return errors.Join(err, pending.ErrGone)
		}
		return pending.Keep(tx, v.house.ring, code, waits)
	})
	switch {
	case errors.Is(err, pending.ErrGone):
		return p.outdated(w, r, v, "/")
	case err != nil:
		return p.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	p.pages.Bounce(w, r, withQuery(b.back, "return_code", code.Text()))
	return nil
}

// linkForApp connects an account to who is signed in here, whom the app asked
// for. The page that asks whether to connect it comes after the provider.
func (p *portal) linkForApp(w http.ResponseWriter, r *http.Request, v *visit, provider guest.Provider, b *bound, sealed string, linked bool) error {
	switch {
	case v.live() == nil:
		return p.redirect(w, p.signInURL(p.nativeURL(sealed)))
	case v.user() != b.user:
		return p.trouble(w, r, v, trouble{kind: page.WrongAccount, provider: provider, outcome: "wrong_account"})
	case linked:
		return p.handOver(w, r, v, b)
	case !p.isFresh(v):
		return p.redirect(w, p.againURL(p.nativeURL(sealed)))
	}
	return p.depart(w, r, v, provider, connecting(v, b.provider, p.nativeURL(sealed)+linkedMark))
}

// returnFor is how long a return code is good: apps bring it at once.
const returnFor = time.Minute

// validateNative turns a return code into a session. Without one it says that the
// person has not acted yet: what they do is theirs to tell the app by it.
func (c *apiCall) validateNative(w http.ResponseWriter, r *http.Request, v *visit, b *bound, code string) error {
	if code == "" {
		return c.answer(w, http.StatusOK, envelope{Status: isPending, ExpiresAt: b.begun.Add(signin.Life).UTC()})
	}
	if !v.house.callbacks.Allow(clientIP(r.Context()), c.gate.now()) {
		return c.portal.trouble(w, r, v, trouble{kind: page.TooMany})
	}
	waits, err := c.returned(r.Context(), v, b, code)
	switch {
	case errors.Is(err, pending.ErrGone):
		return c.deny(w, r, string(page.ChallengeExpired))
	case err != nil:
		return c.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	case waits.Intent == identity.ToLink:
		return c.linkedForApp(w, r, v, waits)
	}
	method := named(c.gate.providers, waits.Provider)
	if method == nil || method.Traits().Tokens.Revalidate != 0 {
		return c.deny(w, r, string(page.Outdated)) // by a reload
	}
	return c.comeIn(w, r, v, c.arrivingByBrowser(r, v, method, waits))
}

// returned reads a return code. One that comes with another's verifier was seen
// by others: it is spent.
func (c *apiCall) returned(ctx context.Context, v *visit, b *bound, code string) (*waiting, error) {
	id, ok := pending.ParseID(code)
	if !ok {
		return nil, pending.ErrGone
	}
	found := &waiting{id: id}
	err := v.house.store.View(ctx, func(tx guest.Tx) (err error) {
		found.Pending, err = pending.Read(tx, v.house.ring, id, v.scope, c.gate.now())
		return err
	})
	if err != nil {
		return nil, err
	}
	if found.Kind != pending.Native || found.Site != v.origin.hostPort || c.gate.now().Sub(found.Begun) > returnFor {
		return nil, pending.ErrGone
	}
	if subtle.ConstantTimeCompare([]byte(found.Binding), []byte(b.binding)) != 1 {
		err := v.house.store.Update(ctx, func(tx guest.Tx) error { return pending.Spend(tx, id) })
		return nil, errors.Join(err, pending.ErrGone)
	}
	return found, nil
}

// arrivingByBrowser is an arrival of the person who let the app in, as whom that
// browser is signed in still.
func (c *apiCall) arrivingByBrowser(r *http.Request, v *visit, method guest.Method, waits *waiting) arrival {
	var from *session.Session
	return arrival{
		method: method, back: waits.Return, pending: waits.Pending, id: waits.id, kept: true,
		admit: func(tx guest.Tx, at time.Time) (admitted identity.Admitted, err error) {
			if from, err = v.house.sessions.Use(tx, session.Key(waits.Session), at); err != nil {
				return admitted, err
			}
			person, err := identity.ReadPerson(tx, from.User, identity.IdentityKey(from.Identity))
			if err != nil {
				return admitted, err
			}
			admitted.Decision, admitted.Person = identity.Decision{Row: "A1", Do: identity.Login, User: from.User}, *person
			return admitted, nil
		},
		begin: func(person identity.Person) session.New {
			begin := c.newSession(r, v, method, guest.Profile{AuthMethods: from.AuthMethods, AuthTime: from.AuthTime}, person)
			begin.Origin = from.Origin // what ends the one ends the other
			return begin
		},
	}
}

// linkedForApp tells an app that is signed in that its person has come back with
// an account connected.
func (c *apiCall) linkedForApp(w http.ResponseWriter, r *http.Request, v *visit, waits *waiting) error {
	if v.bearer == "" || v.user() != waits.User {
		return c.fail(w, r, page.WrongAccount.Status(), string(page.WrongAccount), "Bring the access token of who connected the account.")
	}
	err := v.house.store.Update(r.Context(), func(tx guest.Tx) error { return pending.Spend(tx, waits.id) })
	switch {
	case errors.Is(err, pending.ErrGone):
		return c.deny(w, r, string(page.ChallengeExpired))
	case err != nil:
		return c.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	return c.answer(w, http.StatusOK, envelope{Status: isAuthenticated, Session: c.viewOfSession(v.live())})
}
