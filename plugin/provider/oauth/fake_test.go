package oauth

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/oauth2"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

const (
	clientID     = "our client:1"
	clientSecret = "s3cr+t: /x"
	access       = "the-access"
	refresh      = "the-refresh"
	fresh        = "the-fresh-access" // what the refresh token is traded for
)

type object = map[string]any

// fake plays an authorization server and its API. A test sets what it answers
// before the first request.
type fake struct {
	*httptest.Server

	tokenStatus int    // default 200
	token       object // merged over the token answer; nil values delete
	rawToken    string // replaces it, where set
	renewed     object // merged over the answer to the refresh token, likewise

	// pages are answers by path, or by path and query: an object, a list, a
	// string that goes out as it is, or a handler.
	pages map[string]any

	// aside are answers by path to whoever has no access token.
	aside map[string]http.HandlerFunc

	mu        sync.Mutex
	live      string // the access token that the API takes; empty: access
	challenge string
	asked     []*http.Request
	form      url.Values
}

func newFake(t testing.TB) *fake {
	f := &fake{pages: map[string]any{}, aside: map[string]http.HandlerFunc{}}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.asked = append(f.asked, r)
	live := cmp.Or(f.live, access)
	f.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Path == "/token" {
		f.exchange(w, r)
		return
	}
	if answer, ok := f.aside[r.URL.Path]; ok {
		answer(w, r)
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+live || strings.Contains(r.URL.RawQuery, live) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	page, ok := f.pages[r.URL.RequestURI()]
	if !ok {
		page, ok = f.pages[r.URL.Path]
	}
	switch page := page.(type) {
	case http.HandlerFunc:
		page(w, r)
	case string:
		_, _ = w.Write([]byte(page))
	default:
		if !ok {
			w.WriteHeader(http.StatusNotFound)
		}
		_ = json.NewEncoder(w).Encode(page)
	}
}

func (f *fake) exchange(w http.ResponseWriter, r *http.Request) {
	id, secret, basic := r.BasicAuth()
	if basic {
		id, _ = url.QueryUnescape(id)
		secret, _ = url.QueryUnescape(secret)
	} else {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	}
	_ = r.ParseForm()
	f.mu.Lock()
	f.form = r.PostForm
	proven := f.challenge == "" || oauth2.S256ChallengeFromVerifier(r.PostFormValue("code_verifier")) == f.challenge
	f.mu.Unlock()
	switch {
	case r.PostFormValue("grant_type") == "refresh_token" && id == clientID && secret == clientSecret:
		f.renew(w, r)
	case id != clientID || secret != clientSecret || !proven || r.PostFormValue("code") != "the-code":
		// As GitHub does it: an error, with status 200.
		_ = json.NewEncoder(w).Encode(object{"error": "bad_verification_code", "error_description": "no: the-code"})
	case f.rawToken != "":
		w.WriteHeader(max(f.tokenStatus, 200))
		_, _ = w.Write([]byte(f.rawToken))
	default:
		f.issue(w, object{"access_token": access, "token_type": "bearer"}, f.token)
	}
}

// renew trades the refresh token. Once it did, the API takes the fresh access
// token alone.
func (f *fake) renew(w http.ResponseWriter, r *http.Request) {
	if r.PostFormValue("refresh_token") != refresh {
		_ = json.NewEncoder(w).Encode(object{"error": "bad_refresh_token", "error_description": "no: the-refresh"})
		return
	}
	if _, spoilt := f.renewed["access_token"]; !spoilt && f.renewed["error"] == nil && f.tokenStatus < 400 {
		f.mu.Lock()
		f.live = fresh
		f.mu.Unlock()
	}
	f.issue(w, object{"access_token": fresh, "refresh_token": "the-next-refresh", "expires_in": 3600, "token_type": "Bearer"}, f.renewed)
}

func (f *fake) issue(w http.ResponseWriter, answer, merged object) {
	for name, value := range merged {
		if answer[name] = value; value == nil {
			delete(answer, name)
		}
	}
	w.WriteHeader(max(f.tokenStatus, 200))
	_ = json.NewEncoder(w).Encode(answer)
}

// count is how often a path was asked for.
func (f *fake) count(path string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.asked {
		if r.URL.Path == path {
			n++
		}
	}
	return n
}

func (f *fake) options() provider.Options {
	return provider.Options{Name: "test", ClientID: clientID, ClientSecret: clientSecret}
}

func (f *fake) server() Server {
	return Server{AuthURL: f.URL + "/auth?tenant=a+b", TokenURL: f.URL + "/token"}
}

func env(log *slog.Logger) guest.Env {
	return guest.Env{
		Client: func(...string) *http.Client {
			return &http.Client{Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error {
				return http.ErrUseLastResponse
			}}
		},
		Now: time.Now,
		Log: log,
	}
}

// open provisions and opens a provider.
func open[P interface {
	caddy.Provisioner
	guest.Provider
}](t testing.TB, p P) P {
	t.Helper()
	if err := p.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	if err := p.Open(env(nil)); err != nil {
		t.Fatal(err)
	}
	return p
}

func attempt() guest.Attempt {
	return guest.Attempt{
		RedirectURI: "https://app.example.com/.login/test/callback",
		State:       rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier(),
	}
}

// signIn walks one person through: begin, the server, finish.
func (f *fake) signIn(t testing.TB, p guest.Provider) (guest.Profile, error) {
	t.Helper()
	return f.answerWith(t, p, url.Values{"code": {"the-code"}})
}

func (f *fake) answerWith(t testing.TB, p guest.Provider, answer url.Values) (guest.Profile, error) {
	t.Helper()
	a := attempt()
	f.mu.Lock()
	f.challenge = begin(t, p, a).Get("code_challenge")
	f.mu.Unlock()
	return p.Finish(context.Background(), a, answer)
}

func begin(t testing.TB, p guest.Provider, a guest.Attempt) url.Values {
	t.Helper()
	address, err := p.Begin(context.Background(), a)
	if err != nil {
		t.Fatalf("begin: %v", err)
	}
	u, err := url.Parse(address)
	if err != nil || strings.Contains(address, "+") {
		t.Fatalf("begin: %q: %v", address, err)
	}
	return u.Query()
}

// wantRefusal checks that err has this reason and tells nothing secret.
func wantRefusal(t testing.TB, err error, want guest.Reason) {
	t.Helper()
	if err == nil || guest.ReasonOf(err) != want {
		t.Errorf("got %v, want a failure %s", err, want)
		return
	}
	for _, secret := range []string{access, refresh, fresh, "the-code", clientSecret, "ada@example.com"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error tells %q: %v", secret, err)
		}
	}
}

func big(w http.ResponseWriter, _ *http.Request) {
	_, _ = w.Write([]byte(`{"id":1,"x":"`))
	for range 10 << 10 {
		_, _ = w.Write(make([]byte, 1<<10))
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// elsewhere redirects to a server that must not be asked.
func elsewhere(t testing.TB) http.HandlerFunc {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("another server was asked for %s, Authorization %q", r.URL, r.Header.Get("Authorization"))
		_, _ = w.Write([]byte(`{"id":1}`))
	}))
	t.Cleanup(other.Close)
	return func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+r.URL.Path, http.StatusFound)
	}
}

// slow answers once the caller has given up.
func slow(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// hostile are what an endpoint that tells who somebody is may answer, and how
// each must end.
func hostile(t testing.TB) map[string]struct {
	page any
	want guest.Reason
} {
	type row = struct {
		page any
		want guest.Reason
	}
	return map[string]row{
		"a list":            {`[{"id":1}]`, guest.Untrusted},
		"null":              {`null`, guest.Untrusted},
		"no JSON":           {`<html>`, guest.Untrusted},
		"nothing":           {``, guest.Untrusted},
		"text behind":       {`{"id":1}x`, guest.Untrusted},
		"id missing":        {`{"name":"Ada"}`, guest.Untrusted},
		"id null":           {`{"id":null}`, guest.Untrusted},
		"id empty":          {`{"id":""}`, guest.Untrusted},
		"id true":           {`{"id":true}`, guest.Untrusted},
		"id a list":         {`{"id":[1]}`, guest.Untrusted},
		"id an object":      {`{"id":{"id":1}}`, guest.Untrusted},
		"id a fraction":     {`{"id":1.5}`, guest.Untrusted},
		"id negative":       {`{"id":-1}`, guest.Untrusted},
		"id an exponent":    {`{"id":1e3}`, guest.Untrusted},
		"id of 256 digits":  {`{"id":` + strings.Repeat("1", 256) + `}`, guest.Untrusted},
		"id with a control": {`{"id":"1\u0000"}`, guest.Untrusted},
		"id twice":          {`{"id":1,"id":2}`, guest.Untrusted},
		"id in capitals":    {`{"ID":1}`, guest.Untrusted},
		"a name twice":      {`{"id":1,"x":{"a":1,"a":2}}`, guest.Untrusted},
		"deep":              {`{"id":1,"x":` + strings.Repeat("[", 99) + strings.Repeat("]", 99) + `}`, guest.Untrusted},
		"10 MB":             {http.HandlerFunc(big), guest.Unavailable},
		"a redirect":        {elsewhere(t), guest.Refused},
		"401":               {status(401), guest.Refused},
		"403":               {status(403), guest.Refused},
		"404":               {status(404), guest.Refused},
		"204":               {status(204), guest.Refused},
		"429":               {status(429), guest.Unavailable},
		"500":               {status(500), guest.Unavailable},
		"503":               {status(503), guest.Unavailable},
	}
}
