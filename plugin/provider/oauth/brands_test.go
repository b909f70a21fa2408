package oauth

import (
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/oauth2"

	"github.com/caddy-login/caddy-login/module/guest"
	"github.com/caddy-login/caddy-login/plugin/provider"
)

// plain is a brand whose block has no options of its own.
type plain interface {
	caddy.Provisioner
	guest.Renewer
}

// brandRow is a brand as its documentation shows it.
type brandRow struct {
	provider func(API) plain
	path     string // where it tells who somebody is
	subject  string // the claim that does
	page     string // what it answers, among much else, in no order to rely on
	want     guest.Profile
	scope    string // what is asked for
	offline  string // and what besides, where tokens are kept
	basic    bool
	chooser  string // what has a person look which account it is
}

const mailbox = `{"type":"email","links":{"self":{"href":"https://api.bitbucket.org/2.0/user/emails/x"}},`

var brandRows = map[string]brandRow{
	"discord": {
		provider: func(a API) plain { return &Discord{a} },
		path:     "/users/@me", subject: "id",
		page: `{"premium_type":2,"verified":true,"username":"nelly","primary_guild":null,"avatar":"a_8342729096ea3675442027381ff50dfe",` +
			`"discriminator":"0","email":"nelly@example.com","mfa_enabled":false,"global_name":"Nelly","id":"80351110224678912","clan":{"id":"7"}}`,
		want: guest.Profile{
			Subject: "80351110224678912", Email: "nelly@example.com", EmailTrust: guest.Verified, Name: "Nelly",
			Picture: "https://cdn.discordapp.com/avatars/80351110224678912/a_8342729096ea3675442027381ff50dfe.png",
		},
		scope: "identify email", basic: true, chooser: "prompt=consent",
	},
	"x": {
		provider: func(a API) plain { return &X{a} },
		path:     "/users/me", subject: "id",
		page: `{"includes":{"users":[{"id":"1"}]},"data":{"username":"adalovelace","verified":true,"confirmed_email":"ada@example.org",` +
			`"email":"other@example.org","name":"Ada","id":"2244994945","profile_image_url":"https:\/\/pbs.twimg.com\/profile_images\/1\/x_normal.jpg"}}`,
		want: guest.Profile{
			Subject: "2244994945", Email: "ada@example.org", EmailTrust: guest.Verified, Name: "Ada",
			Picture: "https://pbs.twimg.com/profile_images/1/x_normal.jpg",
		},
		scope: "users.read tweet.read users.email", offline: "offline.access", basic: true,
	},
	"bitbucket": {
		provider: func(a API) plain { return &Bitbucket{a} },
		path:     "/user", subject: "account_id",
		page: `{"uuid":"{c788b2da-b7a2-404c-9e26-d3f077557007}","nickname":"evzijst","type":"user","username":"evzijst","location":null,"id":3,` +
			`"links":{"self":{"href":"x"},"avatar":{"href":"https://secure.gravatar.com/avatar/1"}},"account_id":"557058:c0b72ad0-1cb5-4018-9cdc-0cde8492c443","display_name":"Erik"}`,
		want: guest.Profile{
			Subject: "557058:c0b72ad0-1cb5-4018-9cdc-0cde8492c443", Email: "erik@example.com", EmailTrust: guest.Verified,
			Name: "Erik", Picture: "https://secure.gravatar.com/avatar/1",
		},
		basic: true,
	},
	"amazon": {
		provider: func(a API) plain { return &Amazon{a} },
		path:     "/user/profile", subject: "user_id",
		page: `{"postal_code":"98101","id":9,"name":"John Doe","user_id":"amzn1.account.K2LI23KL2LK2","email":"johndoe@example.com","email_verified":true}`,
		want: guest.Profile{
			Subject: "amzn1.account.K2LI23KL2LK2", Email: "johndoe@example.com", EmailTrust: guest.Asserted, Name: "John Doe",
		},
		scope: "profile",
	},
	"spotify": {
		provider: func(a API) plain { return &Spotify{a} },
		path:     "/me", subject: "account_id",
		page: `{"display_name":"JM Wizzler","type":"user","id":"wizzler","uri":"spotify:user:wizzler","images":[{"url":"https://i.scdn.co/image/1","height":300,"width":300},` +
			`{"url":"https://i.scdn.co/image/2"}],"email":"wizzler@example.com","email_verified":true,"account_id":"7e5dGZ1Tq2Xn","followers":{"href":null,"total":3829}}`,
		want: guest.Profile{
			Subject: "7e5dGZ1Tq2Xn", Email: "wizzler@example.com", EmailTrust: guest.Asserted, Name: "JM Wizzler", Picture: "https://i.scdn.co/image/1",
		},
		scope: "user-read-email", basic: true, chooser: "show_dialog=true",
	},
}

// eachBrand runs a test for every brand, with a fake that knows one person.
func eachBrand(t *testing.T, test func(t *testing.T, f *fake, row brandRow)) {
	for name, row := range brandRows {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.pages[row.path] = row.page
			f.pages["/user/emails"] = `{"values":[` + mailbox + `"email":"old@example.com","is_primary":false,"is_confirmed":true},` +
				mailbox + `"email":"erik@example.com","is_primary":true,"is_confirmed":true}],"size":2,"page":1,"pagelen":100}`
			test(t, f, row)
		})
	}
}

// open is the row's provider, set up to ask the fake.
func (row brandRow) open(t testing.TB, f *fake, change func(*API)) plain {
	a := API{Options: f.options(), Server: f.server(), APIURL: f.URL + "/"}
	if change != nil {
		change(&a)
	}
	return open(t, row.provider(a))
}

func TestAccountsOfBrandsBecomeProfiles(t *testing.T) {
	eachBrand(t, func(t *testing.T, f *fake, row brandRow) {
		want := row.want
		want.Issuer = f.URL
		got, err := f.signIn(t, row.open(t, f, nil))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v\nwant %+v", got, err, want)
		}
		if f.form.Has("client_secret") == row.basic || f.form.Get("code_verifier") == "" {
			t.Errorf("sent the form %v", f.form)
		}
	})
}

func TestBrandsAreAskedForWhatTheyNeed(t *testing.T) {
	eachBrand(t, func(t *testing.T, f *fake, row brandRow) {
		a := attempt()
		got := begin(t, row.open(t, f, nil), a)
		if got.Get("scope") != row.scope || got.Has("prompt") || got.Has("show_dialog") || got.Get("state") != a.State {
			t.Errorf("asks for %v", got)
		}
		if got.Get("code_challenge") != oauth2.S256ChallengeFromVerifier(a.Verifier) || got.Get("code_challenge_method") != "S256" {
			t.Errorf("asks without PKCE: %v", got)
		}
		a.SwitchAccount = true
		name, value, _ := strings.Cut(row.chooser, "=")
		if got := begin(t, row.open(t, f, nil), a); got.Get(name) != value {
			t.Errorf("to switch, asks for %v", got)
		}
		a.SwitchAccount, a.Reauthenticate = false, true
		if got := begin(t, row.open(t, f, nil), a); got.Get(name) != value {
			t.Errorf("to prove it anew, asks for %v", got)
		}
		kept := begin(t, row.open(t, f, func(a *API) { a.Tokens = "keep" }), a)
		if want := strings.TrimSpace(row.scope + " " + row.offline); kept.Get("scope") != want {
			t.Errorf("to keep tokens, asks for %q, want %q", kept.Get("scope"), want)
		}
	})
}

func TestHostileAnswersOfBrandsAreRefused(t *testing.T) {
	eachBrand(t, func(t *testing.T, f *fake, row brandRow) {
		for name, bad := range hostile(t) {
			f.pages[row.path] = bad.page
			if written, ok := bad.page.(string); ok {
				f.pages[row.path] = row.spell(written)
			}
			_, err := f.signIn(t, row.open(t, f, nil))
			t.Run(name, func(t *testing.T) { wantRefusal(t, err, bad.want) })
			if n := f.count("/user/emails"); n != 0 {
				t.Errorf("%s: went on to ask for addresses", name)
			}
		}
	})
}

// spell is an answer as the brand would give it.
func (row brandRow) spell(written string) string {
	if row.path == "/users/me" && strings.HasPrefix(written, "{") {
		written = `{"data":` + written + `}`
	}
	return strings.ReplaceAll(written, `"id"`, `"`+row.subject+`"`)
}

// Somebody else may choose the name that somebody gave up; with the address of
// another, nobody gets to be them.
func TestPersonIsNeitherTheirNameNorTheirAddress(t *testing.T) {
	eachBrand(t, func(t *testing.T, f *fake, row brandRow) {
		for _, id := range []string{"ada@example.com", "ada lovelace", "ada\\n", "\\ufffd"} {
			f.pages[row.path] = row.spell(`{"id":"` + id + `"}`)
			_, err := f.signIn(t, row.open(t, f, nil))
			wantRefusal(t, err, guest.Untrusted)
		}
		for _, name := range []string{"nelly", "adalovelace", "evzijst", "wizzler"} {
			f.pages[row.path] = strings.ReplaceAll(row.page, `"`+name+`"`, `"renamed"`)
			got, err := f.signIn(t, row.open(t, f, nil))
			if err != nil || got.Subject != row.want.Subject {
				t.Errorf("another name makes it %q, %v", got.Subject, err)
			}
		}
	})
}

func TestBrandsSignInWhoeverHasNothingButAnIdentifier(t *testing.T) {
	eachBrand(t, func(t *testing.T, f *fake, row brandRow) {
		f.pages["/user/emails"] = `{"values":[]}`
		for _, rest := range []string{``, `,"email":null,"verified":null,"avatar":null,"global_name":null,"images":[],"name":7,"links":[]`,
			`,"email":"","confirmed_email":"","display_name":"","images":[{"url":"http://a.example/p"}],"avatar":"../../x"`,
			`,"email":"a@b@c","confirmed_email":"a@b@c","verified":true`} {
			f.pages[row.path] = row.spell(`{"id":"42"` + rest + `}`)
			got, err := f.signIn(t, row.open(t, f, nil))
			if err != nil || !reflect.DeepEqual(got, guest.Profile{Issuer: f.URL, Subject: "42"}) {
				t.Errorf("%s: got %+v, %v", rest, got, err)
			}
		}
	})
}

func TestAddressesOfBrandsAreWorthWhatTheyProve(t *testing.T) {
	const discord, x, amazon, spotify = "discord", "x", "amazon", "spotify"
	for _, row := range []struct {
		brand, answer, trust string
		want                 guest.Trust
	}{
		{discord, `"email":"a@b.example","verified":true`, "", guest.Verified},
		{discord, `"email":"a@b.example","verified":"true"`, "auto", guest.Verified},
		{discord, `"email":"a@b.example","verified":false`, "", guest.Asserted},
		{discord, `"email":"a@b.example","verified":null`, "", guest.Asserted},
		{discord, `"email":"a@b.example","verified":1`, "", guest.Asserted},
		{discord, `"email":"a@b.example","Verified":true`, "", guest.Asserted},
		{discord, `"email":"a@b.example"`, "", guest.Asserted},
		{discord, `"email":"a@b.example","verified":false`, "verified", guest.Verified},
		{discord, `"email":null,"verified":true`, "", guest.NoEmail},
		{x, `"confirmed_email":"a@b.example"`, "", guest.Verified},
		{x, `"confirmed_email":"a@b.example"`, "unverified", guest.Asserted},
		{x, `"email":"a@b.example","verified":true`, "", guest.NoEmail},
		{x, `"username":"a@b.example"`, "verified", guest.NoEmail},
		{x, `"confirmed_email":"adalovelace"`, "verified", guest.NoEmail},
		{amazon, `"email":"a@b.example","verified":true,"email_verified":true`, "", guest.Asserted},
		{amazon, `"email":"a@b.example"`, "verified", guest.Verified},
		{spotify, `"email":"a@b.example","verified":true,"email_verified":true`, "", guest.Asserted},
		{spotify, `"email":"a@b.example"`, "authoritative", guest.Authoritative},
	} {
		f, brand := newFake(t), brandRows[row.brand]
		f.pages[brand.path] = brand.spell(`{"id":"42",` + row.answer + `}`)
		got, err := f.signIn(t, brand.open(t, f, func(a *API) { a.EmailTrust = row.trust }))
		if err != nil || got.EmailTrust != row.want || (got.Email == "") != (row.want == guest.NoEmail) {
			t.Errorf("%+v: got %q, %d, %v", row, got.Email, got.EmailTrust, err)
		}
	}
}

func TestXIsAskedForAnAddressOnlyWithItsScope(t *testing.T) {
	for scope, want := range map[string]string{
		"":                       "profile_image_url,confirmed_email",
		"users.email users.read": "profile_image_url,confirmed_email",
		"users.read tweet.read":  "profile_image_url",
	} {
		f, row := newFake(t), brandRows["x"]
		f.pages[row.path], f.token = row.page, object{"scope": scope}
		if _, err := f.signIn(t, row.open(t, f, nil)); err != nil {
			t.Errorf("%q: %v", scope, err)
		}
		if got := f.asked[len(f.asked)-1].URL.Query(); !reflect.DeepEqual(got, url.Values{"user.fields": {want}}) {
			t.Errorf("%q: asked for %v", scope, got)
		}
	}
}

func TestBitbucketTakesTheConfirmedPrimaryAddressAlone(t *testing.T) {
	row := brandRows["bitbucket"]
	for list, want := range map[string]string{
		mailbox + `"email":"a@b.example","is_primary":true,"is_confirmed":true}`:                           "a@b.example",
		mailbox + `"email":"a@b.example","is_primary":true,"is_confirmed":false}`:                          "",
		mailbox + `"email":"a@b.example","is_primary":false,"is_confirmed":true}`:                          "",
		mailbox + `"email":"a@b.example","is_primary":1,"is_confirmed":true}`:                              "",
		mailbox + `"email":"a@b.example","is_primary":true,"is_confirmed":"yes"}`:                          "",
		mailbox + `"email":"a@b.example","is_primary":true}`:                                               "",
		mailbox + `"email":"a@b@c","is_primary":true,"is_confirmed":true}`:                                 "",
		mailbox + `"email":{"email":"a@b.example"},"is_primary":true,"is_confirmed":true}`:                 "",
		mailbox + `"Email":"a@b.example","is_primary":true,"is_confirmed":true}`:                           "",
		`{},` + mailbox + `"is_confirmed":true,"is_primary":true,"email":"c@b.example","x":{"email":"x"}}`: "c@b.example",
	} {
		f := newFake(t)
		f.pages[row.path], f.pages["/user/emails"] = row.page, `{"values":[`+list+`]}`
		got, err := f.signIn(t, row.open(t, f, nil))
		trust := map[bool]guest.Trust{true: guest.NoEmail, false: guest.Verified}[want == ""]
		if err != nil || got.Email != want || got.EmailTrust != trust {
			t.Errorf("%s: got %q, %d, %v", list, got.Email, got.EmailTrust, err)
		}
	}
}

func TestBitbucketPagesAreCountedByUsAndBounded(t *testing.T) {
	row := brandRows["bitbucket"]
	f := newFake(t)
	f.pages[row.path] = row.page
	more := `{"values":[],"next":"http://127.0.0.1:1/steal?page=2"}`
	f.pages["/user/emails"] = more
	f.pages["/user/emails?pagelen=100&page=3"] = `{"values":[` + mailbox + `"email":"c@b.example","is_primary":true,"is_confirmed":true}],"next":"x"}`
	got, err := f.signIn(t, row.open(t, f, nil))
	if err != nil || got.Email != "c@b.example" || f.count("/user/emails") != 3 {
		t.Errorf("got %q after %d pages, %v", got.Email, f.count("/user/emails"), err)
	}
	f = newFake(t)
	f.pages[row.path], f.pages["/user/emails"] = row.page, more
	got, err = f.signIn(t, row.open(t, f, nil))
	if err != nil || got.Email != "" || f.count("/user/emails") != maxPages {
		t.Errorf("got %q after %d pages, %v", got.Email, f.count("/user/emails"), err)
	}
}

func TestBitbucketAddressesThatCannotBeReadAreNoneOrAnError(t *testing.T) {
	row := brandRows["bitbucket"]
	for _, bad := range []struct {
		page any
		want guest.Reason // empty: a person without an address
	}{
		{status(403), ""}, {status(404), ""},
		{status(401), guest.Refused}, {status(500), guest.Unavailable}, {status(429), guest.Unavailable},
		{elsewhere(t), guest.Refused}, {http.HandlerFunc(big), guest.Unavailable},
		{`[]`, guest.Untrusted}, {`{}`, guest.Untrusted}, {`{"values":null}`, guest.Untrusted}, {`{"values":{}}`, guest.Untrusted},
		{`{"values":["a@b.example"]}`, guest.Untrusted}, {`{"values":[{"email":"a","email":"b"}]}`, guest.Untrusted},
	} {
		f := newFake(t)
		f.pages[row.path], f.pages["/user/emails"] = row.page, bad.page
		got, err := f.signIn(t, row.open(t, f, nil))
		if bad.want != "" {
			wantRefusal(t, err, bad.want)
		} else if err != nil || got.Subject != row.want.Subject || got.EmailTrust != guest.NoEmail {
			t.Errorf("%v: got %+v, %v", bad.page, got, err)
		}
	}
}

func TestBrandsAreFoundWhereTheyAre(t *testing.T) {
	for name, want := range map[string][]string{
		"discord":   {"https://discord.com", "https://discord.com/oauth2/authorize", "https://discord.com/api/oauth2/token", "https://discord.com/api/v10"},
		"x":         {"https://x.com", "https://x.com/i/oauth2/authorize", "https://api.x.com/2/oauth2/token", "https://api.x.com/2"},
		"bitbucket": {"https://bitbucket.org", "https://bitbucket.org/site/oauth2/authorize", "https://bitbucket.org/site/oauth2/access_token", "https://api.bitbucket.org/2.0"},
		"amazon":    {"https://www.amazon.com", "https://www.amazon.com/ap/oa", "https://api.amazon.com/auth/o2/token", "https://api.amazon.com"},
		"spotify":   {"https://accounts.spotify.com", "https://accounts.spotify.com/authorize", "https://accounts.spotify.com/api/token", "https://api.spotify.com/v1"},
	} {
		f, row := newFake(t), brandRows[name]
		for api, issuer := range map[string]string{
			"": want[0], want[3] + "/": want[0], "https://evil.example/v1": "https://evil.example",
		} {
			p := &API{Options: f.options(), APIURL: api}
			at := place{}
			switch brand := open(t, row.provider(*p)).(type) {
			case *Discord:
				at = brand.at
			case *X:
				at = brand.at
			case *Bitbucket:
				at = brand.at
			case *Amazon:
				at = brand.at
			case *Spotify:
				at = brand.at
			}
			if at.Issuer != issuer || at.AuthURL != want[1] || at.TokenURL != want[2] {
				t.Errorf("%s %q: got %+v", name, api, at)
			}
			if api == "" && at.api != want[3] {
				t.Errorf("%s: the API is %s", name, at.api)
			}
		}
	}
}

// The Caddyfile does not take such words; JSON is no way around.
func TestOptionsThatWouldDoNothingAreRefused(t *testing.T) {
	off := false
	for want, change := range map[string]func(*API){
		"has no address to sign out at: remove it": func(a *API) { a.ProviderLogout = &off },
		"lists none: remove it":                    func(a *API) { a.Groups = "x" },
		"token_header is only for":                 func(a *API) { a.TokenHeader = "X-Token" },
		"revalidate 1s is too often":               func(a *API) { a.Revalidate = 1e9 },
		"api_url: \"http://a.example\"":            func(a *API) { a.APIURL = "http://a.example" },
		"client_secret is empty: set TEST_UNSET":   func(a *API) { a.ClientSecret = "{env.TEST_UNSET}" },
	} {
		for name, row := range brandRows {
			a := API{Options: newFake(t).options()}
			change(&a)
			err := row.provider(a).Provision(caddy.Context{})
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want %s", name, err, want)
			}
		}
	}
	for _, p := range []caddy.Provisioner{
		&GitHub{Options: withLogout(t)}, &Facebook{Options: withLogout(t)},
		&OAuth2{Options: withLogout(t), Server: newFake(t).server(), UserinfoURL: "https://a.example", SubjectPath: "id"},
	} {
		if err := p.Provision(caddy.Context{}); err == nil || !strings.Contains(err.Error(), "has no address to sign out at") {
			t.Errorf("%T: got %v", p, err)
		}
	}
}

func TestBrandThatWasNotProvisionedDoesNotOpen(t *testing.T) {
	for name, row := range brandRows {
		if row.provider(API{}).Open(env(nil)) == nil {
			t.Errorf("%s opened", name)
		}
	}
}

func TestTraitsNameTheBrandsAndWhatBecomesOfTokens(t *testing.T) {
	labels := map[string]string{"discord": "Discord", "x": "X", "bitbucket": "Bitbucket", "amazon": "Amazon", "spotify": "Spotify"}
	eachBrand(t, func(t *testing.T, f *fake, row brandRow) {
		got := row.open(t, f, func(a *API) { a.Tokens = "forward" }).Traits()
		if labels[got.Brand] == "" || got.Label != labels[got.Brand] || got.FormPost || got.StaysSignedIn || got.SendsLogouts {
			t.Errorf("got %+v", got)
		}
		if want := (guest.TokenRules{Keep: true, Header: "X-Forwarded-Access-Token"}); got.Tokens != want {
			t.Errorf("got %+v", got.Tokens)
		}
	})
}

func withLogout(t testing.TB) provider.Options {
	on := true
	o := newFake(t).options()
	o.ProviderLogout = &on
	return o
}
