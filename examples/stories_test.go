package examples_test

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

func googleAdmitsOneDomain(t *testing.T) {
	app, google := e2e.NewApp(t), newGoogle(t)
	s := show(t, "google",
		replacement{"login google {", "login google {\n\t\tgoogle {\n\t\t\tissuer " + google.URL + "\n\t\t}"},
		replacement{"localhost:3000", app.Addr})
	s.register(google, "google", secrets["GOOGLE_CLIENT_ID"], secrets["GOOGLE_CLIENT_SECRET"], "app.example.com")
	inside := s.at("app.example.com", "/inside?page=2")
	s.wantToldCallback(s.at("app.example.com", "/.login/google/callback"))
	s.wantStrangersKeptOut(app, inside)

	ada := e2e.NewVisitor(t)
	landed := s.signIn(ada, google, inside, "100000000000000000001")
	s.want(landed, http.StatusOK)
	if got := landed.Request.URL.String(); got != inside {
		t.Errorf("Ada wanted to see %s and sees %s", inside, got)
	}
	wantHeader(t, app, "Remote-Email", "ada@example.com")
	wantHeader(t, app, "Remote-Name", "Ada Lovelace")
	user := app.Last().Value("Remote-User")

	forged := ada.Navigation(inside)
	forged.Header.Set("Remote-User", "root")
	s.want(ada.Do(forged), http.StatusOK)
	wantHeader(t, app, "Remote-User", user)

	app.Forget()
	s.want(s.visitor(google, inside, "100000000000000000002").Get(inside), http.StatusForbidden)
	s.want(s.visitor(google, inside, "100000000000000000003").Get(inside), http.StatusForbidden)
	if heard := len(app.Requests()); heard > 0 {
		t.Errorf("the app heard %d requests of people from elsewhere", heard)
	}
}

// newGoogle answers as Google does.
func newGoogle(t *testing.T) *logintest.Issuer {
	issuer := logintest.NewIssuer(t)
	for subject, person := range map[string]logintest.Person{
		"100000000000000000001": {Name: "Ada Lovelace", Email: "ada@example.com", EmailVerified: true,
			Claims: map[string]any{"hd": "example.com", "given_name": "Ada", "family_name": "Lovelace"}},
		"100000000000000000002": {Name: "Someone Else", Email: "someone.else@gmail.com", EmailVerified: true},
		"100000000000000000004": {Name: "Hedy Lamarr", Email: "hedy@example.com", EmailVerified: true,
			Claims: map[string]any{"hd": "example.com"}},
		// Anybody can write any address into an account; Google says so.
		"100000000000000000003": {Name: "Mallory", Email: "mallory@example.com", EmailVerified: false},
	} {
		person.Subject, person.Picture = subject, "https://lh3.googleusercontent.com/a/"+subject
		issuer.Person(person)
	}
	return issuer
}

func githubAdmitsAnOrganization(t *testing.T) {
	app, github := e2e.NewApp(t), newGitHub(t)
	s := show(t, "github",
		replacement{"org acme", "org acme\n\t\t\tauth_url " + github.URL + "/authorize\n\t\t\ttoken_url " + github.URL +
			"/token\n\t\t\tapi_url " + github.URL},
		replacement{"localhost:3000", app.Addr})
	inside := s.at("app.example.com", "/inside?page=2")
	s.wantToldCallback(s.at("app.example.com", "/.login/github/callback"))
	s.wantStrangersKeptOut(app, inside)

	ada := e2e.NewVisitor(t)
	landed := ada.SignIn(inside, e2e.Person{Email: "ada"})
	s.want(landed, http.StatusOK)
	if got := landed.Request.URL.String(); got != inside {
		t.Errorf("Ada wanted to see %s and sees %s", inside, got)
	}
	wantHeader(t, app, "Remote-Name", "Ada Lovelace")

	app.Forget()
	for _, name := range []string{"invited", "mallory"} {
		visitor := e2e.NewVisitor(t)
		refused := visitor.SignIn(inside, e2e.Person{Email: name})
		s.want(refused, http.StatusForbidden)
		if !strings.Contains(refused.Body, "Only certain accounts from GitHub") {
			t.Errorf("%s reads:\n%.2000s", name, refused.Body)
		}
		s.want(visitor.Get(inside), http.StatusFound)
	}
	if heard := len(app.Requests()); heard > 0 {
		t.Errorf("the app heard %d requests of people from elsewhere", heard)
	}
}

// newGitHub answers as GitHub does.
func newGitHub(t *testing.T) *logintest.OAuth {
	github := logintest.NewOAuth(t, secrets["GITHUB_CLIENT_ID"], secrets["GITHUB_CLIENT_SECRET"])
	for name, api := range map[string]map[string]string{
		"ada": {
			"/user":                       `{"id":1,"login":"ada","name":"Ada Lovelace"}`,
			"/user/memberships/orgs/acme": `{"state":"active","organization":{"login":"acme"}}`,
		},
		"invited": {
			"/user":                       `{"id":2,"login":"invited","name":null}`,
			"/user/memberships/orgs/acme": `{"state":"pending","organization":{"login":"acme"}}`,
		},
		"mallory": {"/user": `{"id":3,"login":"mallory","name":"Acme","company":"acme"}`},
	} {
		api["/user/emails"] = `[{"email":"` + name + `@example.com","primary":true,"verified":true}]`
		github.Person(name, logintest.Account{Scope: "read:org,read:user,user:email", API: api})
	}
	return github
}

func anyIssuerSignsIn(t *testing.T) {
	app, corp := e2e.NewApp(t), newCorp(t)
	s := show(t, "oidc",
		replacement{"https://id.example.com", corp.URL},
		replacement{"localhost:3000", app.Addr})
	s.register(corp, "corp", secrets["OIDC_CLIENT_ID"], secrets["OIDC_CLIENT_SECRET"], "app.example.com")
	inside := s.at("app.example.com", "/inside")
	s.wantToldCallback(s.at("app.example.com", "/.login/corp/callback"))
	s.wantStrangersKeptOut(app, inside)

	ada := e2e.NewVisitor(t)
	s.want(s.signIn(ada, corp, inside, "ada"), http.StatusOK)
	wantHeader(t, app, "Remote-Email", "ada@example.com")
	wantHeader(t, app, "Remote-Groups", "employees,everybody,external-users,writers")

	// Everybody may pass; an address that nobody verified is not passed on.
	s.want(s.visitor(corp, inside, "mallory").Get(inside), http.StatusOK)
	wantHeader(t, app, "Remote-Name", "Mallory")
	wantHeader(t, app, "Remote-Email", "")

	corp.Down(true)
	s.want(ada.Get(inside), http.StatusOK)
}

// newCorp is an issuer with one person for each column of the tables that
// examples/policies/README.md shows.
func newCorp(t *testing.T) *logintest.Issuer {
	issuer := logintest.NewIssuer(t)
	for _, person := range []logintest.Person{
		{Subject: "ada", Name: "Ada Lovelace", Email: "ada@example.com", EmailVerified: true, Groups: []string{"employees", "writers"}},
		{Subject: "grace", Name: "Grace Hopper", Email: "grace@example.com", EmailVerified: true},
		{Subject: "emil", Name: "Emil", Email: "emil@example.org", EmailVerified: true, Groups: []string{"employees"}},
		{Subject: "auditor", Name: "Auditor", Email: "auditor@example.org", EmailVerified: true},
		{Subject: "admin", Name: "Admin", Email: "admin@example.org", EmailVerified: true, Groups: []string{"admins"}},
		{Subject: "writer", Name: "Writer", Email: "writer@example.org", EmailVerified: true, Groups: []string{"writers"}},
		{Subject: "mallory", Name: "Mallory", Email: "mallory@example.com", EmailVerified: false},
	} {
		issuer.Person(person)
	}
	return issuer
}

const (
	yes       = http.StatusOK
	no        = http.StatusForbidden
	signIn    = http.StatusFound
	toProgram = http.StatusUnauthorized
)

// at app.example.com, the same table as in examples/policies/README.md.
var appTable = []struct {
	method, path string
	want         map[string]int
}{
	{"GET", "/public/logo.svg", map[string]int{"": yes, "emil": yes, "auditor": yes, "admin": yes, "ada": yes, "mallory": yes}},
	{"GET", "/admin/", map[string]int{"": signIn, "emil": no, "auditor": no, "admin": yes, "ada": yes, "mallory": no}},
	{"GET", "/reports/may", map[string]int{"": signIn, "emil": yes, "auditor": yes, "admin": no, "ada": yes, "mallory": no}},
	{"POST", "/reports/may", map[string]int{"": toProgram, "emil": yes, "auditor": no, "admin": no, "ada": yes, "mallory": no}},
	{"GET", "/", map[string]int{"": signIn, "emil": yes, "auditor": no, "admin": no, "ada": yes, "mallory": no}},
	// What an app could read as another path is never public.
	{"GET", "/public/..%2fadmin/", map[string]int{"": signIn, "emil": no, "auditor": no, "admin": no, "ada": yes, "mallory": no}},
	{"GET", "/public", map[string]int{"": signIn, "emil": yes, "auditor": no, "admin": no, "ada": yes, "mallory": no}},
}

var docsTable = []struct {
	path string
	want map[string]int
}{
	{"/drafts/shared/plan", map[string]int{"": signIn, "emil": yes, "writer": yes, "ada": yes}},
	{"/drafts/plan", map[string]int{"": signIn, "emil": no, "writer": yes, "ada": yes}},
	{"/handbook", map[string]int{"": yes, "emil": yes, "writer": yes, "ada": yes}},
}

func firstRuleThatFitsDecides(t *testing.T) {
	app, docs, corp := e2e.NewApp(t), e2e.NewApp(t), newCorp(t)
	s := show(t, "policies",
		replacement{"https://id.example.com", corp.URL},
		replacement{"localhost:3000", app.Addr}, replacement{"localhost:3001", docs.Addr})
	s.register(corp, "corp", secrets["OIDC_CLIENT_ID"], secrets["OIDC_CLIENT_SECRET"], "app.example.com", "docs.example.com")

	people := s.crowd(corp, s.at("app.example.com", "/"), "emil", "auditor", "admin", "ada", "mallory")
	for _, row := range appTable {
		for subject, want := range row.want {
			request := people[subject].Navigation(s.at("app.example.com", row.path))
			request.Method = row.method
			if request.Method == http.MethodPost {
				request.Header.Set("Sec-Fetch-Mode", "cors")
			}
			s.wantVerdict(people[subject], request, app, want, subject)
		}
	}
	s.want(people["ada"].Get(s.at("app.example.com", "/")), http.StatusOK)
	wantHeader(t, app, "Remote-Roles", "staff,admin")
	s.want(people["emil"].Get(s.at("app.example.com", "/")), http.StatusOK)
	wantHeader(t, app, "Remote-Roles", "staff")

	people = s.crowd(corp, s.at("docs.example.com", "/drafts/"), "emil", "writer", "ada")
	for _, row := range docsTable {
		for subject, want := range row.want {
			s.wantVerdict(people[subject], people[subject].Navigation(s.at("docs.example.com", row.path)), docs, want, subject)
		}
	}
}

// crowd are the people who sign in at address, and nobody under the empty name.
func (s *stage) crowd(issuer *logintest.Issuer, address string, subjects ...string) map[string]*e2e.Visitor {
	s.t.Helper()
	people := map[string]*e2e.Visitor{"": e2e.NewVisitor(s.t)}
	for _, subject := range subjects {
		people[subject] = s.visitor(issuer, address, subject)
	}
	return people
}

// wantVerdict checks one cell of a table: the answer, and whether the app
// heard of it.
func (s *stage) wantVerdict(visitor *e2e.Visitor, r *http.Request, app *e2e.App, want int, who string) {
	s.t.Helper()
	app.Forget()
	got := visitor.Do(r)
	if heard := len(app.Requests()) > 0; got.StatusCode != want || heard != (want == yes) {
		s.t.Errorf("%s %s by %q: %d, the app heard of it: %t; want %d", r.Method, r.URL.Path, who, got.StatusCode, heard, want)
	}
}

func manySitesShareOneLogin(t *testing.T) {
	google, corp := newGoogle(t), newCorp(t)
	wiki, admin, shop, help := e2e.NewApp(t), e2e.NewApp(t), e2e.NewApp(t), e2e.NewApp(t)
	s := show(t, "many-sites",
		replacement{"\t\tgoogle\n", "\t\tgoogle {\n\t\t\tissuer " + google.URL + "\n\t\t}\n"},
		replacement{"https://id.example.com", corp.URL},
		replacement{"localhost:3001", wiki.Addr}, replacement{"localhost:3002", admin.Addr},
		replacement{"localhost:3003", shop.Addr}, replacement{"localhost:3004", help.Addr})
	hosts := []string{"wiki.example.com", "admin.example.com", "shop.example.net", "help.example.net"}
	s.register(google, "google", secrets["GOOGLE_CLIENT_ID"], secrets["GOOGLE_CLIENT_SECRET"], hosts...)
	s.register(corp, "corp", secrets["OIDC_CLIENT_ID"], secrets["OIDC_CLIENT_SECRET"], hosts...)
	for host, app := range map[string]*e2e.App{hosts[0]: wiki, hosts[1]: admin, hosts[2]: shop, hosts[3]: help} {
		s.wantStrangersKeptOut(app, s.at(host, "/"))
	}

	user := s.adminIsForAdaAlone(corp, admin)
	s.wikiOffersAChoice(google, corp, wiki, user)
	s.shopAndHelpShareASession(google, shop, help)
}

// adminIsForAdaAlone returns Ada's Remote-User.
func (s *stage) adminIsForAdaAlone(corp *logintest.Issuer, admin *e2e.App) string {
	s.t.Helper()
	address := s.at("admin.example.com", "/")
	// With corp alone there is nothing to choose.
	s.want(s.visitor(corp, address, "grace").Get(address), http.StatusForbidden)
	if heard := len(admin.Requests()); heard > 0 {
		s.t.Errorf("the admin app heard %d requests of Grace", heard)
	}
	s.want(s.visitor(corp, address, "ada").Get(address), http.StatusOK)
	return admin.Last().Value("Remote-User")
}

func (s *stage) wikiOffersAChoice(google, corp *logintest.Issuer, wiki *e2e.App, ada string) {
	s.t.Helper()
	s.want(s.choose("corp", corp, "ada"), http.StatusOK)
	wantHeader(s.t, wiki, "Remote-User", ada)
	s.want(s.choose("google", google, "100000000000000000004"), http.StatusOK)
	wantHeader(s.t, wiki, "Remote-Email", "hedy@example.com")

	wiki.Forget()
	s.want(s.choose("google", google, "100000000000000000002"), http.StatusForbidden)
	// Ada's address is hers by corp: whoever comes with it by Google is asked
	// whether they are the same, and is nobody until then.
	asked := s.choose("google", google, "100000000000000000001")
	if s.want(asked, http.StatusOK); !strings.Contains(asked.Body, `name="ask"`) {
		s.t.Errorf("Ada is not asked:\n%.2000s", asked.Body)
	}
	if heard := len(wiki.Requests()); heard > 0 {
		s.t.Errorf("the wiki heard %d requests of people from elsewhere", heard)
	}
}

// choose is somebody new at the wiki who chooses a provider, and where that
// ends.
func (s *stage) choose(provider string, issuer *logintest.Issuer, subject string) e2e.Answer {
	s.t.Helper()
	visitor := e2e.NewVisitor(s.t)
	choice := visitor.Follow(s.at("wiki.example.com", "/page"))
	return s.signIn(visitor, issuer, s.way(choice, provider), subject)
}

func (s *stage) shopAndHelpShareASession(google *logintest.Issuer, shop, help *e2e.App) {
	s.t.Helper()
	visitor := e2e.NewVisitor(s.t)
	way := s.way(visitor.Follow(s.at("shop.example.net", "/")), "google")
	s.want(s.signIn(visitor, google, way, "100000000000000000002"), http.StatusOK)
	user := shop.Last().Value("Remote-User")

	s.want(visitor.Get(s.at("help.example.net", "/")), http.StatusOK)
	wantHeader(s.t, help, "Remote-User", user)
	if visitor.Cookie(s.at("help.example.net", "/"), "__Secure-login") == "" {
		s.t.Error("the session is not shared by its cookie")
	}
	s.want(visitor.Get(s.at("wiki.example.com", "/")), http.StatusFound)

	// Unlike Google, this one has an address to sign out at: a page leads there.
	s.want(visitor.Submit(visitor.Get(s.at("shop.example.net", "/.login/logout"))), http.StatusOK)
	s.want(visitor.Get(s.at("help.example.net", "/")), http.StatusFound)
}

var link = regexp.MustCompile(`href="([^"]+)"`)

// way is the address of the button for a provider on the sign-in page.
func (s *stage) way(page e2e.Answer, provider string) string {
	s.t.Helper()
	for _, found := range link.FindAllStringSubmatch(page.Body, -1) {
		to, err := page.Request.URL.Parse(html.UnescapeString(found[1]))
		if err == nil && strings.HasPrefix(to.Path, "/.login/"+provider) && sameHost(to, page.Request.URL) {
			return to.String()
		}
	}
	s.t.Fatalf("%s offers no %s:\n%.2000s", page.Request.URL, provider, page.Body)
	return ""
}

func sameHost(a, b *url.URL) bool { return a.Host == b.Host }
