package identity_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
)

// The attacks of Sudhodanan and Paverd, "Pre-hijacked accounts" (USENIX Security
// 2022), as far as they are decided here: somebody prepares an account for an
// address that is not theirs, and waits for its holder to come.

const victim = identity.Email("victim@example.com")

// victims are the ways in which the holder of an address may come.
var victims = map[string]func(t *testing.T, p people) identity.Admitted{
	"by a code": func(t *testing.T, p people) identity.Admitted { return mustProve(t, p.Store, proof(victim)) },
	"by who runs the mailbox": func(t *testing.T, p people) identity.Admitted {
		return mustAdmit(t, p.Store, arrival("the victim's", string(victim), guest.Authoritative))
	},
	"by who has checked": func(t *testing.T, p people) identity.Admitted {
		return mustAdmit(t, p.Store, arrival("the victim's", string(victim), guest.Verified))
	},
	"by who asserts it, with a code": func(t *testing.T, p people) identity.Admitted {
		a := arrival("the victim's", string(victim), guest.Asserted)
		a.Verify, a.Said.Code = true, victim
		return mustAdmit(t, p.Store, a)
	},
}

// comesInAlone fails the test unless the victim becomes somebody that nobody
// else leads to.
func comesInAlone(t *testing.T, prepare func(t *testing.T, p people) identity.UserID) {
	t.Helper()
	for how, come := range victims {
		t.Run(how, func(t *testing.T) {
			p := newPeople(t)
			attacker := prepare(t, p)
			admitted := come(t, p)
			own := admitted.Person.User.ID
			if !admitted.Created || own == attacker || admitted.Person.User.Email != victim {
				t.Fatalf("%+v; the attacker is %s", admitted, attacker)
			}
			v := p.check()
			for _, account := range v.identities {
				if account.User == own && account.Key() != admitted.Person.Identity.Key() {
					t.Errorf("%q leads to the victim", account.Subject)
				}
			}
			if v.identifiers[string(victim)].User != own || v.users[attacker].Email == victim {
				t.Error("the address is the attacker's")
			}
		})
	}
}

// The classic-federated merge: an account with the address, which nobody asked
// to be proven, waits for the holder's federated one to be merged into it.
func TestUnprovenAccountWaitsInVain(t *testing.T) {
	for _, rules := range []guest.EmailRules{{}, {Identifier: true}, {Merge: true}, {Identifier: true, Merge: true, Confirmation: "none"}} {
		comesInAlone(t, func(t *testing.T, p people) identity.UserID {
			a := arrival("the attacker's", string(victim), guest.Asserted)
			a.Traits.Email = rules
			attacker := mustAdmit(t, p.Store, a).Person.User
			if attacker.Email != "" {
				t.Errorf("apps read %q", attacker.Email)
			}
			return attacker.ID
		})
	}
}

// The trojan identifier: an account of the attacker's own, with the victim's
// address beside it.
func TestTrojanIdentifierIsNone(t *testing.T) {
	comesInAlone(t, func(t *testing.T, p people) identity.UserID {
		attacker := mustProve(t, p.Store, proof("attacker@example.com")).Person.User.ID
		trojan := connecting(attacker, "the trojan")
		trojan.Profile.Email, trojan.Profile.EmailTrust = string(victim), guest.Asserted
		trojan.Verify = true
		if admitted := mustAdmit(t, p.Store, trojan); admitted.Row != "B1" || admitted.Identifier {
			t.Errorf("%+v", admitted.Decision)
		}
		return attacker
	})
}

// The unexpired change of address: begun by the attacker, and finished by the
// victim's own sign-in.
func TestChangeOfAddressThatWasOnlyBegunIsNone(t *testing.T) {
	comesInAlone(t, func(t *testing.T, p people) identity.UserID {
		return mustProve(t, p.Store, proof("attacker@example.com")).Person.User.ID
	})
	p := newPeople(t)
	attacker := mustProve(t, p.Store, proof("attacker@example.com")).Person.User.ID
	mustProve(t, p.Store, proof(victim))
	p.refuses(identity.ErrEmailInUse, add(attacker, victim)) // with a code that was read over a shoulder
}

// A provider that does not verify leads to nobody else's account, whatever the
// operator allows and whatever was said, unless the mailbox was read.
func TestProviderThatDoesNotVerifyLeadsToNobodyElse(t *testing.T) {
	p := newPeople(t)
	holder := mustProve(t, p.Store, proof(victim)).Person.User.ID
	before := p.check()
	said := identity.Said{Link: holder, Keep: holder, Owner: holder, Switch: holder, Code: "attacker@example.com"}
	for _, confirmation := range []string{"auto", "click", "proof", "none"} {
		for _, verify := range []bool{false, true} {
			a := arrival("the attacker's", string(victim), guest.Asserted)
			a.Traits.Email.Confirmation, a.Verify, a.Said = confirmation, verify, said
			admitted, err := admit(t, p.Store, a)
			if verify && admitted.Needs != identity.ProofOfMail || !verify && !errors.Is(err, identity.ErrEmailInUse) {
				t.Errorf("%s, %v: %+v, %v", confirmation, verify, admitted.Decision, err)
			}
		}
	}
	if v := p.check(); len(v.identities) != len(before.identities) || len(v.users) != 1 {
		t.Error("something was written")
	}
}

// The unexpired session, and all that waits: what somebody began before the
// first proof ends with it.
func TestFirstProofEndsWhatIsOlder(t *testing.T) {
	for how, firstProof := range map[string]func(t *testing.T, p people, id identity.UserID, at time.Time){
		"a claim by a provider": func(t *testing.T, p people, _ identity.UserID, at time.Time) {
			a := arrival("the victim's", string(victim), guest.Authoritative)
			a.At = at
			mustAdmit(t, p.Store, a)
		},
		"a claim by a code": func(t *testing.T, p people, _ identity.UserID, at time.Time) {
			a := proof(victim)
			a.At = at
			mustProve(t, p.Store, a)
		},
		"an account with an address": func(t *testing.T, p people, id identity.UserID, at time.Time) {
			a := connecting(id, "with an address")
			a.Profile.Email, a.Profile.EmailTrust, a.At = "other@example.com", guest.Verified, at
			mustAdmit(t, p.Store, a)
		},
	} {
		t.Run(how, func(t *testing.T) {
			p := newPeople(t)
			var invited identity.User
			p.must(func(tx guest.Tx) (err error) {
				invited, err = identity.Provision(tx, identity.Invitation{Email: victim, At: noon})
				return err
			})
			p.must(func(tx guest.Tx) error {
				return identity.Settle(tx, invited, []identity.Identity{account("an older way in", noon)}, nil)
			})
			proven := noon.Add(5 * time.Minute)
			firstProof(t, p, invited.ID, proven)
			if got := p.read(invited.ID).SessionsFrom; !got.Equal(proven) {
				t.Errorf("sessions from %s", got)
			}
			pendingEnds(t, p, invited.ID, proven)
		})
	}
}

// pendingEnds fails the test unless what was begun before an instant leads
// nowhere, and what is begun then does.
func pendingEnds(t *testing.T, p people, id identity.UserID, instant time.Time) {
	t.Helper()
	connect := connecting(id, "of a pending flow")
	known := arrival("an older way in", "", guest.NoEmail)
	merging := arrival("a third one", string(victim), guest.Authoritative)
	merging.Traits.Email.Confirmation = "none"
	for name, a := range map[string]identity.Arrival{"connecting": connect, "known": known, "merging": merging} {
		a.At, a.Began = instant.Add(time.Minute), instant.Add(-time.Second)
		before := p.check()
		admitted, err := admit(t, p.Store, a)
		want := identity.Decision{Row: admitted.Row, Why: identity.ErrOutdated, User: id}
		if !errors.Is(err, identity.ErrOutdated) || admitted.Decision != want || len(p.check().identities) != len(before.identities) {
			t.Errorf("%s: %+v, %v", name, admitted.Decision, err)
		}
		if name == "merging" {
			continue // it might be a first proof of its own
		}
		a.Began = instant
		if _, err := admit(t, p.Store, a); err != nil {
			t.Errorf("%s, begun in time: %v", name, err)
		}
	}
	if addresses := p.addresses(id); len(addresses) > 0 && addresses[0].IsProven() {
		late := proof(addresses[0].Email)
		late.At, late.Began = instant.Add(time.Minute), instant.Add(-time.Second)
		if admitted, err := prove(p.Store, late); !errors.Is(err, identity.ErrOutdated) || admitted.Do != identity.Refuse {
			t.Errorf("a code: %+v, %v", admitted.Decision, err)
		}
		late.Began = instant
		mustProve(t, p.Store, late)
	}
}

// However an address is spelt, it is the holder's or no address: no spelling is
// another person's way to it.
func TestSpellingsOfAnAddressAreOneOrNone(t *testing.T) {
	p := newPeople(t)
	holder := mustProve(t, p.Store, proof("kim.i+x@kiosk.example.com")).Person.User.ID
	for spelling, same := range map[string]bool{
		"kim.i+x@kiosk.example.com": true, "KIM.I+X@KIOSK.EXAMPLE.COM": true, "Kim.I+x@Kiosk.Example.com": true,
		"kim.i+x@\u212aiosk.example.com": true, "kim.i+x@ｋiosk.example.com": true, "kim.i+x@kiosk。example.com": true,
		"\u212aim.i+x@kiosk.example.com": false, "k\u0131m.i+x@kiosk.example.com": false, "ｋim.i+x@kiosk.example.com": false,
		"kim.i+x＠kiosk.example.com": false, " kim.i+x@kiosk.example.com": false, "kim.i+x@kiosk.example.com ": false,
		"kim.i+x@kiosk.example.com.": false, "kim.i+x@kiosk.example.com\x00": false, `"kim.i+x"@kiosk.example.com`: false,
		"kim.i+x@kiosk.example.com,eve@example.com": false, "<kim.i+x@kiosk.example.com>": false, "kim.i+x%kiosk.example.com@example.org": false,
	} {
		a := arrival(spelling, spelling, guest.Verified)
		admitted, err := admit(t, p.Store, a)
		switch {
		case err != nil:
			t.Errorf("%q: %v", spelling, err)
		case same && (admitted.User != holder || admitted.Needs != identity.ProofOfOwner):
			t.Errorf("%q: %+v; want a proof that they are the holder", spelling, admitted.Decision)
		case !same && (admitted.Row != "C1" || admitted.Person.User.Email != ""):
			t.Errorf("%q: %+v; want nobody's address", spelling, admitted.Decision)
		}
	}
	// Neither dots nor what follows a plus are folded, and a letter that looks the
	// same is another.
	for _, other := range []string{"kimi+x@kiosk.example.com", "kim.i@kiosk.example.com", "kim.i+x@kiosk.exаmple.com"} {
		if admitted := mustAdmit(t, p.Store, arrival(other, other, guest.Verified)); admitted.Row != "E1" || admitted.Person.User.ID == holder {
			t.Errorf("%q: %+v", other, admitted.Decision)
		}
	}
}

// Who may sign up is asked of an address only where it is proven, or will be.
func TestSignUpIsAskedOfProvenAddresses(t *testing.T) {
	p := newPeople(t)
	invited := func(email identity.Email) bool { return email == victim }
	for _, c := range []struct {
		trust  guest.Trust
		verify bool
		code   identity.Email
		row    string
	}{
		{guest.Asserted, false, "", "D4"},
		{guest.Asserted, false, "attacker@example.com", "D4"},
		{guest.Asserted, true, "", "D3"},
		{guest.Asserted, false, victim, "D2"},
		{guest.Verified, false, "", "E1"},
	} {
		a := arrival("the account", string(victim), c.trust)
		a.SignUp, a.Verify, a.Said.Code = invited, c.verify, c.code
		var row string
		err := p.do(func(tx guest.Tx) error {
			d, _, err := identity.Preview(tx, a)
			row = d.Row
			return err
		})
		if err != nil || row != c.row {
			t.Errorf("%+v: row %s, %v", c, row, err)
		}
	}
}

// The account of somebody else than whose it was said to be: nothing is known of
// an issuer but by its own name.
func TestOwnerIsWhoMaySignInByTheAccount(t *testing.T) {
	p := newPeople(t)
	p.settle(ada, "ada", "ada@example.com")
	owner := func(provider, at, subject string) (id identity.UserID) {
		p.must(func(tx guest.Tx) (err error) {
			id, err = identity.OwnerOf(tx, provider, guest.Profile{Issuer: at, Subject: subject})
			return err
		})
		return id
	}
	if got := owner("corp", issuer, "ada"); got != ada {
		t.Errorf("%q", got)
	}
	for _, other := range [][3]string{{"corp", issuer, "eve"}, {"corp", "https://other.example.com", "ada"}, {"other", issuer, "ada"}} {
		if got := owner(other[0], other[1], other[2]); got != "" {
			t.Errorf("%q has %q", got, other)
		}
	}
	for _, state := range []identity.State{identity.Disabled, identity.Deleting, identity.Deleted} {
		user := p.read(ada)
		user.State = state
		p.must(func(tx guest.Tx) error { return identity.WriteUser(tx, user) })
		if got := owner("corp", issuer, "ada"); got != "" {
			t.Errorf("%s, who is %s", got, state)
		}
	}
}

// A name that the person chose, or that was there before, is not another
// account's to change.
func TestConnectedAccountDoesNotRename(t *testing.T) {
	p := newPeople(t)
	p.settle(ada, "ada@example.com")
	p.must(func(tx guest.Tx) error { _, err := identity.Rename(tx, ada, "Countess"); return err })
	for _, subject := range []string{"first", "first"} { // connected, then signed in by
		a := connecting(ada, subject)
		a.Profile.Name, a.Profile.Picture = "Mallory", "https://example.com/m.png"
		if name := mustAdmit(t, p.Store, a).Person.User.Name; name != "Countess" {
			t.Errorf("is called %q", name)
		}
	}
	if groups := p.read(ada).Groups; slices.Contains(groups, identity.ExternalUsers) {
		t.Errorf("in the groups %q", groups)
	}
}

// What an operator called somebody stays when an account of theirs says
// otherwise; where nothing is known, it is taken over.
func TestConnectedAccountNamesOnlyTheNameless(t *testing.T) {
	for name, want := range map[string]string{"Ada": "Ada", "": "Mallory"} {
		p := newPeople(t)
		p.must(func(tx guest.Tx) error {
			_, err := identity.Provision(tx, identity.Invitation{Email: victim, Name: name, At: noon})
			return err
		})
		a := arrival("subject", string(victim), guest.Authoritative)
		a.Profile.Name = "Mallory"
		if got := mustAdmit(t, p.Store, a).Person.User; got.Name != want || p.read(got.ID).Name != want {
			t.Errorf("%q is called %q", name, got.Name)
		}
	}
}

// A further address leaves the primary one alone, and only a claim ends what is
// older: then somebody may have come before its holder.
func TestFurtherAddressLeavesThePrimaryOne(t *testing.T) {
	further := identity.Address{Email: victim, Identifier: identity.Identifier{By: identity.Operator}}
	first := identity.Address{Email: "ada@example.com", Identifier: identity.Identifier{Proven: noon, By: "corp"}}
	for row, provisioned := range map[string]bool{"B1": false, "E8": true} {
		p := newPeople(t)
		p.must(func(tx guest.Tx) error {
			all := []identity.Address{first}
			if provisioned {
				all = append(all, further)
			}
			return identity.Settle(tx, identity.User{ID: ada, State: identity.Active, Email: first.Email}, nil, all)
		})
		a := connecting(ada, "subject")
		if provisioned {
			a = arrival("subject", "", guest.NoEmail)
		}
		a.Profile.Email, a.Profile.EmailTrust = string(victim), guest.Authoritative
		admitted := mustAdmit(t, p.Store, a)
		user := p.read(ada)
		if admitted.Row != row || user.Email != first.Email || user.SessionsFrom.Equal(noon) != provisioned {
			t.Errorf("%s: %+v, %+v", row, admitted.Decision, user)
		}
		if held := p.check().identifiers[string(victim)]; held.User != ada || !held.IsProven() {
			t.Errorf("%s: %+v", row, held)
		}
	}
}

// With a code, too, words count for whom they were said.
func TestWordsAboutOthersCountForNothingWithACode(t *testing.T) {
	p := newPeople(t)
	holder := mustProve(t, p.Store, proof(victim)).Person.User.ID
	p.settle(eve, "eve@example.com")
	others := identity.Said{Switch: holder, Link: eve, Keep: eve, Owner: eve, Code: "eve@example.com"}
	a := proof(victim)
	a.Here, a.Said = eve, others
	if admitted := mustProve(t, p.Store, a); admitted.Needs != identity.SwitchOrStay {
		t.Errorf("%+v", admitted.Decision)
	}
	a.Email = "new@example.com"
	if admitted := mustProve(t, p.Store, a); admitted.Needs != identity.SwitchOrStay {
		t.Errorf("%+v", admitted.Decision)
	}
	p.must(begin(holder, later))
	a = proof(victim)
	a.Said = others
	if admitted := mustProve(t, p.Store, a); admitted.Needs != identity.KeepAccount || p.read(holder).State != identity.Deleting {
		t.Errorf("%+v", admitted.Decision)
	}
}
