package module

import "github.com/caddy-login/caddy-login/module/identity"

// judgeAnew closes the open streams of a user who is no longer what they were,
// in any of their sessions. A stream was let through once, and lasts for hours:
// whoever was taken out of a group would go on listening to what only that
// group may hear. Who still may open it opens it again. To be called after
// sessions.ForgetUser.
func (h *house) judgeAnew(user identity.UserID) {
	for _, live := range h.sessions.Streaming() {
		if live.User == user {
			h.sessions.Forget(live.Key)
		}
	}
}
