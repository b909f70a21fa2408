package page

import (
	"encoding/json"
	"html/template"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/caddy-login/caddy-login/module/guest"
)

// texts are what the outside world puts into a page.
type texts struct{ site, name, email, label, provider, address, request string }

var plain = texts{
	site: "Acme Intranet", name: "Ada Lovelace", email: "ada@example.com", label: "Example ID", provider: "Google",
	address: "/reports?year=2026&sort=name", request: "4f1c2a9be07d",
}

// drawn is one page as a test asks for it.
type drawn struct {
	name   string
	status int
	write  http.HandlerFunc
}

// everyPage is every page there is, filled with t.
func everyPage(p *Pages, t texts) []drawn {
	who := Account{Name: t.name, Email: t.email, Picture: t.address}
	buttons := everyButton(t)
	pages := []drawn{
		{"choose", 200, func(w http.ResponseWriter, r *http.Request) { p.Choose(w, r, Choose{Buttons: buttons}) }},
		{"choose-last-used", 200, func(w http.ResponseWriter, r *http.Request) {
			p.Choose(w, r, Choose{Buttons: lastUsed(buttons, 1, len(buttons)-2)})
		}},
		{"choose-one", 200, func(w http.ResponseWriter, r *http.Request) { p.Choose(w, r, Choose{Buttons: buttons[:1]}) }},
		{"choose-none", 200, func(w http.ResponseWriter, r *http.Request) { p.Choose(w, r, Choose{}) }},
		{"choose-signed-out", 200, func(w http.ResponseWriter, r *http.Request) {
			p.Choose(w, r, Choose{Buttons: buttons[:3], Note: JustSignedOut})
		}},
		{"choose-not-kept", 200, func(w http.ResponseWriter, r *http.Request) {
			p.Choose(w, r, Choose{Buttons: buttons[:3], Note: NotKept})
		}},
		{"choose-switch", 200, func(w http.ResponseWriter, r *http.Request) {
			p.Choose(w, r, Choose{Buttons: buttons[:3], Note: Switch})
		}},
		{"signed-in", 200, func(w http.ResponseWriter, r *http.Request) { p.SignedIn(w, r, SignedIn{who, t.address}) }},
		{"signed-in-unnamed", 200, func(w http.ResponseWriter, r *http.Request) { p.SignedIn(w, r, SignedIn{}) }},
		{"ask-sign-out", 200, func(w http.ResponseWriter, r *http.Request) { p.AskSignOut(w, r, AskSignOut{who, t.address}) }},
		{"signed-out", 200, func(w http.ResponseWriter, r *http.Request) { p.SignedOut(w, r, SignedOut{Again: t.address}) }},
		{"signed-out-here", 200, func(w http.ResponseWriter, r *http.Request) {
			p.SignedOut(w, r, SignedOut{t.address, t.provider, false})
		}},
		{"signed-out-there-too", 200, func(w http.ResponseWriter, r *http.Request) {
			p.SignedOut(w, r, SignedOut{t.address, t.provider, true})
		}},
		{"not-admitted", 403, func(w http.ResponseWriter, r *http.Request) {
			p.NotAdmitted(w, r, NotAdmitted{who, t.address, t.request})
		}},
		{"choose-email", 200, func(w http.ResponseWriter, r *http.Request) {
			p.Choose(w, r, Choose{Email: &EmailForm{Return: t.address}})
		}},
		{"choose-email-invalid", 422, func(w http.ResponseWriter, r *http.Request) {
			p.Choose(w, r, Choose{Email: &EmailForm{Address: t.email, Return: t.address, Invalid: true}})
		}},
		{"choose-email-beside", 200, func(w http.ResponseWriter, r *http.Request) {
			p.Choose(w, r, Choose{Buttons: buttons[:3], Email: &EmailForm{Address: t.email, Return: t.address, LastUsed: true}})
		}},
		{"choose-email-beside-invalid", 422, func(w http.ResponseWriter, r *http.Request) {
			p.Choose(w, r, Choose{Buttons: buttons[:3], Email: &EmailForm{Address: t.email, Invalid: true}, Note: Switch})
		}},
		{"enter-code", 200, func(w http.ResponseWriter, r *http.Request) {
			p.EnterCode(w, r, EnterCode{Address: t.email, Digits: 6, Minutes: 10, Link: true, ResendIn: 30 * time.Second, Again: t.address})
		}},
		{"enter-code-wrong", 422, func(w http.ResponseWriter, r *http.Request) {
			p.EnterCode(w, r, EnterCode{Address: t.email, Digits: 8, Minutes: 9, Wrong: true, Left: 3, Again: t.address})
		}},
		{"enter-code-resent", 200, func(w http.ResponseWriter, r *http.Request) {
			p.EnterCode(w, r, EnterCode{Address: t.email, Digits: 10, Minutes: 1, Link: true, Number: "42", Resent: true, ResendIn: -1})
		}},
		{"follow-link", 200, func(w http.ResponseWriter, r *http.Request) { p.FollowLink(w, r, FollowLink{Token: t.request}) }},
		{"other-device-code", 200, func(w http.ResponseWriter, r *http.Request) { p.OtherDevice(w, r, elsewhere(t, ModeCode)) }},
		{"other-device-match", 200, func(w http.ResponseWriter, r *http.Request) { p.OtherDevice(w, r, elsewhere(t, ModeMatch)) }},
		{"other-device-allow", 200, func(w http.ResponseWriter, r *http.Request) { p.OtherDevice(w, r, elsewhere(t, ModeAllow)) }},
		{"stopped", 200, func(w http.ResponseWriter, r *http.Request) { p.Stopped(w, r, Stopped{}) }},
		{"approved", 200, func(w http.ResponseWriter, r *http.Request) { p.Approved(w, r, Approved{}) }},
		{"bounce", 200, func(w http.ResponseWriter, r *http.Request) { p.Bounce(w, r, "/nothing") }},
	}
	pages = append(pages, everyQuestion(p, t)...)
	pages = append(pages, everyOtherCode(p, t)...)
	for kind, status := range kindStatus {
		pages = append(pages, drawn{"trouble-" + string(kind), status, func(w http.ResponseWriter, r *http.Request) {
			p.Trouble(w, r, Trouble{Kind: kind, Provider: t.provider, Retry: t.address, RequestID: t.request})
		}})
	}
	return append(pages, ownPages(p, t)...)
}

// everyOtherCode is the pages of codes that are not to sign in.
func everyOtherCode(p *Pages, t texts) (pages []drawn) {
	for _, f := range []CodeFor{ForAddress, ForAgain} {
		pages = append(pages,
			drawn{"enter-code-" + string(f), 200, func(w http.ResponseWriter, r *http.Request) {
				p.EnterCode(w, r, EnterCode{For: f, Address: t.email, Digits: 6, Minutes: 10, Link: true, Again: t.address, At: "/.login/confirm"})
			}},
			drawn{"follow-link-" + string(f), 200, func(w http.ResponseWriter, r *http.Request) {
				p.FollowLink(w, r, FollowLink{For: f, Token: t.request})
			}},
			drawn{"stopped-" + string(f), 200, func(w http.ResponseWriter, r *http.Request) { p.Stopped(w, r, Stopped{f}) }},
		)
		for _, mode := range []string{ModeCode, ModeMatch} {
			o := elsewhere(t, mode)
			o.For = f
			pages = append(pages, drawn{"other-device-" + mode + "-" + string(f), 200, func(w http.ResponseWriter, r *http.Request) { p.OtherDevice(w, r, o) }})
		}
	}
	return pages
}

// elsewhere is a link opened in another browser.
func elsewhere(t texts, mode string) OtherDevice {
	return OtherDevice{
		Token: t.request, Mode: mode, Code: "048291", Numbers: []string{"17", "42", "93"}, Device: "Firefox on Linux " + t.label,
		Place: "192.0.2.0/24 " + t.name, At: sampleTime, Host: t.site,
	}
}

func everyButton(t texts) (buttons []Button) {
	for _, brand := range everyBrand {
		label := strings.ToUpper(brand[:1]) + brand[1:]
		if proper := map[string]string{"github": "GitHub", "linkedin": "LinkedIn", "gitlab": "GitLab"}[brand]; proper != "" {
			label = proper
		}
		buttons = append(buttons, Button{Label: label, Brand: brand, Href: "/.login/" + brand + "?return=%2Freports"})
	}
	return append(buttons, Button{Label: t.label, Brand: "example", Href: t.address}, Button{Href: t.address})
}

// everyBrand is what our own providers name; the last four have no icon.
var everyBrand = []string{
	"google", "apple", "microsoft", "github", "okta", "facebook", "linkedin", "email",
	"discord", "x", "twitch", "spotify", "bitbucket", "gitlab", "slack", "amazon",
}

// lastUsed marks some of the buttons, which stay as they are.
func lastUsed(buttons []Button, which ...int) []Button {
	marked := slices.Clone(buttons)
	for _, i := range which {
		marked[i].LastUsed = true
	}
	return marked
}

// kindStatus is the contract, written a second time on purpose.
var kindStatus = map[Kind]int{
	Expired: 400, CookiesBlocked: 400, UnsafeAddress: 400, ProviderUnavailable: 502, ProviderError: 400,
	ProviderCancelled: 400, LoggedOut: 400, InvalidAnswer: 400, NotAllowed: 403, EmailInUse: 409, SignupDisabled: 403,
	AccountDisabled: 403, ChallengeExpired: 400, ChallengeSpent: 400, ChallengeStopped: 403, TooManyAttempts: 429,
	IdentityLinked: 409, FreshNeeded: 403, LastWayIn: 409, Outdated: 409, TooManyLinked: 409, WrongAccount: 403, BadRequest: 400, CrossSite: 403, NotFound: 404, MethodNotAllowed: 405, TooMany: 429,
	Unavailable: 503, Internal: 500,
}

func ask(method string, write http.HandlerFunc) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	write(w, httptest.NewRequest(method, "https://app.example.com/.login/", nil))
	return w
}

func TestEveryPageHasItsStatusAndHeaders(t *testing.T) {
	want := map[string]string{
		"Content-Type":                 "text/html; charset=utf-8",
		"Content-Language":             "en",
		"Cache-Control":                "no-store",
		"X-Content-Type-Options":       "nosniff",
		"X-Frame-Options":              "DENY",
		"Referrer-Policy":              "strict-origin",
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Permissions-Policy":           "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
		"Content-Security-Policy":      "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
	}
	for _, page := range everyPage(&Pages{}, plain) {
		got := ask("GET", page.write)
		if got.Code != page.status {
			t.Errorf("%s: status %d, want %d", page.name, got.Code, page.status)
		}
		want := maps.Clone(want)
		if len(elements(parsed(t, got.Body.String()), "script")) > 0 {
			want["Content-Security-Policy"] += "; script-src 'self'; connect-src 'self'; require-trusted-types-for 'script'; trusted-types 'none'"
		}
		for name, value := range want {
			if got.Header().Get(name) != value {
				t.Errorf("%s: %s is %q, want %q", page.name, name, got.Header().Get(name), value)
			}
		}
	}
}

func TestHeadIsGetWithoutTheBody(t *testing.T) {
	for _, page := range everyPage(&Pages{}, plain) {
		get, head := ask("GET", page.write), ask("HEAD", page.write)
		if head.Body.Len() != 0 || head.Code != get.Code {
			t.Errorf("%s: HEAD gives %d with %d bytes", page.name, head.Code, head.Body.Len())
		}
		if a, b := get.Header().Get("Content-Length"), head.Header().Get("Content-Length"); a != b || a == "" {
			t.Errorf("%s: Content-Length %q by GET, %q by HEAD", page.name, a, b)
		}
	}
}

func TestEveryPageIsWellFormed(t *testing.T) {
	for _, page := range everyPage(&Pages{Title: plain.site}, plain) {
		body := ask("GET", page.write).Body.String()
		if err := balanced(body); err != "" {
			t.Errorf("%s: %s\n%s", page.name, err, body)
		}
		root := parsed(t, body)
		for _, one := range []string{"h1", "main", "title", "html", "body"} {
			if n := len(elements(root, one)); n != 1 {
				t.Errorf("%s: %d <%s>, want 1", page.name, n, one)
			}
		}
		if title := text(elements(root, "title")[0]); !strings.HasSuffix(title, " · Acme Intranet") || strings.HasPrefix(title, " ") {
			t.Errorf("%s: title %q does not name page and site", page.name, title)
		}
		if top := elements(root, "html")[0]; attr(top, "lang") != "en" || attr(top, "dir") != "ltr" {
			t.Errorf("%s: language %q, direction %q", page.name, attr(top, "lang"), attr(top, "dir"))
		}
	}
}

// balanced says what is wrong with the nesting of tags; a browser would
// repair it silently.
func balanced(body string) string {
	void := []string{"meta", "link", "input", "img", "br"}
	var open []string
	for z := html.NewTokenizer(strings.NewReader(body)); ; {
		switch kind := z.Next(); kind {
		case html.ErrorToken:
			if z.Err() != io.EOF || len(open) != 0 {
				return "left open: " + strings.Join(open, " ")
			}
			return ""
		case html.StartTagToken:
			if name, _ := z.TagName(); !slices.Contains(void, string(name)) {
				open = append(open, string(name))
			}
		case html.EndTagToken:
			name, _ := z.TagName()
			if len(open) == 0 || open[len(open)-1] != string(name) {
				return "</" + string(name) + "> closes " + strings.Join(open, " ")
			}
			open = open[:len(open)-1]
		}
	}
}

func TestMarkupInAnyFieldStaysText(t *testing.T) {
	for _, evil := range []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`,
		`</title></main><svg onload=alert(1)>`, `{{.Base}}{site}{provider}`, "a\x00b\xff\u202ec", `<!--`, `&lt;b&gt;`,
	} {
		hostile := texts{evil, evil, "x" + evil, evil, evil, "/p?q=" + evil, evil}
		usual := everyPage(&Pages{Title: plain.site}, plain)
		for i, page := range everyPage(&Pages{Title: evil}, hostile) {
			if strings.HasPrefix(page.name, "trouble-") {
				continue // the order of kinds is random; they follow below
			}
			sameShape(t, page.name+" with "+evil, usual[i].write, page.write)
		}
		for kind := range kindStatus {
			sameShape(t, string(kind)+" with "+evil,
				func(w http.ResponseWriter, r *http.Request) {
					(&Pages{}).Trouble(w, r, Trouble{kind, "Google", "", "1"})
				},
				func(w http.ResponseWriter, r *http.Request) {
					(&Pages{Title: evil}).Trouble(w, r, Trouble{kind, evil, "", evil})
				})
		}
	}
}

// sameShape fails unless both pages have the same elements with the same
// attribute names, icons aside (a name without a letter has no initials).
func sameShape(t *testing.T, name string, usual, hostile http.HandlerFunc) {
	t.Helper()
	a, b := shape(parsed(t, ask("GET", usual).Body.String())), shape(parsed(t, ask("GET", hostile).Body.String()))
	if !slices.Equal(a, b) {
		t.Errorf("%s: the markup changed:\n%s\n%s", name, strings.Join(a, " "), strings.Join(b, " "))
	}
}

func shape(root *html.Node) (names []string) {
	for n := range root.Descendants() {
		if n.Type != html.ElementNode || n.Namespace == "svg" || attr(n, "class") == "monogram" {
			continue
		}
		for _, a := range n.Attr {
			names = append(names, n.Data+"@"+a.Key)
		}
		names = append(names, n.Data)
	}
	return names
}

func TestTextsAreShownAsTheyAre(t *testing.T) {
	evil := `<b>"Ada" & 'co'</b>`
	got := ask("GET", func(w http.ResponseWriter, r *http.Request) {
		(&Pages{Title: evil}).NotAdmitted(w, r, NotAdmitted{Account{Name: evil, Email: "x" + evil}, evil, "id" + evil})
	})
	root := parsed(t, got.Body.String())
	seen := text(elements(root, "main")[0])
	for _, want := range []string{evil, "x" + evil, "id" + evil} {
		if !strings.Contains(seen, want) {
			t.Errorf("%q is not on the page: %s", want, seen)
		}
	}
	if back := fields(root)["return"]; back != evil {
		t.Errorf("return comes back as %q", back)
	}
}

func TestOnlyOwnPathsAndWebAddressesAreLinked(t *testing.T) {
	for _, good := range []string{"/", "/a/b?c=d&e=%2F#f", "/.login/x", "https://id.example.com/logout?x=1", "http://localhost:8080/"} {
		if got := checked(good, "no"); got != good {
			t.Errorf("checked(%q) = %q", good, got)
		}
	}
	for _, bad := range []string{
		"", "javascript:alert(1)", "JaVaScRiPt:alert(1)", "java\tscript:alert(1)", " javascript:alert(1)", "data:text/html,x",
		"//evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example", "\t//evil.example", "https:evil.example", "https:///evil",
		"https://app.example.com@evil.example/", "ftp://x/", "mailto:a@b", "relative", "?q", "/a b", "/a\nb", "vbscript:x", "https://%zz/",
	} {
		if got := checked(bad, "no"); got != "no" {
			t.Errorf("checked(%q) let it pass", bad)
		}
		for _, page := range everyPage(&Pages{}, texts{address: bad}) {
			noLinkTo(t, page, bad)
		}
	}
}

func noLinkTo(t *testing.T, page drawn, bad string) {
	t.Helper()
	for n := range parsed(t, ask("GET", page.write).Body.String()).Descendants() {
		for _, a := range n.Attr {
			if a.Key != "href" || strings.HasPrefix(a.Val, "data:image/svg+xml,") {
				continue
			}
			if a.Val != "/" && !strings.HasPrefix(a.Val, "/.login/") && a.Val != "/nothing" {
				t.Errorf("%s given %q links to %q", page.name, bad, a.Val)
			}
		}
	}
}

func TestBounceMovesOnByItself(t *testing.T) {
	href := "/.login/apple/callback?done=a%22b&x=1;2,'"
	got := ask("GET", func(w http.ResponseWriter, r *http.Request) { (&Pages{}).Bounce(w, r, href) })
	root := parsed(t, got.Body.String())
	var refresh string
	for _, meta := range elements(root, "meta") {
		if attr(meta, "http-equiv") == "refresh" {
			refresh = attr(meta, "content")
		}
	}
	link := attr(elements(root, "a")[0], "href")
	if refresh != "0;url="+href || strings.ReplaceAll(link, "%27", "'") != href {
		t.Errorf("refresh %q, link %q, want %q", refresh, link, href)
	}
}

func TestBounceGoesNowhereDangerous(t *testing.T) {
	for _, bad := range []string{"javascript:alert(1)", "//evil.example", "", "'//evil.example'", "/ok\r\n"} {
		got := ask("GET", func(w http.ResponseWriter, r *http.Request) { (&Pages{}).Bounce(w, r, bad) })
		if got.Code != 500 || strings.Contains(got.Body.String(), "http-equiv") {
			t.Errorf("Bounce(%q): %d\n%s", bad, got.Code, got.Body)
		}
	}
}

func TestFormsPostToLogout(t *testing.T) {
	p := &Pages{Base: "/auth/"}
	who := Account{Email: "ada@example.com"}
	for name, c := range map[string]struct {
		write http.HandlerFunc
		want  map[string]string
	}{
		"signed in":    {func(w http.ResponseWriter, r *http.Request) { p.SignedIn(w, r, SignedIn{Account: who}) }, map[string]string{}},
		"ask":          {func(w http.ResponseWriter, r *http.Request) { p.AskSignOut(w, r, AskSignOut{who, "/a"}) }, map[string]string{"return": "/a"}},
		"not admitted": {func(w http.ResponseWriter, r *http.Request) { p.NotAdmitted(w, r, NotAdmitted{who, "/a", ""}) }, map[string]string{"return": "/a", "switch": "1"}},
	} {
		root := parsed(t, ask("GET", c.write).Body.String())
		form := elements(root, "form")
		if len(form) != 1 || attr(form[0], "method") != "post" || attr(form[0], "action") != "/auth/logout" {
			t.Fatalf("%s: no form that posts to /auth/logout", name)
		}
		if b := elements(form[0], "button"); len(b) != 1 || attr(b[0], "type") != "submit" {
			t.Errorf("%s: the form has no real button", name)
		}
		if got := fields(root); len(got) != len(c.want) || got["return"] != c.want["return"] || got["switch"] != c.want["switch"] {
			t.Errorf("%s: fields %v, want %v", name, got, c.want)
		}
	}
}

func TestUnknownKindIsOurFault(t *testing.T) {
	for _, k := range []Kind{"", "no such kind"} {
		got := ask("GET", func(w http.ResponseWriter, r *http.Request) { (&Pages{}).Trouble(w, r, Trouble{Kind: k}) })
		if got.Code != 500 || k.Status() != 500 {
			t.Errorf("%q: %d, %d", k, got.Code, k.Status())
		}
	}
}

func TestEveryReasonOfAGuestIsAKind(t *testing.T) {
	for _, reason := range []guest.Reason{guest.Cancelled, guest.Unavailable, guest.Refused, guest.Untrusted, guest.NotAllowed} {
		if k := Kind(reason); k.known() != k {
			t.Errorf("%q has no page", reason)
		}
	}
}

// TestEveryTroubleSaysWhatToDo also holds for a provider without a name.
func TestEveryTroubleSaysWhatToDo(t *testing.T) {
	for kind := range kindStatus {
		for _, provider := range []string{"", "Google"} {
			got := ask("GET", func(w http.ResponseWriter, r *http.Request) {
				(&Pages{}).Trouble(w, r, Trouble{Kind: kind, Provider: provider, RequestID: "req-1"})
			})
			root := parsed(t, got.Body.String())
			paragraphs := elements(root, "p")
			if len(paragraphs) != 4 || text(elements(root, "h1")[0]) == "" {
				t.Fatalf("%s: %d paragraphs, want site, what, next, request", kind, len(paragraphs))
			}
			for _, p := range append(paragraphs, elements(root, "a")...) {
				if said := strings.TrimSpace(text(p)); said == "" || strings.ContainsAny(said, "{}") {
					t.Errorf("%s: says %q", kind, said)
				}
			}
			if !strings.Contains(text(paragraphs[3]), "req-1") {
				t.Errorf("%s: no request id", kind)
			}
		}
	}
}

func TestTroubleOffersToTryAgain(t *testing.T) {
	got := ask("GET", func(w http.ResponseWriter, r *http.Request) {
		(&Pages{}).Trouble(w, r, Trouble{Kind: ProviderUnavailable, Provider: "Okta", Retry: "/.login/okta?return=%2Fa"})
	})
	links := elements(parsed(t, got.Body.String()), "a")
	if len(links) != 2 || attr(links[0], "href") != "/.login/okta?return=%2Fa" || attr(links[1], "href") != "/.login/" {
		t.Errorf("links: %s", got.Body)
	}
}

func TestBrandsCarryTheirOwnWords(t *testing.T) {
	got := ask("GET", func(w http.ResponseWriter, r *http.Request) {
		(&Pages{}).Choose(w, r, Choose{Buttons: everyButton(plain)})
	})
	var said, styles []string
	for _, a := range elements(parsed(t, got.Body.String()), "a") {
		said = append(said, strings.TrimSpace(text(a)))
		styles = append(styles, attr(a, "class"))
	}
	want := []string{
		"Sign in with Google", "Sign in with Apple", "Sign in with Microsoft", "Sign in with GitHub", "Sign in with Okta",
		"Sign in with Facebook", "Sign in with LinkedIn", "Sign in with Email", "Sign in with Discord", "Sign in with X",
		"Sign in with Twitch", "Sign in with Spotify", "BSign in with Bitbucket", "GSign in with GitLab", "SSign in with Slack",
		"ASign in with Amazon", "ESign in with Example ID", "Sign in",
	}
	if !slices.Equal(said, want) {
		t.Errorf("buttons say %q", said)
	}
	if styles[0] != "button way google" || styles[1] != "button way apple" || styles[len(styles)-1] != "button way key" {
		t.Errorf("buttons look like %q", styles)
	}
}

func TestOnlyOneWayIsMarkedLastUsed(t *testing.T) {
	for _, marked := range [][]int{{}, {0}, {2}, {1, 3, 4}} {
		got := ask("GET", func(w http.ResponseWriter, r *http.Request) {
			(&Pages{}).Choose(w, r, Choose{Buttons: lastUsed(everyButton(plain)[:5], marked...)})
		})
		var ways []string
		for _, a := range elements(parsed(t, got.Body.String()), "a") {
			if attr(a, "aria-describedby") == "last-used" {
				ways = append(ways, strings.TrimSpace(text(a.Parent)))
			}
		}
		var want []string
		if len(marked) != 0 {
			want = []string{"Last usedSign in with " + everyButton(plain)[marked[0]].Label}
		}
		if n := strings.Count(got.Body.String(), `id="last-used"`); !slices.Equal(ways, want) || n != len(want) {
			t.Errorf("%v: marks %q with %d marks, want %q", marked, ways, n, want)
		}
	}
}

// TestSignedOutClaimsNoMoreThanIsTrue: on a shared computer, who believes that
// all is closed leaves a session open to the next.
func TestSignedOutClaimsNoMoreThanIsTrue(t *testing.T) {
	for given, want := range map[SignedOut]struct{ heading, said, unsaid string }{
		{}:                                       {"You’re signed out", "you may still be signed in there. On a shared device, sign out there too.", "signed out here and at"},
		{Provider: "Google"}:                     {"You’re signed out here", "You may still be signed in at Google. We could only sign you out here.", "signed out here and at"},
		{Provider: "Google", AtProvider: true}:   {"You’re signed out", "You are signed out here and at Google.", "still be signed in"},
		{Provider: "", AtProvider: true}:         {"You’re signed out", "You are signed out here and at the sign-in service.", "still be signed in"},
		{Provider: "<b>", Again: "/.login/?x=1"}: {"You’re signed out here", "You may still be signed in at <b>.", "signed out here and at"},
	} {
		got := ask("GET", func(w http.ResponseWriter, r *http.Request) { (&Pages{}).SignedOut(w, r, given) })
		root := parsed(t, got.Body.String())
		seen := strings.Join(strings.Fields(text(elements(root, "main")[0])), " ")
		if heading := text(elements(root, "h1")[0]); heading != want.heading || !strings.Contains(seen, want.said) || strings.Contains(seen, want.unsaid) {
			t.Errorf("%+v: %q, %q", given, heading, seen)
		}
		if !strings.Contains(seen, "can no longer open app.example.com in your name") {
			t.Errorf("%+v does not say what is closed: %q", given, seen)
		}
	}
}

func TestSignedOutMeanwhileLeadsToSigningInAgain(t *testing.T) {
	got := ask("GET", func(w http.ResponseWriter, r *http.Request) {
		(&Pages{}).Trouble(w, r, Trouble{Kind: LoggedOut, Provider: "Okta", Retry: "/.login/okta?return=%2Fa"})
	})
	root := parsed(t, got.Body.String())
	links := elements(root, "a")
	if got.Code != 400 || LoggedOut != "signed_out_meanwhile" || attr(links[0], "href") != "/.login/okta?return=%2Fa" || text(links[0]) != "Sign in again" {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	if seen := text(elements(root, "main")[0]); !strings.Contains(seen, "we heard from Okta that your session there had ended") {
		t.Errorf("says %q", seen)
	}
}

// TestBrandCannotReachOtherIcons holds because Brand may come from settings.
func TestBrandCannotReachOtherIcons(t *testing.T) {
	for _, brand := range []string{"../style", "lock", "alert", "google.svg", `x" onclick="alert(1)`} {
		got := ask("GET", func(w http.ResponseWriter, r *http.Request) {
			(&Pages{}).Choose(w, r, Choose{Buttons: []Button{{Label: "Zed", Brand: brand, Href: "/"}}})
		})
		root := parsed(t, got.Body.String())
		if got.Code != 200 || text(elements(root, "a")[0]) != "ZSign in with Zed" || strings.Contains(got.Body.String(), "onclick") {
			t.Errorf("%q: %d %s", brand, got.Code, got.Body)
		}
	}
}

func TestPictureIsNotLoaded(t *testing.T) {
	got := ask("GET", func(w http.ResponseWriter, r *http.Request) {
		(&Pages{}).SignedIn(w, r, SignedIn{Account: Account{Name: "Ada", Picture: "https://tracker.example/ada.png"}})
	})
	if strings.Contains(got.Body.String(), "tracker.example") {
		t.Error("the picture's address is on the page")
	}
}

func TestInitials(t *testing.T) {
	for name, want := range map[string]string{
		"Ada Lovelace": "AL", "ada": "A", "Ada King of Lovelace": "AL", "Łukasz Żak": "ŁŻ", "李 小龍": "李小", "🙂": "", "": "", "3M": "3", "( Bob": "B",
	} {
		if got := initials(name); got != want {
			t.Errorf("initials(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestEndlessNameIsCut(t *testing.T) {
	who := personOf(Account{Name: strings.Repeat("ä", 1<<20), Email: strings.Repeat("b", 242) + "@example.com"})
	if n := len([]rune(who.First)); n != longest+1 {
		t.Errorf("name of %d characters", n)
	}
	if !strings.HasSuffix(who.Second, "@example.com") {
		t.Error("an address of 254 characters is cut")
	}
}

func TestSiteIsNamedByTitleElseHost(t *testing.T) {
	for title, want := range map[string]string{"": "app.example.com", "  ": "app.example.com", "Acme": "Acme"} {
		got := ask("GET", func(w http.ResponseWriter, r *http.Request) { (&Pages{Title: title}).Choose(w, r, Choose{}) })
		if title := text(elements(parsed(t, got.Body.String()), "title")[0]); title != "Sign in · "+want {
			t.Errorf("title %q, want the site %q", title, want)
		}
	}
}

func TestBrokenTemplateIsAPlain500(t *testing.T) {
	broken := template.Must(template.New("broken").Parse(`{{define "page"}}<!doctype html><p>half a page{{.Say "no such words"}}{{end}}`))
	got := ask("GET", func(w http.ResponseWriter, r *http.Request) {
		v := (&Pages{}).view(r, "choose")
		v.template = broken
		v.RequestID = "<id>"
		v.write(w, r, 200)
	})
	if got.Code != 500 || strings.Contains(got.Body.String(), "half a page") {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	if h := got.Header(); h.Get("Content-Type") != "text/plain; charset=utf-8" || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers %v", h)
	}
}

func TestCallersHeadersGoOut(t *testing.T) {
	got := ask("POST", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", "GET, HEAD")
		w.Header().Set("Set-Cookie", "a=b")
		(&Pages{}).Trouble(w, r, Trouble{Kind: MethodNotAllowed})
	})
	if got.Header().Get("Allow") != "GET, HEAD" || got.Header().Get("Set-Cookie") != "a=b" {
		t.Errorf("headers %v", got.Header())
	}
}

func TestStylesheetIsKeptUntilItChanges(t *testing.T) {
	p := &Pages{}
	first := ask("GET", p.Stylesheet)
	h := first.Header()
	if first.Code != 200 || h.Get("Content-Type") != "text/css; charset=utf-8" || first.Body.String() != string(stylesheet) {
		t.Fatalf("%d %v", first.Code, h)
	}
	if h.Get("Cache-Control") != "public, max-age=31536000, immutable" || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers %v", h)
	}
	w, r := httptest.NewRecorder(), httptest.NewRequest("GET", p.base()+StylesheetPath, nil)
	r.Header.Set("If-None-Match", h.Get("ETag"))
	if p.Stylesheet(w, r); w.Code != 304 || w.Body.Len() != 0 {
		t.Errorf("known already: %d with %d bytes", w.Code, w.Body.Len())
	}
	if head := ask("HEAD", p.Stylesheet); head.Code != 200 || head.Body.Len() != 0 || head.Header().Get("Content-Length") == "" {
		t.Errorf("HEAD: %d with %d bytes", head.Code, head.Body.Len())
	}
}

func TestPagesLinkTheStylesheetServed(t *testing.T) {
	body := ask("GET", func(w http.ResponseWriter, r *http.Request) { (&Pages{Base: "/auth"}).Choose(w, r, Choose{}) }).Body.String()
	if want := `<link rel="stylesheet" href="/auth` + StylesheetPath + `">`; !strings.Contains(body, want) {
		t.Errorf("no %s", want)
	}
	if fingerprint([]byte("a")) == fingerprint([]byte("b")) {
		t.Error("the address does not follow the content")
	}
	if strings.Contains(string(stylesheet), "url(") || strings.Contains(string(stylesheet), "@import") {
		t.Error("the stylesheet loads something")
	}
}

func TestProblemIsRFC9457(t *testing.T) {
	w := httptest.NewRecorder()
	w.Header().Add("Set-Cookie", "a=b")
	WriteProblem(w, Problem{
		Status: 401, Code: "sign_in_required", Title: "Sign in", Detail: "No session came with this request.", SignIn: "/.login/?return=%2Fa", RequestID: "r-1",
	})
	h := w.Header()
	if w.Code != 401 || h.Get("Content-Type") != "application/problem+json" || h.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", w.Code, h)
	}
	if h.Get("WWW-Authenticate") != `Bearer realm="login"` || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers %v", h)
	}
	if len(h.Values("Set-Cookie")) != 0 {
		t.Error("a problem carries a cookie")
	}
	want := `{"title":"Sign in","status":401,"code":"sign_in_required","detail":"No session came with this request.","sign_in":"/.login/?return=%2Fa","request_id":"r-1"}`
	if got := strings.TrimSpace(w.Body.String()); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestProblemSaysWhatOAuthSays(t *testing.T) {
	w, none := httptest.NewRecorder(), 0
	WriteProblem(w, Problem{Status: 400, Code: "invalid_token", OAuth: "invalid_grant", AttemptsLeft: &none})
	want := `{"title":"Bad Request","status":400,"code":"invalid_token","error":"invalid_grant","attempts_left":0}`
	if got := strings.TrimSpace(w.Body.String()); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestProblemNeverLooksLikeSuccess(t *testing.T) {
	for given, want := range map[int]int{0: 500, 200: 500, 302: 500, 99: 500, 600: 500, 403: 403, 503: 503} {
		w := httptest.NewRecorder()
		WriteProblem(w, Problem{Status: given, Detail: "<script>"})
		var body struct {
			Status int
			Title  string
		}
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || w.Code != want || body.Status != want || body.Title != http.StatusText(want) {
			t.Errorf("status %d: %d %s %v", given, w.Code, w.Body, err)
		}
		if w.Header().Get("WWW-Authenticate") != "" || strings.Contains(w.Body.String(), "<") {
			t.Errorf("status %d: %v %s", given, w.Header(), w.Body)
		}
	}
}

func parsed(t *testing.T, body string) *html.Node {
	t.Helper()
	root, err := html.Parse(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func elements(root *html.Node, name string) (found []*html.Node) {
	for n := range root.Descendants() {
		if n.Type == html.ElementNode && n.Data == name {
			found = append(found, n)
		}
	}
	return found
}

func text(root *html.Node) string {
	var b strings.Builder
	for n := range root.Descendants() {
		if n.Type == html.TextNode {
			b.WriteString(n.Data)
		}
	}
	return b.String()
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func fields(root *html.Node) map[string]string {
	values := map[string]string{}
	for _, input := range elements(root, "input") {
		values[attr(input, "name")] = attr(input, "value")
	}
	return values
}

// TestUnsafeAddressLeadsNotBack to a page where nobody can sign in either.
func TestUnsafeAddressLeadsNotBack(t *testing.T) {
	for retry, want := range map[string]int{"": 0, "/.login/": 0, "https://app.example.com/": 1} {
		got := ask("GET", func(w http.ResponseWriter, r *http.Request) {
			(&Pages{}).Trouble(w, r, Trouble{Kind: UnsafeAddress, Retry: retry})
		})
		if links := elements(parsed(t, got.Body.String()), "a"); len(links) != want {
			t.Errorf("%d links with retry %q, want %d", len(links), retry, want)
		}
	}
}
