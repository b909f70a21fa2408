package token_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/seal"
	"github.com/caddy-login/caddy-login/module/session"
	"github.com/caddy-login/caddy-login/module/token"
)

func TestAccessTokenIsWhatRFC9068Describes(t *testing.T) {
	w := newWorld(t)
	begun := w.begin()
	access := w.access(begun.Session)
	var set jose.JSONWebKeySet
	w.must(json.Unmarshal(w.signer.Keys().JSON, &set))
	jws, err := jose.ParseSignedCompact(access, []jose.SignatureAlgorithm{jose.ES256})
	w.must(err)
	payload, err := jws.Verify(set.Keys[0].Key)
	w.must(err)
	if typ := jws.Signatures[0].Protected.ExtraHeaders[jose.HeaderType]; typ != "at+jwt" {
		t.Errorf("typ is %v", typ)
	}
	var claims map[string]any
	w.must(json.Unmarshal(payload, &claims))
	now := float64(w.clock.Now().Unix())
	want := map[string]any{
		"iss": origin, "aud": origin + "/.login/api", "sub": string(begun.Session.User), "sid": begun.Session.Handle, "client_id": "corp",
		"iat": now, "exp": now + 600, "jti": claims["jti"],
	}
	if !reflect.DeepEqual(claims, want) {
		t.Errorf("it says %v, want %v", claims, want)
	}
	if len(access) > 1024 {
		t.Errorf("it has %d bytes", len(access))
	}
	if again := w.access(begun.Session); again == access {
		t.Error("two tokens are one")
	}
}

func TestAccessTokenIsGoodForTenMinutes(t *testing.T) {
	w := newWorld(t)
	begun := w.begin()
	for _, first := range []bool{true, false} { // at hand, and not
		access := w.access(begun.Session)
		if first {
			w.isIn(access)
		}
		w.clock.Advance(token.AccessLife - time.Second)
		w.isIn(access)
		w.clock.Advance(time.Second)
		w.isOut(access)
		w.clock.Advance(-token.AccessLife)
		w.isIn(access)
		for _, back := range []time.Duration{2 * time.Minute, 24 * time.Hour, 56 * 365 * 24 * time.Hour} {
			w.clock.Advance(-back)
			w.isOut(access)
			w.clock.Advance(back)
		}
	}
	// And no longer than its session.
	w.clock.Set(begun.Session.Expires.Add(-time.Minute))
	w.mustSpendAll(begun)
}

// mustSpendAll wants tokens to end with the session, a minute from now.
func (w *world) mustSpendAll(begun token.Begun) {
	w.t.Helper()
	access, err := w.tokens.Access(w.site(), begun.Session)
	w.must(err)
	if access.Expires.After(begun.Session.Expires) {
		w.t.Errorf("it expires at %v, and the session at %v", access.Expires, begun.Session.Expires)
	}
}

func TestUseOfAnAccessTokenIsSeen(t *testing.T) {
	w := newWorld(t)
	begun := w.begin()
	access := w.access(begun.Session)
	w.isIn(access)
	w.clock.Advance(5 * time.Minute)
	w.isIn(access)
	listed, err := w.sessions.OfUser(context.Background(), w.person.User.ID)
	w.must(err)
	if len(listed) != 1 || !listed[0].Seen.Equal(w.clock.Now().UTC()) {
		t.Errorf("listed %+v", listed)
	}
}

func TestDisabledUserIsOutAtOnce(t *testing.T) {
	w := newWorld(t)
	begun := w.begin()
	access := w.access(begun.Session)
	w.isIn(access)
	w.update(func(tx guest.Tx) error {
		_, err := identity.SetState(tx, w.person.User.ID, identity.Disabled, w.clock.Now())
		return err
	})
	w.must(w.sessions.ForgetUser(context.Background(), w.person.User.ID))
	w.isOut(access)
	w.isDead(begun.Refresh)
}

// The session of a cookie has no access tokens: it would be at hand twice.
func TestSessionOfACookieHasNoAccessToken(t *testing.T) {
	w := newWorld(t)
	ticket, err := w.sessions.Issue(host)
	w.must(err)
	var begun *session.Session
	w.update(func(tx guest.Tx) (err error) {
		begun, err = w.sessions.Start(tx, ticket, session.New{Person: w.person, Lifetime: time.Hour, Idle: time.Hour, At: w.clock.Now()})
		return err
	})
	w.isOut(w.access(begun))
}

func TestAccessTokenIsOfItsSite(t *testing.T) {
	w := newWorld(t)
	begun := w.begin()
	access := w.access(begun.Session)
	w.isIn(access) // at hand from here on
	others, err := seal.LoadSigner(context.Background(), logintest.Store(t), w.clock.Now)
	w.must(err)
	for what, change := range map[string]func(*token.Site){
		"another origin": func(s *token.Site) { s.Origin = "https://other.example.com" },
		"another scheme": func(s *token.Site) { s.Origin = "http://" + host },
		"another scope":  func(s *token.Site) { s.Scope = ".example.com" },
		"other keys":     func(s *token.Site) { s.Signer = others },
	} {
		site := w.site()
		change(&site)
		if !isNobody(w.tokens.Read(context.Background(), site, access)) {
			t.Errorf("it is good at %s", what)
		}
	}
	w.isIn(access)
}

// forgeries are tokens that say what good says, in the ways that have fooled
// others. Those of a key that is not ours are signed by mallory.
func (w *world) forgeries(good string) map[string]string {
	parts := strings.Split(good, ".")
	var header struct {
		KeyID string `json:"kid"`
	}
	text, _ := base64.RawURLEncoding.DecodeString(parts[0])
	w.must(json.Unmarshal(text, &header))
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	w.must(json.Unmarshal(w.signer.Keys().JSON, &set))
	mallory, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.must(err)
	signed := func(format string, args ...any) string {
		said := encode(fmt.Sprintf(format, args...)) + "." + parts[1]
		digest := sha256.Sum256([]byte(said))
		r, t, err := ecdsa.Sign(rand.Reader, mallory, digest[:])
		w.must(err)
		return said + "." + encode(string(r.FillBytes(make([]byte, 32)))+string(t.FillBytes(make([]byte, 32))))
	}
	hashed := encode(`{"alg":"HS256","kid":"`+header.KeyID+`","typ":"at+jwt"}`) + "." + parts[1]
	mac := hmac.New(sha256.New, set.Keys[0])
	mac.Write([]byte(hashed))
	point, err := mallory.PublicKey.Bytes()
	w.must(err)
	jwk := fmt.Sprintf(`{"kty":"EC","crv":"P-256","x":%q,"y":%q}`, encode(string(point[1:33])), encode(string(point[33:])))
	other, err := w.signer.SignAs("JWT", w.payload(good))
	w.must(err)
	plain, err := w.signer.Sign(w.payload(good))
	w.must(err)
	return map[string]string{
		"alg none":           encode(`{"alg":"none","kid":"`+header.KeyID+`","typ":"at+jwt"}`) + "." + parts[1] + ".",
		"alg none, signed":   encode(`{"alg":"none","kid":"`+header.KeyID+`","typ":"at+jwt"}`) + "." + parts[1] + "." + parts[2],
		"HS256 of our key":   hashed + "." + encode(string(mac.Sum(nil))),
		"jwk":                signed(`{"alg":"ES256","kid":%q,"jwk":%s,"typ":"at+jwt"}`, header.KeyID, jwk),
		"jku":                signed(`{"alg":"ES256","kid":%q,"jku":"https://mallory.example","typ":"at+jwt"}`, header.KeyID),
		"our kid, her key":   signed(`{"alg":"ES256","kid":%q,"typ":"at+jwt"}`, header.KeyID),
		"no kid":             signed(`{"alg":"ES256","typ":"at+jwt"}`),
		"a path for a kid":   signed(`{"alg":"ES256","kid":"../../dev/null","typ":"at+jwt"}`),
		"two kids":           signed(`{"alg":"ES256","kid":"x","kid":%q,"typ":"at+jwt"}`, header.KeyID),
		"crit":               signed(`{"alg":"ES256","crit":["b64"],"b64":false,"kid":%q,"typ":"at+jwt"}`, header.KeyID),
		"type of another":    other,
		"as an assertion is": plain,
		"no signature":       parts[0] + "." + parts[1] + ".",
		"signature of zeros": parts[0] + "." + parts[1] + "." + encode(strings.Repeat("\x00", 64)),
		"r and s too large":  parts[0] + "." + parts[1] + "." + encode(strings.Repeat("\xff", 64)),
		"longer signature":   good + "AA",
		"padded":             good + "==",
		"spaced":             good + " ",
		"four parts":         good + "." + parts[2],
		"two parts":          parts[0] + "." + parts[1],
		"other trailing bit": good[:len(good)-1] + next(good[len(good)-1:]),
		"endless":            good + strings.Repeat("A", 1<<20),
		"nothing":            "",
		"dots":               "..",
	}
}

// next is another letter whose last bit alone differs, where there is one.
func next(letter string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[strings.Index(alphabet, letter)^1])
}

// payload is what a token says.
func (w *world) payload(access string) []byte {
	text, err := base64.RawURLEncoding.DecodeString(strings.Split(access, ".")[1])
	w.must(err)
	return text
}

func TestForgedTokensAreNobody(t *testing.T) {
	w := newWorld(t)
	begun := w.begin()
	good := w.access(begun.Session)
	for _, used := range []bool{false, true} {
		if used {
			w.isIn(good)
		}
		for what, forged := range w.forgeries(good) {
			if !isNobody(w.read(forged)) {
				t.Errorf("%s is somebody, used %v", what, used)
			}
		}
		for i := range len(good) {
			bad := good[:i] + "A" + good[i+1:]
			if bad == good {
				bad = good[:i] + "B" + good[i+1:]
			}
			if !isNobody(w.read(bad)) {
				t.Fatalf("it is good with byte %d of %d changed", i, len(good))
			}
		}
	}
}

// isNobody reports whether reading a token found nobody, for a reason in the
// token.
func isNobody(held *session.AtHand, err error) bool {
	return held == nil && (errors.Is(err, token.ErrInvalid) || errors.Is(err, token.ErrForeign))
}

// Whoever stole the signing key, and not what seals, still makes no token.
func TestClaimsOfAnothersMakingAreNobody(t *testing.T) {
	w := newWorld(t)
	begun, victim := w.begin(), w.begin()
	good := w.access(begun.Session)
	for what, change := range map[string]func(map[string]any){
		"another session": func(c map[string]any) { c["sid"] = victim.Session.Handle },
		"another user":    func(c map[string]any) { c["sub"] = "somebody" },
		"a longer life":   func(c map[string]any) { c["exp"] = c["exp"].(float64) + 1 },
		"eternal":         func(c map[string]any) { c["exp"] = 1e15 },
		"no expiry":       func(c map[string]any) { delete(c, "exp") },
		"no ID":           func(c map[string]any) { delete(c, "jti") },
		"several sites":   func(c map[string]any) { c["aud"] = []string{origin, "https://other.example.com"} },
		"another issuer":  func(c map[string]any) { c["iss"] = "https://other.example.com" },
		"a list":          func(c map[string]any) { c["sub"] = []string{"a"} },
	} {
		var claims map[string]any
		w.must(json.Unmarshal(w.payload(good), &claims))
		change(claims)
		text, err := json.Marshal(claims)
		w.must(err)
		signed, err := w.signer.SignAs("at+jwt", text)
		w.must(err)
		if _, err := w.read(signed); !errors.Is(err, token.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestTokenOfARetiredKeyIsGoodToItsEnd(t *testing.T) {
	w := newWorld(t)
	begun := w.begin()
	w.clock.Advance(seal.SigningLife - 4*24*time.Hour)
	begun = w.begin()
	w.clock.Advance(4*24*time.Hour + time.Hour)
	w.mustSpend(begun.Refresh)
	w.must(w.signer.Rotate(context.Background()))
	w.clock.Advance(2*time.Hour - time.Minute)
	access := w.access(begun.Session) // a minute before the next key signs
	w.clock.Advance(5 * time.Minute)
	w.must(w.signer.Rotate(context.Background()))
	w.isIn(access)
	if later := w.access(begun.Session); strings.Split(later, ".")[0] == strings.Split(access, ".")[0] {
		t.Error("the next key does not sign")
	}
}

func TestOnlyTokensOfOursAreRecognised(t *testing.T) {
	w := newWorld(t)
	begun := w.begin()
	good := w.access(begun.Session)
	ours := w.forgeries(good)
	for _, what := range []string{"alg none", "HS256 of our key", "jwk", "our kid, her key", "crit", "no signature"} {
		if _, err := w.read(ours[what]); !errors.Is(err, token.ErrInvalid) {
			t.Errorf("%s goes on to the app: %v", what, err)
		}
	}
	parts := strings.Split(good, ".")
	for what, foreign := range map[string]string{
		"an assertion":      ours["as an assertion is"],
		"another issuer's":  encode(`{"alg":"RS256","kid":"k1","typ":"at+jwt"}`) + "." + parts[1] + "." + parts[2],
		"without a kid":     encode(`{"alg":"ES256","typ":"at+jwt"}`) + "." + parts[1] + "." + parts[2],
		"opaque":            "gho_16C7e42F292c6912E7710c838347Ae178B4a",
		"an encrypted one":  good + "." + parts[2] + "." + parts[2],
		"no JSON":           encode("at+jwt") + "." + parts[1] + "." + parts[2],
		"an array":          encode(`["at+jwt"]`) + "." + parts[1] + "." + parts[2],
		"empty":             "",
		"another of JSON's": encode(`{"typ":["at+jwt"]}`) + "." + parts[1] + "." + parts[2],
	} {
		if _, err := w.read(foreign); !errors.Is(err, token.ErrForeign) {
			t.Errorf("%s is taken for ours: %v", what, err)
		}
	}
}

func TestInvalidTokensLeaveNothingBehind(t *testing.T) {
	w := newWorld(t)
	begun := w.begin()
	good := w.access(begun.Session)
	w.isIn(good)
	parts := strings.Split(good, ".")
	flood := func(n int) {
		for i := range n {
			claims := fmt.Appendf(nil, `{"iss":%q,"aud":%q,"sub":"u","sid":"%016d","iat":%d,"exp":%d,"jti":"%032d"}`,
				origin, origin+"/.login/api", i, w.clock.Now().Unix(), w.clock.Now().Unix()+600, i)
			if _, err := w.read(parts[0] + "." + encode(string(claims)) + "." + parts[2]); !errors.Is(err, token.ErrInvalid) {
				t.Fatal(err)
			}
		}
	}
	flood(1000)
	before := heap()
	began := time.Now()
	flood(100_000)
	took := time.Since(began) / 100_000
	if grown := int64(heap()) - int64(before); grown > 1<<20 {
		t.Errorf("100,000 forgeries leave %d KiB", grown>>10)
	}
	t.Logf("%v each", took)
	w.isIn(good)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// More tokens than are kept at hand are good all the same.
func TestTokensAtHandAreBounded(t *testing.T) {
	w := newWorld(t)
	begun := w.begin()
	first := w.access(begun.Session)
	w.isIn(first)
	before := heap()
	for range 20_000 {
		w.isIn(w.access(begun.Session))
	}
	if grown := int64(heap()) - int64(before); grown > 16<<20 {
		t.Errorf("20,000 tokens take %d KiB", grown>>10)
	}
	w.isIn(first)
}

// The other root of an ECDSA signature is as good: it makes no second token of
// anybody else's.
func TestOtherRootIsTheSameToken(t *testing.T) {
	w := newWorld(t)
	begun := w.begin()
	good := w.access(begun.Session)
	end := strings.LastIndexByte(good, '.')
	signature, err := base64.RawURLEncoding.DecodeString(good[end+1:])
	w.must(err)
	s := new(big.Int).Sub(elliptic.P256().Params().N, new(big.Int).SetBytes(signature[32:]))
	w.isIn(good[:end+1] + encode(string(signature[:32])+string(s.FillBytes(make([]byte, 32)))))
	w.must(w.sessions.End(context.Background(), begun.Session.Key))
	w.isOut(good)
	w.isOut(good[:end+1] + encode(string(signature[:32])+string(s.FillBytes(make([]byte, 32)))))
}

func FuzzRead(f *testing.F) {
	w := newWorld(f)
	good := w.access(w.begin().Session)
	f.Add(good)
	f.Add("..")
	f.Add(encode(`{"alg":"none","typ":"at+jwt"}`) + "." + encode(`{}`) + ".")
	f.Fuzz(func(t *testing.T, s string) {
		if s != good && !isNobody(w.read(s)) {
			t.Errorf("%q is somebody", s)
		}
	})
}

func BenchmarkRead(b *testing.B) {
	w := newWorld(b)
	good := w.access(w.begin().Session)
	site := w.site()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.tokens.Read(context.Background(), site, good); err != nil {
			b.Fatal(err)
		}
	}
}

// Promised: once the end was answered, no request is let in any more, whatever
// was being read meanwhile.
func TestNoReadSucceedsOnceTheSessionEnded(t *testing.T) {
	w := newWorld(t)
	for range 20 {
		begun := w.begin()
		access := w.access(begun.Session)
		var ended atomic.Bool
		var late atomic.Int32
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for over := false; !over; {
					over = ended.Load()
					if _, err := w.read(access); err == nil && over {
						late.Add(1)
					}
				}
			})
		}
		w.must(w.sessions.End(context.Background(), begun.Session.Key))
		ended.Store(true)
		all.Wait()
		if late.Load() > 0 {
			t.Fatalf("%d reads succeeded after the end", late.Load())
		}
	}
}
