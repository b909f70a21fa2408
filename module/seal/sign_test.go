package seal_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/seal"
)

func signer(t testing.TB, store guest.Store, clock *logintest.Clock) *seal.Signer {
	t.Helper()
	s, err := seal.LoadSigner(context.Background(), store, clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// published are the public keys as a verifier reads them.
func published(t testing.TB, s *seal.Signer) (set jose.JSONWebKeySet) {
	t.Helper()
	if err := json.Unmarshal(s.Keys().JSON, &set); err != nil {
		t.Fatal(err)
	}
	return set
}

// verified opens a token with a key set, and says which key had signed it.
func verified(t testing.TB, set jose.JSONWebKeySet, token string) (claims, kid string, ok bool) {
	t.Helper()
	parsed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	plain, err := parsed.Verify(set)
	return string(plain), parsed.Signatures[0].Header.KeyID, err == nil
}

func signed(t testing.TB, s *seal.Signer) string {
	t.Helper()
	token, err := s.Sign([]byte(`{"sub":"ada"}`))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestOthersVerifyWhatWeSign(t *testing.T) {
	s := signer(t, logintest.Store(t), new(logintest.Clock))
	set := published(t, s)
	for range 300 { // a number with zeros in front comes once in 128
		if claims, _, ok := verified(t, set, signed(t, s)); !ok || claims != `{"sub":"ada"}` {
			t.Fatalf("%q, %t", claims, ok)
		}
	}
	token := signed(t, s)
	head, rest, _ := strings.Cut(token, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	for _, forged := range []string{
		head + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"eve"}`)) + "." + signature,
		head + "." + payload + "." + strings.Repeat("A", len(signature)),
	} {
		if _, _, ok := verified(t, set, forged); ok {
			t.Errorf("verifies %s", forged)
		}
	}
}

func TestKeyIsNamedByItsThumbprintAndShowsNoSecret(t *testing.T) {
	s := signer(t, logintest.Store(t), new(logintest.Clock))
	_, kid, _ := verified(t, published(t, s), signed(t, s))
	key := published(t, s).Keys[0]
	print, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if want := base64.RawURLEncoding.EncodeToString(print); kid != want || key.KeyID != want {
		t.Errorf("signs as %s, published as %s, want %s", kid, key.KeyID, want)
	}
	if !key.IsPublic() || key.Algorithm != "ES256" || key.Use != "sig" || strings.Contains(string(s.Keys().JSON), `"d"`) {
		t.Errorf("published: %s", s.Keys().JSON)
	}
}

func TestNewKeyIsPublishedBeforeItSignsAndTheOldOneAfter(t *testing.T) {
	store, clock := logintest.Store(t), new(logintest.Clock)
	s := signer(t, store, clock)
	pass := func(d time.Duration) {
		t.Helper()
		clock.Advance(d)
		if err := s.Rotate(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	pass(seal.SigningLife)
	before := published(t, s)
	if len(before.Keys) != 1 {
		t.Fatalf("rotates too early: %d keys", len(before.Keys))
	}
	pass(time.Second)
	notice := published(t, s)
	if len(notice.Keys) != 2 {
		t.Fatalf("does not rotate: %d keys", len(notice.Keys))
	}
	clock.Advance(time.Hour)
	token := signed(t, s)
	if _, _, ok := verified(t, before, token); !ok {
		t.Error("signs with a key that verifiers have had no hour to learn")
	}
	clock.Advance(time.Hour + time.Second)
	last := token
	if _, kid, ok := verified(t, notice, signed(t, s)); !ok || kid == before.Keys[0].KeyID {
		t.Errorf("still signs with %s, %t", kid, ok)
	}
	pass(seal.SignatureLife + 59*time.Minute)
	if _, _, ok := verified(t, published(t, s), last); !ok {
		t.Error("takes the old key away at once")
	}
	pass(2 * time.Minute)
	if after := published(t, s); len(after.Keys) != 1 || after.Keys[0].KeyID == before.Keys[0].KeyID {
		t.Errorf("keeps the old key for good: %d keys", len(after.Keys))
	}
	if _, _, ok := verified(t, published(t, signer(t, store, clock)), signed(t, s)); !ok {
		t.Error("another key after a restart")
	}
}

// A machine that was off for a year has no key that anybody may still sign with,
// and one that nobody knows yet.
func TestKeyThatIsOldAtStartSignsUntilTheNextIsKnown(t *testing.T) {
	store, clock := logintest.Store(t), new(logintest.Clock)
	old := published(t, signer(t, store, clock))
	clock.Advance(365 * 24 * time.Hour)
	s := signer(t, store, clock)
	if _, _, ok := verified(t, old, signed(t, s)); !ok || len(published(t, s).Keys) != 2 {
		t.Errorf("%t, %d keys", ok, len(published(t, s).Keys))
	}
}

func TestClockThatGoesBackStillSigns(t *testing.T) {
	clock := new(logintest.Clock)
	s := signer(t, logintest.Store(t), clock)
	clock.Advance(-20 * 365 * 24 * time.Hour)
	if err := s.Rotate(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, _, ok := verified(t, published(t, s), signed(t, s)); !ok {
		t.Error("signs with a key that is not published")
	}
}

func TestSealingKeysMayBeRenewedWithoutTheSigningKey(t *testing.T) {
	store, clock := logintest.Store(t), new(logintest.Clock)
	s := signer(t, store, clock)
	if err := seal.Renew(context.Background(), store, clock.Now); err != nil {
		t.Fatal(err)
	}
	if _, _, ok := verified(t, published(t, signer(t, store, clock)), signed(t, s)); !ok {
		t.Error("another key")
	}
}

func TestRotationThatFailsKeepsTheSigningKey(t *testing.T) {
	clock, store := new(logintest.Clock), &switched{logintest.Store(t)}
	s, closed := signer(t, store, clock), logintest.Store(t)
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	store.Store = closed
	if err := s.Rotate(context.Background()); !errors.Is(err, guest.ErrClosed) {
		t.Errorf("rotating in a closed store: %v", err)
	}
	if _, _, ok := verified(t, published(t, s), signed(t, s)); !ok {
		t.Error("the key is gone")
	}
}

func pemOf(kind string, der []byte, err error) string {
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func TestOperatorsKeySignsAndStays(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err8 := x509.MarshalPKCS8PrivateKey(key)
	sec1, err1 := x509.MarshalECPrivateKey(key)
	parameters := pemOf("EC PARAMETERS", []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}, nil)
	clock := new(logintest.Clock)
	for name, text := range map[string]string{
		"PKCS #8": pemOf("PRIVATE KEY", pkcs8, err8), "SEC 1": pemOf("EC PRIVATE KEY", sec1, err1),
		"as openssl ecparam writes it": parameters + pemOf("EC PRIVATE KEY", sec1, err1),
	} {
		s, err := seal.SignerOf(text, clock.Now)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		clock.Advance(2 * seal.SigningLife)
		if err := s.Rotate(context.Background()); err != nil {
			t.Error(err)
		}
		if set := published(t, s); len(set.Keys) != 1 || !key.PublicKey.Equal(set.Keys[0].Key) {
			t.Errorf("%s: publishes %s", name, s.Keys().JSON)
		}
		if _, _, ok := verified(t, published(t, s), signed(t, s)); !ok {
			t.Errorf("%s: does not verify", name)
		}
	}
}

func TestKeysThatCannotSignAreRefusedWithTheCure(t *testing.T) {
	other, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	ec, errEC := x509.MarshalPKCS8PrivateKey(other)
	rsaKey, _ := rsa.GenerateKey(rand.Reader, 2048)
	rs, errRS := x509.MarshalPKCS8PrivateKey(rsaKey)
	public, errPublic := x509.MarshalPKIXPublicKey(&other.PublicKey)
	for name, text := range map[string]string{
		"nothing": "", "a path": "/etc/signing.pem", "garbage": pemOf("PRIVATE KEY", []byte("x"), nil),
		"P-384": pemOf("PRIVATE KEY", ec, errEC), "RSA": pemOf("PRIVATE KEY", rs, errRS),
		"RSA, PKCS #1": pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey), nil),
		"public":       pemOf("PUBLIC KEY", public, errPublic),
		"locked":       pemOf("ENCRYPTED PRIVATE KEY", []byte("x"), nil),
		"locked, SEC 1": string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: []byte("x"),
			Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}})),
	} {
		_, err := seal.SignerOf(text, time.Now)
		if err == nil || !strings.Contains(err.Error(), "openssl") && !strings.Contains(err.Error(), "passphrase") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A restored backup brings its own keys: what is signed from then on must be
// what a restart would publish.
func TestRotatingUsesTheKeysOfWhatWasPutThere(t *testing.T) {
	clock := new(logintest.Clock)
	store, other := &switched{logintest.Store(t)}, logintest.Store(t)
	s, others := signer(t, store, clock), signer(t, other, clock)
	store.Store = other
	if err := s.Rotate(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, _, ok := verified(t, published(t, others), signed(t, s)); !ok || s.Keys().Fingerprint != others.Keys().Fingerprint {
		t.Error("signs with the keys of what was there before")
	}
}
