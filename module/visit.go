package module

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-login/caddy-login/module/header"
	"github.com/caddy-login/caddy-login/module/policy"
	"github.com/caddy-login/caddy-login/module/session"
)

// visit is what one request says of its visitor.
type visit struct {
	gate   *Gate
	origin *origin
	*cookies
	cookie  string          // the session's, sealed
	pending []header.Cookie // attempts to sign in, and other cookies of ours
	scope   string

	house *house
	hand  *session.AtHand // nil: nobody we know
	// held is the session of the browser's cookie, also where it is none here.
	held *session.AtHand
	read *session.Live // hand's, once somebody asked
	at   int64         // when they were recognised, in Unix nanoseconds
	// bearer is what may be an access token of ours; empty: no such thing was
	// looked for, or found. bearers are further ones.
	bearer  string
	bearers []string
	// api is the API's call that this is; nil: a page's.
	api *apiCall

	// begun are the cookies of the attempts that an app of the site's asks about.
	begun []string

	// answer and scratch lie here so that a request costs one allocation.
	answer  answer
	scratch [7]string
}

// origin is a site's address as browsers see it.
type origin struct {
	scheme, hostPort, host string
}

// is reports whether two are one.
func (o *origin) is(other *origin) bool { return o == other || *o == *other }

func (o origin) String() string { return o.scheme + "://" + o.hostPort }

func parseOrigins(raw []string) []origin {
	origins := make([]origin, 0, len(raw))
	for _, s := range raw {
		if u, err := url.Parse(s); err == nil {
			origins = append(origins, origin{scheme: u.Scheme, hostPort: u.Host, host: u.Hostname()})
		}
	}
	return origins
}

// visit takes our cookies out of the request: the app does not see them.
func (g *Gate) visit(r *http.Request) *visit {
	v := &visit{gate: g, origin: g.originOf(r)}
	v.cookies = &g.cookies[0]
	if v.origin.scheme == "https" || !isLoopback(v.origin.host) {
		v.cookies = &g.cookies[1]
	}
	v.cookie, v.pending = v.jar.Take(r.Header)
	v.scope = v.cookies.scope(v.origin.host)
	return v
}

// originOf is where the browser thinks it is: the configured origin of that
// host, or the first, or what this connection says itself. Forwarding headers
// decide nothing.
func (g *Gate) originOf(r *http.Request) *origin {
	for i := range g.origins {
		if g.origins[i].hostPort == r.Host {
			return &g.origins[i]
		}
	}
	if len(g.origins) > 0 {
		return &g.origins[0]
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	at := g.met.at(r.Host)
	if o := at.Load(); o != nil && o.hostPort == r.Host && o.scheme == scheme {
		return o
	}
	hostPort := strings.ToLower(strings.Clone(r.Host))
	o := &origin{scheme: scheme, hostPort: hostPort, host: hostOf(hostPort)}
	at.Store(o)
	return o
}

// met are origins that connections said of late, where the config says none: nearly
// all requests come to the same few.
type met [16]atomic.Pointer[origin]

// at is where the origin of a host is, if it is there: others may have its place.
func (m *met) at(host string) *atomic.Pointer[origin] {
	n := 0
	for i := range min(len(host), 64) {
		n = n*31 + int(host[i])
	}
	return &m[uint(n)%uint(len(m))]
}

func hostOf(hostPort string) string {
	colon := strings.LastIndexByte(hostPort, ':')
	if colon < 0 || strings.HasSuffix(hostPort, "]") {
		return strings.Trim(hostPort, "[]")
	}
	if host, _, err := net.SplitHostPort(hostPort); err == nil {
		return host
	}
	return hostPort
}

// recognise finds out who is signed in. Its error means that we cannot know, or
// is errBadToken.
func (v *visit) recognise(r *http.Request) error {
	if v.cookie == "" && v.bearer == "" {
		return nil
	}
	house, err := v.gate.app.door.enter()
	if err != nil {
		return err
	}
	v.house = house
	if err := v.readCookie(r.Context()); err != nil || v.bearer == "" {
		return err
	}
	return v.readBearer(r)
}

func (v *visit) readCookie(ctx context.Context) error {
	now := v.gate.now()
	v.at = now.UnixNano()
	held, err := v.house.sessions.Read(ctx, v.scope, v.cookie, now)
	if err == session.ErrNone {
		return nil
	}
	if err != nil {
		return err
	}
	v.held = held
	if v.gate.takes(held) {
		v.is(held)
	}
	return nil
}

// is says who it is; nil: nobody we know.
func (v *visit) is(hand *session.AtHand) { v.hand, v.read = hand, nil }

// live is the session of who is here, or nil. It is for our pages: a request to
// the app knows enough without.
func (v *visit) live() *session.Live {
	if v.read == nil && v.hand != nil {
		v.read = v.hand.Live()
	}
	return v.read
}

// takes reports whether a session counts at this site. One that is shared among
// sites, or began before a change of the config, may come from a provider that
// the site does not offer, or offers as another's.
func (g *Gate) takes(hand *session.AtHand) bool {
	if k := g.knownOf(hand); k != nil {
		return !k.lapsed()
	}
	live := hand.Live()
	method := named(g.providers, live.Provider)
	if method == nil {
		return false
	}
	traits := method.Traits()
	if traits.Owns != nil && !traits.Owns(live.Person.Identity.Issuer) {
		return false
	}
	return !g.unproven(traits, live)
}

// known is somebody signed in as one site knows them: rendered once, used for
// every request until the session is forgotten. All its texts lie in one piece.
type known struct {
	gate    *Gate
	hand    *session.AtHand
	visitor policy.Visitor
	// name is for display, handle the session's. account is what the provider that
	// they came in by calls theirs.
	name, handle, account string

	lookup  caddy.ReplacerFunc
	renewal *renewal // nil: nothing to renew
	next    *known   // the session as another site knows it
	// said is the newest assertion at hand; signing is held while one is made.
	// Where the site signs nothing, it is what the app is told for ever.
	said    atomic.Pointer[assertion]
	signing sync.Mutex
	// lapse is when nobody can vouch for the account any more, and tokenUntil when
	// the access token expires that the app is told, in Unix nanoseconds; 0: never.
	lapse, tokenUntil int64
}

// known is nil for nobody we know.
func (v *visit) known(g *Gate) *known {
	if v.hand == nil {
		return nil
	}
	if k := g.knownOf(v.hand); k != nil {
		return k
	}
	k := render(g, v.hand, v.live())
	k.joins()
	return k
}

// knownOf is what this site has made of a session, or nil.
func (g *Gate) knownOf(hand *session.AtHand) *known {
	for k, _ := hand.Site.Load().(*known); k != nil; k = k.next {
		if k.gate == g {
			return k
		}
	}
	return nil
}

// mostSites bounds what is kept of one session for sites that share its cookie.
const mostSites = 8

// joins has k found by knownOf, before what other sites have made of the session:
// somebody goes from one to the next and back. What was made before a reload is
// let go; so is all, where there are too many.
func (k *known) joins() {
	for {
		first := k.hand.Site.Load()
		k.next, _ = first.(*known)
		n := 1
		for other := k.next; other != nil; other = other.next {
			if n++; other.gate.app != k.gate.app || n > mostSites {
				k.next = nil
				break
			}
		}
		if k.hand.Site.CompareAndSwap(first, k) {
			return
		}
	}
}

func render(g *Gate, hand *session.AtHand, live *session.Live) *known {
	k := &known{gate: g, hand: hand, visitor: g.visitorOf(live), name: live.Person.User.Name, handle: live.Handle}
	if account := &live.Person.Identity; account.Provider == live.Provider {
		k.account = account.Subject
	}
	k.pack()
	k.lookup = k.placeholder
	if live.Grant != nil {
		k.renewal, k.lapse = g.renewalOf(live), g.lapseOf(live)
		_, k.tokenUntil = g.tokenField(live)
	}
	if !g.signs {
		block, bare := k.blocks(live)
		k.said.Store(&assertion{block: block, bare: bare})
	}
	return k
}

// blocks are what the app is told but for assertions, with the access token and
// without it.
func (k *known) blocks(live *session.Live) (block, bare header.Block) {
	bare = k.gate.names.Block(k.render(k.gate.fields)...)
	if token, _ := k.gate.tokenField(live); token.Name != "" {
		return bare.With(token), bare
	}
	return bare, bare
}

// pack lays all texts down in one piece of memory, and the lists in another. As
// they were read they are a dozen: every collection of garbage would go over
// each, for as long as the session is at hand.
func (k *known) pack() {
	visitor := &k.visitor
	lists, groups := slices.Concat(visitor.Groups, visitor.Roles), len(visitor.Groups)
	texts := []*string{&visitor.UserID, &visitor.Email, &visitor.Provider, &k.name, &k.handle, &k.account}
	for i := range groups {
		texts = append(texts, &lists[i]) // a role's text is the config's
	}
	size := 0
	for _, text := range texts {
		size += len(*text)
	}
	var b strings.Builder
	b.Grow(size)
	for _, text := range texts {
		begin := b.Len()
		b.WriteString(*text)
		*text = b.String()[begin:]
	}
	visitor.Groups, visitor.Roles = lists[:groups:groups], lists[groups:]
}

// render fills in what lasts as long as the session.
func (k *known) render(fields []field) []header.Field {
	rendered := make([]header.Field, 0, len(fields))
	for _, f := range fields {
		rendered = append(rendered, header.Field{Name: f.name, Value: f.value(k)})
	}
	return rendered
}

// visitorOf is somebody as the rules and roles of a site see them.
func (g *Gate) visitorOf(live *session.Live) policy.Visitor {
	user := &live.Person.User
	visitor := policy.Visitor{
		UserID: string(user.ID), Email: string(user.Email),
		Provider: live.Provider, Groups: live.Person.Groups(),
	}
	visitor.Roles = g.roles.Of(&visitor)
	return visitor
}

func (k *known) lapsed() bool { return k.lapse != 0 && k.gate.now().UnixNano() >= k.lapse }

// headers are what the app is told now. Their error means that we cannot sign.
func (k *known) headers(v *visit) (header.Block, error) {
	a := k.said.Load()
	if k.gate.signs {
		var err error
		if a, err = k.assertion(v); err != nil {
			return header.Block{}, err
		}
	}
	if k.tokenUntil != 0 && k.gate.now().UnixNano() >= k.tokenUntil {
		return a.bare, nil
	}
	return a.block, nil
}

func (k *known) policyVisitor() *policy.Visitor {
	if k == nil {
		return nil
	}
	return &k.visitor
}

const placeholderPrefix = "http.auth.user."

// setPlaceholders offers {http.auth.user.*} to the rest of the Caddyfile. For
// the anonymous they are empty: an unset placeholder would be forwarded as it
// stands.
func (k *known) setPlaceholders(r *http.Request) {
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if k == nil {
		repl.Map(nobody)
		return
	}
	repl.Map(k.lookup)
}

func nobody(key string) (any, bool) {
	if !strings.HasPrefix(key, placeholderPrefix) {
		return nil, false
	}
	switch key[len(placeholderPrefix):] {
	case "id", "email", "name", "groups", "roles", "provider", "session":
		return "", true
	default:
		return nil, false
	}
}

// blank is nobody in particular: to try what words there are.
func blank() *known { return new(known) }

func (k *known) placeholder(key string) (any, bool) {
	if !strings.HasPrefix(key, placeholderPrefix) {
		return nil, false
	}
	return k.word(key[len(placeholderPrefix):])
}

// word is what `headers` and the placeholders know of somebody.
func (k *known) word(name string) (any, bool) {
	switch name {
	case "id":
		return k.visitor.UserID, true
	case "email":
		return k.visitor.Email, true
	case "name":
		return k.name, true
	case "groups":
		return header.List(k.visitor.Groups), true
	case "roles":
		return header.List(k.visitor.Roles), true
	case "provider":
		return k.visitor.Provider, true
	case "session":
		return k.handle, true
	default:
		return nil, false
	}
}

// isNavigation reports whether a person is waiting for a page (product.md
// section 4.5).
func isNavigation(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead || isWebSocket(r) {
		return false
	}
	if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "" {
		return mode == "navigate"
	}
	return strings.Contains(strings.ToLower(r.Header.Get("Accept")), "text/html") &&
		r.Header.Get("X-Requested-With") == ""
}

// isWebSocket recognises a handshake: RFC 6455, and RFC 8441 and 9220 over
// HTTP/2 and 3.
func isWebSocket(r *http.Request) bool {
	if r.Method == http.MethodConnect {
		return len(r.Header[":protocol"]) == 1 && r.Header[":protocol"][0] == "websocket" ||
			r.ProtoMajor == 3 && r.Proto == "websocket"
	}
	upgrade := r.Header["Upgrade"]
	return len(upgrade) > 0 && strings.EqualFold(upgrade[0], "websocket")
}

// isTunnel reports a CONNECT that asks for anything but a WebSocket: what goes
// through it we would not see.
func isTunnel(r *http.Request) bool {
	return r.Method == http.MethodConnect && !isWebSocket(r)
}

// isForeignSocket reports a WebSocket handshake that a page of another origin
// began: it would act with this visitor's session. Programs that are no
// browsers send no Origin.
func isForeignSocket(r *http.Request, v *visit) bool {
	if !isWebSocket(r) {
		return false
	}
	from := r.Header["Origin"]
	if len(from) == 0 {
		return false
	}
	return len(from) > 1 || !v.gate.isOwn(from[0], v)
}

// isOwn reports whether an Origin header names this site or one of the further
// origins the operator listed.
func (g *Gate) isOwn(from string, v *visit) bool {
	if from == v.origin.String() {
		return true
	}
	for _, o := range g.origins {
		if from == o.String() {
			return true
		}
	}
	return false
}

// servesPort reports whether the port that the browser names can be this site's:
// the default one, or the one that the connection came to. Another is a
// stranger's word, which a mail must not carry.
func (v *visit) servesPort(r *http.Request) bool {
	u := url.URL{Host: v.origin.hostPort}
	if len(v.gate.origins) > 0 || u.Port() == "" {
		return true
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return false
	}
	_, port, err := net.SplitHostPort(local.String())
	return err == nil && port == u.Port()
}

// requestID is the id that a page shows and the log has.
func requestID(r *http.Request) string {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return ""
	}
	id, _ := repl.GetString("http.request.uuid")
	return id
}

func clientIP(ctx context.Context) string {
	ip, _ := caddyhttp.GetVar(ctx, caddyhttp.ClientIPVarKey).(string)
	return ip
}
