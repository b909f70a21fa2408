package module

import (
	"net/http"
	"time"

	"github.com/caddy-login/caddy-login/module/session"
)

// apiOfTokens is who is signed in, what ways in there are, and the tokens of
// native apps.
var apiOfTokens = []endpoint{
	{http.MethodGet, "/session", (*apiCall).session, theirOwn},
}

// ownSession is who is signed in.
type ownSession struct {
	ID        string    `json:"id"`                // of the session, for lists; opens nothing
	User      string    `json:"user"`              // what the app gets as Remote-User
	Email     string    `json:"email,omitempty"`   // proven
	Name      string    `json:"name,omitempty"`    // for display
	Picture   string    `json:"picture,omitempty"` // an address
	Provider  string    `json:"provider"`          // how the session began
	Groups    []string  `json:"groups"`            // the operator's and the provider's
	Roles     []string  `json:"roles"`             // at this site
	AuthTime  time.Time `json:"auth_time"`         // when the person last proved who they are
	ExpiresAt time.Time `json:"expires_at"`        // however much it is used
}

func (c *apiCall) session(w http.ResponseWriter, r *http.Request, v *visit) error {
	return c.answer(w, http.StatusOK, envelope{Status: isAuthenticated, Session: c.viewOfSession(v.live)})
}

func (c *apiCall) viewOfSession(live *session.Live) *ownSession {
	visitor := c.gate.visitorOf(live)
	user := &live.Person.User
	return &ownSession{
		ID: live.Handle, User: visitor.UserID, Email: visitor.Email, Name: user.Name, Picture: user.Picture, Provider: live.Provider,
		Groups: visitor.Groups, Roles: visitor.Roles, AuthTime: live.AuthTime, ExpiresAt: live.Expires,
	}
}

// tokensView is what a native app keeps.
type tokensView struct {
	AccessToken  string `json:"access_token"`  // for Authorization: Bearer
	TokenType    string `json:"token_type"`    // "Bearer"
	ExpiresIn    int    `json:"expires_in"`    // in seconds
	RefreshToken string `json:"refresh_token"` // works once
}
