package main_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"html"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

type claims = map[string]any

// brand plays an issuer with habits of its own. Whoever comes is signed in at
// once, as the person it is set to.
type brand struct {
	*httptest.Server
	key *rsa.PrivateKey

	discovery, issuer string // path and name
	document, jwk     claims // over the usual ones
	dropsNonce        bool
	exchange          func(basic bool, form url.Values) bool

	mu      sync.Mutex
	person  claims
	answer  url.Values // besides code and state, or instead where it has an error
	nonce   string
	client  string
	secrets []string
}

func newBrand(t *testing.T) *brand {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	b := &brand{key: key, document: claims{}, jwk: claims{}}
	b.Server = httptest.NewServer(b)
	t.Cleanup(b.Close)
	return b
}

// next is who signs in from now on, and what the answer says besides.
func (b *brand) next(person claims, answer url.Values) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.person, b.answer = person, answer
}

func (b *brand) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch r.URL.Path {
	case b.discovery + "/.well-known/openid-configuration":
		document := claims{
			"issuer": b.issuer, "authorization_endpoint": b.URL + "/authorize", "token_endpoint": b.URL + "/token",
			"jwks_uri": b.URL + "/keys", "id_token_signing_alg_values_supported": []string{"RS256"},
		}
		maps.Copy(document, b.document)
		say(w, document)
	case "/keys":
		key := claims{
			"kty": "RSA", "use": "sig", "kid": "k", "n": encode(b.key.N.Bytes()), "e": encode(big.NewInt(int64(b.key.E)).Bytes()),
		}
		maps.Copy(key, b.jwk)
		say(w, claims{"keys": []any{key}})
	case "/authorize":
		b.authorize(w, r)
	case "/token":
		b.token(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (b *brand) authorize(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	b.nonce, b.client = query.Get("nonce"), query.Get("client_id")
	answer := url.Values{"state": {query.Get("state")}}
	maps.Copy(answer, b.answer)
	if !answer.Has("error") {
		answer.Set("code", "code-"+rand.Text())
		b.secrets = append(b.secrets, answer.Get("code"))
	}
	if query.Get("response_mode") != "form_post" {
		http.Redirect(w, r, query.Get("redirect_uri")+"?"+answer.Encode(), http.StatusFound)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, `<!doctype html><title>Posting</title><form method="post" action="%s">`, html.EscapeString(query.Get("redirect_uri")))
	for name := range answer {
		fmt.Fprintf(w, `<input type="hidden" name="%s" value="%s">`, name, html.EscapeString(answer.Get(name)))
	}
	fmt.Fprint(w, `</form><script>document.forms[0].submit()</script>`)
}

func (b *brand) token(w http.ResponseWriter, r *http.Request) {
	_, _, basic := r.BasicAuth()
	_ = r.ParseForm()
	b.secrets = append(b.secrets, r.PostForm.Get("client_secret"))
	if !b.exchange(basic, r.PostForm) {
		w.WriteHeader(http.StatusBadRequest)
		say(w, claims{"error": "invalid_client"})
		return
	}
	now := time.Now().Unix()
	token := claims{"iss": b.issuer, "aud": b.client, "iat": now, "exp": now + 300}
	if !b.dropsNonce {
		token["nonce"] = b.nonce
	}
	maps.Copy(token, b.person)
	payload, _ := json.Marshal(token)
	input := encode([]byte(`{"alg":"RS256","kid":"k","typ":"JWT"}`)) + "." + encode(payload)
	sum := sha256.Sum256([]byte(input))
	signature, _ := rsa.SignPKCS1v15(rand.Reader, b.key, crypto.SHA256, sum[:])
	say(w, claims{"access_token": "at", "token_type": "Bearer", "id_token": input + "." + encode(signature)})
}

func say(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// playBrand serves a site whose only provider is the brand.
func playBrand(t *testing.T, b *brand, caddyfile string, env map[string]string) *stage {
	t.Helper()
	s := &stage{Caddy: e2e.NewCaddy(t, e2e.Build(t)), app: e2e.NewApp(t)}
	s.site = fmt.Sprintf("https://app.test:%d", s.Port)
	s.Env["APP"], s.Env["BRAND"] = s.app.Addr, b.URL
	maps.Copy(s.Env, env)
	s.Start(caddyfile)
	return s
}

const microsoftSite = `
https://app.test:{$PORT} {
	login {
		microsoft client secret {
			issuer {$BRAND}/{tenantid}/v2.0
			tenant 8eaef023-2b34-4da1-9baa-8bc8c9d6a490
		}
		allow *@example.com
	}
	reverse_proxy {$APP}
}
`

func TestMicrosoftStory(t *testing.T) {
	const ours, others = "8eaef023-2b34-4da1-9baa-8bc8c9d6a490", "82229342-1101-4ab6-817b-70c0747630f3"
	b := newBrand(t)
	issuer := func(tenant string) string { return b.URL + "/" + tenant + "/v2.0" }
	b.discovery, b.issuer = "/"+ours+"/v2.0", issuer(ours)
	b.jwk["issuer"] = issuer("{tenantid}")
	b.exchange = func(basic bool, form url.Values) bool {
		return !basic && form.Get("client_secret") == "secret" && form.Get("code_verifier") != ""
	}
	s := playBrand(t, b, microsoftSite, nil)
	person := func(tenant, oid string, more claims) claims {
		all := claims{"iss": issuer(tenant), "tid": tenant, "oid": oid, "sub": "pairwise", "email": "ada@example.com", "name": "Ada"}
		maps.Copy(all, more)
		return all
	}

	b.next(person(ours, "690222be-ff1a-4d56-abd1-7e4f7d38e474", claims{"xms_edov": "1"}), nil)
	ada := e2e.NewVisitor(t)
	mustBe(t, ada.Follow(s.site+"/in"), http.StatusOK)
	if got := s.app.Last().Value("Remote-Email"); got != "ada@example.com" {
		t.Errorf("Ada is %q", got)
	}
	s.app.Forget()

	// The same address as somebody wrote it into another account.
	b.next(person(ours, "11111111-ff1a-4d56-abd1-7e4f7d38e474", claims{"email": "boss@example.com"}), nil)
	mallory := e2e.NewVisitor(t)
	mustBe(t, mallory.Follow(s.site+"/in"), http.StatusForbidden)
	e2e.Eventually(t, e2e.Patience, "the log to name the missing claim", func() bool { return strings.Contains(s.Log(), "no xms_edov") })

	// A right signature, from another tenant.
	b.next(person(others, "22222222-ff1a-4d56-abd1-7e4f7d38e474", claims{"xms_edov": true}), nil)
	stranger := e2e.NewVisitor(t)
	wantErrorPage(t, stranger.Follow(s.site+"/in"))
	s.untouched(t)

	open := strings.Replace(microsoftSite, "tenant "+ours, "tenant common", 1)
	if said, err := s.TryReload(open); err == nil || !strings.Contains(said, "nOAuth") {
		t.Errorf("a domain rule loads beside tenant common: %s", said)
	}
	if !s.isIn(ada) {
		t.Error("a refused config signed Ada out")
	}
	s.LogKeepsSecret(b.secrets...)
}

const appleSite = `
https://app.test:{$PORT} {
	login {
		apple {
			issuer {$BRAND}
			client_id com.example.app.login
			team_id DEF123GHIJ
			key_id ABC123DEFG
			private_key {env.APPLE_KEY}
		}
		allow users
	}
	reverse_proxy {$APP}
}
`

func TestAppleStoryInABrowser(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	b := newBrand(t)
	b.issuer = b.URL
	b.exchange = func(basic bool, form url.Values) bool {
		return !basic && isAppleSecret(&key.PublicKey, form.Get("client_secret"), form.Get("client_id"))
	}
	s := playBrand(t, b, appleSite, map[string]string{"APPLE_KEY": text})

	person := claims{"sub": "001.ada", "email": "x7@privaterelay.appleid.com", "email_verified": "true", "is_private_email": "true"}
	b.next(person, url.Values{"user": {`{"name":{"firstName":"Ada","lastName":"Lovelace"},"email":"boss@example.com"}`}})
	e2e.NewBrowser(t).Get(s.site + "/deep?q=1").See("x7@privaterelay.appleid.com").At("/deep?q=1")
	first := s.app.Last()
	if first.Value("Remote-Name") != "Ada Lovelace" || first.Value("Remote-Email") != "x7@privaterelay.appleid.com" {
		t.Errorf("the app received name %q, address %q", first.Value("Remote-Name"), first.Value("Remote-Email"))
	}

	// From the second time on Apple sends no name.
	b.next(person, nil)
	again := e2e.NewBrowser(t).Get(s.site + "/again").See("x7@privaterelay.appleid.com").At("/again")
	second := s.app.Last()
	if second.Value("Remote-Name") != "Ada Lovelace" || second.Value("Remote-User") != first.Value("Remote-User") {
		t.Errorf("the second time it is %q, user %q", second.Value("Remote-Name"), second.Value("Remote-User"))
	}
	again.Get(s.site + "/.login/logout").Click("Sign out").See("signed out").DontSee("The app")

	b.next(person, url.Values{"error": {"user_cancelled_authorize"}})
	s.app.Forget()
	e2e.NewBrowser(t).AllowConsole("the server responded with a status of 4").Get(s.site + "/in").See("Try again")
	s.untouched(t)
	e2e.Eventually(t, e2e.Patience, "the log to say who cancelled", func() bool { return strings.Contains(s.Log(), `"cancelled"`) })
	s.LogKeepsSecret(append(b.secrets, strings.Split(text, "\n")[1])...)
}

// isAppleSecret reports whether a client secret is one that Apple takes.
func isAppleSecret(key *ecdsa.PublicKey, secret, client string) bool {
	part := strings.Split(secret, ".")
	if len(part) != 3 {
		return false
	}
	var header, payload claims
	for i, to := range []*claims{&header, &payload} {
		raw, err := base64.RawURLEncoding.DecodeString(part[i])
		if err != nil || json.Unmarshal(raw, to) != nil {
			return false
		}
	}
	signature, err := base64.RawURLEncoding.DecodeString(part[2])
	sum := sha256.Sum256([]byte(part[0] + "." + part[1]))
	lives, _ := payload["exp"].(float64)
	return err == nil && len(signature) == 64 &&
		ecdsa.Verify(key, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) &&
		header["alg"] == "ES256" && header["kid"] == "ABC123DEFG" && payload["iss"] == "DEF123GHIJ" &&
		payload["sub"] == client && payload["aud"] == "https://appleid.apple.com" &&
		time.Until(time.Unix(int64(lives), 0)) <= 5*time.Minute
}

const linkedinSite = `
https://app.test:{$PORT} {
	login {
		linkedin client secret {
			issuer {$BRAND}/oauth
		}
		allow *@example.com
	}
	reverse_proxy {$APP}
}
`

func TestLinkedInStory(t *testing.T) {
	b := newBrand(t)
	b.discovery, b.issuer, b.dropsNonce = "/oauth", b.URL+"/oauth", true
	b.document["token_endpoint_auth_methods_supported"] = []string{"client_secret_post"}
	b.exchange = func(basic bool, form url.Values) bool {
		return !basic && !form.Has("code_verifier") && form.Get("client_secret") == "secret"
	}
	s := playBrand(t, b, linkedinSite, nil)
	person := claims{
		"sub": "782bbtaQ", "name": "Ada", "email": "ada@example.com", "email_verified": "true",
		"locale": claims{"country": "US", "language": "en"},
	}
	visitor := e2e.NewVisitor(t)
	anothers := maps.Clone(person)
	anothers["nonce"] = "of another attempt"
	b.next(anothers, nil)
	wantErrorPage(t, visitor.Follow(s.site+"/in"))
	b.next(person, nil)
	mustBe(t, visitor.Follow(s.site+"/in"), http.StatusOK)
	if got := s.app.Last().Value("Remote-Email"); got != "ada@example.com" {
		t.Errorf("Ada is %q", got)
	}
	s.app.Forget()

	b.next(claims{"sub": "other", "name": "Eve", "email": "eve@example.com", "email_verified": "false"}, nil)
	mustBe(t, e2e.NewVisitor(t).Follow(s.site+"/in"), http.StatusForbidden)
	b.next(person, url.Values{"error": {"user_cancelled_login"}})
	wantErrorPage(t, e2e.NewVisitor(t).Follow(s.site+"/in"))
	s.untouched(t)
}
