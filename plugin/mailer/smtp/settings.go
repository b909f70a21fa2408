package smtp

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-login/caddy-login/module/guest"
)

const (
	defaultTimeout = caddy.Duration(30 * time.Second)
	longestTimeout = caddy.Duration(time.Minute)
)

// encryptions are what TLS may say.
var encryptions = []string{"starttls", "tls", "none"}

// resolve replaces the placeholders. It must never see what a visitor sent.
func (m *Mailer) resolve() error {
	password := string(m.Password)
	for field, value := range map[string]*string{
		"the server's host:port": &m.Address, "username": &m.Username, "password": &password,
		"from": &m.From, "tls_ca": &m.TLSCA,
	} {
		if *value == "" {
			continue // check says where that is a mistake
		}
		got, err := replace(field, *value)
		if err != nil {
			return err
		}
		*value = got
	}
	m.Password = guest.Secret(password)
	return nil
}

// replace replaces the placeholders of one value. The value is not in its
// errors: it may be a secret with braces.
func replace(field, written string) (string, error) {
	got, err := caddy.NewReplacer().ReplaceOrErr(written, true, true)
	if err == nil && strings.TrimSpace(got) != "" {
		return got, nil
	}
	if name, ok := sole(written, "{env."); ok {
		return "", fmt.Errorf("%s is empty: set %s", field, name)
	}
	if path, ok := sole(written, "{file."); ok {
		return "", fmt.Errorf("%s is empty: make %s a readable file that holds it", field, path)
	}
	return "", fmt.Errorf(`%s has a placeholder that is empty or unknown; write \{ for a brace that is meant`, field)
}

// sole is what a value names that is one placeholder of this kind and nothing
// else.
func sole(written, kind string) (string, bool) {
	inner, ok := strings.CutPrefix(written, kind)
	if !ok {
		return "", false
	}
	inner, ok = strings.CutSuffix(inner, "}")
	return inner, ok && !strings.ContainsAny(inner, "{}")
}

// isLiteral reports whether a value is final before placeholders are replaced.
func isLiteral(value string) bool { return !strings.Contains(value, "{") }

// check reports what is wrong with the settings that are known, each by itself
// and together.
func (m *Mailer) check(known func(string) bool) error {
	if known(m.Address) {
		if err := checkAddress(m.Address); err != nil {
			return err
		}
	}
	if known(m.From) && m.From != "" {
		if err := checkSender(m.From); err != nil {
			return err
		}
	}
	if err := checkEncryption(m.TLS); err != nil {
		return err
	}
	if err := checkTimeout(m.Timeout); err != nil {
		return err
	}
	if known(m.Address) {
		return m.checkTogether()
	}
	return nil
}

// checkTogether refuses what would send a secret in clear text, and what would
// do nothing.
func (m *Mailer) checkTogether() error {
	plain := m.encryption() == "none"
	switch {
	case (m.Username == "") != (m.Password == ""):
		return errors.New("username and password belong together: write both or neither")
	case plain && !isLoopback(hostOf(m.Address)) && !m.InsecurePlaintext:
		return errors.New("tls none is only for localhost, as whoever reads the codes on their way can sign in: write tls starttls, or add insecure_plaintext")
	case plain && m.Username != "":
		return errors.New("a password is only sent over TLS: remove tls none, or the username and password")
	case plain && (m.TLSCA != "" || m.InsecureSkipVerify):
		return errors.New("tls none has no certificate to check: remove tls_ca and insecure_skip_verify, or tls none")
	case !plain && m.InsecurePlaintext:
		return errors.New("insecure_plaintext goes with tls none alone: remove it, or add tls none")
	case m.TLSCA != "" && m.InsecureSkipVerify:
		return errors.New("insecure_skip_verify makes tls_ca useless: remove one of them")
	}
	return nil
}

// checkAddress goes by the text alone.
func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return fmt.Errorf("'%.200s' is no host:port: write one such as smtp.example.com:587", address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("'%.20s' is no port: write 587 (STARTTLS) or 465 (TLS)", port)
	}
	if strings.ContainsAny(host, " \t\r\n/@{}") {
		return fmt.Errorf("'%.200s' is no host: write one such as smtp.example.com", host)
	}
	return nil
}

func checkSender(from string) error {
	_, err := parseSender(from)
	return err
}

func checkEncryption(word string) error {
	if word == "" || slices.Contains(encryptions, word) {
		return nil
	}
	return fmt.Errorf("unknown tls '%.50s' (choose %s)", word, strings.Join(encryptions, ", "))
}

func checkTimeout(d caddy.Duration) error {
	if d < 0 || d > longestTimeout {
		return errors.New("timeout: write a time up to 1m")
	}
	return nil
}

func (m *Mailer) setDefaults() {
	m.TLS = m.encryption()
	m.Timeout = cmp.Or(m.Timeout, defaultTimeout)
	m.host = hostOf(m.Address)
}

// encryption is what TLS says, or else goes with the port (RFC 8314 section
// 3.3).
func (m *Mailer) encryption() string {
	if m.TLS == "" && strings.HasSuffix(m.Address, ":465") {
		return "tls"
	}
	return cmp.Or(m.TLS, "starttls")
}

func hostOf(address string) string {
	host, _, _ := net.SplitHostPort(address) // it was checked
	return host
}

// isLoopback goes by the name alone: resolving it would ask the network, and
// the answer could change.
func isLoopback(host string) bool {
	host = strings.ToLower(host)
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Zone() == "" && addr.Unmap().IsLoopback()
}

func (m *Mailer) tlsConfig() (*tls.Config, error) {
	config := &tls.Config{
		ServerName:         m.host,
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: m.InsecureSkipVerify,
	}
	if m.TLSCA != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(m.TLSCA)) {
			return nil, errors.New("tls_ca holds no certificate: write {file./path/to/ca.pem}, a file in PEM")
		}
	}
	return config, nil
}
