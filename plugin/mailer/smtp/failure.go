package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"regexp"

	"github.com/caddy-login/caddy-login/module/guest"
)

// answer is a refusal by the server. What it wrote beside the codes is dropped:
// servers quote addresses, and filters the mail.
type answer struct {
	code     int
	enhanced string // RFC 3463, or empty
}

func (a *answer) Error() string {
	if a.enhanced == "" {
		return fmt.Sprintf("the server answered %d", a.code)
	}
	return fmt.Sprintf("the server answered %d %s", a.code, a.enhanced)
}

// Unwrap tells what may pass: all of 4xx (RFC 5321 section 4.2.1).
func (a *answer) Unwrap() error {
	if a.code/100 == 4 {
		return guest.ErrTemporary
	}
	return nil
}

// isRefusal reports whether the server said no to a mail, and goes on: with 421
// it takes leave (RFC 5321 section 3.8).
func isRefusal(err error) bool {
	var said *answer
	return errors.As(err, &said) && said.code != 421
}

var enhancedCode = regexp.MustCompile(`^[245]\.\d{1,3}\.\d{1,3}\b`)

// fail tells what went wrong while doing something. It keeps nothing that
// the server wrote, but its codes.
func fail(ctx context.Context, doing string, err error) error {
	var said *textproto.Error
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &said) && (said.Code/100 == 4 || said.Code/100 == 5):
		err = &answer{code: said.Code, enhanced: enhancedCode.FindString(said.Msg)}
	case errors.As(err, &certificate):
		err = fmt.Errorf("not trusting its certificate: %w; see tls_ca", certificate.Err)
	case ctx.Err() != nil:
		err = fmt.Errorf("no answer in time: %w: %w", ctx.Err(), guest.ErrTemporary)
	case isNetwork(err):
		err = fmt.Errorf("%w: %w", err, guest.ErrTemporary)
	default:
		err = fmt.Errorf("the answer makes no sense, perhaps it is another kind of port: %w", guest.ErrTemporary)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// isNetwork reports whether err is the network's own, which holds addresses of
// machines at most.
func isNetwork(err error) bool {
	var network net.Error
	return errors.As(err, &network) || isEnd(err) || errors.Is(err, errTooMuch)
}
