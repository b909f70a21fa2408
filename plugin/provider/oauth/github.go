package oauth

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// GitHub signs people in with a GitHub account, by an OAuth app or a GitHub
// App.
//
//	github [<id> <secret>] {
//		org <name...>
//		team <org/team...>
//		host <host>
//	}
//
// Without id and secret they are taken from GITHUB_CLIENT_ID and
// GITHUB_CLIENT_SECRET.
//
// A GitHub App has permissions in place of scopes: "Email addresses", read, and
// for org and team "Members" of the organization, read. An organization may
// have to approve the app before it tells who belongs to it; until then nobody
// counts as a member. With revalidate, org and team are asked about anew, and
// who left is signed out.
type GitHub struct {
	provider.Options
	Server

	// Only members of one of these organizations may sign in. Default: every
	// account.
	Org []string `json:"org,omitempty"`

	// Only members of one of these teams may sign in, each written as
	// organization/team, with the team's name as it is in addresses. Where org
	// is written too, both must hold.
	Team []string `json:"team,omitempty"`

	// The host of a GitHub Enterprise Server, such as github.example.com, or of
	// a tenant at ghe.com. Nobody has checked the addresses of people there: for
	// them to count as proven, write email_trust verified. Default: github.com.
	Host string `json:"host,omitempty"`

	// Where the API is. Default: https://api.github.com, or that of host.
	APIURL string `json:"api_url,omitempty"`

	party
	orgs  []string
	teams []string
}

// CaddyModule returns the module's ID.
func (*GitHub) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "login.providers.github", New: func() caddy.Module { return new(GitHub) }}
}

var githubDefaults = provider.Defaults{
	Name:         "github",
	Label:        "GitHub",
	ClientID:     "{env.GITHUB_CLIENT_ID}",
	ClientSecret: "{env.GITHUB_CLIENT_SECRET}",
}

const githubAPI = "https://api.github.com"

// How a list is read: by pages of its greatest size, and no more than make a
// thousand entries.
const (
	perPage  = 100
	maxPages = 10
)

// UnmarshalCaddyfile reads the block shown at GitHub.
func (g *GitHub) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return g.Unmarshal(d, githubDefaults, g.option)
}

func (g *GitHub) option(d *caddyfile.Dispenser) error {
	switch d.Val() {
	case "org":
		return provider.CheckedTexts(d, &g.Org, checkOrgs)
	case "team":
		return provider.CheckedTexts(d, &g.Team, checkTeams)
	case "host":
		return provider.Checked(d, &g.Host, func(host string) error {
			if provider.HasPlaceholder(host) {
				return nil
			}
			return checkHost(host)
		})
	case "native_client_ids":
		return d.WrapErr(ownTokensAlone("github"))
	default:
		return provider.Rest(d, []string{"org", "team", "host"},
			provider.Without{Part: &g.Options, Not: []string{"groups", "provider_logout", "native_client_ids"}}, g.addresses("api_url", &g.APIURL))
	}
}

var (
	orgName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$`)
	teamName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,99}/[A-Za-z0-9._-]{1,100}$`)
)

func checkOrgs(names []string) error {
	for _, name := range names {
		if !orgName.MatchString(name) {
			return fmt.Errorf("org: %q is no organization: write its name as it is in addresses, such as acme", provider.Cut(name, 100))
		}
	}
	return nil
}

func checkTeams(names []string) error {
	for _, name := range names {
		if !teamName.MatchString(name) {
			return fmt.Errorf("team: %q is no team: write organization/team, such as acme/ops", provider.Cut(name, 100))
		}
	}
	return nil
}

func checkHost(host string) error {
	if strings.ContainsAny(host, "/?#@ ") || provider.CheckIssuer("https://"+host) != nil {
		return fmt.Errorf("host: %q is no host: write one like github.example.com, without https://", provider.Cut(host, 100))
	}
	return nil
}

// Provision checks the settings and resolves placeholders. It touches no
// network.
func (g *GitHub) Provision(caddy.Context) error {
	if g.Groups != "" {
		return errors.New("groups: github lists none: write org or team, or remove it")
	}
	var err error
	if g.orgs, err = checkedNames("org", g.Org, checkOrgs); err != nil {
		return err
	}
	if g.teams, err = checkedNames("team", g.Team, checkTeams); err != nil {
		return err
	}
	if len(g.NativeClientIDs) > 0 {
		return ownTokensAlone("github")
	}
	at, err := g.locate()
	if err != nil {
		return err
	}
	b := brand{
		key:      "github",
		defaults: githubDefaults,
		scopes:   []string{"read:user", "user:email"},
		chooser:  url.Values{"prompt": {"select_account"}},
		who:      g.who,
		issuedTo: g.issuedTo,
	}
	if len(g.orgs)+len(g.teams) > 0 {
		b.needed = []string{"read:org"}
	}
	return g.setUp(&g.Options, at, b)
}

func checkedNames(field string, written []string, check func([]string) error) ([]string, error) {
	names, err := provider.AllPlaceholders(field, written)
	if err != nil {
		return nil, err
	}
	return names, check(names)
}

// locate returns where everything is: what the operator wrote, else what host
// has.
func (g *GitHub) locate() (place, error) {
	at, err := g.Server.resolve("api_url", g.APIURL)
	if err != nil {
		return at, err
	}
	host := "github.com"
	if g.Host != "" {
		if host, err = provider.Placeholders("host", g.Host); err == nil {
			err = checkHost(host)
		}
		if err != nil {
			return at, err
		}
		host = strings.ToLower(host)
		at.own = append(at.own, "https://"+host, apiOf(host))
	}
	at.api = strings.TrimSuffix(cmp.Or(at.api, apiOf(host)), "/")
	at.AuthURL = cmp.Or(at.AuthURL, "https://"+host+"/login/oauth/authorize")
	at.TokenURL = cmp.Or(at.TokenURL, "https://"+host+"/login/oauth/access_token")
	at.Issuer = cmp.Or(at.Issuer, homeOf(at.api))
	return at, nil
}

// hosted reports whether GitHub runs the host, and not its owner.
func hosted(host string) bool { return host == "github.com" || strings.HasSuffix(host, ".ghe.com") }

func apiOf(host string) string {
	if hosted(host) {
		return "https://api." + host
	}
	return "https://" + host + "/api/v3"
}

// homeOf is where the people of an API live. It names the issuer, not the
// host that was written: whoever points api_url elsewhere gets other people.
func homeOf(api string) string {
	origin := originOf(api)
	if host, ok := strings.CutPrefix(origin, "https://api."); ok && hosted(host) {
		return "https://" + host
	}
	return origin
}

// who asks whose the token is, every time: people change the account that they
// are signed in with.
func (g *GitHub) who(ctx context.Context, b bearer) (guest.Profile, error) {
	user, err := g.object(ctx, b, "user", "/user")
	if err != nil {
		return guest.Profile{}, err
	}
	if user["id"] != nil && user["id"][0] == '"' {
		return guest.Profile{}, provider.Untrusted("identifying the person: claim id is no number")
	}
	id, err := number(user, "id")
	if err != nil {
		return guest.Profile{}, err
	}
	if err := g.admit(ctx, b); err != nil {
		return guest.Profile{}, err
	}
	email, err := g.email(ctx, b)
	if err != nil {
		return guest.Profile{}, err
	}
	return guest.Profile{
		Subject:    id,
		Email:      email,
		EmailTrust: g.Trust(email, g.verifies()),
		Name:       cmp.Or(provider.Display(user.Text("name")), provider.Display(user.Text("login"))),
		Picture:    provider.Picture(user.Text("avatar_url")),
	}, nil
}

// verifies reports whether an address marked as verified was: by GitHub itself
// it was; an Enterprise Server's owner says so of all.
func (g *GitHub) verifies() bool { return g.at.api == githubAPI }

// ask is bearer.ask that takes GitHub's ways of saying "too many requests", all
// of them a 403, for what they are. One of them has no header to tell it by.
func (g *GitHub) ask(ctx context.Context, b bearer, what, path string) (provider.Answer, error) {
	answer, err := b.ask(ctx, what, g.at.api+path)
	if err != nil {
		return answer, err
	}
	spent := answer.Header.Get("X-RateLimit-Remaining") == "0" || answer.Header.Get("Retry-After") != ""
	spent = spent || bytes.Contains(bytes.ToLower(answer.Body), []byte("rate limit"))
	if answer.Status == http.StatusForbidden && spent {
		return answer, provider.Unavailable("%s answered 403: the rate limit is reached", what)
	}
	return answer, nil
}

func (g *GitHub) object(ctx context.Context, b bearer, what, path string) (provider.Claims, error) {
	answer, err := g.ask(ctx, b, what, path)
	if err != nil {
		return nil, err
	}
	return read(what, answer)
}

// errHidden: the token may not see what was asked for.
var errHidden = errors.New("not to be seen with this token")

// each hands the entries of a list to fn until that returns false. It counts
// the pages itself: whoever answers must not choose, by a Link header, where
// the token is sent next.
func (g *GitHub) each(ctx context.Context, b bearer, path string, fn func(provider.Claims) bool) error {
	for page := 1; page <= maxPages; page++ {
		answer, err := g.ask(ctx, b, path, fmt.Sprintf("%s?per_page=%d&page=%d", path, perPage, page))
		switch {
		case err != nil:
			return err
		case answer.Status == http.StatusForbidden || answer.Status == http.StatusNotFound:
			return errHidden
		case answer.Status != http.StatusOK:
			return refused(path, answer.Status)
		}
		list, err := provider.ParseList(answer.Body)
		if err != nil {
			return provider.Untrusted("reading %s: %w", path, err)
		}
		for _, entry := range list {
			if !fn(entry) {
				return nil
			}
		}
		if len(list) < perPage {
			return nil
		}
	}
	return nil
}

// email is the primary address, if GitHub verified it and mail reaches it; on
// an Enterprise Server, which verifies none, the primary one as it is. The
// address in the public profile plays no part. Where the person, or the app,
// did not let us see addresses, there is none.
func (g *GitHub) email(ctx context.Context, b bearer) (string, error) {
	if !b.granted("user:email") {
		return "", nil
	}
	var email string
	err := g.each(ctx, b, "/user/emails", func(entry provider.Claims) bool {
		if !entry.Proven("primary") || g.verifies() && !entry.Proven("verified") {
			return true
		}
		email = plainAddress(entry, "email")
		return false
	})
	if errors.Is(err, errHidden) {
		return "", nil
	}
	if strings.HasPrefix(provider.Domain(email), "users.noreply.") {
		return "", err
	}
	return email, err
}

// admit turns away whoever org and team shut out. What can't be told counts
// as no.
func (g *GitHub) admit(ctx context.Context, b bearer) error {
	if len(g.orgs)+len(g.teams) == 0 {
		return nil
	}
	if !b.granted("read:org") {
		return provider.Fail(guest.NotAllowed, "scope read:org was not granted, so there is no telling who is a member")
	}
	if len(g.orgs) > 0 {
		if err := g.needOrg(ctx, b); err != nil {
			return err
		}
	}
	if len(g.teams) > 0 {
		return g.needTeam(ctx, b)
	}
	return nil
}

// needOrg asks for the membership of the token's owner. It does not ask for
// that of a login name: names change hands.
func (g *GitHub) needOrg(ctx context.Context, b bearer) error {
	for _, org := range g.orgs {
		answer, err := g.ask(ctx, b, "membership", "/user/memberships/orgs/"+url.PathEscape(org))
		if err != nil {
			return err
		}
		if answer.Status == http.StatusForbidden || answer.Status == http.StatusNotFound {
			continue
		}
		membership, err := read("membership", answer)
		if err != nil {
			return err
		}
		login := membership.At("organization.login").Text("organization.login")
		if membership.Text("state") == "active" && strings.EqualFold(login, org) {
			return nil
		}
	}
	return provider.Fail(guest.NotAllowed, "the account is no active member of any organization of the org list, as far as the app may see")
}

func (g *GitHub) needTeam(ctx context.Context, b bearer) error {
	found := false
	err := g.each(ctx, b, "/user/teams", func(team provider.Claims) bool {
		name := team.At("organization.login").Text("organization.login") + "/" + team.Text("slug")
		found = slices.ContainsFunc(g.teams, func(want string) bool { return strings.EqualFold(name, want) })
		return !found
	})
	if err != nil && !errors.Is(err, errHidden) {
		return err
	}
	if !found {
		return provider.Fail(guest.NotAllowed, "the account is in no team of the team list, as far as the app may see")
	}
	return nil
}

// Revoke deletes what the person granted to the app, with every token of it, in
// at most 10 s. GitHub knows the person by an access token alone: one that
// expired is traded for another first.
func (g *GitHub) Revoke(ctx context.Context, granted guest.Granted) error {
	ctx, cancel := context.WithTimeout(ctx, revokeWithin)
	defer cancel()
	if err := g.checkOurs(granted); err != nil {
		return err
	}
	access, err := g.stillGood(ctx, granted.Tokens)
	if err != nil {
		return err
	}
	r, err := g.revocation(ctx, access)
	if err != nil {
		return provider.Untrusted("making grant request: %w", err)
	}
	answer, err := provider.Ask(g.client, r, "grant", maxAnswer)
	switch {
	case err != nil:
		return err
	case answer.Status == http.StatusNoContent, answer.Status == http.StatusNotFound:
		return nil // 404: no token of this app's, or not any more
	default:
		return refused("grant", answer.Status)
	}
}

// stillGood returns an access token that has not expired.
func (g *GitHub) stillGood(ctx context.Context, kept guest.Tokens) (guest.Secret, error) {
	switch {
	case kept.Access != "" && !g.expired(asIssued(kept)):
		return kept.Access, nil
	case kept.Refresh == "":
		return "", provider.NotRevocable("no access token was kept that is still good")
	}
	id, secret := g.options.Client()
	issued, err := provider.Refresh{TokenURL: g.at.TokenURL, ClientID: id, Secret: secret, Token: kept.Refresh}.Do(ctx, g.client)
	if errors.Is(err, guest.ErrGrantEnded) {
		return "", provider.NotRevocable("the refresh token is good no more")
	}
	return guest.Secret(issued.Access), err
}

func (g *GitHub) revocation(ctx context.Context, access guest.Secret) (*http.Request, error) {
	id, secret := g.options.Client()
	body, err := json.Marshal(map[string]string{"access_token": string(access)})
	if err != nil {
		return nil, err
	}
	address := g.at.api + "/applications/" + url.PathEscape(id) + "/grant"
	r, err := http.NewRequestWithContext(ctx, http.MethodDelete, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.SetBasicAuth(id, string(secret))
	return r, nil
}

var (
	_ caddy.Module          = (*GitHub)(nil)
	_ caddy.Provisioner     = (*GitHub)(nil)
	_ caddyfile.Unmarshaler = (*GitHub)(nil)
	_ guest.Renewer         = (*GitHub)(nil)
)
