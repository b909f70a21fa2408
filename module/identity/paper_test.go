package identity

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-login/caddy-login/module/guest"
)

// line is one line of the decision table as it stands on paper: when all words
// of the one are true, what the words of the other say follows. It is written
// from the paper alone, so that the program and the paper are compared, and not
// the program with itself.
type line struct{ row, when, then string }

// paper is identity.md section 3. Exactly one line fits any case.
//
// An arrival is new where nobody has the account. It is a stranger's where
// nobody is signed in, or who is wants to leave; it connects where who is signed
// in wants that. Of who holds the address: – nobody, V proven, P provisioned.
var paper = []line{
	{"A1", "known nobody-here", "LOGIN owner"},
	{"A3", "known owner-here", "LOGIN owner"},
	{"A4", "known other-here link", "already_linked here"},
	{"A5", "known other-here login", "SWITCH LOGIN owner"},

	{"B1", "connects fresh – T2|T3 uei", "CONFIRM LINK here identifier"},
	{"B1", "connects fresh – T2|T3 !uei", "CONFIRM LINK here"},
	{"B1", "connects fresh – T0|T1", "CONFIRM LINK here"},
	{"B1", "connects fresh own-address", "CONFIRM LINK here"},
	{"B2", "connects fresh anothers-address", "CONFIRM LINK here"},
	{"B3", "connects !fresh – T2|T3 uei", "FRESH LINK here identifier"},
	{"B3", "connects !fresh – T2|T3 !uei", "FRESH LINK here"},
	{"B3", "connects !fresh – T0|T1", "FRESH LINK here"},
	{"B3", "connects !fresh own-address|anothers-address", "FRESH LINK here"},
	{"B3", "deserted", "outdated"},
	{"B4", "undecided", "ASK LINK here"},

	{"C1", "stranger T0 su", "CREATE"},
	{"C2", "stranger T0 !su", "signup_disabled"},

	{"D1", "stranger T1 – !uei su", "CREATE"},
	{"D2", "stranger T1 – uei !ver su", "CREATE"},
	{"D3", "stranger T1 – uei ver su", "CODE CREATE identifier"},
	{"D4", "stranger T1 – !su", "signup_disabled"},
	{"D5", "stranger T1 V|P !mrg !ver create su", "CREATE"},
	{"D4", "stranger T1 V|P !mrg !ver create !su", "signup_disabled"},
	{"D5", "stranger T1 V|P !mrg !ver reject", "email_in_use holder"},
	{"D6", "stranger T1 V|P mrg !ver", "email_in_use holder"},
	{"D7", "stranger T1 V !mrg ver", "email_in_use holder"},
	{"D8", "stranger T1 V mrg ver", "CODE LINK holder"},
	{"D10", "stranger T1 P ver", "CODE CLAIM holder identifier"},

	{"E1", "stranger T2|T3 – su uei", "CREATE identifier"},
	{"E2", "stranger T2|T3 – su !uei", "CREATE"},
	{"E3", "stranger T2|T3 – !su", "signup_disabled"},
	{"E4", "stranger T2|T3 V !mrg uei", "email_in_use holder"},
	{"E5", "stranger T2|T3 V !mrg !uei su", "CREATE"},
	{"E3", "stranger T2|T3 V !mrg !uei !su", "signup_disabled"},
	{"E6", "stranger T3 V mrg none", "LINK holder"},
	{"E6", "stranger T3 V mrg auto|click !privileged", "CLICK LINK holder"},
	{"E6", "stranger T3 V mrg auto|click privileged", "PROOF LINK holder"},
	{"E6", "stranger T3 V mrg proof", "PROOF LINK holder"},
	{"E7", "stranger T2 V mrg none", "LINK holder"},
	{"E7", "stranger T2 V mrg click !privileged", "CLICK LINK holder"},
	{"E7", "stranger T2 V mrg click privileged", "PROOF LINK holder"},
	{"E7", "stranger T2 V mrg auto|proof", "PROOF LINK holder"},
	{"E8", "stranger T3 P", "CLAIM holder identifier"},
	{"E8", "stranger T2 P", "PROOF CLAIM holder identifier"},
}

// words are what a case can be. A word with a bar is one of several, one with an
// exclamation mark not so.
var words = map[string]func(s *situation) bool{
	"known":       func(s *situation) bool { return s.owner != nil },
	"nobody-here": func(s *situation) bool { return s.here == nil },
	"owner-here":  func(s *situation) bool { return s.here != nil && s.here.ID == s.owner.ID },
	"other-here":  func(s *situation) bool { return s.here != nil && s.here.ID != s.owner.ID },
	"link":        func(s *situation) bool { return s.intent == ToLink },
	"login":       func(s *situation) bool { return s.intent == ToLogin },

	"deserted":  func(s *situation) bool { return s.owner == nil && s.intent == ToLink && s.here == nil },
	"connects":  func(s *situation) bool { return s.owner == nil && wants(s) == "connect" },
	"stranger":  func(s *situation) bool { return s.owner == nil && wants(s) == "come alone" },
	"undecided": func(s *situation) bool { return s.owner == nil && wants(s) == "be asked" },
	"fresh":     func(s *situation) bool { return s.fresh },

	"T0": func(s *situation) bool { return s.email == "" },
	"T1": func(s *situation) bool { return s.email != "" && s.trust == guest.Asserted },
	"T2": func(s *situation) bool { return s.email != "" && s.trust == guest.Verified },
	"T3": func(s *situation) bool { return s.email != "" && s.trust == guest.Authoritative },

	"–":                func(s *situation) bool { return s.holder == nil },
	"V":                func(s *situation) bool { return s.holder != nil && !s.provisioned },
	"P":                func(s *situation) bool { return s.holder != nil && s.provisioned },
	"own-address":      func(s *situation) bool { return s.holder != nil && s.holder.ID == s.here.ID },
	"anothers-address": func(s *situation) bool { return s.holder != nil && s.holder.ID != s.here.ID },

	"uei":        func(s *situation) bool { return s.rules.Identifier },
	"mrg":        func(s *situation) bool { return s.rules.Merge },
	"ver":        func(s *situation) bool { return s.verify },
	"auto":       func(s *situation) bool { return s.rules.Confirmation == "auto" || s.rules.Confirmation == "" },
	"click":      func(s *situation) bool { return s.rules.Confirmation == "click" },
	"proof":      func(s *situation) bool { return s.rules.Confirmation == "proof" },
	"none":       func(s *situation) bool { return s.rules.Confirmation == "none" },
	"create":     func(s *situation) bool { return s.rules.CreateUnlinked },
	"reject":     func(s *situation) bool { return !s.rules.CreateUnlinked },
	"su":         func(s *situation) bool { return s.signUp },
	"privileged": func(s *situation) bool { return s.privileged },
}

// wants is what an account that nobody has is to become, as far as it was said.
func wants(s *situation) string {
	switch {
	case s.intent == ToLink && s.here != nil:
		return "connect"
	case s.intent == ToLink:
		return "nothing any more"
	case s.here == nil, s.said.Switch == s.here.ID:
		return "come alone"
	case s.said.Link == s.here.ID:
		return "connect"
	default:
		return "be asked"
	}
}

// condition is a word of a line: one of these is true, or none of them.
type condition struct {
	not bool
	any []func(s *situation) bool
}

// conditions are those of each line.
var conditions = sync.OnceValue(func() [][]condition {
	all := make([][]condition, len(paper))
	for i, l := range paper {
		for word := range strings.FieldsSeq(l.when) {
			word, not := strings.CutPrefix(word, "!")
			c := condition{not: not}
			for w := range strings.SplitSeq(word, "|") {
				c.any = append(c.any, words[w])
			}
			all[i] = append(all[i], c)
		}
	}
	return all
})

func fits(conditions []condition, s *situation) bool {
	for _, c := range conditions {
		if slices.ContainsFunc(c.any, func(is func(*situation) bool) bool { return is(s) }) == c.not {
			return false
		}
	}
	return true
}

// steps are what must be said or proven first, and by which words it is.
var steps = map[string]struct {
	need Need
	done func(s *situation, about UserID) bool
}{
	"SWITCH":  {SwitchOrStay, func(s *situation, _ UserID) bool { return s.said.Switch == s.here.ID }},
	"CONFIRM": {ConfirmLink, func(s *situation, about UserID) bool { return s.said.Link == about }},
	"FRESH":   {FreshSignIn, func(*situation, UserID) bool { return false }},
	"ASK":     {LinkOrSwitch, func(*situation, UserID) bool { return false }},
	"CODE":    {ProofOfMail, func(s *situation, _ UserID) bool { return s.said.Code == s.email }},
	"PROOF":   {ProofOfOwner, func(s *situation, about UserID) bool { return s.said.Code == s.email || s.said.Owner == about }},
	"CLICK": {ConfirmLink, func(s *situation, about UserID) bool {
		return s.said.Link == about || s.said.Code == s.email || s.said.Owner == about
	}},
}

var refusals = map[string]error{
	"already_linked": ErrAlreadyLinked, "email_in_use": ErrEmailInUse, "signup_disabled": ErrSignupDisabled, "outdated": ErrOutdated,
}

var actions = map[string]Action{"LOGIN": Login, "CREATE": Create, "LINK": Link, "CLAIM": Claim}

// read is what the line says of a case that it fits.
func (l *line) read(s *situation) Decision {
	d := Decision{Row: l.row, Identifier: strings.HasSuffix(l.then, " identifier")}
	target := l.target(s)
	if target != nil {
		d.User = target.ID
	}
	for word := range strings.FieldsSeq(l.then) {
		if do, ok := actions[word]; ok {
			d.Do = do
		}
		if step, ok := steps[word]; ok && !step.done(s, d.User) {
			d.Needs = step.need
		}
		if why, ok := refusals[word]; ok {
			d.Why = why
		}
	}
	if target == nil || d.Needs != Nothing || d.Why != nil {
		return d
	}
	return standingOf(s, d, target)
}

// target is about whom it is, nil where it is about nobody.
func (l *line) target(s *situation) *User {
	switch then := strings.TrimSuffix(l.then, " identifier"); {
	case strings.HasSuffix(then, " owner"):
		return s.owner
	case strings.HasSuffix(then, " here"):
		return s.here
	case strings.HasSuffix(then, " holder"):
		return s.holder
	default:
		return nil
	}
}

// standingOf is row A2, for whomever somebody would be, and what is asked of who
// is about to be deleted.
func standingOf(s *situation, d Decision, target *User) Decision {
	switch {
	case target.State == Deleting && s.said.Keep != target.ID:
		d.Needs = KeepAccount
	case target.State != Deleting && target.State != Active:
		d.Do, d.Identifier, d.Why = Refuse, false, ErrAccountDisabled
		if strings.HasPrefix(d.Row, "A") {
			d.Row = "A2"
		}
	}
	return d
}

func onPaper(t testing.TB, s *situation) Decision {
	t.Helper()
	var found *line
	for i, conditions := range conditions() {
		if !fits(conditions, s) {
			continue
		}
		if found != nil {
			t.Fatalf("%s and %s fit %s", found.row, paper[i].row, describe(s))
		}
		found = &paper[i]
	}
	if found == nil {
		t.Fatalf("no row fits %s", describe(s))
	}
	return found.read(s)
}

func describe(s *situation) string {
	name := func(u *User) string {
		if u == nil {
			return "nobody"
		}
		return fmt.Sprintf("%s (%s)", u.ID, u.State)
	}
	return fmt.Sprintf("intent %q, here %s, fresh %v, owner %s, %q of trust %d held by %s, provisioned %v, %+v, ver %v, su %v, privileged %v, said %+v",
		s.intent, name(s.here), s.fresh, name(s.owner), s.email, s.trust, name(s.holder), s.provisioned, s.rules, s.verify, s.signUp, s.privileged, s.said)
}
