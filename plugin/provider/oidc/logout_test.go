package oidc

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// logoutToken is one as the final specification wants it, spoilt by claims and
// header; nil values delete.
func (i *issuer) logoutToken(claims, header object) guest.Secret {
	now := i.clock.Now().Unix()
	payload, _ := json.Marshal(merged(object{
		"iss": i.url, "aud": clientID, "iat": now, "exp": now + 120, "jti": "once", "sub": "sub-1", "sid": "s-1",
		"events": object{logoutEvent: object{}},
	}, claims))
	return guest.Secret(i.signed(payload, header))
}

func (i *issuer) signed(payload []byte, header object) string {
	head, _ := json.Marshal(merged(object{"alg": i.alg, "kid": i.kid, "typ": "logout+jwt"}, header))
	return sign(i.signer, i.alg, string(head), payload)
}

func TestLogoutTokenIsRead(t *testing.T) {
	i := newIssuer(t)
	got, err := i.oidc(t).ReadLogout(context.Background(), i.logoutToken(nil, nil))
	want := guest.Logout{
		Issuer: i.url, Subject: "sub-1", SessionID: "s-1", ID: "once",
		IssuedAt: epoch.Local(), Expires: epoch.Add(3 * time.Minute).Local(),
	}
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

func TestLogoutTokensThatMustBeAccepted(t *testing.T) {
	now := epoch.Unix()
	for name, row := range map[string]struct {
		claims, header object
		want           guest.Logout // with Issuer and IssuedAt left out
		until          time.Duration
	}{
		"typ JWT":              {header: object{"typ": "jwt"}, want: guest.Logout{Subject: "sub-1", SessionID: "s-1", ID: "once"}, until: 180},
		"typ in capitals":      {header: object{"typ": "LOGOUT+JWT"}, want: guest.Logout{Subject: "sub-1", SessionID: "s-1", ID: "once"}, until: 180},
		"no typ":               {header: object{"typ": nil}, want: guest.Logout{Subject: "sub-1", SessionID: "s-1", ID: "once"}, until: 180},
		"sub alone":            {claims: object{"sid": nil}, want: guest.Logout{Subject: "sub-1", ID: "once"}, until: 180},
		"sid alone":            {claims: object{"sub": nil}, want: guest.Logout{SessionID: "s-1", ID: "once"}, until: 180},
		"several audiences":    {claims: object{"aud": []string{"x", clientID}}, want: guest.Logout{Subject: "sub-1", SessionID: "s-1", ID: "once"}, until: 180},
		"azp of another":       {claims: object{"azp": "x"}, want: guest.Logout{Subject: "sub-1", SessionID: "s-1", ID: "once"}, until: 180},
		"other events besides": {claims: object{"events": object{logoutEvent: object{"x": 1}, "y": 1}}, want: guest.Logout{Subject: "sub-1", SessionID: "s-1", ID: "once"}, until: 180},
		"no exp":               {claims: object{"exp": nil}, want: guest.Logout{Subject: "sub-1", SessionID: "s-1", ID: "once"}, until: 300},
		"no exp, 299 s old":    {claims: object{"exp": nil, "iat": now - 299}, want: guest.Logout{Subject: "sub-1", SessionID: "s-1", ID: "once"}, until: 1},
		"exp 59 s past":        {claims: object{"exp": now - 59, "iat": now - 179}, want: guest.Logout{Subject: "sub-1", SessionID: "s-1", ID: "once"}, until: 1},
		"exp years ahead":      {claims: object{"exp": now + 1e8, "iat": now - 60}, want: guest.Logout{Subject: "sub-1", SessionID: "s-1", ID: "once"}, until: 3540},
		"59 min old":           {claims: object{"exp": now + 1e8, "iat": now - 3599}, want: guest.Logout{Subject: "sub-1", SessionID: "s-1", ID: "once"}, until: 1},
		"iat 60 s ahead":       {claims: object{"exp": nil, "iat": now + 60}, want: guest.Logout{Subject: "sub-1", SessionID: "s-1", ID: "once"}, until: 360},
		"long names":           {claims: object{"jti": strings.Repeat("j", 255), "sid": nil}, want: guest.Logout{Subject: "sub-1", ID: strings.Repeat("j", 255)}, until: 180},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			got, err := i.oidc(t).ReadLogout(context.Background(), i.logoutToken(row.claims, row.header))
			if err != nil {
				t.Fatal(err)
			}
			if until := got.Expires.Sub(epoch); until != row.until*time.Second {
				t.Errorf("believed for %s, want %d s", until, row.until)
			}
			got.Issuer, got.IssuedAt, got.Expires = "", time.Time{}, time.Time{}
			if got != row.want {
				t.Errorf("got %+v, want %+v", got, row.want)
			}
		})
	}
}

// Each row spoils one thing of a token that is right otherwise.
func TestLogoutTokensThatMustBeRefused(t *testing.T) {
	now := epoch.Unix()
	event := func(v any) object { return object{"events": v} }
	for name, row := range map[string]struct {
		claims, header object
		spoil          func(*issuer)
	}{
		"iss of another issuer":       {claims: object{"iss": "https://evil.example"}},
		"iss missing":                 {claims: object{"iss": nil}},
		"aud of another":              {claims: object{"aud": "x"}},
		"aud missing":                 {claims: object{"aud": nil}},
		"aud that holds a number":     {claims: object{"aud": []any{clientID, 7}}},
		"iat missing":                 {claims: object{"iat": nil}},
		"iat a string":                {claims: object{"iat": fmt.Sprint(now)}},
		"iat 61 s ahead":              {claims: object{"iat": now + 61}},
		"iat an hour old":             {claims: object{"iat": now - 3600}},
		"nbf 61 s ahead":              {claims: object{"nbf": now + 61}},
		"exp 60 s past":               {claims: object{"exp": now - 60}},
		"exp a string":                {claims: object{"exp": fmt.Sprint(now + 120)}},
		"no exp, 5 min old":           {claims: object{"exp": nil, "iat": now - 300}},
		"jti missing":                 {claims: object{"jti": nil}},
		"jti empty":                   {claims: object{"jti": ""}},
		"jti a number":                {claims: object{"jti": 7}},
		"jti of 256 bytes":            {claims: object{"jti": strings.Repeat("j", 256)}},
		"events missing":              {claims: event(nil)},
		"events a list":               {claims: event([]string{logoutEvent})},
		"events empty":                {claims: event(object{})},
		"another event":               {claims: event(object{"http://schemas.openid.net/event/x": object{}})},
		"event in capitals":           {claims: event(object{strings.ToUpper(logoutEvent): object{}})},
		"event with a string":         {claims: event(object{logoutEvent: "x"})},
		"event with null":             {claims: event(object{logoutEvent: json.RawMessage("null")})},
		"event with a list":           {claims: event(object{logoutEvent: []any{}})},
		"a nonce":                     {claims: object{"nonce": "n"}},
		"a nonce of null":             {claims: object{"nonce": json.RawMessage("null")}},
		"neither sub nor sid":         {claims: object{"sub": nil, "sid": nil}},
		"sub of null":                 {claims: object{"sub": json.RawMessage("null")}},
		"sub a number":                {claims: object{"sub": 7}},
		"sub empty, sid right":        {claims: object{"sub": ""}},
		"sid of 256 bytes, sub right": {claims: object{"sid": strings.Repeat("s", 256)}},
		"sid a number, sub right":     {claims: object{"sid": 7}},
		"typ of an access token":      {header: object{"typ": "at+jwt"}},
		"typ of another event":        {header: object{"typ": "secevent+jwt"}},
		"typ a number":                {header: object{"typ": 7}},
		"crit":                        {header: object{"crit": []string{"exp"}}},
		"alg none":                    {header: object{"alg": "none"}},
		"HS256 with the public key":   {spoil: func(i *issuer) { i.alg, i.signer = "HS256", hmacKey(keys().rsa.N.Bytes()) }},
		"HS256 with our secret":       {spoil: func(i *issuer) { i.alg, i.signer = "HS256", hmacKey(clientSecret) }},
		"alg that is not listed":      {spoil: func(i *issuer) { i.doc = object{"id_token_signing_alg_values_supported": []string{"ES256"}} }},
		"key of another":              {spoil: func(i *issuer) { i.signer = keys().rsa2 }},
		"key of an unknown name":      {spoil: func(i *issuer) { i.signer, i.kid = keys().rsa2, "k9" }},
		"too long":                    {claims: object{"x": strings.Repeat("x", 17<<10)}},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			if row.spoil != nil {
				row.spoil(i)
			}
			got, err := i.oidc(t).ReadLogout(context.Background(), i.logoutToken(row.claims, row.header))
			if err == nil || guest.ReasonOf(err) != guest.Untrusted || got != (guest.Logout{}) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func TestWhatIsNoLogoutTokenIsRefused(t *testing.T) {
	i := newIssuer(t)
	p := i.oidc(t)
	good := string(i.logoutToken(nil, nil))
	for name, token := range map[string]string{
		"nothing": "", "dots": "..", "stripped": stripSignature(good), "spoilt": spoilSignature(good), "JSON": jsonSerialized(good),
		"four parts": good + ".", "white space": good + "\n",
		"a name twice": i.signed(fmt.Appendf(nil, `{"iss":%q,"aud":%q,"iat":%d,"jti":"a","jti":"b","sub":"x","events":{%q:{}}}`,
			i.url, clientID, epoch.Unix(), logoutEvent), nil),
	} {
		if got, err := p.ReadLogout(context.Background(), guest.Secret(token)); guest.ReasonOf(err) != guest.Untrusted || err == nil {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

func TestIDTokenIsNoLogoutToken(t *testing.T) {
	i := newIssuer(t)
	i.nonce = "n"
	i.claims = object{"jti": "j", "sid": "s-1"}
	if _, err := i.oidc(t).ReadLogout(context.Background(), guest.Secret(i.idToken())); guest.ReasonOf(err) != guest.Untrusted || err == nil {
		t.Errorf("got %v", err)
	}
}

// A logout token has what an ID token must have but for the nonce, which is not
// asked for where tokens are renewed.
func TestLogoutTokenIsNoIDToken(t *testing.T) {
	for _, typ := range []any{"logout+jwt", "JWT", nil} {
		i := newIssuer(t)
		i.refresh = "refresh-0"
		i.renewed = object{"id_token": string(i.logoutToken(nil, object{"typ": typ}))}
		got, err := i.oidc(t).Renew(context.Background(), i.keeps("refresh-0"))
		if err == nil || guest.ReasonOf(err) != guest.Untrusted || got != (guest.Tokens{}) {
			t.Errorf("typ %v: got %v", typ, err)
		}
		i.mangle = func(string) string { return string(i.logoutToken(object{"nonce": i.nonce}, object{"typ": typ})) }
		if _, err := i.signIn(t, i.oidc(t)); err == nil || guest.ReasonOf(err) != guest.Untrusted {
			t.Errorf("typ %v: signed in, %v", typ, err)
		}
	}
}

func TestLogoutTokensAreForBrandsThatSendThem(t *testing.T) {
	i := newIssuer(t)
	google := open(t, i, &Google{Options: i.options(), Endpoints: Endpoints{Issuer: i.url}})
	if _, err := google.ReadLogout(context.Background(), i.logoutToken(nil, nil)); err == nil || google.Traits().SendsLogouts || i.discovered.Load() != 0 {
		t.Errorf("Google sends logout tokens: %v", err)
	}
	okta := open(t, i, &Okta{Options: i.options(), Endpoints: Endpoints{Issuer: i.url}})
	if _, err := okta.ReadLogout(context.Background(), i.logoutToken(nil, nil)); err != nil || !okta.Traits().SendsLogouts {
		t.Errorf("Okta sends none: %v", err)
	}
}

func TestLogoutTokensFollowARotation(t *testing.T) {
	i := newIssuer(t)
	p := i.oidc(t)
	if _, err := p.ReadLogout(context.Background(), i.logoutToken(nil, nil)); err != nil {
		t.Fatal(err)
	}
	i.mu.Lock()
	i.signer, i.kid, i.jwks = keys().rsa2, "k2", []object{jwk("k2", keys().rsa2.Public())}
	i.mu.Unlock()
	if _, err := p.ReadLogout(context.Background(), i.logoutToken(nil, nil)); err != nil || i.keyed.Load() != 2 {
		t.Errorf("%v after %d fetches", err, i.keyed.Load())
	}
}

func TestStormOfLogoutTokensCausesOneFetch(t *testing.T) {
	i := newIssuer(t)
	p := i.oidc(t)
	if _, err := p.ReadLogout(context.Background(), i.logoutToken(nil, nil)); err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for n := range 64 {
		forged := sign(keys().rsa2, "RS256", fmt.Sprintf(`{"alg":"RS256","kid":"invented %d"}`, n), []byte(`{}`))
		wait.Go(func() {
			if _, err := p.ReadLogout(context.Background(), guest.Secret(forged)); err == nil {
				t.Error("believed")
			}
		})
	}
	wait.Wait()
	if n := i.keyed.Load(); n != 2 {
		t.Errorf("keys were fetched %d times", n)
	}
}

func TestDeadIssuersLogoutTokenSaysUnavailable(t *testing.T) {
	i := newIssuer(t)
	p := i.oidc(t)
	token := i.logoutToken(nil, nil)
	i.Close()
	if _, err := p.ReadLogout(context.Background(), token); guest.ReasonOf(err) != guest.Unavailable || err == nil {
		t.Errorf("got %v", err)
	}
}

// No text but the one that was signed is believed, and none makes us panic.
func FuzzReadLogout(f *testing.F) {
	i := newIssuer(f)
	p := i.oidc(f)
	good := string(i.logoutToken(nil, nil))
	if _, err := p.ReadLogout(context.Background(), guest.Secret(good)); err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		good, stripSignature(good), spoilSignature(good), jsonSerialized(good), "..", string(i.logoutToken(object{"sub": nil}, nil))[1:],
		b64([]byte(`{"alg":"RS256","kid":"k1","typ":"logout+jwt"}`)) + "." + b64([]byte(`{"events":{}}`)) + ".",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if got, err := p.ReadLogout(context.Background(), guest.Secret(raw)); err == nil && raw != good {
			t.Errorf("believed %q: %+v", raw, got)
		}
	})
}

// Whatever an issuer signs, what is believed of it holds to the contract.
func FuzzLogoutClaims(f *testing.F) {
	i := newIssuer(f)
	p := i.oidc(f)
	f.Add(fmt.Appendf(nil, `{"iss":%q,"aud":%q,"iat":%d,"jti":"j","sid":"s","events":{%q:{}}}`, i.url, clientID, epoch.Unix(), logoutEvent))
	f.Add([]byte(`{"sub":null,"sid":[],"events":{"http://schemas.openid.net/event/backchannel-logout":null}}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		claims, err := provider.ParseClaims(payload)
		if err != nil {
			return
		}
		// The issuer's address differs from one run to the next.
		claims["iss"], claims["aud"] = fmt.Appendf(nil, "%q", i.url), fmt.Appendf(nil, "%q", clientID)
		l, err := p.logout(signed{claims: claims})
		if err != nil {
			return
		}
		if l.ID == "" || len(l.ID) > 255 || l.Subject+l.SessionID == "" || len(l.Subject) > 255 || len(l.SessionID) > 255 {
			t.Errorf("%s was read as %+v", payload, l)
		}
		if !l.Expires.After(epoch) || l.Expires.Sub(l.IssuedAt) > logoutOldest {
			t.Errorf("%s is believed until %s", payload, l.Expires)
		}
	})
}

func TestLogoutTokenNeedsAKeyForItsIssuer(t *testing.T) {
	i := newIssuer(t)
	p := i.oidc(t)
	p.brand.signs = func(keyIssuer string, c provider.Claims) error {
		if keyIssuer != c.Text("iss") {
			return fmt.Errorf("its key is for issuer %s", provider.Quote(keyIssuer))
		}
		return nil
	}
	if _, err := p.ReadLogout(context.Background(), i.logoutToken(nil, nil)); err == nil || guest.ReasonOf(err) != guest.Untrusted {
		t.Errorf("got %v", err)
	}
}
