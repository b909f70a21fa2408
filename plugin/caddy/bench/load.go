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
	mux := http.NewServeMux()
	mux.HandleFunc("/run", answers(run))
	return mux
}

// run carries out an order. It returns once every request that was sent has
// been answered.
func run(o order) (outcome, error) {
	clients := make([]*client, len(o.Requests))
	for i, request := range o.Requests {
		conn, err := net.Dial("tcp", o.Address)
		if err != nil {
			return outcome{}, fmt.Errorf("connecting: %w", err)
		}
		defer conn.Close()
		clients[i] = &client{order: &o, request: request, conn: conn, in: bufio.NewReaderSize(conn, 16<<10)}
	}
	var wg sync.WaitGroup
	began := time.Now()
	for _, c := range clients {
		wg.Go(func() { c.work(began.Add(o.Duration)) })
	}
	wg.Wait()
	return sum(clients, time.Since(began)), nil
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

// client is one visitor's connection.
type client struct {
	*order
	request   []byte
	conn      net.Conn
	in        *bufio.Reader
	latencies []time.Duration
	wrong     int64
	first     string
}

func (c *client) work(until time.Time) {
	c.latencies = make([]time.Duration, 0, 1<<16)
	for now := time.Now(); now.Before(until); {
		if _, err := c.conn.Write(c.request); err != nil {
			c.complain(fmt.Errorf("sending: %w", err))
			return
		}
		err := c.receive()
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

func (c *client) complain(err error) {
	c.wrong++
	if c.first == "" {
		c.first = err.Error()
	}
}

var (
	errUnexpected = errors.New("unexpected answer")
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
