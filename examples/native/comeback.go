package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// comeback is where the browser comes back to: this device, with one answer.
type comeback struct {
	address string
	state   string
	server  *http.Server
	answers chan url.Values
}

// listen takes a port that is free now (RFC 8252 section 7.3).
func listen(state string) (*comeback, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	c := &comeback{address: "http://" + l.Addr().String() + "/?state=" + state, state: state, answers: make(chan url.Values, 1)}
	c.server = &http.Server{Handler: c, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = c.server.Serve(l) }() // until it is closed
	return c, nil
}

// ServeHTTP takes the answer. What comes without the state was not begun here.
func (c *comeback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if r.URL.Path != "/" || query.Get("state") != c.state {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(goBack)))
	_, _ = io.WriteString(w, goBack) // the tab may be gone
	_ = http.NewResponseController(w).Flush()
	select {
	case c.answers <- query: // what is written by now outlives the server
	default: // it has one
	}
}

const goBack = "Go back to the app. This tab may be closed.\n"

// wait returns the code that the browser brings.
func (c *comeback) wait(ctx context.Context) (code string, err error) {
	select {
	case answer := <-c.answers:
		if code = answer.Get("return_code"); code == "" {
			return "", errors.New("they said no")
		}
		return code, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}
