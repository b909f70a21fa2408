// Package logintest plays the other side of a log-in: an OpenID provider that
// does everything right, if as oddly as the specifications allow, or wrong in
// the one way a test asks for, and a clock.
// It serves our own tests, those of plug-ins, and the demo. It is no provider
// for real people: whoever opens its page may be anyone on it.
package logintest

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest/secrets"
)

// How much an Issuer remembers, and for how long.
const (
	codeLife    = 60 * time.Second
	tokenLife   = 10 * time.Minute
	refreshLife = 24 * time.Hour
	idTokenLife = 5 * time.Minute
	sessionLife = 12 * time.Hour
	maxKept     = 1000
	maxForm     = 64 << 10
)

// Issuer is an OpenID provider: discovery, the code flow with PKCE, userinfo,
// keys, refresh tokens, its own sign-in page and session, and sign-out, at both
// ends. It is an http.Handler, safe for concurrent use. Set its fields before
// its first use.
//
// It implements OpenID Connect Core 1.0 and Discovery 1.0, RP-Initiated Logout
// 1.0, the tokens of Back-Channel Logout 1.0, Form Post Response Mode 1.0,
// RFC 6749, RFC 7636 (S256 required) and RFC 9207.
type Issuer struct {
	// Issuer is its identifier, and the URL it is served at. It may have a path
	// and end in '/'.
	Issuer string

	// URL is where it is served, without a '/' at the end. NewIssuer sets it.
	URL string

	// Title heads its pages. Default: Demo provider.
	Title string

	// Seed draws the oddities of what is right: keys that nobody can use among
	// those that count, random names, orders and spellings, claims that nobody
	// has heard of. NewIssuer draws one. Zero: as plain as can be.
	Seed uint64

	// Alg signs tokens: RS256, ES256 or EdDSA. Default: RS256.
	Alg string

	// TokenLife is how long access tokens work. Default: 10 minutes.
	TokenLife time.Duration

	// KeepsRefreshToken has a refresh token work again and again. By default
	// each use brings a new one.
	KeepsRefreshToken bool

	// Watch is shown each request before it is answered, on many goroutines. It
	// must leave the body alone.
	Watch func(*http.Request)

	// Now is its clock. Default: time.Now.
	Now func() time.Time

	once     sync.Once
	mux      http.Handler
	odds     *odds
	keysPath string

	mu          sync.Mutex
	people      []Person
	clients     map[string]client
	sessions    *shelf[session]
	codes       *shelf[*login]
	tokens      *shelf[*login]
	refreshes   *shelf[*login]
	ring        *keyring
	always      Faults
	nextLogin   []Faults
	nextRefresh []Faults
	nextLogout  []Faults
	calls       Calls
	gaveOut     func(...string) // nil: nobody wants to know
	down        bool
	slow        time.Duration
}

// Person is somebody who can sign in at an Issuer.
type Person struct {
	Subject string
	Email   string
	// EmailVerified is the claim as it is sent: true, false, "true", 1. Nil
	// leaves it out.
	EmailVerified any
	Name          string
	Picture       string
	Groups        []string
	// Claims are sent besides, and win over the ones above.
	Claims map[string]any
}

type client struct {
	id, secret   string
	redirectURIs []string
}

// session is one browser's, at the issuer itself.
type session struct {
	subject  string
	sid      string
	authTime time.Time
}

// login is one authorization, from its code to its tokens.
type login struct {
	client      client
	redirectURI string
	challenge   string
	nonce       string
	scopes      []string
	person      Person
	session     session
	faults      Faults
	spent       bool

	grant        *grant
	accessToken  string
	refreshToken string
}

// Calls counts what an Issuer was asked. A use of a refresh token is a Refresh
// and no Token.
type Calls struct {
	Discovery, Keys, Authorize, Token, Refresh, UserInfo, Logout int
}

// NewIssuer serves an Issuer on loopback until the test ends. It is as odd as
// the seed makes it that the test logs, or that LOGINTEST_SEED names.
func NewIssuer(t testing.TB) *Issuer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listening: %v", err)
	}
	u := "http://" + l.Addr().String()
	i := &Issuer{Issuer: u, URL: u, Seed: chooseSeed(t)}
	i.gaveOut = func(all ...string) { secrets.Keep(t, all...) }
	server := &http.Server{Handler: i, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: maxForm}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return i
}

// Client registers a client. It may be sent back to exactly redirectURIs, and
// after sign-out to any address of the same origins.
func (i *Issuer) Client(id, secret string, redirectURIs ...string) {
	i.prepare()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.clients[id] = client{id, secret, redirectURIs}
}

// Person adds a person, or replaces the one with the same subject.
func (i *Issuer) Person(p Person) {
	i.prepare()
	i.mu.Lock()
	defer i.mu.Unlock()
	at := slices.IndexFunc(i.people, func(q Person) bool { return q.Subject == p.Subject })
	if at >= 0 {
		i.people[at] = p
		return
	}
	i.people = append(i.people, p)
}

// tell lets the test know of what no log may show.
func (i *Issuer) tell(all ...string) {
	if i.gaveOut != nil {
		i.gaveOut(all...)
	}
}

// Down makes the issuer drop every connection without an answer, or ends that.
func (i *Issuer) Down(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down = down
}

// Slow makes the issuer wait for d before each answer.
func (i *Issuer) Slow(d time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.slow = d
}

// RotateKeys replaces all keys at once. The old ones are gone.
func (i *Issuer) RotateKeys() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ring = nil
}

// KeyID is the name of the key that signs tokens: of two of a kind only it does.
func (i *Issuer) KeyID() string {
	i.prepare()
	ring, err := i.keyring()
	if err != nil {
		return ""
	}
	return ring.signers[i.alg()].kid
}

// Calls is what the issuer was asked so far.
func (i *Issuer) Calls() Calls {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.calls
}

// ServeHTTP serves everything below the path of the issuer's URL.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.prepare()
	if i.Watch != nil {
		i.Watch(r)
	}
	if !i.wait(r.Context()) {
		panic(http.ErrAbortHandler)
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	i.mux.ServeHTTP(w, r)
}

// wait is false where no answer is to be given.
func (i *Issuer) wait(ctx context.Context) bool {
	i.mu.Lock()
	down, slow := i.down, i.slow
	i.mu.Unlock()
	return !down && pause(ctx, slow)
}

// pause is false where ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (i *Issuer) prepare() {
	i.once.Do(func() {
		i.clients = map[string]client{}
		i.sessions = newShelf[session](maxKept, sessionLife)
		i.codes = newShelf[*login](maxKept, codeLife)
		i.tokens = newShelf[*login](maxKept, tokenLife)
		i.refreshes = newShelf[*login](maxKept, refreshLife)
		i.odds = newOdds(i.Seed)
		i.keysPath = "/oauth/keys"
		if i.odds != nil {
			i.keysPath += "/" + rand.Text()
		}
		i.mux = http.StripPrefix(i.path(), i.routes())
	})
}

// routes keeps everything that needs the session cookie below /oauth/, and the
// cookie there: on localhost, cookies of one port are sent to all.
func (i *Issuer) routes() http.Handler {
	mux := http.NewServeMux()
	own := http.NewCrossOriginProtection()
	mux.HandleFunc("GET /{$}", i.home)
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /.well-known/openid-configuration", i.discovery)
	mux.HandleFunc("GET "+i.keysPath, i.keys)
	mux.HandleFunc("GET /oauth/authorize", i.authorize)
	mux.HandleFunc("POST /oauth/authorize", i.authorize)
	mux.Handle("POST /oauth/pick", own.Handler(http.HandlerFunc(i.pick)))
	mux.HandleFunc("POST /oauth/token", i.token)
	mux.HandleFunc("GET /oauth/userinfo", i.userinfo)
	mux.HandleFunc("POST /oauth/userinfo", i.userinfo)
	mux.HandleFunc("GET /oauth/logout", i.logout)
	mux.HandleFunc("POST /oauth/logout", i.logout)
	mux.Handle("POST /oauth/logout/confirm", own.Handler(http.HandlerFunc(i.confirmLogout)))
	return mux
}

func (i *Issuer) discovery(w http.ResponseWriter, r *http.Request) {
	faults := i.count(func(c *Calls) { c.Discovery++ })
	doc := map[string]any{
		"issuer":                                i.Issuer,
		"authorization_endpoint":                i.base() + "/oauth/authorize",
		"token_endpoint":                        i.base() + "/oauth/token",
		"userinfo_endpoint":                     i.base() + "/oauth/userinfo",
		"jwks_uri":                              i.base() + i.keysPath,
		"end_session_endpoint":                  i.base() + "/oauth/logout",
		"response_types_supported":              []string{"code"},
		"response_modes_supported":              []string{"query", "form_post"},
		"grant_types_supported":                 []string{"authorization_code", "refresh_token"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{"RS256", "ES256", "EdDSA"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_basic", "client_secret_post"},
		"code_challenge_methods_supported":      []string{"S256"},
		"scopes_supported":                      []string{"openid", "profile", "email", "groups", "offline_access"},
		"claims_supported":                      []string{"sub", "name", "picture", "email", "email_verified", "groups", "auth_time", "sid"},
		"prompt_values_supported":               []string{"none", "login", "select_account", "consent"},
		"backchannel_logout_supported":          true,
		"backchannel_logout_session_supported":  true,

		"authorization_response_iss_parameter_supported": true,
	}
	i.confuse(doc)
	call(faults.Discovery, doc)
	i.send(w, r, faults, reply{"discovery", http.StatusOK, doc})
}

// confuse makes a discovery document odd: what is no algorithm for a relying
// party stands first, and addresses that only mutual TLS may use (RFC 8705
// section 5) stand beside the true ones.
func (i *Issuer) confuse(doc map[string]any) {
	if i.odds == nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(doc)) {
		if list, ok := doc[name].([]string); ok {
			doc[name] = shuffled(i.odds, list)
		}
	}
	algs := shuffled(i.odds, []string{"RS256", "ES256", "EdDSA", "HS256", "ES256K", "ML-DSA-0"})
	doc["id_token_signing_alg_values_supported"] = append([]string{"none"}, algs...)
	doc["mtls_endpoint_aliases"] = map[string]any{
		"token_endpoint": "https://mtls.invalid/token", "userinfo_endpoint": "https://mtls.invalid/userinfo",
	}
	i.odds.stuff(doc)
}

// count notes a call, and says how all calls are to be spoiled now.
func (i *Issuer) count(note func(*Calls)) Faults {
	i.mu.Lock()
	defer i.mu.Unlock()
	note(&i.calls)
	return i.always
}

func (i *Issuer) now() time.Time {
	if i.Now != nil {
		return i.Now()
	}
	return time.Now()
}

func (i *Issuer) base() string { return strings.TrimSuffix(i.Issuer, "/") }

func (i *Issuer) path() string {
	u, err := url.Parse(i.base())
	if err != nil {
		return ""
	}
	return u.Path
}

func (i *Issuer) title() string { return cmp.Or(i.Title, "Demo provider") }

// person and the lookups below lock for themselves.
func (i *Issuer) person(subject string) (Person, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	at := slices.IndexFunc(i.people, func(p Person) bool { return p.Subject == subject })
	if at < 0 {
		return Person{}, false
	}
	return i.people[at], true
}

func (i *Issuer) client(id string) (client, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	c, ok := i.clients[id]
	return c, ok
}

// session is the one of this browser, of a person still there.
func (i *Issuer) session(r *http.Request) (session, Person, bool) {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return session{}, Person{}, false
	}
	i.mu.Lock()
	s, ok := i.sessions.get(cookie.Value, i.now())
	i.mu.Unlock()
	if !ok {
		return session{}, Person{}, false
	}
	p, ok := i.person(s.subject)
	return s, p, ok
}

const sessionCookie = "provider_session"

// start begins a session for p in this browser, and ends the one it had.
func (i *Issuer) start(w http.ResponseWriter, r *http.Request, p Person) session {
	i.end(w, r)
	id, s := rand.Text(), session{subject: p.Subject, sid: rand.Text(), authTime: i.now()}
	i.mu.Lock()
	i.sessions.put(id, s, s.authTime)
	i.mu.Unlock()
	http.SetCookie(w, i.cookie(id, 0))
	return s
}

func (i *Issuer) end(w http.ResponseWriter, r *http.Request) {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return
	}
	i.mu.Lock()
	i.sessions.drop(cookie.Value)
	i.mu.Unlock()
	http.SetCookie(w, i.cookie("", -1))
}

func (i *Issuer) cookie(value string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name: sessionCookie, Value: value, MaxAge: maxAge, Path: i.path() + "/oauth/",
		HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: strings.HasPrefix(i.Issuer, "https:"),
	}
}

func (c client) hasSecret(got string) bool {
	return c.secret != "" && subtle.ConstantTimeCompare([]byte(c.secret), []byte(got)) == 1
}
