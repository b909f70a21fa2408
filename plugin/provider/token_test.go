package provider

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

var epoch = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func now() time.Time { return epoch }

// endpoint is a token endpoint that answers everything alike, and the last
// request's header and form.
func endpoint(t *testing.T, status int, contentType, body string) (address string, asked func() *http.Request) {
	var last *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		last = r
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	return server.URL, func() *http.Request { return last }
}

func client() *http.Client {
	return &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func TestTokenAnswersAreRead(t *testing.T) {
	const form, asJSON = "application/x-www-form-urlencoded; charset=utf-8", "application/json"
	for name, row := range map[string]struct {
		contentType, body string
		want              Tokens
	}{
		"all of it": {asJSON, `{"access_token":"a","refresh_token":"r","id_token":"i","scope":"x y","expires_in":60,"token_type":"bEARER","new":{}}`,
			Tokens{Access: "a", Refresh: "r", ID: "i", Scope: "x y", Expires: epoch.Add(time.Minute)}},
		"a form": {form, `access_token=a&refresh_token=r&expires_in=60&scope=x+y&token_type=bearer`,
			Tokens{Access: "a", Refresh: "r", Scope: "x y", Expires: epoch.Add(time.Minute)}},
		"a form as text":     {"text/plain", `access_token=a%22&scope=`, Tokens{Access: `a"`}},
		"JSON as text":       {"text/plain", ` {"access_token":"a"}`, Tokens{Access: "a"}},
		"JSON as a form":     {form, `{"access_token":"a"}`, Tokens{Access: "a"}},
		"JSON as nothing":    {"", `{"access_token":"a"}`, Tokens{Access: "a"}},
		"scopes as a list":   {asJSON, `{"access_token":"a","scope":["x","y"]}`, Tokens{Access: "a", Scope: "x y"}},
		"seconds as text":    {asJSON, `{"access_token":"a","expires_in":"60"}`, Tokens{Access: "a", Expires: epoch.Add(time.Minute)}},
		"seconds with a dot": {asJSON, `{"access_token":"a","expires_in":60.9}`, Tokens{Access: "a", Expires: epoch.Add(time.Minute)}},
		"at once":            {asJSON, `{"access_token":"a","expires_in":0}`, Tokens{Access: "a", Expires: epoch}},
		"before":             {asJSON, `{"access_token":"a","expires_in":-1e300}`, Tokens{Access: "a", Expires: epoch}},
		"never":              {asJSON, `{"access_token":"a","expires_in":1e300}`, Tokens{Access: "a"}},
		"not a number":       {asJSON, `{"access_token":"a","expires_in":"NaN"}`, Tokens{Access: "a"}},
		"null":               {asJSON, `{"access_token":"a","expires_in":null,"refresh_token":null,"error":null,"token_type":null}`, Tokens{Access: "a"}},
		"a word":             {asJSON, `{"access_token":"a","expires_in":"soon"}`, Tokens{Access: "a"}},
		"a list":             {asJSON, `{"access_token":"a","expires_in":[60]}`, Tokens{Access: "a"}},
		"an empty error":     {asJSON, `{"access_token":"a","error":""}`, Tokens{Access: "a"}},
		"names of another case": {asJSON, `{"access_token":"a","Access_Token":"b","Refresh_token":"r"}`,
			Tokens{Access: "a"}},
	} {
		t.Run(name, func(t *testing.T) {
			address, _ := endpoint(t, 200, row.contentType, row.body)
			got, err := Grant{TokenURL: address, ClientID: "c", Code: "x", Now: now}.Spend(context.Background(), client())
			if err != nil || got != row.want {
				t.Errorf("got %+v, %v; want %+v", got, err, row.want)
			}
		})
	}
}

func TestTokenAnswersThatAreNone(t *testing.T) {
	for body, want := range map[string]guest.Reason{
		``: guest.Refused, `null`: guest.Refused, `[]`: guest.Refused, `{}`: guest.Refused, `<html>`: guest.Refused,
		`{"access_token":""}`: guest.Refused, `{"access_token":7}`: guest.Refused, `{"access_token":"a"}x`: guest.Refused,
		`{"access_token":"a","access_token":"b"}`:    guest.Refused,
		`{"access_token":"a","error":"x"}`:           guest.Refused,
		`{"access_token":"a","token_type":"DPoP"}`:   guest.Untrusted,
		`{"access_token":"a\r\nX: y"}`:               guest.Untrusted,
		`{"access_token":"ä"}`:                       guest.Untrusted,
		`{"access_token":"a","refresh_token":"\n"}`:  guest.Untrusted,
		strings.Repeat(" ", maxTokenAnswer) + `{}`:   guest.Refused,
		`{"a":` + strings.Repeat(`[`, 1000) + `"x"}`: guest.Refused,
	} {
		address, _ := endpoint(t, 200, "application/json", body)
		got, err := Grant{TokenURL: address, ClientID: "c", Code: "x"}.Spend(context.Background(), client())
		if err == nil || guest.ReasonOf(err) != want || got != (Tokens{}) || errors.Is(err, guest.ErrGrantEnded) {
			t.Errorf("%.40s: got %v, want %s", body, err, want)
		}
	}
}

func TestFormsAreReadExactly(t *testing.T) {
	for _, bad := range []string{`access_token=a&access_token=b`, `access_token=%zz`, `access_token=a;b`, ``} {
		address, _ := endpoint(t, 200, "text/plain", bad)
		if got, err := (Grant{TokenURL: address, Code: "x"}).Spend(context.Background(), client()); err == nil {
			t.Errorf("%s was read as %+v", bad, got)
		}
	}
}

func TestClientProvesItselfOneWay(t *testing.T) {
	for name, row := range map[string]struct {
		grant      Grant
		basic      string
		form       url.Values
		without    []string
		user, pass string
	}{
		"post": {grant: Grant{ClientID: "i d", Secret: "s:"}, form: url.Values{"client_id": {"i d"}, "client_secret": {"s:"}}, without: []string{"client_assertion"}},
		"basic": {grant: Grant{ClientID: "i d", Secret: "s:/", Basic: true}, user: "i+d", pass: "s%3A%2F",
			without: []string{"client_id", "client_secret"}},
		"public": {grant: Grant{ClientID: "id"}, form: url.Values{"client_id": {"id"}}, without: []string{"client_secret"}},
		"assertion": {grant: Grant{ClientID: "id", Secret: "s", Basic: true, Assertion: "a.b.c"},
			form: url.Values{"client_id": {"id"}, "client_assertion": {"a.b.c"}, "client_assertion_type": {assertionType}}, without: []string{"client_secret"}},
	} {
		t.Run(name, func(t *testing.T) {
			address, asked := endpoint(t, 200, "application/json", `{"access_token":"a"}`)
			row.grant.TokenURL, row.grant.Code, row.grant.RedirectURI, row.grant.Verifier = address, "c", "https://a.example/", "v"
			if _, err := row.grant.Spend(context.Background(), client()); err != nil {
				t.Fatal(err)
			}
			r := asked()
			user, pass, _ := r.BasicAuth()
			if user != row.user || pass != row.pass || r.Header.Get("Accept") != "application/json" || r.URL.RawQuery != "" {
				t.Errorf("header is %v", r.Header)
			}
			for key, value := range map[string]string{"grant_type": "authorization_code", "code": "c", "redirect_uri": "https://a.example/", "code_verifier": "v"} {
				if r.PostForm.Get(key) != value {
					t.Errorf("%s is %q", key, r.PostForm.Get(key))
				}
			}
			for key := range row.form {
				if r.PostForm.Get(key) != row.form.Get(key) {
					t.Errorf("%s is %q", key, r.PostForm.Get(key))
				}
			}
			for _, key := range row.without {
				if r.PostForm.Has(key) {
					t.Errorf("%s is sent", key)
				}
			}
		})
	}
}

func TestRefreshKeepsTheOldTokenWhereThereIsNoNewOne(t *testing.T) {
	for body, want := range map[string]guest.Secret{
		`{"access_token":"a"}`: "old", `{"access_token":"a","refresh_token":""}`: "old", `{"access_token":"a","refresh_token":"new"}`: "new",
	} {
		address, asked := endpoint(t, 200, "application/json", body)
		got, err := Refresh{TokenURL: address, ClientID: "id", Token: "old", Now: now}.Do(context.Background(), client())
		if err != nil || got.Refresh != want || got.Access != "a" || !got.Expires.IsZero() {
			t.Errorf("%s: kept the right one: %v, %v", body, got.Refresh == want, err)
		}
		form := asked().PostForm
		if form.Encode() != "client_id=id&grant_type=refresh_token&refresh_token=old" {
			t.Errorf("the form has %v", form)
		}
	}
}

func TestOnlyARefusedRefreshTokenEndsTheGrant(t *testing.T) {
	for name, row := range map[string]struct {
		status int
		body   string
		want   guest.Reason
		ends   bool
	}{
		"invalid_grant":       {400, `{"error":"invalid_grant","error_description":"old"}`, guest.Refused, true},
		"the same as 200":     {200, `{"error":"invalid_grant","access_token":"a"}`, guest.Refused, true},
		"the same as 401":     {401, `{"error":"invalid_grant"}`, guest.Refused, true},
		"GitHub's":            {200, `{"error":"bad_refresh_token","error_description":"old"}`, guest.Refused, true},
		"the same as 500":     {500, `{"error":"invalid_grant"}`, guest.Unavailable, false},
		"the same as 429":     {429, `{"error":"invalid_grant"}`, guest.Unavailable, false},
		"the same as 302":     {302, `{"error":"invalid_grant"}`, guest.Refused, false},
		"in capitals":         {400, `{"error":"INVALID_GRANT"}`, guest.Refused, false},
		"in a list":           {400, `{"error":["invalid_grant"]}`, guest.Refused, false},
		"written twice":       {400, `{"error":"invalid_grant","error":"x"}`, guest.Refused, false},
		"only described":      {400, `{"error_description":"invalid_grant"}`, guest.Refused, false},
		"invalid_client":      {401, `{"error":"invalid_client"}`, guest.Refused, false},
		"unauthorized_client": {400, `{"error":"unauthorized_client"}`, guest.Refused, false},
		"nothing":             {400, ``, guest.Refused, false},
	} {
		t.Run(name, func(t *testing.T) {
			address, _ := endpoint(t, row.status, "application/json", row.body)
			_, err := Refresh{TokenURL: address, ClientID: "id", Secret: "s3cret", Token: "old"}.Do(context.Background(), client())
			if err == nil || errors.Is(err, guest.ErrGrantEnded) != row.ends || guest.ReasonOf(err) != row.want {
				t.Fatalf("got %v", err)
			}
			if text := strings.ReplaceAll(err.Error(), address, ""); strings.Contains(text, "old") || strings.Contains(text, "s3cret") {
				t.Errorf("error tells a secret: %s", text)
			}
		})
	}
}

// The same words about a code are no word about a person who is signed in.
func TestRefusedCodeEndsNoGrant(t *testing.T) {
	address, _ := endpoint(t, 400, "application/json", `{"error":"invalid_grant"}`)
	_, err := Grant{TokenURL: address, Code: "c"}.Spend(context.Background(), client())
	if err == nil || errors.Is(err, guest.ErrGrantEnded) || !strings.Contains(err.Error(), "invalid_grant") {
		t.Errorf("got %v", err)
	}
}

func TestRefreshWithoutATokenAsksNobody(t *testing.T) {
	address, asked := endpoint(t, 200, "application/json", `{"access_token":"a"}`)
	_, err := Refresh{TokenURL: address}.Do(context.Background(), client())
	if err == nil || errors.Is(err, guest.ErrGrantEnded) || asked() != nil {
		t.Errorf("got %v", err)
	}
}

// Whatever a token endpoint writes, tokens that come of it fit into a header
// and have one meaning.
func FuzzTokenAnswer(f *testing.F) {
	f.Add([]byte(`{"access_token":"a","refresh_token":"r","expires_in":"60","scope":["x"]}`), "application/json")
	f.Add([]byte(`access_token=a&expires_in=-1`), "text/plain")
	f.Fuzz(func(t *testing.T, body []byte, contentType string) {
		w := httptest.NewRecorder()
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(body)
		said, err := tokenAnswer(w.Result())
		if err != nil {
			return
		}
		tokens, err := tokenRequest{now: now}.read(said)
		if err != nil {
			return
		}
		if strings.ContainsFunc(tokens.Access+string(tokens.Refresh), invisible) {
			t.Errorf("%q became %q", body, tokens.Access)
		}
		if !tokens.Expires.IsZero() && (tokens.Expires.Before(epoch) || tokens.Expires.Year() > 2100) {
			t.Errorf("%q expires at %s", body, tokens.Expires)
		}
	})
}
