package provider

import (
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-login/caddy-login/module/guest"
)

// Part is a group of settings that reads its own words of a Caddyfile block.
type Part interface {
	// Consume reads the option whose word is the current token, and reports
	// whether it is one of its own.
	Consume(*caddyfile.Dispenser) (bool, error)

	// Words are the options that Consume knows.
	Words() []string
}

// Consume reads one option that every provider has; see Part.
func (o *Options) Consume(d *caddyfile.Dispenser) (bool, error) {
	switch d.Val() {
	case "name":
		return true, Checked(d, &o.Name, guest.CheckName)
	case "client_id":
		return true, Text(d, &o.ClientID)
	case "client_secret":
		return true, Text(d, &o.ClientSecret)
	case "scopes":
		return true, Texts(d, &o.Scopes)
	case "label":
		return true, Text(d, &o.Label)
	case "email_trust":
		return true, Choice(d, &o.EmailTrust, trusts...)
	case "use_email_as_identifier":
		return true, Switch(d, &o.UseEmailAsIdentifier)
	case "allow_email_account_merge":
		return true, o.settle(d, Switch(d, &o.AllowEmailAccountMerge))
	case "verify_email":
		return true, Switch(d, &o.VerifyEmail)
	case "merge_confirmation":
		return true, Choice(d, &o.MergeConfirmation, confirmations...)
	case "on_unverified_collision":
		return true, o.settle(d, Choice(d, &o.OnUnverifiedCollision, collisions...))
	case "groups":
		return true, Text(d, &o.Groups)
	case "authoritative_domains":
		return true, CheckedTexts(d, &o.AuthoritativeDomains, func(names []string) error {
			_, err := Domains("authoritative_domains", names)
			return err
		})
	case "tokens":
		return true, o.readTokens(d)
	case "revalidate":
		return true, o.readRevalidate(d)
	case "provider_logout":
		return true, Switch(d, &o.ProviderLogout)
	case "native_client_ids":
		return true, Texts(d, &o.NativeClientIDs)
	default:
		return false, nil
	}
}

// Words lists the options that every provider has.
func (*Options) Words() []string {
	return []string{
		"name", "client_id", "client_secret", "scopes", "label", "email_trust", "use_email_as_identifier",
		"allow_email_account_merge", "verify_email", "merge_confirmation", "on_unverified_collision", "groups", "authoritative_domains",
		"native_client_ids", "tokens", "revalidate", "provider_logout",
	}
}

// settle looks, once a line about merging was read, whether it contradicts
// another one.
func (o *Options) settle(d *caddyfile.Dispenser, err error) error {
	if err == nil {
		if contradiction := o.checkCollision(); contradiction != nil {
			return d.WrapErr(contradiction)
		}
	}
	return err
}

// readTokens reads: tokens keep, or tokens forward [<header>].
func (o *Options) readTokens(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	switch {
	case o.Tokens != "":
		return d.Err("tokens is given twice: write it once")
	case len(args) == 1 && slices.Contains(tokenWords, args[0]):
		o.Tokens = args[0]
	case len(args) == 2 && args[0] == "forward" && args[1] != "":
		o.Tokens, o.TokenHeader = args[0], args[1]
	default:
		return d.Err("write 'tokens keep', or 'tokens forward [<header>]'")
	}
	return nil
}

func (o *Options) readRevalidate(d *caddyfile.Dispenser) error {
	var written string
	if o.Revalidate != 0 {
		return d.Err("revalidate is given twice: write it once")
	}
	if err := Text(d, &written); err != nil {
		return err
	}
	every, err := caddy.ParseDuration(written)
	if err != nil || every <= 0 {
		return d.Errf("revalidate '%s' is no time: write one like 15m", written)
	}
	o.Revalidate = caddy.Duration(every)
	if err := o.checkTokens(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

// Rest reads the current option by the first part that knows it. Where none
// does, the error lists what is allowed: the parts' words and own, the ones
// that the caller reads itself.
func Rest(d *caddyfile.Dispenser, own []string, parts ...Part) error {
	words := slices.Clone(own)
	for _, part := range parts {
		if known, err := part.Consume(d); known {
			return err
		}
		words = append(words, part.Words()...)
	}
	if d.Val() == "{" {
		return d.Err("the option on this line takes no block: remove it, from '{' to '}'")
	}
	slices.Sort(words)
	return d.Errf("unknown option '%s' (options: %s)", d.Val(), strings.Join(words, ", "))
}

// Without is a Part that does not know some of its words: an option that would
// do nothing must not be taken.
type Without struct {
	Part
	Not []string
}

// Consume reads one option, unless it is one of Not; see Part.
func (w Without) Consume(d *caddyfile.Dispenser) (bool, error) {
	if slices.Contains(w.Not, d.Val()) {
		return false, nil
	}
	return w.Part.Consume(d)
}

// Words lists the options but for Not.
func (w Without) Words() []string {
	return slices.DeleteFunc(w.Part.Words(), func(word string) bool { return slices.Contains(w.Not, word) })
}

// Credentials reads what may follow a provider's word: nothing, or the client
// ID and the secret.
func (o *Options) Credentials(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	switch {
	case len(args) == 0:
		return nil
	case len(args) != 2:
		return d.Err("after the provider's word come the client id and the client secret, both or neither")
	case slices.Contains(args, ""):
		return d.Err("the client id or secret is an empty string, perhaps from an unset variable: write both or neither")
	}
	o.ClientID, o.ClientSecret = args[0], args[1]
	return nil
}

// Unmarshal reads the word of a provider, its client ID and secret or neither,
// and its block, whose lines are for option. What def says of the client is
// written where nothing else was.
func (o *Options) Unmarshal(d *caddyfile.Dispenser, def Defaults, option func(*caddyfile.Dispenser) error) error {
	d.Next() // the provider's word
	if err := o.Credentials(d); err != nil {
		return err
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := option(d); err != nil {
			return err
		}
	}
	o.FillClient(def)
	return nil
}

// NamedCredentials reads what follows the word of a provider that is named by
// its operator: the name, and the client ID and the secret unless the block
// has them. needs is what its block must say.
func (o *Options) NamedCredentials(d *caddyfile.Dispenser, needs string) error {
	word, args := d.Val(), d.RemainingArgs()
	if len(args) == 0 || len(args) > 3 {
		return d.Errf("write %s <name> [<id> [<secret>]] on a line of its own, with a block that says its %s", word, needs)
	}
	if slices.Contains(args, "") {
		return d.Errf("the name, client id or secret is an empty string, perhaps from an unset variable: write %s <name> [<id> [<secret>]]", word)
	}
	if err := guest.CheckName(args[0]); err != nil {
		return d.WrapErr(err)
	}
	for i, to := range []*string{&o.Name, &o.ClientID, &o.ClientSecret}[:len(args)] {
		*to = args[i]
	}
	return nil
}

// Text reads exactly one argument that is not empty, at most once a block.
func Text(d *caddyfile.Dispenser, to *string) error {
	word, args := d.Val(), d.RemainingArgs()
	switch {
	case *to != "":
		return d.Errf("%s is given twice: write it once", word)
	case len(args) == 0:
		return d.Errf("%s has no value: write one, or remove the line", word)
	case len(args) > 1:
		return d.Errf("%s takes one value, not %d: quote one with spaces", word, len(args))
	case args[0] == "":
		return d.Errf("%s is an empty string: remove the line or write a value", word)
	}
	*to = args[0]
	return nil
}

// Texts reads one or more arguments, none of them empty. Further lines add to
// the list.
func Texts(d *caddyfile.Dispenser, to *[]string) error {
	word, args := d.Val(), d.RemainingArgs()
	if len(args) == 0 {
		return d.Errf("%s has no value: write one or more, or remove the line", word)
	}
	if slices.Contains(args, "") {
		return d.Errf("%s holds an empty string: remove it or write a value", word)
	}
	*to = append(*to, args...)
	return nil
}

// CheckedTexts reads arguments, as Texts does, that check has no objection to.
// It is asked about one line at a time; what holds a placeholder is checked
// once that is replaced.
func CheckedTexts(d *caddyfile.Dispenser, to *[]string, check func([]string) error) error {
	var line []string
	if err := Texts(d, &line); err != nil {
		return err
	}
	*to = append(*to, line...)
	if err := check(slices.DeleteFunc(line, HasPlaceholder)); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

// HasPlaceholder reports whether a value is known only once Caddy runs.
func HasPlaceholder(value string) bool { return strings.Contains(value, "{") }

// Checked reads one argument, as Text does, that check has no objection to.
func Checked(d *caddyfile.Dispenser, to *string, check func(string) error) error {
	if err := Text(d, to); err != nil {
		return err
	}
	if err := check(*to); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

// Choice reads one argument that must be one of allowed.
func Choice(d *caddyfile.Dispenser, to *string, allowed ...string) error {
	word := d.Val()
	return Checked(d, to, func(value string) error { return OneOf(word, value, allowed...) })
}

// Switch reads on, off, or nothing, which is on.
func Switch(d *caddyfile.Dispenser, to **bool) error {
	word, args := d.Val(), d.RemainingArgs()
	if *to != nil {
		return d.Errf("%s is given twice: write it once", word)
	}
	on := len(args) == 0 || args[0] == "on"
	if len(args) > 1 || !on && args[0] != "off" {
		return d.Errf("%s takes on or off", word)
	}
	*to = &on
	return nil
}
