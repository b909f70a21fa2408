package provider

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

func TestReachTellsTheProvidersTime(t *testing.T) {
	at := time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC)
	for name, answered := range map[string]struct {
		date, age string
		want      time.Time
	}{
		"fresh":           {at.Format(http.TimeFormat), "", at},
		"out of a cache":  {at.Add(-time.Hour).Format(http.TimeFormat), "3600", at},
		"no date":         {"", "5", time.Time{}},
		"no proper date":  {"yesterday", "", time.Time{}},
		"no proper age":   {at.Format(http.TimeFormat), "-5", at},
		"an age too long": {at.Format(http.TimeFormat), "99999999999999999999", at},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Date"] = nil
			if answered.date != "" {
				w.Header().Set("Date", answered.date)
			}
			w.Header().Set("Age", answered.age)
			w.WriteHeader(http.StatusBadRequest)
		}))
		t.Cleanup(server.Close)
		got, err := Reach(t.Context(), server.Client(), http.MethodPost, server.URL, 100)
		if err != nil || !got.Date.Equal(answered.want) || got.Status != http.StatusBadRequest {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestReachTakesNoAnswerForNone(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			_, _ = w.Write([]byte(strings.Repeat("x", 101)))
			return
		}
		w.WriteHeader(http.StatusBadGateway)
	}))
	t.Cleanup(server.Close)
	for _, address := range []string{server.URL + "/long", server.URL + "/broken", "http://127.0.0.1:1/"} {
		if _, err := Reach(t.Context(), server.Client(), http.MethodGet, address, 100); guest.ReasonOf(err) != guest.Unavailable {
			t.Errorf("%s: %v", address, err)
		}
	}
}
