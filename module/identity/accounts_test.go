package identity_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
)

func unlink(id identity.UserID, subject string, s identity.Surroundings) func(tx guest.Tx) error {
	key := account(subject, noon)
	return func(tx guest.Tx) error { _, err := identity.Unlink(tx, id, key.Key(), s); return err }
}

func TestAccountsAreOldestFirst(t *testing.T) {
	p := newPeople(t)
	p.settle(ada, "c", "a", "b")
	if got := p.subjects(ada); !slices.Equal(got, []string{"c", "a", "b"}) {
		t.Errorf("%q", got)
	}
}

func TestUnlinkHandsOverWhatRevokes(t *testing.T) {
	p := newPeople(t)
	p.settle(ada, "ada", "ada2")
	key := account("ada", noon)
	p.must(func(tx guest.Tx) error { return identity.KeepConsent(tx, key.Key(), []byte("sealed")) })
	var change identity.Change
	p.must(func(tx guest.Tx) (err error) {
		change, err = identity.Unlink(tx, ada, key.Key(), everything())
		return err
	})
	if change.Identity.Subject != "ada" || change.Identity.User != ada || !bytes.Equal(change.Consent, []byte("sealed")) || change.User.ID != ada {
		t.Errorf("%+v", change)
	}
	if got := p.subjects(ada); !slices.Equal(got, []string{"ada2"}) {
		t.Errorf("left: %q", got)
	}
	if ids, _ := p.find(identity.Query{Provider: "corp", Subject: "ada"}); len(ids) != 0 {
		t.Errorf("still found: %q", ids)
	}
	err := p.View(context.Background(), func(tx guest.Tx) error { _, err := identity.Consent(tx, key.Key()); return err })
	if !errors.Is(err, guest.ErrNotFound) {
		t.Errorf("the consent is still kept: %v", err)
	}
	p.refuses(guest.ErrNotFound, unlink(ada, "ada", everything()))
}

func TestNobodyUnlinksAnothersAccount(t *testing.T) {
	p := newPeople(t)
	p.settle(ada, "ada", "ada2")
	p.settle(eve, "eve", "eve2")
	p.refuses(identity.ErrNotYours, unlink(eve, "ada", everything()))
	for _, bad := range []identity.IdentityKey{"", "x", identity.IdentityKey(strings.Repeat("x", 1000))} {
		p.refuses(guest.ErrNotFound, func(tx guest.Tx) error { _, err := identity.Unlink(tx, eve, bad, everything()); return err })
	}
	if got := p.subjects(ada); len(got) != 2 {
		t.Errorf("left: %q", got)
	}
}

// The site that a test of the last way in is about.
var (
	nothing   = identity.Surroundings{At: later}
	codes     = identity.Surroundings{Codes: true, At: later}
	providers = identity.Surroundings{Offered: func(provider, _ string) bool { return provider == "corp" }, At: later}
	elsewhere = identity.Surroundings{Offered: func(_, issuer string) bool { return issuer == "https://new.example.com" }, Codes: true, At: later}
	mailOnly  = identity.Surroundings{Offered: func(provider, _ string) bool { return provider == "email" }, Codes: true, At: later}
)

func TestLastWayInStays(t *testing.T) {
	for name, c := range map[string]struct {
		ways   []string
		mailed bool // the first address was used to sign in
		remove string
		in     identity.Surroundings
		refuse bool
	}{
		"the only account":                            {ways: []string{"ada"}, remove: "ada", in: everything(), refuse: true},
		"one of two accounts":                         {ways: []string{"ada", "ada2"}, remove: "ada", in: providers},
		"one of two that no site offers":              {ways: []string{"ada", "ada2"}, remove: "ada", in: nothing, refuse: true},
		"one of two whose issuer changed":             {ways: []string{"ada", "ada2"}, remove: "ada", in: elsewhere, refuse: true},
		"the account beside an address":               {ways: []string{"ada", "ada@example.com"}, remove: "ada", in: everything()},
		"the account beside an address without codes": {ways: []string{"ada", "ada@example.com"}, remove: "ada", in: providers, refuse: true},
		"the only address":                            {ways: []string{"ada@example.com"}, remove: "ada@example.com", in: everything(), refuse: true},
		"one of two addresses":                        {ways: []string{"ada@example.com", "b@example.com"}, remove: "ada@example.com", in: codes},
		"one of two addresses without codes":          {ways: []string{"ada@example.com", "b@example.com"}, remove: "ada@example.com", in: providers, refuse: true},
		"the address beside an account":               {ways: []string{"ada", "ada@example.com"}, remove: "ada@example.com", in: providers},
		"the address beside an account not offered":   {ways: []string{"ada", "ada@example.com"}, remove: "ada@example.com", in: codes, refuse: true},
		"the address by which she came":               {ways: []string{"ada@example.com"}, mailed: true, remove: "ada@example.com", in: mailOnly, refuse: true},
		"the account beside the address she came by":  {ways: []string{"ada", "ada@example.com"}, mailed: true, remove: "ada", in: mailOnly},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeople(t)
			p.settle(ada, c.ways...)
			if user := p.read(ada); c.mailed {
				p.must(func(tx guest.Tx) error {
					return identity.Settle(tx, *user, []identity.Identity{mailed(string(user.Email))}, nil)
				})
			}
			operation := unlink(ada, c.remove, c.in)
			if strings.Contains(c.remove, "@") {
				operation = remove(ada, identity.Email(c.remove), c.in)
			}
			if err := p.do(operation); c.refuse != errors.Is(err, identity.ErrLastWayIn) || !c.refuse && err != nil {
				t.Errorf("%v", err)
			}
		})
	}
}

// Who catches the refusal and commits all the same has changed nothing.
func TestRefusedRemovalWritesNothing(t *testing.T) {
	p := newPeople(t)
	p.settle(ada, "ada@example.com")
	before := p.everything()
	p.must(func(tx guest.Tx) error {
		if err := remove(ada, "ada@example.com", everything())(tx); !errors.Is(err, identity.ErrLastWayIn) {
			t.Errorf("%v", err)
		}
		return nil
	})
	if after := p.everything(); !slices.Equal(before, after) {
		t.Errorf("%q became %q", before, after)
	}
}

// everything is each record of the store.
func (p people) everything() (all []string) {
	p.Helper()
	err := p.View(context.Background(), func(tx guest.Tx) error {
		all = nil
		return tx.Scan(nil, nil, 0, func(key, value []byte) bool {
			all = append(all, string(key)+" "+string(value))
			return true
		})
	})
	if err != nil {
		p.Fatal(err)
	}
	return all
}
