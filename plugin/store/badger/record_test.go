package badger

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time      { return time.Unix(0, c.at.Load()) }
func (c *clock) set(at time.Time)    { c.at.Store(at.UnixNano()) }
func (c *clock) add(d time.Duration) { c.at.Add(int64(d)) }

// Whatever the house's clock says, a record lives from its Put for as long as
// that clock has not passed its time, and not a read longer.
func TestExpiryFollowsTheHousesClock(t *testing.T) {
	for _, year := range []int{1970, 2001, time.Now().Year(), 2038, 2100} {
		c := &clock{}
		c.set(time.Date(year, 1, 19, 3, 14, 7, 999_600_000, time.UTC))
		env := quiet()
		env.Now = c.now
		dir := t.TempDir()
		s := openWith(t, dir, env)
		expires := c.now().Add(10 * time.Minute)
		err := s.Update(context.Background(), func(tx guest.Tx) error { return tx.Put([]byte("a"), []byte("1"), expires) })
		if err := errors.Join(err, s.Close()); err != nil {
			t.Fatal(err)
		}
		s = openWith(t, dir, env)
		defer s.Close()
		c.add(10*time.Minute - time.Nanosecond)
		if _, err := s.value("a"); err != nil {
			t.Errorf("in %d a record is gone before its time: %v", year, err)
		}
		c.add(2 * time.Millisecond)
		if _, err := s.value("a"); !errors.Is(err, guest.ErrNotFound) {
			t.Errorf("in %d a record outlives its time: %v", year, err)
		}
		c.add(-24 * time.Hour)
		if _, err := s.value("a"); err != nil {
			t.Errorf("in %d a clock that was put right does not bring the record back: %v", year, err)
		}
	}
}

func TestExpiredRecordsAreNotScanned(t *testing.T) {
	c := &clock{}
	c.set(time.Now())
	env := quiet()
	env.Now = c.now
	s := openWith(t, t.TempDir(), env)
	defer s.Close()
	scan := func(tx guest.Tx) (shown string) {
		if err := tx.Scan(nil, nil, 1, func(key, _ []byte) bool { shown += string(key); return true }); err != nil {
			t.Error(err)
		}
		return shown
	}
	err := s.Update(context.Background(), func(tx guest.Tx) error {
		err := errors.Join(
			tx.Put([]byte("a"), nil, c.now().Add(-time.Hour)),
			tx.Put([]byte("b"), nil, c.now().Add(time.Minute)),
			tx.Put([]byte("c"), nil, time.Time{}))
		if got := scan(tx); got != "b" {
			t.Errorf("a Scan for one key shows %q, want b", got)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	c.add(time.Minute + time.Second)
	_ = s.View(context.Background(), func(tx guest.Tx) error {
		if got := scan(tx); got != "c" {
			t.Errorf("a Scan for one key shows %q, want c", got)
		}
		return nil
	})
}

func TestDiskForgetsLateButForgets(t *testing.T) {
	now := time.Now()
	for _, left := range []time.Duration{-1000 * time.Hour, 0, time.Millisecond, time.Hour, 1000 * time.Hour} {
		got := forget(encode(nil, now.Add(left)), now)
		soonest := time.Now().Add(max(left, 0) + grace).Unix()
		if int64(got) < soonest || int64(got) > soonest+3 {
			t.Errorf("a record with %s left is forgotten %d s after the soonest right moment", left, int64(got)-soonest)
		}
	}
	if got := forget(encode(nil, time.Time{}), now); got != 0 {
		t.Errorf("a record without end is forgotten at %d", got)
	}
}

func TestDamagedRecordIsAnError(t *testing.T) {
	if _, _, err := decode(bytes.Repeat([]byte{0xff}, 12), time.Now()); !errors.Is(err, errDamaged) {
		t.Errorf("decoding damage: %v", err)
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte("value"), int64(0))
	f.Add([]byte{}, int64(-1))
	f.Add([]byte{0xff}, int64(1<<40))
	f.Fuzz(func(t *testing.T, value []byte, ms int64) {
		expires := time.UnixMilli(ms % (1 << 50))
		got, live, err := decode(encode(value, expires), expires.Add(-time.Millisecond))
		if err != nil || !bytes.Equal(got, value) {
			t.Fatalf("decoded %q (error: %v), want %q", got, err, value)
		}
		if !live {
			t.Fatal("a record ended before its time")
		}
		_, _, _ = decode(value, expires) // any bytes: an error or a value, no panic
	})
}
