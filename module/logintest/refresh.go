package logintest

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// grant is what a person let a client have. All tokens that descend from one
// code share it.
type grant struct {
	subject string
	// refreshToken is the one that was given out last.
	refreshToken string
	revoked      bool
}

// Revoke takes back all that was granted for this person so far: their access
// tokens stop to work, and refresh tokens are answered with invalid_grant. They
// may sign in again.
func (i *Issuer) Revoke(subject string) {
	i.prepare()
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, shelf := range []*shelf[*login]{i.tokens, i.refreshes} {
		for item := range maps.Values(shelf.items) {
			if item.value.grant.subject == subject {
				item.value.grant.revoked = true
			}
		}
	}
}

// refresh goes wrong as NextRefresh says.
func (i *Issuer) refresh(w http.ResponseWriter, r *http.Request) {
	i.count(func(c *Calls) { c.Refresh++ })
	faults := i.take(&i.nextRefresh)
	answer, err := i.renew(r, faults)
	if err != nil {
		i.refuseToken(w, r, faults, "refresh", err)
		return
	}
	call(faults.Refresh, answer)
	i.send(w, r, faults, reply{"refresh", http.StatusOK, answer})
}

func (i *Issuer) renew(r *http.Request, f Faults) (map[string]any, error) {
	c, err := i.authenticate(r)
	if err != nil {
		return nil, err
	}
	l, err := i.trade(c, r.PostForm)
	if err != nil {
		return nil, err
	}
	idToken, err := i.idToken(l, f)
	if err != nil {
		return nil, err
	}
	return i.tokenAnswer(l, idToken), nil
}

// trade uses a refresh token up. One that comes twice was copied: nobody keeps
// anything (RFC 9700 section 4.14.2).
func (i *Issuer) trade(c client, form url.Values) (*login, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	old, ok := i.refreshes.get(form.Get("refresh_token"), i.now())
	if !ok || old.client.id != c.id || old.grant.revoked {
		return nil, &refusal{"invalid_grant", "the refresh token is not known, or no longer"}
	}
	if old.grant.refreshToken != form.Get("refresh_token") {
		old.grant.revoked = true
		return nil, &refusal{"invalid_grant", "the refresh token was used before"}
	}
	l := *old
	if form.Has("scope") {
		l.scopes = strings.Fields(form.Get("scope"))
	}
	for _, scope := range l.scopes {
		if !slices.Contains(old.scopes, scope) {
			return nil, &refusal{"invalid_scope", "the person did not grant that much"}
		}
	}
	// OpenID Connect Core section 12.2: nobody waits for a nonce.
	l.nonce, l.faults = "", i.always
	i.issue(&l)
	return &l, nil
}
