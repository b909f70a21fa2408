package token_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/seal"
	"github.com/caddy-login/caddy-login/module/session"
	"github.com/caddy-login/caddy-login/module/token"
)

const (
	host   = "app.example.com"
	origin = "https://" + host
)

// world is tokens on a real store, with a clock to turn.
type world struct {
	t        testing.TB
	dir      string
	store    guest.Store
	clock    *logintest.Clock
	sessions *session.Sessions
	signer   *seal.Signer
	tokens   *token.Tokens
	person   identity.Person
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, dir: t.TempDir(), clock: new(logintest.Clock)}
	w.open()
	w.update(func(tx guest.Tx) error {
		admitted, err := identity.Admit(tx, identity.Arrival{
			Traits:  guest.Traits{Name: "corp"},
			Profile: guest.Profile{Issuer: "https://id.example.com", Subject: "ada", Name: "Ada"},
			SignUp:  func(identity.Email) bool { return true }, At: w.clock.Now(),
		})
		w.person = admitted.Person
		return err
	})
	return w
}

func (w *world) open() {
	w.t.Helper()
	w.store = logintest.StoreIn(w.t, w.dir)
	ring, err := seal.Load(context.Background(), w.store, w.clock.Now)
	w.must(err)
	w.signer, err = seal.LoadSigner(context.Background(), w.store, w.clock.Now)
	w.must(err)
	w.sessions = session.Open(w.store, ring, w.clock.Now)
	w.tokens = token.Open(w.store, ring, w.sessions, w.clock.Now)
}

// restart forgets everything that is not in the store, as kill -9 would.
func (w *world) restart() {
	w.t.Helper()
	w.must(w.store.Close())
	w.open()
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) update(fn func(guest.Tx) error) {
	w.t.Helper()
	w.must(w.store.Update(context.Background(), fn))
}

func (w *world) site() token.Site { return token.Site{Signer: w.signer, Origin: origin, Scope: host} }

// begin signs Ada in.
func (w *world) begin() token.Begun {
	w.t.Helper()
	ticket, err := w.tokens.Issue(host)
	w.must(err)
	var begun token.Begun
	w.update(func(tx guest.Tx) (err error) {
		begun, err = w.tokens.Start(tx, ticket, session.New{
			Person: w.person, Provider: "corp", AuthTime: w.clock.Now(), At: w.clock.Now(),
			Lifetime: 30 * 24 * time.Hour, Idle: 7 * 24 * time.Hour,
		})
		return err
	})
	return begun
}

func (w *world) access(s *session.Session) string {
	w.t.Helper()
	access, err := w.tokens.Access(w.site(), s)
	w.must(err)
	return string(access.Token)
}

// spend trades a refresh token as the API does.
func (w *world) spend(refresh guest.Secret) (token.Spent, guest.Secret, error) {
	x, err := w.tokens.Exchange(host, refresh)
	if err != nil {
		return token.Spent{}, "", err
	}
	var spent token.Spent
	err = w.store.Update(context.Background(), func(tx guest.Tx) (err error) {
		spent, err = w.tokens.Spend(tx, x, w.clock.Now())
		return err
	})
	if spent.Reused != nil {
		w.sessions.Forget(spent.Reused.Key)
	}
	return spent, x.Refresh, err
}

// mustSpend trades a refresh token that is good.
func (w *world) mustSpend(refresh guest.Secret) (next guest.Secret) {
	w.t.Helper()
	spent, next, err := w.spend(refresh)
	w.must(err)
	if spent.Session == nil || spent.Reused != nil {
		w.t.Fatalf("spent %+v", spent)
	}
	return next
}

func (w *world) read(access string) (*session.AtHand, error) {
	return w.tokens.Read(context.Background(), w.site(), access)
}

func (w *world) isIn(access string) {
	w.t.Helper()
	held, err := w.read(access)
	w.must(err)
	if live := held.Live(); live.User != w.person.User.ID || live.Person.User.Name != "Ada" {
		w.t.Fatalf("it is %+v", live.Session)
	}
}

func (w *world) isOut(access string) {
	w.t.Helper()
	if live, err := w.read(access); !errors.Is(err, token.ErrInvalid) {
		w.t.Fatalf("the access token is good: %v, %v", live, err)
	}
}

func (w *world) isDead(refresh guest.Secret) {
	w.t.Helper()
	if spent, _, err := w.spend(refresh); !errors.Is(err, token.ErrInvalid) {
		w.t.Fatalf("the refresh token is good: %+v, %v", spent, err)
	}
}
