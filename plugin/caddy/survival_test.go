package main_test

import (
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// The gates of this package have two forms: the short one is part of every test
// run, the long one is `make soak`. Both are the same code.
var (
	soak = flag.Bool("soak", false, "run the gates in their long form")
	many = flag.Int("rounds", 0, "run this many rounds of each gate")
	keep = flag.Duration("for", 0, "keep up each failure of a provider or a mail server for this long")
)

// rounds is how many rounds of a gate to run.
func rounds(short, soaking int) int {
	switch {
	case *many > 0:
		return *many
	case *soak:
		return soaking
	default:
		return short
	}
}

// lasting is how long to keep up what fails.
func lasting(short, soaking time.Duration) time.Duration {
	switch {
	case *keep > 0:
		return *keep
	case *soak:
		return soaking
	default:
		return short
	}
}

// unrecorded is a Caddyfile with an app of its own, which keeps nothing: that of
// a stage keeps all that a connection ever brought.
func unrecorded(t *testing.T, caddyfile string) string {
	t.Helper()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "in") }))
	t.Cleanup(app.Close)
	return strings.ReplaceAll(caddyfile, "{$APP}", app.Listener.Addr().String())
}

// figures are a gate's line, written when it ends, also where it fails.
func figures(t *testing.T, format string, args func() []any) {
	t.Helper()
	begun := time.Now()
	t.Cleanup(func() {
		verdict := "held"
		if t.Failed() {
			verdict = "BROKEN"
		}
		t.Logf("gate %s, %s, after %s: "+format, append([]any{t.Name(), verdict, time.Since(begun).Round(time.Second)}, args()...)...)
	})
}

// at is a moment of the future, as a condition to wait for.
func at(moment time.Time) func() bool {
	return func() bool { return !time.Now().Before(moment) }
}

// await waits until a moment has come.
func await(t *testing.T, moment time.Time) {
	t.Helper()
	e2e.Eventually(t, time.Until(moment)+time.Minute, "time to pass", at(moment))
}
