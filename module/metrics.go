package module

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// Collectors are made once and registered with the registry of each config:
// their counts outlive a reload. Every label set is closed: no address, no
// path, nothing a visitor could choose.
var (
	logins = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "caddy", Subsystem: "login", Name: "attempts_total",
		Help: "Sign-ins that came to an end, by provider and outcome.",
	}, []string{"provider", "outcome"})

	mails = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "caddy", Subsystem: "login", Name: "mails_total",
		Help: "Mails that came to an end, by outcome: sent, refused, expired, dropped.",
	}, []string{"outcome"})

	verdicts = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "caddy", Subsystem: "login", Name: "requests_total",
		Help: "Requests at the gate by verdict: allowed, sign_in, denied, portal, failed.",
	}, []string{"verdict"})

	sessionsInUse = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "caddy", Subsystem: "login", Name: "sessions",
		Help: "Sessions in use of late, kept at hand.",
	}, countSessions)

	requests = struct{ allowed, asked, denied, portal, failed prometheus.Counter }{
		allowed: verdicts.WithLabelValues("allowed"),
		asked:   verdicts.WithLabelValues("sign_in"),
		denied:  verdicts.WithLabelValues("denied"),
		portal:  verdicts.WithLabelValues("portal"),
		failed:  verdicts.WithLabelValues("failed"),
	}
)

func countSessions() (n float64) {
	houses.Range(func(_, value any) bool {
		if h, ok := value.(*house); ok {
			n += float64(h.sessions.Count())
		}
		return true
	})
	return n
}

// registerMetrics ignores only what is registered already: the same registry
// may be provisioned twice.
func registerMetrics(ctx caddy.Context) {
	registry := ctx.GetMetricsRegistry()
	if registry == nil {
		return
	}
	for _, collector := range []prometheus.Collector{logins, mails, verdicts, sessionsInUse} {
		_ = registry.Register(collector)
	}
}
