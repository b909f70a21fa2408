package module

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"golang.org/x/net/publicsuffix"

	"github.com/caddy-login/caddy-login/module/guest"
)

// position is where a gate stands in the HTTP app. It is empty for a gate that
// no HTTP server loads.
type position struct {
	server *caddyhttp.Server

	// site is the route of the server below which the gate stands, nil in a
	// named route and in an error route.
	site *caddyhttp.Route

	// routes lead to the gate, the outermost first, its own last. Of several
	// named routes Caddy does not say which it is loading: theirs lack that one.
	routes []*caddyhttp.Route

	// before are the routes that requests pass on the way there, by the list that
	// they stand in.
	before []caddyhttp.RouteList
}

// positionOf finds where the gate stands that ctx provisions. There is no later
// moment at which a mistake could be refused by `caddy validate`, too, which
// starts no app: the HTTP app may be the last that is provisioned, and calls
// nothing of ours when it is done.
func positionOf(ctx caddy.Context) position {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return position{}
	}
	p := position{server: server, site: loading(server.Routes)}
	p.pass(server.Routes)
	for _, module := range ctx.Modules() {
		if inner, ok := module.(*caddyhttp.Subroute); ok {
			p.pass(inner.Routes)
		}
	}
	return p
}

func (p *position) pass(routes caddyhttp.RouteList) {
	if i := loadingAt(routes); i >= 0 {
		p.routes = append(p.routes, &routes[i])
		p.before = append(p.before, routes[:i])
	}
}

// loading is the route whose handlers are being loaded, or nil. Caddy takes the
// routes of a list in turn, all matchers before the first handler, and clears a
// route's HandlersRaw once its handlers are there.
func loading(routes caddyhttp.RouteList) *caddyhttp.Route {
	i := loadingAt(routes)
	if i < 0 {
		return nil
	}
	return &routes[i]
}

func loadingAt(routes caddyhttp.RouteList) int {
	return slices.IndexFunc(routes, func(r caddyhttp.Route) bool { return len(r.HandlersRaw) > 0 })
}

// settle refuses a gate that stands where it can't do its work, and counts it
// in.
func (a *App) settle(g *Gate, at position) error {
	g.at = at
	if err := errors.Join(at.checkErrors(), at.checkFront(), at.checkReach(g.settings.Pages.Path), a.checkSingle(at)); err != nil {
		return err
	}
	if g.codes != nil && len(g.origins) == 0 && !at.isNamed() {
		return errUnnamed
	}
	a.gates = append(a.gates, g)
	return nil
}

var errUnnamed = errors.New("sign-in by email needs the site's own address, or a mail could be made to lead anywhere: give the site a host name, or write 'origin https://app.example.com'")

// isNamed reports whether only requests for hosts that the operator named lead
// here: the Host of any other is a stranger's word.
func (p position) isNamed() bool {
	return slices.ContainsFunc(p.routes, func(route *caddyhttp.Route) bool {
		return len(route.MatcherSets) > 0 && !slices.ContainsFunc(route.MatcherSets, namesNoHost)
	})
}

func namesNoHost(set caddyhttp.MatcherSet) bool {
	return !slices.ContainsFunc(set, func(matcher any) bool {
		hosts, ok := matcher.(*caddyhttp.MatchHost)
		return ok && len(*hosts) > 0 && !slices.ContainsFunc(*hosts, isAnybodys)
	})
}

// isAnybodys reports whether a host pattern fits names that others own: a
// wildcard must stand below a domain that somebody registered.
func isAnybodys(host string) bool {
	if strings.Contains(host, "{") {
		return true
	}
	domain := strings.ToLower(strings.TrimPrefix(host, "*."))
	if strings.Contains(domain, "*") {
		return true
	}
	suffix, _ := publicsuffix.PublicSuffix(domain)
	return domain != host && suffix == domain
}

// checkErrors refuses a gate among error routes: what the site serves does not
// come by there. It also refuses one in a named route of a server whose error
// routes forward: Caddy loads those before it, too early for an ErrorGuard, and
// a request that Caddy refuses by itself would reach the app with forged
// headers.
func (p position) checkErrors() error {
	if p.server == nil || p.site != nil || p.server.Errors == nil {
		return nil
	}
	if loading(p.server.Errors.Routes) != nil {
		return errors.New("login stands in handle_errors, where it protects nothing: put it directly into the site")
	}
	if forwarded := upstreams(p.server, p.server.Errors.Routes); len(forwarded) > 0 {
		return fmt.Errorf("handle_errors forwards to %s, and login stands in a named route, which can't keep forged headers from there: write login into the site itself, or answer errors with respond or file_server", forwarded[0].written)
	}
	return nil
}

// checkReach refuses a gate whose pages can't be reached.
func (p position) checkReach(pages string) error {
	for _, route := range p.routes[:max(0, len(p.routes)-1)] {
		if cutsOff(route, pages) {
			return fmt.Errorf("the pages of login below %s can't be reached: it stands inside a 'handle' or 'route' whose matcher lacks that path; put login directly into the site and say with 'allow <matcher> …' what it protects", pages)
		}
	}
	return nil
}

// checkSingle refuses a site with two gates: the inner one would take the
// outer one's headers for forged, and only one of them has pages.
func (a *App) checkSingle(at position) error {
	if at.site == nil {
		return nil
	}
	if slices.ContainsFunc(a.gates, func(other *Gate) bool { return other.at.site == at.site }) {
		return errors.New("two login handlers stand in one site: keep one, and say the differences with 'allow <matcher> …'")
	}
	return nil
}

// cutsOff reports whether path matchers keep the pages from a route.
func cutsOff(route *caddyhttp.Route, base string) bool {
	if len(route.MatcherSets) == 0 {
		return false
	}
	for _, set := range route.MatcherSets {
		if letsThrough(set, base+"/") {
			return false
		}
	}
	return true
}

func letsThrough(set caddyhttp.MatcherSet, path string) bool {
	for _, matcher := range set {
		paths, ok := matcher.(*caddyhttp.MatchPath)
		if ok && !paths.Match(probe(path)) {
			return false
		}
	}
	return true
}

// probe is a request for a path, as far as a path matcher looks at one.
func probe(path string) *http.Request {
	r := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: path}, Header: http.Header{}}
	return caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, new(caddyhttp.Server))
}

// tellCallbacks names, once in the life of the process, the callback URLs to
// register at each provider.
func (a *App) tellCallbacks() {
	for _, g := range a.gates {
		for _, origin := range g.registered() {
			for _, name := range providersAmong(g.providers) {
				callback := origin + g.settings.Pages.Path + "/" + name + "/callback"
				if _, told := toldCallbacks.LoadOrStore(callback, true); !told {
					a.log.Info("register this callback URL at the provider", zap.String("provider", name), zap.String("url", callback))
				}
			}
		}
	}
}

// providersAmong are the names of those that send visitors back to us.
func providersAmong(methods []guest.Method) (names []string) {
	for _, m := range methods {
		if _, ok := m.(guest.Provider); ok {
			names = append(names, m.Traits().Name)
		}
	}
	return names
}

// validated reports whether Caddy ended this config because it only wanted to
// know whether it is right, and it is (caddy.Validate). The cause of any other
// end before the start wraps the failure.
func (a *App) validated() bool {
	cause := context.Cause(a.ctx)
	return cause != nil && errors.Unwrap(cause) == nil
}

// registered are the origins under which a provider sends visitors back.
func (g *Gate) registered() []string {
	if len(g.origins) > 0 {
		return []string{g.origins[0].String()}
	}
	if g.at.server == nil {
		return nil
	}
	scheme, port := address(g.at.server)
	var origins []string
	for _, host := range g.at.hosts() {
		origins = append(origins, scheme+"://"+host+port)
	}
	slices.Sort(origins)
	return origins
}

// hosts are those that lead to the gate: the innermost matchers that name any.
func (p position) hosts() []string {
	for _, route := range slices.Backward(p.routes) {
		if hosts := hostsOf(route); len(hosts) > 0 {
			return hosts
		}
	}
	return []string{"<host>"}
}

func hostsOf(route *caddyhttp.Route) (hosts []string) {
	for _, set := range route.MatcherSets {
		for _, matcher := range set {
			if m, ok := matcher.(*caddyhttp.MatchHost); ok {
				hosts = append(hosts, *m...)
			}
		}
	}
	return hosts
}

// address is the scheme and, where it shows in a URL, the port of a server.
func address(server *caddyhttp.Server) (scheme, port string) {
	scheme = "http"
	if len(server.TLSConnPolicies) > 0 {
		scheme = "https"
	}
	if len(server.Listen) == 0 {
		return scheme, ""
	}
	_, port, _ = net.SplitHostPort(strings.TrimPrefix(server.Listen[0], "tcp/"))
	if port == "" || port == "443" && scheme == "https" || port == "80" && scheme == "http" {
		return scheme, ""
	}
	return scheme, ":" + port
}
