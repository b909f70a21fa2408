package challenge_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/challenge"
	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/logintest"
)

// fuzzed is a world without a disk, and one challenge in it.
func fuzzed(f *testing.F) (*world, func(*testing.T, challenge.CrossDevice) *challenge.Begun) {
	store := &memory{}
	w := &world{t: f, clock: new(logintest.Clock)}
	w.open(store)
	begun := 0
	return w, func(t *testing.T, way challenge.CrossDevice) *challenge.Begun {
		w.t = t
		store.forget("challenge/")
		store.forget("budget/")
		w.clock.Advance(time.Minute)
		begun++
		a := challenge.Ask{Purpose: challenge.Login, Scope: site, Email: identity.Email(fmt.Sprintf("u%d@example.com", begun)), Familiar: true}
		a.Rules.CrossDevice = way
		return w.begin(a)
	}
}

// FuzzCheckCode holds that what is typed is right exactly where its digits are
// the code, counts exactly where they could be, and is right once.
func FuzzCheckCode(f *testing.F) {
	for _, seed := range []string{"", "123456", " 12-34 56", "１２３４５６", "1234567890", "٠٠٠٠٠٠", "\xff\xfe", "12345e", "−123456", "\u202e123456"} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	w, begin := fuzzed(f)
	f.Fuzz(func(t *testing.T, text string, append bool) {
		begun := begin(t, "")
		typed := text
		if append {
			typed += string(begun.Mail.Code)
		}
		digits, ok := challenge.Normalise(typed)
		proof, err := w.challenges.Check(ctx, claim(begun), typed)
		left := w.poll(begun).AttemptsLeft
		var wrong *challenge.Wrong
		switch {
		case !ok || len(digits) != 6:
			if !errors.Is(err, challenge.ErrMalformed) || left != 5 {
				t.Errorf("%q: %v, %d left", typed, err, left)
			}
		case digits != string(begun.Mail.Code):
			if !errors.As(err, &wrong) || left != 4 {
				t.Errorf("%q: %v, %d left", typed, err, left)
			}
		case err != nil || proof.Email != begun.Mail.To:
			t.Errorf("%q is right: %v", typed, err)
		default:
			if _, err := w.challenges.Check(ctx, claim(begun), typed); !errors.Is(err, challenge.ErrSpent) {
				t.Errorf("%q twice: %v", typed, err)
			}
		}
	})
}

// FuzzLink holds that a link has one spelling, and no other opens, shows or
// ends anything.
func FuzzLink(f *testing.F) {
	for _, seed := range []string{"", "A", "=", "\n", "/../", "%41", "\x00"} {
		f.Add(seed, 0, 64)
		f.Add(seed, 63, 64)
		f.Add(seed, 22, 23)
		f.Add(seed, 64, 64)
	}
	w, begin := fuzzed(f)
	f.Fuzz(func(t *testing.T, text string, from, to int) {
		begun := begin(t, challenge.Allow)
		link := string(begun.Mail.Link)
		from = min(max(from, 0), len(link))
		to = min(max(to, from), len(link))
		spelling := link[:from] + text + link[to:]
		l := challenge.Landing{Link: guest.Secret(spelling), Scope: site, IDs: []challenge.ID{begun.ID}}
		if spelling == link {
			if _, err := w.challenges.Open(ctx, l); err != nil {
				t.Errorf("the link itself: %v", err)
			}
			return
		}
		_, looked := w.challenges.Look(ctx, l)
		_, opened := w.challenges.Open(ctx, l)
		for _, err := range []error{looked, opened, w.challenges.Pick(ctx, l, 10), w.challenges.Deny(ctx, l)} {
			if !errors.Is(err, challenge.ErrExpired) {
				t.Errorf("%q: %v", spelling, err)
			}
		}
		if state := w.poll(begun).State; state != challenge.Pending {
			t.Errorf("%q made it %q", spelling, state)
		}
	})
}
