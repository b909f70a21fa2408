package main_test

import (
	"context"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/challenge"
	"github.com/caddy-login/caddy-login/module/guest"
	sessions "github.com/caddy-login/caddy-login/module/session"
)

// jumps are what clocks do: a machine without a battery wakes in 1970.
func jumps(now time.Time) map[string]time.Time {
	return map[string]time.Time{
		"10 minutes back": now.Add(-10 * time.Minute), "10 minutes on": now.Add(10 * time.Minute),
		"a day back": now.Add(-24 * time.Hour), "a day on": now.Add(24 * time.Hour),
		"1970": time.Unix(60, 0), "2038": time.Date(2038, 1, 19, 3, 14, 8, 0, time.UTC),
	}
}

// pile is what was done with before a clock jumped.
type pile struct {
	*vault
	alive, ended string // sessions, by their cookies
	code, link   *challenge.Begun
	nonce        string
	refresh      guest.Secret
	asked        int // for how many mails
}

func heap(t *testing.T) *pile {
	t.Helper()
	p := &pile{vault: openVault(t)}
	_, p.alive = p.enters()
	session, cookie := p.enters()
	p.must(p.sessions.End(context.Background(), session.Key))
	p.ended, p.code, p.link, p.refresh = cookie, p.mail(), p.mail(), p.family().Refresh
	p.nonce, _ = p.tokens.Nonce(vaultSite)
	for what, won := range p.tries() {
		if !won {
			t.Fatalf("the %s does not work", what)
		}
	}
	return p
}

// mail asks for a mail to somebody new.
func (p *pile) mail() *challenge.Begun {
	p.t.Helper()
	p.asked++
	return p.mailed(p.asked)
}

// enters begins a session for a browser.
func (p *pile) enters() (*sessions.Session, string) {
	p.t.Helper()
	ticket, err := p.vault.sessions.Issue(vaultSite)
	p.must(err)
	var begun *sessions.Session
	p.update(func(tx guest.Tx) (err error) {
		begun, err = p.vault.sessions.Start(tx, ticket, sessions.New{
			Person: p.person, Provider: "op", AuthTime: p.clock.Now(), At: p.clock.Now(), Lifetime: month, Idle: month,
		})
		return err
	})
	return begun, ticket.Cookie
}

func (p *pile) lives(cookie string) bool {
	_, err := p.vault.sessions.Read(context.Background(), vaultSite, cookie, p.clock.Now())
	return err == nil
}

// tries tries all that works once. How what is spent is refused, as spent or as
// too old, is the clock's affair.
func (p *pile) tries() map[string]bool {
	code, _ := p.vault.code(p.code)
	link, _ := p.vault.link(p.link)
	nonce, _ := p.vault.nonce(p.nonce)
	refresh, _ := p.trade(p.refresh)
	return map[string]bool{"code": code, "link": link, "nonce": nonce, "refresh token": refresh}
}

// holds checks that what is done with stays so, and that nobody is shut out.
func (p *pile) holds(when string) {
	p.t.Helper()
	for what, won := range p.tries() {
		if won {
			p.t.Errorf("%s: a spent %s works", when, what)
		}
	}
	if p.lives(p.ended) {
		p.t.Errorf("%s: an ended session lives", when)
	}
	if _, cookie := p.enters(); !p.lives(cookie) {
		p.t.Errorf("%s: nobody can sign in", when)
	}
	b := p.mail()
	if won, err := p.vault.code(b); !won {
		p.t.Errorf("%s: nobody can sign in with a code (error: %v)", when, err)
	}
}

// Whatever the clock does, what is spent or ended stays so, and people can sign
// in; and once it is right again, who was signed in still is, unless it had gone
// past their session's end.
func TestClockMayJump(t *testing.T) {
	for name := range jumps(time.Time{}) {
		t.Run(name, func(t *testing.T) {
			p := heap(t)
			now := p.clock.Now()
			p.clock.Set(jumps(now)[name])
			p.holds("at the wrong time")
			p.restart()
			p.holds("at the wrong time, after a restart")
			_, strange := p.enters()
			p.clock.Set(now.Add(time.Minute))
			p.holds("afterwards")
			p.restart()
			p.holds("afterwards, after a restart")
			figures(t, "the session from before lives: %t, that of the wrong time: %t", func() []any {
				return []any{p.lives(p.alive), p.lives(strange)}
			})
			if !p.lives(p.alive) && name != "2038" {
				t.Error("who was signed in is not")
			}
			if p.lives(strange) && name == "2038" {
				t.Error("a session of 2038 lives on for twelve years")
			}
		})
	}
}
