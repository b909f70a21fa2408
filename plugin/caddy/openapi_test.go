package main_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
	"github.com/caddy-login/caddy-login/module/logintest/openapi"
)

// whole reports whether all tests have run: no flag chose some of them.
func whole() bool {
	for _, name := range []string{"test.run", "test.skip", "test.list", "test.bench", "test.fuzz"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != "" {
			return false
		}
	}
	return !testing.Short()
}

// allHeard fails a run of all tests in which an answer that is described was
// never heard: it may be that there is no such answer.
func allHeard(status int) int {
	if status != 0 || !whole() {
		return status
	}
	doc, err := e2e.Described()
	if err != nil {
		fmt.Fprintln(os.Stderr, "reading the description of the API:", err)
		return 1
	}
	for _, what := range unheard(doc, e2e.Heard()) {
		fmt.Fprintln(os.Stderr, "no test has heard:", what)
		status = 1
	}
	return status
}

// atOneInstant: it takes two calls that change the same at the same instant, of
// which a test can't say how the other ends.
const atOneInstant = "only while another call changes the same"

// hardToHear are answers that are described and need not be heard in a run, each
// for a reason. Where one is heard it is held against its description as any.
var hardToHear = map[string]string{
	"DELETE /account/profile 404": atOneInstant, "DELETE /account/profile 409": atOneInstant, "PATCH /account/profile 404": atOneInstant,
	"DELETE /account/sessions 404": atOneInstant, "DELETE /account/sessions 409": atOneInstant, "DELETE /account/sessions/{id} 409": atOneInstant,
	"PATCH /account/emails/{id} 409": atOneInstant, "DELETE /account/emails/{id} 429": "after changes that TestAPIBoundsWhatAnAccountMayHave makes by PATCH",
	"POST /challenges/{id}/check 404": atOneInstant, "POST /challenges/{id}/poll 409": atOneInstant,
	"POST /links/{id}/confirm 429":                 "an account that has asked about too many addresses",
	"a problem with the code cookies_blocked":      "where the cookie is gone that would say so",
	"a problem with the code expired":              "where the cookie is gone that would say so",
	"a problem with the code internal_error":       "a fault of ours",
	"a problem with the code unavailable":          "the store fails; held in the stories of a full disk",
	"a problem with the code signed_out_meanwhile": "the provider ends a session while it begins",
}

// unheard are the answers that are described and were not heard: each status of
// each operation, and each code of a problem somewhere.
func unheard(doc *openapi.Document, heard map[openapi.Seen]bool) (missing []string) {
	statuses, codes := map[string]bool{}, map[string]bool{}
	for seen := range heard {
		codes[seen.Code] = true
		if seen.Operation != nil {
			statuses[seen.Operation.String()+" "+seen.Status] = true
		}
	}
	for _, o := range doc.Operations() {
		for _, status := range o.Statuses() {
			if what := o.String() + " " + status; status != "default" && !statuses[what] && hardToHear[what] == "" {
				missing = append(missing, what)
			}
		}
	}
	for _, code := range doc.Codes() {
		if what := "a problem with the code " + code; !codes[code] && hardToHear[what] == "" {
			missing = append(missing, what)
		}
	}
	slices.Sort(missing)
	return missing
}

func TestWhatIsNotHeardIsMissed(t *testing.T) {
	doc := e2e.Description(t)
	operations := doc.Operations()
	if all := unheard(doc, nil); len(all) < 4*len(operations) {
		t.Errorf("only %d of %d operations: %v", len(all), len(operations), all)
	}
	first := operations[0]
	heard := map[openapi.Seen]bool{{Operation: first, Status: "200", Code: "outdated"}: true}
	missing := unheard(doc, heard)
	if slices.Contains(missing, first.String()+" 200") || !slices.Contains(missing, first.String()+" 401") || slices.Contains(missing, "a problem with the code outdated") {
		t.Errorf("with %s 200: %v", first, missing)
	}
}

// refusing is how an operation refuses what comes to any.
type refusing struct {
	status string
	code   string
	send   func(r *http.Request)
}

// TestEveryOperationRefusesAlike goes through all of them, as they are described:
// whatever refuses the one refuses the others.
func TestEveryOperationRefusesAlike(t *testing.T) {
	t.Parallel()
	s := playForApps(t, forApps)
	// Over HTTP/1.1 a client may still be sending when the connection is closed.
	v, patient := e2e.NewVisitor(t), e2e.NewHTTP2Visitor(t)
	in := s.enterApp(t, v, "ada")
	_, dead := s.trade(t, v, s.site, byIDToken(s.issuer.AppToken("ios", "grace", "")))
	mustBe(t, v.Do(calling(v, http.MethodDelete, s.site+"/.login/api/v1/session", nil, "Authorization", "Bearer "+dead.Access)), http.StatusOK)
	bearer := func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+in.Access) }
	all := map[string]refusing{
		"of another site":           {"403", "foreign_origin", func(r *http.Request) { r.Header.Set("Origin", "https://evil.test") }},
		"with a token that is dead": {"401", "invalid_token", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+dead.Access) }},
		"of nobody":                 {"401", "sign_in_required", func(*http.Request) {}},
	}
	bodies := map[string]refusing{
		"of another type": {"415", "unsupported_media_type", func(r *http.Request) { bearer(r); r.Header.Set("Content-Type", "text/plain") }},
		"in another spelling": {"415", "unsupported_media_type", func(r *http.Request) {
			bearer(r)
			r.Header.Set("Content-Type", "application/json; charset=utf-16")
		}},
		"packed": {"415", "unsupported_media_type", func(r *http.Request) { bearer(r); r.Header.Set("Content-Encoding", "gzip") }},
	}
	for _, o := range e2e.Description(t).Operations() {
		address := s.site + "/.login/api/v1" + strings.ReplaceAll(o.Path, "{id}", "x")
		for what, test := range all {
			if !slices.Contains(o.Codes(test.status), test.code) || test.code == "sign_in_required" && !isOwnAlone(o) {
				continue
			}
			r := calling(v, o.Method, address, "{}")
			test.send(r)
			t.Log(o, what)
			wantRefused(t, v.Do(r), statusOf(test.status), test.code)
		}
		if !slices.Contains(o.Statuses(), "415") {
			continue
		}
		for what, test := range bodies {
			r := calling(v, o.Method, address, "{}")
			test.send(r)
			t.Log(o, what)
			wantRefused(t, v.Do(r), statusOf(test.status), test.code)
		}
		for _, body := range []string{
			`{`, `null`, `[]`, `"x"`, `{"no_such_member":1}`, `{"code_verifier":null}`, `{} {}`, "{\"a\":\"\xff\"}",
			strings.Repeat(`{"a":`, 1000) + "1" + strings.Repeat("}", 1000), `{"":""}`,
		} {
			r := calling(v, o.Method, address, body)
			bearer(r)
			wantRefused(t, v.Do(r), http.StatusBadRequest, "bad_request")
		}
		r := calling(patient, o.Method, address, `{"code_verifier":"`+strings.Repeat("a", 64<<10)+`"}`)
		bearer(r)
		wantRefused(t, patient.Do(r), http.StatusRequestEntityTooLarge, "body_too_large")
	}
	s.untouched(t)
	mustBe(t, bearing(v, s.site+"/in", "Bearer "+in.Access), http.StatusOK)
}

// isOwnAlone reports whether an operation is for who is signed in, whatever it is
// asked.
func isOwnAlone(o *openapi.Operation) bool {
	return o.Path == "/session" || strings.HasPrefix(o.Path, "/account/")
}

func statusOf(text string) (status int) {
	_, _ = fmt.Sscan(text, &status)
	return status
}

// quietThird has a third site that no cookie can come back to, and a second one
// without a way in by mail.
var quietThird = strings.Replace(forApps, "	login {\n		signup off", "	login op club {\n		signup off", 1) + `
http://plain.test:{$PORT2} {
	login {
		allow users
	}
	reverse_proxy {$APP}
}
`

// TestAPISaysWhatItRarelySays hears what takes a provider that is down, a network
// that asks too often, and the like.
func TestAPISaysWhatItRarelySays(t *testing.T) {
	t.Parallel()
	s := playForApps(t, quietThird)
	v := e2e.NewVisitor(t)
	try := func(site, path string, body any, headers ...string) (e2e.Answer, error) {
		return v.Try(calling(v, http.MethodPost, site+"/.login/api/v1/"+path, body, headers...))
	}
	post := func(site, path string, body any, headers ...string) e2e.Answer {
		t.Helper()
		got, err := try(site, path, body, headers...)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	plain := fmt.Sprintf("http://plain.test:%d", s.Port2)
	wantRefused(t, post(plain, "intents", tokenFields{"provider": "op"}), http.StatusBadRequest, "unsafe_address")
	wantRefused(t, post(s.other, "challenges", tokenFields{"kind": "email", "email": "ada@example.com"}), http.StatusNotFound, "provider_disabled")
	byMail := s.byCode(t, v, "grace@example.com")
	var has struct{ Emails []struct{ ID string } }
	into(t, byMail.Do(calling(byMail, http.MethodGet, s.site+"/.login/api/v1/account/emails", nil)), &has)
	last := byMail.Do(calling(byMail, http.MethodDelete, s.site+"/.login/api/v1/account/emails/"+has.Emails[0].ID, nil, "Origin", s.site))
	wantRefused(t, last, http.StatusConflict, "last_way_in")
	ada := s.enterApp(t, v, "ada")
	bearer := []string{"Authorization", "Bearer " + ada.Access}
	verifier, challenge := verifierOf("hers")
	var waits struct{ Challenges []struct{ ID string } }
	into(t, post(s.site, "challenges", tokenFields{"kind": "email", "email": "eve@example.com", "code_challenge": challenge}), &waits)
	e2e.Eventually(t, time.Minute, "a mail to be sent again", func() bool {
		return post(s.site, "challenges/"+waits.Challenges[0].ID+"/resend", tokenFields{"code_verifier": verifier}).StatusCode == http.StatusOK
	})
	guess := wrongCode(s.box.Code()) // sent again, it is the same
	for range 6 {
		post(s.site, "challenges/"+waits.Challenges[0].ID+"/check", tokenFields{"code_verifier": verifier, "code": guess})
	}
	over := post(s.site, "challenges/"+waits.Challenges[0].ID+"/cancel", tokenFields{"code_verifier": verifier})
	wantRefused(t, over, http.StatusTooManyRequests, "too_many_attempts")
	var begun struct{ Intent string }
	into(t, post(s.site, "intents", tokenFields{"provider": "op", "return": "http://127.0.0.1:1/back", "code_challenge": challenge}), &begun)
	s.tooOften(t, "challenges", func(i int64) (e2e.Answer, error) {
		return try(s.site, "challenges", tokenFields{"kind": "email", "email": fmt.Sprintf("p%d@example.com", i), "code_challenge": challenge})
	})
	wantRefused(t, post(s.site, "account/emails", tokenFields{"email": "more@example.com"}, bearer...), http.StatusTooManyRequests, "rate_limited")
	s.tooOften(t, "account/fresh", func(int64) (e2e.Answer, error) { return try(s.site, "account/fresh", nil, bearer...) })
	s.tooOften(t, "token", func(int64) (e2e.Answer, error) {
		return try(s.site, "token", tokenFields{"grant_type": "refresh_token", "refresh_token": "x"})
	})
	s.tooOften(t, "intents/validate", func(int64) (e2e.Answer, error) {
		return try(s.site, "intents/validate", tokenFields{"intent": begun.Intent, "return_code": "x", "code_verifier": verifier})
	})
}

// TestAPISaysThatAProviderIsDown hears it from all who ask one.
func TestAPISaysThatAProviderIsDown(t *testing.T) {
	t.Parallel()
	s := playForApps(t, forApps)
	v := e2e.NewVisitor(t)
	begun := v.Get(s.site + "/.login/op?return=%2Fpublic%2Fin")
	callback, _ := s.issuer.SignIn(t, http.DefaultClient, begun.Header.Get("Location"), "ada")
	mustBe(t, v.Follow(callback.String()), http.StatusOK)
	gone := s.enterApp(t, e2e.NewVisitor(t), "grace")
	if got := s.operator(t, http.MethodPost, "users/"+gone.Session.User+"/disable", ""); got.status != http.StatusOK {
		t.Fatalf("%d: %s", got.status, got.body)
	}
	got, _ := s.trade(t, v, s.site, byIDToken(s.issuer.AppToken("ios", "grace", "")))
	wantRefused(t, got, http.StatusForbidden, "account_disabled")
	s.issuer.Down(true)
	s.Stop()
	s.Restart()
	for _, path := range []string{"intents", "account/fresh"} {
		got := v.Do(calling(v, http.MethodPost, s.site+"/.login/api/v1/"+path, tokenFields{"provider": "op"}, "Origin", s.site))
		wantRefused(t, got, http.StatusBadGateway, "provider_unavailable")
	}
}

// TestAPITellsWhatAProviderDidWrong is for who asks what became of an intent.
func TestAPITellsWhatAProviderDidWrong(t *testing.T) {
	t.Parallel()
	s := playForApps(t, forApps)
	v := e2e.NewVisitor(t)
	for code, fault := range map[string]logintest.Faults{
		"provider_error": {Answer: func(answer url.Values) { answer.Set("error", "server_error"); answer.Del("code") }},
		"invalid_answer": {IDToken: func(claims map[string]any) { claims["aud"] = "mallory" }},
	} {
		var begun struct {
			Intent string
			URL    string `json:"auth_url"`
		}
		into(t, v.Do(calling(v, http.MethodPost, s.site+"/.login/api/v1/intents", tokenFields{"provider": "op"}, "Origin", s.site)), &begun)
		s.issuer.NextLogin(fault)
		callback, _ := s.issuer.SignIn(t, http.DefaultClient, begun.URL, "ada")
		wantErrorPage(t, v.Get(callback.String()))
		var became struct {
			Status string
			Error  struct{ Code string }
		}
		into(t, v.Do(calling(v, http.MethodPost, s.site+"/.login/api/v1/intents/validate", tokenFields{"intent": begun.Intent}, "Origin", s.site)), &became)
		if became.Status != "denied" || became.Error.Code != code {
			t.Errorf("got %+v, want %s", became, code)
		}
	}
}

// TestAPIDisconnectsAnAccountOfAnApp is by one that the app did not come in by.
func TestAPIDisconnectsAnAccountOfAnApp(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	ada := s.script(t, "op", "ada")
	s.connectAll(t, ada.v, "club", "lady")
	app := s.selfServiceApp(t, ada.profile(t).User, time.Now())
	for _, account := range app.identities(t) {
		if !account.Current {
			app.goOn(t, http.MethodDelete, "identities/"+account.ID, "")
			return
		}
	}
	t.Error("there is no other account")
}

func into(t *testing.T, got e2e.Answer, out any) {
	t.Helper()
	mustBe(t, got, http.StatusOK)
	if err := json.Unmarshal([]byte(got.Body), out); err != nil {
		t.Fatalf("%v in %s", err, got.Body)
	}
}

// tooOften asks until it was too often: from many goroutines, as a slow machine
// serves one after the other more slowly than a network may ask.
func (s *forAppsStage) tooOften(t *testing.T, what string, ask func(i int64) (e2e.Answer, error)) {
	t.Helper()
	var all sync.WaitGroup
	var asked atomic.Int64
	var refused atomic.Pointer[e2e.Answer]
	for range 8 {
		all.Go(func() {
			for refused.Load() == nil && !t.Failed() {
				n := asked.Add(1)
				got, err := ask(n)
				switch {
				case err != nil:
					t.Errorf("%s: %v", what, err)
				case got.StatusCode == http.StatusTooManyRequests:
					refused.Store(&got)
				case n > 2000:
					t.Errorf("%s: %d calls were not too many", what, n)
				}
			}
		})
	}
	all.Wait()
	got := refused.Load()
	if got == nil {
		t.FailNow() // it was told why
	}
	wantRefused(t, *got, http.StatusTooManyRequests, "rate_limited")
	if got.Header.Get("Retry-After") == "" {
		t.Errorf("%s: it is not said for how long", what)
	}
}
