package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-login/caddy-login/module/guest"
)

const hour = caddy.Duration(time.Hour)

// renewing is a forum whose person 1 signed in, and what is kept of them.
func (f *fake) renewing(t testing.TB, revalidate caddy.Duration) (*OAuth2, guest.Kept) {
	f.pages["/me"] = `{"id":1}`
	p := f.forum(t, func(o *OAuth2) { o.Tokens, o.Revalidate = "keep", revalidate })
	return p, f.kept("1", guest.Tokens{Access: access, Refresh: refresh, Expires: time.Now().Add(time.Hour)})
}

func (f *fake) kept(subject string, tokens guest.Tokens) guest.Kept {
	return guest.Kept{Tokens: tokens, Issuer: f.URL, Subject: subject}
}

// wantNotEnded checks that a renewal failed for this reason and ends nothing.
func wantNotEnded(t testing.TB, got guest.Tokens, err error, want guest.Reason) {
	t.Helper()
	wantRefusal(t, err, want)
	if errors.Is(err, guest.ErrGrantEnded) {
		t.Errorf("ends the session: %v", err)
	}
	if got != (guest.Tokens{}) {
		t.Errorf("returns tokens beside %v", err)
	}
}

func wantEnded(t testing.TB, got guest.Tokens, err error) {
	t.Helper()
	if !errors.Is(err, guest.ErrGrantEnded) || got != (guest.Tokens{}) {
		t.Errorf("does not end the session: %v", err)
		return
	}
	wantRefusal(t, err, guest.ReasonOf(err))
}

func TestTokensAreKeptOnlyWhereTheOperatorSaysSo(t *testing.T) {
	f := newFake(t)
	f.pages["/me"] = `{"id":1}`
	f.token = object{"refresh_token": refresh, "expires_in": 3600}
	for words, want := range map[string]bool{"": false, "keep": true, "forward": true, "revalidate": true} {
		got, err := f.signIn(t, f.forum(t, func(o *OAuth2) {
			if o.Tokens = words; words == "revalidate" {
				o.Tokens, o.Revalidate = "", hour
			}
		}))
		if err != nil || (got.Tokens != guest.Tokens{}) != want {
			t.Errorf("%q: got %t, %v", words, got.Tokens != guest.Tokens{}, err)
		}
		if left := time.Until(got.Tokens.Expires); want && (!got.Tokens.Access.Is(access) || !got.Tokens.Refresh.Is(refresh) || left < 59*time.Minute || left > time.Hour) {
			t.Errorf("%q: keeps other tokens, or for %s", words, left)
		}
		if got.Consent != "" || got.IDToken != "" {
			t.Errorf("%q: keeps more than tokens", words)
		}
	}
}

func TestRevalidateNeedsSomethingToAskWith(t *testing.T) {
	for _, row := range []struct {
		token object
		want  bool
	}{
		{object{"expires_in": 3600, "refresh_token": refresh}, true},
		{object{"expires_in": nil}, true},            // GitHub's OAuth apps
		{object{"expires_in": 5183944}, true},        // Facebook
		{object{"expires_in": "5183944"}, true},      // as a string
		{object{"expires_in": 3600}, false},          // nothing renews it
		{object{"expires_in": 0}, false},             // it is gone already
		{object{"expires_in": -1}, false},            // likewise
		{object{"expires_in": 7 * 24 * 3600}, false}, // Discord's, without its refresh token
		{object{"expires_in": 60, "refresh_token": ""}, false},
	} {
		f := newFake(t)
		f.pages["/me"], f.token = `{"id":1}`, row.token
		_, err := f.signIn(t, f.forum(t, func(o *OAuth2) { o.Revalidate = hour }))
		if row.want && err != nil {
			t.Errorf("%v: %v", row.token, err)
		}
		if row.want {
			continue
		}
		wantRefusal(t, err, guest.Refused)
		if !strings.Contains(fmt.Sprint(err), "offline_access") || !strings.Contains(fmt.Sprint(err), "remove revalidate") || f.count("/me") != 0 {
			t.Errorf("%v: no cure in %v, or went on", row.token, err)
		}
		if _, err := f.signIn(t, f.forum(t, func(o *OAuth2) { o.Tokens = "keep" })); err != nil {
			t.Errorf("%v: without revalidate: %v", row.token, err)
		}
	}
}

func TestRefreshTokenIsTradedOnce(t *testing.T) {
	f := newFake(t)
	p, k := f.renewing(t, 0)
	got, err := p.Renew(context.Background(), k)
	left := time.Until(got.Expires)
	if err != nil || !got.Access.Is(fresh) || !got.Refresh.Is("the-next-refresh") || left < 59*time.Minute || left > time.Hour {
		t.Errorf("got others, for %s, %v", left, err)
	}
	if f.count("/token") != 1 || f.count("/me") != 0 || f.form.Get("grant_type") != "refresh_token" || f.form.Has("client_secret") {
		t.Errorf("asked %d and %d times, with %v", f.count("/token"), f.count("/me"), f.form)
	}
}

func TestOldRefreshTokenStaysWhereNoneIsIssued(t *testing.T) {
	f := newFake(t)
	f.renewed = object{"refresh_token": nil}
	p, k := f.renewing(t, hour)
	got, err := p.Renew(context.Background(), k)
	if err != nil || !got.Access.Is(fresh) || !got.Refresh.Is(refresh) {
		t.Errorf("got others, %v", err)
	}
}

func TestRevalidateAsksWhoseTheFreshTokenIs(t *testing.T) {
	f := newFake(t)
	p, k := f.renewing(t, hour)
	if _, err := p.Renew(context.Background(), k); err != nil || f.count("/me") != 1 {
		t.Errorf("asked %d times, %v", f.count("/me"), err)
	}
	if got := f.asked[len(f.asked)-1].Header.Get("Authorization"); got != "Bearer "+fresh {
		t.Errorf("asked with %q", got)
	}
}

func TestTokensOfAnotherPersonAreRefusedAndEndNothing(t *testing.T) {
	f := newFake(t)
	p, k := f.renewing(t, hour)
	f.pages["/me"] = `{"id":2}`
	got, err := p.Renew(context.Background(), k)
	wantNotEnded(t, got, err, guest.Untrusted)

	f = newFake(t)
	p, k = f.renewing(t, hour)
	f.pages["/me"], k.Refresh = `{"id":2}`, ""
	got, err = p.Renew(context.Background(), k)
	wantNotEnded(t, got, err, guest.Untrusted)
}

// Whoever points a block at another server must not hand it the tokens of the
// one before.
func TestTokensOfAnotherIssuerAreSentNowhere(t *testing.T) {
	for _, token := range []guest.Secret{refresh, ""} {
		f := newFake(t)
		p, k := f.renewing(t, hour)
		k.Issuer, k.Refresh = "https://old.example", token
		got, err := p.Renew(context.Background(), k)
		wantNotEnded(t, got, err, guest.Untrusted)
		if len(f.asked) != 0 {
			t.Errorf("asked %d times", len(f.asked))
		}
	}
}

func TestRefreshTokenTakenBackEndsTheSession(t *testing.T) {
	for name, spoil := range map[string]func(*fake){
		"RFC 6749":           func(f *fake) { f.tokenStatus, f.renewed = 400, object{"error": "invalid_grant"} },
		"with status 401":    func(f *fake) { f.tokenStatus, f.renewed = 401, object{"error": "invalid_grant"} },
		"GitHub's, is a 200": func(f *fake) { f.renewed = object{"error": "bad_refresh_token"} },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			spoil(f)
			p, k := f.renewing(t, hour)
			got, err := p.Renew(context.Background(), k)
			wantEnded(t, got, err)
			if f.count("/token") != 1 {
				t.Errorf("the token was sent %d times", f.count("/token"))
			}
		})
	}
}

func TestRefreshThatFailsOtherwiseEndsNothing(t *testing.T) {
	for name, row := range map[string]struct {
		status int
		answer object
		want   guest.Reason
	}{
		"our secret is wrong":   {401, object{"error": "invalid_client"}, guest.Refused},
		"our grant is unknown":  {400, object{"error": "unauthorized_client"}, guest.Refused},
		"no known code":         {400, object{"error": "the-refresh is no good"}, guest.Refused},
		"403":                   {403, nil, guest.Refused},
		"429":                   {429, object{"error": "invalid_grant"}, guest.Unavailable},
		"500":                   {500, object{"error": "invalid_grant"}, guest.Unavailable},
		"no access token":       {200, object{"access_token": nil}, guest.Refused},
		"another type of token": {200, object{"token_type": "mac"}, guest.Untrusted},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			p, k := f.renewing(t, hour)
			f.tokenStatus, f.renewed = row.status, row.answer
			got, err := p.Renew(context.Background(), k)
			wantNotEnded(t, got, err, row.want)
		})
	}
	f := newFake(t)
	p, k := f.renewing(t, hour)
	f.Close()
	got, err := p.Renew(context.Background(), k)
	wantNotEnded(t, got, err, guest.Unavailable)
}

// X says invalid_request of a refresh token that a person took back.
func TestRefusalThatSaysNothingIsSettledByTheAccessToken(t *testing.T) {
	for name, row := range map[string]struct {
		page    any
		expires time.Duration // of the access token; 0: never
		ended   bool
	}{
		"it is not taken":              {status(401), time.Hour, true},
		"it is not taken, never aged":  {status(401), 0, true},
		"it is not taken, and expired": {status(401), -time.Second, false},
		"it is taken":                  {`{"id":1}`, time.Hour, false},
		"it is another's":              {`{"id":2}`, time.Hour, false},
		"there is no telling":          {status(503), time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			p, k := f.renewing(t, hour)
			f.tokenStatus, f.renewed, f.pages["/me"] = 400, object{"error": "invalid_request"}, row.page
			if k.Expires = time.Now().Add(row.expires); row.expires == 0 {
				k.Expires = time.Time{}
			}
			got, err := p.Renew(context.Background(), k)
			if row.ended {
				wantEnded(t, got, err)
			} else {
				wantNotEnded(t, got, err, guest.Refused)
			}
		})
	}
}

// The old refresh token may be spent: losing the new one would end the session
// at the next renewal.
func TestFreshTokensAreKeptThroughABadMinuteOfTheAPI(t *testing.T) {
	for name, page := range map[string]any{
		"500": status(500), "429": status(429), "403": status(403), "404": status(404), "no JSON": `<html>`, "a redirect": elsewhere(t),
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			p, k := f.renewing(t, hour)
			f.pages["/me"] = page
			got, err := p.Renew(context.Background(), k)
			if !got.Access.Is(fresh) || !got.Refresh.Is("the-next-refresh") {
				t.Errorf("the fresh tokens are lost beside %v", err)
			}
			if err == nil || errors.Is(err, guest.ErrGrantEnded) || strings.Contains(err.Error(), "the-") {
				t.Errorf("the house is told %v", err)
			}
		})
	}
}

func TestFreshTokenThatTheAPIDoesNotTakeEndsTheSession(t *testing.T) {
	f := newFake(t)
	p, k := f.renewing(t, hour)
	f.pages["/me"] = status(401)
	got, err := p.Renew(context.Background(), k)
	wantEnded(t, got, err)
}

func TestAccessTokenAloneIsAskedWith(t *testing.T) {
	for name, row := range map[string]struct {
		page    any
		expires time.Duration
		ended   bool
		want    guest.Reason // empty: renewed, or ended
	}{
		"still good":                     {`{"id":1}`, 0, false, ""},
		"still good, to expire":          {`{"id":1}`, time.Hour, false, ""},
		"taken back":                     {status(401), 0, true, ""},
		"taken back before it expired":   {status(401), time.Hour, true, ""},
		"expired":                        {status(401), -time.Hour, false, guest.Refused},
		"expiring as we speak":           {status(401), 30 * time.Second, false, guest.Refused},
		"not to be seen":                 {status(403), 0, false, guest.Refused},
		"gone":                           {status(404), 0, false, guest.Refused},
		"too many requests":              {status(429), 0, false, guest.Unavailable},
		"out of order":                   {status(500), 0, false, guest.Unavailable},
		"no JSON":                        {`<html>`, 0, false, guest.Untrusted},
		"somebody without an identifier": {`{}`, 0, false, guest.Untrusted},
		"a redirect":                     {elsewhere(t), 0, false, guest.Refused},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			p, k := f.renewing(t, hour)
			f.pages["/me"], k.Refresh = row.page, ""
			if k.Expires = time.Now().Add(row.expires); row.expires == 0 {
				k.Expires = time.Time{}
			}
			got, err := p.Renew(context.Background(), k)
			switch {
			case row.ended:
				wantEnded(t, got, err)
			case row.want != "":
				wantNotEnded(t, got, err, row.want)
			case err != nil || got != k.Tokens:
				t.Errorf("other tokens, or %v", err)
			}
			if f.count("/token") != 0 {
				t.Error("asked for tokens without a refresh token")
			}
		})
	}
}

func TestNothingKeptIsNothingToRenew(t *testing.T) {
	f := newFake(t)
	p, k := f.renewing(t, hour)
	k.Tokens = guest.Tokens{}
	got, err := p.Renew(context.Background(), k)
	wantNotEnded(t, got, err, guest.Refused)
	if len(f.asked) != 0 {
		t.Errorf("asked %d times", len(f.asked))
	}
	k.Refresh, f.tokenStatus, f.renewed = refresh, 400, object{"error": "invalid_request"}
	got, err = p.Renew(context.Background(), k)
	wantNotEnded(t, got, err, guest.Refused)
	if f.count("/me") != 0 {
		t.Error("asked the API without an access token")
	}
}

func TestRenewalGivesUpInTime(t *testing.T) {
	f := newFake(t)
	p, k := f.renewing(t, hour)
	f.pages["/me"], k.Refresh = http.HandlerFunc(slow), ""
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	got, err := p.Renew(ctx, k)
	wantNotEnded(t, got, err, guest.Unavailable)
}

func TestGitHubEndsWhoeverItsRulesShutOutByNow(t *testing.T) {
	const member = `{"state":"active","organization":{"login":"acme"}}`
	limited := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"message":"You have exceeded a secondary rate limit. Please wait."}`)
	})
	for name, row := range map[string]struct {
		org, user any
		ended     bool
		want      guest.Reason
	}{
		"still a member":           {member, octocat, false, ""},
		"no member any more":       {status(404), octocat, true, ""},
		"invited anew":             {strings.Replace(member, "active", "pending", 1), octocat, true, ""},
		"the app was taken back":   {member, status(401), true, ""},
		"too many requests":        {limited, octocat, false, guest.Unavailable},
		"out of order":             {status(502), octocat, false, guest.Unavailable},
		"another account signs in": {member, strings.Replace(octocat, "583231", "583232", 1), false, guest.Untrusted},
	} {
		t.Run(name, func(t *testing.T) {
			f := newGitHub(t)
			f.pages["/user/memberships/orgs/acme"], f.pages["/user"] = row.org, row.user
			p := f.github(t, func(g *GitHub) { g.Org, g.Revalidate = []string{"acme"}, hour })
			k := f.kept("583231", guest.Tokens{Access: access})
			got, err := p.Renew(context.Background(), k)
			switch {
			case row.ended:
				wantEnded(t, got, err)
			case row.want != "":
				wantNotEnded(t, got, err, row.want)
			case err != nil || got != k.Tokens:
				t.Errorf("other tokens, or %v", err)
			}
		})
	}
	f := newGitHub(t)
	p := f.github(t, func(g *GitHub) { g.Team, g.Revalidate = []string{"acme/ops"}, hour })
	f.pages["/user/teams"] = `[]`
	got, err := p.Renew(context.Background(), f.kept("583231", guest.Tokens{Access: access, Refresh: refresh}))
	wantEnded(t, got, err)
}

func TestFacebookSaysInItsWayThatATokenIsGone(t *testing.T) {
	answers := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			fmt.Fprint(w, body)
		}
	}
	for name, row := range map[string]struct {
		page  any
		ended bool
		want  guest.Reason
	}{
		"still good":             {mona, false, ""},
		"the app was removed":    {answers(400, `{"error":{"type":"OAuthException","code":190,"error_subcode":458}}`), true, ""},
		"the password is new":    {answers(401, `{"error":{"type":"OAuthException","code":190,"error_subcode":460}}`), true, ""},
		"no subcode":             {answers(400, `{"error":{"type":"OAuthException","code":190}}`), true, ""},
		"with status 200":        {`{"error":{"code":190},"id":1}`, true, ""},
		"merely expired":         {answers(400, `{"error":{"type":"OAuthException","code":190,"error_subcode":463}}`), false, guest.Refused},
		"expired, as a 401":      {answers(401, `{"error":{"type":"OAuthException","code":190,"error_subcode":463}}`), false, guest.Refused},
		"too many calls":         {answers(400, `{"error":{"type":"OAuthException","code":4}}`), false, guest.Refused},
		"a fault of theirs":      {answers(500, `{"error":{"type":"OAuthException","code":190}}`), false, guest.Unavailable},
		"a code that looks so":   {answers(400, `{"error":{"code":"x190"}}`), false, guest.Refused},
		"a code somewhere else":  {answers(400, `{"code":190}`), false, guest.Refused},
		"two codes, one of them": {answers(400, `{"error":{"code":4,"code":190}}`), false, guest.Refused},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.pages["/v26.0/me"] = row.page
			p := f.facebook(t, func(p *Facebook) { p.Revalidate = hour })
			k := f.kept("10223456789012345", guest.Tokens{Access: access, Expires: time.Now().Add(lasting)})
			got, err := p.Renew(context.Background(), k)
			switch {
			case row.ended:
				wantEnded(t, got, err)
			case row.want != "":
				wantNotEnded(t, got, err, row.want)
			case err != nil || got != k.Tokens:
				t.Errorf("other tokens, or %v", err)
			}
		})
	}
}

func TestBrandsRenew(t *testing.T) {
	eachBrand(t, func(t *testing.T, f *fake, row brandRow) {
		p := row.open(t, f, func(a *API) { a.Revalidate = hour })
		f.token = object{"refresh_token": refresh, "expires_in": 7200}
		profile, err := f.signIn(t, p)
		if err != nil {
			t.Fatal(err)
		}
		k := guest.Kept{Tokens: profile.Tokens, Issuer: profile.Issuer, Subject: profile.Subject}
		got, err := p.Renew(context.Background(), k)
		if err != nil || !got.Access.Is(fresh) || f.form.Has("client_secret") == row.basic {
			t.Errorf("got others, %v, with the form %v", err, f.form)
		}
		f.live = ""
		f.pages[row.path] = row.spell(`{"id":"42"}`)
		got, err = p.Renew(context.Background(), k)
		wantNotEnded(t, got, err, guest.Untrusted)
		f.pages[row.path], f.live, k.Refresh = status(401), "", ""
		got, err = p.Renew(context.Background(), k)
		wantEnded(t, got, err)
	})
}
