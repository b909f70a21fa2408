package badger

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

// lines collects a log.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func TestLogHoldsNoKeysAndNoValues(t *testing.T) {
	out := &lines{}
	env := quiet()
	env.Log = slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	dir := t.TempDir()
	for range 2 {
		s := openWith(t, dir, env)
		for first := 0; first < 20_000; first += 1000 {
			err := s.Update(context.Background(), func(tx guest.Tx) error {
				for i := first; i < first+1000; i++ {
					if err := tx.Put(fmt.Appendf(nil, "classified-%d", i), []byte("confidential"), time.Time{}); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(s.db.Flatten(1), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	said := out.String()
	if !strings.Contains(said, "badger: ") {
		t.Error("Badger's messages did not reach the log")
	}
	for _, secret := range []string{"classified", "confidential"} {
		if strings.Contains(said, secret) || strings.Contains(said, hex.EncodeToString([]byte(secret))) {
			t.Errorf("the log tells %q", secret)
		}
	}
}

func TestLogHidesWhatMightBeAKey(t *testing.T) {
	out := &lines{}
	l := logger{slog.New(slog.NewTextHandler(out, nil))}
	l.Errorf("%q %x %s %+v %d %v\n", []byte("secret"), "secret", "secret", struct{ k []byte }{[]byte("secret")}, 7, errors.New("no space"))
	l.Infof("quiet")
	said := out.String()
	if strings.Contains(said, "secret") || strings.Contains(said, "736563") || strings.Contains(said, "115") {
		t.Errorf("the log tells a key: %s", said)
	}
	if !strings.Contains(said, "level=ERROR") || !strings.Contains(said, "7 no space") {
		t.Errorf("the log lost what it may tell: %s", said)
	}
	if strings.Contains(said, "quiet") {
		t.Error("Badger's information is logged above debug")
	}
}
