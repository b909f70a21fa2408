package main_test

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// quarry is an issuer that remembers what it gave out: what an attacker would
// like to find in a log, a page or a file.
type quarry struct {
	*logintest.Issuer

	mu    sync.Mutex
	loot  []string
	sids  map[string]string // by subject, the last one's
	plain bool              // no sid in ID tokens
}

// newQuarry serves such an issuer with these people.
func newQuarry(t *testing.T, people ...string) *quarry {
	t.Helper()
	q := &quarry{Issuer: logintest.NewIssuer(t), sids: map[string]string{}}
	for _, name := range people {
		q.Person(logintest.Person{Subject: name, Email: name + "@example.com", EmailVerified: true, Name: name})
	}
	q.spoil(logintest.Faults{})
	return q
}

// spoil is Always that goes on remembering.
func (q *quarry) spoil(f logintest.Faults) {
	q.Always(logintest.Faults{
		IDToken: q.sawClaims, Token: q.sawTokens, Refresh: q.sawTokens,
		Signed: func(token string) string { q.keep(token); return token },
	}.And(f))
}

func (q *quarry) sawClaims(claims map[string]any) {
	q.mu.Lock()
	defer q.mu.Unlock()
	subject, _ := claims["sub"].(string)
	sid, _ := claims["sid"].(string)
	q.sids[subject] = sid
	if q.plain && claims["nonce"] != nil {
		delete(claims, "sid")
	}
}

func (q *quarry) sawTokens(answer map[string]any) {
	for _, name := range []string{"access_token", "refresh_token"} {
		if token, ok := answer[name].(string); ok {
			q.keep(token)
		}
	}
}

func (q *quarry) keep(secret string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.loot = append(q.loot, secret)
}

// stolen are the secrets given out.
func (q *quarry) stolen() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return distinct(append([]string(nil), q.loot...))
}

func (q *quarry) sid(subject string) string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.sids[subject]
}

// raid serves a Caddyfile whose {$ISSUER} is the quarry, and where {$OTHER} is
// other.
func raid(t *testing.T, caddyfile string, q, other *quarry) *stage {
	t.Helper()
	s := &stage{Caddy: e2e.NewCaddy(t, e2e.Build(t)), app: e2e.NewApp(t)}
	s.site = fmt.Sprintf("https://app.test:%d", s.Port)
	s.other = fmt.Sprintf("https://other.app.test:%d", s.Port)
	var callbacks []string
	for _, site := range []string{s.site, s.other} {
		for _, name := range []string{"op", "second"} {
			callbacks = append(callbacks, site+"/.login/"+name+"/callback")
		}
	}
	for _, issuer := range []*quarry{q, other} {
		if issuer != nil {
			issuer.Client("site", clientSecret, callbacks...)
		}
	}
	s.Env["APP"], s.Env["ISSUER"], s.Env["OP_SECRET"] = s.app.Addr, q.Issuer.Issuer, clientSecret
	if other != nil {
		s.Env["OTHER"] = other.Issuer.Issuer
	}
	s.Start(caddyfile)
	return s
}

// arrive signs somebody in at a site by a provider, in this browser.
func (s *stage) arrive(t *testing.T, v *e2e.Visitor, site, provider, subject string) {
	t.Helper()
	mustBe(t, v.FollowOn(v.Get(s.toAnswer(t, v, site, provider, subject))), http.StatusOK)
}

// toAnswer is arrive up to the provider's answer, which is not yet delivered.
func (s *stage) toAnswer(t *testing.T, v *e2e.Visitor, site, provider, subject string) string {
	t.Helper()
	begun := v.Get(site + "/.login/" + provider + "?return=%2Fpublic%2Fin&switch=1")
	mustBe(t, begun, http.StatusFound)
	callback, _, err := pick(begun.Header.Get("Location"), subject)
	if err != nil {
		t.Fatal(err)
	}
	return callback
}

// sayGone delivers a logout token. It may run on any goroutine.
func (s *stage) sayGone(v *e2e.Visitor, site, provider, token string) (e2e.Answer, error) {
	form := url.Values{"logout_token": {token}}.Encode()
	r, err := http.NewRequest(http.MethodPost, site+"/.login/"+provider+"/backchannel-logout", strings.NewReader(form))
	if err != nil {
		return e2e.Answer{}, err
	}
	r.Header.Set("Content-Type", formType)
	return v.Try(r)
}

func (s *stage) mustSayGone(t *testing.T, provider, token string, status int) {
	t.Helper()
	got, err := s.sayGone(e2e.NewVisitor(t), s.site, provider, token)
	if err != nil {
		t.Fatal(err)
	}
	mustBe(t, got, status)
}

// press is the POST that signs out, from one of the site's own pages.
func press(t *testing.T, v *e2e.Visitor, site string) e2e.Answer {
	t.Helper()
	r := v.Request(http.MethodPost, site+"/.login/logout", "")
	r.Header.Set("Origin", site)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return v.Do(r)
}

// inside reports whether a site lets somebody through to the app who has these
// cookies and nothing else.
func inside(t *testing.T, site string, cookies []string) bool {
	t.Helper()
	thief := e2e.NewVisitor(t)
	r := thief.Navigation(site + "/in")
	r.Header.Set("Cookie", strings.Join(cookies, "; "))
	return thief.Do(r).StatusCode == http.StatusOK
}

// oneWay is a site with one provider.
const oneWay = `
https://app.test:{$PORT} {
	log
	login {
		oidc op site {env.OP_SECRET} {
			issuer {$ISSUER}
		}
		allow /public/* anyone
		allow users
	}
	reverse_proxy {$APP} {
		flush_interval -1
	}
}
`

// sharedCookie is two sites with one cookie, of which each has a provider of its
// own.
const sharedCookie = `
{
	login {
		oidc op site {env.OP_SECRET} {
			issuer {$ISSUER}
		}
		oidc second site {env.OP_SECRET} {
			issuer {$ISSUER}
		}
	}
}
(site) {
	login {args[0]} {
		allow /public/* anyone
		allow users
		cookie {
			domain app.test
		}
	}
	reverse_proxy {$APP}
}
https://app.test:{$PORT} {
	import site op
}
https://other.app.test:{$PORT} {
	import site second
}
`

// The answer to a sign-out says that it is over, and takes the cookie from the
// browser. Where the site does not offer the session's provider (a shared
// cookie, or a changed config), visit.recognise leaves v.live empty, and
// portal.signOut (module/farewell.go) then ends nothing: whoever copied the
// cookie is signed in as before.
func TestSignOutEndsAlsoWhatThisSiteCannotUse(t *testing.T) {
	q := newQuarry(t, "ada")
	s := raid(t, sharedCookie, q, nil)
	ada := e2e.NewVisitor(t)
	s.arrive(t, ada, s.site, "op", "ada")
	cookies := ada.Cookies(s.site)
	if !inside(t, s.site, cookies) || inside(t, s.other, cookies) {
		t.Fatal("the session is not that of one site alone")
	}
	if got := press(t, ada, s.other); got.StatusCode >= 400 {
		t.Fatalf("signing out: %d", got.StatusCode)
	}
	if len(ada.Cookies(s.site)) > 1 {
		t.Errorf("the browser still has %q", ada.Cookies(s.site))
	}
	if inside(t, s.site, cookies) {
		t.Error("after the sign-out a copy of the cookie still signs in")
	}
}

// As above, for whoever signs in instead: portal.newSession (module/admission.go)
// has replaced(v) of v.live alone, so the session that this browser had until
// then lives on, with nobody to end it.
func TestSignInEndsAlsoWhatThisSiteCouldNotUse(t *testing.T) {
	q := newQuarry(t, "ada", "grace")
	s := raid(t, sharedCookie, q, nil)
	v := e2e.NewVisitor(t)
	s.arrive(t, v, s.site, "op", "ada")
	before := v.Cookies(s.site)
	s.arrive(t, v, s.other, "second", "grace")
	if inside(t, s.site, before) {
		t.Error("the session that this browser had before still signs in")
	}
}

// The same without a second site: revalidate was added, which session.Grant is
// too poor for. A sign-out is then answered, and undone with the next reload.
func TestSignOutBetweenTwoReloadsLasts(t *testing.T) {
	q := newQuarry(t, "ada")
	s := raid(t, oneWay, q, nil)
	ada := e2e.NewVisitor(t)
	s.arrive(t, ada, s.site, "op", "ada")
	cookies := ada.Cookies(s.site)
	s.Reload(strings.Replace(oneWay, "issuer {$ISSUER}", "issuer {$ISSUER}\n\t\t\trevalidate 1h", 1))
	if inside(t, s.site, cookies) {
		t.Fatal("a session that nobody can revalidate is one")
	}
	if got := press(t, ada, s.site); got.StatusCode >= 400 {
		t.Fatalf("signing out: %d", got.StatusCode)
	}
	s.Reload(oneWay)
	if inside(t, s.site, cookies) {
		t.Error("a reload undid the sign-out")
	}
}

// Core leaves `sid` in ID tokens to the issuer, and some name it in logout
// tokens only. Section 2.7 of Back-Channel Logout looks for the session by `sub`
// and/or `sid`. session.logout (module/session/logout.go) looks by the sid alone
// where there is one, ends nothing, and answers 200.
func TestLogoutTokenEndsTheSessionWhoseIDTokenHadNoSID(t *testing.T) {
	q := newQuarry(t, "ada", "grace")
	q.plain = true
	s := raid(t, oneWay, q, nil)
	ada, grace := e2e.NewVisitor(t), e2e.NewVisitor(t)
	s.arrive(t, ada, s.site, "op", "ada")
	s.arrive(t, grace, s.site, "op", "grace")
	s.mustSayGone(t, "op", q.LogoutToken("site", "ada", q.sid("ada")), http.StatusOK)
	if s.isIn(ada) {
		t.Error("200 was answered, and the person of the token is still in")
	}
	if !s.isIn(grace) {
		t.Error("somebody else is out")
	}
}

// Caddy's reverse_proxy shows, with debug on, the headers of what it forwards,
// all but Cookie and Authorization. That is not ours to change, so the operator
// hears of it at each start.
func TestForwardedTokenInTheDebugLogIsTold(t *testing.T) {
	q := newQuarry(t, "ada")
	forwarding := strings.Replace(oneWay, "issuer {$ISSUER}", "issuer {$ISSUER}\n\t\t\ttokens forward", 1)
	s := raid(t, "{\n\tdebug\n}\n"+forwarding, q, nil)
	if !strings.Contains(s.Log(), "debug is on: the access tokens") {
		t.Error("nobody tells the operator")
	}
	quiet := raid(t, forwarding, q, nil)
	if strings.Contains(quiet.Log(), "debug is on") {
		t.Error("told of a debug that is off")
	}
}

// Without debug, an app that is down has Caddy log the request.
func TestForwardedTokenStaysOutOfTheErrorLog(t *testing.T) {
	q := newQuarry(t, "ada")
	s := raid(t, strings.Replace(oneWay, "issuer {$ISSUER}", "issuer {$ISSUER}\n\t\t\ttokens forward", 1), q, nil)
	ada := e2e.NewVisitor(t)
	s.arrive(t, ada, s.site, "op", "ada")
	s.Env["APP"] = strings.TrimPrefix(closedIssuer(t), "http://")
	s.Reload(strings.ReplaceAll(strings.Replace(oneWay, "issuer {$ISSUER}", "issuer {$ISSUER}\n\t\t\ttokens forward", 1), "{$APP}", s.Env["APP"]))
	mustBe(t, ada.Get(s.site+"/in"), http.StatusBadGateway)
	s.Stop()
	s.LogKeepsSecret(q.stolen()...)
}

// A logout token in the query is refused, as it must be; but it stands in
// Caddy's access log, unspent: portal.roomOf (module/portal.go) calls the page
// not quiet, unlike all others that may be sent a token.
func TestLogoutTokenInAQueryStaysOutOfTheAccessLog(t *testing.T) {
	q := newQuarry(t, "ada")
	s := raid(t, oneWay, q, nil)
	ada := e2e.NewVisitor(t)
	s.arrive(t, ada, s.site, "op", "ada")
	token := q.LogoutToken("site", "ada", "")
	address := s.site + "/.login/op/backchannel-logout?logout_token=" + token
	for _, method := range []string{http.MethodPost, http.MethodGet} {
		r := ada.Request(method, address, "")
		r.Header.Set("Content-Type", formType)
		if got := ada.Do(r); got.StatusCode/100 != 4 {
			t.Errorf("%s: %d", method, got.StatusCode)
		}
	}
	if !s.isIn(ada) {
		t.Error("a token in a query ended a session")
	}
	s.Stop()
	s.LogKeepsSecret(token)
}

// A session is taken for one of a site's own by the provider's name alone
// (visit.recognise, module/visit.go). Two sites that share a cookie may call two
// issuers by one name; or a reload points the name elsewhere. Whoever signs in at
// the lesser one passes here, with the groups that the lesser one says.
func TestSessionOfAnotherIssuerOfTheSameNameIsNone(t *testing.T) {
	lesser, staff := newQuarry(t), newQuarry(t)
	lesser.Person(logintest.Person{Subject: "mallory", Name: "Mallory", Groups: []string{"staff"}})
	site := func(host, issuer string) string {
		return strings.NewReplacer("{host}", host, "{issuer}", issuer).Replace(`
https://{host}:{$PORT} {
	login {
		oidc op site {env.OP_SECRET} {
			issuer {issuer}
			groups groups
		}
		allow /public/* anyone
		allow group:staff
		cookie {
			domain app.test
		}
	}
	reverse_proxy {$APP}
}
`)
	}
	s := raid(t, site("app.test", "{$ISSUER}")+site("other.app.test", "{$OTHER}"), lesser, staff)
	mallory := e2e.NewVisitor(t)
	s.arrive(t, mallory, s.site, "op", "mallory")
	if inside(t, s.other, mallory.Cookies(s.other)) {
		t.Errorf("a stranger passes as staff; the app received:\n%s", s.app.Last().Raw)
	}
	s.Reload(site("app.test", "{$OTHER}"))
	if inside(t, s.site, mallory.Cookies(s.site)) {
		t.Error("after a reload that names another issuer the session goes on")
	}
	lesser.spoil(logintest.Faults{})
	if got := press(t, mallory, s.site); strings.Contains(got.Body, "id_token_hint=") {
		t.Errorf("one issuer's ID token is sent to the other:\n%s", got.Body)
	}
}

// checkErrorRoutes (module/errorroutes.go) compares addresses as they are
// written, and does not look into handle_response.
func TestErrorRoutesCannotReachTheAppBySpellingItOtherwise(t *testing.T) {
	q := newQuarry(t, "ada")
	s := raid(t, oneWay, q, nil)
	_, port, _ := strings.Cut(s.app.Addr, ":")
	for what, routes := range map[string]string{
		"as it stands":       "reverse_proxy 127.0.0.1:" + port,
		"another name":       "reverse_proxy localhost:" + port,
		"IPv6":               "reverse_proxy [::ffff:127.0.0.1]:" + port,
		"a network":          "reverse_proxy tcp4/127.0.0.1:" + port,
		"a placeholder":      "reverse_proxy {env.APP}",
		"after an answer":    "reverse_proxy 127.0.0.1:1 {\n@any status 2xx 4xx 5xx\nhandle_response @any {\nreverse_proxy 127.0.0.1:" + port + "\n}\n}",
		"after interception": "intercept {\n@any status 2xx\nhandle_response @any {\nreverse_proxy 127.0.0.1:" + port + "\n}\n}\nrespond ok",
	} {
		bent := strings.Replace(oneWay, "reverse_proxy {$APP} {", "handle_errors {\n"+routes+"\n}\nreverse_proxy {$APP} {", 1)
		if out, err := validate(t, s.Caddy, s.written(bent), "caddyfile"); err == nil {
			t.Errorf("%s: taken", what)
		} else if !strings.Contains(out, "which login protects") {
			t.Errorf("%s: %s", what, out)
		}
	}
}

// written is a Caddyfile with its variables filled in.
func (s *stage) written(caddyfile string) string {
	caddyfile = strings.ReplaceAll(caddyfile, "{$PORT}", fmt.Sprint(s.Port))
	for name, value := range s.Env {
		caddyfile = strings.ReplaceAll(caddyfile, "{$"+name+"}", value)
	}
	return caddyfile
}

// Gate.checkTokens (module/renewal.go) compares names by case alone. What reads
// headers as CGI does takes `_` for `-`: an access token would be the user.
func TestTokenHeaderThatSomeAppsReadAsTheUserIsRefused(t *testing.T) {
	s := raid(t, oneWay, newQuarry(t), nil)
	for _, name := range []string{"Remote_User", "remote_email", "REMOTE_GROUPS"} {
		bent := strings.Replace(oneWay, "issuer {$ISSUER}", "issuer {$ISSUER}\n\t\t\ttokens forward "+name, 1)
		if _, err := validate(t, s.Caddy, s.written(bent), "caddyfile"); err == nil {
			t.Errorf("tokens forward %s is taken", name)
		}
	}
}

const forwardingOneWay = `
https://app.test:{$PORT} {
	login {
		oidc op site {env.OP_SECRET} {
			issuer {$ISSUER}
			tokens forward
		}
		allow /public/* anyone
		allow users
	}
	reverse_proxy {$APP}
}
`

// What a provider answers that is longer than the store takes can never be
// written. known.renew (module/renewal.go) keeps it as unsaved and from then on
// tries nothing but to write it: the provider is never asked again, and somebody
// it has disowned stays in as long as the session lives.
func TestProviderIsAskedAgainAfterTokensTooLongToKeep(t *testing.T) {
	t.Parallel() // it waits for the half minute between two renewals, twice
	q := newQuarry(t, "ada")
	q.TokenLife = 20 * time.Second
	s := raid(t, forwardingOneWay, q, nil)
	ada := e2e.NewVisitor(t)
	s.arrive(t, ada, s.site, "op", "ada")
	q.NextRefresh(logintest.Faults{Refresh: func(answer map[string]any) {
		answer["access_token"] = strings.Repeat("A", 60<<10)
		delete(answer, "id_token") // its at_hash would not fit
	}})
	e2e.Eventually(t, 60*time.Second, "the first renewal", func() bool { s.isIn(ada); return q.Calls().Refresh == 1 })
	q.Revoke("ada")
	e2e.Eventually(t, 75*time.Second, "Ada, whom the provider disowned, to be out", func() bool { return !s.isIn(ada) })
}

// A session whose tokens were kept without a refresh token can't be asked about
// either once revalidate is written: Gate.unproven (module/renewal.go) sees only
// those that kept nothing. Each renewal fails with "no refresh token was kept",
// which ends nothing, for thirty days.
func TestRevalidateHoldsForASessionWithoutARefreshToken(t *testing.T) {
	t.Parallel() // revalidate is a minute at least
	q := newQuarry(t, "ada")
	q.spoil(logintest.Faults{Token: func(answer map[string]any) { delete(answer, "refresh_token") }})
	s := raid(t, forwardingOneWay, q, nil)
	ada := e2e.NewVisitor(t)
	s.arrive(t, ada, s.site, "op", "ada")
	s.Reload(strings.Replace(forwardingOneWay, "tokens forward", "tokens forward\n\t\t\trevalidate 1m", 1))
	q.Revoke("ada")
	e2e.Eventually(t, 100*time.Second, "somebody whom nobody vouches for to be out", func() bool { return !s.isIn(ada) })
}

// Tokens that a site no longer keeps are neither sent to the app nor renewed:
// what the provider says of them is no reason to end a session.
func TestTokensNoLongerWantedAreLeftAlone(t *testing.T) {
	t.Parallel() // renewals come half a minute apart
	q := newQuarry(t, "ada")
	q.TokenLife = 20 * time.Second
	s := raid(t, forwardingOneWay, q, nil)
	ada := e2e.NewVisitor(t)
	s.arrive(t, ada, s.site, "op", "ada")
	s.Reload(strings.Replace(forwardingOneWay, "tokens forward", "", 1))
	q.Revoke("ada")
	until := time.Now().Add(36 * time.Second)
	e2e.Eventually(t, 60*time.Second, "the time of a renewal to pass", func() bool {
		if !s.isIn(ada) {
			t.Fatal("the provider's word about tokens that nobody wants signed somebody out")
		}
		if token := s.app.Last().Value(tokenHeader); token != "" {
			t.Fatalf("the app still receives a token")
		}
		return time.Now().After(until)
	})
	if asked := q.Calls().Refresh; asked != 0 {
		t.Errorf("the provider was asked %d times", asked)
	}
}

// A logout token that comes while the same session's tokens are being renewed:
// what the provider then answers must not bring the session back.
func TestRenewalUnderWayRevivesNoSessionThatWasLoggedOut(t *testing.T) {
	t.Parallel() // the first renewal is half a minute away
	q := newQuarry(t, "ada")
	q.TokenLife = 20 * time.Second
	s := raid(t, forwardingOneWay, q, nil)
	ada := e2e.NewVisitor(t)
	s.arrive(t, ada, s.site, "op", "ada")
	cookies, sid, messenger := ada.Cookies(s.site), q.sid("ada"), e2e.NewVisitor(t)
	told := make(chan error, 1)
	q.NextRefresh(logintest.Faults{Refresh: func(map[string]any) {
		got, err := s.sayGone(messenger, s.site, "op", q.LogoutToken("site", "ada", sid))
		if err == nil && got.StatusCode != http.StatusOK {
			err = fmt.Errorf("logout token: %d %s", got.StatusCode, got.Body)
		}
		told <- err
	}})
	e2e.Eventually(t, 60*time.Second, "a renewal", func() bool { s.isIn(ada); return q.Calls().Refresh == 1 })
	if err := <-told; err != nil {
		t.Fatal(err)
	}
	if s.isIn(ada) {
		t.Error("the session goes on")
	}
	s.killAndRestart()
	if inside(t, s.site, cookies) {
		t.Error("after a restart the session is back")
	}
	s.wantNothingInFiles(t, q.stolen())
}

// wantNothingInFiles looks for secrets in all that Caddy has on disk.
func (s *stage) wantNothingInFiles(t *testing.T, secrets []string) {
	t.Helper()
	read := 0
	err := filepath.WalkDir(s.DataDir(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		for _, secret := range secrets {
			if bytes.Contains(data, []byte(secret)) {
				t.Errorf("%s shows %.12s…", d.Name(), secret)
			}
		}
		read += len(data)
		return err
	})
	if err != nil || read == 0 || len(secrets) == 0 {
		t.Errorf("looked for %d secrets in %d bytes: %v", len(secrets), read, err)
	}
}

// Another person's tokens, line breaks in a token, and an answer without end
// are no tokens; the app receives what it received before or nothing.
func TestAppReceivesNoTokenThatABadRenewalBrought(t *testing.T) {
	t.Parallel() // the first renewal is half a minute away
	bad := map[string]logintest.Faults{
		"ada":   {IDToken: func(claims map[string]any) { claims["sub"] = "mallory" }},
		"grace": {Refresh: func(answer map[string]any) { answer["access_token"] = "x\r\nRemote-User: root" }},
		"alan":  logintest.Body("refresh", func() io.Reader { return blanks{} }),
	}
	q := newQuarry(t, "ada", "grace", "alan", "mallory")
	q.TokenLife = 25 * time.Second
	s := raid(t, forwardingOneWay, q, nil)
	people, first := map[string]*e2e.Visitor{}, map[string]string{}
	for name := range bad {
		people[name] = e2e.NewVisitor(t)
		s.arrive(t, people[name], s.site, "op", name)
		mustBe(t, people[name].Get(s.site+"/in"), http.StatusOK)
		first[name] = s.app.Last().Value(tokenHeader)
	}
	until := time.Now().Add(31 * time.Second)
	e2e.Eventually(t, 60*time.Second, "tokens to grow old", func() bool { return time.Now().After(until) })
	asked := q.Calls().Refresh
	for name, faults := range bad {
		q.NextRefresh(faults)
		asked++
		e2e.Eventually(t, e2e.Patience, name+"'s renewal", func() bool {
			mustBe(t, people[name].Get(s.site+"/in"), http.StatusOK)
			token := s.app.Last().Value(tokenHeader)
			if token != "" && token != first[name] || len(s.app.Last().Values("Remote-User")) != 1 {
				t.Errorf("%s: the app received:\n%s", name, s.app.Last().Raw)
			}
			return q.Calls().Refresh >= asked
		})
	}
	s.LogKeepsSecret(q.stolen()...)
}

// blanks is a body without end.
type blanks struct{}

func (blanks) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// Tokens longer than the store takes: the sign-in fails with a page, and the
// log says why.
func TestSignInWithTokensTooLongToKeepFailsWithAReason(t *testing.T) {
	q := newQuarry(t, "ada")
	s := raid(t, forwardingOneWay, q, nil)
	q.NextLogin(logintest.Drop("at_hash").And(logintest.Faults{Token: func(answer map[string]any) {
		answer["access_token"] = strings.Repeat("A", 300<<10)
	}}))
	ada := e2e.NewVisitor(t)
	got := ada.Get(s.toAnswer(t, ada, s.site, "op", "ada"))
	t.Logf("it is answered with %d", got.StatusCode)
	if got.StatusCode < 400 || session(got) != "" || uuid.FindString(got.Body) == "" {
		t.Errorf("%d:\n%s", got.StatusCode, got.Body)
	}
	e2e.Eventually(t, e2e.Patience, "the reason", func() bool { return strings.Contains(s.Log(), "longer than 40 KiB") })
	s.arrive(t, ada, s.site, "op", "ada")
}

// Wherever a discovery document would have people go to sign out, they are
// signed out here, and go nowhere but to https or loopback.
func TestHostileEndSessionEndpointLeadsNowhere(t *testing.T) {
	q := newQuarry(t, "ada")
	s := raid(t, oneWay, q, nil)
	for _, address := range []any{
		"javascript:alert(1)", "data:text/html,x", "http://evil.example/out", "//evil.example/out", "https:evil.example",
		"https://op@evil.example/", "https://evil.example/\r\nSet-Cookie: a=b", "https://evil.example/#f", "https:///x", "/out",
		"https://evil.example\\@good.example/", " https://evil.example/", "https://evil.example/\x00", "", 7, []string{"https://a.example/"},
		"https://evil.example/\"><script>alert(1)</script>", "https://e.example/?a=1;url=javascript:alert(1)", "https://[::1%25a]/",
	} {
		q.spoil(logintest.Faults{Discovery: func(doc map[string]any) { doc["end_session_endpoint"] = address }})
		s.Reload(oneWay)
		ada := e2e.NewVisitor(t)
		s.arrive(t, ada, s.site, "op", "ada")
		cookies := ada.Cookies(s.site)
		got := press(t, ada, s.site)
		if got.StatusCode >= 400 {
			t.Errorf("%q: %d", address, got.StatusCode)
		}
		for _, bad := range []string{"javascript:alert", "http://evil", "//op@", "<script", "data:text"} {
			if strings.Contains(strings.ReplaceAll(got.Body, "%3A", ":"), bad) && !strings.Contains(fmt.Sprint(address), "?a=1;") {
				t.Errorf("%q: the page has %s:\n%s", address, bad, got.Body)
			}
		}
		if to := got.Header.Get("Location"); to != "" && !strings.HasPrefix(to, "/.login/logout") {
			t.Errorf("%q: on to %s", address, to)
		}
		if got.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%q: a page with an ID token may be kept: %q", address, got.Header.Get("Cache-Control"))
		}
		if inside(t, s.site, cookies) {
			t.Errorf("%q: the session goes on", address)
		}
	}
}

// What comes back from the provider's sign-out chooses no page elsewhere and
// signs nobody in or out.
func TestReturnFromTheProvidersSignOutLeadsNowhereElse(t *testing.T) {
	q := newQuarry(t, "ada")
	s := raid(t, oneWay, q, nil)
	ada, stranger := e2e.NewVisitor(t), e2e.NewVisitor(t)
	s.arrive(t, ada, s.site, "op", "ada")
	for _, to := range []string{"//evil.example", "/\\evil.example", "https://evil.example", "/%0d%0aX:y", "/.login/logout?state=x", "\t//evil.example", strings.Repeat("/x", 4000)} {
		for _, query := range []string{"return=" + url.QueryEscape(to), "state=" + url.QueryEscape(to), "state=b3AgL2V2aWw.AAAA", "state=.", "state=" + strings.Repeat("A", 7000)} {
			got := stranger.Get(s.site + "/.login/logout?" + query)
			if at := got.Header.Get("Location"); at != "" || got.StatusCode != http.StatusOK || strings.Contains(got.Body, "href=\"https://evil") || strings.Contains(got.Body, "href=\"//") {
				t.Errorf("%.60q: %d to %q", query, got.StatusCode, at)
			}
		}
		r := ada.Another().Request(http.MethodPost, s.site+"/.login/logout", url.Values{"return": {to}}.Encode())
		r.Header.Set("Content-Type", formType)
		r.Header.Set("Origin", s.site)
		if at := ada.Do(r).Header.Get("Location"); at != "" && !here(at) {
			t.Errorf("%.60q leads to %q", to, at)
		}
		if !s.isIn(ada) {
			s.arrive(t, ada, s.site, "op", "ada")
		}
	}
}

// The cookie that remembers the provider is a hint, and garbage in it is none.
func TestGarbageInTheLastProviderCookieIsNoHint(t *testing.T) {
	q := newQuarry(t, "ada")
	two := strings.Replace(oneWay, "allow /public/*", "oidc second site {env.OP_SECRET} {\n\t\t\tissuer {$ISSUER}\n\t\t}\n\t\tallow /public/*", 1)
	s := raid(t, two, q, nil)
	clean := e2e.NewVisitor(t).Get(s.site + "/.login/")
	mustBe(t, clean, http.StatusOK)
	for _, value := range []string{"<script>alert(1)</script>", strings.Repeat("op", 2000), "OP", "%6fp", "\"op\"", "second; __Host-login-last=\xff"} {
		v := e2e.NewVisitor(t)
		r := v.Navigation(s.site + "/.login/")
		r.Header["Cookie"] = []string{"__Host-login-last=" + value + "; __Host-login-last=nobody"}
		got := v.Do(r)
		mustBe(t, got, http.StatusOK)
		if strings.Contains(got.Body, "alert(1)") {
			t.Errorf("%.40q stands in the page", value)
		}
	}
}

// Each refused logout token costs a signature's check at most, and nothing of it
// is kept.
func TestRefusedLogoutTokensLeaveMemoryFlat(t *testing.T) {
	q := newQuarry(t, "ada")
	s := &siege{stage: raid(t, strings.Replace(oneWay, "\tlog\n", "", 1), q, nil), issuer: q.Issuer}
	good := q.LogoutToken("site", "ada", "")
	bad := []string{
		q.LogoutToken("site", "ada", "", logintest.BadSignature()), q.LogoutToken("other", "ada", ""),
		strings.Repeat("A", 15<<10), good + "." + good,
	}
	unknown := q.LogoutToken("site", "ada", "", logintest.Faults{Header: func(h map[string]any) { h["kid"] = "new" }})
	send := func(v *e2e.Visitor, token string) *http.Request {
		r := v.Request(http.MethodPost, s.site+"/.login/op/backchannel-logout", "logout_token="+token)
		r.Header.Set("Content-Type", formType)
		return r
	}
	ask := func(v *e2e.Visitor, i int) *http.Request { return send(v, bad[i%len(bad)]) }
	s.flood(t, 3000, http.StatusBadRequest, ask)
	before, lines, asked := s.weigh(t), strings.Count(s.Log(), "\n"), q.Calls().Keys
	begun := time.Now()
	const many = 30_000
	s.flood(t, many/2, http.StatusBadRequest, ask)
	s.flood(t, many/2, 0, func(v *e2e.Visitor, _ int) *http.Request { return send(v, unknown) })
	took, after := time.Since(begun), s.weigh(t)
	t.Logf("%d tokens in %s, %s each; log grew by %d lines, keys asked for %d times",
		many, took.Round(time.Millisecond), took/many, strings.Count(s.Log(), "\n")-lines, q.Calls().Keys-asked)
	wantFlat(t, before, after, 4, 32)
	if more := strings.Count(s.Log(), "\n") - lines; more > 20+int(took/time.Second) {
		t.Errorf("strangers wrote %d lines into the log in %s", more, took)
	}
	if more := q.Calls().Keys - asked; more > int(took/(30*time.Second))+1 {
		t.Errorf("strangers had the issuer's keys fetched %d times in %s", more, took)
	}
	if got, err := s.sayGone(e2e.NewVisitor(t), s.site, "op", good); err != nil || got.StatusCode != http.StatusOK {
		t.Errorf("then a right one: %v %d", err, got.StatusCode)
	}
}

// A token that belongs to no browser is nobody's session: what a stranger sends
// as an ID token in a callback, or as a session cookie, is a logout token.
func TestLogoutTokenOpensNothing(t *testing.T) {
	q := newQuarry(t, "ada")
	s := raid(t, oneWay, q, nil)
	v := e2e.NewVisitor(t)
	token := q.LogoutToken("site", "ada", "", logintest.Faults{Header: func(h map[string]any) { delete(h, "typ") }})
	q.NextLogin(logintest.Faults{Token: func(answer map[string]any) { answer["id_token"] = token }})
	callback := s.toAnswer(t, v, s.site, "op", "ada")
	got := v.Get(callback)
	if got.StatusCode < 400 || session(got) != "" {
		t.Errorf("a logout token signs in: %d", got.StatusCode)
	}
	if inside(t, s.site, []string{cookieName + "=" + token}) {
		t.Error("a logout token is a session")
	}
}

// Somebody who was signed out at the provider has a stream open through a site
// whose other requests stopped long ago.
func TestStreamEndsWithALogoutTokenAtAnotherSite(t *testing.T) {
	q := newQuarry(t, "ada")
	both := strings.Replace(sharedCookie, "import site second", "import site op", 1)
	s := raid(t, both, q, nil)
	ada := e2e.NewVisitor(t)
	s.arrive(t, ada, s.site, "op", "ada")
	r := ada.Request(http.MethodGet, s.site+"/events", "")
	stream, err := ada.Stream(r)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	if stream.StatusCode != http.StatusOK {
		t.Fatalf("the stream: %d", stream.StatusCode)
	}
	got, err := s.sayGone(e2e.NewVisitor(t), s.other, "op", q.LogoutToken("site", "", q.sid("ada")))
	if err != nil || got.StatusCode != http.StatusOK {
		t.Fatalf("logout token: %v %d", err, got.StatusCode)
	}
	done := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, stream.Body); close(done) }()
	e2e.Eventually(t, 30*time.Second, "the stream to end", func() bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	})
	if inside(t, s.site, ada.Cookies(s.site)) {
		t.Error("the session goes on")
	}
}

// Anybody may send a token with a key ID that the issuer does not have, and has
// its keys fetched by that; for 30 s nobody else then may (shared.newer). A logout
// token by a key that the issuer changed to in this time is refused with 400,
// for good: the issuer does not come again, and its session lives on here
// (keyRing, plugin/provider/oidc/keys.go payload). It is "not now", a 503.
func TestForgedKeyIDMakesNoLogoutTokenBeRefusedForGood(t *testing.T) {
	q := newQuarry(t, "ada")
	s := raid(t, oneWay, q, nil)
	ada := e2e.NewVisitor(t)
	s.arrive(t, ada, s.site, "op", "ada")
	forged := q.LogoutToken("site", "ada", "", logintest.Faults{Header: func(h map[string]any) { h["kid"] = "invented" }})
	got, err := s.sayGone(e2e.NewVisitor(t), s.site, "op", forged)
	if err != nil || got.StatusCode < 400 {
		t.Fatalf("a forged token: %v %d", err, got.StatusCode)
	}
	q.RotateKeys()
	got, err = s.sayGone(e2e.NewVisitor(t), s.site, "op", q.LogoutToken("site", "ada", ""))
	if err != nil || got.StatusCode != http.StatusOK && got.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the issuer's token by its new key: %v %d %s, want 200, or 503 so that it comes again", err, got.StatusCode, got.Body)
	}
}

// A cookie that comes twice counts as none, and so a sign-out with two of them
// ends none (Jar.Take, portal.signOut): a neighbour below the cookie's domain
// plants a second one on /.login, and no sign-out ever works, though each is
// answered as one.
func TestSignOutWithAPlantedSecondCookieEndsTheSession(t *testing.T) {
	q := newQuarry(t, "ada")
	s := raid(t, sharedCookie, q, nil)
	ada := e2e.NewVisitor(t)
	s.arrive(t, ada, s.site, "op", "ada")
	cookies := ada.Cookies(s.site)
	r := ada.Another().Request(http.MethodPost, s.site+"/.login/logout", "")
	r.Header.Set("Origin", s.site)
	r.Header.Set("Cookie", "__Secure-login=planted; "+strings.Join(cookies, "; "))
	got := ada.Another().Do(r)
	if got.StatusCode < 400 && inside(t, s.site, cookies) {
		t.Errorf("%d is answered, and the session goes on", got.StatusCode)
	}
}

// Two sites with one cookie have a client each at one issuer, both called op.
// Whichever site sees the session when it is due renews it, with its own client:
// the issuer has never given that one this refresh token, says invalid_grant, and
// known.renew ends the session (or, worse, the issuer takes it for a theft).
func TestRefreshTokenIsNotTradedByAnotherClient(t *testing.T) {
	t.Parallel() // the first renewal is half a minute away
	q := newQuarry(t, "ada")
	q.TokenLife = 20 * time.Second
	site := func(host, client string) string {
		return strings.NewReplacer("app.test:", host+":", "op site ", "op "+client+" ",
			"allow users", "allow users\n\t\tcookie {\n\t\t\tdomain app.test\n\t\t}").Replace(forwardingOneWay)
	}
	s := raid(t, site("app.test", "site")+site("other.app.test", "second"), q, nil)
	q.Client("second", clientSecret, s.other+"/.login/op/callback")
	ada := e2e.NewVisitor(t)
	s.arrive(t, ada, s.site, "op", "ada")
	until := time.Now().Add(40 * time.Second)
	e2e.Eventually(t, 60*time.Second, "the time of a renewal to pass", func() bool {
		ada.Get(s.other + "/in")
		return time.Now().After(until)
	})
	if !s.isIn(ada) {
		t.Error("the other site's client lost the session of this one")
	}
}

// A stream that began before a reload, with no other request since, ends when
// the provider disowns its person.
func TestStreamFromBeforeAReloadEndsWithTheGrant(t *testing.T) {
	t.Parallel() // the first renewal is half a minute away
	q := newQuarry(t, "ada")
	q.TokenLife = 20 * time.Second
	s := raid(t, forwardingOneWay, q, nil)
	s.LogMayShowSecrets("of an answer that breaks off reverse_proxy tells all that the app was sent")
	ada := e2e.NewVisitor(t)
	s.arrive(t, ada, s.site, "op", "ada")
	stream := s.listen(t, ada)
	go func() { _, _ = io.Copy(io.Discard, stream) }()
	s.Reload(forwardingOneWay)
	if s.app.Open() != 1 {
		e2e.Eventually(t, e2e.Patience, "the stream to have ended with the reload", func() bool { return s.app.Open() == 0 })
		return
	}
	q.Revoke("ada")
	e2e.Eventually(t, 75*time.Second, "the stream to end", func() bool { return s.app.Open() == 0 })
}

// A name of the operator's own for the token is as well guarded as the usual
// one, over HTTP/1.1 and 2, on a public path and a protected one.
func TestTokenUnderAnotherNameIsForgedByNobody(t *testing.T) {
	q := newQuarry(t, "ada")
	s := raid(t, strings.Replace(forwardingOneWay, "tokens forward", "tokens forward X-Api-Bearer", 1), q, nil)
	for protocol, newVisitor := range map[string]func(testing.TB) *e2e.Visitor{"HTTP/1.1": e2e.NewVisitor, "HTTP/2": e2e.NewHTTP2Visitor} {
		ada := newVisitor(t)
		s.arrive(t, ada, s.site, "op", "ada")
		for _, v := range []*e2e.Visitor{ada, ada.Another()} {
			for _, name := range []string{"X-Api-Bearer", "x_api_bearer", "X.Api.Bearer", "X-API_BEARER", "Remote-User"} {
				r := v.Request(http.MethodPost, s.site+"/public/x", "body")
				r.ContentLength = -1
				r.Header[name] = []string{"forged", "forged"}
				r.Trailer = http.Header{"X-Api-Bearer": {"forged"}, "X_api_bearer": {"forged"}}
				if protocol == "HTTP/1.1" {
					r.Header["Connection"] = []string{"X-Api-Bearer, x-api-bearer"}
				}
				mustBe(t, v.Do(r), http.StatusOK)
				got := s.app.Last()
				if strings.Contains(got.Raw, "forged") || v == ada && len(got.Value("X-Api-Bearer")) < 8 {
					t.Errorf("%s, %s: the app received:\n%s", protocol, name, got.Raw)
				}
			}
		}
	}
}

// The error pages' own server is told neither who is there nor their token.
func TestErrorPagesServerReceivesNoToken(t *testing.T) {
	q, pages := newQuarry(t, "ada"), e2e.NewApp(t)
	failing := strings.Replace(forwardingOneWay, "reverse_proxy {$APP}",
		"handle_errors {\n\t\treverse_proxy "+pages.Addr+"\n\t}\n\treverse_proxy "+strings.TrimPrefix(closedIssuer(t), "http://"), 1)
	s := raid(t, failing, q, nil)
	ada := e2e.NewVisitor(t)
	v := ada.FollowOn(ada.Get(s.toAnswer(t, ada, s.site, "op", "ada")))
	if v.StatusCode != http.StatusOK {
		t.Fatalf("%d: the error page's server was not asked", v.StatusCode)
	}
	for _, secret := range q.stolen() {
		if strings.Contains(pages.Last().Raw, secret) {
			t.Errorf("it received:\n%s", pages.Last().Raw)
		}
	}
}

// With no room left nothing is answered as done that is not: neither a sign-out
// nor a logout token, and both work once there is room.
func TestFullDiskAnswersNoSignOutAsDone(t *testing.T) {
	q := newQuarry(t, "ada")
	s := &stage{Caddy: e2e.NewCaddy(t, e2e.Build(t)), app: e2e.NewApp(t)}
	s.site = fmt.Sprintf("https://app.test:%d", s.Port)
	disk := mountDisk(t, s.DataDir())
	q.Client("site", clientSecret, s.site+"/.login/op/callback")
	s.Env["APP"], s.Env["ISSUER"], s.Env["OP_SECRET"] = s.app.Addr, q.Issuer.Issuer, clientSecret
	s.Start(oneWay)
	t.Cleanup(s.Stop) // before the disk goes
	ada, other := e2e.NewVisitor(t), e2e.NewVisitor(t)
	s.arrive(t, ada, s.site, "op", "ada")
	s.arrive(t, other, s.site, "op", "ada")
	token := q.LogoutToken("site", "ada", "")
	ballast := filepath.Join(disk, "ballast")
	// Writing ends where the disk does.
	_ = os.WriteFile(ballast, make([]byte, 128*mega), 0o600)

	if got := press(t, ada, s.site); got.StatusCode != http.StatusServiceUnavailable || ada.Cookie(s.site, cookieName) == "" {
		t.Errorf("a sign-out on the full disk: %d, cookie %.8q", got.StatusCode, ada.Cookie(s.site, cookieName))
	}
	s.mustSayGone(t, "op", token, http.StatusServiceUnavailable)
	if !s.isIn(ada) || !s.isIn(other) {
		t.Error("who is signed in is not")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	cookies := ada.Cookies(s.site)
	e2e.Eventually(t, 30*time.Second, "the sign-out", func() bool { return press(t, ada, s.site).StatusCode < 400 })
	s.mustSayGone(t, "op", token, http.StatusOK)
	if s.isIn(other) || inside(t, s.site, cookies) {
		t.Error("with room again, the sessions go on")
	}
}

// mountDisk puts a small file system of its own at a directory.
func mountDisk(t *testing.T, at string) string {
	t.Helper()
	if err := os.MkdirAll(at, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", at).CombinedOutput(); err != nil {
		t.Skipf("cannot mount here: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", at).Run() })
	return at
}

// The renewals under way are bounded for the whole house (renewals.slots,
// module/renewal.go): a provider that accepts and never answers takes all 64 of
// them for 10 s at a time, and sessions of any other provider are not renewed,
// and not revalidated, meanwhile.
func TestSilentProviderKeepsNoOtherFromRenewing(t *testing.T) {
	t.Parallel() // the first renewal is half a minute away
	silent, sound := newQuarry(t, "grace"), newQuarry(t, "ada")
	silent.TokenLife, sound.TokenLife = 20*time.Second, 20*time.Second
	s := raid(t, strings.Replace(forwardingOneWay, "allow /public/*", "oidc second site {env.OP_SECRET} {\n\t\t\tissuer {$OTHER}\n\t\t\ttokens forward\n\t\t}\n\t\tallow /public/*", 1), silent, sound)
	ada := e2e.NewVisitor(t)
	s.arrive(t, ada, s.site, "second", "ada")
	var crowd []*e2e.Visitor
	for range 80 {
		crowd = append(crowd, ada.Another())
		s.arrive(t, crowd[len(crowd)-1], s.site, "op", "grace")
	}
	silent.spoil(logintest.Late("refresh", time.Minute))
	until := time.Now().Add(31 * time.Second)
	e2e.Eventually(t, 60*time.Second, "tokens to grow old", func() bool { return time.Now().After(until) })
	var all sync.WaitGroup
	defer all.Wait()
	for _, v := range crowd {
		all.Go(func() {
			if _, err := v.Try(v.Navigation(s.site + "/public/x")); err != nil {
				t.Error(err)
			}
		})
	}
	e2e.Eventually(t, e2e.Patience, "the silent provider to be asked", func() bool { return silent.Calls().Refresh >= 20 })
	e2e.Eventually(t, e2e.Patience, "Ada's tokens to be renewed", func() bool {
		mustBe(t, ada.Get(s.site+"/in"), http.StatusOK)
		return sound.Calls().Refresh == 1
	})
	// Only what is over makes room, and is told.
	if strings.Contains(s.Log(), "tokens not renewed") {
		t.Error("Ada waited for the silent provider's renewals")
	}
}
