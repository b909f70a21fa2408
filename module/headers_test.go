package module

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-login/caddy-login/module/header"
	"github.com/caddy-login/caddy-login/module/policy"
)

// ada has everything that a preset can tell, and what no header can carry.
func ada() *known {
	k := blank()
	k.visitor = policy.Visitor{
		UserID: "mfrggzdfmztwq2lknnwg23tp", Email: "ada@example.com", Provider: "google",
		Groups: []string{"staff", "math,admins", "Zürich"}, Roles: []string{"editor", "100%"},
	}
	k.handle, k.name, k.account = "h1", "Ada Lovélace", "100000000000000000001"
	return k
}

// somebody signed in without telling more than an account.
func somebody() *known {
	k := blank()
	k.visitor = policy.Visitor{UserID: "pfxhg5dfnzxgk4tfonzwc3tt", Provider: "github"}
	k.account = "100000000000000000001"
	return k
}

// told is what an app receives of k, one value for each header.
func told(t *testing.T, h Headers, k *known) map[string]string {
	t.Helper()
	fields, err := h.fields()
	if err != nil {
		t.Fatal(err)
	}
	block := header.NewNames(names(fields)...).Block(k.render(fields)...)
	got := map[string]string{}
	for _, f := range block.Fields() {
		if _, twice := got[f.Name]; twice {
			t.Errorf("%s is sent twice", f.Name)
		}
		got[f.Name] = f.Value
	}
	return got
}

func wantTold(t *testing.T, h Headers, k *known, want map[string]string) {
	t.Helper()
	if got := told(t, h, k); !maps.Equal(got, want) {
		t.Errorf("presets %q, own %v:\n got %q\nwant %q", h.Presets, h.Set, got, want)
	}
}

const (
	adasGroups = "staff,math%2Cadmins,Z%C3%BCrich"
	adasName   = "Ada Lov%C3%A9lace"
)

func TestPresetsTellAnAppWhatTheirGateWould(t *testing.T) {
	for preset, want := range map[string]map[string]string{
		"remote": {
			"Remote-User": "mfrggzdfmztwq2lknnwg23tp", "Remote-Email": "ada@example.com", "Remote-Name": adasName,
			"Remote-Groups": adasGroups, "Remote-Roles": "editor,100%25",
		},
		"authelia": {
			"Remote-User": "ada@example.com", "Remote-Email": "ada@example.com", "Remote-Name": adasName, "Remote-Groups": adasGroups,
		},
		"oauth2-proxy": {
			"X-Forwarded-User": "mfrggzdfmztwq2lknnwg23tp", "X-Forwarded-Email": "ada@example.com",
			"X-Forwarded-Groups": adasGroups, "X-Forwarded-Preferred-Username": "ada@example.com",
		},
		"pomerium": {
			"X-Pomerium-Claim-Sub": "mfrggzdfmztwq2lknnwg23tp", "X-Pomerium-Claim-User": "mfrggzdfmztwq2lknnwg23tp",
			"X-Pomerium-Claim-Email": "ada@example.com", "X-Pomerium-Claim-Name": adasName, "X-Pomerium-Claim-Groups": adasGroups,
		},
		"cloudflare": {"Cf-Access-Authenticated-User-Email": "ada@example.com"},
		"iap": {
			"X-Goog-Authenticated-User-Email": "accounts.google.com:ada@example.com",
			"X-Goog-Authenticated-User-Id":    "accounts.google.com:mfrggzdfmztwq2lknnwg23tp",
		},
	} {
		wantTold(t, Headers{Presets: []string{preset}}, ada(), want)
	}
}

// Whoever has no proven address, no name and no group is told by ID alone, and
// nothing is sent empty, a prefix alone least of all.
func TestPresetsLeaveOutWhatIsNotKnown(t *testing.T) {
	const id = "pfxhg5dfnzxgk4tfonzwc3tt"
	for preset, want := range map[string]map[string]string{
		"remote":       {"Remote-User": id},
		"authelia":     {"Remote-User": id},
		"oauth2-proxy": {"X-Forwarded-User": id, "X-Forwarded-Preferred-Username": id},
		"pomerium":     {"X-Pomerium-Claim-Sub": id, "X-Pomerium-Claim-User": id},
		"cloudflare":   {},
		"iap":          {"X-Goog-Authenticated-User-Id": "accounts.google.com:" + id},
	} {
		wantTold(t, Headers{Presets: []string{preset}}, somebody(), want)
	}
}

func TestPresetsAreThoseOfTheContract(t *testing.T) {
	want := []string{"authelia", "cloudflare", "iap", "oauth2-proxy", "pomerium", "remote"}
	if got := PresetNames(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// Whatever a preset may write, chosen or not, no client may say.
func TestNoClientSpeaksForAPreset(t *testing.T) {
	guard, err := header.NewGuard()
	if err != nil {
		t.Fatal(err)
	}
	all := []string{"Remote-Assertion", "X-Pomerium-Jwt-Assertion", "Cf-Access-Jwt-Assertion", "X-Goog-IAP-JWT-Assertion"}
	for _, preset := range presets {
		all = append(all, names(preset)...)
	}
	for _, name := range all {
		for _, spelled := range []string{name, strings.ToLower(name), strings.ToUpper(name), strings.ReplaceAll(name, "-", "_"), strings.ReplaceAll(name, "-", ".")} {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Header[spelled] = []string{"forged"}
			if guard.Strip(r); len(r.Header) > 0 {
				t.Errorf("%s got through as %s", name, spelled)
			}
		}
	}
}

// What another proxy would be told is not for the app behind this one.
func TestHeadersForAProxyThatAsksStayOutOfRequests(t *testing.T) {
	seen := 0
	for name, preset := range presets {
		got := told(t, Headers{Presets: []string{name}}, ada())
		for _, f := range preset {
			if f.kind != forCheck {
				continue
			}
			seen++
			if value, sent := got[f.name]; sent {
				t.Errorf("%s sends %s: %s", name, f.name, value)
			}
		}
	}
	if seen == 0 {
		t.Error("no preset has such a header: is this looking in the right place?")
	}
}

func TestSeveralPresetsAtOnce(t *testing.T) {
	all := Headers{Presets: []string{"remote", "oauth2-proxy", "pomerium", "cloudflare", "iap"}}
	if got := told(t, all, ada()); len(got) != 5+4+5+1+2 || CheckHeaders(&all) != nil {
		t.Errorf("%q, %v", got, CheckHeaders(&all))
	}
}

func TestPresetsThatDisagreeAreRefusedWithTheCure(t *testing.T) {
	_, err := (&Headers{Presets: []string{"remote", "authelia"}}).fields()
	if err == nil || !strings.Contains(err.Error(), "remote and authelia disagree on Remote-User ({id} or {username})") ||
		!strings.HasSuffix(err.Error(), ": Remote-User {id}") {
		t.Fatalf("%v", err)
	}
	// The cure, as it is told; what they agree on is sent once.
	wantTold(t, Headers{Presets: []string{"remote", "authelia"}, Set: map[string]string{"Remote-User": "{id}"}}, ada(),
		told(t, Headers{Presets: []string{"remote"}}, ada()))
}

// An app that knew people by the provider's own names keeps them.
func TestOwnHeaderReplacesAPresets(t *testing.T) {
	want := told(t, Headers{Presets: []string{"oauth2-proxy"}}, ada())
	want["X-Forwarded-User"] = "100000000000000000001"
	wantTold(t, Headers{Presets: []string{"oauth2-proxy"}, Set: map[string]string{"X-Forwarded-User": "{subject:google}"}}, ada(), want)

	// In another spelling, too: a server that folds them would see both.
	delete(want, "X-Forwarded-User")
	want["X_forwarded_user"] = "ada@example.com"
	wantTold(t, Headers{Presets: []string{"oauth2-proxy"}, Set: map[string]string{"x_forwarded_user": "{email}"}}, ada(), want)

	// It replaces even for those of whom it says nothing: the preset's value
	// would name another person to the app.
	delete(want, "X_forwarded_user")
	got := told(t, Headers{Presets: []string{"oauth2-proxy"}, Set: map[string]string{"X-Forwarded-User": "{subject:google}"}}, somebody())
	if value, sent := got["X-Forwarded-User"]; sent {
		t.Errorf("X-Forwarded-User: %s", value)
	}
}

func TestOneHeaderInTwoSpellingsIsRefused(t *testing.T) {
	for _, set := range []map[string]string{
		{"X-User": "{id}", "x-user": "{email}"}, {"X-User": "{id}", "X_USER": "{id}"}, {"X.User": "{id}", "X-User": "{id}"},
	} {
		if _, err := (&Headers{Set: set}).fields(); err == nil || !strings.Contains(err.Error(), "write one of them") {
			t.Errorf("%v: %v", set, err)
		}
	}
}

// Two providers may give one name to two people. Who came in by another than
// the one that the operator named is not told by its name.
func TestSubjectIsToldOfTheNamedProviderAlone(t *testing.T) {
	value, err := parseTemplate("{subject:google}")
	if err != nil {
		t.Fatal(err)
	}
	if got := value(ada()); got != "100000000000000000001" {
		t.Errorf("Ada is %q", got)
	}
	if got := value(somebody()); got != "" {
		t.Errorf("who came in by GitHub is %q", got)
	}
	for _, bad := range []string{"{subject}", "{subject:}", "{subject:Google}", "{subject:go ogle}", "{subject:google", "{Subject:google}"} {
		if _, err := parseTemplate(bad); err == nil || !strings.Contains(err.Error(), "{subject:<provider>}") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// A display name is its bearer's choice: nobody may become another by it.
func TestUsernameIsNeverTheDisplayName(t *testing.T) {
	mallory := somebody()
	mallory.name = "ada@example.com"
	value, err := parseTemplate("{username}")
	if err != nil {
		t.Fatal(err)
	}
	if got := value(mallory); got != mallory.visitor.UserID {
		t.Errorf("Mallory is %q", got)
	}
	if got := value(ada()); got != "ada@example.com" {
		t.Errorf("Ada is %q", got)
	}
}

func TestUnknownPresetIsRefusedWithTheKnown(t *testing.T) {
	for _, name := range []string{"", "Remote", "oauth2proxy", "remote "} {
		err := CheckHeaders(&Headers{Presets: []string{name}})
		if err == nil || !strings.Contains(err.Error(), "(presets: authelia, cloudflare, iap, oauth2-proxy, pomerium, remote)") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestSubjectOfAProviderThatIsNotOfferedIsRefused(t *testing.T) {
	for template, cure := range map[string]string{
		"{subject:google}": "", "{id}": "", "": "",
		"{subject:gogle}":                    "header X-User: {subject:gogle}: this site offers google, corp",
		"{subject:corp}:x-{subject:google2}": "{subject:google2}: this site offers google, corp",
	} {
		err := checkSubjects([]field{{name: "X-User", template: template}}, []string{"google", "corp"})
		if (err == nil) != (cure == "") || err != nil && !strings.Contains(err.Error(), cure) {
			t.Errorf("%s: %v", template, err)
		}
	}
}
