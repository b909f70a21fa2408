package challenge

import (
	"context"
	"fmt"

	"github.com/caddy-login/caddy-login/module/guest"
)

// Claim is a browser that says it asked, at this site, for this purpose.
type Claim struct {
	ID      ID
	Scope   string
	Purpose Purpose
}

// fits refuses a challenge of another site or purpose as if there were none.
func (c Claim) fits(s *stored) error {
	if s.Scope != c.Scope || s.Purpose != c.Purpose {
		return ErrExpired
	}
	return nil
}

// Poll returns how a challenge stands, also one that is over, or ErrExpired. It
// changes nothing, and signs nobody in: an Approved one is to be collected.
func (c *Challenges) Poll(ctx context.Context, claim Claim) (*Waiting, error) {
	var s *stored
	err := c.store.View(ctx, func(tx guest.Tx) (err error) {
		s, err = c.claimed(tx, claim)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("polling challenge: %w", err)
	}
	secret, err := c.uncover(s, claim.ID)
	if err != nil {
		return nil, fmt.Errorf("polling challenge: %w", err)
	}
	w := s.waiting(secret, c.now())
	return &w, nil
}

func (c *Challenges) claimed(tx guest.Tx, claim Claim) (*stored, error) {
	s, err := read(tx, claim.ID.handle())
	if err != nil {
		return nil, err
	}
	return s, claim.fits(s)
}

// uncover finds the link's secret, which takes the asking browser's id and our
// key.
func (c *Challenges) uncover(s *stored, id ID) (found secret, err error) {
	masked, err := c.ring.OpenAtRest(string(s.key()), s.Secret)
	if err != nil {
		return secret{}, fmt.Errorf("opening secret: %w", err)
	}
	copy(found[:], masked)
	copy(found[:], found.masked(id))
	return found, nil
}

// Check tries a code. The attempt counts before the code is compared, and a
// right one is spent in the same transaction: of any number of callers exactly
// one gets the proof. The outcome is durable when Check returns.
//
// The error is *Wrong, ErrTooMany, ErrMalformed, ErrExpired, ErrSpent or
// ErrCancelled, wrapped; or the store's, and then nothing was tried. While the
// account is paused every code is wrong.
func (c *Challenges) Check(ctx context.Context, claim Claim, typed string) (Proof, error) {
	code, ok := normalise(typed)
	if !ok {
		return Proof{}, fmt.Errorf("checking code: %w", ErrMalformed)
	}
	s, err := c.settle(ctx, claim.ID.handle(), func(tx guest.Tx, s *stored) (verdict, err error) {
		if err := claim.fits(s); err != nil {
			return nil, err
		}
		if err := s.stateAt(c.now()).err(); err != nil {
			return nil, err
		}
		if len(code) != s.Length {
			return nil, ErrMalformed
		}
		return c.try(tx, s, claim.ID, code)
	})
	if err != nil {
		return Proof{}, fmt.Errorf("checking code: %w", err)
	}
	return s.proof(ByCode, true), nil
}

// settle has fn change a challenge in one transaction. Where fn's err is nil
// what it changed is kept, whatever the verdict; else nothing is written: a dead
// challenge costs no disk however often it is knocked at.
func (c *Challenges) settle(ctx context.Context, h handle, fn func(guest.Tx, *stored) (verdict, err error)) (s *stored, err error) {
	var verdict error
	err = c.store.Update(ctx, func(tx guest.Tx) (err error) {
		if s, err = read(tx, h); err != nil {
			return err
		}
		if verdict, err = fn(tx, s); err != nil {
			return err
		}
		return s.write(tx)
	})
	if err != nil {
		return nil, err
	}
	return s, verdict
}

// try counts the attempt and compares. It reads the same and compares the same
// for a phantom and for a paused account.
func (c *Challenges) try(tx guest.Tx, s *stored, id ID, code string) (verdict, err error) {
	s.Attempts++
	now := c.now()
	b, err := readBudget(tx, s, now)
	if err != nil {
		return nil, err
	}
	lane := b.of(s.Familiar)
	right := c.ring.Tagged(tagPurpose, s.tagged(id, code), s.Tag)
	if right && !s.Phantom && !lane.pausedAt(now) {
		s.State = Spent
		return nil, nil
	}
	lane.fail(now)
	if err := b.write(tx, now); err != nil {
		return nil, err
	}
	if s.Attempts >= maxAttempts {
		return ErrTooMany, nil
	}
	return &Wrong{AttemptsLeft: maxAttempts - s.Attempts}, nil
}

// Resend has the mail sent again: the same code and the same link, so that the
// mails may arrive in any order and each is right. It gives no further attempt
// and no further time.
//
// The error is ErrTooSoon, ErrNetwork, ErrBusy or that of a challenge that is
// over. An address that had its mails gets no other, and what was mailed before
// still works: as with Begin, only Withheld tells.
func (c *Challenges) Resend(ctx context.Context, claim Claim, network string) (*Begun, error) {
	familiar, err := c.mayResend(ctx, claim)
	if err == nil {
		err = c.admit(network, familiar)
	}
	if err != nil {
		return nil, fmt.Errorf("sending mail again: %w", err)
	}
	var withheld Withheld
	s, err := c.settle(ctx, claim.ID.handle(), func(tx guest.Tx, s *stored) (_, err error) {
		if err := c.resendable(s, claim); err != nil {
			return nil, err
		}
		s.Resent++
		s.Sent = c.now().UTC()
		withheld, err = c.charge(tx, s, s.Phantom)
		return nil, err
	})
	if err != nil {
		return nil, fmt.Errorf("sending mail again: %w", err)
	}
	return c.again(s, claim.ID, withheld)
}

// mayResend looks ahead, so that an impatient click costs its network nothing.
func (c *Challenges) mayResend(ctx context.Context, claim Claim) (familiar bool, err error) {
	err = c.store.View(ctx, func(tx guest.Tx) error {
		s, err := read(tx, claim.ID.handle())
		if err != nil {
			return err
		}
		familiar = s.Familiar
		return c.resendable(s, claim)
	})
	return familiar, err
}

func (c *Challenges) resendable(s *stored, claim Claim) error {
	if err := claim.fits(s); err != nil {
		return err
	}
	now := c.now()
	if err := s.stateAt(now).err(); err != nil {
		return err
	}
	if at := s.resendAt(); at.IsZero() || now.Before(at) {
		return ErrTooSoon
	}
	return nil
}

func (c *Challenges) again(s *stored, id ID, withheld Withheld) (*Begun, error) {
	secret, err := c.uncover(s, id)
	if err != nil {
		return nil, fmt.Errorf("sending mail again: %w", err)
	}
	return s.begun(id, secret, withheld), nil
}

// Collect spends what was approved by picking the right number: the waiting
// browser's way in. Of any number of callers exactly one gets the proof. The
// error is ErrPending where nobody has approved it.
func (c *Challenges) Collect(ctx context.Context, claim Claim) (Proof, error) {
	s, err := c.settle(ctx, claim.ID.handle(), func(_ guest.Tx, s *stored) (_, err error) {
		if err := claim.fits(s); err != nil {
			return nil, err
		}
		return nil, c.collect(s)
	})
	if err != nil {
		return Proof{}, fmt.Errorf("collecting challenge: %w", err)
	}
	return s.proof(ByNumber, true), nil
}

func (c *Challenges) collect(s *stored) error {
	state := s.stateAt(c.now())
	if err := state.err(); err != nil {
		return err
	}
	if state != Approved {
		return ErrPending
	}
	s.State = Spent
	return nil
}

// Cancel ends a challenge for the browser that asked for it. One that is over
// stays what it is: the error says what.
func (c *Challenges) Cancel(ctx context.Context, claim Claim) error {
	_, err := c.settle(ctx, claim.ID.handle(), func(_ guest.Tx, s *stored) (_, err error) {
		if err := claim.fits(s); err != nil {
			return nil, err
		}
		return nil, c.cancel(s)
	})
	if err != nil {
		return fmt.Errorf("cancelling challenge: %w", err)
	}
	return nil
}

func (c *Challenges) cancel(s *stored) error {
	if err := s.stateAt(c.now()).err(); err != nil {
		return err
	}
	s.State = Cancelled
	return nil
}
