package main_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// quirk is a brand with more habits than one answer: it looks at what it is
// asked, and changes what it says.
type quirk struct {
	*brand
	asked func(authorize url.Values)
	issue claims // over the token endpoint's answer
	lies  bool   // errors of the token endpoint come with status 200
	info  claims // at /userinfo
}

func newQuirk(t *testing.T) *quirk {
	t.Helper()
	q := &quirk{brand: newBrand(t), asked: func(url.Values) {}}
	front := httptest.NewServer(q)
	t.Cleanup(front.Close)
	q.brand.Server = front
	return q
}

func (q *quirk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/authorize":
		q.asked(r.URL.Query())
		q.brand.ServeHTTP(w, r)
	case "/token":
		q.exchanged(w, r)
	case "/userinfo":
		say(w, q.info)
	default:
		q.brand.ServeHTTP(w, r)
	}
}

func (q *quirk) exchanged(w http.ResponseWriter, r *http.Request) {
	said := httptest.NewRecorder()
	q.brand.ServeHTTP(said, r)
	answer := claims{}
	_ = json.Unmarshal(said.Body.Bytes(), &answer)
	if said.Code == http.StatusOK {
		maps.Copy(answer, q.issue)
	} else if !q.lies {
		w.WriteHeader(said.Code)
	}
	say(w, answer)
}

const brandsSite = `
https://app.test:{$PORT} {
	login {
		gitlab client secret {
			issuer {$GITLAB}
			groups groups_direct
		}
		slack client secret {
			issuer {$SLACK}
			team T0123ABC456
		}
		twitch client secret {
			issuer {$TWITCH}/oauth2
		}
		allow /ops/* group:acme/ops
		allow *@example.com
	}
	reverse_proxy {$APP}
}
`

// through is somebody new who signs in by this provider on the way to path.
func (s *stage) through(t *testing.T, provider, path string) (*e2e.Visitor, e2e.Answer) {
	t.Helper()
	visitor := e2e.NewVisitor(t)
	return visitor, visitor.Follow(s.site + "/.login/" + provider + "?return=" + url.QueryEscape(path))
}

func TestGitLabSlackAndTwitchStory(t *testing.T) {
	gitlab, slack, twitch := newGitLab(t), newSlack(t), newTwitch(t)
	s := &stage{Caddy: e2e.NewCaddy(t, e2e.Build(t)), app: e2e.NewApp(t)}
	s.site = fmt.Sprintf("https://app.test:%d", s.Port)
	s.Env["APP"], s.Env["GITLAB"], s.Env["SLACK"], s.Env["TWITCH"] = s.app.Addr, gitlab.URL, slack.URL, twitch.URL
	s.Start(brandsSite)

	t.Run("GitLab", func(t *testing.T) { s.tellsGitLab(t, gitlab) })
	t.Run("Slack", func(t *testing.T) { s.tellsSlack(t, slack) })
	t.Run("Twitch", func(t *testing.T) { s.tellsTwitch(t, twitch) })
	secrets := slices.Concat(gitlab.secrets, slack.secrets, twitch.secrets)
	s.LogKeepsSecret(slices.DeleteFunc(secrets, func(secret string) bool { return secret == "" })...)
	for _, name := range []string{"ada", "bob", "eve", "grace", "boss", "hedy"} {
		if strings.Contains(s.Log(), name+"@example.com") {
			t.Errorf("the log shows the address of %s", name)
		}
	}
}

func newGitLab(t *testing.T) *quirk {
	q := newQuirk(t)
	q.issuer = q.URL
	q.document["userinfo_endpoint"] = q.URL + "/userinfo"
	q.document["token_endpoint_auth_methods_supported"] = []string{"client_secret_basic", "client_secret_post"}
	q.exchange = func(basic bool, form url.Values) bool { return basic && form.Get("code_verifier") != "" }
	return q
}

func (s *stage) tellsGitLab(t *testing.T, gitlab *quirk) {
	gitlab.next(claims{
		"sub": "4217", "email": "ada@example.com", "email_verified": true, "groups_direct": []string{"acme/ops", "ada"},
	}, nil)
	gitlab.info = claims{"sub": "4217", "name": "Ada Lovelace", "groups_direct": []string{"acme/board"}}
	_, landed := s.through(t, "gitlab", "/ops/night?shift=2")
	mustBe(t, landed, http.StatusOK)
	if got := landed.Request.URL.String(); got != s.site+"/ops/night?shift=2" {
		t.Errorf("landed at %s", got)
	}
	s.wantAtApp(t, map[string]string{"Remote-Email": "ada@example.com", "Remote-Name": "Ada Lovelace"})
	groups := strings.Split(s.app.Last().Value("Remote-Groups"), ",")
	if !slices.Contains(groups, "acme/ops") || slices.Contains(groups, "acme/board") {
		t.Errorf("Ada is in %q", groups)
	}
	s.app.Forget()

	// A group of somebody's own, named after ours.
	gitlab.next(claims{"sub": "4218", "email": "bob@example.com", "email_verified": true, "groups_direct": []string{"acme/ops-2"}}, nil)
	gitlab.info = claims{"sub": "4218", "name": "Bob"}
	_, landed = s.through(t, "gitlab", "/ops/night")
	mustBe(t, landed, http.StatusForbidden)

	gitlab.next(claims{"sub": "4219", "email": "eve@example.com", "email_verified": false, "groups_direct": []string{}}, nil)
	gitlab.info = claims{"sub": "4219", "name": "Eve", "email": "eve@example.com", "email_verified": true}
	_, landed = s.through(t, "gitlab", "/in")
	mustBe(t, landed, http.StatusForbidden)
	s.untouched(t)
}

func newSlack(t *testing.T) *quirk {
	q := newQuirk(t)
	q.issuer, q.lies, q.issue = q.URL, true, claims{"ok": true}
	q.document["response_modes_supported"] = []string{"form_post"}
	q.exchange = func(basic bool, form url.Values) bool {
		return !basic && !form.Has("code_verifier") && form.Get("client_secret") == "secret"
	}
	return q
}

func (s *stage) tellsSlack(t *testing.T, slack *quirk) {
	var hint string
	slack.asked = func(authorize url.Values) { hint = authorize.Get("team") }
	member := func(team, sub, email string) claims {
		return claims{"sub": sub, "https://slack.com/team_id": team, "email": email, "email_verified": true, "name": "Grace"}
	}
	slack.next(member("T0123ABC456", "U0R7MFMJM", "grace@example.com"), nil)
	grace, landed := s.through(t, "slack", "/in")
	mustBe(t, landed, http.StatusOK)
	s.wantAtApp(t, map[string]string{"Remote-Email": "grace@example.com", "Remote-Name": "Grace"})
	if hint != "T0123ABC456" {
		t.Errorf("Slack was hinted at %q", hint)
	}
	s.app.Forget()

	// The owner of another workspace wrote our address into an account there.
	slack.next(member("T0666EVE666", "U0EEEEEEE", "boss@example.com"), nil)
	mallory, landed := s.through(t, "slack", "/in")
	wantErrorPage(t, landed)
	mustBe(t, mallory.Get(s.site+"/in"), http.StatusFound)
	e2e.Eventually(t, e2e.Patience, "the log to say who was shut out", func() bool { return strings.Contains(s.Log(), `"not_allowed"`) })
	s.untouched(t)

	open := strings.Replace(brandsSite, "team T0123ABC456", "label Slack", 1)
	if said, err := s.TryReload(open); err == nil || !strings.Contains(said, "whoever owns a workspace can write any address") {
		t.Errorf("a domain rule loads beside any workspace: %s", said)
	}
	if !s.isIn(grace) {
		t.Error("a refused config signed Grace out")
	}
	s.app.Forget()
}

// newTwitch tells what it is asked for, and the subject.
func newTwitch(t *testing.T) *quirk {
	q := newQuirk(t)
	q.discovery, q.issuer = "/oauth2", q.URL+"/oauth2"
	q.document["userinfo_endpoint"] = q.URL + "/userinfo"
	q.issue = claims{"token_type": "bearer", "scope": []string{"openid", "user:read:email"}, "expires_in": 14124}
	q.exchange = func(basic bool, form url.Values) bool { return !basic && form.Get("client_secret") == "secret" }
	return q
}

func (s *stage) tellsTwitch(t *testing.T, twitch *quirk) {
	account := claims{
		"sub": "713936733", "email": "hedy@example.com", "email_verified": true, "preferred_username": "HedyPlays",
		"picture": "https://static-cdn.example.com/hedy.png",
	}
	twitch.asked = func(authorize url.Values) {
		var wanted struct {
			IDToken claims `json:"id_token"`
		}
		_ = json.Unmarshal([]byte(authorize.Get("claims")), &wanted)
		person := claims{"sub": account["sub"]}
		for name := range wanted.IDToken {
			person[name] = account[name]
		}
		if !strings.Contains(authorize.Get("scope"), "user:read:email") {
			delete(person, "email")
		}
		twitch.next(person, nil)
	}
	_, landed := s.through(t, "twitch", "/in")
	mustBe(t, landed, http.StatusOK)
	s.wantAtApp(t, map[string]string{"Remote-Email": "hedy@example.com", "Remote-Name": "HedyPlays"})
	s.app.Forget()

	account["sub"], account["email"], account["email_verified"] = "713936734", "boss@example.com", false
	_, landed = s.through(t, "twitch", "/in")
	mustBe(t, landed, http.StatusForbidden)
	s.untouched(t)
}
