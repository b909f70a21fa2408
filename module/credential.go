package module

import (
	"net/http"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/session"
	"github.com/caddy-login/caddy-login/module/token"
)

// credential is what somebody who comes in is given: a cookie, or, in an app of
// its own, tokens. It is made ahead of the transaction that makes the session,
// and handed over after it.
type credential interface {
	// start makes the session of a sign-in.
	start(tx guest.Tx, begin session.New) (*session.Session, error)
	// move gives a session that lives a new id, or returns session.ErrNone.
	move(tx guest.Tx, key session.Key, at time.Time) (*session.Session, error)
	hand(w http.ResponseWriter, v *visit, begun *session.Session)
}

// issue makes what this visit's client can carry.
func (v *visit) issue() (credential, error) {
	if v.api != nil && v.api.native {
		ticket, err := v.house.tokens.Issue(v.tokenScope())
		return &byTokens{tokens: v.house.tokens, ticket: ticket}, err
	}
	ticket, err := v.house.sessions.Issue(v.scope)
	return &byCookie{sessions: v.house.sessions, ticket: ticket}, err
}

type byCookie struct {
	sessions *session.Sessions
	ticket   session.Ticket
}

func (c *byCookie) start(tx guest.Tx, begin session.New) (*session.Session, error) {
	return c.sessions.Start(tx, c.ticket, begin)
}

func (c *byCookie) move(tx guest.Tx, key session.Key, at time.Time) (*session.Session, error) {
	return c.sessions.Rotate(tx, c.ticket, key, at)
}

func (c *byCookie) hand(w http.ResponseWriter, v *visit, begun *session.Session) {
	v.set(w, v.base, c.ticket.Cookie, begun.Expires.Sub(v.gate.now()))
}

type byTokens struct {
	tokens *token.Tokens
	ticket token.Ticket
	begun  token.Begun
}

func (c *byTokens) start(tx guest.Tx, begin session.New) (_ *session.Session, err error) {
	c.begun, err = c.tokens.Start(tx, c.ticket, begin)
	return c.begun.Session, err
}

func (c *byTokens) move(tx guest.Tx, key session.Key, at time.Time) (_ *session.Session, err error) {
	c.begun, err = c.tokens.Move(tx, c.ticket, key, at)
	return c.begun.Session, err
}

func (c *byTokens) hand(_ http.ResponseWriter, v *visit, _ *session.Session) { v.api.begun = &c.begun }
