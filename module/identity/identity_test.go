package identity_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/logintest"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func everyone(identity.Email) bool { return true }
func nobody(identity.Email) bool   { return false }

func rules(identifier, merge bool) guest.EmailRules {
	return guest.EmailRules{Identifier: identifier, Merge: merge}
}

func arrival(subject, email string, trust guest.Trust) identity.Arrival {
	return identity.Arrival{
		Traits:  guest.Traits{Name: "corp", Email: rules(true, true)},
		Profile: guest.Profile{Issuer: "https://id.example.com", Subject: subject, Email: email, EmailTrust: trust, Name: "Ada"},
		SignUp:  everyone, At: noon,
	}
}

func admit(t *testing.T, store guest.Store, a identity.Arrival) (identity.Admitted, error) {
	t.Helper()
	var admitted identity.Admitted
	err := store.Update(context.Background(), func(tx guest.Tx) (err error) {
		admitted, err = identity.Admit(tx, a)
		return err
	})
	return admitted, err
}

func mustAdmit(t *testing.T, store guest.Store, a identity.Arrival) identity.Admitted {
	t.Helper()
	admitted, err := admit(t, store, a)
	if err != nil {
		t.Fatal(err)
	}
	return admitted
}

func TestKnownAccountIsItsUserWhateverItsAddressBecame(t *testing.T) {
	store := logintest.Store(t)
	ada := mustAdmit(t, store, arrival("ada", "ada@example.com", guest.Verified))
	eve := mustAdmit(t, store, arrival("eve", "eve@example.com", guest.Verified))

	again := arrival("ada", "eve@example.com", guest.Authoritative)
	again.Profile.Groups = []string{"staff"}
	admitted := mustAdmit(t, store, again)
	if admitted.Row != "A1" || admitted.Created || admitted.Person.User.ID != ada.Person.User.ID {
		t.Fatalf("%+v; want A1 and the same user", admitted)
	}
	if !admitted.Changed {
		t.Error("new groups are no change")
	}
	if again := mustAdmit(t, store, again); again.Changed {
		t.Error("the same again is a change")
	}
	if admitted.Person.User.Email != "ada@example.com" {
		t.Errorf("a changed address moved the identifier: %s", admitted.Person.User.Email)
	}
	if got := admitted.Person.Groups(); len(got) != 3 || got[2] != "staff" {
		t.Errorf("groups %q, want the operator's and the provider's", got)
	}
	if eve.Person.User.ID == ada.Person.User.ID {
		t.Error("two accounts are one user")
	}
}

func TestAccountsOfOtherIssuersAndInstancesAreOthers(t *testing.T) {
	store := logintest.Store(t)
	first := mustAdmit(t, store, arrival("ada", "", guest.NoEmail)).Person.User.ID
	elsewhere := arrival("ada", "", guest.NoEmail)
	elsewhere.Profile.Issuer = "https://other.example.com"
	instance := arrival("ada", "", guest.NoEmail)
	instance.Traits.Name = "corp2"
	for _, a := range []identity.Arrival{elsewhere, instance} {
		if other := mustAdmit(t, store, a); other.Person.User.ID == first || !other.Created {
			t.Errorf("%s at %s is the same user", a.Traits.Name, a.Profile.Issuer)
		}
	}
}

// A state that this program does not know, or none, is nobody's who may come in.
func TestOnlyWhoIsActiveComesIn(t *testing.T) {
	store := logintest.Store(t)
	user := mustAdmit(t, store, arrival("ada", "", guest.NoEmail)).Person.User
	for state, want := range map[identity.State]error{
		identity.Disabled: identity.ErrAccountDisabled, "": identity.ErrAccountDisabled, "king": identity.ErrAccountDisabled,
		identity.Active: nil,
	} {
		user.State = state
		err := store.Update(context.Background(), func(tx guest.Tx) error { return identity.WriteUser(tx, &user) })
		if err != nil {
			t.Fatal(err)
		}
		if _, err := admit(t, store, arrival("ada", "", guest.NoEmail)); !errors.Is(err, want) || err != nil && want == nil {
			t.Errorf("state %q: %v", state, err)
		}
	}
}

func TestParseEmail(t *testing.T) {
	for in, want := range map[string]identity.Email{
		"Ada@Example.COM":         "ada@example.com",
		"a+b.c@sub.example.co.uk": "a+b.c@sub.example.co.uk",
		"ada@bücher.example":      "ada@xn--bcher-kva.example",
		"o'brien@example.com":     "o'brien@example.com",
	} {
		if got, err := identity.ParseEmail(in); err != nil || got != want {
			t.Errorf("%q is %q, %v; want %q", in, got, err, want)
		}
	}
	for _, bad := range []string{
		"", "@", "a@", "@b.c", "a", "a@b", "a b@c.de", "a@b@c.de", "a@evil.com,b@corp.com", "a@evil.com b@corp.com",
		`"a b"@c.de`, "Ada <a@b.de>", "a@b.de>", "a@[127.0.0.1]", "a@b..de", ".a@b.de", "a.@b.de", "a..b@c.de",
		"a@b.de\r\nBcc: x@y.z", "a\x00@b.de", "a@b.de\x00", "ada@example.com.", "\u212a@example.com", "\u0131@example.com",
		"a\uff20b.de", "a@b\uff0ede\n", "a@-b.de", "a;b@c.de", "a:b@c.de", "(c)a@b.de", "a%40b@c@d.de", "0@0.\x8e", "a@.com",
		"a@127.0.0.1", "a@10.1", "a@b.0x7f", "a@b.0X", "a@①②⑦.⓪.⓪.①", "a@١٢٧.٠.٠.١", "a@example.7",
	} {
		if got, err := identity.ParseEmail(bad); err == nil {
			t.Errorf("%q is taken as %q", bad, got)
		}
	}
}

// What comes out is canonical: it stands for itself, and holds no separator
// that a list of addresses or a mail header would read.
func FuzzParseEmail(f *testing.F) {
	for _, seed := range []string{"Ada@Example.com", "a@bücher.example", "a@evil.com,b@corp.com", "a@b@c.de", "\u0131@example.com"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		email, err := identity.ParseEmail(s)
		if err != nil {
			return
		}
		if again, err := identity.ParseEmail(string(email)); err != nil || again != email {
			t.Fatalf("%q gives %q, which gives %q, %v", s, email, again, err)
		}
		ats := 0
		for _, c := range []byte(email) {
			if c <= ' ' || c >= 0x7f || c == ',' || c == ';' || c == '<' || c == '>' || 'A' <= c && c <= 'Z' {
				t.Fatalf("%q gives %q", s, email)
			}
			if c == '@' {
				ats++
			}
		}
		if ats != 1 {
			t.Fatalf("%q gives %q", s, email)
		}
	})
}

func TestMaskShowsNoAddress(t *testing.T) {
	if got := identity.Email("ada@example.com").Mask(); got != "a•••@e•••.com" {
		t.Error(got)
	}
}
