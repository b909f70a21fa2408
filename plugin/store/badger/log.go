package badger

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// logger takes Badger's messages. Keys hold addresses and session hashes, and
// Badger writes keys, as text, bytes and hex dumps, into several: so of a
// message's arguments only numbers, durations and errors are kept, and its
// debug messages, which say little else, are dropped.
type logger struct{ log *slog.Logger }

func (l logger) Errorf(format string, args ...any)   { l.say(slog.LevelError, format, args) }
func (l logger) Warningf(format string, args ...any) { l.say(slog.LevelWarn, format, args) }

// Infof logs at debug: what Badger finds worth telling, operators do not.
func (l logger) Infof(format string, args ...any) { l.say(slog.LevelDebug, format, args) }
func (l logger) Debugf(string, ...any)            {}

func (l logger) say(level slog.Level, format string, args []any) {
	if !l.log.Enabled(context.Background(), level) {
		return
	}
	shown := make([]any, len(args))
	for i, arg := range args {
		shown[i] = harmless(arg)
	}
	message := fmt.Sprintf(format, shown...)
	l.log.Log(context.Background(), level, "badger: "+strings.TrimSpace(message))
}

// harmless is arg where it cannot hold a key or value, and a hidden elsewhere.
func harmless(arg any) any {
	switch arg.(type) {
	case int, int32, int64, uint, uint32, uint64, float64, bool, time.Duration, error:
		return arg
	default:
		return hidden{}
	}
}

// hidden prints as a mark under every verb.
type hidden struct{}

func (hidden) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[…]")) }
