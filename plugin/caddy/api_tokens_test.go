package main_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
	"github.com/caddy-login/caddy-login/module/logintest/inbox"
	"github.com/caddy-login/caddy-login/module/logintest/secrets"
)

// forApps is a site whose people also come by apps of the operator's. A second
// site has the same providers and no apps.
const forApps = `
{
	login {
		oidc op site {env.OP_SECRET} {
			issuer {$ISSUER}
			label "Our People"
			native_client_ids ios android
		}
		oauth2 club club {env.OP_SECRET} {
			auth_url {$CLUB}/authorize
			token_url {$CLUB}/token
			userinfo_url {$CLUB}/userinfo
			introspection_url {$CLUB}/introspect
			revocation_url {$CLUB}/revoke
			tokens keep
			subject_path sub
			email_path email
			verified_path email_verified
			use_email_as_identifier off
		}
		email
		mail smtp {$SMTP} {
			tls_ca {file.{$SMTP_CA}}
		}
	}
}
https://app.test:{$PORT} {
	login {
		allow /public/* anyone
		allow users
	}
	reverse_proxy {$APP}
}
https://other.test:{$PORT} {
	login {
		signup off
		allow users
	}
	reverse_proxy {$APP}
}
`

// forAppsStage is that stage.
type forAppsStage struct {
	*mailed
	issuer *logintest.Issuer
	club   *clubhouse
}

// clubhouse is an OAuth server that says whom an access token was issued to.
type clubhouse struct {
	*httptest.Server
	mu     sync.Mutex
	tokens map[string]string // whose client's
	taken  []string          // back
}

func (c *clubhouse) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/introspect":
		client, known := c.tokens[r.PostFormValue("token")]
		_ = json.NewEncoder(w).Encode(map[string]any{"active": known, "client_id": client, "sub": "club-ada"})
	case "/revoke":
		c.taken = append(c.taken, r.PostFormValue("token"))
	case "/userinfo":
		_ = json.NewEncoder(w).Encode(map[string]any{"sub": "club-ada", "name": "Ada"})
	default:
		http.NotFound(w, r)
	}
}

// takenBack are the tokens that were taken back so far.
func (c *clubhouse) takenBack() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.taken)
}

func playForApps(t *testing.T, caddyfile string) *forAppsStage {
	t.Helper()
	base := &stage{Caddy: e2e.NewCaddy(t, e2e.Build(t)), app: e2e.NewApp(t)}
	base.site, base.other = fmt.Sprintf("https://app.test:%d", base.Port), fmt.Sprintf("https://other.test:%d", base.Port)
	s := &forAppsStage{
		mailed: &mailed{stage: base, box: inbox.New(t)}, issuer: logintest.NewIssuer(t),
		club: &clubhouse{tokens: map[string]string{}},
	}
	s.club.Server = httptest.NewServer(s.club)
	t.Cleanup(s.club.Close)
	s.Env["APP"], s.Env["OP_SECRET"], s.Env["ISSUER"], s.Env["CLUB"] = s.app.Addr, clientSecret, s.issuer.Issuer, s.club.URL
	s.Env["SMTP"], s.Env["SMTP_CA"] = s.box.Addr, s.box.CAFile
	s.Start(caddyfile)
	s.issuer.Client("site", clientSecret, s.site+"/.login/op/callback")
	for _, name := range []string{"ada", "grace"} {
		s.issuer.Person(logintest.Person{Subject: name, Email: name + "@example.com", EmailVerified: true, Name: strings.ToUpper(name[:1]) + name[1:]})
	}
	s.issuer.Person(logintest.Person{Subject: "nameless", Email: "nameless@example.com", EmailVerified: true})
	s.issuer.Person(logintest.Person{Subject: "unproven", Email: "unproven@example.com", EmailVerified: false, Name: "Eve"})
	return s
}

const (
	exchangeGrant = "urn:ietf:params:oauth:grant-type:token-exchange"
	idTokenType   = "urn:ietf:params:oauth:token-type:id_token"
	accessType    = "urn:ietf:params:oauth:token-type:access_token"
)

// tokenAnswerOf is what an exchange or a refresh brings, by the names that are
// published.
type tokenAnswerOf struct {
	Status      any // of a problem it is a number
	Error, Code string
	Access      string `json:"access_token"`
	Issued      string `json:"issued_token_type"`
	Type        string `json:"token_type"`
	Expires     int    `json:"expires_in"`
	Refresh     string `json:"refresh_token"`
	Session     struct {
		ID, User, Email, Name, Provider string
		AuthTime                        time.Time `json:"auth_time"`
	}
}

// calling is a call of the API by a program that is no browser.
func calling(v *e2e.Visitor, method, address string, body any, headers ...string) *http.Request {
	text, ok := body.(string)
	if !ok && body != nil {
		raw, _ := json.Marshal(body)
		text = string(raw)
	}
	r := v.Request(method, address, text)
	if method != http.MethodGet {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

type tokenFields map[string]string

// trade asks the token endpoint.
func (s *forAppsStage) trade(t *testing.T, v *e2e.Visitor, site string, fields tokenFields) (e2e.Answer, tokenAnswerOf) {
	t.Helper()
	got, err := v.Try(calling(v, http.MethodPost, site+"/.login/api/v1/token", fields))
	if err != nil {
		t.Error(err)
		return got, tokenAnswerOf{}
	}
	if len(got.Header["Set-Cookie"]) > 0 || got.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("the answer has %v", got.Header)
	}
	var out tokenAnswerOf
	if err := json.Unmarshal([]byte(got.Body), &out); err != nil {
		t.Errorf("%v in %s", err, got.Body)
	}
	secrets.Keep(t, out.Access, out.Refresh)
	return got, out
}

// byIDToken are the fields of an exchange.
func byIDToken(token string, more ...string) tokenFields {
	f := tokenFields{"grant_type": exchangeGrant, "subject_token": token, "subject_token_type": idTokenType, "provider": "op"}
	for i := 0; i+1 < len(more); i += 2 {
		f[more[i]] = more[i+1]
	}
	return f
}

// nonceOf asks for a nonce.
func (s *forAppsStage) nonceOf(t *testing.T, v *e2e.Visitor, site string) string {
	t.Helper()
	got := v.Do(calling(v, http.MethodPost, site+"/.login/api/v1/native/nonce", nil))
	mustBe(t, got, http.StatusOK)
	var out struct {
		Nonce   string
		Expires time.Time `json:"expires_at"`
	}
	if err := json.Unmarshal([]byte(got.Body), &out); err != nil || len(out.Nonce) != 64 || time.Until(out.Expires) < 9*time.Minute || time.Until(out.Expires) > 10*time.Minute {
		t.Fatalf("%v in %s", err, got.Body)
	}
	return out.Nonce
}

// enterApp signs somebody in by an app.
func (s *forAppsStage) enterApp(t *testing.T, v *e2e.Visitor, subject string) tokenAnswerOf {
	t.Helper()
	nonce := s.nonceOf(t, v, s.site)
	got, in := s.trade(t, v, s.site, byIDToken(s.issuer.AppToken("ios", subject, nonce), "nonce", nonce))
	mustBe(t, got, http.StatusOK)
	return in
}

// refreshed trades a refresh token.
func (s *forAppsStage) refreshed(t *testing.T, v *e2e.Visitor, refresh string) (e2e.Answer, tokenAnswerOf) {
	t.Helper()
	return s.trade(t, v, s.site, tokenFields{"grant_type": "refresh_token", "refresh_token": refresh})
}

func TestAppTradesAnIDTokenForASession(t *testing.T) {
	t.Parallel()
	s := playForApps(t, forApps)
	v := e2e.NewVisitor(t)
	nonce := s.nonceOf(t, v, s.site)
	digest := sha256.Sum256([]byte(nonce))
	// Apple's convention: the token has the nonce's hash.
	got, in := s.trade(t, v, s.site, byIDToken(s.issuer.AppToken("ios", "ada", hex.EncodeToString(digest[:])), "nonce", nonce, "intent", "signup", "name", "Not her"))
	mustBe(t, got, http.StatusOK)
	if in.Status != "authenticated" || in.Issued != accessType || in.Type != "Bearer" || in.Expires < 590 || in.Expires > 600 || in.Refresh == "" ||
		in.Session.Email != "ada@example.com" || in.Session.Name != "Ada" || in.Session.Provider != "op" || in.Session.User == "" {
		t.Errorf("got %s", got.Body)
	}
	mustBe(t, bearing(v, s.site+"/in", "Bearer "+in.Access), http.StatusOK)
	if at := s.app.Last(); at.Value("Remote-Email") != "ada@example.com" || at.Value("Remote-User") != in.Session.User {
		t.Errorf("the app received\n%s", at.Raw)
	}
	// Who it is, by the token alone; at another site it is nobody.
	who := bearing(v, s.site+"/.login/api/v1/session", "Bearer "+in.Access)
	mustBe(t, who, http.StatusOK)
	if !strings.Contains(who.Body, `"email":"ada@example.com"`) || !strings.Contains(who.Body, `"groups":[`) || !strings.Contains(who.Body, `"roles":[]`) {
		t.Errorf("got %s", who.Body)
	}
	wantRefused(t, v.Do(calling(v, http.MethodGet, s.site+"/.login/api/v1/session", nil)), http.StatusUnauthorized, "sign_in_required")
	mustBe(t, bearing(v, s.other+"/.login/api/v1/session", "Bearer "+in.Access), http.StatusUnauthorized)
	// The same person by browser is the same user.
	browser := e2e.NewVisitor(t)
	begun := browser.Get(s.site + "/.login/op?return=%2Fpublic%2Fin")
	callback, _ := s.issuer.SignIn(t, http.DefaultClient, begun.Header.Get("Location"), "ada")
	mustBe(t, browser.Follow(callback.String()), http.StatusOK)
	if user := s.app.Last().Value("Remote-User"); user != in.Session.User {
		t.Errorf("by browser she is %s, by app %s", user, in.Session.User)
	}
	// Out: at once, by every token; a second time there is nobody to sign out.
	out := func() e2e.Answer {
		r := calling(v, http.MethodDelete, s.site+"/.login/api/v1/session", nil, "Authorization", "Bearer "+in.Access)
		return v.Do(r)
	}
	mustBe(t, out(), http.StatusOK)
	wantInvalidToken(t, out())
	wantInvalidToken(t, bearing(v, s.site+"/in", "Bearer "+in.Access))
	refused, _ := s.refreshed(t, v, in.Refresh)
	wantRefused(t, refused, http.StatusBadRequest, "invalid_token")
	if !s.isIn(browser) {
		t.Error("the browser was signed out, too")
	}
}

func TestAppTradesByFormAsOAuthHasIt(t *testing.T) {
	t.Parallel()
	s := playForApps(t, forApps)
	v := e2e.NewVisitor(t)
	address := s.site + "/.login/api/v1/token"
	form := func(body string) e2e.Answer {
		return v.Do(calling(v, http.MethodPost, address, body, "Content-Type", "application/x-www-form-urlencoded"))
	}
	good := url.Values{
		"grant_type": {exchangeGrant}, "subject_token": {s.issuer.AppToken("ios", "ada", "")}, "subject_token_type": {idTokenType},
		"provider": {"op"}, "client_id": {"ios"}, "scope": {"openid profile"}, "requested_token_type": {accessType}, "nonce": {""},
	}.Encode()
	for what, body := range map[string]string{
		"twice":          good + "&provider=op",
		"by another":     good + "&actor_token=x",
		"for another":    strings.Replace(good, url.QueryEscape(accessType), url.QueryEscape(idTokenType), 1),
		"cut":            good + "&%zz",
		"semicolon":      good + ";a=b",
		"no UTF-8":       good + "&x=\xff",
		"too many":       good + strings.Repeat("&a", 1) + emptyFields(200),
		"no grant":       "provider=op",
		"another grant":  "grant_type=authorization_code&code=x",
		"password grant": "grant_type=password&username=ada&password=x",
	} {
		got := form(body)
		wantRefused(t, got, http.StatusBadRequest, "bad_request")
		want := `"error":"invalid_request"`
		if strings.Contains(what, "grant") {
			want = `"error":"unsupported_grant_type"`
		}
		if !strings.Contains(got.Body, want) {
			t.Errorf("%s: %s", what, got.Body)
		}
	}
	got := form(good)
	mustBe(t, got, http.StatusOK)
	var in tokenAnswerOf
	if err := json.Unmarshal([]byte(got.Body), &in); err != nil {
		t.Fatal(err)
	}
	secrets.Keep(t, in.Access, in.Refresh)
	got = form(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {in.Refresh}, "client_id": {"ios"}}.Encode())
	mustBe(t, got, http.StatusOK)
	if strings.Contains(got.Body, "issued_token_type") {
		t.Errorf("a refresh says %s", got.Body)
	}
	got = form(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"x"}}.Encode())
	wantRefused(t, got, http.StatusBadRequest, "invalid_token")
	if !strings.Contains(got.Body, `"error":"invalid_grant"`) {
		t.Errorf("got %s", got.Body)
	}
}

func emptyFields(n int) string {
	var fields strings.Builder
	for i := range n {
		fmt.Fprintf(&fields, "&f%d=", i)
	}
	return fields.String()
}

func TestAppCannotTradeWhatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	s := playForApps(t, forApps)
	v := e2e.NewVisitor(t)
	nonce := s.nonceOf(t, v, s.site)
	foreign := s.nonceOf(t, v, s.other)
	header := func(change func(map[string]any)) logintest.Faults { return logintest.Faults{Header: change} }
	claims := func(change func(map[string]any)) logintest.Faults { return logintest.Faults{IDToken: change} }
	for what, test := range map[string]struct {
		fields tokenFields
		status int
		code   string
	}{
		"another app's": {byIDToken(s.issuer.AppToken("mallory", "ada", "")), 400, "audience_mismatch"},
		"another app's with ours": {byIDToken(s.issuer.AppToken("ios", "ada", "", claims(func(c map[string]any) {
			c["aud"] = []string{"ios", "mallory"}
		}))), 400, "audience_mismatch"},
		"no nonce":             {byIDToken(s.issuer.AppToken("ios", "ada", ""), "nonce", nonce), 400, "nonce_mismatch"},
		"another nonce":        {byIDToken(s.issuer.AppToken("ios", "ada", "mine"), "nonce", nonce), 400, "nonce_mismatch"},
		"a nonce of its own":   {byIDToken(s.issuer.AppToken("ios", "ada", "mine"), "nonce", "mine"), 400, "nonce_mismatch"},
		"another site's nonce": {byIDToken(s.issuer.AppToken("ios", "ada", foreign), "nonce", foreign), 400, "nonce_mismatch"},
		"unsigned":             {byIDToken(s.issuer.AppToken("ios", "ada", "", header(func(h map[string]any) { h["alg"] = "none" }))), 400, "invalid_token"},
		"signed by secret":     {byIDToken(s.issuer.AppToken("ios", "ada", "", header(func(h map[string]any) { h["alg"] = "HS256" }))), 400, "invalid_token"},
		"a key of its own": {byIDToken(s.issuer.AppToken("ios", "ada", "", header(func(h map[string]any) {
			h["jwk"], h["crit"] = map[string]any{"kty": "oct", "k": "AAAA"}, []string{"jwk"}
		}))), 400, "invalid_token"},
		"old": {byIDToken(s.issuer.AppToken("ios", "ada", "", claims(func(c map[string]any) {
			c["iat"], c["exp"] = time.Now().Add(-11*time.Minute).Unix(), time.Now().Add(time.Hour).Unix()
		}))), 400, "invalid_token"},
		"another issuer's": {byIDToken(s.issuer.AppToken("ios", "ada", "", claims(func(c map[string]any) { c["iss"] = "https://mallory.example" }))), 400, "invalid_token"},
		"bent":             {byIDToken(s.issuer.AppToken("ios", "ada", "", logintest.Faults{Signed: func(t string) string { return t + "A" }})), 400, "invalid_token"},
		"no token":         {byIDToken("x"), 400, "invalid_token"},
		"nothing":          {byIDToken(""), 400, "bad_request"},
		"no such provider": {byIDToken("x", "provider", "gogle"), 404, "provider_disabled"},
		"mail":             {byIDToken("x", "provider", "email"), 404, "provider_disabled"},
		"not its kind":     {byIDToken("x", "provider", "club"), 404, "provider_disabled"},
		"to connect":       {byIDToken("x", "intent", "link"), 400, "bad_request"},
		"a bad name":       {byIDToken("x", "name", "Ada\u202e"), 400, "bad_request"},
		"plain":            {byIDToken("x", "code_challenge", strings.Repeat("a", 43), "code_challenge_method", "plain"), 400, "bad_request"},
		"a short one":      {byIDToken("x", "code_challenge", "abc"), 400, "bad_request"},
		"an unknown kind":  {byIDToken("x", "subject_token_type", "urn:ietf:params:oauth:token-type:jwt"), 400, "bad_request"},
	} {
		got, _ := s.trade(t, v, s.site, test.fields)
		t.Log(what)
		wantRefused(t, got, test.status, test.code)
		if !strings.Contains(got.Body, `"error":"invalid_request"`) {
			t.Errorf("%s: %s", what, got.Body)
		}
	}
	huge, _ := s.trade(t, e2e.NewHTTP2Visitor(t), s.site, byIDToken(strings.Repeat("a", 1<<20)))
	wantRefused(t, huge, http.StatusRequestEntityTooLarge, "body_too_large")
	s.untouched(t)
	// None of it has spent the nonce, and nobody was made.
	got, in := s.trade(t, v, s.site, byIDToken(s.issuer.AppToken("android", "ada", nonce), "nonce", nonce))
	mustBe(t, got, http.StatusOK)
	if in.Session.Email != "ada@example.com" {
		t.Errorf("got %s", got.Body)
	}
	// Those whom the site does not let in.
	for what, fields := range map[string]tokenFields{
		"signup_disabled": byIDToken(s.issuer.AppToken("ios", "grace", ""), "intent", "login"),
		"not_admitted":    byIDToken(s.issuer.AppToken("ios", "unproven", "")),
	} {
		got, _ := s.trade(t, v, s.site, fields)
		wantRefused(t, got, http.StatusForbidden, what)
		// A decision uses the token up, whatever it is.
		fields["intent"] = "auto"
		got, _ = s.trade(t, v, s.site, fields)
		wantRefused(t, got, http.StatusBadRequest, "invalid_token")
	}
	got, _ = s.trade(t, v, s.other, byIDToken(s.issuer.AppToken("ios", "grace", "")))
	wantRefused(t, got, http.StatusForbidden, "signup_disabled")
	s.issuer.Down(true)
	got, _ = s.trade(t, v, s.site, byIDToken(s.issuer.AppToken("ios", "grace", "")))
	if got.StatusCode != http.StatusOK { // the keys are at hand
		t.Errorf("with the provider down: %d %s", got.StatusCode, got.Body)
	}
	s.Stop()
	s.Restart()
	got, _ = s.trade(t, v, s.site, byIDToken(s.issuer.AppToken("ios", "grace", "")))
	wantRefused(t, got, http.StatusBadGateway, "provider_unavailable")
	if !strings.Contains(got.Body, `"error":"temporarily_unavailable"`) {
		t.Errorf("got %s", got.Body)
	}
}

func TestAppTradesAnAccessTokenOfItsOwnAlone(t *testing.T) {
	t.Parallel()
	s := playForApps(t, forApps)
	v := e2e.NewVisitor(t)
	s.club.tokens["hers at ours"], s.club.tokens["hers at another's"] = "club", "mallory"
	fields := func(token string) tokenFields {
		return tokenFields{"grant_type": exchangeGrant, "subject_token": token, "subject_token_type": accessType, "provider": "club"}
	}
	for _, token := range []string{"hers at another's", "nobody's"} {
		got, _ := s.trade(t, v, s.site, fields(strings.ReplaceAll(token, " ", "-")))
		wantRefused(t, got, http.StatusBadRequest, "invalid_token")
	}
	s.club.tokens["hers-at-ours"], s.club.tokens["hers-at-anothers"] = "club", "mallory"
	got, _ := s.trade(t, v, s.site, fields("hers-at-anothers"))
	wantRefused(t, got, http.StatusBadRequest, "audience_mismatch")
	for range 2 { // apps keep one for months
		got, in := s.trade(t, v, s.site, fields("hers-at-ours"))
		mustBe(t, got, http.StatusOK)
		mustBe(t, bearing(v, s.site+"/in", "Bearer "+in.Access), http.StatusOK)
		// It does not say that its person is here now.
		if since := time.Since(in.Session.AuthTime); since < 15*time.Minute {
			t.Errorf("she is said to have signed in %s ago", since)
		}
	}
	bad := fields("hers-at-ours")
	bad["nonce"] = "x"
	got, _ = s.trade(t, v, s.site, bad)
	wantRefused(t, got, http.StatusBadRequest, "bad_request")
}

func TestAppNamesWhomItsTokenDoesNot(t *testing.T) {
	t.Parallel()
	s := playForApps(t, forApps)
	v := e2e.NewVisitor(t)
	got, in := s.trade(t, v, s.site, byIDToken(s.issuer.AppToken("ios", "nameless", ""), "name", "  Grace Hopper "))
	mustBe(t, got, http.StatusOK)
	if in.Session.Name != "Grace Hopper" {
		t.Errorf("got %s", got.Body)
	}
	got, in = s.trade(t, v, s.site, byIDToken(s.issuer.AppToken("ios", "nameless", "")))
	mustBe(t, got, http.StatusOK)
	if in.Session.Name != "Grace Hopper" {
		t.Errorf("got %s", got.Body)
	}
}

func TestIDTokenOfAnAppMakesOneSession(t *testing.T) {
	t.Parallel()
	s := playForApps(t, forApps)
	v := e2e.NewVisitor(t)
	nonce := s.nonceOf(t, v, s.site)
	fields := byIDToken(s.issuer.AppToken("ios", "ada", nonce), "nonce", nonce)
	var mu sync.Mutex
	codes, sessions := map[string]int{}, map[string]bool{}
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			got, in := s.trade(t, v, s.site, fields)
			mu.Lock()
			defer mu.Unlock()
			codes[fmt.Sprint(got.StatusCode, in.Code)]++
			sessions[in.Session.ID] = true
		})
	}
	all.Wait()
	if codes["200"] != 1 || codes["400nonce_mismatch"]+codes["400invalid_token"] != 31 || len(sessions) != 2 {
		t.Errorf("got %v, sessions %v", codes, sessions)
	}
	s.Kill()
	s.Restart()
	got, _ := s.trade(t, v, s.site, fields)
	wantRefused(t, got, http.StatusBadRequest, "nonce_mismatch")
	delete(fields, "nonce")
	got, _ = s.trade(t, v, s.site, fields)
	wantRefused(t, got, http.StatusBadRequest, "invalid_token")
}

func TestRefreshTokenThatComesTwiceEndsTheSession(t *testing.T) {
	t.Parallel()
	s := playForApps(t, forApps)
	v := e2e.NewVisitor(t)
	in := s.enterApp(t, v, "ada")
	got, second := s.refreshed(t, v, in.Refresh)
	mustBe(t, got, http.StatusOK)
	if second.Session.ID != in.Session.ID || second.Refresh == in.Refresh || second.Issued != "" {
		t.Errorf("got %s", got.Body)
	}
	mustBe(t, bearing(v, s.site+"/in", "Bearer "+in.Access), http.StatusOK)
	mustBe(t, bearing(v, s.site+"/in", "Bearer "+second.Access), http.StatusOK)
	// The app's own interceptor sends what has expired: it does no harm here.
	r := calling(v, http.MethodPost, s.site+"/.login/api/v1/token", tokenFields{"grant_type": "refresh_token", "refresh_token": second.Refresh}, "Authorization", "Bearer "+in.Access+"A")
	again := v.Do(r)
	mustBe(t, again, http.StatusOK)
	var third tokenAnswerOf
	if err := json.Unmarshal([]byte(again.Body), &third); err != nil {
		t.Fatal(err)
	}
	secrets.Keep(t, third.Access, third.Refresh)
	// Whoever has the old one, thief or owner, ends it for both.
	thief := e2e.NewVisitor(t)
	stolen, _ := s.refreshed(t, thief, in.Refresh)
	wantRefused(t, stolen, http.StatusBadRequest, "invalid_token")
	for _, dead := range []string{in.Access, second.Access, third.Access} {
		wantInvalidToken(t, bearing(v, s.site+"/in", "Bearer "+dead))
	}
	for _, dead := range []string{third.Refresh, second.Refresh, in.Refresh} {
		got, _ := s.refreshed(t, v, dead)
		wantRefused(t, got, http.StatusBadRequest, "invalid_token")
	}
	if letter := s.box.Next(time.Minute); !strings.Contains(letter.Text, "was used twice") || letter.To[0] != "ada@example.com" {
		t.Errorf("got the mail %s to %v", letter.Text, letter.To)
	}
	s.Kill()
	s.Restart()
	got, _ = s.refreshed(t, v, third.Refresh)
	wantRefused(t, got, http.StatusBadRequest, "invalid_token")
	if n := strings.Count(s.Log(), "a refresh token came twice"); n != 1 {
		t.Errorf("the log tells it %d times", n)
	}
}

func TestStolenRefreshTokenHasTheProvidersGrantTakenBack(t *testing.T) {
	t.Parallel()
	s := playForApps(t, forApps)
	v := e2e.NewVisitor(t)
	s.club.tokens["hers-at-ours"] = "club"
	_, in := s.trade(t, v, s.site, tokenFields{"grant_type": exchangeGrant, "subject_token": "hers-at-ours", "subject_token_type": accessType, "provider": "club"})
	var won atomic.Int32
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			if got, _ := s.refreshed(t, v, in.Refresh); got.StatusCode == http.StatusOK {
				won.Add(1)
			}
		})
	}
	all.Wait()
	if won.Load() > 1 { // also the one may hear that it was ended meanwhile
		t.Errorf("%d of 32 got the next", won.Load())
	}
	wantInvalidToken(t, bearing(v, s.site+"/in", "Bearer "+in.Access))
	e2e.Eventually(t, 90*time.Second, "the grant to be taken back", func() bool { return len(s.club.takenBack()) > 0 })
	s.Stop()
	for _, token := range s.club.takenBack() {
		if token != "hers-at-ours" {
			t.Errorf("taken back: %s", token)
		}
	}
	if n := strings.Count(s.Log(), "a refresh token came twice"); n != 1 {
		t.Errorf("the log tells it %d times", n)
	}
}

// verifierOf is a code verifier and its challenge (RFC 7636).
func verifierOf(name string) (verifier, challenge string) {
	verifier = strings.Repeat(name+"-", 60)[:60]
	digest := sha256.Sum256([]byte(verifier))
	return verifier, base64.RawURLEncoding.EncodeToString(digest[:])
}

func TestAppAnswersAQuestionByItsVerifier(t *testing.T) {
	t.Parallel()
	s := playForApps(t, forApps)
	v := e2e.NewVisitor(t)
	// Grace came by mail first: her account at the provider leads to her.
	s.byCode(t, v, "grace@example.com")
	// Without a way to ask, the answer is no; and the token is used up by it.
	fields := byIDToken(s.issuer.AppToken("ios", "grace", ""))
	got, _ := s.trade(t, v, s.site, fields)
	wantRefused(t, got, http.StatusConflict, "email_in_use")
	verifier, challenge := verifierOf("mine")
	fields["code_challenge"] = challenge
	got, _ = s.trade(t, v, s.site, fields)
	wantRefused(t, got, http.StatusBadRequest, "invalid_token")
	fields["subject_token"] = s.issuer.AppToken("ios", "grace", "")
	got, _ = s.trade(t, v, s.site, fields)
	mustBe(t, got, http.StatusOK)
	var asked struct {
		Status string
		Link   struct {
			ID       string
			Question string
		}
	}
	if err := json.Unmarshal([]byte(got.Body), &asked); err != nil || asked.Link.ID == "" || asked.Status != "confirm_required" || strings.Contains(got.Body, "access_token") {
		t.Fatalf("got %s, %v", got.Body, err)
	}
	secrets.Keep(t, asked.Link.ID)
	confirm := func(fields tokenFields) e2e.Answer {
		return v.Do(calling(v, http.MethodPost, s.site+"/.login/api/v1/links/"+asked.Link.ID+"/confirm", fields))
	}
	other, _ := verifierOf("another's")
	for _, wrong := range []tokenFields{{}, {"code_verifier": other}, {"code_verifier": challenge}} {
		if got := confirm(wrong); got.StatusCode == http.StatusOK {
			t.Errorf("with %v: %s", wrong, got.Body)
		}
	}
	if asked.Link.Question != "confirm_link" {
		if got := confirm(tokenFields{"code_verifier": verifier}); strings.Contains(got.Body, "access_token") {
			t.Errorf("a yes is a proof: %s", got.Body)
		}
		return
	}
	got = confirm(tokenFields{"code_verifier": verifier})
	mustBe(t, got, http.StatusOK)
	if !strings.Contains(got.Body, `"access_token"`) || !strings.Contains(got.Body, `"email":"grace@example.com"`) {
		t.Errorf("got %s", got.Body)
	}
}

// byCode signs somebody in by mail.
func (s *forAppsStage) byCode(t *testing.T, v *e2e.Visitor, address string) *e2e.Visitor {
	t.Helper()
	browser := v.Another()
	waiting := s.ask(t, browser, address, "/.login/")
	mustBe(t, browser.FollowOn(browser.Submit(waiting, "code", s.box.NextCode(e2e.Patience).Code())), http.StatusOK)
	return browser
}

// A network has 200 calls at once, and 20 more each second.
func TestNetworkAsksForTokensSoOftenAndNoMore(t *testing.T) {
	t.Parallel()
	s := playForApps(t, forApps)
	v, begun := e2e.NewVisitor(t), time.Now()
	var all sync.WaitGroup
	var answered atomic.Int64
	var refused atomic.Bool
	for range 8 { // one after the other, a slow machine makes too few
		all.Go(func() {
			for !refused.Load() && !t.Failed() {
				got, _ := s.trade(t, v, s.site, tokenFields{"grant_type": "refresh_token", "refresh_token": "x"})
				if got.Response == nil {
					return // trade has told
				}
				if got.StatusCode != http.StatusBadRequest {
					refused.Store(true)
					wantTooMany(t, got)
					return
				}
				if !strings.Contains(got.Body, `"code":"invalid_token"`) {
					t.Errorf("got %s", got.Body)
				}
				if n, most := answered.Add(1), 200+int64(time.Since(begun)/(50*time.Millisecond))+1; n > most {
					t.Errorf("%d calls in %s were not too many", n, time.Since(begun))
				}
			}
		})
	}
	all.Wait()
}

// wantTooMany checks a refusal of the token endpoint's, on any goroutine.
func wantTooMany(t *testing.T, got e2e.Answer) {
	if got.StatusCode != http.StatusTooManyRequests || got.Header.Get("Retry-After") == "" ||
		!strings.Contains(got.Body, `"code":"rate_limited"`) || !strings.Contains(got.Body, `"error":"temporarily_unavailable"`) {
		t.Errorf("got %d %v %s", got.StatusCode, got.Header, got.Body)
	}
}
