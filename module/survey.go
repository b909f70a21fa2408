package module

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// survey walks the running config once it is whole: it finds gates whose pages
// can't be reached, and the callback URLs to register at each provider.
func (a *App) survey() error {
	loaded, err := a.ctx.AppIfConfigured("http")
	if err != nil {
		return nil
	}
	for _, server := range loaded.(*caddyhttp.App).Servers {
		s := surveyor{app: a, server: server}
		if err := checkErrorRoutes(server); err != nil {
			return err
		}
		for _, site := range server.Routes {
			if err := checkSingle(site); err != nil {
				return err
			}
		}
		if err := s.walk(server.Routes, nil); err != nil {
			return err
		}
		for _, route := range server.NamedRoutes {
			if err := s.walk(caddyhttp.RouteList{*route}, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

type surveyor struct {
	app    *App
	server *caddyhttp.Server
}

// walk goes through routes; hosts are those that lead here so far.
func (s *surveyor) walk(routes caddyhttp.RouteList, hosts []string) error {
	for _, route := range routes {
		hosts := hostsOf(route, hosts)
		for _, handler := range route.Handlers {
			if err := s.visit(handler, route, hosts); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *surveyor) visit(handler caddyhttp.MiddlewareHandler, route caddyhttp.Route, hosts []string) error {
	switch h := handler.(type) {
	case *Gate:
		s.tell(h, hosts)
		return nil
	case *caddyhttp.Subroute:
		if gate := gateIn(h.Routes); gate != nil && cutsOff(route, gate.settings.Pages.Path) {
			return fmt.Errorf("the pages of login below %s can't be reached: it stands inside a 'handle' or 'route' whose matcher lacks that path; put login directly into the site and say with 'allow <matcher> …' what it protects", gate.settings.Pages.Path)
		}
		return s.walk(h.Routes, hosts)
	default:
		return nil
	}
}

// checkSingle refuses a site with two gates: the inner one would take the
// outer one's headers for forged, and only one of them has pages.
func checkSingle(site caddyhttp.Route) error {
	if n := countGates(caddyhttp.RouteList{site}); n > 1 {
		return fmt.Errorf("%d login handlers stand in one site: keep one, and say the differences with 'allow <matcher> …'", n)
	}
	return nil
}

func countGates(routes caddyhttp.RouteList) (n int) {
	for _, route := range routes {
		for _, handler := range route.Handlers {
			switch h := handler.(type) {
			case *Gate:
				n++
			case *caddyhttp.Subroute:
				n += countGates(h.Routes)
			}
		}
	}
	return n
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

// cutsOff reports whether path matchers keep the pages from a route.
func cutsOff(route caddyhttp.Route, base string) bool {
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

func hostsOf(route caddyhttp.Route, outer []string) []string {
	var hosts []string
	for _, set := range route.MatcherSets {
		for _, matcher := range set {
			if m, ok := matcher.(*caddyhttp.MatchHost); ok {
				hosts = append(hosts, *m...)
			}
		}
	}
	if len(hosts) == 0 {
		return outer
	}
	return hosts
}

// tell names, once in the life of the process, the callback URLs of a site.
func (s *surveyor) tell(g *Gate, hosts []string) {
	for _, origin := range s.origins(g, hosts) {
		for _, name := range providerNames(g.providers) {
			callback := origin + g.settings.Pages.Path + "/" + name + "/callback"
			if _, told := toldCallbacks.LoadOrStore(callback, true); !told {
				s.app.log.Info("register this callback URL at the provider", zap.String("provider", name), zap.String("url", callback))
			}
		}
	}
}

func (s *surveyor) origins(g *Gate, hosts []string) []string {
	if len(g.origins) > 0 {
		return []string{g.origins[0].String()}
	}
	scheme, port := s.address()
	if len(hosts) == 0 {
		hosts = []string{"<host>"}
	}
	origins := make([]string, 0, len(hosts))
	for _, host := range hosts {
		origins = append(origins, scheme+"://"+host+port)
	}
	slices.Sort(origins)
	return origins
}

// address is the scheme and, where it shows in a URL, the port of a server.
func (s *surveyor) address() (scheme, port string) {
	scheme = "http"
	if len(s.server.TLSConnPolicies) > 0 {
		scheme = "https"
	}
	if len(s.server.Listen) == 0 {
		return scheme, ""
	}
	_, port, _ = net.SplitHostPort(strings.TrimPrefix(s.server.Listen[0], "tcp/"))
	if port == "" || port == "443" && scheme == "https" || port == "80" && scheme == "http" {
		return scheme, ""
	}
	return scheme, ":" + port
}
