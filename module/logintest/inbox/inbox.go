// Package inbox is a mail server for tests, on this machine's loopback. New
// opens one that keeps what it is sent, to be read as a person would read it;
// Scripted opens one that says what no decent server says.
package inbox

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/caddy-login/caddy-login/module/logintest/secrets"
)

// Inbox is a running server and the mails it accepted. It is safe for
// concurrent use, but for what fails the test: those methods are for the
// test's own goroutine.
type Inbox struct {
	// Addr is its host:port, by number; Host and Port are its parts.
	Addr, Host string
	Port       int

	// Roots holds the one authority that vouches for its certificate. The same
	// is in CAFile, as PEM.
	Roots  *x509.CertPool
	CAFile string

	t        testing.TB
	options  Options
	scripted bool
	tls      *tls.Config
	mails    chan Mail
	closed   chan struct{}

	mu      sync.Mutex
	answers map[Stage]string
	reached map[Stage]int
	dialled int
	open    map[*counted]bool
}

// Options are what a server is like. The zero value offers STARTTLS to
// everybody and asks nobody for a password.
type Options struct {
	// Username and Password are demanded before any mail, over TLS alone.
	Username, Password string

	// Mechanisms are the ways to present them. Default: PLAIN and LOGIN.
	Mechanisms []string

	// ImplicitTLS speaks TLS from the first byte, as port 465 does; NoTLS
	// offers none at all.
	ImplicitTLS, NoTLS bool

	// WrongName has the certificate name another host.
	WrongName bool
}

// capacity is how many mails wait to be read; one more fails the test.
const capacity = 4096

// New opens a server with STARTTLS that ends with the test.
func New(t testing.TB) *Inbox {
	t.Helper()
	return Options{}.New(t)
}

// New opens a server of this kind that ends with the test.
func (o Options) New(t testing.TB) *Inbox {
	t.Helper()
	i := open(t, o)
	server := smtp.NewServer(smtp.BackendFunc(i.session))
	server.Domain = "inbox.test"
	server.ErrorLog = silent{}
	server.MaxMessageBytes = 1 << 20
	server.EnableSMTPUTF8 = true
	if !o.NoTLS {
		server.TLSConfig = i.tls
	}
	i.listen(o.ImplicitTLS, func(l net.Listener) {
		_ = server.Serve(l)
		i.cutOff()
		// Not Close: it takes a connection in the middle of its STARTTLS.
		_ = server.Shutdown(context.Background())
	})
	return i
}

func open(t testing.TB, o Options) *Inbox {
	t.Helper()
	i := &Inbox{
		t: t, options: o, mails: make(chan Mail, capacity), closed: make(chan struct{}),
		answers: map[Stage]string{}, reached: map[Stage]int{}, open: map[*counted]bool{},
	}
	authority, certificate := certify(t, o.WrongName)
	i.tls = &tls.Config{Certificates: []tls.Certificate{certificate}}
	i.Roots = x509.NewCertPool()
	i.Roots.AddCert(authority)
	i.CAFile = filepath.Join(t.TempDir(), "authority.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Raw})
	if err := os.WriteFile(i.CAFile, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return i
}

// listen has serve serve connections until the test ends, and waits for it: it
// returns when the listener is closed and nobody is talked to any more.
func (i *Inbox) listen(implicit bool, serve func(net.Listener)) {
	i.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		i.t.Fatal(err)
	}
	i.Addr = l.Addr().String()
	host, port, err := net.SplitHostPort(i.Addr)
	if err != nil {
		i.t.Fatal(err)
	}
	i.Host = host
	if i.Port, err = strconv.Atoi(port); err != nil {
		i.t.Fatal(err)
	}
	l = counting{l, i}
	if implicit {
		l = tls.NewListener(l, i.tls)
	}
	done := make(chan struct{})
	go func() { defer close(done); serve(l) }()
	i.t.Cleanup(func() { close(i.closed); _ = l.Close(); <-done })
}

// counting counts the connections, and knows those that are open.
type counting struct {
	net.Listener
	i *Inbox
}

func (c counting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	counted := &counted{conn, c.i}
	c.i.mu.Lock()
	defer c.i.mu.Unlock()
	c.i.dialled++
	c.i.open[counted] = true
	return counted, nil
}

type counted struct {
	net.Conn
	i *Inbox
}

func (c *counted) Close() error {
	c.i.mu.Lock()
	delete(c.i.open, c)
	c.i.mu.Unlock()
	return c.Conn.Close()
}

// cutOff closes all connections, whatever is under way on them.
func (i *Inbox) cutOff() {
	i.mu.Lock()
	open := slices.Collect(maps.Keys(i.open))
	i.mu.Unlock()
	for _, conn := range open {
		_ = conn.Close()
	}
}

// Connections is how many there were so far.
func (i *Inbox) Connections() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.dialled
}

// Next is the next mail that nobody has read yet. It fails the test where none
// comes within that time.
func (i *Inbox) Next(within time.Duration) Mail {
	i.t.Helper()
	select {
	case m := <-i.mails:
		return m
	case <-time.After(within):
		i.t.Fatalf("no mail came within %s", within)
		return Mail{}
	}
}

// NextCode is the next mail with a code: what else tells its reader something is
// passed over.
func (i *Inbox) NextCode(within time.Duration) Mail {
	i.t.Helper()
	for deadline := time.Now().Add(within); ; {
		if m := i.Next(time.Until(deadline)); boundCode.MatchString(m.Text) {
			return m
		}
	}
}

// patience is how long Text and its like wait for a mail.
const patience = time.Minute

// Text is the text of the next mail.
func (i *Inbox) Text() string { i.t.Helper(); return i.Next(patience).Text }

// HTML is the HTML of the next mail.
func (i *Inbox) HTML() string { i.t.Helper(); return i.Next(patience).HTML }

// Code is the one-time code in the next mail; none fails the test.
func (i *Inbox) Code() string {
	i.t.Helper()
	return i.found("code", i.NextCode(patience).Code())
}

// Link is the link in the next mail; none fails the test.
func (i *Inbox) Link() string {
	i.t.Helper()
	return i.found("link", i.NextCode(patience).Link())
}

func (i *Inbox) found(what, value string) string {
	i.t.Helper()
	if value == "" {
		i.t.Fatalf("the mail holds no %s", what)
	}
	return value
}

// Waiting is how many mails nobody has read yet.
func (i *Inbox) Waiting() int { return len(i.mails) }

func (i *Inbox) keep(m Mail) {
	secrets.Keep(i.t, m.Code())
	for _, link := range anyLink.FindAllString(m.Text, -1) {
		secrets.KeepAddress(i.t, link)
	}
	select {
	case i.mails <- m:
	default:
		i.t.Errorf("more than %d mails wait to be read", capacity)
	}
}

// session is one client's conversation with the server that New opens.
type session struct {
	i    *Inbox
	conn *smtp.Conn
	mail Mail
	user string
}

func (i *Inbox) session(conn *smtp.Conn) (smtp.Session, error) {
	s := &session{i: i, conn: conn}
	return s, s.answer(EHLO)
}

func (s *session) Reset() { s.mail = Mail{} }

func (s *session) Logout() error { return nil }

func (s *session) Mail(from string, options *smtp.MailOptions) error {
	if s.i.options.Username != "" && s.user == "" {
		return smtp.ErrAuthRequired
	}
	s.mail.From, s.mail.User = from, s.user
	_, s.mail.TLS = s.conn.TLSConnectionState()
	s.mail.UTF8 = options.UTF8
	return s.answer(MAIL)
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if err := s.answer(RCPT); err != nil {
		return err
	}
	s.mail.To = append(s.mail.To, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("reading mail: %w", err)
	}
	if err := s.answer(End); err != nil {
		return err
	}
	s.mail.Raw = raw
	if err := s.mail.parse(); err != nil {
		return &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 6, 0}, Message: err.Error()}
	}
	s.i.keep(s.mail)
	return nil
}

// answer is the error that makes the server give the answer that the test
// wants of it here.
func (s *session) answer(stage Stage) error {
	text := s.i.arrive(stage)
	switch text {
	case "":
		return nil
	case Silence:
		<-s.i.closed
		return smtp.ErrServerClosed
	case HangUp:
		_ = s.conn.Conn().Close()
		return io.ErrUnexpectedEOF
	default:
		code, _ := strconv.Atoi(text[:3]) // Say saw to it
		return &smtp.SMTPError{Code: code, EnhancedCode: smtp.NoEnhancedCode, Message: strings.TrimSpace(text[3:])}
	}
}

// AuthMechanisms lists how to present the password.
func (s *session) AuthMechanisms() []string {
	switch {
	case s.i.options.Username == "":
		return nil
	case s.i.options.Mechanisms != nil:
		return s.i.options.Mechanisms
	default:
		return []string{sasl.Plain, sasl.Login}
	}
}

func (s *session) Auth(mechanism string) (sasl.Server, error) {
	if err := s.answer(AUTH); err != nil {
		return nil, err
	}
	switch {
	case !slices.Contains(s.AuthMechanisms(), mechanism):
		return nil, smtp.ErrAuthUnknownMechanism
	case mechanism == sasl.Plain:
		return sasl.NewPlainServer(func(_, username, password string) error { return s.check(username, password) }), nil
	case mechanism == sasl.Login:
		return &login{check: s.check}, nil
	default:
		return nil, smtp.ErrAuthUnknownMechanism
	}
}

func (s *session) check(username, password string) error {
	if username != s.i.options.Username || password != s.i.options.Password {
		return smtp.ErrAuthFailed
	}
	s.user = username
	return nil
}

// login is the server's side of the mechanism LOGIN, which the library leaves
// to the client.
type login struct {
	check    func(username, password string) error
	step     int
	username string
}

func (l *login) Next(response []byte) (challenge []byte, done bool, err error) {
	if l.step == 0 && response != nil {
		l.step++ // the name came along
	}
	l.step++
	switch l.step {
	case 1:
		return []byte("Username:"), false, nil
	case 2:
		l.username = string(response)
		return []byte("Password:"), false, nil
	default:
		return nil, true, l.check(l.username, string(response))
	}
}

// silent is a log that says nothing: broken connections are what tests want.
type silent struct{}

func (silent) Printf(string, ...any) {}
func (silent) Println(...any)        {}
