package backchannel

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// told is what a Watch heard.
type told struct {
	mu  sync.Mutex
	all []string
}

func (o *told) watch(c Call, took time.Duration, f Flaw) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if took <= 0 {
		c += " in no time"
	}
	o.all = append(o.all, string(c)+" "+string(f))
}

// heard is all of it so far, forgotten then.
func (o *told) heard() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	defer func() { o.all = nil }()
	return strings.Join(o.all, ", ")
}

func TestCallIsToldByTheShapeOfItsRequest(t *testing.T) {
	const form = "application/x-www-form-urlencoded"
	for _, c := range []struct {
		method, path, kind, authorization string
		told, want                        Call
	}{
		{http.MethodGet, "/.well-known/openid-configuration", "", "", "", Discovery},
		{http.MethodGet, "/tenant/.well-known/openid-configuration", "", "", Revoke, Discovery},
		{http.MethodGet, "/.well-known/oauth-authorization-server/tenant", "", "", "", Discovery},
		{http.MethodGet, "/oauth2/v3/certs", "", "", "", Keys},
		{http.MethodGet, "/keys", "", "", Refresh, Keys},
		{http.MethodPost, "/token", form, "Basic eDp5", "", Token},
		{http.MethodPost, "/token", form + "; charset=utf-8", "", "", Token},
		{http.MethodPost, "/token", form, "", Refresh, Refresh},
		{http.MethodPost, "/revoke", form, "", Revoke, Revoke},
		{http.MethodDelete, "/applications/x/grant", "application/json", "Basic eDp5", Revoke, Revoke},
		{http.MethodGet, "/userinfo", "", "Bearer x", "", UserInfo},
		{http.MethodPost, "/applications/x/token", "application/json", "Basic eDp5", "", Other},
		{http.MethodGet, "/anything", "", "", Other, Other},
		{http.MethodHead, "/token", "", "", "", Other},
	} {
		ctx := t.Context()
		if c.told != "" {
			ctx = For(ctx, c.told)
		}
		r, err := http.NewRequestWithContext(ctx, c.method, "https://issuer.example"+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", c.kind)
		if c.authorization != "" {
			r.Header.Set("Authorization", c.authorization)
		}
		if got := callOf(r); got != c.want {
			t.Errorf("%s %s for %q is %s, want %s", c.method, c.path, c.told, got, c.want)
		}
	}
}

func TestEachCallIsToldOnceAndWhatWasWrongWithIt(t *testing.T) {
	var o told
	plain := Network{Watch: o.watch}
	secure, trusting := serveTLS(t, nil, write("x"))
	trusting.Watch = o.watch
	distrusting := Network{Proxy: noProxy, Watch: o.watch}
	cut := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "not all")
	})
	status := func(code int) string {
		return serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(code)
		})
	}
	silent := make(chan struct{})
	slow := serve(t, func(http.ResponseWriter, *http.Request) { <-silent })
	t.Cleanup(func() { close(silent) }) // before its server is closed
	hasty := plain.client(bounds{timeout: 50 * time.Millisecond, body: 10, calls: 1}, []string{slow})
	for name, c := range map[string]struct {
		client  *http.Client
		address string
		want    string
	}{
		"well":           {nil, serve(t, write("x")), "keys "},
		"over TLS":       {trusting.Client(secure), secure, "keys "},
		"no such thing":  {nil, status(http.StatusNotFound), "keys "},
		"broken":         {nil, status(http.StatusBadGateway), "keys status"},
		"too many":       {nil, status(http.StatusTooManyRequests), "keys status"},
		"redirect":       {nil, status(http.StatusFound), "keys answer"},
		"cut short":      {nil, cut, "keys answer"},
		"unknown issuer": {distrusting.Client(secure), secure, "keys certificate"},
		"too slow":       {hasty, slow, "keys timeout"},
		"nobody there":   {nil, "http://127.0.0.1:1", "keys unreachable"},
		"inside":         {plain.Client(), "https://10.0.0.1/", "keys forbidden"},
		"no TLS":         {plain.Client(), "http://example.com/", "keys forbidden"},
	} {
		client := c.client
		if client == nil {
			client = plain.Client(c.address)
		}
		readAll(client, c.address)
		if got := o.heard(); got != c.want {
			t.Errorf("%s: told %q, want %q", name, got, c.want)
		}
	}
}

func TestAnswerThatIsTooLargeIsToldAsSuch(t *testing.T) {
	var o told
	u := serve(t, write(strings.Repeat("x", 100)))
	readAll(Network{Watch: o.watch}.client(bounds{timeout: Timeout, body: 10, calls: 1}, []string{u}), u)
	if got := o.heard(); got != "keys answer" {
		t.Errorf("told %q", got)
	}
}

// A visitor who closes the page ends the call that was made for them. Whoever
// does so again and again must not make a provider look as if it failed.
func TestCallThatItsCallerGaveUpIsPassedOver(t *testing.T) {
	var o told
	reached, release := make(chan struct{}), make(chan struct{})
	u := serve(t, func(http.ResponseWriter, *http.Request) {
		close(reached)
		<-release
	})
	defer close(release)
	ctx, leave := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-reached
		leave()
	}()
	if _, err := (Network{Watch: o.watch}).Client(u).Do(r); err == nil {
		t.Fatal("the call was answered")
	}
	if got := o.heard(); got != "" {
		t.Errorf("told %q", got)
	}
}
