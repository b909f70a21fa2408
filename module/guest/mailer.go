package guest

import (
	"context"
	"errors"
)

// Mailer sends mail. It is a Caddy module in the namespace login.mailers and
// must be safe for concurrent use.
type Mailer interface {
	// Open takes what the house lends; it must not touch the network.
	Open(Env) error

	// Send hands one message over. It returns once the server has accepted
	// or refused it, or ctx ended. The house retries what ErrTemporary marks.
	Send(ctx context.Context, m Message) error
}

// ErrTemporary marks, wrapped, a failure that may pass: the house tries again.
var ErrTemporary = errors.New("the mail server may accept it later")

// Message is one mail to one person.
type Message struct {
	// To is the canonical address on file, never what a visitor typed.
	To string
	// From is the sender, where the mailer's settings name none.
	From    string
	Subject string
	Text    string
	HTML    string
}
