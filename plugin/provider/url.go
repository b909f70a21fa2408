package provider

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// CheckURL reports why raw can't be an address of a provider, or nil. It must
// be absolute, without credentials or fragment, and https; http is only for
// loopback.
func CheckURL(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil || len(raw) > 2048:
		return fmt.Errorf("%q is no URL of at most 2048 bytes", Cut(raw, 200))
	case u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.Opaque != "":
		return fmt.Errorf("%q must begin with https:// and name a host", Cut(u.Redacted(), 200))
	case u.User != nil || strings.Contains(raw, "#"):
		return fmt.Errorf("%q must have no user, password or fragment", Cut(u.Redacted(), 200))
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return fmt.Errorf("%q must be https: http is only for localhost", Cut(raw, 200))
	}
	return nil
}

// CheckIssuer is CheckURL for an issuer, which has no query either (OpenID
// Connect Discovery 1.0, section 2).
func CheckIssuer(raw string) error {
	if err := CheckURL(raw); err != nil {
		return err
	}
	if strings.Contains(raw, "?") {
		return fmt.Errorf("%q must have no query", Cut(raw, 200))
	}
	return nil
}

// loopback goes by the name alone: resolving it would ask the network, and
// the answer could change.
func loopback(host string) bool {
	host = strings.ToLower(host)
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Zone() == "" && addr.IsLoopback()
}
