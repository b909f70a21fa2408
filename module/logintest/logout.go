package logintest

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// farewell is a request to sign out (OpenID Connect RP-Initiated Logout 1.0).
type farewell struct {
	// subject is whom a true id_token_hint names.
	subject string
	// back is where the client wants the visitor to land, "" for nowhere, and
	// state what to bring there.
	back, state string
}

// logout asks before it signs anybody out, except where the client shows an ID
// token of the one who is signed in.
func (i *Issuer) logout(w http.ResponseWriter, r *http.Request) {
	i.count(func(c *Calls) { c.Logout++ })
	bye := i.farewell(r)
	s, p, signedIn := i.session(r)
	switch {
	case !signedIn:
		i.leave(w, r, bye)
	case bye.subject != "" && bye.subject == s.subject:
		i.end(w, r)
		i.leave(w, r, bye)
	default:
		i.showLogout(w, p, r.Form)
	}
}

func (i *Issuer) confirmLogout(w http.ResponseWriter, r *http.Request) {
	bye := i.farewell(r)
	i.end(w, r)
	i.leave(w, r, bye)
}

func (i *Issuer) leave(w http.ResponseWriter, r *http.Request, bye farewell) {
	if bye.back == "" {
		i.showSignedOut(w)
		return
	}
	brought := url.Values{}
	if bye.state != "" {
		brought.Set("state", bye.state)
	}
	call(i.take(&i.nextLogout).Farewell, brought)
	http.Redirect(w, r, withQuery(bye.back, brought), http.StatusSeeOther)
}

// farewell reads the request. What is malformed in it counts as not sent: a
// visitor who wants to leave always can.
func (i *Issuer) farewell(r *http.Request) farewell {
	if err := r.ParseForm(); err != nil {
		return farewell{}
	}
	audience, subject := i.hint(r.Form.Get("id_token_hint"))
	id := r.Form.Get("client_id")
	if id == "" {
		id = audience
	}
	c, ok := i.client(id)
	back := r.Form.Get("post_logout_redirect_uri")
	if !ok || !c.owns(back) {
		return farewell{subject: subject}
	}
	return farewell{subject, back, r.Form.Get("state")}
}

// hint is what an ID token of ours says, expired or not.
func (i *Issuer) hint(token string) (audience, subject string) {
	ring, err := i.keyring()
	if err != nil {
		return "", ""
	}
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.EdDSA})
	if err != nil {
		return "", ""
	}
	payload, err := signed.Verify(ring.signers[signed.Signatures[0].Header.Algorithm].key.Public())
	if err != nil {
		return "", ""
	}
	var claims struct{ Aud, Sub string }
	if json.Unmarshal(payload, &claims) != nil {
		return "", ""
	}
	return claims.Aud, claims.Sub
}

// owns reports whether address has the origin of one of the client's.
func (c client) owns(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.User != nil {
		return false
	}
	for _, registered := range c.redirectURIs {
		own, err := url.Parse(registered)
		if err == nil && own.Scheme == u.Scheme && own.Host == u.Host && own.Host != "" {
			return true
		}
	}
	return false
}

const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// LogoutToken is a logout token for a client (OpenID Connect Back-Channel
// Logout 1.0 section 2.4), with only these faults. An empty subject or sid is
// left out. Nobody sends it: that is the test's to do. It panics where the
// machine can make no keys.
func (i *Issuer) LogoutToken(clientID, subject, sid string, faults ...Faults) string {
	i.prepare()
	f := Faults{}
	for _, more := range faults {
		f = f.And(more)
	}
	header, err := i.header(f, "logout+jwt")
	if err != nil {
		panic(err)
	}
	claims := i.logoutClaims(clientID, subject, sid)
	call(f.IDToken, claims)
	c, _ := i.client(clientID)
	token, err := i.mint(f, header, claims, c.secret)
	if err != nil {
		panic(err)
	}
	return token
}

func (i *Issuer) logoutClaims(clientID, subject, sid string) map[string]any {
	now := i.now()
	claims := map[string]any{
		"iss":    i.Issuer,
		"aud":    clientID,
		"iat":    now.Unix(),
		"exp":    now.Add(2 * time.Minute).Unix(),
		"jti":    rand.Text(),
		"events": map[string]any{logoutEvent: map[string]any{}},
	}
	for name, value := range map[string]string{"sub": subject, "sid": sid} {
		if value != "" {
			claims[name] = value
		}
	}
	i.odds.stuff(claims)
	return claims
}
