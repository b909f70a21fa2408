package badger

import (
	"context"
	"log/slog"
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
