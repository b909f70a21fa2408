package logintest

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest/secrets"
)

// OAuth is an OAuth 2.0 server that issues no ID token, such as GitHub: it has
// an authorization endpoint at /authorize, a token endpoint at /token that
// reports errors with status 200, and an API that answers whoever asks with
// the access token of one of its people.
type OAuth struct {
	// URL is its http address on 127.0.0.1, without a slash at its end.
	URL string

	t          testing.TB
	id, secret string

	mu     sync.Mutex
	people map[string]Account
	codes  map[string]granted
	tokens map[string]Account
}

// Account is somebody at an OAuth server.
type Account struct {
	// Scope is what the token answer says was granted.
	Scope string
	// API is what the API answers this person with, as JSON, by path. Every
	// other path is a 404.
	API map[string]string
}

// granted is a code and what it was issued for.
type granted struct {
	account                Account
	redirectURI, challenge string
}

// NewOAuth starts a server with one client, and ends it with the test.
func NewOAuth(t testing.TB, id, secret string) *OAuth {
	o := &OAuth{t: t, id: id, secret: secret, people: map[string]Account{}, codes: map[string]granted{}, tokens: map[string]Account{}}
	server := httptest.NewServer(o)
	t.Cleanup(server.Close)
	o.URL = server.URL
	return o
}

// Person lets somebody sign in, who answers "Who are you?" with this name.
func (o *OAuth) Person(name string, account Account) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.people[name] = account
}

func (o *OAuth) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/authorize" && r.Method == http.MethodGet:
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<form method="post" action="%s">Who are you? <input name="person"></form>`, html.EscapeString(r.URL.RequestURI()))
	case r.URL.Path == "/authorize" && r.Method == http.MethodPost:
		o.authorize(w, r)
	case r.URL.Path == "/token" && r.Method == http.MethodPost:
		o.token(w, r)
	default:
		o.answer(w, r)
	}
}

func (o *OAuth) authorize(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	o.mu.Lock()
	defer o.mu.Unlock()
	account, known := o.people[r.PostFormValue("person")]
	back, err := url.Parse(query.Get("redirect_uri"))
	if !known || err != nil || query.Get("client_id") != o.id || query.Get("response_type") != "code" {
		http.Error(w, "no such person or client", http.StatusBadRequest)
		return
	}
	code := rand.Text()
	secrets.Keep(o.t, code)
	o.codes[code] = granted{account, query.Get("redirect_uri"), query.Get("code_challenge")}
	back.RawQuery = url.Values{"code": {code}, "state": {query.Get("state")}}.Encode()
	http.Redirect(w, r, back.String(), http.StatusFound)
}

func (o *OAuth) token(w http.ResponseWriter, r *http.Request) {
	id, secret, basic := r.BasicAuth()
	if basic {
		id, _ = url.QueryUnescape(id)         // what is no escape
		secret, _ = url.QueryUnescape(secret) // is no secret of ours
	}
	id, secret = cmp.Or(id, r.PostFormValue("client_id")), cmp.Or(secret, r.PostFormValue("client_secret"))
	o.mu.Lock()
	defer o.mu.Unlock()
	code, known := o.codes[r.PostFormValue("code")]
	delete(o.codes, r.PostFormValue("code"))
	w.Header().Set("Content-Type", "application/json")
	switch {
	case id != o.id || secret != o.secret:
		writeJSON(w, map[string]string{"error": "incorrect_client_credentials"})
	case !known || r.PostFormValue("redirect_uri") != code.redirectURI || !code.proven(r.PostFormValue("code_verifier")):
		writeJSON(w, map[string]string{"error": "bad_verification_code"})
	default:
		token := rand.Text()
		secrets.Keep(o.t, token)
		o.tokens[token] = code.account
		writeJSON(w, map[string]string{"access_token": token, "token_type": "bearer", "scope": code.account.Scope})
	}
}

// proven checks PKCE as RFC 7636 section 4.6 asks, where it was begun.
func (g granted) proven(verifier string) bool {
	sum := sha256.Sum256([]byte(verifier))
	return g.challenge == "" && verifier == "" || g.challenge == base64.RawURLEncoding.EncodeToString(sum[:])
}

func (o *OAuth) answer(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var token string
	_, err := fmt.Sscanf(r.Header.Get("Authorization"), "Bearer %s", &token)
	account, known := o.tokens[token]
	page, found := account.API[r.URL.Path]
	switch {
	case err != nil || !known:
		w.WriteHeader(http.StatusUnauthorized)
	case !found:
		w.WriteHeader(http.StatusNotFound)
	default:
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, page)
	}
}

func writeJSON(w http.ResponseWriter, v any) {
	_ = json.NewEncoder(w).Encode(v) // whoever went away needs no answer
}
