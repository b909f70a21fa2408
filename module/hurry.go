package module

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// formPatience is how long a request to one of our own pages may take to bring
// all of its body: some kilobytes. Caddy itself waits a minute for each byte, and
// anybody may ask for these pages: a stranger who sends one now and then would
// hold a connection for each form that is begun, for ever.
const formPatience = 20 * time.Second

// hurry bounds how long the body of a request may take, whoever reads it. What
// is done once it is there has all the time it needs.
func hurry(w http.ResponseWriter, r *http.Request) {
	if r.Body == nil || r.ContentLength == 0 {
		return
	}
	body := &hurried{ReadCloser: r.Body, connection: http.NewResponseController(w)}
	if body.connection.SetReadDeadline(time.Now().Add(formPatience)) == nil {
		r.Body = body
	}
}

// hurried is a body with a deadline, which ends with it.
type hurried struct {
	io.ReadCloser
	connection *http.ResponseController
}

func (h *hurried) Read(p []byte) (int, error) {
	n, err := h.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		// Else the server would take the deadline for a visitor who left, and
		// end what is still being done for them.
		_ = h.connection.SetReadDeadline(time.Time{})
	}
	return n, err
}
