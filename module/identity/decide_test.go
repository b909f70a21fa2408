package identity

import (
	"errors"
	"testing"

	"github.com/caddy-login/caddy-login/module/guest"
)

// The people of the table. Of each state there is one, so that a case says by
// its names what it is.
var (
	visitor   = &User{ID: "visitor", State: Active}
	bearer    = &User{ID: "bearer", State: Active}
	disabled  = &User{ID: "disabled", State: Disabled}
	deleting  = &User{ID: "deleting", State: Deleting}
	stateless = &User{ID: "stateless"}
)

const wanted, unwanted = Email("ada@example.com"), Email("eve@example.com")

// everyCase calls fn with each situation there can be. It is the caller's until
// fn returns.
func everyCase(fn func(s *situation)) {
	for _, at := range addressesOfTheTable() {
		for flags := range 1 << 6 {
			for _, confirmation := range []string{"auto", "click", "proof", "none"} {
				s := at
				s.rules = guest.EmailRules{
					Identifier: flags&1 > 0, Merge: flags&2 > 0, CreateUnlinked: flags&4 > 0, Confirmation: confirmation,
				}
				s.verify, s.signUp, s.privileged = flags&8 > 0, flags&16 > 0, flags&32 > 0
				if s.verify && !s.rules.Identifier {
					continue // D9: it is inert, before it comes to this
				}
				everyVisit(s, fn)
			}
		}
	}
}

// addressesOfTheTable are all there is to know of an address.
func addressesOfTheTable() (all []situation) {
	all = append(all, situation{})
	for _, trust := range []guest.Trust{guest.Asserted, guest.Verified, guest.Authoritative} {
		all = append(all, situation{email: wanted, trust: trust})
		for _, holder := range []*User{bearer, disabled, deleting} {
			all = append(all,
				situation{email: wanted, trust: trust, holder: holder},
				situation{email: wanted, trust: trust, holder: holder, provisioned: true})
		}
	}
	return all
}

// everyVisit adds who is signed in, what for they came, whose the account is, and
// what they have said.
func everyVisit(s situation, fn func(s *situation)) {
	owners := []*User{nil}
	// The flags and the holder are nothing to an account that is known: a few
	// cases show it.
	if s.privileged && s.rules.Confirmation == "proof" {
		owners = []*User{nil, visitor, bearer, disabled, deleting, stateless}
	}
	for _, s.here = range []*User{nil, visitor, s.holder} {
		for _, s.intent = range []Intent{ToLogin, ToLink} {
			for _, s.owner = range owners {
				everyWord(s, fn)
			}
		}
	}
}

// everyWord has nothing said, each right word alone, the right ones together,
// and each about somebody or something else.
func everyWord(s situation, fn func(s *situation)) {
	here, holder := idOf(s.here), idOf(s.holder)
	said := []Said{
		{}, {Code: s.email}, {Code: unwanted}, {Switch: here}, {Link: here}, {Link: here, Keep: here},
		{Switch: here, Link: here}, {Switch: "else", Link: "else", Keep: "else", Owner: "else", Code: unwanted},
	}
	if s.holder != nil {
		said = append(said, Said{Owner: holder}, Said{Link: holder}, Said{Switch: here, Keep: holder, Code: s.email},
			Said{Switch: here, Link: holder}, Said{Switch: here, Owner: holder, Keep: holder}, Said{Switch: here, Keep: holder})
	}
	if s.owner != nil {
		said = append(said, Said{Keep: s.owner.ID}, Said{Switch: here, Keep: s.owner.ID})
	}
	for _, s.said = range said {
		for _, s.fresh = range []bool{false, true} {
			fn(&s)
		}
	}
}

func idOf(u *User) UserID {
	if u == nil {
		return ""
	}
	return u.ID
}

func TestEveryCaseIsDecidedAsOnPaper(t *testing.T) {
	seen := map[string]bool{}
	n := 0
	everyCase(func(s *situation) {
		n++
		got, want := s.decide(), onPaper(t, s)
		seen[got.Row] = true
		if got != want {
			t.Fatalf("%s:\n%+v; on paper\n%+v", describe(s), got, want)
		}
	})
	for _, l := range paper {
		if !seen[l.row] {
			t.Errorf("no case is row %s", l.row)
		}
	}
	t.Logf("%d cases", n)
}

// What may never be, whatever the rows are called.
func TestNobodyBecomesSomebodyWithoutTheirWord(t *testing.T) {
	everyCase(func(s *situation) {
		d := s.decide()
		if d.Why != nil {
			if d.Do != Refuse || d.Needs != Nothing {
				t.Fatalf("%s: refused, and then %+v", describe(s), d)
			}
			return
		}
		if d.Needs != Nothing {
			return
		}
		if wrong := s.wrongWith(d); wrong != nil {
			t.Fatalf("%s: %+v: %v", describe(s), d, wrong)
		}
	})
}

func (s *situation) wrongWith(d Decision) error {
	proven := s.said.Code != "" && s.said.Code == s.email
	switch {
	case d.Do == Refuse:
		return errors.New("neither done nor refused")
	case d.Do == Login && (s.owner == nil || d.User != s.owner.ID):
		return errors.New("signed in as somebody whose account it is not")
	case (d.Do == Link || d.Do == Claim) && s.owner != nil:
		return errors.New("took an account from its owner")
	case d.Do == Create && !s.signUp:
		return errors.New("made somebody where nobody may sign up")
	case d.Identifier && s.trust < guest.Verified && !proven:
		return errors.New("an address that nobody proved is an identifier")
	case d.Identifier && s.holder != nil && d.User != s.holder.ID:
		return errors.New("took an address from who holds it")
	}
	return errors.Join(s.wrongWithLink(d, proven), s.wrongWithState(d))
}

func (s *situation) wrongWithLink(d Decision, proven bool) error {
	if d.Do != Link && d.Do != Claim {
		return nil
	}
	isOwner := proven || s.said.Owner == d.User
	switch {
	case s.here != nil && d.User == s.here.ID && s.said.Link == d.User && s.fresh:
		return nil // B1 and B2
	case s.holder == nil || d.User != s.holder.ID:
		return errors.New("connected to a bystander")
	case s.here != nil && s.said.Switch != s.here.ID:
		return errors.New("left a session unasked")
	case s.trust < guest.Verified && !proven:
		return errors.New("merged by an address that anybody could have written")
	case d.Do == Claim && s.trust < guest.Authoritative && !isOwner:
		return errors.New("claimed without a proof")
	case d.Do == Claim:
		return nil
	case !s.rules.Merge:
		return errors.New("merged where nothing is merged")
	case s.rules.Confirmation != "none" && (s.privileged || s.rules.Confirmation == "proof") && !isOwner:
		return errors.New("merged without a proof")
	case s.rules.Confirmation == "auto" && s.trust < guest.Authoritative && !isOwner:
		return errors.New("merged without a proof")
	case s.rules.Confirmation != "none" && !isOwner && s.said.Link != d.User:
		return errors.New("merged in silence")
	}
	return nil
}

func (s *situation) wrongWithState(d Decision) error {
	for _, user := range []*User{s.owner, s.here, s.holder} {
		switch {
		case user == nil || user.ID != d.User || user.State == Active:
		case user.State == Deleting && s.said.Keep == user.ID:
		default:
			return errors.New("came in as somebody who may not")
		}
	}
	return nil
}

// Words count for whom, and for what, they were said.
func TestWordsAboutOthersCountForNothing(t *testing.T) {
	everyCase(func(s *situation) {
		nothing := *s
		nothing.said = Said{}
		others := *s
		others.said = Said{Switch: "else", Link: "else", Keep: "else", Owner: "else", Code: unwanted}
		if got, want := others.decide(), nothing.decide(); got != want {
			t.Fatalf("%s: %+v; with nothing said %+v", describe(&others), got, want)
		}
	})
}

// Whoever asks for a proof or a click says so the same whatever the state of the
// user is, of whom the visitor has proven nothing yet.
func TestStateIsToldToNobodyElse(t *testing.T) {
	everyCase(func(s *situation) {
		if s.holder == nil || s.here == s.holder {
			return
		}
		d := s.decide()
		if d.Needs == Nothing || d.Needs == KeepAccount {
			return
		}
		active := *s
		alive := *s.holder
		alive.State = Active
		active.holder = &alive
		if want := active.decide(); d != want {
			t.Fatalf("%s: %+v; of an active user %+v", describe(s), d, want)
		}
	})
}
