package module

import (
	"errors"
	"fmt"
	"mime"
	"net/http"

	"go.uber.org/zap"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/session"
)

// logoutToken takes a provider's word that somebody signed out there (OpenID
// Connect Back-Channel Logout 1.0 section 2.5). The provider calls it, no
// browser: there is no cookie, and no page. When it answers 200 the sessions
// have ended.
func (p *portal) logoutToken(w http.ResponseWriter, r *http.Request, v *visit, provider guest.Provider) error {
	w.Header()["Cache-Control"] = noStore
	if !allows(w, r, http.MethodPost) {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return nil
	}
	name := provider.Traits().Name
	ended, err := p.readLogoutToken(w, r, provider.(guest.LogoutReader))
	countLogoutToken(name, err)
	if err != nil {
		refuseLogout(w, err)
		if p.gate.app.mayTell(r) {
			p.gate.app.log.Warn("logout token refused", zap.String("provider", name),
				zap.String("request_id", requestID(r)), zap.Error(err))
		}
		return nil
	}
	p.gate.app.log.Info("logout token taken", zap.String("provider", name),
		zap.Int("sessions", len(ended)), zap.String("request_id", requestID(r)))
	w.WriteHeader(http.StatusOK)
	return nil
}

var errNoLogoutToken = errors.New("it is no form with one logout_token")

// errLater means that the same token may be taken later.
var errLater = errors.New("not now")

func (p *portal) readLogoutToken(w http.ResponseWriter, r *http.Request, reader guest.LogoutReader) ([]*session.Session, error) {
	r.Body = http.MaxBytesReader(w, r.Body, maxAnswer)
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" || r.ParseForm() != nil {
		return nil, errNoLogoutToken
	}
	tokens := r.PostForm["logout_token"]
	if len(tokens) != 1 || len(r.PostForm) > maxFields {
		return nil, errNoLogoutToken
	}
	logout, err := reader.ReadLogout(r.Context(), guest.Secret(tokens[0]))
	if err != nil {
		if guest.ReasonOf(err) == guest.Unavailable {
			err = errors.Join(errLater, err)
		}
		return nil, err
	}
	return p.endAt(r, reader.Traits().Name, logout)
}

// endAt ends what the provider ended, and tells of each session.
func (p *portal) endAt(r *http.Request, provider string, logout guest.Logout) ([]*session.Session, error) {
	house, err := p.gate.app.door.enter()
	if err != nil {
		return nil, errors.Join(errLater, err)
	}
	ended, err := house.sessions.Logout(r.Context(), provider, logout)
	for _, s := range ended {
		p.gate.app.endedElsewhere(s, "logout_token", nil)
	}
	if err != nil && !errors.Is(err, session.ErrReplayed) {
		err = errors.Join(errLater, fmt.Errorf("ending sessions: %w", err))
	}
	return ended, err
}

// refuseLogout answers as section 2.8 says. What was wrong stands in our log.
func refuseLogout(w http.ResponseWriter, err error) {
	status, code := http.StatusBadRequest, "invalid_request"
	if errors.Is(err, errLater) {
		status, code = http.StatusServiceUnavailable, "temporarily_unavailable"
		w.Header()["Retry-After"] = []string{"5"}
	}
	w.Header()["Content-Type"] = []string{"application/json"}
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "{\"error\":%q}\n", code) // whoever asked may have left
}
