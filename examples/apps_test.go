package examples_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// appsByHeader is what each app of examples/apps-by-header is told of Ada, and
// nothing else. <id> stands for her ID.
var appsByHeader = []struct {
	host string
	want map[string]string
}{
	{"nextcloud.example.com", map[string]string{
		"Remote-User": "<id>", "Remote-Email": "ada@example.com", "Remote-Name": "Ada Lovelace",
		"Remote-Groups": "employees,everybody,external-users,writers",
	}},
	{"grafana.example.com", map[string]string{"X-WEBAUTH-USER": "ada@example.com", "X-WEBAUTH-NAME": "Ada Lovelace"}},
	{"gitea.example.com", map[string]string{
		"X-WEBAUTH-USER": "<id>", "X-WEBAUTH-EMAIL": "ada@example.com", "X-WEBAUTH-FULLNAME": "Ada Lovelace",
	}},
	{"home.example.com", map[string]string{
		"X-Forwarded-User": "<id>", "X-Forwarded-Email": "ada@example.com", "X-Forwarded-Preferred-Username": "ada@example.com",
		"X-Forwarded-Groups": "employees,everybody,external-users,writers",
	}},
	{"paperless.example.com", authelia},
	{"miniflux.example.com", authelia},
	{"music.example.com", authelia},
	{"links.example.com", authelia},
	{"chat.example.com", map[string]string{
		"X-Forwarded-User": "ada", "X-Forwarded-Email": "ada@example.com", "X-Forwarded-Preferred-Username": "ada@example.com",
		"X-Forwarded-Groups": "employees,everybody,external-users,writers",
	}},
}

var authelia = map[string]string{
	"Remote-User": "ada@example.com", "Remote-Email": "ada@example.com", "Remote-Name": "Ada Lovelace",
	"Remote-Groups": "employees,everybody,external-users,writers",
}

// One app stands for all of them: what they have in common is that they
// believe a header.
func appsSignInByHeader(t *testing.T) {
	app, corp := e2e.NewApp(t), newCorp(t)
	changes := []replacement{{"https://id.example.com", corp.URL}}
	for _, port := range []string{"3000", "3001", "8080", "8123", "8000", "8081", "4533", "9090", "8082"} {
		changes = append(changes, replacement{"reverse_proxy localhost:" + port + "\n", "reverse_proxy " + app.Addr + "\n"})
	}
	s := show(t, "apps-by-header", changes...)
	var hosts []string
	for _, row := range appsByHeader {
		hosts = append(hosts, row.host)
	}
	s.register(corp, "corp", secrets["OIDC_CLIENT_ID"], secrets["OIDC_CLIENT_SECRET"], hosts...)

	id := ""
	for _, row := range appsByHeader {
		s.wantStrangersKeptOut(app, s.at(row.host, "/"))
		ada := s.visitor(corp, s.at(row.host, "/"), "ada")
		s.want(ada.Do(forging(ada.Navigation(s.at(row.host, "/")))), http.StatusOK)
		if id == "" {
			id = app.Last().Value("Remote-User")
		}
		for _, name := range headersByHeader() {
			wantHeader(t, app, name, strings.ReplaceAll(row.want[name], "<id>", id))
		}
	}
	s.wantClientsThrough(app)
}

// headersByHeader are the names that any of the apps believes.
func headersByHeader() []string {
	all := map[string]bool{}
	for _, row := range appsByHeader {
		for name := range row.want {
			all[name] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// forging claims in each of those headers to be somebody else.
func forging(r *http.Request) *http.Request {
	for _, name := range headersByHeader() {
		r.Header.Set(name, "forged")
		r.Header[strings.ReplaceAll(name, "-", "_")] = []string{"forged"}
	}
	return r
}

// wantClientsThrough checks what needs no browser: it gets to the app as
// nobody, and there alone.
func (s *stage) wantClientsThrough(app *e2e.App) {
	s.t.Helper()
	client := e2e.NewVisitor(s.t)
	for _, row := range []struct {
		host, path, authorization string
		want                      int
	}{
		{"miniflux.example.com", "/v1/me", "", http.StatusOK},
		{"miniflux.example.com", "/accounts/ClientLogin", "", http.StatusOK},
		{"miniflux.example.com", "/accounts", "", http.StatusUnauthorized},
		{"miniflux.example.com", "/v1/../settings", "", http.StatusUnauthorized},
		{"music.example.com", "/rest/ping", "", http.StatusOK},
		{"music.example.com", "/app/", "", http.StatusUnauthorized},
		{"links.example.com", "/api/bookmarks/", "Token 123", http.StatusOK},
		{"links.example.com", "/api/bookmarks/", "", http.StatusUnauthorized},
		{"links.example.com", "/bookmarks", "Token 123", http.StatusUnauthorized},
	} {
		app.Forget()
		r := forging(client.Request(http.MethodGet, s.at(row.host, row.path), ""))
		if row.authorization != "" {
			r.Header.Set("Authorization", row.authorization)
		}
		s.want(client.Do(r), row.want)
		if heard := len(app.Requests()); (heard > 0) != (row.want == http.StatusOK) {
			s.t.Errorf("%s%s: the app heard %d requests", row.host, row.path, heard)
		}
		if row.want == http.StatusOK && strings.Contains(app.Last().Raw, "forged") {
			s.t.Errorf("%s%s: the app received\n%s", row.host, row.path, app.Last().Raw)
		}
	}
}
