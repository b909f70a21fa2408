package main_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// letsIn has somebody's browser let an app in, up to the code that its address
// gets.
func letsIn(t *testing.T, app *caller, browser *e2e.Visitor) (intent, code string) {
	t.Helper()
	begun := app.wantStatus("redirect_to_provider", "intents", "provider", "op", "return", "http://127.0.0.1:4/", "code_challenge", app.binding())
	code, _ = returnCode(t, lettingIn(t, browser, browser.Get(begun.AuthURL), "continue"))
	return begun.Intent, code
}

// Whoever begins an intent and has somebody else act on it gets nothing by
// waiting: what the person did is told to their own device alone.
func TestNobodyWaitsForAnothersSignIn(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	ada := s.known(t, "op", "ada")
	eve := programOf(t, visitorFrom(t, 66), s.site)
	intent, _ := letsIn(t, eve, ada)
	for range 3 {
		eve.wantStatus("pending", "intents/validate", "intent", intent, "code_verifier", eve.verifier)
	}
	// By mail: the person follows the link, and the one who waits is still waiting.
	begun := eve.wantStatus("otp_required", "challenges", "kind", "email", "email", "ada@example.com", "code_challenge", eve.binding())
	link := s.letter(t, "ada@example.com", "code").Link()
	for _, browser := range []*e2e.Visitor{ada, e2e.NewVisitor(t)} {
		mustBe(t, browser.Get(link), http.StatusOK)
	}
	eve.wantStatus("pending", "challenges/"+begun.Challenges[0].ID+"/poll", "code_verifier", eve.verifier)
	// In a browser, likewise.
	page := pageOf(t, e2e.NewVisitor(t), s.site)
	waits := page.wantStatus("redirect_to_provider", "intents", "provider", "op", "return", "/public/in")
	callback, _, err := pick(waits.AuthURL, "ada")
	if err != nil {
		t.Fatal(err)
	}
	wantErrorPage(t, ada.Get(callback)) // the person's own browser
	page.wantStatus("redirect_to_provider", "intents/validate", "intent", waits.Intent)
}

func TestReturnCodeIsSpentOnceAmong64(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	ada := s.known(t, "op", "ada")
	for i := range 5 {
		app := programOf(t, visitorFrom(t, 70+i), s.site)
		intent, code := letsIn(t, app, ada)
		request := []string{"intent", intent, "code_verifier", app.verifier, "return_code", code}
		var in atomic.Int64
		var all sync.WaitGroup
		for range 64 {
			r := app.request("intents/validate", request...)
			all.Go(func() {
				got, err := app.Try(r)
				if err != nil {
					t.Error(err)
					return
				}
				if strings.Contains(got.Body, `"authenticated"`) {
					in.Add(1)
				}
			})
		}
		all.Wait()
		if in.Load() != 1 {
			t.Fatalf("%d sessions were begun", in.Load())
		}
	}
}

// What an app was given outlives a crash, as far as it was not spent.
func TestAppsIntentAndCodeSurviveACrash(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	ada := s.known(t, "op", "ada")
	app, late := programOf(t, e2e.NewVisitor(t), s.site), programOf(t, e2e.NewVisitor(t), s.site)
	intent, code := letsIn(t, app, ada)
	other, spent := letsIn(t, late, ada)
	late.wantStatus("authenticated", "intents/validate", "intent", other, "code_verifier", late.verifier, "return_code", spent)
	mail := app.wantStatus("otp_required", "challenges", "kind", "email", "email", "ada@example.com", "code_challenge", app.binding()).Challenges[0]
	typed := s.letter(t, "ada@example.com", "code").Code()
	s.Kill()
	s.Restart()
	app.wantStatus("authenticated", "intents/validate", "intent", intent, "code_verifier", app.verifier, "return_code", code)
	app.wantStatus("authenticated", "challenges/"+mail.ID+"/check", "code", typed, "code_verifier", app.verifier)
	late.wantDenied("challenge_expired", "intents/validate", "intent", other, "code_verifier", late.verifier, "return_code", spent)
	app.wantDenied("challenge_expired", "intents/validate", "intent", intent, "code_verifier", app.verifier, "return_code", code)
}

// What an app holds is worth nothing at another site, for another thing, and
// without its verifier.
func TestWhatAnAppHoldsIsForOneThing(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	ada := s.known(t, "op", "ada")
	app := programOf(t, e2e.NewVisitor(t), s.site)
	intent, code := letsIn(t, app, ada)
	mail := app.wantStatus("otp_required", "challenges", "kind", "email", "email", "ada@example.com", "code_challenge", app.binding()).Challenges[0]
	typed := s.letter(t, "ada@example.com", "code").Code()
	proof := []string{"code_verifier", app.verifier}

	there := *app
	there.site = s.other
	there.wantDenied("challenge_expired", "intents/validate", append(proof, "intent", intent, "return_code", code)...)
	there.wantFailure(http.StatusBadRequest, "challenge_expired", "challenges/"+mail.ID+"/check", append(proof, "code", typed)...)
	app.wantDenied("challenge_expired", "intents/validate", append(proof, "intent", mail.ID, "return_code", code)...)
	app.wantFailure(http.StatusBadRequest, "challenge_expired", "challenges/"+intent+"/check", append(proof, "code", typed)...)
	app.wantFailure(http.StatusConflict, "outdated", "links/"+mail.ID+"/confirm", proof...)
	app.wantFailure(http.StatusBadRequest, "bad_request", "challenges/"+mail.ID+"/check", "code", typed)
	app.wantFailure(http.StatusBadRequest, "bad_request", "intents/validate", "intent", intent, "return_code", code)
	thief := programOf(t, e2e.NewVisitor(t), s.site)
	thief.wantFailure(http.StatusBadRequest, "challenge_expired", "challenges/"+mail.ID+"/check", "code", typed, "code_verifier", thief.verifier)
	thief.wantFailure(http.StatusBadRequest, "challenge_expired", "challenges/"+mail.ID+"/cancel", "code_verifier", thief.verifier)
	thief.wantDenied("challenge_expired", "intents/validate", "intent", intent, "return_code", code, "code_verifier", thief.verifier)
	// A code that went nowhere is still the app's.
	app.wantStatus("authenticated", "challenges/"+mail.ID+"/check", append(proof, "code", typed)...)
	app.wantStatus("authenticated", "intents/validate", append(proof, "intent", intent, "return_code", code)...)
}

// RFC 7636 section 4.2: a challenge that is its verifier proves nothing.
func TestPlainChallengesAreRefused(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	app := programOf(t, e2e.NewVisitor(t), s.site)
	for _, bad := range [][]string{
		{"code_challenge", app.verifier, "code_challenge_method", "plain"},
		{"code_challenge", app.binding(), "code_challenge_method", "plain"},
		{"code_challenge", app.binding(), "code_challenge_method", "s256"},
		{"code_challenge", app.binding() + "="},
		{"code_challenge", app.binding()[1:]},
		{"code_challenge", app.binding() + "A"},
		{"code_challenge", strings.Repeat("!", 43)},
		{"code_challenge", strings.Repeat("a", 42) + "b"}, // bits behind the hash
		{"code_challenge_method", "S256"},
	} {
		app.wantFailure(http.StatusBadRequest, "bad_request", "intents", append(bad, "provider", "op", "return", "http://127.0.0.1/")...)
		app.wantFailure(http.StatusBadRequest, "bad_request", "challenges", append(bad, "kind", "email", "email", "ada@example.com")...)
	}
	for _, to := range []string{"", "/in", "https://evil.test/", "http://evil.test/", s.other + "/", "com.example.app:/in", "http://127.0.0.1/?return_code=x"} {
		app.wantFailure(http.StatusBadRequest, "bad_request", "intents", "provider", "op", "code_challenge", app.binding(), "return", to)
	}
	if n := s.box.Waiting(); n > 0 {
		t.Errorf("%d mails were sent", n)
	}
}

// A page elsewhere lets no app in, and a browser's cookies are none of an app's.
func TestOtherSitesLetNoAppIn(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	ada := s.known(t, "op", "ada")
	app := programOf(t, e2e.NewVisitor(t), s.site)
	begun := app.wantStatus("redirect_to_provider", "intents", "provider", "op", "return", "http://127.0.0.1/", "code_challenge", app.binding())
	asked := ada.Get(begun.AuthURL)
	wantAppQuestion(t, asked, "Ada Lovelace")
	for _, origin := range []string{"https://evil.test", s.other, "null"} {
		r := lettingInBy(t, ada, asked, "continue")
		r.Header.Set("Origin", origin)
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		mustBe(t, ada.Do(r), http.StatusForbidden)
	}
	// The page asked about Ada: should somebody else sit there now, it asked nobody.
	grace := s.known(t, "op", "grace")
	mustBe(t, lettingIn(t, grace, asked, "continue"), http.StatusConflict)
	mustBe(t, lettingIn(t, e2e.NewVisitor(t), asked, "continue"), http.StatusConflict)
	mustBe(t, lettingIn(t, ada, asked, "whatever"), http.StatusConflict)
	for _, bad := range []string{"", "?intent=", "?intent=x", "?intent=" + strings.Repeat("A", 3000)} {
		wantErrorPage(t, ada.Get(s.site+"/.login/native"+bad))
	}
	// Ada's browser brings her cookies to a call for an app: it is nobody's.
	page := pageOf(t, ada, s.site)
	mine := page.wantStatus("otp_required", "challenges", "kind", "email", "email", "eve@example.com", "code_challenge", app.binding())
	if len(mine.Challenges[0].ID) < 64 {
		t.Error("an app was given what is for a browser")
	}
	page.wantFailure(http.StatusBadRequest, "challenge_expired", "challenges/00000000/poll", "code_verifier", app.verifier)
	for _, path := range []string{"intents", "intents/validate", "challenges", "challenges/x/check", "links/x/confirm", "links/x/reject"} {
		r := page.request(path, "provider", "op")
		r.Header.Set("Origin", "https://evil.test")
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		wantProblem(t, ada.Do(r), http.StatusForbidden)
	}
}

// A neighbour of the site that plants cookies has the app believe nothing.
func TestPlantedOutcomeIsNone(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	ada := s.known(t, "op", "ada")
	app := pageOf(t, ada, s.site)
	u, err := url.Parse(s.site)
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"authenticated", "authenticated.", "authenticated.AAAAAAAAAAAAAAAAAAAAAA", "account_disabled.AAAAAAAAAAAAAAAAAAAAAA", "<script>"} {
		ada.Jar.SetCookies(u, []*http.Cookie{{Name: cookieName + "-0123456789abcdef", Value: value, Path: "/", Secure: true}})
		app.wantDenied("challenge_expired", "intents/validate", "intent", "0123456789abcdef")
	}
}

var volatile = regexp.MustCompile(`"(id|expires_at|resend_at|request_id|intent)":"[^"]*"`)

// Known and unknown addresses get the same bytes: asked, wrong, sent again,
// looked at and given up; from pages and from apps.
func TestAPITellsNobodyWhoIsKnown(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, strings.Replace(lookedAfter, "\t\temail\n", "\t\temail\n\t\tsignup invited\n", 1))
	s.operator(t, http.MethodPost, "users", `{"email":"ada@example.com"}`)
	for _, native := range []bool{false, true} {
		var told []string
		for _, address := range []string{"ada@example.com", "axe@entries.com", "abc@eveevil.com"} {
			app := pageOf(t, e2e.NewVisitor(t), s.site)
			var bound, proof []string
			if native {
				app = programOf(t, e2e.NewVisitor(t), s.site)
				bound, proof = []string{"code_challenge", app.binding()}, []string{"code_verifier", app.verifier}
			}
			var all strings.Builder
			hear := func(got e2e.Answer) {
				if after := got.Header.Get("Retry-After"); after != "" {
					if s, err := strconv.Atoi(after); err != nil || s < 1 || s > 30 {
						t.Errorf("Retry-After is %q", after)
					}
					got.Header.Set("Retry-After", "less as time goes by")
				}
				got.Header.Del("Date")
				got.Header.Del("Set-Cookie")
				head, _ := json.Marshal(got.Header)
				all.WriteString(http.StatusText(got.StatusCode) + string(head) + volatile.ReplaceAllString(got.Body, `"$1"`))
			}
			got, out := app.call("challenges", append(bound, "kind", "email", "email", address)...)
			hear(got)
			at := "challenges/" + out.Challenges[0].ID
			for _, path := range []string{"/poll", "/resend", "/check", "/check", "/poll", "/check", "/check", "/check", "/check", "/poll", "/cancel"} {
				if path == "/cancel" {
					hear(app.Do(app.request(at+path, proof...)))
					continue
				}
				members := proof
				if path == "/check" {
					members = append(members, "code", "000000")
				}
				got, _ := app.call(at+path, members...)
				hear(got)
			}
			told = append(told, all.String())
		}
		if told[0] != told[1] || told[0] != told[2] {
			t.Errorf("native %v:\n%s\n%s\n%s", native, told[0], told[1], told[2])
		}
	}
}

// Of 64 right codes at once one signs in, and of wrong ones five count.
func TestAPICodesAtOnce(t *testing.T) {
	t.Parallel()
	s := playMail(t, byMail)
	for what, want := range map[string]int64{"right": 1, "wrong": 0} {
		app := programOf(t, e2e.NewVisitor(t), s.site)
		begun := app.wantStatus("otp_required", "challenges", "kind", "email", "email", what+"@example.com", "code_challenge", app.binding())
		code := s.box.Code()
		if want == 0 {
			code = wrongCode(code)
		}
		var in, wrong atomic.Int64
		var all sync.WaitGroup
		for range 64 {
			r := app.request("challenges/"+begun.Challenges[0].ID+"/check", "code", code, "code_verifier", app.verifier)
			all.Go(func() {
				got, err := app.Try(r)
				switch {
				case err != nil:
					t.Error(err)
				case got.StatusCode == http.StatusOK:
					in.Add(1)
				case got.StatusCode == http.StatusUnprocessableEntity:
					wrong.Add(1)
				}
			})
		}
		all.Wait()
		if in.Load() != want || want == 0 && wrong.Load() != 4 {
			t.Errorf("%s: %d are in, %d may try again", what, in.Load(), wrong.Load())
		}
	}
}

// A question that a person was asked in one browser is answered in that browser,
// by who was asked.
func TestOthersAnswerNoQuestionByTheAPI(t *testing.T) {
	t.Parallel()
	s := playAccounts(t, lookedAfter)
	s.known(t, "op", "grace")
	app := pageOf(t, s.known(t, "op", "ada"), s.site)
	begun := app.wantStatus("redirect_to_provider", "intents", "provider", "op")
	mustBe(t, app.goes(begun.AuthURL, "grace"), http.StatusOK)
	link := app.wantStatus("confirm_required", "intents/validate", "intent", begun.Intent).Link
	for _, other := range []*caller{pageOf(t, e2e.NewVisitor(t), s.site), pageOf(t, s.known(t, "op", "grace"), s.site), programOf(t, e2e.NewVisitor(t), s.site)} {
		other.wantFailure(http.StatusConflict, "outdated", "links/"+link.ID+"/confirm", "do", "switch")
		other.wantFailure(http.StatusConflict, "outdated", "links/"+link.ID+"/reject")
		other.wantDenied("challenge_expired", "intents/validate", "intent", link.ID)
	}
	// Nor by a browser that is signed in as somebody else meanwhile.
	for _, name := range []string{cookieName} {
		u, _ := url.Parse(s.site)
		app.Jar.SetCookies(u, []*http.Cookie{{Name: name, Value: s.known(t, "op", "ada2").Cookie(s.site, name), Path: "/", Secure: true}})
	}
	app.wantFailure(http.StatusConflict, "outdated", "links/"+link.ID+"/confirm", "do", "switch")
}
