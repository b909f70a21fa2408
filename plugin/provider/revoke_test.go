package provider

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/guest"
)

func TestWhatIsKnownNoMoreCountsAsRevoked(t *testing.T) {
	for name, row := range map[string]struct {
		status int
		body   string
		want   guest.Reason // empty: revoked
		cannot bool
	}{
		"nothing said":               {200, ``, "", false},
		"an empty object":            {200, `{}`, "", false},
		"no content":                 {204, ``, "", false},
		"a page":                     {200, `<html>`, "", false},
		"as X does":                  {200, `{"revoked":true}`, "", false},
		"as Google does":             {400, `{"error":"invalid_token","error_description":"Token expired or revoked: the-refresh"}`, "", false},
		"as Twitch does":             {400, `{"status":400,"message":"Invalid token"}`, "", false},
		"an error with 200":          {200, `{"error":"invalid_client"}`, guest.Refused, false},
		"our secret is wrong":        {401, `{"error":"invalid_client","error_description":"the-refresh s3cret"}`, guest.Refused, false},
		"it is us who are not known": {401, `{"error":"invalid_token"}`, guest.Refused, false},
		"a request not understood":   {400, `{"error":"invalid_request"}`, guest.Refused, false},
		"the code repeats the token": {400, `{"error":"the-refresh"}`, guest.Refused, false},
		"not of this kind":           {400, `{"error":"unsupported_token_type"}`, guest.Refused, true},
		"not of this kind, in haste": {503, `{"error":"unsupported_token_type"}`, guest.Unavailable, false},
		"no such place":              {404, ``, guest.Refused, false},
		"too often":                  {429, `{"error":"invalid_token"}`, guest.Unavailable, false},
		"down":                       {500, `{"error":"invalid_token"}`, guest.Unavailable, false},
		"later":                      {503, ``, guest.Unavailable, false},
		"the portal of a captor":     {302, `{"error":"invalid_token"}`, guest.Refused, false},
	} {
		t.Run(name, func(t *testing.T) {
			address, _ := endpoint(t, row.status, "application/json", row.body)
			err := Revocation{URL: address, ClientID: "c", Secret: "s3cret", Token: "the-refresh", Kind: RefreshToken}.Do(context.Background(), client())
			if (err == nil) != (row.want == "") || err != nil && guest.ReasonOf(err) != row.want || errors.Is(err, guest.ErrNotRevocable) != row.cannot {
				t.Fatalf("got %v", err)
			}
			if err != nil && (strings.Contains(err.Error(), "the-refresh") || strings.Contains(err.Error(), "s3cret")) {
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
}

func TestRevocationSendsNothingInItsAddress(t *testing.T) {
	for name, row := range map[string]struct {
		ask     Revocation
		form    string
		user    string
		without string
	}{
		"post":      {Revocation{ClientID: "id", Secret: "s", Kind: AccessToken}, "client_id=id&client_secret=s&token=the-token&token_type_hint=access_token", "", ""},
		"basic":     {Revocation{ClientID: "i d", Secret: "s", Basic: true, Kind: RefreshToken}, "token=the-token&token_type_hint=refresh_token", "i+d", ""},
		"public":    {Revocation{ClientID: "id"}, "client_id=id&token=the-token", "", ""},
		"alone":     {Revocation{}, "token=the-token", "", ""},
		"assertion": {Revocation{ClientID: "id", Secret: "s", Basic: true, Assertion: "a.b.c"}, "", "", "client_secret"},
	} {
		t.Run(name, func(t *testing.T) {
			address, asked := endpoint(t, 200, "", "")
			row.ask.URL, row.ask.Token = address, "the-token"
			if err := row.ask.Do(context.Background(), client()); err != nil {
				t.Fatal(err)
			}
			r := asked()
			user, _, _ := r.BasicAuth()
			if r.Method != http.MethodPost || r.URL.RawQuery != "" || user != row.user || row.form != "" && r.PostForm.Encode() != row.form {
				t.Errorf("asked %s %s by %q with %v", r.Method, r.URL, user, r.PostForm)
			}
			if row.without != "" && (r.PostForm.Has(row.without) || r.PostForm.Get("client_assertion") != "a.b.c") {
				t.Errorf("asked with %v", r.PostForm)
			}
		})
	}
}

func TestDeadRevocationEndpointIsAskedAgainLater(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	err := Revocation{URL: server.URL, Token: "the-token"}.Do(context.Background(), client())
	if err == nil || guest.ReasonOf(err) != guest.Unavailable || errors.Is(err, guest.ErrNotRevocable) {
		t.Errorf("got %v", err)
	}
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(hanging.Close)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := (Revocation{URL: hanging.URL, Token: "the-token"}).Do(ctx, client()); guest.ReasonOf(err) != guest.Unavailable {
		t.Errorf("got %v", err)
	}
}

func TestRefreshTokenIsRevokedBeforeTheAccessToken(t *testing.T) {
	all := guest.Granted{Tokens: guest.Tokens{Access: "a", Refresh: "r"}, Consent: "c"}
	for name, row := range map[string]struct {
		granted     guest.Granted
		unsupported string // kind that is not revoked
		fails       bool
		want        string // what was asked for, in turn
		cannot      bool
	}{
		"all of it":                {all, "", false, "r ", false},
		"a consent":                {guest.Granted{Consent: "c", Tokens: guest.Tokens{Access: "a"}}, "", false, "c ", false},
		"an access token":          {guest.Granted{Tokens: guest.Tokens{Access: "a"}}, "", false, "a ", false},
		"nothing":                  {guest.Granted{Issuer: "i", Subject: "s"}, "", false, "", true},
		"no refresh tokens taken":  {all, RefreshToken, false, "r c a ", false},
		"no access tokens taken":   {guest.Granted{Tokens: guest.Tokens{Access: "a"}}, AccessToken, false, "a ", true},
		"the endpoint is down":     {all, "", true, "r ", false},
		"down, and only an access": {guest.Granted{Tokens: guest.Tokens{Access: "a"}}, "", true, "a ", false},
	} {
		t.Run(name, func(t *testing.T) {
			var asked strings.Builder
			err := RevokeGrant(row.granted, func(r Revocation) error {
				asked.WriteString(string(r.Token) + " ")
				switch {
				case row.fails:
					return Unavailable("down")
				case r.Kind == row.unsupported:
					return NotRevocable("none of the kind %s", r.Kind)
				}
				return nil
			})
			if asked.String() != row.want || errors.Is(err, guest.ErrNotRevocable) != row.cannot || (err == nil) == (row.cannot || row.fails) {
				t.Errorf("asked for %q, %v", asked.String(), err)
			}
		})
	}
}

func TestRevocationMovesWithTheTokenEndpoint(t *testing.T) {
	for _, row := range [][3]string{
		{"https://oauth2.googleapis.com/token", "revoke", "https://oauth2.googleapis.com/revoke"},
		{"https://discord.com/api/oauth2/token", "token/revoke", "https://discord.com/api/oauth2/token/revoke"},
		{"https://slack.com/api/openid.connect.token", "auth.revoke", "https://slack.com/api/auth.revoke"},
		{"http://localhost:9000/t/token?tenant=a", "revoke", "http://localhost:9000/t/revoke"},
		{"https://a.example/\x00", "revoke", ""},
	} {
		if got := Beside(row[0], row[1]); got != row[2] {
			t.Errorf("beside %s is %s", row[0], got)
		}
	}
}

func TestGroupsAreAllOrNone(t *testing.T) {
	long := `"` + strings.Repeat("g", 256) + `"`
	list := func(name string, n int) string { return `["` + strings.Repeat(name+`","`, n-1) + name + `"]` }
	for written, want := range map[string]int{
		`{"groups":["a","b"]}`:               2,
		`{"groups":"a"}`:                     1,
		`{"groups":["a b","c,d"]}`:           2,
		`{}`:                                 0,
		`{"groups":null}`:                    0,
		`{"groups":[]}`:                      0,
		`{"groups":` + long + `}`:            1,
		`{"groups":""}`:                      -1,
		`{"groups":["a",""]}`:                -1,
		`{"groups":"a\n"}`:                   -1,
		`{"groups":["a\u0000"]}`:             -1,
		`{"groups":["\u0085a"]}`:             -1,
		`{"groups":["a",7]}`:                 -1,
		`{"groups":["a",null]}`:              -1,
		`{"groups":["a",["b"]]}`:             -1,
		`{"groups":{"a":true}}`:              -1,
		`{"groups":7}`:                       -1,
		`{"groups":true}`:                    -1,
		`{"groups":"g` + long[1:] + `}`:      -1,
		`{"groups":` + list("g", 1000) + `}`: 1000,
		`{"groups":` + list("g", 1001) + `}`: -1,
		`{"groups":` + list(strings.Repeat("g", 256), 256) + `}`:                256, // 64 KiB
		`{"groups":` + list(strings.Repeat("g", 256), 257) + `}`:                -1,
		`{"groups":["a"],"_claim_names":{"groups":"src1"}}`:                     -1,
		`{"_claim_names":{"groups":"src1"}}`:                                    -1,
		`{"groups":["a"],"_claim_names":{"roles":"src1"}}`:                      1,
		`{"groups":["a"],"_claim_names":["groups"]}`:                            -1,
		`{"groups":["a"],"hasgroups":true}`:                                     -1,
		`{"groups":["a"],"hasgroups":"true"}`:                                   -1,
		`{"groups":["a"],"hasgroups":false}`:                                    1,
		`{"hasgroups":true,"_claim_sources":{"src1":{"endpoint":"https://x"}}}`: -1,
	} {
		c, err := ParseClaims([]byte(written))
		if err != nil {
			t.Fatalf("%.60s: %v", written, err)
		}
		got, ok := c.Groups("groups")
		if ok != (want >= 0) || ok && len(got) != want || !ok && got != nil {
			t.Errorf("%.60s: %d groups, %v", written, len(got), ok)
		}
	}
	if got, ok := (Claims{"roles": []byte(`["a"]`), "hasgroups": []byte(`true`)}).Groups("roles"); !ok || len(got) != 1 {
		t.Errorf("hasgroups speaks of another claim: %q, %v", got, ok)
	}
}
