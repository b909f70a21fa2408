package oidc

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/url"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	jose "github.com/go-jose/go-jose/v4"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

func newKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (i *issuer) byKey(t testing.TB, key crypto.Signer, keyID string) *OIDC {
	i.lax = true
	return open(t, i, &OIDC{
		Options: provider.Options{Name: "test", ClientID: clientID}, Endpoints: Endpoints{Issuer: i.url},
		ClientKey: ClientKey{PrivateKey: pkcs8(t, key), KeyID: keyID},
	})
}

func TestClientAssertionProvesWhoWeAre(t *testing.T) {
	p384, p521 := newKey(t, elliptic.P384()), newKey(t, elliptic.P521())
	for name, row := range map[string]struct {
		key    crypto.Signer
		listed []string
		want   jose.SignatureAlgorithm
	}{
		"RSA":                {keys().rsa, nil, jose.RS256},
		"RSA, both listed":   {keys().rsa, []string{"PS256", "RS256"}, jose.RS256},
		"RSA, PSS alone":     {keys().rsa, []string{"ES256", "PS256"}, jose.PS256},
		"RSA, nothing fits":  {keys().rsa, []string{"ES256"}, jose.RS256},
		"P-256":              {keys().ec, nil, jose.ES256},
		"P-256, not listed":  {keys().ec, []string{"RS256"}, jose.ES256},
		"P-384":              {p384, nil, jose.ES384},
		"P-521":              {p521, nil, jose.ES512},
		"Ed25519":            {keys().ed, nil, jose.EdDSA},
		"Ed25519 and a list": {keys().ed, []string{"RS256", "EdDSA"}, jose.EdDSA},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			i.doc = object{"token_endpoint_auth_signing_alg_values_supported": row.listed, "token_endpoint_auth_methods_supported": []string{"private_key_jwt"}}
			p := i.byKey(t, row.key, "key-1")
			if _, err := i.signIn(t, p); err != nil {
				t.Fatal(err)
			}
			first := i.checkAssertion(t, row.key.Public(), row.want, "key-1")
			i.refresh = "refresh-0"
			if _, err := p.Renew(context.Background(), i.keeps("refresh-0")); err != nil {
				t.Fatal(err)
			}
			if again := i.checkAssertion(t, row.key.Public(), row.want, "key-1"); again == first {
				t.Error("one assertion served two calls")
			}
		})
	}
}

// checkAssertion checks the last call's and returns its jti.
func (i *issuer) checkAssertion(t *testing.T, key crypto.PublicKey, alg jose.SignatureAlgorithm, keyID string) string {
	t.Helper()
	form := i.form.Load().(url.Values)
	if form.Has("client_secret") || form.Get("client_id") != clientID || form.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
		t.Errorf("the form has %v", form)
	}
	jws, err := jose.ParseSignedCompact(form.Get("client_assertion"), []jose.SignatureAlgorithm{alg})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := jws.Verify(key)
	if err != nil {
		t.Fatal(err)
	}
	header := jws.Signatures[0].Protected
	if header.KeyID != keyID || header.ExtraHeaders["typ"] != "JWT" || header.JSONWebKey != nil {
		t.Errorf("header is %+v", header)
	}
	var c struct {
		Iss, Sub, Aud, Jti string
		Iat, Exp           int64
	}
	if err := json.Unmarshal(payload, &c); err != nil {
		t.Fatal(err)
	}
	now := i.clock.Now().Unix()
	if c.Iss != clientID || c.Sub != clientID || c.Aud != i.Server.URL+"/token" || c.Iat != now || c.Exp <= now || c.Exp > now+300 || len(c.Jti) < 22 {
		t.Errorf("claims are %s", payload)
	}
	return c.Jti
}

func TestClientKeyMayHaveNoName(t *testing.T) {
	i := newIssuer(t)
	if _, err := i.signIn(t, i.byKey(t, keys().ec, "")); err != nil {
		t.Fatal(err)
	}
	i.checkAssertion(t, keys().ec.Public(), jose.ES256, "")
}

func TestOktaTakesAClientKey(t *testing.T) {
	i := newIssuer(t)
	i.lax = true
	o := open(t, i, &Okta{
		Options: provider.Options{ClientID: clientID}, Endpoints: Endpoints{Issuer: i.url},
		ClientKey: ClientKey{PrivateKey: pkcs8(t, keys().ec), KeyID: "k"},
	})
	if _, err := i.signIn(t, o); err != nil {
		t.Fatal(err)
	}
	i.checkAssertion(t, keys().ec.Public(), jose.ES256, "k")
}

func TestClientKeyMistakesNameTheCureAndNoKey(t *testing.T) {
	sec1, err := x509.MarshalECPrivateKey(keys().ec)
	if err != nil {
		t.Fatal(err)
	}
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := pkcs8(t, keys().ec)
	inner := strings.Split(good, "\n")[1]
	for name, row := range map[string]struct {
		key                   ClientKey
		auth, secret, id, say string
	}{
		"a path":          {key: ClientKey{PrivateKey: "/etc/sso.pem"}, say: "private_key is no PEM text"},
		"SEC 1":           {key: ClientKey{PrivateKey: string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1}))}, say: "of another kind than PRIVATE KEY"},
		"damaged":         {key: ClientKey{PrivateKey: strings.Replace(good, inner, strings.Repeat("A", len(inner)), 1)}, say: "private_key is damaged"},
		"P-224":           {key: ClientKey{PrivateKey: pkcs8(t, newKey(t, elliptic.P224()))}, say: "is neither RSA, nor ECDSA"},
		"X25519":          {key: ClientKey{PrivateKey: pkcs8(t, x25519)}, say: "private_key cannot sign"},
		"RSA 1024":        {key: ClientKey{PrivateKey: pkcs8(t, keys().weak)}, say: "is RSA of less than 2048 bits"},
		"no file":         {key: ClientKey{PrivateKey: "{file./nowhere}"}, say: "private_key is empty: make /nowhere a readable file"},
		"no name":         {key: ClientKey{PrivateKey: good, KeyID: "{env.LOGIN_TEST_UNSET}"}, say: "key_id is empty: set LOGIN_TEST_UNSET"},
		"no key":          {auth: "private_key_jwt", secret: "s", say: "client_auth private_key_jwt needs a key: write private_key"},
		"a name alone":    {key: ClientKey{KeyID: "k"}, secret: "s", say: "key_id names a private_key, and there is none"},
		"a secret beside": {key: ClientKey{PrivateKey: good}, secret: "s3cret", say: "client_secret and private_key prove the same: write one of them"},
		"another way":     {key: ClientKey{PrivateKey: good}, auth: "basic", say: "client_auth basic has no use for a private_key"},
		"no secret":       {say: "client_secret is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &OIDC{
				Options: provider.Options{Name: "a", ClientID: "i", ClientSecret: row.secret}, Endpoints: Endpoints{Issuer: "https://o.example"},
				ClientAuth: row.auth, ClientKey: row.key,
			}
			err := p.Provision(caddy.Context{})
			if err == nil || !strings.Contains(err.Error(), row.say) {
				t.Fatalf("got %v, want %s", err, row.say)
			}
			if strings.Contains(err.Error(), inner[:20]) || strings.Contains(err.Error(), "s3cret") {
				t.Error("the error quotes a secret")
			}
		})
	}
}

func TestClientAssertionIsToldNobody(t *testing.T) {
	i := newIssuer(t)
	i.intruder = at("/token", `{"error":"invalid_client","error_description":"eyJ"}`)
	p := i.byKey(t, keys().ec, "k")
	_, err := i.signIn(t, p)
	if err == nil || guest.ReasonOf(err) != guest.Refused || strings.Contains(err.Error(), "eyJ") {
		t.Errorf("got %v", err)
	}
}
