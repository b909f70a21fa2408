package module

import (
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/session"
)

func TestTokensAreRenewedBeforeTheyExpire(t *testing.T) {
	began := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	in := func(d time.Duration) time.Time { return began.Add(d) }
	for what, test := range map[string]struct {
		rules        guest.TokenRules
		grant        session.Grant
		due, overdue time.Time
	}{
		"an hour's token":             {grant: session.Grant{Refresh: "r", Expires: in(time.Hour)}, due: in(48 * time.Minute), overdue: in(time.Hour)},
		"one that nothing renews":     {grant: session.Grant{Access: "a", Expires: in(time.Hour)}},
		"one that lives for ever":     {grant: session.Grant{Refresh: "r"}},
		"one that is to be proven":    {rules: guest.TokenRules{Revalidate: 10 * time.Minute}, grant: session.Grant{Access: "a"}, due: in(8 * time.Minute), overdue: in(10 * time.Minute)},
		"proven before it expires":    {rules: guest.TokenRules{Revalidate: 10 * time.Minute}, grant: session.Grant{Refresh: "r", Expires: in(time.Hour)}, due: in(8 * time.Minute), overdue: in(10 * time.Minute)},
		"expired before it is proven": {rules: guest.TokenRules{Revalidate: 2 * time.Hour}, grant: session.Grant{Refresh: "r", Expires: in(time.Hour)}, due: in(48 * time.Minute), overdue: in(time.Hour)},
		// However short they live, the provider is not asked at every request.
		"a second's token":            {grant: session.Grant{Refresh: "r", Expires: in(time.Second)}, due: in(renewGap), overdue: in(renewGap)},
		"one that came expired":       {grant: session.Grant{Refresh: "r", Expires: in(-time.Hour)}, due: in(renewGap), overdue: in(renewGap)},
		"one from before our history": {grant: session.Grant{Refresh: "r", Expires: time.Unix(1, 0)}, due: in(renewGap), overdue: in(renewGap)},
	} {
		t.Run(what, func(t *testing.T) {
			test.grant.Proven = began
			due, overdue := schedule(test.rules, &test.grant)
			if !due.Equal(test.due) || !overdue.Equal(test.overdue) {
				t.Errorf("due %v, overdue %v; want %v, %v", due, overdue, test.due, test.overdue)
			}
		})
	}
}
