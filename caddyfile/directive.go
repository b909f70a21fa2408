// Package caddyfile is how a sign-in is written: it turns the site directive
// `login` and the global option `login` into the JSON of module.Gate and
// module.App. Nothing here runs at request time, and nothing touches the disk
// or the network: `caddy adapt` works beside a running Caddy.
package caddyfile

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/caddy-login/caddy-login/module"
)

func init() {
	// Not RegisterHandlerDirective: that takes a matcher, and a request that
	// bypasses login keeps its forged headers.
	httpcaddyfile.RegisterDirective("login", parseSite)
	// Ahead of everything that may trust or answer a request. "After
	// try_files" rather than "before basic_auth": the deprecated spelling
	// "basicauth" has a place of its own between the two.
	httpcaddyfile.RegisterDirectiveOrder("login", httpcaddyfile.After, "try_files")
	httpcaddyfile.RegisterGlobalOption("login", parseGlobal)
}

// parseSite reads
//
//	login [<provider...>] {
//		<provider> [<args...>] { ... }
//		<option> ...
//	}
func parseSite(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next()
	start := h.Token()
	if err := onlyLogin(h); err != nil {
		return nil, err
	}
	app, err := globalOption(h)
	if err != nil {
		return nil, err
	}
	gate := new(module.Gate)
	b := &block{Dispenser: h.Dispenser, settings: &gate.Settings, matcher: h.MatcherToken}
	if err := b.read(); err != nil {
		return nil, err
	}
	if gate.Use, err = b.offer(names(app.ProvidersRaw)); err != nil {
		return nil, err
	}
	gate.ProvidersRaw = b.encoded()
	if err := b.complete(start, gate, app); err != nil {
		return nil, err
	}
	return h.NewRoute(nil, gate), nil
}

// complete refuses a site that nobody could sign in to, one that does not say
// who may pass, and one whose rules, or the app's where it has none, name what
// is not there.
func (b *block) complete(start caddyfile.Token, gate *module.Gate, app *module.App) error {
	offered := slices.Concat(gate.Use, names(gate.ProvidersRaw))
	if len(offered) == 0 {
		offered = names(app.ProvidersRaw)
	}
	if len(offered) == 0 {
		return at(start, "no provider: name one, such as 'login google', or configure it in the global option login (providers in this build: %s)", list(inBuild(providers)))
	}
	if len(gate.Allow)+len(app.Allow) == 0 {
		return at(start, "%w", module.ErrNoAllow)
	}
	if len(gate.Allow) == 0 {
		for _, rule := range app.Allow {
			b.mention(start, rule.Who)
		}
	}
	roles := module.MergeRoles(gate.Roles, app.Roles)
	if err := b.checkNames(roleNames(roles), offered); err != nil {
		return err
	}
	return checkRoles(start, roles)
}

// globalOption is what the global option said; empty where there is none.
// Caddy reads global options before any site and any named route.
func globalOption(h httpcaddyfile.Helper) (*module.App, error) {
	app := new(module.App)
	option, ok := h.Option("login").(httpcaddyfile.App)
	if !ok {
		return app, nil
	}
	if err := json.Unmarshal(option.Value, app); err != nil {
		return nil, fmt.Errorf("reading the global option login: %w", err)
	}
	return app, nil
}

// onlyLogin refuses a second login in the site that h reads, wherever in its
// blocks it stands: two would both own the pages and the cookie, and the
// inner one would see headers that the outer one wrote.
func onlyLogin(h httpcaddyfile.Helper) error {
	const key = "login.sites"
	first, ok := h.State[key].(map[uintptr]caddyfile.Token)
	if !ok {
		first = make(map[uintptr]caddyfile.Token)
		h.State[key] = first
	}
	site, ok := siteOf(h)
	if !ok {
		return nil
	}
	if other, again := first[site]; again {
		return h.Errf("second login in this site (the first: %s): write one, and put the differences into allow with matchers, such as 'allow /admin/* role:admins'", place(other))
	}
	first[site] = h.Token()
	return nil
}

// siteOf identifies the site block, or the named route, that h reads. Caddy's
// State spans all sites of a Caddyfile, its BlockState one nested block, and
// the file and line do not tell two imports of a snippet apart; only a field
// that Caddy does not export does. Should Caddy rename it, siteOf reports
// false: the module still refuses such a site when it is provisioned, without a line.
func siteOf(h httpcaddyfile.Helper) (uintptr, bool) {
	block := reflect.ValueOf(h).FieldByName("parentBlock")
	if block.Kind() != reflect.Struct {
		return 0, false
	}
	keys := block.FieldByName("Keys")
	if keys.Kind() != reflect.Slice || keys.Len() == 0 {
		return 0, false
	}
	return keys.Pointer(), true
}
