package module

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-login/caddy-login/module/page"
	"github.com/caddy-login/caddy-login/module/policy"
)

// question is the request that another proxy asks about: may it pass?
type question struct {
	method, host, target string
	scheme               string // empty: not said
}

// isCheck reports whether another proxy asks: by the address as it came. Envoy
// puts the path that it asks about behind ours.
func (p *portal) isCheck(r *http.Request) bool {
	rest, ours := strings.CutPrefix(target(r), p.base+"/check")
	return ours && (rest == "" || rest[0] == '/' || rest[0] == '?')
}

// target is the address as it came over the wire.
func target(r *http.Request) string {
	if was, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		return was.RequestURI
	}
	return r.RequestURI
}

// check answers another proxy that asks whether a request may pass: 200 with
// identity headers, 401 with the sign-in page in Location where a person is
// waiting for a page, or 403. It judges as the gate does. Where something of
// ours fails it is 503 or 500, which every proxy takes for a no.
//
// It sends nobody anywhere and sets no cookie. Caddy's access log would show the
// answer's headers, with the assertion and the address: ours does not.
func (g *Gate) check(w http.ResponseWriter, r *http.Request) error {
	requests.portal.Inc()
	return g.portal.logs.around(w, r, original(r).Path, func(w http.ResponseWriter) error { return g.answer(w, r) })
}

func (g *Gate) answer(w http.ResponseWriter, r *http.Request) error {
	asked, err := g.askedAbout(r)
	if err != nil {
		return g.notAnswered(w, r, err)
	}
	v := g.visit(asked)
	verdict, why := g.judge(asked, v)
	switch {
	case why != nil:
		return g.noAnswer(w, r, *why)
	case verdict == policy.Allow:
		return g.vouch(w, asked, v)
	case verdict == policy.SignIn:
		return g.pointToSignIn(w, asked, v)
	default:
		page.WriteProblem(w, notAdmitted(r))
		return nil
	}
}

// vouch tells who it is, and that they may pass. Cookie is what is left for the
// app without our cookies: they are not for it. There is no body: Caddy's
// forward_auth would open a connection for each.
func (g *Gate) vouch(w http.ResponseWriter, asked *http.Request, v *visit) error {
	h := w.Header()
	if known := v.known(g); known != nil {
		block, err := known.headers(v)
		if err != nil {
			return g.noAnswer(w, asked, broken(http.StatusServiceUnavailable, err))
		}
		block.Set(h, nil)
		g.names.Block(known.render(g.checkFields)...).Set(h, nil) // only a proxy is told these
	}
	h["Cookie"] = []string{strings.Join(asked.Header["Cookie"], "; ")}
	h["Cache-Control"], h["Content-Length"] = noStore, []string{"0"}
	w.WriteHeader(http.StatusOK)
	return nil
}

// pointToSignIn says where to sign in. Only the proxy that asks can send a
// browser there; a program is not to be sent.
func (g *Gate) pointToSignIn(w http.ResponseWriter, asked *http.Request, v *visit) error {
	problem := signInRequired(asked, v)
	if isNavigation(asked) {
		problem.SignIn = v.origin.String() + g.portal.signInURL(returnAddress(asked, g.portal.base))
		w.Header().Set("Location", problem.SignIn)
	}
	page.WriteProblem(w, problem)
	return nil
}

// noAnswer is refuse, for a proxy: never a page.
func (g *Gate) noAnswer(w http.ResponseWriter, r *http.Request, why refusal) error {
	g.tell(w, r, why)
	if why.status < http.StatusInternalServerError && why.status != http.StatusUnauthorized {
		why.status = http.StatusForbidden
	}
	page.WriteProblem(why.on(w), page.Problem{Status: why.status, Code: why.code, Title: why.title, Detail: why.detail, RequestID: requestID(r)})
	return nil
}

// notAnswered refuses to judge. The operator is told the cure; whoever asked is
// not: it may be anybody.
func (g *Gate) notAnswered(w http.ResponseWriter, r *http.Request, why error) error {
	id := requestID(r)
	if g.app.mayTell(r) {
		peer, _, _ := net.SplitHostPort(r.RemoteAddr)
		g.log.Warn("check not answered", zap.Error(why), zap.String("peer", peer), zap.String("request_id", id))
	}
	page.WriteProblem(w, page.Problem{
		Status: http.StatusForbidden, Code: "not_answered", Title: "Not answered",
		Detail: "Only a trusted proxy is told here whether a request may pass.", RequestID: id,
	})
	return nil
}

var (
	errUntrusted = errors.New("who asks is no trusted proxy: if it is yours, write in the global options 'servers { trusted_proxies static <its address> }'")
	errUnasked   = errors.New("no request is described: let the proxy send X-Forwarded-Method, -Proto, -Host and -Uri, or X-Original-URL and X-Original-Method")
	errDisagree  = errors.New("X-Forwarded-Uri, X-Original-URL and the address describe different requests: let the proxy set one of the first two and remove the other")
	errTarget    = errors.New("the described address is no path: let the proxy send it as it came, such as /a/b?c")
	errOwnPages  = errors.New("the described address is one of the sign-in pages: let the proxy send those to Caddy without asking")
)

// askedAbout is the request that a trusted proxy describes, as it would have
// come to this site; nothing of what a client says about itself is in it.
//
// A client may send the very words that describe it. A proxy that sets all of
// them overwrites those; so a description must be complete, and where there are
// two they must agree.
func (g *Gate) askedAbout(r *http.Request) (*http.Request, error) {
	if trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool); !trusted {
		return nil, errUntrusted
	}
	q, err := g.portal.described(r)
	if err != nil {
		return nil, err
	}
	site, err := g.siteOf(q, r)
	if err != nil {
		return nil, err
	}
	u, err := url.ParseRequestURI(q.target)
	switch {
	case err != nil || q.target[0] != '/' || strings.ContainsAny(q.target, " #"):
		return nil, errTarget
	case below(u.Path, g.portal.base):
		return nil, errOwnPages
	}
	socket := opensSocket(r)
	g.guard.Strip(r)
	asked := *r
	asked.Method, asked.Host, asked.URL, asked.RequestURI = q.method, site.hostPort, u, q.target
	asked.Body, asked.ContentLength = http.NoBody, 0
	if socket {
		asked.Header["Upgrade"], asked.Header[":protocol"] = []string{"websocket"}, []string{"websocket"}
	}
	return preparedAgain(r, &asked), nil
}

// opensSocket reports whether the described request opens a WebSocket. Proxies
// keep the Upgrade to themselves and pass the key or the version on (RFC 6455
// section 4.1, RFC 8441 section 5).
func opensSocket(r *http.Request) bool {
	return isWebSocket(r) || len(r.Header["Sec-Websocket-Key"]) > 0 || len(r.Header["Sec-Websocket-Version"]) > 0
}

// described reads what is asked about, from whatever describes it.
func (p *portal) described(r *http.Request) (*question, error) {
	var all []question
	if path := strings.TrimPrefix(target(r), p.base+"/check"); strings.HasPrefix(path, "/") {
		all = append(all, question{method: r.Method, host: r.Host, target: path})
	}
	for _, read := range []func(http.Header) (question, bool, error){forwarded, originally} {
		q, said, err := read(r.Header)
		if err != nil {
			return nil, err
		}
		if said {
			all = append(all, q)
		}
	}
	if len(all) == 0 {
		return nil, errUnasked
	}
	for _, other := range all[1:] {
		if !all[0].is(other) {
			return nil, errDisagree
		}
	}
	return &all[len(all)-1], nil
}

// is reports whether two descriptions are of one request.
func (q question) is(other question) bool {
	return q.method == other.method && strings.EqualFold(q.host, other.host) && q.target == other.target &&
		(q.scheme == other.scheme || q.scheme == "" || other.scheme == "")
}

// forwarded is how Traefik, Caddy and Authelia's kin describe a request.
func forwarded(h http.Header) (q question, said bool, err error) {
	if len(h["X-Forwarded-Uri"]) == 0 {
		return q, false, nil
	}
	err = errors.Join(
		one(h, "X-Forwarded-Uri", &q.target), one(h, "X-Forwarded-Method", &q.method),
		one(h, "X-Forwarded-Host", &q.host), one(h, "X-Forwarded-Proto", &q.scheme),
	)
	// Traefik names the protocol of WebSockets.
	switch q.scheme {
	case "ws":
		q.scheme = "http"
	case "wss":
		q.scheme = "https"
	}
	return q, true, err
}

// originally is how nginx and its ingress describe a request.
func originally(h http.Header) (q question, said bool, err error) {
	if len(h["X-Original-Url"]) == 0 {
		return q, false, nil
	}
	var address string
	if err := errors.Join(one(h, "X-Original-Url", &address), one(h, "X-Original-Method", &q.method)); err != nil {
		return q, true, err
	}
	scheme, rest, _ := strings.Cut(address, "://")
	slash := strings.IndexByte(rest, '/')
	if slash < 0 {
		return q, true, errTarget
	}
	q.scheme, q.host, q.target = scheme, rest[:slash], rest[slash:]
	return q, true, nil
}

// one reads a header that must be there, and once.
func one(h http.Header, name string, to *string) error {
	values := h[name]
	if len(values) != 1 || values[0] == "" {
		return fmt.Errorf("%s is there %d times, or empty: let the proxy set it, over whatever the client sent", name, len(values))
	}
	*to = values[0]
	return nil
}

// siteOf is this site's origin, if the question is about this site.
func (g *Gate) siteOf(q *question, r *http.Request) (origin, error) {
	origins := g.origins
	if len(origins) == 0 {
		origins = []origin{*g.originOf(r)}
	}
	for _, o := range origins {
		if (q.scheme == "" || q.scheme == o.scheme) && strings.EqualFold(withoutPort(q.host, o.scheme), withoutPort(o.hostPort, o.scheme)) {
			return o, nil
		}
	}
	return origin{}, fmt.Errorf("the described request is for %.100q, and this site is %s: let the proxy ask the site's own login, or write there 'origin https://<host>', as browsers see it",
		q.scheme+"://"+q.host, origins[0])
}

// withoutPort takes a scheme's default port off a host.
func withoutPort(hostPort, scheme string) string {
	port := ":80"
	if scheme == "https" {
		port = ":443"
	}
	return strings.TrimSuffix(hostPort, port)
}
