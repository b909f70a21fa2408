package module

import (
	"errors"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/mail"
)

// Collectors are made once and registered with the registry of each config:
// their counts outlive a reload. Every label set is closed: no address, no
// path, nothing a visitor could choose, nothing a guest could invent.
var (
	logins = counter("attempts_total",
		"Sign-ins that came to an end, by provider and outcome.", "provider", "outcome")

	verdicts = counter("requests_total",
		"Requests at the gate by verdict: allowed, sign_in, denied, portal, failed.", "verdict")

	questions = counter("questions_total",
		"Questions asked before a sign-in could go on, by kind.", "kind")

	revocations = counter("revocations_total",
		"What people had granted, and no longer do, by provider and outcome: revoked, impossible, failed (it is tried again).", "provider", "outcome")

	logoutTokens = counter("logout_tokens_total",
		"Logout tokens that came in, by provider and outcome: taken, refused, failed.", "provider", "outcome")

	calls = histogram("provider_seconds",
		"How long calls to providers took, also those that failed.",
		[]float64{.025, .05, .1, .25, .5, 1, 2.5, 5, 10}, "provider", "call")

	flaws = counter("provider_failures_total",
		"Calls to providers that failed, by what was wrong: certificate, timeout, unreachable, forbidden, status, answer.", "provider", "call", "reason")

	mails = counter("mails_total",
		"Mails that came to an end, by outcome: sent, refused, expired, dropped, no_room.", "outcome")

	mailed = histogram("mail_seconds",
		"How long mails took, from the request that caused them to their end, by outcome.",
		[]float64{.1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 600}, "outcome")

	storeFull = prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "caddy", Subsystem: "login", Name: "store_full_total",
		Help: "Writes that the store refused because its disk is all but full.",
	})

	storeOpen = gauge("store_open", "Whether the store is open: 1 or 0.", func() float64 {
		if running() {
			return 1
		}
		return 0
	})

	sessionsInUse = gauge("sessions", "Sessions in use of late, kept at hand.", countSessions)

	requests = struct{ allowed, asked, denied, portal, failed prometheus.Counter }{
		allowed: verdicts.WithLabelValues("allowed"),
		asked:   verdicts.WithLabelValues("sign_in"),
		denied:  verdicts.WithLabelValues("denied"),
		portal:  verdicts.WithLabelValues("portal"),
		failed:  verdicts.WithLabelValues("failed"),
	}
)

var collectors = []prometheus.Collector{
	logins, verdicts, questions, revocations, logoutTokens, calls, flaws, mails, mailed, storeFull, storeOpen, sessionsInUse,
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "caddy", Subsystem: "login", Name: name, Help: help,
	}, labels)
}

// histogram takes the upper bounds of its buckets in seconds.
func histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "caddy", Subsystem: "login", Name: name, Help: help, Buckets: buckets,
	}, labels)
}

func gauge(name, help string, value func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "caddy", Subsystem: "login", Name: name, Help: help,
	}, value)
}

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
	for _, collector := range collectors {
		_ = registry.Register(collector)
	}
	for _, outcome := range []string{"sent", "refused", "expired", "dropped", noRoom} {
		mails.WithLabelValues(outcome)
	}
	for _, need := range []identity.Need{
		identity.ConfirmLink, identity.SwitchOrStay, identity.LinkOrSwitch, identity.ProofOfOwner, identity.ProofOfMail, identity.FreshSignIn, identity.KeepAccount,
	} {
		questions.WithLabelValues(string(need))
	}
}

// showZeroes makes the series of a provider that alerts look at before there is
// anything to count: where a series begins is no increase to Prometheus, so that
// a first failure would be none.
func showZeroes(provider string) {
	logins.WithLabelValues(provider, "succeeded")
	for _, reason := range []guest.Reason{guest.Unavailable, guest.Refused, guest.Untrusted} {
		logins.WithLabelValues(provider, string(reason))
	}
	for _, outcome := range []string{"revoked", "impossible", "failed"} {
		revocations.WithLabelValues(provider, outcome)
	}
	for _, outcome := range []string{"taken", "refused", "failed"} {
		logoutTokens.WithLabelValues(provider, outcome)
	}
}

// noRoom is the outcome of a mail that the queue did not take.
const noRoom = "no_room"

func countLogin(provider, outcome string) {
	logins.WithLabelValues(labels.of(provider), outcome).Inc()
}

func countQuestion(need identity.Need) { questions.WithLabelValues(string(need)).Inc() }

// countRevocation takes what the provider answered.
func countRevocation(provider string, err error) {
	outcome := "revoked"
	switch {
	case errors.Is(err, guest.ErrNotRevocable):
		outcome = "impossible"
	case err != nil:
		outcome = "failed"
	}
	revocations.WithLabelValues(labels.of(provider), outcome).Inc()
}

// countLogoutToken takes what became of it.
func countLogoutToken(provider string, err error) {
	outcome := "taken"
	switch {
	case errors.Is(err, errLater):
		outcome = "failed"
	case err != nil:
		outcome = "refused"
	}
	logoutTokens.WithLabelValues(labels.of(provider), outcome).Inc()
}

func countMail(o mail.Outcome, took time.Duration) {
	mails.WithLabelValues(string(o)).Inc()
	mailed.WithLabelValues(string(o)).Observe(took.Seconds())
}
