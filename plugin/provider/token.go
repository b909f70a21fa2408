package provider

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-login/caddy-login/module/guest"
)

// Grant is an authorization code and what it takes to spend it at the token
// endpoint (RFC 6749 section 4.1.3).
type Grant struct {
	TokenURL    string
	ClientID    string
	Secret      guest.Secret // empty: none is sent
	Basic       bool         // the client's ID and secret go into the header, not the form
	Assertion   guest.Secret // in place of a secret: a client_assertion (RFC 7523 section 2.2)
	Code        string
	RedirectURI string
	Verifier    string           // empty: without PKCE
	Now         func() time.Time // nil: Tokens.Expires stays zero
}

// Tokens are what a token endpoint issued (RFC 6749 section 5.1). Access is
// never empty.
type Tokens struct {
	Access  string
	Refresh guest.Secret // empty where there is none
	ID      string       // of OpenID Connect
	Scope   string       // what was granted, as the provider spells it; empty where it does not say

	// Expires is when Access does, by the clock that was asked once the answer
	// had come; zero where the provider does not say so in a way that makes
	// sense.
	Expires time.Time
}

// Keep is what the house may keep of them.
func (t Tokens) Keep() guest.Tokens {
	return guest.Tokens{Access: guest.Secret(t.Access), Refresh: t.Refresh, Expires: t.Expires}
}

// Spend exchanges the code, exactly once. An error that comes with status 200
// is one all the same.
func (g Grant) Spend(ctx context.Context, client *http.Client) (Tokens, error) {
	form := url.Values{"grant_type": {"authorization_code"}, "code": {g.Code}}
	if g.RedirectURI != "" {
		form.Set("redirect_uri", g.RedirectURI)
	}
	if g.Verifier != "" {
		form.Set("code_verifier", g.Verifier)
	}
	ask := tokenRequest{
		doing: "exchanging code", address: g.TokenURL, form: form, now: g.Now,
		id: g.ClientID, secret: g.Secret, basic: g.Basic, assertion: g.Assertion,
	}
	return ask.make(ctx, client)
}

// maxTokenAnswer is what a token endpoint may answer at most, in bytes.
const maxTokenAnswer = 1 << 20

// assertionType says that a client_assertion is a JWT (RFC 7523 section 2.2).
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// tokenRequest is one POST to a token endpoint, which is never repeated: codes
// and many refresh tokens work once. The revocation endpoint is asked likewise.
type tokenRequest struct {
	doing     string // a gerund, for errors
	endpoint  string // its name in errors; empty: the token endpoint
	address   string
	form      url.Values
	id        string
	secret    guest.Secret
	basic     bool
	assertion guest.Secret
	now       func() time.Time
}

func (t tokenRequest) make(ctx context.Context, client *http.Client) (Tokens, error) {
	status, said, err := t.send(ctx, client)
	switch {
	case err != nil:
		return Tokens{}, err
	case status/100 != 2 || said.Text("error") != "":
		return Tokens{}, t.refused(status, said.Text("error"))
	case said.Text("access_token") == "":
		return Tokens{}, Fail(guest.Refused, "%s: token endpoint's answer is no token response", t.doing)
	}
	return t.read(said)
}

// send returns what the endpoint answered; said is empty where that can't be
// read.
func (t tokenRequest) send(ctx context.Context, client *http.Client) (status int, said Claims, err error) {
	r, err := t.request(ctx)
	if err != nil {
		return 0, nil, Untrusted("%s: making request: %w", t.doing, err)
	}
	resp, err := client.Do(r)
	if err != nil {
		return 0, nil, Unavailable("%s: %w", t.doing, err)
	}
	defer resp.Body.Close()
	if said, err = tokenAnswer(resp); err != nil {
		said = nil
	}
	if ctx.Err() != nil {
		return 0, nil, Unavailable("%s: %w", t.doing, ctx.Err())
	}
	return resp.StatusCode, said, nil
}

func (t tokenRequest) request(ctx context.Context) (*http.Request, error) {
	switch {
	case t.assertion != "":
		t.form.Set("client_id", t.id)
		t.form.Set("client_assertion_type", assertionType)
		t.form.Set("client_assertion", string(t.assertion))
	case !t.basic && t.id != "":
		t.form.Set("client_id", t.id)
		if t.secret != "" {
			t.form.Set("client_secret", string(t.secret))
		}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, t.address, strings.NewReader(t.form.Encode()))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "application/json") // without which GitHub answers with a form
	if t.basic && t.assertion == "" {
		r.SetBasicAuth(url.QueryEscape(t.id), url.QueryEscape(string(t.secret)))
	}
	return r, nil
}

// tokenAnswer reads what a token endpoint wrote: JSON, or the form of servers
// that are older than RFC 6749.
func tokenAnswer(resp *http.Response) (Claims, error) {
	body, err := ReadBody(resp.Body, maxTokenAnswer)
	if err != nil {
		return nil, err
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if kind != "application/x-www-form-urlencoded" && kind != "text/plain" || strings.HasPrefix(strings.TrimSpace(string(body)), "{") {
		return ParseClaims(body)
	}
	return formClaims(string(body))
}

func formClaims(body string) (Claims, error) {
	values, err := url.ParseQuery(body)
	if err != nil {
		return nil, errors.New("malformed form")
	}
	c := Claims{}
	for name, list := range values {
		if len(list) > 1 {
			return nil, errors.New("a form name occurs twice")
		}
		if c[name], err = json.Marshal(list[0]); err != nil {
			return nil, fmt.Errorf("reading form: %w", err)
		}
	}
	return c, nil
}

// read takes what was issued. The tokens themselves are opaque, but they have
// to fit into a header (RFC 6749 appendix A.12 and A.17).
func (t tokenRequest) read(said Claims) (Tokens, error) {
	if kind := said.Text("token_type"); kind != "" && !strings.EqualFold(kind, "bearer") {
		return Tokens{}, Untrusted("token type is %s, not Bearer", Quote(kind))
	}
	scopes, _ := said.Texts("scope") // a list at Twitch
	tokens := Tokens{
		Access:  said.Text("access_token"),
		Refresh: guest.Secret(said.Text("refresh_token")),
		ID:      said.Text("id_token"),
		Scope:   strings.Join(scopes, " "),
	}
	if strings.ContainsFunc(tokens.Access+string(tokens.Refresh), invisible) {
		return Tokens{}, Untrusted("%s: token endpoint's tokens hold characters that no header takes", t.doing)
	}
	if t.now != nil {
		tokens.Expires = expiry(said, t.now())
	}
	return tokens, nil
}

func invisible(r rune) bool { return r < ' ' || r > '~' }

// expiry is when an access token expires that was issued now. Some servers
// write the seconds as a string.
func expiry(said Claims, now time.Time) time.Time {
	written := said.Text("expires_in")
	if written == "" {
		written = string(said["expires_in"])
	}
	seconds, err := strconv.ParseFloat(written, 64)
	if err != nil || !(seconds <= math.MaxInt32) {
		return time.Time{}
	}
	return now.Add(time.Duration(max(seconds, 0)) * time.Second)
}

func (t tokenRequest) refused(status int, code string) error {
	endpoint := cmp.Or(t.endpoint, "token endpoint")
	if status >= 500 || status == http.StatusTooManyRequests {
		return Unavailable("%s: %s answered %d", t.doing, endpoint, status)
	}
	if status/100 == 3 {
		code = "" // it is not the endpoint that says so
	}
	return Fail(guest.Refused, "%s: %s answered %d, %w", t.doing, endpoint, status, ErrorCode(code))
}

// ErrorCode is the `error` of a token endpoint (RFC 6749 section 5.2).
type ErrorCode string

// Error passes on a code of the specifications' form, such as invalid_client,
// and nothing else: what is written there may repeat the code or the token.
func (e ErrorCode) Error() string {
	if e == "" || len(e) > 40 || strings.Trim(string(e), "abcdefghijklmnopqrstuvwxyz_") != "" {
		return "no known error code"
	}
	return string(e)
}
