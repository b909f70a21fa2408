package main_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// identifying are names that apps know people by, in lower case; one that ends
// in - begins many. What the gate strips is written down elsewhere: here is what
// an attacker would try.
var identifying = []string{
	"remote-user", "remote-email", "remote-name", "remote-groups", "remote-roles", "remote-assertion", "remote-", "x-who", "x-remote-user", "x-remote-group",
	"x-forwarded-user", "x-forwarded-email", "x-forwarded-groups", "x-forwarded-preferred-username", "x-forwarded-access-token", "x-auth-request-user", "x-auth-request-",
	"x-forwarded-login", "x-forwarded-uuid", "x-forwarded-remote-user", "x-forwarded-name", "x-forwarded-roles", "x-pomerium-jwt-assertion", "x-pomerium-claim-email",
	"cf-access-authenticated-user-email", "cf-access-jwt-assertion", "cf-cert-verified", "x-goog-authenticated-user-email", "x-goog-iap-jwt-assertion", "x-appengine-user-email",
	"x-webauth-user", "x-webauth-", "x-authentik-username", "x-token-subject", "x-token-user-email", "x-vouch-user", "x-ms-client-principal", "x-ms-client-principal-name",
	"x-amzn-oidc-identity", "x-amzn-oidc-data", "x-amzn-ava-user-context", "tailscale-user-login", "teleport-jwt-assertion", "ngrok-auth-user-email", "oidc-claim-sub", "mellon-name-id",
	"shib-session-id", "eppn", "x-auth-user", "x-auth-groups", "x-authenticated-userid", "x-consumer-username", "x-userinfo", "x-jwt-payload", "x-jwt-assertion", "iv-user", "sm-user",
	"$wsru", "wl-proxy-client-cert", "x-proxy-user", "x-proxy-roles", "x-auth-couchdb-username", "x-proxiedentitieschain", "x-rstudio-username", "x-rh-identity", "ynh-user",
	"x-user", "x-user-id", "x-user-email", "x-user-roles", "x-role", "x-email", "x-groups", "auth-user", "http-remote-user", "client-cert", "ssl-client-verify", "x-ssl-client-dn", "x-client-cert",
	"script-name", "x-script-name", "x-original-url", "x-rewrite-url", "x-vhm-root",
}

// identifies reports whether some app takes a header's name for one of these:
// CGI folds - and _, PHP . as well, and no server minds capitals.
func identifies(name string) bool {
	folded := strings.Map(func(c rune) rune {
		if 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '$' {
			return c
		}
		return '-'
	}, strings.ToLower(strings.TrimSpace(name)))
	return slices.ContainsFunc(identifying, func(known string) bool {
		return folded == known || strings.HasSuffix(known, "-") && strings.HasPrefix(folded, known)
	})
}

// spelt is a name as an attacker may spell it.
func (c *choices) spelt(over asker) string {
	name := choose(c, identifying)
	if strings.HasSuffix(name, "-") {
		name += "x"
	}
	for range c.of(3) {
		at := c.of(len(name))
		switch c.of(6) {
		case 0:
			name = strings.ReplaceAll(name, "-", choose(c, []string{"_", ".", "~", "'", "+", "|", "--"}))
		case 1:
			name = name[:at] + strings.Replace(name[at:], "-", choose(c, []string{"_", ".", "!", "*"}), 1)
		case 2:
			name = strings.ToUpper(name)
		case 3:
			name = name[:at] + strings.ToUpper(name[at:])
		case 4:
			name = choose(c, []string{"http-", "http_", "x-", "", "-", "_"}) + name
		default:
			name += choose(c, []string{"_", "-", ".", " ", "\t", "\x00", "\u00a0", ":", "[]"})
		}
	}
	if _, new := over.(*overHTTP2); new && c.of(8) > 0 {
		name = strings.ToLower(name)
	}
	return name
}

const forged = "forged"

// forgery is a request with identities of its own, in every place.
func (q *quarter) forgery(c *choices) (who int, over asker, ask inquiry) {
	who, over = choose(c, []int{asNobody, asGrace}), choose(c, q.askers)
	ask = inquiry{method: choose(c, []string{"GET", "POST", "OPTIONS", "PUT"}), target: choose(c, []string{"/public/x", "/secret"}), host: authority(q.site(0))}
	if cookies := q.cookies[0][who]; cookies != "" {
		ask.fields = append(ask.fields, [2]string{"cookie", cookies})
	}
	for range 1 + c.of(4) {
		value := choose(c, []string{forged, forged, forged + ", " + forged, " " + forged, "a\tb " + forged, strings.Repeat(forged, 1+c.of(200)), "\"" + forged + "\"", "=?utf-8?q?" + forged + "?="})
		switch c.of(8) {
		case 0:
			ask.fields = append(ask.fields, [2]string{"connection", choose(c, []string{"close, ", "keep-alive, ", "upgrade, ", "", ",,"}) + c.spelt(over)})
		case 1:
			ask.fields = append(ask.fields, [2]string{choose(c, []string{"trailer", "te", "keep-alive", "proxy-connection"}), c.spelt(over)})
		case 2:
			ask.body = "x"
			ask.trailers = append(ask.trailers, [2]string{c.spelt(over), value})
		case 3:
			ask.fields = append(ask.fields, [2]string{"x-a", "b\r\n " + c.spelt(over) + ": " + value})
		case 4:
			name := c.spelt(over)
			ask.fields = append(ask.fields, [2]string{name, value}, [2]string{name, value}, [2]string{strings.ReplaceAll(name, "-", "_"), value})
		case 5:
			ask.fields = append(ask.fields, [2]string{":" + c.spelt(over), value})
		default:
			ask.fields = append(ask.fields, [2]string{c.spelt(over), value})
		}
	}
	return who, over, ask
}

// forge sends what the choices say, and fails the test for an identity at the
// app that is not ours, and for one of ours that is missing there. A request may
// come there after its stream was reset, so each says whose it is.
func (q *quarter) forge(t testing.TB, input []byte) {
	asker, over, ask := q.forgery(&choices{input})
	ask.target += "?as=" + strconv.Itoa(asker)
	over.ask(t, ask)
	for _, e := range q.received() {
		who := asNobody
		if strings.HasSuffix(e.target(), "?as="+strconv.Itoa(asGrace)) {
			who = asGrace
		}
		q.passed[fmt.Sprint(who)]++
		ours := 0
		for _, line := range append(e.fields(), e.trailers()...) {
			name, value, _ := strings.Cut(line, ":")
			if !identifies(name) {
				continue
			}
			if who == asNobody || strings.Contains(line, forged) {
				t.Errorf("%+v: the app received %q", ask, line)
			}
			if name == "Remote-Email" && strings.TrimSpace(value) == e2e.Grace.Email {
				ours++
			}
		}
		if who == asGrace && ours != 1 {
			t.Errorf("%+v: Remote-Email came %d times in\n%s", ask, ours, e.raw)
		}
	}
}

// trailers are the lines behind a body in chunks; a body of ours has none.
func (e entry) trailers() []string {
	_, body, _ := strings.Cut(e.raw, "\r\n\r\n")
	return strings.Split(body, "\r\n")
}

// FuzzHeadersUpstream sends a real Caddy identities in every spelling and
// place. The app is told none but ours, however it reads names.
//
// An ordinary run sends what E2E_SEED draws, besides the seeds.
func FuzzHeadersUpstream(f *testing.F) {
	// Caddy drops names with _ and . unless told not to. Then only we do.
	q := newQuarter(f, []corner{{
		name: "names", lines: "LOGIN\nreverse_proxy {$APP}", allow: "allow /public/* anyone\nallow users\nheaders remote {\nX-Who {email}\n}",
	}}, "\t\texpected_underscore_headers remote_* oidc_* cf_* x_webauth_* x_forwarded_* http_* x_user_* script_name\n\t\texpected_dot_headers x.auth.* tailscale.* x.remote.* eppn.*\n")
	if flag.Lookup("test.fuzz").Value.String() == "" {
		seed, _ := strconv.ParseUint(os.Getenv("E2E_SEED"), 10, 64) // unset: the same each time
		chance := rand.New(rand.NewPCG(seed, 3))
		for range 3000 {
			q.forge(f, drawn(chance, 40))
		}
		f.Logf("seed %d: reached the app %v", seed, q.passed)
		if q.passed[fmt.Sprint(asNobody)] < 100 || q.passed[fmt.Sprint(asGrace)] < 100 {
			f.Errorf("seed %d: only %v reached the app", seed, q.passed)
		}
	}
	f.Fuzz(func(t *testing.T, input []byte) { q.forge(t, input) })
}
