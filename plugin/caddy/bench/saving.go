package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// saving is what a backup and a restore of everybody take, and what people who
// come meanwhile notice of it.
type saving struct {
	// Bytes is how long the backup is.
	Bytes int64 `json:"bytes"`
	// Backup and Restore are how long they take, BackupFew and RestoreFew where
	// there are few. Seconds.
	Backup     spread  `json:"backup_seconds"`
	BackupFew  float64 `json:"backup_of_few_seconds"`
	Restore    float64 `json:"restore_seconds"`
	RestoreFew float64 `json:"restore_of_few_seconds"`

	// Quiet and Beside are sign-ins a second of those who come back, without a
	// backup and beside one; Ratio is within rounds. LongestQuiet and
	// LongestBeside are the longest that one of them waited, in milliseconds.
	Quiet         spread  `json:"sign_ins_per_second_without"`
	Beside        spread  `json:"sign_ins_per_second_beside"`
	Ratio         spread  `json:"sign_ins_beside_to_without"`
	LongestQuiet  float64 `json:"longest_sign_in_without_ms"`
	LongestBeside float64 `json:"longest_sign_in_beside_ms"`

	// The longest that anybody waited while all was restored, in milliseconds:
	// for a user to be looked up, for a page with a session at hand, and for
	// letting them in; and how many had to begin again to sign in.
	LongestLookup  float64 `json:"longest_lookup_while_restoring_ms"`
	LongestRequest float64 `json:"longest_request_while_restoring_ms"`
	LongestSignIn  float64 `json:"longest_sign_in_while_restoring_ms"`
	Again          int64   `json:"sign_ins_begun_again"`
}

// rush is how people fare who come meanwhile.
type rush struct {
	done    atomic.Int64
	failed  atomic.Int64
	longest atomic.Int64 // nanoseconds
	first   atomic.Pointer[error]
	took    time.Duration
}

func (r *rush) perSecond() float64 { return float64(r.done.Load()) / r.took.Seconds() }

func (r *rush) longestWait() float64 { return milliseconds(time.Duration(r.longest.Load())) }

// err is how the first one failed.
func (r *rush) err() error {
	if first := r.first.Load(); first != nil {
		return *first
	}
	return nil
}

// until has this many come again and again until the other thing is done, and at
// least once.
func (r *rush) until(atOnce int, come func() (time.Duration, error), other func() error) error {
	var all sync.WaitGroup
	var over atomic.Bool
	began := time.Now()
	for range atOnce {
		all.Go(func() {
			for more := true; more; more = !over.Load() {
				r.note(come())
			}
		})
	}
	err := other()
	over.Store(true)
	all.Wait()
	r.took = time.Since(began)
	return err
}

func (r *rush) note(waited time.Duration, err error) {
	if err != nil {
		r.failed.Add(1)
		r.first.CompareAndSwap(nil, &err)
		return
	}
	r.done.Add(1)
	for longest := r.longest.Load(); int64(waited) > longest; longest = r.longest.Load() {
		if r.longest.CompareAndSwap(longest, int64(waited)) {
			return
		}
	}
}

// savings is how often all is saved.
const savings = 3

// save measures backups, and in the end restores the last one.
func (b *bench) save(many, few *town) (*saving, error) {
	s := new(saving)
	file := filepath.Join(b.dir, "everybody.backup")
	if err := b.backUp(s, many, file); err != nil {
		return nil, fmt.Errorf("backing up: %w", err)
	}
	if err := b.putBack(s, many, file); err != nil {
		return nil, fmt.Errorf("restoring: %w", err)
	}
	if err := s.ofFew(few, filepath.Join(b.dir, "few.backup")); err != nil {
		return nil, fmt.Errorf("with few people: %w", err)
	}
	return s, os.Remove(file)
}

// backUp has people sign in by themselves and beside a backup, in turns.
func (b *bench) backUp(s *saving, t *town, file string) error {
	var took, quiet, beside []float64
	for range min(b.rounds, savings) {
		var calm, busy rush
		pause := func() error { time.Sleep(4 * b.length()); return nil }
		if err := cmp.Or(calm.until(askers, t.signInOnce, pause), calm.err()); err != nil {
			return err
		}
		saved := func() error {
			began := time.Now()
			n, err := t.download(file)
			s.Bytes, took = n, append(took, time.Since(began).Seconds())
			return err
		}
		if err := cmp.Or(busy.until(askers, t.signInOnce, saved), busy.err()); err != nil {
			return err
		}
		quiet, beside = append(quiet, calm.perSecond()), append(beside, busy.perSecond())
		s.LongestQuiet, s.LongestBeside = max(s.LongestQuiet, calm.longestWait()), max(s.LongestBeside, busy.longestWait())
	}
	s.Backup, s.Quiet, s.Beside, s.Ratio = spreadOf(took), spreadOf(quiet), spreadOf(beside), ratios(beside, quiet)
	return nil
}

// download writes a backup to a file.
func (t *town) download(file string) (n int64, err error) {
	res, err := t.operator.Get("http://" + t.admin + "/login/backup")
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return 0, errors.New("the backup was answered " + res.Status)
	}
	out, err := os.Create(file)
	if err != nil {
		return 0, fmt.Errorf("writing backup: %w", err)
	}
	n, err = io.Copy(out, res.Body)
	return n, errors.Join(err, out.Close())
}

// upload restores a backup.
func (t *town) upload(file string) error {
	in, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("reading backup: %w", err)
	}
	defer in.Close()
	res, err := t.operator.Post("http://"+t.admin+"/login/restore", "application/octet-stream", in)
	if err != nil {
		return err
	}
	text, err := readAll(res)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("the restore was answered %s: %.500s", res.Status, text)
	}
	return err
}

// putBack restores everybody while people come, and then looks whether they are
// there, and out.
func (b *bench) putBack(s *saving, t *town, file string) error {
	inside, err := t.visitors(t.usual, 1)
	if err != nil {
		return err
	}
	if err := inside[0].land(); err != nil {
		return err
	}
	var lookups, requests, signIns rush
	restore := func() error {
		began := time.Now()
		err := t.upload(file)
		s.Restore = time.Since(began).Seconds()
		return err
	}
	atDoor := func() error { return signIns.until(1, t.signInOnce, restore) }
	within := func() error { return requests.until(1, inside[0].returns, atDoor) }
	if err := cmp.Or(lookups.until(1, t.lookUpOnce, within), lookups.err(), requests.err()); err != nil {
		return err
	}
	s.LongestLookup, s.LongestRequest, s.LongestSignIn = lookups.longestWait(), requests.longestWait(), signIns.longestWait()
	s.Again = signIns.failed.Load()
	return cmp.Or(inside[0].isOut(), t.areAllThere())
}

// returns asks for a page: inside, or to be told to sign in.
func (c *caller) returns() (time.Duration, error) {
	began := time.Now()
	res, text, err := c.send(http.MethodGet, "http://"+c.site.address+echoPath, nil)
	if err == nil && res.StatusCode != http.StatusOK && res.StatusCode != http.StatusFound {
		err = fmt.Errorf("%s answered %s %.300s", echoPath, res.Status, text)
	}
	return time.Since(began), err
}

// lookUpOnce asks for the next of those known.
func (t *town) lookUpOnce() (time.Duration, error) {
	byID, a := &lookups[0], t.ask(1)[0]
	began := time.Now()
	f, err := byID.fromOutside(t, a)
	if err == nil && !byID.right(a, f) {
		err = fmt.Errorf("of %s was found %.200q", a.Subject, f.names)
	}
	return time.Since(began), err
}

// areAllThere asks for everybody known, and has one of them come back.
func (t *town) areAllThere() error {
	for range t.Known {
		if _, err := t.lookUpOnce(); err != nil {
			return err
		}
	}
	_, err := t.signInOnce()
	return err
}

// ofFew is the same where there are few.
func (s *saving) ofFew(t *town, file string) error {
	began := time.Now()
	if _, err := t.download(file); err != nil {
		return err
	}
	s.BackupFew, began = time.Since(began).Seconds(), time.Now()
	if err := t.upload(file); err != nil {
		return err
	}
	s.RestoreFew = time.Since(began).Seconds()
	return t.areAllThere()
}
