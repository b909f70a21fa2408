package challenge_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddy-login/caddy-login/module/challenge"
	"github.com/caddy-login/caddy-login/module/guest"
)

// beginWith begins one whose link does this in other browsers.
func (w *world) beginWith(way challenge.CrossDevice) *challenge.Begun {
	w.t.Helper()
	a := w.ask()
	a.Familiar = true // some tests begin many
	a.Email = "u" + ada
	a.Rules.CrossDevice = way
	return w.begin(a)
}

func (w *world) look(l challenge.Landing) *challenge.Sight {
	w.t.Helper()
	sight, err := w.challenges.Look(ctx, l)
	w.must(err)
	return sight
}

func TestLookingAtALinkConsumesNothing(t *testing.T) {
	for _, way := range []challenge.CrossDevice{challenge.ShowCode, challenge.Match, challenge.Allow} {
		w := newWorld(t)
		begun := w.beginWith(way)
		before := w.dump()
		for range 100 {
			w.look(at(begun))
			w.look(at(begun, begun.ID))
		}
		if w.dump() != before {
			t.Errorf("%s: looking changed the store", way)
		}
		w.must(w.check(begun, string(begun.Mail.Code)))
	}
}

func TestLinkIsSpentInTheAskingBrowser(t *testing.T) {
	for _, way := range []challenge.CrossDevice{challenge.ShowCode, challenge.Match, challenge.Allow} {
		w := newWorld(t)
		others, begun := w.begin(w.ask()), w.beginWith(way)
		here := at(begun, others.ID, begun.ID)
		if sight := w.look(here); !sight.Here || !sight.Opens || sight.Code != "" || sight.Choices != nil || sight.Asker != begun.Mail.Asker {
			t.Errorf("%s: sight %+v", way, sight)
		}
		w.restart()
		proof, err := w.challenges.Open(ctx, here)
		w.must(err)
		if proof.By != challenge.ByLink || !proof.Here || proof.Email != begun.Mail.To || proof.Purpose != challenge.Login {
			t.Errorf("%s: proof %+v", way, proof)
		}
		_, err = w.challenges.Open(ctx, here)
		w.want(err, challenge.ErrSpent)
		w.want(w.check(begun, string(begun.Mail.Code)), challenge.ErrSpent)
		if state := w.poll(begun).State; state != challenge.Spent {
			t.Errorf("%s: state %q", way, state)
		}
	}
}

func TestElsewhereTheLinkShowsTheCode(t *testing.T) {
	w := newWorld(t)
	others, begun := w.begin(w.ask()), w.beginWith("")
	sight := w.look(at(begun, others.ID))
	if sight.Here || sight.Opens || sight.Choices != nil || sight.Code != begun.Mail.Code || begun.Waiting.Number != 0 {
		t.Errorf("sight %+v", sight)
	}
	_, err := w.challenges.Open(ctx, at(begun, others.ID))
	w.want(err, challenge.ErrElsewhere)
	w.want(w.challenges.Pick(ctx, at(begun), 10), challenge.ErrElsewhere)
	if state := w.poll(begun).State; state != challenge.Pending {
		t.Errorf("a click elsewhere made it %q", state)
	}
	_, err = w.challenges.Collect(ctx, claim(begun))
	w.want(err, challenge.ErrPending)
	w.must(w.check(begun, string(sight.Code)))
}

func TestRightNumberLetsTheWaitingBrowserIn(t *testing.T) {
	w := newWorld(t)
	begun := w.beginWith(challenge.Match)
	sight := w.look(at(begun))
	if sight.Code != "" || sight.Opens || len(sight.Choices) != 3 || !slices.Contains(sight.Choices, begun.Waiting.Number) {
		t.Fatalf("sight %+v, number %d", sight, begun.Waiting.Number)
	}
	_, err := w.challenges.Collect(ctx, claim(begun))
	w.want(err, challenge.ErrPending)
	w.must(w.challenges.Pick(ctx, at(begun), begun.Waiting.Number))
	w.restart()
	if state := w.poll(begun).State; state != challenge.Approved {
		t.Fatalf("state %q", state)
	}
	_, err = w.challenges.Open(ctx, at(begun))
	w.want(err, challenge.ErrElsewhere)

	var winners atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			proof, err := w.challenges.Collect(ctx, claim(begun))
			switch {
			case err == nil && proof.By == challenge.ByNumber && proof.Here:
				winners.Add(1)
			case !errors.Is(err, challenge.ErrSpent):
				t.Errorf("%+v, %v", proof, err)
			}
		})
	}
	wg.Wait()
	if winners.Load() != 1 {
		t.Errorf("%d winners", winners.Load())
	}
	w.want(w.check(begun, string(begun.Mail.Code)), challenge.ErrSpent)
}

func TestWrongNumberEndsIt(t *testing.T) {
	w := newWorld(t)
	begun := w.beginWith(challenge.Match)
	choices := w.look(at(begun)).Choices
	other := choices[0]
	if other == begun.Waiting.Number {
		other = choices[1]
	}
	w.want(w.challenges.Pick(ctx, at(begun), other), challenge.ErrCancelled)
	w.want(w.challenges.Pick(ctx, at(begun), begun.Waiting.Number), challenge.ErrCancelled)
	w.want(w.check(begun, string(begun.Mail.Code)), challenge.ErrCancelled)
	if state := w.poll(begun).State; state != challenge.Cancelled {
		t.Errorf("state %q", state)
	}
}

// Numbers of two digits each, which stay, and whose order tells nothing.
func TestChoicesDoNotTellTheRightOne(t *testing.T) {
	w := newWorld(t)
	var places [3]int
	for range 60 {
		w.clock.Advance(24 * 3600e9)
		begun := w.beginWith(challenge.Match)
		choices := w.look(at(begun)).Choices
		if again := w.look(at(begun)).Choices; !slices.Equal(choices, again) {
			t.Errorf("choices %v, then %v", choices, again)
		}
		if choices[0] < 10 || choices[2] > 99 || choices[0] >= choices[1] || choices[1] >= choices[2] {
			t.Errorf("choices %v", choices)
		}
		if number := w.poll(begun).Number; number != begun.Waiting.Number {
			t.Errorf("number %d, then %d", begun.Waiting.Number, number)
		}
		places[slices.Index(choices, begun.Waiting.Number)]++
	}
	if slices.Min(places[:]) == 0 { // by chance once in ten thousand million runs
		t.Errorf("the right one stands at %v", places)
	}
}

func TestAllowSignsInWhereTheLinkIsOpened(t *testing.T) {
	w := newWorld(t)
	begun := w.beginWith(challenge.Allow)
	if sight := w.look(at(begun)); sight.Here || !sight.Opens || sight.Code != "" {
		t.Errorf("sight %+v", sight)
	}
	proof, err := w.challenges.Open(ctx, at(begun))
	w.must(err)
	if proof.Here || proof.By != challenge.ByLink {
		t.Errorf("proof %+v", proof)
	}
	_, err = w.challenges.Open(ctx, at(begun, begun.ID))
	w.want(err, challenge.ErrSpent)
}

func TestAllowIsForSigningInAlone(t *testing.T) {
	w := newWorld(t)
	for _, purpose := range []challenge.Purpose{challenge.Link, challenge.Verify, challenge.Change, challenge.StepUp} {
		a := w.ask()
		a.Purpose, a.Rules.CrossDevice = purpose, challenge.Allow
		begun := w.begin(a)
		if sight := w.look(at(begun)); sight.Opens || sight.Code != begun.Mail.Code {
			t.Errorf("%s: sight %+v", purpose, sight)
		}
		_, err := w.challenges.Open(ctx, at(begun))
		w.want(err, challenge.ErrElsewhere)
	}
}

func TestReaderWhoDidNotAskEndsIt(t *testing.T) {
	w := newWorld(t)
	begun := w.beginWith(challenge.Match)
	w.must(w.challenges.Pick(ctx, at(begun), begun.Waiting.Number))
	w.must(w.challenges.Deny(ctx, at(begun)))
	w.want(w.check(begun, string(begun.Mail.Code)), challenge.ErrCancelled)
	_, err := w.challenges.Collect(ctx, claim(begun))
	w.want(err, challenge.ErrCancelled)
	w.want(w.challenges.Deny(ctx, at(begun)), challenge.ErrCancelled)

	late := w.beginWith("")
	w.must(w.check(late, string(late.Mail.Code)))
	w.want(w.challenges.Deny(ctx, at(late)), challenge.ErrSpent)
}

func TestForeignLinksLeadNowhere(t *testing.T) {
	w := newWorld(t)
	begun, other := w.beginWith(challenge.Allow), w.beginWith(challenge.Allow)
	text, others := string(begun.Mail.Link), string(other.Mail.Link)
	for _, foreign := range []string{
		"", text[:63], text + "A", text[:22] + others[22:], others[:22] + text[22:], strings.Repeat("!", 64),
		text[:22] + string("BA"[strings.IndexByte("AB", text[22])&1]) + text[23:], begun.ID.Text(), text[:32] + "\n" + text[33:],
	} {
		if foreign == text {
			continue
		}
		l := challenge.Landing{Link: guest.Secret(foreign), Scope: site, IDs: []challenge.ID{begun.ID}}
		_, err := w.challenges.Look(ctx, l)
		w.want(err, challenge.ErrExpired)
		_, err = w.challenges.Open(ctx, l)
		w.want(err, challenge.ErrExpired)
		w.want(w.challenges.Pick(ctx, l, 10), challenge.ErrExpired)
		w.want(w.challenges.Deny(ctx, l), challenge.ErrExpired)
	}
	l := at(begun, begun.ID)
	l.Scope = "other.example.com"
	_, err := w.challenges.Open(ctx, l)
	w.want(err, challenge.ErrExpired)
	w.must(w.check(begun, string(begun.Mail.Code)))
}

func TestWithoutALinkNoneOpens(t *testing.T) {
	w := newWorld(t)
	a := w.ask()
	a.Rules.CrossDevice = challenge.Match
	with := w.begin(a)
	a.Rules.NoLink = true
	without := w.begin(a)
	if without.Waiting.Number != 0 || with.Waiting.Number == 0 {
		t.Errorf("numbers %d and %d", with.Waiting.Number, without.Waiting.Number)
	}
	if without.Mail.Link != "" {
		t.Errorf("link %q", string(without.Mail.Link))
	}
	mail, err := w.challenges.Opened(claim(without))
	w.must(err)
	l := challenge.Landing{Link: mail.Link, Scope: site, IDs: []challenge.ID{without.ID}}
	_, err = w.challenges.Open(ctx, l)
	w.want(err, challenge.ErrExpired)
	_, err = w.challenges.Look(ctx, l)
	w.want(err, challenge.ErrExpired)
}
