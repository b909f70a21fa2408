package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// forms are all that the pages of an account post.
var forms = []struct {
	path  string
	pairs []string
}{
	{"/account", []string{"do", "rename", "name", "Mallory"}},
	{"/account", []string{"do", "add", "address", "mallory@evil.example"}},
	{"/account", []string{"do", "primary", "address", "second@new.example"}},
	{"/account", []string{"do", "remove", "address", "ada@example.com"}},
	{"/account", []string{"do", "connect", "provider", "club"}},
	{"/account", []string{"do", "end_others"}},
	{"/account/again", []string{"do", "code"}},
	{"/account/again", []string{"do", "again", "provider", "op"}},
	{"/account/delete", []string{"do", "delete", "sure", "1"}},
	{"/account/revert", []string{"token", "x.y"}},
}

// What a page of another site posts, a sibling's of the same domain among them,
// changes nothing and sends nothing.
func TestOthersCannotChangeYourAccount(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	ada, phone := s.known(t, "op", "ada"), s.known(t, "op", "ada")
	s.letter(t, "ada@example.com", "New sign-in")
	mustBe(t, s.prove(t, ada, "second@new.example"), http.StatusSeeOther)
	s.letter(t, "ada@example.com", "address was added")
	cookie := ada.Cookie(s.site, cookieName)
	for from, head := range map[string]http.Header{
		"another site":    {"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"cross-site"}},
		"a sibling site":  {"Origin": {"https://sibling.app.test"}, "Sec-Fetch-Site": {"same-site"}},
		"the other site":  {"Origin": {s.other}, "Sec-Fetch-Site": {"cross-site"}},
		"another port":    {"Origin": {"https://app.test:1"}, "Sec-Fetch-Site": {"same-site"}},
		"no scheme":       {"Origin": {strings.TrimPrefix(s.site, "https://")}},
		"two origins":     {"Origin": {s.site, "https://evil.example"}},
		"a sandbox":       {"Origin": {"null"}},
		"an old browser":  {"Referer": {"https://evil.example/"}},
		"a spoken origin": {"Origin": {s.site}, "Sec-Fetch-Site": {"cross-site"}},
	} {
		for _, form := range forms {
			r := s.form(ada, s.site, form.path, form.pairs...)
			r.Header = head.Clone()
			r.Header.Set("Content-Type", formType)
			if got := ada.Do(r); got.StatusCode != http.StatusForbidden {
				t.Errorf("%s, %s %v: %d", from, form.path, form.pairs, got.StatusCode)
			}
		}
		r := s.form(ada, s.site, "/account", "do", "rename", "name", "Mallory")
		r.Header = head.Clone()
		r.Header.Set("Content-Type", "text/plain")
		if got := ada.Do(r); got.StatusCode != http.StatusForbidden {
			t.Errorf("%s, as text: %d", from, got.StatusCode)
		}
	}
	for _, form := range forms {
		for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions} {
			r := s.form(ada, s.site, form.path, form.pairs...)
			r.Method = method
			mustBe(t, ada.Do(r), http.StatusMethodNotAllowed)
		}
		// In an address a form's fields are none.
		address := s.site + "/.login" + form.path + "?"
		for i := 0; i < len(form.pairs); i += 2 {
			address += form.pairs[i] + "=" + url.QueryEscape(form.pairs[i+1]) + "&"
		}
		ada.Get(address)
	}
	got := s.seenBy(t, ada, s.site)
	if got.Value("Remote-Name") != "Ada Lovelace" || got.Value("Remote-Email") != "ada@example.com" || ada.Cookie(s.site, cookieName) != cookie || !s.isIn(phone) {
		t.Errorf("something was changed:\n%s", got.Raw)
	}
	if n := s.box.Waiting(); n != 0 {
		t.Errorf("%d mails went out", n)
	}
}

func TestAccountPagesCannotBeFramedOrKept(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	ada := s.known(t, "op", "ada")
	for _, path := range []string{"/account", "/account/activity", "/account/delete", "/account/again", "/account/download", "/account/activity.csv", "/account/revert?t=x"} {
		got := ada.Get(s.site + "/.login" + path)
		h := got.Header
		if h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", path, h)
		}
		isFile := h.Get("Content-Disposition") != ""
		if h.Get("Cross-Origin-Resource-Policy") != "same-origin" {
			t.Errorf("%s may be embedded: %v", path, h)
		}
		if !isFile && (!strings.Contains(h.Get("Content-Security-Policy"), "frame-ancestors 'none'") || h.Get("X-Frame-Options") != "DENY") {
			t.Errorf("%s may be framed: %v", path, h)
		}
		if strings.Contains(h.Get("Content-Security-Policy"), "unsafe") {
			t.Errorf("%s: %s", path, h.Get("Content-Security-Policy"))
		}
	}
}

// What strangers choose to be called: a provider's names, a browser's, what is
// typed.
func TestStrangersWordsStayWords(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	evil := map[string]string{
		"markup":  `"><script src=//evil.example></script><script>alert(1)</script><img src=x onerror=alert(2)>`,
		"turned":  "\u202eadmin\u2066\u200f<b>",
		"long":    strings.Repeat("Wolfeschlegelsteinhausen ", 400),
		"lines":   "Ada\r\nSet-Cookie: a=b\r\n\r\n<html>",
		"formula": `=cmd|' /C calc'!A0`,
	}
	for name, word := range evil {
		s.op.issuer.Person(logintest.Person{Subject: name, Email: name + "@example.com", EmailVerified: true, Name: word, Groups: []string{word[:min(len(word), 100)]}})
		v := e2e.NewVisitor(t)
		begun := v.Navigation(s.site + "/.login/op?return=%2Fpublic%2Fin")
		callback, _, err := pick(v.To(v.Do(begun)), name)
		if err != nil {
			t.Fatal(err)
		}
		back := v.Navigation(callback)
		if !strings.ContainsAny(word, "\r\n") {
			back.Header.Set("User-Agent", word)
		}
		mustBe(t, v.FollowOn(v.Do(back)), http.StatusOK)
		for _, form := range [][]string{{"do", "add", "address", word}, {"do", "rename", "name", "<script>" + word}} {
			// What they typed comes back to them as it was, in its field alone.
			got := s.act(t, v, form...)
			if got.StatusCode > 499 || form[1] == "add" && got.StatusCode < 400 || strings.Contains(got.Body, "<script>alert") || strings.Contains(got.Body, "<img src=x") {
				t.Errorf("%s, %s: %d\n%.2000s", name, form[1], got.StatusCode, got.Body)
			}
		}
		for _, page := range []e2e.Answer{s.page(t, v), v.Get(s.site + "/.login/account/activity"), v.Get(s.site + "/.login/account/delete"), v.Get(s.site + "/.login/account/again")} {
			for _, bad := range []string{"<script>alert", "<img src=x", "onerror=alert(2)>", "<b>", "\u202e", "\u2066"} {
				if strings.Contains(page.Body, bad) {
					t.Errorf("%s: %q stands on %s", name, bad, page.Request.URL)
				}
			}
			if len(page.Body) > 40_000 {
				t.Errorf("%s: %s has %d bytes", name, page.Request.URL, len(page.Body))
			}
		}
		for _, field := range s.seenBy(t, v, s.site).Head {
			if len(field.Value) > 4096 || strings.ContainsAny(field.Value, "\r\n\u202e") {
				t.Errorf("%s: the app receives %s with %d bytes: %.80q", name, field.Name, len(field.Value), field.Value)
			}
		}
	}
}

// atOnce sends requests at the same moment, each with the cookies that v has now,
// and returns what came of them.
func atOnce(t *testing.T, v *e2e.Visitor, requests []*http.Request) []e2e.Answer {
	t.Helper()
	answers := make([]e2e.Answer, len(requests))
	var all sync.WaitGroup
	start := make(chan struct{})
	for i, r := range requests {
		r.Header.Set("Cookie", strings.Join(v.Cookies(r.URL.Scheme+"://"+r.URL.Host), "; "))
		other := v.Another()
		all.Go(func() {
			<-start
			var err error
			if answers[i], err = other.Try(r); err != nil {
				t.Error(err)
			}
		})
	}
	close(start)
	all.Wait()
	return answers
}

// alive counts the sessions that answers began and that still sign in.
func (s *accounts) alive(v *e2e.Visitor, answers []e2e.Answer) (n int) {
	for _, answer := range answers {
		if cookie := session(answer); cookie != "" && s.isIn(replay(v, s.site, cookie)) {
			n++
		}
	}
	return n
}

// Of any number of changes at once by one session id one is made: it has a new id
// then.
func TestChangesAtOnceLeaveOneSession(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	ada := s.known(t, "op", "ada")
	var requests []*http.Request
	for i := range 32 {
		requests = append(requests, s.form(ada, s.site, "/account", "do", "rename", "name", fmt.Sprintf("Ada %d", i)))
	}
	answers := atOnce(t, ada, requests)
	made := 0
	for i, answer := range answers {
		if answer.StatusCode != http.StatusSeeOther || !strings.HasSuffix(answer.Header.Get("Location"), "done=renamed") {
			continue
		}
		made++
		winner := replay(ada, s.site, session(answer))
		if name := s.seenBy(t, winner, s.site).Value("Remote-Name"); name != fmt.Sprintf("Ada %d", i) {
			t.Errorf("change %d was made, and the name is %q", i, name)
		}
	}
	if made != 1 || s.alive(ada, answers) != 1 || s.isIn(ada) {
		t.Errorf("%d changes were made, %d sessions live, the old one: %t", made, s.alive(ada, answers), s.isIn(ada))
	}
}

// Who signs out in one tab is signed out, whatever another does at that moment.
func TestSignOutWinsOverEveryChange(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	for round := range 3 {
		ada := s.known(t, "op", "ada")
		phone := s.known(t, "op", "ada")
		requests := []*http.Request{s.form(ada, s.site, "/logout")}
		for i := range 31 {
			form := forms[i%3]
			requests = append(requests, s.form(ada, s.site, form.path, form.pairs...))
		}
		answers := atOnce(t, ada, requests)
		if s.isIn(ada) {
			t.Errorf("round %d: the old id lives", round)
		}
		// A change that came first gave the session another id, which that
		// sign-out did not know: at most one, and never one that came after.
		if n := s.alive(ada, answers); n > 1 {
			t.Errorf("round %d: %d sessions live on", round, n)
		}
		if !s.isIn(phone) {
			t.Errorf("round %d: another session is gone", round)
		}
	}
}

func TestDeletionWinsOverEverything(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	ada := s.known(t, "op", "ada")
	user := s.seenBy(t, ada, s.site).Value("Remote-User")
	callback, _, err := pick(bounced(t, s.act(t, ada, "do", "connect", "provider", "club")), "lady")
	if err != nil {
		t.Fatal(err)
	}
	asked := ada.Follow(callback)
	ask := question.FindStringSubmatch(asked.Body)[1]
	requests := []*http.Request{s.form(ada, s.site, "/account/delete", "do", "delete", "sure", "1")}
	for range 15 {
		requests = append(requests, s.form(ada, s.site, "/confirm", "ask", ask, "do", "link"),
			s.form(ada, s.site, "/account", "do", "rename", "name", "Countess"))
	}
	answers := atOnce(t, ada, requests)
	// Whoever came first had the session's id: deleting, linking or renaming.
	var known file
	s.operator(t, http.MethodGet, "users/"+user, "").into(t, &known)
	deleted := answers[0].StatusCode == http.StatusOK
	if live := s.alive(ada, answers); deleted != (known.User.State == "deleting") || deleted == (live > 0) || live > 1 {
		t.Errorf("deleted: %t; the user is %s with %d sessions", deleted, known.User.State, live)
	}
	if s.isIn(ada) {
		t.Error("the old id lives")
	}
}

// An operator's word counts at once, also for who is about to change something.
func TestDisabledUserChangesNothing(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	ada := s.known(t, "op", "ada")
	link := s.proveAndRevert(t, ada)
	id := s.idOf(t, "ada@example.com")
	if got := s.operator(t, http.MethodPost, "users/"+id+"/disable", ""); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	for _, form := range forms {
		got := ada.Do(s.form(ada, s.site, form.path, form.pairs...))
		if session(got) != "" || got.StatusCode == http.StatusOK {
			t.Errorf("%s %v: %d", form.path, form.pairs, got.StatusCode)
		}
	}
	stranger := e2e.NewVisitor(t)
	wantErrorPage(t, stranger.Do(s.form(stranger, s.site, "/account/revert", "token", tokenIn(t, link))))
	var known file
	s.operator(t, http.MethodGet, "users/"+id, "").into(t, &known)
	if known.User.State != "disabled" || known.User.Name != "Ada Lovelace" || len(known.Addresses) != 2 {
		t.Errorf("%+v", known)
	}
}

// proveAndRevert adds an address and returns the link that takes it away.
func (s *accounts) proveAndRevert(t *testing.T, v *e2e.Visitor) string {
	t.Helper()
	mustBe(t, s.prove(t, v, "second@new.example"), http.StatusSeeOther)
	link := revertLink(t, s.letter(t, "ada@example.com", "address was added"))
	s.op.keep(tokenIn(t, link))
	return link
}

// Of a link that takes a change back, neither the log nor another site hears.
func TestRevertLinkIsForItsReaderAlone(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	ada := s.known(t, "op", "ada")
	link := s.proveAndRevert(t, ada)
	token := tokenIn(t, link)
	user, rest, _ := strings.Cut(token, ".")
	bent := []string{"", "x", user, user + ".", "." + rest, token + "x", token[:len(token)-1], flip(token), strings.Repeat("a", 6000), user + "." + strings.Repeat("A", 43), "../" + token, user + "/" + rest}
	stranger := e2e.NewVisitor(t)
	for _, word := range bent {
		if got := stranger.Get(s.site + "/.login/account/revert?t=" + url.QueryEscape(word)); got.StatusCode < 400 || got.StatusCode > 499 {
			t.Errorf("%.60q: %d", word, got.StatusCode)
		}
		if got := stranger.Do(s.form(stranger, s.site, "/account/revert", "token", word)); got.StatusCode < 400 || got.StatusCode > 499 {
			t.Errorf("%.60q, posted: %d", word, got.StatusCode)
		}
	}
	// Misspelt, it is in no log either (the stage looks for it at its end).
	for _, path := range []string{"/.login/account/revert/", "/.login/account/revert%2F", "/.login/account/Revert", "/.login/account/revert/more"} {
		stranger.Get(s.site + path + "?t=" + url.QueryEscape(token))
	}
	page := stranger.Get(link)
	mustBe(t, page, http.StatusOK)
	if strings.Contains(page.Body, "second@new.example") {
		t.Error("whoever has the link reads the address in full")
	}
	if policy := page.Header.Get("Referrer-Policy"); !slices.Contains([]string{"no-referrer", "strict-origin", "same-origin", "origin"}, policy) {
		t.Errorf("Referrer-Policy is %q", policy)
	}
	// 32 at once: it works once.
	var requests []*http.Request
	for range 32 {
		requests = append(requests, s.form(stranger, s.site, "/account/revert", "token", token))
	}
	worked := 0
	for _, answer := range atOnce(t, stranger, requests) {
		if answer.StatusCode == http.StatusOK {
			worked++
		}
	}
	if worked != 1 || s.isIn(ada) {
		t.Errorf("it worked %d times; she is in: %t", worked, s.isIn(ada))
	}
	s.Stop()
	s.wantNoAddress(t, "second@new.example")
	s.wantNoAddress(t, "ada@example.com")
}

// A stolen cookie, an hour after its sign-in, reads what apps are told anyway and
// changes nothing; proving oneself anew takes the provider or the mailbox.
func TestOldCookieProvesNothing(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	stale(s.op)
	ada := s.known(t, "op", "ada")
	thief := replay(ada, s.site, ada.Cookie(s.site, cookieName))
	for _, form := range forms {
		got := thief.Do(s.form(thief, s.site, form.path, form.pairs...))
		if form.path == "/account/again" || form.path == "/account/revert" {
			continue
		}
		if to := got.Header.Get("Location"); got.StatusCode != http.StatusSeeOther || !strings.HasPrefix(to, "/.login/account/again?") || session(got) != "" {
			t.Errorf("%s %v: %d %s", form.path, form.pairs, got.StatusCode, to)
		}
	}
	// As somebody else at the provider, and with a code to another address.
	to := bounced(t, thief.Do(s.form(thief, s.site, "/account/again", "do", "again", "provider", "club")))
	if got := s.comeBack(t, thief, to, "lady"); got.StatusCode < 400 {
		t.Errorf("as another person: %d at %s", got.StatusCode, got.Request.URL)
	}
	waiting := thief.FollowOn(thief.Do(s.form(thief, s.site, "/account/again", "do", "code", "address", "mallory@evil.example")))
	mustBe(t, waiting, http.StatusOK)
	code := s.letter(t, "ada@example.com", "code").Code()
	for range 5 {
		thief.Do(s.form(thief, s.site, "/confirm", "ask", question.FindStringSubmatch(waiting.Body)[1], "code", wrongCode(code)))
	}
	if got := thief.Do(s.form(thief, s.site, "/confirm", "ask", question.FindStringSubmatch(waiting.Body)[1], "code", code)); session(got) != "" {
		t.Error("the sixth code was taken")
	}
	if got := s.act(t, thief, "do", "rename", "name", "Mallory"); !strings.Contains(got.Header.Get("Location"), "/again") {
		t.Errorf("changed: %d %s", got.StatusCode, got.Header.Get("Location"))
	}
	if name := s.seenBy(t, ada, s.site).Value("Remote-Name"); name != "Ada Lovelace" {
		t.Errorf("the name is %q", name)
	}
}

// The cookie of a question is written down while somebody proves themselves anew,
// to be given back: that is no place to keep what they like.
func TestCookieThatIsNoQuestionIsNotKept(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	ada := s.known(t, "op", "ada")
	u, err := url.Parse(s.site)
	if err != nil {
		t.Fatal(err)
	}
	junk := strings.Repeat("junk", 5000)
	ada.Jar.SetCookies(u, []*http.Cookie{{Name: cookieName + "-waits", Value: junk, Path: "/", Secure: true}})
	waiting := ada.FollowOn(ada.Do(s.form(ada, s.site, "/account/again", "do", "code")))
	mustBe(t, waiting, http.StatusOK)
	back := ada.Submit(waiting, "code", s.letter(t, "ada@example.com", "code").Code())
	mustBe(t, back, http.StatusSeeOther)
	if strings.Contains(fmt.Sprint(back.Header), "junkjunk") {
		t.Error("what the cookie held was kept, and given back")
	}
}

func TestFloodOfChangesIsBounded(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	ada := s.known(t, "op", "ada")
	mailed, refused := 0, 0
	for i := range 40 {
		got := s.act(t, ada, "do", "add", "address", fmt.Sprintf("victim%d@new.example", i))
		switch got.StatusCode {
		case http.StatusSeeOther:
			mailed++
		case http.StatusTooManyRequests:
			refused++
		default:
			t.Fatalf("address %d: %d", i, got.StatusCode)
		}
	}
	if mailed > 15 || refused == 0 {
		t.Errorf("%d mails asked for, %d refused", mailed, refused)
	}
	if cookies := len(ada.Cookies(s.site)); cookies > 8 {
		t.Errorf("the browser has %d cookies", cookies)
	}
}

func TestAddressesChangedToAndFroAreBounded(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	ada := s.known(t, "op", "ada")
	mustBe(t, s.prove(t, ada, "second@new.example"), http.StatusSeeOther)
	changed, refused := 0, 0
	for i := range 40 {
		got := s.act(t, ada, "do", "primary", "address", []string{"second@new.example", "ada@example.com"}[i%2])
		switch {
		case got.StatusCode == http.StatusTooManyRequests:
			refused++
		case session(got) != "":
			changed++
		case strings.HasSuffix(got.Header.Get("Location"), "done=primary"): // it was
		default:
			t.Fatalf("change %d: %d %s", i, got.StatusCode, got.Header.Get("Location"))
		}
	}
	if changed != 19 || refused == 0 || !s.isIn(ada) {
		t.Errorf("%d changes were made, %d refused; she is in: %t", changed, refused, s.isIn(ada))
	}
	// Whoever did that has not shut the owner in: sessions end as ever.
	s.change(t, ada, "ended_others", "do", "end_others")
}

// A session of one site is none at another, for its account neither.
func TestSessionOfOneSiteChangesNothingByAnother(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	ada := s.known(t, "op", "ada")
	there := replay(ada, s.other, ada.Cookie(s.site, cookieName))
	for _, form := range forms {
		got := there.Do(s.form(there, s.other, form.path, form.pairs...))
		if got.StatusCode == http.StatusOK || session(got) != "" || strings.Contains(got.Header.Get("Location"), "done=") {
			t.Errorf("%s %v: %d %s", form.path, form.pairs, got.StatusCode, got.Header.Get("Location"))
		}
	}
	// A question that waits at one site is none at the other, nor in another's
	// browser.
	waiting := ada.FollowOn(s.act(t, ada, "do", "add", "address", "second@new.example"))
	ask, code := question.FindStringSubmatch(waiting.Body)[1], s.letter(t, "second@new.example", "code").Code()
	mallory := e2e.NewVisitor(t)
	mustBe(t, s.arrive(t, mallory, s.other, "op", "grace"), http.StatusOK)
	grace := s.known(t, "op", "grace")
	for site, v := range map[string]*e2e.Visitor{s.other: mallory, s.site: grace} {
		u, err := url.Parse(site)
		if err != nil {
			t.Fatal(err)
		}
		v.Jar.SetCookies(u, []*http.Cookie{{Name: cookieName + "-waits", Value: ada.Cookie(s.site, cookieName+"-waits"), Path: "/", Secure: true}})
		got := v.Do(s.form(v, site, "/confirm", "ask", ask, "code", code))
		if got.StatusCode < 400 || session(got) != "" {
			t.Errorf("at %s: %d", site, got.StatusCode)
		}
		if body := v.Get(site + "/.login/account").Body; strings.Contains(body, "second@new.example") {
			t.Errorf("at %s Ada's address went to Grace", site)
		}
	}
}

var handleForm = regexp.MustCompile(`^[a-z2-7]{16}$`)

// What the download calls a session is its handle, and no way in.
func TestHandlesOpenNothing(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	ada := s.known(t, "op", "ada")
	var data struct{ Sessions []struct{ Handle string } }
	if err := json.Unmarshal([]byte(ada.Get(s.site+"/.login/account/download").Body), &data); err != nil || len(data.Sessions) != 1 {
		t.Fatalf("%v: %+v", err, data)
	}
	handle := data.Sessions[0].Handle
	if !handleForm.MatchString(handle) || s.isIn(replay(ada, s.site, handle)) {
		t.Errorf("the handle %q", handle)
	}
}
