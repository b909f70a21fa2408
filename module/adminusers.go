package module

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-login/caddy-login/module/activity"
	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/module/identity"
	"github.com/caddy-login/caddy-login/module/session"
)

// userView is a user as the operator sees them.
type userView struct {
	ID    identity.UserID `json:"id"`    // never changes, never given again
	State identity.State  `json:"state"` // active, disabled or deleting
	// Email is the primary address, proven; empty where none is.
	Email identity.Email `json:"email,omitempty"`
	// Provisioned is an address that an operator wrote and nobody has proven
	// yet, where there is no other.
	Provisioned identity.Email `json:"provisioned,omitempty"`
	Name        string         `json:"name,omitempty"` // as the person or a provider wrote it
	// Groups are the operator's. Those of a provider are with its account.
	Groups    []string  `json:"groups"`
	Created   time.Time `json:"created"`          // when they first signed in, or were invited
	CreatedBy string    `json:"created_by"`       // a provider, or "operator"
	Deletes   time.Time `json:"deletes,omitzero"` // when a user who is deleting is no more
}

func viewOf(tx guest.Tx, user *identity.User) (userView, error) {
	view := userView{
		ID: user.ID, State: user.State, Email: user.Email, Name: user.Name, Groups: slices.Clone(user.Groups),
		Created: user.Created, CreatedBy: user.CreatedBy, Deletes: user.Deletes,
	}
	if view.Groups == nil {
		view.Groups = []string{}
	}
	if user.Email != "" {
		return view, nil
	}
	addresses, err := identity.Addresses(tx, user.ID)
	for _, address := range addresses {
		if !address.IsProven() {
			view.Provisioned = address.Email
			break
		}
	}
	return view, err
}

// userPage is the answer of a list of users.
type userPage struct {
	Users []userView `json:"users"` // by id
	// Next is what to ask for `after` to go on, also where this page is empty;
	// empty at the end.
	Next identity.UserID `json:"next,omitempty"`
}

// users lists them, or those of an id, an address or an account.
func (d *desk) users() (any, error) {
	params, err := d.query("after", "limit", "id", "email", "identity")
	if err != nil {
		return nil, err
	}
	if params.Has("id") || params.Has("email") || params.Has("identity") {
		if params.Has("after") || params.Has("limit") {
			return nil, badRequest("after and limit go with a list of all, not with a search")
		}
		return d.findUsers(search{ID: params.Get("id"), Email: params.Get("email"), Identity: params.Get("identity")})
	}
	return d.listUsers(params)
}

func (d *desk) listUsers(params url.Values) (any, error) {
	limit, err := limitOf(params)
	if err != nil {
		return nil, err
	}
	house, err := d.enter()
	if err != nil {
		return nil, err
	}
	page := userPage{Users: []userView{}}
	err = house.store.View(d.r.Context(), func(tx guest.Tx) error {
		users, next, err := identity.Page(tx, identity.UserID(params.Get("after")), limit)
		if err != nil {
			return err
		}
		page.Next = next
		page.Users, err = viewsOf(tx, users)
		return err
	})
	return page, err
}

func viewsOf(tx guest.Tx, users []identity.User) ([]userView, error) {
	views := make([]userView, 0, len(users))
	for i := range users {
		view, err := viewOf(tx, &users[i])
		if err != nil {
			return nil, err
		}
		views = append(views, view)
	}
	return views, nil
}

// search says who is looked for, by one of its fields.
type search struct {
	ID    string `json:"id"`    // of a user
	Email string `json:"email"` // proven or provisioned
	// Identity is <provider>:<subject>, an account at a provider.
	Identity string `json:"identity"`
}

func (d *desk) find() (any, error) {
	var wanted search
	if err := d.read(&wanted); err != nil {
		return nil, err
	}
	return d.findUsers(wanted)
}

func (d *desk) findUsers(wanted search) (any, error) {
	query, err := wanted.query()
	if err != nil {
		return nil, err
	}
	house, err := d.enter()
	if err != nil {
		return nil, err
	}
	page := userPage{Users: []userView{}}
	err = house.store.View(d.r.Context(), func(tx guest.Tx) error {
		users, err := identity.Find(tx, query)
		if err != nil {
			return err
		}
		page.Users, err = viewsOf(tx, users)
		return err
	})
	return page, err
}

func (s *search) query() (q identity.Query, err error) {
	given := 0
	for _, field := range []string{s.ID, s.Email, s.Identity} {
		if field != "" {
			given++
		}
	}
	if given != 1 {
		return q, badRequest("say one of id, email, identity")
	}
	q.ID = identity.UserID(s.ID)
	if s.Email != "" {
		if q.Email, err = identity.ParseEmail(s.Email); err != nil {
			return q, badRequest("email is no address")
		}
	}
	if s.Identity != "" {
		var found bool
		q.Provider, q.Subject, found = strings.Cut(s.Identity, ":")
		if !found || q.Provider == "" || q.Subject == "" {
			return q, badRequest("identity is no <provider>:<subject>")
		}
	}
	return q, nil
}

// addressView is an address of a user's.
type addressView struct {
	Address identity.Email `json:"address"`           // in canonical form
	Primary bool           `json:"primary,omitempty"` // the one that apps receive
	// Proven is when somebody proved to read it; absent while it is only
	// provisioned.
	Proven time.Time `json:"proven,omitzero"`
	By     string    `json:"by"` // the provider whose word proved it, or "operator"
}

// accountView is an account at a provider.
type accountView struct {
	Provider string    `json:"provider"`         // the operator's name of it
	Issuer   string    `json:"issuer"`           // as the provider names itself
	Subject  string    `json:"subject"`          // the provider's name for the person
	Email    string    `json:"email,omitempty"`  // what the provider said last, proven or not
	Linked   time.Time `json:"linked"`           // when it became the user's
	How      string    `json:"how,omitempty"`    // by which row of the decision table
	Groups   []string  `json:"groups,omitempty"` // what the provider said last
}

// activityView is something that happened to a user.
type activityView struct {
	At time.Time `json:"at"` // when it happened
	// What is such as signed_in, linked, disabled.
	What     activity.What `json:"what"`
	Row      string        `json:"row,omitempty"`        // of the decision table
	Provider string        `json:"provider,omitempty"`   // or "operator"
	Detail   string        `json:"detail,omitempty"`     // such as a masked address
	Device   string        `json:"device,omitempty"`     // the browser and its system
	Place    string        `json:"place,omitempty"`      // roughly
	Session  string        `json:"session,omitempty"`    // its handle
	Request  string        `json:"request_id,omitempty"` // as the log and the page have it
	Failed   bool          `json:"failed,omitempty"`     // it was tried and refused
}

// dossier is all that the operator may know of one user.
type dossier struct {
	User      userView       `json:"user"`      // as in a list
	Addresses []addressView  `json:"addresses"` // the primary first
	Accounts  []accountView  `json:"accounts"`  // the oldest first
	Sessions  []sessionView  `json:"sessions"`  // live ones, the last used first
	Activity  []activityView `json:"activity"`  // the newest first, at most 50
}

// recentActivity is how much of what happened a dossier tells.
const recentActivity = 50

// user tells all about one.
func (d *desk) user() (any, error) {
	house, err := d.enter()
	if err != nil {
		return nil, err
	}
	var file dossier
	err = house.store.View(d.r.Context(), func(tx guest.Tx) (err error) {
		file, err = d.dossier(tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	sessions, err := house.sessions.OfUser(d.r.Context(), file.User.ID)
	file.Sessions = sessionViews(sessions)
	return file, err
}

func (d *desk) dossier(tx guest.Tx) (file dossier, err error) {
	user, err := d.named(tx)
	if err != nil {
		return file, err
	}
	if file.User, err = viewOf(tx, user); err != nil {
		return file, err
	}
	if file.Addresses, err = addressViews(tx, user); err != nil {
		return file, err
	}
	if file.Accounts, err = accountViews(tx, user.ID); err != nil {
		return file, err
	}
	file.Activity, err = activityViews(tx, user.ID)
	return file, err
}

func addressViews(tx guest.Tx, user *identity.User) ([]addressView, error) {
	addresses, err := identity.Addresses(tx, user.ID)
	views := make([]addressView, 0, len(addresses))
	for _, a := range addresses {
		views = append(views, addressView{Address: a.Email, Primary: a.Email == user.Email, Proven: a.Proven, By: a.By})
	}
	return views, err
}

func accountViews(tx guest.Tx, user identity.UserID) ([]accountView, error) {
	accounts, err := identity.Accounts(tx, user)
	views := make([]accountView, 0, len(accounts))
	for _, a := range accounts {
		views = append(views, accountView{
			Provider: a.Provider, Issuer: a.Issuer, Subject: a.Subject, Email: a.Email,
			Linked: a.Linked, How: a.How, Groups: a.Groups,
		})
	}
	return views, err
}

func activityViews(tx guest.Tx, user identity.UserID) ([]activityView, error) {
	entries, _, err := activity.List(tx, user, "", recentActivity, time.Now())
	views := make([]activityView, 0, len(entries))
	for _, e := range entries {
		views = append(views, activityView{
			At: e.At, What: e.What, Row: e.Row, Provider: e.Provider, Detail: e.Detail, Device: e.Device,
			Place: e.Place, Session: e.Session, Request: e.RequestID, Failed: e.Failed,
		})
	}
	return views, err
}

// named is the user whom the path names. What is left of one who was deleted is
// nobody.
func (d *desk) named(tx guest.Tx) (*identity.User, error) {
	found, err := identity.Find(tx, identity.Query{ID: identity.UserID(d.name)})
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, guest.ErrNotFound
	}
	return &found[0], nil
}

// invitation is somebody to let in.
type invitation struct {
	Email  string   `json:"email"`  // who proves it becomes this user
	Name   string   `json:"name"`   // until they say another; may be empty
	Groups []string `json:"groups"` // besides "everybody"
}

// invite provisions a user: nobody yet, but whoever proves the address.
func (d *desk) invite() (any, error) {
	var i invitation
	if err := d.read(&i); err != nil {
		return nil, err
	}
	email, err := identity.ParseEmail(i.Email)
	if err != nil {
		return nil, badRequest("email is no address")
	}
	return d.change("user_provisioned", activity.Provisioned, func(tx guest.Tx, at time.Time) (identity.User, error) {
		return identity.Provision(tx, identity.Invitation{Email: email, Name: i.Name, Groups: i.Groups, At: at})
	})
}

func (d *desk) enable() (any, error) {
	if err := d.readNothing(); err != nil {
		return nil, err
	}
	return d.change("user_enabled", activity.Enabled, func(tx guest.Tx, at time.Time) (identity.User, error) {
		return identity.SetState(tx, identity.UserID(d.name), identity.Active, at)
	})
}

// disable shuts a user out, at once: their sessions end, and their streams.
func (d *desk) disable() (any, error) {
	if err := d.readNothing(); err != nil {
		return nil, err
	}
	answer, err := d.change("user_disabled", activity.Disabled, d.shutOut)
	if err != nil {
		return nil, err
	}
	_, err = d.endAll(identity.UserID(d.name))
	return answer, err
}

func (d *desk) shutOut(tx guest.Tx, at time.Time) (identity.User, error) {
	return identity.SetState(tx, identity.UserID(d.name), identity.Disabled, at)
}

// groupChange is what becomes of a user's groups: all of Groups, or those they
// have with Add and without Remove.
type groupChange struct {
	Groups *[]string `json:"groups"` // in place of all
	Add    []string  `json:"add"`    // besides those there are
	Remove []string  `json:"remove"` // of those there are
}

func (c *groupChange) of(had []string) []string {
	if c.Groups != nil {
		return *c.Groups
	}
	kept := slices.DeleteFunc(slices.Clone(had), func(g string) bool { return slices.Contains(c.Remove, g) })
	return append(kept, c.Add...)
}

func (d *desk) setGroups() (any, error) {
	var c groupChange
	if err := d.read(&c); err != nil {
		return nil, err
	}
	if (c.Groups != nil) == (len(c.Add)+len(c.Remove) > 0) {
		return nil, badRequest("say groups, or add and remove")
	}
	return d.change("user_groups_changed", activity.GroupsChanged, func(tx guest.Tx, _ time.Time) (identity.User, error) {
		user, err := d.named(tx)
		if err != nil {
			return identity.User{}, err
		}
		return identity.SetGroups(tx, user.ID, c.of(user.Groups))
	})
}

// change makes one change to a user, and tells of it: the user's activity, the
// log, the operator's events, and what is at hand of their sessions.
func (d *desk) change(event string, what activity.What, do func(guest.Tx, time.Time) (identity.User, error)) (any, error) {
	house, err := d.enter()
	if err != nil {
		return nil, err
	}
	var view userView
	err = house.store.Update(d.r.Context(), func(tx guest.Tx) error {
		at := time.Now().UTC()
		user, err := do(tx, at)
		if err != nil {
			return err
		}
		if view, err = viewOf(tx, &user); err != nil {
			return err
		}
		entry := activity.Entry{At: at, What: what, Provider: identity.Operator}
		if what == activity.GroupsChanged {
			entry.Detail = strings.Join(user.Groups, ", ")
		}
		return activity.Write(tx, user.ID, entry)
	})
	if err != nil {
		return nil, err
	}
	d.app.operated(event, view.ID)
	return view, house.sessions.ForgetUser(d.lasting(), view.ID)
}

// operated tells the log and the operator's events what an operator did.
func (a *App) operated(event string, user identity.UserID) {
	a.log.Info(strings.ReplaceAll(event, "_", " "), zap.String("by", identity.Operator), zap.String("user_id", string(user)))
	a.events.Emit(a.ctx, event, map[string]any{"user_id": string(user), "by": identity.Operator})
}

// erase deletes a user for good. The first write decides: from then on they are
// nobody, and what is broken off in between is done later, as for those who
// deleted themselves.
func (d *desk) erase() (any, error) {
	if err := d.readNothing(); err != nil {
		return nil, err
	}
	house, err := d.enter()
	if err != nil {
		return nil, err
	}
	id := identity.UserID(d.name)
	var ended []session.Ended
	err = house.store.Update(d.r.Context(), func(tx guest.Tx) (err error) {
		ended, err = d.condemn(tx, house)
		return err
	})
	if err != nil {
		return nil, err
	}
	d.app.forget(house, ended)
	last, err := house.eraseRest(d.lasting(), id, func(ended []session.Ended) { d.app.forget(house, ended) })
	if err != nil {
		return nil, err
	}
	if last {
		d.app.operated("user_deleted", id)
	}
	return deletion{Deleted: id}, nil
}

// condemn makes the user nobody, and has be revoked what they granted.
func (d *desk) condemn(tx guest.Tx, house *house) ([]session.Ended, error) {
	user, err := d.named(tx)
	if err != nil {
		return nil, err
	}
	at := time.Now().UTC()
	ended, err := house.revokeAll(tx, user.ID, at)
	if err != nil {
		return nil, err
	}
	_, err = identity.Erase(tx, user.ID, at)
	return ended, err
}

// deletion is the answer of one.
type deletion struct {
	Deleted identity.UserID `json:"deleted"` // never given to anybody else
}
