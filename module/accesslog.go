package module

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// accessLog writes the access log's line for the requests whose address or
// answer holds a code or a state: Caddy's own line would show it. It goes to
// the same logs, under the same conditions, with the query taken out.
type accessLog struct{ log *zap.Logger }

func newAccessLog(ctx caddy.Context) *accessLog {
	return &accessLog{log: ctx.Logger(caddyhttp.App{}).Named("log.access")}
}

// around runs serve with Caddy's own line off and ours in its place. path is
// what the line shows of the address.
func (l *accessLog) around(w http.ResponseWriter, r *http.Request, path string, serve func(http.ResponseWriter) error) error {
	caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, true)
	loggers := l.loggers(r)
	if len(loggers) == 0 {
		return serve(w)
	}
	began := time.Now()
	recorder := caddyhttp.NewResponseRecorder(w, nil, nil)
	err := serve(recorder)
	fields := []zap.Field{
		zap.Object("request", caddyhttp.LoggableHTTPRequest{Request: shown(r, path)}),
		zap.Duration("duration", time.Since(began)),
		zap.Int("size", recorder.Size()),
		zap.Int("status", recorder.Status()),
		zap.String("request_id", requestID(r)),
	}
	for _, logger := range loggers {
		if entry := logger.Check(zapcore.InfoLevel, "handled request"); entry != nil {
			entry.Write(fields...)
		}
	}
	return err
}

// shown is the request as a log may show it.
func shown(r *http.Request, path string) *http.Request {
	shown := *r
	shown.Header = r.Header.Clone()
	// A page that was opened with a code in its address may be the referrer.
	shown.Header.Del("Referer")
	shown.RequestURI = path
	if original(r).RawQuery != "" {
		shown.RequestURI += "?[redacted]"
	}
	shown.URL = &url.URL{Path: shown.RequestURI}
	return &shown
}

// loggers are those that Caddy would have written to: see
// caddyhttp.ServerLogConfig. None where access logs are off for this host.
func (l *accessLog) loggers(r *http.Request) []*zap.Logger {
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || server.Logs == nil {
		return nil
	}
	if names, ok := caddyhttp.GetVar(r.Context(), caddyhttp.AccessLoggerNameVarKey).([]any); ok {
		return l.named(names)
	}
	return l.named(namesFor(server.Logs, strings.ToLower(hostOf(r.Host))))
}

// namesFor is which logs a host's requests go to; none for one that is not
// logged.
func namesFor(logs *caddyhttp.ServerLogConfig, host string) []any {
	for pattern, names := range logs.LoggerNames {
		if certmagic.MatchWildcard(host, pattern) {
			return toAny(names)
		}
	}
	for _, pattern := range logs.SkipHosts {
		if certmagic.MatchWildcard(host, pattern) {
			return nil
		}
	}
	if logs.SkipUnmappedHosts {
		return nil
	}
	return []any{logs.DefaultLoggerName}
}

func toAny(names []string) []any {
	all := make([]any, len(names))
	for i, name := range names {
		all[i] = name
	}
	return all
}

func (l *accessLog) named(names []any) []*zap.Logger {
	loggers := make([]*zap.Logger, 0, len(names))
	for _, name := range names {
		logger := l.log
		if s, ok := name.(string); ok && s != "" {
			logger = logger.Named(s)
		}
		loggers = append(loggers, logger)
	}
	return loggers
}
