package smtp

import (
	"context"
	"errors"
	"fmt"

	"github.com/caddy-login/caddy-login/module/guest"
)

// Check goes as far as a mail would, and sends none: it connects, starts TLS
// where the settings say so, signs in, and takes its leave. Like Send's, its
// errors hold nothing of what the server says but the code.
func (m *Mailer) Check(ctx context.Context) error {
	if m.now == nil {
		return errors.New("checking mail: the mailer is not open")
	}
	c, err := m.dial(ctx, m.helo())
	if err != nil {
		return fmt.Errorf("checking mail by %s: %w", m.Address, err)
	}
	c.quit()
	return nil
}

// helo is how this machine names itself where no mail names a sender.
func (m *Mailer) helo() string {
	if sender, err := m.sender(guest.Message{}); err == nil {
		return domainOf(sender.Address)
	}
	return "localhost"
}
