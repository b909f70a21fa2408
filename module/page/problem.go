package page

import (
	"cmp"
	"encoding/json"
	"net/http"
	"strconv"
)

// Problem is what a program gets where a person would get a page (RFC 9457).
type Problem struct {
	// Status is the HTTP status; outside 400 to 599 it is taken for 500.
	Status int
	// Code is stable and meant to be compared, such as "not_admitted".
	Code string
	// Title and Detail are for people. An empty Title is the status's own.
	Title, Detail string
	// SignIn is the address of the sign-in page, where signing in may help.
	SignIn string
	// RequestID is the one the log has.
	RequestID string
}

// WriteProblem writes p as application/problem+json. It never lets a cookie
// out, also not one that was set on w before: what asks without navigating
// must not change who is signed in. A 401 carries the Bearer challenge
// (RFC 6750 section 3).
func WriteProblem(w http.ResponseWriter, p Problem) {
	if p.Status < 400 || p.Status > 599 {
		p.Status = http.StatusInternalServerError
	}
	body := p.encode()
	h := w.Header()
	protect(h)
	h.Del("Set-Cookie")
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="login"`)
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(body)
}

func (p Problem) encode() []byte {
	body, err := json.Marshal(struct {
		Title     string `json:"title"`                // for people: what kind of problem
		Status    int    `json:"status"`               // the answer's
		Code      string `json:"code,omitempty"`       // for programs: stable
		Detail    string `json:"detail,omitempty"`     // for people: what to do
		SignIn    string `json:"sign_in,omitempty"`    // the address to open in a browser
		RequestID string `json:"request_id,omitempty"` // what the log has, too
	}{cmp.Or(p.Title, http.StatusText(p.Status)), p.Status, p.Code, p.Detail, p.SignIn, p.RequestID})
	if err != nil {
		// Strings and a number always encode; without a body the status says enough.
		return nil
	}
	return append(body, '\n')
}
