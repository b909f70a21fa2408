package oidc

import (
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

func TestBeginAsksForCodeWithStateNonceAndPKCE(t *testing.T) {
	i := newIssuer(t)
	a := attempt()
	address, err := i.oidc(t).Begin(context.Background(), a)
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(address)
	sum := sha256.Sum256([]byte(a.Verifier))
	want := url.Values{
		"tenant": {"a b"}, "response_type": {"code"}, "client_id": {clientID}, "redirect_uri": {a.RedirectURI},
		"scope": {"openid email profile"}, "state": {a.State}, "nonce": {a.Nonce},
		"code_challenge": {b64(sum[:])}, "code_challenge_method": {"S256"},
	}
	if got := u.Query(); got.Encode() != want.Encode() {
		t.Errorf("asked for %v, want %v", got, want)
	}
	if strings.Contains(address, "+") {
		t.Errorf("a space is spelled as plus in %s", address)
	}
}

func TestBeginRefusesAnAttemptWithoutItsSecrets(t *testing.T) {
	i := newIssuer(t)
	p := i.oidc(t)
	for _, spoil := range []func(*guest.Attempt){
		func(a *guest.Attempt) { a.State = "" },
		func(a *guest.Attempt) { a.Nonce = "" },
		func(a *guest.Attempt) { a.Verifier = "" },
	} {
		a := attempt()
		spoil(&a)
		if _, err := p.Begin(context.Background(), a); err == nil {
			t.Errorf("began with %+v", a)
		}
	}
}

func TestPromptAndModesAreAsTheOperatorWrote(t *testing.T) {
	i := newIssuer(t)
	ask := func(p guest.Provider, switching bool) url.Values {
		a := attempt()
		a.SwitchAccount = switching
		address, err := p.Begin(context.Background(), a)
		if err != nil {
			t.Fatal(err)
		}
		u, _ := url.Parse(address)
		return u.Query()
	}
	plain := i.oidc(t)
	if got := ask(plain, true).Get("prompt"); got != "login" {
		t.Errorf("switching account asks for prompt %q", got)
	}
	written := open(t, i, &OIDC{
		Options: i.options(), Endpoints: Endpoints{Issuer: i.url},
		Prompt: "consent", ACRValues: "mfa phr", ResponseMode: "form_post",
	})
	q := ask(written, true)
	if q.Get("prompt") != "consent" || q.Get("acr_values") != "mfa phr" || q.Get("response_mode") != "form_post" {
		t.Errorf("asked for %v", q)
	}
	if !written.Traits().FormPost || plain.Traits().FormPost {
		t.Error("FormPost is not what response_mode says")
	}
}

func TestSignInYieldsTheProfile(t *testing.T) {
	i := newIssuer(t)
	i.claims = object{
		"groups": []string{"dev", "ops"}, "picture": "https://example.com/a.png", "amr": []string{"pwd", "otp"},
		"auth_time": epoch.Unix() - 60, "sid": "s-1", "name": "Ada\u202e \x07Lovelace",
	}
	o := i.options()
	o.Groups = "groups"
	p := open(t, i, &OIDC{Options: o, Endpoints: Endpoints{Issuer: i.url}})
	got, err := i.signIn(t, p)
	if err != nil {
		t.Fatal(err)
	}
	want := guest.Profile{
		Issuer: i.url, Subject: "sub-1", Email: "ada@example.com", EmailTrust: guest.Verified, Name: "Ada Lovelace",
		Picture: "https://example.com/a.png", Groups: []string{"dev", "ops"}, AuthMethods: []string{"pwd", "otp"},
		AuthTime: epoch.Add(-time.Minute).Local(), TokenSubject: "sub-1", SessionID: "s-1", IssuedAt: epoch.Local(),
	}
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if n := i.ui.Load(); n != 0 {
		t.Errorf("userinfo was asked %d times though nothing was missing", n)
	}
}

// Each row spoils one thing of a sign-in that is right otherwise.
func TestAnswersThatMustBeRefused(t *testing.T) {
	now := epoch.Unix()
	claim := func(name string, value any) func(*issuer) {
		return func(i *issuer) { i.claims = object{name: value} }
	}
	header := func(name string, value any) func(*issuer) {
		return func(i *issuer) { i.header = object{name: value} }
	}
	raw := func(payload string) func(*issuer) {
		return func(i *issuer) {
			i.payload = strings.ReplaceAll(fmt.Sprintf(payload, now, now+300), "ISS", i.url)
		}
	}
	for name, spoil := range map[string]func(*issuer){
		"iss of another issuer":          claim("iss", "https://evil.example"),
		"iss without its last slash":     func(i *issuer) { i.claims = object{"iss": i.Server.URL} },
		"iss missing":                    claim("iss", nil),
		"sub missing":                    claim("sub", nil),
		"sub empty":                      claim("sub", ""),
		"sub null":                       raw(`{"iss":"ISS","sub":null,"aud":"our client:1","nonce":"NONCE","iat":%d,"exp":%d}`),
		"sub a number":                   claim("sub", 7),
		"sub of 256 bytes":               claim("sub", strings.Repeat("x", 256)),
		"sub with a control character":   claim("sub", "a\x00b"),
		"sub with half a character":      raw(`{"iss":"ISS","sub":"\ud800","aud":"our client:1","nonce":"NONCE","iat":%d,"exp":%d}`),
		"sub in capitals only":           raw(`{"iss":"ISS","SUB":"x","aud":"our client:1","nonce":"NONCE","iat":%d,"exp":%d}`),
		"sub twice":                      raw(`{"iss":"ISS","sub":"x","sub":"x","aud":"our client:1","nonce":"NONCE","iat":%d,"exp":%d}`),
		"sub twice by an escape":         raw(`{"iss":"ISS","sub":"x","s\u0075b":"y","aud":"our client:1","nonce":"NONCE","iat":%d,"exp":%d}`),
		"a name twice inside":            raw(`{"iss":"ISS","sub":"x","a":[{"b":1,"b":2}],"aud":"our client:1","nonce":"NONCE","iat":%d,"exp":%d}`),
		"deep JSON":                      raw(`{"iss":"ISS","sub":"x","a":` + strings.Repeat("[", 99) + strings.Repeat("]", 99) + `,"aud":"our client:1","nonce":"NONCE","iat":%d,"exp":%d}`),
		"text after the claims":          raw(`{"iss":"ISS","sub":"x","aud":"our client:1","nonce":"NONCE","iat":%d,"exp":%d}{}`),
		"aud of another":                 claim("aud", "someone else"),
		"aud missing":                    claim("aud", nil),
		"aud that holds a number":        claim("aud", []any{clientID, 7}),
		"aud with a second and no azp":   claim("aud", []string{clientID, "other"}),
		"aud with a second as azp":       func(i *issuer) { i.claims = object{"aud": []string{clientID, "other"}, "azp": "other"} },
		"azp of another":                 claim("azp", "other"),
		"azp a list":                     claim("azp", []string{clientID}),
		"exp missing":                    claim("exp", nil),
		"exp a string":                   claim("exp", fmt.Sprint(now+300)),
		"exp 6 minutes past":             claim("exp", now-360),
		"exp 61 seconds past":            claim("exp", now-61),
		"exp absurd":                     claim("exp", 1e300),
		"iat missing":                    claim("iat", nil),
		"iat 61 seconds ahead":           claim("iat", now+61),
		"nbf 61 seconds ahead":           claim("nbf", now+61),
		"iat ahead, nbf not":             func(i *issuer) { i.claims = object{"iat": now + 61, "nbf": now} },
		"nbf a word":                     claim("nbf", "soon"),
		"nonce missing":                  claim("nonce", nil),
		"nonce of another":               claim("nonce", "another"),
		"nonce empty":                    claim("nonce", ""),
		"at_hash wrong":                  claim("at_hash", b64(make([]byte, 16))),
		"at_hash a number":               claim("at_hash", 7),
		"alg none":                       func(i *issuer) { i.alg, i.signer, i.mangle = "none", nil, stripSignature },
		"alg none, signature kept":       header("alg", "none"),
		"alg in another case":            header("alg", "rs256"),
		"alg that was not listed":        func(i *issuer) { i.doc = object{"id_token_signing_alg_values_supported": []string{"ES256"}} },
		"HS256 with the public key":      func(i *issuer) { i.alg, i.signer = "HS256", hmacKey(keys().rsa.N.Bytes()) },
		"HS256 with the client secret":   func(i *issuer) { i.alg, i.signer = "HS256", hmacKey(clientSecret) },
		"HS256 with a published secret":  func(i *issuer) { i.alg, i.signer = "HS256", hmacKey("shared secret of 32 bytes, more or") },
		"signature spoiled, RS256":       func(i *issuer) { i.mangle = spoilSignature },
		"signature spoiled, ES256":       func(i *issuer) { useEC(i); i.mangle = spoilSignature },
		"signature missing":              func(i *issuer) { i.mangle = stripSignature },
		"signature of another key":       func(i *issuer) { i.signer = keys().rsa2 },
		"signature of another type":      func(i *issuer) { i.signer, i.alg = keys().ec, "ES256" },
		"key for encryption":             func(i *issuer) { useOnly(i, "use", "enc") },
		"key for another algorithm":      func(i *issuer) { useOnly(i, "alg", "RS512") },
		"key of 1024 bits":               func(i *issuer) { i.signer, i.jwks = keys().weak, []object{jwk("k1", keys().weak.Public())} },
		"key in the header":              func(i *issuer) { i.signer = keys().rsa2; i.header = object{"jwk": jwk("k1", keys().rsa2.Public())} },
		"crit":                           header("crit", []string{"exp"}),
		"crit empty":                     header("crit", []string{}),
		"b64 false":                      func(i *issuer) { i.header = object{"b64": false, "crit": []string{"b64"}} },
		"typ of an access token":         header("typ", "at+jwt"),
		"typ of a logout token":          header("typ", "logout+jwt"),
		"typ a number":                   header("typ", 7),
		"a logout event":                 claim("events", object{logoutEvent: object{}}),
		"token in JSON serialization":    func(i *issuer) { i.mangle = jsonSerialized },
		"token with a fourth part":       func(i *issuer) { i.mangle = func(s string) string { return s + "." } },
		"token with white space":         func(i *issuer) { i.mangle = func(s string) string { return s[:9] + "\n" + s[9:] } },
		"token empty":                    func(i *issuer) { i.answer = object{"id_token": ""} },
		"token too long":                 claim("x", strings.Repeat("x", 300<<10)),
		"token type of another kind":     func(i *issuer) { i.answer = object{"token_type": "DPoP"} },
		"userinfo of another sub":        func(i *issuer) { i.claims = object{"name": nil}; i.info = object{"sub": "sub-1invalid"} },
		"userinfo without sub":           func(i *issuer) { i.claims = object{"name": nil}; i.info = object{"name": "x"} },
		"keys that are no list":          func(i *issuer) { i.intruder = at("/keys", `{"keys":{}}`) },
		"keys that name one thing twice": func(i *issuer) { i.intruder = at("/keys", `{"keys":[],"keys":[]}`) },
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			spoil(i)
			p := i.oidc(t)
			got, err := i.signIn(t, p)
			if guest.ReasonOf(err) != guest.Untrusted || err == nil {
				t.Fatalf("got %+v, %v; want it refused as untrusted", got, err)
			}
			if got.Subject != "" || got.Email != "" {
				t.Errorf("a refusal carries %+v", got)
			}
			if n := i.keyed.Load(); n > 2 {
				t.Errorf("keys were fetched %d times", n)
			}
			keepsSecrets(t, i, err)
		})
	}
}

func keepsSecrets(t *testing.T, i *issuer, err error) {
	t.Helper()
	for _, secret := range []string{"the-code", "the-access", clientSecret, i.nonce} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("error tells a secret: %v", err)
		}
	}
}

func stripSignature(token string) string { return token[:strings.LastIndexByte(token, '.')+1] }

func spoilSignature(token string) string {
	dot := strings.LastIndexByte(token, '.')
	sig, _ := decode64(token[dot+1:])
	for n := range sig {
		sig[n] ^= 0x5a
	}
	return token[:dot+1] + b64(sig)
}

func jsonSerialized(token string) string {
	part := strings.Split(token, ".")
	return fmt.Sprintf(`{"protected":%q,"payload":%q,"signature":%q}`, part[0], part[1], part[2])
}

func useEC(i *issuer) {
	i.alg, i.signer, i.jwks = "ES256", keys().ec, []object{jwk("k1", keys().ec.Public())}
}

func useOnly(i *issuer, member, value string) {
	i.jwks[0][member] = value
}

func at(path, body string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == path {
			_, _ = w.Write([]byte(body))
		}
		return r.URL.Path == path
	}
}

func TestSpoiledSignatureCausesNoFurtherRequest(t *testing.T) {
	i := newIssuer(t)
	p := i.oidc(t)
	if _, err := i.signIn(t, p); err != nil {
		t.Fatal(err)
	}
	i.mangle = spoilSignature
	before := i.keyed.Load()
	if _, err := i.signIn(t, p); err == nil {
		t.Fatal("accepted a spoiled signature")
	}
	if i.keyed.Load() != before {
		t.Error("a wrong signature by a known key had the keys fetched again")
	}
}

// Each row is unusual and right.
func TestAnswersThatMustBeAccepted(t *testing.T) {
	now := epoch.Unix()
	all := func(kids ...string) func(*issuer) {
		return func(i *issuer) {
			public := []crypto.PublicKey{keys().rsa2.Public(), keys().ec.Public(), keys().ec2.Public(), keys().ed.Public(), keys().rsa.Public()}
			i.jwks = unusable()
			for n, key := range public {
				i.jwks = append(i.jwks, jwk(kids[n%len(kids)], key))
			}
		}
	}
	for name, play := range map[string]func(*issuer){
		"nothing special":         func(*issuer) {},
		"aud a list of us":        func(i *issuer) { i.claims = object{"aud": []string{clientID}} },
		"aud us twice":            func(i *issuer) { i.claims = object{"aud": []string{clientID, clientID}} },
		"second audience, azp us": func(i *issuer) { i.claims = object{"aud": []string{"x", clientID}, "azp": clientID} },
		"59 s past exp":           func(i *issuer) { i.claims = object{"exp": now - 59, "iat": now - 400} },
		"59 s before iat and nbf": func(i *issuer) { i.claims = object{"iat": now + 59, "nbf": now + 59} },
		"times with fractions":    func(i *issuer) { i.claims = object{"exp": float64(now) + 300.5} },
		"expires_in given":        func(i *issuer) { i.answer = object{"expires_in": 3600} },
		"right at_hash":           func(i *issuer) { i.claims = object{"at_hash": leftHalf("RS256", "the-access")} },
		"no typ":                  func(i *issuer) { i.header = object{"typ": nil} },
		"typ jwt":                 func(i *issuer) { i.header = object{"typ": "jwt"} },
		"no kid, one key": func(i *issuer) {
			i.kid = ""
			i.header = object{"kid": nil}
			i.jwks = []object{jwk("z", keys().rsa.Public())}
		},
		"no kid, many keys":   func(i *issuer) { all("a", "b", "c", "d", "e")(i); i.header = object{"kid": nil} },
		"keys without kid":    all(""),
		"all keys of one kid": all("k1"),
		"ES256":               func(i *issuer) { all("k1")(i); i.alg, i.signer = "ES256", keys().ec2 },
		"EdDSA":               func(i *issuer) { all("k1")(i); i.alg, i.signer = "EdDSA", keys().ed },
		"PS256":               func(i *issuer) { i.alg = "PS256" },
		"jku of a stranger":   func(i *issuer) { i.header = object{"jku": "https://evil.example/keys"} },
		"post instead of Basic": func(i *issuer) {
			i.doc = object{"token_endpoint_auth_methods_supported": []string{"client_secret_post"}}
		},
		"claims in a row of our own": func(i *issuer) {
			i.payload = fmt.Sprintf(`{"iss":%q,"sub":"sub-1","SUB":"x","aud":"our client:1","nonce":"NONCE","iat":%d,"exp":%d}`, i.url, now, now+300)
		},
		"unknown claims":       func(i *issuer) { i.claims = object{"x": object{"y": []any{1, nil, "z"}}} },
		"no userinfo endpoint": func(i *issuer) { i.doc = object{"userinfo_endpoint": nil}; i.claims = object{"name": nil} },
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			play(i)
			got, err := i.signIn(t, i.oidc(t))
			if err != nil || got.Subject != "sub-1" {
				t.Fatalf("got %+v, %v", got, err)
			}
			if n := i.spent.Load(); n != 1 {
				t.Errorf("the code was sent %d times", n)
			}
		})
	}
}

func TestAuthorizationAnswers(t *testing.T) {
	long := strings.Repeat("<script>", 999)
	for name, row := range map[string]struct {
		answer url.Values
		named  bool
		want   guest.Reason
	}{
		"cancelled":            {url.Values{"error": {"access_denied"}}, false, guest.Cancelled},
		"refused":              {url.Values{"error": {"login_required"}, "error_description": {long}}, false, guest.Refused},
		"hostile error":        {url.Values{"error": {long}}, false, guest.Refused},
		"error beside a code":  {url.Values{"error": {"server_error"}, "code": {"the-code"}}, false, guest.Refused},
		"nothing":              {url.Values{}, false, guest.Untrusted},
		"code empty":           {url.Values{"code": {""}}, false, guest.Untrusted},
		"iss wrong":            {url.Values{"code": {"the-code"}, "iss": {"https://evil.example"}}, false, guest.Untrusted},
		"iss empty":            {url.Values{"code": {"the-code"}, "iss": {""}}, false, guest.Untrusted},
		"iss missing":          {url.Values{"code": {"the-code"}}, true, guest.Untrusted},
		"iss missing in error": {url.Values{"error": {"access_denied"}}, true, guest.Untrusted},
		"iss wrong in error":   {url.Values{"error": {"access_denied"}, "iss": {"x"}}, false, guest.Untrusted},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			i.doc = object{"authorization_response_iss_parameter_supported": row.named}
			_, err := i.answerWith(t, i.oidc(t), row.answer)
			if err == nil || guest.ReasonOf(err) != row.want {
				t.Errorf("got %v, want %s", err, row.want)
			}
			if len(err.Error()) > 600 {
				t.Errorf("error has %d bytes of a stranger's text", len(err.Error()))
			}
			if n := i.spent.Load(); n != 0 {
				t.Error("the token endpoint was asked all the same")
			}
		})
	}
}

func TestRightIssInTheAnswerIsAccepted(t *testing.T) {
	i := newIssuer(t)
	i.doc = object{"authorization_response_iss_parameter_supported": true}
	if _, err := i.answerWith(t, i.oidc(t), url.Values{"code": {"the-code"}, "iss": {i.url}}); err != nil {
		t.Error(err)
	}
}

func TestTokenEndpointFailures(t *testing.T) {
	status := func(code int, body string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/token" {
				return false
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			_, _ = w.Write([]byte(body))
			return true
		}
	}
	for name, row := range map[string]struct {
		intruder func(http.ResponseWriter, *http.Request) bool
		want     guest.Reason
	}{
		"wrong client": {status(401, `{"error":"invalid_client","error_description":"the-code"}`), guest.Refused},
		"hostile code": {status(400, `{"error":"the-code"}`), guest.Refused},
		"error as 200": {status(200, `{"error":"bad_verification_code"}`), guest.Refused},
		"html":         {status(200, `<html>the-code</html>`), guest.Refused},
		"broken":       {status(503, `the-code`), guest.Unavailable},
		"throttled":    {status(429, `the-code`), guest.Unavailable},
		"redirect":     {status(302, `the-code`), guest.Refused},
		"endless":      {status(200, `{"access_token":"`+strings.Repeat("a", 2<<20)+`"}`), guest.Refused},
		"cut off":      {func(_ http.ResponseWriter, r *http.Request) bool { return hangUp(r.URL.Path == "/token") }, guest.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			i.intruder = row.intruder
			_, err := i.signIn(t, i.oidc(t))
			if err == nil || guest.ReasonOf(err) != row.want {
				t.Fatalf("got %v, want %s", err, row.want)
			}
			keepsSecrets(t, i, err)
		})
	}
}

func hangUp(now bool) bool {
	if now {
		panic(http.ErrAbortHandler)
	}
	return false
}

func TestClientAuthIsAsTheOperatorWrote(t *testing.T) {
	for _, way := range []string{"basic", "post"} {
		i := newIssuer(t)
		p := open(t, i, &OIDC{Options: i.options(), Endpoints: Endpoints{Issuer: i.url}, ClientAuth: way})
		if _, err := i.signIn(t, p); err != nil {
			t.Fatal(err)
		}
		inBody := i.form.Load().(url.Values).Has("client_secret")
		if inBody != (way == "post") {
			t.Errorf("%s: secret in body: %v", way, inBody)
		}
	}
}

func TestUserinfoFillsInWhatIsMissing(t *testing.T) {
	for name, row := range map[string]struct {
		token, info object
		email       string
		trust       guest.Trust
		groups      []string
	}{
		"all from userinfo": {
			object{"email": nil, "email_verified": nil, "name": nil},
			object{"sub": "sub-1", "email": "a@b.example", "email_verified": "true", "name": "Bo", "groups": "one"},
			"a@b.example", guest.Verified, []string{"one"},
		},
		"the token's word wins": {
			object{"groups": []string{"t"}, "name": nil},
			object{"sub": "sub-1", "email": "evil@b.example", "name": "Bo", "groups": []string{"admin"}},
			"ada@example.com", guest.Verified, []string{"t"},
		},
		"a flag proves no other address": {
			object{"email_verified": nil},
			object{"sub": "sub-1", "email": "evil@b.example", "email_verified": true, "name": "Bo"},
			"ada@example.com", guest.Asserted, nil,
		},
		"a flag without address proves none": {
			object{"email": nil, "name": nil},
			object{"sub": "sub-1", "email": "victim@corp.example", "name": "Bo"},
			"victim@corp.example", guest.Asserted, nil,
		},
		"a flag for the same address proves it": {
			object{"email_verified": nil, "name": nil},
			object{"sub": "sub-1", "email": "ada@example.com", "email_verified": true},
			"ada@example.com", guest.Verified, nil,
		},
		"null is missing": {
			object{"email_verified": nil},
			object{"sub": "sub-1", "email": nil, "name": "Bo", "groups": nil},
			"ada@example.com", guest.Asserted, nil,
		},
		"groups that overflowed": {
			object{"_claim_names": object{"groups": "src1"}},
			object{"sub": "sub-1", "groups": []string{"a part"}},
			"ada@example.com", guest.Verified, nil,
		},
		"groups that overflowed at userinfo": {
			object{},
			object{"sub": "sub-1", "groups": []string{"a part"}, "_claim_names": object{"groups": "src1"}},
			"ada@example.com", guest.Verified, nil,
		},
		"groups that are no names": {
			object{"groups": []any{"a", 7}}, nil, "ada@example.com", guest.Verified, nil,
		},
		"a group that looks like another": {
			object{"groups": []string{"dev", "adm\x00in"}}, nil, "ada@example.com", guest.Verified, nil,
		},
		"too many groups": {
			object{"groups": slices.Repeat([]string{"g"}, 1001)}, nil, "ada@example.com", guest.Verified, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			i.claims, i.info = row.token, row.info
			o := i.options()
			o.Groups = "groups"
			got, err := i.signIn(t, open(t, i, &OIDC{Options: o, Endpoints: Endpoints{Issuer: i.url}}))
			if err != nil {
				t.Fatal(err)
			}
			if got.Email != row.email || got.EmailTrust != row.trust || !slices.Equal(got.Groups, row.groups) {
				t.Errorf("got %q %d %q", got.Email, got.EmailTrust, got.Groups)
			}
			if i.ui.Load() > 0 && i.auth.Load() != "Bearer the-access " {
				t.Errorf("userinfo was asked with %q", i.auth.Load())
			}
		})
	}
}

func TestUserinfoFailuresEndTheSignIn(t *testing.T) {
	for name, row := range map[string]struct {
		status int
		kind   string
		want   guest.Reason
	}{
		"broken":  {500, "application/json", guest.Unavailable},
		"refused": {403, "application/json", guest.Refused},
		"signed":  {200, "application/jwt", guest.Refused},
		"no JSON": {200, "text/html", guest.Untrusted},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			i.claims = object{"email": nil}
			i.intruder = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/userinfo" {
					w.Header().Set("Content-Type", row.kind)
					w.WriteHeader(row.status)
				}
				return r.URL.Path == "/userinfo"
			}
			if _, err := i.signIn(t, i.oidc(t)); err == nil || guest.ReasonOf(err) != row.want {
				t.Errorf("got %v, want %s", err, row.want)
			}
		})
	}
}

func TestClaimNamesAreTheOperators(t *testing.T) {
	i := newIssuer(t)
	i.claims = object{"oid": "o-7", "mail": "m@example.com", "display": "Emm"}
	p := OIDC{
		Options: i.options(), Endpoints: Endpoints{Issuer: i.url},
		SubjectClaim: "oid", EmailClaim: "mail", NameClaim: "display",
	}
	got, err := i.signIn(t, open(t, i, &p))
	if err != nil {
		t.Fatal(err)
	}
	if got.Subject != "o-7" || got.Email != "m@example.com" || got.Name != "Emm" {
		t.Errorf("got %+v", got)
	}
	if got.EmailTrust != guest.Asserted {
		t.Error("email_verified, which speaks of email, proved the address in mail")
	}
	i.claims["mail_ok"] = "true"
	p.VerifiedClaim = "mail_ok"
	if got, _ = i.signIn(t, open(t, i, &p)); got.EmailTrust != guest.Verified {
		t.Error("the operator's verified_claim was not believed")
	}
	delete(i.claims, "oid")
	if _, err := i.signIn(t, open(t, i, &p)); err == nil {
		t.Error("signed in without the claim that identifies")
	}
}

func TestSigningAlgPinsOne(t *testing.T) {
	i := newIssuer(t)
	p := open(t, i, &OIDC{Options: i.options(), Endpoints: Endpoints{Issuer: i.url}, SigningAlg: "ES256"})
	if _, err := i.signIn(t, p); err == nil {
		t.Error("RS256 passed though ES256 was pinned")
	}
	useEC(i)
	i.clock.Advance(time.Hour)
	if _, err := i.signIn(t, p); err != nil {
		t.Error(err)
	}
}

func TestListedAlgorithmsWithoutAKeyPairAreDropped(t *testing.T) {
	i := newIssuer(t)
	i.doc = object{"id_token_signing_alg_values_supported": []string{"none", "HS256", "ES256", "dir"}}
	m, err := i.oidc(t).party.discover(context.Background())
	if err != nil || fmt.Sprint(m.algs) != "[ES256]" {
		t.Errorf("got %v, %v", m, err)
	}
}

func TestDiscoveryThatMustNotBeFollowed(t *testing.T) {
	for name, doc := range map[string]object{
		"another issuer":      {"issuer": "https://evil.example"},
		"issuer and a letter": {"issuer": "INVALID"},
		"no issuer":           {"issuer": nil},
		"no token endpoint":   {"token_endpoint": nil},
		"no keys":             {"jwks_uri": nil},
		"http elsewhere":      {"authorization_endpoint": "http://example.com/auth"},
		"file":                {"jwks_uri": "file:///etc/passwd"},
		"script":              {"authorization_endpoint": "javascript:alert(1)"},
		"userinfo in the URL": {"token_endpoint": "https://a:b@example.com/"},
		"userinfo empty":      {"userinfo_endpoint": ""},
		"endless address":     {"jwks_uri": "https://example.com/" + strings.Repeat("x", 9999)},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			i.doc = doc
			address, err := i.oidc(t).Begin(context.Background(), attempt())
			if address != "" || err == nil || guest.ReasonOf(err) != guest.Untrusted {
				t.Errorf("got %q, %v", address, err)
			}
		})
	}
}

func TestHTTPSIssuerLeadsToNoPlainLoopback(t *testing.T) {
	i := newIssuer(t)
	p := i.oidc(t)
	p.party.settings.endpoints.Issuer = "https://issuer.example"
	if err := p.checkDiscovered("http://127.0.0.1:2019/"); err == nil {
		t.Error("a remote issuer sent us to our own loopback")
	}
}

func TestOverridesReplaceWhatIsDiscovered(t *testing.T) {
	i := newIssuer(t)
	i.doc = object{"jwks_uri": i.Server.URL + "/elsewhere", "token_endpoint": i.Server.URL + "/elsewhere"}
	at := Endpoints{Issuer: i.url, JWKSURL: i.Server.URL + "/keys", TokenURL: i.Server.URL + "/token"}
	if _, err := i.signIn(t, open(t, i, &OIDC{Options: i.options(), Endpoints: at})); err != nil {
		t.Fatal(err)
	}
	before := i.discovered.Load()
	at.AuthURL = i.Server.URL + "/auth"
	if _, err := i.signIn(t, open(t, i, &OIDC{Options: i.options(), Endpoints: at})); err != nil {
		t.Fatal(err)
	}
	if i.discovered.Load() != before {
		t.Error("discovered though everything was written")
	}
}

func TestOversizedAnswersAreRefused(t *testing.T) {
	for path, size := range map[string]int{
		"/.well-known/openid-configuration": maxDiscovery, "/keys": maxKeys, "/userinfo": maxUserinfo,
	} {
		t.Run(path, func(t *testing.T) {
			i := newIssuer(t)
			i.claims = object{"email": nil}
			i.intruder = at(path, `{"issuer":"`+strings.Repeat("x", size)+`"}`)
			a := attempt()
			p := i.oidc(t)
			if _, err := p.Begin(context.Background(), a); err == nil {
				_, err = i.signIn(t, p)
				if err == nil || !strings.Contains(err.Error(), "longer than") {
					t.Errorf("got %v", err)
				}
			}
		})
	}
}

func TestGoogle(t *testing.T) {
	for name, row := range map[string]struct {
		claims object
		hosted []string
		trust  guest.Trust
		err    guest.Reason
	}{
		"gmail":                      {claims: object{"email": "a@gmail.com"}, trust: guest.Authoritative},
		"gmail, capitals":            {claims: object{"email": "A@GMail.com"}, trust: guest.Authoritative},
		"gmail, not verified":        {claims: object{"email": "a@gmail.com", "email_verified": false}, trust: guest.Asserted},
		"gmail, verified as 1":       {claims: object{"email": "a@gmail.com", "email_verified": 1}, trust: guest.Asserted},
		"gmail as a subdomain":       {claims: object{"email": "a@gmail.com.evil.example"}, trust: guest.Verified},
		"workspace":                  {claims: object{"hd": "example.com"}, trust: guest.Authoritative},
		"workspace of another":       {claims: object{"hd": "example.org"}, trust: guest.Verified},
		"address without workspace":  {claims: object{}, trust: guest.Verified},
		"two at-signs":               {claims: object{"email": "a@evil.example@gmail.com"}, trust: guest.NoEmail},
		"hosted":                     {claims: object{"hd": "Example.com"}, hosted: []string{"b.example", "example.com"}, trust: guest.Authoritative},
		"hosted, any":                {claims: object{"hd": "example.org"}, hosted: []string{"*"}, trust: guest.Verified},
		"hosted, any, but none":      {claims: object{}, hosted: []string{"*"}, err: guest.NotAllowed},
		"hosted, only the address":   {claims: object{}, hosted: []string{"example.com"}, err: guest.NotAllowed},
		"hosted, another":            {claims: object{"hd": "evil-example.com"}, hosted: []string{"example.com"}, err: guest.NotAllowed},
		"hosted, claimed as a list":  {claims: object{"hd": []string{"example.com"}}, hosted: []string{"example.com"}, err: guest.NotAllowed},
		"hosted, subdomain of it":    {claims: object{"hd": "x.example.com"}, hosted: []string{"example.com"}, err: guest.NotAllowed},
		"another issuer's old name":  {claims: object{"iss": "accounts.google.com"}, err: guest.Untrusted},
		"hosted, userinfo's word":    {claims: object{"name": nil}, hosted: []string{"example.com"}, err: guest.NotAllowed},
		"workspace, not its address": {claims: object{"hd": "example.com", "email": "a@gmail.com.example"}, trust: guest.Verified},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			i.claims, i.info = row.claims, object{"sub": "sub-1", "hd": "example.com"}
			p := open(t, i, &Google{Options: i.options(), Endpoints: Endpoints{Issuer: i.url}, HostedDomain: row.hosted})
			got, err := i.signIn(t, p)
			if (err != nil) != (row.err != "") || err != nil && guest.ReasonOf(err) != row.err {
				t.Fatalf("got %v, want %q", err, row.err)
			}
			if got.EmailTrust != row.trust {
				t.Errorf("trust is %d, want %d", got.EmailTrust, row.trust)
			}
		})
	}
}

func TestGooglesFormerIssuerSpellingIsTaken(t *testing.T) {
	i := newIssuer(t)
	i.url, i.claims = googleIssuer, object{"iss": "accounts.google.com"}
	at := Endpoints{AuthURL: i.URL + "/auth", TokenURL: i.URL + "/token", JWKSURL: i.URL + "/keys"}
	got, err := i.signIn(t, open(t, i, &Google{Options: i.options(), Endpoints: at}))
	if err != nil || got.Issuer != googleIssuer {
		t.Errorf("got %q, %v", got.Issuer, err)
	}
}

func TestGoogleIsToldOfTheHostedDomain(t *testing.T) {
	i := newIssuer(t)
	for want, hosted := range map[string][]string{"": nil, "a.example": {"a.example"}, "*": {"a.example", "b.example"}} {
		p := open(t, i, &Google{Options: i.options(), Endpoints: Endpoints{Issuer: i.url}, HostedDomain: hosted})
		address, err := p.Begin(context.Background(), guest.Attempt{State: "s", Nonce: "n", Verifier: "v", SwitchAccount: true})
		u, _ := url.Parse(address)
		if err != nil || u.Query().Get("hd") != want || u.Query().Get("prompt") != "select_account" {
			t.Errorf("%v: %s, %v", hosted, address, err)
		}
	}
}

func TestOktaAlwaysAsksUserinfo(t *testing.T) {
	i := newIssuer(t)
	i.info = object{"sub": "sub-1", "picture": "https://example.com/p"}
	o := i.options()
	o.AuthoritativeDomains = []string{"Example.com"}
	o.Groups = "groups"
	p := open(t, i, &Okta{Options: o, Endpoints: Endpoints{Issuer: i.url}})
	got, err := i.signIn(t, p)
	if err != nil || i.ui.Load() != 1 || got.Picture == "" || got.EmailTrust != guest.Authoritative {
		t.Errorf("got %+v, %v", got, err)
	}
	if want := []string{"openid", "email", "profile", "groups"}; !slices.Equal(p.scopes(new(metadata)), want) {
		t.Errorf("scopes are %q", p.scopes(new(metadata)))
	}
}

func TestDiscoveryIsFetchedOnceForAll(t *testing.T) {
	i := newIssuer(t)
	gate, arrived := make(chan struct{}), make(chan struct{}, 1)
	i.intruder = func(_ http.ResponseWriter, r *http.Request) bool {
		arrived <- struct{}{}
		<-gate
		return false
	}
	p := i.oidc(t)
	// The first visitor, who causes the fetch, goes away before it ends.
	first, leave := context.WithCancel(context.Background())
	gone := make(chan error)
	go func() { _, err := p.Begin(first, attempt()); gone <- err }()
	<-arrived
	leave()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("the first visitor got %v", err)
	}
	var wait sync.WaitGroup
	failed := make(chan error, 32)
	for range 32 {
		wait.Go(func() {
			if _, err := p.Begin(context.Background(), attempt()); err != nil {
				failed <- err
			}
		})
	}
	close(gate)
	wait.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
	if n := i.discovered.Load(); n != 1 {
		t.Errorf("discovery was fetched %d times", n)
	}
	i.clock.Advance(time.Hour)
	if _, err := p.Begin(context.Background(), attempt()); err != nil || i.discovered.Load() != 2 {
		t.Errorf("after an hour: fetched %d times, %v", i.discovered.Load(), err)
	}
}

func TestDeadIssuerIsAskedOnceInFiveSeconds(t *testing.T) {
	i := newIssuer(t)
	asked := 0
	i.intruder = func(w http.ResponseWriter, r *http.Request) bool {
		asked++
		w.WriteHeader(http.StatusBadGateway)
		return true
	}
	p := i.oidc(t)
	for range 9 {
		if _, err := p.Begin(context.Background(), attempt()); guest.ReasonOf(err) != guest.Unavailable || err == nil {
			t.Fatalf("got %v", err)
		}
	}
	if asked != 1 {
		t.Errorf("a dead issuer was asked %d times", asked)
	}
	i.intruder = nil
	i.clock.Advance(failedFor)
	if _, err := p.Begin(context.Background(), attempt()); err != nil {
		t.Errorf("five seconds on: %v", err)
	}
}

func TestSlowIssuerIsGivenUpWithinThreeSeconds(t *testing.T) {
	i := newIssuer(t)
	i.intruder = func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }
	p := i.oidc(t)
	if err := p.Open(i.env()); err != nil { // with the patience of every day
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		hanging := shared[*metadata]{now: epochNow, patience: p.metadata.patience, fetch: func(ctx context.Context) (*metadata, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		start := time.Now()
		if _, err := hanging.value(context.Background()); err == nil || time.Since(start) > 3*time.Second {
			t.Errorf("took %s, %v", time.Since(start), err)
		}
	})
	// Its own call ends so, too, and not by the client's timeout.
	p.metadata.patience = 50 * time.Millisecond
	start := time.Now()
	_, err := p.Begin(context.Background(), attempt())
	if took := time.Since(start); took >= clientTimeout || guest.ReasonOf(err) != guest.Unavailable {
		t.Errorf("took %s, %v", took, err)
	}
}

func TestUnreachableIssuerLeavesTheLastDocument(t *testing.T) {
	i := newIssuer(t)
	p := i.oidc(t)
	if _, err := i.signIn(t, p); err != nil {
		t.Fatal(err)
	}
	i.clock.Advance(2 * time.Hour)
	i.intruder = func(w http.ResponseWriter, r *http.Request) bool {
		if down := r.URL.Path != "/token"; down {
			w.WriteHeader(http.StatusBadGateway)
			return true
		}
		return false
	}
	if _, err := i.signIn(t, p); err != nil {
		t.Errorf("with documents of two hours: %v", err)
	}
	i.clock.Advance(staleFor)
	if _, err := p.Begin(context.Background(), attempt()); err == nil {
		t.Error("a document of more than a day was used")
	}
}

func TestChangedIssuerEndsTheUseOfTheLastDocument(t *testing.T) {
	i := newIssuer(t)
	p := i.oidc(t)
	if _, err := p.Begin(context.Background(), attempt()); err != nil {
		t.Fatal(err)
	}
	i.clock.Advance(2 * time.Hour)
	i.doc = object{"issuer": "https://evil.example"}
	if _, err := p.Begin(context.Background(), attempt()); guest.ReasonOf(err) != guest.Untrusted || err == nil {
		t.Errorf("got %v", err)
	}
}

func TestRotatedKeySignsInAtOnce(t *testing.T) {
	i := newIssuer(t)
	p := i.oidc(t)
	rotate := func(kid string, n int) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.signer, i.kid = []crypto.Signer{keys().rsa, keys().rsa2}[n%2], kid
		i.jwks = []object{jwk(kid, i.signer.Public())}
	}
	for n, kid := range []string{"one", "two", "three"} {
		rotate(kid, n)
		if _, err := i.signIn(t, p); err != nil {
			t.Fatalf("rotation %d: %v", n, err)
		}
		i.clock.Advance(insistGap)
	}
	if n := i.keyed.Load(); n != 3 {
		t.Errorf("keys were fetched %d times", n)
	}
}

func TestKeysWithoutIDRotateToo(t *testing.T) {
	i := newIssuer(t)
	i.header, i.jwks = object{"kid": nil}, []object{jwk("", keys().rsa.Public())}
	p := i.oidc(t)
	if _, err := i.signIn(t, p); err != nil {
		t.Fatal(err)
	}
	i.signer, i.jwks = keys().rsa2, []object{jwk("", keys().rsa2.Public())}
	if _, err := i.signIn(t, p); err != nil {
		t.Error(err)
	}
}

func TestStormOfUnknownKeyIDsCausesOneFetch(t *testing.T) {
	i := newIssuer(t)
	p := i.oidc(t)
	if _, err := i.signIn(t, p); err != nil {
		t.Fatal(err)
	}
	honest := i.keyed.Load()
	ring, _ := p.keys.value(context.Background())
	var wait sync.WaitGroup
	for n := range 64 {
		wait.Go(func() {
			token := sign(keys().rsa2, "RS256", fmt.Sprintf(`{"alg":"RS256","kid":"invented %d"}`, n), []byte(`{}`))
			m, _ := p.metadata.value(context.Background())
			if _, err := p.verify(context.Background(), m, provider.Tokens{ID: token}, guest.Attempt{Nonce: "n"}); err == nil {
				t.Error("accepted")
			}
		})
	}
	wait.Wait()
	if n := i.keyed.Load() - honest; n != 1 {
		t.Errorf("64 invented key IDs caused %d fetches", n)
	}
	if next, _ := p.keys.value(context.Background()); next == ring {
		t.Error("the one fetch was not used")
	}
	i.signer, i.kid, i.jwks = keys().rsa2, "new", []object{jwk("new", keys().rsa2.Public())}
	i.clock.Advance(insistGap)
	if _, err := i.signIn(t, p); err != nil {
		t.Errorf("30 s after a storm a rotated key does not sign in: %v", err)
	}
}

func TestAtMostTenKeysAreTried(t *testing.T) {
	i := newIssuer(t)
	i.header = object{"kid": nil}
	other := jwk("", keys().rsa2.Public())
	i.jwks = append(slices.Repeat([]object{other}, maxTries-1), jwk("", keys().rsa.Public()))
	if _, err := i.signIn(t, i.oidc(t)); err != nil {
		t.Errorf("the tenth key: %v", err)
	}
	i.jwks = append([]object{maps.Clone(other)}, i.jwks...)
	if _, err := i.signIn(t, i.oidc(t)); err == nil {
		t.Error("the eleventh key was tried")
	}
}

func TestFetchThatPanicsIsAnError(t *testing.T) {
	s := shared[*metadata]{now: epochNow, patience: time.Minute, fetch: func(context.Context) (*metadata, error) { panic("x") }}
	if _, err := s.value(context.Background()); err == nil {
		t.Error("no error")
	}
}

func epochNow() time.Time { return epoch }

func TestOpenNeedsProvision(t *testing.T) {
	if err := new(OIDC).Open(guest.Env{}); err == nil {
		t.Error("opened")
	}
}

func TestFinishOfADeadIssuerSaysUnavailable(t *testing.T) {
	i := newIssuer(t)
	p := i.oidc(t)
	i.Close()
	_, err := p.Finish(context.Background(), attempt(), url.Values{"code": {"c"}})
	if guest.ReasonOf(err) != guest.Unavailable || err == nil {
		t.Errorf("got %v", err)
	}
}

func TestEmailTrustOverridesTheBrand(t *testing.T) {
	for written, want := range map[string]guest.Trust{
		"unverified": guest.Asserted, "verified": guest.Verified, "authoritative": guest.Authoritative,
	} {
		i := newIssuer(t)
		i.claims = object{"email": "a@gmail.com"}
		o := i.options()
		o.EmailTrust = written
		got, err := i.signIn(t, open(t, i, &Google{Options: o, Endpoints: Endpoints{Issuer: i.url}}))
		if err != nil || got.EmailTrust != want {
			t.Errorf("%s: %d, %v", written, got.EmailTrust, err)
		}
	}
}
