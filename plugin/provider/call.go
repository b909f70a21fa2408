package provider

import (
	"context"
	"net/http"
)

// Call is a GET at an endpoint of a provider's, for a person who signed in
// there.
type Call struct {
	What    string // the endpoint's name in errors
	Address string
	Access  string // the access token; it goes into the header alone: addresses end up in logs
	Max     int64  // bytes that the answer may have
}

// Answer is what came back, with any status below 500 but 429.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Make makes the call. Where the provider can't answer, that is Unavailable.
func (c Call) Make(ctx context.Context, client *http.Client) (Answer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Address, nil)
	if err != nil {
		return Answer{}, Untrusted("making %s request: %w", c.What, err)
	}
	r.Header.Set("Authorization", "Bearer "+c.Access)
	return Ask(client, r, c.What, c.Max)
}

// Ask sends a request to the endpoint that errors call what, and takes an answer
// of at most max bytes. Where the provider can't answer, that is Unavailable.
func Ask(client *http.Client, r *http.Request, what string, max int64) (Answer, error) {
	r.Header.Set("Accept", "application/json")
	resp, err := client.Do(r)
	if err != nil {
		return Answer{}, Unavailable("asking %s: %w", what, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests {
		return Answer{}, Unavailable("%s answered %d", what, resp.StatusCode)
	}
	body, err := ReadBody(resp.Body, max)
	if err != nil {
		return Answer{}, Unavailable("reading %s: %w", what, err)
	}
	return Answer{Status: resp.StatusCode, Header: resp.Header, Body: body}, nil
}
