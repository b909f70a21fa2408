package oidc

import (
	"fmt"

	"github.com/caddy-login/caddy-login/plugin/provider"
)

// lacking are the common options that Slack and Twitch cannot honour: neither
// lists groups, nor tells a refresh token of an account that ended, by an error
// code one could go by, from any other failure. An option that would do nothing
// must not be taken.
var lacking = []string{"groups", "revalidate"}

// refuseLacking is for configurations that were written as JSON.
func refuseLacking(brand string, o *provider.Options) error {
	switch {
	case o.Groups != "":
		return fmt.Errorf("groups: %s lists none: remove it", brand)
	case o.Revalidate != 0:
		return fmt.Errorf("revalidate: %s does not say whose account ended: remove it", brand)
	default:
		return nil
	}
}
