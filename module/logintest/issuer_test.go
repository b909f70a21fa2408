package logintest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

const callback = "https://app.example/callback"

var ada = Person{
	Subject: "ada", Email: "ada@example.com", EmailVerified: true,
	Name: "Ada", Picture: "https://pictures.example/ada", Groups: []string{"staff", "admins"},
}

// party is a relying party made of the libraries everybody uses: what it
// accepts is right by somebody else's judgement.
type party struct {
	t        testing.TB
	issuer   *Issuer
	clock    *Clock
	browser  *http.Client
	provider *oidc.Provider
	config   oauth2.Config
	verifier string
}

func newParty(t testing.TB) *party {
	t.Helper()
	clock := &Clock{}
	i := NewIssuer(t)
	i.Now = clock.Now
	return join(t, i, clock)
}

func join(t testing.TB, i *Issuer, clock *Clock) *party {
	t.Helper()
	i.Client("client", "s3cret:/%+ ü", callback)
	i.Person(ada)
	i.Person(Person{Subject: "eve", Email: "eve@example.com", EmailVerified: "false"})
	passing := oidc.ClientContext(t.Context(), &http.Client{Transport: passingOver{i}})
	provider, err := oidc.NewProvider(passing, i.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	endpoint := provider.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInHeader
	return &party{
		t: t, issuer: i, clock: clock, browser: newBrowser(t), provider: provider,
		config: oauth2.Config{
			ClientID: "client", ClientSecret: "s3cret:/%+ ü", RedirectURL: callback, Endpoint: endpoint,
			Scopes: []string{"openid", "profile", "email"},
		},
		verifier: oauth2.GenerateVerifier(),
	}
}

// passingOver takes out of a key set what cannot be used, as RFC 7517 section 5
// has everybody do. The library refuses the whole set.
type passingOver struct{ issuer *Issuer }

func (p passingOver) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || r.URL.Path != p.issuer.path()+p.issuer.keysPath {
		return res, err
	}
	defer res.Body.Close()
	var set struct {
		Keys []map[string]any `json:"keys"`
	}
	if err := json.NewDecoder(res.Body).Decode(&set); err != nil {
		return nil, err
	}
	set.Keys = slices.DeleteFunc(set.Keys, func(key map[string]any) bool {
		return key["use"] == "enc" || !slices.Contains([]any{"P-256", "Ed25519"}, key["crv"]) && key["kty"] != "RSA"
	})
	usable, err := json.Marshal(set)
	res.Body = io.NopCloser(bytes.NewReader(usable))
	return res, err
}

func newBrowser(t testing.TB) *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: jar}
}

// begin is the address of a log-in; more is name, value, name, value.
func (p *party) begin(more ...string) string {
	u, _ := url.Parse(p.config.AuthCodeURL("state&1", oidc.Nonce("nonce"), oauth2.S256ChallengeOption(p.verifier)))
	query := u.Query()
	for n := 0; n < len(more); n += 2 {
		query.Set(more[n], more[n+1])
	}
	u.RawQuery = query.Encode()
	return u.String()
}

// answer is what comes back to the client, of whatever response mode.
func (p *party) answer(subject string, more ...string) url.Values {
	p.t.Helper()
	at, form := p.issuer.SignIn(p.t, p.browser, p.begin(more...), subject)
	if form != nil {
		return form
	}
	return at.Query()
}

func (p *party) exchange(code string) (*oauth2.Token, error) {
	return p.config.Exchange(p.t.Context(), code, oauth2.VerifierOption(p.verifier))
}

// finish checks everything OpenID Connect Core has a client check.
func (p *party) finish(answer url.Values) (map[string]any, error) {
	if answer.Get("iss") != p.issuer.Issuer || answer.Get("error") != "" {
		return nil, fmt.Errorf("bad answer: %v", answer)
	}
	token, err := p.exchange(answer.Get("code"))
	if err != nil {
		return nil, err
	}
	raw, _ := token.Extra("id_token").(string)
	id, err := p.provider.Verifier(&oidc.Config{ClientID: "client", Now: p.clock.Now}).Verify(p.t.Context(), raw)
	if err != nil {
		return nil, err
	}
	var claims map[string]any
	if err := id.Claims(&claims); err != nil {
		return nil, err
	}
	if id.Nonce != "nonce" || id.Subject == "" || claims["iat"] == nil {
		return nil, errors.New("nonce, sub or iat")
	}
	if id.AccessTokenHash != "" {
		if err := id.VerifyAccessToken(token.AccessToken); err != nil {
			return nil, err
		}
	}
	info, err := p.provider.UserInfo(p.t.Context(), oauth2.StaticTokenSource(token))
	if err != nil || info.Subject != id.Subject {
		return nil, fmt.Errorf("userinfo: %v, %w", info, errors.Join(err))
	}
	return claims, nil
}

func TestLoginIsRightByGoOIDCsJudgement(t *testing.T) {
	for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
		for _, mode := range []string{"query", "form_post"} {
			p := newParty(t)
			p.issuer.Alg = alg
			answer := p.answer("ada", "response_mode", mode)
			if answer.Get("state") != "state&1" {
				t.Errorf("state came back as %q", answer.Get("state"))
			}
			claims, err := p.finish(answer)
			if err != nil {
				t.Fatalf("%s, %s: %v", alg, mode, err)
			}
			if claims["sub"] != "ada" || claims["email_verified"] != true || fmt.Sprint(claims["groups"]) != "[staff admins]" {
				t.Errorf("claims: %v", claims)
			}
		}
	}
}

func TestClientMayAuthenticateByPost(t *testing.T) {
	p := newParty(t)
	p.config.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	if _, err := p.finish(p.answer("ada")); err != nil {
		t.Fatal(err)
	}
}

func TestIssuerMayHaveAPathAndEndInASlash(t *testing.T) {
	outer := NewIssuer(t)
	outer.Issuer += "/tenant/"
	p := join(t, outer, &Clock{})
	if _, err := p.finish(p.answer("ada")); err != nil {
		t.Fatal(err)
	}
	if got := p.answer("ada"); got.Get("iss") != outer.Issuer {
		t.Fatalf("iss is %q", got.Get("iss"))
	}
}

func TestScopesLimitClaims(t *testing.T) {
	p := newParty(t)
	p.config.Scopes = []string{"openid"}
	claims, err := p.finish(p.answer("ada"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"email", "email_verified", "name", "picture", "groups"} {
		if claims[name] != nil {
			t.Errorf("%s was sent", name)
		}
	}
}

func TestEmailVerifiedIsSentAsItIs(t *testing.T) {
	p := newParty(t)
	if claims, err := p.finish(p.answer("eve")); err != nil || claims["email_verified"] != "false" {
		t.Fatalf("got %v, %v", claims, err)
	}
	p.issuer.Person(Person{Subject: "eve", Email: "eve@example.com", Claims: map[string]any{"xms_edov": 1}})
	claims, err := p.finish(p.answer("eve", "prompt", "login"))
	if _, there := claims["email_verified"]; err != nil || there || claims["xms_edov"] != 1.0 {
		t.Fatalf("got %v, %v", claims, err)
	}
}

func TestSessionSavesTheQuestion(t *testing.T) {
	p := newParty(t)
	p.answer("ada")
	began := p.clock.Now().Unix()
	p.clock.Advance(time.Hour)
	claims, err := p.finish(p.answer("eve"))
	if err != nil || claims["sub"] != "ada" || when(claims) != began {
		t.Fatalf("got %v, %v", claims, err)
	}
}

// when is auth_time, without the fraction it may have.
func when(claims map[string]any) int64 {
	seconds, _ := claims["auth_time"].(float64)
	return int64(seconds)
}

func TestPromptAndMaxAgeAskAgain(t *testing.T) {
	for _, more := range [][]string{{"prompt", "login"}, {"prompt", "select_account"}, {"prompt", "consent"}, {"max_age", "1800"}, {"max_age", "0"}} {
		p := newParty(t)
		p.answer("ada")
		p.clock.Advance(time.Hour)
		claims, err := p.finish(p.answer("eve", more...))
		if err != nil || claims["sub"] != "eve" || when(claims) != p.clock.Now().Unix() {
			t.Errorf("%v: %v, %v", more, claims, err)
		}
	}
}

func TestSessionEnds(t *testing.T) {
	p := newParty(t)
	p.answer("ada")
	p.clock.Advance(sessionLife)
	if got := p.answer("", "prompt", "none").Get("error"); got != "login_required" {
		t.Fatalf("error is %q", got)
	}
}

func TestPromptNoneNeverAsks(t *testing.T) {
	p := newParty(t)
	got := p.answer("ada", "prompt", "none")
	if got.Get("error") != "login_required" || got.Get("state") != "state&1" || got.Get("iss") != p.issuer.Issuer {
		t.Fatalf("got %v", got)
	}
	p.answer("ada")
	if _, err := p.finish(p.answer("", "prompt", "none")); err != nil {
		t.Fatal(err)
	}
}

func TestSayingNoIsAccessDenied(t *testing.T) {
	p := newParty(t)
	if got := p.answer(""); got.Get("error") != "access_denied" || got.Has("code") {
		t.Fatalf("got %v", got)
	}
}

func TestMalformedRequestsAreToldToTheClient(t *testing.T) {
	p := newParty(t)
	for _, row := range [][]string{
		{"unsupported_response_type", "response_type", "code id_token"},
		{"invalid_scope", "scope", "profile"},
		{"invalid_request", "code_challenge", ""},
		{"invalid_request", "code_challenge_method", "plain"},
		{"invalid_request", "response_mode", "fragment"},
		{"invalid_request", "prompt", "none login"},
		{"invalid_request", "max_age", "-1"},
		{"invalid_request", "nonce", strings.Repeat("n", maxParameter+1)},
		{"request_not_supported", "request", "e30."},
		{"request_uri_not_supported", "request_uri", "https://attacker.example"},
	} {
		if got := p.answer("ada", row[1:]...); got.Get("error") != row[0] || got.Has("code") {
			t.Errorf("%v: %v", row, got)
		}
	}
}

func TestNobodyIsSentToAnUnknownAddress(t *testing.T) {
	p := newParty(t)
	for _, u := range []string{
		p.begin("client_id", "other"),
		p.begin("redirect_uri", "https://attacker.example"),
		p.begin("redirect_uri", callback+"/"),
		p.begin("redirect_uri", ""),
		p.begin() + "&state=2",
		p.begin() + "&redirect_uri=https://attacker.example",
	} {
		res, err := p.browser.Get(u)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d", u, res.StatusCode)
		}
	}
}

func TestForeignSiteCannotPickForTheVisitor(t *testing.T) {
	p := newParty(t)
	for name, value := range map[string]string{"Origin": "https://attacker.example", "Sec-Fetch-Site": "cross-site"} {
		u := strings.Replace(p.begin(), "/oauth/authorize?", "/oauth/pick?", 1)
		req, _ := http.NewRequest("POST", u, strings.NewReader("subject=ada"))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set(name, value)
		res, err := p.browser.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusForbidden || len(res.Cookies()) > 0 {
			t.Errorf("%s: %d", name, res.StatusCode)
		}
	}
}

func TestCodeIsSpentOnce(t *testing.T) {
	p := newParty(t)
	code := p.answer("ada").Get("code")
	var won atomic.Int32
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			if _, err := p.exchange(code); err == nil {
				won.Add(1)
			}
		})
	}
	all.Wait()
	if won.Load() != 1 {
		t.Fatalf("%d got a token", won.Load())
	}
}

func TestCodeUsedTwiceTakesTheTokenBack(t *testing.T) {
	p := newParty(t)
	code := p.answer("ada").Get("code")
	token, err := p.exchange(code)
	if err != nil {
		t.Fatal(err)
	}
	p.exchange(code)
	if _, err := p.provider.UserInfo(t.Context(), oauth2.StaticTokenSource(token)); err == nil {
		t.Fatal("the token still works")
	}
}

func TestCodeIsBoundToItsRequest(t *testing.T) {
	for name, change := range map[string]func(*party){
		"other redirect_uri": func(p *party) { p.config.RedirectURL += "2" },
		"other verifier":     func(p *party) { p.verifier = oauth2.GenerateVerifier() },
		"no verifier":        func(p *party) { p.verifier = "" },
		"wrong secret":       func(p *party) { p.config.ClientSecret = "guess" },
		"no secret":          func(p *party) { p.config.ClientSecret = "" },
		"unknown client":     func(p *party) { p.config.ClientID = "nobody" },
		"another client": func(p *party) {
			p.issuer.Client("b", "b", callback)
			p.config.ClientID, p.config.ClientSecret = "b", "b"
		},
		"60 seconds too late": func(p *party) { p.clock.Advance(codeLife) },
	} {
		p := newParty(t)
		code := p.answer("ada").Get("code")
		change(p)
		if _, err := p.exchange(code); err == nil {
			t.Errorf("%s: got a token", name)
		}
	}
}

func TestClientMustNotAuthenticateTwice(t *testing.T) {
	p := newParty(t)
	form := url.Values{"grant_type": {"authorization_code"}, "client_id": {"client"}, "client_secret": {"x"}}
	req, _ := http.NewRequest("POST", p.config.Endpoint.TokenURL, strings.NewReader(form.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth("client", "x")
	if got := answered(t, req); got["error"] != "invalid_request" {
		t.Fatalf("got %v", got)
	}
}

func answered(t testing.TB, req *http.Request) map[string]any {
	t.Helper()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var doc map[string]any
	if err := json.NewDecoder(res.Body).Decode(&doc); err != nil {
		t.Fatalf("status %d: %v", res.StatusCode, err)
	}
	return doc
}

func TestUserInfoWantsTheTokenInTheHeader(t *testing.T) {
	p := newParty(t)
	token, err := p.exchange(p.answer("ada").Get("code"))
	if err != nil {
		t.Fatal(err)
	}
	u := p.issuer.URL + "/oauth/userinfo"
	for header, want := range map[string]any{
		"Bearer " + token.AccessToken: "ada", "bearer " + token.AccessToken: "ada",
		"": nil, "Bearer x": nil, "Basic " + token.AccessToken: nil,
	} {
		req, _ := http.NewRequest("GET", u+"?access_token="+token.AccessToken, nil)
		req.Header.Set("Authorization", header)
		if got := answered(t, req); got["sub"] != want {
			t.Errorf("%.8s: %v", header, got)
		}
	}
	p.clock.Advance(tokenLife)
	req, _ := http.NewRequest("GET", u, nil)
	token.SetAuthHeader(req)
	if got := answered(t, req); got["error"] != "invalid_token" {
		t.Errorf("after its life: %v", got)
	}
}

func TestRotatedKeysReplaceTheOld(t *testing.T) {
	p := newParty(t)
	before := p.published()
	p.issuer.RotateKeys()
	after := p.published()
	if len(before) != 10 || len(after) != 10 {
		t.Fatalf("published %v, then %v", before, after)
	}
	for kid := range after {
		if before[kid] {
			t.Errorf("%s stayed", kid)
		}
	}
	if _, err := p.finish(p.answer("ada")); err != nil {
		t.Fatal(err)
	}
}

// published is the kids of the published keys; it fails if one is not public.
func (p *party) published() map[string]bool {
	p.t.Helper()
	res, err := http.Get(p.issuer.URL + p.issuer.keysPath)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	var set struct{ Keys []map[string]any }
	if err := json.NewDecoder(res.Body).Decode(&set); err != nil {
		p.t.Fatal(err)
	}
	kids := map[string]bool{}
	for _, key := range set.Keys {
		if key["d"] != nil {
			p.t.Error("a private key is published")
		}
		kids[key["kid"].(string)] = true
	}
	return kids
}

func TestCallsAreCounted(t *testing.T) {
	p := newParty(t)
	if _, err := p.finish(p.answer("ada")); err != nil {
		t.Fatal(err)
	}
	if got := p.issuer.Calls(); got != (Calls{Discovery: 1, Keys: 1, Authorize: 1, Token: 1, UserInfo: 1}) {
		t.Fatalf("counted %+v", got)
	}
}

func TestDownDropsConnections(t *testing.T) {
	p := newParty(t)
	p.issuer.Down(true)
	if _, err := p.exchange("x"); !errors.Is(err, io.EOF) {
		t.Fatalf("got %v", err)
	}
	p.issuer.Down(false)
	if _, err := p.finish(p.answer("ada")); err != nil {
		t.Fatal(err)
	}
}

func TestSlowWaits(t *testing.T) {
	p := newParty(t)
	p.issuer.Slow(time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := p.config.Exchange(ctx, "x"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	p.issuer.Slow(time.Millisecond)
	if _, err := p.finish(p.answer("ada")); err != nil {
		t.Fatal(err)
	}
}

func (p *party) idToken() string {
	p.t.Helper()
	token, err := p.exchange(p.answer("ada").Get("code"))
	if err != nil {
		p.t.Fatal(err)
	}
	return token.Extra("id_token").(string)
}

// signedIn asks the issuer itself.
func (p *party) signedIn() bool { return p.answer("", "prompt", "none").Has("code") }

// leave opens the end-session endpoint; it returns where that redirects to, or
// the page.
func (p *party) leave(query url.Values) (*url.URL, *document) {
	p.t.Helper()
	still := *p.browser
	still.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	at, page, err := open(still.Get(p.issuer.URL + "/oauth/logout?" + query.Encode()))
	if err != nil {
		p.t.Fatal(err)
	}
	return at, page
}

func TestLogoutWithAHintGoesStraightBack(t *testing.T) {
	p := newParty(t)
	hint := p.idToken()
	p.clock.Advance(time.Hour)
	at, _ := p.leave(url.Values{"id_token_hint": {hint}, "post_logout_redirect_uri": {"https://app.example/bye?a=b"}, "state": {"x"}})
	if at.String() != "https://app.example/bye?a=b&state=x" {
		t.Fatalf("landed at %s", at)
	}
	if p.signedIn() {
		t.Fatal("still signed in")
	}
}

func TestLogoutWithoutATrueHintAsks(t *testing.T) {
	p := newParty(t)
	hint := p.idToken()
	for name, query := range map[string]url.Values{
		"no hint":     {"client_id": {"client"}},
		"forged hint": {"id_token_hint": {hint[:len(hint)-5] + "AAAAA"}},
	} {
		if _, page := p.leave(query); page == nil || !p.signedIn() {
			t.Errorf("%s: was signed out unasked", name)
		}
	}
	_, page := p.leave(url.Values{"client_id": {"client"}, "post_logout_redirect_uri": {"https://app.example/"}})
	target, fields, err := page.form()
	if err != nil {
		t.Fatal(err)
	}
	p.browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	at, _, err := open(p.browser.PostForm(target.String(), fields))
	if err != nil || at.String() != "https://app.example/" || p.signedIn() {
		t.Fatalf("landed at %v, %v", at, err)
	}
}

func TestLogoutLeadsToNoForeignPlace(t *testing.T) {
	p := newParty(t)
	for _, back := range []string{"https://attacker.example/", "https://app.example.attacker.example/", "//attacker.example", "/", "http://app.example/", "https://app.example@attacker.example/", "https://u@app.example/", "javascript:alert(1)"} {
		at, page := p.leave(url.Values{"client_id": {"client"}, "post_logout_redirect_uri": {back}})
		if page == nil {
			t.Errorf("%s: sent to %s", back, at)
		}
	}
}

func TestIssuersCookieStaysWithItsOwnPages(t *testing.T) {
	p := newParty(t)
	p.answer("ada")
	root, _ := url.Parse(p.issuer.URL)
	if cookies := p.browser.Jar.Cookies(root); len(cookies) > 0 {
		t.Fatalf("an app on this host gets %v", cookies)
	}
}

func TestPagesHoldMarkupAsText(t *testing.T) {
	p := newParty(t)
	p.issuer.Person(Person{Subject: `"><b>`, Name: "<script>alert(1)</script>", Groups: []string{"<i>"}})
	res, err := p.browser.Get(p.begin("state", `"><script>`))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	if strings.Contains(string(body), "<script>") || strings.Contains(string(body), "<i>") || strings.Contains(string(body), "<b>") {
		t.Error("markup came through")
	}
	if !strings.Contains(string(body), "Demo provider — pick who you want to be") {
		t.Error("the title is missing")
	}
}

func TestIssuerKeepsNoMoreThanItsShelvesHold(t *testing.T) {
	p := newParty(t)
	for range maxKept + 50 {
		p.issuer.mu.Lock()
		key := fmt.Sprint(len(p.issuer.codes.order), p.clock.Now().UnixNano())
		p.issuer.codes.put(key, &login{}, p.clock.Now())
		p.issuer.mu.Unlock()
		p.clock.Advance(1)
	}
	if n, m := len(p.issuer.codes.items), len(p.issuer.codes.order); n != maxKept || m != maxKept {
		t.Fatalf("%d codes, %d in order", n, m)
	}
	p.clock.Advance(codeLife)
	p.answer("ada")
	if n := len(p.issuer.codes.items); n != 1 {
		t.Fatalf("%d codes after their life", n)
	}
}

func TestClockGoesOnlyWhenTold(t *testing.T) {
	var c Clock
	start := c.Now()
	if !c.Now().Equal(start) {
		t.Fatal("it went by itself")
	}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { c.Advance(time.Minute) })
	}
	all.Wait()
	if got := c.Now().Sub(start); got != 50*time.Minute {
		t.Fatalf("it went %v", got)
	}
	c.Set(time.Unix(0, 0))
	if c.Advance(-time.Second); c.Now().Unix() != -1 {
		t.Fatalf("it shows %v", c.Now())
	}
}
