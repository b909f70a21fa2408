package policy

import (
	"fmt"
	"slices"
	"strings"
)

// RoleDef defines a role: a name for a set of people.
type RoleDef struct {
	Name string
	Who  []Who
}

// Roles knows which roles a visitor has. It is read-only and safe for
// concurrent use; nil has no roles.
type Roles struct {
	written []RoleDef // as the operator wrote them
	order   []int     // of written, each after those that it refers to
}

// NewRoles checks the definitions: each name once, each with people, each role
// that one refers to defined, none through itself. A role cannot hold
// `anyone`: a visitor without a session has no roles.
func NewRoles(defs []RoleDef) (*Roles, error) {
	r := &Roles{written: slices.Clone(defs)}
	for i, def := range defs {
		switch {
		case !isName(def.Name):
			return nil, fmt.Errorf("role name %q: use 1 to 64 letters, digits, '-', '_' and '.'", def.Name)
		case r.index(def.Name) != i:
			return nil, fmt.Errorf("role %s is defined twice: name all of its members in one line", def.Name)
		case len(def.Who) == 0:
			return nil, fmt.Errorf("role %s has no members: write role %s followed by %s", def.Name, def.Name, members)
		}
		if err := r.checkMembers(def); err != nil {
			return nil, err
		}
	}
	return r, r.sort()
}

const members = "users, ada@example.com, *@example.com, role:<name>, group:<name> or provider:<name>"

func (r *Roles) checkMembers(def RoleDef) error {
	for _, w := range def.Who {
		switch {
		case w.Kind == Nobody:
			return fmt.Errorf("role %s has an empty member: write %s", def.Name, members)
		case w.Kind == Anyone:
			return fmt.Errorf("role %s cannot hold anyone, who has not signed in: write users, or 'allow anyone'", def.Name)
		case w.Kind == Role && r.index(w.Value) < 0:
			return fmt.Errorf("role %s: there is no role %s (defined are: %s)", def.Name, w.Value, strings.Join(r.names(), ", "))
		}
	}
	return nil
}

// sort finds an order in which each role can be decided by those before it.
func (r *Roles) sort() error {
	const (
		fresh = iota
		open
		done
	)
	state := make([]int, len(r.written))
	var visit func(i int) error
	visit = func(i int) error {
		switch state[i] {
		case open:
			return fmt.Errorf("role %s refers to itself: name its members instead", r.written[i].Name)
		case done:
			return nil
		}
		state[i] = open
		for _, w := range r.written[i].Who {
			if w.Kind != Role {
				continue
			}
			if err := visit(r.index(w.Value)); err != nil {
				return err
			}
		}
		state[i] = done
		r.order = append(r.order, i)
		return nil
	}
	for i := range r.written {
		if err := visit(i); err != nil {
			return err
		}
	}
	return nil
}

func (r *Roles) index(name string) int {
	return slices.IndexFunc(r.written, func(def RoleDef) bool { return def.Name == name })
}

func (r *Roles) names() (names []string) {
	for _, def := range r.written {
		names = append(names, def.Name)
	}
	return names
}

// Of returns the visitor's roles in the order of their definition, or nil. It
// pays no heed to v.Roles and does not change v.
func (r *Roles) Of(v *Visitor) []string {
	if r == nil || v == nil || len(r.written) == 0 {
		return nil
	}
	known := *v
	known.Roles = nil
	for _, i := range r.order {
		if Decide(r.written[i].Who, &known) == Allow {
			known.Roles = append(known.Roles, r.written[i].Name)
		}
	}
	slices.SortFunc(known.Roles, func(a, b string) int { return r.index(a) - r.index(b) })
	return known.Roles
}
