package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
	_ "github.com/caddy-login/caddy-login/plugin"
)

func init() { caddy.RegisterModule(listener{}) }

// listener is an operator's handler of events.
type listener struct{}

func (listener) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.login_test", New: func() caddy.Module { return new(listener) }}
}

// told is one event: its name, its module, and what it says.
type told struct {
	name, origin string
	data         map[string]any
}

var heardEvents struct {
	sync.Mutex
	all []told
}

func (listener) Handle(_ context.Context, e caddy.Event) error {
	heardEvents.Lock()
	defer heardEvents.Unlock()
	heardEvents.all = append(heardEvents.all, told{e.Name(), string(e.Origin().CaddyModule().ID), maps.Clone(e.Data)})
	return nil
}

// takeEvents returns what was told since it was last called.
func takeEvents() []told {
	heardEvents.Lock()
	defer heardEvents.Unlock()
	all := heardEvents.all
	heardEvents.all = nil
	return all
}

var (
	_ caddyevents.Handler = listener{}
	_ caddy.Module        = listener{}
)

const overheard = `
{
	admin off
	persist_config off
	auto_https off
	log {
		level ERROR
	}
	storage file_system %[1]s/storage
	login {
		store badger %[1]s/store
	}
}
http://app.localhost:%[2]d {
	bind 127.0.0.1
	login {
		oidc op site secret {
			issuer %[3]s
		}
		allow users
	}
	respond "the app"
}
`

// loadHere runs Caddy within this process until the test ends.
func loadHere(t *testing.T, caddyfile string) {
	t.Helper()
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(adapted, &config); err != nil {
		t.Fatal(err)
	}
	config["apps"].(map[string]any)["events"] = map[string]any{"subscriptions": []any{map[string]any{
		"events":   []string{"login_succeeded", "login_failed", "session_ended"},
		"handlers": []any{map[string]any{"handler": "login_test"}},
	}}}
	whole, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(whole, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
}

// wantEvent checks that exactly this was told, with exactly these fields, and
// returns the event.
func wantEvent(t *testing.T, name string, fields ...string) map[string]any {
	t.Helper()
	all := takeEvents()
	if len(all) != 1 || all[0].name != name {
		t.Fatalf("events %+v, want one %s", all, name)
	}
	got := slices.Sorted(maps.Keys(all[0].data))
	slices.Sort(fields)
	if !slices.Equal(got, fields) {
		t.Errorf("%s has %q, want %q", name, got, fields)
	}
	for field, value := range all[0].data {
		if text := fmt.Sprint(value); strings.Contains(text, "@") || text == "" && field != "decision" {
			t.Errorf("%s: %s is %q", name, field, text)
		}
	}
	return all[0].data
}

var admitted = []string{"provider", "user_id", "new_user", "decision", "session", "request_id"}

// overheardSite is a site in this process, one visitor, and their provider.
type overheardSite struct {
	site    string
	issuer  *logintest.Issuer
	visitor *e2e.Visitor
}

func overhear(t *testing.T) *overheardSite {
	t.Helper()
	port := e2e.FreePort(t)
	o := &overheardSite{fmt.Sprintf("http://app.localhost:%d", port), logintest.NewIssuer(t), e2e.NewVisitor(t)}
	o.issuer.Client("site", "secret", o.site+"/.login/op/callback")
	o.issuer.Person(logintest.Person{Subject: "ada", Email: "ada@example.com", EmailVerified: true, Name: "Ada"})
	loadHere(t, fmt.Sprintf(overheard, t.TempDir(), port, o.issuer.URL))
	takeEvents()
	return o
}

func (o *overheardSite) signIn(t *testing.T) e2e.Answer {
	t.Helper()
	begun := o.visitor.Get(o.site + "/.login/op?return=%2Fin")
	callback, _, err := pick(o.visitor.To(begun), "ada")
	if err != nil {
		t.Fatal(err)
	}
	return o.visitor.Get(callback)
}

// signOut goes on to the provider with a page where somebody is signed in.
func (o *overheardSite) signOut(t *testing.T, status int) {
	t.Helper()
	r := o.visitor.Request(http.MethodPost, o.site+"/.login/logout", "")
	r.Header.Set("Origin", o.site)
	mustBe(t, o.visitor.Do(r), status)
}

func TestEventsTellOfEachOutcomeOnce(t *testing.T) {
	o := overhear(t)
	mustBe(t, o.signIn(t), http.StatusFound)
	first := wantEvent(t, "login_succeeded", admitted...)
	if first["new_user"] != true || first["decision"] != "E1" || first["provider"] != "op" {
		t.Errorf("the first sign-in is %v", first)
	}

	o.issuer.NextLogin(logintest.WrongNonce())
	id := wantErrorPage(t, o.signIn(t))
	failed := wantEvent(t, "login_failed", "provider", "outcome", "decision", "request_id")
	if failed["outcome"] != "invalid_answer" || failed["request_id"] != id {
		t.Errorf("the failure is %v, the page's id %s", failed, id)
	}

	o.visitor.Get(o.site + "/in") // tells nobody anything
	o.signOut(t, http.StatusOK)
	ended := wantEvent(t, "session_ended", "user_id", "session", "reason", "request_id")
	if ended["session"] != first["session"] || ended["user_id"] != first["user_id"] || ended["reason"] != "signed_out" {
		t.Errorf("ended %v, begun %v", ended, first)
	}
	o.signOut(t, http.StatusSeeOther) // nobody is left to sign out
	if more := takeEvents(); len(more) > 0 {
		t.Errorf("told besides: %v", more)
	}

	mustBe(t, o.signIn(t), http.StatusFound)
	second := wantEvent(t, "login_succeeded", admitted...)
	if second["new_user"] != false || second["decision"] != "A1" || second["user_id"] != first["user_id"] || second["session"] == first["session"] {
		t.Errorf("the second sign-in is %v", second)
	}
}

func TestSessionThatAnotherReplacesIsTold(t *testing.T) {
	o := overhear(t)
	mustBe(t, o.signIn(t), http.StatusFound)
	first := wantEvent(t, "login_succeeded", admitted...)
	mustBe(t, o.signIn(t), http.StatusFound) // the same browser
	ended := map[string]any{}
	for _, event := range takeEvents() {
		ended[event.name] = event.data["session"]
	}
	if ended["session_ended"] != first["session"] {
		t.Errorf("the session that ended is %v, told was %v", first["session"], ended)
	}
}

// Caddy provisions its apps in any order: the site's gate may be the one that
// loads ours.
func TestEventsAreTheAppsWhateverWasLoadedFirst(t *testing.T) {
	for range 8 {
		t.Run("", func(t *testing.T) {
			mustBe(t, overhear(t).signIn(t), http.StatusFound)
			for _, event := range takeEvents() {
				if event.origin != "login" {
					t.Errorf("%s is told by %s: who listens to login alone may not hear it", event.name, event.origin)
				}
			}
		})
	}
}
