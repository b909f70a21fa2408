package module

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
)

func init() { caddy.RegisterModule(Admin{}) }

// Admin is the operator's side: routes of Caddy's admin endpoint, below /login/.
// Who may reach them is Caddy's to say; there is no other way to them.
//
//	GET    users                     ?after, ?limit; or one of ?id, ?email, ?identity
//	POST   users                     {"email", "name", "groups"}: invites somebody
//	POST   users/find                {"id"}, {"email"} or {"identity"}: the same, out of logs
//	GET    users/<id>
//	DELETE users/<id>
//	POST   users/<id>/disable
//	POST   users/<id>/enable
//	POST   users/<id>/end-sessions
//	PUT    users/<id>/groups         {"groups"}, or {"add", "remove"}
//	GET    sessions                  ?after, ?limit; or ?user
//	DELETE sessions/<handle>
//	GET    doctor
//	GET    backup
//	POST   restore                   the backup
//
// Caddy logs the addresses of these requests, so that what stands in a query
// stands in its log.
type Admin struct{}

// CaddyModule returns the module's name in Caddy.
func (Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.login", New: func() caddy.Module { return new(Admin) }}
}

// adminPath is what all paths of the operator's begin with.
const adminPath = "/login/"

// Routes are where Caddy finds us.
func (*Admin) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{{Pattern: adminPath, Handler: caddy.AdminHandlerFunc(serveOperator)}}
}

// service is what the operator may ask for. A * in its path stands for one
// element, which is then desk.name.
type service struct {
	method, path string
	serve        func(*desk) (any, error)
}

var services = []service{
	{http.MethodGet, "users", (*desk).users},
	{http.MethodPost, "users", (*desk).invite},
	{http.MethodPost, "users/find", (*desk).find},
	{http.MethodGet, "users/*", (*desk).user},
	{http.MethodDelete, "users/*", (*desk).erase},
	{http.MethodPost, "users/*/disable", (*desk).disable},
	{http.MethodPost, "users/*/enable", (*desk).enable},
	{http.MethodPost, "users/*/end-sessions", (*desk).endSessions},
	{http.MethodPut, "users/*/groups", (*desk).setGroups},
	{http.MethodGet, "sessions", (*desk).sessions},
	{http.MethodDelete, "sessions/*", (*desk).endSession},
	{http.MethodGet, "doctor", (*desk).doctor},
	{http.MethodGet, "backup", (*desk).backup},
	{http.MethodPost, "restore", (*desk).restore},
}

// desk is one request of the operator's.
type desk struct {
	w    http.ResponseWriter
	r    *http.Request
	name string // what the path names
	app  *App
}

// serveOperator answers one request, in JSON.
func serveOperator(w http.ResponseWriter, r *http.Request) error {
	d := &desk{w: w, r: r}
	s, err := d.choose()
	if err != nil {
		return err
	}
	if d.app, err = activeApp(); err != nil {
		return err
	}
	answer, err := s.serve(d)
	if err != nil {
		return asAPIError(err)
	}
	return d.answer(answer)
}

// choose finds the service that is asked for.
func (d *desk) choose() (*service, error) {
	path := strings.TrimPrefix(d.r.URL.Path, adminPath)
	found := false
	for i := range services {
		s := &services[i]
		name, ok := s.fits(path)
		if ok && s.method == d.r.Method {
			d.name = name
			return s, nil
		}
		found = found || ok
	}
	if found {
		return nil, caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: errors.New("method not allowed")}
	}
	return nil, caddy.APIError{HTTPStatus: http.StatusNotFound, Err: errors.New("no such path below " + adminPath)}
}

func (s *service) fits(path string) (name string, ok bool) {
	want, got := strings.Split(s.path, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return "", false
	}
	for i := range want {
		switch {
		case want[i] == "*" && got[i] != "":
			name = got[i]
		case want[i] != got[i]:
			return "", false
		}
	}
	return name, true
}

// activeApp is the app of the config that runs now: not that of the one in
// which the admin endpoint began.
func activeApp() (*App, error) {
	app, err := caddy.ActiveContext().AppIfConfigured("login")
	if err != nil {
		return nil, caddy.APIError{
			HTTPStatus: http.StatusNotFound,
			Err:        fmt.Errorf("finding login app: %w", err),
			Message:    "the running config has no login: is this the Caddy that you mean?",
		}
	}
	return app.(*App), nil
}

// enter is the house, once its store is open.
func (d *desk) enter() (*house, error) {
	house, err := d.app.door.enter()
	if err != nil {
		return nil, caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: err}
	}
	return house, nil
}

// lasting goes on once whoever asked has gone: a change that was begun is done
// whole.
func (d *desk) lasting() context.Context { return context.WithoutCancel(d.r.Context()) }

// none is the answer of what has nothing to say, or said it already.
type none struct{}

func (d *desk) answer(answer any) error {
	if answer == (none{}) {
		return nil
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("encoding answer: %w", err)
	}
	d.w.Header().Set("Content-Type", "application/json")
	d.w.Header().Set("Cache-Control", "no-store")
	_, err = d.w.Write(append(body, '\n'))
	return err
}

// maxBody is the longest body of a request, in bytes, but that of a restore.
const maxBody = 64 << 10

// read decodes the body into v. What it can't mean is refused: a misspelt field
// would else be a change that was not made.
func (d *desk) read(v any) error {
	if err := d.mustBe("application/json"); err != nil {
		return err
	}
	decoder := json.NewDecoder(http.MaxBytesReader(d.w, d.r.Body, maxBody))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(v); err != nil {
		return badRequest("reading the body: %v", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return badRequest("reading the body: there is more than one JSON value")
	}
	return nil
}

// readNothing refuses a body that nobody would look at.
func (d *desk) readNothing() error {
	if n, _ := io.ReadFull(d.r.Body, make([]byte, 1)); n > 0 {
		return badRequest("this takes no body: leave it out")
	}
	return nil
}

func (d *desk) mustBe(kind string) error {
	got, _, err := mime.ParseMediaType(d.r.Header.Get("Content-Type"))
	if err != nil || got != kind {
		return caddy.APIError{HTTPStatus: http.StatusUnsupportedMediaType, Err: errors.New("the body must be " + kind)}
	}
	return nil
}

// query is the parameters of the request, each given once and one of known.
func (d *desk) query(known ...string) (url.Values, error) {
	params, err := url.ParseQuery(d.r.URL.RawQuery)
	if err != nil {
		return nil, badRequest("reading the query: %v", err)
	}
	for name, values := range params {
		switch {
		case !slices.Contains(known, name):
			return nil, badRequest("unknown parameter %.40q (parameters: %s)", name, cmp.Or(strings.Join(known, ", "), "none"))
		case len(values) != 1 || values[0] == "":
			return nil, badRequest("parameter %s needs one value", name)
		}
	}
	return params, nil
}

// A page of a list has limit entries.
const (
	defaultPage = 100
	longestPage = 1000
)

func limitOf(params url.Values) (int, error) {
	if !params.Has("limit") {
		return defaultPage, nil
	}
	limit, err := strconv.Atoi(params.Get("limit"))
	if err != nil || limit < 1 || limit > longestPage {
		return 0, badRequest("limit: choose 1 to %d", longestPage)
	}
	return limit, nil
}

func badRequest(format string, args ...any) error {
	return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf(format, args...)}
}

// errNobody is told of whatever was not found: who it was is in the request.
var errNobody = caddy.APIError{HTTPStatus: http.StatusNotFound, Err: errors.New("no such user")}

// asAPIError is err as Caddy tells it to the operator, who may read all of it. It
// is logged as well, so that it names nobody.
func asAPIError(err error) error {
	var known caddy.APIError
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, guest.ErrNotFound):
		return errNobody
	case errors.Is(err, identity.ErrName), errors.Is(err, identity.ErrGroups):
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	case errors.Is(err, identity.ErrEmailInUse), errors.Is(err, identity.ErrState):
		return caddy.APIError{HTTPStatus: http.StatusConflict, Err: err}
	case errors.Is(err, guest.ErrFull), errors.Is(err, guest.ErrClosed):
		return caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: err}
	default:
		return err
	}
}

// Interface guards
var (
	_ caddy.Module      = (*Admin)(nil)
	_ caddy.AdminRouter = (*Admin)(nil)
)
