package main_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/caddy-login/caddy-login/module/logintest/e2e"
)

// streamsEnd is how soon after its session a stream is over: within 30 s, we
// promise.
const streamsEnd = 31 * time.Second

// dial opens a WebSocket to the site's /ws with this origin and cookies.
func (s *stage) dial(t *testing.T, origin string, cookies []string) (*websocket.Conn, *http.Response) {
	t.Helper()
	dialer := websocket.Dialer{
		HandshakeTimeout: e2e.Patience,
		TLSClientConfig:  &tls.Config{InsecureSkipVerify: true},
		NetDial: func(network, addr string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return net.Dial(network, net.JoinHostPort("127.0.0.1", port))
		},
	}
	head := http.Header{"Cookie": {strings.Join(cookies, "; ")}}
	if origin != "" {
		head.Set("Origin", origin)
	}
	conn, res, err := dialer.Dial("wss"+strings.TrimPrefix(s.site, "https")+"/ws", head)
	if err != nil && !errors.Is(err, websocket.ErrBadHandshake) {
		t.Fatalf("dialing: %v", err)
	}
	if conn != nil {
		t.Cleanup(func() { conn.Close() })
	}
	return conn, res
}

func echoes(t *testing.T, conn *websocket.Conn) {
	t.Helper()
	if err := conn.WriteMessage(websocket.TextMessage, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, message, err := conn.ReadMessage(); err != nil || string(message) != "hello" {
		t.Fatalf("heard %q, %v", message, err)
	}
}

func TestWebSocketIsForTheSignedInFromHere(t *testing.T) {
	s := play(t, usual)
	cookies := s.signedIn(t, e2e.Ada).Cookies(s.site)
	conn, _ := s.dial(t, s.site, cookies)
	if conn == nil {
		t.Fatal("Ada gets no WebSocket")
	}
	echoes(t, conn)
	if s.app.Last().Value("Remote-Email") != e2e.Ada.Email {
		t.Errorf("the app received\n%s", s.app.Last().Raw)
	}
	s.app.Forget()
	for _, origin := range []string{"https://evil.test", "https://sibling.app.test", s.other, "null", "http" + strings.TrimPrefix(s.site, "https"), s.site + ".evil.test"} {
		if _, res := s.dial(t, origin, cookies); res.StatusCode != http.StatusForbidden {
			t.Errorf("from %s: %d", origin, res.StatusCode)
		}
	}
	if _, res := s.dial(t, s.site, nil); res.StatusCode != http.StatusUnauthorized || res.Header.Get("Set-Cookie") != "" {
		t.Errorf("nobody: %d %v", res.StatusCode, res.Header)
	}
	s.untouched(t)
}

func TestOnlyWebSocketsUpgrade(t *testing.T) {
	s := play(t, usual)
	cookies := strings.Join(s.signedIn(t, e2e.Ada).Cookies(s.site), "; ")
	e2e.Dial(t, s.site).Say("GET /in HTTP/1.1\r\nHost: app.test\r\nCookie: %s\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n", cookies).Hear("GET")
	for _, request := range s.app.Requests() {
		if request.Values("Upgrade") != nil || request.Values("HTTP2-Settings") != nil {
			t.Errorf("the app received\n%s", request.Raw)
		}
	}
}

func TestWebSocketWorksInABrowser(t *testing.T) {
	s := play(t, usual)
	browser := e2e.NewBrowser(t).Get(s.site + "/in").SignIn(e2e.Ada).See("The app")
	got := browser.Eval(`new Promise((done, failed) => {
		const ws = new WebSocket(location.origin.replace("https", "wss") + "/ws");
		ws.onopen = () => ws.send("over the wire");
		ws.onmessage = e => done(e.data);
		ws.onerror = failed;
	})`)
	if got != `"over the wire"` {
		t.Errorf("heard %s", got)
	}
	if got := browser.Eval(`new Promise((done, failed) => {
		const source = new EventSource("/events");
		source.onmessage = e => { source.close(); done(e.data) };
		source.onerror = failed;
	})`); !strings.Contains(got, "event") {
		t.Errorf("heard %s", got)
	}
}

// listen opens the event stream and returns a reader of its lines.
func (s *stage) listen(t *testing.T, visitor *e2e.Visitor) *bufio.Reader {
	t.Helper()
	r := visitor.Request(http.MethodGet, s.site+"/events", "")
	r.Header.Set("Accept", "text/event-stream")
	res, err := visitor.Stream(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	if res.StatusCode != http.StatusOK {
		t.Fatalf("the stream is a %d", res.StatusCode)
	}
	return bufio.NewReader(res.Body)
}

func TestEventsArriveAsTheyHappen(t *testing.T) {
	s := play(t, usual)
	events := s.listen(t, s.signedIn(t, e2e.Ada))
	begun := time.Now()
	for range 3 {
		if line, err := events.ReadString('\n'); err != nil || !strings.HasPrefix(line, "data: event") {
			t.Fatalf("heard %q, %v", line, err)
		}
		if _, err := events.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("three events took %s", took)
	}
}

func TestStreamsEndWithTheSession(t *testing.T) {
	s := play(t, usual)
	for name, newVisitor := range map[string]func(testing.TB) *e2e.Visitor{"HTTP/1.1": e2e.NewVisitor, "HTTP/2": e2e.NewHTTP2Visitor} {
		ada, grace := s.signedIn(t, e2e.Ada), s.signedIn(t, e2e.Grace)
		reader := newVisitor(t)
		reader.Jar = ada.Jar
		events := s.listen(t, reader)
		conn, _ := s.dial(t, s.site, ada.Cookies(s.site))
		echoes(t, conn)
		bystander, _ := s.dial(t, s.site, grace.Cookies(s.site))
		// The app counts a WebSocket a moment after it has shaken hands.
		e2e.Eventually(t, e2e.Patience, "three streams to be open", func() bool { return s.app.Open() == 3 })

		s.signOut(t, ada)
		begun := time.Now()
		e2e.Eventually(t, streamsEnd, "both streams of "+name+" to end at the app", func() bool { return s.app.Open() == 1 })
		t.Logf("%s: streams ended after %s", name, time.Since(begun))
		if err := conn.SetReadDeadline(time.Now().Add(streamsEnd)); err != nil {
			t.Fatal(err)
		}
		var late net.Error
		if _, _, err := conn.ReadMessage(); err == nil || errors.As(err, &late) && late.Timeout() {
			t.Errorf("the WebSocket is open at the visitor: %v", err)
		}
		if _, err := io.Copy(io.Discard, events); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("the event stream is open at the visitor: %v", err)
		}
		echoes(t, bystander)
		bystander.Close()
		e2e.Eventually(t, e2e.Patience, "the bystander to leave", func() bool { return s.app.Open() == 0 })
	}
}
