package session

import (
	"encoding/json"
	"sync/atomic"
	"time"

	"github.com/caddy-login/caddy-login/module/identity"
)

// AtHand is a live session as it is kept between requests. A request needs to
// know little of it, and every collection of garbage goes over all that there
// are: so what was read lies in one text without pointers, and is read again
// where somebody asks. It is safe for concurrent use.
type AtHand struct {
	// Site holds whatever the handler made of this session for one site: the
	// headers, ready to send. The cache neither reads nor compares it.
	Site atomic.Value

	text   string // the scope, and the Live as JSON
	scope  int    // how long that is
	key    Key
	hash   hash
	begins int64 // in Unix nanoseconds, as those below
	// seen moves on with each use, expires does not.
	seen    atomic.Int64
	expires int64
	idle    int64 // nanoseconds
}

// packed is how it lies at hand.
type packed struct {
	Session Session
	Person  identity.Person
	Grant   *Grant
}

// newAtHand is of a session that lives.
func newAtHand(live *Live) (*AtHand, error) {
	text, err := json.Marshal(packed{live.Session, live.Person, live.Grant})
	if err != nil {
		return nil, err
	}
	a := &AtHand{
		text: live.Scope + string(text), scope: len(live.Scope), key: live.Key,
		begins: live.begins().UnixNano(), expires: live.Expires.UnixNano(), idle: int64(live.Idle),
	}
	a.seen.Store(live.Seen.UnixNano())
	return a, nil
}

// Key is what the store knows the session by.
func (a *AtHand) Key() Key { return a.key }

// Live is the session as it was read: Seen is that of then. It is the caller's
// own. It takes as long as a page may and a request to the app should not.
func (a *AtHand) Live() *Live {
	var p packed
	if err := json.Unmarshal([]byte(a.text[a.scope:]), &p); err != nil {
		panic("session at hand: " + err.Error()) // newAtHand wrote it, and nobody since
	}
	p.Session.Key, p.Session.Handle = a.key, a.key.Handle()
	return &Live{Session: p.Session, Person: p.Person, Grant: p.Grant}
}

func (a *AtHand) isOn(scope string) bool { return a.text[:a.scope] == scope }

func (a *AtHand) livesAt(now time.Time) bool {
	at := now.UnixNano()
	return a.begins < at && at < a.expires && at-a.seen.Load() < a.idle
}
