package module

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/page"
	"github.com/caddy-login/caddy-login/module/policy"
	"github.com/caddy-login/caddy-login/module/session"
)

// What the sites of one config know of each other: who may open which, and by
// which ways somebody can still sign in.

// openTo are the sites that somebody may open, by asking each site's own policy
// about its first page.
func (a *App) openTo(r *http.Request, live *session.Live) (apps []page.AccountApp) {
	seen := make(map[string]bool)
	for _, gate := range a.gates {
		for _, origin := range gate.registered() {
			if seen[origin] || !gate.admits(r, live, origin) {
				continue
			}
			seen[origin] = true
			title := gate.settings.Pages.Title
			if title == "" {
				_, title, _ = strings.Cut(origin, "://")
			}
			apps = append(apps, page.AccountApp{Title: title, Href: origin + "/"})
		}
	}
	slices.SortFunc(apps, func(a, b page.AccountApp) int {
		return cmp.Or(cmp.Compare(a.Title, b.Title), cmp.Compare(a.Href, b.Href))
	})
	return apps
}

// admits reports whether somebody may open the first page of this site.
func (g *Gate) admits(r *http.Request, live *session.Live, origin string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || strings.ContainsAny(u.Host, "*<") || named(g.providers, live.Provider) == nil {
		return false
	}
	asked := readAs(r, "/")
	asked.Method, asked.Host = http.MethodGet, u.Host
	ruling, err := g.ruleFor(asked)
	if err != nil {
		return false
	}
	visitor := g.visitorOf(live)
	return ruling.verdict(&visitor) == policy.Allow
}

// provider finds a way in of any site by its name, and, unless it is empty, by
// the issuer whose accounts it owns; nil: there is none.
func (a *App) provider(name, issuer string) guest.Method {
	for _, gate := range a.gates {
		method := named(gate.providers, name)
		if method == nil {
			continue
		}
		if owns := method.Traits().Owns; issuer == "" || owns == nil || owns(issuer) {
			return method
		}
	}
	return nil
}

// surroundings are the ways in that some site offers now.
func (a *App) surroundings(now time.Time) identity.Surroundings {
	return identity.Surroundings{
		Offered: func(provider, issuer string) bool { return a.provider(provider, issuer) != nil },
		Codes:   slices.ContainsFunc(a.gates, func(g *Gate) bool { return g.codes != nil }),
		At:      now,
	}
}
