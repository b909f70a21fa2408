package module

import (
	"net/http"

	"go.uber.org/zap"

	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/session"
)

// signedIn tells the log, the metrics and the operator's events, once.
func (a *App) signedIn(r *http.Request, provider string, s *session.Session, admitted identity.Admitted) {
	logins.WithLabelValues(provider, "succeeded").Inc()
	user := &admitted.Person.User
	a.log.Info("signed in",
		zap.String("provider", provider),
		zap.String("user_id", string(user.ID)),
		zap.Bool("new_user", admitted.Created),
		zap.String("decision", admitted.Row),
		zap.String("session", s.Handle),
		zap.String("request_id", requestID(r)))
	a.events.Emit(a.ctx, "login_succeeded", map[string]any{
		"provider": provider, "user_id": string(user.ID), "new_user": admitted.Created,
		"decision": admitted.Row, "session": s.Handle, "request_id": requestID(r),
	})
}

// notSignedIn tells of a sign-in that was under way and came to nothing, or of
// something of ours that failed before there was one.
func (a *App) notSignedIn(provider string, t trouble, id string) {
	if t.outcome == "" {
		a.complain(t.err, id)
		return
	}
	a.log.Warn("sign-in failed",
		zap.String("provider", provider),
		zap.String("outcome", t.outcome),
		zap.String("decision", t.row),
		zap.String("request_id", id),
		zap.Error(t.err))
	a.events.Emit(a.ctx, "login_failed", map[string]any{
		"provider": provider, "outcome": t.outcome, "decision": t.row, "request_id": id,
	})
}

// ended tells of a session that ended, and why: signed_out, or replaced by
// another sign-in in the same browser.
func (a *App) ended(r *http.Request, live *session.Live, reason string) {
	if reason == "signed_out" {
		a.log.Info("signed out",
			zap.String("user_id", string(live.User)),
			zap.String("session", live.Handle),
			zap.String("request_id", requestID(r)))
	}
	a.events.Emit(a.ctx, "session_ended", map[string]any{
		"user_id": string(live.User), "session": live.Handle, "reason": reason, "request_id": requestID(r),
	})
}

// endedElsewhere tells of a session that ended because the provider said so.
func (a *App) endedElsewhere(s *session.Session, reason string, why error) {
	a.log.Info("signed out by the provider",
		zap.String("provider", s.Provider),
		zap.String("user_id", string(s.User)),
		zap.String("session", s.Handle),
		zap.String("reason", reason),
		zap.Error(why))
	a.events.Emit(a.ctx, "session_ended", map[string]any{
		"user_id": string(s.User), "session": s.Handle, "reason": reason,
	})
}

// notMailed tells why a mail was not sent, or that its reader had not asked for
// it. Its address is nobody's business.
func (a *App) notMailed(why, id string) {
	a.log.Info("code not mailed", zap.String("reason", why), zap.String("request_id", id))
}

// wrongCode tells of one attempt that failed and need not be the last.
func (a *App) wrongCode(provider, id string) {
	logins.WithLabelValues(provider, "wrong_code").Inc()
	a.log.Info("wrong code", zap.String("provider", provider), zap.String("request_id", id))
}

// complain tells of something of ours that failed, whatever the request was.
func (a *App) complain(err error, id string) {
	a.log.Error("request refused", zap.Error(err), zap.String("request_id", id))
}
