package module

import (
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/challenge"
	"github.com/caddy-login/caddy-login/module/page"
)

// TestPersonIsToldWhatACodeIsFor, wherever it is shown: who takes it for a
// sign-in would give away an account.
func TestPersonIsToldWhatACodeIsFor(t *testing.T) {
	p := &portal{gate: &Gate{now: time.Now}}
	for purpose, want := range map[challenge.Purpose]page.CodeFor{
		challenge.Login: page.ForSignIn, challenge.Link: page.ForAddress, challenge.Verify: page.ForAddress,
		challenge.Change: page.ForAddress, challenge.StepUp: page.ForAgain,
	} {
		enter := p.entering(challenge.Claim{}, &challenge.Waiting{Purpose: purpose})
		other := elsewhere(challenge.Landing{}, &challenge.Sight{Purpose: purpose})
		if enter.For != want || other.For != want {
			t.Errorf("%s: told of %q and, elsewhere, of %q, want %q", purpose, enter.For, other.For, want)
		}
	}
}
