package badger

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

func TestStoreTellsHowMuchRoomThereIs(t *testing.T) {
	dir := t.TempDir()
	opened, err := open(dir, guest.Env{Now: time.Now, Log: slog.New(slog.DiscardHandler)}, freeSpace)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = opened.Close() })
	err = opened.Update(context.Background(), func(tx guest.Tx) error {
		return tx.Put([]byte("key"), []byte("value"), time.Time{})
	})
	if err != nil {
		t.Fatal(err)
	}
	got, taken, free, err := opened.(*store).Space()
	if err != nil || got != dir || taken <= 0 || free <= 0 {
		t.Errorf("%s, %d, %d, %v", got, taken, free, err)
	}
}

// What a Restore replaced lies there, too, until the next one.
func TestSpaceCountsWhatWasReplaced(t *testing.T) {
	s := tempStore(t)
	_, before, _, err := s.Space()
	if err != nil {
		t.Fatal(err)
	}
	const size = 3 << 20
	if err := os.MkdirAll(s.files.path(beforeRestore), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.files.path(beforeRestore), "000001.vlog"), bytes.Repeat([]byte("x"), size), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, after, _, err := s.Space(); err != nil || after < before+size {
		t.Errorf("%d bytes before, %d after: %v", before, after, err)
	}
}
