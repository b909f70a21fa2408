package main_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// crewed is the usual site, with all of it for the crew alone.
var crewed = strings.Replace(usual, "allow *@example.com", "allow group:crew", 1)

// Who is taken out of a group hears no more of what only that group may hear,
// over streams that began before either; others' streams go on.
func TestStreamsEndForWhoLeavesTheGroup(t *testing.T) {
	s := play(t, crewed)
	ada, grace := e2e.NewVisitor(t), e2e.NewVisitor(t)
	streams := map[*e2e.Visitor]func(){}
	for v, who := range map[*e2e.Visitor]e2e.Person{ada: e2e.Ada, grace: e2e.Grace} {
		v.SignIn(s.site+"/.login/op?return=%2Fpublic%2Fin", who)
		s.operator(t, http.MethodPut, "users/"+s.idOf(t, who.Email)+"/groups", `{"add":["crew"]}`).into(t, new(person))
		conn, _ := s.dial(t, s.site, v.Cookies(s.site))
		echoes(t, conn)
		s.listen(t, v)
		streams[v] = func() { echoes(t, conn) }
	}
	e2e.Eventually(t, e2e.Patience, "four streams to be open", func() bool { return s.app.Open() == 4 })

	path := "users/" + s.idOf(t, e2e.Ada.Email) + "/groups"
	s.operator(t, http.MethodPut, path, `{"remove":["crew"]}`).into(t, new(person))
	e2e.Eventually(t, streamsEnd, "her two streams to end at the app", func() bool { return s.app.Open() == 2 })
	streams[grace]()
	if _, res := s.dial(t, s.site, ada.Cookies(s.site)); res.StatusCode != http.StatusForbidden {
		t.Errorf("a new one of hers: %d", res.StatusCode)
	}
	mustBe(t, ada.Get(s.site+"/public/x"), http.StatusOK)
	if s.app.Last().Value("Remote-User") == "" {
		t.Error("she was signed out")
	}

	s.operator(t, http.MethodPut, path, `{"add":["crew"]}`).into(t, new(person))
	conn, _ := s.dial(t, s.site, ada.Cookies(s.site))
	echoes(t, conn)
}

// So it is where the provider says so, as the person signs in elsewhere.
func TestStreamsEndWhereASignInTakesAGroupAway(t *testing.T) {
	issuer := logintest.NewIssuer(t)
	s := playWith(t, strings.ReplaceAll(crewed, "{$ISSUER}", issuer.URL), nil)
	issuer.Client("site", clientSecret, s.site+"/.login/op/callback")
	signIn := func(groups ...string) *e2e.Visitor {
		issuer.Person(logintest.Person{Subject: "ada", Email: "ada@example.com", EmailVerified: true, Name: "Ada", Groups: groups})
		v := e2e.NewVisitor(t)
		begun := v.Get(s.site + "/.login/op?return=%2Fpublic%2F")
		mustBe(t, begun, http.StatusFound)
		callback, _ := issuer.SignIn(t, http.DefaultClient, begun.Header.Get("Location"), "ada")
		mustBe(t, v.Follow(callback.String()), http.StatusOK)
		return v
	}
	first := signIn("crew")
	conn, _ := s.dial(t, s.site, first.Cookies(s.site))
	echoes(t, conn)
	signIn("crew") // which changes nothing
	echoes(t, conn)
	signIn("staff")
	mustClose(t, conn)
	mustBe(t, first.Get(s.site+"/x"), http.StatusForbidden)
}
