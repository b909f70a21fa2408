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
