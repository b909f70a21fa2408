package module

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/logintest"
	"github.com/caddy-login/caddy-login/module/record"
	"github.com/caddy-login/caddy-login/module/seal"
	"github.com/caddy-login/caddy-login/module/session"
)

func TestBackupIsDisarmed(t *testing.T) {
	store := logintest.Store(t)
	ring, err := seal.Load(t.Context(), store, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	sessions := session.Open(store, ring, time.Now)
	const many = 150
	var handles []string
	for range many {
		handles = append(handles, begin(t, store, sessions))
	}
	sealed, err := ring.Seal("attempt", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}

	if err := disarm(store); err != nil {
		t.Fatal(err)
	}
	for _, handle := range handles {
		if s, err := sessions.ByHandle(t.Context(), handle); err != nil || s.Ended.IsZero() {
			t.Fatalf("session %s lives: %v", handle, err)
		}
	}
	if err := ring.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Open("attempt", sealed); !errors.Is(err, seal.ErrSeal) {
		t.Errorf("what browsers hold opens: %v", err)
	}
}

// begin writes a user and a session of theirs.
func begin(t *testing.T, store guest.Store, sessions *session.Sessions) (handle string) {
	t.Helper()
	ticket, err := sessions.Issue("app.test")
	if err != nil {
		t.Fatal(err)
	}
	err = store.Update(t.Context(), func(tx guest.Tx) error {
		user := identity.User{ID: "somebody", State: identity.Active}
		if err := identity.WriteUser(tx, &user); err != nil {
			return err
		}
		begun, err := sessions.Start(tx, ticket, session.New{
			Person: identity.Person{User: user}, Lifetime: time.Hour, Idle: time.Hour,
		})
		if err == nil {
			handle = begun.Handle
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return handle
}

// breaking is a store whose backup fails after some bytes.
type breaking struct {
	guest.Archive
	said string
}

var errBroke = errors.New("the disk broke")

func (b breaking) Backup(_ context.Context, w io.Writer) error {
	if b.said == "" {
		return errBroke
	}
	_, err := io.WriteString(w, b.said)
	return errors.Join(err, errBroke)
}

// operatorOf serves one service of the operator's on a store.
func operatorOf(t *testing.T, store guest.Store, serve func(*desk) (any, error)) *httptest.Server {
	t.Helper()
	app := &App{door: new(door), log: zap.NewNop()}
	app.door.house.Store(&house{store: store})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d := &desk{w: w, r: r, app: app}
		if _, err := serve(d); err != nil {
			var problem caddy.APIError
			if !errors.As(asAPIError(err), &problem) {
				problem.HTTPStatus = http.StatusInternalServerError
			}
			http.Error(w, err.Error(), problem.HTTPStatus)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

func TestBackupThatBreaksOffIsNotTakenForAll(t *testing.T) {
	server := operatorOf(t, breaking{said: strings.Repeat("half of it", 10_000)}, (*desk).backup)
	res, err := http.Get(server.URL)
	if err == nil {
		_, err = io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
	if err == nil {
		t.Error("half of a backup looks whole")
	}
	dir := t.TempDir()
	c := &client{Command: new(cobra.Command), address: strings.TrimPrefix(server.URL, "http://")}
	if _, err := c.save(filepath.Join(dir, "x.backup")); err == nil || !strings.Contains(err.Error(), "of no use") {
		t.Errorf("saved: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestBackupThatCannotBeginSaysWhy(t *testing.T) {
	for want, store := range map[int]guest.Store{
		http.StatusInternalServerError: breaking{},
		http.StatusNotImplemented:      struct{ guest.Store }{},
	} {
		res, err := http.Get(operatorOf(t, store, (*desk).backup).URL)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%d, want %d", res.StatusCode, want)
		}
	}
}

func TestFileAppearsWithoutReplacingOne(t *testing.T) {
	dir := t.TempDir()
	part, file := filepath.Join(dir, "part"), filepath.Join(dir, "file")
	for name, text := range map[string]string{part: "new", file: "old"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := appear(part, file); err == nil {
		t.Error("it replaced one")
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "old" {
		t.Errorf("%q, %v", got, err)
	}
	if err := errors.Join(os.Remove(file), appear(part, file)); err != nil {
		t.Error(err)
	}
}

// What waits in a backup was used up, or given up, since it was made. There may
// be more of it than one transaction holds.
func TestBackupHoldsNothingThatWaits(t *testing.T) {
	store := logintest.Store(t)
	const many = 2*longestPage + 7
	key := func(kind record.Kind, i int) []byte { return kind.Key(fmt.Sprintf("%05d", i)) }
	for _, kind := range waits {
		for i := range many {
			err := store.Update(t.Context(), func(tx guest.Tx) error {
				return kind.Put(tx, key(kind, i), map[string]string{"sealed": "x"}, time.Now().Add(time.Hour))
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := disarm(store); err != nil {
		t.Fatal(err)
	}
	err := store.View(t.Context(), func(tx guest.Tx) error {
		for _, kind := range waits {
			for i := range many {
				left := map[string]string{}
				if err := kind.Get(tx, key(kind, i), &left); err != nil || len(left) != 0 {
					return fmt.Errorf("%s %d is %v, %w", kind.Name, i, left, err)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// ailing is a store whose disk fails as a restore exchanges the data.
type ailing struct {
	guest.Store
	fresh guest.Store
	lost  bool // it does not open again
	gone  bool
}

var errAiling = errors.New("the disk failed")

func (a *ailing) Backup(context.Context, io.Writer) error { return errAiling }

func (a *ailing) Restore(_ context.Context, _ io.Reader, prepare func(guest.Store) error) error {
	a.gone = a.lost
	return errors.Join(prepare(a.fresh), errAiling)
}

func (a *ailing) Update(ctx context.Context, fn func(guest.Tx) error) error {
	if a.gone {
		return errAiling
	}
	return a.Store.Update(ctx, fn)
}

func TestRestoreThatBreaksOffSaysWhatIsKnown(t *testing.T) {
	for _, lost := range []bool{false, true} {
		store := &ailing{Store: logintest.Store(t), fresh: logintest.Store(t), lost: lost}
		app := &App{door: new(door), log: zap.NewNop()}
		app.door.house.Store(houseOn(t, store))
		r := httptest.NewRequest(http.MethodPost, "/login/restore", strings.NewReader("x"))
		r.Header.Set("Content-Type", archiveKind)
		_, err := (&desk{w: httptest.NewRecorder(), r: r, app: app}).restore()
		if !errors.Is(err, errAiling) && !strings.Contains(fmt.Sprint(err), errAiling.Error()) {
			t.Errorf("lost %t: %v", lost, err)
		}
		if says := strings.Contains(fmt.Sprint(err), "nothing was changed"); says == lost {
			t.Errorf("lost %t: %v", lost, err)
		}
	}
}

// houseOn is a house on an open store.
func houseOn(t *testing.T, store guest.Store) *house {
	t.Helper()
	opened, err := openHouse(opening{store}, guest.Env{Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(opened.stop)
	return opened
}

// opening is a store's module whose store is open.
type opening struct{ guest.Store }

func (opening) Key() string                           { return "open" }
func (o opening) Open(guest.Env) (guest.Store, error) { return o.Store, nil }
