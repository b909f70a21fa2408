// Package policy decides whether a visitor may pass: who an allow line names,
// who the visitor is, and whether both mean the same path as the app does.
package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/caddy-login/caddy-login/module/identity"
)

// Kind is what an entry of an allow line is about.
type Kind int

// The kinds of Who. The zero value admits nobody.
const (
	Nobody   Kind = iota
	Anyone        // no sign-in needed
	Users         // anyone who can sign in
	Address       // one proven address
	Domain        // proven addresses of exactly this domain
	Role          // a role of the configuration
	Group         // a group, as the provider or an operator spells it
	Provider      // a session begun at this provider
)

// Who is one entry of an allow line. Value is empty for Anyone and Users.
type Who struct {
	Kind  Kind
	Value string
}

// written is what may stand in an allow line.
const written = "anyone, users, ada@example.com, *@example.com, role:<name>, group:<name> or provider:<name>"

// Parse reads one entry of an allow line exactly, or refuses it. Addresses and
// domains become canonical (identity.md section 2). An empty entry, such as an
// unset variable leaves behind, is an error.
func Parse(s string) (Who, error) {
	switch s {
	case "":
		return Who{}, errors.New("an entry of who may pass is empty, perhaps an unset variable: write " + written)
	case "anyone":
		return Who{Kind: Anyone}, nil
	case "users":
		return Who{Kind: Users}, nil
	}
	if prefix, value, found := strings.Cut(s, ":"); found {
		return parseNamed(s, prefix, value)
	}
	if domain, found := strings.CutPrefix(s, "*@"); found {
		return parseDomain(s, domain)
	}
	return parseAddress(s)
}

func parseNamed(s, prefix, value string) (Who, error) {
	switch {
	case prefix == "role" && isName(value):
		return Who{Role, value}, nil
	case prefix == "provider" && isName(value):
		return Who{Provider, value}, nil
	case prefix == "group" && isGroup(value):
		return Who{Group, value}, nil
	}
	return Who{}, refusal(s)
}

func parseDomain(s, domain string) (Who, error) {
	domain, err := identity.ParseDomain(domain)
	if err != nil || !isSettled(domain) {
		return Who{}, refusal(s)
	}
	return Who{Domain, domain}, nil
}

func parseAddress(s string) (Who, error) {
	address, err := identity.ParseEmail(s)
	if err != nil || strings.HasPrefix(s, "*") || !isSettled(address.Domain()) {
		return Who{}, refusal(s)
	}
	return Who{Address, string(address)}, nil
}

// isSettled refuses domains that IDNA lets pass though no visitor's can equal
// them: those with an empty label, such as ".com", and those whose canonical
// form is not its own.
func isSettled(domain string) bool {
	again, err := identity.ParseDomain(domain)
	return err == nil && again == domain && domain[0] != '.' && !strings.Contains(domain, "..")
}

func refusal(s string) error {
	return fmt.Errorf("%q names nobody: write %s", s, written)
}

// isName reports whether s can name a role or a provider: 1 to 64 letters,
// digits, '-', '_' and '.'.
func isName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

// isGroup reports whether s can name a group. Groups are named by others: any
// printable text will do.
func isGroup(s string) bool {
	return s != "" && len(s) <= 255 && utf8.ValidString(s) && strings.TrimSpace(s) == s &&
		!strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) })
}

// String writes w as an allow line does: Parse reads it back.
func (w Who) String() string {
	switch w.Kind {
	case Anyone:
		return "anyone"
	case Users:
		return "users"
	case Address:
		return w.Value
	case Domain:
		return "*@" + w.Value
	case Role:
		return "role:" + w.Value
	case Group:
		return "group:" + w.Value
	case Provider:
		return "provider:" + w.Value
	}
	return "nobody"
}

// Visitor is somebody signed in, as rules see them. Read-only while in use.
type Visitor struct {
	UserID string

	// Email is the primary proven address in canonical form, or empty.
	Email string

	// Provider is where the session began.
	Provider string

	Groups []string

	// Roles are those of the configuration, from Roles.Of; never a
	// provider's word.
	Roles []string
}

// admits reports whether w names v, who is signed in. An empty Value names
// nobody, however empty the visitor's own.
func (w Who) admits(v *Visitor) bool {
	switch w.Kind {
	case Anyone, Users:
		return true
	case Address:
		return w.Value != "" && v.Email == w.Value
	case Domain:
		return w.Value != "" && domainOf(v.Email) == w.Value
	case Role:
		return w.Value != "" && slices.Contains(v.Roles, w.Value)
	case Group:
		return w.Value != "" && slices.Contains(v.Groups, w.Value)
	case Provider:
		return w.Value != "" && v.Provider == w.Value
	}
	return false
}

// domainOf is what follows the only @, or nothing: an address with two has
// been smuggled in.
func domainOf(email string) string {
	local, domain, found := strings.Cut(email, "@")
	if !found || local == "" || strings.Contains(domain, "@") {
		return ""
	}
	return domain
}

// Verdict is what becomes of a request.
type Verdict int

// The verdicts. Forgetting to decide denies.
const (
	Deny Verdict = iota
	SignIn
	Allow
)

// Decide says what becomes of a request that falls under a rule for who. v is
// nil for the anonymous. Where who names nobody, as where no rule fits, the
// anonymous sign in first, so that an outsider learns nothing from the
// difference, and everybody else is denied. It does not allocate.
func Decide(who []Who, v *Visitor) Verdict {
	if v == nil {
		for _, w := range who {
			if w.Kind == Anyone {
				return Allow
			}
		}
		return SignIn
	}
	for _, w := range who {
		if w.admits(v) {
			return Allow
		}
	}
	return Deny
}
