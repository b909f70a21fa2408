package logintest

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
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
	// Header alters the ID token's header. Its "alg" decides how it is signed.
	Header func(map[string]any)
	// IDToken alters the ID token's claims; times are int64 seconds.
	IDToken func(map[string]any)
	// Signed alters the finished ID token.
	Signed func(token string) string
	// Token alters the token endpoint's answer.
	Token func(map[string]any)
	// UserInfo alters the userinfo endpoint's answer.
	UserInfo func(map[string]any)
	// Discovery and Keys alter the documents. They belong to no log-in: only
	// Always reaches them.
	Discovery func(map[string]any)
	Keys      func(map[string]any)
	// Response alters any of the JSON answers as a whole.
	Response func(*Response)
}

// Response is one JSON answer of an Issuer.
type Response struct {
	// Endpoint is discovery, keys, token or userinfo.
	Endpoint string
	Status   int
	Header   http.Header
	Body     io.Reader
}

// And is f, then g.
func (f Faults) And(g Faults) Faults {
	return Faults{
		Answer:    both(f.Answer, g.Answer),
		Header:    both(f.Header, g.Header),
		IDToken:   both(f.IDToken, g.IDToken),
		Signed:    bothSigned(f.Signed, g.Signed),
		Token:     both(f.Token, g.Token),
		UserInfo:  both(f.UserInfo, g.UserInfo),
		Discovery: both(f.Discovery, g.Discovery),
		Keys:      both(f.Keys, g.Keys),
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

func bothSigned(f, g func(string) string) func(string) string {
	switch {
	case f == nil:
		return g
	case g == nil:
		return f
	}
	return func(s string) string { return g(f(s)) }
}

func call[T any](f func(T), v T) {
	if f != nil {
		f(v)
	}
}

// NextLogin spoils the next authorization that is answered, from its answer to
// its userinfo. Called again before that, it spoils the one after.
func (i *Issuer) NextLogin(f Faults) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.next = append(i.next, f)
}

// Always spoils everything from now on, besides what NextLogin says, until it
// is called again. The zero value ends it.
func (i *Issuer) Always(f Faults) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.always = f
}

// take is what spoils the authorization answered now.
func (i *Issuer) take() Faults {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.next) == 0 {
		return i.always
	}
	f := i.always.And(i.next[0])
	i.next = i.next[1:]
	return f
}

// send is the one way out for JSON.
func (f Faults) send(w http.ResponseWriter, endpoint string, status int, doc map[string]any) {
	body, err := json.Marshal(doc)
	if err != nil {
		http.Error(w, "encoding answer: "+err.Error(), http.StatusInternalServerError)
		return
	}
	res := &Response{Endpoint: endpoint, Status: status, Header: w.Header(), Body: bytes.NewReader(body)}
	res.Header.Set("Content-Type", "application/json")
	res.Header.Set("Cache-Control", "no-store")
	call(f.Response, res)
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

// Unsigned sends an ID token with alg none.
func Unsigned() Faults {
	return Faults{Header: func(header map[string]any) { header["alg"] = "none" }}
}

// SignedWithSecret signs the ID token with HS256 and the client's secret.
func SignedWithSecret() Faults {
	return Faults{Header: func(header map[string]any) { header["alg"] = "HS256" }}
}

// BadSignature spoils each byte of the ID token's signature.
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
		return token[:dot] + base64.RawURLEncoding.EncodeToString(signature)
	}}
}

// NoKeyID leaves the kid out of the ID token's header. That is allowed: the
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

// Row is one row of a table of faults.
type Row struct {
	Name   string
	Faults Faults
}

// Refused are the log-ins that a relying party must refuse.
func Refused() []Row {
	return []Row{
		{"wrong iss", WrongIssuer()},
		{"wrong aud", WrongAudience()},
		{"no aud", Drop("aud")},
		{"wrong nonce", WrongNonce()},
		{"no nonce", Drop("nonce")},
		{"no sub", NoSubject()},
		{"empty sub", Set("sub", "")},
		{"no iat", NoIssuedAt()},
		{"no exp", Drop("exp")},
		{"expired", Expired()},
		{"alg none", Unsigned()},
		{"alg HS256", SignedWithSecret()},
		{"bad signature", BadSignature()},
		{"wrong at_hash", spoil("at_hash")},
		{"wrong userinfo sub", WrongUserInfoSubject()},
		{"wrong iss in the answer", WrongAnswerIssuer()},
		{"no iss in the answer", NoAnswerIssuer()},
		{"error answer", ErrorAnswer("access_denied")},
	}
}

// Accepted are odd log-ins that a relying party must accept.
func Accepted() []Row {
	return []Row{
		{"nothing wrong", Faults{}},
		{"no kid", NoKeyID()},
		{"extra claims", ExtraClaims()},
		{"no at_hash", Drop("at_hash")},
		{"aud is a list", Faults{IDToken: func(claims map[string]any) { claims["aud"] = []any{claims["aud"]} }}},
		{"lower-case token type", Faults{Token: func(answer map[string]any) { answer["token_type"] = "bEARER" }}},
		{"no expires_in", Faults{Token: func(answer map[string]any) { delete(answer, "expires_in") }}},
	}
}
