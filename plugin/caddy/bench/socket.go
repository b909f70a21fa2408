package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/gorilla/websocket"
)

// handshake is a request of Chrome's for a WebSocket, from a page of the site.
const handshake = "GET %s HTTP/1.1\r\n" +
	"Host: %s\r\n" +
	"Connection: Upgrade\r\n" +
	"Pragma: no-cache\r\n" +
	"Cache-Control: no-cache\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36\r\n" +
	"Upgrade: websocket\r\n" +
	"Origin: http://%[2]s\r\n" +
	"Sec-WebSocket-Version: 13\r\n" +
	"Accept-Encoding: gzip, deflate, br, zstd\r\n" +
	"Accept-Language: en-GB,en-US;q=0.9,en;q=0.8,de;q=0.7\r\n" +
	"Cookie: %[3]s\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
	"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n" +
	"\r\n"

// streamPathOf is the address of a visitor's stream.
func streamPathOf(visitor int) string { return fmt.Sprintf("/v/%d/stream", visitor) }

// The frames of a message (RFC 6455 section 5.2): from the browser, by a mask of
// zeros, which leaves the text as it is; and back. The text has 100 bytes.
var (
	message = append([]byte{0x81, 0x80 | 100, 0, 0, 0, 0}, body[:100]...)
	echoed  = append([]byte{0x81, 100}, body[:100]...)
)

// echo is the app's end of a stream: it sends back what comes.
func (a *app) echo(w http.ResponseWriter, r *http.Request) {
	upgrader := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	stream, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // it was answered
	}
	a.opened.Add(1)
	defer stream.Close()
	for {
		kind, text, err := stream.ReadMessage()
		if err != nil {
			return // the other end has closed it
		}
		a.seen.Add(1)
		if stream.WriteMessage(kind, text) != nil {
			return
		}
	}
}

// open opens a stream on each connection of an order.
func (g *generator) open(o order) (bool, error) {
	clients, err := g.connect(&o)
	if err != nil {
		return false, err
	}
	g.streams = clients
	for _, c := range clients {
		if err := c.upgrade(); err != nil {
			return false, fmt.Errorf("opening a stream: %w", err)
		}
	}
	return true, nil
}

// talk has every open stream send a message, and the next when it came back.
func (g *generator) talk(o order) (outcome, error) {
	return atWork(g.streams, o.Duration, (*client).say), nil
}

func (g *generator) close(struct{}) (bool, error) {
	disconnect(g.streams)
	g.streams = nil
	return true, nil
}

// reopen opens streams one after the other on as many connections as an order
// has, and closes each at once.
func (g *generator) reopen(o order) (outcome, error) {
	clients, err := g.connect(&o)
	if err != nil {
		return outcome{}, err
	}
	defer disconnect(clients)
	return atWork(clients, o.Duration, (*client).comeAgain), nil
}

// upgrade makes a stream of the connection.
func (c *client) upgrade() error {
	if err := c.send(c.requests[0]); err != nil {
		return err
	}
	head, err := c.head()
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(head, []byte(c.Status)) {
		return fmt.Errorf("%w: %.300q", errUnexpected, head)
	}
	_, err = c.in.Discard(len(head))
	return err
}

// say sends a message and waits until it comes back.
func (c *client) say() error {
	if err := c.send(message); err != nil {
		return err
	}
	got, err := c.in.Peek(len(echoed))
	if err != nil {
		return fmt.Errorf("receiving a message: %w", err)
	}
	if !bytes.Equal(got, echoed) {
		return fmt.Errorf("receiving a message: %.100q", got)
	}
	_, err = c.in.Discard(len(echoed))
	return err
}

// comeAgain opens a stream, says one thing, and leaves.
func (c *client) comeAgain() error {
	if err := c.upgrade(); err != nil {
		return err
	}
	if err := c.say(); err != nil {
		return err
	}
	c.conn.Close()
	conn, err := net.DialTimeout("tcp", c.Address, 10*time.Second)
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	c.conn = conn
	c.in.Reset(io.Reader(conn))
	return nil
}
