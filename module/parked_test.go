package module

import (
	"fmt"
	"net/url"
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
