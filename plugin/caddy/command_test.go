package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
	"github.com/caddy-login/caddy-login/module/logintest/inbox"
)

// login runs `caddy login …` against this Caddy.
func (s *stage) login(args ...string) (string, error) {
	return s.Command(append([]string{"login", "--address", fmt.Sprintf("127.0.0.1:%d", s.AdminPort)}, args...)...)
}

// says runs a command that must work, and fails the test for each of wanted that
// it does not print.
func (s *stage) says(t *testing.T, command string, wanted ...string) string {
	t.Helper()
	out, err := s.login(strings.Fields(command)...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	for _, want := range wanted {
		if !strings.Contains(out, want) {
			t.Errorf("%s does not say %q:\n%s", command, want, out)
		}
	}
	return out
}

// refuses runs a command that must not work, and say why in one line.
func (s *stage) refuses(t *testing.T, command string, wanted ...string) {
	t.Helper()
	out, err := s.login(strings.Fields(command)...)
	if err == nil {
		t.Errorf("%s works:\n%s", command, out)
	}
	if n := strings.Count(out, "\n"); n != 1 {
		t.Errorf("%s: %d lines:\n%s", command, n, out)
	}
	for _, want := range wanted {
		if !strings.Contains(out, want) {
			t.Errorf("%s does not say %q:\n%s", command, want, out)
		}
	}
}

// decoded runs a command with --json, whose output must be one document.
func (s *stage) decoded(t *testing.T, command string, v any) {
	t.Helper()
	out := s.says(t, command+" --json")
	if err := json.Unmarshal([]byte(out), v); err != nil {
		t.Errorf("%s: %v in %s", command, err, out)
	}
}

func TestCommandsOnUsers(t *testing.T) {
	s := play(t, usual)
	ada := s.signedIn(t, e2e.Ada)
	id := s.idOf(t, "ada@example.com")
	list := s.says(t, "users list", "ID ", "STATE", id, "active", "ada@example.com", "Ada Lovelace", "everybody,external-users", "CREATED")
	if lines := strings.Split(list, "\n"); strings.Index(lines[0], "ADDRESS") != strings.Index(lines[1], "ada@example.com") {
		t.Errorf("not aligned:\n%s", list)
	}
	var known file
	s.decoded(t, "users show "+id, &known)
	for _, who := range []string{id, "ada@example.com", "op:" + known.Accounts[0].Subject} {
		s.says(t, "users show "+who, id, "ADDRESSES", "ACCOUNTS", "SESSIONS", "app.test", "proven", "primary", s.provider.Issuer)
	}

	s.says(t, "users groups ada@example.com", "everybody\nexternal-users\n")
	s.says(t, "users groups ada@example.com add crew board", "board\ncrew\neverybody")
	s.says(t, "users groups ada@example.com remove external-users board", "crew\neverybody\n")
	s.says(t, "users groups ada@example.com set one", "one\n")
	var groups struct{ Groups []string }
	s.decoded(t, "users groups "+id, &groups)
	if fmt.Sprint(groups.Groups) != "[one]" {
		t.Errorf("groups %v", groups)
	}

	s.says(t, "users disable ada@example.com", "is disabled")
	if s.isIn(ada) {
		t.Error("she is in")
	}
	s.says(t, "users enable ada@example.com", "may sign in again")
	s.says(t, "users show "+id, "disabled", "enabled", "groups changed", "operator")

	s.says(t, "users add new@example.com --name Newton --group crew", "new@example.com")
	s.says(t, "users list", "new@example.com (not proven)", "Newton", "crew,everybody")
	s.says(t, "users show new@example.com", "not proven", "by operator", "provisioned")

	s.says(t, "users delete ada@example.com --yes", "is deleted")
	if strings.Contains(s.says(t, "users list"), id) {
		t.Error("she is listed")
	}
}

func TestCommandsOnSessions(t *testing.T) {
	s := play(t, usual)
	first, second := s.signedIn(t, e2e.Ada), s.signedIn(t, e2e.Ada)
	grace := s.signedIn(t, e2e.Grace)
	s.says(t, "sessions list", "HANDLE", "app.test", "op")
	var list struct{ Sessions []struct{ Handle string } }
	s.decoded(t, "sessions list --user ada@example.com", &list)
	if len(list.Sessions) != 2 {
		t.Fatalf("%+v", list)
	}
	s.says(t, "sessions end "+list.Sessions[0].Handle, "1 session ended")
	if s.isIn(first) == s.isIn(second) {
		t.Error("both or neither ended")
	}
	s.says(t, "sessions end --user ada@example.com", "1 session ended")
	if s.isIn(first) || s.isIn(second) || !s.isIn(grace) {
		t.Error("wrong sessions ended")
	}
	if out := s.says(t, "sessions list --all --json"); strings.Count(out, "\n") != 1 || !json.Valid([]byte(out)) {
		t.Errorf("not one line for one session: %q", out)
	}
}

func TestMistakesOfCommandsNameTheCure(t *testing.T) {
	s := play(t, usual)
	s.signedIn(t, e2e.Ada)
	s.refuses(t, "users show nobody@example.com", "nobody is", "users list")
	s.refuses(t, "users show op:nobody", "nobody is")
	s.refuses(t, "users disable aaaaaaaaaaaaaaaaaaaaaaaaaa", "nobody is")
	s.refuses(t, "users delete ada@example.com", "--yes")
	s.refuses(t, "users add ada@example.com", "somebody else holds this address")
	s.refuses(t, "users add nowhere", "no address")
	s.refuses(t, "users groups ada@example.com give crew", "set, add or remove")
	s.refuses(t, "users groups ada@example.com add", "which group")
	s.refuses(t, "users list --limit 0", "1 to 1000")
	s.refuses(t, "users lst", "list, show, add")
	s.refuses(t, "user", "users, sessions")
	s.refuses(t, "sessions end", "--user")
	s.refuses(t, "sessions end aaaaaaaaaaaaaaaa", "no such live session")
	s.refuses(t, "restore nowhere.backup --yes", "no such file")
	s.refuses(t, "restore Caddyfile", "--yes")
	s.idOf(t, "ada@example.com")

	if out, err := s.Command("login", "users", "list", "--address", "127.0.0.1:1"); err == nil || !strings.Contains(out, "is Caddy running") {
		t.Errorf("no Caddy there: %v\n%s", err, out)
	}
	// As `caddy reload`: the Caddyfile of this directory says where.
	if out, err := s.Command("login", "users", "list"); err != nil || !strings.Contains(out, "ada@example.com") {
		t.Errorf("the adjacent Caddyfile: %v\n%s", err, out)
	}
	s.Reload("http://plain.test:{$PORT2} {\n\trespond hello\n}\n")
	s.refuses(t, "users list", "no login")
}

// What strangers write into their names must not steer the operator's terminal.
func TestNamesDoNotSteerTheTerminal(t *testing.T) {
	issuer := logintest.NewIssuer(t)
	name := "Eve\x1b[2J\x1b]0;owned\x07 \u202eadmin\u009b31m\u2066"
	issuer.Person(logintest.Person{Subject: "eve", Email: "eve@example.com", EmailVerified: true, Name: name})
	s := play(t, strings.ReplaceAll(usual, "{$ISSUER}", issuer.URL))
	issuer.Client("site", clientSecret, s.site+"/.login/op/callback")
	visitor := e2e.NewVisitor(t)
	begun := visitor.Get(s.site + "/.login/op?return=%2Fin")
	callback, _ := issuer.SignIn(t, http.DefaultClient, begun.Header.Get("Location"), "eve")
	visitor.Follow(callback.String())
	for _, command := range []string{"users list", "users list --json", "users show eve@example.com", "users list --all --json", "sessions list --json"} {
		out := s.says(t, command)
		for _, bad := range []string{"\x1b", "\x07", "\u202e", "\u009b", "\u2066"} {
			if strings.Contains(out, bad) {
				t.Errorf("%s prints %q:\n%q", command, bad, out)
			}
		}
		if strings.Contains(command, "users") && !strings.Contains(out, "Eve") {
			t.Errorf("%s does not name her:\n%q", command, out)
		}
	}
}

func TestDoctorFindsASoundHouse(t *testing.T) {
	mails := inbox.New(t)
	s := playWith(t, with("mail smtp {$MAIL} {\n\t\t\ttls none\n\t\t}"), map[string]string{"MAIL": mails.Addr})
	s.says(t, "doctor", "store", "free", "keys", s.site+"/.login/op/callback", "op", "the clocks are", "mail")
	var found struct {
		OK     bool
		Checks []struct{ About, Status, Detail string }
	}
	s.decoded(t, "doctor", &found)
	if !found.OK || len(found.Checks) < 5 {
		t.Errorf("%+v", found)
	}
}

func TestDoctorFindsWhatIsWrong(t *testing.T) {
	silent, closed := silentIssuer(t), closedIssuer(t)
	more := "oidc silent site x {\n\t\t\tissuer " + silent + "\n\t\t}\n\t\toidc closed site x {\n\t\t\tissuer " + closed + "\n\t\t}\n\t\t" +
		"mail smtp " + strings.TrimPrefix(closed, "http://") + " {\n\t\t\ttls none\n\t\t}"
	s := play(t, "{\n\tdebug\n}\n"+with(more))
	out, err := s.login("doctor")
	if err == nil || !strings.Contains(out, "look at silent, closed, mail") && !strings.Contains(out, "look at closed, silent, mail") {
		t.Errorf("%v\n%s", err, out)
	}
	begun := time.Now()
	// Without the time that the command itself takes to start.
	if got := s.operator(t, http.MethodGet, "doctor", ""); got.status != http.StatusOK || !strings.Contains(got.body, `"silent"`) || time.Since(begun) > 8*time.Second {
		t.Errorf("after %s: %d %s", time.Since(begun), got.status, got.body)
	}
	for _, want := range []string{"failed", "debug is on", "connection refused"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
}

func TestDoctorTellsAStoreThatAnotherHolds(t *testing.T) {
	first := play(t, usual)
	dir := filepath.Join(first.DataDir(), "login")
	second := playWith(t, "{\n\tlogin {\n\t\tstore badger {$DIR}\n\t}\n}\n"+usual, map[string]string{"DIR": dir})
	if out, err := second.login("doctor"); err == nil || !strings.Contains(out, "open in another process") {
		t.Errorf("%v\n%s", err, out)
	}
	second.refuses(t, "users list", "open in another process")
}

func TestBackupIsAFileOfTheOperatorsOwn(t *testing.T) {
	s := play(t, usual)
	s.signedIn(t, e2e.Ada)
	id := s.idOf(t, "ada@example.com")
	dir := t.TempDir()
	file := filepath.Join(dir, "login.backup")
	s.says(t, "backup "+file, "written to", file)
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() < 100 {
		t.Fatalf("%v, %v", info, err)
	}
	s.refuses(t, "backup "+file, "exists")
	s.refuses(t, "backup "+filepath.Join(dir, "nowhere", "x"), "no such file")
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
	stdout, err := s.login("backup", "-")
	if err != nil || len(stdout) < 100 {
		t.Errorf("%v, %d bytes", err, len(stdout))
	}
	var told struct {
		File  string
		Bytes int64
	}
	s.decoded(t, "backup "+filepath.Join(dir, "second.backup"), &told)
	if told.Bytes < 100 {
		t.Errorf("told %+v", told)
	}

	ada := s.signedIn(t, e2e.Ada)
	s.says(t, "users delete ada@example.com --yes")
	s.says(t, "restore "+file+" --yes", "restored")
	if s.isIn(ada) {
		t.Error("somebody is in")
	}
	if got := s.idOf(t, "ada@example.com"); got != id {
		t.Errorf("she was %s and is %s", id, got)
	}
	s.LogKeepsSecret("ada@example.com")

	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	short := filepath.Join(dir, "short.backup")
	if err := os.WriteFile(short, whole[:len(whole)-10], 0o600); err != nil {
		t.Fatal(err)
	}
	in := s.signedIn(t, e2e.Grace)
	s.refuses(t, "restore "+short+" --yes", "nothing was changed")
	if !s.isIn(in) {
		t.Error("it signed somebody out")
	}
}

// throng is how many users make a big house.
const throng = 200_000

func TestCommandsAreQuickInABigHouse(t *testing.T) {
	if testing.Short() {
		t.Skip("writes many users")
	}
	s := play(t, usual)
	s.signedIn(t, e2e.Ada)
	few := s.quickest(t, "users?limit=100")
	s.Stop()
	fill(t, filepath.Join(s.DataDir(), "login"))
	s.Restart()
	many := s.quickest(t, "users?limit=100")
	byAddress := s.quickest(t, "users?email=guest150000@example.com")
	shown := s.quickest(t, "users/"+s.idOf(t, "guest150000@example.com"))
	t.Logf("a page of 1 user %s, of 100 among %d %s; by address %s; shown %s", few, throng, many, byAddress, shown)
	begun := time.Now()
	out := s.says(t, "users list --all --json")
	if n := strings.Count(out, "\n"); n != throng+1 {
		t.Errorf("%d lines", n)
	}
	all := time.Since(begun)
	t.Logf("all of them as JSON in %s", all)
	// Who looked at all would be as slow, or nearly: however fast the machine is.
	if (byAddress+shown)*2000 > all {
		t.Errorf("showing a user by address takes %s", byAddress+shown)
	}
	if (many-few)*700 > all {
		t.Errorf("a page takes %s, and %s in an empty house", many, few)
	}

	file := filepath.Join(t.TempDir(), "big.backup")
	begun = time.Now()
	saved := s.says(t, "backup "+file)
	t.Logf("%s, in %s", strings.TrimSpace(saved), time.Since(begun))
	begun = time.Now()
	s.says(t, "restore "+file+" --yes")
	t.Logf("restored in %s", time.Since(begun))
	s.idOf(t, "guest150000@example.com")
}

// quickest is how long the fastest of some requests takes.
func (s *stage) quickest(t *testing.T, path string) time.Duration {
	t.Helper()
	best := time.Hour
	for range 10 {
		begun := time.Now()
		if got := s.operator(t, http.MethodGet, path, ""); got.status != http.StatusOK {
			t.Fatalf("%s: %d %s", path, got.status, got.body)
		}
		best = min(best, time.Since(begun))
	}
	return best
}

// fill writes a throng into a store that nobody has open.
func fill(t *testing.T, dir string) {
	t.Helper()
	store := logintest.StoreIn(t, dir)
	defer store.Close()
	const at = 1000
	for n := 0; n < throng; n += at {
		err := store.Update(context.Background(), func(tx guest.Tx) error {
			for i := range at {
				email, err := identity.ParseEmail(fmt.Sprintf("guest%d@example.com", n+i))
				if err != nil {
					return err
				}
				if _, err := identity.Provision(tx, identity.Invitation{Email: email, At: time.Now()}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
