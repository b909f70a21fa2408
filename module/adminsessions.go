package module

import (
	"context"
	"encoding/base32"
	"errors"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-login/caddy-login/module/activity"
	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/session"
)

// sessionView is a live session. Nothing in it gets anybody in.
type sessionView struct {
	Handle   string          `json:"handle"`           // its public name
	User     identity.UserID `json:"user"`             // whose it is
	Scope    string          `json:"scope"`            // the host, or the domain after a dot
	Device   string          `json:"device,omitempty"` // what the browser says that it is
	Provider string          `json:"provider"`         // by which they came in
	Began    time.Time       `json:"began"`            // when they came in
	Seen     time.Time       `json:"seen"`             // when it was last used, to the minute
	Expires  time.Time       `json:"expires"`          // when it ends however much it is used
}

func sessionViews(sessions []session.Session) []sessionView {
	views := make([]sessionView, 0, len(sessions))
	for _, s := range sessions {
		views = append(views, sessionView{
			Handle: s.Handle, User: s.User, Scope: s.Scope, Device: s.Device, Provider: s.Provider,
			Began: s.Created, Seen: s.Seen, Expires: s.Expires,
		})
	}
	return views
}

// sessionPage is the answer of a list of sessions.
type sessionPage struct {
	Sessions []sessionView `json:"sessions"` // in no order that means anything
	// Next is what to ask for `after` to go on, also where this page is empty;
	// empty at the end.
	Next string `json:"next,omitempty"`
}

// sessions lists those of everybody, or of one user.
func (d *desk) sessions() (any, error) {
	params, err := d.query("after", "limit", "user")
	if err != nil {
		return nil, err
	}
	house, err := d.enter()
	if err != nil {
		return nil, err
	}
	if params.Has("user") {
		if params.Has("after") || params.Has("limit") {
			return nil, badRequest("after and limit go with the sessions of all, not of one user")
		}
		sessions, err := house.sessions.OfUser(d.r.Context(), identity.UserID(params.Get("user")))
		return sessionPage{Sessions: sessionViews(sessions)}, err
	}
	limit, err := limitOf(params)
	if err != nil {
		return nil, err
	}
	after, err := keyAfter(params.Get("after"))
	if err != nil {
		return nil, err
	}
	sessions, next, err := house.sessions.List(d.r.Context(), after, limit)
	return sessionPage{Sessions: sessionViews(sessions), Next: mark(next)}, err
}

// handles is how session.Key.Handle spells the beginning of a key.
var handles = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// mark is a place in the list of all sessions: the last one's handle. Two keys
// that agree so far are not met with.
func mark(key session.Key) string {
	if key == (session.Key{}) {
		return ""
	}
	return key.Handle()
}

// keyAfter is the last key that a mark can stand for.
func keyAfter(mark string) (key session.Key, err error) {
	if mark == "" {
		return key, nil
	}
	begin, err := handles.DecodeString(mark)
	if err != nil || len(begin) == 0 || len(begin) > len(key) {
		return key, badRequest("after is not the next of another page")
	}
	for i := copy(key[:], begin); i < len(key); i++ {
		key[i] = 0xff
	}
	return key, nil
}

// endSession ends one.
func (d *desk) endSession() (any, error) {
	if err := d.readNothing(); err != nil {
		return nil, err
	}
	house, err := d.enter()
	if err != nil {
		return nil, err
	}
	s, err := house.sessions.ByHandle(d.r.Context(), d.name)
	if errors.Is(err, guest.ErrNotFound) || err == nil && !s.Ended.IsZero() {
		return nil, caddy.APIError{HTTPStatus: http.StatusNotFound, Err: errors.New("no such live session")}
	}
	if err != nil {
		return nil, err
	}
	if err := house.sessions.End(d.lasting(), s.Key); err != nil {
		return nil, err
	}
	if err := d.note(house, s.User, s.Handle); err != nil {
		return nil, err
	}
	d.app.log.Info("session ended", zap.String("by", identity.Operator), zap.String("user_id", string(s.User)), zap.String("session", s.Handle))
	d.app.endedByOperator(s)
	return ending{Ended: 1}, nil
}

// ending is the answer of whatever ends sessions.
type ending struct {
	Ended int `json:"ended"` // how many lived until now
}

// endSessions ends all of a user's.
func (d *desk) endSessions() (any, error) {
	if err := d.readNothing(); err != nil {
		return nil, err
	}
	house, err := d.enter()
	if err != nil {
		return nil, err
	}
	var user identity.UserID
	err = house.store.View(d.r.Context(), func(tx guest.Tx) error {
		found, err := d.named(tx)
		if err == nil {
			user = found.ID
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	n, err := d.endAll(user)
	if err != nil {
		return nil, err
	}
	d.app.log.Info("sessions ended", zap.String("by", identity.Operator), zap.String("user_id", string(user)), zap.Int("sessions", n))
	return ending{Ended: n}, d.note(house, user, "")
}

// note writes into a user's activity that an operator ended one session, or all
// of them.
func (d *desk) note(house *house, user identity.UserID, handle string) error {
	return house.store.Update(d.lasting(), func(tx guest.Tx) error {
		return activity.Write(tx, user, activity.Entry{
			At: time.Now().UTC(), What: activity.SessionsEnded, Provider: identity.Operator, Session: handle,
		})
	})
}

// endAll ends every session of a user, and its streams, and tells of each.
func (d *desk) endAll(user identity.UserID) (n int, err error) {
	house, err := d.enter()
	if err != nil {
		return 0, err
	}
	for done := false; !done; {
		var ended []session.Ended
		if ended, done, err = house.endSome(d.lasting(), user); err != nil {
			return n, err
		}
		d.app.forget(house, ended)
		n += len(ended)
	}
	return n, nil
}

func (h *house) endSome(ctx context.Context, user identity.UserID) (ended []session.Ended, done bool, err error) {
	err = h.store.Update(ctx, func(tx guest.Tx) (err error) {
		ended, done, err = h.sessions.EndUser(tx, user, session.Key{})
		return err
	})
	return ended, done, err
}

// forget drops what is at hand of sessions that an operator ended, closes their
// streams, and tells of each.
func (a *App) forget(house *house, ended []session.Ended) {
	for i := range ended {
		house.sessions.Forget(ended[i].Key)
		a.endedByOperator(&ended[i].Session)
	}
}

// endedByOperator tells the operator's events of one session.
func (a *App) endedByOperator(s *session.Session) {
	a.events.Emit(a.ctx, "session_ended", map[string]any{
		"user_id": string(s.User), "session": s.Handle, "reason": identity.Operator,
	})
}
