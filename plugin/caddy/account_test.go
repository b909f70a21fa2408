package main_test

import (
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
	"github.com/caddy-login/caddy-login/module/logintest/inbox"
)

// lookedAfter are two sites whose people look after their accounts themselves,
// with two providers and codes by mail.
const lookedAfter = `
{
	debug
	login {
		oidc op site {env.OP_SECRET} {
			issuer {$ISSUER}
			label "Our People"
			groups groups
			tokens keep
		}
		oidc club site {env.OP_SECRET} {
			issuer {$CLUB}
			label "The Club"
		}
		email
		mail smtp {$SMTP} {
			tls_ca {file.{$SMTP_CA}}
		}
	}
}
https://app.test:{$PORT} {
	log
	login {
		allow /public/* anyone
		allow users
		pages {
			title "Ada's wiki"
		}
	}
	reverse_proxy {$APP}
}
https://other.test:{$PORT} {
	log
	login {
		allow / group:maths
		allow users
	}
	reverse_proxy {$APP}
}
`

// accounts is that stage.
type accounts struct {
	*mailed
	op, club *siege
	revoked  *revoked
	letters  []inbox.Mail
}

// revoked is a provider's revocation endpoint (RFC 7009).
type revoked struct {
	*httptest.Server
	mu     sync.Mutex
	tokens []string
}

func newRevoked(t *testing.T) *revoked {
	t.Helper()
	v := &revoked{}
	v.Server = httptest.NewServer(v)
	t.Cleanup(v.Close)
	return v
}

func (v *revoked) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.tokens = append(v.tokens, r.PostFormValue("token"))
}

// seen is what was revoked, each once.
func (v *revoked) seen() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Compact(slices.Sorted(slices.Values(v.tokens)))
}

// playAccounts starts everything. Ada and Grace are known at both providers.
func playAccounts(t *testing.T, caddyfile string) *accounts {
	t.Helper()
	base := &stage{Caddy: e2e.NewCaddy(t, e2e.Build(t)), app: e2e.NewApp(t)}
	s := &accounts{
		mailed: &mailed{stage: base, box: inbox.New(t)}, revoked: newRevoked(t),
		op: &siege{stage: base, issuer: logintest.NewIssuer(t)}, club: &siege{stage: base, issuer: logintest.NewIssuer(t)},
	}
	s.site, s.other = fmt.Sprintf("https://app.test:%d", s.Port), fmt.Sprintf("https://other.test:%d", s.Port)
	for name, at := range map[string]*siege{"op": s.op, "club": s.club} {
		at.issuer.Client("site", strongSecret, s.site+"/.login/"+name+"/callback", s.other+"/.login/"+name+"/callback")
		at.always(logintest.Faults{
			Discovery: func(doc map[string]any) { doc["revocation_endpoint"] = s.revoked.URL },
			Token: func(answer map[string]any) {
				refresh, _ := answer["refresh_token"].(string)
				at.keep(refresh)
			},
		})
	}
	s.op.issuer.Person(logintest.Person{Subject: "ada", Email: "ada@example.com", EmailVerified: true, Name: "Ada Lovelace", Groups: []string{"staff", "maths"}})
	s.op.issuer.Person(logintest.Person{Subject: "ada2", Email: "ada.two@example.com", EmailVerified: true, Name: "Ada at work"})
	s.op.issuer.Person(logintest.Person{Subject: "grace", Email: "grace@example.com", EmailVerified: true, Name: "Grace Hopper"})
	s.club.issuer.Person(logintest.Person{Subject: "lady", Email: "lady@club.example", EmailVerified: true, Name: "Lady Lovelace"})
	s.Env["APP"], s.Env["SMTP"], s.Env["SMTP_CA"] = s.app.Addr, s.box.Addr, s.box.CAFile
	s.Env["ISSUER"], s.Env["CLUB"], s.Env["OP_SECRET"] = s.op.issuer.Issuer, s.club.issuer.Issuer, strongSecret
	s.Start(caddyfile)
	t.Cleanup(func() { s.LogKeepsSecret(append(s.op.known(), s.club.known()...)...) })
	return s
}

// arrive signs in at a site, and returns where that ends.
func (s *accounts) arrive(t *testing.T, v *e2e.Visitor, site, provider, subject string) e2e.Answer {
	t.Helper()
	begun := v.Get(site + "/.login/" + provider + "?return=%2Fpublic%2Fin")
	mustBe(t, begun, http.StatusFound)
	return s.comeBack(t, v, begun.Header.Get("Location"), subject)
}

// comeBack says at a provider who it is, and returns where that ends.
func (s *accounts) comeBack(t *testing.T, v *e2e.Visitor, authURL, subject string) e2e.Answer {
	t.Helper()
	callback, _, err := pick(authURL, subject)
	if err != nil {
		t.Fatal(err)
	}
	got := v.Follow(callback)
	s.op.keep(secretValues(v.Cookies(s.site))...)
	return got
}

// known is a new browser in which somebody has signed in at the first site.
func (s *accounts) known(t *testing.T, provider, subject string) *e2e.Visitor {
	t.Helper()
	v := e2e.NewVisitor(t)
	mustBe(t, s.arrive(t, v, s.site, provider, subject), http.StatusOK)
	if v.Cookie(s.site, cookieName) == "" {
		t.Fatalf("%s signed in and got no cookie", subject)
	}
	return v
}

// form is a form of a site's own page, as its browser sends it.
func (s *accounts) form(v *e2e.Visitor, site, path string, pairs ...string) *http.Request {
	fields := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		fields.Add(pairs[i], pairs[i+1])
	}
	r := v.Request(http.MethodPost, site+"/.login"+path, fields.Encode())
	r.Header.Set("Content-Type", formType)
	r.Header.Set("Origin", site)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.Header.Set("Accept", "text/html")
	return r
}

// act posts a form of the account page.
func (s *accounts) act(t *testing.T, v *e2e.Visitor, pairs ...string) e2e.Answer {
	t.Helper()
	return v.Do(s.form(v, s.site, "/account", pairs...))
}

// change is act for what must be done, under a new session id.
func (s *accounts) change(t *testing.T, v *e2e.Visitor, done string, pairs ...string) {
	t.Helper()
	old := v.Cookie(s.site, cookieName)
	got := s.act(t, v, pairs...)
	mustBe(t, got, http.StatusSeeOther)
	if to := got.Header.Get("Location"); to != "/.login/account?done="+done {
		t.Fatalf("%v leads to %s", pairs, to)
	}
	s.wantNewID(t, v, old)
	mustBe(t, v.FollowOn(got), http.StatusOK)
}

func (s *accounts) wantNewID(t *testing.T, v *e2e.Visitor, old string) {
	t.Helper()
	if now := v.Cookie(s.site, cookieName); now == "" || now == old {
		t.Error("the change gave the session no new id")
	}
	if s.isIn(replay(v, s.site, old)) {
		t.Error("the id of before the change still signs in")
	}
	s.op.keep(old)
}

// seenBy is what the app is told of a visitor who asks a site for a page.
func (s *accounts) seenBy(t *testing.T, v *e2e.Visitor, site string) e2e.Request {
	t.Helper()
	s.app.Forget()
	mustBe(t, v.Get(site+"/public/in"), http.StatusOK)
	return s.app.Last()
}

// letter is the next mail to an address with this in its subject; others are
// kept for later.
func (s *accounts) letter(t *testing.T, to, subject string) inbox.Mail {
	t.Helper()
	for at := 0; ; at++ {
		if at == len(s.letters) {
			s.letters = append(s.letters, s.box.Next(e2e.Patience))
			s.wantNoStranger(t, s.letters[at])
		}
		if m := s.letters[at]; slices.Equal(m.To, []string{to}) && strings.Contains(m.Subject, subject) {
			s.letters = slices.Delete(s.letters, at, at+1)
			return m
		}
	}
}

var links = regexp.MustCompile(`https?://[^\s<>"]+`)

// wantNoStranger checks that a mail leads nowhere but to our sites.
func (s *accounts) wantNoStranger(t *testing.T, m inbox.Mail) {
	t.Helper()
	for _, link := range links.FindAllString(m.Text+" "+html.UnescapeString(m.HTML), -1) {
		if !strings.HasPrefix(link, s.site+"/.login/") && !strings.HasPrefix(link, s.other+"/.login/") {
			t.Errorf("%q leads to %s", m.Subject, link)
		}
	}
	if m.Header.Get("Auto-Submitted") != "auto-generated" {
		t.Errorf("%q is not marked as ours: %v", m.Subject, m.Header)
	}
}

// prove adds an address to who is signed in, with the code that is mailed to it.
func (s *accounts) prove(t *testing.T, v *e2e.Visitor, address string) e2e.Answer {
	t.Helper()
	waiting := v.FollowOn(s.act(t, v, "do", "add", "address", address))
	mustBe(t, waiting, http.StatusOK)
	code := s.letter(t, strings.ToLower(address), "code").Code()
	return v.Submit(waiting, "code", code)
}

var keys = regexp.MustCompile(`name="(key|session)" value="([^"]+)"`)

// hiddenOn are the values of a hidden field on a page.
func hiddenOn(page e2e.Answer, name string) (values []string) {
	for _, match := range keys.FindAllStringSubmatch(page.Body, -1) {
		if match[1] == name {
			values = append(values, html.UnescapeString(match[2]))
		}
	}
	return values
}

func (s *accounts) page(t *testing.T, v *e2e.Visitor) e2e.Answer {
	t.Helper()
	got := v.Get(s.site + "/.login/account")
	mustBe(t, got, http.StatusOK)
	return got
}

func wantOn(t *testing.T, page e2e.Answer, texts ...string) {
	t.Helper()
	body := html.UnescapeString(page.Body)
	for _, text := range texts {
		if !strings.Contains(body, text) {
			t.Errorf("no %q on %s:\n%.6000s", text, page.Request.URL, body)
		}
	}
}

func TestNameChosenHereStaysWhateverTheProviderSays(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	ada, elsewhere := s.known(t, "op", "ada"), e2e.NewVisitor(t)
	mustBe(t, s.arrive(t, elsewhere, s.other, "op", "ada"), http.StatusOK)
	if name := s.seenBy(t, elsewhere, s.other).Value("Remote-Name"); name != "Ada Lovelace" {
		t.Fatalf("the app is told the name %q", name)
	}
	s.change(t, ada, "renamed", "do", "rename", "name", "  Augusta Ada King ")
	if name := s.seenBy(t, ada, s.site).Value("Remote-Name"); name != "Augusta Ada King" {
		t.Errorf("the next request has the name %q", name)
	}
	s.app.Forget()
	mustBe(t, elsewhere.Get(s.other+"/in"), http.StatusOK)
	if name := s.app.Last().Value("Remote-Name"); name != "Augusta Ada King" {
		t.Errorf("her session at the other site has the name %q", name)
	}
	if name := s.seenBy(t, s.known(t, "op", "ada"), s.site).Value("Remote-Name"); name != "Augusta Ada King" {
		t.Errorf("after the next sign-in the name is %q", name)
	}
	for _, bad := range []string{"two\nlines", strings.Repeat("x", 101), "right\u202eto left", "\x00"} {
		got := s.act(t, ada, "do", "rename", "name", bad)
		mustBe(t, got, http.StatusUnprocessableEntity)
		wantOn(t, got, "This name can’t be used")
	}
}

func TestAddressIsAddedMadePrimaryAndRemoved(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	ada, phone := s.known(t, "op", "ada"), s.known(t, "op", "ada")
	user := s.seenBy(t, ada, s.site).Value("Remote-User")
	// By the code.
	old := ada.Cookie(s.site, cookieName)
	added := s.prove(t, ada, "Ada@New.example")
	if to := added.Header.Get("Location"); added.StatusCode != http.StatusSeeOther || to != "/.login/account?done=added" {
		t.Fatalf("the code leads to %d %s", added.StatusCode, to)
	}
	s.wantNewID(t, ada, old)
	told := s.letter(t, "ada@example.com", "address was added")
	if strings.Contains(told.Text+told.HTML, "ada@new.example") {
		t.Errorf("the mail has a word of whoever added the address:\n%s", told.Text)
	}
	if !s.isIn(phone) {
		t.Error("another address ended a session: it is not the first proof")
	}
	// By the link, in the same browser.
	waiting := ada.FollowOn(s.act(t, ada, "do", "add", "address", "third@new.example"))
	mustBe(t, waiting, http.StatusOK)
	landing := ada.Get(s.letter(t, "third@new.example", "code").Link())
	mustBe(t, landing, http.StatusOK)
	mustBe(t, ada.FollowOn(ada.SubmitAll(landing)), http.StatusOK)
	wantOn(t, s.page(t, ada), "ada@example.com", "ada@new.example", "third@new.example")

	s.change(t, ada, "primary", "do", "primary", "address", "ada@new.example")
	if got := s.seenBy(t, ada, s.site); got.Value("Remote-Email") != "ada@new.example" || got.Value("Remote-User") != user {
		t.Errorf("the app is told\n%s", got.Raw)
	}
	if s.isIn(phone) {
		t.Error("a session of before the change lives")
	}
	for _, to := range []string{"ada@example.com", "ada@new.example", "third@new.example"} {
		s.letter(t, to, "main address was changed")
	}
	// A provider's word does not move it back, and a code to either signs in.
	if got := s.seenBy(t, s.known(t, "op", "ada"), s.site).Value("Remote-Email"); got != "ada@new.example" {
		t.Errorf("after the next sign-in the address is %q", got)
	}
	s.change(t, ada, "removed", "do", "remove", "address", "ada@example.com")
	gone := s.letter(t, "ada@example.com", "address was removed")
	if !strings.Contains(gone.Text, "/account/revert?t=") || !strings.Contains(gone.Text, "ada@example.com") {
		t.Errorf("the removed address is told\n%s", gone.Text)
	}
	for _, stranger := range []string{"ada@example.com", "nobody@example.com", "grace@example.com", "a@b", "@", "", strings.Repeat("a", 7000), "x/y@z", "\xff@\x00."} {
		for _, do := range []string{"remove", "primary"} {
			mustBe(t, s.act(t, ada, "do", do, "address", stranger), http.StatusUnprocessableEntity)
		}
	}
}

func TestLastWayInStays(t *testing.T) {
	s := playAccounts(t, strings.Replace(lookedAfter, "\t\temail\n", "", 1))
	ada := s.known(t, "op", "ada")
	page := s.page(t, ada)
	wantOn(t, page, "it is your only way to sign in")
	if all := hiddenOn(page, "key"); len(all) != 0 {
		t.Errorf("the page offers to disconnect %q", all)
	}
	user := s.idOf(t, "ada@example.com")
	var known file
	s.operator(t, http.MethodGet, "users/"+user, "").into(t, &known)
	mustBe(t, s.prove(t, ada, "two@new.example"), http.StatusSeeOther)
	s.change(t, ada, "removed", "do", "remove", "address", "ada@example.com")
	s.change(t, ada, "removed", "do", "remove", "address", "two@new.example")
	if email := s.seenBy(t, ada, s.site).Values("Remote-Email"); len(email) != 0 {
		t.Errorf("the app is told %q of who has no address", email)
	}
	// The account is what remains, also for who writes the form by hand.
	key := s.keyOf(t, known, "op", "ada")
	got := s.act(t, ada, "do", "unlink", "key", key)
	mustBe(t, got, http.StatusUnprocessableEntity)
	wantOn(t, got, "you could no longer sign in")
	if !s.isIn(ada) {
		t.Error("what was refused ended the session")
	}
}

// keyOf is what the account page calls an account.
func (s *accounts) keyOf(t *testing.T, of file, provider, subject string) string {
	t.Helper()
	for _, a := range of.Accounts {
		if a.Provider == provider && a.Subject == subject {
			linked := identity.Identity{Provider: a.Provider, Issuer: a.Issuer, Subject: a.Subject}
			return base64.RawURLEncoding.EncodeToString([]byte(linked.Key()))
		}
	}
	t.Fatalf("no account of %s at %s: %+v", subject, provider, of.Accounts)
	return ""
}

func TestSomebodyElsesAddressIsSaidOnlyAfterTheProof(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	s.known(t, "op", "grace")
	ada := s.known(t, "op", "ada")
	held := ada.FollowOn(s.act(t, ada, "do", "add", "address", "grace@example.com"))
	free := ada.FollowOn(s.act(t, ada, "do", "add", "address", "frida@example.com"))
	same := func(a e2e.Answer, address string) string {
		return question.ReplaceAllString(strings.ReplaceAll(shape(a), address, "ADDRESS"), "ASK")
	}
	if same(held, "grace@example.com") != same(free, "frida@example.com") {
		t.Errorf("who holds an address can be found out:\n%s\n%s", held.Body, free.Body)
	}
	old := ada.Cookie(s.site, cookieName)
	waiting := ada.FollowOn(s.act(t, ada, "do", "add", "address", "grace@example.com"))
	var code string
	for range 2 { // one for each time it was asked for
		code = s.letter(t, "grace@example.com", "code").Code()
	}
	got := ada.Submit(waiting, "code", code)
	mustBe(t, got, http.StatusUnprocessableEntity)
	wantOn(t, got, "Somebody else here already has this address.")
	if ada.Cookie(s.site, cookieName) != old || !s.isIn(ada) {
		t.Error("what was refused changed the session")
	}
	if email := s.seenBy(t, s.known(t, "op", "grace"), s.site).Value("Remote-Email"); email != "grace@example.com" {
		t.Errorf("Grace is %q", email)
	}
}

// The link in a notice undoes a change, whatever came after it, once.
func TestLinkOfANoticeTakesTheChangeBack(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	thief := s.known(t, "op", "ada") // somebody at her computer
	mustBe(t, s.prove(t, thief, "thief@evil.example"), http.StatusSeeOther)
	link := revertLink(t, s.letter(t, "ada@example.com", "address was added"))
	s.change(t, thief, "primary", "do", "primary", "address", "thief@evil.example")
	later := revertLink(t, s.letter(t, "ada@example.com", "main address"))
	// The thief's own address is told, too, and gets no link.
	if m := s.letter(t, "thief@evil.example", "main address"); strings.Contains(m.Text+m.HTML, "/account/revert") {
		t.Error("the thief may take back what the owner does")
	}
	s.change(t, thief, "removed", "do", "remove", "address", "ada@example.com")
	if !strings.HasPrefix(link, s.site+"/.login/account/revert?t=") {
		t.Fatalf("the link is %s", link)
	}
	s.op.keep(tokenIn(t, link), tokenIn(t, later))

	ada := e2e.NewVisitor(t)
	for range 3 { // a scanner
		page := ada.Get(link)
		mustBe(t, page, http.StatusOK)
		if policy := page.Header.Get("Referrer-Policy"); policy != "no-referrer" && policy != "same-origin" && policy != "strict-origin" && policy != "origin" {
			t.Errorf("the link leaks as Referer: policy %q", policy)
		}
	}
	if !s.isIn(thief) {
		t.Error("a GET changed something")
	}
	mustBe(t, ada.SubmitAll(ada.Get(link)), http.StatusOK)
	if s.isIn(thief) {
		t.Error("whoever made the change is still in")
	}
	wantErrorPage(t, ada.Get(link))
	wantErrorPage(t, ada.Do(s.form(ada, s.site, "/account/revert", "token", tokenIn(t, link))))
	s.letter(t, "ada@example.com", "was taken back")
	ada = s.known(t, "op", "ada")
	if email := s.seenBy(t, ada, s.site).Value("Remote-Email"); email != "ada@example.com" {
		t.Errorf("her address is %q", email)
	}
	// The link of a later change leads to before a change that was never hers.
	stale := e2e.NewVisitor(t)
	wantErrorPage(t, stale.Do(s.form(stale, s.site, "/account/revert", "token", tokenIn(t, later))))
	if body := s.page(t, ada).Body; strings.Contains(body, "thief@evil.example") {
		t.Error("the thief's address is back")
	}
}

// The address that was removed can be had back, unless somebody else has proven it
// since.
// Who got into an account may connect one of their own before anything else.
func TestConnectionIsTakenBackByTheLinkOfItsMail(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	ada := s.known(t, "op", "ada")
	asked := s.connect(t, ada, "club", "lady")
	mustBe(t, ada.Do(s.form(ada, s.site, "/confirm", "ask", question.FindStringSubmatch(asked.Body)[1], "do", "link")), http.StatusSeeOther)
	link := revertLink(t, s.letter(t, "ada@example.com", "account was connected"))
	s.op.keep(tokenIn(t, link))
	page := e2e.NewVisitor(t).Get(link)
	mustBe(t, page, http.StatusOK)
	wantOn(t, page, "An account was connected to yours")

	reader := e2e.NewVisitor(t)
	mustBe(t, reader.Do(s.form(reader, s.site, "/account/revert", "token", tokenIn(t, link))), http.StatusOK)
	if s.isIn(ada) {
		t.Error("the session that connected it lives on")
	}
	var known file
	s.operator(t, http.MethodGet, "users/"+s.idOf(t, "ada@example.com"), "").into(t, &known)
	for _, account := range known.Accounts {
		if account.Subject == "lady" {
			t.Error("the account still signs in as Ada")
		}
	}
}

func TestRemovedAddressComesBackToItsReader(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	ada := s.known(t, "op", "ada")
	user := s.seenBy(t, ada, s.site).Value("Remote-User")
	for _, address := range []string{"second@new.example", "third@new.example"} {
		mustBe(t, s.prove(t, ada, address), http.StatusSeeOther)
	}
	s.change(t, ada, "removed", "do", "remove", "address", "third@new.example")
	// Who is new is told, too, and gets no link: it may be a thief who is sent away.
	if m := s.letter(t, "third@new.example", "address was removed"); strings.Contains(m.Text+m.HTML, "/account/revert") {
		t.Error("an address that came a moment ago may bring itself back")
	}
	lost := revertLink(t, s.letter(t, "ada@example.com", "address was removed"))
	s.change(t, ada, "removed", "do", "remove", "address", "ada@example.com")
	if email := s.seenBy(t, ada, s.site).Value("Remote-Email"); email != "second@new.example" {
		t.Errorf("after the primary address the app is told %q", email)
	}
	link := revertLink(t, s.letter(t, "ada@example.com", "address was removed"))
	reader := e2e.NewVisitor(t)
	mustBe(t, reader.SubmitAll(reader.Get(link)), http.StatusOK)
	ada = s.known(t, "op", "ada")
	if got := s.seenBy(t, ada, s.site); got.Value("Remote-Email") != "ada@example.com" || got.Value("Remote-User") != user {
		t.Errorf("the app is told\n%s", got.Raw)
	}
	grace := s.known(t, "op", "grace")
	mustBe(t, s.prove(t, grace, "third@new.example"), http.StatusSeeOther)
	mustBe(t, reader.SubmitAll(reader.Get(lost)), http.StatusOK)
	if body := s.page(t, s.known(t, "op", "ada")).Body; strings.Contains(body, "third@new.example") {
		t.Error("the address that is Grace's by now went back to Ada")
	}
	wantOn(t, s.page(t, grace), "third@new.example")
}

// Who is told of a sign-in by a browser that is new to them, and who is not.
func TestNewBrowserIsToldOnce(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	ada := s.known(t, "op", "ada")
	mustBe(t, s.prove(t, ada, "second@new.example"), http.StatusSeeOther)
	phone := s.known(t, "op", "ada")
	for _, to := range []string{"ada@example.com", "second@new.example"} {
		told := s.letter(t, to, "New sign-in to your account")
		if !strings.Contains(told.Text, s.site+"/.login/account") {
			t.Errorf("the mail does not say where to look:\n%s", told.Text)
		}
	}
	// The same browsers again, one of them after the primary address is another.
	s.change(t, ada, "primary", "do", "primary", "address", "second@new.example")
	mustBe(t, s.act(t, ada, "do", "end", "session", "x"), http.StatusUnprocessableEntity)
	mustBe(t, ada.Do(s.form(ada, s.site, "/logout")), http.StatusOK)
	mustBe(t, s.arrive(t, ada, s.site, "op", "ada"), http.StatusOK)
	mustBe(t, s.prove(t, ada, "third@new.example"), http.StatusSeeOther)
	s.letter(t, "second@new.example", "address was added")
	for _, letter := range s.letters {
		if strings.Contains(letter.Subject, "New sign-in") {
			t.Errorf("told %s of a browser that is not new", letter.To)
		}
	}
	if s.isIn(phone) {
		t.Error("the phone outlived the change of address")
	}
}

var reverts = regexp.MustCompile(`https://\S+/account/revert\?t=\S+`)

func revertLink(t *testing.T, m inbox.Mail) string {
	t.Helper()
	link := reverts.FindString(m.Text)
	if link == "" {
		t.Fatalf("no link that takes it back:\n%s", m.Text)
	}
	return link
}

func tokenIn(t *testing.T, link string) string {
	t.Helper()
	u, err := url.Parse(link)
	if err != nil || u.Query().Get("t") == "" {
		t.Fatalf("no token in %s: %v", link, err)
	}
	return u.Query().Get("t")
}

// connect begins at the account page, says at the provider who it is, and
// returns where that ends.
func (s *accounts) connect(t *testing.T, v *e2e.Visitor, provider, subject string) e2e.Answer {
	t.Helper()
	return s.comeBack(t, v, bounced(t, s.act(t, v, "do", "connect", "provider", provider)), subject)
}

// bounced is where a page sends the browser.
func bounced(t *testing.T, page e2e.Answer) string {
	t.Helper()
	mustBe(t, page, http.StatusOK)
	match := onward.FindStringSubmatch(page.Body)
	if match == nil {
		t.Fatalf("no way on:\n%s", page.Body)
	}
	return html.UnescapeString(match[1])
}

func TestAccountsAreConnectedAndDisconnected(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	ada := s.known(t, "op", "ada")
	user := s.seenBy(t, ada, s.site).Value("Remote-User")
	for _, account := range [][2]string{{"club", "lady"}, {"op", "ada2"}} {
		old := ada.Cookie(s.site, cookieName)
		asked := s.connect(t, ada, account[0], account[1])
		wantOn(t, asked, "ada@example.com")
		linked := ada.Do(s.form(ada, s.site, "/confirm", "ask", question.FindStringSubmatch(asked.Body)[1], "do", "link"))
		mustBe(t, linked, http.StatusSeeOther)
		s.wantNewID(t, ada, old)
		wantOn(t, ada.FollowOn(linked), "The account is connected.")
		s.letter(t, "ada@example.com", "account was connected")
	}
	wantOn(t, s.connect(t, ada, "club", "lady"), "connected already")
	// Each of them is her.
	lady, phone := s.known(t, "club", "lady"), s.known(t, "op", "ada")
	for _, v := range []*e2e.Visitor{lady, s.known(t, "op", "ada2")} {
		if got := s.seenBy(t, v, s.site).Value("Remote-User"); got != user {
			t.Errorf("the user is %q, not %q", got, user)
		}
	}
	// Nobody else can connect it.
	grace := s.known(t, "op", "grace")
	mustBe(t, s.connect(t, grace, "club", "lady"), http.StatusConflict)
	if got := s.seenBy(t, grace, s.site).Value("Remote-Email"); got != "grace@example.com" {
		t.Errorf("trying made Grace %q", got)
	}
	var known file
	s.operator(t, http.MethodGet, "users/"+user, "").into(t, &known)
	club := s.keyOf(t, known, "club", "lady")
	mustBe(t, s.act(t, grace, "do", "unlink", "key", club), http.StatusUnprocessableEntity)
	// Disconnected, it is nobody's: its sessions end, its grants are revoked.
	s.change(t, ada, "unlinked", "do", "unlink", "key", s.keyOf(t, known, "op", "ada2"))
	s.letter(t, "ada@example.com", "account was disconnected")
	if !s.isIn(lady) {
		t.Error("the session of another account ended")
	}
	// The one that this session came in by: signed out, and told so.
	old := lady.Cookie(s.site, cookieName)
	got := s.act(t, lady, "do", "unlink", "key", club)
	mustBe(t, got, http.StatusSeeOther)
	wantOn(t, lady.FollowOn(got), "signed out")
	if s.isIn(lady) || s.isIn(replay(lady, s.site, old)) || lady.Cookie(s.site, cookieName) != "" {
		t.Error("a session of the disconnected account lives")
	}
	// Its address was proven and is still hers: the account alone opens nothing.
	wantOn(t, s.arrive(t, lady, s.site, "club", "lady"), "lady@club.example")
	if s.isIn(lady) {
		t.Error("the disconnected account still signs in")
	}
	// What was kept of the provider's is revoked there, at the latest by the next
	// Caddy that runs.
	s.Stop()
	s.Restart()
	e2e.Eventually(t, 20*time.Second, "the grant to be revoked", func() bool { return len(s.revoked.seen()) == 1 })
	if !s.isIn(phone) {
		t.Error("the session of another account ended with it")
	}
}

func TestSessionsAreEndedOneByOneAndAllOthersAtOnce(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	ada, phone := s.known(t, "op", "ada"), s.known(t, "op", "ada")
	elsewhere := e2e.NewVisitor(t)
	mustBe(t, s.arrive(t, elsewhere, s.other, "op", "ada"), http.StatusOK)
	page := s.page(t, ada)
	wantOn(t, page, "app.test", "other.test", "This browser")
	handles := hiddenOn(page, "session")
	if len(slices.Compact(slices.Sorted(slices.Values(handles)))) < 2 {
		t.Fatalf("the page lists the sessions %q", handles)
	}
	// Of others one can't end any.
	grace := s.known(t, "op", "grace")
	for _, handle := range append(handles, "", "x", strings.Repeat("a", 16)) {
		mustBe(t, s.act(t, grace, "do", "end", "session", handle), http.StatusUnprocessableEntity)
	}
	conn, _ := s.dial(t, s.site, phone.Cookies(s.site))
	if conn == nil {
		t.Fatal("no WebSocket")
	}
	echoes(t, conn)
	var known file
	s.operator(t, http.MethodGet, "users/"+s.idOf(t, "ada@example.com"), "").into(t, &known)
	for _, session := range known.Sessions {
		if session.Scope == "other.test" {
			s.change(t, ada, "ended", "do", "end", "session", session.Handle)
		}
	}
	if mustIn := elsewhere.Get(s.other + "/in"); mustIn.StatusCode != http.StatusFound || !s.isIn(phone) {
		t.Errorf("the ended session at the other site gets %d; the phone is in: %t", mustIn.StatusCode, s.isIn(phone))
	}
	thief := replay(ada, s.site, ada.Cookie(s.site, cookieName))
	s.change(t, ada, "ended_others", "do", "end_others")
	if s.isIn(phone) || s.isIn(thief) || !s.isIn(ada) || !s.isIn(grace) {
		t.Errorf("in after that: the phone %t, a copy of the cookie %t, she %t, Grace %t", s.isIn(phone), s.isIn(thief), s.isIn(ada), s.isIn(grace))
	}
	mustClose(t, conn)
	for range 2 {
		s.letter(t, "ada@example.com", "You were signed out")
	}
	// Her own is ended by signing out.
	s.operator(t, http.MethodGet, "users/"+known.User.ID, "").into(t, &known)
	got := s.act(t, ada, "do", "end", "session", known.Sessions[0].Handle)
	if to := got.Header.Get("Location"); got.StatusCode != http.StatusSeeOther || to != "/.login/logout" {
		t.Errorf("ending this very session leads to %d %s", got.StatusCode, to)
	}
}

func TestActivityAsAListAndForASpreadsheet(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	ada := s.known(t, "op", "ada")
	for n := range 52 {
		mustBe(t, s.act(t, ada, "do", "rename", "name", fmt.Sprintf("Ada %d", n)), http.StatusSeeOther)
	}
	first := ada.Get(s.site + "/.login/account/activity")
	mustBe(t, first, http.StatusOK)
	older := regexp.MustCompile(`href="([^"]*after=[^"]+)"`).FindStringSubmatch(first.Body)
	if older == nil || strings.Count(first.Body, "Name changed") != 50 {
		t.Fatalf("the first page has %d entries:\n%.3000s", strings.Count(first.Body, "Name changed"), first.Body)
	}
	second := ada.Get(s.site + html.UnescapeString(older[1]))
	mustBe(t, second, http.StatusOK)
	wantOn(t, second, "Signed in")
	for _, after := range []string{"x", "../../x", strings.Repeat("0", 4000)} {
		mustBe(t, ada.Get(s.site+"/.login/account/activity?after="+url.QueryEscape(after)), http.StatusBadRequest)
	}
	// A browser that calls itself a formula.
	r := ada.Navigation(s.site + "/.login/op?return=%2Fpublic%2Fin")
	r.Header.Set("User-Agent", `=HYPERLINK("https://evil.example";"x")`)
	callback, _, err := pick(ada.To(ada.Do(r)), "ada")
	if err != nil {
		t.Fatal(err)
	}
	back := ada.Navigation(callback)
	back.Header.Set("User-Agent", `=HYPERLINK("https://evil.example";"x")`)
	mustBe(t, ada.FollowOn(ada.Do(back)), http.StatusOK)
	sheet := ada.Get(s.site + "/.login/account/activity.csv")
	mustBe(t, sheet, http.StatusOK)
	rows, err := csv.NewReader(strings.NewReader(sheet.Body)).ReadAll()
	if err != nil || len(rows) != 1+54 {
		t.Fatalf("%d rows: %v", len(rows), err)
	}
	for _, row := range rows {
		for _, cell := range row {
			if strings.ContainsAny(cell[:min(len(cell), 1)], "=+-@\t\r") {
				t.Errorf("a cell begins a formula: %q", cell)
			}
		}
	}
	if kind := sheet.Header.Get("Content-Disposition"); !strings.HasPrefix(kind, "attachment") {
		t.Errorf("Content-Disposition is %q", kind)
	}
	s.seenByNobodyElse(t)
}

// seenByNobodyElse checks that the pages of an account are for who is signed in.
func (s *accounts) seenByNobodyElse(t *testing.T) {
	t.Helper()
	stranger := e2e.NewVisitor(t)
	for _, path := range []string{"", "/activity", "/activity.csv", "/download", "/delete", "/again"} {
		got := stranger.Get(s.site + "/.login/account" + path)
		mustBe(t, got, http.StatusSeeOther)
		if to := got.Header.Get("Location"); to != "/.login/?return=%2F.login%2Faccount" {
			t.Errorf("%s leads to %s", path, to)
		}
	}
}

func TestDownloadHasAllAndOpensNothing(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	ada := s.known(t, "op", "ada")
	mustBe(t, s.prove(t, ada, "ada@new.example"), http.StatusSeeOther)
	undo := tokenIn(t, revertLink(t, s.letter(t, "ada@example.com", "address was added")))
	got := ada.Get(s.site + "/.login/account/download")
	mustBe(t, got, http.StatusOK)
	var data struct {
		ID, Name            string
		Addresses, Accounts []map[string]any
		Sessions, Activity  []map[string]any
	}
	if err := json.Unmarshal([]byte(got.Body), &data); err != nil {
		t.Fatal(err)
	}
	if data.ID == "" || data.Name != "Ada Lovelace" || len(data.Addresses) != 2 || len(data.Accounts) < 1 || len(data.Sessions) != 1 || len(data.Activity) < 2 {
		t.Errorf("the download lacks something:\n%s", got.Body)
	}
	if kind := got.Header.Get("Content-Disposition") + got.Header.Get("Cache-Control"); !strings.HasPrefix(kind, "attachment") || !strings.HasSuffix(kind, "no-store") {
		t.Errorf("the download is %q", kind)
	}
	secrets := append(s.op.known(), undo)
	secrets = append(secrets, secretValues(ada.Cookies(s.site))...)
	for _, secret := range secrets {
		if len(secret) > 8 && strings.Contains(got.Body, secret) {
			t.Errorf("the download has the secret %.8s…", secret)
		}
	}
}

func TestAppsAreThoseThatThePersonMayOpen(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	ada, grace := s.known(t, "op", "ada"), s.known(t, "op", "grace")
	elsewhere := e2e.NewVisitor(t)
	mustBe(t, s.arrive(t, elsewhere, s.other, "op", "grace"), http.StatusOK)
	opens := func(v *e2e.Visitor) bool { return strings.Contains(s.page(t, v).Body, `href="`+s.other+`/"`) }
	wantOn(t, s.page(t, grace), "Ada's wiki", `href="`+s.site+`/"`)
	if !opens(ada) || opens(grace) {
		t.Fatalf("the other site is shown to Ada: %t, to Grace: %t", opens(ada), opens(grace))
	}
	id := s.idOf(t, "grace@example.com")
	if got := s.operator(t, http.MethodPut, "users/"+id+"/groups", `{"add":["maths"]}`); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if !opens(grace) {
		t.Error("a new group opens nothing on the next request")
	}
	for site, v := range map[string]*e2e.Visitor{s.site: grace, s.other: elsewhere} {
		if groups := s.seenBy(t, v, site).Value("Remote-Groups"); !strings.Contains(groups, "maths") {
			t.Errorf("%s is told the groups %q", site, groups)
		}
	}
	if got := s.operator(t, http.MethodPut, "users/"+id+"/groups", `{"remove":["maths"]}`); got.status != http.StatusOK || opens(grace) {
		t.Errorf("a group that was taken still opens: %d", got.status)
	}
}

// stale has the next sign-in there be an hour old.
func stale(at *siege) {
	at.issuer.NextLogin(logintest.Set("auth_time", time.Now().Add(-time.Hour).Unix()))
}

func TestChangesAskForASignInOfTheLastMinutes(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	stale(s.op)
	ada := s.known(t, "op", "ada")
	wantOn(t, s.page(t, ada), "you’ll be asked to sign in again")
	for _, form := range [][]string{
		{"do", "rename", "name", "x"}, {"do", "add", "address", "x@new.example"}, {"do", "primary", "address", "ada@example.com"},
		{"do", "remove", "address", "ada@example.com"}, {"do", "connect", "provider", "club"}, {"do", "unlink", "key", "x"},
		{"do", "end", "session", "x"}, {"do", "end_others"}, {"do", "nothing"},
	} {
		got := s.act(t, ada, form...)
		if to := got.Header.Get("Location"); got.StatusCode != http.StatusSeeOther || to != "/.login/account/again?return=%2F.login%2Faccount" {
			t.Errorf("%v: %d %s", form, got.StatusCode, to)
		}
	}
	for _, path := range []string{"/account/download", "/account/delete"} {
		mustBe(t, ada.Get(s.site+"/.login"+path), http.StatusSeeOther)
	}
	mustBe(t, ada.Do(s.form(ada, s.site, "/account/delete", "do", "delete", "sure", "1")), http.StatusSeeOther)
	if n := s.box.Waiting(); n != 0 {
		t.Errorf("%d mails went out", n)
	}
	again := func(subject string) e2e.Answer {
		page := ada.Get(s.site + "/.login/account/again?return=%2F.login%2Faccount%2Fdelete")
		mustBe(t, page, http.StatusOK)
		to := bounced(t, ada.Do(s.form(ada, s.site, "/account/again", "do", "again", "provider", "op", "return", "/.login/account/delete")))
		u, err := url.Parse(to)
		if err != nil || !strings.Contains(u.Query().Get("prompt"), "login") || u.Query().Get("max_age") == "" {
			t.Errorf("the provider is asked for %s", to)
		}
		return s.comeBack(t, ada, to, subject)
	}
	// Somebody else at the provider is nobody new here.
	old := ada.Cookie(s.site, cookieName)
	if got := again("grace"); got.StatusCode < 400 || ada.Cookie(s.site, cookieName) != old || !s.isIn(ada) {
		t.Errorf("as the wrong person: %d", got.StatusCode)
	}
	// A provider that asked nobody proves nothing.
	stale(s.op)
	if got := again("ada"); got.StatusCode < 400 {
		t.Errorf("with the sign-in of an hour ago: %d at %s", got.StatusCode, got.Request.URL)
	}
	mustBe(t, ada.Get(s.site+"/.login/account/delete"), http.StatusSeeOther)
	got := again("ada")
	mustBe(t, got, http.StatusOK)
	if got.Request.URL.Path != "/.login/account/delete" {
		t.Errorf("back at %s", got.Request.URL)
	}
	s.change(t, ada, "renamed", "do", "rename", "name", "Countess")

	// By a code.
	stale(s.op)
	mustBe(t, s.arrive(t, ada, s.site, "op", "ada"), http.StatusOK)
	waiting := ada.FollowOn(ada.Do(s.form(ada, s.site, "/account/again", "do", "code", "return", "https://evil.example/")))
	mustBe(t, waiting, http.StatusOK)
	old = ada.Cookie(s.site, cookieName)
	back := ada.FollowOn(ada.Submit(waiting, "code", s.letter(t, "ada@example.com", "code").Code()))
	mustBe(t, back, http.StatusOK)
	if back.Request.URL.String() != s.site+"/.login/account" {
		t.Errorf("back at %s", back.Request.URL)
	}
	s.wantNewID(t, ada, old)
	s.change(t, ada, "renamed", "do", "rename", "name", "Ada again")
}

func TestDeletionCanBeStoppedUntilItIsDone(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	ada, phone := s.known(t, "op", "ada"), s.known(t, "op", "ada")
	mustBe(t, s.prove(t, ada, "ada@new.example"), http.StatusSeeOther)
	s.change(t, ada, "renamed", "do", "rename", "name", "Countess")
	user := s.seenBy(t, ada, s.site).Value("Remote-User")
	unsure := ada.Do(s.form(ada, s.site, "/account/delete", "do", "delete"))
	mustBe(t, unsure, http.StatusUnprocessableEntity)
	conn, _ := s.dial(t, s.site, phone.Cookies(s.site))
	echoes(t, conn)
	s.deleteHer(t, ada, phone, conn)
	// Signing in asks whether to keep it, and until the answer she is nobody.
	asked := s.arrive(t, phone, s.site, "op", "ada")
	if s.isIn(phone) {
		t.Fatal("a sign-in alone stopped the deletion")
	}
	kept := phone.FollowOn(phone.Do(s.form(phone, s.site, "/confirm", "ask", question.FindStringSubmatch(asked.Body)[1], "do", "keep")))
	mustBe(t, kept, http.StatusOK)
	got := s.seenBy(t, phone, s.site)
	if got.Value("Remote-User") != user || got.Value("Remote-Email") != "ada@example.com" || got.Value("Remote-Name") != "Countess" {
		t.Errorf("she came back as\n%s", got.Raw)
	}
	wantOn(t, s.page(t, phone), "ada@new.example")
	s.letter(t, "ada@example.com", "Your account stays")
	if s.isIn(ada) {
		t.Error("the session that deleted the account lives again")
	}
}

func (s *accounts) deleteHer(t *testing.T, ada, phone *e2e.Visitor, conn *websocket.Conn) {
	t.Helper()
	old := ada.Cookie(s.site, cookieName)
	mustBe(t, ada.Get(s.site+"/.login/account/delete"), http.StatusOK)
	begun := ada.Do(s.form(ada, s.site, "/account/delete", "do", "delete", "sure", "1"))
	mustBe(t, begun, http.StatusOK)
	wantOn(t, begun, "Your account is deleted for good on")
	for name, v := range map[string]*e2e.Visitor{"she": ada, "her phone": phone, "a copy": replay(ada, s.site, old)} {
		if s.isIn(v) {
			t.Errorf("%s is still in", name)
		}
	}
	if conn != nil {
		mustClose(t, conn)
	}
	for _, to := range []string{"ada@example.com", "ada@new.example"} {
		s.letter(t, to, "will be deleted")
	}
}

// What is due is erased, and what was granted is revoked, also by a Caddy that was
// not there when its time came.
func TestErasedUserIsNobodyAndTheirGrantsAreRevoked(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	ada := s.known(t, "op", "ada")
	phone := s.known(t, "op", "ada")
	mustBe(t, s.prove(t, ada, "ada@new.example"), http.StatusSeeOther)
	user := s.seenBy(t, ada, s.site).Value("Remote-User")
	undo := tokenIn(t, revertLink(t, s.letter(t, "ada@example.com", "address was added")))
	s.deleteHer(t, ada, phone, nil)

	s.Stop()
	s.hasten(t, user)
	s.Restart()
	e2e.Eventually(t, 20*time.Second, "the user to be erased", func() bool {
		return strings.Contains(s.Log(), "account erased")
	})
	if got := s.operator(t, http.MethodGet, "users/"+user, ""); got.status != http.StatusNotFound {
		t.Errorf("the operator still finds them: %d %s", got.status, got.body)
	}
	wantErrorPage(t, ada.Do(s.form(ada, s.site, "/account/revert", "token", undo)))
	e2e.Eventually(t, 20*time.Second, "both sessions' grants to be revoked", func() bool { return len(s.revoked.seen()) >= 2 })
	for _, token := range s.revoked.seen() {
		if !slices.Contains(s.op.known(), token) {
			t.Error("revoked what the provider never issued")
		}
	}
	// A new sign-in is a new person, also by the address that was added.
	anew := s.known(t, "op", "ada")
	if got := s.seenBy(t, anew, s.site); got.Value("Remote-User") == user || got.Value("Remote-User") == "" || got.Value("Remote-Name") != "Ada Lovelace" {
		t.Errorf("she came back as\n%s", got.Raw)
	}
	if body := s.page(t, anew).Body; strings.Contains(body, "ada@new.example") || strings.Contains(body, "Address added") {
		t.Errorf("what was erased is still there:\n%s", body)
	}
	mustBe(t, s.prove(t, anew, "ada@new.example"), http.StatusSeeOther)
}

// hasten has a deletion be due, in the store of a Caddy that is stopped.
func (s *accounts) hasten(t *testing.T, user string) {
	t.Helper()
	store := logintest.StoreIn(t, filepath.Join(s.DataDir(), "login"))
	err := store.Update(t.Context(), func(tx guest.Tx) error {
		now, id := time.Now(), identity.UserID(user)
		if _, err := identity.StopDeletion(tx, id, now); err != nil {
			return err
		}
		_, err := identity.BeginDeletion(tx, id, now, now.Add(-time.Second))
		return err
	})
	if err := errors.Join(err, store.Close()); err != nil {
		t.Fatal(err)
	}
}
