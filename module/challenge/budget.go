package challenge

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/record"
)

const (
	day = 24 * time.Hour

	mailsAnHour = 5
	mailsADay   = 15

	failuresAnHour = 10
	// firstPause doubles each time, up to a day: ten guesses a day find one code
	// of six digits in some three hundred years.
	firstPause = 15 * time.Minute
	maxPause   = day
	// forgiven is how long after a pause the next one is a first one.
	forgiven = day
)

var budgetKind = record.Kind{Name: "budget", Version: 1}

// budget is what an account may still do. It lies in the store: a restart must
// not give a guesser a new one.
type budget struct {
	key []byte

	// Stranger is for browsers that nobody has seen with this account.
	Stranger lane `json:"stranger,omitzero"`
	// Familiar is for those that signed in with it before.
	Familiar lane `json:"familiar,omitzero"`
	// Expires is when nothing of it counts any more.
	Expires time.Time `json:"expires"`
}

// lane is one budget. Times are Unix seconds.
type lane struct {
	// Sends are the mails of the last day.
	Sends []int64 `json:"sends,omitempty"`
	// Failures are the wrong codes of the last hour.
	Failures []int64 `json:"failures,omitempty"`
	// Paused is until when all codes are wrong.
	Paused int64 `json:"paused,omitempty"`
	// Pauses is how many came one after the other.
	Pauses int `json:"pauses,omitempty"`
}

// fold makes one of the addresses that commonly lead to one mailbox. It is for
// budgets alone: for anything else a.b@ and ab@ are two people.
func fold(e identity.Email) string {
	local, domain, _ := strings.Cut(string(e), "@")
	if base, _, _ := strings.Cut(local, "+"); base != "" {
		local = base
	}
	return strings.ReplaceAll(local, ".", "") + "@" + domain
}

// readBudget reads the one of a challenge. Strangers share that of all addresses
// that fold alike; who is familiar has the address's own, which nobody with a
// neighbouring one can use up.
func readBudget(tx guest.Tx, s *stored, now time.Time) (*budget, error) {
	name := fold(s.Email)
	if s.Familiar {
		name = string(s.Email)
	}
	b := &budget{key: budgetKind.Key(record.Hash("budget", name))}
	err := budgetKind.Get(tx, b.key, b)
	if err != nil && !errors.Is(err, guest.ErrNotFound) {
		return nil, err
	}
	b.Stranger.prune(now)
	b.Familiar.prune(now)
	return b, nil
}

func (b *budget) write(tx guest.Tx, now time.Time) error {
	b.Expires = later(b.Stranger.ends(now), b.Familiar.ends(now)).UTC()
	return budgetKind.Put(tx, b.key, b, b.Expires.Add(linger))
}

func (b *budget) of(familiar bool) *lane {
	if familiar {
		return &b.Familiar
	}
	return &b.Stranger
}

// prune forgets what does not count any more, and what a clock that was wrong
// wrote: a moment in the future, a pause longer than any is. It would count for
// ever.
func (l *lane) prune(now time.Time) {
	l.Sends = since(l.Sends, now, day)
	l.Failures = since(l.Failures, now, time.Hour)
	if over := now.Sub(time.Unix(l.Paused, 0)); over > forgiven || over < -maxPause || l.Pauses < 0 {
		l.Paused, l.Pauses = 0, 0
	}
}

// send counts a mail, unless there may be none.
func (l *lane) send(now time.Time) Withheld {
	switch {
	case l.pausedAt(now):
		return Paused
	case len(l.Sends) >= mailsADay || len(since(l.Sends, now, time.Hour)) >= mailsAnHour:
		return Throttled
	}
	l.Sends = append(l.Sends, now.Unix())
	return ""
}

// fail counts a wrong code. A success forgives none: addresses that fold alike
// may be two people's, and one could have the other's forgiven. Those during a
// pause do not count, lest a stranger make it endless.
func (l *lane) fail(now time.Time) {
	if l.pausedAt(now) {
		return
	}
	l.Failures = append(l.Failures, now.Unix())
	if len(l.Failures) < failuresAnHour {
		return
	}
	pause := min(firstPause<<min(l.Pauses, 10), maxPause)
	l.Failures, l.Pauses, l.Paused = nil, l.Pauses+1, now.Add(pause).Unix()
}

func (l *lane) pausedAt(now time.Time) bool { return now.Unix() < l.Paused }

// ends is when nothing of it counts any more.
func (l *lane) ends(now time.Time) time.Time {
	end := now
	if len(l.Sends) > 0 {
		end = later(end, time.Unix(slices.Max(l.Sends), 0).Add(day))
	}
	if len(l.Failures) > 0 {
		end = later(end, time.Unix(slices.Max(l.Failures), 0).Add(time.Hour))
	}
	if l.Paused > 0 {
		end = later(end, time.Unix(l.Paused, 0).Add(forgiven))
	}
	return end
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// since are the times of the last d up to now.
func since(times []int64, now time.Time, d time.Duration) []int64 {
	from, to := now.Add(-d).Unix(), now.Add(skew).Unix()
	return slices.DeleteFunc(slices.Clone(times), func(t int64) bool { return t <= from || t > to })
}
