package logintest

import (
	"crypto/rand"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// request is an authorization request from a client we know, to be answered at
// an address that is the client's.
type request struct {
	params       url.Values
	client       client
	redirectURI  string
	responseMode string
}

// refusal is an error that the client is told (RFC 6749 section 4.1.2.1).
type refusal struct{ code, description string }

func (r *refusal) Error() string { return r.code + ": " + r.description }

// authorize answers at once where a session is there and suffices, else it
// asks who the visitor wants to be.
func (i *Issuer) authorize(w http.ResponseWriter, r *http.Request) {
	i.count(func(c *Calls) { c.Authorize++ })
	req, err := i.request(r)
	if err != nil {
		i.refuse(w, r, req, err)
		return
	}
	s, p, signedIn := i.session(r)
	fresh := signedIn && req.satisfiedBy(s, i.now())
	switch {
	case fresh:
		i.grant(w, r, req, p, s)
	case req.prompts("none"):
		i.refuse(w, r, req, &refusal{"login_required", "nobody is signed in, or not recently enough"})
	default:
		i.showPeople(w, req, s.subject)
	}
}

// pick takes the visitor's choice. The request travels along in the address,
// so that the issuer remembers nothing for somebody who only knocks.
func (i *Issuer) pick(w http.ResponseWriter, r *http.Request) {
	req, err := i.request(r)
	if err != nil {
		i.refuse(w, r, req, err)
		return
	}
	subject := r.PostForm.Get("subject")
	if subject == "" {
		i.refuse(w, r, req, &refusal{"access_denied", "the person said no"})
		return
	}
	p, ok := i.person(subject)
	if !ok {
		i.showError(w, http.StatusBadRequest, "This provider knows nobody of that name.")
		return
	}
	i.grant(w, r, req, p, i.start(w, r, p))
}

// grant makes a code and hands it to the client.
func (i *Issuer) grant(w http.ResponseWriter, r *http.Request, req *request, p Person, s session) {
	code, faults := rand.Text(), i.take(&i.nextLogin)
	i.tell(code)
	i.mu.Lock()
	i.codes.put(code, &login{
		client:      req.client,
		redirectURI: req.redirectURI,
		challenge:   req.params.Get("code_challenge"),
		nonce:       req.params.Get("nonce"),
		scopes:      strings.Fields(req.params.Get("scope")),
		person:      p,
		session:     s,
		faults:      faults,
	}, i.now())
	i.mu.Unlock()
	i.answer(w, r, req, url.Values{"code": {code}}, faults)
}

// refuse tells the client, or, where it is not known who that is, the visitor.
func (i *Issuer) refuse(w http.ResponseWriter, r *http.Request, req *request, err error) {
	var told *refusal
	if req == nil || !errors.As(err, &told) {
		i.showError(w, http.StatusBadRequest, "The application sent a request that cannot be answered: "+err.Error()+".")
		return
	}
	i.answer(w, r, req, url.Values{"error": {told.code}, "error_description": {told.description}}, i.take(&i.nextLogin))
}

// answer is the one way back to the client.
func (i *Issuer) answer(w http.ResponseWriter, r *http.Request, req *request, values url.Values, faults Faults) {
	values.Set("iss", i.Issuer)
	if state := req.params.Get("state"); state != "" {
		values.Set("state", state)
	}
	call(faults.Answer, values)
	w.Header().Set("Cache-Control", "no-store")
	if req.responseMode == "form_post" {
		i.showFormPost(w, req.redirectURI, values)
		return
	}
	http.Redirect(w, r, withQuery(req.redirectURI, values), http.StatusSeeOther)
}

// request reads and checks an authorization request. A nil *request means that
// the client or its address is not known, so that nobody may be sent there.
func (i *Issuer) request(r *http.Request) (*request, error) {
	if err := r.ParseForm(); err != nil {
		return nil, errors.New("the form is malformed or too long")
	}
	params := r.URL.Query()
	if r.Method == http.MethodPost && len(params) == 0 {
		params = r.PostForm
	}
	for name, values := range params {
		if len(values) > 1 {
			return nil, errors.New("a parameter occurs twice: " + strconv.Quote(name))
		}
	}
	c, ok := i.client(params.Get("client_id"))
	if !ok {
		return nil, errors.New("no client has this client_id")
	}
	if !slices.Contains(c.redirectURIs, params.Get("redirect_uri")) {
		return nil, errors.New("redirect_uri is not one of the client's")
	}
	req := &request{params: params, client: c, redirectURI: params.Get("redirect_uri"), responseMode: params.Get("response_mode")}
	return req, req.check()
}

var s256 = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)

const maxParameter = 512

func (q *request) check() error {
	prompts := strings.Fields(q.params.Get("prompt"))
	switch {
	case !slices.Contains([]string{"", "query", "form_post"}, q.responseMode):
		q.responseMode = ""
		return &refusal{"invalid_request", "response_mode must be query or form_post"}
	case q.params.Has("request"):
		return &refusal{"request_not_supported", "send plain parameters"}
	case q.params.Has("request_uri"):
		return &refusal{"request_uri_not_supported", "send plain parameters"}
	case q.params.Get("response_type") != "code":
		return &refusal{"unsupported_response_type", "response_type must be code"}
	case !slices.Contains(strings.Fields(q.params.Get("scope")), "openid"):
		return &refusal{"invalid_scope", "scope must contain openid"}
	case q.params.Get("code_challenge_method") != "S256" || !s256.MatchString(q.params.Get("code_challenge")):
		return &refusal{"invalid_request", "code_challenge with code_challenge_method S256 is required"}
	case len(q.params.Get("nonce")) > maxParameter || len(q.params.Get("scope")) > maxParameter:
		return &refusal{"invalid_request", "nonce or scope is too long"}
	case slices.Contains(prompts, "none") && len(prompts) > 1:
		return &refusal{"invalid_request", "prompt none stands alone"}
	case !wholeSeconds(q.params.Get("max_age")):
		return &refusal{"invalid_request", "max_age must be a number of seconds"}
	}
	return nil
}

func wholeSeconds(s string) bool {
	_, err := strconv.ParseUint(s, 10, 31)
	return s == "" || err == nil
}

func (q *request) prompts(value string) bool {
	return slices.Contains(strings.Fields(q.params.Get("prompt")), value)
}

// satisfiedBy reports whether the client lets us go on without asking.
func (q *request) satisfiedBy(s session, now time.Time) bool {
	if q.prompts("login") || q.prompts("select_account") || q.prompts("consent") {
		return false
	}
	seconds, err := strconv.ParseUint(q.params.Get("max_age"), 10, 31)
	return err != nil || now.Sub(s.authTime) <= time.Duration(seconds)*time.Second
}

// withQuery adds values to what query address may have already.
func withQuery(address string, values url.Values) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	query := u.Query()
	maps.Copy(query, values)
	u.RawQuery = query.Encode()
	return u.String()
}
