package identity

import (
	"bytes"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

// shelf is a Tx over a map, for more cases than a disk would bear.
type shelf map[string][]byte

func (s shelf) Get(key []byte) ([]byte, error) {
	value, ok := s[string(key)]
	if !ok {
		return nil, guest.ErrNotFound
	}
	return bytes.Clone(value), nil
}

func (s shelf) Put(key, value []byte, _ time.Time) error {
	s[string(key)] = bytes.Clone(value)
	return nil
}

func (s shelf) Delete(key []byte) error {
	delete(s, string(key))
	return nil
}

func (s shelf) Scan(prefix, _ []byte, limit int, fn func(key, value []byte) bool) error {
	for i, key := range slices.Sorted(maps.Keys(s)) {
		if limit > 0 && i >= limit {
			break
		}
		if strings.HasPrefix(key, string(prefix)) && !fn([]byte(key), s[key]) {
			break
		}
	}
	return nil
}

func (s shelf) has(other shelf) bool {
	return maps.EqualFunc(s, other, bytes.Equal)
}

// draw is one arrival by chance, what it finds in the store, and the situation
// that it is.
type draw struct {
	shelf
	arrival   Arrival
	situation situation
}

var drawnAt = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func drawOne(t *testing.T, r *rand.Rand) *draw {
	d := &draw{shelf: shelf{}}
	s := &d.situation
	coin := func() bool { return r.IntN(2) == 0 }
	d.people(t, s, r)
	s.rules = guest.EmailRules{
		Identifier: coin(), Merge: coin(), CreateUnlinked: coin(),
		Confirmation: []string{"", "auto", "click", "proof", "none"}[r.IntN(5)],
	}
	verify := coin()
	s.verify = verify && s.rules.Identifier // D9
	s.signUp, s.fresh = coin(), coin()
	s.privileged = s.holder != nil && coin()
	if s.here != nil || coin() {
		s.intent = []Intent{ToLogin, ToLink}[r.IntN(2)]
	}
	s.said = drawWords(s, r)
	d.arrival = Arrival{
		Traits:  guest.Traits{Name: "corp", Email: s.rules},
		Profile: guest.Profile{Issuer: "https://id.example.com", Subject: "it", Email: "Ada@Example.COM", EmailTrust: s.trust, Name: "Ada"},
		Verify:  verify, SignUp: func(Email) bool { return s.signUp },
		Privileged: func(_ guest.Tx, user User) (bool, error) { return s.privileged && user.ID == s.holder.ID, nil },
		Intent:     s.intent, Here: idOf(s.here), Fresh: s.fresh, Said: s.said, At: drawnAt,
	}
	if s.here == nil && coin() {
		d.arrival.Here = "gone" // signed in as somebody who is no more
	}
	return d
}

// people settles whoever there is: one who holds the address, one whose the
// account is, one who is signed in. Those who were deleted are nobody.
func (d *draw) people(t *testing.T, s *situation, r *rand.Rand) {
	states := []State{Active, Active, Active, Disabled, Deleting, Deleted, ""}
	person := func(id UserID) *User {
		user := &User{ID: id, State: states[r.IntN(len(states))], Groups: []string{Everybody}, CreatedBy: Operator}
		if user.State == Deleting {
			user.Deletes = drawnAt.Add(time.Hour)
		}
		return user
	}
	standing := func(user *User) *User {
		if user.State == Deleted {
			return nil
		}
		return user
	}
	s.trust = guest.Trust(r.IntN(4))
	if s.trust != guest.NoEmail {
		s.email = wanted
	}
	if r.IntN(4) > 0 {
		holder, held := person("holder"), Identifier{User: "holder", By: Operator}
		if r.IntN(3) > 0 {
			held.Proven, holder.Email = drawnAt.Add(-time.Hour), wanted
		}
		d.settle(t, holder, &held, false)
		if s.email != "" {
			if s.holder = standing(holder); s.holder != nil {
				s.provisioned = !held.IsProven()
			}
		}
	}
	if r.IntN(4) == 0 {
		owner := person("owner")
		d.settle(t, owner, nil, true)
		s.owner = standing(owner)
	}
	switch here := r.IntN(4); {
	case here == 0:
		visitor := &User{ID: "visitor", State: Active}
		d.settle(t, visitor, nil, false)
		s.here = visitor
	case here == 1:
		s.here = s.holder
	case here == 2:
		s.here = s.owner
	}
}

func (d *draw) settle(t *testing.T, user *User, held *Identifier, owns bool) {
	err := WriteUser(d, user)
	if held != nil {
		err = errors.Join(err, identify(d, wanted, *held))
	}
	if owns {
		account := Identity{Provider: "corp", Issuer: "https://id.example.com", Subject: "it", User: user.ID, Linked: drawnAt}
		err = errors.Join(err, link(d, &Person{User: *user, Identity: account}))
	}
	if !user.Deletes.IsZero() {
		err = errors.Join(err, deletionKind.Put(d, deletionKey(user.Deletes, user.ID), struct{}{}, time.Time{}))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func drawWords(s *situation, r *rand.Rand) (said Said) {
	who := []UserID{"", "else", idOf(s.here), idOf(s.holder), idOf(s.owner)}
	said.Switch, said.Link = who[r.IntN(len(who))], who[r.IntN(len(who))]
	said.Keep, said.Owner = who[r.IntN(len(who))], who[r.IntN(len(who))]
	said.Code = []Email{"", wanted, unwanted}[r.IntN(3)]
	return said
}

// What Admit decides is what is on paper, and it writes what was decided, and
// nothing else.
func TestAdmitWritesWhatWasDecidedAndNothingElse(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rows := map[string]int{}
	for i := range uint64(20_000) {
		d := drawOne(t, rand.New(rand.NewPCG(seed, i)))
		want := onPaper(t, &d.situation)
		before := maps.Clone(d.shelf)
		preview, about, err := Preview(d, d.arrival)
		if err != nil || preview != want || idOf(about) != want.User {
			t.Fatalf("draw %d: %s:\npreview %+v of %s, %v; on paper\n%+v", i, describe(&d.situation), preview, idOf(about), err, want)
		}
		if !d.has(before) {
			t.Fatalf("draw %d: a preview wrote", i)
		}
		got, err := Admit(d, d.arrival)
		if !errors.Is(err, want.Why) || err != nil && want.Why == nil {
			t.Fatalf("draw %d: %s: %v; want %v", i, describe(&d.situation), err, want.Why)
		}
		if want.Why != nil || want.Needs != Nothing {
			if got.Decision != want || !d.has(before) {
				t.Fatalf("draw %d: %s: decided %+v and wrote; on paper %+v", i, describe(&d.situation), got.Decision, want)
			}
		} else {
			rows[want.Row]++
			d.check(t, before, got, want)
		}
		if t.Failed() {
			t.Fatalf("draw %d: %s: %+v", i, describe(&d.situation), got)
		}
	}
	for _, row := range strings.Fields("A1 A3 A5 B1 B2 C1 D1 D2 D3 D5 D8 D10 E1 E2 E5 E6 E7 E8") {
		if rows[row] == 0 {
			t.Errorf("nobody came in by %s", row)
		}
	}
}

// check compares the store with what was decided.
func (d *draw) check(t *testing.T, before shelf, got Admitted, want Decision) {
	t.Helper()
	if want.Do == Create {
		want.User = got.Person.User.ID
	}
	if got.Decision != want || got.Person.User.ID != want.User || got.Person.User.State != Active || got.Created != (want.Do == Create) {
		t.Errorf("%+v; want %+v", got, want)
	}
	account := Identity{Provider: "corp", Issuer: "https://id.example.com", Subject: "it"}
	read, err := ReadPerson(d, want.User, account.Key())
	if err != nil || read.Identity.User != want.User || read.User.State != Active {
		t.Errorf("read back %+v, %v", read, err)
	}
	if want.Do != Login && read.Identity.How != want.Row {
		t.Errorf("connected by %q", read.Identity.How)
	}
	d.checkAddress(t, before, read, want)
	for key, value := range before {
		if kind, rest, _ := strings.Cut(key, "/"); kind == "user" && rest != string(want.User) && !bytes.Equal(d.shelf[key], value) {
			t.Errorf("%s was changed", rest)
		}
	}
}

func (d *draw) checkAddress(t *testing.T, before shelf, read *Person, want Decision) {
	t.Helper()
	key := identifierKind.Key(string(wanted))
	user := &read.User
	if !want.Identifier {
		if !bytes.Equal(before[string(key)], d.shelf[string(key)]) {
			t.Error("the address went to somebody")
		}
		if want.Do == Create && (user.Email != "" || !user.SessionsFrom.IsZero()) {
			t.Errorf("made with %q", user.Email)
		}
		return
	}
	held, err := heldBy(d, wanted)
	by := "corp"
	if d.situation.said.Code == wanted {
		by = ByMail
	}
	if err != nil || held.User != user.ID || !held.Proven.Equal(drawnAt) || held.By != by {
		t.Errorf("the address is %+v, %v", held, err)
	}
	if user.Email != wanted {
		t.Errorf("apps read %q", user.Email)
	}
	// A first proof ends what is older, and so does a claim.
	if want.Do != Create && !user.SessionsFrom.Equal(drawnAt) {
		t.Errorf("sessions from %s", user.SessionsFrom)
	}
}

var errTorn = errors.New("the disk is torn")

// torn is a shelf on which one read or write fails.
type torn struct {
	shelf
	left int // until then all goes well
}

func (s *torn) tears() bool {
	s.left--
	return s.left == -1
}

func (s *torn) Get(key []byte) ([]byte, error) {
	if s.tears() {
		return nil, errTorn
	}
	return s.shelf.Get(key)
}

func (s *torn) Put(key, value []byte, expires time.Time) error {
	if s.tears() {
		return errTorn
	}
	return s.shelf.Put(key, value, expires)
}

func (s *torn) Delete(key []byte) error {
	if s.tears() {
		return errTorn
	}
	return s.shelf.Delete(key)
}

func (s *torn) Scan(prefix, from []byte, limit int, fn func(key, value []byte) bool) error {
	if s.tears() {
		return errTorn
	}
	return s.shelf.Scan(prefix, from, limit, fn)
}

// whereverItTears runs fn with the first, the second and every other read and
// write failing, until none is left to fail.
func whereverItTears(t *testing.T, s shelf, fn func(tx guest.Tx) error) {
	t.Helper()
	for n := range 200 {
		tx := &torn{shelf: maps.Clone(s), left: n}
		err := fn(tx)
		if tx.left >= 0 {
			return
		}
		if !errors.Is(err, errTorn) || IsRefusal(err) {
			t.Fatalf("with the %dth torn: %v", n+1, err)
		}
	}
	t.Fatal("it never ends")
}

// What could not be read decides nothing, and what was not written was not done.
func TestTornStoreIsNoDecision(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for i := range uint64(500) {
		d := drawOne(t, rand.New(rand.NewPCG(seed, i)))
		whereverItTears(t, d.shelf, func(tx guest.Tx) error { return orRefused(Admit(tx, d.arrival)) })
		p := Proof{Method: "email", Email: wanted, SignUp: d.arrival.SignUp, Here: d.arrival.Here, Said: d.arrival.Said, At: drawnAt}
		whereverItTears(t, d.shelf, func(tx guest.Tx) error { return orRefused(AdmitProof(tx, p)) })
		whereverItTears(t, d.shelf, func(tx guest.Tx) error { _, err := HolderOrStandIn(tx, wanted); return err })
		whereverItTears(t, d.shelf, func(tx guest.Tx) error { _, err := MayProve(tx, wanted, d.arrival.SignUp); return err })
		whereverItTears(t, d.shelf, func(tx guest.Tx) error { _, err := OwnerOf(tx, "corp", d.arrival.Profile); return err })
	}
}

// orRefused has a refusal be no failure.
func orRefused(_ Admitted, err error) error {
	if IsRefusal(err) {
		return nil
	}
	return err
}

func TestTornStoreTakesNothingBack(t *testing.T) {
	s := shelf{}
	user := &User{ID: "ada", State: Active, Email: wanted}
	account := Identity{Provider: "corp", Issuer: "https://id.example.com", Subject: "since", User: "ada", Linked: drawnAt.Add(time.Hour)}
	err := errors.Join(
		WriteUser(s, user),
		identify(s, wanted, Identifier{User: "ada", Proven: drawnAt, By: ByMail}),
		link(s, &Person{User: *user, Identity: account}),
	)
	undo, errBefore := Before(s, "ada", "changed", wanted, drawnAt)
	secret := NewUndoSecret("ada")
	if err := errors.Join(err, errBefore, undo.Keep(s, secret)); err != nil {
		t.Fatal(err)
	}
	changed := *user
	changed.Email = unwanted
	err = errors.Join(forgetAddress(s, "ada", wanted), identify(s, unwanted, Identifier{User: "ada", Proven: drawnAt, By: ByMail}), WriteUser(s, &changed))
	if err != nil {
		t.Fatal(err)
	}
	whereverItTears(t, s, func(tx guest.Tx) error { _, err := Before(tx, "ada", "changed", wanted, drawnAt); return err })
	whereverItTears(t, s, func(tx guest.Tx) error { _, err := ReadUndo(tx, secret, drawnAt); return err })
	whereverItTears(t, s, func(tx guest.Tx) error {
		_, _, err := Revert(tx, secret, drawnAt)
		if errors.Is(err, ErrOutdated) {
			return errors.New("said to be outdated")
		}
		return err
	})
}
