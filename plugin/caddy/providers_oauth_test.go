package main_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// playOAuth starts a Caddy with one provider's block, in which {$SERVER} is
// the server, and a rule for one domain.
func playOAuth(t *testing.T, block string) (*stage, *logintest.OAuth) {
	t.Helper()
	s := &stage{Caddy: e2e.NewCaddy(t, e2e.Build(t)), app: e2e.NewApp(t)}
	s.site = fmt.Sprintf("https://app.test:%d", s.Port)
	server := logintest.NewOAuth(t, "site", clientSecret)
	s.Env["APP"], s.Env["SERVER"], s.Env["SITE_SECRET"] = s.app.Addr, server.URL, clientSecret
	s.Start("https://app.test:{$PORT} {\n\tlogin {\n" + block + "\n\t\tallow *@example.com\n\t}\n\treverse_proxy {$APP}\n}\n")
	return s, server
}

// signInAs opens a page as somebody new, says at the server who it is, and
// returns where that ends.
func (s *stage) signInAs(t *testing.T, name string) (*e2e.Visitor, e2e.Answer) {
	t.Helper()
	visitor := e2e.NewVisitor(t)
	return visitor, visitor.SignIn(s.site+"/inside?page=2", e2e.Person{Email: name})
}

// wantAtApp checks headers of the request that the app received last.
func (s *stage) wantAtApp(t *testing.T, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got := strings.Join(s.app.Last().Values(name), "|"); got != value {
			t.Errorf("the app received %s: %q, want %q", name, got, value)
		}
	}
}

// wantNoSecretInLog checks that the log shows nothing of the exchange.
func (s *stage) wantNoSecretInLog(t *testing.T) {
	t.Helper()
	for _, secret := range []string{clientSecret, "@example.com", "appsecret_proof"} {
		if strings.Contains(s.Log(), secret) {
			t.Errorf("the log shows %q", secret)
		}
	}
}

func gitHubAccount(id int, login, email string, api map[string]string) logintest.Account {
	account := logintest.Account{Scope: "read:org,read:user,user:email", API: map[string]string{
		"/user": fmt.Sprintf(`{"id":%d,"login":%q,"name":null,"email":"public@example.com"}`, id, login),
		"/user/emails": `[{"email":"first@example.com","primary":false,"verified":true},` +
			fmt.Sprintf(`{"email":%q,"primary":true,"verified":true}]`, email),
	}}
	for path, page := range api {
		account.API[path] = page
	}
	return account
}

func TestGitHubSignsInMembersOfItsOrganization(t *testing.T) {
	const member = `{"state":"active","organization":{"login":"acme"}}`
	s, github := playOAuth(t, `		github site {env.SITE_SECRET} {
			org acme
			auth_url {$SERVER}/authorize
			token_url {$SERVER}/token
			api_url {$SERVER}
			email_trust verified
		}`)
	github.Person("ada", gitHubAccount(1, "ada", "ada@example.com", map[string]string{"/user/memberships/orgs/acme": member}))
	github.Person("mallory", gitHubAccount(2, "ada2", "mallory@example.com", nil))
	renamed := gitHubAccount(1, "countess", "ada@example.com", map[string]string{"/user/memberships/orgs/acme": member})
	hidden := gitHubAccount(3, "hedy", "hedy@example.com", map[string]string{"/user/memberships/orgs/acme": member})
	hidden.Scope = "read:org,read:user"
	github.Person("hedy", hidden)

	_, landed := s.signInAs(t, "ada")
	mustBe(t, landed, http.StatusOK)
	if got := landed.Request.URL.String(); got != s.site+"/inside?page=2" {
		t.Errorf("landed at %s", got)
	}
	s.wantAtApp(t, map[string]string{"Remote-Email": "ada@example.com", "Remote-Name": "ada"})
	user := s.app.Last().Value("Remote-User")

	github.Person("ada", renamed)
	_, landed = s.signInAs(t, "ada")
	mustBe(t, landed, http.StatusOK)
	s.wantAtApp(t, map[string]string{"Remote-User": user})

	s.app.Forget()
	visitor, landed := s.signInAs(t, "mallory")
	wantErrorPage(t, landed)
	mustBe(t, visitor.Get(s.site+"/inside"), http.StatusFound)
	// Without an address there is somebody, whom the rule does not know.
	_, landed = s.signInAs(t, "hedy")
	mustBe(t, landed, http.StatusForbidden)
	s.untouched(t)
	s.wantNoSecretInLog(t)
}

func TestFacebookSignsIn(t *testing.T) {
	s, facebook := playOAuth(t, `		facebook site {env.SITE_SECRET} {
			auth_url {$SERVER}/authorize
			token_url {$SERVER}/token
			api_url {$SERVER}
		}`)
	facebook.Person("ada", logintest.Account{API: map[string]string{
		"/v26.0/me": `{"id":"10223456789012345","name":"Ada Lovelace","email":"ada@example.com","picture":{"data":{"url":"https://a.example/p"}}}`,
	}})
	facebook.Person("phone", logintest.Account{API: map[string]string{"/v26.0/me": `{"id":"2","name":"No Address"}`}})
	facebook.Person("revoked", logintest.Account{API: map[string]string{"/v26.0/me": `{"error":{"message":"revoked","code":190}}`}})

	_, landed := s.signInAs(t, "ada")
	mustBe(t, landed, http.StatusOK)
	s.wantAtApp(t, map[string]string{"Remote-Email": "ada@example.com", "Remote-Name": "Ada Lovelace"})

	s.app.Forget()
	_, landed = s.signInAs(t, "phone")
	mustBe(t, landed, http.StatusForbidden)
	if visitor, landed := s.signInAs(t, "revoked"); landed.StatusCode < 400 || s.isIn(visitor) {
		t.Errorf("an account without a token is in: %d", landed.StatusCode)
	}
	s.untouched(t)
	s.wantNoSecretInLog(t)
}

func TestAnyOAuthServerSignsIn(t *testing.T) {
	s, forum := playOAuth(t, `		oauth2 forum site {env.SITE_SECRET} {
			auth_url {$SERVER}/authorize
			token_url {$SERVER}/token
			userinfo_url {$SERVER}/me
			subject_path user.id
			email_path user.email
			verified_path user.confirmed
			name_path user.name
		}`)
	who := func(id, confirmed string) logintest.Account {
		return logintest.Account{API: map[string]string{
			"/me": `{"user":{"id":` + id + `,"email":"ada@example.com","confirmed":` + confirmed + `,"name":"Ada"}}`,
		}}
	}
	forum.Person("ada", who("9007199254740993", "true"))
	forum.Person("mallory", who("9007199254740992", "false"))

	_, landed := s.signInAs(t, "ada")
	mustBe(t, landed, http.StatusOK)
	s.wantAtApp(t, map[string]string{"Remote-Email": "ada@example.com", "Remote-Name": "Ada"})

	// Her neighbour by id, with her address, unproven.
	s.app.Forget()
	_, landed = s.signInAs(t, "mallory")
	wantErrorPage(t, landed)
	s.untouched(t)
	s.wantNoSecretInLog(t)
}
