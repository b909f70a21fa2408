package caddyfile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-login/caddy-login/module"
)

// parseGlobal reads the global option login: the block of a site, and what is
// global alone.
func parseGlobal(d *caddyfile.Dispenser, existing any) (any, error) {
	d.Next()
	start := d.Token()
	if existing != nil {
		return nil, d.Errf("second global option login: put all of it into one block")
	}
	app := new(module.App)
	b := &block{Dispenser: d, settings: &app.Settings, store: &app.StoreRaw, key: &app.SigningKey}
	b.matcher = b.pathMatcher
	if err := b.read(); err != nil {
		return nil, err
	}
	if _, err := b.offer(nil); err != nil {
		return nil, err
	}
	app.ProvidersRaw = b.encoded()
	// A site may bring a provider that is not configured here.
	known := slices.Concat(names(app.ProvidersRaw), inBuild(providers))
	if err := b.checkNames(roleNames(app.Roles), known); err != nil {
		return nil, err
	}
	if err := checkRoles(start, app.Roles); err != nil {
		return nil, err
	}
	var warnings []caddyconfig.Warning
	value := caddyconfig.JSON(app, &warnings)
	if len(warnings) > 0 {
		return nil, fmt.Errorf("encoding the global option login: %s", warnings[0].Message)
	}
	return httpcaddyfile.App{Name: "login", Value: value}, nil
}

// pathMatcher is Helper.MatcherToken where there is no site: named matchers
// belong to one.
func (b *block) pathMatcher() (caddy.ModuleMap, bool, error) {
	if !b.NextArg() {
		return nil, false, nil
	}
	switch token := b.Val(); {
	case token == "*":
		return nil, true, nil
	case strings.HasPrefix(token, "/"):
		return caddy.ModuleMap{"path": caddyconfig.JSON(caddyhttp.MatchPath{token}, nil)}, true, nil
	case strings.HasPrefix(token, "@"):
		return nil, false, fmt.Errorf("named matcher %s belongs to a site: write this allow in the site's login, or use a path here", token)
	default:
		return nil, false, nil
	}
}
