package main_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// moreSite offers brands beside each other, each with an API of its own at one
// server.
const moreSite = `
https://app.test:{$PORT} {
	login {
		discord site {env.SITE_SECRET} {
			auth_url {$SERVER}/authorize
			token_url {$SERVER}/token
			api_url {$SERVER}/discord
			tokens forward
			revalidate 15m
		}
		x site {env.SITE_SECRET} {
			auth_url {$SERVER}/authorize
			token_url {$SERVER}/token
			api_url {$SERVER}/x
		}
		bitbucket site {env.SITE_SECRET} {
			auth_url {$SERVER}/authorize
			token_url {$SERVER}/token
			api_url {$SERVER}/bitbucket
		}
		amazon site {env.SITE_SECRET} {
			auth_url {$SERVER}/authorize
			token_url {$SERVER}/token
			api_url {$SERVER}/amazon
		}
		spotify site {env.SITE_SECRET} {
			auth_url {$SERVER}/authorize
			token_url {$SERVER}/token
			api_url {$SERVER}/spotify
		}
		allow /open/* users
		allow *@example.com
	}
	reverse_proxy {$APP}
}
`

// till is a server whose token answers have more in them, and which remembers
// the tokens that it issued and how it was asked.
type till struct {
	*logintest.OAuth
	front *httptest.Server

	mu     sync.Mutex
	more   map[string]any
	issued []string
	basic  bool
	asked  url.Values // at the authorization endpoint, last
}

func newTill(t *testing.T) *till {
	s := &till{OAuth: logintest.NewOAuth(t, "site", clientSecret)}
	s.front = httptest.NewServer(s)
	t.Cleanup(s.front.Close)
	return s
}

// issues says what the next token answers have besides.
func (s *till) issues(more map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.more = more
}

// last is what the authorization endpoint was asked, whether the secret came in
// a header, and the access token that was issued then.
func (s *till) last() (asked url.Values, basic bool, token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked, s.basic, s.issued[len(s.issued)-1]
}

func (s *till) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.URL.Path == "/authorize" {
		s.asked = r.URL.Query()
	}
	if r.URL.Path != "/token" {
		s.OAuth.ServeHTTP(w, r)
		return
	}
	_, _, s.basic = r.BasicAuth()
	said, answer := httptest.NewRecorder(), map[string]any{}
	s.OAuth.ServeHTTP(said, r)
	_ = json.Unmarshal(said.Body.Bytes(), &answer) // our own
	if token, ok := answer["access_token"].(string); ok {
		maps.Copy(answer, s.more)
		s.issued = append(s.issued, token)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

// signsInBy is somebody new who signs in with a brand, on the way to path.
func (s *stage) signsInBy(t *testing.T, brand, person, path string) (*e2e.Visitor, e2e.Answer) {
	t.Helper()
	visitor := e2e.NewVisitor(t)
	return visitor, visitor.SignIn(s.site+"/.login/"+brand+"?return="+url.QueryEscape(path), e2e.Person{Email: person})
}

func TestDiscordXBitbucketAmazonAndSpotifyStory(t *testing.T) {
	server := newTill(t)
	s := &stage{Caddy: e2e.NewCaddy(t, e2e.Build(t)), app: e2e.NewApp(t)}
	s.site = fmt.Sprintf("https://app.test:%d", s.Port)
	s.Env["APP"], s.Env["SERVER"], s.Env["SITE_SECRET"] = s.app.Addr, server.front.URL, clientSecret
	s.Start(moreSite)

	t.Run("Discord", func(t *testing.T) { s.tellsDiscord(t, server) })
	t.Run("X", func(t *testing.T) { s.tellsX(t, server) })
	t.Run("Bitbucket", func(t *testing.T) { s.tellsBitbucket(t, server) })
	t.Run("Amazon", func(t *testing.T) {
		s.tellsUnproven(t, server, "amazon", "/amazon/user/profile", `{"name":"Ada","user_id":"amzn1.account.%s","email":%q}`)
		if asked, basic, _ := server.last(); basic || asked.Get("scope") != "profile" {
			t.Errorf("Amazon was asked for %v, secret in a header: %t", asked, basic)
		}
	})
	t.Run("Spotify", func(t *testing.T) {
		s.tellsUnproven(t, server, "spotify", "/spotify/me", `{"id":"ada","account_id":"%s","email":%q,"display_name":"Ada","images":[]}`)
	})
	s.wantNoSecretInLog(t)
	server.mu.Lock()
	defer server.mu.Unlock()
	s.LogKeepsSecret(append(server.issued, "the-refresh-token")...)
}

func (s *stage) tellsDiscord(t *testing.T, server *till) {
	account := func(id, email, verified string) logintest.Account {
		return logintest.Account{Scope: "identify email", API: map[string]string{"/discord/users/@me": fmt.Sprintf(
			`{"username":"ada","email":%q,"verified":%s,"global_name":"Ada L.","avatar":null,"id":%q}`, email, verified, id)}}
	}
	server.Person("ada", account("80351110224678912", "ada@example.com", "true"))
	server.Person("mallory", account("80351110224678913", "boss@example.com", "false"))

	server.issues(map[string]any{"expires_in": 604800, "refresh_token": "the-refresh-token"})
	_, landed := s.signsInBy(t, "discord", "ada", "/inside?page=2")
	mustBe(t, landed, http.StatusOK)
	if got := landed.Request.URL.String(); got != s.site+"/inside?page=2" {
		t.Errorf("landed at %s", got)
	}
	asked, basic, token := server.last()
	s.wantAtApp(t, map[string]string{
		"Remote-Email": "ada@example.com", "Remote-Name": "Ada L.", "X-Forwarded-Access-Token": token,
	})
	if !basic || !asked.Has("code_challenge") {
		t.Errorf("Discord was asked for %v, secret in a header: %t", asked, basic)
	}
	s.app.Forget()

	_, landed = s.signsInBy(t, "discord", "mallory", "/inside")
	mustBe(t, landed, http.StatusForbidden)

	// Nothing to revalidate with: better no session than one that looks so.
	server.issues(map[string]any{"expires_in": 604800})
	visitor, landed := s.signsInBy(t, "discord", "ada", "/inside")
	wantErrorPage(t, landed)
	mustBe(t, visitor.Get(s.site+"/inside"), http.StatusFound)
	e2e.Eventually(t, e2e.Patience, "the log to name the cure", func() bool {
		return strings.Contains(s.Log(), "or remove revalidate")
	})
	server.issues(nil)
	s.untouched(t)
}

func (s *stage) tellsX(t *testing.T, server *till) {
	account := func(username, email string) logintest.Account {
		return logintest.Account{Scope: "users.email users.read tweet.read", API: map[string]string{"/x/users/me": fmt.Sprintf(
			`{"data":{"id":"2244994945","username":%q,"name":"","verified":true%s}}`, username, email)}}
	}
	server.Person("hedy", account("hedy", `,"confirmed_email":"hedy@example.com"`))
	_, landed := s.signsInBy(t, "x", "hedy", "/inside")
	mustBe(t, landed, http.StatusOK)
	s.wantAtApp(t, map[string]string{"Remote-Email": "hedy@example.com", "Remote-Name": "hedy", "X-Forwarded-Access-Token": ""})
	user := s.app.Last().Value("Remote-User")
	if asked, _, _ := server.last(); strings.Contains(asked.Get("scope"), "offline") {
		t.Errorf("without tokens to keep, X is asked for %v", asked)
	}

	server.Person("hedy", account("lamarr", ""))
	_, landed = s.signsInBy(t, "x", "hedy", "/open/")
	mustBe(t, landed, http.StatusOK)
	s.wantAtApp(t, map[string]string{"Remote-User": user})

	// A user name is nobody's address.
	nobody := account("boss@example.com", "")
	nobody.API["/x/users/me"] = strings.Replace(nobody.API["/x/users/me"], "2244994945", "7", 1)
	server.Person("nobody", nobody)
	s.app.Forget()
	_, landed = s.signsInBy(t, "x", "nobody", "/inside")
	mustBe(t, landed, http.StatusForbidden)
	s.untouched(t)
}

func (s *stage) tellsBitbucket(t *testing.T, server *till) {
	account := func(id, email, confirmed string) logintest.Account {
		return logintest.Account{API: map[string]string{
			"/bitbucket/user": fmt.Sprintf(`{"display_name":"Erik","nickname":"erik","account_id":%q,"uuid":"{1}"}`, id),
			"/bitbucket/user/emails": fmt.Sprintf(`{"pagelen":100,"page":1,"size":2,"values":[`+
				`{"email":"boss@example.com","is_primary":false,"is_confirmed":true},`+
				`{"email":%q,"is_primary":true,"is_confirmed":%s}]}`, email, confirmed),
		}}
	}
	server.Person("erik", account("557058:c0b72ad0", "erik@example.com", "true"))
	server.Person("mallory", account("557058:666", "chief@example.com", "false"))
	server.issues(map[string]any{"scopes": "account email", "scope": nil, "state": "authorization_code"})
	defer server.issues(nil)

	_, landed := s.signsInBy(t, "bitbucket", "erik", "/inside")
	mustBe(t, landed, http.StatusOK)
	s.wantAtApp(t, map[string]string{"Remote-Email": "erik@example.com", "Remote-Name": "Erik"})
	s.app.Forget()
	_, landed = s.signsInBy(t, "bitbucket", "mallory", "/inside")
	mustBe(t, landed, http.StatusForbidden)
	s.untouched(t)
}

// tellsUnproven is the story of a brand that proves no address.
func (s *stage) tellsUnproven(t *testing.T, server *till, brand, path, page string) {
	account := func(id, email string) logintest.Account {
		return logintest.Account{API: map[string]string{path: fmt.Sprintf(page, id, email)}}
	}
	server.Person("somebody", account("1", brand+"@example.com"))
	server.Person("mallory", account("2", "ada@example.com"))

	visitor, landed := s.signsInBy(t, brand, "somebody", "/open/")
	mustBe(t, landed, http.StatusOK)
	s.wantAtApp(t, map[string]string{"Remote-Email": "", "Remote-Name": "Ada"})
	s.app.Forget()
	mustBe(t, visitor.Get(s.site+"/inside"), http.StatusForbidden)

	_, landed = s.signsInBy(t, brand, "mallory", "/open/")
	wantErrorPage(t, landed)
	s.untouched(t)
}
