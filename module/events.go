package module

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-login/caddy-login/module/activity"
	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/session"
)

// signedIn tells the log, the metrics and the operator's events, once.
func (a *App) signedIn(r *http.Request, provider string, s *session.Session, admitted identity.Admitted) {
	countLogin(provider, "succeeded")
	user := &admitted.Person.User
	a.log.Info("signed in",
		zap.String("provider", provider),
		zap.String("user_id", string(user.ID)),
		zap.Bool("new_user", admitted.Created),
		zap.String("decision", admitted.Row),
		zap.String("session", s.Handle),
		zap.String("request_id", requestID(r)))
	if admitted.Do == identity.Link || admitted.Do == identity.Claim {
		a.emitLinked(provider, s, admitted, requestID(r))
	}
	a.events.Emit(a.ctx, "login_succeeded", map[string]any{
		"provider": provider, "user_id": string(user.ID), "new_user": admitted.Created,
		"decision": admitted.Row, "session": s.Handle, "request_id": requestID(r),
	})
}

// linked tells of an account that was connected to who is signed in.
func (a *App) linked(r *http.Request, provider string, s *session.Session, admitted identity.Admitted) {
	countLogin(provider, "linked")
	a.log.Info("account connected",
		zap.String("provider", provider),
		zap.String("user_id", string(s.User)),
		zap.String("decision", admitted.Row),
		zap.String("session", s.Handle),
		zap.String("request_id", requestID(r)))
	a.emitLinked(provider, s, admitted, requestID(r))
}

func (a *App) emitLinked(provider string, s *session.Session, admitted identity.Admitted, id string) {
	a.events.Emit(a.ctx, "login_linked", map[string]any{
		"provider": provider, "user_id": string(s.User), "decision": admitted.Row, "session": s.Handle, "request_id": id,
	})
}

// declined tells of a sign-in whose person said no to a question.
func (a *App) declined(r *http.Request, provider string) {
	countLogin(provider, "declined")
	a.log.Info("sign-in declined", zap.String("provider", provider), zap.String("request_id", requestID(r)))
	a.events.Emit(a.ctx, "login_failed", map[string]any{
		"provider": provider, "outcome": "declined", "request_id": requestID(r),
	})
}

// changed tells of a change that a person made to their account.
func (a *App) changed(r *http.Request, user identity.UserID, e activity.Entry) {
	a.log.Info("account changed",
		zap.String("what", string(e.What)),
		zap.String("provider", e.Provider),
		zap.String("user_id", string(user)),
		zap.String("request_id", requestID(r)))
	a.events.Emit(a.ctx, "account_changed", map[string]any{
		"what": string(e.What), "provider": e.Provider, "user_id": string(user), "request_id": requestID(r),
	})
}

// erased tells of a user who is no more.
func (a *App) erased(user identity.UserID) {
	a.log.Info("account erased", zap.String("user_id", string(user)))
	a.events.Emit(a.ctx, "user_deleted", map[string]any{"user_id": string(user)})
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

// reused tells of a session that ended because its refresh token came twice.
func (a *App) reused(r *http.Request, s *session.Session) {
	a.log.Warn("a refresh token came twice; its session was ended",
		zap.String("user_id", string(s.User)),
		zap.String("session", s.Handle),
		zap.String("request_id", requestID(r)))
	a.events.Emit(a.ctx, "session_ended", map[string]any{
		"user_id": string(s.User), "session": s.Handle, "reason": "token_reuse", "request_id": requestID(r),
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
	if err := a.noteEnd(s); err != nil {
		a.complain(fmt.Errorf("writing activity: %w", err), "")
	}
}

// noteEnd writes into somebody's activity that a provider signed them out.
func (a *App) noteEnd(s *session.Session) error {
	house, err := a.door.enter()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return house.store.Update(ctx, func(tx guest.Tx) error {
		return activity.Write(tx, s.User, activity.Entry{
			At: time.Now(), What: activity.SessionsEnded, Provider: s.Provider, Session: s.Handle,
		})
	})
}

// notMailed tells why a mail was not sent, or that its reader had not asked for
// it. Its address is nobody's business.
func (a *App) notMailed(why, id string) {
	a.log.Info("code not mailed", zap.String("reason", why), zap.String("request_id", id))
}

// wrongCode tells of one attempt that failed and need not be the last.
func (a *App) wrongCode(provider, id string) {
	countLogin(provider, "wrong_code")
	a.log.Info("wrong code", zap.String("provider", provider), zap.String("request_id", id))
}

// complain tells of something of ours that failed, whatever the request was.
func (a *App) complain(err error, id string) {
	a.log.Error("request refused", zap.Error(err), zap.String("request_id", id))
}
