package caddyfile

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"golang.org/x/net/http/httpguts"

	"github.com/caddy-login/caddy-login/module"
	"github.com/caddy-login/caddy-login/module/header"
	"github.com/caddy-login/caddy-login/module/policy"
)

// option is one word of the block, unless it is a provider's.
type option struct {
	// usage is its line, as errors show it.
	usage string
	// read reads the rest of the line, and its block.
	read func(*block) error
	// repeats is set where several lines add up.
	repeats bool
	// global is set where the word is for the global option alone.
	global bool
}

// options is the grammar: every word that a site and the global option know.
var options = map[string]option{
	"allow":           {usage: "allow [<matcher>] <who...>", read: (*block).allow, repeats: true},
	"cookie":          {usage: "cookie { ... } around lines name <name>, domain <domain>", read: (*block).cookie},
	"headers":         {usage: "headers <preset...>, or headers [<preset...>] { ... } around lines <header> <value>", read: (*block).headers},
	"mail":            {usage: "mail <mailer> [<args...>] { ... }", read: (*block).mail},
	"origin":          {usage: "origin <url...>", read: (*block).origin, repeats: true},
	"pages":           {usage: "pages <path>, or pages [<path>] { ... } around lines title <text>, accent <colour>, logo <file>, style <file>, templates <directory>, language <tag>, forbidden page|handle_errors", read: (*block).pages},
	"provider_logout": {usage: "provider_logout on|off", read: (*block).providerLogout},
	"role":            {usage: "role <name> <who...>", read: (*block).role, repeats: true},
	"session":         {usage: "session <lifetime> [idle <duration>]", read: (*block).session},
	"signing_key":     {usage: "signing_key <pem>, best as signing_key {file./path/signing.pem}", read: (*block).signingKey, global: true},
	"signup":          {usage: "signup on|off|invited", read: (*block).signup},
	"store":           {usage: "store <module> [<args...>] { ... }", read: (*block).openStore, global: true},
}

// block is one login under way: what the directive and the global option read
// alike.
type block struct {
	*caddyfile.Dispenser
	settings *module.Settings

	// matcher reads the next argument, and the matcher that it names, if any:
	// the contract of httpcaddyfile.Helper.MatcherToken.
	matcher func() (caddy.ModuleMap, bool, error)

	// store is where the global option puts its store; nil in a site.
	store *json.RawMessage
	// key is where it puts its signing key.
	key *string

	line      []caddyfile.Token          // the arguments after login
	providers []provider                 // those with a line of their own
	mentions  []mention                  // to be checked once all names are known
	seen      map[string]caddyfile.Token // options read, and where
	word      string                     // the option being read
	usage     string                     // and its line as it should be
}

// mention is one word of who, and where it stands.
type mention struct {
	who   string
	token caddyfile.Token
}

// read reads the arguments and the block of one login, cursor on `login`.
func (b *block) read() error {
	for _, token := range b.RemainingArgsAsTokens() {
		if token.Text == "*" || strings.HasPrefix(token.Text, "/") || strings.HasPrefix(token.Text, "@") {
			return at(token, "login takes no matcher, as it must see every request to strip forged headers: say inside who may pass where, such as 'allow %s users'", token.Text)
		}
		b.line = append(b.line, token)
	}
	b.seen = make(map[string]caddyfile.Token)
	for nesting := b.Nesting(); b.NextBlock(nesting); {
		if err := b.readLine(); err != nil {
			return err
		}
	}
	return nil
}

func (b *block) readLine() error {
	b.word = b.Val()
	option, ok := options[b.word]
	first, again := b.seen[b.word]
	switch {
	case !ok && slices.Contains(inBuild(providers), b.word):
		return b.readProvider()
	case !ok:
		return b.Errf("unknown option '%s' (providers in this build: %s; options: %s)", b.word, list(inBuild(providers)), list(b.words()))
	case option.global && b.store == nil:
		return b.Errf("%s belongs in the global option login, at the top of the Caddyfile: all sites share it", b.word)
	case again && !option.repeats:
		return b.Errf("second %s (the first: %s): write it once", b.word, place(first))
	}
	b.seen[b.word], b.usage = b.Token(), option.usage
	if err := option.read(b); err != nil {
		return err
	}
	if b.opensBlock() {
		return b.misused()
	}
	return nil
}

// words are the options that this block may use.
func (b *block) words() []string {
	var words []string
	for _, word := range slices.Sorted(maps.Keys(options)) {
		if !options[word].global || b.store != nil {
			words = append(words, word)
		}
	}
	return words
}

// args reads the rest of the line: least to most arguments. An empty one is
// what an unset variable leaves behind in quotes; it is never taken for a
// value.
func (b *block) args(least, most int) ([]string, error) {
	args := b.RemainingArgs()
	if len(args) < least || len(args) > most {
		return nil, b.misused()
	}
	if slices.Contains(args, "") {
		return nil, b.Errf("%s has an empty argument, perhaps from an unset variable: write %s", b.word, b.usage)
	}
	return args, nil
}

func (b *block) misused() error {
	return b.Errf("wrong use of %s: write %s", b.word, b.usage)
}

func (b *block) opensBlock() bool {
	if !b.Next() {
		return false
	}
	defer b.Prev()
	return b.Val() == "{"
}

func (b *block) allow() error {
	rule := new(module.Rule)
	if b.CountRemainingArgs() > 0 {
		match, matched, err := b.matcher()
		switch {
		case err != nil && strings.Contains(b.Val(), "."):
			return b.Errf("%w; everybody at a domain is '*%s'", err, b.Val())
		case err != nil:
			return b.WrapErr(err)
		case !matched:
			b.Prev()
		case match != nil:
			rule.MatcherSetsRaw = caddyhttp.RawMatcherSets{match}
		}
	}
	who, err := b.who()
	if err != nil {
		return err
	}
	rule.Who = who
	b.settings.Allow = append(b.settings.Allow, rule)
	return nil
}

func (b *block) role() error {
	var name string
	if !b.Args(&name) || name == "" {
		return b.misused()
	}
	if _, err := policy.NewRoles([]policy.RoleDef{{Name: name, Who: []policy.Who{{Kind: policy.Users}}}}); err != nil {
		return b.WrapErr(err)
	}
	if slices.Contains(roleNames(b.settings.Roles), name) {
		return b.Errf("second role '%s': put all of its people on one line", name)
	}
	who, err := b.who()
	if err != nil {
		return err
	}
	if slices.Contains(who, "anyone") {
		return b.Errf("role '%s' cannot hold anyone: nobody unknown has a role; use users for everybody who can sign in", name)
	}
	b.settings.Roles = append(b.settings.Roles, module.Role{Name: name, Who: who})
	return nil
}

// who reads the rest of the line as people.
func (b *block) who() ([]string, error) {
	words := b.RemainingArgs()
	if len(words) == 0 || slices.Contains(words, "") {
		return nil, b.Errf("%s lacks a name, perhaps through an unset variable, and empty is never any: add who, such as users, *@example.com or role:<name>", b.word)
	}
	for _, word := range words {
		if !isLiteral(word) {
			continue
		}
		if _, err := policy.Parse(word); err != nil {
			return nil, b.WrapErr(err)
		}
	}
	b.mention(b.Token(), words)
	return words, nil
}

func (b *block) mention(token caddyfile.Token, words []string) {
	for _, word := range words {
		if isLiteral(word) {
			b.mentions = append(b.mentions, mention{word, token})
		}
	}
}

// checkRoles refuses roles that hold themselves, or one that is not there.
// What a placeholder stands for is known, and checked, at provision.
func checkRoles(start caddyfile.Token, roles []module.Role) error {
	var defs []policy.RoleDef
	for _, role := range roles {
		def := policy.RoleDef{Name: role.Name}
		for _, word := range role.Who {
			who, err := policy.Parse(word)
			if err != nil {
				who = policy.Who{Kind: policy.Users}
			}
			def.Who = append(def.Who, who)
		}
		defs = append(defs, def)
	}
	if _, err := policy.NewRoles(defs); err != nil {
		return at(start, "%w", err)
	}
	return nil
}

// checkNames refuses words of who that name none of the given roles and
// providers: a rule with a typing error admits nobody, and says so only to
// the visitors it was meant for.
func (b *block) checkNames(roles, offered []string) error {
	for _, m := range b.mentions {
		kind, name, _ := strings.Cut(m.who, ":")
		switch kind {
		case "role":
			if !slices.Contains(roles, name) {
				return at(m.token, "unknown role '%s' in '%s' (roles: %s)", name, m.who, list(roles))
			}
		case "provider":
			if !slices.Contains(offered, name) {
				return at(m.token, "unknown provider '%s' in '%s' (offered here: %s)", name, m.who, list(offered))
			}
		default: // every other word is complete in itself
		}
	}
	return nil
}

func (b *block) session() error {
	args, err := b.args(1, 3)
	if err != nil {
		return err
	}
	if len(args) == 2 || len(args) == 3 && args[1] != "idle" {
		return b.misused()
	}
	session := &b.settings.Session
	if session.Lifetime, err = b.duration(args[0]); err != nil {
		return err
	}
	if len(args) == 3 {
		if session.Idle, err = b.duration(args[2]); err != nil {
			return err
		}
	}
	return b.wrap(module.CheckSession(*session))
}

// wrap adds the line that was read last to an error of module's checks.
func (b *block) wrap(err error) error {
	if err == nil {
		return nil
	}
	return b.WrapErr(err)
}

func (b *block) duration(s string) (caddy.Duration, error) {
	d, err := caddy.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, b.Errf("%s: '%s' is no duration: write it as 30d, 12h or 90m", b.word, s)
	}
	return caddy.Duration(d), nil
}

func (b *block) cookie() error {
	if _, err := b.args(0, 0); err != nil {
		return err
	}
	if !b.opensBlock() {
		return b.misused()
	}
	cookie := &b.settings.Cookie
	err := b.fields(map[string]field{
		"name":   {value: &cookie.Name},
		"domain": {value: &cookie.Domain},
	})
	if err != nil {
		return err
	}
	return b.wrap(module.CheckCookie(*cookie))
}

func (b *block) pages() error {
	args, err := b.args(0, 1)
	if err != nil {
		return err
	}
	if len(args) == 0 && !b.opensBlock() {
		return b.misused()
	}
	pages := &b.settings.Pages
	if len(args) == 1 {
		pages.Path = args[0]
	}
	if err := b.wrap(module.CheckPages(*pages)); err != nil {
		return err
	}
	return b.fields(map[string]field{
		"title":     {value: &pages.Title},
		"accent":    {value: &pages.Accent},
		"logo":      {value: &pages.Logo},
		"style":     {value: &pages.Style},
		"templates": {value: &pages.Templates},
		"language":  {value: &pages.Language},
		"forbidden": {value: &pages.Forbidden, choice: []string{"page", "handle_errors"}},
	})
}

// field is a word with one value, one of choice where that is not empty.
type field struct {
	value  *string
	choice []string
}

// fields reads a block of such words, none twice.
func (b *block) fields(fields map[string]field) error {
	for nesting := b.Nesting(); b.NextBlock(nesting); {
		word := b.Val()
		field, ok := fields[word]
		switch {
		case !ok:
			return b.Errf("unknown option '%s' of %s (options: %s)", word, b.word, list(slices.Sorted(maps.Keys(fields))))
		case *field.value != "":
			return b.Errf("second %s of %s: write it once", word, b.word)
		case !b.AllArgs(field.value) || *field.value == "" || b.opensBlock():
			return b.Errf("%s of %s needs one value", word, b.word)
		case len(field.choice) > 0 && !slices.Contains(field.choice, *field.value):
			return b.Errf("unknown %s '%s' of %s (choose %s)", word, *field.value, b.word, list(field.choice))
		}
	}
	return nil
}

func (b *block) signup() error {
	return b.choice(&b.settings.Signup, "on", "off", "invited")
}

func (b *block) providerLogout() error { return b.choice(&b.settings.ProviderLogout, "on", "off") }

// choice reads the line's one argument, which must be one of words.
func (b *block) choice(to *string, words ...string) error {
	args, err := b.args(1, 1)
	if err != nil {
		return err
	}
	if !slices.Contains(words, args[0]) {
		return b.Errf("unknown %s '%s' (choose %s)", b.word, args[0], list(words))
	}
	*to = args[0]
	return nil
}

func (b *block) origin() error {
	urls, err := b.args(1, math.MaxInt)
	if err != nil {
		return err
	}
	for _, url := range urls {
		if !isLiteral(url) {
			continue
		}
		if err := module.CheckOrigin(url); err != nil {
			return b.WrapErr(err)
		}
	}
	b.settings.Origins = append(b.settings.Origins, urls...)
	return nil
}

func (b *block) headers() error {
	chosen, err := b.args(0, math.MaxInt)
	if err != nil {
		return err
	}
	if len(chosen) == 0 && !b.opensBlock() {
		return b.misused()
	}
	for i, name := range chosen {
		if known := module.PresetNames(); !slices.Contains(known, name) {
			return b.Errf("unknown headers preset '%s' (presets in this build: %s)", name, list(known))
		}
		if slices.Contains(chosen[:i], name) {
			return b.Errf("headers preset '%s' stands twice: write it once", name)
		}
	}
	b.settings.Headers = &module.Headers{Presets: chosen}
	for nesting := b.Nesting(); b.NextBlock(nesting); {
		if err := b.header(); err != nil {
			return err
		}
	}
	return b.wrap(module.CheckHeaders(b.settings.Headers))
}

// header reads one line `<header> <value>`.
func (b *block) header() error {
	var value string
	name := b.Val()
	if _, err := header.NewGuard(name); err != nil {
		return b.WrapErr(err)
	}
	if !b.AllArgs(&value) || value == "" || b.opensBlock() {
		return b.Errf("headers: %s needs one value, such as '%s {email}'; quote one with spaces", name, name)
	}
	if !httpguts.ValidHeaderFieldValue(value) {
		return b.Errf("headers: the value of %s holds a control character or a line break", name)
	}
	set := b.settings.Headers.Set
	for other := range set {
		if strings.EqualFold(other, name) {
			return b.Errf("headers: second %s: write it once", name)
		}
	}
	if set == nil {
		set = make(map[string]string)
	}
	set[name] = value
	b.settings.Headers.Set = set
	return nil
}

func (b *block) mail() (err error) {
	b.settings.MailRaw, err = b.guest(mailers, "mailer")
	return err
}

func (b *block) openStore() (err error) {
	*b.store, err = b.guest(stores, "store")
	return err
}

// signingKey reads a key that is written out, and leaves one in a placeholder to
// those who may look into files.
func (b *block) signingKey() error {
	args, err := b.args(1, 1)
	if err != nil {
		return err
	}
	if isLiteral(args[0]) {
		if err := module.CheckSigningKey(args[0]); err != nil {
			return b.WrapErr(err)
		}
	}
	*b.key = args[0]
	return nil
}

func roleNames(roles []module.Role) []string {
	var names []string
	for _, role := range roles {
		names = append(names, role.Name)
	}
	return names
}

// isLiteral reports whether s is final at adapt time: a value with a
// placeholder is checked when it is known, at provision.
func isLiteral(s string) bool { return !strings.Contains(s, "{") }

func list(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}

func place(token caddyfile.Token) string { return fmt.Sprintf("%s:%d", token.File, token.Line) }

// at is an error about a token read earlier, with its file, line and imports.
func at(token caddyfile.Token, format string, args ...any) error {
	return dispenserOf(token).WrapErr(fmt.Errorf(format, args...))
}

func dispenserOf(token caddyfile.Token) *caddyfile.Dispenser {
	d := caddyfile.NewDispenser([]caddyfile.Token{token})
	d.Next()
	return d
}
