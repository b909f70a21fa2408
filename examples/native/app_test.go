package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// site plays a site whose every access token is good until it is taken back.
type site struct {
	*httptest.Server
	refreshes atomic.Int32
	// answer is what a refresh gets; nil: the next tokens.
	answer func(w http.ResponseWriter)

	mu     sync.Mutex
	access string
}

func newSite(t *testing.T) (*site, *App) {
	t.Helper()
	s := &site{access: "access-0"}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	a := &App{Site: s.URL, Client: s.Client()}
	a.keep(tokens{Access: "access-0", Refresh: "refresh-0", Seconds: 600})
	return s, a
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.URL.Path != api+"token" {
		if r.Header.Get("Authorization") != "Bearer "+s.access {
			problem(w, http.StatusUnauthorized, "invalid_token")
			return
		}
		_, _ = io.WriteString(w, "notes") // the test sees what did not arrive
		return
	}
	n := s.refreshes.Add(1)
	if s.answer != nil {
		s.answer(w)
		return
	}
	s.access = fmt.Sprint("access-", n)
	_ = json.NewEncoder(w).Encode(tokens{Access: s.access, Refresh: fmt.Sprint("refresh-", n), Seconds: 600})
}

func problem(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"status":%d,"code":%q,"detail":"No.","request_id":"7"}`, status, code)
}

func (s *site) takeBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.access = "another"
}

func TestManyCallsAtOnceRefreshOnce(t *testing.T) {
	s, a := newSite(t)
	s.takeBack()
	var calls sync.WaitGroup
	for range 16 {
		calls.Go(func() {
			if text, err := a.Get(t.Context(), "/api/notes"); err != nil || text != "notes" {
				t.Errorf("%q, %v", text, err)
			}
		})
	}
	calls.Wait()
	if n := s.refreshes.Load(); n != 1 {
		t.Errorf("%d refreshes, want 1", n)
	}
}

func TestTokenIsRefreshedBeforeItEnds(t *testing.T) {
	s, a := newSite(t)
	a.keep(tokens{Access: "access-0", Refresh: "refresh-0", Seconds: 30})
	if text, err := a.Get(t.Context(), "/api/notes"); err != nil || text != "notes" {
		t.Errorf("%q, %v", text, err)
	}
	if n := s.refreshes.Load(); n != 1 {
		t.Errorf("%d refreshes, want 1", n)
	}
}

// A refresh token that may have been spent is never shown again: that would look
// like a thief's use of it, and alarm its owner.
func TestRefreshTokenIsTriedAgainOnlyWhereItIsUnspent(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter)
		tries  int32
	}{
		"the answer is lost":    {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, 1},
		"the answer is cut off": {func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{"access_token":`) }, 1},
		"it is good no more":    {func(w http.ResponseWriter) { problem(w, http.StatusBadRequest, "invalid_token") }, 1},
		"the site has trouble":  {func(w http.ResponseWriter) { problem(w, http.StatusServiceUnavailable, "unavailable") }, 2},
		"the site is busy":      {func(w http.ResponseWriter) { problem(w, http.StatusTooManyRequests, "rate_limited") }, 2},
	} {
		t.Run(name, func(t *testing.T) {
			s, a := newSite(t)
			s.answer = c.answer
			for range 2 {
				if err := a.Refresh(t.Context()); err == nil {
					t.Error("it says that it worked")
				}
			}
			if n := s.refreshes.Load(); n != c.tries {
				t.Errorf("%d tries, want %d", n, c.tries)
			}
		})
	}
}

func TestDeviceThatIsOfflineStaysSignedIn(t *testing.T) {
	s, a := newSite(t)
	s.Close()
	if err := a.Refresh(t.Context()); err == nil || a.tokens.Refresh == "" {
		t.Errorf("%v, and the refresh token is %q", err, a.tokens.Refresh)
	}
}

// Other pages in the same browser can send it to the port as well.
func TestOnlyTheAnswerToWhatWasBegunIsTaken(t *testing.T) {
	back, err := listen("the-state")
	if err != nil {
		t.Fatal(err)
	}
	defer back.server.Close()
	address, _, _ := strings.Cut(back.address, "?")
	for query, want := range map[string]int{
		"?return_code=theirs":                 http.StatusNotFound,
		"?state=another&return_code=theirs":   http.StatusNotFound,
		"x?state=the-state&return_code=other": http.StatusNotFound,
		"?state=the-state&return_code=ours":   http.StatusOK,
	} {
		answer, err := http.Get(address + query)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%s: %d, want %d", query, answer.StatusCode, want)
		}
	}
	if code, err := back.wait(t.Context()); code != "ours" || err != nil {
		t.Errorf("%q, %v", code, err)
	}
}

func TestWaitingEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	back := &comeback{answers: make(chan url.Values)}
	if _, err := back.wait(ctx); err == nil {
		t.Error("it waits for nobody")
	}
}
