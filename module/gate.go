package module

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/header"
	"github.com/caddy-login/caddy-login/module/page"
	"github.com/caddy-login/caddy-login/module/policy"
)

func init() { caddy.RegisterModule(Gate{}) }

// Gate is the HTTP handler "login": it stands in front of one site.
type Gate struct {
	// What this site says for itself.
	Settings

	// Names of the providers to offer here, in this order: this site's own and
	// the app's. With neither these nor providers of its own a site offers all
	// of the app's.
	Use []string `json:"use,omitempty"`

	// Providers of this site alone, offered after those of `use` unless named
	// there: modules in the namespace login.providers.
	ProvidersRaw []json.RawMessage `json:"providers,omitempty" caddy:"namespace=login.providers inline_key=provider"`

	app       *App
	at        position
	log       *zap.Logger
	settings  Settings // the site's over the app's, with defaults
	providers []guest.Method
	guard     *header.Guard
	rules     []*Rule
	byPath    bool // the rules look at nothing else
	defs      []policy.RoleDef
	roles     *policy.Roles
	fields    []field
	signs     bool // one of them is an assertion
	// checkFields are for another proxy alone.
	checkFields []field
	written     []string // the names of all headers that we write
	names       *header.Names
	// codes is the way in by mail; nil: there is none.
	codes   guest.CodeSender
	origins []origin
	met     *met
	cookies [2]cookies // on http on loopback, elsewhere
	portal  *portal
	now     func() time.Time
}

// CaddyModule returns the module's name in Caddy.
func (Gate) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.login", New: func() caddy.Module { return new(Gate) }}
}

// Provision merges what the site says with what the app says for all, and
// refuses what would be open, or broken, by accident. It touches neither disk
// nor network.
func (g *Gate) Provision(ctx caddy.Context) error {
	g.log, g.now = ctx.Logger(), time.Now
	// Our own guests first: Caddy appends to the ancestry that the app's
	// context shares with ours, and events would be told to come from a guest.
	if err := g.Settings.provision(ctx); err != nil {
		return err
	}
	own, err := loadProviders(ctx, g, len(g.ProvidersRaw))
	if err != nil {
		return err
	}
	app, err := ctx.App("login")
	if err != nil {
		return fmt.Errorf("loading login app: %w", err)
	}
	g.app = app.(*App)
	if err := g.chooseProviders(own); err != nil {
		return err
	}
	g.settings = g.Settings.over(g.app.Settings)
	g.settings.setDefaults()
	if err := g.settings.check(); err != nil {
		return err
	}
	return g.build(ctx)
}

func (g *Gate) build(ctx caddy.Context) (err error) {
	s := &g.settings
	if g.fields, err = s.Headers.fields(); err != nil {
		return err
	}
	g.signs = slices.ContainsFunc(g.fields, func(f field) bool { return f.kind == signed })
	if g.checkFields, err = s.Headers.checkFields(); err != nil {
		return err
	}
	g.warnOfDebug()
	forwarded, err := g.checkTokens()
	if err != nil {
		return err
	}
	g.written = append(names(g.fields), forwarded...)
	if g.guard, err = header.NewGuard(g.written...); err != nil {
		return err
	}
	g.names = header.NewNames(append(names(g.checkFields), g.written...)...)
	if g.defs, err = parseRoles(s.Roles); err != nil {
		return err
	}
	if g.roles, err = policy.NewRoles(g.defs); err != nil {
		return err
	}
	if err := errors.Join(g.checkWords(), g.checkProviders(), g.chooseCodes()); err != nil {
		return err
	}
	g.rules, g.byPath = s.Allow, lookAtPaths(s.Allow)
	g.origins, g.met = parseOrigins(s.Origins), new(met)
	g.cookies = [2]cookies{newCookies(s.Cookie, false), newCookies(s.Cookie, true)}
	pages, err := s.Pages.open()
	if err != nil {
		return err
	}
	g.portal = &portal{gate: g, pages: pages, base: s.Pages.Path, logs: newAccessLog(ctx)}
	guardErrors(ctx)
	return g.app.settle(g, positionOf(ctx))
}

// chooseProviders finds what this site offers: the names it uses, then its
// own; with neither, all of the app's.
func (g *Gate) chooseProviders(own []guest.Method) error {
	for _, name := range g.Use {
		provider := cmp.Or(named(own, name), named(g.app.providers, name))
		if provider == nil {
			return fmt.Errorf("unknown provider %q (configured globally: %s)", name, strings.Join(providerNames(g.app.providers), ", "))
		}
		g.providers = append(g.providers, provider)
	}
	for _, provider := range own {
		if !slices.Contains(g.Use, provider.Traits().Name) {
			g.providers = append(g.providers, provider)
		}
	}
	if len(g.providers) == 0 {
		g.providers = g.app.providers
	}
	if len(g.providers) == 0 {
		return errors.New("no provider: say how visitors sign in, such as 'login google', here or in the global option")
	}
	return distinct(g.providers)
}

func named(providers []guest.Method, name string) guest.Method {
	for _, p := range providers {
		if p.Traits().Name == name {
			return p
		}
	}
	return nil
}

func providerNames(providers []guest.Method) (names []string) {
	for _, p := range providers {
		names = append(names, p.Traits().Name)
	}
	return names
}

// checkWords finds rules that could never fit: a role or a provider that does
// not exist is a spelling mistake, and a mistake here shuts out or lets in.
func (g *Gate) checkWords() error {
	for _, rule := range g.settings.Allow {
		for _, who := range rule.who {
			switch {
			case who.Kind == policy.Role && !slices.ContainsFunc(g.settings.Roles, func(r Role) bool { return r.Name == who.Value }):
				return fmt.Errorf("allow role:%s: no such role; define it with 'role %s <who...>'", who.Value, who.Value)
			case who.Kind == policy.Provider && !slices.Contains(providerNames(g.providers), who.Value):
				return fmt.Errorf("allow provider:%s: this site offers %s", who.Value, strings.Join(providerNames(g.providers), ", "))
			}
		}
	}
	return checkSubjects(g.fields, providerNames(g.providers))
}

// checkProviders refuses providers whose addresses are to be proven by a mail
// that nobody can send, or must not decide who may pass where rules go by
// addresses.
func (g *Gate) checkProviders() error {
	byAddress := g.addressRule()
	for _, p := range g.providers {
		switch t := p.Traits(); {
		case t.Email.Verify == guest.VerifyOn && t.Email.Identifier && g.settings.post == nil:
			return fmt.Errorf("provider %s: verify_email needs mail: configure 'mail …', or leave verify_email out", t.Name)
		case t.Email.Doubt != "" && byAddress != "":
			return fmt.Errorf("provider %s: '%s' goes by addresses, and %s", t.Name, byAddress, t.Email.Doubt)
		}
	}
	return nil
}

// chooseCodes finds the way in by mail, and refuses one that could not send any.
func (g *Gate) chooseCodes() error {
	for _, p := range g.providers {
		codes, ok := p.(guest.CodeSender)
		switch {
		case !ok:
			continue
		case g.codes != nil:
			return fmt.Errorf("providers %s and %s both send codes by mail: keep one", g.codes.Traits().Name, p.Traits().Name)
		case g.settings.post == nil:
			return fmt.Errorf("provider %s needs a mail server: write 'mail smtp <host:port> [<user> <password>]' beside it, or globally", p.Traits().Name)
		}
		g.codes = codes
	}
	return nil
}

// addressRule is the first rule or role that names an address or a domain, as
// it is written, or empty.
func (g *Gate) addressRule() string {
	for _, rule := range g.settings.Allow {
		if i := slices.IndexFunc(rule.who, isAddress); i >= 0 {
			return "allow " + rule.who[i].String()
		}
	}
	for _, role := range g.defs {
		if i := slices.IndexFunc(role.Who, isAddress); i >= 0 {
			return "role " + role.Name + " " + role.Who[i].String()
		}
	}
	return ""
}

func isAddress(w policy.Who) bool { return w.Kind == policy.Address || w.Kind == policy.Domain }

// Validate refuses a site whose sessions could never come back.
func (g *Gate) Validate() error {
	for _, o := range g.origins[:min(1, len(g.origins))] {
		if domain := g.settings.Cookie.Domain; domain != "" && !within(o.host, domain) {
			return fmt.Errorf("cookie domain %s does not cover the origin %s: browsers would drop every session", domain, o)
		}
	}
	return nil
}

// Cleanup lets go of this site's own mailer.
func (g *Gate) Cleanup() error {
	if g.Settings.post != nil {
		g.Settings.post.close()
	}
	return nil
}

// ServeHTTP is one request, read straight down. Nothing that fails here ever
// goes on to the app.
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	owned := g.portal.owns(r)
	if owned && g.portal.isCheck(r) {
		return g.check(w, r)
	}
	g.guard.Strip(r) // before all that goes on: nothing forged does
	v := g.visit(r)
	if owned {
		return g.portal.ServeHTTP(w, r, v)
	}
	verdict, why := g.judge(r, v)
	if why != nil {
		return g.refuse(w, r, *why)
	}
	known := v.known(g)
	known.setPlaceholders(r)
	switch verdict {
	case policy.Allow:
		requests.allowed.Inc()
		return g.pass(w, r, v, known, next)
	case policy.SignIn:
		return g.portal.ask(w, r, v)
	default:
		return g.deny(w, r, v)
	}
}

// judge finds out who it is and whether they may pass, or why nobody may.
func (g *Gate) judge(r *http.Request, v *visit) (policy.Verdict, *refusal) {
	if isTunnel(r) {
		return policy.Deny, &tunnel
	}
	if isForeignSocket(r, v) {
		return policy.Deny, &foreignSocket
	}
	rules, err := g.ruleFor(r) // who may pass here?
	if err != nil {
		return policy.Deny, failed(http.StatusInternalServerError, fmt.Errorf("matching rules: %w", err))
	}
	switch err := v.identify(r); {
	case errors.Is(err, errBadToken):
		return policy.Deny, &badToken
	case err != nil && !rules.isPublic():
		return policy.Deny, failed(http.StatusServiceUnavailable, fmt.Errorf("reading session: %w", err))
	}
	return rules.verdict(v.known(g).policyVisitor()), nil
}

func failed(status int, err error) *refusal {
	why := broken(status, err)
	return &why
}

// pass sends the request on with the headers of who it is, and keeps the
// answer's hands off our cookies. A stream ends with its session.
func (g *Gate) pass(w http.ResponseWriter, r *http.Request, v *visit, known *known, next caddyhttp.Handler) error {
	a := &v.answer
	a.ResponseWriter, a.jar = w, v.jar
	defer a.finish()
	if known == nil {
		return next.ServeHTTP(a, r)
	}
	block, err := known.headers(v)
	if err != nil {
		return g.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	block.Set(r.Header, v.scratch[:0])
	a.held, a.sessions = v.hand, v.house.sessions
	if isStream(r) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		r = r.WithContext(ctx)
		a.watch(ctx, cancel)
	}
	return next.ServeHTTP(a, r)
}

// deny tells somebody signed in that they may not pass.
func (g *Gate) deny(w http.ResponseWriter, r *http.Request, v *visit) error {
	requests.denied.Inc()
	if g.settings.Pages.Forbidden == "handle_errors" {
		return caddyhttp.Error(http.StatusForbidden, errNotAdmitted)
	}
	refuseBody(w, r)
	if !isNavigation(r) {
		page.WriteProblem(w, notAdmitted(r))
		return nil
	}
	g.portal.pages.NotAdmitted(w, r, page.NotAdmitted{
		Account: account(v.live()), Return: returnAddress(r, g.settings.Pages.Path), RequestID: requestID(r),
	})
	return nil
}

func notAdmitted(r *http.Request) page.Problem {
	return page.Problem{
		Status: http.StatusForbidden, Code: "not_admitted", Title: "Not admitted",
		Detail: "This account may not use this site.", RequestID: requestID(r),
	}
}

var errNotAdmitted = errors.New("this account may not use this site")

// refusal is why a request ends here although nobody asked who it is from.
type refusal struct {
	status              int
	code, title, detail string
	challenge           string // WWW-Authenticate, where it is not the usual one
	err                 error
}

var foreignSocket = refusal{
	status: http.StatusForbidden, code: "foreign_origin", title: "Foreign origin",
	detail: "WebSockets may be opened only from this site's own pages.",
}

var tunnel = refusal{
	status: http.StatusMethodNotAllowed, code: "method_not_allowed", title: "No tunnels",
	detail: "CONNECT is for WebSockets only.",
}

func broken(status int, err error) refusal {
	return refusal{
		status: status, code: "unavailable", title: "Sign-in is not available",
		detail: "Please try again in a moment.", err: err,
	}
}

// refuse answers for the app. What failed of ours is logged here.
func (g *Gate) refuse(w http.ResponseWriter, r *http.Request, why refusal) error {
	requests.failed.Inc()
	id := requestID(r)
	g.tell(w, r, why)
	refuseBody(w, r)
	if why.err != nil && isNavigation(r) && !g.portal.isAPI(r) {
		g.portal.pages.Trouble(w, r, page.Trouble{Kind: page.Unavailable, Retry: returnAddress(r, g.settings.Pages.Path), RequestID: id})
		return nil
	}
	page.WriteProblem(why.on(w), page.Problem{Status: why.status, Code: why.code, Title: why.title, Detail: why.detail, RequestID: id})
	return nil
}

// tell tells the log what failed of ours, and the client when to come again.
func (g *Gate) tell(w http.ResponseWriter, r *http.Request, why refusal) {
	// A broken store is told now and then, not once for each request.
	if why.err != nil && g.app.mayTell(r) {
		g.app.complain(why.err, requestID(r))
	}
	if why.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "5")
	}
}

// refuseBody closes the connection of a request whose body nobody will read:
// else the server would read it all, before or after it answers (RFC 9110
// section 10.1.1 for Expect: 100-continue).
func refuseBody(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 1 || r.ContentLength == 0 {
		return
	}
	w.Header().Set("Connection", "close")
	// Where it can't be set, the server's own patience ends the reading.
	_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
}

// Interface guards
var (
	_ caddy.Module                = (*Gate)(nil)
	_ caddy.Provisioner           = (*Gate)(nil)
	_ caddy.Validator             = (*Gate)(nil)
	_ caddy.CleanerUpper          = (*Gate)(nil)
	_ caddyhttp.MiddlewareHandler = (*Gate)(nil)
)
