package logintest

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// token exchanges a code (RFC 6749 section 4.1.3).
func (i *Issuer) token(w http.ResponseWriter, r *http.Request) {
	faults := i.count(func(c *Calls) { c.Token++ })
	answer, l, err := i.exchange(r)
	if l != nil {
		faults = l.faults
	}
	if err != nil {
		refuseToken(w, faults, err)
		return
	}
	call(faults.Token, answer)
	faults.send(w, "token", http.StatusOK, answer)
}

func refuseToken(w http.ResponseWriter, faults Faults, err error) {
	told, ok := err.(*refusal)
	if !ok {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	status := http.StatusBadRequest
	if told.code == "invalid_client" {
		status = http.StatusUnauthorized
		w.Header().Set("WWW-Authenticate", `Basic realm="token", charset="UTF-8"`)
	}
	faults.send(w, "token", status, map[string]any{"error": told.code, "error_description": told.description})
}

func (i *Issuer) exchange(r *http.Request) (map[string]any, *login, error) {
	if err := readForm(r); err != nil {
		return nil, nil, err
	}
	c, err := i.authenticate(r)
	if err != nil {
		return nil, nil, err
	}
	if r.PostForm.Get("grant_type") != "authorization_code" {
		return nil, nil, &refusal{"unsupported_grant_type", "grant_type must be authorization_code"}
	}
	l, err := i.spend(c, r.PostForm)
	if err != nil {
		return nil, nil, err
	}
	idToken, err := i.idToken(l)
	if err != nil {
		return nil, l, err
	}
	return map[string]any{
		"access_token": l.accessToken,
		"token_type":   "Bearer",
		"expires_in":   int(tokenLife / time.Second),
		"scope":        strings.Join(l.scopes, " "),
		"id_token":     idToken,
	}, l, nil
}

func readForm(r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return &refusal{"invalid_request", "the form is malformed or too long"}
	}
	for _, values := range r.PostForm {
		if len(values) > 1 {
			return &refusal{"invalid_request", "a parameter occurs twice"}
		}
	}
	return nil
}

// authenticate takes client_secret_basic or client_secret_post, never both.
func (i *Issuer) authenticate(r *http.Request) (client, error) {
	id, secret, err := credentials(r)
	if err != nil {
		return client{}, err
	}
	c, ok := i.client(id)
	if !ok || !c.hasSecret(secret) {
		return client{}, &refusal{"invalid_client", "client_id or client_secret is wrong"}
	}
	return c, nil
}

// credentials undoes the form encoding inside Basic (RFC 6749 section 2.3.1).
func credentials(r *http.Request) (id, secret string, err error) {
	id, secret, basic := r.BasicAuth()
	if !basic {
		return r.PostForm.Get("client_id"), r.PostForm.Get("client_secret"), nil
	}
	if r.PostForm.Has("client_secret") {
		return "", "", &refusal{"invalid_request", "the client authenticated in two ways"}
	}
	id, errID := url.QueryUnescape(id)
	secret, errSecret := url.QueryUnescape(secret)
	if errID != nil || errSecret != nil {
		return "", "", &refusal{"invalid_client", "the credentials are not form-encoded"}
	}
	return id, secret, nil
}

var verifier = regexp.MustCompile(`^[A-Za-z0-9._~-]{43,128}$`)

// spend uses a code up. A code that comes twice was stolen, by the first or by
// the second: what the first got is taken back (RFC 6749 section 4.1.2).
func (i *Issuer) spend(c client, form url.Values) (*login, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	l, ok := i.codes.get(form.Get("code"), i.now())
	if !ok || l.client.id != c.id {
		return nil, &refusal{"invalid_grant", "the code is not known, or no longer"}
	}
	if l.spent {
		i.tokens.drop(l.accessToken)
		return nil, &refusal{"invalid_grant", "the code was used before"}
	}
	l.spent = true
	if form.Get("redirect_uri") != l.redirectURI {
		return nil, &refusal{"invalid_grant", "redirect_uri is not the one of the request"}
	}
	if !provesKnowledge(form.Get("code_verifier"), l.challenge) {
		return nil, &refusal{"invalid_grant", "code_verifier does not fit"}
	}
	l.accessToken = rand.Text()
	i.tokens.put(l.accessToken, l, i.now())
	return l, nil
}

// provesKnowledge compares as RFC 7636 section 4.6 says.
func provesKnowledge(text, challenge string) bool {
	sum := sha256.Sum256([]byte(text))
	want := base64.RawURLEncoding.EncodeToString(sum[:])
	return verifier.MatchString(text) && subtle.ConstantTimeCompare([]byte(want), []byte(challenge)) == 1
}

func (i *Issuer) idToken(l *login) (string, error) {
	ring, err := i.keyring()
	if err != nil {
		return "", err
	}
	alg := i.alg()
	header := map[string]any{"alg": alg, "typ": "JWT", "kid": ring.keys[alg].KeyID}
	claims := i.idClaims(l)
	call(l.faults.Header, header)
	call(l.faults.IDToken, claims)
	token, err := ring.sign(header, claims, l.client.secret)
	if err != nil {
		return "", fmt.Errorf("making ID token: %w", err)
	}
	if l.faults.Signed != nil {
		token = l.faults.Signed(token)
	}
	return token, nil
}

func (i *Issuer) idClaims(l *login) map[string]any {
	now := i.now()
	claims := l.person.claims(l.scopes)
	maps.Copy(claims, map[string]any{
		"iss":       i.Issuer,
		"aud":       l.client.id,
		"iat":       now.Unix(),
		"exp":       now.Add(idTokenLife).Unix(),
		"auth_time": l.session.authTime.Unix(),
		"sid":       l.session.sid,
		"amr":       []string{"user"},
		"at_hash":   halfHash(l.accessToken),
	})
	if l.nonce != "" {
		claims["nonce"] = l.nonce
	}
	return claims
}

func (i *Issuer) alg() string {
	if i.Alg == "ES256" {
		return "ES256"
	}
	return "RS256"
}

// claims are what the scopes let a client know (OpenID Connect Core section 5.4).
func (p Person) claims(scopes []string) map[string]any {
	claims := map[string]any{"sub": p.Subject}
	add := func(scope, name string, value any, there bool) {
		if there && slices.Contains(scopes, scope) {
			claims[name] = value
		}
	}
	add("email", "email", p.Email, p.Email != "")
	add("email", "email_verified", p.EmailVerified, p.EmailVerified != nil)
	add("profile", "name", p.Name, p.Name != "")
	add("profile", "picture", p.Picture, p.Picture != "")
	add("profile", "groups", p.Groups, len(p.Groups) > 0)
	add("groups", "groups", p.Groups, len(p.Groups) > 0)
	maps.Copy(claims, p.Claims)
	return claims
}

// userinfo takes the token from the header alone (RFC 6750 section 2.1).
func (i *Issuer) userinfo(w http.ResponseWriter, r *http.Request) {
	faults := i.count(func(c *Calls) { c.UserInfo++ })
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	i.mu.Lock()
	l, ok := i.tokens.get(token, i.now())
	i.mu.Unlock()
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		faults.send(w, "userinfo", http.StatusUnauthorized, map[string]any{"error": "invalid_token"})
		return
	}
	claims := l.person.claims(l.scopes)
	call(l.faults.UserInfo, claims)
	l.faults.send(w, "userinfo", http.StatusOK, claims)
}
