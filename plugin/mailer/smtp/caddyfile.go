package smtp

import (
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-login/caddy-login/module/guest"
)

// words are the options of the block.
var words = []string{"from", "insecure_plaintext", "insecure_skip_verify", "timeout", "tls", "tls_ca"}

const usage = "smtp <host>:<port> [<user> <password>]"

// UnmarshalCaddyfile reads
//
//	smtp <host>:<port> [<user> <password>] {
//		from    <address>
//		tls     starttls|tls|none
//		tls_ca  <pem>
//		timeout <duration>
//		insecure_plaintext
//		insecure_skip_verify
//	}
func (m *Mailer) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the name
	if err := m.readLine(d); err != nil {
		return err
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := m.readOption(d); err != nil {
			return err
		}
	}
	if err := m.check(isLiteral); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (m *Mailer) readLine(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	switch {
	case len(args) != 1 && len(args) != 3:
		return d.Errf("wrong use of smtp: write %s", usage)
	case slices.Contains(args, ""):
		return d.Errf("smtp has an empty argument, perhaps from an unset variable: write %s", usage)
	}
	m.Address = args[0]
	if len(args) == 3 {
		m.Username, m.Password = args[1], guest.Secret(args[2])
	}
	if !isLiteral(m.Address) {
		return nil
	}
	if err := checkAddress(m.Address); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (m *Mailer) readOption(d *caddyfile.Dispenser) error {
	switch d.Val() {
	case "from":
		return text(d, &m.From, whereKnown(checkSender))
	case "tls":
		return text(d, &m.TLS, checkEncryption)
	case "tls_ca":
		return text(d, &m.TLSCA, anything)
	case "timeout":
		return m.readTimeout(d)
	case "insecure_plaintext":
		return flag(d, &m.InsecurePlaintext)
	case "insecure_skip_verify":
		return flag(d, &m.InsecureSkipVerify)
	case "{":
		return d.Err("the option on this line takes no block: remove it, from '{' to '}'")
	default:
		return d.Errf("unknown option '%s' (options: %s)", d.Val(), strings.Join(words, ", "))
	}
}

// text reads one value that check has no objection to, at most once a block.
func text(d *caddyfile.Dispenser, to *string, check func(string) error) error {
	word := d.Val()
	switch {
	case *to != "":
		return d.Errf("%s is given twice: write it once", word)
	case d.CountRemainingArgs() != 1:
		return d.Errf("%s takes one value: quote one with spaces", word)
	}
	d.NextArg()
	if *to = d.Val(); *to == "" {
		return d.Errf("%s is an empty string, perhaps from an unset variable: remove the line or write a value", word)
	}
	if err := check(*to); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func anything(string) error { return nil }

// whereKnown checks a value with placeholders only once they are replaced.
func whereKnown(check func(string) error) func(string) error {
	return func(value string) error {
		if !isLiteral(value) {
			return nil
		}
		return check(value)
	}
}

func (m *Mailer) readTimeout(d *caddyfile.Dispenser) error {
	if m.Timeout != 0 {
		return d.Err("timeout is given twice: write it once")
	}
	var written string
	if err := text(d, &written, anything); err != nil {
		return err
	}
	timeout, err := caddy.ParseDuration(written)
	if err != nil || timeout <= 0 || caddy.Duration(timeout) > longestTimeout {
		return d.Errf("timeout '%s': write a time up to 1m, such as 30s", written)
	}
	m.Timeout = caddy.Duration(timeout)
	return nil
}

// flag reads a word that stands alone.
func flag(d *caddyfile.Dispenser, to *bool) error {
	word := d.Val()
	switch {
	case *to:
		return d.Errf("%s is given twice: write it once", word)
	case d.CountRemainingArgs() > 0:
		return d.Errf("%s takes no value: write it alone, or remove it", word)
	}
	*to = true
	return nil
}

var _ caddyfile.Unmarshaler = (*Mailer)(nil)
