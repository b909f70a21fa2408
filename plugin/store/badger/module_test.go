package badger

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func TestCaddyfileIsReadExactly(t *testing.T) {
	for _, row := range []struct{ in, dir, err string }{
		{in: "badger"},
		{in: "badger {\n}"},
		{in: "badger /srv/login", dir: "/srv/login"},
		{in: "badger {env.DIR}/login", dir: "{env.DIR}/login"},
		{in: "badger /a /b", err: "wrong argument count"},
		{in: `badger ""`, err: "is empty"},
		{in: "badger {\n\tsync off\n}", err: "unknown option 'sync'"},
		{in: "badger /a {\n\tdir /b\n}", err: "write: badger [<dir>]"},
	} {
		var s Store
		err := s.UnmarshalCaddyfile(caddyfile.NewTestDispenser(row.in))
		if row.err == "" && (err != nil || s.Dir != row.dir) {
			t.Errorf("%q: dir %q, error %v; want dir %q", row.in, s.Dir, err, row.dir)
		}
		if row.err != "" && (err == nil || !strings.Contains(err.Error(), row.err)) {
			t.Errorf("%q: error %v, want %q", row.in, err, row.err)
		}
		if row.err != "" && err != nil && !strings.Contains(err.Error(), "Testfile:") {
			t.Errorf("%q: error %q does not name the line", row.in, err)
		}
	}
}

func TestModuleIsRegistered(t *testing.T) {
	info, err := caddy.GetModule("login.stores.badger")
	if err != nil {
		t.Fatal(err)
	}
	s := info.New().(*Store)
	if err := json.Unmarshal([]byte(`{"dir":"/srv/login"}`), s); err != nil || s.Dir != "/srv/login" {
		t.Errorf("dir from JSON is %q (error: %v)", s.Dir, err)
	}
}

func TestKeyIsTheCleanedPlace(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", "/data")
	t.Setenv("LOGIN_DIR", "/srv/from-env")
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		"":                  "/data/caddy/login",
		"/srv//login/../x/": "/srv/x",
		"relative":          filepath.Join(here, "relative"),
		"{env.LOGIN_DIR}":   "/srv/from-env",
	} {
		s := &Store{Dir: dir}
		if err := s.Provision(caddy.Context{}); err != nil {
			t.Fatal(err)
		}
		if s.Key() != "badger:"+want {
			t.Errorf("Key of %q is %q, want badger:%s", dir, s.Key(), want)
		}
	}
}

// An unset variable must not begin a new, empty store at the default place.
func TestUnsetVariableIsAnError(t *testing.T) {
	for _, dir := range []string{"{env.LOGIN_SURELY_UNSET}", "{login.no.such.placeholder}/x"} {
		if err := (&Store{Dir: dir}).Provision(caddy.Context{}); err == nil {
			t.Errorf("dir %q is no error", dir)
		}
	}
}

func TestProvisionTouchesNoDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "login")
	s := &Store{Dir: dir}
	if err := s.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("Provision made %s", dir)
	}
	open, err := s.Open(quiet())
	if err != nil {
		t.Fatal(err)
	}
	if err := open.Close(); err != nil {
		t.Error(err)
	}
}
