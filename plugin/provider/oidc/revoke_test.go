package oidc

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	jose "github.com/go-jose/go-jose/v4"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// revoker is an endpoint of the issuer's that takes tokens back.
type revoker struct {
	path   string
	status int
	body   string

	asked []*http.Request
}

// revokes has the issuer answer at path, and all that it answered before
// elsewhere.
func (i *issuer) revokes(path string, status int, body string) *revoker {
	r := &revoker{path: path, status: status, body: body}
	before := i.intruder
	i.intruder = func(w http.ResponseWriter, asked *http.Request) bool {
		if asked.URL.Path != path {
			return before != nil && before(w, asked)
		}
		_ = asked.ParseForm()
		i.mu.Lock()
		defer i.mu.Unlock()
		r.asked = append(r.asked, asked)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(r.status)
		_, _ = w.Write([]byte(r.body))
		return true
	}
	return r
}

// only is the one request that was made.
func (r *revoker) only(t testing.TB) *http.Request {
	t.Helper()
	if len(r.asked) != 1 {
		t.Fatalf("asked %d times", len(r.asked))
	}
	return r.asked[0]
}

func granted(issuer string) guest.Granted {
	return guest.Granted{
		Issuer: issuer, Subject: "sub-1",
		Tokens: guest.Tokens{Access: "the-access", Refresh: "the-refresh"},
	}
}

func TestRevokesWhereTheDocumentSays(t *testing.T) {
	i := newIssuer(t)
	i.doc = object{"revocation_endpoint": i.Server.URL + "/forget"}
	r := i.revokes("/forget", 200, "")
	if err := i.oidc(t).Revoke(context.Background(), granted(i.url)); err != nil {
		t.Fatal(err)
	}
	asked := r.only(t)
	user, pass, _ := asked.BasicAuth()
	if user != url.QueryEscape(clientID) || pass != url.QueryEscape(clientSecret) {
		t.Errorf("asked by %q", user)
	}
	if want := "token=the-refresh&token_type_hint=refresh_token"; asked.Method != http.MethodPost || asked.URL.RawQuery != "" || asked.PostForm.Encode() != want {
		t.Errorf("%s %s with %v", asked.Method, asked.URL, asked.PostForm)
	}
}

func TestRevokesWhereTheOperatorSays(t *testing.T) {
	t.Setenv("REVOCATION_TEST", "/else")
	i := newIssuer(t)
	i.doc = object{"revocation_endpoint": i.Server.URL + "/forget"}
	r := i.revokes("/else", 200, "")
	p := open(t, i, &OIDC{
		Options: i.options(), Endpoints: Endpoints{Issuer: i.url}, ClientAuth: "post", RevocationURL: i.Server.URL + "{env.REVOCATION_TEST}",
	})
	if err := p.Revoke(context.Background(), granted(i.url)); err != nil {
		t.Fatal(err)
	}
	if form := r.only(t).PostForm; form.Get("client_id") != clientID || form.Get("client_secret") != clientSecret {
		t.Errorf("asked with %v", form)
	}
	bad := &OIDC{Options: i.options(), Endpoints: Endpoints{Issuer: i.url}, RevocationURL: "http://sso.example.com"}
	if err := bad.Provision(caddy.Context{}); err == nil || !strings.Contains(err.Error(), `revocation_url: "http://sso.example.com" must be https`) {
		t.Errorf("got %v", err)
	}
}

func TestWhatCannotBeRevokedIsSaidSo(t *testing.T) {
	none := guest.Granted{Subject: "sub-1"}
	for name, row := range map[string]struct {
		doc     object
		granted func(guest.Granted) guest.Granted
	}{
		"no endpoint":    {nil, nil},
		"nothing kept":   {object{"revocation_endpoint": "https://a.example"}, func(g guest.Granted) guest.Granted { none.Issuer = g.Issuer; return none }},
		"another issuer": {object{"revocation_endpoint": "https://a.example"}, func(g guest.Granted) guest.Granted { g.Issuer = "https://evil.example"; return g }},
		"a bad address":  {object{"revocation_endpoint": "http://10.0.0.1/revoke"}, nil},
		"no address":     {object{"revocation_endpoint": 7}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			i.doc = row.doc
			g := granted(i.url)
			if row.granted != nil {
				g = row.granted(g)
			}
			err := i.oidc(t).Revoke(context.Background(), g)
			if !errors.Is(err, guest.ErrNotRevocable) || strings.Contains(err.Error(), "the-") {
				t.Errorf("got %v", err)
			}
			if name == "nothing kept" && i.discovered.Load() != 0 {
				t.Error("the issuer was asked for nothing")
			}
		})
	}
}

func TestUnusableRevocationEndpointKeepsNobodyOut(t *testing.T) {
	var log bytes.Buffer
	i := newIssuer(t)
	i.doc = object{"revocation_endpoint": "http://10.0.0.1/revoke", "end_session_endpoint": nil}
	p := i.oidc(t)
	env := i.env()
	env.Log = slog.New(slog.NewTextHandler(&log, nil))
	lend(t, p, env)
	if _, err := i.signIn(t, p); err != nil {
		t.Error(err)
	}
	if strings.Count(log.String(), "revocation_endpoint is unusable") != 1 {
		t.Errorf("logged %s", log.String())
	}
}

func TestRevocationThatFailsMayBeTriedAgain(t *testing.T) {
	for name, row := range map[string]struct {
		status int
		body   string
		want   guest.Reason
	}{
		"down":      {503, "", guest.Unavailable},
		"too often": {429, "", guest.Unavailable},
		"our fault": {401, `{"error":"invalid_client","error_description":"the-refresh"}`, guest.Refused},
	} {
		i := newIssuer(t)
		i.doc = object{"revocation_endpoint": i.Server.URL + "/forget"}
		i.revokes("/forget", row.status, row.body)
		err := i.oidc(t).Revoke(context.Background(), granted(i.url))
		if err == nil || guest.ReasonOf(err) != row.want || errors.Is(err, guest.ErrNotRevocable) || strings.Contains(err.Error(), "the-") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	i := newIssuer(t)
	p := i.oidc(t)
	i.Close()
	if err := p.Revoke(context.Background(), granted(i.url)); guest.ReasonOf(err) != guest.Unavailable || errors.Is(err, guest.ErrNotRevocable) {
		t.Errorf("got %v", err)
	}
}

func TestAccessTokenIsRevokedWhereRefreshTokensAreNot(t *testing.T) {
	i := newIssuer(t)
	i.doc = object{"revocation_endpoint": i.Server.URL + "/forget"}
	r := i.revokes("/forget", 400, `{"error":"unsupported_token_type"}`)
	err := i.oidc(t).Revoke(context.Background(), granted(i.url))
	if !errors.Is(err, guest.ErrNotRevocable) || len(r.asked) != 2 || r.asked[1].PostForm.Get("token") != "the-access" {
		t.Errorf("asked %d times, %v", len(r.asked), err)
	}
}

func TestBrandsAreAskedToRevokeAsTheyDocumentIt(t *testing.T) {
	for name, row := range map[string]struct {
		play func(t *testing.T, i *issuer) guest.Revoker
		path string
		form string
	}{
		"google": {func(t *testing.T, i *issuer) guest.Revoker {
			return open(t, i, &Google{Options: i.options(), Endpoints: Endpoints{Issuer: i.url}})
		}, "/revoke", "token=the-refresh"},
		"okta": {func(t *testing.T, i *issuer) guest.Revoker {
			return open(t, i, &Okta{Options: i.options(), Endpoints: Endpoints{Issuer: i.url}})
		}, "/revoke", "token=the-refresh&token_type_hint=refresh_token"},
		"gitlab": {func(t *testing.T, i *issuer) guest.Revoker {
			return open(t, i, &GitLab{Options: i.options(), Endpoints: Endpoints{Issuer: i.url}})
		}, "/revoke", "token=the-refresh&token_type_hint=refresh_token"},
		"twitch": {func(t *testing.T, i *issuer) guest.Revoker {
			i.url, i.below = i.Server.URL+"/oauth2", "/oauth2"
			return open(t, i, &Twitch{Options: i.options(), Endpoints: Endpoints{Issuer: i.url}})
		}, "/revoke", "client_id=" + url.QueryEscape(clientID) + "&token=the-access"},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			r := i.revokes(row.path, 200, "")
			p := row.play(t, i)
			if err := p.Revoke(context.Background(), granted(i.url)); err != nil {
				t.Fatal(err)
			}
			asked := r.only(t)
			if got := asked.PostForm.Encode(); got != row.form || asked.URL.RawQuery != "" {
				t.Errorf("asked with %s", got)
			}
			if _, _, basic := asked.BasicAuth(); basic != (name == "okta" || name == "gitlab") {
				t.Errorf("proved who we are by the header: %v", basic)
			}
		})
	}
}

func TestAppleRevokesTheConsentWithASecretMadeForIt(t *testing.T) {
	i := newApple(t)
	r := i.revokes("/revoke", 200, "")
	g := guest.Granted{Issuer: i.url, Subject: "sub-1", Consent: "the-consent"}
	if err := i.apple(t).Revoke(context.Background(), g); err != nil {
		t.Fatal(err)
	}
	form := r.only(t).PostForm
	secret, err := jose.ParseSignedCompact(form.Get("client_secret"), []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := secret.Verify(keys().ec.Public()); err != nil {
		t.Error(err)
	}
	if form.Get("token") != "the-consent" || form.Get("token_type_hint") != provider.RefreshToken || form.Get("client_id") != clientID {
		t.Errorf("asked with %v", form)
	}
}

func TestAssertionForRevokingNamesThatEndpoint(t *testing.T) {
	i := newIssuer(t)
	i.doc = object{"revocation_endpoint": i.Server.URL + "/forget", "token_endpoint_auth_methods_supported": []string{"private_key_jwt"}}
	r := i.revokes("/forget", 200, "")
	p := i.byKey(t, keys().ec, "k")
	if err := p.Revoke(context.Background(), granted(i.url)); err != nil {
		t.Fatal(err)
	}
	form := r.only(t).PostForm
	jws, err := jose.ParseSignedCompact(form.Get("client_assertion"), []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := jws.Verify(keys().ec.Public())
	if err != nil || !bytes.Contains(payload, []byte(`"aud":"`+i.Server.URL+`/forget"`)) || form.Has("client_secret") {
		t.Errorf("%s, %v", payload, err)
	}
}

func TestSlackRevokesByItsOwnMethod(t *testing.T) {
	for name, row := range map[string]struct {
		status int
		body   string
		want   guest.Reason // empty: revoked
		cannot bool
	}{
		"revoked":        {200, `{"ok":true,"revoked":true}`, "", false},
		"already":        {200, `{"ok":false,"error":"token_revoked"}`, "", false},
		"expired":        {200, `{"ok":false,"error":"token_expired"}`, "", false},
		"account gone":   {200, `{"ok":false,"error":"account_inactive"}`, "", false},
		"not taken":      {200, `{"ok":false,"error":"invalid_auth"}`, guest.Refused, true},
		"Slack's mishap": {200, `{"ok":false,"error":"internal_error"}`, guest.Refused, false},
		"a token told":   {200, `{"ok":false,"error":"the-access"}`, guest.Refused, false},
		"no answer":      {200, ``, guest.Refused, false},
		"too often":      {429, `{"ok":false,"error":"ratelimited"}`, guest.Unavailable, false},
		"down":           {503, ``, guest.Unavailable, false},
		"elsewhere":      {302, `{"ok":true}`, guest.Refused, false},
	} {
		t.Run(name, func(t *testing.T) {
			i := newSlack(t)
			r := i.revokes("/auth.revoke", row.status, row.body)
			err := i.slack(t).Revoke(context.Background(), granted(i.url))
			if (err == nil) != (row.want == "") || err != nil && guest.ReasonOf(err) != row.want || errors.Is(err, guest.ErrNotRevocable) != row.cannot {
				t.Errorf("got %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "the-access") {
				t.Errorf("the error tells the token: %v", err)
			}
			asked := r.only(t)
			if asked.Header.Get("Authorization") != "Bearer the-access" || asked.URL.RawQuery != "" || len(asked.PostForm) != 0 {
				t.Errorf("asked %s with %v", asked.URL, asked.Header)
			}
		})
	}
	i := newSlack(t)
	g := guest.Granted{Issuer: i.url, Subject: "U0R7MFMJM", Tokens: guest.Tokens{Refresh: "the-refresh"}}
	if err := i.slack(t).Revoke(context.Background(), g); !errors.Is(err, guest.ErrNotRevocable) {
		t.Errorf("got %v", err)
	}
}

func TestMicrosoftAndLinkedInKnowNoWay(t *testing.T) {
	cloud, linkedin := newCloud(t, ourTenant), newLinkedIn(t)
	m := cloud.microsoft(t, ourTenant)
	for _, row := range []struct {
		p      guest.Revoker
		issuer string
	}{{m, m.issuerOf(ourTenant)}, {linkedin.linkedin(t), linkedin.url}} {
		if err := row.p.Revoke(context.Background(), granted(row.issuer)); !errors.Is(err, guest.ErrNotRevocable) {
			t.Errorf("%T: got %v", row.p, err)
		}
	}
}
