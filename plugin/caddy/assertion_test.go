package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// keySet is what the site publishes.
func (s *stage) keySet(t *testing.T) (set jose.JSONWebKeySet, raw string) {
	t.Helper()
	got := e2e.NewVisitor(t).Do(e2e.NewVisitor(t).Request(http.MethodGet, s.site+"/.login/jwks.json", ""))
	mustBe(t, got, http.StatusOK)
	if err := json.Unmarshal([]byte(got.Body), &set); err != nil || len(set.Keys) == 0 {
		t.Fatalf("reading keys: %v in %s", err, got.Body)
	}
	return set, got.Body
}

// believed verifies an assertion with the site's keys.
func (s *stage) believed(t *testing.T, token string) map[string]any {
	t.Helper()
	parsed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatalf("%v: %q", err, token)
	}
	set, _ := s.keySet(t)
	plain, err := parsed.Verify(set)
	if err != nil {
		t.Fatalf("verifying: %v", err)
	}
	var claims map[string]any
	if err := json.Unmarshal(plain, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

func TestAppCanVerifyWhoIsThere(t *testing.T) {
	s := play(t, usual)
	ada := s.signedIn(t, e2e.Ada)
	mustBe(t, ada.Get(s.site+"/in"), http.StatusOK)
	first := s.app.Last()
	claims := s.believed(t, first.Value("Remote-Assertion"))
	for name, want := range map[string]any{
		"iss": s.site, "aud": s.site, "sub": first.Value("Remote-User"), "email": e2e.Ada.Email, "email_verified": true,
		"name": e2e.Ada.Name, "provider": "op",
	} {
		if claims[name] != want {
			t.Errorf("%s is %v, want %v", name, claims[name], want)
		}
	}
	if life := claims["exp"].(float64) - claims["iat"].(float64); life <= 0 || life > 300 {
		t.Errorf("lives %v seconds", life)
	}
	var groups []string
	for _, group := range claims["groups"].([]any) {
		groups = append(groups, group.(string))
	}
	if strings.Join(groups, ",") != first.Value("Remote-Groups") || claims["sid"] == "" || claims["auth_time"] == nil {
		t.Errorf("claims %v beside %s", claims, first.Raw)
	}
	mustBe(t, ada.Get(s.site+"/public/a"), http.StatusOK)
	if again := s.app.Last().Value("Remote-Assertion"); again != first.Value("Remote-Assertion") {
		t.Error("signs for every request")
	}
	mustBe(t, e2e.NewVisitor(t).Get(s.site+"/public/a"), http.StatusOK)
	if nobody := s.app.Last(); strings.Contains(strings.ToLower(nobody.Raw), "assertion") {
		t.Errorf("of nobody the app is told\n%s", nobody.Raw)
	}
	s.LogKeepsSecret(first.Value("Remote-Assertion"))
}

func TestKeysAreForEverybodyAndOutliveARestart(t *testing.T) {
	s := play(t, usual)
	_, before := s.keySet(t)
	page := e2e.NewVisitor(t)
	ask := func(method string, head http.Header) e2e.Answer {
		r := page.Request(method, s.site+"/.login/jwks.json", "")
		r.Header = head
		return page.Do(r)
	}
	got := ask(http.MethodGet, http.Header{"Origin": {"https://elsewhere.test"}})
	mustBe(t, got, http.StatusOK)
	etag := got.Header.Get("ETag")
	for name, want := range map[string]string{
		"Content-Type": "application/json", "Cache-Control": "public, max-age=300", "Access-Control-Allow-Origin": "*", "Set-Cookie": "",
	} {
		if is := got.Header.Get(name); is != want {
			t.Errorf("%s is %q, want %q", name, is, want)
		}
	}
	if strings.Contains(got.Body, `"d"`) || !strings.HasPrefix(etag, `"`) {
		t.Errorf("ETag %s, %s", etag, got.Body)
	}
	if got := ask(http.MethodGet, http.Header{"If-None-Match": {etag}}); got.StatusCode != http.StatusNotModified || got.Body != "" {
		t.Errorf("known keys: %d %s", got.StatusCode, got.Body)
	}
	if got := ask(http.MethodHead, nil); got.StatusCode != http.StatusOK || got.Header.Get("ETag") != etag {
		t.Errorf("HEAD: %d", got.StatusCode)
	}
	mustBe(t, ask(http.MethodPost, nil), http.StatusMethodNotAllowed)
	s.Kill()
	s.Restart()
	if _, after := s.keySet(t); after != before {
		t.Errorf("before %s\nafter %s", before, after)
	}
}

const ownKey = `
{
	login {
		signing_key {file.{$KEY_FILE}}
	}
}

https://app.test:{$PORT} {
	log
	login {
		oidc op site {env.OP_SECRET} {
			issuer {$ISSUER}
			groups groups
		}
		headers remote pomerium cloudflare iap
		allow /public/* anyone
		allow users
	}
	reverse_proxy {$APP}
}
`

// key writes a new private key to path.
func key(t *testing.T, path string, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	secret, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return secret
}

func TestOperatorsKeySignsInEveryHeaderThatPresetsHave(t *testing.T) {
	path := filepath.Join(t.TempDir(), "signing.pem")
	secret := key(t, path, elliptic.P256())
	s := playWith(t, ownKey, map[string]string{"KEY_FILE": path})
	mustBe(t, s.signedIn(t, e2e.Ada).Get(s.site+"/in"), http.StatusOK)
	received := s.app.Last()
	token := received.Value("Remote-Assertion")
	s.believed(t, token)
	for _, name := range []string{"X-Pomerium-Jwt-Assertion", "Cf-Access-Jwt-Assertion", "X-Goog-IAP-JWT-Assertion"} {
		if received.Value(name) != token {
			t.Errorf("%s is %q", name, received.Value(name))
		}
	}
	e2e.Eventually(t, e2e.Patience, "the line of the access log", func() bool { return strings.Contains(s.Log(), `"uri":"/in"`) })
	s.LogKeepsSecret(token)
	set, _ := s.keySet(t)
	if len(set.Keys) != 1 || !secret.PublicKey.Equal(set.Keys[0].Key) {
		t.Error("publishes another key")
	}
	key(t, path, elliptic.P384())
	out, err := s.TryReload(ownKey)
	if err == nil || !strings.Contains(out, "signing_key: this key is not of the kind EC P-256") {
		t.Errorf("a reload with another kind of key: %v\n%s", err, out)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if out, err = s.TryReload(ownKey); err == nil || !strings.Contains(out, "signing_key is empty") {
		t.Errorf("a reload without the key: %v\n%s", err, out)
	}
	s.believed(t, token)
}
