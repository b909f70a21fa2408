package challenge

import (
	"context"
	"fmt"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
)

// Landing is a browser that a mailed link led to this site.
type Landing struct {
	Link  guest.Secret
	Scope string
	// IDs are the challenges that this browser asked for, by its cookies.
	IDs []ID
}

// Sight is what a link leads to.
type Sight struct {
	State   State // Pending or Approved
	Purpose Purpose
	Email   identity.Email
	Subject string
	Asker   Asker
	Expires time.Time
	// Here: this browser asked for it.
	Here bool
	// Opens: Open would spend it in this browser.
	Opens bool
	// Code is what to type where it was asked for; empty where the link does
	// something else.
	Code guest.Secret
	// Choices are three numbers, of which Pick takes one; nil where the link
	// does something else.
	Choices []int
}

// Look returns what a link leads to, and consumes nothing: scanners follow
// links, and a person may come back to it. The error is that of a challenge that
// is over; a link that is not ours is ErrExpired.
func (c *Challenges) Look(ctx context.Context, l Landing) (*Sight, error) {
	var s *stored
	to, ok := parseLink(l.Link)
	if !ok {
		return nil, fmt.Errorf("looking at link: %w", ErrExpired)
	}
	err := c.store.View(ctx, func(tx guest.Tx) (err error) {
		if s, err = read(tx, to.handle); err != nil {
			return err
		}
		return c.leads(to, l, s)
	})
	if err != nil {
		return nil, fmt.Errorf("looking at link: %w", err)
	}
	return s.sight(to, to.handle.hasAsked(l.IDs), c.now()), nil
}

// leads reports why a link does not lead to s, or not any more.
func (c *Challenges) leads(to link, l Landing, s *stored) error {
	if !to.opens(s) || s.Scope != l.Scope || s.NoLink || s.Phantom {
		return ErrExpired
	}
	return s.stateAt(c.now()).err()
}

func (s *stored) sight(to link, here bool, now time.Time) *Sight {
	sight := &Sight{
		State: s.stateAt(now), Purpose: s.Purpose, Email: s.Email, Subject: s.Subject,
		Asker: s.Asker, Expires: s.Expires, Here: here, Opens: s.opensIn(here),
	}
	switch {
	case sight.Opens:
	case s.elsewhere() == Match:
		sight.Choices = to.secret.choices()
	default:
		sight.Code = guest.Secret(to.secret.code(s.Length))
	}
	return sight
}

func (s *stored) opensIn(asked bool) bool { return asked || s.elsewhere() == Allow }

// Open spends a link, as the right code would: in the browser that asked, or,
// with Allow, in any. Elsewhere it returns ErrElsewhere, and nothing is spent.
// It must not be called for a GET or HEAD.
//
// A pause of the account does not hold it up: no guess finds a link.
func (c *Challenges) Open(ctx context.Context, l Landing) (Proof, error) {
	here := false
	s, err := c.land(ctx, l, func(to link, s *stored) (_, err error) {
		if here = to.handle.hasAsked(l.IDs); !s.opensIn(here) {
			return nil, ErrElsewhere
		}
		s.State = Spent
		return nil, nil
	})
	if err != nil {
		return Proof{}, fmt.Errorf("opening link: %w", err)
	}
	return s.proof(ByLink, here), nil
}

// land has fn change what a live link leads to.
func (c *Challenges) land(ctx context.Context, l Landing, fn func(link, *stored) (verdict, err error)) (*stored, error) {
	to, ok := parseLink(l.Link)
	if !ok {
		return nil, ErrExpired
	}
	return c.settle(ctx, to.handle, func(_ guest.Tx, s *stored) (verdict, err error) {
		if err := c.leads(to, l, s); err != nil {
			return nil, err
		}
		return fn(to, s)
	})
}

// Pick takes one of the Choices. The right one approves the browser that waits;
// any other ends the challenge and returns ErrCancelled: there is no second
// guess. Where the rules have no numbers it returns ErrElsewhere.
func (c *Challenges) Pick(ctx context.Context, l Landing, number int) error {
	_, err := c.land(ctx, l, func(to link, s *stored) (verdict, err error) {
		if s.elsewhere() != Match {
			return nil, ErrElsewhere
		}
		if number != to.secret.number() {
			s.State = Cancelled
			return ErrCancelled, nil
		}
		s.State = Approved
		return nil, nil
	})
	if err != nil {
		return fmt.Errorf("picking number: %w", err)
	}
	return nil
}

// Deny is "I did not ask for this": it ends the challenge. ErrSpent means that
// it comes too late.
func (c *Challenges) Deny(ctx context.Context, l Landing) error {
	_, err := c.land(ctx, l, func(_ link, s *stored) (_, err error) { return nil, c.cancel(s) })
	if err != nil {
		return fmt.Errorf("denying challenge: %w", err)
	}
	return nil
}
