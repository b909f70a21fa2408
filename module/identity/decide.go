package identity

import (
	"errors"

	"github.com/caddy-login/caddy-login/module/guest"
)

// Intent is what a sign-in at a provider was begun for. It is the server's own
// word, sealed in the browser's cookie, never the visitor's.
type Intent string

// The intents. The zero value is ToLogin.
const (
	ToLogin Intent = ""
	ToLink  Intent = "link" // connect the account to who is signed in
)

// Need is what a person has still to say or to prove before anything is
// written.
type Need string

// The needs.
const (
	Nothing      Need = ""
	ConfirmLink  Need = "confirm_link"   // a click on a page that names both accounts
	SwitchOrStay Need = "confirm_switch" // a click: leave one's session for another's
	LinkOrSwitch Need = "link_or_switch" // a choice: connect a new account, or go on with it alone
	ProofOfOwner Need = "proof"          // a code to the address on file, or another way in of its holder's
	ProofOfMail  Need = "code"           // a code to an address that the provider only asserts
	FreshSignIn  Need = "fresh"          // to have signed in within the last minutes
	KeepAccount  Need = "keep"           // a click: the account shall not be deleted
)

// Action is what is done about an arrival. The zero value refuses it.
type Action string

// The actions.
const (
	Refuse Action = ""
	Login  Action = "login"  // sign in the owner
	Create Action = "create" // make a user
	Link   Action = "link"   // connect the account to an existing user, and sign in
	Claim  Action = "claim"  // the same, to a user whom an operator provisioned
)

// Decision is the outcome of the table. While it Needs something, Do is what
// will be done.
type Decision struct {
	// Row is the row's number, for the activity record and the log.
	Row   string
	Do    Action
	Needs Need
	// Why is the reason of a refusal.
	Why error
	// User is whom it is about, where it is about somebody known.
	User UserID
	// Identifier: the address becomes one of the user's.
	Identifier bool
}

// Said is what a person has said and proven since they arrived, each word bound
// to whom it was about: should another decision come out meanwhile, the word
// does not count for it.
type Said struct {
	// Switch is whose session to leave.
	Switch UserID `json:"switch,omitempty"`
	// Link is whom to connect the account to.
	Link UserID `json:"link,omitempty"`
	// Keep is whose account shall not be deleted.
	Keep UserID `json:"keep,omitempty"`
	// Owner is who they have proven to be by another way in.
	Owner UserID `json:"owner,omitempty"`
	// Code is the address that a code has proven.
	Code Email `json:"code,omitempty"`
}

// situation is all that decides.
type situation struct {
	intent Intent
	here   *User // who is signed in in this browser; nil: nobody
	fresh  bool  // and has signed in within the last minutes
	owner  *User // whose the identity is; nil: nobody's

	email       Email // the address, whatever it is worth
	trust       guest.Trust
	holder      *User // who holds it; nil: nobody
	provisioned bool  // the holder never proved it

	rules      guest.EmailRules
	verify     bool // an asserted address is proven by mail
	signUp     bool
	privileged bool // the holder has more to lose than others
	said       Said
}

// decide is the table of identity.md section 3. It knows no clock, no chance and
// no store.
func (s *situation) decide() Decision {
	d := s.row()
	if d.Why != nil {
		d.Do = Refuse
	}
	if d.Needs == Nothing && (d.Do == Login || d.Do == Link || d.Do == Claim) {
		return s.openTo(d)
	}
	return d
}

// openTo asks whether the user whom the arrival would be may come in. Only who
// has proven to be them is told that they may not.
func (s *situation) openTo(d Decision) Decision {
	user := s.owner
	switch {
	case user == nil && s.here != nil && d.User == s.here.ID:
		user = s.here
	case user == nil:
		user = s.holder
	}
	switch user.State {
	case Active:
		return d
	case Deleting:
		if s.said.Keep != user.ID {
			d.Needs = KeepAccount
		}
		return d
	default:
		if d.Row == "A1" || d.Row == "A3" || d.Row == "A5" {
			d.Row = "A2"
		}
		return Decision{Row: d.Row, Why: ErrAccountDisabled, User: user.ID}
	}
}

func (s *situation) row() Decision {
	switch {
	case s.owner != nil:
		return s.known()
	case s.intent == ToLink && s.here == nil:
		// Whoever wanted to connect it is gone: it shall not become a new user.
		return Decision{Row: "B3", Why: ErrOutdated}
	case s.intent == ToLink:
		return s.connecting()
	case s.here == nil || s.said.Switch == s.here.ID:
		return s.stranger()
	case s.said.Link == s.here.ID:
		return s.connecting()
	default:
		return Decision{Row: "B4", Do: Link, Needs: LinkOrSwitch, User: s.here.ID}
	}
}

// known is an identity that somebody has. The address is not consulted.
func (s *situation) known() Decision {
	d := Decision{Row: "A1", Do: Login, User: s.owner.ID}
	switch {
	case s.here == nil:
	case s.here.ID == s.owner.ID:
		d.Row = "A3"
	case s.intent == ToLink:
		return Decision{Row: "A4", Why: ErrAlreadyLinked, User: s.here.ID}
	default:
		d.Row = "A5"
		if s.said.Switch != s.here.ID {
			d.Needs = SwitchOrStay
		}
	}
	return d
}

// connecting is an identity that nobody has, and somebody signed in who wants
// it.
func (s *situation) connecting() Decision {
	d := Decision{Row: "B1", Do: Link, User: s.here.ID}
	if s.holder != nil && s.holder.ID != s.here.ID {
		d.Row = "B2"
	}
	d.Identifier = d.Row == "B1" && s.holder == nil && s.trust >= guest.Verified && s.rules.Identifier
	switch {
	case !s.fresh:
		d.Row, d.Needs = "B3", FreshSignIn
	case s.said.Link != s.here.ID:
		d.Needs = ConfirmLink
	}
	return d
}

// stranger is an identity that nobody has, and nobody signed in whom it could
// be connected to.
func (s *situation) stranger() Decision {
	switch {
	case s.email == "":
		return s.create("C1", "C2", false)
	case s.trust >= guest.Verified:
		return s.vouchedFor()
	default:
		return s.asserted()
	}
}

// create makes a user, or, where nobody may sign up, refuses by another row.
func (s *situation) create(row, closed string, identifier bool) Decision {
	if !s.signUp {
		return Decision{Row: closed, Why: ErrSignupDisabled}
	}
	return Decision{Row: row, Do: Create, Identifier: identifier}
}

// asserted is an address that anybody could have written: T1.
func (s *situation) asserted() Decision {
	switch {
	case s.holder == nil && !s.verify:
		row := "D1"
		if s.rules.Identifier {
			row = "D2"
		}
		return s.create(row, "D4", false)
	case s.holder == nil:
		return s.coded(s.create("D3", "D4", true))
	case s.provisioned && s.verify:
		return s.coded(Decision{Row: "D10", Do: Claim, User: s.holder.ID, Identifier: true})
	case !s.verify && s.rules.Merge:
		return Decision{Row: "D6", Why: ErrEmailInUse, User: s.holder.ID}
	case !s.verify && s.rules.CreateUnlinked:
		return s.create("D5", "D4", false)
	case !s.verify:
		return Decision{Row: "D5", Why: ErrEmailInUse, User: s.holder.ID}
	case !s.rules.Merge:
		return Decision{Row: "D7", Why: ErrEmailInUse, User: s.holder.ID}
	default:
		return s.coded(Decision{Row: "D8", Do: Link, User: s.holder.ID})
	}
}

// coded asks for a code to the address, whatever else is decided.
func (s *situation) coded(d Decision) Decision {
	if d.Why == nil && s.said.Code != s.email {
		d.Needs = ProofOfMail
	}
	return d
}

// vouchedFor is an address that the provider has checked, T2, or whose mailbox
// it runs, T3.
func (s *situation) vouchedFor() Decision {
	authoritative := s.trust >= guest.Authoritative
	switch {
	case s.holder == nil && s.rules.Identifier:
		return s.create("E1", "E3", true)
	case s.holder == nil:
		return s.create("E2", "E3", false)
	case s.provisioned:
		d := Decision{Row: "E8", Do: Claim, User: s.holder.ID, Identifier: true}
		if !authoritative {
			return s.proven(d)
		}
		return d
	case !s.rules.Merge && s.rules.Identifier:
		return Decision{Row: "E4", Why: ErrEmailInUse, User: s.holder.ID}
	case !s.rules.Merge:
		return s.create("E5", "E3", false)
	case authoritative:
		return s.merge(Decision{Row: "E6", Do: Link, User: s.holder.ID}, "click")
	default:
		return s.merge(Decision{Row: "E7", Do: Link, User: s.holder.ID}, "proof")
	}
}

// merge asks for what the operator wants before an account joins a user. Who
// has more to lose is asked for a proof by all but the operator's explicit
// "none".
func (s *situation) merge(d Decision, byDefault string) Decision {
	confirmation := s.rules.Confirmation
	switch {
	case confirmation == "none":
		return d
	case confirmation != "click" && confirmation != "proof":
		confirmation = byDefault
	}
	if confirmation == "proof" || s.privileged {
		return s.proven(d)
	}
	if s.said.Link != d.User && !s.isProven(d.User) {
		d.Needs = ConfirmLink
	}
	return d
}

// proven asks for a proof that they are the holder: a code to the address, or
// another way in of the holder's.
func (s *situation) proven(d Decision) Decision {
	if !s.isProven(d.User) {
		d.Needs = ProofOfOwner
	}
	return d
}

func (s *situation) isProven(user UserID) bool { return s.said.Owner == user || s.said.Code == s.email }

// Reasons why an arrival becomes nobody, to be tested with errors.Is.
var (
	ErrEmailInUse      = errors.New("somebody else holds this address")
	ErrSignupDisabled  = errors.New("signing up is off")
	ErrAccountDisabled = errors.New("the account is disabled")
	// ErrAlreadyLinked: the account is another user's.
	ErrAlreadyLinked = errors.New("this account is connected to somebody else")
)
