package main_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// shortLived is an access token's life: renewed after four fifths of it, 32 s.
const shortLived = 40 * time.Second

// renewed is what a refresh comes to.
type renewed struct {
	name    string
	prepare func(*logintest.Issuer)
	// in is whether the session outlives it, fresh whether there is a new token.
	in, fresh bool
}

func renewals() (all []renewed) {
	spoiled := func(f logintest.Faults) func(*logintest.Issuer) {
		return func(i *logintest.Issuer) { i.NextRefresh(f) }
	}
	drop := func(name string) logintest.Faults {
		return logintest.Faults{Refresh: func(answer map[string]any) { delete(answer, name) }}
	}
	all = []renewed{
		{"oidcc-client-test-refresh-token", spoiled(logintest.Faults{}), true, true},
		{"rfc6749-6-the-refresh-token-stays", func(i *logintest.Issuer) { i.KeepsRefreshToken = true }, true, true},
		{"rfc6749-6-no-new-refresh-token", spoiled(drop("refresh_token")), true, true},
		{"oidcc-12.2-no-id-token", spoiled(drop("id_token")), true, true},
		{"oidcc-12.2-by-new-keys", (*logintest.Issuer).RotateKeys, true, true},
		{"rfc6749-5.2-invalid-grant", func(i *logintest.Issuer) { i.Revoke("ada") }, false, false},
	}
	for _, row := range append(logintest.RefusedRefreshes(), logintest.Monsters("refresh")...) {
		all = append(all, renewed{row.Name, func(i *logintest.Issuer) {
			for range 10 { // it is tried again, every half a minute
				i.NextRefresh(row.Faults)
			}
		}, true, false})
	}
	return all
}

// kept is somebody signed in whose token the app is told.
type kept struct {
	renewed
	*siege
	provider string
	v        *e2e.Visitor
	token    string
	asked    time.Time // when its refresh was due
}

// tokenOf is what the app is told, empty where it is asked for a sign-in.
func (k *kept) tokenOf(t *testing.T) (token string, in bool) {
	t.Helper()
	got := k.v.Get(k.site + "/echo?who=" + k.name)
	if got.StatusCode != http.StatusOK {
		return "", false
	}
	for _, request := range k.app.Requests() {
		if strings.HasSuffix(request.Target, "?who="+k.name) {
			token = request.Value("X-Access-Token")
		}
	}
	return token, true
}

// TestConformanceOfRefreshTokens has tokens come to the end of their life, all
// at once, at an issuer each.
func TestConformanceOfRefreshTokens(t *testing.T) {
	t.Parallel() // the first renewal is half a minute away
	rows, names := renewals(), []string(nil)
	for n := range rows {
		names = append(names, fmt.Sprint("n", n))
	}
	caddyfile, providers, issuers := neighbours(t, names...)
	// Without Caddy's debug log, which shows what an app is sent.
	s := besiege(t, strings.NewReplacer("\tdebug\n", "",
		"response_mode query\n", "response_mode query\n\t\t\ttokens forward X-Access-Token\n").Replace(caddyfile), providers...)
	var all []*kept
	for n, row := range rows {
		row.name = strings.ReplaceAll(row.name, " ", "-")
		issuers[names[n]].TokenLife = shortLived
		all = append(all, s.keepSomebody(t, issuers[names[n]], names[n], row))
	}
	before := s.weigh(t)
	due := time.NewTimer(shortLived * 4 / 5)
	defer due.Stop()
	<-due.C
	for _, k := range all {
		k.asked = time.Now()
		k.v.Get(k.site + "/echo")
	}
	for _, k := range all {
		t.Run(k.name, k.compare)
	}
	wantFlat(t, before, s.weigh(t), 8, 96)
}

func (s *siege) keepSomebody(t *testing.T, issuer *logintest.Issuer, provider string, row renewed) *kept {
	t.Helper()
	k := &kept{renewed: row, siege: s.at(issuer, provider), provider: provider, v: e2e.NewVisitor(t)}
	got := k.v.FollowOn(k.v.Get(k.mustCome(t, k.v, provider, "ada").callback))
	mustBe(t, got, http.StatusOK)
	token, in := k.tokenOf(t)
	if !in || token == "" || issuer.Calls().Refresh != 0 {
		t.Fatalf("%s: signed in: %t, with a token of %d bytes, %+v", row.name, in, len(token), issuer.Calls())
	}
	k.token = token
	row.prepare(issuer)
	return k
}

// compare waits for what the refresh comes to, which a request has begun.
func (k *kept) compare(t *testing.T) {
	if k.in && !k.fresh {
		e2e.Eventually(t, e2e.Patience, "the refresh to fail", k.refusedRefresh)
	} else {
		e2e.Eventually(t, e2e.Patience, "the refresh to tell", func() bool {
			token, in := k.tokenOf(t)
			return in == k.in && token != k.token
		})
	}
	token, in := k.tokenOf(t)
	if in != k.in || k.fresh && token == "" || !k.fresh && token != "" && token != k.token {
		t.Errorf("signed in: %t, with a token of %d bytes, the old one: %t", in, len(token), token == k.token)
	}
	// At most every half a minute, whatever it comes to.
	if n, took := k.issuer.Calls().Refresh, time.Since(k.asked); n < 1 || n > 1+int(took/(30*time.Second)) {
		t.Errorf("the token was refreshed %d times in %s", n, took)
	}
	k.LogKeepsSecret(k.known()...)
}

func (k *kept) refusedRefresh() bool {
	for _, line := range k.Logs() {
		if line["provider"] == k.provider && strings.HasPrefix(fmt.Sprint(line["msg"]), "tokens not renewed") {
			return true
		}
	}
	return false
}
