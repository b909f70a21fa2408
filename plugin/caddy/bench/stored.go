package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// stored is what it costs that there are very many sessions in the store, whether
// or not anybody comes with them.
type stored struct {
	// Visitors is how many of them come.
	Visitors int          `json:"visitors"`
	Rows     []*storedRow `json:"rows"`
	// Plain is Caddy without us, after its start and after as many requests.
	Plain holdings `json:"plain"`
}

// holdings are what a process holds after its start, and once the visitors came.
type holdings struct {
	Started weight `json:"started"`
	Visited weight `json:"visited"`
}

// storedRow is one store and a Caddy that serves it.
type storedRow struct {
	Sessions int `json:"sessions"`
	// Open is how long the store takes to open, and Start Caddy from its start to
	// the first answer of somebody signed in, or, where nobody is, of a stranger.
	// Seconds.
	Open  spread `json:"open_seconds"`
	Start spread `json:"start_seconds"`
	// Disk is what the store takes, in MB.
	Disk float64 `json:"disk"`
	holdings

	crowd       *crowd // nil: the store is empty
	dir         string
	proxy       *proxy
	open, start []float64
}

const (
	// fewOf is how many sessions there are to one of the store between few and many.
	fewOf = 10
	// perPerson is in how many browsers each is signed in where there are many.
	perPerson = 5
)

// measureStored compares stores with no sessions, with those of the visitors
// alone, and with very many.
func (b *bench) measureStored() error {
	if b.sessions == 0 {
		return nil
	}
	r := &stored{Visitors: b.different}
	if err := b.settleStores(r); err != nil {
		return err
	}
	defer b.stop()
	if err := b.startOthers(mask{}); err != nil {
		return err
	}
	for _, part := range []func(*stored) error{b.openStores, b.startStores, b.weighStores, b.visitStores} {
		if err := part(r); err != nil {
			return err
		}
	}
	b.results.Stored = r
	return r.leave()
}

// settleStores makes the stores, or copies what an earlier run has made.
func (b *bench) settleStores(r *stored) error {
	r.Rows = []*storedRow{{dir: filepath.Join(b.dir, "store-of-0")}}
	for _, size := range []struct{ people, sessions int }{
		{b.different, b.different}, {b.sessions / fewOf / perPerson, b.sessions / fewOf}, {b.sessions / perPerson, b.sessions},
	} {
		c, err := crowdIn(b.crowds, size.people, size.sessions, b.different)
		if err != nil {
			return err
		}
		row := &storedRow{Sessions: c.Sessions, crowd: c, dir: filepath.Join(b.dir, fmt.Sprintf("store-of-%d", c.Sessions)), Disk: float64(c.Disk) / (1 << 20)}
		if err := c.copyTo(row.dir); err != nil {
			return err
		}
		r.Rows = append(r.Rows, row)
	}
	return nil
}

// each does something with all stores, in any order.
func (r *stored) each(do func(*storedRow) error) error {
	for _, i := range rand.Perm(len(r.Rows)) {
		if err := do(r.Rows[i]); err != nil {
			return fmt.Errorf("with %d sessions: %w", r.Rows[i].Sessions, err)
		}
	}
	return nil
}

// openStores opens each store without a Caddy around it, again and again. The
// first time is not counted: it makes the empty one.
func (b *bench) openStores(r *stored) error {
	for i := range min(b.rounds, mostStarts) + 1 {
		err := r.each(func(row *storedRow) error {
			began := time.Now()
			store, err := openStore(row.dir)
			if err != nil {
				return err
			}
			if i > 0 {
				row.open = append(row.open, time.Since(began).Seconds())
			}
			return store.Close()
		})
		if err != nil {
			return fmt.Errorf("opening the store: %w", err)
		}
	}
	return nil
}

// startStores starts the Caddies again and again, and leaves the last ones running.
func (b *bench) startStores(r *stored) error {
	for i := range min(b.rounds, mostStarts) {
		err := r.each(func(row *storedRow) (err error) {
			if i > 0 {
				row.proxy.stop()
			}
			began := time.Now()
			if row.proxy, err = b.startGateOn(filepath.Base(row.dir), row.dir); err != nil {
				return err
			}
			err = row.first()
			row.start = append(row.start, time.Since(began).Seconds())
			return err
		})
		if err != nil {
			return fmt.Errorf("starting: %w", err)
		}
	}
	return nil
}

// first is the first to come: somebody signed in, if there is anybody.
func (row *storedRow) first() error {
	if row.crowd != nil {
		_, err := greet(row.proxy, row.crowd.Known[:1])
		return err
	}
	res, text, err := answered(http.DefaultTransport.RoundTrip(strangersRequest(row.proxy.address)))
	if err == nil && res.StatusCode != http.StatusFound {
		err = fmt.Errorf("a stranger was answered %s %.300s", res.Status, text)
	}
	return err
}

func strangersRequest(address string) *http.Request {
	r, err := http.NewRequest(http.MethodGet, "http://"+address+echoPath, nil)
	if err != nil {
		panic(err) // the address is ours
	}
	r.Header.Set("Accept", "text/html")
	return r
}

// weighStores weighs all a while after their start, and then has the visitors
// come, to plain Caddy, too, and weighs them again.
func (b *bench) weighStores(r *stored) error {
	plain, err := b.startStock()
	if err != nil {
		return err
	}
	defer plain.stop()
	time.Sleep(b.idle)
	r.Plain.Started = weightOf(plain)
	for _, row := range r.Rows {
		row.Started = weightOf(row.proxy.process)
	}
	if err := b.visitPlain(); err != nil {
		return err
	}
	r.Plain.Visited = weightOf(plain)
	return nil
}

// visitPlain asks plain Caddy as often as there are visitors.
func (b *bench) visitPlain() error {
	browser := new(http.Client)
	defer browser.CloseIdleConnections()
	for range b.different {
		if _, err := echoOf(browser, b.siteOf(b.ports.stock), "nobody's"); err != nil {
			return fmt.Errorf("asking plain Caddy: %w", err)
		}
	}
	return nil
}

func weightOf(p *process) weight {
	resident, anonymous := memory(p.cmd.Process.Pid)
	return weight{float64(resident) / (1 << 20), float64(anonymous) / (1 << 20)}
}

// visitStores has the visitors come to each store, and then again and again, in
// turns.
func (b *bench) visitStores(r *stored) error {
	var arms []*arm
	for _, row := range r.Rows {
		if row.crowd == nil {
			continue
		}
		visitors, err := greet(row.proxy, row.crowd.Known)
		if err != nil {
			return err
		}
		row.Visited = weightOf(row.proxy.process)
		a, err := b.keep(row.arm(), row.proxy, visitors)
		if err != nil {
			return err
		}
		arms = append(arms, a)
	}
	few, some, many := arms[0].name, arms[1].name, arms[2].name
	section, err := b.compareArms(fmt.Sprintf("%d visitors among very many", b.different), arms, []pair{{some, few, 1.02}, {many, few, 1.02}})
	if err != nil {
		return err
	}
	b.results.Sections = append(b.results.Sections, section)
	return nil
}

func (row *storedRow) arm() string {
	return fmt.Sprintf("gate, %d sessions in the store", row.Sessions)
}

// leave removes the copies, once nobody serves them any more, and counts together.
func (r *stored) leave() (err error) {
	for _, row := range r.Rows {
		row.proxy.stop()
		row.Open, row.Start = spreadOf(row.open), spreadOf(row.start)
		err = errors.Join(err, os.RemoveAll(row.dir))
	}
	return err
}

// Most that very many sessions may take: seconds to open the store, and MB
// resident above plain Caddy after the same requests.
const (
	mostOpening  = 2
	mostResident = 150
)

func (r *results) judgeStored() {
	if r.Stored == nil {
		return
	}
	many := r.Stored.Rows[len(r.Stored.Rows)-1]
	r.target(fmt.Sprintf("opening a store with %d sessions, s", many.Sessions), mostOpening, many.Open)
	r.target(fmt.Sprintf("memory above plain Caddy with %d sessions, %d of them at hand, MB", many.Sessions, r.Stored.Visitors), mostResident,
		exactly(many.Visited.Resident-r.Stored.Plain.Visited.Resident))
}

func (r *results) printStored(w io.Writer) {
	s := r.Stored
	if s == nil {
		return
	}
	fmt.Fprintf(w, "\nSESSIONS IN THE STORE, %d visitors\tMB on disk\topening it, s\tto the first answer, s\tMB resident\tof it no file's\tonce all came\tof it no file's\n", s.Visitors)
	fmt.Fprintf(w, "  plain Caddy\t\t\t\t%s\t\n", s.Plain)
	for _, row := range s.Rows {
		fmt.Fprintf(w, "  %d\t%.0f\t%s\t%s\t%s\t\n", row.Sessions, row.Disk, row.Open, row.Start, row.holdings)
	}
}

func (h holdings) String() string {
	s := fmt.Sprintf("%.1f\t%.1f", h.Started.Resident, h.Started.Anonymous)
	if h.Visited == (weight{}) {
		return s + "\t-\t-"
	}
	return s + fmt.Sprintf("\t%.1f\t%.1f", h.Visited.Resident, h.Visited.Anonymous)
}
