package identity

import (
	"errors"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Email is a canonical address, made only by ParseEmail: addr-spec, domain in
// ASCII and lower case, local part in lower case by ASCII rules. Two Emails
// are the same address when their bytes are.
type Email string

// ErrEmail is returned for what is no address we accept.
var ErrEmail = errors.New("not a mail address")

// ParseEmail makes the canonical form (identity.md section 2). It takes no
// display names, comments, quoted local parts, address literals or lists, and
// no character outside ASCII in the local part: Unicode case mapping there has
// been a takeover; nor '%' and '!', by which mail servers send on to other
// domains than the one that is written. Nothing is folded: a+b@ and a@ are two addresses.
func ParseEmail(s string) (Email, error) {
	if len(s) > 254 {
		return "", ErrEmail
	}
	local, domain, found := strings.Cut(s, "@")
	if !found || !isDotAtom(local) || len(local) > 64 || strings.ContainsAny(local, "%!") {
		return "", ErrEmail
	}
	domain, err := ParseDomain(domain)
	if err != nil {
		return "", err
	}
	address := lowerASCII(local) + "@" + domain
	if len(address) > 254 {
		return "", ErrEmail
	}
	return Email(address), nil
}

// ParseDomain makes the canonical form of a mail domain: IDNA to ASCII, lower
// case, at least two labels. What ends in a number is none (RFC 3696 section 2):
// some mail servers take 10.0.0.1 for a machine, and would carry our mail to it.
func ParseDomain(s string) (string, error) {
	if !utf8.ValidString(s) {
		return "", ErrEmail
	}
	for _, c := range s {
		if c <= ' ' || c == 0x7f || strings.ContainsRune("@,;:<>()[]\\\"%/", c) {
			return "", ErrEmail
		}
	}
	domain, err := idna.Lookup.ToASCII(s)
	if err != nil || !strings.Contains(domain, ".") || !isDotAtom(domain) || endsInNumber(domain) {
		return "", ErrEmail
	}
	return lowerASCII(domain), nil
}

// endsInNumber reports whether the last label is digits alone, or begins with one
// as hexadecimal numbers do.
func endsInNumber(domain string) bool {
	last := strings.ToLower(domain[strings.LastIndexByte(domain, '.')+1:])
	return strings.HasPrefix(last, "0x") || strings.Trim(last, "0123456789") == ""
}

// Domain is the part after the @.
func (e Email) Domain() string {
	_, domain, _ := strings.Cut(string(e), "@")
	return domain
}

// Mask is the address as a log may hold it: a•••@e•••.com.
func (e Email) Mask() string {
	local, domain, found := strings.Cut(string(e), "@")
	if !found || local == "" || domain == "" {
		return ""
	}
	return local[:1] + "•••@" + domain[:1] + "•••" + domain[strings.LastIndexByte(domain, '.'):]
}

// isDotAtom reports whether s is a dot-atom of RFC 5322 section 3.2.3.
func isDotAtom(s string) bool {
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" {
			return false
		}
		for _, c := range []byte(atom) {
			if !isAtext(c) {
				return false
			}
		}
	}
	return true
}

func isAtext(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

func lowerASCII(s string) string {
	lower := []byte(s)
	for i, c := range lower {
		if 'A' <= c && c <= 'Z' {
			lower[i] = c + 'a' - 'A'
		}
	}
	return string(lower)
}
