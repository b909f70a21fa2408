package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// order is what the load generator is to do: one connection for each of the
// requests, and each sends its own again and again.
type order struct {
	Address  string
	Requests [][]byte
	// Kept names requests that the generator was given before, in place of these,
	// and Conns is how many connections share them: each sends its part of them,
	// one after the other. Where there are fewer, several send the same.
	Kept     string
	Conns    int
	Duration time.Duration
	// Status and Length are those of a right answer, and Head is a piece of it.
	Status, Head string
	Length       int
}

// outcome is what came of it.
type outcome struct {
	Answers, Wrong int64
	First          string // what was wrong first
	Took           time.Duration
	P50, P99       time.Duration
}

func loadControl() http.Handler {
	g := &generator{kept: make(map[string][][]byte)}
	mux := http.NewServeMux()
	mux.HandleFunc("/run", answers(g.run))
	mux.HandleFunc("/keep", answers(g.keep))
	mux.HandleFunc("/open", answers(g.open))
	mux.HandleFunc("/talk", answers(g.talk))
	mux.HandleFunc("/close", answers(g.close))
	mux.HandleFunc("/reopen", answers(g.reopen))
	return mux
}

// generator is what the load generator holds from one order to the next. It has
// one order at a time.
type generator struct {
	kept    map[string][][]byte
	streams []*client // that are open
}

// requests are to be kept for orders, by a name.
type requests struct {
	Name     string
	Requests [][]byte
}

func (g *generator) keep(r requests) (bool, error) {
	g.kept[r.Name] = r.Requests
	return true, nil
}

// of is what each connection of an order is to send.
func (g *generator) of(o *order) ([][][]byte, error) {
	all, conns := o.Requests, len(o.Requests)
	if o.Kept != "" {
		all, conns = g.kept[o.Kept], o.Conns
	}
	if conns < 1 || len(all) == 0 {
		return nil, fmt.Errorf("%d requests for %d connections", len(all), conns)
	}
	parts := make([][][]byte, conns)
	for i := range max(conns, len(all)) {
		parts[i%conns] = append(parts[i%conns], all[i%len(all)])
	}
	return parts, nil
}

// connect opens the connections of an order.
func (g *generator) connect(o *order) (clients []*client, err error) {
	parts, err := g.of(o)
	if err != nil {
		return nil, err
	}
	for _, part := range parts {
		conn, err := net.Dial("tcp", o.Address)
		if err != nil {
			disconnect(clients)
			return nil, fmt.Errorf("connecting: %w", err)
		}
		clients = append(clients, &client{order: o, requests: part, conn: conn, in: bufio.NewReaderSize(conn, 16<<10)})
	}
	return clients, nil
}

func disconnect(clients []*client) {
	for _, c := range clients {
		c.conn.Close()
	}
}

// run carries out an order. It returns once every request that was sent has
// been answered.
func (g *generator) run(o order) (outcome, error) {
	clients, err := g.connect(&o)
	if err != nil {
		return outcome{}, err
	}
	defer disconnect(clients)
	return atWork(clients, o.Duration, (*client).ask), nil
}

// atWork has all clients do one thing again and again.
func atWork(clients []*client, length time.Duration, do func(*client) error) outcome {
	var all sync.WaitGroup
	began := time.Now()
	for _, c := range clients {
		all.Go(func() { c.work(began.Add(length), do) })
	}
	all.Wait()
	return sum(clients, time.Since(began))
}

func sum(clients []*client, took time.Duration) outcome {
	result := outcome{Took: took}
	var all []time.Duration
	for _, c := range clients {
		all = append(all, c.latencies...)
		result.Wrong += c.wrong
		if result.First == "" {
			result.First = c.first
		}
	}
	slices.Sort(all)
	result.Answers = int64(len(all))
	if len(all) > 0 {
		result.P50, result.P99 = all[len(all)/2], all[len(all)*99/100]
	}
	return result
}

// client is one connection: a visitor's, or of visitors who take turns.
type client struct {
	*order
	requests  [][]byte
	sent      int
	conn      net.Conn
	in        *bufio.Reader
	latencies []time.Duration
	wrong     int64
	first     string
}

func (c *client) work(until time.Time, do func(*client) error) {
	c.latencies, c.wrong, c.first = make([]time.Duration, 0, 1<<16), 0, ""
	for now := time.Now(); now.Before(until) || len(c.latencies) == 0; { // once, however late it is
		err := do(c)
		if errors.Is(err, errNotSent) {
			c.complain(err)
			return
		}
		done := time.Now()
		c.latencies = append(c.latencies, done.Sub(now))
		if now = done; err == nil {
			continue
		}
		c.complain(err)
		if !errors.Is(err, errUnexpected) {
			return // the connection is of no more use
		}
	}
}

// ask sends the next request, and receives its answer.
func (c *client) ask() error {
	request := c.requests[c.sent%len(c.requests)]
	c.sent++
	if err := c.send(request); err != nil {
		return err
	}
	return c.receive()
}

func (c *client) send(request []byte) error {
	if _, err := c.conn.Write(request); err != nil {
		return fmt.Errorf("%w: %w", errNotSent, err)
	}
	return nil
}

func (c *client) complain(err error) {
	c.wrong++
	if c.first == "" {
		c.first = err.Error()
	}
}

var (
	errUnexpected = errors.New("unexpected answer")
	errNotSent    = errors.New("sending")
	endOfHead     = []byte("\r\n\r\n")
	lengthField   = []byte("\r\nContent-Length: ")
)

// receive reads one answer. It knows just enough of HTTP for the answers of
// this benchmark, all of which say how long they are.
func (c *client) receive() error {
	head, err := c.head()
	if err != nil {
		return err
	}
	length, err := lengthOf(head)
	if err != nil {
		return err
	}
	right := bytes.HasPrefix(head, []byte(c.Status)) && bytes.Contains(head, []byte(c.Head)) && (length == c.Length)
	var wrong error
	if !right {
		wrong = fmt.Errorf("%w: %.300q", errUnexpected, head)
	}
	if _, err := c.in.Discard(len(head) + length); err != nil {
		return fmt.Errorf("receiving body: %w", err)
	}
	return wrong
}

// head is the next answer's, up to and with the empty line; it stays in the
// reader.
func (c *client) head() ([]byte, error) {
	if _, err := c.in.Peek(1); err != nil {
		return nil, fmt.Errorf("receiving: %w", err)
	}
	for {
		got, _ := c.in.Peek(c.in.Buffered())
		if end := bytes.Index(got, endOfHead); end >= 0 {
			return got[:end+len(endOfHead)], nil
		}
		if _, err := c.in.Peek(len(got) + 1); err != nil {
			return nil, fmt.Errorf("receiving head: %w", err)
		}
	}
}

func lengthOf(head []byte) (int, error) {
	_, after, found := bytes.Cut(head, lengthField)
	if !found {
		return 0, fmt.Errorf("receiving: no Content-Length: %w", io.ErrUnexpectedEOF)
	}
	digits, _, _ := bytes.Cut(after, []byte("\r"))
	return strconv.Atoi(string(digits))
}
