package page

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// everyQuestion is every page that asks, filled with t.
func everyQuestion(p *Pages, t texts) []drawn {
	who, other := Account{Name: t.name, Email: t.email}, Account{Email: t.email}
	ways := someWays(t)
	return []drawn{
		{"confirm-link", 200, func(w http.ResponseWriter, r *http.Request) {
			p.ConfirmLink(w, r, ConfirmLink{Ask: t.request, Provider: t.provider, Account: t.name, Into: who})
		}},
		{"confirm-link-asked", 200, func(w http.ResponseWriter, r *http.Request) {
			p.ConfirmLink(w, r, ConfirmLink{Ask: t.request, Provider: t.provider, Account: t.name, Into: who, SignedIn: true, Adds: t.email})
		}},
		{"confirm-link-unnamed", 200, func(w http.ResponseWriter, r *http.Request) { p.ConfirmLink(w, r, ConfirmLink{}) }},
		{"link-or-switch", 200, func(w http.ResponseWriter, r *http.Request) {
			p.LinkOrSwitch(w, r, LinkOrSwitch{Ask: t.request, Provider: t.provider, Account: t.name, Current: who})
		}},
		{"confirm-switch", 200, func(w http.ResponseWriter, r *http.Request) {
			p.ConfirmSwitch(w, r, ConfirmSwitch{Ask: t.request, Provider: t.provider, From: who, To: other})
		}},
		{"prove-owner", 200, func(w http.ResponseWriter, r *http.Request) {
			p.ProveOwner(w, r, ProveOwner{Ask: t.request, Provider: t.provider, Account: t.name, Address: t.email, Mail: true, Ways: ways})
		}},
		{"prove-owner-ways", 200, func(w http.ResponseWriter, r *http.Request) {
			p.ProveOwner(w, r, ProveOwner{Ask: t.request, Provider: t.provider, Address: t.email, Ways: ways})
		}},
		{"prove-address", 200, func(w http.ResponseWriter, r *http.Request) {
			p.ProveAddress(w, r, ProveAddress{t.request, t.provider, t.email})
		}},
		{"keep-account", 200, func(w http.ResponseWriter, r *http.Request) {
			p.KeepAccount(w, r, KeepAccount{t.request, who, sampleTime})
		}},
		{"let-app-in", 200, func(w http.ResponseWriter, r *http.Request) { p.LetAppIn(w, r, LetAppIn{t.request, who}) }},
		{"sign-in-again", 200, func(w http.ResponseWriter, r *http.Request) {
			p.SignInAgain(w, r, SignInAgain{Account: who, Mail: true, Address: t.email, Ways: ways, Return: t.address, Back: t.address})
		}},
		{"sign-in-again-mail", 200, func(w http.ResponseWriter, r *http.Request) {
			p.SignInAgain(w, r, SignInAgain{Account: other, Mail: true, Address: t.email, Return: t.address})
		}},
		{"declined", 200, func(w http.ResponseWriter, r *http.Request) {
			p.Declined(w, r, Declined{Again: "/.login/account", Home: "/"})
		}},
		{"declined-signed-in", 200, func(w http.ResponseWriter, r *http.Request) {
			p.Declined(w, r, Declined{Again: "/.login/account", Home: "/", SignedIn: true})
		}},
	}
}

func someWays(t texts) []Way {
	return []Way{{"google", "Google", "google"}, {"apple", "Apple", "apple"}, {t.label, t.label, "example"}}
}

func TestQuestionsPostWhatTheyShould(t *testing.T) {
	p := &Pages{Base: "/auth/"}
	ways := []Way{{"google", "Google", "google"}, {"corp", "Corp", ""}}
	confirm, again := "post /auth/confirm ask=a1", "post /auth/account/again return=/x?y=z"
	for name, c := range map[string]struct {
		write http.HandlerFunc
		want  []string
	}{
		"confirm link": {func(w http.ResponseWriter, r *http.Request) { p.ConfirmLink(w, r, ConfirmLink{Ask: "a1"}) },
			[]string{confirm + " do=link do=cancel"}},
		"link or switch": {func(w http.ResponseWriter, r *http.Request) { p.LinkOrSwitch(w, r, LinkOrSwitch{Ask: "a1"}) },
			[]string{confirm + " do=cancel do=link do=switch"}},
		"confirm switch": {func(w http.ResponseWriter, r *http.Request) { p.ConfirmSwitch(w, r, ConfirmSwitch{Ask: "a1"}) },
			[]string{confirm + " do=switch do=cancel"}},
		"prove owner": {func(w http.ResponseWriter, r *http.Request) {
			p.ProveOwner(w, r, ProveOwner{Ask: "a1", Mail: true, Ways: ways})
		}, []string{confirm + " do=code", confirm + " do=prove provider=google provider=corp", confirm + " do=cancel"}},
		"prove owner without mail": {func(w http.ResponseWriter, r *http.Request) {
			p.ProveOwner(w, r, ProveOwner{Ask: "a1", Ways: ways})
		}, []string{confirm + " do=prove provider=google provider=corp", confirm + " do=cancel"}},
		"prove address": {func(w http.ResponseWriter, r *http.Request) { p.ProveAddress(w, r, ProveAddress{Ask: "a1"}) },
			[]string{confirm + " do=code do=cancel"}},
		"keep account": {func(w http.ResponseWriter, r *http.Request) { p.KeepAccount(w, r, KeepAccount{Ask: "a1"}) },
			[]string{confirm + " do=keep do=cancel"}},
		"let app in": {func(w http.ResponseWriter, r *http.Request) { p.LetAppIn(w, r, LetAppIn{Ask: "a1"}) },
			[]string{"post /auth/native ask=a1 do=continue do=another do=cancel"}},
		"sign in again": {func(w http.ResponseWriter, r *http.Request) {
			p.SignInAgain(w, r, SignInAgain{Mail: true, Ways: ways, Return: "/x?y=z"})
		}, []string{again + " do=code", again + " do=again provider=google provider=corp"}},
		"enter code": {func(w http.ResponseWriter, r *http.Request) {
			p.EnterCode(w, r, EnterCode{Digits: 6, Ask: "a1", At: "/auth/confirm"})
		}, []string{confirm + " code=", "post /auth/confirm resend=1 ask=a1"}},
	} {
		root := parsed(t, ask("GET", c.write).Body.String())
		if got := posts(root); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		for _, b := range elements(root, "button") {
			if attr(b, "type") != "submit" || strings.TrimSpace(text(b)) == "" {
				t.Errorf("%s: a button that says %q and does %q", name, text(b), attr(b, "type"))
			}
		}
	}
}

// TestQuestionsSayWhatIsAtStake: who is talked into a yes must have been told
// by the page itself whom that lets in.
func TestQuestionsSayWhatIsAtStake(t *testing.T) {
	ways := []Way{{"google", "Google", "google"}}
	ada := Account{Name: "Ada", Email: "ada@example.com"}
	for name, c := range map[string]struct {
		write http.HandlerFunc
		says  []string
	}{
		"brought together": {func(w http.ResponseWriter, r *http.Request) {
			(&Pages{}).ConfirmLink(w, r, ConfirmLink{Provider: "Okta", Account: "ada-w", Into: ada})
		}, []string{"Account at Okta ada-w", "Your account here Ada ada@example.com", "the same email address", "whoever can sign in with that account at Okta can sign in here as you", "yours alone?", "Nothing has changed yet"}},
		"asked for": {func(w http.ResponseWriter, r *http.Request) {
			(&Pages{}).ConfirmLink(w, r, ConfirmLink{Provider: "Okta", Into: ada, SignedIn: true, Adds: "ada@example.org"})
		}, []string{"You chose on your account page", "An account without a name", "The address ada@example.org is then added", "whoever can sign in with that account at Okta can sign in here as you", "Nothing has changed yet"}},
		"link or switch": {func(w http.ResponseWriter, r *http.Request) {
			(&Pages{}).LinkOrSwitch(w, r, LinkOrSwitch{Provider: "Okta", Account: "ada-w", Current: ada})
		}, []string{"You are signed in as Ada ada@example.com Account at Okta ada-w", "whoever can sign in with that account at Okta can sign in here as you", "Was it you who just signed in at Okta?", "Nothing has changed yet"}},
		"switch": {func(w http.ResponseWriter, r *http.Request) {
			(&Pages{}).ConfirmSwitch(w, r, ConfirmSwitch{Provider: "Okta", From: ada, To: Account{Email: "eve@example.com"}})
		}, []string{"You are signed in as Ada", "You would switch to eve@example.com", "Was it you", "Nothing has changed yet"}},
		"owner": {func(w http.ResponseWriter, r *http.Request) {
			(&Pages{}).ProveOwner(w, r, ProveOwner{Provider: "Okta", Account: "ada-w", Address: "ada@example.com", Mail: true, Ways: ways})
		}, []string{"Account at Okta ada-w", "code to ada@example.com", "whoever can sign in with that account at Okta can sign in here as you", "Nothing has changed yet"}},
		"address": {func(w http.ResponseWriter, r *http.Request) {
			(&Pages{}).ProveAddress(w, r, ProveAddress{Provider: "Okta", Address: "ada@example.com"})
		}, []string{"from Okta", "ada@example.com", "If there is an account here with this address", "Nothing has changed yet"}},
		"deletion": {func(w http.ResponseWriter, r *http.Request) {
			(&Pages{}).KeepAccount(w, r, KeepAccount{Account: ada, Deletes: sampleTime})
		}, []string{"Ada ada@example.com", "2 January 2026, 15:04 (UTC)", "it will be deleted"}},
		"app": {func(w http.ResponseWriter, r *http.Request) {
			(&Pages{}).LetAppIn(w, r, LetAppIn{Account: ada})
		}, []string{"You are signed in as Ada ada@example.com", "the app can do here whatever you can", "Did you open that app yourself", "if somebody sent you here, cancel", "Nothing has changed yet"}},
		"again": {func(w http.ResponseWriter, r *http.Request) {
			(&Pages{}).SignInAgain(w, r, SignInAgain{Account: ada, Mail: true, Address: "ada@example.com"})
		}, []string{"You are signed in as Ada", "code to ada@example.com", "Nothing has changed yet", "No, cancel"}},
	} {
		said := spaced(t, c.write)
		for _, want := range c.says {
			if !strings.Contains(said, want) {
				t.Errorf("%s: no %q in %q", name, want, said)
			}
		}
	}
}

// spaced is what a page says to who hears it, with a space between any two
// pieces of text.
func spaced(t *testing.T, write http.HandlerFunc) string {
	t.Helper()
	var words []string
	for n := range elements(parsed(t, ask("GET", write).Body.String()), "main")[0].Descendants() {
		if n.Type == html.TextNode && !unheard(n) {
			words = append(words, strings.Fields(n.Data)...)
		}
	}
	return strings.Join(words, " ")
}

func unheard(n *html.Node) bool {
	for up := range n.Ancestors() {
		if attr(up, "aria-hidden") == "true" {
			return true
		}
	}
	return false
}

// TestNoAnswerStandsOutWhereAStrangerMayHaveAsked: with login CSRF it is the
// attacker who chose the account that is offered.
func TestNoAnswerStandsOutWhereAStrangerMayHaveAsked(t *testing.T) {
	got := ask("GET", func(w http.ResponseWriter, r *http.Request) { (&Pages{}).LinkOrSwitch(w, r, LinkOrSwitch{}) })
	for i, b := range elements(parsed(t, got.Body.String()), "button") {
		if attr(b, "class") != "button" || i == 0 && attr(b, "value") != "cancel" {
			t.Errorf("button %d is %q and does %q", i, attr(b, "class"), attr(b, "value"))
		}
	}
}

// TestAddressPageIsTheSameForAnybodysAddress: the page is drawn of the address and the
// site's ways alone, so that who has only the address learns no more.
func TestAddressPageIsTheSameForAnybodysAddress(t *testing.T) {
	page := func(address string) string {
		got := ask("GET", func(w http.ResponseWriter, r *http.Request) {
			(&Pages{}).ProveAddress(w, r, ProveAddress{Ask: "a", Provider: "Okta", Address: address})
		})
		return strings.ReplaceAll(got.Body.String(), address, "")
	}
	if page("ada@example.com") != page("alf@example.com") {
		t.Error("two addresses, two pages")
	}
}

func TestStrangersNamesStayInTheirPlace(t *testing.T) {
	name := "\u202eevil " + strings.Repeat("wide ", 2000)
	root := parsed(t, ask("GET", func(w http.ResponseWriter, r *http.Request) {
		(&Pages{}).ConfirmLink(w, r, ConfirmLink{Provider: name, Account: name, Into: Account{Name: name, Email: name}, Adds: name})
	}).Body.String())
	for _, b := range elements(root, "bdi") {
		if n := len([]rune(text(b))); n > longest+1 {
			t.Errorf("%d characters are drawn", n)
		}
	}
	for _, e := range append(elements(root, "dt"), elements(root, "p")...) {
		said := text(e)
		if i := strings.Index(said, "\u202e"); i > 0 && !strings.HasSuffix(said[:i], "\u2068") && attr(e.Parent, "class") != "account" {
			t.Errorf("not isolated: %.200q", said)
		}
	}
}

func TestNameThatNobodyCanSeeIsNone(t *testing.T) {
	for _, name := range []string{"", " ", "\u200b\u200b", "\u202e", "\x00"} {
		said := spaced(t, func(w http.ResponseWriter, r *http.Request) {
			(&Pages{}).ConfirmLink(w, r, ConfirmLink{Provider: "Okta", Account: name, Into: Account{Name: name, Email: "ada@example.com"}})
		})
		if !strings.Contains(said, "Account at Okta An account without a name Your account here ada@example.com If") {
			t.Errorf("%q: %s", name, said)
		}
	}
}

func TestSignInAgainLeadsBack(t *testing.T) {
	for back, want := range map[string]string{"/.login/account": "/.login/account", "": "/", "//evil.example": "/", "javascript:alert(1)": "/"} {
		got := ask("GET", func(w http.ResponseWriter, r *http.Request) {
			(&Pages{}).SignInAgain(w, r, SignInAgain{Mail: true, Back: back})
		})
		links := elements(parsed(t, got.Body.String()), "a")
		if len(links) != 1 || attr(links[0], "href") != want {
			t.Errorf("%q leads to %s", back, got.Body)
		}
	}
}

func TestWhoDeclinedHasAWayOn(t *testing.T) {
	for given, want := range map[Declined][]string{
		{}:                                       {"/.login/"},
		{Again: "/.login/?return=%2Fa"}:          {"/.login/?return=%2Fa"},
		{Again: "/b", Home: "/a"}:                {"/b", "/a"},
		{Again: "//evil", Home: "//evil"}:        {"/.login/"},
		{SignedIn: true}:                         {"/"},
		{SignedIn: true, Again: "/b", Home: "/"}: {"/", "/b"},
		{SignedIn: true, Home: "//evil"}:         {"/"},
	} {
		root := parsed(t, ask("GET", func(w http.ResponseWriter, r *http.Request) { (&Pages{}).Declined(w, r, given) }).Body.String())
		var got []string
		for _, a := range elements(root, "a") {
			got = append(got, attr(a, "href"))
		}
		said := text(elements(root, "main")[0])
		if !slices.Equal(got, want) || strings.Contains(said, "You are still signed in.") != given.SignedIn || strings.Contains(said, "You are not signed in.") == given.SignedIn {
			t.Errorf("%+v: %q, %q", given, got, said)
		}
	}
}

func TestCodePageGoesOnlyToAPathOfThisSite(t *testing.T) {
	for at, want := range map[string]string{
		"": "/.login/code", "/.login/confirm": "/.login/confirm", "/.login/confirm?ask=1": "/.login/code", "/.login/confirm#x": "/.login/code",
		"//evil.example": "/.login/code", "https://evil.example/": "/.login/code", "confirm": "/.login/code", "/\\evil": "/.login/code",
	} {
		got := ask("GET", func(w http.ResponseWriter, r *http.Request) { (&Pages{}).EnterCode(w, r, EnterCode{Digits: 6, At: at}) })
		for _, form := range elements(parsed(t, got.Body.String()), "form") {
			if attr(form, "action") != want {
				t.Errorf("%q: a form goes to %q", at, attr(form, "action"))
			}
		}
	}
}

// TestCodeForAnythingElseDoesNotSaySignIn, on the button or on the way back.
func TestCodeForAnythingElseDoesNotSaySignIn(t *testing.T) {
	for f, want := range map[CodeFor][2]string{
		ForSignIn: {"Sign in", "Use another address"}, "?": {"Sign in", "Use another address"}, ForAddress: {"Continue", "Go back"}, ForAgain: {"Continue", "Go back"},
	} {
		root := parsed(t, ask("GET", func(w http.ResponseWriter, r *http.Request) { (&Pages{}).EnterCode(w, r, EnterCode{For: f, Digits: 6}) }).Body.String())
		if button, link := text(elements(root, "button")[0]), text(elements(root, "a")[0]); button != want[0] || link != want[1] {
			t.Errorf("%q: %q, %q", f, button, link)
		}
	}
}

func TestTroublesOfLinkingSayThatNothingChanged(t *testing.T) {
	for kind, code := range map[Kind]string{
		IdentityLinked: "identity_already_linked", FreshNeeded: "fresh_sign_in_required", LastWayIn: "last_way_in",
		Outdated: "outdated", TooManyLinked: "too_many", WrongAccount: "wrong_account",
	} {
		got := ask("GET", func(w http.ResponseWriter, r *http.Request) {
			(&Pages{}).Trouble(w, r, Trouble{Kind: kind, Provider: "Okta", Retry: "/.login/account"})
		})
		links := elements(parsed(t, got.Body.String()), "a")
		if string(kind) != code || attr(links[0], "href") != "/.login/account" {
			t.Errorf("%s: %s", code, got.Body)
		}
	}
}

func TestDeletionIsToldInItsZone(t *testing.T) {
	for at, want := range map[time.Time]bool{asked: true, {}: false} {
		w := httptest.NewRecorder()
		(&Pages{}).KeepAccount(w, httptest.NewRequest("GET", "/", nil), KeepAccount{Deletes: at})
		if got := strings.Contains(w.Body.String(), "21 November 2026, 06:21 (UTC&#43;1)") || strings.Contains(w.Body.String(), "(UTC+1)"); got != want || strings.Contains(w.Body.String(), "at this time") != want {
			t.Errorf("%v: %s", at, w.Body)
		}
	}
}
