package module

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/fileserver"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// checkFront refuses a gate that no request comes to, because a handler in front
// of it answers them all: `order login last`, or a `route` that has login below
// reverse_proxy, would leave the app open to everybody with login beside it.
//
// What only some requests are answered by may stand there: that is how an
// operator keeps a webhook out of the sign-in.
func (p position) checkFront() error {
	for _, routes := range p.before {
		for _, route := range routes {
			if name := answeredBy(route); name != "" {
				return behind(name)
			}
		}
	}
	for _, route := range p.routes {
		i := slices.IndexFunc(route.HandlersRaw, holdsGate)
		for _, raw := range route.HandlersRaw[:max(0, i)] {
			if name := answersAll(decoded(raw)); name != "" {
				return behind(name)
			}
		}
	}
	return nil
}

func behind(name string) error {
	return fmt.Errorf("login stands behind %s, which answers every request first: nobody would be asked to sign in; write login in front of it, without 'order login …', and first in a 'route' or 'handle'", name)
}

// answeredBy names the handler of a route that answers every request, whatever
// the rest of the list says.
func answeredBy(route caddyhttp.Route) string {
	if !fitsAll(route) {
		return ""
	}
	for _, handler := range route.Handlers {
		if name := answersAll(handler); name != "" {
			return name
		}
	}
	for _, raw := range route.HandlersRaw {
		if name := answersAll(decoded(raw)); name != "" {
			return name
		}
	}
	return ""
}

// answersAll names a handler that brings content and lets nothing go on to the
// next. A reverse_proxy with routes for its answers may: forward_auth is one.
func answersAll(handler any) string {
	switch h := handler.(type) {
	case *reverseproxy.Handler:
		if len(h.HandleResponse) == 0 {
			return "reverse_proxy"
		}
	case *fileserver.FileServer:
		if !h.PassThru {
			return "file_server"
		}
	case *caddyhttp.Subroute:
		for _, route := range h.Routes {
			if name := answeredBy(route); name != "" {
				return name
			}
		}
	}
	return ""
}

// decoded is a handler that is not loaded yet, as far as answersAll looks at it.
func decoded(raw json.RawMessage) (handler any) {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return nil // Caddy refuses it itself
	}
	switch word(members["handler"]) {
	case "reverse_proxy":
		handler = new(reverseproxy.Handler)
	case "file_server":
		handler = new(fileserver.FileServer)
	case "subroute":
		handler = new(caddyhttp.Subroute)
	default:
		return nil
	}
	if json.Unmarshal(raw, handler) != nil {
		return nil
	}
	return handler
}

// holdsGate reports whether a handler that is not loaded yet is a gate, or has
// one in it.
func holdsGate(raw json.RawMessage) bool {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) == nil {
		return slices.ContainsFunc(list, holdsGate)
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return false
	}
	if word(members["handler"]) == "login" {
		return true
	}
	for _, member := range members {
		if holdsGate(member) {
			return true
		}
	}
	return false
}

// fitsAll reports whether a route is for every request. That one for *.php is,
// too, after a rewrite to it: php_fastcgi is made of these.
func fitsAll(route caddyhttp.Route) bool {
	if len(route.MatcherSets) == 0 && len(route.MatcherSetsRaw) == 0 {
		return true
	}
	for _, set := range route.MatcherSets {
		if len(set) != 1 {
			continue
		}
		if paths, ok := set[0].(*caddyhttp.MatchPath); ok && slices.ContainsFunc(*paths, isAnyPath) {
			return true
		}
	}
	for _, set := range route.MatcherSetsRaw {
		var paths []string
		if len(set) == 1 && json.Unmarshal(set["path"], &paths) == nil && slices.ContainsFunc(paths, isAnyPath) {
			return true
		}
	}
	return false
}

func isAnyPath(pattern string) bool { return pattern == "*" || pattern == "/*" || pattern == "*.php" }
