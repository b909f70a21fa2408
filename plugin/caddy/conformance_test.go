package main_test

import (
	"bytes"
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// modes are the two ways an answer comes back in, by the provider that asks
// for each.
var modes = map[string]string{"query": "op", "form_post": "post"}

// trial is one sign-in of somebody at one of the site's providers.
type trial struct {
	*siege
	visitor  *e2e.Visitor
	provider string
	// again is what the log says where the same answer comes a second time.
	again string
}

// deliver brings the provider's answer to the site: by the address, or as the
// form that the provider's page posts, and on from there.
func (s trial) deliver(t *testing.T, v *e2e.Visitor, c coming) e2e.Answer {
	t.Helper()
	open := v.Navigation
	if len(v.Cookies(s.site)) == 0 { // it is another, who is to pass for the one who came
		open = func(address string) *http.Request { return c.again(v, address) }
	}
	if c.form == nil {
		return v.Do(open(c.callback))
	}
	posted := v.Another().Do(s.post(v, s.provider, c.form.Encode(), formType))
	match := onward.FindStringSubmatch(posted.Body)
	if posted.StatusCode != http.StatusOK || match == nil {
		return posted
	}
	to := s.site + html.UnescapeString(match[1])
	s.keep(strings.SplitN(to, "handle=", 2)[1])
	return v.Do(open(to))
}

// convict plays one crime: a page, told once, nothing kept, and spent.
func (s trial) convict(t *testing.T, crime crime) {
	v, before := s.visitor, len(s.failures())
	s.issuer.NextLogin(crime.faults)
	c := s.mustCome(t, v, s.provider, "ada")
	calls := s.asked()
	statuses := []int{400, 403}
	if crime.status != 0 {
		statuses = []int{crime.status, 400}
	}
	first := s.deliver(t, v, c)
	id := refused(t, first, statuses...)
	for _, markup := range []string{"<script>alert", "<img src=x", "<b>People"} {
		if strings.Contains(first.Body, markup) {
			t.Errorf("the page shows %s", markup)
		}
	}
	s.wentAsFarAs(t, crime, calls)
	calls = s.asked()
	next := refused(t, s.deliver(t, v.Another(), c), 400)
	if s.asked() != calls {
		t.Errorf("the answer was used again: %+v, want %+v", s.asked(), calls)
	}
	s.wantFailures(t, before, id, next)
	s.wantTold(t, "login_failed", id, next)
	if outcome := s.outcomeOf(next); outcome != s.again {
		t.Errorf("the same answer again is %q, want %s", outcome, s.again)
	}
	if v.Get(s.site+"/in").StatusCode == http.StatusOK {
		t.Error("it signed in")
	}
	s.untouched(t)
}

// wentAsFarAs checks what the issuer was asked since before.
func (s trial) wentAsFarAs(t *testing.T, crime crime, want logintest.Calls) {
	t.Helper()
	switch crime.far {
	case "answer":
	case "userinfo":
		want.UserInfo++
		fallthrough
	default:
		want.Token++
	}
	// Where a kept connection is cut, Go itself asks once more.
	got := s.asked()
	if got.Token != want.Token || got.UserInfo != want.UserInfo && crime.name != "a cut connection from userinfo" || got.Discovery != want.Discovery || got.Keys > want.Keys+1 {
		t.Errorf("the issuer was asked %+v, want %+v", got, want)
	}
}

// wantTold checks that Caddy's events app was told once about each request.
func (s *siege) wantTold(t *testing.T, event string, ids ...string) {
	t.Helper()
	for _, id := range ids {
		e2e.Eventually(t, e2e.Patience, "the event "+event, func() bool { return s.told(event, id) > 0 })
		if n := s.told(event, id); n != 1 {
			t.Errorf("%s was told %d times", event, n)
		}
	}
}

// told counts the events of a request: Caddy writes each into its debug log.
func (s *siege) told(event, id string) (n int) {
	for _, line := range s.Logs() {
		if line["logger"] != "events" || line["msg"] != "event" || line["name"] != event {
			continue
		}
		if data, ok := line["data"].(map[string]any); ok && (id == "" || data["request_id"] == id) {
			n++
		}
	}
	return n
}

// acquit plays one odd sign-in that is right: the app sees who it is.
func (s trial) acquit(t *testing.T, faults logintest.Faults) {
	t.Helper()
	v, before, failed := s.visitor, s.asked(), len(s.failures())
	s.issuer.NextLogin(faults)
	c := s.mustCome(t, v, s.provider, "ada")
	s.acquitted(t, s.deliver(t, v, c), before, failed)
}

// acquitted checks what a sign-in that is right came to, since so many calls and
// failures.
func (s trial) acquitted(t *testing.T, got e2e.Answer, before logintest.Calls, failed int) {
	t.Helper()
	got = s.visitor.FollowOn(got)
	mustBe(t, got, http.StatusOK)
	if seen := s.app.Last(); got.Request.URL.Path != "/public/in" || seen.Value("Remote-User") == "" || seen.Value("Remote-Name") != "ada" {
		t.Errorf("ended at %s as %q, %q", got.Request.URL, seen.Value("Remote-User"), seen.Value("Remote-Name"))
	}
	if calls := s.asked(); calls.Token != before.Token+1 || len(s.failures()) != failed {
		t.Errorf("%d calls, %d failures", calls.Token-before.Token, len(s.failures())-failed)
	}
	if !s.isIn(s.visitor) {
		t.Error("it did not sign in")
	}
	s.app.Forget()
}

// lastMoment has a token that is over in a moment: with a minute's skew, one to
// two seconds after it was made. That a later one is refused proves nothing.
func lastMoment(t *testing.T, s trial) {
	for range 20 {
		var made atomic.Int64
		s.issuer.NextLogin(logintest.Faults{IDToken: func(c map[string]any) {
			now := time.Now()
			made.Store(now.UnixNano())
			behind := now.Unix() - 59
			c["iat"], c["nbf"], c["exp"] = behind, behind, behind+1
		}})
		before, failed := s.asked(), len(s.failures())
		got := s.deliver(t, s.visitor, s.mustCome(t, s.visitor, s.provider, "ada"))
		if got.StatusCode < 400 || time.Since(time.Unix(0, made.Load())) < 900*time.Millisecond {
			s.acquitted(t, got, before, failed)
			return
		}
		e2e.Eventually(t, e2e.Patience, "word of the failure", func() bool { return len(s.failures()) == failed+1 })
	}
	t.Error("no token came in time")
}

// fromElsewhere are visitors of a network each: one may send only so many
// answers.
func fromElsewhere(t *testing.T) func() *e2e.Visitor {
	n := 1
	return func() *e2e.Visitor {
		n++
		return visitorFrom(t, 2+n%250)
	}
}

// inBothModes runs one row by query and by form_post.
func (s *siege) inBothModes(t *testing.T, name string, from func() *e2e.Visitor, run func(*testing.T, trial)) {
	t.Run(name, func(t *testing.T) {
		for mode, provider := range modes {
			t.Run(mode, func(t *testing.T) { run(t, trial{s, from(), provider, "spent"}) })
		}
	})
}

// TestConformance plays the OpenID Foundation's suite for relying parties, as
// far as an issuer's wrongs are about one sign-in, and what FAPI 2 and the RFCs
// ask for besides. Its rows have the names that the suite gives them.
func TestConformance(t *testing.T) {
	s := besiege(t, besieged)
	from := fromElsewhere(t)
	s.mustEnter(t, "ada") // the keys are known from here on
	s.app.Forget()
	for _, row := range append(logintest.Refused(), refusedByFAPI()...) {
		s.inBothModes(t, row.Name, from, func(t *testing.T, s trial) {
			s.convict(t, crime{row.Name, row.Faults, row.Shows, 0})
		})
	}
	for _, row := range strayStates() {
		s.inBothModes(t, row.Name, from, func(t *testing.T, s trial) {
			// Nobody knows which attempt it is, so that none is spent.
			if s.again = "expired"; s.provider == "post" {
				s.again = "bad_request"
			}
			s.convict(t, crime{row.Name, row.Faults, row.Shows, 0})
		})
	}
	for _, row := range append(logintest.Accepted(), acceptedByFAPI()...) {
		s.inBothModes(t, row.Name, from, func(t *testing.T, s trial) { s.acquit(t, row.Faults) })
	}
	s.inBothModes(t, "fapi-59-seconds-behind", from, lastMoment)
	s.inBothModes(t, "oidcc-client-test-scope-userinfo-claims", from, claimsFromUserinfo)
	s.inBothModes(t, "oidcc-client-test-form-post-error-leads-nowhere", from, errorIsNoLoop)
}

// refusedByFAPI are what FAPI 2 and the RFCs refuse besides.
func refusedByFAPI() []logintest.Row {
	in := func(name string, by time.Duration) logintest.Faults {
		return logintest.Faults{IDToken: func(claims map[string]any) { claims[name] = time.Now().Add(by).Unix() }}
	}
	return []logintest.Row{
		{Name: "fapi-second-audience-without-azp", Faults: logintest.Set("aud", []string{"site", "other"}), Shows: "token"},
		{Name: "fapi-azp-of-another", Faults: logintest.Set("azp", "other"), Shows: "token"},
		{Name: "fapi-azp-of-another-among-two", Faults: logintest.Set("aud", []string{"site", "other"}).And(logintest.Set("azp", "other")), Shows: "token"},
		{Name: "rfc7515-4.1.11-crit", Faults: inHeader("crit", []string{"exp"}), Shows: "token"},
		{Name: "rfc8725-3.11-typ-of-an-access-token", Faults: inHeader("typ", "at+jwt"), Shows: "token"},
		{Name: "rfc8725-3.11-typ-of-a-logout-token", Faults: inHeader("typ", "logout+jwt"), Shows: "token"},
		{Name: "fapi-exp-62-seconds-past", Faults: in("exp", -62*time.Second), Shows: "token"},
		{Name: "fapi-iat-70-seconds-ahead", Faults: in("iat", 70*time.Second), Shows: "token"},
		{Name: "fapi-nbf-70-seconds-ahead", Faults: in("nbf", 70*time.Second), Shows: "token"},
		{Name: "fapi-sub-of-256-bytes", Faults: logintest.Set("sub", strings.Repeat("s", 256)), Shows: "token"},
		{Name: "rfc8259-4-sub-twice", Faults: twice(`"sub":"grace"`), Shows: "token"},
		{Name: "rfc8259-4-nonce-twice", Faults: twice(`"nonce":"x"`), Shows: "token"},
		{Name: "rfc8259-4-sub-twice-in-userinfo", Faults: logintest.Faults{Response: func(r *logintest.Response) {
			if r.Endpoint == "userinfo" {
				r.Body = strings.NewReader(`{"sub":"ada","name":"ada","sub":"ada"}`)
			}
		}}, Shows: "userinfo"},
	}
}

// twice puts a member at the end of an ID token that has one of its name.
func twice(member string) logintest.Faults {
	return logintest.Faults{Payload: func(claims []byte) []byte {
		return append(bytes.TrimRight(bytes.TrimSpace(claims), "}"), ","+member+"}"...)
	}}
}

// strayStates are answers that name no attempt of this browser.
func strayStates() []logintest.Row {
	answer := func(change func(url.Values)) logintest.Faults { return logintest.Faults{Answer: change} }
	return []logintest.Row{
		{Name: "fapi-wrong-state", Faults: answer(set("state", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")), Shows: "answer"},
		{Name: "fapi-empty-state", Faults: answer(set("state", "")), Shows: "answer"},
		{Name: "fapi-missing-state", Faults: answer(func(q url.Values) { q.Del("state") }), Shows: "answer"},
	}
}

// acceptedByFAPI are what FAPI 2 and the RFCs accept besides.
func acceptedByFAPI() []logintest.Row {
	ahead := logintest.Faults{IDToken: func(c map[string]any) {
		c["iat"], c["nbf"] = time.Now().Add(59*time.Second).Unix(), time.Now().Add(59*time.Second).Unix()
	}}
	return []logintest.Row{
		{Name: "fapi-59-seconds-ahead", Faults: ahead},
		{Name: "fapi-two-audiences-with-azp", Faults: logintest.Set("aud", []string{"other", "site"}).And(logintest.Set("azp", "site"))},
		{Name: "rfc7515-4.1.2-jku-is-not-followed", Faults: inHeader("jku", "http://169.254.169.254/keys")},
		{Name: "rfc7519-5.1-typ-in-lower-case", Faults: inHeader("typ", "jwt")},
		{Name: "fapi-sub-of-255-bytes", Faults: long(255)},
	}
}

func long(n int) logintest.Faults {
	sub := strings.Repeat("s", n)
	return logintest.Set("sub", sub).And(logintest.Faults{UserInfo: func(c map[string]any) { c["sub"] = sub }})
}

// claimsFromUserinfo has an ID token that names nobody, and a name and a proven
// address at userinfo.
func claimsFromUserinfo(t *testing.T, s trial) {
	s.issuer.Person(logintest.Person{Subject: "alan" + s.provider, Name: "Alan", Email: s.provider + "@example.com", EmailVerified: true})
	s.issuer.NextLogin(logintest.Drop("name").And(logintest.Drop("email")).And(logintest.Drop("email_verified")))
	c := s.mustCome(t, s.visitor, s.provider, "alan"+s.provider)
	asked := s.asked().UserInfo
	mustBe(t, s.visitor.FollowOn(s.deliver(t, s.visitor, c)), http.StatusOK)
	if seen := s.app.Last(); seen.Value("Remote-Name") != "Alan" || seen.Value("Remote-Email") != s.provider+"@example.com" || s.asked().UserInfo != asked+1 {
		t.Errorf("the app saw %q, %q after %d calls", seen.Value("Remote-Name"), seen.Value("Remote-Email"), s.asked().UserInfo-asked)
	}
	s.app.Forget()
}

var leadsOn = regexp.MustCompile(`(?i)http-equiv="?refresh`)

// errorIsNoLoop has a provider that says no, as often as it is asked.
func errorIsNoLoop(t *testing.T, s trial) {
	s.issuer.NextLogin(logintest.ErrorAnswer("login_required"))
	c := s.mustCome(t, s.visitor, s.provider, "ada")
	before := s.issuer.Calls()
	got := s.deliver(t, s.visitor, c)
	refused(t, got, 400)
	if got.Header.Get("Location") != "" || got.Header.Get("Refresh") != "" || leadsOn.MatchString(got.Body) || s.issuer.Calls() != before {
		t.Errorf("the page leads on by itself: %v\n%s", got.Header, got.Body)
	}
}

// neighbours is besieged with more providers, each with an issuer of its own
// and an address for either mode: name and name-post.
func neighbours(t *testing.T, names ...string) (caddyfile string, providers []string, issuers map[string]*logintest.Issuer) {
	t.Helper()
	issuers, caddyfile = map[string]*logintest.Issuer{}, besieged
	var blocks strings.Builder
	for _, name := range names {
		issuer := logintest.NewIssuer(t)
		issuer.Issuer += "/"
		issuers[name] = issuer
		for _, mode := range []string{"query", "form_post"} {
			instance := name + suffix[mode]
			fmt.Fprintf(&blocks, "\t\toidc %s site {env.OP_SECRET} {\n\t\t\tissuer %s\n\t\t\tresponse_mode %s\n\t\t}\n", instance, issuer.Issuer, mode)
			providers = append(providers, instance)
		}
	}
	return strings.Replace(caddyfile, "\t\tallow /public", blocks.String()+"\t\tallow /public", 1), providers, issuers
}

var suffix = map[string]string{"query": "", "form_post": "-post"}

// at is this siege with another issuer, which it introduces itself to.
func (s *siege) at(issuer *logintest.Issuer, providers ...string) *siege {
	other := &siege{stage: s.stage, issuer: issuer}
	var callbacks []string
	for _, provider := range providers {
		callbacks = append(callbacks, s.site+"/.login/"+provider+"/callback")
	}
	issuer.Client("site", strongSecret, callbacks...)
	for _, name := range []string{"ada", "grace", "mallory"} {
		issuer.Person(logintest.Person{Subject: name, Name: name})
	}
	other.always(logintest.Faults{})
	return other
}

// documents are the rows about what is fetched once for all sign-ins: each has
// an issuer that nobody has met.
var documents = map[string]func(*testing.T, trial){
	"oidcc-client-test-client-secret-basic":                      secretInTheHeader,
	"oidcc-client-test-userinfo-bearer-header":                   tokenInTheHeader,
	"oidcc-client-test-kid-absent-single-jwks":                   keyWithoutName,
	"oidcc-client-test-kid-absent-multiple-jwks":                 keysWithoutNames,
	"oidcc-client-test-ignores-unparseable-key-in-jwks":          keysThatNobodyReads,
	"oidcc-client-test-discovery-openid-config":                  endpointsAreFollowed,
	"oidcc-client-test-discovery-jwks-uri-keys":                  keysAreFollowed,
	"oidcc-client-test-discovery-issuer-mismatch":                issuerMismatch,
	"oidcc-client-test-signing-key-rotation":                     rotation,
	"oidcc-client-test-signing-key-rotation-just-before-signing": rotationJustBeforeSigning,
	"oidcc-client-test-mtls-endpoint-aliases":                    endpointsAreFollowed,
}

func TestConformanceOfDocuments(t *testing.T) {
	var names []string
	numbers := map[string]string{}
	for _, row := range slices.Sorted(maps.Keys(documents)) {
		numbers[row] = fmt.Sprint("n", len(numbers))
		names = append(names, numbers[row])
	}
	caddyfile, providers, issuers := neighbours(t, names...)
	s, from := besiege(t, caddyfile, providers...), fromElsewhere(t)
	for row, run := range documents {
		name := numbers[row]
		other := s.at(issuers[name], name, name+"-post")
		t.Run(row, func(t *testing.T) {
			for mode := range modes {
				t.Run(mode, func(t *testing.T) { run(t, trial{other, from(), name + suffix[mode], "spent"}) })
			}
		})
		t.Cleanup(func() { s.LogKeepsSecret(other.known()...) })
	}
}

func secretInTheHeader(t *testing.T, s trial) {
	basics := make(chan string, 8)
	s.issuer.Watch = func(r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/token") {
			id, secret, _ := r.BasicAuth()
			basics <- id + " " + secret
		}
	}
	s.acquit(t, logintest.Faults{})
	if got := <-basics; got != "site "+url.QueryEscape(strongSecret) {
		t.Error("id and secret were not form-encoded in the header")
	}
}

func tokenInTheHeader(t *testing.T, s trial) {
	asked := make(chan bool, 8)
	s.issuer.Watch = func(r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/userinfo") {
			asked <- strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ") && r.URL.RawQuery == "" && r.ContentLength <= 0
		}
	}
	s.acquit(t, logintest.Faults{})
	if !<-asked {
		t.Error("the token was not in the header alone")
	}
}

// withKeys alters the key set.
func (s trial) withKeys(change func([]any) []any) {
	s.always(logintest.Faults{Keys: func(doc map[string]any) {
		list, _ := doc["keys"].([]any)
		doc["keys"] = change(list)
	}})
}

func keyWithoutName(t *testing.T, s trial) {
	own := s.issuer.KeyID()
	s.withKeys(func(keys []any) []any {
		keys = slices.DeleteFunc(keys, func(key any) bool { return key.(map[string]any)["kid"] != own })
		delete(keys[0].(map[string]any), "kid")
		return keys
	})
	s.acquit(t, logintest.NoKeyID())
}

func keysWithoutNames(t *testing.T, s trial) {
	s.withKeys(func(keys []any) []any {
		for _, key := range keys {
			delete(key.(map[string]any), "kid")
		}
		return keys
	})
	s.acquit(t, logintest.NoKeyID())
	s.visitor.ForgetCookies()
	s.acquit(t, logintest.NoKeyID().And(logintest.WithAlg("ES256")))
	s.visitor.ForgetCookies()
	s.convict(t, crime{"bad signature", logintest.NoKeyID().And(logintest.BadSignature()), "token", 0})
}

func keysThatNobodyReads(t *testing.T, s trial) {
	s.withKeys(func(keys []any) []any {
		return append([]any{nil, 7, "key", []any{}, map[string]any{}, map[string]any{"kty": 3, "kid": s.issuer.KeyID()}}, keys...)
	})
	s.acquit(t, logintest.Faults{})
}

func endpointsAreFollowed(t *testing.T, s trial) {
	before := s.asked()
	s.acquit(t, logintest.Faults{})
	want := logintest.Calls{Discovery: before.Discovery + 1, Keys: before.Keys + 1, Token: before.Token + 1, UserInfo: before.UserInfo + 1}
	if got := s.asked(); got != want {
		t.Errorf("asked %+v, want %+v", got, want)
	}
}

func keysAreFollowed(t *testing.T, s trial) {
	seen := make(chan string, 8)
	s.issuer.Watch = func(r *http.Request) {
		if strings.Contains(r.URL.Path, "/keys") {
			seen <- r.URL.Path
		}
	}
	s.acquit(t, logintest.Faults{})
	if path := <-seen; len(path) <= len("/oauth/keys/") || len(seen) > 0 {
		t.Errorf("asked for keys at %s and %d more", path, len(seen))
	}
}

func issuerMismatch(t *testing.T, s trial) {
	s.always(logintest.Faults{Discovery: func(doc map[string]any) { doc["issuer"] = doc["issuer"].(string) + "INVALID" }})
	before := len(s.failures())
	got := s.visitor.Get(s.site + "/.login/" + s.provider + "?return=%2F")
	id := refused(t, got, 400)
	s.wantFailures(t, before, id)
	s.wantTold(t, "login_failed", id)
	if got.Header.Get("Location") != "" || len(s.visitor.Cookies(s.site)) > 0 || s.issuer.Calls().Authorize > 0 {
		t.Errorf("goes to %q with %q", got.Header.Get("Location"), s.visitor.Cookies(s.site))
	}
	s.untouched(t)
}

func rotation(t *testing.T, s trial) {
	s.acquit(t, logintest.Faults{})
	keys := s.asked().Keys
	s.issuer.RotateKeys()
	s.visitor.ForgetCookies()
	s.acquit(t, logintest.Faults{})
	if got := s.asked().Keys; got != keys+1 {
		t.Errorf("keys were asked for %d times", got-keys)
	}
}

func rotationJustBeforeSigning(t *testing.T, s trial) {
	s.acquit(t, logintest.Faults{})
	s.visitor.ForgetCookies()
	c, keys := s.mustCome(t, s.visitor, s.provider, "ada"), s.asked().Keys
	s.issuer.RotateKeys()
	if got := s.deliver(t, s.visitor, c); session(got) == "" || s.asked().Keys != keys+1 {
		t.Errorf("%d, keys asked for %d times\n%.500s", got.StatusCode, s.asked().Keys-keys, got.Body)
	}
}
