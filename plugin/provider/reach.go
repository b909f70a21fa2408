package provider

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// Reached is what an endpoint of a provider's answered to nobody in particular.
type Reached struct {
	Status int
	Body   []byte
	// Date is the time by the provider's clock; zero where it does not tell.
	Date time.Time
}

// Reach calls an endpoint with nothing that identifies us or anybody. The answer
// may have max bytes. No answer, and one with a status of 500 or more, is
// Unavailable.
func Reach(ctx context.Context, client *http.Client, method, address string, max int64) (Reached, error) {
	r, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return Reached{}, Untrusted("making request: %w", err)
	}
	r.Header.Set("Accept", "application/json")
	resp, err := client.Do(r)
	if err != nil {
		return Reached{}, Unavailable("asking the provider: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 500 {
		return Reached{}, Unavailable("%s answered %d", address, resp.StatusCode)
	}
	body, err := ReadBody(resp.Body, max)
	if err != nil {
		return Reached{}, Unavailable("reading the provider's answer: %w", err)
	}
	return Reached{Status: resp.StatusCode, Body: body, Date: date(resp.Header)}, nil
}

// date is when an answer was on its way: what a cache had kept says how long it
// did (RFC 9111 section 5.1).
func date(h http.Header) time.Time {
	at, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	if age, err := strconv.ParseUint(h.Get("Age"), 10, 31); err == nil {
		at = at.Add(time.Duration(age) * time.Second)
	}
	return at
}
