package page

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

var asked = time.Date(2026, time.November, 21, 6, 21, 0, 0, time.FixedZone("", 3600))

var usualLetter = CodeLetter{
	To: "ada@example.com", Code: "048291", Link: "https://app.example.com/.login/link#4f1c2a9be07d4f1c2a9be07d4f1c2a9be07d4f1c2a9be07d",
	Host: "app.example.com", Device: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", Place: "192.0.2.0/24",
	Asked: asked, Expires: asked.Add(10 * time.Minute), Mode: ModeCode,
}

func TestLetterSaysAllThatMatters(t *testing.T) {
	got := (&Pages{Title: "Acme Intranet"}).CodeLetter(usualLetter)
	want := `Type this code where you are signing in to app.example.com:

    048291

It works once, until 21 November 2026, 06:31 (UTC+1).

Or, in the browser where you began, use this link:

https://app.example.com/.login/link#4f1c2a9be07d4f1c2a9be07d4f1c2a9be07d4f1c2a9be07d

Browser: Firefox on Linux
Place: 192.0.2.0/24
Time: 21 November 2026, 06:21 (UTC+1)

Never share this code or this link, whatever somebody tells you. We never ask for them.

Was this not you? Nobody gets in without this mail. To make its code worthless at once, open the link and say so.

@app.example.com #048291`
	if got.Text != want {
		t.Errorf("text:\n%s\nwant:\n%s", got.Text, want)
	}
	if got.To != "ada@example.com" || got.From != "" || got.Subject != "048291 is your code for Acme Intranet (app.example.com)" {
		t.Errorf("to %q, from %q, subject %q", got.To, got.From, got.Subject)
	}
	shown := strings.Join(strings.Fields(text(elements(parsed(t, got.HTML), "body")[0])), " ")
	for _, said := range []string{"048291", "until 21 November 2026, 06:31 (UTC+1)", usualLetter.Link, "Firefox on Linux", "192.0.2.0/24", "06:21", "Never share", "Was this not you?"} {
		if !strings.Contains(shown, said) {
			t.Errorf("the HTML does not say %q: %s", said, shown)
		}
	}
}

// TestLetterSaysWhatItsCodeIsFor to who did not ask, too.
func TestLetterSaysWhatItsCodeIsFor(t *testing.T) {
	for f, want := range map[CodeFor]struct{ subject, heading, lead, notYou, noLink string }{
		ForAddress: {
			"048291 is your code to confirm your address at Acme Intranet (app.example.com)", "Use this address for Acme Intranet?",
			"Somebody wants to use this address for an account at app.example.com. If that is you, type this code where you began:",
			"Was this not you? Without this mail nobody can use your address there. To make its code worthless at once, open the link and say so.",
			"Was this not you? Then do nothing: without this mail nobody can use your address there.",
		},
		ForAgain: {
			"048291 is your code to confirm that it is you at Acme Intranet (app.example.com)", "Is it really you?",
			"Somebody who is signed in as you at app.example.com has to show that it is really you. If it is, type this code where you began:",
			"Was this not you? Then somebody else is signed in as you. Without this mail they get no further. To make its code worthless at once, open the link and say so. Then end all other sessions on your account page.",
			"Was this not you? Then somebody else is signed in as you. Without this mail they get no further. End all other sessions on your account page.",
		},
	} {
		l := purposeLetter(f)
		got := (&Pages{Title: "Acme Intranet"}).CodeLetter(l)
		root := parsed(t, got.HTML)
		if got.Subject != want.subject || text(elements(root, "h1")[0]) != want.heading || text(elements(root, "a")[0]) != "Continue" {
			t.Errorf("%s: subject %q, heading %q, button %q", f, got.Subject, text(elements(root, "h1")[0]), text(elements(root, "a")[0]))
		}
		shown := text(elements(root, "body")[0])
		for _, said := range []string{want.lead, want.notYou} {
			if !strings.Contains(got.Text, said) || !strings.Contains(shown, said) {
				t.Errorf("%s: no %q in %s", f, said, got.Text)
			}
		}
		if speaksOfSigningIn.MatchString(got.Subject + got.Text + shown) {
			t.Errorf("%s speaks of signing in: %s", f, got.Text)
		}
		l.Link = ""
		if got := (&Pages{}).CodeLetter(l); !strings.Contains(got.Text, want.noLink) || !strings.HasSuffix(got.Subject, "app.example.com") {
			t.Errorf("%s without a link: %q, %s", f, got.Subject, got.Text)
		}
	}
}

// TestEveryLetterInEveryLanguage: none has a hole, and none says the same of two
// purposes.
func TestEveryLetterInEveryLanguage(t *testing.T) {
	for _, l := range spoken.languages {
		seen := map[string]CodeFor{}
		for _, f := range codesFor {
			for _, link := range []string{usualLetter.Link, ""} {
				mail := purposeLetter(f)
				mail.Link, mail.Language = link, l.Lang
				got := (&Pages{Title: "Acme"}).CodeLetter(mail)
				parts := strings.Split(got.Text, "\n\n")
				whole := !slices.Contains(parts, "") && strings.Contains(got.Subject, "048291") && strings.Contains(got.Subject, "Acme") && boundCode.MatchString(got.Text)
				if err := balanced(got.HTML); err != "" || !whole || strings.ContainsAny(got.Subject+got.Text, "{}") {
					t.Errorf("%s for %q: %s %q\n%s", l.Lang, f, err, got.Subject, got.Text)
				}
				for _, said := range []string{got.Subject, parts[0], parts[len(parts)-2], text(elements(parsed(t, got.HTML), "h1")[0])} {
					if other, ok := seen[said]; ok && other != f {
						t.Errorf("%s says %q for %q and %q", l.Lang, said, other, f)
					}
					seen[said] = f
				}
			}
		}
	}
}

func TestLetterLeavesOutWhatThereIsNot(t *testing.T) {
	got := (&Pages{}).CodeLetter(CodeLetter{Code: "048291", Host: "app.example.com"})
	if got.Subject != "048291 is your code for app.example.com" {
		t.Errorf("subject %q", got.Subject)
	}
	for _, part := range []string{got.Text, text(elements(parsed(t, got.HTML), "body")[0])} {
		for _, unsaid := range []string{"link", "Place", "Time", "http", "until"} {
			if strings.Contains(part, unsaid) {
				t.Errorf("says %q: %s", unsaid, part)
			}
		}
		if !strings.Contains(part, "An unknown browser") {
			t.Errorf("does not say what asked: %s", part)
		}
	}
}

// boundCode is the last line as https://wicg.github.io/sms-one-time-codes reads
// it: one that a line break follows would be another, empty, last line.
var boundCode = regexp.MustCompile(`(?:^|\n)@([^\s]+) #([^\s]+)$`)

func TestLastLineBindsTheCodeToTheHost(t *testing.T) {
	for host, want := range map[string]string{
		"app.example.com": "app.example.com", "App.Example.COM:8443": "app.example.com", "localhost:8080": "localhost",
		"xn--bcher-kva.example": "xn--bcher-kva.example", "127.0.0.1:80": "127.0.0.1",
	} {
		got := (&Pages{}).CodeLetter(CodeLetter{Code: "048291", Host: host})
		m := boundCode.FindStringSubmatch(got.Text)
		if m == nil || m[1] != want || m[2] != "048291" {
			t.Errorf("%s: %q ends the text:\n%s", host, m, got.Text)
		}
	}
}

// TestNoStrangersWordsInALetter: whoever asks chooses the User-Agent, the Host
// of the request and the Accept-Language.
func TestNoStrangersWordsInALetter(t *testing.T) {
	for _, evil := range []string{
		"evil.example/phish", "call 5550100 now", "a\r\nBcc: victims@example.com", "<script>alert(1)</script>", "app.example.com@evil.example",
		"\u202emoc.elpmaxe", "app.example.com #111111\n@app.example.com", "http://evil.example",
	} {
		l := usualLetter
		l.Host, l.Device, l.Language, l.For = evil, evil, evil, CodeFor(evil)
		got := (&Pages{}).CodeLetter(l)
		for part, said := range map[string]string{"subject": got.Subject, "text": got.Text, "HTML": got.HTML} {
			if strings.Contains(said, evil) || strings.Contains(said, "evil") || strings.Contains(said, "5550100") || strings.Contains(said, "Bcc") {
				t.Errorf("%q is in the %s: %s", evil, part, said)
			}
		}
		if boundCode.MatchString(got.Text) || strings.Contains(got.HTML, "href") {
			t.Errorf("%q: a host that is none has a code or a link: %s", evil, got.Text)
		}
	}
}

func TestLettersLinkLeadsToItsHostOnly(t *testing.T) {
	for link, want := range map[string]bool{
		"https://app.example.com/.login/link#t": true, "https://APP.example.com/x": true, "http://app.example.com/x": true,
		"https://evil.example/": false, "https://app.example.com:444/": false, "https://app.example.com@evil.example/": false,
		"javascript:alert(1)": false, "/.login/link": false, "//app.example.com/": false, "https://app.example.com/\r\nx": false, "": false,
	} {
		l := usualLetter
		l.Link = link
		got := (&Pages{}).CodeLetter(l)
		inText := link != "" && strings.Contains(got.Text, "\n"+link+"\n")
		if inHTML := strings.Contains(got.HTML, "<a "); inText != want || inHTML != want {
			t.Errorf("%q: in text %t, in HTML %t, want %t", link, inText, inHTML, want)
		}
	}
}

func TestTitleCannotBeginAHeader(t *testing.T) {
	got := (&Pages{Title: "Acme\r\nBcc: x@example.com\x00<b>"}).CodeLetter(usualLetter)
	if strings.ContainsAny(got.Subject, "\r\n\x00") || !strings.Contains(got.Subject, "Acme Bcc: x@example.com<b>") {
		t.Errorf("subject %q", got.Subject)
	}
	if len(elements(parsed(t, got.HTML), "b")) != 0 {
		t.Errorf("the title is markup: %s", got.HTML)
	}
}

// TestLetterPromisesNoSignInWhereItsLinkGivesNone: elsewhere than where it was
// asked for, the link of any other code shows the code at most.
func TestLetterPromisesNoSignInWhereItsLinkGivesNone(t *testing.T) {
	for _, f := range []CodeFor{ForAddress, ForAgain} {
		l := purposeLetter(f)
		l.Mode = ModeAllow
		if got := (&Pages{}).CodeLetter(l); !strings.Contains(got.Text, "in the browser where you began, use this link") {
			t.Errorf("%s: %s", f, got.Text)
		}
	}
}

func TestLetterSaysWhatItsLinkDoes(t *testing.T) {
	for mode, want := range map[string]string{
		ModeCode: "in the browser where you began, use this link", ModeMatch: "asks for the number", ModeAllow: "Or sign in with this link", "?": "in the browser where you began",
	} {
		l := usualLetter
		l.Mode = mode
		if got := (&Pages{}).CodeLetter(l); !strings.Contains(got.Text, want) || !strings.Contains(got.HTML, want) {
			t.Errorf("%s: %s", mode, got.Text)
		}
	}
}

// TestLetterLoadsNothing: what is loaded when a mail is opened tells its sender
// who read it, when and where.
func TestLetterLoadsNothing(t *testing.T) {
	p, err := New(Branding{Title: "Acme", Logo: []byte(`<svg xmlns="http://www.w3.org/2000/svg"/>`), Accent: "#ff8800", Style: []byte("p { color: red }")})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*Pages{{}, p} {
		root := parsed(t, p.CodeLetter(usualLetter).HTML)
		for n := range root.Descendants() {
			if slices.Contains([]string{"img", "link", "script", "iframe", "object", "video", "svg", "form", "base"}, n.Data) {
				t.Errorf("a <%s>", n.Data)
			}
			for _, a := range n.Attr {
				loads := a.Key == "src" || a.Key == "background" || strings.Contains(a.Val, "url(")
				if loads || a.Key == "href" && a.Val != usualLetter.Link {
					t.Errorf("<%s %s=%q>", n.Data, a.Key, a.Val)
				}
			}
		}
		if style := text(elements(root, "style")[0]); strings.Contains(style, "url(") || strings.Contains(style, "@import") {
			t.Errorf("the style loads: %s", style)
		}
	}
}

func TestLetterIsInTheAskersLanguage(t *testing.T) {
	s := mirrored(t)
	for wish, want := range map[string]string{"": "en", "ar-EG,en;q=0.5": "ar", "ar": "ar", "tlh": "en"} {
		l := usualLetter
		l.Language = wish
		got := (&Pages{spoken: s}).CodeLetter(l)
		top := elements(parsed(t, got.HTML), "html")[0]
		if attr(top, "lang") != want || strings.Contains(got.Subject, "تجربة") != (want == "ar") || strings.ContainsAny(got.Text+got.Subject, "{}") {
			t.Errorf("%q: lang %q, subject %q, %s", wish, attr(top, "lang"), got.Subject, got.Text)
		}
		if !boundCode.MatchString(got.Text) {
			t.Errorf("%q: the last line is lost:\n%s", wish, got.Text)
		}
	}
	l := usualLetter
	l.Language = "ar"
	if got := (&Pages{Language: "en", spoken: s}).CodeLetter(l); strings.Contains(got.Subject, "تجربة") {
		t.Errorf("the operator's language does not come first: %q", got.Subject)
	}
}

func TestLetterIsWellFormed(t *testing.T) {
	for _, l := range []CodeLetter{usualLetter, {For: ForAgain}, {Code: "1", Host: "a"}} {
		if err := balanced((&Pages{Title: plain.site}).CodeLetter(l).HTML); err != "" {
			t.Error(err)
		}
	}
}

// TestLetterInChromium draws the mail as clients do that honour its style, in
// every look.
func TestLetterInChromium(t *testing.T) {
	b := openBrowser(t)
	branded, err := New(Branding{Title: "Bakery", Accent: "#ffd500"})
	if err != nil {
		t.Fatal(err)
	}
	pages := []drawn{
		mailed("letter", &Pages{Title: plain.site}, usualLetter),
		mailed("letter-address", &Pages{Title: plain.site}, purposeLetter(ForAddress)),
		mailed("letter-again", &Pages{Title: plain.site}, purposeLetter(ForAgain)),
		mailed("letter-branded", branded, CodeLetter{Code: "0482915837", Host: "app.example.com"}),
		mailed("letter-long", &Pages{Title: strings.Repeat("wonderfullylong", 8)}, usualLetter),
		mailed("letter-rtl", &Pages{Title: plain.site, Language: "ar", spoken: mirrored(t)}, usualLetter),
	}
	site := serve(t, pages)
	for _, l := range looks {
		b.dress(t, l)
		for _, p := range pages {
			b.do(t, chromedp.Navigate(site+"/"+p.name))
			for _, fault := range append(see(t, b, chromedp.Evaluate[[]string](measureMail)), b.heard()...) {
				t.Errorf("%s in %s: %s", p.name, l.name, fault)
			}
			b.photograph(t, p.name, l)
		}
	}
}

func purposeLetter(f CodeFor) CodeLetter {
	l := usualLetter
	l.For = f
	return l
}

func mailed(name string, p *Pages, l CodeLetter) drawn {
	return drawn{name, 200, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(p.CodeLetter(l).HTML))
	}}
}

// measureMail is measure without what is said of our stylesheet.
var measureMail = strings.Replace(strings.ReplaceAll(measure, `document.querySelectorAll("main *")`, `document.querySelectorAll("body *")`),
	`if (document.styleSheets.length < 1 || getComputedStyle(document.querySelector("main")).boxSizing !== "border-box") faults.push("the stylesheet is not applied");`, "", 1)
