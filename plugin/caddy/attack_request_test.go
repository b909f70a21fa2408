package main_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/fcgi"
	"net/http/httptest"
	"net/url"
	"os"
	pathpkg "path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// frames is a connection on which a test writes its own HTTP/2.
type frames struct {
	*http2.Framer
	t    *testing.T
	next uint32
	head bytes.Buffer
	to   *hpack.Encoder
}

// dialFrames connects to a site: over TLS where it is https, else with prior
// knowledge.
func dialFrames(t *testing.T, site string) *frames {
	t.Helper()
	u, _ := url.Parse(site)
	conn, err := net.Dial("tcp", "127.0.0.1:"+u.Port())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if u.Scheme == "https" {
		conn = tls.Client(conn, &tls.Config{ServerName: u.Hostname(), InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	}
	f := &frames{t: t, next: 1, Framer: http2.NewFramer(conn, conn)}
	f.to = hpack.NewEncoder(&f.head)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	f.must(f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}))
	return f
}

func (f *frames) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatalf("speaking HTTP/2: %v", err)
	}
}

func (f *frames) encode(fields []string) []byte {
	f.head.Reset()
	for i := 0; i+1 < len(fields); i += 2 {
		f.must(f.to.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	return bytes.Clone(f.head.Bytes())
}

// ask begins a stream with these names and values, cut into CONTINUATION
// frames of a few bytes.
func (f *frames) ask(end bool, fields ...string) (stream uint32) {
	f.t.Helper()
	stream, f.next = f.next, f.next+2
	block := f.encode(fields)
	cut := min(len(block), 7)
	f.must(f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block[:cut], EndStream: end, EndHeaders: cut == len(block)}))
	for block = block[cut:]; len(block) > 0; block = block[cut:] {
		cut = min(len(block), 40)
		f.must(f.WriteContinuation(stream, cut == len(block), block[:cut]))
	}
	return stream
}

// hear waits for the head of the stream's answer. Its status is "reset" or
// "gone" where the server wants no more of the stream or the connection.
func (f *frames) hear(stream uint32) (status string) {
	f.t.Helper()
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return "gone"
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				f.must(f.WriteSettingsAck())
			}
		case *http2.GoAwayFrame:
			return "gone"
		case *http2.RSTStreamFrame:
			if frame.StreamID == stream {
				return "reset"
			}
		case *http2.MetaHeadersFrame:
			if frame.StreamID == stream {
				return frame.PseudoValue("status")
			}
		case *http2.DataFrame:
			f.must(f.WriteWindowUpdate(0, max(1, uint32(len(frame.Data())))))
		}
	}
}

// ends reports whether the server ends the stream within the time.
func (f *frames) ends(stream uint32) bool {
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return false
		}
		switch frame := frame.(type) {
		case *http2.RSTStreamFrame:
			return frame.StreamID == stream
		case *http2.DataFrame:
			if frame.StreamID == stream && frame.StreamEnded() {
				return true
			}
		}
	}
}

func get(host, path string, more ...string) []string {
	return append([]string{":method", "GET", ":scheme", "https", ":authority", host, ":path", path}, more...)
}

func TestHTTP2FramesCarryNoForgery(t *testing.T) {
	s := play(t, usual)
	ada := s.signedIn(t, e2e.Ada)
	session := cookieName + "=" + ada.Cookie(s.site, cookieName)
	for _, c := range []struct {
		what   string
		fields []string
		want   string
	}{
		{"continuation", get("app.test", "/public/", "remote-user", "forged", "remote-user", "forged", "x-webauth-user", "forged"), "200"},
		{"connection header", get("app.test", "/in", "cookie", session, "connection", "remote-user"), "400"},
		{"upgrade header", get("app.test", "/in", "cookie", session, "upgrade", "h2c"), "400"},
		{"name in capitals", get("app.test", "/public/", "Remote-User", "forged"), "reset"},
		{"newline in a value", get("app.test", "/public/", "x", "a\r\nRemote-User: forged"), "reset"},
		{"colon in a name", get("app.test", "/public/", "x:remote-user", "forged"), "reset"},
		{"space in a name", get("app.test", "/public/", "remote-user ", "forged"), "reset"},
		{"unknown pseudo-header", get("app.test", "/public/", ":remote-user", "forged"), "reset"},
		{"protocol without being asked", get("app.test", "/in", ":protocol", "websocket"), "reset"},
		{"second path", get("app.test", "/public/", ":path", "/secret"), "reset"},
		{"host beside authority", get("app.test", "/secret", "host", "other.test"), "reset"},
		{"user in authority", get("ada@app.test", "/secret"), "reset"},
		{"no slash", get("app.test", "secret"), "reset"},
		{"asterisk", get("app.test", "*"), "401"},
		{"absolute path", get("app.test", "https://app.test/secret"), "reset"},
		{"fragment", get("app.test", "/public/#/../../secret"), "401"},
		{"CONNECT", []string{":method", "CONNECT", ":authority", "app.test"}, "405"},
		{"CONNECT to elsewhere, signed in", []string{":method", "CONNECT", ":authority", "app.test:22", "cookie", session}, "405"},
		{"cookie in two fields", get("app.test", "/in", "cookie", "a=1", "cookie", session), "200"},
		{"session twice in two fields", get("app.test", "/in", "cookie", session, "cookie", session), "401"},
		{"another session before", get("app.test", "/in", "cookie", cookieName+"=x", "cookie", session), "401"},
		{"name and value in two fields", get("app.test", "/in", "cookie", cookieName, "cookie", strings.TrimPrefix(session, cookieName)), "401"},
	} {
		s.app.Forget()
		f := dialFrames(t, s.site)
		got := f.hear(f.ask(true, c.fields...))
		if got != c.want && !(c.want == "reset" && (got == "gone" || got == "400")) {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
		for _, r := range s.app.Requests() {
			if strings.Contains(r.Raw, "forged") || strings.Contains(r.Raw, cookieName) || c.want != "200" {
				t.Errorf("%s: the app received\n%s", c.what, r.Raw)
			}
		}
	}

	f := dialFrames(t, s.site)
	stream := f.ask(false, ":method", "POST", ":scheme", "https", ":authority", "app.test", ":path", "/public/", "trailer", "remote-user", "te", "trailers")
	f.must(f.WriteData(stream, false, []byte("hi")))
	f.must(f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: f.encode([]string{"remote-user", "forged", "x-forged", "forged"}), EndStream: true, EndHeaders: true}))
	if got := f.hear(stream); got != "200" {
		t.Errorf("trailers: %s", got)
	}
	s.notForged(t, "trailers")
}

// A smuggled request would show at the app as a request of its own.
//
// The server closes soon what brings nothing more, so that it is known when it
// has done all that it will.
func TestSmuggledRequestsNeverReachTheApp(t *testing.T) {
	s := play(t, "{\n\tservers {\n\t\ttimeouts {\n\t\t\tread_body 10s\n\t\t\tread_header 10s\n\t\t\tidle 300ms\n\t\t}\n\t}\n}\n"+usual)
	cookies := strings.Join(s.signedIn(t, e2e.Ada).Cookies(s.site), "; ")
	const inner = "GET /smuggled HTTP/1.1\r\nHost: app.test\r\nRemote-User: forged\r\n\r\n"
	length := fmt.Sprintf("Content-Length: %d\r\n", len(inner)+5)
	for what, raw := range map[string]string{
		"TE and CL":             "POST /public/ HTTP/1.1\r\nHost: app.test\r\n" + length + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner,
		"CL and TE, signed in":  "POST /in HTTP/1.1\r\nHost: app.test\r\nCookie: " + cookies + "\r\nTransfer-Encoding: chunked\r\n" + length + "\r\n0\r\n\r\n" + inner,
		"two lengths":           "POST /public/ HTTP/1.1\r\nHost: app.test\r\nContent-Length: 0\r\n" + length + "\r\n" + inner,
		"plus length":           "POST /public/ HTTP/1.1\r\nHost: app.test\r\nContent-Length: +0\r\n\r\n" + inner,
		"odd TE":                "POST /public/ HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: xchunked\r\n\r\n" + inner,
		"TE twice":              "POST /public/ HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + inner,
		"space before colon":    "POST /public/ HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + inner,
		"chunk extension":       "POST /public/ HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n0;\n\r\n\r\n" + inner,
		"bare LF":               "GET /public/ HTTP/1.1\r\nHost: app.test\r\nX: a\nRemote-User: forged\r\n\r\n",
		"bare CR":               "GET /public/ HTTP/1.1\r\nHost: app.test\r\nX: a\rRemote-User: forged\r\n\r\n",
		"folded line":           "GET /public/ HTTP/1.1\r\nHost: app.test\r\nX: a\r\n Remote-User: folded\r\nRemote-User:\r\n\tforged\r\n\r\n",
		"NUL in a value":        "GET /public/ HTTP/1.1\r\nHost: app.test\r\nRemote-User: for\x00ged\r\n\r\n",
		"NUL in a name":         "GET /public/ HTTP/1.1\r\nHost: app.test\r\nRemote-User\x00: forged\r\n\r\n",
		"space in a name":       "GET /public/ HTTP/1.1\r\nHost: app.test\r\nRemote-User : forged\r\n\r\n",
		"odd tokens":            "GET /public/ HTTP/1.1\r\nHost: app.test\r\nRemote!User: forged\r\nRemote~User: forged\r\nREMOTE|USER: forged\r\nHTTP_REMOTE_USER: forged\r\n\r\n",
		"behind a refusal":      "POST /secret HTTP/1.1\r\nHost: app.test\r\n" + length + "\r\n" + inner,
		"behind chunks refused": "POST /secret HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner,
		"expectation refused":   "POST /secret HTTP/1.1\r\nHost: app.test\r\nExpect: 100-continue\r\n" + length + "\r\n" + inner,
		"websocket by POST":     "POST /public/ HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + inner,
		"websocket with a body": "POST /public/ HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + length + "\r\n" + strings.Replace(inner, "forged", "a body", 1),
		"websocket that fails":  "GET /public/ws HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 777\r\nSec-WebSocket-Key: x\r\n\r\n" + inner,
		"upgrade to two":        "GET /public/ HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n" + inner,
		"CONNECT":               "CONNECT app.test:443 HTTP/1.1\r\nHost: app.test\r\n\r\n" + inner,
		"CONNECT to a path":     "CONNECT /public/ HTTP/1.1\r\nHost: app.test\r\n\r\n" + inner,
		"HTTP/1.0 keep-alive":   "GET /secret HTTP/1.0\r\nHost: app.test\r\nConnection: keep-alive\r\n\r\n" + inner,
	} {
		s.app.Forget()
		wire := e2e.Dial(t, s.site).Say("%s", raw)
		if err := wire.SetReadDeadline(time.Now().Add(askPatience)); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(wire)
		if late := (net.Error)(nil); errors.As(err, &late) && late.Timeout() || !bytes.HasPrefix(answer, []byte("HTTP/1.")) {
			t.Errorf("%s: %v after %q", what, err, answer)
		}
		s.wantNoneSmuggled(t, what)
	}
	mustBe(t, s.signedIn(t, e2e.Ada).Get(s.site+"/in"), http.StatusOK) // what the app has of the last case came before
	s.wantNoneSmuggled(t, "the last")
}

// wantNoneSmuggled checks what came to the app since it last forgot.
func (s *stage) wantNoneSmuggled(t *testing.T, what string) {
	t.Helper()
	for _, r := range s.app.Requests() {
		head, _, _ := strings.Cut(r.Raw, "\r\n\r\n")
		if r.Target == "/smuggled" || strings.Contains(head, "\r\nRemote-User: folded") || strings.Contains(strings.ToLower(r.Raw), "forged") {
			t.Errorf("%s: the app received\n%s", what, r.Raw)
		}
	}
}

func TestTargetsAndHostsDecideNothingTheyShouldNot(t *testing.T) {
	s := play(t, usual+"\nhttps://other.test:{$PORT} {\n\tlogin {\n\t\toidc op site {env.OP_SECRET} {\n\t\t\tissuer {$ISSUER}\n\t\t}\n\t\tallow users\n\t}\n\treverse_proxy {$APP}\n}\n"+
		"\nhttps://sub.app.test:{$PORT} {\n\tlogin {\n\t\toidc op site {env.OP_SECRET} {\n\t\t\tissuer {$ISSUER}\n\t\t}\n\t\tcookie {\n\t\t\tdomain app.test\n\t\t}\n\t\tallow users\n\t}\n\treverse_proxy {$APP}\n}\n")
	ada := s.signedIn(t, e2e.Ada)
	session := cookieName + "=" + ada.Cookie(s.site, cookieName)
	for what, head := range map[string]string{
		"absolute to a secret":      "GET http://app.test/secret HTTP/1.1\r\nHost: app.test\r\n\r\n",
		"absolute beside a host":    "GET http://app.test/secret HTTP/1.1\r\nHost: other.test\r\n\r\n",
		"absolute with a user":      "GET http://ada@app.test/secret HTTP/1.1\r\nHost: app.test\r\n\r\n",
		"capitals":                  "GET /secret HTTP/1.1\r\nHost: APP.TEST\r\n\r\n",
		"trailing dot":              "GET /secret HTTP/1.1\r\nHost: app.test.\r\n\r\n",
		"a port":                    "GET /secret HTTP/1.1\r\nHost: app.test:1\r\n\r\n",
		"no host":                   "GET /secret HTTP/1.0\r\n\r\n",
		"empty host":                "GET /secret HTTP/1.1\r\nHost:\r\n\r\n",
		"an IPv6 host":              "GET /secret HTTP/1.1\r\nHost: [::1]\r\n\r\n",
		"two hosts":                 "GET /secret HTTP/1.1\r\nHost: app.test\r\nHost: other.test\r\n\r\n",
		"all options":               "OPTIONS * HTTP/1.1\r\nHost: app.test\r\n\r\n",
		"options of a secret":       "OPTIONS /secret HTTP/1.1\r\nHost: app.test\r\n\r\n",
		"its cookie at the other":   "GET /in HTTP/1.1\r\nHost: other.test\r\nCookie: " + session + "\r\n\r\n",
		"its cookie at the domain":  "GET /in HTTP/1.1\r\nHost: sub.app.test\r\nCookie: __Secure-login" + session[len(cookieName):] + "; " + session + "\r\n\r\n",
		"its cookie with a dot":     "GET /in HTTP/1.1\r\nHost: app.test.\r\nCookie: " + session + "\r\n\r\n",
		"other host, forwarded":     "GET /in HTTP/1.1\r\nHost: other.test\r\nX-Forwarded-Host: app.test\r\nForwarded: host=app.test\r\nCookie: " + session + "\r\n\r\n",
		"odd method":                "SECRET /secret HTTP/1.1\r\nHost: app.test\r\n\r\n",
		"override":                  "OPTIONS /secret HTTP/1.1\r\nHost: app.test\r\nX-HTTP-Method-Override: GET\r\nX-Original-URL: /public/\r\nX-Rewrite-URL: /public/\r\nX-Forwarded-Uri: /public/\r\n\r\n",
		"health check":              "GET /secret HTTP/1.1\r\nHost: app.test\r\nUser-Agent: kube-probe/1.30\r\nX-Forwarded-For: 127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\n\r\n",
		"prior knowledge in TLS":    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"session in other headers":  "GET /in HTTP/1.1\r\nHost: app.test\r\nCookie2: " + session + "\r\nX-Cookie: " + session + "\r\nAuthorization: Bearer " + session[len(cookieName)+1:] + "\r\n\r\n",
		"session in the query":      "GET /in?" + session + " HTTP/1.1\r\nHost: app.test\r\n\r\n",
		"session behind a comma":    "GET /in HTTP/1.1\r\nHost: app.test\r\nCookie: a=1," + session + "\r\n\r\n",
		"session in quotes":         "GET /in HTTP/1.1\r\nHost: app.test\r\nCookie: a=\"" + session + "\"\r\n\r\n",
		"session with attributes":   "GET /in HTTP/1.1\r\nHost: app.test\r\nCookie: $Version=1; " + strings.ToLower(session[:6]) + session[6:] + "; $Path=/\r\n\r\n",
		"escaped name":              "GET /in HTTP/1.1\r\nHost: app.test\r\nCookie: __Host%2Dlogin" + session[len(cookieName):] + "\r\n\r\n",
		"session and its twin":      "GET /in HTTP/1.1\r\nHost: app.test\r\nCookie: " + session + "\r\nCookie: a=1; " + session + "\r\n\r\n",
		"session with a tab before": "GET /in HTTP/1.1\r\nHost: app.test\r\nCookie: " + cookieName + "\x0b" + session[len(cookieName):] + "\r\n\r\n",
	} {
		wire := e2e.Dial(t, s.site).Say("%s", head)
		if _, err := wire.Line(); err != nil {
			t.Errorf("%s: no answer: %v", what, err)
		}
		for _, r := range s.app.Requests() {
			t.Errorf("%s: the app received\n%s", what, r.Raw)
		}
		s.app.Forget()
	}
	e2e.Dial(t, s.site).Say("GET /in HTTP/1.1\r\nHost: APP.test\r\nCookie: %s\r\n\r\n", session).Hear("GET")
	if s.app.Last().Value("Remote-Email") != e2e.Ada.Email {
		t.Errorf("the app received\n%s", s.app.Last().Raw)
	}
}

// Each of these leads to our pages or to the gate, never past it: rewritten
// there, it finds no page.
func TestOwnPathsHaveOneSpelling(t *testing.T) {
	s := play(t, strings.Replace(usual, "\treverse_proxy", "\trewrite /to-us/* /.login/logout\n\treverse_proxy", 1))
	for _, path := range []string{
		"/%2elogin/", "/.login%2f", "/.%6cogin/logout", "/.LOGIN/logout", "//.login/", "/./.login/", "/public/../.login/", "/.login/../secret",
		"/.login/..%2fsecret", "/.login/%2e%2e/secret", "/.login/op/../../secret", "/.login;x/", "/.login\\x", "/.loginx", "/.login%00", "/to-us/x", "/.login/op/%2e%2e",
	} {
		got := e2e.Dial(t, s.site).Say("GET %s HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n", path).Hear("GET")
		if got.StatusCode != http.StatusUnauthorized && got.StatusCode != http.StatusNotFound && got.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d", path, got.StatusCode)
		}
		if len(got.Cookies()) > 0 {
			t.Errorf("%s sets %v", path, got.Cookies())
		}
	}
	s.untouched(t)
}

// heardByFastCGI is a FastCGI app that keeps what it was told of a request.
type heardByFastCGI struct {
	addr string
	mu   sync.Mutex
	uris []string
	envs []map[string]string
}

func newFastCGI(t *testing.T) *heardByFastCGI {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	a := &heardByFastCGI{addr: l.Addr().String()}
	go func() {
		_ = fcgi.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			a.mu.Lock()
			defer a.mu.Unlock()
			env := fcgi.ProcessEnv(r)
			for name := range r.Header {
				env["HTTP_"+name] = r.Header.Get(name)
			}
			a.uris, a.envs = append(a.uris, r.URL.RequestURI()), append(a.envs, env)
		})) // ends with its listener
	}()
	return a
}

func (a *heardByFastCGI) take() (uris []string, envs []map[string]string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	uris, envs, a.uris, a.envs = a.uris, a.envs, nil, nil
	return uris, envs
}

// PHP apps route by REQUEST_URI, which is the address before any rewrite.
func TestRewriteBeforeLoginOpensNothing(t *testing.T) {
	app := newFastCGI(t)
	login := func(allow string) string {
		return "\tlogin {\n\t\toidc op site {env.OP_SECRET} {\n\t\t\tissuer {$ISSUER}\n\t\t}\n\t\t" + allow + "\n\t}\n"
	}
	s := playWith(t, "https://app.test:{$PORT} {\n\trewrite * /index.php\n"+login("allow /admin/* group:maths\n\t\tallow anyone")+
		"\treverse_proxy {$FCGI} {\n\t\ttransport fastcgi {\n\t\t\tsplit .php\n\t\t}\n\t}\n}\n"+
		"https://other.test:{$PORT} {\n\turi strip_prefix /public\n"+login("allow /public/* anyone\n\t\tallow users")+"\treverse_proxy {$APP}\n}\n", map[string]string{"FCGI": app.addr})
	grace := s.signedIn(t, e2e.Grace)
	app.take()
	for who, cookies := range map[string]string{"nobody": "", "Grace": "Cookie: " + strings.Join(grace.Cookies(s.site), "; ") + "\r\n"} {
		e2e.Dial(t, s.site).Say("GET /admin/users HTTP/1.1\r\nHost: app.test\r\n%sConnection: close\r\n\r\n", cookies).Hear("GET")
		if uris, _ := app.take(); len(uris) > 0 {
			t.Errorf("%s, not of the group, reached REQUEST_URI %q", who, uris)
		}
	}
	e2e.Dial(t, s.site).Say("GET /public/page HTTP/1.1\r\nHost: app.test\r\nHTTP-Remote-User: forged\r\nRemote-User: forged\r\nConnection: close\r\n\r\n").Hear("GET")
	uris, envs := app.take()
	if len(uris) != 1 || uris[0] != "/public/page" || strings.Contains(fmt.Sprint(envs), "forged") {
		t.Errorf("the public page heard %q %v", uris, envs)
	}
	for _, path := range []string{"/public/secret", "/public/public/../secret", "/public//public/x"} {
		e2e.Dial(t, s.other).Say("GET %s HTTP/1.1\r\nHost: other.test\r\nConnection: close\r\n\r\n", path).Hear("GET")
		s.untouched(t)
	}
}

func TestEveryNestingKeepsTheGateInFront(t *testing.T) {
	login := strings.TrimSpace(usual[strings.Index(usual, "login {"):strings.Index(usual, "\treverse_proxy")])
	sites := map[string]string{
		"named.test":   "invoke guarded",
		"route.test":   "route {\n" + login + "\nrespond /teapot 418\nreverse_proxy {$APP}\n}",
		"handle.test":  "handle {\nroute {\n" + login + "\nreverse_proxy {$APP}\n}\n}",
		"paths.test":   login + "\nhandle_path /public/* {\nreverse_proxy {$APP}\n}\nhandle {\nrewrite * /public{uri}\nreverse_proxy {$APP}\n}",
		"invoke.test":  login + "\ninvoke plain",
		"answers.test": login + "\nreverse_proxy {$APP} {\n@all status 2xx 3xx 4xx 5xx\nhandle_response @all {\nrewrite * /public/again\nreverse_proxy {$APP}\n}\n}",
	}
	config := "&(guarded) {\nroute {\n" + login + "\nreverse_proxy {$APP}\n}\n}\n&(plain) {\nreverse_proxy {$APP}\n}\n"
	for host, lines := range sites {
		config += "https://" + host + ":{$PORT} {\n" + lines + "\n}\n"
	}
	s := play(t, config)
	for host := range sites {
		site := strings.Replace(s.site, "app.test", host, 1)
		for _, head := range []string{
			"GET /secret HTTP/1.1\r\nHost: HOST\r\n", "GET / HTTP/1.1\r\nHost: HOST\r\n", "POST /public/..;/x HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0\r\n",
			"GET /.login/public/ HTTP/1.1\r\nHost: HOST\r\n", "GET http://HOST/secret HTTP/1.1\r\nHost: HOST\r\n",
		} {
			e2e.Dial(t, site).Say("%sConnection: close\r\n\r\n", strings.ReplaceAll(head, "HOST", host)).Hear("GET")
			for _, r := range s.app.Requests() {
				t.Errorf("%s: the app received\n%s", host, r.Raw)
			}
			s.app.Forget()
		}
		e2e.Dial(t, site).Say("GET /public/x HTTP/1.1\r\nHost: %s\r\nRemote-User: forged\r\nX-Webauth-User: forged\r\nCookie: %s=forged\r\nConnection: close\r\n\r\n", host, cookieName).Hear("GET")
		s.notForged(t, host)
	}
}

// What Caddy refuses before it comes to us, such as a method of 33 letters,
// goes to handle_errors.
func TestErrorRoutesForwardNoForgery(t *testing.T) {
	s := play(t, usual)
	forwarding := strings.Replace(usual, "\treverse_proxy", "\ttry_files /nonexistent =404\n\thandle_errors {\n\t\treverse_proxy {$APP}\n\t}\n\treverse_proxy", 1)
	out, err := s.TryReload(forwarding)
	if err == nil || !strings.Contains(out+s.Log(), "handle_errors forwards to") {
		t.Errorf("errors forwarded to the app itself: %v\n%s", err, out)
	}
	// Another server for the error pages may be asked, and is told nothing.
	errors := e2e.NewApp(t)
	s.Reload(strings.Replace(forwarding, "{\n\t\treverse_proxy {$APP}\n", "{\n\t\treverse_proxy "+errors.Addr+"\n", 1))
	for what, head := range map[string]string{
		"long method": strings.Repeat("GETS", 9) + " /secret HTTP/1.1\r\nHost: app.test\r\n", "early error": "GET /secret HTTP/1.1\r\nHost: app.test\r\n",
	} {
		e2e.Dial(t, s.site).Say("%sRemote-User: forged\r\nConnection: close\r\n\r\n", head).Hear("GET")
		for _, r := range append(s.app.Requests(), errors.Requests()...) {
			if strings.Contains(r.Raw, "forged") {
				t.Errorf("%s: the app received\n%s", what, r.Raw)
			}
		}
		if len(errors.Requests()) == 0 {
			t.Errorf("%s: nobody was asked for an error page", what)
		}
		s.app.Forget()
		errors.Forget()
	}
}

// Symfony, Laminas and IIS take the path from these.
func TestPublicPathIsNotAnotherByHeader(t *testing.T) {
	s := play(t, usual)
	for _, name := range []string{"X-Original-URL", "X-Rewrite-URL", "X_ORIGINAL_URL", "x-original-Url"} {
		e2e.Dial(t, s.site).Say("GET /public/ HTTP/1.1\r\nHost: app.test\r\n%s: /secret\r\nConnection: close\r\n\r\n", name).Hear("GET")
		for _, r := range s.app.Requests() {
			if strings.Contains(r.Raw, "/secret") {
				t.Errorf("the app received\n%s", r.Raw)
			}
		}
		s.app.Forget()
	}
}

// A placeholder in a matcher stands for the reading that is tried.
func TestPlaceholdersInMatchersReadThePathAsTheAppMay(t *testing.T) {
	s := play(t, strings.Replace(strings.Replace(usual, "allow /maths/*", "allow @maths", 1), "\treverse_proxy", "\t@maths expression `{path}.startsWith(\"/maths/\")`\n\treverse_proxy", 1))
	grace := s.signedIn(t, e2e.Grace)
	for _, path := range []string{"/maths/", "//maths/", "/./maths/", "/x/../maths/", "/;x/maths/", "/%2fmaths/", "/x/..%5cmaths/", "/maths;x/"} {
		got := e2e.Dial(t, s.site).Say("GET %s HTTP/1.1\r\nHost: app.test\r\nCookie: %s\r\nConnection: close\r\n\r\n", path, grace.Cookies(s.site)[0]).Hear("GET")
		if got.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %d", path, got.StatusCode)
		}
	}
	s.untouched(t)
}

// ways is an app whose answers take long: each path another way. Each counts
// while its request goes on.
type ways struct {
	addr string
	open atomic.Int64
}

// newWays starts:
//
//	/sse    an event, then silence
//	/drip   an answer without a length: a piece, then silence
//	/sized  an answer of 1 GB that comes slowly
//	/upload reads what comes and answers at its end
//	/poll   does not answer
func newWays(t *testing.T) *ways {
	t.Helper()
	a := &ways{}
	mux := http.NewServeMux()
	stay := func(kind string, begin func(http.ResponseWriter, *http.Request)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			a.open.Add(1)
			defer a.open.Add(-1)
			if kind != "" {
				w.Header().Set("Content-Type", kind)
			}
			begin(w, r)
			<-r.Context().Done()
		}
	}
	piece := func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "data: a piece\n\n") // the test looks at the other end
		_ = http.NewResponseController(w).Flush()
	}
	mux.Handle("/sse", stay("text/event-stream", piece))
	mux.Handle("/drip", stay("application/octet-stream", piece))
	mux.Handle("/poll", stay("", func(http.ResponseWriter, *http.Request) {}))
	mux.Handle("/sized", stay("application/octet-stream", slowly))
	mux.HandleFunc("/upload", func(_ http.ResponseWriter, r *http.Request) {
		a.open.Add(1)
		defer a.open.Add(-1)
		_, _ = io.Copy(io.Discard, r.Body) // until it ends, however
	})
	server := httptest.NewServer(mux)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	a.addr = server.Listener.Addr().String()
	return a
}

func slowly(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Length", "1000000000")
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := w.Write(make([]byte, 8192)); err != nil {
			return
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}

// inch is an upload that never ends.
type inch struct{ tick *time.Ticker }

func (i inch) Read(p []byte) (int, error) {
	<-i.tick.C
	return copy(p, "an inch"), nil
}

// http3Visitor speaks HTTP/3 to any site of the stage.
func http3Visitor(t *testing.T) http.RoundTripper {
	t.Helper()
	transport := &http3.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "app.test"},
		// Its own 5 s are fewer than a machine may stall.
		QUICConfig: &quic.Config{HandshakeIdleTimeout: askPatience, MaxIdleTimeout: askPatience},
	}
	t.Cleanup(func() { transport.Close() })
	return transport
}

func TestEveryStreamEndsWithTheSession(t *testing.T) {
	app := newWays(t)
	s := playWith(t, strings.Replace(strings.Replace(usual, "{$APP}", "{$WAYS}", 1), "\t\tflush_interval -1\n", "", 1), map[string]string{"WAYS": app.addr})
	over := map[string]http.RoundTripper{"HTTP/1": e2e.NewVisitor(t).Transport, "HTTP/2": e2e.NewHTTP2Visitor(t).Transport, "HTTP/3": http3Visitor(t)}
	for protocol, transport := range over {
		for _, path := range []string{"/sse", "/drip", "/upload"} {
			t.Run(protocol+path, func(t *testing.T) { s.streamEnds(t, app, protocol, transport, path) })
		}
	}
}

// streamEnds opens a stream with none of the headers that a browser's
// EventSource would send, signs out, and looks at both ends.
func (s *stage) streamEnds(t *testing.T, app *ways, protocol string, transport http.RoundTripper, path string) {
	ada := e2e.NewVisitor(t)
	ada.SignIn(s.site+"/.login/op?return=%2F.login%2F", e2e.Ada)
	r, tick := ada.Request(http.MethodGet, s.site+path, ""), time.NewTicker(20*time.Millisecond)
	ctx, leave := context.WithCancel(t.Context())
	defer func() {
		leave()
		e2e.Eventually(t, e2e.Patience, "the stream to end with its visitor", func() bool { return app.open.Load() == 0 })
		tick.Stop()
	}()
	r = r.WithContext(ctx)
	if path == "/upload" {
		r.Method, r.Body, r.ContentLength = http.MethodPost, io.NopCloser(inch{tick}), -1
	}
	r.Header.Set("Cookie", cookieName+"="+ada.Cookie(s.site, cookieName))
	if protocol == "HTTP/3" { // whose transport would look up the name
		r.URL.Host, r.Host = fmt.Sprintf("127.0.0.1:%d", s.Port), r.URL.Host
	}
	ended := make(chan string, 1)
	go func() { ended <- spoken(transport, r) }()
	e2e.Eventually(t, e2e.Patience, "the stream to open", func() bool { return app.open.Load() == 1 })
	ada.Submit(ada.Get(s.site + "/.login/logout"))
	select {
	case spoke := <-ended:
		if spoke != "" && !strings.HasPrefix(spoke, protocol) {
			t.Errorf("spoke %s", spoke)
		}
	case <-time.After(streamsEnd):
		t.Fatal("the stream is open at the visitor")
	}
	e2e.Eventually(t, streamsEnd, "the stream to end at the app", func() bool { return app.open.Load() == 0 })
}

// spoken reads an answer to its end and says in which protocol it came; none
// where there was no answer.
func spoken(transport http.RoundTripper, r *http.Request) string {
	res, err := transport.RoundTrip(r)
	if err != nil {
		return ""
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.Proto
}

// RFC 8441: with GODEBUG=http2xconnect=1 browsers open WebSockets so.
func TestWebSocketOverHTTP2IsGuardedAndEnds(t *testing.T) {
	s := playWith(t, usual, map[string]string{"GODEBUG": "http2xconnect=1"})
	ada := s.signedIn(t, e2e.Ada)
	session := cookieName + "=" + ada.Cookie(s.site, cookieName)
	connect := func(protocol, path string, more ...string) []string {
		return append([]string{":method", "CONNECT", ":protocol", protocol, ":scheme", "https", ":authority", strings.TrimPrefix(s.site, "https://"), ":path", path, "sec-websocket-version", "13"}, more...)
	}
	for _, c := range []struct {
		what   string
		fields []string
		want   string
	}{
		{"nobody", connect("websocket", "/ws", "origin", s.site), "401"},
		{"foreign origin", connect("websocket", "/ws", "origin", s.other, "cookie", session), "403"},
		{"two origins", connect("websocket", "/ws", "origin", s.site, "origin", s.site, "cookie", session), "403"},
		{"ambiguous public path", connect("websocket", "/public/..;/ws"), "401"},
		{"another protocol", connect("connect-udp", "/public/", "cookie", session), "405"},
		{"capitals", connect("WebSocket", "/public/", "cookie", session), "405"},
		{"another protocol, our page", connect("connect-udp", "/.login/", "cookie", session), "405"},
	} {
		f := dialFrames(t, s.site)
		if got := f.hear(f.ask(false, c.fields...)); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
	s.untouched(t)

	f := dialFrames(t, s.site)
	stream := f.ask(false, connect("websocket", "/ws", "origin", s.site, "cookie", session, "remote-user", "forged")...)
	if got := f.hear(stream); got != "200" {
		t.Fatalf("Ada: %s", got)
	}
	if r := s.app.Last(); r.Value("Remote-Email") != e2e.Ada.Email || strings.Contains(r.Raw, "forged") || strings.Contains(r.Raw, cookieName) {
		t.Errorf("the app received\n%s", r.Raw)
	}
	s.signOut(t, ada)
	e2e.Eventually(t, streamsEnd, "the WebSocket to end at the app", func() bool { return s.app.Open() == 0 })
	if !f.ends(stream) {
		t.Error("the WebSocket is open at the visitor")
	}
}

func TestExpiredSessionsEndAndTakeTheirStreamsAlong(t *testing.T) {
	t.Parallel() // it waits a minute, for nothing of ours turns this clock
	app := newWays(t)
	s := playWith(t, strings.Replace(with("session 1m idle 1m"), "{$APP}", "{$WAYS}", 1), map[string]string{"WAYS": app.addr})
	ada := e2e.NewVisitor(t)
	ada.SignIn(s.site+"/.login/op?return=%2F.login%2F", e2e.Ada)
	began := time.Now()
	r := ada.Request(http.MethodGet, s.site+"/sse", "")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if res, err := ada.Stream(r); err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
		}
	}()
	e2e.Eventually(t, e2e.Patience, "the stream to open", func() bool { return app.open.Load() == 1 })
	thief := replay(ada, s.site, ada.Cookie(s.site, cookieName))
	select {
	case <-ended:
	case <-time.After(90 * time.Second):
		t.Fatal("the stream is open 30 s after its session")
	}
	if lived := time.Since(began); lived < 50*time.Second {
		t.Errorf("the stream ended after %s", lived)
	}
	e2e.Eventually(t, streamsEnd, "the stream to end at the app", func() bool { return app.open.Load() == 0 })
	mustBe(t, thief.Do(thief.Request(http.MethodGet, s.site+"/sse", "")), http.StatusUnauthorized)
}

// speaker answers with bytes that it was given, to whatever comes.
func speaker(t *testing.T, answer string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = io.WriteString(conn, answer)
			}
			conn.Close()
		}
	}()
	return l.Addr().String()
}

func TestNoPartOfAnAnswerSetsOurCookies(t *testing.T) {
	const ours = cookieName + "=planted; Path=/; Secure\r\n"
	addr := speaker(t, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nSet-Cookie: "+ours+"\r\n"+
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Set-Cookie\r\nset-cookie: "+ours+"SET-COOKIE: \t"+ours+"Set-Cookie: "+cookieName+"-x=planted\r\nSet-Cookie: theirs=1\r\n\r\n"+
		"2\r\nhi\r\n0\r\nSet-Cookie: "+ours+"X-Trailer: theirs\r\n\r\n")
	s := playWith(t, strings.Replace(usual, "{$APP}", "{$SPEAKER}", 1), map[string]string{"SPEAKER": addr})
	wire := e2e.Dial(t, s.site).Say("GET /public/ HTTP/1.1\r\nHost: app.test\r\nTE: trailers\r\nConnection: close\r\n\r\n")
	heard, _ := io.ReadAll(wire) // TLS may end without saying so
	for _, want := range []string{" 103 ", " 200 ", "theirs=1"} {
		if !strings.Contains(string(heard), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(string(heard), "planted") {
		t.Errorf("the visitor received\n%s", heard)
	}
}

func TestPriorKnowledgeAndPlaceholdersTellTheTruth(t *testing.T) {
	s := play(t, "{\n\tservers {\n\t\tprotocols h1 h2 h2c\n\t}\n}\n"+strings.Replace(strings.Replace(usual, "https://app.test:{$PORT}", "http://app.localhost:{$PORT2}", 1),
		"flush_interval -1", "header_up X-Who [{http.auth.user.email}|{http.auth.user.id}]\n\t\theader_up X-Groups {http.auth.user.groups}", 1))
	f := dialFrames(t, s.plain)
	if got := f.hear(f.ask(true, get("app.localhost", "/secret")...)); got != "401" {
		t.Errorf("nobody: %s", got)
	}
	s.untouched(t)
	if got := f.hear(f.ask(true, get("app.localhost", "/public/", "remote-user", "forged", "x-groups", "forged", "x-who", "forged")...)); got != "200" {
		t.Errorf("in public: %s", got)
	}
	if r := s.app.Last(); r.Value("X-Who") != "[|]" || strings.Contains(r.Raw, "forged") || strings.Contains(r.Raw, "{") {
		t.Errorf("the app received\n%s", r.Raw)
	}
	zoe := e2e.NewVisitor(t)
	mustBe(t, zoe.SignIn(s.plain+"/.login/op?return=%2Fpublic%2F", e2e.Zoe), http.StatusOK)
	s.app.Forget()
	if got := f.hear(f.ask(true, get("app.localhost", "/public/", "cookie", zoe.Cookies(s.plain)[0], "x-groups", "forged")...)); got != "200" {
		t.Errorf("Zoe: %s", got)
	}
	if r := s.app.Last(); !strings.HasPrefix(r.Value("X-Who"), "[zoe@example.org|") || strings.Contains(r.Raw, "forged") {
		t.Errorf("the app received\n%s", r.Raw)
	}
}

// spelling makes a path of what filters have fallen for.
func spelling(chance *rand.Rand) string {
	pieces := []string{
		"public", "public", "maths", "maths", "secret", "PUBLIC", "Maths", "%70ublic", "%6daths", "%4Daths", "pub%6cic", "..", "..", ".", "...", "%2e%2e", "%2E.", ".%2e", "%252e%252e",
		"..;", "..;x=y", ";", ";x=/..", "%3b", "%3B..", "/", "%2f", "%2F", "%252f", "%5c", "\\", "%255c", "%00", "%0a", "%09", "%20", ".%20", "::$DATA", "%c0%ae%c0%ae", "%c0%af", "%ef%bc%8f",
		"%ef%bc%8e%ef%bc%8e", "%u002f", "%23", "%3f", "?", "#", "~", "*", "x", "a.b", "%e2%80%8b", "%c2%a0",
	}
	path := []string{"/public/", "/public/", "/maths/", "/", "//", "/x/"}[chance.IntN(6)]
	for range 1 + chance.IntN(5) {
		path += pieces[chance.IntN(len(pieces))]
		if chance.IntN(3) > 0 {
			path += "/"
		}
	}
	return path
}

// plausible are the paths that an app could take a target for.
func plausible(target string) []string {
	target, _, _ = strings.Cut(target, "?")
	all := []string{target}
	add := func(p string) {
		if !slices.Contains(all, p) && len(all) < 3000 {
			all = append(all, p)
		}
	}
	fold := strings.NewReplacer(`\`, "/", "\xc0\xae", ".", "\xc0\xaf", "/", "\uff0f", "/", "\uff0e", ".", "\u00a0", " ", "%u002f", "/")
	for i := 0; i < len(all); i++ {
		p := all[i]
		if decoded, err := url.PathUnescape(p); err == nil {
			add(decoded)
		}
		add(strings.ToLower(p))
		add(fold.Replace(p))
		for _, stop := range []string{"\x00", "#", "?", ";"} {
			before, _, _ := strings.Cut(p, stop)
			add(before)
		}
		add(parameter.ReplaceAllString(p, ""))
		add(ending.ReplaceAllString(p, "$1"))
		add(strings.Map(func(c rune) rune {
			if c < ' ' {
				return -1
			}
			return c
		}, p))
		if cleaned := pathpkg.Clean("/" + p); strings.HasSuffix(p, "/") && cleaned != "/" {
			add(cleaned + "/")
		} else {
			add(cleaned)
		}
	}
	return all
}

var (
	parameter = regexp.MustCompile(`;[^/]*`)
	ending    = regexp.MustCompile(`([^/. ])(?:[. ]+|::\$DATA)(?:$|/)`)
)

// Whatever the app receives is, however it reads it, what its sender may see.
func TestNoSpellingReachesWhatItsRuleForbids(t *testing.T) {
	s := play(t, "{\n\tservers {\n\t\tprotocols h1 h2 h2c\n\t}\n}\n"+strings.Replace(usual, "https://app.test:{$PORT}", "http://app.localhost:{$PORT2}", 1))
	grace := e2e.NewVisitor(t)
	mustBe(t, grace.SignIn(s.plain+"/.login/op?return=%2Fpublic%2F", e2e.Grace), http.StatusOK)
	s.app.Forget()
	seed, _ := strconv.ParseUint(os.Getenv("E2E_SEED"), 10, 64) // unset: the same paths each time
	chance := rand.New(rand.NewPCG(seed, 1))
	f := dialFrames(t, s.plain)
	passed := map[bool]int{}
	for range 4000 {
		path, known := spelling(chance), chance.IntN(2) == 0
		fields := get("app.localhost", path)
		if known {
			fields = append(fields, "cookie", grace.Cookies(s.plain)[0])
		}
		if chance.IntN(8) == 0 {
			s.overHTTP1(t, path, fields[8:])
		} else if f.hear(f.ask(true, fields...)) == "gone" {
			f = dialFrames(t, s.plain)
		}
		for _, r := range s.app.Requests() {
			passed[known]++
			for _, read := range plausible(r.Target) {
				low := strings.ToLower(read)
				if known && strings.HasPrefix(low, "/maths/") || !known && !strings.HasPrefix(low, "/public/") && low != "/public" {
					t.Errorf("seed %d: %q (signed in: %v) reached the app as %q, which may be %q", seed, path, known, r.Target, read)
					break
				}
			}
		}
		s.app.Forget()
	}
	if passed[true] < 100 || passed[false] < 20 {
		t.Errorf("only %v reached the app", passed)
	}
	t.Logf("%v reached the app", passed)
}

func (s *stage) overHTTP1(t *testing.T, path string, fields []string) {
	head := ""
	for i := 0; i+1 < len(fields); i += 2 {
		head += fields[i] + ": " + fields[i+1] + "\r\n"
	}
	e2e.Dial(t, s.plain).Say("GET %s HTTP/1.1\r\nHost: app.localhost\r\n%sConnection: close\r\n\r\n", path, head).Hear("GET")
}
