package main_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	nethtml "golang.org/x/net/html"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// besieged is a site with two ways in, by query and by form_post, and with
// every log on that Caddy has.
const besieged = `
{
	debug
}
https://app.test:{$PORT} {
	log
	login {
		oidc op site {env.OP_SECRET} {
			issuer {$ISSUER}
			label "Our <b>People</b>"
			groups groups
		}
		oidc post site {env.OP_SECRET} {
			issuer {$ISSUER}
			response_mode form_post
		}
		allow /public/* anyone
		allow /staff/* group:staff
		allow users
		pages {
			title "<script>alert(1)</script>"
		}
	}
	reverse_proxy {$APP}
}
`

// strongSecret is long enough for the issuer to misuse it for HS256.
const strongSecret = "the client's secret & more than thirty-two bytes of it"

// siege is a Caddy whose provider does as an attacker would like it to.
type siege struct {
	*stage
	issuer *logintest.Issuer

	mu      sync.Mutex
	secrets []string
}

// besiege starts everything. The people there have neither address nor groups,
// so that userinfo is asked for each of them.
func besiege(t *testing.T, caddyfile string, providers ...string) *siege {
	t.Helper()
	s := &siege{stage: &stage{Caddy: e2e.NewCaddy(t, e2e.Build(t)), app: e2e.NewApp(t)}, issuer: logintest.NewIssuer(t)}
	s.issuer.Issuer = s.issuer.URL + "/"
	s.site = fmt.Sprintf("https://app.test:%d", s.Port)
	var callbacks []string
	for _, name := range append(providers, "op", "post") {
		callbacks = append(callbacks, s.site+"/.login/"+name+"/callback")
	}
	s.issuer.Client("site", strongSecret, callbacks...)
	for _, name := range []string{"ada", "grace", "mallory"} {
		s.issuer.Person(logintest.Person{Subject: name, Name: name})
	}
	s.always(logintest.Faults{})
	s.Env["APP"], s.Env["ISSUER"], s.Env["OP_SECRET"] = s.app.Addr, s.issuer.Issuer, strongSecret
	s.Start(caddyfile)
	t.Cleanup(func() { s.LogKeepsSecret(s.known()...) })
	return s
}

// always is the issuer's Always that also keeps what it gives out.
func (s *siege) always(f logintest.Faults) {
	s.issuer.Always(logintest.Faults{
		Answer: func(q url.Values) { s.keep(q.Get("code"), q.Get("state")) },
		IDToken: func(claims map[string]any) {
			nonce, _ := claims["nonce"].(string)
			s.keep(nonce)
		},
		Signed: func(token string) string { s.keep(token); return token },
		Token: func(answer map[string]any) {
			access, _ := answer["access_token"].(string)
			s.keep(access)
		},
	}.And(f))
}

func (s *siege) keep(secrets ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, secret := range secrets {
		if secret != "" {
			s.secrets = append(s.secrets, secret)
		}
	}
}

// known are the secrets given out, the first few hundred of them.
func (s *siege) known() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := distinct(append([]string{strongSecret, url.QueryEscape(strongSecret)}, s.secrets...))
	return all[:min(len(all), 300)]
}

// coming is a sign-in up to the provider's answer, not yet delivered.
type coming struct {
	callback string
	form     url.Values // where the answer is posted
	cookies  []string
}

// come begins a sign-in and says at the provider who it is. It may run on any
// goroutine.
func (s *siege) come(v *e2e.Visitor, provider, subject string) (coming, error) {
	begun, err := v.Try(v.Navigation(s.site + "/.login/" + provider + "?return=%2Fpublic%2Fin"))
	if err != nil {
		return coming{}, err
	}
	to, err := begun.Location()
	if err != nil {
		return coming{}, fmt.Errorf("beginning: %d %.300s", begun.StatusCode, begun.Body)
	}
	c := coming{cookies: v.Cookies(s.site)}
	s.keep(secretValues(c.cookies)...)
	s.keep(to.Query().Get("state"), to.Query().Get("nonce"), to.Query().Get("code_challenge"))
	c.callback, c.form, err = pick(to.String(), subject)
	return c, err
}

func secretValues(cookies []string) (values []string) {
	for _, pair := range cookies {
		_, value, _ := strings.Cut(pair, "=")
		values = append(values, value)
	}
	return values
}

func (s *siege) mustCome(t *testing.T, v *e2e.Visitor, provider, subject string) coming {
	t.Helper()
	c, err := s.come(v, provider, subject)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var hidden = regexp.MustCompile(`name="([^"]+)" value="([^"]*)"`)

// pick is the click on a person at the issuer's page.
func pick(authURL, subject string) (callback string, form url.Values, err error) {
	still := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := still.PostForm(strings.Replace(authURL, "/oauth/authorize?", "/oauth/pick?", 1), url.Values{"subject": {subject}})
	if err != nil {
		return "", nil, err
	}
	defer answer.Body.Close()
	if to := answer.Header.Get("Location"); to != "" {
		return to, nil, nil
	}
	page, err := io.ReadAll(answer.Body)
	if err != nil {
		return "", nil, err
	}
	form = url.Values{}
	for _, match := range hidden.FindAllStringSubmatch(string(page), -1) {
		form.Set(match[1], html.UnescapeString(match[2]))
	}
	if len(form) == 0 {
		return "", nil, fmt.Errorf("the issuer answered %d: %.300s", answer.StatusCode, page)
	}
	return "", form, nil
}

// again is the same browser as it was when the answer first came, cookies and
// all.
func (c coming) again(v *e2e.Visitor, address string) *http.Request {
	r := v.Navigation(address)
	r.Header.Set("Cookie", strings.Join(c.cookies, "; "))
	return r
}

// post delivers a form as a provider's page would: across sites, without our
// Lax cookies.
func (s *siege) post(v *e2e.Visitor, provider, body, contentType string) *http.Request {
	r := v.Request(http.MethodPost, s.site+"/.login/"+provider+"/callback", body)
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Accept", "text/html")
	r.Header.Set("Origin", s.issuer.URL)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	return r
}

const formType = "application/x-www-form-urlencoded"

var onward = regexp.MustCompile(`content="0;url=([^"]+)"`)

// parked posts an answer and returns where the page sends the browser.
func (s *siege) parked(t *testing.T, form url.Values) string {
	t.Helper()
	v := e2e.NewVisitor(t)
	got := v.Do(s.post(v, "post", form.Encode(), formType))
	mustBe(t, got, http.StatusOK)
	match := onward.FindStringSubmatch(got.Body)
	if match == nil || session(got) != "" {
		t.Fatalf("the posted answer was not parked:\n%s", got.Body)
	}
	to := s.site + html.UnescapeString(match[1])
	s.keep(strings.SplitN(to, "handle=", 2)[1])
	return to
}

// enter signs somebody in, on any goroutine.
func (s *siege) enter(v *e2e.Visitor, subject string) (string, error) {
	c, err := s.come(v, "op", subject)
	if err != nil {
		return "", err
	}
	got, err := v.Try(v.Navigation(c.callback))
	if err != nil {
		return "", err
	}
	if strings.HasSuffix(got.Header.Get("Location"), "/.login/confirm") {
		// The browser is somebody else's: who comes says that they want it so.
		if got, err = s.say(v, "switch"); err != nil {
			return "", err
		}
	}
	if cookie := session(got); cookie != "" {
		s.keep(cookie)
		return cookie, nil
	}
	return "", fmt.Errorf("callback: %d %.300s", got.StatusCode, got.Body)
}

var question = regexp.MustCompile(`name="ask" value="([^"]+)"`)

// say answers the question that waits in a browser, on any goroutine.
func (s *siege) say(v *e2e.Visitor, do string) (e2e.Answer, error) {
	asked, err := v.Try(v.Navigation(s.site + "/.login/confirm"))
	if err != nil {
		return e2e.Answer{}, err
	}
	match := question.FindStringSubmatch(asked.Body)
	if match == nil {
		return e2e.Answer{}, fmt.Errorf("no question: %d %.300s", asked.StatusCode, asked.Body)
	}
	r := v.Request(http.MethodPost, s.site+"/.login/confirm", url.Values{"ask": {match[1]}, "do": {do}}.Encode())
	r.Header.Set("Content-Type", formType)
	r.Header.Set("Origin", s.site)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return v.Try(r)
}

// leave signs out, on any goroutine.
func (s *siege) leave(v *e2e.Visitor) error {
	r := v.Request(http.MethodPost, s.site+"/.login/logout", "")
	r.Header.Set("Origin", s.site)
	got, err := v.Try(r)
	// A page leads on to the provider's own sign-out.
	if err == nil && got.StatusCode != http.StatusSeeOther && got.StatusCode != http.StatusOK {
		err = fmt.Errorf("sign-out: %d", got.StatusCode)
	}
	return err
}

func (s *siege) mustEnter(t *testing.T, subject string) *e2e.Visitor {
	t.Helper()
	v := e2e.NewVisitor(t)
	if _, err := s.enter(v, subject); err != nil {
		t.Fatal(err)
	}
	return v
}

// failures are the request ids of the lines that say so.
func (s *siege) failures() (ids []string) {
	for _, line := range s.Logs() {
		if line["msg"] == "sign-in failed" {
			id, _ := line["request_id"].(string)
			ids = append(ids, id)
		}
	}
	return ids
}

// wantFailures waits until the log has a line for each id, and no other since.
func (s *siege) wantFailures(t *testing.T, before int, ids ...string) {
	t.Helper()
	e2e.Eventually(t, e2e.Patience, "the log to tell of the failure", func() bool { return len(s.failures()) >= before+len(ids) })
	if got := s.failures()[before:]; !slices.Equal(got, ids) {
		t.Errorf("lines for requests %q, want %q", got, ids)
	}
}

// outcomeOf is what the log says of a failed sign-in.
func (s *siege) outcomeOf(id string) any {
	for _, line := range s.Logs() {
		if line["msg"] == "sign-in failed" && line["request_id"] == id {
			return line["outcome"]
		}
	}
	return nil
}

// asked is how often the issuer was asked by Caddy, not by browsers.
func (s *siege) asked() logintest.Calls {
	calls := s.issuer.Calls()
	calls.Authorize = 0
	return calls
}

// refused checks a page for a failed sign-in: its status, an id, no cookie but
// those that go.
func refused(t *testing.T, got e2e.Answer, statuses ...int) (id string) {
	t.Helper()
	if !slices.Contains(statuses, got.StatusCode) {
		t.Fatalf("%d, want one of %v:\n%.1500s", got.StatusCode, statuses, got.Body)
	}
	for _, cookie := range got.Cookies() {
		if cookie.MaxAge >= 0 {
			t.Errorf("sets %s", cookie.Name)
		}
	}
	if id = uuid.FindString(got.Body); id == "" {
		t.Errorf("no request id on the page:\n%s", got.Body)
	}
	return id
}

// crime is what an issuer does wrong, and how far a careful client goes with
// it: answer (nothing is asked), token, or userinfo.
type crime struct {
	name   string
	faults logintest.Faults
	far    string
	status int
}

// crimes are those that no suite of others knows; see also TestConformance.
func crimes(t *testing.T) (all []crime) {
	for name, faults := range worseTokens(t) {
		all = append(all, crime{name, faults, "token", 0})
	}
	for name, faults := range worseAnswers() {
		all = append(all, crime{name, faults, "answer", 0})
	}
	all = append(all, worseBodies("token")...)
	return append(all, worseBodies("userinfo")...)
}

func worseTokens(t *testing.T) map[string]logintest.Faults {
	return map[string]logintest.Faults{
		"sub is a number":              logintest.Set("sub", 7),
		"sub with a line break":        logintest.Set("sub", "ada\nroot"),
		"sub is null":                  logintest.Set("sub", nil),
		"exp is text":                  logintest.Set("exp", "4102444800"),
		"exp is negative":              logintest.Set("exp", -1),
		"iss with another slash":       {IDToken: func(c map[string]any) { c["iss"] = c["iss"].(string) + "/" }},
		"iss in another case":          {IDToken: func(c map[string]any) { c["iss"] = strings.ToUpper(c["iss"].(string)) }},
		"nonce in another case":        {IDToken: func(c map[string]any) { c["nonce"] = swapCase(c["nonce"].(string)) }},
		"nonce is a list":              {IDToken: func(c map[string]any) { c["nonce"] = []any{c["nonce"]} }},
		"iss under another name":       {IDToken: func(c map[string]any) { c["Iss"] = c["iss"]; delete(c, "iss") }},
		"attacker's key in the header": {Signed: withOwnKey(t)},
		"HS256 with an empty secret":   {Signed: withSharedSecret("")},
		"HS256 with the public name":   {Signed: withSharedSecret("site")},
		"alg nOnE":                     {Signed: withoutSignature("nOnE")},
		"no signature":                 {Signed: func(token string) string { return token[:strings.LastIndexByte(token, '.')+1] }},
		"a line break in the token":    {Signed: func(token string) string { return token[:9] + "\n" + token[9:] }},
		"padding behind the token":     {Signed: func(token string) string { return token + "=" }},
		"no ID token":                  {Token: func(a map[string]any) { delete(a, "id_token") }},
		"ID token is a list":           {Token: func(a map[string]any) { a["id_token"] = []any{a["id_token"]} }},
		"token type mac":               {Token: func(a map[string]any) { a["token_type"] = "mac" }},
		"another access token":         {Token: func(a map[string]any) { a["access_token"] = "another" }},
	}
}

func inHeader(name string, value any) logintest.Faults {
	return logintest.Faults{Header: func(header map[string]any) { header[name] = value }}
}

func swapCase(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 32
		case 'A' <= r && r <= 'Z':
			return r + 32
		}
		return r
	}, s)
}

func payloadOf(token string) string { return strings.Split(token, ".")[1] }

// withOwnKey signs with the attacker's key and brings it along in the header.
func withOwnKey(t *testing.T) func(string) string {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return func(token string) string {
		payload, _ := base64.RawURLEncoding.DecodeString(payloadOf(token))
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key}, &jose.SignerOptions{EmbedJWK: true})
		if err != nil {
			return "no token"
		}
		signed, err := signer.Sign(payload)
		if err != nil {
			return "no token"
		}
		compact, _ := signed.CompactSerialize()
		return compact
	}
}

func withSharedSecret(secret string) func(string) string {
	return func(token string) string {
		head := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + payloadOf(token)
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(head))
		return head + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
}

func withoutSignature(alg string) func(string) string {
	return func(token string) string {
		return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"`+alg+`"}`)) + "." + payloadOf(token) + "."
	}
}

func worseAnswers() map[string]logintest.Faults {
	answer := func(name, value string) logintest.Faults {
		return logintest.Faults{Answer: func(q url.Values) { q.Set(name, value) }}
	}
	return map[string]logintest.Faults{
		"an error of markup":         logintest.ErrorAnswer("<script>alert(document.domain)</script>"),
		"an error and a code":        answer("error", "server_error"),
		"error of another's issuer":  logintest.ErrorAnswer("access_denied").And(logintest.WrongAnswerIssuer()),
		"no code":                    {Answer: func(q url.Values) { q.Del("code") }},
		"empty code":                 answer("code", ""),
		"iss without its slash":      {Answer: func(q url.Values) { q.Set("iss", strings.TrimSuffix(q.Get("iss"), "/")) }},
		"an ID token in the address": logintest.Faults{Answer: func(q url.Values) { q.Del("code"); q.Set("id_token", "x.y.z") }},
	}
}

// worseBodies are answers of one endpoint that are no right JSON at all.
func worseBodies(endpoint string) []crime {
	body := func(make func() io.Reader) logintest.Faults {
		return logintest.Faults{Response: func(r *logintest.Response) {
			if r.Endpoint == endpoint {
				r.Body = make()
			}
		}}
	}
	text := func(s string) logintest.Faults { return body(func() io.Reader { return strings.NewReader(s) }) }
	status := func(code int) logintest.Faults {
		return logintest.Faults{Response: func(r *logintest.Response) {
			if r.Endpoint == endpoint {
				r.Status = code
				r.Header.Set("Location", "http://169.254.169.254/latest/meta-data/")
			}
		}}
	}
	all := []crime{
		{"not JSON", text("<html>"), endpoint, 0},
		{"JSON of a list", text(`["sub"]`), endpoint, 0},
		{"a redirect inside", status(http.StatusFound), endpoint, http.StatusBadGateway},
		{"500", status(http.StatusInternalServerError), endpoint, http.StatusBadGateway},
		{"429", status(http.StatusTooManyRequests), endpoint, http.StatusBadGateway},
		{"401", status(http.StatusUnauthorized), endpoint, 0},
		{"a cut connection", body(func() io.Reader { panic(http.ErrAbortHandler) }), endpoint, http.StatusBadGateway},
	}
	if endpoint == "userinfo" {
		all = append(all, crime{"sub in another case", text(`{"Sub":"ada"}`), endpoint, 0})
	}
	for i := range all {
		all[i].name += " from " + endpoint
	}
	return all
}

func TestRefusedSignInsLeaveNothingBehind(t *testing.T) {
	s := besiege(t, besieged)
	s.mustEnter(t, "ada") // the keys are known from here on
	s.app.Forget()
	for _, crime := range crimes(t) {
		t.Run(crime.name, func(t *testing.T) { s.convict(t, crime) })
	}
	t.Run("the next honest one", func(t *testing.T) { s.mustEnter(t, "grace") })
}

// convict plays one crime.
func (s *siege) convict(t *testing.T, crime crime) {
	tried := trial{s, e2e.NewVisitor(t), "op", "spent"}
	tried.convict(t, crime)
}

func TestDishonestDiscoveryStopsBeforeTheProvider(t *testing.T) {
	reply := func(change func(*logintest.Response)) logintest.Faults {
		return logintest.Faults{Response: func(r *logintest.Response) {
			if r.Endpoint == "discovery" {
				change(r)
			}
		}}
	}
	document := func(name, value string) logintest.Faults {
		return logintest.Faults{Discovery: func(doc map[string]any) { doc[name] = value }}
	}
	lies := []logintest.Row{
		{Name: "inside", Faults: document("token_endpoint", "http://169.254.169.254/token")},
		{Name: "script", Faults: document("authorization_endpoint", "javascript:alert(1)")},
		{Name: "data", Faults: document("authorization_endpoint", "data:text/html,x")},
		{Name: "file", Faults: document("jwks_uri", "file:///etc/passwd")},
		{Name: "userinfo", Faults: document("authorization_endpoint", "https://ada:secret@evil.example/")},
		{Name: "twice", Faults: reply(func(r *logintest.Response) { r.Body = strings.NewReader(`{"issuer":"a","issuer":"b"}`) })},
		{Name: "redirect", Faults: reply(func(r *logintest.Response) { r.Status = 302; r.Header.Set("Location", "http://127.0.0.1:1/") })},
	}
	config, names := besieged, []string{}
	for _, lie := range lies {
		names = append(names, lie.Name)
		config = strings.Replace(config, "\t\tallow /public", "\t\toidc "+lie.Name+" site {env.OP_SECRET} {\n\t\t\tissuer {$ISSUER}\n\t\t}\n\t\tallow /public", 1)
	}
	s := besiege(t, config, names...)
	for _, lie := range lies {
		before := len(s.failures())
		s.always(lie.Faults)
		v := e2e.NewVisitor(t)
		got := v.Get(s.site + "/.login/" + lie.Name + "?return=%2F")
		s.wantFailures(t, before, refused(t, got, 400, 502))
		if got.Header.Get("Location") != "" || len(v.Cookies(s.site)) > 0 {
			t.Errorf("%s: goes to %q with %q", lie.Name, got.Header.Get("Location"), v.Cookies(s.site))
		}
	}
	s.always(logintest.Faults{})
	s.mustEnter(t, "ada")
}

func TestAnswerOfOneProviderIsSpentAtAnother(t *testing.T) {
	s := besiege(t, strings.Replace(besieged, "oidc post", "oidc twin site {env.OP_SECRET} {\n\t\t\tissuer {$ISSUER}\n\t\t}\n\t\toidc post", 1), "twin")
	v := e2e.NewVisitor(t)
	c := s.mustCome(t, v, "op", "ada")
	wantErrorPage(t, v.Get(strings.Replace(c.callback, "/op/", "/twin/", 1)))
	id := wantErrorPage(t, v.Another().Do(c.again(v, c.callback)))
	e2e.Eventually(t, e2e.Patience, "the log", func() bool { return s.outcomeOf(id) != nil })
	if outcome := s.outcomeOf(id); outcome != "spent" || s.asked().Token != 0 {
		t.Errorf("outcome %v, %d codes redeemed", outcome, s.asked().Token)
	}
}

func TestPostedAnswerIsForOneBrowserOnce(t *testing.T) {
	s := besiege(t, besieged)
	v := e2e.NewVisitor(t)
	c := s.mustCome(t, v, "post", "ada")

	// Forms that are none, or too long, or of nobody's state.
	multipart := "--b\r\nContent-Disposition: form-data; name=\"state\"\r\n\r\n" + c.form.Get("state") + "\r\n--b--\r\n"
	for what, r := range map[string]*http.Request{
		"huge":            s.post(v, "post", c.form.Encode()+"&x="+strings.Repeat("x", 1<<20), formType),
		"multipart":       s.post(v, "post", multipart, "multipart/form-data; boundary=b"),
		"JSON":            s.post(v, "post", `{"state":"`+c.form.Get("state")+`"}`, "application/json"),
		"empty":           s.post(v, "post", "", formType),
		"two states":      s.post(v, "post", c.form.Encode()+"&state=x", formType),
		"invented state":  s.post(v, "post", "code=x&state=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", formType),
		"at another":      s.post(v, "op", c.form.Encode(), formType),
		"PUT":             func() *http.Request { r := s.post(v, "post", c.form.Encode(), formType); r.Method = "PUT"; return r }(),
		"in the address":  v.Navigation(s.site + "/.login/post/callback?" + c.form.Encode()),
		"no handle":       v.Navigation(s.site + "/.login/post/callback"),
		"invented handle": v.Navigation(s.site + "/.login/post/callback?handle=AAAAAAAAAAAAAAAAAAAAAAAAAA"),
	} {
		// A huge one may end with the connection; then there is nothing to read.
		got, err := e2e.NewVisitor(t).Try(r)
		if err == nil && (got.StatusCode < 400 || got.StatusCode > 499 || len(got.Cookies()) > 0) {
			t.Errorf("%s: %d %v", what, got.StatusCode, got.Cookies())
		}
	}

	// Another browser, also with attempts of its own, gains nothing by a handle.
	thief := e2e.NewVisitor(t)
	s.mustCome(t, thief, "post", "mallory")
	wantErrorPage(t, thief.Get(s.parked(t, c.form)))
	if s.isIn(thief) || s.asked().Token != 0 {
		t.Fatal("a handle is worth something in another browser")
	}
	wantErrorPage(t, v.Get(strings.Replace(s.parked(t, c.form), "/post/", "/op/", 1)))

	// The answer parked thirty-two times, and each handle at once: one session.
	var all sync.WaitGroup
	var sessions, pages atomic.Int64
	handle := s.parked(t, c.form)
	for i := range 32 {
		address := handle
		if i%2 == 0 {
			address = s.parked(t, c.form)
		}
		all.Go(func() {
			got, err := e2e.NewVisitor(t).Try(c.again(v, address))
			switch {
			case err != nil:
				t.Error(err)
			case session(got) != "":
				sessions.Add(1)
			case got.StatusCode == http.StatusBadRequest:
				pages.Add(1)
			}
		})
	}
	all.Wait()
	if sessions.Load() != 1 || pages.Load() != 31 || s.asked().Token != 1 {
		t.Errorf("%d sessions, %d pages, %d codes redeemed", sessions.Load(), pages.Load(), s.asked().Token)
	}
}

func TestPlantedSessionIsNobodysAfterSignIn(t *testing.T) {
	s := besiege(t, besieged)
	mallory := s.mustEnter(t, "mallory")
	planted := mallory.Cookie(s.site, cookieName)
	for what, value := range map[string]string{"a live one": planted, "an invented one": "AAAA", "one that is long": strings.Repeat("A", 3000)} {
		victim := replay(e2e.NewVisitor(t), s.site, value)
		cookie, err := s.enter(victim, "ada")
		if err != nil || cookie == value {
			t.Fatalf("%s: %v", what, err)
		}
		victim.Get(s.site + "/in")
		user := s.app.Last().Value("Remote-Name")
		if user != "ada" {
			t.Errorf("%s: the victim is %q", what, user)
		}
	}
	if s.isIn(mallory) {
		t.Error("the planted session lives on")
	}
}

func TestAnotherAccountTakesTheSessionOver(t *testing.T) {
	s := besiege(t, besieged)
	v := s.mustEnter(t, "ada")
	old := v.Cookie(s.site, cookieName)
	if _, err := s.enter(v, "grace"); err != nil {
		t.Fatal(err)
	}
	v.Get(s.site + "/in")
	if name := s.app.Last().Value("Remote-Name"); name != "grace" {
		t.Errorf("the browser is %q", name)
	}
	if s.isIn(replay(v, s.site, old)) {
		t.Error("Ada's session outlived the change")
	}
}

func TestSigningOutEndsWhatWasBegun(t *testing.T) {
	s := besiege(t, besieged)
	v := s.mustEnter(t, "ada")
	half := s.mustCome(t, v, "op", "ada")
	if err := s.leave(v); err != nil {
		t.Fatal(err)
	}
	wantErrorPage(t, v.Get(half.callback))
	if s.isIn(v) {
		t.Error("still signed in")
	}
	// Only which way in it was is known still.
	if left := v.Cookies(s.site); len(left) != 1 || left[0] != cookieName+"-last=op" {
		t.Errorf("after signing out: %q", left)
	}
}

func TestFirstSignInsAtOnceMakeOneUser(t *testing.T) {
	s := besiege(t, besieged)
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			v := visitorFrom(t, 2+i)
			if _, err := s.enter(v, "ada"); err != nil {
				t.Error(err)
				return
			}
			if _, err := v.Try(v.Navigation(s.site + "/in")); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	users := map[string]bool{}
	for _, request := range s.app.Requests() {
		users[request.Value("Remote-User")] = true
	}
	if len(users) != 1 || users[""] {
		t.Errorf("one person is %v", users)
	}
}

// visitorFrom is somebody in another network: 127.0.0.n.
func visitorFrom(t testing.TB, n int) *e2e.Visitor {
	v := e2e.NewVisitor(t)
	v.Transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(n))}}
		return d.DialContext(ctx, network, "127.0.0.1:"+port)
	}
	return v
}

var elsewhere = []string{
	"//evil.test", "///evil.test", "////evil.test", `/\evil.test`, `\/evil.test`, `\\evil.test`, "/\t/evil.test", "/\n/evil.test", "\t//evil.test",
	" //evil.test", "https://evil.test/", "HTTPS:evil.test", "https:/evil.test", "javascript:alert(1)", "data:text/html,x", "vbscript:x", "//user@evil.test",
	"/\r\nSet-Cookie: a=b", "/%0d%0aSet-Cookie:%20a=b", "/%00", "/\x00", "http:evil.test", "//evil.test:443/\\@app.test", "@evil.test", ".evil.test",
	":443@evil.test", "//[::1]/", "//１２７.0.0.1/", "/\u2028/evil.test", "／／evil.test", "?return=//evil.test", "#//evil.test", "//%65vil.test", "/%2f%2fevil.test/..//x",
	"/.login/", "/.login", "/.login/logout", "/.login/op?return=//evil.test", "/./.login/logout", "/x/../.login/logout", "/%2elogin/logout", "/%2E%6Cogin/op", "/.LOGIN/logout",
	"//.login/logout", "/.login/?return=%2F.login%2F%3Freturn%3D%2F%2Fevil.test", "/..//evil.test", "/.//evil.test", "/;//evil.test", strings.Repeat("/", 2500),
}

// here reports whether a browser on the site that follows to stays there, and
// is not sent to a page that signs in or out.
func here(to string) bool {
	u, err := url.Parse(to)
	if err != nil || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\\\r\n\t\x00") || u.Host != "" {
		return false
	}
	clean := strings.ToLower(path.Clean(u.Path))
	return clean != "/.login" && !strings.HasPrefix(clean, "/.login/")
}

func TestNoReturnAddressLeadsAway(t *testing.T) {
	s := besiege(t, besieged)
	v := s.mustEnter(t, "ada")
	field := regexp.MustCompile(`name="return" value="([^"]*)"`)
	button := regexp.MustCompile(`href="(/\.login/[^"]*)"`)
	for _, evil := range elsewhere {
		query := "?return=" + url.QueryEscape(evil)
		if got := v.Get(s.site + "/.login/" + query); got.StatusCode != http.StatusOK && !here(got.Header.Get("Location")) {
			t.Errorf("signed in: %q leads to %q", evil, got.Header.Get("Location"))
		}
		for _, match := range field.FindAllStringSubmatch(v.Get(s.site+"/.login/logout"+query).Body, -1) {
			if !here(html.UnescapeString(match[1])) {
				t.Errorf("the question whether to sign out hands on %q", match[1])
			}
		}
		stranger := e2e.NewVisitor(t)
		for _, match := range button.FindAllStringSubmatch(stranger.Get(s.site+"/.login/"+query).Body, -1) {
			u, err := url.Parse(html.UnescapeString(match[1]))
			if err != nil || u.Query().Has("return") && !here(u.Query().Get("return")) {
				t.Errorf("a button hands on %q", match[1])
			}
		}
		for where, r := range map[string]*http.Request{
			"query": stranger.Request(http.MethodPost, s.site+"/.login/logout"+query, ""),
			"form":  stranger.Request(http.MethodPost, s.site+"/.login/logout", "return="+url.QueryEscape(evil)),
			"twice": stranger.Request(http.MethodPost, s.site+"/.login/logout"+query, "return=%2Fok&return="+url.QueryEscape(evil)),
		} {
			r.Header.Set("Origin", s.site)
			r.Header.Set("Content-Type", formType)
			to := stranger.Do(r).Header.Get("Location")
			if to != "/.login/logout" && !here(to) {
				t.Errorf("signed out, by %s: %q leads to %q", where, evil, to)
			}
		}
	}
}

// harmless are the elements of our pages; whatever else is there was put there.
var harmless = strings.Fields("html head meta title link body main p span bdi div h1 h2 ul li a form input button svg g path rect circle line polyline strong code nav footer header section small label br")

// stranger is the first element or attribute of a page that may run or load
// something, or empty.
func stranger(body string) string {
	root, err := nethtml.Parse(strings.NewReader(body))
	if err != nil {
		return err.Error()
	}
	for node := range root.Descendants() {
		if node.Type != nethtml.ElementNode {
			continue
		}
		if !slices.Contains(harmless, node.Data) {
			return node.Data
		}
		for _, a := range node.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" || strings.Contains(strings.ToLower(a.Val), "javascript:") {
				return node.Data + " " + a.Key
			}
		}
	}
	return ""
}

// wantHarmless checks a page: nothing inline, and a policy that allows nothing
// inline.
func wantHarmless(t *testing.T, what string, got e2e.Answer) {
	t.Helper()
	policy := got.Header.Get("Content-Security-Policy")
	for _, word := range []string{"default-src 'none'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, word) {
			t.Errorf("%s: the policy lacks %s: %q", what, word, policy)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "script-src") {
		t.Errorf("%s: the policy is %q", what, policy)
	}
	if found := stranger(got.Body); found != "" {
		t.Errorf("%s: %q in\n%.2000s", what, found, got.Body)
	}
	if got.Header.Get("X-Frame-Options") != "DENY" || got.Header.Get("X-Content-Type-Options") != "nosniff" || got.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s: %v", what, got.Header)
	}
}

func TestPagesCarryNothingThatRuns(t *testing.T) {
	s := besiege(t, besieged)
	const nasty = `"><script>alert(1)</script><img src=x onerror=alert(2)>' style='x{{.}} {site}`
	s.issuer.Person(logintest.Person{Subject: "nasty", Name: nasty, Picture: "https://evil.example/x.png"})
	v := s.mustEnter(t, "nasty")
	pages := map[string]e2e.Answer{
		"choose":       e2e.NewVisitor(t).Get(s.site + "/.login/?return=" + url.QueryEscape(`/"><script>alert(3)</script>`)),
		"switch":       v.Get(s.site + `/.login/?switch="><script>alert(3)</script>`),
		"signed in":    v.Get(s.site + "/.login/"),
		"ask":          v.Get(s.site + "/.login/logout?return=" + url.QueryEscape(`/"><script>alert(3)</script>`)),
		"signed out":   e2e.NewVisitor(t).Get(s.site + "/.login/logout"),
		"not found":    v.Get(s.site + `/.login/"><script>alert(3)</script>`),
		"not admitted": v.Get(s.site + `/staff/"><script>alert(3)</script>?"><script>`),
		"callback":     v.Get(s.site + `/.login/op/callback?error=<script>alert(3)</script>&error_description=<script>&state=<script>`),
		"post":         v.Do(s.post(v, "post", "state=<script>", formType)),
		"bounce":       v.Do(s.post(v, "post", s.mustCome(t, e2e.NewVisitor(t), "post", "ada").form.Encode()+"&x=<script>", formType)),
	}
	for what, got := range pages {
		wantHarmless(t, what, got)
	}
	if body := pages["ask"].Body; !strings.Contains(html.UnescapeString(body), nasty) {
		t.Errorf("the name is not what it was:\n%s", body)
	}
	s.app.Forget()
	v.Get(s.site + "/in")
	if name, _ := url.PathUnescape(s.app.Last().Value("Remote-Name")); name != nasty {
		t.Errorf("the app is told %q", name)
	}
}

// anyHost is a site that takes every name.
const anyHost = `
{
	debug
}
https://app.test:{$PORT} {
	respond "not this one"
}
https://:{$PORT} {
	log
	login {
		oidc op site {env.OP_SECRET} {
			issuer {$ISSUER}
		}
		oidc post site {env.OP_SECRET} {
			issuer {$ISSUER}
		}
		allow users
	}
	reverse_proxy {$APP}
}
`

func TestForeignHostSendsNobodyAway(t *testing.T) {
	s := besiege(t, anyHost)
	for _, host := range []string{
		"evil.test", "evil.test:443", "EVIL.test", "app.test.", "[::1]", "127.0.0.1", "evil.test\"><script>alert(1)</script>",
		"evil.test/..", "user@evil.test", "evil.test?x=", "evil.test#", `evil.test\x`, "a b", "{env.HOME}", "", "évil.test", "evil.test:99999", ":", "a,b",
	} {
		for _, address := range []string{"/deep", "/.login/?return=%2F", "/.login/op?return=%2F", "/.login/nothing", "/.login/op/callback?code=x&state=y"} {
			got := s.sayHTTP2(t, host, address)
			to, err := url.Parse(got.to)
			switch {
			case got.status == 0: // the server would not have it
			case err != nil || got.to != "" && !strings.HasPrefix(got.to, "/.login/") && !strings.HasPrefix(got.to, s.issuer.URL+"/oauth/authorize?"):
				t.Errorf("host %q, %s: sent to %q", host, address, got.to)
			case got.status >= 500:
				t.Errorf("host %q, %s: %d %s", host, address, got.status, got.body)
			case strings.HasPrefix(got.body, "<") && stranger(got.body) != "":
				t.Errorf("host %q, %s: runs:\n%s", host, address, got.body)
			case to.Query().Get("redirect_uri") != "":
				back, err := url.Parse(to.Query().Get("redirect_uri"))
				if err != nil || back.Scheme != "https" || back.Path != "/.login/op/callback" || back.User != nil || back.RawQuery != "" || !strings.EqualFold(back.Host, host) {
					t.Errorf("host %q: asks to come back to %q", host, to.Query().Get("redirect_uri"))
				}
			}
		}
	}
	s.app.Forget()
}

func preface(w io.Writer) error {
	_, err := io.WriteString(w, http2.ClientPreface)
	return err
}

type heard struct {
	status   int
	to, body string
}

// sayHTTP2 sends one request whose :authority is whatever it is told: clients
// would refuse most of these.
func (s *siege) sayHTTP2(t *testing.T, authority, path string) heard {
	t.Helper()
	wire, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.Port), &tls.Config{
		ServerName: "app.test", InsecureSkipVerify: true, NextProtos: []string{"h2"}, // Caddy's own CA, made a moment ago
	})
	if err != nil {
		t.Fatal(err)
	}
	defer wire.Close()
	if err := errors.Join(wire.SetDeadline(time.Now().Add(10*time.Second)), preface(wire)); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(wire, wire)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", authority}, {":path", path}, {"accept", "text/html"}} {
		if err := encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}); err != nil {
			t.Fatal(err)
		}
	}
	err = errors.Join(framer.WriteSettings(), framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true,
	}))
	if err != nil {
		t.Fatal(err)
	}
	var got heard
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return got
		}
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			got.status, _ = strconv.Atoi(f.PseudoValue("status"))
			for _, field := range f.RegularFields() {
				if field.Name == "location" {
					got.to = field.Value
				}
			}
		case *http2.DataFrame:
			got.body += string(f.Data())
		}
		if frame.Header().StreamID == 1 && (frame.Header().Flags.Has(http2.FlagDataEndStream) || frame.Header().Type == http2.FrameRSTStream) {
			return got
		}
	}
}

func TestOnlyOurOwnPagesSignOut(t *testing.T) {
	s := besiege(t, besieged)
	v := s.mustEnter(t, "ada")
	port := fmt.Sprint(s.Port)
	for what, head := range map[string]http.Header{
		"nothing said":          {},
		"typed":                 {"Sec-Fetch-Site": {"none"}},
		"the same name by http": {"Origin": {"http://app.test:" + port}},
		"another port":          {"Origin": {"https://app.test"}},
		"a longer name":         {"Origin": {s.site + ".evil.test"}},
		"a name before":         {"Origin": {"https://evil-app.test:" + port}},
		"two origins":           {"Origin": {s.site, "https://evil.test"}},
		"two in one":            {"Origin": {s.site + " https://evil.test"}},
		"ours, but cross-site":  {"Origin": {s.site}, "Sec-Fetch-Site": {"cross-site"}},
		"forwarded":             {"Origin": {"https://evil.test"}, "X-Forwarded-Host": {"evil.test"}, "X-Forwarded-Proto": {"https"}},
		"upper case":            {"Origin": {strings.ToUpper(s.site)}},
	} {
		r := v.Request(http.MethodPost, s.site+"/.login/logout", "return=%2F")
		r.Header = head
		r.Header.Set("Content-Type", "text/plain")
		if got := v.Do(r); got.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %d", what, got.StatusCode)
		}
	}
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete, http.MethodOptions, "post"} {
		r := v.Request(method, s.site+"/.login/logout?_method=POST", "")
		r.Header.Set("X-HTTP-Method-Override", http.MethodPost)
		r.Header.Set("Origin", s.site)
		v.Do(r)
	}
	if !s.isIn(v) {
		t.Error("it signed Ada out")
	}
}

// hang makes one endpoint begin an answer and not go on.
func hang(endpoint string, until <-chan struct{}) logintest.Faults {
	return logintest.Faults{Response: func(r *logintest.Response) {
		if r.Endpoint == endpoint {
			r.Body = io.MultiReader(blocked{until}, r.Body)
		}
	}}
}

type blocked struct{ until <-chan struct{} }

func (b blocked) Read([]byte) (int, error) {
	<-b.until
	return 0, io.EOF
}

// heldUp is a time that only those take who wait for a provider that fell
// silent: that is ten seconds.
const heldUp = 8 * time.Second

func TestProviderThatFallsSilentHoldsUpNobodyElse(t *testing.T) {
	s := besiege(t, strings.Replace(besieged, "oidc post", "oidc cold site {env.OP_SECRET} {\n\t\t\tissuer {$ISSUER}\n\t\t}\n\t\toidc post", 1), "cold")
	until := make(chan struct{})
	t.Cleanup(func() { close(until) })
	bystander, before := s.mustEnter(t, "grace"), len(s.failures())
	var all sync.WaitGroup
	visit := func(v *e2e.Visitor, c coming, what string) {
		all.Go(func() {
			begun := time.Now()
			got, err := v.Try(v.Navigation(c.callback))
			if took := time.Since(begun); err != nil || got.StatusCode != http.StatusBadGateway || session(got) != "" || took > 25*time.Second {
				t.Errorf("%s: %v, %d after %s", what, err, got.StatusCode, took)
			}
		})
	}
	for _, endpoint := range []string{"token", "userinfo"} {
		v := e2e.NewVisitor(t)
		s.issuer.NextLogin(hang(endpoint, until))
		visit(v, s.mustCome(t, v, "op", "ada"), endpoint)
	}
	s.always(hang("keys", until))
	cold := e2e.NewVisitor(t)
	visit(cold, s.mustCome(t, cold, "cold", "ada"), "keys")

	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	for n, waiting := 0, true; waiting; n++ {
		begun := time.Now()
		if !s.isIn(bystander) || time.Since(begun) > heldUp {
			t.Errorf("who is signed in waited %s", time.Since(begun))
		}
		if n%50 == 0 {
			begun = time.Now()
			if _, err := s.enter(e2e.NewVisitor(t), "mallory"); err != nil || time.Since(begun) > heldUp {
				t.Errorf("another sign-in, after %s: %v", time.Since(begun), err)
			}
		}
		select {
		case <-done:
			waiting = false
		case <-time.After(20 * time.Millisecond):
		}
	}
	e2e.Eventually(t, e2e.Patience, "one line for each", func() bool { return len(s.failures()) == before+3 })
}

const mega = 1 << 20

// flood asks n times, by a few strangers at once. Each must be answered with
// this status; 0 stands for any, and for none.
func (s *siege) flood(t *testing.T, n int, status int, request func(v *e2e.Visitor, i int) *http.Request) {
	t.Helper()
	var all sync.WaitGroup
	var next, wrong atomic.Int64
	for worker := range 8 {
		v := visitorFrom(t, 2+worker)
		all.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				v.ForgetCookies()
				if got, err := v.Try(request(v, int(i))); status != 0 && (err != nil || got.StatusCode != status) {
					wrong.Add(1)
				}
			}
		})
	}
	all.Wait()
	if wrong.Load() > 0 {
		t.Errorf("%d of %d were answered otherwise than by %d", wrong.Load(), n, status)
	}
}

func TestFloodsLeaveMemoryFlat(t *testing.T) {
	quiet := strings.NewReplacer("\tdebug\n", "", "\tlog\n", "").Replace(besieged)
	s := besiege(t, quiet)
	begin := func(v *e2e.Visitor, _ int) *http.Request { return v.Navigation(s.site + "/.login/op?return=%2F") }
	junk := strings.Repeat("A", 200)
	cookies := func(v *e2e.Visitor, i int) *http.Request {
		r := v.Navigation(s.site + "/in")
		for n := range 20 {
			r.AddCookie(&http.Cookie{Name: fmt.Sprintf("%s-%d", cookieName, n), Value: junk})
		}
		r.AddCookie(&http.Cookie{Name: cookieName, Value: junk + strconv.Itoa(i)})
		return r
	}
	s.flood(t, 1500, http.StatusFound, begin)
	s.flood(t, 1500, http.StatusFound, cookies)
	before, lines := s.weigh(t), strings.Count(s.Log(), "\n")
	s.flood(t, 20_000, http.StatusFound, begin)
	s.flood(t, 5000, http.StatusFound, cookies)
	after := s.weigh(t)
	wantFlat(t, before, after, 4, 32)
	if more := strings.Count(s.Log(), "\n") - lines; more > 10 {
		t.Errorf("strangers wrote %d lines into the log", more)
	}
}

func TestParkedAnswersWeighLittle(t *testing.T) {
	var many strings.Builder
	for i := 0; many.Len() < 16<<10-100; i++ {
		many.WriteString("&" + strconv.FormatInt(int64(i), 36))
	}
	for what, rest := range map[string]string{"one long field": "&x=" + strings.Repeat("x", 15<<10), "many short fields": many.String()} {
		t.Run(what, func(t *testing.T) {
			s := besiege(t, strings.NewReplacer("\tdebug\n", "", "\tlog\n", "").Replace(besieged))
			state := "state=" + s.mustCome(t, e2e.NewVisitor(t), "post", "ada").form.Get("state")
			before := s.weigh(t)
			s.flood(t, 1200, 0, func(v *e2e.Visitor, _ int) *http.Request { return s.post(v, "post", state+rest, formType) })
			wantFlat(t, before, s.weigh(t), 12, 96)
		})
	}
}

func TestLogNamesNoAddressThatAProviderWrote(t *testing.T) {
	s := besiege(t, besieged)
	for _, code := range []string{"access_denied", "server_error"} {
		v := e2e.NewVisitor(t)
		s.issuer.NextLogin(logintest.Faults{Answer: func(q url.Values) {
			q.Del("code")
			q.Set("error", code)
			q.Set("error_description", "User ada@example.com is not assigned to the client application.")
		}})
		refused(t, v.Get(s.mustCome(t, v, "op", "ada").callback), 400)
	}
	e2e.Eventually(t, e2e.Patience, "the log", func() bool { return len(s.failures()) == 2 })
	s.wantNoAddress(t, "ada@example.com")
}

func TestMisspeltCallbackKeepsItsCodeFromTheLog(t *testing.T) {
	s := besiege(t, besieged)
	for _, tail := range []string{
		"%3Fcode=secret-code-1&state=secret-state-1", "/code=secret-code-1&state=secret-state-1", ";code=secret-code-1?state=secret-state-1",
		"&code=secret-code-1&state=secret-state-1",
	} {
		mustBe(t, e2e.NewVisitor(t).Get(s.site+"/.login/op/callback"+tail), http.StatusNotFound)
	}
	s.keep("secret-code-1", "secret-state-1")
	e2e.Eventually(t, e2e.Patience, "four lines of the access log", func() bool { return strings.Count(s.Log(), `"handled request"`) >= 4 })
}

func TestStartsAtADeadProviderDoNotFillTheLog(t *testing.T) {
	s := besiege(t, strings.NewReplacer("\tdebug\n", "", "\tlog\n", "").Replace(besieged))
	s.issuer.Down(true)
	s.flood(t, 3000, http.StatusBadGateway, func(v *e2e.Visitor, _ int) *http.Request { return v.Navigation(s.site + "/.login/op?return=%2F") })
	// What a network's callbacks may write, eight networks have.
	if lines := len(s.failures()); lines > 2000 {
		t.Errorf("3,000 starts of strangers wrote %d lines", lines)
	}
}

func TestTooManyCallbacksAreToldWhenToComeBack(t *testing.T) {
	s := besiege(t, besieged)
	v := e2e.NewVisitor(t)
	for range 400 {
		got := v.Get(s.site + "/.login/op/callback?code=x&state=y")
		if got.StatusCode != http.StatusTooManyRequests {
			continue
		}
		if got.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		return
	}
	t.Error("400 callbacks were not too many")
}
