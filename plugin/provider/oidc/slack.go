package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// Slack signs people in with an account of a Slack workspace.
//
//	slack [<id> <secret>] {
//		team <id...>
//	}
//
// Without id and secret they are taken from SLACK_CLIENT_ID and
// SLACK_CLIENT_SECRET. Slack takes only https callbacks.
//
// Whoever owns a workspace can change the addresses of its members, and anybody
// can open one. So an address counts as verified only in the workspaces that
// `team` lists: there it is as good as the people who administer them. And
// without `team`, a site whose rules name addresses does not load.
type Slack struct {
	provider.Options
	Endpoints

	// Only members of the workspaces with these IDs, such as T0123ABC456, may
	// sign in; the ID stands in the address of the workspace in a browser,
	// app.slack.com/client/T0123ABC456. Default: of every workspace that Slack
	// lets into your app.
	Team []string `json:"team,omitempty"`

	party
	teams slackTeams
}

// CaddyModule returns the module's ID.
func (*Slack) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "login.providers.slack", New: func() caddy.Module { return new(Slack) }}
}

var slackDefaults = provider.Defaults{
	Name:         "slack",
	Label:        "Slack",
	ClientID:     "{env.SLACK_CLIENT_ID}",
	ClientSecret: "{env.SLACK_CLIENT_SECRET}",
}

// UnmarshalCaddyfile reads the block shown at Slack.
func (s *Slack) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return s.Unmarshal(d, slackDefaults, s.option)
}

// Slack does not tell a refresh token of an account that ended, by an error code
// one could go by, from any other failure.
var slackLacks = lacking{"groups", "revalidate", "provider_logout", "native_client_ids"}

func (s *Slack) option(d *caddyfile.Dispenser) error {
	switch d.Val() {
	case "team":
		return provider.CheckedTexts(d, &s.Team, checkSlackTeams)
	default:
		return provider.Rest(d, []string{"team"},
			slackLacks.of("slack", &s.Options), &s.Endpoints)
	}
}

// slackTeamClaim is the workspace that an account belongs to.
const slackTeamClaim = "https://slack.com/team_id"

var slackTeam = regexp.MustCompile(`^T[A-Z0-9]{2,30}$`)

func checkSlackTeams(ids []string) error {
	for _, id := range ids {
		if !slackTeam.MatchString(id) {
			return fmt.Errorf("team: %q is no workspace: write its ID, such as T0123ABC456, "+
				"as it is in app.slack.com/client/T0123ABC456", provider.Cut(id, 64))
		}
	}
	return nil
}

// Provision checks the settings and resolves placeholders. It touches no
// network.
func (s *Slack) Provision(caddy.Context) (err error) {
	if s.teams, err = provider.AllPlaceholders("team", s.Team); err != nil {
		return err
	}
	if err := errors.Join(checkSlackTeams(s.teams), s.checkOpen()); err != nil {
		return err
	}
	return s.party.setUp(settings{options: &s.Options, endpoints: s.Endpoints, clientAuth: "post"}, brand{
		key:      "slack",
		defaults: slackDefaults,
		issuer:   "https://slack.com",
		// Slack has PKCE for apps that keep no secret; one that sends both is
		// turned away. The nonce ties the code to this browser instead.
		refusesPKCE:   true,
		skipsUserinfo: true,
		lacks:         slackLacks,
		revocation:    revocation{beside: "auth.revoke", access: true},
		hint:          s.teams.hint,
		switchHint:    askAgain,
		admit:         s.teams.admit,
		admitsBy:      slackTeamClaim,
		proves:        s.teams.proves,
	})
}

// Revoke revokes the access token by Slack's own method, auth.revoke, in at most
// 10 s. What the token itself proves needs no secret of ours.
func (s *Slack) Revoke(ctx context.Context, g guest.Granted) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	g, err := s.revocable(g)
	if err != nil {
		return err
	}
	m, err := s.metadata.value(ctx)
	if err != nil {
		return err
	}
	call := provider.Call{What: "auth.revoke", Address: m.revocationURL, Access: string(g.Tokens.Access), Max: maxUserinfo}
	answer, err := call.Make(ctx, s.client)
	if err != nil {
		return err
	}
	return slackRevoked(answer)
}

// slackRevoked reads what auth.revoke answers: errors, too, come with status
// 200. invalid_auth says no more than that the token was not taken, be it for
// the address that we ask from.
func slackRevoked(answer provider.Answer) error {
	said, err := provider.ParseClaims(answer.Body)
	if answer.Status != http.StatusOK || err != nil {
		return failure(guest.Refused, "auth.revoke answered %d", answer.Status)
	}
	switch why := said.Text("error"); {
	case said.Proven("ok") || slices.Contains([]string{"token_revoked", "token_expired", "account_inactive"}, why):
		return nil
	case why == "invalid_auth":
		return provider.NotRevocable("auth.revoke does not take the token")
	default:
		return failure(guest.Refused, "auth.revoke answered %w", provider.ErrorCode(why))
	}
}

const anyOwner = "whoever owns a workspace can write any address into an account there: " +
	"write 'team <id...>' in the block of slack"

// checkOpen refuses to take a stranger's word.
func (s *Slack) checkOpen() error {
	if len(s.teams) == 0 && (s.EmailTrust == "verified" || s.EmailTrust == "authoritative") {
		return fmt.Errorf("email_trust %s: %s", s.EmailTrust, anyOwner)
	}
	return nil
}

// Traits says how the house treats this provider.
func (s *Slack) Traits() guest.Traits {
	traits := s.party.Traits()
	if len(s.teams) == 0 {
		traits.Email.Doubt = anyOwner
	}
	return traits
}

// slackTeams are the workspaces whose members may sign in; none means those of
// any.
//
// They are no part of the subject: `sub` is the user ID, which Slack makes
// unique among all workspaces. In an Enterprise organization it is also the
// same in each, so that its people do not become somebody else in the next.
type slackTeams []string

// hint has Slack offer the workspace. It enforces nothing: the visitor can
// change it.
func (t slackTeams) hint(query url.Values) {
	if len(t) == 1 {
		query.Set("team", t[0])
	}
}

// askAgain takes the hint back: with it, Slack signs in whoever agreed once
// without showing a thing.
func askAgain(query url.Values) { query.Del("team") }

func (t slackTeams) admit(c provider.Claims) error {
	if len(t) == 0 || slices.Contains(t, c.Text(slackTeamClaim)) {
		return nil
	}
	return &guest.Failure{
		Reason: guest.NotAllowed,
		Err:    errors.New("the account's workspace is none of the team list"),
	}
}

func (t slackTeams) proves(c provider.Claims, email string) bool {
	return len(t) > 0 && c.Text("email") == email && c.Proven("email_verified")
}

var (
	_ caddy.Module          = (*Slack)(nil)
	_ caddy.Provisioner     = (*Slack)(nil)
	_ caddyfile.Unmarshaler = (*Slack)(nil)
	_ guest.Provider        = (*Slack)(nil)
)
