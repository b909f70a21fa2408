package provider

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/caddy-login/caddy-login/module/guest"
)

var (
	trusts        = []string{"auto", "authoritative", "verified", "unverified"}
	confirmations = []string{"auto", "proof", "click", "none"}
	collisions    = []string{"reject", "create"}
)

// maxEmail is the longest address that can be mailed to (RFC 5321 4.5.3.1.3).
const maxEmail = 254

// Trust is what the provider's word about email is worth, by the operator's
// email_trust and authoritative_domains; verified says whether the provider
// proved it, in the sense of Proven. A text that is no single plain address
// is never worth more than Asserted: what it is read as could differ from
// what was checked.
func (o *Options) Trust(email string, verified bool) guest.Trust {
	if email == "" {
		return guest.NoEmail
	}
	domain := Domain(email)
	if domain == "" || o.EmailTrust == "unverified" {
		return guest.Asserted
	}
	listed := slices.Contains(o.domains, domain)
	switch {
	case o.EmailTrust == "authoritative" && (listed || len(o.domains) == 0):
		return guest.Authoritative
	case o.EmailTrust == "verified":
		verified = true
	}
	switch {
	case verified && listed:
		return guest.Authoritative
	case verified:
		return guest.Verified
	default:
		return guest.Asserted
	}
}

// Judges reports whether email_trust leaves the judgement to the provider's
// own signals. A provider that knows better than Options.Trust when it runs a
// mailbox asks first.
func (o *Options) Judges() bool { return o.EmailTrust == "" || o.EmailTrust == "auto" }

// Domain returns the domain of a plain address in lower-case ASCII, or ""
// where email is anything else: two at-signs, spaces, quotes, control or
// replacement characters, more than 254 bytes.
func Domain(email string) string {
	local, domain, ok := strings.Cut(email, "@")
	if !ok || local == "" || len(email) > maxEmail || !utf8.ValidString(email) {
		return ""
	}
	if strings.ContainsFunc(email, foreignToAddress) || strings.Contains(domain, "@") {
		return ""
	}
	ascii, err := idna.Lookup.ToASCII(domain)
	if err != nil {
		return ""
	}
	return ascii
}

func foreignToAddress(r rune) bool {
	return unicode.IsSpace(r) || unicode.IsControl(r) || r == utf8.RuneError || strings.ContainsRune(`"(),:;<>[\]`, r)
}

// Domains resolves the placeholders of a list of domain names and returns them
// in lower-case ASCII. Wildcards and empty names are errors.
func Domains(field string, written []string) ([]string, error) {
	resolved, err := AllPlaceholders(field, written)
	if err != nil {
		return nil, err
	}
	for i, name := range resolved {
		ascii := Domain("x@" + name)
		if ascii == "" {
			return nil, fmt.Errorf("%s: %q is no domain: write one like example.com", field, name)
		}
		resolved[i] = ascii
	}
	return resolved, nil
}
