package main_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
	"github.com/caddy-login/caddy-login/module/logintest/inbox"
	"github.com/caddy-login/caddy-login/module/record"
)

// treatments are the ways to treat an issuer's addresses, each under the name of
// a provider of its own: all of them are one issuer, so that what differs is the
// operator's word alone.
var treatments = map[string][]string{
	"t3":         {"authoritative_domains example.com"},
	"t3none":     {"authoritative_domains example.com", "merge_confirmation none"},
	"t3proof":    {"authoritative_domains example.com", "merge_confirmation proof"},
	"t3apart":    {"authoritative_domains example.com", "allow_email_account_merge off"},
	"t3loose":    {"authoritative_domains example.com", "allow_email_account_merge off", "use_email_as_identifier off"},
	"t2":         {"email_trust verified"},
	"t2click":    {"email_trust verified", "merge_confirmation click"},
	"t1":         {"email_trust unverified"},
	"t1off":      {"email_trust unverified", "verify_email off"},
	"t1apart":    {"email_trust unverified", "allow_email_account_merge off"},
	"t1apartoff": {"email_trust unverified", "allow_email_account_merge off", "verify_email off"},
	"t1unlinked": {"email_trust unverified", "allow_email_account_merge off", "verify_email off", "on_unverified_collision create"},
	"t1loose":    {"email_trust unverified", "use_email_as_identifier off"},
}

// reception is two sites with one set of people: app.test takes whoever comes,
// other.test only who is known.
type reception struct {
	*mailed
	issuer *logintest.Issuer
	read   []inbox.Mail // what letter has passed by
}

func receive(t *testing.T) *reception {
	t.Helper()
	s := &reception{
		mailed: &mailed{stage: &stage{Caddy: e2e.NewCaddy(t, e2e.Build(t)), app: e2e.NewApp(t)}, box: inbox.New(t)},
		issuer: logintest.NewIssuer(t),
	}
	s.site, s.other = fmt.Sprintf("https://app.test:%d", s.Port), fmt.Sprintf("https://other.test:%d", s.Port)
	var callbacks []string
	for name := range treatments {
		callbacks = append(callbacks, s.site+"/.login/"+name+"/callback", s.other+"/.login/"+name+"/callback")
	}
	s.issuer.Client("site", clientSecret, callbacks...)
	s.Env["APP"], s.Env["SMTP"], s.Env["SMTP_CA"] = s.app.Addr, s.box.Addr, s.box.CAFile
	s.Env["ISSUER"], s.Env["OP_SECRET"] = s.issuer.Issuer, clientSecret
	s.Start(twoSites(slices.Sorted(maps.Keys(treatments))...))
	return s
}

// twoSites is the Caddyfile of a reception that offers these providers, and mail.
func twoSites(providers ...string) string {
	var b strings.Builder
	for host, signup := range map[string]string{"app.test": "on", "other.test": "off"} {
		fmt.Fprintf(&b, "https://%s:{$PORT} {\n\tlogin {\n\t\temail\n", host)
		for _, name := range providers {
			fmt.Fprintf(&b, "\t\toidc %s site {env.OP_SECRET} {\n\t\t\tissuer {$ISSUER}\n\t\t\tgroups groups\n\t\t\t%s\n\t\t}\n", name, strings.Join(treatments[name], "\n\t\t\t"))
		}
		fmt.Fprintf(&b, "\t\tsignup %s\n\t\tallow users\n\t\tmail smtp {$SMTP} {\n\t\t\ttls_ca {file.{$SMTP_CA}}\n\t\t}\n\t}\n\treverse_proxy {$APP}\n}\n", signup)
	}
	return b.String()
}

// visitor is somebody from a network of their own.
func (s *reception) visitor(t *testing.T) *e2e.Visitor {
	t.Helper()
	return visitorFrom(t, 2+int(networks.Add(1)%250))
}

// person has the issuer know somebody, by an address that it has verified.
func (s *reception) person(subject, email string, groups ...string) {
	s.issuer.Person(logintest.Person{Subject: subject, Email: email, EmailVerified: true, Name: "Account " + subject, Groups: groups})
}

// comes brings somebody from a provider, up to the page where that ends.
func (s *reception) comes(t *testing.T, v *e2e.Visitor, site, provider, subject string) e2e.Answer {
	t.Helper()
	return v.FollowOn(v.Get(s.callback(t, v, v.Get(site+"/.login/"+provider+"?return=%2Fin&switch=1"), subject)))
}

// callback is what the provider answers to a sign-in that was begun, by a
// redirect or by a page.
func (s *reception) callback(t *testing.T, v *e2e.Visitor, begun e2e.Answer, subject string) string {
	t.Helper()
	to := begun.Header.Get("Location")
	if match := onwardOf(begun.Body); match != "" {
		to = match
	}
	callback, _, err := pick(to, subject)
	if err != nil {
		t.Fatalf("%s %d: %v", begun.Request.URL, begun.StatusCode, err)
	}
	return callback
}

// holder is somebody who has signed in with an address that is proven, and their
// id.
func (s *reception) holder(t *testing.T, email string, groups ...string) (v *e2e.Visitor, id string) {
	t.Helper()
	s.person("holder of "+email, email, groups...)
	v = s.visitor(t)
	mustBe(t, s.comes(t, v, s.site, "t3", "holder of "+email), http.StatusOK)
	return v, s.idOf(t, email)
}

// invited is a user whom the operator has provisioned.
func (s *reception) invited(t *testing.T, email string) (id string) {
	t.Helper()
	var user person
	s.operator(t, http.MethodPost, "users", `{"email":"`+email+`"}`).into(t, &user)
	return user.ID
}

// who is the user the app was told of last, and forgets it.
func (s *reception) who() (id, email string) {
	last := s.app.Last()
	s.app.Forget()
	return last.Value("Remote-User"), last.Value("Remote-Email")
}

// whoIs is who a visitor is for the app; empty: nobody.
func (s *reception) whoIs(v *e2e.Visitor) string {
	s.app.Forget()
	if v.Get(s.site+"/in").StatusCode != http.StatusOK {
		return ""
	}
	id, _ := s.who()
	return id
}

func (s *reception) dossier(t *testing.T, id string) (f file) {
	t.Helper()
	s.operator(t, http.MethodGet, "users/"+id, "").into(t, &f)
	return f
}

// wantNote checks that the newest entry of a kind in somebody's activity came by
// this row.
func (s *reception) wantNote(t *testing.T, id, what, row string) {
	t.Helper()
	activity := s.dossier(t, id).Activity
	for _, entry := range activity {
		if entry.What == what {
			if entry.Row != row {
				t.Errorf("%s by row %s, want %s", what, entry.Row, row)
			}
			return
		}
	}
	t.Errorf("no %s in %+v", what, activity)
}

// wantRefusal checks a page that refuses, and that the log has the row.
func (s *reception) wantRefusal(t *testing.T, got e2e.Answer, status int, outcome, row string) {
	t.Helper()
	mustBe(t, got, status)
	id := wantErrorPage(t, got)
	e2e.Eventually(t, e2e.Patience, "the log has the refusal", func() bool { return strings.Contains(s.Log(), id) })
	for _, line := range s.Logs() {
		if line["request_id"] == id && (line["outcome"] != outcome || line["decision"] != row) {
			t.Errorf("refused by row %v as %v, want %s as %s", line["decision"], line["outcome"], row, outcome)
		}
	}
	s.untouched(t)
}

// answers presses one of a question's buttons.
func answers(t *testing.T, v *e2e.Visitor, page e2e.Answer, do string, more ...string) e2e.Answer {
	t.Helper()
	return v.Do(saying(t, v, page, do, more...))
}

// saying is the request of answers, for tests that send it otherwise.
func saying(t *testing.T, v *e2e.Visitor, page e2e.Answer, do string, more ...string) *http.Request {
	t.Helper()
	asked := question.FindStringSubmatch(page.Body)
	if asked == nil || !strings.Contains(page.Body, `value="`+do+`"`) {
		t.Fatalf("%s does not offer %s: %d\n%.3000s", page.Request.URL, do, page.StatusCode, page.Body)
	}
	return confirming(t, v, page, append([]string{"ask", asked[1], "do", do}, more...)...)
}

// confirming is any form sent to where questions are answered, as from the page.
func confirming(t *testing.T, v *e2e.Visitor, page e2e.Answer, pairs ...string) *http.Request {
	t.Helper()
	form := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	site := page.Request.URL.Scheme + "://" + page.Request.URL.Host
	r := v.Request(http.MethodPost, site+"/.login/confirm", form.Encode())
	r.Header.Set("Content-Type", formType)
	r.Header.Set("Origin", site)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return r
}

// wantQuestion checks that a page is this question, and names these.
func wantQuestion(t *testing.T, got e2e.Answer, title string, names ...string) {
	t.Helper()
	mustBe(t, got, http.StatusOK)
	if !strings.Contains(got.Body, "<title>"+title) || !strings.HasSuffix(got.Request.URL.Path, "/.login/confirm") {
		t.Fatalf("%s is not %q:\n%.1500s", got.Request.URL, title, got.Body)
	}
	for _, name := range names {
		if !strings.Contains(got.Body, name) {
			t.Errorf("%q does not name %s:\n%s", title, name, got.Body)
		}
	}
}

// The questions, by their titles.
const (
	confirmLink  = "Connect these accounts?"
	linkOrSwitch = "Connect, or switch?"
	switchOrStay = "Switch accounts?"
	proveOwner   = "Is this your account?"
	proveAddress = "Is this your address?"
	outdated     = "That question is out of date"
	declined     = "Nothing was changed"
	keepAccount  = "Keep your account?"
)

// letter is the oldest mail to an address that fits, also of those that came
// while another was looked for.
func (s *reception) letter(t *testing.T, address string, fits func(inbox.Mail) bool) inbox.Mail {
	t.Helper()
	for i := 0; ; i++ {
		if i == len(s.read) {
			s.read = append(s.read, s.box.Next(e2e.Patience))
		}
		if mail := s.read[i]; slices.Contains(mail.To, address) && fits(mail) {
			s.read = slices.Delete(s.read, i, i+1)
			return mail
		}
	}
}

// code is the code that was mailed to an address.
func (s *reception) code(t *testing.T, address string) string {
	t.Helper()
	mail := s.letter(t, address, func(m inbox.Mail) bool {
		return strings.Contains(m.Text, "@app.test #") || strings.Contains(m.Text, "@other.test #")
	})
	return mail.Code()
}

// wantTold waits for a notice to an address.
func (s *reception) wantTold(t *testing.T, address, subject string) {
	t.Helper()
	s.letter(t, address, func(m inbox.Mail) bool { return strings.HasPrefix(m.Subject, subject) })
}

// The notices, by how their subjects begin.
const (
	noticeLinked    = "An account was connected"
	noticeNewDevice = "New sign-in"
)

// proves types the code that was mailed to an address.
func (s *reception) proves(t *testing.T, v *e2e.Visitor, page e2e.Answer, address string) e2e.Answer {
	t.Helper()
	waiting := v.FollowOn(answers(t, v, page, "code"))
	mustBe(t, waiting, http.StatusOK)
	return v.FollowOn(v.Submit(waiting, "code", s.code(t, address)))
}

// enters is somebody who signs in with a code, up to where that ends.
func (s *reception) enters(t *testing.T, v *e2e.Visitor, site, address string) e2e.Answer {
	t.Helper()
	waiting := v.FollowOn(v.Submit(v.Get(site+"/.login/?switch=1&return=%2Fin"), "email", address))
	mustBe(t, waiting, http.StatusOK)
	return v.FollowOn(v.Submit(waiting, "code", s.code(t, address)))
}

// connects begins, on the account page, to connect an account.
func (s *reception) connects(t *testing.T, v *e2e.Visitor, provider, subject string) e2e.Answer {
	t.Helper()
	begun := v.Do(s.posting(v, "/.login/account", "", "do", "connect", "provider", provider))
	mustBe(t, begun, http.StatusOK)
	return v.FollowOn(v.Get(s.callback(t, v, begun, subject)))
}

// onwardOf is where a page of ours sends the browser by itself.
func onwardOf(body string) string {
	match := onward.FindStringSubmatch(body)
	if match == nil {
		return ""
	}
	return strings.ReplaceAll(match[1], "&amp;", "&")
}

// Rows that need no word of the visitor's: who comes in as whom, what the app is
// told, and who is turned away.
func TestRowsThatAskNothing(t *testing.T) {
	s := receive(t)
	for _, row := range []struct {
		name, provider, held string // by nobody, by somebody, or only provisioned
		closed               bool   // at the site where nobody signs up
		noAddress            bool
		refused, by          string // the outcome, and the row where it isn't the name
		into, told           bool   // the holder's account; the app has the address
	}{
		{name: "C1", provider: "t3", noAddress: true},
		{name: "C2", provider: "t3", noAddress: true, closed: true, refused: "signup_disabled"},
		{name: "D1", provider: "t1loose"},
		{name: "D2", provider: "t1off"},
		{name: "D4", provider: "t1", closed: true, refused: "signup_disabled"},
		{name: "D5", provider: "t1apartoff", held: "held", refused: "email_in_use"},
		{name: "D5 as new", provider: "t1unlinked", held: "held", by: "D5"},
		{name: "D6", provider: "t1off", held: "held", refused: "email_in_use"},
		{name: "D7", provider: "t1apart", held: "held", refused: "email_in_use"},
		{name: "D9", provider: "t1loose", held: "held", refused: "email_in_use", by: "D6"},
		{name: "D10 unverified", provider: "t1off", held: "invited", refused: "email_in_use", by: "D6"},
		{name: "E1", provider: "t3", told: true},
		{name: "E1 by T2", provider: "t2", told: true, by: "E1"},
		{name: "E2", provider: "t3loose"},
		{name: "E3", provider: "t2", closed: true, refused: "signup_disabled"},
		{name: "E4", provider: "t3apart", held: "held", refused: "email_in_use"},
		{name: "E5", provider: "t3loose", held: "held"},
		{name: "E6 none", provider: "t3none", held: "held", by: "E6", into: true, told: true},
		{name: "E8", provider: "t3", held: "invited", into: true, told: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			email := strings.ReplaceAll(row.name, " ", "-") + "@example.com"
			holder := ""
			switch row.held {
			case "held":
				_, holder = s.holder(t, email)
			case "invited":
				holder = s.invited(t, email)
			}
			s.app.Forget()
			if row.noAddress {
				email = ""
			}
			s.person("of "+row.name, email)
			site, by := s.site, row.by
			if row.closed {
				site = s.other
			}
			if by == "" {
				by = row.name
			}
			got := s.comes(t, s.visitor(t), site, row.provider, "of "+row.name)
			if row.refused != "" {
				status := map[string]int{"email_in_use": http.StatusConflict, "signup_disabled": http.StatusForbidden}[row.refused]
				s.wantRefusal(t, got, status, row.refused, by)
				if holder != "" {
					s.wantNote(t, holder, "sign_in_failed", by)
				}
				return
			}
			mustBe(t, got, http.StatusOK)
			id, told := s.who()
			if (id == holder) != row.into || (told != "") != row.told {
				t.Errorf("came in as %q (holder %q), the app is told %q", id, holder, told)
			}
			what := "signed_in"
			if row.into {
				what = map[string]string{"E6": "linked", "E8": "claimed"}[by]
			}
			s.wantNote(t, id, what, by)
		})
	}
}

// Rows that ask: a yes does it and a no changes nothing, as often as it is
// asked.
func TestRowsThatAsk(t *testing.T) {
	s := receive(t)
	for _, row := range []struct {
		name, provider, held, title, by string
		groups                          []string // of the holder's
	}{
		{name: "D3", provider: "t1", title: proveAddress},
		{name: "D8", provider: "t1", held: "held", title: proveAddress},
		{name: "D10", provider: "t1", held: "invited", title: proveAddress},
		{name: "E6", provider: "t3", held: "held", title: confirmLink},
		{name: "E6 proof", provider: "t3proof", held: "held", title: proveOwner, by: "E6"},
		{name: "E6 admin", provider: "t3", held: "held", title: proveOwner, by: "E6", groups: []string{"admins"}},
		{name: "E7", provider: "t2", held: "held", title: proveOwner},
		{name: "E7 click", provider: "t2click", held: "held", title: confirmLink, by: "E7"},
		{name: "E8 by T2", provider: "t2", held: "invited", title: proveOwner, by: "E8"},
	} {
		t.Run(row.name, func(t *testing.T) {
			email := strings.ToLower(strings.ReplaceAll(row.name, " ", "-")) + "@example.com"
			holder := ""
			switch row.held {
			case "held":
				_, holder = s.holder(t, email, row.groups...)
			case "invited":
				holder = s.invited(t, email)
			}
			s.app.Forget()
			s.person("of "+row.name, email)
			v := s.visitor(t)
			asked := s.comes(t, v, s.site, row.provider, "of "+row.name)
			wantQuestion(t, asked, row.title, email)
			no := answers(t, v, asked, "cancel")
			if !strings.Contains(no.Body, declined) || session(no) != "" || s.whoIs(v) != "" {
				t.Errorf("no means %d:\n%.1000s", no.StatusCode, no.Body)
			}
			if holder != "" && len(s.dossier(t, holder).Accounts) > 1 {
				t.Error("a no has connected the account")
			}
			s.untouched(t)

			asked = s.comes(t, v, s.site, row.provider, "of "+row.name)
			var in e2e.Answer
			if row.title == confirmLink {
				in = v.FollowOn(answers(t, v, asked, "link"))
			} else {
				in = s.proves(t, v, asked, email)
			}
			mustBe(t, in, http.StatusOK)
			id, told := s.who()
			if holder != "" && id != holder || told != email || in.Request.URL.Path != "/in" {
				t.Errorf("came in at %s as %q, told %q", in.Request.URL, id, told)
			}
			what := map[string]string{"": "signed_in", "held": "linked", "invited": "claimed"}[row.held]
			if row.by == "" {
				row.by = row.name
			}
			s.wantNote(t, id, what, row.by)
			if row.held == "held" {
				s.wantTold(t, email, noticeLinked)
			}
			// From now on nothing is asked.
			mustBe(t, s.comes(t, s.visitor(t), s.site, row.provider, "of "+row.name), http.StatusOK)
			if again, _ := s.who(); again != id {
				t.Errorf("the second time as %q", again)
			}
			s.wantNote(t, id, "signed_in", "A1")
		})
	}
}

func TestRowsOfKnownAccounts(t *testing.T) {
	s := receive(t)
	ada, adasID := s.holder(t, "ada@example.com")
	grace, gracesID := s.holder(t, "grace@example.com")

	t.Run("A3", func(t *testing.T) {
		old := ada.Cookie(s.site, cookieName)
		mustBe(t, s.comes(t, ada, s.site, "t3", "holder of ada@example.com"), http.StatusOK)
		if ada.Cookie(s.site, cookieName) == old || s.isIn(replay(ada, s.site, old)) {
			t.Error("the session has its old id still")
		}
		s.wantNote(t, adasID, "reauthenticated", "A3")
	})
	t.Run("A4", func(t *testing.T) {
		got := s.connects(t, ada, "t3", "holder of grace@example.com")
		s.app.Forget()
		s.wantRefusal(t, got, http.StatusConflict, "identity_already_linked", "A4")
		if s.whoIs(ada) != adasID || len(s.dossier(t, adasID).Accounts) != 1 {
			t.Error("something has changed")
		}
	})
	t.Run("A5", func(t *testing.T) {
		asked := s.comes(t, ada, s.site, "t3", "holder of grace@example.com")
		wantQuestion(t, asked, switchOrStay, "ada@example.com", "grace@example.com")
		if s.whoIs(ada) != adasID {
			t.Fatal("switched without a word")
		}
		if no := answers(t, ada, asked, "cancel"); !strings.Contains(no.Body, declined) || s.whoIs(ada) != adasID {
			t.Error("a no has switched")
		}
		old := ada.Cookie(s.site, cookieName)
		asked = s.comes(t, ada, s.site, "t3", "holder of grace@example.com")
		mustBe(t, ada.FollowOn(answers(t, ada, asked, "switch")), http.StatusOK)
		if s.whoIs(ada) != gracesID || s.isIn(replay(ada, s.site, old)) {
			t.Error("the switch left the old session, or did nothing")
		}
		s.wantNote(t, gracesID, "signed_in", "A5")
	})
	t.Run("A2", func(t *testing.T) {
		s.operator(t, http.MethodPost, "users/"+gracesID+"/disable", "").into(t, &person{})
		if s.isIn(grace) {
			t.Error("who is disabled is in")
		}
		s.app.Forget()
		s.wantRefusal(t, s.comes(t, s.visitor(t), s.site, "t3", "holder of grace@example.com"), http.StatusForbidden, "account_disabled", "A2")
		s.wantNote(t, gracesID, "sign_in_failed", "A2")
	})
}

func TestRowsOfConnecting(t *testing.T) {
	s := receive(t)
	ada, id := s.holder(t, "ada@example.com")
	s.holder(t, "grace@example.com")
	s.person("ada at work", "ada.at.work@example.com")
	s.person("ada as grace", "grace@example.com")
	s.person("ada at play", "ada.at.play@example.com")
	s.app.Forget()

	t.Run("B1", func(t *testing.T) {
		asked := s.connects(t, ada, "t2", "ada at work")
		wantQuestion(t, asked, confirmLink, "ada.at.work@example.com", "ada@example.com", "is then added to your account")
		old := ada.Cookie(s.site, cookieName)
		done := ada.FollowOn(answers(t, ada, asked, "link"))
		mustBe(t, done, http.StatusOK)
		if at := done.Request.URL.RequestURI(); at != "/.login/account?done=connected" {
			t.Errorf("landed at %s", at)
		}
		if ada.Cookie(s.site, cookieName) == old || s.isIn(replay(ada, s.site, old)) {
			t.Error("the session has its old id still")
		}
		known := s.dossier(t, id)
		if len(known.Accounts) != 2 || len(known.Addresses) != 2 || known.User.Email != "ada@example.com" {
			t.Errorf("now known as %+v", known)
		}
		s.wantNote(t, id, "linked", "B1")
		s.wantTold(t, "ada@example.com", noticeLinked)
	})
	t.Run("B2", func(t *testing.T) {
		asked := s.connects(t, ada, "t2", "ada as grace")
		wantQuestion(t, asked, confirmLink, "grace@example.com", "ada@example.com")
		if strings.Contains(asked.Body, "is then added to your account") {
			t.Error("somebody else's address is to be added")
		}
		mustBe(t, ada.FollowOn(answers(t, ada, asked, "link")), http.StatusOK)
		known := s.dossier(t, id)
		if len(known.Accounts) != 3 || len(known.Addresses) != 2 || s.idOf(t, "grace@example.com") == id {
			t.Errorf("now known as %+v", known)
		}
		s.wantNote(t, id, "linked", "B2")
	})
	t.Run("B4 and B3", func(t *testing.T) {
		// Signed in so long ago, by the provider's word, that it is not fresh.
		long := time.Now().Add(-time.Hour).Unix()
		s.issuer.NextLogin(logintest.Faults{IDToken: func(claims map[string]any) { claims["auth_time"] = long }})
		stale := s.visitor(t)
		mustBe(t, s.comes(t, stale, s.site, "t3", "holder of ada@example.com"), http.StatusOK)
		asked := s.comes(t, stale, s.site, "t2", "ada at play")
		wantQuestion(t, asked, linkOrSwitch, "ada@example.com", "ada.at.play@example.com")
		again := stale.FollowOn(answers(t, stale, asked, "link"))
		mustBe(t, again, http.StatusOK)
		if again.Request.URL.Path != "/.login/account/again" {
			t.Fatalf("landed at %s", again.Request.URL)
		}
		if len(s.dossier(t, id).Accounts) != 3 {
			t.Fatal("connected by a session that is not fresh")
		}
		begun := stale.Do(s.posting(stale, "/.login/account/again", "", "do", "again", "provider", "t3", "return", "/.login/confirm"))
		asked = stale.FollowOn(stale.Get(s.callback(t, stale, begun, "holder of ada@example.com")))
		wantQuestion(t, asked, confirmLink, "ada@example.com")
		mustBe(t, stale.FollowOn(answers(t, stale, asked, "link")), http.StatusOK)
		if len(s.dossier(t, id).Accounts) != 4 {
			t.Error("not connected")
		}
	})
	t.Run("B4 switch", func(t *testing.T) {
		s.person("somebody new", "somebody.new@example.com")
		v := s.visitor(t)
		mustBe(t, s.comes(t, v, s.site, "t3", "holder of ada@example.com"), http.StatusOK)
		asked := s.comes(t, v, s.site, "t3", "somebody new")
		wantQuestion(t, asked, linkOrSwitch)
		if s.whoIs(v) != id {
			t.Fatal("switched without a word")
		}
		mustBe(t, v.FollowOn(answers(t, v, asked, "switch")), http.StatusOK)
		if got := s.whoIs(v); got == id || got == "" {
			t.Errorf("now as %q", got)
		}
		s.wantNote(t, s.idOf(t, "somebody.new@example.com"), "signed_in", "E1")
	})
}

func TestRowsOfCodes(t *testing.T) {
	s := receive(t)
	mustBe(t, s.enters(t, s.visitor(t), s.site, "ada@example.com"), http.StatusOK) // F2
	ada, email := s.who()
	if email != "ada@example.com" {
		t.Errorf("the app is told %q", email)
	}
	s.wantNote(t, ada, "signed_in", "F2")
	mustBe(t, s.enters(t, s.visitor(t), s.other, "ada@example.com"), http.StatusOK) // F1
	s.wantNote(t, ada, "signed_in", "F1")
	s.wantTold(t, "ada@example.com", noticeNewDevice)

	invited := s.invited(t, "invited@example.com")
	mustBe(t, s.enters(t, s.visitor(t), s.other, "invited@example.com"), http.StatusOK) // F4
	if id, email := s.who(); id != invited || email != "invited@example.com" {
		t.Errorf("came in as %q with %q", id, email)
	}
	s.wantNote(t, invited, "claimed", "F4")

	// F3: the very same screen, and no mail: the next one goes to somebody else.
	v := s.visitor(t)
	mustBe(t, v.FollowOn(v.Submit(v.Get(s.other+"/.login/"), "email", "nobody@example.com")), http.StatusOK)
	mustBe(t, s.enters(t, s.visitor(t), s.other, "ada@example.com"), http.StatusOK)
	for _, mail := range s.read {
		if slices.Contains(mail.To, "nobody@example.com") {
			t.Error("somebody who may not sign up is mailed a code")
		}
	}

	// As somebody else already: asked, as with any other way in.
	grace, _ := s.holder(t, "grace@example.com")
	asked := s.enters(t, grace, s.site, "ada@example.com")
	wantQuestion(t, asked, switchOrStay, "grace@example.com", "ada@example.com")
	mustBe(t, grace.FollowOn(answers(t, grace, asked, "switch")), http.StatusOK)
	if s.whoIs(grace) != ada {
		t.Error("not switched")
	}
}

// asksToLink is a visitor before the question of row E6, and whose account it
// is about.
func (s *reception) asksToLink(t *testing.T, email string) (v *e2e.Visitor, asked e2e.Answer, holder string) {
	t.Helper()
	_, holder = s.holder(t, email)
	s.person("arriving with "+email, email)
	v = s.visitor(t)
	asked = s.comes(t, v, s.site, "t3", "arriving with "+email)
	wantQuestion(t, asked, confirmLink, email)
	s.app.Forget()
	return v, asked, holder
}

// wantOutdated checks that an answer came too late, and did nothing.
func (s *reception) wantOutdated(t *testing.T, got e2e.Answer) {
	t.Helper()
	if got.StatusCode != http.StatusConflict || !strings.Contains(got.Body, outdated) || session(got) != "" {
		t.Errorf("%s: %d, session %t:\n%.1500s", got.Request.URL, got.StatusCode, session(got) != "", got.Body)
	}
	s.untouched(t)
}

// accounts is how many a user has.
func (s *reception) accounts(t *testing.T, id string) int {
	t.Helper()
	return len(s.dossier(t, id).Accounts)
}

// users is how many there are.
func (s *reception) users(t *testing.T) int {
	t.Helper()
	var all people
	s.operator(t, http.MethodGet, "users?limit=1000", "").into(t, &all)
	return len(all.Users)
}

func TestPageOfAnOlderQuestionAnswersNothing(t *testing.T) {
	s := receive(t)
	v, older, holder := s.asksToLink(t, "ada@example.com")
	s.holder(t, "grace@example.com")
	s.person("another", "grace@example.com")
	s.app.Forget()
	newer := s.comes(t, v, s.site, "t3", "another") // in another tab
	s.wantOutdated(t, answers(t, v, older, "link"))
	s.wantOutdated(t, answers(t, v, older, "cancel"))
	if s.accounts(t, holder) != 1 {
		t.Error("the older page has connected")
	}
	mustBe(t, v.FollowOn(answers(t, v, newer, "link")), http.StatusOK)
	if got := s.whoIs(v); got != s.idOf(t, "grace@example.com") {
		t.Errorf("came in as %q", got)
	}
	s.app.Forget()
	s.wantOutdated(t, answers(t, v, newer, "link")) // twice
}

// What a page asked was about the person it named. Should the browser be signed
// in as another meanwhile, the click is not about them.
func TestAnswerIsAboutWhomThePageNamed(t *testing.T) {
	s := receive(t)
	for name, ask := range map[string]func(t *testing.T, v *e2e.Visitor, subject string) e2e.Answer{
		"B1": func(t *testing.T, v *e2e.Visitor, subject string) e2e.Answer { return s.connects(t, v, "t2", subject) },
		"B4": func(t *testing.T, v *e2e.Visitor, subject string) e2e.Answer {
			return s.comes(t, v, s.site, "t2", subject)
		},
	} {
		t.Run(name, func(t *testing.T) {
			ada, adasID := s.holder(t, "ada."+name+"@example.com")
			grace, gracesID := s.holder(t, "grace."+name+"@example.com")
			s.person("more "+name, "more."+name+"@example.com")
			asked := ask(t, ada, "more "+name)
			s.app.Forget()
			u, _ := url.Parse(s.site)
			ada.Jar.SetCookies(u, []*http.Cookie{{Name: cookieName, Value: grace.Cookie(s.site, cookieName), Path: "/", Secure: true}})
			before := s.users(t)
			s.wantOutdated(t, answers(t, ada, asked, "link"))
			switch name {
			case "B4":
				s.wantOutdated(t, answers(t, ada, asked, "switch"))
			case "B1": // which Ada has asked for, not Grace
				s.wantOutdated(t, ada.Get(s.site+"/.login/confirm"))
			}
			if s.accounts(t, adasID) != 1 || s.accounts(t, gracesID) != 1 || s.users(t) != before {
				t.Error("something was connected or made")
			}
		})
	}
}

// A click on "connect" makes no new user of the account, whatever became of the
// session that it was to be connected to.
func TestConnectingWithoutTheSessionMakesNobody(t *testing.T) {
	s := receive(t)
	for name, ask := range map[string]func(t *testing.T, v *e2e.Visitor, subject string) e2e.Answer{
		"B1": func(t *testing.T, v *e2e.Visitor, subject string) e2e.Answer { return s.connects(t, v, "t2", subject) },
		"B4": func(t *testing.T, v *e2e.Visitor, subject string) e2e.Answer {
			return s.comes(t, v, s.site, "t2", subject)
		},
	} {
		t.Run(name, func(t *testing.T) {
			ada, id := s.holder(t, "ada."+name+"@example.com")
			s.person("more "+name, "more."+name+"@example.com")
			asked := ask(t, ada, "more "+name)
			s.app.Forget()
			before := s.users(t)
			s.operator(t, http.MethodPost, "users/"+id+"/disable", "").into(t, &person{})
			s.operator(t, http.MethodPost, "users/"+id+"/enable", "").into(t, &person{})
			s.wantOutdated(t, answers(t, ada, asked, "link"))
			if s.users(t) != before || s.accounts(t, id) != 1 {
				t.Error("somebody was made, or connected")
			}
		})
	}
}

func TestQuestionIsItsBrowsersAndItsSitesAlone(t *testing.T) {
	s := receive(t)
	v, asked, holder := s.asksToLink(t, "ada@example.com")
	s.wantOutdated(t, v.Another().Do(saying(t, v, asked, "link"))) // another browser
	// The cookie, carried to the other site of the same house.
	thief := v.Another()
	u, _ := url.Parse(s.other)
	for _, pair := range v.Cookies(s.site) {
		name, value, _ := strings.Cut(pair, "=")
		thief.Jar.SetCookies(u, []*http.Cookie{{Name: name, Value: value, Path: "/", Secure: true}})
	}
	there := asked
	there.Response = new(http.Response)
	*there.Response = *asked.Response
	there.Request = thief.Navigation(s.other + "/.login/confirm")
	s.wantOutdated(t, thief.Do(saying(t, thief, there, "link")))
	s.wantOutdated(t, thief.Get(s.other+"/.login/confirm"))
	if s.accounts(t, holder) != 1 {
		t.Error("connected")
	}
	mustBe(t, v.FollowOn(answers(t, v, asked, "link")), http.StatusOK)
}

func TestQuestionSurvivesReloadAndKillButNotTenMinutes(t *testing.T) {
	s := receive(t)
	first, asked, holder := s.asksToLink(t, "ada@example.com")
	late, tooLate, _ := s.asksToLink(t, "grace@example.com")
	names := slices.Sorted(maps.Keys(treatments))
	s.Reload(twoSites(names...))
	wantQuestion(t, first.Get(s.site+"/.login/confirm"), confirmLink, "ada@example.com")
	s.Kill()
	s.Restart()
	mustBe(t, first.FollowOn(answers(t, first, asked, "link")), http.StatusOK)
	if s.whoIs(first) != holder || s.accounts(t, holder) != 2 {
		t.Error("not connected after kill -9")
	}
	s.Stop()
	tenMinutesLater(t, filepath.Join(s.DataDir(), "login"))
	s.Restart()
	s.app.Forget()
	s.wantOutdated(t, answers(t, late, tooLate, "link"))
	s.wantOutdated(t, answers(t, first, asked, "link"))
}

// tenMinutesLater is when what waits now is over: it has it have expired, in a
// store that nobody has open.
func tenMinutesLater(t *testing.T, dir string) {
	t.Helper()
	store := logintest.StoreIn(t, dir)
	defer store.Close()
	waits := record.Kind{Name: "pending", Version: 1}
	err := store.Update(t.Context(), func(tx guest.Tx) error {
		found := map[string]map[string]any{}
		err := tx.Scan(waits.Key(""), nil, 0, func(key, raw []byte) bool {
			var one map[string]any
			if err := waits.Decode(raw, &one); err != nil {
				t.Error(err)
			}
			found[string(key)] = one
			return true
		})
		for key, one := range found {
			one["expires"] = time.Now().Add(-time.Second)
			if err := waits.Put(tx, []byte(key), one, time.Time{}); err != nil {
				return err
			}
		}
		if len(found) == 0 {
			t.Error("nothing waits")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestQuestionEndsWithItsProvider(t *testing.T) {
	s := receive(t)
	v, asked, holder := s.asksToLink(t, "ada@example.com")
	swapped, asks, _ := s.asksToLink(t, "grace@example.com")
	waiting := func() e2e.Answer { // a code that was asked for, too
		s.person("by code", "ada@example.com")
		v := s.visitor(t)
		return v.FollowOn(answers(t, v, s.comes(t, v, s.site, "t2", "by code"), "code"))
	}()
	mustBe(t, waiting, http.StatusOK)

	s.Reload(twoSites("t1"))
	s.wantOutdated(t, answers(t, v, asked, "link"))
	s.wantOutdated(t, v.Get(s.site+"/.login/confirm"))

	// The same name, for another issuer: what the old one said is not its word.
	another := logintest.NewIssuer(t)
	s.Env["ISSUER"] = another.Issuer
	s.Reload(twoSites("t1", "t2", "t3"))
	s.wantOutdated(t, answers(t, swapped, asks, "link"))
	s.wantOutdated(t, swapped.Get(s.site+"/.login/confirm"))
	if s.accounts(t, holder) != 1 || s.accounts(t, s.idOf(t, "grace@example.com")) != 1 {
		t.Error("connected all the same")
	}
}

func TestQuestionAboutSomebodyWhoIsDisabledMeanwhile(t *testing.T) {
	s := receive(t)
	v, asked, holder := s.asksToLink(t, "ada@example.com")
	s.operator(t, http.MethodPost, "users/"+holder+"/disable", "").into(t, &person{})
	s.wantOutdated(t, answers(t, v, asked, "link"))
	// Enabled again, it is another day: what waited then is over.
	s.operator(t, http.MethodPost, "users/"+holder+"/enable", "").into(t, &person{})
	s.wantOutdated(t, answers(t, v, asked, "link"))
	if s.accounts(t, holder) != 1 {
		t.Error("connected")
	}
}

func TestManyClicksAtOnceLinkOnce(t *testing.T) {
	s := receive(t)
	v, asked, holder := s.asksToLink(t, "ada@example.com")
	jar := strings.Join(v.Cookies(s.site), "; ")
	var all sync.WaitGroup
	var sessions, late atomic.Int64
	for range 32 {
		r := saying(t, v, asked, "link")
		r.Header.Set("Cookie", jar)
		all.Go(func() {
			got, err := v.Another().Try(r)
			switch {
			case err != nil:
				t.Error(err)
			case session(got) != "":
				sessions.Add(1)
			case got.StatusCode == http.StatusConflict:
				late.Add(1)
			}
		})
	}
	all.Wait()
	if sessions.Load() != 1 || late.Load() != 31 {
		t.Errorf("%d sessions, %d told that they are late", sessions.Load(), late.Load())
	}
	known := s.dossier(t, holder)
	linked := 0
	for _, entry := range known.Activity {
		if entry.What == "linked" {
			linked++
		}
	}
	if len(known.Accounts) != 2 || linked != 1 || len(known.Sessions) != 2 {
		t.Errorf("%d accounts, %d times linked, %d sessions", len(known.Accounts), linked, len(known.Sessions))
	}
}

// What was answered is over, also where everything is as it was before.
func TestAnswerWorksOnce(t *testing.T) {
	s := receive(t)
	ada, id := s.holder(t, "ada@example.com")
	s.person("more", "")
	asked := s.connects(t, ada, "t2", "more")
	waits := ada.Cookie(s.site, cookieName+"-waits")
	mustBe(t, ada.FollowOn(answers(t, ada, asked, "link")), http.StatusOK)
	keys := regexp.MustCompile(`name="key" value="([^"]+)"`).FindAllStringSubmatch(ada.Get(s.site+"/.login/account").Body, -1)
	if len(keys) != 2 {
		t.Fatalf("%d accounts to disconnect", len(keys))
	}
	ada.Do(s.posting(ada, "/.login/account", "", "do", "unlink", "key", keys[1][1]))
	if s.accounts(t, id) != 1 {
		t.Fatal("not disconnected")
	}
	u, _ := url.Parse(s.site)
	ada.Jar.SetCookies(u, []*http.Cookie{{Name: cookieName + "-waits", Value: waits, Path: "/", Secure: true}})
	s.app.Forget()
	s.wantOutdated(t, answers(t, ada, asked, "link"))
	if s.accounts(t, id) != 1 {
		t.Error("connected anew by an old answer")
	}
}

// Who can't read the mailbox any more proves to be the holder by a way in that
// the holder has.
func TestProofByAnotherWayIn(t *testing.T) {
	s := receive(t)
	_, holder := s.holder(t, "ada@example.com")
	s.holder(t, "grace@example.com")
	s.person("nobody's", "nobody@example.com")
	s.person("arriving", "ada@example.com")
	s.app.Forget()
	v := s.visitor(t)
	asked := s.comes(t, v, s.site, "t2", "arriving")
	wantQuestion(t, asked, proveOwner, "ada@example.com")
	proves := func(subject string) e2e.Answer {
		t.Helper()
		r := saying(t, v, asked, "prove", "provider", "t3")
		begun := v.Do(r)
		mustBe(t, begun, http.StatusOK)
		return v.FollowOn(v.Get(s.callback(t, v, begun, subject)))
	}
	for _, wrong := range []string{"holder of grace@example.com", "nobody's"} {
		got := proves(wrong)
		s.wantRefusal(t, got, http.StatusForbidden, "wrong_account", "")
		if s.accounts(t, holder) != 1 || s.whoIs(v) != "" {
			t.Fatalf("%s proved to be Ada", wrong)
		}
		s.app.Forget()
	}
	wantErrorPage(t, proves("")) // who says no there
	wantQuestion(t, v.Get(s.site+"/.login/confirm"), proveOwner)
	before := s.users(t)
	in := proves("holder of ada@example.com")
	mustBe(t, in, http.StatusOK)
	if s.whoIs(v) != holder || s.accounts(t, holder) != 2 || s.users(t) != before {
		t.Error("not connected, or somebody was made")
	}
	s.wantNote(t, holder, "linked", "E7")
}

func TestProofIsForTheQuestionItWasBegunFor(t *testing.T) {
	s := receive(t)
	s.holder(t, "ada@example.com")
	_, grace := s.holder(t, "grace@example.com")
	s.person("arriving", "ada@example.com")
	s.person("another", "grace@example.com")
	v := s.visitor(t)
	asked := s.comes(t, v, s.site, "t2", "arriving")
	begun := v.Do(saying(t, v, asked, "prove", "provider", "t3"))
	wantQuestion(t, s.comes(t, v, s.site, "t2", "another"), proveOwner, "grace@example.com") // meanwhile
	s.app.Forget()
	s.wantOutdated(t, v.FollowOn(v.Get(s.callback(t, v, begun, "holder of grace@example.com"))))
	if s.accounts(t, grace) != 1 {
		t.Error("the proof was taken for another question")
	}
}

// A code that was to prove that it is still them makes nobody, and lets nobody
// in, once they are no more.
func TestProofOfAPersonWhoIsGoneMakesNobody(t *testing.T) {
	s := receive(t)
	ada := s.visitor(t)
	mustBe(t, s.enters(t, ada, s.site, "ada@example.com"), http.StatusOK)
	id := s.idOf(t, "ada@example.com")
	waiting := ada.FollowOn(ada.Do(s.posting(ada, "/.login/account/again", "", "do", "code", "return", "/.login/account")))
	mustBe(t, waiting, http.StatusOK)
	code := s.code(t, "ada@example.com")
	s.operator(t, http.MethodDelete, "users/"+id, "").into(t, &struct{}{})
	s.app.Forget()
	s.wantOutdated(t, ada.Submit(waiting, "code", code))
	if n := s.users(t); n != 0 {
		t.Errorf("there are %d users", n)
	}
}

// Who was to be deleted, and comes back, is asked: by whatever way they come.
func TestAccountThatIsToBeDeletedIsKeptByAWord(t *testing.T) {
	s := receive(t)
	ada, id := s.holder(t, "ada@example.com")
	mustBe(t, ada.Do(s.posting(ada, "/.login/account/delete", "", "do", "delete", "sure", "1")), http.StatusOK)
	state := func() string { return s.dossier(t, id).User.State }
	if state() != "deleting" || s.isIn(ada) {
		t.Fatalf("she is %s", state())
	}
	s.person("arriving", "ada@example.com")
	for name, arrives := range map[string]func(v *e2e.Visitor) e2e.Answer{
		"A1": func(v *e2e.Visitor) e2e.Answer { return s.comes(t, v, s.site, "t3", "holder of ada@example.com") },
		"F1": func(v *e2e.Visitor) e2e.Answer { return s.enters(t, v, s.site, "ada@example.com") },
		"E6": func(v *e2e.Visitor) e2e.Answer {
			asked := s.comes(t, v, s.site, "t3", "arriving")
			wantQuestion(t, asked, confirmLink)
			return v.FollowOn(answers(t, v, asked, "link"))
		},
	} {
		v := s.visitor(t)
		asked := arrives(v)
		wantQuestion(t, asked, keepAccount, "ada@example.com")
		mustBe(t, answers(t, v, asked, "cancel"), http.StatusOK)
		if state() != "deleting" || s.whoIs(v) != "" || s.accounts(t, id) != 1 {
			t.Errorf("%s: after a no she is %s", name, state())
		}
	}
	v := s.visitor(t)
	mustBe(t, v.FollowOn(answers(t, v, s.comes(t, v, s.site, "t3", "holder of ada@example.com"), "keep")), http.StatusOK)
	if state() != "active" || s.whoIs(v) != id {
		t.Errorf("she is %s", state())
	}
	s.wantTold(t, "ada@example.com", "Your account stays")
}

// The same in Chromium: the pages, their policy, and cookies as they are.
func TestQuestionsInChromium(t *testing.T) {
	s := receive(t)
	_, ada := s.holder(t, "ada@example.com")
	for name, email := range map[string]string{"Clicks": "ada@example.com", "Codes": "ada@example.com", "Connects": "else@example.com"} {
		s.issuer.Person(logintest.Person{Subject: name, Email: email, EmailVerified: true, Name: name})
	}
	b := e2e.NewBrowser(t)
	b.Get(s.site + "/.login/t3?return=%2Fin").Click("Clicks")
	b.See(confirmLink).See("ada@example.com").Click("Connect them").At("/in")

	other := e2e.NewBrowser(t)
	other.Get(s.site + "/.login/t2?return=%2Fin").Click("Codes")
	other.See(proveOwner).Click("Send me a code").See("Check your email")
	other.Submit("code", s.code(t, "ada@example.com")).At("/in")
	if id, _ := s.who(); id != ada {
		t.Errorf("came in as %q", id)
	}

	other.Get(s.site + "/.login/t2?switch=1&return=%2Fin").Click("Connects")
	other.See(linkOrSwitch).See("else@example.com").Click("Connect it to my account").At("/in")
	if n := s.accounts(t, ada); n != 4 {
		t.Errorf("%d accounts", n)
	}
}

// What an operator hears of accounts that are connected, and of a no.
func TestEventsTellOfLinks(t *testing.T) {
	o := overhearLinks(t)
	asked := func() e2e.Answer {
		callback, _, err := pick(o.visitor.To(o.visitor.Get(o.site+"/.login/second?return=%2Fin")), "again")
		if err != nil {
			t.Fatal(err)
		}
		return o.visitor.FollowOn(o.visitor.Get(callback))
	}
	mustBe(t, o.signIn(t), http.StatusFound)
	first := wantEvent(t, "login_succeeded", admitted...)
	o.visitor.ForgetCookies()

	mustBe(t, answers(t, o.visitor, asked(), "cancel"), http.StatusOK)
	no := wantEvent(t, "login_failed", "provider", "outcome", "request_id")
	if no["outcome"] != "declined" || no["provider"] != "second" {
		t.Errorf("a no is %v", no)
	}
	mustBe(t, answers(t, o.visitor, asked(), "link"), http.StatusSeeOther)
	all := takeEvents()
	if len(all) != 2 || all[0].name != "login_linked" || all[1].name != "login_succeeded" {
		t.Fatalf("told %+v", all)
	}
	for _, event := range all {
		if event.data["decision"] != "E6" || event.data["user_id"] != first["user_id"] || event.data["session"] == first["session"] {
			t.Errorf("%s: %v", event.name, event.data)
		}
	}
}

// overhearLinks is overhear with a second way in, for an account that has the
// same address.
func overhearLinks(t *testing.T) *overheardSite {
	t.Helper()
	port := e2e.FreePort(t)
	o := &overheardSite{fmt.Sprintf("http://app.localhost:%d", port), logintest.NewIssuer(t), e2e.NewVisitor(t)}
	o.issuer.Client("site", "secret", o.site+"/.login/op/callback", o.site+"/.login/second/callback")
	for _, subject := range []string{"ada", "again"} {
		o.issuer.Person(logintest.Person{Subject: subject, Email: "ada@example.com", EmailVerified: true, Name: "Ada"})
	}
	second := "oidc second site secret {\n\t\t\tissuer %[3]s\n\t\t\tauthoritative_domains example.com\n\t\t}\n\t\toidc op"
	caddyfile := fmt.Sprintf(strings.Replace(overheard, "oidc op", second, 1), t.TempDir(), port, o.issuer.URL)
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
	if err != nil {
		t.Fatal(err)
	}
	subscription := `"apps":{"events":{"subscriptions":[{"events":["login_succeeded","login_failed","login_linked"],"handlers":[{"handler":"login_test"}]}]},`
	if err := caddy.Load([]byte(strings.Replace(string(adapted), `"apps":{`, subscription, 1)), true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	takeEvents()
	return o
}
