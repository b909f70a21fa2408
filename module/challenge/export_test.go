package challenge

import (
	"context"

	"github.com/caddy-login/caddy-login/module/guest"
)

// Opened is the mail of a challenge with its link, also where mail or link were
// withheld: what nobody can have, for tests to try.
func (c *Challenges) Opened(claim Claim) (*Mail, error) {
	var s *stored
	err := c.store.View(context.Background(), func(tx guest.Tx) (err error) {
		s, err = c.claimed(tx, claim)
		return err
	})
	if err != nil {
		return nil, err
	}
	secret, err := c.uncover(s, claim.ID)
	if err != nil {
		return nil, err
	}
	mail := s.begun(claim.ID, secret, "").Mail
	mail.Link = link{s.handle, secret}.text()
	return mail, nil
}

// Normalise is what a form's text is taken for.
func Normalise(typed string) (code string, ok bool) { return normalise(typed) }
