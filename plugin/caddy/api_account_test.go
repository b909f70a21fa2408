package main_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
	"github.com/caddy-login/caddy-login/module/logintest/secrets"
	sessions "github.com/caddy-login/caddy-login/module/session"
	"github.com/caddy-login/caddy-login/module/token"
)

// selfService is an account as somebody's program sees it: a page's script, that
// has its visitor's cookies, or an app with its tokens.
type selfService struct {
	*accounts
	v *e2e.Visitor
	// access is the token of an app; empty: a page's script.
	access, refresh string
}

// script is a page's script in a browser where somebody has signed in.
func (s *accounts) script(t *testing.T, provider, subject string) *selfService {
	t.Helper()
	return &selfService{accounts: s, v: s.known(t, provider, subject)}
}

// selfServiceApp is an app into which a user has signed in, at the store of a Caddy that
// does not run in between.
func (s *accounts) selfServiceApp(t *testing.T, user string, authTime time.Time) *selfService {
	t.Helper()
	app := &selfService{accounts: s, v: e2e.NewVisitor(t)}
	s.Kill()
	s.atRest(t, func(store guest.Store, tokens *token.Tokens, site token.Site) {
		ticket, err := tokens.Issue(site.Scope)
		if err != nil {
			t.Fatal(err)
		}
		var begun token.Begun
		err = store.Update(t.Context(), func(tx guest.Tx) error {
			linked, err := identity.Accounts(tx, identity.UserID(user))
			if err != nil || len(linked) == 0 {
				return fmt.Errorf("%d accounts: %w", len(linked), err)
			}
			person, err := identity.ReadPerson(tx, identity.UserID(user), linked[0].Key())
			if err != nil {
				return err
			}
			begun, err = tokens.Start(tx, ticket, sessions.New{
				Person: *person, Provider: linked[0].Provider, AuthTime: authTime, Lifetime: time.Hour, Idle: time.Hour, Device: "Example for iOS",
			})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		access, err := tokens.Access(site, begun.Session)
		if err != nil {
			t.Fatal(err)
		}
		app.access, app.refresh = string(access.Token), string(begun.Refresh)
	})
	s.Restart()
	return app
}

// request is a call as such a program makes it.
func (a *selfService) request(method, path, body string) *http.Request {
	r := a.v.Request(method, a.site+"/.login/api/v1/account/"+path, body)
	if method != http.MethodGet {
		r.Header.Set("Content-Type", "application/json")
	}
	switch {
	case a.access != "":
		r.Header.Set("Authorization", "Bearer "+a.access)
	case method != http.MethodGet:
		r.Header.Set("Origin", a.site)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	return r
}

func (a *selfService) do(method, path, body string) e2e.Answer {
	return a.v.Do(a.request(method, path, body))
}

// into reads an answer that is what was asked for.
func (a *selfService) into(t *testing.T, got e2e.Answer, out any) {
	t.Helper()
	mustBe(t, got, http.StatusOK)
	if kind, kept := got.Header.Get("Content-Type"), got.Header.Get("Cache-Control"); kind != "application/json" || kept != "no-store" {
		t.Errorf("%s: %s, %s", got.Request.URL.Path, kind, kept)
	}
	if err := json.Unmarshal([]byte(got.Body), out); err != nil {
		t.Fatalf("%s: %v in %s", got.Request.URL.Path, err, got.Body)
	}
}

// profileOf, and so on, are what the answers have, by the names that are
// published.
type (
	tokensOf struct {
		Access  string `json:"access_token"`
		Type    string `json:"token_type"`
		Expires int    `json:"expires_in"`
		Refresh string `json:"refresh_token"`
	}
	profileOf struct {
		User, Name, Email string
		Groups            []string
		Created           time.Time
		Fresh             bool
		FreshUntil        time.Time `json:"fresh_until"`
		Tokens            *tokensOf
	}
	emailOf struct {
		ID, Email, Provider string
		Primary             bool
		Proven              time.Time
		Last                bool `json:"last_way_in"`
		Tokens              *tokensOf
	}
	identityOf struct {
		ID, Provider, Label, Account, How string
		Linked                            time.Time
		Last                              bool `json:"last_way_in"`
		Current                           bool
	}
	listedSessionOf struct {
		ID, Site, Provider, Device, Place string
		UserAgent                         string `json:"user_agent"`
		Current                           bool
		Created, Seen                     time.Time
		Expires                           time.Time `json:"expires_at"`
	}
	entryOf struct {
		At             time.Time
		What, Provider string
		Session        string
	}
)

func (a *selfService) profile(t *testing.T) (p profileOf) {
	t.Helper()
	a.into(t, a.do(http.MethodGet, "profile", ""), &p)
	return p
}

func (a *selfService) emails(t *testing.T) (by map[string]emailOf) {
	t.Helper()
	var list struct{ Emails []emailOf }
	a.into(t, a.do(http.MethodGet, "emails", ""), &list)
	by = map[string]emailOf{}
	for _, e := range list.Emails {
		by[e.Email] = e
	}
	return by
}

func (a *selfService) identities(t *testing.T) []identityOf {
	t.Helper()
	var list struct{ Identities []identityOf }
	a.into(t, a.do(http.MethodGet, "identities", ""), &list)
	return list.Identities
}

func (a *selfService) sessions(t *testing.T, query string) (list []listedSessionOf, next string) {
	t.Helper()
	var part struct {
		Sessions []listedSessionOf
		Next     string
	}
	a.into(t, a.do(http.MethodGet, "sessions"+query, ""), &part)
	return part.Sessions, part.Next
}

func (a *selfService) activity(t *testing.T, query string) (list []entryOf, next string) {
	t.Helper()
	var part struct {
		Activity []entryOf
		Next     string
	}
	a.into(t, a.do(http.MethodGet, "activity"+query, ""), &part)
	return part.Activity, part.Next
}

// wantRefused checks that a call was refused for this reason.
func wantRefused(t *testing.T, got e2e.Answer, status int, code string) {
	t.Helper()
	wantProblem(t, got, status)
	var problem struct{ Code, Detail, RequestID string }
	if err := json.Unmarshal([]byte(got.Body), &problem); err != nil || problem.Code != code || problem.Detail == "" || uuid.FindString(got.Body) == "" {
		t.Errorf("%s %s: %v, want %s:\n%s", got.Request.Method, got.Request.URL, err, code, got.Body)
	}
}

// goOn is a change after which the program has what replaces its cookie or
// tokens: those of before are worth nothing, and at once.
func (a *selfService) goOn(t *testing.T, method, path, body string) e2e.Answer {
	t.Helper()
	old := a.v.Cookie(a.site, cookieName)
	got := a.do(method, path, body)
	if a.access == "" {
		if got.StatusCode != http.StatusOK && got.StatusCode != http.StatusNoContent || strings.Contains(got.Body, `"tokens"`) {
			t.Fatalf("%s %s: %d\n%s", method, path, got.StatusCode, got.Body)
		}
		a.wantNewID(t, a.v, old)
		return got
	}
	var out struct{ Tokens *tokensOf }
	a.into(t, got, &out)
	if out.Tokens == nil || out.Tokens.Type != "Bearer" || out.Tokens.Expires < 590 || out.Tokens.Expires > 600 || out.Tokens.Refresh == "" {
		t.Fatalf("%s %s brings %s", method, path, got.Body)
	}
	if len(got.Header["Set-Cookie"]) != 0 {
		t.Errorf("an app gets %q", got.Header["Set-Cookie"])
	}
	was := *a
	a.access, a.refresh = out.Tokens.Access, out.Tokens.Refresh
	secrets.Keep(t, a.access, a.refresh, was.access, was.refresh)
	wantInvalidToken(t, was.do(http.MethodGet, "profile", ""))
	a.profile(t)
	return got
}

// selfServiceCalls are all that the API has for accounts.
var selfServiceCalls = []struct {
	method, path, body string
	// changes: it takes a fresh sign-in. reads: it changes nothing.
	changes, reads bool
}{
	{method: "GET", path: "profile", reads: true},
	{"PATCH", "profile", `{"name":"Mallory"}`, true, false},
	{method: "DELETE", path: "profile", changes: true},
	{method: "POST", path: "fresh", body: `{}`},
	{method: "POST", path: "fresh", body: `{"provider":"op"}`},
	{method: "GET", path: "emails", reads: true},
	{"POST", "emails", `{"email":"mallory@evil.example"}`, true, false},
	{"PATCH", "emails/{email}", `{"primary":true}`, true, false},
	{method: "DELETE", path: "emails/{email}", changes: true},
	{method: "GET", path: "identities", reads: true},
	{method: "DELETE", path: "identities/{identity}", changes: true},
	{method: "GET", path: "sessions", reads: true},
	{method: "DELETE", path: "sessions", changes: true},
	{method: "DELETE", path: "sessions/{session}", changes: true},
	{method: "GET", path: "activity", reads: true},
	{method: "GET", path: "download", changes: true, reads: true},
}

// secondAddress gives somebody signed in by cookie another address, and a second
// session.
func (a *selfService) secondAddress(t *testing.T, address string) {
	t.Helper()
	mustBe(t, a.accounts.prove(t, a.v, address), http.StatusSeeOther)
	a.letter(t, "ada@example.com", "address was added")
}

// ids are what {email} and so on stand for: the second address, the account, and
// the other session.
func (a *selfService) ids(t *testing.T) *strings.Replacer {
	t.Helper()
	list, _ := a.sessions(t, "")
	other := slices.IndexFunc(list, func(s listedSessionOf) bool { return !s.Current })
	return strings.NewReplacer("{email}", a.emails(t)["second@new.example"].ID, "{identity}", a.identities(t)[0].ID, "{session}", list[other].ID)
}

func TestAPIShowsAnAccountToItsPersonAlone(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	begun := time.Now().Truncate(time.Second)
	ada, grace := s.script(t, "op", "ada"), s.script(t, "op", "grace")
	s.known(t, "op", "ada")
	ada.secondAddress(t, "second@new.example")
	user := s.seenBy(t, ada.v, s.site).Value("Remote-User")
	for _, call := range selfServiceCalls {
		stranger := &selfService{accounts: s, v: e2e.NewVisitor(t)}
		got := stranger.do(call.method, call.path, call.body)
		wantRefused(t, got, http.StatusUnauthorized, "sign_in_required")
		wantSignInURL(t, got, s.site)
	}
	p := ada.profile(t)
	if p.User != user || p.Name != "Ada Lovelace" || p.Email != "ada@example.com" || !slices.Equal(p.Groups, []string{"everybody", "external-users", "maths", "staff"}) {
		t.Errorf("the profile is %+v", p)
	}
	if p.Created.Before(begun) || time.Since(p.Created) < 0 || !p.Fresh || time.Until(p.FreshUntil) < 10*time.Minute || time.Until(p.FreshUntil) > 15*time.Minute {
		t.Errorf("of the times are told %+v", p)
	}
	emails := ada.emails(t)
	first, second := emails["ada@example.com"], emails["second@new.example"]
	if len(emails) != 2 || !first.Primary || first.Provider != "op" || second.Primary || second.Provider != "" || second.Proven.IsZero() || first.Last || first.ID == second.ID || strings.ContainsAny(first.ID, "@/%") {
		t.Errorf("the addresses are %+v", emails)
	}
	accounts := ada.identities(t)
	if len(accounts) != 1 || accounts[0].Provider != "op" || accounts[0].Label != "Our People" || accounts[0].How != "signup" || !accounts[0].Current || accounts[0].Last {
		t.Errorf("the accounts are %+v", accounts)
	}
	list, next := ada.sessions(t, "")
	if len(list) != 2 || next != "" || list[0].Site != "app.test" || list[0].Provider != "op" || list[0].Current == list[1].Current || list[0].Place != "127.0.0.0/16" {
		t.Errorf("the sessions are %+v, %q", list, next)
	}
	if got := grace.profile(t); got.Name != "Grace Hopper" || len(grace.emails(t)) != 1 {
		t.Errorf("Grace sees %+v", got)
	}
	// By the ids of Ada's things Grace finds nothing.
	for _, call := range selfServiceCalls {
		if strings.Contains(call.path, "{") {
			wantRefused(t, grace.do(call.method, ada.ids(t).Replace(call.path), call.body), http.StatusNotFound, "not_found")
		}
	}
	for _, id := range []string{"x", "%2F", "a%20b", strings.Repeat("a", 2000), "ada@example.com", "..%2fprofile", "=", "\u202e"} {
		for _, list := range []string{"emails/", "identities/", "sessions/"} {
			r := ada.request(http.MethodDelete, list+"id", "")
			r.URL.Path, r.URL.RawPath = strings.TrimSuffix(r.URL.Path, "id")+id, ""
			wantRefused(t, ada.v.Do(r), http.StatusNotFound, "not_found")
		}
	}
	s.LogKeepsSecret(first.ID, second.ID, accounts[0].ID)
	if again := ada.emails(t); !maps.Equal(again, emails) {
		t.Errorf("of %+v there are now %+v", emails, again)
	}
}

func TestAPITellsActivityPageByPage(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	ada := s.script(t, "op", "ada")
	for i := range 6 {
		ada.goOn(t, http.MethodPatch, "profile", fmt.Sprintf(`{"name":"Ada %d"}`, i))
		s.known(t, "op", "ada")
	}
	all, next := ada.activity(t, "")
	if len(all) != 13 || next != "" || all[0].What != "signed_in" || all[1].What != "renamed" || all[0].Provider != "op" {
		t.Fatalf("%d entries, %q: %+v", len(all), next, all)
	}
	var read []entryOf
	for after := ""; ; {
		part, next := ada.activity(t, "?limit=5"+after)
		if read = append(read, part...); next == "" {
			break
		}
		if len(part) != 5 {
			t.Fatalf("a part has %d", len(part))
		}
		after = "&after=" + next
	}
	if !slices.Equal(read, all) {
		t.Errorf("in parts:\n%+v\nat once:\n%+v", read, all)
	}
	sessions, _ := ada.sessions(t, "")
	var listed []listedSessionOf
	for after := ""; ; {
		part, next := ada.sessions(t, "?limit=3"+after)
		if listed = append(listed, part...); next == "" {
			break
		}
		after = "&after=" + next
	}
	if len(sessions) != 7 || len(listed) != 7 {
		t.Errorf("%d sessions, and in parts %d", len(sessions), len(listed))
	}
	for i := range listed {
		if listed[i].ID != sessions[i].ID || i > 0 && listed[i].Created.After(listed[i-1].Created) {
			t.Errorf("session %d is %+v in a part, and else %+v", i, listed[i], sessions[i])
		}
	}
	for _, query := range []string{
		"?limit=0", "?limit=-1", "?limit=101", "?limit=", "?limit=x", "?limit=1&limit=2", "?after=x", "?after=a&after=b", "?after=%zz",
		"?after=0.", "?after=00000000000000000.aa", "?after=-1", "?limit=99999999999999999999", "?a;b",
	} {
		for _, list := range []string{"activity", "sessions"} {
			if list == "sessions" && query == "?after=0." {
				continue // as good a place as any
			}
			wantRefused(t, ada.do(http.MethodGet, list+query, ""), http.StatusBadRequest, "bad_request")
		}
	}
}

// changeAll makes every change that there is, by cookie or by token.
func (a *selfService) changeAll(t *testing.T) {
	t.Helper()
	var p profileOf
	a.into(t, a.goOn(t, http.MethodPatch, "profile", `{"name":"  Augusta Ada King "}`), &p)
	if p.Name != "Augusta Ada King" || !p.Fresh || a.profile(t).Name != p.Name {
		t.Errorf("renamed, she is %+v", p)
	}
	for _, bad := range []string{`"two\nlines"`, `"` + strings.Repeat("x", 101) + `"`, `"right\u202eto left"`, `"\u0000"`} {
		wantRefused(t, a.do(http.MethodPatch, "profile", `{"name":`+bad+`}`), http.StatusUnprocessableEntity, "invalid_name")
	}
	emails := a.emails(t)
	first, second := emails["ada@example.com"], emails["second@new.example"]
	var chosen emailOf
	a.into(t, a.goOn(t, http.MethodPatch, "emails/"+second.ID, `{"primary":true}`), &chosen)
	if chosen.Email != second.Email || !chosen.Primary || a.profile(t).Email != second.Email {
		t.Errorf("the primary address is %+v", chosen)
	}
	for _, to := range []string{"ada@example.com", "second@new.example"} {
		a.letter(t, to, "main address was changed")
	}
	mustBe(t, a.do(http.MethodPatch, "emails/"+second.ID, `{"primary":true}`), http.StatusOK) // it is already
	a.goOn(t, http.MethodDelete, "emails/"+first.ID, "")
	a.letter(t, "ada@example.com", "address was removed")
	wantRefused(t, a.do(http.MethodDelete, "emails/"+first.ID, ""), http.StatusNotFound, "not_found")
	if left := a.emails(t); len(left) != 1 || left[second.Email].ID != second.ID {
		t.Errorf("left are %+v", left)
	}
	one, others := a.known(t, "op", "ada"), []*e2e.Visitor{a.known(t, "op", "ada"), a.known(t, "op", "ada")}
	list, _ := a.sessions(t, "")
	if len(list) != 4 {
		t.Fatalf("the sessions are %+v", list)
	}
	a.goOn(t, http.MethodDelete, "sessions/"+list[2].ID, "")
	if a.isIn(one) || !a.isIn(others[0]) {
		t.Error("another session was ended than the one that was named")
	}
	a.goOn(t, http.MethodDelete, "sessions", "")
	if list, _ := a.sessions(t, ""); len(list) != 1 || !list[0].Current || a.isIn(others[0]) || a.isIn(others[1]) {
		t.Errorf("left are %+v", list)
	}
}

func TestAPIChangesAnAccountByCookie(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	ada := s.script(t, "op", "ada")
	ada.secondAddress(t, "second@new.example")
	ada.changeAll(t)
	// What is no change.
	for body, status := range map[string]int{
		`{}`: 400, ``: 400, `{"name":null}`: 400, `{"name":1}`: 400, `{"name":"a","name":"b"}`: 400, `{"Name":"a"}`: 400,
		`{"name":"a","email":"b@c.example"}`: 400, `[]`: 400, `{"name":"a"}{}`: 400,
	} {
		if got := ada.do(http.MethodPatch, "profile", body); got.StatusCode != status {
			t.Errorf("%s: %d, want %d", body, got.StatusCode, status)
		}
	}
	id := ada.emails(t)["second@new.example"].ID
	for _, body := range []string{`{}`, `{"primary":false}`, `{"primary":"true"}`} {
		wantRefused(t, ada.do(http.MethodPatch, "emails/"+id, body), http.StatusBadRequest, "bad_request")
	}
	for _, bad := range []string{"", "ada", "a@b", "a@evil.example,b@corp.example", "a@b@c.example", "a@.example", "\"a b\"@c.example", strings.Repeat("a", 300) + "@c.example"} {
		body, _ := json.Marshal(map[string]string{"email": bad})
		wantRefused(t, ada.do(http.MethodPost, "emails", string(body)), http.StatusUnprocessableEntity, "invalid_email")
	}
	// Signing out, and leaving for good.
	list, _ := ada.sessions(t, "")
	old := ada.v.Cookie(s.site, cookieName)
	got := ada.do(http.MethodDelete, "sessions/"+list[0].ID, "")
	if got.StatusCode/100 != 2 || ada.v.Cookie(s.site, cookieName) != "" || s.isIn(replay(ada.v, s.site, old)) {
		t.Errorf("her own session ends with %d, and lives on", got.StatusCode)
	}
	ada = s.script(t, "op", "ada")
	old = ada.v.Cookie(s.site, cookieName)
	var deletion struct {
		At time.Time `json:"deletes_at"`
	}
	ada.into(t, ada.do(http.MethodDelete, "profile", ""), &deletion)
	if left := time.Until(deletion.At); left < 6*24*time.Hour || left > 7*24*time.Hour || s.isIn(replay(ada.v, s.site, old)) || ada.v.Cookie(s.site, cookieName) != "" {
		t.Errorf("the account is deleted in %v, and its session lives on", left)
	}
	s.letter(t, "second@new.example", "will be deleted")
}

// connectAll connects an account, and says yes.
func (s *accounts) connectAll(t *testing.T, v *e2e.Visitor, provider, subject string) {
	t.Helper()
	asked := s.connect(t, v, provider, subject)
	mustBe(t, asked, http.StatusOK)
	mustBe(t, v.Do(s.form(v, s.site, "/confirm", "ask", question.FindStringSubmatch(asked.Body)[1], "do", "link")), http.StatusSeeOther)
}

func TestAPIDisconnectsAccountsButNotTheLastWayIn(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, strings.Replace(lookedAfter, "\t\temail\n", "", 1))
	ada := s.script(t, "op", "ada")
	own := ada.identities(t)
	if len(own) != 1 || !own[0].Last {
		t.Fatalf("the accounts are %+v", own)
	}
	wantRefused(t, ada.do(http.MethodDelete, "identities/"+own[0].ID, ""), http.StatusConflict, "last_way_in")
	s.connectAll(t, ada.v, "club", "lady")
	all := ada.identities(t)
	club := slices.IndexFunc(all, func(i identityOf) bool { return i.Provider == "club" })
	if len(all) != 2 || club < 0 || all[club].Last || all[club].Current || all[club].Account != "lady@club.example" || all[club].How != "confirmed" {
		t.Fatalf("the accounts are %+v", all)
	}
	elsewhere := s.known(t, "club", "lady")
	ada.goOn(t, http.MethodDelete, "identities/"+all[club].ID, "")
	if s.isIn(elsewhere) {
		t.Error("who came in by the account that was disconnected is in")
	}
	wantRefused(t, ada.do(http.MethodDelete, "identities/"+all[club].ID, ""), http.StatusNotFound, "not_found")
	// The account that this session came in by takes it along.
	s.connectAll(t, ada.v, "club", "lady")
	old := ada.v.Cookie(s.site, cookieName)
	mustBe(t, ada.do(http.MethodDelete, "identities/"+own[0].ID, ""), http.StatusNoContent)
	if s.isIn(replay(ada.v, s.site, old)) || ada.v.Cookie(s.site, cookieName) != "" {
		t.Error("the session lives on without the account that it came in by")
	}
	ada.v = s.known(t, "club", "lady")
	s.connectAll(t, ada.v, "op", "ada")
	app := s.selfServiceApp(t, ada.profile(t).User, time.Now())
	all = app.identities(t)
	current := slices.IndexFunc(all, func(i identityOf) bool { return i.Current })
	got := app.do(http.MethodDelete, "identities/"+all[current].ID, "")
	mustBe(t, got, http.StatusNoContent)
	wantInvalidToken(t, app.do(http.MethodGet, "profile", ""))
}

func TestAPIChangesAnAccountByToken(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	browser := s.script(t, "op", "ada")
	browser.secondAddress(t, "second@new.example")
	app := s.selfServiceApp(t, browser.profile(t).User, time.Now())
	list, _ := app.sessions(t, "")
	if len(list) != 2 || !list[0].Current || list[0].UserAgent != "Example for iOS" {
		t.Errorf("the sessions are %+v", list)
	}
	// Cookies beside a token are nobody's business.
	app.v = browser.v
	cookie := app.v.Cookie(s.site, cookieName)
	app.goOn(t, http.MethodPatch, "profile", `{"name":"Ada"}`)
	if app.v.Cookie(s.site, cookieName) != cookie || !s.isIn(browser.v) {
		t.Error("what an app changed took the browser's cookie along")
	}
	app.v = e2e.NewHTTP2Visitor(t)
	was := *app
	app.goOn(t, http.MethodPatch, "profile", `{"name":"Ada King"}`)
	s.killAndRestart()
	wantInvalidToken(t, was.do(http.MethodGet, "profile", ""))
	if name := app.profile(t).Name; name != "Ada King" {
		t.Errorf("after a kill she is called %q", name)
	}
	app.goOn(t, http.MethodDelete, "sessions", "")
	if s.isIn(browser.v) {
		t.Error("the browser is still signed in")
	}
	app.changeAll(t)
	old := *app
	got := app.do(http.MethodDelete, "profile", "")
	mustBe(t, got, http.StatusOK)
	if strings.Contains(got.Body, "tokens") {
		t.Errorf("who leaves is given %s", got.Body)
	}
	wantInvalidToken(t, old.do(http.MethodGet, "profile", ""))
	s.killAndRestart()
	wantInvalidToken(t, old.do(http.MethodGet, "profile", ""))
}

// Of any number of changes at once by one token one is made.
func TestAPIChangesAtOnceLeaveOneSession(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	browser := s.script(t, "op", "ada")
	app := s.selfServiceApp(t, browser.profile(t).User, time.Now())
	for _, a := range []*selfService{browser, app} {
		var requests []*http.Request
		for i := range 32 {
			requests = append(requests, a.request(http.MethodPatch, "profile", fmt.Sprintf(`{"name":"Ada %d"}`, i)))
		}
		won := 0
		for _, got := range atOnce(t, a.v, requests) {
			switch got.StatusCode {
			case http.StatusOK:
				won++
			case http.StatusConflict, http.StatusUnauthorized:
				wantProblem(t, got, got.StatusCode)
			default:
				t.Errorf("%d: %s", got.StatusCode, got.Body)
			}
		}
		if won != 1 {
			t.Errorf("%d of 32 changes were made", won)
		}
	}
}

func TestAPIAsksForAFreshSignInForWhatMatters(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	first := s.script(t, "op", "ada")
	first.secondAddress(t, "second@new.example")
	stale(s.op)
	ada := s.script(t, "op", "ada")
	ids, before := ada.ids(t), ada.emails(t)
	app := s.selfServiceApp(t, ada.profile(t).User, time.Now().Add(-time.Hour))
	for _, a := range []*selfService{ada, app} {
		if p := a.profile(t); p.Fresh || !p.FreshUntil.IsZero() {
			t.Errorf("an hour later she is %+v", p)
		}
		for _, call := range selfServiceCalls {
			// Also where the call is nonsense: nothing else is looked at before.
			for _, body := range []string{call.body, "nonsense"} {
				if got := a.do(call.method, ids.Replace(call.path), body); call.changes {
					wantRefused(t, got, http.StatusForbidden, "fresh_sign_in_required")
				} else if call.reads {
					mustBe(t, got, http.StatusOK)
				}
			}
		}
	}
	if after := ada.emails(t); !maps.Equal(before, after) || ada.profile(t).Name != "Ada Lovelace" || !s.isIn(first.v) {
		t.Errorf("of %+v there is %+v", before, after)
	}
	// Her own session she may end at any time.
	for _, a := range []*selfService{ada, app} {
		list, _ := a.sessions(t, "")
		own := slices.IndexFunc(list, func(l listedSessionOf) bool { return l.Current })
		mustBe(t, a.do(http.MethodDelete, "sessions/"+list[own].ID, ""), http.StatusOK)
	}
	wantRefused(t, ada.do(http.MethodGet, "profile", ""), http.StatusUnauthorized, "sign_in_required")
	wantInvalidToken(t, app.do(http.MethodGet, "profile", ""))
	if !s.isIn(first.v) {
		t.Error("she is signed out everywhere")
	}
}

// freshOf is an answer on the way to a fresh sign-in, or to an address.
type freshOf struct {
	Status     string
	AuthURL    string `json:"auth_url"`
	Challenges []struct {
		ID   string
		Hint string
	}
	Session *struct{ ID, Email string }
	Tokens  *tokensOf
}

func TestAPIMakesASignInFreshByItsProvider(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	s.known(t, "op", "grace")
	stale(s.op)
	ada := s.script(t, "op", "ada")
	s.op.always(logintest.Faults{})
	var begun freshOf
	ada.into(t, ada.do(http.MethodPost, "fresh", `{"provider":"op","return":"/public/after"}`), &begun)
	if begun.Status != "redirect_to_provider" || !strings.HasPrefix(begun.AuthURL, s.op.issuer.URL) {
		t.Fatalf("it leads to %+v", begun)
	}
	// Another's account there proves nothing.
	callback, _, err := pick(begun.AuthURL, "grace")
	if err != nil {
		t.Fatal(err)
	}
	mustBe(t, ada.v.Follow(callback), http.StatusForbidden)
	if ada.profile(t).Fresh {
		t.Fatal("Grace's sign-in made Ada's fresh")
	}
	ada.into(t, ada.do(http.MethodPost, "fresh", `{"provider":"op","return":"/public/after"}`), &begun)
	old := ada.v.Cookie(s.site, cookieName)
	if callback, _, err = pick(begun.AuthURL, "ada"); err != nil {
		t.Fatal(err)
	}
	got := ada.v.Follow(callback)
	mustBe(t, got, http.StatusOK)
	if got.Request.URL.Path != "/public/after" || !ada.profile(t).Fresh {
		t.Errorf("she is back at %s", got.Request.URL)
	}
	s.wantNewID(t, ada.v, old)
	ada.goOn(t, http.MethodPatch, "profile", `{"name":"Ada"}`)
	for _, to := range []string{"https://evil.example/", "//evil.example", "/\\evil.example", "evil", "/.login/logout", "/a\nb"} {
		body, _ := json.Marshal(map[string]string{"provider": "op", "return": to})
		wantRefused(t, ada.do(http.MethodPost, "fresh", string(body)), http.StatusBadRequest, "bad_request")
	}
	for _, name := range []string{"none", "email", "OP", "op "} {
		body, _ := json.Marshal(map[string]string{"provider": name})
		wantRefused(t, ada.do(http.MethodPost, "fresh", string(body)), http.StatusNotFound, "provider_disabled")
	}
	app := s.selfServiceApp(t, ada.profile(t).User, time.Now().Add(-time.Hour))
	wantRefused(t, app.do(http.MethodPost, "fresh", `{"provider":"op"}`), http.StatusBadRequest, "bad_request")
}

// check types a code.
func (a *selfService) check(id, code string) e2e.Answer {
	r := a.request(http.MethodPost, "x", `{"code":"`+code+`"}`)
	r.URL.Path = "/.login/api/v1/challenges/" + id + "/check"
	return a.v.Do(r)
}

func TestAPIMakesASignInFreshByACode(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	stale(s.op)
	ada := s.script(t, "op", "ada")
	app := s.selfServiceApp(t, ada.profile(t).User, time.Now().Add(-time.Hour))
	for _, a := range []*selfService{ada, app} {
		was := *a
		old := a.v.Cookie(s.site, cookieName)
		var begun, done freshOf
		a.into(t, a.do(http.MethodPost, "fresh", `{}`), &begun)
		if begun.Status != "otp_required" || len(begun.Challenges) != 1 || strings.Contains(begun.Challenges[0].Hint, "ada@") {
			t.Fatalf("it begins with %+v", begun)
		}
		code := s.letter(t, "ada@example.com", "code").Code()
		a.into(t, a.check(begun.Challenges[0].ID, code), &done)
		if done.Status != "authenticated" || done.Session == nil || done.Session.Email != "ada@example.com" || (done.Tokens == nil) != (a.access == "") {
			t.Fatalf("it ends with %+v", done)
		}
		if done.Tokens == nil {
			s.wantNewID(t, a.v, old)
		} else {
			wantInvalidToken(t, was.do(http.MethodGet, "profile", ""))
			a.access = done.Tokens.Access
		}
		if !a.profile(t).Fresh {
			t.Error("she is not fresh")
		}
		a.goOn(t, http.MethodPatch, "profile", `{"name":"Ada"}`)
		if got := a.check(begun.Challenges[0].ID, code); got.StatusCode < 400 || got.StatusCode > 499 {
			t.Errorf("the code works again: %d %s", got.StatusCode, got.Body)
		}
	}
}

var instants = regexp.MustCompile(`"20[^"]+Z"`)

// untold is an answer without what differs from one challenge to the next.
func untold(body string, of freshOf) string {
	asked := of.Challenges[0]
	return instants.ReplaceAllString(strings.NewReplacer(asked.ID, "ID", asked.Hint, "HINT").Replace(body), "TIME")
}

func TestAPIAddsAnAddressByItsCode(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	s.known(t, "op", "grace")
	ada := s.script(t, "op", "ada")
	app := s.selfServiceApp(t, ada.profile(t).User, time.Now())
	thief := s.script(t, "op", "ada2")
	for i, a := range []*selfService{ada, app} {
		address := fmt.Sprintf("new%d@new.example", i)
		held, free := a.do(http.MethodPost, "emails", `{"email":"grace@example.com"}`), a.do(http.MethodPost, "emails", `{"email":"`+address+`"}`)
		var taken, begun freshOf
		a.into(t, held, &taken)
		a.into(t, free, &begun)
		if begun.Status != "otp_required" || len(begun.Challenges) != 1 {
			t.Fatalf("it begins with %s", free.Body)
		}
		if a, b := untold(held.Body, taken), untold(free.Body, begun); a != b {
			t.Errorf("who holds an address can be found out:\n%s\n%s", a, b)
		}
		code := s.letter(t, address, "code").Code()
		s.letter(t, "grace@example.com", "code") // of before the kill
		// The code alone is nobody's address.
		if got := thief.check(begun.Challenges[0].ID, code); got.StatusCode < 400 || got.StatusCode > 499 {
			t.Errorf("somebody else's code is taken: %d %s", got.StatusCode, got.Body)
		}
		if i == 0 {
			s.killAndRestart()
		} else {
			s.Reload(lookedAfter)
		}
		was, old := *a, a.v.Cookie(s.site, cookieName)
		var done freshOf
		a.into(t, a.check(begun.Challenges[0].ID, code), &done)
		if done.Status != "authenticated" || done.Session == nil || (done.Tokens == nil) != (a.access == "") {
			t.Fatalf("it ends with %+v", done)
		}
		if done.Tokens == nil {
			s.wantNewID(t, a.v, old)
		} else {
			wantInvalidToken(t, was.do(http.MethodGet, "profile", ""))
			a.access = done.Tokens.Access
		}
		list, _ := a.sessions(t, "")
		if current := slices.IndexFunc(list, func(l listedSessionOf) bool { return l.Current }); list[current].ID != done.Session.ID {
			t.Errorf("she is told of the session %s, of %+v", done.Session.ID, list)
		}
		if a.emails(t)[address].Proven.IsZero() {
			t.Errorf("the addresses are %+v", a.emails(t))
		}
		s.letter(t, "ada@example.com", "address was added")
		// Whose it is else, is said after the proof.
		a.into(t, a.do(http.MethodPost, "emails", `{"email":"grace@example.com"}`), &taken)
		grace := s.letter(t, "grace@example.com", "code").Code()
		wantRefused(t, a.check(taken.Challenges[0].ID, grace), http.StatusConflict, "email_in_use")
	}
	if len(thief.emails(t)) != 1 {
		t.Errorf("the thief has %+v", thief.emails(t))
	}
}

// What a page of another site sends changes nothing, whatever it claims to be.
func TestOthersCannotChangeYourAccountByTheAPI(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	ada := s.script(t, "op", "ada")
	s.known(t, "op", "ada")
	ada.secondAddress(t, "second@new.example")
	ids, cookie := ada.ids(t), ada.v.Cookie(s.site, cookieName)
	before, name := ada.emails(t), ada.profile(t).Name
	for from, head := range map[string]http.Header{
		"another site":   {"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"cross-site"}},
		"a sibling site": {"Origin": {"https://sibling.app.test"}, "Sec-Fetch-Site": {"same-site"}},
		"the other site": {"Origin": {s.other}, "Sec-Fetch-Site": {"cross-site"}},
		"a sandbox":      {"Origin": {"null"}},
		"an old browser": {"Referer": {"https://evil.example/"}},
		"no origin":      {"Sec-Fetch-Site": {"same-site"}},
	} {
		for _, call := range selfServiceCalls {
			if call.method == http.MethodGet {
				continue
			}
			r := ada.request(call.method, ids.Replace(call.path), call.body)
			r.Header = head.Clone()
			r.Header.Set("Content-Type", "application/json")
			got := ada.v.Do(r)
			wantRefused(t, got, http.StatusForbidden, "foreign_origin")
			if got.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s may read the answer", from)
			}
		}
	}
	// A form can't say that it is JSON.
	for _, kind := range []string{"text/plain", formType, "multipart/form-data; boundary=x", ""} {
		for _, call := range selfServiceCalls {
			if call.body == "" {
				continue
			}
			r := ada.request(call.method, ids.Replace(call.path), call.body)
			r.Header.Set("Content-Type", kind)
			wantRefused(t, ada.v.Do(r), http.StatusUnsupportedMediaType, "unsupported_media_type")
		}
	}
	if after := ada.emails(t); !maps.Equal(before, after) || ada.profile(t).Name != name || ada.v.Cookie(s.site, cookieName) != cookie {
		t.Errorf("something was changed: %+v", after)
	}
}

func TestAPIDownloadIsWhatThePageGives(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	ada := s.script(t, "op", "ada")
	byPage := ada.v.Get(s.site + "/.login/account/download")
	mustBe(t, byPage, http.StatusOK)
	got := ada.do(http.MethodGet, "download", "")
	var all, same map[string]any
	ada.into(t, got, &all)
	if err := json.Unmarshal([]byte(byPage.Body), &same); err != nil {
		t.Fatal(err)
	}
	if got.Header.Get("Content-Disposition") != byPage.Header.Get("Content-Disposition") || !slices.Equal(slices.Sorted(maps.Keys(all)), slices.Sorted(maps.Keys(same))) {
		t.Errorf("the API gives %v\n%s", got.Header, got.Body)
	}
	if n := strings.Count(got.Body, `"downloaded"`); n != 1 {
		t.Errorf("of the page's download %d are in the activity", n)
	}
	raw, err := base64.RawURLEncoding.DecodeString(ada.emails(t)["ada@example.com"].ID)
	if err != nil || len(raw) != 12 {
		t.Errorf("an address is called %v, %v", raw, err)
	}
}

// What else bounds the changes of the page bounds these: how many addresses there
// may be, and how often they may change.
func TestAPIBoundsWhatAnAccountMayHave(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	ada := s.script(t, "op", "ada")
	ada.secondAddress(t, "second@new.example")
	emails := ada.emails(t)
	ids := []string{emails["second@new.example"].ID, emails["ada@example.com"].ID}
	for i := range 19 {
		ada.goOn(t, http.MethodPatch, "emails/"+ids[i%2], `{"primary":true}`)
	}
	got := ada.do(http.MethodPatch, "emails/"+ids[1], `{"primary":true}`)
	wantRefused(t, got, http.StatusTooManyRequests, "rate_limited")
	if got.Header.Get("Retry-After") == "" {
		t.Error("it does not say when to come again")
	}
	grace := s.script(t, "op", "grace")
	s.full(t, grace.profile(t).User)
	var begun freshOf
	grace.into(t, grace.do(http.MethodPost, "emails", `{"email":"eleventh@new.example"}`), &begun)
	code := s.letter(t, "eleventh@new.example", "code").Code()
	wantRefused(t, grace.check(begun.Challenges[0].ID, code), http.StatusConflict, "too_many")
}

// full gives a user as many addresses as there may be, in the store of a Caddy
// that does not run.
func (s *accounts) full(t *testing.T, user string) {
	t.Helper()
	s.Kill()
	s.atRest(t, func(store guest.Store, _ *token.Tokens, _ token.Site) {
		err := store.Update(t.Context(), func(tx guest.Tx) (err error) {
			for i := 1; i < identity.MaxAddresses && err == nil; i++ {
				_, err = identity.AddAddress(tx, identity.UserID(user), identity.Email(fmt.Sprintf("grace%d@new.example", i)), identity.ByMail, time.Now())
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	s.Restart()
}
