package oidc

import (
	"fmt"
	"slices"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-login/caddy-login/plugin/provider"
)

// lacking are the common options that a brand cannot honour. An option that
// would do nothing must not be taken.
type lacking []string

// whyLacking is what a brand lacks for each.
var whyLacking = map[string]string{
	"groups":            "lists none",
	"revalidate":        "does not say whose account ended",
	"provider_logout":   "has no address to sign out at",
	"native_client_ids": "has no tokens for native apps",
}

func (lacking) error(brand, word string) error {
	return fmt.Errorf("%s: %s %s: remove it", word, brand, whyLacking[word])
}

// check reports which of them is written, for what was written as JSON.
func (l lacking) check(brand string, o *provider.Options) error {
	written := map[string]bool{
		"groups":            o.Groups != "",
		"revalidate":        o.Revalidate != 0,
		"provider_logout":   o.ProviderLogout != nil,
		"native_client_ids": len(o.NativeClientIDs) > 0,
	}
	for _, word := range l {
		if written[word] {
			return l.error(brand, word)
		}
	}
	return nil
}

// of are a brand's common options but for these.
func (l lacking) of(brand string, o *provider.Options) provider.Part {
	return without{provider.Without{Part: o, Not: l}, brand}
}

// without is a provider.Without that says what a brand lacks.
type without struct {
	provider.Without
	brand string
}

// Consume reads one option; see provider.Part.
func (w without) Consume(d *caddyfile.Dispenser) (bool, error) {
	if word := d.Val(); slices.Contains(w.Not, word) {
		return true, d.WrapErr(lacking(w.Not).error(w.brand, word))
	}
	return w.Without.Consume(d)
}
