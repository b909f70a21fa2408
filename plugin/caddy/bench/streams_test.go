package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// Streams are counted apart from what goes through them, and all of that must
// have come to the app.
func TestStreamsCountOnlyWhatTheAppSaw(t *testing.T) {
	for name, c := range map[string]struct {
		streams streaming
		at      seen
		right   bool
	}{
		"all messages":               {talking, seen{Requests: 10, Opened: 2}, true},
		"a message short":            {talking, seen{Requests: 9, Opened: 2}, false},
		"a stream opened again":      {talking, seen{Requests: 10, Opened: 3}, false},
		"all streams":                {opening, seen{Requests: 10, Opened: 10}, true},
		"streams that were not new":  {opening, seen{Requests: 10, Opened: 2}, false},
		"a request that is a stream": {noStreams, seen{Requests: 10, Opened: 2}, false},
	} {
		a := &arm{forwards: true, streams: c.streams, order: order{Requests: make([][]byte, 2)}}
		if fault := a.fault(outcome{Answers: 10}, c.at); (fault == "") != c.right {
			t.Errorf("%s: %q", name, fault)
		}
	}
}

func TestMessagesGoThereAndBack(t *testing.T) {
	a := newApp()
	if _, err := a.begin(expectation{}); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(a)
	defer server.Close()
	o := streamsTo(server)
	g := new(generator)
	if _, err := g.open(o); err != nil {
		t.Fatal(err)
	}
	said, err := g.talk(o)
	if err != nil || said.Answers == 0 || said.Wrong != 0 {
		t.Fatalf("%+v, %v", said, err)
	}
	if _, err := g.close(struct{}{}); err != nil {
		t.Fatal(err)
	}
	at, _ := a.end(struct{}{})
	if at.Requests != said.Answers || at.Opened != 2 {
		t.Errorf("%d messages by two streams: the app saw %+v", said.Answers, at)
	}
	reopened, err := g.reopen(o)
	after, _ := a.end(struct{}{})
	if err != nil || reopened.Wrong != 0 || after.Opened-at.Opened != reopened.Answers || after.Requests-at.Requests != reopened.Answers {
		t.Errorf("%+v, %v: the app saw %+v and then %+v", reopened, err, at, after)
	}
}

func TestGeneratorNoticesWrongEchoes(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		stream, err := new(websocket.Upgrader).Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer stream.Close()
		_, text, err := stream.ReadMessage()
		if err == nil {
			_ = stream.WriteMessage(websocket.TextMessage, bytes.ToUpper(text))
		}
	}))
	defer server.Close()
	out, err := new(generator).reopen(streamsTo(server))
	if err != nil || out.Wrong == 0 {
		t.Errorf("%+v, %v", out, err)
	}
	server.Config.Handler = http.NotFoundHandler()
	if _, err := new(generator).open(streamsTo(server)); err == nil {
		t.Error("what is no stream was taken for one")
	}
}

// streamsTo are two.
func streamsTo(server *httptest.Server) order {
	address := server.Listener.Addr().String()
	b := &bench{settings: settings{seconds: 0.05}, visitors: make([]visitor, 2)}
	o := b.streamsAt(address)
	o.Duration = 50 * time.Millisecond
	return o
}
