package main_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// What somebody may do to their own account as often as they like brings nobody
// else's mail to a stop, nor a mailbox to its knees: all share one queue.
func TestFloodOfEndingsIsToldNowAndThen(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	ada := s.known(t, "op", "ada")
	for range 60 {
		s.change(t, ada, "ended_others", "do", "end_others")
	}
	s.letter(t, "ada@example.com", "signed out")
	n := s.box.Waiting()
	mustBe(t, ada.Get(s.site+"/in"), http.StatusOK)
	if n > 20 {
		t.Errorf("sixty endings are %d mails", n)
	}
}

// Whoever took a session over writes the Host header, too. Caddy matches it
// without its port: nothing is changed behind its owner's back for that, and what
// they are told leads to no port of a stranger's.
func TestNothingIsChangedUntoldByAnotherPort(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	ada := s.known(t, "op", "ada")
	mustBe(t, s.prove(t, ada, "second@new.example"), http.StatusSeeOther)
	s.letter(t, "ada@example.com", "address was added")
	elsewhere := func(path string, pairs ...string) e2e.Answer {
		t.Helper()
		r := s.form(ada, s.site, path, pairs...)
		r.Host = "app.test:6666"
		r.Header.Set("Origin", "https://app.test:6666")
		got := ada.Do(r)
		if got.StatusCode == http.StatusForbidden {
			t.Fatalf("%v: the form never came to be read", pairs)
		}
		return got
	}
	told := func(subject string) {
		t.Helper()
		if m := s.letter(t, "ada@example.com", subject); strings.Contains(m.Text+m.HTML+m.Subject, "6666") {
			t.Errorf("%q names the stranger's port:\n%s", subject, m.Text)
		}
	}
	for _, form := range [][]string{
		{"do", "primary", "address", "second@new.example"}, {"do", "remove", "address", "ada@example.com"}, {"do", "add", "address", "third@new.example"},
	} {
		if got := elsewhere("/account", form...); session(got) != "" || got.StatusCode < 400 {
			t.Errorf("%v: %d %s", form, got.StatusCode, got.Header.Get("Location"))
		}
	}
	script := &selfService{accounts: s, v: ada}
	byAPI := script.request(http.MethodDelete, "emails/"+script.emails(t)["second@new.example"].ID, "")
	byAPI.Host = "app.test:6666"
	byAPI.Header.Set("Origin", "https://app.test:6666")
	wantRefused(t, ada.Do(byAPI), http.StatusBadRequest, "unsafe_address")
	if got := s.seenBy(t, ada, s.site).Value("Remote-Email"); got != "ada@example.com" {
		t.Errorf("she is %s now", got)
	}
	mustBe(t, elsewhere("/account", "do", "end_others"), http.StatusSeeOther)
	told("signed out")
	stranger := e2e.NewVisitor(t)
	waiting := s.ask(t, stranger, "second@new.example", "/in")
	r := s.form(stranger, s.site, "/code", "code", s.letter(t, "second@new.example", "code").Code())
	r.Host = "app.test:6666"
	r.Header.Set("Origin", "https://app.test:6666")
	mustBe(t, stranger.Do(r), http.StatusSeeOther)
	mustBe(t, waiting, http.StatusOK)
	told("New sign-in")
	mustBe(t, elsewhere("/account/delete", "do", "delete", "sure", "1"), http.StatusOK)
	told("deleted")
}

// Who may change their own account as often as they like fills no disk with it,
// and buries nothing that the activity tells; sessions can be ended all the same.
func TestFloodOfSmallChangesIsBounded(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	ada := s.known(t, "op", "ada")
	renamed, loaded := 0, 0
	for i := range 100 {
		switch got := s.act(t, ada, "do", "rename", "name", fmt.Sprintf("Ada %d", i)); got.StatusCode {
		case http.StatusSeeOther:
			renamed++
		default:
			mustBe(t, got, http.StatusTooManyRequests)
		}
		switch got := ada.Get(s.site + "/.login/account/download"); got.StatusCode {
		case http.StatusOK:
			loaded++
		default:
			mustBe(t, got, http.StatusTooManyRequests)
		}
		s.change(t, ada, "ended_others", "do", "end_others")
	}
	if renamed > 62 || renamed < 50 || loaded > 62 || loaded < 50 {
		t.Errorf("%d names were taken, and %d downloads", renamed, loaded)
	}
	script, others := &selfService{accounts: s, v: ada}, "identities/"+base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	for range 60 {
		mustBe(t, script.do(http.MethodDelete, others, ""), http.StatusNotFound)
	}
	for _, call := range [][3]string{{http.MethodPatch, "profile", `{"name":"Ada"}`}, {http.MethodGet, "download", ""}, {http.MethodDelete, others, ""}} {
		script.do(call[0], call[1], call[2]) // at a minute's end there is one more
		mustBe(t, script.do(call[0], call[1], call[2]), http.StatusTooManyRequests)
	}
	lines := ada.Get(s.site + "/.login/account/activity.csv").Body
	if n := strings.Count(lines, "\r\n"); n > 200 {
		t.Errorf("the activity has %d lines", n)
	}
}

// Of the last two ways in, one stays, also where two browsers take them at once.
func TestLastTwoWaysInTakenAtOnceLeaveOne(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	for _, subject := range []string{"one", "two", "three"} {
		s.op.issuer.Person(logintest.Person{Subject: subject, Name: "Somebody"}) // no address, so no code
		s.club.issuer.Person(logintest.Person{Subject: subject, Name: "Somebody"})
		ada := s.known(t, "op", subject)
		asked := s.comeBack(t, ada, bounced(t, s.act(t, ada, "do", "connect", "provider", "club")), subject)
		mustBe(t, ada.FollowOn(ada.Do(s.form(ada, s.site, "/confirm", "ask", question.FindStringSubmatch(asked.Body)[1], "do", "link"))), http.StatusOK)
		phone := s.known(t, "club", subject)
		ways := hiddenOn(s.page(t, ada), "key")
		if len(ways) != 2 {
			t.Fatalf("%d ways in", len(ways))
		}
		var all sync.WaitGroup
		for i, v := range []*e2e.Visitor{ada, phone} {
			all.Go(func() {
				if _, err := v.Try(s.form(v, s.site, "/account", "do", "unlink", "key", ways[i])); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		// Each browser came in by one of them, and is in as long as that is there.
		in := 0
		for _, v := range []*e2e.Visitor{ada, phone} {
			if s.isIn(v) {
				in++
				if left := hiddenOn(s.page(t, v), "key"); len(left) > 1 {
					t.Errorf("%s: %d ways in are left", subject, len(left))
				}
			}
		}
		if in != 1 {
			t.Errorf("%s: %d browsers are in", subject, in)
		}
	}
}

// A subject is bytes: what looks alike, or some databases hold for the same, is
// somebody else.
func TestSubjectsThatLookAlikeAreOthers(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	seen := map[string]string{s.seenBy(t, s.known(t, "op", "ada"), s.site).Value("Remote-User"): "ada"}
	for _, subject := range []string{
		"ADA", "Ada", "ada ", " ada", "\u0430da", "ad\u00e1", "ada\u0301", "ad\u0061\u0301\u0301", "ada\u200b", "ada\u00ad", "ad%61", "ada/", "ada\"", "ada'--", "adA", "\uff41da", "ada.", "{ada}",
		strings.Repeat("ada", 80), strings.Repeat("ada", 80) + "d",
	} {
		s.op.issuer.Person(logintest.Person{Subject: subject, Name: "Mallory"})
		got := s.seenBy(t, s.known(t, "op", subject), s.site)
		if user := got.Value("Remote-User"); user == "" || seen[user] != "" {
			t.Errorf("%q is %q", subject, seen[user])
		} else {
			seen[user] = subject
		}
	}
	for _, subject := range []string{"ada\x00", "ada\n", "ada\r\nx", strings.Repeat("ada", 86)} {
		s.op.issuer.Person(logintest.Person{Subject: subject, Name: "Mallory"})
		v := e2e.NewVisitor(t)
		wantErrorPage(t, s.arrive(t, v, s.site, "op", subject))
	}
}

// What is no verified address leads to nobody who has it, and is told to no app.
func TestOddClaimsMakeNobodySomebodyElse(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	ada := s.seenBy(t, s.known(t, "op", "ada"), s.site).Value("Remote-User")
	odd := []map[string]any{}
	for _, verified := range []any{"false", "TRUE", "True", "yes", "1", 1, 0, "", []any{true}, map[string]any{"ada@example.com": true}, nil, "true ", "\u200btrue", 1.0, "t"} {
		odd = append(odd, map[string]any{"email": "ada@example.com", "email_verified": verified})
	}
	for _, email := range []any{
		[]any{"ada@example.com"}, []any{"mallory@evil.test", "ada@example.com"}, map[string]any{"value": "ada@example.com"}, true, 7, nil,
		"Ada <ada@example.com>", "mallory@evil.test,ada@example.com", "ada@example.com\r\nmallory@evil.test", "mallory@evil.test\x00ada@example.com", " ada@example.com", "ada@example.com ",
		"\"ada\"@example.com", "ada@example.com.", "mailto:ada@example.com", "ada@example.com@evil.test", "\u0430da@example.com", "ad\u0251@example.com", "ada\uff20example.com",
	} {
		odd = append(odd, map[string]any{"email": email, "email_verified": true})
	}
	for i, claims := range odd {
		subject := fmt.Sprintf("mallory%d", i)
		s.club.issuer.Person(logintest.Person{Subject: subject, Name: "Mallory", Claims: claims})
		v := visitorFrom(t, 30+i)
		s.app.Forget()
		s.arrive(t, v, s.site, "club", subject)
		if !s.isIn(v) {
			continue // refused, or asked for a code that goes to Ada
		}
		got := s.seenBy(t, v, s.site)
		if email := got.Value("Remote-Email"); got.Value("Remote-User") == ada || strings.Contains(email, "ada") {
			t.Errorf("%v is told the app as %s", claims, email)
		}
	}
	if n := len(s.addressesOf(t, ada)); n != 1 {
		t.Errorf("Ada has %d addresses", n)
	}
}

func (s *accounts) addressesOf(t *testing.T, id string) []string {
	t.Helper()
	var known file
	s.operator(t, http.MethodGet, "users/"+id, "").into(t, &known)
	var all []string
	for _, a := range known.Addresses {
		all = append(all, a.Address)
	}
	return all
}

// What was taken from somebody opens nothing of theirs any more, also for who is
// on their way in by it.
func TestAccountDisconnectedMeanwhileOpensNothing(t *testing.T) {
	s := playAccounts(t, lookedAfter)
	ada, thief := s.known(t, "op", "ada"), e2e.NewVisitor(t)
	user := s.seenBy(t, ada, s.site).Value("Remote-User")
	begun := thief.Get(s.site + "/.login/op?return=%2Fpublic%2Fin")
	callback, _, err := pick(thief.To(begun), "ada")
	if err != nil {
		t.Fatal(err)
	}
	mustBe(t, s.act(t, ada, "do", "unlink", "key", hiddenOn(s.page(t, ada), "key")[0]), http.StatusSeeOther)
	if s.isIn(ada) {
		t.Error("who came in by it is in")
	}
	asked := thief.Follow(callback)
	if s.isIn(thief) || question.FindStringSubmatch(asked.Body) == nil {
		t.Fatalf("the way back leads to %s %d", asked.Request.URL, asked.StatusCode)
	}
	ask := question.FindStringSubmatch(asked.Body)[1]
	for _, do := range []string{"link", "switch", "keep", "prove", "Link", ""} {
		if got := thief.Do(s.form(thief, s.site, "/confirm", "ask", ask, "do", do, "provider", "op")); session(got) != "" {
			t.Errorf("%q signs in", do)
		}
	}
	owner := e2e.NewVisitor(t)
	waiting := s.ask(t, owner, "ada@example.com", "/in")
	mustBe(t, owner.FollowOn(owner.Submit(waiting, "code", s.letter(t, "ada@example.com", "code").Code())), http.StatusOK)
	if got := s.seenBy(t, owner, s.site).Value("Remote-User"); got != user {
		t.Errorf("her address is %q now", got)
	}
}
