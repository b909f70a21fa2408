package oauth

import (
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-login/caddy-login/module/guest"
)

// octocat is what GitHub says of somebody: a name that may be null, an address
// that is only that of the public profile.
const octocat = `{"login":"octocat","id":583231,"node_id":"x","name":null,"email":"public@example.com",` +
	`"avatar_url":"https://avatars.githubusercontent.com/u/583231?v=4","type":"User"}`

const addresses = `[{"email":"old@example.com","primary":false,"verified":true,"visibility":null},` +
	`{"email":"ada@example.com","primary":true,"verified":true,"visibility":"private"},` +
	`{"email":"1+octocat@users.noreply.github.com","primary":false,"verified":true,"visibility":null}]`

func newGitHub(t testing.TB) *fake {
	f := newFake(t)
	f.token = object{"scope": "read:org,read:user,user:email"}
	f.pages["/user"], f.pages["/user/emails"] = octocat, addresses
	return f
}

func (f *fake) github(t testing.TB, change func(*GitHub)) *GitHub {
	g := &GitHub{Options: f.options(), Server: f.server(), APIURL: f.URL + "/"}
	if change != nil {
		change(g)
	}
	return open(t, g)
}

// trusted is a provider that asks the fake and believes to ask github.com.
func (f *fake) trusted(t testing.TB, change func(*GitHub)) *GitHub {
	g := f.github(t, change)
	g.at.api = githubAPI
	api, err := url.Parse(f.URL)
	if err != nil {
		t.Fatal(err)
	}
	g.client.Transport = rerouted{api}
	return g
}

// rerouted sends what is meant for GitHub's API to a fake.
type rerouted struct{ to *url.URL }

func (r rerouted) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host == "api.github.com" {
		req = req.Clone(req.Context())
		req.URL.Scheme, req.URL.Host = r.to.Scheme, r.to.Host
	}
	return http.DefaultTransport.RoundTrip(req)
}

func TestGitHubAccountBecomesAProfile(t *testing.T) {
	f := newGitHub(t)
	want := guest.Profile{
		Issuer: f.URL, Subject: "583231", Email: "ada@example.com", EmailTrust: guest.Verified,
		Name: "octocat", Picture: "https://avatars.githubusercontent.com/u/583231?v=4",
	}
	got, err := f.signIn(t, f.trusted(t, nil))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	f.pages["/user"] = strings.Replace(octocat, `"name":null`, `"name":"Mona Lisa"`, 1)
	if got, err = f.signIn(t, f.trusted(t, nil)); err != nil || got.Name != "Mona Lisa" {
		t.Errorf("got %q, %v", got.Name, err)
	}
	if !f.form.Has("client_secret") || f.form.Get("code_verifier") == "" {
		t.Errorf("sent the form %v", f.form)
	}
}

func TestGitHubIsAskedForWhatTheRulesNeed(t *testing.T) {
	f := newGitHub(t)
	for want, change := range map[string]func(*GitHub){
		"read:user user:email":          nil,
		"read:user user:email read:org": func(g *GitHub) { g.Org = []string{"acme"} },
		"user read:org":                 func(g *GitHub) { g.Team = []string{"acme/ops"}; g.Scopes = []string{"user"} },
		"user admin:org":                func(g *GitHub) { g.Org = []string{"acme"}; g.Scopes = []string{"user", "admin:org"} },
	} {
		if got := begin(t, f.github(t, change), attempt()).Get("scope"); got != want {
			t.Errorf("asks for %q, want %q", got, want)
		}
	}
	a := attempt()
	a.SwitchAccount = true
	if got := begin(t, f.github(t, nil), a); got.Get("prompt") != "select_account" || got.Get("code_challenge") == "" {
		t.Errorf("asks for %v", got)
	}
}

func TestGitHubIsFoundWhereItsHostIs(t *testing.T) {
	f := newFake(t)
	t.Setenv("TEST_HOST", "git.example.com")
	for _, row := range []struct{ host, api, auth, token, wantAPI, issuer string }{
		{"", "", "https://github.com/login/oauth/authorize", "https://github.com/login/oauth/access_token", githubAPI, "https://github.com"},
		{"github.com", "", "https://github.com/login/oauth/authorize", "https://github.com/login/oauth/access_token", githubAPI, "https://github.com"},
		{"Git.Example.com", "", "https://git.example.com/login/oauth/authorize", "https://git.example.com/login/oauth/access_token", "https://git.example.com/api/v3", "https://git.example.com"},
		{"{env.TEST_HOST}", "", "https://git.example.com/login/oauth/authorize", "https://git.example.com/login/oauth/access_token", "https://git.example.com/api/v3", "https://git.example.com"},
		{"git.example.com:8443", "", "https://git.example.com:8443/login/oauth/authorize", "https://git.example.com:8443/login/oauth/access_token", "https://git.example.com:8443/api/v3", "https://git.example.com:8443"},
		{"acme.ghe.com", "", "https://acme.ghe.com/login/oauth/authorize", "https://acme.ghe.com/login/oauth/access_token", "https://api.acme.ghe.com", "https://acme.ghe.com"},
		{"", githubAPI + "/", "https://github.com/login/oauth/authorize", "https://github.com/login/oauth/access_token", githubAPI, "https://github.com"},
		{"", "https://git.example.com/api/v3", "https://github.com/login/oauth/authorize", "https://github.com/login/oauth/access_token", "https://git.example.com/api/v3", "https://git.example.com"},
	} {
		g := open(t, &GitHub{Options: f.options(), Host: row.host, APIURL: row.api})
		if g.at.AuthURL != row.auth || g.at.TokenURL != row.token || g.at.api != row.wantAPI || g.at.Issuer != row.issuer {
			t.Errorf("%q %q: got %+v", row.host, row.api, g.at)
		}
		if g.verifies() != (row.wantAPI == githubAPI) {
			t.Errorf("%q %q: addresses are taken for verified: %t", row.host, row.api, g.verifies())
		}
	}
}

func TestHostileGitHubUserIsRefused(t *testing.T) {
	for name, row := range hostile(t) {
		t.Run(name, func(t *testing.T) {
			f := newGitHub(t)
			f.pages["/user"] = row.page
			_, err := f.signIn(t, f.github(t, nil))
			wantRefusal(t, err, row.want)
			if n := f.count("/user/emails"); n != 0 {
				t.Errorf("went on to ask for addresses")
			}
		})
	}
	for _, id := range []string{`"583231"`, `"octocat"`, `"1e3"`} {
		f := newGitHub(t)
		f.pages["/user"] = `{"login":"octocat","id":` + id + `}`
		_, err := f.signIn(t, f.github(t, nil))
		wantRefusal(t, err, guest.Untrusted)
	}
}

func TestOnlyTheVerifiedPrimaryAddressCounts(t *testing.T) {
	entry := func(email, primary, verified string) string {
		return fmt.Sprintf(`{"email":%q,"primary":%s,"verified":%s}`, email, primary, verified)
	}
	f := newGitHub(t)
	for list, want := range map[string]string{
		entry("a@b.example", "true", "true"):                                               "a@b.example",
		entry("x@b.example", "false", "true") + "," + entry("a@b.example", "true", "true"): "a@b.example",
		entry("a@b.example", "true", "false"):                                              "",
		entry("a@b.example", "false", "true"):                                              "",
		entry("a@b.example", "1", "true"):                                                  "",
		entry("a@b.example", "true", "1"):                                                  "",
		entry("a@b.example", "true", `"yes"`):                                              "",
		entry("1+a@users.noreply.github.com", "true", "true"):                              "",
		entry("1+a@Users.NoReply.GitHub.com", "true", "true"):                              "",
		entry("a@b@c", "true", "true"):                                                     "",
		`{"primary":true,"verified":true}`:                                                 "",
		`{"email":["a@b.example"],"primary":true,"verified":true}`:                         "",
		`{"email":"a@b.example","Primary":true,"Verified":true}`:                           "",
		"": "",
	} {
		f.pages["/user/emails"] = "[" + list + "]"
		got, err := f.signIn(t, f.trusted(t, nil))
		trust := map[bool]guest.Trust{true: guest.NoEmail, false: guest.Verified}[want == ""]
		if err != nil || got.Email != want || got.EmailTrust != trust {
			t.Errorf("%s: got %q, %d, %v", list, got.Email, got.EmailTrust, err)
		}
	}
}

func TestEnterpriseServerVerifiesNoAddress(t *testing.T) {
	f := newGitHub(t)
	got, err := f.signIn(t, f.github(t, nil))
	if err != nil || got.Email != "ada@example.com" || got.EmailTrust != guest.Asserted {
		t.Errorf("got %q, %d, %v", got.Email, got.EmailTrust, err)
	}
	f.pages["/user/emails"] = `[{"email":"ada@example.com","primary":true,"verified":false}]`
	got, err = f.signIn(t, f.github(t, func(g *GitHub) { g.EmailTrust = "verified" }))
	if err != nil || got.Email != "ada@example.com" || got.EmailTrust != guest.Verified {
		t.Errorf("got %q, %d, %v", got.Email, got.EmailTrust, err)
	}
}

func TestAddressesThatAreNotToBeSeenAreNone(t *testing.T) {
	for name, spoil := range map[string]func(*fake){
		"scope revoked":        func(f *fake) { f.token = object{"scope": "read:user"} },
		"scope revoked, by ws": func(f *fake) { f.token = object{"scope": "read:user read:org"} },
		"an app without scopes": func(f *fake) {
			f.token = object{"scope": ""}
			f.pages["/user/emails"] = status(403)
		},
		"404": func(f *fake) { f.pages["/user/emails"] = status(404) },
	} {
		f := newGitHub(t)
		spoil(f)
		got, err := f.signIn(t, f.trusted(t, nil))
		if err != nil || got.Subject != "583231" || got.Email != "" || got.EmailTrust != guest.NoEmail {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	f := newGitHub(t)
	f.token = object{"scope": "read:user"}
	if _, err := f.signIn(t, f.trusted(t, nil)); err != nil || f.count("/user/emails") != 0 {
		t.Errorf("asked for addresses without the scope, %v", err)
	}
	f = newGitHub(t)
	f.token = object{"scope": "user"}
	if got, err := f.signIn(t, f.trusted(t, nil)); err != nil || got.Email != "ada@example.com" {
		t.Errorf("scope user: got %q, %v", got.Email, err)
	}
	f = newGitHub(t)
	f.token = object{"scope": ""}
	if got, err := f.signIn(t, f.trusted(t, nil)); err != nil || got.Email != "ada@example.com" {
		t.Errorf("a GitHub App: got %q, %v", got.Email, err)
	}
}

func TestHostileAddressListsAreRefused(t *testing.T) {
	limited := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-RateLimit-Remaining", "0")
		w.WriteHeader(http.StatusForbidden)
	})
	for _, row := range []struct {
		page any
		want guest.Reason
	}{
		{`{}`, guest.Untrusted}, {`null`, guest.Untrusted}, {`["ada@example.com"]`, guest.Untrusted}, {`[null]`, guest.Untrusted},
		{`[{"email":"a@b.example","email":"c@d.example","primary":true,"verified":true}]`, guest.Untrusted},
		{`[]x`, guest.Untrusted}, {"[{\"email\":\"\xff\"}]", guest.Untrusted}, {http.HandlerFunc(big), guest.Unavailable},
		{status(500), guest.Unavailable}, {limited, guest.Unavailable}, {status(401), guest.Refused}, {elsewhere(t), guest.Refused},
	} {
		f := newGitHub(t)
		f.pages["/user/emails"] = row.page
		_, err := f.signIn(t, f.trusted(t, nil))
		wantRefusal(t, err, row.want)
	}
}

// page is a full page of entries, with a Link header that leads elsewhere.
func page(t testing.TB, entry string) http.HandlerFunc {
	other := elsewhere(t)
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", `<http://127.0.0.1:1/steal?page=2>; rel="next"`)
		if r.URL.Query().Get("per_page") != "100" {
			other(w, r)
			return
		}
		_, _ = w.Write([]byte("[" + strings.TrimSuffix(strings.Repeat(entry+",", perPage), ",") + "]"))
	}
}

func TestPagesAreCountedByUsAndBounded(t *testing.T) {
	f := newGitHub(t)
	f.pages["/user/emails"] = page(t, `{"email":"x@b.example","primary":false,"verified":true}`)
	f.pages["/user/emails?per_page=100&page=3"] = `[{"email":"c@b.example","primary":true,"verified":true}]`
	got, err := f.signIn(t, f.trusted(t, nil))
	if err != nil || got.Email != "c@b.example" || f.count("/user/emails") != 3 {
		t.Errorf("got %q after %d pages, %v", got.Email, f.count("/user/emails"), err)
	}
	f = newGitHub(t)
	f.pages["/user/emails"] = page(t, `{"email":"x@b.example","primary":false,"verified":true}`)
	got, err = f.signIn(t, f.trusted(t, nil))
	if err != nil || got.Email != "" || f.count("/user/emails") != maxPages {
		t.Errorf("got %q after %d pages, %v", got.Email, f.count("/user/emails"), err)
	}
}

func TestOrgAdmitsItsActiveMembersAlone(t *testing.T) {
	const member = `{"state":"active","role":"member","organization":{"login":"Acme","id":1}}`
	limited := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "60")
		w.WriteHeader(http.StatusForbidden)
	})
	for name, row := range map[string]struct {
		first, second any // at the two organizations of the list
		want          guest.Reason
	}{
		"a member of the first":   {member, status(404), ""},
		"a member of the second":  {status(404), strings.Replace(member, "Acme", "other", 1), ""},
		"no member":               {status(404), status(404), guest.NotAllowed},
		"the app is not approved": {status(403), status(403), guest.NotAllowed},
		"invited, not yet there":  {strings.Replace(member, "active", "pending", 1), status(404), guest.NotAllowed},
		"state missing":           {`{"organization":{"login":"acme"}}`, status(404), guest.NotAllowed},
		"state of another type":   {`{"state":["active"],"organization":{"login":"acme"}}`, status(404), guest.NotAllowed},
		"a member of another one": {strings.Replace(member, "Acme", "evil", 1), status(404), guest.NotAllowed},
		"a member of nothing":     {`{"state":"active"}`, status(404), guest.NotAllowed},
		"204":                     {status(204), status(204), guest.Refused},
		"a redirect":              {elsewhere(t), status(404), guest.Refused},
		"a list":                  {"[" + member + "]", status(404), guest.Untrusted},
		"two states":              {`{"state":"pending","state":"active","organization":{"login":"acme"}}`, status(404), guest.Untrusted},
		"500":                     {status(500), member, guest.Unavailable},
		"too many requests":       {limited, member, guest.Unavailable},
	} {
		f := newGitHub(t)
		f.pages["/user/memberships/orgs/acme"], f.pages["/user/memberships/orgs/other"] = row.first, row.second
		got, err := f.signIn(t, f.trusted(t, func(g *GitHub) { g.Org = []string{"acme", "other"} }))
		if row.want == "" && (err != nil || got.Subject != "583231") {
			t.Errorf("%s: %v", name, err)
		}
		if row.want != "" {
			t.Run(name, func(t *testing.T) { wantRefusal(t, err, row.want) })
		}
	}
}

func TestTeamAdmitsItsMembersAlone(t *testing.T) {
	team := func(org, slug string) string {
		return fmt.Sprintf(`{"slug":%q,"organization":{"login":%q}}`, slug, org)
	}
	for name, row := range map[string]struct {
		page any
		want guest.Reason
	}{
		"in the team":             {"[" + team("x", "ops") + "," + team("Acme", "OPS") + "]", ""},
		"of another organization": {"[" + team("evil", "ops") + "]", guest.NotAllowed},
		"in another team":         {"[" + team("acme", "dev") + "]", guest.NotAllowed},
		"of a name that looks so": {`[{"slug":"x","name":"ops","organization":{"login":"acme"}}]`, guest.NotAllowed},
		"across a slash":          {`[{"slug":"","organization":{"login":"acme/ops"}}]`, guest.NotAllowed},
		"in none":                 {"[]", guest.NotAllowed},
		"403":                     {status(403), guest.NotAllowed},
		"404":                     {status(404), guest.NotAllowed},
		"too many":                {page(t, team("acme", "dev")), guest.NotAllowed},
		"500":                     {status(500), guest.Unavailable},
		"an object":               {team("acme", "ops"), guest.Untrusted},
		"a redirect":              {elsewhere(t), guest.Refused},
	} {
		f := newGitHub(t)
		f.pages["/user/teams"] = row.page
		got, err := f.signIn(t, f.trusted(t, func(g *GitHub) { g.Team = []string{"acme/ops"} }))
		if row.want == "" && (err != nil || got.Subject != "583231") {
			t.Errorf("%s: %v", name, err)
		}
		if row.want != "" {
			t.Run(name, func(t *testing.T) { wantRefusal(t, err, row.want) })
		}
	}
}

func TestOrgAndTeamMustBothHold(t *testing.T) {
	f := newGitHub(t)
	f.pages["/user/teams"] = `[{"slug":"ops","organization":{"login":"acme"}}]`
	both := func(g *GitHub) { g.Org, g.Team = []string{"other"}, []string{"acme/ops"} }
	_, err := f.signIn(t, f.trusted(t, both))
	wantRefusal(t, err, guest.NotAllowed)
	f.pages["/user/memberships/orgs/other"] = `{"state":"active","organization":{"login":"other"}}`
	if _, err := f.signIn(t, f.trusted(t, both)); err != nil {
		t.Error(err)
	}
	f.pages["/user/teams"] = `[]`
	_, err = f.signIn(t, f.trusted(t, both))
	wantRefusal(t, err, guest.NotAllowed)
}

func TestRuleWithoutItsScopeAdmitsNobody(t *testing.T) {
	f := newGitHub(t)
	f.token = object{"scope": "read:user,user:email"}
	f.pages["/user/memberships/orgs/acme"] = `{"state":"active","organization":{"login":"acme"}}`
	_, err := f.signIn(t, f.trusted(t, func(g *GitHub) { g.Org = []string{"acme"} }))
	wantRefusal(t, err, guest.NotAllowed)
}

func TestGitHubMistakesAreFoundBeforeItRuns(t *testing.T) {
	f := newFake(t)
	t.Setenv("TEST_BAD", "../user")
	for want, g := range map[string]*GitHub{
		`org: "../user" is no organization`: {Org: []string{"{env.TEST_BAD}"}},
		"org is empty: set TEST_UNSET":      {Org: []string{"{env.TEST_UNSET}"}},
		`org: "." is no organization`:       {Org: []string{"."}},
		`team: "acme" is no team`:           {Team: []string{"acme"}},
		`team: "a/b/c" is no team`:          {Team: []string{"a/b/c"}},
		`host: "a.example/x" is no host`:    {Host: "a.example/x"},
		`host: "u@a.example" is no host`:    {Host: "u@a.example"},
		"host is empty: set TEST_UNSET":     {Host: "{env.TEST_UNSET}"},
		"must have no query":                {APIURL: "https://a.example?x"},
		"api_url: \"http://a.example\"":     {APIURL: "http://a.example"},
		"groups: github lists none":         func() *GitHub { g := new(GitHub); g.Groups = "x"; return g }(),
	} {
		g.Name, g.ClientID, g.ClientSecret = "x", clientID, f.options().ClientSecret
		if err := g.Provision(caddy.Context{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
