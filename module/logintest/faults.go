package logintest

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Faults is what an Issuer does wrong. Each field, where it is set, is handed
// what the issuer would have sent and alters it: everything the issuer says
// passes one of them, and all of its JSON passes Response last. The zero value
// does everything right.
//
// The functions below make the faults that tests want; And joins them.
type Faults struct {
	// Answer alters the parameters of the authorization response.
	Answer func(url.Values)
	// Header alters the header of the ID token or logout token. Its "alg"
	// decides how it is signed.
	Header func(map[string]any)
	// IDToken alters the claims of the ID token or logout token; times are int64
	// seconds.
	IDToken func(map[string]any)
	// Payload alters these claims as they are spelled, before they are signed.
	Payload func(json []byte) []byte
	// Signed alters the finished token.
	Signed func(token string) string
	// Token alters the token endpoint's answer to a code, Refresh that to a
	// refresh token.
	Token   func(map[string]any)
	Refresh func(map[string]any)
	// UserInfo alters the userinfo endpoint's answer.
	UserInfo func(map[string]any)
	// Discovery and Keys alter the documents. They belong to no log-in: only
	// Always reaches them.
	Discovery func(map[string]any)
	Keys      func(map[string]any)
	// Farewell alters what a browser that signed out brings back.
	Farewell func(url.Values)
	// Response alters any of the JSON answers as a whole.
	Response func(*Response)
}

// Response is one JSON answer of an Issuer.
type Response struct {
	// Endpoint is discovery, keys, token, refresh or userinfo.
	Endpoint string
	// Wait is how long nothing at all is answered.
	Wait   time.Duration
	Status int
	Header http.Header
	Body   io.Reader
}

// And is f, then g.
func (f Faults) And(g Faults) Faults {
	return Faults{
		Answer:    both(f.Answer, g.Answer),
		Header:    both(f.Header, g.Header),
		IDToken:   both(f.IDToken, g.IDToken),
		Payload:   chain(f.Payload, g.Payload),
		Signed:    chain(f.Signed, g.Signed),
		Token:     both(f.Token, g.Token),
		Refresh:   both(f.Refresh, g.Refresh),
		UserInfo:  both(f.UserInfo, g.UserInfo),
		Discovery: both(f.Discovery, g.Discovery),
		Keys:      both(f.Keys, g.Keys),
		Farewell:  both(f.Farewell, g.Farewell),
		Response:  both(f.Response, g.Response),
	}
}

func both[T any](f, g func(T)) func(T) {
	if f == nil || g == nil {
		return either(f, g)
	}
	return func(v T) { f(v); g(v) }
}

func either[T any](f, g func(T)) func(T) {
	if f == nil {
		return g
	}
	return f
}

func chain[T any](f, g func(T) T) func(T) T {
	switch {
	case f == nil:
		return g
	case g == nil:
		return f
	}
	return func(v T) T { return g(f(v)) }
}

func call[T any](f func(T), v T) {
	if f != nil {
		f(v)
	}
}

// NextLogin spoils the next authorization that is answered, from its answer to
// its userinfo. Called again before that, it spoils the one after.
func (i *Issuer) NextLogin(f Faults) { i.queue(&i.nextLogin, f) }

// NextRefresh spoils the next use of a refresh token, and NextLogout the next
// way back from the end-session endpoint, as NextLogin does a log-in.
func (i *Issuer) NextRefresh(f Faults) { i.queue(&i.nextRefresh, f) }

// NextLogout is NextRefresh for signing out.
func (i *Issuer) NextLogout(f Faults) { i.queue(&i.nextLogout, f) }

func (i *Issuer) queue(next *[]Faults, f Faults) {
	i.mu.Lock()
	defer i.mu.Unlock()
	*next = append(*next, f)
}

// Always spoils everything from now on, besides what the others say, until it
// is called again. The zero value ends it.
func (i *Issuer) Always(f Faults) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.always = f
}

// take is what spoils the one that is answered now.
func (i *Issuer) take(next *[]Faults) Faults {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(*next) == 0 {
		return i.always
	}
	f := i.always.And((*next)[0])
	*next = (*next)[1:]
	return f
}

// reply is an answer before Response sees it.
type reply struct {
	endpoint string
	status   int
	doc      map[string]any
}

// send is the one way out for JSON.
func (i *Issuer) send(w http.ResponseWriter, r *http.Request, f Faults, a reply) {
	body, err := i.odds.json(a.doc)
	if err != nil {
		http.Error(w, "encoding answer: "+err.Error(), http.StatusInternalServerError)
		return
	}
	res := &Response{Endpoint: a.endpoint, Status: a.status, Header: w.Header(), Body: bytes.NewReader(body)}
	res.Header.Set("Content-Type", i.odds.pick("application/json", "application/json;charset=UTF-8", "Application/JSON; charset=utf-8"))
	res.Header.Set("Cache-Control", "no-store")
	call(f.Response, res)
	if !pause(r.Context(), res.Wait) {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(res.Status)
	io.Copy(w, res.Body)
}

// Set sets one claim of the ID token.
func Set(name string, value any) Faults {
	return Faults{IDToken: func(claims map[string]any) { claims[name] = value }}
}

// Drop removes one claim of the ID token.
func Drop(name string) Faults {
	return Faults{IDToken: func(claims map[string]any) { delete(claims, name) }}
}

// spoil replaces one claim of the ID token by another of the same kind.
func spoil(name string) Faults {
	return Faults{IDToken: func(claims map[string]any) {
		text, _ := claims[name].(string)
		claims[name] = text + "INVALID"
	}}
}

// WrongIssuer puts another issuer into the ID token.
func WrongIssuer() Faults { return spoil("iss") }

// WrongAudience makes the ID token one for another client.
func WrongAudience() Faults { return spoil("aud") }

// WrongNonce makes the ID token the answer to another log-in.
func WrongNonce() Faults { return spoil("nonce") }

// NoSubject leaves the ID token's sub out.
func NoSubject() Faults { return Drop("sub") }

// NoIssuedAt leaves the ID token's iat out.
func NoIssuedAt() Faults { return Drop("iat") }

// Expired makes the ID token one that ended six minutes ago.
func Expired() Faults {
	return Faults{IDToken: func(claims map[string]any) {
		now, _ := claims["iat"].(int64)
		claims["iat"], claims["exp"] = now-11*60, now-6*60
	}}
}

// WithAlg signs the token by another algorithm, with the issuer's own key for
// it.
func WithAlg(alg string) Faults { return inHeader("alg", alg) }

func inHeader(name string, value any) Faults {
	return Faults{Header: func(header map[string]any) { header[name] = value }}
}

// Unsigned sends a token with alg none.
func Unsigned() Faults { return WithAlg("none") }

// SignedWithSecret signs the token with HS256 and the client's secret.
func SignedWithSecret() Faults { return WithAlg("HS256") }

// BadSignature spoils each byte of the token's signature.
func BadSignature() Faults {
	return Faults{Signed: func(token string) string {
		dot := strings.LastIndexByte(token, '.') + 1
		signature, err := base64.RawURLEncoding.DecodeString(token[dot:])
		if err != nil {
			return token[:dot]
		}
		for n := range signature {
			signature[n] ^= 0x5A
		}
		return token[:dot] + base64url(signature)
	}}
}

// NoKeyID leaves the kid out of the token's header. That is allowed: the
// token is still a right one.
func NoKeyID() Faults {
	return Faults{Header: func(header map[string]any) { delete(header, "kid") }}
}

// ExtraClaims adds claims of random names and odd kinds. That is allowed.
func ExtraClaims() Faults {
	add := func(claims map[string]any) {
		claims["x_"+rand.Text()] = map[string]any{"deep": []any{nil, 1.5, "{env.HOME}", map[string]any{}}}
		claims["x_"+rand.Text()] = true
	}
	return Faults{IDToken: add, UserInfo: add}
}

// WrongUserInfoSubject makes userinfo tell of somebody else.
func WrongUserInfoSubject() Faults {
	return Faults{UserInfo: func(claims map[string]any) {
		subject, _ := claims["sub"].(string)
		claims["sub"] = subject + "invalid"
	}}
}

// Answers has one endpoint (see Response) answer with another status.
func Answers(endpoint string, status int) Faults {
	return at(endpoint, func(r *Response) { r.Status = status })
}

// Late has one endpoint say nothing for a while.
func Late(endpoint string, wait time.Duration) Faults {
	return at(endpoint, func(r *Response) { r.Wait = wait })
}

// Body has one endpoint answer with another body, made anew each time.
func Body(endpoint string, body func() io.Reader) Faults {
	return at(endpoint, func(r *Response) { r.Body = body() })
}

func at(endpoint string, change func(*Response)) Faults {
	return Faults{Response: func(r *Response) {
		if r.Endpoint == endpoint {
			change(r)
		}
	}}
}

// WrongAnswerIssuer makes the authorization response come from another issuer
// (RFC 9207): the mix-up attack.
func WrongAnswerIssuer() Faults {
	return Faults{Answer: func(answer url.Values) { answer.Set("iss", "https://attacker.example") }}
}

// NoAnswerIssuer leaves the issuer out, though discovery promises it.
func NoAnswerIssuer() Faults {
	return Faults{Answer: func(answer url.Values) { answer.Del("iss") }}
}

// ErrorAnswer answers with an error in place of the code. The description
// carries markup and line breaks.
func ErrorAnswer(code string) Faults {
	return Faults{Answer: func(answer url.Values) {
		answer.Del("code")
		answer.Set("error", code)
		answer.Set("error_description", "<script>alert(document.domain)</script>\r\n\"><img src=x onerror=alert(1)>")
	}}
}
