package oidc

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-login/caddy-login/module/guest"
)

// newSlack plays Slack: errors come with status 200, the secret goes into the
// form, and who sends it must not speak of PKCE.
func newSlack(t testing.TB) *issuer {
	i := newIssuer(t)
	i.url, i.lax = i.Server.URL, true
	i.doc = object{
		"id_token_signing_alg_values_supported": []string{"RS256"},
		"response_modes_supported":              []string{"form_post"},
		"claims_supported":                      []string{"sub", "auth_time", "iss"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_post", "client_secret_basic"},
	}
	i.claims = object{
		"sub": "U0R7MFMJM", slackTeamClaim: "T0RR12345", "https://slack.com/user_id": "U0R7MFMJM",
		"auth_time": epoch.Unix(), "date_email_verified": 1622128723, "locale": "en-US", "given_name": "", "family_name": "",
		"at_hash": leftHalf("RS256", "the-access"), "https://slack.com/team_image_default": true,
	}
	i.info = object{"ok": false, "error": "invalid_auth"}
	i.answer = object{"ok": true}
	i.intruder = slackTurnsAway
	return i
}

func slackTurnsAway(w http.ResponseWriter, r *http.Request) bool {
	said := ""
	switch _, _, basic := r.BasicAuth(); {
	case r.URL.Path != "/token":
		return false
	case basic || r.PostFormValue("client_secret") != clientSecret:
		said = "bad_client_secret"
	case r.PostFormValue("code_verifier") != "":
		said = "internal_error"
	case r.PostFormValue("grant_type") == "refresh_token":
		return false
	case r.PostFormValue("code") != "the-code":
		said = "invalid_code"
	default:
		return false
	}
	w.Header().Set("Content-Type", "application/json")
	reply(w, object{"ok": false, "error": said})
	return true
}

func (i *issuer) slack(t testing.TB, teams ...string) *Slack {
	return open(t, i, &Slack{Options: i.options(), Endpoints: Endpoints{Issuer: i.url}, Team: teams})
}

func TestSlackGetsItsSecretAndNoPKCE(t *testing.T) {
	i := newSlack(t)
	p := i.slack(t, "T0RR12345")
	a := attempt()
	address, err := p.Begin(context.Background(), a)
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(address)
	if q := u.Query(); q.Has("code_challenge") || q.Has("response_mode") || q.Get("nonce") != a.Nonce ||
		q.Get("scope") != "openid email profile" {
		t.Errorf("asked for %v", q)
	}
	got, err := i.signIn(t, p)
	if err != nil {
		t.Fatal(err)
	}
	if got.Subject != "U0R7MFMJM" || got.Email != "ada@example.com" || got.EmailTrust != guest.Verified || got.Name != "Ada" {
		t.Errorf("got %+v", got)
	}
	if i.ui.Load() != 0 {
		t.Error("userinfo was asked: the ID token has it all")
	}
	if traits := p.Traits(); traits.Brand != "slack" || traits.Label != "Slack" || traits.FormPost || traits.Email.Doubt != "" {
		t.Errorf("traits are %+v", traits)
	}
}

func TestSlackIsHintedAtTheOneWorkspace(t *testing.T) {
	for name, row := range map[string]struct {
		teams   []string
		another bool
		want    string
	}{
		"one":                  {[]string{"T0RR12345"}, false, "T0RR12345"},
		"one, another account": {[]string{"T0RR12345"}, true, ""},
		"two":                  {[]string{"T0RR12345", "T0SS12345"}, false, ""},
		"any":                  {nil, false, ""},
	} {
		i := newSlack(t)
		a := attempt()
		a.SwitchAccount = row.another
		address, err := i.slack(t, row.teams...).Begin(context.Background(), a)
		if err != nil {
			t.Fatal(err)
		}
		u, _ := url.Parse(address)
		if got := u.Query().Get("team"); got != row.want {
			t.Errorf("%s: hinted at %q", name, got)
		}
	}
}

func TestSlackAdmitsTheTeamsByClaimAlone(t *testing.T) {
	for name, row := range map[string]struct {
		claim any
		teams []string
		want  bool
	}{
		"the one":                {"T0RR12345", []string{"T0RR12345"}, true},
		"one of two":             {"T0RR12345", []string{"T0SS12345", "T0RR12345"}, true},
		"any":                    {"T0RR12345", nil, true},
		"any, and none is told":  {nil, nil, true},
		"another":                {"T0SS12345", []string{"T0RR12345"}, false},
		"none is told":           {nil, []string{"T0RR12345"}, false},
		"an empty one":           {"", []string{"T0RR12345"}, false},
		"in small letters":       {"t0rr12345", []string{"T0RR12345"}, false},
		"one that begins alike":  {"T0RR123456", []string{"T0RR12345"}, false},
		"a list":                 {[]string{"T0RR12345"}, []string{"T0RR12345"}, false},
		"two, with space":        {"T0SS12345 T0RR12345", []string{"T0RR12345"}, false},
		"with a line break":      {"T0RR12345\n", []string{"T0RR12345"}, false},
		"an object":              {object{"T0RR12345": true}, []string{"T0RR12345"}, false},
		"with a NUL at the end":  {"T0RR12345\x00", []string{"T0RR12345"}, false},
		"a replacement for what": {"T0RR12345\ufffd", []string{"T0RR12345"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			i := newSlack(t)
			i.claims[slackTeamClaim] = row.claim
			// Neither a team that others write nor one beside the ID token counts.
			i.claims["https://slack.com/team_name"], i.claims["team_id"] = "T0RR12345", "T0RR12345"
			i.info = object{"ok": true, "sub": "U0R7MFMJM", slackTeamClaim: "T0RR12345"}
			i.answer["team"] = object{"id": "T0RR12345"}
			_, err := i.answerWith(t, i.slack(t, row.teams...), url.Values{"code": {"the-code"}, "team": {"T0RR12345"}})
			if (err == nil) != row.want || err != nil && guest.ReasonOf(err) != guest.NotAllowed {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestSlackAddressesCountInTheTeamsListed(t *testing.T) {
	ours := []string{"T0RR12345"}
	for name, row := range map[string]struct {
		teams  []string
		claims object
		want   guest.Trust
	}{
		"confirmed, in ours":    {ours, nil, guest.Verified},
		"unconfirmed, in ours":  {ours, object{"email_verified": false}, guest.Asserted},
		"no flag, in ours":      {ours, object{"email_verified": nil}, guest.Asserted},
		"a date is no flag":     {ours, object{"email_verified": nil, "date_email_verified": 1622128723}, guest.Asserted},
		"1, in ours":            {ours, object{"email_verified": 1}, guest.Asserted},
		"none, in ours":         {ours, object{"email": nil}, guest.NoEmail},
		"confirmed, in any":     {nil, nil, guest.Asserted},
		"the word true, in any": {nil, object{"email_verified": "true"}, guest.Asserted},
	} {
		t.Run(name, func(t *testing.T) {
			i := newSlack(t)
			i.claims = with(i.claims, row.claims)
			got, err := i.signIn(t, i.slack(t, row.teams...))
			if err != nil || got.EmailTrust != row.want {
				t.Errorf("got %+v, %v; want trust %d", got, err, row.want)
			}
		})
	}
}

func TestSlackNeverRunsTheMailboxUnlessTheOperatorSaysSo(t *testing.T) {
	for _, row := range []struct {
		domains []string
		teams   []string
		want    guest.Trust
	}{
		{nil, []string{"T0RR12345"}, guest.Verified},
		{[]string{"example.com"}, []string{"T0RR12345"}, guest.Authoritative},
		{[]string{"example.com"}, nil, guest.Asserted},
	} {
		i := newSlack(t)
		o := i.options()
		o.AuthoritativeDomains = row.domains
		got, err := i.signIn(t, open(t, i, &Slack{Options: o, Endpoints: Endpoints{Issuer: i.url}, Team: row.teams}))
		if err != nil || got.EmailTrust != row.want {
			t.Errorf("%+v: got %d, %v", row, got.EmailTrust, err)
		}
	}
}

// Userinfo is asked only where the operator wrote it, and what it says is
// signed by nobody.
func TestSlackAddressesBesideTheIDTokenProveNothing(t *testing.T) {
	i := newSlack(t)
	i.claims["email"] = nil
	i.info = object{"ok": true, "sub": "U0R7MFMJM", "email": "boss@example.com", "email_verified": true}
	at := Endpoints{Issuer: i.url, UserinfoURL: i.Server.URL + "/userinfo"}
	got, err := i.signIn(t, open(t, i, &Slack{Options: i.options(), Endpoints: at, Team: []string{"T0RR12345"}}))
	if err != nil || got.EmailTrust != guest.Asserted || i.ui.Load() != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestSlackOfAnybodyPutsAddressesInDoubt(t *testing.T) {
	i := newSlack(t)
	if doubt := i.slack(t).Traits().Email.Doubt; !strings.Contains(doubt, "write 'team <id...>'") {
		t.Errorf("the doubt is %q", doubt)
	}
}

// In an Enterprise organization a person signs in from each of its workspaces.
func TestSlackSubjectIsTheSameInEachWorkspace(t *testing.T) {
	i := newSlack(t)
	p := i.slack(t, "T0RR12345", "T0SS12345")
	for _, team := range []string{"T0RR12345", "T0SS12345"} {
		i.claims[slackTeamClaim] = team
		if got, err := i.signIn(t, p); err != nil || got.Subject != "U0R7MFMJM" || got.Issuer != i.url {
			t.Errorf("in %s: got %+v, %v", team, got, err)
		}
	}
}

func TestSlackErrorsComeWithStatus200(t *testing.T) {
	i := newSlack(t)
	_, err := i.answerWith(t, i.slack(t), url.Values{"code": {"spent"}})
	if err == nil || guest.ReasonOf(err) != guest.Refused || !strings.Contains(err.Error(), "invalid_code") {
		t.Errorf("got %v", err)
	}
	i = newSlack(t)
	if _, err := i.answerWith(t, i.slack(t), url.Values{"error": {"access_denied"}}); guest.ReasonOf(err) != guest.Cancelled {
		t.Errorf("who said no: %v", err)
	}
}

func TestSlackTokensThatMustBeRefused(t *testing.T) {
	for name, spoil := range map[string]func(*issuer){
		"no nonce":           func(i *issuer) { i.claims["nonce"] = nil },
		"nonce of another":   func(i *issuer) { i.claims["nonce"] = "abcd" },
		"aud of another app": func(i *issuer) { i.claims["aud"] = "25259531569.11152291" },
		"another's access":   func(i *issuer) { i.answer["access_token"] = "another" },
		"no sub":             func(i *issuer) { i.claims["sub"] = nil },
		"iss of government":  func(i *issuer) { i.claims["iss"] = "https://slack-gov.com" },
		"no ID token":        func(i *issuer) { i.answer["id_token"] = nil },
	} {
		i := newSlack(t)
		spoil(i)
		if _, err := i.signIn(t, i.slack(t, "T0RR12345")); err == nil || guest.ReasonOf(err) != guest.Untrusted {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSlackSettingsThatCannotHold(t *testing.T) {
	t.Setenv("TEST_TEAM", "T0RR12345")
	t.Setenv("TEST_NO_TEAM", "acme")
	i := newSlack(t)
	for name, row := range map[string]struct {
		change func(*Slack)
		want   string
	}{
		"trust in anybody":        {func(s *Slack) { s.EmailTrust = "verified" }, "email_trust verified: whoever owns a workspace"},
		"more of it":              {func(s *Slack) { s.EmailTrust = "authoritative" }, "email_trust authoritative: whoever"},
		"groups":                  {func(s *Slack) { s.Groups = slackTeamClaim }, "groups: slack lists none"},
		"a time":                  {func(s *Slack) { s.Revalidate = caddy.Duration(time.Hour) }, "revalidate: slack does not say whose"},
		"a name":                  {func(s *Slack) { s.Team = []string{"acme"} }, `team: "acme" is no workspace: write its ID, such as T0123ABC456`},
		"a name from outside":     {func(s *Slack) { s.Team = []string{"{env.TEST_NO_TEAM}"} }, `team: "acme" is no workspace`},
		"an ID inside":            {func(s *Slack) { s.Team = []string{"xT0RR12345"} }, `"xT0RR12345" is no workspace`},
		"an ID and more":          {func(s *Slack) { s.Team = []string{"T0RR12345 "} }, `"T0RR12345 " is no workspace`},
		"in small letters":        {func(s *Slack) { s.Team = []string{"t0rr12345"} }, `"t0rr12345" is no workspace`},
		"nothing":                 {func(s *Slack) { s.Team = []string{""} }, "team is missing"},
		"nothing from outside":    {func(s *Slack) { s.Team = []string{"{env.TEST_UNSET}"} }, "team is empty: set TEST_UNSET"},
		"one of two from nowhere": {func(s *Slack) { s.Team = []string{"T0RR12345", "{env.TEST_UNSET}"} }, "team is empty"},
		"trust in a team":         {func(s *Slack) { s.EmailTrust, s.Team = "verified", []string{"{env.TEST_TEAM}"} }, ""},
	} {
		s := &Slack{Options: i.options(), Endpoints: Endpoints{Issuer: i.url}}
		row.change(s)
		err := s.Provision(caddy.Context{})
		if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestSlackRenewsForTheTeamsAlone(t *testing.T) {
	for name, row := range map[string]struct {
		team any
		ends bool
	}{
		"the team":       {"T0RR12345", false},
		"none is told":   {nil, false},
		"another's team": {"T0SS12345", true},
	} {
		i := newSlack(t)
		o := i.options()
		o.Tokens = "keep"
		p := open(t, i, &Slack{Options: o, Endpoints: Endpoints{Issuer: i.url}, Team: []string{"T0RR12345"}})
		i.claims = with(i.claims, object{slackTeamClaim: row.team, "nonce": nil, "at_hash": nil})
		i.refresh, i.renewed = "refresh-0", object{"ok": true, "id_token": i.idToken()}
		kept := i.keeps("refresh-0")
		kept.Subject, kept.TokenSubject = "U0R7MFMJM", "U0R7MFMJM"
		got, err := p.Renew(context.Background(), kept)
		if errors.Is(err, guest.ErrGrantEnded) != row.ends || (err == nil) == row.ends || (got.Access == "") != row.ends {
			t.Errorf("%s: %v", name, err)
		}
	}
}
