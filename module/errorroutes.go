package module

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/intercept"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-login/caddy-login/module/header"
)

func init() { caddy.RegisterModule(ErrorGuard{}) }

// ErrorGuard is the HTTP handler "login_errors". It stands, without anybody
// writing it, in front of the error routes of every server that has a gate:
// Caddy leads requests there that it refused before the gate saw them, such as
// one with a method of 33 letters, and an error route may forward them. It
// strips what clients forge, and vouches for nobody.
type ErrorGuard struct {
	guard *header.Guard
}

// CaddyModule returns the module's name in Caddy.
func (ErrorGuard) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.login_errors", New: func() caddy.Module { return new(ErrorGuard) }}
}

// Provision collects the names that the gates use, and the last guard checks
// what stands before it. Caddy provisions a server's error routes after its
// routes.
func (e *ErrorGuard) Provision(ctx caddy.Context) (err error) {
	app, err := ctx.App("login")
	if err != nil {
		return fmt.Errorf("loading login app: %w", err)
	}
	var all []string
	for _, g := range app.(*App).gates {
		all = append(all, g.written...)
	}
	if e.guard, err = header.NewGuard(all...); err != nil {
		return err
	}
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return nil
	}
	return checkErrorRoutes(server)
}

func (e *ErrorGuard) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	e.guard.Strip(r)
	return next.ServeHTTP(w, r)
}

// guardErrors puts an ErrorGuard in front of the error routes of the server
// that is being provisioned, and one behind them, once.
func guardErrors(ctx caddy.Context) {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || server.Errors == nil || loading(server.Errors.Routes) == nil {
		return // there are none, or, for a named route, they are loaded already
	}
	guard := json.RawMessage(`{"handler":"login_errors"}`)
	for _, route := range server.Errors.Routes {
		if len(route.HandlersRaw) == 1 && string(route.HandlersRaw[0]) == string(guard) {
			return
		}
	}
	front := caddyhttp.Route{HandlersRaw: []json.RawMessage{guard}}
	behind := caddyhttp.Route{HandlersRaw: []json.RawMessage{guard}}
	server.Errors.Routes = slices.Concat(caddyhttp.RouteList{front}, server.Errors.Routes, caddyhttp.RouteList{behind})
}

// checkErrorRoutes refuses error routes that forward to an app behind a gate:
// whatever the gate, or Caddy before it, refused would reach the app after all.
func checkErrorRoutes(server *caddyhttp.Server) error {
	if server.Errors == nil {
		return nil
	}
	protected := make(map[string]bool)
	for _, site := range server.Routes {
		if gateIn(caddyhttp.RouteList{site}) == nil {
			continue
		}
		for _, upstream := range upstreams(server, caddyhttp.RouteList{site}) {
			protected[upstream.plain] = true
		}
	}
	for _, upstream := range upstreams(server, server.Errors.Routes) {
		if protected[upstream.plain] || upstream.plain == dynamic && len(protected) > 0 {
			return fmt.Errorf("handle_errors forwards to %s, which login protects: requests that were refused would reach it; %w", upstream.written, errErrorPage)
		}
	}
	return nil
}

func gateIn(routes caddyhttp.RouteList) *Gate {
	for _, route := range routes {
		for _, handler := range route.Handlers {
			switch h := handler.(type) {
			case *Gate:
				return h
			case *caddyhttp.Subroute:
				if gate := gateIn(h.Routes); gate != nil {
					return gate
				}
			}
		}
	}
	return nil
}

var errErrorPage = errors.New("answer errors with respond or file_server, or from another upstream")

// dynamic stands for upstreams that only a request finds.
const dynamic = "dynamic upstreams"

// upstreams are the addresses that routes of a server forward to, also by way
// of named routes.
func upstreams(server *caddyhttp.Server, routes caddyhttp.RouteList) []upstream {
	f := forwards{server: server, invoked: make(map[string]bool)}
	f.follow(routes)
	return f.to
}

type forwards struct {
	server  *caddyhttp.Server
	invoked map[string]bool // named routes, each followed once
	to      []upstream
}

// upstream is an address as it is compared, and as it was written.
type upstream struct{ plain, written string }

func (f *forwards) add(dial string) { f.to = append(f.to, upstream{plain(dial), dial}) }

// onRequest is an upstream that only a request finds.
func (f *forwards) onRequest() { f.to = append(f.to, upstream{dynamic, dynamic}) }

func (f *forwards) follow(routes caddyhttp.RouteList) {
	for _, route := range routes {
		for _, handler := range route.Handlers {
			switch h := handler.(type) {
			case *reverseproxy.Handler:
				f.proxy(h)
				f.after(h.HandleResponse)
			case *intercept.Intercept:
				f.after(h.HandleResponse)
			case *caddyhttp.Subroute:
				f.follow(h.Routes)
			case *caddyhttp.Invoke:
				f.invoke(h.Name)
			}
		}
		// Named routes are the last that Caddy loads: until then they are text.
		for _, raw := range route.HandlersRaw {
			f.read(raw)
		}
	}
}

func (f *forwards) proxy(h *reverseproxy.Handler) {
	for _, upstream := range h.Upstreams {
		f.add(upstream.Dial)
	}
	if h.DynamicUpstreams != nil {
		f.onRequest()
	}
}

// after follows what is done with an upstream's answer.
func (f *forwards) after(handlers []caddyhttp.ResponseHandler) {
	for _, h := range handlers {
		f.follow(h.Routes)
	}
}

// plain is one spelling of an upstream's address: of this machine's many names
// one, and none of its networks. What only a request fills in is dynamic.
func plain(dial string) string {
	dial = caddy.NewReplacer().ReplaceKnown(dial, "")
	if strings.Contains(dial, "{") {
		return dynamic
	}
	address, err := caddy.ParseNetworkAddress(dial)
	if err != nil || address.IsUnixNetwork() {
		return dial
	}
	host := strings.ToLower(address.Host)
	if ip, err := netip.ParseAddr(host); err == nil && (ip.Unmap().IsLoopback() || ip.IsUnspecified()) || isLoopback(host) || host == "" {
		host = "localhost"
	}
	return net.JoinHostPort(host, strconv.FormatUint(uint64(address.StartPort), 10))
}

func (f *forwards) invoke(name string) {
	route := f.server.NamedRoutes[name]
	if route == nil || f.invoked[name] {
		return
	}
	f.invoked[name] = true
	f.follow(caddyhttp.RouteList{*route})
}

// read looks for what forwards in handlers that are not loaded yet.
func (f *forwards) read(raw json.RawMessage) {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		var list []json.RawMessage
		_ = json.Unmarshal(raw, &list) // neither is a leaf
		for _, item := range list {
			f.read(item)
		}
		return
	}
	if dial := word(members["dial"]); dial != "" {
		f.add(dial)
	}
	if members["dynamic_upstreams"] != nil {
		f.onRequest()
	}
	if word(members["handler"]) == "invoke" {
		f.invoke(word(members["name"]))
	}
	for _, member := range members {
		f.read(member)
	}
}

// word is a JSON string, or empty.
func word(raw json.RawMessage) (s string) {
	_ = json.Unmarshal(raw, &s) // anything else is no word
	return s
}

// Interface guards
var (
	_ caddy.Module                = (*ErrorGuard)(nil)
	_ caddy.Provisioner           = (*ErrorGuard)(nil)
	_ caddyhttp.MiddlewareHandler = (*ErrorGuard)(nil)
)
