package caddyfile

import (
	"encoding/json"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// The namespaces of the modules that a block may name.
const (
	providers = "login.providers"
	mailers   = "login.mailers"
	stores    = "login.stores"
)

// provider is one configured instance of a provider module.
type provider struct {
	name   string // the operator's, of this instance
	module string
	raw    json.RawMessage
}

func (b *block) readProvider() error {
	start := b.Token()
	p, err := readProvider(b.Dispenser)
	if err != nil {
		return err
	}
	for _, other := range b.providers {
		if other.name == p.name {
			return at(start, "second provider '%s': give each its own name, or put all of it into one block", p.name)
		}
	}
	b.providers = append(b.providers, p)
	return nil
}

// offer puts the providers in the order they are offered in: as on login's
// line, then as their blocks were written. A name on the line means a block
// here, else what is configured for all sites, else a provider of this build
// without any settings of its own. use is that order, where both kinds stand in
// it.
func (b *block) offer(configured []string) (use []string, err error) {
	var offered []provider
	mixed := false
	for i, token := range b.line {
		name := token.Text
		if slices.ContainsFunc(b.line[:i], func(t caddyfile.Token) bool { return t.Text == name }) {
			return nil, at(token, "provider '%s' stands twice on the line: write it once", name)
		}
		blocks := b.take(name, configured)
		switch {
		case len(blocks) > 0:
			offered = append(offered, blocks...)
			use = append(use, instances(blocks)...)
		case slices.Contains(configured, name):
			mixed = true
			use = append(use, name)
		case slices.Contains(inBuild(providers), name):
			p, err := readProvider(dispenserOf(token))
			if err != nil {
				return nil, err
			}
			offered = append(offered, p)
			use = append(use, p.name)
		default:
			return nil, at(token, "unknown provider '%s' (configured: %s; providers in this build: %s)", name, list(configured), list(inBuild(providers)))
		}
	}
	b.providers = append(offered, b.providers...)
	if !mixed {
		return nil, nil // the site's own stand in this order anyway
	}
	return use, nil
}

func instances(providers []provider) (names []string) {
	for _, p := range providers {
		names = append(names, p.name)
	}
	return names
}

// take removes and returns the blocks that a name on login's line means: the
// one of that name, or else, if it is the name of no configured provider
// either, those of the module of that name.
func (b *block) take(name string, configured []string) []provider {
	means := func(p provider) bool { return p.name == name }
	if !slices.ContainsFunc(b.providers, means) && !slices.Contains(configured, name) {
		means = func(p provider) bool { return p.module == name }
	}
	var taken, rest []provider
	for _, p := range b.providers {
		if means(p) {
			taken = append(taken, p)
		} else {
			rest = append(rest, p)
		}
	}
	b.providers = rest
	return taken
}

func (b *block) encoded() []json.RawMessage {
	var raw []json.RawMessage
	for _, p := range b.providers {
		raw = append(raw, p.raw)
	}
	return raw
}

// readProvider reads the provider module that d's current token names.
func readProvider(d *caddyfile.Dispenser) (provider, error) {
	name := d.Val()
	raw, err := encode(d, providers, "provider")
	if err != nil {
		return provider{}, err
	}
	return provider{name: nameOf(raw), module: name, raw: raw}, nil
}

// encode reads the module that d's current token names, with its arguments and
// block, as the JSON of a guest module.
func encode(d *caddyfile.Dispenser, namespace, key string) (json.RawMessage, error) {
	name, start := d.Val(), d.Token()
	guest, err := caddyfile.UnmarshalModule(d, namespace+"."+name)
	if err != nil {
		return nil, err
	}
	var warnings []caddyconfig.Warning
	raw := caddyconfig.JSONModuleObject(guest, key, name, &warnings)
	if len(warnings) > 0 {
		return nil, at(start, "encoding %s '%s': %s", key, name, warnings[0].Message)
	}
	return raw, nil
}

// nameOf is the name of a provider's instance: the operator's, or else its
// module's.
func nameOf(raw json.RawMessage) string {
	var p struct {
		Name     string `json:"name"`
		Provider string `json:"provider"`
	}
	if err := json.Unmarshal(raw, &p); err != nil || p.Name == "" {
		return p.Provider
	}
	return p.Name
}

func names(raw []json.RawMessage) []string {
	var names []string
	for _, r := range raw {
		names = append(names, nameOf(r))
	}
	return names
}

// guest reads a module whose name is the next argument.
func (b *block) guest(namespace, kind string) (json.RawMessage, error) {
	if !b.NextArg() {
		return nil, b.misused()
	}
	if name := b.Val(); !slices.Contains(inBuild(namespace), name) {
		return nil, b.Errf("unknown %s '%s' (%ss in this build: %s)", kind, name, kind, list(inBuild(namespace)))
	}
	return encode(b.Dispenser, namespace, kind)
}

// inBuild are the names of the modules in a namespace, sorted.
func inBuild(namespace string) []string {
	var names []string
	for _, info := range caddy.GetModules(namespace) {
		names = append(names, info.ID.Name())
	}
	return names
}
