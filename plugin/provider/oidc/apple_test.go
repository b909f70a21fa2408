package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

func pkcs8(t testing.TB, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// newApple plays Apple: no userinfo, no PKCE in its document, flags as text.
func newApple(t testing.TB) *issuer {
	i := newIssuer(t)
	i.url, i.lax = i.Server.URL, true
	i.doc = object{
		"userinfo_endpoint":                     nil,
		"id_token_signing_alg_values_supported": []string{"RS256"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_post"},
	}
	i.claims = object{"name": nil, "email_verified": "true", "is_private_email": "true", "nonce_supported": true}
	return i
}

func (i *issuer) apple(t testing.TB) *Apple {
	return open(t, i, &Apple{
		Options:   provider.Options{ClientID: clientID},
		Endpoints: Endpoints{Issuer: i.url}, TeamID: "DEF123GHIJ", KeyID: "ABC123DEFG", PrivateKey: pkcs8(t, keys().ec),
	})
}

func TestAppleIsAskedForAPostedAnswer(t *testing.T) {
	i := newApple(t)
	p := i.apple(t)
	a := attempt()
	address, err := p.Begin(context.Background(), a)
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(address)
	q := u.Query()
	if q.Get("response_mode") != "form_post" || q.Get("response_type") != "code" || q.Get("scope") != "openid email name" ||
		q.Get("nonce") != a.Nonce || q.Get("code_challenge") == "" {
		t.Errorf("asked for %v", q)
	}
	if traits := p.Traits(); !traits.FormPost || traits.Brand != "apple" || traits.Label != "Apple" || traits.Name != "apple" {
		t.Errorf("traits are %+v", traits)
	}
}

func TestAppleClientSecretIsMintedForEachCall(t *testing.T) {
	i := newApple(t)
	p := i.apple(t)
	var secrets []string
	for range 2 {
		if _, err := i.signIn(t, p); err != nil {
			t.Fatal(err)
		}
		form := i.form.Load().(url.Values)
		if form.Get("client_id") != clientID || form.Get("code_verifier") == "" {
			t.Errorf("the exchange has %v", form)
		}
		secrets = append(secrets, form.Get("client_secret"))
		checkAppleSecret(t, i, form.Get("client_secret"))
		i.clock.Advance(time.Minute)
	}
	if secrets[0] == secrets[1] {
		t.Error("one secret served two calls")
	}
}

func checkAppleSecret(t *testing.T, i *issuer, secret string) {
	t.Helper()
	part := strings.Split(secret, ".")
	if len(part) != 3 {
		t.Fatal("the client secret is no token")
	}
	var header, claims object
	for n, to := range []*object{&header, &claims} {
		raw, err := decode64(part[n])
		if err != nil || json.Unmarshal(raw, to) != nil {
			t.Fatal("the client secret is no token")
		}
	}
	if header["alg"] != "ES256" || header["kid"] != "ABC123DEFG" {
		t.Errorf("header is %v", header)
	}
	now := float64(i.clock.Now().Unix())
	want := object{"iss": "DEF123GHIJ", "sub": clientID, "aud": "https://appleid.apple.com", "iat": now, "exp": now + 300}
	if !maps.Equal(claims, want) {
		t.Errorf("claims are %v, want %v", claims, want)
	}
	sig, _ := decode64(part[2])
	sum := sha256.Sum256([]byte(part[0] + "." + part[1]))
	r, s := new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])
	if !ecdsa.Verify(&keys().ec.PublicKey, sum[:], r, s) {
		t.Error("signature is wrong")
	}
}

func TestAppleAddresses(t *testing.T) {
	for name, row := range map[string]struct {
		claims object
		want   guest.Trust
	}{
		"relay":                 {object{"email": "x7@privaterelay.appleid.com"}, guest.Authoritative},
		"icloud":                {object{"email": "a@icloud.com", "email_verified": true}, guest.Authoritative},
		"me, capitals":          {object{"email": "A@Me.com"}, guest.Authoritative},
		"mac":                   {object{"email": "a@mac.com"}, guest.Authoritative},
		"icloud, not verified":  {object{"email": "a@icloud.com", "email_verified": "false"}, guest.Asserted},
		"icloud, no flag":       {object{"email": "a@icloud.com", "email_verified": nil}, guest.Asserted},
		"relay as a subdomain":  {object{"email": "a@privaterelay.appleid.com.evil.example"}, guest.Verified},
		"below apple's":         {object{"email": "a@x.icloud.com"}, guest.Verified},
		"elsewhere":             {object{}, guest.Verified},
		"elsewhere, as boolean": {object{"email_verified": true}, guest.Verified},
		"elsewhere, as 1":       {object{"email_verified": 1}, guest.Asserted},
		"none":                  {object{"email": nil}, guest.NoEmail},
	} {
		t.Run(name, func(t *testing.T) {
			i := newApple(t)
			i.claims = with(i.claims, row.claims)
			got, err := i.signIn(t, i.apple(t))
			if err != nil || got.EmailTrust != row.want {
				t.Errorf("trust is %d, want %d, %v", got.EmailTrust, row.want, err)
			}
			if got.Issuer != i.url || got.Subject != "sub-1" {
				t.Errorf("identity is %s of %s", got.Subject, got.Issuer)
			}
		})
	}
}

func TestAppleNameComesWithTheFirstAnswer(t *testing.T) {
	long := strings.Repeat("ä", 400)
	for user, want := range map[string]string{
		"": "",
		`{"name":{"firstName":"Ada","lastName":"Lovelace"},"email":"victim@corp.example"}`: "Ada Lovelace",
		`{"name":{"firstName":"Ada"}}`:                              "Ada",
		`{"name":{"firstName":"","lastName":" Lovelace "}}`:         "Lovelace",
		`{"name":{"firstName":"A\u202eda\u0000","lastName":"<b>"}}`: "Ada <b>",
		`{"name":{"firstName":["Ada"],"lastName":7}}`:               "",
		`{"name":{"FirstName":"Ada"}}`:                              "",
		`{"name":{"firstName":"Ada","firstName":"Eve"}}`:            "",
		`{"name":"Ada"}`:                  "",
		`{"name":null}`:                   "",
		`{"email":"victim@corp.example"}`: "",
		`["Ada"]`:                         "",
		`{"name":{"firstName":"Ada"}`:     "",
		`{"name":{"firstName":"` + long + `","lastName":"Lovelace"}}`: strings.Repeat("ä", 50) + " Lovelace",
		`{"name":` + strings.Repeat("[", 99):                          "",
	} {
		i := newApple(t)
		got, err := i.answerWith(t, i.apple(t), url.Values{"code": {"the-code"}, "user": {user}})
		if err != nil || got.Name != want || got.Email != "ada@example.com" {
			t.Errorf("%.80s: name %q, address %q, %v; want %q", user, got.Name, got.Email, err, want)
		}
	}
}

func TestSignedNameWinsOverAPostedOne(t *testing.T) {
	i := newApple(t)
	i.claims["name"] = "Ada"
	got, err := i.answerWith(t, i.apple(t), url.Values{"code": {"the-code"}, "user": {`{"name":{"firstName":"Eve"}}`}})
	if err != nil || got.Name != "Ada" {
		t.Errorf("name is %q, %v", got.Name, err)
	}
}

func TestAppleTokensThatMustBeRefused(t *testing.T) {
	for name, claims := range map[string]object{
		"nonce missing":                  {"nonce": nil},
		"nonce missing, not supported":   {"nonce": nil, "nonce_supported": false},
		"nonce of another":               {"nonce": "another"},
		"aud of the team's app":          {"aud": "com.example.app"},
		"iss of Apple's other service":   {"iss": "https://account.apple.com"},
		"sub missing":                    {"sub": nil},
		"expired for as long as a token": {"iat": epoch.Unix() - 600, "exp": epoch.Unix() - 61},
	} {
		i := newApple(t)
		i.claims = with(i.claims, claims)
		if _, err := i.signIn(t, i.apple(t)); err == nil || guest.ReasonOf(err) != guest.Untrusted {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAppleCancelledByThePerson(t *testing.T) {
	i := newApple(t)
	_, err := i.answerWith(t, i.apple(t), url.Values{"error": {"user_cancelled_authorize"}})
	if guest.ReasonOf(err) != guest.Cancelled || i.spent.Load() != 0 {
		t.Errorf("got %v after %d calls", err, i.spent.Load())
	}
	if _, err = i.answerWith(t, i.apple(t), url.Values{"error": {"invalid_request"}}); guest.ReasonOf(err) != guest.Refused {
		t.Error(err)
	}
}

func TestApplePrivateKeyMistakesNameTheCureAndNoKey(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(keys().ec)
	if err != nil {
		t.Fatal(err)
	}
	good := pkcs8(t, keys().ec)
	inner := strings.Split(good, "\n")[1]
	for name, row := range map[string]struct{ key, want string }{
		"a path":        {"/etc/AuthKey.p8", "is no PEM text"},
		"one line":      {strings.ReplaceAll(good, "\n", ""), "is no PEM text"},
		"base64 alone":  {inner, "is no PEM text"},
		"SEC 1":         {string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})), "of another kind than PRIVATE KEY"},
		"a certificate": {string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: sec1})), "of another kind than PRIVATE KEY"},
		"damaged":       {strings.Replace(good, inner, strings.Repeat("A", len(inner)), 1), "is damaged"},
		"RSA":           {pkcs8(t, keys().rsa), "is not on the curve P-256"},
		"P-384":         {pkcs8(t, p384), "is not on the curve P-256"},
	} {
		t.Run(name, func(t *testing.T) {
			a := &Apple{Options: provider.Options{ClientID: "c"}, TeamID: "t", KeyID: "k", PrivateKey: row.key}
			err := a.Provision(caddy.Context{})
			if err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), "write {file./path/AuthKey_….p8}") {
				t.Fatalf("got %v, want %s", err, row.want)
			}
			if strings.Contains(err.Error(), inner[:20]) {
				t.Error("the error quotes the key")
			}
		})
	}
}

func TestAppleMissingSettingsNameTheCure(t *testing.T) {
	whole := func() *Apple {
		return &Apple{Options: provider.Options{ClientID: "c"}, TeamID: "t", KeyID: "k", PrivateKey: pkcs8(t, keys().ec)}
	}
	if err := whole().Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*Apple){
		"client_id is missing: write client_id":         func(a *Apple) { a.ClientID = "" },
		"team_id is missing: write team_id":             func(a *Apple) { a.TeamID = "" },
		"key_id is missing: write key_id":               func(a *Apple) { a.KeyID = "" },
		"private_key is missing: write private_key":     func(a *Apple) { a.PrivateKey = "" },
		"private_key is empty: make /nowhere a":         func(a *Apple) { a.PrivateKey = "{file./nowhere}" },
		"client_secret: Apple takes none, it makes one": func(a *Apple) { a.ClientSecret = "x" },
	} {
		a := whole()
		spoil(a)
		if err := a.Provision(caddy.Context{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestApplePrivateKeyStaysOutOfWhatIsPrinted(t *testing.T) {
	i := newApple(t)
	i.intruder = at("/token", `{"error":"invalid_client"}`)
	p := i.apple(t)
	_, err := i.signIn(t, p)
	if err == nil {
		t.Fatal("signed in")
	}
	key := strings.Split(p.PrivateKey, "\n")[1]
	if text := fmt.Sprint(err, p.minter.client); strings.Contains(text, key) || strings.Contains(text, "eyJ") {
		t.Errorf("an error tells a secret: %s", text)
	}
}

func FuzzAppleName(f *testing.F) {
	f.Add(`{"name":{"firstName":"Ada","lastName":"Lovelace"},"email":"victim@corp.example"}`)
	f.Add(`{"name":{"firstName":"\u202e\ud800\u0000"}}`)
	f.Add(`{"name":"` + strings.Repeat("x", 300) + `"}`)
	f.Fuzz(func(t *testing.T, user string) {
		name := appleName(url.Values{"user": {user}})
		if len(name) > 2*maxAppleName+1 || name != provider.Display(name) {
			t.Errorf("%q became the name %q", user, name)
		}
	})
}
