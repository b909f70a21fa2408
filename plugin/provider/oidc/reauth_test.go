package oidc

import (
	"bytes"
	"context"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// anew begins an attempt of somebody who is to prove anew who they are.
func anew(t testing.TB, p guest.Provider) (url.Values, guest.Attempt) {
	t.Helper()
	a := attempt()
	a.Reauthenticate = true
	address, err := p.Begin(context.Background(), a)
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(address)
	return u.Query(), a
}

func TestIssuersAreAskedToAskAnewAsTheyKnowIt(t *testing.T) {
	const login = "login"
	for name, row := range map[string]struct {
		play   func(t *testing.T, i *issuer) guest.Provider
		prompt string
		maxAge string
		also   string
	}{
		"oidc": {func(t *testing.T, i *issuer) guest.Provider { return i.oidc(t) }, login, "300", ""},
		"oidc, prompt written": {func(t *testing.T, i *issuer) guest.Provider {
			return open(t, i, &OIDC{Options: i.options(), Endpoints: Endpoints{Issuer: i.url}, Prompt: "select_account"})
		}, login, "300", ""},
		"oidc, tokens kept": {func(t *testing.T, i *issuer) guest.Provider {
			return open(t, i, &OIDC{Options: i.keeping(0), Endpoints: Endpoints{Issuer: i.url}})
		}, "login consent", "300", ""},
		"okta": {func(t *testing.T, i *issuer) guest.Provider {
			return open(t, i, &Okta{Options: i.options(), Endpoints: Endpoints{Issuer: i.url}})
		}, login, "300", ""},
		"gitlab": {func(t *testing.T, i *issuer) guest.Provider {
			return open(t, i, &GitLab{Options: i.options(), Endpoints: Endpoints{Issuer: i.url}})
		}, login, "300", ""},
		"google": {func(t *testing.T, i *issuer) guest.Provider {
			return open(t, i, &Google{Options: i.options(), Endpoints: Endpoints{Issuer: i.url}})
		}, "select_account", "", ""},
		"linkedin": {func(t *testing.T, i *issuer) guest.Provider {
			return open(t, i, &LinkedIn{Options: i.options(), Endpoints: Endpoints{Issuer: i.url}})
		}, "", "", ""},
		"apple": {func(t *testing.T, i *issuer) guest.Provider { return i.apple(t) }, "", "", ""},
		"twitch": {func(t *testing.T, i *issuer) guest.Provider {
			return open(t, i, &Twitch{Options: i.options(), Endpoints: Endpoints{Issuer: i.url}})
		}, "", "", "force_verify"},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			i.url = i.Server.URL
			q, _ := anew(t, row.play(t, i))
			if q.Get("prompt") != row.prompt || q.Get("max_age") != row.maxAge || row.also != "" && q.Get(row.also) != "true" {
				t.Errorf("asked for %v", q)
			}
		})
	}
}

func TestMicrosoftAndSlackAskAnew(t *testing.T) {
	cloud := newCloud(t, ourTenant)
	if q, _ := anew(t, cloud.microsoft(t, ourTenant)); q.Get("prompt") != "login" || q.Has("max_age") {
		t.Errorf("asked for %v", q)
	}
	i := newSlack(t)
	if q, _ := anew(t, i.slack(t, "T0RR12345")); q.Has("team") || q.Has("prompt") {
		t.Errorf("asked for %v", q)
	}
}

func TestNobodyIsAskedAnewUnasked(t *testing.T) {
	i := newIssuer(t)
	for _, switching := range []bool{false, true} {
		if q := asked(t, i.oidc(t), switching); q.Has("max_age") || !switching && q.Has("prompt") {
			t.Errorf("asked for %v", q)
		}
	}
}

func TestStaleSignInsAreRefusedWhereAFreshOneWasAskedFor(t *testing.T) {
	now := epoch.Unix()
	limit := int64((provenWithin + skew) / time.Second)
	listed := object{"claims_supported": []string{"sub", "auth_time"}}
	for name, row := range map[string]struct {
		doc    object
		time   any
		unless bool // it was not asked for
		ok     bool
	}{
		"just now":                       {listed, now, false, true},
		"at the last moment":             {listed, now - limit, false, true},
		"a second later":                 {listed, now - limit - 1, false, false},
		"a day ago":                      {nil, now - 86400, false, false},
		"at the beginning of time":       {nil, 0, false, false},
		"unknown, though it is listed":   {listed, nil, false, false},
		"unknown, where none is listed":  {nil, nil, false, true},
		"a word":                         {nil, "now", false, false},
		"negative":                       {listed, -1, false, false},
		"not asked for, a day ago":       {listed, now - 86400, true, true},
		"not asked for, unknown":         {listed, nil, true, true},
		"claims that are no list at all": {object{"claims_supported": 7}, nil, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			i.doc, i.claims = row.doc, object{"auth_time": row.time}
			p := i.oidc(t)
			q, a := anew(t, p)
			a.Reauthenticate = !row.unless
			i.nonce, i.challenge = q.Get("nonce"), q.Get("code_challenge")
			_, err := p.Finish(context.Background(), a, url.Values{"code": {"the-code"}})
			if row.ok && err != nil || !row.ok && (err == nil || guest.ReasonOf(err) != guest.Untrusted) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Google sends no auth_time to compare; one that it does send is no reason to
// refuse what could not be asked for.
func TestNoAgeIsCheckedWhereNoneCouldBeAskedFor(t *testing.T) {
	i := newIssuer(t)
	i.claims = object{"auth_time": epoch.Add(-24 * time.Hour).Unix()}
	p := open(t, i, &Google{Options: i.options(), Endpoints: Endpoints{Issuer: i.url}})
	q, a := anew(t, p)
	i.nonce, i.challenge = q.Get("nonce"), q.Get("code_challenge")
	got, err := p.Finish(context.Background(), a, url.Values{"code": {"the-code"}})
	if err != nil || !got.AuthTime.Equal(epoch.Add(-24*time.Hour)) {
		t.Errorf("signed in at %s, %v", got.AuthTime, err)
	}
}

func TestTimeToComeIsNoTimeOfASignIn(t *testing.T) {
	i := newIssuer(t)
	i.claims = object{"auth_time": epoch.Add(24 * time.Hour).Unix()}
	got, err := i.signIn(t, i.oidc(t))
	if err != nil || !got.AuthTime.Equal(epoch) {
		t.Errorf("signed in at %s, %v", got.AuthTime, err)
	}
}

func TestWhatDoesNothingIsLoggedOnceAtTheStart(t *testing.T) {
	on, off := true, false
	var log bytes.Buffer
	i := newIssuer(t)
	o := i.options()
	o.VerifyEmail, o.UseEmailAsIdentifier = &on, &off
	p := &OIDC{Options: o, Endpoints: Endpoints{Issuer: i.url}}
	if err := p.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	env := i.env()
	env.Log = slog.New(slog.NewTextHandler(&log, nil))
	lend(t, p, env)
	if n := strings.Count(log.String(), "verify_email does nothing"); n != 1 || !strings.Contains(log.String(), "provider=test") {
		t.Errorf("logged %s", log.String())
	}
}

func TestBrandsRefuseWhatTheyLack(t *testing.T) {
	off := false
	groups := func(o *provider.Options) { o.Groups = "groups" }
	logout := func(o *provider.Options) { o.ProviderLogout = &off }
	natives := func(o *provider.Options) { o.NativeClientIDs = []string{"ios"} }
	o := provider.Options{ClientID: "i", ClientSecret: "s"}
	with := func(change func(*provider.Options)) provider.Options {
		changed := o
		change(&changed)
		return changed
	}
	for want, p := range map[string]caddy.Provisioner{
		"groups: google lists none: remove it":                               &Google{Options: with(groups)},
		"provider_logout: google has no address to sign out at: remove it":   &Google{Options: with(logout)},
		"groups: linkedin lists none: remove it":                             &LinkedIn{Options: with(groups)},
		"provider_logout: linkedin has no address to sign out at: remove it": &LinkedIn{Options: with(logout)},
		"groups: apple lists none: remove it":                                &Apple{Options: with(groups)},
		"provider_logout: apple has no address to sign out at: remove it":    &Apple{Options: with(logout)},
		"provider_logout: gitlab has no address to sign out at: remove it":   &GitLab{Options: with(logout)},
		"provider_logout: slack has no address to sign out at: remove it":    &Slack{Options: with(logout)},
		"native_client_ids: slack has no tokens for native apps: remove it":  &Slack{Options: with(natives)},
		"provider_logout: twitch has no address to sign out at: remove it":   &Twitch{Options: with(logout)},
		"native_client_ids: twitch has no tokens for native apps: remove it": &Twitch{Options: with(natives)},
	} {
		if err := p.Provision(caddy.Context{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%T: got %v, want %s", p, err, want)
		}
	}
}
