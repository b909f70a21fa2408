package logintest

import (
	"cmp"
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

// token exchanges a code (RFC 6749 section 4.1.3), or a refresh token (section
// 6).
func (i *Issuer) token(w http.ResponseWriter, r *http.Request) {
	if err := readForm(r); err != nil {
		i.refuseToken(w, r, i.count(func(c *Calls) { c.Token++ }), "token", err)
		return
	}
	if r.PostForm.Get("grant_type") == "refresh_token" {
		i.refresh(w, r)
		return
	}
	i.redeem(w, r)
}

// redeem goes wrong as the log-in does that the code is of.
func (i *Issuer) redeem(w http.ResponseWriter, r *http.Request) {
	faults := i.count(func(c *Calls) { c.Token++ })
	answer, l, err := i.exchange(r)
	if l != nil {
		faults = l.faults
	}
	if err != nil {
		i.refuseToken(w, r, faults, "token", err)
		return
	}
	call(faults.Token, answer)
	i.send(w, r, faults, reply{"token", http.StatusOK, answer})
}

func (i *Issuer) refuseToken(w http.ResponseWriter, r *http.Request, faults Faults, endpoint string, err error) {
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
	doc := map[string]any{"error": told.code, "error_description": told.description}
	i.send(w, r, faults, reply{endpoint, status, doc})
}

func (i *Issuer) exchange(r *http.Request) (map[string]any, *login, error) {
	c, err := i.authenticate(r)
	if err != nil {
		return nil, nil, err
	}
	if r.PostForm.Get("grant_type") != "authorization_code" {
		return nil, nil, &refusal{"unsupported_grant_type", "grant_type must be authorization_code or refresh_token"}
	}
	l, err := i.spend(c, r.PostForm)
	if err != nil {
		return nil, nil, err
	}
	idToken, err := i.idToken(l, l.faults)
	if err != nil {
		return nil, l, err
	}
	return i.tokenAnswer(l, idToken), l, nil
}

// tokenAnswer is what both grants are answered with (RFC 6749 section 5.1).
func (i *Issuer) tokenAnswer(l *login, idToken string) map[string]any {
	answer := map[string]any{
		"access_token": l.accessToken,
		"token_type":   i.odds.pick("Bearer", "bearer", "BEARER"),
		"expires_in":   int(i.tokenLife() / time.Second),
		"scope":        strings.Join(l.scopes, " "),
		"id_token":     idToken,
	}
	if l.refreshToken != "" {
		answer["refresh_token"] = l.refreshToken
	}
	i.odds.stuff(answer)
	return answer
}

func (i *Issuer) tokenLife() time.Duration { return cmp.Or(i.TokenLife, tokenLife) }

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
	l.grant = &grant{subject: l.person.Subject}
	i.issue(l)
	return l, nil
}

// issue gives a log-in its tokens. A refresh token is for who asked for it
// (OpenID Connect Core section 11). i.mu is held.
func (i *Issuer) issue(l *login) {
	l.accessToken = rand.Text()
	i.tell(l.accessToken)
	i.tokens.life = i.tokenLife()
	i.tokens.put(l.accessToken, l, i.now())
	if !slices.Contains(l.scopes, "offline_access") || i.KeepsRefreshToken && l.refreshToken != "" {
		return
	}
	l.refreshToken = rand.Text()
	i.tell(l.refreshToken)
	l.grant.refreshToken = l.refreshToken
	i.refreshes.put(l.refreshToken, l, i.now())
}

// provesKnowledge compares as RFC 7636 section 4.6 says.
func provesKnowledge(text, challenge string) bool {
	sum := sha256.Sum256([]byte(text))
	want := base64.RawURLEncoding.EncodeToString(sum[:])
	return verifier.MatchString(text) && subtle.ConstantTimeCompare([]byte(want), []byte(challenge)) == 1
}

func (i *Issuer) idToken(l *login, f Faults) (string, error) {
	header, err := i.header(f, i.odds.pick("JWT", "", "jwt"))
	if err != nil {
		return "", err
	}
	alg, _ := header["alg"].(string)
	claims := i.idClaims(l, alg)
	call(f.IDToken, claims)
	token, err := i.mint(f, header, claims, l.client.secret)
	if err != nil {
		return "", fmt.Errorf("making ID token: %w", err)
	}
	return token, nil
}

func (i *Issuer) idClaims(l *login, alg string) map[string]any {
	now := i.now()
	claims := l.person.claims(l.scopes)
	i.odds.stuff(claims)
	maps.Copy(claims, map[string]any{
		"iss":       i.Issuer,
		"aud":       l.client.id,
		"iat":       now.Unix(),
		"exp":       now.Add(idTokenLife).Unix(),
		"auth_time": l.session.authTime.Unix(),
		"sid":       l.session.sid,
		"amr":       []string{"user"},
		"at_hash":   halfHash(alg, l.accessToken),
	})
	if l.nonce != "" {
		claims["nonce"] = l.nonce
	}
	return claims
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
	l, ok := i.bearer(token)
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		i.send(w, r, faults, reply{"userinfo", http.StatusUnauthorized, map[string]any{"error": "invalid_token"}})
		return
	}
	claims := l.person.claims(l.scopes)
	i.odds.stuff(claims)
	call(l.faults.UserInfo, claims)
	i.send(w, r, l.faults, reply{"userinfo", http.StatusOK, claims})
}

func (i *Issuer) bearer(token string) (*login, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	l, ok := i.tokens.get(token, i.now())
	return l, ok && !l.grant.revoked
}
