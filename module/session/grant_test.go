package session_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/session"
)

var granted = session.Grant{
	Issuer: "https://id.example.com", Subject: "ada", IDToken: "the-id-token",
	Access: "the-access-token", Refresh: "the-refresh-token",
}

func TestGrantLivesAsLongAsItsSession(t *testing.T) {
	w := newWorld(t)
	g := granted
	begun, cookie := w.begin(session.New{Grant: &g})
	w.restart()
	if live := w.signedIn(cookie); live.Grant == nil || *live.Grant != granted {
		t.Fatalf("kept %+v", live.Grant)
	}
	got, err := w.sessions.Grant(context.Background(), begun.Key)
	w.must(err)
	if *got != granted {
		t.Errorf("kept %+v", got)
	}
	w.must(w.sessions.End(context.Background(), begun.Key))
	if _, err := w.sessions.Grant(context.Background(), begun.Key); !errors.Is(err, session.ErrNone) {
		t.Errorf("after the end: %v", err)
	}
	if n := w.records("grant/"); n != 0 {
		t.Errorf("%d grants stay behind", n)
	}
}

// A hint alone is read at the sign-out, not with every session.
func TestHintAloneIsNotCarriedAlong(t *testing.T) {
	w := newWorld(t)
	begun, cookie := w.begin(session.New{Grant: &session.Grant{IDToken: "the-id-token"}})
	if live := w.signedIn(cookie); live.Grant != nil {
		t.Errorf("carried %+v", live.Grant)
	}
	got, err := w.sessions.Grant(context.Background(), begun.Key)
	w.must(err)
	if got.IDToken != "the-id-token" {
		t.Errorf("kept %+v", got)
	}
}

func TestGrantIsSealedInTheStore(t *testing.T) {
	w := newWorld(t)
	g := granted
	w.begin(session.New{Grant: &g})
	w.must(w.store.Close())
	w.must(filepath.Walk(w.dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		for _, secret := range []string{"the-id-token", "the-access-token", "the-refresh-token"} {
			if bytes.Contains(data, []byte(secret)) {
				t.Errorf("%s holds %s", path, secret)
			}
		}
		return err
	}))
}

// Carried to another session's record, a grant opens nothing.
func TestGrantOpensForItsSessionOnly(t *testing.T) {
	w := newWorld(t)
	g, h := granted, granted
	first, cookie := w.begin(session.New{Grant: &g})
	second, _ := w.begin(session.New{Grant: &h})
	w.must(w.store.Update(context.Background(), func(tx guest.Tx) error {
		stolen, err := tx.Get([]byte("grant/" + string(second.Key[:])))
		if err != nil {
			return err
		}
		return tx.Put([]byte("grant/"+string(first.Key[:])), stolen, time.Time{})
	}))
	w.signedOut(cookie)
	if got, err := w.sessions.Grant(context.Background(), first.Key); err == nil {
		t.Errorf("opened %+v", got)
	}
}

func TestRenewedGrantIsSeenByTheNextRequest(t *testing.T) {
	w := newWorld(t)
	g := granted
	begun, cookie := w.begin(session.New{Grant: &g})
	w.signedIn(cookie)
	next := g.Renewed(guest.Tokens{Access: "another", Refresh: "and its own"}, w.clock.Now())
	w.must(w.sessions.Renew(context.Background(), begun.Key, next))
	if live := w.signedIn(cookie); live.Grant.Access != "another" || live.Grant.IDToken != "the-id-token" {
		t.Errorf("kept %+v", live.Grant)
	}
}

// What comes back from the provider late must not outlive the sign-out.
func TestEndedSessionIsNotRenewed(t *testing.T) {
	w := newWorld(t)
	g := granted
	begun, cookie := w.begin(session.New{Grant: &g})
	w.must(w.sessions.End(context.Background(), begun.Key))
	if err := w.sessions.Renew(context.Background(), begun.Key, &g); !errors.Is(err, session.ErrNone) {
		t.Errorf("renewed: %v", err)
	}
	w.signedOut(cookie)
	if n := w.records("grant/"); n != 0 {
		t.Errorf("%d grants came back", n)
	}
}

func TestTokensTooLongForAStoreAreRefused(t *testing.T) {
	w := newWorld(t)
	ticket, err := w.sessions.Issue(host)
	w.must(err)
	start := func(access string) error {
		return w.store.Update(context.Background(), func(tx guest.Tx) error {
			_, err := w.sessions.Start(tx, ticket, session.New{
				Person: w.person, Lifetime: time.Hour, Idle: time.Hour, Grant: &session.Grant{Access: guest.Secret(access)},
			})
			return err
		})
	}
	if err := start(strings.Repeat("x", 41<<10)); !errors.Is(err, session.ErrTooLong) {
		t.Errorf("got %v", err)
	}
	w.must(start(strings.Repeat("x", 39<<10)))
}

// records counts the keys of a kind.
func (w *world) records(prefix string) (n int) {
	w.t.Helper()
	w.must(w.store.View(context.Background(), func(tx guest.Tx) error {
		return tx.Scan([]byte(prefix), nil, 0, func(_, _ []byte) bool { n++; return true })
	}))
	return n
}
