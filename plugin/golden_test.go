package plugin_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/caddy-login/caddy-login/module/logintest/golden"
	_ "github.com/caddy-login/caddy-login/plugin"
)

func TestWhatIsWrittenForGuestsBecomesJSONThatCaddyTakes(t *testing.T) {
	for name, value := range map[string]string{
		"SMTP_USERNAME": "user", "SMTP_PASSWORD": "password",
		"GOOGLE_CLIENT_ID": "id", "GOOGLE_CLIENT_SECRET": "secret",
		"GITHUB_CLIENT_ID": "id", "GITHUB_CLIENT_SECRET": "secret", "GITHUB_ORG": "acme",
		"FACEBOOK_CLIENT_ID": "id", "FACEBOOK_CLIENT_SECRET": "secret",
		"DISCORD_CLIENT_ID": "id", "DISCORD_CLIENT_SECRET": "secret",
		"X_CLIENT_ID": "id", "X_CLIENT_SECRET": "secret",
		"BITBUCKET_CLIENT_ID": "id", "BITBUCKET_CLIENT_SECRET": "secret",
		"AMAZON_CLIENT_ID": "id", "AMAZON_CLIENT_SECRET": "secret",
		"SPOTIFY_CLIENT_ID": "id", "SPOTIFY_CLIENT_SECRET": "secret",
		"OAUTH2_CLIENT_ID": "id", "OAUTH2_CLIENT_SECRET": "secret",
		"OIDC_CLIENT_ID": "id", "OIDC_CLIENT_SECRET": "secret", "FORUM_ID": "id", "FORUM_SECRET": "secret",
		"CLIENT_ID": "id", "CLIENT_SECRET": "secret",
		"MICROSOFT_CLIENT_ID": "id", "MICROSOFT_CLIENT_SECRET": "secret",
		"LINKEDIN_CLIENT_ID": "id", "LINKEDIN_CLIENT_SECRET": "secret",
		"GITLAB_CLIENT_ID": "id", "GITLAB_CLIENT_SECRET": "secret",
		"SLACK_CLIENT_ID": "id", "SLACK_CLIENT_SECRET": "secret", "SLACK_TEAM": "T0123ABC456",
		"TWITCH_CLIENT_ID": "id", "TWITCH_CLIENT_SECRET": "secret",
		"APPLE_PRIVATE_KEY": applePrivateKey(t),
		"ISSUER":            "https://sso.example.com", "DOMAIN": "example.com", "DIRECTORY": "/srv",
	} {
		t.Setenv(name, value)
	}
	golden.JSON(t, "testdata", func(t testing.TB, config string) {
		err := golden.Validate(config)
		// Where this file is, is the operator's affair.
		if err != nil && !unreadable.MatchString(err.Error()) {
			t.Error(err)
		}
	})
}

var unreadable = regexp.MustCompile(`make /(run/secrets|etc/caddy)/\S+ a readable file that holds it$`)

// applePrivateKey is a key of the kind that Apple hands out.
func applePrivateKey(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func TestMistakesInGuestsAreToldWithTheirLineAndCure(t *testing.T) {
	golden.Mistakes(t, "testdata/errors")
}

// What only the environment can tell is told by `caddy validate`.
func TestWhatCannotWorkIsRefused(t *testing.T) {
	for name, value := range map[string]string{
		"GOOGLE_CLIENT_ID": "", "GOOGLE_CLIENT_SECRET": "", "LOGIN_TEST_UNSET": "",
		"LOGIN_TEST_HTTP": "http://example.com", "LOGIN_TEST_STAR": "*",
		"LOGIN_TEST_ROLE": "role:staff", "LOGIN_TEST_PROVIDER": "provider:okta",
	} {
		t.Setenv(name, value)
	}
	golden.Refused(t, "testdata/refused")
}

func TestEveryGoldenFileOfGuestsIsRun(t *testing.T) {
	golden.NothingElse(t, "testdata", "testdata", "testdata/errors", "testdata/refused")
}

func TestEveryOptionOfAProviderHasGoldenFiles(t *testing.T) {
	good, bad := golden.Caddyfiles(t, "testdata"), golden.Caddyfiles(t, "testdata/errors")
	for _, provider := range names(t, "login.providers") {
		own := blocks(good, provider)
		for _, word := range options(t, provider) {
			line := regexp.MustCompile(`(?m)^\t{3}` + word + `\b`)
			if !line.MatchString(own) {
				t.Errorf("no golden file in testdata has a line '%s …' in a block of %s", word, provider)
			}
			if !line.MatchString(bad) {
				t.Errorf("no golden file in testdata/errors has a line '%s …'", word)
			}
		}
	}
}

func TestEveryStoreHasGoldenFiles(t *testing.T) {
	for _, dir := range []string{"testdata", "testdata/errors", "testdata/refused"} {
		all := golden.Caddyfiles(t, dir)
		for _, store := range names(t, "login.stores") {
			if !regexp.MustCompile(`(?m)^\t+store ` + store + `\b`).MatchString(all) {
				t.Errorf("no golden file in %s has a line 'store %s …'", dir, store)
			}
		}
	}
}

// names are the guests of one kind in this build.
func names(t *testing.T, namespace string) (names []string) {
	for _, info := range caddy.GetModules(namespace) {
		names = append(names, info.ID.Name())
	}
	if len(names) == 0 {
		t.Fatalf("no guests in %s", namespace)
	}
	return names
}

// options are the words of a provider's block, as its error lists them.
func options(t *testing.T, provider string) []string {
	var err error
	for _, arguments := range []string{"a b", ""} {
		_, err = golden.Adapt("app.example.com {\n\tlogin {\n\t\t" + provider + " " + arguments + " {\n\t\t\tnonsense\n\t\t}\n\t}\n}\n")
		found := regexp.MustCompile(`unknown option 'nonsense' \(options: (.+)\)`).FindStringSubmatch(fmt.Sprint(err))
		if found != nil {
			return strings.Split(found[1], ", ")
		}
	}
	t.Fatalf("%s does not list its options: %v", provider, err)
	return nil
}

// blocks are what stands in a provider's blocks, one level below login.
func blocks(caddyfiles, provider string) string {
	found := regexp.MustCompile(`(?ms)^\t\t`+provider+`\b[^\n]* {\n(.*?)^\t\t}`).FindAllString(caddyfiles, -1)
	return strings.Join(found, "")
}
