package oauth

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/oauth2"

	"github.com/caddy-login/caddy-login/module/guest"
)

func (f *fake) forum(t testing.TB, change func(*OAuth2)) *OAuth2 {
	o := &OAuth2{
		Options: f.options(), Server: f.server(), UserinfoURL: f.URL + "/me",
		SubjectPath: "id", EmailPath: "email", NamePath: "name",
	}
	if change != nil {
		change(o)
	}
	return open(t, o)
}

func TestBeginAsksForACodeWithStateAndPKCE(t *testing.T) {
	f := newFake(t)
	a := attempt()
	want := url.Values{
		"tenant": {"a b"}, "response_type": {"code"}, "client_id": {clientID}, "redirect_uri": {a.RedirectURI},
		"state": {a.State}, "code_challenge": {oauth2.S256ChallengeFromVerifier(a.Verifier)}, "code_challenge_method": {"S256"},
	}
	if got := begin(t, f.forum(t, nil), a); !reflect.DeepEqual(got, want) {
		t.Errorf("asks for %v, want %v", got, want)
	}
	want.Set("scope", "profile email")
	got := begin(t, f.forum(t, func(o *OAuth2) { o.Scopes = []string{"profile", "email"} }), a)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("asks for %v, want %v", got, want)
	}
}

func TestBeginRefusesAnAttemptWithoutItsSecrets(t *testing.T) {
	p := newFake(t).forum(t, nil)
	for _, a := range []guest.Attempt{{Verifier: "v"}, {State: "s"}} {
		if address, err := p.Begin(context.Background(), a); err == nil {
			t.Errorf("began at %s", address)
		}
	}
}

func TestProviderThatWasNotProvisionedDoesNotOpen(t *testing.T) {
	for _, p := range []guest.Provider{new(OAuth2), new(GitHub), new(Facebook)} {
		if p.Open(env(nil)) == nil {
			t.Errorf("%T opened", p)
		}
	}
}

func TestSignInYieldsWhatIsAtThePaths(t *testing.T) {
	f := newFake(t)
	f.pages["/me"] = `{"data":{"who":[{"id":90071992547409931,"mail":"ada@example.com","sure":"true","call":"Ada\u202e"}]},"in":["ops"]}`
	p := f.forum(t, func(o *OAuth2) {
		o.SubjectPath, o.EmailPath, o.VerifiedPath, o.NamePath = "data.who.0.id", "data.who.0.mail", "data.who.0.sure", "data.who.0.call"
		o.Groups = "in"
	})
	got, err := f.signIn(t, p)
	want := guest.Profile{
		Issuer: f.URL, Subject: "90071992547409931", Email: "ada@example.com", EmailTrust: guest.Verified,
		Name: "Ada", Groups: []string{"ops"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	if f.form.Get("code_verifier") == "" || f.form.Has("client_secret") {
		t.Errorf("sent the form %v", f.form)
	}
}

func TestHostileUserinfoIsRefused(t *testing.T) {
	for name, row := range hostile(t) {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.pages["/me"] = row.page
			_, err := f.signIn(t, f.forum(t, nil))
			wantRefusal(t, err, row.want)
		})
	}
}

func TestIDsKeepEveryDigit(t *testing.T) {
	f := newFake(t)
	p := f.forum(t, nil)
	for written, want := range map[string]string{
		`7`: "7", `"7"`: "7", `"a-b c"`: "a-b c", `0`: "0", `"007"`: "007",
		`123456789012345678901234567890`: "123456789012345678901234567890",
		`9007199254740993`:               "9007199254740993",
	} {
		f.pages["/me"] = `{"id":` + written + `}`
		got, err := f.signIn(t, p)
		if err != nil || got.Subject != want {
			t.Errorf("%s: got %q, %v", written, got.Subject, err)
		}
	}
}

func TestPathsEndWhereNothingIs(t *testing.T) {
	f := newFake(t)
	f.pages["/me"] = `{"id":"x","a":{"b":"c"},"l":["m"],"a.b":"dotted"}`
	for _, path := range []string{"b", "a.c", "a.b.c", "l.1", "l.-1", "l.x", "l.m", "a", "l", "id.0"} {
		p := f.forum(t, func(o *OAuth2) { o.SubjectPath = path })
		if got, err := f.signIn(t, p); err == nil {
			t.Errorf("%s identifies as %q", path, got.Subject)
		}
	}
	got, err := f.signIn(t, f.forum(t, func(o *OAuth2) { o.SubjectPath = "a.b" }))
	if err != nil || got.Subject != "c" {
		t.Errorf("got %q, %v", got.Subject, err)
	}
}

func TestOnlyTrueAtTheVerifiedPathProvesAnAddress(t *testing.T) {
	f := newFake(t)
	for written, want := range map[string]guest.Trust{
		`true`: guest.Verified, `"true"`: guest.Verified,
		`false`: guest.Asserted, `1`: guest.Asserted, `"1"`: guest.Asserted, `"yes"`: guest.Asserted, `null`: guest.Asserted,
		`[true]`: guest.Asserted, `{"true":true}`: guest.Asserted,
	} {
		f.pages["/me"] = `{"id":1,"email":"ada@example.com","verified":` + written + `,"email_verified":true}`
		got, err := f.signIn(t, f.forum(t, func(o *OAuth2) { o.VerifiedPath = "verified" }))
		if err != nil || got.EmailTrust != want {
			t.Errorf("%s: got %d, %v", written, got.EmailTrust, err)
		}
	}
	f.pages["/me"] = `{"id":1,"email":"ada@example.com","verified":true,"email_verified":true}`
	got, err := f.signIn(t, f.forum(t, nil))
	if err != nil || got.EmailTrust != guest.Asserted {
		t.Errorf("without verified_path: got %d, %v", got.EmailTrust, err)
	}
}

func TestWhatIsNoAddressIsNone(t *testing.T) {
	f := newFake(t)
	for _, written := range []string{`""`, `null`, `7`, `["ada@example.com"]`, `"ada"`, `"a@b@c"`, `"a@b.example, c@d.example"`, `"a@b.example\n"`} {
		f.pages["/me"] = `{"id":1,"email":` + written + `}`
		got, err := f.signIn(t, f.forum(t, nil))
		if err != nil || got.Email != "" || got.EmailTrust != guest.NoEmail {
			t.Errorf("%s: got %q, %d, %v", written, got.Email, got.EmailTrust, err)
		}
	}
}

func TestGroupsAreWholeOrNone(t *testing.T) {
	f := newFake(t)
	for written, want := range map[string][]string{
		`["a","b"]`: {"a", "b"}, `"a"`: {"a"}, `null`: nil, `["a",1]`: nil, `[""]`: nil, `{"a":1}`: nil,
	} {
		f.pages["/me"] = `{"id":1,"x":{"groups":` + written + `}}`
		got, err := f.signIn(t, f.forum(t, func(o *OAuth2) { o.Groups = "x.groups" }))
		if err != nil || !reflect.DeepEqual(got.Groups, want) {
			t.Errorf("%s: got %q, %v", written, got.Groups, err)
		}
	}
}

// Whoever points an instance at another server must not turn its people into
// those of the other; whoever moves an endpoint must keep them.
func TestIssuerFollowsTheServerNotThePath(t *testing.T) {
	for _, row := range []struct{ issuer, userinfo, want string }{
		{"", "https://a.example/v1/me", "https://a.example"},
		{"", "https://a.example/v2/me?x=y", "https://a.example"},
		{"", "https://A.example:443/v2/me", "https://a.example"},
		{"", "https://a.example:8443/me", "https://a.example:8443"},
		{"", "https://b.example/me", "https://b.example"},
		{"", "http://localhost:80/me", "http://localhost"},
		{"https://a.example", "https://b.example/me", "https://a.example"},
	} {
		o := newFake(t).forum(t, func(o *OAuth2) { o.Issuer, o.UserinfoURL = row.issuer, row.userinfo })
		if o.at.Issuer != row.want {
			t.Errorf("%+v: issuer is %s", row, o.at.Issuer)
		}
	}
}

func TestAnswersOfAnotherIssuerAreRefused(t *testing.T) {
	f := newFake(t)
	f.pages["/me"] = `{"id":1}`
	said := f.forum(t, func(o *OAuth2) { o.Issuer = "https://id.example" })
	silent := f.forum(t, nil)
	for _, row := range []struct {
		p      guest.Provider
		answer url.Values
		want   guest.Reason
	}{
		{said, url.Values{"code": {"the-code"}}, ""},
		{said, url.Values{"code": {"the-code"}, "iss": {"https://id.example"}}, ""},
		{said, url.Values{"code": {"the-code"}, "iss": {"https://id.example/"}}, guest.Untrusted},
		{said, url.Values{"code": {"the-code"}, "iss": {""}}, guest.Untrusted},
		{said, url.Values{"error": {"access_denied"}, "iss": {"https://evil.example"}}, guest.Untrusted},
		{silent, url.Values{"code": {"the-code"}, "iss": {"https://anything.example"}}, ""},
		{silent, url.Values{"error": {"access_denied"}, "error_description": {"ada@example.com said no"}}, guest.Cancelled},
		{silent, url.Values{"error": {"server_error"}}, guest.Refused},
		{silent, url.Values{"error": {"redirect_uri_mismatch"}, "code": {"the-code"}}, guest.Refused},
		{silent, url.Values{}, guest.Untrusted},
		{silent, url.Values{"code": {""}}, guest.Untrusted},
		{silent, url.Values{"code": {"another"}}, guest.Refused},
	} {
		_, err := f.answerWith(t, row.p, row.answer)
		if row.want == "" && err != nil {
			t.Errorf("%v: %v", row.answer, err)
		}
		if row.want != "" {
			wantRefusal(t, err, row.want)
		}
	}
}

func TestTokenAnswersThatMustBeRefused(t *testing.T) {
	for name, row := range map[string]struct {
		spoil func(*fake)
		want  guest.Reason
	}{
		"error with status 200":   {func(f *fake) { f.token = object{"error": "incorrect_client_credentials"} }, guest.Refused},
		"error with status 400":   {func(f *fake) { f.tokenStatus = 400; f.rawToken = `{"error":{"message":"no","code":100}}` }, guest.Refused},
		"status 500":              {func(f *fake) { f.tokenStatus = 500 }, guest.Unavailable},
		"status 429":              {func(f *fake) { f.tokenStatus = 429 }, guest.Unavailable},
		"no access token":         {func(f *fake) { f.token = object{"access_token": nil} }, guest.Refused},
		"access token empty":      {func(f *fake) { f.token = object{"access_token": ""} }, guest.Refused},
		"access token a number":   {func(f *fake) { f.token = object{"access_token": 7} }, guest.Refused},
		"token type mac":          {func(f *fake) { f.token = object{"token_type": "mac"} }, guest.Untrusted},
		"token type dpop":         {func(f *fake) { f.token = object{"token_type": "DPoP"} }, guest.Untrusted},
		"no JSON":                 {func(f *fake) { f.rawToken = "<html>" }, guest.Refused},
		"a list":                  {func(f *fake) { f.rawToken = `[{"access_token":"x"}]` }, guest.Refused},
		"10 MB":                   {func(f *fake) { f.rawToken = `{"access_token":"` + strings.Repeat("x", 10<<20) + `"}` }, guest.Refused},
		"an error code that lies": {func(f *fake) { f.token = object{"error": "the-code ada@example.com"} }, guest.Refused},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.pages["/me"] = `{"id":1}`
			row.spoil(f)
			_, err := f.signIn(t, f.forum(t, nil))
			wantRefusal(t, err, row.want)
			if n := f.count("/token"); n != 1 {
				t.Errorf("the code was sent %d times", n)
			}
			if n := f.count("/me"); n != 0 {
				t.Errorf("userinfo was asked %d times", n)
			}
		})
	}
}

func TestTokenAnswerOfAFormIsRead(t *testing.T) {
	f := newFake(t)
	f.pages["/me"] = `{"id":1}`
	f.token = object{"token_type": nil}
	if _, err := f.signIn(t, f.forum(t, nil)); err != nil {
		t.Errorf("without a token type: %v", err)
	}
	for _, r := range f.asked {
		if got := r.Header.Get("Accept"); got != "application/json" {
			t.Errorf("%s is asked for %q", r.URL.Path, got)
		}
	}
}

func TestSecretIsSentAsTheOperatorWrote(t *testing.T) {
	f := newFake(t)
	f.pages["/me"] = `{"id":1}`
	for auth, inForm := range map[string]bool{"": false, "basic": false, "post": true} {
		if _, err := f.signIn(t, f.forum(t, func(o *OAuth2) { o.ClientAuth = auth })); err != nil {
			t.Errorf("%q: %v", auth, err)
		}
		if f.form.Has("client_secret") != inForm {
			t.Errorf("%q: the form is %v", auth, f.form)
		}
	}
}

func TestSlowServerIsGivenUp(t *testing.T) {
	f := newFake(t)
	f.pages["/me"] = http.HandlerFunc(slow)
	p := f.forum(t, nil)
	a := attempt()
	f.challenge = begin(t, p, a).Get("code_challenge")
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	_, err := p.Finish(ctx, a, url.Values{"code": {"the-code"}})
	wantRefusal(t, err, guest.Unavailable)

	gone := newFake(t)
	p = gone.forum(t, nil)
	gone.Close()
	_, err = p.Finish(context.Background(), a, url.Values{"code": {"the-code"}})
	wantRefusal(t, err, guest.Unavailable)
}

func TestJSONIsCheckedAsTheCaddyfileIs(t *testing.T) {
	f := newFake(t)
	for want, spoil := range map[string]func(*OAuth2){
		"subject_path is missing":                            func(o *OAuth2) { o.SubjectPath = "" },
		"auth_url is missing":                                func(o *OAuth2) { o.AuthURL = "" },
		"token_url is missing":                               func(o *OAuth2) { o.TokenURL = "" },
		"userinfo_url is missing":                            func(o *OAuth2) { o.UserinfoURL = "" },
		`email_path: "a..b" is no path`:                      func(o *OAuth2) { o.EmailPath = "a..b" },
		`name_path: ".a" is no path`:                         func(o *OAuth2) { o.NamePath = ".a" },
		`groups: "a." is no path`:                            func(o *OAuth2) { o.Groups = "a." },
		"client_auth: unknown value 'jwt'":                   func(o *OAuth2) { o.ClientAuth = "jwt" },
		"userinfo_url: \"http://a.example\" must be https":   func(o *OAuth2) { o.UserinfoURL = "http://a.example" },
		"token_url is empty: set TEST_UNSET":                 func(o *OAuth2) { o.TokenURL = "{env.TEST_UNSET}" },
		"client_secret is missing":                           func(o *OAuth2) { o.ClientSecret = "" },
		"revocation_url: \"http://a.example\" must be https": func(o *OAuth2) { o.RevocationURL = "http://a.example" },
		"native_client_ids: oauth2 has no way to tell":       func(o *OAuth2) { o.NativeClientIDs = []string{"ios"} },
		`name "check"`:                                       func(o *OAuth2) { o.Name = "check" },
	} {
		o := &OAuth2{Options: f.options(), Server: f.server(), UserinfoURL: f.URL, SubjectPath: "id"}
		spoil(o)
		if err := o.Provision(caddy.Context{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestTraitsNameTheBrand(t *testing.T) {
	f := newFake(t)
	for p, want := range map[guest.Provider]string{
		f.forum(t, nil):                          "test test oauth2",
		open(t, &GitHub{Options: f.options()}):   "test GitHub github",
		open(t, &Facebook{Options: f.options()}): "test Facebook facebook",
	} {
		traits := p.Traits()
		if got := fmt.Sprint(traits.Name, " ", traits.Label, " ", traits.Brand); got != want || traits.FormPost {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
