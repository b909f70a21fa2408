package smtp

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/logintest/golden"
)

// read is what a block of a Caddyfile becomes in JSON.
func read(written string) (string, error) {
	m := new(Mailer)
	if err := m.UnmarshalCaddyfile(caddyfile.NewTestDispenser(written)); err != nil {
		return "", err
	}
	raw, err := json.Marshal(m)
	return string(raw), err
}

func TestCaddyfileBecomesJSON(t *testing.T) {
	for written, want := range map[string]string{
		"smtp smtp.example.com:587":                                                        `{"address":"smtp.example.com:587"}`,
		"smtp [2001:db8::1]:465":                                                           `{"address":"[2001:db8::1]:465"}`,
		"smtp {env.SMTP}":                                                                  `{"address":"{env.SMTP}"}`,
		"smtp {env.HOST}:587 {env.U} {env.P}":                                              `{"address":"{env.HOST}:587","username":"{env.U}","password":"{env.P}"}`,
		"smtp localhost:25 {\n\ttls none\n}":                                               `{"address":"localhost:25","tls":"none"}`,
		"smtp 127.0.0.2:25 {\n\ttls none\n}":                                               `{"address":"127.0.0.2:25","tls":"none"}`,
		"smtp a.example:25 {\n\ttls none\n\tinsecure_plaintext\n}":                         `{"address":"a.example:25","tls":"none","insecure_plaintext":true}`,
		"smtp a.example:25 {\n\tinsecure_skip_verify\n}":                                   `{"address":"a.example:25","insecure_skip_verify":true}`,
		"smtp a.example:25 {\n\ttls_ca {file./ca.pem}\n\tfrom {env.FROM}\n\ttimeout 1m\n}": `{"address":"a.example:25","from":"{env.FROM}","tls_ca":"{file./ca.pem}","timeout":60000000000}`,
	} {
		if got, err := read(written); err != nil || got != want {
			t.Errorf("%s: %s, error %v", written, got, err)
		}
	}
}

func TestMistakesAreToldWithTheirCure(t *testing.T) {
	block := func(lines string) string { return "smtp a.example:587 {\n\t" + lines + "\n}" }
	for written, want := range map[string]string{
		"smtp":                                                "write smtp <host>:<port>",
		"smtp a.example:25 user":                              "write smtp <host>:<port> [<user> <password>]",
		"smtp a.example:25 user pass more":                    "write smtp <host>:<port>",
		`smtp ""`:                                             "perhaps from an unset variable",
		`smtp a.example:25 user ""`:                           "perhaps from an unset variable",
		"smtp a.example":                                      "such as smtp.example.com:587",
		"smtp :587":                                           "such as smtp.example.com:587",
		"smtp a.example:":                                     "write 587 (STARTTLS) or 465 (TLS)",
		"smtp a.example:0":                                    "write 587 (STARTTLS) or 465 (TLS)",
		"smtp a.example:smtp":                                 "write 587 (STARTTLS) or 465 (TLS)",
		"smtp a.example:70000":                                "write 587 (STARTTLS) or 465 (TLS)",
		"smtp user@a.example:25":                              "is no host",
		"smtp smtp://a.example:25":                            "is no host:port",
		block("form a@b.example"):                             "unknown option 'form' (options: from, insecure_plaintext, insecure_skip_verify, timeout, tls, tls_ca)",
		block("from"):                                         "takes one value",
		block("from a@b.example c"):                           "takes one value",
		block(`from ""`):                                      "perhaps from an unset variable",
		block("from nobody"):                                  "such as login@example.com",
		block("from a@bücher.example"):                        "with the domain in ASCII",
		block("from a@b.example\n\tfrom c@d.e"):               "twice",
		block("tls on"):                                       "choose starttls, tls, none",
		block("tls {env.TLS}"):                                "choose starttls, tls, none",
		block("tls none"):                                     "only for localhost",
		"smtp localhost.example:25 {\n\ttls none\n}":          "only for localhost",
		"smtp localhost:25 u p {\n\ttls none\n}":              "only sent over TLS",
		block("tls none\n\tinsecure_plaintext\n\ttls_ca x"):   "no certificate to check",
		block("insecure_plaintext"):                           "goes with tls none alone",
		block("insecure_plaintext on"):                        "takes no value",
		block("insecure_skip_verify\n\tinsecure_skip_verify"): "twice",
		block("insecure_skip_verify\n\ttls_ca x"):             "useless",
		block("timeout 0"):                                    "up to 1m",
		block("timeout 61s"):                                  "up to 1m",
		block("timeout soon"):                                 "up to 1m",
		block("timeout 30s\n\ttimeout 40s"):                   "twice",
		block("tls starttls {\n\t}"):                          "no block",
	} {
		_, err := read(written)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "Testfile:") {
			t.Errorf("%s\nerror %v\nwant %q, with its line", written, err, want)
		}
	}
}

// provisioned is what becomes of settings, and an error without the secret.
func provisioned(t *testing.T, m *Mailer) (*Mailer, error) {
	t.Helper()
	err := m.Provision(caddy.Context{})
	if err != nil && strings.Contains(err.Error(), "s3cret") {
		t.Errorf("the error tells the password: %v", err)
	}
	return m, err
}

func TestDefaultsGoWithThePort(t *testing.T) {
	for address, want := range map[string]string{"a.example:587": "starttls", "a.example:25": "starttls", "localhost:25": "starttls", "a.example:465": "tls", "a.example:4650": "starttls"} {
		m, err := provisioned(t, &Mailer{Address: address})
		if err != nil || m.TLS != want || m.Timeout != caddy.Duration(30*time.Second) {
			t.Errorf("%s: tls %s, timeout %d, error %v", address, m.TLS, m.Timeout, err)
		}
	}
}

func TestPlaceholdersAreReplaced(t *testing.T) {
	t.Setenv("TEST_SMTP", "a.example:465")
	t.Setenv("TEST_PASSWORD", "s3cret{x}")
	m, err := provisioned(t, &Mailer{Address: "{env.TEST_SMTP}", Username: "u", Password: "{env.TEST_PASSWORD}"})
	if err != nil || m.Address != "a.example:465" || m.TLS != "tls" || !m.Password.Is("s3cret{x}") {
		t.Errorf("address %s, tls %s, error %v", m.Address, m.TLS, err)
	}
}

func TestWhatTheEnvironmentSpoilsIsRefused(t *testing.T) {
	t.Setenv("TEST_EMPTY", "")
	t.Setenv("TEST_REMOTE", "a.example:25")
	t.Setenv("TEST_BRACES", "{x}:25")
	t.Setenv("TEST_FROM", "a@b.example\r\nBcc: eve@example.com")
	for want, m := range map[string]*Mailer{
		"host:port is empty: set TEST_EMPTY":                  {Address: "{env.TEST_EMPTY}"},
		"username is empty: set TEST_UNSET":                   {Address: "a.example:25", Username: "{env.TEST_UNSET}", Password: "s3cret"},
		"password is empty: make /does/not/exist a readable":  {Address: "a.example:25", Username: "u", Password: "{file./does/not/exist}"},
		"password has a placeholder that is empty or unknown": {Address: "a.example:25", Username: "u", Password: "s3cret{nothing}"},
		"write both or neither":                               {Address: "a.example:25", Password: "s3cret"},
		"only for localhost":                                  {Address: "{env.TEST_REMOTE}", TLS: "none"},
		"is no host":                                          {Address: "{env.TEST_BRACES}"},
		"from holds a line break":                             {Address: "a.example:25", From: "{env.TEST_FROM}"},
		"tls_ca holds no certificate":                         {Address: "a.example:25", TLSCA: "none"},
		"unknown tls 'None'":                                  {Address: "localhost:25", TLS: "None"},
		"timeout: write a time up to 1m":                      {Address: "a.example:25", Timeout: -1},
		"is no host:port":                                     {},
	} {
		if _, err := provisioned(t, m); err == nil || !strings.Contains(err.Error(), "mail smtp: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func TestPasswordIsNotPrinted(t *testing.T) {
	m := &Mailer{Password: "s3cret"}
	for _, verb := range []string{m.Password.String(), m.Password.GoString()} {
		if strings.Contains(verb, "s3cret") {
			t.Error(verb)
		}
	}
}

func TestEveryWordHasGoldenFiles(t *testing.T) {
	const testdata = "../../testdata"
	for _, dir := range []string{testdata, testdata + "/errors"} {
		all := golden.Caddyfiles(t, dir)
		if !regexp.MustCompile(`(?m)^\t\tmail smtp \S`).MatchString(all) {
			t.Errorf("no golden file in %s has a line 'mail smtp …'", dir)
		}
		for _, word := range words {
			if !regexp.MustCompile(`(?m)^\t\tmail smtp [^\n]*{\n(?:\t\t\t[^\n]*\n)*?\t\t\t` + word + `\b`).MatchString(all) {
				t.Errorf("no golden file in %s has a line '%s …' in a block of mail smtp", dir, word)
			}
		}
	}
}

func TestModuleIsRegistered(t *testing.T) {
	info, err := caddy.GetModule("login.mailers.smtp")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := info.New().(guest.Mailer); !ok {
		t.Errorf("%T is no mailer", info.New())
	}
}
