package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-login/caddy-login/module/guest"
)

// appToken is what an app hands in.
var appToken = guest.NativeToken{Kind: guest.AccessToken, Token: access}

func take(p guest.NativeTaker, n guest.NativeToken) (guest.Profile, error) {
	return p.TakeNative(context.Background(), n)
}

// asks has the server answer at a path to whoever proves to be our client, with
// this token in the form or the JSON.
func (f *fake) asks(path string, answer object) {
	f.aside[path] = func(w http.ResponseWriter, r *http.Request) {
		id, secret, _ := r.BasicAuth()
		if path == "/introspect" {
			id, _ = url.QueryUnescape(id)
			secret, _ = url.QueryUnescape(secret)
		}
		body, _ := io.ReadAll(r.Body)
		// The ID holds a colon, which GitHub's never do.
		if id+":"+secret != clientID+":"+clientSecret || !strings.Contains(string(body), access) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_ = json.NewEncoder(w).Encode(answer)
	}
}

func (f *fake) introspected(t testing.TB, change func(*OAuth2)) *OAuth2 {
	t.Helper()
	o := &OAuth2{
		Options: f.options(), Server: f.server(), UserinfoURL: f.URL + "/me", SubjectPath: "id", VerifiedPath: "verified",
		IntrospectionURL: f.URL + "/introspect",
	}
	if change != nil {
		change(o)
	}
	return open(t, o)
}

func TestAppsTokenThatWasIssuedToUsBecomesAProfile(t *testing.T) {
	f := newFake(t)
	f.pages["/me"] = `{"id":7,"email":"ada@example.com","verified":true,"name":"Ada"}`
	f.asks("/introspect", object{"active": true, "client_id": clientID, "sub": "ada", "exp": time.Now().Add(time.Hour).Unix()})
	got, err := take(f.introspected(t, nil), appToken)
	want := guest.Profile{Issuer: f.URL, Subject: "7", Email: "ada@example.com", EmailTrust: guest.Verified, Name: "Ada"}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// The API answers to the tokens of every app.
func TestAppsTokenThatWasIssuedToAnotherIsRefused(t *testing.T) {
	for what, test := range map[string]struct {
		answer   object
		audience bool
	}{
		"another's":         {object{"active": true, "client_id": "mallory's app"}, true},
		"nobody's":          {object{"active": true}, true},
		"null's":            {object{"active": true, "client_id": nil}, true},
		"several's":         {object{"active": true, "client_id": []string{clientID}}, true},
		"not active":        {object{"active": false, "client_id": clientID}, false},
		"active by a word":  {object{"active": "true", "client_id": clientID}, false},
		"active by nothing": {object{"client_id": clientID}, false},
		"another person's":  {object{"active": true, "client_id": clientID, "sub": "eve"}, false},
		"an error":          {object{"active": true, "client_id": clientID, "error": "invalid_client"}, false},
	} {
		f := newFake(t)
		f.pages["/me"] = `{"sub":"ada"}`
		f.asks("/introspect", test.answer)
		_, err := take(f.introspected(t, func(o *OAuth2) { o.SubjectPath = "sub" }), appToken)
		if err == nil || errors.Is(err, guest.ErrAudience) != test.audience || errors.Is(err, guest.ErrNotNative) {
			t.Errorf("%s: %v", what, err)
		}
		if asked := f.count("/me"); asked > 0 && what != "another person's" {
			t.Errorf("%s: its owner was asked for", what)
		}
		if err != nil && strings.Contains(err.Error(), access) {
			t.Errorf("%s: the error tells the token: %v", what, err)
		}
	}
}

func TestAppsTokenNeedsSomebodyToAsk(t *testing.T) {
	f := newFake(t)
	f.pages["/me"] = `{"id":"ada"}`
	discord := &Discord{}
	discord.Options, discord.Server, discord.APIURL = f.options(), f.server(), f.URL
	for what, test := range map[string]struct {
		provider guest.NativeTaker
		token    guest.NativeToken
	}{
		"no introspection":   {f.introspected(t, func(o *OAuth2) { o.IntrospectionURL = "" }), appToken},
		"a brand without":    {open(t, discord), appToken},
		"an ID token":        {f.introspected(t, nil), guest.NativeToken{Kind: guest.IDToken, Token: access}},
		"a token of no kind": {f.introspected(t, nil), guest.NativeToken{Token: access}},
	} {
		if _, err := take(test.provider, test.token); !errors.Is(err, guest.ErrNotNative) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if len(f.asked) > 0 {
		t.Errorf("%d requests were made", len(f.asked))
	}
}

func TestAppsTokenThatFitsNoHeaderIsRefused(t *testing.T) {
	f := newFake(t)
	for _, bad := range []string{"", "a b", "a\r\nX-Evil: 1", "ä", strings.Repeat("a", 9<<10), "a\x00"} {
		_, err := take(f.introspected(t, nil), guest.NativeToken{Kind: guest.AccessToken, Token: guest.Secret(bad)})
		wantRefusal(t, err, guest.Untrusted)
	}
	if len(f.asked) > 0 {
		t.Errorf("%d requests were made", len(f.asked))
	}
}

func TestAppsTokenIsRefusedWhereTheServerFails(t *testing.T) {
	for what, test := range map[string]struct {
		answer http.HandlerFunc
		want   guest.Reason
	}{
		"500":        {status(500), guest.Unavailable},
		"429":        {status(429), guest.Unavailable},
		"401":        {status(401), guest.Refused},
		"204":        {status(204), guest.Refused},
		"a redirect": {elsewhere(t), guest.Refused},
		"10 MB":      {big, guest.Untrusted},
		"no JSON":    {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, guest.Untrusted},
		"a list":     {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "[]") }, guest.Untrusted},
		"twice": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"active":false,"active":true,"client_id":"our client:1"}`)
		}, guest.Untrusted},
	} {
		t.Run(what, func(t *testing.T) {
			f := newFake(t)
			f.aside["/introspect"] = test.answer
			_, err := take(f.introspected(t, nil), appToken)
			wantRefusal(t, err, test.want)
		})
	}
}

func githubCheck(change object) object {
	answer := object{
		"id": 1, "app": object{"client_id": clientID, "name": "x", "url": "x"}, "user": object{"id": 583231, "login": "octocat"},
		"scopes": []string{"read:user", "user:email"}, "expires_at": nil, "token": "",
	}
	for name, value := range change {
		answer[name] = value
	}
	return answer
}

const githubChecks = "/applications/" + clientID + "/token"

func TestGitHubChecksWhoseTokenItIs(t *testing.T) {
	f := newGitHub(t)
	f.asks(githubChecks, githubCheck(nil))
	got, err := take(f.trusted(t, nil), appToken)
	if err != nil || got.Subject != "583231" || got.Email != "ada@example.com" || got.EmailTrust != guest.Verified {
		t.Errorf("got %+v, %v", got, err)
	}
	for what, answer := range map[string]object{
		"another app's":    githubCheck(object{"app": object{"client_id": "mallory"}}),
		"no app's":         githubCheck(object{"app": nil}),
		"another person's": githubCheck(object{"user": object{"id": 1}}),
		"nobody's":         githubCheck(object{"user": nil}),
		"a login's":        githubCheck(object{"user": object{"id": "octocat"}}),
	} {
		f := newGitHub(t)
		f.asks(githubChecks, answer)
		_, err := take(f.trusted(t, nil), appToken)
		wantRefusal(t, err, guest.Untrusted)
		if f.count("/user") > 0 && what != "another person's" {
			t.Errorf("%s: its owner was asked for", what)
		}
	}
	f = newGitHub(t)
	f.aside[githubChecks] = status(http.StatusNotFound)
	if _, err := take(f.trusted(t, nil), appToken); !errors.Is(err, guest.ErrAudience) {
		t.Errorf("a token that GitHub does not know as ours: %v", err)
	}
}

// The rules of the block hold for apps, too.
func TestGitHubTeamIsAskedForOfApps(t *testing.T) {
	f := newGitHub(t)
	f.asks(githubChecks, githubCheck(nil))
	_, err := take(f.trusted(t, func(g *GitHub) { g.Org = []string{"acme"} }), appToken)
	wantRefusal(t, err, guest.NotAllowed)
}

// debugs answers as Facebook's debug_token does to our app.
func (f *fake) debugs(t testing.TB, status int, answer any) {
	f.aside["/v26.0/debug_token"] = func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+clientID+"|"+clientSecret || r.URL.Query().Get("input_token") != access {
			t.Errorf("asked by %s for %s", r.Header.Get("Authorization"), r.URL)
		}
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(answer)
	}
}

func TestFacebookDebugsWhoseTokenItIs(t *testing.T) {
	good := func(change object) object {
		data := object{"app_id": clientID, "type": "USER", "is_valid": true, "user_id": "10223456789012345", "expires_at": 0, "scopes": []string{"email"}}
		for name, value := range change {
			data[name] = value
		}
		return object{"data": data}
	}
	for what, test := range map[string]struct {
		status   int
		answer   any
		audience bool
		want     guest.Reason
	}{
		"ours":               {200, good(nil), false, ""},
		"another app's":      {200, good(object{"app_id": "1"}), true, guest.Untrusted},
		"no app's":           {200, good(object{"app_id": nil}), true, guest.Untrusted},
		"not valid":          {200, good(object{"is_valid": false}), true, guest.Untrusted},
		"valid by a word":    {200, good(object{"is_valid": "true"}), true, guest.Untrusted},
		"a page's":           {200, good(object{"type": "PAGE"}), false, guest.Untrusted},
		"another person's":   {200, good(object{"user_id": "1"}), false, guest.Untrusted},
		"nobody's":           {200, good(object{"user_id": nil}), false, guest.Untrusted},
		"of another, by 400": {400, object{"error": object{"code": 100}}, true, guest.Untrusted},
		"a wrong secret":     {400, object{"error": object{"code": 190}}, false, guest.Refused},
		"no data":            {200, object{}, false, guest.Untrusted},
		"down":               {500, object{}, false, guest.Unavailable},
	} {
		f := newFake(t)
		f.pages["/v26.0/me"] = mona
		f.debugs(t, test.status, test.answer)
		got, err := take(f.facebook(t, nil), appToken)
		if test.want == "" {
			if err != nil || got.Subject != "10223456789012345" {
				t.Errorf("%s: %+v, %v", what, got, err)
			}
			continue
		}
		wantRefusal(t, err, test.want)
		if errors.Is(err, guest.ErrAudience) != test.audience {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A session that must be revalidated keeps what that is done with.
func TestAppsTokenIsKeptWhereItIsToBeAskedAgain(t *testing.T) {
	f := newGitHub(t)
	f.asks(githubChecks, githubCheck(nil))
	got, err := take(f.trusted(t, func(g *GitHub) { g.Revalidate = caddy.Duration(time.Hour) }), appToken)
	if err != nil || got.Tokens.Access != access {
		t.Errorf("keeps %v, %v", got.Tokens, err)
	}
	f = newGitHub(t)
	f.asks(githubChecks, githubCheck(object{"expires_at": time.Now().Add(8 * time.Hour).UTC().Format(time.RFC3339)}))
	_, err = take(f.trusted(t, func(g *GitHub) { g.Revalidate = caddy.Duration(time.Hour) }), appToken)
	wantRefusal(t, err, guest.Refused)
}
