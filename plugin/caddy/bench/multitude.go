package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

// multitude is what it costs that very many people are known: each figure of a
// Caddy with all of them, beside the same of one with few.
type multitude struct {
	People   int `json:"people"`
	Sessions int `json:"sessions"`
	Few      int `json:"few"`
	// Made is how long it took to make them, in seconds, once: Anew says that it
	// was in this run. Disk is what their store takes, in MB.
	Made float64 `json:"made_seconds"`
	Anew bool    `json:"made_in_this_run"`
	Disk float64 `json:"disk"`
	// AtOnce is how many come in one turn.
	AtOnce int             `json:"people_a_turn"`
	Rows   []*multitudeRow `json:"rows"`
	Saving *saving         `json:"saving"`
}

// multitudeRow is one figure, round for round.
type multitudeRow struct {
	Name string    `json:"name"`
	Many []float64 `json:"many"`
	Few  []float64 `json:"few"`
}

func (r *multitudeRow) ratio() spread { return ratios(r.Many, r.Few) }

const (
	// leastPeople has the few fill two pages.
	leastPeople = 2000
	// mostStarts is how often each Caddy is started.
	mostStarts = 5
)

// measureMultitude compares two towns. What goes wrong is a fault, and the end of
// it.
func (b *bench) measureMultitude() error {
	if b.people == 0 {
		return nil
	}
	defer b.stop()
	if err := b.startOthers(mask{}); err != nil {
		return err
	}
	b.results.Multitude = new(multitude)
	if err := b.visitTowns(b.results.Multitude); err != nil {
		b.results.fault("very many people", err.Error())
	}
	return nil
}

// visitTowns settles two towns, compares them, and leaves nothing of them.
func (b *bench) visitTowns(r *multitude) (err error) {
	many, err := b.settleTown("many", b.people, b.people/signedInOf)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, many.leave()) }()
	few, err := b.settleTown("few", len(many.Known), len(many.Known))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, few.leave()) }()
	r.People, r.Sessions, r.Few = many.People, many.Sessions, few.People
	r.Made, r.Anew, r.Disk = many.Took, many.made, float64(many.Disk)/(1<<20)
	return b.compareTowns(r, many, few)
}

func (b *bench) compareTowns(r *multitude, many, few *town) (err error) {
	// The ones who come to each start are known, too.
	r.AtOnce = max(1, min(b.conns, (len(few.Known)-2*mostStarts)/(b.rounds+1)))
	c := &comparison{multitude: r, many: many, few: few}
	for _, part := range []func(*bench) error{c.inside, c.starts, c.outside} {
		if err := part(b); err != nil {
			return err
		}
	}
	if r.Saving, err = b.save(many, few); err != nil {
		return err
	}
	return c.weigh("after a backup and a restore")
}

// comparison fills the rows of two towns.
type comparison struct {
	*multitude
	many, few *town
}

// each has both towns take a turn, in any order.
func (c *comparison) each(turn func(*town) error) error {
	towns := []*town{c.many, c.few}
	for _, i := range rand.Perm(len(towns)) {
		if err := turn(towns[i]); err != nil {
			return fmt.Errorf("among %d people: %w", towns[i].People, err)
		}
	}
	return nil
}

func (c *comparison) note(t *town, name string, value float64) {
	row := c.row(name)
	if t == c.many {
		row.Many = append(row.Many, value)
		return
	}
	row.Few = append(row.Few, value)
}

func (r *multitude) row(name string) *multitudeRow {
	for _, row := range r.Rows {
		if row.Name == name {
			return row
		}
	}
	r.Rows = append(r.Rows, &multitudeRow{Name: name})
	return r.Rows[len(r.Rows)-1]
}

// inside asks the house itself, without a Caddy around it.
func (c *comparison) inside(b *bench) error {
	for range b.rounds {
		if err := c.each(c.insideOne); err != nil {
			return fmt.Errorf("in the process: %w", err)
		}
	}
	return nil
}

func (c *comparison) insideOne(t *town) (err error) {
	began := time.Now()
	store, err := openStore(t.dir)
	if err != nil {
		return err
	}
	c.note(t, "opening the store, ms", milliseconds(time.Since(began)))
	e, err := newEntrance(countedStore{store})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.store.Close()) }()
	tally := func() (tally, error) { return totalNow(), nil }
	for i := range lookups {
		l := &lookups[i]
		cost, err := l.ask(t.ask(c.AtOnce), tally, func(a acquaintance) (found, error) { return l.inside(e, a) })
		if err != nil {
			return err
		}
		c.note(t, l.name+", µs", microseconds(cost.took))
		c.note(t, l.name+", records read", cost.reads)
	}
	return nil
}

// starts starts the Caddies, again and again, and leaves the last ones running.
func (c *comparison) starts(b *bench) error {
	for i := range min(b.rounds, mostStarts) {
		err := c.each(func(t *town) error {
			if i > 0 {
				t.end()
			}
			took, err := t.begin(b)
			c.note(t, "Caddy, from its start to the first signed-in answer, ms", milliseconds(took))
			return err
		})
		if err != nil {
			return fmt.Errorf("starting: %w", err)
		}
	}
	return c.weigh("after the start")
}

// weigh notes what both Caddies hold.
func (c *comparison) weigh(when string) error {
	return c.each(func(t *town) error {
		h, err := holdingOf(t.proxy, t.dir)
		c.note(t, when+", MB resident", h.Resident)
		c.note(t, when+", MB of no file", h.Anonymous)
		c.note(t, when+", MB alive", h.Alive)
		return err
	})
}

// outside has people come, and the operator ask.
func (c *comparison) outside(b *bench) error {
	if err := c.each(func(t *town) error { _, err := t.turn(t.newOnes(), c.AtOnce); return err }); err != nil {
		return fmt.Errorf("warming up: %w", err)
	}
	for range b.rounds {
		for _, turn := range []func(*town) error{c.people, c.operator} {
			if err := c.each(turn); err != nil {
				return err
			}
		}
	}
	return c.weigh("after all that")
}

func (t *town) newOnes() *occasion {
	return &occasion{logInFirst, t.usual, t.newcomers, comeIn, t.isNew, 1}
}

// The occasions' names in a town.
const (
	townReturn = "return"
	townOld    = "a request with a session that is not at hand"
	townWarm   = "a request with one that is"
)

func (c *comparison) people(t *town) error {
	for _, o := range []*occasion{
		t.newOnes(),
		{townReturn, t.usual, t.residents, comeIn, t.isKnown, 1},
		{townOld, t.usual, t.visitors, []step{{2, (*caller).land, nil}}, t.isKnown, 1},
		{townWarm, t.usual, t.within, lookUp, t.isKnown, clicks},
	} {
		cost, err := t.turn(o, c.AtOnce)
		if err != nil {
			return fmt.Errorf("%s: %w", o.name, err)
		}
		if err := isRead(o, cost); err != nil {
			return err
		}
		c.note(t, o.name+", CPU ms", cost.CPU)
		c.note(t, o.name+", ms", cost.Wall)
	}
	return nil
}

// isRead: a session that is not at hand is read from the store, once, and one
// that is at hand never.
func isRead(o *occasion, cost *logInCost) error {
	want, of := map[string]float64{townOld: 1, townWarm: 0}[o.name]
	if got := cost.Store[views]; of && got != want {
		return fmt.Errorf("%s: the store was asked %g times, not %g", o.name, got, want)
	}
	return nil
}

func (c *comparison) operator(t *town) error {
	asked := func() (tally, error) {
		var u usage
		err := t.proxy.ask("/usage", struct{}{}, &u)
		return u.Store, err
	}
	for i := range lookups {
		l := &lookups[i]
		cost, err := l.ask(t.ask(c.AtOnce), asked, func(a acquaintance) (found, error) { return l.fromOutside(t, a) })
		if err != nil {
			return fmt.Errorf("at the admin endpoint: %w", err)
		}
		c.note(t, "the admin endpoint, "+l.name+", µs", microseconds(cost.took))
	}
	return nil
}

// judgeMultitude: nobody pays for how many others there are, but for what is read
// from deeper down: three records of each session that is not at hand.
func (r *results) judgeMultitude() {
	m := r.Multitude
	if m == nil {
		return
	}
	for _, goal := range []struct {
		name  string
		limit float64
	}{{logInFirst, 1.25}, {townReturn, 1.25}, {townOld, 1.5}, {townWarm, 1.25}} {
		r.target(fmt.Sprintf("CPU among %d : among %d, %s", m.People, m.Few, goal.name), goal.limit, m.row(goal.name+", CPU ms").ratio())
	}
}

func (r *results) printMultitude(w io.Writer) {
	m := r.Multitude
	if m == nil {
		return
	}
	made := "made in an earlier run"
	if m.Anew {
		made = "made in this run"
	}
	fmt.Fprintf(w, "\n%d PEOPLE, %d of them signed in, %d a turn (%s, in %.0f s; %.0f MB)\twith them\twith %d\tratio\n",
		m.People, m.Sessions, m.AtOnce, made, m.Made, m.Disk, m.Few)
	for _, row := range m.Rows {
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", row.Name, spreadOf(row.Many), spreadOf(row.Few), row.ratio())
	}
	if m.Saving != nil {
		m.Saving.print(w)
	}
}

func (s *saving) print(w io.Writer) {
	fmt.Fprintf(w, "  a backup, s\t%s\t%.2f\t\n", s.Backup, s.BackupFew)
	fmt.Fprintf(w, "  a restore, s\t%.2f\t%.2f\t\n", s.Restore, s.RestoreFew)
	fmt.Fprintf(w, "\n  the backup\t%.0f MB\t%.1f MB a second\n", float64(s.Bytes)/(1<<20), float64(s.Bytes)/(1<<20)/s.Backup.Median)
	fmt.Fprintf(w, "  sign-ins a second, %d at once, without a backup\t%s\tthe longest %.0f ms\n", askers, s.Quiet, s.LongestQuiet)
	fmt.Fprintf(w, "  the same beside a backup\t%s\tthe longest %.0f ms\n", s.Beside, s.LongestBeside)
	fmt.Fprintf(w, "  beside : without\t%s\t\n", s.Ratio)
	fmt.Fprintf(w, "  the longest wait while all is restored, ms\ta lookup %.0f\ta request with a session at hand %.0f\ta sign-in %.0f, %d begun again\n",
		s.LongestLookup, s.LongestRequest, s.LongestSignIn, s.Again)
}
