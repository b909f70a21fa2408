package examples_test

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

const accessToken = "X-Forwarded-Access-Token"

func oktaEndsAndRenewsSessions(t *testing.T) {
	app, reports, okta := e2e.NewApp(t), e2e.NewApp(t), newOkta(t)
	s := show(t, "okta",
		replacement{"https://example.okta.com", okta.Issuer},
		replacement{"localhost:3000", app.Addr}, replacement{"localhost:3001", reports.Addr})
	s.register(okta, "okta", secrets["OKTA_CLIENT_ID"], secrets["OKTA_CLIENT_SECRET"], "app.example.com", "reports.example.com")
	for host, behind := range map[string]*e2e.App{"app.example.com": app, "reports.example.com": reports} {
		s.wantToldCallback(s.at(host, "/.login/okta/callback"))
		s.wantStrangersKeptOut(behind, s.at(host, "/"))
	}
	s.groupAdmits(okta, app)
	ada := e2e.NewVisitor(t)
	s.tokenReachesOneApp(ada, okta, app, reports)
	s.signOutGoesOnFromOneSite(okta)
	s.logoutTokenEndsBoth(ada, okta)
}

// newOkta is an issuer of the plainest kind, as Okta is.
func newOkta(t *testing.T) *logintest.Issuer {
	issuer := logintest.NewIssuer(t)
	for _, person := range []logintest.Person{
		{Subject: "00uada", Name: "Ada Lovelace", Email: "ada@example.com", EmailVerified: true, Groups: []string{"Everyone", "engineering"}},
		{Subject: "00ugrace", Name: "Grace Hopper", Email: "grace@example.com", EmailVerified: true, Groups: []string{"Everyone"}},
	} {
		issuer.Person(person)
	}
	return issuer
}

func (s *stage) groupAdmits(okta *logintest.Issuer, app *e2e.App) {
	s.t.Helper()
	address := s.at("app.example.com", "/")
	s.want(s.visitor(okta, address, "00ugrace").Get(address), http.StatusForbidden)
	if heard := len(app.Requests()); heard > 0 {
		s.t.Errorf("the app heard %d requests of Grace", heard)
	}
}

// tokenReachesOneApp signs somebody in at both sites.
func (s *stage) tokenReachesOneApp(ada *e2e.Visitor, okta *logintest.Issuer, app, reports *e2e.App) {
	s.t.Helper()
	s.want(s.signIn(ada, okta, s.at("app.example.com", "/"), "00uada"), http.StatusOK)
	wantHeader(s.t, app, "Remote-Groups", "Everyone,engineering,everybody,external-users")
	wantHeader(s.t, app, accessToken, "")

	// Okta knows the browser by now, and asks nothing.
	s.want(ada.Follow(s.at("reports.example.com", "/")), http.StatusOK)
	issued := reports.Last().Value(accessToken)
	forged := ada.Navigation(s.at("reports.example.com", "/"))
	forged.Header.Set(accessToken, "forged")
	s.want(ada.Do(forged), http.StatusOK)
	wantHeader(s.t, reports, accessToken, issued)
	if issued == "" {
		s.t.Error("the app behind reports.example.com receives no token")
	}
}

// onward is where a page leads by itself.
var onward = regexp.MustCompile(`content="0;url=([^"]+)"`)

func (s *stage) signOutGoesOnFromOneSite(okta *logintest.Issuer) {
	s.t.Helper()
	for host, goesOn := range map[string]bool{"app.example.com": true, "reports.example.com": false} {
		visitor := s.visitor(okta, s.at(host, "/"), "00uada")
		gone := visitor.Submit(visitor.Get(s.at(host, "/.login/logout")))
		s.want(visitor.Get(s.at(host, "/")), http.StatusFound)
		to := gone.Header.Get("Location")
		if found := onward.FindStringSubmatch(gone.Body); found != nil {
			to = html.UnescapeString(found[1])
		}
		if got := strings.HasPrefix(to, okta.URL+"/"); got != goesOn {
			s.t.Errorf("signing out at %s leads to %q", host, to)
		}
	}
}

// logoutTokenEndsBoth tells one site what ended; the other believes it, too.
func (s *stage) logoutTokenEndsBoth(ada *e2e.Visitor, okta *logintest.Issuer) {
	s.t.Helper()
	token := okta.LogoutToken(secrets["OKTA_CLIENT_ID"], "00uada", "")
	told := ada.Another().Request(http.MethodPost, s.at("app.example.com", "/.login/okta/backchannel-logout"),
		url.Values{"logout_token": {token}}.Encode())
	told.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	s.want(ada.Another().Do(told), http.StatusOK)
	for _, host := range []string{"app.example.com", "reports.example.com"} {
		s.want(ada.Get(s.at(host, "/")), http.StatusFound)
	}
}
