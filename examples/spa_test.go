package examples_test

import (
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
	"github.com/caddy-login/caddy-login/module/logintest/inbox"
)

// ownSignIn is the stage of an app that draws its own sign-in.
type ownSignIn struct {
	*stage
	box    *inbox.Inbox
	google *logintest.Issuer
}

func appDrawsItsOwnSignIn(t *testing.T) {
	s := showOwnSignIn(t)
	s.strangerGetsTheAppAndNoNotes()
	s.codeThenAccountThenProvider("phone", e2e.NewBrowser(t).Look(320, 640, "light"))
	s.questionIsDrawn(e2e.NewBrowser(t).Look(1280, 800, "dark"))
	s.linkOnAnotherDeviceMovesTheAppOn(e2e.NewBrowser(t).Look(390, 844, "dark"))
	s.codeWaitsForThePollUnderWay(e2e.NewBrowser(t))
	s.staleSignInIsRenewed(e2e.NewBrowser(t).Look(1280, 800, "light"))
}

// showOwnSignIn has Chromium find the app: it knows no example.com.
func showOwnSignIn(t *testing.T) *ownSignIn {
	t.Helper()
	google := newGoogle(t)
	for _, person := range []logintest.Person{
		// Google does not speak for example.net, and names are anybody's to choose.
		{Subject: "2001", Name: "Mary <b onclick=alert(1)>Shelley", Email: "mary@example.net", EmailVerified: true},
		{Subject: "2002", Name: "Joan Clarke", Email: "joan@gmail.com", EmailVerified: true},
	} {
		google.Person(person)
	}
	box := inbox.Options{Username: secrets["SMTP_USERNAME"], Password: secrets["SMTP_PASSWORD"]}.New(t)
	files, err := filepath.Abs("spa/public")
	if err != nil {
		t.Fatal(err)
	}
	s := show(t, "spa",
		replacement{"app.example.com {", "app.test {"},
		replacement{"login google email {", "login google email {\ngoogle {\nissuer " + google.URL + "\n}"},
		replacement{"smtp.example.com:587", box.Addr},
		replacement{"{env.SMTP_PASSWORD}\n", "{env.SMTP_PASSWORD} {\ntls_ca {file." + box.CAFile + "}\n}\n"},
		replacement{"root public", "root " + files})
	s.awaitCertificate("app.test")
	s.register(google, "google", secrets["GOOGLE_CLIENT_ID"], secrets["GOOGLE_CLIENT_SECRET"], "app.test")
	return &ownSignIn{s, box, google}
}

func (s *ownSignIn) page(query string) string { return s.at("app.test", "/app/"+query) }

func (s *ownSignIn) strangerGetsTheAppAndNoNotes() {
	s.t.Helper()
	stranger := e2e.NewVisitor(s.t)
	s.want(stranger.Get(s.page("")), http.StatusOK)
	s.want(stranger.Do(stranger.Request(http.MethodGet, s.at("app.test", "/api/notes"), "")), http.StatusUnauthorized)
	s.want(stranger.Get(s.at("app.test", "/public/app.js")), http.StatusFound)
}

// refused is what Chromium's console says of the answers that the app shows.
var refused = []string{"status of 401", "status of 422", "status of 403"}

// codeThenAccountThenProvider signs up by mail, connects Google, and signs in by
// Google from then on.
func (s *ownSignIn) codeThenAccountThenProvider(look string, b *e2e.Browser) {
	s.t.Helper()
	b.AllowConsole(refused...)
	s.sees(b.Get(s.page("?page=account")), look+"-sign-in", "Sign in")
	b.Submit("email", "ada@example.net")
	s.sees(b, look+"-code", "Enter the code", "Mail it again in")
	code := s.next(s.box, "<login@app.test>", "ada@example.net").Code()
	b.Submit("code", wrong(code))
	s.sees(b, look+"-wrong", "Tries left: 4", "Request ")
	b.Submit("code", code)
	s.sees(b, look+"-account", "Your account", "ada@example.net", "this one")
	b.At("/app/?page=account")

	b.Click("Connect Google").See("pick who you want to be").Click("Hedy Lamarr")
	b.See("Connect these accounts?").Click("Connect them") // the site's own page
	s.sees(b, look+"-connected", "Google: hedy@example.com", "ada@example.net").At("/app/?page=account")
	b.Click("Notes").See("Notes of ").See("came by email")

	other := b.NewTab().AllowConsole(refused...)
	// The app does one thing at a time: no click counts while it asks for notes.
	other.Get(s.page("")).See("Notes of ").See("came by email").Click("Sign out").See("Continue with Google")
	b.Click("Ask it again")
	s.sees(b, look+"-asked-to-sign-in", "Sign in", "not signed in any more", "Request ")
	b.Click("Continue with Google")
	s.throughGoogle(b, "Hedy Lamarr")
	s.sees(b, look+"-notes", "Notes of ", "came by google", "ada@example.net")
	// This stand-in of Google's ends sessions there as well; by then one has left
	// the app.
	b.Click("Sign out").See("Continue with Google").DontSee("came by").At("/app/")
}

// throughGoogle picks somebody, also where Google knows the browser by now.
func (s *ownSignIn) throughGoogle(b *e2e.Browser, name string) {
	s.t.Helper()
	if b.See(""); strings.HasPrefix(b.Address(), s.google.URL) {
		b.Click(name)
	}
}

// questionIsDrawn comes by Google to an account that mail made. Whoever leaves the
// site's own question for the app is asked there.
func (s *ownSignIn) questionIsDrawn(b *e2e.Browser) {
	s.t.Helper()
	b.AllowConsole(refused...)
	b.Get(s.page("")).Submit("email", "mary@example.net").See("Enter the code")
	b.Submit("code", s.next(s.box, "<login@app.test>", "mary@example.net").Code()).See("came by email").Click("Sign out")
	b.See("Continue with Google").Click("Continue with Google").See("pick who you want to be").Click("Mary")
	s.backInTheApp(b)
	s.sees(b, "desktop-question", "Is this account yours?", "m•••@e•••.net", "Mail me a code")
	b.Click("No, leave it")
	s.sees(b, "desktop-declined", "You cancelled", "Continue with Google")

	b.Click("Continue with Google")
	s.throughGoogle(b, "Mary")
	s.backInTheApp(b)
	b.See("Is this account yours?").Click("Mail me a code").See("Enter the code")
	b.Submit("code", s.next(s.box, "<login@app.test>", "mary@example.net").Code())
	s.sees(b, "desktop-notes", "came by google", "Mary <b onclick=alert(1)>Shelley (mary@example.net)")
}

func (s *ownSignIn) backInTheApp(b *e2e.Browser) {
	s.t.Helper()
	b.At("/.login/confirm").Get(s.page(""))
}

// linkOnAnotherDeviceMovesTheAppOn opens a mail's link elsewhere, and picks the
// number that the app shows.
func (s *ownSignIn) linkOnAnotherDeviceMovesTheAppOn(b *e2e.Browser) {
	s.t.Helper()
	b.AllowConsole(refused...)
	b.Get(s.page("")).Submit("email", "grace@example.net").See("Pick")
	number := strings.Trim(b.Eval(`document.querySelector(".number").textContent`), `"`)
	letter, elsewhere := s.next(s.box, "<login@app.test>", "grace@example.net"), e2e.NewVisitor(s.t)
	choices := elsewhere.Get(letter.Link())
	s.want(elsewhere.Do(pick(s.t, elsewhere, choices, number)), http.StatusOK)
	s.sees(b, "phone-dark-notes", "came by email", "grace@example.net")
	s.want(elsewhere.Get(s.at("app.test", "/api/notes")), http.StatusFound)
}

// holdPolls keeps polls from being sent until they are let go, waits for one, and
// writes down in which order the API was called from then on.
const holdPolls = `(() => {
	const send = window.fetch, free = new Promise(go => { window.letGo = go; });
	window.calls = [];
	return new Promise(held => {
		window.fetch = async (url, ...rest) => {
			const call = url.split("/").pop();
			if (call === "poll") {
				held("held");
				await free;
			}
			window.calls.push(call + " sent");
			const answer = await send(url, ...rest);
			window.calls.push(call + " answered");
			return answer;
		};
	});
})()`

// codeWaitsForThePollUnderWay types a code while a poll is about to be sent: one
// that came after the code would be refused.
func (s *ownSignIn) codeWaitsForThePollUnderWay(b *e2e.Browser) {
	s.t.Helper()
	b.AllowConsole("status of 401") // nobody has no session
	b.Get(s.page("")).Submit("email", "edith@example.net").See("Enter the code")
	code := s.next(s.box, "<login@app.test>", "edith@example.net").Code()
	b.Eval(holdPolls)
	b.Submit("code", code)
	b.Eval(`letGo(), true`)
	b.See("came by email")
	if calls := b.Eval(`calls.slice(0, 4)`); calls != `["poll sent","poll answered","check sent","check answered"]` {
		s.t.Errorf("the app called %s", calls)
	}
}

var linkToken = regexp.MustCompile(`name="token" value="([^"]+)"`)

func pick(t *testing.T, visitor *e2e.Visitor, choices e2e.Answer, number string) *http.Request {
	t.Helper()
	token := linkToken.FindStringSubmatch(choices.Body)
	if token == nil || !strings.Contains(choices.Body, `value="`+number+`"`) {
		t.Fatalf("the page offers no number %s:\n%.3000s", number, choices.Body)
	}
	to := *choices.Request.URL
	to.RawQuery = ""
	r := visitor.Request(http.MethodPost, to.String(), url.Values{"token": {token[1]}, "number": {number}}.Encode())
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", to.Scheme+"://"+to.Host)
	return r
}

// staleSignInIsRenewed has somebody whom Google saw an hour ago end another
// session: a code makes the sign-in fresh, and the change goes on by itself. Then
// the account is to be deleted, and is kept after all.
func (s *ownSignIn) staleSignInIsRenewed(b *e2e.Browser) {
	s.t.Helper()
	b.AllowConsole(refused...)
	s.visitor(s.google, s.at("app.test", "/.login/google?return=%2F"), "2002")
	s.google.NextLogin(logintest.Set("auth_time", time.Now().Add(-time.Hour).Unix()))
	b.Get(s.page("?page=account")).Click("Continue with Google").See("pick who you want to be").Click("Joan Clarke")
	s.sees(b.See("Your account"), "desktop-account", "Google: joan@gmail.com", "End it")
	b.Click("End it")
	s.sees(b, "desktop-again", "Is it still you?", "Mail a code to joan@gmail.com")
	b.Click("Mail a code").See("Enter the code")
	b.Submit("code", s.next(s.box, "<login@app.test>", "joan@gmail.com").Code())
	b.See("That session has ended.").DontSee("End it")

	status := b.Eval(`fetch("/.login/api/v1/account/profile", {method: "DELETE"}).then(answer => answer.status)`)
	if status != "200" {
		s.t.Fatalf("the deletion is answered with %s", status)
	}
	b.Get(s.page("?page=account")).Submit("email", "joan@gmail.com").See("Enter the code")
	b.Submit("code", s.next(s.box, "<login@app.test>", "joan@gmail.com").Code())
	s.sees(b, "desktop-keep", "Keep your account?", "about to be deleted")
	b.Click("Keep my account").See("Your account").See("Google: joan@gmail.com")
}

// wrong is a code that is not this one.
func wrong(code string) string {
	last := code[len(code)-1]
	return code[:len(code)-1] + string('0'+(last-'0'+1)%10)
}

// sees waits for texts, and then asks the page what a visitor would mind.
func (s *ownSignIn) sees(b *e2e.Browser, picture string, texts ...string) *e2e.Browser {
	s.t.Helper()
	for _, text := range texts {
		b.See(text)
	}
	b.Screenshot("spa-" + picture)
	if faults := b.Eval(measureApp); faults != "[]" {
		s.t.Errorf("%s: %s", picture, faults)
	}
	return b
}

const measureApp = `(() => {
	const faults = [], root = document.documentElement, focused = document.activeElement;
	if (root.scrollWidth > root.clientWidth) faults.push("scrolls sideways: " + root.scrollWidth + " in " + root.clientWidth);
	if (!focused.closest("#view")) faults.push("the focus is on " + focused.tagName + ", not on what is new");
	if (document.querySelectorAll("h1").length !== 1) faults.push("has no heading of its own");
	for (const e of document.querySelectorAll("a, button, input")) {
		const r = e.getBoundingClientRect();
		if (e.checkVisibility() && (r.height < 44 || r.width < 44)) faults.push("target of " + r.width + " by " + r.height + ": " + e.textContent);
		if (e.tagName === "INPUT" ? !e.labels.length : !e.textContent.trim()) faults.push(e.outerHTML + " has no name");
	}
	return faults;
})()`
