package main_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// Once "I did not ask for this" was answered, neither code nor link signs anybody
// in, whoever was quicker: both at once, one of them counts.
func TestWithdrawnCodeSignsNobodyIn(t *testing.T) {
	s := playMail(t, byMail)
	won := map[string]int{}
	for round := range 8 {
		v := e2e.NewVisitor(t)
		s.ask(t, v, fmt.Sprintf("ada%d@example.com", round), "/in")
		letter := s.box.Next(e2e.Patience)
		var requests []*http.Request
		for range 8 {
			requests = append(requests,
				s.posting(v, "/.login/code", "", "code", letter.Code()), s.posting(v, "/.login/link", "", "token", tokenOf(letter.Link())),
				s.posting(v, "/.login/link", "", "token", tokenOf(letter.Link()), "cancel", "1"))
		}
		begun, stopped := 0, 0
		for i, got := range atOnce(t, v, requests) {
			switch {
			case session(got) != "":
				begun++
			case i%3 == 2 && got.StatusCode == http.StatusOK:
				stopped++
			}
		}
		if begun+stopped != 1 {
			t.Errorf("%d sessions were begun, and %d times it was withdrawn", begun, stopped)
		}
		won[fmt.Sprint(begun)]++
		for _, r := range requests[:2] {
			late := s.posting(v, r.URL.Path, "", "code", letter.Code(), "token", tokenOf(letter.Link()))
			if got := v.Do(late); session(got) != "" {
				t.Error("what was settled signs in")
			}
		}
	}
	t.Logf("sessions begun: %v", won)
}

// A code is its own address's: that of an alias, another spelling or a neighbour,
// asked for in the same browser at the same time, is none, and makes nobody them.
func TestCodeOfAnAliasIsNone(t *testing.T) {
	s := playMail(t, byMail)
	ada := s.enter(t, "ada@example.com")
	_ = s.app.Last()
	users := map[string]string{s.whoSees(t, ada): "ada@example.com"}
	for i, alias := range []string{"a.da@example.com", "ada+x@example.com", "ada+@example.com", "ada@sub.example.com", "ada@xn--exmple-cua.com", "ada'@example.com", "ada_@example.com"} {
		v := visitorFrom(t, 40+i)
		theirs := s.ask(t, v, alias, "/in")
		aliasCode := s.codeTo(t, alias)
		own := s.ask(t, v, fmt.Sprintf("neighbour%d@example.com", i), "/in")
		code := s.codeTo(t, fmt.Sprintf("neighbour%d@example.com", i))
		if code != aliasCode {
			mustBe(t, v.Submit(theirs, "code", code), http.StatusUnprocessableEntity)
			mustBe(t, v.Submit(own, "code", aliasCode), http.StatusUnprocessableEntity)
		}
		got := v.Submit(theirs, "code", aliasCode)
		mustBe(t, got, http.StatusSeeOther)
		if user := s.whoSees(t, v); user != "" && users[user] != "" {
			t.Errorf("%s is %s", alias, users[user])
		} else {
			users[user] = alias
		}
	}
}

// whoSees is who the app is told of, empty where it is not reached.
func (s *mailed) whoSees(t *testing.T, v *e2e.Visitor) string {
	t.Helper()
	s.app.Forget()
	mustBe(t, v.Get(s.site+"/public/in"), http.StatusOK)
	return s.app.Last().Value("Remote-User")
}

func (s *mailed) codeTo(t *testing.T, address string) string {
	t.Helper()
	for {
		if m := s.box.Next(e2e.Patience); slices.Equal(m.To, []string{address}) && strings.Contains(m.Text, " #") {
			return m.Code()
		}
	}
}

// What an operator turned off while a code was under way, it does not turn on.
func TestCodeUnderWayObeysTheOperatorsLastWord(t *testing.T) {
	s := playMail(t, byMail)
	known := s.enter(t, "ada@example.com")
	id := s.idOf(t, "ada@example.com")
	began := map[string]*e2e.Visitor{}
	codes, pages := map[string]string{}, map[string]e2e.Answer{}
	for _, address := range []string{"new@example.com", "ada@example.com"} {
		v := e2e.NewVisitor(t)
		pages[address], began[address] = s.ask(t, v, address, "/in"), v
		codes[address] = s.codeTo(t, address)
	}
	s.Reload(strings.Replace(byMail, "login email {", "login email {\n\t\tsignup off", 1))
	v := began["new@example.com"]
	wantErrorPage(t, v.Submit(pages["new@example.com"], "code", codes["new@example.com"]))
	if got := s.operator(t, http.MethodPost, "users/"+id+"/disable", ""); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	v = began["ada@example.com"]
	wantErrorPage(t, v.Submit(pages["ada@example.com"], "code", codes["ada@example.com"]))
	for _, v := range []*e2e.Visitor{known, began["new@example.com"], began["ada@example.com"]} {
		if s.isIn(v) {
			t.Error("somebody is in")
		}
	}
}

// Whom an operator invited or shut out, who is about to leave and who never was:
// the same to a stranger, down to the names of the headers.
func TestNobodyLearnsWhoIsInvitedOrShutOut(t *testing.T) {
	s := playMail(t, strings.Replace(byMail, "login email {", "login email {\n\t\tsignup off", 1))
	for _, who := range []string{"invited", "shutout", "leaving"} {
		s.idOfInvited(t, who+"@example.com")
	}
	for _, who := range []string{"shutout", "leaving"} {
		v := s.enter(t, who+"@example.com")
		if who == "leaving" {
			got := v.Do(s.posting(v, "/.login/account/delete", "", "do", "delete", "sure", "1"))
			mustBe(t, got, http.StatusOK)
			continue
		}
		if got := s.operator(t, http.MethodPost, "users/"+s.idOf(t, who+"@example.com")+"/disable", ""); got.status != http.StatusOK {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	var first string
	for i, address := range []string{"nobody0@example.com", "invited@example.com", "shutout@example.com", "leaving@example.com", "nobody1@evil12.test"} {
		v := visitorFrom(t, 60+i)
		choose := v.Follow(s.site + "/in")
		answer := v.Submit(choose, "email", address)
		seen := shape(answer) + headers(answer)
		page := v.FollowOn(answer)
		seen += shape(page) + headers(page)
		r := v.Request(http.MethodGet, s.site+"/.login/code", "")
		r.Header.Set("Accept", "application/json")
		polled := v.Do(r)
		seen += shape(polled) + headers(polled)
		for range 6 {
			wrong := v.Do(s.posting(v, "/.login/code", "", "code", "000000"))
			seen += shape(wrong) + headers(wrong)
		}
		resent := v.Do(s.posting(v, "/.login/code", "", "resend", "1"))
		seen = strings.ReplaceAll(seen+shape(resent)+headers(resent), address, "ADDRESS")
		if first == "" {
			first = seen
		}
		if len(address) == len("nobody0@example.com") && seen != first {
			t.Errorf("%s is told\n%s\nwant\n%s", address, seen, first)
		}
	}
}

// headers are the names of an answer's, and the values that differ by nothing
// but what we say.
func headers(a e2e.Answer) string {
	var all []string
	for name, values := range a.Header {
		switch name {
		case "Date", "Set-Cookie", "Content-Length":
			values = nil
		}
		all = append(all, name+strings.Join(values, ","))
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}
