package identity_test

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/logintest"
)

// errUndone takes back what a transaction wrote.
var errUndone = errors.New("undone")

// FuzzRecords lays any records where those of a user and an account are: they
// are refused, or read as one person who has both; and what was read is what
// is written.
func FuzzRecords(f *testing.F) {
	const user, account = `{"id":"u1","state":"active","email":"ada@example.com","groups":["staff"],"created":"2026-01-02T03:04:05Z","created_by":"corp"}`,
		`{"provider":"corp","issuer":"https://id.example.com","subject":"ada","user":"u1","groups":["staff","a"],"linked":"2026-01-02T03:04:05Z"}`
	f.Add(byte(1), user, byte(1), account)
	f.Add(byte(2), user, byte(1), account)
	f.Add(byte(1), user, byte(2), account)
	f.Add(byte(0), user, byte(0), account)
	for _, odd := range []string{
		``, `null`, `{}`, `[]`, `{"id":"u1","state":"of a newer program","more":{}}`, `{"ID":"u1","USER":"u2"}`, `{"user":"u2"}`, `{"user":"u1","user":"u2"}`,
		`{"id":"u1","deletes":"2999-01-01T00:00:00+14:00"}`, `{"user":"u1","groups":null}`, `{"user":"u1","groups":[null,"","\u0000","a","a"]}`, `{"email":"A@B@c"}`,
	} {
		f.Add(byte(1), odd, byte(1), account)
		f.Add(byte(1), user, byte(1), odd)
	}
	store := logintest.Store(f)
	f.Fuzz(func(t *testing.T, userVersion byte, userText string, version byte, text string) {
		err := store.Update(context.Background(), func(tx guest.Tx) error {
			for key, value := range map[string]string{"user/u1": string([]byte{userVersion}) + userText, "identity/k1": string([]byte{version}) + text} {
				if err := tx.Put([]byte(key), []byte(value), time.Time{}); err != nil {
					t.Fatal(err)
				}
			}
			readsOnePerson(t, tx, userVersion, version)
			return errUndone
		})
		if !errors.Is(err, errUndone) {
			t.Fatal(err)
		}
	})
}

func readsOnePerson(t *testing.T, tx guest.Tx, userVersion, version byte) {
	user, err := identity.ReadUser(tx, "u1")
	if (user == nil) == (err == nil) || errors.Is(err, guest.ErrNewer) != (userVersion > 1) || userVersion == 0 && err == nil {
		t.Fatalf("user, version %d: %+v, %v", userVersion, user, err)
	}
	person, err := identity.ReadPerson(tx, "u1", "k1")
	if (person == nil) == (err == nil) || err == nil && (userVersion != 1 || version != 1) || version > 1 && userVersion == 1 && user != nil && !errors.Is(err, guest.ErrNewer) {
		t.Fatalf("account, version %d: %+v, %v", version, person, err)
	}
	if err != nil {
		return
	}
	if person.Identity.User != "u1" {
		t.Errorf("somebody else's account: %+v", person)
	}
	if groups := person.Groups(); !slices.IsSorted(groups) || len(slices.Compact(slices.Clone(groups))) != len(groups) {
		t.Errorf("groups %q", groups)
	}
	user.ID = "u1"
	if err := identity.WriteUser(tx, user); err != nil {
		t.Fatalf("%+v was read, but: %v", user, err)
	}
	if again, err := identity.ReadUser(tx, "u1"); err != nil || !sameUser(*again, *user) {
		t.Errorf("%+v became %+v, %v", user, again, err)
	}
}

// sameUser compares what matters: an empty list is none, and an instant is one
// in every zone.
func sameUser(a, b identity.User) bool {
	for _, u := range []*identity.User{&a, &b} {
		if len(u.Groups) == 0 {
			u.Groups = nil
		}
		for _, at := range []*time.Time{&u.Created, &u.SessionsFrom, &u.Deletes} {
			*at = at.UTC()
		}
	}
	return reflect.DeepEqual(a, b)
}
