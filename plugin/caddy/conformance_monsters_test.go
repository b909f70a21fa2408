package main_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// limits are how long a visitor waits at most for an endpoint that does its
// worst, on a machine with other things to do.
var limits = map[string]time.Duration{
	"discovery": 3 * time.Second, "keys": 10 * time.Second, "token": 10 * time.Second, "userinfo": 10 * time.Second,
}

// leeway only tells what ends late from what does not end: how long a document
// is waited for to the second is held in provider/oidc.
const leeway = 20 * time.Second

// monsterName is a provider for each row: documents are fetched once.
func monsterName(endpoint string, row int) string { return fmt.Sprintf("%s%d", endpoint, row) }

// TestMonstersCostOnePage has every endpoint of an issuer answer with all that
// would bring down whoever takes it in: all of them at once, each at an issuer
// of its own.
func TestMonstersCostOnePage(t *testing.T) {
	var names []string
	for endpoint := range limits {
		for n := range logintest.Monsters(endpoint) {
			names = append(names, monsterName(endpoint, n))
		}
	}
	slices.Sort(names)
	caddyfile, providers, issuers := neighbours(t, names...)
	s := besiege(t, strings.NewReplacer("\tdebug\n", "", "\tlog\n", "").Replace(caddyfile), providers...)
	s.mustEnter(t, "ada")
	before := s.weigh(t)
	t.Run("all at once", func(t *testing.T) {
		for endpoint := range limits {
			for n, row := range logintest.Monsters(endpoint) {
				name := monsterName(endpoint, n)
				t.Run(row.Name+" from "+endpoint, func(t *testing.T) {
					t.Parallel()
					s.at(issuers[name], name).meet(t, name, endpoint, row)
				})
			}
		}
	})
	wantFlat(t, before, s.weigh(t), 8, 96)
	s.mustEnter(t, "grace")
}

// meet begins a sign-in that the monster ends, with a page in time, and then
// one that goes well.
func (s *siege) meet(t *testing.T, provider, endpoint string, row logintest.Row) {
	s.issuer.KeyID() // a key takes its time to be made
	s.always(row.Faults)
	v, address := e2e.NewVisitor(t), s.site+"/.login/"+provider+"?return=%2F"
	if endpoint != "discovery" {
		address = s.mustCome(t, v, provider, "ada").callback
	}
	begun := time.Now()
	got := v.Get(address)
	took := time.Since(begun)
	refused(t, got, 400, 403, 502)
	if took > limits[endpoint]+leeway {
		t.Errorf("the page came after %s", took)
	}
	if s.isIn(v) {
		t.Error("it signed in")
	}
	calls := s.issuer.Calls()
	if calls.Token > 1 || calls.UserInfo > 1 || calls.Keys > 2 || calls.Discovery > 2 {
		t.Errorf("the issuer was asked %+v", calls)
	}
	s.always(logintest.Faults{})
	// A failure to get a document is remembered for 5 s.
	e2e.Eventually(t, 20*time.Second, "a good sign-in", func() bool {
		v := visitorFrom(t, 2+int(networks.Add(1)%250))
		c, err := s.come(v, provider, "ada")
		return err == nil && session(v.Get(c.callback)) != ""
	})
}

// TestInventedKeysCostOneRequestInAWhile has an issuer name keys that it does
// not have, and change its keys in the midst of that.
func TestInventedKeysCostOneRequestInAWhile(t *testing.T) {
	t.Parallel() // keys are asked for once in half a minute
	s := besiege(t, strings.NewReplacer("\tdebug\n", "", "\tlog\n", "").Replace(besieged))
	from := fromElsewhere(t)
	s.mustEnter(t, "ada")
	first, asked := time.Now(), s.asked().Keys
	storm := func() {
		for n := range 100 {
			v := from()
			s.issuer.NextLogin(inHeader("kid", fmt.Sprint("invented-", n)))
			refused(t, v.Get(s.mustCome(t, v, "op", "ada").callback), http.StatusBadRequest)
		}
	}
	storm()
	s.issuer.RotateKeys()
	e2e.Eventually(t, 40*time.Second, "a sign-in by the new keys", func() bool {
		_, err := s.enter(from(), "grace")
		return err == nil
	})
	t.Logf("signed in by new keys %s after the storm began", time.Since(first))
	storm()
	if got, most := s.asked().Keys-asked, 1+int(time.Since(first)/(30*time.Second)); got > most {
		t.Errorf("keys were asked for %d times in %s", got, time.Since(first))
	}
	if _, err := s.enter(from(), "grace"); err != nil {
		t.Error(err)
	}
}
