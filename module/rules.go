package module

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/policy"
)

// provision loads the rules' matchers and reads the words that may be
// placeholders.
func (s *Settings) provision(ctx caddy.Context) error {
	for _, rule := range s.Allow {
		if rule == nil {
			return errors.New("allow: null is no rule: say who may pass")
		}
		if err := rule.provision(ctx); err != nil {
			return err
		}
	}
	if err := s.loadMailer(ctx); err != nil {
		return err
	}
	repl := caddy.NewReplacer()
	for i, origin := range s.Origins {
		plain, err := repl.ReplaceOrErr(origin, true, true)
		if err != nil {
			return fmt.Errorf("origin %q: %w", origin, err)
		}
		s.Origins[i] = plain
	}
	return nil
}

// loadMailer opens what `mail` names.
func (s *Settings) loadMailer(ctx caddy.Context) error {
	if s.MailRaw == nil {
		return nil
	}
	loaded, err := ctx.LoadModule(s, "MailRaw")
	if err != nil {
		return fmt.Errorf("loading mailer: %w", err)
	}
	mailer, ok := loaded.(guest.Mailer)
	if !ok {
		return fmt.Errorf("loading mailer: %T is no mailer", loaded)
	}
	if err := mailer.Open(envOf(ctx)); err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	s.post = &post{mailer: mailer, log: slog.New(caddySlog{})}
	return nil
}

func (rule *Rule) provision(ctx caddy.Context) (err error) {
	if rule.who, err = parseWho(rule.Who); err != nil {
		return fmt.Errorf("allow: %w", err)
	}
	for _, who := range rule.who {
		rule.public = rule.public || who.Kind == policy.Anyone
	}
	if len(rule.MatcherSetsRaw) == 0 {
		return nil
	}
	if err := checkFilled(rule.MatcherSetsRaw); err != nil {
		return fmt.Errorf("matcher of allow: %w: set it, else the rule is for other requests than it says", err)
	}
	loaded, err := ctx.LoadModule(rule, "MatcherSetsRaw")
	if err != nil {
		return fmt.Errorf("loading matchers of allow: %w", err)
	}
	return rule.matchers.FromInterface(loaded)
}

// checkFilled refuses a matcher with a placeholder that stands for nothing, such
// as an unset variable: a path that begins with one would be every path, and a
// header that must equal one is any that is empty. What only a request fills in
// is left alone.
func checkFilled(sets caddyhttp.RawMatcherSets) error {
	raw, err := json.Marshal(sets)
	if err != nil {
		return fmt.Errorf("reading it: %w", err)
	}
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		return fmt.Errorf("reading it: %w", err)
	}
	return filled(caddy.NewReplacer(), value)
}

func filled(repl *caddy.Replacer, value any) (err error) {
	switch v := value.(type) {
	case string:
		_, err = repl.ReplaceOrErr(v, true, false)
	case []any:
		for _, item := range v {
			err = cmp.Or(err, filled(repl, item))
		}
	case map[string]any:
		for name, item := range v {
			err = cmp.Or(err, filled(repl, name), filled(repl, item))
		}
	}
	return err
}

func parseRoles(roles []Role) ([]policy.RoleDef, error) {
	defs := make([]policy.RoleDef, 0, len(roles))
	for _, role := range roles {
		who, err := parseWho(role.Who)
		if err != nil {
			return nil, fmt.Errorf("role %s: %w", role.Name, err)
		}
		defs = append(defs, policy.RoleDef{Name: role.Name, Who: who})
	}
	return defs, nil
}

// parseWho reads the words of a rule or role. Placeholders such as {env.STAFF}
// stand for one word; one that is unset would be an empty word, and that is an
// error, never "any".
func parseWho(words []string) ([]policy.Who, error) {
	repl := caddy.NewReplacer()
	var who []policy.Who
	for _, word := range words {
		plain, err := repl.ReplaceOrErr(word, true, true)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", word, err)
		}
		one, err := policy.Parse(strings.TrimSpace(plain))
		if err != nil {
			return nil, err
		}
		who = append(who, one)
	}
	return who, nil
}

// signInFirst is the rule where no rule fits: sign in, and then be refused.
var signInFirst = &Rule{}

// ruling is the rules that decide a request. Almost always it is one.
type ruling struct {
	rule *Rule
	// further rules decide, too, where the path can be read in another way:
	// all must let the visitor pass.
	further []*Rule
}

// isPublic reports whether nobody needs to be known.
func (d ruling) isPublic() bool {
	return d.rule.public && !slices.ContainsFunc(d.further, func(rule *Rule) bool { return !rule.public })
}

// verdict is the strictest of the rules'.
func (d ruling) verdict(visitor *policy.Visitor) policy.Verdict {
	verdict := policy.Decide(d.rule.who, visitor)
	for _, rule := range d.further {
		verdict = min(verdict, policy.Decide(rule.who, visitor))
	}
	return verdict
}

// ruleFor finds the first rule that fits the request, by the path as it was
// given to us.
//
// A path that an app could read as another one falls under no public rule; and
// where another reading of it falls under another rule, that one decides, too:
// `/admin;x` is `/admin` to some. So does the address as it was before a
// rewrite, where a rule with a matcher fits it: FastCGI apps are told that one
// as well; and what an app could take the request for by more than its path.
func (g *Gate) ruleFor(r *http.Request) (ruling, error) {
	if len(g.rules) == 1 && g.rules[0].matchers == nil && !g.rules[0].public {
		return ruling{rule: g.rules[0]}, nil
	}
	decided, err := g.ruleByPath(r)
	if err != nil {
		return ruling{}, err
	}
	forms, complete := policy.Forms(r, g.byPath)
	if !complete {
		decided.further = append(decided.further, signInFirst)
		return decided, nil
	}
	for _, form := range forms {
		also, err := g.ruleByPath(preparedAgain(r, form))
		if err != nil {
			return ruling{}, err
		}
		decided.further = append(append(decided.further, also.rule), also.further...)
	}
	return decided, nil
}

// lookAtPaths reports whether rules look at nothing of a request but its path.
func lookAtPaths(rules []*Rule) bool {
	return !slices.ContainsFunc(rules, func(rule *Rule) bool {
		return slices.ContainsFunc(rule.matchers, func(set caddyhttp.MatcherSet) bool {
			return slices.ContainsFunc(set, looksFurther)
		})
	})
}

func looksFurther(matcher any) bool {
	switch matcher.(type) {
	case *caddyhttp.MatchPath, *caddyhttp.MatchPathRE:
		return false
	default:
		return true
	}
}

// ruleByPath is ruleFor of what the request is but for its path.
func (g *Gate) ruleByPath(r *http.Request) (ruling, error) {
	plain := policy.Unambiguous(r.URL) && policy.Unambiguous(original(r))
	rule, err := g.firstFit(r, plain)
	if err != nil || plain && original(r).Path == r.URL.Path && policy.Composed(r.URL.Path) {
		return ruling{rule: rule}, err
	}
	further, err := g.otherReadings(r, plain)
	return ruling{rule: rule, further: further}, err
}

func (g *Gate) firstFit(r *http.Request, publicToo bool) (*Rule, error) {
	for _, rule := range g.rules {
		if rule.public && !publicToo {
			continue
		}
		fits, err := rule.fits(r)
		if err != nil {
			return nil, err
		}
		if fits {
			return rule, nil
		}
	}
	return signInFirst, nil
}

// otherReadings are the rules of every way in which an app could read the
// path. Where it may lead anywhere, those pass who may go everywhere.
func (g *Gate) otherReadings(r *http.Request, publicToo bool) ([]*Rule, error) {
	var rules []*Rule
	for _, u := range []*url.URL{r.URL, original(r)} {
		paths, complete := policy.Readings(u)
		if !complete {
			return g.everywhere(), nil
		}
		// The first of them is the path itself: as it was before a rewrite.
		for _, path := range append([]string{u.Path}, paths...) {
			rule, err := g.firstFit(readAs(r, path), publicToo)
			if err != nil {
				return nil, err
			}
			// Rules are written for the path that we are given. One that was
			// there before adds to them where a rule names it, and not where
			// none does.
			if u.Path == r.URL.Path || rule.matchers != nil {
				rules = append(rules, rule)
			}
		}
	}
	return rules, nil
}

// everywhere is all rules, and the one for where none fits.
func (g *Gate) everywhere() []*Rule {
	if last := len(g.rules) - 1; last >= 0 && g.rules[last].matchers == nil {
		return g.rules
	}
	return append(slices.Clone(g.rules), signInFirst)
}

// readAs is the request with another path, for matchers to look at. Their
// placeholders stand for it, too; what earlier handlers set stays.
func readAs(r *http.Request, path string) *http.Request {
	read := *r
	read.URL = &url.URL{Path: path, RawQuery: r.URL.RawQuery}
	return preparedAgain(r, &read)
}

// preparedAgain is another request in place of r, as Caddy gives it to matchers:
// what earlier handlers set for r stays.
func preparedAgain(r, other *http.Request) *http.Request {
	ctx := r.Context()
	server, _ := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	repl := caddy.NewReplacer()
	prepared := caddyhttp.PrepareRequest(other, repl, nil, server)
	if was, ok := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Map(was.Get)
	}
	vars, _ := ctx.Value(caddyhttp.VarsCtxKey).(map[string]any)
	maps.Copy(prepared.Context().Value(caddyhttp.VarsCtxKey).(map[string]any), vars)
	return prepared
}

func (rule *Rule) fits(r *http.Request) (bool, error) {
	if rule.matchers == nil {
		return true, nil
	}
	fits, err := rule.matchers.AnyMatchWithError(r)
	if err != nil {
		return false, fmt.Errorf("matching: %w", err)
	}
	return fits, nil
}
