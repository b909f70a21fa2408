// Package moving_test reads the pages of this folder as their readers do: what
// they show is what a real Caddy takes, and what they say of headers is what
// arrives at an app.
package moving_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
	"github.com/caddy-login/caddy-login/module/logintest/golden"
)

func TestMain(m *testing.M) { os.Exit(e2e.Main(m)) }

// from are the products that somebody may come from. Each has a page, a
// Caddyfile, and a golden file.
var from = []string{"authelia", "caddy-security", "mod_auth_openidc", "oauth2-proxy", "pomerium", "tinyauth", "vouch-proxy"}

// goldens is where the golden files are.
const goldens = "../../plugin/testdata"

func read(t testing.TB, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestPageShowsTheWholeCaddyfileThatIsTested(t *testing.T) {
	for _, product := range from {
		caddyfile := read(t, product+".Caddyfile")
		if !strings.Contains(read(t, product+".md"), "\n```caddyfile\n"+caddyfile+"```\n") {
			t.Errorf("%s.md does not show %[1]s.Caddyfile as it is", product)
		}
		name := "moving_" + strings.ReplaceAll(product, "-", "_") + ".caddyfiletest"
		if golden.Read(t, filepath.Join(goldens, name)).Caddyfile != caddyfile {
			t.Errorf("%s.Caddyfile and %s differ", product, name)
		}
	}
}

func TestEveryFileHereIsOfAProductThatIsDriven(t *testing.T) {
	for _, extension := range []string{".Caddyfile", ".md"} {
		paths, err := filepath.Glob("*" + extension)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if path != "README.md" && !slices.Contains(from, strings.TrimSuffix(path, extension)) {
				t.Errorf("%s: nothing drives it: add its product to from", path)
			}
		}
	}
	for _, product := range from {
		if !strings.Contains(read(t, "README.md"), "]("+product+".md)") {
			t.Errorf("README.md does not lead to %s.md", product)
		}
	}
}

// Of each line of theirs a page says where it is written.
func TestEveryPageNamesTheDocumentationItWasCheckedAgainst(t *testing.T) {
	for _, product := range from {
		_, sources, found := strings.Cut(read(t, product+".md"), "\n## Sources\n")
		if !found || !strings.Contains(sources, "](https://") {
			t.Errorf("%s.md has no part Sources with addresses", product)
		}
	}
}

const (
	clientID = "the-corp-client"
	secret   = "the corp client's secret"
)

func operator(t *testing.T) *e2e.Caddy {
	t.Helper()
	caddy := e2e.NewCaddy(t, e2e.Build(t))
	caddy.Env["OIDC_CLIENT_ID"], caddy.Env["OIDC_CLIENT_SECRET"] = clientID, secret
	return caddy
}

var warning = regexp.MustCompile(`"level":"warn|(?m)^\S+\tWARN`)

func TestEveryCaddyfileIsValidAsItStands(t *testing.T) {
	for _, product := range from {
		t.Run(product, func(t *testing.T) {
			path, err := filepath.Abs(product + ".Caddyfile")
			if err != nil {
				t.Fatal(err)
			}
			caddy := operator(t)
			out, err := caddy.Command("validate", "--config", path, "--adapter", "caddyfile")
			if err != nil || !strings.Contains(out, "Valid configuration") || warning.MatchString(out) {
				t.Errorf("caddy validate: %v\n%s", err, out)
			}
			out, err = caddy.Command("adapt", "--config", path, "--adapter", "caddyfile")
			if err != nil || strings.Contains(out, secret) || !strings.Contains(out, "{env.OIDC_CLIENT_SECRET}") {
				t.Errorf("caddy adapt: %v\n%s", err, out)
			}
		})
	}
}
