package main_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
	"github.com/caddy-login/caddy-login/module/seal"
	sessions "github.com/caddy-login/caddy-login/module/session"
	"github.com/caddy-login/caddy-login/module/token"
)

// appSession is somebody signed in by tokens, at the store of a Caddy that does
// not run.
type appSession struct {
	begun  token.Begun
	access string
}

// atRest opens the store of a Caddy that was stopped or killed, and closes it
// again.
func (s *stage) atRest(t *testing.T, fn func(store guest.Store, tokens *token.Tokens, site token.Site)) {
	t.Helper()
	store := logintest.StoreIn(t, filepath.Join(s.DataDir(), "login"))
	defer store.Close()
	ring, err := seal.Load(t.Context(), store, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := seal.LoadSigner(t.Context(), store, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	tokens := token.Open(store, ring, sessions.Open(store, ring, time.Now), time.Now)
	fn(store, tokens, token.Site{Signer: signer, Origin: s.site, Scope: strings.TrimPrefix(s.site, "https://")})
}

// appsOf stops Caddy, signs people in by tokens, and starts it again.
func (s *stage) appsOf(t *testing.T, people ...string) (apps []appSession) {
	t.Helper()
	s.Kill()
	s.atRest(t, func(store guest.Store, tokens *token.Tokens, site token.Site) {
		for _, email := range people {
			apps = append(apps, s.enterBy(t, store, tokens, site, email))
		}
	})
	s.Restart()
	return apps
}

func (s *stage) enterBy(t *testing.T, store guest.Store, tokens *token.Tokens, site token.Site, email string) (a appSession) {
	t.Helper()
	ticket, err := tokens.Issue(site.Scope)
	if err != nil {
		t.Fatal(err)
	}
	err = store.Update(t.Context(), func(tx guest.Tx) error {
		admitted, err := identity.Admit(tx, identity.Arrival{
			Traits:  guest.Traits{Name: "op", Email: guest.EmailRules{Identifier: true}},
			Profile: guest.Profile{Issuer: s.provider.Issuer, Subject: "app of " + email, Email: email, EmailTrust: guest.Verified},
			SignUp:  func(identity.Email) bool { return true }, At: time.Now(),
		})
		if err != nil {
			return err
		}
		a.begun, err = tokens.Start(tx, ticket, sessions.New{
			Person: admitted.Person, Provider: "op", AuthTime: time.Now(), Lifetime: time.Hour, Idle: time.Hour, Device: "Example for iOS",
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	access, err := tokens.Access(site, a.begun.Session)
	if err != nil {
		t.Fatal(err)
	}
	a.access = string(access.Token)
	return a
}

// bearing asks as a program does, with this Authorization.
func bearing(v *e2e.Visitor, address, authorization string) e2e.Answer {
	r := v.Request(http.MethodGet, address, "")
	r.Header.Set("Authorization", authorization)
	return v.Do(r)
}

func wantInvalidToken(t *testing.T, got e2e.Answer) {
	t.Helper()
	wantProblem(t, got, http.StatusUnauthorized)
	if challenge := got.Header.Get("WWW-Authenticate"); challenge != `Bearer error="invalid_token"` || !strings.Contains(got.Body, `"invalid_token"`) {
		t.Errorf("%s, %s", challenge, got.Body)
	}
}

func TestAppSignedInByTokenIsASessionAsAnyOther(t *testing.T) {
	s := play(t, usual)
	people := s.appsOf(t, "eve@example.com", "adas-app@example.com")
	app, other := people[1], people[0]
	signature := strings.Split(app.access, ".")[2]
	for _, client := range []*e2e.Visitor{e2e.NewVisitor(t), e2e.NewHTTP2Visitor(t)} {
		for _, path := range []string{"/in", "/public/in"} {
			mustBe(t, bearing(client, s.site+path, "Bearer "+app.access), http.StatusOK)
			if got := s.app.Last(); got.Value("Remote-Email") != "adas-app@example.com" || strings.Contains(got.Raw, signature) || got.Value("Authorization") != "" {
				t.Fatalf("%s: the app received\n%s", path, got.Raw)
			}
		}
	}
	client := e2e.NewVisitor(t)
	for _, foreign := range []string{"Basic YTpi", "Bearer opaque", "Bearer eyJhbGciOiJSUzI1NiJ9.e30.AAAA"} {
		mustBe(t, bearing(client, s.site+"/public/in", foreign), http.StatusOK)
		if got := s.app.Last(); got.Value("Authorization") != foreign || got.Value("Remote-User") != "" {
			t.Errorf("the app received\n%s", got.Raw)
		}
	}
	s.app.Forget()
	// A cookie of one and a token of another are nobody.
	ada := s.signedIn(t, e2e.Ada)
	wantInvalidToken(t, bearing(ada, s.site+"/in", "Bearer "+app.access))
	wantInvalidToken(t, bearing(ada, s.site+"/public/in", "Bearer "+app.access))
	s.untouched(t)
	// It is listed, and its end is its tokens' at once, and its streams'.
	stream := client.Request(http.MethodGet, s.site+"/events", "")
	stream.Header.Set("Authorization", "Bearer "+app.access)
	events, err := client.Stream(stream)
	if err != nil || events.StatusCode != http.StatusOK {
		t.Fatal(err, events)
	}
	defer events.Body.Close()
	e2e.Eventually(t, e2e.Patience, "the stream to be open", func() bool { return s.app.Open() == 1 })
	handle := app.begun.Session.Handle
	if got := s.operator(t, http.MethodGet, "sessions", ""); !strings.Contains(string(got.body), handle) {
		t.Errorf("%s is not listed: %s", handle, got.body)
	}
	if got := s.operator(t, http.MethodDelete, "sessions/"+handle, ""); got.status != http.StatusOK {
		t.Fatalf("%d: %s", got.status, got.body)
	}
	wantInvalidToken(t, bearing(client, s.site+"/in", "Bearer "+app.access))
	e2e.Eventually(t, streamsEnd, "the stream to end", func() bool { return s.app.Open() == 0 })
	mustBe(t, bearing(client, s.site+"/in", "Bearer "+other.access), http.StatusOK)
	s.Kill()
	s.Restart()
	wantInvalidToken(t, bearing(client, s.site+"/in", "Bearer "+app.access))
	mustBe(t, bearing(client, s.site+"/in", "Bearer "+other.access), http.StatusOK)
	s.LogKeepsSecret(app.access, other.access, string(app.begun.Refresh), signature)
}

func TestFloodOfInvalidTokensLeavesNoLine(t *testing.T) {
	s := play(t, usual)
	app := s.appsOf(t, "adas-app@example.com")[0]
	client := e2e.NewVisitor(t)
	parts := strings.Split(app.access, ".")
	wantInvalidToken(t, bearing(client, s.site+"/in", "Bearer "+app.access+"A"))
	lines := len(s.Logs())
	for i := range 2000 {
		forged := fmt.Sprintf("%s.%s.%086d", parts[0], parts[1], i)
		if got := bearing(client, s.site+"/in", "Bearer "+forged); got.StatusCode != http.StatusUnauthorized {
			t.Fatal(got.StatusCode)
		}
	}
	if more := len(s.Logs()) - lines; more > 5 {
		t.Errorf("2,000 forgeries wrote %d lines", more)
	}
	s.untouched(t)
	mustBe(t, bearing(client, s.site+"/in", "Bearer "+app.access), http.StatusOK)
}

func TestRestoreEndsAllTokens(t *testing.T) {
	s := play(t, usual)
	app := s.appsOf(t, "adas-app@example.com")[0]
	client := e2e.NewVisitor(t)
	mustBe(t, bearing(client, s.site+"/in", "Bearer "+app.access), http.StatusOK)
	backup := s.operator(t, http.MethodGet, "backup", "")
	s.operator(t, http.MethodPost, "restore", backup.body, "Content-Type", "application/octet-stream").into(t, new(struct{ Restored bool }))
	wantInvalidToken(t, bearing(client, s.site+"/in", "Bearer "+app.access))
	s.Kill()
	s.atRest(t, func(_ guest.Store, tokens *token.Tokens, site token.Site) {
		if _, err := tokens.Exchange(site.Scope, app.begun.Refresh); !errors.Is(err, token.ErrInvalid) {
			t.Errorf("the refresh token opens: %v", err)
		}
		if _, err := tokens.Read(context.Background(), site, app.access); !errors.Is(err, token.ErrInvalid) {
			t.Errorf("the access token is good: %v", err)
		}
	})
}
