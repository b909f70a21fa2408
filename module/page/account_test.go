package page

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"golang.org/x/net/html"
)

// ownPages are the pages about a person's own account, filled with t.
func ownPages(p *Pages, t texts) []drawn {
	bare := AccountPage{Person: Account{Email: t.email}, Fresh: true, Sessions: []AccountSession{{Current: true}}}
	full := fullAccount(t)
	pages := []drawn{
		{"account-bare", 200, func(w http.ResponseWriter, r *http.Request) { p.Account(w, r, bare) }},
		{"account", 200, func(w http.ResponseWriter, r *http.Request) { p.Account(w, r, full) }},
		{"account-bad-name", 422, func(w http.ResponseWriter, r *http.Request) {
			p.Account(w, r, AccountPage{MayRename: true, Problem: ProblemBadName, Value: t.name})
		}},
		{"account-email-in-use", 422, func(w http.ResponseWriter, r *http.Request) {
			p.Account(w, r, AccountPage{MayAdd: true, Problem: ProblemEmailInUse, Value: t.email})
		}},
		{"activity", 200, func(w http.ResponseWriter, r *http.Request) {
			p.Activity(w, r, ActivityPage{Events: everyEvent(t), Older: "/nothing", CSV: "/nothing", Back: t.address})
		}},
		{"activity-none", 200, func(w http.ResponseWriter, r *http.Request) { p.Activity(w, r, ActivityPage{}) }},
		{"delete", 200, func(w http.ResponseWriter, r *http.Request) {
			p.Delete(w, r, DeletePage{Person: full.Person, Days: 7, Back: t.address})
		}},
		{"delete-missing", 422, func(w http.ResponseWriter, r *http.Request) {
			p.Delete(w, r, DeletePage{Person: full.Person, Days: 1, Missing: true})
		}},
		{"deleting", 200, func(w http.ResponseWriter, r *http.Request) {
			p.Deleting(w, r, Deleting{Deletes: sampleTime, Home: t.address})
		}},
		{"reverted", 200, func(w http.ResponseWriter, r *http.Request) { p.Reverted(w, r, Reverted{Home: t.address}) }},
	}
	for _, kind := range reverted {
		pages = append(pages, drawn{"revert-" + kind, 200, func(w http.ResponseWriter, r *http.Request) {
			p.Revert(w, r, RevertPage{Token: t.request, Kind: kind, Address: t.email})
		}})
	}
	return pages
}

// fullAccount has as much as an account can have.
func fullAccount(t texts) AccountPage {
	a := AccountPage{
		Person: Account{Name: t.name, Email: t.email, Picture: t.address}, Since: sampleTime, MayRename: true, MayAdd: true,
		Recent: everyEvent(t)[:10], Done: DoneConnected, Data: "/nothing",
		Apps: []AccountApp{{t.site, "/nothing"}, {t.label, "/nothing"}, {"", "/nothing"}},
	}
	for i := range 10 {
		a.Addresses = append(a.Addresses, AccountAddress{
			Address: fmt.Sprint(i, t.email), Primary: i == 0, Provisioned: i == 3, Proven: sampleTime, By: []string{t.provider, ""}[i%2], Last: i == 1,
		})
	}
	brands := append(everyBrand, "example", "google", "google", "")
	hows := []HowLinked{LinkedAtSignup, LinkedConfirmed, LinkedByProof, LinkedByCode, LinkedSilently, LinkedByOperators}
	for i, brand := range brands {
		a.Accounts = append(a.Accounts, ConnectedAccount{
			Key: t.request, Provider: t.provider, Brand: brand, Account: t.email, Linked: sampleTime, How: hows[i%len(hows)], Last: i == 2, Current: i == 1,
		})
	}
	for _, brand := range everyBrand {
		a.Connect = append(a.Connect, Way{t.request, t.provider, brand})
	}
	for i := range 30 {
		a.Sessions = append(a.Sessions, AccountSession{
			Handle: t.request, Device: "Mozilla/5.0 Firefox/140 Linux " + t.label, Place: t.name, Method: []string{t.provider, ""}[i%2],
			Began: sampleTime, Seen: sampleTime, Current: i == 7, Site: t.site,
		})
	}
	return a
}

// everyWord is what the activity knows, written a second time on purpose.
var everyWord = strings.Fields(`signed_in sign_in_failed signed_out sessions_ended linked unlinked address_added address_removed
	primary_changed renamed groups_changed disabled enabled deletion_begun deletion_stopped provisioned claimed reverted
	reauthenticated downloaded unheard_of`)

func everyEvent(t texts) (events []AccountEvent) {
	for i, what := range everyWord {
		events = append(events, AccountEvent{
			At: sampleTime.Add(-time.Duration(i) * time.Hour), What: what, Provider: []string{t.provider, "", ByOperator}[i%3],
			Detail: t.email, Device: "Firefox on Linux", Place: "192.0.2.0/24 " + t.name, Failed: i%4 == 1,
		})
	}
	return events
}

func drawnAccount(t *testing.T, a AccountPage) (*html.Node, int) {
	t.Helper()
	got := ask("GET", func(w http.ResponseWriter, r *http.Request) { (&Pages{Base: "/auth"}).Account(w, r, a) })
	return parsed(t, got.Body.String()), got.Code
}

func byID(root *html.Node, id string) *html.Node {
	for n := range root.Descendants() {
		if n.Type == html.ElementNode && attr(n, "id") == id {
			return n
		}
	}
	return nil
}

// deeds are what can be posted from a page, each as path?fields, with the
// button that does it.
func deeds(root *html.Node) (all []string) {
	for _, form := range elements(root, "form") {
		var given []string
		for _, input := range elements(form, "input") {
			given = append(given, attr(input, "name")+"="+attr(input, "value"))
		}
		for _, button := range elements(form, "button") {
			sent := slices.Clone(given)
			if name := attr(button, "name"); name != "" {
				sent = append(sent, name+"="+attr(button, "value"))
			}
			all = append(all, attr(form, "method")+" "+attr(form, "action")+"?"+strings.Join(sent, "&"))
		}
	}
	return all
}

func TestAccountFormsSayWhatToDo(t *testing.T) {
	root, status := drawnAccount(t, AccountPage{
		Person: Account{Name: "Ada", Email: "a@x"}, MayRename: true, MayAdd: true,
		Addresses: []AccountAddress{{Address: "a@x", Primary: true}, {Address: "b@x"}, {Address: "c@x", Provisioned: true}},
		Accounts:  []ConnectedAccount{{Key: "k1", Provider: "Google"}},
		Connect:   []Way{{"gh", "GitHub", "github"}},
		Sessions:  []AccountSession{{Handle: "h1"}, {Handle: "h2", Current: true}},
	})
	want := []string{
		"post /auth/logout?",
		"post /auth/account?name=Ada&do=rename",
		"post /auth/account?address=a@x&do=remove",
		"post /auth/account?address=b@x&do=primary", "post /auth/account?address=b@x&do=remove",
		"post /auth/account?address=c@x&do=remove",
		"post /auth/account?address=&do=add",
		"post /auth/account?key=k1&do=unlink",
		"post /auth/account?do=connect&provider=gh",
		"post /auth/account?session=h1&do=end",
		"post /auth/account?do=end_others",
	}
	if got := deeds(root); status != 200 || !slices.Equal(got, want) {
		t.Errorf("%d, posts\n%s\nwant\n%s", status, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestAccountOffersOnlyWhatCanBeDone(t *testing.T) {
	root, _ := drawnAccount(t, AccountPage{
		Addresses: []AccountAddress{{Address: "a@x", Primary: true, Last: true}},
		Accounts:  []ConnectedAccount{{Key: "k1", Provider: "Google", Last: true, Current: true}},
		Sessions:  []AccountSession{{Handle: "h1", Current: true}},
	})
	if got := deeds(root); !slices.Equal(got, []string{"post /auth/logout?"}) {
		t.Errorf("posts %q", got)
	}
	said := seen(root)
	for _, want := range []string{"It can’t be removed: it is your only way to sign in.", "It can’t be disconnected: it is your only way to sign in.", "You are signed in nowhere else."} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in %s", want, said)
		}
	}
	if strings.Contains(said, "If you disconnect it") {
		t.Error("warns of what cannot be done")
	}
}

// seen is the text of a page, with one space between any two words.
func seen(root *html.Node) string {
	var words []string
	for n := range elements(root, "main")[0].Descendants() {
		if n.Type == html.TextNode {
			words = append(words, strings.Fields(n.Data)...)
		}
	}
	return strings.Join(words, " ")
}

func TestAccountTellsHowThingsCameToBe(t *testing.T) {
	said := seen(only(drawnAccount(t, AccountPage{
		Since: sampleTime,
		Addresses: []AccountAddress{
			{Address: "a@x", Proven: sampleTime, By: "Google"}, {Address: "b@x", Proven: sampleTime}, {Address: "c@x", Provisioned: true, Proven: sampleTime},
		},
		Accounts: []ConnectedAccount{{Provider: "Google", Account: "ada", Linked: sampleTime, How: LinkedSilently, Current: true}, {How: "by magic"}},
		Sessions: []AccountSession{{Device: "Firefox Linux", Place: "Bern", Site: "a.example", Method: "Google", Began: sampleTime, Seen: sampleTime}},
	})))
	for _, want := range []string{
		"You have had this account since 2 January 2026.",
		"a@x Confirmed by Google on 2 January 2026.", "b@x Confirmed with a mailed code on 2 January 2026.", "c@x Added by whoever runs this site. Not confirmed yet.",
		"Google ada Connected on 2 January 2026. It was connected by itself, because it has your email address. You are signed in with it.",
		"the sign-in service Disconnect",
		"Firefox on Linux a.example · Bern Signed in with Google on 2 January 2026, 15:04 (UTC). Last used on 2 January 2026, 15:04 (UTC). Sign out there",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in %s", want, said)
		}
	}
}

func only(root *html.Node, _ int) *html.Node { return root }

func TestProblemStandsAboveAndAtItsField(t *testing.T) {
	for problem, field := range map[AccountProblem]string{
		ProblemBadName: "name", ProblemBadAddress: "address", ProblemEmailInUse: "address", ProblemTooMany: "address", ProblemLastWayIn: "", ProblemNotFound: "",
	} {
		root, status := drawnAccount(t, AccountPage{Person: Account{Name: "Ada"}, MayRename: true, MayAdd: true, Problem: problem, Value: "typed"})
		said := spoken.languages[0].Words["account.problem."+string(problem)]
		if alerts := role(root, "alert"); status != 422 || said == "" || !slices.Equal(alerts, []string{said}) {
			t.Errorf("%s: %d, alerts %q", problem, status, alerts)
		}
		for name, before := range map[string]string{"name": "Ada", "address": ""} {
			input, wrong := byID(root, name+"-field"), byID(root, name+"-wrong")
			if name != field {
				if attr(input, "value") != before || attr(input, "aria-invalid") != "" || wrong != nil {
					t.Errorf("%s is blamed on %s", problem, name)
				}
				continue
			}
			if attr(input, "value") != "typed" || attr(input, "aria-describedby") != name+"-wrong" || text(wrong) != said {
				t.Errorf("%s is not told at %s", problem, name)
			}
		}
	}
}

// role is what the elements of that role say.
func role(root *html.Node, name string) (said []string) {
	for n := range root.Descendants() {
		if n.Type == html.ElementNode && attr(n, "role") == name {
			said = append(said, text(n))
		}
	}
	return said
}

func TestTooManyAccountsAreNotBlamedOnTheAddress(t *testing.T) {
	root, _ := drawnAccount(t, AccountPage{MayAdd: true, Problem: ProblemTooMany})
	if byID(root, "address-wrong") != nil || len(role(root, "alert")) != 1 {
		t.Error("nobody typed an address")
	}
}

func TestDoneIsSaidAsStatus(t *testing.T) {
	for _, done := range []AccountDone{
		DoneRenamed, DoneAdded, DoneRemoved, DonePrimary, DoneConnected, DoneAlreadyConnected, DoneUnlinked, DoneEnded, DoneEndedOthers, DoneKept,
	} {
		root, status := drawnAccount(t, AccountPage{Done: done})
		if said := role(root, "status"); status != 200 || len(said) != 1 || said[0] == "" {
			t.Errorf("%s: %d %q", done, status, said)
		}
	}
	for _, none := range []AccountDone{"", "<b>", "nonsense"} {
		if root, _ := drawnAccount(t, AccountPage{Done: none}); len(role(root, "status")) != 0 {
			t.Errorf("%q says %q", none, role(root, "status"))
		}
	}
}

func TestStaleSignInIsToldOnce(t *testing.T) {
	for fresh, want := range map[bool]int{true: 0, false: 1} {
		a := fullAccount(plain)
		a.Fresh = fresh
		if root, _ := drawnAccount(t, a); strings.Count(seen(root), "you’ll be asked to sign in again") != want {
			t.Errorf("fresh %t: %s", fresh, seen(root))
		}
	}
}

func TestOwnSessionComesFirstAndOthersFold(t *testing.T) {
	for n, want := range map[int]struct{ shown, folded, unseen int }{
		1: {1, 0, 0}, 6: {6, 0, 0}, 7: {5, 2, 0}, 100: {5, 95, 0}, 103: {5, 95, 3},
	} {
		sessions := make([]AccountSession, n)
		sessions[n-1].Current = true
		root, _ := drawnAccount(t, AccountPage{Sessions: sessions})
		part := byID(root, "sessions")
		folded := 0
		for _, fold := range elements(part, "details") {
			folded += len(elements(fold, "li"))
			if summary := text(elements(fold, "summary")[0]); summary != fmt.Sprintf("Show %d more", want.folded) {
				t.Errorf("%d: %q", n, summary)
			}
		}
		if shown := len(elements(part, "li")) - folded; shown != want.shown || folded != want.folded {
			t.Errorf("%d: %d shown, %d folded", n, shown, folded)
		}
		if own := text(elements(part, "li")[0]); !strings.Contains(own, "This browser") {
			t.Errorf("%d: the first is %q", n, own)
		}
		if said := fmt.Sprintf("%d more are not shown.", want.unseen); strings.Contains(seen(root), said) != (want.unseen > 0) {
			t.Errorf("%d: %s", n, seen(root))
		}
		if sessions[0].Current != (n == 1) {
			t.Error("the caller's list is changed")
		}
	}
}

func TestEveryWordOfTheActivityHasItsOwnSentence(t *testing.T) {
	p := &Pages{}
	root := parsed(t, ask("GET", func(w http.ResponseWriter, r *http.Request) {
		p.Activity(w, r, ActivityPage{Events: everyEvent(plain)})
	}).Body.String())
	said := map[string]string{}
	for i, row := range elements(root, "li") {
		what := text(elements(row, "bdi")[0])
		if known := everyWord[i] != "unheard_of"; said[what] != "" || known == (what == "Something else happened") {
			t.Errorf("%s is drawn as %q, and so is %q", everyWord[i], what, said[what])
		}
		said[what] = everyWord[i]
		if failed := strings.Contains(text(row), "Did not succeed"); failed != (i%4 == 1 && i != 1) {
			t.Errorf("%s: %s", everyWord[i], text(row))
		}
	}
	if len(said) != len(everyWord) || !strings.Contains(seen(root), "By whoever runs this site · ada@example.com Firefox on Linux · 192.0.2.0/24 Ada Lovelace 2 January 2026") {
		t.Errorf("%d of them: %s", len(said), seen(root))
	}
}

func TestActivityLeadsOn(t *testing.T) {
	for want, a := range map[string]ActivityPage{
		"/.login/account":       {Older: "javascript:alert(1)", CSV: "//evil.example"},
		"/older /csv /.login/x": {Older: "/older", CSV: "/csv", Back: "/.login/x"},
	} {
		root := parsed(t, ask("GET", func(w http.ResponseWriter, r *http.Request) { (&Pages{}).Activity(w, r, a) }).Body.String())
		if got := hrefs(root); got != want {
			t.Errorf("links to %q, want %q", got, want)
		}
	}
}

func hrefs(root *html.Node) string {
	var all []string
	for _, a := range elements(root, "a") {
		all = append(all, attr(a, "href"))
	}
	return strings.Join(all, " ")
}

func TestAppsAreLinkedOnlyWhereItIsSafe(t *testing.T) {
	root, _ := drawnAccount(t, AccountPage{Apps: []AccountApp{{"Evil", "javascript:alert(1)"}, {"", "https://b.example/"}}, Data: "data:text/html,x"})
	if links := elements(byID(root, "apps"), "a"); len(links) != 1 || text(links[0]) != "https://b.example/" {
		t.Errorf("%d apps", len(links))
	}
	if all := hrefs(root); strings.Contains(all, "script:") || strings.Contains(all, "data:") {
		t.Errorf("links to %s", all)
	}
}

func TestAccountPartsAreNamedAndFound(t *testing.T) {
	root, _ := drawnAccount(t, fullAccount(plain))
	ids := map[string]bool{}
	for n := range root.Descendants() {
		if id := attr(n, "id"); n.Type == html.ElementNode && id != "" {
			if ids[id] {
				t.Errorf("two are called %s", id)
			}
			ids[id] = true
		}
	}
	for n := range root.Descendants() {
		for _, id := range append(strings.Fields(attr(n, "aria-labelledby")+" "+attr(n, "aria-describedby")), attr(n, "for")) {
			if id != "" && !ids[id] {
				t.Errorf("%s refers to %s, which is not there", n.Data, id)
			}
		}
	}
	contents := strings.Fields(hrefs(elements(root, "nav")[0]))
	for _, part := range elements(root, "section") {
		if len(elements(part, "h2")) != 1 || !slices.Contains(contents, "/auth/account#"+attr(part, "id")) {
			t.Errorf("%s has no heading, or is not among the contents %q", attr(part, "id"), contents)
		}
	}
	if len(contents) != len(elements(root, "section")) {
		t.Errorf("contents %q", contents)
	}
}

// TestButtonsOfRowsNameTheirRow: "Remove", read alone, might remove anything.
func TestButtonsOfRowsNameTheirRow(t *testing.T) {
	root, _ := drawnAccount(t, AccountPage{
		Addresses: []AccountAddress{{Address: "a@x"}}, Accounts: []ConnectedAccount{{Provider: "Google", Account: "ada"}, {Provider: "Google", Account: "bob"}},
	})
	var names []string
	for _, button := range elements(root, "button") {
		var name []string
		for _, id := range strings.Fields(attr(button, "aria-labelledby")) {
			name = append(name, strings.TrimSpace(text(byID(root, id))))
		}
		if len(name) > 0 {
			names = append(names, strings.Join(name, " "))
		}
	}
	if want := []string{"Make primary a@x", "Remove a@x", "Disconnect Google ada", "Disconnect Google bob"}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
}

func TestDeletionIsAskedForWithABox(t *testing.T) {
	for days, want := range map[int]string{1: "your account is deleted in one day.", 7: "your account is deleted in 7 days."} {
		for missing, status := range map[bool]int{false: 200, true: 422} {
			got := ask("GET", func(w http.ResponseWriter, r *http.Request) {
				(&Pages{}).Delete(w, r, DeletePage{Days: days, Missing: missing})
			})
			root := parsed(t, got.Body.String())
			if got.Code != status || !strings.Contains(seen(root), want) || len(role(root, "alert")) != status/422 {
				t.Errorf("%d %t: %d %s", days, missing, got.Code, seen(root))
			}
			if posts := deeds(root); !slices.Equal(posts, []string{"post /.login/account/delete?sure=1&do=delete"}) || hrefs(root) != "/.login/account" {
				t.Errorf("posts %q, links to %q", posts, hrefs(root))
			}
			box := byID(root, "sure")
			if _, required := attrs(box)["required"]; attr(box, "type") != "checkbox" || !required {
				t.Errorf("box %v", box.Attr)
			}
			if _, ticked := attrs(box)["checked"]; ticked {
				t.Error("the box is ticked for them")
			}
		}
	}
}

func attrs(n *html.Node) map[string]string {
	all := map[string]string{}
	for _, a := range n.Attr {
		all[a.Key] = a.Val
	}
	return all
}

func TestDeletingSaysUntilWhenItCanBeStopped(t *testing.T) {
	root := parsed(t, ask("GET", func(w http.ResponseWriter, r *http.Request) {
		(&Pages{}).Deleting(w, r, Deleting{Deletes: sampleTime})
	}).Body.String())
	if said := seen(root); !strings.Contains(said, "deleted for good on 2 January 2026, 15:04 (UTC)") || hrefs(root) != "/.login/" {
		t.Errorf("%s, links to %s", said, hrefs(root))
	}
}

func TestRevertAsksAndTellsWhatItUndoes(t *testing.T) {
	said := map[string]bool{}
	for _, kind := range []string{"address_added", "address_removed", "primary_changed"} {
		root := parsed(t, ask("GET", func(w http.ResponseWriter, r *http.Request) {
			(&Pages{}).Revert(w, r, RevertPage{Token: "the token", Kind: kind, Address: "ada@example.com"})
		}).Body.String())
		if got := deeds(root); !slices.Equal(got, []string{"post /.login/account/revert?token=the token"}) || !strings.Contains(seen(root), "ada@example.com") {
			t.Errorf("%s: %q %s", kind, got, seen(root))
		}
		said[seen(root)] = true
	}
	if len(said) != 3 {
		t.Error("two kinds say the same")
	}
	for _, kind := range []string{"", "renamed"} {
		got := ask("GET", func(w http.ResponseWriter, r *http.Request) {
			(&Pages{}).Revert(w, r, RevertPage{Token: "t", Kind: kind})
		})
		if got.Code != 500 || strings.Contains(got.Body.String(), "<form") {
			t.Errorf("%q: %d", kind, got.Code)
		}
	}
}

func TestSignedInLeadToTheirAccount(t *testing.T) {
	p := &Pages{Base: "/auth"}
	for name, write := range map[string]http.HandlerFunc{
		"signed in":    func(w http.ResponseWriter, r *http.Request) { p.SignedIn(w, r, SignedIn{}) },
		"not admitted": func(w http.ResponseWriter, r *http.Request) { p.NotAdmitted(w, r, NotAdmitted{}) },
	} {
		if got := hrefs(parsed(t, ask("GET", write).Body.String())); !strings.HasSuffix(got, "/auth/account") {
			t.Errorf("%s links to %q", name, got)
		}
	}
}

// TestUnfoldedSessionsFit measures what a visitor sees only after a click.
func TestUnfoldedSessionsFit(t *testing.T) {
	b := openBrowser(t)
	page := drawn{"account", 200, func(w http.ResponseWriter, r *http.Request) { (&Pages{}).Account(w, r, fullAccount(plain)) }}
	site := serve(t, []drawn{page})
	for _, l := range looks {
		b.dress(t, l)
		b.do(t, chromedp.Navigate(site+"/account"), chromedp.Click(chromedp.CSS("summary")))
		b.sees(t, l.name, `String(document.querySelectorAll("details[open] li").length)`, "25")
		b.sees(t, l.name, `String(document.querySelector("summary").getBoundingClientRect().height >= 44)`, "true")
		for _, fault := range see(t, b, chromedp.Evaluate[[]string](measure)) {
			t.Errorf("%s: %s", l.name, fault)
		}
	}
}

// TestDeletionBoxIsAsLargeAsItsWords: it is ticked by a click anywhere on them,
// and by the keyboard, and holds the form until it is.
func TestDeletionBoxIsAsLargeAsItsWords(t *testing.T) {
	b := openBrowser(t)
	page := drawn{"delete", 200, func(w http.ResponseWriter, r *http.Request) { (&Pages{}).Delete(w, r, DeletePage{Days: 7}) }}
	site := serve(t, []drawn{page})
	b.dress(t, look{width: 1280, height: 800, scheme: "light"})
	b.do(t, chromedp.Navigate(site+"/delete"))
	b.sees(t, "at first", `String(document.querySelector("form").checkValidity())`, "false")
	b.do(t, chromedp.Click(chromedp.CSS(".sure label")))
	b.sees(t, "clicked", `String(document.querySelector("form").checkValidity())`, "true")
	b.sees(t, "clicked", `getComputedStyle(document.querySelector("#sure"), "::before").backgroundColor`, "rgb(43, 74, 203)")
	b.do(t, chromedp.KeyEvent(" "))
	b.sees(t, "space", `String(document.querySelector("form").checkValidity())`, "false")
	b.sees(t, "space", `getComputedStyle(document.querySelector("#sure"), "::before").backgroundColor`, "rgba(0, 0, 0, 0)")
	b.sees(t, "space", `getComputedStyle(document.querySelector("#sure")).outlineWidth`, "3px")
}

// TestContentsLeadWithinThePage: also after a form was posted, they ask for
// nothing anew.
func TestContentsLeadWithinThePage(t *testing.T) {
	b := openBrowser(t)
	p, asked := &Pages{}, atomic.Int32{}
	mux := http.NewServeMux()
	mux.HandleFunc(p.base()+StylesheetPath, p.Stylesheet)
	mux.HandleFunc("/.login/account", func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		a := fullAccount(plain)
		a.Problem = map[string]AccountProblem{http.MethodPost: ProblemBadName}[r.Method]
		p.Account(w, r, a)
	})
	site := httptest.NewServer(mux)
	t.Cleanup(site.Close)
	b.do(t, chromedp.Navigate(site.URL+"/.login/account"), chromedp.Click(chromedp.CSS("#name button")), chromedp.WaitVisible(chromedp.CSS("#name-wrong")))
	b.sees(t, "posted", `document.activeElement.id`, "name-field")
	b.do(t, chromedp.Click(chromedp.CSS(`.contents a[href$="#recent"]`)))
	b.sees(t, "contents", `location.hash`, "#recent")
	b.sees(t, "contents", `String(document.querySelector("#recent").getBoundingClientRect().top < innerHeight)`, "true")
	if n := asked.Load(); n != 2 {
		t.Errorf("the page was asked for %d times", n)
	}
}
