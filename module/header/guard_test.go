package header

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

func guard(t testing.TB, names ...string) *Guard {
	t.Helper()
	g, err := NewGuard(names...)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func stripped(g *Guard, h http.Header) http.Header {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header = h
	g.Strip(r)
	return h
}

// chrome is what Chrome sends with a click on a link.
func chrome() http.Header {
	return http.Header{
		"Connection":                {"keep-alive"},
		"Cache-Control":             {"max-age=0"},
		"Sec-Ch-Ua":                 {`"Chromium";v="142", "Google Chrome";v="142", "Not_A Brand";v="99"`},
		"Sec-Ch-Ua-Mobile":          {"?0"},
		"Sec-Ch-Ua-Platform":        {`"macOS"`},
		"Upgrade-Insecure-Requests": {"1"},
		"User-Agent":                {"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"},
		"Accept":                    {"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"},
		"Sec-Fetch-Site":            {"same-origin"},
		"Sec-Fetch-Mode":            {"navigate"},
		"Sec-Fetch-User":            {"?1"},
		"Sec-Fetch-Dest":            {"document"},
		"Referer":                   {"https://app.example.com/"},
		"Accept-Encoding":           {"gzip, deflate, br, zstd"},
		"Accept-Language":           {"en-GB,en;q=0.9"},
		"Cookie":                    {"theme=dark; __Host-login=" + sealed},
		"If-None-Match":             {`W/"1a2b3c"`},
		"Priority":                  {"u=0, i"},
	}
}

const sealed = "MTc2Mzk5NTQ0OXxEWDhFQVFMX2dBQUJFQUVRQUFBX180QUFBUVp6ZEhKcGJtY01CQUFDYVdRR2MzUnlhVzVuREJBQURuSnZZMnRsZEhOamFXVnVZMlU9fHyQ"

func TestEveryNameOfTheTableIsStrippedInEverySpelling(t *testing.T) {
	g := guard(t)
	for _, from := range identity {
		for name := range strings.FieldsSeq(from.names) {
			name = strings.ReplaceAll(name, "*", "Anything")
			for _, spelled := range spellings(name) {
				if h := stripped(g, http.Header{spelled: {"forged", "twice"}}); len(h) != 0 {
					t.Errorf("%s: %q got through", from.product, spelled)
				}
			}
		}
	}
}

func spellings(name string) []string {
	return []string{
		name, strings.ToLower(name), strings.ToUpper(name),
		strings.ReplaceAll(name, "-", "_"), strings.ReplaceAll(name, "-", "."),
		strings.ToUpper(strings.ReplaceAll(name, "-", "_")),
		strings.Replace(name, "-", "_", 1), strings.ReplaceAll(name, "-", "~"),
		http.CanonicalHeaderKey(strings.ReplaceAll(name, "-", "_")),
	}
}

// The contract of product.md section 5, written out: a name that falls out of
// the table must be noticed.
func TestContractsNamesAreStripped(t *testing.T) {
	g := guard(t)
	for _, name := range []string{
		"Remote-User", "Remote-Email", "Remote-Name", "Remote-Groups", "Remote-Roles", "Remote-Assertion",
		"X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups", "X-Forwarded-Preferred-Username", "X-Forwarded-Access-Token",
		"X-Auth-Request-User", "X-Auth-Request-Email", "X-Auth-Request-Groups", "X-Auth-Request-Preferred-Username", "X-Auth-Request-Access-Token",
		"X-Pomerium-Jwt-Assertion", "X-Pomerium-Jwt-Assertion-For", "X-Pomerium-Claim-Email", "X-Pomerium-Claim-Groups",
		"Cf-Access-Authenticated-User-Email", "Cf-Access-Jwt-Assertion",
		"X-Goog-Authenticated-User-Email", "X-Goog-Authenticated-User-Id", "X-Goog-IAP-JWT-Assertion",
		"X-WEBAUTH-USER", "X-WEBAUTH-ROLE", "X-authentik-username", "X-Token-Subject", "X-Token-User-Email", "X-Token-User-Roles",
		"X-Vouch-User", "X-MS-CLIENT-PRINCIPAL", "X-MS-CLIENT-PRINCIPAL-NAME", "X-Amzn-Oidc-Data", "X-Amzn-Oidc-Identity",
		"Tailscale-User-Login", "Tailscale-User-Name", "Remote-Sub", "OIDC_CLAIM_email", "OIDC-access-token",
		"X-Remote-User", "X-Remote-Group", "X-Remote-Extra-Scopes", "X-User", "X-User-Id", "X-Forwarded-Client-Cert", "Ssl-Client-S-Dn",
		"HTTP2-Settings", "Trailer",
		"Remote-" + strings.Repeat("A", 100),
	} {
		for _, spelled := range spellings(name) {
			if h := stripped(g, http.Header{spelled: {"forged"}}); len(h) != 0 {
				t.Errorf("%q got through", spelled)
			}
		}
	}
}

func TestHonestHeadersStayUntouched(t *testing.T) {
	g := guard(t)
	want, h := chrome(), chrome()
	for _, name := range []string{
		"Authorization", "X-Requested-With", "X-Csrf-Token", "X-Csrftoken", "X-Xsrf-Token", "X-Forwarded-For", "X-Forwarded-Proto",
		"X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Prefix", "Forwarded", "X-Real-Ip", "X-Api-Key", "X-Access-Token", "X-Auth-Token",
		"X-Token", "X-User-Agent", "X-Request-Id", "Traceparent", "Te", "Origin", "Range", "Content-Type", "Grpc-Timeout", "X-Grpc-Web",
		"Hx-Request", "X-Goog-Api-Key", "X-Ms-Version", "X-Amz-Date", "X-Amzn-Trace-Id", "Cf-Connecting-Ip", "Cf-Ray", "Remoteuser",
		"X-Requested-By", "X-Http-Method-Override", ":protocol", "Sec-Websocket-Key", "Save-Data", "X-Client-Data", "X-Client-Version",
	} {
		want[name], h[name] = []string{"value"}, []string{"value"}
	}
	if stripped(g, h); !equal(h, want) {
		t.Errorf("after strip: %v", diff(want, h))
	}
}

func equal(a, b http.Header) bool {
	return maps.EqualFunc(a, b, slices.Equal)
}

func diff(want, got http.Header) (names []string) {
	for name := range want {
		if !slices.Equal(want[name], got[name]) {
			names = append(names, name)
		}
	}
	return names
}

func TestSitesOwnNamesAreStripped(t *testing.T) {
	g := guard(t, "Badge_Number", "X-Forwarded-User", "9-Lives")
	for _, name := range []string{"badge-number", "BADGE.NUMBER", "Badge_number", "X-Forwarded-User", "9_lives"} {
		if h := stripped(g, http.Header{name: {"7"}}); len(h) != 0 {
			t.Errorf("%q got through", name)
		}
	}
	if h := stripped(guard(t), http.Header{"Badge-Number": {"7"}}); len(h) != 1 {
		t.Error("another site's name was stripped")
	}
}

func TestNamesThatCarrySomethingElseAreRefused(t *testing.T) {
	for _, name := range []string{
		"", "x", "Host", "host", "Cookie", "Set_Cookie", "Authorization", "Content-Length", "content_length", "Content-Type",
		"Transfer-Encoding", "Connection", "Upgrade", "TE", "Trailer", "Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "Via",
		"Origin", "Referer", "Sec-Fetch-Mode", "Accept", "X-Requested-With", "X-CSRF-Token", "HTTP2-Settings", "Proxy-Authorization",
		"X-*", "Remote-*", "a b", "a:b", "a\r\nb", "ä-b", strings.Repeat("x", 65),
	} {
		if _, err := NewGuard(name); err == nil {
			t.Errorf("%q was taken", name)
		} else if name != "" && !strings.Contains(err.Error(), "use ") {
			t.Errorf("%q: no cure in %q", name, err)
		}
	}
}

func TestConnectionIsReduced(t *testing.T) {
	ws := []string{"websocket"}
	for _, c := range []struct {
		name                string
		connection, upgrade []string
		want, wantUpgrade   []string
	}{
		{"keep-alive stays", []string{"keep-alive"}, nil, []string{"keep-alive"}, nil},
		{"close stays", []string{"Close"}, nil, []string{"Close"}, nil},
		{"Firefox's WebSocket stays", []string{"keep-alive, Upgrade"}, ws, []string{"keep-alive, Upgrade"}, ws},
		{"a WebSocket in capitals stays", []string{"upgrade"}, []string{"WebSocket"}, []string{"upgrade"}, []string{"WebSocket"}},
		{"two lines stay", []string{"keep-alive", "Upgrade"}, ws, []string{"keep-alive", "Upgrade"}, ws},
		{"nominations go", []string{"close, Remote-User"}, nil, []string{"close"}, nil},
		{"nominations beside a WebSocket go", []string{"Upgrade, Remote-User"}, ws, []string{"Upgrade"}, ws},
		{"nominations on another line go", []string{"keep-alive", "X-Foo,X-Bar"}, nil, []string{"keep-alive"}, nil},
		{"nothing is left", []string{"Remote-User"}, nil, nil, nil},
		{"an empty line goes", []string{""}, nil, nil, nil},
		{"h2c goes", []string{"Upgrade, HTTP2-Settings"}, []string{"h2c"}, nil, nil},
		{"h2c beside WebSocket goes", []string{"Upgrade"}, []string{"websocket, h2c"}, nil, nil},
		{"h2c on a second line goes", []string{"Upgrade"}, []string{"websocket", "h2c"}, nil, nil},
		{"TLS goes", []string{"keep-alive, Upgrade"}, []string{"TLS/1.0"}, []string{"keep-alive"}, nil},
		{"Upgrade alone goes", nil, ws, nil, nil},
		{"Upgrade without its option goes", []string{"close"}, ws, []string{"close"}, nil},
		{"the option without Upgrade goes", []string{"upgrade"}, nil, nil, nil},
	} {
		h := http.Header{"Http2-Settings": {"AAMAAABkAAQAAP__"}}
		if c.connection != nil {
			h["Connection"] = c.connection
		}
		if c.upgrade != nil {
			h["Upgrade"] = c.upgrade
		}
		stripped(guard(t), h)
		if !slices.Equal(h["Connection"], c.want) || !slices.Equal(h["Upgrade"], c.wantUpgrade) || h["Http2-Settings"] != nil {
			t.Errorf("%s: %v", c.name, h)
		}
	}
}

func TestNominatedFieldsGoButNotThoseThatMatter(t *testing.T) {
	h := http.Header{"Connection": {"close, X-Hop , Keep-Alive,, x_forwarded_for, Cookie,AUTHORIZATION, X-Forwarded-For, Forwarded,Host,Sec-Fetch-Mode, Content-Type,te"}}
	stay := []string{"Cookie", "Authorization", "X-Forwarded-For", "Forwarded", "Sec-Fetch-Mode", "Content-Type", "Te", "X-Forwarded-Proto"}
	for _, name := range append([]string{"X-Hop", "Keep-Alive"}, stay...) {
		h[name] = []string{"value"}
	}
	stripped(guard(t), h)
	for _, name := range stay {
		if h[name] == nil {
			t.Errorf("%s is gone", name)
		}
	}
	if h["X-Hop"] != nil || h["Keep-Alive"] != nil {
		t.Errorf("still there: %v", h)
	}
}

func TestStripDoesNotAllocateForBrowsers(t *testing.T) {
	g, r := guard(t), httptest.NewRequest("GET", "/", nil)
	r.Header = chrome()
	if n := testing.AllocsPerRun(100, func() { g.Strip(r) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { g.forbidden.has("X-Remote-User") }); n != 0 {
		t.Errorf("a forged header costs %v allocations", n)
	}
}

func FuzzStrip(f *testing.F) {
	f.Add("Remote-User", "close, X-Foo", "websocket")
	f.Add("remote.user", "Upgrade,HTTP2-Settings", "h2c")
	f.Add("X_FORWARDED-user", "", "")
	f.Add(strings.Repeat("Tailscale-User", 9), "remote-user", "x")
	f.Add("X-Requested-With", ",,", "websocket")
	g := guard(f, "Badge")
	f.Fuzz(func(t *testing.T, name, connection, upgrade string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header = http.Header{name: {"forged"}, "Authorization": {"mine"}}
		r.Header["Connection"], r.Header["Upgrade"] = []string{connection}, []string{upgrade}
		g.Strip(r)
		for left := range r.Header {
			if forged(left) {
				t.Errorf("%q got through", left)
			}
		}
		if r.Header["Authorization"] == nil {
			t.Error("Authorization is gone")
		}
		for _, option := range strings.Split(strings.Join(r.Header["Connection"], ","), ",") {
			switch strings.ToLower(strings.TrimSpace(option)) {
			case "", "close", "keep-alive", "upgrade":
			default:
				t.Errorf("Connection still names %q", option)
			}
		}
		if u := r.Header["Upgrade"]; u != nil && !strings.EqualFold(strings.TrimSpace(u[0]), "websocket") {
			t.Errorf("Upgrade to %q", u)
		}
	})
}

// forged is a second, slower reading of the table.
func forged(name string) bool {
	normal := strings.Map(func(c rune) rune {
		if c < 0x80 && (c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9') {
			return c
		}
		return '-'
	}, name)
	for _, from := range identity {
		for known := range strings.FieldsSeq(from.names + " Badge") {
			stem, family := strings.CutSuffix(known, "*")
			if strings.EqualFold(normal, known) || family && len(normal) >= len(stem) && strings.EqualFold(normal[:len(stem)], stem) {
				return true
			}
		}
	}
	return false
}

func BenchmarkStripChrome(b *testing.B) {
	g, r := guard(b), httptest.NewRequest("GET", "/", nil)
	r.Header = chrome()
	b.ReportAllocs()
	for b.Loop() {
		g.Strip(r)
	}
}

// BenchmarkRangeChrome is the floor: to look at each header's name and do
// nothing.
func BenchmarkRangeChrome(b *testing.B) {
	h, n := chrome(), 0
	b.ReportAllocs()
	for b.Loop() {
		for name := range h {
			n += len(name)
		}
	}
	if n == 0 {
		b.Fatal("no headers")
	}
}

func BenchmarkStripAttack(b *testing.B) {
	g, r := guard(b), httptest.NewRequest("GET", "/", nil)
	b.ReportAllocs()
	for b.Loop() {
		r.Header = http.Header{"Connection": {"close, Remote-User"}, "Remote-User": {"root"}, "X_Forwarded_user": {"root"}, "X-Requested-With": {"x"}}
		g.Strip(r)
	}
}
