package module

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/session"
)

func TestTokensAreRenewedBeforeTheyExpire(t *testing.T) {
	began := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	in := func(d time.Duration) time.Time { return began.Add(d) }
	for what, test := range map[string]struct {
		rules        guest.TokenRules
		grant        session.Grant
		due, overdue time.Time
	}{
		"an hour's token":             {grant: session.Grant{Refresh: "r", Expires: in(time.Hour)}, due: in(48 * time.Minute), overdue: in(time.Hour)},
		"one that nothing renews":     {grant: session.Grant{Access: "a", Expires: in(time.Hour)}},
		"one that lives for ever":     {grant: session.Grant{Refresh: "r"}},
		"one that is to be proven":    {rules: guest.TokenRules{Revalidate: 10 * time.Minute}, grant: session.Grant{Access: "a"}, due: in(8 * time.Minute), overdue: in(10 * time.Minute)},
		"proven before it expires":    {rules: guest.TokenRules{Revalidate: 10 * time.Minute}, grant: session.Grant{Refresh: "r", Expires: in(time.Hour)}, due: in(8 * time.Minute), overdue: in(10 * time.Minute)},
		"expired before it is proven": {rules: guest.TokenRules{Revalidate: 2 * time.Hour}, grant: session.Grant{Refresh: "r", Expires: in(time.Hour)}, due: in(48 * time.Minute), overdue: in(time.Hour)},
		// However short they live, the provider is not asked at every request.
		"a second's token":            {grant: session.Grant{Refresh: "r", Expires: in(time.Second)}, due: in(renewGap), overdue: in(renewGap)},
		"one that came expired":       {grant: session.Grant{Refresh: "r", Expires: in(-time.Hour)}, due: in(renewGap), overdue: in(renewGap)},
		"one from before our history": {grant: session.Grant{Refresh: "r", Expires: time.Unix(1, 0)}, due: in(renewGap), overdue: in(renewGap)},
	} {
		t.Run(what, func(t *testing.T) {
			test.grant.Proven = began
			due, overdue := schedule(test.rules, &test.grant)
			if !due.Equal(test.due) || !overdue.Equal(test.overdue) {
				t.Errorf("due %v, overdue %v; want %v, %v", due, overdue, test.due, test.overdue)
			}
		})
	}
}

// renewingGate is a gate whose provider answers as a test says, with somebody
// signed in who has an hour's token.
type renewingGate struct {
	*Gate
	t      *testing.T
	clock  logintest.Clock
	cookie string
	rules  guest.TokenRules

	mu     sync.Mutex
	calls  int
	answer func(guest.Kept) (guest.Tokens, error)
}

func newRenewingGate(t *testing.T, rules guest.TokenRules) *renewingGate {
	t.Helper()
	rules.Keep, rules.Header = true, "X-Token"
	g := &renewingGate{Gate: openGate(t, `{"allow":[{"who":["users"]}]}`), t: t, rules: rules}
	g.now = g.clock.Now
	g.providers = []guest.Method{g}
	if _, err := g.checkTokens(); err != nil {
		t.Fatal(err)
	}
	g.answer = func(k guest.Kept) (guest.Tokens, error) {
		return guest.Tokens{Access: k.Access + "+", Refresh: k.Refresh + "+", Expires: g.clock.Now().Add(time.Hour)}, nil
	}
	g.cookie = enterWith(t, g.Gate, g.grant())
	house, err := g.app.door.enter()
	if err != nil {
		t.Fatal(err)
	}
	house.renewals.patience = time.Minute // a disk may take longer than a visitor waits
	return g
}

func (g *renewingGate) grant() *session.Grant {
	now := g.clock.Now()
	return &session.Grant{Subject: "1", Access: "access", Refresh: "refresh", Proven: now, Expires: now.Add(time.Hour)}
}

// What follows is its provider.

func (g *renewingGate) Open(guest.Env) error { return nil }
func (g *renewingGate) Traits() guest.Traits { return guest.Traits{Name: "bench", Tokens: g.rules} }

func (g *renewingGate) Begin(context.Context, guest.Attempt) (string, error) {
	return "", errors.New("nobody begins here")
}

func (g *renewingGate) Finish(context.Context, guest.Attempt, url.Values) (guest.Profile, error) {
	return guest.Profile{}, errors.New("nobody finishes here")
}

func (g *renewingGate) Renew(_ context.Context, k guest.Kept) (guest.Tokens, error) {
	g.mu.Lock()
	g.calls++
	answer := g.answer
	g.mu.Unlock()
	return answer(k)
}

// says sets what the provider answers from now on.
func (g *renewingGate) says(answer func(guest.Kept) (guest.Tokens, error)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.answer = answer
}

func (g *renewingGate) asked() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.calls
}

// request is one request: the status, and the token that the app received.
func (g *renewingGate) request() (status int, token string) {
	answer := &mute{header: http.Header{}}
	r := prepared(chromes("login="+g.cookie, nil), answer)
	err := g.ServeHTTP(answer, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		token = r.Header.Get("X-Token")
		w.WriteHeader(http.StatusOK)
		return nil
	}))
	if err != nil {
		g.t.Error(err)
	}
	return answer.status, token
}

func (g *renewingGate) wants(status int, token string) {
	g.t.Helper()
	if gotStatus, gotToken := g.request(); gotStatus != status || gotToken != token {
		g.t.Fatalf("status %d with token %q, want %d with %q", gotStatus, gotToken, status, token)
	}
}

// settled waits until no renewal is under way.
func (g *renewingGate) settled() {
	g.t.Helper()
	house, err := g.app.door.enter()
	if err != nil {
		g.t.Fatal(err)
	}
	house.renewals.mu.Lock()
	slots := house.renewals.slotsOf("bench")
	house.renewals.mu.Unlock()
	for range maxRenewing {
		slots <- struct{}{}
	}
	for range maxRenewing {
		<-slots
	}
}

func TestTokenIsRenewedBehindTheRequestsBack(t *testing.T) {
	g := newRenewingGate(t, guest.TokenRules{})
	g.wants(http.StatusOK, "access")
	release := make(chan struct{})
	renewed := g.answer
	g.says(func(k guest.Kept) (guest.Tokens, error) { <-release; return renewed(k) })
	g.clock.Advance(50 * time.Minute)
	for range 10 {
		g.wants(http.StatusOK, "access") // nobody waits
	}
	close(release)
	g.settled()
	g.wants(http.StatusOK, "access+")
	if n := g.asked(); n != 1 {
		t.Errorf("the provider was asked %d times", n)
	}
}

func TestOneRenewalForAllRequestsOfASession(t *testing.T) {
	g := newRenewingGate(t, guest.TokenRules{})
	g.clock.Advance(2 * time.Hour)
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			if status, token := g.request(); status != http.StatusOK || token != "access+" {
				t.Errorf("status %d with %q", status, token)
			}
		})
	}
	all.Wait()
	if n := g.asked(); n != 1 {
		t.Errorf("the provider was asked %d times", n)
	}
}

func TestFlakyProviderSignsNobodyOut(t *testing.T) {
	g := newRenewingGate(t, guest.TokenRules{Revalidate: 10 * time.Minute})
	g.says(func(guest.Kept) (guest.Tokens, error) {
		return guest.Tokens{}, &guest.Failure{Reason: guest.Unavailable, Err: errors.New("down")}
	})
	g.clock.Advance(20 * time.Minute)
	g.wants(http.StatusOK, "access")
	g.clock.Advance(2 * time.Hour)
	g.settled()
	g.wants(http.StatusOK, "") // what has expired is not sent on
	g.says(func(guest.Kept) (guest.Tokens, error) { panic("a guest's bug") })
	g.clock.Advance(renewAgain)
	g.wants(http.StatusOK, "")
	// A provider that fails is left alone for a while.
	asked := g.asked()
	for range 10 {
		g.wants(http.StatusOK, "")
	}
	if n := g.asked(); n != asked {
		t.Errorf("asked %d times more", n-asked)
	}
	g.clock.Advance(renewAgain)
	g.says(func(k guest.Kept) (guest.Tokens, error) { return guest.Tokens{Access: "new", Refresh: k.Refresh}, nil })
	g.wants(http.StatusOK, "new")
}

// Somebody who was disabled at the provider is out with their first request
// after the time that the operator set.
func TestWhoIsDisabledAtTheProviderIsOutHere(t *testing.T) {
	for _, away := range []time.Duration{9 * time.Minute, 3 * 24 * time.Hour} {
		t.Run(away.String(), func(t *testing.T) {
			g := newRenewingGate(t, guest.TokenRules{Revalidate: 10 * time.Minute})
			g.wants(http.StatusOK, "access")
			g.says(func(guest.Kept) (guest.Tokens, error) {
				return guest.Tokens{}, &guest.Failure{Reason: guest.Refused, Err: fmt.Errorf("refused: %w", guest.ErrGrantEnded)}
			})
			g.clock.Advance(away)
			if away > 10*time.Minute {
				g.wants(http.StatusFound, "")
				return
			}
			g.request()
			g.settled()
			g.wants(http.StatusFound, "")
			g.settled()
			if n := g.asked(); n != 1 {
				t.Errorf("the provider was asked %d times", n)
			}
		})
	}
}

func TestIdleStreamIsProvenToo(t *testing.T) {
	g := newRenewingGate(t, guest.TokenRules{Revalidate: 10 * time.Minute})
	house, err := g.app.door.enter()
	if err != nil {
		t.Fatal(err)
	}
	g.wants(http.StatusOK, "access")
	held, err := house.sessions.Read(t.Context(), "localhost", g.cookie, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	stream := session.Stream{End: sync.OnceFunc(func() { close(ended) })}
	house.sessions.Watch(t.Context(), held, &stream)
	defer house.sessions.Release(&stream)
	house.renewStreams()
	g.settled()
	if n := g.asked(); n != 0 {
		t.Errorf("asked %d times before it was due", n)
	}
	g.says(func(guest.Kept) (guest.Tokens, error) { return guest.Tokens{}, guest.ErrGrantEnded })
	g.clock.Advance(9 * time.Minute)
	house.renewStreams()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("the stream goes on")
	}
}

// A refresh token works once: what it brought must not be lost to a disk that
// was full for a moment.
func TestRenewedTokensOutliveABrokenStore(t *testing.T) {
	g := newRenewingGate(t, guest.TokenRules{})
	house, err := g.app.door.enter()
	if err != nil {
		t.Fatal(err)
	}
	held, err := house.sessions.Read(t.Context(), "localhost", g.cookie, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	k := render(g.Gate, held, held.Live())
	one := &renewing{}
	over, cancel := context.WithCancel(t.Context())
	g.says(func(k guest.Kept) (guest.Tokens, error) {
		cancel() // the store takes nothing any more
		return guest.Tokens{Access: "new", Refresh: "new"}, nil
	})
	g.clock.Advance(time.Hour)
	if err := k.renew(over, house, one); err == nil || one.unsaved == nil {
		t.Fatalf("renewed without a store: %v", err)
	}
	if err := k.renew(t.Context(), house, one); err != nil || one.unsaved != nil {
		t.Fatalf("not saved later: %v", err)
	}
	g.wants(http.StatusOK, "new")
	if n := g.asked(); n != 1 {
		t.Errorf("the provider was asked %d times", n)
	}
}

// What was traded and could not be proven is kept: the old refresh token is
// spent. But it proves nothing.
func TestTradedTokenIsKeptAlsoWhereItProvesNothing(t *testing.T) {
	g := newRenewingGate(t, guest.TokenRules{Revalidate: 10 * time.Minute})
	g.says(func(k guest.Kept) (guest.Tokens, error) {
		return guest.Tokens{Refresh: "second"}, errors.New("userinfo is down")
	})
	g.clock.Advance(20 * time.Minute)
	g.wants(http.StatusOK, "access")
	g.says(func(k guest.Kept) (guest.Tokens, error) {
		if k.Refresh != "second" {
			return guest.Tokens{}, guest.ErrGrantEnded // it was used before
		}
		return guest.Tokens{Access: "third", Refresh: "third"}, nil
	})
	g.clock.Advance(renewAgain)
	g.wants(http.StatusOK, "third")
	if n := g.asked(); n != 2 {
		t.Errorf("the provider was asked %d times", n)
	}
}

// A session from before the operator wrote revalidate can't be proven: it
// counts no more.
func TestSessionThatNobodyCanProveIsNone(t *testing.T) {
	g := newRenewingGate(t, guest.TokenRules{Revalidate: 10 * time.Minute})
	g.cookie = enterWith(t, g.Gate, nil)
	g.wants(http.StatusFound, "")
	// Nor can one whose only token has expired.
	g.cookie = enterWith(t, g.Gate, &session.Grant{Access: "access", Proven: g.clock.Now(), Expires: g.clock.Now().Add(time.Hour)})
	g.wants(http.StatusOK, "access")
	g.clock.Advance(time.Hour)
	g.wants(http.StatusFound, "")
	free := newRenewingGate(t, guest.TokenRules{})
	free.cookie = enterWith(t, free.Gate, nil)
	free.wants(http.StatusOK, "")
}
