// Package examples_test drives every example as its reader would: a real
// Caddy validates the file as it is, and then serves it, with an app behind
// and a provider in front that can be had without an account.
package examples_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

func TestMain(m *testing.M) { os.Exit(e2e.Main(m)) }

// stories says what is to be seen at each example. An example that is a
// program of its own has its tests in its folder.
var stories = map[string]func(*testing.T){
	"assertion-go":         goAppVerifies,
	"assertion-node":       nodeAppVerifies,
	"assertion-python":     pythonAppVerifies,
	"forward-auth-caddy":   caddyAsksForAnotherProxy,
	"forward-auth-envoy":   envoyDescribesByTheAddress,
	"forward-auth-haproxy": haproxyAsks,
	"forward-auth-nginx":   nginxAsks,
	"forward-auth-traefik": traefikDescribesByItsHeaders,
	"apps-by-header":       appsSignInByHeader,
	"email":                mailedCodeOrLinkSignsIn,
	"github":               githubAdmitsAnOrganization,
	"google":               googleAdmitsOneDomain,
	"many-sites":           manySitesShareOneLogin,
	"monitoring":           everyMetricIsShown,
	"oidc":                 anyIssuerSignsIn,
	"okta":                 oktaEndsAndRenewsSessions,
	"policies":             firstRuleThatFitsDecides,
	"native":               appOnADeviceSignsInByTheBrowser,
	"spa":                  appDrawsItsOwnSignIn,
}

func TestEveryExampleDoesWhatItSays(t *testing.T) {
	for name, story := range stories {
		t.Run(name, story)
	}
}

func TestEveryExampleIsDriven(t *testing.T) {
	for _, name := range folders(t) {
		own, err := filepath.Glob(filepath.Join(name, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		if stories[name] == nil && len(own) == 0 {
			t.Errorf("examples/%s: nothing drives it: add a story in stories_test.go", name)
		}
	}
}

func TestEveryExampleSaysWhatYouShouldSee(t *testing.T) {
	for name := range stories {
		readme, err := os.ReadFile(filepath.Join(name, "README.md"))
		if err != nil {
			t.Errorf("examples/%s: %v", name, err)
		}
		for _, part := range []string{"**Set.**", "**See.**", "**Try.**"} {
			if !strings.Contains(string(readme), part) {
				t.Errorf("examples/%s/README.md has no part %s", name, part)
			}
		}
	}
}

// secrets are what an operator puts into the environment. They must not get
// into the adapted config.
var secrets = map[string]string{
	"GITHUB_CLIENT_ID":     "the-github-client",
	"GITHUB_CLIENT_SECRET": "the github client's secret",
	"GOOGLE_CLIENT_ID":     "the-google-client",
	"GOOGLE_CLIENT_SECRET": "the google client's secret",
	"OIDC_CLIENT_ID":       "the-corp-client",
	"OIDC_CLIENT_SECRET":   "the corp client's secret",
	"OKTA_CLIENT_ID":       "the-okta-client",
	"OKTA_CLIENT_SECRET":   "the okta client's secret",
	"SMTP_USERNAME":        "the-mail-user",
	"SMTP_PASSWORD":        "the mail user's password",
}

func TestEveryExampleIsValidAsItStandsAndTouchesNoDisk(t *testing.T) {
	for name := range stories {
		t.Run(name, func(t *testing.T) {
			caddy := operator(t)
			for variable, secret := range secrets {
				caddy.Env[variable] = secret
			}
			out, err := caddy.Command("validate", "--config", path(t, name), "--adapter", "caddyfile")
			if err != nil || !strings.Contains(out, "Valid configuration") {
				t.Errorf("caddy validate: %v\n%s", err, out)
			}
			untouched(t, caddy)
		})
	}
}

// Warnings come for what works and is still wrong: an unformatted file, an
// option that Caddy has given up.
var warning = regexp.MustCompile(`"level":"warn|(?m)^\S+\tWARN`)

func TestSecretsOfExamplesStayPlaceholders(t *testing.T) {
	for name := range stories {
		t.Run(name, func(t *testing.T) {
			caddy := operator(t)
			for variable, secret := range secrets {
				caddy.Env[variable] = secret
			}
			out, err := caddy.Command("adapt", "--config", path(t, name), "--adapter", "caddyfile")
			if err != nil || warning.MatchString(out) {
				t.Errorf("caddy adapt: %v\n%s", err, out)
			}
			for variable, secret := range secrets {
				if strings.Contains(out, secret) {
					t.Errorf("the value of %s stands in the config", variable)
				}
			}
			if !strings.Contains(out, "_CLIENT_SECRET}") {
				t.Errorf("no placeholder for a secret in %s", out)
			}
			untouched(t, caddy)
		})
	}
}

func TestExampleWithoutItsSecretNamesWhatIsMissing(t *testing.T) {
	out, err := operator(t).Command("validate", "--config", path(t, "google"), "--adapter", "caddyfile")
	if err == nil || !strings.Contains(out, "set GOOGLE_CLIENT_ID") {
		t.Errorf("caddy validate: %v\n%s", err, out)
	}
}

// operator has a Caddy and has never run it.
func operator(t *testing.T) *e2e.Caddy {
	t.Helper()
	return e2e.NewCaddy(t, e2e.Build(t))
}

// untouched fails the test if the operator's home holds a file.
func untouched(t *testing.T, caddy *e2e.Caddy) {
	t.Helper()
	home := filepath.Dir(filepath.Dir(caddy.DataDir()))
	entries, err := os.ReadDir(home)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		t.Errorf("left behind: %s", entry.Name())
	}
}

// folders are the examples.
func folders(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		if entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	return names
}

// path is where an example's Caddyfile lies.
func path(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(name, "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	return path
}
