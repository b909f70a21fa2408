package main_test

import (
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// A gate behind what answers for it protects nothing, however it came to stand
// there: no such config is taken, and the one that runs goes on.
func TestLoginBehindItsAppIsRefused(t *testing.T) {
	s := play(t, usual)
	ada := s.signedIn(t, e2e.Ada)
	site := func(lines string) string { return "https://app.test:{$PORT} {\n" + lines + "\n}\n" }
	in := func(handlers string) string { return `{"handle":[` + handlers + `]}` }
	proxy, files := `{"handler":"reverse_proxy","upstreams":[{"dial":"127.0.0.1:9"}]}`, `{"handler":"file_server"}`
	for name, config := range map[string]string{
		"in one route":       jsonSite(in(proxy+","+gateJSON), ""),
		"routes of a list":   jsonSite(in(proxy)+","+in(gateJSON), ""),
		"below a subroute":   jsonSite(in(`{"handler":"subroute","routes":[`+in(files)+`]},`+gateJSON), ""),
		"beside a subroute":  jsonSite(in(proxy+`,{"handler":"subroute","routes":[`+in(gateJSON)+`]}`), ""),
		"each path":          jsonSite(`{"match":[{"path":["/x","*"]}],"handle":[`+proxy+`]},`+in(gateJSON), ""),
		"another site's all": strings.Replace(jsonSite(in(gateJSON), ""), `"routes":[`, `"routes":[`+in(proxy)+",", 1),
	} {
		out, err := validate(t, s.Caddy, config, "")
		if err == nil || !strings.Contains(out, "login stands behind") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	for _, order := range []string{"after reverse_proxy", "last"} {
		out, err := s.TryReload("{\n\torder login " + order + "\n}\n" + usual)
		if err == nil || !strings.Contains(out+s.Log(), "login stands behind reverse_proxy") {
			t.Errorf("order login %s: %v\n%s", order, err, out)
		}
	}
	mustBe(t, e2e.NewVisitor(t).Get(s.site+"/in"), 302)
	if !s.isIn(ada) {
		t.Error("a refused reload signed somebody out")
	}
	for name, lines := range map[string]string{
		"a webhook before":      "route {\nreverse_proxy /hook 127.0.0.1:9\n" + offers + "reverse_proxy 127.0.0.1:9\n}",
		"a handle for a path":   "handle /hook/* {\nreverse_proxy 127.0.0.1:9\n}\nhandle {\n" + offers + "reverse_proxy 127.0.0.1:9\n}",
		"forward_auth before":   "route {\nforward_auth 127.0.0.1:9 {\nuri /\n}\n" + offers + "reverse_proxy 127.0.0.1:9\n}",
		"files that pass on":    "route {\nfile_server {\npass_thru\n}\n" + offers + "reverse_proxy 127.0.0.1:9\n}",
		"headers and a rewrite": "route {\nheader X-A b\nrewrite /a /b\n" + offers + "reverse_proxy 127.0.0.1:9\n}",
	} {
		if out, err := validate(t, s.Caddy, site(lines), "caddyfile"); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// What an operator meant for the holder of a token must not be for everybody
// once the token's variable is gone; with it, it is for the holder.
func TestUnsetVariableOpensNoCorner(t *testing.T) {
	machine := strings.NewReplacer("\tlogin {", "\t@machine header X-Token {env.MACHINE_TOKEN}\n\tlogin {",
		"allow /public/*", "allow @machine anyone\n\t\tallow /{env.OPEN_CORNER}/* anyone\n\t\tallow /public/*").Replace(usual)
	env := map[string]string{"MACHINE_TOKEN": "of-the-machine", "OPEN_CORNER": "corner"}
	s := playWith(t, machine, env)
	ask := func(path, token string) int {
		v := e2e.NewVisitor(t)
		r := v.Navigation(s.site + path)
		r.Header["X-Token"] = []string{token}
		return v.Do(r).StatusCode
	}
	for path, want := range map[string]map[string]int{"/x": {"of-the-machine": 200, "": 302, "{env.MACHINE_TOKEN}": 302}, "/corner/x": {"": 200}} {
		for token, status := range want {
			if got := ask(path, token); got != status {
				t.Errorf("%s with %q: %d, want %d", path, token, got, status)
			}
		}
	}
	for gone := range env {
		less := e2e.NewCaddy(t, e2e.Build(t))
		for name, value := range s.Env {
			if name != gone {
				less.Env[name] = value
			}
		}
		out, err := validate(t, less, machine, "caddyfile")
		if err == nil || !strings.Contains(out, "{env."+gone+"} is empty") {
			t.Errorf("without %s: %v\n%s", gone, err, out)
		}
	}
}
