package signin_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/seal"
	"github.com/caddy-login/caddy-login/module/signin"
)

const (
	base = "__Host-login"
	host = "app.example.com"
)

type world struct {
	t        testing.TB
	clock    *logintest.Clock
	store    guest.Store
	ring     *seal.Ring
	attempts *signin.Attempts
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, clock: new(logintest.Clock), store: logintest.Store(t)}
	var err error
	if w.ring, err = seal.Load(context.Background(), w.store, w.clock.Now); err != nil {
		t.Fatal(err)
	}
	w.attempts = signin.New(w.store, w.ring, w.clock.Now)
	return w
}

// begin begins an attempt and keeps its cookie beside those the browser has.
func (w *world) begin(to string, pending ...signin.Cookie) (*signin.Attempt, []signin.Cookie) {
	w.t.Helper()
	attempt, set, drop, err := w.attempts.Begin(base, host, signin.Attempt{Provider: "corp", Return: to}, pending)
	if err != nil {
		w.t.Fatal(err)
	}
	var kept []signin.Cookie
	for _, c := range append(pending, set) {
		if !strings.Contains(strings.Join(drop, " "), c.Name) {
			kept = append(kept, c)
		}
	}
	return attempt, kept
}

func TestAttemptIsResumedByItsState(t *testing.T) {
	w := newWorld(t)
	begun, cookies := w.begin("/deep/link?x=1&y=%20")
	got, err := w.attempts.Resume(base, host, "corp", begun.State, cookies)
	if err != nil {
		t.Fatal(err)
	}
	if got.AtProvider("https://app.example.com/cb") != begun.AtProvider("https://app.example.com/cb") || got.Return != begun.Return || got.CookieOf() != cookies[0].Name {
		t.Errorf("resumed %+v; begun %+v", got, begun)
	}
	if len(begun.Verifier) < 43 || begun.Verifier == begun.Nonce || begun.Nonce == begun.State {
		t.Errorf("weak values: %+v", begun)
	}
	other, _ := w.begin("/")
	if other.State == begun.State || other.Nonce == begun.Nonce || other.Verifier == begun.Verifier {
		t.Error("two attempts share a value")
	}
}

func TestTabsFinishInAnyOrder(t *testing.T) {
	w := newWorld(t)
	first, cookies := w.begin("/first")
	second, cookies := w.begin("/second", cookies...)
	for _, begun := range []*signin.Attempt{second, first} {
		got, err := w.attempts.Resume(base, host, "corp", begun.State, cookies)
		if err != nil || got.Return != begun.Return {
			t.Errorf("%v, %v; want to return to %s", got, err, begun.Return)
		}
	}
}

func TestForeignStatesAreUnknown(t *testing.T) {
	w := newWorld(t)
	begun, cookies := w.begin("/")
	strangers, _ := w.begin("/")
	elsewhere := newWorld(t)
	others, _ := elsewhere.begin("/")
	raw, _ := base64.RawURLEncoding.DecodeString(begun.State)
	raw[31] ^= 1
	for what, state := range map[string]string{
		"none": "", "short": begun.State[:42], "long": begun.State + "A", "flipped": base64.RawURLEncoding.EncodeToString(raw),
		"of another browser": strangers.State, "of another server": others.State, "no base64": strings.Repeat("!", 43),
		"with a line end behind": begun.State + "\r\n", "with one within": begun.State[:20] + "\n" + begun.State[20:], "padded": begun.State + "=",
	} {
		if _, err := w.attempts.Resume(base, host, "corp", state, cookies); !errors.Is(err, signin.ErrUnknown) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := w.attempts.Resume(base, host, "other", begun.State, cookies); !errors.Is(err, signin.ErrUnknown) {
		t.Errorf("at another provider: %v", err)
	}
	if _, err := w.attempts.Resume(base, "b.example.com", "corp", begun.State, cookies); !errors.Is(err, signin.ErrUnknown) {
		t.Errorf("on another host: %v", err)
	}
	renamed := []signin.Cookie{{Name: base + "-0000000000000000", Value: cookies[0].Value}}
	if _, err := w.attempts.Resume(base, host, "corp", begun.State, renamed); !errors.Is(err, signin.ErrUnknown) {
		t.Errorf("under another name: %v", err)
	}
}

func TestBrowserWithoutCookiesIsTold(t *testing.T) {
	w := newWorld(t)
	begun, _ := w.begin("/")
	if _, err := w.attempts.Resume(base, host, "corp", begun.State, nil); !errors.Is(err, signin.ErrNoCookie) {
		t.Error(err)
	}
	if _, err := w.attempts.Resume(base, host, "corp", "made up", nil); !errors.Is(err, signin.ErrUnknown) {
		t.Error(err)
	}
}

func TestAttemptExpires(t *testing.T) {
	w := newWorld(t)
	begun, cookies := w.begin("/")
	w.clock.Advance(10*time.Minute - time.Second)
	if _, err := w.attempts.Resume(base, host, "corp", begun.State, cookies); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(3 * time.Second)
	if _, err := w.attempts.Resume(base, host, "corp", begun.State, cookies); !errors.Is(err, signin.ErrUnknown) {
		t.Error(err)
	}
	w.clock.Advance(-time.Hour)
	if _, err := w.attempts.Resume(base, host, "corp", begun.State, cookies); !errors.Is(err, signin.ErrUnknown) {
		t.Errorf("begun in the future: %v", err)
	}
}

func TestAttemptIsSpentOnceAmong64(t *testing.T) {
	w := newWorld(t)
	for range 20 {
		begun, cookies := w.begin("/")
		var winners atomic.Int64
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				attempt, err := w.attempts.Resume(base, host, "corp", begun.State, cookies)
				if err != nil {
					t.Error(err)
					return
				}
				switch err := w.attempts.Spend(context.Background(), attempt); {
				case err == nil:
					winners.Add(1)
				case !errors.Is(err, signin.ErrSpent):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if winners.Load() != 1 {
			t.Fatalf("%d winners", winners.Load())
		}
	}
}

func TestAttemptSurvivesARotationOfKeys(t *testing.T) {
	w := newWorld(t)
	begun, cookies := w.begin("/x")
	w.clock.Advance(time.Minute)
	if err := w.ring.Rotate(context.Background(), time.Second); err != nil {
		t.Fatal(err)
	}
	got, err := w.attempts.Resume(base, host, "corp", begun.State, cookies)
	if err != nil || got.Nonce != begun.Nonce || got.Verifier != begun.Verifier {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestBrowserHoldsFiveAttemptsOfTwoKiBAtMost(t *testing.T) {
	w := newWorld(t)
	for _, to := range []string{"/", "/?" + strings.Repeat("q", 300), "/?" + strings.Repeat("q", 700)} {
		var cookies []signin.Cookie
		var newest *signin.Attempt
		for range 9 {
			w.clock.Advance(time.Second)
			newest, cookies = w.begin(to, cookies...)
		}
		size := 0
		for _, c := range cookies {
			size += len(c.Name) + len(c.Value)
		}
		if len(cookies) > 5 || size > 1548 {
			t.Errorf("%d cookies of %d bytes", len(cookies), size)
		}
		if to == "/" && len(cookies) != 5 {
			t.Errorf("only %d attempts at once", len(cookies))
		}
		got, err := w.attempts.Resume(base, host, "corp", newest.State, cookies)
		if err != nil || got.Return != to {
			t.Errorf("the newest: %v, %v", got, err)
		}
	}
}

func TestAddressTooLongForACookieIsCut(t *testing.T) {
	w := newWorld(t)
	for to, want := range map[string]string{
		"/path?" + strings.Repeat("q", 2000):  "/path",
		"/" + strings.Repeat("p", 2000) + "?": "/",
	} {
		begun, cookies := w.begin(to)
		if got, err := w.attempts.Resume(base, host, "corp", begun.State, cookies); err != nil || got.Return != want {
			t.Errorf("%d bytes: %v, %v", len(to), got, err)
		}
	}
}

func TestBeginningLeavesNothingInTheStore(t *testing.T) {
	w := newWorld(t)
	count := func() (n int) {
		_ = w.store.View(context.Background(), func(tx guest.Tx) error {
			return tx.Scan(nil, nil, 0, func([]byte, []byte) bool { n++; return true })
		})
		return n
	}
	before := count()
	for range 1000 {
		w.begin("/")
	}
	if after := count(); after != before || before == 0 {
		t.Errorf("%d records, then %d", before, after)
	}
}

// No cookie but the one sealed opens, and none makes Resume panic.
func FuzzResume(f *testing.F) {
	w := newWorld(f)
	begun, cookies := w.begin("/x")
	f.Add(begun.State, cookies[0].Value)
	f.Add(begun.State, "AAAA")
	f.Add("", "")
	want := sha256.Sum256([]byte(begun.State + cookies[0].Value))
	f.Fuzz(func(t *testing.T, state, value string) {
		_, err := w.attempts.Resume(base, host, "corp", state, []signin.Cookie{{Name: cookies[0].Name, Value: value}})
		if err == nil && sha256.Sum256([]byte(state+value)) != want {
			t.Fatalf("%q with %q resumes an attempt", state, value)
		}
	})
}
