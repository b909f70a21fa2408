package page

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// posts are the forms of a page, each as its address and fields, buttons with
// names included.
func posts(root *html.Node) (forms []string) {
	for _, form := range elements(root, "form") {
		said := attr(form, "method") + " " + attr(form, "action")
		for n := range form.Descendants() {
			if name := attr(n, "name"); name != "" {
				said += " " + name + "=" + attr(n, "value")
			}
		}
		forms = append(forms, said)
	}
	return forms
}

func TestFormsOfCodesPostWhatTheyShould(t *testing.T) {
	p := &Pages{Base: "/auth/"}
	stop := "post /auth/link token=t cancel=1"
	for name, c := range map[string]struct {
		write http.HandlerFunc
		want  []string
	}{
		"email": {func(w http.ResponseWriter, r *http.Request) {
			p.Choose(w, r, Choose{Email: &EmailForm{Address: "ada@example.com", Return: "/a?b=c"}})
		}, []string{"post /auth/email return=/a?b=c email=ada@example.com"}},
		"code": {func(w http.ResponseWriter, r *http.Request) {
			p.EnterCode(w, r, EnterCode{Digits: 6, Number: "42", Link: true})
		}, []string{"post /auth/code code=", "post /auth/code resend=1"}},
		"code without another mail": {func(w http.ResponseWriter, r *http.Request) {
			p.EnterCode(w, r, EnterCode{Digits: 6, ResendIn: -time.Nanosecond})
		}, []string{"post /auth/code code="}},
		"link": {func(w http.ResponseWriter, r *http.Request) { p.FollowLink(w, r, FollowLink{Token: "t"}) },
			[]string{"post /auth/link token=t"}},
		"elsewhere, code": {func(w http.ResponseWriter, r *http.Request) {
			p.OtherDevice(w, r, OtherDevice{Token: "t", Mode: ModeCode, Code: "123456", Numbers: []string{"1"}})
		}, []string{stop}},
		"elsewhere, match": {func(w http.ResponseWriter, r *http.Request) {
			p.OtherDevice(w, r, OtherDevice{Token: "t", Mode: ModeMatch, Numbers: []string{"17", "42", "93"}})
		}, []string{"post /auth/link token=t number=17 number=42 number=93", stop}},
		"elsewhere, allow": {func(w http.ResponseWriter, r *http.Request) {
			p.OtherDevice(w, r, OtherDevice{Token: "t", Mode: ModeAllow})
		}, []string{"post /auth/link token=t", stop}},
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

// TestLinkElsewhereShowsNoMoreThanItsMode: a code beside the three numbers
// would be a way around them.
func TestLinkElsewhereShowsNoMoreThanItsMode(t *testing.T) {
	for mode, c := range map[string]struct{ says, hides string }{
		ModeCode: {"048291", "number"}, ModeMatch: {"42", "048291"}, ModeAllow: {"Sign in here", "048291"},
	} {
		got := ask("GET", func(w http.ResponseWriter, r *http.Request) { (&Pages{}).OtherDevice(w, r, elsewhere(plain, mode)) })
		body := got.Body.String()
		if got.Code != 200 || !strings.Contains(body, c.says) || strings.Contains(body, c.hides) {
			t.Errorf("%s: %d %s", mode, got.Code, body)
		}
		for _, fact := range []string{"Firefox on", "192.0.2.0/24", "2 January 2026, 15:04 (UTC)", "Acme Intranet", "Was this not you?", "I did not ask for this"} {
			if !strings.Contains(text(elements(parsed(t, body), "main")[0]), fact) {
				t.Errorf("%s: does not say %q", mode, fact)
			}
		}
	}
}

// speaksOfSigningIn are the words of somebody who is coming in. That somebody is
// in already is another matter.
var speaksOfSigningIn = regexp.MustCompile(`(?i)\bsign in\b|signing in|you are signed in`)

// TestPagesOfOtherCodesSayWhatTheyAreFor: who types a code must know what they
// give their word to.
func TestPagesOfOtherCodesSayWhatTheyAreFor(t *testing.T) {
	for _, page := range everyOtherCode(&Pages{Title: plain.site}, plain) {
		said := text(elements(parsed(t, ask("GET", page.write).Body.String()), "main")[0])
		says := "address"
		if strings.HasSuffix(page.name, "-again") {
			says = "signed in as you|it is still you"
		}
		named := regexp.MustCompile(says).MatchString(said) || page.name == "stopped-address"
		if !named || speaksOfSigningIn.MatchString(said) {
			t.Errorf("%s: %q", page.name, said)
		}
	}
	said := text(elements(parsed(t, ask("GET", func(w http.ResponseWriter, r *http.Request) { (&Pages{}).FollowLink(w, r, FollowLink{}) }).Body.String()), "main")[0])
	if !speaksOfSigningIn.MatchString(said) {
		t.Errorf("signing in is not found in %q", said)
	}
}

// TestWhoDidNotAskToConfirmIsSentToEndTheIntruder: that code goes only to
// somebody who is signed in.
func TestWhoDidNotAskToConfirmIsSentToEndTheIntruder(t *testing.T) {
	for f, want := range map[CodeFor]bool{ForSignIn: false, ForAddress: false, ForAgain: true} {
		got := ask("GET", func(w http.ResponseWriter, r *http.Request) { (&Pages{Base: "/auth"}).Stopped(w, r, Stopped{f}) })
		if found := strings.Contains(got.Body.String(), `href="/auth/account"`); found != want || strings.Contains(got.Body.String(), "nothing else you have to do") == want {
			t.Errorf("%q: %s", f, got.Body)
		}
	}
}

// TestNoLinkAllowsAnythingElseThanSigningIn: in another browser it would prove
// the address for whoever asked.
func TestNoLinkAllowsAnythingElseThanSigningIn(t *testing.T) {
	for f, status := range map[CodeFor]int{ForSignIn: 200, ForAddress: 500, ForAgain: 500} {
		o := elsewhere(plain, ModeAllow)
		o.For = f
		got := ask("GET", func(w http.ResponseWriter, r *http.Request) { (&Pages{}).OtherDevice(w, r, o) })
		if got.Code != status || strings.Contains(got.Body.String(), "<form") != (status == 200) {
			t.Errorf("%q: %d %s", f, got.Code, got.Body)
		}
	}
}

func TestUnknownModeShowsNothing(t *testing.T) {
	for _, mode := range []string{"", "Code", "approve"} {
		got := ask("GET", func(w http.ResponseWriter, r *http.Request) { (&Pages{}).OtherDevice(w, r, elsewhere(plain, mode)) })
		if got.Code != 500 || strings.Contains(got.Body.String(), "048291") || strings.Contains(got.Body.String(), "<form") {
			t.Errorf("%q: %d %s", mode, got.Code, got.Body)
		}
	}
}

func TestDeviceIsNeverShownAsSent(t *testing.T) {
	o := elsewhere(plain, ModeCode)
	o.Device, o.Place = "Evil/1.0 (call 555-0100) Firefox/140 Linux", "  Bern,\x1b[31m\u202e\r\nSchweiz "+strings.Repeat("x", 200)
	got := ask("GET", func(w http.ResponseWriter, r *http.Request) { (&Pages{}).OtherDevice(w, r, o) })
	facts := elements(parsed(t, got.Body.String()), "dd")
	if device := text(facts[1]); device != "Firefox on Linux" {
		t.Errorf("device %q", device)
	}
	if place := text(facts[2]); !strings.HasPrefix(place, "Bern,[31m Schweiz x") || len([]rune(place)) != 80 {
		t.Errorf("place %q", place)
	}
	unknown := ask("GET", func(w http.ResponseWriter, r *http.Request) {
		(&Pages{}).OtherDevice(w, r, OtherDevice{Mode: ModeAllow})
	})
	facts = elements(parsed(t, unknown.Body.String()), "dd")
	if len(facts) != 2 || text(facts[1]) != "An unknown browser" || text(facts[0]) != "app.example.com" {
		t.Errorf("facts: %s", unknown.Body)
	}
}

func TestCodePageSaysHowManyTriesAreLeft(t *testing.T) {
	for left, want := range map[int]string{0: "That code is not right.", 1: "That code is not right. You can try one more time.", 4: "That code is not right. You can try 4 more times."} {
		got := ask("GET", func(w http.ResponseWriter, r *http.Request) {
			(&Pages{}).EnterCode(w, r, EnterCode{Digits: 6, Minutes: 5, Wrong: true, Left: left})
		})
		root := parsed(t, got.Body.String())
		var said string
		for _, p := range elements(root, "p") {
			if attr(p, "role") == "alert" {
				said = text(p)
			}
		}
		if got.Code != 422 || said != want {
			t.Errorf("%d: %d %q, want %q", left, got.Code, said, want)
		}
	}
}

func TestCodePageSaysWhatItKnows(t *testing.T) {
	for _, c := range []struct {
		given  EnterCode
		says   []string
		unsaid []string
	}{
		{EnterCode{Address: "ada@example.com", Digits: 8, Minutes: 10}, []string{"a code of 8 digits", "ada@example.com", "good for 10 minutes", "Send another mail"}, []string{"the link", "this number", "in a second"}},
		{EnterCode{Digits: 6, Minutes: 1, Link: true}, []string{"one more minute", "open the link"}, []string{"this number"}},
		{EnterCode{Digits: 6, Minutes: -3, Link: true, Number: "07"}, []string{"pick this number there: 07"}, []string{"The code is good"}},
		{EnterCode{Digits: 6, Number: "07"}, nil, []string{"07"}},
		{EnterCode{Digits: 6, ResendIn: 1}, []string{"in a second", "Send another mail"}, nil},
		{EnterCode{Digits: 6, ResendIn: 29*time.Second + 1}, []string{"in 30 seconds"}, nil},
		{EnterCode{Digits: 6, ResendIn: -1, Resent: true}, []string{"can’t send this code again", "on its way"}, []string{"Send another mail"}},
	} {
		got := ask("GET", func(w http.ResponseWriter, r *http.Request) { (&Pages{}).EnterCode(w, r, c.given) })
		said := strings.Join(strings.Fields(text(elements(parsed(t, got.Body.String()), "main")[0])), " ")
		for _, want := range c.says {
			if !strings.Contains(said, want) {
				t.Errorf("%+v: no %q in %q", c.given, want, said)
			}
		}
		for _, bad := range c.unsaid {
			if strings.Contains(said, bad) {
				t.Errorf("%+v: %q in %q", c.given, bad, said)
			}
		}
	}
}

// TestHalfACodeCostsNoAttempt holds the pattern, which browsers check, against
// what people type.
func TestHalfACodeCostsNoAttempt(t *testing.T) {
	pattern := (&EnterCode{Digits: 6}).Pattern()
	whole := regexp.MustCompile("^(?:" + pattern + ")$")
	for typed, want := range map[string]bool{
		"123456": true, "123 456": true, "123-456": true, " 1 2 3-4-5 6 ": true, "１２３４５６": true, "١٢٣٤٥٦": true,
		"": false, "12345": false, "1234567": false, "12345a": false, "abcdef": false, "123456 x": false,
	} {
		if got := whole.MatchString(typed); got != want {
			t.Errorf("%q: %t, want %t", typed, got, want)
		}
	}
}

// TestScriptsRunOnlyWhereTheyServe and nowhere else is the policy loosened.
func TestScriptsRunOnlyWhereTheyServe(t *testing.T) {
	var with []string
	pages := append(everyPage(&Pages{}, plain), drawn{"follow-link-auto", 200, func(w http.ResponseWriter, r *http.Request) {
		(&Pages{}).FollowLink(w, r, FollowLink{Token: "t", Auto: true})
	}})
	for _, page := range pages {
		got := ask("GET", page.write)
		scripts := elements(parsed(t, got.Body.String()), "script")
		if runs := strings.Contains(got.Header().Get("Content-Security-Policy"), "script-src 'self'"); runs != (len(scripts) == 1) {
			t.Errorf("%s: %d scripts, may run: %t", page.name, len(scripts), runs)
		}
		for _, s := range scripts {
			with = append(with, page.name)
			if attr(s, "src") != "/.login"+ScriptPath || text(s) != "" {
				t.Errorf("%s: script %q %q", page.name, attr(s, "src"), text(s))
			}
		}
	}
	if want := []string{"enter-code", "enter-code-wrong", "enter-code-resent", "enter-code-address", "enter-code-again", "follow-link-auto"}; !slices.Equal(with, want) {
		t.Errorf("scripts on %q, want %q", with, want)
	}
}

func TestNothingInThePagesIsInline(t *testing.T) {
	inline := regexp.MustCompile(`(?i)<style|\sstyle=|\son[a-z]+=|javascript:|<script(?: [^>]*)?>[^<]`)
	for _, page := range everyPage(&Pages{Title: plain.site}, plain) {
		if found := inline.FindString(ask("GET", page.write).Body.String()); found != "" {
			t.Errorf("%s: %q", page.name, found)
		}
	}
}

func TestCodeTroublesLeadToAnotherCode(t *testing.T) {
	for kind, status := range map[Kind]int{"challenge_expired": 400, "challenge_spent": 400, "challenge_stopped": 403, "too_many_attempts": 429} {
		got := ask("GET", func(w http.ResponseWriter, r *http.Request) {
			(&Pages{}).Trouble(w, r, Trouble{Kind: kind, Retry: "/.login/?return=%2Fa"})
		})
		links := elements(parsed(t, got.Body.String()), "a")
		if got.Code != status || kind.known() != kind || attr(links[0], "href") != "/.login/?return=%2Fa" {
			t.Errorf("%s: %d %s", kind, got.Code, got.Body)
		}
	}
}

func TestEmailStandsAloneOrBesideTheOthers(t *testing.T) {
	for name, c := range map[string]struct {
		choose Choose
		status int
		says   string
		marks  int
	}{
		"alone":        {Choose{Email: &EmailForm{LastUsed: true}}, 200, "Sign in Enter your email address, and we’ll send you a code. Email address Send me a code", 0},
		"beside":       {Choose{Buttons: everyButton(plain)[:1], Email: &EmailForm{}}, 200, "Sign in Choose how you want to continue. Sign in with Google or Email address Sign in by email", 0},
		"last used":    {Choose{Buttons: everyButton(plain)[:1], Email: &EmailForm{LastUsed: true}}, 200, "or Last used Email address", 1},
		"other's last": {Choose{Buttons: lastUsed(everyButton(plain)[:1], 0), Email: &EmailForm{LastUsed: true}}, 200, "Last used Sign in with Google or Email address", 1},
		"invalid":      {Choose{Email: &EmailForm{Address: "ada", Invalid: true}}, 422, "That is not an email address.", 0},
	} {
		got := ask("GET", func(w http.ResponseWriter, r *http.Request) { (&Pages{}).Choose(w, r, c.choose) })
		root := parsed(t, got.Body.String())
		var spaced []string
		for n := range elements(root, "main")[0].Descendants() {
			if n.Type == html.TextNode {
				spaced = append(spaced, strings.Fields(n.Data)...)
			}
		}
		if said := strings.Join(spaced, " "); got.Code != c.status || !strings.Contains(said, c.says) {
			t.Errorf("%s: %d %q", name, got.Code, said)
		}
		if n := strings.Count(got.Body.String(), `id="last-used"`); n != c.marks {
			t.Errorf("%s: %d marks, want %d", name, n, c.marks)
		}
	}
}
