package session

import (
	"strings"

	"github.com/caddy-login/caddy-login/module/identity"
)

// pack lays all texts of a session at hand down in one piece of memory. As they
// were read from the store they are a score: every collection of garbage would
// go over each, for as long as the session is at hand.
func (l *Live) pack() {
	n := 0
	l.eachText(func(text string) string {
		n += len(text)
		return text
	})
	var b strings.Builder
	b.Grow(n)
	l.eachText(func(text string) string {
		begin := b.Len()
		b.WriteString(text)
		return b.String()[begin:]
	})
}

// eachText has f replace each text by an equal one.
func (l *Live) eachText(f func(string) string) {
	s, u, a := &l.Session, &l.Person.User, &l.Person.Identity
	for _, text := range []*string{
		&s.Handle, &s.Scope, &s.Provider, &s.Origin.Issuer, &s.Origin.Subject, &s.Origin.SessionID, &s.Device, &s.Place,
		&u.Name, &u.Picture, &u.CreatedBy, &a.Provider, &a.Issuer, &a.Subject, &a.Email, &a.How,
	} {
		*text = f(*text)
	}
	for _, texts := range [][]string{s.AuthMethods, u.Groups, a.Groups} {
		for i := range texts {
			texts[i] = f(texts[i])
		}
	}
	s.User, a.User = identity.UserID(f(string(s.User))), identity.UserID(f(string(a.User)))
	u.ID, u.State, u.Email = identity.UserID(f(string(u.ID))), identity.State(f(string(u.State))), identity.Email(f(string(u.Email)))
}
