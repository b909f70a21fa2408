package examples_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

func goAppVerifies(t *testing.T) {
	program := e2e.BuildPackage(t, "github.com/caddy-login/caddy-login/examples/assertion-go")
	appVerifies(t, "assertion-go", exec.Command(program))
}

// nodeAppVerifies runs the app beside the libraries that the tests' provider
// has: jose is one of them.
func nodeAppVerifies(t *testing.T) {
	libraries, err := filepath.Abs(filepath.Join(root, "module", "logintest", "oidcprovider", "node_modules"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(libraries, "jose")); err != nil {
		e2e.Without(t, "jose (npm ci in module/logintest/oidcprovider)")
	}
	app, err := os.ReadFile("assertion-node/app.mjs")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "app.mjs"), app, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(libraries, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	appVerifies(t, "assertion-node", exec.Command("node", filepath.Join(dir, "app.mjs")))
}

func pythonAppVerifies(t *testing.T) {
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(python, "-c", "import jwt, cryptography").Run() == nil {
			appVerifies(t, "assertion-python", exec.Command(python, "assertion-python/app.py"))
			return
		}
	}
	e2e.Without(t, "PyJWT and cryptography (python3-jwt, python3-cryptography)")
}

// appVerifies runs an app that verifies, signs somebody in before it, and then
// says who it is to the app itself, in every way that it must not believe.
func appVerifies(t *testing.T, name string, app *exec.Cmd) {
	corp, forger := newCorp(t), newForger(t)
	address := fmt.Sprintf("127.0.0.1:%d", e2e.FreePort(t))
	s := show(t, name, replacement{"https://id.example.com", corp.URL}, replacement{"localhost:3000", address})
	s.register(corp, "corp", secrets["OIDC_CLIENT_ID"], secrets["OIDC_CLIENT_SECRET"], "app.example.com")
	origin := strings.TrimSuffix(s.at("app.example.com", ""), "/")
	keys := e2e.NewVisitor(t).Get(origin + "/.login/jwks.json")
	s.want(keys, http.StatusOK)
	start(t, app, address, origin, forger.publish(t, keys.Body))

	landed := s.signIn(e2e.NewVisitor(t), corp, origin+"/inside", "ada")
	s.want(landed, http.StatusOK)
	if !strings.Contains(landed.Body, "Hello Ada Lovelace") {
		t.Errorf("the app says %s", landed.Body)
	}
	for what, c := range forger.tokens(t, origin) {
		if got := present(t, address, c.token); got != c.want {
			t.Errorf("%s: %d, want %d", what, got, c.want)
		}
	}
}

// start runs an app until the test ends.
func start(t *testing.T, app *exec.Cmd, address, origin, keys string) {
	t.Helper()
	_, port, _ := strings.Cut(address, ":")
	app.Env = append(os.Environ(), "PORT="+port, "ORIGIN="+origin, "KEYS="+keys)
	output := new(strings.Builder)
	app.Stdout, app.Stderr = output, output
	if err := app.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = app.Process.Kill() // it may have ended by itself, which its output tells
		_ = app.Wait()
		if t.Failed() {
			t.Logf("the app wrote:\n%.2000s", output)
		}
	})
	e2e.Eventually(t, time.Minute, "the app", func() bool {
		answer, err := http.Get("http://" + address + "/")
		if err != nil {
			return false
		}
		answer.Body.Close()
		return true
	})
}

// present asks the app itself, as somebody on its network could.
func present(t *testing.T, address, token string) int {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Remote-User", "root")
	if token != "" {
		r.Header.Set("Remote-Assertion", token)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body) // only the status matters
	return answer.StatusCode
}

// forger has a key that the app believes in, and one that it does not: what is
// wrong with a token is then nothing but what the test says.
type forger struct{ known, unknown *ecdsa.PrivateKey }

func newForger(t *testing.T) *forger {
	t.Helper()
	var keys [2]*ecdsa.PrivateKey
	for i := range keys {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[i] = key
	}
	return &forger{keys[0], keys[1]}
}

// publish serves the site's keys and the forger's known one.
func (f *forger) publish(t *testing.T, site string) (url string) {
	t.Helper()
	var set jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(site), &set); err != nil {
		t.Fatal(err)
	}
	set.Keys = append(set.Keys, jose.JSONWebKey{Key: &f.known.PublicKey, KeyID: "known", Algorithm: "ES256", Use: "sig"})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(set) // the app may have gone
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// presented is a token, and how the app must answer it.
type presented struct {
	token string
	want  int
}

func (f *forger) tokens(t *testing.T, origin string) map[string]presented {
	t.Helper()
	point, err := f.known.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	public, err := json.Marshal(jose.JSONWebKey{Key: &f.known.PublicKey, KeyID: "known", Algorithm: "ES256", Use: "sig"})
	if err != nil {
		t.Fatal(err)
	}
	good := claimsFor(origin, nil)
	es256 := func(change map[string]any) string {
		return sign(t, jose.SigningKey{Algorithm: jose.ES256, Key: f.known}, claimsFor(origin, change))
	}
	past, soon := time.Now().Add(-10*time.Minute).Unix(), time.Now().Add(time.Hour).Unix()
	return map[string]presented{
		"a good one":          {es256(nil), http.StatusOK},
		"none":                {"", http.StatusUnauthorized},
		"no token":            {"root", http.StatusUnauthorized},
		"another site's":      {es256(map[string]any{"iss": "https://other.example.com", "aud": "https://other.example.com"}), http.StatusUnauthorized},
		"for another site":    {es256(map[string]any{"aud": "https://other.example.com"}), http.StatusUnauthorized},
		"by another site":     {es256(map[string]any{"iss": "https://other.example.com"}), http.StatusUnauthorized},
		"an expired one":      {es256(map[string]any{"iat": past - 300, "exp": past}), http.StatusUnauthorized},
		"one without an end":  {es256(map[string]any{"exp": nil}), http.StatusUnauthorized},
		"an access token":     {es256(map[string]any{"groups": nil}), http.StatusUnauthorized},
		"one of the future":   {es256(map[string]any{"nbf": soon, "iat": soon, "exp": soon + 300}), http.StatusUnauthorized},
		"signed by a key":     {sign(t, jose.SigningKey{Algorithm: jose.ES256, Key: f.unknown}, good), http.StatusUnauthorized},
		"alg none":            {unsigned("none", good), http.StatusUnauthorized},
		"alg None":            {unsigned("None", good), http.StatusUnauthorized},
		"HS256 with the JWK":  {sign(t, jose.SigningKey{Algorithm: jose.HS256, Key: public}, good), http.StatusUnauthorized},
		"HS256 with a point":  {sign(t, jose.SigningKey{Algorithm: jose.HS256, Key: point}, good), http.StatusUnauthorized},
		"HS256 with the name": {sign(t, jose.SigningKey{Algorithm: jose.HS256, Key: []byte(strings.Repeat("known", 7))}, good), http.StatusUnauthorized},
	}
}

// claimsFor are a site's claims with changes; nil takes one away.
func claimsFor(origin string, change map[string]any) []byte {
	now := time.Now().Unix()
	claims := map[string]any{
		"iss": origin, "aud": origin, "sub": "root", "iat": now, "exp": now + 300, "name": "Root", "groups": []string{},
	}
	maps.Copy(claims, change)
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	text, _ := json.Marshal(claims) // strings and numbers
	return text
}

func sign(t *testing.T, key jose.SigningKey, claims []byte) string {
	t.Helper()
	options := (&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", "known")
	signer, err := jose.NewSigner(key, options)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func unsigned(algorithm string, claims []byte) string {
	head := fmt.Sprintf(`{"alg":%q,"typ":"JWT","kid":"known"}`, algorithm)
	return base64.RawURLEncoding.EncodeToString([]byte(head)) + "." + base64.RawURLEncoding.EncodeToString(claims) + "."
}
