package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

func TestMain(m *testing.M) {
	if play() {
		return
	}
	os.Exit(m.Run())
}

// TestBenchRuns runs all of it but the multitude and the stored sessions, for
// moments: so that it can't rot unseen.
func TestBenchRuns(t *testing.T) {
	s, err := readSettings([]string{"-rounds", "1", "-seconds", "0.1", "-conns", "2", "-flood", "300", "-people", "0",
		"-visitors", "20", "-sessions", "0"})
	if err != nil {
		t.Fatal(err)
	}
	s.idle, s.benchtime, s.crowds = 0, "100x", t.TempDir()
	r, err := measure(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range r.Faults {
		t.Error(fault)
	}
	var table bytes.Buffer
	if err := r.print(&table); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(table.String(), "not measured") || len(r.Targets) != 27 {
		t.Errorf("something was not measured:\n%s", table.String())
	}
	if _, err := json.Marshal(r); err != nil {
		t.Errorf("as JSON: %v", err)
	}
}

func TestRoundWithAWrongHeaderDoesNotCount(t *testing.T) {
	a := newApp()
	told := []map[string]string{{"Remote-User": "u0"}, {"Remote-User": "u1"}}
	for name, c := range map[string]struct {
		expect expectation
		path   string
		header http.Header
		right  bool
	}{
		"right":             {expectation{Headers: told, Cookie: theme}, "/v/1/dashboard", http.Header{"Remote-User": {"u1"}, "Cookie": {theme}}, true},
		"another's":         {expectation{Headers: told, Cookie: theme}, "/v/1/dashboard", http.Header{"Remote-User": {"u0"}, "Cookie": {theme}}, false},
		"none":              {expectation{Headers: told, Cookie: theme}, "/v/1/dashboard", http.Header{"Cookie": {theme}}, false},
		"twice":             {expectation{Headers: told, Cookie: theme}, "/v/1/dashboard", http.Header{"Remote-User": {"u1", "u1"}, "Cookie": {theme}}, false},
		"one too many":      {expectation{Headers: told, Cookie: theme}, "/v/1/dashboard", http.Header{"Remote-User": {"u1"}, "Remote-Email": {"e"}, "Cookie": {theme}}, false},
		"the session, too":  {expectation{Headers: told, Cookie: theme}, "/v/1/dashboard", http.Header{"Remote-User": {"u1"}, "Cookie": {theme + "; login=x"}}, false},
		"nobody's path":     {expectation{Headers: told, Cookie: theme}, "/v/2/dashboard", http.Header{"Cookie": {theme}}, false},
		"plain":             {expectation{}, "/v/1/dashboard", http.Header{"Cookie": {theme + "; login=x"}}, true},
		"plain, with names": {expectation{}, "/v/1/dashboard", http.Header{"Remote-User": {"u1"}}, false},
	} {
		_, _ = a.begin(c.expect)
		r := httptest.NewRequest(http.MethodGet, c.path, nil)
		r.Header = c.header
		a.ServeHTTP(httptest.NewRecorder(), r)
		got, _ := a.end(struct{}{})
		if got.Requests != 1 || (got.Wrong == 0) != c.right {
			t.Errorf("%s: %+v", name, got)
		}
		arm := &arm{forwards: true}
		if fault := arm.fault(outcome{Answers: 1}, got); (fault == "") != c.right {
			t.Errorf("%s: the turn's fault is %q", name, fault)
		}
	}
}

func TestRoundCountsOnlyWhatTheAppSaw(t *testing.T) {
	for name, c := range map[string]struct {
		forwards bool
		out      outcome
		at       seen
		right    bool
	}{
		"all":                   {true, outcome{Answers: 10}, seen{Requests: 10}, true},
		"one missing":           {true, outcome{Answers: 10}, seen{Requests: 9}, false},
		"one too many":          {true, outcome{Answers: 10}, seen{Requests: 11}, false},
		"nothing":               {true, outcome{}, seen{}, false},
		"a wrong answer":        {true, outcome{Answers: 10, Wrong: 1}, seen{Requests: 10}, false},
		"redirected":            {false, outcome{Answers: 10}, seen{}, true},
		"redirected, yet there": {false, outcome{Answers: 10}, seen{Requests: 1}, false},
		"a stream nobody has":   {true, outcome{Answers: 10}, seen{Requests: 10, Opened: 1}, false},
	} {
		a := &arm{forwards: c.forwards}
		if fault := a.fault(c.out, c.at); (fault == "") != c.right {
			t.Errorf("%s: %q", name, fault)
		}
	}
}

func TestGeneratorNoticesWrongAnswers(t *testing.T) {
	answer := func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/missing":
			w.WriteHeader(http.StatusNotFound)
		case "/short":
			_, _ = w.Write(body[:1000])
		default:
			_, _ = w.Write(body)
		}
	}
	server := httptest.NewServer(http.HandlerFunc(answer))
	defer server.Close()
	for path, right := range map[string]bool{"/": true, "/missing": false, "/short": false} {
		out, err := new(generator).run(order{
			Address:  server.Listener.Addr().String(),
			Requests: [][]byte{[]byte("GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n")},
			Duration: 50 * time.Millisecond, Status: "HTTP/1.1 200 ", Length: len(body),
		})
		if err != nil || out.Answers == 0 || (out.Wrong == 0) != right {
			t.Errorf("%s: %+v, %v", path, out, err)
		}
	}
}

func TestRatiosAreOfOneRound(t *testing.T) {
	s := newSection("here", []*arm{{name: armGate}, {name: armPlain}})
	s.add(map[string]*turn{armGate: {CPU: 2}, armPlain: {CPU: 1}})
	s.add(map[string]*turn{armGate: {CPU: 900}})
	s.add(map[string]*turn{armGate: {CPU: 30}, armPlain: {CPU: 10}})
	s.add(map[string]*turn{armGate: {CPU: 400}, armPlain: {CPU: 100}})
	s.compare()
	if len(s.Ratios) != 1 || s.Ratios[0].CPU != (spread{Median: 3, Low: 2, High: 4}) {
		t.Errorf("%+v", s.Ratios)
	}
}

func TestWrongFlagsAreRefused(t *testing.T) {
	for _, args := range [][]string{
		{"now"}, {"-rounds", "0"}, {"-seconds", "0"}, {"-conns", "151"}, {"-flood", "0"}, {"-people", "10"}, {"-only", "signed-in,nothing"},
		{"-visitors", "31"}, {"-visitors", "20001"}, {"-sessions", "499999"}, {"-url", "http://a"}, {"-url", "https://a", "-app", "b:1", "-cookie", "c=d"},
	} {
		if err := execute(args, io.Discard); err == nil {
			t.Errorf("%q was taken", args)
		}
	}
}

func TestBenchmarksAreRead(t *testing.T) {
	got := readBenchmarks("goos: linux\nBenchmarkGate/SignedIn-2 \t 1 \t 1000 ns/op\t 352 B/op\t 1 allocs/op\n" +
		"BenchmarkGate/SignedIn-2 \t 1 \t 3000 ns/op\t 352 B/op\t 1 allocs/op\nPASS\n")
	want := goBenchmark{Name: "SignedIn", Microseconds: spread{Median: 2, Low: 1, High: 3}, Bytes: 352, Allocations: 1}
	if len(got) != 1 || got[0] != want {
		t.Errorf("%+v", got)
	}
}

// With a little less memory than plain Caddy the gate was "not measured".
func TestLessIsAMeasurement(t *testing.T) {
	if got := exactly(-3.1); !got.known() || got.String() != "-3.10 (-3.10–-3.10)" {
		t.Errorf("%s", got)
	}
	if new(spread).known() {
		t.Error("nothing is a measurement")
	}
}

// TestWarmLogInMakesOneCallAndTwoUpdates: to spend the attempt, and to let the
// person in. Signing out makes two, too: to end the session, and to write it down.
// What the provider says of itself is fetched once. By email there is
// one update more, to begin with, and no call.
func TestWarmLogInMakesOneCallAndTwoUpdates(t *testing.T) {
	r := measuredLogIns(t)
	type counts struct{ updates, discovery, keys, token, userinfo float64 }
	for name, want := range map[string]counts{
		logInCold: {2, 1, 1, 1, 0}, logInFirst: {2, 0, 0, 1, 0}, logInReturn: {2, 0, 0, 1, 0},
		logInLean: {2, 0, 0, 1, 0}, logInKeep: {2, 0, 0, 1, 0}, logInRequest: {}, logInOut: {updates: 1}, logInOutKeep: {updates: 1},
		logInAsk: {updates: 1}, logInAskNone: {updates: 1}, logInAskAgain: {updates: 1}, logInPages: {},
		logInWrong: {updates: 1}, logInWrongNone: {updates: 1}, logInCode: {updates: 2}, logInCodeAgain: {updates: 2},
	} {
		turns := r.row(name).Turns
		if len(turns) != 1 {
			t.Errorf("%s: %d turns", name, len(turns))
			continue
		}
		calls := turns[0].Calls
		if got := (counts{turns[0].Store[updates], calls.Discovery, calls.Keys, calls.Token, calls.UserInfo}); got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	if fresh, known := r.row(logInFirst).Turns[0].Store, r.row(logInReturn).Turns[0].Store; fresh[puts] <= known[puts] || known[given] == 0 {
		t.Errorf("somebody new: %v, somebody known: %v", fresh, known)
	}
}

// TestNoMailCostsTheStoreWhatAMailDoes: else the disk would tell who is known.
func TestNoMailCostsTheStoreWhatAMailDoes(t *testing.T) {
	r := measuredLogIns(t)
	for of, to := range map[string]string{logInAskNone: logInAsk, logInWrongNone: logInWrong} {
		none, mailed := r.row(of).Turns[0].Store, r.row(to).Turns[0].Store
		for _, what := range []int{updates, views, puts, deletes, reads} {
			if none[what] != mailed[what] {
				t.Errorf("%s: %v, %s: %v", of, none, to, mailed)
			}
		}
	}
}

// measuredLogIns are those of one round, of two people.
func measuredLogIns(t *testing.T) *logIns {
	t.Helper()
	b := prepared(t, "-rounds", "1", "-conns", "2")
	if err := b.measureLogIns(); err != nil {
		t.Fatal(err)
	}
	for _, fault := range b.results.Faults {
		t.Error(fault)
	}
	return b.results.LogIns
}

// Each figure is of both towns, in each round, and the store was asked for no
// more than is needed: else it is a fault.
func TestMultitudeIsComparedWithAFew(t *testing.T) {
	b := prepared(t, "-rounds", "2", "-conns", "3", "-seconds", "0.05", "-people", "2000")
	b.crowds = t.TempDir()
	if err := b.measureMultitude(); err != nil {
		t.Fatal(err)
	}
	for _, fault := range b.results.Faults {
		t.Error(fault)
	}
	m := b.results.Multitude
	for _, row := range m.Rows {
		if len(row.Many) == 0 || len(row.Many) != len(row.Few) {
			t.Errorf("%s: %d figures of many, %d of few", row.Name, len(row.Many), len(row.Few))
		}
	}
	b.results.judgeMultitude()
	if len(b.results.Targets) != 4 {
		t.Errorf("%d targets", len(b.results.Targets))
	}
	for _, target := range b.results.Targets {
		if !target.Got.known() {
			t.Errorf("%s was not measured", target.What)
		}
	}
	if !m.Anew || m.People != 2000 || m.Sessions != 400 || m.Few != 400 || m.Saving == nil || m.Saving.Bytes == 0 {
		t.Errorf("%+v", m)
	}
}

func prepared(t *testing.T, args ...string) *bench {
	t.Helper()
	s, err := readSettings(args)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{settings: s, results: newResults(s), dir: t.TempDir()}
	if err := b.prepare(); err != nil {
		t.Fatal(err)
	}
	return b
}

// Everybody together may ask for a thousand codes at once, and for two more a
// second. The visitors asked for one each.
func TestFloodIsTurnedAway(t *testing.T) {
	b := prepared(t, "-rounds", "1", "-conns", "2", "-seconds", "0.1", "-flood", "1500")
	began := time.Now()
	if err := b.measureFlood(); err != nil {
		t.Fatal(err)
	}
	for _, fault := range b.results.Faults {
		t.Error(fault)
	}
	f, most := b.results.Flood, 1000+2*int64(time.Since(began).Seconds()+1)
	if f.Asks != 1500 || f.Admitted < 998 || f.Admitted > most {
		t.Errorf("of %d asks %d were admitted, at most %d may be", f.Asks, f.Admitted, most)
	}
	if grown := f.After.Alive - f.Before.Alive; f.Before.Alive == 0 || f.Before.Disk == 0 || grown > mostHeap || f.After.Disk > mostDisk {
		t.Errorf("the flood left %+v of %+v", f.After, f.Before)
	}
}

// What the flood costs beside plain reverse_proxy is the flood's; what more it
// costs beside the signed-in is theirs.
func TestCostBesideAFloodIsWithoutTheFloods(t *testing.T) {
	r := floodRound{
		asks:  100,
		plain: &turn{CPU: 50, Requests: 1000}, plainBeside: &turn{CPU: 75, Requests: 800},
		signedIn: &turn{CPU: 60, Requests: 900}, signedInBeside: &turn{CPU: 110, Requests: 500},
	}
	if r.ask() != 200 || r.quiet() != 60 || r.beside() != 70 {
		t.Errorf("an ask costs %g, a request %g and beside them %g", r.ask(), r.quiet(), r.beside())
	}
}

func TestMailForWhoAskedForNoneDoesNotCount(t *testing.T) {
	told := map[string]string{"ada@example.com": "123456", "eve@elsewhere.test": "654321"}
	server := httptest.NewServer(answers(func(int) (map[string]string, error) { return told, nil }))
	defer server.Close()
	l := &lobby{proxy: &proxy{process: &process{control: server.URL}}}
	ada := &caller{subject: "ada", site: &site{domain: invited}, waits: true}
	eve := &caller{subject: "eve", site: &site{domain: uninvited}}
	if l.collect([]*caller{ada, eve}) == nil {
		t.Error("eve's mail was taken for hers")
	}
	delete(told, "eve@elsewhere.test")
	ada.code, ada.waits = "", true
	if err := l.collect([]*caller{ada, eve}); err != nil {
		t.Fatal(err)
	}
	if ada.isMailed() != nil || ada.isNotMailed() == nil || eve.isMailed() == nil || eve.isNotMailed() != nil {
		t.Errorf("ada has %q, eve %q", ada.code, eve.code)
	}
}

func TestBoxHoldsTheLastCodes(t *testing.T) {
	b := newBox()
	for i := range kept + 10 {
		b.put(fmt.Sprintf("u%d@example.com", i), "111111")
	}
	b.put("u0@example.com", "222222")
	codes, err := b.fetch(kept)
	if err != nil || len(codes) != kept || codes["u0@example.com"] != "222222" {
		t.Errorf("%d codes, the last is %q (error: %v)", len(codes), codes["u0@example.com"], err)
	}
	fetched := make(chan map[string]string)
	go func() {
		codes, _ := b.fetch(2)
		fetched <- codes
	}()
	b.put("a@example.com", "1")
	b.put("b@example.com", "2")
	if codes := <-fetched; len(codes) != 2 {
		t.Errorf("waited for two codes, %d came", len(codes))
	}
}

func TestMailWithoutACodeIsNone(t *testing.T) {
	for text, code := range map[string]string{
		"Sign in\n\n@app.test #123456": "123456", "@app.test #1234567890": "1234567890", "Sign in #1\n\nBye": "", "": "",
	} {
		err := new(mailer).Send(context.Background(), guest.Message{To: "ada@example.com", Text: text})
		if got := codeOf(text); got != code || (err == nil) != (code != "") {
			t.Errorf("%q: code %q, error %v", text, got, err)
		}
	}
}

func TestLogInAsSomebodyElseDoesNotCount(t *testing.T) {
	l := &lobby{met: map[string]string{"ada": "u0", "bob": "u1"}}
	for name, c := range map[string]struct {
		as    func(*caller) error
		who   caller
		right bool
	}{
		"known":              {l.isKnown, caller{subject: "ada", id: "u0"}, true},
		"known, as another":  {l.isKnown, caller{subject: "ada", id: "u1"}, false},
		"known, never met":   {l.isKnown, caller{subject: "eve", id: "u2"}, false},
		"new":                {l.isNew, caller{subject: "cyd", id: "u3"}, true},
		"new, as another":    {l.isNew, caller{subject: "dan", id: "u1"}, false},
		"new, though not so": {l.isNew, caller{subject: "ada", id: "u9"}, false},
	} {
		if err := c.as(&c.who); (err == nil) != c.right {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSignOutThatEndsNothingDoesNotCount(t *testing.T) {
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Cookie") == "login=old" {
			w.WriteHeader(status)
		}
	}))
	defer server.Close()
	s := &site{address: server.Listener.Addr().String(), stranger: server.Client()}
	c := &caller{site: s, cookie: "old"}
	if c.isOut() == nil {
		t.Error("the session still works")
	}
	status = http.StatusFound
	if err := c.isOut(); err != nil {
		t.Error(err)
	}
	if c.cookie = ""; c.isOut() == nil {
		t.Error("there was no session to end")
	}
}

func TestStoreCountsWhatBecameDurable(t *testing.T) {
	store := countedStore{logintest.Store(t).(guest.Archive)}
	write := func(end error) error {
		return store.Update(context.Background(), func(tx guest.Tx) error {
			_, err := tx.Get([]byte("bench/none"))
			if !errors.Is(err, guest.ErrNotFound) {
				return err
			}
			return errors.Join(tx.Put([]byte("bench/a"), []byte("12345"), time.Time{}), tx.Delete([]byte("bench/b")), end)
		})
	}
	before := totalNow()
	if write(errors.New("given up")) == nil {
		t.Fatal("an update that was given up was done")
	}
	if got := totalNow().since(before); got != (tally{}) {
		t.Errorf("an update that was given up counts %v", got)
	}
	if err := write(nil); err != nil {
		t.Fatal(err)
	}
	if got, want := totalNow().since(before), (tally{updates: 1, reads: 1, puts: 1, deletes: 1, given: 12}); got != want {
		t.Errorf("counted %v, want %v", got, want)
	}
	err := store.View(context.Background(), func(tx guest.Tx) error {
		return tx.Scan([]byte("bench/"), nil, 0, func(_, _ []byte) bool { return true })
	})
	if got := totalNow().since(before); err != nil || got[views] != 1 || got[reads] != 2 {
		t.Errorf("a scan of one key makes it %v (error: %v)", got, err)
	}
}

// TestKeeperIsTheHouses: else what comes round would be charged to a turn.
func TestKeeperIsTheHouses(t *testing.T) {
	ports, err := freePorts(2)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PORT", strconv.Itoa(ports[0]))
	t.Setenv("PORT_ADMIN", strconv.Itoa(ports[1]))
	t.Setenv("PROVIDER", "http://127.0.0.1:1")
	t.Setenv("APP", "127.0.0.1:1")
	t.Setenv("BENCH_SECRET", clientSecret)
	t.Setenv("STORE", t.TempDir())
	caddyfile := strings.Replace(townSites, "persist_config off\n", "persist_config off\n\tstorage file_system "+t.TempDir()+"\n\tlog {\n\t\toutput discard\n\t}\n", 1)
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(config, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	e2e.Eventually(t, time.Minute, keeper+" to run", func() bool {
		all := make([]byte, 1<<20)
		return bytes.Contains(all[:runtime.Stack(all, true)], []byte("\n"+keeper+"("))
	})
	if ctx := context.Background(); comesRound(ctx) || comesRound(context.WithValue(ctx, http.ServerContextKey, new(http.Server))) {
		t.Error("a test is taken for the keeper")
	}
}
