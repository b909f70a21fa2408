package main_test

import (
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unicode"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
	"github.com/caddy-login/caddy-login/module/logintest/inbox"
)

// relayed is byMail behind a proxy that says which network a visitor is of.
const relayed = "{\n\tservers {\n\t\ttrusted_proxies static 127.0.0.0/8\n\t}\n}\n" + byMail

// byMailWith is byMail with an option of the way in.
func byMailWith(option string) string {
	return strings.Replace(byMail, "login email {", "login {\n\t\temail {\n\t\t\t"+option+"\n\t\t}", 1)
}

// posting is a form of the site's own, sent by a visitor of this network.
func (s *mailed) posting(v *e2e.Visitor, path, network string, pairs ...string) *http.Request {
	form := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	r := v.Request(http.MethodPost, s.site+path, form.Encode())
	r.Header.Set("Content-Type", formType)
	r.Header.Set("Origin", s.site)
	if network != "" {
		r.Header.Set("X-Forwarded-For", network)
	}
	return r
}

// asking is a wish for a mail to this address, from a network.
func (s *mailed) asking(v *e2e.Visitor, address, network string) *http.Request {
	return s.posting(v, "/.login/email", network, "email", address)
}

// enter signs somebody in with the code in their mail.
func (s *mailed) enter(t *testing.T, address string) *e2e.Visitor {
	t.Helper()
	visitor := e2e.NewVisitor(t)
	waiting := s.ask(t, visitor, address, "/in")
	mustBe(t, visitor.FollowOn(visitor.Submit(waiting, "code", s.box.Code())), http.StatusOK)
	return visitor
}

// crowded sends n requests, some at once, and returns how often which status
// came back.
func (s *mailed) crowded(t *testing.T, n int, request func(v *e2e.Visitor, i int) *http.Request) map[int]int {
	t.Helper()
	var all sync.WaitGroup
	var next atomic.Int64
	var mu sync.Mutex
	seen := map[int]int{}
	for worker := range 8 {
		v := visitorFrom(t, 2+worker)
		all.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				v.ForgetCookies()
				got, err := v.Try(request(v, int(i)))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				seen[got.StatusCode]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return seen
}

func (s *mailed) siege() *siege { return &siege{stage: s.stage} }

func (s *mailed) lines() int { return strings.Count(s.Log(), "\n") }

// Whoever asks writes the Host header. Caddy matches it without its port, so a
// stranger would have us mail somebody a link to any port of this machine, with
// a token that signs in: module/visit.go originOf, module/codes.go post.
func TestMailedLinkLeadsToThePortThatServes(t *testing.T) {
	s := playMail(t, byMail)
	for name, bend := range map[string]func(r *http.Request){
		"port in Host":      func(r *http.Request) { setHost(r, "app.test:6666") },
		"port, capitals":    func(r *http.Request) { setHost(r, "APP.Test:1") },
		"port of no range":  func(r *http.Request) { setHost(r, "app.test:99999") },
		"X-Forwarded-Host":  func(r *http.Request) { r.Header.Set("X-Forwarded-Host", "evil.test") },
		"X-Forwarded-Port":  func(r *http.Request) { r.Header.Set("X-Forwarded-Port", "6666") },
		"X-Forwarded-Proto": func(r *http.Request) { r.Header.Set("X-Forwarded-Proto", "http") },
		"Forwarded":         func(r *http.Request) { r.Header.Set("Forwarded", "host=evil.test;proto=http") },
		"X-Original-Host":   func(r *http.Request) { r.Header.Set("X-Original-Host", "evil.test") },
		"another's Referer": func(r *http.Request) { r.Header.Set("Referer", "https://evil.test/.login/") },
		"evil return":       func(r *http.Request) { r.URL.RawQuery = "return=//evil.test" },
		"as a browser does": func(*http.Request) {},
	} {
		t.Run(name, func(t *testing.T) {
			v := visitorFrom(t, 20+len(name))
			r := s.asking(v, fmt.Sprintf("ada%d@example.com", len(name)), "")
			bend(r)
			if got := v.Do(r); got.StatusCode != http.StatusSeeOther {
				return // refused: nobody is mailed anything
			}
			letter := s.box.Next(e2e.Patience)
			if link := letter.Link(); link != "" && !strings.HasPrefix(link, s.site+"/.login/link?t=") {
				t.Errorf("the mail leads to %.40s…", link)
			}
			if strings.Contains(letter.Text+letter.HTML+letter.From, "evil") {
				t.Errorf("the mail names the stranger's host:\n%s", letter.Text)
			}
		})
	}
}

func setHost(r *http.Request, host string) {
	r.Host = host
	r.Header.Set("Origin", "https://"+strings.ToLower(host))
}

// HTTP/2 lets a client write what no Host header may hold. Of an authority with
// userinfo Caddy sees the name of the site, and a browser another.
func TestAuthorityWithUserinfoMailsNoLinkToAnother(t *testing.T) {
	s := playMail(t, byMail)
	own := fmt.Sprintf("app.test:%d", s.Port)
	for _, authority := range []string{
		own, "app.test:x@evil.test", "app.test:443@evil.test", "app.test:@evil.test", "app.test:1/@evil.test", "app.test:1#", "app.test:1?x=", `app.test:1\evil.test`,
	} {
		f := dialFrames(t, s.site)
		stream := f.ask(false, ":method", "POST", ":scheme", "https", ":authority", authority, ":path", "/.login/email",
			"content-type", formType, "origin", "https://"+authority)
		f.must(f.WriteData(stream, true, []byte("email="+url.QueryEscape("ada@example.com"))))
		if status := f.hear(stream); status != "303" {
			if authority == own {
				t.Errorf("the site's own name is answered %s", status)
			}
			continue
		}
		letter := s.box.Next(e2e.Patience)
		if strings.Contains(letter.Text+letter.HTML, "evil") || letter.Link() != "" && !strings.HasPrefix(letter.Link(), s.site+"/") {
			t.Errorf("%q: the mail reads\n%s", authority, letter.Text)
		}
	}
}

// Many mail servers read user%host@here and host!user@here as an address at
// that other host and send the mail on, Postfix by default where its client is
// trusted, as ours is. The code for "somebody of example.com" then goes to a
// stranger, whom `allow *@example.com` lets in: module/identity/email.go
// isDotAtom.
func TestAddressesThatMailServersSendOnAreNone(t *testing.T) {
	s := playMail(t, byMail)
	v := e2e.NewVisitor(t)
	for _, address := range []string{"eve%evil.test@example.com", "evil.test!eve@example.com", "evil.test!eve%evil.test@example.com"} {
		if got := v.Do(s.asking(v, address, "")); got.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", address, got.StatusCode)
		}
	}
}

// A friend's asks count against what all friends have together, and against
// nothing else of theirs: one account, from one network, turns everybody else
// away who has signed in before. module/challenge/challenge.go admit.
func TestOneKnownPersonShutsNoOtherOut(t *testing.T) {
	s := playMail(t, byMail)
	mallory, grace := s.enter(t, "mallory@example.com"), s.enter(t, "grace@example.com")
	cookies := strings.Join(mallory.Cookies(s.site), "; ")
	seen := s.crowded(t, 1400, func(v *e2e.Visitor, _ int) *http.Request {
		r := s.asking(v, "mallory@example.com", "")
		r.Header.Set("Cookie", cookies)
		return r
	})
	for range 5 {
		if got := grace.Do(s.asking(grace, "grace@example.com", "")); got.StatusCode != http.StatusSeeOther {
			t.Errorf("mallory asked, which gave %v, and grace is answered %d", seen, got.StatusCode)
		}
	}
}

// An IPv6 customer has 65,536 networks of the size that is counted, and so the
// share of all strangers in the world: module/limit, module/challenge admit.
func TestOneCustomersNetworksShutNobodyOut(t *testing.T) {
	s := playMail(t, relayed)
	seen := s.crowded(t, 1400, func(v *e2e.Visitor, i int) *http.Request {
		return s.asking(v, fmt.Sprintf("nobody%d@example.com", i), fmt.Sprintf("2001:db8:7:%x::1", i))
	})
	newcomer := e2e.NewVisitor(t)
	for i := range 5 {
		r := s.asking(newcomer, fmt.Sprintf("newcomer%d@example.com", i), "192.0.2.1")
		if got := newcomer.Do(r); got.StatusCode != http.StatusSeeOther {
			t.Errorf("one /48 asked, which gave %v, and a newcomer elsewhere is answered %d", seen, got.StatusCode)
		}
	}
}

// Addresses that fold alike may be two people's. The one must not use up what
// the other has as somebody known: module/challenge/budget.go readBudget.
func TestNeighbourOfAlikeAddressLocksNobodyOut(t *testing.T) {
	s := playMail(t, byMail)
	owner, neighbour := s.enter(t, "ann.alee@example.com"), s.enter(t, "anna.lee@example.com")
	for range 2 {
		got := neighbour.FollowOn(neighbour.Do(s.asking(neighbour, "anna.lee@example.com", "")))
		mustBe(t, got, http.StatusOK)
		code := s.box.Code()
		for range 5 {
			neighbour.Do(s.posting(neighbour, "/.login/code", "", "code", wrongCode(code)))
		}
	}
	mustBe(t, owner.FollowOn(owner.Do(s.asking(owner, "ann.alee@example.com", ""))), http.StatusOK)
	e2e.Eventually(t, e2e.Patience, "the owner's mail, or word that there is none", func() bool {
		return s.box.Waiting() > 0 || strings.Contains(s.Log(), `"reason":"paused"`)
	})
	if s.box.Waiting() == 0 {
		t.Error("ten wrong codes of a neighbour's lock the owner out, in the browser that is known for them")
	}
}

// What a stranger can repeat as often as they like is told to the log, and to
// the operator's events, now and then: module/codes.go codeOver, code and
// wrongCode leave out what begin and askForMail have as `knock`.
func TestStrangersAtCodeAndLinkDoNotFillTheLog(t *testing.T) {
	s := playMail(t, byMail)
	visitor := e2e.NewVisitor(t)
	s.ask(t, visitor, "ada@example.com", "/in")
	live := strings.Join(visitor.Cookies(s.site), "; ")
	for _, knock := range []struct {
		name    string
		request func(v *e2e.Visitor, i int) *http.Request
	}{
		{"invented link", func(v *e2e.Visitor, i int) *http.Request {
			return v.Navigation(s.site + "/.login/link?t=" + strconv.Itoa(i))
		}},
		{"code without a cookie", func(v *e2e.Visitor, _ int) *http.Request {
			return s.posting(v, "/.login/code", "", "code", "123456")
		}},
		{"invented cookie", func(v *e2e.Visitor, i int) *http.Request {
			r := v.Navigation(s.site + "/.login/code")
			r.Header.Set("Cookie", fmt.Sprintf("%s-asked=%021dA", cookieName, i))
			return r
		}},
		{"no code at all", func(v *e2e.Visitor, _ int) *http.Request {
			r := s.posting(v, "/.login/code", "", "code", "no code")
			r.Header.Set("Cookie", live)
			return r
		}},
		{"cancelled by nobody", func(v *e2e.Visitor, i int) *http.Request {
			return s.posting(v, "/.login/link", "", "token", strconv.Itoa(i), "cancel", "1")
		}},
	} {
		t.Run(knock.name, func(t *testing.T) {
			before := s.lines()
			seen := s.crowded(t, 2000, knock.request)
			// What a network may write at once, eight networks have.
			if more := s.lines() - before; more > 1200 {
				t.Errorf("2,000 requests, answered %v, wrote %d lines", seen, more)
			}
		})
	}
}

// A flood of asks, each from a network and to an address of its own, while the
// mail server says nothing: what waits is bounded, and so is what is logged.
// The limit of the log is by network, of which a flood has as many as it likes:
// module/admission.go trouble.
func TestFloodOfAsksStaysSmall(t *testing.T) {
	s := &mailed{stage: &stage{Caddy: e2e.NewCaddy(t, e2e.Build(t)), app: e2e.NewApp(t)}, box: inbox.New(t)}
	s.site = fmt.Sprintf("https://app.test:%d", s.Port)
	s.Env["APP"], s.Env["SMTP_CA"] = s.app.Addr, s.box.CAFile
	s.Env["SMTP"] = strings.TrimPrefix(silentIssuer(t), "http://")
	s.Start(relayed)
	ask := func(v *e2e.Visitor, i int) *http.Request {
		return s.asking(v, fmt.Sprintf("nobody%d@example.com", i), fmt.Sprintf("10.%d.%d.%d", i>>16&255, i>>8&255, i&255))
	}
	s.crowded(t, 2000, ask)
	before, lines := s.siege().weigh(t), s.lines()
	seen := s.crowded(t, 20_000, func(v *e2e.Visitor, i int) *http.Request { return ask(v, 2000+i) })
	after := s.siege().weigh(t)
	wantFlat(t, before, after, 12, 48)
	if grown := after["go_goroutines"] - before["go_goroutines"]; grown > 50 {
		t.Errorf("%.0f more goroutines run", grown)
	}
	if more := s.lines() - lines; more > 1000 {
		t.Errorf("20,000 asks, answered %v, wrote %d lines", seen, more)
	}
	t.Logf("%v; before %v, after %v", seen, before, after)
}

// A network that asked too often may ask again a minute later, not in five
// seconds: module/admission.go trouble ignores challenge.RetryAfter.
func TestTooManyAsksAreToldWhenToComeBack(t *testing.T) {
	s := playMail(t, byMail)
	v := e2e.NewVisitor(t)
	for i := range 20 {
		got := v.Do(s.asking(v, fmt.Sprintf("nobody%d@example.com", i), ""))
		if got.StatusCode != http.StatusTooManyRequests {
			continue
		}
		if after, err := strconv.Atoi(got.Header.Get("Retry-After")); err != nil || after < 30 {
			t.Errorf("Retry-After is %q", got.Header.Get("Retry-After"))
		}
		return
	}
	t.Error("20 asks were not too many")
}

// A scanner that posts the form of a mailed link, and no number, did something
// that is not done. Nothing of ours is out of order: module/codes.go codeOver
// takes ErrElsewhere for a broken store.
func TestLinkPostedElsewhereIsNoFailureOfOurs(t *testing.T) {
	for _, mode := range []string{"code", "match"} {
		t.Run(mode, func(t *testing.T) {
			s := playMail(t, byMailWith("cross_device "+mode))
			visitor, scanner := e2e.NewVisitor(t), e2e.NewVisitor(t)
			waiting := s.ask(t, visitor, "ada@example.com", "/in")
			letter := s.box.Next(e2e.Patience)
			token := tokenOf(letter.Link())
			got := scanner.Do(s.posting(scanner, "/.login/link", "", "token", token))
			if s.isIn(scanner) || s.isIn(visitor) {
				t.Fatal("posting the link elsewhere signed somebody in")
			}
			if got.StatusCode < 400 || got.StatusCode > 499 {
				t.Errorf("it is answered %d", got.StatusCode)
			}
			// And the person is not held up by it.
			mustBe(t, visitor.FollowOn(visitor.Submit(waiting, "code", letter.Code())), http.StatusOK)
		})
	}
}

// Where nothing can be written, no code was tried: whoever types the right one
// must not be told that it is wrong, and it works once there is room again.
// module/codes.go wrongCode takes every error of a live challenge for that.
func TestFullDiskMakesNoCodeWrong(t *testing.T) {
	at := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", at).CombinedOutput(); err != nil {
		t.Skipf("cannot mount here: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", at).Run() })
	s := playMail(t, "{\n\tlogin {\n\t\tstore badger "+filepath.Join(at, "login")+"\n\t}\n}\n"+byMail)
	visitor := e2e.NewVisitor(t)
	waiting := s.ask(t, visitor, "ada@example.com", "/in")
	letter := s.box.Next(e2e.Patience)
	ballast := filepath.Join(at, "ballast")
	fillUp(t, at, ballast)
	stranger := visitorFrom(t, 9)
	if got := stranger.Do(s.asking(stranger, "bob@example.com", "")); got.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("on a full disk an ask is answered %d", got.StatusCode)
	}
	if got := visitor.Submit(waiting, "code", letter.Code()); got.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("on a full disk the right code is answered %d", got.StatusCode)
	}
	if err := exec.Command("rm", ballast).Run(); err != nil {
		t.Fatal(err)
	}
	mustBe(t, visitor.FollowOn(visitor.Submit(waiting, "code", letter.Code())), http.StatusOK)
}

// fillUp leaves 4 MiB: less than the store keeps in reserve, and more than what
// it has begun may need.
func fillUp(t *testing.T, at, ballast string) {
	t.Helper()
	out, err := exec.Command("df", "--output=avail", "-B1", at).Output()
	if err != nil {
		t.Skipf("cannot ask for free space: %v", err)
	}
	fields := strings.Fields(string(out))
	free, err := strconv.Atoi(fields[len(fields)-1])
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("fallocate", "-l", strconv.Itoa(free-4*mega), ballast).CombinedOutput(); err != nil {
		t.Skipf("cannot fill the disk: %v: %s", err, out)
	}
}

// What waits for the mail server is sent also by a config that is gone, and a
// code works also in a process that did not make it.
func TestMailOutlivesReloadAndCodeOutlivesKill(t *testing.T) {
	s := playMail(t, byMail)
	s.box.Say(inbox.MAIL, "450 4.2.0 later")
	visitor := e2e.NewVisitor(t)
	waiting := s.ask(t, visitor, "ada@example.com", "/in")
	e2e.Eventually(t, e2e.Patience, "a first try", func() bool { return s.box.Reached(inbox.MAIL) > 0 })
	s.box.Say(inbox.MAIL, "")
	s.Reload(byMail)
	letter := s.box.Next(e2e.Patience)
	s.Kill()
	s.Restart()
	mustBe(t, visitor.FollowOn(visitor.Submit(waiting, "code", letter.Code())), http.StatusOK)
	s.Kill()
	s.Restart()
	if !s.isIn(visitor) {
		t.Error("the session is gone")
	}
	thief := visitor.Another()
	wantErrorPage(t, thief.Get(letter.Link()))
}

// A mark of friendship is one person's, at one site.
func TestFriendshipIsOnePersonsAtOneSite(t *testing.T) {
	other := strings.Replace(byMail, "app.test", "other.test", 1)
	s := playMail(t, byMail+other)
	mallory := s.enter(t, "mallory@example.com")
	name := cookieName + "-friends"
	mallorys := mallory.Cookie(s.site, name)
	another := *s.stage
	another.site = strings.Replace(s.site, "app.test", "other.test", 1)
	there := &mailed{stage: &another, box: s.box}
	elsewhere := there.enter(t, "ada@example.com").Cookie(another.site, name)
	adas := s.enter(t, "ada@example.com").Cookie(s.site, name)
	v := e2e.NewVisitor(t)
	for i := range 20 { // from now on this network may ask for nobody
		v.Do(s.asking(v, fmt.Sprintf("nobody%d@example.com", i), ""))
	}
	for what, row := range map[string]struct {
		cookie string
		want   int
	}{
		"none": {"", 429}, "ada's": {adas, 303}, "ada's among others'": {mallorys + "." + elsewhere + "." + adas, 303},
		"mallory's": {mallorys, 429}, "of another site": {elsewhere, 429}, "a fourth": {strings.Repeat("A.", 3) + adas, 429},
		"with a bit flipped": {flip(adas), 429}, "in the other case": {otherCase(adas), 429}, "padded": {adas + "==", 429},
		"half": {adas[:11], 429}, "4 KB": {strings.Repeat("A.", 2048), 429},
	} {
		r := s.asking(v, "ada@example.com", "")
		v.ForgetCookies()
		r.Header.Set("Cookie", name+"="+row.cookie)
		if got := v.Do(r); got.StatusCode != row.want {
			t.Errorf("%s: %d, want %d", what, got.StatusCode, row.want)
		}
	}
}

func flip(s string) string {
	if s[0] == 'A' {
		return "B" + s[1:]
	}
	return "A" + s[1:]
}

// otherCase is another text than s, whatever letters that has.
func otherCase(s string) string {
	return strings.Map(func(r rune) rune {
		if lower := unicode.ToLower(r); lower != r {
			return lower
		}
		return unicode.ToUpper(r)
	}, s)
}

// A link of an attacker's signs nobody in as the attacker: not by opening it,
// not by posting what the page offers, also where the victim waits for a mail
// of their own. And no page of another site posts any of it.
func TestStrangersLinkSignsNobodyIn(t *testing.T) {
	for _, mode := range []string{"code", "match"} {
		t.Run(mode, func(t *testing.T) {
			s := playMail(t, byMailWith("cross_device "+mode))
			attacker, victim := e2e.NewVisitor(t), visitorFrom(t, 5)
			s.ask(t, attacker, "mallory@example.com", "/in")
			link := s.box.Link()
			s.ask(t, victim, "ada@example.com", "/in")
			s.box.Next(e2e.Patience)
			page := victim.Get(link)
			mustBe(t, page, http.StatusOK)
			for _, number := range append(numbersIn(page.Body), "") {
				for _, from := range []string{"https://evil.test", "null", "https://evil.app.test", s.site} {
					r := s.posting(victim, "/.login/link", "", "token", tokenOf(link), "number", number)
					r.Header.Set("Origin", from)
					if got := victim.Do(r); session(got) != "" || from != s.site && got.StatusCode != http.StatusForbidden {
						t.Errorf("number %q from %s: %d", number, from, got.StatusCode)
					}
				}
			}
			victim.Get(s.site + "/.login/code")
			if s.isIn(victim) {
				t.Error("the victim is signed in")
			}
		})
	}
}

// tokenOf is what a mailed link carries.
func tokenOf(link string) string {
	_, token, _ := strings.Cut(link, "t=")
	return token
}

// numbersIn are the numbers that a page has to choose from.
func numbersIn(body string) (numbers []string) {
	for _, found := range strings.Split(body, `name="number" value="`)[1:] {
		numbers = append(numbers, found[:2])
	}
	return numbers
}

// Whatever the cookies hold, and however the pages are asked: no 5xx, nobody
// signed in, nothing at the app.
func TestGarbageInOurCookiesIsNothing(t *testing.T) {
	s := playMail(t, byMail)
	v := e2e.NewVisitor(t)
	s.ask(t, v, "ada@example.com", "/in")
	asked := v.Cookie(s.site, cookieName+"-asked")
	values := []string{"", ".", "..", strings.Repeat(".", 4096), strings.Repeat("A", 4096), strings.Repeat(asked+".", 100), asked + "=", strings.ToLower(asked), "%00", "\"" + asked + "\"", "1"}
	names := []string{"-asked", "-friends", "-last", "-landed", "-ASKED", "-asked-", "-nothing"}
	for _, name := range names {
		for _, value := range values {
			v.ForgetCookies()
			line := cookieName + name + "=" + value
			for _, method := range []string{"GET", "HEAD", "OPTIONS", "POST", "PUT"} {
				for _, path := range []string{"/.login/code", "/.login/link?t=" + asked, "/.login/", "/.login/email"} {
					r := s.posting(v, path, "", "code", "123456", "token", asked)
					r.Method = method
					r.Header.Set("Cookie", line+"; "+line)
					if got := v.Do(r); got.StatusCode >= 500 || session(got) != "" {
						t.Errorf("%s %s with %.60s: %d", method, path, line, got.StatusCode)
					}
				}
			}
		}
	}
	s.untouched(t)
}

// Nothing that a stranger sends with an ask stands in the mail or on the page
// that its reader opens.
func TestMailHoldsNoWordsOfAStrangers(t *testing.T) {
	s := playMail(t, relayed)
	for i, bend := range []func(r *http.Request){
		func(r *http.Request) { r.Header.Set("User-Agent", `Firefox <script>evil()</script> Linux "evil"`) },
		func(r *http.Request) {
			r.Header.Set("User-Agent", "evil\u202elive Chrome\u2066 on evil "+strings.Repeat("e", 4000))
		},
		func(r *http.Request) {
			r.Header.Set("Accept-Language", "evil, x-evil;q=1, "+strings.Repeat("evil,", 3000))
		},
		func(r *http.Request) { r.Header.Set("Accept-Language", strings.Repeat("ar-u-nu-arab-x-evil,", 25)) },
		func(r *http.Request) { r.Header.Set("X-Forwarded-For", "evil") },
		func(r *http.Request) { r.Header.Set("X-Forwarded-For", "fe80::1%evil, 2001:db8::1%<evil>") },
		func(r *http.Request) { r.Header.Set("Origin-Trial", "evil"); r.Header.Set("From", "evil@evil.test") },
	} {
		v := visitorFrom(t, 30+i)
		r := s.posting(v, "/.login/email", "", "email", fmt.Sprintf("ada%d@example.com", i),
			"return", `/evil"><script>evil()</script>`, "title", "evil", "subject", "evil\r\nBcc: evil@evil.test")
		bend(r)
		mustBe(t, v.Do(r), http.StatusSeeOther)
		letter := s.box.Next(e2e.Patience)
		seen := e2e.NewVisitor(t).Get(letter.Link())
		mustBe(t, seen, http.StatusOK)
		for where, text := range map[string]string{"mail": letter.Subject + letter.Text + letter.HTML + string(letter.Raw), "page": seen.Body} {
			if strings.Contains(text, "evil") || strings.ContainsAny(text, "\u202e\u2066") {
				t.Errorf("%d: the %s holds a stranger's words:\n%s", i, where, text)
			}
		}
		if len(letter.To) != 1 || letter.Header.Get("Bcc") != "" {
			t.Errorf("%d: goes to %v", i, letter.To)
		}
	}
}

// Of a sign-in by mail no log has code, link, cookie or address, with every log
// on that Caddy has, also where the mail server quotes what it was sent and the
// link's address is misspelt.
func TestLogKeepsCodeAndLink(t *testing.T) {
	logged := strings.NewReplacer("https://app.test:{$PORT} {", "{\n\tdebug\n}\nhttps://app.test:{$PORT} {\n\tlog",
		"login email {", "login {\n\t\temail {\n\t\t\tlength 10\n\t\t}").Replace(byMail)
	s := playMail(t, logged)
	const address = "ada.lovelace@example.com"
	s.box.Say(inbox.RCPT, "450 4.2.0 <"+address+"> later")
	visitor := e2e.NewVisitor(t)
	waiting := s.ask(t, visitor, address, "/deep?q=1")
	e2e.Eventually(t, e2e.Patience, "a first try", func() bool { return s.box.Reached(inbox.RCPT) > 0 })
	s.box.Say(inbox.RCPT, "")
	letter := s.box.Next(e2e.Patience)
	token := tokenOf(letter.Link())
	secrets := append(secretsOf(t, nil, visitor.Cookies(s.site)), token, letter.Code())
	for _, path := range []string{
		"/.login/link?t=" + token, "/.login/link/?t=" + token, "/.login/link/" + token, "/.login/link;t=" + token, "/.login//link?t=" + token,
		"/.login/%6cink?t=" + token, "/.login/link?t=" + token + "&t=" + token, "/.login/code?code=" + letter.Code(), "/.login/code/" + letter.Code(),
	} {
		r := e2e.NewVisitor(t).Navigation(s.site + path)
		r.Header.Set("Referer", s.site+"/.login/link?t="+token)
		visitor.Another().Do(r)
	}
	visitor.Submit(waiting, "code", wrongCode(letter.Code()))
	mustBe(t, visitor.FollowOn(visitor.Submit(waiting, "code", letter.Code())), http.StatusOK)
	secrets = append(secrets, secretsOf(t, nil, visitor.Cookies(s.site))...)
	s.Stop()
	s.LogKeepsSecret(distinct(secrets)...)
	s.wantNoAddress(t, address)
	if !strings.Contains(s.Log(), "/deep") {
		t.Error("there is no access log")
	}
}

// Everything of ours that a browser can have at once stays under 2 KiB, so that
// 16 KiB of header are the app's.
func TestAllOurCookiesTogetherAreSmall(t *testing.T) {
	for what, option := range map[string]string{"of the usual name": "", "of the longest names": "cookie {\n name " + strings.Repeat("n", 32) + "\n domain app.test\n}"} {
		t.Run(what, func(t *testing.T) { weighCookies(t, option) })
	}
}

func weighCookies(t *testing.T, option string) {
	box := inbox.New(t)
	s := &mailed{box: box, stage: playWith(t, strings.NewReplacer("login {", "login {\n"+option+"\n\t\temail\n\t\tmail smtp {$SMTP} {\n\t\t\ttls_ca {file.{$SMTP_CA}}\n\t\t}",
		"allow *@example.com", "allow users").Replace(usual), map[string]string{"SMTP": box.Addr, "SMTP_CA": box.CAFile})}
	v := e2e.NewVisitor(t)
	for i, who := range []string{"ada@example.com", "grace@example.com", "alan@example.com", "ada@example.com"} {
		mustBe(t, v.FollowOn(v.Do(s.asking(v, who, ""))), http.StatusOK)
		mustBe(t, v.FollowOn(v.Do(s.posting(v, "/.login/code", "", "code", box.Code()))), http.StatusOK)
		if i < 2 { // the fourth is asked whether to change places
			mustBe(t, v.Do(s.posting(v, "/.login/logout", "")), http.StatusSeeOther)
		}
	}
	if all := strings.Join(v.Cookies(s.site), "; "); !strings.Contains(all, "-waits=") || strings.Count(all[strings.Index(all, "-friends="):], ".") < 2 {
		t.Fatalf("not all that can be there is there:\n%s", all)
	}
	for i := range 4 {
		mustBe(t, v.Do(s.asking(v, fmt.Sprintf("more%d@example.com", i), "")), http.StatusSeeOther)
	}
	heaviest := 0
	for length := 0; length < 400; length += 7 {
		for range 5 {
			mustBe(t, v.Get(s.site+"/.login/op?return=/"+strings.Repeat("r", length)), http.StatusFound)
		}
		heaviest = max(heaviest, len(strings.Join(v.Cookies(s.site), "; ")))
	}
	if t.Logf("the heaviest have %d bytes", heaviest); heaviest > 2048 {
		t.Errorf("our cookies weigh %d bytes", heaviest)
	}
	s.app.Forget()
	mustBe(t, v.Get(s.site+"/in"), http.StatusOK)
	if raw := fmt.Sprint(s.app.Last()); strings.Contains(raw, cookieName) {
		t.Errorf("the app sees\n%s", raw)
	}
}

// Known, not known, out of mails, paused: the same pages, cookies and headers,
// to the last attempt and beyond.
func TestNobodyLearnsWhoIsThrottled(t *testing.T) {
	s := playMail(t, byMail)
	s.enter(t, "ada@example.com")
	s.enter(t, "bob@example.com")
	for n := range 5 { // bob has had his mails, and ada her wrong codes
		v := visitorFrom(t, 40+n)
		v.Do(s.asking(v, "bob@example.com", ""))
		w := visitorFrom(t, 50+n)
		w.Do(s.asking(w, "ada@example.com", ""))
		for range 5 {
			w.Do(s.posting(w, "/.login/code", "", "code", "no"))
			w.Do(s.posting(w, "/.login/code", "", "code", "000000"))
		}
	}
	var first string
	for i, address := range []string{"eve@example.com", "ada@example.com", "bob@example.com"} {
		v := visitorFrom(t, 60+i)
		answer := v.Do(s.asking(v, address, ""))
		seen := shape(answer) + shape(v.FollowOn(answer))
		for range 7 {
			seen += shape(v.Do(s.posting(v, "/.login/code", "", "code", "000000")))
		}
		seen = strings.ReplaceAll(seen, address, "ADDRESS")
		if first == "" {
			first = seen
		}
		if seen != first {
			t.Errorf("%s is told\n%s\nwant\n%s", address, seen, first)
		}
	}
	for _, reason := range []string{"throttled", "paused"} {
		e2e.Eventually(t, e2e.Patience, "word that somebody was "+reason, func() bool {
			return strings.Contains(s.Log(), `"reason":"`+reason+`"`)
		})
	}
}

// Nobody but who asked learns how a challenge stands, and asking signs nobody
// in.
func TestPollTellsStrangersNothing(t *testing.T) {
	s := playMail(t, byMail)
	visitor := e2e.NewVisitor(t)
	s.ask(t, visitor, "ada@example.com", "/in")
	link := s.box.Link()
	poll := func(v *e2e.Visitor) string {
		r := v.Request(http.MethodGet, s.site+"/.login/code", "")
		r.Header.Set("Accept", "application/json")
		got := v.Do(r)
		mustBe(t, got, http.StatusOK)
		if len(got.Cookies()) > 0 {
			t.Errorf("polling sets %v", got.Cookies())
		}
		return got.Body
	}
	if got := poll(visitor.Another()); got != `{"status":"over"}` {
		t.Errorf("a stranger is told %s", got)
	}
	if got := poll(visitor); got != `{"status":"pending"}` {
		t.Errorf("who asked is told %s", got)
	}
	mustBe(t, visitor.Another().Get(link), http.StatusOK)
	if got := poll(visitor); got != `{"status":"pending"}` || s.isIn(visitor) {
		t.Errorf("after a scanner who asked is told %s", got)
	}
	tab := visitor.Another()
	tab.Jar = visitor.Jar
	mustBe(t, tab.FollowOn(tab.SubmitAll(tab.Get(link))), http.StatusOK)
	if got := poll(visitor.Another()); got != `{"status":"over"}` {
		t.Errorf("a stranger is told %s", got)
	}
}

// A code belongs to the page that asked for it: who asked twice, in two tabs or
// because the first mail was late, has two pages and two mails, and either code
// works where it was asked for. module/codes.go claim knows the last one alone,
// and counts the other as a guess.
func TestEachTabTakesItsOwnCode(t *testing.T) {
	s := playMail(t, byMail)
	visitor := e2e.NewVisitor(t)
	first := s.ask(t, visitor, "ada@example.com", "/first")
	code := s.box.Code()
	s.ask(t, visitor, "ada@example.com", "/second")
	s.box.Next(e2e.Patience)
	got := visitor.Submit(first, "code", code)
	if got.StatusCode != http.StatusSeeOther || session(got) == "" {
		t.Errorf("the first tab's own code is answered %d", got.StatusCode)
	}
}

// A pattern that anybody's name fits is no name: the Host of a request is then
// a stranger's word, and so is where the mail leads. module/survey.go isNamed
// asks only whether there is a host matcher.
func TestSiteOfAnyNameMailsNoLinks(t *testing.T) {
	s := playMail(t, byMail)
	block := byMail[strings.Index(byMail, "login email"):strings.LastIndex(byMail, "}")]
	for name, caddyfile := range map[string]string{
		"any name of two labels":   "https://*.*:{$PORT2} {\n" + block + "}\n",
		"any name of one label":    "https://*:{$PORT2} {\n" + block + "}\n",
		"any name below a suffix":  "https://*.co.uk:{$PORT2} {\n" + block + "}\n",
		"what the request says":    ":{$PORT2} {\n@any host {http.request.host}\nhandle @any {\n" + block + "}\n}\n",
		"what a header of it says": ":{$PORT2} {\n@any host {http.request.header.X-Host}\nhandle @any {\n" + block + "}\n}\n",
	} {
		before := len(s.Log())
		if out, err := s.TryReload(caddyfile); err == nil || !strings.Contains(out+s.Log()[before:], "write 'origin https://") {
			t.Errorf("%s: %v without the cure", name, err)
		}
	}
}

func TestNoReturnAddressLeadsAwayByMail(t *testing.T) {
	s := playMail(t, byMail)
	for i, to := range elsewhere {
		v := visitorFrom(t, 60+i)
		mustBe(t, v.Do(s.posting(v, "/.login/email", "", "email", fmt.Sprintf("ada%d@example.com", i), "return", to)), http.StatusSeeOther)
		letter := s.box.Next(e2e.Patience)
		in := v.Do(s.posting(v, "/.login/code?return="+url.QueryEscape(to), "", "code", letter.Code(), "return", to))
		if in.StatusCode != http.StatusSeeOther || session(in) == "" || !here(in.Header.Get("Location")) {
			t.Errorf("return %q: %d to %q", to, in.StatusCode, in.Header.Get("Location"))
		}
	}
}

// However the address is spelt, and from wherever it is asked, one mailbox gets
// what one address may have; and the sixth who asks reads what the first read.
func TestOneMailboxGetsFiveMailsAnHour(t *testing.T) {
	s := playMail(t, byMail)
	for i, address := range []string{
		"ada.love@example.com", "ADA.LOVE@EXAMPLE.COM", "adalove@example.com", "a.d.a.l.o.v.e@example.com", "adalove+1@example.com",
		"ada.love+2@example.com", "adalove@EXAMPLE.com", "a.dalove+x+y@example.com", "ada.lov.e@example.com", "adalove+.@example.com",
	} {
		v := visitorFrom(t, 100+i)
		got := v.Do(s.asking(v, address, ""))
		if got.StatusCode != http.StatusSeeOther && got.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", address, got.StatusCode)
		}
	}
	for range 5 {
		s.box.Next(e2e.Patience)
	}
	e2e.Eventually(t, e2e.Patience, "word of those that were not sent", func() bool { return strings.Count(s.Log(), `"reason":"throttled"`) >= 4 })
	if n := s.box.Waiting(); n != 0 {
		t.Errorf("%d mails too many", n)
	}
}

// sessionsOf sends requests at once, each with these cookies, and returns how
// many began a session.
func sessionsOf(t *testing.T, v *e2e.Visitor, cookies string, requests []*http.Request) int {
	t.Helper()
	var all sync.WaitGroup
	var begun atomic.Int64
	for _, r := range requests {
		r.Header.Set("Cookie", cookies)
		one := v.Another()
		all.Go(func() {
			if got, err := one.Try(r); err != nil {
				t.Error(err)
			} else if session(got) != "" {
				begun.Add(1)
			}
		})
	}
	all.Wait()
	return int(begun.Load())
}

// Code and link are one thing to spend.
func TestCodeAndLinkAtOnceSignInOnce(t *testing.T) {
	s := playMail(t, byMail)
	for round := range 5 {
		v := e2e.NewVisitor(t)
		s.ask(t, v, fmt.Sprintf("ada%d@example.com", round), "/in")
		letter := s.box.Next(e2e.Patience)
		var requests []*http.Request
		for range 16 {
			requests = append(requests, s.posting(v, "/.login/code", "", "code", letter.Code()),
				s.posting(v, "/.login/link", "", "token", tokenOf(letter.Link())))
		}
		if n := sessionsOf(t, v, strings.Join(v.Cookies(s.site), "; "), requests); n != 1 {
			t.Errorf("%d sessions were begun", n)
		}
	}
}

// What was approved elsewhere, by the right number, is collected once, and by
// nobody but who asked.
func TestApprovedIsCollectedOnceAndByWhoAsked(t *testing.T) {
	s := playMail(t, byMailWith("cross_device match"))
	v, phone := e2e.NewVisitor(t), visitorFrom(t, 7)
	waiting := s.ask(t, v, "ada@example.com", "/in")
	_, number, _ := strings.Cut(waiting.Body, `<p class="big">`)
	link := s.box.Link()
	mustBe(t, phone.Do(s.posting(phone, "/.login/link", "", "token", tokenOf(link), "number", number[:2])), http.StatusOK)
	if s.isIn(phone) || session(v.Another().Get(s.site+"/.login/code")) != "" {
		t.Error("another than who asked is in")
	}
	r := v.Request(http.MethodGet, s.site+"/.login/code", "")
	r.Header.Set("Accept", "application/json")
	if got := v.Do(r); session(got) != "" || got.Body != `{"status":"done","to":"/.login/code"}` {
		t.Errorf("polling is answered %s", got.Body)
	}
	var requests []*http.Request
	for range 32 {
		requests = append(requests, v.Navigation(s.site+"/.login/code"))
	}
	if n := sessionsOf(t, v, strings.Join(v.Cookies(s.site), "; "), requests); n != 1 {
		t.Errorf("%d sessions were begun", n)
	}
}

// Whoever was told that a mail is on its way gets one, also where the config
// they asked goes while they ask: what waits is still sent, and a request that a
// reload overtook has a queue of its own (module/post.go).
func TestAsksDuringReloadsAreMailed(t *testing.T) {
	s := playMail(t, relayed)
	stop, asked := make(chan struct{}), make(chan int)
	go func() { asked <- s.askUntil(e2e.NewVisitor(t), stop) }()
	for range 5 {
		s.Reload(relayed)
	}
	close(stop)
	n := <-asked
	e2e.Eventually(t, e2e.Patience, "a mail, or word that there is none, for each who asked", func() bool {
		return s.box.Waiting()+strings.Count(s.Log(), `"reason":"queue_full"`) >= n
	})
	if mails := s.box.Waiting(); mails < n {
		t.Errorf("%d were told to wait for a mail, and %d got one", n, mails)
	}
}

// askUntil asks for one address after the other, each from a network of its
// own, and returns how many were told to wait for their mail. A connection that
// a closing server drops was told nothing.
func (s *mailed) askUntil(v *e2e.Visitor, stop <-chan struct{}) (asked int) {
	v.Transport.DisableKeepAlives = true
	for i := range 900 {
		select {
		case <-stop:
			return asked
		default:
		}
		v.ForgetCookies()
		got, err := v.Try(s.asking(v, fmt.Sprintf("ada%d@example.com", i), fmt.Sprintf("10.1.%d.%d", i>>8, i&255)))
		if err == nil && got.StatusCode == http.StatusSeeOther {
			asked++
		}
	}
	return asked
}
