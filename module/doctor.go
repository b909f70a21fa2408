package module

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-login/caddy-login/module/backchannel"
	"github.com/caddy-login/caddy-login/module/guest"
)

// What a guest may bring for the doctor. None has to.
type (
	// checkedMailer is a guest.Mailer that can try its server without sending.
	checkedMailer interface {
		Check(ctx context.Context) error
	}
	// checkedProvider is a guest.Provider that can ask whether it would be
	// answered. date is the time by the provider's clock, zero where it does not
	// tell.
	checkedProvider interface {
		Check(ctx context.Context) (date time.Time, err error)
	}
	// spacious is a guest.Store that knows how much room there is, in bytes.
	spacious interface {
		Space() (dir string, used, free int64, err error)
	}
)

// health is what the doctor found.
type health struct {
	OK     bool    `json:"ok"`     // no check failed
	Checks []check `json:"checks"` // what was looked at
}

// check is one finding.
type check struct {
	// About is what was looked at: store, keys, mail, site, or a provider.
	About  string  `json:"about"`
	Status finding `json:"status"` // ok, failed, warning or note
	Detail string  `json:"detail"` // what was found, and the cure
}

// finding is how a check came out.
type finding string

// The words of a finding. A note is no check: something to know, or to do.
const (
	checkOK      finding = "ok"
	checkFailed  finding = "failed"
	checkWarning finding = "warning"
	checkNote    finding = "note"
)

// consulting is held by the one who asks others' servers: however many want to
// know, those hear of one at a time.
var consulting = make(chan struct{}, 1)

// doctor looks whether sign-ins can work.
func (d *desk) doctor() (any, error) {
	select {
	case consulting <- struct{}{}:
	case <-d.r.Context().Done():
		return nil, context.Cause(d.r.Context())
	}
	defer func() { <-consulting }()
	checks := d.checkStore()
	checks = append(checks, d.app.checkSites()...)
	checks = append(checks, d.app.checkOutside(d.r.Context())...)
	bad := slices.ContainsFunc(checks, func(c check) bool { return c.Status == checkFailed })
	return health{OK: !bad, Checks: checks}, nil
}

// checkStore opens the store, and asks it for nothing that takes long.
func (d *desk) checkStore() []check {
	house, err := d.app.door.enter()
	if err != nil {
		return []check{{"store", checkFailed, err.Error()}}
	}
	// An update without a write tells whether there is room for one.
	if err := house.store.Update(d.r.Context(), func(guest.Tx) error { return nil }); err != nil {
		return []check{{"store", checkFailed, err.Error()}}
	}
	age := house.ring.Age()
	return []check{
		{"store", checkOK, roomOf(house.store, d.app.door.key)},
		{"keys", checkOK, "made " + ago(age) + "; they change by themselves"},
	}
}

func roomOf(store guest.Store, key string) string {
	s, ok := bare(store).(spacious)
	if !ok {
		return "opens: " + key
	}
	dir, used, free, err := s.Space()
	if err != nil {
		return "opens: " + key
	}
	if free == math.MaxInt64 { // a system that does not tell
		return fmt.Sprintf("opens: %s holds %s", dir, size(used))
	}
	return fmt.Sprintf("opens: %s holds %s, %s are free", dir, size(used), size(free))
}

// checkSites names what to register, and what in the configuration is risky.
func (a *App) checkSites() (checks []check) {
	for _, g := range a.gates {
		for _, origin := range g.registered() {
			checks = append(checks, g.checkOrigin(origin)...)
		}
	}
	if a.log.Core().Enabled(zap.DebugLevel) {
		checks = append(checks, check{"log", checkWarning, "debug is on: Caddy's own log tells more of visitors than it should keep; remove 'debug' from the global options"})
	}
	return checks
}

func (g *Gate) checkOrigin(origin string) (checks []check) {
	for _, name := range providersAmong(g.providers) {
		checks = append(checks, check{name, checkNote, "callback URL to register: " + origin + g.settings.Pages.Path + "/" + name + "/callback"})
	}
	if rest, plain := strings.CutPrefix(origin, "http://"); plain && !isLoopback(hostname(rest)) {
		checks = append(checks, check{"site", checkWarning, origin + " is not https: no cookie is safe there, and sign-ins are refused; serve it by https, or write 'origin https://" + hostname(rest) + "' where TLS ends in front of Caddy"})
	}
	return checks
}

// hostname is host without a port.
func hostname(hostPort string) string {
	if strings.HasPrefix(hostPort, "[") {
		host, _, _ := strings.Cut(hostPort[1:], "]")
		return host
	}
	host, _, _ := strings.Cut(hostPort, ":")
	return host
}

const (
	// outsidePatience is how long one check of another's server may take.
	outsidePatience = 3 * time.Second
	// maxOutside bounds those under way at once.
	maxOutside = 16
	// maxSkew is how far two clocks may be apart: tokens are valid from and to a
	// second, and we allow for a minute in all.
	maxSkew = 30 * time.Second
)

// outside is a check of another's server.
type outside struct {
	about string
	run   func(context.Context) check
}

// checkOutside asks all providers and mail servers, beside each other.
func (a *App) checkOutside(ctx context.Context) []check {
	all := append(a.providerChecks(), a.mailChecks()...)
	checks := make([]check, len(all))
	slots := make(chan struct{}, maxOutside)
	var wait sync.WaitGroup
	for i, one := range all {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			checks[i] = one.safely(ctx)
		})
	}
	wait.Wait()
	return checks
}

// safely runs a check within its time. A guest's panic would end the whole
// server here; its value may hold anything.
func (o outside) safely(ctx context.Context) (c check) {
	ctx, cancel := context.WithTimeout(backchannel.For(ctx, backchannel.Other), outsidePatience)
	defer cancel()
	defer func() {
		if v := recover(); v != nil {
			c = check{o.about, checkFailed, fmt.Sprintf("its check broke down: panic of a %T", v)}
		}
	}()
	return o.run(ctx)
}

// providerChecks are one for each provider, the app's and the sites' own.
func (a *App) providerChecks() (all []outside) {
	seen := map[guest.Method]bool{}
	for _, method := range a.methods() {
		provider, ok := method.(guest.Provider)
		if !ok || seen[method] {
			continue
		}
		seen[method] = true
		name := method.Traits().Name
		all = append(all, outside{name, func(ctx context.Context) check { return checkProvider(ctx, name, provider) }})
	}
	return all
}

func (a *App) methods() []guest.Method {
	methods := slices.Clone(a.providers)
	for _, g := range a.gates {
		methods = append(methods, g.providers...)
	}
	return methods
}

func checkProvider(ctx context.Context, name string, provider guest.Provider) check {
	checked, ok := provider.(checkedProvider)
	if !ok {
		return check{name, checkNote, "can't be asked without a sign-in"}
	}
	date, err := checked.Check(ctx)
	if err != nil {
		return check{name, checkFailed, err.Error()}
	}
	if date.IsZero() {
		return check{name, checkOK, "reachable"}
	}
	skew := time.Since(date)
	if skew.Abs() > maxSkew {
		return check{name, checkFailed, fmt.Sprintf("reachable, but the clock of this machine is %s %s the provider's, and sign-ins fail for it: set the clock, by NTP", skew.Abs().Round(time.Second), behindOr(skew))}
	}
	return check{name, checkOK, fmt.Sprintf("reachable; the clocks are %s apart", skew.Abs().Round(time.Second))}
}

func behindOr(skew time.Duration) string {
	if skew < 0 {
		return "behind"
	}
	return "ahead of"
}

// mailChecks are one for each mailer.
func (a *App) mailChecks() (all []outside) {
	var seen []*post
	for _, s := range append([]*Settings{&a.Settings}, a.siteSettings()...) {
		if s.post == nil || slices.Contains(seen, s.post) {
			continue
		}
		seen = append(seen, s.post)
		mailer := s.post.mailer
		all = append(all, outside{"mail", func(ctx context.Context) check { return checkMailer(ctx, mailer) }})
	}
	return all
}

func (a *App) siteSettings() (all []*Settings) {
	for _, g := range a.gates {
		all = append(all, &g.settings)
	}
	return all
}

func checkMailer(ctx context.Context, mailer guest.Mailer) check {
	checked, ok := mailer.(checkedMailer)
	if !ok {
		return check{"mail", checkNote, "this mailer can't be tried without sending"}
	}
	if err := checked.Check(ctx); err != nil {
		return check{"mail", checkFailed, err.Error()}
	}
	return check{"mail", checkOK, "the server takes connections and, where there is one, the password"}
}

// size is a number of bytes for people.
func size(bytes int64) string {
	switch {
	case bytes >= 10<<30:
		return fmt.Sprintf("%d GiB", bytes>>30)
	case bytes >= 10<<20:
		return fmt.Sprintf("%d MiB", bytes>>20)
	default:
		return fmt.Sprintf("%d KiB", max(bytes, 0)>>10)
	}
}

// ago is how long ago something was, for people; negative: how long until it
// is.
func ago(d time.Duration) string {
	long := d.Abs()
	n, unit := int64(long/time.Second), "second"
	for _, step := range []struct {
		from time.Duration
		unit string
	}{{time.Minute, "minute"}, {time.Hour, "hour"}, {24 * time.Hour, "day"}} {
		if long >= step.from {
			n, unit = int64(long/step.from), step.unit
		}
	}
	if n != 1 {
		unit += "s"
	}
	switch {
	case long < time.Second:
		return "just now"
	case d < 0:
		return fmt.Sprintf("in %d %s", n, unit)
	default:
		return fmt.Sprintf("%d %s ago", n, unit)
	}
}
