package module

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestParkedAnswerIsTakenOnceInAMinute(t *testing.T) {
	var p parked
	now := time.Now()
	answer := url.Values{"code": {"x"}}
	handle := p.park("apple", answer, now)
	if _, found := p.take("google", handle, now); found {
		t.Error("another provider takes it")
	}
	handle = p.park("apple", answer, now)
	if got, found := p.take("apple", handle, now.Add(time.Minute)); !found || got.Get("code") != "x" {
		t.Error("it is gone within the minute")
	}
	if _, found := p.take("apple", handle, now); found {
		t.Error("it is taken twice")
	}
	handle = p.park("apple", answer, now)
	if _, found := p.take("apple", handle, now.Add(time.Minute+1)); found {
		t.Error("it is there after a minute")
	}
	if _, found := p.take("apple", "", now); found {
		t.Error("no handle finds something")
	}
}

func TestFloodOfAnswersStaysBounded(t *testing.T) {
	var p parked
	now := time.Now()
	var last string
	for i := range 3 * maxParked {
		last = p.park("apple", url.Values{"state": {fmt.Sprint(i)}}, now)
	}
	if len(p.byKey) > maxParked || len(p.order) > maxParked {
		t.Errorf("%d answers, %d handles", len(p.byKey), len(p.order))
	}
	if _, found := p.take("apple", last, now); !found {
		t.Error("the newest was dropped")
	}
	p.park("apple", nil, now.Add(time.Hour))
	if len(p.byKey) != 1 || len(p.order) != 1 {
		t.Errorf("after an hour %d answers, %d handles", len(p.byKey), len(p.order))
	}
}

// Few answers of many bytes are as bounded as many of a few.
func TestFloodOfLongAnswersStaysBounded(t *testing.T) {
	var p parked
	now := time.Now()
	long := url.Values{"state": {"x"}, "id_token": {strings.Repeat("x", maxAnswer-20)}}
	var handles []string
	for range 3 * maxParked {
		handles = append(handles, p.park("apple", long, now))
		if p.held > maxHeld || p.held != len(p.byKey)*sizeOf(long) {
			t.Fatalf("%d answers hold %d bytes", len(p.byKey), p.held)
		}
	}
	kept := len(p.byKey)
	if kept < maxHeld/maxAnswer {
		t.Errorf("only %d are kept", kept)
	}
	for i, handle := range handles {
		if _, found := p.take("apple", handle, now); found != (i >= len(handles)-kept) {
			t.Fatalf("number %d of %d is found: %t", i, len(handles), found)
		}
	}
	if p.held != 0 {
		t.Errorf("once all are taken, %d bytes are held", p.held)
	}
}
