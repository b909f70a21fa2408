package module

import (
	"context"
	"log/slog"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap/exp/zapslog"
)

// caddySlog logs to whatever Caddy's default log is at that moment: what
// outlives a config must not hold on to its log.
type caddySlog struct {
	shape func(slog.Handler) slog.Handler
}

func (c caddySlog) handler() slog.Handler {
	var h slog.Handler = zapslog.NewHandler(caddy.Log().Core(), zapslog.WithName("login"), zapslog.AddStacktraceAt(slog.Level(127)))
	if c.shape != nil {
		h = c.shape(h)
	}
	return h
}

// Enabled implements slog.Handler.
func (c caddySlog) Enabled(ctx context.Context, level slog.Level) bool {
	return c.handler().Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (c caddySlog) Handle(ctx context.Context, record slog.Record) error {
	return c.handler().Handle(ctx, record)
}

// WithAttrs implements slog.Handler.
func (c caddySlog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return c.then(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

// WithGroup implements slog.Handler.
func (c caddySlog) WithGroup(name string) slog.Handler {
	return c.then(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

func (c caddySlog) then(next func(slog.Handler) slog.Handler) slog.Handler {
	return caddySlog{shape: func(h slog.Handler) slog.Handler {
		if c.shape != nil {
			h = c.shape(h)
		}
		return next(h)
	}}
}
