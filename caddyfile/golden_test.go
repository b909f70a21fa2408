package caddyfile_test

import (
	"regexp"
	"testing"

	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/encode"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/encode/gzip"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy/forwardauth"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/templates"

	login "github.com/caddy-login/caddy-login/caddyfile"
	"github.com/caddy-login/caddy-login/module/logintest/golden"
)

func TestWhatIsWrittenBecomesThisJSON(t *testing.T) {
	golden.JSON(t, "testdata", decodeStrictly)
}

func TestMistakesAreToldWithTheirLineAndCure(t *testing.T) {
	golden.Mistakes(t, "testdata/errors")
}

func TestEveryGoldenFileIsRun(t *testing.T) {
	golden.NothingElse(t, "testdata", "testdata", "testdata/errors")
}

func TestEveryWordHasGoldenFiles(t *testing.T) {
	for _, dir := range []string{"testdata", "testdata/errors"} {
		all := golden.Caddyfiles(t, dir)
		for _, word := range login.Words() {
			if !regexp.MustCompile(`(?m)^\t+` + word + `\b`).MatchString(all) {
				t.Errorf("no golden file in %s has a line '%s …'", dir, word)
			}
		}
	}
}
