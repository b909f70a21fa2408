// Command caddy is Caddy with everything of ours in it: for `go run` and `go
// install`.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-login/caddy-login/plugin"
)

func main() { caddycmd.Main() }
