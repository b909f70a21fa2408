package identity_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
)

// scene is one arrival at a provider, with what there was before, and what is to
// come of it.
type scene struct {
	row, what string

	// Who there is already: who holds the address, whose the account is, each
	// empty or a state, or `provisioned`; and who is signed in: `visitor`,
	// `holder` or `owner`.
	holder, owner, here string

	trust guest.Trust
	// rules are uei, mrg, ver, create, a confirmation; closed, privileged, fresh,
	// link.
	rules string
	// said is what they said and proved since: switch, link (to who is here),
	// merge (with the holder), prove (to be the holder), code, keep.
	said string

	do    identity.Action
	needs identity.Need
	why   error
	// adds: the address becomes one of the user's.
	adds bool
}

const (
	none          = guest.NoEmail
	asserted      = guest.Asserted
	verified      = guest.Verified
	authoritative = guest.Authoritative
)

var scenes = []scene{
	{row: "A1", what: "known", owner: "active", trust: none, do: identity.Login},
	{row: "A1", what: "known, with an address of another's", owner: "active", holder: "active", trust: authoritative, rules: "uei mrg none", do: identity.Login},
	{row: "A1", what: "known, where nobody signs up", owner: "active", trust: verified, rules: "uei closed", do: identity.Login},
	{row: "A1", what: "known, about to be deleted", owner: "deleting", trust: none, do: identity.Login, needs: identity.KeepAccount},
	{row: "A1", what: "known, and kept", owner: "deleting", trust: none, said: "keep", do: identity.Login},
	{row: "A2", what: "disabled", owner: "disabled", trust: verified, rules: "uei", why: identity.ErrAccountDisabled},
	{row: "A2", what: "disabled, signed in as another", owner: "disabled", here: "visitor", trust: none, said: "switch", why: identity.ErrAccountDisabled},
	{row: "A3", what: "again", owner: "active", here: "owner", trust: verified, do: identity.Login},
	{row: "A3", what: "again, to connect it", owner: "active", here: "owner", trust: verified, rules: "link fresh", do: identity.Login},
	{row: "A4", what: "another's", owner: "active", here: "visitor", trust: verified, rules: "uei mrg none link fresh", said: "link", why: identity.ErrAlreadyLinked},
	{row: "A5", what: "signed in as another", owner: "active", here: "visitor", trust: verified, do: identity.Login, needs: identity.SwitchOrStay},
	{row: "A5", what: "who leaves", owner: "active", here: "visitor", trust: verified, said: "switch", do: identity.Login},

	{row: "B1", what: "to be confirmed", here: "visitor", trust: verified, rules: "uei link fresh", do: identity.Link, needs: identity.ConfirmLink, adds: true},
	{row: "B1", what: "confirmed", here: "visitor", trust: verified, rules: "uei link fresh", said: "link", do: identity.Link, adds: true},
	{row: "B1", what: "without an address", here: "visitor", trust: none, rules: "uei mrg link fresh", said: "link", do: identity.Link},
	{row: "B1", what: "with an address that it asserts", here: "visitor", trust: asserted, rules: "uei mrg ver link fresh", said: "link code", do: identity.Link},
	{row: "B1", what: "where addresses are none", here: "visitor", trust: authoritative, rules: "mrg link fresh", said: "link", do: identity.Link},
	{row: "B1", what: "with one's own address", holder: "active", here: "holder", trust: authoritative, rules: "uei mrg link fresh", said: "link", do: identity.Link},
	{row: "B1", what: "where nobody signs up", here: "visitor", trust: verified, rules: "uei closed link fresh", said: "link", do: identity.Link, adds: true},
	{row: "B2", what: "with another's address", holder: "active", here: "visitor", trust: authoritative, rules: "uei mrg none link fresh", said: "link", do: identity.Link},
	{row: "B2", what: "with an address kept for another", holder: "provisioned", here: "visitor", trust: authoritative, rules: "uei mrg link fresh", said: "link", do: identity.Link},
	{row: "B3", what: "not fresh", here: "visitor", trust: verified, rules: "uei link", said: "link", do: identity.Link, needs: identity.FreshSignIn, adds: true},
	{row: "B3", what: "signed out meanwhile", trust: verified, rules: "uei link fresh", said: "link", why: identity.ErrOutdated},
	{row: "B4", what: "signed in", here: "visitor", trust: authoritative, rules: "uei mrg none fresh", do: identity.Link, needs: identity.LinkOrSwitch},
	{row: "B4", what: "signed in as the holder", holder: "active", here: "holder", trust: authoritative, rules: "uei mrg none fresh", do: identity.Link, needs: identity.LinkOrSwitch},
	{row: "B1", what: "chosen", here: "visitor", trust: none, rules: "fresh", said: "link", do: identity.Link},
	{row: "B3", what: "chosen, and not fresh", here: "visitor", trust: none, said: "link", do: identity.Link, needs: identity.FreshSignIn},
	{row: "E1", what: "chosen to go on alone", here: "visitor", trust: verified, rules: "uei", said: "switch", do: identity.Create, adds: true},

	{row: "C1", what: "no address", trust: none, rules: "uei mrg ver", do: identity.Create},
	{row: "C2", what: "no address", trust: none, rules: "uei mrg ver closed", why: identity.ErrSignupDisabled},

	{row: "D1", what: "addresses are none", trust: asserted, rules: "mrg", do: identity.Create},
	{row: "D2", what: "not proven", trust: asserted, rules: "uei mrg", do: identity.Create},
	{row: "D3", what: "to be proven", trust: asserted, rules: "uei ver", do: identity.Create, needs: identity.ProofOfMail, adds: true},
	{row: "D3", what: "proven", trust: asserted, rules: "uei ver", said: "code", do: identity.Create, adds: true},
	{row: "D4", what: "where nobody signs up", trust: asserted, rules: "uei ver closed", why: identity.ErrSignupDisabled},
	{row: "D4", what: "where nobody signs up, unlinked", holder: "active", trust: asserted, rules: "uei create closed", why: identity.ErrSignupDisabled},
	{row: "D5", what: "refused", holder: "active", trust: asserted, rules: "uei", why: identity.ErrEmailInUse},
	{row: "D5", what: "unlinked", holder: "active", trust: asserted, rules: "uei create", do: identity.Create},
	{row: "D6", what: "merging, without a proof", holder: "active", trust: asserted, rules: "uei mrg none create", said: "merge prove code", why: identity.ErrEmailInUse},
	{row: "D7", what: "not merging", holder: "active", trust: asserted, rules: "uei ver create", said: "code", why: identity.ErrEmailInUse},
	{row: "D8", what: "to be proven", holder: "active", trust: asserted, rules: "uei mrg ver none", said: "merge prove", do: identity.Link, needs: identity.ProofOfMail},
	{row: "D8", what: "proven", holder: "active", trust: asserted, rules: "uei mrg ver", said: "code", do: identity.Link},
	{row: "D8", what: "proven, and disabled", holder: "disabled", trust: asserted, rules: "uei mrg ver", said: "code", why: identity.ErrAccountDisabled},
	{row: "D6", what: "D9: proofs of no use", holder: "active", trust: asserted, rules: "mrg ver", said: "code", why: identity.ErrEmailInUse},
	{row: "D5", what: "D9: proofs of no use, refused", holder: "active", trust: asserted, rules: "ver", said: "code", why: identity.ErrEmailInUse},
	{row: "D10", what: "to be proven", holder: "provisioned", trust: asserted, rules: "uei ver", do: identity.Claim, needs: identity.ProofOfMail, adds: true},
	{row: "D10", what: "proven", holder: "provisioned", trust: asserted, rules: "uei ver closed", said: "code", do: identity.Claim, adds: true},
	{row: "D5", what: "kept for another", holder: "provisioned", trust: asserted, rules: "uei", why: identity.ErrEmailInUse},
	{row: "D6", what: "kept for another", holder: "provisioned", trust: asserted, rules: "uei mrg", why: identity.ErrEmailInUse},

	{row: "E1", what: "verified", trust: verified, rules: "uei", do: identity.Create, adds: true},
	{row: "E1", what: "authoritative", trust: authoritative, rules: "uei mrg ver", do: identity.Create, adds: true},
	{row: "E2", what: "addresses are none", trust: authoritative, rules: "mrg ver", do: identity.Create},
	{row: "E3", what: "where nobody signs up", trust: authoritative, rules: "uei closed", why: identity.ErrSignupDisabled},
	{row: "E4", what: "not merging", holder: "active", trust: authoritative, rules: "uei none create", said: "merge prove code", why: identity.ErrEmailInUse},
	{row: "E5", what: "neither", holder: "active", trust: verified, do: identity.Create},
	{row: "E6", what: "to be confirmed", holder: "active", trust: authoritative, rules: "uei mrg", do: identity.Link, needs: identity.ConfirmLink},
	{row: "E6", what: "confirmed", holder: "active", trust: authoritative, rules: "uei mrg click closed", said: "merge", do: identity.Link},
	{row: "E6", what: "silent", holder: "active", trust: authoritative, rules: "mrg none", do: identity.Link},
	{row: "E6", what: "privileged", holder: "active", trust: authoritative, rules: "uei mrg privileged", said: "merge", do: identity.Link, needs: identity.ProofOfOwner},
	{row: "E6", what: "privileged, proven", holder: "active", trust: authoritative, rules: "uei mrg privileged", said: "prove", do: identity.Link},
	{row: "E6", what: "about to be deleted", holder: "deleting", trust: authoritative, rules: "uei mrg none", do: identity.Link, needs: identity.KeepAccount},
	{row: "E6", what: "about to be deleted, and kept", holder: "deleting", trust: authoritative, rules: "uei mrg none", said: "keep", do: identity.Link},
	{row: "E6", what: "disabled", holder: "disabled", trust: authoritative, rules: "uei mrg", said: "merge", why: identity.ErrAccountDisabled},
	{row: "E7", what: "to be proven", holder: "active", trust: verified, rules: "uei mrg", said: "merge", do: identity.Link, needs: identity.ProofOfOwner},
	{row: "E7", what: "proven by another way in", holder: "active", trust: verified, rules: "uei mrg", said: "prove", do: identity.Link},
	{row: "E7", what: "proven by a code", holder: "active", trust: verified, rules: "uei mrg", said: "code", do: identity.Link},
	{row: "E7", what: "silent", holder: "active", trust: verified, rules: "uei mrg none privileged", do: identity.Link},
	{row: "E7", what: "confirmed", holder: "active", trust: verified, rules: "uei mrg click", said: "merge", do: identity.Link},
	{row: "E8", what: "claimed", holder: "provisioned", trust: authoritative, rules: "closed", do: identity.Claim, adds: true},
	{row: "E8", what: "to be proven", holder: "provisioned", trust: verified, rules: "uei mrg none", said: "merge", do: identity.Claim, needs: identity.ProofOfOwner, adds: true},
	{row: "E8", what: "proven", holder: "provisioned", trust: verified, rules: "uei", said: "code", do: identity.Claim, adds: true},
}

// cast are the people of one scene, who are nobody of another.
type cast struct {
	holder, owner, visitor identity.UserID
	email                  identity.Email
	subject                string
}

func castOf(n int) cast {
	name := func(s string) identity.UserID { return identity.UserID(fmt.Sprintf("%s%d", s, n)) }
	return cast{name("holder"), name("owner"), name("visitor"), identity.Email(fmt.Sprintf("ada%d@example.com", n)), fmt.Sprintf("account %d", n)}
}

func (c *cast) by(name string) identity.UserID {
	return map[string]identity.UserID{"holder": c.holder, "owner": c.owner, "visitor": c.visitor}[name]
}

func (s *scene) says(list, word string) bool { return slices.Contains(strings.Fields(list), word) }

// settle writes who there is.
func (s *scene) settle(p people, c cast) {
	user := func(id identity.UserID, state string) identity.User {
		u := identity.User{ID: id, State: identity.State(state), Created: noon, CreatedBy: "corp", Groups: []string{identity.Everybody}}
		if state == "provisioned" || state == "deleting" {
			u.State = identity.Active
		}
		return u
	}
	p.must(func(tx guest.Tx) error {
		var errs []error
		if s.holder != "" {
			u, address := user(c.holder, s.holder), identity.Address{Email: c.email, Identifier: identity.Identifier{By: identity.Operator}}
			if s.holder != "provisioned" {
				u.Email, address.Proven, address.By = c.email, noon, "corp"
			}
			errs = append(errs, identity.Settle(tx, u, nil, []identity.Address{address}))
		}
		if s.owner != "" {
			account := identity.Identity{Provider: "corp", Issuer: issuer, Subject: c.subject, Linked: noon}
			errs = append(errs, identity.Settle(tx, user(c.owner, s.owner), []identity.Identity{account}, nil))
		}
		if s.here == "visitor" {
			errs = append(errs, identity.Settle(tx, user(c.visitor, "active"), nil, nil))
		}
		return errors.Join(errs...)
	})
	for id, state := range map[identity.UserID]string{c.holder: s.holder, c.owner: s.owner} {
		if state == "deleting" {
			p.must(func(tx guest.Tx) error {
				_, err := identity.BeginDeletion(tx, id, noon.Add(-time.Hour), later)
				return err
			})
		}
	}
}

func (s *scene) arrival(c cast) identity.Arrival {
	a := arrival(c.subject, string(c.email), s.trust)
	a.Traits.Email = guest.EmailRules{Identifier: s.says(s.rules, "uei"), Merge: s.says(s.rules, "mrg"), CreateUnlinked: s.says(s.rules, "create")}
	for _, confirmation := range []string{"click", "proof", "none"} {
		if s.says(s.rules, confirmation) {
			a.Traits.Email.Confirmation = confirmation
		}
	}
	a.Verify, a.Fresh = s.says(s.rules, "ver"), s.says(s.rules, "fresh")
	a.Here = c.by(s.here)
	if s.says(s.rules, "link") {
		a.Intent = identity.ToLink
	}
	if s.says(s.rules, "closed") {
		a.SignUp = nobody
	}
	a.Privileged = func(_ guest.Tx, u identity.User) (bool, error) {
		return s.says(s.rules, "privileged") && u.ID == c.holder, nil
	}
	a.Said = s.words(c)
	return a
}

func (s *scene) words(c cast) (said identity.Said) {
	for word := range strings.FieldsSeq(s.said) {
		switch word {
		case "switch":
			said.Switch = c.by(s.here)
		case "link":
			said.Link = c.by(s.here)
		case "merge":
			said.Link = c.holder
		case "prove":
			said.Owner = c.holder
		case "code":
			said.Code = c.email
		case "keep":
			said.Keep = c.owner
			if s.owner == "" {
				said.Keep = c.holder
			}
		default:
			panic("no such word: " + word)
		}
	}
	return said
}

func TestDecisionTable(t *testing.T) {
	p := newPeople(t)
	for n, s := range scenes {
		t.Run(s.row+"/"+s.what, func(t *testing.T) {
			p, c := people{t, p.Store}, castOf(n)
			s.settle(p, c)
			before := p.check()
			admitted, err := admit(t, p.Store, s.arrival(c))
			after := p.check()
			if !errors.Is(err, s.why) || admitted.Row != s.row || admitted.Do != s.do || admitted.Needs != s.needs || admitted.Identifier != s.adds {
				t.Fatalf("%+v, %v", admitted.Decision, err)
			}
			if s.why != nil || s.needs != identity.Nothing {
				if !reflect.DeepEqual(before, after) {
					t.Error("something was written")
				}
				return
			}
			s.check(t, c, admitted, before, after)
		})
	}
}

// check compares what there was before with what is there now.
func (s *scene) check(t *testing.T, c cast, admitted identity.Admitted, before, after *picture) {
	t.Helper()
	who := s.becomes(c, admitted)
	if admitted.Person.User.ID != who || admitted.Person.Identity.User != who || admitted.Created != (s.do == identity.Create) {
		t.Errorf("came in as %+v; want %s", admitted.Person, who)
	}
	account := identity.Identity{Provider: "corp", Issuer: issuer, Subject: c.subject}
	if got := after.identities[string(account.Key())]; got.User != who || s.do != identity.Login && got.How != s.row {
		t.Errorf("the account is %+v", got)
	}
	user := after.users[who]
	if user.State != identity.Active || !user.Deletes.IsZero() {
		t.Errorf("%+v", user)
	}
	held, was := after.identifiers[string(c.email)], before.identifiers[string(c.email)]
	switch {
	case s.adds && (held.User != who || !held.IsProven() || user.Email != c.email):
		t.Errorf("the address is %+v, the primary one %q", held, user.Email)
	case !s.adds && held != was:
		t.Errorf("the address is %+v; it was %+v", held, was)
	}
	if ends := s.adds && s.do != identity.Create; ends != user.SessionsFrom.Equal(noon) {
		t.Errorf("ends older sessions: %v", !ends)
	}
	groups := []string{identity.Everybody}
	if s.do == identity.Create {
		groups = append(groups, identity.ExternalUsers)
	}
	if !slices.Equal(user.Groups, groups) {
		t.Errorf("in the groups %q", user.Groups)
	}
}

// becomes is who somebody is after the scene.
func (s *scene) becomes(c cast, admitted identity.Admitted) identity.UserID {
	switch {
	case s.do == identity.Create:
		return admitted.Person.User.ID
	case s.owner != "":
		return c.owner
	case s.here != "" && s.row[0] == 'B':
		return c.by(s.here)
	default:
		return c.holder
	}
}

// Rows F: who has proven an address.
func TestDecisionTableOfProofs(t *testing.T) {
	p := newPeople(t)
	for n, s := range []scene{
		{row: "F1", what: "its holder", holder: "active", rules: "closed", do: identity.Login},
		{row: "F1", what: "signed in as another", holder: "active", here: "visitor", do: identity.Login, needs: identity.SwitchOrStay},
		{row: "F1", what: "who leaves", holder: "active", here: "visitor", said: "switch", do: identity.Login},
		{row: "F1", what: "signed in already", holder: "active", here: "holder", do: identity.Login},
		{row: "F1", what: "about to be deleted", holder: "deleting", do: identity.Login, needs: identity.KeepAccount},
		{row: "F1", what: "about to be deleted, and kept", holder: "deleting", said: "keep", do: identity.Login},
		{row: "A2", what: "disabled", holder: "disabled", why: identity.ErrAccountDisabled},
		{row: "F2", what: "new", do: identity.Create, adds: true},
		{row: "F2", what: "new, signed in as another", here: "visitor", do: identity.Create, needs: identity.SwitchOrStay},
		{row: "F2", what: "new, and left another", here: "visitor", said: "switch", do: identity.Create, adds: true},
		{row: "F3", what: "where nobody signs up", rules: "closed", why: identity.ErrSignupDisabled},
		{row: "F4", what: "provisioned", holder: "provisioned", rules: "closed", do: identity.Claim, adds: true},
		{row: "F4", what: "provisioned, signed in as another", holder: "provisioned", here: "visitor", do: identity.Claim, needs: identity.SwitchOrStay, adds: true},
	} {
		t.Run(s.row+"/"+s.what, func(t *testing.T) {
			p, c := people{t, p.Store}, castOf(n)
			s.settle(p, c)
			before := p.check()
			proof := proof(c.email)
			proof.Here, proof.Said = c.by(s.here), s.words(c)
			if s.says(s.rules, "closed") {
				proof.SignUp = nobody
			}
			admitted, err := prove(p.Store, proof)
			after := p.check()
			if !errors.Is(err, s.why) || admitted.Row != s.row || admitted.Do != s.do || admitted.Needs != s.needs || admitted.Identifier != s.adds {
				t.Fatalf("%+v, %v", admitted.Decision, err)
			}
			if s.why != nil || s.needs != identity.Nothing {
				if !reflect.DeepEqual(before, after) {
					t.Error("something was written")
				}
				return
			}
			s.checkProof(t, c, admitted, after)
		})
	}
}

func (s *scene) checkProof(t *testing.T, c cast, admitted identity.Admitted, after *picture) {
	t.Helper()
	who := c.holder
	if s.do == identity.Create {
		who = admitted.Person.User.ID
	}
	user, held := after.users[who], after.identifiers[string(c.email)]
	if admitted.Person.User.ID != who || user.State != identity.Active || user.Email != c.email || held.User != who || !held.IsProven() {
		t.Errorf("%+v holds %+v", user, held)
	}
	if ends := s.do == identity.Claim; ends != user.SessionsFrom.Equal(noon) {
		t.Errorf("ends older sessions: %v", !ends)
	}
	if !slices.Equal(user.Groups, []string{identity.Everybody}) {
		t.Errorf("in the groups %q", user.Groups)
	}
}

// Row F5: an address is added once it is proven, and only then is it said that
// somebody else holds it.
func TestDecisionTableOfAddedAddresses(t *testing.T) {
	p := newPeople(t)
	p.settle(ada, "ada@example.com")
	p.settle(eve, "eve@example.com")
	p.must(add(ada, "ada@example.org"))
	if got := p.emails(ada); !slices.Equal(got, []string{"ada@example.com", "ada@example.org"}) {
		t.Errorf("%q", got)
	}
	before := p.check()
	p.refuses(identity.ErrEmailInUse, add(ada, "eve@example.com"))
	if !reflect.DeepEqual(before, p.check()) {
		t.Error("something was written")
	}
}
