package main

import (
	"cmp"
	"fmt"
)

// streaming is what an arm does with streams.
type streaming int

const (
	noStreams streaming = iota
	// talking: streams are open before the turn begins, and closed after its end;
	// in it messages go there and back.
	talking
	// opening: streams are opened in it, and closed after one message.
	opening
)

// path is the load generator's part of a turn.
func (s streaming) path() string {
	return [...]string{noStreams: "/run", talking: "/talk", opening: "/reopen"}[s]
}

// The arms' names, as they are reported.
const (
	armMessagePlain = "a message, plain reverse_proxy"
	armMessageGate  = "a message, gate"
	armOpeningPlain = "a stream opened, one message, closed, plain reverse_proxy"
	armOpeningGate  = "a stream opened, one message, closed, gate"
)

var streamPairs = []pair{{of: armMessageGate, to: armMessagePlain}, {of: armOpeningGate, to: armOpeningPlain}}

// open opens the streams that talk in a turn, which is no part of it.
func (b *bench) open(a *arm) error {
	if a.streams != talking {
		return nil
	}
	return b.load.ask("/open", a.order, nil)
}

func (b *bench) close(a *arm) error {
	if a.streams != talking {
		return nil
	}
	return b.load.ask("/close", struct{}{}, nil)
}

// opened is how many streams the app must have seen.
func (a *arm) opened(out outcome) int64 {
	switch a.streams {
	case talking:
		return int64(len(a.order.Requests))
	case opening:
		return out.Answers
	default:
		return 0
	}
}

// measureStreams has WebSockets talk to the app, through the gate and through
// plain Caddy.
func (b *bench) measureStreams() error {
	defer b.stop()
	if err := cmp.Or(b.startOthers(mask{}), b.startPlain(mask{}), b.startGate(mask{}), b.signInAll()); err != nil {
		return err
	}
	section, err := b.compareArms(fmt.Sprintf("WebSockets, %d open at once", b.conns), b.streamArms(), streamPairs)
	if err != nil {
		return err
	}
	b.results.Sections = append(b.results.Sections, section)
	return nil
}

func (b *bench) streamArms() []*arm {
	told := b.told()
	return []*arm{
		{name: armMessagePlain, proxy: b.plain, order: b.streamsAt(b.plain.address), forwards: true, streams: talking},
		{name: armMessageGate, proxy: b.gate, order: b.streamsAt(b.gate.address), forwards: true, expect: told, streams: talking},
		{name: armOpeningPlain, proxy: b.plain, order: b.streamsAt(b.plain.address), forwards: true, streams: opening},
		{name: armOpeningGate, proxy: b.gate, order: b.streamsAt(b.gate.address), forwards: true, expect: told, streams: opening},
	}
}

// streamsAt is one stream of each visitor.
func (b *bench) streamsAt(address string) order {
	o := order{Address: address, Status: "HTTP/1.1 101 ", Duration: b.length()}
	for i, v := range b.visitors {
		o.Requests = append(o.Requests, fmt.Appendf(nil, handshake, streamPathOf(i), address, theme+"; login="+v.cookie))
	}
	return o
}
