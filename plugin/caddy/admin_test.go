package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/gorilla/websocket"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// reply is an answer of the admin endpoint.
type reply struct {
	status int
	body   string
}

// operator makes a request at the admin endpoint, with body as JSON unless it
// is empty. Fields are further header lines: name, value, …
func (s *stage) operator(t *testing.T, method, path, body string, fields ...string) reply {
	t.Helper()
	got, err := s.tryOperator(method, path, body, fields...)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// tryOperator is for goroutines of a test's, which must not end it.
func (s *stage) tryOperator(method, path, body string, fields ...string) (reply, error) {
	r, err := http.NewRequest(method, fmt.Sprintf("http://127.0.0.1:%d/login/%s", s.AdminPort, path), strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
		if fields[i] == "Host" {
			r.Host = fields[i+1]
		}
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return reply{}, err
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	return reply{res.StatusCode, string(got)}, err
}

// into decodes a 200.
func (r reply) into(t *testing.T, v any) {
	t.Helper()
	if err := r.decode(v); err != nil {
		t.Fatal(err)
	}
}

func (r reply) decode(v any) error {
	if r.status != http.StatusOK {
		return fmt.Errorf("%d: %s", r.status, r.body)
	}
	if err := json.NewDecoder(strings.NewReader(r.body)).Decode(v); err != nil {
		return fmt.Errorf("%w in %s", err, r.body)
	}
	return nil
}

// person is a user as the operator sees them.
type person struct {
	ID, State, Email, Provisioned, Name string
	Groups                              []string
}

// file is all about one.
type file struct {
	User      person
	Addresses []struct{ Address, By, Proven string }
	Accounts  []struct{ Provider, Issuer, Subject, How string }
	Sessions  []struct{ Handle, User, Scope, Device, Provider string }
	Activity  []struct{ What, Row, Provider, Detail, Session string }
}

type people struct {
	Users []person
	Next  string
}

// idOf is the id of the user with an address. The address stays out of the log.
func (s *stage) idOf(t *testing.T, email string) string {
	t.Helper()
	var found people
	s.operator(t, http.MethodPost, "users/find", `{"email":"`+email+`"}`).into(t, &found)
	if len(found.Users) != 1 {
		t.Fatalf("%d users with %s", len(found.Users), email)
	}
	return found.Users[0].ID
}

func TestOperatorFindsAUserByEachOfTheirNames(t *testing.T) {
	s := play(t, usual)
	s.signedIn(t, e2e.Grace)
	ada := s.signedIn(t, e2e.Ada)
	id := s.idOf(t, "ada@example.com")
	var known file
	got := s.operator(t, http.MethodGet, "users/"+id, "")
	got.into(t, &known)
	if known.User.Email != "ada@example.com" || known.User.State != "active" || len(known.Accounts) != 1 || len(known.Addresses) != 1 {
		t.Fatalf("%s", got.body)
	}
	account, session := known.Accounts[0], known.Sessions[0]
	if account.Provider != "op" || account.Issuer != s.provider.Issuer || account.Subject == "" || session.Scope != "app.test" || session.Provider != "op" {
		t.Errorf("%s", got.body)
	}
	for _, query := range []string{"id=" + id, "email=ADA@EXAMPLE.COM", "identity=op:" + account.Subject} {
		var found people
		s.operator(t, http.MethodGet, "users?"+query, "").into(t, &found)
		if len(found.Users) != 1 || found.Users[0].ID != id {
			t.Errorf("by %s: %v", query, found)
		}
	}
	for _, body := range []string{`{"id":"` + id + `"}`, `{"email":"ada@example.com"}`, `{"identity":"op:` + account.Subject + `"}`} {
		var found people
		s.operator(t, http.MethodPost, "users/find", body).into(t, &found)
		if len(found.Users) != 1 || found.Users[0].ID != id {
			t.Errorf("by %s: %v", body, found)
		}
	}
	if value := ada.Cookie(s.site, cookieName); strings.Contains(got.body, value) || strings.Contains(got.body, "hash") {
		t.Errorf("a secret is told: %s", got.body)
	}
}

func TestOperatorListsUsersPageByPage(t *testing.T) {
	s := play(t, usual)
	for i := range 5 {
		s.operator(t, http.MethodPost, "users", fmt.Sprintf(`{"email":"guest%d@example.com"}`, i)).into(t, new(person))
	}
	seen := map[string]bool{}
	for after, pages := "", 0; ; pages++ {
		var page people
		s.operator(t, http.MethodGet, "users?limit=2"+after, "").into(t, &page)
		for _, user := range page.Users {
			seen[user.Provisioned] = true
		}
		if page.Next == "" {
			break
		}
		if after = "&after=" + page.Next; pages > 5 || len(page.Users) > 2 {
			t.Fatalf("page %d has %d users", pages, len(page.Users))
		}
	}
	if len(seen) != 5 || !seen["guest3@example.com"] {
		t.Errorf("listed %v", seen)
	}
}

func TestOperatorsMistakesAreRefused(t *testing.T) {
	s := play(t, usual)
	s.signedIn(t, e2e.Ada)
	id := s.idOf(t, "ada@example.com")
	for _, mistake := range []struct {
		method, path, body string
		status             int
		field              []string
	}{
		{http.MethodGet, "", "", 404, nil},
		{http.MethodGet, "nothing", "", 404, nil},
		{http.MethodDelete, "users", "", 405, nil},
		{http.MethodGet, "users/aaaaaaaaaaaaaaaaaaaaaaaaaa", "", 404, nil},
		{http.MethodGet, "users?limit=0", "", 400, nil},
		{http.MethodGet, "users?limit=1001", "", 400, nil},
		{http.MethodGet, "users?limit=1&limit=2", "", 400, nil},
		{http.MethodGet, "users?lmit=5", "", 400, nil},
		{http.MethodGet, "users?id=x&email=ada@example.com", "", 400, nil},
		{http.MethodGet, "users?email=nobody", "", 400, nil},
		{http.MethodGet, "users?identity=op", "", 400, nil},
		{http.MethodGet, "sessions?after=%2F", "", 400, nil},
		{http.MethodPost, "users", `{"email":"x@example.com","admin":true}`, 400, nil},
		{http.MethodPost, "users", `{"email":"x@example.com"}{}`, 400, nil},
		{http.MethodPost, "users", `{"email":"two@@example.com"}`, 400, nil},
		{http.MethodPost, "users", `{"email":"x@example.com","name":"a\u0007b"}`, 400, nil},
		{http.MethodPost, "users", `{"email":"x@example.com","groups":[""]}`, 400, nil},
		{http.MethodPost, "users", `{"email":"ada@example.com"}`, 409, nil},
		{http.MethodPost, "users", `{"email":"x@example.com"}`, 415, []string{"Content-Type", "text/plain"}},
		{http.MethodPost, "users", `{"email":"x@example.com"}`, 415, []string{"Content-Type", "application/x-www-form-urlencoded"}},
		{http.MethodPost, "users", `{"email":"` + strings.Repeat("x", 70<<10) + `"}`, 400, nil},
		{http.MethodPost, "users/" + id + "/disable", `{}`, 400, nil},
		{http.MethodPut, "users/" + id + "/groups", `{}`, 400, nil},
		{http.MethodPut, "users/" + id + "/groups", `{"groups":["a"],"add":["b"]}`, 400, nil},
		{http.MethodPut, "users/" + id + "/groups", `{"add":["a\nb"]}`, 400, nil},
		{http.MethodDelete, "sessions/aaaaaaaaaaaaaaaa", "", 404, nil},
		{http.MethodPost, "restore", `{}`, 415, nil},
	} {
		got := s.operator(t, mistake.method, mistake.path, mistake.body, mistake.field...)
		var problem struct{ Error string }
		if err := json.Unmarshal([]byte(got.body), &problem); err != nil || problem.Error == "" || got.status != mistake.status {
			t.Errorf("%s %s %.60s: %d, want %d: %s", mistake.method, mistake.path, mistake.body, got.status, mistake.status, got.body)
		}
	}
	s.LogKeepsSecret("two@@example.com", "x@example.com")
}

func TestForeignPagesDoNotReachTheOperatorsSide(t *testing.T) {
	s := play(t, usual)
	for _, foreign := range [][]string{
		{"Host", "rebound.test"},
		{"Origin", "https://evil.test"},
		{"Origin", "null"},
		{"Sec-Fetch-Mode", "no-cors"},
		{"Sec-Fetch-Mode", "cors"},
	} {
		for _, path := range []string{"users", "backup", "doctor"} {
			if got := s.operator(t, http.MethodGet, path, "", foreign...); got.status != http.StatusForbidden && got.status != http.StatusBadRequest {
				t.Errorf("%v reaches %s: %d %.200s", foreign, path, got.status, got.body)
			}
		}
	}
	if got := s.operator(t, http.MethodGet, "users", ""); got.status != http.StatusOK {
		t.Errorf("nor does the operator: %d %s", got.status, got.body)
	}
}

func TestDisablingEndsSessionsAndStreamsAtOnce(t *testing.T) {
	s := play(t, usual)
	ada, grace := s.signedIn(t, e2e.Ada), s.signedIn(t, e2e.Grace)
	conn, _ := s.dial(t, s.site, ada.Cookies(s.site))
	echoes(t, conn)
	bystander, _ := s.dial(t, s.site, grace.Cookies(s.site))
	echoes(t, bystander)
	id := s.idOf(t, "ada@example.com")

	var disabled person
	s.operator(t, http.MethodPost, "users/"+id+"/disable", "").into(t, &disabled)
	if disabled.State != "disabled" {
		t.Errorf("she is %s", disabled.State)
	}
	if s.isIn(ada) {
		t.Error("her cookie works")
	}
	mustClose(t, conn)
	echoes(t, bystander)
	ada.ForgetCookies()
	if got := ada.SignIn(s.site+"/.login/op?return=%2Fin", e2e.Ada); got.StatusCode == http.StatusOK {
		t.Error("she signs in")
	}
	var known file
	s.operator(t, http.MethodGet, "users/"+id, "").into(t, &known)
	if len(known.Sessions) != 0 || !did(known, "disabled") {
		t.Errorf("%+v", known)
	}

	s.operator(t, http.MethodPost, "users/"+id+"/enable", "").into(t, new(person))
	if s.isIn(ada) {
		t.Error("enabling gave her old session back")
	}
	mustBe(t, e2e.NewVisitor(t).SignIn(s.site+"/.login/op?return=%2Fin", e2e.Ada), http.StatusOK)
	s.wantLogged(t, "user disabled", "user enabled")
}

// mustClose waits for a WebSocket to be closed from the other side.
func mustClose(t *testing.T, conn *websocket.Conn) {
	t.Helper()
	begun := time.Now()
	if err := conn.SetReadDeadline(begun.Add(31 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var late net.Error
	if _, _, err := conn.ReadMessage(); err == nil || errors.As(err, &late) && late.Timeout() {
		t.Errorf("the WebSocket is open: %v", err)
	}
	t.Logf("the WebSocket ended after %s", time.Since(begun))
}

// did reports whether the operator did this to the user.
func did(f file, what string) bool {
	for _, entry := range f.Activity {
		if entry.What == what && entry.Provider == "operator" {
			return true
		}
	}
	return false
}

// wantLogged waits for one line each, by the operator, and none with an address.
func (s *stage) wantLogged(t *testing.T, messages ...string) {
	t.Helper()
	for _, message := range messages {
		e2e.Eventually(t, e2e.Patience, "the log to say "+message, func() bool {
			n := 0
			for _, line := range s.Logs() {
				if line["logger"] == "login" && line["msg"] == message && line["by"] == "operator" {
					n++
				}
			}
			return n == 1
		})
	}
}

func TestGroupsChangeForTheSignedIn(t *testing.T) {
	s := play(t, strings.Replace(usual, "allow *@example.com", "allow /crew/* group:crew\n\t\tallow *@example.com", 1))
	ada := s.signedIn(t, e2e.Ada)
	mustBe(t, ada.Get(s.site+"/crew/x"), http.StatusForbidden)
	path := "users/" + s.idOf(t, "ada@example.com") + "/groups"
	var user person
	s.operator(t, http.MethodPut, path, `{"add":["crew"]}`).into(t, &user)
	mustBe(t, ada.Get(s.site+"/crew/x"), http.StatusOK)
	s.operator(t, http.MethodPut, path, `{"remove":["crew","external-users"]}`).into(t, &user)
	mustBe(t, ada.Get(s.site+"/crew/x"), http.StatusForbidden)
	if fmt.Sprint(user.Groups) != "[everybody]" {
		t.Errorf("she is in %v", user.Groups)
	}
	s.operator(t, http.MethodPut, path, `{"groups":["crew","board","crew"]}`).into(t, &user)
	if fmt.Sprint(user.Groups) != "[board crew]" {
		t.Errorf("she is in %v", user.Groups)
	}
	mustBe(t, ada.Get(s.site+"/crew/x"), http.StatusOK)
}

func TestOperatorEndsOneSessionOrAll(t *testing.T) {
	s := play(t, usual)
	phone, desk := s.signedIn(t, e2e.Ada), s.signedIn(t, e2e.Ada)
	grace := s.signedIn(t, e2e.Grace)
	id := s.idOf(t, "ada@example.com")
	var list struct {
		Sessions []struct{ Handle, User string }
	}
	s.operator(t, http.MethodGet, "sessions?user="+id, "").into(t, &list)
	if len(list.Sessions) != 2 {
		t.Fatalf("%+v", list)
	}
	var done struct{ Ended int }
	s.operator(t, http.MethodDelete, "sessions/"+list.Sessions[0].Handle, "").into(t, &done)
	if in := s.isIn(phone); in == s.isIn(desk) || done.Ended != 1 {
		t.Errorf("both or neither of her sessions ended: %+v", done)
	}
	if got := s.operator(t, http.MethodDelete, "sessions/"+list.Sessions[0].Handle, ""); got.status != http.StatusNotFound {
		t.Errorf("it ended twice: %d", got.status)
	}
	s.operator(t, http.MethodPost, "users/"+id+"/end-sessions", "").into(t, &done)
	if s.isIn(phone) || s.isIn(desk) || !s.isIn(grace) || done.Ended != 1 {
		t.Errorf("wrong sessions ended: %+v", done)
	}
	s.operator(t, http.MethodGet, "sessions", "").into(t, &list)
	if len(list.Sessions) != 1 {
		t.Errorf("left: %+v", list)
	}
}

func TestOperatorListsSessionsPageByPage(t *testing.T) {
	s := play(t, usual)
	for range 3 {
		s.signedIn(t, e2e.Ada)
	}
	seen, after := map[string]bool{}, ""
	for range 10 {
		var page struct {
			Sessions []struct{ Handle string }
			Next     string
		}
		s.operator(t, http.MethodGet, "sessions?limit=1"+after, "").into(t, &page)
		for _, session := range page.Sessions {
			seen[session.Handle] = true
		}
		if after = "&after=" + page.Next; page.Next == "" {
			break
		}
	}
	if len(seen) != 3 {
		t.Errorf("listed %v", seen)
	}
}

func TestDeletedUserIsGone(t *testing.T) {
	s := play(t, usual)
	ada := s.signedIn(t, e2e.Ada)
	conn, _ := s.dial(t, s.site, ada.Cookies(s.site))
	echoes(t, conn)
	id := s.idOf(t, "ada@example.com")
	s.operator(t, http.MethodDelete, "users/"+id, "").into(t, new(struct{ Deleted string }))
	if s.isIn(ada) {
		t.Error("her cookie works")
	}
	mustClose(t, conn)
	var found people
	s.operator(t, http.MethodGet, "users?email=ada@example.com", "").into(t, &found)
	if len(found.Users) != 0 {
		t.Errorf("found: %v", found)
	}
	for method, path := range map[string]string{http.MethodGet: "users/" + id, http.MethodPost: "users/" + id + "/enable", http.MethodDelete: "users/" + id} {
		if got := s.operator(t, method, path, ""); got.status != http.StatusNotFound {
			t.Errorf("%s %s: %d %s", method, path, got.status, got.body)
		}
	}
	ada.ForgetCookies()
	mustBe(t, ada.SignIn(s.site+"/.login/op?return=%2Fin", e2e.Ada), http.StatusOK)
	if s.idOf(t, "ada@example.com") == id {
		t.Error("the id was given again")
	}
	s.wantLogged(t, "user deleted")
}

func TestRestoreSignsEverybodyOutAndFindsTheOldUsers(t *testing.T) {
	s := play(t, usual)
	ada := s.signedIn(t, e2e.Ada)
	before := ada.Cookie(s.site, cookieName)
	id := s.idOf(t, "ada@example.com")
	backup := s.operator(t, http.MethodGet, "backup", "")
	if backup.status != http.StatusOK || len(backup.body) < 100 {
		t.Fatalf("%d, %d bytes", backup.status, len(backup.body))
	}
	s.signOut(t, ada)
	grace := s.signedIn(t, e2e.Grace)
	conn, _ := s.dial(t, s.site, grace.Cookies(s.site))
	echoes(t, conn)
	later := s.signedIn(t, e2e.Ada)

	s.operator(t, http.MethodPost, "restore", backup.body, "Content-Type", "application/octet-stream").into(t, new(struct{ Restored bool }))
	for name, visitor := range map[string]*e2e.Visitor{"signed out since": replay(ada, s.site, before), "signed in since": later, "not in the backup": grace} {
		if s.isIn(visitor) {
			t.Errorf("somebody %s is in", name)
		}
	}
	mustClose(t, conn)
	later.ForgetCookies()
	mustBe(t, later.SignIn(s.site+"/.login/op?return=%2Fin", e2e.Ada), http.StatusOK)
	if got := s.idOf(t, "ada@example.com"); got != id {
		t.Errorf("she was %s and is %s", id, got)
	}
	var found people
	s.operator(t, http.MethodGet, "users?email=grace@example.com", "").into(t, &found)
	if len(found.Users) != 0 {
		t.Error("somebody is there who was not in the backup")
	}
	s.Kill()
	s.Restart()
	if s.isIn(replay(ada, s.site, before)) || !s.isIn(later) {
		t.Error("a restart changed who is signed in")
	}
}

func TestDamagedBackupChangesNothing(t *testing.T) {
	s := play(t, usual)
	ada := s.signedIn(t, e2e.Ada)
	backup := s.operator(t, http.MethodGet, "backup", "").body
	damaged := []byte(backup)
	damaged[len(damaged)/2] ^= 1
	for name, bad := range map[string]string{
		"cut short": backup[:len(backup)-1], "half": backup[:len(backup)/2], "damaged": string(damaged), "empty": "", "no backup": "hello",
	} {
		got := s.operator(t, http.MethodPost, "restore", bad, "Content-Type", "application/octet-stream")
		if got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, "nothing was changed") {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
		if !s.isIn(ada) {
			t.Fatalf("%s: it signed somebody out", name)
		}
	}
}

// Caddy's admin endpoint gives a request ten seconds; a big backup over a slow
// line takes longer.
func TestBackupThatArrivesSlowlyIsRestored(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for more than ten seconds")
	}
	s := play(t, usual)
	s.signedIn(t, e2e.Ada)
	backup := s.operator(t, http.MethodGet, "backup", "").body
	body, slow := io.Pipe()
	go func() {
		_, _ = io.WriteString(slow, backup[:len(backup)/2])
		<-time.After(12 * time.Second)
		_, _ = io.WriteString(slow, backup[len(backup)/2:])
		slow.Close()
	}()
	res, err := http.Post(fmt.Sprintf("http://127.0.0.1:%d/login/restore", s.AdminPort), "application/octet-stream", body)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusOK {
		t.Errorf("%d: %s", res.StatusCode, got)
	}
	s.idOf(t, "ada@example.com")
}

func TestBackupWhileSigningIn(t *testing.T) {
	s := play(t, usual)
	begun, stop, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		for n := 0; ; n++ {
			err := s.makeGuest(n)
			if n == 0 {
				close(begun)
			}
			if err != nil {
				ended <- err
				return
			}
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
		}
	}()
	<-begun
	var backup reply
	for range 3 {
		s.signedIn(t, e2e.Ada)
		backup = s.operator(t, http.MethodGet, "backup", "")
	}
	close(stop)
	if err := <-ended; err != nil || backup.status != http.StatusOK {
		t.Fatalf("making users meanwhile: %v; the backup: %d", err, backup.status)
	}
	s.operator(t, http.MethodPost, "restore", backup.body, "Content-Type", "application/octet-stream").into(t, new(struct{ Restored bool }))
	s.idOf(t, "ada@example.com")
	s.idOf(t, "guest0@example.com")
}

// makeGuest makes one user of many.
func (s *stage) makeGuest(n int) error {
	res, err := http.Post(fmt.Sprintf("http://127.0.0.1:%d/login/users", s.AdminPort), "application/json",
		strings.NewReader(fmt.Sprintf(`{"email":"guest%d@example.com"}`, n)))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("making guest %d: %s", n, res.Status)
	}
	return nil
}

// loadWithOperator runs Caddy within this process, with an admin endpoint, and
// overhears these events.
func loadWithOperator(t *testing.T, events ...string) *stage {
	t.Helper()
	s := &stage{Caddy: &e2e.Caddy{AdminPort: e2e.FreePort(t)}}
	caddyfile := fmt.Sprintf(strings.Replace(overheard, "admin off", "admin 127.0.0.1:%[4]d", 1),
		t.TempDir(), e2e.FreePort(t), closedIssuer(t), s.AdminPort)
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
	if err != nil {
		t.Fatal(err)
	}
	subscription := fmt.Sprintf(`"apps":{"events":{"subscriptions":[{"events":["%s"],"handlers":[{"handler":"login_test"}]}]},`, strings.Join(events, `","`))
	if err := caddy.Load([]byte(strings.Replace(string(adapted), `"apps":{`, subscription, 1)), true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	takeEvents()
	return s
}

func TestOperatorsChangesAreEvents(t *testing.T) {
	s := loadWithOperator(t, "user_provisioned", "user_disabled", "user_enabled", "user_groups_changed", "user_deleted")
	var user person
	s.operator(t, http.MethodPost, "users", `{"email":"ada@example.com","groups":["crew"]}`).into(t, &user)
	path := "users/" + user.ID
	steps := []struct{ event, method, path, body string }{
		{"user_disabled", http.MethodPost, path + "/disable", ""},
		{"user_enabled", http.MethodPost, path + "/enable", ""},
		{"user_groups_changed", http.MethodPut, path + "/groups", `{"groups":[]}`},
		{"user_deleted", http.MethodDelete, path, ""},
	}
	told := wantEvent(t, "user_provisioned", "user_id", "by")
	for _, step := range steps {
		if told["user_id"] != user.ID || told["by"] != "operator" {
			t.Errorf("before %s: %v", step.event, told)
		}
		if got := s.operator(t, step.method, step.path, step.body); got.status != http.StatusOK {
			t.Fatalf("%s: %d %s", step.path, got.status, got.body)
		}
		told = wantEvent(t, step.event, "user_id", "by")
	}
}
