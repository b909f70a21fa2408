package module

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-login/caddy-login/module/backchannel"
	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/header"
	"github.com/caddy-login/caddy-login/module/session"
)

// renewal is when the tokens of a session are to be renewed, and by whom. From
// due on it happens behind the requests' backs; once it is overdue, a request
// waits for it. Both are in Unix nanoseconds.
type renewal struct {
	by           guest.Renewer
	rules        guest.TokenRules
	due, overdue int64
}

const (
	// renewPatience is how long a request waits for the provider's word.
	renewPatience = 3 * time.Second
	// renewTimeout bounds a renewal, also with nobody waiting.
	renewTimeout = 15 * time.Second
	// renewAgain is how long after a failure the provider is left alone.
	renewAgain = 30 * time.Second
	// renewGap is the least time between two renewals of a session, however
	// short its tokens live.
	renewGap = 30 * time.Second
	// maxRenewing bounds the renewals under way at one provider.
	maxRenewing = 64
	// unsavedFor is how long an answer that the store did not take waits for the
	// session's next request.
	unsavedFor = time.Hour
)

// renewalOf is nil where a session keeps nothing to renew.
func (g *Gate) renewalOf(live *session.Live) *renewal {
	by, ok := named(g.providers, live.Provider).(guest.Renewer)
	if !ok || live.Grant == nil {
		return nil
	}
	traits := by.Traits()
	if !traits.Tokens.Keep || live.Grant.Client != traits.Client {
		return nil
	}
	due, overdue := schedule(traits.Tokens, live.Grant)
	if overdue.IsZero() {
		return nil
	}
	return &renewal{by: by, rules: traits.Tokens, due: due.UnixNano(), overdue: overdue.UnixNano()}
}

// schedule is when a grant is to be renewed: before its access token expires,
// or before the provider's word is too old. Zero times: never.
func schedule(rules guest.TokenRules, g *session.Grant) (due, overdue time.Time) {
	if g.Refresh != "" {
		overdue = g.Expires
	}
	if rules.Revalidate > 0 {
		if old := g.Proven.Add(rules.Revalidate); overdue.IsZero() || old.Before(overdue) {
			overdue = old
		}
	}
	if overdue.IsZero() {
		return overdue, overdue
	}
	due = overdue.Add(-overdue.Sub(g.Proven) / 5)
	if earliest := g.Proven.Add(renewGap); due.Before(earliest) {
		due = earliest
	}
	if overdue.Before(due) {
		overdue = due
	}
	return due, overdue
}

// prove has a session's tokens renewed where that is due. A request waits only
// where it is overdue, and not for long: a provider that does not answer signs
// nobody out. Its error means that we cannot know who is there.
func (v *visit) prove(r *http.Request) error {
	known := v.known(v.gate)
	if known == nil || known.renewal == nil {
		return nil
	}
	now := v.gate.now()
	if now.UnixNano() < known.renewal.due {
		return nil
	}
	one := v.house.renewals.begin(known, v.house, now)
	if one == nil || now.UnixNano() < known.renewal.overdue {
		return nil
	}
	one.wait(r.Context(), now, v.house.renewals.patience)
	v.is(nil)
	v.held = nil
	return v.recognise(r)
}

// wait waits until a renewal is over, or has taken too long: what comes later
// does not wait anew.
func (r *renewing) wait(ctx context.Context, now time.Time, patience time.Duration) {
	over := time.NewTimer(patience - now.Sub(r.began))
	defer over.Stop()
	select {
	case <-r.done:
	case <-over.C:
	case <-ctx.Done():
	}
}

// unproven reports a session that nobody can ask about at a provider that must
// be asked: it began before the operator wrote so, its tokens are another
// client's, or its only token has expired.
func (g *Gate) unproven(traits guest.Traits, live *session.Live) bool {
	if traits.Tokens.Revalidate == 0 {
		return false
	}
	lapse := g.lapseOf(live)
	return live.Grant == nil || live.Grant.Client != traits.Client || lapse != 0 && g.now().UnixNano() >= lapse
}

// lapseOf is when a session's only token expires where its account must be
// asked about, in Unix nanoseconds; 0: never.
func (g *Gate) lapseOf(live *session.Live) int64 {
	grant, method := live.Grant, named(g.providers, live.Provider)
	if grant == nil || method == nil || method.Traits().Tokens.Revalidate == 0 || grant.Refresh != "" || grant.Expires.IsZero() {
		return 0
	}
	return grant.Expires.UnixNano()
}

// tokenField is the header in which the app receives the access token, if it
// does, and until when.
func (g *Gate) tokenField(live *session.Live) (field header.Field, until int64) {
	provider := named(g.providers, live.Provider)
	if live.Grant == nil || live.Grant.Access == "" || provider == nil {
		return field, 0
	}
	traits := provider.Traits()
	if live.Grant.Client != traits.Client {
		return field, 0
	}
	field = header.Field{Name: traits.Tokens.Header, Value: string(live.Grant.Access)}
	if !live.Grant.Expires.IsZero() {
		until = live.Grant.Expires.UnixNano()
	}
	return field, until
}

// checkTokens refuses providers whose tokens nobody could keep, and headers for
// them that say something else; it returns those headers' names.
func (g *Gate) checkTokens() (names []string, err error) {
	for _, p := range g.providers {
		t := p.Traits()
		if _, renews := p.(guest.Renewer); t.Tokens.Keep && !renews {
			return nil, fmt.Errorf("provider %s: its tokens can't be kept: remove tokens and revalidate", t.Name)
		}
		name := t.Tokens.Header
		if name == "" {
			continue
		}
		if slices.ContainsFunc(g.fields, func(f field) bool { return header.Alike(f.name, name) }) {
			return nil, fmt.Errorf("provider %s: tokens forward %s: that header says who is there; choose another name", t.Name, name)
		}
		names = append(names, name)
	}
	return names, nil
}

// warnOfDebug says what Caddy's own debug log will hold: its proxy shows the
// headers of each request, and hides no others than Cookie and Authorization.
func (g *Gate) warnOfDebug() {
	if !g.log.Core().Enabled(zap.DebugLevel) {
		return
	}
	for _, p := range g.providers {
		if t := p.Traits(); t.Tokens.Header != "" {
			g.log.Warn("debug is on: the access tokens that are forwarded to the app will stand in Caddy's log; switch debug off, or tokens forward",
				zap.String("provider", t.Name), zap.String("header", t.Tokens.Header))
		}
	}
}

// renewals are the ones under way, one at most for each session, and those
// that failed of late.
type renewals struct {
	mu sync.Mutex
	m  map[session.Key]*renewing
	// slots are by the provider's name: one that is silent takes none of
	// another's.
	slots map[string]chan struct{}
	// patience is how long a request waits; renewPatience but in tests.
	patience time.Duration
}

// renewing is one renewal. What follows done is written before that is closed.
type renewing struct {
	done    chan struct{}
	began   time.Time
	failed  time.Time
	unsaved *session.Grant // the provider's answer, where the store did not take it
}

func newRenewals() *renewals {
	return &renewals{m: make(map[session.Key]*renewing), slots: make(map[string]chan struct{}), patience: renewPatience}
}

// begin has a session renewed, unless that is under way. nil: it failed just
// now, or too much is under way.
func (r *renewals) begin(k *known, h *house, now time.Time) *renewing {
	key := k.hand.Key()
	r.mu.Lock()
	defer r.mu.Unlock()
	next := &renewing{done: make(chan struct{}), began: now}
	if last := r.m[key]; last != nil {
		select {
		case <-last.done:
		default:
			return last
		}
		if age := now.Sub(last.failed); age >= 0 && age < renewAgain {
			return nil
		}
		next.unsaved = last.unsaved
	}
	slots := r.slotsOf(k.visitor.Provider)
	select {
	case slots <- struct{}{}:
	default:
		return nil
	}
	r.m[key] = next
	go r.run(k, h, next, slots)
	return next
}

func (r *renewals) slotsOf(provider string) chan struct{} {
	slots := r.slots[provider]
	if slots == nil {
		slots = make(chan struct{}, maxRenewing)
		r.slots[provider] = slots
	}
	return slots
}

func (r *renewals) run(k *known, h *house, one *renewing, slots chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), renewTimeout)
	defer cancel()
	err := k.renew(ctx, h, one)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		one.failed = k.gate.now()
	} else {
		delete(r.m, k.hand.Key())
	}
	close(one.done)
	<-slots
}

// tidy forgets failures that are long past.
func (r *renewals) tidy(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, one := range r.m {
		select {
		case <-one.done:
			if age := now.Sub(one.failed); age > unsavedFor || age > renewAgain && one.unsaved == nil {
				delete(r.m, key)
			}
		default:
		}
	}
}

// renew asks the provider, and keeps or ends what it says.
func (k *known) renew(ctx context.Context, h *house, one *renewing) (err error) {
	defer func() {
		// Outside of a request a guest's panic would end the whole server. Its
		// value may hold anything.
		if v := recover(); v != nil {
			err = fmt.Errorf("renewing tokens: panic of a %T", v)
		}
	}()
	grant, err := h.sessions.Grant(ctx, k.hand.Key())
	if errors.Is(err, session.ErrNone) {
		one.unsaved = nil
		return nil
	}
	if err != nil {
		return k.notRenewed(err)
	}
	if one.unsaved == nil {
		if due, _ := schedule(k.renewal.rules, grant); k.gate.now().Before(due) {
			return nil
		}
		tokens, err := k.renewal.by.Renew(backchannel.For(ctx, backchannel.Refresh), grant.Kept())
		switch {
		case errors.Is(err, guest.ErrGrantEnded), errors.Is(err, guest.ErrNotRenewable) && k.renewal.rules.Revalidate > 0:
			return k.endGrant(ctx, h, err)
		case err != nil && (tokens.Access != "" || tokens.Refresh != ""):
			one.unsaved = grant.Traded(tokens)
			return k.notRenewed(errors.Join(err, k.save(ctx, h, one)))
		case err != nil:
			return k.notRenewed(err)
		}
		one.unsaved = grant.Renewed(tokens, k.gate.now())
	}
	if err := k.save(ctx, h, one); err != nil {
		return k.notRenewed(err)
	}
	return nil
}

// save writes the provider's answer down. Where the store does not take it, it
// waits for the next try. A token that is too long for any store is not kept.
func (k *known) save(ctx context.Context, h *house, one *renewing) error {
	err := h.sessions.Renew(ctx, k.hand.Key(), one.unsaved)
	if errors.Is(err, session.ErrTooLong) {
		one.unsaved = one.unsaved.Slim()
		err = errors.Join(err, h.sessions.Renew(ctx, k.hand.Key(), one.unsaved))
		one.unsaved = nil
	}
	if err != nil && !errors.Is(err, session.ErrNone) {
		return err
	}
	one.unsaved = nil
	return nil
}

// endGrant signs somebody out whom the provider disowned.
func (k *known) endGrant(ctx context.Context, h *house, why error) error {
	if err := h.sessions.End(ctx, k.hand.Key()); err != nil {
		return k.notRenewed(err)
	}
	k.gate.app.endedElsewhere(&k.hand.Live().Session, "grant_ended", why)
	return nil
}

func (k *known) notRenewed(err error) error {
	app := k.gate.app
	// One line now and then: a provider that is down fails for everybody.
	if app.failures.Allow("", k.gate.now()) {
		app.log.Warn("tokens not renewed; the session goes on", zap.String("provider", k.visitor.Provider),
			zap.String("session", k.handle), zap.Error(err))
	}
	return err
}

// renewStreams renews what is due in sessions that have a stream, and so
// perhaps no request for hours.
func (h *house) renewStreams() {
	for _, held := range h.sessions.Streaming() {
		known, _ := held.Site.Load().(*known)
		for known != nil && known.renewal == nil {
			known = known.next
		}
		if known == nil {
			continue
		}
		if now := known.gate.now(); now.UnixNano() >= known.renewal.due {
			h.renewals.begin(known, h, now)
		}
	}
}
