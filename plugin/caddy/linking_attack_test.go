package main_test

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
	"github.com/caddy-login/caddy-login/module/logintest/inbox"
)

// What an attacker wants of accounts that meet: an account of theirs that the
// victim comes to use, or a way of theirs into the victim's.

const victim = "victim@example.com"

// claims is an account at the issuer with which an attacker claims an address.
func (s *reception) claims(t *testing.T, provider, email string) (v *e2e.Visitor, answer e2e.Answer) {
	t.Helper()
	s.person("attacker's "+provider, email)
	v = s.visitor(t)
	return v, s.comes(t, v, s.site, provider, "attacker's "+provider)
}

// wantApart checks that attacker and victim are two users, that the app never
// took the attacker for the victim, and that each has but their own ways in.
func (s *reception) wantApart(t *testing.T, attacker, victims string) {
	t.Helper()
	if attacker == victims {
		t.Fatal("attacker and victim share an account")
	}
	for _, request := range s.app.Requests() {
		if request.Value("Remote-User") == attacker && strings.Contains(request.Raw, victim) {
			t.Errorf("the app was told that the attacker is the victim:\n%s", request.Raw)
		}
	}
	for _, account := range s.dossier(t, victims).Accounts {
		if strings.Contains(account.Subject, "attacker") {
			t.Errorf("the attacker's %s opens the victim's account", account.Provider)
		}
	}
	for _, address := range s.dossier(t, attacker).Addresses {
		if address.Address == victim {
			t.Error("the victim's address is the attacker's")
		}
	}
}

// The five attacks of Sudhodanan and Paverd, "Pre-hijacked accounts" (USENIX
// Security 2022): somebody makes an account with the address of a victim who
// has none yet.
func TestPreHijackedAccounts(t *testing.T) {
	t.Run("classic and federated merge, non-verifying provider", func(t *testing.T) {
		s := receive(t)
		attacks := map[string]*e2e.Visitor{}
		for _, provider := range []string{"t1off", "t1loose", "t1unlinked"} {
			v, in := s.claims(t, provider, victim)
			mustBe(t, in, http.StatusOK)
			attacks[provider] = v
		}
		_, asked := s.claims(t, "t1", victim) // the code goes to the victim
		wantQuestion(t, asked, proveAddress)
		v := s.visitor(t)
		s.person("victim's", victim)
		mustBe(t, s.comes(t, v, s.site, "t3", "victim's"), http.StatusOK)
		mustBe(t, s.enters(t, s.visitor(t), s.site, victim), http.StatusOK)
		for provider, attacker := range attacks {
			t.Log(provider)
			s.wantApart(t, s.whoIs(attacker), s.whoIs(v))
		}
	})
	t.Run("unexpired session", func(t *testing.T) {
		s := receive(t)
		attacker, in := s.claims(t, "t1off", victim)
		mustBe(t, in, http.StatusOK)
		mustBe(t, s.enters(t, s.visitor(t), s.site, victim), http.StatusOK)
		s.wantApart(t, s.whoIs(attacker), s.idOf(t, victim))
		// The other way round: whoever came before the first proof is out.
		s.person("attacker's own", "")
		early := s.visitor(t)
		mustBe(t, s.comes(t, early, s.site, "t3", "attacker's own"), http.StatusOK)
		late := s.visitor(t)
		mustBe(t, s.comes(t, late, s.site, "t3", "attacker's own"), http.StatusOK)
		waiting := late.FollowOn(late.Do(s.posting(late, "/.login/account", "", "do", "add", "address", "first@example.com")))
		mustBe(t, late.FollowOn(late.Submit(waiting, "code", s.code(t, "first@example.com"))), http.StatusOK)
		if s.isIn(early) || !s.isIn(late) {
			t.Error("a session from before the first proof lives, or the one that proved is out")
		}
	})
	t.Run("trojan identifier", func(t *testing.T) {
		s := receive(t)
		attacker, in := s.claims(t, "t1off", victim)
		mustBe(t, in, http.StatusOK)
		s.person("attacker's second", "attacker@example.com")
		asked := s.connects(t, attacker, "t2", "attacker's second")
		mustBe(t, attacker.FollowOn(answers(t, attacker, asked, "link")), http.StatusOK)
		mustBe(t, s.enters(t, s.visitor(t), s.site, victim), http.StatusOK)
		s.app.Forget()
		mustBe(t, s.comes(t, s.visitor(t), s.site, "t2", "attacker's second"), http.StatusOK)
		id, _ := s.who()
		s.wantApart(t, id, s.idOf(t, victim))
	})
	t.Run("unexpired change of address", func(t *testing.T) {
		s := receive(t)
		s.person("attacker's own", "attacker@example.com")
		attacker := s.visitor(t)
		mustBe(t, s.comes(t, attacker, s.site, "t3", "attacker's own"), http.StatusOK)
		waiting := attacker.FollowOn(attacker.Do(s.posting(attacker, "/.login/account", "", "do", "add", "address", victim)))
		mustBe(t, waiting, http.StatusOK)
		letter := s.letter(t, victim, func(m inbox.Mail) bool { return strings.Contains(m.Text, "@app.test #") })
		// The victim opens the link, as a scanner would with everything on it.
		v := s.visitor(t)
		opened := v.Get(letter.Link())
		mustBe(t, opened, http.StatusOK)
		mustBe(t, s.enters(t, v, s.site, victim), http.StatusOK)
		mustBe(t, attacker.Get(s.site+"/.login/confirm"), http.StatusOK) // it still waits
		s.wantApart(t, s.whoIs(attacker), s.whoIs(v))
		// And had they the code: the address is somebody's now.
		done := attacker.FollowOn(attacker.Submit(waiting, "code", letter.Code()))
		if !strings.Contains(done.Body, "Somebody else here already has this address") {
			t.Errorf("%s: %d", done.Request.URL, done.StatusCode)
		}
		s.wantApart(t, s.whoIs(attacker), s.whoIs(v))
	})
}

// nOAuth: a tenant's administrator writes the victim's address into an account
// of their own.
func TestClaimedAddressOpensNothing(t *testing.T) {
	s := receive(t)
	_, id := s.holder(t, victim)
	s.app.Forget()
	for _, provider := range []string{"t1off", "t1apart", "t1apartoff", "t1loose"} {
		v, got := s.claims(t, provider, victim)
		mustBe(t, got, http.StatusConflict)
		wantErrorPage(t, got)
		if s.whoIs(v) != "" {
			t.Errorf("%s: let in", provider)
		}
	}
	s.untouched(t)
	unlinked, in := s.claims(t, "t1unlinked", victim)
	mustBe(t, in, http.StatusOK)
	s.wantApart(t, s.whoIs(unlinked), id)

	v, asked := s.claims(t, "t1", victim)
	wantQuestion(t, asked, proveAddress, victim)
	s.person("attacker's own", "attacker@example.com")
	s.app.Forget()
	mark := question.FindStringSubmatch(asked.Body)[1]
	for _, pairs := range [][]string{
		{"do", "link"}, {"do", "switch"}, {"do", "keep"}, {"do", "prove", "provider", "t3"}, {"do", ""}, {"do", "link", "do2", "code"},
		{"code", "000000"}, {"resend", "1"},
	} {
		got := v.Do(confirming(t, v, asked, append([]string{"ask", mark}, pairs...)...))
		if got.StatusCode != http.StatusConflict || session(got) != "" {
			t.Errorf("%q: %d", pairs, got.StatusCode)
		}
	}
	waiting := v.FollowOn(answers(t, v, asked, "code"))
	code := s.code(t, victim)
	for range 5 {
		waiting = v.Submit(waiting, "code", wrongCode(code))
	}
	if waiting.StatusCode != http.StatusTooManyRequests || session(v.Do(confirming(t, v, asked, "ask", strings.Split(mark, ".")[0], "code", code))) != "" {
		t.Errorf("after five wrong codes: %d", waiting.StatusCode)
	}
	if s.accounts(t, id) != 1 {
		t.Error("connected")
	}
	s.untouched(t)
}

// A page elsewhere has the victim's browser connect the attacker's account, or
// answer a question.
func TestLinksAreNotMadeAcrossSites(t *testing.T) {
	s := receive(t)
	v, id := s.holder(t, victim)
	s.person("attacker's", "attacker@example.com")
	asked := s.comes(t, v, s.site, "t3", "attacker's") // as far as an attacker can bring them
	wantQuestion(t, asked, linkOrSwitch)
	mark := question.FindStringSubmatch(asked.Body)[1]
	forms := map[string]url.Values{
		"/.login/confirm":        {"ask": {mark}, "do": {"link"}},
		"/.login/account":        {"do": {"connect"}, "provider": {"t3"}},
		"/.login/account/again":  {"do": {"again"}, "provider": {"t3"}},
		"/.login/account/delete": {"do": {"delete"}, "sure": {"1"}},
	}
	for path, form := range forms {
		for name, from := range map[string][3]string{ // Origin, Sec-Fetch-Site
			"another site":   {"https://evil.test", "cross-site"},
			"a sibling":      {strings.Replace(s.site, "app.", "evil.app.", 1), "same-site"},
			"another port":   {"https://app.test", "same-site"},
			"a sandbox":      {"null", "cross-site"},
			"no word of it":  {"", ""},
			"a lie of two":   {s.site, "cross-site"},
			"typed by hand":  {"", "none"},
			"another scheme": {strings.Replace(s.site, "https", "http", 1), "same-site"},
		} {
			r := v.Request(http.MethodPost, s.site+path, form.Encode())
			r.Header.Set("Content-Type", formType)
			if from[0] != "" {
				r.Header.Set("Origin", from[0])
			}
			if from[1] != "" {
				r.Header.Set("Sec-Fetch-Site", from[1])
			}
			if got := v.Do(r); got.StatusCode != http.StatusForbidden || session(got) != "" {
				t.Errorf("%s from %s: %d", path, name, got.StatusCode)
			}
		}
		v.Get(s.site + path + "?" + form.Encode())
	}
	if s.accounts(t, id) != 1 || s.whoIs(v) != id {
		t.Error("connected, or switched")
	}
}

// The attacker signs in at the provider and has the victim open the answer.
func TestAnswerOfAnothersSignInIsRefused(t *testing.T) {
	s := receive(t)
	v, id := s.holder(t, victim)
	s.person("attacker's", "attacker@example.com")
	attacker, _ := s.holder(t, "attacker@example.com")
	stranger := s.visitor(t)
	_, asked := s.claims(t, "t2", victim) // for a proof, below
	answersTo := map[string]func() string{
		"a sign-in": func() string {
			return s.callback(t, stranger, stranger.Get(s.site+"/.login/t3?return=%2Fin"), "attacker's")
		},
		"a connection": func() string {
			begun := attacker.Do(s.posting(attacker, "/.login/account", "", "do", "connect", "provider", "t2"))
			return s.callback(t, attacker, begun, "attacker's")
		},
		"another's proof": func() string {
			proving := s.visitor(t)
			asked = s.comes(t, proving, s.site, "t2", "attacker's t2")
			return s.callback(t, proving, proving.Do(saying(t, proving, asked, "prove", "provider", "t3")), "holder of "+victim)
		},
	}
	for name, answer := range answersTo {
		for who, browser := range map[string]*e2e.Visitor{"signed in": v, "nobody": s.visitor(t)} {
			got := browser.FollowOn(browser.Get(answer()))
			if got.StatusCode != http.StatusBadRequest || session(got) != "" {
				t.Errorf("%s, by somebody %s: %d", name, who, got.StatusCode)
			}
		}
	}
	if s.accounts(t, id) != 1 || s.whoIs(v) != id {
		t.Error("connected, or switched")
	}
}

// The victim's browser is signed in as the attacker, at the provider. Led there
// by a link, the victim stays who they are until they say otherwise.
func TestAttackersAccountAtTheProviderIsAskedAbout(t *testing.T) {
	s := receive(t)
	v, id := s.holder(t, victim)
	s.person("attacker's new", "new@example.com")
	s.holder(t, "attacker@example.com")
	for subject, title := range map[string]string{"attacker's new": linkOrSwitch, "holder of attacker@example.com": switchOrStay} {
		begun := v.Get(s.site + "/.login/t3?return=%2Fin") // no word of the visitor's
		asked := v.FollowOn(v.Get(s.callback(t, v, begun, subject)))
		wantQuestion(t, asked, title, victim)
		if regexp.MustCompile(`http-equiv="?refresh|<script`).MatchString(asked.Body) {
			t.Error("the question may answer itself")
		}
		if s.whoIs(v) != id || s.accounts(t, id) != 1 {
			t.Errorf("%s: switched or connected without a click", title)
		}
	}
	// The same by code: a mail that the attacker had sent to themselves.
	asked := s.enters(t, v, s.site, "attacker@example.com")
	wantQuestion(t, asked, switchOrStay, victim)
	if s.whoIs(v) != id {
		t.Error("switched without a click")
	}
}

// Who buys a domain that ran out reads its mail. To us they are its holder: a
// code signs them in, and a provider that runs the domain's mail brings them to
// the account (the paper's unexpired account; rows F1 and E6). We can't tell
// them apart, so we tell the old holder, at every address they have proven.
func TestNewHolderOfAMailboxIsToldToTheOld(t *testing.T) {
	s := receive(t)
	old, id := s.holder(t, "old@example.com")
	waiting := old.FollowOn(old.Do(s.posting(old, "/.login/account", "", "do", "add", "address", "private@example.net")))
	mustBe(t, old.FollowOn(old.Submit(waiting, "code", s.code(t, "private@example.net"))), http.StatusOK)

	byCode := s.visitor(t)
	mustBe(t, s.enters(t, byCode, s.site, "old@example.com"), http.StatusOK)
	if s.whoIs(byCode) != id {
		t.Error("the code opens another account")
	}
	s.wantTold(t, "private@example.net", noticeNewDevice)
	s.wantTold(t, "old@example.com", noticeNewDevice)

	s.person("new holder", "old@example.com")
	byProvider := s.visitor(t)
	asked := s.comes(t, byProvider, s.site, "t3", "new holder")
	wantQuestion(t, asked, confirmLink, "old@example.com")
	if strings.Contains(asked.Body, "private@example.net") {
		t.Error("the page names an address that they did not bring")
	}
	mustBe(t, byProvider.FollowOn(answers(t, byProvider, asked, "link")), http.StatusOK)
	s.wantTold(t, "private@example.net", noticeLinked)
	if !s.isIn(old) {
		t.Error("the old holder is out, and can't undo it")
	}
	// Who is an administrator here, is not had by a mailbox at a provider alone.
	s.operator(t, http.MethodPut, "users/"+id+"/groups", `{"groups":["admins"]}`).into(t, &person{})
	s.person("newer holder", "old@example.com")
	wantQuestion(t, s.comes(t, s.visitor(t), s.site, "t3", "newer holder"), proveOwner)
}

// A provider's name that stands for another issuer knows none of the people of
// the old one: the same subject there is somebody else.
func TestSwappedIssuerInheritsNobody(t *testing.T) {
	s := receive(t)
	s.person("1", victim)
	v := s.visitor(t)
	mustBe(t, s.comes(t, v, s.site, "t3", "1"), http.StatusOK)
	id := s.idOf(t, victim)

	s.issuer = logintest.NewIssuer(t)
	var callbacks []string
	for name := range treatments {
		callbacks = append(callbacks, s.site+"/.login/"+name+"/callback")
	}
	s.issuer.Client("site", clientSecret, callbacks...)
	s.Env["ISSUER"] = s.issuer.Issuer
	s.Reload(twoSites("t1", "t3"))
	if s.isIn(v) {
		t.Error("a session of the old issuer's counts as one of the new one's")
	}
	s.person("1", "")
	attacker := s.visitor(t)
	mustBe(t, s.comes(t, attacker, s.site, "t3", "1"), http.StatusOK)
	s.wantApart(t, s.whoIs(attacker), id)
	s.person("2", victim)
	wantQuestion(t, s.comes(t, s.visitor(t), s.site, "t3", "2"), confirmLink) // no more than anybody
	wantQuestion(t, s.comes(t, s.visitor(t), s.site, "t1", "2"), proveAddress)
	if s.accounts(t, id) != 1 {
		t.Error("connected")
	}
}

// An account that can be given any address asks, one after the other, whose
// there are. Soon it is told nothing, of those that somebody has and of others.
func TestWhoHasAnAddressIsNotFoundOutByTrying(t *testing.T) {
	s := receive(t)
	_, id := s.holder(t, victim)
	s.app.Forget()
	ask := func(v *e2e.Visitor, provider, subject, email string) int {
		s.person(subject, email)
		return s.comes(t, v, s.site, provider, subject).StatusCode
	}
	attacker := s.visitor(t)
	for i := range 5 {
		ask(attacker, "t1apart", "asking", fmt.Sprintf("guess%d@example.com", i))
	}
	for _, email := range []string{victim, "nobody@example.com"} {
		for _, from := range []*e2e.Visitor{attacker, s.visitor(t)} { // the network does not matter
			if got := ask(from, "t1apart", "asking", email); got != http.StatusTooManyRequests {
				t.Errorf("asking on about %s: %d", email, got)
			}
		}
	}
	// Many accounts of one network: thirty at once, and one more in 20 s.
	crowd, begun, told := s.visitor(t), time.Now(), 0
	asksInVain := func(what, provider, email string) {
		t.Helper()
		for ask(crowd, provider, fmt.Sprintf("%s %d", what, told), email) != http.StatusTooManyRequests {
			if told++; told > 30+int(time.Since(begun)/(20*time.Second)) {
				t.Fatalf("%s, of %s: the network was told %d times in %s", what, email, told, time.Since(begun))
			}
		}
	}
	if asksInVain("asking", "t1apart", victim); told < 30 {
		t.Errorf("the network was told %d times only", told)
	}
	for _, email := range []string{victim, "nobody@example.com", "nobody.else@example.com"} {
		asksInVain("asking more", "t1apart", email)
	}
	asksInVain("to be new", "t1off", "nobody@example.com") // what would succeed tells that nobody has it
	// Whose account is known, or vouched for, comes in from there.
	for subject, provider := range map[string]string{"holder of " + victim: "t3", "vouched for": "t2"} {
		email := map[string]string{"t3": victim, "t2": "vouched@example.com"}[provider]
		if got := ask(crowd, provider, subject, email); got != http.StatusOK {
			t.Errorf("%s by %s: %d", subject, provider, got)
		}
	}
	if n := len(s.dossier(t, id).Activity); n > 10+told {
		t.Errorf("the victim's activity has %d entries", n)
	}
}

// Whether somebody has an address that is to be proven shows neither on the
// pages nor in the mail.
func TestProofOfAnAddressTellsNothing(t *testing.T) {
	s := receive(t)
	s.holder(t, victim)
	var first, firstMail string
	for _, email := range []string{victim, "vacant@example.com"} { // of one length, and one initial
		s.person("of "+email, email)
		v := s.visitor(t)
		asked := s.comes(t, v, s.site, "t1", "of "+email)
		posted := answers(t, v, asked, "code")
		waiting := v.FollowOn(posted)
		letter := s.letter(t, email, func(m inbox.Mail) bool { return strings.Contains(m.Text, "@app.test #") })
		wrong := v.Submit(waiting, "code", wrongCode(letter.Code()))
		seen := anyMark.ReplaceAllString(shape(asked)+shape(posted)+shape(waiting)+shape(wrong), "MARK")
		seen = strings.ReplaceAll(seen, email, "ADDRESS")
		mail := strings.NewReplacer(email, "ADDRESS", letter.Code(), "CODE", letter.Link(), "LINK", letter.Code()[:3]+" "+letter.Code()[3:], "CODE").Replace(letter.Subject + letter.Text)
		mail = clockTime.ReplaceAllString(mail, "TIME")
		if first == "" {
			first, firstMail = seen, mail
		}
		if seen != first {
			t.Errorf("for %s the pages are\n%s\nand else\n%s", email, seen, first)
		}
		if mail != firstMail {
			t.Errorf("the mail to %s is\n%s\nand else\n%s", email, mail, firstMail)
		}
	}
}

var (
	anyMark   = regexp.MustCompile(`name="ask" value="[^"]*"|ask=[0-9a-f]+`)
	clockTime = regexp.MustCompile(`(?:\d{1,2} \pL+ \d{4}, )?\d\d:\d\d`) // with its day, which may end meanwhile
)

// Somebody who is signed in as themselves guesses codes for another's address:
// that uses up nothing of the budget that the holder's own browser has.
func TestSignedInStrangerIsNoFriend(t *testing.T) {
	s := receive(t)
	own := s.visitor(t)
	mustBe(t, s.enters(t, own, s.site, victim), http.StatusOK)
	attacker, _ := s.holder(t, "attacker@example.com")
	var guess string
	for i := range 3 { // ten wrong codes in an hour pause an account: no third one is mailed
		subject := fmt.Sprintf("guessing %d", i)
		s.person(subject, victim)
		asked := s.comes(t, attacker, s.site, "t1", subject)
		wantQuestion(t, asked, linkOrSwitch)
		asked = attacker.FollowOn(answers(t, attacker, asked, "switch"))
		wantQuestion(t, asked, proveAddress)
		waiting := attacker.FollowOn(answers(t, attacker, asked, "code"))
		if i < 2 {
			guess = wrongCode(s.code(t, victim))
		}
		for range 5 {
			if waiting.StatusCode == http.StatusOK || waiting.StatusCode == http.StatusUnprocessableEntity {
				waiting = attacker.Submit(waiting, "code", guess)
			}
		}
	}
	own.Do(s.posting(own, "/.login/logout", ""))
	mustBe(t, s.enters(t, own, s.site, victim), http.StatusOK)
}

// Where a form or an address of these pages says to go on to, it leads nowhere
// but here.
func TestQuestionsLeadNowhereElse(t *testing.T) {
	s := receive(t)
	v, _ := s.holder(t, victim)
	s.person("another", "another@example.com")
	own := func(what string, got e2e.Answer) {
		t.Helper()
		for _, to := range leads(got) {
			u, err := url.Parse(to)
			if err != nil || strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\\\r\n\t\x00") || u.Host != "" && !strings.HasPrefix(to, s.issuer.URL+"/") ||
				u.Host == "" && !strings.HasPrefix(to, "/") && !strings.HasPrefix(to, "data:image/") {
				t.Errorf("%s leads to %q", what, to)
			}
		}
		for _, match := range regexp.MustCompile(`name="return" value="([^"]*)"`).FindAllStringSubmatch(got.Body, -1) {
			if match[1] != "/.login/account" && match[1] != "/.login/account/delete" {
				t.Errorf("%s hands on %q", what, match[1])
			}
		}
	}
	for _, evil := range elsewhere[:len(elsewhere)-1] {
		again := "/.login/account/again?return=" + url.QueryEscape(evil)
		own(again, v.Get(s.site+again))
		own("again", v.Do(s.posting(v, "/.login/account/again", "", "do", "again", "provider", "t3", "return", evil)))
		own("connect", v.Do(s.posting(v, "/.login/account", "", "do", "connect", "provider", "t3", "return", evil)))
	}
	for _, evil := range []string{"//evil.test", `/\evil.test`, "https://evil.test/", "/.login/logout", "/.login/account/delete"} {
		begun := v.Get(s.site + "/.login/t2?switch=1&return=" + url.QueryEscape(evil))
		asked := v.FollowOn(v.Get(s.callback(t, v, begun, "another")))
		wantQuestion(t, asked, linkOrSwitch)
		own("the question after "+evil, asked)
		own("an outdated one", v.Do(confirming(t, v, asked, "ask", "x", "do", "link", "return", evil)))
		no := answers(t, v, asked, "cancel", "return", evil)
		own("a no", no)
		if strings.Contains(no.Body, "evil") || strings.Contains(no.Body, `href="/.login/logout"`) || strings.Contains(no.Body, "account/delete") {
			t.Errorf("after a no to %s:\n%s", evil, no.Body)
		}
	}
}

// leads are where an answer's redirect, links and forms lead.
func leads(a e2e.Answer) (all []string) {
	if to := a.Header.Get("Location"); to != "" {
		all = append(all, to)
	}
	for _, match := range regexp.MustCompile(`(?:href|action)="([^"]*)"`).FindAllStringSubmatch(a.Body, -1) {
		all = append(all, strings.ReplaceAll(match[1], "&amp;", "&"))
	}
	return all
}
