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
	// OAuth is the same as Code in the words of RFC 6749 section 5.2, where the
	// client may be one that knows no others.
	OAuth string
	// AttemptsLeft is how often a code may still be tried; nil: it is not about
	// a code.
	AttemptsLeft *int
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
	body, err := json.Marshal(ProblemBody{
		Title: cmp.Or(p.Title, http.StatusText(p.Status)), Status: p.Status, Code: p.Code, OAuth: p.OAuth, Detail: p.Detail,
		SignIn: p.SignIn, RequestID: p.RequestID, AttemptsLeft: p.AttemptsLeft,
	})
	if err != nil {
		// Strings and a number always encode; without a body the status says enough.
		return nil
	}
	return append(body, '\n')
}

// ProblemBody is a Problem on the wire.
type ProblemBody struct {
	Title        string `json:"title"`                   // for people: what kind of problem
	Status       int    `json:"status"`                  // the answer's
	Code         string `json:"code,omitempty"`          // for programs: stable
	OAuth        string `json:"error,omitempty"`         // RFC 6749 section 5.2
	Detail       string `json:"detail,omitempty"`        // for people: what to do
	SignIn       string `json:"sign_in,omitempty"`       // the address to open in a browser
	RequestID    string `json:"request_id,omitempty"`    // what the log has, too
	AttemptsLeft *int   `json:"attempts_left,omitempty"` // before the code is over
}
