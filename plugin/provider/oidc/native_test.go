package oidc

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-login/caddy-login/module/guest"
)

// native is a provider of the issuer's that takes tokens of these apps.
func (i *issuer) native(t testing.TB, change func(*OIDC)) *OIDC {
	t.Helper()
	o := &OIDC{Options: i.options(), Endpoints: Endpoints{Issuer: i.url}}
	o.NativeClientIDs = []string{"ios", "android"}
	if change != nil {
		change(o)
	}
	return open(t, i, o)
}

// handIn has an app hand in an ID token of the issuer's, and no code.
func (i *issuer) handIn(p guest.NativeTaker, nonce string) (guest.Profile, error) {
	i.mu.Lock()
	raw := i.idToken()
	i.mu.Unlock()
	return p.TakeNative(context.Background(), guest.NativeToken{Kind: guest.IDToken, Token: guest.Secret(raw), Nonce: nonce})
}

func TestIDTokenOfAnAppBecomesTheSameProfile(t *testing.T) {
	i := newIssuer(t)
	for _, audience := range []any{clientID, "ios", "android", []string{"ios"}, []string{clientID, "ios"}} {
		i.claims = object{"aud": audience, "nonce": nil}
		got, err := i.handIn(i.native(t, nil), "")
		if err != nil || got.Issuer != i.url || got.Subject != "sub-1" || got.Email != "ada@example.com" || got.EmailTrust != guest.Verified || got.Name != "Ada" {
			t.Errorf("%v: got %+v, %v", audience, got, err)
		}
	}
	if i.spent.Load()+i.ui.Load() > 0 {
		t.Errorf("the token endpoint was asked %d times, userinfo %d", i.spent.Load(), i.ui.Load())
	}
}

func TestIDTokensOfAppsThatMustBeRefused(t *testing.T) {
	now := epoch.Unix()
	for what, test := range map[string]struct {
		claims object
		header object
		alg    string
		mangle func(string) string
		is     error
	}{
		"another's":                {claims: object{"aud": "mallory"}, is: guest.ErrAudience},
		"another's as well":        {claims: object{"aud": []string{"ios", "mallory"}}, is: guest.ErrAudience},
		"another's, azp ours":      {claims: object{"aud": "mallory", "azp": "ios"}, is: guest.ErrAudience},
		"ours, azp another's":      {claims: object{"aud": "ios", "azp": "mallory"}, is: guest.ErrAudience},
		"nobody's":                 {claims: object{"aud": nil}, is: guest.ErrAudience},
		"an empty list's":          {claims: object{"aud": []string{}}, is: guest.ErrAudience},
		"an empty name's":          {claims: object{"aud": ""}, is: guest.ErrAudience},
		"a number's":               {claims: object{"aud": 1}, is: guest.ErrAudience},
		"in capitals":              {claims: object{"aud": "IOS"}, is: guest.ErrAudience},
		"another issuer's":         {claims: object{"iss": "https://mallory.example"}},
		"no issuer's":              {claims: object{"iss": nil}},
		"11 minutes old":           {claims: object{"iat": now - 660}},
		"as old, and lives longer": {claims: object{"iat": now - 660, "exp": now + 86400}},
		"of no age":                {claims: object{"iat": nil}},
		"of tomorrow":              {claims: object{"iat": now + 86400, "exp": now + 2*86400}},
		"expired":                  {claims: object{"exp": now - 120}},
		"eternal":                  {claims: object{"exp": nil}},
		"not begun":                {claims: object{"nbf": now + 120}},
		"nobody":                   {claims: object{"sub": nil}},
		"an empty sub":             {claims: object{"sub": ""}},
		"a logout token":           {claims: object{"events": object{logoutEvent: object{}}}},
		"without the nonce":        {claims: object{"nonce": nil}, is: guest.ErrNonce},
		"an empty nonce":           {claims: object{"nonce": ""}, is: guest.ErrNonce},
		"another nonce":            {claims: object{"nonce": "other"}, is: guest.ErrNonce},
		"a hash of another nonce":  {claims: object{"nonce": hashed("other")}, is: guest.ErrNonce},
		"the hash in capitals":     {claims: object{"nonce": strings.ToUpper(hashed("the-nonce"))}, is: guest.ErrNonce},
		"an access token":          {header: object{"typ": "at+jwt"}},
		"crit":                     {header: object{"crit": []string{"b64"}}},
		"unsigned":                 {alg: "none"},
		"HS256":                    {alg: "HS256"},
		"torn":                     {mangle: func(s string) string { return s[:len(s)-4] }},
		"spaced":                   {mangle: func(s string) string { return s + "\n" }},
		"nothing":                  {mangle: func(string) string { return "" }},
		"300 KB":                   {mangle: func(s string) string { return s + strings.Repeat("A", 300<<10) }},
	} {
		t.Run(what, func(t *testing.T) {
			i := newIssuer(t)
			i.claims = with(object{"nonce": "the-nonce"}, test.claims)
			i.header, i.mangle = test.header, test.mangle
			if test.alg != "" {
				i.alg = test.alg
			}
			_, err := i.handIn(i.native(t, nil), "the-nonce")
			if guest.ReasonOf(err) != guest.Untrusted || err == nil || test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("got %v, want %v", err, test.is)
			}
		})
	}
}

func hashed(nonce string) string {
	digest := sha256.Sum256([]byte(nonce))
	return hex.EncodeToString(digest[:])
}

func TestNonceOfAnAppComesAsItIsOrHashed(t *testing.T) {
	i := newIssuer(t)
	for _, nonce := range []string{"the-nonce", hashed("the-nonce")} {
		i.claims = object{"nonce": nonce}
		if _, err := i.handIn(i.native(t, nil), "the-nonce"); err != nil {
			t.Errorf("%s: %v", nonce, err)
		}
	}
	for audience, taken := range map[string]bool{clientID: false, "ios": true} {
		i.claims = object{"nonce": "of somebody's", "aud": audience}
		if _, err := i.handIn(i.native(t, nil), ""); (err == nil) != taken || !taken && !errors.Is(err, guest.ErrNonce) {
			t.Errorf("for %s, with a nonce where we issued none: %v", audience, err)
		}
	}
	// A brand that drops it in the code flow has nothing else to go by here.
	i = newLinkedIn(t)
	linked := i.linkedin(t)
	if _, err := i.handIn(linked, "the-nonce"); !errors.Is(err, guest.ErrNonce) {
		t.Errorf("LinkedIn: %v", err)
	}
	if _, err := i.handIn(linked, ""); err != nil {
		t.Errorf("LinkedIn, without one: %v", err)
	}
}

func TestAgeOfAnAppsIDTokenIsTheHousesToSay(t *testing.T) {
	i := newIssuer(t)
	p := i.native(t, nil)
	i.claims = object{"nonce": nil, "iat": epoch.Unix() - 90}
	i.mu.Lock()
	raw := guest.Secret(i.idToken())
	i.mu.Unlock()
	for age, taken := range map[time.Duration]bool{time.Minute: false, 90 * time.Second: true, time.Hour: true} {
		_, err := p.TakeNative(context.Background(), guest.NativeToken{Kind: guest.IDToken, Token: raw, MaxAge: age})
		if (err == nil) != taken {
			t.Errorf("%v: %v", age, err)
		}
	}
}

func TestProvidersThatTakeNothingOfAppsSaySo(t *testing.T) {
	i := newTwitch(t)
	if _, err := i.handIn(i.twitch(t), ""); !errors.Is(err, guest.ErrNotNative) {
		t.Errorf("Twitch: %v", err)
	}
	i = newIssuer(t)
	old := i.native(t, func(o *OIDC) { o.Revalidate = caddy.Duration(time.Hour) })
	if _, err := i.handIn(old, ""); !errors.Is(err, guest.ErrNotNative) {
		t.Errorf("revalidate: %v", err)
	}
	for _, kind := range []guest.NativeKind{"", "refresh_token", guest.AccessToken} {
		_, err := i.native(t, nil).TakeNative(context.Background(), guest.NativeToken{Kind: kind, Token: "the-access"})
		if !errors.Is(err, guest.ErrNotNative) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if i.ui.Load() > 0 {
		t.Error("userinfo was asked")
	}
}

// introspects has the issuer say this of access tokens, and counts.
func (i *issuer) introspects(t *testing.T, answer object) {
	t.Helper()
	i.doc = object{"introspection_endpoint": i.Server.URL + "/introspect"}
	i.intruder = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/introspect" {
			return false
		}
		user, pass, _ := r.BasicAuth()
		id, _ := url.QueryUnescape(user)
		secret, _ := url.QueryUnescape(pass)
		if id != clientID || secret != clientSecret || r.PostFormValue("token") != "the-access" || r.URL.RawQuery != "" {
			t.Errorf("asked by %q for %v", id, r.PostForm)
		}
		w.Header().Set("Content-Type", "application/json")
		reply(w, answer)
		return true
	}
}

func TestAccessTokenOfAnAppIsIntrospected(t *testing.T) {
	access := guest.NativeToken{Kind: guest.AccessToken, Token: "the-access"}
	for what, test := range map[string]struct {
		answer object
		info   object
		is     error
		taken  bool
	}{
		"an app's of ours":         {answer: object{"active": true, "client_id": "ios", "sub": "sub-1"}, taken: true},
		"our own":                  {answer: object{"active": true, "client_id": clientID}, taken: true},
		"another's":                {answer: object{"active": true, "client_id": "mallory", "aud": clientID}, is: guest.ErrAudience},
		"nobody's":                 {answer: object{"active": true, "aud": clientID}, is: guest.ErrAudience},
		"not active":               {answer: object{"active": false}},
		"active by a word":         {answer: object{"active": "true", "client_id": "ios"}},
		"another issuer's":         {answer: object{"active": true, "client_id": "ios", "iss": "https://mallory.example"}},
		"another person's":         {answer: object{"active": true, "client_id": "ios", "sub": "eve"}},
		"of whom userinfo is mute": {answer: object{"active": true, "client_id": "ios"}, info: object{"name": "Ada"}},
	} {
		t.Run(what, func(t *testing.T) {
			i := newIssuer(t)
			i.info = object{"sub": "sub-1", "email": "ada@example.com", "email_verified": true, "name": "Ada"}
			if test.info != nil {
				i.info = test.info
			}
			i.introspects(t, test.answer)
			got, err := i.native(t, nil).TakeNative(context.Background(), access)
			switch {
			case test.taken && (err != nil || got.Subject != "sub-1" || got.Issuer != i.url || got.EmailTrust != guest.Verified):
				t.Errorf("got %+v, %v", got, err)
			case !test.taken && (err == nil || test.is != nil && !errors.Is(err, test.is)):
				t.Errorf("got %+v, %v", got, err)
			case test.is != nil && i.ui.Load() > 0:
				t.Error("userinfo was asked")
			}
			if err != nil && strings.Contains(err.Error(), "the-access") {
				t.Errorf("the error tells the token: %v", err)
			}
		})
	}
}

// LinkedIn's discovery document names no such endpoint.
func TestLinkedInIsAskedWhereItIntrospects(t *testing.T) {
	i := newLinkedIn(t)
	i.info = object{"sub": "sub-1", "email": "ada@example.com", "email_verified": true, "name": "Ada"}
	i.intruder = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/introspectToken" {
			return false
		}
		if r.PostFormValue("client_id") != clientID || r.PostFormValue("client_secret") != clientSecret || r.PostFormValue("token") != "the-access" {
			t.Errorf("asked with %v", r.PostForm)
		}
		w.Header().Set("Content-Type", "application/json")
		reply(w, object{"active": true, "client_id": clientID, "status": "active", "auth_type": "3L"})
		return true
	}
	got, err := i.linkedin(t).TakeNative(context.Background(), guest.NativeToken{Kind: guest.AccessToken, Token: "the-access"})
	if err != nil || got.Subject != "sub-1" || got.EmailTrust != guest.Verified {
		t.Errorf("got %+v, %v", got, err)
	}
}

// What an app's token says of somebody is read as the code flow's is.
func TestBrandsReadTheTokensOfAppsAsTheirOwn(t *testing.T) {
	i := newApple(t)
	i.claims = merged(i.claims, object{"nonce": hashed("the-nonce"), "email_verified": "true"})
	if got, err := i.handIn(i.apple(t), "the-nonce"); err != nil || got.EmailTrust != guest.Verified {
		t.Errorf("Apple: %+v, %v", got, err)
	}
	g := newIssuer(t)
	google := open(t, g, &Google{Options: g.options(), Endpoints: Endpoints{Issuer: g.url}, HostedDomain: []string{"example.com"}})
	g.claims = object{"nonce": nil}
	if _, err := g.handIn(google, ""); guest.ReasonOf(err) != guest.NotAllowed {
		t.Errorf("Google, of no Workspace: %v", err)
	}
	g.claims = object{"nonce": nil, "hd": "example.com"}
	if got, err := g.handIn(google, ""); err != nil || got.EmailTrust != guest.Authoritative {
		t.Errorf("Google: %+v, %v", got, err)
	}
}
