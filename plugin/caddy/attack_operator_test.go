package main_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/logintest/e2e"
	"github.com/caddy-login/caddy-login/module/logintest/inbox"
)

// What an attacker wants of the operator's side: to steer who reads it, to reach
// it, to hold it up, and to have what was ended live again.

const archiveType = "application/octet-stream"

// backup is what the operator saves now.
func (s *stage) backup(t *testing.T) string {
	t.Helper()
	got := s.operator(t, http.MethodGet, "backup", "")
	if got.status != http.StatusOK {
		t.Fatalf("%d: %s", got.status, got.body)
	}
	return got.body
}

func (s *stage) restore(t *testing.T, backup string) {
	t.Helper()
	s.operator(t, http.MethodPost, "restore", backup, "Content-Type", archiveType).into(t, new(struct{ Restored bool }))
}

// A code, a link and a question of the backup were spent or given up since: a
// restore must not give them to whoever has kept them.
func TestRestoreRevivesNothingThatWaited(t *testing.T) {
	s := receive(t)
	asking, asked, holder := s.asksToLink(t, "ada@example.com")
	byCode, byLink := s.visitor(t), s.visitor(t)
	typed := byCode.FollowOn(byCode.Submit(byCode.Get(s.site+"/.login/?return=%2Fin"), "email", "code@example.com"))
	code := s.code(t, "code@example.com")
	byLink.FollowOn(byLink.Submit(byLink.Get(s.site+"/.login/?return=%2Fin"), "email", "link@example.com"))
	letter := s.letter(t, "link@example.com", func(m inbox.Mail) bool { return strings.Contains(m.Text, "@app.test #") })
	begun := s.visitor(t)
	s.person("begun", "begun@example.com")
	callback := s.callback(t, begun, begun.Get(s.site+"/.login/t3?return=%2Fin"), "begun")

	var thieves []*e2e.Visitor
	for _, v := range []*e2e.Visitor{asking, byCode, byLink, begun} {
		thieves = append(thieves, copyOf(s.stage, v))
	}
	backup := s.backup(t)
	mustBe(t, asking.FollowOn(answers(t, asking, asked, "link")), http.StatusOK)
	mustBe(t, byCode.FollowOn(byCode.Submit(typed, "code", code)), http.StatusOK)
	mustBe(t, byLink.FollowOn(byLink.SubmitAll(byLink.Get(letter.Link()))), http.StatusOK)
	mustBe(t, begun.Follow(callback), http.StatusOK)
	s.restore(t, backup)

	s.app.Forget()
	thieves[0].FollowOn(thieves[0].Do(saying(t, thieves[0], asked, "link")))
	if n := s.accounts(t, holder); n != 1 {
		t.Error("the answer to a question was given twice")
	}
	thieves[1].Submit(typed, "code", code)
	if page := thieves[2].Get(letter.Link()); page.StatusCode == http.StatusOK {
		thieves[2].FollowOn(thieves[2].SubmitAll(page))
		t.Errorf("the link leads somewhere: %s", page.Request.URL)
	}
	thieves[3].Follow(callback)
	for i, thief := range thieves {
		if s.whoIs(thief) != "" {
			t.Errorf("thief %d is in", i)
		}
	}
	// Six digits stand in many a time of day: of codes the stage looks for those that
	// stand by themselves, at its end.
	s.LogKeepsSecret(tokenOf(letter.Link()))
}

// copyOf is somebody who took all cookies of a browser, and has no other.
func copyOf(s *stage, v *e2e.Visitor) *e2e.Visitor {
	thief := v.Another()
	r := v.Navigation(s.site + "/")
	for _, pair := range v.Cookies(s.site) {
		name, value, _ := strings.Cut(pair, "=")
		thief.Jar.SetCookies(r.URL, []*http.Cookie{{Name: name, Value: value, Path: "/", Secure: true}})
	}
	return thief
}

// bulk writes so much into a store that nobody has open that no socket holds it.
func bulk(t *testing.T, dir string) {
	t.Helper()
	store := logintest.StoreIn(t, dir)
	value := make([]byte, 30<<10)
	for i := range 500 {
		err := store.Update(t.Context(), func(tx guest.Tx) error {
			return tx.Put(fmt.Appendf(nil, "ballast/%04d", i), value, time.Time{})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

// dialBackup asks for a backup, and has read only the head of the answer.
func (s *stage) dialBackup(t *testing.T) (net.Conn, *http.Response) {
	t.Helper()
	address := fmt.Sprintf("127.0.0.1:%d", s.AdminPort)
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET /login/backup HTTP/1.1\r\nHost: %s\r\n\r\n", address)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(res, err)
	}
	return conn, res
}

// Caddy's admin endpoint gives a request ten seconds, to read it; an answer may
// take longer.
func TestBackupThatIsFetchedSlowlyIsWhole(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for more than ten seconds")
	}
	s := play(t, usual)
	s.signedIn(t, e2e.Ada)
	s.Stop()
	bulk(t, filepath.Join(s.DataDir(), "login"))
	s.Restart()
	_, res := s.dialBackup(t)
	var whole []byte
	part := make([]byte, 100<<10)
	for range 12 {
		n, err := io.ReadFull(res.Body, part)
		if err != nil {
			t.Fatalf("it broke off after %d bytes: %v", len(whole)+n, err)
		}
		whole = append(whole, part...)
		<-time.After(time.Second)
	}
	rest, err := io.ReadAll(res.Body)
	if whole = append(whole, rest...); err != nil {
		t.Fatalf("it broke off after %d bytes: %v", len(whole), err)
	}
	s.restore(t, string(whole))
	s.idOf(t, "ada@example.com")
}

// Whoever asks for a backup and reads none of it must not keep others from
// theirs.
func TestBackupThatNobodyReadsEnds(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for half a minute")
	}
	s := play(t, usual)
	s.Stop()
	bulk(t, filepath.Join(s.DataDir(), "login"))
	s.Restart()
	s.dialBackup(t)
	begun := time.Now()
	if got := s.backup(t); len(got) < 1<<20 {
		t.Errorf("another's has %d bytes", len(got))
	}
	if took := time.Since(begun); took > 50*time.Second {
		t.Errorf("another's came after %s", took)
	}
}

// Whatever stands in the path, the query or the body is an answer of ours, and
// no fault.
func TestOperatorsRequestsAreTakenAsTheyStand(t *testing.T) {
	s := play(t, usual)
	s.signedIn(t, e2e.Ada)
	id := s.idOf(t, "ada@example.com")
	long := strings.Repeat("a", 4000)
	for _, path := range []string{
		"users/..%2f", "users/..%2fbackup", "users//disable", "users/%2e%2e/backup", "users/" + id + "%2fdisable%00", "users/" + long, "users/" + long + "/disable",
		"users/%00", "users/%ff", "users/a%2Fb", "users/" + id + "/", "users/" + id + "/disable/", "sessions/" + long, "sessions/%00", "sessions/..",
		"users?after=" + long, "users?id=" + long, "users?id=%00", "users?email=" + long + "@example.com", "users?identity=op:" + long, "users?identity=" + long + ":x",
		"users?identity=op:%00", "users?after=%00&limit=1", "sessions?user=" + long, "sessions?user=%00", "sessions?after=" + long, "sessions?after=a", "users?limit=9999999999999999999",
		"backup/", "restore/", "doctor/x", "", "%2e%2e/config/", "..%2fconfig", "users/find/x", "users;x", "users%3fid=x",
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodPatch, "BREW"} {
			if got := s.operator(t, method, path, ""); got.status >= 500 {
				t.Errorf("%s %.100s: %d %.300s", method, path, got.status, got.body)
			}
		}
	}
	for _, body := range []string{
		`{"id":"` + long + `"}`, `{"id":"\u0000"}`, `{"identity":"` + long + `:x"}`, `{"identity":":"}`, `{"id":"a/b"}`, `{"id":"` + id + `/"}`,
		strings.Repeat("[", 60_000), `{"groups":` + strings.Repeat("[", 30_000), "\x00", "\xff", `{"id":1e999}`,
	} {
		if got := s.operator(t, http.MethodPost, "users/find", body); got.status >= 500 || strings.Contains(got.body, id) {
			t.Errorf("%.100q: %d %.300s", body, got.status, got.body)
		}
	}
	if s.idOf(t, "ada@example.com") != id {
		t.Error("she is not who she was")
	}
}

// What a page elsewhere can have a browser send changes nothing: forms of every
// kind, by a name that leads here, from a sandbox.
func TestForeignPagesChangeNothing(t *testing.T) {
	s := play(t, usual)
	ada := s.signedIn(t, e2e.Ada)
	id, backup := s.idOf(t, "ada@example.com"), s.backup(t)
	for _, request := range [][3]string{ // method, path, body
		{http.MethodPost, "users/" + id + "/disable", ""},
		{http.MethodPost, "users/" + id + "/end-sessions", ""},
		{http.MethodPost, "users", `{"email":"mallory@example.com","groups":["admin"]}`},
		{http.MethodPut, "users/" + id + "/groups", `{"groups":["admin"]}`},
		{http.MethodDelete, "users/" + id, ""},
		{http.MethodPost, "restore", backup},
	} {
		for _, from := range [][]string{
			{"Origin", "https://evil.test"}, {"Origin", "null"}, {"Origin", "http://localhost.evil.test"}, {"Host", "rebound.test"},
			{"Sec-Fetch-Mode", "navigate"}, {"Sec-Fetch-Mode", "navigate", "Referer", "https://evil.test/"}, {"Sec-Fetch-Mode", "no-cors"},
		} {
			for _, kind := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json", archiveType} {
				got := s.operator(t, request[0], request[1], request[2], append([]string{"Content-Type", kind}, from...)...)
				if got.status != http.StatusForbidden && got.status != http.StatusBadRequest {
					t.Errorf("%v reaches %s %s: %d %.200s", from, request[0], request[1], got.status, got.body)
				}
			}
		}
	}
	if !s.isIn(ada) {
		t.Error("she is out")
	}
}

// A body without an end, and one that does not come, hold nobody up.
func TestEndlessBodiesEnd(t *testing.T) {
	s := play(t, usual)
	id := s.idOfInvited(t, "ada@example.com")
	for _, path := range []string{"users", "users/find", "users/" + id + "/disable", "users/" + id + "/end-sessions", "restore"} {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.AdminPort))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		kind := "application/json"
		if path == "restore" {
			kind = archiveType
		}
		fmt.Fprintf(conn, "POST /login/%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n", path, s.AdminPort, kind)
		go func() {
			for err := error(nil); err == nil; {
				_, err = fmt.Fprintf(conn, "1000\r\n%s\r\n", strings.Repeat(" ", 0x1000))
			}
		}()
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || res.StatusCode < 400 || res.StatusCode > 499 {
			t.Errorf("%s: %v, %v", path, res, err)
		}
	}
}

func (s *stage) idOfInvited(t *testing.T, email string) string {
	t.Helper()
	var user person
	s.operator(t, http.MethodPost, "users", `{"email":"`+email+`"}`).into(t, &user)
	return user.ID
}

// strange are words of strangers that steer whoever shows, logs or expands
// them.
const strange = "{env.OP_SECRET}{http.request.host}\x1b]0;owned\x07\u202e=HYPERLINK(\"http://evil.test\")"

// What a person and their provider write is text, wherever the operator meets
// it.
func TestStrangersWordsAreTextToTheOperator(t *testing.T) {
	issuer := logintest.NewIssuer(t)
	const subject = "{env.OP_SECRET}=1+1<script>" // one with control characters is refused
	issuer.Person(logintest.Person{
		Subject: subject, Email: "eve@example.com", EmailVerified: true, Name: "Eve " + strange, Groups: []string{"g" + strange, "a,b"},
	})
	s := play(t, "{\n\tdebug\n}\n"+strings.ReplaceAll(usual, "{$ISSUER}", issuer.URL))
	issuer.Client("site", clientSecret, s.site+"/.login/op/callback")
	v := e2e.NewVisitor(t)
	begun := v.Get(s.site + "/.login/op?return=%2Fin")
	callback, _ := issuer.SignIn(t, http.DefaultClient, begun.Header.Get("Location"), subject)
	arrive := v.Navigation(callback.String())
	arrive.Header.Set("User-Agent", "Mozilla "+strings.NewReplacer("\x1b", "", "\x07", "").Replace(strange))
	mustBe(t, v.FollowOn(v.Do(arrive)), http.StatusOK)
	id := s.idOf(t, "eve@example.com")
	s.operator(t, http.MethodPut, "users/"+id+"/groups", `{"add":["{env.OP_SECRET}","\u202egroup","=1+1"]}`).into(t, new(person))
	for _, command := range []string{
		"users list", "users list --json", "users list --all --json", "users show " + id, "users show " + id + " --json", "users groups " + id, "users groups " + id + " --json",
		"sessions list", "sessions list --json", "sessions list --all --json", "sessions list --user " + id, "users disable " + id, "users enable " + id, "doctor", "users delete " + id + " --yes",
	} {
		out := s.says(t, command)
		for _, bad := range []string{"\x1b", "\x07", "\u202e", clientSecret, "\r"} {
			if strings.Contains(out, bad) {
				t.Errorf("%s prints %q:\n%q", command, bad, out)
			}
		}
		if strings.HasPrefix(command, "users show") && !strings.Contains(out, "{env.OP_SECRET}") {
			t.Errorf("%s does not show it as it stands:\n%s", command, out)
		}
	}
	s.LogKeepsSecret(clientSecret, "\x1b]0;owned", "\u202eowned")
}

// 32 sign-ins are under way as somebody is shut out, or deleted: none of them
// ends in a session.
func TestSignInsUnderWayDoNotOutliveTheUser(t *testing.T) {
	for _, what := range []string{"disable", "delete", "end-sessions"} {
		t.Run(what, func(t *testing.T) {
			s := receive(t)
			s.person("ada", "ada@example.com")
			first := s.visitor(t)
			mustBe(t, s.comes(t, first, s.site, "t3", "ada"), http.StatusOK)
			id := s.idOf(t, "ada@example.com")
			underWay := map[*e2e.Visitor]string{}
			for range 32 {
				v := s.visitor(t)
				underWay[v] = s.callback(t, v, v.Get(s.site+"/.login/t3?return=%2Fin"), "ada")
			}
			var wait sync.WaitGroup
			for v, callback := range underWay {
				wait.Go(func() { _, _ = v.Try(v.Navigation(callback)) })
			}
			method, path := http.MethodPost, "users/"+id+"/"+what
			if what == "delete" {
				method, path = http.MethodDelete, "users/"+id
			}
			got := s.operator(t, method, path, "")
			wait.Wait()
			if got.status != http.StatusOK {
				t.Fatalf("%d: %s", got.status, got.body)
			}
			if s.whoIs(first) != "" {
				t.Error("who was in is in")
			}
			if what != "end-sessions" { // which lets in who comes after
				s.wantOut(t, id, underWay)
			}
		})
	}
}

// wantOut checks that nobody is in as a user who was shut out.
func (s *reception) wantOut(t *testing.T, id string, underWay map[*e2e.Visitor]string) {
	t.Helper()
	for v := range underWay {
		if s.whoIs(v) == id {
			t.Error("somebody is in as the one who is out")
		}
	}
	var list struct{ Sessions []struct{ Handle string } }
	s.operator(t, http.MethodGet, "sessions?user="+id, "").into(t, &list)
	if len(list.Sessions) != 0 {
		t.Errorf("%d sessions live", len(list.Sessions))
	}
}

func TestGroupsAddedAtOnceAreAllThere(t *testing.T) {
	s := play(t, usual)
	id := s.idOfInvited(t, "ada@example.com")
	var wait sync.WaitGroup
	for i := range 32 {
		wait.Go(func() {
			got, err := s.tryOperator(http.MethodPut, "users/"+id+"/groups", fmt.Sprintf(`{"add":["crew%d"]}`, i))
			if err != nil || got.status != http.StatusOK {
				t.Errorf("group %d: %d %s, %v", i, got.status, got.body, err)
			}
		})
	}
	wait.Wait()
	var f file
	s.operator(t, http.MethodGet, "users/"+id, "").into(t, &f)
	if len(f.User.Groups) != 33 {
		t.Errorf("she is in %v", f.User.Groups)
	}
}

// A list goes on beside people who come and go: nobody who was there throughout
// is missed, nobody is told twice.
func TestListMissesNobodyWhileOthersComeAndGo(t *testing.T) {
	s := play(t, usual)
	stay := map[string]int{}
	for i := range 60 {
		stay[s.idOfInvited(t, fmt.Sprintf("stays%d@example.com", i))] = 0
	}
	gone := s.crowd(t)
	e2e.Eventually(t, time.Minute, "somebody to have come and gone", func() bool { return gone() > 0 })
	for range 5 {
		seen := s.leafed(t)
		for id := range stay {
			if seen[id] == 0 {
				t.Errorf("%s was missed", id)
			}
		}
		for id, n := range seen {
			if n != 1 {
				t.Errorf("%s was told %d times", id, n)
			}
		}
	}
}

// crowd has one person after the other come and go until the test ends, and
// returns how many did so far.
func (s *stage) crowd(t *testing.T) (gone func() int64) {
	t.Helper()
	var n atomic.Int64
	ctx, stop := context.WithCancel(context.Background())
	var comesAndGoes sync.WaitGroup
	comesAndGoes.Go(func() {
		for ; ctx.Err() == nil; n.Add(1) {
			if err := s.comeAndGo(fmt.Sprintf("goes%d@example.com", n.Load())); err != nil {
				t.Error(err)
				return
			}
		}
	})
	t.Cleanup(func() { stop(); comesAndGoes.Wait() })
	return n.Load
}

func (s *stage) comeAndGo(email string) error {
	got, err := s.tryOperator(http.MethodPost, "users", `{"email":"`+email+`"}`)
	if err != nil {
		return fmt.Errorf("inviting %s: %w", email, err)
	}
	var user person
	if err := got.decode(&user); err != nil {
		return fmt.Errorf("inviting %s: %w", email, err)
	}
	got, err = s.tryOperator(http.MethodDelete, "users/"+user.ID, "")
	if err != nil {
		return fmt.Errorf("deleting %s: %w", email, err)
	}
	if got.status != http.StatusOK {
		return fmt.Errorf("deleting %s: %d %s", email, got.status, got.body)
	}
	return nil
}

// leafed is how often a list, page after page, tells each user.
func (s *stage) leafed(t *testing.T) map[string]int {
	t.Helper()
	seen := map[string]int{}
	for after := ""; ; {
		var page people
		s.operator(t, http.MethodGet, "users?limit=3"+after, "").into(t, &page)
		for _, user := range page.Users {
			seen[user.ID]++
		}
		if after = "&after=" + page.Next; page.Next == "" {
			return seen
		}
	}
}

// roster is who is there, by address.
func (s *stage) roster(t *testing.T) string {
	t.Helper()
	var all people
	s.operator(t, http.MethodGet, "users?limit=1000", "").into(t, &all)
	var names []string
	for _, user := range all.Users {
		names = append(names, user.Provisioned)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// tryRestore is a restore that Caddy may not live to answer.
func (s *stage) tryRestore(ctx context.Context, backup string) (status int, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/login/restore", s.AdminPort), strings.NewReader(backup))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Content-Type", archiveType)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}

// twoHouses are two states of a store, and the backups that lead there.
func (s *stage) twoHouses(t *testing.T) (rosters, backups [2]string) {
	t.Helper()
	for i := range 2 {
		for n := range 5 {
			s.idOfInvited(t, fmt.Sprintf("house%dguest%d@example.com", i, n))
		}
		rosters[i], backups[i] = s.roster(t), s.backup(t)
	}
	return rosters, backups
}

// Caddy is killed at any moment of a restore: what is there afterwards is all of
// the one house or all of the other, and what was acknowledged is there.
func TestRestoreThatIsKilledIsAllOrNothing(t *testing.T) {
	rounds := 20
	if testing.Short() {
		rounds = 4
	}
	s := play(t, usual)
	rosters, backups := s.twoHouses(t)
	now, met := 1, map[int]int{}
	for round := range rounds {
		next := 1 - now
		answered := make(chan int, 1)
		go func() {
			status, err := s.tryRestore(context.Background(), backups[next])
			if err != nil {
				status = 0
			}
			answered <- status
		}()
		<-time.After(rand.N(400 * time.Millisecond))
		s.Kill()
		status := <-answered
		s.Restart()
		switch got := s.roster(t); {
		case got == rosters[next]:
			now = next
			met[1]++
		case got == rosters[now] && status == 0:
			met[0]++
		default:
			t.Fatalf("round %d, answered %d: %s", round, status, got)
		}
	}
	t.Logf("of %d kills %d left the old house, %d the new one", rounds, met[0], met[1])
}

// 32 restores at once, and reloads: one after the other, and each whole.
func TestRestoresAtOnceAreOneAfterTheOther(t *testing.T) {
	s := play(t, usual)
	rosters, backups := s.twoHouses(t)
	ada := s.signedIn(t, e2e.Ada)
	var wait sync.WaitGroup
	for i := range 32 {
		wait.Go(func() {
			if status, err := s.tryRestore(t.Context(), backups[i%2]); err != nil || status != http.StatusOK {
				t.Errorf("restore %d: %d, %v", i, status, err)
			}
		})
	}
	for range 2 {
		s.Reload(usual)
	}
	wait.Wait()
	if got := s.roster(t); got != rosters[0] && got != rosters[1] {
		t.Errorf("there are %s", got)
	}
	if s.isIn(ada) {
		t.Error("somebody is in")
	}
	s.isIn(s.signedIn(t, e2e.Ada))
}

// What a restore of another house's backup brings are its people, and no way in
// for anybody who was in there.
func TestBackupOfAnotherHouseLetsNobodyIn(t *testing.T) {
	there, here := play(t, usual), play(t, usual)
	ada := there.signedIn(t, e2e.Ada)
	grace := here.signedIn(t, e2e.Grace)
	cookie := ada.Cookie(there.site, cookieName)
	id := there.idOf(t, "ada@example.com")
	here.restore(t, there.backup(t))
	for name, v := range map[string]*e2e.Visitor{"of there": replay(grace, here.site, cookie), "of here": grace} {
		if here.isIn(v) {
			t.Errorf("somebody %s is in", name)
		}
	}
	if here.idOf(t, "ada@example.com") != id {
		t.Error("she is not who she was there")
	}
	if !here.isIn(here.signedIn(t, e2e.Grace)) {
		t.Error("nobody can sign in")
	}
	if !there.isIn(replay(ada, there.site, cookie)) {
		t.Error("it signed somebody out there")
	}
}

// A deletion that is broken off by kill -9 is done by whoever comes after.
func TestDeletionIsDoneAfterKill(t *testing.T) {
	s := receive(t)
	for round := range 4 {
		email := fmt.Sprintf("ada%d@example.com", round)
		v, id := s.holder(t, email)
		answered := make(chan reply, 1)
		go func() {
			r, err := http.NewRequest(http.MethodDelete, fmt.Sprintf("http://127.0.0.1:%d/login/users/%s", s.AdminPort, id), nil)
			if err != nil {
				t.Error(err)
			}
			if res, err := http.DefaultClient.Do(r); err == nil {
				res.Body.Close()
				answered <- reply{status: res.StatusCode}
				return
			}
			answered <- reply{}
		}()
		<-time.After(rand.N(30 * time.Millisecond))
		s.Kill()
		got := <-answered
		s.Restart()
		status := s.operator(t, http.MethodGet, "users/"+id, "").status
		t.Logf("round %d: answered %d, afterwards %d", round, got.status, status)
		if got.status == http.StatusOK && status != http.StatusNotFound {
			t.Error("she is back")
		}
		if in := s.whoIs(v); status == http.StatusNotFound && in != "" || status == http.StatusOK && in != id {
			t.Errorf("found: %d, in as %q", status, in)
		}
		if status != http.StatusNotFound {
			continue
		}
		e2e.Eventually(t, e2e.Patience, "her address to be free", func() bool {
			var found people
			s.operator(t, http.MethodPost, "users", `{"email":"`+email+`"}`)
			s.operator(t, http.MethodPost, "users/find", `{"email":"`+email+`"}`).into(t, &found)
			return len(found.Users) == 1 && found.Users[0].ID != id
		})
	}
}

// However many ask the doctor, others' servers hear of one.
func TestManyDoctorsAskOthersOneByOne(t *testing.T) {
	busy := newBusy(t)
	s := playWith(t, with("oidc busy site x {\n\t\t\tissuer http://"+busy.addr+"\n\t\t}"), nil)
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
	defer cancel()
	var wait sync.WaitGroup
	for range 200 {
		wait.Go(func() {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/login/doctor", s.AdminPort), nil)
			if err != nil {
				t.Error(err)
				return
			}
			if res, err := http.DefaultClient.Do(r); err == nil {
				res.Body.Close()
			}
		})
	}
	wait.Wait()
	if n := busy.most(); n == 0 || n > 2 {
		t.Errorf("%d connections at once", n)
	}
	if got := s.operator(t, http.MethodGet, "doctor", ""); got.status != http.StatusOK {
		t.Errorf("the next one is answered %d %s", got.status, got.body)
	}
}

// busy accepts connections, counts them, and never answers.
type busy struct {
	addr string
	mu   sync.Mutex
	open int
	max  int
}

func newBusy(t *testing.T) *busy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	b := &busy{addr: l.Addr().String()}
	go func() {
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				go b.hold(conn)
			}
		}
	}()
	return b
}

func (b *busy) hold(conn net.Conn) {
	b.count(1)
	_, _ = io.Copy(io.Discard, conn)
	b.count(-1)
	conn.Close()
}

func (b *busy) count(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open += n
	b.max = max(b.max, b.open)
}

func (b *busy) most() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.max
}

// Sites below one cookie domain share cookies, and have rules of their own: what
// the one asks cannot be seen, answered or proven at the other.
func TestQuestionStaysAtItsHostBelowOneCookieDomain(t *testing.T) {
	s := &reception{
		mailed: &mailed{stage: &stage{Caddy: e2e.NewCaddy(t, e2e.Build(t)), app: e2e.NewApp(t)}, box: inbox.New(t)},
		issuer: logintest.NewIssuer(t),
	}
	s.site, s.other = fmt.Sprintf("https://a.shared.test:%d", s.Port), fmt.Sprintf("https://b.shared.test:%d", s.Port)
	s.issuer.Client("site", clientSecret, s.site+"/.login/op/callback", s.other+"/.login/op/callback")
	s.Env["APP"], s.Env["SMTP"], s.Env["SMTP_CA"] = s.app.Addr, s.box.Addr, s.box.CAFile
	s.Env["ISSUER"], s.Env["OP_SECRET"] = s.issuer.Issuer, clientSecret
	s.Start(sharing("a.shared.test", "signup off", "email_trust verified") + sharing("b.shared.test", "signup on", "authoritative_domains example.com", "merge_confirmation none"))
	s.person("holder", "ada@example.com")
	mustBe(t, s.comes(t, s.visitor(t), s.other, "op", "holder"), http.StatusOK)
	holder := s.idOf(t, "ada@example.com")

	s.person("arriving", "ada@example.com")
	v := s.visitor(t)
	asked := s.comes(t, v, s.site, "op", "arriving")
	wantQuestion(t, asked, proveOwner, "ada@example.com")
	s.app.Forget()
	there := *asked.Response
	there.Request = v.Navigation(s.other + "/.login/confirm")
	s.wantOutdated(t, v.Get(s.other+"/.login/confirm"))
	s.wantOutdated(t, answers(t, v, e2e.Answer{Response: &there, Body: asked.Body}, "code"))
	waiting := v.FollowOn(answers(t, v, asked, "code"))
	mustBe(t, waiting, http.StatusOK)
	letter := s.letter(t, "ada@example.com", func(m inbox.Mail) bool { return strings.Contains(m.Text, "@a.shared.test #") })
	mark := question.FindStringSubmatch(asked.Body)[1]
	s.wantOutdated(t, v.Do(confirming(t, v, e2e.Answer{Response: &there}, "ask", strings.Split(mark, ".")[0], "code", letter.Code())))
	opened := v.Get(strings.Replace(letter.Link(), s.site, s.other, 1))
	posted := s.posting(v, "/.login/link", "", "token", tokenOf(letter.Link()))
	posted.URL.Host, posted.Host = there.Request.URL.Host, there.Request.URL.Host
	posted.Header.Set("Origin", s.other)
	if session(opened) != "" || session(v.Do(posted)) != "" || s.accounts(t, holder) != 1 {
		t.Errorf("the link works at %s", opened.Request.URL)
	}
	s.app.Forget()
	mustBe(t, v.FollowOn(v.Submit(waiting, "code", letter.Code())), http.StatusOK)
	if n := s.accounts(t, holder); n != 2 {
		t.Errorf("%d accounts once it was proven where it was asked", n)
	}
}

// sharing is a site below a cookie domain, with rules of its own.
func sharing(host, signup string, rules ...string) string {
	return "https://" + host + ":{$PORT} {\n\tlogin {\n\t\temail\n\t\toidc op site {env.OP_SECRET} {\n\t\t\tissuer {$ISSUER}\n\t\t\t" +
		strings.Join(rules, "\n\t\t\t") + "\n\t\t}\n\t\t" + signup + "\n\t\tallow users\n\t\tcookie {\n\t\t\tdomain shared.test\n\t\t}\n" +
		"\t\tmail smtp {$SMTP} {\n\t\t\ttls_ca {file.{$SMTP_CA}}\n\t\t}\n\t}\n\treverse_proxy {$APP}\n}\n"
}
