package oidc

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/oauth2"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// The secret holds what form-url-encoding changes: a colon, a space, a plus.
const (
	clientID     = "our client:1"
	clientSecret = "s3cr+t: /x"
)

// keys are made once: RSA keys take most of a second.
var keys = sync.OnceValue(func() (k struct {
	rsa, rsa2, weak *rsa.PrivateKey
	ec, ec2         *ecdsa.PrivateKey
	ed              ed25519.PrivateKey
}) {
	k.rsa, _ = rsa.GenerateKey(rand.Reader, 2048)
	k.rsa2, _ = rsa.GenerateKey(rand.Reader, 2048)
	k.weak, _ = rsa.GenerateKey(rand.Reader, 1024)
	k.ec, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.ec2, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, k.ed, _ = ed25519.GenerateKey(rand.Reader)
	return k
})

type object = map[string]any

// issuer plays an OpenID provider whose every answer a test may spoil. Fields
// are set before the first request, or under mu.
type issuer struct {
	*httptest.Server
	clock *clock

	mu       sync.Mutex
	url      string // as tokens and documents spell it
	below    string // the path that the discovery document lies below
	lax      bool   // takes no PKCE, and no secret but by the test's own check
	doc      object // merged over the discovery document; nil values delete
	jwks     []object
	signer   crypto.Signer
	alg, kid string
	header   object // merged over the ID token's header
	claims   object // merged over its claims
	payload  string // replaces its claims, where set
	mangle   func(string) string
	info     object
	answer   object // merged over the token answer
	refresh  string // the refresh token that is good; each use makes another
	turns    int
	renewed  object // merged over the answer to a refresh token
	intruder func(http.ResponseWriter, *http.Request) bool

	nonce, challenge             string
	discovered, keyed, spent, ui atomic.Int32
	auth, form                   atomic.Value
}

type clock struct{ offset atomic.Int64 }

var epoch = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func (c *clock) Now() time.Time          { return epoch.Add(time.Duration(c.offset.Load())) }
func (c *clock) Advance(d time.Duration) { c.offset.Add(int64(d)) }

func newIssuer(t testing.TB) *issuer {
	i := &issuer{clock: new(clock), alg: "RS256", kid: "k1", signer: keys().rsa, info: object{"sub": "sub-1"}}
	i.jwks = []object{jwk("k1", keys().rsa.Public())}
	i.Server = httptest.NewServer(i)
	i.url = i.Server.URL + "/"
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if i.intruder != nil && i.intruder(w, r) {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch strings.TrimPrefix(r.URL.Path, i.below) {
	case "/.well-known/openid-configuration":
		i.discovered.Add(1)
		reply(w, merged(object{
			"issuer":                 i.url,
			"authorization_endpoint": i.Server.URL + "/auth?tenant=a+b",
			"token_endpoint":         i.Server.URL + "/token",
			"jwks_uri":               i.Server.URL + "/keys",
			"userinfo_endpoint":      i.Server.URL + "/userinfo",
			"id_token_signing_alg_values_supported": []string{
				"none", "HS256", "RS256", "ES256", "EdDSA", "PS256"},
		}, i.doc))
	case "/keys":
		i.keyed.Add(1)
		reply(w, object{"keys": i.jwks})
	case "/token":
		i.token(w, r)
	case "/userinfo":
		i.ui.Add(1)
		i.auth.Store(r.Header.Get("Authorization") + " " + r.URL.RawQuery)
		reply(w, i.info)
	default:
		http.NotFound(w, r)
	}
}

func (i *issuer) token(w http.ResponseWriter, r *http.Request) {
	i.spent.Add(1)
	user, pass, _ := r.BasicAuth()
	id, _ := url.QueryUnescape(user)
	secret, _ := url.QueryUnescape(pass)
	if user == "" {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	}
	_ = r.ParseForm()
	i.form.Store(r.PostForm)
	if r.PostFormValue("grant_type") == "refresh_token" {
		i.renew(w, r, id, secret)
		return
	}
	if i.lax {
		reply(w, merged(object{"access_token": "the-access", "token_type": "Bearer", "id_token": i.idToken()}, i.answer))
		return
	}
	proven := oauth2.S256ChallengeFromVerifier(r.PostFormValue("code_verifier")) == i.challenge
	if id != clientID || secret != clientSecret || !proven || r.PostFormValue("code") != "the-code" {
		w.WriteHeader(http.StatusUnauthorized)
		reply(w, object{"error": "invalid_client", "error_description": "no: " + r.PostFormValue("code")})
		return
	}
	reply(w, merged(object{"access_token": "the-access", "token_type": "bEARER", "id_token": i.idToken()}, i.answer))
}

// renew answers a refresh token, without an ID token unless renewed has one.
func (i *issuer) renew(w http.ResponseWriter, r *http.Request, id, secret string) {
	if !i.lax && (id != clientID || secret != clientSecret) {
		w.WriteHeader(http.StatusUnauthorized)
		reply(w, object{"error": "invalid_client", "error_description": r.PostFormValue("refresh_token")})
		return
	}
	if i.refresh == "" || r.PostFormValue("refresh_token") != i.refresh {
		w.WriteHeader(http.StatusBadRequest)
		reply(w, object{"error": "invalid_grant", "error_description": r.PostFormValue("refresh_token")})
		return
	}
	i.turns++
	i.refresh = fmt.Sprintf("refresh-%d", i.turns)
	reply(w, merged(object{
		"access_token": fmt.Sprintf("access-%d", i.turns), "token_type": "Bearer", "expires_in": 600, "refresh_token": i.refresh,
	}, i.renewed))
}

func (i *issuer) idToken() string {
	now := i.clock.Now().Unix()
	claims := merged(object{
		"iss": i.url, "sub": "sub-1", "aud": clientID, "iat": now, "exp": now + 300, "nonce": i.nonce,
		"email": "ada@example.com", "email_verified": true, "name": "Ada",
	}, i.claims)
	payload, _ := json.Marshal(claims)
	if i.payload != "" {
		payload = []byte(strings.ReplaceAll(i.payload, "NONCE", i.nonce))
	}
	header, _ := json.Marshal(merged(object{"alg": i.alg, "kid": i.kid, "typ": "JWT"}, i.header))
	token := sign(i.signer, i.alg, string(header), payload)
	if i.mangle != nil {
		token = i.mangle(token)
	}
	return token
}

func reply(w io.Writer, v any) { _ = json.NewEncoder(w).Encode(v) }

func merged(base, over object) object {
	for k, v := range over {
		if base[k] = v; v == nil {
			delete(base, k)
		}
	}
	return base
}

// with adds more to claims and keeps nil values, which delete in merged.
func with(claims, more object) object {
	claims = maps.Clone(claims)
	maps.Copy(claims, more)
	return claims
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func sign(key any, alg, header string, payload []byte) string {
	input := b64([]byte(header)) + "." + b64(payload)
	sum := sha256.Sum256([]byte(input))
	var sig []byte
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if alg == "PS256" {
			sig, _ = rsa.SignPSS(rand.Reader, k, crypto.SHA256, sum[:], nil)
		} else {
			sig, _ = rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, sum[:])
		}
	case *ecdsa.PrivateKey:
		r, s, _ := ecdsa.Sign(rand.Reader, k, sum[:])
		sig = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	case ed25519.PrivateKey:
		sig = ed25519.Sign(k, []byte(input))
	case hmacKey:
		mac := hmac.New(sha256.New, k)
		mac.Write([]byte(input))
		sig = mac.Sum(nil)
	}
	return input + "." + b64(sig)
}

type hmacKey []byte

func (hmacKey) Public() crypto.PublicKey                                  { return nil }
func (hmacKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, nil }

func jwk(kid string, public crypto.PublicKey) object {
	key := object{}
	if kid != "" {
		key["kid"] = kid
	}
	switch k := public.(type) {
	case *rsa.PublicKey:
		return merged(key, object{"kty": "RSA", "n": b64(k.N.Bytes()), "e": b64(big.NewInt(int64(k.E)).Bytes())})
	case *ecdsa.PublicKey:
		raw, _ := k.Bytes()
		return merged(key, object{"kty": "EC", "crv": "P-256", "x": b64(raw[1:33]), "y": b64(raw[33:])})
	case ed25519.PublicKey:
		return merged(key, object{"kty": "OKP", "crv": "Ed25519", "x": b64(k)})
	}
	return key
}

// unusable are keys that real sets hold beside the signing ones.
func unusable() []object {
	enc := jwk("k1", keys().rsa2.Public())
	enc["use"] = "enc"
	return []object{
		{"kty": "EC", "crv": "secp256k1", "kid": "s", "x": b64(make([]byte, 32)), "y": b64(make([]byte, 32))},
		{"kty": "oct", "kid": "k1", "k": b64([]byte("shared secret of 32 bytes, more or"))},
		{"kty": "XYZ", "kid": "x"}, {"kid": "y"}, {"kty": "RSA", "n": 7}, enc,
		jwk("k1", keys().weak.Public()),
	}
}

// clientTimeout bounds what hangs.
const clientTimeout = 30 * time.Second

func (i *issuer) env() guest.Env {
	return guest.Env{
		Client: func(...string) *http.Client {
			return &http.Client{Timeout: clientTimeout, CheckRedirect: func(*http.Request, []*http.Request) error {
				return http.ErrUseLastResponse
			}}
		},
		Now: i.clock.Now,
		Log: slog.New(slog.DiscardHandler),
	}
}

func (i *issuer) options() provider.Options {
	return provider.Options{Name: "test", ClientID: clientID, ClientSecret: clientSecret}
}

// open provisions and opens a provider of this issuer.
func open[P interface {
	caddy.Provisioner
	guest.Provider
}](t testing.TB, i *issuer, p P) P {
	t.Helper()
	if err := p.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	lend(t, p, i.env())
	return p
}

// lend opens a provider, and has it wait for its issuer's documents as long as a
// machine may stall: by the clock, not by what the test is about.
func lend(t testing.TB, p guest.Provider, env guest.Env) {
	t.Helper()
	if err := p.Open(env); err != nil {
		t.Fatal(err)
	}
	p.(interface{ endure() }).endure()
}

func (p *party) endure() { p.metadata.patience, p.keys.patience = time.Minute, time.Minute }

func (i *issuer) oidc(t testing.TB) *OIDC {
	return open(t, i, &OIDC{Options: i.options(), Endpoints: Endpoints{Issuer: i.url}})
}

func attempt() guest.Attempt {
	return guest.Attempt{
		RedirectURI: "https://app.example.com/.login/test/callback",
		State:       rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier(),
	}
}

// signIn walks one person through: begin, the issuer, finish.
func (i *issuer) signIn(t testing.TB, p guest.Provider) (guest.Profile, error) {
	t.Helper()
	return i.answerWith(t, p, url.Values{"code": {"the-code"}})
}

func (i *issuer) answerWith(t testing.TB, p guest.Provider, answer url.Values) (guest.Profile, error) {
	t.Helper()
	a := attempt()
	address, err := p.Begin(context.Background(), a)
	if err != nil {
		t.Fatalf("begin: %v", err)
	}
	u, _ := url.Parse(address)
	i.mu.Lock()
	i.nonce, i.challenge = u.Query().Get("nonce"), u.Query().Get("code_challenge")
	i.mu.Unlock()
	return p.Finish(context.Background(), a, answer)
}

func decode64(s string) ([]byte, error) { return base64.RawURLEncoding.DecodeString(s) }
