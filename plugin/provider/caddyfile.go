package provider

import (
	"errors"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
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
		return true, Checked(d, &o.Name, CheckName)
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
		return true, Switch(d, &o.AllowEmailAccountMerge)
	case "verify_email":
		return true, Switch(d, &o.VerifyEmail)
	case "merge_confirmation":
		return true, Choice(d, &o.MergeConfirmation, confirmations...)
	case "groups":
		return true, Text(d, &o.Groups)
	case "authoritative_domains":
		return true, Texts(d, &o.AuthoritativeDomains)
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
		"allow_email_account_merge", "verify_email", "merge_confirmation", "groups", "authoritative_domains",
		"native_client_ids",
	}
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
	slices.Sort(words)
	return d.Errf("unknown option '%s' (options: %s)", d.Val(), strings.Join(words, ", "))
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
		return d.Err("the client id or secret is an empty string")
	}
	o.ClientID, o.ClientSecret = args[0], args[1]
	return nil
}

// Text reads exactly one argument that is not empty, at most once a block.
func Text(d *caddyfile.Dispenser, to *string) error {
	word, written := d.Val(), *to != ""
	var value string
	if !d.AllArgs(&value) {
		return d.ArgErr()
	}
	if written {
		return d.Errf("%s is given twice", word)
	}
	if value == "" {
		return d.Errf("%s is an empty string: remove the line or write a value", word)
	}
	*to = value
	return nil
}

// Texts reads one or more arguments, none of them empty. Further lines add to
// the list.
func Texts(d *caddyfile.Dispenser, to *[]string) error {
	word, args := d.Val(), d.RemainingArgs()
	if len(args) == 0 {
		return d.ArgErr()
	}
	if slices.Contains(args, "") {
		return d.Errf("%s holds an empty string: remove it or write a value", word)
	}
	*to = append(*to, args...)
	return nil
}

// Checked reads one argument, as Text does, that check has no objection to.
// What holds a placeholder is checked once that is replaced.
func Checked(d *caddyfile.Dispenser, to *string, check func(string) error) error {
	if err := Text(d, to); err != nil {
		return err
	}
	if strings.Contains(*to, "{") {
		return nil
	}
	if err := check(*to); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

// Choice reads one argument that must be one of allowed.
func Choice(d *caddyfile.Dispenser, to *string, allowed ...string) error {
	word := d.Val()
	return Checked(d, to, func(value string) error {
		if !slices.Contains(allowed, value) {
			return errors.New(word + ": unknown value '" + value + "' (allowed: " + strings.Join(allowed, ", ") + ")")
		}
		return nil
	})
}

// Switch reads on, off, or nothing, which is on.
func Switch(d *caddyfile.Dispenser, to **bool) error {
	word, args := d.Val(), d.RemainingArgs()
	if *to != nil {
		return d.Errf("%s is given twice", word)
	}
	on := len(args) == 0 || args[0] == "on"
	if len(args) > 1 || !on && args[0] != "off" {
		return d.Errf("%s takes on or off", word)
	}
	*to = &on
	return nil
}
