package smtp

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/logintest/inbox"
)

func TestCheckGoesAsFarAsAMailAndSendsNone(t *testing.T) {
	box := inbox.Options{Username: "login", Password: "the password"}.New(t)
	m := mailer(t, box, func(m *Mailer) { m.Username, m.Password = "login", guest.Secret("the password") })
	if err := m.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if box.Connections() != 1 || box.Waiting() != 0 {
		t.Errorf("%d connections, %d mails", box.Connections(), box.Waiting())
	}
	wrong := mailer(t, box, func(m *Mailer) { m.Username, m.Password = "login", guest.Secret("another password") })
	err := wrong.Check(t.Context())
	if err == nil || !strings.Contains(err.Error(), "authenticating") || strings.Contains(err.Error(), "another password") {
		t.Errorf("a wrong password: %v", err)
	}
}

func TestCheckOfADeadOrSilentServerFails(t *testing.T) {
	box := inbox.New(t)
	dead := mailer(t, box, func(m *Mailer) { m.Address = "127.0.0.1:1" })
	if err := dead.Check(t.Context()); err == nil {
		t.Error("a dead server is well")
	}
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if err := mailer(t, box, nil).Check(ctx); err == nil {
		t.Error("it was checked without time for it")
	}
	if err := new(Mailer).Check(t.Context()); err == nil {
		t.Error("a mailer that is not open is well")
	}
}
