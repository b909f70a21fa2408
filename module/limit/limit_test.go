package limit_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/limit"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func TestBurstThenOneAtATime(t *testing.T) {
	l := limit.Limit{Burst: 3, Every: time.Second}
	for i := range 3 {
		if !l.Allow("192.0.2.1", noon) {
			t.Fatalf("try %d is refused", i)
		}
	}
	if l.Allow("192.0.2.1", noon) {
		t.Error("a fourth is let through")
	}
	if !l.Allow("192.0.2.1", noon.Add(time.Second)) || l.Allow("192.0.2.1", noon.Add(time.Second)) {
		t.Error("a second gives not exactly one more")
	}
	if !l.Allow("192.0.2.2", noon) {
		t.Error("another network pays for it")
	}
}

func TestSpentSaysSoAndCountsNothing(t *testing.T) {
	l := limit.Limit{Burst: 1, Every: time.Second}
	for range 3 {
		if l.Spent("192.0.2.1", noon) || l.SpentKey("an account of sixteen", noon) {
			t.Fatal("asking has counted")
		}
	}
	if !l.Allow("192.0.2.1", noon) || !l.AllowKey("an account of sixteen", noon) {
		t.Fatal("the first is refused")
	}
	if !l.Spent("192.0.2.1", noon) || !l.SpentKey("an account of sixteen", noon) || l.SpentKey("another account of more", noon) {
		t.Error("what is spent is not told, or told of another")
	}
	if l.Spent("192.0.2.1", noon.Add(time.Second)) {
		t.Error("still spent where one more is let through")
	}
}

func TestNetworkIsWhatOneCustomerHas(t *testing.T) {
	same := [][2]string{
		{"192.0.2.1", "192.0.2.1:443"}, {"192.0.2.1", "::ffff:192.0.2.1"},
		{"2001:db8::1", "2001:db8::ffff:ffff"}, {"2001:db8::1%eth0", "[2001:db8::2]:80"},
	}
	for _, pair := range same {
		if limit.Network(pair[0]) != limit.Network(pair[1]) {
			t.Errorf("%s and %s are two networks", pair[0], pair[1])
		}
	}
	if limit.Network("192.0.2.1") == limit.Network("192.0.2.2") || limit.Network("2001:db8::1") == limit.Network("2001:db8:0:1::1") {
		t.Error("two networks are one")
	}
}

func TestFloodOfNetworksStaysBounded(t *testing.T) {
	l := limit.Limit{Burst: 1, Every: time.Hour}
	for i := range 200_000 {
		l.Allow(fmt.Sprintf("10.%d.%d.%d", i>>16&255, i>>8&255, i&255), noon)
	}
	if n := l.Len(); n > 1<<16 {
		t.Errorf("%d networks are kept", n)
	}
	if !l.Allow("192.0.2.1", noon) {
		t.Error("a newcomer is refused")
	}
}

// A clock that is set back must not shut everybody out until it is that late
// again.
func TestClockSetBackShutsNobodyOut(t *testing.T) {
	l := limit.Limit{Burst: 3, Every: time.Second}
	for range 3 {
		l.Allow("192.0.2.1", noon)
	}
	for _, back := range []time.Duration{10 * time.Minute, 24 * time.Hour, 50 * 365 * 24 * time.Hour} {
		if !l.Allow("192.0.2.1", noon.Add(-back)) {
			t.Errorf("shut out after the clock went back by %s", back)
		}
	}
}

// Nor may one that is set back by less than a burst takes to come back: whoever
// had something left has it still.
func TestClockSetBackByAnythingTakesNothingAway(t *testing.T) {
	for burst, every := range map[int]time.Duration{1: time.Minute, 10: time.Minute, 1000: time.Second / 2} {
		for back := time.Second; back <= time.Hour; back += 7 * time.Second {
			l := limit.Limit{Burst: burst, Every: every}
			for range burst - 1 {
				l.Allow("192.0.2.1", noon)
			}
			if now := noon.Add(-back); l.Spent("192.0.2.1", now) || !l.Allow("192.0.2.1", now) || !l.Allow("192.0.2.2", now) {
				t.Fatalf("a burst of %d, one every %s: shut out after the clock went back by %s", burst, every, back)
			}
		}
	}
}

// A clock that runs ahead for a while and is put right leaves no trace.
func TestClockThatRanAheadShutsNobodyOut(t *testing.T) {
	for _, ahead := range []time.Duration{2 * time.Minute, 10 * time.Minute, 24 * time.Hour, 50 * 365 * 24 * time.Hour} {
		l := limit.Limit{Burst: 10, Every: time.Minute}
		for range 11 {
			l.Allow("192.0.2.1", noon.Add(ahead))
		}
		if !l.Allow("192.0.2.1", noon) {
			t.Errorf("shut out after the clock was ahead by %s", ahead)
		}
	}
}

// Requests are not counted in the order in which they looked at the clock. Who
// has many under way must not have more for it.
func TestRequestsThatOvertakeEachOtherGainNothing(t *testing.T) {
	for _, apart := range []time.Duration{time.Millisecond, time.Second, 59 * time.Second} {
		l, allowed := limit.Limit{Burst: 10, Every: time.Minute}, 0
		const tries = 20_000
		for i := range tries {
			now := noon.Add(time.Duration(i) * time.Hour / tries)
			for _, now := range []time.Time{now, now.Add(-apart)} {
				if l.Allow("192.0.2.1", now) {
					allowed++
				}
			}
		}
		if allowed < 60 || allowed > 10+60 {
			t.Errorf("%s apart: %d tries in an hour", apart, allowed)
		}
	}
}
