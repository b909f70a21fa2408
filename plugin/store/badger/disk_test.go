package badger

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddy-login/caddy-login/module/guest"
)

func TestFullDiskRefusesUpdatesAndReadsOn(t *testing.T) {
	var free atomic.Int64
	free.Store(1 << 40)
	s, err := open(t.TempDir(), quiet(), func(string) (int64, error) { return free.Load(), nil })
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.(*store).set("a", "1"); err != nil {
		t.Fatal(err)
	}
	free.Store(reserveBase - 1)
	ran := false
	err = s.Update(context.Background(), func(guest.Tx) error { ran = true; return nil })
	if !errors.Is(err, guest.ErrFull) || ran || !strings.Contains(err.Error(), s.(*store).dir) {
		t.Errorf("Update on a full disk returned %v (ran: %v), want ErrFull, the directory and no run", err, ran)
	}
	if value, err := s.(*store).value("a"); value != "1" {
		t.Errorf("View on a full disk reads %q (error: %v)", value, err)
	}
	free.Store(1 << 40)
	if err := s.(*store).set("a", "2"); err != nil {
		t.Errorf("Update once there is room again: %v", err)
	}
}

// What a flush or compaction may rewrite is the store itself, as it was when
// the newest log began.
func TestReserveGrowsWithTheStore(t *testing.T) {
	s := tempStore(t)
	empty := s.disk.reserve
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = filled(t, s.dir, 100_000) // 24 MB
	defer s.Close()
	if s.disk.reserve < empty+(12<<20) {
		t.Errorf("reserve grew from %d to %d with 24 MB of records", empty, s.disk.reserve)
	}
	if s.disk.reserve > reserveBase+reserveMost {
		t.Errorf("reserve is %d, more than its bound", s.disk.reserve)
	}
}

func TestFullDiskIsToldAtOpening(t *testing.T) {
	_, err := open(t.TempDir(), quiet(), func(string) (int64, error) { return 1 << 20, nil })
	if !errors.Is(err, guest.ErrFull) {
		t.Errorf("opening on a full disk: %v, want ErrFull", err)
	}
}

func TestUnknownSpaceRefusesUpdates(t *testing.T) {
	s := tempStore(t)
	lost := errors.New("stale handle")
	s.disk.free = func(string) (int64, error) { return 0, lost }
	if err := s.set("a", "1"); !errors.Is(err, lost) {
		t.Errorf("Update returned %v, want the file system's error", err)
	}
}
