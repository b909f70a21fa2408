package module

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-login/caddy-login/module/guest"
)

// series are all of ours in a registry, as name{label="value",…}, and their
// values. A histogram's is its count.
func series(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, family := range families {
		if !strings.HasPrefix(family.GetName(), "caddy_login_") {
			continue
		}
		for _, m := range family.GetMetric() {
			var labels []string
			for _, pair := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", pair.GetName(), pair.GetValue()))
			}
			name := family.GetName() + "{" + strings.Join(labels, ",") + "}"
			all[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return all
}

func registered(t *testing.T) *prometheus.Registry {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors...)
	return registry
}

// A provider's answer decides a guest's error, and what a guest says decides a
// label: neither may make up one.
func TestNobodyInventsALabel(t *testing.T) {
	registry := registered(t)
	labels.learn("the-real-one")
	before := series(t, registry)
	for i := range 2000 {
		invented := fmt.Sprintf("ada%d@example.com\n", i)
		err := fmt.Errorf("finishing: %w", &guest.Failure{Reason: guest.Reason(invented), Err: errors.New(invented)})
		failure := (&portal{}).failure(nil, "/", err)
		countLogin(invented, failure.outcome)
		countLogin("the-real-one", failure.outcome)
		countRevocation(invented, err)
		countLogoutToken(invented, err)
	}
	after := series(t, registry)
	for name := range after {
		if strings.Contains(name, "ada") {
			t.Fatalf("invented: %s", name)
		}
	}
	if grown := len(after) - len(before); grown > 4 {
		t.Errorf("%d new series: %v", grown, slices.Sorted(maps.Keys(after)))
	}
	if got := after[`caddy_login_attempts_total{outcome="provider_error",provider="other"}`]; got < 2000 {
		t.Errorf("%v attempts at providers that nobody knows", got)
	}
}

func TestProvidersOfManyConfigsShareALabelInTheEnd(t *testing.T) {
	var many providerLabels
	given := map[string]bool{}
	for i := range 10 * maxProviderLabels {
		name := fmt.Sprintf("op-%d", i)
		many.learn(name)
		given[many.of(name)] = true
	}
	if len(given) != maxProviderLabels+1 || !given["other"] || !given["op-0"] {
		t.Errorf("%d labels", len(given))
	}
	if many.of("") != "" {
		t.Error("no provider is called one")
	}
}

func TestCountsOutliveAReload(t *testing.T) {
	var counts []float64
	for range 2 {
		ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
		registerMetrics(ctx)
		registerMetrics(ctx) // two sites of one config
		labels.learn("reloaded")
		countLogin("reloaded", "succeeded")
		families, err := ctx.GetMetricsRegistry().Gather()
		if err != nil || len(families) == 0 {
			t.Fatalf("%d families, %v", len(families), err)
		}
		counts = append(counts, series(t, ctx.GetMetricsRegistry())[`caddy_login_attempts_total{outcome="succeeded",provider="reloaded"}`])
		cancel()
	}
	if counts[1] != counts[0]+1 {
		t.Errorf("counted %v", counts)
	}
}

// full is a store without room, that can do something besides.
type full struct{ guest.Archive }

func (full) Update(context.Context, func(guest.Tx) error) error {
	return fmt.Errorf("4 MiB left: %w", guest.ErrFull)
}

func TestWriteWithoutRoomIsCounted(t *testing.T) {
	registry := registered(t)
	const name = "caddy_login_store_full_total{}"
	before := series(t, registry)[name]
	store := guest.Store(ledger{full{}})
	if err := store.Update(t.Context(), nil); !errors.Is(err, guest.ErrFull) {
		t.Errorf("got %v", err)
	}
	if got := series(t, registry)[name] - before; got != 1 {
		t.Errorf("counted %v", got)
	}
	if _, ok := bare(store).(guest.Archive); !ok {
		t.Error("what the store can do besides is lost")
	}
	if got := series(t, registry)["caddy_login_store_open{}"]; got != 0 {
		t.Errorf("a store is open: %v", got)
	}
}

func TestCallsAreCountedForTheProviderThatMadeThem(t *testing.T) {
	registry := registered(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/keys" {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	t.Cleanup(server.Close)
	m := new(meter)
	client := m.client(server.URL)
	call := func(path string) {
		res, err := client.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
	before := series(t, registry)
	call("/keys") // before it is open: it may not
	m.belongsTo("metered")
	call("/.well-known/openid-configuration")
	call("/keys")
	for name, want := range map[string]float64{
		`caddy_login_provider_seconds{call="discovery",provider="metered"}`:                        1,
		`caddy_login_provider_seconds{call="keys",provider="metered"}`:                             1,
		`caddy_login_provider_failures_total{call="keys",provider="metered",reason="status"}`:      1,
		`caddy_login_provider_failures_total{call="discovery",provider="metered",reason="status"}`: 0,
	} {
		if got := series(t, registry)[name] - before[name]; got != want {
			t.Errorf("%s grew by %v, want %v", name, got, want)
		}
	}
}
