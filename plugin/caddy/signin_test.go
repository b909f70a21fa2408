package main_test

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

func TestSignInEndsExactlyWhereItWanted(t *testing.T) {
	s := play(t, usual)
	visitor := e2e.NewVisitor(t)
	const wanted = "/deep/p%C3%A5ge/?q=a%20b&x=1+2&y=%2Fz&empty=&again=1&again=2"
	got := visitor.SignIn(s.site+wanted, e2e.Ada)
	mustBe(t, got, http.StatusOK)
	if got.Request.URL.String() != s.site+wanted {
		t.Errorf("ended at %s", got.Request.URL)
	}
	received := s.app.Last()
	if received.Target != wanted {
		t.Errorf("the app was asked for %s", received.Target)
	}
	for name, want := range map[string]string{
		"Remote-Email": e2e.Ada.Email, "Remote-Name": e2e.Ada.Name,
	} {
		if got := received.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	groups := strings.Split(received.Value("Remote-Groups"), ",")
	for _, group := range e2e.Ada.Groups {
		if !slices.Contains(groups, group) {
			t.Errorf("Remote-Groups: %q lacks %s", groups, group)
		}
	}
	user := received.Value("Remote-User")
	if user == "" || strings.Contains(user, "ada") {
		t.Errorf("Remote-User is %q", user)
	}
	visitor.Get(s.site + "/next")
	if again := s.app.Last().Value("Remote-User"); again != user {
		t.Errorf("Remote-User was %q and is %q", user, again)
	}
	if len(s.app.Requests()) != 2 {
		t.Errorf("the app received %d requests", len(s.app.Requests()))
	}
}

func TestSameUserAfterEverySignIn(t *testing.T) {
	s := play(t, usual)
	ids := map[string]bool{}
	for _, who := range []e2e.Person{e2e.Ada, e2e.Grace, e2e.Ada} {
		s.signedIn(t, who).Get(s.site + "/")
		ids[s.app.Last().Value("Remote-User")] = true
	}
	if len(ids) != 2 || ids[""] {
		t.Errorf("two people are %v", ids)
	}
}

func TestNamesArriveAsTheyAre(t *testing.T) {
	s := play(t, usual)
	s.signedIn(t, e2e.Zoe).Get(s.site + "/public/")
	received := s.app.Last()
	name, err := url.PathUnescape(received.Value("Remote-Name"))
	if err != nil || name != e2e.Zoe.Name {
		t.Errorf("Remote-Name is %q", received.Value("Remote-Name"))
	}
	if groups := received.Values("Remote-Groups"); len(groups) > 0 && strings.Join(groups, "") != "" {
		// Groups of ours may be there, none of the provider's.
		for _, group := range strings.Split(groups[0], ",") {
			if group == "staff" || group == "maths" {
				t.Errorf("Remote-Groups is %q", groups)
			}
		}
	}
}

func TestUnprovenAddressIsNotSent(t *testing.T) {
	s := play(t, usual)
	s.signedIn(t, e2e.Mallory).Get(s.site + "/public/")
	received := s.app.Last()
	if received.Value("Remote-User") == "" {
		t.Error("Mallory is not recognised")
	}
	if strings.Contains(strings.ToLower(received.Raw), "mallory@") {
		t.Errorf("an address nobody proved went to the app:\n%s", received.Raw)
	}
	mustBe(t, s.signedIn(t, e2e.Mallory).Get(s.site+"/"), http.StatusForbidden)
}

func TestSessionCookieIsOfTheStrictKind(t *testing.T) {
	s := play(t, usual)
	visitor := e2e.NewVisitor(t)
	got := visitor.Get(visitor.UntilCallback(s.site+"/", e2e.Ada))
	for _, cookie := range got.Cookies() {
		if cookie.Name != cookieName || cookie.MaxAge < 0 {
			continue
		}
		if !cookie.Secure || !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/" || cookie.Domain != "" {
			t.Errorf("the cookie is %s", cookie.Raw)
		}
		if size := len(cookie.Name) + 1 + len(cookie.Value); size > 400 {
			t.Errorf("the cookie has %d bytes", size)
		}
		if life := time.Duration(cookie.MaxAge) * time.Second; life > 30*24*time.Hour || life < time.Hour {
			t.Errorf("the cookie lives %s", life)
		}
		return
	}
	t.Fatalf("no session cookie in %q", got.Header.Values("Set-Cookie"))
}

func TestCookieHasNoPrefixOnPlainLoopback(t *testing.T) {
	s := play(t, strings.Replace(usual, "https://app.test:{$PORT}", "http://app.localhost:{$PORT2}", 1))
	visitor := e2e.NewVisitor(t)
	mustBe(t, visitor.SignIn(s.plain+"/here", e2e.Ada), http.StatusOK)
	if visitor.Cookie(s.plain, "login") == "" {
		t.Errorf("the cookies are %q", visitor.Cookies(s.plain))
	}
}

func TestTwoTabsSignInAtOnce(t *testing.T) {
	s := play(t, usual)
	visitor := e2e.NewVisitor(t)
	first := visitor.Follow(s.site + "/first?tab=1")
	second := visitor.Follow(s.site + "/second?tab=2")
	toSecond := visitor.AnswerProvider(second, e2e.Ada)
	toFirst := visitor.AnswerProvider(first, e2e.Ada)
	for _, end := range []struct{ callback, want string }{{toSecond, "/second?tab=2"}, {toFirst, "/first?tab=1"}} {
		got := visitor.Follow(end.callback)
		mustBe(t, got, http.StatusOK)
		if got.Request.URL.RequestURI() != end.want {
			t.Errorf("ended at %s, want %s", got.Request.URL, end.want)
		}
	}
}

func TestSignInWorksInABrowser(t *testing.T) {
	s := play(t, usual)
	browser := e2e.NewBrowser(t)
	browser.Get(s.site + "/deep?q=a%20b&c=1#part").SignIn(e2e.Ada).
		See("The app").At("/deep?q=a%20b&c=1#part").See(e2e.Ada.Email).See(e2e.Ada.Name)
	cookie := browser.Cookies("app.test")[cookieName]
	if cookie == nil || !cookie.HttpOnly || !cookie.Secure {
		t.Fatalf("the session cookie is %+v", cookie)
	}
	second := browser.NewTab().Get(s.site + "/other").See(e2e.Ada.Email)
	second.Get(s.site + "/.login/logout").See("Sign out").Screenshot("sign-out")
	browser.Get(s.site + "/still").See("The app")
	second.Click("Sign out").See("Sign out here, too?").DontSee("The app")
	e2e.Eventually(t, e2e.Patience, "the cookie to go", func() bool {
		return browser.Cookies("app.test")[cookieName] == nil
	})
	if s.isIn(replay(e2e.NewVisitor(t), s.site, cookie.Value)) {
		t.Error("the session outlived its end")
	}
}

func TestTwoTabsOfABrowserSignInAtOnce(t *testing.T) {
	s := play(t, usual)
	first := e2e.NewBrowser(t).Get(s.site + "/first?tab=1").See("Who are you?")
	second := first.NewTab().Get(s.site + "/second?tab=2").See("Who are you?")
	second.SignIn(e2e.Ada).See("The app").At("/second?tab=2")
	first.SignIn(e2e.Ada).See("The app").At("/first?tab=1")
}

func TestFormPostWorksInABrowser(t *testing.T) {
	s := play(t, strings.Replace(usual, "label ", "response_mode form_post\n\t\t\tlabel ", 1))
	browser := e2e.NewBrowser(t)
	browser.Get(s.site + "/deep?q=1").SignIn(e2e.Ada).See(e2e.Ada.Email).At("/deep?q=1")

	// The same answer as a GET is none.
	visitor := e2e.NewVisitor(t)
	page := visitor.Follow(s.site + "/deep")
	answer := visitor.FollowOn(visitor.Submit(page, "person", e2e.Ada.Email))
	forged := visitor.Get(s.site + "/.login/op/callback?" + fieldsOf(t, answer).Encode())
	wantErrorPage(t, forged)
	if s.isIn(visitor) {
		t.Error("a GET with code and state signed in")
	}
}

// fieldsOf are the hidden fields of the form that a provider posts.
func fieldsOf(t *testing.T, page e2e.Answer) url.Values {
	t.Helper()
	fields := url.Values{}
	for _, match := range regexp.MustCompile(`name="([^"]+)" value="([^"]*)"`).FindAllStringSubmatch(page.Body, -1) {
		fields.Set(match[1], match[2])
	}
	if fields.Get("code") == "" || fields.Get("state") == "" {
		t.Fatalf("the provider posts nothing:\n%.2000s", page.Body)
	}
	return fields
}

func TestBlockedCookiesAreExplained(t *testing.T) {
	s := play(t, usual)
	browser := e2e.NewBrowserBlocking(t, "app.test").AllowConsole("the server responded with a status of 4")
	browser.Get(s.site + "/deep").SignIn(e2e.Ada).See("cookie").Screenshot("blocked-cookies")
	if calls := s.provider.TokenCalls(); calls != 0 {
		t.Errorf("the provider was asked for tokens %d times", calls)
	}
	s.untouched(t)
}

func TestSessionCookieThatDoesNotStickIsNoLoop(t *testing.T) {
	s := play(t, usual)
	visitor := e2e.NewVisitor(t)
	callback := visitor.UntilCallback(s.site+"/deep", e2e.Ada)
	landed := visitor.Get(callback)
	// A browser that drops the session cookie alone, and keeps all others.
	u, _ := url.Parse(s.site)
	visitor.Jar.SetCookies(u, []*http.Cookie{{Name: cookieName, Path: "/", Secure: true, MaxAge: -1}})
	got := visitor.FollowOn(landed)
	if !strings.HasPrefix(got.Request.URL.String(), s.site+"/.login") || !strings.Contains(strings.ToLower(got.Body), "cookie") {
		t.Errorf("ended at %s: %d\n%.1500s", got.Request.URL, got.StatusCode, got.Body)
	}
	s.untouched(t)
}

// Whose session ended as soon as it began hears of that, and not of cookies: they
// were kept. One that is not ours was not.
func TestWhoIsSignedOutAtOnceIsToldSo(t *testing.T) {
	s := play(t, usual)
	ada := s.signedIn(t, e2e.Ada)
	s.operator(t, http.MethodPost, "users/"+s.idOf(t, e2e.Ada.Email)+"/end-sessions", "").into(t, new(any))
	got := ada.Follow(s.site + "/deep")
	if !strings.Contains(got.Body, "You are signed out.") || strings.Contains(strings.ToLower(got.Body), "cookie") {
		t.Errorf("ended at %s: %d\n%.1500s", got.Request.URL, got.StatusCode, got.Body)
	}
	u, _ := url.Parse(s.site)
	ada.Jar.SetCookies(u, []*http.Cookie{{Name: cookieName, Value: "somebody-else-s", Path: "/", Secure: true}})
	if got := ada.Follow(s.site + "/deep"); !strings.Contains(got.Body, "did not keep") {
		t.Errorf("ended at %s: %d\n%.1500s", got.Request.URL, got.StatusCode, got.Body)
	}
	s.untouched(t)
}

const oneDeadOfThree = `
https://app.test:{$PORT} {
	log
	login {
		oidc op site {env.OP_SECRET} {
			issuer {$ISSUER}
			label "Living"
		}
		oidc closed site secret {
			issuer {$CLOSED}
			label "Closed"
		}
		oidc silent site secret {
			issuer {$SILENT}
			label "Silent"
		}
		allow users
	}
	reverse_proxy {$APP}
}
`

func TestDeadProviderSaysSoAndTheOtherWorks(t *testing.T) {
	s := playWith(t, oneDeadOfThree, map[string]string{"CLOSED": closedIssuer(t), "SILENT": silentIssuer(t)})
	browser := e2e.NewBrowser(t).AllowConsole("the server responded with a status of 5")
	for _, label := range []string{"Closed", "Silent"} {
		browser.Get(s.site + "/deep").See("Living").See(label).Screenshot("choose")
		browser.Click(label).See("no answer from " + label)
		if took := s.took(t, "/.login/"+strings.ToLower(label)); took > 4*time.Second {
			t.Errorf("%s was given up after %s", label, took)
		}
	}
	browser.Get(s.site + "/deep").Click("Living").SignIn(e2e.Ada).See("The app").At("/deep")
}

// took is how long the site was about its answer at path, by its access log:
// what a browser needs besides is no affair of ours.
func (s *stage) took(t *testing.T, path string) (took time.Duration) {
	t.Helper()
	e2e.Eventually(t, time.Minute, "the answer at "+path+" to be logged", func() bool {
		for _, entry := range s.Logs() {
			request, _ := entry["request"].(map[string]any)
			uri, _ := request["uri"].(string)
			if seconds, ended := entry["duration"].(float64); ended && strings.HasPrefix(uri, path+"?") {
				took = time.Duration(seconds * float64(time.Second))
				return true
			}
		}
		return false
	})
	return took
}

const everywhere = `
{
	login {
		oidc op site {env.OP_SECRET} {
			issuer {$ISSUER}
		}
		allow *@example.com
		store badger {$STORE}
	}
}
https://app.test:{$PORT} {
	login
	reverse_proxy {$APP}
}
https://other.test:{$PORT} {
	login op
	reverse_proxy {$APP}
}
`

func TestOneGlobalLoginServesTwoSites(t *testing.T) {
	s := playWith(t, everywhere, map[string]string{"STORE": t.TempDir()})
	visitor := e2e.NewVisitor(t)
	mustBe(t, visitor.SignIn(s.site+"/one", e2e.Ada), http.StatusOK)
	user := s.app.Last().Value("Remote-User")

	// The cookie of one site is nothing at the other.
	thief := replay(visitor, s.other, visitor.Cookie(s.site, cookieName))
	mustBe(t, thief.Get(s.other+"/two"), http.StatusFound)

	// The provider remembers Ada, so nobody asks her again; she is the same.
	mustBe(t, visitor.Follow(s.other+"/two"), http.StatusOK)
	if again := s.app.Last().Value("Remote-User"); again != user {
		t.Errorf("Ada is %q here and %q there", user, again)
	}
}
