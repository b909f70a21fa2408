package module

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/guest"
)

// doubtful is a provider that says no more than what it is.
type doubtful guest.Traits

func (doubtful) Open(guest.Env) error   { return nil }
func (d doubtful) Traits() guest.Traits { return guest.Traits(d) }
func (doubtful) Begin(context.Context, guest.Attempt) (string, error) {
	return "", nil
}
func (doubtful) Finish(context.Context, guest.Attempt, url.Values) (guest.Profile, error) {
	return guest.Profile{}, nil
}

func TestSiteWithDoubtfulAddressesHasNoRuleOnThem(t *testing.T) {
	sure := doubtful{Name: "sure"}
	unsure := doubtful{Name: "unsure", Email: guest.EmailRules{Doubt: "anybody can write them: choose"}}
	for name, row := range map[string]struct {
		provider guest.Provider
		allow    []string
		role     []string
		want     string
	}{
		"users":                      {unsure, []string{"users"}, nil, ""},
		"anyone, groups, a provider": {unsure, []string{"anyone", "group:x", "provider:unsure"}, []string{"group:y"}, ""},
		"a domain":                   {unsure, []string{"users", "*@example.com"}, nil, "provider unsure: 'allow *@example.com' goes by addresses, and anybody can write them: choose"},
		"an address":                 {unsure, []string{"ada@example.com"}, nil, "'allow ada@example.com' goes by addresses"},
		"a domain in a role":         {unsure, []string{"role:staff"}, []string{"users", "*@example.com"}, "'role staff *@example.com' goes by addresses"},
		"a domain, no doubt":         {sure, []string{"*@example.com"}, []string{"ada@example.com"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			who, err := parseWho(row.allow)
			if err != nil {
				t.Fatal(err)
			}
			g := &Gate{providers: []guest.Method{sure, row.provider}}
			g.settings.Allow = []*Rule{{who: who}}
			if row.role != nil {
				if g.defs, err = parseRoles([]Role{{Name: "staff", Who: row.role}}); err != nil {
					t.Fatal(err)
				}
			}
			err = g.checkProviders()
			if (err != nil) != (row.want != "") || err != nil && !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %q", err, row.want)
			}
		})
	}
}
