package main_test

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
	"github.com/caddy-login/caddy-login/module/logintest/inbox"
)

// byMail is a site that people enter with a code or a link alone.
const byMail = `
https://app.test:{$PORT} {
	login email {
		allow /public/* anyone
		allow *@example.com
		mail smtp {$SMTP} {
			tls_ca {file.{$SMTP_CA}}
		}
	}
	reverse_proxy {$APP}
}
`

// mailed is a stage with a mail server beside it.
type mailed struct {
	*stage
	box *inbox.Inbox
}

func playMail(t *testing.T, caddyfile string) *mailed {
	t.Helper()
	s := &mailed{
		stage: &stage{Caddy: e2e.NewCaddy(t, e2e.Build(t)), app: e2e.NewApp(t)},
		box:   inbox.New(t),
	}
	s.site = fmt.Sprintf("https://app.test:%d", s.Port)
	s.Env["APP"], s.Env["SMTP"], s.Env["SMTP_CA"] = s.app.Addr, s.box.Addr, s.box.CAFile
	s.Start(caddyfile)
	return s
}

// ask asks for a mail to this address, and returns the page that waits for the
// code.
func (s *mailed) ask(t *testing.T, visitor *e2e.Visitor, address, path string) e2e.Answer {
	t.Helper()
	choose := visitor.Follow(s.site + path)
	mustBe(t, choose, http.StatusOK)
	waiting := visitor.FollowOn(visitor.Submit(choose, "email", address))
	mustBe(t, waiting, http.StatusOK)
	if !strings.HasSuffix(waiting.Request.URL.Path, "/.login/code") {
		t.Fatalf("asking leads to %s", waiting.Request.URL)
	}
	return waiting
}

func TestCodeSignsIn(t *testing.T) {
	s := playMail(t, byMail)
	visitor := e2e.NewVisitor(t)
	waiting := s.ask(t, visitor, "Ada@Example.com", "/deep/link?with=query")
	letter := s.box.Next(e2e.Patience)
	if len(letter.To) != 1 || letter.To[0] != "ada@example.com" || letter.From != "login@app.test" {
		t.Errorf("the mail goes from %q to %q", letter.From, letter.To)
	}
	code := letter.Code()
	mustBe(t, visitor.Submit(waiting, "code", wrongCode(code)), http.StatusUnprocessableEntity)
	in := visitor.FollowOn(visitor.Submit(waiting, "code", code[:3]+" "+code[3:]))
	mustBe(t, in, http.StatusOK)
	if got := in.Request.URL.String(); got != s.site+"/deep/link?with=query" {
		t.Errorf("landed at %s", got)
	}
	if email := s.app.Last().Value("Remote-Email"); email != "ada@example.com" {
		t.Errorf("the app received Remote-Email %q", email)
	}
	user := s.app.Last().Value("Remote-User")
	// The same code is good for nothing more, and its link neither.
	other := e2e.NewVisitor(t)
	wantErrorPage(t, other.Get(letter.Link()))
	wantErrorPage(t, visitor.Another().Get(s.site+"/.login/link?t=x"))
	// A second sign-in is the same user, also after kill -9.
	s.Kill()
	s.Restart()
	again := e2e.NewVisitor(t)
	waiting = s.ask(t, again, "ada@example.com", "/in")
	mustBe(t, again.FollowOn(again.Submit(waiting, "code", s.box.Code())), http.StatusOK)
	if got := s.app.Last().Value("Remote-User"); got != user {
		t.Errorf("the second time the user is %q, not %q", got, user)
	}
	s.LogKeepsSecret("ada@example.com")
}

func wrongCode(code string) string {
	if code == strings.Repeat("1", len(code)) {
		return strings.Repeat("2", len(code))
	}
	return strings.Repeat("1", len(code))
}

func TestLinkSignsInWhereItWasAskedFor(t *testing.T) {
	s := playMail(t, byMail)
	visitor := e2e.NewVisitor(t)
	s.ask(t, visitor, "ada@example.com", "/in")
	link := s.box.Link()
	for range 3 { // GET consumes nothing
		mustBe(t, visitor.Get(link), http.StatusOK)
	}
	if s.isIn(visitor) {
		t.Fatal("a GET signed in")
	}
	in := visitor.FollowOn(visitor.SubmitAll(visitor.Get(link)))
	mustBe(t, in, http.StatusOK)
	if !s.isIn(visitor) {
		t.Error("the link did not sign in")
	}
	wantErrorPage(t, e2e.NewVisitor(t).Get(link))
}

// A scanner that opens the link and submits whatever it finds opens no
// session, neither for itself nor for who asked.
func TestLinkElsewhereOnlyShowsTheCode(t *testing.T) {
	s := playMail(t, byMail)
	visitor, scanner := e2e.NewVisitor(t), e2e.NewVisitor(t)
	waiting := s.ask(t, visitor, "ada@example.com", "/in")
	letter := s.box.Next(e2e.Patience)
	seen := scanner.Get(letter.Link())
	mustBe(t, seen, http.StatusOK)
	digits := strings.NewReplacer(" ", "", "\u202f", "", "\u00a0", "").Replace(seen.Body)
	if !strings.Contains(digits, letter.Code()) {
		t.Errorf("the page does not show the code:\n%s", seen.Body)
	}
	if s.isIn(scanner) || s.isIn(visitor) {
		t.Fatal("opening the link signed somebody in")
	}
	mustBe(t, visitor.FollowOn(visitor.Submit(waiting, "code", letter.Code())), http.StatusOK)
	if s.isIn(scanner) || !s.isIn(visitor) {
		t.Error("the wrong one is in")
	}
}

func TestNotAskedForKillsCodeAndLink(t *testing.T) {
	s := playMail(t, byMail)
	visitor, owner := e2e.NewVisitor(t), e2e.NewVisitor(t)
	waiting := s.ask(t, visitor, "ada@example.com", "/in")
	letter := s.box.Next(e2e.Patience)
	mustBe(t, owner.Submit(owner.Get(letter.Link()), "cancel", "1"), http.StatusOK)
	wantErrorPage(t, visitor.Submit(waiting, "code", letter.Code()))
	wantErrorPage(t, visitor.Get(letter.Link()))
	if s.isIn(visitor) {
		t.Error("signed in all the same")
	}
}

// Of any number of right codes at once one signs in; of wrong ones five count.
func TestCodesAtOnce(t *testing.T) {
	s := playMail(t, byMail)
	for what, want := range map[string]int{"right": 1, "wrong": 0} {
		t.Run(what, func(t *testing.T) {
			visitor := e2e.NewVisitor(t)
			waiting := s.ask(t, visitor, what+"@example.com", "/in")
			code := s.box.Code()
			if want == 0 {
				code = wrongCode(code)
			}
			jar := strings.Join(visitor.Cookies(s.site), "; ")
			answers := make([]e2e.Answer, 64)
			var all sync.WaitGroup
			for i := range answers {
				all.Go(func() {
					r := visitor.Request(http.MethodPost, s.site+"/.login/code", "code="+code)
					r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
					r.Header.Set("Origin", s.site)
					r.Header.Set("Cookie", jar)
					var err error
					if answers[i], err = visitor.Another().Try(r); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			sessions, wrong := 0, 0
			for _, answer := range answers {
				if answer.Response != nil && session(answer) != "" {
					sessions++
				}
				if answer.Response != nil && answer.StatusCode == http.StatusUnprocessableEntity {
					wrong++
				}
			}
			if sessions != want {
				t.Errorf("%d sessions were begun", sessions)
			}
			if want == 0 && wrong != 4 { // the fifth ends it
				t.Errorf("%d wrong codes left another try", wrong)
			}
			if want == 0 {
				wantErrorPage(t, visitor.Submit(waiting, "code", s.box.Host)) // any text
			}
		})
	}
}

// Who has signed in before, who has not, who may not: the same pages, cookies
// and headers.
func TestNobodyLearnsWhoIsKnown(t *testing.T) {
	s := playMail(t, strings.Replace(byMail, "login email {", "login email {\n\t\tsignup invited", 1))
	ada := e2e.NewVisitor(t)
	waiting := s.ask(t, ada, "ada@example.com", "/in")
	mustBe(t, ada.FollowOn(ada.Submit(waiting, "code", s.box.Code())), http.StatusOK)
	var first string
	for _, address := range []string{"ada@example.com", "eve@example.com", "eve@evil12.test", "bob@evil12.test"} {
		visitor := e2e.NewVisitor(t)
		choose := visitor.Follow(s.site + "/in")
		answer := visitor.Submit(choose, "email", address)
		page := visitor.FollowOn(answer)
		wrong := visitor.Submit(page, "code", "000000")
		seen := strings.ReplaceAll(shape(answer)+shape(page)+shape(wrong), address, "ADDRESS")
		if first == "" {
			first = seen
		}
		if seen != first {
			t.Errorf("%s is told\n%s\nwant\n%s", address, seen, first)
		}
	}
	// And only who may come gets a mail.
	for range 2 {
		s.box.Next(e2e.Patience)
	}
	s.Stop() // which sends what is on its way
	if n := s.box.Waiting(); n != 0 {
		t.Errorf("%d mails too many", n)
	}
}

// shape is an answer without what differs by chance.
func shape(a e2e.Answer) string {
	var b strings.Builder
	fmt.Fprintln(&b, a.StatusCode, a.Header.Get("Location"), a.Header.Get("Content-Length"), a.Header.Get("Content-Type"))
	for _, cookie := range a.Cookies() {
		fmt.Fprintln(&b, cookie.Name, len(cookie.Value), cookie.MaxAge, cookie.Path)
	}
	body := nextMail.ReplaceAllString(a.Body, "${1}30")
	return b.String() + tabMark.ReplaceAllString(uuid.ReplaceAllString(body, "ID"), "MARK")
}

// nextMail is when there is another mail: in half a minute, or in what is left
// of it.
var nextMail = regexp.MustCompile(`(data-resend="|id="resend-in">[^<]*?\b)2\d\b`)

// tabMark tells one browser's tabs apart.
var tabMark = regexp.MustCompile(`name="ask" value="[0-9a-f]{8}"`)

func TestMailServerThatHangsSlowsNobody(t *testing.T) {
	silent := silentIssuer(t)
	s := &mailed{stage: &stage{Caddy: e2e.NewCaddy(t, e2e.Build(t)), app: e2e.NewApp(t)}, box: inbox.New(t)}
	s.site = fmt.Sprintf("https://app.test:%d", s.Port)
	s.Env["APP"], s.Env["SMTP"], s.Env["SMTP_CA"] = s.app.Addr, strings.TrimPrefix(silent, "http://"), s.box.CAFile
	s.Start(byMail)
	for i := range 5 {
		s.ask(t, e2e.NewVisitor(t), fmt.Sprintf("ada%d@example.com", i), "/in")
	}
	// The server comes back, and a reload does not lose what waits.
	s.Env["SMTP"] = s.box.Addr
	began := time.Now()
	s.Reload(byMail)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the reload took %s", took)
	}
	s.ask(t, e2e.NewVisitor(t), "grace@example.com", "/in")
	if letter := s.box.Next(e2e.Patience); letter.To[0] != "grace@example.com" {
		t.Errorf("the mail goes to %q", letter.To)
	}
}

func TestAddressesThatSmuggleAreNone(t *testing.T) {
	s := playMail(t, byMail)
	visitor := e2e.NewVisitor(t)
	for _, address := range []string{
		"", "a", "@example.com", "a@", "a@b@example.com", "a@evil.example,b@example.com", "a@example.com\r\nBcc: x@evil.example",
		"a@example.com\nx", "\"a b\"@example.com", "<a@example.com>", "a@example.com>", "a＠example.com", "a@example.com\x00",
		"ä@example.com", "ſ@example.com", "a@ex ample.com", "a@[127.0.0.1]", "a@localhost", "a%example.com", strings.Repeat("a", 300) + "@example.com",
	} {
		r := visitor.Request(http.MethodPost, s.site+"/.login/email", url.Values{"email": {address}}.Encode())
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", s.site)
		got := visitor.Do(r)
		if got.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("%q: %d", address, got.StatusCode)
		}
	}
	s.Stop() // which sends what is on its way
	if n := s.box.Waiting(); n != 0 {
		t.Errorf("%d mails went out", n)
	}
}

func TestSignInByMailNeedsASiteOfAName(t *testing.T) {
	s := playMail(t, byMail)
	for _, refused := range []struct{ caddyfile, cure string }{
		{strings.Replace(byMail, "https://app.test:{$PORT}", ":{$PORT2}", 1), "write 'origin https://app.example.com'"},
		{strings.Replace(byMail, "mail smtp {$SMTP} {\n\t\t\ttls_ca {file.{$SMTP_CA}}\n\t\t}", "", 1), "write 'mail smtp <host:port>"},
	} {
		if out, err := s.TryReload(refused.caddyfile); err == nil || !strings.Contains(out+s.Log(), refused.cure) {
			t.Errorf("%v without %q:\n%s", err, refused.cure, out)
		}
	}
}

// In another browser than the one that asked, the link does what the operator
// chose: the right number lets the waiting browser in, and a wrong one nobody.
func TestNumberPickedElsewhereLetsTheWaitingBrowserIn(t *testing.T) {
	s := playMail(t, strings.Replace(byMail, "login email {", "login {\n\t\temail {\n\t\t\tcross_device match\n\t\t}", 1))
	for _, right := range []bool{true, false} {
		waits, opens := e2e.NewVisitor(t), e2e.NewVisitor(t)
		waiting := s.ask(t, waits, fmt.Sprintf("ada.%t@example.com", right), "/in")
		number := regexp.MustCompile(`<p class="big">(\d\d)</p>`).FindStringSubmatch(waiting.Body)
		if number == nil {
			t.Fatalf("no number on the page that waits:\n%s", waiting.Body)
		}
		letter := s.box.Next(e2e.Patience)
		// Beside its times, addresses and code, the mail has no two digits that
		// could be taken for the number.
		told := regexp.MustCompile(`\d{1,2} \pL+ \d{4}, \d\d:\d\d \(UTC\)|https?://\S+|127\.0\.0\.0/16|`+letter.Code()).ReplaceAllString(letter.Text+letter.HTML, "")
		if digits := regexp.MustCompile(`\b\d\d\b`).FindAllString(told, -1); digits != nil {
			t.Errorf("%q stand in the mail; the number is %s", digits, number[1])
		}
		choices := opens.Get(letter.Link())
		picked := number[1]
		if !right {
			picked = another(t, choices, picked)
		}
		answer := postToken(t, opens, choices, "number", picked)
		if s.isIn(opens) {
			t.Fatal("picking signed in where the link was opened")
		}
		mustBe(t, waits.FollowOn(waits.Get(s.site+"/.login/code")), map[bool]int{true: http.StatusOK, false: http.StatusForbidden}[right])
		if s.isIn(waits) != right || (answer.StatusCode == http.StatusOK) != right {
			t.Errorf("right %t: the waiting browser is in: %t, told %d", right, s.isIn(waits), answer.StatusCode)
		}
	}
}

// another is a number on the page that is not this one.
func another(t *testing.T, page e2e.Answer, than string) string {
	t.Helper()
	for _, found := range regexp.MustCompile(`name="number" value="(\d\d)"`).FindAllStringSubmatch(page.Body, -1) {
		if found[1] != than {
			return found[1]
		}
	}
	t.Fatalf("no other number on the page:\n%s", page.Body)
	return ""
}

func TestLinkThatMaySignsInWhereItIsOpened(t *testing.T) {
	s := playMail(t, strings.Replace(byMail, "login email {", "login {\n\t\temail {\n\t\t\tcross_device allow\n\t\t}", 1))
	asks, opens := e2e.NewVisitor(t), e2e.NewVisitor(t)
	s.ask(t, asks, "ada@example.com", "/in")
	page := opens.Get(s.box.Link())
	if s.isIn(opens) {
		t.Fatal("a GET signed in")
	}
	in := opens.FollowOn(postToken(t, opens, page, "", ""))
	mustBe(t, in, http.StatusOK)
	if !s.isIn(opens) || s.isIn(asks) {
		t.Errorf("in where it was opened: %t, where it was asked for: %t", s.isIn(opens), s.isIn(asks))
	}
}

// postToken posts the token of a page to the link, and one more field.
func postToken(t *testing.T, visitor *e2e.Visitor, page e2e.Answer, name, value string) e2e.Answer {
	t.Helper()
	token := regexp.MustCompile(`name="token" value="([^"]+)"`).FindStringSubmatch(page.Body)
	if token == nil {
		t.Fatalf("no token on the page:\n%s", page.Body)
	}
	to := *page.Request.URL
	to.RawQuery = ""
	r := visitor.Request(http.MethodPost, to.String(), url.Values{"token": {token[1]}, name: {value}}.Encode())
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", to.Scheme+"://"+to.Host)
	return visitor.Do(r)
}

// What the operator named is on the pages and in the mail, in the language of
// who reads them.
func TestBrandAndLanguageOfASite(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"logo.svg":  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><rect width="1" height="1"/></svg>`,
		"login.css": `h1 { letter-spacing: 1px }`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	branded := strings.Replace(byMail, "allow /public", fmt.Sprintf("pages {\n\t\t\ttitle \"Ada's wiki\"\n\t\t\taccent 00aa66\n\t\t\tlogo %[1]s/logo.svg\n\t\t\tstyle %[1]s/login.css\n\t\t}\n\t\tallow /public", dir), 1)
	s := playMail(t, branded)
	visitor := e2e.NewVisitor(t)
	r := visitor.Navigation(s.site + "/.login/")
	r.Header.Set("Accept-Language", "de-AT, en;q=0.5")
	page := visitor.Do(r)
	mustBe(t, page, http.StatusOK)
	for _, want := range []string{"Ada&#39;s wiki", `lang="de"`, "Anmelden"} {
		if !strings.Contains(page.Body, want) {
			t.Errorf("no %s on the page:\n%s", want, page.Body)
		}
	}
	kinds := map[string]bool{}
	for _, asset := range regexp.MustCompile(`(?:href|src)="(/\.login/assets/[^"]+)"`).FindAllStringSubmatch(page.Body, -1) {
		got := visitor.Get(s.site + asset[1])
		mustBe(t, got, http.StatusOK)
		kinds[got.Header.Get("Content-Type")] = true
	}
	if !kinds["image/svg+xml"] || !kinds["text/css; charset=utf-8"] {
		t.Errorf("served %v", kinds)
	}
	for caddyfile, cure := range map[string]string{
		strings.Replace(branded, "accent 00aa66", "accent greenish", 1):                         "write a colour like",
		strings.Replace(branded, "accent 00aa66", "language tlh", 1):                            "choose one of en",
		strings.Replace(branded, "accent 00aa66", "templates "+dir, 1):                          "unknown template",
		strings.Replace(branded, "logo "+dir+"/logo.svg", "logo "+dir+"/login.css", 1):          "use an SVG, PNG",
		strings.Replace(branded, "style "+dir+"/login.css", "style "+dir+"/nowhere.css", 1):     "name a file that Caddy may read",
		strings.Replace(branded, "mail smtp {$SMTP} {", "mail smtp {$SMTP} {\n\t\t\ttls no", 1): "tls",
	} {
		if out, err := s.TryReload(caddyfile); err == nil || !strings.Contains(out+s.Log(), cure) {
			t.Errorf("%v without %q:\n%s", err, cure, out)
		}
	}
}
