package main_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// neighbour is a site whose provider has a name that another has elsewhere.
const neighbour = `
https://%s {
	login {
		oidc op site {env.OP_SECRET} {
			issuer %s
		}
		allow users%s
	}
	reverse_proxy {$APP}
}
`

// ofDomain is a site's cookie that its neighbours share.
func ofDomain(domain string) string { return "\n\t\tcookie {\n\t\t\tdomain " + domain + "\n\t\t}" }

// Sites that share a browser's cookies may each have a provider of one name, and
// not each the same one. Who runs the one party knows the state, the nonce and the
// challenge of all who are about to come by it: with these it could have a code of
// its own account at the other's party answered at the other site.
func TestAttemptEndsAtTheSiteThatBeganIt(t *testing.T) {
	for what, where := range map[string]struct{ here, there, cookie string }{
		"below one cookie domain": {"a.shared.test:{$PORT}", "b.shared.test:{$PORT}", ofDomain("shared.test")},
		"at two ports":            {"app.test:{$PORT}", "app.test:{$PORT2}", ""},
	} {
		t.Run(what, func(t *testing.T) {
			c := e2e.NewCaddy(t, e2e.Build(t))
			dishonest, honest := logintest.NewIssuer(t), logintest.NewIssuer(t)
			c.Env["APP"], c.Env["OP_SECRET"] = e2e.NewApp(t).Addr, clientSecret
			c.Env["DISHONEST"], c.Env["HONEST"] = dishonest.Issuer, honest.Issuer
			ports := strings.NewReplacer("{$PORT}", fmt.Sprint(c.Port), "{$PORT2}", fmt.Sprint(c.Port2))
			here, there := "https://"+ports.Replace(where.here), "https://"+ports.Replace(where.there)
			dishonest.Client("site", clientSecret, here+"/.login/op/callback")
			honest.Client("site", clientSecret, there+"/.login/op/callback")
			honest.Person(logintest.Person{Subject: "mallory", Name: "mallory"})
			c.Start(fmt.Sprintf(neighbour, where.here, "{$DISHONEST}", where.cookie) + fmt.Sprintf(neighbour, where.there, "{$HONEST}", where.cookie))

			victim := e2e.NewVisitor(t)
			wantErrorPage(t, victim.Get(mixedUp(t, victim.To(victim.Get(here+"/.login/op?return=%2Fin")), honest, there)))
			if got := victim.Get(there + "/in"); got.StatusCode == http.StatusOK || honest.Calls().Token != 0 {
				t.Errorf("%d at the other site, %d codes redeemed", got.StatusCode, honest.Calls().Token)
			}
		})
	}
}

// mixedUp is the answer to what was begun elsewhere, from another's party and for
// its own account.
func mixedUp(t *testing.T, begun string, issuer *logintest.Issuer, site string) (callback string) {
	t.Helper()
	u, err := url.Parse(begun)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Set("redirect_uri", site+"/.login/op/callback")
	callback, _, err = pick(issuer.URL+"/oauth/authorize?"+query.Encode(), "mallory")
	if err != nil || !strings.HasPrefix(callback, site) {
		t.Fatalf("sent to %q: %v", callback, err)
	}
	return callback
}

// Below a cookie domain a neighbour can plant cookies, and with a longer path they
// come first. What waits there is what its visitor will say yes to.
func TestPlantedQuestionIsNotAsked(t *testing.T) {
	const waits = "__Secure-login-waits"
	s := besiege(t, strings.Replace(besieged, "allow users", "allow users"+ofDomain("app.test"), 1))
	asked := func(subject string) *e2e.Visitor {
		v := e2e.NewVisitor(t)
		for _, who := range []string{subject, "grace"} {
			v.Get(s.mustCome(t, v, "op", who).callback)
		}
		if v.Cookie(s.site, waits) == "" {
			t.Fatalf("nothing waits for %s", subject)
		}
		return v
	}
	confirm := func(v *e2e.Visitor, cookies ...string) e2e.Answer {
		r := v.Navigation(s.site + "/.login/confirm")
		r.Header.Set("Cookie", strings.Join(cookies, "; "))
		return v.Another().Do(r)
	}
	victim := asked("ada")
	own := victim.Cookies(s.site)
	mustBe(t, confirm(victim, own...), http.StatusOK)
	planted := waits + "=" + asked("mallory").Cookie(s.site, waits)
	for what, cookies := range map[string][]string{"before": append([]string{planted}, own...), "behind": append(own[:len(own):len(own)], planted)} {
		if got := confirm(victim, cookies...); question.MatchString(got.Body) {
			t.Errorf("%s: a question is asked: %d", what, got.StatusCode)
		}
	}
}
