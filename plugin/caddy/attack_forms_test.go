package main_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// formal are sites whose rules look at more than paths.
var formal = []corner{
	{
		name: "verbs", lines: "@read {\nmethod GET HEAD\npath /public/*\n}\n@delete method DELETE\nLOGIN\nreverse_proxy {$APP}",
		allow: "allow @read anyone\nallow @delete role:boss\nallow users",
	},
	{name: "dav", lines: "LOGIN\nreverse_proxy {$APP}", allow: threeRules},
	{
		name: "query", lines: "@view {\npath /ajax\nquery action=view\n}\n@admin query area=admin\nLOGIN\nreverse_proxy {$APP}",
		allow: "allow @view anyone\nallow @admin role:boss\nallow users",
	},
	{
		name: "host", also: ", http://host.localhost.:{$PORT2}", lines: "@boss host host.localhost\nLOGIN\nreverse_proxy {$APP}",
		allow: "allow @boss role:boss\nallow users",
	},
	{name: "accents", lines: "@free not path /privé/*\nLOGIN\nreverse_proxy {$APP}", allow: "allow @free anyone\nallow role:boss"},
}

// form is a request of somebody at one of these sites.
type form struct {
	at     int
	who    int
	method string
	target string
	fields [][2]string
}

const (
	verbs = iota
	dav
	query
	host
	accents
)

func named(name, value string) [][2]string { return [][2]string{{name, value}} }

// strays are requests that an app would take for others, which their senders
// may not make.
var strays = []form{
	{verbs, asNobody, "GET", "/public/x", named("x-http-method-override", "DELETE")},
	{verbs, asNobody, "HEAD", "/public/x", named("x-method-override", "put")},
	{verbs, asNobody, "GET", "/public/x?_method=PUT", nil},
	{verbs, asGrace, "POST", "/x", named("x-http-method-override", "DELETE")},
	{verbs, asGrace, "POST", "/x", named("x-http-method", "delete")},
	{verbs, asGrace, "POST", "/x?a=b&_method=DELETE", nil},
	{verbs, asGrace, "POST", "/x?_method=PUT;_method=DELETE", nil},
	{verbs, asGrace, "POST", "/x?%5fmethod=%44ELETE", nil},
	{verbs, asGrace, "delete", "/x", nil},
	{verbs, asGrace, "Delete", "/x", nil},
	{dav, asNobody, "MOVE", "/public/x", named("destination", "http://dav.localhost/secret/x")},
	{dav, asNobody, "COPY", "/public/x", named("destination", "/secret/x")},
	{dav, asNobody, "COPY", "/public/x", named("destination", "/public/%2e%2e/secret/x")},
	{dav, asNobody, "COPY", "/public/x", named("destination", "/public/..;/secret/x")},
	{dav, asNobody, "COPY", "/public/x", named("destination", "//elsewhere.test/secret")},
	{dav, asNobody, "COPY", "/public/x", [][2]string{{"destination", "/public/y"}, {"destination", "/secret/y"}}},
	{dav, asNobody, "COPY", "/public/x", named("destination", "")},
	{dav, asGrace, "MOVE", "/x", named("destination", "/admin/x")},
	{dav, asGrace, "MOVE", "/x", named("destination", "http://other.test/ADMIN/x")},
	{dav, asGrace, "MOVE", "/x", named("destination", "http://dav.localhost//admin/x")},
	{dav, asGrace, "COPY", "/x", named("destination", "/%61dmin;x/y")},
	{dav, asGrace, "COPY", "/x", named("destination", "/x/../admin/y")},
	{query, asNobody, "GET", "/ajax?action=view&action=edit", nil},
	{query, asNobody, "GET", "/ajax?action=edit&action=view", nil},
	{query, asNobody, "GET", "/ajax?action=view&%61ction=edit", nil},
	{query, asNobody, "GET", "/ajax?action=view;action=edit", nil},
	{query, asGrace, "GET", "/x?area=home&area=admin", nil},
	{query, asGrace, "GET", "/x?a;area=admin", nil},
	{query, asGrace, "GET", "/x?a=%zz;area=admin", nil},
	{host, asGrace, "GET", "/x", nil},
	{accents, asNobody, "GET", "/priv%C3%A9/x", nil},
	{accents, asNobody, "GET", "/prive%CC%81/x", nil},
	{accents, asGrace, "GET", "/PRIVE%CC%81/x", nil},
}

// usuals are requests that their senders may make.
var usuals = []form{
	{verbs, asNobody, "GET", "/public/x", nil},
	{verbs, asGrace, "POST", "/x", named("x-http-method-override", "PUT")},
	{verbs, asAda, "POST", "/x?_method=DELETE", named("x-http-method-override", "DELETE")},
	{dav, asNobody, "MOVE", "/public/x", named("destination", "http://dav.localhost/public/y")},
	{dav, asGrace, "MOVE", "/x", named("destination", "http://dav.localhost/public/y")},
	{dav, asAda, "COPY", "/x", named("destination", "/admin/y")},
	{query, asNobody, "GET", "/ajax?action=view&id=1", nil},
	{query, asNobody, "GET", "/ajax?id=1&id=2&action=view", nil},
	{query, asGrace, "GET", "/x?area=home&area=hall", nil},
	{query, asAda, "GET", "/x?area=home&area=admin", nil},
	{host, asAda, "GET", "/x", nil},
	{accents, asNobody, "GET", "/re%CC%81sume%CC%81/x", nil},
	{accents, asAda, "GET", "/prive%CC%81/x", nil},
}

// An app may obey another method than the request's, another value of a
// parameter, another path than the first, another spelling of its host.
func TestEveryFormOfARequestIsJudged(t *testing.T) {
	q := newQuarter(t, formal, "")
	for over, name := range []string{"HTTP/1", "HTTP/2"} {
		for _, f := range strays {
			for _, e := range q.say(t, over, f) {
				t.Errorf("%s, as %d at %s: the app received\n%s", name, f.who, formal[f.at].name, e.raw)
			}
		}
		for _, f := range usuals {
			if got := q.say(t, over, f); len(got) != 1 {
				t.Errorf("%s, as %d at %s: %s %s %q came to the app %d times", name, f.who, formal[f.at].name, f.method, f.target, f.fields, len(got))
			}
		}
	}
}

// say asks for a form, at the host site with a dot behind its name.
func (q *quarter) say(t *testing.T, over int, f form) []entry {
	t.Helper()
	ask := inquiry{method: f.method, target: f.target, host: authority(q.site(f.at)), fields: f.fields}
	if f.at == host && f.who == asGrace {
		ask.host = strings.Replace(ask.host, "localhost", "localhost.", 1)
	}
	if cookies := q.cookies[f.at][f.who]; cookies != "" {
		ask.fields = append([][2]string{{"cookie", cookies}}, f.fields...)
	}
	q.askers[over].ask(t, ask)
	return q.received()
}

// movers are headers from which servers and frameworks take the part of the
// path that the app gets, or one to put before it.
var movers = []string{
	"Script-Name", "SCRIPT_NAME", "script.name", "X-Script-Name", "X_Script_Name", "X-Forwarded-Script-Name", "PATH_INFO", "X-Traversal-Path",
	"X-Vhm-Root", "X_VHM_ROOT", "X-Original-Url", "X_Rewrite_Url",
}

// "X-Script-Name: /public" makes /admin of /public/admin, to apps that follow a
// recipe for Flask; SCRIPT_NAME does, to Gunicorn.
func TestNoHeaderMovesThePath(t *testing.T) {
	q := newQuarter(t, corners[:1], "")
	for over, asker := range q.askers {
		for _, name := range movers {
			for _, who := range []int{asNobody, asGrace} {
				if over == 1 {
					name = strings.ToLower(name)
				}
				ask := inquiry{method: http.MethodGet, target: "/public/admin/x", host: authority(q.site(0)), fields: [][2]string{{name, "/public"}, {"cookie", q.cookies[0][who]}}}
				if status := asker.ask(t, ask); status != http.StatusOK {
					t.Errorf("%s: %d", name, status)
				}
				for _, e := range q.received() {
					if strings.Contains(strings.ToLower(fmt.Sprint(e.fields())), strings.ToLower(name)+":") {
						t.Errorf("the app received\n%s", e.raw)
					}
				}
			}
		}
	}
}
