package main_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// recovery is how soon people can sign in again once there is room.
const recovery = 30 * time.Second

// The disk is filled to its end by another while people sign in and out: who is
// signed in is served, nothing is answered as done that is not, and once there
// is room all goes on, in the same process.
//
// The short form writes less than one log, so that no table is being written
// when the disk ends. In the long form one may be, and then Badger's memory map
// ends the process (see disk in plugin/store/badger): that fails the gate, and
// what was answered must hold all the same.
func TestFullDiskIsSurvived(t *testing.T) {
	disk := mountDisk(t, t.TempDir())
	s := besiege(t, unrecorded(t, besiegedAt(filepath.Join(disk, "login"))))
	f := &flooded{siege: s, l: newLedger(), bystander: s.mustEnter(t, "grace"), ballast: filepath.Join(disk, "ballast")}
	fillings := rounds(3, 100)
	figures(t, "%d times full, %d answers, %d sessions alive and %d ended, recovered within %s, died %d times", func() []any {
		return []any{fillings, f.l.n, len(f.l.in), len(f.l.out), f.longest.Round(time.Millisecond), f.deaths}
	})
	for round := range fillings {
		f.fill(t)
		f.recover(t)
		s.compare(t, f.l, f.l.some(), round)
	}
	s.compare(t, f.l, f.l.all(), fillings)
	if f.deaths > 0 {
		t.Errorf("the process died %d times", f.deaths)
	}
}

// flooded is a siege on a disk that another fills.
type flooded struct {
	*siege
	l         *ledger
	bystander *e2e.Visitor
	ballast   string
	longest   time.Duration // to recover
	deaths    int
}

// fill fills the disk under load, looks at what is so then, and makes room.
func (f *flooded) fill(t *testing.T) {
	t.Helper()
	var all sync.WaitGroup
	until := f.l.size() + 30
	for n := range 12 {
		v := visitorFrom(t, 2+n)
		all.Go(func() { f.live(v, f.l) })
	}
	e2e.Eventually(t, time.Minute, "sign-ins", func() bool { return f.l.size() >= until })
	// Writing ends where the disk does.
	_ = os.WriteFile(f.ballast, make([]byte, 128*mega), 0o600)
	all.Wait()
	if f.isUp() {
		f.serves(t)
	}
	if err := os.Remove(f.ballast); err != nil {
		t.Fatal(err)
	}
}

// serves checks that who is signed in is served on a full disk, and nobody else
// let in.
func (f *flooded) serves(t *testing.T) {
	t.Helper()
	for range 20 {
		got, err := f.bystander.Try(f.bystander.Navigation(f.site + "/in"))
		if err != nil && !f.isUp() {
			return // counted by who looks next
		}
		if err != nil || got.StatusCode != http.StatusOK {
			t.Errorf("on a full disk who is signed in is answered %d (error: %v)", got2(got, err).StatusCode, err)
		}
	}
	v := visitorFrom(t, 30)
	c, err := f.come(v, "op", "ada")
	if err == nil {
		var got e2e.Answer
		if got, err = v.Try(v.Navigation(c.callback)); err == nil && (got.StatusCode != http.StatusServiceUnavailable || session(got) != "") {
			t.Errorf("on a full disk a sign-in is answered %d", got.StatusCode)
		}
	}
	if err != nil && f.isUp() {
		t.Error(err)
	}
}

// recover waits until somebody can sign in, in the same process if it lives.
func (f *flooded) recover(t *testing.T) {
	t.Helper()
	if !f.isUp() {
		f.deaths++
		f.Kill() // what is left of it
		f.Restart()
	}
	begun := time.Now()
	e2e.Eventually(t, recovery, fmt.Sprintf("a sign-in within %s", recovery), func() bool {
		_, err := f.enter(visitorFrom(t, 31), "mallory")
		return err == nil
	})
	f.longest = max(f.longest, time.Since(begun))
	mustBe(t, f.bystander.Get(f.site+"/in"), http.StatusOK)
}

// isUp reports whether the process lives.
func (s *stage) isUp() bool {
	answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/config/admin", s.AdminPort))
	if err != nil {
		return false
	}
	return answer.Body.Close() == nil
}
