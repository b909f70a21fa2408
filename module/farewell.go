package module

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/caddy-login/caddy-login/module/activity"
	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/page"
	"github.com/caddy-login/caddy-login/module/session"
)

// maxForm bounds the forms of our own pages.
const maxForm = 8 << 10

// logout asks on GET and ends the session on POST. It is also where a provider
// sends the browser back to once the person is signed out there.
func (p *portal) logout(w http.ResponseWriter, r *http.Request, v *visit) error {
	if !allows(w, r, http.MethodGet, http.MethodHead, http.MethodPost) {
		return p.trouble(w, r, v, trouble{kind: page.MethodNotAllowed})
	}
	query := original(r).Query()
	to := p.wanted(query.Get("return"))
	switch {
	case r.Method == http.MethodPost:
		return p.signOut(w, r, v, to)
	case v.live() != nil:
		p.pages.AskSignOut(w, r, page.AskSignOut{Account: account(v.live()), Return: to})
		return nil
	case query.Has("state"):
		return p.backFrom(w, r, v, query.Get("state"))
	}
	p.pages.SignedOut(w, r, page.SignedOut{Again: p.signInURL(to), Provider: p.labelOf(query.Get("from"))})
	return nil
}

// labelOf is what people call a provider of this site; empty for what is none,
// and nowhere to be signed in.
func (p *portal) labelOf(name string) string {
	if provider, ok := named(p.gate.providers, name).(guest.Provider); ok {
		return provider.Traits().Label
	}
	return ""
}

// signOut ends the session everywhere at once, before it answers, and then
// goes on to the provider's own sign-out.
func (p *portal) signOut(w http.ResponseWriter, r *http.Request, v *visit, to string) error {
	if !p.isSameOrigin(r, v) {
		return p.trouble(w, r, v, trouble{kind: page.CrossSite})
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return p.trouble(w, r, v, trouble{kind: page.BadRequest})
	}
	if posted := r.PostForm.Get("return"); posted != "" {
		to = p.wanted(posted)
	}
	leave := func() string { return "" }
	if v.live() != nil {
		leave = p.farewell(r, v, to)
	}
	all, err := p.allHeld(r, v)
	if err != nil {
		return p.trouble(w, r, v, trouble{kind: page.Unavailable, err: err})
	}
	if err := p.endAll(r, v, all); err != nil {
		return p.trouble(w, r, v, trouble{kind: page.Unavailable, err: err})
	}
	p.dropAll(w, v)
	if r.PostForm.Get("switch") != "" {
		return p.seeOther(w, p.base+"/?switch=1&return="+url.QueryEscape(to))
	}
	if elsewhere := leave(); elsewhere != "" {
		// By a page: Chromium would hold a redirect against form-action 'self'.
		p.pages.Bounce(w, r, elsewhere)
		return nil
	}
	return p.seeOther(w, p.signedOutURL(v, to))
}

// endAll signs out of sessions: it is written down with their end, and then told.
func (p *portal) endAll(r *http.Request, v *visit, all []*session.Live) error {
	for _, held := range all {
		note := activity.Entry{What: activity.SignedOut, Provider: held.Provider}
		err := v.house.sessions.EndWith(r.Context(), held.Key, func(tx guest.Tx) error {
			return p.noteIn(tx, r, held.User, note, held.Handle)
		})
		if err != nil {
			return err
		}
		p.gate.app.ended(r, held, "signed_out")
	}
	return nil
}

// allHeld are the sessions that the browser brought: also one that counts
// nowhere here, and each of several cookies, of which a neighbour may have
// planted one. Who came by an access token brought the session of that alone.
func (p *portal) allHeld(r *http.Request, v *visit) (held []*session.Live, err error) {
	if v.bearer != "" {
		return append(held, v.live()), nil
	}
	if v.held != nil {
		held = append(held, v.held.Live())
	}
	for _, c := range v.pending {
		if c.Name != v.base {
			continue
		}
		if v.house, err = p.gate.app.door.enter(); err != nil {
			return nil, err
		}
		hand, err := v.house.sessions.Read(r.Context(), v.scope, c.Value, p.gate.now())
		if errors.Is(err, session.ErrNone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		held = append(held, hand.Live())
	}
	return held, nil
}

// signedOutURL is where somebody goes whose sign-out ends here.
func (p *portal) signedOutURL(v *visit, to string) string {
	switch {
	case to != "/":
		return to
	case v.live() != nil:
		return p.base + "/logout?from=" + url.QueryEscape(v.live().Provider)
	default:
		return p.base + "/logout"
	}
}

func (p *portal) seeOther(w http.ResponseWriter, to string) error {
	w.Header()["Location"] = []string{to}
	w.Header()["Cache-Control"] = noStore
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

// endsElsewhere reports whether a sign-out of this site goes on to the
// provider: the provider's own word, and else the site's.
func (g *Gate) endsElsewhere(t guest.Traits) bool {
	return !t.StaysSignedIn && g.settings.ProviderLogout != "off"
}

// farewell takes what a sign-out at the provider needs from a session that is
// about to end. What it returns finds the address to go to, after the end: ""
// where there is none. That a provider does not answer must not keep anybody
// signed in here.
func (p *portal) farewell(r *http.Request, v *visit, to string) func() string {
	nowhere := func() string { return "" }
	provider, ok := named(p.gate.providers, v.live().Provider).(guest.SessionEnder)
	if !ok || !p.gate.endsElsewhere(provider.Traits()) {
		return nowhere
	}
	grant, err := v.house.sessions.Grant(r.Context(), v.live().Key)
	if err != nil && !errors.Is(err, session.ErrNone) {
		p.gate.app.complain(fmt.Errorf("reading the hint for the provider's sign-out: %w", err), requestID(r))
	}
	bye := guest.Farewell{
		ReturnTo: v.origin.String() + p.base + "/logout",
		State:    p.stateOf(v, v.live().Provider, to),
	}
	if grant != nil && grant.Client == provider.Traits().Client {
		bye.IDToken = grant.IDToken
	}
	return func() string {
		ctx, cancel := context.WithTimeout(r.Context(), providerTimeout)
		defer cancel()
		address, err := provider.EndSession(ctx, bye)
		if err != nil {
			p.gate.app.complain(fmt.Errorf("signing out at %s: %w", v.live().Provider, err), requestID(r))
			return ""
		}
		return address
	}
}

// maxReturn bounds the address that a state carries: longer ones make URLs that
// servers refuse.
const maxReturn = 512

// stateOf is the state of a sign-out at the provider: who it was and where to
// go in the end, under our tag. It guards nothing: whoever comes back is signed
// out already.
func (p *portal) stateOf(v *visit, provider, to string) string {
	if len(to) > maxReturn {
		to = "/"
	}
	said := provider + " " + to
	tag := v.house.ring.Tag("signed out\x00"+v.scope, said)
	encoding := base64.RawURLEncoding
	return encoding.EncodeToString([]byte(said)) + "." + encoding.EncodeToString(tag)
}

// backFrom ends a sign-out that went on to the provider. A state that is not
// ours leaves the person as signed out as one that is.
func (p *portal) backFrom(w http.ResponseWriter, r *http.Request, v *visit, state string) error {
	provider, to, ours := p.readState(v, state)
	if !ours {
		p.pages.SignedOut(w, r, page.SignedOut{Again: p.signInURL("/")})
		return nil
	}
	if to != "/" {
		return p.redirect(w, to)
	}
	p.pages.SignedOut(w, r, page.SignedOut{Again: p.signInURL("/"), Provider: p.labelOf(provider), AtProvider: true})
	return nil
}

func (p *portal) readState(v *visit, state string) (provider, to string, ours bool) {
	house, err := p.gate.app.door.enter()
	if err != nil {
		return "", "", false
	}
	text, tag, _ := strings.Cut(state, ".")
	encoding := base64.RawURLEncoding.Strict()
	said, err1 := encoding.DecodeString(text)
	mark, err2 := encoding.DecodeString(tag)
	if errors.Join(err1, err2) != nil || !house.ring.Tagged("signed out\x00"+v.scope, string(said), mark) {
		return "", "", false
	}
	provider, to, _ = strings.Cut(string(said), " ")
	return provider, p.wanted(to), true
}

// dropAll deletes our cookies, but for what only says who was here.
func (p *portal) dropAll(w http.ResponseWriter, v *visit) {
	v.drop(w, v.base)
	for _, c := range v.pending {
		if c.Name != v.last() && c.Name != v.friends() {
			v.drop(w, c.Name)
		}
	}
}

// isSameOrigin reports whether one of our own pages sent this form. A browser
// that says nothing of where it comes from is not believed.
func (p *portal) isSameOrigin(r *http.Request, v *visit) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		return false
	}
	from := r.Header["Origin"]
	if len(from) == 0 {
		return r.Header.Get("Sec-Fetch-Site") == "same-origin"
	}
	return len(from) == 1 && from[0] == v.origin.String()
}
