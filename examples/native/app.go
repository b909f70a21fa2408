package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// App is somebody's session at a site. Its methods may be called at any time, on
// many goroutines.
type App struct {
	// Site is where it signs in, such as https://app.example.com.
	Site string
	// Client makes its calls.
	Client *http.Client
	// Who is who signed in, for display.
	Who string

	// mu is held while a refresh token is traded: each works once, and the second
	// use of one would end the session.
	mu      sync.Mutex
	tokens  tokens
	expires time.Time
}

// tokens are what the app keeps: a real one in the system's keychain, written
// there before it goes on with what a refresh brought.
type tokens struct {
	Access  string `json:"access_token"`  // for ten minutes
	Refresh string `json:"refresh_token"` // for the next ones
	Seconds int    `json:"expires_in"`    // of the first
}

// envelope is what the app reads of the API's answers.
type envelope struct {
	Status  string  `json:"status"`   // "authenticated", when it is done
	Intent  string  `json:"intent"`   // what was begun
	AuthURL string  `json:"auth_url"` // to be opened in the browser
	Tokens  *tokens `json:"tokens"`   // in the end
	Session person  `json:"session"`  // who is signed in
	Error   reason  `json:"error"`    // why it was denied
}

type person struct {
	Name  string `json:"name"`  // for display
	Email string `json:"email"` // proven; empty where none is
}

type reason struct {
	Code string `json:"code"` // stable
}

// Problem is why a call came to nothing (RFC 9457).
type Problem struct {
	Status    int    `json:"status"`     // the answer's
	Code      string `json:"code"`       // stable
	Detail    string `json:"detail"`     // what to do
	RequestID string `json:"request_id"` // what the site's log has, too
}

func (p *Problem) Error() string {
	return fmt.Sprintf("%s (%s, request %s)", p.Detail, p.Code, p.RequestID)
}

// SignIn signs somebody in by their browser. It waits for them until ctx ends.
func (a *App) SignIn(ctx context.Context, provider string, open func(address string)) error {
	verifier, state := rand.Text()+rand.Text(), rand.Text()
	back, err := listen(state)
	if err != nil {
		return err
	}
	defer back.server.Close()
	hash := sha256.Sum256([]byte(verifier))
	var begun, done envelope
	err = a.call(ctx, "intents", map[string]string{
		"provider": provider, "return": back.address, "code_challenge": base64.RawURLEncoding.EncodeToString(hash[:]),
	}, &begun)
	if err != nil {
		return err
	}
	open(begun.AuthURL)
	code, err := back.wait(ctx)
	if err != nil {
		return err
	}
	// Whoever else saw the code come back has no verifier to go with it.
	err = a.call(ctx, "intents/validate", map[string]string{"intent": begun.Intent, "return_code": code, "code_verifier": verifier}, &done)
	if err != nil {
		return err
	}
	if done.Status != "authenticated" || done.Tokens == nil {
		return fmt.Errorf("the site says: %s %s", done.Status, done.Error.Code)
	}
	a.begin(done)
	return nil
}

func (a *App) begin(e envelope) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.Who = e.Session.Name + " <" + e.Session.Email + ">"
	a.keep(*e.Tokens)
}

// Get asks for a path of the site as whoever is signed in.
func (a *App) Get(ctx context.Context, path string) (string, error) {
	var text string
	err := a.asThem(ctx, http.MethodGet, path, func(body []byte) error { text = string(body); return nil })
	return text, err
}

// SignOut ends the session at the site.
func (a *App) SignOut(ctx context.Context) error {
	return a.asThem(ctx, http.MethodDelete, api+"session", func([]byte) error { return nil })
}

// asThem makes a call with an access token: with the next one where the site does
// not take this one, which a clock that is wrong can come to.
func (a *App) asThem(ctx context.Context, method, path string, read func(body []byte) error) error {
	token := ""
	for try := 1; ; try++ {
		var err error
		if token, err = a.access(ctx, token); err != nil {
			return err
		}
		r, err := http.NewRequestWithContext(ctx, method, a.Site+path, nil)
		if err != nil {
			return err
		}
		r.Header.Set("Authorization", "Bearer "+token)
		err = a.do(r, read)
		var problem *Problem
		if try == 2 || !errors.As(err, &problem) || problem.Status != http.StatusUnauthorized {
			return err
		}
	}
}

// access is a token that works for a while still, and is not the one that did
// not.
func (a *App) access(ctx context.Context, not string) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.tokens.Access != not && time.Until(a.expires) > time.Minute {
		return a.tokens.Access, nil
	}
	err := a.refresh(ctx)
	return a.tokens.Access, err
}

// Refresh trades the refresh token for the next ones now.
func (a *App) Refresh(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.refresh(ctx)
}

// refresh is called with mu held.
func (a *App) refresh(ctx context.Context) error {
	if a.tokens.Refresh == "" {
		return errors.New("nobody is signed in")
	}
	var next tokens
	err := a.call(ctx, "token", map[string]string{"grant_type": "refresh_token", "refresh_token": a.tokens.Refresh}, &next)
	switch {
	case err == nil:
		a.keep(next)
		return nil
	case !isUnspent(err):
		a.tokens = tokens{}
	}
	return fmt.Errorf("refreshing: %w", err)
}

// isUnspent reports whether a refresh token that came to nothing may be tried
// again: nobody was reached, or the site said that it could not. After an answer
// that was lost, a second use would look like a thief's.
func isUnspent(err error) bool {
	var unreached *net.OpError
	var problem *Problem
	if errors.As(err, &problem) {
		return problem.Status == http.StatusTooManyRequests || problem.Status == http.StatusServiceUnavailable
	}
	return errors.As(err, &unreached) && unreached.Op == "dial"
}

// keep counts by the wall clock: the other one stands still while the device
// sleeps.
func (a *App) keep(t tokens) {
	a.tokens, a.expires = t, time.Now().Round(0).Add(time.Duration(t.Seconds)*time.Second)
}

// api is where the API is, unless the site's `pages` says otherwise.
const api = "/.login/api/v1/"

// call posts JSON to the API, and reads the answer.
func (a *App) call(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, a.Site+api+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	return a.do(r, func(body []byte) error { return json.Unmarshal(body, out) })
}

// maxAnswer is more than any answer has, in bytes.
const maxAnswer = 1 << 20

func (a *App) do(r *http.Request, read func(body []byte) error) error {
	answer, err := a.Client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if answer.StatusCode < 300 {
		return read(body)
	}
	problem := &Problem{Status: answer.StatusCode}
	if err := json.Unmarshal(body, problem); err != nil {
		return fmt.Errorf("the site answers %s", answer.Status)
	}
	return problem
}
