package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

func main() {
	if play() {
		return
	}
	err := execute(os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// settings are the flags.
type settings struct {
	rounds  int
	seconds float64
	conns   int
	flood   int
	people  int
	// different is how many sessions are in use at once, and sessions how many
	// there are in a store.
	different, sessions int
	chosen              []string // parts
	json                bool
	profile             string

	loginProfile string

	url, cookie, app string
	pid              int

	idle      time.Duration // before memory is weighed
	crowds    string        // where stores full of people are kept for the next run
	benchtime string        // of the gate's own benchmarks
}

func readSettings(args []string) (settings, error) {
	s := settings{idle: 5 * time.Second, benchtime: "200ms", crowds: os.TempDir()}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&s.rounds, "rounds", 12, "`number` of rounds; in each, every arm has its turn")
	flags.Float64Var(&s.seconds, "seconds", 1.25, "`seconds` that a turn lasts")
	flags.IntVar(&s.conns, "conns", 32, "`number` of connections, each a visitor of its own")
	flags.IntVar(&s.flood, "flood", 20_000, "`number` of requests for codes, at once, each from a network of its own")
	flags.IntVar(&s.people, "people", 1_000_000, "`number` of people to be among, one in five signed in; 0 leaves that out")
	flags.IntVar(&s.different, "visitors", 10_000, "`number` of different sessions that are in use at once")
	flags.IntVar(&s.sessions, "sessions", 2_000_000, "`number` of sessions in a store, five to a person; 0 leaves that out")
	only := flags.String("only", "", "measure these `parts` alone: "+strings.Join(partNames(), ","))
	flags.BoolVar(&s.json, "json", false, "print JSON")
	flags.StringVar(&s.profile, "profile", "", "also write a CPU profile of the gate's proxy to this `file`")
	flags.StringVar(&s.loginProfile, "login-profile", "", "also write a CPU profile of our process while people sign in to this `file`")
	flags.StringVar(&s.url, "url", "", "also measure your own gate, a proxy to the -app at this `address` (http://host:port)")
	flags.StringVar(&s.cookie, "cookie", "", "the session `cookie` of your own gate: name=value")
	flags.IntVar(&s.pid, "pid", 0, "the process `id` of your own gate, for its CPU")
	flags.StringVar(&s.app, "app", "", "`host:port` for the app to listen on (default: any free port)")
	err := flags.Parse(args)
	if err == nil {
		s.chosen, err = choose(*only)
	}
	switch {
	case err != nil:
		return s, err
	case flags.NArg() > 0:
		return s, fmt.Errorf("unknown argument %q", flags.Arg(0))
	case s.rounds < 1 || s.seconds <= 0 || s.conns < 1 || s.conns > 150:
		return s, errors.New("rounds, seconds and conns must be positive, conns at most 150")
	case s.flood < 1 || s.flood > 1e6:
		return s, errors.New("flood must be positive, at most 1,000,000")
	case s.people != 0 && (s.people < leastPeople || s.people > 10_000_000):
		return s, fmt.Errorf("people must be 0, or %d to 10,000,000", leastPeople)
	case s.different < s.conns || s.different > mostVisitors:
		return s, fmt.Errorf("visitors must be as many as conns, at most %d: more are not at hand", mostVisitors)
	case s.sessions != 0 && (s.sessions < fewOf*perPerson*s.different || s.sessions > 20_000_000):
		return s, fmt.Errorf("sessions must be 0, or %d times as many as visitors, at most 20,000,000", fewOf*perPerson)
	case s.url != "" && (s.app == "" || s.cookie == "" || !strings.HasPrefix(s.url, "http://")):
		return s, errors.New("-url (http://…) needs -app, which it is a proxy to, and -cookie")
	}
	return s, nil
}

// errNotCounted is the result of a run in which something was not as it must
// be.
var errNotCounted = errors.New("some rows do not count, see above")

// execute runs the benchmark and reports to out.
func execute(args []string, out io.Writer) error {
	s, err := readSettings(args)
	if err != nil {
		return err
	}
	results, err := measure(s)
	if err != nil {
		return err
	}
	if s.json {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(results)
	} else {
		err = results.print(out)
	}
	if err == nil && len(results.Faults) > 0 {
		err = errNotCounted
	}
	return err
}
