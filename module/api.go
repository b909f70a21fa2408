package module

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-login/caddy-login/module/page"
	"github.com/caddy-login/caddy-login/module/pending"
	"github.com/caddy-login/caddy-login/module/strict"
	"github.com/caddy-login/caddy-login/module/token"
)

// The API for single-page and native apps: JSON in and out, below /api/v1. What
// it does is what the pages do, by the same functions; it answers in another
// voice (apivoice.go).

// endpoint is one method at one path of the API. openapi.json describes them
// all, and is held against this table.
type endpoint struct {
	method string
	// path is below /api/v1; {id} stands for one segment.
	path  string
	serve func(c *apiCall, w http.ResponseWriter, r *http.Request, v *visit) error
	needs need
}

// need is who may call an endpoint.
type need byte

const (
	// aHouse: anybody, as long as the store is there.
	aHouse need = iota
	// nothing: anybody at any time, whoever they are.
	nothing
	// theirOwn: who is signed in, by cookie or access token.
	theirOwn
	// itsBody: who brings in the body what it takes. Neither a cookie nor an
	// access token counts: one that has expired keeps nobody from another.
	itsBody
)

// endpoints is filled by init: what the functions answer depends on it.
var endpoints []endpoint

func init() {
	endpoints = slices.Concat(apiOfTokens, apiOfSignIn, apiOfAccount)
}

// apiCall is one call of the API: what it brings, and the voice that answers it.
type apiCall struct {
	*portal
	// id is what {id} stands for.
	id string
	// native: the client is no browser. It keeps tokens, and gets no cookie.
	native bool
	// waitsID is what waits for a word of a native client's visitor, and binding
	// what it has proven to be bound to (RFC 7636): empty, not native.
	waitsID pending.ID
	binding string
	// begun are the tokens to hand over; nil: none.
	begun *token.Begun
	// grant is what the client asks tokens for, in the words of RFC 6749; empty:
	// it does not, and its problems have no word of OAuth's.
	grant string
	// denies has what came to nothing be an answer; polls has a code that is
	// awaited still be no news.
	denies, polls bool
	// code is what the trouble at hand is called; empty: as its kind.
	code string
	// email is the address that the call is about.
	email emailView
}

// maxBodyOfAPI bounds what a call may send.
const maxBodyOfAPI = 64 << 10

// roomOfAPI finds who answers a path of the API: some room always does, so that
// also an unknown path is answered in JSON. Ids in a path may open something.
func (p *portal) roomOfAPI(path string) (found *room, quiet bool) {
	at, id := endpointsAt(strings.TrimPrefix(path, "/api/v1"))
	if !below(path, "/api/v1") {
		at = nil
	}
	room := &room{
		serve: func(w http.ResponseWriter, r *http.Request, v *visit) error {
			return p.api(w, r, v, at, id)
		},
		withoutStore: len(at) == 0,
		shown:        p.base + "/api/[redacted]",
	}
	if len(at) > 0 {
		room.toAnybody = at[0].needs == nothing || at[0].needs == itsBody
		room.shown = p.base + "/api/v1" + at[0].path
	}
	return room, id != "" || len(at) == 0
}

// endpointsAt are those of a path, and what its {id} is.
func endpointsAt(path string) (at []endpoint, id string) {
	for _, e := range endpoints {
		before, after, wild := strings.Cut(e.path, "{id}")
		middle, fits := strings.CutPrefix(path, before)
		if wild && fits {
			middle, fits = strings.CutSuffix(middle, after)
			fits = fits && middle != "" && !strings.Contains(middle, "/")
		}
		switch {
		case wild && fits:
			at, id = append(at, e), middle
		case path == e.path:
			at = append(at, e)
		}
	}
	return at, id
}

// meet finds out who is here, as far as the page they want looks at that. The
// API goes by access tokens, too, the pages by cookies alone. Its error means
// that we cannot know, or is errBadToken.
func (p *portal) meet(w http.ResponseWriter, r *http.Request, v *visit, to *room) error {
	api := p.isAPI(r)
	if api {
		p.share(w, r, v) // also what is refused may be read
	}
	if to != nil && to.toAnybody {
		return nil
	}
	if api {
		v.lookForBearer(r)
	}
	return v.recognise(r)
}

// api serves one call.
func (p *portal) api(w http.ResponseWriter, r *http.Request, v *visit, at []endpoint, id string) error {
	c := &apiCall{portal: p, id: id, native: v.bearer != ""}
	v.api = c
	if c.native {
		c.goNative(v)
	}
	if len(at) == 0 {
		return c.fail(w, r, http.StatusNotFound, "not_found", "The API has no such path: openapi.json lists them all.")
	}
	if at[0].needs == itsBody {
		c.native, v.cookie, v.pending = true, "", nil
	}
	i := slices.IndexFunc(at, func(e endpoint) bool {
		return e.method == r.Method || e.method == http.MethodGet && r.Method == http.MethodHead
	})
	switch {
	case r.Method == http.MethodOptions:
		return c.options(w, r, at)
	case i < 0:
		w.Header().Set("Allow", methodsOf(at))
		return c.fail(w, r, http.StatusMethodNotAllowed, "method_not_allowed", "This path takes "+methodsOf(at)+".")
	case !c.isWelcome(r, v):
		return c.fail(w, r, http.StatusForbidden, "foreign_origin", "Calls come from this site's own pages, from an origin that its operator listed, or without cookies.")
	}
	return c.serve(w, r, v, at[i])
}

func (c *apiCall) serve(w http.ResponseWriter, r *http.Request, v *visit, e endpoint) error {
	if e.needs == nothing {
		return e.serve(c, w, r, v)
	}
	house, err := c.gate.app.door.enter()
	if err != nil {
		return c.gate.refuse(w, r, broken(http.StatusServiceUnavailable, err))
	}
	v.house = house
	if e.needs == theirOwn && v.live() == nil {
		return c.nobody(w, r, v)
	}
	return e.serve(c, w, r, v)
}

// nobody is the answer to who would have to be signed in.
func (c *apiCall) nobody(w http.ResponseWriter, r *http.Request, v *visit) error {
	refuseBody(w, r)
	page.WriteProblem(w, signInRequired(r, v))
	return nil
}

func methodsOf(at []endpoint) string {
	methods := []string{http.MethodOptions}
	for _, e := range at {
		methods = append(methods, e.method)
		if e.method == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
	}
	slices.Sort(methods)
	return strings.Join(slices.Compact(methods), ", ")
}

// options answers a browser that asks before it calls (the Fetch standard's
// preflight). Whether it may is in the headers of share.
func (c *apiCall) options(w http.ResponseWriter, r *http.Request, at []endpoint) error {
	h := w.Header()
	h.Set("Allow", methodsOf(at))
	if h.Get("Access-Control-Allow-Origin") != "" {
		h.Set("Access-Control-Allow-Methods", methodsOf(at))
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
		h.Set("Access-Control-Max-Age", "600")
	}
	refuseBody(w, r)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// share lets pages of the origins that the operator listed read the answer,
// whatever it is. They are told one by one: a `*` would be for all, and a part of
// a name for others.
func (p *portal) share(w http.ResponseWriter, r *http.Request, v *visit) {
	h := w.Header()
	h.Add("Vary", "Origin")
	from := r.Header["Origin"]
	if len(from) == 1 && p.gate.isOwn(from[0], v) {
		h.Set("Access-Control-Allow-Origin", from[0])
		h.Set("Access-Control-Allow-Credentials", "true")
		h.Set("Access-Control-Expose-Headers", "Retry-After, WWW-Authenticate")
	}
}

// isWelcome reports whether a call comes from where it may. What only reads is
// kept from foreign pages by their browsers; what changes something must come
// from a page of ours, or carry nothing that a browser adds by itself.
func (c *apiCall) isWelcome(r *http.Request, v *visit) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead || v.bearer != "" {
		return true
	}
	from, site := r.Header["Origin"], r.Header.Get("Sec-Fetch-Site")
	switch {
	case len(from) > 0:
		return len(from) == 1 && c.gate.isOwn(from[0], v)
	case site != "":
		return site == "same-origin"
	default:
		return v.cookie == "" && len(v.pending) == 0
	}
}

// read reads a call's body into the struct that in points to. Where it can't, it
// answers. An empty body is an empty object.
func (c *apiCall) read(w http.ResponseWriter, r *http.Request, in any) bool {
	if mediaType(r) != "application/json" {
		_ = c.fail(w, r, http.StatusUnsupportedMediaType, "unsupported_media_type", "Send application/json.")
		return false
	}
	body, ok := c.readBody(w, r)
	if !ok || len(body) == 0 {
		return ok
	}
	if err := strict.Read(body, in); err != nil {
		_ = c.misread(w, r, reasonOfBody(err))
		return false
	}
	return true
}

// readBody reads a body that is not too long. Where it can't, it answers: before
// it has one sent that says itself that it is.
func (c *apiCall) readBody(w http.ResponseWriter, r *http.Request) (body []byte, ok bool) {
	var err error
	if r.ContentLength <= maxBodyOfAPI {
		body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyOfAPI))
	}
	var tooLong *http.MaxBytesError
	switch {
	case r.ContentLength > maxBodyOfAPI, errors.As(err, &tooLong):
		_ = c.fail(w, r, http.StatusRequestEntityTooLarge, "body_too_large", "A call may send 64 KiB: send less.")
	case err != nil:
		_ = c.misread(w, r, "it ended too early")
	default:
		return body, true
	}
	return nil, false
}

// misread answers that a body makes no sense.
func (c *apiCall) misread(w http.ResponseWriter, r *http.Request, why string) error {
	return c.fail(w, r, http.StatusBadRequest, "bad_request", "The body is not as it must be: "+why+".")
}

// mediaType is that of a body; empty where there is none, or where two readers
// could take it for different ones.
func mediaType(r *http.Request) string {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset, named := params["charset"]
	switch {
	case err != nil, len(r.Header["Content-Type"]) > 1, len(r.Header["Content-Encoding"]) > 0:
		return ""
	case len(params) > 1, len(params) == 1 && !named, named && !strings.EqualFold(charset, "utf-8"):
		return ""
	}
	return kind
}

// reasonOfBody is why a body was not taken, in words of ours.
func reasonOfBody(err error) string {
	var field *strict.FieldError
	if errors.As(err, &field) {
		return field.Error()
	}
	return strict.ErrMalformed.Error()
}

// fail answers that a call came to nothing, for a reason that the log need not
// hear of.
func (c *apiCall) fail(w http.ResponseWriter, r *http.Request, status int, code, detail string) error {
	refuseBody(w, r)
	c.problem(w, r, page.Problem{Status: status, Code: code, Detail: detail})
	return nil
}

// problem writes a problem of this call's.
func (c *apiCall) problem(w http.ResponseWriter, r *http.Request, p page.Problem) {
	p.RequestID = requestID(r)
	if c.grant != "" {
		p.OAuth = c.inOAuth(p)
	}
	page.WriteProblem(w, p)
}

// answer writes what a call came to.
func (c *apiCall) answer(w http.ResponseWriter, status int, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	h := w.Header()
	if c.native {
		h.Del("Set-Cookie")
	}
	dress(h)
	h["Cache-Control"] = noStore
	h["Content-Length"] = []string{strconv.Itoa(len(body) + 1)} // whole, whatever is done after it
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // whoever asked may have left
	return nil
}

// dress keeps an answer from being taken for a page, and out of other sites'.
func dress(h http.Header) {
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}
