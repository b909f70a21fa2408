// Package badger keeps the house's records in Badger, a key-value store in a
// directory of its own: nothing to install, nothing to run beside Caddy.
package badger

import (
	"fmt"
	"path/filepath"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-login/caddy-login/module/guest"
)

func init() {
	caddy.RegisterModule(new(Store))
}

// Store keeps users, sessions and codes in a directory on this machine.
//
// One process at a time holds the directory. Everything that was answered as
// done survives a kill and a power cut. It needs about 24 MiB of disk when
// empty; on an all but full disk it refuses sign-ins and goes on reading. A
// restore needs room for both, and leaves what it replaced in `before-restore`
// within the directory, until the next one: remove it where it is no longer
// wanted.
type Store struct {
	// The directory, for this store alone; made with mode 0700 where it does
	// not exist. It must be on a local disk, not on NFS or SMB. Placeholders
	// such as {env.X} are replaced. Default: `login` below Caddy's data
	// directory.
	Dir string `json:"dir,omitempty"`

	dir string // absolute; set by Provision
}

// CaddyModule is the module's entry in Caddy's register.
func (*Store) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "login.stores.badger",
		New: func() caddy.Module { return new(Store) },
	}
}

// Provision settles which directory is meant. It touches nothing on disk, so
// that `caddy validate` works beside a running Caddy.
func (s *Store) Provision(caddy.Context) error {
	dir, err := s.place()
	if err != nil {
		return err
	}
	s.dir = dir
	return nil
}

// place is the absolute directory. A placeholder that comes out empty is a
// mistake, never the default: data would silently begin anew elsewhere.
func (s *Store) place() (string, error) {
	if s.Dir == "" {
		return absolute(filepath.Join(caddy.AppDataDir(), "login"))
	}
	dir, err := caddy.NewReplacer().ReplaceOrErr(s.Dir, true, true)
	if err != nil {
		return "", fmt.Errorf("reading dir of the badger store: %w", err)
	}
	return absolute(dir)
}

func absolute(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("making the store's directory absolute: %w", err)
	}
	return abs, nil
}

// Key names the directory, which only one open store can hold.
func (s *Store) Key() string { return "badger:" + s.dir }

// Open opens the store, and makes its directory where there is none. Errors
// are guest.ErrLocked, guest.ErrNewer and guest.ErrFull, wrapped with the
// directory, or say what to change.
func (s *Store) Open(env guest.Env) (guest.Store, error) {
	return open(s.dir, env, freeSpace)
}

// UnmarshalCaddyfile reads
//
//	badger [<dir>]
func (s *Store) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the name
	if d.NextArg() {
		s.Dir = d.Val()
		if s.Dir == "" {
			return d.Err("the directory of 'badger' is empty: write a path, or nothing for the default (is a variable unset?)")
		}
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	if d.NextBlock(0) {
		return d.Errf("unknown option '%s' ('badger' has none; write: badger [<dir>])", d.Val())
	}
	return nil
}

var (
	_ caddy.Module          = (*Store)(nil)
	_ caddy.Provisioner     = (*Store)(nil)
	_ caddyfile.Unmarshaler = (*Store)(nil)
	_ guest.StoreModule     = (*Store)(nil)
)
