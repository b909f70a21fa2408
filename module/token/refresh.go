package token

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/session"
)

// Exchange is a refresh token that is about to be spent, and the one that takes
// its place. It is made ahead of the transaction.
type Exchange struct {
	// Refresh is the next one: good once Spend's transaction is durable, unless
	// the session was ended there.
	Refresh guest.Secret

	scope       string
	key         session.Key
	spent, next secret
}

// Spent is what became of an Exchange.
type Spent struct {
	// Session goes on; nil where it was ended.
	Session *session.Session
	// Reused is the session that was ended, because the token had been spent
	// before: somebody has stolen it, from whoever holds the session or from
	// whoever is here. Nobody can tell which, so both are out. nil: it was not.
	Reused *session.Ended
}

// Exchange reads a refresh token, without the store. ErrInvalid means that it
// is none of this scope.
func (t *Tokens) Exchange(scope string, refresh guest.Secret) (Exchange, error) {
	x := Exchange{scope: scope, next: newSecret()}
	plain, err := t.ring.Open(purpose(scope), string(refresh))
	if err != nil || len(plain) != len(x.key)+len(x.spent) {
		return Exchange{}, ErrInvalid
	}
	copy(x.spent[:], plain[copy(x.key[:], plain):])
	x.Refresh, err = t.seal(scope, x.key, x.next)
	return x, err
}

// Spend trades a refresh token for the next one: exactly once, however many ask
// at once, and across restarts. It counts as a use of the session. ErrInvalid
// means that the session lives no more.
//
// One that was spent before ends the session, in tx. Once tx is durable, call
// Sessions.Forget with the key of Spent.Reused. A client must not spend one token
// twice, so it has to do one exchange after the other: of two at once the second
// ends the session, and the first then has tokens that are worth nothing.
func (t *Tokens) Spend(tx guest.Tx, x Exchange, at time.Time) (Spent, error) {
	s, err := t.sessions.Use(tx, x.key, at)
	if errors.Is(err, session.ErrNone) || err == nil && s.Scope != x.scope {
		return Spent{}, ErrInvalid
	}
	if err != nil {
		return Spent{}, fmt.Errorf("spending refresh token: %w", err)
	}
	var f family
	if err := familyKind.Get(tx, familyKey(x.key), &f); err != nil {
		return Spent{}, fmt.Errorf("spending refresh token: %w", err)
	}
	if digest := sha256.Sum256(x.spent[:]); subtle.ConstantTimeCompare(digest[:], f.Current) != 1 {
		ended, err := t.sessions.EndOne(tx, x.key)
		return Spent{Reused: &ended}, err
	}
	return Spent{Session: s}, putFamily(tx, s, x.next, at)
}
