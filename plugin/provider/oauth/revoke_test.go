package oauth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

// asked is what an endpoint was asked for, and how often.
type asked struct {
	method, query, auth string
	id, secret          string
	form                url.Values
	body                map[string]string
	times               int
}

// revokes has the fake answer at path.
func (f *fake) revokes(path string, status int, body string) *asked {
	a := new(asked)
	f.aside[path] = func(w http.ResponseWriter, r *http.Request) {
		a.times++
		a.method, a.query, a.auth = r.Method, r.URL.RawQuery, r.Header.Get("Authorization")
		a.id, a.secret, _ = r.BasicAuth()
		if r.Header.Get("Content-Type") == "application/json" {
			_ = json.NewDecoder(r.Body).Decode(&a.body)
		}
		_ = r.ParseForm()
		a.form = r.PostForm
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
	return a
}

func (f *fake) granted() guest.Granted {
	return guest.Granted{Issuer: f.URL, Subject: "583231", Tokens: guest.Tokens{Access: access, Refresh: refresh}}
}

// wantRevocation checks how a revocation ended; an empty want is well.
func wantRevocation(t testing.TB, err error, want guest.Reason, cannot bool) {
	t.Helper()
	if errors.Is(err, guest.ErrNotRevocable) != cannot {
		t.Errorf("it could never be done: %v, want %v: %v", !cannot, cannot, err)
	}
	if want == "" && err != nil {
		t.Error(err)
	}
	if want != "" {
		wantRefusal(t, err, want)
	}
}

func TestServerRevokesWhereItsOperatorSays(t *testing.T) {
	for name, row := range map[string]struct {
		auth string
		id   string
		form url.Values
	}{
		"basic": {"", url.QueryEscape(clientID), url.Values{"token": {refresh}, "token_type_hint": {"refresh_token"}}},
		"post": {"post", "", url.Values{"token": {refresh}, "token_type_hint": {"refresh_token"},
			"client_id": {clientID}, "client_secret": {clientSecret}}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			a := f.revokes("/forget", 200, "")
			p := f.forum(t, func(o *OAuth2) { o.RevocationURL, o.ClientAuth = f.URL+"/forget", row.auth })
			if err := p.Revoke(context.Background(), f.granted()); err != nil {
				t.Fatal(err)
			}
			if a.method != http.MethodPost || a.query != "" || a.id != row.id || a.form.Encode() != row.form.Encode() {
				t.Errorf("asked %s ?%s by %q with %v", a.method, a.query, a.id, a.form)
			}
		})
	}
}

func TestServerThatCannotRevokeSaysSo(t *testing.T) {
	f := newFake(t)
	wantRevocation(t, f.forum(t, nil).Revoke(context.Background(), f.granted()), guest.Refused, true)
	a := f.revokes("/forget", 200, "")
	p := f.forum(t, func(o *OAuth2) { o.RevocationURL = f.URL + "/forget" })
	wantRevocation(t, p.Revoke(context.Background(), guest.Granted{Issuer: f.URL, Subject: "1"}), guest.Refused, true)
	another := f.granted()
	another.Issuer = "https://evil.example"
	wantRevocation(t, p.Revoke(context.Background(), another), guest.Refused, true)
	if a.times != 0 {
		t.Errorf("asked %d times", a.times)
	}
}

func TestServerThatIsDownIsAskedAgainLater(t *testing.T) {
	f := newFake(t)
	f.revokes("/forget", 503, "")
	p := f.forum(t, func(o *OAuth2) { o.RevocationURL = f.URL + "/forget" })
	wantRevocation(t, p.Revoke(context.Background(), f.granted()), guest.Unavailable, false)
	f.Close()
	wantRevocation(t, p.Revoke(context.Background(), f.granted()), guest.Unavailable, false)
}

func TestBrandsAreRevokedAsTheyDocumentIt(t *testing.T) {
	paths := map[string]string{"discord": "/token/revoke", "x": "/revoke"}
	eachBrand(t, func(t *testing.T, f *fake, row brandRow) {
		p := row.open(t, f, nil)
		brand := p.Traits().Brand
		// token_url is the fake's /token: what is beside it moves along.
		a := f.revokes("/revoke", 200, `{"revoked":true}`)
		if brand == "discord" {
			a = f.revokes("/token/revoke", 200, `{}`)
		}
		err := p.(guest.Revoker).Revoke(context.Background(), f.granted())
		if paths[brand] == "" {
			wantRevocation(t, err, guest.Refused, true)
			return
		}
		wantRevocation(t, err, "", false)
		if a.times != 1 || a.id != url.QueryEscape(clientID) || a.form.Get("token") != refresh || a.form.Has("client_secret") {
			t.Errorf("asked %d times by %q with %v", a.times, a.id, a.form)
		}
	})
}

func TestGitHubDeletesTheGrant(t *testing.T) {
	const app, path = "Iv1.8a61f9b3a7aba766", "/applications/Iv1.8a61f9b3a7aba766/grant"
	for name, row := range map[string]struct {
		status int
		want   guest.Reason
	}{
		"deleted":             {204, ""},
		"not known":           {404, ""},
		"our secret is wrong": {401, guest.Refused},
		"too much of it":      {422, guest.Refused},
		"too often":           {429, guest.Unavailable},
		"down":                {500, guest.Unavailable},
		"moved":               {307, guest.Refused},
	} {
		t.Run(name, func(t *testing.T) {
			f := newGitHub(t)
			a := f.revokes(path, row.status, `{"message":"the-access"}`)
			err := f.github(t, func(g *GitHub) { g.ClientID = app }).Revoke(context.Background(), f.granted())
			wantRevocation(t, err, row.want, false)
			if a.times != 1 || a.method != http.MethodDelete || a.query != "" || a.id != app || a.secret != clientSecret || a.body["access_token"] != access {
				t.Errorf("asked %d times %s ?%s by %q with %v", a.times, a.method, a.query, a.id, a.body)
			}
		})
	}
}

func TestGitHubIsAskedWithATokenThatIsStillGood(t *testing.T) {
	past := time.Now().Add(-time.Hour)
	for name, row := range map[string]struct {
		tokens guest.Tokens
		want   guest.Reason
		with   string
	}{
		"expired, renewed":       {guest.Tokens{Access: access, Refresh: refresh, Expires: past}, "", fresh},
		"none, renewed":          {guest.Tokens{Refresh: refresh}, "", fresh},
		"expired for good":       {guest.Tokens{Access: access, Expires: past}, guest.Refused, ""},
		"the refresh token, too": {guest.Tokens{Access: access, Refresh: "the-former", Expires: past}, guest.Refused, ""},
		"nothing kept":           {guest.Tokens{}, guest.Refused, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := newGitHub(t)
			a := f.revokes("/applications/our client:1/grant", 204, "")
			err := f.github(t, nil).Revoke(context.Background(), guest.Granted{Issuer: f.URL, Subject: "583231", Tokens: row.tokens})
			wantRevocation(t, err, row.want, row.want != "")
			if a.body["access_token"] != row.with {
				t.Errorf("asked with %q", a.body["access_token"])
			}
		})
	}
	f := newGitHub(t)
	f.tokenStatus = 503
	err := f.github(t, nil).Revoke(context.Background(), guest.Granted{Issuer: f.URL, Subject: "1", Tokens: guest.Tokens{Refresh: refresh}})
	wantRevocation(t, err, guest.Unavailable, false)
}

func TestFacebookIsRevokedByTheAppItself(t *testing.T) {
	app := clientID + "|" + clientSecret
	mac := hmac.New(sha256.New, []byte(clientSecret))
	mac.Write([]byte(app))
	proof := "appsecret_proof=" + hex.EncodeToString(mac.Sum(nil))
	for name, row := range map[string]struct {
		status int
		body   string
		want   guest.Reason
		cannot bool
	}{
		"done":                {200, `{"success":true}`, "", false},
		"true":                {200, "true\n", "", false},
		"no success":          {200, `{"success":false}`, guest.Refused, false},
		"nothing said":        {200, ``, guest.Refused, false},
		"nobody of this id":   {400, `{"error":{"message":"Unsupported delete request.","code":100,"error_subcode":33}}`, guest.Refused, true},
		"our secret is wrong": {400, `{"error":{"message":"s3cr+t: /x","code":190}}`, guest.Refused, false},
		"too often":           {429, ``, guest.Unavailable, false},
		"down":                {500, ``, guest.Unavailable, false},
		"true from elsewhere": {302, `true`, guest.Refused, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			a := f.revokes("/v26.0/583231/permissions", row.status, row.body)
			err := f.facebook(t, nil).Revoke(context.Background(), guest.Granted{Issuer: f.URL, Subject: "583231"})
			wantRevocation(t, err, row.want, row.cannot)
			if a.times != 1 || a.method != http.MethodDelete || a.auth != "Bearer "+app || a.query != proof {
				t.Errorf("asked %d times %s ?%s", a.times, a.method, a.query)
			}
		})
	}
	f := newFake(t)
	for _, odd := range []string{"", "me", "1/../2", "583231?x"} {
		err := f.facebook(t, nil).Revoke(context.Background(), guest.Granted{Issuer: f.URL, Subject: odd})
		wantRevocation(t, err, guest.Refused, true)
	}
	if len(f.asked) != 0 {
		t.Error("an odd subject was asked about")
	}
}

func TestServersAreAskedToAskAnewAsTheyKnowIt(t *testing.T) {
	a := attempt()
	a.Reauthenticate = true
	f := newFake(t)
	if got := begin(t, f.facebook(t, nil), a); got.Get("auth_type") != "reauthenticate" {
		t.Errorf("asks for %v", got)
	}
	if got := begin(t, newGitHub(t).github(t, nil), a); got.Get("prompt") != "select_account" {
		t.Errorf("asks for %v", got)
	}
	if got := begin(t, f.forum(t, nil), a); got.Has("prompt") || got.Has("max_age") {
		t.Errorf("asks for %v", got)
	}
	a.Reauthenticate, a.SwitchAccount = false, true
	if got := begin(t, f.facebook(t, nil), a); got.Has("auth_type") {
		t.Errorf("to switch, asks for %v", got)
	}
}
