package oidc

import (
	"context"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

func farewell(token string) guest.Farewell {
	return guest.Farewell{IDToken: guest.Secret(token), ReturnTo: "https://app.example.com/.login/logout", State: "st+ate"}
}

func TestEndSessionBringsTheHintAndComesBack(t *testing.T) {
	for name, row := range map[string]struct {
		discovered, written, token, want string
	}{
		"discovered":       {discovered: "https://out.example/end?tenant=x", token: "a.b.c", want: "https://out.example/end?tenant=x"},
		"written":          {written: "https://out.example/end", token: "a.b.c", want: "https://out.example/end"},
		"written wins":     {discovered: "https://evil.example/", written: "https://out.example/end", token: "a.b.c", want: "https://out.example/end"},
		"no token":         {discovered: "https://out.example/end", want: "https://out.example/end"},
		"token of 4 KiB":   {discovered: "https://out.example/end", token: strings.Repeat("x", maxHint), want: "https://out.example/end"},
		"a longer token":   {discovered: "https://out.example/end", token: strings.Repeat("x", maxHint+1), want: "https://out.example/end"},
		"none":             {token: "a.b.c"},
		"no URL":           {discovered: "out", token: "a.b.c"},
		"another scheme":   {discovered: "javascript:alert(1)", token: "a.b.c"},
		"in the clear":     {discovered: "http://out.example/end", token: "a.b.c"},
		"with credentials": {discovered: "https://u:p@out.example/end", token: "a.b.c"},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			if row.discovered != "" {
				i.doc = object{"end_session_endpoint": row.discovered}
			}
			p := open(t, i, &OIDC{Options: i.options(), Endpoints: Endpoints{Issuer: i.url, EndSessionURL: row.written}})
			got, err := p.EndSession(context.Background(), farewell(row.token))
			if err != nil || row.want == "" {
				if got != "" || err != nil {
					t.Errorf("got %s, %v", got, err)
				}
				return
			}
			wantFarewell(t, got, row.want, row.token)
		})
	}
}

func wantFarewell(t *testing.T, got, endpoint, token string) {
	t.Helper()
	want, _ := url.Parse(endpoint)
	query := want.Query()
	query.Set("client_id", clientID)
	query.Set("post_logout_redirect_uri", "https://app.example.com/.login/logout")
	query.Set("state", "st+ate")
	if token != "" && len(token) <= maxHint {
		query.Set("id_token_hint", token)
	}
	u, err := url.Parse(got)
	if err != nil || u.Host != want.Host || u.Path != want.Path || u.Query().Encode() != query.Encode() {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestStateGoesNowhereWithoutAnAddressToComeBackTo(t *testing.T) {
	i := newIssuer(t)
	i.doc = object{"end_session_endpoint": "https://out.example/end"}
	got, err := i.oidc(t).EndSession(context.Background(), guest.Farewell{State: "s"})
	if err != nil || got != "https://out.example/end?client_id="+strings.ReplaceAll(url.QueryEscape(clientID), "+", "%20") {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestUnusableEndSessionEndpointIsLoggedOnceAndSignsIn(t *testing.T) {
	i := newIssuer(t)
	i.doc = object{"end_session_endpoint": 7}
	log := new(strings.Builder)
	p := i.oidc(t)
	env := i.env()
	env.Log = slog.New(slog.NewTextHandler(log, nil))
	lend(t, p, env)
	for range 3 {
		if got, err := i.signIn(t, p); err != nil || got.IDToken != "" {
			t.Fatalf("hint kept: %v, %v", got.IDToken != "", err)
		}
		i.clock.Advance(2 * time.Hour)
	}
	if n := strings.Count(log.String(), "end_session_endpoint"); n != 1 || i.discovered.Load() != 3 {
		t.Errorf("logged %d times in %d discoveries: %s", n, i.discovered.Load(), log)
	}
}

func TestIDTokenIsKeptOnlyWhereItServes(t *testing.T) {
	off := false
	for name, row := range map[string]struct {
		play func(*issuer, *OIDC)
		kept bool
	}{
		"an endpoint":         {func(*issuer, *OIDC) {}, true},
		"none":                {func(i *issuer, _ *OIDC) { i.doc = nil }, false},
		"provider_logout off": {func(_ *issuer, p *OIDC) { p.ProviderLogout = &off }, false},
		"a long token":        {func(i *issuer, _ *OIDC) { i.claims = object{"x": strings.Repeat("x", maxHint)} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			i.doc = object{"end_session_endpoint": "https://out.example/end"}
			p := &OIDC{Options: i.options(), Endpoints: Endpoints{Issuer: i.url}}
			row.play(i, p)
			got, err := i.signIn(t, open(t, i, p))
			if err != nil || (got.IDToken != "") != row.kept {
				t.Errorf("kept %v, want %v, %v", got.IDToken != "", row.kept, err)
			}
		})
	}
}

func TestSlowIssuerDoesNotHoldUpASignOut(t *testing.T) {
	i := newIssuer(t)
	i.intruder = at("/.well-known/openid-configuration", "{")
	if got, err := i.oidc(t).EndSession(context.Background(), farewell("")); err == nil || got != "" {
		t.Errorf("got %s, %v", got, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if got, err := newIssuer(t).oidc(t).EndSession(ctx, farewell("")); err == nil || got != "" {
		t.Errorf("got %s, %v", got, err)
	}
}
