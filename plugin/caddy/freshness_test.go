package main_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// What a sign-in changes about a person reaches every session they have.
func TestNewGroupsReachTheOtherSessionsAtOnce(t *testing.T) {
	issuer := logintest.NewIssuer(t)
	s := playWith(t, strings.ReplaceAll(usual, "{$ISSUER}", issuer.URL), nil)
	issuer.Client("site", clientSecret, s.site+"/.login/op/callback")
	signIn := func(groups ...string) *e2e.Visitor {
		issuer.Person(logintest.Person{Subject: "ada", Email: "ada@example.com", EmailVerified: true, Name: "Ada " + groups[0], Groups: groups})
		visitor := e2e.NewVisitor(t)
		begun := visitor.Get(s.site + "/.login/op?return=%2Fin")
		mustBe(t, begun, http.StatusFound)
		callback, _ := issuer.SignIn(t, http.DefaultClient, begun.Header.Get("Location"), "ada")
		mustBe(t, visitor.Follow(callback.String()), http.StatusOK)
		return visitor
	}
	first := signIn("staff")
	mustBe(t, first.Get(s.site+"/maths/"), http.StatusForbidden)
	signIn("maths")
	mustBe(t, first.Get(s.site+"/maths/"), http.StatusOK)
	if name := s.app.Last().Value("Remote-Name"); name != "Ada maths" {
		t.Errorf("the other session is still called %q", name)
	}
	signIn("staff")
	mustBe(t, first.Get(s.site+"/maths/"), http.StatusForbidden)
}
