package module

import (
	"net/http"
	"time"

	"github.com/caddy-login/caddy-login/module/page"
	"github.com/caddy-login/caddy-login/module/session"
)

// apiOfTokens is who is signed in, what ways in there are, and the tokens of
// native apps.
var apiOfTokens = []endpoint{
	{http.MethodGet, "/openapi.json", (*apiCall).openAPI, nothing},
	{http.MethodGet, "/metadata", (*apiCall).metadata, nothing},
	{http.MethodGet, "/session", (*apiCall).session, theirOwn},
	{http.MethodDelete, "/session", (*apiCall).leave, aHouse},
	{http.MethodPost, "/native/nonce", (*apiCall).nonce, itsBody},
	{http.MethodPost, "/token", (*apiCall).token, itsBody},
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

func (c *apiCall) session(w http.ResponseWriter, _ *http.Request, v *visit) error {
	return c.answer(w, http.StatusOK, envelope{Status: isAuthenticated, Session: c.viewOfSession(v.live())})
}

func (c *apiCall) viewOfSession(live *session.Live) *ownSession {
	visitor := c.gate.visitorOf(live)
	user := &live.Person.User
	return &ownSession{
		ID: live.Handle, User: visitor.UserID, Email: visitor.Email, Name: user.Name, Picture: user.Picture, Provider: live.Provider,
		Groups: listed(visitor.Groups), Roles: listed(visitor.Roles), AuthTime: live.AuthTime.UTC(), ExpiresAt: live.Expires.UTC(),
	}
}

// viewOfOutcome is who has just come in.
func (c *apiCall) viewOfOutcome(out outcome) *ownSession {
	return c.viewOfSession(&session.Live{Session: *out.begun, Person: out.admitted.Person})
}

// listed is a list as JSON has it: one of nothing is empty, not null.
func listed(all []string) []string {
	if all == nil {
		return []string{}
	}
	return all
}

// leaveAnswer is for who has signed out.
type leaveAnswer struct {
	// LogoutURL is to be opened in the browser to sign out at the provider, too.
	LogoutURL string `json:"logout_url,omitempty"`
}

// leave signs out: who came by an access token out of the session of that, and a
// browser out of every session that it brought. From the provider its visitor
// comes back to the query's return, a path of this site.
func (c *apiCall) leave(w http.ResponseWriter, r *http.Request, v *visit) error {
	to, ok := c.back(w, r, original(r).Query().Get("return"))
	if !ok {
		return nil
	}
	all, err := c.allHeld(r, v)
	if err != nil {
		return c.portal.trouble(w, r, v, trouble{kind: page.Unavailable, err: err})
	}
	if len(all) == 0 {
		return c.nobody(w, r, v)
	}
	elsewhere := func() string { return "" }
	if v.live() != nil && !c.native {
		elsewhere = c.farewell(r, v, to)
	}
	if err := c.endAll(r, v, all); err != nil {
		return c.portal.trouble(w, r, v, trouble{kind: page.Unavailable, err: err})
	}
	c.dropAll(w, v)
	return c.answer(w, http.StatusOK, leaveAnswer{LogoutURL: elsewhere()})
}

// tokensView is what a native app keeps.
type tokensView struct {
	AccessToken  string `json:"access_token"`  // for Authorization: Bearer
	TokenType    string `json:"token_type"`    // "Bearer"
	ExpiresIn    int    `json:"expires_in"`    // in seconds
	RefreshToken string `json:"refresh_token"` // works once
}
