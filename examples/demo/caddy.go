package main

import (
	_ "embed"
	"fmt"
	"os"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-login/caddy-login/plugin"
)

//go:embed Caddyfile
var sites []byte

// startCaddy runs Caddy in this process. The Caddyfile is the one an operator
// would write but for its mailer; what differs at each start comes from the
// environment.
func startCaddy(s settings, secret string, box *mailbox, stops *closers) error {
	letters.Store(box)
	for name, value := range map[string]string{
		"DEMO_CLIENT_SECRET": secret,
		"DEMO_DATA":          s.data,
		"DEMO_PORT":          strconv.Itoa(s.port),
		"DEMO_PROVIDER_PORT": strconv.Itoa(s.providerPort),
		"DEMO_APP_PORT":      strconv.Itoa(s.appPort),
	} {
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("setting %s: %w", name, err)
		}
	}
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(sites, map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return fmt.Errorf("reading the Caddyfile: %w", err)
	}
	if err := caddy.Load(config, true); err != nil {
		return fmt.Errorf("starting Caddy: %w", err)
	}
	stops.add(caddy.Stop)
	return nil
}
