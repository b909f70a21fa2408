package oidc

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// keeps is what the house kept of a sign-in at this issuer.
func (i *issuer) keeps(refresh guest.Secret) guest.Kept {
	return guest.Kept{
		Tokens: guest.Tokens{Access: "the-access", Refresh: refresh},
		Issuer: i.url, Subject: "sub-1", TokenSubject: "sub-1",
	}
}

func (i *issuer) keeping(revalidate time.Duration) provider.Options {
	o := i.options()
	o.Tokens, o.Revalidate = "keep", caddy.Duration(revalidate)
	return o
}

func (i *issuer) renewing(t testing.TB, revalidate time.Duration) *OIDC {
	i.refresh = "refresh-0"
	i.claims = with(object{"nonce": nil}, i.claims)
	return open(t, i, &OIDC{Options: i.keeping(revalidate), Endpoints: Endpoints{Issuer: i.url}})
}

func TestOfflineAccessIsAskedForAsEachIssuerWantsIt(t *testing.T) {
	keep := provider.Options{Tokens: "keep"}
	for name, row := range map[string]struct {
		options   provider.Options
		make      func(provider.Options, Endpoints) guest.Provider
		doc       object
		switching bool
		scope     string
		prompt    string
		access    string
	}{
		"oidc, nothing kept":    {provider.Options{}, byOIDC, nil, false, "openid email profile", "", ""},
		"oidc":                  {keep, byOIDC, nil, false, "openid email profile offline_access", "consent", ""},
		"oidc, by revalidate":   {provider.Options{Revalidate: caddy.Duration(time.Hour)}, byOIDC, nil, false, "openid email profile offline_access", "consent", ""},
		"oidc, forwarding":      {provider.Options{Tokens: "forward"}, byOIDC, nil, true, "openid email profile offline_access", "login consent", ""},
		"oidc, listed":          {keep, byOIDC, object{"scopes_supported": []string{"openid", "offline_access"}}, false, "openid email profile offline_access", "consent", ""},
		"oidc, not listed":      {keep, byOIDC, object{"scopes_supported": []string{"openid"}}, true, "openid email profile", "login", ""},
		"oidc, scopes written":  {provider.Options{Tokens: "keep", Scopes: []string{"email"}}, byOIDC, nil, false, "openid email offline_access", "consent", ""},
		"oidc, asked for twice": {provider.Options{Tokens: "keep", Scopes: []string{"offline_access", "openid"}}, byOIDC, nil, false, "offline_access openid", "consent", ""},
		"oidc, prompt written": {keep, func(o provider.Options, e Endpoints) guest.Provider {
			return &OIDC{Options: o, Endpoints: e, Prompt: "login"}
		},
			nil, true, "openid email profile offline_access", "login", ""},
		"google":            {keep, byGoogle, nil, false, "openid email profile", "consent", "offline"},
		"google, switching": {keep, byGoogle, nil, true, "openid email profile", "select_account consent", "offline"},
		"google, nothing":   {provider.Options{}, byGoogle, nil, true, "openid email profile", "select_account", ""},
		"okta":              {keep, byOkta, nil, false, "openid email profile offline_access", "", ""},
		"linkedin":          {keep, byLinkedIn, nil, false, "openid email profile", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			i.doc = row.doc
			o := i.options()
			o.Tokens, o.Revalidate, o.Scopes = row.options.Tokens, row.options.Revalidate, row.options.Scopes
			p := row.make(o, Endpoints{Issuer: i.url})
			if err := p.(caddy.Provisioner).Provision(caddy.Context{}); err != nil {
				t.Fatal(err)
			}
			lend(t, p, i.env())
			q := asked(t, p, row.switching)
			if q.Get("scope") != row.scope || q.Get("prompt") != row.prompt || q.Get("access_type") != row.access {
				t.Errorf("asked for %v", q)
			}
		})
	}
}

func byOIDC(o provider.Options, e Endpoints) guest.Provider { return &OIDC{Options: o, Endpoints: e} }
func byGoogle(o provider.Options, e Endpoints) guest.Provider {
	return &Google{Options: o, Endpoints: e}
}
func byOkta(o provider.Options, e Endpoints) guest.Provider { return &Okta{Options: o, Endpoints: e} }
func byLinkedIn(o provider.Options, e Endpoints) guest.Provider {
	return &LinkedIn{Options: o, Endpoints: e}
}

func asked(t *testing.T, p guest.Provider, switching bool) url.Values {
	t.Helper()
	a := attempt()
	a.SwitchAccount = switching
	address, err := p.Begin(context.Background(), a)
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(address)
	return u.Query()
}

func TestMicrosoftIsAskedForOfflineAccessWithoutAPrompt(t *testing.T) {
	i := newCloud(t, "common")
	m := i.microsoft(t, "common")
	m.Tokens = "keep"
	q := asked(t, m, false)
	if q.Get("scope") != "openid email profile offline_access" || q.Has("prompt") || q.Has("access_type") {
		t.Errorf("asked for %v", q)
	}
}

func TestTokensAreHandedOverOnlyWhereTheyAreKept(t *testing.T) {
	answer := object{"refresh_token": "the-refresh", "expires_in": 600}
	i := newIssuer(t)
	i.answer = answer
	if got, err := i.signIn(t, i.oidc(t)); err != nil || got.Tokens != (guest.Tokens{}) || got.Consent != "" {
		t.Errorf("tokens left the provider: %v", err)
	}
	i = newIssuer(t)
	i.answer = answer
	got, err := i.signIn(t, open(t, i, &OIDC{Options: i.keeping(0), Endpoints: Endpoints{Issuer: i.url}}))
	want := guest.Tokens{Access: "the-access", Refresh: "the-refresh", Expires: epoch.Add(10 * time.Minute)}
	if err != nil || got.Tokens != want || got.Consent != "" {
		t.Errorf("expires %s, %v", got.Tokens.Expires, err)
	}
}

func TestSignInThatCannotBeRevalidatedIsRefusedWithTheCure(t *testing.T) {
	i := newIssuer(t)
	p := open(t, i, &OIDC{Options: i.keeping(time.Hour), Endpoints: Endpoints{Issuer: i.url}})
	_, err := i.signIn(t, p)
	if err == nil || guest.ReasonOf(err) != guest.Refused || !strings.Contains(err.Error(), "scope offline_access), or remove revalidate") {
		t.Errorf("got %v", err)
	}
	i.answer = object{"refresh_token": "r"}
	if _, err := i.signIn(t, p); err != nil {
		t.Error(err)
	}
}

func TestRenewTradesTheRefreshToken(t *testing.T) {
	i := newIssuer(t)
	p := i.renewing(t, 0)
	got, err := p.Renew(context.Background(), i.keeps("refresh-0"))
	want := guest.Tokens{Access: "access-1", Refresh: "refresh-1", Expires: epoch.Add(10 * time.Minute)}
	if err != nil || got != want {
		t.Fatalf("access right: %v, refresh right: %v, expires %s, %v", got.Access == want.Access, got.Refresh == want.Refresh, got.Expires, err)
	}
	i.mu.Lock()
	i.renewed = object{"refresh_token": nil, "expires_in": nil}
	i.mu.Unlock()
	got, err = p.Renew(context.Background(), i.keeps("refresh-1"))
	if want := (guest.Tokens{Access: "access-2", Refresh: "refresh-1"}); err != nil || got != want {
		t.Errorf("the old refresh token is gone: %v, %v", got.Refresh != want.Refresh, err)
	}
	if i.ui.Load() != 0 {
		t.Error("userinfo was asked without revalidate")
	}
}

func TestRenewedIDTokens(t *testing.T) {
	now := epoch.Unix()
	for name, row := range map[string]struct {
		claims object
		ok     bool
	}{
		"as at the sign-in":   {nil, true},
		"with another nonce":  {object{"nonce": "x"}, true},
		"right at_hash":       {object{"at_hash": leftHalf("RS256", "access-1")}, true},
		"azp us":              {object{"azp": clientID}, true},
		"another sub":         {object{"sub": "sub-2"}, false},
		"no sub":              {object{"sub": nil}, false},
		"another iss":         {object{"iss": "https://evil.example"}, false},
		"another aud":         {object{"aud": "x"}, false},
		"another azp":         {object{"azp": "x"}, false},
		"expired":             {object{"exp": now - 61}, false},
		"issued in an hour":   {object{"iat": now + 3600}, false},
		"at_hash of the old":  {object{"at_hash": leftHalf("RS256", "the-access")}, false},
		"a logout event":      {object{"events": object{logoutEvent: object{}}}, false},
		"text after it":       {object{"x": 1}, false},
		"signature of others": {object{"y": 1}, false},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			i.claims = row.claims
			p := i.renewing(t, 0)
			token := i.idToken()
			switch name {
			case "text after it":
				token += "."
			case "signature of others":
				token = spoilSignature(token)
			}
			i.renewed = object{"id_token": token}
			got, err := p.Renew(context.Background(), i.keeps("refresh-0"))
			if row.ok && (err != nil || got.Access != "access-1") {
				t.Fatal(err)
			}
			if !row.ok && (guest.ReasonOf(err) != guest.Untrusted || err == nil || errors.Is(err, guest.ErrGrantEnded) || got != (guest.Tokens{})) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestUserinfoProvesWhoWasRevalidated(t *testing.T) {
	for name, row := range map[string]struct {
		play func(*issuer)
		want guest.Reason // empty: renewed
	}{
		"same":        {func(*issuer) {}, ""},
		"another sub": {func(i *issuer) { i.info = object{"sub": "sub-2"} }, guest.Untrusted},
		"no sub":      {func(i *issuer) { i.info = object{} }, guest.Untrusted},
		"401":         {answering("/userinfo", 401, `{"error":"invalid_token"}`), guest.Refused},
		"503":         {answering("/userinfo", 503, ``), guest.Unavailable},
		"none":        {func(i *issuer) { i.doc = object{"userinfo_endpoint": nil} }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			row.play(i)
			got, err := i.renewing(t, time.Hour).Renew(context.Background(), i.keeps("refresh-0"))
			if row.want == "" {
				if err != nil || got.Access != "access-1" {
					t.Error(err)
				}
				return
			}
			if err == nil || guest.ReasonOf(err) != row.want || errors.Is(err, guest.ErrGrantEnded) || got.Access != "" {
				t.Errorf("got %v", err)
			}
			// The old one is spent: without the new one there would be no next time.
			if (got.Refresh == "refresh-1") != (row.want != guest.Untrusted) {
				t.Errorf("the refresh token: %v", got.Refresh != "")
			}
		})
	}
}

func TestNobodyIsNotTheSamePersonAsNobody(t *testing.T) {
	i := newIssuer(t)
	i.info = object{}
	k := i.keeps("refresh-0")
	k.TokenSubject = ""
	if _, err := i.renewing(t, time.Hour).Renew(context.Background(), k); err == nil || guest.ReasonOf(err) != guest.Untrusted {
		t.Errorf("got %v", err)
	}
}

func answering(path string, status int, body string) func(*issuer) {
	return func(i *issuer) {
		i.intruder = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != path {
				return false
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
			return true
		}
	}
}

func TestOnlyTheProvidersWordEndsAGrant(t *testing.T) {
	for name, row := range map[string]struct {
		play func(*issuer)
		want guest.Reason
		ends bool
	}{
		"invalid_grant":             {answering("/token", 400, `{"error":"invalid_grant","error_description":"refresh-0"}`), guest.Refused, true},
		"invalid_grant with 200":    {answering("/token", 200, `{"error":"invalid_grant"}`), guest.Refused, true},
		"invalid_grant with 500":    {answering("/token", 500, `{"error":"invalid_grant"}`), guest.Unavailable, false},
		"invalid_client":            {answering("/token", 401, `{"error":"invalid_client"}`), guest.Refused, false},
		"unauthorized_client":       {answering("/token", 400, `{"error":"unauthorized_client"}`), guest.Refused, false},
		"401 and nothing":           {answering("/token", 401, ``), guest.Refused, false},
		"404":                       {answering("/token", 404, `{}`), guest.Refused, false},
		"429":                       {answering("/token", 429, `{"error":"invalid_grant"}`), guest.Unavailable, false},
		"the portal of a captor":    {answering("/token", 302, `{"error":"invalid_grant"}`), guest.Refused, false},
		"an answer without a token": {answering("/token", 200, `{}`), guest.Refused, false},
		"no answer": {func(i *issuer) {
			i.intruder = func(_ http.ResponseWriter, r *http.Request) bool { return hangUp(r.URL.Path == "/token") }
		}, guest.Unavailable, false},
		"no discovery": {answering("/.well-known/openid-configuration", 503, ``), guest.Unavailable, false},
		"no keys":      {answering("/keys", 503, ``), guest.Unavailable, false},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			row.play(i)
			got, err := i.renewing(t, 0).Renew(context.Background(), i.keeps("refresh-0"))
			if err == nil || guest.ReasonOf(err) != row.want || errors.Is(err, guest.ErrGrantEnded) != row.ends || got != (guest.Tokens{}) {
				t.Errorf("got %v", err)
			}
			if text := err.Error(); strings.Contains(text, "refresh-0") || strings.Contains(text, clientSecret) {
				t.Errorf("error tells a secret: %s", text)
			}
		})
	}
}

func TestRenewWithoutARefreshTokenEndsNothing(t *testing.T) {
	i := newIssuer(t)
	_, err := i.renewing(t, 0).Renew(context.Background(), i.keeps(""))
	if err == nil || errors.Is(err, guest.ErrGrantEnded) || i.spent.Load() != 0 {
		t.Errorf("got %v after %d calls", err, i.spent.Load())
	}
}

func TestRefreshTokenStaysFromAnotherIssuer(t *testing.T) {
	i := newIssuer(t)
	k := i.keeps("refresh-0")
	k.Issuer = "https://former.example"
	_, err := i.renewing(t, 0).Renew(context.Background(), k)
	if err == nil || guest.ReasonOf(err) != guest.Untrusted || errors.Is(err, guest.ErrGrantEnded) || i.spent.Load() != 0 {
		t.Errorf("got %v after %d calls", err, i.spent.Load())
	}
}

func TestTradeIsNotTornByWhoLeaves(t *testing.T) {
	i := newIssuer(t)
	p := i.renewing(t, 0)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if got, err := p.Renew(ctx, i.keeps("refresh-0")); err != nil || got.Refresh != "refresh-1" {
		t.Errorf("a spent refresh token has no successor: %v", err)
	}
}

func TestHostedDomainIsAskedAgainWhereTheTokenTells(t *testing.T) {
	for name, row := range map[string]struct {
		hd   any
		ends bool
	}{"still there": {"corp.example", false}, "gone elsewhere": {"other.example", true}, "not told": {nil, false}} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			i.claims = object{"hd": row.hd, "nonce": nil}
			i.refresh, i.renewed = "refresh-0", object{"id_token": i.idToken()}
			g := open(t, i, &Google{Options: i.keeping(0), Endpoints: Endpoints{Issuer: i.url}, HostedDomain: []string{"corp.example"}})
			_, err := g.Renew(context.Background(), i.keeps("refresh-0"))
			if row.ends != errors.Is(err, guest.ErrGrantEnded) || (err != nil) != row.ends {
				t.Fatalf("got %v", err)
			}
			if row.ends && guest.ReasonOf(err) != guest.NotAllowed {
				t.Errorf("reason is %s", guest.ReasonOf(err))
			}
		})
	}
}

func TestTenantIsAskedAgain(t *testing.T) {
	for name, row := range map[string]struct {
		allowed string
		ends    bool
	}{"allowed": {ourTenant, false}, "not any more": {otherTenant, true}} {
		t.Run(name, func(t *testing.T) {
			i := newCloud(t, "common")
			i.claims = with(i.from(ourTenant), object{"nonce": nil})
			i.refresh, i.lax = "refresh-0", true
			m := i.microsoft(t, "common", row.allowed)
			i.renewed = object{"id_token": i.idToken()}
			k := i.keeps("refresh-0")
			k.Issuer = m.issuerOf(ourTenant)
			_, err := m.Renew(context.Background(), k)
			if row.ends != errors.Is(err, guest.ErrGrantEnded) || (err != nil) != row.ends {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestTokenOfAnotherTenantIsNotRenewed(t *testing.T) {
	i := newCloud(t, "common")
	i.claims = with(i.from(otherTenant), object{"nonce": nil})
	i.refresh, i.lax = "refresh-0", true
	m := i.microsoft(t, "common")
	i.renewed = object{"id_token": i.idToken()}
	k := i.keeps("refresh-0")
	k.Issuer = m.issuerOf(ourTenant)
	if _, err := m.Renew(context.Background(), k); guest.ReasonOf(err) != guest.Untrusted || errors.Is(err, guest.ErrGrantEnded) || err == nil {
		t.Errorf("got %v", err)
	}
}

func TestApplesConsentIsKeptAndItsTokensAreRenewedByTheDay(t *testing.T) {
	i := newApple(t)
	i.answer = object{"refresh_token": "the-refresh", "expires_in": 3600}
	got, err := i.signIn(t, i.apple(t))
	if err != nil || got.Consent != "the-refresh" || got.Tokens != (guest.Tokens{}) {
		t.Fatalf("consent kept: %v, %v", got.Consent != "", err)
	}
	p := i.apple(t)
	p.Tokens = "keep"
	got, err = i.signIn(t, p)
	if want := (guest.Tokens{Access: "the-access", Refresh: "the-refresh"}); err != nil || got.Tokens != want {
		t.Fatalf("would be renewed at %s, %v", got.Tokens.Expires, err)
	}
	i.refresh, i.renewed = "the-refresh", object{"refresh_token": nil}
	renewed, err := p.Renew(context.Background(), i.keeps("the-refresh"))
	if want := (guest.Tokens{Access: "access-1", Refresh: "the-refresh"}); err != nil || renewed != want {
		t.Fatalf("would be renewed at %s, %v", renewed.Expires, err)
	}
	checkAppleSecret(t, i, i.form.Load().(url.Values).Get("client_secret"))
}

func TestAppleIsNotAskedMoreThanOnceADay(t *testing.T) {
	a := &Apple{Options: provider.Options{ClientID: "c"}, TeamID: "t", KeyID: "k", PrivateKey: pkcs8(t, keys().ec)}
	for every, want := range map[time.Duration]bool{time.Minute: false, 30*time.Hour - 1: false, 30 * time.Hour: true, 0: true} {
		a.Revalidate = caddy.Duration(every)
		err := a.Provision(caddy.Context{})
		if (err == nil) != want || err != nil && !strings.Contains(err.Error(), "is too often for Apple: write at least 30h") {
			t.Errorf("%s: %v", every, err)
		}
	}
}
