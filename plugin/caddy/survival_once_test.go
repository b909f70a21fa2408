package main_test

import (
	"context"
	"errors"
	"fmt"
	"html"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-login/caddy-login/module/challenge"
	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
	"github.com/caddy-login/caddy-login/module/seal"
	sessions "github.com/caddy-login/caddy-login/module/session"
	"github.com/caddy-login/caddy-login/module/token"
	"github.com/caddy-login/caddy-login/plugin/store/badger"
)

// takers is how many try to use a thing at once.
const takers = 64

// prize is a thing that works once: take tries to use it, and is called by all
// takers at once.
type prize func(round int) (take func(taker int) (won bool, err error))

// wantOneWinner has many take one prize after the other.
func wantOneWinner(t *testing.T, prize prize) {
	n, done := rounds(20, 1000), 0
	figures(t, "%d rounds of %d, one winner each", func() []any { return []any{done, takers} })
	for round := range n {
		take := prize(round)
		var all sync.WaitGroup
		var winners atomic.Int64
		for i := range takers {
			all.Go(func() {
				won, err := take(i)
				if err != nil {
					t.Error(err)
				}
				if won {
					winners.Add(1)
				}
			})
		}
		if all.Wait(); winners.Load() != 1 || t.Failed() {
			t.Fatalf("round %d: %d winners", round, winners.Load())
		}
		done++
	}
}

// shifts of visitors take turns: a network may come back from a provider 20 times
// a second, and rounds may be faster.
const shifts = 3

// race is 64 visitors for each round, from networks of their own. first is the
// next network.
func race(t *testing.T) (taker func(round, i int) *e2e.Visitor, first int) {
	var all [shifts * takers]*e2e.Visitor
	for n := range all {
		all[n] = visitorFrom(t, 2+n)
	}
	return func(round, i int) *e2e.Visitor { return all[round%shifts*takers+i] }, 2 + len(all)
}

// begins reports whether an answer begins a session; refusal is the status that
// all others get.
func begins(got e2e.Answer, err error, refusal int) (bool, error) {
	switch {
	case err != nil:
		return false, err
	case session(got) != "":
		return true, nil
	case got.StatusCode != refusal:
		return false, fmt.Errorf("%s: %d", got.Request.URL.Path, got.StatusCode)
	}
	return false, nil
}

// Of 64 at once who come back from a provider with the same answer, post it, or
// tell of the same sign-out, one is heard.
func TestAnswersOfProvidersWorkOnceAmong64(t *testing.T) {
	s := besiege(t, strings.NewReplacer("\tdebug\n", "", "\tlog\n", "").Replace(besieged))
	visitor, first := race(t)
	comer := func(round int) *e2e.Visitor { return visitorFrom(t, first+round%60) }
	t.Run("state", func(t *testing.T) {
		wantOneWinner(t, func(round int) func(int) (bool, error) {
			c := s.mustCome(t, comer(round), "op", "ada")
			return func(i int) (bool, error) {
				v := visitor(round, i)
				got, err := v.Another().Try(c.again(v, c.callback))
				return begins(got, err, http.StatusBadRequest)
			}
		})
	})
	t.Run("return handle", func(t *testing.T) {
		wantOneWinner(t, func(round int) func(int) (bool, error) {
			c := s.mustCome(t, comer(round), "post", "ada")
			handle := s.parkedBy(t, comer(round), c.form)
			return func(i int) (bool, error) {
				v := visitor(round, i)
				got, err := v.Another().Try(c.again(v, handle))
				return begins(got, err, http.StatusBadRequest)
			}
		})
	})
	t.Run("logout token", func(t *testing.T) {
		wantOneWinner(t, func(round int) func(int) (bool, error) {
			token := s.issuer.LogoutToken("site", "nobody", fmt.Sprint("session ", round))
			return func(i int) (bool, error) {
				got := s.tell(visitor(round, i), "op", token)
				if got.StatusCode != http.StatusOK && got.StatusCode != http.StatusBadRequest {
					return false, fmt.Errorf("a logout token is answered %d", got.StatusCode)
				}
				return got.StatusCode == http.StatusOK, nil
			}
		})
	})
}

// parkedBy is parked for a browser of some network.
func (s *siege) parkedBy(t *testing.T, v *e2e.Visitor, form url.Values) string {
	t.Helper()
	got := v.Do(s.post(v, "post", form.Encode(), formType))
	match := onward.FindStringSubmatch(got.Body)
	if match == nil {
		t.Fatalf("the posted answer was not parked: %d\n%.1500s", got.StatusCode, got.Body)
	}
	return s.site + html.UnescapeString(match[1])
}

// Of 64 who say at once that two accounts are one, one is heard.
func TestConfirmationWorksOnceAmong64(t *testing.T) {
	s := receive(t)
	visitor, _ := race(t)
	wantOneWinner(t, func(round int) func(int) (bool, error) {
		v, asked, _ := s.asksToLink(t, fmt.Sprintf("ada%d@example.com", round))
		jar := strings.Join(v.Cookies(s.site), "; ")
		var saying64 [takers]*http.Request
		for i := range saying64 {
			saying64[i] = saying(t, v, asked, "link")
			saying64[i].Header.Set("Cookie", jar)
		}
		return func(i int) (bool, error) {
			got, err := visitor(round, i).Another().Try(saying64[i])
			return begins(got, err, http.StatusConflict)
		}
	})
}

// vault is what spends things, on a real store, with a clock to turn.
type vault struct {
	t          *testing.T
	dir        string
	store      guest.Store
	clock      *logintest.Clock
	sessions   *sessions.Sessions
	tokens     *token.Tokens
	challenges *challenge.Challenges
	person     identity.Person
}

const vaultSite = "app.example.com"

func openVault(t *testing.T) *vault {
	t.Helper()
	v := &vault{t: t, dir: t.TempDir(), clock: new(logintest.Clock)}
	v.open()
	v.update(func(tx guest.Tx) error {
		admitted, err := identity.Admit(tx, identity.Arrival{
			Traits:  guest.Traits{Name: "op"},
			Profile: guest.Profile{Issuer: "https://id.example.com", Subject: "ada", Name: "Ada"},
			SignUp:  func(identity.Email) bool { return true }, At: v.clock.Now(),
		})
		v.person = admitted.Person
		return err
	})
	return v
}

func (v *vault) open() {
	v.t.Helper()
	v.store = v.badger()
	ring, err := seal.Load(v.t.Context(), v.store, v.clock.Now)
	v.must(err)
	v.sessions = sessions.Open(v.store, ring, v.clock.Now)
	v.tokens = token.Open(v.store, ring, v.sessions, v.clock.Now)
	v.challenges = challenge.Open(v.store, ring, v.clock.Now)
}

// badger is the real store, which goes by the vault's clock.
func (v *vault) badger() guest.Store {
	v.t.Helper()
	settings := &badger.Store{Dir: v.dir}
	v.must(settings.Provision(caddy.Context{}))
	store, err := settings.Open(guest.Env{Now: v.clock.Now, Log: slog.New(slog.DiscardHandler)})
	v.must(err)
	v.t.Cleanup(func() { _ = store.Close() }) // twice after a restart
	return store
}

// restart forgets what is not in the store.
func (v *vault) restart() {
	v.t.Helper()
	v.must(v.store.Close())
	v.open()
}

func (v *vault) must(err error) {
	v.t.Helper()
	if err != nil {
		v.t.Fatal(err)
	}
}

func (v *vault) update(fn func(guest.Tx) error) {
	v.t.Helper()
	v.must(v.store.Update(context.Background(), fn))
}

// family is a session of an app, with its first refresh token.
func (v *vault) family() (begun token.Begun) {
	v.t.Helper()
	ticket, err := v.tokens.Issue(vaultSite)
	v.must(err)
	v.update(func(tx guest.Tx) (err error) {
		begun, err = v.tokens.Start(tx, ticket, sessions.New{
			Person: v.person, Provider: "op", AuthTime: v.clock.Now(), At: v.clock.Now(), Lifetime: month, Idle: month,
		})
		return err
	})
	return begun
}

const month = 30 * 24 * time.Hour

// trade trades a refresh token for the next, and reports whether it did.
func (v *vault) trade(refresh guest.Secret) (bool, error) {
	x, err := v.tokens.Exchange(vaultSite, refresh)
	if err != nil {
		return false, no(err, token.ErrInvalid)
	}
	var spent token.Spent
	err = v.store.Update(context.Background(), func(tx guest.Tx) (err error) {
		spent, err = v.tokens.Spend(tx, x, v.clock.Now())
		return err
	})
	return err == nil && spent.Session != nil, no(err, token.ErrInvalid)
}

// no is err unless it is the one that says no.
func no(err error, refusals ...error) error {
	for _, refusal := range refusals {
		if errors.Is(err, refusal) {
			return nil
		}
	}
	return err
}

func (v *vault) nonce(nonce string) (bool, error) {
	err := v.store.Update(context.Background(), func(tx guest.Tx) error { return v.tokens.SpendNonce(tx, vaultSite, nonce) })
	return err == nil, no(err, token.ErrNonce)
}

// mailed is a challenge to an address and from a network that nobody had before.
func (v *vault) mailed(n int) *challenge.Begun {
	v.t.Helper()
	begun, err := v.challenges.Begin(context.Background(), challenge.Ask{
		Purpose: challenge.Login, Scope: vaultSite, Email: identity.Email(fmt.Sprintf("u%d@example.com", n)),
		Return: "/", Subject: "u1", Network: fmt.Sprintf("10.%d.%d.1", n>>8, n&255),
	})
	v.must(err)
	return begun
}

func (v *vault) code(b *challenge.Begun) (bool, error) {
	_, err := v.challenges.Check(context.Background(), challenge.Claim{ID: b.ID, Scope: vaultSite, Purpose: challenge.Login}, string(b.Mail.Code))
	return err == nil, no(err, challenge.ErrSpent)
}

func (v *vault) link(b *challenge.Begun) (bool, error) {
	_, err := v.challenges.Open(context.Background(), challenge.Landing{Link: b.Mail.Link, Scope: vaultSite, IDs: []challenge.ID{b.ID}})
	return err == nil, no(err, challenge.ErrSpent)
}

// Of 64 at once who use one code, link, nonce or refresh token, one is heard.
func TestSecretsWorkOnceAmong64(t *testing.T) {
	t.Run("code", func(t *testing.T) {
		v := openVault(t)
		wantOneWinner(t, func(round int) func(int) (bool, error) {
			b := v.mailed(round)
			return func(int) (bool, error) { return v.code(b) }
		})
	})
	t.Run("link", func(t *testing.T) {
		v := openVault(t)
		wantOneWinner(t, func(round int) func(int) (bool, error) {
			b := v.mailed(round)
			return func(int) (bool, error) { return v.link(b) }
		})
	})
	t.Run("nonce", func(t *testing.T) {
		v := openVault(t)
		wantOneWinner(t, func(int) func(int) (bool, error) {
			nonce, _ := v.tokens.Nonce(vaultSite)
			return func(int) (bool, error) { return v.nonce(nonce) }
		})
	})
	t.Run("refresh token", func(t *testing.T) {
		v := openVault(t)
		wantOneWinner(t, func(int) func(int) (bool, error) {
			refresh := v.family().Refresh
			return func(int) (bool, error) { return v.trade(refresh) }
		})
	})
}
