package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	wire "github.com/wneessen/go-mail/smtp"
)

const (
	dialTimeout = 10 * time.Second
	quitTimeout = 2 * time.Second
	// mostRead is what a server may say for one mail, with its certificates.
	mostRead = 256 << 10
)

// conversation is one open connection, ready for a mail. It serves one
// goroutine at a time.
type conversation struct {
	conn   *metered
	client *wire.Client
	// sent is set once the whole of the last mail was: from then on the server
	// may have accepted it.
	sent bool
	// broken is set once nothing can be said any more, over once no other mail
	// should be.
	broken, over bool
	// mails is how many it has carried.
	mails int
}

var (
	errNoSTARTTLS = errors.New("it offers no STARTTLS, and nothing is sent in clear text: use a port that does, or write tls tls (usually port 465); for a server on this machine alone, tls none")
	errNotHere    = errors.New("the name leads to another machine, and tls none is only for this one")
	errNoWayIn    = errors.New("it takes no password in a way known here (PLAIN, LOGIN, SCRAM-SHA-256)")
	errTooMuch    = errors.New("the server talks without end")
)

// dial opens a connection, as the host of helo.
func (m *Mailer) dial(ctx context.Context, helo string) (*conversation, error) {
	dialing, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(dialing, "tcp", m.Address)
	if err != nil {
		return nil, fail(ctx, "connecting", err)
	}
	c := &conversation{conn: &metered{Conn: conn}}
	stop := c.begin(ctx)
	err = m.introduce(ctx, c, helo)
	stop()
	if err == nil && c.broken {
		err = fail(ctx, "connecting", ctx.Err())
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return c, nil
}

// introduce goes from the open connection to where mail can be sent.
func (m *Mailer) introduce(ctx context.Context, c *conversation, helo string) error {
	if err := m.checkPeer(c.conn); err != nil {
		return err
	}
	if err := m.greet(ctx, c, helo); err != nil {
		return err
	}
	if m.TLS == "starttls" {
		if err := m.startTLS(ctx, c); err != nil {
			return err
		}
	}
	if m.Username == "" {
		return nil
	}
	return m.authenticate(ctx, c)
}

// checkPeer holds `tls none` to this machine: some resolvers ask the network
// even for names below localhost.
func (m *Mailer) checkPeer(conn net.Conn) error {
	if m.TLS != "none" || m.InsecurePlaintext {
		return nil
	}
	if peer, ok := conn.RemoteAddr().(*net.TCPAddr); !ok || !peer.IP.IsLoopback() {
		return fmt.Errorf("connecting: %w", errNotHere)
	}
	return nil
}

func (m *Mailer) greet(ctx context.Context, c *conversation, helo string) (err error) {
	var conn net.Conn = c.conn
	if m.TLS == "tls" {
		over := tls.Client(c.conn, m.tls)
		if err := over.HandshakeContext(ctx); err != nil {
			return fail(ctx, "starting TLS", err)
		}
		conn = over
	}
	if c.client, err = wire.NewClient(conn, m.host); err != nil {
		return fail(ctx, "being greeted", err)
	}
	// All is ASCII. To ask for more would have a next server refuse the mail
	// that knows no SMTPUTF8.
	c.client.SkipSMTPUTF8(true)
	if err := c.client.Hello(helo); err != nil {
		return fail(ctx, "saying hello", err)
	}
	return nil
}

// startTLS goes on in TLS or not at all. What the server said before is
// forgotten: anybody on the way may have said it.
func (m *Mailer) startTLS(ctx context.Context, c *conversation) error {
	if offered, _ := c.client.Extension("STARTTLS"); !offered {
		return fmt.Errorf("starting TLS: %w", errNoSTARTTLS)
	}
	if err := c.client.StartTLS(m.tls); err != nil {
		return fail(ctx, "starting TLS", err)
	}
	if state, over := c.client.TLSConnectionState(); !over || !state.HandshakeComplete {
		return fmt.Errorf("starting TLS: %w", errNoSTARTTLS)
	}
	return nil
}

func (m *Mailer) authenticate(ctx context.Context, c *conversation) error {
	if _, over := c.client.TLSConnectionState(); !over {
		return errors.New("authenticating: a password is only sent over TLS")
	}
	auth := m.mechanism(c.client)
	if auth == nil {
		return fmt.Errorf("authenticating: %w", errNoWayIn)
	}
	if err := c.client.Auth(auth); err != nil {
		return fail(ctx, "authenticating", err)
	}
	return nil
}

// mechanism is the first that the server offers of those that most servers
// get right. All of them run inside TLS.
func (m *Mailer) mechanism(client *wire.Client) wire.Auth {
	_, words := client.Extension("AUTH")
	offered := strings.Fields(strings.ToUpper(words))
	password := string(m.Password)
	switch {
	case slices.Contains(offered, "PLAIN"):
		return wire.PlainAuth("", m.Username, password, m.host, false)
	case slices.Contains(offered, "LOGIN"):
		return wire.LoginAuth(m.Username, password, m.host, false)
	case slices.Contains(offered, "SCRAM-SHA-256"):
		return wire.ScramSHA256Auth(m.Username, password)
	default:
		return nil
	}
}

// begin gives the server a fresh budget and ends the wait for it when ctx does.
// The function it returns must be called before c is used again.
func (c *conversation) begin(ctx context.Context) (stop func()) {
	c.conn.left.Store(mostRead)
	past := time.Unix(1, 0)
	after := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(past) })
	return func() {
		if !after() {
			c.broken = true
		}
	}
}

// deliver carries one mail.
func (c *conversation) deliver(ctx context.Context, l letter) error {
	defer c.begin(ctx)()
	c.sent = false
	err := c.carry(ctx, l)
	c.mails++
	c.over = err != nil || c.mails >= mostMails
	c.broken = c.broken || err != nil && !isRefusal(err)
	return err
}

func (c *conversation) carry(ctx context.Context, l letter) error {
	if err := c.client.Mail("<" + l.from + ">"); err != nil {
		return fail(ctx, "naming the sender", err)
	}
	if err := c.client.Rcpt("<" + l.to + ">"); err != nil {
		return fail(ctx, "naming the recipient "+mask(l.to), err)
	}
	w, err := c.client.Data()
	if err != nil {
		return fail(ctx, "announcing the mail", err)
	}
	// On an error w stays open: closing it would end the mail in its middle,
	// and have it accepted.
	if _, err := w.Write(l.raw); err != nil {
		return fail(ctx, "sending the mail", err)
	}
	c.sent = true
	if err := w.Close(); err != nil {
		return fail(ctx, "waiting for the mail to be accepted", err)
	}
	return nil
}

// quit takes leave, where there is anybody, and closes.
func (c *conversation) quit() {
	ctx, cancel := context.WithTimeout(context.Background(), quitTimeout)
	defer cancel()
	if !c.broken {
		stop := c.begin(ctx)
		_ = c.client.Quit()
		stop()
	}
	_ = c.conn.Close()
}

// metered is a connection on which a server can only say so much: an endless
// line would be read into memory.
type metered struct {
	net.Conn
	left atomic.Int64
}

func (m *metered) Read(p []byte) (int, error) {
	if m.left.Load() <= 0 {
		return 0, errTooMuch
	}
	n, err := m.Conn.Read(p)
	m.left.Add(int64(-n))
	return n, err
}

// isEnd reports whether err says that the other side is gone.
func isEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}
