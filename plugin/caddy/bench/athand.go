package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"time"
)

// visitorsAtHand is what the signed-in path costs besides CPU: of one session,
// and of very many different ones.
type visitorsAtHand struct {
	Sessions int        `json:"sessions"`
	Rows     []*pathRow `json:"rows"`
}

// pathRow is of one arm, for each request.
type pathRow struct {
	Name string `json:"name"`
	// Asked is how often the store was asked, Signed how many assertions were made,
	// both for a thousand requests.
	Asked  spread `json:"store_asked_per_1000"`
	Signed spread `json:"assertions_signed_per_1000"`
	// Waited is how long requests waited for a lock that our code held, Elsewhere
	// for any other's, in nanoseconds: as the profile of mutexes has it, in turns of
	// their own on all processors. Most is the function of ours that was waited for
	// longest.
	Waited    spread `json:"waited_for_us_ns"`
	Elsewhere spread `json:"waited_for_others_ns"`
	Most      string `json:"waited_for_most"`
}

// The arms' names, as they are reported.
const (
	armFloorOne  = "floor, one session"
	armFloorMany = "floor, each request another's"
	armGateOne   = "gate, one session"
	armGateIdle  = "gate, one session, the others idle"
	armGateMany  = "gate, each request another's"
)

var (
	visitorPairs = []pair{
		{armGateMany, armGateOne, 1.02}, {armGateMany, armGateIdle, 0}, {armGateIdle, armGateOne, 0},
		{armFloorMany, armFloorOne, 0}, {armGateOne, armFloorOne, 1.03}, {armGateMany, armFloorMany, 1.03},
	}
	visitorPairsAsTheyAre = []pair{{armGateMany, armGateOne, 1.02}}
)

const (
	// mostVisitors has room in what a process keeps at hand.
	mostVisitors = 20_000
	// lockTurns is how many turns of each arm are looked at for locks.
	lockTurns = 3
)

// crowdSite lets a crowd in, and calls no provider.
const crowdSite = "{" + options + `
	login {
		store bench_counted {$STORE}
	}
}
http://localhost:{$PORT} {
	bind 127.0.0.1
	login {
		oidc bench bench-client {env.BENCH_SECRET} {
			issuer ` + crowdIssuer + `
			auth_url ` + crowdIssuer + `/authorize
			token_url ` + crowdIssuer + `/token
			jwks_url ` + crowdIssuer + `/keys
			groups groups
		}
		role staff *@example.com
		allow *@example.com
	}
	reverse_proxy {$APP}
}
`

// startHouse starts a gate with a copy of this crowd.
func (b *bench) startHouse(name string, c *crowd) (*proxy, error) {
	dir := filepath.Join(b.dir, name)
	if err := c.copyTo(dir); err != nil {
		return nil, err
	}
	return b.startGateOn(name, dir)
}

// startGateOn starts a gate with the store in this directory. It ends with the
// others.
func (b *bench) startGateOn(name, dir string) (*proxy, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	return b.startFurther(launch{name: name, port: ports[0], caddyfile: crowdSite, env: []string{"STORE=" + dir, "BENCH_SECRET=" + clientSecret}})
}

// greet asks once with each of these sessions, one after the other, so that they
// are at hand, and returns what the app was told of them.
func greet(p *proxy, known []acquaintance) (all []visitor, err error) {
	browser := &http.Client{Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer browser.CloseIdleConnections()
	for _, a := range known {
		received, err := echoOf(browser, p.address, a.Cookie)
		if err != nil {
			return nil, fmt.Errorf("greeting %s: %w", a.Subject, err)
		}
		v := visitor{a.Cookie, toldOf(received)}
		if v.headers["Remote-User"] != string(a.ID) {
			return nil, fmt.Errorf("greeting %s: the app was told of %q, not %q", a.Subject, v.headers["Remote-User"], a.ID)
		}
		all = append(all, v)
	}
	return all, nil
}

// echoOf is what the app receives of a request with this session.
func echoOf(browser *http.Client, address, cookie string) (received http.Header, err error) {
	r, err := http.NewRequest(http.MethodGet, "http://"+address+echoPath, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "text/html")
	r.Header.Set("Cookie", "login="+cookie)
	res, err := browser.Do(r)
	if err != nil {
		return nil, err
	}
	text, err := readAll(res)
	if err == nil && res.StatusCode != http.StatusOK {
		err = errors.New(res.Status)
	}
	if err != nil {
		return nil, err
	}
	return received, json.Unmarshal(text, &received)
}

// keep has the app know these visitors by a name, and the generator their requests
// to a proxy. Whether an assertion is there is looked at, not what it says.
func (b *bench) keep(name string, p *proxy, visitors []visitor) (*arm, error) {
	told := expectation{Cookie: theme}
	kept := requests{Name: name}
	for i, v := range visitors {
		told.Headers = append(told.Headers, v.headers)
		kept.Requests = append(kept.Requests, fmt.Appendf(nil, chrome, pathOf(i), p.address, theme+"; login="+v.cookie))
	}
	if err := b.app.ask("/keep", expectations{name, told}, nil); err != nil {
		return nil, err
	}
	if err := b.load.ask("/keep", kept, nil); err != nil {
		return nil, err
	}
	return &arm{name: name, proxy: p, forwards: true, expect: expectation{Kept: name}, order: order{
		Address: p.address, Kept: name, Conns: b.conns, Status: "HTTP/1.1 200 ", Length: len(body), Duration: b.length(),
	}}, nil
}

// measureVisitors compares one session, that all connections share, with very many.
func (b *bench) measureVisitors() error {
	c, err := crowdIn(b.crowds, b.different, b.different, b.different)
	if err != nil {
		return err
	}
	defer b.stop()
	if err := b.startOthers(mask{}); err != nil {
		return err
	}
	arms, err := b.visitorArms(c)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("one session, and %d in turn", b.different)
	asTheyAre, err := b.compareAsTheyAre(name+", collecting as Go likes to", gatesOf(arms), visitorPairsAsTheyAre)
	if err != nil {
		return err
	}
	even, err := b.compareArms(name, arms, visitorPairs)
	if err != nil {
		return err
	}
	b.results.Sections = append(b.results.Sections, even, asTheyAre)
	return b.countPath(even, gatesOf(arms))
}

// gatesOf are the arms of one session and of many at gates of their own.
func gatesOf(arms []*arm) (gates []*arm) {
	for _, a := range arms {
		if a.name == armGateOne || a.name == armGateMany {
			gates = append(gates, a)
		}
	}
	return gates
}

// visitorArms are all of one and of very many, each with a process of its own: so
// what is kept at hand for many costs them alone. One comes to the gate of many by
// themselves, too.
func (b *bench) visitorArms(c *crowd) ([]*arm, error) {
	one, _, err := b.visitorArmsOf(c, 1, armFloorOne, armGateOne)
	if err != nil {
		return nil, err
	}
	many, visitors, err := b.visitorArmsOf(c, len(c.Known), armFloorMany, armGateMany)
	if err != nil {
		return nil, err
	}
	idle, err := b.keep(armGateIdle, many[1].proxy, visitors[:1])
	if err != nil {
		return nil, err
	}
	return []*arm{one[0], one[1], many[0], idle, many[1]}, nil
}

// visitorArmsOf are a floor and a gate that n of those known come to, and who they
// are.
func (b *bench) visitorArmsOf(c *crowd, n int, floorName, gateName string) ([]*arm, []visitor, error) {
	gate, err := b.startHouse(fmt.Sprintf("gate-of-%d", n), c)
	if err != nil {
		return nil, nil, err
	}
	visitors, err := greet(gate, c.Known[:n])
	if err != nil {
		return nil, nil, err
	}
	ports, err := freePorts(1)
	if err != nil {
		return nil, nil, err
	}
	floor, err := b.startFloorOf(fmt.Sprintf("floor-of-%d", n), visitors, mask{}, ports[0])
	if err != nil {
		return nil, nil, err
	}
	atFloor, err1 := b.keep(floorName, floor, visitors)
	atGate, err2 := b.keep(gateName, gate, visitors)
	return []*arm{atFloor, atGate}, visitors, errors.Join(err1, err2)
}

// countPath tells of these arms what the rounds have counted, and looks at
// the locks.
func (b *bench) countPath(s *section, arms []*arm) error {
	r := &visitorsAtHand{Sessions: b.different}
	b.results.Visitors = r
	for _, a := range arms {
		row := &pathRow{
			Name: a.name, Asked: s.counted(a.name, func(t *turn) float64 { return 1000 * t.Asked }),
			Signed: s.counted(a.name, func(t *turn) float64 { return 1000 * t.Signed }),
		}
		if err := b.watchLocks(a, row); err != nil {
			return fmt.Errorf("watching locks: %w", err)
		}
		r.Rows = append(r.Rows, row)
	}
	return nil
}

// watchLocks takes turns with an eye on the locks.
func (b *bench) watchLocks(a *arm, row *pathRow) error {
	var ours, others []float64
	for range lockTurns {
		var before, after waits
		if err := a.proxy.ask("/locks", true, &before); err != nil {
			return err
		}
		t, err := b.turn(a)
		if err != nil {
			return err
		}
		if err := a.proxy.ask("/locks", false, &after); err != nil {
			return err
		}
		if t.fault != "" {
			b.results.fault("locks, "+a.name, t.fault)
			continue
		}
		waited := after.since(before)
		ours = append(ours, float64(waited.Ours)/float64(t.Requests))
		others = append(others, float64(waited.Others)/float64(t.Requests))
		row.Most = after.Most
	}
	row.Waited, row.Elsewhere = countsOf(ours), countsOf(others)
	return nil
}

// judgeVisitors: once a session is at hand, a request reads nothing, signs nothing
// and waits for nobody.
func (r *results) judgeVisitors() {
	if r.Visitors == nil {
		return
	}
	for _, row := range r.Visitors.Rows {
		r.target("the store is asked, times in 1000 requests, "+row.Name, 0, row.Asked)
		r.target("assertions signed in 1000 requests, "+row.Name, 0, row.Signed)
		r.target("waited for a lock of ours, ns per request, "+row.Name, 1, row.Waited)
	}
}

func (r *results) printVisitors(w io.Writer) {
	if r.Visitors == nil {
		return
	}
	fmt.Fprintf(w, "\nA REQUEST WITH A SESSION AT HAND, one or %d\tthe store asked/1000\tsigned/1000\twaited for us, ns\tfor others, ns\tfor most\n", r.Visitors.Sessions)
	for _, row := range r.Visitors.Rows {
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\t%s\n", row.Name, row.Asked, row.Signed, row.Waited, row.Elsewhere, row.Most)
	}
}
