package logintest

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"math/big"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func sample() map[string]any {
	return map[string]any{
		"iss": "https://issuer.example/a/b", "exp": 1_700_000_100, "iat": 1_700_000_000, "auth_time": 1, "n": -1.5e-3,
		"aud": []any{"a", map[string]any{"exp": 1_700_000_000}}, "none": nil, "yes": true, "no": false,
		`"\/<` + "\u2028": "ü \"quoted\" \\/ </script>\n", "": "", "email_verified": "true", "empty": []any{}, "bare": map[string]any{},
	}
}

// whole takes the fractions off times.
func whole(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name := range v {
			v[name] = whole(v[name])
		}
	case []any:
		for n := range v {
			v[n] = whole(v[n])
		}
	case float64:
		if v > 1e6 {
			return math.Floor(v)
		}
	}
	return v
}

func TestOddSpellingsSayTheSame(t *testing.T) {
	plain, _ := newOdds(0).json(sample())
	var want any
	if err := json.Unmarshal(plain, &want); err != nil {
		t.Fatal(err)
	}
	spellings := map[string]bool{}
	for seed := range uint64(300) {
		odd, err := newOdds(seed + 1).json(sample())
		if err != nil {
			t.Fatal(err)
		}
		var got any
		if err := json.Unmarshal(odd, &got); err != nil || !reflect.DeepEqual(whole(got), want) {
			t.Fatalf("seed %d: %v in\n%s", seed+1, err, odd)
		}
		spellings[string(odd)] = true
	}
	if len(spellings) != 300 {
		t.Errorf("only %d spellings", len(spellings))
	}
	for _, odd := range []string{`\/`, `\u0`, "e9", ".25", "\r\n"} {
		if !slices.ContainsFunc(keysOf(spellings), func(s string) bool { return strings.Contains(s, odd) }) {
			t.Errorf("none has %q", odd)
		}
	}
}

func keysOf(set map[string]bool) (keys []string) {
	for key := range set {
		keys = append(keys, key)
	}
	return keys
}

func TestSeedBringsTheSameOdditiesBack(t *testing.T) {
	draw := func(seed uint64) (all []string) {
		o := newOdds(seed)
		doc := sample()
		o.stuff(doc)
		body, err := o.json(doc)
		if err != nil {
			t.Fatal(err)
		}
		ring, err := newKeyring(o)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range ring.set {
			all = append(all, key["kid"].(string))
		}
		return append(all, string(body))
	}
	if first, second := draw(7), draw(7); !slices.Equal(first, second) {
		t.Errorf("seed 7 drew\n%q\nand then\n%q", first, second)
	}
	if slices.Equal(draw(7), draw(8)) {
		t.Error("seeds 7 and 8 are the same")
	}
}

func TestSeedCanBeGiven(t *testing.T) {
	t.Setenv(seedVariable, "42")
	if i := NewIssuer(t); i.Seed != 42 {
		t.Errorf("the seed is %d", i.Seed)
	}
	t.Setenv(seedVariable, "")
	if one, other := NewIssuer(t), NewIssuer(t); one.Seed == other.Seed {
		t.Error("two issuers are alike")
	}
}

func TestKeySetHasWhatTheSuitesHas(t *testing.T) {
	ring, err := newKeyring(newOdds(3))
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, key := range ring.set {
		kind := key["kty"].(string)
		if crv, ok := key["crv"].(string); ok {
			kind += " " + crv
		}
		if key["use"] == "enc" {
			kind += " enc"
		}
		counts[kind]++
		if key["alg"] != nil && kind != "AKP" || key["d"] != nil || key["kid"] == nil {
			t.Errorf("%v", key)
		}
		if key["crv"] == "secp256k1" && !onKoblitz(key) {
			t.Error("the point is not on secp256k1")
		}
	}
	want := map[string]int{
		"RSA": 2, "EC P-256": 2, "EC secp256k1": 1, "OKP Ed25519": 1, "RSA enc": 1, "EC P-256 enc": 1, "AKP": 1, "NONE-SUCH": 1,
	}
	if !reflect.DeepEqual(counts, want) {
		t.Errorf("%v, want %v", counts, want)
	}
}

func onKoblitz(key map[string]any) bool {
	at := func(name string) *big.Int {
		b, _ := base64.RawURLEncoding.DecodeString(key[name].(string))
		return new(big.Int).SetBytes(b)
	}
	p := new(big.Int).Lsh(big.NewInt(1), 256)
	p.Sub(p, big.NewInt(1<<32+977))
	left := new(big.Int).Exp(at("y"), big.NewInt(2), p)
	right := new(big.Int).Exp(at("x"), big.NewInt(3), p)
	return left.Cmp(right.Mod(right.Add(right, big.NewInt(7)), p)) == 0
}

// The key that signs must not be known by its place.
func TestEitherKeyMayBeTheOneThatSigns(t *testing.T) {
	first := map[bool]bool{}
	for seed := range uint64(12) {
		ring, err := newKeyring(newOdds(seed + 1))
		if err != nil {
			t.Fatal(err)
		}
		at := slices.IndexFunc(ring.set, func(key map[string]any) bool {
			return key["kty"] == "EC" && key["crv"] == "P-256" && key["use"] != "enc"
		})
		first[ring.set[at]["kid"] == ring.signers["ES256"].kid] = true
	}
	if len(first) != 2 {
		t.Errorf("of two P-256 keys the first always is, or never: %v", first)
	}
}

func TestDiscoveryNamesNoneFirst(t *testing.T) {
	p := newParty(t)
	req, _ := http.NewRequest("GET", p.issuer.URL+"/.well-known/openid-configuration", nil)
	doc := answered(t, req)
	algs, _ := doc["id_token_signing_alg_values_supported"].([]any)
	if len(algs) != 7 || algs[0] != "none" || !slices.Contains(algs, any("RS256")) {
		t.Errorf("algorithms are %v", algs)
	}
	if doc["jwks_uri"] == p.issuer.URL+"/oauth/keys" {
		t.Error("the keys are where anybody would guess")
	}
	if doc["backchannel_logout_supported"] != true || doc["backchannel_logout_session_supported"] != true {
		t.Error("it is silent about logout tokens")
	}
}

func TestIssuerWithoutASeedIsPlain(t *testing.T) {
	i := NewIssuer(t)
	i.Seed = 0
	p := join(t, i, &Clock{})
	kids := p.published()
	req, _ := http.NewRequest("GET", i.URL+"/.well-known/openid-configuration", nil)
	doc := answered(t, req)
	if algs, _ := doc["id_token_signing_alg_values_supported"].([]any); len(kids) != 3 || len(algs) != 3 || doc["jwks_uri"] != i.URL+"/oauth/keys" {
		t.Errorf("%d keys, discovery %v", len(kids), doc)
	}
	for name := range doc {
		if strings.HasPrefix(name, "x_") {
			t.Errorf("discovery has %s", name)
		}
	}
}
