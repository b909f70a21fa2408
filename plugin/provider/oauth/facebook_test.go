package oauth

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-login/caddy-login/module/guest"
)

const mona = `{"id":"10223456789012345","name":"Mona Lisa","email":"mona\u0040example.com",` +
	`"picture":{"data":{"height":50,"is_silhouette":false,"url":"https:\/\/platform-lookaside.fbsbx.com\/p?asid=1","width":50}}}`

func (f *fake) facebook(t testing.TB, change func(*Facebook)) *Facebook {
	p := &Facebook{Options: f.options(), Server: f.server(), APIURL: f.URL}
	if change != nil {
		change(p)
	}
	return open(t, p)
}

func TestFacebookAccountBecomesAProfile(t *testing.T) {
	f := newFake(t)
	f.pages["/v26.0/me"] = mona
	got, err := f.signIn(t, f.facebook(t, func(p *Facebook) { p.Issuer = facebookIssuer }))
	want := guest.Profile{
		Issuer: facebookIssuer, Subject: "10223456789012345", Email: "mona@example.com", EmailTrust: guest.Verified,
		Name: "Mona Lisa", Picture: "https://platform-lookaside.fbsbx.com/p?asid=1",
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	mac := hmac.New(sha256.New, []byte(clientSecret))
	mac.Write([]byte(access))
	asked := f.asked[len(f.asked)-1].URL.Query()
	if asked.Get("appsecret_proof") != fmt.Sprintf("%x", mac.Sum(nil)) || asked.Get("fields") != "id,name,email,picture" {
		t.Errorf("asked for %v", asked)
	}
	if f.form.Has("code_verifier") || !f.form.Has("client_secret") {
		t.Errorf("sent the form %v", f.form)
	}
}

func TestFacebookIsAskedWithoutPKCE(t *testing.T) {
	a := attempt()
	got := begin(t, newFake(t).facebook(t, nil), a)
	if got.Has("code_challenge") || got.Get("scope") != "email public_profile" || got.Get("state") != a.State {
		t.Errorf("asks for %v", got)
	}
}

func TestFacebookIsAskedForTheVersionOfItsBlock(t *testing.T) {
	f := newFake(t)
	p := open(t, &Facebook{Options: f.options(), GraphVersion: "v31.0"})
	if p.at.AuthURL != "https://www.facebook.com/v31.0/dialog/oauth" || p.at.TokenURL != "https://graph.facebook.com/v31.0/oauth/access_token" ||
		!strings.HasPrefix(p.me("x"), "https://graph.facebook.com/v31.0/me?") || p.at.Issuer != "https://www.facebook.com" {
		t.Errorf("got %+v", p.at)
	}
	for _, bad := range []string{"26", "v26", "26.0", "v26.0/x", "v26.0\n", "V26.0", "v0.1", "latest"} {
		p := &Facebook{Options: f.options(), GraphVersion: bad}
		if err := p.Provision(caddy.Context{}); err == nil || !strings.Contains(err.Error(), "write one like v26.0") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	p = &Facebook{Options: f.options()}
	p.Groups = "x"
	if err := p.Provision(caddy.Context{}); err == nil {
		t.Error("groups are taken and do nothing")
	}
}

// Another Graph is another issuer: whoever answers there could choose ids.
func TestFacebookElsewhereIsAnotherIssuer(t *testing.T) {
	f := newFake(t)
	if got := f.facebook(t, nil).at.Issuer; got != f.URL {
		t.Errorf("issuer is %s", got)
	}
}

func TestHostileFacebookAnswerIsRefused(t *testing.T) {
	rows := hostile(t)
	for name, page := range map[string]string{
		"id a name":         `{"id":"mona"}`,
		"id an address":     `{"id":"ada@example.com"}`,
		"id in text digits": `{"id":"١٢٣"}`,
	} {
		row := rows["id missing"]
		row.page = page
		rows[name] = row
	}
	revoked := rows["401"]
	revoked.page = `{"error":{"message":"Error validating access token","code":190},"id":1}`
	rows["error with status 200"] = revoked
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.pages["/v26.0/me"] = row.page
			_, err := f.signIn(t, f.facebook(t, nil))
			wantRefusal(t, err, row.want)
		})
	}
}

func TestFacebookWithoutAnAddressIsStillSomebody(t *testing.T) {
	f := newFake(t)
	for page, want := range map[string]guest.Profile{
		`{"id":"1"}`: {},
		`{"id":1,"name":"A","email":"","picture":"x"}`:                                                     {Name: "A"},
		`{"id":"1","email":null,"picture":{"data":{"url":"http://a.example/p"}}}`:                          {},
		`{"id":"1","email":"a@b@c","picture":{"data":{"is_silhouette":true,"url":"https://a.example/p"}}}`: {},
	} {
		f.pages["/v26.0/me"] = page
		want.Issuer, want.Subject = f.URL, "1"
		got, err := f.signIn(t, f.facebook(t, nil))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v", page, got, err)
		}
	}
}

func TestFacebookAddressIsNeverAuthoritativeByItself(t *testing.T) {
	f := newFake(t)
	f.pages["/v26.0/me"] = mona
	for trust, want := range map[string]guest.Trust{"": guest.Verified, "auto": guest.Verified, "unverified": guest.Asserted} {
		got, err := f.signIn(t, f.facebook(t, func(p *Facebook) { p.EmailTrust = trust }))
		if err != nil || got.EmailTrust != want {
			t.Errorf("%q: got %d, %v", trust, got.EmailTrust, err)
		}
	}
}

func TestAnotherGraphVersionIsToldOnce(t *testing.T) {
	f := newFake(t)
	answers := "v26.0"
	f.pages["/v26.0/me"] = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("facebook-api-version", answers)
		_, _ = w.Write([]byte(mona))
	})
	var log strings.Builder
	p := f.facebook(t, nil)
	if err := p.Open(env(slog.New(slog.NewTextHandler(&log, nil)))); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		version string
		lines   int
	}{{"v26.0", 0}, {"", 0}, {"v27.0 \"x", 0}, {"v28.0", 1}, {"v28.0", 1}, {"v29.0", 1}} {
		answers = step.version
		if _, err := f.signIn(t, p); err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(log.String(), "\n"); got != step.lines {
			t.Errorf("%s: the log has %d lines:\n%s", step.version, got, log.String())
		}
	}
	if !strings.Contains(log.String(), "answered=v28.0") {
		t.Errorf("the log says %s", log.String())
	}
}
