package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// respelled are all other spellings of a token that decode to the same bytes:
// the last letter of a part may carry bits that stand for nothing.
func respelled(token string) (all []string) {
	parts := strings.Split(token, ".")
	for n, part := range parts {
		want, _ := decode64(part)
		for _, letter := range alphabet {
			other := part[:len(part)-1] + string(letter)
			got, err := base64.RawURLEncoding.DecodeString(other)
			if err != nil || other == part || string(got) != string(want) {
				continue
			}
			changed := slices.Clone(parts)
			changed[n] = other
			all = append(all, strings.Join(changed, "."))
		}
	}
	return all
}

// An app's ID token is used up by what it says. In another spelling it would be
// another token.
func TestTokenHasOneSpelling(t *testing.T) {
	spellings := 0
	for length := range 3 { // of the payload, modulo 3
		i := newIssuer(t)
		p := i.oidc(t)
		i.alg, i.signer, i.jwks = "ES256", keys().ec, []object{jwk("k1", keys().ec.Public())}
		i.claims = object{"nonce": nil, "x": strings.Repeat("x", length)}
		token := i.idToken()
		taken := guest.NativeToken{Kind: guest.IDToken, Token: guest.Secret(token)}
		if _, err := p.TakeNative(context.Background(), taken); err != nil {
			t.Fatal(err)
		}
		for _, other := range respelled(token) {
			spellings++
			taken.Token = guest.Secret(other)
			if _, err := p.TakeNative(context.Background(), taken); guest.ReasonOf(err) != guest.Untrusted || err == nil {
				t.Errorf("in another spelling it is good: %v", err)
			}
		}
	}
	if spellings < 18 {
		t.Errorf("only %d spellings were tried", spellings)
	}
}

// oddKeys are no keys to verify a signature with, though a careless reader
// would take them for some.
func oddKeys() map[string]object {
	good, ec := jwk("k1", keys().rsa.Public()), jwk("k1", keys().ec.Public())
	of := func(key, more object) object { return merged(maps.Clone(key), more) }
	small, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	return map[string]object{
		"RSA, e of 1":              of(good, object{"e": b64([]byte{1})}),
		"RSA, even e":              of(good, object{"e": b64([]byte{1, 0, 0})}),
		"RSA, e of nothing":        of(good, object{"e": ""}),
		"RSA, e of 64 bits":        of(good, object{"e": b64([]byte{1, 0, 0, 0, 0, 0, 0, 1})}),
		"RSA of nothing":           of(good, object{"n": ""}),
		"RSA of zeros":             of(good, object{"n": b64(make([]byte, 256))}),
		"RSA of 512 bits":          of(good, object{"n": b64(append([]byte{0x80}, make([]byte, 63)...))}),
		"RSA of 64 KiB":            of(good, object{"n": b64(append([]byte{0x80}, make([]byte, 64<<10)...))}),
		"RSA, private":             of(good, object{"d": b64([]byte{3})}),
		"RSA, private part null":   of(good, object{"d": 7}),
		"RSA for encryption":       of(good, object{"key_ops": []string{"encrypt", "wrapKey"}}),
		"RSA for nothing":          of(good, object{"key_ops": []string{}}),
		"RSA, operations no list":  of(good, object{"key_ops": object{"verify": true}}),
		"RSA, use in capitals":     of(good, object{"use": "SIG"}),
		"RSA, use a list":          of(good, object{"use": []string{"sig"}}),
		"RSA, alg of another type": of(good, object{"alg": "ES256"}),
		"RSA, alg none":            of(good, object{"alg": "none"}),
		"EC off the curve":         of(ec, object{"y": b64(big.NewInt(7).FillBytes(make([]byte, 32)))}),
		"EC at infinity":           of(ec, object{"x": b64(make([]byte, 32)), "y": b64(make([]byte, 32))}),
		"EC of another curve":      of(ec, object{"crv": "P-384"}),
		"EC without y":             of(ec, object{"y": nil}),
		"EC, short x":              of(ec, object{"x": b64([]byte{1})}),
		"EC, P-224":                of(ec, object{"crv": "P-224", "x": b64(small.X.FillBytes(make([]byte, 28)))}),
		"OKP, X25519":              {"kty": "OKP", "kid": "k1", "crv": "X25519", "x": b64(make([]byte, 32))},
		"OKP, short":               {"kty": "OKP", "kid": "k1", "crv": "Ed25519", "x": b64(make([]byte, 31))},
		"oct":                      {"kty": "oct", "kid": "k1", "k": b64(make([]byte, 32))},
	}
}

// Keys that are none neither verify nor keep the good one beside them, of the
// same ID, from doing so, in whatever order.
func TestOddKeysVerifyNothing(t *testing.T) {
	for name, odd := range oddKeys() {
		i := newIssuer(t)
		i.jwks = []object{odd}
		if _, err := i.signIn(t, i.oidc(t)); guest.ReasonOf(err) != guest.Untrusted || err == nil {
			t.Errorf("%s alone: %v", name, err)
		}
		i.jwks = []object{odd, jwk("k1", keys().rsa.Public()), odd}
		if _, err := i.signIn(t, i.oidc(t)); err != nil {
			t.Errorf("%s beside a good one: %v", name, err)
		}
	}
	i := newIssuer(t)
	for name, odd := range oddKeys() {
		if name != "RSA of 64 KiB" {
			i.jwks = append(slices.Repeat([]object{odd}, 20), i.jwks...)
		}
	}
	delete(i.jwks[len(i.jwks)-1], "kid")
	i.jwks[len(i.jwks)-1]["key_ops"] = []string{"verify"}
	if _, err := i.signIn(t, i.oidc(t)); err != nil {
		t.Errorf("the last of %d keys: %v", len(i.jwks), err)
	}
}

// A set of as many keys as fit is read within the time that a visitor waits for
// it at most, however many of them have the token's ID.
func TestThousandsOfKeysAreReadInTime(t *testing.T) {
	i := newIssuer(t)
	var tiny []string
	for size := 0; size < maxKeys-200; size += len(tiny[0]) + 1 {
		tiny = append(tiny, `{"kty":"OKP","crv":"Ed25519","kid":"k1","x":"`+strings.Repeat("A", 43)+`"}`)
	}
	i.intruder = at("/keys", `{"keys":[`+strings.Join(tiny, ",")+"]}")
	begun := time.Now()
	if _, err := i.signIn(t, i.oidc(t)); guest.ReasonOf(err) != guest.Untrusted {
		t.Errorf("got %v", err)
	}
	took := time.Since(begun)
	t.Logf("%d keys took %s", len(tiny), took)
	if took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
}

// What is wrong about times, audiences and signatures in ways that a parser may
// be lenient about.
func TestTokensThatALenientReaderWouldTake(t *testing.T) {
	payload := func(exp, more string) func(*issuer) {
		return func(i *issuer) {
			i.payload = fmt.Sprintf(`{"iss":%q,"sub":"x","aud":%q,"nonce":"NONCE","iat":%d,"exp":%s%s}`, i.url, clientID, epoch.Unix(), exp, more)
		}
	}
	later := fmt.Sprint(epoch.Unix() + 300)
	signature := func(sig []byte) func(*issuer) {
		return func(i *issuer) {
			useEC(i)
			i.mangle = func(token string) string { return token[:strings.LastIndexByte(token, '.')+1] + b64(sig) }
		}
	}
	for name, spoil := range map[string]func(*issuer){
		"exp beyond all numbers":        payload("1e400", ""),
		"exp negative":                  payload("-1", ""),
		"exp negative and large":        payload("-1e300", ""),
		"exp a list":                    payload("["+later+"]", ""),
		"exp null":                      payload("null", ""),
		"exp true":                      payload("true", ""),
		"exp with leading zeros":        payload("00"+later, ""),
		"exp in hexadecimal":            payload("0x7fffffff", ""),
		"nbf far ahead":                 payload(later, `,"nbf":99999999999`),
		"nbf beyond all numbers":        payload(later, `,"nbf":1e999`),
		"aud of 10,000 and us, no azp":  func(i *issuer) { i.claims = object{"aud": append(slices.Repeat([]string{"x"}, 10_000), clientID)} },
		"aud of 10,000 others":          func(i *issuer) { i.claims = object{"aud": slices.Repeat([]string{clientID + "x"}, 10_000)} },
		"aud an object":                 func(i *issuer) { i.claims = object{"aud": object{clientID: true}} },
		"aud of us in a list in a list": func(i *issuer) { i.claims = object{"aud": []any{[]string{clientID}}} },
		"b64 false without crit":        func(i *issuer) { i.header = object{"b64": false}; i.mangle = unencoded },
		"a token in a token":            func(i *issuer) { i.payload = i.idToken(); i.header = object{"cty": "JWT"} },
		"five parts, as of encryption":  func(i *issuer) { i.mangle = func(s string) string { return s + ".AA.AA" } },
		"kid a number":                  func(i *issuer) { i.header = object{"kid": 1} },
		"kid a list":                    func(i *issuer) { i.header = object{"kid": []string{"k1"}} },
		"kid of a path":                 func(i *issuer) { i.header = object{"kid": "../../../../dev/null"} },
		"alg a list":                    func(i *issuer) { i.header = object{"alg": []string{"RS256"}} },
		"alg twice": func(i *issuer) {
			i.mangle = func(s string) string { return sign(i.signer, "RS256", `{"alg":"none","alg":"RS256"}`, part(s, 1)) }
		},
		"ECDSA of zeros":               signature(make([]byte, 64)),
		"ECDSA of the curve's order":   signature(append(elliptic.P256().Params().N.Bytes(), elliptic.P256().Params().N.Bytes()...)),
		"ECDSA of nothing":             signature(nil),
		"ECDSA of one byte":            signature([]byte{1}),
		"ECDSA with a byte too many":   signature(make([]byte, 65)),
		"ECDSA as ASN.1 of two zeroes": signature([]byte{0x30, 6, 2, 1, 0, 2, 1, 0}),
	} {
		i := newIssuer(t)
		spoil(i)
		if got, err := i.signIn(t, i.oidc(t)); guest.ReasonOf(err) != guest.Untrusted || err == nil || got.Subject != "" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// unencoded leaves a token's payload as it is (RFC 7797).
func unencoded(token string) string {
	parts := strings.Split(token, ".")
	return parts[0] + "." + string(part(token, 1)) + "." + parts[2]
}

func part(token string, n int) []byte {
	data, _ := decode64(strings.Split(token, ".")[n])
	return data
}
