// Command demo shows a sign-in from beginning to end on one machine: a
// provider with three people, a mailbox for everybody else, an app that knows
// nothing of signing in, and Caddy with this module before it. Nothing needs an
// account anywhere, and nothing is left behind.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second ctrl-C ends the program as if nobody listened.
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:], os.Stdout)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// settings are the demo's flags.
type settings struct {
	port, providerPort, appPort, mailboxPort int
	data                                     string
}

func readSettings(args []string) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.IntVar(&s.port, "port", 8080, "`port` of the site: what you open")
	flags.IntVar(&s.providerPort, "provider-port", 9000, "`port` of the demo provider")
	flags.IntVar(&s.appPort, "app-port", 9001, "`port` of the app behind Caddy")
	flags.IntVar(&s.mailboxPort, "mailbox-port", 9002, "`port` of the mailbox for what the demo mails")
	flags.StringVar(&s.data, "data", "", "`directory` for people and sessions, to keep them; without it they are deleted at the end")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	return s, nil
}

// run serves until ctx ends. It stops in the order in which the parts depend on
// each other: the app first, which ends its streams, so that Caddy need not
// wait for them.
func run(ctx context.Context, args []string, out io.Writer) (err error) {
	s, err := readSettings(args)
	if err != nil {
		return err
	}
	var stops closers
	defer func() { err = errors.Join(err, stops.close()) }()
	if s.data, err = dataDir(s.data, &stops); err != nil {
		return err
	}
	issuer, secret := newProvider(s.port, s.providerPort)
	if err := serve(issuer, "localhost", s.providerPort, "-provider-port", &stops); err != nil {
		return err
	}
	box := newMailbox()
	if err := serve(newReader(box, at(s.port)), "localhost", s.mailboxPort, "-mailbox-port", &stops); err != nil {
		return err
	}
	if err := free("localhost", s.port, "-port"); err != nil {
		return err
	}
	if err := startCaddy(s, secret, box, &stops); err != nil {
		return err
	}
	if err := serve(newApp(at(s.mailboxPort)), "127.0.0.1", s.appPort, "-app-port", &stops); err != nil {
		return err
	}
	printGuide(out, s)
	<-ctx.Done()
	fmt.Fprintln(out, "\nStopping.")
	return nil
}

// at is the address of a site of the demo.
func at(port int) string { return fmt.Sprint("http://localhost:", port) }

// closers are what must be undone, last first.
type closers []func() error

func (c *closers) add(f func() error) { *c = append(*c, f) }

func (c *closers) close() error {
	var errs []error
	for n := len(*c) - 1; n >= 0; n-- {
		errs = append(errs, (*c)[n]())
	}
	*c = nil
	return errors.Join(errs...)
}

func dataDir(chosen string, stops *closers) (string, error) {
	if chosen != "" {
		return chosen, nil
	}
	dir, err := os.MkdirTemp("", "caddy-login-demo-")
	if err != nil {
		return "", fmt.Errorf("making a directory for the demo's data: %w", err)
	}
	stops.add(func() error { return os.RemoveAll(dir) })
	return dir, nil
}

// serve runs h on this machine alone: the demo provider lets anyone be anyone,
// and so does the mailbox.
func serve(h http.Handler, host string, port int, option string, stops *closers) error {
	l, err := listen(host, port, option)
	if err != nil {
		return err
	}
	streams, end := context.WithCancel(context.Background())
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return streams },
	}
	go server.Serve(l)
	stops.add(func() error {
		end()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if server.Shutdown(ctx) == nil {
			return nil
		}
		// Browsers hold connections open in advance; they are cut.
		return server.Close()
	})
	return nil
}

func listen(host string, port int, option string) (net.Listener, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("port %d is taken: stop what uses it, or choose another with %s", port, option)
	}
	if err != nil {
		return nil, fmt.Errorf("listening: %w (choose another port with %s)", err, option)
	}
	return l, nil
}

// free says in our words what Caddy would say in its own.
func free(host string, port int, option string) error {
	l, err := listen(host, port, option)
	if err != nil {
		return err
	}
	return l.Close()
}

func printGuide(out io.Writer, s settings) {
	fmt.Fprintf(out, `
  Open  http://localhost:%[1]d

  The app there knows nothing of signing in; Caddy asks first. Be one of:

    Ada   verified mail, groups staff and admins: may see everything
    Bob   verified mail, group staff: /admin/ is not for him
    Eve   mail that nobody verified: she is asked for a code first

  or anybody, by any address: what is mailed to it arrives at

    http://localhost:%[2]d

  Look at what the app receives, and try
    http://localhost:%[1]d/public/         for anyone, signed in or not
    http://localhost:%[1]d/admin/          for the group admins
    http://localhost:%[1]d/.login/account  your addresses, accounts, sessions
    http://localhost:%[1]d/.login/logout   the clock on the first page stops, too

  All of it is examples/demo/Caddyfile. Stop with ctrl-C.
`, s.port, s.mailboxPort)
}
