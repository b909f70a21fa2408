package module

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/session"
	_ "github.com/caddy-login/caddy-login/plugin/provider/oidc"
	_ "github.com/caddy-login/caddy-login/plugin/store/badger"
)

// BenchmarkGate measures the gate without Caddy around it and without an app
// behind: each operation is a request of Chrome's that has never been handled
// before, prepared as Caddy's server does it, outside the clock. A few are
// prepared at a time, so that they lie in the processor's cache, as those do that
// a server has just read; "cold" is one that has to be fetched from memory first.
func BenchmarkGate(b *testing.B) {
	gate := openGate(b, `{"allow":[{"who":["*@example.com"]}],"roles":[{"name":"staff","who":["*@example.com"]}]}`)
	matching := openGate(b, `{"allow":[
		{"match":[{"path":["/public/*"]}],"who":["anyone"]},
		{"match":[{"path":["/admin/*"]}],"who":["group:admins"]},
		{"who":["*@example.com"]}]}`)
	cookie := "theme=dark; login=" + enter(b, gate)
	navigation, script := map[string]string{}, map[string]string{
		"Accept": "*/*", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty", "Sec-Fetch-User": "",
	}
	for _, c := range []struct {
		name   string
		gate   *Gate
		cookie string
		change map[string]string
		many   int // are prepared at a time
		want   int
	}{
		{"SignedIn", gate, cookie, navigation, 16, http.StatusOK},
		{"SignedIn_cold", gate, cookie, navigation, 512, http.StatusOK},
		{"SignedIn_with_matchers", matching, "theme=dark; login=" + enter(b, matching), navigation, 16, http.StatusOK},
		{"Unknown_to_302", gate, "theme=dark", navigation, 16, http.StatusFound},
		{"Unknown_to_401", gate, "theme=dark", script, 16, http.StatusUnauthorized},
		{"Forged_cookie_to_401", gate, "theme=dark; login=forged", script, 16, http.StatusUnauthorized},
	} {
		b.Run(c.name, func(b *testing.B) { benchmark(b, c.gate, chromes(c.cookie, c.change), c.many, c.want) })
	}
}

// benchmark prepares many requests while the clock stands.
func benchmark(b *testing.B, g *Gate, header http.Header, many, want int) {
	app := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusOK)
		return nil
	})
	requests, answers := make([]*http.Request, many), make([]mute, many)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		i := n % many
		if i == 0 {
			b.StopTimer()
			for i := range many {
				answers[i] = mute{header: http.Header{}}
				requests[i] = prepared(header.Clone(), &answers[i])
			}
			b.StartTimer()
		}
		if err := g.ServeHTTP(&answers[i], requests[i], app); err != nil || answers[i].status != want {
			b.Fatalf("status %d, %v; want %d", answers[i].status, err, want)
		}
	}
}

// mute is an answer that nobody reads.
type mute struct {
	header http.Header
	status int
}

func (m *mute) Header() http.Header         { return m.header }
func (m *mute) Write(p []byte) (int, error) { return len(p), nil }
func (m *mute) WriteHeader(status int)      { m.status = status }

// prepared is a request as Caddy's server gives it to its handlers.
func prepared(header http.Header, w http.ResponseWriter) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "http://localhost:8080/v/7/dashboard?tab=open", nil)
	r.Header = header
	return caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, &caddyhttp.Server{})
}

// chromes are the headers of a click on a link in Chrome, with changes; an
// empty value takes one away.
func chromes(cookie string, change map[string]string) http.Header {
	h := http.Header{}
	for name, value := range map[string]string{
		"Connection":                "keep-alive",
		"Sec-Ch-Ua":                 `"Chromium";v="142", "Google Chrome";v="142", "Not_A Brand";v="99"`,
		"Sec-Ch-Ua-Mobile":          "?0",
		"Sec-Ch-Ua-Platform":        `"Linux"`,
		"Upgrade-Insecure-Requests": "1",
		"User-Agent":                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
		"Accept":                    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
		"Sec-Fetch-Site":            "same-origin",
		"Sec-Fetch-Mode":            "navigate",
		"Sec-Fetch-User":            "?1",
		"Sec-Fetch-Dest":            "document",
		"Referer":                   "http://localhost:8080/",
		"Accept-Encoding":           "gzip, deflate, br, zstd",
		"Accept-Language":           "en-GB,en-US;q=0.9,en;q=0.8,de;q=0.7",
		"Cookie":                    cookie,
	} {
		h.Set(name, value)
	}
	for name, value := range change {
		if value == "" {
			h.Del(name)
			continue
		}
		h.Set(name, value)
	}
	return h
}

// openGate provisions a gate with an app of its own, as Caddy does.
func openGate(b testing.TB, config string) *Gate {
	b.Helper()
	return openGates(b, b.TempDir(), config)[0]
}

// openGates provisions several gates of one app, with a store in dir.
func openGates(b testing.TB, dir string, configs ...string) (gates []*Gate) {
	b.Helper()
	store, err := json.Marshal(map[string]string{"store": "badger", "dir": dir})
	if err != nil {
		b.Fatal(err)
	}
	app := fmt.Appendf(nil, `{"store":%s,"providers":[{"provider":"oidc","name":"bench","client_id":"a","client_secret":"b","issuer":"http://127.0.0.1:1"}]}`, store)
	ctx, err := caddy.ProvisionContext(&caddy.Config{AppsRaw: caddy.ModuleMap{"login": app}})
	if err != nil {
		b.Fatal(err)
	}
	for _, config := range configs {
		loaded, err := ctx.LoadModuleByID("http.handlers.login", []byte(config))
		if err != nil {
			b.Fatal(err)
		}
		gates = append(gates, loaded.(*Gate))
	}
	b.Cleanup(func() {
		if err := gates[0].app.Stop(); err != nil {
			b.Error(err)
		}
	})
	return gates
}

// enter begins a session at the gate, and returns the cookie's value.
func enter(b testing.TB, g *Gate) (cookie string) {
	b.Helper()
	return enterWith(b, g, nil)
}

// enterWith does so with a grant.
func enterWith(b testing.TB, g *Gate, grant *session.Grant) (cookie string) {
	b.Helper()
	house, err := g.app.door.enter()
	if err != nil {
		b.Fatal(err)
	}
	arrival := identity.Arrival{
		Traits: guest.Traits{Name: "bench", Email: guest.EmailRules{Identifier: true}},
		Profile: guest.Profile{
			Issuer: "http://127.0.0.1:1", Subject: "1", Name: "Ada Lovelace",
			Email: "ada@example.com", EmailTrust: guest.Verified, Groups: []string{"staff", "engineering"},
		},
		SignUp: func(identity.Email) bool { return true }, At: time.Now(),
	}
	ticket, err := house.sessions.Issue("localhost")
	if err != nil {
		b.Fatal(err)
	}
	err = house.store.Update(b.Context(), func(tx guest.Tx) error {
		admitted, err := identity.Admit(tx, arrival)
		if err != nil {
			return err
		}
		_, err = house.sessions.Start(tx, ticket, session.New{
			Person: admitted.Person, Provider: "bench", AuthTime: time.Now(),
			Lifetime: 24 * time.Hour, Idle: 24 * time.Hour, Grant: grant,
		})
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return ticket.Cookie
}
